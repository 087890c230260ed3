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

static const char *const verdict_classes[] = {"ok", "look", "unread", "copy"};
static const char *const verdict_words[] = {"accepted", "needs a look", "could not be read",
                                            "a copy"};
static const char *const count_classes[] = {"ok", "look", "missing", "unread", "look"};
static const char *const count_words[] = {"accepted", "look", "nothing written", "unread",
                                          "only the sums say it"};

/* What is known of a form when it is shown; NULL where there is nothing. */
typedef struct form_view {
  const tally_counts *counts;
  const tally_registration *where; /* of a form that was refused too */
  int registered;
  const tally_image *photo;
  const tally_cell *cells;
  const float *rows; /* what the network says of the cells */
} form_view;

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
      "<button class=\"see\"><svg class=\"table\" viewBox=\"%.2f %.2f %.2f %.2f\" role=\"img\" aria-label=\"the table of "
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
  text_add(to, "</svg></button>\n");
  free(jpeg.data);
  tally_image_free(&view);
}

/* Part of a form's strip picture, `height` high on the page. */
static inline void page_crop(text_buffer *to, int tally, int x, int y, int width, int height,
                             int tall) {
  text_add(to,
           "<td><button class=\"see\"><svg width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">"
           "<use href=\"#s%d\"/></svg></button></td>",
           width * tall / height, tall, x, y, width, height, tally);
}

/* A value with its probability; behind the values stands missing. */
static inline void page_outcome(text_buffer *to, const tally_counts *counts, int field,
                                int outcome) {
  double p = counts->distribution[field][outcome];
  int values = counts->values[field];
  text_add(to, "<span class=\"or\">");
  if (outcome < values)
    text_add(to, "%d", outcome);
  else
    text_add(to, "nothing");
  text_add(to, " <span class=\"small\">%.*f</span></span> ", p < 0.0995 ? 3 : 2, p);
}

/* Where the reported reading stands in a count's distribution; -1: nowhere. */
static inline int reported_outcome(const tally_counts *counts, int field) {
  const tally_count *count = &counts->count[field];
  if (count->value >= 0) return count->value;
  return count->status == TALLY_COUNT_UNREAD ? -1 : counts->values[field];
}

/* What else the count could be: the three most likely readings besides the one reported. */
static inline void page_alternatives(text_buffer *to, const tally_counts *counts, int field) {
  const double *p = counts->distribution[field];
  int outcomes = counts->values[field] + 1, taken[3], count = 0;
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
    text_add(to, "%s%s", count_words[count->status],
             count->status != TALLY_COUNT_OK     ? ""
             : count->basis == TALLY_BASIS_SUM   ? ": a sum confirms it"
             : count->basis == TALLY_BASIS_CELLS ? ": its cells are sure enough"
                                                 : "");
}

/* For page.js, which makes a card of it: what the network sees in each cell, the likeliest two classes
   with their probabilities in percent, and what the cells by themselves say where that is not what was
   read. */
static inline void page_count_evidence(text_buffer *to, const tally_field *field,
                                       const tally_count *count, const float *rows) {
  text_add(to, " data-c=\"");
  for (int p = 0; p < field->digits; p++) {
    const float *row = &rows[(field->first_cell + p) * TALLY_CLASSES];
    int first = 0, second = -1;
    for (int k = 1; k < TALLY_CLASSES; k++)
      if (row[k] > row[first]) first = k;
    for (int k = 0; k < TALLY_CLASSES; k++)
      if (k != first && (second < 0 || row[k] > row[second])) second = k;
    text_add(to, "%s%d %d", p ? "," : "", first, (int)(100 * row[first]));
    if (row[second] >= 0.005f) text_add(to, " %d %.0f", second, 100 * (double)row[second]);
  }
  text_add(to, "\"");
  if (count->own_value != count->value) {
    text_add(to, " data-o=\"");
    if (count->own_value >= 0) text_add(to, "%d", count->own_value);
    text_add(to, "\"");
  }
}

