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
static pthread_mutex_t unfinished_lock = PTHREAD_MUTEX_INITIALIZER;

/* Only what a signal handler may do. */
static inline void unfinished_remove(void) {
  for (int i = 0; i < MOST_UNFINISHED; i++)
    if (unfinished_files[i]) unlink(unfinished_files[i]);
}

static inline void unfinished_on_signal(int number) {
  unfinished_remove();
  signal(number, SIG_DFL);
  raise(number);
}

/* The path must stay valid until unfinished_forget. */
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
}

static inline void unfinished_forget(const char *path) {
  pthread_mutex_lock(&unfinished_lock);
  for (int i = 0; i < MOST_UNFINISHED; i++)
    if (unfinished_files[i] == path) unfinished_files[i] = NULL;
  pthread_mutex_unlock(&unfinished_lock);
}

#endif
