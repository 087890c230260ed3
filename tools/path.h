/* path.h - paths as texts. */
#ifndef TALLY_PATH_H
#define TALLY_PATH_H

#include <string.h>

#include "text.h"

static inline char *join_path(const char *folder, const char *name) {
  text_buffer path = {0};
  size_t length = strlen(folder);
  text_add(&path, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
  return path.data;
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

#endif
