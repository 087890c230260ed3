/* test_onnx.c - runs the conformance cases that ONNX publishes for its operators (Debian's
   package libonnx-testdata) on the kernels of convnet.h, as they are: a model and tensors in
   protobuf files, the expected results beside them.

   Build and run:  make build/tests/test_onnx && build/tests/test_onnx
   ONNX_TESTDATA   another place for the cases; where there are none the test is skipped
   CONVNET_ISA     caps the instruction sets, of which all that the machine has are run

   Every case whose model has one of the operators in `wanted` is either run or listed with the
   reason why not. ONNX keeps channels first; values are turned round on the way in and out. A
   1-D image is one of height 1. 3-D pooling is separable, a 3-D convolution is a sum of 2-D
   ones: both are put together from the 2-D kernels. Whole numbers run as floats, which hold
   those of the cases exactly. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* scandir under -std=c99 */
#endif

#include "../convnet.h"

#include "onnx_reader.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const wanted[] = {
    "Conv",    "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization",
    "Softmax", "Gemm",    "Relu",        "Sigmoid",           "Tanh",
    "Add",     "Concat",  "Dropout"};
#define WANTED_COUNT (sizeof wanted / sizeof *wanted)

/* How far a result may be off, as a share of the largest expected one. The expected values are
   floats that another library computed, with an error of their own. */
static const double tolerance = 2e-5;

/* ---- memory of one run ----------------------------------------------------------------------- */

static void *blocks[4096];
static int block_count;

/* 64-byte aligned, freed by forget_all. */
static void *memory(size_t bytes) {
  void *block = NULL;
  assert_true(block_count < (int)(sizeof blocks / sizeof *blocks));
  assert_int_equal(posix_memalign(&block, 64, bytes ? bytes : 1), 0);
  blocks[block_count++] = block;
  return block;
}

static float *floats(ptrdiff_t count) {
  return memory((size_t)count * sizeof(float));
}

static void forget_all(void) {
  while (block_count) free(blocks[--block_count]);
}

/* ---- values of a run ------------------------------------------------------------------------- */

/* A tensor in ONNX's order. With `kept` a dropout chose at random: each value is that of `kept`
   or 0. */
typedef struct value {
  char name[ONNX_MAX_NAME];
  int rank;
  ptrdiff_t dims[ONNX_MAX_RANK], count;
  const float *values;
  const float *kept;
} value;

typedef struct run {
  const onnx_model *model;
  value values[256];
  int value_count;
  cn_math math;
  int exact;        /* every operator so far gives exactly one right result */
  char reason[160]; /* why the case cannot be run; "" if it can */
} run;

static int refuse(run *r, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(r->reason, sizeof r->reason, format, arguments);
  va_end(arguments);
  return 0;
}

static value *find_value(run *r, const char *name) {
  for (int i = r->value_count - 1; i >= 0; i--) {
    if (!strcmp(r->values[i].name, name)) return &r->values[i];
  }
  return NULL;
}

static value *add_value(run *r, const char *name, int rank, const ptrdiff_t *dims,
                        const float *values) {
  assert_true(r->value_count < (int)(sizeof r->values / sizeof *r->values));
  value *v = &r->values[r->value_count++];
  memset(v, 0, sizeof *v);
  snprintf(v->name, sizeof v->name, "%s", name);
  v->rank = rank;
  v->count = 1;
  for (int i = 0; i < rank; i++) v->count *= v->dims[i] = dims[i];
  v->values = values;
  return v;
}

static value *add_tensor(run *r, const char *name, const onnx_tensor *t) {
  return add_value(r, name, t->rank, t->dims, t->values);
}

static ptrdiff_t product(const ptrdiff_t *dims, int from, int to) {
  ptrdiff_t count = 1;
  for (int i = from; i < to; i++) count *= dims[i];
  return count;
}

static const value *input_of(run *r, const onnx_node *node, int index) {
  if (index >= node->input_count || !node->inputs[index][0]) return NULL;
  return find_value(r, node->inputs[index]);
}

static int has_output(const onnx_node *node, int index) {
  return index < node->output_count && node->outputs[index][0];
}

static value *result(run *r, const onnx_node *node, int index, const value *like,
                     const float *values) {
  return add_value(r, node->outputs[index], like->rank, like->dims, values);
}

static const onnx_attribute *attribute(const onnx_node *node, const char *name) {
  for (int i = 0; i < node->attribute_count; i++) {
    if (!strcmp(node->attributes[i].name, name)) return &node->attributes[i];
  }
  return NULL;
}

static int64_t integer_attribute(const onnx_node *node, const char *name, int64_t otherwise) {
  const onnx_attribute *a = attribute(node, name);
  return a ? a->integer : otherwise;
}

static float number_attribute(const onnx_node *node, const char *name, float otherwise) {
  const onnx_attribute *a = attribute(node, name);
  return a ? a->number : otherwise;
}

/* ---- layouts --------------------------------------------------------------------------------- */

/* [outer][rows][columns] to [outer][columns][rows] */
static float *turned(const float *x, ptrdiff_t outer, ptrdiff_t rows, ptrdiff_t columns) {
  float *y = floats(outer * rows * columns);
  for (ptrdiff_t i = 0; i < outer; i++) {
    for (ptrdiff_t row = 0; row < rows; row++) {
      for (ptrdiff_t column = 0; column < columns; column++) {
        y[(i * columns + column) * rows + row] = x[(i * rows + row) * columns + column];
      }
    }
  }
  return y;
}

static float *channels_last(const value *v) {
  return turned(v->values, v->dims[0], v->dims[1], product(v->dims, 2, v->rank));
}

static float *channels_first(const float *x, const ptrdiff_t *dims, int rank) {
  return turned(x, dims[0], product(dims, 2, rank), dims[1]);
}

/* ---- windows: depth, height, width; what an image lacks has size 1 --------------------------- */

