/* page_findings.h - what a run found beside its totals: sums that fail, copies, alterations, tallies unlike
   the others. Each with links to its forms. */
#ifndef TALLY_READ_PAGE_FINDINGS_H
#define TALLY_READ_PAGE_FINDINGS_H

#include <math.h>
#include <stdlib.h>

#include "html.h"
#include "outliers.h"
#include "page_form.h"
#include "report.h"

#define FINDINGS_LISTED 100 /* rows of a table; the CSV files have all */

/* A tally's name, which leads to its form further down. */
static inline void page_link(text_buffer *to, const report *r, int tally) {
  text_add(to, "<a href=\"#f%d\">", tally);
  html_text(to, r->list->names[tally]);
  text_add(to, "</a>");
}

static inline void page_section(text_buffer *to, const char *id, const char *title) {
  text_add(to, "<h2 id=\"%s\">%s</h2>\n", id, title);
}

/* Says that a table does not have all rows. */
static inline void page_rows_left(text_buffer *to, int rows, const char *file) {
  if (rows > FINDINGS_LISTED)
    text_add(to, "<p class=\"faint\">And %d more: <code>%s</code> has all.</p>\n",
             rows - FINDINGS_LISTED, file);
}

/* A table that scrolls by itself where it is long. */
static inline void page_list_begin(text_buffer *to, const char *head) {
  text_add(to, "<div class=\"scroll long\" tabindex=\"0\"><table><thead><tr>%s</tr></thead>\n",
           head);
}

static inline void page_list_end(text_buffer *to) {
  text_add(to, "</table></div>\n");
}

/* ---- arithmetic */

#define SLIP_LEAST 10 /* votes of a part that may have been left out: smaller ones fit by chance */

/* "total = valid + invalid" */
static inline void page_formula(text_buffer *to, const tally_template *form, const tally_sum *sum) {
  text_add(to, "%s %s", form->field[sum->total].name, sum->at_most ? "&ge;" : "=");
  for (int k = 0; k < sum->parts; k++)
    text_add(to, "%s%s",
             sum->sign[k] < 0 ? " &minus; "
             : k              ? " + "
                              : " ",
             form->field[sum->part[k]].name);
}

/* Whether two numbers differ in one digit (1), in two neighbours that are swapped (2), or otherwise
   (0). */
static inline int digits_differ(long a, long b) {
  int differ = 0, swapped = 0;
  for (int last_a = -1, last_b = -1; a || b; a /= 10, b /= 10) {
    int x = (int)(a % 10), y = (int)(b % 10);
    if (x != y) {
      differ++;
      swapped += x == last_b && y == last_a;
    }
    last_a = x == y ? -1 : x;
    last_b = x == y ? -1 : y;
  }
  return differ == 1 ? 1 : differ == 2 && swapped ? 2 : 0;
}

/* What slip of a clerk would explain a sum that fails; nothing where none of the usual ones does. */
static inline void page_slip(text_buffer *to, const report *r, int tally, int s) {
  const tally_sum *sum = &r->form->sum[s];
  int difference = report_sum_at(r, tally, s)->difference;
  long parts = report_parts(r, tally, s);
  if (sum->at_most || parts < 0) return;
  int differ = digits_differ(parts + difference, parts);
  if (differ) {
    text_add(to, differ == 1 ? "one digit differs" : "two digits are swapped");
    return;
  }
  for (int k = 0; k < sum->parts; k++) {
    int value = report_count_at(r, tally, sum->part[k])->value;
    if (value < SLIP_LEAST || abs(difference) != value) continue;
    text_add(to, "as if %s had been %s", r->form->field[sum->part[k]].name,
             difference * sum->sign[k] < 0 ? "left out" : "added twice");
    return;
  }
}

/* Who has votes too many. */
static inline void page_favour(text_buffer *to, const report *r, int s, int difference) {
  char shown[32];
  thousands(labs((long)difference), shown);
  const char *total = r->form->field[r->form->sum[s].total].name;
  if (difference > 0)
    text_add(to, "%s has <b>%s more</b> than its parts", total, shown);
  else
    text_add(to, "the parts have <b>%s more</b> than %s", shown, total);
}

static inline void page_chance(text_buffer *to, double p) {
  if (p < 0.001)
    text_add(to, "&lt; 0.1 %%");
  else if (p > 0.999)
    text_add(to, "&gt; 99.9 %%");
  else
    text_add(to, "%.1f %%", 100 * p);
}

