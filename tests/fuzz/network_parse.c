/* network_parse.c - cn_network_parse on any text. What parses has a canonical text that parses to
   itself; small networks also predict and learn, in memory full of garbage and full of zeros, to the
   same bytes. Runs: 6000. */
#include "convnet.h"

#define MOST_PRODUCTS 2e6 /* of a forward pass */
#define MOST_BYTES ((size_t)1 << 22)
#define IMAGES 2

/* The sum over nodes of what each does once for an image, at most. */
static double products_of(const cn_network *net) {
  double sum = 0;
  for (int i = 0; i < cn_network_node_count(net); i++) {
    const cn_node *node = cn_network_node(net, i);
    const cn_shape out = node->shape;
    double each = (double)node->window.height * node->window.width * (1 + node->input_count);
    if (node->op == CN_OP_CONV || node->op == CN_OP_DENSE) {
      const cn_shape in = cn_network_node(net, node->inputs[0])->shape;
      each =
          node->op == CN_OP_CONV ? each * in.channels : (double)in.height * in.width * in.channels;
    } else if (node->op == CN_OP_GLOBALMEAN || node->op == CN_OP_ADAPTIVEMEAN) {
      const cn_shape in = cn_network_node(net, node->inputs[0])->shape;
      each = (double)in.height * in.width;
    }
    sum += (each + 1) * out.height * out.width * out.channels;
  }
  return sum;
}

static size_t values_of(const cn_network *net, int node) {
  const cn_shape shape = cn_network_node(net, node)->shape;
  return (size_t)shape.height * (size_t)shape.width * (size_t)shape.channels;
}

/* The text in canonical form means the same network. */
static void check_text(cn_network *net) {
  const char *text = cn_network_text(net);
  if (!text) return; /* no memory for it */
  cn_error error;
  cn_network *again = cn_network_parse(text, &error);
  FUZZ_CHECK(again || error.status == CN_ERROR_MEMORY);
  const char *same = again ? cn_network_text(again) : NULL;
  FUZZ_CHECK(!same || !strcmp(text, same));
  cn_network_free(again);
}

typedef struct io { /* arrays for all inputs or outputs of a network */
  float *values[64];
  size_t counts[64]; /* for IMAGES images */
  int count;
} io;

/* Values of no pattern between -1 and 1. */
static int io_make(io *to, const cn_network *net, int (*node_of)(const cn_network *, int)) {
  to->count = 0;
  for (int node; (node = node_of(net, to->count)) >= 0; to->count++) {
    const size_t count = values_of(net, node) * IMAGES;
    if (to->count == 64 || !(to->values[to->count] = malloc(count * sizeof(float)))) return 0;
    to->counts[to->count] = count;
    for (size_t i = 0; i < count; i++)
      to->values[to->count][i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
  }
  return 1;
}

static void io_free(io *to) {
  for (int i = 0; i < to->count; i++) free(to->values[i]);
}

/* Outputs, and the gradients of half the sum of their squares. */
static void predict(cn_network *net, const io *inputs, io *outputs, io *gradients, int garbage) {
  cn_predict_options options = {.threads = 1, .gradients = 1};
  options.memory_bytes = cn_predictor_size(net, IMAGES, &options, NULL);
  if (!options.memory_bytes || options.memory_bytes > MOST_BYTES) return;
  options.memory = malloc(options.memory_bytes);
  if (!options.memory) return;
  memset(options.memory, garbage, options.memory_bytes);
  cn_predictor *predictor = cn_predictor_create(net, IMAGES, &options, NULL);
  if (predictor) {
    const float *const *in = (const float *const *)inputs->values;
    cn_predict_all(predictor, in, IMAGES, outputs->values);
    cn_input_gradient(predictor, in, IMAGES, (const float *const *)outputs->values, NULL,
                      gradients->values, NULL);
  }
  cn_predictor_free(predictor);
  free(options.memory);
}

static void check_same(const io *a, const io *b) {
  for (int i = 0; i < a->count; i++)
    FUZZ_CHECK(!memcmp(a->values[i], b->values[i], a->counts[i] * sizeof(float)));
}

static void check_predictions(cn_network *net, const io *inputs) {
  io outputs[2], gradients[2];
  int made = 1;
  for (int i = 0; i < 2; i++) {
    made &= io_make(&outputs[i], net, cn_network_output);
    made &= io_make(&gradients[i], net, cn_network_input);
  }
  if (made) {
    predict(net, inputs, &outputs[0], &gradients[0], 0xFF);
    predict(net, inputs, &outputs[1], &gradients[1], 0);
    check_same(&outputs[0], &outputs[1]);
    check_same(&gradients[0], &gradients[1]);
  }
  for (int i = 0; i < 2; i++) {
    io_free(&outputs[i]);
    io_free(&gradients[i]);
  }
}

/* A step, and what it makes of the parameters; 0 if it was refused. */
static int train(cn_network *net, const io *inputs, const io *targets, int garbage) {
  static const int labels[1 << 16];
  cn_truth truths[64] = {{NULL, NULL}};
  cn_training_options options = cn_training_defaults();
  options.threads = 1;
  options.memory_bytes = cn_trainer_size(net, IMAGES, &options, NULL);
  if (!options.memory_bytes || options.memory_bytes > MOST_BYTES) return 0;
  options.memory = malloc(options.memory_bytes);
  if (!options.memory) return 0;
  memset(options.memory, garbage, options.memory_bytes);
  cn_trainer *trainer = cn_trainer_create(net, IMAGES, &options, NULL);
  cn_batch batch = {.count = IMAGES, .truths = truths};
  batch.all_inputs = (const float *const *)inputs->values;
  for (int i = 0; i < targets->count; i++)
    truths[i] = (cn_truth){.labels = labels, .targets = targets->values[i]};
  const int done = trainer && cn_train_step(trainer, &batch, NULL, NULL) == CN_OK;
  cn_trainer_free(trainer);
  free(options.memory);
  return done;
}

static void check_training(cn_network *net, const io *inputs) {
  cn_network *same = cn_network_parse(cn_network_text(net), NULL);
  io targets;
  if (io_make(&targets, net, cn_network_output) && same) {
    const int done = train(net, inputs, &targets, 0xFF);
    FUZZ_CHECK(train(same, inputs, &targets, 0) == done);
    for (int i = 0; i < cn_network_parameter_count(net); i++) {
      const cn_parameter a = cn_network_parameter(net, i), b = cn_network_parameter(same, i);
      FUZZ_CHECK(!memcmp(a.values, b.values, a.count * sizeof(float)));
    }
  }
  io_free(&targets);
  cn_network_free(same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_memory_limit = (size_t)16 << 20;
  char *text = fuzz_text(data, size);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_network_parse(text, &error);
  free(text);
  FUZZ_CHECK(net ? error.status == CN_OK : error.status != CN_OK && *error.message);
  FUZZ_CHECK(error.status != CN_ERROR_SYNTAX || (error.line > 0 && error.column > 0));
  if (!net) return 0;
  check_text(net);
  if (products_of(net) <= MOST_PRODUCTS) {
    io inputs;
    if (io_make(&inputs, net, cn_network_input)) {
      check_predictions(net, &inputs);
      if (cn_network_text(net)) check_training(net, &inputs);
    }
    io_free(&inputs);
  }
  cn_network_free(net);
  return 0;
}
