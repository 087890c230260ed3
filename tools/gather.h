/* gather.h - the pictures that a command line names: files, folders with everything below them, CSV
   files with a column path, and pages of files that have several.

   One rule for all tools. What is named like a picture is one, and what is named on the command line
   is taken as one; of folders everything below them is taken unless --flat says otherwise. Hidden
   files and folders, those that systems leave behind, links that lead nowhere or to folders, and
   whatever has another ending are left out, counted and said. */
#ifndef TALLY_GATHER_H
#define TALLY_GATHER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "csv.h"
#include "folder.h"
#include "listing.h"

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

static inline void listing_add_csv(listing *list, const char *path) {
  char *folder = folder_of(path);
  csv table = csv_open(path);
  int column = csv_column(&table, "path");
  while (csv_row(&table)) {
    char *file = csv_path(&table, column, folder);
    listing_add_file(list, file);
    free(file);
  }
  csv_close(&table);
  free(folder);
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
