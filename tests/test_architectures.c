/* One network of each family against golden values that PyTorch computed in double precision, see
   networks/make_golden.py: logits in inference, loss and gradients in training. Weights follow a
   formula of name and place, so that only biases need to be stored. And what the memory of inference may be.
   `make test-networks` compares all networks, value by value. */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "support.h"

#define GOLDEN "tests/golden/networks.safetensors"
#define IMAGES 4
#define CLASSES 10

/* Logits: share of the largest one. Gradients: of their norm and of a projection, as a share of the
   norm. */
#define LOGITS_BOUND 1e-4
#define LOSS_BOUND 1e-4
#define GRADIENT_BOUND 1e-3

typedef struct opened {
  cn_network *net;
  cn_safetensors *golden;
  const char *network;
  float *inputs;
} opened;

static const float *golden_values(const opened *o, const char *what, size_t count) {
  char name[320];
  snprintf(name, sizeof name, "%s/%s", o->network, what);
  const cn_tensor *tensor = cn_safetensors_find(o->golden, name);
  if (!tensor || tensor->bytes != count * sizeof(float)) fail_msg("no golden %s", name);
  return (const float *)tensor->data;
}

static uint64_t hash_of(const char *name) { /* FNV-1a */
  uint64_t hash = 0xCBF29CE484222325u;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001B3u;
  return hash;
}

static cn_random numbers_of(const char *name) {
  cn_random random = {0, 0};
  random.seed = hash_of(name);
  return random;
}

static double signed_number(cn_random *random) {
  return 2 * (double)cn_random_uniform(random) - 1;
}

static int ends_in(const char *name, const char *ending) {
  size_t length = strlen(name), tail = strlen(ending);
  return length >= tail && strcmp(name + length - tail, ending) == 0;
}

/* The formula of make_golden.py, in PyTorch's order; biases are stored. */
static void fill_parameters(const opened *o) {
  cn_network *net = o->net;
  for (int i = 0; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    float *values = net->values + t->offset;
    cn_random random = numbers_of(t->name);
    int positive = ends_in(t->name, "weight") || ends_in(t->name, "running_var");
    double reach = sqrt(6.0 / (double)(t->count / (size_t)t->dims[0]));
    for (size_t k = 0; k < t->count; k++) {
      double number = signed_number(&random);
      values[cn_place_of_(net, t, k)] = (float)(t->rank > 1 ? number * reach
                                                : positive  ? 1 + 0.5 * number
                                                            : 0.2 * number);
    }
    if (ends_in(t->name, ".bias")) {
      char name[200];
      snprintf(name, sizeof name, "%s.value", t->name);
      memcpy(values, golden_values(o, name, t->count), t->count * sizeof(float));
    }
  }
  cn_network_touch(net);
}

/* Dropout off, dense layers of 4096 narrowed to 64. */
static void adapt(char *text) {
  for (char *at = text; (at = strstr(at, "dropout 0.")) != NULL;)
    for (at += strlen("dropout 0."); *at >= '0' && *at <= '9'; at++) *at = '0';
  for (char *at = text; (at = strstr(at, "dense 4096")) != NULL;) memcpy(at, "dense 64  ", 10);
}

static opened open_network(const char *network) {
  opened o = {NULL, NULL, network, NULL};
  char name[64], *text;
  cn_error error;
  o.golden = cn_safetensors_read(GOLDEN, &error);
  if (!o.golden) fail_msg("%s", error.message);
  const float *inputs = golden_values(&o, "inputs", 2);
  const int size = (int)inputs[1];
  cn_arch_options options = {size, size, 3, CLASSES, strchr(network, '+') != NULL};
  snprintf(name, sizeof name, "%.*s", (int)strcspn(network, "+"), network);
  size_t length = cn_arch_text(name, &options, NULL, 0, &error);
  if (!length) fail_msg("%s", error.message);
  text = (char *)malloc(length + 1);
  assert_non_null(text);
  cn_arch_text(name, &options, text, length + 1, &error);
  adapt(text);
  o.net = must_parse(text);
  free(text);
  fill_parameters(&o);
  size_t count = (size_t)IMAGES * (size_t)size * (size_t)size * 3;
  o.inputs = (float *)malloc(count * sizeof(float));
  assert_non_null(o.inputs);
  cn_random random = numbers_of("inputs");
  for (size_t i = 0; i < count; i++) o.inputs[i] = (float)signed_number(&random);
  return o;
}

