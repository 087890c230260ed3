/* likeness.h - whether two pictures show the same: one a copy of the other, recompressed, resized, in
   other brightness or contrast, or with a little cut off its edges.

   Internal to tools/. Of every picture a sketch is kept: grey views of 32 x 32, 64 x 64 and so on cells,
   which its sides are stretched to. Two sketches are laid over one another and compared view by view,
   the coarsest first, until one shows a difference that copying does not explain; most pairs end early.
   What remains is compared once more from its files, at 512 x 512 cells and in colour.

   What copying explains, and where the limits come from: recompressing and resizing leave differences
   all over the picture, so their mean tells how large they may be at one place, and larger ones along
   edges, in proportion to the step there. Something written on the one page only is a large difference
   at one place while the mean stays small. */
#ifndef TALLY_LIKENESS_H
#define TALLY_LIKENESS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "picture.h"
#include "resize.h"

#define VIEW_COARSEST 32 /* cells a side */
#define VIEW_LEVELS 5    /* 32, 64, 128, 256, 512 */
#define VIEW_FINEST (VIEW_COARSEST << (VIEW_LEVELS - 1))

/* A grey picture stretched to a square of cells. */
typedef struct view {
  int side;
  const uint8_t *cells;
} view;

/* ---- small systems of equations -------------------------------------------------------------- */

/* Inverts a symmetric positive definite matrix of n x n in place (Gauss-Jordan). */
static inline void invert_matrix(double *m, int n) {
  for (int i = 0; i < n; i++) {
    double pivot = m[i * n + i];
    m[i * n + i] = 1;
    for (int c = 0; c < n; c++) m[i * n + c] /= pivot;
    for (int r = 0; r < n; r++) {
      double factor = m[r * n + i];
      if (r == i) continue;
      m[r * n + i] = 0;
      for (int c = 0; c < n; c++) m[r * n + c] -= factor * m[i * n + c];
    }
  }
}

/* Adds the products of one row of unknowns' factors to the lower half of a matrix. */
static inline void add_products(double *m, const double *factors, int n) {
  for (int r = 0; r < n; r++)
    for (int c = 0; c <= r; c++) m[r * n + c] += factors[r] * factors[c];
}

/* Fills the upper half, and adds to the diagonal what keeps unknowns at 0 of which nothing is known. */
static inline void complete_matrix(double *m, const double *stiffness, int n) {
  for (int r = 0; r < n; r++) {
    for (int c = 0; c < r; c++) m[c * n + r] = m[r * n + c];
    m[r * n + r] += stiffness[r];
  }
}

static inline double clamp(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

/* ---- sketches -------------------------------------------------------------------------------- */

#define ALIGNED_LEVELS 4 /* by which pictures are laid over one another */
#define UNKNOWNS 6       /* of it: shift and scale across, shift and scale down, gain, offset */

typedef struct sketch {
  int height, width; /* of the picture */
  int levels;
  uint8_t *cells; /* of all views, the coarsest first */
  float inverse[ALIGNED_LEVELS][UNKNOWNS][UNKNOWNS]; /* for align_step */
} sketch;

/* Cells of the first `levels` views together. */
static inline size_t sketch_size(int levels) {
  return (size_t)VIEW_COARSEST * VIEW_COARSEST * (((size_t)1 << (2 * levels)) - 1) / 3;
}

static inline view sketch_view(const sketch *of, int level) {
  view out = {VIEW_COARSEST << level, of->cells + sketch_size(level)};
  return out;
}

/* The middle of a cell as a place on its side, -1 to 1. */
static inline double place_of(int cell, int side) {
  return (2 * cell + 1.0) / side - 1;
}

#define STIFFNESS 1e-6 /* of the matrix's trace */

/* Solves once for all what align_step asks: how what is seen in a cell changes with each unknown. */
static inline void sketch_prepare(sketch *s, int level) {
  view v = sketch_view(s, level);
  double m[UNKNOWNS * UNKNOWNS] = {0}, stiffness[UNKNOWNS], trace = 1;
  for (int y = 1; y < v.side - 1; y++)
    for (int x = 1; x < v.side - 1; x++) {
      const uint8_t *cell = v.cells + y * v.side + x;
      double right = (cell[1] - cell[-1]) * v.side / 4.0;
      double down = (cell[v.side] - cell[-v.side]) * v.side / 4.0;
      double factors[UNKNOWNS] = {right, right * place_of(x, v.side), down,
                                  down * place_of(y, v.side), -(double)cell[0], -256};
      add_products(m, factors, UNKNOWNS);
    }
  for (int r = 0; r < UNKNOWNS; r++) trace += m[r * UNKNOWNS + r];
  for (int r = 0; r < UNKNOWNS; r++) stiffness[r] = STIFFNESS * trace;
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
    for (int i = 0; i < side * side; i++) mirrored[i] = cells[i / side * side + side - 1 - i % side];
    if (level < ALIGNED_LEVELS) sketch_prepare(to, level);
  }
}

