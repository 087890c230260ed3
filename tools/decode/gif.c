/* GIF (CompuServe's GIF89a specification): the first frame, of an animation too, and whether the file is
   whole. */
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

#define CUT "the file is cut off: its end is missing"
#define DAMAGED "the file is damaged: its pixels cannot be unpacked"
#define MOST_CODES 4096
#define SCREEN 13 /* bytes of the signature and the screen's descriptor */

/* ---- codes ----------------------------------------------------------------------------------- */

/* The bits of a chain of blocks, each of which begins with its length; the last one has none. */
typedef struct blocks {
  const uint8_t *at, *end;
  unsigned left; /* bytes in this block */
  uint32_t held; /* the next bits, the first one lowest */
  unsigned count;
} blocks;

/* The next code of `width` bits; -1 behind the last one. */
static int take_code(blocks *from, unsigned width) {
  while (from->count < width) {
    if (!from->left) {
      if (from->at == from->end || !*from->at) return -1;
      from->left = *from->at++;
    }
    if (from->at == from->end) return -1;
    from->held |= (uint32_t)*from->at++ << from->count;
    from->count += 8;
    from->left--;
  }
  const int code = (int)(from->held & ((1u << width) - 1));
  from->held >>= width;
  from->count -= width;
  return code;
}

/* What a code stands for: what `before` does, and one pixel more. */
typedef struct table {
  uint16_t before[MOST_CODES];
  uint8_t pixel[MOST_CODES];
  uint32_t length[MOST_CODES];
  int next; /* the code that is defined next */
} table;

/* Writes the pixels of a code, as many as there is room for. Returns the first of them. */
static uint8_t put_pixels(const table *codes, int code, uint8_t *to, size_t room) {
  for (uint32_t i = codes->length[code]; i-- > 1; code = codes->before[code])
    if (i < room) to[i] = codes->pixel[code];
  if (room) to[0] = codes->pixel[code];
  return codes->pixel[code];
}

/* Unpacks exactly `size` pixels of codes from `least` + 1 bits on (appendix F); -1 if there are fewer.
   Codes stay as they are when all are defined, until they are cleared. */
