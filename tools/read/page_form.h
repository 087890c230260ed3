/* page_form.h - one form of the page: its picture, and each count with what was read and what else
   it could be. */
#ifndef TALLY_READ_PAGE_FORM_H
#define TALLY_READ_PAGE_FORM_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../views.h"
#include "html.h"
#include "report.h"
#include "strip.h"

static const char *const verdict_classes[] = {"ok", "look", "unread"};
static const char *const verdict_words[] = {"accepted", "needs a look", "could not be read"};
static const char *const count_classes[] = {"ok", "look", "missing", "unread"};
static const char *const count_words[] = {"accepted", "look", "nothing written", "unread"};

static inline void page_picture(text_buffer *to, const char *id, const text_buffer *jpeg,
                                tally_box box) {
  text_add(to,
           "<image id=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
           "preserveAspectRatio=\"none\" href=\"data:image/jpeg;base64,",
           id, box.x, box.y, box.width, box.height);
  base64_text(to, jpeg->data, jpeg->length);
  text_add(to, "\"/>");
}

/* The straightened table with its cells outlined, in template coordinates. */
static inline void page_table(text_buffer *to, const report *r, int tally, const tally_image *photo,
                              const tally_registration *where, const tally_counts *counts) {
  tally_box table = table_of(r->form);
  double scale = fmin(1, 500 / table.width);
  tally_image view = view_cut(photo, where, -1, table, scale);
  text_buffer jpeg = image_jpeg(&view, 52);
  tally_box drawn = {table.x, table.y, view.width / scale, view.height / scale};
  char id[32];
  snprintf(id, sizeof id, "p%d", tally);
  text_add(
      to,
      "<svg class=\"table\" viewBox=\"%.2f %.2f %.2f %.2f\" role=\"img\" aria-label=\"the table of "
      "this form\">",
      table.x, table.y, table.width, table.height);
  page_picture(to, id, &jpeg, drawn);
  for (int f = 0; f < r->form->fields; f++) {
    const double *l = where->local[f];
    for (int p = 0; p < r->form->field[f].digits; p++) {
      const tally_box *cell = &r->form->field[f].cell[p];
      text_add(to, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
               count_classes[counts->count[f].status], l[0] + l[1] * cell->x + l[2] * cell->y,
               l[3] + l[4] * cell->x + l[5] * cell->y, cell->width, cell->height);
    }
  }
  text_add(to, "</svg>\n");
  free(jpeg.data);
  tally_image_free(&view);
}

/* Part of a form's strip picture, `height` high on the page. */
static inline void page_crop(text_buffer *to, int tally, int x, int y, int width, int height,
                             int tall) {
  text_add(
      to,
      "<td><svg width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\"><use href=\"#s%d\"/></svg></td>",
      width * tall / height, tall, x, y, width, height, tally);
}

/* A value or a mark with its probability; values come first, then missing and illegible. */
static inline void page_outcome(text_buffer *to, const tally_counts *counts, int field,
                                int outcome) {
  double p = counts->distribution[field][outcome];
  int values = counts->values[field];
  text_add(to, "<span class=\"or\">");
  if (outcome < values)
    text_add(to, "%d", outcome);
  else
    text_add(to, "%s", outcome == values ? "nothing" : "illegible");
  text_add(to, " <span class=\"small\">%.*f</span></span> ", p < 0.0995 ? 3 : 2, p);
}

/* Where the reported reading stands in a count's distribution. */
static inline int reported_outcome(const tally_counts *counts, int field) {
  const tally_count *count = &counts->count[field];
  if (count->value >= 0) return count->value;
  return counts->values[field] + (count->status == TALLY_COUNT_UNREAD);
}

/* What else the count could be: the three most likely readings besides the one reported. */
static inline void page_alternatives(text_buffer *to, const tally_counts *counts, int field) {
  const double *p = counts->distribution[field];
  int outcomes = counts->values[field] + 2, taken[3], count = 0;
  int reported = reported_outcome(counts, field);
  for (; count < 3; count++) {
    int best = -1;
    for (int v = 0; v < outcomes; v++) {
      int skip = v == reported;
      for (int k = 0; k < count; k++) skip = skip || taken[k] == v;
      if (!skip && p[v] >= 0.0005 && (best < 0 || p[v] > p[best])) best = v;
    }
    if (best < 0) break;
    taken[count] = best;
    page_outcome(to, counts, field, best);
  }
  if (!count) text_add(to, "<span class=\"small\">&ndash;</span>");
}

