/* origins.h - what is known of the tallies beforehand: groups, registered voters, polling stations. */
#ifndef TALLY_READ_ORIGINS_H
#define TALLY_READ_ORIGINS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../form_list.h"

/* One for each tally of the run. */
typedef struct origins {
  tally_origin *of; /* [form_count(list)]; NULL: nothing is known */
  char **groups;    /* their names, by number; number 0 is that of tallies without a group */
  int group_count, registered; /* how many tallies' registered voters are known */
  char **stations;             /* [form_count(list)] NULL: not known */
  int *shared;                 /* [form_count(list)] another tally of the same station, or -1 */
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

/* Finds the tallies whose station has another one, which is the one before it by name. */
static inline void find_shared_stations(origins *to, int count) {
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  int known = 0;
  for (int i = 0; i < count; i++) {
    to->shared[i] = -1;
    if (to->stations[i]) sorted[known++] = (form_name){to->stations[i], i};
  }
  qsort(sorted, (size_t)known, sizeof *sorted, compare_form_names);
  for (int k = 1; k < known; k++)
    if (!strcmp(sorted[k].name, sorted[k - 1].name)) {
      to->shared[sorted[k].tally] = sorted[k - 1].tally;
      if (to->shared[sorted[k - 1].tally] < 0) to->shared[sorted[k - 1].tally] = sorted[k].tally;
    }
  free(sorted);
}

/* Reads a table with a column tally and any of group, registered and station. */
static inline origins origins_read(const char *path, const form_list *list) {
  origins out = {0};
  int unknown = 0;
  if (!path) return out;
  out.of = allocate((size_t)form_count(list), sizeof *out.of);
  group_number(&out, "");
  csv table = csv_open(path);
  int tally_column = csv_column(&table, "tally"), group_column = csv_find_column(&table, "group");
  int registered_column = csv_find_column(&table, "registered");
  int station_column = csv_find_column(&table, "station");
  if (group_column < 0 && registered_column < 0 && station_column < 0)
    fail("%s: there is no column group, registered or station", path);
  out.stations = allocate((size_t)form_count(list), sizeof *out.stations);
  out.shared = allocate((size_t)form_count(list), sizeof *out.shared);
  uint8_t *seen = allocate((size_t)form_count(list), 1);
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    unknown += tally < 0;
    if (tally < 0) continue;
    tally_origin *of = &out.of[tally];
    if (seen[tally]++)
      fail("%s: line %d: %s has a row already", path, table.line, list->names[tally]);
    if (station_column >= 0 && *csv_cell(&table, station_column))
      out.stations[tally] = copy_text(csv_cell(&table, station_column));
    if (group_column >= 0) of->group = group_number(&out, csv_cell(&table, group_column));
    if (registered_column >= 0 && *csv_cell(&table, registered_column))
      of->registered = registered_voters(&table, csv_cell(&table, registered_column));
    out.registered += of->registered > 0;
  }
  csv_close(&table);
  free(seen);
  find_shared_stations(&out, form_count(list));
  if (unknown) say("%s: %d rows are about other tallies", path, unknown);
  return out;
}

static inline void origins_free(origins *o, int count) {
  for (int i = 0; i < count && o->stations; i++) free(o->stations[i]);
  free(o->stations);
  free(o->shared);
  for (int g = 0; g < o->group_count; g++) free(o->groups[g]);
  free(o->groups);
  free(o->of);
}

#endif
