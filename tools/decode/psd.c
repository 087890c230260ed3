/* PSD and PSB (Adobe's Photoshop File Formats Specification): the picture of all layers together that
   Photoshop writes behind them, already over white where it is half transparent. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define HEADER 26
#define CUT "the file is cut off: its end is missing"
enum { GREY = 1, PALETTE = 2, RGB = 3, CMYK = 4, DUOTONE = 8 };
enum { RAW = 0, RUNS = 1 };

typedef struct psd {
  const uint8_t *at, *end; /* of what is left to read */
  int is_large;            /* PSB: some lengths have twice the bytes */
  unsigned channels, depth, mode, packing;
  uint32_t width, height;
  int has_alpha;          /* whether the channel behind the colours says what is transparent */
  const uint8_t *palette; /* 256 reds, greens and blues */
  const uint8_t *lengths; /* of packed rows */
} psd;

/* Goes behind a part that begins with its length, of 4 or 8 bytes; -1 if it is cut off. */
static int skip_part(psd *file, int length_bytes) {
  uint64_t length = 0;
  if (file->end - file->at < length_bytes) return -1;
  for (int i = 0; i < length_bytes; i++) length = length << 8 | *file->at++;
  if (length > (uint64_t)(file->end - file->at)) return -1;
  file->at += length;
  return 0;
}

/* Planes that make the colours. */
static unsigned count_colours(const psd *file) {
  return file->mode == RGB ? 3 : file->mode == CMYK ? 4 : 1;
}

/* And those that are needed: others behind them are selections and spot colours. */
static unsigned count_planes(const psd *file) {
  return count_colours(file) + (unsigned)file->has_alpha;
}

/* At the part about layers: a negative count of them says that the first channel behind the colours is
   about the whole picture. */
static int says_alpha(const psd *file) {
  const ptrdiff_t before = file->is_large ? 16 : 8; /* two lengths */
  return file->end - file->at >= before + 2 && big_32(file->at + before - 4) >= 2 &&
         file->at[before] >= 0x80 && file->channels > count_colours(file);
}

static int is_known(const psd *file) {
  const int mode = file->mode == GREY || file->mode == PALETTE || file->mode == RGB ||
                   file->mode == CMYK || file->mode == DUOTONE;
  const int depth = file->depth == 8 || (file->depth == 16 && file->mode != PALETTE);
  return mode && depth && file->channels >= count_colours(file) && file->channels <= 56;
}

static int read_header(psd *file, const file_view *from, int64_t most_pixels,
                       char reason[DECODE_REASON]) {
  const uint8_t *header = from->bytes;
  if (from->size < HEADER) return refuse(reason, CUT);
  file->at = header + HEADER;
  file->end = header + from->size;
  file->is_large = header[5] == 2;
  file->channels = big_16(header + 12);
  file->height = big_32(header + 14);
  file->width = big_32(header + 18);
  file->depth = big_16(header + 22);
  file->mode = big_16(header + 24);
  if (refuse_size(file->width, file->height, most_pixels, reason)) return -1;
  file->palette = file->at + 4;
  if (skip_part(file, 4)) return refuse(reason, CUT);
  const int has_palette = file->at - file->palette >= 768;
  if (skip_part(file, 4)) return refuse(reason, CUT);
  file->has_alpha = says_alpha(file);
  if (skip_part(file, file->is_large ? 8 : 4) || file->end - file->at < 2)
    return refuse(reason, CUT);
  file->packing = big_16(file->at);
  file->at += 2;
  if (is_known(file) && file->packing <= RUNS && (file->mode != PALETTE || has_palette)) return 0;
  return refuse(reason,
                "it is a PSD of mode %u, %u bits and packing %u, which is not read here; "
                "save it as PNG",
                file->mode, file->depth, file->packing);
}

/* Where the packed rows' lengths stand there are as many as rows of all channels. */
static int skip_lengths(psd *file) {
  const size_t bytes = (file->is_large ? 4 : 2) * (size_t)file->channels * file->height;
  file->lengths = file->at;
  if ((size_t)(file->end - file->at) < bytes) return -1;
  file->at += bytes;
  return 0;
}

/* A row packed as PackBits does (TIFF 6.0, section 9); -1 unless it is `count` bytes. */
static int unpack_row(const uint8_t *at, const uint8_t *end, uint8_t *to, size_t count) {
  while (count) {
    if (end - at < 2) return -1;
    const int code = *at++;
    if (code == 128) continue;
    const size_t length = (size_t)(code < 128 ? code + 1 : 257 - code);
    if (length > count || (code < 128 && (size_t)(end - at) < length)) return -1;
    if (code < 128)
      memcpy(to, at, length);
    else
      memset(to, *at, length);
    at += code < 128 ? length : 1;
    to += length;
    count -= length;
  }
  return 0;
}

/* The next row of samples, `row` counted through all planes; -1 if it is not whole. */
static int read_row(psd *file, size_t row, uint8_t *to) {
  const size_t size = (size_t)file->width * file->depth / 8;
  size_t length = size;
  if (file->packing == RUNS)
    length = file->is_large ? big_32(file->lengths + 4 * row) : big_16(file->lengths + 2 * row);
  if ((size_t)(file->end - file->at) < length) return -1;
  const uint8_t *from = file->at;
  file->at += length;
  if (file->packing == RUNS) return unpack_row(from, file->at, to, size);
  memcpy(to, from, size);
  return 0;
}

/* Puts a row of plane `plane` to its place among three colours. */
static void put_row(const psd *file, unsigned plane, const uint8_t *row, uint8_t *to) {
  const unsigned colours = count_colours(file);
  for (uint32_t x = 0; x < file->width; x++, to += 3) {
    const unsigned value = row[x * (file->depth / 8)]; /* the high byte stands first */
    if (plane == colours && !value) memset(to, 255, 3);
    if (plane >= colours) continue;
    if (file->mode == PALETTE)
      for (unsigned c = 0; c < 3; c++) to[c] = file->palette[256 * c + value];
    else if (colours == 1)
      memset(to, (int)value, 3);
    else if (plane < 3)
      to[plane] = (uint8_t)value;
    else /* of inks light is stored: 255 is none */
      for (int c = 0; c < 3; c++) to[c] = (uint8_t)((to[c] * value + 127) / 255);
  }
}

int decode_psd(const file_view *from, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  psd file;
  memset(&file, 0, sizeof file);
  if (read_header(&file, from, most_pixels, reason)) return -1;
  if (file.packing == RUNS && skip_lengths(&file)) return refuse(reason, CUT);
  uint8_t *row = malloc((size_t)file.width * 2);
  uint8_t *pixels = malloc((size_t)file.width * file.height * 3);
  int failed = row && pixels ? 0 : refuse(reason, "out of memory");
  for (unsigned plane = 0; plane < count_planes(&file); plane++)
    for (uint32_t y = 0; y < file.height && !failed; y++) {
      if (read_row(&file, (size_t)plane * file.height + y, row))
        failed = refuse(reason, "the file is cut off or damaged: its pixels are not whole");
      else
        put_row(&file, plane, row, pixels + (size_t)y * file.width * 3);
    }
  free(row);
  if (failed)
    free(pixels);
  else
    *out = (decoded_picture){pixels, (int)file.height, (int)file.width, 3};
  return failed;
}
