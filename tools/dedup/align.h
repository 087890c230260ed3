/* align.h - where one picture lies on another, by least squares. */
#ifndef TALLY_DEDUP_ALIGN_H
#define TALLY_DEDUP_ALIGN_H

#include <math.h>
#include <string.h>

#include "overlay.h"

#define CUT_MOST                                                                                   \
  0.08 /* of half a side: an edge of the one lies that near to the other's (4 % of it) */
#define STEP_MOST 0.05

static inline void span_move(span *s, double shift, double scale) {
  double low = clamp(s->shift + shift - s->scale - scale + 1, -CUT_MOST, CUT_MOST);
  double high = clamp(s->shift + shift + s->scale + scale - 1, -CUT_MOST, CUT_MOST);
  s->shift = (low + high) / 2;
  s->scale = 1 + (high - low) / 2;
}

/* Sums of the differences between a, in b's tone, and what is seen, times each unknown's factor. */
static inline void align_sums(view a, overlay *o, const alignment *at, double *sums) {
  region in = region_of(o);
  const float gain = (float)at->gain, offset = (float)at->offset;
  float *right = o->columns[0], *down = o->columns[1], *high = o->columns[2];
  float *tone = o->columns[3], *all = o->columns[4];
  memset(o->columns, 0, sizeof o->columns);
  for (int y = in.top; y < in.bottom; y++) {
    const uint8_t *cell = a.cells + y * a.side;
    const float *seen = o->seen + y * a.side, place = (float)place_of(y, a.side);
    for (int x = in.left; x < in.right; x++) {
      float error = gain * (float)cell[x] + offset - seen[x];
      float fall = error * (float)(cell[x + a.side] - cell[x - a.side]);
      right[x] += error * (float)(cell[x + 1] - cell[x - 1]);
      down[x] += fall;
      high[x] += fall * place;
      tone[x] += error * (float)cell[x];
      all[x] += error;
    }
  }
  for (int x = in.left; x < in.right; x++) {
    const double slopes = a.side / 4.0;
    sums[0] += slopes * (double)right[x];
    sums[1] += slopes * (double)right[x] * place_of(x, a.side);
    sums[2] += slopes * (double)down[x];
    sums[3] += slopes * (double)high[x];
    sums[4] -= (double)tone[x];
    sums[5] -= 256 * (double)all[x];
  }
}

/* One step towards where a lies in b: Lucas and Kanade 1981 with the slopes of a, so that the matrix is
   known beforehand (Baker and Matthews 2004). Returns how far it went. */
static inline double align_step(const sketch *a, int level, overlay *o, alignment *at) {
  double sums[UNKNOWNS] = {0}, move[UNKNOWNS], most = 0;
  align_sums(sketch_view(a, level), o, at, sums);
  for (int r = 0; r < UNKNOWNS; r++) {
    move[r] = 0;
    for (int c = 0; c < UNKNOWNS; c++) move[r] += (double)a->inverse[level][r][c] * sums[c];
    if (r < 4) move[r] = clamp(move[r] / at->gain, -STEP_MOST, STEP_MOST);
    if (r < 4) most = fmax(most, fabs(move[r]));
  }
  span_move(&at->across, move[0], move[1]);
  span_move(&at->down, move[2], move[3]);
  at->gain = clamp(at->gain + move[4], 0.3, 3);
  at->offset = clamp(at->offset + 256 * move[5], -400, 400);
  return most;
}

#define STEPS_MOST 8
#define STEP_LEAST 0.2 /* of half a cell: nearer to their place they need not be */

/* Lays a view of a over that of b where it fits best, beginning from `at`; fixed leaves it there. */
static inline void align(const sketch *a, const sketch *b, int level, int fixed, alignment *at,
                         overlay *o) {
  const view seen = sketch_view(b, level);
  double step = fixed ? 0 : STEP_MOST;
  look(seen, at, o);
  for (int k = 0; k < STEPS_MOST && step > STEP_LEAST / seen.side; k++) {
    step = align_step(a, level, o, at);
    look(seen, at, o);
  }
}

#endif
