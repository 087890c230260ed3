/* picture_hash.h - what a picture is known by, whatever its file is called: the SHA-256 of the file, and
   the number of the page in a file of several. */
#ifndef TALLY_PICTURE_HASH_H
#define TALLY_PICTURE_HASH_H

#include <limits.h>
#include <stdio.h>

#include "hash_file.h"
#include "picture.h"

#define PICTURE_HASH (SHA256_TEXT + 12)

/* "ba78...15ad", or "ba78...15ad#3" of a page; "" if the file cannot be read. */
static inline void picture_hash(const char *name, char out[PICTURE_HASH]) {
  char path[PATH_MAX], text[SHA256_TEXT];
  int page = picture_page(name, path);
  *out = 0;
  if (try_hash_file(path, text)) snprintf(out, PICTURE_HASH, page ? "%s#%d" : "%s", text, page);
}

#endif
