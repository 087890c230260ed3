/* copies.h - pictures that show one and the same tally: copied files, scans of one paper made twice,
   photographs of a scan. */
#ifndef TALLY_READ_COPIES_H
#define TALLY_READ_COPIES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "sight.h"

/* Two tallies are compared when they say the same: of the counts that both have, as many as this are
   equal, and so many are more than 0. What is written is then laid on top of each other, cell by cell. */
#define COPY_EQUAL 0.75
#define COPY_COUNTS 2

/* What another hand writes with the same digits correlates by .68 in the mean, with a standard deviation
   of .18 a cell; what a second camera makes of one paper by .88 and more in 19 of 20 (measured on
   tallies that tally-synth draws from MNIST's digits, taken twice). So two tallies are one from three
   deviations above the mean of other hands, and look alike above the mean. */
#define OTHER_HAND 0.68
#define OTHER_HAND_SPREAD 0.18
#define COPY_DEVIATIONS 3
#define COPY_CELLS 4 /* the fewest that are enough to compare */

#define NO_COPY (-1)

/* What all pictures say, as the first pass reads it. */
typedef struct copies {
  int count, fields;
  int *values;   /* [count][fields]; TALLY_NO_VALUE */
  int *accepted; /* [count] accepted counts; -1: not read */
  int *of;       /* [count] the tally that a picture is a copy of, or NO_COPY */
  int *alike;    /* [count] one that it may be a copy of, or NO_COPY */
} copies;

static inline copies copies_open(int count, int fields) {
  copies c = {.count = count, .fields = fields};
  c.values = allocate((size_t)count * (size_t)fields, sizeof *c.values);
  c.accepted = allocate((size_t)count, sizeof *c.accepted);
  c.of = allocate((size_t)count, sizeof *c.of);
  c.alike = allocate((size_t)count, sizeof *c.alike);
  for (int i = 0; i < count; i++) c.accepted[i] = c.of[i] = c.alike[i] = NO_COPY;
  return c;
}

static inline void copies_free(copies *c) {
  free(c->values);
  free(c->accepted);
  free(c->of);
  free(c->alike);
}

static inline void copies_note(copies *c, int tally, const tally_counts *counts) {
  c->accepted[tally] = 0;
  for (int f = 0; f < c->fields; f++) {
    c->values[(size_t)tally * (size_t)c->fields + (size_t)f] = counts->count[f].value;
    c->accepted[tally] += counts->count[f].status == TALLY_COUNT_OK;
  }
}

/* Whether two tallies say the same, as far as both were read. */
static inline int say_the_same(const copies *c, int a, int b) {
  const int *x = c->values + (size_t)a * (size_t)c->fields;
  const int *y = c->values + (size_t)b * (size_t)c->fields;
  int both = 0, equal = 0, votes = 0;
  for (int f = 0; f < c->fields; f++) {
    if (x[f] < 0 || y[f] < 0) continue;
    both++;
    equal += x[f] == y[f];
    votes += x[f] == y[f] && x[f] > 0;
  }
  return votes >= COPY_COUNTS && equal >= COPY_EQUAL * both;
}

/* Correlation of two sketches, at the best of nine places; -2 if one of them is level. */
static inline double sketch_correlation(const uint8_t *a, const uint8_t *b) {
  double best = -2;
  for (int down = -1; down <= 1; down++)
    for (int right = -1; right <= 1; right++) {
      double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
      for (int v = 1; v < SKETCH - 1; v++)
        for (int u = 1; u < SKETCH - 1; u++) {
          double p = a[v * SKETCH + u], q = b[(v + down) * SKETCH + u + right];
          n++;
          x += p;
          y += q;
          xx += p * p;
          yy += q * q;
          xy += p * q;
        }
      double spread = (xx - x * x / n) * (yy - y * y / n);
      if (spread > 1e-9) best = fmax(best, (xy - x * y / n) / sqrt(spread));
    }
  return best;
}

/* By how many deviations the ink in the cells in which either has some correlates better than another
   hand's would; far below 0 where that are too few cells. */
