/* What several test programs share: cmocka with what it needs, and comparisons that say where they
   failed. Include it after convnet.h. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fails unless every |got - want| <= bound * the largest |want|, or least if that is larger. NaN fails. */
static inline void assert_close(const char *what, const float *got, const double *want,
                                size_t count, double bound, double least) {
  double scale = least;
  for (size_t i = 0; i < count; i++) scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
  for (size_t i = 0; i < count; i++)
    if (!(fabs((double)got[i] - want[i]) <= bound * scale))
      fail_msg("%s: value %zu is %.9g, should be %.9g; off by %.3g of %.3g, allowed %.3g", what, i,
               (double)got[i], want[i], fabs((double)got[i] - want[i]) / scale, scale, bound);
}

static inline void assert_near(const char *what, double got, double want, double relative) {
  if (!(fabs(got - want) <= relative * fabs(want)))
    fail_msg("%s is %.9g, should be %.9g within %.3g", what, got, want, relative);
}

static inline void assert_contains(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("\"%s\" does not contain \"%s\"", text, part);
}

/* Uniform in [-1, 1). */
static inline void fill_random(float *values, size_t count, uint64_t seed) {
  cn_random random = {0, 0};
  random.seed = seed;
  for (size_t i = 0; i < count; i++) values[i] = 2 * cn_random_uniform(&random) - 1;
}

static inline void fill_labels(int *labels, int count, int classes, uint64_t seed) {
  cn_random random = {0, 0};
  random.seed = seed;
  for (int i = 0; i < count; i++) labels[i] = (int)cn_random_below(&random, (uint32_t)classes);
}

/* A network from text that must parse. */
static inline cn_network *must_parse(const char *text) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_network_parse(text, &error);
  if (!net) fail_msg("%d:%d: %s", error.line, error.column, error.message);
  return net;
}

static inline cn_trainer *must_train(cn_network *net, int max_count,
                                     const cn_training_options *options) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_trainer *trainer = cn_trainer_create(net, max_count, options, &error);
  if (!trainer) fail_msg("%s", error.message);
  return trainer;
}

static inline double must_step(cn_trainer *trainer, const cn_batch *batch) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_metrics metrics;
  if (cn_train_step(trainer, batch, &metrics, &error) != CN_OK) fail_msg("%s", error.message);
  return metrics.loss;
}

static inline cn_predictor *must_predict(cn_network *net, int max_count,
                                         const cn_predict_options *options) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_predictor *predictor = cn_predictor_create(net, max_count, options, &error);
  if (!predictor) fail_msg("%s", error.message);
  return predictor;
}

/* All parameter values of a network, one after another; freed by the caller. */
static inline float *copy_parameters(const cn_network *net, size_t *count) {
  size_t total = 0;
  for (int i = 0; i < cn_network_parameter_count(net); i++)
    total += cn_network_parameter(net, i).count;
  float *all = (float *)malloc((total + 1) * sizeof(float));
  assert_non_null(all);
  size_t done = 0;
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter parameter = cn_network_parameter(net, i);
    memcpy(all + done, parameter.values, parameter.count * sizeof(float));
    done += parameter.count;
  }
  *count = total;
  return all;
}

static inline void assert_same_parameters(const cn_network *a, const cn_network *b) {
  size_t a_count, b_count;
  float *a_values = copy_parameters(a, &a_count), *b_values = copy_parameters(b, &b_count);
  assert_int_equal(a_count, b_count);
  assert_memory_equal(a_values, b_values, a_count * sizeof(float));
  free(a_values);
  free(b_values);
}

#endif
