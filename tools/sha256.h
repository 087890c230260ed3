/* sha256.h - the hash SHA-256, FIPS 180-4 (National Institute of Standards and Technology, 2015,
   https://doi.org/10.6028/NIST.FIPS.180-4): what sha256sum prints.

       sha256 hash = sha256_begin();
       sha256_add(&hash, "abc", 3);
       char text[SHA256_TEXT];
       sha256_end(&hash, text);          ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

   Usable alone: nothing but libc. Names of variables are the standard's. */
#ifndef TALLY_SHA256_H
#define TALLY_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHA256_TEXT 65 /* bytes of a hash as 64 hexadecimal digits, with the 0 behind them */
#define SHA256_BLOCK 64

typedef struct sha256 {
  uint32_t state[8];
  uint64_t size; /* bytes taken */
  uint8_t block[SHA256_BLOCK];
} sha256;

static inline uint32_t sha256_rotate(uint32_t x, int n) {
  return x >> n | x << (32 - n);
}

/* One block, section 6.2.2. */
static inline void sha256_take_block(sha256 *hash) {
  /* The first 32 bits of the fractional parts of the cube roots of the first 64 primes, 4.2.2. */
  static const uint32_t K[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  uint32_t W[64], v[8]; /* v: a to h */
  for (int t = 0; t < 16; t++)
    W[t] = (uint32_t)hash->block[4 * t] << 24 | (uint32_t)hash->block[4 * t + 1] << 16 |
           (uint32_t)hash->block[4 * t + 2] << 8 | (uint32_t)hash->block[4 * t + 3];
  for (int t = 16; t < 64; t++) {
    uint32_t x = W[t - 15], y = W[t - 2];
    W[t] = (sha256_rotate(y, 17) ^ sha256_rotate(y, 19) ^ y >> 10) + W[t - 7] +
           (sha256_rotate(x, 7) ^ sha256_rotate(x, 18) ^ x >> 3) + W[t - 16];
  }
  memcpy(v, hash->state, sizeof v);
  for (int t = 0; t < 64; t++) {
    uint32_t a = v[0], e = v[4], choice = (e & v[5]) ^ (~e & v[6]);
    uint32_t majority = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
    uint32_t T1 = v[7] + (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25)) +
                  choice + K[t] + W[t];
    uint32_t T2 = (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22)) + majority;
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += T1;
    v[0] = T1 + T2;
  }
  for (int i = 0; i < 8; i++) hash->state[i] += v[i];
}

static inline sha256 sha256_begin(void) {
  /* Of the square roots of the first eight primes, 5.3.3. */
  return (sha256){{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                   0x1f83d9ab, 0x5be0cd19},
                  0,
                  {0}};
}

static inline void sha256_add(sha256 *hash, const void *bytes, size_t count) {
  const uint8_t *at = (const uint8_t *)bytes;
  while (count > 0) {
    size_t used = (size_t)(hash->size % SHA256_BLOCK), now = SHA256_BLOCK - used;
    if (now > count) now = count;
    memcpy(hash->block + used, at, now);
    hash->size += now;
    at += now;
    count -= now;
    if (hash->size % SHA256_BLOCK == 0) sha256_take_block(hash);
  }
}

/* Pads (5.1.1) and writes the hash as text. */
static inline void sha256_end(sha256 *hash, char out[SHA256_TEXT]) {
  static const uint8_t padding[SHA256_BLOCK] = {0x80};
  static const char digits[] = "0123456789abcdef";
  uint64_t bits = hash->size * 8;
  uint8_t length[8];
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
  size_t used = (size_t)(hash->size % SHA256_BLOCK);
  sha256_add(hash, padding, (used < 56 ? 56 : 56 + SHA256_BLOCK) - used);
  sha256_add(hash, length, sizeof length);
  for (int i = 0; i < 64; i++) out[i] = digits[hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
  out[64] = 0;
}

#endif
