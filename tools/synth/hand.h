/* hand.h - one person with one pen: how symbols are written into cells, and words beside them.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_HAND_H
#define TALLY_SYNTH_HAND_H

#include "canvas.h"
#include "samples.h"

/* What can be written into a cell; the first thirteen are the classes of tally.h. */
enum { CROSS = TALLY_CLASS_CROSS, EMPTY, ILLEGIBLE, DASH, SYMBOLS };
static const char *const symbol_names[SYMBOLS] = {
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "cross", "empty", "illegible", "dash"};

/* How people write them: points of the pen's path in a box of 100 x 100, y down, that a smooth
   curve is laid through; the same point twice makes a corner, UP lifts the pen, END ends. */
#define UP (-1)
#define END (-2)
#define VARIANTS 3
static const signed char skeletons[SYMBOLS][VARIANTS][48] = {
    {{55, 0, 20, 12, 2, 50, 20, 88, 50, 100, 80, 88, 98, 50, 80, 12, 50, 1, END},
     {64, 5, 25, 8, 3, 45, 14, 86, 48, 100, 85, 85, 98, 48, 82, 12, 52, 1, 38, 8, END},
     {50, 0, 80, 10, 96, 50, 78, 90, 48, 100, 18, 88, 4, 50, 20, 10, 56, 2, END}},
    {{52, 0, 50, 50, 49, 100, END},
     {30, 24, 54, 0, 54, 0, 52, 50, 51, 100, END},
     {28, 22, 52, 0, 52, 0, 51, 50, 51, 99, UP, 24, 100, 80, 99, END}},
    {{8, 22, 25, 4, 55, 0, 85, 14, 86, 36, 60, 66, 5, 100, 5, 100, 50, 98, 98, 97, END},
     {10, 20, 30, 2,  65, 2,  88, 22, 75,  52, 40, 84, 12,
      97, 9,  84, 28, 80, 52, 94, 76, 100, 99, 90, END},
     {6, 10, 40, 0, 84, 8, 78, 36, 40, 74, 8, 98, 8, 98, 55, 90, 96, 98, END}},
    {{10, 14, 35, 0,  75, 4,  88, 24, 70,  43, 40, 48, 40,
      48, 76, 54, 95, 74, 75, 95, 35, 100, 5,  86, END},
     {8, 2, 50, 3, 88, 2, 88, 2, 45, 40, 45, 40, 80, 50, 95, 74, 70, 97, 30, 100, 5, 86, END},
     {12, 8, 50, 0, 86, 16, 60, 44, 30, 50, 60, 50, 92, 72, 70, 97, 20, 98, END}},
    {{28, 0, 16, 30, 8, 56, 8, 56, 50, 58, 96, 56, UP, 72, 18, 68, 60, 66, 100, END},
     {66, 0, 36, 36, 4, 66, 4, 66, 50, 67, 99, 66, UP, 68, 1, 67, 50, 66, 100, END},
     {20, 4, 14, 30, 20, 48, 50, 52, 80, 44, UP, 84, 0, 78, 50, 74, 100, END}},
    {{22, 2,  18, 22, 15, 43, 15, 43, 50, 36, 88, 52, 90,
      78, 60, 99, 8,  92, UP, 22, 3,  55, 2,  94, 0,  END},
     {90, 2,  55, 3,  22, 4,  22, 4,  18,  25, 15, 45, 15,
      45, 55, 38, 90, 58, 84, 86, 45, 100, 5,  90, END},
     {88, 4, 45, 4, 24, 14, 24, 38, 60, 48, 88, 70, 64, 97, 8, 94, END}},
    {{76, 2, 38, 24, 8, 62, 20, 94, 55, 100, 88, 82, 80, 56, 45, 50, 12, 72, END},
     {60, 0, 28, 38, 8, 75, 35, 99, 75, 96, 90, 74, 66, 56, 32, 60, 12, 78, END},
     {84, 8, 50, 4, 18, 34, 6, 70, 28, 98, 70, 98, 92, 76, 70, 54, 30, 60, END}},
    {{5, 6, 50, 5, 92, 3, 92, 3, 60, 46, 40, 100, END},
     {5, 5, 50, 4, 92, 3, 92, 3, 60, 46, 42, 100, UP, 24, 52, 84, 48, END},
     {8, 20, 9, 4, 9, 4, 50, 5, 92, 4, 92, 4, 55, 55, 40, 100, END}},
    {{82,  14, 46, 0,  14, 20, 36, 42, 76, 60, 88, 82, 55,
      100, 14, 86, 20, 64, 62, 42, 86, 18, 70, 4,  END},
     {52, 46, 20, 30, 24, 6,   52, 0,  80, 8,  80, 32, 50, 46,
      14, 62, 10, 88, 48, 100, 88, 88, 86, 62, 54, 47, END},
     {70, 8, 34, 2, 18, 22, 50, 46, 84, 72, 66, 98, 28, 96, 16, 74, 50, 48, 82, 20, 66, 6, END}},
    {{86, 18, 50, 0, 15, 15, 12, 42, 45, 54, 80, 38, 88, 14, 88, 14, 84, 55, 70, 100, END},
     {84, 14, 46, 0, 12, 20, 16, 46, 50, 52, 82, 32, 88, 10, 86, 60, 66, 96, 22, 98, END},
     {82, 20, 48, 2, 14, 22, 24, 50, 60, 48, 84, 18, 86, 4, 86, 4, 84, 50, 82, 100, END}},
    {{5, 6, 50, 48, 95, 95, UP, 92, 4, 50, 50, 6, 96, END},
     {12, 0, 50, 50, 88, 100, UP, 98, 12, 50, 48, 2, 90, END},
     {94, 4, 50, 48, 10, 90, 2, 78, 14, 66, 50, 76, 98, 98, END}},
    {{END}, {END}, {END}},
    {{END}, {END}, {END}},
    {{2, 52, 50, 49, 98, 48, END}, {4, 46, 50, 52, 96, 54, END}, {8, 50, 50, 46, 92, 50, END}}};