typedef struct window {
  int in[3], size[3], stride[3], dilation[3], before[3], after[3], ceil;
} window;

static int at_least_one(int64_t a) {
  return a > 1 ? (int)a : 1;
}

/* SAME_UPPER and SAME_LOWER: as many positions as strides fit, the odd padding at the end or
   start. */
static void pad_same(window *w, int axis, int lower) {
  const int positions = (w->in[axis] + w->stride[axis] - 1) / w->stride[axis];
  const int span = (w->size[axis] - 1) * w->dilation[axis] + 1;
  int total = (positions - 1) * w->stride[axis] + span - w->in[axis];
  if (total < 0) total = 0;
  w->before[axis] = lower ? total - total / 2 : total / 2;
  w->after[axis] = total - w->before[axis];
}

/* From a node's attributes; kernel gives the sizes where kernel_shape is left out. */
static int read_window(run *r, const onnx_node *node, const value *x, const ptrdiff_t *kernel,
                       window *w) {
  const onnx_attribute *shape = attribute(node, "kernel_shape"),
                       *strides = attribute(node, "strides");
  const onnx_attribute *dilations = attribute(node, "dilations"), *pads = attribute(node, "pads");
  const onnx_attribute *automatic = attribute(node, "auto_pad");
  const int axes = x->rank - 2;
  memset(w, 0, sizeof *w);
  if (axes < 1 || axes > 3) return refuse(r, "images of %d dimensions", axes);
  for (int axis = 0; axis < 3; axis++)
    w->in[axis] = w->size[axis] = w->stride[axis] = w->dilation[axis] = 1;
  for (int i = 0; i < axes; i++) {
    const int axis = 3 - axes + i;
    if (x->dims[2 + i] > CN_MAX_DIMENSION) {
      return refuse(r, "a side of %td is beyond CN_MAX_DIMENSION", x->dims[2 + i]);
    }
    w->in[axis] = (int)x->dims[2 + i];
    if (shape) w->size[axis] = (int)shape->ints[i];
    if (!shape && kernel) w->size[axis] = (int)kernel[i];
    if (strides) w->stride[axis] = at_least_one(strides->ints[i]);
    if (dilations) w->dilation[axis] = at_least_one(dilations->ints[i]);
    if (pads) w->before[axis] = (int)pads->ints[i];
    if (pads) w->after[axis] = (int)pads->ints[axes + i];
    if (automatic && !strncmp(automatic->text, "SAME", 4)) {
      pad_same(w, axis, !strcmp(automatic->text, "SAME_LOWER"));
    }
  }
  w->ceil = (int)integer_attribute(node, "ceil_mode", 0);
  return 1;
}

static cn_window flat_window(const window *w, int axis_y, int axis_x) {
  cn_window flat;
  memset(&flat, 0, sizeof flat);
  flat.height = w->size[axis_y];
  flat.width = axis_x < 0 ? 1 : w->size[axis_x];
  flat.stride_y = w->stride[axis_y];
  flat.stride_x = axis_x < 0 ? 1 : w->stride[axis_x];
  flat.dilation_y = w->dilation[axis_y];
  flat.dilation_x = axis_x < 0 ? 1 : w->dilation[axis_x];
  flat.pad_top = w->before[axis_y];
  flat.pad_left = axis_x < 0 ? 0 : w->before[axis_x];
  flat.pad_bottom = w->after[axis_y];
  flat.pad_right = axis_x < 0 ? 0 : w->after[axis_x];
  flat.ceil = w->ceil;
  return flat;
}

static cn_shape shape_of(ptrdiff_t count, ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels) {
  cn_shape shape;
  shape.count = (int)count;
  shape.height = (int)height;
  shape.width = (int)width;
  shape.channels = (int)channels;
  return shape;
}

/* ---- Conv and Gemm --------------------------------------------------------------------------- */

static float *convolve(run *r, const cn_conv2d *conv, const float *x, const float *weights,
                       const float *bias, cn_shape *out) {
  cn_error error;
  if (cn_conv2d_output(conv, out, &error) != CN_OK) {
    refuse(r, "refused: %s", error.message);
    return NULL;
  }
  float *packed = memory(cn_conv2d_packed_count(conv, CN_FORWARD) * sizeof(float));
  void *workspace = memory(cn_conv2d_workspace(conv, CN_FORWARD));
  float *y = floats((ptrdiff_t)out->count * out->height * out->width * out->channels);
  cn_conv2d_pack(conv, CN_FORWARD, weights, packed);
  cn_conv2d_forward(conv, x, packed, bias, y, NULL, 0, cn_conv2d_units(conv, CN_FORWARD),
                    workspace);
  return y;
}

/* [out][in][taps] to [taps][in][out] */
static float *weights_by_tap(const value *w) {
  const ptrdiff_t filters = w->dims[0], channels = w->dims[1], taps = product(w->dims, 2, w->rank);
  float *turned_round = floats(w->count);
  for (ptrdiff_t i = 0; i < w->count; i++) {
    const ptrdiff_t f = i % filters, c = i / filters % channels, tap = i / filters / channels;
    turned_round[i] = w->values[(f * channels + c) * taps + tap];
  }
  return turned_round;
}

/* Result slices [n][depth]: each the sum over the window's depth of 2-D convolutions, and the
   bias. */
