/* form_list.h - the pictures of forms, and the name that each tally goes by. */
#ifndef TALLY_FORM_LIST_H
#define TALLY_FORM_LIST_H

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "csv.h"
#include "gather.h"
#include "path.h"

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

/* The pictures to read, in natural order of their paths, each with its tally's name: the picture's
   file name, or the whole path where two have the same file name (but for the case of letters, which
   not every file system tells apart). */
typedef struct form_list {
  listing pictures;
  char **names;                 /* [pictures.count] */
  char **stems;                 /* the names without their endings */
  form_name *by_name, *by_stem; /* sorted */
} form_list;

static inline int form_count(const form_list *list) {
  return list->pictures.count;
}

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

static inline void form_list_name(form_list *list) {
  int count = form_count(list);
  char *const *paths = list->pictures.paths;
  form_name *sorted = allocate((size_t)count, sizeof *sorted);
  list->names = allocate((size_t)count, sizeof(char *));
  list->stems = allocate((size_t)count, sizeof(char *));
  for (int i = 0; i < count; i++) sorted[i] = (form_name){file_name_of(paths[i]), i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_form_names_loosely);
  for (int i = 0; i < count; i++) {
    int tally = sorted[i].tally;
    int shared = (i > 0 && !strcasecmp(sorted[i].name, sorted[i - 1].name)) ||
                 (i + 1 < count && !strcasecmp(sorted[i].name, sorted[i + 1].name));
    list->names[tally] = copy_text(shared ? paths[tally] : sorted[i].name);
    list->stems[tally] = copy_text(list->names[tally]);
    char *dot = strrchr(list->stems[tally], '.');
    if (dot && dot != list->stems[tally] && !strchr(dot, '/')) *dot = 0;
  }
  free(sorted);
  list->by_name = sorted_names(list->names, count);
  list->by_stem = sorted_names(list->stems, count);
}

/* What is not there or not a picture stays in the list: reading it fails with a reason, and the
   others go on. */
static inline form_list form_list_open(char *const *arguments, int count, int flat,
                                       const char *own) {
  form_list list = {.pictures = listing_open(arguments, count, flat, own)};
  qsort(list.pictures.paths, (size_t)form_count(&list), sizeof(char *), compare_paths);
  form_list_name(&list);
  return list;
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

/* Index of a tally by its name, NO_TALLY or SEVERAL_TALLIES. A table made elsewhere may leave the
   ending out. */
static inline int form_list_find(const form_list *list, const char *name) {
  int found = find_form_name(list->by_name, form_count(list), name);
  return found == NO_TALLY ? find_form_name(list->by_stem, form_count(list), name) : found;
}

/* The same for a row of a table, which has to mean one tally. */
static inline int form_list_find_row(const form_list *list, const csv *table, const char *name) {
  int found = form_list_find(list, name);
  if (found == SEVERAL_TALLIES)
    fail("%s: line %d: \"%s\" is the name of several pictures; give the ending too", table->path,
         table->line, name);
  return found;
}

static inline void form_list_free(form_list *list) {
  for (int i = 0; i < form_count(list); i++) {
    free(list->names[i]);
    free(list->stems[i]);
  }
  free(list->names);
  free(list->stems);
  free(list->by_name);
  free(list->by_stem);
  listing_free(&list->pictures);
}

/* The folder of a tally's cells: its name without slashes, so written that no two names share one. */
static inline char *cell_folder_name(const char *tally) {
  text_buffer name = {0};
  for (; *tally; tally++) {
    if (*tally == '/')
      text_add(&name, "%%2F");
    else if (*tally == '%')
      text_add(&name, "%%25");
    else
      text_append(&name, tally, 1);
  }
  return name.data;
}

#endif
