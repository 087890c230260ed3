/* certificate.h - what the keyed tallies show: the verdict on each statement, the risk after each tally, and
   a text with all that others need to find the same. */
#ifndef TALLY_AUDIT_CERTIFICATE_H
#define TALLY_AUDIT_CERTIFICATE_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv_write.h"
#include "../input.h"
#include "../output.h"
#include "bias_table.h"
#include "keyed.h"
#include "settings.h"
#include "trail.h"

typedef struct verdict {
  int is_about; /* the sample can show it */
  int holds;
  int after; /* tallies after which it was shown */
  double risk;
} verdict;

typedef struct certificate {
  verdict of[STATEMENTS];
  double *risk;              /* [until][STATEMENTS] */
  int until;                 /* draws that were looked at */
  int keyed, wrong, unclear; /* tallies: keyed; with a wrong accepted count; that count as the worst
                                there can be, as something was not keyed or cannot be read */
  bias_table bias;
} certificate;

/* ---- verdicts ------------------------------------------------------------------------------------ */

/* A tally with more votes than it may hold makes its error larger than any bound. */
static inline void check_bound(const population *all, int tally, const int *written) {
  double votes = all_votes_written(all, written);
  if (all->most && votes > most_votes(all, tally))
    fail("%s: %.0f votes were keyed, but it may hold %.0f at most; correct that number, and draw "
         "again",
         all->names[tally], votes, most_votes(all, tally));
}

static inline int is_unclear(const population *all, int tally, const int *written) {
  if (all->most && !votes_are_keyed(all, written)) return 1;
  for (int f = 0; f < all->fields; f++)
    if (is_accepted(all, tally, f) && written[f] < WRITTEN_NOTHING) return 1;
  return 0;
}

static inline void count_tally(certificate *to, const population *all, int tally, const keyed *from,
                               int draw) {
  const int *written = keyed_row(from, draw);
  to->keyed += is_keyed(from, draw);
  to->unclear += is_unclear(all, tally, written);
  to->wrong += is_wrong(all, tally, written);
}

static inline void note_risk(certificate *to, const trail *from, int draw, double risk) {
  for (int s = 0; s < STATEMENTS; s++) {
    verdict *v = &to->of[s];
    v->risk = trail_risk(from, (statement_kind)s);
    if (!v->holds && v->risk <= risk) v->after = draw + 1;
    v->holds = v->risk <= risk;
    if (draw >= 0) to->risk[draw * STATEMENTS + s] = v->risk;
  }
}

/* `wrong`, of a sample that was fixed in advance: what is not keyed counts as wrong. */
static inline void judge_fixed(certificate *to, const population *all, const audit_settings *set,
                               int drawn) {
  verdict *v = &to->of[STATEMENT_WRONG];
  int N = tallies_with_accepted(all), k = to->wrong + drawn - to->until;
  v->risk = N ? share_risk(set->wrong, N, drawn, k) : 1;
  v->holds = v->risk <= set->risk;
  v->after = drawn;
}

static inline certificate certificate_make(const population *all, const assertions *what,
                                           const audit_settings *set, const draw_queue *queue,
                                           const double *weights, const keyed *from) {
  certificate to = {.until = keyed_until(from)};
  trail risks = trail_begin(all, what, weights, set->hedge);
  to.risk = allocate((size_t)to.until * STATEMENTS, sizeof(double));
  for (int s = 0; s < STATEMENTS; s++)
    to.of[s].is_about = trail_is_about(&risks, (statement_kind)s);
  note_risk(&to, &risks, -1, set->risk);
  for (int t = 0; t < to.until; t++) {
    int tally = queue->of[t].tally;
    check_bound(all, tally, keyed_row(from, t));
    count_tally(&to, all, tally, from, t);
    trail_take(&risks, all, tally, queue->of[t].weight, keyed_row(from, t));
    note_risk(&to, &risks, t, set->risk);
  }
  if (set->fixed) judge_fixed(&to, all, set, from->drawn);
  to.bias = bias_measure(all, queue, from, to.until);
  free(risks.of);
  return to;
}

