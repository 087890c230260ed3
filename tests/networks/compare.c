/* Holds a built-in network against what PyTorch computed with the same weights (reference.py).

   Use:  compare NETWORK[+aux] FOLDER [save]     +aux: with auxiliary heads; save: then trains it
         for one step and leaves FOLDER/trained.safetensors for from_here.py

   Loads FOLDER/MODE.safetensors, PyTorch's own state dict, and compares with FOLDER/expected.
   safetensors in two modes: inference (batch norm frozen, so that its running figures count) and
   training (batch norm by the batch's figures, auxiliary heads by their weights), each with every
   kind of arithmetic. Prints rows of a table, exits with 1 if an error passes its bound.

   Error of the logits: the largest |ours - PyTorch's|, as a share of the largest |PyTorch's|.
   Error of a gradient: ||ours - PyTorch's|| / ||PyTorch's|| (Euclidean norms over the tensor). A bias
   that batch norm takes out again has, in training, no gradient but rounding (below 1e-6 of its
   weight's): there the norm of its weight's gradient is the divisor. */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#define LOGITS_BOUND 1e-4
#define GRADIENT_BOUND 1e-3
#define IMAGES 4
#define CLASSES 10

static const char *const math_names[] = {"default", "direct", "exact"};
static const cn_math maths[] = {CN_MATH_DEFAULT, CN_MATH_DIRECT, CN_MATH_EXACT};
#define MATHS ((int)(sizeof maths / sizeof *maths))

typedef struct comparison {
  const char *network;
  cn_network *net;
  cn_safetensors *expected;
  const float *inputs;
  int labels[IMAGES];
  const char *mode, *folder;
  float *gradients; /* expected */
} comparison;

typedef struct errors {
  double logits, gradient; /* worst */
  char worst[160];         /* tensor with the worst gradient */
  int tensors;             /* compared */
} errors;

static void stop(const char *what, const char *details) {
  fprintf(stderr, "compare: %s: %s\n", what, details);
  exit(1);
}

static const cn_tensor *find(const comparison *c, const char *what, const char *name) {
  char full[200];
  snprintf(full, sizeof full, "%s.%s%s", c->mode, what, name);
  const cn_tensor *tensor = cn_safetensors_find(c->expected, full);
  if (!tensor) stop("the reference has no tensor", full);
  return tensor;
}

/* The network without its dropout, in PyTorch's size and with its number of classes. In inference
   without auxiliary heads, whose tensors then are more than it needs. */
static cn_network *build_network(const comparison *c, cn_shape in) {
  char base[64];
  cn_error error;
  const int auxiliary = strchr(c->network, '+') && strcmp(c->mode, "training") == 0;
  cn_arch_options options = {in.height, in.width, in.channels, CLASSES, auxiliary};
  snprintf(base, sizeof base, "%.*s", (int)strcspn(c->network, "+"), c->network);
  size_t length = cn_arch_text(base, &options, NULL, 0, &error);
  char *text = length ? (char *)malloc(length + 1) : NULL;
  if (!text) stop(c->network, error.message);
  cn_arch_text(base, &options, text, length + 1, &error);
  for (char *at = text; (at = strstr(at, "dropout 0.")) != NULL;)
    for (at += strlen("dropout 0."); *at >= '0' && *at <= '9'; at++) *at = '0';
  cn_network *net = cn_parse_(text, &error); /* without the initialisation: all is loaded */
  free(text);
  if (!net) stop(c->network, error.message);
  return net;
}

static void refuse_mismatch(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  const comparison *c = (const comparison *)user;
  const int head = strncmp(tensor, "aux", 3) == 0 || strncmp(tensor, "AuxLogits.", 10) == 0;
  const int unused = strchr(c->network, '+') && strcmp(c->mode, "inference") == 0;
  if (kind != CN_TENSOR_EXTRA || !head || !unused) stop(tensor, details);
}

static void open_network(comparison *c, cn_shape in) {
  char path[600];
  cn_error error;
  c->net = build_network(c, in);
  snprintf(path, sizeof path, "%.500s/%s.safetensors", c->folder, c->mode);
  const int loaded = cn_load_weights(c->net, path, refuse_mismatch, c, &error);
  if (loaded != cn_network_parameter_count(c->net))
    stop(path, loaded < 0 ? error.message : "too few tensors");
}

/* Its values stand aligned: whoever wrote the header padded it to a multiple of eight bytes. */
static const float *floats_of(const cn_tensor *tensor) {
  if ((uintptr_t)tensor->data % sizeof(float)) stop(tensor->name, "not aligned");
  return (const float *)tensor->data;
}

