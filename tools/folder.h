/* folder.h - folders. */
#ifndef TALLY_FOLDER_H
#define TALLY_FOLDER_H

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memory.h"
#include "messages.h"
#include "text.h"

static inline int is_folder(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static inline void make_folder(const char *path) {
  if (mkdir(path, 0777) && errno != EEXIST) fail("cannot make %s: %s", path, strerror(errno));
  if (!is_folder(path)) fail("%s is not a folder", path);
}

/* Names in a folder, sorted, but for the folder itself and the one it lies in. */
static inline char **list_folder(const char *folder, int *count) {
  DIR *stream = opendir(folder);
  if (!stream) fail("cannot open %s: %s", folder, strerror(errno));
  char **names = NULL;
  *count = 0;
  for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    names = reallocate(names, (size_t)*count + 1, sizeof(char *));
    names[(*count)++] = copy_text(entry->d_name);
  }
  closedir(stream);
  if (*count) qsort(names, (size_t)*count, sizeof(char *), compare_names);
  return names;
}

#endif
