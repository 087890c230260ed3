/* page_totals.h - the table of totals, and what they must not be taken for. */
#ifndef TALLY_READ_PAGE_TOTALS_H
#define TALLY_READ_PAGE_TOTALS_H

#include "html.h"
#include "report.h"

/* A share, its interval, and that of the tallies of high quality. */
static inline void page_total_share(text_buffer *to, const report *r, int field,
                                    const tally_total *all, const tally_total *high) {
  if (r->is_total[field]) {
    text_add(to, "<td></td><td></td><td></td>");
    return;
  }
  text_add(to, "<td>%.2f %%</td><td>%.2f to %.2f</td>", 100 * all->share, 100 * all->share_low,
           100 * all->share_high);
  if (r->totals.tallies[TALLY_HIGH_QUALITY])
    text_add(to, "<td>%.2f %%</td>", 100 * high->share);
  else
    text_add(to, "<td></td>");
}

/* Votes, estimate, interval, shares. Why something is withheld stands below the table. */
static inline void page_total(text_buffer *to, const report *r, int field, const tally_total *all,
                              const tally_total *high) {
  char a[32], b[32], c[32];
  if (!total_is_known(all)) {
    text_add(to, "<td colspan=\"6\">unknown: it could be read on no tally</td>");
    return;
  }
  text_add(to, "<td>%s</td>", thousands((long long)all->votes, a));
  if (estimates_withheld(r)) {
    text_add(to, "<td class=\"withheld\" colspan=\"5\">withheld</td>");
    return;
  }
  text_add(to, "<td>%s</td><td>%s to %s</td>", thousands((long long)(all->estimate + 0.5), a),
           thousands((long long)all->low, b), thousands((long long)all->high, c));
  page_total_share(to, r, field, all, high);
}

/* How much was read, and between which bounds the total lies whatever was not. */
static inline void page_total_bounds(text_buffer *to, const tally_total *all) {
  char a[32], b[32];
  text_add(to, "<td>%.1f %%</td><td>%s to %s</td>", 100 * all->covered,
           thousands((long long)all->least, a), thousands((long long)all->most, b));
}

static inline void page_total_official(text_buffer *to, const report *r, int field) {
  char a[32];
  long long official = report_official(r, field);
  double share = report_official_share(r, field);
  if (official >= 0)
    text_add(to, "<td>%s</td>", thousands(official, a));
  else
    text_add(to, "<td></td>");
  if (share >= 0 && !r->is_total[field])
    text_add(to, "<td>%.2f %%</td>", 100 * share);
  else
    text_add(to, "<td></td>");
}

static inline void page_total_row(text_buffer *to, const report *r, int field) {
  char a[32], b[32];
  tally_total all, high;
  tally_totals_get(&r->totals, TALLY_ALL, field, NULL, &all);
  tally_totals_get(&r->totals, TALLY_HIGH_QUALITY, field, NULL, &high);
  text_add(to, "<tr%s><th scope=\"row\">%s</th>", r->is_total[field] ? " class=\"sum\"" : "",
           r->form->field[field].name);
  page_total(to, r, field, &all, &high);
  page_total_bounds(to, &all);
  if (r->official) page_total_official(to, r, field);
  text_add(to, "<td>%s</td><td>%s</td></tr>\n", thousands(all.missing, a),
           thousands(all.unread, b));
}

/* What the reader of the table has to know before it is believed. */
static inline void page_total_warnings(text_buffer *to, const report *r) {
  int unread = r->totals.unregistered;
  if (estimates_withheld(r))
    text_add(to,
             "<p class=\"warning\">Estimates and shares of the votes are withheld: %s. What the "
             "others hold could turn any of them; only the bounds are safe.</p>\n",
             estimates_withheld(r));
  if (!unread || estimates_withheld(r)) return;
  if (r->unevenness < 0.01)
    text_add(to,
             "<p class=\"warning\">The unread tallies do not lie at random: they are more frequent "
             "where some fields are stronger (chance alone would do this with a probability of "
             "%.3f). Estimates and intervals take the unread tallies of a group to be like those "
             "that were read there, and may be off. Rely on the bounds.</p>\n",
             r->unevenness);
  else if (r->group_count < 2)
    text_add(to,
             "<p class=\"warning\">%d %s not be read. Estimates and intervals take %s to be like "
             "the others, and nothing here can check that: <code>--about</code> with a column "
             "<code>group</code> would. The bounds do not rest on it.</p>\n",
             unread, unread == 1 ? "tally could" : "tallies could", unread == 1 ? "it" : "them");
  else
    text_add(
        to,
        "<p>%d %s not be read. Estimates and intervals take the unread tallies of a group to be "
        "like those that were read there; nothing speaks against that here (p = %.2f).</p>\n",
        unread, unread == 1 ? "tally could" : "tallies could", r->unevenness);
}

static inline void page_total_notes(text_buffer *to, const report *r) {
  char number[32];
  text_add(
      to,
      "<p class=\"faint\">Votes read are the sum of the values below, and nothing else. The estimate "
      "is of what is written on all these tallies: counts in doubt weigh in with all they may be, "
      "given their sums, and a tally that could not be read is taken to be like one that was. 90 %% "
      "intervals hold the true number nine times in ten, if that is so and if the reader&#39;s "
      "probabilities are right; tallies of a group may be misread alike, which widens them. "
      "The bounds assume nothing of the kind: every count that is not accepted may be anything from 0 "
      "to the registered voters or to what its cells can hold. Covered is the share of the tallies "
      "in which the field was read or is blank. %s tallies are of high quality: the mean of their "
      "written counts&#39; quality is above 0.9, as Torres and Cant&uacute; (2022) define it, and "
      "no sum fails.</p>\n",
      thousands(r->totals.tallies[TALLY_HIGH_QUALITY], number));
}

static inline void page_totals(text_buffer *to, const report *r) {
  text_add(
      to,
      "<h2 id=\"totals\">Totals</h2>\n<div class=\"scroll\"><table class=\"totals\"><thead><tr>"
      "<th>field</th>"
      "<th>votes<br>read</th><th>estimate</th><th>90 %% interval</th><th>share</th>"
      "<th>90 %% interval</th><th>share,<br>high quality</th><th>covered</th>"
      "<th>bounds<br>without a model</th>%s<th>missing</th><th>unread</th></tr></thead>\n",
      r->official ? "<th>official</th><th>official<br>share</th>" : "");
  for (int f = 0; f < r->form->fields; f++) page_total_row(to, r, f);
  text_add(to, "</table></div>\n");
  page_total_warnings(to, r);
  page_total_notes(to, r);
}

#endif
