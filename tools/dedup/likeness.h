/* likeness.h - whether two pictures show the same: one a copy of the other, recompressed, resized, in
   other brightness or contrast, or with a little cut off its edges.

   Two sketches are laid over one another and compared view by view, the coarsest first, until one shows
   a difference that copying does not explain; most pairs end early. What remains is compared once more
   from its files, at 512 x 512 cells and in colour. */
#ifndef TALLY_DEDUP_LIKENESS_H
#define TALLY_DEDUP_LIKENESS_H

#include <math.h>
#include <stdlib.h>

#include "align.h"
#include "colour.h"
#include "difference.h"
#include "shared.h"
#include "sketch.h"
#include "tone.h"

/* ---- two sketches ---------------------------------------------------------------------------- */

/* The largest multiple of what copying explains that copies reach in each view, once they lie as they
   should, measured on copies of forms, letters and photographs. More in the finest, where cells may be
   smaller than pixels. */
static const double level_limits[VIEW_LEVELS] = {1.0, 1.3, 1.2, 1.4, 2.5};

/* How many times more they may have while they do not, or while only sketches are compared: a copy of
   another size has lost fine lines or shows them soft. */
#define SLACK 1.5

#define SHOWN_FROM 16         /* pixels of the shorter side: what is smaller shows too little */
#define SHIFTED_FROM 64       /* pixels of the shorter side: smaller pictures lie where they are */
#define SMALLEST_SHARE 0.45   /* of the one's height and width, that the other has at least */
#define ASPECT_TOLERANCE 0.08 /* what cutting can change */

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

/* Lays a over b by the views that both have, and returns how far they differ, as a multiple of what
   copies may; ends once that is above SLACK. */
static inline double sketch_compare(const sketch *a, const sketch *b, overlay *o, alignment *at) {
  int last = last_level(a, b), levels = a->levels < b->levels ? a->levels : b->levels;
  int small = shorter_side(a) < SHIFTED_FROM || shorter_side(b) < SHIFTED_FROM;
  double most = 0;
  *at = align_as_is();
  if (!sizes_fit(a, b)) return 2 * SLACK;
  for (int level = 0; level < levels && level <= last && most <= SLACK; level++) {
    const view own = sketch_view(a, level);
    align(a, b, level, small || level >= ALIGNED_LEVELS, at, o);
    expect_fitted(own, o);
    most = fmax(most,
                largest_difference(o, own.side, SLACK * level_limits[level]) / level_limits[level]);
  }
  return most;
}

/* Whether two pictures can be copies, as far as their sketches tell. The larger lies over the other, as
   it shows more. */
static inline int sketches_agree(const sketch *a, const sketch *b, overlay *o) {
  alignment at;
  int larger = (double)a->height * a->width >= (double)b->height * b->width;
  return sketch_compare(larger ? a : b, larger ? b : a, o, &at) <= SLACK;
}

/* ---- two pictures ---------------------------------------------------------------------------- */

/* `to` owns cells. */
static inline void sketch_make_of_colours(const picture *rgb, int levels, sketch *to) {
  picture grey = picture_grey(rgb);
  sketch_make(&grey, levels, to);
  free(grey.pixels);
}

/* Compares what the two share when a lies in b as `at` says, and corrects that. Both are drawn anew at
   the size of the smaller: what it has lost is no difference then, and cells fall on cells. Returns how
   far they differ, and how far the alignment was off. */
static inline double parts_differ(const picture *a, const picture *b, alignment *at, double *off,
                                  overlay *o) {
  range down_a, down_b, across_a, across_b;
  share_parts(at->down, &down_a, &down_b);
  share_parts(at->across, &across_a, &across_b);
  int height = (int)fmin(a->height * range_share(down_a), b->height * range_share(down_b));
  int width = (int)fmin(a->width * range_share(across_a), b->width * range_share(across_b));
  if (height < 1 || width < 1) return 2 * SLACK;
  picture drawn_a = picture_part(a, down_a, across_a, height, width);
  picture drawn_b = picture_part(b, down_b, across_b, height, width);
  sketch sketch_a, sketch_b;
  alignment inner;
  sketch_make_of_colours(&drawn_a, VIEW_LEVELS, &sketch_a);
  sketch_make_of_colours(&drawn_b, VIEW_LEVELS, &sketch_b);
  double difference = sketch_compare(&sketch_a, &sketch_b, o, &inner);
  *off = fmax(span_moved(inner.across), span_moved(inner.down));
  if (difference <= SLACK && colours_differ(&drawn_a, &drawn_b, &inner, o)) difference = 2 * SLACK;
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

/* How far two pictures, in RGB, differ by all that they show where `at` lays a on b: up to 1 as copies
   may. The last round, in which they lie as they should, decides. */
static inline double pictures_differ(const picture *a, const picture *b, alignment at, overlay *o) {
  double difference = 0, off = 1;
  for (int round = 0; round < ROUNDS_MOST && off > OFF_LEAST && difference <= SLACK; round++)
    difference = parts_differ(a, b, &at, &off, o);
  return difference;
}

#endif