static float *convolve_slices(run *r, cn_conv2d conv, const window *w, ptrdiff_t images,
                              const float *x, const float *weights, const float *bias,
                              cn_shape *out) {
  const int depth = cn_window_positions(w->in[0], w->size[0], w->stride[0], w->dilation[0],
                                        w->before[0], w->after[0], 0);
  const ptrdiff_t x_slice = (ptrdiff_t)w->in[1] * w->in[2] * conv.in.channels;
  const ptrdiff_t w_slice = (ptrdiff_t)cn_conv2d_weight_count(&conv);
  conv.in.count = 1;
  if (cn_conv2d_output(&conv, out, NULL) != CN_OK || depth < 1) {
    refuse(r, "a 3-D convolution that does not fit");
    return NULL;
  }
  const ptrdiff_t y_slice = (ptrdiff_t)out->height * out->width * out->channels;
  float *y = floats(images * depth * y_slice);
  for (ptrdiff_t i = 0; i < images * depth * y_slice; i++) y[i] = bias ? bias[i % conv.filters] : 0;
  for (ptrdiff_t i = 0; i < images * depth * w->size[0]; i++) {
    const int tap = (int)(i % w->size[0]), at = (int)(i / w->size[0] % depth);
    const ptrdiff_t n = i / w->size[0] / depth;
    const int from = at * w->stride[0] + tap * w->dilation[0] - w->before[0];
    if (from < 0 || from >= w->in[0]) continue;
    const int mark = block_count;
    const float *part =
        convolve(r, &conv, x + (n * w->in[0] + from) * x_slice, weights + tap * w_slice, NULL, out);
    float *sum = y + (n * depth + at) * y_slice;
    cn_add(sum, part, sum, (size_t)y_slice);
    while (block_count > mark) free(blocks[--block_count]);
  }
  return y;
}

static int run_conv(run *r, const onnx_node *node) {
  const value *x = input_of(r, node, 0), *w = input_of(r, node, 1), *bias = input_of(r, node, 2);
  window win;
  cn_conv2d conv;
  cn_shape out;
  if (!x || !w || x->rank != w->rank) return refuse(r, "Conv with unusual inputs");
  if (!read_window(r, node, x, w->dims + 2, &win)) return 0;
  memset(&conv, 0, sizeof conv);
  conv.in = shape_of(x->dims[0], win.in[1], win.in[2], x->dims[1]);
  conv.filters = (int)w->dims[0];
  conv.groups = (int)integer_attribute(node, "group", 1);
  conv.window = flat_window(&win, 1, 2);
  conv.math = r->math;
  r->exact = 0;
  const float *images = channels_last(x), *weights = weights_by_tap(w);
  const float *shift = bias ? bias->values : NULL;
  const float *y = x->rank == 5
                       ? convolve_slices(r, conv, &win, x->dims[0], images, weights, shift, &out)
                       : convolve(r, &conv, images, weights, shift, &out);
  if (!y) return 0;
  const int depth = cn_window_positions(win.in[0], win.size[0], win.stride[0], win.dilation[0],
                                        win.before[0], win.after[0], 0);
  const ptrdiff_t all[5] = {x->dims[0], out.channels, depth, out.height, out.width};
  ptrdiff_t dims[5] = {all[0], all[1], 0, 0, 0};
  for (int i = 2; i < x->rank; i++) dims[i] = all[5 - x->rank + i];
  add_value(r, node->outputs[0], x->rank, dims, channels_first(y, dims, x->rank));
  return 1;
}

/* Y = alpha A' B' + beta C. alpha goes into B; C is the bias if it is a row, else it is added
   after. */
static int run_gemm(run *r, const onnx_node *node) {
  const value *a = input_of(r, node, 0), *b = input_of(r, node, 1), *c = input_of(r, node, 2);
  const int turn_a = integer_attribute(node, "transA", 0) != 0;
  const int turn_b = integer_attribute(node, "transB", 0) != 0;
  const float alpha = number_attribute(node, "alpha", 1), beta = number_attribute(node, "beta", 1);
  cn_shape out;
  if (!a || !b || a->rank != 2 || b->rank != 2) return refuse(r, "Gemm with unusual inputs");
  const ptrdiff_t rows = a->dims[turn_a], inner = a->dims[!turn_a], columns = b->dims[!turn_b];
  const float *left = turn_a ? turned(a->values, 1, inner, rows) : a->values;
  const float *right = turn_b ? turned(b->values, 1, columns, inner) : b->values;
  float *weights = floats(inner * columns), *bias = floats(columns);
  for (ptrdiff_t i = 0; i < inner * columns; i++) weights[i] = alpha * right[i];
  const int c_is_row = c && c->count == (c->rank ? c->dims[c->rank - 1] : 1);
  for (ptrdiff_t i = 0; i < columns; i++) {
    bias[i] = c_is_row ? beta * c->values[c->count == 1 ? 0 : i] : 0;
  }
  const cn_conv2d dense = cn_dense((int)rows, (int)inner, (int)columns, 0);
  float *y = convolve(r, &dense, left, weights, c ? bias : NULL, &out);
  if (!y) return 0;
  if (c && !c_is_row) {
    float *matrix = floats(rows * columns);
    if (c->rank != 2 || c->dims[0] != rows) return refuse(r, "Gemm with an unusual C");
    for (ptrdiff_t i = 0; i < rows * columns; i++) {
      matrix[i] = beta * c->values[c->dims[1] == 1 ? i / columns : i];
    }
    cn_add(y, matrix, y, (size_t)(rows * columns));
  }
  const ptrdiff_t dims[2] = {rows, columns};
  add_value(r, node->outputs[0], 2, dims, y);
  r->exact = 0;
  return 1;
}

/* ---- pooling --------------------------------------------------------------------------------- */

static float *pool_flat(run *r, cn_pool2d *pool, const float *x, cn_shape *out) {
  cn_error error;
  if (cn_pool2d_output(pool, out, &error) != CN_OK) {
    refuse(r, "refused: %s", error.message);
    return NULL;
  }
  float *y = floats((ptrdiff_t)out->count * out->height * out->width * out->channels);
  cn_pool2d_forward(pool, x, y, 0, pool->in.count);
  return y;
}

/* Where each maximum was: the gradient of one value of y at a time goes nowhere else. ONNX
   counts through the whole tensor in its own order; storage order 1 counts down the columns of
   an image. */
