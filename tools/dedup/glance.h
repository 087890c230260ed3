/* glance.h - what is compared first: 8 x 8 cells of a picture, of which copies have much the same. */
#ifndef TALLY_DEDUP_GLANCE_H
#define TALLY_DEDUP_GLANCE_H

#include <math.h>

#include "../resize.h"
#include "sketch.h"

#define GLANCE_SIDE 8
#define GLANCE_CELLS (GLANCE_SIDE * GLANCE_SIDE)

/* Cells less their mean, scaled so that their squares sum to 1: brightness and contrast are no part of it. */
typedef struct glance {
  float cells[GLANCE_CELLS];
} glance;

static inline glance glance_at(const sketch *s) {
  view v = sketch_view(s, 0);
  uint8_t cells[GLANCE_CELLS];
  glance out;
  double mean = 0, squares = 0;
  resize_squash(v.cells, v.side, v.side, cells, GLANCE_SIDE, GLANCE_SIDE, 1);
  for (int i = 0; i < GLANCE_CELLS; i++) mean += (double)cells[i] / GLANCE_CELLS;
  for (int i = 0; i < GLANCE_CELLS; i++) squares += (cells[i] - mean) * (cells[i] - mean);
  for (int i = 0; i < GLANCE_CELLS; i++)
    out.cells[i] = squares > 0 ? (float)((cells[i] - mean) / sqrt(squares)) : 0;
  return out;
}

/* The correlation of two pictures: 1 if they are the same at a glance, 0 if they have nothing in common. */
static inline float glance_correlation(const glance *a, const glance *b) {
  float sum = 0;
  for (int i = 0; i < GLANCE_CELLS; i++) sum += a->cells[i] * b->cells[i];
  return sum;
}

#endif
