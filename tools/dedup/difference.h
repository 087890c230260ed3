/* difference.h - the largest difference at one place, beside what copying explains there.

   Recompressing and resizing leave differences all over the picture, so their mean tells how large they
   may be at one place, and larger ones along edges, in proportion to the step there. Something written
   on the one page only is a large difference at one place while the mean stays small. */
#ifndef TALLY_DEDUP_DIFFERENCE_H
#define TALLY_DEDUP_DIFFERENCE_H

#include <math.h>
#include <string.h>

#include "overlay.h"
#include "tone.h"

#define LEAST_DIFFERENCE 4.0 /* levels that always may differ */
#define NOISE_SHARE 6.0 /* and times the mean difference, which is noise up to NOISE_MOST levels */
#define NOISE_MOST 4.0
#define EDGE_SHARE 0.3 /* and of the step to the next cells */
#define CONTRAST_SHARE                                                                             \
  0.4 /* noise that is more of the contrast is no copy's: bare paper, clear sky */

/* The largest step, in what is expected, within the 3 x 3 cells round one. */
static inline float step_around(const overlay *o, int side, const region *in, int y, int x) {
  float most = 0;
  for (int r = y - 1; r <= y + 1; r++)
    for (int c = x - 1; c <= x + 1; c++) {
      if (r < in->top || r >= in->bottom || c < in->left || c >= in->right) continue;
      const float *cell = o->expected + r * side + c;
      float across = (cell[1] - cell[-1]) / 2, down = (cell[side] - cell[-side]) / 2;
      float step = across * across + down * down;
      if (step > most) most = step;
    }
  return sqrtf(most);
}

/* Means over the region of what is seen, and of how far that is from what is expected. */
static inline void take_means(overlay *o, int side, const region *in, double *seen, double *apart) {
  float *sum = o->columns[0], *difference = o->columns[1];
  memset(o->columns, 0, 2 * sizeof o->columns[0]);
  for (int y = in->top; y < in->bottom; y++) {
    const float *row = o->seen + y * side, *other = o->expected + y * side;
    for (int x = in->left; x < in->right; x++) {
      sum[x] += row[x];
      difference[x] += fabsf(row[x] - other[x]);
    }
  }
  *seen = *apart = 0;
  for (int x = in->left; x < in->right; x++) {
    *seen += (double)sum[x] / region_cells(in);
    *apart += (double)difference[x] / region_cells(in);
  }
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
  double mean, noise, most = 0;
  if (in.left >= in.right || in.top >= in.bottom) return limit + 1;
  take_means(o, side, &in, &mean, &noise);
  float base = (float)(LEAST_DIFFERENCE + NOISE_SHARE * fmin(noise, NOISE_MOST));
  for (int y = in.top; y < in.bottom && most <= limit; y++)
    for (int x = in.left; x < in.right; x++) {
      float difference = fabsf(o->seen[y * side + x] - o->expected[y * side + x]);
      if (difference <= (float)most * base) continue;
      float explained = base + (float)EDGE_SHARE * step_around(o, side, &in, y, x);
      most = fmax(most, (double)(difference / explained));
    }
  if (noise > CONTRAST_SHARE * mean_contrast(o, side, &in, mean)) most = limit + 1;
  return most;
}

#endif
