/* listing.h - the pictures that a command line names: files, folders with everything below them, CSV
   files with a column path, and pages of files that have several.

   One rule for all tools. What is named like a picture is one, and what is named on the command line
   is taken as one; of folders everything below them is taken unless --flat says otherwise. Hidden
   files and folders, those that systems leave behind, links that lead nowhere or to folders, and
   whatever has another ending are left out, counted and said. One file is one picture however often
   and under however many names it occurs. */
#ifndef TALLY_LISTING_H
#define TALLY_LISTING_H

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csv.h"
#include "identity.h"
#include "input.h"
#include "left_out.h"
#include "path.h"
#include "picture.h"
#include "file.h"
#include "folder.h"

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

/* Folders that are no part of what a person collected. */
static inline const char *folder_reason(const char *name) {
  if (name[0] == '.') return "hidden folder";
  if (!strcmp(name, "__MACOSX")) return "folder __MACOSX";
  if (!strcmp(name, "@eaDir")) return "folder @eaDir";
  return NULL;
}

/* Whether a folder is that which the run writes to: what it made is no input of the next run. */
static inline int listing_is_own(const listing *list, const char *folder) {
  identity own, here;
  return list->own && identity_of(list->own, &own) && identity_of(folder, &here) &&
         identity_equal(own, here);
}

static inline void listing_add_folder(listing *list, const char *folder);

/* Takes a picture that a folder holds; --flat leaves out those of its subfolders, one by one. */
static inline void listing_add_found(listing *list, const char *path) {
  if (list->flat && list->below)
    left_out_add(&list->left, "picture in a subfolder", path);
  else
    listing_add_file(list, path);
}

/* Takes or leaves out what lies in a folder under a name. */
static inline void listing_add_entry(listing *list, const char *path, const char *name) {
  struct stat itself, there;
  int is_link = !lstat(path, &itself) && S_ISLNK(itself.st_mode);
  if (stat(path, &there)) {
    /* a picture that is not there is not left out but cannot be read, which has its reason */
    if (decode_is_picture_name(name) && *name != '.')
      listing_add_found(list, path);
    else
      left_out_add(&list->left, is_link ? "broken link" : strerror(errno), path);
  } else if (S_ISDIR(there.st_mode)) {
    const char *reason = is_link                      ? "link to a folder" /* it may lead back */
                         : listing_is_own(list, path) ? "folder of outputs"
                                                      : folder_reason(name);
    list->below++;
    if (reason)
      left_out_add(&list->left, reason, path);
    else
      listing_add_folder(list, path);
    list->below--;
  } else if (!decode_is_picture_name(name) || *name == '.') {
    left_out_add_ending(&list->left, path);
  } else if (!S_ISREG(there.st_mode)) {
    left_out_add(&list->left, "no regular file", path);
  } else {
    listing_add_found(list, path);
  }
}

static inline void listing_add_folder(listing *list, const char *folder) {
  int count;
  char **names = list_folder(folder, &count);
  for (int i = 0; i < count; i++) {
    char *path = join_path(folder, names[i]);
    listing_add_entry(list, path, names[i]);
    free(path);
    free(names[i]);
  }
  free(names);
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

static inline void listing_add_csv(listing *list, const char *path) {
  csv table = csv_open(path);
  int column = csv_column(&table, "path");
  char *folder = folder_of(path);
  while (csv_row(&table)) {
    char *file = csv_path(&table, column, folder);
    listing_add_file(list, file);
    free(file);
  }
  free(folder);
  csv_close(&table);
}

/* ---- one file, one picture ------------------------------------------------------------------------ */

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

/* Lists what the command line names, and says what it leaves out. */
static inline listing listing_open(char *const *arguments, int count, int flat, const char *own) {
  listing list = {0};
  list.flat = flat;
  list.own = own;
  for (int a = 0; a < count; a++) {
    char ending[16];
    if (listing_is_own(&list, arguments[a]))
      fail("%s: pictures are written into this folder; name another for them", arguments[a]);
    if (is_folder(arguments[a]))
      listing_add_folder(&list, arguments[a]);
    else if (!strcmp(ending_of(arguments[a], ending), "csv"))
      listing_add_csv(&list, arguments[a]);
    else
      listing_add_file(&list, arguments[a]);
  }
  listing_settle(&list);
  left_out_say(&list.left);
  if (!list.count) fail("there are no pictures in what was named");
  return list;
}

#endif
