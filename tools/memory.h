/* memory.h - memory that is there, or the tool ends. */
#ifndef TALLY_MEMORY_H
#define TALLY_MEMORY_H

#include <stdint.h>
#include <stdlib.h>

#include "messages.h"

static inline void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size ? size : 1);
  if (!memory) fail("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

static inline void *reallocate(void *memory, size_t count, size_t size) {
  if (size && count > SIZE_MAX / size) fail("out of memory (%zu times %zu bytes)", count, size);
  memory = realloc(memory, count && size ? count * size : 1);
  if (!memory) fail("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

#endif
