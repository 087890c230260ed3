/* Compares with values that PyTorch computed in double precision, see golden/make_golden.py:
   outputs, loss, every gradient, batch norm's running figures and the losses of ten steps of each
   optimiser. Also writes build/golden/NAME.safetensors, which golden/check_python.py then reads. */
#include "convnet.h"
#include "support.h"

#include <sys/stat.h>

#define IMAGES 12
#define STEPS 10

/* Largest error, as a share of the largest value of a tensor. Measured: half of these at most. */
#define OUTPUT_BOUND 1e-6
#define LOSS_BOUND 1e-6
#define GRADIENT_BOUND 1e-5
#define RUNNING_BOUND 5e-7
#define TRAJECTORY_BOUND 1e-5

static const char *const network_names[] = {"base",  "revised", "lenet",
                                            "graph", "labels",  "regression"};
static const char *const optimiser_names[] = {"sgd", "nesterov", "adagrad", "adam", "adamw"};
#define NETWORKS ((int)(sizeof network_names / sizeof *network_names))
#define OPTIMISERS ((int)(sizeof optimiser_names / sizeof *optimiser_names))

/* What one test works on: a golden file, its network, and optimiser's index for a trajectory. */
typedef struct golden {
  const char *network;
  int optimiser;
  cn_safetensors *file;
  cn_network *net;
  cn_predictor *predictor;
  cn_trainer *trainer;
  float *inputs, *targets;
  int labels[IMAGES];
} golden;

/* The tensor's values in an array that the caller frees; NULL if there is no such tensor. */
static float *find_values(const cn_safetensors *file, const char *name, size_t *count) {
  const cn_tensor *tensor = cn_safetensors_find(file, name);
  if (!tensor) return NULL;
  assert_int_equal(tensor->dtype, CN_F32);
  float *values = (float *)malloc(tensor->bytes);
  assert_non_null(values);
  memcpy(values, tensor->data, tensor->bytes);
  *count = tensor->bytes / sizeof(float);
  return values;
}

static void assert_tensor_close(const golden *g, const char *name, const float *got, size_t count,
                                double bound) {
  size_t wanted;
  float *values = find_values(g->file, name, &wanted);
  if (!values) fail_msg("no tensor %s", name);
  assert_int_equal(count, wanted);
  double *want = (double *)malloc(count * sizeof(double));
  assert_non_null(want);
  for (size_t i = 0; i < count; i++) want[i] = values[i];
  assert_close(name, got, want, count, bound, 0.01);
  free(want);
  free(values);
}

static void ignore_mismatch(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  (void)tensor, (void)details, (void)user;
  assert_int_equal(kind, CN_TENSOR_EXTRA);
}

static int open_golden(void **state) {
  golden *g = (golden *)*state;
  char path[256];
  cn_error error;
  snprintf(path, sizeof path, "tests/golden/%s.safetensors", g->network);
  g->file = cn_safetensors_read(path, &error);
  if (!g->file) fail_msg("%s", error.message);
  g->net = must_parse(cn_safetensors_note(g->file, "network"));
  int loaded = cn_load_weights(g->net, path, ignore_mismatch, NULL, &error);
  if (loaded != cn_network_parameter_count(g->net))
    fail_msg("%d tensors loaded: %s", loaded, loaded < 0 ? error.message : "too few");
  size_t count;
  g->inputs = find_values(g->file, "inputs", &count);
  g->targets = find_values(g->file, "targets", &count);
  float *labels = find_values(g->file, "labels", &count);
  for (int i = 0; labels && i < IMAGES; i++) g->labels[i] = (int)labels[i];
  free(labels);
  return 0;
}

static int close_golden(void **state) {
  golden *g = (golden *)*state;
  cn_safetensors_free(g->file);
  cn_predictor_free(g->predictor);
  cn_trainer_free(g->trainer);
  cn_network_free(g->net);
  free(g->inputs);
  free(g->targets);
  return 0;
}

static cn_batch batch_of(const golden *g, int first, int count) {
  int last = cn_network_node_count(g->net) - 1;
  cn_shape in = cn_network_node(g->net, 0)->shape, out = cn_network_node(g->net, last)->shape;
  cn_batch batch = {.count = count};
  batch.inputs = g->inputs + (size_t)first * (size_t)(in.height * in.width * in.channels);
  if (g->targets)
    batch.targets = g->targets + (size_t)first * (size_t)(out.height * out.width * out.channels);
  else
    batch.labels = g->labels + first;
  return batch;
}

static void test_outputs(void **state) {
  golden *g = (golden *)*state;
  int last = cn_network_node_count(g->net) - 1;
  g->predictor = must_predict(g->net, IMAGES, NULL);
  size_t count = (size_t)(IMAGES * cn_predictor_outputs(g->predictor));
  float *outputs = (float *)malloc(count * sizeof(float));
  assert_non_null(outputs);
  cn_predict(g->predictor, g->inputs, IMAGES, outputs);
  assert_tensor_close(g, "predicted", outputs, count, OUTPUT_BOUND);
  cn_op op = cn_network_node(g->net, last)->op;
  if (op == CN_OP_SOFTMAX || op == CN_OP_SIGMOID) {
    const cn_predict_options options = {.logits = 1};
    cn_predictor *logits = must_predict(g->net, IMAGES, &options);
    cn_predict(logits, g->inputs, IMAGES, outputs);
    assert_tensor_close(g, "logits", outputs, count, OUTPUT_BOUND);
    cn_predictor_free(logits);
  }
  free(outputs);
}

