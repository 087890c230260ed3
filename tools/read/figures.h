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

/* Where a figure's plot lies in it; axes stand to the left and below. */
typedef struct plot {
  int left, top, width, height;
} plot;

static inline void plot_begin(text_buffer *to, const plot *p, const char *what) {
  svg_begin(to, p->left + p->width + 20, p->top + p->height + 48, what);
}

/* What the lower axis is. */
static inline void plot_axis(text_buffer *to, const plot *p, const char *what) {
  svg_text(to, "middle", p->left + p->width / 2.0, p->top + p->height + 40, "%s", what);
}

/* Horizontal lines at the multiples of `step` up to `most`, which is the plot's upper edge. */
static inline void plot_levels(text_buffer *to, const plot *p, double most, double step,
                               int percent) {
  for (double tick = 0; tick <= most + step * 1e-6; tick += step) {
    double y = p->top + p->height - p->height * tick / most;
    svg_line(to, "grid", p->left, y, p->left + p->width, y);
    if (percent)
      svg_text(to, "end", p->left - 8, y + 5, "%g %%", round(tick * 1e6) / 1e4);
    else
      svg_text(to, "end", p->left - 8, y + 5, "%g", tick);
  }
}

/* ---- shares of the votes */

/* A field's share: of all tallies with its interval, of those of high quality, official; y: the
   middle of its row. */
static inline void share_row(text_buffer *to, const report *r, int field, const tally_total *all,
                             const tally_total *high, double left, double scale, double y) {
  if (!total_is_known(all)) return;
  svg_line(to, "interval", left + all->share_low * scale, y - 3, left + all->share_high * scale,
           y - 3);
  svg_disc(to, "dot all", left + all->share * scale, y - 3, 5);
  if (r->totals.tallies[TALLY_HIGH_QUALITY])
    svg_diamond(to, "dot high", left + high->share * scale, y + 5, 5);
  double official = r->official ? report_official_share(r, field) : -1;
  if (official >= 0)
    svg_line(to, "official", left + official * scale, y - 12, left + official * scale, y + 12);
}

/* Shares per field with their 90 % intervals. */
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
    share_row(to, r, f, &all[f], &high[f], left, scale, y);
  }
  text_add(to, "</svg>\n");
}

/* ---- counts read against official ones */

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

/* Log axes up to `most`; ticks that lie too near each other have no number. */
static inline void scatter_grid(text_buffer *to, const plot *p, int most) {
  int last = -100, bottom = p->top + p->height;
  for (size_t t = 0; t < sizeof log_ticks / sizeof *log_ticks && log_ticks[t] <= most; t++) {
    int at = (int)(p->width * log_place(log_ticks[t], most));
    svg_line(to, "grid", p->left + at, p->top, p->left + at, bottom);
    svg_line(to, "grid", p->left, bottom - at, p->left + p->width, bottom - at);
    if (at - last < 26) continue;
    last = at;
    svg_text(to, "middle", p->left + at, bottom + 18, "%d", log_ticks[t]);
    svg_text(to, "end", p->left - 8, bottom - at + 5, "%d", log_ticks[t]);
  }
  svg_line(to, "diagonal", p->left, bottom, p->left + p->width, p->top);
}

/* The size says how often a pair occurs, the shape which quality its tally has. */
static inline void scatter_point(text_buffer *to, const plot *p, const report_pair *pair, int times,
                                 int most) {
  double x = p->left + p->width * log_place(pair->official, most);
  double y = p->top + p->height - p->height * log_place(pair->value, most);
  double radius = fmin(2.2 + 0.9 * sqrt(times - 1.0), 13);
  const char *wrong = pair->official == pair->value ? "" : " off";
  char class[32];
  snprintf(class, sizeof class, "point %s%s", pair->high ? "high" : "moderate", wrong);
  text_add(to, "<g><title>official %d, read %d: %d times</title>", pair->official, pair->value,
           times);
  if (pair->high)
    svg_disc(to, class, x, y, radius);
  else
    svg_diamond(to, class, x, y, radius * 1.25);
  text_add(to, "</g>");
}

