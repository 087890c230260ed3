/* How cameras were held: where the formats say it, and how a picture is turned by it. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define EXIF_ORIENTATION 0x112
#define EXIF_SHORT 3
#define EXIF_LONG 4

static uint32_t exif_16(const uint8_t *at, int little_endian) {
  return little_endian ? little_16(at) : big_16(at);
}
static uint32_t exif_32(const uint8_t *at, int little_endian) {
  return little_endian ? little_32(at) : big_32(at);
}

/* In a block of Exif: a TIFF header and its directory, with or without "Exif" and two zeros before it. */
static int exif_orientation(const uint8_t *bytes, size_t size) {
  if (size >= 6 && !memcmp(bytes, "Exif\0", 6)) bytes += 6, size -= 6;
  if (size < 8 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4))) return 1;
  const int little = bytes[0] == 'I';
  const size_t directory = exif_32(bytes + 4, little);
  if (directory > size || size - directory < 2) return 1;
  const unsigned entries = exif_16(bytes + directory, little);
  const uint8_t *entry = bytes + directory + 2, *end = bytes + size;
  for (unsigned i = 0; i < entries && end - entry >= 12; i++, entry += 12) {
    if (exif_16(entry, little) != EXIF_ORIENTATION) continue;
    const unsigned type = exif_16(entry + 2, little), count = exif_32(entry + 4, little);
    const uint32_t value = type == EXIF_SHORT  ? exif_16(entry + 8, little)
                           : type == EXIF_LONG ? exif_32(entry + 8, little)
                                               : 0;
    return count == 1 && value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

/* Segments stand before the first scan in any number and order: XMP may come before Exif and is an
   APP1 as well. 0xFF may be repeated before a marker. */
int jpeg_orientation(const uint8_t *bytes, size_t size) {
  size_t at = 2;
  while (size - at >= 4 && at + 4 <= size && bytes[at] == 0xFF) {
    const int marker = bytes[at + 1];
    if (marker == 0xFF) {
      at++;
      continue;
    }
    const size_t length = big_16(bytes + at + 2), held = size - at - 4;
    if (marker == 0xDA || marker == 0xD9 || length < 2) break;
    const size_t inside = length - 2 < held ? length - 2 : held;
    if (marker == 0xE1 && inside >= 6 && !memcmp(bytes + at + 4, "Exif\0", 6))
      return exif_orientation(bytes + at + 4, inside);
    at += 2 + length;
  }
  return 1;
}

/* PNG, third edition: chunk eXIf, before or behind the pixels. */
int png_orientation(const uint8_t *bytes, size_t size) {
  for (size_t at = 8; at + 12 <= size;) {
    const size_t length = big_32(bytes + at);
    if (length > size - at - 12) break;
    if (!memcmp(bytes + at + 4, "eXIf", 4)) return exif_orientation(bytes + at + 8, length);
    at += 12 + length;
  }
  return 1;
}

/* RIFF: chunk EXIF, behind the pixels. */
int webp_orientation(const uint8_t *bytes, size_t size) {
  for (size_t at = 12; at + 8 <= size;) {
    const size_t length = little_32(bytes + at + 4);
    if (length > size - at - 8) break;
    if (!memcmp(bytes + at, "EXIF", 4)) return exif_orientation(bytes + at + 8, length);
    at += 8 + length + length % 2;
  }
  return 1;
}

int turn_upright(decoded_picture *picture, int orientation, char reason[DECODE_REASON]) {
  const int swap = orientation >= 5;
  const int height = swap ? picture->width : picture->height,
            width = swap ? picture->height : picture->width;
  const int from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const int from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const size_t channels = (size_t)picture->channels;
  if (orientation == 1) return 0;
  uint8_t *turned = malloc((size_t)width * (size_t)height * channels), *to = turned;
  if (!turned) {
    free(picture->pixels);
    picture->pixels = NULL;
    return refuse(reason, "out of memory");
  }
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++, to += channels) {
      const int column = swap ? y : x, row = swap ? x : y;
      const size_t at =
          (size_t)(from_bottom ? picture->height - 1 - row : row) * (size_t)picture->width +
          (size_t)(from_right ? picture->width - 1 - column : column);
      memcpy(to, picture->pixels + at * channels, channels);
    }
  free(picture->pixels);
  picture->pixels = turned;
  picture->height = height;
  picture->width = width;
  return 0;
}
