/* What must not pass: sizes that no memory has, numbers that are not finite, windows that see
   nothing, names that are taken for what they only resemble. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* mkstemp under -std=c99 */
#endif
#include "convnet.h"
#include "support.h"

#include <float.h>
#include <limits.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static cn_parameter find_parameter(const cn_network *net, const char *name) {
  for (int i = 0; i < cn_network_parameter_count(net); i++)
    if (strcmp(cn_network_parameter(net, i).name, name) == 0) return cn_network_parameter(net, i);
  fail_msg("no parameter %s", name);
  return cn_network_parameter(net, -1);
}

/* ---- roles ----------------------------------------------------------------------------------- */

static void names_do_not_decide_roles(void **state) {
  (void)state;
  static const char *const names[] = {"block.weighted",  "a.weight",
                                      "b.bias",          "c.running_mean",
                                      "d.running_var",   "num_batches_tracked",
                                      "e.weight.weight", "f.running_mean.weight"};
  for (int i = 0; i < LENGTH(names); i++) {
    char text[200], name[120];
    snprintf(text, sizeof text, "input 2x2x3\n%s: batchnorm\nlast: dense 2\nsoftmax\n", names[i]);
    cn_network *net = must_parse(text);
    static const struct {
      const char *suffix;
      float value;
      int trained;
    } tensors[] = {{"weight", 1, 1}, {"bias", 0, 1}, {"running_mean", 0, 0}, {"running_var", 1, 0}};
    for (int j = 0; j < LENGTH(tensors); j++) {
      snprintf(name, sizeof name, "%s.%s", names[i], tensors[j].suffix);
      cn_parameter parameter = find_parameter(net, name);
      assert_int_equal(parameter.trained, tensors[j].trained);
      for (size_t k = 0; k < parameter.count; k++)
        if (parameter.values[k] != tensors[j].value)
          fail_msg("%s starts at %g, not at %g", name, (double)parameter.values[k],
                   (double)tensors[j].value);
    }
    cn_network_free(net);
  }
}

static void count_extra(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  (void)tensor, (void)details;
  *(int *)user += kind == CN_TENSOR_EXTRA;
}

/* PyTorch's counters are passed over where there is a batch norm to have one, and only there. */
static void counters_belong_to_batch_norms(void **state) {
  (void)state;
  static const char *const names[] = {"bn.num_batches_tracked", "conv1.num_batches_tracked",
                                      "bnum_batches_tracked", "old.num_batches_tracked"};
  char path[] = "/tmp/test-guards-XXXXXX";
  float value = 0;
  cn_tensor tensors[LENGTH(names)];
  cn_error error;
  int extra = 0, file = mkstemp(path);
  assert_true(file >= 0);
  close(file);
  memset(tensors, 0, sizeof tensors);
  for (int i = 0; i < LENGTH(names); i++)
    tensors[i].name = names[i], tensors[i].dtype = CN_F32, tensors[i].data = &value,
    tensors[i].bytes = sizeof value;
  assert_int_equal(cn_safetensors_write(path, tensors, LENGTH(names), NULL, 0, &error), CN_OK);
  cn_network *net = must_parse("input 2x2x3\nconv 2 1x1\nbn: batchnorm\n");
  assert_int_equal(cn_load_weights(net, path, count_extra, &extra, &error), 0);
  assert_int_equal(extra, 3);
  remove(path);
  cn_network_free(net);
}

/* ---- finite numbers -------------------------------------------------------------------------- */

/* What is no number, and infinities; by their bits, as the library may be compiled for a world
   without them. */
static float special(int i) {
  static const uint32_t bits[] = {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0x7F800000u, 0xFF800000u};
  float value;
  memcpy(&value, &bits[i % LENGTH(bits)], sizeof value);
  return value;
}

/* All that a trainer keeps: weights, running figures, optimiser's state, number of steps. */
static char *checkpoint(cn_trainer *trainer, size_t *bytes) {
  char path[] = "/tmp/test-guards-XXXXXX";
  cn_error error;
  int descriptor = mkstemp(path);
  assert_true(descriptor >= 0);
  close(descriptor);
  assert_int_equal(cn_trainer_save(trainer, path, &error), CN_OK);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  char *all = (char *)malloc(*bytes);
  rewind(file);
  assert_int_equal(fread(all, 1, *bytes, file), *bytes);
  fclose(file);
  remove(path);
  return all;
}

