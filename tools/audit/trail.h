/* trail.h - the risk of each statement after each tally that was checked. */
#ifndef TALLY_AUDIT_TRAIL_H
#define TALLY_AUDIT_TRAIL_H

#include <math.h>
#include <stdlib.h>

#include "betting.h"
#include "draw.h"
#include "statement.h"

#define LEAST_SCALE 1e-300 /* where no tally can be wrong */

/* How many times its weight the error of a tally can be; INFINITY if one that can be wrong cannot be
   drawn, so that its error would never be found. */
static inline double error_scale(const population *all, const assertion *of,
                                 const double *weights) {
  double scale = LEAST_SCALE;
  for (int i = 0; i < all->tallies; i++) {
    double bound = error_bound(all, of, i);
    if (bound > 0) scale = fmax(scale, weights[i] > 0 ? bound / weights[i] : INFINITY);
  }
  return scale;
}

/* A sum of errors, being watched. */
typedef struct watch {
  const assertion *of;
  double scale;
  betting game;
} watch;

static inline watch watch_begin(const population *all, const assertion *of, const double *weights,
                                double total, double hedge) {
  double scale = error_scale(all, of, weights);
  return (watch){of, scale, betting_begin(isinf(scale) ? 0 : of->limit / scale, total, hedge)};
}

static inline void watch_take(watch *w, double weight, double error) {
  betting_take(&w->game, weight, isinf(w->scale) ? 0 : error / w->scale);
}

/* All sums. */
typedef struct trail {
  watch *of;
  int count;
} trail;

static inline trail trail_begin(const population *all, const assertions *what,
                                const double *weights, double hedge) {
  trail to = {allocate((size_t)what->count, sizeof(watch)), what->count};
  double total = 0;
  for (int i = 0; i < all->tallies; i++) total += weights[i];
  for (int i = 0; i < what->count; i++)
    to.of[i] = watch_begin(all, &what->of[i], weights, total, hedge);
  return to;
}

/* The next tally: as a person has keyed it; NULL: as it was read. */
static inline void trail_take(trail *to, const population *all, int tally, double weight,
                              const int *written) {
  for (int i = 0; i < to->count; i++)
    watch_take(&to->of[i], weight, written ? error_found(all, to->of[i].of, tally, written) : 0);
}

/* Of a statement: the largest of its sums'; 1 if nothing can be said. */
static inline double trail_risk(const trail *to, statement_kind kind) {
  double risk = -1;
  for (int i = 0; i < to->count; i++)
    if (to->of[i].of->kind == kind) risk = fmax(risk, to->of[i].game.risk);
  return risk < 0 ? 1 : risk;
}

/* Whether the draws can show a statement at all. */
static inline int trail_is_about(const trail *to, statement_kind kind) {
  int sums = 0;
  for (int i = 0; i < to->count; i++) {
    if (to->of[i].of->kind != kind) continue;
    if (isinf(to->of[i].scale)) return 0;
    sums++;
  }
  return sums > 0;
}

/* How many of the queue have to be checked for a statement if none of them is wrong; -1: all are not
   enough. */
static inline int tallies_needed(const population *all, const assertions *what, statement_kind kind,
                                 const draw_queue *queue, const double *weights, double hedge,
                                 double risk) {
  trail to = trail_begin(all, what, weights, hedge);
  int drawn = 0;
  for (; trail_risk(&to, kind) > risk && drawn < queue->count; drawn++)
    trail_take(&to, all, queue->of[drawn].tally, queue->of[drawn].weight, NULL);
  int enough = trail_risk(&to, kind) <= risk;
  free(to.of);
  return enough ? drawn : -1;
}

#endif
