/* form_names.h - what tallies are called: names of pictures as people order and write them. */
#ifndef TALLY_FORM_NAMES_H
#define TALLY_FORM_NAMES_H

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "memory.h"
#include "path.h"
#include "text.h"

/* Numbers in names by their size: form2 before form12. */
static inline int compare_natural(const char *a, const char *b) {
  const char *a_start = a, *b_start = b;
  while (*a && *b) {
    size_t a_digits = strspn(a, "0123456789"), b_digits = strspn(b, "0123456789");
    if (a_digits && b_digits) {
      while (*a == '0' && a_digits > 1) a++, a_digits--;
      while (*b == '0' && b_digits > 1) b++, b_digits--;
      if (a_digits != b_digits) return a_digits < b_digits ? -1 : 1;
      int order = strncmp(a, b, a_digits);
      if (order) return order;
      a += a_digits;
      b += b_digits;
    } else {
      if (*a != *b) return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
      a++;
      b++;
    }
  }
  if (*a || *b) return *a ? 1 : -1;
  return strcmp(a_start, b_start);
}

static inline int compare_paths(const void *a, const void *b) {
  return compare_natural(*(char *const *)a, *(char *const *)b);
}

/* A name that a tally goes by, or a part of one. */
typedef struct form_name {
  const char *name;
  int tally;
} form_name;

static inline int compare_form_names(const void *a, const void *b) {
  const form_name *x = a, *y = b;
  int order = strcmp(x->name, y->name);
  return order ? order : (x->tally > y->tally) - (x->tally < y->tally);
}

static inline int compare_form_names_loosely(const void *a, const void *b) {
  const form_name *x = a, *y = b;
  int order = strcasecmp(x->name, y->name);
  return order ? order : (x->tally > y->tally) - (x->tally < y->tally);
}

static inline form_name *sorted_names(char *const *names, int count) {
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  for (int i = 0; i < count; i++) sorted[i] = (form_name){names[i], i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_form_names);
  return sorted;
}

/* The name of each picture: that of its file; or the whole path where two files have one name, but for
   the case of letters, which not every file system tells apart. */
static inline char **names_of_pictures(char *const *paths, int count) {
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  char **names = allocate((size_t)count, sizeof(char *));
  for (int i = 0; i < count; i++) sorted[i] = (form_name){file_name_of(paths[i]), i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_form_names_loosely);
  for (int i = 0; i < count; i++) {
    int tally = sorted[i].tally;
    int shared = (i > 0 && !strcasecmp(sorted[i].name, sorted[i - 1].name)) ||
                 (i + 1 < count && !strcasecmp(sorted[i].name, sorted[i + 1].name));
    names[tally] = copy_text(shared ? paths[tally] : sorted[i].name);
  }
  free(sorted);
  return names;
}

/* The names without their endings. */
static inline char **stems_of_names(char *const *names, int count) {
  char **stems = allocate((size_t)count, sizeof(char *));
  for (int i = 0; i < count; i++) {
    stems[i] = copy_text(names[i]);
    char *dot = strrchr(stems[i], '.');
    if (dot && dot != stems[i] && !strchr(dot, '/')) *dot = 0;
  }
  return stems;
}

#define NO_TALLY (-1)
#define SEVERAL_TALLIES (-2)

static inline int find_form_name(const form_name *sorted, int count, const char *name) {
  int low = 0, high = count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (strcmp(sorted[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == count || strcmp(sorted[low].name, name)) return NO_TALLY;
  if (low + 1 < count && !strcmp(sorted[low + 1].name, name)) return SEVERAL_TALLIES;
  return sorted[low].tally;
}

#endif
