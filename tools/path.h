/* path.h - paths, folders and whole files. */
#ifndef TALLY_PATH_H
#define TALLY_PATH_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memory.h"
#include "messages.h"
#include "text.h"

static inline char *join_path(const char *folder, const char *name) {
  text_buffer path = {0};
  size_t length = strlen(folder);
  text_add(&path, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
  return path.data;
}

static inline int is_folder(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static inline int is_file(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

/* Something that can be read twice and must not be lost: no device, no pipe. */
static inline int is_regular(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* The folder a file lies in: "." for a bare name. */
static inline char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return copy_text(".");
  if (slash == path) return copy_text("/");
  char *folder = copy_text(path);
  folder[slash - path] = 0;
  return folder;
}

static inline const char *file_name_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash && slash[1] ? slash + 1 : path;
}

/* What stands behind the last dot of a file's name, in small letters and at most 15 of them; "" if
   there is none. */
static inline const char *ending_of(const char *path, char out[16]) {
  const char *name = file_name_of(path), *dot = strrchr(name, '.');
  int length = 0;
  for (; dot && dot != name && dot[1 + length] && length < 15; length++) {
    char letter = dot[1 + length];
    out[length] = (char)(letter >= 'A' && letter <= 'Z' ? letter + 32 : letter);
  }
  out[length] = 0;
  return out;
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

/* A whole file with a 0 behind it. */
static inline char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) fail("cannot open %s: %s", path, strerror(errno));
  text_buffer contents = {0};
  char block[65536];
  size_t got;
  text_append(&contents, "", 0);
  while ((got = fread(block, 1, sizeof block, file)) > 0) text_append(&contents, block, got);
  if (ferror(file)) fail("cannot read %s: %s", path, strerror(errno));
  fclose(file);
  *size = contents.length;
  return contents.data;
}

#endif
