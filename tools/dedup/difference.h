/* difference.h - the largest difference at one place, beside what copying explains there.

   Recompressing and resizing leave differences all over the picture, so that their mean tells how large
   they may be at one place, and larger ones along edges, in proportion to the step there. Something
   written on the one page only is a large difference at one place while the mean stays small. */
#ifndef TALLY_DEDUP_DIFFERENCE_H
#define TALLY_DEDUP_DIFFERENCE_H

#include <math.h>
#include <string.h>

#include "overlay.h"
#include "tone.h"

#define LEAST_DIFFERENCE 4.0f /* levels that always may differ */
#define NOISE_SHARE 6.0f      /* and times the mean difference, which is noise up to NOISE_MOST */
#define NOISE_MOST 4.0
#define EDGE_SHARE 0.3f    /* and of the step to the next cells */
#define CONTRAST_SHARE 0.4 /* differences that are more of the contrast are no copy's: clear sky */

static inline float larger(float a, float b) {
  return a > b ? a : b;
}

/* Sets `step`: the largest within the 3 x 3 cells round each. */
static inline void take_steps(overlay *o, int side, const region *in) {
  float *above = o->columns[0], *row = o->columns[1], *wide = o->columns[2];
  memset(o->columns, 0, 3 * sizeof o->columns[0]);
  for (int y = in->top; y < in->bottom; y++) {
    const float *cell = o->expected + y * side;
    for (int x = in->left; x < in->right; x++) {
      float across = (cell[x + 1] - cell[x - 1]) / 2, down = (cell[x + side] - cell[x - side]) / 2;
      row[x] = across * across + down * down;
    }
    row[in->left - 1] = row[in->right] = 0;
    for (int x = in->left; x < in->right; x++)
      wide[x] = larger(row[x], larger(row[x - 1], row[x + 1]));
    float *step = o->step + y * side;
    for (int x = in->left; x < in->right; x++) {
      step[x] = larger(wide[x], above[x]);
      if (y > in->top) step[x - side] = larger(step[x - side], wide[x]);
      above[x] = wide[x];
    }
  }
  for (int y = in->top; y < in->bottom; y++)
    for (int x = in->left; x < in->right; x++) o->step[y * side + x] = sqrtf(o->step[y * side + x]);
}

/* Means over the region: of what is seen, and of how far that is from what is expected. */
typedef struct means {
  double seen, apart;
} means;

static inline means take_means(overlay *o, int side, const region *in) {
  float *sum = o->columns[0], *apart = o->columns[1];
  means out = {0, 0};
  memset(o->columns, 0, 2 * sizeof o->columns[0]);
  for (int y = in->top; y < in->bottom; y++) {
    const float *row = o->seen + y * side, *other = o->expected + y * side;
    for (int x = in->left; x < in->right; x++) {
      sum[x] += row[x];
      apart[x] += fabsf(row[x] - other[x]);
    }
  }
  for (int x = in->left; x < in->right; x++) {
    out.seen += (double)sum[x] / region_cells(in);
    out.apart += (double)apart[x] / region_cells(in);
  }
  return out;
}

/* Mean difference of what is seen from its mean: how much there is to see. */
static inline double mean_contrast(const overlay *o, int side, const region *in, double mean) {
  double sum = 0;
  for (int y = in->top; y < in->bottom; y++)
    for (int x = in->left; x < in->right; x++) sum += fabs((double)o->seen[y * side + x] - mean);
  return sum / region_cells(in);
}

/* The largest difference at one place between what is seen and expected, as a multiple of what copying
   explains there; ends with one above `limit` where that is known. */
static inline double largest_difference(overlay *o, int side, double limit) {
  region in = region_of(o);
  float most = 0;
  if (in.left >= in.right || in.top >= in.bottom) return limit + 1;
  means m = take_means(o, side, &in);
  if (m.apart > CONTRAST_SHARE * mean_contrast(o, side, &in, m.seen)) return limit + 1;
  take_steps(o, side, &in);
  const float base = LEAST_DIFFERENCE + NOISE_SHARE * (float)fmin(m.apart, NOISE_MOST);
  for (int y = in.top; y < in.bottom && (double)most <= limit; y++)
    for (int x = in.left; x < in.right; x++) {
      const int i = y * side + x;
      float difference = fabsf(o->seen[i] - o->expected[i]);
      most = larger(most, difference / (base + EDGE_SHARE * o->step[i]));
    }
  return (double)most;
}

#endif