/* A probability that is not quite 1 must not look like it. */
static inline void page_probability(text_buffer *to, double p) {
  if (p > 0.9999 && p < 1)
    text_add(to, "&gt; 0.9999");
  else
    text_add(to, p > 0.99 && p < 1 ? "%.4f" : "%.2f", p);
}

static inline void page_count_input(text_buffer *to, const char *field, int value) {
  char shown[16] = "";
  if (value >= 0) snprintf(shown, sizeof shown, "%d", value);
  text_add(to,
           "<input inputmode=\"numeric\" autocomplete=\"off\" aria-label=\"%s\" data-f=\"%s\" "
           "data-read=\"%s\" value=\"%s\">",
           field, field, shown, shown);
}

/* Why a count needs a look, or that it does not. */
static inline void page_count_reason(text_buffer *to, const report *r, const tally_counts *counts,
                                     int field, int corrected) {
  const tally_count *count = &counts->count[field];
  int sum = failing_sum_of(r->form, counts, field);
  if (count->status == TALLY_COUNT_REVIEW && sum >= 0)
    text_add(to, "%s does not add up", r->form->field[r->form->sum[sum].total].name);
  else if (*count->reason && (corrected || count->status != TALLY_COUNT_OK))
    html_text(to, count->reason);
  else
    text_add(to, "%s", count_words[count->status]);
}

/* The strip is NULL if there is no picture any more. */
static inline void page_count(text_buffer *to, const report *r, int tally, int field,
                              const tally_counts *counts, const tally_cell *cells,
                              const strip *pieces) {
  const report_count *mine = report_count_at(r, tally, field);
  const tally_count *count = &counts->count[field];
  const tally_field *f = &r->form->field[field];
  text_add(to, "<tr class=\"%s\" data-f=\"%s\"", count_classes[count->status], f->name);
  if (cells) {
    text_add(to, " data-s=\"");
    for (int p = 0; p < f->digits; p++)
      text_add(to, "%c", cells[f->first_cell + p].state == TALLY_CELL_EMPTY ? 'e' : 'i');
    text_add(to, "\"");
  }
  text_add(to, "><th scope=\"row\">%s</th>", f->name);
  if (pieces) {
    const strip_row *row = &pieces->row[field];
    page_crop(to, tally, 0, row->top, row->width, row->height, 46);
    page_crop(to, tally, row->cells_left, row->cells_top, f->digits * TALLY_SIDE, TALLY_SIDE, 36);
  }
  text_add(to, "<td>");
  page_count_input(to, f->name, count->value);
  text_add(to, "</td><td>");
  page_probability(to, count->probability);
  text_add(to, "</td><td class=\"text\">");
  page_alternatives(to, counts, field);
  text_add(to, "</td><td class=\"text small\">");
  page_count_reason(to, r, counts, field, mine->corrected);
  if (mine->official != NO_OFFICIAL && mine->official != count->value)
    text_add(to, "<br><b>official: %d</b>", mine->official);
  text_add(to, "</td></tr>\n");
}

/* The sums as read; page.js says the same of corrected values. */
static inline void page_sums(text_buffer *to, const report *r, const tally_counts *counts) {
  for (int s = 0; s < r->form->sums; s++) {
    const tally_sum *sum = &r->form->sum[s];
    const char *total = r->form->field[sum->total].name;
    long parts = 0;
    for (int k = 0; k < sum->parts; k++)
      if (counts->count[sum->part[k]].value > 0) parts += counts->count[sum->part[k]].value;
    text_add(to, "%s<span class=\"sum%d\">", s ? " &middot; " : "", s);
    if (counts->count[sum->total].value < 0)
      text_add(to, "%s has no value; its parts make %ld", total, parts);
    else if (counts->count[sum->total].value == parts)
      text_add(to, "%s adds up (%ld)", total, parts);
    else
      text_add(to, "%s reads %d, its parts make %ld", total, counts->count[sum->total].value,
               parts);
    text_add(to, "</span>");
  }
}

