/* likeness.h - a second look at two pictures that are alike at first sight: whether the same is written
   on them.

   Pages of one form differ in a few strokes of a pen, which vanish in a thumbnail. So both are looked
   at on a fine grid, where a stroke still darkens the cells that it crosses. What copying does to a
   picture - compression, resizing, other brightness - is small and lies everywhere, or is large only
   along edges that both pictures have; what was written differs where one of them has no edge, and in
   several cells beside each other. */
#ifndef TALLY_LIKENESS_H
#define TALLY_LIKENESS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "resize.h"

#define LOOK_SIDE                                                                                  \
  192 /* cells a side; on a page of 1000 x 1600 pixels one is 5 x 8, a pen's line 4 wide */
#define LOOK_CELLS (LOOK_SIDE * LOOK_SIDE)

/* Luminance of a picture, stretched over the grid. */
typedef struct look {
  uint8_t *cells; /* [LOOK_CELLS] */
} look;

static inline look look_take(const uint8_t *rgb, int height, int width) {
  look out = {allocate(LOOK_CELLS, 1)};
  uint8_t *colours = allocate(LOOK_CELLS, 3);
  resize_squash(rgb, height, width, colours, LOOK_SIDE, LOOK_SIDE, 3);
  for (int i = 0; i < LOOK_CELLS; i++)
    out.cells[i] = (uint8_t)((77 * colours[3 * i] + 150 * colours[3 * i + 1] +
                              29 * colours[3 * i + 2] + 128) >>
                             8);
  free(colours);
  return out;
}

/* ---- which part of a picture the other one shows ------------------------------------------------- */

#define MOST_CROP 0.035  /* of a side, that copies may lack at either end */
#define LEAST_CROP 0.003 /* below it a picture counts as whole: about half a cell */

/* From low to high in shares of the first picture's side; beyond 0 and 1 where the second shows more. */
typedef struct part {
  double low, high;
} part;

/* Means of a look's columns, or rows, with mean 0 and deviation 1. */
static inline void look_profile(const look *of, int rows, double out[LOOK_SIDE]) {
  double mean = 0, squares = 0;
  for (int i = 0; i < LOOK_SIDE; i++) {
    int sum = 0;
    for (int k = 0; k < LOOK_SIDE; k++)
      sum += of->cells[rows ? i * LOOK_SIDE + k : k * LOOK_SIDE + i];
    out[i] = sum;
    mean += out[i] / LOOK_SIDE;
  }
  for (int i = 0; i < LOOK_SIDE; i++) {
    out[i] -= mean;
    squares += out[i] * out[i] / LOOK_SIDE;
  }
  for (int i = 0; i < LOOK_SIDE; i++) out[i] /= sqrt(squares) + 1e-9;
}

/* Mean square between one profile and the part p of the other, over every step-th cell. */
static inline double misfit_of(const double a[LOOK_SIDE], const double b[LOOK_SIDE], part p,
                               int step) {
  double sum = 0;
  int count = 0;
  for (int at = step / 2; at < LOOK_SIDE; at += step) {
    double x = (p.low + (p.high - p.low) * (at + 0.5) / LOOK_SIDE) * LOOK_SIDE - 0.5;
    int left = (int)floor(x);
    if (left < 0 || left + 1 >= LOOK_SIDE) continue;
    double apart = a[left] + (x - left) * (a[left + 1] - a[left]) - b[at];
    sum += apart * apart;
    count++;
  }
  return sum / count;
}

/* The part of one profile that the other shows: in wide steps at first, then in ever smaller ones around
   the best. *misfit is the mean square. */
static inline part find_part(const double a[LOOK_SIDE], const double b[LOOK_SIDE], double *misfit) {
  part best = {0, 1};
  *misfit = misfit_of(a, b, best, 1);
  for (double stride = MOST_CROP / 7; stride > LEAST_CROP / 8; stride /= 2) {
    int reach = stride < MOST_CROP / 8 ? 1 : 7;
    part from = best;
    for (int i = -reach; i <= reach; i++)
      for (int k = -reach; k <= reach; k++) {
        part p = {from.low + i * stride, from.high + k * stride};
        double m = misfit_of(a, b, p, reach > 1 ? 3 : 1);
        if (m >= *misfit) continue;
        *misfit = m;
        best = p;
      }
  }
  return best;
}

/* Whether this is less than all of a picture. */
static inline int is_cut(part p) {
  return fabs(p.low) > LEAST_CROP || fabs(p.high - 1) > LEAST_CROP;
}

/* ---- the comparison -------------------------------------------------------------------------------- */

#define SPECKLE 5.0f /* levels; what compression leaves of a cell's mean */
#define EDGE 0.55f /* of the range around a cell in both pictures, that resampling may move there */
#define PATCH 5    /* cells a side: a letter of small print, half a digit */
/* Levels, summed over a patch, beyond speckle and edges. Measured on forms and letters drawn for it:
   copies of JPEG quality 20, of a quarter of the size or twice reach 7, other digits in pencil of level
   200 on paper of 245 begin at 19, one other digit in pen at 30. */
#define PATCH_MOST 18.0f
#define PATCH_MOST_CUT 45.0f /* when one grid had to be laid over another: copies reach 42 */

