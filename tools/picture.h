/* picture.h - picture files as pixels. */
#ifndef TALLY_PICTURE_H
#define TALLY_PICTURE_H

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "implementations/stb.h"
#include "memory.h"

/* A number of up to four bytes in a file. */
static inline uint32_t file_number(const uint8_t *bytes, int count, int little_endian) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++) value = value << 8 | bytes[little_endian ? count - 1 - i : i];
  return value;
}

#define PICTURE_MAX_PIXELS 134217728 /* a header that promises more is not believed */

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

/* How a camera says it was held, 1 to 8 (Exif 2.32, tag 0x112 of the first directory; 1 is upright),
   from `size` bytes behind the marker's "Exif" and two zeros. What is not valid counts as 1. */
static inline int exif_orientation(const uint8_t *bytes, size_t size) {
  if (size < 8 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4))) return 1;
  const int little = bytes[0] == 'I';
  const size_t directory = file_number(bytes + 4, 4, little);
  if (directory > size || size - directory < 2) return 1;
  const unsigned entries = file_number(bytes + directory, 2, little);
  const uint8_t *entry = bytes + directory + 2, *end = bytes + size;
  for (unsigned i = 0; i < entries && end - entry >= 12; i++, entry += 12) {
    const unsigned type = file_number(entry + 2, 2, little),
                   value = file_number(entry + 8, 2, little);
    if (file_number(entry, 2, little) != 0x112) continue;
    return type == 3 && value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

/* Whether a JPEG file goes on with a segment: before its pixels begin, and before its end. */
static inline int jpeg_has_segment(const uint8_t *bytes, size_t size, size_t at) {
  return at + 4 <= size && bytes[at] == 0xFF && bytes[at + 1] != 0xDA;
}

/* Where it ends, which may be behind the file's end. 0xFF may stand any number of times before it. */
static inline size_t jpeg_segment_end(const uint8_t *bytes, size_t at) {
  return at + (bytes[at + 1] == 0xFF ? 1 : 2 + file_number(bytes + at + 2, 2, 0));
}

/* exif_orientation of the beginning of any file: only JPEG files can say something else than 1. */
static inline int jpeg_orientation(const uint8_t *bytes, size_t size) {
  if (size < 2 || bytes[0] != 0xFF || bytes[1] != 0xD8) return 1;
  for (size_t at = 2; jpeg_has_segment(bytes, size, at); at = jpeg_segment_end(bytes, at)) {
    const size_t end = jpeg_segment_end(bytes, at), held = (end < size ? end : size) - at;
    if (bytes[at + 1] == 0xE1 && held >= 10 && !memcmp(bytes + at + 4, "Exif\0", 6))
      return exif_orientation(bytes + at + 10, held - 10);
  }
  return 1;
}

/* Stands a picture upright that was taken with its camera held so. */
static inline void picture_turn(picture *photo, int orientation) {
  const int swap = orientation >= 5, channels = photo->channels;
  const int height = swap ? photo->width : photo->height,
            width = swap ? photo->height : photo->width;
  const int from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const int from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  if (orientation == 1) return;
  uint8_t *turned = allocate((size_t)width * (size_t)height, (size_t)channels), *to = turned;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++, to += channels) {
      const int column = swap ? y : x, row = swap ? x : y;
      const size_t at =
          (size_t)(from_bottom ? photo->height - 1 - row : row) * (size_t)photo->width +
          (size_t)(from_right ? photo->width - 1 - column : column);
      memcpy(to, photo->pixels + at * (size_t)channels, (size_t)channels);
    }
  free(photo->pixels);
  photo->pixels = turned;
  photo->height = height;
  photo->width = width;
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

/* How many pictures a file has. */
static inline int picture_pages(const char *path) {
  (void)path;
  return 1;
}

/* Reads a file in any format of stb_image, upright where its camera says how it was held. Returns 0,
   or why it cannot be read. */
static inline const char *picture_read(const char *path, int channels, picture *out) {
  int width, height, file_channels;
  uint8_t start[4096]; /* cameras say it at once */
  FILE *file = fopen(path, "rb");
  if (!file) return strerror(errno);
  int orientation = jpeg_orientation(start, fread(start, 1, sizeof start, file));
  rewind(file);
  int known = stbi_info_from_file(file, &width, &height, &file_channels);
  int empty = known && (width < 1 || height < 1);
  int huge = known && (int64_t)width * height > PICTURE_MAX_PIXELS;
  uint8_t *pixels = NULL;
  if (known && !empty && !huge) pixels = stbi_load_from_file(file, &width, &height, &file_channels, 0);
  fclose(file);
  if (empty) return "it has no pixels";
  if (huge) return "more than 2^27 pixels";
  if (!pixels) return stbi_failure_reason() ? stbi_failure_reason() : "not a picture";
  size_t count = (size_t)width * (size_t)height;
  out->pixels = allocate(count, (size_t)channels);
  out->width = width;
  out->height = height;
  out->channels = channels;
  convert_channels(pixels, file_channels, out->pixels, channels, count);
  stbi_image_free(pixels);
  picture_turn(out, orientation);
  return NULL;
}

/* By its extension: what a file browser leaves in a folder is not a broken picture. */
static inline int is_picture_name(const char *name) {
  static const char *const extensions[] = {"png", "jpg", "jpeg", "bmp", "gif", "tga", "psd",
                                           "pgm", "ppm", "pnm",  "hdr", "pic", NULL};
  const char *dot = strrchr(name, '.');
  if (!dot || strlen(dot + 1) > 4) return 0;
  char lower[8] = {0};
  for (int i = 0; dot[i + 1]; i++)
    lower[i] = (char)(dot[i + 1] >= 'A' && dot[i + 1] <= 'Z' ? dot[i + 1] + 32 : dot[i + 1]);
  for (int i = 0; extensions[i]; i++)
    if (!strcmp(lower, extensions[i])) return 1;
  return 0;
}

#endif