/* A sum that fails on a tally. */
typedef struct failing {
  int tally, sum, size;
} failing;

static inline int compare_failing(const void *a, const void *b) {
  const failing *x = a, *y = b;
  if (x->size != y->size) return x->size > y->size ? -1 : 1;
  return x->tally != y->tally ? x->tally - y->tally : x->sum - y->sum;
}

/* The sums that fail, copies left out, those that are furthest off first. */
static inline failing *failing_sums(const report *r, int *count) {
  failing *list = allocate((size_t)form_count(r->list) * (size_t)r->form->sums + 1, sizeof *list);
  *count = 0;
  for (int i = 0; i < form_count(r->list); i++)
    for (int s = 0; s < r->form->sums && r->forms[i].verdict != FORM_COPY; s++) {
      const report_sum *sum = report_sum_at(r, i, s);
      if (sum->state == TALLY_SUM_FAILS) list[(*count)++] = (failing){i, s, abs(sum->difference)};
    }
  qsort(list, (size_t)*count, sizeof *list, compare_failing);
  return list;
}

/* How often a sum holds, and which way it fails. As many failures in one direction come about by chance
   once in 2^(n - 1) times. */
static inline void page_sum_overview(text_buffer *to, const report *r, int s) {
  int states[3] = {0}, above = 0, below = 0;
  long long more = 0, less = 0;
  for (int i = 0; i < form_count(r->list); i++) {
    const report_sum *sum = report_sum_at(r, i, s);
    if (r->forms[i].verdict == FORM_COPY) continue;
    states[sum->state]++;
    if (sum->state != TALLY_SUM_FAILS) continue;
    above += sum->difference > 0;
    below += sum->difference < 0;
    more += sum->difference > 0 ? sum->difference : 0;
    less -= sum->difference < 0 ? sum->difference : 0;
  }
  const char *total = r->form->field[r->form->sum[s].total].name;
  char a[32], b[32];
  text_add(to, "<li><b>");
  page_formula(to, r->form, &r->form->sum[s]);
  text_add(to, "</b> holds on %d and fails on %d of the tallies.", states[TALLY_SUM_HOLDS],
           states[TALLY_SUM_FAILS]);
  if (states[TALLY_SUM_UNCHECKED])
    text_add(to, " On %d it cannot be checked, as not all of its counts were read.",
             states[TALLY_SUM_UNCHECKED]);
  if (above)
    text_add(to, " On %d, %s has more than its parts, %s votes in all.", above, total,
             thousands(more, a));
  if (below)
    text_add(to, " On %d, the parts have more than %s, %s votes in all.", below, total,
             thousands(less, b));
  if (above + below >= 6 && (!above || !below) && !r->form->sum[s].at_most)
    text_add(to, " <b>All fail in the same direction</b>, which slips made by accident rarely do.");
  text_add(to, "</li>\n");
}

static inline void page_failing(text_buffer *to, const report *r, const failing *f) {
  const report_sum *sum = report_sum_at(r, f->tally, f->sum);
  long parts = report_parts(r, f->tally, f->sum);
  text_add(to, "<tr><td>");
  page_link(to, r, f->tally);
  text_add(to, "</td><td class=\"text\">%s</td><td>%ld</td><td>%ld</td><td class=\"text\">",
           r->form->field[r->form->sum[f->sum].total].name, parts + sum->difference, parts);
  page_favour(to, r, f->sum, sum->difference);
  text_add(to, "</td><td>");
  page_chance(to, (double)sum->probability);
  text_add(to, "</td><td class=\"text\">");
  page_slip(to, r, f->tally, f->sum);
  text_add(to, "</td></tr>\n");
}

static inline void page_failing_list(text_buffer *to, const report *r, const failing *list,
                                     int count) {
  if (!count) return;
  page_list_begin(to,
                  "<th>tally</th><th class=\"text\">sum</th><th>total<br>as read</th>"
                  "<th>parts<br>make</th><th class=\"text\">in whose favour</th>"
                  "<th>chance that the<br>paper adds up</th><th class=\"text\">looks like</th>");
  for (int k = 0; k < count && k < FINDINGS_LISTED; k++) page_failing(to, r, &list[k]);
  page_list_end(to);
  page_rows_left(to, count, "sums.csv");
  text_add(to, "<p class=\"faint\">The chance that the paper adds up is what the reader gives for "
               "having misread it; it is no better than its probabilities. No value is accepted or "
               "changed without a word to make a sum hold.</p>\n");
}

