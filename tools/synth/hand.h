/* hand.h - one person with one pen: how symbols are written into cells, and words beside them.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_HAND_H
#define TALLY_SYNTH_HAND_H

#include "canvas.h"
#include "samples.h"
#include "strokes.h"

/* What somebody writes in front of a number that is shorter than its boxes. */
enum { LEADING_ZEROS, LEADING_BLANKS, LEADING_CROSSES, LEADING_DASHES };

/* One person with one pen. Lengths in template pixels. */
typedef struct writer {
  numeral_system numerals;
  int form[SYMBOLS], habit, joins; /* joins letters, or prints them */
  uint64_t manner;                 /* what this hand makes of the forms, see mask_skeleton */
  double height, aspect, slant, turn, pen, tremor;
  double sample_pen, sample_slant; /* what this hand's samples look like */
  double shift_x, shift_y, wander; /* in the cell, shares of its size */
  ink with;
} writer;

/* A ball pen, black or blue; now and then a pencil, or a pen that runs dry. */
static inline void choose_ink(writer *w, cn_random *random, double severity) {
  double kind = (double)cn_random_uniform(random), shade = between(random, -14, 14);
  if (kind < 0.5)
    w->with = (ink){{to_byte(34 + shade), to_byte(34 + shade), to_byte(40 + shade)}, 0.95, 0.1};
  else
    w->with =
        (ink){{to_byte(34 + shade), to_byte(48 + shade), to_byte(142 + 2 * shade)}, 0.93, 0.12};
  if (chance(random, 0.12 * severity)) {
    w->with = (ink){{to_byte(88 + shade), to_byte(88 + shade), to_byte(94 + shade)}, 0, 0};
    w->with.strength = between(random, 0.65, 0.9);
    w->with.grain = between(random, 0.5, 0.9);
  } else if (chance(random, 0.08 * severity)) {
    w->with.strength = between(random, 0.45, 0.65);
  }
}

/* How leading zeros are written by those who do not write zeros, as far as the form allows it;
   dashes are the least common. */
static inline int other_habit(const tally_template *form, cn_random *random) {
  static const int common[] = {LEADING_BLANKS, LEADING_BLANKS, LEADING_CROSSES, LEADING_CROSSES,
                               LEADING_DASHES};
  const tally_mark meaning[] = {form->empty, form->empty, form->cross, form->cross, form->dash};
  int habits[5], count = 0;
  for (int i = 0; i < 5; i++)
    if (meaning[i] == TALLY_MARK_LEADING_ZERO) habits[count++] = common[i];
  return count ? habits[below(random, count)] : LEADING_ZEROS;
}

/* The more severe, the further from a plain, tidy hand. */
static inline writer choose_writer(const tally_template *form, numeral_system numerals,
                                   const sample_box *samples, cn_random *random, double severity) {
  writer w = {0};
  double unit = form->width / 1000, odd = fmin(severity, 2);
  w.numerals = numerals;
  w.manner = random->seed;
  for (int s = 0; s < SYMBOLS; s++) {
    int forms = count_forms(forms_of(numerals, s));
    if (forms) w.form[s] = below(random, forms);
  }
  w.joins = chance(random, 0.5);
  w.height = unit * between(random, 30 - 7 * odd, 30 + 10 * odd);
  w.aspect = between(random, 0.6 - 0.1 * odd, 0.6 + 0.12 * odd);
  w.slant = normal(random) * 0.11 * odd + 0.05 * odd;
  w.turn = normal(random) * 0.03 * odd;
  w.pen = unit * between(random, 2.2 - 0.7 * odd, 2.2 + 1.2 * odd);
  w.tremor = between(random, 1, 1 + 2.5 * odd);
  w.shift_x = normal(random) * 0.05 * odd;
  w.shift_y = normal(random) * 0.05 * odd;
  w.wander = 0.02 + between(random, 0.01, 0.05) * odd;
  choose_ink(&w, random, severity);
  if (samples->given) {
    int like = below(random, samples->data.count);
    w.sample_pen = (double)samples->pen[like];
    w.sample_slant = (double)samples->slant[like];
  }
  if (chance(random, 0.12 * severity)) w.pen *= between(random, 1.4, 2); /* a felt pen */
  w.habit = chance(random, 0.3 * severity) ? other_habit(form, random) : LEADING_ZEROS;
  return w;
}

