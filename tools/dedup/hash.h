/* hash.h - 64 bits of a small grey picture that copies of it share but for a few. */
#ifndef TALLY_DEDUP_HASH_H
#define TALLY_DEDUP_HASH_H

#include <stdint.h>

#define HASH_HEIGHT 8
#define HASH_WIDTH 9
#define HASH_STEP                                                                                  \
  1 /* levels that a neighbour must be lighter by: flat areas give the same bits always */

/* Difference hash (Krawetz 2013) with a dead zone: is a cell lighter than its left neighbour? */
static inline uint64_t difference_hash(const uint8_t cells[HASH_HEIGHT * HASH_WIDTH]) {
  uint64_t hash = 0;
  for (int y = 0; y < HASH_HEIGHT; y++)
    for (int x = 0; x < HASH_WIDTH - 1; x++) {
      const uint8_t *cell = cells + y * HASH_WIDTH + x;
      hash = hash << 1 | (cell[1] > cell[0] + HASH_STEP);
    }
  return hash;
}

/* How many bits two hashes differ in. */
static inline int hash_distance(uint64_t a, uint64_t b) {
  uint64_t value = a ^ b;
  value -= value >> 1 & 0x5555555555555555u;
  value = (value & 0x3333333333333333u) + (value >> 2 & 0x3333333333333333u);
  value = (value + (value >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return (int)(value * 0x0101010101010101u >> 56);
}

#endif
