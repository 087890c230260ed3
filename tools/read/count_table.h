/* count_table.h - counts that people give: official ones and corrections. */
#ifndef TALLY_READ_COUNT_TABLE_H
#define TALLY_READ_COUNT_TABLE_H

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../form_list.h"

#define NO_CORRECTION (-2) /* TALLY_NO_VALUE: corrected to nothing written */

/* One number per count of the run, from a table tally,field,value. */
typedef struct count_table {
  int *values; /* [form_count(list)][form->fields] */
  int rows, unknown_tallies, unknown_fields;
} count_table;

static inline int table_value(const csv *table, const char *text, const tally_field *field) {
  char *end;
  long value = strtol(text, &end, 10), most = (long)(pow(10, field->digits) + 0.5) - 1;
  if (end == text || *end || value < 0 || value > INT_MAX - 1)
    fail("%s: line %d: \"%s\" is not a count", table->path, table->line, text);
  if (value > most)
    fail("%s: line %d: %ld has more than the %d digits of %s", table->path, table->line, value,
         field->digits, field->name);
  return (int)value;
}

/* absent fills what the table does not name; of what an empty value means, see --help. */
static inline count_table count_table_read(const char *path, const tally_template *form,
                                           const form_list *list, int absent, int strict) {
  count_table out = {0};
  size_t count = (size_t)form_count(list) * (size_t)form->fields;
  out.values = allocate(count, sizeof(int));
  for (size_t i = 0; i < count; i++) out.values[i] = absent;
  csv table = csv_open(path);
  int tally_column = csv_column(&table, "tally"), field_column = csv_column(&table, "field");
  int value_column = csv_column(&table, "value");
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    const char *name = csv_cell(&table, field_column), *text = csv_cell(&table, value_column);
    int field = tally_template_field(form, name);
    if (strict && field < 0)
      fail("%s: line %d: the template has no field \"%s\"", path, table.line, name);
    out.unknown_tallies += tally < 0;
    out.unknown_fields += field < 0;
    if (tally < 0 || field < 0) continue;
    int *place = &out.values[(size_t)tally * (size_t)form->fields + (size_t)field];
    int value = *text ? table_value(&table, text, &form->field[field]) : TALLY_NO_VALUE;
    if (*place != absent && *place != value)
      fail("%s: line %d: %s of %s was given another value before", path, table.line,
           form->field[field].name, list->names[tally]);
    *place = value;
    out.rows++;
  }
  csv_close(&table);
  return out;
}

/* Says what of a table was of no use. */
static inline void count_table_say(const char *path, const count_table *table) {
  if (!table->rows) say("%s: no row is about these tallies", path);
  if (table->unknown_tallies)
    say("%s: %d rows are about other tallies", path, table->unknown_tallies);
  if (table->unknown_fields)
    say("%s: %d rows are about fields that the template does not have", path,
        table->unknown_fields);
}

#endif