static inline void figure_scatter(text_buffer *to, const report *r) {
  const plot p = {64, 14, 400, 400};
  int count, most = 9;
  report_pair *pairs = report_pairs(r, &count);
  for (int i = 0; i < count; i++) {
    most = pairs[i].official > most ? pairs[i].official : most;
    most = pairs[i].value > most ? pairs[i].value : most;
  }
  plot_begin(to, &p, "counts read against official counts");
  scatter_grid(to, &p, most);
  for (int i = 0, next; i < count; i = next) {
    for (next = i; next < count && !compare_pairs(&pairs[i], &pairs[next]);) next++;
    scatter_point(to, &p, &pairs[i], next - i, most);
  }
  plot_axis(to, &p, "official count");
  text_add(to,
           "<text class=\"turned\" transform=\"translate(16 %d) rotate(-90)\" "
           "text-anchor=\"middle\">count read</text>\n</svg>\n",
           p.top + p.height / 2);
  free(pairs);
}

/* ---- how large the counts are, totals left out */

#define MOST_COLUMNS 40

typedef struct histogram {
  int column[MOST_COLUMNS]; /* counts in it */
  int used, tallest;        /* columns; the most counts in one */
  int size;                 /* how many values share a column */
} histogram;

static inline int largest_count(const report *r) {
  int most = 0;
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < r->form->fields; f++) {
      int value = report_count_at(r, i, f)->value;
      if (!r->is_total[f] && value > most) most = value;
    }
  return most;
}

static inline histogram report_histogram(const report *r) {
  histogram h = {.tallest = 1};
  int most = largest_count(r);
  h.size = (most + MOST_COLUMNS) / MOST_COLUMNS;
  h.used = most / h.size + 1;
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < r->form->fields; f++) {
      int value = report_count_at(r, i, f)->value;
      if (r->is_total[f] || value < 0) continue;
      if (++h.column[value / h.size] > h.tallest) h.tallest = h.column[value / h.size];
    }
  return h;
}

static inline void histogram_column(text_buffer *to, const plot *p, const histogram *h, int i) {
  double wide = (double)p->width / h->used, tall = (double)p->height * h->column[i] / h->tallest;
  text_add(to,
           "<rect class=\"column\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>",
           p->left + i * wide + 0.5, p->top + p->height - tall, fmax(wide - 1, 0.5), tall);
  if (h->size > 1) text_add(to, "%d to ", i * h->size);
  text_add(to, "%d: %d counts</title></rect>\n", i * h->size + h->size - 1, h->column[i]);
}

static inline void figure_histogram(text_buffer *to, const report *r) {
  const plot p = {64, 14, 400, 230};
  histogram h = report_histogram(r);
  double step = fmax(nice_step(h.used * h.size, 6), 1), wide = (double)p.width / h.used;
  plot_begin(to, &p, "distribution of the counts");
  plot_levels(to, &p, h.tallest, fmax(nice_step(h.tallest, 4), 1), 0);
  for (int i = 0; i < h.used; i++) histogram_column(to, &p, &h, i);
  for (double tick = 0; tick < h.used * h.size; tick += step)
    svg_text(to, "middle", p.left + (tick / h.size + 0.5) * wide, p.top + p.height + 18, "%g",
             tick);
  plot_axis(to, &p, "votes in one count");
  text_add(to, "</svg>\n");
}

/* ---- risk against coverage */

typedef struct ranked_count {
  float probability;
  int accepted, wrong; /* wrong: -1 unknown */
} ranked_count;

/* The surest first, those accepted before all others. */
typedef struct ranking {
  ranked_count *counts;
  int count, accepted;
} ranking;

