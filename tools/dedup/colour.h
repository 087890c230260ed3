/* colour.h - whether two pictures that are alike in grey have other colours. */
#ifndef TALLY_DEDUP_COLOUR_H
#define TALLY_DEDUP_COLOUR_H

#include <math.h>
#include <stdlib.h>

#include "../picture.h"
#include "../resize.h"
#include "difference.h"

#define COLOUR_SIDE 16 /* cells: JPEG stores colours coarsely */
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

/* How many times stronger b's colour is, all over. */
static inline double colour_strength(view a, const overlay *o) {
  double products = 1, squares = 1;
  region in = region_of(o);
  for (int y = in.top; y < in.bottom; y++)
    for (int x = in.left; x < in.right; x++) {
      double own = a.cells[y * a.side + x] - 128.0;
      products += own * ((double)o->seen[y * a.side + x] - 128);
      squares += own * own;
    }
  return clamp(products / squares, 0.4, 2.5);
}

/* Whether one colour differs at one place. */
static inline int colour_differs(view a, view b, const alignment *at, overlay *o) {
  look(b, at, o);
  region in = region_of(o);
  double strength = colour_strength(a, o);
  for (int i = 0; i < a.side * a.side; i++)
    o->expected[i] = (float)(128 + strength * (a.cells[i] - 128));
  take_steps(o, a.side, &in);
  for (int y = in.top; y < in.bottom; y++)
    for (int x = in.left; x < in.right; x++) {
      float difference = fabsf(o->seen[y * a.side + x] - o->expected[y * a.side + x]);
      double allowed = COLOUR_LIMIT + COLOUR_EDGE * (double)o->step[y * a.side + x];
      if ((double)difference > allowed) return 1;
    }
  return 0;
}

/* A grey picture may be a copy of a coloured one. */
static inline int colours_differ(const picture *a, const picture *b, const alignment *at,
                                 overlay *o) {
  uint8_t cells[2][2][COLOUR_CELLS];
  int coloured_a = take_colours(a, cells[0][0], cells[1][0]) > COLOUR_LEAST;
  int coloured_b = take_colours(b, cells[0][1], cells[1][1]) > COLOUR_LEAST;
  for (int k = 0; k < 2 && coloured_a && coloured_b; k++) {
    view one = {COLOUR_SIDE, cells[k][0]}, other = {COLOUR_SIDE, cells[k][1]};
    if (colour_differs(one, other, at, o)) return 1;
  }
  return 0;
}

#endif