/* What somebody writes in front of a number that is shorter than its boxes. */
enum { LEADING_ZEROS, LEADING_BLANKS, LEADING_CROSSES, LEADING_DASHES };

/* One person with one pen. Lengths in template pixels. */
typedef struct writer {
  int variant[SYMBOLS], habit, joins; /* joins letters, or prints them */
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
static inline writer choose_writer(const tally_template *form, const sample_box *samples,
                                   cn_random *random, double severity) {
  writer w = {0};
  double unit = form->width / 1000, odd = fmin(severity, 2);
  for (int s = 0; s < SYMBOLS; s++) w.variant[s] = below(random, VARIANTS);
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

/* Draws a symbol from its skeleton. */
static inline void mask_skeleton(canvas *on, const writer *w, cn_random *random, int symbol,
                                 const placement *at) {
  const signed char *from = skeletons[symbol][w->variant[symbol]];
  tally_point path[24];
  int count = 0;
  for (;; from += 2) {
    if (*from == UP || *from == END) {
      if (count > 1) mask_curve(on, path, count, w->pen, random);
      count = 0;
      if (*from == END) return;
      from++;
    }
    int corner = count && from[0] == from[-2] && from[1] == from[-1];
    if (corner)
      path[count] = path[count - 1];
    else {
      /* the arms of a hurried cross are bent and of unequal length */
      double reach = symbol == CROSS ? between(random, 0.2, 1.1) : 1;
      double tremor = symbol == CROSS ? w->tremor + 5 : w->tremor;
      path[count] = place(at, 50 + reach * (from[0] - 50) + normal(random) * tremor,
                          50 + reach * (from[1] - 50) + normal(random) * tremor);
    }
    count++;
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
static inline void mask_zigzag(canvas *on, const writer *w, cn_random *random,
                               const placement *at) {
  tally_point path[12];
  for (int i = 0; i < 12; i++)
    path[i] = place(at, i % 2 ? between(random, 85, 125) : between(random, -25, 15),
                    100.0 * i / 11 + 12 * normal(random));
  mask_curve(on, path, 12, w->pen, random);
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
  if (count < 3) mask_zigzag(on, w, random, at);
}

/* Writes a symbol into a cell. */
static inline void write_cell(canvas *on, const writer *w, const sample_box *samples,
                              cn_random *random, const tally_box *cell, int symbol,
                              double severity) {
  if (symbol == EMPTY) return;
  placement at = choose_place(w, random, cell, symbol, severity);
  ink with = w->with;
  with.strength *= between(random, 0.92, 1.0);
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
