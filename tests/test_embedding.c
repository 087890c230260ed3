/* What a program asks for that has convnet.h inside: memory of its own, several inputs and outputs,
   any feature map, gradients of inputs, and errors that say what to do.

   Build:  cc -O2 -I. tests/test_embedding.c -o build/tests/test_embedding -lcmocka -lm */
#include <stdlib.h>

/* Everything that does not come from a network's own allocator is counted. */
static int default_allocations;
static void *count_malloc(size_t bytes) {
  default_allocations++;
  return malloc(bytes);
}
/* As cmocka's, which catches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#define CN_ASSERT(x) mock_assert(!!(x), #x, __FILE__, __LINE__)
#define CN_MALLOC(n) count_malloc(n)
#define CN_FREE(p) free(p)
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "support.h"

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* ---- an allocator --------------------------------------------------------------------------------- */

typedef struct ledger { /* what was handed out, and after how many calls there is no more */
  int live, calls, fail_at;
} ledger;

static void *ledger_allocate(size_t bytes, void *user) {
  ledger *l = (ledger *)user;
  if (l->calls++ == l->fail_at) return NULL;
  l->live++;
  return malloc(bytes);
}

static void ledger_release(void *memory, void *user) {
  ((ledger *)user)->live--;
  assert_non_null(memory);
  free(memory);
}

static const char *const small_net = "input 6x6x1\nconv 8 3x3 pad=1\nbatchnorm\nrelu\nmaxpool 2x2\n"
                                     "dropout 0.2\ndense 3\nsoftmax\n";

/* Builds, trains, predicts, saves nothing; 1 if all of it worked. */
static int use_everything(const cn_allocator *allocator, cn_error *error) {
  float images[4 * 36], outputs[4 * 3];
  const int labels[4] = {0, 1, 2, 1};
  const cn_batch batch = {.count = 4, .inputs = images, .labels = labels};
  cn_network *net = cn_network_create_with(allocator, error);
  cn_trainer *trainer = NULL;
  cn_predictor *predictor = NULL;
  int worked = 0;
  fill_random(images, 4 * 36, 3);
  if (net && cn_network_add_text(net, small_net, error) == CN_OK &&
      cn_network_set_note(net, "about", "strokes", error) == CN_OK &&
      cn_network_set_note(net, "about", "letters", error) == CN_OK &&
      (trainer = cn_trainer_create(net, 4, NULL, error)) != NULL &&
      (predictor = cn_predictor_create(net, 4, NULL, error)) != NULL &&
      cn_train_step(trainer, &batch, NULL, error) == CN_OK) {
    cn_predict(predictor, images, 4, outputs);
    worked = cn_network_text(net) != NULL;
    if (!worked) error->status = CN_ERROR_MEMORY;
    assert_true(outputs[0] + outputs[1] + outputs[2] > 0.999f);
  }
  cn_predictor_free(predictor);
  cn_trainer_free(trainer);
  cn_network_free(net);
  return worked;
}

static void allocator_gives_all_memory(void **state) {
  (void)state;
  ledger l = {0, 0, -1};
  const cn_allocator allocator = {ledger_allocate, ledger_release, &l};
  cn_error error;
  default_allocations = 0;
  assert_true(use_everything(&allocator, &error));
  assert_int_equal(default_allocations, 0);
  assert_true(l.calls > 5);
  assert_int_equal(l.live, 0);
}

static void allocator_may_fail_anywhere(void **state) {
  (void)state;
  ledger l = {0, 0, -1};
  const cn_allocator allocator = {ledger_allocate, ledger_release, &l};
  cn_error error;
  assert_true(use_everything(&allocator, &error));
  for (int all = l.calls, n = 0; n < all; n++) {
    l.calls = 0, l.fail_at = n, error.status = CN_OK;
    assert_false(use_everything(&allocator, &error));
    assert_int_equal(error.status, CN_ERROR_MEMORY);
    assert_int_equal(l.live, 0);
  }
}

static void allocator_needs_both_functions(void **state) {
  (void)state;
  const cn_allocator half = {ledger_allocate, NULL, NULL};
  const cn_allocator none = {NULL, NULL, NULL};
  cn_error error;
  assert_null(cn_network_create_with(&half, &error));
  assert_int_equal(error.status, CN_ERROR_ARGUMENT);
  cn_network_free(cn_network_create_with(&none, &error));
}

