/* sight.h - what is seen of a picture: where the form lies, its cells, and what the network says of them. */
#ifndef TALLY_READ_SIGHT_H
#define TALLY_READ_SIGHT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../forms.h"
#include "../picture_hash.h"
#include "classifier.h"

#define SKETCH (TALLY_SIDE / 2)

/* Everything that later steps need of a picture. */
typedef struct sight {
  char hash[PICTURE_HASH]; /* of the picture's file */
  int readable, registered;
  char reason[160]; /* why it is not registered */
  tally_registration where;
  tally_cell *cells; /* [form->cells]; the journal keeps no pictures of them */
  float *rows;       /* [form->cells][TALLY_CLASSES] probabilities */
  uint8_t (
      *sketches)[SKETCH * SKETCH]; /* [form->cells] their ink at half size, to tell copies by */
} sight;

static inline sight sight_make(const tally_template *form) {
  sight s;
  memset(&s, 0, sizeof s);
  s.cells = allocate((size_t)form->cells, sizeof *s.cells);
  s.rows = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *s.rows);
  s.sketches = allocate((size_t)form->cells, sizeof *s.sketches);
  return s;
}

static inline void sight_free(sight *s) {
  free(s->cells);
  free(s->rows);
  free(s->sketches);
}

/* The cleaned picture of a cell at half size. */
static inline void sketch_cell(const uint8_t *clean, uint8_t *out) {
  for (int y = 0; y < SKETCH; y++)
    for (int x = 0; x < SKETCH; x++) {
      const uint8_t *at = clean + 2 * y * TALLY_SIDE + 2 * x;
      out[y * SKETCH + x] =
          (uint8_t)((at[0] + at[1] + at[TALLY_SIDE] + at[TALLY_SIDE + 1] + 2) / 4);
    }
}

static inline void see(classifier *c, const char *path, const tally_template *form,
                       const tally_print *print, int raw, sight *out) {
  tally_image photo;
  const char *reason = form_register(path, form, print, &photo, &out->where);
  picture_hash(path, out->hash);
  out->readable = photo.pixels != NULL;
  out->registered = !reason;
  snprintf(out->reason, sizeof out->reason, "%s", reason ? reason : "");
  if (!reason) {
    if (tally_cut(&photo, form, &out->where, out->cells) != TALLY_OK) fail("out of memory");
    classify(c, out->cells, form->cells, raw, out->rows);
    for (int i = 0; i < form->cells; i++) sketch_cell(out->cells[i].clean, out->sketches[i]);
  }
  tally_image_free(&photo);
}

#endif
