/* file.h - whole files. */
#ifndef TALLY_FILE_H
#define TALLY_FILE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "messages.h"
#include "text.h"

static inline int is_file(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

/* Something that can be read twice and must not be lost: no device, no pipe. */
static inline int is_regular(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode);
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