/* Where and how large a symbol is written. */
typedef struct placement {
  tally_point centre;
  double height, width, slant, turn;
} placement;

/* A point of the box of 100 x 100 that symbols are drawn in, on the page. */
static inline tally_point place(const placement *at, double x, double y) {
  double u = (x / 100 - 0.5) * at->width, v = (y / 100 - 0.5) * at->height;
  u -= at->slant * v;
  return (tally_point){at->centre.x + u * cos(at->turn) - v * sin(at->turn),
                       at->centre.y + u * sin(at->turn) + v * cos(at->turn)};
}

/* Draws a symbol from its skeleton. Each hand has a form of its own: it moves every point of the path
   by a little that is always the same, and by a tremor that is not. */
static inline void mask_skeleton(canvas *on, const writer *w, cn_random *random, int symbol,
                                 const placement *at) {
  const char *from = forms_of(w->numerals, symbol)[w->form[symbol]];
  cn_random own = {mix_seed(w->manner, (uint64_t)symbol), 0};
  double manner = symbol == CROSS ? 0 : 1.5 * w->tremor, last_x = -1, last_y = -1;
  tally_point path[MOST_POINTS];
  for (int count = 0, length; *from; from += length) {
    double x, y;
    if (sscanf(from, "%lf %lf%n", &x, &y, &length) != 2) {
      mask_curve(on, path, count, w->pen, random);
      count = 0;
      length = (int)strspn(from, " /");
      continue;
    }
    int corner = count && x == last_x && y == last_y;
    last_x = x;
    last_y = y;
    if (corner) {
      path[count] = path[count - 1];
    } else {
      /* the arms of a hurried cross are bent and of unequal length */
      double reach = symbol == CROSS ? between(random, 0.2, 1.1) : 1;
      double tremor = symbol == CROSS ? w->tremor + 5 : w->tremor;
      x += limit(normal(&own), -2, 2) * manner;
      y += limit(normal(&own), -2, 2) * manner;
      path[count] = place(at, 50 + reach * (x - 50) + normal(random) * tremor,
                          50 + reach * (y - 50) + normal(random) * tremor);
    }
    count++;
    if (!from[length]) mask_curve(on, path, count, w->pen, random);
  }
}

/* Weights of the cubic B-spline at a position between two samples. */
static inline void spline_weights(double t, double weight[4]) {
  double u = 1 - t;
  weight[0] = u * u * u / 6;
  weight[1] = (3 * t * t * t - 6 * t * t + 4) / 6;
  weight[2] = (3 * u * u * u - 6 * u * u + 4) / 6;
  weight[3] = t * t * t / 6;
}

/* A sample's ink at a point, 0 to 1: smooth (B-spline) where bilinear would show its pixels. */
static inline double sample_bitmap(const uint8_t *bitmap, double x, double y) {
  double wx[4], wy[4], sum = 0;
  int left = (int)floor(x - 0.5), top = (int)floor(y - 0.5);
  spline_weights(x - 0.5 - left, wx);
  spline_weights(y - 0.5 - top, wy);
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < 4; i++) {
      int px = left - 1 + i, py = top - 1 + j;
      if (px < 0 || py < 0 || px >= TALLY_SIDE || py >= TALLY_SIDE) continue;
      sum += wx[i] * wy[j] * bitmap[py * TALLY_SIDE + px];
    }
  return sum / 255;
}

/* Draws a sample of 28 x 28. Its grey edges are sharpened to about a pixel of the picture; where
   the edge is taken sets how broad the pen is. */