static inline void certificate_free(certificate *c) {
  free(c->risk);
  free(c->bias.field);
}

static inline int statements_held(const certificate *c) {
  int held = 0;
  for (int s = 0; s < STATEMENTS; s++) held += c->of[s].holds;
  return held;
}

/* ---- words ----------------------------------------------------------------------------------------- */

/* Accepted counts that are wrong if at most M tallies have one, as a share: those with the most. */
static inline double wrong_counts(const population *all, long long M) {
  double most = 0, sum = 0;
  for (int i = 0; i < all->tallies; i++) {
    int accepted = accepted_counts(all, i);
    most = accepted > most ? accepted : most;
    sum += accepted;
  }
  return sum > 0 ? fmin(1, (double)M * most / sum) : 0;
}

static inline void statement_text(text_buffer *to, statement_kind kind, const population *all,
                                  const audit_settings *set) {
  if (kind == STATEMENT_WRONG) {
    int N = tallies_with_accepted(all);
    long long M = fewest_above(set->wrong, N) - 1;
    text_add(
        to,
        "At most %lld of %d tallies (%g %%) have an accepted count that is wrong; that is %.3g %% "
        "of the accepted counts at most.",
        M, N, 100 * set->wrong, 100 * wrong_counts(all, M));
  } else if (kind == STATEMENT_SHARES) {
    text_add(to, "No party's share of the votes is off by %g points or more.", 100 * set->share);
  } else if (all->parties) {
    text_add(to, "%s has the most votes.", all->field[all->party[leading_party(all)]]);
  } else {
    text_add(to, "The party that leads has the most votes.");
  }
}

static inline void verdict_text(text_buffer *to, const verdict *v) {
  if (v->holds)
    text_add(to, "certified: risk %.4g after %d tallies", v->risk, v->after);
  else if (v->is_about)
    text_add(to, "not certified: risk %.4g", v->risk);
  else
    text_add(to, "not certified: this sample cannot show it");
}

static inline void certificate_verdicts(text_buffer *to, const certificate *c,
                                        const population *all, const audit_settings *set) {
  for (int s = 0; s < STATEMENTS; s++) {
    text_add(to, "  ");
    statement_text(to, (statement_kind)s, all, set);
    text_add(to, "\n    ");
    verdict_text(to, &c->of[s]);
    text_add(to, "\n");
  }
  if (!statements_held(c)) text_add(to, "\nNone can be certified.\n");
}

/* The field whose errors are least alike in both directions, and how likely that is by chance. */
static inline void certificate_bias(text_buffer *to, const certificate *c, const population *all) {
  int field = most_biased(&c->bias);
  const bias *b = &c->bias.field[field];
  long long errors = 0;
  for (int f = 0; f < all->fields; f++) errors += c->bias.field[f].more + c->bias.field[f].fewer;
  if (!errors) {
    text_add(to, "  No count that was read differs from what was keyed.\n");
    return;
  }
  text_add(
      to,
      "  %lld counts differ from what was keyed: errors %s.\n"
      "  Most one-sided is %s: too many votes %lld times, too few %lld times, %+.0f in all (of "
      "its errors\n  %.0f to %.0f %% are too many, 95 %% interval). By chance alone so much would "
      "come out with\n  probability %.3g, in any of the %d fields %.3g at most.\n",
      errors,
      b->corrected <= BIAS_RISK ? "do not favour all alike" : "show no sign of favouring anyone",
      all->field[field], b->more, b->fewer, b->net, 100 * b->low, 100 * b->high, b->chance,
      all->fields, b->corrected);
}

