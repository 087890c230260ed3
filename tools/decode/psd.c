/* psd.c - PSD files: the picture that stands behind all layers, as it is seen.

   Its first three channels are that, on white paper where layers leave it free. A fourth one is the
   transparency of which that was made, or a selection that somebody saved; stb_image takes the white off
   again by it, wrongly if it is the latter. So it gets three. */
#include "kinds.h"

#include <stdlib.h>
#include <string.h>

typedef struct psd_header {
  uint64_t channels, height, width, depth; /* depth: bits of a value */
  uint32_t colours, packing;
  uint64_t start; /* of the pixels, or of their rows' lengths */
} psd_header;

/* Behind the header three parts, each behind its length, then the picture. */
static int read_header(file_bytes file, psd_header *out, char reason[DECODE_REASON]) {
  const uint8_t *b = file.bytes;
  uint64_t at = 26;
  if (file.size < 26) return cut_off(reason);
  out->channels = read_number(b + 12, 2, 0);
  out->height = read_number(b + 14, 4, 0);
  out->width = read_number(b + 18, 4, 0);
  out->depth = read_number(b + 22, 2, 0);
  out->colours = read_number(b + 24, 2, 0);
  for (int part = 0; part < 3; part++) {
    if (at + 4 > file.size) return cut_off(reason);
    at += 4 + (uint64_t)read_number(b + at, 4, 0);
  }
  if (at + 2 > file.size) return cut_off(reason);
  out->packing = read_number(b + at, 2, 0);
  out->start = at + 2;
  return 1;
}

/* Kinds that stb_image does not read, or not rightly. */
static int check_kind(const psd_header *header, char reason[DECODE_REASON]) {
  const uint32_t rgb = 3;
  if (header->height > 300000 || header->width > 300000 || header->channels > 56)
    return refuse(reason, "damaged: its header is not a PSD's");
  if (header->colours != rgb || header->channels < 3)
    return refuse(reason, "a PSD whose colours are not RGB; save it as PNG");
  if (header->packing > 1) return refuse(reason, "a PSD packed with zip; save it as PNG");
  if (header->packing == 1 && header->depth != 8)
    return refuse(reason, "a packed PSD of %d bits a colour; save it as PNG", (int)header->depth);
  return 1;
}

/* Rows as they are, or packed, with their lengths before them. */
static int check_pixels(file_bytes file, const psd_header *header, char reason[DECODE_REASON]) {
  const uint64_t rows = header->channels * header->height, left = file.size - header->start;
  if (header->packing == 0)
    return rows * header->width * (header->depth / 8) <= left || cut_off(reason);
  uint64_t all = 2 * rows;
  if (all > left) return cut_off(reason);
  for (uint64_t i = 0; i < rows; i++) all += read_number(file.bytes + header->start + 2 * i, 2, 0);
  return all <= left || cut_off(reason);
}

int check_psd(file_bytes file, char reason[DECODE_REASON]) {
  psd_header header;
  return read_header(file, &header, reason) && check_kind(&header, reason) &&
         check_pixels(file, &header, reason);
}

int psd_picture(file_bytes file, int64_t most_pixels, decoded_picture *out,
                char reason[DECODE_REASON]) {
  psd_header header;
  if (!check_psd(file, reason) || !read_header(file, &header, reason)) return 0;
  if (header.channels == 3) return stb_picture(KIND_PSD, file, most_pixels, out, reason);
  uint8_t *bytes = malloc(file.size);
  if (!bytes) return refuse(reason, "out of memory");
  memcpy(bytes, file.bytes, file.size);
  bytes[12] = 0;
  bytes[13] = 3;
  file_bytes less = {bytes, file.size};
  if (header.packing) { /* the lengths of other channels' rows stand between */
    const size_t kept = (size_t)(header.start + 6 * header.height);
    const size_t dropped = (size_t)(2 * header.height * (header.channels - 3));
    less.size -= dropped;
    memmove(bytes + kept, file.bytes + kept + dropped, less.size - kept);
  }
  const int good = stb_picture(KIND_PSD, less, most_pixels, out, reason);
  free(bytes);
  return good;
}
