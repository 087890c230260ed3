/* idx.h - the files that MNIST comes in. */
#ifndef TALLY_IDX_H
#define TALLY_IDX_H

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../convnet.h"
#include "input.h"
#include "path.h"
#include "file.h"

/* One IDX file (LeCun): 0, 0, type, rank, then rank sizes of 4 bytes, big-endian, then values. */
typedef struct idx {
  char *path;
  uint8_t *values;
  uint32_t sizes[3];
} idx;

static inline uint32_t big_endian(const uint8_t bytes[4]) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The file goes by two names, depending on who unpacked it. */
static inline char *idx_find(const char *folder, const char *part, const char *what, int rank) {
  char name[64];
  for (int dot = 0; dot < 2; dot++) {
    snprintf(name, sizeof name, "%s-%s%cidx%d-ubyte", part, what, dot ? '.' : '-', rank);
    char *path = join_path(folder, name);
    if (is_file(path)) return path;
    free(path);
  }
  fail("%s: there is no file %s-%s-idx%d-ubyte (nor %s)", folder, part, what, rank, name);
}

static inline void idx_check_magic(const char *path, const uint8_t *header, const char *what,
                                   int rank) {
  uint32_t magic = big_endian(header), expected = 0x800u | (uint32_t)rank;
  if (magic == expected) return;
  if (header[0] == 0x1f && header[1] == 0x8b)
    fail("%s: it is compressed; unpack it with gunzip", path);
  fail("%s: byte 0: the magic number is 0x%08x, that of %s is 0x%08x", path, (unsigned)magic, what,
       (unsigned)expected);
}

/* The sizes in a header are believed only as far as the file is long, so a damaged one can neither
   overflow nor ask for memory that the file does not fill. */
static inline idx idx_read(const char *folder, const char *part, const char *what, int rank) {
  idx out = {0};
  uint8_t header[16];
  size_t header_size = 4 + 4 * (size_t)rank;
  struct stat status;
  out.path = idx_find(folder, part, what, rank);
  input_note(out.path);
  FILE *file = fopen(out.path, "rb");
  if (!file || fstat(fileno(file), &status)) fail("cannot open %s: %s", out.path, strerror(errno));
  size_t got = fread(header, 1, header_size, file);
  if (got < header_size) fail("%s: cut in its header, at byte %zu", out.path, got);
  idx_check_magic(out.path, header, what, rank);
  uint64_t size = 1, room = (uint64_t)status.st_size - header_size;
  for (int i = 0; i < rank; i++) {
    out.sizes[i] = big_endian(header + 4 + 4 * i);
    if (out.sizes[i] == 0 || out.sizes[i] > (i ? CN_MAX_DIMENSION : INT_MAX))
      fail("%s: byte %d: the size %u is out of range", out.path, 4 + 4 * i, (unsigned)out.sizes[i]);
    if (out.sizes[i] > room / size)
      fail("%s: cut: its header promises more values than the %llu bytes behind it", out.path,
           (unsigned long long)room);
    size *= out.sizes[i];
  }
  if (size != room)
    fail("%s: %llu bytes follow the values its header promises", out.path,
         (unsigned long long)(room - size));
  out.values = allocate((size_t)size, 1);
  if (fread(out.values, 1, (size_t)size, file) != size)
    fail("cannot read %s: %s", out.path, ferror(file) ? strerror(errno) : "it shrank");
  fclose(file);
  return out;
}

#endif