static int unpack(blocks *from, unsigned least, uint8_t *to, size_t size) {
  table codes;
  const int clear = 1 << least;
  int before = -1;
  unsigned width = least + 1;
  codes.next = clear + 2;
  for (int i = 0; i < clear; i++) {
    codes.pixel[i] = (uint8_t)i;
    codes.length[i] = 1;
  }
  for (size_t done = 0; done < size;) {
    const int code = take_code(from, width);
    const int is_pixel = code >= 0 && code < clear;
    if (code < 0 || code == clear + 1 || code > codes.next || (is_pixel && code > 255) ||
        (code == codes.next && before < 0))
      return -1;
    if (code == clear) {
      codes.next = clear + 2;
      width = least + 1;
      before = -1;
      continue;
    }
    const int is_new = before >= 0 && codes.next < MOST_CODES;
    if (is_new) { /* its last pixel is the first one of this code, which may be the new one itself */
      codes.before[codes.next] = (uint16_t)before;
      codes.length[codes.next] = codes.length[before] + 1;
    }
    const uint8_t first =
        put_pixels(&codes, code == codes.next ? before : code, to + done, size - done);
    if (is_new) codes.pixel[codes.next++] = first;
    if (code == codes.next - 1) put_pixels(&codes, code, to + done, size - done);
    if (codes.next == 1 << width && width < 12) width++;
    done += codes.length[code];
    before = code;
  }
  return 0;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The first frame. */
typedef struct frame {
  const uint8_t *descriptor; /* NULL: there was none */
  const uint8_t *codes;      /* where they begin, with their least width */
  const uint8_t *colours;    /* NULL: there are none */
  int colour_count;
  int transparent; /* the index of that colour, or -1 */
} frame;

/* Behind a chain of blocks; NULL if it does not end. */
static const uint8_t *skip_blocks(const uint8_t *at, const uint8_t *end) {
  while (at < end && *at) {
    if (end - at <= *at) return NULL;
    at += 1 + *at;
  }
  return at < end ? at + 1 : NULL;
}

/* Colours in a table that this byte announces. */
static int count_colours(uint8_t flags) {
  return flags & 0x80 ? 2 << (flags & 7) : 0;
}

/* An extension behind its mark; the one that controls the next frame has four bytes. */
static const uint8_t *read_extension(const uint8_t *at, const uint8_t *end, frame *first) {
  if (end - at > 6 && at[0] == 0xF9 && at[1] == 4 && !first->descriptor)
    first->transparent = at[2] & 1 ? at[5] : -1;
  return end - at > 1 ? skip_blocks(at + 1, end) : NULL;
}

/* A frame behind its mark. */
static const uint8_t *read_frame(const uint8_t *at, const uint8_t *end, frame *first) {
  if (end - at < 10 || end - at - 10 < 3 * count_colours(at[8])) return NULL;
  const uint8_t *codes = at + 9 + 3 * count_colours(at[8]);
  if (!first->descriptor) {
    first->descriptor = at;
    first->codes = codes;
    if (count_colours(at[8])) {
      first->colours = at + 9;
      first->colour_count = count_colours(at[8]);
    }
  }
  return skip_blocks(codes + 1, end);
}

/* Goes through all blocks to the trailer. */
static int read_blocks(const file_view *file, frame *first, char reason[DECODE_REASON]) {
  const uint8_t *at = file->bytes + SCREEN, *end = file->bytes + file->size;
  if (file->size < SCREEN) return refuse(reason, CUT);
  const int colours = count_colours(file->bytes[10]);
  if (colours) first->colours = at;
  first->colour_count = colours;
  if (end - at < 3 * colours) return refuse(reason, CUT);
  at += 3 * colours;
  while (at && at < end) {
    const uint8_t kind = *at++;
    if (kind == ';') return first->descriptor ? 0 : refuse(reason, "there is no picture in it");
    if (kind == '!')
      at = read_extension(at, end, first);
    else if (kind == ',')
      at = read_frame(at, end, first);
    else
      return refuse(reason, "the file is damaged: it has a part that is not known");
  }
  return refuse(reason, CUT);
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* The row that is stored as the i-th of an interlaced frame (appendix E). */
static int interlaced_row(int i, int height) {
  static const int starts[] = {0, 4, 2, 1}, steps[] = {8, 8, 4, 2};
  for (int pass = 0; pass < 4; pass++) {
    const int rows = (height - starts[pass] + steps[pass] - 1) / steps[pass];
    if (i < rows) return starts[pass] + i * steps[pass];
    i -= rows;
  }
  return 0;
}

/* Lays the frame into its place; what it does not cover stays transparent. */
static void put_frame(const frame *from, const uint8_t *indices, decoded_picture *out) {
  const uint8_t *place = from->descriptor;
  const size_t left = little_16(place), top = little_16(place + 2);
  const int width = (int)little_16(place + 4), height = (int)little_16(place + 6);
  for (int i = 0; i < height; i++) {
    const size_t row = top + (size_t)(place[8] & 0x40 ? interlaced_row(i, height) : i);
    uint8_t *to = out->pixels + (row * (size_t)out->width + left) * 4;
    for (int x = 0; x < width; x++, to += 4) {
      const int index = *indices++;
      if (index < from->colour_count) memcpy(to, from->colours + 3 * index, 3);
      to[3] = index == from->transparent ? 0 : 255;
    }
  }
}

static int largest(uint32_t a, uint32_t b) {
  return (int)(a > b ? a : b);
}

int decode_gif(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  frame first = {NULL, NULL, NULL, 0, -1};
  if (read_blocks(file, &first, reason)) return -1;
  const uint8_t *place = first.descriptor;
  const uint32_t width = little_16(place + 4), height = little_16(place + 6);
  decoded_picture got = {NULL, largest(little_16(file->bytes + 8), little_16(place + 2) + height),
                         largest(little_16(file->bytes + 6), little_16(place) + width), 4};
  if (refuse_size(got.width, got.height, most_pixels, reason)) return -1;
  if (!first.colours) return refuse(reason, "it has no table of colours");
  if (*first.codes < 1 || *first.codes > 11) return refuse(reason, DAMAGED);
  blocks codes = {first.codes + 1, file->bytes + file->size, 0, 0, 0};
  const size_t count = (size_t)width * height;
  uint8_t *indices = malloc(count + 1);
  got.pixels = calloc((size_t)got.width * (size_t)got.height, 4);
  int failed = indices && got.pixels ? 0 : refuse(reason, "out of memory");
  if (!failed && unpack(&codes, *first.codes, indices, count)) failed = refuse(reason, DAMAGED);
  if (!failed)
    put_frame(&first, indices, &got);
  else
    free(got.pixels);
  free(indices);
  if (!failed) *out = got;
  return failed;
}
