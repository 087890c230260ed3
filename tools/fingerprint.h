/* fingerprint.h - 128 bits that stand for any number of bytes: what has the same ones is the same. */
#ifndef TALLY_FINGERPRINT_H
#define TALLY_FINGERPRINT_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "messages.h"
#include "picture.h"
#include "work.h"

/* Two independent hashes of 64 bits. Zero-initialise. */
typedef struct fingerprint {
  uint64_t words[2];
} fingerprint;

/* Takes eight bytes, the first the lowest on any machine. */
static inline void fingerprint_word(fingerprint *of, uint64_t word) {
  of->words[0] = (of->words[0] ^ word) * 0x9E3779B97F4A7C15u;
  of->words[0] ^= of->words[0] >> 32;
  of->words[1] = (of->words[1] + word) * 0xD6E8FEB86659FD93u;
  of->words[1] ^= of->words[1] >> 29;
}

/* Takes bytes; zeros fill up the last eight. */
static inline void fingerprint_bytes(fingerprint *of, const void *bytes, size_t count) {
  const uint8_t *at = bytes;
  for (; count >= 8; count -= 8, at += 8)
    fingerprint_word(of, (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 |
                             (uint64_t)at[3] << 24 | (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 |
                             (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56);
  uint64_t last = 0;
  for (size_t i = 0; i < count; i++) last |= (uint64_t)at[i] << 8 * i;
  if (count) fingerprint_word(of, last);
}

/* Takes a text, so that "ab", "c" is not "a", "bc". */
static inline void fingerprint_text(fingerprint *of, const char *text) {
  fingerprint_word(of, strlen(text));
  fingerprint_bytes(of, text, strlen(text));
}

/* Of a picture's size and all its pixels. */
static inline fingerprint fingerprint_picture(const picture *from) {
  const uint64_t height = (uint64_t)from->height, width = (uint64_t)from->width;
  fingerprint of = {{mix_seed(height, width), mix_seed(width, height + 1)}};
  fingerprint_bytes(&of, from->pixels,
                    (size_t)from->height * (size_t)from->width * (size_t)from->channels);
  return of;
}

/* Of all that a file holds. */
static inline fingerprint fingerprint_file(const char *path) {
  fingerprint of = {{0, 0}};
  uint8_t block[65536]; /* a multiple of eight */
  uint64_t size = 0;
  size_t got;
  FILE *file = fopen(path, "rb");
  if (!file) fail("cannot open %s: %s", path, strerror(errno));
  while ((got = fread(block, 1, sizeof block, file)) > 0) {
    fingerprint_bytes(&of, block, got);
    size += got;
  }
  if (ferror(file)) fail("cannot read %s: %s", path, strerror(errno));
  fclose(file);
  fingerprint_word(&of, size);
  return of;
}

/* An order of fingerprints; 0 if they are the same. */
static inline int fingerprint_compare(const fingerprint *a, const fingerprint *b) {
  for (int i = 0; i < 2; i++)
    if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
  return 0;
}

#endif
