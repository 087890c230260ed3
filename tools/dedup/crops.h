/* crops.h - which pictures may show a part of which others, and where it lies.

   Points of two pictures whose hashes are alike say each where the one lies on the other, if they are
   the same; where many say so alike, they are (Lowe 2004, by counting instead of a Hough transform). */
#ifndef TALLY_DEDUP_CROPS_H
#define TALLY_DEDUP_CROPS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "../memory.h"
#include "align.h"
#include "overlay.h"
#include "points.h"

#define BANDS 4 /* of 16 bits: hashes that differ in three bits have one in common (Norouzi 2012) */
#define BAND_VALUES 65536
#define POINT_BITS 10 /* that hashes of the same point may differ in */
#define BUCKET_MOST                                                                                \
  256 /* what more points share says nothing (Sivic and Zisserman 2003, stop list) */

/* All points of all pictures, found by a band of their hash. */
typedef struct point_index {
  const point **points;
  int *pictures;           /* which each point is of */
  uint32_t *starts[BANDS]; /* [BAND_VALUES + 1] */
  uint32_t *order[BANDS];  /* points by their band's value */
  uint32_t count;
} point_index;

static inline uint32_t band_of(uint64_t hash, int band) {
  return (uint32_t)(hash >> (16 * band) & (BAND_VALUES - 1));
}

/* Sorts the points by one band, by counting. */
static inline void index_band(point_index *x, int band) {
  uint32_t *starts = x->starts[band] = allocate(BAND_VALUES + 1, sizeof(uint32_t));
  uint32_t *order = x->order[band] = allocate(x->count, sizeof(uint32_t));
  for (uint32_t i = 0; i < x->count; i++) starts[band_of(x->points[i]->hash, band) + 1]++;
  for (uint32_t v = 0; v < BAND_VALUES; v++) starts[v + 1] += starts[v];
  for (uint32_t i = x->count; i-- > 0;) order[--starts[band_of(x->points[i]->hash, band) + 1]] = i;
  for (uint32_t v = 0; v < BAND_VALUES; v++) starts[v] = starts[v + 1];
  starts[BAND_VALUES] = x->count;
}

/* A picture's point and one of another that looks like it. */
typedef struct match {
  int picture; /* the other */
  const point *own, *other;
} match;

typedef struct matches {
  match *at;
  int count, room;
} matches;

static inline int compare_matches(const void *a, const void *b) {
  const match *one = a, *other = b;
  if (one->picture != other->picture) return one->picture < other->picture ? -1 : 1;
  if (one->own != other->own) return one->own < other->own ? -1 : 1;
  return one->other < other->other ? -1 : one->other > other->other;
}

static inline void add_match(matches *to, match m) {
  if (to->count == to->room) {
    to->room = to->room ? 2 * to->room : 256;
    to->at = reallocate(to->at, (size_t)to->room, sizeof *to->at);
  }
  to->at[to->count++] = m;
}

/* Whether an earlier band has found it too. */
static inline int found_before(uint64_t a, uint64_t b, int band) {
  for (int k = 0; k < band; k++)
    if (band_of(a, k) == band_of(b, k)) return 1;
  return 0;
}

/* All points of other pictures that look like those of one, by picture. */
static inline void find_matches(const point_index *x, int own, const points *of, matches *to) {
  to->count = 0;
  for (int i = 0; i < of->count; i++)
    for (int band = 0; band < BANDS; band++) {
      const uint64_t hash = of->at[i].hash;
      uint32_t value = band_of(hash, band);
      uint32_t begin = x->starts[band][value], end = x->starts[band][value + 1];
      if (end - begin > BUCKET_MOST) continue;
      for (uint32_t k = begin; k < end; k++) {
        uint32_t n = x->order[band][k];
        const point *other = x->points[n];
        if (x->pictures[n] == own || hash_distance(hash, other->hash) > POINT_BITS ||
            found_before(hash, other->hash, band))
          continue;
        match m = {x->pictures[n], &of->at[i], other};
        add_match(to, m);
      }
    }
  if (to->count) qsort(to->at, (size_t)to->count, sizeof *to->at, compare_matches);
}

/* Where a picture's pixels lie on another: at right + scale * x, low + scale * y. */
typedef struct placing {
  double scale, right, low;
} placing;

#define SCALE_TOLERANCE 1.2

static inline int agrees(const match *m, const placing *at, double tolerance) {
  double scale = (double)m->other->pixel / (double)m->own->pixel / at->scale;
  double x = at->right + at->scale * (double)m->own->x - (double)m->other->x;
  double y = at->low + at->scale * (double)m->own->y - (double)m->other->y;
  return scale < SCALE_TOLERANCE && scale > 1 / SCALE_TOLERANCE && fabs(x) <= tolerance &&
         fabs(y) <= tolerance;
}

/* How many points of the picture lie as a placing says. */
static inline int count_agreeing(const match *m, int count, const placing *at, double tolerance) {
  int agreeing = 0;
  const point *last = NULL;
  for (int i = 0; i < count; i++) {
    if (m[i].own == last || !agrees(&m[i], at, tolerance)) continue;
    last = m[i].own;
    agreeing++;
  }
  return agreeing;
}

/* The placing that fits those best which agree with it. */
static inline void refine_placing(const match *m, int count, placing *at, double tolerance) {
  double n = 0, x = 0, y = 0, to_x = 0, to_y = 0, squares = 0, products = 0;
  for (int i = 0; i < count; i++) {
    if (!agrees(&m[i], at, tolerance)) continue;
    double own_x = (double)m[i].own->x, own_y = (double)m[i].own->y;
    double other_x = (double)m[i].other->x, other_y = (double)m[i].other->y;
    n++;
    x += own_x;
    y += own_y;
    to_x += other_x;
    to_y += other_y;
    squares += own_x * own_x + own_y * own_y;
    products += own_x * other_x + own_y * other_y;
  }
  double spread = squares - (x * x + y * y) / n;
  if (spread <= 0) return;
  at->scale = (products - (x * to_x + y * to_y) / n) / spread;
  at->right = (to_x - at->scale * x) / n;
  at->low = (to_y - at->scale * y) / n;
}

#define AGREEING_LEAST 8
#define HYPOTHESES 200 /* are enough: of many matches every k-th is tried */

/* Finds the placing that most matches of two pictures agree in. Returns how many do. */
static inline int find_placing(const match *m, int count, double tolerance, placing *out) {
  int best = 0, stride = 1 + count / HYPOTHESES;
  for (int i = 0; i < count; i += stride) {
    placing at = {(double)m[i].other->pixel / (double)m[i].own->pixel, 0, 0};
    at.right = (double)m[i].other->x - at.scale * (double)m[i].own->x;
    at.low = (double)m[i].other->y - at.scale * (double)m[i].own->y;
    int agreeing = count_agreeing(m, count, &at, tolerance);
    if (agreeing <= best) continue;
    best = agreeing;
    *out = at;
  }
  if (best < AGREEING_LEAST) return best;
  for (int pass = 0; pass < 3; pass++) refine_placing(m, count, out, tolerance / (1 + pass));
  return best;
}

static inline span span_of_placing(double start, double scale, int own, int other) {
  double share = scale * own / other;
  span out = {2 * start / other + share - 1, share};
  return out;
}

#endif
