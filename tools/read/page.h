/* page.h - the page around its forms: style, totals, figures, forms without pictures, script. */
#ifndef TALLY_READ_PAGE_H
#define TALLY_READ_PAGE_H

#include <string.h>

#include "../json.h"
#include "figures.h"
#include "html.h"
#include "page_files.h" /* made of page.css and page.js by tools/embed.sh */
#include "page_findings.h"
#include "page_form.h"
#include "page_origin.h"
#include "page_totals.h"
#include "report.h"

/* For the script: fields, sums, and the corrections that are in effect already. */
static inline void page_meta(text_buffer *to, const report *r) {
  const tally_template *form = r->form;
  int written = 0;
  text_add(to, "<script type=\"application/json\" id=\"meta\">{\"fields\":[");
  for (int f = 0; f < form->fields; f++)
    text_add(to, "%s[\"%s\",%d]", f ? "," : "", form->field[f].name, form->field[f].digits);
  text_add(to, "],\"sums\":[");
  for (int s = 0; s < form->sums; s++) {
    text_add(to, "%s[\"%s\",[", s ? "," : "", form->field[form->sum[s].total].name);
    for (int k = 0; k < form->sum[s].parts; k++)
      text_add(to, "%s[\"%s\",%d]", k ? "," : "", form->field[form->sum[s].part[k]].name,
               form->sum[s].sign[k]);
    text_add(to, "],%d]", form->sum[s].at_most);
  }
  text_add(to, "],\"corrections\":[");
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < form->fields; f++) {
      const report_count *c = report_count_at(r, i, f);
      if (!c->corrected) continue;
      text_add(to, "%s[", written++ ? "," : "");
      json_text(to, r->list->names[i]);
      if (c->value >= 0)
        text_add(to, ",\"%s\",\"%d\"]", form->field[f].name, c->value);
      else
        text_add(to, ",\"%s\",\"\"]", form->field[f].name);
    }
  text_add(to, "]}</script>\n");
}

static inline void page_tile(text_buffer *to, const char *class, long long number,
                             const char *what) {
  char shown[32];
  text_add(to, "<div class=\"tile %s\"><b>%s</b>%s</div>\n", class, thousands(number, shown), what);
}

static inline void page_tiles(text_buffer *to, const report *r, const report_figures *f) {
  char shown[32];
  long long written = f->counts - f->status[TALLY_COUNT_MISSING];
  text_add(to, "<div class=\"tiles\">");
  int copied = report_verdicts(r, FORM_COPY), count = form_count(r->list) - copied;
  page_tile(to, "", count, count == 1 ? "tally" : "tallies");
  page_tile(to, "ok", report_verdicts(r, FORM_ACCEPTED), "accepted");
  page_tile(to, "look", report_verdicts(r, FORM_LOOK), "need a look");
  page_tile(to, "unread", report_verdicts(r, FORM_UNREAD), "could not be read");
  if (copied) page_tile(to, "copy", copied, "copies, counted once");
  text_add(to, "<div class=\"tile\"><b>%.1f %%</b>of %s counts accepted</div>\n",
           written ? 100.0 * (double)f->status[TALLY_COUNT_OK] / (double)written : 0,
           thousands(written, shown));
  if (f->compared)
    text_add(to,
             "<div class=\"tile\"><b>%.2f %%</b>of %s accepted counts are<br>not the official one"
             "</div>\n",
             f->accepted ? 100.0 * (double)f->accepted_wrong / (double)f->accepted : 0,
             thousands(f->accepted, shown));
  text_add(to, "</div>\n");
}

/* When a count is accepted, and what is not among the tallies. */
static inline void page_rule(text_buffer *to, const report *r, long long missing) {
  char shown[32];
  const left_out *left = &r->list->pictures.left;
  text_add(
      to,
      "<p class=\"faint\">A count is accepted if it is wrong with a probability of at most %g "
      "where a sum confirms it, of %g where nothing does, and never if a sum of it fails. Blank "
      "counts (%s) are missing, not zero.</p>",
      r->risk, r->alone, thousands(missing, shown));
  if (!left->count) return;
  text_add(to, "\n<p class=\"faint\">Left out of the files named: ");
  page_left_out(to, left);
  text_add(to, ".</p>");
}