static double logits_error(const comparison *c, const float *logits) {
  const cn_tensor *tensor = find(c, "logits", "");
  const float *expected = floats_of(tensor);
  double worst = 0, scale = 0;
  for (int i = 0; i < IMAGES * CLASSES; i++) {
    const double off = fabs((double)logits[i] - (double)expected[i]);
    if (!(off <= worst)) worst = off; /* NaN too */
    if (fabs((double)expected[i]) > scale) scale = fabs((double)expected[i]);
  }
  return worst / scale;
}

static double norm_of(const float *values, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
  return sqrt(sum);
}

/* PyTorch's gradients in this library's order, placed as the network's values are. In inference
   batch norm's own scale and shift do not learn, see freeze_batchnorm. */
static void import_gradients(comparison *c) {
  c->gradients = (float *)malloc(c->net->value_count * sizeof(float));
  if (!c->gradients) stop(c->network, "out of memory");
  for (int i = 0; i < c->net->tensor_count; i++) {
    const cn_tensor_ *own = &c->net->tensors[i];
    if (!cn_is_trained_(own)) continue;
    const cn_tensor *tensor = find(c, "gradient.", own->name);
    if (!cn_tensor_fits_(own, tensor)) stop(own->name, "has another shape");
    cn_import_(c->net, own, tensor, c->gradients);
  }
}

static double gradient_error(const comparison *c, int index, const float *gradient) {
  const cn_tensor_ *own = &c->net->tensors[index];
  const float *expected = c->gradients + own->offset;
  double sum = 0, scale = norm_of(expected, own->count);
  for (size_t k = 0; k < own->count; k++) {
    const double off = (double)gradient[k] - (double)expected[k];
    sum += off * off;
  }
  if (strstr(own->name, ".bias")) { /* its weight stands before it */
    const cn_tensor_ *weight = own - 1;
    const double weight_norm = norm_of(c->gradients + weight->offset, weight->count);
    if (scale < 1e-6 * weight_norm) scale = weight_norm;
  }
  return sqrt(sum) / scale;
}

/* Inference: what cn_predict computes. Training: the forward pass of a trainer, which must have
   packed its weights. */
static void compare_logits(const comparison *c, cn_trainer *trainer, cn_math math, errors *e) {
  cn_error error;
  if (strcmp(c->mode, "training") == 0) {
    const cn_plan_ *plan = &trainer->plan;
    cn_copy_figures_(trainer, 0);
    plan->inputs[0] = c->inputs;
    cn_forward_(plan, IMAGES, 0);
    cn_copy_figures_(trainer, 1);
    e->logits = logits_error(c, cn_floats_(plan, plan->steps[cn_last_head_(plan)->step].value));
    return;
  }
  cn_predict_options options = {.math = math, .logits = 1};
  float outputs[IMAGES * CLASSES];
  cn_predictor *predictor = cn_predictor_create(c->net, IMAGES, &options, &error);
  if (!predictor) stop(c->network, error.message);
  cn_predict(predictor, c->inputs, IMAGES, outputs);
  e->logits = logits_error(c, outputs);
  cn_predictor_free(predictor);
}

static errors compare(const comparison *c, cn_math math) {
  errors e = {0, 0, "", 0};
  cn_error error;
  cn_training_options options = cn_training_defaults();
  options.math = math;
  cn_trainer *trainer = cn_trainer_create(c->net, IMAGES, &options, &error);
  cn_batch batch = {.count = IMAGES, .inputs = c->inputs, .labels = c->labels};
  if (!trainer) stop(c->network, error.message);
  if (cn_train_gradients(trainer, &batch, NULL, &error)) stop(c->network, error.message);
  for (int i = 0; i < cn_network_parameter_count(c->net); i++) {
    const float *gradient = cn_trainer_gradient(trainer, i);
    if (!gradient) continue;
    const double off = gradient_error(c, i, gradient);
    e.tensors++;
    if (off <= e.gradient) continue;
    e.gradient = off;
    snprintf(e.worst, sizeof e.worst, "%s", c->net->tensors[i].name);
  }
  compare_logits(c, trainer, math, &e);
  cn_trainer_free(trainer);
  return e;
}

