/* Times kernels and networks: verifies each against a reference first, warms up, then takes the median of
   many runs. Prints a table, with --json one JSON object.

   Build: cc -O2 -I. bench/bench.c -o bin/bench/bench -lm   (make bench does that and runs it)
   Usage: bench [--filter TEXT] [--threads N] [--seconds S] [--json]

   nominal    GFLOP/s of a direct convolution: 2 * products / time, whatever is really computed
   executed   products really computed (Winograd needs fewer; a sparse gradient skips zeros: not counted)
   of peak    executed divided by the multiply-add peak measured in this process on as many threads */
#define _POSIX_C_SOURCE 200809L
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <getopt.h>
#include <time.h>

typedef struct options {
  const char *filter;
  int threads, json;
  double seconds; /* per measurement */
} options;

typedef struct timing {
  double median, low, high; /* seconds; low and high: 10th and 90th percentile */
} timing;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

#define MAX_RUNS 2000

/* Runs work until the time is spent, at least 7 times, after two runs that do not count. */
static timing measure(void (*work)(void *), void *context, double seconds) {
  static double runs[MAX_RUNS];
  double begin;
  timing t;
  int n = 0;
  work(context), work(context);
  begin = now();
  while (n < MAX_RUNS && (n < 7 || now() - begin < seconds)) {
    const double start = now();
    work(context);
    runs[n++] = now() - start;
  }
  qsort(runs, (size_t)n, sizeof *runs, compare_doubles);
  t.median = runs[n / 2], t.low = runs[n / 10], t.high = runs[n - 1 - n / 10];
  return t;
}

/* ---- the multiply-add peak ---- */

#define PEAK_CHAINS 12 /* independent sums: more than latency times pipes */
#define PEAK_ROUNDS 200000

#if defined(__x86_64__)
#define PEAK_X86(NAME, TARGET, VECTOR, SET, FMA, STORE, LANES) \
  __attribute__((target(TARGET))) static double NAME(float *sink) { \
    VECTOR s[PEAK_CHAINS], a = SET(1.0000001f), b = SET(1e-9f); \
    int i, j; \
    for (j = 0; j < PEAK_CHAINS; j++) s[j] = SET((float)j); \
    for (i = 0; i < PEAK_ROUNDS; i++) { \
      s[0] = FMA(s[0], a, b), s[1] = FMA(s[1], a, b), s[2] = FMA(s[2], a, b), s[3] = FMA(s[3], a, b); \
      s[4] = FMA(s[4], a, b), s[5] = FMA(s[5], a, b), s[6] = FMA(s[6], a, b), s[7] = FMA(s[7], a, b); \
      s[8] = FMA(s[8], a, b), s[9] = FMA(s[9], a, b), s[10] = FMA(s[10], a, b), s[11] = FMA(s[11], a, b); \
    } \
    for (j = 0; j < PEAK_CHAINS; j++) STORE(sink + j * 16, s[j]); \
    return 2.0 * LANES * PEAK_CHAINS * PEAK_ROUNDS; \
  }
PEAK_X86(peak_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps, 16)
PEAK_X86(peak_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps, 8)
#endif

static double peak_plain(float *sink) {
  volatile float start = 1.0f;
  float s[PEAK_CHAINS];
  int i, j;
  for (j = 0; j < PEAK_CHAINS; j++) s[j] = start;
  for (i = 0; i < PEAK_ROUNDS; i++)
    for (j = 0; j < PEAK_CHAINS; j++) s[j] = s[j] * 1.0000001f + 1e-9f;
  for (j = 0; j < PEAK_CHAINS; j++) sink[j * 16] = s[j];
  return 2.0 * PEAK_CHAINS * PEAK_ROUNDS;
}

static double peak_flops(float *sink) {
#if defined(__x86_64__)
  if (cn_isa_current() == CN_ISA_AVX512) return peak_avx512(sink);
  if (cn_isa_current() == CN_ISA_AVX2) return peak_avx2(sink);
#endif
  return peak_plain(sink);
}

/* Best of several runs on one thread, in GFLOP/s. */
static double measure_peak(void) {
  float sink[PEAK_CHAINS * 16];
  double best = 0.0;
  int i;
  for (i = 0; i < 12; i++) {
    const double start = now(), flops = peak_flops(sink), rate = flops / (now() - start) * 1e-9;
    best = rate > best ? rate : best;
  }
  return best;
}

