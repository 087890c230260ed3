/* corrections.h - what people change when they have written the wrong thing: they strike it out, write
   beside it or over it; and a pen that leaves one digit faint.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_CORRECTIONS_H
#define TALLY_SYNTH_CORRECTIONS_H

#include "votes.h"

/* The kinds in the order of the rates that options give. */
enum { CORRECT_STRUCK, CORRECT_SEVERAL, CORRECT_OVERWRITTEN, CORRECT_FAINT, CORRECTIONS };

/* A stroke's ends lie this far outside of what it strikes out, in hundredths of that: one that ended
   inside would be a part of the symbol, as the bar of a 7 is. */
#define STRIKE_LEAST 18
#define STRIKE_MOST 45

/* A line through a place, from left to right. */
static inline void mask_strike(canvas *on, const writer *w, cn_random *random, const placement *at,
                               double from_y, double to_y) {
  double left = -between(random, STRIKE_LEAST, STRIKE_MOST);
  double right = 100 + between(random, STRIKE_LEAST, STRIKE_MOST);
  tally_point path[4];
  for (int i = 0; i < 4; i++)
    path[i] = place(at, left + (right - left) * i / 3 + 2 * normal(random),
                    from_y + (to_y - from_y) * i / 3 + 4 * normal(random));
  mask_curve(on, path, 4, w->pen * between(random, 0.8, 1.2), random);
}

/* Strikes out one symbol: with a line, two, crossed ones, or a zigzag that leaves it to be seen. One
   line through a 0 or a 7 would be the bar that some people write there. */
static inline void mask_struck(canvas *on, const writer *w, cn_random *random, int symbol,
                               const placement *at) {
  int barred = symbol == 0 || symbol == 7;
  double middle = between(random, 35, 65), slope = between(random, -45, 45);
  switch (below(random, 8) + barred * 3) {
  case 0:
  case 1:
  case 2:
    mask_strike(on, w, random, at, middle + slope, middle - slope);
    break;
  case 3:
  case 4:
    mask_strike(on, w, random, at, middle - 12 + slope / 2, middle - 12 - slope / 2);
    mask_strike(on, w, random, at, middle + 14 + slope / 2, middle + 14 - slope / 2);
    break;
  case 5:
  case 6:
    mask_strike(on, w, random, at, -5, 105);
    mask_strike(on, w, random, at, 105, -5);
    break;
  default:
    mask_zigzag(on, w, random, at, 4 + below(random, 4));
  }
}

/* One stroke through a whole number, over the cells that something stands in. */
static inline void strike_number(canvas *on, const writer *w, cn_random *random,
                                 const tally_field *field, int first) {
  const tally_box *a = &field->cell[first], *b = &field->cell[field->digits - 1];
  placement at = {{0, 0}, 0.5 * a->height, 0, 0, 0};
  double left = a->x + 0.2 * a->width, right = b->x + 0.8 * b->width;
  at.centre.x = (left + right) / 2;
  at.centre.y = a->y + a->height * between(random, 0.4, 0.6);
  at.width = (right - left) / (1 + 0.01 * (STRIKE_LEAST + STRIKE_MOST));
  double slope = between(random, -40, 40);
  mask_strike(on, w, random, &at, 50 + slope, 50 - slope);
  if (chance(random, 0.3)) mask_strike(on, w, random, &at, 72 + slope, 72 - slope);
}

/* Two digits side by side in a cell, each narrower than one alone. */
static inline void mask_several(canvas *on, const writer *w, const sample_box *samples,
                                cn_random *random, int left, int right, const placement *at) {
  for (int side = 0; side < 2; side++) {
    placement one = *at;
    one.width *= between(random, 0.5, 0.75);
    one.height *= between(random, 0.6, 0.9);
    one.centre.x += (side ? 0.5 : -0.5) * at->height * between(random, 0.42, 0.62);
    one.centre.y += at->height * between(random, -0.12, 0.12);
    mask_symbol(on, w, samples, random, side ? right : left, &one);
  }
}

/* Changes one number of a tally, or leaves it. Which kind at what rate: rates[CORRECTIONS]. What is
   struck out leaves no value; beside and over a wrong digit stands the right one. */
static inline void correct_number(tally *t, const tally_template *form, int field,
                                  cn_random *random, const double *rates) {
  const tally_field *f = &form->field[field];
  double which = between(random, 0, 1);
  int kind = 0, at = f->first_cell, digits[TALLY_MAX_DIGITS], count = 0;
  while (kind < CORRECTIONS && which >= rates[kind]) which -= rates[kind++];
  for (int k = 0; k < f->digits; k++)
    if (t->mark[at + k] < 10) digits[count++] = k;
  int cell = count ? at + digits[below(random, count)] : 0;
  int whole = chance(random, 0.4), wrong = below(random, 9);
  if (kind == CORRECTIONS || !count || t->state[field] != STATE_NUMBER) return;
  if (kind == CORRECT_FAINT) {
    t->faint[cell] = between(random, 0.12, 0.45);
    return;
  }
  t->state[field] = STATE_ALTERED;
  t->other[cell] = wrong + (wrong >= t->mark[cell]);
  t->strikes_all[field] = kind == CORRECT_STRUCK && whole;
  for (int k = 0; k < f->digits; k++) {
    int c = at + k;
    if (t->mark[c] == EMPTY || (c != cell && !t->strikes_all[field])) continue;
    t->under[c] = t->mark[c];
    t->mark[c] = STRUCK_OUT + kind;
  }
}

/* Draws what was changed in a cell over what `hand` has written there. */
static inline void write_correction(canvas *on, const writer *w, const sample_box *samples,
                                    cn_random *random, const tally_box *cell, const tally *t,
                                    int number, double severity) {
  int under = t->under[number], other = t->other[number];
  placement at = choose_place(w, random, cell, under, severity);
  ink with = w->with;
  if (t->mark[number] == STRUCK_OUT)
    mask_struck(on, w, random, under, &at);
  else if (t->mark[number] == SEVERAL)
    mask_several(on, w, samples, random, other, under, &at);
  else
    mask_symbol(on, w, samples, random, under, &at);
  canvas_ink(on, &with);
}

/* Writes a number into its cells. `hand` draws as much whatever is changed, so that what is written
   elsewhere stays as it was; what is changed comes from `correcting`. */
static inline void write_number(canvas *on, const writer *w, const sample_box *samples,
                                cn_random *hand, cn_random *correcting, const tally_field *field,
                                const tally *t, int number, double severity) {
  int first = -1;
  for (int k = 0; k < field->digits; k++) {
    int c = field->first_cell + k, mark = t->mark[c], altered = mark >= STRUCK_OUT;
    int below_it = !altered ? mark : mark == OVERWRITTEN ? t->other[c] : t->under[c];
    double faint = mark == SEVERAL ? 0 : t->faint[c] > 0 ? t->faint[c] : 1;
    if (mark != EMPTY && first < 0) first = k;
    write_cell(on, w, samples, hand, &field->cell[k], below_it, faint, severity);
    if (altered && !t->strikes_all[number])
      write_correction(on, w, samples, correcting, &field->cell[k], t, c, severity);
  }
  if (!t->strikes_all[number]) return;
  strike_number(on, w, correcting, field, first);
  canvas_ink(on, &w->with);
}

#endif