/* The strip is NULL if there is no picture any more. */
static inline void page_count(text_buffer *to, const report *r, int tally, int field,
                              const form_view *view, const strip *pieces) {
  const tally_counts *counts = view->counts;
  const tally_cell *cells = view->cells;
  const report_count *mine = report_count_at(r, tally, field);
  const tally_count *count = &counts->count[field];
  const tally_field *f = &r->form->field[field];
  text_add(to, "<tr class=\"%s\" data-f=\"%s\"", count_classes[count->status], f->name);
  if (cells) {
    text_add(to, " data-s=\"");
    for (int p = 0; p < f->digits; p++)
      text_add(to, "%c", cells[f->first_cell + p].state == TALLY_CELL_EMPTY ? 'e' : 'i');
    text_add(to, "\"");
    page_count_evidence(to, f, count, view->rows);
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
      if (counts->count[sum->part[k]].value > 0)
        parts += sum->sign[k] * counts->count[sum->part[k]].value;
    text_add(to, "%s<span class=\"sum%d\">", s ? " &middot; " : "", s);
    if (counts->count[sum->total].value < 0)
      text_add(to, "%s has no value; its parts make %ld", total, parts);
    else if (counts->sum[s].state == TALLY_SUM_UNCHECKED)
      text_add(to, "%s cannot be checked, as not all of its counts were read", total);
    else if (sum->at_most && counts->count[sum->total].value >= parts)
      text_add(to, "%s is at least %ld", total, parts);
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
  text_add(to, "\" data-h=\"%s\" id=\"f%d\">\n<h3>", r->hashes[tally], tally);
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

static inline void page_counts(text_buffer *to, const report *r, int tally, const form_view *view,
                               const strip *pieces) {
  text_add(to,
           "<table class=\"counts\"><thead><tr><th>field</th>%s<th>value</th><th>probability</th>"
           "<th class=\"text\">or else</th><th class=\"text\"></th></tr></thead>\n",
           pieces ? "<th class=\"text\">written</th><th class=\"text\">cells</th>" : "");
  for (int f = 0; f < r->form->fields; f++) page_count(to, r, tally, f, view, pieces);
  text_add(to, "</table>");
}

/* The picture and the counts, side by side. */
static inline void page_form_two(text_buffer *to, const report *r, int tally,
                                 const form_view *view) {
  strip pieces;
  text_add(to, "<div class=\"two\"><div>\n");
  if (view->photo) {
    page_table(to, r, tally, view->photo, view->where, view->counts);
    pieces = strip_cut(view->photo, r->form, view->where, view->cells, r->raw);
    page_strip(to, tally, &pieces);
    tally_image_free(&pieces.image);
  } else {
    text_add(to, "<p class=\"faint\">There is no picture of this form.</p>\n");
  }
  text_add(to, "</div><div class=\"scroll\">");
  page_counts(to, r, tally, view, view->photo ? &pieces : NULL);
  text_add(to, "</div></div>");
}

/* ---- forms that were refused */

#define REFUSED_SIDE 80 /* pixels of the longer side */

/* The whole page, so small that no handwriting can be read: where the table lies is not known, so names
   and signatures may be anywhere. */
static inline void page_refused_picture(text_buffer *to, const tally_image *photo) {
  int longer = photo->width > photo->height ? photo->width : photo->height;
  int width = photo->width * REFUSED_SIDE / longer, height = photo->height * REFUSED_SIDE / longer;
  tally_image small;
  if (longer <= REFUSED_SIDE) return;
  if (tally_resize(photo, width > 0 ? width : 1, height > 0 ? height : 1, &small) != TALLY_OK)
    fail("out of memory");
  text_buffer jpeg = image_jpeg(&small, 60);
  text_add(to,
           "<svg class=\"refused\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
           "aria-label=\"the page, blurred\"><image width=\"%d\" height=\"%d\" "
           "href=\"data:image/jpeg;base64,",
           small.width, small.height, 2 * small.width, 2 * small.height, small.width, small.height);
  base64_text(to, jpeg.data, jpeg.length);
  text_add(to, "\"/></svg>\n");
  free(jpeg.data);
  tally_image_free(&small);
}

/* What was looked for in a form that was refused. */
static inline void page_refused(text_buffer *to, const report *r, const form_view *view) {
  const tally_registration *where = view->where;
  if (view->photo) page_refused_picture(to, view->photo);
  if (!where) return;
  text_add(to,
           "<p class=\"small\">Looked for the form %s: %d of its %d printed marks (anchors) were "
           "found",
           r->form->name, where->anchors_found, r->form->anchors);
  if (where->rules_expected)
    text_add(to, ", and %d of %d pieces of its printed lines where they should then be",
             where->rules_found, where->rules_expected);
  else
    text_add(to, "; its printed lines were not looked for");
  text_add(to, ".%s</p>\n",
           view->photo ? " The picture is blurred, as names may stand anywhere on it." : "");
}

/* ---- a form */

/* The sums and the quality, and for page.js the probabilities that the sums add up. */
static inline void page_form_state(text_buffer *to, const report *r, int tally,
                                   const form_view *view) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<p class=\"small\" data-q=\"");
  for (int s = 0; s < r->form->sums; s++)
    text_add(to, "%s%.4f", s ? " " : "", view->counts->sum[s].probability);
  text_add(to, "\">");
  page_sums(to, r, view->counts);
  if (view->registered)
    text_add(to, "%squality %.3f (%s) &middot; printed rules found within %.2f px",
             r->form->sums ? " &middot; " : "", f->quality, f->high ? "high" : "moderate",
             f->residual);
  text_add(to, "</p>\n");
}

/* A copy is only shown: what it says is corrected in the picture that is counted. */
static inline void page_form_copy(text_buffer *to, const report *r, int tally,
                                  const form_view *view) {
  text_add(to, "<p class=\"small\">Its counts are those of <a href=\"#f%d\">", r->copy_of[tally]);
  html_text(to, r->list->names[r->copy_of[tally]]);
  text_add(to, "</a>, where they can be corrected.</p>\n");
  if (!view->photo || !view->counts) return;
  text_add(to, "<div class=\"two\"><div>\n");
  page_table(to, r, tally, view->photo, view->where, view->counts);
  text_add(to, "</div></div>\n");
}

static inline void page_form(text_buffer *to, const report *r, int tally, const form_view *view) {
  page_form_head(to, r, tally);
  if (r->forms[tally].verdict == FORM_COPY) {
    page_form_copy(to, r, tally, view);
  } else if (view->counts) {
    page_form_state(to, r, tally, view);
    page_form_two(to, r, tally, view);
  } else {
    page_refused(to, r, view);
    page_form_blank(to, r);
  }
  text_add(to, "</article>\n");
}

#endif
