/* origins.h - what is known of the tallies beforehand: their groups and their registered voters. */
#ifndef TALLY_READ_ORIGINS_H
#define TALLY_READ_ORIGINS_H

#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../form_list.h"

/* One for each tally of the run. */
typedef struct origins {
  tally_origin *of; /* [form_count(list)]; NULL: nothing is known */
  char **groups;    /* their names, by number; number 0 is that of tallies without a group */
  int group_count, registered; /* how many tallies' registered voters are known */
} origins;

/* The number of a group's name, which is added if it is new. */
static inline int group_number(origins *to, const char *name) {
  for (int g = 0; g < to->group_count; g++)
    if (!strcmp(to->groups[g], name)) return g;
  to->groups = reallocate(to->groups, (size_t)to->group_count + 1, sizeof *to->groups);
  to->groups[to->group_count] = copy_text(name);
  return to->group_count++;
}

static inline int registered_voters(const csv *table, const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || *end || value < 0 || value > 100000000)
    fail("%s: line %d: \"%s\" is no number of registered voters", table->path, table->line, text);
  return (int)value;
}

/* Reads a table with a column tally and any of group and registered. */
static inline origins origins_read(const char *path, const form_list *list) {
  origins out = {0};
  int unknown = 0;
  if (!path) return out;
  out.of = allocate((size_t)form_count(list), sizeof *out.of);
  group_number(&out, "");
  csv table = csv_open(path);
  int tally_column = csv_column(&table, "tally"), group_column = csv_find_column(&table, "group");
  int registered_column = csv_find_column(&table, "registered");
  if (group_column < 0 && registered_column < 0)
    fail("%s: there is no column group and no column registered", path);
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    unknown += tally < 0;
    if (tally < 0) continue;
    tally_origin *of = &out.of[tally];
    if (of->group || of->registered)
      fail("%s: line %d: %s has a row already", path, table.line, list->names[tally]);
    if (group_column >= 0) of->group = group_number(&out, csv_cell(&table, group_column));
    if (registered_column >= 0 && *csv_cell(&table, registered_column))
      of->registered = registered_voters(&table, csv_cell(&table, registered_column));
    out.registered += of->registered > 0;
  }
  csv_close(&table);
  if (unknown) say("%s: %d rows are about other tallies", path, unknown);
  return out;
}

static inline void origins_free(origins *o) {
  for (int g = 0; g < o->group_count; g++) free(o->groups[g]);
  free(o->groups);
  free(o->of);
}

#endif
