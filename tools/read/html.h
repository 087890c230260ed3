/* html.h - what stands in HTML: texts of strangers, and bytes. */
#ifndef TALLY_READ_HTML_H
#define TALLY_READ_HTML_H

#include <stddef.h>
#include <stdint.h>

#include "../text.h"

/* File names are written by strangers: nothing in them may end an element or an attribute. */
static inline void html_text(text_buffer *to, const char *text) {
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '&')
      text_add(to, "&amp;");
    else if (c == '<')
      text_add(to, "&lt;");
    else if (c == '>')
      text_add(to, "&gt;");
    else if (c == '"')
      text_add(to, "&quot;");
    else if (c == '\'')
      text_add(to, "&#39;");
    else if (c < 32 || c == 127)
      text_add(to, "&#%u;", c);
    else
      text_append(to, text, 1);
  }
}

static inline void base64_text(text_buffer *to, const char *bytes, size_t size) {
  static const char letters64[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < size; i += 3) {
    uint32_t group = 0;
    char four[4];
    for (size_t k = 0; k < 3; k++) group = group << 8 | (i + k < size ? (uint8_t)bytes[i + k] : 0);
    for (int k = 0; k < 4; k++)
      four[k] = i + (size_t)k > size ? '=' : letters64[group >> (18 - 6 * k) & 63];
    text_append(to, four, 4);
  }
}

#endif
