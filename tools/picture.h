/* picture.h - picture files as pixels of one or three channels. */
#ifndef TALLY_PICTURE_H
#define TALLY_PICTURE_H

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "decode.h"
#include "memory.h"
#include "spool.h"

/* 8 bits a channel, [height][width][channels], red first; channels is 1 or 3. */
typedef struct picture {
  uint8_t *pixels;
  int height, width, channels;
} picture;

/* Weights of a colour in its grey value (Rec. 601), in 1/256. */
static inline uint8_t grey_of(const uint8_t *rgb) {
  return (uint8_t)((77 * rgb[0] + 150 * rgb[1] + 29 * rgb[2] + 128) >> 8);
}

/* Brings a row of `count` pixels of 1 to 4 channels (grey, grey + alpha, RGB, RGBA) to 1 or 3. What
   is transparent shows white paper behind it. They may be the same if the row does not grow. */
static inline void convert_channels(const uint8_t *from, int from_channels, uint8_t *to,
                                    int channels, size_t count) {
  int colour = from_channels >= 3, alpha = from_channels == 2 || from_channels == 4;
  for (size_t i = 0; i < count; i++) {
    const uint8_t *pixel = from + i * (size_t)from_channels;
    uint8_t value[3];
    for (int c = 0; c < 3; c++) {
      unsigned v = pixel[colour ? c : 0], a = alpha ? pixel[from_channels - 1] : 255u;
      value[c] = (uint8_t)((v * a + 255u * (255u - a) + 127u) / 255u);
    }
    if (channels == 1)
      to[i] = colour ? grey_of(value) : value[0];
    else
      memcpy(to + i * 3, value, 3);
  }
}

/* A picture's grey values, as a picture of its own. */
static inline picture picture_grey(const picture *rgb) {
  size_t count = (size_t)rgb->height * (size_t)rgb->width;
  picture out = {allocate(count, 1), rgb->height, rgb->width, 1};
  convert_channels(rgb->pixels, rgb->channels, out.pixels, 1, count);
  return out;
}

/* Exchanges left and right. */
static inline void picture_mirror(picture *p) {
  size_t channels = (size_t)p->channels, width = (size_t)p->width;
  for (size_t y = 0; y < (size_t)p->height; y++)
    for (size_t x = 0; x < width / 2; x++)
      for (size_t c = 0; c < channels; c++) {
        uint8_t *left = p->pixels + (y * width + x) * channels + c;
        uint8_t *right = p->pixels + (y * width + width - 1 - x) * channels + c, kept = *left;
        *left = *right;
        *right = kept;
      }
}

/* Splits the name of a page, scan.pdf#3, into its file and number. A file of that very name is no page;
   neither is a name without a number: 0. */
static inline int picture_page(const char *name, char path[PATH_MAX]) {
  const char *mark = strrchr(name, '#');
  char *end;
  struct stat status;
  snprintf(path, PATH_MAX, "%s", name);
  if (!mark || mark[1] < '1' || mark[1] > '9' || !stat(name, &status)) return 0;
  long page = strtol(mark + 1, &end, 10);
  if (*end || page > INT_MAX || (size_t)(mark - name) >= PATH_MAX) return 0;
  path[mark - name] = 0;
  return (int)page;
}

/* How many pictures a file has: pages of a TIFF or PDF file. One that cannot be read counts as one,
   so that reading it has its reason. */
static inline int picture_pages(const char *path) {
  char reason[DECODE_REASON];
  int pages = decode_pages(spool_path(path), reason);
  return pages ? pages : 1;
}

/* Reads a picture by its name, which may be that of a page. Returns 0, or why it cannot be read: valid
   until this thread reads the next one. */
static inline const char *picture_read(const char *name, int channels, int64_t most_pixels,
                                       picture *out) {
  static __thread char reason[DECODE_REASON];
  char path[PATH_MAX];
  int page = picture_page(name, path);
  decoded_picture from;
  if (!decode_page(spool_path(path), page ? page : 1, most_pixels, &from, reason)) return reason;
  size_t count = (size_t)from.width * (size_t)from.height;
  *out = (picture){from.pixels, from.height, from.width, channels};
  if (from.channels == channels) return NULL;
  out->pixels = allocate(count, (size_t)channels);
  convert_channels(from.pixels, from.channels, out->pixels, channels, count);
  free(from.pixels);
  return NULL;
}

#endif