static const float *pool_indices(const cn_pool2d *pool, const float *x, const cn_shape *out,
                                 int by_columns) {
  const ptrdiff_t channels = out->channels, area = (ptrdiff_t)pool->in.height * pool->in.width;
  const ptrdiff_t out_area = (ptrdiff_t)out->height * out->width;
  const ptrdiff_t count = out->count * out_area * channels;
  float *dy = floats(count), *dx = floats(pool->in.count * area * channels),
        *indices = floats(count);
  for (ptrdiff_t i = 0; i < count; i++) dy[i] = 0;
  for (ptrdiff_t i = 0; i < count; i++) {
    const ptrdiff_t c = i % channels, place = i / channels % out_area, n = i / channels / out_area;
    ptrdiff_t at = 0;
    dy[i] = 1;
    cn_pool2d_backward(pool, x, dy, dx, 0, pool->in.count);
    dy[i] = 0;
    while (dx[at] == 0) at++;
    const ptrdiff_t pixel = at / channels % area, row = pixel / pool->in.width;
    const ptrdiff_t column = pixel % pool->in.width;
    indices[(n * channels + c) * out_area + place] =
        (float)((n * channels + c) * area + (by_columns ? column * pool->in.height + row : pixel));
  }
  return indices;
}

static int run_pool(run *r, const onnx_node *node, cn_pool_kind kind) {
  const value *x = input_of(r, node, 0);
  window win;
  cn_pool2d pool;
  cn_shape out, deep;
  if (!x) return refuse(r, "%s without input", node->type);
  if (!read_window(r, node, x, NULL, &win)) return 0;
  memset(&pool, 0, sizeof pool);
  pool.in = shape_of(x->dims[0] * win.in[0], win.in[1], win.in[2], x->dims[1]);
  pool.window = flat_window(&win, 1, 2);
  pool.kind = kind;
  pool.count_padding = (int)integer_attribute(node, "count_include_pad", 0);
  if (kind == CN_POOL_MEAN) r->exact = 0;
  const float *images = channels_last(x);
  const float *y = pool_flat(r, &pool, images, &out);
  if (!y) return 0;
  ptrdiff_t all[5] = {x->dims[0], x->dims[1], win.in[0], out.height, out.width};
  if (x->rank == 5) {
    cn_pool2d down = pool;
    down.in = shape_of(x->dims[0], win.in[0], (ptrdiff_t)out.height * out.width, out.channels);
    down.window = flat_window(&win, 0, -1);
    y = pool_flat(r, &down, y, &deep);
    if (!y) return 0;
    all[2] = deep.height;
  }
  ptrdiff_t dims[5] = {all[0], all[1], 0, 0, 0};
  for (int i = 2; i < x->rank; i++) dims[i] = all[5 - x->rank + i];
  add_value(r, node->outputs[0], x->rank, dims, channels_first(y, dims, x->rank));
  if (!has_output(node, 1)) return 1;
  if (x->rank == 5) return refuse(r, "Indices of a 3-D pooling");
  const int by_columns = integer_attribute(node, "storage_order", 0) == 1;
  add_value(r, node->outputs[1], x->rank, dims, pool_indices(&pool, images, &out, by_columns));
  return 1;
}

static int run_global_mean(run *r, const onnx_node *node) {
  const value *x = input_of(r, node, 0);
  cn_pool2d pool;
  cn_shape out;
  if (!x || x->rank < 3 || x->rank > 4) return refuse(r, "global pooling of unusual images");
  memset(&pool, 0, sizeof pool);
  pool.in = shape_of(x->dims[0], x->rank == 4 ? x->dims[2] : 1, x->dims[x->rank - 1], x->dims[1]);
  pool.window.height = pool.in.height;
  pool.window.width = pool.in.width;
  pool.kind = CN_POOL_MEAN;
  const float *y = pool_flat(r, &pool, channels_last(x), &out);
  if (!y) return 0;
  const ptrdiff_t dims[4] = {x->dims[0], x->dims[1], 1, 1};
  add_value(r, node->outputs[0], x->rank, dims, y);
  r->exact = 0;
  return 1;
}

/* ---- BatchNormalization, Softmax ------------------------------------------------------------- */

static float *copied(const float *from, ptrdiff_t count) {
  float *to = floats(count);
  memcpy(to, from, (size_t)count * sizeof *to);
  return to;
}

/* The batch's own figures. ONNX's momentum is the share of the old running figure, and its
   running variance moves by the biased variance of the batch, where this library (as PyTorch)
   takes the unbiased. */
static void batch_figures(const float *x, ptrdiff_t rows, ptrdiff_t channels, float eps, float keep,
                          float *mean, float *inverse, float *running_mean,
                          float *running_variance) {
  const int parts = cn_batchnorm_parts((size_t)rows), c = (int)channels;
  double *sums = memory((size_t)(2 * parts * c) * sizeof *sums);
  const float *old = copied(running_variance, channels);
  const cn_batchnorm norm = {.rows = (size_t)rows,
                             .channels = c,
                             .eps = eps,
                             .momentum = 1 - keep,
                             .mean = mean,
                             .inverse_deviation = inverse,
                             .running_mean = running_mean,
                             .running_variance = running_variance};
  cn_batchnorm_statistics(&norm, x, sums, 0, parts);
  cn_batchnorm_finish(&norm, sums);
  for (ptrdiff_t i = 0; i < channels; i++) {
    const double kept = (double)keep * (double)old[i], moved = (double)running_variance[i] - kept;
    running_variance[i] = (float)(kept + moved * (double)(rows - 1) / (double)rows);
  }
}

