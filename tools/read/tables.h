/* tables.h - counts.csv, sums.csv, tallies.csv, totals.csv. */
#ifndef TALLY_READ_TABLES_H
#define TALLY_READ_TABLES_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv.h"
#include "../csv_write.h"
#include "../output.h"
#include "../progress.h"
#include "decoding.h"

static inline void write_count_rows(FILE *file, const run *r, int tally, const tally_counts *counts,
                                    int decoded, const report_form *from) {
  for (int f = 0; f < r->form->fields; f++) {
    const tally_count *count = &counts->count[f];
    csv_write(file, r->list->names[tally]);
    fprintf(file, ",%s,", r->form->field[f].name);
    if (!decoded || from->verdict == FORM_COPY) {
      fputs(decoded ? ",,,copy,,," : ",,,unread,,,", file);
      csv_write(file, from->reason);
      fputs(",0,\n", file);
      continue;
    }
    if (count->value >= 0) fprintf(file, "%d", count->value);
    fprintf(file, ",%.6f,%.6f,%s,", count->probability, count->quality,
            tally_count_status_text(count->status));
    if (count->second >= 0)
      fprintf(file, "%d,%.6f", count->second, count->second_probability);
    else
      putc(',', file);
    putc(',', file);
    csv_write(file, count->reason);
    fprintf(file, ",%d,%s\n", correction_of(r, tally, f) != NO_CORRECTION,
            tally_basis_text(count->basis));
  }
}

/* sums.csv: whether each sum of a tally adds up. */
static inline void write_sum_rows(FILE *file, const run *r, int tally, const tally_counts *counts) {
  static const char *const states[] = {"holds", "fails", "unchecked"};
  for (int s = 0; s < counts->sums; s++) {
    const tally_sum_check *sum = &counts->sum[s];
    csv_write(file, r->list->names[tally]);
    fprintf(file, ",%s,%s,", r->form->field[r->form->sum[s].total].name, states[sum->state]);
    if (sum->state != TALLY_SUM_UNCHECKED) fprintf(file, "%d", sum->difference);
    fprintf(file, ",%.6f\n", sum->probability);
  }
}

/* Decodes every tally in order, from the journal: writes counts.csv and sums.csv, adds up the totals,
   fills in the report. */
static inline void read_all(const run *r, const char *folder, report *to) {
  char *path = join_path(folder, "counts.csv"), *sums_path = join_path(folder, "sums.csv");
  output out = output_open(path), sums = output_open(sums_path);
  progress bar = progress_start();
  decoding d = decoding_open(r, SAMPLES);
  fputs("tally,field,value,probability,quality,status,second_value,second_probability,reason,"
        "corrected,basis\n",
        out.file);
  fputs("tally,sum,state,difference,probability\n", sums.file);
  for (; d.first < form_count(r->list); d.first += CHUNK) {
    int now = decode_chunk(&d);
    for (int k = 0; k < now; k++) {
      int i = d.first + k;
      note_tally(r, i, &d.sights[k], &d.counts[k], d.decoded[k], to);
      write_count_rows(out.file, r, i, &d.counts[k], d.decoded[k], &to->forms[i]);
      if (to->forms[i].verdict == FORM_COPY) {
        tally_counts_free(&d.counts[k]);
        continue;
      }
      write_sum_rows(sums.file, r, i, &d.counts[k]);
      if (tally_totals_add(&to->totals, d.decoded[k] ? &d.counts[k] : NULL,
                           r->origin.of ? &r->origin.of[i] : NULL) != TALLY_OK)
        fail("out of memory");
      tally_counts_free(&d.counts[k]);
    }
    progress_draw(&bar, "adding up", (double)(d.first + now) / form_count(r->list), "");
  }
  if (tally_totals_finish(&to->totals) != TALLY_OK) fail("out of memory");
  to->unevenness = tally_totals_unevenness(&to->totals, NULL);
  if (to->unevenness < 0) fail("out of memory");
  progress_wipe();
  decoding_close(&d);
  output_close(&out);
  output_close(&sums);
  free(path);
  free(sums_path);
}

static const char *const verdict_names[] = {"ok", "review", "unread", "copy"};

static const char *sums_text(const tally_template *form, const report_form *f) {
  if (f->verdict == FORM_UNREAD || f->verdict == FORM_COPY) return "";
  return !form->sums ? "none" : f->fails ? "fails" : f->unchecked ? "unchecked" : "holds";
}

static inline void write_tallies(const run *r, const char *folder, const report *from) {
  char *path = join_path(folder, "tallies.csv");
  output out = output_open(path);
  fputs("tally,status,quality,residual_px,sums,class,reason,sha256\n", out.file);
  for (int i = 0; i < form_count(r->list); i++) {
    const report_form *f = &from->forms[i];
    csv_write(out.file, r->list->names[i]);
    fprintf(out.file, ",%s,", verdict_names[f->verdict]);
    if (f->quality >= 0) fprintf(out.file, "%.6f", f->quality);
    putc(',', out.file);
    if (f->residual >= 0) fprintf(out.file, "%.3f", f->residual);
    fprintf(out.file, ",%s,%s,", sums_text(r->form, f),
            f->quality < 0 ? ""
            : f->high      ? "high"
                           : "moderate");
    csv_write(out.file, f->reason ? f->reason : "");
    fprintf(out.file, ",%s\n", r->hashes[i]);
  }
  output_close(&out);
  free(path);
}

/* votes,estimate,low,high,share,share_low,share_high,covered,least,most,share_least,share_most */
static inline void write_total(FILE *file, const tally_total *t, const char *withheld) {
  if (!total_is_known(t)) {
    fputs("unknown,unknown,unknown,unknown,unknown,unknown,unknown", file);
    fprintf(file, ",%.6f,%.0f,%.0f,%.6f,%.6f", t->covered, t->least, t->most, t->share_least,
            t->share_most);
    return;
  }
  fprintf(file, "%lld,", (long long)t->votes);
  if (withheld)
    fputs("withheld,withheld,withheld,withheld,withheld,withheld", file);
  else
    fprintf(file, "%.1f,%.0f,%.0f,%.6f,%.6f,%.6f", t->estimate, t->low, t->high, t->share,
            t->share_low, t->share_high);
  fprintf(file, ",%.6f,%.0f,%.0f,%.6f,%.6f", t->covered, t->least, t->most, t->share_least,
          t->share_most);
}

static inline void write_totals(const run *r, const char *folder, const report *from) {
  char *path = join_path(folder, "totals.csv");
  output out = output_open(path);
  fputs("field,votes,estimate,low,high,share,share_low,share_high,covered,least,most,share_least,"
        "share_most,read,missing,unread,quality_votes,quality_estimate,quality_low,quality_high,"
        "quality_share,quality_share_low,quality_share_high,quality_covered,quality_least,"
        "quality_most,quality_share_least,quality_share_most\n",
        out.file);
  for (int f = 0; f < r->form->fields; f++) {
    tally_total all, high;
    if (tally_totals_get(&from->totals, TALLY_ALL, f, NULL, &all) != TALLY_OK ||
        tally_totals_get(&from->totals, TALLY_HIGH_QUALITY, f, NULL, &high) != TALLY_OK)
      fail("out of memory");
    fprintf(out.file, "%s,", r->form->field[f].name);
    write_total(out.file, &all, estimates_withheld(from));
    fprintf(out.file, ",%d,%d,%d,", all.read, all.missing, all.unread);
    write_total(out.file, &high, estimates_withheld(from));
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

#endif