/* ---- plans in the caller's memory ------------------------------------------------------------------ */

/* Memory of exactly `bytes` behind an odd address, between guards. */
typedef struct lent {
  unsigned char *block, *memory;
  size_t bytes;
} lent;

static lent lend(size_t bytes) {
  lent l = {(unsigned char *)malloc(bytes + 2 * 64 + 1), NULL, bytes};
  assert_non_null(l.block);
  memset(l.block, 0xA5, bytes + 2 * 64 + 1);
  l.memory = l.block + 64 + 1;
  return l;
}

static void give_back(lent *l) {
  for (int i = 0; i < 65; i++) assert_int_equal(l->block[i], 0xA5);
  for (size_t i = 0; i < 64; i++) assert_int_equal(l->memory[l->bytes + i], 0xA5);
  free(l->block);
}

static void predictor_in_callers_memory(void **state) {
  (void)state;
  cn_network *net = must_parse(small_net);
  cn_error error;
  float images[5 * 36], want[5 * 3], got[5 * 3];
  fill_random(images, 5 * 36, 7);
  for (int gradients = 0; gradients < 2; gradients++) {
    cn_predict_options options = {.threads = 2, .gradients = gradients};
    cn_predictor *predictor = must_predict(net, 5, &options);
    cn_predict(predictor, images, 5, want);
    cn_predictor_free(predictor);
    lent l = lend(cn_predictor_size(net, 5, &options, &error));
    assert_true(l.bytes > 0);
    options.memory = l.memory, options.memory_bytes = l.bytes;
    default_allocations = 0;
    predictor = must_predict(net, 5, &options);
    cn_predict(predictor, images, 5, got);
    assert_memory_equal(got, want, sizeof got);
    cn_predictor_free(predictor);
    assert_int_equal(default_allocations, 0);
    options.memory_bytes = l.bytes - CN_ALIGNMENT_ - 1; /* less than the worst alignment takes */
    assert_null(cn_predictor_create(net, 5, &options, &error));
    assert_int_equal(error.status, CN_ERROR_MEMORY);
    options.memory_bytes = 3;
    assert_null(cn_predictor_create(net, 5, &options, &error));
    assert_contains(error.message, "bytes");
    give_back(&l);
  }
  assert_true(cn_predictor_size(net, 0, NULL, &error) == 0);
  assert_int_equal(error.status, CN_ERROR_ARGUMENT);
  cn_network_free(net);
}

static void trainer_in_callers_memory(void **state) {
  (void)state;
  cn_network *a = must_parse(small_net), *b = must_parse(small_net);
  const float weights[3] = {1.0f, 2.0f, 0.5f};
  cn_training_options options = cn_training_defaults();
  float images[4 * 36];
  const int labels[4] = {0, 1, 2, 1};
  const cn_batch batch = {.count = 4, .inputs = images, .labels = labels};
  cn_error error;
  fill_random(images, 4 * 36, 3);
  options.class_weights = weights, options.clip_norm = 1.0f;
  lent l = lend(cn_trainer_size(b, 4, &options, &error));
  cn_trainer *allocated = must_train(a, 4, &options);
  options.memory = l.memory, options.memory_bytes = l.bytes;
  default_allocations = 0;
  cn_trainer *lent_trainer = must_train(b, 4, &options);
  for (int step = 0; step < 5; step++) {
    assert_int_equal(cn_train_step(allocated, &batch, NULL, &error), CN_OK);
    assert_int_equal(cn_train_step(lent_trainer, &batch, NULL, &error), CN_OK);
  }
  assert_int_equal(default_allocations, 0);
  for (int i = 0; i < cn_network_parameter_count(a); i++) {
    cn_parameter of_a = cn_network_parameter(a, i), of_b = cn_network_parameter(b, i);
    assert_memory_equal(of_a.values, of_b.values, of_a.count * sizeof(float));
  }
  cn_trainer_free(allocated);
  cn_trainer_free(lent_trainer);
  options.memory_bytes = l.bytes / 2;
  assert_null(cn_trainer_create(b, 4, &options, &error));
  assert_int_equal(error.status, CN_ERROR_MEMORY);
  give_back(&l);
  cn_network_free(a);
  cn_network_free(b);
}

/* ---- several inputs and outputs --------------------------------------------------------------------- */

