/* Threads: the same bytes on any number of them and on a caller's pool, networks used from several
   threads at once, fork, and what is left when the system gives no threads or there is nothing to do.

   tests/compile.sh runs this program under ThreadSanitizer too, once for each instruction set.

   Build:  cc -O2 -I. tests/test_threads.c -o build/tests/test_threads -lcmocka -lm -pthread */
#define _GNU_SOURCE /* sched_setaffinity */
#include <pthread.h>

/* The system's threads, unless the test wants it to give none. */
static int refuse_threads = 0;
static inline int maybe_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                       void *(*run)(void *), void *context) {
  return refuse_threads ? 11 : pthread_create(thread, attributes, run, context);
}
#define pthread_create maybe_pthread_create
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#undef pthread_create
#include "support.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMAGES = 48, SIDE = 12, PIXELS = SIDE * SIDE * 2, CLASSES = 5 };

/* Has kernels of several kinds, slices, sums over the batch and what runs in pieces. */
static const char text[] = "input 12x12x2\n"
                           "conv 8 3x3 pad=1\n"
                           "relu\n"
                           "conv 16 3x3 pad=1\n"
                           "relu\n"
                           "maxpool 2x2\n"
                           "first: conv 16 3x3 pad=1\n"
                           "relu\n"
                           "second: conv 16 3x3 pad=1 from=first\n"
                           "batchnorm\n"
                           "add from=first,second\n"
                           "meanpool 2x2\n"
                           "dense 64\n"
                           "relu\n"
                           "dropout 0.5\n"
                           "dense 5\n"
                           "softmax\n";

static float inputs[IMAGES * PIXELS];
static int labels[IMAGES];

static int make_batch(void **state) {
  (void)state;
  fill_random(inputs, IMAGES * PIXELS, 1);
  fill_labels(labels, IMAGES, CLASSES, 2);
  return 0;
}

static void pause_for(double seconds) {
  struct timespec time = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&time, NULL);
}

/* ---- the same bytes ---------------------------------------------------------------------------- */

typedef struct result {
  float *parameters; /* after some steps */
  size_t count;
  float outputs[IMAGES * CLASSES]; /* of what was trained */
} result;

static void train_and_predict(int threads, cn_parallel parallel, result *to) {
  static const int counts[] = {IMAGES, 7, 1, IMAGES};
  cn_network *net = must_parse(text);
  cn_training_options training = cn_training_defaults();
  training.threads = threads;
  training.parallel = parallel;
  training.clip_norm = 1;
  cn_trainer *trainer = must_train(net, IMAGES, &training);
  for (int i = 0; i < 4; i++) {
    cn_batch batch = {.count = counts[i], .inputs = inputs, .labels = labels};
    must_step(trainer, &batch);
  }
  cn_trainer_free(trainer);
  cn_predict_options options = {.threads = threads, .parallel = parallel};
  cn_predictor *predictor = must_predict(net, IMAGES, &options);
  cn_predict(predictor, inputs, IMAGES, to->outputs);
  cn_predictor_free(predictor);
  to->parameters = copy_parameters(net, &to->count);
  cn_network_free(net);
}

static void assert_as_one_thread(int threads, cn_parallel parallel) {
  cn_parallel own = {NULL, NULL};
  static result one;
  result many;
  if (!one.parameters) train_and_predict(1, own, &one);
  train_and_predict(threads, parallel, &many);
  assert_int_equal(many.count, one.count);
  assert_memory_equal(many.parameters, one.parameters, one.count * sizeof(float));
  assert_memory_equal(many.outputs, one.outputs, sizeof one.outputs);
  free(many.parameters);
}

static void any_number_gives_the_same_bytes(void **state) {
  (void)state;
  cn_parallel own = {NULL, NULL};
  static const int threads[] = {2, 3, 7, 0, 40};
  for (int i = 0; i < 5; i++) assert_as_one_thread(threads[i], own);
}

