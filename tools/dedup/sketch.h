/* sketch.h - what is kept of a picture to compare it with others: grey views of it, which its sides are
   stretched to, of 32 x 32 cells, 64 x 64 and so on. */
#ifndef TALLY_DEDUP_SKETCH_H
#define TALLY_DEDUP_SKETCH_H

#include <stdint.h>
#include <stdlib.h>

#include "../memory.h"
#include "../picture.h"
#include "../resize.h"
#include "equations.h"

#define VIEW_COARSEST 32 /* cells a side */
#define VIEW_LEVELS 5    /* 32, 64, 128, 256, 512 */
#define VIEW_FINEST (VIEW_COARSEST << (VIEW_LEVELS - 1))

/* A grey picture stretched to a square of cells. */
typedef struct view {
  int side;
  const uint8_t *cells;
} view;

#define ALIGNED_LEVELS 4 /* views by which one picture is laid over another */
#define UNKNOWNS 6       /* of it: shift and scale across, shift and scale down, gain, offset */

typedef struct sketch {
  int height, width; /* of the picture */
  int levels;
  uint8_t *cells;                                    /* of all views, the coarsest first */
  float inverse[ALIGNED_LEVELS][UNKNOWNS][UNKNOWNS]; /* of the matrix of align_step */
} sketch;

/* Cells of the first `levels` views together. */
static inline size_t sketch_size(int levels) {
  return (size_t)VIEW_COARSEST * VIEW_COARSEST * (((size_t)1 << (2 * levels)) - 1) / 3;
}

static inline view sketch_view(const sketch *of, int level) {
  view out = {VIEW_COARSEST << level, of->cells + sketch_size(level)};
  return out;
}

static inline int shorter_side(const sketch *s) {
  return s->height < s->width ? s->height : s->width;
}

/* The middle of a cell as a place on its side, -1 to 1. */
static inline double place_of(int cell, int side) {
  return (2 * cell + 1.0) / side - 1;
}

/* Solves once for all what align_step asks: how what is seen in a cell changes with each unknown. */
static inline void sketch_prepare(sketch *s, int level) {
  view v = sketch_view(s, level);
  double m[UNKNOWNS * UNKNOWNS] = {0}, stiffness[UNKNOWNS], trace = 1;
  for (int y = 1; y < v.side - 1; y++)
    for (int x = 1; x < v.side - 1; x++) {
      const uint8_t *cell = v.cells + y * v.side + x;
      double right = (cell[1] - cell[-1]) * v.side / 4.0;
      double down = (cell[v.side] - cell[-v.side]) * v.side / 4.0;
      double factors[UNKNOWNS] = {
          right, right * place_of(x, v.side), down, down * place_of(y, v.side), -(double)cell[0],
          -256};
      add_products(m, factors, UNKNOWNS);
    }
  for (int r = 0; r < UNKNOWNS; r++) trace += m[r * UNKNOWNS + r];
  for (int r = 0; r < UNKNOWNS; r++) stiffness[r] = 1e-6 * trace; /* so that it has an inverse */
  complete_matrix(m, stiffness, UNKNOWNS);
  invert_matrix(m, UNKNOWNS);
  for (int i = 0; i < UNKNOWNS * UNKNOWNS; i++)
    s->inverse[level][i / UNKNOWNS][i % UNKNOWNS] = (float)m[i];
}

/* Of a grey picture. `to` owns cells. */
static inline void sketch_make(const picture *grey, int levels, sketch *to) {
  to->height = grey->height;
  to->width = grey->width;
  to->levels = levels;
  to->cells = allocate(sketch_size(levels), 1);
  for (int level = levels - 1; level >= 0; level--) {
    int side = VIEW_COARSEST << level;
    uint8_t *cells = to->cells + sketch_size(level);
    if (level == levels - 1)
      resize_squash(grey->pixels, grey->height, grey->width, cells, side, side, 1);
    else
      resize_squash(to->cells + sketch_size(level + 1), 2 * side, 2 * side, cells, side, side, 1);
    if (level < ALIGNED_LEVELS) sketch_prepare(to, level);
  }
}

/* The sketch of a picture's mirror image, left and right exchanged. `to` owns cells. */
static inline void sketch_mirror(const sketch *from, sketch *to) {
  *to = *from;
  to->cells = allocate(sketch_size(from->levels), 1);
  for (int level = 0; level < from->levels; level++) {
    int side = VIEW_COARSEST << level;
    const uint8_t *cells = from->cells + sketch_size(level);
    uint8_t *mirrored = to->cells + sketch_size(level);
    for (int i = 0; i < side * side; i++)
      mirrored[i] = cells[i / side * side + side - 1 - i % side];
    if (level < ALIGNED_LEVELS) sketch_prepare(to, level);
  }
}

#endif
