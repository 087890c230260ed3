/* dirt.h - what paper meets before it is scanned: specks, stains, pencil, folds, a stamp.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_DIRT_H
#define TALLY_SYNTH_DIRT_H

#include "press.h"

/* A blot or the ring of a cup: a few translucent discs about a place. */
static inline void stain(canvas *on, cn_random *random, double x, double y, double unit) {
  double size = unit * between(random, 8, 45), tone = between(random, 0, 30);
  ink with = {{to_byte(150 + tone), to_byte(120 + tone), to_byte(80 + 2 * tone)}, 0, 0.5};
  with.strength = between(random, 0.12, 0.45);
  if (chance(random, 0.3)) {
    tally_point ring[25];
    for (int i = 0; i < 25; i++) {
      double r = size * (1.5 + 0.02 * normal(random)), angle = 6.2831853 * i / 24;
      ring[i] = (tally_point){x + r * cos(angle), y + r * sin(angle)};
    }
    mask_curve(on, ring, 25, unit * between(random, 3, 8), random);
  } else {
    for (int i = 0; i < 5; i++)
      mask_disc(on, x + 0.5 * size * normal(random), y + 0.5 * size * normal(random),
                size * between(random, 0.3, 0.8));
  }
  canvas_ink(on, &with);
}

/* A stray line or tick of a pencil. */
static inline void pencil_mark(canvas *on, cn_random *random, double x, double y, double unit) {
  ink with = {{95, 95, 100}, 0, 0.8};
  tally_point path[4];
  double turn = between(random, 0, 6.28), length = unit * between(random, 12, 70);
  with.strength = between(random, 0.25, 0.6);
  for (int i = 0; i < 4; i++)
    path[i] = (tally_point){x + length * (i / 3.0 * cos(turn) + 0.08 * normal(random)),
                            y + length * (i / 3.0 * sin(turn) + 0.08 * normal(random))};
  mask_curve(on, path, 4, unit * between(random, 1, 2.2), random);
  canvas_ink(on, &with);
}

/* A fold across the page, a little darker than the paper. */
static inline void fold(canvas *on, cn_random *random, const tally_template *form) {
  double y = form->height * between(random, 0.2, 0.8), slope = 0.01 * normal(random) * form->width;
  ink with = {{150, 150, 150}, between(random, 0.1, 0.4), 0.2};
  double pen = form->width / 1000 * between(random, 1, 3);
  mask_line(on, 0, y, form->width, y + slope, pen);
  canvas_ink(on, &with);
}

/* A round rubber stamp beside the table. */
static inline void stamp(canvas *on, cn_random *random, const press *p) {
  ink with = {{90, 60, 150}, between(random, 0.3, 0.7), 0.8};
  double radius = p->unit * between(random, 35, 50),
         x = p->form->width * between(random, 0.25, 0.75);
  double y = p->bottom + radius + 60 * p->unit;
  tally_point ring[33];
  if (!is_free(p, x - radius, y - radius, 2 * radius, 2 * radius)) return;
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < 33; i++) {
      double angle = 6.2831853 * i / 32, r = radius * (k ? 0.65 : 1);
      ring[i] = (tally_point){x + r * cos(angle), y + r * sin(angle)};
    }
    mask_curve(on, ring, 33, 2 * p->unit, random);
  }
  mask_words(on, x - 0.5 * radius, y - 6 * p->unit, 12 * p->unit, 2 * p->unit, "SEAL");
  canvas_ink(on, &with);
}

/* Everything that happens to a page, the more severe the more of it. */
static inline void soil(canvas *on, cn_random *random, const press *p) {
  const tally_template *form = p->form;
  double s = p->severity;
  if (s == 0) return;
  int specks = (int)(between(random, 0, 30) * s);
  for (int i = 0; i < specks; i++)
    mask_disc(on, between(random, 0, form->width), between(random, 0, form->height),
              p->unit * between(random, 0.4, 1.2));
  canvas_ink(on, &p->black);
  for (int i = 0; i < 2; i++) {
    if (chance(random, 0.15 * s))
      stain(on, random, between(random, 0, form->width), between(random, 0, form->height), p->unit);
    if (chance(random, 0.12 * s))
      pencil_mark(on, random, between(random, p->left, p->right),
                  between(random, p->top, p->bottom), p->unit);
  }
  if (chance(random, 0.12 * s)) fold(on, random, form);
  if (chance(random, 0.25 * s)) stamp(on, random, p);
}

#endif