/* In inference batch norm keeps its figures, and then its own scale and shift do not learn. */
static void freeze_batchnorm(cn_network *net) {
  for (int i = 0; i < cn_network_node_count(net); i++) {
    const cn_node *node = cn_network_node(net, i);
    char prefix[CN_MAX_NAME + 2];
    snprintf(prefix, sizeof prefix, "%s.", node->name);
    if (node->op == CN_OP_BATCHNORM) cn_network_freeze_named(net, prefix);
  }
}

/* A model that was trained here, and what it says of the inputs, for from_here.py. */
static void save_trained(const comparison *c) {
  char path[600];
  cn_error error;
  float outputs[IMAGES * CLASSES];
  cn_trainer *trainer = cn_trainer_create(c->net, IMAGES, NULL, &error);
  cn_batch batch = {.count = IMAGES, .inputs = c->inputs, .labels = c->labels};
  if (!trainer || cn_train_step(trainer, &batch, NULL, &error)) stop(c->network, error.message);
  cn_trainer_free(trainer);
  cn_predictor *predictor = cn_predictor_create(c->net, IMAGES, NULL, &error);
  if (!predictor) stop(c->network, error.message);
  cn_predict(predictor, c->inputs, IMAGES, outputs);
  const cn_tensor result = {"probabilities", CN_F32, 2, {IMAGES, CLASSES}, outputs, sizeof outputs, ""};
  snprintf(path, sizeof path, "%.500s/probabilities.safetensors", c->folder);
  if (cn_safetensors_write(path, &result, 1, NULL, 0, &error)) stop(path, error.message);
  snprintf(path, sizeof path, "%.500s/trained.safetensors", c->folder);
  if (cn_save(c->net, path, &error)) stop(path, error.message);
  cn_predictor_free(predictor);
}

static int compare_mode(comparison *c, const char *mode, cn_shape in, int save) {
  errors all[MATHS];
  int failed = 0;
  c->mode = mode;
  c->inputs = floats_of(find(c, "inputs", ""));
  open_network(c, in);
  if (strcmp(mode, "inference") == 0) freeze_batchnorm(c->net);
  import_gradients(c);
  for (int i = 0; i < MATHS; i++) all[i] = compare(c, maths[i]);
  printf("| %s | %dx%d | %s | %d |", c->network, in.height, in.width, mode, all[0].tensors);
  for (int i = 0; i < MATHS; i++) printf(" %.1e |", all[i].logits);
  for (int i = 0; i < MATHS; i++) printf(" %.1e |", all[i].gradient);
  printf("\n");
  for (int i = 0; i < MATHS; i++) {
    const int bad = !(all[i].logits <= LOGITS_BOUND) || !(all[i].gradient <= GRADIENT_BOUND) ||
                    all[i].tensors == 0;
    if (bad)
      fprintf(stderr,
              "%s %s, %s arithmetic: logits off by %.2g (allowed %.0e), %s by %.2g (%.0e)\n",
              c->network, mode, math_names[i], all[i].logits, LOGITS_BOUND, all[i].worst,
              all[i].gradient, GRADIENT_BOUND);
    failed |= bad;
  }
  if (save) save_trained(c);
  free(c->gradients);
  cn_network_free(c->net);
  return failed;
}

int main(int argc, char **argv) {
  comparison c = {argc > 1 ? argv[1] : "", NULL, NULL, NULL, {0}, "",
                  argc > 2 ? argv[2] : "", NULL};
  char path[600];
  cn_error error;
  if (argc < 3 || argc > 4 || (argc == 4 && strcmp(argv[3], "save") != 0)) {
    fprintf(stderr, "usage: compare NETWORK[+aux] FOLDER [save]\n");
    return 2;
  }
  snprintf(path, sizeof path, "%.500s/expected.safetensors", c.folder);
  c.expected = cn_safetensors_read(path, &error);
  if (!c.expected) stop("reference", error.message);
  const cn_tensor *inputs = cn_safetensors_find(c.expected, "inference.inputs");
  const cn_tensor *labels = cn_safetensors_find(c.expected, "labels");
  if (!inputs || !labels || inputs->rank != 4) stop(path, "no inputs or labels");
  for (int i = 0; i < IMAGES; i++) {
    int64_t label; /* I64 as PyTorch has it */
    memcpy(&label, (const char *)labels->data + (size_t)i * sizeof label, sizeof label);
    c.labels[i] = (int)label;
  }
  const cn_shape in = {1, (int)inputs->dims[1], (int)inputs->dims[2], (int)inputs->dims[3]};
  const int failed =
      compare_mode(&c, "inference", in, 0) | compare_mode(&c, "training", in, argc == 4);
  cn_safetensors_free(c.expected);
  return failed;
}