/* The ways to the parts of the page. */
static inline void page_contents(text_buffer *to) {
  text_add(to, "\n<nav><a href=\"#totals\">Totals</a> <a href=\"#arithmetic\">Arithmetic</a> "
               "<a href=\"#copies\">Copies</a> <a href=\"#alterations\">Alterations</a> "
               "<a href=\"#outliers\">Outliers</a> <a href=\"#forms\">Forms</a> "
               "<a href=\"#origin\">Made with</a></nav>\n");
}

static inline void page_headline(text_buffer *to, const report *r) {
  report_figures f = report_measure(r);
  char a[32], b[32];
  int look = report_verdicts(r, FORM_LOOK), unread = report_verdicts(r, FORM_UNREAD);
  int count = form_count(r->list) - report_verdicts(r, FORM_COPY);
  text_add(to, "<header><h1>Vote tallies, read from their pictures</h1>\n<p class=\"lead\">");
  text_add(to, "%s of %s %s accepted without reservation.",
           thousands(report_verdicts(r, FORM_ACCEPTED), a), thousands(count, b),
           count == 1 ? "tally is" : "tallies are");
  if (look + unread)
    text_add(to, " %s a person:", look + unread == 1 ? "One needs" : "The others need");
  if (look) text_add(to, " %d with counts in doubt or sums that fail", look);
  if (unread) text_add(to, "%s %d that could not be read", look ? "," : "", unread);
  if (look + unread) text_add(to, ".");
  text_add(to, "</p>\n");
  page_tiles(to, r, &f);
  page_rule(to, r, f.status[TALLY_COUNT_MISSING]);
  page_contents(to);
  text_add(to, "</header>\n");
}

static inline void page_shares(text_buffer *to, const report *r) {
  if (estimates_withheld(r)) return;
  text_add(to, "<h2>Shares</h2>\n<figure>");
  figure_shares(to, r);
  text_add(
      to,
      "<figcaption class=\"legend\"><span><i class=\"key\"></i>all tallies, with 90 %% interval"
      "</span><span><i class=\"key high\"></i>tallies of high quality</span>%s</figcaption>"
      "</figure>\n",
      r->official ? "<span><i class=\"key tick\"></i>official</span>" : "");
}

static inline void page_figures(text_buffer *to, const report *r) {
  text_add(to, "<h2>%s</h2>\n<div class=\"figures\">\n",
           r->official ? "Counts, and how far to trust them" : "The counts");
  if (r->official) {
    text_add(to, "<figure class=\"tall\"><h4>Read against official</h4>");
    figure_scatter(to, r);
    text_add(
        to,
        "<figcaption><div class=\"legend\"><span><i class=\"key\"></i>tally of high quality</span>"
        "<span><i class=\"key moderate\"></i>moderate</span><span><i class=\"key dash\"></i>"
        "equal</span></div>One point per pair of counts, the larger the more often it occurs; "
        "logarithmic axes.</figcaption></figure>\n");
  }
  text_add(to, "<figure><h4>Risk against coverage</h4>");
  figure_risk(to, r);
  text_add(to,
           "<figcaption>%sThe share of wrong counts if only the surest are taken.</figcaption>"
           "</figure>\n",
           r->official
               ? "<div class=\"legend\"><span><i class=\"key line\"></i>found with the official "
                 "counts</span><span><i class=\"key dash\"></i>expected by the reader</span></div>"
               : "As the reader&#39;s own probabilities have it. ");
  text_add(to, "<figure><h4>Distribution of the counts</h4>");
  figure_histogram(to, r);
  text_add(
      to,
      "<figcaption>How many counts have how many votes, totals left out.</figcaption></figure>\n"
      "</div>\n");
}

static inline void page_review_head(text_buffer *to, const report *r, int shown) {
  int rest = form_count(r->list) - shown;
  text_add(
      to,
      "<h2 id=\"forms\">Forms, those that need a look first</h2>\n"
      "<p>Compare each value with its picture. Type what is written, or press <kbd>Enter</kbd> "
      "to confirm a value as it is and go to the next one in doubt; <kbd>-</kbd> means that "
      "nothing is written there. <kbd>&uarr;</kbd> <kbd>&darr;</kbd> move between values, "
      "<kbd>Esc</kbd> takes a change back, a picture that is clicked becomes large and tells what its "
      "count rests on, <kbd>j</kbd> <kbd>k</kbd> move between forms. Then "
      "save, and run <code>tally-read --corrections corrections.csv</code> with the same "
      "folders: corrected values count as certain and help to read the rest of their sums.</p>\n");
  if (rest > 0)
    text_add(to,
             "<p class=\"faint\">%d forms are shown in full; the other %d are in the table "
             "at the end. <code>--pictures N</code> shows more.</p>\n",
             shown, rest);
  text_add(to, "<div class=\"tools\"><button data-kind=\"all\" aria-pressed=\"true\">all</button>"
               "<button data-kind=\"look\" aria-pressed=\"false\">need a look</button>"
               "<button data-kind=\"unread\" aria-pressed=\"false\">could not be read</button>"
               "<button data-kind=\"ok\" aria-pressed=\"false\">accepted</button>"
               "<input id=\"find\" type=\"search\" placeholder=\"find a tally\" "
               "aria-label=\"find a tally\"></div>\n");
}

