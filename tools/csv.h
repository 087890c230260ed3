/* csv.h - tables of comma-separated values, read and written. */
#ifndef TALLY_CSV_H
#define TALLY_CSV_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "file.h"
#include "input.h"
#include "memory.h"
#include "path.h"
#include "messages.h"
#include "text.h"

/* Reads RFC 4180: commas, quoted fields with "" for a quote and line ends inside, LF or CRLF, an
   optional byte order mark. The first row names the columns, and shows it if semicolons or tabs stand
   between the fields. */
typedef struct csv {
  const char *path;
  char *data, *at, *end;
  char separator;
  char **fields; /* of the current row; they point into data */
  int field_count, field_capacity;
  int column_count;
  int line, next_line; /* of the current row's start; of what comes next */
} csv;

/* Unquotes a field in place; returns it and moves `at` to what ended it. */
static inline char *csv_field(csv *table) {
  char *start = table->at, *to = table->at;
  if (*table->at != '"') {
    while (table->at < table->end && *table->at != table->separator && *table->at != '\n')
      table->at++;
    to = table->at;
    if (to > start && to[-1] == '\r' && (table->at == table->end || *table->at == '\n')) to[-1] = 0;
    return start;
  }
  table->at++;
  for (;; table->at++) {
    if (table->at == table->end)
      fail("%s: line %d: a quote is not closed", table->path, table->line);
    if (*table->at == '\n') table->next_line++;
    if (*table->at == '"' && *++table->at != '"') break;
    *to++ = *table->at;
  }
  if (table->at < table->end && *table->at == '\r') table->at++;
  if (table->at < table->end && *table->at != table->separator && *table->at != '\n')
    fail("%s: line %d: text behind a closing quote", table->path, table->next_line);
  *to = 0;
  return start;
}

/* Reads the next row that is not empty; 0 at the end. */
static inline int csv_row(csv *table) {
  while (table->at < table->end && (*table->at == '\n' || *table->at == '\r'))
    if (*table->at++ == '\n') table->next_line++;
  if (table->at >= table->end) return 0;
  table->line = table->next_line;
  table->field_count = 0;
  for (;;) {
    if (table->field_count == table->field_capacity) {
      table->field_capacity = table->field_capacity * 2 + 8;
      table->fields = reallocate(table->fields, (size_t)table->field_capacity, sizeof(char *));
    }
    table->fields[table->field_count++] = csv_field(table);
    char stop = table->at < table->end ? *table->at : '\n';
    if (table->at < table->end) *table->at++ = 0;
    if (stop == '\n') break;
  }
  table->next_line++;
  if (table->column_count && table->field_count != table->column_count)
    fail("%s: line %d: %d fields where the header has %d", table->path, table->line,
         table->field_count, table->column_count);
  return 1;
}

/* What comes behind a quoted field, of which `at` is the opening quote. */
static inline const char *csv_skip_quoted(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at != '"') continue;
    if (at + 1 == end || at[1] != '"') return at + 1;
    at++;
  }
  return end;
}

/* What most often stands between the names of the first row. Spreadsheets write semicolons where the
   comma is the decimal point. */
static inline char csv_separator(const char *at, const char *end) {
  static const char known[] = ",;\t";
  int counts[3] = {0}, most = 0, at_start = 1; /* of a field */
  while (at < end && (*at == '\n' || *at == '\r')) at++;
  while (at < end && *at != '\n') {
    const char *found = strchr(known, *at);
    if (found) counts[found - known]++;
    at = at_start && *at == '"' ? csv_skip_quoted(at, end) : at + 1;
    at_start = found != NULL;
  }
  for (int i = 1; i < 3; i++)
    if (counts[i] > counts[most]) most = i;
  return known[most];
}

static inline csv csv_open(const char *path) {
  csv table = {0};
  size_t size;
  table.path = path;
  input_note(path);
  table.data = table.at = read_file(path, &size);
  table.end = table.data + size;
  table.next_line = 1;
  char *zero = memchr(table.data, 0, size);
  if (zero) fail("%s: byte %zu is 0: not a CSV file", path, (size_t)(zero - table.data));
  if (size >= 3 && !memcmp(table.data, "\xEF\xBB\xBF", 3)) table.at += 3;
  table.separator = csv_separator(table.at, table.end);
  if (!csv_row(&table)) fail("%s: the file is empty", path);
  for (int i = 0; i < table.field_count; i++) table.fields[i] = trimmed(table.fields[i]);
  table.column_count = table.field_count;
  return table;
}

/* Index of a column, by its name in any case if none has it exactly; -1 if there is none. To be called
   before the first row after the header is read. */
static inline int csv_find_column(const csv *table, const char *name) {
  int found = -1;
  for (int any_case = 0; any_case < 2 && found < 0; any_case++)
    for (int i = 0; i < table->field_count; i++) {
      const char *field = table->fields[i];
      if (any_case ? strcasecmp(field, name) : strcmp(field, name)) continue;
      if (found >= 0)
        fail("%s: line %d: columns %d and %d are both called \"%s\"", table->path, table->line,
             found + 1, i + 1, name);
      found = i;
    }
  return found;
}

/* The same for a column that must be there. */
static inline int csv_column(const csv *table, const char *name) {
  int found = csv_find_column(table, name);
  if (found < 0) fail("%s: line %d: there is no column \"%s\"", table->path, table->line, name);
  return found;
}

/* What a row says in a column, without the blanks around it. */
static inline char *csv_cell(const csv *table, int column) {
  return trimmed(table->fields[column]);
}

static inline void csv_close(csv *table) {
  free(table->data);
  free(table->fields);
}

/* The path in a row's column, for the caller to free. Relative ones start in `folder`, where the table
   is. Blanks around it are no part of it, unless there is a file of just that name. */
static inline char *csv_path(const csv *table, int column, const char *folder) {
  char *cell = table->fields[column];
  for (int exact = 1;; exact = 0) {
    const char *file = exact ? cell : trimmed(cell);
    if (!*file) fail("%s: line %d: the path is empty", table->path, table->line);
    char *path = *file == '/' ? copy_text(file) : join_path(folder, file);
    if (!exact || is_file(path)) return path;
    free(path);
  }
}

#endif
