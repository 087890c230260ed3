/* labels.h - what people say is written in the cells. */
#ifndef TALLY_EXTRACT_LABELS_H
#define TALLY_EXTRACT_LABELS_H

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../tally.h"
#include "../classes.h"
#include "../csv.h"
#include "../form_list.h"

#define NO_LABEL (-1)

/* What is written in each cell of each tally, or a whole count. */
typedef struct label_table {
  class_list set;
  int *cells;        /* [tally][cell] index into set, NO_LABEL */
  long long *counts; /* [tally][field] value, NO_LABEL */
  int unknown;       /* rows about tallies that are not here */
} label_table;

static inline int label_field(const csv *table, const tally_template *form, const char *name) {
  int field = tally_template_field(form, name);
  if (field < 0)
    fail("%s: line %d: the template has no field \"%s\"", table->path, table->line, name);
  return field;
}

static inline long long label_number(const csv *table, const char *text, long long most) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (end == text || *end || errno || number < 0 || number > most)
    fail("%s: line %d: \"%s\" is not a number from 0 to %lld", table->path, table->line, text,
         most);
  return number;
}

/* One cell or count has one label, however often it is named. */
static inline void label_check(const csv *table, const char *field, const char *tally,
                               long long before, long long now) {
  if (before != NO_LABEL && before != now)
    fail("%s: line %d: %s of %s was given another label before", table->path, table->line, field,
         tally);
}

static inline void label_cell(label_table *labels, const csv *table, const tally_template *form,
                              const form_list *list, int tally, int field, const char *position,
                              const char *label) {
  int p = (int)label_number(table, position, form->field[field].digits - 1);
  if (!*label || strchr(label, '\n'))
    fail("%s: line %d: a label is missing", table->path, table->line);
  int index = classes_find(&labels->set, label);
  if (index < 0) {
    classes_add(&labels->set, label);
    index = labels->set.count - 1;
  }
  int *to = &labels->cells[(size_t)tally * (size_t)form->cells +
                           (size_t)(form->field[field].first_cell + p)];
  label_check(table, form->field[field].name, list->names[tally], *to, index);
  *to = index;
}

static inline void label_count(label_table *labels, const csv *table, const tally_template *form,
                               const form_list *list, int tally, int field, const char *value) {
  long long most = (long long)pow(10, form->field[field].digits) - 1;
  long long *to = &labels->counts[(size_t)tally * (size_t)form->fields + (size_t)field];
  long long number = label_number(table, value, most);
  label_check(table, form->field[field].name, list->names[tally], *to, number);
  *to = number;
}

static inline label_table labels_read(const char *path, const tally_template *form,
                                      const form_list *list) {
  label_table labels = {0};
  size_t cells = (size_t)form_count(list) * (size_t)form->cells;
  size_t counts = (size_t)form_count(list) * (size_t)form->fields;
  labels.set = classes_numbered(10);
  classes_add(&labels.set, "empty");
  labels.cells = allocate(cells, sizeof(int));
  labels.counts = allocate(counts, sizeof(long long));
  for (size_t i = 0; i < cells; i++) labels.cells[i] = NO_LABEL;
  for (size_t i = 0; i < counts; i++) labels.counts[i] = NO_LABEL;
  csv table = csv_open(path);
  int by_cell = csv_find_column(&table, "label") >= 0;
  int tally_column = csv_column(&table, "tally"), field_column = csv_column(&table, "field");
  int value_column = csv_column(&table, by_cell ? "label" : "value");
  int position_column = by_cell ? csv_column(&table, "position") : -1;
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    if (tally < 0) {
      labels.unknown++;
      continue;
    }
    int field = label_field(&table, form, csv_cell(&table, field_column));
    const char *value = csv_cell(&table, value_column);
    if (by_cell)
      label_cell(&labels, &table, form, list, tally, field, csv_cell(&table, position_column),
                 value);
    else if (*value)
      label_count(&labels, &table, form, list, tally, field, value);
  }
  csv_close(&table);
  return labels;
}

/* The label of a cell. A count's digits stand at the right; to their left an empty cell is just
   that, but ink may be a zero or a cross, which the count does not tell. */
static inline int label_of(const label_table *labels, const tally_template *form, int tally,
                           int field, int position, int state) {
  size_t cell =
      (size_t)tally * (size_t)form->cells + (size_t)(form->field[field].first_cell + position);
  if (labels->cells[cell] != NO_LABEL) return labels->cells[cell];
  long long value = labels->counts[(size_t)tally * (size_t)form->fields + (size_t)field];
  if (value == NO_LABEL) return NO_LABEL;
  for (int i = form->field[field].digits - 1; i > position; i--) {
    value /= 10;
    if (value == 0)
      return state == TALLY_CELL_EMPTY ? classes_find(&labels->set, "empty") : NO_LABEL;
  }
  return (int)(value % 10);
}

#endif