/* Everything before the forms. */
static inline void page_begin(text_buffer *to, const report *r, int shown) {
  text_add(
      to, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;"
          "style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n"
          "<link rel=\"icon\" href=\"data:,\"><title>Vote tallies</title>\n<style>\n");
  text_append(to, (const char *)page_css, sizeof page_css);
  text_add(to, "</style></head><body>\n");
  page_headline(to, r);
  text_add(
      to, "<div class=\"bar\"><div><span id=\"tally\" role=\"status\">No corrections yet</span>"
          "<button class=\"save\" id=\"labels\" disabled title=\"path and label of every corrected "
          "cell; belongs into the output folder of tally-extract, for tally-train\">Save cell "
          "labels</button><button class=\"save main\" id=\"save\" disabled>Save corrections.csv"
          "</button></div></div>\n<main>\n");
  page_totals(to, r);
  page_shares(to, r);
  page_figures(to, r);
  page_arithmetic(to, r);
  page_copies(to, r);
  page_alterations(to, r);
  page_outliers(to, r);
  page_review_head(to, r, shown);
}

/* ---- the forms without pictures */

static inline void page_rest_begin(text_buffer *to, int rest) {
  if (!rest) return;
  text_add(
      to,
      "<h2>The other forms</h2>\n<div class=\"scroll\"><table class=\"rest\"><thead><tr>"
      "<th>tally</th>"
      "<th class=\"text\">status</th><th class=\"text\">why</th><th class=\"text\">values, in the "
      "order of the totals above</th></tr></thead>\n");
}

/* The values of a tally; none: what stands for one that was not read. */
static inline void page_values(text_buffer *to, const report *r, int tally, const char *separator,
                               const char *none) {
  for (int f = 0; f < r->form->fields; f++) {
    int value = report_count_at(r, tally, f)->value;
    if (f) text_add(to, "%s", separator);
    if (value >= 0)
      text_add(to, "%d", value);
    else
      text_add(to, "%s", none);
  }
}

static inline void page_rest(text_buffer *to, const report *r, int tally) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<tr class=\"%s\" data-t=\"", verdict_classes[f->verdict]);
  html_text(to, r->list->names[tally]);
  text_add(to, "\" data-h=\"%s\" id=\"f%d\" data-v=\"", r->hashes[tally], tally);
  page_values(to, r, tally, ",", "");
  text_add(to, "\"><td>");
  html_text(to, r->list->names[tally]);
  text_add(to, "</td><td class=\"text\">%s</td><td class=\"text\">", verdict_words[f->verdict]);
  html_text(to, f->reason ? f->reason : "");
  text_add(to, "</td><td class=\"text\">");
  page_values(to, r, tally, " ", "&ndash;");
  text_add(to, "%s</td></tr>\n",
           f->verdict == FORM_COPY ? "" : " <button class=\"open\">correct</button>");
}

static inline void page_end(text_buffer *to, const report *r, int rest) {
  if (rest) text_add(to, "</table></div>\n");
  page_origin(to, r);
  text_add(
      to,
      "<footer>Every value can be traced: counts.csv has each count with its probability and "
      "runner-up, sums.csv each sum, tallies.csv each form with its reason, totals.csv the totals. Only the "
      "tables of the forms are shown, never names or signatures.</footer>\n</main>\n"
      "<dialog id=\"card\" aria-label=\"evidence\"></dialog>\n");
  page_meta(to, r);
  text_add(to, "<script>\n");
  text_append(to, (const char *)page_js, sizeof page_js);
  text_add(to, "</script></body></html>\n");
}

#endif
