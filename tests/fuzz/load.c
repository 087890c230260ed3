/* load.c - a network, weights for another one, and a trainer's checkpoint from any bytes. What is
   loaded is saved to bytes that load to the same; what is refused changes nothing. Runs: 8000. */
#include "convnet.h"

/* What weights and checkpoints are offered to. */
static const char text[] =
    "input 4x4x1\nconv 2 3x3 pad=1 bias=no\nbatchnorm\nrelu\ndense 2\nsoftmax\n";

static uint8_t *save(cn_network *net, size_t *size) {
  *size = cn_save_memory(net, NULL, 0, NULL);
  uint8_t *bytes = *size ? malloc(*size) : NULL;
  if (bytes) FUZZ_CHECK(cn_save_memory(net, bytes, *size, NULL) == *size);
  return bytes;
}

static void check_saved_same(cn_network *a, cn_network *b) {
  size_t a_size, b_size;
  uint8_t *a_bytes = save(a, &a_size), *b_bytes = save(b, &b_size);
  if (a_bytes && b_bytes) FUZZ_CHECK(a_size == b_size && !memcmp(a_bytes, b_bytes, a_size));
  free(a_bytes);
  free(b_bytes);
}

static void load_network(const uint8_t *data, size_t size) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_load_memory(data, size, &error);
  FUZZ_CHECK(net || (error.status != CN_OK && *error.message));
  if (!net) return;
  size_t saved_size;
  uint8_t *saved = save(net, &saved_size);
  cn_network *again = saved ? cn_load_memory(saved, saved_size, &error) : NULL;
  FUZZ_CHECK(again || !saved || error.status == CN_ERROR_MEMORY);
  if (again) check_saved_same(net, again);
  free(saved);
  cn_network_free(again);
  cn_network_free(net);
}

static void count_report(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  FUZZ_CHECK(kind <= CN_TENSOR_SHAPE && *tensor && *details);
  ++*(int *)user;
}

static void load_weights(const uint8_t *data, size_t size) {
  cn_network *net = cn_network_parse(text, NULL), *untouched = cn_network_parse(text, NULL);
  int reports = 0;
  const int all = cn_network_parameter_count(net);
  const int strict = cn_load_weights_memory(net, data, size, NULL, NULL, NULL);
  FUZZ_CHECK(strict == -1 || strict == all);
  if (strict < 0) check_saved_same(net, untouched);
  const int some = cn_load_weights_memory(net, data, size, count_report, &reports, NULL);
  FUZZ_CHECK(some <= all && (some < 0 || some == all || reports));
  if (some <= 0) check_saved_same(net, untouched);
  cn_network_free(net);
  cn_network_free(untouched);
}

static void load_checkpoint(const uint8_t *data, size_t size) {
  cn_network *net = cn_network_parse(text, NULL), *untouched = cn_network_parse(text, NULL);
  cn_training_options options = cn_training_defaults();
  cn_error error = {CN_OK, 0, 0, ""};
  options.threads = 1;
  cn_trainer *trainer = cn_trainer_create(net, 1, &options, &error);
  FUZZ_CHECK(trainer);
  const cn_status status = cn_trainer_load(trainer, fuzz_file(data, size), &error);
  if (status != CN_OK) {
    FUZZ_CHECK(status == error.status && *error.message);
    FUZZ_CHECK(cn_trainer_steps(trainer) == 0);
    check_saved_same(net, untouched);
  }
  cn_trainer_free(trainer);
  cn_network_free(net);
  cn_network_free(untouched);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_memory_limit = (size_t)4 << 20;
  load_network(data, size);
  load_weights(data, size);
  load_checkpoint(data, size);
  return 0;
}
