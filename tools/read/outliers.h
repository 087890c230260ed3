/* outliers.h - tallies whose votes lie far from those of the others. */
#ifndef TALLY_READ_OUTLIERS_H
#define TALLY_READ_OUTLIERS_H

#include <math.h>
#include <stdlib.h>

#include "report.h"

/* Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers: the median absolute deviation times
   1.4826 estimates the standard deviation, and what lies more than 3.5 of them away is looked at. */
#define OUTLIER_DEVIATIONS 3.5
#define OUTLIER_MAD 1.4826
#define OUTLIER_LEAST 8 /* tallies that are needed to say what is usual */

typedef struct outlier {
  int tally, field, group; /* field: -1 for the votes in all; group: -1 if held against all */
  double found, middle;    /* shares, or votes */
  double z;                /* deviations from the middle */
} outlier;

typedef struct outliers {
  outlier *found;
  int count, room;
} outliers;

/* Votes of all fields that are no totals; -1 if one of them is not known. */
static inline double tally_size(const report *r, int tally) {
  double votes = 0;
  if (r->forms[tally].verdict == FORM_UNREAD || r->forms[tally].verdict == FORM_COPY) return -1;
  for (int f = 0; f < r->form->fields; f++) {
    const report_count *c = report_count_at(r, tally, f);
    if (r->is_total[f]) continue;
    if (c->value < 0 && c->status != TALLY_COUNT_MISSING) return -1;
    votes += c->value > 0 ? c->value : 0;
  }
  return votes > 0 ? votes : -1;
}

static inline int compare_reals(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static inline double median_of(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare_reals);
  return (values[count / 2] + values[(count - 1) / 2]) / 2;
}

/* What is usual: the median, and the spread that the median absolute deviation gives. */
typedef struct usual {
  double middle, spread;
} usual;

static inline usual usual_of(const double *values, double *scratch, int count) {
  usual u;
  for (int i = 0; i < count; i++) scratch[i] = values[i];
  u.middle = median_of(scratch, count);
  for (int i = 0; i < count; i++) scratch[i] = fabs(values[i] - u.middle);
  u.spread = OUTLIER_MAD * median_of(scratch, count);
  return u;
}

/* The tallies that are held against each other. */
typedef struct outlier_group {
  int *tally, count, number; /* number: -1 for all */
  double *size, *value, *scratch;
} outlier_group;

static inline int group_of(const report *r, int tally) {
  return r->origin ? r->origin[tally].group : 0;
}

/* The tallies of a group that can be compared; all of them with -1. */
static inline void outlier_group_fill(outlier_group *g, const report *r, int number) {
  g->number = number;
  g->count = 0;
  for (int i = 0; i < form_count(r->list); i++) {
    double size = number < 0 || group_of(r, i) == number ? tally_size(r, i) : -1;
    if (size < 0) continue;
    g->tally[g->count] = i;
    g->size[g->count++] = size;
  }
}

static inline void outliers_add(outliers *to, outlier o) {
  if (to->count == to->room) {
    to->room = to->room ? 2 * to->room : 64;
    to->found = reallocate(to->found, (size_t)to->room, sizeof *to->found);
  }
  to->found[to->count++] = o;
}

/* Compares shares of a field, or with field -1 sizes, of the group's tallies with number `only`. The
   spread of a share is at least what chance does to so many votes; that of a size, which is compared as
   its logarithm, at least the same. */
static inline void outliers_compare(outliers *to, const report *r, outlier_group *g, int field,
                                    int only) {
  for (int i = 0; i < g->count; i++) {
    int value = field < 0 ? 0 : report_count_at(r, g->tally[i], field)->value;
    g->value[i] = field < 0 ? log(g->size[i]) : (value > 0 ? value : 0) / g->size[i];
  }
  usual u = usual_of(g->value, g->scratch, g->count);
  for (int i = 0; i < g->count; i++) {
    double n = g->size[i], m = (u.middle * n + 0.5) / (n + 1);
    double chance = field < 0 ? sqrt(1 / n) : sqrt(m * (1 - m) / n);
    double z = (g->value[i] - u.middle) / fmax(u.spread, chance);
    if (fabs(z) <= OUTLIER_DEVIATIONS || (only >= 0 && group_of(r, g->tally[i]) != only)) continue;
    outliers_add(to, (outlier){g->tally[i], field, g->number, field < 0 ? n : g->value[i],
                               field < 0 ? exp(u.middle) : u.middle, z});
  }
}

static inline int compare_outliers(const void *a, const void *b) {
  const outlier *x = a, *y = b;
  double p = fabs(x->z), q = fabs(y->z);
  if (p > q || p < q) return p > q ? -1 : 1;
  return x->tally != y->tally ? x->tally - y->tally : x->field - y->field;
}

/* The furthest first. A group of fewer than OUTLIER_LEAST tallies is held against all. */
static inline outliers outliers_find(const report *r) {
  outliers to = {0};
  size_t count = (size_t)form_count(r->list) + 1;
  outlier_group g = {.tally = allocate(count, sizeof *g.tally)};
  g.size = allocate(count, sizeof *g.size);
  g.value = allocate(count, sizeof *g.value);
  g.scratch = allocate(count, sizeof *g.scratch);
  for (int number = 0; number < (r->group_count > 1 ? r->group_count : 1); number++) {
    outlier_group_fill(&g, r, number);
    if (g.count < OUTLIER_LEAST) outlier_group_fill(&g, r, -1);
    for (int f = -1; f < r->form->fields && g.count >= OUTLIER_LEAST; f++)
      if (f < 0 || !r->is_total[f]) outliers_compare(&to, r, &g, f, number);
  }
  if (to.count) qsort(to.found, (size_t)to.count, sizeof *to.found, compare_outliers);
  free(g.tally);
  free(g.size);
  free(g.value);
  free(g.scratch);
  return to;
}

#endif
