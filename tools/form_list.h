/* form_list.h - the pictures of forms, and the name that each tally goes by. */
#ifndef TALLY_FORM_LIST_H
#define TALLY_FORM_LIST_H

#include <stdlib.h>

#include "csv.h"
#include "form_names.h"
#include "gather.h"

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

/* What is not there or not a picture stays in the list: reading it fails with a reason, and the
   others go on. */
static inline form_list form_list_open(char *const *arguments, int count, int flat,
                                       const char *own) {
  form_list list = {.pictures = listing_open(arguments, count, flat, own)};
  qsort(list.pictures.paths, (size_t)form_count(&list), sizeof(char *), compare_paths);
  list.names = names_of_pictures(list.pictures.paths, form_count(&list));
  list.stems = stems_of_names(list.names, form_count(&list));
  list.by_name = sorted_names(list.names, form_count(&list));
  list.by_stem = sorted_names(list.stems, form_count(&list));
  return list;
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
