/* reading.h - from what is seen to counts: with corrections, sums, and what needs a look. */
#ifndef TALLY_READ_READING_H
#define TALLY_READ_READING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../work.h"
#include "copies.h"
#include "count_table.h"
#include "journal.h"
#include "origins.h"
#include "report.h"

#define SAMPLES 100 /* joint samples of each tally: of what totals are made */

/* All that the second half of a run works on. */
typedef struct run {
  const tally_template *form;
  const form_list *list;
  const model *model;
  const journal *journal;
  count_table official, corrections;
  origins origin;
  tally_habits learnt;
  const tally_habits *habits; /* what the tallies have in common, once learn_habits has seen all of
                                 them; NULL before */
  char (*hashes)[PICTURE_HASH]; /* of each tally's picture */
  copies copied;                /* which pictures show a tally that another one shows too */
  uint64_t seed;
  double risk;  /* a count that a sum confirms is accepted if it is wrong with this probability */
  double alone; /* the same of a count that nothing confirms */
  double slip;  /* how often sums do not add up; 0: as the run's habits say */
  int raw;      /* cells as printed */
} run;

static inline int correction_of(const run *r, int tally, int field) {
  if (!r->corrections.values) return NO_CORRECTION;
  return r->corrections.values[(size_t)tally * (size_t)r->form->fields + (size_t)field];
}

static inline int corrected_fields(const run *r, int tally) {
  int count = 0;
  for (int f = 0; f < r->form->fields; f++) count += correction_of(r, tally, f) != NO_CORRECTION;
  return count;
}

/* Says who knows a value beforehand. */
static inline void name_corrections(const run *r, int tally, tally_counts *counts) {
  for (int f = 0; f < r->form->fields; f++)
    if (correction_of(r, tally, f) != NO_CORRECTION)
      snprintf(counts->count[f].reason, sizeof counts->count[f].reason, "corrected by a person");
}

/* The counts of a tally, with so many joint samples; 0 if it was not registered and nobody typed it
   in. */
static inline int decode(const run *r, int tally, const sight *s, int samples,
                         tally_counts *counts) {
  const tally_template *form = r->form;
  memset(counts, 0, sizeof *counts);
  if (!s->registered && !corrected_fields(r, tally)) return 0;
  double *classes = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *classes);
  tally_decode_options options = {0};
  options.temperature = r->model->temperature;
  options.risk = r->risk;
  options.alone = r->alone;
  options.samples = samples;
  options.seed = r->seed + (uint64_t)tally;
  options.habits = r->habits;
  options.slip = r->slip;
  if (r->corrections.values)
    options.known = &r->corrections.values[(size_t)tally * (size_t)form->fields];
  for (int i = 0; i < form->cells * TALLY_CLASSES; i++)
    classes[i] = s->registered ? (double)s->rows[i] : i % TALLY_CLASSES == TALLY_CLASS_ILLEGIBLE;
  tally_result result =
      tally_decode(form, classes, s->registered ? s->cells : NULL, &options, counts);
  if (result != TALLY_OK) fail("%s: %s", r->list->names[tally], tally_result_text(result));
  name_corrections(r, tally, counts);
  free(classes);
  return 1;
}

/* A sum that fails has been looked at when a person has confirmed all its counts. */
static inline int sum_needs_look(const tally_template *form, int s, const tally_counts *counts) {
  const tally_sum *sum = &form->sum[s];
  for (int i = 0; i <= sum->parts; i++)
    if (counts->count[i < sum->parts ? sum->part[i] : sum->total].status == TALLY_COUNT_REVIEW)
      return 1;
  return 0;
}

/* Why a read tally needs a look, in one sentence; NULL if it does not. */
static inline char *tally_reason(const run *r, int tally, const tally_counts *counts,
                                 report_form *out) {
  const tally_template *form = r->form;
  text_buffer reason = {0};
  int missing = 0, named = 0, alike = r->copied.alike[tally];
  if (alike != NO_COPY && r->copied.of[alike] != NO_COPY) alike = r->copied.of[alike];
  if (alike != NO_COPY && alike != tally)
    text_add(&reason, "has the same counts as %s, in a hand like it: is it the same tally?",
             r->list->names[alike]);
  int other = r->origin.shared ? r->origin.shared[tally] : -1;
  if (other >= 0 && r->copied.of[other] == NO_COPY)
    text_add(&reason, "%sstation %s has another tally, %s", reason.length ? "; " : "",
             r->origin.stations[tally], r->list->names[other]);
  for (int s = 0; s < form->sums; s++) {
    out->fails += counts->sum[s].state == TALLY_SUM_FAILS;
    out->unchecked += counts->sum[s].state == TALLY_SUM_UNCHECKED;
    if (counts->sum[s].state == TALLY_SUM_FAILS && sum_needs_look(form, s, counts))
      text_add(&reason, "%s%s does not add up", reason.length ? "; " : "",
               form->field[form->sum[s].total].name);
  }
  for (int f = 0; f < form->fields; f++) {
    tally_count_status status = counts->count[f].status;
    missing += status == TALLY_COUNT_MISSING;
    out->looks += count_needs_look(status);
    out->least = fminf(out->least, (float)counts->count[f].probability);
  }
  for (int f = 0; f < form->fields; f++) {
    tally_count_status status = counts->count[f].status;
    if (!count_needs_look(status)) continue;
    if (failing_sum_of(form, counts, f) >= 0) continue;
    if (named++ < 4)
      text_add(&reason, "%s%s: %s", reason.length ? "; " : "", form->field[f].name,
               counts->count[f].reason);
  }
  if (named > 4) text_add(&reason, "; and %d more", named - 4);
  if (missing == form->fields) text_add(&reason, "nothing is written in any cell");
  return reason.data;
}