/* A picture and three measurements; what it shows, how old it is, and which of two things are there. */
static const char *const family = "picture: input 6x6x1\nconv 6 3x3 pad=1\ntanh\nmeanpool 2x2\n"
                                  "seen: dense 5\nmeasured: input 1x1x3\ndense 4\nboth: tanh\n"
                                  "joined: concat from=seen,both\ntrunk: dense 7\nact: tanh\n"
                                  "there: dense 2\nflags: sigmoid output=0.5\n"
                                  "age: dense 1 from=act output=2\n"
                                  "what: dense 4 from=act\nsoftmax\n";
enum { FAMILY = 3, INPUTS = 2, OUTPUTS = 3 };
static const int in_values[INPUTS] = {36, 3}, out_values[OUTPUTS] = {2, 1, 4};

typedef struct family_data {
  float picture[FAMILY * 36], measured[FAMILY * 3], flags[FAMILY * 2], age[FAMILY];
  int what[FAMILY];
  const float *inputs[INPUTS];
  cn_truth truths[OUTPUTS];
  cn_batch batch;
} family_data;

static void fill_family(family_data *d) {
  memset(d, 0, sizeof *d);
  fill_random(d->picture, FAMILY * 36, 1);
  fill_random(d->measured, FAMILY * 3, 2);
  fill_random(d->age, FAMILY, 4);
  for (int i = 0; i < FAMILY * 2; i++) d->flags[i] = (float)(i % 3 == 0);
  fill_labels(d->what, FAMILY, 4, 5);
  d->inputs[0] = d->picture, d->inputs[1] = d->measured;
  d->truths[0].targets = d->flags, d->truths[1].targets = d->age, d->truths[2].labels = d->what;
  d->batch.count = FAMILY, d->batch.all_inputs = d->inputs, d->batch.truths = d->truths;
}

static void inputs_and_outputs_are_listed(void **state) {
  (void)state;
  cn_network *net = must_parse(family);
  assert_int_equal(cn_network_input(net, 0), cn_network_find(net, "picture"));
  assert_int_equal(cn_network_input(net, 1), cn_network_find(net, "measured"));
  assert_int_equal(cn_network_input(net, 2), -1);
  assert_int_equal(cn_network_output(net, 0), cn_network_find(net, "flags"));
  assert_int_equal(cn_network_output(net, 1), cn_network_find(net, "age"));
  assert_int_equal(cn_network_output(net, 2), cn_network_node_count(net) - 1);
  assert_int_equal(cn_network_output(net, 3), -1);
  cn_network *again = must_parse(cn_network_text(net));
  assert_string_equal(cn_network_text(again), cn_network_text(net));
  cn_network_free(again);
  cn_network_free(net);
}

