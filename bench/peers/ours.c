/* Our side of make bench-peers: does what it is told on standard input, so that the script beside it can
   run us and the others in turn within the same minute.

   Build: cc -O2 -I. bench/peers/ours.c -o build/peers/ours -lm
   Commands, one a line; each answers with one line:
     open NETWORK BATCH THREADS   makes the network and a batch of random images
     write FOLDER                 weights.safetensors, inputs.f32 and outputs.f32 (after softmax)
     train STEPS                  seconds for that many training steps (Adam)
     predict RUNS                 seconds for that many inferences of the batch
     memory                       peak resident kilobytes of this process so far */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <time.h>

typedef struct session {
  cn_network *net;
  cn_trainer *trainer;     /* made when first needed: */
  cn_predictor *predictor; /* neither is part of the other's memory */
  cn_batch batch;
  float *inputs, *outputs;
  int *labels, threads;
} session;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "ours: %s\n", what);
  exit(1);
}

static void write_floats(const char *folder, const char *name, const float *values, size_t n) {
  char path[600];
  FILE *file;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  file = fopen(path, "wb");
  if (!file || fwrite(values, sizeof *values, n, file) != n || fclose(file)) fail("cannot write to the folder");
}

static void close_session(session *s) {
  cn_trainer_free(s->trainer), cn_predictor_free(s->predictor), cn_network_free(s->net);
  free(s->inputs), free(s->outputs), free(s->labels);
  memset(s, 0, sizeof *s);
}

static void open_session(session *s, const char *name, int count, int threads) {
  cn_error error;
  cn_random random;
  cn_shape in;
  size_t values, i;
  close_session(s);
  random.seed = 7, random.position = 0;
  s->threads = threads;
  s->net = cn_arch_network(name, NULL, &error);
  if (!s->net) fail(error.message);
  in = cn_network_node(s->net, 0)->shape;
  values = (size_t)count * (size_t)in.height * (size_t)in.width * (size_t)in.channels;
  s->inputs = (float *)malloc(values * sizeof(float)), s->labels = (int *)malloc((size_t)count * sizeof(int));
  if (!s->inputs || !s->labels) fail("no memory");
  for (i = 0; i < values; i++) s->inputs[i] = cn_random_uniform(&random);
  for (i = 0; i < (size_t)count; i++) s->labels[i] = (int)cn_random_below(&random, 10);
  s->batch.count = count, s->batch.inputs = s->inputs, s->batch.labels = s->labels;
}

static double predict(session *s, int runs) {
  cn_predict_options options;
  cn_error error;
  double start;
  memset(&options, 0, sizeof options);
  options.threads = s->threads;
  if (!s->predictor) {
    s->predictor = cn_predictor_create(s->net, s->batch.count, &options, &error);
    if (!s->predictor) fail(error.message);
    s->outputs = (float *)malloc((size_t)(s->batch.count * cn_predictor_outputs(s->predictor)) * sizeof(float));
    if (!s->outputs) fail("no memory");
  }
  for (start = now(); runs > 0; runs--) cn_predict(s->predictor, s->inputs, s->batch.count, s->outputs);
  return now() - start;
}

static void write_session(session *s, const char *folder) {
  const cn_shape in = cn_network_node(s->net, 0)->shape;
  const size_t count = (size_t)s->batch.count;
  char path[600];
  cn_error error;
  predict(s, 1);
  write_floats(folder, "inputs.f32", s->inputs, count * (size_t)in.height * (size_t)in.width * (size_t)in.channels);
  write_floats(folder, "outputs.f32", s->outputs, count * (size_t)cn_predictor_outputs(s->predictor));
  snprintf(path, sizeof path, "%s/weights.safetensors", folder);
  if (cn_save(s->net, path, &error)) fail(error.message);
}

static double train(session *s, int steps) {
  cn_training_options options = cn_training_defaults();
  cn_metrics metrics;
  cn_error error;
  double start;
  options.threads = s->threads;
  if (!s->trainer) s->trainer = cn_trainer_create(s->net, s->batch.count, &options, &error);
  if (!s->trainer) fail(error.message);
  for (start = now(); steps > 0; steps--)
    if (cn_train_step(s->trainer, &s->batch, &metrics, &error)) fail(error.message);
  return now() - start;
}

/* Not getrusage: a process inherits its parent's peak. */
static long peak_kilobytes(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[200];
  long kilobytes = 0;
  while (file && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %ld", &kilobytes);
  if (!file || fclose(file) || !kilobytes) fail("cannot read /proc/self/status");
  return kilobytes;
}

int main(void) {
  static session s;
  char line[700], name[64], folder[512];
  int n, threads;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "open %63s %d %d", name, &n, &threads) == 3) {
      open_session(&s, name, n, threads);
      printf("%s\n", cn_isa_name());
    } else if (sscanf(line, "write %511s", folder) == 1) {
      write_session(&s, folder);
      printf("written\n");
    } else if (sscanf(line, "train %d", &n) == 1) {
      printf("%.9f\n", train(&s, n));
    } else if (sscanf(line, "predict %d", &n) == 1) {
      printf("%.9f\n", predict(&s, n));
    } else if (strcmp(line, "memory\n") == 0) {
      printf("%ld\n", peak_kilobytes());
    } else {
      fail("unknown command");
    }
    fflush(stdout);
  }
  close_session(&s);
  return 0;
}
