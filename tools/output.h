/* output.h - files that appear whole or not at all. */
#ifndef TALLY_OUTPUT_H
#define TALLY_OUTPUT_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "path.h"

/* Says before hours of work, rather than after, that a result could not be written. */
static inline void check_writable(const char *path) {
  char *folder = folder_of(path);
  if (is_folder(path)) fail("cannot write %s: it is a folder", path);
  if (access(folder, W_OK | X_OK)) fail("cannot write %s: %s: %s", path, folder, strerror(errno));
  free(folder);
}

/* A file that appears whole or not at all: written beside its place, synchronised, renamed.
   One at a time; fail() removes the unfinished one. */
typedef struct output {
  FILE *file;
  char *path, *part;
} output;
static char *output_unfinished = NULL;

static inline void output_abandon(void) {
  if (output_unfinished) unlink(output_unfinished);
}

static inline output output_open(const char *path) {
  output out = {0};
  text_buffer part = {0};
  text_add(&part, "%s.part", path);
  out.path = copy_text(path);
  out.part = part.data;
  out.file = fopen(out.part, "wb");
  if (!out.file) fail("cannot write %s: %s", path, strerror(errno));
  output_unfinished = out.part;
  return out;
}

/* Puts the file in its place. */
static inline void output_close(output *out) {
  int bad = ferror(out->file) || fflush(out->file) || fsync(fileno(out->file));
  if (bad || fclose(out->file) || rename(out->part, out->path))
    fail("cannot write %s: %s", out->path, strerror(errno));
  output_unfinished = NULL;
  free(out->path);
  free(out->part);
}

static inline void write_file(const char *path, const void *bytes, size_t count) {
  output out = output_open(path);
  fwrite(bytes, 1, count, out.file);
  output_close(&out);
}

#endif
