/* views.h - what may be shown of a registered form: its table and its fields, cut out and
   straightened.

   Pictures of whole forms are never shown: names and signatures stand below the table. */
#ifndef TALLY_VIEWS_H
#define TALLY_VIEWS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../tally.h"
#include "messages.h"
#include "text.h"

/* The part of a page that may be shown: the cells and as much of the printed table as lies beside
   them, so that a row can be told by its label. */
static inline tally_box table_of(const tally_template *form) {
  double left = form->width, right = 0, top = form->height, bottom = 0, margin = 0;
  for (int f = 0; f < form->fields; f++)
    for (int p = 0; p < form->field[f].digits; p++) {
      const tally_box *cell = &form->field[f].cell[p];
      left = fmin(left, cell->x);
      right = fmax(right, cell->x + cell->width);
      top = fmin(top, cell->y);
      bottom = fmax(bottom, cell->y + cell->height);
      margin = fmax(margin, 0.4 * cell->height);
    }
  for (int r = 0; r < form->rules; r++)
    if (!form->rule[r].down) {
      left = fmin(left, form->rule[r].from);
      right = fmax(right, form->rule[r].to);
    }
  left = fmax(left - margin, 0);
  top = fmax(top - margin, 0);
  right = fmin(right + margin, form->width);
  bottom = fmin(bottom + margin, form->height);
  return (tally_box){left, top, right - left, bottom - top};
}

/* Part of a page, straightened, at `scale` pixels per template pixel; as the field's own boxes put
   it if field >= 0. Where the picture is much finer than the view, the view is drawn finer and
   shrunk. */
static inline tally_image view_cut(const tally_image *photo, const tally_registration *where,
                                   int field, tally_box box, double scale) {
  int width = (int)ceil(box.width * scale), height = (int)ceil(box.height * scale);
  int fine = where->scale > 2 * scale ? 2 : 1;
  double place[9] = {1 / (scale * fine), 0, box.x, 0, 1 / (scale * fine), box.y, 0, 0, 1};
  double local[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, page[9], h[9];
  if (field >= 0) {
    const double *l = where->local[field];
    double own[9] = {l[1], l[2], l[0], l[4], l[5], l[3], 0, 0, 1};
    memcpy(local, own, sizeof own);
  }
  tally_homography_multiply(where->page, local, page);
  tally_homography_multiply(page, place, h);
  tally_image view, smaller;
  if (tally_warp(photo, h, width * fine, height * fine, 245, &view) != TALLY_OK)
    fail("out of memory");
  if (fine == 1) return view;
  if (tally_resize(&view, width, height, TALLY_AREA, &smaller) != TALLY_OK) fail("out of memory");
  tally_image_free(&view);
  return smaller;
}

static inline text_buffer image_jpeg(const tally_image *image, int quality) {
  text_buffer jpeg = {0};
  if (!stbi_write_jpg_to_func(append_bytes, &jpeg, image->width, image->height, image->channels,
                              image->pixels, quality))
    fail("cannot encode a picture");
  return jpeg;
}

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

static inline strip strip_cut(const tally_image *photo, const tally_template *form,
                              const tally_registration *where, const tally_cell *cells, int raw) {
  strip out;
  tally_image view[TALLY_MAX_FIELDS];
  int widest = 0, height = 0, most_digits = 1;
  double scale = strip_scale(form);
  memset(&out, 0, sizeof out);
  for (int f = 0; f < form->fields; f++) {
    view[f] = view_cut(photo, where, f, field_box(&form->field[f]), scale);
    int line = view[f].height > TALLY_SIDE ? view[f].height : TALLY_SIDE;
    out.row[f] = (strip_row){height, view[f].width, view[f].height, 0, height};
    height += line;
    widest = view[f].width > widest ? view[f].width : widest;
    most_digits = form->field[f].digits > most_digits ? form->field[f].digits : most_digits;
  }
  if (tally_image_make(widest + most_digits * TALLY_SIDE, height, 3, &out.image) != TALLY_OK)
    fail("out of memory");
  memset(out.image.pixels, 255, (size_t)out.image.width * (size_t)height * 3);
  for (int f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    out.row[f].cells_left = widest;
    image_paste(&out.image, &view[f], 0, out.row[f].top);
    for (int p = 0; p < field->digits; p++) {
      const tally_cell *cell = &cells[field->first_cell + p];
      paste_cell(&out.image, raw ? cell->raw : cell->clean, widest + p * TALLY_SIDE,
                 out.row[f].cells_top);
    }
    tally_image_free(&view[f]);
  }
  return out;
}

#endif
