/* listing.h - lists of pictures: each once, however often and under however many names it occurs. */
#ifndef TALLY_LISTING_H
#define TALLY_LISTING_H

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "file.h"
#include "identity.h"
#include "input.h"
#include "left_out.h"
#include "path.h"
#include "picture.h"

/* Another name of a picture that is listed already. */
typedef struct listed_link {
  char *path;
  const char *kind; /* "symbolic link", "hard link"; or "named twice": the same path again */
  int first;        /* index of the picture */
} listed_link;

/* Paths in the order in which they were named, those of a folder sorted; each picture once, the pages
   of a file as scan.pdf#1, scan.pdf#2, ... Zero-initialise; listing_free. */
typedef struct listing {
  char **paths;
  int count, capacity;
  listed_link *links;
  int link_count;
  left_out left;
  int flat;        /* set before anything is added: pictures in subfolders are left out */
  int below;       /* how many folders below one that was named */
  const char *own; /* also: the folder that the run writes pictures to, NULL if there is none */
} listing;

static inline void listing_free(listing *list) {
  for (int i = 0; i < list->count; i++) free(list->paths[i]);
  for (int i = 0; i < list->link_count; i++) free(list->links[i].path);
  free(list->paths);
  free(list->links);
  left_out_free(&list->left);
}

static inline void listing_append(listing *list, char *path) {
  if (list->count == INT_MAX / 4) fail("too many pictures");
  if (list->count == list->capacity) {
    list->capacity = list->capacity * 2 + 64;
    list->paths = reallocate(list->paths, (size_t)list->capacity, sizeof(char *));
  }
  list->paths[list->count++] = path;
}

/* Notes the file of a picture as one that is read. */
static inline void listing_note(const char *name) {
  char path[PATH_MAX];
  picture_page(name, path);
  input_note(path);
}

/* A file, as each of its pages if it has several. */
static inline void listing_add_file(listing *list, const char *path) {
  int pages = picture_pages(path);
  listing_note(path);
  if (pages == 1) listing_append(list, copy_text(path));
  for (int page = 1; page <= pages && pages > 1; page++) {
    text_buffer name = {0};
    text_add(&name, "%s#%d", path, page);
    listing_append(list, name.data);
  }
}

static inline int is_symbolic_link(const char *name) {
  char path[PATH_MAX];
  struct stat status;
  picture_page(name, path);
  return !lstat(path, &status) && S_ISLNK(status.st_mode);
}

/* Whether two names stand for one entry of one folder. */
static inline int same_entry(const char *a, const char *b) {
  identity in_a, in_b;
  char *folder_a = folder_of(a), *folder_b = folder_of(b);
  int same = !strcmp(file_name_of(a), file_name_of(b)) && identity_of(folder_a, &in_a) &&
             identity_of(folder_b, &in_b) && identity_equal(in_a, in_b);
  free(folder_a);
  free(folder_b);
  return same;
}

/* The same of two listed names: a file is its first page as well. */
static inline int same_listed(const char *a, const char *b) {
  char file_a[PATH_MAX], file_b[PATH_MAX];
  picture_page(a, file_a);
  picture_page(b, file_b);
  return same_entry(file_a, file_b);
}

static inline int listed_identity(const char *name, identity *out) {
  char path[PATH_MAX];
  int page = picture_page(name, path);
  if (!is_regular(path) || !identity_of(path, out)) return 0;
  out->page = page ? page : 1; /* that is which page of a file without further ones */
  return 1;
}

/* Keeps each picture under its first name that is no symbolic link, or else its first. The others
   become links. */
static inline void listing_settle(listing *list) {
  identities known = {0};
  int *first = allocate((size_t)list->count, sizeof(int)), kept = 0;
  for (int links = 0; links < 2; links++)
    for (int i = 0; i < list->count; i++) {
      identity key;
      if (is_symbolic_link(list->paths[i]) != links) continue;
      first[i] = listed_identity(list->paths[i], &key) ? identities_add(&known, key, i) : i;
    }
  int *place = allocate((size_t)list->count, sizeof(int)); /* where a kept one goes */
  for (int i = 0; i < list->count; i++) place[i] = first[i] == i ? kept++ : -1;
  list->links = allocate((size_t)(list->count - kept), sizeof *list->links);
  for (int i = 0; i < list->count; i++) {
    if (first[i] == i) continue;
    const char *kind = same_listed(list->paths[i], list->paths[first[i]]) ? "named twice"
                       : is_symbolic_link(list->paths[i])                 ? "symbolic link"
                                                                          : "hard link";
    list->links[list->link_count++] = (listed_link){list->paths[i], kind, place[first[i]]};
    left_out_add(&list->left, kind, list->paths[i]);
  }
  for (int i = 0; i < list->count; i++)
    if (first[i] == i) list->paths[place[i]] = list->paths[i];
  list->count = kept;
  free(first);
  free(place);
  identities_free(&known);
}

#endif
