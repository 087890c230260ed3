/* text.h - texts that grow, copies of texts, numbers for people. */
#ifndef TALLY_TEXT_H
#define TALLY_TEXT_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "messages.h"

/* A text that grows; data always ends in 0. Zero-initialise, free(data). */
typedef struct text_buffer {
  char *data;
  size_t length, capacity;
} text_buffer;

static inline void text_append(text_buffer *to, const char *bytes, size_t count) {
  if (to->length + count + 1 > to->capacity) {
    to->capacity = (to->length + count + 1) * 2;
    to->data = reallocate(to->data, to->capacity, 1);
  }
  memcpy(to->data + to->length, bytes, count);
  to->length += count;
  to->data[to->length] = 0;
}

/* For stb_image_write: `to` is a text_buffer. */
static inline void append_bytes(void *to, void *bytes, int count) {
  text_append(to, bytes, (size_t)count);
}

TOOL_PRINTF(2, 3) static inline void text_add(text_buffer *to, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (length < 0) fail("cannot format a text");
  char *piece = allocate((size_t)length + 1, 1);
  vsnprintf(piece, (size_t)length + 1, format, arguments);
  va_end(arguments);
  text_append(to, piece, (size_t)length);
  free(piece);
}

static inline char *copy_text(const char *from) {
  size_t length = strlen(from);
  char *copy = allocate(length + 1, 1);
  memcpy(copy, from, length);
  return copy;
}

/* A text without the blanks around it, in its own memory. */
static inline char *trimmed(char *text) {
  while (*text == ' ' || *text == '\t') text++;
  for (char *end = text + strlen(text); end > text && (end[-1] == ' ' || end[-1] == '\t');)
    *--end = 0;
  return text;
}

static inline int compare_names(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Characters of a UTF-8 text. */
static inline int text_width(const char *name) {
  int width = 0;
  for (; *name; name++) width += (*name & 0xC0) != 0x80;
  return width;
}

/* 1234567 as 1,234,567. */
static inline const char *thousands(long long number, char out[32]) {
  char plain[32];
  int length = snprintf(plain, sizeof plain, "%lld", number), at = 0;
  for (int i = 0; i < length; i++) {
    if (i && plain[i - 1] != '-' && (length - i) % 3 == 0) out[at++] = ',';
    out[at++] = plain[i];
  }
  out[at] = 0;
  return out;
}

#endif