/* ---- one convolution, one pass ---- */

typedef struct shape_case {
  const char *name;
  int count, height, width, channels, filters, window, stride, pad, pool;
} shape_case;

static const shape_case shapes[] = {
    {"base.conv1", 200, 28, 28, 1, 16, 3, 1, 1, 1},      {"base.conv2", 200, 14, 14, 16, 32, 3, 1, 1, 1},
    {"revised.conv1", 200, 28, 28, 1, 64, 3, 1, 1, 1},   {"revised.conv2", 200, 14, 14, 64, 96, 3, 1, 1, 1},
    {"revised.conv3", 200, 7, 7, 96, 112, 3, 1, 1, 1},   {"revised.dense1", 200, 1, 1, 1008, 150, 1, 1, 0, 0},
    {"lenet.conv2", 200, 14, 14, 6, 16, 5, 1, 0, 1},     {"resnet.stem", 4, 224, 224, 3, 64, 7, 2, 3, 0},
    {"resnet.56x56x64", 16, 56, 56, 64, 64, 3, 1, 1, 0},  {"resnet.28x28x128", 16, 28, 28, 128, 128, 3, 1, 1, 0},
    {"resnet.14x14x256", 16, 14, 14, 256, 256, 3, 1, 1, 0}, {"resnet.7x7x512", 16, 7, 7, 512, 512, 3, 1, 1, 0},
    {"resnet.down128", 4, 56, 56, 64, 128, 3, 2, 1, 0},  {"resnet.1x1", 4, 56, 56, 64, 256, 1, 1, 0, 0}};

typedef struct conv_case {
  cn_conv2d conv;
  cn_pass pass;
  cn_shape out;
  int threads, units;
  float *x, *y, *dx, *weights, *bias, *packed, *partial, *dweights;
  uint8_t *argmax;
  char *workspaces;
  size_t workspace_bytes, x_count, y_count;
} conv_case;

static void *take(size_t bytes) {
  void *memory = cn_allocate_(NULL, bytes);
  if (!memory) {
    fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
    exit(1);
  }
  return memory;
}

static void fill(float *values, size_t n, uint64_t seed) {
  cn_random random;
  size_t i;
  random.seed = seed, random.position = 0;
  for (i = 0; i < n; i++) values[i] = cn_random_uniform(&random) - 0.5f;
}

static void run_unit(void *context, int unit, int thread) {
  conv_case *c = (conv_case *)context;
  char *workspace = c->workspaces + (size_t)thread * c->workspace_bytes;
  if (c->pass == CN_FORWARD)
    cn_conv2d_forward(&c->conv, c->x, c->packed, c->bias, c->y, c->argmax, unit, unit + 1, workspace);
  else if (c->pass == CN_BACKWARD_INPUT)
    cn_conv2d_backward_input(&c->conv, c->y, c->argmax, c->packed, c->dx, unit, unit + 1, workspace);
  else
    cn_conv2d_backward_weights(&c->conv, c->x, c->y, c->argmax, c->partial, unit, unit + 1, workspace);
}

static void run_pass(void *context) {
  conv_case *c = (conv_case *)context;
  cn_parallel_for(NULL, c->threads, c->units, run_unit, c);
  if (c->pass == CN_BACKWARD_WEIGHTS) cn_conv2d_sum(&c->conv, c->partial, c->dweights, c->bias);
}

