/* fault.c - a library to preload that makes something go wrong at the n-th step of a program: a call
   that changes files, counted over all that the program and its streams do.

   Build:  cc -shared -fPIC fault.c -o fault.so
   Use:    LD_PRELOAD=./fault.so FAULT=WHAT:N program

   WHAT is `kill` (SIGKILL, in the middle of what is being written), `fail` (the disk is full, this once),
   or `term` or `int` (that signal). `count:0` lets the program run and writes the number of its steps to
   the file FAULT_COUNT. For glibc: a stream that is opened for writing becomes one whose writes pass
   through here, with a buffer of few bytes, so that there are many of them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAM_BYTES 64

/* The function of libc behind one of this name. */
#define NEXT(name, result, ...)                                                                    \
  static result (*next)(__VA_ARGS__);                                                              \
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, name)

static const char *what = "";
static long wanted, steps;

__attribute__((constructor)) static void read_wish(void) {
  static char wish[64];
  const char *given = getenv("FAULT");
  if (!given) return;
  snprintf(wish, sizeof wish, "%s", given);
  char *colon = strchr(wish, ':');
  if (!colon) abort();
  *colon = 0;
  what = wish;
  wanted = strtol(colon + 1, NULL, 10);
}

/* A program started in the background is told to ignore SIGINT, which would leave nothing to test. */
__attribute__((constructor)) static void heed_interrupts(void) {
  signal(SIGINT, SIG_DFL);
}

__attribute__((destructor)) static void write_count(void) {
  const char *path = getenv("FAULT_COUNT");
  if (strcmp(what, "count") || !path) return;
  FILE *file = fopen(path, "w");
  if (!file) abort();
  fprintf(file, "%ld\n", steps);
  fclose(file);
}

/* Counts a step. Returns 1 if it is to fail; 2 if it is to be done by half, and then the end. */
static int step(void) {
  if (__sync_add_and_fetch(&steps, 1) != wanted) return 0;
  if (!strcmp(what, "term")) raise(SIGTERM);
  if (!strcmp(what, "int")) raise(SIGINT);
  if (!strcmp(what, "kill")) return 2;
  if (strcmp(what, "fail")) return 0;
  errno = ENOSPC;
  return 1;
}

/* The same for what cannot be done by half. */
static int step_fails(void) {
  int fault = step();
  if (fault == 2) raise(SIGKILL);
  return fault;
}

/* ---- calls on files ------------------------------------------------------------------------------ */

static int open_next(const char *path, int flags, mode_t mode) {
  NEXT("open", int, const char *, int, ...);
  if ((flags & O_ACCMODE) != O_RDONLY && step_fails()) return -1;
  return next(path, flags, mode);
}

int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_next(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_next(path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t count) {
  NEXT("write", ssize_t, int, const void *, size_t);
  int fault = file > STDERR_FILENO ? step() : 0;
  if (fault == 1) return -1;
  if (fault == 2) {
    next(file, bytes, count / 2);
    raise(SIGKILL);
  }
  return next(file, bytes, count);
}

static ssize_t pwrite_next(int file, const void *bytes, size_t count, off64_t at) {
  NEXT("pwrite64", ssize_t, int, const void *, size_t, off64_t);
  int fault = step();
  if (fault == 1) return -1;
  if (fault == 2) {
    next(file, bytes, count / 2, at);
    raise(SIGKILL);
  }
  return next(file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
  return pwrite_next(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
  return pwrite_next(file, bytes, count, at);
}

int fsync(int file) {
  NEXT("fsync", int, int);
  return step_fails() ? -1 : next(file);
}

int ftruncate(int file, off_t length) {
  NEXT("ftruncate", int, int, off_t);
  return step_fails() ? -1 : next(file, length);
}

int mkdir(const char *path, mode_t mode) {
  NEXT("mkdir", int, const char *, mode_t);
  return step_fails() ? -1 : next(path, mode);
}

int rename(const char *from, const char *to) {
  NEXT("rename", int, const char *, const char *);
  return step_fails() ? -1 : next(from, to);
}

/* A full disk does not keep files from going. */
int unlink(const char *path) {
  NEXT("unlink", int, const char *);
  step_fails();
  return next(path);
}

/* ---- streams ------------------------------------------------------------------------------------- */

typedef struct stream {
  FILE *open;
  int file;
  char buffer[STREAM_BYTES];
} stream;

static stream streams[64];

static ssize_t stream_write(void *cookie, const char *bytes, size_t count) {
  ssize_t done = write(((stream *)cookie)->file, bytes, count);
  return done < 0 ? 0 : done; /* as fopencookie wants it */
}

static int stream_close(void *cookie) {
  stream *s = cookie;
  s->open = NULL;
  return close(s->file);
}

FILE *fdopen(int file, const char *mode) {
  NEXT("fdopen", FILE *, int, const char *);
  cookie_io_functions_t calls = {.write = stream_write, .close = stream_close};
  size_t i = 0;
  if (*mode != 'w') return next(file, mode);
  while (i < sizeof streams / sizeof *streams && streams[i].open) i++;
  if (i == sizeof streams / sizeof *streams) abort();
  streams[i].file = file;
  streams[i].open = fopencookie(&streams[i], mode, calls);
  if (streams[i].open) setvbuf(streams[i].open, streams[i].buffer, _IOFBF, STREAM_BYTES);
  return streams[i].open;
}

int fileno(FILE *of) {
  NEXT("fileno", int, FILE *);
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
    if (streams[i].open == of) return streams[i].file;
  return next(of);
}