/* A step that must be refused, for a reason that the message has, and change nothing. */
static void assert_refused(cn_trainer *trainer, const cn_batch *batch, cn_status status,
                           const char *part) {
  size_t before_bytes, after_bytes;
  cn_metrics metrics = {-1, -1};
  cn_error error = {CN_OK, 0, 0, ""};
  char *before = checkpoint(trainer, &before_bytes);
  assert_int_equal(cn_train_step(trainer, batch, &metrics, &error), status);
  assert_int_equal(error.status, status);
  assert_contains(error.message, part);
  assert_true(metrics.loss == -1 && metrics.correct == -1);
  assert_int_equal(cn_train_step(trainer, batch, NULL, NULL), status);
  char *after = checkpoint(trainer, &after_bytes);
  assert_int_equal(after_bytes, before_bytes);
  assert_memory_equal(after, before, before_bytes);
  free(before);
  free(after);
}

static const char hiding[] = "input 6x6x1\nconv 4 3x3 pad=1\nbatchnorm\nrelu\nmaxpool 2x2\n"
                             "dense 3\nsoftmax\n";

/* Max pooling and ReLU hide a value that is no number from the loss. */
static void batches_are_checked(void **state) {
  (void)state;
  enum { COUNT = 70, VALUES = 36 };
  static const char *const texts[] = {hiding, "input 6x6x1\nmaxpool 3x3\nrelu\ndense 3\nsoftmax\n",
                                      "input 6x6x1\nminpool 2x2\ndense 3\nsoftmax\n"};
  static float images[COUNT * VALUES];
  int labels[COUNT];
  fill_labels(labels, COUNT, 3, 1);
  for (int t = 0; t < LENGTH(texts); t++) {
    cn_network *net = must_parse(texts[t]);
    cn_trainer *trainer = must_train(net, COUNT, NULL);
    cn_batch batch = {0};
    fill_random(images, COUNT * VALUES, 2);
    batch.count = COUNT, batch.inputs = images, batch.labels = labels;
    must_step(trainer, &batch);
    static const int bad[] = {0, 3, 31, 32, 69};
    for (int i = 0; i < LENGTH(bad); i++) {
      char part[40];
      float *value = images + bad[i] * VALUES + (bad[i] * 7 + 35 * (i % 2)) % VALUES, was = *value;
      *value = special(i);
      snprintf(part, sizeof part, "image %d has a value", bad[i]);
      assert_refused(trainer, &batch, CN_ERROR_NUMERIC, part);
      *value = was;
    }
    must_step(trainer, &batch);
    cn_trainer_free(trainer);
    cn_network_free(net);
  }
}

static void targets_are_checked(void **state) {
  (void)state;
  enum { COUNT = 5, VALUES = 4 };
  static const char *const texts[] = {
      "left: input 1x1x4\nright: input 1x1x4\nadd from=left,right\ndense 2\n",
      "left: input 1x1x4\nright: input 1x1x4\nadd from=left,right\ndense 2\nsigmoid\n"};
  static float left[COUNT * VALUES], right[COUNT * VALUES], targets[COUNT * 2];
  const float *inputs[2] = {left, right};
  for (int t = 0; t < LENGTH(texts); t++) {
    cn_network *net = must_parse(texts[t]);
    cn_trainer *trainer = must_train(net, COUNT, NULL);
    cn_batch batch = {0};
    batch.count = COUNT, batch.all_inputs = inputs, batch.targets = targets;
    must_step(trainer, &batch);
    for (int i = 0; i < 5; i++) {
      targets[2 * i + i % 2] = special(i);
      assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "target");
      targets[2 * i + i % 2] = 0;
      right[4 * i + i % 4] = special(i);
      assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "for right");
      right[4 * i + i % 4] = 0;
    }
    must_step(trainer, &batch);
    cn_trainer_free(trainer);
    cn_network_free(net);
  }
}

/* y = w x with x large: the loss, in double, is finite where the gradient (y - t) x is not, or
   where its square, which an optimiser keeps, would not be. */
static void gradients_are_checked(void **state) {
  (void)state;
  static const cn_optimizer optimizers[] = {CN_ADAM, CN_ADAMW, CN_SGD, CN_ADAGRAD};
  static const float sizes[] = {1e25f, 1.7e19f, 1e15f, 1e10f};
  for (int i = 0; i < LENGTH(optimizers); i++) {
    for (int j = 0; j < LENGTH(sizes); j++) {
      for (int clipped = 0; clipped < 2; clipped++) {
        cn_training_options options = cn_training_defaults();
        cn_network *net = must_parse("input 1x1x1\ndense 1 init=constant:1\nscale 1\n");
        float x = 1, t = 0;
        cn_batch batch = {0};
        options.optimizer = optimizers[i], options.clip_norm = clipped ? 1e-3f : 0;
        options.momentum = 0.9f;
        cn_trainer *trainer = must_train(net, 1, &options);
        batch.count = 1, batch.inputs = &x, batch.targets = &t;
        must_step(trainer, &batch);
        x = sizes[j];
        if (j == 0 || (j < 3 && !clipped)) {
          assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "gradient of dense1.weight");
        } else if (clipped) { /* to 0.001, and not to nothing */
          float before = cn_network_parameter(net, 0).values[0];
          must_step(trainer, &batch);
          float g = *cn_trainer_gradient(trainer, 0);
          float after = cn_network_parameter(net, 0).values[0];
          assert_near("a clipped gradient", (double)g, 1e-3, 1e-5);
          assert_true(after < before && after > before - 0.1f);
        }
        for (int k = 0; k < cn_network_parameter_count(net); k++)
          assert_true(fabsf(cn_network_parameter(net, k).values[0]) <= FLT_MAX);
        cn_trainer_free(trainer);
        cn_network_free(net);
      }
    }
  }
}

