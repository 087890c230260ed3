/* Sizes that hostile texts and files may ask for: what is too large is refused, in the shape or for
   want of memory, and no product of sizes comes out smaller than it is. Needs no cmocka: compile.sh
   runs it where addresses have 32 bits too, and products pass SIZE_MAX early. */
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* Sanitizers end the program where malloc would return NULL, unless told not to. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "allocator_may_return_null=1";
}

/* Then half of what 64 bits take is refused for one image already. */
static const int small_addresses = sizeof(size_t) < 8;

static int faults;

static void expect(int good, const char *format, ...) {
  va_list arguments;
  if (good) return;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  faults++;
}

/* ---- sizes of kernels ------------------------------------------------------------------------ */

static cn_conv2d conv_of(int count, int height, int width, int channels, int filters, int groups,
                         int side, int pad, int pool) {
  cn_conv2d conv;
  memset(&conv, 0, sizeof conv);
  conv.in.count = count, conv.in.height = height, conv.in.width = width;
  conv.in.channels = channels, conv.filters = filters, conv.groups = groups, conv.pool = pool;
  conv.window.height = conv.window.width = side;
  conv.window.pad_top = conv.window.pad_left = conv.window.pad_bottom = conv.window.pad_right = pad;
  return conv;
}

/* At least `least`, or so much that no memory has it. */
static void assert_at_least(const char *what, int row, size_t got, double least) {
  expect((double)got >= least || got > SIZE_MAX / 2,
         "%s of convolution %d is %zu, should be at least %.0f", what, row, got, least);
}

static void assert_sizes(int row, const cn_conv2d *conv) {
  cn_shape out;
  cn_error error;
  if (cn_conv2d_output(conv, &out, &error) != CN_OK) {
    expect(small_addresses, "convolution %d: %s", row, error.message);
    return;
  }
  const int groups = conv->groups ? conv->groups : 1, side = conv->window.height;
  const int pad = conv->window.pad_top;
  const double weights = (double)side * side * conv->in.channels / groups * conv->filters;
  const double padded =
      ((double)conv->in.height + pad) * ((double)conv->in.width + pad) * conv->in.channels;
  const int direct = conv->math == CN_MATH_DIRECT && side > 1 && !conv->pool;
  for (int pass = CN_FORWARD; pass <= CN_BACKWARD_INPUT; pass++) {
    assert_at_least("packed count", row, cn_conv2d_packed_count(conv, (cn_pass)pass), weights);
    assert_at_least("workspace", row, cn_conv2d_workspace(conv, (cn_pass)pass), 64);
  }
  if (direct && pad) {
    assert_at_least("workspace", row, cn_conv2d_workspace(conv, CN_FORWARD), 4 * padded);
    assert_at_least("workspace", row, cn_conv2d_workspace(conv, CN_BACKWARD_WEIGHTS), 4 * padded);
  }
  assert_at_least("partial count", row, cn_conv2d_partial_count(conv), weights + conv->filters);
  for (int pass = CN_FORWARD; pass <= CN_BACKWARD_WEIGHTS; pass++) {
    const int units = cn_conv2d_units(conv, (cn_pass)pass);
    expect(units > 0, "convolution %d has %d units", row, units);
  }
}

