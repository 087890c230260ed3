/* betting.h - the risk of a statement after each tally that was checked, by a game against its opposite.

   Each tally i weighs w_i, and its error e_i is known when it is checked; e_i is w_i at most, and may be
   negative. Tallies are drawn one after another without replacement, each time in proportion to the
   weights of those that are left. The null hypothesis says that the statement is false: the errors of
   all tallies add up to D or more.

   If it were so, the tallies left after those drawn, L of weight, would hold D - (errors found) = d of
   error at least, and the next one's error per weight, f = e / w <= 1, would be m = d / L or more on
   average. Who bets the part c of what he has on less multiplies his capital with each tally by

       1 - c (f - m) / (1 - m),   0 <= c <= 1,

   which does not grow on average while the null hypothesis is true. So the capital is ever 1 / a or more
   with a chance of a at most (Ville 1939): 1 / (the highest capital so far) is a risk that holds whenever
   one stops, also because of what was found. This is the bound of Shekhar, Xu, Lipton, Liang and Ramdas,
   "Risk-limiting financial audits via weighted sampling without replacement" (UAI 2023, arXiv
   2305.06884). With c = 1 and draws with replacement it is the Kaplan-Markov bound of Stark ("Risk-limiting
   postelection audits: conservative P-values from common probability inequalities", IEEE Transactions on
   Information Forensics and Security 4, 2009).

   c = 1 wins fastest where nothing is wrong, and loses all at a tally with f = 1. So a small part of the
   stake, the hedge, is spread over c = 0.1, 0.2, ... 0.9. Sums of such capitals are such a capital.

   Usable alone: nothing but libc and libm. */
#ifndef TALLY_AUDIT_BETTING_H
#define TALLY_AUDIT_BETTING_H

#include <math.h>

#define BETS 9             /* of the hedge */
#define MOST_CAPITAL 1e300 /* keeps an infinite capital from being multiplied by 0 */

typedef struct betting {
  double limit;      /* d: error that must be in what is left if the null hypothesis is true */
  double left;       /* L: the weight of what is left */
  double total;      /* weight of all tallies */
  double hedge;      /* the part of the stake that is not on c = 1 */
  double all_in;     /* capital of c = 1, per unit of stake */
  double part[BETS]; /* of c = 0.1, 0.2, ... */
  double risk;       /* 1 / (the highest capital so far) */
} betting;

/* limit: D. If it is more than all weigh, the null hypothesis is false without any draw; if it is not
   positive, the game cannot be won: no errors are enough for it. */
static inline betting betting_begin(double limit, double total, double hedge) {
  betting game = {limit, total, total, hedge, 1, {0}, limit > total ? 0.0 : 1.0};
  for (int i = 0; i < BETS; i++) game.part[i] = 1;
  return game;
}

static inline double betting_factor(double c, double f, double m) {
  return 1 - c * (f - m) / (1 - m);
}

/* Sums of weights are rounded; what is that small is none. */
static inline int betting_is_none(const betting *game, double weight) {
  return weight <= 1e-12 * game->total;
}

/* Bets on f being less than m, which it is not on average if the null hypothesis is true. Where m is not
   positive there is nothing to bet against: the errors found are enough for it. */
static inline void betting_bet(betting *game, double f, double m) {
  double parts = 0;
  if (m <= 0 || m >= 1) return;
  game->all_in = fmin(game->all_in * betting_factor(1, f, m), MOST_CAPITAL);
  for (int i = 0; i < BETS; i++) {
    double c = (i + 1.0) / (BETS + 1);
    game->part[i] = fmin(game->part[i] * betting_factor(c, f, m), MOST_CAPITAL);
    parts += game->part[i] / BETS;
  }
  double capital = (1 - game->hedge) * game->all_in + game->hedge * parts;
  if (capital * game->risk > 1) game->risk = 1 / capital;
}

/* Takes the tally that was drawn next: its weight, and its error, which is at most that. What is left may
   then be too little to hold the error that is missing; that is certain, and no bet. */
static inline void betting_take(betting *game, double weight, double error) {
  betting_bet(game, error / weight, game->limit / game->left);
  game->limit -= error;
  game->left -= weight;
  if (betting_is_none(game, game->left)) game->left = 0;
  if (!betting_is_none(game, game->limit - game->left)) game->risk = 0;
}

/* How many to draw if none of them has an error, where the null hypothesis says that the errors are the
   share m or more of the weight; of N that weigh the same, or of any number, each put back (N = 0). -1: more
   than `most`. */
static inline long long bets_needed(double m, double hedge, double risk, long long N,
                                    long long most) {
  betting game = betting_begin(N ? m * (double)N : m, N ? (double)N : 1, hedge);
  long long drawn = 0;
  for (; game.risk > risk; drawn++) {
    if (drawn == (N ? N : most)) return -1;
    if (N)
      betting_take(&game, 1, 0);
    else
      betting_bet(&game, 0, m);
  }
  return drawn;
}

#endif