/* What an own optimiser gets is finite, and nothing moves where it would not be. */
static void gradients_alone_are_checked(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x1\ndense 1 init=constant:1\nscale 1\n");
  cn_trainer *trainer = must_train(net, 1, NULL);
  float x = 1e25f, t = 0;
  cn_batch batch = {0};
  cn_error error;
  batch.count = 1, batch.inputs = &x, batch.targets = &t;
  assert_int_equal(cn_train_gradients(trainer, &batch, NULL, &error), CN_ERROR_NUMERIC);
  x = 1e15f; /* which may be clipped */
  assert_int_equal(cn_train_gradients(trainer, &batch, NULL, &error), CN_OK);
  x = special(0);
  assert_int_equal(cn_train_gradients(trainer, &batch, NULL, &error), CN_ERROR_NUMERIC);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

typedef struct hook_plan {
  int refuses, spoils; /* spoils: which special value and where, or -1 */
} hook_plan;

static int hook(float *gradients, size_t count, void *user) {
  const hook_plan *plan = (const hook_plan *)user;
  if (plan->spoils >= 0) gradients[plan->spoils % 2 ? 0 : 16] = special(plan->spoils);
  return count > 0 && plan->refuses;
}

/* Whatever makes a step fail, nothing has changed: with running figures and steps done. */
static void refused_steps_change_nothing(void **state) {
  (void)state;
  enum { COUNT = 8 };
  static float images[COUNT * 36];
  int labels[COUNT];
  hook_plan plan = {0, -1};
  cn_training_options options = cn_training_defaults();
  cn_network *net = must_parse("input 6x6x1\nconv 4 3x3\nbatchnorm\nrelu\ndense 3\nsoftmax\n");
  cn_batch batch = {0};
  options.gradient_hook = hook, options.hook_user = &plan;
  options.schedule = CN_SCHEDULE_STEP, options.decay_steps = 3, options.gamma = 1e30f;
  cn_trainer *trainer = must_train(net, COUNT, &options);
  fill_random(images, COUNT * 36, 3);
  fill_labels(labels, COUNT, 3, 4);
  batch.count = COUNT, batch.inputs = images, batch.labels = labels;
  must_step(trainer, &batch);
  plan.refuses = 1;
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "hook");
  plan.refuses = 0;
  for (plan.spoils = 0; plan.spoils < 5; plan.spoils++) /* weights' and bias' gradients */
    assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "gradient of conv1.");
  plan.spoils = -1;
  for (int i = 0; i < 5; i++) {
    cn_trainer_set_learning_rate(trainer, special(i));
    assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "learning rate");
  }
  cn_trainer_set_learning_rate(trainer, 1e30f);
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "learning rate");
  cn_trainer_set_learning_rate(trainer, 0.001f);
  labels[2] = 3;
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "label 3 of image 2");
  labels[2] = 2;
  for (int i = 0; i < 5; i++) {
    float *weight = find_parameter(net, "dense1.weight").values, kept = *weight;
    *weight = special(i);
    cn_network_touch(net);
    assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "the loss is not a finite number at step 2");
    *weight = kept;
    cn_network_touch(net);
  }
  float was = images[5];
  images[5] = 1e38f; /* its square, and so a variance, is infinite */
  assert_refused(trainer, &batch, CN_ERROR_NUMERIC, "is not a finite number at step 2");
  images[5] = was;
  must_step(trainer, &batch);
  must_step(trainer, &batch);
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "learning rate"); /* times gamma */
  assert_int_equal(cn_trainer_steps(trainer), 3);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

