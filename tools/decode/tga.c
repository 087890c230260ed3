/* TGA (Truevision TGA specification, version 2.0). */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define HEADER 18
enum { PALETTE = 1, COLOURS = 2, GREY = 3, PACKED = 8 };
enum { ALPHA_BITS = 15, FROM_RIGHT = 16, FROM_TOP = 32 };

typedef struct tga {
  const uint8_t *at, *end; /* of what is left to read */
  int kind, depth, flags;
  int width, height, channels;
  const uint8_t *palette;
  unsigned first,
      colours;          /* the index of the first colour in the palette, and how many there are */
  int entry;            /* bits of each */
  int run, is_literal;  /* packed: pixels that are left, and whether each is stored */
  const uint8_t *pixel; /* the last one that was stored */
} tga;

static int is_colour(int bits) {
  return bits == 15 || bits == 16 || bits == 24 || bits == 32;
}

/* It begins without a mark of its own: all fields of its header have to be possible. */
int is_tga(const uint8_t *bytes, size_t size) {
  if (size < HEADER || !little_16(bytes + 12) || !little_16(bytes + 14)) return 0;
  const int palettes = bytes[1], kind = bytes[2] & ~PACKED, depth = bytes[16];
  if (palettes)
    return palettes == 1 && kind == PALETTE && (depth == 8 || depth == 16) && is_colour(bytes[7]);
  return kind == COLOURS ? is_colour(depth) : kind == GREY && (depth == 8 || depth == 16);
}

static int skip(tga *file, size_t count) {
  if ((size_t)(file->end - file->at) < count) return -1;
  file->at += count;
  return 0;
}

static int read_header(tga *file, const file_view *from) {
  const uint8_t *header = from->bytes;
  *file = (tga){.at = header + HEADER, .end = header + from->size};
  file->kind = header[2] & ~PACKED;
  file->width = (int)little_16(header + 12);
  file->height = (int)little_16(header + 14);
  file->depth = header[16];
  file->flags = header[17];
  if (skip(file, header[0])) return -1; /* its name */
  file->first = little_16(header + 3);
  file->colours = little_16(header + 5);
  file->entry = header[7];
  file->palette = file->at;
  file->channels = file->kind == GREY                                          ? file->depth / 8
                   : (file->kind == PALETTE ? file->entry : file->depth) == 32 ? 4
                                                                               : 3;
  return file->kind == PALETTE ? skip(file, file->colours * (((size_t)file->entry + 7) / 8)) : 0;
}

/* The next pixel as it is stored; NULL behind the end. */
static const uint8_t *next_pixel(tga *file, int is_packed) {
  const size_t bytes = ((size_t)file->depth + 7) / 8;
  int is_stored = 1;
  if (is_packed && file->run) {
    is_stored = file->is_literal;
  } else if (is_packed) {
    if (file->at == file->end) return NULL;
    file->is_literal = !(*file->at & 128);
    file->run = (*file->at++ & 127) + 1;
  }
  if (is_packed) file->run--;
  if (!is_stored) return file->pixel;
  file->pixel = file->at;
  return skip(file, bytes) ? NULL : file->pixel;
}

/* Of 15 and 16 bits each colour has five; a sixteenth bit says nothing that can be relied on. */
static void put_colour(const uint8_t *from, int bits, uint8_t *to) {
  if (bits <= 16) {
    const uint32_t value = little_16(from);
    for (int c = 0; c < 3; c++) to[c] = (uint8_t)((value >> (10 - 5 * c) & 31) * 255 / 31);
    return;
  }
  for (int c = 0; c < 3; c++) to[c] = from[2 - c];
  if (bits == 32) to[3] = from[3];
}

/* -1 if there is no such colour. */
static int put_pixel(const tga *file, const uint8_t *from, uint8_t *to) {
  if (file->kind == GREY) {
    memcpy(to, from, (size_t)file->channels);
  } else if (file->kind == COLOURS) {
    put_colour(from, file->depth, to);
  } else {
    const unsigned index = (file->depth == 8 ? *from : little_16(from)) - file->first;
    if (index >= file->colours) return -1;
    put_colour(file->palette + index * (((size_t)file->entry + 7) / 8), file->entry, to);
  }
  return 0;
}

static int put_pixels(tga *file, int is_packed, uint8_t *pixels, char reason[DECODE_REASON]) {
  const int width = file->width, height = file->height;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const uint8_t *from = next_pixel(file, is_packed);
      const size_t row = (size_t)(file->flags & FROM_TOP ? y : height - 1 - y),
                   column = (size_t)(file->flags & FROM_RIGHT ? width - 1 - x : x);
      if (!from)
        return refuse(reason, "the file is cut off: its header promises %d x %d pixels", width,
                      height);
      if (put_pixel(file, from, pixels + (row * (size_t)width + column) * (size_t)file->channels))
        return refuse(reason, "the file is damaged: a pixel has a colour that is not in its table");
    }
  return 0;
}

/* The header tells how many bits are alpha, which some write who have none. */
static void show_without_alpha(const tga *file, decoded_picture *picture) {
  const size_t count = (size_t)picture->width * (size_t)picture->height,
               channels = (size_t)picture->channels;
  if (channels % 2 == 0 && !(file->flags & ALPHA_BITS))
    for (size_t i = 1; i <= count; i++) picture->pixels[i * channels - 1] = 255;
  show_if_all_hidden(picture);
}

int decode_tga(const file_view *from, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  tga file;
  const int is_packed = from->bytes[2] & PACKED;
  if (read_header(&file, from)) return refuse(reason, "the file is cut off: it has no pixels");
  if (refuse_size(file.width, file.height, most_pixels, reason)) return -1;
  uint8_t *pixels = malloc((size_t)file.width * (size_t)file.height * (size_t)file.channels);
  if (!pixels) return refuse(reason, "out of memory");
  if (put_pixels(&file, is_packed, pixels, reason)) {
    free(pixels);
    return -1;
  }
  *out = (decoded_picture){pixels, file.height, file.width, file.channels};
  show_without_alpha(&file, out);
  return 0;
}