/* ---- laying one over the other --------------------------------------------------------------- */

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

/* What is seen of b at the cells of a; set where both lookups reach. One thread's at a time. */
typedef struct sight {
  lookup across, down;
  float bend[256]; /* for tone_fit */
  float columns[5][VIEW_FINEST]; /* sums that run down, side by side, as vector instructions like them */
  float seen[VIEW_FINEST * VIEW_FINEST];
  float expected[VIEW_FINEST * VIEW_FINEST]; /* a in b's tone */
} sight;

static inline sight *sight_create(void) {
  sight *s = allocate(1, sizeof *s);
  for (int i = 0; i < 256; i++) s->bend[i] = (float)((i + 1) * log((i + 1) / 256.0));
  return s;
}

static inline void look(view b, const alignment *at, sight *to) {
  look_up(at->across, b.side, &to->across);
  look_up(at->down, b.side, &to->down);
  for (int y = to->down.first; y < to->down.end; y++) {
    const uint8_t *row = b.cells + to->down.cell[y] * b.side;
    float share = to->down.share[y], *seen = to->seen + y * b.side;
    float *blend = to->columns[0];
    for (int x = 0; x < b.side; x++)
      blend[x] = (float)row[x] + share * (float)(row[x + b.side] - row[x]);
    for (int x = to->across.first; x < to->across.end; x++) {
      const float *pair = blend + to->across.cell[x];
      seen[x] = pair[0] + to->across.share[x] * (pair[1] - pair[0]);
    }
  }
}

/* The cells of a that are compared: those seen, without the outermost, which have no neighbours. */
typedef struct region {
  int left, right, top, bottom;
} region;

static inline region region_of(const sight *s) {
  region out = {s->across.first + 1, s->across.end - 1, s->down.first + 1, s->down.end - 1};
  return out;
}

#define CUT_MOST 0.08 /* of half a side: an edge of the one lies that near to the other's (4 % of it) */
#define STEP_MOST 0.05

static inline void span_move(span *s, double shift, double scale) {
  double low = clamp(s->shift + shift - s->scale - scale + 1, -CUT_MOST, CUT_MOST);
  double high = clamp(s->shift + shift + s->scale + scale - 1, -CUT_MOST, CUT_MOST);
  s->shift = (low + high) / 2;
  s->scale = 1 + (high - low) / 2;
}

