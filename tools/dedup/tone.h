/* tone.h - what a copy shows where its original has a value: brightness, contrast, gamma. */
#ifndef TALLY_DEDUP_TONE_H
#define TALLY_DEDUP_TONE_H

#include <math.h>
#include <string.h>

#include "equations.h"
#include "overlay.h"

#define TONES 3         /* gain, offset, and a bend: so few that they cannot hide what is written */
#define TONE_SAMPLES 32 /* cells a side are enough to fit it */

/* What b shows where a shows a value; whites and blacks may be lost. */
typedef struct tone {
  float bend[256]; /* x ln x is the derivative of x^gamma at gamma 1 */
  float of[256];
} tone;

static inline void tone_set(tone *t, const double *by) {
  for (int i = 0; i < 256; i++)
    t->of[i] = (float)clamp(i + by[0] * i + 64 * by[1] + by[2] * (double)t->bend[i], 0, 255);
}

/* One fit by least squares. What `t` has as lost white or black, and is seen so, does not count. */
static inline void tone_solve(view a, const overlay *o, const tone *t, double *by) {
  double m[TONES * TONES] = {0}, sums[TONES] = {0}, count = 1;
  int stride = a.side > TONE_SAMPLES ? a.side / TONE_SAMPLES : 1;
  for (int y = o->down.first + stride / 2; y < o->down.end; y += stride)
    for (int x = o->across.first + stride / 2; x < o->across.end; x += stride) {
      int value = a.cells[y * a.side + x];
      float seen = o->seen[y * a.side + x], is = t->of[value];
      if ((is >= 255 && seen > 253) || (is <= 0 && seen < 2)) continue;
      double factors[TONES] = {value, 64, (double)t->bend[value]};
      add_products(m, factors, TONES);
      for (int k = 0; k < TONES; k++) sums[k] += factors[k] * ((double)seen - value);
      count++;
    }
  const double stiffness[TONES] = {20 * count, 0.01 * count, 20 * count};
  complete_matrix(m, stiffness, TONES);
  invert_matrix(m, TONES);
  for (int r = 0; r < TONES; r++)
    by[r] = m[r * TONES] * sums[0] + m[r * TONES + 1] * sums[1] + m[r * TONES + 2] * sums[2];
}

/* Sets what is expected by the tone that fits best. Twice, as only the first tells what was lost. */
static inline void expect_fitted(view a, overlay *o) {
  double by[TONES] = {0};
  tone t;
  for (int i = 0; i < 256; i++) {
    t.bend[i] = (float)((i + 1) * log((i + 1) / 256.0));
    t.of[i] = 128;
  }
  for (int pass = 0; pass < 2; pass++) {
    tone_solve(a, o, &t, by);
    tone_set(&t, by);
  }
  for (int i = 0; i < a.side * a.side; i++) o->expected[i] = t.of[a.cells[i]];
}

#endif
