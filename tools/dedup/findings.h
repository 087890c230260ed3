/* findings.h - what each picture duplicates, and the table that says so. */
#ifndef TALLY_DEDUP_FINDINGS_H
#define TALLY_DEDUP_FINDINGS_H

#include <stdio.h>

#include "../csv_write.h"
#include "../left_out.h"
#include "traits.h"

typedef enum finding_kind { UNIQUE, EXACT, NEAR, MIRRORED, CROP, FINDING_KINDS } finding_kind;

static const char *const kind_names[FINDING_KINDS] = {"", "exact", "near", "mirrored", "crop"};

/* Of one picture. */
typedef struct finding {
  finding_kind kind;
  int first; /* index of what it duplicates, unless it is unique */
  double distance;
} finding;

typedef struct totals {
  int kinds[FINDING_KINDS];
  int small, unreadable;
} totals;

static inline void write_row(FILE *file, const char *path, const char *first, const char *kind,
                             const char *distance, const char *details) {
  const char *fields[] = {path, first, kind, distance, details};
  for (int i = 0; i < 5; i++) {
    if (i) putc(',', file);
    csv_write(file, fields[i]);
  }
  putc('\n', file);
}

static inline void write_finding(FILE *file, const listing *list, int index, const finding *found) {
  char distance[32] = "0";
  if (found->kind == UNIQUE) return;
  if (found->kind != EXACT) snprintf(distance, sizeof distance, "%.2f", found->distance);
  write_row(file, list->paths[index], list->paths[found->first], kind_names[found->kind], distance,
            "");
}

/* Another name of a picture is no copy of it: dropping it, or what it leads to, loses the picture. */
static inline void write_links(FILE *file, const listing *list) {
  for (int i = 0; i < list->link_count; i++)
    write_row(file, list->links[i].path, list->paths[list->links[i].first], "link", "",
              list->links[i].kind);
}

/* Writes the table. Files below `small` bytes are named too. */
static inline totals write_findings(FILE *file, listing *list, const traits *all,
                                    const finding *found, int small) {
  totals sum = {{0}, 0, 0};
  fputs("path,first,kind,distance,details\n", file);
  for (int i = 0; i < list->count; i++) {
    char details[64];
    if (all[i].reason) {
      write_row(file, list->paths[i], "", "unreadable", "", all[i].reason);
      left_out_add_unreadable(&list->left, list->paths[i], all[i].reason);
      sum.unreadable++;
      continue;
    }
    if (all[i].bytes < small) {
      snprintf(details, sizeof details, "%lld bytes", all[i].bytes);
      write_row(file, list->paths[i], "", "small", "", details);
      sum.small++;
    }
    write_finding(file, list, i, &found[i]);
    sum.kinds[found[i].kind]++;
  }
  write_links(file, list);
  return sum;
}

#endif