static void sizes_of_convolutions(void) {
  const cn_conv2d rows[] = {
      conv_of(1, 32, 32, 3, 16, 1, 3, 1, 0),
      conv_of(1, 1, 1, 65536, 32766, 1, 1, 0, 0),        /* nearly 2^31 weights */
      conv_of(1, 2, 2, 32767, 16384, 1, 2, 0, 0),        /* the same in windows */
      conv_of(1, 65536, 32760, 1, 1, 1, 3, 1, 0),        /* nearly 2^31 values */
      conv_of(65536, 65536, 2040, 16, 8, 1, 3, 1, 0),    /* Winograd, one row of tiles a share */
      conv_of(INT_MAX, 65536, 2040, 16, 8, 1, 3, 1, 0),  /* more units than an int counts */
      conv_of(65536, 16, 65536, 1024, 1024, 1, 3, 1, 0), /* few rows, wide patches */
      conv_of(INT_MAX, 46340, 46340, 1, 1, 1, 1, 0, 0),  /* flat */
      conv_of(INT_MAX, 1024, 1024, 64, 64, 64, 3, 1, 0), /* depthwise */
      conv_of(INT_MAX, 4096, 4096, 8, 16, 1, 5, 2, 1),   /* sparse */
      conv_of(INT_MAX, 16384, 16384, 1, 7, 1, 3, 1, 1),  /* grey */
      conv_of(1, 1, 1, 65536, 3640, 1, 3, 1, 0),         /* Winograd: 36 values for 9 weights */
      conv_of(1, 2, 2, 65536, 3640, 1, 3, 1, 1),
      conv_of(1, 2, 2, 65536, 800, 1, 3, 1, 0), /* the same for 32 bits */
      conv_of(99999, 4096, 4096, 16, 8, 1, 3, 1, 0),
      conv_of(99999, 16384, 16384, 1, 1, 1, 3, 1, 0),
      conv_of(16384, 256, 256, 16384, 1, 1, 3, 1, 0),    /* columns rounded up to vectors */
      conv_of(1, 30000, 30000, 1, 1, 1, 40000, 5000, 0), /* a window larger than the map */
  };
  static const cn_isa isas[] = {CN_ISA_SCALAR, CN_ISA_AVX2, CN_ISA_AVX512};
  static const cn_math maths[] = {CN_MATH_DIRECT, CN_MATH_EXACT, CN_MATH_FAST};
  const cn_isa best = cn_isa_current();
  for (int i = 0; i < LENGTH(isas); i++) {
    cn_isa_limit(isas[i]);
    for (int row = 0; row < LENGTH(rows); row++) {
      for (int k = 0; k < LENGTH(maths); k++) {
        cn_conv2d conv = rows[row];
        conv.math = maths[k];
        if (row == 6) conv.in.height = 2, conv.in.width = 16383;
        assert_sizes(row, &conv);
      }
    }
  }
  cn_isa_limit(best);
  const cn_conv2d dense = cn_dense(65536, INT32_MAX - 65535, 1, 0);
  assert_at_least("packed count", 0, cn_conv2d_packed_count(&dense, CN_BACKWARD_INPUT), 2147418112);
  expect(cn_batchnorm_parts(SIZE_MAX) > 0, "%d parts", cn_batchnorm_parts(SIZE_MAX));
}

/* Windows and maps that pass every limit, but not their products. */
static void shapes_refused(void) {
  cn_conv2d rows[] = {
      conv_of(1, 65536, 65536, 1, 1, 1, 1, 0, 0),
      conv_of(1, 65537, 1, 1, 1, 1, 1, 0, 0),
      conv_of(1, 2, 65537, 1, 1, 1, 1, 0, 0),
      conv_of(1, 8, 8, 1, 1, 1, 65536, 0, 0),
      conv_of(1, 8, 8, 1, 1, 1, 65536, 65536, 0), /* 2^32 weights */
      conv_of(1, 8, 8, 16, 65536, 1, 46340, 46340, 0),
      conv_of(1, 60000, 2, 1, 1, 1, 1, 10000, 0), /* 80000 rows of results */
      conv_of(1, 2, 2, 30000, 1, 30000, 2, 60000, 0),
      cn_dense(1, INT32_MAX, 1, 0),
  };
  for (int i = 0; i < LENGTH(rows); i++) {
    cn_shape out;
    cn_error error = {CN_OK, 0, 0, ""};
    if (i == 3) rows[i].window.dilation_y = rows[i].window.dilation_x = 65536;
    expect(cn_conv2d_output(&rows[i], &out, &error) != CN_OK && error.message[0],
           "convolution %d accepted", i);
  }
}

/* The mean's divisor counts the places of a window and its padding, of which there may be 2^32. */
static void widest_mean(void) {
  cn_pool2d pool;
  cn_shape out;
  float x = 1, y = 0;
  memset(&pool, 0, sizeof pool);
  pool.in.count = pool.in.height = pool.in.width = pool.in.channels = 1;
  pool.kind = CN_POOL_MEAN, pool.count_padding = 1;
  pool.window.height = pool.window.width = 65536;
  pool.window.pad_top = pool.window.pad_left = 65535;
  expect(cn_pool2d_output(&pool, &out, NULL) == CN_OK, "refused");
  cn_pool2d_forward(&pool, &x, &y, 0, 1);
  expect(fabs((double)y * 4294967296.0 - 1) < 1e-6, "the mean is %g", (double)y);
}