static inline void page_arithmetic(text_buffer *to, const report *r) {
  int count;
  page_section(to, "arithmetic", "Arithmetic");
  if (!r->form->sums) {
    text_add(to, "<p>The template names no sums, so nothing can be checked against them.</p>\n");
    return;
  }
  failing *list = failing_sums(r, &count);
  if (count)
    text_add(to, "<p>%d %s not add up as read.</p>\n", count, count == 1 ? "sum does" : "sums do");
  else
    text_add(to, "<p>Every sum that could be checked adds up.</p>\n");
  text_add(to, "<ul>");
  for (int s = 0; s < r->form->sums; s++) page_sum_overview(to, r, s);
  text_add(to,
           "</ul>\n<p>The reader takes it that %.1f %% of the sums of this run do not add up on "
           "paper, because clerks slip. It starts from 4 %%, and every sum that it reads moves "
           "that.</p>\n",
           100 * r->slip);
  page_failing_list(to, r, list, count);
  free(list);
}

/* ---- copies */

/* A form's table, small, as its card further down has it; the name alone where that has no picture. */
static inline void page_thumbnail(text_buffer *to, const report *r, int tally, const char *note) {
  text_add(to, "<figure class=\"thumb\">");
  if (r->pictured[tally]) {
    tally_box box = table_of(r->form);
    text_add(to,
             "<button class=\"see\"><svg viewBox=\"%.2f %.2f %.2f %.2f\" width=\"%.0f\" "
             "height=\"180\"><use href=\"#p%d\"/></svg></button>",
             box.x, box.y, box.width, box.height, 180 * box.width / box.height, tally);
  }
  text_add(to, "<figcaption>");
  page_link(to, r, tally);
  text_add(to, "%s</figcaption></figure>\n", note);
}

static inline void page_copies_of(text_buffer *to, const report *r, int original) {
  text_add(to, "<div class=\"side\">\n");
  page_thumbnail(to, r, original, ", which is counted");
  for (int i = 0; i < form_count(r->list); i++)
    if (r->copy_of[i] == original) page_thumbnail(to, r, i, "");
  text_add(to, "</div>\n");
}

/* Whether the report shows a tally beside one that it may be the same as. */
static inline int may_be_same(const report *r, int tally) {
  return r->forms[tally].verdict != FORM_COPY && r->alike[tally] >= 0 &&
         r->copy_of[r->alike[tally]] < 0;
}

static inline void page_copies(text_buffer *to, const report *r) {
  int copies = report_verdicts(r, FORM_COPY), alike = 0, shown = 0, count = form_count(r->list);
  char *has_copy = allocate((size_t)count + 1, 1);
  for (int i = 0; i < count; i++) {
    if (r->copy_of[i] >= 0) has_copy[r->copy_of[i]] = 1;
    alike += may_be_same(r, i);
  }
  page_section(to, "copies", "Copies");
  if (!copies && !alike)
    text_add(to, "<p>No two pictures show the same tally, as far as the writing tells.</p>\n");
  if (copies)
    text_add(to,
             "<p>%d %s a tally that another one shows too: the same counts in the same hand. Each "
             "tally is counted once.</p>\n",
             copies, copies == 1 ? "picture shows" : "pictures show");
  for (int i = 0; i < count && shown < FINDINGS_LISTED; i++)
    if (has_copy[i] && ++shown) page_copies_of(to, r, i);
  if (alike)
    text_add(to,
             "<p>%d %s another one: the counts agree, and the hand is much alike, but not so much "
             "that it is certain. Both are counted until somebody has looked.</p>\n",
             alike, alike == 1 ? "tally may be the same as" : "tallies may each be the same as");
  for (int i = 0; i < count && shown < 2 * FINDINGS_LISTED; i++) {
    if (!may_be_same(r, i)) continue;
    shown++;
    text_add(to, "<div class=\"side\">\n");
    page_thumbnail(to, r, r->alike[i], "");
    page_thumbnail(to, r, i, "");
    text_add(to, "</div>\n");
  }
  free(has_copy);
}

/* ---- alterations */

