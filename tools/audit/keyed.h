/* keyed.h - what people keyed of the tallies that were drawn. */
#ifndef TALLY_AUDIT_KEYED_H
#define TALLY_AUDIT_KEYED_H

#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../messages.h"
#include "draw.h"
#include "population.h"

#define FAULTS_SAID 20

/* Counts of the sample, in the order of the draws. */
typedef struct keyed {
  int *written; /* [drawn][fields] votes, WRITTEN_NOTHING, WRITTEN_ILLEGIBLE, NOT_KEYED */
  int drawn, fields;
  int *draw_of;   /* [tallies] when a tally was drawn; -1: not */
  int faults;     /* rows that cannot be taken */
  int agreements; /* counts that were keyed twice, alike */
} keyed;

static inline int *keyed_row(const keyed *all, int draw) {
  return all->written + (size_t)draw * (size_t)all->fields;
}

static inline keyed keyed_begin(const population *all, const draw_queue *queue, int drawn) {
  keyed to = {.drawn = drawn, .fields = all->fields};
  to.written = allocate((size_t)drawn * (size_t)all->fields, sizeof(int));
  to.draw_of = allocate((size_t)all->tallies, sizeof(int));
  for (size_t i = 0; i < (size_t)drawn * (size_t)all->fields; i++) to.written[i] = NOT_KEYED;
  for (int i = 0; i < all->tallies; i++) to.draw_of[i] = -1;
  for (int t = 0; t < drawn; t++) to.draw_of[queue->of[t].tally] = t;
  return to;
}

static inline void keyed_free(keyed *all) {
  free(all->written);
  free(all->draw_of);
}

/* Says what is wrong with a row; all of them are said before the run ends. */
TOOL_PRINTF(3, 4)
static inline void keyed_fault(keyed *to, const csv *table, const char *format, ...) {
  text_buffer text = {0};
  va_list arguments;
  char words[512];
  va_start(arguments, format);
  vsnprintf(words, sizeof words, format, arguments);
  va_end(arguments);
  text_add(&text, "%s: line %d: %s", table->path, table->line, words);
  if (to->faults++ < FAULTS_SAID) say("%s", text.data);
  free(text.data);
}

static inline int keyed_value(const csv *table, const char *text) {
  if (!*text) return WRITTEN_NOTHING;
  return strcmp(text, "?") ? row_votes(table, text) : WRITTEN_ILLEGIBLE;
}

static inline void keyed_take(keyed *to, const population *all, const csv *table, int tally,
                              const char *field, int value) {
  int f = find_field(all, field), draw = to->draw_of[tally];
  if (f < 0) {
    keyed_fault(to, table, "the counts have no field \"%s\"", field);
    return;
  }
  if (draw < 0) {
    keyed_fault(to, table, "%s is not in the sample", all->names[tally]);
    return;
  }
  int *place = keyed_row(to, draw) + f;
  if (*place != NOT_KEYED && *place != value)
    keyed_fault(to, table, "%s of %s was keyed before with another value", field,
                all->names[tally]);
  to->agreements += *place == value;
  *place = value;
}

/* A table tally,field,value: an empty value if nothing is written, ? if it cannot be read. */
static inline void keyed_read(keyed *to, const population *all, const char *path) {
  csv table = csv_open(path);
  int tally = csv_column(&table, "tally"), field = csv_column(&table, "field");
  int value = csv_column(&table, "value");
  while (csv_row(&table))
    keyed_take(to, all, &table, row_tally(all, &table, tally), csv_cell(&table, field),
               keyed_value(&table, csv_cell(&table, value)));
  csv_close(&table);
}

static inline void keyed_settle(const keyed *all) {
  if (all->faults)
    fail("%d rows cannot be taken; settle them with the paper at hand, and certify again",
         all->faults);
}

/* Whether any count of a drawn tally was keyed. */
static inline int is_keyed(const keyed *all, int draw) {
  const int *row = keyed_row(all, draw);
  for (int f = 0; f < all->fields; f++)
    if (row[f] != NOT_KEYED) return 1;
  return 0;
}

/* Draws up to the last that was keyed. What was not keyed before it counts as the worst there can be;
   what comes behind it was not looked at yet. */
static inline int keyed_until(const keyed *all) {
  int until = all->drawn;
  while (until && !is_keyed(all, until - 1)) until--;
  return until;
}

#endif