/* One value a channel has no spread: batch normalisation would learn from its shift alone. */
static void one_row_has_no_statistics(void **state) {
  (void)state;
  static const char text[] = "input 4x4x2\nconv 3 3x3 pad=1\nwide: batchnorm\nrelu\nmeanpool 4x4\n"
                             "narrow: batchnorm\nrelu\ndense 2\nsoftmax\n";
  static const int labels[] = {0, 1};
  static float images[2 * 32];
  cn_network *net = must_parse(text);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_batch batch = {0};
  fill_random(images, LENGTH(images), 6);
  batch.count = 1, batch.inputs = images, batch.labels = labels;
  assert_null(cn_trainer_create(net, 1, NULL, &error));
  assert_int_equal(error.status, CN_ERROR_ARGUMENT);
  assert_contains(error.message, "narrow, a batch normalisation, sees 1 value a channel");
  assert_int_equal(cn_trainer_size(net, 1, NULL, &error), 0);
  cn_trainer *trainer = must_train(net, 2, NULL);
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "narrow, a batch normalisation");
  assert_int_equal(cn_train_gradients(trainer, &batch, NULL, &error), CN_ERROR_ARGUMENT);
  batch.count = 2;
  must_step(trainer, &batch);
  batch.count = 1;
  assert_refused(trainer, &batch, CN_ERROR_ARGUMENT, "narrow, a batch normalisation");
  cn_trainer_free(trainer);
  assert_int_equal(cn_network_freeze_named(net, "narrow"),
                   1); /* then its figures are those of before */
  trainer = must_train(net, 1, NULL);
  must_step(trainer, &batch);
  cn_trainer_free(trainer);
  cn_network_free(net);
  net = must_parse("input 1x2x2\nbatchnorm\ndense 2\nsoftmax\n"); /* two rows in one image */
  trainer = must_train(net, 1, NULL);
  must_step(trainer, &batch);
  cn_trainer_free(trainer);
  cn_network_free(net);
}

static void options_are_finite(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x1\ndense 1\n");
  cn_error error;
  for (int i = 0; i < 5; i++) {
    for (int which = 0; which < 8; which++) {
      cn_training_options options = cn_training_defaults();
      float *fields[] = {
          &options.learning_rate, &options.momentum, &options.beta1, &options.beta2,
          &options.epsilon,       &options.decay,    &options.l1,    &options.clip_norm};
      *fields[which] = special(i);
      assert_null(cn_trainer_create(net, 1, &options, &error));
      assert_int_equal(error.status, CN_ERROR_ARGUMENT);
    }
  }
  cn_network_free(net);
}

/* A loss that is no number is never the best but for want of another. */
static void early_stopping_wants_numbers(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) {
    cn_early_stopping stopping = {2, 0, 0, 0};
    assert_int_equal(cn_early_stopping_check(&stopping, (double)special(i)), 1);
    assert_int_equal(cn_early_stopping_check(&stopping, (double)special(i + 1)), 0);
    assert_int_equal(cn_early_stopping_check(&stopping, 5), 1);
    assert_int_equal(cn_early_stopping_check(&stopping, (double)special(i)), 0);
    assert_int_equal(cn_early_stopping_check(&stopping, (double)special(i)), -1);
    assert_int_equal(stopping.best_check, 3);
  }
}

#ifndef FAST_MATH /* which clang's -ffast-math does not promise of a single kernel */
/* Logits that are no numbers do not make a finite loss. */
static void losses_hide_nothing(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    float logits[3] = {1, 2, 3}, targets[3] = {0, 1, 0}, gradient[3];
    int label = 1;
    uint64_t bits;
    logits[i] = special(0);
    double loss[3] = {cn_softmax_loss(logits, &label, NULL, 3, 1, NULL, gradient, 0, 1),
                      cn_sigmoid_loss(logits, targets, 3, 1, NULL, gradient, 0, 1),
                      cn_squared_loss(logits, targets, 3, 1, gradient, 0, 1)};
    for (int j = 0; j < 3; j++) {
      memcpy(&bits, &loss[j], sizeof bits);
      assert_true((bits >> 52 & 0x7FF) == 0x7FF);
    }
  }
}
#endif

/* ---- subnormal numbers ----------------------------------------------------------------------- */