static inline double ink_deviations(const sight *a, const sight *b, int cells) {
  double sum = 0;
  int compared = 0;
  for (int i = 0; i < cells; i++) {
    int in_a = a->cells[i].state != TALLY_CELL_EMPTY, in_b = b->cells[i].state != TALLY_CELL_EMPTY;
    if (!in_a && !in_b) continue;
    double r = in_a && in_b ? sketch_correlation(a->sketches[i], b->sketches[i]) : 0;
    sum += r > 0 ? r : 0;
    compared++;
  }
  if (compared < COPY_CELLS) return -100;
  return (sum / compared - OTHER_HAND) / OTHER_HAND_SPREAD * sqrt(compared);
}

/* The original of a group of copies is the picture that was read best. */
static inline int copy_root(const copies *c, int tally) {
  while (c->of[tally] != NO_COPY) tally = c->of[tally];
  return tally;
}

static inline void copies_join(copies *c, int a, int b) {
  a = copy_root(c, a);
  b = copy_root(c, b);
  if (a == b) return;
  int first = c->accepted[a] > c->accepted[b] || (c->accepted[a] == c->accepted[b] && a < b);
  c->of[first ? b : a] = first ? a : b;
}

/* A tally by one of its values. */
typedef struct valued {
  int value, tally;
} valued;

static inline int compare_valued(const void *a, const void *b) {
  const valued *x = a, *y = b;
  return x->value != y->value ? (x->value > y->value) - (x->value < y->value)
                              : (x->tally > y->tally) - (x->tally < y->tally);
}

/* The field whose values differ most from tally to tally, `but` left out. */
static inline int telling_field(const copies *c, int but) {
  int best = -1;
  double most = -1;
  for (int f = 0; f < c->fields; f++) {
    double n = 0, sum = 0, squares = 0;
    for (int i = 0; i < c->count; i++) {
      double v = c->values[(size_t)i * (size_t)c->fields + (size_t)f];
      if (c->accepted[i] < 0 || v < 0) continue;
      n++;
      sum += v;
      squares += v * v;
    }
    double spread = n > 1 ? squares / n - sum / n * (sum / n) : 0;
    if (f != but && spread > most) {
      most = spread;
      best = f;
    }
  }
  return best;
}

/* Compares the tallies that have one value of a field in common. */
static inline void join_by_field(copies *c, const journal *j, const tally_template *form,
                                 int field) {
  valued *all = allocate((size_t)c->count, sizeof *all);
  sight a = sight_make(form), b = sight_make(form);
  int n = 0;
  for (int i = 0; i < c->count; i++) {
    int value = c->values[(size_t)i * (size_t)c->fields + (size_t)field];
    if (c->accepted[i] >= 0 && value > 0) all[n++] = (valued){value, i};
  }
  qsort(all, (size_t)n, sizeof *all, compare_valued);
  for (int i = 0; i < n; i++) {
    int seen = 0;
    for (int k = i + 1; k < n && all[k].value == all[i].value; k++) {
      if (copy_root(c, all[i].tally) == copy_root(c, all[k].tally)) continue;
      if (!say_the_same(c, all[i].tally, all[k].tally)) continue;
      if (!seen++) journal_read(j, form, all[i].tally, &a);
      journal_read(j, form, all[k].tally, &b);
      double deviations = ink_deviations(&a, &b, form->cells);
      if (deviations >= COPY_DEVIATIONS)
        copies_join(c, all[i].tally, all[k].tally);
      else if (deviations > 0)
        c->alike[all[k].tally] = all[i].tally;
    }
  }
  sight_free(&a);
  sight_free(&b);
  free(all);
}

/* Finds all copies among tallies that copies_note knows. Two fields lead to them, so that a copy in which
   one of them was misread is found by the other. */
static inline void copies_find(copies *c, const journal *j, const tally_template *form) {
  int first = telling_field(c, -1), second = telling_field(c, first);
  if (first >= 0) join_by_field(c, j, form, first);
  if (second >= 0) join_by_field(c, j, form, second);
  for (int i = 0; i < c->count; i++)
    if (c->of[i] != NO_COPY) c->of[i] = copy_root(c, i);
}

#endif
