/* population.h - what is audited: the tallies, what was read of each, and how many votes it may hold. */
#ifndef TALLY_AUDIT_POPULATION_H
#define TALLY_AUDIT_POPULATION_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../form_names.h"
#include "../memory.h"
#include "../messages.h"
#include "../text.h"

#define MOST_VOTES 999999999 /* in a count */
#define NO_COUNT (-1)        /* nothing was read */

/* The tallies in the order of their names. */
typedef struct population {
  int tallies, fields, parties;
  char **names;      /* [tallies] */
  char **field;      /* [fields], in the order of the table */
  int *party;        /* [parties] fields that votes are cast for; shares are of their sum */
  int *counts;       /* [tallies][fields] NO_COUNT, or what was read */
  uint8_t *accepted; /* [tallies][fields] it was accepted without a person */
  double *most;      /* [tallies] votes that it may hold; NULL: not known */
  form_name *by_name, *by_stem;
  char **stems;
} population;

static inline int count_at(const population *all, int tally, int field) {
  return all->counts[(size_t)tally * (size_t)all->fields + (size_t)field];
}

static inline int is_accepted(const population *all, int tally, int field) {
  return all->accepted[(size_t)tally * (size_t)all->fields + (size_t)field];
}

/* Accepted counts of a tally. */
static inline int accepted_counts(const population *all, int tally) {
  int sum = 0;
  for (int f = 0; f < all->fields; f++) sum += is_accepted(all, tally, f);
  return sum;
}

/* Index of a field; -1 if there is none of that name. */
static inline int find_field(const population *all, const char *name) {
  for (int f = 0; f < all->fields; f++)
    if (!strcmp(all->field[f], name)) return f;
  return -1;
}

/* A tally by its name, or by its name without the ending; NO_TALLY, SEVERAL_TALLIES. */
static inline int find_tally(const population *all, const char *name) {
  int tally = find_form_name(all->by_name, all->tallies, name);
  return tally == NO_TALLY ? find_form_name(all->by_stem, all->tallies, name) : tally;
}

/* The tally that a row is about, which must be one of these. Blanks around a name are no part of it,
   unless there is a tally of just that name. */
static inline int row_tally(const population *all, const csv *table, int column) {
  int tally = find_tally(all, table->fields[column]);
  const char *name = tally == NO_TALLY ? csv_cell(table, column) : table->fields[column];
  if (tally == NO_TALLY) tally = find_tally(all, name);
  if (tally == NO_TALLY)
    fail("%s: line %d: \"%s\" is none of the %d tallies", table->path, table->line, name,
         all->tallies);
  if (tally == SEVERAL_TALLIES)
    fail("%s: line %d: several tallies are called \"%s\"; write the ending too", table->path,
         table->line, name);
  return tally;
}

/* A whole number of votes. */
static inline int row_votes(const csv *table, const char *text) {
  size_t length = strlen(text);
  if (!length || length > 9 || strspn(text, "0123456789") != length)
    fail("%s: line %d: \"%s\" is not a number of votes (0 to %d)", table->path, table->line, text,
         MOST_VOTES);
  return atoi(text);
}

/* ---- counts.csv -------------------------------------------------------------------------------- */

/* Whether a row's count was accepted. Official tables have no status: they are accepted as a whole. */
static inline int row_is_accepted(const csv *table, int column, int value) {
  static const char *const known[] = {"ok", "review", "missing", "unread", "inferred"};
  const char *status = column < 0 ? "" : csv_cell(table, column);
  int is_known = column < 0;
  for (int i = 0; i < 5; i++) is_known = is_known || !strcmp(status, known[i]);
  if (!is_known)
    fail("%s: line %d: \"%s\" is no status (ok, review, missing, unread, inferred)", table->path,
         table->line, status);
  if (!strcmp(status, "ok") && value == NO_COUNT)
    fail("%s: line %d: a count without a value is \"ok\"", table->path, table->line);
  return column < 0 ? value != NO_COUNT : !strcmp(status, "ok");
}

/* Whether a row is about a picture of a tally that another picture shows too: it is counted there. */
static inline int row_is_copy(const csv *table, int status) {
  return status >= 0 && !strcmp(csv_cell(table, status), "copy");
}

