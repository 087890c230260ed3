/* overlay.h - one view laid over another: what is seen of the one at the cells of the other. */
#ifndef TALLY_DEDUP_OVERLAY_H
#define TALLY_DEDUP_OVERLAY_H

#include <stdlib.h>

#include "../memory.h"
#include "sketch.h"

/* Where place u of one picture's side lies on the other's: at shift + scale * u. */
typedef struct span {
  double shift, scale;
} span;

/* Where a lies in b, and how b's grey values follow from a's: gain * value + offset. */
typedef struct alignment {
  span across, down;
  double gain, offset;
} alignment;

static inline alignment align_as_is(void) {
  alignment at = {{0, 1}, {0, 1}, 1, 0};
  return at;
}

/* Which cells of b are seen at the cells of a, along one side: two neighbours, and the second's share. */
typedef struct lookup {
  int first, end; /* cells of a that lie in b */
  int cell[VIEW_FINEST];
  float share[VIEW_FINEST];
} lookup;

/* Room in which two views are compared, kept by each thread. */
typedef struct overlay {
  lookup across, down;
  float columns[5][VIEW_FINEST]; /* sums down the columns, side by side for vector instructions */
  float seen[VIEW_FINEST * VIEW_FINEST];     /* of b at the cells of a */
  float expected[VIEW_FINEST * VIEW_FINEST]; /* there, if b is a copy: a in b's tone */
  float step[VIEW_FINEST * VIEW_FINEST];     /* of what is expected, to the cells around */
} overlay;

/* The cells of a that are compared. */
typedef struct region {
  int left, right, top, bottom;
} region;

static inline void look_up(span at, int side, lookup *to) {
  to->first = to->end = 0;
  for (int i = 0; i < side; i++) {
    double cell = (at.shift + at.scale * place_of(i, side) + 1) / 2 * side - 0.5;
    if (cell < -0.25 || cell > side - 0.75) continue; /* a quarter of a cell may lie outside */
    cell = clamp(cell, 0, side - 1.0001);
    to->cell[i] = (int)cell;
    to->share[i] = (float)(cell - (int)cell);
    if (to->first == to->end) to->first = i;
    to->end = i + 1;
  }
}

/* Lays a view of a over one of b of as many cells: sets `seen`. */
static inline void look(view b, const alignment *at, overlay *to) {
  look_up(at->across, b.side, &to->across);
  look_up(at->down, b.side, &to->down);
  for (int y = to->down.first; y < to->down.end; y++) {
    const uint8_t *row = b.cells + to->down.cell[y] * b.side;
    float share = to->down.share[y], *seen = to->seen + y * b.side, *blend = to->columns[0];
    for (int x = 0; x < b.side; x++)
      blend[x] = (float)row[x] + share * (float)(row[x + b.side] - row[x]);
    for (int x = to->across.first; x < to->across.end; x++) {
      const float *pair = blend + to->across.cell[x];
      seen[x] = pair[0] + to->across.share[x] * (pair[1] - pair[0]);
    }
  }
}

/* All cells seen but the outermost, which have no neighbours. */
static inline region region_of(const overlay *o) {
  region out = {o->across.first + 1, o->across.end - 1, o->down.first + 1, o->down.end - 1};
  return out;
}

static inline double region_cells(const region *in) {
  return (double)(in->bottom - in->top) * (in->right - in->left);
}

#endif
