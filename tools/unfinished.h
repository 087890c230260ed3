/* unfinished.h - files that go when the process ends, unless it is killed: unfinished outputs, locks,
   temporary copies. */
#ifndef TALLY_UNFINISHED_H
#define TALLY_UNFINISHED_H

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MOST_UNFINISHED 2048 /* more than there are threads, each of which writes one at a time */

static char *volatile unfinished_files[MOST_UNFINISHED];
static volatile int unfinished_making; /* threads that are between making a file and noting it */
static volatile int unfinished_ending; /* no more are made */

/* Only what a signal handler may do: other threads go on meanwhile. */
static inline void unfinished_remove(void) {
  const struct timespec moment = {0, 1000000};
  unfinished_ending = 1;
  __sync_synchronize();
  for (int i = 0; i < 2000 && unfinished_making; i++) nanosleep(&moment, NULL);
  for (int i = 0; i < MOST_UNFINISHED; i++) {
    char *path = __sync_lock_test_and_set(&unfinished_files[i], NULL);
    if (path) unlink(path);
  }
}

static inline void unfinished_on_signal(int number) {
  unfinished_remove();
  signal(number, SIG_DFL);
  raise(number);
}

static const int fatal_signals[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE};
#define FATAL_SIGNALS (sizeof fatal_signals / sizeof *fatal_signals)

/* A file is made and noted between these two, while signals wait for this thread. */
static inline void unfinished_begin(sigset_t *before) {
  sigset_t fatal;
  sigemptyset(&fatal);
  for (size_t i = 0; i < FATAL_SIGNALS; i++) sigaddset(&fatal, fatal_signals[i]);
  pthread_sigmask(SIG_BLOCK, &fatal, before);
  __sync_fetch_and_add(&unfinished_making, 1);
  if (!unfinished_ending) return;
  __sync_fetch_and_sub(&unfinished_making, 1);
  for (;;) pause();
}

static inline void unfinished_end(const sigset_t *before) {
  __sync_fetch_and_sub(&unfinished_making, 1);
  pthread_sigmask(SIG_SETMASK, before, NULL);
}

static inline void unfinished_start(void) {
  atexit(unfinished_remove);
  for (size_t i = 0; i < FATAL_SIGNALS; i++) {
    struct sigaction now;
    /* nohup and shells have some ignored: so they stay */
    if (!sigaction(fatal_signals[i], NULL, &now) && now.sa_handler == SIG_DFL)
      signal(fatal_signals[i], unfinished_on_signal);
  }
}

/* The path is not the caller's any more, who may read it until unfinished_forget. */
static inline void unfinished_note(char *path) {
  static pthread_once_t started = PTHREAD_ONCE_INIT;
  pthread_once(&started, unfinished_start);
  for (int i = 0; i < MOST_UNFINISHED; i++)
    if (__sync_bool_compare_and_swap(&unfinished_files[i], NULL, path)) return;
}

/* Frees the path unless the process is ending and looks at it. */
static inline void unfinished_forget(char *path) {
  for (int i = 0; i < MOST_UNFINISHED; i++)
    if (__sync_bool_compare_and_swap(&unfinished_files[i], path, NULL)) free(path);
}

#endif