static inline void page_form_head(text_buffer *to, const report *r, int tally) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<article class=\"form %s\" data-t=\"", verdict_classes[f->verdict]);
  html_text(to, r->list->names[tally]);
  text_add(to, "\">\n<h3>");
  html_text(to, r->list->names[tally]);
  text_add(to, " <span class=\"pill\">%s</span></h3>\n", verdict_words[f->verdict]);
  if (f->reason) {
    text_add(to, "<p class=\"why\">");
    html_text(to, f->reason);
    text_add(to, "</p>\n");
  }
}

/* A form that nobody could read: a person may still type it in. */
static inline void page_form_blank(text_buffer *to, const report *r) {
  text_add(to,
           "<p class=\"small\">What the paper says can be typed in here.</p><div class=\"edit\">");
  for (int f = 0; f < r->form->fields; f++) {
    text_add(to, "<label>%s ", r->form->field[f].name);
    page_count_input(to, r->form->field[f].name, TALLY_NO_VALUE);
    text_add(to, "</label>");
  }
  text_add(to, "</div>\n");
}

/* The strip's picture, drawn nowhere: page_crop shows parts of it. */
static inline void page_strip(text_buffer *to, int tally, const strip *pieces) {
  text_buffer jpeg = image_jpeg(&pieces->image, 62);
  char id[32];
  snprintf(id, sizeof id, "s%d", tally);
  text_add(to,
           "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>");
  page_picture(to, id, &jpeg, (tally_box){0, 0, pieces->image.width, pieces->image.height});
  text_add(to, "</defs></svg>\n");
  free(jpeg.data);
}

static inline void page_counts(text_buffer *to, const report *r, int tally,
                               const tally_counts *counts, const tally_cell *cells,
                               const strip *pieces) {
  text_add(to,
           "<table class=\"counts\"><thead><tr><th>field</th>%s<th>value</th><th>probability</th>"
           "<th class=\"text\">or else</th><th class=\"text\"></th></tr></thead>\n",
           pieces ? "<th class=\"text\">written</th><th class=\"text\">cells</th>" : "");
  for (int f = 0; f < r->form->fields; f++) page_count(to, r, tally, f, counts, cells, pieces);
  text_add(to, "</table>");
}

/* The picture and the counts, side by side. */
static inline void page_form_two(text_buffer *to, const report *r, int tally,
                                 const tally_counts *counts, const tally_registration *where,
                                 const tally_image *photo, const tally_cell *cells) {
  strip pieces;
  text_add(to, "<div class=\"two\"><div>\n");
  if (photo) {
    page_table(to, r, tally, photo, where, counts);
    pieces = strip_cut(photo, r->form, where, cells, r->raw);
    page_strip(to, tally, &pieces);
    tally_image_free(&pieces.image);
  } else {
    text_add(to, "<p class=\"faint\">There is no picture of this form.</p>\n");
  }
  text_add(to, "</div><div class=\"scroll\">");
  page_counts(to, r, tally, counts, cells, photo ? &pieces : NULL);
  text_add(to, "</div></div>");
}

/* photo, where and cells are NULL where there are none. */
static inline void page_form(text_buffer *to, const report *r, int tally,
                             const tally_counts *counts, const tally_registration *where,
                             const tally_image *photo, const tally_cell *cells) {
  const report_form *f = &r->forms[tally];
  page_form_head(to, r, tally);
  if (counts) {
    text_add(to, "<p class=\"small\">");
    page_sums(to, r, counts);
    if (where)
      text_add(to, "%squality %.3f (%s) &middot; printed rules found within %.2f px",
               r->form->sums ? " &middot; " : "", f->quality, f->high ? "high" : "moderate",
               f->residual);
    text_add(to, "</p>\n");
    page_form_two(to, r, tally, counts, where, photo, cells);
  } else {
    page_form_blank(to, r);
  }
  text_add(to, "</article>\n");
}

#endif