static conv_case make_case(const shape_case *s, cn_pass pass, cn_math math, int threads) {
  conv_case c;
  memset(&c, 0, sizeof c);
  if (s->height == 1) {
    c.conv = cn_dense(s->count, s->channels, s->filters, 0);
  } else {
    c.conv.in.count = s->count, c.conv.in.height = s->height, c.conv.in.width = s->width;
    c.conv.in.channels = s->channels, c.conv.filters = s->filters;
    c.conv.window.height = c.conv.window.width = s->window;
    c.conv.window.stride_y = c.conv.window.stride_x = s->stride;
    c.conv.window.pad_top = c.conv.window.pad_left = c.conv.window.pad_bottom = c.conv.window.pad_right = s->pad;
  }
  c.conv.relu = 1, c.conv.pool = s->pool, c.conv.math = math, c.pass = pass, c.threads = threads;
  if (cn_conv2d_output(&c.conv, &c.out, NULL)) exit(1);
  c.units = cn_conv2d_units(&c.conv, pass);
  c.workspace_bytes = (cn_conv2d_workspace(&c.conv, pass) + 63) / 64 * 64;
  c.x_count = (size_t)c.conv.in.count * cn_values_(c.conv.in), c.y_count = (size_t)c.out.count * cn_values_(c.out);
  c.x = (float *)take(c.x_count * 4), c.dx = (float *)take(c.x_count * 4), c.y = (float *)take(c.y_count * 4);
  c.argmax = (uint8_t *)take(c.y_count);
  c.weights = (float *)take(cn_conv2d_weight_count(&c.conv) * 4), c.dweights = (float *)take(cn_conv2d_weight_count(&c.conv) * 4);
  c.bias = (float *)take((size_t)s->filters * 4);
  c.packed = (float *)take(cn_conv2d_packed_count(&c.conv, pass) * 4 + 64);
  c.partial = (float *)take(cn_conv2d_partial_count(&c.conv) * 4);
  c.workspaces = (char *)take(c.workspace_bytes * (size_t)threads + 64);
  fill(c.x, c.x_count, 1), fill(c.weights, cn_conv2d_weight_count(&c.conv), 2);
  if (pass != CN_FORWARD) { /* gradients as training has them: about half are zero */
    size_t i;
    fill(c.y, c.y_count, 3);
    for (i = 0; i < c.y_count; i++) c.y[i] = c.y[i] > 0.0f ? c.y[i] : 0.0f, c.argmax[i] = (uint8_t)(i * 2654435761u >> 13 & 3);
  }
  cn_conv2d_pack(&c.conv, pass, c.weights, c.packed);
  return c;
}

static void free_case(conv_case *c) {
  cn_release_(NULL, c->x), cn_release_(NULL, c->dx), cn_release_(NULL, c->y), cn_release_(NULL, c->argmax), cn_release_(NULL, c->weights);
  cn_release_(NULL, c->dweights), cn_release_(NULL, c->bias), cn_release_(NULL, c->packed), cn_release_(NULL, c->partial), cn_release_(NULL, c->workspaces);
}

/* Relative distance of two results in the Euclidean norm. */
static double distance(const float *a, const float *b, size_t n) {
  double difference = 0.0, norm = 0.0;
  size_t i;
  for (i = 0; i < n; i++) {
    difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    norm += (double)b[i] * (double)b[i];
  }
  return sqrt(difference / (norm > 0.0 ? norm : 1.0));
}

static const float *result_of(const conv_case *c, size_t *n) {
  *n = c->pass == CN_FORWARD ? c->y_count : c->pass == CN_BACKWARD_INPUT ? c->x_count : cn_conv2d_weight_count(&c->conv);
  return c->pass == CN_FORWARD ? c->y : c->pass == CN_BACKWARD_INPUT ? c->dx : c->dweights;
}

/* The scalar kernels' direct sums, themselves tested against double precision by make test. */
static int verify(const shape_case *s, const conv_case *c) {
  const cn_isa isa = cn_isa_current();
  shape_case few = *s;
  conv_case reference, tried;
  size_t n;
  double far;
  if (s->height > 1) few.count = 2;
  tried = make_case(&few, c->pass, c->conv.math, c->threads);
  run_pass(&tried);
  cn_isa_limit(CN_ISA_SCALAR);
  reference = make_case(&few, c->pass, CN_MATH_DIRECT, c->threads);
  run_pass(&reference);
  cn_isa_limit(isa);
  n = 0;
  result_of(&reference, &n);
  far = distance(result_of(&tried, &n), result_of(&reference, &n), n);
  free_case(&reference), free_case(&tried);
  if (far < 1e-5) return 1;
  fprintf(stderr, "bench: %s is wrong: relative distance %g\n", s->name, far);
  return 0;
}

