/* loader.h - batches of augmented training pictures, made ahead of their use.

   Internal to tools/; include it after tool.h and augment.h.

   Pictures that lie in memory are augmented by all threads when a batch is asked for. Pictures from
   files take longer, and disks make them wait: there a crew of threads, one less than are used for
   training, makes the next batch while the current one trains. The crew runs at the lowest priority,
   so it has what training leaves idle and takes nothing from it. Whoever asks for a batch that is
   not finished yet helps with all threads: no work is done twice, and no core waits for another while
   there is a picture left to be made.

   What a picture looks like is keyed by seed, epoch and sample, so neither the number of threads nor
   the crew's pace changes a byte. */
#ifndef TALLY_LOADER_H
#define TALLY_LOADER_H

#include <pthread.h>
#include <sys/resource.h>

#define LOADER_BUFFERS 2 /* with a crew: the batch in use and the one being made */

/* Label smoothing (Szegedy et al. 2016) by drawing: in the mean, what is learnt from some labels that are
   replaced by any is what would be learnt from targets between the classes. */
typedef struct smoothing {
  float share; /* of the labels are replaced by a class drawn evenly */
  int classes;
} smoothing;

typedef struct loader {
  const dataset *data;
  const augmenter *with;
  smoothing smooth;
  int batch, least, threads, crew_size, buffers;
  augment_room *rooms;           /* [threads + crew_size] */
  float *inputs[LOADER_BUFFERS]; /* [loader_most][height][width][channels] */
  int *labels;                   /* [loader_most], of the batch in use */
  int *repeats, *seen; /* how often a sample was drawn before each position; so far in the epoch */

  /* the epoch */
  const int *order;
  int count, batches, first; /* samples; position of the batch that is asked for next */
  uint64_t stream;

  /* shared with the crew, under the lock */
  pthread_mutex_t lock;
  pthread_cond_t work, ready;
  pthread_t *crew;
  int joined;                   /* crew members that have taken a room */
  int taken, limit;             /* next position to make; end of those there is a buffer for */
  int finished[LOADER_BUFFERS]; /* samples of each buffer that are made */
  int quit;
} loader;

/* How many batches `count` samples are: of `batch` each, but for the last, which has what is left. If
   that is less than `least`, it joins the batch before it. */
static inline int loader_batches(int count, int batch, int least) {
  int whole = count / batch, left = count % batch;
  return left && (left >= least || !whole) ? whole + 1 : whole;
}

/* How many samples a batch has at most. */
static inline int loader_most(int batch, int least) {
  return batch + least - 1;
}

/* The batch that a position is in. */
static inline int loader_batch_at(const loader *l, int position) {
  int batch = position / l->batch;
  return batch < l->batches ? batch : l->batches - 1;
}

static inline int loader_end_of(const loader *l, int batch) {
  return batch + 1 < l->batches ? (batch + 1) * l->batch : l->count;
}

/* Makes the sample at one position of the order. A sample that is drawn again looks different. */
static inline void loader_make(loader *l, int position, augment_room *room) {
  int index = l->order[position], batch = loader_batch_at(l, position);
  uint64_t draw = (uint64_t)index + (uint64_t)l->repeats[position] * (uint64_t)l->data->count;
  augment_sample(l->with, l->data, index, mix_seed(l->stream, draw), room,
                 l->inputs[batch % l->buffers] +
                     (size_t)(position - batch * l->batch) * preprocess_size(l->with->pre));
}

/* Takes the next position and makes it. Called and left with the lock held. */
static inline void loader_make_next(loader *l, augment_room *room) {
  int position = l->taken++, batch = loader_batch_at(l, position);
  int size = loader_end_of(l, batch) - batch * l->batch;
  pthread_mutex_unlock(&l->lock);
  loader_make(l, position, room);
  pthread_mutex_lock(&l->lock);
  if (++l->finished[batch % l->buffers] == size) pthread_cond_signal(&l->ready);
}

