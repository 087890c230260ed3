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

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_do_not_decide_roles),
      cmocka_unit_test(counters_belong_to_batch_norms),
  };
  return cmocka_run_group_tests_name("guards", tests, NULL, NULL);
}