static int run_batchnorm(run *r, const onnx_node *node) {
  const value *in[5];
  for (int i = 0; i < 5; i++) in[i] = input_of(r, node, i);
  const value *x = in[0];
  if (!in[0] || !in[1] || !in[2] || !in[3] || !in[4] || x->rank < 2)
    return refuse(r, "missing inputs");
  const float eps = number_attribute(node, "epsilon", 1e-5f),
              keep = number_attribute(node, "momentum", 0.9f);
  const int training = r->model->opset >= 14 ? integer_attribute(node, "training_mode", 0) != 0
                                             : has_output(node, 1);
  const ptrdiff_t channels = x->dims[1], rows = x->count / channels;
  float *mean = copied(in[3]->values, channels), *variance = copied(in[4]->values, channels);
  float *inverse = floats(channels), *used_mean = floats(channels);
  const float *images = channels_last(x);
  if (training) {
    batch_figures(images, rows, channels, eps, keep, used_mean, inverse, mean, variance);
  } else {
    memcpy(used_mean, mean, (size_t)channels * sizeof *mean);
    for (ptrdiff_t c = 0; c < channels; c++) inverse[c] = 1 / sqrtf(variance[c] + eps);
  }
  float *y = floats(x->count);
  const cn_batchnorm norm = {.rows = (size_t)rows,
                             .channels = (int)channels,
                             .scale = in[1]->values,
                             .shift = in[2]->values,
                             .mean = used_mean,
                             .inverse_deviation = inverse};
  cn_batchnorm_forward(&norm, images, y, 0, norm.rows);
  result(r, node, 0, x, channels_first(y, x->dims, x->rank));
  if (has_output(node, 1)) result(r, node, 1, in[3], mean);
  if (has_output(node, 2)) result(r, node, 2, in[4], variance);
  r->exact = 0;
  return 1;
}

/* Before version 13 everything from the axis on was one row. */
static int run_softmax(run *r, const onnx_node *node) {
  const value *x = input_of(r, node, 0);
  if (!x || !x->rank) return refuse(r, "Softmax without rows");
  const int old = r->model->opset < 13;
  int axis = (int)integer_attribute(node, "axis", old ? 1 : -1);
  if (axis < 0) axis += x->rank;
  const ptrdiff_t outer = product(x->dims, 0, axis);
  const ptrdiff_t classes = old ? product(x->dims, axis, x->rank) : x->dims[axis];
  const ptrdiff_t inner = old ? 1 : product(x->dims, axis + 1, x->rank);
  float *rows = turned(x->values, outer, classes, inner);
  cn_softmax(rows, rows, (size_t)(outer * inner), (int)classes);
  result(r, node, 0, x, turned(rows, outer, inner, classes));
  r->exact = 0;
  return 1;
}

/* ---- element by element ---------------------------------------------------------------------- */

static int run_unary(run *r, const onnx_node *node, void (*kernel)(const float *, float *, size_t),
                     int exact) {
  const value *x = input_of(r, node, 0);
  if (!x) return refuse(r, "%s without input", node->type);
  float *y = floats(x->count);
  kernel(x->values, y, (size_t)x->count);
  result(r, node, 0, x, y);
  r->exact = r->exact && exact;
  return 1;
}

static void negate(const float *x, float *y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = -x[i];
}

/* A tensor stretched to the given shape, dimensions aligned at the end; NULL if it does not fit. */
static float *stretched(const value *v, int rank, const ptrdiff_t *dims) {
  const ptrdiff_t count = product(dims, 0, rank);
  float *y = floats(count);
  for (int i = 1; i <= v->rank; i++) {
    if (i > rank || (v->dims[v->rank - i] != 1 && v->dims[v->rank - i] != dims[rank - i]))
      return NULL;
  }
  for (ptrdiff_t i = 0; i < count; i++) {
    ptrdiff_t rest = i, at = 0, step = 1;
    for (int k = 1; k <= v->rank; k++) {
      const ptrdiff_t place = rest % dims[rank - k];
      rest /= dims[rank - k];
      at += v->dims[v->rank - k] == 1 ? 0 : place * step;
      step *= v->dims[v->rank - k];
    }
    y[i] = v->values[at];
  }
  return y;
}

/* Add is the library's; Mul is here for models that have it beside. */
static int run_binary(run *r, const onnx_node *node, int is_add) {
  const value *a = input_of(r, node, 0), *b = input_of(r, node, 1);
  const onnx_attribute *axis = attribute(node, "axis"); /* how version 6 aligned b */
  ptrdiff_t dims[ONNX_MAX_RANK] = {0};
  if (!a || !b) return refuse(r, "%s without two inputs", node->type);
  if (axis && axis->integer + b->rank != a->rank)
    return refuse(r, "%s aligned in the middle", node->type);
  const int rank = a->rank > b->rank ? a->rank : b->rank;
  for (int i = 1; i <= rank; i++) {
    const ptrdiff_t of_a = i <= a->rank ? a->dims[a->rank - i] : 1;
    const ptrdiff_t of_b = i <= b->rank ? b->dims[b->rank - i] : 1;
    dims[rank - i] = of_a > of_b ? of_a : of_b;
  }
  float *x = stretched(a, rank, dims), *y = stretched(b, rank, dims);
  if (!x || !y) return refuse(r, "%s of shapes that do not fit", node->type);
  const ptrdiff_t count = product(dims, 0, rank);
  if (is_add) cn_add(x, y, y, (size_t)count);
  for (ptrdiff_t i = 0; !is_add && i < count; i++) y[i] *= x[i];
  add_value(r, node->outputs[0], rank, dims, y);
  return 1;
}

/* A run of values along the axis and behind it is to cn_copy_channels what channels are to a
   pixel. */
