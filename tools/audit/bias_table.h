/* bias_table.h - the errors of reading that an audit found: by field, and by pair of digits. */
#ifndef TALLY_AUDIT_BIAS_TABLE_H
#define TALLY_AUDIT_BIAS_TABLE_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv_write.h"
#include "../output.h"
#include "bias.h"
#include "keyed.h"

#define DIGIT_PAIRS 100 /* smaller * 10 + larger; those with smaller < larger are used */

typedef struct bias_table {
  bias *field;            /* [fields] */
  bias pair[DIGIT_PAIRS]; /* more: the smaller digit was read as the larger one */
  int fields, not_read;   /* counts that were keyed, but not read */
} bias_table;

/* Errors of all tallies in one sum: [sums][tallies], sum by sum. */
typedef struct bias_errors {
  double *of;
  int tallies;
} bias_errors;

static inline double *errors_at(const bias_errors *all, int sum, int draw) {
  return all->of + (size_t)sum * (size_t)all->tallies + draw;
}

static inline void count_error(bias *to, double error) {
  to->compared++;
  to->more += error > 0;
  to->fewer += error < 0;
}

/* The digits in which two counts differ, from the right; a digit that is not there is a 0. */
static inline void compare_digits(bias_table *to, const bias_errors *pairs, int draw, int count,
                                  int written) {
  for (int place = 1; count || written; count /= 10, written /= 10) {
    int a = count % 10, b = written % 10, pair = a < b ? a * 10 + b : b * 10 + a;
    if (a != b) {
      count_error(&to->pair[pair], a - b);
      *errors_at(pairs, pair, draw) += (double)(a - b) * place;
    }
    if (place < MOST_VOTES / 10) place *= 10;
  }
}

/* What was read of a count against what is written; nothing written is no vote. */
static inline void compare_count(bias_table *to, const bias_errors *fields,
                                 const bias_errors *pairs, int field, int draw, int count,
                                 int written) {
  if (written < WRITTEN_NOTHING) return;
  if (count == NO_COUNT) {
    to->not_read += written > WRITTEN_NOTHING;
    return;
  }
  if (written == WRITTEN_NOTHING) written = 0;
  count_error(&to->field[field], (double)count - written);
  *errors_at(fields, field, draw) = (double)count - written;
  compare_digits(to, pairs, draw, count, written);
}

static inline void bias_pairs_judge(bias_table *to, const bias_errors *pairs) {
  bias met[DIGIT_PAIRS];
  int of[DIGIT_PAIRS], count = 0;
  for (int p = 0; p < DIGIT_PAIRS; p++) {
    if (!to->pair[p].compared) continue;
    bias_judge(&to->pair[p], errors_at(pairs, p, 0), pairs->tallies);
    met[count] = to->pair[p];
    of[count++] = p;
  }
  bias_correct(met, count);
  for (int i = 0; i < count; i++) to->pair[of[i]].corrected = met[i].corrected;
}

/* Of the first `until` draws. */
static inline bias_table bias_measure(const population *all, const draw_queue *queue,
                                      const keyed *from, int until) {
  bias_table to = {.fields = all->fields};
  size_t tallies = (size_t)until + 1; /* also where there are none */
  bias_errors fields = {allocate((size_t)all->fields * tallies, sizeof(double)), until};
  bias_errors pairs = {allocate(DIGIT_PAIRS * tallies, sizeof(double)), until};
  to.field = allocate((size_t)all->fields, sizeof(bias));
  for (int t = 0; t < until; t++)
    for (int f = 0; f < all->fields; f++)
      compare_count(&to, &fields, &pairs, f, t, count_at(all, queue->of[t].tally, f),
                    keyed_row(from, t)[f]);
  for (int f = 0; f < all->fields; f++) bias_judge(&to.field[f], errors_at(&fields, f, 0), until);
  bias_correct(to.field, all->fields);
  bias_pairs_judge(&to, &pairs);
  free(fields.of);
  free(pairs.of);
  return to;
}

/* The field whose errors are least likely to favour nobody. */
static inline int most_biased(const bias_table *all) {
  int worst = 0;
  for (int f = 1; f < all->fields; f++)
    if (all->field[f].chance < all->field[worst].chance) worst = f;
  return worst;
}

static inline void write_bias_row(FILE *file, const bias *of) {
  fprintf(file, ",%lld,%lld,%lld,%.0f,%.9g,%.9g,%.6f,%.6f\n", of->compared, of->more, of->fewer,
          of->net, of->chance, of->corrected, of->low, of->high);
}

static inline void write_bias(const char *path, const population *all, const bias_table *from) {
  output out = output_open(path);
  fputs("kind,what,compared,too_many,too_few,net_votes,chance,corrected,too_many_low,"
        "too_many_high\n",
        out.file);
  for (int f = 0; f < from->fields; f++) {
    fputs("field,", out.file);
    csv_write(out.file, all->field[f]);
    write_bias_row(out.file, &from->field[f]);
  }
  for (int p = 0; p < DIGIT_PAIRS; p++) {
    if (!from->pair[p].compared) continue;
    fprintf(out.file, "digits,%d and %d", p / 10, p % 10);
    write_bias_row(out.file, &from->pair[p]);
  }
  output_close(&out);
}

#endif
