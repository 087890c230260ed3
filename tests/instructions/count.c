/* count.c - runs one case of a kernel once, for counting its instructions under valgrind.

   Build: cc -O2 -I. tests/instructions/count.c -o count -lm
   Use:   count CASE      (count alone lists the cases); only run_case() is meant to be counted */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

typedef struct count_case {
  const char *name;
  int size, channels, filters, window, stride, pad, pool;
  cn_math math;
  cn_pass pass;
  int zeros; /* between two gradients that are not zero */
} count_case;

static const count_case cases[] = {
    {"first-layer-forward", 28, 1, 32, 3, 1, 1, 1, CN_MATH_FAST, CN_FORWARD, 1},
    {"first-layer-weights", 28, 1, 32, 3, 1, 1, 1, CN_MATH_FAST, CN_BACKWARD_WEIGHTS, 1},
    {"direct-forward", 14, 32, 48, 3, 1, 1, 0, CN_MATH_DIRECT, CN_FORWARD, 1},
    {"direct-input", 14, 32, 48, 3, 1, 1, 0, CN_MATH_DIRECT, CN_BACKWARD_INPUT, 1},
    {"direct-weights", 14, 32, 48, 3, 1, 1, 0, CN_MATH_DIRECT, CN_BACKWARD_WEIGHTS, 1},
    {"strided-forward", 14, 32, 48, 3, 2, 1, 0, CN_MATH_DIRECT, CN_FORWARD, 1},
    {"strided-input", 14, 32, 48, 3, 2, 1, 0, CN_MATH_DIRECT, CN_BACKWARD_INPUT, 1},
    {"exact-forward", 14, 32, 48, 3, 1, 1, 1, CN_MATH_EXACT, CN_FORWARD, 1},
    {"exact-input", 14, 32, 48, 3, 1, 1, 1, CN_MATH_EXACT, CN_BACKWARD_INPUT, 1},
    {"fast-forward", 14, 32, 48, 3, 1, 1, 1, CN_MATH_FAST, CN_FORWARD, 1},
    {"fast-input", 14, 32, 48, 3, 1, 1, 1, CN_MATH_FAST, CN_BACKWARD_INPUT, 1},
    {"exact-weights", 14, 32, 48, 3, 1, 1, 0, CN_MATH_EXACT, CN_BACKWARD_WEIGHTS, 1},
    {"fast-weights", 14, 32, 48, 3, 1, 1, 0, CN_MATH_FAST, CN_BACKWARD_WEIGHTS, 1},
    {"pooled-weights", 14, 32, 48, 3, 1, 1, 1, CN_MATH_FAST, CN_BACKWARD_WEIGHTS, 1},
    {"pointwise-forward", 14, 32, 48, 1, 1, 0, 0, CN_MATH_FAST, CN_FORWARD, 1},
    {"pointwise-input", 8, 512, 48, 1, 1, 0, 0, CN_MATH_FAST, CN_BACKWARD_INPUT, 1},
    {"pointwise-weights", 8, 512, 48, 1, 1, 0, 0, CN_MATH_FAST, CN_BACKWARD_WEIGHTS, 1},
    {"dropout-input", 8, 512, 48, 1, 1, 0, 0, CN_MATH_FAST, CN_BACKWARD_INPUT, 3},
    {"dropout-weights", 8, 512, 48, 1, 1, 0, 0, CN_MATH_FAST, CN_BACKWARD_WEIGHTS, 3},
};
#define CASE_COUNT ((int)(sizeof cases / sizeof cases[0]))

typedef struct count_run {
  cn_conv2d conv;
  float *x, *y, *packed, *partial;
  uint8_t *argmax;
  void *workspace;
  int units;
} count_run;

static void *take(size_t bytes) {
  void *memory = cn_allocate_(NULL, bytes + 64);
  if (!memory) exit(1);
  return memory;
}

static count_run prepare(const count_case *c) {
  count_run r;
  cn_shape out;
  float *weights;
  size_t i, values;
  memset(&r, 0, sizeof r);
  r.conv.in.count = 2, r.conv.in.height = r.conv.in.width = c->size, r.conv.in.channels = c->channels;
  r.conv.filters = c->filters, r.conv.relu = 1, r.conv.pool = c->pool, r.conv.math = c->math;
  r.conv.window.height = r.conv.window.width = c->window;
  r.conv.window.stride_y = r.conv.window.stride_x = c->stride;
  r.conv.window.pad_top = r.conv.window.pad_left = c->pad;
  r.conv.window.pad_bottom = r.conv.window.pad_right = c->pad;
  if (cn_conv2d_output(&r.conv, &out, NULL)) exit(1);
  values = (size_t)out.count * cn_values_(out);
  r.x = (float *)take((size_t)r.conv.in.count * cn_values_(r.conv.in) * sizeof(float));
  r.y = (float *)take(values * sizeof(float)), r.argmax = (uint8_t *)take(values);
  weights = (float *)take(cn_conv2d_weight_count(&r.conv) * sizeof(float));
  r.packed = (float *)take(cn_conv2d_packed_count(&r.conv, c->pass) * sizeof(float));
  r.partial = (float *)take(cn_conv2d_partial_count(&r.conv) * sizeof(float));
  r.workspace = take(cn_conv2d_workspace(&r.conv, c->pass));
  r.units = cn_conv2d_units(&r.conv, c->pass);
  for (i = 0; i < values; i++) {
    r.y[i] = i * 2654435761u / 65536 % (size_t)(c->zeros + 1) ? 0.0f : 1.0f; /* in no order */
    r.argmax[i] = (uint8_t)(i % 4);
  }
  cn_conv2d_pack(&r.conv, c->pass, weights, r.packed);
  return r;
}

/* Not inlined: valgrind finds it by name. */
__attribute__((noinline)) void run_case(const count_run *r, cn_pass pass);
void run_case(const count_run *r, cn_pass pass) {
  if (pass == CN_FORWARD)
    cn_conv2d_forward(&r->conv, r->x, r->packed, NULL, r->y, r->argmax, 0, r->units, r->workspace);
  else if (pass == CN_BACKWARD_INPUT)
    cn_conv2d_backward_input(&r->conv, r->y, r->argmax, r->packed, r->x, 0, r->units, r->workspace);
  else
    cn_conv2d_backward_weights(&r->conv, r->x, r->y, r->argmax, r->partial, 0, r->units,
                               r->workspace);
}

int main(int argc, char **argv) {
  int i;
  for (i = 0; i < CASE_COUNT; i++) {
    if (argc == 1) puts(cases[i].name);
    if (argc == 2 && strcmp(argv[1], cases[i].name) == 0) {
      const count_run r = prepare(&cases[i]);
      run_case(&r, cases[i].pass);
      return 0;
    }
  }
  return argc == 1 ? 0 : 2;
}
