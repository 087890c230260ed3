/* What tests/compilers.sh builds with every compiler, for every target: trains a small network that has
   most kinds of layers, predicts, saves and loads, and holds gradients against differences. The last
   line on stdout is "ISA LOSS WEIGHTS": the loss of the last step and a checksum of the trained
   weights' bits, which is the same wherever the bytes are. C99 and C++11, and nothing of any
   operating system's. */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

enum { batch_size = 16, side = 14, pixels = side * side, classes = 4, steps = 30 };

static const char text[] = "input 14x14x1\n"
                           "conv 8 3x3 pad=1\n"
                           "relu\n"
                           "maxpool 2x2\n"
                           "stem: conv 12 3x3 pad=1\n"
                           "batchnorm\n"
                           "relu\n"
                           "body: conv 12 3x3 pad=1\n"
                           "add from=stem,body\n"
                           "conv 6 3x2 stride=2 groups=3\n"
                           "tanh\n"
                           "meanpool 2x2 stride=1\n"
                           "dense 20\n"
                           "relu\n"
                           "dropout 0.2\n"
                           "dense 4\n"
                           "softmax\n";

extern int tally_works(void);

static int failed(const char *what) {
  printf("failed: %s\n", what);
  return 1;
}

/* A stroke, upright or level, in the first or the second half of the picture, among noise. */
static void draw(cn_random *random, float *images, int *labels) {
  int i, p;
  for (i = 0; i < batch_size; i++, images += pixels) {
    const int label = (int)cn_random_below(random, classes);
    const int at = (int)cn_random_below(random, side / 2) + (label & 1) * (side / 2);
    for (p = 0; p < pixels; p++)
      images[p] = ((label & 2 ? p / side : p % side) == at ? 1.0f : 0.0f) +
                  0.25f * cn_random_uniform(random);
    labels[i] = label;
  }
}

/* FNV-1a over the bits of all parameters, whatever the order of bytes in memory. */
static uint64_t checksum(const cn_network *net) {
  uint64_t sum = 0xCBF29CE484222325u;
  int t, byte;
  for (t = 0; t < cn_network_parameter_count(net); t++) {
    const cn_parameter p = cn_network_parameter(net, t);
    size_t i;
    for (i = 0; i < p.count; i++) {
      uint32_t bits;
      memcpy(&bits, p.values + i, sizeof bits);
      for (byte = 0; byte < 4; byte++) sum = (sum ^ (bits >> 8 * byte & 255)) * 0x100000001B3u;
    }
  }
  return sum;
}

static int train(cn_network *net, double *loss) {
  static float images[batch_size * pixels];
  int labels[batch_size], step;
  cn_error error;
  cn_random random = {7, 0};
  cn_metrics metrics = {0, 0};
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer;
  cn_batch batch;
  double first = 0;
  options.threads = 2;
  options.learning_rate = 0.01f;
  trainer = cn_trainer_create(net, batch_size, &options, &error);
  if (!trainer) return failed(error.message);
  memset(&batch, 0, sizeof batch);
  batch.count = batch_size, batch.inputs = images, batch.labels = labels;
  for (step = 0; step < steps; step++) {
    draw(&random, images, labels);
    if (cn_train_step(trainer, &batch, &metrics, &error) != CN_OK) return failed(error.message);
    if (step == 0) first = metrics.loss;
  }
  cn_trainer_free(trainer);
  *loss = metrics.loss;
  return metrics.loss < 0.7 * first ? 0 : failed("the loss does not fall");
}

static int predict(cn_network *net, float *outputs) {
  static float images[batch_size * pixels];
  int labels[batch_size], i, c;
  cn_error error;
  cn_random random = {8, 0};
  cn_predict_options options;
  cn_predictor *predictor;
  memset(&options, 0, sizeof options);
  options.threads = 2;
  predictor = cn_predictor_create(net, batch_size, &options, &error);
  if (!predictor) return failed(error.message);
  draw(&random, images, labels);
  cn_predict(predictor, images, batch_size, outputs);
  cn_predictor_free(predictor);
  for (i = 0; i < batch_size; i++) {
    double sum = 0;
    for (c = 0; c < classes; c++) sum += (double)outputs[i * classes + c];
    if (!(fabs(sum - 1) < 1e-5)) return failed("probabilities do not add up to 1");
  }
  return 0;
}

