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

/* The largest multiple of what copying explains that copies reach in each view. */
static const double level_limits[VIEW_LEVELS] = {1.7, 1.9, 2.0, 2.3, 2.5};

#define TONED_LEVEL 2         /* from this view on the tone is fitted with its bend */
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

/* Lays a over b by the views that both have, and returns how far they differ: up to 1 as copies may,
   and above 1, as soon as that is known, if they are none. `slack` is how many times more than usual
   they may. */
static inline double sketch_compare(const sketch *a, const sketch *b, double slack, overlay *o,
                                    alignment *at) {
  int last = last_level(a, b), levels = a->levels < b->levels ? a->levels : b->levels;
  int small = shorter_side(a) < SHIFTED_FROM || shorter_side(b) < SHIFTED_FROM;
  double difference = 2;
  *at = align_as_is();
  if (!sizes_fit(a, b)) return difference;
  for (int level = 0; level < levels && level <= last; level++) {
    const view own = sketch_view(a, level);
    align(a, b, level, small || level >= ALIGNED_LEVELS, at, o);
    if (level < TONED_LEVEL)
      expect_roughly(own, at->gain, at->offset, o);
    else
      expect_fitted(own, o);
    double limit = slack * level_limits[level];
    difference = largest_difference(o, own.side, limit) / limit;
    if (difference > 1) break;
  }
  return difference;
}

#define SIZE_SLACK 1.5 /* of a copy of another size, which has lost fine lines or shows them soft */
#define SIZES_ALIKE 0.8

/* Whether two pictures can be copies, as far as their sketches tell. The larger lies over the other, as
   it shows more. */
static inline int sketches_agree(const sketch *a, const sketch *b, overlay *o) {
  alignment at;
  double area_a = (double)a->height * a->width, area_b = (double)b->height * b->width;
  double slack = fmin(area_a, area_b) < SIZES_ALIKE * fmax(area_a, area_b) ? SIZE_SLACK : 1;
  return sketch_compare(area_a < area_b ? b : a, area_a < area_b ? a : b, slack, o, &at) <= 1;
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
  if (height < 1 || width < 1) return 2;
  picture drawn_a = picture_part(a, down_a, across_a, height, width);
  picture drawn_b = picture_part(b, down_b, across_b, height, width);
  sketch sketch_a, sketch_b;
  alignment inner;
  sketch_make_of_colours(&drawn_a, VIEW_LEVELS, &sketch_a);
  sketch_make_of_colours(&drawn_b, VIEW_LEVELS, &sketch_b);
  double difference = sketch_compare(&sketch_a, &sketch_b, 1, o, &inner);
  *off = fmax(span_moved(inner.across), span_moved(inner.down));
  if (difference <= 1 && colours_differ(&drawn_a, &drawn_b, &inner, o)) difference = 2;
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
  double difference = 2, off = 1;
  for (int round = 0; round < ROUNDS_MOST && off > OFF_LEAST; round++)
    difference = parts_differ(a, b, &at, &off, o);
  return difference;
}

#endif
