/* votes.h - what a tally says: the strength of a district's parties, one polling station's votes,
   a mistake in its sums, and the marks that stand for a number.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_VOTES_H
#define TALLY_SYNTH_VOTES_H

#include "hand.h"

/* District 15 of the paper: counts from 0 to 176, half of them 12 or less. */
#define MOST_VOTES 176
#define MIDDLE_VOTES 10.5
#define LEAST_VOTERS 180

/* Mean votes of each field that is not the sum of others; the same for all tallies of a run. */
typedef struct district {
  int is_total[TALLY_MAX_FIELDS];
  double strength[TALLY_MAX_FIELDS];
} district;

/* Quantile of the normal distribution, close enough for strengths (Tukey's lambda). */
static inline double normal_quantile(double p) {
  return (pow(p, 0.135) - pow(1 - p, 0.135)) / 0.1975;
}

/* Strengths are spread evenly over the quantiles of a skewed distribution and dealt out by the
   seed, so every district has its large parties and its dwarfs. The last row, by custom the spoilt
   votes, gets a small one. Forms with few rows get more votes a row. */
static inline district make_district(const tally_template *form, uint64_t seed) {
  district out = {{0}, {0}};
  int leaf[TALLY_MAX_FIELDS], order[TALLY_MAX_FIELDS], leaves = 0;
  double sum = 0;
  cn_random random = {0, 0};
  random.seed = mix_seed(seed, 0x5eed);
  for (int s = 0; s < form->sums; s++) out.is_total[form->sum[s].total] = 1;
  for (int f = 0; f < form->fields; f++)
    if (!out.is_total[f]) leaf[leaves++] = f;
  for (int i = 0; i < leaves; i++) order[i] = i;
  cn_random_shuffle(&random, order, leaves);
  for (int i = 0; i < leaves; i++)
    if (order[i] == leaves / 4) {
      order[i] = order[leaves - 1];
      order[leaves - 1] = leaves / 4;
      break;
    }
  for (int i = 0; i < leaves; i++) {
    double strength = MIDDLE_VOTES * exp(1.25 * normal_quantile((order[i] + 0.5) / leaves));
    out.strength[leaf[i]] = strength;
    sum += strength;
  }
  for (int i = 0; i < leaves; i++) out.strength[leaf[i]] *= fmax(1, LEAST_VOTERS / sum);
  return out;
}

/* From the Poisson distribution: by Knuth's product of uniform numbers, for large means by the
   normal distribution. */
static inline int poisson(cn_random *random, double mean) {
  if (mean > 40) return (int)fmax(0, mean + sqrt(mean) * normal(random) + 0.5);
  double left = exp(-mean), product = 1;
  int count = -1;
  do {
    product *= between(random, 0, 1);
    count++;
  } while (product > left);
  return count;
}

/* The largest number that a field's boxes hold. */
static inline int most_of(const tally_template *form, int field) {
  int most = 1;
  for (int k = 0; k < form->field[field].digits; k++) most *= 10;
  return most - 1;
}

/* Totals of totals need as many rounds as they are deep. */
static inline void add_up(const tally_template *form, int *value) {
  for (int round = 0; round < form->sums; round++)
    for (int s = 0; s < form->sums; s++) {
      const tally_sum *sum = &form->sum[s];
      value[sum->total] = 0;
      for (int k = 0; k < sum->parts; k++) value[sum->total] += value[sum->part[k]];
    }
}

/* 1 if every number fits into its boxes. */
static inline int fits(const tally_template *form, const int *value) {
  for (int f = 0; f < form->fields; f++)
    if (value[f] > most_of(form, f)) return 0;
  return 1;
}

/* One polling station's votes. Where a total does not fit into its boxes, fewer people came. */
static inline void deal_votes(const tally_template *form, const district *parties,
                              cn_random *random, int *value) {
  double turnout = exp(0.3 * normal(random));
  for (int f = 0; f < form->fields; f++) {
    value[f] = 0;
    if (parties->is_total[f]) continue;
    double mean = parties->strength[f] * turnout * exp(0.35 * normal(random));
    value[f] = poisson(random, fmin(mean, MOST_VOTES));
    value[f] = (int)limit(value[f], 0, fmin(MOST_VOTES, most_of(form, f)));
  }
  for (add_up(form, value); !fits(form, value); add_up(form, value))
    for (int f = 0; f < form->fields; f++) value[f] /= 2;
}

/* 1 if all the form's sums hold. */
static inline int adds_up(const tally_template *form, const int *value) {
  for (int s = 0; s < form->sums; s++) {
    int sum = 0;
    for (int k = 0; k < form->sum[s].parts; k++) sum += value[form->sum[s].part[k]];
    if (sum != value[form->sum[s].total]) return 0;
  }
  return 1;
}

/* Somebody's mistake: one number of one sum is off by a little, or in one digit. */
static inline void miscount(const tally_template *form, cn_random *random, const district *parties,
                            int *value) {
  static const int slips[] = {1, 2, 3, 9, 10, 20, 100};
  const tally_sum *sum = &form->sum[below(random, form->sums)];
  int field = chance(random, 0.6) ? sum->total : sum->part[below(random, sum->parts)];
  int most =
      parties->is_total[field] ? most_of(form, field) : (int)fmin(MOST_VOTES, most_of(form, field));
  int slip = slips[below(random, 7)] * (chance(random, 0.5) ? 1 : -1);
  if (value[field] + slip < 0 || value[field] + slip > most) slip = value[field] > 0 ? -1 : 1;
  value[field] += slip;
}

/* ---- what is written into the cells ---------------------------------------------------------- */

enum { STATE_NUMBER, STATE_MISSING, STATE_ILLEGIBLE, STATE_ALTERED };

#define MOST_CELLS (TALLY_MAX_FIELDS * TALLY_MAX_DIGITS)

/* What one tally says. Cells are in the order of tally_cut. */
typedef struct tally {
  int value[TALLY_MAX_FIELDS], state[TALLY_MAX_FIELDS], adds_up;
  int mark[MOST_CELLS];
  int under[MOST_CELLS];             /* of an altered cell: what it would hold otherwise */
  int other[MOST_CELLS];             /* of an altered cell: the wrong digit below or beside that */
  double faint[MOST_CELLS];          /* how much of the ink is there; 0: all */
  int strikes_all[TALLY_MAX_FIELDS]; /* one stroke goes through the whole number */
} tally;

/* The marks of one number. Zeros before it are written as the writer's habit has it, now and then
   in another way; nothing at all may stand for a nought. */
static inline void mark_number(tally *t, const tally_template *form, int field, const writer *w,
                               cn_random *random, double severity) {
  static const int leading[] = {0, EMPTY, CROSS, DASH};
  const tally_field *f = &form->field[field];
  int rest = t->value[field], habit = w->habit, *mark = t->mark + f->first_cell;
  if (chance(random, 0.03 * severity)) habit = other_habit(form, random);
  if (rest == 0 && chance(random, 0.03 * severity)) {
    t->state[field] = STATE_MISSING;
    for (int k = 0; k < f->digits; k++) mark[k] = EMPTY;
    return;
  }
  int whole = rest == 0 && habit >= LEADING_CROSSES && chance(random, 0.8);
  for (int k = f->digits - 1; k >= 0; k--, rest /= 10) {
    int zero = rest == 0 && (k < f->digits - 1 || whole);
    mark[k] = zero ? leading[habit] : rest % 10;
    if (mark[k] != EMPTY && chance(random, 0.003 * severity)) {
      mark[k] = ILLEGIBLE;
      t->state[field] = STATE_ILLEGIBLE;
    }
  }
}

#endif