static int run_concat(run *r, const onnx_node *node) {
  const value *first = input_of(r, node, 0);
  ptrdiff_t dims[ONNX_MAX_RANK], width = 0;
  if (!first || !first->rank) return refuse(r, "Concat without inputs");
  int axis = (int)integer_attribute(node, "axis", 1);
  if (axis < 0) axis += first->rank;
  memcpy(dims, first->dims, sizeof dims);
  dims[axis] = 0;
  for (int i = 0; i < node->input_count; i++) {
    const value *x = input_of(r, node, i);
    if (!x || x->rank != first->rank) return refuse(r, "Concat of unequal ranks");
    dims[axis] += x->dims[axis];
    width += product(x->dims, axis, x->rank);
  }
  const ptrdiff_t rows = product(dims, 0, axis);
  float *y = floats(rows * width), *at = y;
  for (int i = 0; i < node->input_count; i++) {
    const value *x = input_of(r, node, i);
    const size_t run_length = (size_t)product(x->dims, axis, x->rank);
    cn_copy_channels(x->values, run_length, at, (size_t)width, (size_t)rows, run_length);
    at += run_length;
  }
  add_value(r, node->outputs[0], first->rank, dims, y);
  return 1;
}

/* In training the choice is random and cannot be another generator's; that what is kept is
   scaled alike, and that the mask tells the truth, can be compared. */
static int run_dropout(run *r, const onnx_node *node) {
  const value *x = input_of(r, node, 0), *ratio = input_of(r, node, 1),
              *mode = input_of(r, node, 2);
  if (!x) return refuse(r, "Dropout without input");
  const int training = mode && mode->values[0] != 0;
  const float rate = !training ? 0 : ratio ? ratio->values[0] : 0.5f;
  float *y = floats(x->count), *mask = floats(x->count), *kept = floats(x->count),
        *ones = floats(x->count);
  cn_dropout(x->values, y, 0, (size_t)x->count, rate, 1);
  for (ptrdiff_t i = 0; i < x->count; i++) {
    mask[i] = y[i] != 0 || x->values[i] == 0;
    kept[i] = x->values[i] / (1 - rate);
    ones[i] = 1;
  }
  value *v = result(r, node, 0, x, y);
  if (rate > 0) v->kept = kept;
  if (rate > 0) r->exact = 0;
  if (!has_output(node, 1)) return 1;
  v = result(r, node, 1, x, mask);
  if (rate > 0) v->kept = ones;
  return 1;
}

/* ---- what stands around the operators -------------------------------------------------------- */

static int run_constant(run *r, const onnx_node *node) {
  const onnx_attribute *a = attribute(node, "value");
  if (!a || !a->tensor.values) return refuse(r, "Constant without a tensor");
  add_tensor(r, node->outputs[0], &a->tensor);
  return 1;
}

/* Unsqueeze puts dimensions of 1 in, Squeeze takes them out; the values stay. */
static int run_squeeze(run *r, const onnx_node *node, int insert) {
  const value *x = input_of(r, node, 0);
  const onnx_attribute *axes = attribute(node, "axes");
  ptrdiff_t dims[ONNX_MAX_RANK] = {0};
  int rank = 0, taken = 0;
  if (!x || !axes || x->rank + axes->int_count > ONNX_MAX_RANK)
    return refuse(r, "%s as an input", node->type);
  const int places = insert ? x->rank + axes->int_count : x->rank;
  for (int i = 0; i < places; i++) {
    int listed = 0;
    for (int k = 0; k < axes->int_count; k++) listed |= axes->ints[k] == i;
    if (insert) dims[rank++] = listed ? 1 : x->dims[taken++];
    if (!insert && !listed) dims[rank++] = x->dims[i];
  }
  if (product(dims, 0, rank) != x->count) return refuse(r, "%s that changes the size", node->type);
  add_value(r, node->outputs[0], rank, dims, x->values);
  return 1;
}

static int run_node(run *r, const onnx_node *node) {
  const char *type = node->type;
  if (!has_output(node, 0)) return refuse(r, "a node without output");
  if (!strcmp(type, "Conv")) return run_conv(r, node);
  if (!strcmp(type, "Gemm")) return run_gemm(r, node);
  if (!strcmp(type, "MaxPool")) return run_pool(r, node, CN_POOL_MAX);
  if (!strcmp(type, "AveragePool")) return run_pool(r, node, CN_POOL_MEAN);
  if (!strcmp(type, "GlobalAveragePool")) return run_global_mean(r, node);
  if (!strcmp(type, "BatchNormalization")) return run_batchnorm(r, node);
  if (!strcmp(type, "Softmax")) return run_softmax(r, node);
  if (!strcmp(type, "Relu")) return run_unary(r, node, cn_relu_forward, 1);
  if (!strcmp(type, "Sigmoid")) return run_unary(r, node, cn_sigmoid_forward, 0);
  if (!strcmp(type, "Tanh")) return run_unary(r, node, cn_tanh_forward, 0);
  if (!strcmp(type, "Add")) return run_binary(r, node, 1);
  if (!strcmp(type, "Concat")) return run_concat(r, node);
  if (!strcmp(type, "Dropout")) return run_dropout(r, node);
  if (!strcmp(type, "Constant")) return run_constant(r, node);
  if (!strcmp(type, "Unsqueeze")) return run_squeeze(r, node, 1);
  if (!strcmp(type, "Squeeze")) return run_squeeze(r, node, 0);
  if (!strcmp(type, "Neg")) return run_unary(r, node, negate, 1);
  if (!strcmp(type, "Mul")) return run_binary(r, node, 0);
  return refuse(r, "has operator %s", type);
}

/* ---- cases ----------------------------------------------------------------------------------- */

typedef struct test_case {
  char path[512];
  onnx_model *model;
  onnx_tensor inputs[ONNX_MAX_TENSORS], outputs[ONNX_MAX_TENSORS];
  int input_count, output_count;
  char reason[160];
} test_case;

static cn_isa isas[CN_ISA_AVX512 + 1];
static int isa_count, failures;

static onnx_bytes read_part(const test_case *c, const char *part) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", c->path, part);
  return onnx_read_file(path);
}

