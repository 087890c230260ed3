/* figures.h - the figures of a report, in SVG. */
#ifndef TALLY_READ_FIGURES_H
#define TALLY_READ_FIGURES_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "html.h"
#include "report.h"

/* A round step that cuts a range into about `parts`. */
static inline double nice_step(double range, int parts) {
  double raw = range / parts, power = pow(10, floor(log10(raw))), lead = raw / power;
  return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

static inline void svg_begin(text_buffer *to, int width, int height, const char *what) {
  text_add(to,
           "<svg class=\"figure\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
           "aria-label=\"",
           width, height, width, height);
  html_text(to, what);
  text_add(to, "\">\n");
}

static inline void svg_line(text_buffer *to, const char *class, double x1, double y1, double x2,
                            double y2) {
  text_add(to, "<line class=\"%s\" x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\"/>\n", class, x1,
           y1, x2, y2);
}

/* anchor: start, middle or end. */
TOOL_PRINTF(5, 6)
static inline void svg_text(text_buffer *to, const char *anchor, double x, double y,
                            const char *format, ...) {
  char words[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  text_add(to, "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\">", x, y, anchor);
  html_text(to, words);
  text_add(to, "</text>\n");
}

static inline void svg_disc(text_buffer *to, const char *class, double x, double y, double radius) {
  text_add(to, "<circle class=\"%s\" cx=\"%.2f\" cy=\"%.2f\" r=\"%.2f\"/>\n", class, x, y, radius);
}

static inline void svg_diamond(text_buffer *to, const char *class, double x, double y,
                               double radius) {
  text_add(to, "<path class=\"%s\" d=\"M%.2f %.2fl%.2f %.2f %.2f %.2f %.2f %.2fz\"/>\n", class, x,
           y - radius, radius, radius, -radius, radius, -radius, -radius);
}

/* Shares per field with their 90 % intervals: all tallies, those of high quality, official. */
static inline void figure_shares(text_buffer *to, const report *r) {
  const int left = 190, right = 20, width = 760, row = 30, top = 14;
  double most = 0.01;
  int rows = 0;
  tally_total all[TALLY_MAX_FIELDS], high[TALLY_MAX_FIELDS];
  for (int f = 0; f < r->form->fields; f++) {
    tally_totals_get(&r->totals, TALLY_ALL, f, NULL, &all[f]);
    tally_totals_get(&r->totals, TALLY_HIGH_QUALITY, f, NULL, &high[f]);
    if (r->is_total[f]) continue;
    rows++;
    most = fmax(most, fmax(all[f].share_high, high[f].share_high));
    if (r->official) most = fmax(most, report_official_share(r, f));
  }
  double step = nice_step(most * 1.04, 6), reach = ceil(most * 1.04 / step) * step;
  double scale = (width - left - right) / reach;
  int bottom = top + rows * row;
  svg_begin(to, width, bottom + 44, "share of the votes of each field");
  for (double tick = 0; tick <= reach + step / 2; tick += step) {
    svg_line(to, "grid", left + tick * scale, top, left + tick * scale, bottom);
    svg_text(to, "middle", left + tick * scale, bottom + 18, "%g %%", round(tick * 1e4) / 100);
  }
  svg_text(to, "middle", left + (width - left - right) / 2.0, bottom + 38, "share of the votes");
  for (int f = 0, at = 0; f < r->form->fields; f++) {
    if (r->is_total[f]) continue;
    double y = top + row * (at++ + 0.5);
    svg_text(to, "end", left - 12, y + 5, "%s", r->form->field[f].name);
    svg_line(to, "grid", left, y + row / 2.0, width - right, y + row / 2.0);
    if (!total_is_known(&all[f])) continue;
    svg_line(to, "interval", left + all[f].share_low * scale, y - 3,
             left + all[f].share_high * scale, y - 3);
    svg_disc(to, "dot all", left + all[f].share * scale, y - 3, 5);
    if (r->totals.tallies[TALLY_HIGH_QUALITY])
      svg_diamond(to, "dot high", left + high[f].share * scale, y + 5, 5);
    double official = r->official ? report_official_share(r, f) : -1;
    if (official >= 0)
      svg_line(to, "official", left + official * scale, y - 12, left + official * scale, y + 12);
  }
  text_add(to, "</svg>\n");
}

/* Where a count lies on a logarithmic axis that has room for 0. */
static inline double log_place(double count, double most) {
  return log(1 + count) / log(1 + most);
}

static const int log_ticks[] = {0,   1,   2,    5,    10,   20,    50,     100,
                                200, 500, 1000, 2000, 5000, 10000, 100000, 1000000};

/* Pairs of official and read counts, and how often each occurs. */
typedef struct report_pair {
  int official, value, high;
} report_pair;

static inline int compare_pairs(const void *a, const void *b) {
  const report_pair *x = a, *y = b;
  if (x->high != y->high) return x->high - y->high;
  if (x->official != y->official) return x->official < y->official ? -1 : 1;
  return (x->value > y->value) - (x->value < y->value);
}

static inline report_pair *report_pairs(const report *r, int *count) {
  int fields = r->form->fields;
  report_pair *pairs = allocate((size_t)form_count(r->list) * (size_t)fields, sizeof *pairs);
  *count = 0;
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < fields; f++) {
      const report_count *c = report_count_at(r, i, f);
      if (r->is_total[f] || c->official == NO_OFFICIAL || c->value < 0) continue;
      pairs[(*count)++] = (report_pair){c->official, c->value, r->forms[i].high};
    }
  qsort(pairs, (size_t)*count, sizeof *pairs, compare_pairs);
  return pairs;
}

/* Counts read against official ones: log axes, 45-degree line, size by frequency, shape by quality.
   */
static inline void figure_scatter(text_buffer *to, const report *r) {
  const int side = 400, left = 64, top = 14;
  int count, most = 9;
  report_pair *pairs = report_pairs(r, &count);
  for (int i = 0; i < count; i++) {
    most = pairs[i].official > most ? pairs[i].official : most;
    most = pairs[i].value > most ? pairs[i].value : most;
  }
  svg_begin(to, left + side + 20, top + side + 48, "counts read against official counts");
  int last = -100;
  for (size_t t = 0; t < sizeof log_ticks / sizeof *log_ticks && log_ticks[t] <= most; t++) {
    int at = (int)(side * log_place(log_ticks[t], most));
    svg_line(to, "grid", left + at, top, left + at, top + side);
    svg_line(to, "grid", left, top + side - at, left + side, top + side - at);
    if (at - last < 26) continue;
    last = at;
    svg_text(to, "middle", left + at, top + side + 18, "%d", log_ticks[t]);
    svg_text(to, "end", left - 8, top + side - at + 5, "%d", log_ticks[t]);
  }
  svg_line(to, "diagonal", left, top + side, left + side, top);
  for (int i = 0, next; i < count; i = next) {
    for (next = i; next < count && !compare_pairs(&pairs[i], &pairs[next]);) next++;
    double x = left + side * log_place(pairs[i].official, most);
    double y = top + side - side * log_place(pairs[i].value, most);
    double radius = fmin(2.2 + 0.9 * sqrt(next - i - 1.0), 13);
    const char *wrong = pairs[i].official == pairs[i].value ? "" : " off";
    char class[32];
    snprintf(class, sizeof class, "point %s%s", pairs[i].high ? "high" : "moderate", wrong);
    text_add(to, "<g><title>official %d, read %d: %d times</title>", pairs[i].official,
             pairs[i].value, next - i);
    if (pairs[i].high)
      svg_disc(to, class, x, y, radius);
    else
      svg_diamond(to, class, x, y, radius * 1.25);
    text_add(to, "</g>");
  }
  svg_text(to, "middle", left + side / 2.0, top + side + 40, "official count");
  text_add(to,
           "<text class=\"turned\" transform=\"translate(16 %d) rotate(-90)\" "
           "text-anchor=\"middle\">count read</text>\n</svg>\n",
           top + side / 2);
  free(pairs);
}

/* How large the counts are, totals left out. */
static inline void figure_histogram(text_buffer *to, const report *r) {
  enum { MOST_BARS = 40 };
  const int width = 400, height = 230, left = 64, top = 14;
  int bars[MOST_BARS] = {0}, most = 0, used = 1, tallest = 1;
  for (int pass = 0, size = 1; pass < 2; pass++) {
    if (pass) size = (most + MOST_BARS) / MOST_BARS;
    for (int i = 0; i < form_count(r->list); i++)
      for (int f = 0; f < r->form->fields; f++) {
        int value = report_count_at(r, i, f)->value;
        if (r->is_total[f] || value < 0) continue;
        if (!pass)
          most = value > most ? value : most;
        else if (++bars[value / size] > tallest)
          tallest = bars[value / size];
      }
    used = most / size + 1;
  }
  int size = (most + MOST_BARS) / MOST_BARS;
  double step = nice_step(tallest, 4), bar = (double)width / used;
  if (step < 1) step = 1;
  svg_begin(to, left + width + 20, top + height + 48, "distribution of the counts");
  for (double tick = 0; tick <= tallest; tick += step) {
    double y = top + height - height * tick / tallest;
    svg_line(to, "grid", left, y, left + width, y);
    svg_text(to, "end", left - 8, y + 5, "%g", tick);
  }
  for (int i = 0; i < used; i++) {
    double tall = (double)height * bars[i] / tallest;
    text_add(to,
             "<rect class=\"column\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>",
             left + i * bar + 0.5, top + height - tall, fmax(bar - 1, 0.5), tall);
    if (size == 1)
      text_add(to, "%d: %d counts</title></rect>\n", i, bars[i]);
    else
      text_add(to, "%d to %d: %d counts</title></rect>\n", i * size, i * size + size - 1, bars[i]);
  }
  double across = fmax(nice_step(used * size, 6), 1);
  for (double tick = 0; tick < used * size; tick += across)
    svg_text(to, "middle", left + (tick / size + 0.5) * bar, top + height + 18, "%g", tick);
  svg_text(to, "middle", left + width / 2.0, top + height + 40, "votes in one count");
  text_add(to, "</svg>\n");
}

/* A count on the curve of risk against coverage. */
typedef struct ranked_count {
  float probability;
  int accepted, wrong; /* wrong: -1 unknown */
} ranked_count;

static inline int compare_ranked(const void *a, const void *b) {
  const ranked_count *x = a, *y = b;
  if (x->accepted != y->accepted) return y->accepted - x->accepted;
  return (x->probability < y->probability) - (x->probability > y->probability);
}

static inline ranked_count *report_ranked(const report *r, int *count) {
  size_t all = (size_t)form_count(r->list) * (size_t)r->form->fields;
  ranked_count *ranked = allocate(all, sizeof *ranked);
  *count = 0;
  for (size_t i = 0; i < all; i++) {
    const report_count *c = &r->counts[i];
    if (c->value < 0 || (r->official && c->official == NO_OFFICIAL)) continue;
    ranked[(*count)++] = (ranked_count){c->probability, c->status == TALLY_COUNT_OK,
                                        r->official ? c->value != c->official : -1};
  }
  qsort(ranked, (size_t)*count, sizeof *ranked, compare_ranked);
  return ranked;
}

/* If only the surest part of the counts is taken, which share of them is wrong: what the reader
   expects from its own probabilities, and what the official counts say. */
static inline void figure_risk(text_buffer *to, const report *r) {
  const int width = 400, height = 230, left = 64, top = 14;
  int count, accepted = 0;
  ranked_count *ranked = report_ranked(r, &count);
  double expected = 0, wrong = 0, most = 0.005;
  for (int i = 0; i < count; i++) {
    expected += 1 - (double)ranked[i].probability;
    wrong += ranked[i].wrong > 0;
    accepted += ranked[i].accepted;
    if (i >= count / 20) most = fmax(most, fmax(expected, wrong) / (i + 1));
  }
  double step = nice_step(most, 4), reach = ceil(most / step) * step;
  svg_begin(to, left + width + 20, top + height + 48, "risk against coverage");
  for (double tick = 0; tick <= reach + step / 2; tick += step) {
    double y = top + height - height * tick / reach;
    svg_line(to, "grid", left, y, left + width, y);
    svg_text(to, "end", left - 8, y + 5, "%g %%", round(tick * 1e6) / 1e4);
  }
  for (int tick = 0; tick <= 100; tick += 20)
    svg_text(to, "middle", left + width * tick / 100.0, top + height + 18, "%d %%", tick);
  for (int kind = 0; kind < (r->official ? 2 : 1); kind++) {
    double sum = 0;
    int stride = count / 400 + 1;
    text_add(to, "<path class=\"%s\" d=\"", kind ? "curve observed" : "curve expected");
    for (int i = 0; i < count; i++) {
      sum += kind ? ranked[i].wrong > 0 : 1 - (double)ranked[i].probability;
      if (i % stride && i + 1 < count && i + 1 != accepted) continue;
      text_add(to, "%c%.1f %.1f", i ? 'L' : 'M', left + width * (i + 1.0) / count,
               top + height - height * fmin(sum / (i + 1) / reach, 1));
    }
    text_add(to, "\"/>\n");
  }
  if (count) {
    double x = left + width * (double)accepted / count;
    int right = 2 * accepted > count;
    svg_line(to, "accepted", x, top, x, top + height);
    svg_text(to, right ? "end" : "start", x + (right ? -6 : 6), top + 12, "accepted: %.1f %%",
             100.0 * accepted / count);
  }
  svg_text(to, "middle", left + width / 2.0, top + height + 40,
           "share of the counts, the surest first");
  text_add(to, "</svg>\n");
  free(ranked);
}

#endif