/* ---- texts ----------------------------------------------------------------------------------- */

static void texts_refused(void) {
  static const char *const texts[] = {
      "input 1x1x30000\nmaxpool 60000x60000 pad=59999 stride=1",
      "input 2x2x60000\nmeanpool 2x2 stride=1 pad=1\nmeanpool 30000 pad=29999 stride=1",
      "input 65536x65536x1\nrelu",
      "input 65536x32767x1\nconv 2 3x3",
      "input 8x8x1\nconv 3 999999 dilation=999999 pad=same",
      "input 8x8x1\nconv 3 65536 dilation=65536 pad=same",
      "input 8x8x1\nmaxpool 65536 dilation=65536 pad=same",
      "input 999999x1x1\nrelu",
      "input 1x999999x1\nrelu",
      "input 256x256x32767\ndense 2",
      "input 2x2x60000\nadaptivemean 60000x60000",
  };
  for (int i = 0; i < LENGTH(texts); i++) {
    cn_error error = {CN_OK, 0, 0, ""};
    cn_network *net = cn_network_parse(texts[i], &error);
    expect(!net, "accepted: %s", texts[i]);
    expect(error.status == CN_ERROR_SHAPE || error.status == CN_ERROR_ARGUMENT, "status %d, %s: %s",
           (int)error.status, error.message, texts[i]);
    cn_network_free(net);
  }
}

/* ---- plans ----------------------------------------------------------------------------------- */

static void assert_plan_refused(const char *text, int max_count) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_network_parse(text, &error);
  cn_training_options options = cn_training_defaults();
  cn_predictor *predictor;
  cn_trainer *trainer;
  if (!net) {
    expect(small_addresses, "%s: %s", error.message, text);
    return;
  }
  predictor = cn_predictor_create(net, max_count, NULL, &error);
  if (predictor)
    expect(0, "a predictor for %d images holds %zu bytes: %s", max_count,
           cn_predictor_bytes(predictor), text);
  else
    expect(error.status == CN_ERROR_MEMORY, "status %d: %s", (int)error.status, error.message);
  trainer = cn_trainer_create(net, max_count, &options, &error);
  expect(!trainer && error.status == CN_ERROR_MEMORY, "a trainer for %d images: %s", max_count,
         text);
  cn_trainer_free(trainer);
  cn_predictor_free(predictor);
  cn_network_free(net);
}

/* Each image of these passes the limits; so many of them are in no machine's memory, but their
   bytes might come out as few if they wrapped. */
static void plans_without_memory(void) {
  assert_plan_refused("input 65536x32766x1\nrelu\nconv 1 1x1", 16384);
  assert_plan_refused("input 65536x32766x1\nmaxpool 2x2 stride=1\nconv 1 3x3", 65536);
  assert_plan_refused("input 65536x2040x16\nconv 8 3x3 pad=1\nrelu", 65536);
  assert_plan_refused("input 65536x4080x8\nbatchnorm\nrelu", 65536);
  if (!small_addresses) return;
  assert_plan_refused("input 2048x2048x1\nrelu\nconv 1 1x1", 256); /* 256 of 16 MiB: 2^32 bytes */
  assert_plan_refused("input 2048x2048x1\nconv 1 3x3 pad=1\nrelu\nmaxpool 2x2", 1024);
  assert_plan_refused("input 1024x1024x1\nconv 16 3x3 pad=1\nbatchnorm\nrelu", 64);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {
      {"sizes of convolutions", sizes_of_convolutions},
      {"shapes refused", shapes_refused},
      {"the widest mean", widest_mean},
      {"texts refused", texts_refused},
      {"plans without memory", plans_without_memory},
  };
  int failed = 0;
  for (int i = 0; i < LENGTH(tests); i++) {
    faults = 0;
    tests[i].run();
    printf("%s %s\n", faults ? "not ok" : "ok", tests[i].name);
    failed += faults > 0;
  }
  return failed > 0;
}
