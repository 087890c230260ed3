/* mistakes.h - mistakes.png: the worst mistakes, each with its truth and what was read. */
#ifndef TALLY_EVALUATE_MISTAKES_H
#define TALLY_EVALUATE_MISTAKES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../dataset.h"
#include "../output.h"
#include "../resize.h"
#include "results.h"
#include "../implementations/stb.h"

/* Letters of 5 x 8 dots for codes 32 to 126: 40 bits a letter, row after row from the top, leftmost
   dot first; the last row is below the line. */
static const uint64_t letters[95] = {
    0x0000000000, 0x2108420080, 0x5280000000, 0x52beafa940, 0x23e8e2f880, 0xc644444c60,
    0x64a88ac9a0, 0x2100000000, 0x1110841040, 0x4104211100, 0x012aea9000, 0x0109f21000,
    0x0000001888, 0x0001f00000, 0x0000003180, 0x0844444200, 0x746318c5c0, 0x23084211c0,
    0x74422223e0, 0xf88820c5c0, 0x11952f8840, 0xfc3c10c5c0, 0x3221e8c5c0, 0xf844421080,
    0x7462e8c5c0, 0x7462f08980, 0x0318063000, 0x0318061100, 0x1111041040, 0x003e0f8000,
    0x4104111100, 0x7442220080, 0x746f5bc1c0, 0x7463f8c620, 0xf463e8c7c0, 0x74610845c0,
    0xf46318c7c0, 0xfc21e843e0, 0xfc21e84200, 0x746178c5e0, 0x8c63f8c620, 0x71084211c0,
    0x3884214980, 0x8ca98a4a20, 0x84210843e0, 0x8eeb58c620, 0x8e7359ce20, 0x746318c5c0,
    0xf463e84200, 0x74631ac9a0, 0xf463ea4a20, 0x7c20e087c0, 0xf908421080, 0x8c6318c5c0,
    0x8c63152880, 0x8c635aee20, 0x8c54454620, 0x8c54421080, 0xf8444443e0, 0x72108421c0,
    0x8410410420, 0x70842109c0, 0x22a2000000, 0x000000001f, 0x4100000000, 0x001c17c5e0,
    0x843d18c7c0, 0x001d0845c0, 0x085f18c5e0, 0x001d1fc1c0, 0x323c842100, 0x001f18bc2e,
    0x843d18c620, 0x20184211c0, 0x100c21084c, 0x84254e4a20, 0x61084211c0, 0x00355ad6a0,
    0x003d18c620, 0x001d18c5c0, 0x003d18fa10, 0x001f18bc21, 0x002d884200, 0x001f0707c0,
    0x423c8420c0, 0x002318cda0, 0x002318a880, 0x00235ad540, 0x0022a22a20, 0x002318bc2e,
    0x003e2223e0, 0x1908821060, 0x2108421080, 0xc108221300, 0x0011510000,
};

typedef struct colour {
  uint8_t red, green, blue;
} colour;
static const colour ink = {40, 40, 40}, faint = {125, 125, 125}, frame = {205, 205, 205};
static const colour truth_colour = {16, 112, 48}, mistake_colour = {196, 32, 32};

/* A white sheet. */
static inline picture sheet_create(int height, int width) {
  picture sheet = {NULL, height, width, 3};
  size_t size = (size_t)height * (size_t)width * 3;
  sheet.pixels = allocate(size, 1);
  memset(sheet.pixels, 255, size);
  return sheet;
}

/* What lies outside is not drawn. */
static inline void draw_box(picture *on, int top, int left, int height, int width, colour c) {
  for (int y = top < 0 ? 0 : top; y < top + height && y < on->height; y++)
    for (int x = left < 0 ? 0 : left; x < left + width && x < on->width; x++)
      memcpy(on->pixels + ((size_t)y * (size_t)on->width + (size_t)x) * 3, &c, 3);
}

#define LETTER_PITCH 6 /* dots from one letter to the next */

static inline void draw_text(picture *on, int top, int left, int scale, const char *words,
                             colour c) {
  for (; *words; words++, left += LETTER_PITCH * scale) {
    uint64_t dots = letters[*words >= 32 && *words < 127 ? *words - 32 : '?' - 32];
    for (int i = 0; i < 40; i++)
      if (dots >> (39 - i) & 1)
        draw_box(on, top + i / 5 * scale, left + i % 5 * scale, scale, scale, c);
  }
}

/* A text as at most `room` letters that can be drawn. A longer one loses its end or, if that is
   what matters (a path), its beginning. Each character beyond ASCII becomes a question mark. */
static inline void shorten(const char *words, int room, int keep_end, char *to) {
  int length = text_width(words), skip = keep_end && length > room ? length - room : 0;
  int at = 0, place = 0;
  for (; *words; words++) {
    if ((*words & 0xC0) == 0x80 || place++ < skip) continue;
    if (at < room) to[at++] = *words >= 32 && *words < 127 ? *words : '?';
  }
  to[at] = 0;
  if (length > room) memcpy(skip ? to : to + room - 2, "..", 2);
}

/* The sheet: a title, then tiles of one picture with three lines below it. */
#define TILE_PICTURE 140
#define TILE_TEXT 54
#define TILE_WIDTH 156
#define TILE_GAP 18
#define TILE_COLUMNS 8
#define TITLE_HEIGHT 36

/* Draws a picture as large as fits a square: whole multiples for small ones, so that their pixels
   can be seen, smooth shrinking for large ones. */
