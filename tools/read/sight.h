/* sight.h - what is seen of a picture: where the form lies, its cells, and what the network says of them. */
#ifndef TALLY_READ_SIGHT_H
#define TALLY_READ_SIGHT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../forms.h"
#include "classifier.h"

/* Everything that later steps need of a picture. */
typedef struct sight {
  int readable, registered;
  char reason[160]; /* why it is not registered */
  tally_registration where;
  tally_cell *cells; /* [form->cells]; the journal keeps their state and dash only */
  float *rows;       /* [form->cells][TALLY_CLASSES] probabilities */
} sight;

static inline sight sight_make(const tally_template *form) {
  sight s;
  memset(&s, 0, sizeof s);
  s.cells = allocate((size_t)form->cells, sizeof *s.cells);
  s.rows = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *s.rows);
  return s;
}

static inline void sight_free(sight *s) {
  free(s->cells);
  free(s->rows);
}

static inline void see(classifier *c, const char *path, const tally_template *form,
                       const tally_print *print, int raw, sight *out) {
  tally_image photo;
  const char *reason = form_register(path, form, print, &photo, &out->where);
  out->readable = photo.pixels != NULL;
  out->registered = !reason;
  snprintf(out->reason, sizeof out->reason, "%s", reason ? reason : "");
  if (!reason) {
    if (tally_cut(&photo, form, &out->where, out->cells) != TALLY_OK) fail("out of memory");
    classify(c, out->cells, form->cells, raw, out->rows);
  }
  tally_image_free(&photo);
}

#endif