static inline void mask_sample(canvas *on, const writer *w, const uint8_t *bitmap,
                               const placement *at) {
  double zoom = at->height / 20, edge = limit(0.62 - 0.09 * w->pen / zoom, 0.22, 0.5);
  double sharp = 0.55 * zoom * scale_at(on, at->centre.x, at->centre.y) + 0.6;
  double reach = 1.5 * at->height, ct = cos(at->turn), st = sin(at->turn);
  double low_x = 1e9, low_y = 1e9, high_x = -1e9, high_y = -1e9;
  for (int k = 0; k < 4; k++) {
    tally_point p = on_picture(on, at->centre.x + (k & 1 ? reach : -reach) / 2 * 1.1,
                               at->centre.y + (k & 2 ? reach : -reach) / 2);
    low_x = fmin(low_x, p.x);
    high_x = fmax(high_x, p.x);
    low_y = fmin(low_y, p.y);
    high_y = fmax(high_y, p.y);
  }
  int left = pixel_limit(floor(low_x), on->image.width),
      right = pixel_limit(ceil(high_x), on->image.width);
  int top = pixel_limit(floor(low_y), on->image.height);
  int bottom = pixel_limit(ceil(high_y), on->image.height);
  if (left >= right || top >= bottom) return;
  mask_use(on, left, top, right, bottom);
  for (int y = top; y < bottom; y++)
    for (int x = left; x < right; x++) {
      tally_point p = tally_homography_map(on->to_page, x + 0.5, y + 0.5);
      double dx = p.x - at->centre.x, dy = p.y - at->centre.y;
      double u = dx * ct + dy * st, v = dy * ct - dx * st;
      u = (u + at->slant * v) / zoom + TALLY_SIDE / 2.0;
      v = v / zoom + TALLY_SIDE / 2.0;
      if (u < 2 || v < 2 || u > TALLY_SIDE - 2 || v > TALLY_SIDE - 2) continue;
      double cover = (sample_bitmap(bitmap, u, v) - edge) * sharp * 1.6 + 0.5;
      if (cover > 0) mask_pixel(on, x, y, cover);
    }
}

/* A data set mixes many hands. Of some samples drawn at random, the one most like this writer's. */
static inline int choose_sample(const writer *w, const sample_box *samples, cn_random *random,
                                int digit) {
  int best = 0;
  double least = 1e9;
  for (int i = 0; i < 12; i++) {
    int which = samples->of[digit][below(random, samples->count[digit])];
    double unlike = fabs((double)samples->pen[which] - w->sample_pen) +
                    2 * fabs((double)samples->slant[which] - w->sample_slant);
    if (unlike < least) {
      least = unlike;
      best = which;
    }
  }
  return best;
}

/* A digit of the data set if there is one, else any symbol as the pen draws it. */
static inline void mask_symbol(canvas *on, const writer *w, const sample_box *samples,
                               cn_random *random, int symbol, const placement *at) {
  if (symbol > 9 || !samples->given) {
    mask_skeleton(on, w, random, symbol, at);
    return;
  }
  int which = choose_sample(w, samples, random, symbol);
  mask_sample(on, w, samples->data.pixels + (size_t)which * TALLY_SIDE * TALLY_SIDE, at);
}

/* A place in a cell as this writer would choose it; some leave the box. */
static inline placement choose_place(const writer *w, cn_random *random, const tally_box *cell,
                                     int symbol, double severity) {
  placement at;
  int stray = chance(random, 0.03 * severity);
  double wander = stray ? 0.16 : w->wander;
  at.height = fmin(w->height, fmin(0.8 * cell->height, 0.95 * cell->width / w->aspect));
  at.height *= (1 + 0.06 * limit(normal(random), -2, 2)) * (stray ? 1.2 : 1);
  if (symbol == CROSS) at.height *= between(random, 0.7, 1.1);
  at.width = at.height * (symbol == CROSS ? 0.9 : symbol == DASH ? 0.8 : w->aspect);
  at.slant = w->slant + 0.03 * normal(random);
  at.turn = w->turn + 0.04 * normal(random) * fmin(1, severity + 0.2);
  at.centre.x =
      cell->x + cell->width * (0.5 + limit(w->shift_x + wander * normal(random), -0.3, 0.3));
  at.centre.y =
      cell->y + cell->height * (0.5 + limit(w->shift_y + wander * normal(random), -0.25, 0.25));
  return at;
}