/* Sums of the differences between a, in b's tone, and what is seen, times each unknown's factor. */
static inline void align_sums(view a, sight *s, const alignment *at, double *sums) {
  region in = region_of(s);
  const float gain = (float)at->gain, offset = (float)at->offset;
  float *right = s->columns[0], *down = s->columns[1], *high = s->columns[2];
  float *tone = s->columns[3], *all = s->columns[4];
  memset(s->columns, 0, sizeof s->columns);
  for (int y = in.top; y < in.bottom; y++) {
    const uint8_t *cell = a.cells + y * a.side;
    const float *seen = s->seen + y * a.side, place = (float)place_of(y, a.side);
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

/* One step towards where a lies in b, by least squares: Lucas and Kanade 1981 with the slopes of a, so
   that the matrix is known beforehand (Baker and Matthews 2004). Returns how far it went. */
static inline double align_step(const sketch *a, int level, sight *s, alignment *at) {
  double sums[UNKNOWNS] = {0}, move[UNKNOWNS], most = 0;
  align_sums(sketch_view(a, level), s, at, sums);
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

/* ---- tone ------------------------------------------------------------------------------------ */

/* What b shows where a shows a value: gain, offset, and a bend for gamma (x ln x is the derivative of
   x^gamma at 1); whites and blacks may be lost. Three numbers, so that it cannot hide what is written. */
typedef struct tone {
  float of[256];
} tone;

#define TONES 3
#define TONE_SAMPLES 32 /* a side are enough to fit it */

static inline void tone_set(tone *t, const sight *s, const double *by) {
  for (int i = 0; i < 256; i++)
    t->of[i] = (float)clamp(i + by[0] * i + 64 * by[1] + by[2] * s->bend[i], 0, 255);
}

/* One fit by least squares. What `t` has as lost white or black, and is seen so, does not count. */
static inline void tone_solve(view a, const sight *s, const tone *t, double *by) {
  double m[TONES * TONES] = {0}, sums[TONES] = {0}, count = 1;
  int stride = a.side > TONE_SAMPLES ? a.side / TONE_SAMPLES : 1;
  for (int y = s->down.first + stride / 2; y < s->down.end; y += stride)
    for (int x = s->across.first + stride / 2; x < s->across.end; x += stride) {
      int value = a.cells[y * a.side + x];
      float seen = s->seen[y * a.side + x], is = t->of[value];
      if ((is >= 255 && seen > 253) || (is <= 0 && seen < 2)) continue;
      double factors[TONES] = {value, 64, s->bend[value]};
      add_products(m, factors, TONES);
      for (int k = 0; k < TONES; k++) sums[k] += factors[k] * (seen - (float)value);
      count++;
    }
  const double stiffness[TONES] = {20 * count, 0.01 * count, 20 * count};
  complete_matrix(m, stiffness, TONES);
  invert_matrix(m, TONES);
  for (int r = 0; r < TONES; r++)
    by[r] = m[r * TONES] * sums[0] + m[r * TONES + 1] * sums[1] + m[r * TONES + 2] * sums[2];
}

/* Sets what copies show at every cell of a, by the tone that fits best. */
static inline void expect_fitted(view a, sight *s) {
  double by[TONES] = {0};
  tone t;
  for (int i = 0; i < 256; i++) t.of[i] = 128; /* nothing is lost as far as the first fit knows */
  for (int pass = 0; pass < 2; pass++) {
    tone_solve(a, s, &t, by);
    tone_set(&t, s, by);
  }
  for (int i = 0; i < a.side * a.side; i++) s->expected[i] = t.of[a.cells[i]];
}

/* The same by the gain and offset that came with the alignment: good enough for coarse views. */
static inline void expect_roughly(view a, const alignment *at, sight *s) {
  const float gain = (float)at->gain, offset = (float)at->offset;
  for (int i = 0; i < a.side * a.side; i++) s->expected[i] = gain * (float)a.cells[i] + offset;
}

/* ---- differences ----------------------------------------------------------------------------- */

#define LEAST_DIFFERENCE 4.0 /* levels that always may differ */
#define NOISE_SHARE 6.0      /* and times the mean difference, which is noise up to NOISE_MOST levels */
#define NOISE_MOST 4.0
#define EDGE_SHARE 0.3       /* and of the step to the next cells */
#define CONTRAST_SHARE 0.4   /* noise that is more of the contrast is no copy's: bare paper, clear sky */

/* The largest step, in what is expected, within the 3 x 3 cells round one. */
static inline float step_around(const sight *s, int side, const region *in, int y, int x) {
  float most = 0;
  for (int r = y - 1; r <= y + 1; r++)
    for (int c = x - 1; c <= x + 1; c++) {
      if (r < in->top || r >= in->bottom || c < in->left || c >= in->right) continue;
      const float *cell = s->expected + r * side + c;
      float across = (cell[1] - cell[-1]) / 2, down = (cell[side] - cell[-side]) / 2;
      float step = across * across + down * down;
      if (step > most) most = step;
    }
  return sqrtf(most);
}

/* Means over the region of what is seen, and of how far that is from what is expected. */
static inline void take_means(sight *s, int side, const region *in, double *seen, double *apart) {
  float *sum = s->columns[0], *difference = s->columns[1];
  double count = (double)(in->bottom - in->top) * (in->right - in->left);
  memset(s->columns, 0, 2 * sizeof s->columns[0]);
  for (int y = in->top; y < in->bottom; y++) {
    const float *row = s->seen + y * side, *other = s->expected + y * side;
    for (int x = in->left; x < in->right; x++) {
      sum[x] += row[x];
      difference[x] += fabsf(row[x] - other[x]);
    }
  }
  *seen = *apart = 0;
  for (int x = in->left; x < in->right; x++) {
    *seen += (double)sum[x] / count;
    *apart += (double)difference[x] / count;
  }
}

/* Mean difference of what is seen from its mean: how much there is to see. */
static inline double mean_contrast(const sight *s, int side, const region *in, double mean) {
  double sum = 0;
  for (int y = in->top; y < in->bottom; y++)
    for (int x = in->left; x < in->right; x++) sum += fabs((double)s->seen[y * side + x] - mean);
  return sum / ((double)(in->bottom - in->top) * (in->right - in->left));
}

/* The largest difference at one place between what is seen and expected, as a multiple of what copying
   explains there; stops at one above `limit`. */
static inline double largest_difference(sight *s, int side, double limit) {
  region in = region_of(s);
  double mean, noise, most = 0;
  if (in.left >= in.right || in.top >= in.bottom) return limit + 1;
  take_means(s, side, &in, &mean, &noise);
  float base = (float)(LEAST_DIFFERENCE + NOISE_SHARE * fmin(noise, NOISE_MOST));
  for (int y = in.top; y < in.bottom && most <= limit; y++)
    for (int x = in.left; x < in.right; x++) {
      float difference = fabsf(s->seen[y * side + x] - s->expected[y * side + x]);
      if (difference <= (float)most * base) continue;
      most = fmax(most, difference / (base + (float)EDGE_SHARE * step_around(s, side, &in, y, x)));
    }
  if (noise > CONTRAST_SHARE * mean_contrast(s, side, &in, mean)) most = limit + 1;
  return most;
}

/* ---- two sketches ---------------------------------------------------------------------------- */

/* The largest multiple that copies reach, for each level of views. */
static const double level_limits[VIEW_LEVELS] = {1.7, 1.9, 2.0, 2.3, 2.5};

#define SHOWN_FROM 16    /* pixels of the shorter side: what is smaller shows too little */
#define SHIFTED_FROM 128 /* pixels of the shorter side: smaller pictures lie where they are */
#define STEPS_MOST 8
#define TONED_LEVEL 2    /* from this view on the tone is fitted with its bend */
#define STEP_LEAST 0.2   /* of half a cell: nearer to their place they need not be */
#define SMALLEST_SHARE 0.45    /* of the one's height and width, that the other has at least */
#define ASPECT_TOLERANCE 0.08  /* what cutting can change */

static inline int shorter_side(const sketch *s) {
  return s->height < s->width ? s->height : s->width;
}

/* Whether the one can be a copy of the other by their sizes: much smaller ones no longer show what is
   written. */
static inline int sizes_fit(const sketch *a, const sketch *b) {
  if (shorter_side(a) < SHOWN_FROM || shorter_side(b) < SHOWN_FROM) return 0;
  double high = (double)a->height / b->height, wide = (double)a->width / b->width;
  double least = fmin(fmin(high, 1 / high), fmin(wide, 1 / wide));
  return least >= SMALLEST_SHARE && fabs(high - wide) <= ASPECT_TOLERANCE * fmax(high, wide);
}

/* The first view whose cells are no larger than the pixels of both. */
static inline int last_level(const sketch *a, const sketch *b) {
  int side = shorter_side(a) < shorter_side(b) ? shorter_side(a) : shorter_side(b), level = 1;
  while (level < VIEW_LEVELS - 1 && VIEW_COARSEST << level < side) level++;
  return level;
}

/* Lays a over b by the views that both have, and returns how far they differ: up to 1 as copies may,
   and above 1, as soon as that is known, if they are none. `slack` is how many times more than usual
   they may. */
static inline double sketch_compare(const sketch *a, const sketch *b, double slack, sight *s,
                                    alignment *at) {
  int last = last_level(a, b), levels = a->levels < b->levels ? a->levels : b->levels;
  int shifted = shorter_side(a) >= SHIFTED_FROM && shorter_side(b) >= SHIFTED_FROM;
  double difference = 2;
  *at = align_as_is();
  if (!sizes_fit(a, b)) return difference;
  for (int level = 0; level < levels && level <= last; level++) {
    const view seen = sketch_view(b, level);
    double step = shifted && level < ALIGNED_LEVELS ? STEP_MOST : 0;
    look(seen, at, s);
    for (int k = 0; k < STEPS_MOST && step > STEP_LEAST / seen.side; k++) {
      step = align_step(a, level, s, at);
      look(seen, at, s);
    }
    if (level < TONED_LEVEL)
      expect_roughly(sketch_view(a, level), at, s);
    else
      expect_fitted(sketch_view(a, level), s);
    double limit = slack * level_limits[level];
    difference = largest_difference(s, seen.side, limit) / limit;
    if (difference > 1) break;
  }
  return difference;
}

#define SIZE_SLACK 1.5 /* of a copy of another size, which has lost fine lines or shows them soft */
#define SIZES_ALIKE 0.8

/* Whether two pictures can be copies, as far as their sketches tell. The larger lies over the other, as
   it shows more. */
static inline int sketches_agree(const sketch *a, const sketch *b, sight *s) {
  alignment at;
  double area_a = (double)a->height * a->width, area_b = (double)b->height * b->width;
  double slack = fmin(area_a, area_b) < SIZES_ALIKE * fmax(area_a, area_b) ? SIZE_SLACK : 1;
  return sketch_compare(area_a < area_b ? b : a, area_a < area_b ? a : b, slack, s, &at) <= 1;
}

/* ---- colours --------------------------------------------------------------------------------- */

#define COLOUR_SIDE 16    /* cells: JPEG stores colours coarsely */
#define COLOUR_CELLS (COLOUR_SIDE * COLOUR_SIDE)
#define COLOUR_LIMIT 12.0 /* levels, half of what red or blue may differ beside the grey value */
#define COLOUR_EDGE 0.5   /* and of the step to the next cells */
#define COLOUR_LEAST 6    /* levels from grey: what has no more is a grey picture */

/* How much redder and bluer than grey a picture is: 128 is not at all. Returns the most. */
static inline int take_colours(const picture *rgb, uint8_t red[COLOUR_CELLS],
                               uint8_t blue[COLOUR_CELLS]) {
  uint8_t cells[3 * COLOUR_CELLS];
  int most = 0;
  resize_squash(rgb->pixels, rgb->height, rgb->width, cells, COLOUR_SIDE, COLOUR_SIDE, 3);
  for (int i = 0; i < COLOUR_CELLS; i++) {
    int grey = grey_of(cells + 3 * i);
    red[i] = (uint8_t)(128 + (cells[3 * i] - grey) / 2);
    blue[i] = (uint8_t)(128 + (cells[3 * i + 2] - grey) / 2);
    if (abs(red[i] - 128) > most) most = abs(red[i] - 128);
    if (abs(blue[i] - 128) > most) most = abs(blue[i] - 128);
  }
  return most;
}

/* Whether one colour differs at one place. Colours may be stronger or weaker all over. */
static inline int colour_differs(view a, view b, const alignment *at, sight *s) {
  double products = 1, squares = 1;
  look(b, at, s);
  region in = region_of(s);
  for (int y = in.top; y < in.bottom; y++)
    for (int x = in.left; x < in.right; x++) {
      double own = a.cells[y * a.side + x] - 128.0;
      products += own * ((double)s->seen[y * a.side + x] - 128);
      squares += own * own;
    }
  alignment strength = *at;
  strength.gain = clamp(products / squares, 0.4, 2.5);
  strength.offset = 128 * (1 - strength.gain);
  expect_roughly(a, &strength, s);
  for (int y = in.top; y < in.bottom; y++)
    for (int x = in.left; x < in.right; x++) {
      float difference = fabsf(s->seen[y * a.side + x] - s->expected[y * a.side + x]);
      double allowed = COLOUR_LIMIT + COLOUR_EDGE * (double)step_around(s, a.side, &in, y, x);
      if ((double)difference > allowed) return 1;
    }
  return 0;
}

/* A grey picture may be a copy of a coloured one. */
static inline int colours_differ(const picture *a, const picture *b, const alignment *at, sight *s) {
  uint8_t cells[2][2][COLOUR_CELLS];
  int coloured_a = take_colours(a, cells[0][0], cells[1][0]) > COLOUR_LEAST;
  int coloured_b = take_colours(b, cells[0][1], cells[1][1]) > COLOUR_LEAST;
  for (int k = 0; k < 2 && coloured_a && coloured_b; k++) {
    view one = {COLOUR_SIDE, cells[k][0]}, other = {COLOUR_SIDE, cells[k][1]};
    if (colour_differs(one, other, at, s)) return 1;
  }
  return 0;
}

/* ---- two pictures ---------------------------------------------------------------------------- */

/* Exchanges left and right. */
static inline void picture_mirror(picture *p) {
  size_t channels = (size_t)p->channels, width = (size_t)p->width;
  for (size_t y = 0; y < (size_t)p->height; y++)
    for (size_t x = 0; x < width / 2; x++)
      for (size_t c = 0; c < channels; c++) {
        uint8_t *left = p->pixels + (y * width + x) * channels + c;
        uint8_t *right = p->pixels + (y * width + width - 1 - x) * channels + c, kept = *left;
        *left = *right;
        *right = kept;
      }
}

/* `to` owns cells. */
static inline void sketch_make_of_colours(const picture *rgb, int levels, sketch *to) {
  size_t count = (size_t)rgb->height * (size_t)rgb->width;
  picture grey = {allocate(count, 1), rgb->height, rgb->width, 1};
  convert_channels(rgb->pixels, 3, grey.pixels, 1, count);
  sketch_make(&grey, levels, to);
  free(grey.pixels);
}

/* What two pictures share, as the places -1 to 1 on a side of each. */
typedef struct part {
  double low, high;
} part;

static inline void share_parts(span at, part *of_a, part *of_b) {
  of_b->low = fmax(at.shift - at.scale, -1);
  of_b->high = fmin(at.shift + at.scale, 1);
  of_a->low = (of_b->low - at.shift) / at.scale;
  of_a->high = (of_b->high - at.shift) / at.scale;
}

static inline double part_share(part p) {
  return (p.high - p.low) / 2;
}

/* A part of a picture at a size of its own. */
static inline picture picture_part(const picture *of, part down, part across, int height, int width) {
  picture out = {NULL, height, width, of->channels};
  double full_height = height / part_share(down), full_width = width / part_share(across);
  resize_piece piece = {full_height, full_width, (down.low + 1) / 2 * full_height,
                        (across.low + 1) / 2 * full_width};
  out.pixels = allocate((size_t)height * (size_t)width, (size_t)of->channels);
  resize_to_piece(of->pixels, of->height, of->width, &piece, out.pixels, height, width,
                  of->channels);
  return out;
}

/* The span of the wholes from that of their parts. */
static inline span span_of_wholes(span inner, part of_a, part of_b) {
  span out = {0, inner.scale * part_share(of_b) / part_share(of_a)};
  out.shift = (of_b.low + of_b.high) / 2 + inner.shift * part_share(of_b) -
              out.scale * (of_a.low + of_a.high) / 2;
  return out;
}

static inline double span_moved(span s) {
  return fmax(fabs(s.shift - s.scale + 1), fabs(s.shift + s.scale - 1));
}

/* Compares what the two share when a lies in b as `at` says, and corrects that. Both are drawn anew at
   the size of the smaller: what it has lost is no difference then, and cells fall on cells. Returns how
   far they differ, and how far the alignment was off. */
static inline double parts_differ(const picture *a, const picture *b, alignment *at, double *off,
                                  sight *s) {
  part down_a, down_b, across_a, across_b;
  share_parts(at->down, &down_a, &down_b);
  share_parts(at->across, &across_a, &across_b);
  int height = (int)fmin(a->height * part_share(down_a), b->height * part_share(down_b));
  int width = (int)fmin(a->width * part_share(across_a), b->width * part_share(across_b));
  if (height < 1 || width < 1) return 2;
  picture drawn_a = picture_part(a, down_a, across_a, height, width);
  picture drawn_b = picture_part(b, down_b, across_b, height, width);
  sketch sketch_a, sketch_b;
  alignment inner;
  sketch_make_of_colours(&drawn_a, VIEW_LEVELS, &sketch_a);
  sketch_make_of_colours(&drawn_b, VIEW_LEVELS, &sketch_b);
  double difference = sketch_compare(&sketch_a, &sketch_b, 1, s, &inner);
  *off = fmax(span_moved(inner.across), span_moved(inner.down));
  if (difference <= 1 && colours_differ(&drawn_a, &drawn_b, &inner, s)) difference = 2;
  at->down = span_of_wholes(inner.down, down_a, down_b);
  at->across = span_of_wholes(inner.across, across_a, across_b);
  free(sketch_a.cells);
  free(sketch_b.cells);
  free(drawn_a.pixels);
  free(drawn_b.pixels);
  return difference;
}

#define ROUNDS_MOST 3
#define OFF_LEAST (0.5 / VIEW_FINEST) /* a quarter of the finest cell */

/* How far two pictures, in RGB, differ by all that they show: up to 1 as copies may. The last round, in
   which they lie as they should, decides. */
static inline double pictures_differ(const picture *a, const picture *b, sight *s) {
  alignment at = align_as_is();
  double difference = 2, off = 1;
  for (int round = 0; round < ROUNDS_MOST && off > OFF_LEAST; round++)
    difference = parts_differ(a, b, &at, &off, s);
  return difference;
}
#endif
