/* plain.h - whether a picture shows nothing but a shade, as bare paper does. */
#ifndef TALLY_DEDUP_PLAIN_H
#define TALLY_DEDUP_PLAIN_H

#include "sketch.h"

#define SURFACE 6 /* coefficients of a surface of second degree: the fall of light on a sheet */

/* Levels that the coarsest view deviates from its shade: sheets of paper reach 0.5, forms, letters and
   photographs have 3 and more. */
#define PLAIN_DEVIATION 1.0

static inline void surface_factors(int cell, int side, double factors[SURFACE]) {
  double y = place_of(cell / side, side), x = place_of(cell % side, side);
  factors[0] = 1;
  factors[1] = x;
  factors[2] = y;
  factors[3] = x * x;
  factors[4] = x * y;
  factors[5] = y * y;
}

/* What squares of a view's levels remain once the surface that fits best is taken away, by the normal
   equations. */
static inline double squares_beside_surface(view v) {
  double m[SURFACE * SURFACE] = {0}, sums[SURFACE] = {0}, factors[SURFACE], squares = 0;
  const double stiffness[SURFACE] = {0};
  for (int i = 0; i < v.side * v.side; i++) {
    surface_factors(i, v.side, factors);
    add_products(m, factors, SURFACE);
    for (int k = 0; k < SURFACE; k++) sums[k] += factors[k] * v.cells[i];
    squares += (double)v.cells[i] * v.cells[i];
  }
  complete_matrix(m, stiffness, SURFACE);
  invert_matrix(m, SURFACE);
  for (int r = 0; r < SURFACE; r++)
    for (int c = 0; c < SURFACE; c++) squares -= sums[r] * m[r * SURFACE + c] * sums[c];
  return squares;
}

static inline int sketch_is_plain(const sketch *of) {
  view coarsest = sketch_view(of, 0);
  return squares_beside_surface(coarsest) <
         PLAIN_DEVIATION * PLAIN_DEVIATION * coarsest.side * coarsest.side;
}

#endif