/* Names that occur in a column, sorted, each once, those of copies left out. */
static inline char **names_in_column(const char *path, const char *name, int *count) {
  int capacity = 0, kept = 0;
  char **names = NULL;
  csv table = csv_open(path);
  int column = csv_column(&table, name), status = csv_find_column(&table, "status");
  for (*count = 0; csv_row(&table);) {
    const char *cell = table.fields[column];
    if (row_is_copy(&table, status)) continue;
    if (!*cell) fail("%s: line %d: the name of the tally is empty", path, table.line);
    if (*count && !strcmp(names[*count - 1], cell)) continue;
    if (*count == capacity) {
      capacity = capacity * 2 + 64;
      names = reallocate(names, (size_t)capacity, sizeof(char *));
    }
    names[(*count)++] = copy_text(cell);
  }
  csv_close(&table);
  if (!*count) fail("%s: there is no row", path);
  qsort(names, (size_t)*count, sizeof(char *), compare_names);
  for (int i = 0; i < *count; i++)
    if (kept && !strcmp(names[kept - 1], names[i]))
      free(names[i]);
    else
      names[kept++] = names[i];
  *count = kept;
  return names;
}

static inline void read_fields(population *all, const char *path) {
  csv table = csv_open(path);
  int column = csv_column(&table, "field");
  while (csv_row(&table)) {
    const char *name = csv_cell(&table, column);
    if (!*name) fail("%s: line %d: the name of the field is empty", path, table.line);
    if (find_field(all, name) >= 0) continue;
    all->field = reallocate(all->field, (size_t)all->fields + 1, sizeof(char *));
    all->field[all->fields++] = copy_text(name);
  }
  csv_close(&table);
}

/* A tally has a row for every field, or none at all if it is known from elsewhere. */
static inline void check_rows(const population *all, const char *path, const uint8_t *seen) {
  for (int i = 0; i < all->tallies; i++) {
    const uint8_t *row = seen + (size_t)i * (size_t)all->fields;
    const uint8_t *absent = memchr(row, 0, (size_t)all->fields);
    if (absent && memchr(row, 1, (size_t)all->fields))
      fail("%s: there is no row for %s of %s; a count that was not read has a row with an empty "
           "value",
           path, all->field[absent - row], all->names[i]);
  }
}

/* No count stands there twice. */
static inline void read_counts(population *all, const char *path) {
  size_t count = (size_t)all->tallies * (size_t)all->fields;
  uint8_t *seen = allocate(count, 1);
  all->counts = allocate(count, sizeof(int));
  all->accepted = allocate(count, 1);
  for (size_t at = 0; at < count; at++) all->counts[at] = NO_COUNT;
  csv table = csv_open(path);
  int tally = csv_column(&table, "tally"), field = csv_column(&table, "field");
  int value = csv_column(&table, "value"), status = csv_find_column(&table, "status");
  while (csv_row(&table)) {
    if (row_is_copy(&table, status)) continue;
    int i = row_tally(all, &table, tally), f = find_field(all, csv_cell(&table, field));
    size_t at = (size_t)i * (size_t)all->fields + (size_t)f;
    if (seen[at])
      fail("%s: line %d: %s of %s stands there twice", path, table.line, all->field[f],
           all->names[i]);
    seen[at] = 1;
    const char *text = csv_cell(&table, value);
    if (*text) all->counts[at] = row_votes(&table, text);
    all->accepted[at] = (uint8_t)row_is_accepted(&table, status, all->counts[at]);
  }
  csv_close(&table);
  check_rows(all, path, seen);
  free(seen);
}

/* tally-read's two tables name the same tallies, or one of them is not whole. */
static inline void check_tallies(const population *all, const char *counts, const char *tallies) {
  int count;
  char **names = names_in_column(tallies, "tally", &count);
  for (int i = 0; i < count || i < all->tallies; i++)
    if (i >= count || i >= all->tallies || strcmp(names[i], all->names[i]))
      fail("%s and %s do not name the same tallies (\"%s\"); run tally-read again", counts, tallies,
           i < count ? names[i] : all->names[i]);
  for (int i = 0; i < count; i++) free(names[i]);
  free(names);
}

/* ---- all tallies there are, and what they may hold ------------------------------------------------ */