static inline int compare_ranked(const void *a, const void *b) {
  const ranked_count *x = a, *y = b;
  if (x->accepted != y->accepted) return y->accepted - x->accepted;
  return (x->probability < y->probability) - (x->probability > y->probability);
}

static inline ranking report_ranking(const report *r) {
  size_t all = (size_t)form_count(r->list) * (size_t)r->form->fields;
  ranking k = {.counts = allocate(all, sizeof *k.counts)};
  for (size_t i = 0; i < all; i++) {
    const report_count *c = &r->counts[i];
    if (c->value < 0 || (r->official && c->official == NO_OFFICIAL)) continue;
    int accepted = c->status == TALLY_COUNT_OK, wrong = r->official ? c->value != c->official : -1;
    k.counts[k.count++] = (ranked_count){c->probability, accepted, wrong};
    k.accepted += accepted;
  }
  qsort(k.counts, (size_t)k.count, sizeof *k.counts, compare_ranked);
  return k;
}

/* What a count adds to the wrong ones: as the reader expects it, or as the official counts say. */
static inline double ranked_wrong(const ranked_count *c, int observed) {
  return observed ? c->wrong > 0 : 1 - (double)c->probability;
}

/* The highest point of both curves, but for their first twentieth, where one count is much. */
static inline double ranking_most_wrong(const ranking *k) {
  double expected = 0, wrong = 0, most = 0.005;
  for (int i = 0; i < k->count; i++) {
    expected += ranked_wrong(&k->counts[i], 0);
    wrong += ranked_wrong(&k->counts[i], 1);
    if (i >= k->count / 20) most = fmax(most, fmax(expected, wrong) / (i + 1));
  }
  return most;
}

/* reach: the share at the plot's upper edge. */
static inline void risk_curve(text_buffer *to, const plot *p, const ranking *k, double reach,
                              int observed) {
  double sum = 0;
  int stride = k->count / 400 + 1;
  text_add(to, "<path class=\"%s\" d=\"", observed ? "curve observed" : "curve expected");
  for (int i = 0; i < k->count; i++) {
    sum += ranked_wrong(&k->counts[i], observed);
    if (i % stride && i + 1 < k->count && i + 1 != k->accepted) continue;
    text_add(to, "%c%.1f %.1f", i ? 'L' : 'M', p->left + p->width * (i + 1.0) / k->count,
             p->top + p->height - p->height * fmin(sum / (i + 1) / reach, 1));
  }
  text_add(to, "\"/>\n");
}

static inline void risk_accepted(text_buffer *to, const plot *p, const ranking *k) {
  double x = p->left + p->width * (double)k->accepted / k->count;
  int right = 2 * k->accepted > k->count;
  svg_line(to, "accepted", x, p->top, x, p->top + p->height);
  svg_text(to, right ? "end" : "start", x + (right ? -6 : 6), p->top + 12, "accepted: %.1f %%",
           100.0 * k->accepted / k->count);
}

/* If only the surest part of the counts is taken, which share of them is wrong: what the reader
   expects from its own probabilities, and what the official counts say. */
static inline void figure_risk(text_buffer *to, const report *r) {
  const plot p = {64, 14, 400, 230};
  ranking k = report_ranking(r);
  double most = ranking_most_wrong(&k), step = nice_step(most, 4), reach = ceil(most / step) * step;
  plot_begin(to, &p, "risk against coverage");
  plot_levels(to, &p, reach, step, 1);
  for (int tick = 0; tick <= 100; tick += 20)
    svg_text(to, "middle", p.left + p.width * tick / 100.0, p.top + p.height + 18, "%d %%", tick);
  risk_curve(to, &p, &k, reach, 0);
  if (r->official) risk_curve(to, &p, &k, reach, 1);
  if (k.count) risk_accepted(to, &p, &k);
  plot_axis(to, &p, "share of the counts, the surest first");
  text_add(to, "</svg>\n");
  free(k.counts);
}

#endif