/* x * 1e-30 * 1e20: 0 where what stands between them is taken for 0. */
static void subnormals_count_as_zero(void **state) {
  (void)state;
  static const char *const texts[] = {
      "input 1x1x1\nscale 1e-30\nscale 1e20\n",
      "input 1x1x1\ndense 1 bias=no init=constant:1e-30\nscale 1e20\n",
      "input 1x1x1\nscale 1e-30\ndense 2 init=constant:1e20\n",
      "input 3x3x1\nconv 2 3x3 init=constant:1e-30\nmaxpool 1x1\nconv 1 1x1 init=constant:1e20\n"};
#if defined(__SSE2__) || defined(__aarch64__)
  const int flushed = 1;
#else
  const int flushed = 0;
#endif
  float x[9];
  for (int i = 0; i < 9; i++) x[i] = 1e-10f;
  for (int isa = CN_ISA_SCALAR; isa <= CN_ISA_AVX512; isa++) {
    if (cn_isa_limit((cn_isa)isa) != (cn_isa)isa) continue;
    for (int i = 0; i < LENGTH(texts); i++) {
      cn_network *net = must_parse(texts[i]);
      cn_predictor *predictor = must_predict(net, 1, NULL);
      volatile float small = 1e-30f;
      float y[2] = {-1, -1};
      cn_predict(predictor, x, 1, y);
      assert_true(flushed ? y[0] == 0 : y[0] > 0);
#ifndef FAST_MATH                      /* which flushes in the whole program */
      assert_true(small * 1e-10f > 0); /* as before */
#else
      (void)small;
#endif
      cn_predictor_free(predictor);
      cn_network_free(net);
    }
  }
  cn_isa_limit(CN_ISA_AVX512);
}

/* ---- poolings that see nothing --------------------------------------------------------------- */

/* Whether a position along one side has no tap in 0 .. size - 1, by looking at every tap. */
static int sees_nothing(int size, int window, int stride, int dilation, int pad, int positions) {
  for (int i = 0; i < positions; i++) {
    int seen = 0;
    for (int tap = 0; tap < window; tap++) {
      int at = i * stride - pad + tap * dilation;
      seen |= at >= 0 && at < size;
    }
    if (!seen) return 1;
  }
  return 0;
}

static void every_pooling_sees_something(void **state) {
  (void)state;
  cn_random random = {7, 0};
  int refused = 0, taken = 0;
  for (int i = 0; i < 20000; i++) {
    int p[13];
    for (int j = 0; j < LENGTH(p); j++) p[j] = (int)cn_random_below(&random, 5);
    cn_pool2d pool = {{1, p[0] + 1, p[1] + 1, 1}, {0}, CN_POOL_MAX, 0.5f, 0};
    cn_window *w = &pool.window;
    cn_shape out;
    cn_error error;
    w->height = p[2] + 1, w->width = p[3] + 1, w->stride_y = p[4] + 1, w->stride_x = p[5] + 1;
    w->dilation_y = p[6] + 1, w->dilation_x = p[7] + 1;
    w->pad_top = p[8], w->pad_left = p[9], w->pad_bottom = p[10], w->pad_right = p[11];
    w->ceil = p[12] > 2;
    int rows = cn_window_positions(p[0] + 1, w->height, w->stride_y, w->dilation_y, w->pad_top,
                                   w->pad_bottom, w->ceil);
    int columns = cn_window_positions(p[1] + 1, w->width, w->stride_x, w->dilation_x, w->pad_left,
                                      w->pad_right, w->ceil);
    int fits = rows > 0 && columns > 0;
    int blind = sees_nothing(p[0] + 1, w->height, w->stride_y, w->dilation_y, w->pad_top, rows) ||
                sees_nothing(p[1] + 1, w->width, w->stride_x, w->dilation_x, w->pad_left, columns);
    for (int kind = CN_POOL_MAX; kind <= CN_POOL_MIX; kind++) {
      pool.kind = (cn_pool_kind)kind, pool.count_padding = i % 2;
      cn_status status = cn_pool2d_output(&pool, &out, &error);
      assert_int_equal(status, fits && !blind ? CN_OK : CN_ERROR_SHAPE);
      if (fits && blind) assert_contains(error.message, "nothing");
      if (status) continue;
      float x[25], y[25 * 25]; /* of threes: so are all maxima and means inside */
      for (int j = 0; j < 25; j++) x[j] = 3;
      assert_true(out.height * out.width <= 625);
      cn_pool2d_forward(&pool, x, y, 0, 1);
      for (int j = 0; j < out.height * out.width; j++)
        if (kind == CN_POOL_MAX || kind == CN_POOL_MIN || (kind == CN_POOL_MEAN && i % 2 == 0))
          assert_near("a pooled three", (double)y[j], 3, 1e-6);
    }
    refused += fits && blind, taken += fits && !blind;
  }
  assert_true(refused > 1000 && taken > 1000);
}