static inline void population_drop_index(population *all) {
  for (int i = 0; i < all->tallies; i++) free(all->stems[i]);
  free(all->stems);
  free(all->by_name);
  free(all->by_stem);
}

static inline void population_index(population *all) {
  all->stems = stems_of_names(all->names, all->tallies);
  all->by_name = sorted_names(all->names, all->tallies);
  all->by_stem = sorted_names(all->stems, all->tallies);
}

/* Adds the tallies of a list that are not there yet: nothing was read of them. */
static inline void add_tallies(population *all, const char *path) {
  int count, added = 0;
  char **names = names_in_column(path, "tally", &count);
  all->names = reallocate(all->names, (size_t)(all->tallies + count), sizeof(char *));
  for (int i = 0; i < count; i++)
    if (find_tally(all, names[i]) == NO_TALLY)
      all->names[all->tallies + added++] = names[i];
    else
      free(names[i]);
  free(names);
  population_drop_index(all);
  all->tallies += added;
  qsort(all->names, (size_t)all->tallies, sizeof(char *), compare_names);
  population_index(all);
}

#define NOT_GIVEN (-1)

/* How many votes each tally may hold: a table tally,voters that names them all. */
static inline void read_most(population *all, const char *path) {
  all->most = allocate((size_t)all->tallies, sizeof(double));
  for (int i = 0; i < all->tallies; i++) all->most[i] = NOT_GIVEN;
  csv table = csv_open(path);
  int tally = csv_column(&table, "tally"), voters = csv_column(&table, "voters");
  while (csv_row(&table)) {
    int i = row_tally(all, &table, tally);
    if (all->most[i] >= 0)
      fail("%s: line %d: %s stands there twice", path, table.line, all->names[i]);
    all->most[i] = row_votes(&table, csv_cell(&table, voters));
  }
  csv_close(&table);
  for (int i = 0; i < all->tallies; i++)
    if (all->most[i] < 0)
      fail("%s: there is no row for %s; every tally that was read needs one", path, all->names[i]);
}

/* counts: a table tally,field,value with or without status. tallies: NULL, or the table of tally-read
   that belongs to it. voters: NULL, or a table of all tallies there are; else each of them may hold `most`
   votes, 0: nobody knows. */
static inline population population_read(const char *counts, const char *tallies,
                                         const char *voters, int most) {
  population all = {0};
  all.names = names_in_column(counts, "tally", &all.tallies);
  if (tallies) check_tallies(&all, counts, tallies);
  population_index(&all);
  if (voters) add_tallies(&all, voters);
  read_fields(&all, counts);
  read_counts(&all, counts);
  if (voters) read_most(&all, voters);
  if (!voters && most) {
    all.most = allocate((size_t)all.tallies, sizeof(double));
    for (int i = 0; i < all.tallies; i++) all.most[i] = most;
  }
  return all;
}

static inline void population_free(population *all) {
  population_drop_index(all);
  for (int i = 0; i < all->tallies; i++) free(all->names[i]);
  for (int f = 0; f < all->fields; f++) free(all->field[f]);
  free(all->names);
  free(all->field);
  free(all->party);
  free(all->counts);
  free(all->accepted);
  free(all->most);
}

/* ---- votes ------------------------------------------------------------------------------------- */

static inline void add_party(population *all, int field) {
  all->party = reallocate(all->party, (size_t)all->parties + 1, sizeof(int));
  all->party[all->parties++] = field;
}

/* Votes for a party that were read of a tally; a count that was not read adds none. */
static inline double party_votes(const population *all, int tally, int party) {
  int count = count_at(all, tally, all->party[party]);
  return count > 0 ? count : 0;
}

static inline double votes_read(const population *all, int tally) {
  double sum = 0;
  for (int p = 0; p < all->parties; p++) sum += party_votes(all, tally, p);
  return sum;
}

/* The result that is audited. */
static inline double party_total(const population *all, int party) {
  double sum = 0;
  for (int i = 0; i < all->tallies; i++) sum += party_votes(all, i, party);
  return sum;
}

/* Votes that a tally may hold; those that were read are possible whatever is said of it. */
static inline double most_votes(const population *all, int tally) {
  return fmax(all->most[tally], votes_read(all, tally));
}

#endif
