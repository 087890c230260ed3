/* fuzz.h - what the fuzz targets share. Every target, and the code that it tries out, is compiled by
   clang with this header in front (-include).

   A target is a file NAME.c that hands libFuzzer's bytes to one reader and checks what the reader
   promises; corpus/NAME/ has the inputs it starts from, NAME.dict words of its format, found/NAME/
   inputs that once failed. Its first comment ends in how often tests/fuzz.sh runs it.

   In this build memory is bounded, as on a small machine: malloc and its kin deliver
   fuzz_memory_limit bytes altogether and then NULL, so that a header which promises much is met by
   the code's own words for it, and sanitizers see every path that follows. And exit(), by which a
   tool ends when something is wrong, ends fuzz_run() instead. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern size_t fuzz_memory_limit; /* bytes; a target may change it before its first run */

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t count, size_t size);
void *fuzz_realloc(void *memory, size_t size);
void fuzz_free(void *memory); /* also what the C library allocated */
__attribute__((noreturn)) void fuzz_exit(int code);

#define malloc fuzz_malloc
#define calloc fuzz_calloc
#define realloc fuzz_realloc
#define free fuzz_free
#define exit fuzz_exit

/* libFuzzer's entry; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls what a tool would do with these bytes; code in it may exit() with 1, as on a bad file. Then
   its memory is freed. Returns whether it did. */
int fuzz_run(void (*what)(const uint8_t *data, size_t size), const uint8_t *data, size_t size);

/* A file that holds these bytes, the same path each time. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* A copy with a 0 behind it in memory of just that size, so that reading further is seen. Freed by
   the caller. */
char *fuzz_text(const uint8_t *data, size_t size);

/* Bytes that a target takes its choices from; 0 when there are no more. */
typedef struct fuzz_bytes {
  const uint8_t *at;
  size_t left;
} fuzz_bytes;
unsigned fuzz_byte(fuzz_bytes *from);
int fuzz_between(fuzz_bytes *from, int low, int high); /* two bytes decide */

/* A promise that does not hold is a finding. */
#define FUZZ_CHECK(condition)                                                                      \
  do {                                                                                             \
    if (!(condition)) fuzz_broken(__FILE__, __LINE__, #condition);                                 \
  } while (0)
__attribute__((noreturn)) void fuzz_broken(const char *file, int line, const char *condition);

#endif