static inline void draw_picture(picture *on, int top, int left, const picture *from) {
  int larger = from->height > from->width ? from->height : from->width;
  int height = from->height, width = from->width, factor = TILE_PICTURE / larger;
  if (factor < 1) {
    height = height * TILE_PICTURE / larger > 0 ? height * TILE_PICTURE / larger : 1;
    width = width * TILE_PICTURE / larger > 0 ? width * TILE_PICTURE / larger : 1;
    factor = 1;
  }
  uint8_t *fitted = allocate((size_t)height * (size_t)width, 3);
  resize_squash(from->pixels, from->height, from->width, fitted, height, width, 3);
  top += (TILE_PICTURE - height * factor) / 2;
  left += (TILE_PICTURE - width * factor) / 2;
  draw_box(on, top - 1, left - 1, height * factor + 2, width * factor + 2, frame);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const uint8_t *rgb = fitted + ((size_t)y * (size_t)width + (size_t)x) * 3;
      draw_box(on, top + y * factor, left + x * factor, factor, factor,
               (colour){rgb[0], rgb[1], rgb[2]});
    }
  free(fitted);
}

/* The picture as its owner knows it: the file in full, or the bytes of an IDX file. */
static inline picture original_picture(const dataset *data, int index) {
  picture out = {NULL, data->height, data->width, 3};
  if (data->paths) {
    const char *reason = picture_read(data->paths[index], 3, PICTURE_MAX_PIXELS, &out);
    if (reason) fail("%s: %s (it could be read before)", data->paths[index], reason);
    return out;
  }
  size_t pixels = (size_t)data->height * (size_t)data->width;
  out.pixels = allocate(pixels, 3);
  convert_channels(data->pixels + (size_t)index * pixels * (size_t)data->channels, data->channels,
                   out.pixels, 3, pixels);
  return out;
}

/* "true NAME", in small letters if the name is long, and its probability at the right. */
static inline void draw_reading(picture *on, int top, int left, const char *word, const char *name,
                                float probability, colour c) {
  char shown[TILE_WIDTH], line[TILE_WIDTH + 32];
  int width = TILE_WIDTH - 6 * LETTER_PITCH, letters_before = (int)strlen(word) + 1;
  int scale = text_width(name) + letters_before <= width / (2 * LETTER_PITCH) ? 2 : 1;
  shorten(name, width / (scale * LETTER_PITCH) - letters_before, 0, shown);
  snprintf(line, sizeof line, "%s %s", word, shown);
  draw_text(on, top + (scale == 1 ? 5 : 0), left, scale, line, c);
  snprintf(line, sizeof line, "%.3f", (double)probability);
  draw_text(on, top + 5, left + TILE_WIDTH - 5 * LETTER_PITCH, 1, line, c);
}

static inline void draw_tile(picture *on, int top, int left, const dataset *data, const results *r,
                             int index) {
  char name[TILE_WIDTH], number[32];
  picture original = original_picture(data, index);
  draw_picture(on, top, left, &original);
  free(original.pixels);
  top += TILE_PICTURE + 8;
  draw_reading(on, top, left, "true", r->set.names[r->truth[index]], r->truth_probability[index],
               truth_colour);
  draw_reading(on, top + 19, left, "read", r->set.names[r->prediction[index]],
               r->probability[index], mistake_colour);
  snprintf(number, sizeof number, "number %d", index);
  shorten(data->paths ? data->paths[index] : number, TILE_WIDTH / LETTER_PITCH, 1, name);
  draw_text(on, top + 40, left, 1, name, faint);
}

typedef struct mistake {
  int index;
  float truth_probability; /* the loss is its negative logarithm */
} mistake;

static inline int compare_mistakes(const void *a, const void *b) {
  const mistake *x = a, *y = b;
  if (x->truth_probability != y->truth_probability)
    return x->truth_probability < y->truth_probability ? -1 : 1;
  return x->index < y->index ? -1 : 1;
}

static inline void write_png(const char *path, const picture *sheet) {
  text_buffer png = {0};
  if (!stbi_write_png_to_func(append_bytes, &png, sheet->width, sheet->height, 3, sheet->pixels, 0))
    fail("out of memory for %s", path);
  write_file(path, png.data, png.length);
  free(png.data);
}

/* The mistakes with the largest loss, the worst first. */
static inline void write_mistakes(const char *folder, const dataset *data, const results *r,
                                  int worst) {
  mistake *all = allocate((size_t)r->count, sizeof *all);
  int count = 0;
  for (int i = 0; i < r->count; i++)
    if (r->truth[i] != r->prediction[i]) all[count++] = (mistake){i, r->truth_probability[i]};
  qsort(all, (size_t)count, sizeof *all, compare_mistakes);
  int shown = count < worst ? count : worst;
  int rows = (shown + TILE_COLUMNS - 1) / TILE_COLUMNS;
  int columns = shown < TILE_COLUMNS ? (shown > 4 ? shown : 4) : TILE_COLUMNS;
  picture sheet =
      sheet_create(TITLE_HEIGHT + rows * (TILE_PICTURE + TILE_TEXT + TILE_GAP) + TILE_GAP,
                   columns * (TILE_WIDTH + TILE_GAP) + TILE_GAP);
  text_buffer title = {0};
  text_add(&title, "%d of %d read wrongly", count, r->count);
  if (shown < count) text_add(&title, "; the worst %d", shown);
  draw_text(&sheet, TILE_GAP, TILE_GAP, 2, title.data, ink);
  for (int i = 0; i < shown; i++)
    draw_tile(&sheet, TITLE_HEIGHT + i / columns * (TILE_PICTURE + TILE_TEXT + TILE_GAP) + TILE_GAP,
              TILE_GAP + i % columns * (TILE_WIDTH + TILE_GAP), data, r, all[i].index);
  char *path = join_path(folder, "mistakes.png");
  write_png(path, &sheet);
  free(path);
  free(title.data);
  free(sheet.pixels);
  free(all);
}

#endif
