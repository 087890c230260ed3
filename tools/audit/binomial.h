/* binomial.h - exact chances of finding few among those that were drawn, and what follows from them:
   how many to draw, and how many there may be.

   Of N tallies M are wrong. n are drawn, each set of n as likely as any other, and k of them are found
   to be wrong. "At most M - 1 are wrong" can then be said with the risk

       P(X <= k),  X hypergeometric (N, M, n);  X binomial (n, p) where N is without bound and p = M/N,

   the chance to find so few if it were not so: the test of Learn-then-Test (Angelopoulos, Bates, Candes,
   Jordan and Lei 2021, arXiv 2110.01052), whose Hoeffding-Bentkus bound is replaced by the exact tail,
   as an error is there or not. The bound on p that goes with it is that of Clopper and Pearson
   (Biometrika 26, 1934). Nothing here is an approximation: with few errors the normal one is far off.

   Usable alone: nothing but libc and libm. */
#ifndef TALLY_AUDIT_BINOMIAL_H
#define TALLY_AUDIT_BINOMIAL_H

#include <limits.h>
#include <math.h>

/* P(X <= k), X binomial: n draws, each hits with probability p. Terms follow from one another,
   P(i + 1) / P(i) = (n - i) / (i + 1) * p / (1 - p), in logarithms as they may be very small. */
static inline double binomial_at_most(long long n, double p, long long k) {
  if (k < 0) return 0;
  if (k >= n || p <= 0) return 1;
  if (p >= 1) return 0;
  double term = (double)n * log1p(-p), odds = log(p) - log1p(-p), sum = 0;
  for (long long i = 0; i <= k; i++) {
    sum += exp(term);
    term += log((double)(n - i) / (double)(i + 1)) + odds;
  }
  return fmin(sum, 1);
}

/* log of n over k. */
static inline double log_choose(long long n, long long k) {
  double sum = 0;
  if (k > n - k) k = n - k;
  for (long long i = 1; i <= k; i++) sum += log((double)(n - k + i) / (double)i);
  return sum;
}

/* P(X <= k), X hypergeometric: n draws without replacement from N, M of which hit. The fewest hits there
   can be are those left when all others are drawn. */
static inline double hypergeometric_at_most(long long N, long long M, long long n, long long k) {
  long long least = n > N - M ? n - (N - M) : 0, most = n < M ? n : M;
  if (k < least) return 0;
  if (k >= most) return 1;
  double term = log_choose(M, least) + log_choose(N - M, n - least) - log_choose(N, n), sum = 0;
  for (long long i = least; i <= k; i++) {
    sum += exp(term);
    term +=
        log((double)(M - i) / (double)(i + 1)) + log((double)(n - i) / (double)(N - M - n + i + 1));
  }
  return fmin(sum, 1);
}

/* The fewest of N (0: without bound) that are more than the share r: what is false if "at most r are
   wrong" is true. r * N is rounded down, but for the rounding of r itself. */
static inline long long fewest_above(double r, long long N) {
  return (long long)floor(r * (double)N + 1e-9) + 1;
}

/* The risk of "at most the share r is wrong" when k of n are found to be. N: tallies, 0: without bound. */
static inline double share_risk(double r, long long N, long long n, long long k) {
  if (!N) return binomial_at_most(n, r, k);
  long long M = fewest_above(r, N);
  return M > N ? 0 : hypergeometric_at_most(N, M, n, k);
}

#define MOST_DRAWS 1000000000LL /* more than there are tallies on earth */

/* How many to draw so that "at most the share r is wrong" has at most this risk although k are found to
   be. Of no more than N; where all N are drawn nothing is left to chance, so that is always enough, if
   the statement is true at all. -1: more than MOST_DRAWS. */
static inline long long draws_needed(double r, long long N, long long k, double risk) {
  long long low = k, high = N ? N : MOST_DRAWS; /* low is too few, high is enough */
  if (N && k >= fewest_above(r, N)) return N;
  if (share_risk(r, N, high, k) > risk) return -1;
  while (high - low > 1) {
    long long middle = low + (high - low) / 2;
    if (share_risk(r, N, middle, k) <= risk)
      high = middle;
    else
      low = middle;
  }
  return high;
}

/* The p at which k hits or fewer in n have the chance `risk`: p is not above it, but with that risk. */
static inline double binomial_upper(long long n, long long k, double risk) {
  double low = 0, high = 1;
  if (k >= n) return 1;
  for (int i = 0; i < 60; i++) {
    double middle = (low + high) / 2;
    if (binomial_at_most(n, middle, k) > risk)
      low = middle;
    else
      high = middle;
  }
  return high;
}

/* The same from below: p is not under it, but with that risk. */
static inline double binomial_lower(long long n, long long k, double risk) {
  return 1 - binomial_upper(n, n - k, risk);
}

#endif