/* What PyTorch takes, and what networks of the literature do. */
static void common_poolings_are_taken(void **state) {
  (void)state;
  static const char *const nodes[] = {
      "maxpool 2x2",
      "maxpool 3x3 stride=2",
      "maxpool 3x3 stride=2 pad=1",
      "maxpool 3x3 stride=2 ceil=yes",
      "maxpool 3x3 stride=1 pad=1",
      "maxpool 3x3 stride=2 pad=1 ceil=yes",
      "maxpool 2x2 stride=2 ceil=yes",
      "maxpool 3x3 stride=2 pad=0,0,1,1",
      "maxpool 2x2 stride=2 pad=1",
      "maxpool 5x5 stride=1 pad=2",
      "maxpool 13x13 stride=1 pad=6",
      "maxpool 3x3 stride=1 pad=2 dilation=2",
      "maxpool 3x3 stride=2 pad=1 dilation=3 ceil=yes",
      "meanpool 3x3 stride=1 pad=1",
      "meanpool 3x3 stride=1 pad=1 count=all",
      "meanpool 5x5 stride=3",
      "meanpool 7x7 stride=1",
      "minpool 3x3 stride=2 pad=1",
      "mixpool 3x3 stride=2 pad=1 mix=0.3",
      "maxpool 3x1 stride=2x1 pad=1,0,1,0",
  };
  for (int side = 13; side <= 16; side++) {
    for (int i = 0; i < LENGTH(nodes); i++) {
      char text[120];
      snprintf(text, sizeof text, "input %dx%dx3\n%s\n", side, side + 1, nodes[i]);
      cn_network_free(must_parse(text));
    }
  }
}

/* ---- sizes that no memory has ---------------------------------------------------------------- */

/* Of all magnitudes alike, and often the largest. */
static int any_size(cn_random *random) {
  const int bits = (int)cn_random_below(random, 17);
  return cn_random_below(random, 8) == 0 ? CN_MAX_DIMENSION
                                         : (int)cn_random_below(random, 1u << bits) + 1;
}

/* Half of the time what most convolutions have. */
static int some_option(cn_random *random, int common) {
  return cn_random_below(random, 2) ? common : any_size(random);
}

static cn_conv2d some_convolution(cn_random *random) {
  const int side = cn_random_below(random, 2) ? 3 : some_option(random, 1);
  cn_conv2d conv;
  cn_window *w = &conv.window;
  memset(&conv, 0, sizeof conv);
  conv.in.count = any_size(random), conv.in.height = any_size(random);
  conv.in.width = any_size(random), conv.in.channels = any_size(random);
  conv.filters = some_option(random, conv.in.channels);
  conv.groups = cn_random_below(random, 4) ? 1 : conv.in.channels;
  w->height = side, w->width = some_option(random, side);
  w->stride_y = some_option(random, 1), w->stride_x = some_option(random, 1);
  w->dilation_y = some_option(random, 1), w->dilation_x = some_option(random, 1);
  w->pad_top = some_option(random, 1) - 1, w->pad_left = some_option(random, 1) - 1;
  w->pad_bottom = some_option(random, 2) - 1, w->pad_right = some_option(random, 2) - 1;
  w->padding = (cn_padding)(cn_random_below(random, 4) ? 0 : cn_random_below(random, 3));
  if (cn_random_below(random, 2)) { /* what Winograd's transforms are for */
    memset(w, 0, sizeof *w);
    w->height = w->width = 3, conv.groups = 1;
    w->pad_top = w->pad_left = w->pad_bottom = w->pad_right = (int)cn_random_below(random, 2);
  }
  conv.relu = (int)cn_random_below(random, 2), conv.pool = (int)cn_random_below(random, 2);
  conv.math = (cn_math)cn_random_below(random, 4), conv.alone = cn_random_below(random, 8) == 0;
  return conv;
}

/* Fewer than a size must hold at least; the products in floating point, which do not wrap. */
static void assert_at_least(const char *what, size_t got, double least) {
  if ((double)got < least * 0.999999 && got < SIZE_MAX / 8)
    fail_msg("%s: %zu are too few for %.0f", what, got, least);
}