static void close_network(opened *o) {
  cn_network_free(o->net);
  cn_safetensors_free(o->golden);
  free(o->inputs);
}

static void check_logits(const opened *o) {
  cn_predictor *predictor = must_predict(o->net, IMAGES, NULL);
  float outputs[IMAGES * CLASSES];
  double want[IMAGES * CLASSES];
  cn_predict(predictor, o->inputs, IMAGES, outputs);
  const float *logits = cn_predictor_feature_map(predictor, cn_network_node_count(o->net) - 2);
  const float *golden = golden_values(o, "logits", IMAGES * CLASSES);
  assert_non_null(logits);
  for (int i = 0; i < IMAGES * CLASSES; i++) want[i] = (double)golden[i];
  assert_close("logits", logits, want, IMAGES * CLASSES, LOGITS_BOUND, 0);
  cn_predictor_free(predictor);
}

static void check_gradient(const opened *o, int index, const float *gradient, double floor_norm) {
  const cn_tensor_ *t = &o->net->tensors[index];
  const float *golden = golden_values(o, t->name, 2);
  char probe[200];
  snprintf(probe, sizeof probe, "%s.probe", t->name);
  cn_random random = numbers_of(probe);
  double squares = 0, product = 0;
  for (size_t k = 0; k < t->count; k++) {
    double value = (double)gradient[cn_place_of_(o->net, t, k)];
    squares += value * value;
    product += value * signed_number(&random);
  }
  double scale = (double)golden[0] > floor_norm ? (double)golden[0] : floor_norm;
  if (!(fabs(sqrt(squares) - (double)golden[0]) <= GRADIENT_BOUND * scale) ||
      !(fabs(product - (double)golden[1]) <= GRADIENT_BOUND * scale))
    fail_msg("gradient of %s: norm %g, projection %g, should be %g and %g", t->name, sqrt(squares),
             product, (double)golden[0], (double)golden[1]);
}

static void check_training(const opened *o) {
  static const int labels[IMAGES] = {3, 8, 0, 5};
  cn_trainer *trainer = must_train(o->net, IMAGES, NULL);
  cn_batch batch = {IMAGES, o->inputs, labels, NULL};
  cn_metrics metrics;
  cn_error error;
  if (cn_train_gradients(trainer, &batch, &metrics, &error)) fail_msg("%s", error.message);
  assert_near("loss", metrics.loss, (double)golden_values(o, "loss", 1)[0], LOSS_BOUND);
  for (int i = 0; i < o->net->tensor_count; i++) {
    const cn_tensor_ *t = &o->net->tensors[i];
    const float *gradient = cn_trainer_gradient(trainer, i);
    if (!gradient) continue;
    /* A bias that batch norm takes out again has no gradient but rounding: beside its weight's. */
    double floor_norm = 0;
    if (ends_in(t->name, ".bias")) floor_norm = 1e-2 * (double)golden_values(o, t[-1].name, 2)[0];
    check_gradient(o, i, gradient, floor_norm);
  }
  cn_trainer_free(trainer);
}

static void equals_pytorch(void **state) {
  opened o = open_network((const char *)*state);
  check_logits(&o);
  check_training(&o);
  close_network(&o);
}

/* ---- memory ----------------------------------------------------------------------------------
 */

/* Largest sum of maps that must exist at the same time if every node made its map and none were
   fused: a node's own and those of earlier ones that it or a later one reads. */
static size_t largest_live_maps(const cn_network *net) {
  const int n = cn_network_node_count(net);
  size_t most = 0;
  for (int now = 1; now < n; now++) {
    size_t live = 0;
    for (int i = 1; i <= now; i++) {
      int last = i;
      for (int k = i + 1; k < n; k++)
        for (int j = 0; j < cn_network_node(net, k)->input_count; j++)
          if (cn_network_node(net, k)->inputs[j] == i) last = k;
      const cn_shape s = cn_network_node(net, i)->shape;
      if (last >= now)
        live += (size_t)s.height * (size_t)s.width * (size_t)s.channels * sizeof(float);
    }
    if (live > most) most = live;
  }
  return most;
}

