/* statement.h - what an audit can show, as sums of errors over tallies.

   Three statements on a result as it was read (or officially published), each true if the sums of certain
   errors are below a limit. What a tally adds to a sum is known when a person has keyed it, and bounded
   before. With a the votes read on a tally, b those written there, A and B all votes on it, U the votes
   that it may hold (B <= U; A <= U, else U = A), and capital letters for the sums over all tallies:

   wrong     At most the share r of the N tallies with accepted counts has an accepted count that is wrong.
             error 1 if one is; limit floor(r N) + 1.

   winner    The party w has the most votes: for each other party l, W > L.
             error (a_w - a_l) - (b_w - b_l), which is a_w - a_l + U at most; limit A_w - A_l, for then the
             lead is gone. These are the overstatements of margins of Stark ("Conservative statistical
             post-election audits", Annals of Applied Statistics 2, 2008).

   shares    No party's share of the votes is off by x or more. s = a's share as read:
             too low: the true one is q = s + x or more if the sum of b - q B is not negative. As read that sum
             is -x A, so the error (b - a) - q (B - A) has the limit x A; its bound is (1 - q) U - a + q A.
             too high: with q = s - x, error (a - b) - q (A - B), limit x A, bound a + q (U - A).
             Each is U at most.

   Each sum is a hypothesis of its own. A statement with several is only made if all their opposites are
   rejected, and if it is false one of these is true: so its risk is the largest of theirs, and nothing is
   added up (Berger 1982, intersection-union tests). */
#ifndef TALLY_AUDIT_STATEMENT_H
#define TALLY_AUDIT_STATEMENT_H

#include <math.h>
#include <stdlib.h>

#include "binomial.h"
#include "population.h"

typedef enum { STATEMENT_WRONG, STATEMENT_WINNER, STATEMENT_SHARES, STATEMENTS } statement_kind;

static const char *const statement_names[] = {"wrong", "winner", "shares", NULL};

/* What a person has keyed for a count, if it is no number of votes. */
enum { WRITTEN_NOTHING = -1, WRITTEN_ILLEGIBLE = -2, NOT_KEYED = -3 };

/* One sum of errors. */
typedef struct assertion {
  statement_kind kind;
  int party; /* winner: the one that leads; shares: whose */
  int other; /* winner: the other one; shares: 1 the share may be too low, -1 too high */
  double q;  /* shares: the share that is refuted */
  double limit;
} assertion;

#define MOST_ASSERTIONS(parties) (1 + 3 * (size_t)(parties))

typedef struct assertions {
  assertion *of;
  int count;
} assertions;

/* ---- which there are ---------------------------------------------------------------------------- */

static inline int tallies_with_accepted(const population *all) {
  int sum = 0;
  for (int i = 0; i < all->tallies; i++) sum += accepted_counts(all, i) > 0;
  return sum;
}

/* The party with the most votes, the first of them if there are several. */
static inline int leading_party(const population *all) {
  int best = 0;
  for (int p = 1; p < all->parties; p++)
    if (party_total(all, p) > party_total(all, best)) best = p;
  return best;
}

static inline void assert_winner(assertions *to, const population *all) {
  int leader = leading_party(all);
  for (int p = 0; p < all->parties; p++)
    if (p != leader)
      to->of[to->count++] = (assertion){STATEMENT_WINNER, leader, p, 0,
                                        party_total(all, leader) - party_total(all, p)};
}

/* A share cannot be above 1 or below 0: that needs no showing. */
static inline void assert_shares(assertions *to, const population *all, double x) {
  double votes = 0;
  for (int i = 0; i < all->tallies; i++) votes += votes_read(all, i);
  for (int p = 0; p < all->parties; p++) {
    double share = votes > 0 ? party_total(all, p) / votes : 0;
    for (int way = 1; way >= -1; way -= 2) {
      double q = share + way * x;
      if (q >= 0 && q <= 1)
        to->of[to->count++] = (assertion){STATEMENT_SHARES, p, way, q, x * votes};
    }
  }
}

/* r: of `wrong`; x: of `shares`. Statements on votes need to know how many a tally may hold. */
static inline assertions assertions_of(const population *all, double r, double x) {
  assertions to = {allocate(MOST_ASSERTIONS(all->parties), sizeof(assertion)), 0};
  int accepted = tallies_with_accepted(all);
  if (accepted)
    to.of[to.count++] = (assertion){STATEMENT_WRONG, 0, 0, 0, (double)fewest_above(r, accepted)};
  if (!all->most || !all->parties) return to;
  assert_winner(&to, all);
  assert_shares(&to, all, x);
  return to;
}

/* ---- errors and their bounds --------------------------------------------------------------------- */

/* The most that a tally can add to the sum, whatever is written on it. */
static inline double error_bound(const population *all, const assertion *of, int tally) {
  double a = of->kind == STATEMENT_WRONG ? 0 : party_votes(all, tally, of->party), A, U;
  if (of->kind == STATEMENT_WRONG) return accepted_counts(all, tally) > 0;
  A = votes_read(all, tally);
  U = most_votes(all, tally);
  if (of->kind == STATEMENT_WINNER) return a - party_votes(all, tally, of->other) + U;
  return of->other > 0 ? (1 - of->q) * U - a + of->q * A : a + of->q * (U - A);
}

/* Whether an accepted count is not what is written, or nobody can say. */
static inline int is_wrong(const population *all, int tally, const int *written) {
  for (int f = 0; f < all->fields; f++)
    if (is_accepted(all, tally, f) && written[f] != count_at(all, tally, f)) return 1;
  return 0;
}

static inline int votes_are_keyed(const population *all, const int *written) {
  for (int p = 0; p < all->parties; p++)
    if (written[all->party[p]] < WRITTEN_NOTHING) return 0;
  return 1;
}

static inline double votes_written(const population *all, const int *written, int party) {
  int votes = written[all->party[party]];
  return votes > 0 ? votes : 0;
}

static inline double all_votes_written(const population *all, const int *written) {
  double sum = 0;
  for (int p = 0; p < all->parties; p++) sum += votes_written(all, written, p);
  return sum;
}

/* What a tally adds to the sum; the most that it can where a count is illegible or not keyed. written:
   [fields] votes or one of the words above. */
static inline double error_found(const population *all, const assertion *of, int tally,
                                 const int *written) {
  if (of->kind == STATEMENT_WRONG) return is_wrong(all, tally, written);
  if (!votes_are_keyed(all, written)) return error_bound(all, of, tally);
  double more = votes_written(all, written, of->party) - party_votes(all, tally, of->party);
  if (of->kind == STATEMENT_WINNER)
    return votes_written(all, written, of->other) - party_votes(all, tally, of->other) - more;
  double all_more = all_votes_written(all, written) - votes_read(all, tally);
  return of->other * (more - of->q * all_more);
}

#endif