/* The loss is the weighted sum of the outputs' own, each computed here from what cn_predict_all says. */
static void losses_add_up(void **state) {
  (void)state;
  cn_network *net = must_parse(family);
  cn_predictor *predictor = must_predict(net, 2, NULL);
  cn_trainer *trainer = must_train(net, FAMILY, NULL);
  family_data d;
  float flags[FAMILY * 2], age[FAMILY], what[FAMILY * 4];
  float *outputs[OUTPUTS] = {flags, age, what};
  double loss[OUTPUTS] = {0, 0, 0};
  cn_metrics metrics;
  cn_error error;
  fill_family(&d);
  cn_predict_all(predictor, d.inputs, FAMILY, outputs);
  for (int i = 0; i < FAMILY; i++) {
    for (int j = 0; j < 2; j++) {
      double p = (double)flags[2 * i + j];
      loss[0] -= log(d.flags[2 * i + j] > 0.5f ? p : 1 - p) / FAMILY;
    }
    loss[1] += 0.5 * pow((double)age[i] - (double)d.age[i], 2) / FAMILY;
    loss[2] -= log((double)what[4 * i + d.what[i]]) / FAMILY;
  }
  assert_int_equal(cn_train_gradients(trainer, &d.batch, &metrics, &error), CN_OK);
  for (int i = 0; i < OUTPUTS; i++)
    assert_near("an output's loss", cn_trainer_metrics(trainer, i).loss, loss[i], 1e-5);
  assert_near("loss", metrics.loss, 0.5 * loss[0] + 2 * loss[1] + loss[2], 1e-5);
  assert_int_equal(metrics.correct, cn_trainer_metrics(trainer, OUTPUTS - 1).correct);
  outputs[0] = outputs[2] = NULL; /* not wanted */
  float second[FAMILY];
  outputs[1] = second;
  cn_predict_all(predictor, d.inputs, FAMILY, outputs);
  assert_memory_equal(second, age, sizeof age);
  cn_predictor_free(predictor);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

static void gradients_of_several_losses(void **state) {
  (void)state;
  cn_network *net = must_parse(family);
  cn_training_options options = cn_training_defaults();
  options.learning_rate = 0.01f;
  cn_trainer *trainer = must_train(net, FAMILY, &options);
  family_data d;
  cn_metrics metrics;
  cn_error error;
  fill_family(&d);
  for (int p = 0; p < cn_network_parameter_count(net); p++) {
    cn_parameter parameter = cn_network_parameter(net, p);
    for (size_t k = 0; k < parameter.count; k += 1 + parameter.count / 4) {
      const float was = parameter.values[k], h = 0.01f;
      double loss[2];
      for (int side = 0; side < 2; side++) {
        parameter.values[k] = side ? was + h : was - h;
        cn_network_touch(net);
        assert_int_equal(cn_train_gradients(trainer, &d.batch, &metrics, &error), CN_OK);
        loss[side] = metrics.loss;
      }
      parameter.values[k] = was;
      cn_network_touch(net);
      assert_int_equal(cn_train_gradients(trainer, &d.batch, &metrics, &error), CN_OK);
      const double got = (double)cn_trainer_gradient(trainer, p)[k];
      const double want = (loss[1] - loss[0]) / (2 * (double)h);
      if (fabs(got - want) > 1e-3 * fabs(want) + 3e-4)
        fail_msg("%s[%zu]: %.6g, by differences %.6g", parameter.name, k, got, want);
    }
  }
  double first = 0;
  for (int step = 0; step < 200; step++) {
    assert_int_equal(cn_train_step(trainer, &d.batch, &metrics, &error), CN_OK);
    if (step == 0) first = metrics.loss;
  }
  assert_true(metrics.loss < 0.2 * first);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

/* Several labels a picture, and regression, by the plain fields of a batch. */
static void multilabel_and_regression_learn(void **state) {
  (void)state;
  static const char *const texts[] = {"input 6x6x1\nconv 8 3x3\nrelu\ndense 3\nsigmoid\n",
                                      "input 6x6x1\nconv 8 3x3\nrelu\ndense 3\n"};
  for (int t = 0; t < 2; t++) {
    cn_network *net = must_parse(texts[t]);
    cn_training_options options = cn_training_defaults();
    options.learning_rate = 0.01f;
    cn_trainer *trainer = must_train(net, 16, &options);
    float images[16 * 36], targets[16 * 3];
    cn_metrics metrics = {0, 0};
    cn_error error;
    fill_random(images, 16 * 36, 9);
    for (int i = 0; i < 16 * 3; i++) {
      const float v = images[i / 3 * 36 + i % 3 * 5];
      targets[i] = t ? v : (float)(v > 0);
    }
    const cn_batch batch = {.count = 16, .inputs = images, .targets = targets};
    for (int step = 0; step < 300; step++)
      assert_int_equal(cn_train_step(trainer, &batch, &metrics, &error), CN_OK);
    assert_true(metrics.loss < 0.05);
    if (t == 0) assert_int_equal(metrics.correct, 16);
    cn_trainer_free(trainer);
    cn_network_free(net);
  }
}

/* ---- gradients of inputs ------------------------------------------------------------------------------ */

/* One number made of all outputs: the sum of each times a weight of its own. */
static double weighted_sum(const float *const *weights, float *const *outputs, const int *values,
                           int count, int networks_outputs) {
  double sum = 0;
  for (int o = 0; o < networks_outputs; o++)
    for (int i = 0; i < count * values[o]; i++)
      sum += (double)weights[o][i] * (double)outputs[o][i];
  return sum;
}

static void input_gradients_of_several(void **state) {
  (void)state;
  cn_network *net = must_parse(family);
  for (int logits = 0; logits < 2; logits++) {
    const cn_predict_options options = {.gradients = 1, .logits = logits};
    cn_predictor *predictor = must_predict(net, 2, &options); /* FAMILY images in two goes */
    family_data d;
    float w[OUTPUTS][FAMILY * 4], y[OUTPUTS][FAMILY * 4], g[INPUTS][FAMILY * 36];
    const float *weights[OUTPUTS] = {w[0], w[1], w[2]};
    float *outputs[OUTPUTS] = {y[0], y[1], y[2]}, *gradients[INPUTS] = {g[0], g[1]};
    float *inputs[INPUTS] = {d.picture, d.measured};
    cn_error error;
    fill_family(&d);
    for (int o = 0; o < OUTPUTS; o++) fill_random(w[o], FAMILY * 4, 20 + (uint64_t)o);
    assert_int_equal(
        cn_input_gradient(predictor, d.inputs, FAMILY, weights, outputs, gradients, &error), CN_OK);
    for (int in = 0; in < INPUTS; in++) {
      for (int k = 0; k < FAMILY * in_values[in]; k += in ? 1 : 5) {
        const float was = inputs[in][k], h = 0.02f;
        double sum[2];
        for (int side = 0; side < 2; side++) {
          inputs[in][k] = side ? was + h : was - h;
          cn_predict_all(predictor, d.inputs, FAMILY, outputs);
          sum[side] = weighted_sum(weights, outputs, out_values, FAMILY, OUTPUTS);
        }
        inputs[in][k] = was;
        const double want = (sum[1] - sum[0]) / (2 * (double)h);
        if (fabs((double)g[in][k] - want) > 2e-3 * fabs(want) + 3e-4)
          fail_msg("input %d value %d: %.6g, by differences %.6g", in, k, (double)g[in][k], want);
      }
    }
    cn_predictor_free(predictor);
  }
  cn_network_free(net);
}

/* Frozen statistics, pooling, residual connections, and layers that go by Winograd; the number is one
   output value of each image. Compared along random directions, since ReLU and maxima have corners. */
static void input_gradients_of_convolutions(void **state) {
  (void)state;
  static const char *const texts[] = {
      "input 12x12x1\nconv 16 3x3 pad=1\nrelu\nmaxpool 2x2\nconv 16 3x3 pad=1\nbatchnorm\nrelu\n"
      "dropout 0.5\ndense 4\nsoftmax\n",
      "input 12x12x3\nconv 8 5x5 stride=2 pad=2\na: batchnorm\nrelu\nconv 8 3x3 pad=1\nb: "
      "batchnorm\n"
      "add from=b,a\nrelu\nmixpool 2x2\nglobalmean\ndense 3\nsigmoid\n",
      "input 9x9x2\nc: conv 8 3x3 pad=1 groups=2\nminpool 3x3 stride=2\np: tanh\nd: meanpool 4x4\n"
      "maxpool 4x4 from=p\nconcat from=d,maxpool1\nscale 3\ndense 2\n"};
  for (int t = 0; t < LENGTH(texts); t++) {
    enum { COUNT = 5 };
    cn_network *net = must_parse(texts[t]);
    const cn_predict_options options = {.gradients = 1};
    cn_predictor *predictor = must_predict(net, COUNT, &options);
    const cn_shape in = cn_network_node(net, 0)->shape;
    const size_t values = (size_t)(in.height * in.width * in.channels);
    const int classes = cn_predictor_outputs(predictor);
    float *x = (float *)malloc(4 * COUNT * values * sizeof(float));
    float outputs[COUNT * 4], weights[COUNT * 4];
    float *gradient = x + COUNT * values, *direction = gradient + COUNT * values,
          *moved = direction + COUNT * values;
    cn_error error;
    assert_non_null(x);
    for (int p = 0; p < cn_network_parameter_count(net); p++) { /* figures that are not 0 and 1 */
      cn_parameter parameter = cn_network_parameter(net, p);
      for (size_t k = 0; !parameter.trained && k < parameter.count; k++)
        parameter.values[k] += 0.3f + 0.1f * (float)(k % 5);
    }
    cn_network_touch(net);
    fill_random(x, COUNT * values, 30 + (uint64_t)t);
    for (int i = 0; i < COUNT * classes; i++)
      weights[i] = (float)(i % classes == i / classes % classes);
    const float *inputs = x, *seed = weights, *at = moved;
    float *to = outputs;
    assert_int_equal(cn_input_gradient(predictor, &inputs, COUNT, &seed, NULL, &gradient, &error),
                     CN_OK);
    for (int d = 0; d < 6; d++) {
      double slope = 0, sum[2];
      const float h = 1e-3f;
      fill_random(direction, COUNT * values, 50 + (uint64_t)d);
      for (size_t k = 0; k < COUNT * values; k++)
        slope += (double)gradient[k] * (double)direction[k];
      for (int side = 0; side < 2; side++) {
        for (size_t k = 0; k < COUNT * values; k++)
          moved[k] = x[k] + (side ? h : -h) * direction[k];
        cn_predict_all(predictor, &at, COUNT, &to);
        sum[side] = weighted_sum(&seed, &to, &classes, COUNT, 1);
      }
      const double want = (sum[1] - sum[0]) / (2 * (double)h);
      if (fabs(slope - want) > 0.02 * fabs(want) + 2e-3)
        fail_msg("network %d, direction %d: %.6g, by differences %.6g", t, d, slope, want);
    }
    free(x);
    cn_predictor_free(predictor);
    cn_network_free(net);
  }
}

static void input_gradients_must_be_asked_for(void **state) {
  (void)state;
  cn_network *net = must_parse(small_net);
  cn_predictor *predictor = must_predict(net, 1, NULL);
  float image[36] = {0}, weights[3] = {1, 0, 0}, gradient[36];
  const float *inputs = image, *seed = weights;
  float *to = gradient;
  cn_error error;
  assert_int_equal(cn_input_gradient(predictor, &inputs, 1, &seed, NULL, &to, &error),
                   CN_ERROR_ARGUMENT);
  assert_contains(error.message, "gradients = 1");
  cn_predictor_free(predictor);
  cn_network_free(net);
}

/* ---- heads --------------------------------------------------------------------------------------------- */

/* An auxiliary head on a frozen branch adds to the loss, and to nobody's gradient. */
static void frozen_auxiliary_head_changes_no_gradient(void **state) {
  (void)state;
  static const char
      *const with = "input 4x4x1\nf: dense 3 bias=no\nsoftmax\nd: dense 3 from=f\nsoftmax\n",
             *const without = "input 4x4x1\nf: dense 3 bias=no\nd: dense 3 from=f\nsoftmax\n";
  cn_network *nets[2] = {must_parse(with), must_parse(without)};
  cn_trainer *trainers[2];
  float images[4 * 16];
  const int labels[4] = {0, 1, 2, 0};
  const cn_batch batch = {.count = 4, .inputs = images, .labels = labels};
  cn_metrics metrics[2];
  cn_error error;
  fill_random(images, 4 * 16, 11);
  for (int i = 0; i < 2; i++) {
    cn_network_freeze_named(nets[i], "f");
    trainers[i] = must_train(nets[i], 4, NULL);
    assert_int_equal(cn_train_gradients(trainers[i], &batch, &metrics[i], &error), CN_OK);
  }
  assert_true(metrics[0].loss > metrics[1].loss + 0.1);
  for (int p = 0; p < cn_network_parameter_count(nets[0]); p++) {
    cn_parameter parameter = cn_network_parameter(nets[0], p);
    if (parameter.trained)
      assert_memory_equal(cn_trainer_gradient(trainers[0], p), cn_trainer_gradient(trainers[1], p),
                          parameter.count * sizeof(float));
  }
  for (int i = 0; i < 2; i++) cn_trainer_free(trainers[i]), cn_network_free(nets[i]);
}

/* Whatever the order of nodes, one value cannot learn from two losses. */
static void one_value_has_one_loss(void **state) {
  (void)state;
  static const char *const texts[] = {"input 4x4x1\nd: dense 3\nsoftmax loss=0.3\nsigmoid from=d\n",
                                      "input 4x4x1\nd: dense 3\nsigmoid output=1\nsoftmax from=d\n",
                                      "input 4x4x1\nd: dense 3 output=1\nsoftmax\n"};
  for (int i = 0; i < LENGTH(texts); i++) {
    cn_network *net = must_parse(texts[i]);
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_trainer_create(net, 2, NULL, &error));
    assert_int_equal(error.status, CN_ERROR_SHAPE);
    assert_contains(error.message, "same values");
    cn_predictor_free(must_predict(net, 2, NULL)); /* which has no losses */
    cn_network_free(net);
  }
}

/* ---- mistakes that everybody makes --------------------------------------------------------------------- */

static void mistakes_in_text(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } cases[] = {
      {"input 28x28x1\nconvolution 3 3x3\n", "conv"},
      {"input 28x28x1\nmaxpol 2x2\n", "did you mean maxpool"},
      {"input 28x28x1\nconv 8 3x3 strides=2\n", "did you mean stride"},
      {"input 3x224x224\nconv 8 7x7\n", "rows x columns x channels"},
      {"input 28x28x1\nfirst: relu\nrelu from=frist\n", "did you mean first"},
      {"input 28x28x1\nsoftmax\nrelu\n", "softmax"},
  };
  for (int i = 0; i < LENGTH(cases); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_network_parse(cases[i].text, &error));
    assert_contains(error.message, cases[i].part);
  }
}

