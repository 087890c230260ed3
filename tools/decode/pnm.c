/* PBM, PGM and PPM, plain and raw (netpbm's pages pbm(5), pgm(5), ppm(5)): "P1" to "P6", width,
   height, but for PBM the largest value, and the samples. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

typedef struct pnm {
  const uint8_t *at, *end;
  int bits, plain, channels;
  unsigned width, height, largest;
} pnm;

static int is_blank(uint8_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

int is_pnm(const uint8_t *bytes, size_t size) {
  return size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
         (bytes[2] == '#' || is_blank(bytes[2]));
}

static void skip_blanks(pnm *file) {
  while (file->at < file->end && (is_blank(*file->at) || *file->at == '#')) {
    if (*file->at == '#')
      while (file->at < file->end && *file->at != '\n' && *file->at != '\r') file->at++;
    else
      file->at++;
  }
}

/* A number of the header or of plain samples; -1 if there is none up to `most`. */
static long read_number(pnm *file, long most) {
  long value = 0;
  skip_blanks(file);
  if (file->at == file->end || *file->at < '0' || *file->at > '9') return -1;
  for (; file->at < file->end && *file->at >= '0' && *file->at <= '9'; file->at++)
    if ((value = value * 10 + (*file->at - '0')) > most) return -1;
  return value;
}

static int read_header(pnm *file, const file_view *from, int64_t most_pixels,
                       char reason[DECODE_REASON]) {
  const int kind = from->bytes[1] - '0';
  *file = (pnm){from->bytes + 2,
                from->bytes + from->size,
                kind == 1 || kind == 4,
                kind <= 3,
                kind == 3 || kind == 6 ? 3 : 1,
                0,
                0,
                1};
  const long width = read_number(file, 100000000), height = read_number(file, 100000000),
             largest = file->bits ? 1 : read_number(file, 65535);
  if (width < 0 || height < 0 || largest < 1)
    return refuse(reason, "its header is damaged: no size or no largest value");
  if (refuse_size(width, height, most_pixels, reason)) return -1;
  file->width = (unsigned)width;
  file->height = (unsigned)height;
  file->largest = (unsigned)largest;
  if (!file->plain && (file->at == file->end || !is_blank(*file->at++)))
    return refuse(reason, "its header is damaged: no blank before the pixels");
  return 0;
}

/* A bit that is 1 is black. */
static int read_raw_bits(pnm *file, uint8_t *to) {
  const size_t stride = (file->width + 7) / 8;
  if ((size_t)(file->end - file->at) / stride < file->height) return -1;
  for (unsigned y = 0; y < file->height; y++, file->at += stride)
    for (unsigned x = 0; x < file->width; x++) *to++ = file->at[x / 8] & (0x80 >> x % 8) ? 0 : 255;
  return 0;
}

/* Digits of plain bits need no blank between them. */
static int read_plain_bits(pnm *file, uint8_t *to, size_t count) {
  for (size_t i = 0; i < count; i++) {
    skip_blanks(file);
    if (file->at == file->end || (*file->at != '0' && *file->at != '1')) return -1;
    to[i] = *file->at++ == '1' ? 0 : 255;
  }
  return 0;
}

static int read_samples(pnm *file, uint8_t *to, size_t count) {
  const unsigned largest = file->largest, bytes = largest > 255 ? 2 : 1;
  if (!file->plain && (size_t)(file->end - file->at) / bytes < count) return -1;
  if (!file->plain && largest == 255) { /* as they are */
    memcpy(to, file->at, count);
    return 0;
  }
  for (size_t i = 0; i < count; i++) {
    long value;
    if (file->plain)
      value = read_number(file, 65535);
    else {
      value = (long)(bytes == 2 ? big_16(file->at) : *file->at);
      file->at += bytes;
    }
    /* Of a plain number that ends with the file nobody knows whether digits are missing. */
    if (value < 0 || (unsigned long)value > largest || (file->plain && file->at == file->end))
      return -1;
    to[i] = (uint8_t)(((unsigned)value * 255u + largest / 2) / largest);
  }
  return 0;
}

int decode_pnm(const file_view *from, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  pnm file;
  if (read_header(&file, from, most_pixels, reason)) return -1;
  const size_t count = (size_t)file.width * file.height * (size_t)file.channels;
  uint8_t *pixels = malloc(count);
  if (!pixels) return refuse(reason, "out of memory");
  const int failed = !file.bits   ? read_samples(&file, pixels, count)
                     : file.plain ? read_plain_bits(&file, pixels, count)
                                  : read_raw_bits(&file, pixels);
  if (failed) {
    free(pixels);
    return refuse(reason, "the file is cut off or damaged: its header promises %u x %u pixels",
                  file.width, file.height);
  }
  *out = (decoded_picture){pixels, (int)file.height, (int)file.width, file.channels};
  return 0;
}
