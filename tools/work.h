/* work.h - threads, time, and random streams that do not depend on either. */
#ifndef TALLY_WORK_H
#define TALLY_WORK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "../convnet.h"

static int threads_used = 0; /* 0: nobody has chosen yet */

/* Chooses the number of threads (0: leaves it, at first as many as there are cores) and returns it. */
static inline int use_threads(int threads) {
  if (threads > 0) threads_used = threads;
  if (threads_used == 0) threads_used = cn_thread_count();
  return threads_used;
}

/* Calls unit(context, i, thread) for i in 0 .. units - 1 on all threads; `thread`, below their number,
   tells them apart. */
static inline void share_work(int units, void (*unit)(void *context, int i, int thread),
                              void *context) {
  cn_parallel_for(NULL, use_threads(0), units, unit, context);
}

/* What only one unit at a time may do stands between these two. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static inline void work_lock(void) {
  pthread_mutex_lock(&one_at_a_time);
}
static inline void work_unlock(void) {
  pthread_mutex_unlock(&one_at_a_time);
}

static inline double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* An independent random stream for each pair (splitmix64's finaliser on both). */
static inline uint64_t mix_seed(uint64_t seed, uint64_t stream) {
  uint64_t z = seed + 0x9E3779B97F4A7C15u * (stream + 1);
  for (int round = 0; round < 2; round++) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
  }
  return z;
}

#endif
