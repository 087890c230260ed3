/* count_table.h - counts that people give: official ones and corrections. */
#ifndef TALLY_READ_COUNT_TABLE_H
#define TALLY_READ_COUNT_TABLE_H

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../form_list.h"
#include "../picture_hash.h"
#include "../work.h"

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

/* The hash of every picture of a list. */
typedef struct hashing {
  const form_list *list;
  char (*hashes)[PICTURE_HASH];
} hashing;

static inline void hash_one(void *context, int i, int thread) {
  hashing *h = context;
  (void)thread;
  picture_hash(h->list->pictures.paths[i], h->hashes[i]);
}

static inline char (*list_hashes(const form_list *list))[PICTURE_HASH] {
  hashing h = {list, allocate((size_t)form_count(list), sizeof *h.hashes)};
  share_work(form_count(list), hash_one, &h);
  return h.hashes;
}

/* The tally that a row is about: by the hash of its picture where the row has one - files are renamed,
   and other pictures come under their names -, else by its name. */
static inline int row_tally(const csv *table, const form_list *list, char (*hashes)[PICTURE_HASH],
                            int tally_column, int hash_column) {
  const char *name = csv_cell(table, tally_column);
  const char *hash = hash_column < 0 ? "" : csv_cell(table, hash_column);
  if (!*hash) return form_list_find_row(list, table, name);
  int named = form_list_find(list, name);
  if (named >= 0 && !strcmp(hashes[named], hash)) return named;
  for (int i = 0; i < form_count(list); i++)
    if (!strcmp(hashes[i], hash)) return i;
  if (named >= 0)
    say("%s: line %d: %s is another picture than the one that this row is about: it is not used",
        table->path, table->line, name);
  return NO_TALLY;
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
  int value_column = csv_column(&table, "value"), hash_column = csv_find_column(&table, "sha256");
  char(*hashes)[PICTURE_HASH] = hash_column < 0 ? NULL : list_hashes(list);
  while (csv_row(&table)) {
    int tally = row_tally(&table, list, hashes, tally_column, hash_column);
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
  free(hashes);
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
