/* report.h - what a report holds: the tallies of a run, their counts, and figures on both. */
#ifndef TALLY_READ_REPORT_H
#define TALLY_READ_REPORT_H

#include <stdint.h>

#include "../../tally.h"
#include "../form_list.h"
#include "../picture_hash.h"

#define NO_OFFICIAL (-1)

typedef enum { FORM_ACCEPTED, FORM_LOOK, FORM_UNREAD, FORM_COPY } form_verdict;

/* One count of one tally. */
typedef struct report_count {
  int value, official; /* TALLY_NO_VALUE, NO_OFFICIAL */
  float probability;
  uint8_t status, basis, corrected;
  uint8_t altered; /* a class of tally.h, or 0 */
} report_count;

/* One sum of one tally. */
typedef struct report_sum {
  int difference;    /* the total less what its parts make */
  float probability; /* that the paper adds up */
  uint8_t state;
} report_sum;

typedef struct report_form {
  char *reason; /* why it needs a look; NULL if it does not */
  double quality, residual;
  form_verdict verdict;
  int readable;  /* there was a picture */
  int high;      /* the paper's "high quality" */
  int looks;     /* counts to look at */
  int fails;     /* sums that do not hold */
  int unchecked; /* sums that cannot be checked */
  float least;   /* lowest probability among its counts */
} report_form;

/* Tables that people gave. */
enum { TABLE_OFFICIAL, TABLE_CORRECTIONS, TABLE_ABOUT, REPORT_TABLES };
static const char *const report_table_names[] = {"official counts", "corrections", "about"};

typedef struct report {
  const tally_template *form;
  const form_list *list;
  char (*hashes)[PICTURE_HASH]; /* [form_count(list)] the run's */
  report_form *forms;           /* [form_count(list)] */
  report_count *counts;         /* [form_count(list)][form->fields] */
  report_sum *sums;           /* [form_count(list)][form->sums]; unchecked where it was not read */
  char *pictured;             /* [form_count(list)] whether the page shows its picture */
  const int *copy_of, *alike; /* [form_count(list)] the run's */
  const tally_origin *origin; /* [form_count(list)] the run's; NULL: nothing is known */
  char *const *groups;        /* names of their groups, by number */
  int group_count;
  tally_totals totals;
  int is_total[TALLY_MAX_FIELDS]; /* total of a sum: not a share of anything */
  int official;                   /* official counts were given */
  const char *template_path, *model_path;
  char template_hash[SHA256_TEXT], model_hash[SHA256_TEXT];
  const char *table_path[REPORT_TABLES]; /* NULL: not given */
  char table_hash[REPORT_TABLES][SHA256_TEXT];
  uint64_t seed;
  double risk, alone, temperature, slip;
  double unevenness; /* p-value of tally_totals_unevenness */
  int raw;
  int tells_alterations; /* the model knows of struck-out, several or overwritten digits */
} report;

static inline const report_count *report_count_at(const report *r, int tally, int field) {
  return &r->counts[(size_t)tally * (size_t)r->form->fields + (size_t)field];
}

static inline const report_sum *report_sum_at(const report *r, int tally, int sum) {
  return &r->sums[(size_t)tally * (size_t)r->form->sums + (size_t)sum];
}

/* What the parts of a sum make, as they were read. */
static inline long report_parts(const report *r, int tally, int sum) {
  const tally_sum *of = &r->form->sum[sum];
  long parts = 0;
  for (int k = 0; k < of->parts; k++) {
    int value = report_count_at(r, tally, of->part[k])->value;
    if (value > 0) parts += of->sign[k] * value;
  }
  return parts;
}

/* Whether a person has to look at a count. */
static inline int count_needs_look(tally_count_status status) {
  return status != TALLY_COUNT_OK && status != TALLY_COUNT_MISSING;
}

static inline int report_verdicts(const report *r, form_verdict verdict) {
  int count = 0;
  for (int i = 0; i < form_count(r->list); i++) count += r->forms[i].verdict == verdict;
  return count;
}

/* Counts by what became of them; those compared with official ones too. */
typedef struct report_figures {
  long long counts, status[5]; /* of registered forms, by tally_count_status */
  long long compared, right, accepted, accepted_wrong;
} report_figures;

static inline report_figures report_measure(const report *r) {
  report_figures f = {0};
  for (int i = 0; i < form_count(r->list); i++)
    for (int k = 0; k < r->form->fields && r->forms[i].verdict != FORM_COPY; k++) {
      const report_count *count = report_count_at(r, i, k);
      f.counts++;
      f.status[count->status]++;
      if (count->official == NO_OFFICIAL) continue;
      int accepted = count->status == TALLY_COUNT_OK, right = count->value == count->official;
      f.compared++;
      f.right += right;
      f.accepted += accepted;
      f.accepted_wrong += accepted && !right;
    }
  return f;
}

/* A sum that fails as read and that the field takes part in; -1 if there is none. */
static inline int failing_sum_of(const tally_template *form, const tally_counts *counts,
                                 int field) {
  for (int s = 0; s < form->sums; s++) {
    const tally_sum *sum = &form->sum[s];
    if (counts->sum[s].state != TALLY_SUM_FAILS || counts->count[field].value < 0) continue;
    if (sum->total == field) return s;
    for (int k = 0; k < sum->parts; k++)
      if (sum->part[k] == field) return s;
  }
  return -1;
}

/* Official votes of a field over the tallies of the run; -1 if there are none. */
static inline long long report_official(const report *r, int field) {
  long long sum = -1;
  for (int i = 0; i < form_count(r->list); i++) {
    int official = report_count_at(r, i, field)->official;
    if (official != NO_OFFICIAL) sum = (sum < 0 ? 0 : sum) + official;
  }
  return sum;
}

static inline double report_official_share(const report *r, int field) {
  double all = 0;
  for (int f = 0; f < r->form->fields; f++)
    if (!r->is_total[f]) all += (double)(report_official(r, f) > 0 ? report_official(r, f) : 0);
  return all > 0 && report_official(r, field) >= 0 ? (double)report_official(r, field) / all : -1;
}

/* Of a field that could be read on no tally nothing is known: that is no total of 0. */
static inline int total_is_known(const tally_total *total) {
  return total->read + total->missing > 0;
}

#define LEAST_COVERED 0.5 /* share of the tallies without which there are no estimates */

/* Why estimates and shares of the votes are not given; NULL if they are. Few tallies that are alike would
   make intervals of no width. */
static inline const char *estimates_withheld(const report *r) {
  int read = r->totals.tallies[TALLY_ALL] - r->totals.unregistered;
  if (read < LEAST_COVERED * r->totals.tallies[TALLY_ALL])
    return "fewer than half of the tallies could be read";
  return NULL;
}

#endif