static inline void certificate_result(text_buffer *to, const population *all) {
  double votes = 0, most = 0;
  for (int i = 0; i < all->tallies; i++) {
    votes += votes_read(all, i);
    most += all->most ? most_votes(all, i) : 0;
  }
  for (int p = 0; p < all->parties; p++)
    text_add(to, "  %s: %.0f votes, %.4f %%\n", all->field[all->party[p]], party_total(all, p),
             votes > 0 ? 100 * party_total(all, p) / votes : 0);
  text_add(to, "  %d tallies, %d of them with accepted counts", all->tallies,
           tallies_with_accepted(all));
  if (all->most) text_add(to, "; they may hold %.0f votes", most);
  text_add(to, "\n");
}

/* ---- files ------------------------------------------------------------------------------------------ */

/* A sample that is judged as a whole has no risk in between. */
static inline void write_risks(const char *path, const certificate *c, const population *all,
                               const draw_queue *queue, int fixed) {
  output out = output_open(path);
  fputs("draw,tally", out.file);
  for (int s = 0; s < STATEMENTS; s++) fprintf(out.file, ",%s", statement_names[s]);
  putc('\n', out.file);
  for (int t = 0; t < c->until; t++) {
    fprintf(out.file, "%d,", t + 1);
    csv_write(out.file, all->names[queue->of[t].tally]);
    for (int s = 0; s < STATEMENTS; s++) {
      putc(',', out.file);
      if (c->of[s].is_about && !(fixed && s == STATEMENT_WRONG))
        fprintf(out.file, "%.9g", c->risk[t * STATEMENTS + s]);
    }
    putc('\n', out.file);
  }
  output_close(&out);
}

static inline void certificate_settings(text_buffer *to, const audit_settings *set) {
  text_add(to,
           "  drawn for: %s%s\n  risk: %g\n  wrong: %g\n  share: %g\n  hedge: %g\n  seed: %s\n"
           "  tallies in each round:",
           statement_names[set->design], set->fixed ? ", fixed" : "", set->risk, set->wrong,
           set->share, set->hedge, set->seed);
  for (int i = 0; i < set->rounds; i++) text_add(to, " %d", set->round[i]);
  if (set->most) text_add(to, "\n  votes that a tally may hold: %d", set->most);
  text_add(to, "\n");
}

static inline void certificate_hash(text_buffer *to, const char *path) {
  char hash[SHA256_TEXT];
  hash_file(path, hash);
  text_add(to, "%s  %s\n", hash, path);
}

/* inputs: paths of all that was read, NULL behind the last. */
static inline text_buffer certificate_text(const certificate *c, const population *all,
                                           const audit_settings *set, int drawn,
                                           const char *const *inputs) {
  text_buffer to = {0};
  text_add(&to,
           "Audit of counts by hand\n\n"
           "Statements, each certified with a risk of at most %g if it is false:\n\n",
           set->risk);
  certificate_verdicts(&to, c, all, set);
  text_add(&to, "\nThe result that was audited, as it was read:\n\n");
  certificate_result(&to, all);
  text_add(
      &to,
      "\nThe sample:\n\n  %d tallies drawn, %d looked at up to the last that was keyed, %d "
      "keyed\n  %d have an accepted count that is not what was keyed\n  %d count as the worst there "
      "can be: something was not keyed or cannot be read\n  %d are not looked at yet\n",
      drawn, c->until, c->keyed, c->wrong, c->unclear, drawn - c->until);
  text_add(&to, "\nDo errors favour anyone?\n\n");
  certificate_bias(&to, c, all);
  text_add(&to, "\nSettings:\n\n");
  certificate_settings(&to, set);
  text_add(
      &to,
      "\nHow to find the same: the place of a tally in the queue is -ln(u) / weight, where u is "
      "the\nnumber (x + 0.5) / 16^13 and x the first 13 digits of the SHA-256 of SEED,TALLY; "
      "weights.csv has\nthe weights. Run tally-audit certify with these files (SHA-256):\n\n");
  for (; *inputs; inputs++) certificate_hash(&to, *inputs);
  return to;
}

#endif
