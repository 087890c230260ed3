/* bias.h - do errors favour anyone? Signed errors, votes read minus votes written, of each field and of
   each pair of digits that were taken for one another.

   If they favour nobody, the error of a tally could as well have had the other sign, whatever its size.
   The chance that signs thrown at random add up to as much or more, in either direction,

       P(|S| >= |sum of e|),  S = sum of s_i |e_i|,  s_i = +1 or -1, each with 1/2,

   is the permutation test of Fisher ("The design of experiments", 1935, section 21). It is computed exactly,
   by the distribution of S; where that has too many values, a bound that is never too small takes its
   place: 2 exp(-(sum of e)^2 / (2 sum of e^2)) (Hoeffding 1963, theorem 2). Among several fields the smallest
   of such chances is small by chance, so they are also given as Holm (Scandinavian Journal of Statistics
   6, 1979) corrects them. How often errors read too many votes is a share of the errors, with the interval
   of Clopper and Pearson (binomial.h). */
#ifndef TALLY_AUDIT_BIAS_H
#define TALLY_AUDIT_BIAS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "../memory.h"
#include "binomial.h"

#define BIAS_RISK 0.05       /* of the intervals */
#define MOST_SIGN_STEPS 2e8  /* of the exact distribution, */
#define MOST_SIGN_VALUES 4e6 /* which has so many values at most */

/* The errors of one field, or of one pair of digits. */
typedef struct bias {
  long long compared, more, fewer; /* counts; those that were read with too many, too few votes */
  double net;                      /* votes too many */
  double chance, corrected;        /* of the test; after Holm */
  double low, high;                /* `more` as a share of the errors, 95 % */
} bias;

/* P(|S| >= |sum|) for errors in votes, of which `total` is the sum of sizes: of the votes with sign +1,
   p[v] is the chance that they are v. */
static inline double signs_exactly(const double *errors, int count, double total, double sum) {
  size_t most = (size_t)total;
  double *p = allocate(most + 1, sizeof(double)), chance = 0;
  size_t reach = 0;
  p[0] = 1;
  for (int i = 0; i < count; i++) {
    size_t size = (size_t)fabs(errors[i]);
    reach += size;
    if (!size) continue;
    for (size_t v = reach + 1; v-- > 0;) p[v] = 0.5 * p[v] + (v >= size ? 0.5 * p[v - size] : 0);
  }
  for (size_t v = 0; v <= most; v++)
    if (fabs(2 * (double)v - total) >= fabs(sum)) chance += p[v];
  free(p);
  return fmin(chance, 1);
}

/* errors: whole numbers of votes, one of each tally. */
static inline double sign_flip_chance(const double *errors, int count) {
  double total = 0, sum = 0, squares = 0;
  int wrong = 0;
  for (int i = 0; i < count; i++) {
    total += fabs(errors[i]);
    sum += errors[i];
    squares += errors[i] * errors[i];
    wrong += fabs(errors[i]) > 0;
  }
  if (!wrong) return 1;
  if (total * wrong <= MOST_SIGN_STEPS && total <= MOST_SIGN_VALUES)
    return signs_exactly(errors, count, total, sum);
  return fmin(1, 2 * exp(-sum * sum / (2 * squares)));
}

/* errors: [count] of each tally. */
static inline void bias_judge(bias *to, const double *errors, int count) {
  long long wrong = to->more + to->fewer;
  to->net = 0;
  for (int i = 0; i < count; i++) to->net += errors[i];
  to->chance = to->corrected = sign_flip_chance(errors, count);
  to->low = wrong ? binomial_lower(wrong, to->more, BIAS_RISK / 2) : 0;
  to->high = wrong ? binomial_upper(wrong, to->more, BIAS_RISK / 2) : 1;
}

/* The k-th smallest of n chances is multiplied by n - k + 1, and is no smaller than those before it. */
static inline void bias_correct(bias *of, int count) {
  double least = 0;
  char *done = allocate((size_t)count, 1);
  for (int k = 0; k < count; k++) {
    int next = -1;
    for (int i = 0; i < count; i++)
      if (!done[i] && (next < 0 || of[i].chance < of[next].chance)) next = i;
    done[next] = 1;
    least = fmax(least, fmin(1, (count - k) * of[next].chance));
    of[next].corrected = least;
  }
  free(done);
}

#endif
