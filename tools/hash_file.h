/* hash_file.h - the SHA-256 of what a file holds. */
#ifndef TALLY_HASH_FILE_H
#define TALLY_HASH_FILE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "messages.h"
#include "sha256.h"

/* Returns 0, with errno set, if the file cannot be read. */
static inline int try_hash_file(const char *path, char out[SHA256_TEXT]) {
  char block[65536];
  sha256 hash = sha256_begin();
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) sha256_add(&hash, block, got);
  int whole = !ferror(file), why = errno;
  fclose(file);
  errno = why;
  if (whole) sha256_end(&hash, out);
  return whole;
}

/* Fails if the file cannot be read. */
static inline void hash_file(const char *path, char out[SHA256_TEXT]) {
  if (!try_hash_file(path, out)) fail("cannot read %s: %s", path, strerror(errno));
}

#endif
