/* The implementation of stb.h, compiled once for all tools. */
#include "stb.h"

#include <stdlib.h>

__thread size_t decoder_limit;
__thread int decoder_exceeded;

/* Whether so much may be asked for. */
static int within_limit(size_t size) {
  if (!decoder_limit || size <= decoder_limit) return 1;
  decoder_exceeded = 1;
  return 0;
}

/* All zeros: what a damaged file leaves undefined is always the same. */
static void *decoder_allocate(size_t size) {
  return within_limit(size) ? calloc(size ? size : 1, 1) : NULL;
}
static void *decoder_reallocate(void *memory, size_t size) {
  return within_limit(size) ? realloc(memory, size ? size : 1) : NULL;
}

#define STBI_MALLOC(size) decoder_allocate(size)
#define STBI_REALLOC(memory, size) decoder_reallocate(memory, size)
#define STBI_FREE(memory) free(memory)
#define STBI_FAILURE_USERMSG
#define STBI_ONLY_JPEG /* tools/decode reads the other kinds by code of its own or by libraries */
#define STBI_ONLY_PNG
#if defined(__ARM_NEON)
#define STBI_NEON
#endif
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>
