/* messages.h - what a tool says on stderr, and how it ends when something is wrong.

   A tool is a short-lived process with one user, so what goes wrong ends it: fail() prints one line
   and exits 1, misuse() prints the usage too and exits 2. TOOL_NAME and TOOL_USAGE are the tool's. */
#ifndef TALLY_MESSAGES_H
#define TALLY_MESSAGES_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define TOOL_PRINTF(string, first) __attribute__((format(printf, string, first)))
#define TOOL_NORETURN __attribute__((noreturn))
#else
#define TOOL_PRINTF(string, first)
#define TOOL_NORETURN
#endif

/* The progress bar owns the terminal's last line while it is up; messages wipe it first. */
static int progress_is_up = 0;

static inline void progress_wipe(void) {
  if (progress_is_up) fputs("\r\033[K", stderr);
  progress_is_up = 0;
}

/* One line on stderr. File names may hold any byte, so control characters become '?'. */
static inline void say_list(const char *format, va_list arguments) {
  char line[2048];
  vsnprintf(line, sizeof line, format, arguments);
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = '?';
  progress_wipe();
  fprintf(stderr, TOOL_NAME ": %s\n", line);
}

TOOL_PRINTF(1, 2) static inline void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
}

static int tool_quiet = 0; /* --quiet: nothing but errors */

/* What is good to know. */
TOOL_PRINTF(1, 2) static inline void inform(const char *format, ...) {
  va_list arguments;
  if (tool_quiet) return;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
}

/* Of several threads the first to fail speaks and ends the process; the others wait for that. */
static pthread_mutex_t first_failure = PTHREAD_MUTEX_INITIALIZER;

TOOL_PRINTF(1, 2) TOOL_NORETURN static inline void fail(const char *format, ...) {
  va_list arguments;
  pthread_mutex_lock(&first_failure);
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
  exit(1);
}

TOOL_PRINTF(1, 2) TOOL_NORETURN static inline void misuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_list(format, arguments);
  va_end(arguments);
  fprintf(stderr, "usage: " TOOL_NAME " " TOOL_USAGE "\n       " TOOL_NAME " --help\n");
  exit(2);
}

/* What was printed must have arrived: a full disk behind stdout is a failure too. */
static inline int tool_end(void) {
  if (fflush(stdout) || ferror(stdout))
    fail("cannot write to standard output: %s", strerror(errno));
  return 0;
}

#endif