/* What packed weights and the workspace of one thread need, from the kernels' own queries. */
static size_t weights_and_workspace(const cn_network *net) {
  size_t packed = 0, workspace = 0;
  for (int i = 1; i < cn_network_node_count(net); i++) {
    const cn_node *node = cn_network_node(net, i);
    if (node->op != CN_OP_CONV && node->op != CN_OP_DENSE) continue;
    const cn_shape in = cn_network_node(net, node->inputs[0])->shape;
    cn_conv2d conv = cn_dense(1, in.height * in.width * in.channels, node->filters, 0);
    if (node->op == CN_OP_CONV) {
      memset(&conv, 0, sizeof conv);
      conv.in = in, conv.filters = node->filters, conv.groups = node->groups;
      conv.window = node->window;
    }
    /* a batch norm's factors are folded into a copy of the weights while they are packed */
    size_t needs = cn_conv2d_workspace(&conv, CN_FORWARD);
    if (cn_conv2d_weight_count(&conv) * sizeof(float) > needs && node->op == CN_OP_CONV)
      needs = cn_conv2d_weight_count(&conv) * sizeof(float);
    packed += cn_conv2d_packed_count(&conv, CN_FORWARD) * sizeof(float);
    workspace = needs > workspace ? needs : workspace;
  }
  return packed + workspace;
}

/* Beside weights and workspace, inference holds no more than the maps that live at the same time;
   1 MB and 5 % are allowed for rounding up, batch norm's biases, and gaps between buffers. */
static void inference_memory(void **state) {
  cn_error error;
  const char *name = (const char *)*state;
  size_t length = cn_arch_text(name, NULL, NULL, 0, NULL);
  char *text = (char *)malloc(length + 1);
  assert_non_null(text);
  cn_arch_text(name, NULL, text, length + 1, NULL);
  cn_network *net = cn_parse_(text, &error); /* without initialisation: only its plan matters */
  free(text);
  if (!net) fail_msg("%s", error.message);
  cn_predict_options options = {1, CN_MATH_DEFAULT, {NULL, NULL}};
  cn_predictor *predictor = must_predict(net, 1, &options);
  double maps = (double)cn_predictor_bytes(predictor) - (double)weights_and_workspace(net);
  double allowed = 1.05 * (double)largest_live_maps(net) + 1e6;
  if (maps > allowed)
    fail_msg("%s holds %.1f MB of maps, allowed are %.1f", name, maps / 1e6, allowed / 1e6);
  cn_predictor_free(predictor);
  cn_network_free(net);
}

int main(void) {
  static char networks[][24] = {"alexnet",
                                "vgg11",
                                "vgg11_bn",
                                "resnet18",
                                "resnext50_32x4d",
                                "squeezenet1_0",
                                "squeezenet1_1",
                                "densenet121",
                                "googlenet+aux",
                                "inception_v3",
                                "inception_resnet_v2",
                                "xception"};
  static char large[][24] = {"vgg19", "resnet152", "densenet201"};
  static char names[32][320];
  struct CMUnitTest tests[32];
  size_t count = 0;
  memset(tests, 0, sizeof tests);
  for (size_t i = 0; i < sizeof networks / sizeof *networks; i++, count++) {
    snprintf(names[count], sizeof names[count], "%s equals PyTorch", networks[i]);
    tests[count].test_func = equals_pytorch, tests[count].initial_state = networks[i];
  }
  for (size_t i = 0; i < sizeof large / sizeof *large; i++, count++) {
    snprintf(names[count], sizeof names[count], "memory of %s in inference", large[i]);
    tests[count].test_func = inference_memory, tests[count].initial_state = large[i];
  }
  for (size_t i = 0; i < count; i++) tests[i].name = names[i];
  return _cmocka_run_group_tests("architectures", tests, count, NULL, NULL);
}