static inline void page_altered(text_buffer *to, const report *r, int tally, int field,
                                const strip_row *row) {
  const report_count *c = report_count_at(r, tally, field);
  text_add(to, "<tr><td>");
  page_link(to, r, tally);
  text_add(to, "</td><td class=\"text\">%s</td>", r->form->field[field].name);
  if (r->pictured[tally])
    page_crop(to, tally, 0, row->top, row->width, row->height, 46);
  else
    text_add(to, "<td></td>");
  text_add(to, "<td class=\"text\">%s</td><td>", tally_altered_text(c->altered));
  if (c->value >= 0)
    text_add(to, "%d", c->value);
  else
    text_add(to, "&ndash;");
  text_add(to, "</td></tr>\n");
}

static inline void page_alterations(text_buffer *to, const report *r) {
  strip_row rows[TALLY_MAX_FIELDS];
  int found = 0;
  strip_layout(r->form, rows);
  page_section(to, "alterations", "Alterations");
  if (!r->tells_alterations)
    text_add(
        to,
        "<p>This model was not trained to tell altered cells. What is struck out or overwritten "
        "shows only as a count in doubt.</p>\n");
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < r->form->fields; f++) {
      if (!report_count_at(r, i, f)->altered || found++ >= FINDINGS_LISTED) continue;
      if (found == 1) {
        text_add(to, "<p>These counts hold something struck out, overwritten, or several digits in "
                     "a cell. None of them is accepted without a person.</p>\n");
        page_list_begin(to, "<th>tally</th><th class=\"text\">field</th><th class=\"text\">written"
                            "</th><th class=\"text\">what is altered</th><th>read as</th>");
      }
      page_altered(to, r, i, f, &rows[f]);
    }
  if (found) page_list_end(to);
  page_rows_left(to, found, "counts.csv");
  if (!found && r->tells_alterations)
    text_add(to, "<p>No count looks struck out or overwritten.</p>\n");
}

/* ---- tallies unlike the others */

static inline void page_outlier(text_buffer *to, const report *r, const outlier *o) {
  const char *group = r->group_count > 1 && o->group >= 0 ? r->groups[o->group] : "";
  text_add(to, "<tr><td>");
  page_link(to, r, o->tally);
  text_add(to, "</td><td class=\"text\">");
  if (o->field < 0)
    text_add(to, "%.0f votes in all", o->found);
  else
    text_add(to, "%s has %.1f %% of the votes", r->form->field[o->field].name, 100 * o->found);
  text_add(to, "</td><td class=\"text\">");
  text_add(to, o->field < 0 ? "%.0f" : "%.1f %%", o->field < 0 ? o->middle : 100 * o->middle);
  text_add(to, " in the middle tally%s", *group ? " of " : "");
  html_text(to, group);
  text_add(to, "</td><td>%+.1f</td></tr>\n", o->z);
}

static inline void page_outliers(text_buffer *to, const report *r) {
  outliers all = outliers_find(r);
  page_section(to, "outliers", "Tallies unlike the others");
  if (all.count) {
    text_add(to,
             "<p>%d %s far from what the others %s. That may be how people voted there, a "
             "number read or written wrongly, or a tally of another kind: worth a look.</p>\n",
             all.count, all.count == 1 ? "number lies" : "numbers lie",
             r->group_count > 1 ? "of their group have" : "have");
    page_list_begin(to, "<th>tally</th><th class=\"text\">what</th><th class=\"text\">the others"
                        "</th><th>deviations</th>");
    for (int k = 0; k < all.count && k < FINDINGS_LISTED; k++) page_outlier(to, r, &all.found[k]);
    page_list_end(to);
    page_rows_left(to, all.count, "counts.csv");
  } else {
    text_add(to, "<p>No tally stands out.</p>\n");
  }
  text_add(
      to,
      "<p class=\"faint\">The rule: each field&#39;s share of a tally&#39;s votes, and how many "
      "votes it has, are held against the middle one of %s. What "
      "is more than %.1f deviations away is listed. A deviation is 1.4826 times the middle "
      "distance from the middle, or what chance does to a tally of that size, if that is "
      "more. Only tallies of which every count is read take part, where there are at least "
      "%d.</p>\n",
      r->group_count > 1 ? "its group, or of all where the group is small" : "all tallies",
      OUTLIER_DEVIATIONS, OUTLIER_LEAST);
  free(all.found);
}

#endif