static inline void *loader_crew(void *context) {
  loader *l = context;
#ifdef __linux__
  setpriority(PRIO_PROCESS, 0, 19); /* on Linux of this thread only */
#endif
  pthread_mutex_lock(&l->lock);
  augment_room *room = &l->rooms[l->threads + l->joined++];
  for (;;) {
    while (!l->quit && l->taken >= l->limit) pthread_cond_wait(&l->work, &l->lock);
    if (l->quit) break;
    loader_make_next(l, room);
  }
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

/* A loader of batches of `batch` samples, see loader_batches; what it is given must outlive it.
   crew_size 0 works without a crew. */
static inline void loader_start(loader *l, const dataset *data, const augmenter *with,
                                smoothing smooth, int batch, int least, int threads,
                                int crew_size) {
  size_t most = (size_t)loader_most(batch, least);
  memset(l, 0, sizeof *l);
  l->data = data;
  l->with = with;
  l->smooth = smooth;
  l->batch = batch;
  l->least = least;
  l->threads = threads;
  l->crew_size = crew_size;
  l->buffers = crew_size ? LOADER_BUFFERS : 1;
  l->rooms = allocate((size_t)(threads + crew_size), sizeof *l->rooms);
  for (int i = 0; i < threads + crew_size; i++) l->rooms[i] = augment_room_create(with->pre);
  for (int i = 0; i < l->buffers; i++)
    l->inputs[i] = allocate(most * preprocess_size(with->pre), sizeof(float));
  l->labels = allocate(most, sizeof(int));
  l->seen = allocate((size_t)data->count, sizeof(int));
  l->crew = allocate((size_t)crew_size, sizeof *l->crew);
  if (pthread_mutex_init(&l->lock, NULL) || pthread_cond_init(&l->work, NULL) ||
      pthread_cond_init(&l->ready, NULL))
    fail("cannot make a lock");
  for (int i = 0; i < crew_size; i++)
    if (pthread_create(&l->crew[i], NULL, loader_crew, l)) fail("cannot start a thread");
}

static inline void loader_free(loader *l) {
  pthread_mutex_lock(&l->lock);
  l->quit = 1;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  for (int i = 0; i < l->crew_size; i++) pthread_join(l->crew[i], NULL);
  pthread_mutex_destroy(&l->lock);
  pthread_cond_destroy(&l->work);
  pthread_cond_destroy(&l->ready);
  for (int i = 0; i < l->threads + l->crew_size; i++) augment_room_free(&l->rooms[i]);
  for (int i = 0; i < l->buffers; i++) free(l->inputs[i]);
  free(l->rooms);
  free(l->labels);
  free(l->repeats);
  free(l->seen);
  free(l->crew);
}

/* Begins an epoch over `count` samples in the given order, which must stay as it is until the epoch's
   last batch. The stream is the epoch's own. All batches of the epoch before must have been taken. */
static inline void loader_epoch(loader *l, const int *order, int count, uint64_t stream) {
  l->repeats = reallocate(l->repeats, (size_t)count, sizeof(int));
  memset(l->seen, 0, (size_t)l->data->count * sizeof(int));
  for (int i = 0; i < count; i++) l->repeats[i] = l->seen[order[i]]++;
  pthread_mutex_lock(&l->lock);
  l->order = order;
  l->count = count;
  l->batches = loader_batches(count, l->batch, l->least);
  l->stream = stream;
  l->first = l->taken = l->limit = 0;
  pthread_mutex_unlock(&l->lock);
}

/* Unit: one of the threads that finish the batch in use with the crew. */
static inline void loader_help(void *context, int i, int thread) {
  loader *l = context;
  int end = loader_end_of(l, loader_batch_at(l, l->first));
  (void)i;
  pthread_mutex_lock(&l->lock);
  while (l->taken < end) loader_make_next(l, &l->rooms[thread]);
  pthread_mutex_unlock(&l->lock);
}

/* Unit: a sample of the batch in use. */
static inline void loader_make_sample(void *context, int i, int thread) {
  loader *l = context;
  loader_make(l, l->first + i, &l->rooms[thread]);
}

/* Replaces some labels of a batch. */
static inline void loader_smooth(loader *l, int first, int size) {
  cn_random random = {mix_seed(mix_seed(l->stream, UINT64_MAX), (uint64_t)first), 0};
  for (int i = 0; i < size; i++)
    if (cn_random_uniform(&random) < l->smooth.share)
      l->labels[i] = (int)cn_random_below(&random, (uint32_t)l->smooth.classes);
}

/* The next batch of the epoch: its inputs and labels, valid until the next call. Returns its size; 0
   at the epoch's end. */
static inline int loader_next(loader *l, const float **inputs, const int **labels) {
  int first = l->first, batch = loader_batch_at(l, first);
  int size = loader_end_of(l, batch) - first, buffer = batch % l->buffers;
  if (first == l->count) return 0;
  if (l->crew_size) {
    pthread_mutex_lock(&l->lock);
    /* the batch before is no longer in use, so its buffer may be filled */
    l->limit = batch + 1 < l->batches ? loader_end_of(l, batch + 1) : l->count;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    cn_parallel_for(NULL, l->threads, l->threads, loader_help, l);
    pthread_mutex_lock(&l->lock);
    while (l->finished[buffer] < size) pthread_cond_wait(&l->ready, &l->lock);
    l->finished[buffer] = 0;
    pthread_mutex_unlock(&l->lock);
  } else {
    cn_parallel_for(NULL, l->threads, size, loader_make_sample, l);
  }
  for (int i = 0; i < size; i++) l->labels[i] = l->data->labels[l->order[first + i]];
  if (l->smooth.share > 0) loader_smooth(l, first, size);
  l->first += size;
  *inputs = l->inputs[buffer];
  *labels = l->labels;
  return size;
}

#endif
