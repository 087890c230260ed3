/* views.h - what may be shown of a registered form: parts of its table, cut out and straightened.

   Pictures of whole forms are never shown: names and signatures stand below the table. */
#ifndef TALLY_VIEWS_H
#define TALLY_VIEWS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../tally.h"
#include "messages.h"
#include "text.h"
#include "implementations/stb.h"

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
  if (tally_resize(&view, width, height, &smaller) != TALLY_OK) fail("out of memory");
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

#endif