static void mistakes_in_names(void **state) {
  (void)state;
  static const struct {
    const char *name, *part;
  } cases[] = {{"resnet-18", "did you mean resnet18"},
               {"ResNet18", "did you mean resnet18"},
               {"vgg", "did you mean vgg11"},
               {"inception", "inception_v3"},
               {"mobilenet_v2", "base, revised"}};
  for (int i = 0; i < LENGTH(cases); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    assert_null(cn_arch_network(cases[i].name, NULL, &error));
    assert_contains(error.message, cases[i].part);
  }
}

static void mistakes_in_batches(void **state) {
  (void)state;
  cn_network *softmax = must_parse(small_net), *line = must_parse("input 6x6x1\ndense 2\n"),
             *several = must_parse(family);
  cn_trainer *a = must_train(softmax, 4, NULL), *b = must_train(line, 4, NULL),
             *c = must_train(several, 4, NULL);
  float numbers[4 * 36] = {0};
  const int labels[4] = {0, 1, 2, 3};
  const struct {
    cn_trainer *trainer;
    cn_batch batch;
    const char *part;
  } cases[] = {{a, {.count = 4, .inputs = numbers, .targets = numbers}, "labels"},
               {b, {.count = 4, .inputs = numbers, .labels = labels}, "targets"},
               {a, {.count = 4, .inputs = numbers, .labels = labels}, "label 3 of image 3"},
               {a, {.count = 5, .inputs = numbers, .labels = labels}, "5 images"},
               {a, {.count = 1, .labels = labels}, "inputs"},
               {c, {.count = 1, .inputs = numbers, .labels = labels}, "all_inputs"}};
  for (int i = 0; i < LENGTH(cases); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    assert_int_equal(cn_train_step(cases[i].trainer, &cases[i].batch, NULL, &error),
                     CN_ERROR_ARGUMENT);
    assert_contains(error.message, cases[i].part);
  }
  cn_trainer_free(a), cn_trainer_free(b), cn_trainer_free(c);
  cn_network_free(softmax), cn_network_free(line), cn_network_free(several);
}

