/* orientation.c - how a camera says that it was held, wherever a file says it, and turning. */
#include "kinds.h"

#include <stdlib.h>
#include <string.h>

#define UPRIGHT 1
#define ORIENTATION_TAG 0x112

/* From Exif data: a TIFF header and its first directory. The value is a SHORT by the standard; some
   programs write a LONG. */
static int orientation_of_exif(const uint8_t *bytes, size_t size) {
  if (size < 8 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4))) return UPRIGHT;
  const int little = bytes[0] == 'I';
  const size_t directory = read_number(bytes + 4, 4, little);
  if (directory > size || size - directory < 2) return UPRIGHT;
  const unsigned entries = read_number(bytes + directory, 2, little);
  const uint8_t *entry = bytes + directory + 2, *end = bytes + size;
  for (unsigned i = 0; i < entries && end - entry >= 12; i++, entry += 12) {
    if (read_number(entry, 2, little) != ORIENTATION_TAG) continue;
    const unsigned type = read_number(entry + 2, 2, little);
    const unsigned value = read_number(entry + 8, type == 4 ? 4 : 2, little);
    return (type == 3 || type == 4) && value >= 1 && value <= 8 ? (int)value : UPRIGHT;
  }
  return UPRIGHT;
}

/* Every segment before the pixels is looked at: phones write long ones before Exif. */
int orientation_of_jpeg(file_bytes file) {
  const uint8_t *b = file.bytes;
  size_t at = 2;
  while (at + 4 <= file.size && b[at] == 0xFF && b[at + 1] != 0xDA) {
    if (b[at + 1] == 0xFF) { /* may stand any number of times before a marker */
      at++;
      continue;
    }
    const size_t length = read_number(b + at + 2, 2, 0), left = file.size - at;
    const size_t held = 2 + length < left ? 2 + length : left;
    if (b[at + 1] == 0xE1 && held >= 10 && !memcmp(b + at + 4, "Exif\0", 6))
      return orientation_of_exif(b + at + 10, held - 10);
    at += 2 + length;
  }
  return UPRIGHT;
}

int orientation_of_png(file_bytes file) {
  for (size_t at = 8; file.size >= 12 && at <= file.size - 12;) {
    const size_t length = read_number(file.bytes + at, 4, 0);
    if (length > file.size - at - 12) break;
    if (!memcmp(file.bytes + at + 4, "eXIf", 4))
      return orientation_of_exif(file.bytes + at + 8, length);
    at += length + 12;
  }
  return UPRIGHT;
}

/* A RIFF file: chunks of a name, a length, and as many bytes, padded to an even number. Some programs
   leave JPEG's "Exif" and two zeros before the data. */
int orientation_of_webp(file_bytes file) {
  for (size_t at = 12; file.size >= 8 && at <= file.size - 8;) {
    const size_t length = read_number(file.bytes + at + 4, 4, 1);
    if (length > file.size - at - 8) break;
    if (!memcmp(file.bytes + at, "EXIF", 4)) {
      const uint8_t *data = file.bytes + at + 8;
      const size_t skip = length >= 6 && !memcmp(data, "Exif\0", 6) ? 6 : 0;
      return orientation_of_exif(data + skip, length - skip);
    }
    at += 8 + length + length % 2;
  }
  return UPRIGHT;
}

int turn_upright(decoded_picture *photo, int orientation) {
  const int swap = orientation >= 5;
  const size_t channels = (size_t)photo->channels;
  const int height = swap ? photo->width : photo->height,
            width = swap ? photo->height : photo->width;
  const int from_right = orientation == 2 || orientation == 3 || orientation >= 7;
  const int from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  if (orientation == UPRIGHT) return 1;
  uint8_t *turned = malloc((size_t)width * (size_t)height * channels), *to = turned;
  if (!turned) return 0;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++, to += channels) {
      const int column = swap ? y : x, row = swap ? x : y;
      const size_t from_row = (size_t)(from_bottom ? photo->height - 1 - row : row);
      const size_t from_column = (size_t)(from_right ? photo->width - 1 - column : column);
      memcpy(to, photo->pixels + (from_row * (size_t)photo->width + from_column) * channels,
             channels);
    }
  free(photo->pixels);
  photo->pixels = turned;
  photo->height = height;
  photo->width = width;
  return 1;
}