static void absurd_numbers_are_cut(void **state) {
  (void)state;
  cn_network *net = must_parse("input 4x4x1\ndense 3\nsoftmax\n");
  cn_predict_options options = {.threads = INT_MAX};
  float outputs[2 * 3];
  cn_predictor *predictor = must_predict(net, 2, &options);
  cn_predict(predictor, inputs, 2, outputs);
  cn_predictor_free(predictor);
  cn_network_free(net);
}

/* ---- a caller's pool ---------------------------------------------------------------------------- */

typedef struct pool_log {
  int calls, most; /* of run; tasks of the largest */
} pool_log;

static void note_call(void *user, int count) {
  pool_log *log = (pool_log *)user;
  log->calls++;
  log->most = count > log->most ? count : log->most;
}

static void one_by_one(void (*task)(void *context, int i), void *context, int count, void *user) {
  note_call(user, count);
  for (int i = 0; i < count; i++) task(context, i);
}

static void backwards(void (*task)(void *context, int i), void *context, int count, void *user) {
  note_call(user, count);
  for (int i = count - 1; i >= 0; i--) task(context, i);
}

typedef struct pool_call {
  void (*task)(void *context, int i);
  void *context;
  int i;
} pool_call;

static void *pool_thread(void *context) {
  pool_call *call = (pool_call *)context;
  call->task(call->context, call->i);
  return NULL;
}