/* input_0.pb, input_1.pb, ... ; 0 if one of them cannot be used. */
static int read_tensors(test_case *c, const char *kind, onnx_tensor *tensors, int *count) {
  for (*count = 0; *count < ONNX_MAX_TENSORS; ++*count) {
    char part[64];
    snprintf(part, sizeof part, "test_data_set_0/%s_%d.pb", kind, *count);
    const onnx_bytes file = read_part(c, part);
    if (!file.at) return 1;
    const int fine = onnx_read_tensor(file, &tensors[*count]);
    onnx_free_file(file);
    if (!fine) return 0;
  }
  return 0;
}

static int is_wanted(const char *type) {
  for (size_t i = 0; i < WANTED_COUNT; i++) {
    if (!strcmp(wanted[i], type)) return 1;
  }
  return 0;
}

/* The first operator that is ours, or NULL. */
static const char *wanted_operator(const onnx_model *model) {
  for (int i = 0; i < model->node_count; i++) {
    if (is_wanted(model->nodes[i].type)) return model->nodes[i].type;
  }
  return NULL;
}

static void close_case(test_case *c) {
  for (int i = 0; i < c->input_count; i++) free(c->inputs[i].values);
  for (int i = 0; i < c->output_count; i++) free(c->outputs[i].values);
  onnx_free_model(c->model);
}

/* 1 if the case's model was read; c->reason says if its tensors were not. */
static int open_case(test_case *c, const char *folder, const char *group, const char *name) {
  memset(c, 0, sizeof *c);
  snprintf(c->path, sizeof c->path, "%s/%s/%s", folder, group, name);
  const onnx_bytes file = read_part(c, "model.onnx");
  if (!file.at) return 0;
  c->model = onnx_read_model(file);
  onnx_free_file(file);
  if (!c->model || !wanted_operator(c->model)) return c->model != NULL;
  if (!read_tensors(c, "input", c->inputs, &c->input_count) ||
      !read_tensors(c, "output", c->outputs, &c->output_count)) {
    snprintf(c->reason, sizeof c->reason,
             "tensors that a float cannot hold or that are not tensors");
  } else if (!c->output_count) {
    snprintf(c->reason, sizeof c->reason, "no expected outputs");
  }
  return 1;
}

/* Inputs of the graph in their order, except those that are initialisers. */
static void feed(run *r, const test_case *c) {
  int next = 0;
  for (int i = 0; i < c->model->initialiser_count; i++) {
    add_tensor(r, c->model->initialisers[i].name, &c->model->initialisers[i]);
  }
  for (int i = 0; i < c->model->input_count && next < c->input_count; i++) {
    if (!find_value(r, c->model->inputs[i])) add_tensor(r, c->model->inputs[i], &c->inputs[next++]);
  }
}

static int run_model(run *r, const test_case *c, cn_math math) {
  memset(r, 0, sizeof *r);
  r->model = c->model;
  r->math = math;
  r->exact = 1;
  feed(r, c);
  for (int i = 0; i < c->model->node_count; i++) {
    if (!run_node(r, &c->model->nodes[i])) return 0;
  }
  return 1;
}

static int is_close(double got, double want, double allowed) {
  if (isnan(want)) return isnan(got);
  if (isinf(want)) return got == want;
  return fabs(got - want) <= allowed; /* false for NaN */
}

/* The first value that is off, or -1. */
static ptrdiff_t first_wrong(const value *got, const onnx_tensor *want, int exact) {
  double largest = 0;
  for (ptrdiff_t i = 0; i < want->count; i++) {
    if (isfinite(want->values[i])) largest = fmax(largest, fabs(want->values[i]));
  }
  const double allowed = exact ? 0 : tolerance * largest;
  for (ptrdiff_t i = 0; i < want->count; i++) {
    const double y = got->values[i], expected = want->values[i];
    if (!got->kept && is_close(y, expected, allowed)) continue;
    if (got->kept && (y == 0 || is_close(y, got->kept[i], allowed)) &&
        (expected == 0 || is_close(expected, got->kept[i], allowed))) {
      continue;
    }
    return i;
  }
  return -1;
}

static void complain(const run *r, const test_case *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  failures++;
  fprintf(stderr, "FAILED %s math=%d %s: ", cn_isa_name(), (int)r->math, c->path);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
}

static void compare_output(run *r, const test_case *c, int index) {
  const onnx_tensor *want = &c->outputs[index];
  const value *got = find_value(r, c->model->outputs[index]);
  if (!got) {
    complain(r, c, "output %s is missing", c->model->outputs[index]);
    return;
  }
  int same_shape = got->rank == want->rank && got->count == want->count;
  for (int i = 0; same_shape && i < got->rank; i++) same_shape = got->dims[i] == want->dims[i];
  if (!same_shape) {
    complain(r, c, "output %s has rank %d and %td values, expected %d and %td", got->name,
             got->rank, got->count, want->rank, want->count);
    return;
  }
  const ptrdiff_t wrong = first_wrong(got, want, r->exact);
  if (wrong < 0) return;
  complain(r, c, "output %s at %td is %.9g, expected %.9g", got->name, wrong,
           (double)got->values[wrong], (double)want->values[wrong]);
}

/* On all instruction sets, a convolution in every way. 0 with c->reason if the case cannot be
   run. */
static int run_case(test_case *c) {
  static run r;
  static const cn_math maths[3] = {CN_MATH_FAST, CN_MATH_DIRECT, CN_MATH_EXACT};
  const int ways = !strcmp(wanted_operator(c->model), "Conv") ? 3 : 1;
  int fine = !c->reason[0];
  for (int i = 0; fine && i < isa_count * ways; i++) {
    cn_isa_limit(isas[i / ways]);
    fine = run_model(&r, c, maths[i % ways]);
    if (!fine) snprintf(c->reason, sizeof c->reason, "%s", r.reason);
    for (int k = 0; fine && k < c->output_count; k++) compare_output(&r, c, k);
    forget_all();
  }
  return fine;
}

/* ---- the whole collection -------------------------------------------------------------------- */

typedef struct tally {
  int run[WANTED_COUNT], skipped[WANTED_COUNT]; /* by the first operator */
  int all_run, all_skipped, unread, others;
} tally;

