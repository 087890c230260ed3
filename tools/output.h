/* output.h - the one way in which tools write files: nothing that this run reads is overwritten, no
   other run's output is mixed with this one's, and a file is there whole or not at all.

   - What a run reads is noted by input_note (options.h, csv.h, idx.h and listing.h do so); a path that leads
     to one of these files, by whatever spelling or link, is refused as an output.
   - A file is written beside its place under a name of its own, synchronised and renamed. Links are
     followed, so that what they lead to is replaced and not they. What ends the process, a signal
     too, takes unfinished files with it; a kill leaves NAME as it was, and NAME.PID-N.part, which goes
     when NAME is written again.
   - Devices, pipes and the standard streams are written into as they are.
   - lock_folder and lock_output keep a second run away from the outputs of a long one. */
#ifndef TALLY_OUTPUT_H
#define TALLY_OUTPUT_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "input.h"
#include "path.h"
#include "unfinished.h"
#include "folder.h"

/* ---- where a path leads ------------------------------------------------------------------------- */

#define MOST_LINKS 40 /* in a chain of them, as Linux has it */

/* The path of what is written to: that behind all links, which need not be there yet. */
static inline char *output_target(const char *path) {
  char *at = copy_text(path), to[PATH_MAX];
  for (int i = 0; i < MOST_LINKS; i++) {
    ssize_t length = readlink(at, to, sizeof to - 1);
    if (length < 0) return at;
    to[length] = 0;
    char *folder = folder_of(at);
    free(at);
    at = *to == '/' ? copy_text(to) : join_path(folder, to);
    free(folder);
  }
  fail("cannot write %s: a circle of links", path);
}

/* Whether a path leads to an open file, such as standard output. */
static inline int leads_to(const char *path, int file) {
  struct stat there, here;
  return !stat(path, &there) && !fstat(file, &here) && there.st_dev == here.st_dev &&
         there.st_ino == here.st_ino;
}

static inline int is_written_directly(const char *path) {
  struct stat status;
  return (!stat(path, &status) && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) ||
         leads_to(path, STDOUT_FILENO) || leads_to(path, STDERR_FILENO);
}

/* Says before hours of work, rather than after, that a result could not be written or would
   overwrite what is read. */
static inline void output_check(const char *path) {
  const char *read = input_behind(path);
  if (is_folder(path)) fail("cannot write %s: it is a folder", path);
  if (read && !strcmp(read, path))
    fail("cannot write %s: it is read in this run; name another place", path);
  if (read)
    fail("cannot write %s: it is %s, which is read in this run; name another place", path, read);
  if (is_written_directly(path)) return;
  char *target = output_target(path), *folder = folder_of(target);
  if (access(folder, W_OK | X_OK)) fail("cannot write %s: %s: %s", path, folder, strerror(errno));
  free(folder);
  free(target);
}

/* ---- locks and leftovers ------------------------------------------------------------------------- */

#define LOCK_TRIES 20 /* one each 50 ms: who was killed just now may take a moment to be gone */

/* Keeps an open file for this run alone, until the process ends. Returns 0 on a file system without
   locks. */
static inline int lock_file(int file, const char *path) {
  const struct timespec pause = {0, 50000000};
  for (int i = 0; i < LOCK_TRIES; i++) {
    if (!flock(file, LOCK_EX | LOCK_NB)) return 1;
    if (errno != EWOULDBLOCK) return 0;
    nanosleep(&pause, NULL);
  }
  fail("%s: another run is writing there; wait for its end or name another place", path);
}

/* The length of NAME in NAME.PID-N.part, the name of an unfinished file; 0 in other names. */
static inline size_t unfinished_name(const char *name) {
  for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
    long process;
    int number, end = 0;
    if (sscanf(dot, ".%ld-%d.part%n", &process, &number, &end) == 2 && end && !dot[end])
      return (size_t)(dot - name);
  }
  return 0;
}

/* Removes what runs that were killed have left unfinished in a folder: of the file `of`, or NULL: of all
   files. What is still being written has a lock. */
static inline void remove_leftovers(const char *folder, const char *of) {
  int count;
  if (access(folder, R_OK)) return; /* one may write into it, but not look */
  char **names = list_folder(folder, &count);
  for (int i = 0; i < count; i++) {
    char *path = join_path(folder, names[i]);
    size_t length = unfinished_name(names[i]);
    int is_wanted = length && (!of || (length == strlen(of) && !strncmp(names[i], of, length)));
    int file = is_wanted ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file >= 0 && !flock(file, LOCK_EX | LOCK_NB)) unlink(path);
    if (file >= 0) close(file);
    free(path);
    free(names[i]);
  }
  free(names);
}

static inline void remove_leftovers_of(const char *path) {
  char *folder = folder_of(path);
  remove_leftovers(folder, file_name_of(path));
  free(folder);
}

/* ---- files that appear whole or not at all ------------------------------------------------------ */

typedef struct output {
  FILE *file;
  char *path, *target; /* as the user named it; behind all links */
  char *part;          /* the unfinished file; NULL: written directly */
} output;