static void all_at_once(void (*task)(void *context, int i), void *context, int count, void *user) {
  pthread_t threads[8];
  pool_call calls[8];
  note_call(user, count);
  for (int i = 0; i < count; i++) {
    calls[i].task = task, calls[i].context = context, calls[i].i = i;
    pthread_create(&threads[i], NULL, pool_thread, &calls[i]);
  }
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static void a_callers_pool_gives_the_same_bytes(void **state) {
  (void)state;
  pool_log log = {0, 0};
  cn_parallel pools[3] = {{one_by_one, NULL}, {backwards, NULL}, {all_at_once, NULL}};
  for (int i = 0; i < 3; i++) {
    pools[i].user = &log;
    log.calls = log.most = 0;
    assert_as_one_thread(3, pools[i]);
    assert_true(log.calls > 10);
    assert_int_equal(log.most, 3);
  }
}

/* ---- cn_parallel_for ---------------------------------------------------------------------------- */

enum { UNITS = 1000, THREADS = 5 };

typedef struct tally {
  int done[UNITS], busy[THREADS]; /* atomic */
  int clashes;                    /* atomic */
  int nested;
} tally;

static void count_unit(void *context, int i, int thread) {
  tally *t = (tally *)context;
  if (thread < 0 || thread >= THREADS || cn_atomic_add_(&t->busy[thread], 1) != 0)
    cn_atomic_add_(&t->clashes, 1);
  if (t->nested) {
    tally inner;
    memset(&inner, 0, sizeof inner);
    cn_parallel_for(NULL, THREADS, 20, count_unit, &inner);
    for (int k = 0; k < 20; k++)
      if (inner.done[k] != 1 || inner.clashes) cn_atomic_add_(&t->clashes, 1);
  }
  cn_atomic_add_(&t->done[i], 1);
  cn_atomic_add_(&t->busy[thread], -1);
}

static void assert_units_run_once(const cn_parallel *parallel, int nested) {
  tally t;
  memset(&t, 0, sizeof t);
  t.nested = nested;
  cn_parallel_for(parallel, THREADS, UNITS, count_unit, &t);
  assert_int_equal(t.clashes, 0);
  for (int i = 0; i < UNITS; i++) assert_int_equal(t.done[i], 1);
}

static void units_run_once(void **state) {
  (void)state;
  pool_log log = {0, 0};
  cn_parallel pool = {all_at_once, NULL};
  pool.user = &log;
  assert_units_run_once(NULL, 0);
  assert_units_run_once(NULL, 1);
  assert_units_run_once(&pool, 0);
  cn_parallel_for(NULL, 3, 0, count_unit, NULL);
}

#ifndef CONVNET_NO_THREADS
/* Says that it is there and waits for the others. */
static void meet(void *context, int i, int thread) {
  int *here = (int *)context;
  (void)i, (void)thread;
  cn_atomic_add_(here, 1);
  for (int tries = 0; cn_atomic_load_(here) < 3 && tries < 2000; tries++) pause_for(0.01);
}

static void threads_work_at_the_same_time(void **state) {
  (void)state;
  int here = 0;
  cn_parallel_for(NULL, 3, 3, meet, &here);
  assert_int_equal(here, 3); /* who waits does not come back before */
  pause_for(0.05);           /* now workers sleep */
  here = 0;
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  cn_parallel_for(NULL, 3, 3, meet, &here);
  clock_gettime(CLOCK_MONOTONIC, &after);
  assert_true(after.tv_sec - before.tv_sec < 10); /* nobody gave up */
}
#endif

/* ---- how many ------------------------------------------------------------------------------------ */

static void the_environment_caps_the_number(void **state) {
  (void)state;
  char *before = getenv("CONVNET_THREADS");
  char *kept = before ? cn_copy_text_(NULL, before, strlen(before)) : NULL;
  static const char *const nothing[] = {"0", "-3", "many", "", "1000000"};
  unsetenv("CONVNET_THREADS");
  int all = cn_thread_count();
  assert_true(all >= 1);
  setenv("CONVNET_THREADS", "1", 1);
  assert_int_equal(cn_thread_count(), 1);
  for (int i = 0; i < 5; i++) {
    setenv("CONVNET_THREADS", nothing[i], 1);
    assert_int_equal(cn_thread_count(), all);
  }
  if (kept)
    setenv("CONVNET_THREADS", kept, 1);
  else
    unsetenv("CONVNET_THREADS");
  free(kept);
}

#ifdef __linux__ /* as taskset sets it */
static void the_process_may_use_fewer_processors(void **state) {
  (void)state;
  cpu_set_t all, one;
  size_t processor = 0;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  while (!CPU_ISSET(processor, &all)) processor++;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  int count = cn_thread_count();
  sched_setaffinity(0, sizeof all, &all);
  assert_int_equal(count, 1);
}
#endif

/* ---- several threads at once ----------------------------------------------------------------------- */

typedef struct user {
  cn_network *net;
  int trains, rounds, threads;
  int bad;         /* rounds that went wrong or gave other bytes */
  float *expected; /* outputs, then gradients of the first output with respect to the inputs */
} user;

enum { OUTPUTS = IMAGES * CLASSES, INPUTS = IMAGES * PIXELS };

/* Outputs and gradients, as `expected` has them; returns 0 if that went wrong. */
static int predict_with_gradients(cn_network *net, int threads, float *to) {
  static const float first[IMAGES][CLASSES] = {{1}, {1}, {1}}; /* of three images */
  const float *from = inputs, *by = first[0];
  float *gradients = to + OUTPUTS;
  cn_predict_options options = {.threads = threads, .gradients = 1};
  cn_predictor *predictor = cn_predictor_create(net, IMAGES / 2, &options, NULL);
  if (!predictor) return 0;
  cn_predict(predictor, inputs, IMAGES, to);
  int done = cn_input_gradient(predictor, &from, IMAGES, &by, NULL, &gradients, NULL) == CN_OK;
  cn_predictor_free(predictor);
  return done;
}

static void use_predictor(user *u) {
  float *got = (float *)malloc((OUTPUTS + INPUTS) * sizeof(float));
  u->bad += !got || !predict_with_gradients(u->net, u->threads, got) ||
            memcmp(got, u->expected, (OUTPUTS + INPUTS) * sizeof(float)) != 0;
  free(got);
}

static void use_trainer(user *u) {
  cn_training_options options = cn_training_defaults();
  cn_batch batch = {.count = IMAGES, .inputs = inputs, .labels = labels};
  options.threads = u->threads;
  cn_trainer *trainer = cn_trainer_create(u->net, IMAGES, &options, NULL);
  for (int i = 0; trainer && i < 2; i++)
    u->bad += cn_train_step(trainer, &batch, NULL, NULL) != CN_OK;
  u->bad += trainer == NULL;
  cn_trainer_free(trainer);
}

static void *user_thread(void *context) {
  user *u = (user *)context;
  for (int i = 0; i < u->rounds; i++) {
    if (u->trains)
      use_trainer(u);
    else
      use_predictor(u);
  }
  return NULL;
}

/* Three predict with one network and one trains another, when nobody has chosen an instruction set
   yet. */
static void four_threads_share_networks(void **state) {
  (void)state;
  cn_network *shared = must_parse(text), *other = must_parse(text);
  static float expected[OUTPUTS + INPUTS];
  user users[4];
  pthread_t threads[4];
  assert_true(predict_with_gradients(shared, 1, expected));
  cn_isa_cache_ = -1;
  for (int i = 0; i < 4; i++) {
    users[i].net = i == 3 ? other : shared;
    users[i].trains = i == 3;
    users[i].rounds = 10;
    users[i].threads = 2 + i % 2;
    users[i].bad = 0;
    users[i].expected = expected;
    assert_int_equal(pthread_create(&threads[i], NULL, user_thread, &users[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(users[i].bad, 0);
  }
  assert_int_equal(shared->users, 0);
  assert_int_equal(other->users, 0);
  cn_network_free(shared);
  cn_network_free(other);
}

/* ---- fork ------------------------------------------------------------------------------------------- */

/* Runs it in a child, which has half a minute; returns the child's exit status, or -1 where it died. */
static int in_child(void (*work)(void *context), void *context) {
  int status;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    alarm(30);
    work(context);
    _exit(0);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

typedef struct prediction {
  cn_predictor *predictor;
  float expected[IMAGES * CLASSES];
  int stop; /* atomic */
} prediction;

static void predict_again(void *context) {
  prediction *p = (prediction *)context;
  float outputs[IMAGES * CLASSES];
  for (int i = 0; i < 3; i++) {
    cn_predict(p->predictor, inputs, IMAGES, outputs);
    if (memcmp(outputs, p->expected, sizeof outputs)) _exit(1);
  }
#ifndef CONVNET_NO_THREADS /* and not alone */
  int here = 0;
  cn_parallel_for(NULL, 3, 3, meet, &here);
  if (here != 3) _exit(2);
#endif
}

typedef struct training {
  cn_trainer *trainer;
  double expected; /* loss of the third step from here */
} training;

static void predict_without_threads(void *context) {
  refuse_threads = 1;
  prediction *p = (prediction *)context;
  float outputs[IMAGES * CLASSES];
  cn_predict(p->predictor, inputs, IMAGES, outputs);
  if (memcmp(outputs, p->expected, sizeof outputs)) _exit(1);
}

static void *predict_for_long(void *context) {
  prediction *p = (prediction *)context;
  float outputs[IMAGES * CLASSES];
  while (!cn_atomic_load_(&p->stop)) cn_predict(p->predictor, inputs, IMAGES, outputs);
  return NULL;
}

static prediction prediction_open(cn_network *net, int threads) {
  prediction p;
  cn_predict_options options = {.threads = threads};
  p.predictor = must_predict(net, IMAGES, &options);
  p.stop = 0;
  cn_predict(p.predictor, inputs, IMAGES, p.expected);
  return p;
}

static void a_child_predicts(void **state) {
  (void)state;
  cn_network *net = must_parse(text);
  prediction p = prediction_open(net, 3);
  assert_int_equal(in_child(predict_again, &p), 0); /* workers are awake */
  pause_for(0.05);
  assert_int_equal(in_child(predict_again, &p), 0); /* they sleep */
  assert_int_equal(in_child(predict_without_threads, &p), 0);
  cn_predictor_free(p.predictor);
  cn_network_free(net);
}

static void train_again(void *context) {
  training *t = (training *)context;
  cn_metrics metrics = {-1, 0};
  cn_batch batch = {.count = IMAGES, .inputs = inputs, .labels = labels};
  for (int i = 0; i < 3; i++)
    if (cn_train_step(t->trainer, &batch, &metrics, NULL)) _exit(1);
  if (metrics.loss != t->expected) _exit(2);
}

/* Parent and child go on alike, each with its own copy. */
static void a_child_trains(void **state) {
  (void)state;
  cn_network *net = must_parse(text);
  cn_training_options options = cn_training_defaults();
  options.threads = 3;
  training t = {must_train(net, IMAGES, &options), 0};
  cn_batch batch = {.count = IMAGES, .inputs = inputs, .labels = labels};
  cn_error error;
  assert_int_equal(cn_train_step(t.trainer, &batch, NULL, &error), CN_OK);
  cn_network *copy = must_parse(text);
  training whole = {must_train(copy, IMAGES, &options), 0};
  cn_metrics metrics = {0, 0};
  for (int i = 0; i < 4; i++)
    assert_int_equal(cn_train_step(whole.trainer, &batch, &metrics, &error), CN_OK);
  t.expected = metrics.loss;
  assert_int_equal(in_child(train_again, &t), 0);
  train_again(&t);
  cn_trainer_free(t.trainer);
  cn_trainer_free(whole.trainer);
  cn_network_free(net);
  cn_network_free(copy);
}

static void a_child_predicts_whatever_other_threads_do(void **state) {
  (void)state;
  cn_network *net = must_parse(text);
  prediction mine = prediction_open(net, 3), theirs = prediction_open(net, 4);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, predict_for_long, &theirs), 0);
  for (int i = 0; i < 10; i++) assert_int_equal(in_child(predict_again, &mine), 0);
  cn_atomic_store_(&theirs.stop, 1);
  pthread_join(thread, NULL);
#ifndef CONVNET_NO_THREADS
  cn_lock_take_(&cn_pool_lock_); /* as another thread may, just then */
  int status = in_child(predict_again, &mine);
  cn_lock_give_(&cn_pool_lock_);
  assert_int_equal(status, 0);
#endif
  cn_predictor_free(mine.predictor);
  cn_predictor_free(theirs.predictor);
  cn_network_free(net);
}

/* ---- nothing to do ------------------------------------------------------------------------------------ */

static double processor_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void waiting_threads_sleep(void **state) {
  (void)state;
  cn_network *net = must_parse(text);
  prediction p = prediction_open(net, 2);
  pause_for(0.01);
  double before = processor_seconds();
  pause_for(0.5);
  assert_true(processor_seconds() - before < 0.05);
  cn_predictor_free(p.predictor);
  cn_network_free(net);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waiting_threads_sleep), /* before others ask for more threads */
      cmocka_unit_test(four_threads_share_networks),
      cmocka_unit_test(any_number_gives_the_same_bytes),
      cmocka_unit_test(a_callers_pool_gives_the_same_bytes),
      cmocka_unit_test(units_run_once),
#ifndef CONVNET_NO_THREADS
      cmocka_unit_test(threads_work_at_the_same_time),
#endif
      cmocka_unit_test(the_environment_caps_the_number),
#ifdef __linux__
      cmocka_unit_test(the_process_may_use_fewer_processors),
#endif
      cmocka_unit_test(a_child_predicts),
      cmocka_unit_test(a_child_trains),
      cmocka_unit_test(a_child_predicts_whatever_other_threads_do),
      cmocka_unit_test(absurd_numbers_are_cut), /* starts all the threads that there can be */
  };
  return cmocka_run_group_tests_name("threads", tests, make_batch, NULL);
}