static int loads(cn_network *loaded, const float *outputs, const cn_error *error) {
  float again[batch_size * classes];
  int result;
  if (!loaded) return failed(error->message);
  result = predict(loaded, again);
  if (!result && memcmp(again, outputs, sizeof again) != 0)
    result = failed("a loaded network predicts otherwise");
  cn_network_free(loaded);
  return result;
}

/* The last values of a model's bytes are those of its last tensor, the lowest byte of each first on
   machines of any kind. */
static int save_to_memory(cn_network *net, const float *outputs) {
  const cn_parameter last = cn_network_parameter(net, cn_network_parameter_count(net) - 1);
  cn_error error;
  const size_t size = cn_save_memory(net, NULL, 0, &error);
  unsigned char *bytes = (unsigned char *)malloc(size + 1), *at = bytes + size - 4 * last.count;
  size_t i;
  int result, byte;
  if (!bytes || !size || cn_save_memory(net, bytes, size, &error) != size)
    return failed("a model is not saved to memory");
  for (i = 0; i < last.count; i++) {
    uint32_t bits;
    memcpy(&bits, last.values + i, sizeof bits);
    for (byte = 0; byte < 4; byte++, at++)
      if (*at != (bits >> 8 * byte & 255)) return failed("a model's bytes are in another order");
  }
  result = loads(cn_load_memory(bytes, size, &error), outputs, &error);
  free(bytes);
  return result;
}

/* Twice, because a file that is there already is to be replaced. */
static int save_and_load(cn_network *net, const float *outputs) {
#ifndef CONVNET_NO_FILES
  static const char path[] = "compilers.safetensors";
  cn_error error;
  int result;
  if (cn_save(net, path, &error) != CN_OK || cn_save(net, path, &error) != CN_OK)
    return failed(error.message);
  result = loads(cn_load(path, &error), outputs, &error);
  remove(path);
  if (!cn_load("no such file", &error) && error.status != CN_ERROR_IO)
    return failed("a missing file is not an error of input");
  return result;
#else
  (void)net, (void)outputs;
  return 0;
#endif
}

/* A few gradients of the loss against central differences. */
static int check_gradients(cn_network *net) {
  static float images[batch_size * pixels];
  int labels[batch_size], t;
  cn_error error;
  cn_random random = {9, 0};
  cn_metrics metrics;
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = cn_trainer_create(net, batch_size, &options, &error);
  cn_batch batch;
  if (!trainer) return failed(error.message);
  draw(&random, images, labels);
  memset(&batch, 0, sizeof batch);
  batch.count = batch_size, batch.inputs = images, batch.labels = labels;
  for (t = 0; t < cn_network_parameter_count(net); t++) {
    const cn_parameter p = cn_network_parameter(net, t);
    const float step = 1e-3f;
    const float kept = p.values[p.count / 2];
    double loss[2], got, want;
    int side_of;
    if (!p.trained) continue;
    if (cn_train_gradients(trainer, &batch, &metrics, &error) != CN_OK)
      return failed(error.message);
    got = (double)cn_trainer_gradient(trainer, t)[p.count / 2];
    for (side_of = 0; side_of < 2; side_of++) {
      p.values[p.count / 2] = side_of ? kept + step : kept - step;
      cn_network_touch(net);
      if (cn_train_gradients(trainer, &batch, &metrics, &error) != CN_OK)
        return failed(error.message);
      loss[side_of] = metrics.loss;
    }
    p.values[p.count / 2] = kept;
    cn_network_touch(net);
    want = (loss[1] - loss[0]) / (2 * (double)step);
    if (!(fabs(got - want) <= 2e-3 + 0.05 * fabs(want))) {
      printf("%s: gradient %g, differences %g\n", p.name, got, want);
      return failed("a gradient is wrong");
    }
  }
  cn_trainer_free(trainer);
  return 0;
}

int main(void) {
  float outputs[batch_size * classes];
  double loss = 0;
  uint64_t sum;
  cn_error error;
  cn_network *net = cn_network_parse(text, &error);
  if (!net) return failed(error.message);
  if (train(net, &loss)) return 1;
  sum = checksum(net);
  if (predict(net, outputs) || save_to_memory(net, outputs) || save_and_load(net, outputs) ||
      check_gradients(net))
    return 1;
  cn_network_free(net);
  if (!tally_works()) return failed("tally.h");
  printf("%s %.6f %08lx%08lx\n", cn_isa_name(), loss, (unsigned long)(sum >> 32),
         (unsigned long)(sum & 0xFFFFFFFFu));
  return 0;
}
