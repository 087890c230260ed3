/* shared.h - what two pictures share when one lies on the other, as pictures of their own. */
#ifndef TALLY_DEDUP_SHARED_H
#define TALLY_DEDUP_SHARED_H

#include <math.h>

#include "../picture.h"
#include "../resize.h"
#include "overlay.h"

/* Of a side, as the places -1 to 1 on it. */
typedef struct range {
  double low, high;
} range;

static inline void share_parts(span at, range *of_a, range *of_b) {
  of_b->low = fmax(at.shift - at.scale, -1);
  of_b->high = fmin(at.shift + at.scale, 1);
  of_a->low = (of_b->low - at.shift) / at.scale;
  of_a->high = (of_b->high - at.shift) / at.scale;
}

/* How much of the side it is. */
static inline double range_share(range p) {
  return (p.high - p.low) / 2;
}

/* A part of a picture, resized to height x width. */
static inline picture picture_part(const picture *of, range down, range across, int height,
                                   int width) {
  picture out = {NULL, height, width, of->channels};
  double full_height = height / range_share(down), full_width = width / range_share(across);
  resize_piece piece = {full_height, full_width, (down.low + 1) / 2 * full_height,
                        (across.low + 1) / 2 * full_width};
  out.pixels = allocate((size_t)height * (size_t)width, (size_t)of->channels);
  resize_to_piece(of->pixels, of->height, of->width, &piece, out.pixels, height, width,
                  of->channels);
  return out;
}

/* The span of the wholes from that of their parts. */
static inline span span_of_wholes(span inner, range of_a, range of_b) {
  span out = {0, inner.scale * range_share(of_b) / range_share(of_a)};
  out.shift = (of_b.low + of_b.high) / 2 + inner.shift * range_share(of_b) -
              out.scale * (of_a.low + of_a.high) / 2;
  return out;
}

/* How far the edges of the one are from the other's. */
static inline double span_moved(span s) {
  return fmax(fabs(s.shift - s.scale + 1), fabs(s.shift + s.scale - 1));
}

#endif
