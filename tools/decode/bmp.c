/* BMP and DIB, which is a BMP without its first header (Microsoft's BITMAPFILEHEADER and
   BITMAPINFOHEADER; OS/2's older header). stb_image knows neither packed ones nor some headers. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define FILE_HEADER 14
enum { PLAIN, PACKED_8, PACKED_4, MASKS, JPEG_INSIDE, PNG_INSIDE, ALPHA_MASKS };

/* The bits of a pixel that a colour or alpha has. */
typedef struct bitmap_channel {
  uint32_t most; /* its largest value; 0: it has no bits */
  int shift;
} bitmap_channel;

typedef struct bitmap {
  const uint8_t *bytes, *header; /* of the file, and behind the file header */
  size_t size, header_size;
  int width, height, top_down, depth;
  unsigned packing;
  size_t pixels_at;
  int colours;
  uint8_t palette[256][3];
  bitmap_channel channels[4]; /* red, green, blue and alpha */
} bitmap;

int is_bmp(const uint8_t *bytes, size_t size) {
  const int has_file_header = size >= 2 && bytes[0] == 'B' && bytes[1] == 'M';
  const uint8_t *header = bytes + (has_file_header ? FILE_HEADER : 0);
  if (size < FILE_HEADER + 12) return 0;
  const uint32_t header_size = little_32(header);
  if (has_file_header) return header_size >= 12 && header_size <= 124;
  return size > 40 && header_size == 40 && little_16(header + 12) == 1 && header[15] == 0 &&
         header[14] && header[14] <= 32 && little_32(header + 16) <= ALPHA_MASKS;
}

static int is_depth(int depth) {
  return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16 || depth == 24 ||
         depth == 32;
}

/* Sizes and kind of pixels; -1 if there are no such pixels. */
static int read_kind(bitmap *map) {
  const uint8_t *header = map->header;
  const int is_old = map->header_size < 16;
  const int64_t height = is_old ? (int64_t)little_16(header + 6) : (int32_t)little_32(header + 8);
  map->width = is_old ? (int)little_16(header + 4) : (int)(little_32(header + 4) & INT32_MAX);
  map->top_down = height < 0;
  map->height = (int)((height < 0 ? -height : height) & INT32_MAX);
  map->depth = (int)little_16(header + (is_old ? 10 : 14));
  map->packing = map->header_size < 20 ? PLAIN : little_32(header + 16);
  if (!is_depth(map->depth)) return -1;
  if (map->packing == PACKED_8) return map->depth == 8 ? 0 : -1;
  if (map->packing == PACKED_4) return map->depth == 4 ? 0 : -1;
  if (map->packing == PLAIN) return 0;
  if (map->packing != MASKS && map->packing != ALPHA_MASKS) return -1;
  if (map->header_size != 40 && (map->header_size < 52 || map->header_size == 64)) return -1;
  return map->depth == 16 || map->depth == 32 ? 0 : -1;
}

static void read_palette(bitmap *map, size_t at) {
  const size_t entry = map->header_size < 16 ? 3 : 4, colours_at = at;
  const uint32_t said = map->header_size >= 36 ? little_32(map->header + 32) : 0;
  map->colours = 1 << map->depth;
  if (said && said < (uint32_t)map->colours) map->colours = (int)said;
  if (map->pixels_at > at && (map->pixels_at - at) / entry < (size_t)map->colours)
    map->colours = (int)((map->pixels_at - at) / entry); /* some say nothing and write fewer */
  for (int i = 0; i < map->colours && at + 3 <= map->size; i++, at += entry)
    for (int c = 0; c < 3; c++) map->palette[i][c] = map->bytes[at + 2 - (size_t)c];
  if (map->pixels_at <= colours_at) map->pixels_at = at; /* some forget the palette there */
}

static bitmap_channel under_mask(uint32_t mask) {
  bitmap_channel channel = {mask, 0};
  while (channel.most && !(channel.most & 1)) {
    channel.most >>= 1;
    channel.shift++;
  }
  return channel;
}

static void read_masks(bitmap *map, int has_masks) {
  static const uint32_t usual[2][3] = {{0x7C00, 0x3E0, 0x1F}, {0xFF0000, 0xFF00, 0xFF}};
  const int has_alpha = map->packing == ALPHA_MASKS || map->header_size >= 56;
  for (int c = 0; c < 3; c++)
    map->channels[c] =
        under_mask(has_masks ? little_32(map->header + 40 + 4 * c) : usual[map->depth == 32][c]);
  map->channels[3] = under_mask(has_masks && has_alpha ? little_32(map->header + 52) : 0);
}

