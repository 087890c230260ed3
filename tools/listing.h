/* listing.h - the pictures that a command line names: files, folders with everything below them, and
   CSV files with a column path.

   Internal to tools/; include it after common.h. */
#ifndef TALLY_LISTING_H
#define TALLY_LISTING_H

/* Paths in the order in which they were named, those of a folder sorted; each once. */
typedef struct picture_list {
  char **paths;
  int count, capacity;
} picture_list;

static inline void listing_add(picture_list *list, char *path) {
  if (list->count == INT_MAX / 4) fail("too many pictures");
  if (list->count == list->capacity) {
    list->capacity = list->capacity * 2 + 64;
    list->paths = reallocate(list->paths, (size_t)list->capacity, sizeof(char *));
  }
  list->paths[list->count++] = path;
}

/* Everything below a folder that is named like a picture. Links to folders are not followed: they may
   lead back. */
static inline void listing_add_folder(picture_list *list, const char *folder) {
  int count;
  char **names = list_folder(folder, &count);
  for (int i = 0; i < count; i++) {
    char *path = join_path(folder, names[i]);
    struct stat status;
    int known = lstat(path, &status) == 0;
    if (known && S_ISDIR(status.st_mode)) listing_add_folder(list, path);
    if (known && !S_ISDIR(status.st_mode) && is_picture_name(names[i]))
      listing_add(list, path);
    else
      free(path);
    free(names[i]);
  }
  free(names);
}

/* Relative paths of a CSV file start where the file is. */
static inline void listing_add_csv(picture_list *list, const char *path) {
  csv table = csv_open(path);
  int column = csv_column(&table, "path");
  char *folder = folder_of(path);
  while (csv_row(&table)) {
    const char *file = table.fields[column];
    if (!*file) fail("%s: line %d: the path is empty", path, table.line);
    listing_add(list, *file == '/' ? copy_text(file) : join_path(folder, file));
  }
  free(folder);
  csv_close(&table);
}

static inline int compare_listed(const void *a, const void *b) {
  char *const *x = *(char **const *)a, *const *y = *(char **const *)b;
  int order = strcmp(*x, *y);
  return order ? order : (x > y) - (x < y);
}

/* Drops paths that were named before. */
static inline void listing_drop_repeats(picture_list *list) {
  char ***sorted = allocate((size_t)list->count, sizeof *sorted);
  int kept = 0;
  for (int i = 0; i < list->count; i++) sorted[i] = &list->paths[i];
  qsort(sorted, (size_t)list->count, sizeof *sorted, compare_listed);
  for (int i = 0, first = 0; i < list->count; i++) {
    if (i == first) continue;
    if (strcmp(*sorted[i], *sorted[first])) {
      first = i;
    } else {
      free(*sorted[i]);
      *sorted[i] = NULL;
    }
  }
  for (int i = 0; i < list->count; i++)
    if (list->paths[i]) list->paths[kept++] = list->paths[i];
  list->count = kept;
  free(sorted);
}

static inline picture_list listing_open(char *const *arguments, int count) {
  picture_list list = {0};
  for (int a = 0; a < count; a++) {
    size_t length = strlen(arguments[a]);
    if (is_folder(arguments[a]))
      listing_add_folder(&list, arguments[a]);
    else if (length > 4 && !strcmp(arguments[a] + length - 4, ".csv"))
      listing_add_csv(&list, arguments[a]);
    else
      listing_add(&list, copy_text(arguments[a]));
  }
  if (!list.count) fail("there are no pictures in what was named");
  listing_drop_repeats(&list);
  return list;
}

static inline void listing_free(picture_list *list) {
  for (int i = 0; i < list->count; i++) free(list->paths[i]);
  free(list->paths);
}

#endif
