/* reading.h - from what is seen to counts: with corrections, sums, and what needs a look. */
#ifndef TALLY_READ_READING_H
#define TALLY_READ_READING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../work.h"
#include "count_table.h"
#include "journal.h"
#include "report.h"

/* All that the second half of a run works on. */
typedef struct run {
  const tally_template *form;
  const form_list *list;
  const model *model;
  const journal *journal;
  count_table official, corrections;
  double risk; /* a count is accepted if it is wrong with this probability at most */
  int raw;     /* cells as printed */
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

/* Writes a person's value into the cells, so that it also decides about the rest of the sum. */
static inline void write_value(const tally_field *field, int value, tally_cell *cells,
                               double *classes) {
  for (int p = field->digits - 1; p >= 0; p--) {
    int cell = field->first_cell + p, blank = value == TALLY_NO_VALUE;
    double *row = classes + (size_t)cell * TALLY_CLASSES;
    memset(row, 0, TALLY_CLASSES * sizeof *row);
    row[blank ? TALLY_CLASS_EMPTY : value % 10] = 1;
    memset(&cells[cell], 0, sizeof cells[cell]);
    cells[cell].state = blank ? TALLY_CELL_EMPTY : TALLY_CELL_INK;
    if (!blank) value /= 10;
  }
}

static inline void write_unread(const tally_template *form, tally_cell *cells, double *classes) {
  for (int i = 0; i < form->cells; i++) {
    memset(&cells[i], 0, sizeof cells[i]);
    cells[i].state = TALLY_CELL_INK;
    memset(classes + (size_t)i * TALLY_CLASSES, 0, TALLY_CLASSES * sizeof *classes);
    classes[(size_t)i * TALLY_CLASSES + TALLY_CLASS_ILLEGIBLE] = 1;
  }
}

/* A person's word is final, even where it does not add up. */
static inline void settle_corrections(const run *r, int tally, tally_counts *counts) {
  for (int f = 0; f < r->form->fields; f++) {
    int value = correction_of(r, tally, f);
    tally_count *count = &counts->count[f];
    if (value == NO_CORRECTION) continue;
    count->status = value == TALLY_NO_VALUE ? TALLY_COUNT_MISSING : TALLY_COUNT_OK;
    count->value = value;
    count->probability = 1;
    count->second = TALLY_NO_VALUE;
    count->second_probability = 0;
    snprintf(count->reason, sizeof count->reason, "corrected by a person");
  }
}

/* The counts of a tally; 0 if it was not registered and nobody typed it in. The cells of s are left
   as they were seen. */
static inline int decode(const run *r, int tally, const sight *s, tally_counts *counts) {
  const tally_template *form = r->form;
  memset(counts, 0, sizeof *counts);
  if (!s->registered && !corrected_fields(r, tally)) return 0;
  tally_cell *cells = allocate((size_t)form->cells, sizeof *cells);
  double *classes = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *classes);
  tally_decode_options options = {0};
  options.temperature = r->model->temperature;
  options.risk = r->risk;
  if (s->registered) {
    memcpy(cells, s->cells, (size_t)form->cells * sizeof *cells);
    for (int i = 0; i < form->cells * TALLY_CLASSES; i++) classes[i] = (double)s->rows[i];
  } else {
    write_unread(form, cells, classes);
  }
  for (int f = 0; f < form->fields; f++)
    if (correction_of(r, tally, f) != NO_CORRECTION)
      write_value(&form->field[f], correction_of(r, tally, f), cells, classes);
  tally_result result = tally_decode(form, classes, cells, &options, counts);
  if (result != TALLY_OK) fail("%s: %s", r->list->names[tally], tally_result_text(result));
  settle_corrections(r, tally, counts);
  free(cells);
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
static inline char *tally_reason(const tally_template *form, const tally_counts *counts,
                                 report_form *out) {
  text_buffer reason = {0};
  int missing = 0, named = 0;
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
    out->looks += status == TALLY_COUNT_REVIEW || status == TALLY_COUNT_UNREAD;
    out->least = fminf(out->least, (float)counts->count[f].probability);
  }
  for (int f = 0; f < form->fields; f++) {
    tally_count_status status = counts->count[f].status;
    if (status != TALLY_COUNT_REVIEW && status != TALLY_COUNT_UNREAD) continue;
    if (failing_sum_of(form, counts, f) >= 0) continue;
    if (named++ < 4)
      text_add(&reason, "%s%s: %s", reason.length ? "; " : "", form->field[f].name,
               counts->count[f].reason);
  }
  if (named > 4) text_add(&reason, "; and %d more", named - 4);
  if (missing == form->fields) text_add(&reason, "nothing is written in any cell");
  return reason.data;
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
  for (int f = 0; f < r->form->fields; f++) {
    int official = r->official.values
                       ? r->official.values[(size_t)tally * (size_t)r->form->fields + (size_t)f]
                       : NO_OFFICIAL;
    row[f] = (report_count){TALLY_NO_VALUE, official, 0, TALLY_COUNT_UNREAD, 0};
    if (!decoded) continue;
    row[f].value = counts->count[f].value;
    row[f].probability = (float)counts->count[f].probability;
    row[f].status = (uint8_t)counts->count[f].status;
    row[f].corrected = correction_of(r, tally, f) != NO_CORRECTION;
  }
  if (!decoded) {
    form->verdict = FORM_UNREAD;
    form->reason = copy_text(s->reason);
    return;
  }
  form->quality = s->registered ? counts->quality : -1;
  form->high = counts->high_quality;
  form->reason = tally_reason(r->form, counts, form);
  form->verdict = form->reason ? FORM_LOOK : FORM_ACCEPTED;
}

/* An empty report on a run. seed: of the draws that intervals are made of. */
static inline report report_open(const run *r, const char *template_path, uint64_t seed) {
  report to;
  memset(&to, 0, sizeof to);
  to.form = r->form;
  to.list = r->list;
  to.forms = allocate((size_t)form_count(r->list), sizeof *to.forms);
  to.counts = allocate((size_t)form_count(r->list) * (size_t)r->form->fields, sizeof *to.counts);
  to.official = r->official.values != NULL;
  to.template_path = template_path;
  to.model_path = r->model->path;
  to.risk = r->risk;
  to.temperature = r->model->temperature;
  to.raw = r->raw;
  for (int s = 0; s < r->form->sums; s++) to.is_total[r->form->sum[s].total] = 1;
  if (tally_totals_begin(r->form, seed, &to.totals) != TALLY_OK) fail("out of memory");
  return to;
}

static inline void report_close(report *to) {
  for (int i = 0; i < form_count(to->list); i++) free(to->forms[i].reason);
  free(to->forms);
  free(to->counts);
  tally_totals_free(&to->totals);
}

#endif