static int read_header(bitmap *map, const file_view *file, int64_t most_pixels,
                       char reason[DECODE_REASON]) {
  const int has_file_header = file->bytes[0] == 'B';
  *map = (bitmap){.bytes = file->bytes, .size = file->size};
  map->header = file->bytes + (has_file_header ? FILE_HEADER : 0);
  map->header_size = little_32(map->header);
  size_t at = (size_t)(map->header - file->bytes) + map->header_size;
  if (at > file->size) return refuse(reason, "the file is cut off: its header is not whole");
  if (read_kind(map))
    return refuse(reason,
                  "it is a BMP of %d bits a pixel in packing %u, which is not read here; "
                  "convert it to PNG",
                  map->depth, map->packing);
  if (refuse_size(map->width, map->height, most_pixels, reason)) return -1;
  const int has_masks = map->packing == MASKS || map->packing == ALPHA_MASKS;
  if (has_masks && map->header_size == 40) at += map->packing == MASKS ? 12 : 16;
  if (at > file->size) return refuse(reason, "the file is cut off: its header is not whole");
  map->pixels_at = has_file_header ? little_32(file->bytes + 10) : at;
  read_masks(map, has_masks);
  if (map->depth <= 8) read_palette(map, at);
  return 0;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* A channel of a pixel in 8 bits. */
static uint8_t channel_value(uint32_t pixel, bitmap_channel channel) {
  const uint64_t most = channel.most, value = pixel >> channel.shift & most;
  return (uint8_t)(most == 255 ? value : most ? (value * 255 + most / 2) / most : 0);
}

static void put_row(const bitmap *map, const uint8_t *from, uint8_t *to, int channels) {
  for (int x = 0; x < map->width; x++, to += channels) {
    if (map->depth <= 8) {
      const int bit = x * map->depth;
      const int index = from[bit / 8] >> (8 - map->depth - bit % 8) & ((1 << map->depth) - 1);
      memcpy(to, map->palette[index], 3);
    } else if (map->depth == 24) {
      for (int c = 0; c < 3; c++) to[c] = from[3 * x + 2 - c];
    } else {
      const uint32_t value = map->depth == 16 ? little_16(from + 2 * x) : little_32(from + 4 * x);
      for (int c = 0; c < channels; c++) to[c] = channel_value(value, map->channels[c]);
    }
  }
}

/* Indices packed as runs (BI_RLE8 and BI_RLE4), on their way to a byte each. */
typedef struct runs {
  const bitmap *map;
  const uint8_t *at, *end;
  uint8_t *to;
  int64_t x, y;
} runs;

/* `count` pixels in turn from the nibbles or bytes of `from`; a single one for all of them if it is
   not `literal`. */
static int put_run(runs *r, int count, const uint8_t *from, int literal) {
  const int nibbles = r->map->packing == PACKED_4;
  if (r->y >= r->map->height || r->x + count > r->map->width) return -1;
  uint8_t *to = r->to + r->y * r->map->width + r->x;
  for (int i = 0; i < count; i++) {
    const int value = from[!literal ? 0 : nibbles ? i / 2 : i];
    to[i] = (uint8_t)(!nibbles ? value : i % 2 ? value & 15 : value >> 4);
  }
  r->x += count;
  return 0;
}

/* Unpacks to the mark of the end; -1 if it is not there or something else does not fit. */
static int unpack(runs *r) {
  while (r->end - r->at >= 2) {
    const int count = r->at[0], code = r->at[1];
    r->at += 2;
    if (count) {
      if (put_run(r, count, r->at - 1, 0)) return -1;
    } else if (code == 0) { /* the end of a row */
      r->x = 0;
      r->y++;
    } else if (code == 1) {
      return 0;
    } else if (code == 2) { /* pixels that are left out */
      if (r->end - r->at < 2) return -1;
      r->x += r->at[0];
      r->y += r->at[1];
      r->at += 2;
    } else { /* pixels as they are, in whole words */
      const int bytes = ((r->map->packing == PACKED_4 ? (code + 1) / 2 : code) + 1) / 2 * 2;
      if (r->end - r->at < bytes || put_run(r, code, r->at, 1)) return -1;
      r->at += bytes;
    }
  }
  return -1;
}

/* Replaces packed pixels by plain ones of 8 bits, which become the caller's. */
static uint8_t *unpack_pixels(bitmap *map, char reason[DECODE_REASON]) {
  const size_t count = (size_t)map->width * (size_t)map->height;
  uint8_t *plain = calloc(count, 1);
  runs r = {map, map->bytes + map->pixels_at, map->bytes + map->size, plain, 0, 0};
  if (!plain) refuse(reason, "out of memory");
  if (plain && !unpack(&r)) {
    map->depth = 8;
    return plain;
  }
  if (plain) refuse(reason, "the file is cut off or damaged: its pixels cannot be unpacked");
  free(plain);
  return NULL;
}

static void put_rows(const bitmap *map, const uint8_t *from, size_t stride, decoded_picture *out) {
  const size_t to_stride = (size_t)out->width * (size_t)out->channels;
  for (int y = 0; y < out->height; y++, from += stride)
    put_row(map, from, out->pixels + to_stride * (size_t)(map->top_down ? y : out->height - 1 - y),
            out->channels);
}

int decode_bmp(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  bitmap map;
  if (read_header(&map, file, most_pixels, reason)) return -1;
  const int packed = map.packing == PACKED_8 || map.packing == PACKED_4;
  size_t stride = (size_t)(((uint64_t)map.width * (uint64_t)map.depth + 31) / 32 * 4);
  const size_t needed = packed ? 2 : stride * (size_t)map.height;
  if (map.pixels_at > map.size || map.size - map.pixels_at < needed)
    return refuse(reason, "the file is cut off: its header promises %d x %d pixels", map.width,
                  map.height);
  uint8_t *plain = packed ? unpack_pixels(&map, reason) : NULL;
  if (packed && !plain) return -1;
  if (packed) stride = (size_t)map.width;
  const int channels = map.channels[3].most ? 4 : 3;
  uint8_t *pixels = malloc((size_t)map.width * (size_t)map.height * (size_t)channels);
  if (pixels) {
    *out = (decoded_picture){pixels, map.height, map.width, channels};
    put_rows(&map, packed ? plain : map.bytes + map.pixels_at, stride, out);
    show_if_all_hidden(out);
  }
  free(plain);
  return pixels ? 0 : refuse(reason, "out of memory");
}