static void test_gradients(void **state) {
  golden *g = (golden *)*state;
  cn_training_options options = cn_training_defaults();
  g->trainer = must_train(g->net, IMAGES, &options);
  cn_batch batch = batch_of(g, 0, IMAGES);
  cn_metrics metrics;
  cn_error error;
  if (cn_train_gradients(g->trainer, &batch, &metrics, &error) != CN_OK)
    fail_msg("%s", error.message);
  float loss = (float)metrics.loss;
  assert_tensor_close(g, "loss", &loss, 1, LOSS_BOUND);
  for (int i = 0; i < cn_network_parameter_count(g->net); i++) {
    cn_parameter parameter = cn_network_parameter(g->net, i);
    char name[160];
    snprintf(name, sizeof name, "gradient.%s", parameter.name);
    const float *gradient = cn_trainer_gradient(g->trainer, i);
    assert_int_equal(gradient != NULL, parameter.trained);
    if (gradient) assert_tensor_close(g, name, gradient, parameter.count, GRADIENT_BOUND);
  }
}

static void test_running_figures(void **state) {
  golden *g = (golden *)*state;
  cn_training_options options = cn_training_defaults();
  options.optimizer = CN_SGD;
  options.learning_rate = 0;
  g->trainer = must_train(g->net, IMAGES, &options);
  cn_batch batch = batch_of(g, 0, IMAGES);
  must_step(g->trainer, &batch);
  int checked = 0;
  for (int i = 0; i < cn_network_parameter_count(g->net); i++) {
    cn_parameter parameter = cn_network_parameter(g->net, i);
    char name[160];
    snprintf(name, sizeof name, "after.%s", parameter.name);
    if (!strstr(name, "running")) continue;
    assert_tensor_close(g, name, parameter.values, parameter.count, RUNNING_BOUND);
    checked++;
  }
  assert_int_equal(checked, 4);
}

static cn_training_options optimiser_options(int index) {
  static const cn_optimizer optimisers[OPTIMISERS] = {CN_SGD, CN_SGD, CN_ADAGRAD, CN_ADAM,
                                                      CN_ADAMW};
  static const float rates[OPTIMISERS] = {0.02f, 0.02f, 0.02f, 0.003f, 0.003f};
  cn_training_options options = cn_training_defaults();
  options.optimizer = optimisers[index];
  options.learning_rate = rates[index];
  if (index == 0) options.momentum = 0.9f;
  if (index == 1) options.momentum = 0.8f, options.nesterov = 1, options.l2 = 0.01f;
  if (index == 4) options.decay = 0.1f;
  return options;
}

static void test_trajectory(void **state) {
  golden *g = (golden *)*state;
  cn_training_options options = optimiser_options(g->optimiser);
  /* The others divide gradients by their own size, which makes whole steps of the rounding of small
     ones: their arithmetic is the plainest. */
  if (options.optimizer != CN_SGD) options.math = CN_MATH_DIRECT;
  g->trainer = must_train(g->net, IMAGES / 2, &options);
  float losses[STEPS];
  for (int step = 0; step < STEPS; step++) {
    cn_batch batch = batch_of(g, step % 2 * IMAGES / 2, IMAGES / 2);
    losses[step] = (float)must_step(g->trainer, &batch);
  }
  char name[64];
  snprintf(name, sizeof name, "losses.%s", optimiser_names[g->optimiser]);
  assert_tensor_close(g, name, losses, STEPS, TRAJECTORY_BOUND);
}

static void test_save_for_python(void **state) {
  golden *g = (golden *)*state;
  char path[256];
  cn_error error;
  mkdir("build", 0777);
  mkdir("build/golden", 0777);
  snprintf(path, sizeof path, "build/golden/%s.safetensors", g->network);
  if (cn_save(g->net, path, &error) != CN_OK) fail_msg("%s", error.message);
}

/* Adds a test under a name of its own, with the state it starts from. */
static void add_test(struct CMUnitTest *tests, int *count, const char *aspect,
                     CMUnitTestFunction function, const char *network, int optimiser) {
  static golden states[64];
  static char names[64][64];
  int i = (*count)++;
  if (i >= 64) abort();
  states[i].network = network;
  states[i].optimiser = optimiser;
  snprintf(names[i], sizeof names[i], "%s: %s", network, aspect);
  tests[i].name = names[i];
  tests[i].test_func = function;
  tests[i].setup_func = open_golden;
  tests[i].teardown_func = close_golden;
  tests[i].initial_state = &states[i];
}

int main(void) {
  struct CMUnitTest tests[64];
  int count = 0;
  for (int i = 0; i < NETWORKS; i++) {
    add_test(tests, &count, "outputs", test_outputs, network_names[i], 0);
    add_test(tests, &count, "gradients", test_gradients, network_names[i], 0);
    for (int k = 0; k < OPTIMISERS; k++)
      add_test(tests, &count, optimiser_names[k], test_trajectory, network_names[i], k);
    add_test(tests, &count, "saved for Python", test_save_for_python, network_names[i], 0);
  }
  add_test(tests, &count, "running figures", test_running_figures, "graph", 0);
  return _cmocka_run_group_tests("golden", tests, (size_t)count, NULL, NULL);
}
