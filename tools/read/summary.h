/* summary.h - what a run says in the end: to people, and to programs in one line of JSON. */
#ifndef TALLY_READ_SUMMARY_H
#define TALLY_READ_SUMMARY_H

#include <stdio.h>

#include "../json.h"
#include "../left_out.h"
#include "reading.h"
#include "report.h"

/* Names the tallies that could not be read. */
static inline void say_unread(const report *from, left_out *left) {
  for (int i = 0; i < form_count(from->list); i++) {
    const report_form *f = &from->forms[i];
    if (!f->readable)
      left_out_add_unreadable(left, from->list->names[i], f->reason);
    else if (f->verdict == FORM_UNREAD)
      left_out_add_unregistered(left, from->list->names[i], f->reason);
  }
}

/* What the totals must not be taken for. */
static inline void say_coverage(const run *r, const report *from) {
  int unread = from->totals.unregistered;
  if (estimates_withheld(from))
    say("estimates and shares of the votes are withheld: %s", estimates_withheld(from));
  if (!unread) return;
  if (from->unevenness < 0.01)
    say("the %d unread tallies lie where some fields are stronger (p = %.3f): estimates and intervals "
        "take those of a group to be like the read ones of it; see least and most in totals.csv",
        unread, from->unevenness);
  else if (r->origin.group_count < 2)
    say("%d tallies are unread: estimates and intervals take them to be like the others, which nothing "
        "here can check (--about F.csv with a column group lets it be checked); see least and most "
        "in totals.csv for bounds without that",
        unread);
}

static inline void print_summary(const run *r, const char *folder, const report *from) {
  char number[4][32];
  report_figures f = report_measure(from);
  int copied = report_verdicts(from, FORM_COPY);
  if (copied)
    printf(
        "%d pictures show a tally that another one shows too: they are counted once (tallies.csv)\n",
        copied);
  printf("%s tallies: %s accepted, %s to look at, %s not read\n",
         thousands(form_count(r->list) - copied, number[0]),
         thousands(report_verdicts(from, FORM_ACCEPTED), number[1]),
         thousands(report_verdicts(from, FORM_LOOK), number[2]),
         thousands(report_verdicts(from, FORM_UNREAD), number[3]));
  printf(
      "%lld counts: %lld accepted, %lld to look at, %lld that only the sums say, %lld with nothing "
      "written, %lld not read\n",
      f.counts, f.status[TALLY_COUNT_OK], f.status[TALLY_COUNT_REVIEW],
      f.status[TALLY_COUNT_INFERRED], f.status[TALLY_COUNT_MISSING], f.status[TALLY_COUNT_UNREAD]);
  if (f.compared)
    printf(
        "of %lld counts with an official value %.2f %% are right; of the %lld accepted, %lld are "
        "wrong (%.2f %%)\n",
        f.compared, 100.0 * (double)f.right / (double)f.compared, f.accepted, f.accepted_wrong,
        f.accepted ? 100.0 * (double)f.accepted_wrong / (double)f.accepted : 0);
  for (int k = 0; k < r->form->fields; k++) {
    tally_total all;
    tally_totals_get(&from->totals, TALLY_ALL, k, NULL, &all);
    if (!total_is_known(&all)) {
      printf("  %-12s    unknown: it could be read on no tally\n", r->form->field[k].name);
      continue;
    }
    printf("  %-12s %10s read", r->form->field[k].name, thousands(all.votes, number[0]));
    if (!estimates_withheld(from))
      printf(", %s to %s written", thousands((long long)all.low, number[1]),
             thousands((long long)all.high, number[2]));
    if (!from->is_total[k] && !estimates_withheld(from)) printf("  %6.2f %%", 100 * all.share);
    putchar('\n');
  }
  printf("report: %s/report.html\n", folder);
}

static inline void print_result(const run *r, const report *from, double seconds) {
  text_buffer json = {0};
  report_figures f = report_measure(from);
  int unread = report_verdicts(from, FORM_UNREAD);
  json_integer(&json, "forms", form_count(r->list));
  json_integer(&json, "read", form_count(r->list) - unread);
  json_integer(&json, "flagged", report_verdicts(from, FORM_LOOK));
  json_integer(&json, "unread", unread);
  json_integer(&json, "counts", f.counts);
  json_integer(&json, "accepted", f.status[TALLY_COUNT_OK]);
  if (f.compared) {
    json_real(&json, "accuracy", (double)f.right / (double)f.compared);
    json_real(&json, "accepted_wrong",
              f.accepted ? (double)f.accepted_wrong / (double)f.accepted : 0);
  }
  json_integer(&json, "copies", report_verdicts(from, FORM_COPY));
  json_integer(&json, "inferred", f.status[TALLY_COUNT_INFERRED]);
  json_real(&json, "slips", from->slip);
  if (r->origin.group_count > 1) json_real(&json, "unread_at_random", from->unevenness);
  left_out_json(&json, &r->list->pictures.left);
  json_real(&json, "seconds", seconds);
  json_print(&json);
}

#endif