/* Products really computed, as a share of the direct ones. */
static double executed_share(const conv_case *c) {
  const cn_geometry_ g = cn_geometry_of_(&c->conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(&c->conv, &g, c->pass);
  cn_winograd_ w;
  double products = 0;
  int i;
  if (algorithm == CN_GREY_) return 12.0 / 18.0;
  if (algorithm != CN_WINOGRAD2_ && algorithm != CN_WINOGRAD4_) return 1.0;
  w = cn_winograd_setup_(&c->conv, &g, c->pass, NULL);
  for (i = 0; i < w.sizes; i++)
    products += w.tiles[i].positions * w.tiles[i].rows * w.tiles[i].columns;
  return products / (9.0 * (double)g.out_h * (double)g.out_w);
}

static const char *const pass_names[] = {"forward", "backward-input", "backward-weights"};

static int bench_conv(const shape_case *s, cn_pass pass, cn_math math, const char *math_name, const options *o, double peak) {
  conv_case c = make_case(s, pass, math, o->threads);
  const cn_geometry_ g = cn_geometry_of_(&c.conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(&c.conv, &g, pass);
  const int counted = algorithm != CN_SPARSE_ && algorithm != CN_FEW_;
  const double flops = 2.0 * (double)g.count * (double)(s->height == 1 ? s->count : g.out_h * g.out_w) * (double)g.depth * (double)g.filters;
  timing t;
  double nominal;
  char line[160];
  if (!verify(s, &c)) {
    free_case(&c);
    return 0;
  }
  t = measure(run_pass, &c, o->seconds);
  nominal = flops / t.median * 1e-9;
  if (counted) snprintf(line, sizeof line, "%8.0f %7.0f%%", nominal * executed_share(&c), 100.0 * nominal * executed_share(&c) / peak / o->threads);
  else snprintf(line, sizeof line, "%8s %8s", "-", "-");
  if (o->json)
    printf(",\n {\"name\":\"%s\",\"pass\":\"%s\",\"math\":\"%s\",\"us_per_image\":%.3f,\"low\":%.3f,\"high\":%.3f,\"nominal_gflops\":%.1f}",
           s->name, pass_names[pass], math_name, t.median / s->count * 1e6, t.low / s->count * 1e6, t.high / s->count * 1e6, nominal);
  else
    printf("%-18s %-16s %-6s %10.2f %9.2f %9.2f %9.0f %s\n", s->name, pass_names[pass], math_name, t.median / s->count * 1e6,
           t.low / s->count * 1e6, t.high / s->count * 1e6, nominal, line);
  fflush(stdout);
  free_case(&c);
  return 1;
}

/* ---- whole networks ---- */

typedef struct network_case {
  cn_trainer *trainer;
  cn_predictor *predictor;
  cn_batch batch;
  float *outputs;
  cn_error error;
} network_case;

static void run_training(void *context) {
  network_case *c = (network_case *)context;
  cn_metrics metrics;
  if (cn_train_step(c->trainer, &c->batch, &metrics, &c->error)) {
    fprintf(stderr, "bench: %s\n", c->error.message);
    exit(1);
  }
}

static void run_inference(void *context) {
  network_case *c = (network_case *)context;
  cn_predict(c->predictor, c->batch.inputs, c->batch.count, c->outputs);
}

static void bench_network(const char *name, int count, int training, const options *o) {
  cn_network *net = cn_arch_network(name, NULL, NULL);
  const size_t values = cn_values_(net->nodes[0].shape) * (size_t)count;
  float *inputs = (float *)take(values * sizeof(float));
  int *labels = (int *)take((size_t)count * sizeof *labels), i;
  cn_training_options training_options = cn_training_defaults();
  cn_predict_options predict_options;
  network_case c;
  timing t;
  memset(&c, 0, sizeof c), memset(&predict_options, 0, sizeof predict_options);
  fill(inputs, values, 4);
  for (i = 0; i < count; i++) labels[i] = i % 10;
  c.batch.count = count, c.batch.inputs = inputs, c.batch.labels = labels;
  training_options.threads = predict_options.threads = o->threads;
  if (training) c.trainer = cn_trainer_create(net, count, &training_options, &c.error);
  else c.predictor = cn_predictor_create(net, count, &predict_options, &c.error);
  if (!c.trainer && !c.predictor) {
    fprintf(stderr, "bench: %s\n", c.error.message);
    exit(1);
  }
  if (!training) c.outputs = (float *)take((size_t)(count * cn_predictor_outputs(c.predictor)) * sizeof(float));
  t = measure(training ? run_training : run_inference, &c, 2.0 * o->seconds);
  if (o->json)
    printf(",\n {\"name\":\"%s\",\"pass\":\"%s\",\"batch\":%d,\"images_per_second\":%.0f,\"low\":%.0f,\"high\":%.0f}", name,
           training ? "training" : "inference", count, count / t.median, count / t.high, count / t.low);
  else
    printf("%-18s %-16s batch %-4d %10.0f images/s (%.0f to %.0f)\n", name, training ? "training step" : "inference", count,
           count / t.median, count / t.high, count / t.low);
  fflush(stdout);
  cn_trainer_free(c.trainer), cn_predictor_free(c.predictor), cn_network_free(net);
  cn_release_(NULL, c.outputs), cn_release_(NULL, inputs), cn_release_(NULL, labels);
}

/* ---- command line ---- */

static int wanted(const options *o, const char *name) { return !o->filter || strstr(name, o->filter); }

static int bench_convs(const options *o, double peak) {
  size_t i;
  int pass, math, good = 1;
  static const char *const math_names[] = {"", "direct", "exact", "fast"};
  if (!o->json)
    printf("%-18s %-16s %-6s %10s %9s %9s %9s %8s %8s\n", "convolution", "pass", "math", "us/image", "p10", "p90", "nominal", "executed", "of peak");
  for (i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    if (!wanted(o, shapes[i].name)) continue;
    for (pass = CN_FORWARD; pass <= CN_BACKWARD_WEIGHTS; pass++) {
      const int transforms =
          shapes[i].window == 3 && shapes[i].stride == 1 && (pass != CN_BACKWARD_WEIGHTS || !shapes[i].pool);
      if (pass == CN_BACKWARD_INPUT && shapes[i].channels < 4) continue; /* a first layer needs none */
      for (math = CN_MATH_DIRECT; math <= (transforms ? CN_MATH_FAST : CN_MATH_DIRECT); math++)
        good &= bench_conv(&shapes[i], (cn_pass)pass, (cn_math)math, math_names[math], o, peak);
    }
  }
  return good;
}

static int usage(FILE *to, int status) {
  fprintf(to,
          "Usage: bench [--filter TEXT] [--threads N] [--seconds S] [--json]\n"
          "Times the convolutions and networks whose name contains TEXT, S seconds each (0.2).\n"
          "Example: CONVNET_ISA=avx2 bench --filter revised --threads 1\n");
  return status;
}

int main(int argc, char **argv) {
  static const struct option names[] = {{"filter", 1, 0, 'f'}, {"threads", 1, 0, 't'}, {"seconds", 1, 0, 's'},
                                        {"json", 0, 0, 'j'},   {"help", 0, 0, 'h'},    {0, 0, 0, 0}};
  static const char *const networks[] = {"base", "revised", "lenet", "mlp"};
  options o = {NULL, 1, 0, 0.2};
  double peak;
  int c, good;
  size_t i;
  while ((c = getopt_long(argc, argv, "f:t:s:jh", names, NULL)) != -1) {
    if (c == 'f') o.filter = optarg;
    else if (c == 't') o.threads = atoi(optarg) > 0 ? atoi(optarg) : 1;
    else if (c == 's') o.seconds = atof(optarg);
    else if (c == 'j') o.json = 1;
    else return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
  }
  peak = measure_peak();
  if (o.json) printf("[{\"isa\":\"%s\",\"threads\":%d,\"peak_gflops_per_thread\":%.1f,\"compiler\":\"%s\"}", cn_isa_name(), o.threads, peak, __VERSION__);
  else printf("%s, %d thread%s, %.0f GFLOP/s multiply-add peak per thread, compiler %s\n\n", cn_isa_name(), o.threads, o.threads == 1 ? "" : "s", peak, __VERSION__);
  good = bench_convs(&o, peak);
  if (!o.json) printf("\n");
  for (i = 0; i < sizeof networks / sizeof networks[0]; i++) {
    if (!wanted(&o, networks[i])) continue;
    bench_network(networks[i], 200, 1, &o), bench_network(networks[i], 200, 0, &o), bench_network(networks[i], 1, 0, &o);
  }
  if (o.json) printf("]\n");
  return good ? 0 : 1;
}
