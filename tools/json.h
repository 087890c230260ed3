/* json.h - the last line of stdout: one JSON object. */
#ifndef TALLY_JSON_H
#define TALLY_JSON_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static inline void json_key(text_buffer *json, const char *key) {
  text_add(json, "%s\"%s\": ", json->length ? ", " : "", key);
}

/* A JSON string that may stand inside a script element. */
static inline void json_text(text_buffer *to, const char *text) {
  text_append(to, "\"", 1);
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c < 32 || strchr("\"\\<>&'", c))
      text_add(to, "\\u%04x", c);
    else
      text_append(to, text, 1);
  }
  text_append(to, "\"", 1);
}

/* A number; what is not finite has no place in JSON and becomes null. */
static inline void json_real(text_buffer *json, const char *key, double value) {
  json_key(json, key);
  if (isfinite(value))
    text_add(json, "%.9g", value);
  else
    text_add(json, "null");
}

static inline void json_integer(text_buffer *json, const char *key, long long value) {
  json_key(json, key);
  text_add(json, "%lld", value);
}

static inline void json_print(text_buffer *json) {
  printf("{%s}\n", json->data);
  free(json->data);
}

#endif