static inline void output_open_directly(output *out) {
  int stream = leads_to(out->path, STDOUT_FILENO)   ? STDOUT_FILENO
               : leads_to(out->path, STDERR_FILENO) ? STDERR_FILENO
                                                    : -1;
  out->file = stream < 0 ? fopen(out->path, "wb") : fdopen(dup(stream), "wb");
  if (!out->file) fail("cannot write %s: %s", out->path, strerror(errno));
}

/* A new file with a lock, by which others can tell it from a leftover. Returns -1 with EEXIST if one was
   there, or if somebody tidied this one up before it had its lock. */
static inline int create_locked(const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return -1;
  int is_taken = flock(file, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
  if (!is_taken && leads_to(path, file)) return file;
  close(file);
  errno = EEXIST;
  return -1;
}

/* An unfinished file whose name no other run or thread has. */
static inline void output_open_part(output *out) {
  static int numbers = 0;
  int file = -1;
  while (file < 0) {
    text_buffer part = {0};
    sigset_t signals;
    text_add(&part, "%s.%ld-%d.part", out->target, (long)getpid(),
             __sync_fetch_and_add(&numbers, 1));
    unfinished_begin(&signals);
    file = create_locked(part.data);
    if (file >= 0) unfinished_note(part.data);
    unfinished_end(&signals);
    if (file < 0 && errno != EEXIST) fail("cannot write %s: %s", out->path, strerror(errno));
    if (file >= 0)
      out->part = part.data;
    else
      free(part.data);
  }
  struct stat before;
  if (!stat(out->target, &before)) fchmod(file, before.st_mode & 0777);
  out->file = fdopen(file, "wb");
  if (!out->file) fail("cannot write %s: %s", out->path, strerror(errno));
}

static inline output output_begin(const char *path) {
  output out = {0};
  output_check(path);
  out.path = copy_text(path);
  out.target = output_target(path);
  if (is_written_directly(path))
    output_open_directly(&out);
  else
    output_open_part(&out);
  return out;
}

static inline output output_open(const char *path) {
  output out = output_begin(path);
  if (out.part) remove_leftovers_of(out.target);
  return out;
}

/* A rename is safe from a loss of power when the folder is on the disk too. Not every file system
   can do that, so it may fail. */
static inline void sync_folder_of(const char *path) {
  char *folder = folder_of(path);
  int at = open(folder, O_RDONLY | O_CLOEXEC);
  if (at >= 0) {
    fsync(at);
    close(at);
  }
  free(folder);
}

/* Puts a file in its place; `lasting`: also on the disk, whatever happens to the machine. Not every file
   system can be asked for that (EINVAL). */
static inline void output_finish(output *out, int lasting) {
  int bad = ferror(out->file);
  errno = 0;
  bad = fflush(out->file) || bad;
  if (!bad && out->part && lasting) bad = fsync(fileno(out->file)) && errno != EINVAL;
  if (bad || fclose(out->file) || (out->part && rename(out->part, out->target)))
    fail("cannot write %s: %s", out->path, errno ? strerror(errno) : "a write failed");
  if (out->part) {
    unfinished_forget(out->part);
    if (lasting) sync_folder_of(out->target);
  }
  free(out->path);
  free(out->target);
}

static inline void output_close(output *out) {
  output_finish(out, 1);
}

static inline void write_file(const char *path, const void *bytes, size_t count) {
  output out = output_open(path);
  fwrite(bytes, 1, count, out.file);
  output_close(&out);
}

/* One of many files, which a run that was cut short makes again: not worth waiting for the disk, nor
   looking for leftovers each time. */
static inline void write_small_file(const char *path, const void *bytes, size_t count) {
  output out = output_begin(path);
  fwrite(bytes, 1, count, out.file);
  output_finish(&out, 0);
}

/* ---- outputs of long runs ------------------------------------------------------------------------- */

/* A folder for outputs, made if need be, for this run alone. `names` are those of its tables; NULL
   stands behind the last. */
static inline void lock_folder(const char *path, const char *const *names) {
  make_folder(path);
  int folder = open(path, O_RDONLY | O_CLOEXEC);
  if (folder < 0) fail("cannot open %s: %s", path, strerror(errno));
  if (lock_file(folder, path)) remove_leftovers(path, NULL);
  for (; *names; names++) {
    char *file = join_path(path, *names);
    output_check(file);
    free(file);
  }
}

/* A file that a run writes again and again. NAME.lock lies beside it meanwhile. */
static inline void lock_output(const char *path) {
  text_buffer name = {0};
  if (is_written_directly(path)) return;
  char *target = output_target(path);
  text_add(&name, "%s.lock", target);
  for (int is_mine = 0; !is_mine;) {
    int file = open(name.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) fail("cannot write %s: %s", name.data, strerror(errno));
    lock_file(file, path);
    /* whoever had it before may have removed it between our two calls */
    is_mine = leads_to(name.data, file);
    if (!is_mine) close(file);
  }
  unfinished_note(name.data);
  free(target);
}

/* To be called once for each file that convnet.h writes, before it does, by the only run that writes
   it: what the library has not finished goes with the process like what is written here. */
static inline void note_saved(const char *path) {
  if (is_written_directly(path)) return;
  text_buffer part = {0};
  char *target = output_target(path);
  remove_leftovers_of(target);
  text_add(&part, "%s.%ld-0.part", target, (long)getpid()); /* convnet.h says so */
  unfinished_note(part.data);
  free(target);
}

#endif