/* A cell of the grid laid over the part of `a` that the other picture shows; -1 outside of it. */
static inline double look_at(const look *a, part down, part across, int y, int x) {
  double fy = (down.low + (down.high - down.low) * (y + 0.5) / LOOK_SIDE) * LOOK_SIDE - 0.5;
  double fx = (across.low + (across.high - across.low) * (x + 0.5) / LOOK_SIDE) * LOOK_SIDE - 0.5;
  int top = (int)floor(fy), left = (int)floor(fx);
  if (top < 0 || left < 0 || top + 1 >= LOOK_SIDE || left + 1 >= LOOK_SIDE) return -1;
  const uint8_t *p = a->cells + top * LOOK_SIDE + left;
  double upper = p[0] + (fx - left) * (p[1] - p[0]);
  double lower = p[LOOK_SIDE] + (fx - left) * (p[LOOK_SIDE + 1] - p[LOOK_SIDE]);
  return upper + (fy - top) * (lower - upper);
}

/* Largest less smallest value among a cell and its neighbours. */
static inline float range_around(const float *cells, int y, int x) {
  float low = 255, high = 0;
  for (int dy = -1; dy <= 1; dy++)
    for (int dx = -1; dx <= 1; dx++) {
      float value = cells[(y + dy) * LOOK_SIDE + x + dx];
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
  return high - low;
}

/* gain * b + offset is nearest to a, over the cells that both have. */
static inline void fit_light(const float *a, const look *b, double *gain, double *offset) {
  double n = 0, sum_a = 0, sum_b = 0, products = 0, squares = 0;
  for (int i = 0; i < LOOK_CELLS; i++) {
    if (a[i] < 0) continue;
    n++;
    sum_a += (double)a[i];
    sum_b += b->cells[i];
    products += (double)a[i] * b->cells[i];
    squares += (double)b->cells[i] * b->cells[i];
  }
  double variance = squares / n - sum_b / n * (sum_b / n);
  *gain = variance > 0 ? (products / n - sum_a / n * (sum_b / n)) / variance : 1;
  *offset = sum_a / n - *gain * (sum_b / n);
}

/* Levels of each cell beyond what copying explains. */
static inline void levels_above(const float *a, const float *b, float *above) {
  memset(above, 0, LOOK_CELLS * sizeof *above);
  for (int y = 1; y < LOOK_SIDE - 1; y++)
    for (int x = 1; x < LOOK_SIDE - 1; x++) {
      int i = y * LOOK_SIDE + x;
      float apart = fabsf(a[i] - b[i]) - SPECKLE;
      if (a[i] < 0 || apart <= 0) continue;
      apart -= EDGE * fminf(range_around(a, y, x), range_around(b, y, x));
      if (apart > 0) above[i] = apart;
    }
}

/* Their sum over the patch where it is most. */
static inline float worst_patch(const float *above) {
  float columns[LOOK_SIDE] = {0}, worst = 0; /* of the last PATCH rows */
  for (int y = 0; y < LOOK_SIDE; y++) {
    float sum = 0;
    for (int x = 0; x < LOOK_SIDE; x++) {
      columns[x] += above[y * LOOK_SIDE + x];
      if (y >= PATCH) columns[x] -= above[(y - PATCH) * LOOK_SIDE + x];
      sum += columns[x] - (x >= PATCH ? columns[x - PATCH] : 0);
      worst = fmaxf(worst, sum);
    }
  }
  return worst;
}

/* Means over 3 x 3 cells, the middle ones counting more: laying one grid over another softens lines,
   so that both are softened before they are compared. Cells below 0 are outside. */
static inline void soften(float *cells) {
  float *from = allocate(LOOK_CELLS, sizeof *from);
  memcpy(from, cells, LOOK_CELLS * sizeof *from);
  for (int y = 1; y < LOOK_SIDE - 1; y++)
    for (int x = 1; x < LOOK_SIDE - 1; x++) {
      const float *p = from + y * LOOK_SIDE + x;
      float sum = 0;
      int outside = 0;
      for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) {
          float value = p[dy * LOOK_SIDE + dx];
          outside |= value < 0;
          sum += value * (float)((2 - abs(dy)) * (2 - abs(dx)));
        }
      cells[y * LOOK_SIDE + x] = outside ? -1 : sum / 16;
    }
  free(from);
}

/* Whether the same is written on two pictures, `b` being a copy of the part of `a` that these say. */
static inline int looks_same(const look *a, const look *b, part down, part across) {
  float *mine = allocate(LOOK_CELLS, sizeof *mine), *theirs = allocate(LOOK_CELLS, sizeof *theirs);
  float *above = allocate(LOOK_CELLS, sizeof *above);
  double gain, offset;
  for (int y = 0; y < LOOK_SIDE; y++)
    for (int x = 0; x < LOOK_SIDE; x++)
      mine[y * LOOK_SIDE + x] = (float)look_at(a, down, across, y, x);
  fit_light(mine, b, &gain, &offset);
  for (int i = 0; i < LOOK_CELLS; i++) theirs[i] = (float)(gain * b->cells[i] + offset);
  int cut = is_cut(down) || is_cut(across);
  if (cut) {
    soften(mine);
    soften(theirs);
  }
  levels_above(mine, theirs, above);
  float worst = worst_patch(above);
  free(mine);
  free(theirs);
  free(above);
  return worst <= (cut ? PATCH_MOST_CUT : PATCH_MOST);
}

#endif
