/* unfinished.h - files that go when the process ends, unless it is killed: unfinished outputs, locks,
   temporary copies. */
#ifndef TALLY_UNFINISHED_H
#define TALLY_UNFINISHED_H

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST_UNFINISHED 2048 /* more than there are threads, each of which writes one at a time */

static char *volatile unfinished_files[MOST_UNFINISHED];
static volatile sig_atomic_t unfinished_ending; /* what comes now goes at once */
static pthread_mutex_t unfinished_lock = PTHREAD_MUTEX_INITIALIZER;

/* Only what a signal handler may do: other threads go on meanwhile. */
static inline void unfinished_remove(void) {
  unfinished_ending = 1;
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

/* The path is not the caller's any more, who may read it until unfinished_forget. */
static inline void unfinished_note(char *path) {
  static const int fatal[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE};
  static int ready = 0;
  pthread_mutex_lock(&unfinished_lock);
  if (!ready) {
    atexit(unfinished_remove);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
      struct sigaction now;
      /* nohup and shells have some ignored: so they stay */
      if (!sigaction(fatal[i], NULL, &now) && now.sa_handler == SIG_DFL)
        signal(fatal[i], unfinished_on_signal);
    }
    ready = 1;
  }
  int i = 0;
  while (i < MOST_UNFINISHED && unfinished_files[i]) i++;
  if (i < MOST_UNFINISHED) unfinished_files[i] = path;
  pthread_mutex_unlock(&unfinished_lock);
  if (unfinished_ending) unlink(path);
}

/* Frees the path unless the process is ending and looks at it. */
static inline void unfinished_forget(char *path) {
  for (int i = 0; i < MOST_UNFINISHED; i++)
    if (__sync_bool_compare_and_swap(&unfinished_files[i], path, NULL)) free(path);
}

#endif