static size_t operator_index(const char *type) {
  size_t i = 0;
  while (i + 1 < WANTED_COUNT && strcmp(wanted[i], type) != 0) i++;
  return i;
}

static void take_case(tally *t, const char *folder, const char *group, const char *name) {
  static test_case c;
  if (!open_case(&c, folder, group, name)) {
    t->unread++;
    return;
  }
  const char *type = wanted_operator(c.model);
  if (!type) {
    t->others++;
  } else if (run_case(&c)) {
    t->run[operator_index(type)]++;
    t->all_run++;
  } else {
    printf("  skipped %s/%s: %s\n", group, name, c.reason);
    t->skipped[operator_index(type)]++;
    t->all_skipped++;
  }
  close_case(&c);
}

static int is_test(const struct dirent *entry) {
  return !strncmp(entry->d_name, "test_", 5);
}

static void take_group(tally *t, const char *folder, const char *group) {
  char path[512];
  struct dirent **entries;
  snprintf(path, sizeof path, "%s/%s", folder, group);
  const int count = scandir(path, &entries, is_test, alphasort);
  for (int i = 0; i < count; i++) {
    take_case(t, folder, group, entries[i]->d_name);
    free(entries[i]);
  }
  if (count >= 0) free(entries);
}

static const char *data_folder(void) {
  const char *named = getenv("ONNX_TESTDATA");
  return named && *named ? named : "/usr/share/libonnx-testdata/data";
}

static int have_data(void) {
  DIR *folder = opendir(data_folder());
  if (folder) {
    closedir(folder);
    return 1;
  }
  printf("skipped all: no conformance cases in %s (Debian: apt install libonnx-testdata)\n",
         data_folder());
  fflush(stdout);
  return 0;
}

static void find_isas(void) {
  printf("instruction sets:");
  for (int isa = CN_ISA_SCALAR; isa <= CN_ISA_AVX512; isa++) {
    if (cn_isa_limit((cn_isa)isa) != (cn_isa)isa) continue;
    isas[isa_count++] = (cn_isa)isa;
    printf(" %s", cn_isa_name());
  }
  printf("\n");
  fflush(stdout);
}

static void test_conformance(void **state) {
  static const char *const groups[] = {"node", "simple", "pytorch-converted", "pytorch-operator"};
  tally t;
  (void)state;
  if (!have_data()) skip();
  memset(&t, 0, sizeof t);
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
    take_group(&t, data_folder(), groups[i]);
  for (size_t i = 0; i < WANTED_COUNT; i++) {
    printf("  %-20s %3d run %3d skipped\n", wanted[i], t.run[i], t.skipped[i]);
  }
  printf("ONNX cases: %d run on %d instruction sets, %d skipped; %d models have none of our "
         "operators, "
         "%d could not be read\n",
         t.all_run, isa_count, t.all_skipped, t.others, t.unread);
  fflush(stdout);
  assert_int_equal(failures, 0);
  assert_true(t.all_run > 0);
}

/* ---- the tests' own tests -------------------------------------------------------------------- */

/* An expectation that is changed in one value is noticed. */
static void test_wrong_is_noticed(void **state) {
  static const char *const names[] = {"test_relu", "test_basic_conv_with_padding",
                                      "test_softmax_axis_0", "test_maxpool_2d_default"};
  (void)state;
  if (!have_data()) skip();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    static run r;
    static test_case c;
    assert_true(open_case(&c, data_folder(), "node", names[i]));
    assert_true(run_model(&r, &c, CN_MATH_FAST));
    const value *got = find_value(&r, c.model->outputs[0]);
    assert_non_null(got);
    assert_int_equal(first_wrong(got, &c.outputs[0], r.exact), -1);
    const ptrdiff_t last = c.outputs[0].count - 1;
    c.outputs[0].values[last] += fabsf(c.outputs[0].values[last]) * 0.001f + 0.001f;
    assert_int_equal(first_wrong(got, &c.outputs[0], r.exact), last);
    c.outputs[0].values[last] = NAN;
    assert_int_equal(first_wrong(got, &c.outputs[0], r.exact), last);
    forget_all();
    close_case(&c);
  }
}

/* The reader takes any bytes without harm: models cut short, and models with a byte changed. The
   copies are blocks of exactly their size, for AddressSanitizer to see a step beyond. */
static void read_damaged(const uint8_t *data, size_t size, size_t change, uint8_t by) {
  uint8_t *copy = malloc(size ? size : 1);
  onnx_tensor tensor;
  assert_non_null(copy);
  if (size) memcpy(copy, data, size);
  if (change < size) copy[change] ^= by;
  const onnx_bytes bytes = {copy, size};
  onnx_free_model(onnx_read_model(bytes));
  if (onnx_read_tensor(bytes, &tensor)) free(tensor.values);
  free(copy);
}

static void test_reader_survives(void **state) {
  static const char *const files[] = {
      "node/test_batchnorm_epsilon_training_mode/model.onnx",
      "node/test_softmax_axis_0/test_data_set_0/input_0.pb",
      "node/test_concat_1d_axis_0/test_data_set_0/output_0.pb",
      "pytorch-converted/test_Conv2d_depthwise/model.onnx",
  };
  (void)state;
  if (!have_data()) skip();
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", data_folder(), files[i]);
    const onnx_bytes file = onnx_read_file(path);
    assert_non_null(file.at);
    for (size_t size = 0; size <= file.left; size++) read_damaged(file.at, size, size, 0);
    for (size_t change = 0; change < file.left; change++) {
      read_damaged(file.at, file.left, change, 1);
      read_damaged(file.at, file.left, change, 0x80);
      read_damaged(file.at, file.left, change, 0xFF);
    }
    onnx_free_file(file);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reader_survives),
      cmocka_unit_test(test_wrong_is_noticed),
      cmocka_unit_test(test_conformance),
  };
  find_isas();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