/* All layers frozen: there is nothing that training could change. */
static void nothing_to_train(void **state) {
  (void)state;
  cn_network *net = must_parse(small_net);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network_freeze(net, 100);
  assert_null(cn_trainer_create(net, 4, NULL, &error));
  assert_contains(error.message, "frozen");
  cn_network_free(net);
}

/* A network freed before its predictor is caught where assertions are on. */
static void plan_outlives_network(void **state) {
  (void)state;
  cn_network *net = must_parse(small_net);
  cn_predictor *predictor = must_predict(net, 1, NULL);
  expect_assert_failure(cn_network_free(net));
  cn_predictor_free(predictor);
  cn_network_free(net);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(allocator_gives_all_memory),
      cmocka_unit_test(allocator_may_fail_anywhere),
      cmocka_unit_test(allocator_needs_both_functions),
      cmocka_unit_test(predictor_in_callers_memory),
      cmocka_unit_test(trainer_in_callers_memory),
      cmocka_unit_test(inputs_and_outputs_are_listed),
      cmocka_unit_test(losses_add_up),
      cmocka_unit_test(gradients_of_several_losses),
      cmocka_unit_test(multilabel_and_regression_learn),
      cmocka_unit_test(input_gradients_of_several),
      cmocka_unit_test(input_gradients_of_convolutions),
      cmocka_unit_test(input_gradients_must_be_asked_for),
      cmocka_unit_test(frozen_auxiliary_head_changes_no_gradient),
      cmocka_unit_test(one_value_has_one_loss),
      cmocka_unit_test(mistakes_in_text),
      cmocka_unit_test(mistakes_in_names),
      cmocka_unit_test(mistakes_in_batches),
      cmocka_unit_test(nothing_to_train),
      cmocka_unit_test(plan_outlives_network),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