static void sizes_of_convolutions_do_not_wrap(void **state) {
  (void)state;
  cn_random random = {11, 0};
  int taken = 0, tried = 0, scarce = 0;
  for (int isa = CN_ISA_SCALAR; isa <= CN_ISA_AVX512; isa++) {
    if (cn_isa_limit((cn_isa)isa) != (cn_isa)isa) continue;
    for (int i = 0; i < 30000; i++) {
      cn_conv2d conv = some_convolution(&random);
      cn_shape out;
      cn_error error = {CN_OK, 0, 0, ""};
      tried++;
      cn_status status = cn_conv2d_output(&conv, &out, &error);
      if (status) {
        assert_true(status == CN_ERROR_SHAPE || status == CN_ERROR_ARGUMENT);
        assert_int_equal(error.status, status);
        continue;
      }
      taken++;
      double weights = (double)conv.window.height * conv.window.width * conv.in.channels /
                       (conv.groups ? conv.groups : 1) * conv.filters;
      assert_true(out.height > 0 && out.width > 0 && out.height <= CN_MAX_DIMENSION);
      assert_true((double)out.height * out.width * out.channels <= INT32_MAX);
      assert_int_equal(cn_conv2d_weight_count(&conv), (size_t)weights);
      for (int pass = CN_FORWARD; pass <= CN_BACKWARD_WEIGHTS; pass++) {
        int units = cn_conv2d_units(&conv, (cn_pass)pass);
        size_t workspace = cn_conv2d_workspace(&conv, (cn_pass)pass);
        assert_true(units > 0 && workspace > 0);
        assert_true(units < INT_MAX || workspace == SIZE_MAX);
        scarce += workspace > SIZE_MAX / 8;
        if (pass != CN_BACKWARD_WEIGHTS && conv.math == CN_MATH_DIRECT)
          assert_at_least("packed", cn_conv2d_packed_count(&conv, (cn_pass)pass), weights);
      }
      assert_at_least("partial", cn_conv2d_partial_count(&conv), weights);
      conv.window.padding = CN_PADDING_REPLICATE, conv.math = CN_MATH_DIRECT;
      if (cn_conv2d_output(&conv, &out, NULL) == CN_OK && !conv.pool && conv.window.height > 1)
        assert_at_least("workspace", cn_conv2d_workspace(&conv, CN_BACKWARD_INPUT),
                        4.0 * (conv.in.height + conv.window.pad_top + conv.window.pad_bottom) *
                            (conv.in.width + conv.window.pad_left + conv.window.pad_right) *
                            conv.in.channels);
    }
  }
  cn_isa_limit(CN_ISA_AVX512);
  assert_true(taken > tried / 20);
  if (sizeof(size_t) < 8) assert_true(scarce > 0);
}

static void sizes_of_poolings_are_bounded(void **state) {
  (void)state;
  cn_random random = {13, 0};
  int taken = 0;
  for (int i = 0; i < 100000; i++) {
    cn_conv2d conv = some_convolution(&random);
    cn_pool2d pool = {conv.in, conv.window, CN_POOL_MAX, 0.5f, 0};
    cn_shape out;
    pool.kind = (cn_pool_kind)cn_random_below(&random, 5);
    pool.window.ceil = (int)cn_random_below(&random, 2);
    if (cn_pool2d_output(&pool, &out, NULL)) continue;
    taken++;
    assert_true(out.height > 0 && out.height <= CN_MAX_DIMENSION);
    assert_true(out.width > 0 && out.width <= CN_MAX_DIMENSION);
    assert_true((double)out.height * out.width * out.channels <= INT32_MAX);
  }
  assert_true(taken > 1000);
}

/* Grants what is small: what a plan asks for is seen, and nobody has to have it. */
typedef struct ledger {
  size_t largest;
} ledger;

static void *note_and_refuse(size_t bytes, void *user) {
  ledger *l = (ledger *)user;
  if (bytes > l->largest) l->largest = bytes;
  return bytes > ((size_t)1 << 26) ? NULL : malloc(bytes);
}
static void release(void *memory, void *user) {
  (void)user;
  free(memory);
}

/* What a plan must hold at the least for an image: a large node's values. 0: there is no such
   network. */
static const struct {
  const char *text;
  double values;
} hostile_networks[] = {
    {"input 1x1x1\nmaxpool 1x1 stride=1 pad=0\ndense 65536\ndense 2\n", 65536},
    {"input 46000x46000x1\nrelu\nglobalmean\ndense 2\n", 46000.0 * 46000},
    {"input 46000x46000x1\nmaxpool 2x2 stride=1\ndense 1\n", 45999.0 * 45999},
    {"input 32768x65000x1\nmaxpool 1x1\nbatchnorm\nglobalmean\ndense 1\n", 32768.0 * 65000},
    {"input 1024x1024x4\nmaxpool 1x1\ndense 1\n", 1024.0 * 1024 * 4},
    {"input 1x65536x1\nconv 32767 1x1\nglobalmean\n", 65536.0 * 32767},
    {"input 512x512x16\nconv 16 3x3 pad=1\nrelu\nconv 16 3x3 pad=1\nadaptivemean 512x512\n",
     512.0 * 512 * 16},
    {"input 8x8x1\nadaptivemean 46340x46340\nadd from=input,adaptivemean1\n", 0},
    {"input 8x8x1\nadaptivemean 46340x46340\nrelu\nglobalmean\n", 46340.0 * 46340},
    {"input 65536x65536x1\nmaxpool 1x1\n", 0},
    {"input 1x1x65536\nadaptivemean 65536x1\n", 0},
    {"input 40000x40000x1\nmaxpool 2x2 stride=1 pad=1\nmaxpool 2x2 stride=1 pad=1\ndense 1\n",
     40001.0 * 40001},
    {"input 46340x46340x1\nmaxpool 2x2 stride=1 pad=1\ndense 1\n", 0},
    {"input 65536x1x1\nmaxpool 2x1 stride=1 pad=1,0,1,0\n", 0},
    {"input 65536x1x1\nconv 1 2x1 pad=1,0,1,0\n", 0},
    {"input 65536x8x8\nconv 8 3x3 pad=1\nconv 8 3x3 pad=1\nglobalmean\n", 65536.0 * 64},
    {"input 4096x4096x8\nconv 8 3x3 pad=1\nconv 8 3x3 pad=1\nglobalmean\n", 4096.0 * 4096 * 8},
};

