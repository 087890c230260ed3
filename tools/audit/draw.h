/* draw.h - which tallies are checked, and in which order: from a public seed, so that anyone can find out.

   The hash of a tally is SHA-256 of the text SEED,TALLY (UTF-8, no line end); its ticket is the number u
   between 0 and 1 that the first 13 hexadecimal digits x of the hash make,

       u = (x + 1/2) / 16^13,        -ln(u) / w

   of which the second is its place in the queue, w being its weight. So the order is one of independent
   exponential waiting times with the rates w: each next tally is drawn in proportion to the weights of those
   that are left (Efraimidis and Spirakis, Information Processing Letters 97, 2006; that tickets make samples
   which do not depend on one another's tallies is from Rivest, "Consistent sampling with replacement",
   2018, arXiv 1808.10016). Where all weigh the same it is the order of the hashes, from the largest down. A
   further round goes on in the queue where the last one ended.

   Weights. For `wrong` each tally with accepted counts weighs 1. For `shares` a tally weighs the votes that
   it may hold; for `winner` the most that it can be wrong in favour of the winner, in parts of the lead:
   the largest of bound / limit over the other parties. Where two parties share all votes, with the lead m,
   these add up to 1 + 1 / m. */
#ifndef TALLY_AUDIT_DRAW_H
#define TALLY_AUDIT_DRAW_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../sha256.h"
#include "statement.h"

/* One tally in the queue. */
typedef struct drawing {
  int tally;
  double place, weight;
  char hash[SHA256_TEXT];
} drawing;

/* Those that can be drawn, in order. */
typedef struct draw_queue {
  drawing *of;
  int count;
  double total; /* weight */
} draw_queue;

/* 0 for what cannot be drawn: the statement leaves no error to it. */
static inline double draw_weight(const population *all, const assertions *what,
                                 statement_kind design, int tally) {
  double most = 0;
  if (design == STATEMENT_WRONG) return accepted_counts(all, tally) > 0;
  if (design == STATEMENT_SHARES) return most_votes(all, tally);
  for (int i = 0; i < what->count; i++)
    if (what->of[i].kind == STATEMENT_WINNER)
      most = fmax(most, error_bound(all, &what->of[i], tally) / what->of[i].limit);
  return most;
}

static inline void draw_hash(const char *seed, const char *tally, char out[SHA256_TEXT]) {
  sha256 hash = sha256_begin();
  sha256_add(&hash, seed, strlen(seed));
  sha256_add(&hash, ",", 1);
  sha256_add(&hash, tally, strlen(tally));
  sha256_end(&hash, out);
}

#define TICKET_DIGITS 13 /* 52 bits: as many as a double holds without rounding */

static inline double draw_place(const char *hash, double weight) {
  double x = 0;
  for (int i = 0; i < TICKET_DIGITS; i++)
    x = 16 * x + (hash[i] <= '9' ? hash[i] - '0' : hash[i] - 'a' + 10);
  return -log((x + 0.5) / ldexp(1, 4 * TICKET_DIGITS)) / weight;
}

/* Two tallies in one place are in the order of their names, which is that of their indices. */
static inline int compare_drawings(const void *a, const void *b) {
  const drawing *x = a, *y = b;
  if (x->place < y->place || x->place > y->place) return x->place < y->place ? -1 : 1;
  return (x->tally > y->tally) - (x->tally < y->tally);
}

/* weights: [tallies]. */
static inline draw_queue draw_all(const population *all, const double *weights, const char *seed) {
  draw_queue queue = {allocate((size_t)all->tallies, sizeof(drawing)), 0, 0};
  for (int i = 0; i < all->tallies; i++) {
    drawing next = {.tally = i, .weight = weights[i]};
    if (weights[i] <= 0) continue;
    draw_hash(seed, all->names[i], next.hash);
    next.place = draw_place(next.hash, next.weight);
    queue.of[queue.count++] = next;
    queue.total += weights[i];
  }
  qsort(queue.of, (size_t)queue.count, sizeof(drawing), compare_drawings);
  return queue;
}

#endif