/* A tally's sums in the report. */
static inline void note_sums(const tally_counts *counts, int decoded, report_sum *to, int sums) {
  for (int s = 0; s < sums; s++) {
    to[s] = (report_sum){0, 0, TALLY_SUM_UNCHECKED};
    if (decoded)
      to[s] = (report_sum){counts->sum[s].difference, (float)counts->sum[s].probability,
                           (uint8_t)counts->sum[s].state};
  }
}

/* What a copy says is in no figure: it would count twice. What a person said of it is kept. */
static inline void leave_out_copy(report_count *row, int fields) {
  for (int f = 0; f < fields; f++) {
    row[f].official = NO_OFFICIAL;
    row[f].status = TALLY_COUNT_UNREAD;
    row[f].altered = 0;
    if (!row[f].corrected) row[f].value = TALLY_NO_VALUE;
  }
}

/* A tally's place in the report and its counts. */
static inline void note_tally(const run *r, int tally, const sight *s, const tally_counts *counts,
                              int decoded, report *to) {
  report_form *form = &to->forms[tally];
  report_count *row = &to->counts[(size_t)tally * (size_t)r->form->fields];
  form->least = 1;
  form->residual = s->where.residual;
  form->quality = -1;
  form->readable = s->readable;
  note_sums(counts, decoded, &to->sums[(size_t)tally * (size_t)r->form->sums], r->form->sums);
  for (int f = 0; f < r->form->fields; f++) {
    int official = r->official.values
                       ? r->official.values[(size_t)tally * (size_t)r->form->fields + (size_t)f]
                       : NO_OFFICIAL;
    row[f] = (report_count){TALLY_NO_VALUE, official, 0, TALLY_COUNT_UNREAD, 0, 0, 0};
    if (!decoded) continue;
    row[f].value = counts->count[f].value;
    row[f].probability = (float)counts->count[f].probability;
    row[f].status = (uint8_t)counts->count[f].status;
    row[f].basis = (uint8_t)counts->count[f].basis;
    row[f].altered = (uint8_t)counts->count[f].altered;
    row[f].corrected = correction_of(r, tally, f) != NO_CORRECTION;
  }
  if (!decoded) {
    form->verdict = FORM_UNREAD;
    form->reason = copy_text(s->reason);
    return;
  }
  if (r->copied.of[tally] != NO_COPY) {
    text_buffer reason = {0};
    leave_out_copy(row, r->form->fields);
    text_add(&reason, "shows the same tally as %s, and is not counted again",
             r->list->names[r->copied.of[tally]]);
    form->verdict = FORM_COPY;
    form->reason = reason.data;
    return;
  }
  form->quality = s->registered ? counts->quality : -1;
  form->high = counts->high_quality;
  form->reason = tally_reason(r, tally, counts, form);
  form->verdict = form->reason ? FORM_LOOK : FORM_ACCEPTED;
}

/* SHA-256 as a text. */
static inline void hash_bytes(const void *bytes, size_t length, char out[SHA256_TEXT]) {
  sha256 hash = sha256_begin();
  sha256_add(&hash, bytes, length);
  sha256_end(&hash, out);
}

/* An empty report on a run. */
static inline report report_open(const run *r, const char *template_path, const char *template_text,
                                 size_t length) {
  report to;
  memset(&to, 0, sizeof to);
  to.form = r->form;
  to.list = r->list;
  to.hashes = r->hashes;
  to.forms = allocate((size_t)form_count(r->list), sizeof *to.forms);
  to.counts = allocate((size_t)form_count(r->list) * (size_t)r->form->fields, sizeof *to.counts);
  to.sums = allocate((size_t)form_count(r->list) * (size_t)r->form->sums + 1, sizeof *to.sums);
  to.pictured = allocate((size_t)form_count(r->list) + 1, 1);
  to.copy_of = r->copied.of;
  to.alike = r->copied.alike;
  to.origin = r->origin.of;
  to.groups = r->origin.groups;
  to.group_count = r->origin.group_count;
  hash_bytes(template_text, length, to.template_hash);
  hash_file(r->model->path, to.model_hash);
  to.seed = r->seed;
  for (int k = TALLY_CLASS_STRUCK; k <= TALLY_CLASS_OVERWRITTEN; k++)
    to.tells_alterations |= r->model->knows[k];
  to.official = r->official.values != NULL;
  to.template_path = template_path;
  to.model_path = r->model->path;
  to.risk = r->risk;
  to.alone = r->alone;
  to.slip = r->slip > 0 ? r->slip : tally_habits_slip(r->habits);
  to.temperature = r->model->temperature;
  to.raw = r->raw;
  for (int s = 0; s < r->form->sums; s++) to.is_total[r->form->sum[s].total] = 1;
  if (tally_totals_begin(r->form, r->seed, &to.totals) != TALLY_OK) fail("out of memory");
  return to;
}

/* Notes a table that people gave, if they did. */
static inline void report_table(report *to, int which, const char *path) {
  to->table_path[which] = path;
  if (!path) return;
  if (is_regular(path))
    hash_file(path, to->table_hash[which]);
  else
    snprintf(to->table_hash[which], SHA256_TEXT, "not a file: it cannot be read again");
}

static inline void report_close(report *to) {
  for (int i = 0; i < form_count(to->list); i++) free(to->forms[i].reason);
  free(to->forms);
  free(to->counts);
  free(to->sums);
  free(to->pictured);
  tally_totals_free(&to->totals);
}

#endif
