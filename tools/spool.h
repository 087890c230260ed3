/* spool.h - what can be read only once, standard input and pipes, as files that can be read again. */
#ifndef TALLY_SPOOL_H
#define TALLY_SPOOL_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "messages.h"
#include "text.h"
#include "unfinished.h"

#define SPOOL_MOST_BYTES ((size_t)256 << 20) /* as much as a picture's file may have */

typedef struct spooled_file {
  char *name, *copy;
} spooled_file;

static spooled_file *spooled;
static int spooled_count;
static pthread_mutex_t spool_lock = PTHREAD_MUTEX_INITIALIZER;

/* Copies all that comes into a temporary file. */
static inline char *spool_copy(const char *name) {
  const char *folder = getenv("TMPDIR");
  char block[65536];
  text_buffer path = {0};
  size_t got, all = 0;
  FILE *from = strcmp(name, "-") ? fopen(name, "rb") : stdin;
  if (!from) fail("cannot open %s: %s", name, strerror(errno));
  text_add(&path, "%s/" TOOL_NAME "-XXXXXX", folder && *folder ? folder : "/tmp");
  sigset_t signals;
  unfinished_begin(&signals);
  int file = mkstemp(path.data);
  if (file >= 0) unfinished_note(path.data);
  unfinished_end(&signals);
  if (file < 0) fail("cannot write %s: %s", path.data, strerror(errno));
  FILE *to = fdopen(file, "wb");
  if (!to) fail("cannot write %s: %s", path.data, strerror(errno));
  while ((got = fread(block, 1, sizeof block, from)) > 0) {
    all += got;
    if (all > SPOOL_MOST_BYTES) fail("%s: more than 256 MB", name);
    if (fwrite(block, 1, got, to) != got) fail("cannot write %s: %s", path.data, strerror(errno));
  }
  if (ferror(from)) fail("cannot read %s: %s", name, strerror(errno));
  if (fclose(to)) fail("cannot write %s: %s", path.data, strerror(errno));
  if (from != stdin) fclose(from);
  return path.data;
}

/* The file to read for a name: itself, or the copy of what comes through a pipe; "-" is standard
   input. */
static inline const char *spool_path(const char *name) {
  struct stat status;
  int is_stdin = !strcmp(name, "-");
  if (!is_stdin && (stat(name, &status) || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
    return name;
  pthread_mutex_lock(&spool_lock);
  int i = 0;
  while (i < spooled_count && strcmp(spooled[i].name, name)) i++;
  if (i == spooled_count) {
    spooled = reallocate(spooled, (size_t)i + 1, sizeof *spooled);
    spooled[spooled_count++] = (spooled_file){copy_text(name), spool_copy(name)};
  }
  const char *copy = spooled[i].copy;
  pthread_mutex_unlock(&spool_lock);
  return copy;
}

#endif
