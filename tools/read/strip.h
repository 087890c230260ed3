/* strip.h - a form's fields in one picture, which the page shows piece by piece. */
#ifndef TALLY_READ_STRIP_H
#define TALLY_READ_STRIP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../tally.h"
#include "../views.h"

/* Copies a picture into another, clipped. */
static inline void image_paste(tally_image *to, const tally_image *from, int left, int top) {
  for (int y = 0; y < from->height && top + y < to->height; y++)
    for (int x = 0; x < from->width && left + x < to->width; x++)
      for (int c = 0; c < 3; c++)
        to->pixels[((size_t)(top + y) * (size_t)to->width + (size_t)(left + x)) * 3 + (size_t)c] =
            from->pixels[((size_t)y * (size_t)from->width + (size_t)x) * (size_t)from->channels +
                         (size_t)(from->channels == 3 ? c : 0)];
}

/* Where a field's parts lie in its form's strip picture, in pixels: the boxes as photographed, and
   the 28 x 28 cells below each other in a second column. */
typedef struct strip_row {
  int top, width, height;    /* of the boxes; their left edge is 0 */
  int cells_left, cells_top; /* of the first cell; the others follow to the right */
} strip_row;

typedef struct strip {
  tally_image image;
  strip_row row[TALLY_MAX_FIELDS];
} strip;

static inline double strip_scale(const tally_template *form) {
  double least = form->height;
  for (int f = 0; f < form->fields; f++)
    least = fmin(least, fmin(form->field[f].cell[0].width, form->field[f].cell[0].height));
  return fmax(1, fmin(2, 46 / least));
}

/* A field's boxes with a margin in which strayed ink can be seen. */
static inline tally_box field_box(const tally_field *field) {
  const tally_box *first = &field->cell[0], *last = &field->cell[field->digits - 1];
  double margin = 0.2 * fmin(first->width, first->height);
  return (tally_box){first->x - margin, first->y - margin,
                     last->x + last->width - first->x + 2 * margin, first->height + 2 * margin};
}

/* Ink on paper, as a person expects it; networks want it the other way round. */
static inline void paste_cell(tally_image *to, const uint8_t *cell, int left, int top) {
  uint8_t paper[TALLY_SIDE * TALLY_SIDE];
  for (int i = 0; i < TALLY_SIDE * TALLY_SIDE; i++) paper[i] = (uint8_t)(255 - cell[i]);
  tally_image grey = {paper, TALLY_SIDE, TALLY_SIDE, 1};
  image_paste(to, &grey, left, top);
}

/* How large a strip is. */
typedef struct strip_size {
  int width, height;
} strip_size;

/* Where everything lies in the strip of a form: the same in all its pictures. */
static inline strip_size strip_layout(const tally_template *form, strip_row row[TALLY_MAX_FIELDS]) {
  int widest = 0, height = 0, most_digits = 1;
  double scale = strip_scale(form);
  for (int f = 0; f < form->fields; f++) {
    tally_box box = field_box(&form->field[f]);
    int wide = (int)ceil(box.width * scale), tall = (int)ceil(box.height * scale);
    row[f] = (strip_row){height, wide, tall, 0, height};
    height += tall > TALLY_SIDE ? tall : TALLY_SIDE;
    widest = wide > widest ? wide : widest;
    most_digits = form->field[f].digits > most_digits ? form->field[f].digits : most_digits;
  }
  for (int f = 0; f < form->fields; f++) row[f].cells_left = widest;
  return (strip_size){widest + most_digits * TALLY_SIDE, height};
}

/* An empty strip. */
static inline strip strip_make(const tally_template *form) {
  strip out;
  memset(&out, 0, sizeof out);
  strip_size size = strip_layout(form, out.row);
  if (tally_image_make(size.width, size.height, 3, &out.image) != TALLY_OK) fail("out of memory");
  memset(out.image.pixels, 255, (size_t)size.width * (size_t)size.height * 3);
  return out;
}

static inline strip strip_cut(const tally_image *photo, const tally_template *form,
                              const tally_registration *where, const tally_cell *cells, int raw) {
  double scale = strip_scale(form);
  strip out = strip_make(form);
  for (int f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    const strip_row *row = &out.row[f];
    tally_image boxes = view_cut(photo, where, f, field_box(field), scale);
    image_paste(&out.image, &boxes, 0, row->top);
    for (int p = 0; p < field->digits; p++) {
      const tally_cell *cell = &cells[field->first_cell + p];
      paste_cell(&out.image, raw ? cell->raw : cell->clean, row->cells_left + p * TALLY_SIDE,
                 row->cells_top);
    }
    tally_image_free(&boxes);
  }
  return out;
}

#endif
