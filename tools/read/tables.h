/* tables.h - counts.csv, tallies.csv, totals.csv. */
#ifndef TALLY_READ_TABLES_H
#define TALLY_READ_TABLES_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv.h"
#include "../csv_write.h"
#include "../output.h"
#include "../progress.h"
#include "reading.h"

static inline void write_count_rows(FILE *file, const run *r, int tally, const tally_counts *counts,
                                    int decoded, const char *reason) {
  for (int f = 0; f < r->form->fields; f++) {
    const tally_count *count = &counts->count[f];
    csv_write(file, r->list->names[tally]);
    fprintf(file, ",%s,", r->form->field[f].name);
    if (!decoded) {
      fputs(",,,unread,,,", file);
      csv_write(file, reason);
      fputs(",0\n", file);
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
    fprintf(file, ",%d\n", correction_of(r, tally, f) != NO_CORRECTION);
  }
}

#define CHUNK 64 /* tallies decoded between two writes */

typedef struct decoding {
  const run *r;
  int first; /* tally */
  sight sights[CHUNK];
  tally_counts *counts; /* [CHUNK] */
  int decoded[CHUNK];
} decoding;

static inline void decode_one(void *context, int k, int thread) {
  decoding *d = context;
  (void)thread;
  journal_read(d->r->journal, d->r->form, d->first + k, &d->sights[k]);
  d->decoded[k] = decode(d->r, d->first + k, &d->sights[k], &d->counts[k]);
}

/* Decodes every tally in order, from the journal: writes counts.csv, adds up the totals, fills in
   the report. */
static inline void read_all(const run *r, const char *folder, report *to) {
  char *path = join_path(folder, "counts.csv");
  output out = output_open(path);
  progress bar = progress_start();
  decoding d = {.r = r};
  d.counts = allocate(CHUNK, sizeof *d.counts);
  for (int k = 0; k < CHUNK; k++) d.sights[k] = sight_make(r->form);
  fputs("tally,field,value,probability,quality,status,second_value,second_probability,reason,"
        "corrected\n",
        out.file);
  for (; d.first < form_count(r->list); d.first += CHUNK) {
    int now = form_count(r->list) - d.first < CHUNK ? form_count(r->list) - d.first : CHUNK;
    share_work(now, decode_one, &d);
    for (int k = 0; k < now; k++) {
      int i = d.first + k;
      note_tally(r, i, &d.sights[k], &d.counts[k], d.decoded[k], to);
      write_count_rows(out.file, r, i, &d.counts[k], d.decoded[k], to->forms[i].reason);
      if (tally_totals_add(&to->totals, d.decoded[k] ? &d.counts[k] : NULL) != TALLY_OK)
        fail("out of memory");
      tally_counts_free(&d.counts[k]);
    }
    progress_draw(&bar, "adding up", (double)(d.first + now) / form_count(r->list), "");
  }
  if (tally_totals_finish(&to->totals) != TALLY_OK) fail("out of memory");
  progress_wipe();
  for (int k = 0; k < CHUNK; k++) sight_free(&d.sights[k]);
  free(d.counts);
  output_close(&out);
  free(path);
}

static const char *const verdict_names[] = {"ok", "review", "unread"};

static const char *sums_text(const tally_template *form, const report_form *f) {
  if (f->verdict == FORM_UNREAD) return "";
  return !form->sums ? "none" : f->fails ? "fails" : f->unchecked ? "unchecked" : "holds";
}

static inline void write_tallies(const run *r, const char *folder, const report *from) {
  char *path = join_path(folder, "tallies.csv");
  output out = output_open(path);
  fputs("tally,status,quality,residual_px,sums,class,reason\n", out.file);
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
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

static inline void write_total(FILE *file, const tally_total *t) {
  if (total_is_known(t))
    fprintf(file, "%lld,%.0f,%.0f,%.6f,%.6f,%.6f,%.1f", (long long)t->votes, t->low, t->high,
            t->share, t->share_low, t->share_high, t->estimate);
  else
    fputs("unknown,unknown,unknown,unknown,unknown,unknown,unknown", file);
}

static inline void write_totals(const run *r, const char *folder, const report *from) {
  char *path = join_path(folder, "totals.csv");
  output out = output_open(path);
  fputs(
      "field,votes,low,high,share,share_low,share_high,estimate,read,missing,unread,quality_votes,"
      "quality_low,quality_high,quality_share,quality_share_low,quality_share_high,"
      "quality_estimate\n",
      out.file);
  for (int f = 0; f < r->form->fields; f++) {
    tally_total all, high;
    if (tally_totals_get(&from->totals, TALLY_ALL, f, NULL, &all) != TALLY_OK ||
        tally_totals_get(&from->totals, TALLY_HIGH_QUALITY, f, NULL, &high) != TALLY_OK)
      fail("out of memory");
    fprintf(out.file, "%s,", r->form->field[f].name);
    write_total(out.file, &all);
    fprintf(out.file, ",%d,%d,%d,", all.read, all.missing, all.unread);
    write_total(out.file, &high);
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

#endif