/* A zigzag over a place, as one crosses out what is wrong. */
#define DENSE_ZIGZAG 12 /* points of one that leaves nothing to be read */
static inline void mask_zigzag(canvas *on, const writer *w, cn_random *random, const placement *at,
                               int points) {
  tally_point path[DENSE_ZIGZAG];
  for (int i = 0; i < points; i++)
    path[i] = place(at, i % 2 ? between(random, 85, 125) : between(random, -25, 15),
                    100.0 * i / (points - 1) + 12 * normal(random));
  mask_curve(on, path, points, w->pen, random);
}

/* Something that nobody can read: three digits over each other, or one or two scribbled over. Ones
   and sevens would leave the others readable. */
static inline void mask_illegible(canvas *on, const writer *w, const sample_box *samples,
                                  cn_random *random, const placement *at) {
  static const int full[] = {0, 2, 3, 4, 5, 6, 8, 9};
  int first = below(random, 8), count = 1 + below(random, 3);
  placement other = *at;
  for (int i = 0; i < count; i++) {
    mask_symbol(on, w, samples, random, full[(first + 3 * i) % 8], &other);
    other.centre.x = at->centre.x + between(random, -0.12, 0.12) * at->height;
    other.height = at->height * between(random, 0.9, 1.15);
  }
  if (count < 3) mask_zigzag(on, w, random, at, DENSE_ZIGZAG);
}

/* Writes a symbol into a cell; faint: 1, or how much of the ink is there. */
static inline void write_cell(canvas *on, const writer *w, const sample_box *samples,
                              cn_random *random, const tally_box *cell, int symbol, double faint,
                              double severity) {
  if (symbol == EMPTY) return;
  placement at = choose_place(w, random, cell, symbol, severity);
  ink with = w->with;
  with.strength *= between(random, 0.92, 1.0) * faint;
  if (chance(random, 0.01 * severity)) with.strength *= 0.65;
  if (symbol == ILLEGIBLE)
    mask_illegible(on, w, samples, random, &at);
  else
    mask_symbol(on, w, samples, random, symbol, &at);
  canvas_ink(on, &with);
}

/* A capital letter printed by hand. */
static inline void mask_letter(canvas *on, const writer *w, cn_random *random, double x, double y,
                               double size) {
  const char *at = letter_strokes((char)('A' + below(random, 26)));
  tally_point path[24];
  int count = 0;
  for (;; at += 2) {
    if (*at == ' ' || !*at) {
      if (count > 1) mask_curve(on, path, count, w->pen * 0.9, random);
      count = 0;
      if (!*at) return;
      at++;
    }
    double v = (at[1] - '0') / 6.0 + 0.06 * normal(random);
    double u = (at[0] - '0') / 6.0 + 0.06 * normal(random) - w->slant * (v - 0.5);
    path[count++] = (tally_point){x + size * u, y + size * v};
  }
}

/* Joined letters: loops along a line. */
static inline void mask_loops(canvas *on, const writer *w, cn_random *random, double x, double y,
                              double width, double height) {
  tally_point path[40];
  int count = (int)limit(4 * width / height, 5, 39) + 1;
  double turn = between(random, 1.3, 2.2), phase = between(random, 0, 6);
  for (int i = 0; i < count; i++) {
    double tall = chance(random, 0.25) ? 0.9 : 0.42, v = sin(phase + turn * i);
    path[i].y = y + height * (0.8 - tall * 0.5 * (1 + v)) + 0.05 * height * normal(random);
    path[i].x =
        x + width * i / count + 0.25 * height * cos(phase + turn * i) - w->slant * height * v;
  }
  mask_curve(on, path, count, w->pen * 0.9, random);
}

/* Words in somebody's hand that mean nothing. */
static inline void scribble(canvas *on, const writer *w, cn_random *random, double x, double y,
                            double width, double height) {
  for (double from = x; from + height < x + width;) {
    double length = fmin(x + width - from, height * between(random, 2, 5));
    if (w->joins)
      mask_loops(on, w, random, from, y, length, height);
    else
      for (double at = 0; at + 0.6 * height < length; at += 0.95 * height)
        mask_letter(on, w, random, from + at, y, height);
    from += length + height * between(random, 0.5, 1);
  }
  canvas_ink(on, &w->with);
}

#endif
