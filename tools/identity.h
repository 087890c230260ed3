/* identity.h - one file is one file, however its path is spelled: by device and inode. */
#ifndef TALLY_IDENTITY_H
#define TALLY_IDENTITY_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "memory.h"

typedef struct identity {
  dev_t device;
  ino_t node;
  int page; /* of a file with several pictures; 0: the file as a whole */
} identity;

/* Of what a path leads to, links followed. Returns 0 if there is nothing. */
static inline int identity_of(const char *path, identity *out) {
  struct stat status;
  if (stat(path, &status)) return 0;
  *out = (identity){status.st_dev, status.st_ino, 0};
  return 1;
}

static inline int identity_equal(identity a, identity b) {
  return a.device == b.device && a.node == b.node && a.page == b.page;
}

/* A number for each file. Zero-initialise; identities_free. */
typedef struct identities {
  identity *keys; /* [capacity], a power of two; by hash, with linear probing */
  int *values;    /* [capacity], -1 where there is none */
  int count, capacity;
} identities;

static inline int identities_slot(const identities *set, identity key) {
  uint64_t hash =
      ((uint64_t)key.node * 0x9E3779B97F4A7C15u + (uint64_t)key.page) ^ (uint64_t)key.device;
  int slot = (int)((hash ^ hash >> 32) & (uint64_t)(set->capacity - 1));
  while (set->values[slot] >= 0 && !identity_equal(set->keys[slot], key))
    slot = (slot + 1) & (set->capacity - 1);
  return slot;
}

static inline int identities_find(const identities *set, identity key) {
  return set->capacity ? set->values[identities_slot(set, key)] : -1;
}

static inline void identities_free(identities *set) {
  free(set->keys);
  free(set->values);
}

/* The number that a file has; `value`, from 0 on, if it had none before. */
static inline int identities_add(identities *set, identity key, int value) {
  if (2 * set->count >= set->capacity) {
    identities larger = {0};
    larger.capacity = set->capacity ? set->capacity * 2 : 64;
    larger.count = set->count;
    larger.keys = allocate((size_t)larger.capacity, sizeof *larger.keys);
    larger.values = allocate((size_t)larger.capacity, sizeof *larger.values);
    for (int i = 0; i < larger.capacity; i++) larger.values[i] = -1;
    for (int i = 0; i < set->capacity; i++) {
      if (set->values[i] < 0) continue;
      int slot = identities_slot(&larger, set->keys[i]);
      larger.keys[slot] = set->keys[i];
      larger.values[slot] = set->values[i];
    }
    identities_free(set);
    *set = larger;
  }
  int slot = identities_slot(set, key);
  if (set->values[slot] >= 0) return set->values[slot];
  set->keys[slot] = key;
  set->values[slot] = value;
  set->count++;
  return value;
}

#endif