static void plans_hold_what_they_promise(void **state) {
  (void)state;
  static const int counts[] = {1, 2, 255, 256, 4096, 16384, 65536};
  int refused = 0, sized = 0;
  for (int i = 0; i < LENGTH(hostile_networks); i++) {
    ledger seen = {0};
    cn_allocator allocator = {note_and_refuse, release, &seen};
    cn_error error = {CN_OK, 0, 0, ""};
    cn_network *net = cn_network_create_with(&allocator, &error);
    const double values = hostile_networks[i].values;
    cn_status status = cn_network_add_text(net, hostile_networks[i].text, &error);
    if (values == 0) assert_true(status == CN_ERROR_SHAPE || status == CN_ERROR_ARGUMENT);
    /* more weights than are granted, or one image's values than there are addresses */
    if (values > 0 && status != CN_OK)
      assert_true(status == CN_ERROR_MEMORY || (sizeof(size_t) < 8 && values > 5e8));
    for (int j = 0; status == CN_OK && j < LENGTH(counts); j++) {
      for (int training = 0; training < 2; training++) {
        cn_predict_options predict;
        cn_training_options train = cn_training_defaults();
        memset(&predict, 0, sizeof predict);
        predict.threads = train.threads = 1;
        size_t bytes = training ? cn_trainer_size(net, counts[j], &train, &error)
                                : cn_predictor_size(net, counts[j], &predict, &error);
        double least = 4 * values * counts[j];
        if (bytes == 0) {
          if (error.status == CN_ERROR_ARGUMENT) continue; /* nothing to train */
          assert_int_equal(error.status, CN_ERROR_MEMORY);
          assert_true(sizeof(size_t) < 8 || least > 1e12);
          refused++;
        } else {
          assert_at_least(hostile_networks[i].text, bytes, least);
          sized++;
        }
        /* and the same is asked for, or refused, when it is made */
        seen.largest = 0;
        if (training) {
          cn_trainer *trainer = cn_trainer_create(net, counts[j], &train, &error);
          if (trainer) assert_true((double)cn_trainer_bytes(trainer) >= least);
          if (!trainer) assert_int_equal(error.status, CN_ERROR_MEMORY);
          cn_trainer_free(trainer);
        } else {
          cn_predictor *predictor = cn_predictor_create(net, counts[j], &predict, &error);
          if (predictor) assert_true((double)cn_predictor_bytes(predictor) >= least);
          if (!predictor) assert_int_equal(error.status, CN_ERROR_MEMORY);
          cn_predictor_free(predictor);
        }
        if (bytes && bytes < SIZE_MAX / 4)
          assert_true((double)seen.largest >= least || seen.largest + 4096 >= bytes / 2);
      }
    }
    cn_network_free(net);
  }
  assert_true(sized > 20 && refused > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_do_not_decide_roles),
      cmocka_unit_test(counters_belong_to_batch_norms),
      cmocka_unit_test(batches_are_checked),
      cmocka_unit_test(targets_are_checked),
      cmocka_unit_test(gradients_are_checked),
      cmocka_unit_test(gradients_alone_are_checked),
      cmocka_unit_test(refused_steps_change_nothing),
      cmocka_unit_test(one_row_has_no_statistics),
      cmocka_unit_test(options_are_finite),
      cmocka_unit_test(early_stopping_wants_numbers),
      cmocka_unit_test(subnormals_count_as_zero),
      cmocka_unit_test(every_pooling_sees_something),
      cmocka_unit_test(common_poolings_are_taken),
      cmocka_unit_test(sizes_of_convolutions_do_not_wrap),
      cmocka_unit_test(sizes_of_poolings_are_bounded),
      cmocka_unit_test(plans_hold_what_they_promise),
#ifndef FAST_MATH
      cmocka_unit_test(losses_hide_nothing),
#endif
  };
  return cmocka_run_group_tests_name("guards", tests, NULL, NULL);
}
