/* What must not pass: sizes that no memory has, numbers that are not finite, windows that see
   nothing, names that are taken for what they only resemble. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* mkstemp under -std=c99 */
#endif
#include "convnet.h"
#include "support.h"

#include <float.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static cn_parameter find_parameter(const cn_network *net, const char *name) {
  for (int i = 0; i < cn_network_parameter_count(net); i++)
    if (strcmp(cn_network_parameter(net, i).name, name) == 0) return cn_network_parameter(net, i);
  fail_msg("no parameter %s", name);
  return cn_network_parameter(net, -1);
}

/* ---- roles ------------------------------------------------------------------------------------ */

static void names_do_not_decide_roles(void **state) {
  (void)state;
  static const char *const names[] = {"block.weighted",  "a.weight",        "b.bias",
                                      "c.running_mean",  "d.running_var",   "num_batches_tracked",
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

/* ---- finite numbers ---------------------------------------------------------------------------- */

/* What is no number, and infinities; by their bits, as a library under test may be compiled for a world
   without them. */
static float special(int i) {
  static const uint32_t bits[] = {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0x7F800000u, 0xFF800000u};
  float value;
  memcpy(&value, &bits[i % LENGTH(bits)], sizeof value);
  return value;
}

/* All that a trainer keeps: weights, running figures, the optimiser's state and the number of steps. */
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

/* y = w x with x large: the loss, in double, is finite where the gradient (y - t) x is not, or where
   its square, which an optimiser keeps, would not be. */
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
          float g = *cn_trainer_gradient(trainer, 0), after = cn_network_parameter(net, 0).values[0];
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

/* Whatever makes a step fail, nothing has changed: with running figures, momentum, and steps done. */
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

static void options_are_finite(void **state) {
  (void)state;
  cn_network *net = must_parse("input 1x1x1\ndense 1\n");
  cn_error error;
  for (int i = 0; i < 5; i++) {
    for (int which = 0; which < 8; which++) {
      cn_training_options options = cn_training_defaults();
      float *fields[] = {&options.learning_rate, &options.momentum, &options.beta1, &options.beta2,
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_do_not_decide_roles),
      cmocka_unit_test(counters_belong_to_batch_norms),
      cmocka_unit_test(batches_are_checked),
      cmocka_unit_test(targets_are_checked),
      cmocka_unit_test(gradients_are_checked),
      cmocka_unit_test(gradients_alone_are_checked),
      cmocka_unit_test(refused_steps_change_nothing),
      cmocka_unit_test(options_are_finite),
      cmocka_unit_test(early_stopping_wants_numbers),
#ifndef FAST_MATH
      cmocka_unit_test(losses_hide_nothing),
#endif
  };
  return cmocka_run_group_tests_name("guards", tests, NULL, NULL);
}
