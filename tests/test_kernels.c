/* test_kernels.c - every kernel of convnet.h against reference.h, on every instruction set this
   machine has, around the sizes where vector code goes wrong.

   Build and run:  make build/tests/test_kernels && build/tests/test_kernels
   TEST_BUDGET=10  keeps about one case in ten (a percentage; for emulators and memory checkers)
   CONVNET_ISA     caps the instruction sets as it does for every user of the library

   How an error is judged: |got - reference| <= bound * (sum of |terms| + 1e-30), with the bounds
   of the header's chapter NUMBERS. A NaN on one side only is an error. Winograd convolution
   forms sums of neighbouring pixels before it multiplies, so a small output beside large ones
   inherits the error of its neighbours: for CN_MATH_EXACT and CN_MATH_FAST the sum of |terms| is
   its maximum over the whole output.

   How a stray access is caught: every buffer that a kernel sees ends at an unreadable page (or,
   aligned ones, less than 64 bytes before it), has known bytes around it that are verified
   afterwards, and starts as NaN. Under AddressSanitizer buffers are blocks of exactly the size
   needed instead. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mmap with MAP_ANONYMOUS under -std=c99 */
#endif

#include "../convnet.h"

#include "reference.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define EXACT_BLOCKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXACT_BLOCKS 1
#endif
#endif
#ifndef EXACT_BLOCKS
#define EXACT_BLOCKS 0
#endif

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Bounds of the header's chapter NUMBERS. */
static const double bound_direct = 2e-6, bound_exact = 4e-6, bound_fast = 2e-5;
static const double bound_mean = 1e-6, bound_exp = 2e-7, bound_loss = 1e-6;
static const double bound_batchnorm = 1e-5, bound_update = 1e-6;
static const double half_ulp = 6e-8;    /* relative rounding of one operation, 2^-24 and a bit */
static const double smallest = 1.3e-38; /* below this floats are subnormal and may count as zero */

/* ---- what is running, and what failed -------------------------------------------------------- */

static char context[512]; /* instruction set and case, for messages */
static int failures, quiet;

static void describe(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int start = snprintf(context, sizeof context, "%s ", cn_isa_name());
  vsnprintf(context + start, sizeof context - (size_t)start, format, arguments);
  va_end(arguments);
}

static void failed(const char *format, ...) {
  if (!quiet && failures < 60) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "FAILED %s: ", context);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
  }
  failures++;
}

#define EXPECT(condition, ...)                                                                     \
  do {                                                                                             \
    if (!(condition)) failed(__VA_ARGS__);                                                         \
  } while (0)

/* Says which case crashed before the old handler has its turn. */
static struct sigaction old_handlers[3];
static const int crashes[3] = {SIGSEGV, SIGBUS, SIGILL};

static void crashed(int signal_number) {
  const char *say[3] = {"CRASHED ", context, "\n"};
  for (int i = 0; i < 3; i++) {
    if (write(2, say[i], strlen(say[i])) < 0) break;
  }
  for (int i = 0; i < 3; i++) {
    if (crashes[i] == signal_number) sigaction(signal_number, &old_handlers[i], NULL);
  }
  raise(signal_number);
}

static void end_test(void) {
  if (failures > 60) fprintf(stderr, "... and %d more\n", failures - 60);
  assert_int_equal(failures, 0);
}

#if EXACT_BLOCKS
void __asan_on_error(void); /* called by AddressSanitizer before it reports */
void __asan_on_error(void) {
  fprintf(stderr, "WHILE %s\n", context);
}
#endif

/* ---- random values for the tests, not the library's ------------------------------------------ */

static uint64_t test_random_state;

static uint64_t test_random(void) {
  uint64_t z = test_random_state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

static int test_random_int(int low, int high) { /* both included */
  return low + (int)(test_random() % (uint64_t)(high - low + 1));
}

static double test_random_double(void) { /* [-1, 1) */
  return (double)(int64_t)(test_random() >> 11) / 4503599627370496.0 - 1;
}

/* Share of the cases to run, 1 unless TEST_BUDGET says less. */
static double budget(void) {
  const char *text = getenv("TEST_BUDGET");
  const double percent = text ? atof(text) : 100;
  return percent > 0 && percent < 100 ? percent / 100 : 1;
}

/* First call of every test. The handlers cannot be set earlier: cmocka sets its own before each
   test. */
static void begin_test(void **state, uint64_t seed) {
  struct sigaction action;
  (void)state;
  memset(&action, 0, sizeof action);
  action.sa_handler = crashed;
  for (int i = 0; i < 3; i++) sigaction(crashes[i], &action, &old_handlers[i]);
  failures = 0;
  test_random_state = seed;
}

static int within_budget(void) {
  return (test_random_double() + 1) / 2 < budget();
}

/* ---- guarded buffers ------------------------------------------------------------------------- */

typedef struct guarded {
  const char *name;
  unsigned char *map, *data; /* the mapping or block, and the buffer in it */
  size_t map_bytes, bytes;   /* map_bytes 0: a block from malloc */
} guarded;

#define MAX_LIVE 256
static guarded live[MAX_LIVE];
static int live_count;

enum {
  CANARY = 0xA5,
  POISON = 0xFF,
  GUARD_PAGE = 65536 /* a multiple of every page size in use */
};

static void *remember(const char *name, unsigned char *map, size_t map_bytes, unsigned char *data,
                      size_t bytes) {
  assert_true(live_count < MAX_LIVE);
  live[live_count].name = name;
  live[live_count].map = map;
  live[live_count].map_bytes = map_bytes;
  live[live_count].data = data;
  live[live_count].bytes = bytes;
  live_count++;
  memset(data, POISON, bytes);
  return data;
}

/* Readable memory of `room` bytes in front of an unreadable page. Mappings are kept for reuse: a
   fresh one costs a page fault for every page. */
static struct {
  unsigned char *map;
  size_t room;
} spare[MAX_LIVE];
static int spare_count;

static unsigned char *mapping(size_t room) {
  for (int i = 0; i < spare_count; i++) {
    if (spare[i].room != room) continue;
    unsigned char *map = spare[i].map;
    spare[i] = spare[--spare_count];
    return map;
  }
  unsigned char *map = mmap(NULL, room + GUARD_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(map != MAP_FAILED);
  assert_int_equal(mprotect(map, room, PROT_READ | PROT_WRITE), 0);
  return map;
}

static void give_back(unsigned char *map, size_t room) {
  if (spare_count < MAX_LIVE && room < 10000000) {
    spare[spare_count].map = map;
    spare[spare_count++].room = room;
  } else {
    munmap(map, room + GUARD_PAGE);
  }
}

/* A buffer of `bytes`, at a multiple of `alignment` and otherwise as close to its guard as it
   goes. */
static void *buffer(const char *name, size_t bytes, size_t alignment) {
  if (EXACT_BLOCKS) {
    void *block = NULL;
    if (alignment > sizeof(void *)) {
      assert_int_equal(posix_memalign(&block, alignment, bytes ? bytes : 1), 0);
    } else {
      block = malloc(bytes ? bytes : 1);
    }
    assert_non_null(block);
    return remember(name, block, 0, block, bytes);
  }
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t room = (bytes + page - 1) / page * page + page;
  unsigned char *map = mapping(room);
  memset(map, CANARY, room);
  return remember(name, map, room, map + (room - bytes) / alignment * alignment, bytes);
}

static size_t spoilt(const unsigned char *from, const unsigned char *to) {
  size_t count = 0;
  for (; from < to; from++) count += *from != CANARY;
  return count;
}

/* Verifies and frees the buffers made since live_count was `mark`. */
static void release(int mark) {
  while (live_count > mark) {
    const guarded *g = &live[--live_count];
    if (EXACT_BLOCKS || !g->map_bytes) {
      free(g->map);
      continue;
    }
    const size_t before = spoilt(g->map, g->data);
    const size_t after = spoilt(g->data + g->bytes, g->map + g->map_bytes);
    EXPECT(!before, "%zu bytes were written before buffer %s (%zu bytes)", before, g->name,
           g->bytes);
    EXPECT(!after, "%zu bytes were written after buffer %s (%zu bytes)", after, g->name, g->bytes);
    give_back(g->map, g->map_bytes);
  }
}

static size_t data_alignment = sizeof(float); /* of floats(): 4, or 64 to try the aligned case */

static float *floats(const char *name, ptrdiff_t count) {
  return buffer(name, (size_t)count * sizeof(float), data_alignment);
}

static float *aligned_floats(const char *name, size_t count) {
  return buffer(name, count * sizeof(float), 64);
}

static uint8_t *bytes(const char *name, ptrdiff_t count) {
  return buffer(name, (size_t)count, 1);
}

/* Reference values, which no kernel sees; freed by release as well. */
static double *doubles(ptrdiff_t count) {
  double *block = malloc(count ? (size_t)count * sizeof *block : 1);
  assert_non_null(block);
  return remember("reference", (unsigned char *)block, 0, (unsigned char *)block,
                  (size_t)count * sizeof *block);
}

static float *random_floats(const char *name, ptrdiff_t count) {
  float *values = floats(name, count);
  for (ptrdiff_t i = 0; i < count; i++) values[i] = (float)test_random_double();
  return values;
}

static float *copied_floats(const char *name, const float *from, ptrdiff_t count) {
  float *values = floats(name, count);
  if (count) memcpy(values, from, (size_t)count * sizeof *values);
  return values;
}

static double *as_doubles(const float *values, ptrdiff_t count) {
  double *wide = doubles(count);
  for (ptrdiff_t i = 0; i < count; i++) wide[i] = values[i];
  return wide;
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static int is_close(double got, double want, double tolerance) {
  if (isnan(want)) return isnan(got);
  if (isinf(want)) return got == want;
  return fabs(got - want) <= tolerance; /* false if got is NaN */
}

/* Number of values that are off, *worst the index of the one that is off most. size NULL asks
   for exactly the reference rounded to float; `whole` takes the largest size for all, see the
   top of this file. */
static size_t wrong_values(const float *got, const double *want, const double *size,
                           ptrdiff_t count, double bound, int whole, ptrdiff_t *worst) {
  double largest = 0, worst_error = -1;
  size_t wrong = 0;
  for (ptrdiff_t i = 0; whole && i < count; i++) largest = size[i] > largest ? size[i] : largest;
  for (ptrdiff_t i = 0; i < count; i++) {
    const double tolerance = size ? bound * ((whole ? largest : size[i]) + 1e-30) : 0;
    const double value = size ? want[i] : (double)(float)want[i];
    if (is_close(got[i], value, tolerance)) continue;
    const double error = isnan(got[i] - value) ? INFINITY : fabs(got[i] - value) - tolerance;
    if (error > worst_error) {
      worst_error = error;
      *worst = i;
    }
    wrong++;
  }
  return wrong;
}

static void expect_values(const char *what, const float *got, const double *want,
                          const double *size, ptrdiff_t count, double bound, int whole) {
  ptrdiff_t worst = 0;
  const size_t wrong = wrong_values(got, want, size, count, bound, whole, &worst);
  if (!wrong) return;
  const double own = size ? bound * size[worst] : 0;
  failed("%s: %zu of %td values are off, worst at %td: got %.9g, expected %.9g (+-%.2g%s)", what,
         wrong, count, worst, (double)got[worst], want[worst], own,
         whole ? ", more for its neighbours" : "");
}

static void expect_close(const char *what, const float *got, const double *want, const double *size,
                         ptrdiff_t count, double bound) {
  expect_values(what, got, want, size, count, bound, 0);
}

static void expect_exact(const char *what, const float *got, const double *want, ptrdiff_t count) {
  expect_values(what, got, want, NULL, count, 0, 0);
}

static void expect_number(const char *what, double got, double want, double tolerance) {
  EXPECT(is_close(got, want, tolerance), "%s: got %.17g, expected %.17g (+-%.2g)", what, got, want,
         tolerance);
}

static void expect_same(const char *what, const void *got, const void *want, size_t count) {
  const unsigned char *a = got, *b = want;
  if (!count || !memcmp(a, b, count)) return;
  size_t at = 0;
  while (a[at] == b[at]) at++;
  float x = 0, y = 0;
  if (count % 4 == 0) {
    memcpy(&x, a + at / 4 * 4, 4);
    memcpy(&y, b + at / 4 * 4, 4);
  }
  failed("%s: differs at byte %zu of %zu (as float: %.9g instead of %.9g)", what, at, count,
         (double)x, (double)y);
}

static void expect_same_floats(const char *what, const float *got, const float *want,
                               ptrdiff_t count) {
  expect_same(what, got, want, (size_t)count * sizeof *got);
}

/* ---- instruction sets ------------------------------------------------------------------------ */

static cn_isa isas[CN_ISA_AVX512 + 1];
static int isa_count;

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

/* Sizes 1, W-1, W, W+1 and so on for vectors of 4, 8 and 16 floats and tiles of several vectors. */
static const int edge_sizes[] = {1,  2,  3,  4,  5,  7,  8,  9,  12, 15, 16, 17,
                                 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 112};

/* ---- convolution ----------------------------------------------------------------------------- */

typedef enum split { SPLIT_NONE, SPLIT_REVERSED, SPLIT_THIRDS, SPLIT_COUNT } split;

static const char *const math_names[] = {"default", "direct", "exact", "fast"};
static const char *const padding_names[] = {"zero", "replicate", "wrap", "unknown padding"};

/* One case: inputs that kernels see, and the reference's answers. */
typedef struct conv_case {
  cn_conv2d conv;
  ref_conv r;
  float *x, *w, *bias, *dy;
  uint8_t *argmax;
  double *z, *z_size, *y, *y_size;
  double *dx, *dx_size, *dw, *dw_size, *db, *db_size;
} conv_case;

static void describe_conv(const cn_conv2d *conv, const char *pass) {
  const cn_window *w = &conv->window;
  describe("%s conv %s: %dx%dx%dx%d filters=%d groups=%d window=%dx%d stride=%dx%d dilation=%dx%d "
           "pad=%d,%d,%d,%d %s%s%s",
           math_names[conv->math], pass, conv->in.count, conv->in.height, conv->in.width,
           conv->in.channels, conv->filters, conv->groups, w->height, w->width, w->stride_y,
           w->stride_x, w->dilation_y, w->dilation_x, w->pad_top, w->pad_left, w->pad_bottom,
           w->pad_right, padding_names[(unsigned)w->padding < 3 ? w->padding : 3],
           conv->relu ? " relu" : "", conv->pool ? " pool" : "");
}

static int is_3x3_stride_1(const cn_conv2d *conv) {
  const cn_window *w = &conv->window;
  return w->height == 3 && w->width == 3 && w->stride_y <= 1 && w->stride_x <= 1;
}

static double conv_bound(const cn_conv2d *conv) {
  if (!is_3x3_stride_1(conv) || conv->math == CN_MATH_DIRECT) return bound_direct;
  return conv->math == CN_MATH_EXACT ? bound_exact : bound_fast;
}

static int conv_whole(const cn_conv2d *conv) {
  return conv_bound(conv) > bound_direct;
}

static void reference_conv(conv_case *c) {
  const ref_conv *r = &c->r;
  double *x = as_doubles(c->x, r->x_count), *w = as_doubles(c->w, r->w_count);
  double *bias = as_doubles(c->bias, r->filters), *dz = doubles(r->z_count);
  c->z = doubles(r->z_count);
  c->z_size = doubles(r->z_count);
  c->y = doubles(r->y_count);
  c->y_size = doubles(r->y_count);
  c->dx = doubles(r->x_count);
  c->dx_size = doubles(r->x_count);
  c->dw = doubles(r->w_count);
  c->dw_size = doubles(r->w_count);
  c->db = doubles(r->filters);
  c->db_size = doubles(r->filters);
  ref_conv_forward(r, x, w, bias, c->z, c->z_size);
  ref_conv_finish(r, c->z, c->z_size, c->y, c->y_size, r->pool ? c->argmax : NULL);
  for (ptrdiff_t i = 0; r->relu && i < r->y_count; i++) c->dy[i] = c->y[i] > 0 ? c->dy[i] : 0;
  double *dy = as_doubles(c->dy, r->y_count);
  ref_conv_unpool(r, dy, c->argmax, dz);
  ref_conv_backward_input(r, dz, w, c->dx, c->dx_size);
  ref_conv_backward_weights(r, x, dz, c->dw, c->dw_size, c->db, c->db_size);
}

static double zero_gradients; /* share of a case's gradients */

static void make_conv_case(conv_case *c, const cn_conv2d *conv) {
  memset(c, 0, sizeof *c);
  c->conv = *conv;
  c->r = ref_conv_of(conv);
  c->x = random_floats("x", c->r.x_count);
  c->w = random_floats("weights", c->r.w_count);
  c->bias = random_floats("bias", c->r.filters);
  c->dy = random_floats("dy", c->r.y_count);
  for (ptrdiff_t i = 0; i < c->r.y_count; i++)
    if ((test_random_double() + 1) / 2 < zero_gradients) c->dy[i] = 0;
  if (conv->pool) c->argmax = bytes("argmax", c->r.y_count);
}

/* A pass of a case: `out` is y, dx or the partial sums. */
typedef struct conv_run {
  const conv_case *c;
  const cn_conv2d *conv;
  cn_pass pass;
  const float *packed, *bias;
  float *out;
  uint8_t *argmax_out;
} conv_run;

static void call_conv(const conv_run *run, int begin, int end, void *workspace) {
  const conv_case *c = run->c;
  if (run->pass == CN_FORWARD) {
    cn_conv2d_forward(run->conv, c->x, run->packed, run->bias, run->out, run->argmax_out, begin,
                      end, workspace);
  } else if (run->pass == CN_BACKWARD_INPUT) {
    cn_conv2d_backward_input(run->conv, c->dy, c->argmax, run->packed, run->out, begin, end,
                             workspace);
  } else {
    cn_conv2d_backward_weights(run->conv, c->x, c->dy, c->argmax, run->out, begin, end, workspace);
  }
}

/* All units of a pass; a workspace holds nothing between calls, so it is spoilt before each. */
static int planned_images; /* memory is taken for this many where a case has fewer */

static cn_conv2d planned(const cn_conv2d *conv) {
  cn_conv2d most = *conv;
  if (most.in.count < planned_images) most.in.count = planned_images;
  return most;
}

static float *partial_floats(const cn_conv2d *conv) {
  const cn_conv2d most = planned(conv);
  return aligned_floats("partial", cn_conv2d_partial_count(&most));
}

static void run_conv(const conv_run *run, split how) {
  const int units = cn_conv2d_units(run->conv, run->pass);
  const cn_conv2d most = planned(run->conv);
  const size_t workspace_bytes = cn_conv2d_workspace(&most, run->pass);
  const int mark = live_count;
  unsigned char *workspace = buffer("workspace", workspace_bytes, 64);
  EXPECT(units >= 1, "%d units", units);
  if (how == SPLIT_NONE) call_conv(run, 0, units, workspace);
  for (int unit = units - 1; how == SPLIT_REVERSED && unit >= 0; unit--) {
    if ((size_t)units * workspace_bytes < 50000000) memset(workspace, POISON, workspace_bytes);
    call_conv(run, unit, unit + 1, workspace);
  }
  if (how == SPLIT_THIRDS) {
    const int a = units / 3, b = (int)(2 * (int64_t)units / 3);
    call_conv(run, b, units, workspace);
    memset(workspace, POISON, workspace_bytes);
    call_conv(run, 0, a, workspace);
    call_conv(run, a, a, workspace);
    memset(workspace, POISON, workspace_bytes);
    call_conv(run, a, b, workspace);
  }
  release(mark);
}

static float *packed_weights(const cn_conv2d *conv, cn_pass pass, const float *weights) {
  float *packed = aligned_floats("packed", cn_conv2d_packed_count(conv, pass));
  cn_conv2d_pack(conv, pass, weights, packed);
  return packed;
}

/* The kernel's argmax may pick another value than the reference only if the two are as good as
   equal. */
static void check_argmax(const conv_case *c, const cn_conv2d *conv, const uint8_t *argmax) {
  const ref_conv *r = &c->r;
  double largest = 0;
  for (ptrdiff_t i = 0; i < r->y_count; i++) largest = fmax(largest, c->y_size[i]);
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ptrdiff_t f = i % r->filters, ox = i / r->filters % r->y_width;
    const ptrdiff_t oy = i / r->filters / r->y_width % r->y_height;
    const ptrdiff_t n = i / r->filters / r->y_width / r->y_height;
    if (argmax[i] > 3) {
      failed("argmax at %td is %d", i, argmax[i]);
      return;
    }
    const ptrdiff_t row = 2 * oy + argmax[i] / 2, column = 2 * ox + argmax[i] % 2;
    double z = c->z[((n * r->z_height + row) * r->z_width + column) * r->filters + f];
    if (r->relu && !(z > 0)) z = 0;
    const double tolerance = 2 * conv_bound(conv) * (conv_whole(conv) ? largest : c->y_size[i]);
    if (is_close(z, c->y[i], tolerance)) continue;
    failed("argmax at %td is %d, where z is %.9g; the largest is %.9g", i, argmax[i], z, c->y[i]);
    return;
  }
}

static void check_conv_forward(const conv_case *c, const cn_conv2d *conv, float *keep) {
  const int mark = live_count;
  conv_run run = {c, conv, CN_FORWARD, NULL, c->bias, NULL, NULL};
  float *y[SPLIT_COUNT];
  uint8_t *argmax[SPLIT_COUNT];
  describe_conv(conv, "forward");
  run.packed = packed_weights(conv, CN_FORWARD, c->w);
  for (int how = 0; how < SPLIT_COUNT; how++) {
    y[how] = run.out = floats("y", c->r.y_count);
    argmax[how] = run.argmax_out = conv->pool ? bytes("argmax", c->r.y_count) : NULL;
    run_conv(&run, (split)how);
    expect_same_floats("y, split otherwise", y[how], y[0], c->r.y_count);
    if (conv->pool) {
      expect_same("argmax, split otherwise", argmax[how], argmax[0], (size_t)c->r.y_count);
    }
  }
  expect_values("y", y[0], c->y, c->y_size, c->r.y_count, conv_bound(conv), conv_whole(conv));
  if (conv->pool) check_argmax(c, conv, argmax[0]);
  if (keep) memcpy(keep, y[0], (size_t)c->r.y_count * sizeof *keep);
  release(mark);
}

/* No bias is a bias of zeros, and no argmax changes nothing else. */
static void check_conv_without(const conv_case *c, const cn_conv2d *conv) {
  const int mark = live_count;
  conv_run run = {c, conv, CN_FORWARD, NULL, NULL, NULL, NULL};
  float *zeros = floats("bias", c->r.filters);
  describe_conv(conv, "forward without bias");
  for (ptrdiff_t i = 0; i < c->r.filters; i++) zeros[i] = 0;
  run.packed = packed_weights(conv, CN_FORWARD, c->w);
  float *without = run.out = floats("y", c->r.y_count);
  run_conv(&run, SPLIT_NONE);
  float *with = run.out = floats("y", c->r.y_count);
  run.bias = zeros;
  run.argmax_out = conv->pool ? bytes("argmax", c->r.y_count) : NULL;
  run_conv(&run, SPLIT_NONE);
  double *want = as_doubles(with, c->r.y_count);
  expect_exact("y without bias and argmax", without, want, c->r.y_count);
  release(mark);
}

static void check_conv_backward_input(const conv_case *c, const cn_conv2d *conv) {
  const int mark = live_count;
  conv_run run = {c, conv, CN_BACKWARD_INPUT, NULL, NULL, NULL, NULL};
  float *dx[SPLIT_COUNT];
  describe_conv(conv, "backward input");
  run.packed = packed_weights(conv, CN_BACKWARD_INPUT, c->w);
  for (int how = 0; how < SPLIT_COUNT; how++) {
    dx[how] = run.out = floats("dx", c->r.x_count);
    run_conv(&run, (split)how);
    expect_same_floats("dx, split otherwise", dx[how], dx[0], c->r.x_count);
  }
  expect_values("dx", dx[0], c->dx, c->dx_size, c->r.x_count, conv_bound(conv), conv_whole(conv));
  release(mark);
}

static void check_conv_backward_weights(const conv_case *c, const cn_conv2d *conv) {
  const int mark = live_count;
  conv_run run = {c, conv, CN_BACKWARD_WEIGHTS, NULL, NULL, NULL, NULL};
  float *dw[SPLIT_COUNT], *db[SPLIT_COUNT];
  describe_conv(conv, "backward weights");
  EXPECT(cn_conv2d_packed_count(conv, CN_BACKWARD_WEIGHTS) == 0, "packs something");
  for (int how = 0; how < SPLIT_COUNT; how++) {
    run.out = partial_floats(conv);
    run_conv(&run, (split)how);
    dw[how] = floats("dweights", c->r.w_count);
    db[how] = how == SPLIT_THIRDS ? NULL : floats("dbias", c->r.filters);
    cn_conv2d_sum(conv, run.out, dw[how], db[how]);
    expect_same_floats("dweights, split otherwise", dw[how], dw[0], c->r.w_count);
    if (db[how]) expect_same_floats("dbias, split otherwise", db[how], db[0], c->r.filters);
  }
  expect_values("dweights", dw[0], c->dw, c->dw_size, c->r.w_count, conv_bound(conv),
                conv_whole(conv));
  expect_close("dbias", db[0], c->db, c->db_size, c->r.filters, bound_direct);
  release(mark);
}

static void check_conv_passes(const conv_case *c, cn_math math, float *keep) {
  cn_conv2d conv = c->conv;
  conv.math = math;
  check_conv_forward(c, &conv, keep);
  check_conv_backward_input(c, &conv);
  check_conv_backward_weights(c, &conv);
}

static void check_conv_shape(const conv_case *c) {
  cn_shape out = {0, 0, 0, 0};
  describe_conv(&c->conv, "shape");
  EXPECT(cn_conv2d_output(&c->conv, &out, NULL) == CN_OK, "is refused");
  EXPECT(out.count == c->r.count && out.height == c->r.y_height && out.width == c->r.y_width &&
             out.channels == c->r.filters,
         "output is %dx%dx%dx%d", out.count, out.height, out.width, out.channels);
  EXPECT(cn_conv2d_weight_count(&c->conv) == (size_t)c->r.w_count, "%zu weights",
         cn_conv2d_weight_count(&c->conv));
}

/* A case on all instruction sets, 3x3 ones with every way of computing them. */
static void check_conv(const cn_conv2d *conv) {
  const int mark = live_count;
  conv_case c;
  data_alignment = test_random() % 2 ? sizeof(float) : 64;
  make_conv_case(&c, conv);
  check_conv_shape(&c);
  reference_conv(&c);
  float *direct = floats("direct", c.r.y_count), *other = floats("other", c.r.y_count);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    check_conv_passes(&c, CN_MATH_DIRECT, direct);
    check_conv_without(&c, conv);
    if (is_3x3_stride_1(conv)) {
      check_conv_passes(&c, CN_MATH_EXACT, NULL);
      check_conv_passes(&c, CN_MATH_FAST, NULL);
    } else {
      cn_conv2d fast = *conv;
      fast.math = CN_MATH_FAST;
      check_conv_forward(&c, &fast, other);
      expect_same_floats("y of a window that is always direct", other, direct, c.r.y_count);
    }
  }
  data_alignment = sizeof(float);
  release(mark);
}

typedef struct conv_row {
  int count, height, width, channels, filters, groups;
  int window_y, window_x, stride_y, stride_x, dilation_y, dilation_x;
  int top, left, bottom, right, padding, relu, pool;
} conv_row;

static cn_conv2d conv_of_row(const conv_row *row) {
  cn_conv2d conv;
  memset(&conv, 0, sizeof conv);
  conv.in.count = row->count;
  conv.in.height = row->height;
  conv.in.width = row->width;
  conv.in.channels = row->channels;
  conv.filters = row->filters;
  conv.groups = row->groups;
  conv.window.height = row->window_y;
  conv.window.width = row->window_x;
  conv.window.stride_y = row->stride_y;
  conv.window.stride_x = row->stride_x;
  conv.window.dilation_y = row->dilation_y;
  conv.window.dilation_x = row->dilation_x;
  conv.window.pad_top = row->top;
  conv.window.pad_left = row->left;
  conv.window.pad_bottom = row->bottom;
  conv.window.pad_right = row->right;
  conv.window.padding = (cn_padding)row->padding;
  conv.relu = row->relu;
  conv.pool = row->pool;
  return conv;
}

static void check_conv_rows(const conv_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (!within_budget()) continue;
    const cn_conv2d conv = conv_of_row(&rows[i]);
    check_conv(&conv);
  }
}

enum { Z = CN_PADDING_ZERO, R = CN_PADDING_REPLICATE, W = CN_PADDING_WRAP };

/* Layers as networks have them. */
static const conv_row conv_layers[] = {
    /* count rows cols ch filters groups window stride dil top left bottom right padding relu pool */
    {3, 28, 28, 1, 16, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1}, /* base */
    {3, 14, 14, 16, 32, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {2, 28, 28, 1, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1}, /* revised */
    {7, 14, 14, 64, 96, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {9, 7, 7, 96, 112, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {2, 28, 28, 1, 6, 1, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, Z, 1, 0}, /* lenet */
    {2, 14, 14, 6, 16, 1, 5, 5, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 1},
    {1, 45, 47, 3, 64, 1, 11, 11, 4, 4, 1, 1, 2, 2, 2, 2, Z, 1, 0}, /* AlexNet's first */
    {1, 56, 58, 3, 64, 1, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3, Z, 0, 0},   /* ResNet's first */
    {1, 28, 28, 64, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 0},
    {1, 28, 28, 64, 128, 1, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {1, 28, 28, 64, 128, 1, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, Z, 0, 0},
    {2, 7, 7, 128, 128, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {1, 14, 14, 64, 64, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0}, /* ResNeXt's groups */
    {1, 17, 17, 48, 40, 1, 1, 7, 1, 1, 1, 1, 0, 3, 0, 3, Z, 1, 0},  /* Inception's rows, columns */
    {1, 17, 17, 48, 40, 1, 7, 1, 1, 1, 1, 1, 3, 0, 3, 0, Z, 1, 0},
    {1, 9, 9, 200, 100, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 1, 0},
    {1, 15, 15, 72, 72, 72, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0}, /* Xception's depthwise */
    {1, 1, 1, 300, 100, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 1, 0},
};

/* Odd shapes. */
static const conv_row conv_oddities[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0},
    {1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {1, 1, 1, 5, 6, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, R, 0, 0},
    {1, 1, 1, 5, 6, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, W, 0, 0},
    {2, 2, 2, 3, 4, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, W, 1, 1},
    {1, 1, 40, 3, 5, 1, 1, 3, 1, 1, 1, 1, 0, 1, 0, 1, Z, 0, 0},
    {1, 40, 1, 3, 5, 1, 3, 1, 1, 1, 1, 1, 1, 0, 1, 0, Z, 0, 0},
    {1, 1, 40, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 0},
    {1, 40, 1, 16, 17, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, R, 1, 0},
    {2, 3, 3, 4, 4, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0},
    {1, 4, 4, 4, 4, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 1},
    {1, 3, 5, 2, 3, 1, 7, 9, 1, 1, 1, 1, 3, 4, 3, 4, Z, 0, 0}, /* window larger than image */
    {1, 3, 5, 2, 3, 1, 7, 9, 1, 1, 1, 1, 3, 4, 3, 4, R, 0, 0},
    {1, 5, 6, 2, 3, 1, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4, W, 0, 0},
    {1, 9, 11, 3, 4, 1, 2, 3, 5, 4, 1, 1, 0, 0, 0, 0, Z, 0, 0}, /* stride larger than window */
    {2, 9, 11, 3, 4, 1, 3, 2, 1, 3, 3, 2, 2, 1, 3, 0, Z, 1, 0},
    {2, 13, 9, 5, 7, 1, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, Z, 0, 0},
    {2, 13, 9, 5, 7, 1, 3, 3, 1, 1, 3, 1, 3, 1, 3, 1, R, 0, 1},
    {2, 13, 9, 5, 7, 1, 3, 3, 3, 2, 2, 3, 2, 3, 2, 3, W, 1, 0},
    {2, 8, 8, 4, 8, 1, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, Z, 1, 1},
    {2, 9, 7, 4, 8, 1, 2, 2, 1, 1, 1, 1, 0, 1, 1, 0, Z, 0, 1},
    {2, 9, 10, 17, 33, 1, 3, 3, 1, 1, 1, 1, 0, 2, 1, 0, Z, 1, 0}, /* lopsided padding */
    {2, 9, 10, 17, 33, 1, 3, 3, 1, 1, 1, 1, 2, 0, 0, 1, Z, 1, 1},
    {1, 8, 9, 16, 16, 1, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, Z, 0, 0},
    {1, 8, 9, 16, 16, 1, 3, 3, 1, 1, 1, 1, 3, 4, 5, 3, Z, 1, 1},
    {1, 8, 9, 16, 16, 1, 3, 3, 1, 1, 1, 1, 2, 3, 1, 2, R, 0, 1},
    {1, 8, 9, 16, 16, 1, 3, 3, 1, 1, 1, 1, 3, 2, 4, 1, W, 0, 1},
    {2, 6, 7, 12, 18, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {2, 6, 7, 12, 18, 3, 5, 3, 2, 1, 1, 2, 1, 1, 1, 1, R, 0, 0},
    {2, 6, 7, 34, 66, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
    {2, 6, 7, 5, 15, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 0}, /* depthwise with multiplier 3 */
    {2, 6, 7, 16, 32, 16, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, Z, 0, 0},
    {2, 6, 7, 17, 17, 17, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, W, 0, 0},
    {2, 6, 7, 33, 33, 33, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, R, 1, 1},
    {1, 40, 40, 20, 7, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {1, 5, 100, 8, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {1, 100, 5, 8, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {17, 2, 2, 3, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
    {33, 4, 4, 8, 16, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {65, 1, 1, 8, 16, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {2, 6, 5, 131, 140, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0}, /* blocks of both */
    {4, 8, 8, 64, 256, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},  /* of one, where fewer have */
    {4, 8, 8, 256, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
    {3, 2, 1, 9, 20, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
    {61, 7, 6, 9, 10, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},  /* many images per share */
    {1, 12, 300, 8, 9, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0}, /* rows of tiles per share */
    {2, 50, 61, 8, 10, 1, 3, 3, 1, 1, 1, 1, 2, 0, 1, 2, Z, 0, 0},
};

static void test_conv_layers(void **state) {
  begin_test(state, 1);
  check_conv_rows(conv_layers, LENGTH(conv_layers));
  end_test();
}

static void test_conv_oddities(void **state) {
  begin_test(state, 2);
  check_conv_rows(conv_oddities, LENGTH(conv_oddities));
  end_test();
}

/* A plain convolution with a window padded to keep the image's size. */
static cn_conv2d plain_conv(int count, int height, int width, int channels, int filters,
                            int window) {
  cn_conv2d conv;
  memset(&conv, 0, sizeof conv);
  conv.in.count = count;
  conv.in.height = height;
  conv.in.width = width;
  conv.in.channels = channels;
  conv.filters = filters;
  conv.window.height = conv.window.width = window;
  conv.window.pad_top = conv.window.pad_bottom = window / 2;
  conv.window.pad_left = conv.window.pad_right = window / 2;
  return conv;
}

/* Channels and filters around the widths of vectors and tiles, each pair with another small
   image. */
static void test_conv_channels(void **state) {
  static const int windows[3] = {3, 1, 5};
  begin_test(state, 3);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    for (size_t j = 0; j < LENGTH(edge_sizes); j++) {
      const int channels = edge_sizes[i], filters = edge_sizes[j];
      if (channels * filters > 2500 && (i + 2 * j) % 5) continue; /* enough of the large ones */
      if (!within_budget()) continue;
      const int count = test_random_int(1, 3), height = test_random_int(3, 8);
      const int width = test_random_int(3, 8);
      cn_conv2d conv = plain_conv(count, height, width, channels, filters, windows[(i + j) % 3]);
      conv.relu = test_random_int(0, 1);
      conv.pool = test_random_int(0, 1);
      check_conv(&conv);
    }
  }
  end_test();
}

/* Depthwise with and without multiplier, then grouped, channels around vector widths. */
static void test_conv_groups(void **state) {
  begin_test(state, 4);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    for (int multiplier = 1; multiplier <= 3; multiplier++) {
      const int channels = edge_sizes[i], count = test_random_int(1, 2);
      if (!within_budget()) continue;
      cn_conv2d conv = plain_conv(count, 6, 7, channels, channels * multiplier, 3);
      conv.groups = channels;
      conv.window.stride_y = conv.window.stride_x = test_random_int(1, 2);
      conv.window.padding = (cn_padding)test_random_int(0, 2);
      conv.relu = test_random_int(0, 1);
      conv.pool = test_random_int(0, 1);
      check_conv(&conv);
    }
  }
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    const int of_group = edge_sizes[i] > 33 ? 3 : edge_sizes[i], groups = test_random_int(2, 4);
    const int filters = test_random_int(1, 20) * groups;
    if (!within_budget()) continue;
    cn_conv2d conv = plain_conv(1, 5, 6, of_group * groups, filters, 3);
    conv.groups = groups;
    conv.window.width = test_random_int(1, 3);
    conv.relu = 1;
    check_conv(&conv);
  }
  end_test();
}

/* Images of every size around the tiles of Winograd and of the pixel loops. */
static void test_conv_images(void **state) {
  begin_test(state, 5);
  for (int height = 1; height <= 15; height++) {
    for (int width = 1; width <= 34; width += height % 3 + 1) {
      if (!within_budget()) continue;
      const int count = test_random_int(1, 3), channels = test_random_int(1, 20);
      const int filters = test_random_int(1, 36);
      cn_conv2d conv = plain_conv(count, height, width, channels, filters, 3);
      conv.window.padding = (cn_padding)(test_random_int(0, 5) / 2 % 3);
      conv.relu = test_random_int(0, 1);
      conv.pool = height > 1 && width > 1 && (height + width) % 2;
      conv.alone = test_random_int(0, 1);
      check_conv(&conv);
    }
  }
  end_test();
}

/* Images whose rows of tiles are worked on in several shares, by all threads and by one alone. */
static void test_conv_tall_images(void **state) {
  begin_test(state, 4);
  for (int height = 42; height <= 51; height++) {
    for (int pool = 0; pool <= 1; pool++) {
      if (!within_budget()) continue;
      const int channels = test_random_int(8, 17), filters = test_random_int(8, 17);
      cn_conv2d conv =
          plain_conv(test_random_int(1, 2), height, test_random_int(42, 51), channels, filters, 3);
      conv.window.pad_top = test_random_int(0, 2), conv.window.pad_left = test_random_int(0, 2);
      conv.pool = pool, conv.alone = 1;
      check_conv(&conv);
      conv.alone = 0;
      check_conv(&conv);
    }
  }
  end_test();
}

/* What is allocated for a batch must do for a smaller one, however that is cut. */
static void test_conv_fewer_images(void **state) {
  static const conv_row rows[] = {
      {1, 7, 7, 16, 24, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {1, 7, 7, 16, 24, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
      {1, 14, 14, 8, 9, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {1, 4, 5, 40, 256, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {1, 4, 5, 256, 40, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
      {1, 3, 4, 17, 40, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0},
      {1, 5, 4, 6, 10, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
  };
  static const int counts[][2] = {{1, 2}, {1, 70}, {2, 17}, {8, 9}, {16, 17}, {17, 64}};
  begin_test(state, 6);
  for (size_t i = 0; i < LENGTH(rows); i++) {
    for (size_t j = 0; j < LENGTH(counts); j++) {
      cn_conv2d conv = conv_of_row(&rows[i]);
      if (!within_budget()) continue;
      conv.in.count = counts[j][0];
      planned_images = counts[j][1];
      check_conv(&conv);
    }
  }
  planned_images = 0;
  end_test();
}

/* The kernels of a first layer on grey pictures: filters round the vectors' widths, all paddings,
   maps of one window to several, blocks of rows. */
static void test_conv_grey(void **state) {
  begin_test(state, 8);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    for (int height = 1; height <= 9; height++) {
      if (!within_budget()) continue;
      const int width = test_random_int(1, 13), count = height == 5 ? 17 : test_random_int(1, 3);
      cn_conv2d conv = plain_conv(count, height, width, 1, edge_sizes[i], 3);
      conv.window.pad_top = test_random_int(height < 4 ? 2 : 0, 2);
      conv.window.pad_left = test_random_int(width < 4 ? 2 : 0, 2);
      conv.window.pad_bottom = test_random_int(height < 4 ? 2 : 0, 2);
      conv.window.pad_right = test_random_int(width < 4 ? 2 : 0, 2);
      conv.window.padding = (cn_padding)(height < 2 || width < 2 ? 0 : test_random_int(0, 2));
      conv.relu = test_random_int(0, 1);
      conv.pool = 1;
      check_conv(&conv);
    }
  }
  end_test();
}

/* Anything that fits. */
static int random_conv(cn_conv2d *conv) {
  static const int batches[] = {1, 1, 2, 3, 7};
  conv_row row;
  row.count = batches[test_random_int(0, 4)];
  row.height = test_random_int(1, 17);
  row.width = test_random_int(1, 17);
  row.groups = test_random_int(0, 3) ? 1 : test_random_int(1, 6);
  row.channels = row.groups * test_random_int(1, row.groups > 1 ? 9 : 40);
  row.filters = row.groups * test_random_int(1, row.groups > 1 ? 9 : 70);
  row.window_y = test_random_int(1, 5);
  row.window_x = test_random_int(0, 2) ? row.window_y : test_random_int(1, 7);
  row.stride_y = test_random_int(0, 1) ? 1 : test_random_int(1, 4);
  row.stride_x = test_random_int(0, 1) ? row.stride_y : test_random_int(1, 4);
  row.dilation_y = test_random_int(0, 3) ? 1 : test_random_int(1, 3);
  row.dilation_x = test_random_int(0, 3) ? row.dilation_y : test_random_int(1, 3);
  row.top = test_random_int(0, row.window_y);
  row.left = test_random_int(0, row.window_x);
  row.bottom = test_random_int(0, 1) ? row.top : test_random_int(0, row.window_y);
  row.right = test_random_int(0, 1) ? row.left : test_random_int(0, row.window_x);
  row.padding = test_random_int(0, 2);
  row.relu = test_random_int(0, 1);
  row.pool = test_random_int(0, 2) == 0;
  *conv = conv_of_row(&row);
  conv->alone = test_random_int(0, 1);
  if (row.padding == W) { /* wrapping more than once round is not asked for */
    if (row.top > row.height || row.bottom > row.height) return 0;
    if (row.left > row.width || row.right > row.width) return 0;
  }
  const ref_conv r = ref_conv_of(conv);
  return r.z_height >= 1 && r.z_width >= 1 && r.y_height >= 1 && r.y_width >= 1;
}

static void test_conv_random(void **state) {
  const int cases = (int)(1000 * budget());
  begin_test(state, 6);
  for (int i = 0; i < cases;) {
    cn_conv2d conv;
    if (!random_conv(&conv)) continue;
    check_conv(&conv);
    i++;
  }
  end_test();
}

static void test_dense(void **state) {
  static const int rows[] = {1, 2, 3, 7, 13, 15, 16, 17, 33, 100};
  begin_test(state, 7);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    for (size_t j = 0; j < LENGTH(edge_sizes); j++) {
      if ((i + j) % 3 || !within_budget()) continue;
      const int relu = test_random_int(0, 1), count = rows[(i * 7 + j) % LENGTH(rows)];
      const cn_conv2d conv = cn_dense(count, edge_sizes[i], edge_sizes[j], relu);
      describe("dense %d rows, %d -> %d", count, edge_sizes[i], edge_sizes[j]);
      EXPECT(cn_conv2d_weight_count(&conv) == (size_t)(edge_sizes[i] * edge_sizes[j]), "weights");
      EXPECT(conv.in.channels == edge_sizes[i] && conv.filters == edge_sizes[j], "sizes");
      EXPECT(conv.in.count * conv.in.height * conv.in.width == count, "rows");
      EXPECT(conv.relu == relu && !conv.pool, "fusion");
      check_conv(&conv);
    }
  }
  const cn_conv2d base = cn_dense(50, 1568, 128, 1), revised = cn_dense(3, 1008, 150, 1);
  const cn_conv2d long_rows = cn_dense(2, 70000, 3, 0); /* longer than other tensors may be */
  check_conv(&base);
  check_conv(&revised);
  check_conv(&long_rows);
  end_test();
}

/* Gradients behind ReLU and dropout, of which kernels may skip the zeros. */
static void test_dense_zeros(void **state) {
  static const struct {
    int rows, inputs, outputs;
    double zeros;
  } cases[] = {{1, 64, 128, .7},    {1, 1000, 1, 1},     {2, 65, 300, .75},   {15, 131, 128, .9},
               {50, 1568, 128, .8}, {129, 64, 31, .65},  {130, 300, 150, .7}, {257, 200, 70, .7},
               {300, 320, 33, .62}, {600, 130, 65, .8},  {40, 1100, 260, 1},  {7, 9, 17, .7},
               {129, 512, 129, .9}, {257, 513, 128, .9}, {700, 640, 191, .8}};
  begin_test(state, 92);
  for (size_t i = 0; i < LENGTH(cases); i++) {
    const cn_conv2d conv = cn_dense(cases[i].rows, cases[i].inputs, cases[i].outputs, 0);
    zero_gradients = cases[i].zeros;
    check_conv(&conv);
  }
  for (int i = 0; i < 60 && within_budget(); i++) {
    const cn_conv2d conv = cn_dense(test_random_int(1, 300), test_random_int(1, 400),
                                    test_random_int(1, 200), test_random_int(0, 1));
    zero_gradients = (test_random_double() + 1) / 2;
    check_conv(&conv);
  }
  zero_gradients = 0;
  end_test();
}

/* Small whole numbers make sums exact, so equal values are equal on every path but FAST: the
   argmax has to be that of the first, and all values have to match to the last bit. */
static void check_conv_ties(const cn_conv2d *shape, cn_math math) {
  const int mark = live_count;
  conv_case c;
  cn_conv2d conv = *shape;
  conv.math = math;
  make_conv_case(&c, &conv);
  for (ptrdiff_t i = 0; i < c.r.x_count; i++) c.x[i] = (float)test_random_int(0, 2);
  for (ptrdiff_t i = 0; i < c.r.w_count; i++) c.w[i] = (float)test_random_int(-1, 1);
  for (ptrdiff_t i = 0; i < c.r.filters; i++) c.bias[i] = (float)test_random_int(-2, 2);
  for (ptrdiff_t i = 0; i < c.r.y_count; i++) c.dy[i] = (float)test_random_int(-3, 3);
  reference_conv(&c);
  conv_run run = {&c, &conv, CN_FORWARD, NULL, c.bias, NULL, NULL};
  describe_conv(&conv, "forward of whole numbers");
  run.packed = packed_weights(&conv, CN_FORWARD, c.w);
  run.out = floats("y", c.r.y_count);
  run.argmax_out = bytes("argmax", c.r.y_count);
  run_conv(&run, SPLIT_NONE);
  expect_exact("y", run.out, c.y, c.r.y_count);
  ptrdiff_t wrong = 0, first = 0;
  for (ptrdiff_t i = c.r.y_count - 1; i >= 0; i--) {
    /* where ReLU leaves only zeros the choice is without meaning */
    if (run.argmax_out[i] == c.argmax[i] || (conv.relu && c.y[i] <= 0)) continue;
    wrong++;
    first = i;
  }
  EXPECT(!wrong, "argmax: %td are not the first of equals, at %td %d instead of %d", wrong, first,
         run.argmax_out[first], c.argmax[first]);
  run.pass = CN_BACKWARD_INPUT;
  run.packed = packed_weights(&conv, CN_BACKWARD_INPUT, c.w);
  run.out = floats("dx", c.r.x_count);
  run_conv(&run, SPLIT_NONE);
  expect_exact("dx", run.out, c.dx, c.r.x_count);
  run.pass = CN_BACKWARD_WEIGHTS;
  run.out = partial_floats(&conv);
  run_conv(&run, SPLIT_NONE);
  float *dw = floats("dweights", c.r.w_count), *db = floats("dbias", c.r.filters);
  cn_conv2d_sum(&conv, run.out, dw, db);
  expect_exact("dweights", dw, c.dw, c.r.w_count);
  expect_exact("dbias", db, c.db, c.r.filters);
  release(mark);
}

static void test_conv_ties(void **state) {
  static const conv_row rows[] = {
      {2, 9, 8, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
      {2, 9, 8, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
      {1, 28, 28, 1, 16, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
      {1, 14, 14, 16, 40, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
      {1, 14, 15, 17, 33, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 1},
      {2, 7, 9, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, R, 0, 1},
      {2, 9, 9, 4, 24, 1, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, W, 0, 1},
      {2, 9, 9, 4, 24, 1, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, Z, 1, 1},
  };
  begin_test(state, 8);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t j = 0; j < LENGTH(rows); j++) {
      const cn_conv2d conv = conv_of_row(&rows[j]);
      check_conv_ties(&conv, CN_MATH_DIRECT);
      check_conv_ties(&conv, CN_MATH_EXACT);
    }
  }
  end_test();
}

/* A NaN or infinity reaches exactly the results that it is a term of: a kernel that multiplies a
   neighbour by zero to fill up a vector would spread it. Winograd spreads it by nature, though
   not to other images. */
static void check_conv_spoilt(const cn_conv2d *shape, cn_math math, float poison) {
  const int mark = live_count;
  conv_case c;
  cn_conv2d conv = *shape;
  conv.math = math;
  make_conv_case(&c, &conv);
  const ptrdiff_t bad_x = (ptrdiff_t)(test_random() % (uint64_t)c.r.x_count);
  const ptrdiff_t bad_dy = (ptrdiff_t)(test_random() % (uint64_t)c.r.y_count);
  const ptrdiff_t x_image = c.r.x_count / c.r.count, y_image = c.r.y_count / c.r.count;
  c.x[bad_x] = poison;
  reference_conv(&c);
  conv_run run = {&c, &conv, CN_FORWARD, NULL, c.bias, NULL, NULL};
  describe_conv(&conv, "forward with a value that is not finite");
  run.packed = packed_weights(&conv, CN_FORWARD, c.w);
  run.out = floats("y", c.r.y_count);
  run_conv(&run, SPLIT_NONE);
  for (ptrdiff_t i = 0; i < c.r.y_count; i++) {
    const int free_to_spread = math != CN_MATH_DIRECT && i / y_image == bad_x / x_image;
    if (free_to_spread && (isfinite(c.y[i]) || !isfinite(run.out[i]))) continue;
    if (is_close(run.out[i], c.y[i], conv_bound(&conv) * fmin(c.y_size[i], 1e3))) continue;
    failed("x at %td is %g: y at %td is %g, expected %g", bad_x, (double)poison, i,
           (double)run.out[i], c.y[i]);
    break;
  }
  run.pass = CN_BACKWARD_WEIGHTS;
  run.out = partial_floats(&conv);
  run_conv(&run, SPLIT_NONE);
  float *dw = floats("dweights", c.r.w_count), *db = floats("dbias", c.r.filters);
  cn_conv2d_sum(&conv, run.out, dw, db);
  for (ptrdiff_t i = 0; math == CN_MATH_DIRECT && i < c.r.w_count; i++) {
    if (is_close(dw[i], c.dw[i], bound_direct * c.dw_size[i])) continue;
    failed("x at %td is %g: dweights at %td is %g, expected %g", bad_x, (double)poison, i,
           (double)dw[i], c.dw[i]);
    break;
  }
  c.x[bad_x] = 0;
  c.dy[bad_dy] = poison;
  reference_conv(&c);
  run.pass = CN_BACKWARD_INPUT;
  run.packed = packed_weights(&conv, CN_BACKWARD_INPUT, c.w);
  run.out = floats("dx", c.r.x_count);
  run_conv(&run, SPLIT_NONE);
  for (ptrdiff_t i = 0; i < c.r.x_count; i++) {
    const int free_to_spread = math != CN_MATH_DIRECT && i / x_image == bad_dy / y_image;
    if (free_to_spread && (isfinite(c.dx[i]) || !isfinite(run.out[i]))) continue;
    if (is_close(run.out[i], c.dx[i], conv_bound(&conv) * 1e3)) continue;
    failed("dy at %td is %g: dx at %td is %g, expected %g", bad_dy, (double)poison, i,
           (double)run.out[i], c.dx[i]);
    break;
  }
  release(mark);
}

static void test_conv_not_finite(void **state) {
  static const conv_row rows[] = {
      {2, 6, 7, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {2, 6, 7, 1, 17, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {2, 6, 17, 17, 33, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {2, 6, 7, 5, 18, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0},
      {2, 9, 7, 3, 9, 1, 5, 5, 2, 2, 1, 1, 2, 2, 2, 2, Z, 0, 0},
      {2, 6, 7, 5, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {2, 6, 7, 6, 9, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, R, 0, 0},
      {2, 6, 7, 4, 7, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, W, 0, 0},
      {2, 1, 1, 30, 10, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0},
  };
  begin_test(state, 9);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int repeat = 0; repeat < 6; repeat++) {
      for (size_t j = 0; j < LENGTH(rows); j++) {
        const cn_conv2d conv = conv_of_row(&rows[j]);
        const float poison = repeat % 2 ? NAN : INFINITY;
        check_conv_spoilt(&conv, CN_MATH_DIRECT, poison);
        if (is_3x3_stride_1(&conv)) check_conv_spoilt(&conv, CN_MATH_FAST, NAN);
      }
    }
  }
  end_test();
}

/* ReLU and max pooling take a NaN for smaller than everything. */
static void test_conv_nan_fused(void **state) {
  static const conv_row rows[] = {
      {1, 6, 6, 2, 19, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 1, 0},
      {1, 6, 6, 2, 19, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 1},
      {1, 6, 6, 2, 19, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 1, 1},
      {1, 6, 6, 1, 19, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
      {1, 6, 6, 1, 19, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 0},
  };
  begin_test(state, 10);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t j = 0; j < LENGTH(rows); j++) {
      const int mark = live_count;
      cn_conv2d conv = conv_of_row(&rows[j]);
      conv_case c;
      conv.math = CN_MATH_DIRECT;
      make_conv_case(&c, &conv);
      c.x[0] = c.x[c.r.x_count / 2] = NAN;
      reference_conv(&c);
      for (ptrdiff_t k = 0; k < c.r.y_count; k++) c.y_size[k] = 10; /* those of NaN are NaN */
      check_conv_forward(&c, &conv, NULL);
      release(mark);
    }
  }
  end_test();
}

/* The error of a whole layer, as a norm, beside that of plain sums in float: what the comment at
   cn_math promises. He's weights and inputs behind a ReLU, as in a network. */
static double relative_error(const float *got, const double *want, ptrdiff_t count) {
  double difference = 0, total = 0;
  for (ptrdiff_t i = 0; i < count; i++) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    total += want[i] * want[i];
  }
  return sqrt(difference / total);
}

static double plain_sum_error(const conv_case *c) {
  const ref_conv *r = &c->r;
  const int mark = live_count;
  float *y = floats("y", r->y_count);
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ptrdiff_t f = i % r->filters, pixel = i / r->filters;
    const ptrdiff_t ox = pixel % r->z_width, oy = pixel / r->z_width % r->z_height;
    volatile float sum = 0; /* one rounding after another, whatever the compiler would rather do */
    for (ptrdiff_t tap = 0; tap < 9; tap++) {
      const ptrdiff_t from =
          ref_conv_pixel(r, pixel / r->z_width / r->z_height, oy, ox, tap / 3, tap % 3);
      for (ptrdiff_t channel = 0; from >= 0 && channel < r->channels; channel++) {
        const float product = c->x[from * r->channels + channel] *
                              c->w[(tap * r->channels + channel) * r->filters + f];
        sum = sum + product;
      }
    }
    y[i] = sum;
  }
  const double error = relative_error(y, c->y, r->y_count);
  release(mark);
  return error;
}

static void test_conv_math(void **state) {
  static const conv_row row = {1, 14, 14, 64, 48, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0};
  static const cn_math maths[3] = {CN_MATH_DIRECT, CN_MATH_EXACT, CN_MATH_FAST};
  static const double limits[3] = {1.2, 1.2, 3};
  const int mark = live_count;
  cn_conv2d conv = conv_of_row(&row);
  conv_case c;
  begin_test(state, 11);
  make_conv_case(&c, &conv);
  for (ptrdiff_t i = 0; i < c.r.x_count; i++) c.x[i] = c.x[i] > 0 ? c.x[i] : 0;
  for (ptrdiff_t i = 0; i < c.r.filters; i++) c.bias[i] = 0;
  reference_conv(&c);
  const double plain = plain_sum_error(&c);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int j = 0; j < 3; j++) {
      conv.math = maths[j];
      conv_run run = {&c, &conv, CN_FORWARD, NULL, c.bias, NULL, NULL};
      describe_conv(&conv, "forward");
      run.packed = packed_weights(&conv, CN_FORWARD, c.w);
      run.out = floats("y", c.r.y_count);
      run_conv(&run, SPLIT_NONE);
      const double error = relative_error(run.out, c.y, c.r.y_count);
      printf("  %-7s %-7s error %.2g, %.2f times that of plain sums\n", cn_isa_name(),
             math_names[conv.math], error, error / plain);
      EXPECT(error <= limits[j] * plain,
             "error %.3g is more than %.1f times the %.3g of plain sums", error, limits[j], plain);
    }
  }
  release(mark);
  end_test();
}

/* What does not make sense is refused with a message, and the message is untouched otherwise. */
static void expect_refused(const char *why, const conv_row *row) {
  const cn_conv2d conv = conv_of_row(row);
  cn_error error;
  cn_shape out;
  memset(&error, 0, sizeof error);
  describe_conv(&conv, why);
  const cn_status status = cn_conv2d_output(&conv, &out, &error);
  EXPECT(status == CN_ERROR_ARGUMENT || status == CN_ERROR_SHAPE || status == CN_ERROR_MEMORY,
         "status %d", (int)status);
  EXPECT(error.status == status && error.message[0], "message is '%s'", error.message);
  EXPECT(cn_conv2d_output(&conv, &out, NULL) == status, "without a place for the message");
}

static void test_conv_refusals(void **state) {
  static const struct {
    const char *why;
    conv_row row;
  } rows[] = {
      {"no images", {0, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"no rows", {1, 0, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, Z, 0, 0}},
      {"no columns", {1, 6, 0, 2, 2, 1, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, Z, 0, 0}},
      {"no channels", {1, 6, 6, 0, 2, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"no filters", {1, 6, 6, 2, 0, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"no window", {1, 6, 6, 2, 2, 1, 0, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"negative count", {-1, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"negative stride", {1, 6, 6, 2, 2, 1, 3, 3, -1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"negative dilation", {1, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, -2, 0, 0, 0, 0, Z, 0, 0}},
      {"negative padding", {1, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 0, -1, 0, 0, Z, 0, 0}},
      {"groups not dividing channels", {1, 6, 6, 3, 2, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"groups not dividing filters", {1, 6, 6, 2, 3, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"negative groups", {1, 6, 6, 2, 2, -2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"window too high", {1, 6, 6, 2, 2, 1, 8, 3, 1, 1, 1, 1, 0, 0, 1, 0, Z, 0, 0}},
      {"window too wide", {1, 6, 6, 2, 2, 1, 3, 4, 1, 1, 1, 2, 0, 0, 0, 0, Z, 0, 0}},
      {"nothing to pool", {1, 3, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 1}},
      {"too many channels", {1, 2, 1, 65537, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"too many values", {1, 65536, 65536, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0}},
      {"wrapping more than once round", {1, 2, 6, 2, 2, 1, 5, 3, 1, 1, 1, 1, 3, 0, 0, 0, W, 0, 0}},
      {"unknown padding", {1, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 7, 0, 0}},
  };
  static const conv_row fine = {1, 6, 6, 2, 2, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, Z, 0, 0};
  begin_test(state, 0);
  for (size_t i = 0; i < LENGTH(rows); i++) expect_refused(rows[i].why, &rows[i].row);
  const cn_conv2d conv = conv_of_row(&fine);
  cn_error error;
  cn_shape out;
  memset(&error, 0x55, sizeof error);
  describe_conv(&conv, "shape");
  EXPECT(cn_conv2d_output(&conv, &out, &error) == CN_OK, "refused");
  EXPECT(error.message[0] == 0x55, "the error was filled in without one");
  end_test();
}

/* The reference's backward pass is the derivative of its forward pass. */
typedef struct conv_proof {
  const ref_conv *r;
  double *x, *w, *bias, *dy, *z, *z_size, *y, *y_size;
} conv_proof;

static double conv_proof_loss(void *context_pointer) {
  const conv_proof *p = context_pointer;
  double loss = 0;
  ref_conv_forward(p->r, p->x, p->w, p->bias, p->z, p->z_size);
  ref_conv_finish(p->r, p->z, p->z_size, p->y, p->y_size, NULL);
  for (ptrdiff_t i = 0; i < p->r->y_count; i++) loss += p->y[i] * p->dy[i];
  return loss;
}

static void prove(const char *what, ref_function loss, void *of, double *values,
                  const double *gradient, ptrdiff_t count, double step, double tolerance) {
  for (ptrdiff_t i = 0; i < count; i++) {
    const double slope = ref_slope(loss, of, &values[i], step);
    if (is_close(gradient[i], slope, tolerance * (1 + fabs(slope)))) continue;
    failed("%s at %td is %.12g, the slope %.12g", what, i, gradient[i], slope);
    return;
  }
}

static void prove_conv(const conv_row *row) {
  const int mark = live_count;
  const cn_conv2d conv = conv_of_row(row);
  conv_case c;
  describe_conv(&conv, "reference");
  make_conv_case(&c, &conv);
  reference_conv(&c);
  conv_proof proof = {&c.r,
                      as_doubles(c.x, c.r.x_count),
                      as_doubles(c.w, c.r.w_count),
                      as_doubles(c.bias, c.r.filters),
                      as_doubles(c.dy, c.r.y_count),
                      doubles(c.r.z_count),
                      doubles(c.r.z_count),
                      doubles(c.r.y_count),
                      doubles(c.r.y_count)};
  /* the step is small enough to stay on one side of every ReLU and of every tie */
  prove("dx", conv_proof_loss, &proof, proof.x, c.dx, c.r.x_count, 1e-6, 1e-7);
  prove("dweights", conv_proof_loss, &proof, proof.w, c.dw, c.r.w_count, 1e-6, 1e-7);
  prove("dbias", conv_proof_loss, &proof, proof.bias, c.db, c.r.filters, 1e-6, 1e-7);
  release(mark);
}

static void test_reference_conv(void **state) {
  static const conv_row rows[] = {
      {2, 5, 4, 3, 4, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0},
      {2, 6, 5, 2, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 1, 1},
      {1, 6, 7, 2, 4, 2, 3, 2, 2, 1, 1, 2, 1, 0, 2, 1, R, 1, 0},
      {1, 5, 6, 3, 6, 3, 2, 3, 1, 2, 2, 1, 1, 2, 0, 1, W, 0, 0},
      {1, 3, 3, 2, 2, 1, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, W, 0, 1},
      {1, 7, 6, 1, 2, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, R, 0, 1},
  };
  begin_test(state, 12);
  for (size_t i = 0; i < LENGTH(rows); i++) prove_conv(&rows[i]);
  end_test();
}

/* ---- pooling --------------------------------------------------------------------------------- */

static const char *const pool_names[] = {"max", "min", "mean", "mix", "adaptive mean"};

static void describe_pool(const cn_pool2d *pool, const char *pass) {
  const cn_window *w = &pool->window;
  describe(
      "%s pool %s: %dx%dx%dx%d window=%dx%d stride=%dx%d dilation=%dx%d pad=%d,%d,%d,%d mix=%g%s%s",
      pool_names[pool->kind], pass, pool->in.count, pool->in.height, pool->in.width,
      pool->in.channels, w->height, w->width, w->stride_y, w->stride_x, w->dilation_y,
      w->dilation_x, w->pad_top, w->pad_left, w->pad_bottom, w->pad_right, (double)pool->mix,
      w->ceil ? " ceil" : "", pool->count_padding ? " count_padding" : "");
}

static int is_choice(const cn_pool2d *pool) {
  return pool->kind == CN_POOL_MAX || pool->kind == CN_POOL_MIN;
}

/* Images one by one from the last against all at once. */
static void check_pool_forward(const cn_pool2d *pool, const ref_pool *r, const float *x) {
  const int mark = live_count;
  double *y = doubles(r->y_count), *size = doubles(r->y_count);
  float *at_once = floats("y", r->y_count), *one_by_one = floats("y", r->y_count);
  describe_pool(pool, "forward");
  ref_pool_forward(r, as_doubles(x, r->x_count), y, size);
  cn_pool2d_forward(pool, x, at_once, 0, (int)r->count);
  for (int n = (int)r->count - 1; n >= 0; n--) cn_pool2d_forward(pool, x, one_by_one, n, n + 1);
  cn_pool2d_forward(pool, x, one_by_one, 0, 0);
  expect_same_floats("y, split otherwise", one_by_one, at_once, r->y_count);
  if (is_choice(pool)) {
    expect_exact("y", at_once, y, r->y_count);
  } else {
    expect_close("y", at_once, y, size, r->y_count, bound_mean);
  }
  release(mark);
}

static void check_pool_backward(const cn_pool2d *pool, const ref_pool *r, const float *x) {
  const int mark = live_count;
  double *dx = doubles(r->x_count), *size = doubles(r->x_count);
  float *dy = random_floats("dy", r->y_count);
  float *at_once = floats("dx", r->x_count), *one_by_one = floats("dx", r->x_count);
  describe_pool(pool, "backward");
  ref_pool_backward(r, as_doubles(x, r->x_count), as_doubles(dy, r->y_count), dx, size);
  cn_pool2d_backward(pool, x, dy, at_once, 0, (int)r->count);
  for (int n = (int)r->count - 1; n >= 0; n--)
    cn_pool2d_backward(pool, x, dy, one_by_one, n, n + 1);
  expect_same_floats("dx, split otherwise", one_by_one, at_once, r->x_count);
  expect_close("dx", at_once, dx, size, r->x_count, bound_mean);
  release(mark);
}

static void check_pool(const cn_pool2d *pool) {
  const int mark = live_count;
  const ref_pool r = ref_pool_of(pool);
  cn_shape out = {0, 0, 0, 0};
  describe_pool(pool, "shape");
  EXPECT(cn_pool2d_output(pool, &out, NULL) == CN_OK, "is refused");
  EXPECT(out.count == r.count && out.height == r.y_height && out.width == r.y_width &&
             out.channels == r.channels,
         "output is %dx%dx%dx%d, expected %tdx%tdx%tdx%td", out.count, out.height, out.width,
         out.channels, r.count, r.y_height, r.y_width, r.channels);
  data_alignment = test_random() % 2 ? sizeof(float) : 64;
  float *x = random_floats("x", r.x_count), *equals = floats("x", r.x_count);
  for (ptrdiff_t i = 0; i < r.x_count; i++) equals[i] = (float)test_random_int(-1, 1);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    check_pool_forward(pool, &r, x);
    check_pool_backward(pool, &r, x);
    check_pool_forward(pool, &r, equals);
    check_pool_backward(pool, &r, equals);
  }
  data_alignment = sizeof(float);
  release(mark);
}

typedef struct pool_row {
  int count, height, width, channels;
  int window_y, window_x, stride_y, stride_x, dilation_y, dilation_x;
  int top, left, bottom, right, ceil;
} pool_row;

static cn_pool2d pool_of_row(const pool_row *row, cn_pool_kind kind, int count_padding, float mix) {
  cn_pool2d pool;
  memset(&pool, 0, sizeof pool);
  pool.in.count = row->count;
  pool.in.height = row->height;
  pool.in.width = row->width;
  pool.in.channels = row->channels;
  pool.window.height = row->window_y;
  pool.window.width = row->window_x;
  pool.window.stride_y = row->stride_y;
  pool.window.stride_x = row->stride_x;
  pool.window.dilation_y = row->dilation_y;
  pool.window.dilation_x = row->dilation_x;
  pool.window.pad_top = row->top;
  pool.window.pad_left = row->left;
  pool.window.pad_bottom = row->bottom;
  pool.window.pad_right = row->right;
  pool.window.ceil = row->ceil;
  pool.kind = kind;
  pool.count_padding = count_padding;
  pool.mix = mix;
  return pool;
}

static void check_pool_kinds(const pool_row *row) {
  for (int kind = CN_POOL_MAX; kind <= CN_POOL_MIX; kind++) {
    for (int count_padding = 0; count_padding <= (kind >= CN_POOL_MEAN); count_padding++) {
      const cn_pool2d pool = pool_of_row(row, (cn_pool_kind)kind, count_padding, 0.3f);
      check_pool(&pool);
    }
  }
}

static void test_pool_table(void **state) {
  static const pool_row rows[] = {
      /*count rows cols ch window stride dil  top left bottom right ceil */
      {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0},
      {2, 4, 6, 3, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0},
      {2, 5, 7, 16, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0},
      {2, 5, 7, 17, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 1},
      {3, 28, 28, 16, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0},
      {7, 3, 3, 33, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0},
      {2, 14, 13, 15, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0},
      {2, 14, 13, 15, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0, 1},
      {2, 13, 13, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0},
      {2, 9, 8, 31, 3, 2, 1, 3, 1, 1, 0, 1, 2, 0, 0},
      {2, 9, 8, 9, 2, 3, 3, 4, 1, 1, 0, 0, 0, 0, 1},
      {2, 9, 8, 7, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0, 1},
      {2, 9, 11, 5, 3, 3, 2, 1, 2, 3, 2, 2, 1, 3, 0},
      {2, 9, 11, 5, 3, 3, 2, 3, 2, 1, 1, 1, 1, 1, 1},
      {3, 7, 7, 49, 7, 7, 1, 1, 1, 1, 0, 0, 0, 0, 0}, /* the whole image */
      {2, 3, 9, 64, 3, 9, 3, 9, 1, 1, 0, 0, 0, 0, 0},
      {2, 1, 20, 4, 1, 3, 1, 2, 1, 1, 0, 1, 0, 1, 0},
      {2, 20, 1, 4, 3, 1, 2, 1, 1, 1, 1, 0, 1, 0, 0},
      {1, 5, 5, 2, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, 0},
      {1, 4, 4, 3, 8, 8, 1, 1, 1, 1, 2, 2, 2, 2, 0},
  };
  begin_test(state, 20);
  for (size_t i = 0; i < LENGTH(rows); i++) check_pool_kinds(&rows[i]);
  end_test();
}

static void test_pool_adaptive(void **state) {
  static const pool_row rows[] = {
      /*count rows cols ch, output; the rest does not count */
      {2, 7, 7, 3, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0},
      {2, 14, 14, 17, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0},
      {1, 13, 9, 16, 6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0},
      {3, 2, 3, 5, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0},
      {2, 5, 11, 33, 1, 1, 3, 2, 2, 2, 1, 1, 1, 1, 1},
      {2, 1, 1, 4, 6, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0},
      {1, 8, 3, 2, 3, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0},
  };
  begin_test(state, 20);
  for (size_t i = 0; i < LENGTH(rows); i++) {
    const cn_pool2d pool = pool_of_row(&rows[i], CN_POOL_ADAPTIVE_MEAN, 0, 0);
    check_pool(&pool);
  }
  end_test();
}

static void test_pool_channels(void **state) {
  begin_test(state, 21);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    if (!within_budget()) continue;
    const pool_row plain = {2, 6, 5, edge_sizes[i], 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0};
    const pool_row overlapping = {1, 7, 6, edge_sizes[i], 3, 3, 2, 2, 1, 1, 1, 1, 0, 1, 1};
    check_pool_kinds(&plain);
    check_pool_kinds(&overlapping);
  }
  end_test();
}

/* Padding as large as the window is refused, and every window must hold at least one value: what
   its maximum would be otherwise is nobody's business. */
static int pool_has_values(const cn_pool2d *pool) {
  const ref_pool r = ref_pool_of(pool);
  const ptrdiff_t span_y = ref_span(r.rows, r.dilation_y),
                  span_x = ref_span(r.columns, r.dilation_x);
  if (r.y_height < 1 || r.y_width < 1) return 0;
  if (r.top >= span_y || r.bottom >= span_y || r.left >= span_x || r.right >= span_x) return 0;
  for (ptrdiff_t i = 0; i < r.y_height * r.y_width; i++) {
    int inside = 0, counted;
    for (ptrdiff_t tap = 0; tap < r.rows * r.columns; tap++) {
      inside += ref_pool_tap(&r, i * r.channels, tap, &counted) >= 0;
    }
    if (!inside) return 0;
  }
  return 1;
}

static cn_pool2d random_pool(void) {
  static const float mixes[] = {0, 0.25f, 0.5f, 1};
  pool_row row;
  row.count = test_random_int(1, 4);
  row.height = test_random_int(1, 14);
  row.width = test_random_int(1, 14);
  row.channels = test_random_int(1, 40);
  row.window_y = test_random_int(1, 5);
  row.window_x = test_random_int(1, 5);
  row.stride_y = test_random_int(1, 4);
  row.stride_x = test_random_int(1, 4);
  row.dilation_y = test_random_int(0, 2);
  row.dilation_x = test_random_int(0, 2);
  row.top = test_random_int(0, row.window_y);
  row.left = test_random_int(0, row.window_x);
  row.bottom = test_random_int(0, row.window_y);
  row.right = test_random_int(0, row.window_x);
  row.ceil = test_random_int(0, 1);
  const int kind = test_random_int(0, 3), count_padding = test_random_int(0, 1);
  return pool_of_row(&row, (cn_pool_kind)kind, count_padding, mixes[test_random_int(0, 3)]);
}

static void test_pool_random(void **state) {
  const int cases = (int)(500 * budget());
  begin_test(state, 22);
  for (int i = 0; i < cases;) {
    const cn_pool2d pool = random_pool();
    if (!pool_has_values(&pool)) continue;
    check_pool(&pool);
    i++;
  }
  end_test();
}

/* NaN is smaller than everything for a maximum and infects a mean; infinities are values like
   others. */
static void test_pool_not_finite(void **state) {
  static const pool_row row = {2, 6, 6, 19, 3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0};
  static const float poisons[] = {NAN, INFINITY, -INFINITY};
  begin_test(state, 23);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t j = 0; j < LENGTH(poisons); j++) {
      for (int kind = CN_POOL_MAX; kind <= CN_POOL_MEAN; kind += CN_POOL_MEAN - CN_POOL_MAX) {
        const int mark = live_count;
        const cn_pool2d pool = pool_of_row(&row, (cn_pool_kind)kind, 0, 0);
        const ref_pool r = ref_pool_of(&pool);
        float *x = random_floats("x", r.x_count), *y = floats("y", r.y_count);
        double *want = doubles(r.y_count);
        describe_pool(&pool, "forward with values that are not finite");
        for (int k = 0; k < 60; k++) x[test_random() % (uint64_t)r.x_count] = poisons[j];
        ref_pool_forward(&r, as_doubles(x, r.x_count), want, NULL);
        cn_pool2d_forward(&pool, x, y, 0, 2);
        for (ptrdiff_t k = 0; k < r.y_count; k++) {
          if (is_close(y[k], want[k], kind == CN_POOL_MAX ? 0 : 1e-5)) continue;
          failed("with %g: y at %td is %g, expected %g", (double)poisons[j], k, (double)y[k],
                 want[k]);
          break;
        }
        release(mark);
      }
    }
  }
  end_test();
}

typedef struct pool_proof {
  const ref_pool *r;
  double *x, *dy, *y;
} pool_proof;

static double pool_proof_loss(void *context_pointer) {
  const pool_proof *p = context_pointer;
  double loss = 0;
  ref_pool_forward(p->r, p->x, p->y, NULL);
  for (ptrdiff_t i = 0; i < p->r->y_count; i++) loss += p->y[i] * p->dy[i];
  return loss;
}

static void test_reference_pool(void **state) {
  static const pool_row rows[] = {
      {2, 5, 6, 2, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 1},
      {1, 6, 5, 3, 3, 3, 2, 1, 1, 1, 1, 1, 0, 1, 0},
      {1, 7, 7, 1, 2, 3, 2, 2, 2, 1, 1, 1, 1, 2, 1},
  };
  begin_test(state, 24);
  for (size_t i = 0; i < LENGTH(rows); i++) {
    for (int kind = CN_POOL_MAX; kind <= CN_POOL_MIX; kind++) {
      const int mark = live_count;
      const cn_pool2d pool = pool_of_row(&rows[i], (cn_pool_kind)kind, kind == CN_POOL_MIX, 0.3f);
      const ref_pool r = ref_pool_of(&pool);
      float *x = random_floats("x", r.x_count), *dy = random_floats("dy", r.y_count);
      pool_proof proof = {&r, as_doubles(x, r.x_count), as_doubles(dy, r.y_count),
                          doubles(r.y_count)};
      double *dx = doubles(r.x_count);
      describe_pool(&pool, "reference");
      ref_pool_backward(&r, proof.x, proof.dy, dx, NULL);
      prove("dx", pool_proof_loss, &proof, proof.x, dx, r.x_count, 1e-6, 1e-7);
      release(mark);
    }
  }
  end_test();
}

static void test_pool_refusals(void **state) {
  static const pool_row rows[] = {
      {0, 6, 6, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0},
      {1, 0, 6, 2, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, 0},
      {1, 6, 6, 0, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0},
      {1, 6, 6, 2, 0, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0},
      {1, 6, 6, 2, 3, 3, -1, 1, 1, 1, 0, 0, 0, 0, 0},
      {1, 6, 6, 2, 3, 3, 1, 1, 1, -1, 0, 0, 0, 0, 0},
      {1, 6, 6, 2, 3, 3, 1, 1, 1, 1, -1, 0, 0, 0, 0},
      {1, 6, 6, 2, 9, 3, 1, 1, 1, 1, 1, 0, 1, 0, 0},
      {1, 6, 6, 2, 2, 3, 1, 1, 1, 1, 2, 0, 0, 0, 0},
      {1, 6, 6, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 3, 0},
  };
  begin_test(state, 25);
  for (size_t i = 0; i < LENGTH(rows); i++) {
    const cn_pool2d pool = pool_of_row(&rows[i], CN_POOL_MAX, 0, 0);
    cn_shape out;
    cn_error error;
    memset(&error, 0, sizeof error);
    describe_pool(&pool, "that makes no sense");
    const cn_status status = cn_pool2d_output(&pool, &out, &error);
    EXPECT(status != CN_OK, "accepted");
    EXPECT(error.status == status && error.message[0], "message is '%s'", error.message);
  }
  end_test();
}

/* The header's formula against counting. */
static void test_window_positions(void **state) {
  begin_test(state, 26);
  for (int i = 0; i < 20000; i++) {
    const int size = test_random_int(1, 30), window = test_random_int(1, 7);
    const int stride = test_random_int(1, 6), dilation = test_random_int(1, 4);
    const int before = test_random_int(0, 6), after = test_random_int(0, 6);
    for (int round_up = 0; round_up <= 1; round_up++) {
      const ptrdiff_t want = ref_positions(size, window, stride, dilation, before, after, round_up);
      const int got = cn_window_positions(size, window, stride, dilation, before, after, round_up);
      if (want < 1 ? got < 1 : got == want) continue;
      describe("window_positions");
      failed("size %d window %d stride %d dilation %d padding %d+%d round_up %d: %d, expected %td",
             size, window, stride, dilation, before, after, round_up, got, want);
    }
  }
  end_test();
}

/* ---- element-wise kernels -------------------------------------------------------------------- */

typedef void (*forward_kernel)(const float *x, float *y, size_t n);
typedef double (*reference_of)(double x);

static const ptrdiff_t lengths[] = {0,  1,  2,  3,   4,   5,   7,   8,    9,   15,
                                    16, 17, 23, 31,  32,  33,  47,  48,   49,  63,
                                    64, 65, 79, 127, 128, 129, 255, 1000, 4099};

/* exp is good to bound_exp; the sum and the division round once each. */
static double sigmoid_tolerance(double x) {
  return ref_sigmoid(x) * (bound_exp + 2 * half_ulp) + smallest;
}

/* 2 / (1 + exp(-2x)) - 1: the error of twice the sigmoid, and one more rounding. */
static double tanh_tolerance(double x) {
  return 2 * sigmoid_tolerance(2 * x) + half_ulp;
}

static double ref_relu(double x) {
  return x > 0 ? x : 0;
}
static double no_tolerance(double x) {
  (void)x;
  return 0;
}

typedef struct activation {
  const char *name;
  forward_kernel kernel;
  reference_of reference, tolerance;
} activation;

static const activation activations[] = {
    {"relu", cn_relu_forward, ref_relu, no_tolerance},
    {"sigmoid", cn_sigmoid_forward, ref_sigmoid, sigmoid_tolerance},
    {"tanh", cn_tanh_forward, ref_tanh, tanh_tolerance},
};

static void check_activation(const activation *a, ptrdiff_t n) {
  const int mark = live_count;
  float *x = random_floats("x", n), *y = floats("y", n);
  for (ptrdiff_t i = 0; i < n; i++) x[i] *= (float)(i % 5 == 0 ? 100 : 5);
  float *in_place = copied_floats("x", x, n);
  describe("%s forward of %td values", a->name, n);
  a->kernel(x, y, (size_t)n);
  a->kernel(in_place, in_place, (size_t)n);
  expect_same_floats("y in place of x", in_place, y, n);
  for (ptrdiff_t i = 0; i < n; i++) {
    expect_number("y", y[i], a->reference(x[i]), a->tolerance(x[i]));
  }
  release(mark);
}

/* A sweep over everything that exp can be asked, and the values that it should not be. */
static void check_activation_range(const activation *a) {
  enum { N = 40000 };
  static const float special[] = {0,   -0.0f, NAN,   INFINITY, -INFINITY, 88.7f,   -88.7f,
                                  104, -104,  1e30f, -1e30f,   1e-30f,    -1e-30f, 1e-40f};
  const int mark = live_count;
  float *x = floats("x", N), *y = floats("y", N);
  double worst = 0;
  for (ptrdiff_t i = 0; i < N; i++) x[i] = (float)((double)i / N * 230 - 115);
  for (size_t i = 0; i < LENGTH(special); i++) x[i * 100] = special[i];
  describe("%s forward over its range", a->name);
  a->kernel(x, y, N);
  for (ptrdiff_t i = 0; i < N; i++) {
    const double want = a->reference(x[i]), tolerance = a->tolerance(x[i]);
    /* a subnormal input counts as zero in some modes, which is within `smallest` of it */
    const double slack = fabs((double)x[i]) < smallest ? smallest : 0;
    if (is_close(y[i], want, tolerance + slack)) {
      if (tolerance > 0 && !isnan(want)) worst = fmax(worst, fabs(y[i] - want) / tolerance);
      continue;
    }
    failed("y(%.9g) is %.9g, expected %.9g +-%.2g", (double)x[i], (double)y[i], want, tolerance);
    break;
  }
  if (worst > 0)
    printf("  %-7s %-7s worst error %.2f of what is allowed\n", cn_isa_name(), a->name, worst);
  release(mark);
}

/* Work is cut between threads anywhere, so a value must not depend on its place in the vector
   loop. */
static void check_activation_place(const activation *a) {
  enum { N = 67 };
  const int mark = live_count;
  float *x = floats("x", N), *y = floats("y", N), *want = floats("y", N);
  describe("%s forward of equal values", a->name);
  for (int repeat = 0; repeat < 20; repeat++) {
    const float value = (float)(test_random_double() * 6);
    for (int i = 0; i < N; i++) x[i] = value;
    a->kernel(x, y, N);
    for (int i = 0; i < N; i++) want[i] = y[0];
    expect_same_floats("y at another place", y, want, N);
  }
  release(mark);
}

static void test_activations(void **state) {
  begin_test(state, 30);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t j = 0; j < LENGTH(activations); j++) {
      for (size_t k = 0; k < LENGTH(lengths); k++) check_activation(&activations[j], lengths[k]);
      check_activation_range(&activations[j]);
      check_activation_place(&activations[j]);
    }
  }
  end_test();
}

/* relu's gradient is exact; dy may be overwritten; NaN in y passes nothing on. */
static void check_relu_backward(ptrdiff_t n) {
  const int mark = live_count;
  float *y = random_floats("y", n), *dy = random_floats("dy", n), *dx = floats("dx", n);
  const float scale = test_random_int(0, 1) ? 1 : (float)test_random_double();
  if (n > 0) y[0] = 0;
  if (n > 1) y[1] = NAN;
  if (n > 2) y[2] = -0.0f;
  float *in_place = copied_floats("dy", dy, n);
  describe("relu backward of %td values, scale %g", n, (double)scale);
  cn_relu_backward(y, dy, scale, dx, (size_t)n);
  cn_relu_backward(y, in_place, scale, in_place, (size_t)n);
  expect_same_floats("dx in place of dy", in_place, dx, n);
  for (ptrdiff_t i = 0; i < n; i++) {
    const float want = y[i] > 0 ? scale * dy[i] : 0;
    EXPECT(dx[i] == want, "dx at %td is %.9g, expected %.9g", i, (double)dx[i], (double)want);
  }
  release(mark);
}

typedef void (*backward_kernel)(const float *y, const float *dy, float *dx, size_t n);

/* `tanh` chooses between dy (1 - y^2) and dy y (1 - y): two or three roundings on terms of that
   size. */
static void check_smooth_backward(const char *name, backward_kernel kernel, int is_tanh,
                                  ptrdiff_t n) {
  const int mark = live_count;
  float *y = random_floats("y", n), *dy = random_floats("dy", n), *dx = floats("dx", n);
  float *in_place = copied_floats("dy", dy, n);
  describe("%s backward of %td values", name, n);
  for (ptrdiff_t i = 0; !is_tanh && i < n; i++) y[i] = fabsf(y[i]);
  kernel(y, dy, dx, (size_t)n);
  kernel(y, in_place, in_place, (size_t)n);
  expect_same_floats("dx in place of dy", in_place, dx, n);
  for (ptrdiff_t i = 0; i < n; i++) {
    const double v = y[i], g = dy[i];
    const double want = is_tanh ? g * (1 - v * v) : g * v * (1 - v);
    const double size = fabs(g) * (is_tanh ? 1 + v * v : fabs(v) * (1 + fabs(v)));
    expect_number("dx", dx[i], want, 4 * half_ulp * size + smallest);
  }
  release(mark);
}

static double sigmoid_at(void *x) {
  return ref_sigmoid(*(double *)x);
}
static double tanh_at(void *x) {
  return ref_tanh(*(double *)x);
}

static void test_activations_backward(void **state) {
  begin_test(state, 31);
  for (double x = -6; x <= 6; x += 0.37) { /* the formulas are the derivatives */
    double at = x;
    const double s = ref_sigmoid(x), t = ref_tanh(x);
    describe("reference at %g", x);
    expect_number("sigmoid's slope", s * (1 - s), ref_slope(sigmoid_at, &at, &at, 1e-3), 1e-9);
    expect_number("tanh's slope", 1 - t * t, ref_slope(tanh_at, &at, &at, 1e-3), 1e-9);
  }
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t k = 0; k < LENGTH(lengths); k++) {
      check_relu_backward(lengths[k]);
      check_smooth_backward("sigmoid", cn_sigmoid_backward, 0, lengths[k]);
      check_smooth_backward("tanh", cn_tanh_backward, 1, lengths[k]);
    }
  }
  end_test();
}

static void test_add(void **state) {
  begin_test(state, 32);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t k = 0; k < LENGTH(lengths); k++) {
      const int mark = live_count;
      const ptrdiff_t n = lengths[k];
      float *a = random_floats("a", n), *b = random_floats("b", n), *y = floats("y", n);
      float *want = floats("want", n);
      if (n > 3) a[2] = NAN;
      for (ptrdiff_t j = 0; j < n; j++) want[j] = a[j] + b[j];
      describe("add of %td values", n);
      cn_add(a, b, y, (size_t)n);
      double *wide = as_doubles(want, n);
      expect_exact("y", y, wide, n);
      float *onto_a = copied_floats("a", a, n), *onto_b = copied_floats("b", b, n);
      cn_add(onto_a, b, onto_a, (size_t)n);
      cn_add(a, onto_b, onto_b, (size_t)n);
      expect_exact("y in place of a", onto_a, wide, n);
      expect_exact("y in place of b", onto_b, wide, n);
      release(mark);
    }
  }
  end_test();
}

static void test_scale(void **state) {
  begin_test(state, 32);
  for (size_t k = 0; k < LENGTH(lengths); k++) {
    const int mark = live_count;
    const ptrdiff_t n = lengths[k];
    float *x = random_floats("x", n), *y = floats("y", n), *want = floats("want", n);
    if (n > 3) x[2] = NAN;
    for (ptrdiff_t j = 0; j < n; j++) want[j] = -0.17f * x[j];
    double *wide = as_doubles(want, n);
    describe("scale of %td values", n);
    cn_scale(x, -0.17f, y, (size_t)n);
    expect_exact("y", y, wide, n);
    cn_scale(x, -0.17f, x, (size_t)n);
    expect_exact("y in place of x", x, wide, n);
    release(mark);
  }
  end_test();
}

/* Runs of channels between tensors of other widths; what lies between the runs stays. */
static void test_copy_channels(void **state) {
  begin_test(state, 33);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int repeat = 0; repeat < 300; repeat++) {
      const int mark = live_count;
      const int channels = edge_sizes[test_random() % LENGTH(edge_sizes)],
                rows = test_random_int(0, 9);
      const int x_gap = test_random_int(-20, 20), y_gap = test_random_int(-20, 20);
      const int x_pitch = channels + (x_gap > 0 ? x_gap : 0);
      const int y_pitch = channels + (y_gap > 0 ? y_gap : 0);
      /* the last run ends its buffer, as in the last tensor of a concatenation */
      const int x_count = rows ? (rows - 1) * x_pitch + channels : 0;
      const int y_count = rows ? (rows - 1) * y_pitch + channels : 0;
      float *x = random_floats("x", x_count), *y = floats("y", y_count);
      float *want = copied_floats("want", y, y_count);
      describe("copy of %d runs of %d, pitch %d to %d", rows, channels, x_pitch, y_pitch);
      for (int row = 0; row < rows; row++) {
        for (int c = 0; c < channels; c++) want[row * y_pitch + c] = x[row * x_pitch + c];
      }
      cn_copy_channels(x, (size_t)x_pitch, y, (size_t)y_pitch, (size_t)rows, (size_t)channels);
      expect_same_floats("y", y, want, y_count);
      release(mark);
    }
  }
  end_test();
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* Which of n values are kept. */
static uint8_t *kept_values(ptrdiff_t n, float rate, uint64_t seed) {
  float *x = floats("x", n), *y = floats("y", n);
  uint8_t *kept = bytes("kept", n);
  for (ptrdiff_t i = 0; i < n; i++) x[i] = 1;
  cn_dropout(x, y, 0, (size_t)n, rate, seed);
  for (ptrdiff_t i = 0; i < n; i++) kept[i] = y[i] != 0;
  return kept;
}

/* A share of n independent draws with the given probability lies within 5.5 deviations of it. */
static void expect_share(const char *what, ptrdiff_t count, ptrdiff_t n, double probability) {
  const double deviation = sqrt(probability * (1 - probability) / (double)n);
  const double share = (double)count / (double)n;
  EXPECT(fabs(share - probability) <= 5.5 * deviation, "%s: share %.4f, expected %.4f", what, share,
         probability);
}

static void check_dropout_statistics(float rate) {
  enum { N = 100000 };
  static const int distances[] = {1, 2, 3, 4, 5, 8, 16, 28, 64};
  const int mark = live_count;
  const uint8_t *kept = kept_values(N, rate, 42), *next = kept_values(N, rate, 43);
  const double keep = 1 - (double)rate;
  ptrdiff_t count = 0, both = 0;
  describe("dropout %g", (double)rate);
  for (ptrdiff_t i = 0; i < N; i++) count += kept[i];
  expect_share("kept", count, N, keep);
  for (ptrdiff_t i = 0; i < N; i++) both += kept[i] && next[i];
  expect_share("kept with both of two seeds", both, N, keep * keep);
  for (size_t d = 0; d < LENGTH(distances); d++) {
    ptrdiff_t pairs = 0;
    for (ptrdiff_t i = 0; i + distances[d] < N; i++) pairs += kept[i] && kept[i + distances[d]];
    expect_share("kept together with a neighbour", pairs, N - distances[d], keep * keep);
  }
  for (int lane = 0; lane < 4; lane++) {
    ptrdiff_t lane_count = 0;
    for (ptrdiff_t i = lane; i < N; i += 4) lane_count += kept[i];
    expect_share("kept in one lane of four", lane_count, N / 4, keep);
  }
  release(mark);
}

static void check_dropout(ptrdiff_t n, float rate, uint64_t seed, const float *first_isa) {
  const int mark = live_count;
  float *x = floats("x", n), *y = floats("y", n);
  const double scale = 1 / (1 - (double)rate);
  for (ptrdiff_t i = 0; i < n; i++) x[i] = (float)(i % 7 + 1);
  describe("dropout %g of %td values, seed %llu", (double)rate, n, (unsigned long long)seed);
  cn_dropout(x, y, 0, (size_t)n, rate, seed);
  for (ptrdiff_t i = 0; i < n; i++) {
    if (y[i] == 0 && rate > 0) continue;
    expect_number("y", y[i], x[i] * scale, x[i] * scale * 3 * half_ulp);
  }
  expect_same_floats("y on another instruction set", y, first_isa, n);
  float *in_place = copied_floats("x", x, n), *pieces = floats("y", n);
  cn_dropout(in_place, in_place, 0, (size_t)n, rate, seed);
  expect_same_floats("y in place of x", in_place, y, n);
  for (ptrdiff_t end = n; end > 0;) { /* pieces of 4 to 40, from the back */
    ptrdiff_t begin = (end - 1) / 4 * 4 - 4 * test_random_int(0, 9);
    if (begin < 0) begin = 0;
    cn_dropout(x, pieces, (size_t)begin, (size_t)end, rate, seed);
    end = begin;
  }
  expect_same_floats("y, split otherwise", pieces, y, n);
  release(mark);
}

static void test_dropout(void **state) {
  static const float rates[] = {0, 0.1f, 0.25f, 0.5f, 0.9f, 0.999f};
  begin_test(state, 40);
  for (size_t j = 0; j < LENGTH(rates); j++) {
    for (size_t k = 0; k < LENGTH(lengths); k++) {
      const int mark = live_count;
      const ptrdiff_t n = lengths[k];
      const uint64_t seed = test_random();
      float *x = floats("x", n), *y = floats("y", n);
      for (ptrdiff_t i = 0; i < n; i++) x[i] = (float)(i % 7 + 1);
      cn_isa_limit(isas[0]);
      cn_dropout(x, y, 0, (size_t)n, rates[j], seed);
      for (int i = 0; i < isa_count; i++) {
        cn_isa_limit(isas[i]);
        check_dropout(n, rates[j], seed, y);
      }
      release(mark);
    }
    if (rates[j] > 0) check_dropout_statistics(rates[j]);
  }
  end_test();
}

/* Rate 0 drops nothing at all, not even one in 2^16. */
static void test_dropout_nothing(void **state) {
  begin_test(state, 42);
  for (int i = 0; i < isa_count; i++) {
    enum { N = 1000000 };
    const int mark = live_count;
    ptrdiff_t kept = 0;
    cn_isa_limit(isas[i]);
    describe("dropout 0");
    const uint8_t *is_kept = kept_values(N, 0, 5);
    for (ptrdiff_t j = 0; j < N; j++) kept += is_kept[j];
    EXPECT(kept == N, "%td values are dropped", N - kept);
    release(mark);
  }
  end_test();
}

/* What is dropped is 0, whatever it was. */
static void test_dropout_not_finite(void **state) {
  begin_test(state, 41);
  for (int i = 0; i < isa_count; i++) {
    enum { N = 1000 };
    const int mark = live_count;
    cn_isa_limit(isas[i]);
    const uint8_t *kept = kept_values(N, 0.5f, 3);
    float *x = floats("x", N), *y = floats("y", N);
    for (int j = 0; j < N; j++) x[j] = j % 2 ? NAN : INFINITY;
    describe("dropout of values that are not finite");
    cn_dropout(x, y, 0, N, 0.5f, 3);
    for (int j = 0; j < N; j++) {
      const double want = kept[j] ? (double)x[j] : 0;
      EXPECT(is_close(y[j], want, 0), "y at %d is %g, expected %g", j, (double)y[j], want);
    }
    release(mark);
  }
  end_test();
}

/* ---- batch normalisation --------------------------------------------------------------------- */

typedef struct norm_case {
  ptrdiff_t rows, channels;
  float eps, momentum;
  int relu;
  float *x, *scale, *shift, *running_mean, *running_variance;
  double *mean, *variance, *square_mean;
} norm_case;

static void make_norm_case(norm_case *c, ptrdiff_t rows, ptrdiff_t channels) {
  c->rows = rows;
  c->channels = channels;
  c->eps = test_random_int(0, 1) ? 1e-5f : 1e-3f;
  c->momentum = test_random_int(0, 1) ? 0.1f : 0.3f;
  c->relu = test_random_int(0, 1);
  c->x = random_floats("x", rows * channels);
  for (ptrdiff_t i = 0; i < rows * channels; i++) { /* other means and deviations per channel */
    c->x[i] = c->x[i] * (1 + 0.3f * (float)(i % channels % 4)) + (float)(i % channels % 5 - 2);
    if (i % channels == 3) c->x[i] = 0.1f; /* a channel that never changes */
  }
  c->scale = random_floats("scale", channels);
  c->shift = random_floats("shift", channels);
  c->running_mean = random_floats("running mean", channels);
  c->running_variance = random_floats("running variance", channels);
  c->mean = doubles(channels);
  c->variance = doubles(channels);
  c->square_mean = doubles(channels);
  ref_batchnorm_statistics(as_doubles(c->x, rows * channels), rows, channels, c->mean, c->variance,
                           c->square_mean);
}

typedef struct norm_result {
  float *mean, *inverse_deviation, *running_mean, *running_variance;
} norm_result;

static cn_batchnorm norm_of(const norm_case *c) {
  cn_batchnorm norm;
  memset(&norm, 0, sizeof norm);
  norm.rows = (size_t)c->rows, norm.channels = (int)c->channels;
  norm.scale = c->scale, norm.shift = c->shift, norm.relu = c->relu;
  norm.eps = c->eps, norm.momentum = c->momentum;
  return norm;
}

/* Statistics and finish, by parts from the last or all at once. */
static norm_result run_statistics(const norm_case *c, int reversed) {
  norm_result result;
  const int parts = cn_batchnorm_parts((size_t)c->rows), channels = (int)c->channels;
  double *sums = buffer("sums", (size_t)(2 * parts * channels) * sizeof *sums, sizeof *sums);
  cn_batchnorm norm = norm_of(c);
  EXPECT(parts >= 1, "%d parts", parts);
  if (!reversed) cn_batchnorm_statistics(&norm, c->x, sums, 0, parts);
  for (int part = parts - 1; reversed && part >= 0; part--) {
    cn_batchnorm_statistics(&norm, c->x, sums, part, part + 1);
  }
  result.mean = floats("mean", channels);
  result.inverse_deviation = floats("inverse deviation", channels);
  result.running_mean = copied_floats("running mean", c->running_mean, channels);
  result.running_variance = copied_floats("running variance", c->running_variance, channels);
  norm.mean = result.mean, norm.inverse_deviation = result.inverse_deviation;
  norm.running_mean = result.running_mean, norm.running_variance = result.running_variance;
  cn_batchnorm_finish(&norm, sums);
  return result;
}

/* The variance is a difference of two means, so its error is judged against the mean of squares. */
static void check_norm_statistics(const norm_case *c, const norm_result *got) {
  const double rows = (double)c->rows, momentum = c->momentum;
  for (ptrdiff_t i = 0; i < c->channels; i++) {
    const double inverse = 1 / sqrt(c->variance[i] + (double)c->eps);
    const double spread = c->square_mean[i] / (c->variance[i] + (double)c->eps);
    const double unbiased = c->rows > 1 ? rows / (rows - 1) : 1;
    const double old_mean = c->running_mean[i], old_variance = c->running_variance[i];
    const double root = sqrt(c->square_mean[i]);
    expect_number("mean", got->mean[i], c->mean[i], bound_batchnorm * root);
    expect_number("inverse deviation", got->inverse_deviation[i], inverse,
                  bound_batchnorm * inverse * (1 + spread));
    expect_number("running mean", got->running_mean[i],
                  (1 - momentum) * old_mean + momentum * c->mean[i],
                  bound_batchnorm * (fabs(old_mean) + root));
    if (c->rows == 1) { /* one value has no unbiased variance */
      EXPECT(isfinite(got->running_variance[i]), "running variance of one row is not finite");
      continue;
    }
    expect_number("running variance", got->running_variance[i],
                  (1 - momentum) * old_variance + momentum * unbiased * c->variance[i],
                  bound_batchnorm * (fabs(old_variance) + unbiased * c->square_mean[i]));
  }
}

static void check_norm_forward(const norm_case *c, float *mean, float *inverse_deviation) {
  const int mark = live_count;
  const ptrdiff_t count = c->rows * c->channels;
  cn_batchnorm norm = norm_of(c);
  const size_t rows = (size_t)c->rows;
  double *want = doubles(count), *size = doubles(count);
  float *y = floats("y", count), *in_place = copied_floats("x", c->x, count);
  float *pieces = floats("y", count);
  describe("batch norm forward of %td rows, %td channels%s", c->rows, c->channels,
           c->relu ? ", relu" : "");
  ref_batchnorm_forward(as_doubles(c->x, count), c->rows, c->channels,
                        as_doubles(mean, c->channels), as_doubles(inverse_deviation, c->channels),
                        as_doubles(c->scale, c->channels), as_doubles(c->shift, c->channels),
                        c->relu, want, size);
  norm.mean = mean, norm.inverse_deviation = inverse_deviation;
  cn_batchnorm_forward(&norm, c->x, y, 0, rows);
  cn_batchnorm_forward(&norm, in_place, in_place, 0, rows);
  cn_batchnorm_forward(&norm, c->x, pieces, rows / 3, rows);
  cn_batchnorm_forward(&norm, c->x, pieces, 0, rows / 3);
  expect_close("y", y, want, size, count, bound_mean);
  expect_same_floats("y in place of x", in_place, y, count);
  expect_same_floats("y, split otherwise", pieces, y, count);
  release(mark);
}

/* Training as a whole: x to y with the batch's own figures. */
static void check_norm_training(const norm_case *c, const norm_result *figures) {
  const int mark = live_count;
  const ptrdiff_t count = c->rows * c->channels;
  double *want = doubles(count), *size = doubles(count), *inverse = doubles(c->channels);
  float *y = floats("y", count);
  describe("batch norm in training, %td rows, %td channels", c->rows, c->channels);
  for (ptrdiff_t i = 0; i < c->channels; i++)
    inverse[i] = 1 / sqrt(c->variance[i] + (double)c->eps);
  ref_batchnorm_forward(as_doubles(c->x, count), c->rows, c->channels, c->mean, inverse,
                        as_doubles(c->scale, c->channels), as_doubles(c->shift, c->channels),
                        c->relu, want, size);
  for (ptrdiff_t i = 0; i < count; i++) { /* the mean is itself a sum, of terms larger than it is */
    const ptrdiff_t channel = i % c->channels;
    size[i] += sqrt(c->square_mean[channel]) * inverse[channel] * fabs((double)c->scale[channel]);
  }
  cn_batchnorm norm = norm_of(c);
  norm.mean = figures->mean, norm.inverse_deviation = figures->inverse_deviation;
  cn_batchnorm_forward(&norm, c->x, y, 0, norm.rows);
  expect_close("y", y, want, size, count, bound_batchnorm);
  release(mark);
}

static void check_norm_backward(const norm_case *c, float *mean, float *inverse_deviation) {
  const int mark = live_count;
  const ptrdiff_t count = c->rows * c->channels;
  const int channels = (int)c->channels, parts = cn_batchnorm_parts((size_t)c->rows);
  const size_t rows = (size_t)c->rows, sums_bytes = (size_t)(2 * parts * channels) * sizeof(double);
  float *dy = random_floats("dy", count);
  const double *x = as_doubles(c->x, count), *g = as_doubles(dy, count);
  const double *m = as_doubles(mean, channels), *d = as_doubles(inverse_deviation, channels);
  double *dscale = doubles(channels), *dscale_size = doubles(channels);
  double *dshift = doubles(channels), *dshift_size = doubles(channels);
  double *sums = buffer("sums", sums_bytes, sizeof *sums);
  double *reversed = buffer("sums", sums_bytes, sizeof *sums);
  float *got_scale = floats("dscale", channels), *got_shift = floats("dshift", channels);
  cn_batchnorm norm = norm_of(c);
  norm.mean = mean, norm.inverse_deviation = inverse_deviation;
  describe("batch norm backward of %td rows, %td channels", c->rows, c->channels);
  cn_batchnorm_backward_sums(&norm, c->x, dy, sums, 0, parts);
  for (int part = parts - 1; part >= 0; part--) {
    cn_batchnorm_backward_sums(&norm, c->x, dy, reversed, part, part + 1);
  }
  expect_same("sums, split otherwise", reversed, sums, sums_bytes);
  cn_batchnorm_backward_finish(&norm, sums, got_scale, got_shift);
  ref_batchnorm_backward_sums(x, g, c->rows, c->channels, m, d, dscale, dscale_size, dshift,
                              dshift_size);
  expect_close("dscale", got_scale, dscale, dscale_size, channels, bound_batchnorm);
  expect_close("dshift", got_shift, dshift, dshift_size, channels, bound_batchnorm);
  for (int frozen = 0; frozen <= 1; frozen++) {
    double *want = doubles(count), *size = doubles(count);
    float *dx = floats("dx", count), *in_place = copied_floats("dy", dy, count);
    float *pieces = floats("dx", count);
    describe("batch norm backward of %td rows, %td channels%s", c->rows, c->channels,
             frozen ? ", frozen" : "");
    ref_batchnorm_backward(x, g, c->rows, c->channels, m, d, as_doubles(c->scale, channels),
                           as_doubles(got_scale, channels), as_doubles(got_shift, channels), frozen,
                           want, size);
    norm.frozen = frozen;
    cn_batchnorm_backward(&norm, c->x, dy, got_scale, got_shift, dx, 0, rows);
    cn_batchnorm_backward(&norm, c->x, in_place, got_scale, got_shift, in_place, 0, rows);
    cn_batchnorm_backward(&norm, c->x, dy, got_scale, got_shift, pieces, rows / 2, rows);
    cn_batchnorm_backward(&norm, c->x, dy, got_scale, got_shift, pieces, 0, rows / 2);
    expect_close("dx", dx, want, size, count, bound_batchnorm);
    expect_same_floats("dx in place of dy", in_place, dx, count);
    expect_same_floats("dx, split otherwise", pieces, dx, count);
  }
  release(mark);
}

static void check_norm(ptrdiff_t rows, ptrdiff_t channels) {
  const int mark = live_count;
  norm_case c;
  data_alignment = test_random() % 2 ? sizeof(float) : 64;
  make_norm_case(&c, rows, channels);
  for (int i = 0; i < isa_count; i++) {
    const int isa_mark = live_count;
    cn_isa_limit(isas[i]);
    describe("batch norm statistics of %td rows, %td channels", rows, channels);
    const norm_result figures = run_statistics(&c, 0), reversed = run_statistics(&c, 1);
    expect_same_floats("mean, split otherwise", reversed.mean, figures.mean, channels);
    expect_same_floats("inverse deviation, split otherwise", reversed.inverse_deviation,
                       figures.inverse_deviation, channels);
    check_norm_statistics(&c, &figures);
    check_norm_training(&c, &figures);
    check_norm_forward(&c, figures.mean, figures.inverse_deviation);
    check_norm_backward(&c, figures.mean, figures.inverse_deviation);
    release(isa_mark);
  }
  data_alignment = sizeof(float);
  release(mark);
}

static void test_batchnorm(void **state) {
  static const ptrdiff_t rows[] = {1,   2,   3,   7,   15,   16,   17,  49,
                                   100, 511, 512, 513, 1024, 1025, 1800};
  begin_test(state, 50);
  for (size_t i = 0; i < LENGTH(edge_sizes); i++) {
    for (size_t j = 0; j < LENGTH(rows); j++) {
      if ((i + j) % 3 || !within_budget()) continue;
      check_norm(rows[j], edge_sizes[i]);
    }
  }
  check_norm(4000, 5);
  end_test();
}

/* ReLU behind a normalisation takes NaN for smaller than everything. */
static void test_batchnorm_nan(void **state) {
  begin_test(state, 51);
  for (int i = 0; i < isa_count; i++) {
    enum { ROWS = 5, CHANNELS = 19 };
    const int mark = live_count;
    float *x = random_floats("x", ROWS * CHANNELS), *y = floats("y", ROWS * CHANNELS);
    float *ones = floats("ones", CHANNELS), *zeros = floats("zeros", CHANNELS);
    for (int c = 0; c < CHANNELS; c++) {
      ones[c] = 1;
      zeros[c] = 0;
    }
    x[CHANNELS + 17] = NAN;
    cn_isa_limit(isas[i]);
    for (int relu = 0; relu <= 1; relu++) {
      describe("batch norm of a NaN, relu %d", relu);
      const cn_batchnorm norm = {.rows = ROWS,
                                 .channels = CHANNELS,
                                 .scale = ones,
                                 .shift = zeros,
                                 .mean = zeros,
                                 .inverse_deviation = ones,
                                 .relu = relu};
      cn_batchnorm_forward(&norm, x, y, 0, ROWS);
      for (int j = 0; j < ROWS * CHANNELS; j++) {
        const double want = relu ? (x[j] > 0 ? (double)x[j] : 0) : (double)x[j];
        EXPECT(is_close(y[j], want, 1e-6), "y at %d is %g, expected %g", j, (double)y[j], want);
      }
    }
    release(mark);
  }
  end_test();
}

typedef struct norm_proof {
  ptrdiff_t rows, channels;
  double *x, *scale, *shift, *dy, *y, *mean, *variance, *inverse;
  int frozen;
} norm_proof;

static double norm_proof_loss(void *context_pointer) {
  const norm_proof *p = context_pointer;
  double loss = 0;
  if (!p->frozen) {
    ref_batchnorm_statistics(p->x, p->rows, p->channels, p->mean, p->variance, NULL);
    for (ptrdiff_t c = 0; c < p->channels; c++) p->inverse[c] = 1 / sqrt(p->variance[c] + 1e-3);
  }
  ref_batchnorm_forward(p->x, p->rows, p->channels, p->mean, p->inverse, p->scale, p->shift, 0,
                        p->y, NULL);
  for (ptrdiff_t i = 0; i < p->rows * p->channels; i++) loss += p->y[i] * p->dy[i];
  return loss;
}

static void test_reference_batchnorm(void **state) {
  enum { ROWS = 9, CHANNELS = 4, COUNT = ROWS * CHANNELS };
  const int mark = live_count;
  begin_test(state, 52);
  norm_proof p = {ROWS,
                  CHANNELS,
                  as_doubles(random_floats("x", COUNT), COUNT),
                  as_doubles(random_floats("scale", CHANNELS), CHANNELS),
                  as_doubles(random_floats("shift", CHANNELS), CHANNELS),
                  as_doubles(random_floats("dy", COUNT), COUNT),
                  doubles(COUNT),
                  doubles(CHANNELS),
                  doubles(CHANNELS),
                  doubles(CHANNELS),
                  0};
  double *dx = doubles(COUNT), *dscale = doubles(CHANNELS), *dshift = doubles(CHANNELS);
  double *unused = doubles(CHANNELS);
  norm_proof_loss(&p);
  ref_batchnorm_backward_sums(p.x, p.dy, ROWS, CHANNELS, p.mean, p.inverse, dscale, unused, dshift,
                              unused);
  for (p.frozen = 0; p.frozen <= 1; p.frozen++) {
    describe("reference batch norm, frozen %d", p.frozen);
    ref_batchnorm_backward(p.x, p.dy, ROWS, CHANNELS, p.mean, p.inverse, p.scale, dscale, dshift,
                           p.frozen, dx, NULL);
    prove("dx", norm_proof_loss, &p, p.x, dx, COUNT, 1e-3, 1e-8);
    norm_proof_loss(&p);
    prove("dscale", norm_proof_loss, &p, p.scale, dscale, CHANNELS, 1e-3, 1e-8);
    prove("dshift", norm_proof_loss, &p, p.shift, dshift, CHANNELS, 1e-3, 1e-8);
  }
  release(mark);
  end_test();
}

/* ---- softmax and losses ---------------------------------------------------------------------- */

static const int class_counts[] = {1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 33, 64, 100, 1000};

/* Both exponentials are good to bound_exp, the sum collects roundings; the difference to the
   largest value is rounded before, which exp turns into a relative error of its size. */
static double softmax_tolerance(double p, double below_largest, ptrdiff_t classes) {
  const double roundings = 4 + sqrt((double)classes) + 2 * below_largest;
  return p * (2 * bound_exp + half_ulp * roundings) + smallest;
}

static void check_softmax(ptrdiff_t rows, ptrdiff_t classes, double spread) {
  const int mark = live_count;
  const ptrdiff_t count = rows * classes;
  float *x = random_floats("x", count), *p = floats("p", count);
  double *want = doubles(classes);
  for (ptrdiff_t i = 0; i < count; i++) x[i] *= (float)spread;
  float *in_place = copied_floats("x", x, count);
  describe("softmax of %td rows, %td classes, within +-%g", rows, classes, spread);
  cn_softmax(x, p, (size_t)rows, (int)classes);
  cn_softmax(in_place, in_place, (size_t)rows, (int)classes);
  expect_same_floats("p in place of x", in_place, p, count);
  for (ptrdiff_t row = 0; row < rows; row++) {
    const double *values = as_doubles(x + row * classes, classes);
    double largest;
    ref_log_sum(values, classes, &largest);
    ref_softmax(values, classes, want);
    for (ptrdiff_t c = 0; c < classes; c++) {
      expect_number("p", p[row * classes + c], want[c],
                    softmax_tolerance(want[c], largest - values[c], classes));
    }
  }
  release(mark);
}

static void test_softmax(void **state) {
  static const int rows[] = {1, 2, 3, 7, 33};
  static const double spreads[] = {1, 30, 200, 1e6};
  begin_test(state, 60);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (size_t j = 0; j < LENGTH(class_counts); j++) {
      for (size_t k = 0; k < LENGTH(rows); k++) {
        check_softmax(rows[k], class_counts[j], spreads[(j + k) % LENGTH(spreads)]);
      }
    }
  }
  end_test();
}

/* A row with a NaN or +infinity is NaN throughout, -infinity has probability 0; other rows are not
   touched by it. */
static void test_softmax_not_finite(void **state) {
  enum { CLASSES = 19 };
  begin_test(state, 61);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int at = 0; at < CLASSES; at++) {
      const int mark = live_count;
      float *x = random_floats("x", 4 * CLASSES), *p = floats("p", 4 * CLASSES);
      double *want = doubles(CLASSES);
      x[at] = NAN;
      x[CLASSES + at] = INFINITY;
      x[2 * CLASSES + at] = -INFINITY;
      describe("softmax with values that are not finite, at %d", at);
      cn_softmax(x, p, 4, CLASSES);
      for (int row = 2; row < 4; row++) {
        ref_softmax(as_doubles(x + row * CLASSES, CLASSES), CLASSES, want);
        for (int c = 0; c < CLASSES; c++) { /* exp(-infinity) is 0, not a small number */
          expect_number("p", p[row * CLASSES + c], want[c], 2e-6 * want[c]);
        }
      }
      for (int c = 0; c < 2 * CLASSES; c++) {
        if (c == CLASSES + at) continue; /* infinity minus infinity, however it is written */
        const int may_be_zero = c > CLASSES && p[c] == 0;
        EXPECT(isnan(p[c]) || may_be_zero, "p at %d is %g", c, (double)p[c]);
      }
      int not_a_number = 0;
      for (int c = 0; c < CLASSES; c++) not_a_number += isnan(p[CLASSES + c]) != 0;
      EXPECT(not_a_number, "a row with infinity has no NaN");
      release(mark);
    }
  }
  end_test();
}

/* One of the three losses with its reference. */
typedef enum loss_kind { LOSS_SOFTMAX, LOSS_SIGMOID, LOSS_SQUARED, LOSS_COUNT } loss_kind;

static const char *const loss_names[] = {"softmax", "sigmoid", "squared"};

typedef struct loss_case {
  loss_kind kind;
  ptrdiff_t rows, classes;
  float *logits, *targets, *weights;
  int *labels;
  float scale;
} loss_case;

static void make_loss_case(loss_case *c, loss_kind kind, ptrdiff_t rows, ptrdiff_t classes) {
  const float spread = test_random_int(0, 2) ? 3 : 40;
  memset(c, 0, sizeof *c);
  c->kind = kind;
  c->rows = rows;
  c->classes = classes;
  c->scale = test_random_int(0, 1) ? 1 : 1 / (float)rows;
  c->logits = random_floats("logits", rows * classes);
  for (ptrdiff_t i = 0; i < rows * classes; i++) c->logits[i] *= spread;
  c->targets = random_floats("targets", rows * classes);
  for (ptrdiff_t i = 0; i < rows * classes; i++) {
    c->targets[i] = fabsf(c->targets[i]);
    if (i % 2) c->targets[i] = c->targets[i] > 0.5f;
  }
  c->labels = buffer("labels", (size_t)rows * sizeof *c->labels, sizeof *c->labels);
  for (ptrdiff_t i = 0; i < rows; i++) c->labels[i] = test_random_int(0, (int)classes - 1);
  if (kind != LOSS_SOFTMAX || test_random_int(0, 1)) return;
  c->weights = random_floats("class weights", classes);
  for (ptrdiff_t i = 0; i < classes; i++) c->weights[i] = fabsf(c->weights[i]) * 3;
}

static double run_loss(const loss_case *c, const float *logits, float *probabilities,
                       float *gradient, size_t begin, size_t end) {
  if (c->kind == LOSS_SOFTMAX) {
    return cn_softmax_loss(logits, c->labels, c->weights, (int)c->classes, c->scale, probabilities,
                           gradient, begin, end);
  }
  if (c->kind == LOSS_SIGMOID) {
    return cn_sigmoid_loss(logits, c->targets, (int)c->classes, c->scale, probabilities, gradient,
                           begin, end);
  }
  return cn_squared_loss(logits, c->targets, (int)c->classes, c->scale, gradient, begin, end);
}

static double reference_loss(const loss_case *c, ptrdiff_t row, const double *x, double *gradient) {
  const double *targets = as_doubles(c->targets + row * c->classes, c->classes);
  const double weight = c->weights ? (double)c->weights[c->labels[row]] : 1;
  if (c->kind == LOSS_SOFTMAX)
    return ref_softmax_loss(x, c->labels[row], weight, c->classes, gradient);
  if (c->kind == LOSS_SIGMOID) return ref_sigmoid_loss(x, targets, c->classes, gradient);
  return ref_squared_loss(x, targets, c->classes, gradient);
}

/* A row's loss is a sum of a few terms as large as its logits, or of one per class. */
static double loss_size(const loss_case *c, const double *x, double loss) {
  double largest = 1;
  if (c->kind == LOSS_SQUARED) return loss;
  for (ptrdiff_t i = 0; i < c->classes; i++) largest = fmax(largest, fabs(x[i]));
  return loss + largest * (c->weights ? 3 : 1) * (c->kind == LOSS_SIGMOID ? (double)c->classes : 1);
}

static void check_loss_row(const loss_case *c, ptrdiff_t row, const float *probabilities,
                           const float *gradient, double *loss, double *size) {
  const int mark = live_count;
  const double *x = as_doubles(c->logits + row * c->classes, c->classes);
  double *slope = doubles(c->classes), *p = doubles(c->classes);
  const double weight = c->weights ? (double)c->weights[c->labels[row]] : 1, scale = c->scale;
  const double own = reference_loss(c, row, x, slope);
  double largest = 0;
  *loss += own;
  *size += loss_size(c, x, own);
  if (c->kind == LOSS_SOFTMAX) {
    ref_log_sum(x, c->classes, &largest);
    ref_softmax(x, c->classes, p);
  }
  for (ptrdiff_t i = 0; i < c->classes; i++) {
    const double target =
        c->kind == LOSS_SOFTMAX ? i == c->labels[row] : (double)c->targets[row * c->classes + i];
    double tolerance = 0;
    if (c->kind == LOSS_SIGMOID) p[i] = ref_sigmoid(x[i]);
    if (c->kind == LOSS_SQUARED) p[i] = x[i];
    if (c->kind == LOSS_SOFTMAX) tolerance = softmax_tolerance(p[i], largest - x[i], c->classes);
    if (c->kind == LOSS_SIGMOID) tolerance = sigmoid_tolerance(x[i]);
    if (probabilities)
      expect_number("probability", probabilities[row * c->classes + i], p[i], tolerance);
    expect_number("gradient", gradient[row * c->classes + i], slope[i] * scale,
                  scale * weight * (tolerance + bound_loss * (fabs(p[i]) + target)) + smallest);
  }
  release(mark);
}

static void check_loss(loss_kind kind, ptrdiff_t rows, ptrdiff_t classes) {
  const int mark = live_count;
  const ptrdiff_t count = rows * classes;
  loss_case c;
  double want = 0, size = 0;
  make_loss_case(&c, kind, rows, classes);
  describe("%s loss of %td rows, %td classes%s", loss_names[kind], rows, classes,
           c.weights ? ", weighted" : "");
  float *probabilities = kind == LOSS_SQUARED ? NULL : floats("probabilities", count);
  float *gradient = floats("gradient", count), *pieces = floats("gradient", count);
  float *in_place = copied_floats("logits", c.logits, count);
  const double loss = run_loss(&c, c.logits, probabilities, gradient, 0, (size_t)rows);
  for (ptrdiff_t row = 0; row < rows; row++) {
    check_loss_row(&c, row, probabilities, gradient, &want, &size);
  }
  expect_number("loss", loss, want, bound_loss * size);
  double sum = 0;
  for (ptrdiff_t row = rows - 1; row >= 0; row--) {
    sum += run_loss(&c, c.logits, NULL, pieces, (size_t)row, (size_t)row + 1);
  }
  expect_number("loss, split otherwise", sum, loss, 1e-9 * fabs(loss));
  expect_same_floats("gradient, split otherwise", pieces, gradient, count);
  run_loss(&c, in_place, NULL, in_place, 0, (size_t)rows);
  expect_same_floats("gradient in place of logits", in_place, gradient, count);
  release(mark);
}

static void test_losses(void **state) {
  static const int rows[] = {1, 2, 3, 7, 16, 33};
  begin_test(state, 62);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int kind = 0; kind < LOSS_COUNT; kind++) {
      for (size_t j = 0; j < LENGTH(class_counts); j++) {
        for (size_t k = 0; k < LENGTH(rows); k++) {
          if (!within_budget()) continue;
          check_loss((loss_kind)kind, rows[k], class_counts[j]);
        }
      }
    }
  }
  end_test();
}

/* Large logits do not overflow, and a NaN or an infinity cannot hide: the loss is not finite
   either. */
static void test_losses_extreme(void **state) {
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  begin_test(state, 63);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int kind = 0; kind < LOSS_COUNT; kind++) {
      enum { ROWS = 3, CLASSES = 10 };
      const int mark = live_count;
      loss_case c;
      make_loss_case(&c, (loss_kind)kind, ROWS, CLASSES);
      float *gradient = floats("gradient", ROWS * CLASSES);
      describe("%s loss of logits up to 10000", loss_names[kind]);
      double want = 0;
      for (int j = 0; j < ROWS * CLASSES; j++) c.logits[j] *= 250;
      for (int row = 0; row < ROWS; row++) {
        want += reference_loss(&c, row, as_doubles(c.logits + row * CLASSES, CLASSES), NULL);
      }
      const double loss = run_loss(&c, c.logits, NULL, gradient, 0, ROWS);
      expect_number("loss", loss, want, 1e-5 * fabs(want) + 1e-5);
      for (int j = 0; j < ROWS * CLASSES; j++)
        EXPECT(isfinite(gradient[j]), "gradient is not finite");
      for (size_t k = 0; k < LENGTH(bad); k++) {
        for (int at = 0; at < CLASSES; at++) {
          const float old = c.logits[CLASSES + at];
          if (kind == LOSS_SOFTMAX && bad[k] < 0 && at != c.labels[1]) continue; /* p is 0: fine */
          if (kind == LOSS_SIGMOID && isinf(bad[k])) { /* fine where it agrees with the target */
            c.targets[CLASSES + at] = bad[k] < 0 ? 1 : 0;
          }
          if (c.weights) c.weights[c.labels[1]] = 1;
          c.logits[CLASSES + at] = bad[k];
          describe("%s loss with logit %d = %g, label %d", loss_names[kind], at, (double)bad[k],
                   c.labels[1]);
          const double spoilt_loss = run_loss(&c, c.logits, NULL, gradient, 0, ROWS);
          EXPECT(!isfinite(spoilt_loss), "the loss is %g", spoilt_loss);
          c.logits[CLASSES + at] = old;
        }
      }
      release(mark);
    }
  }
  end_test();
}

typedef struct loss_proof {
  const loss_case *c;
  ptrdiff_t row;
  double *x;
} loss_proof;

static double loss_proof_loss(void *context_pointer) {
  const loss_proof *p = context_pointer;
  const int mark = live_count;
  const double loss = reference_loss(p->c, p->row, p->x, NULL);
  release(mark);
  return loss;
}

static void test_reference_losses(void **state) {
  begin_test(state, 64);
  for (int kind = 0; kind < LOSS_COUNT; kind++) {
    for (int repeat = 0; repeat < 6; repeat++) {
      enum { ROWS = 2, CLASSES = 5 };
      const int mark = live_count;
      loss_case c;
      make_loss_case(&c, (loss_kind)kind, ROWS, CLASSES);
      describe("reference of the %s loss", loss_names[kind]);
      for (ptrdiff_t row = 0; row < ROWS; row++) {
        loss_proof proof = {&c, row, as_doubles(c.logits + row * CLASSES, CLASSES)};
        double *gradient = doubles(CLASSES);
        reference_loss(&c, row, proof.x, gradient);
        prove("gradient", loss_proof_loss, &proof, proof.x, gradient, CLASSES, 1e-3, 1e-8);
      }
      release(mark);
    }
  }
  end_test();
}

/* ---- optimisers ------------------------------------------------------------------------------ */

static const char *const optimizer_names[] = {"adam", "adamw", "sgd", "adagrad"};

static cn_update random_update(cn_optimizer optimizer) {
  cn_update u;
  memset(&u, 0, sizeof u);
  u.optimizer = optimizer;
  u.learning_rate = test_random_int(0, 1) ? 0.01f : 0.1f;
  u.momentum = test_random_int(0, 1) ? 0.9f : 0;
  u.nesterov = test_random_int(0, 1);
  u.beta1 = 0.9f;
  u.beta2 = test_random_int(0, 1) ? 0.999f : 0.95f;
  u.epsilon = test_random_int(0, 1) ? 1e-7f : 1e-3f;
  u.decay = test_random_int(0, 1) ? 0.05f : 0;
  u.l1 = test_random_int(0, 2) ? 0 : 0.002f;
  u.l2 = test_random_int(0, 2) ? 0 : 0.03f;
  return u;
}

/* Steps of a kernel beside steps of the reference. `step` starts late as well: the bias
   correction of Adam must not lose digits when beta^step is close to 0 or to 1. */
static void check_update(cn_update u, ptrdiff_t n, int64_t first_step, int steps) {
  const int mark = live_count;
  float *w = random_floats("w", n), *g = floats("g", n);
  float *first = floats("first", n), *second = floats("second", n);
  double *want = as_doubles(w, n), *size = doubles(n), *zeros = doubles(n);
  double *want_first = doubles(n), *want_second = doubles(n);
  describe(
      "%s of %td weights from step %lld: momentum %g nesterov %d beta2 %g decay %g l1 %g l2 %g",
      optimizer_names[u.optimizer], n, (long long)first_step, (double)u.momentum, u.nesterov,
      (double)u.beta2, (double)u.decay, (double)u.l1, (double)u.l2);
  for (ptrdiff_t i = 0; i < n; i++) {
    first[i] = second[i] = 0;
    want_first[i] = want_second[i] = size[i] = zeros[i] = 0;
    if (i % 11 == 5) want[i] = w[i] = 0;
  }
  for (u.step = first_step; u.step < first_step + steps; u.step++) {
    const double growth = (double)(u.step - first_step + 1);
    for (ptrdiff_t i = 0; i < n; i++) {
      g[i] = (float)(test_random_double() * (i % 7 == 3 ? 1e-4 : 1));
      if (i % 11 == 5) g[i] = 0;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
      size[i] += fabs(want[i]) + ref_update(&u, g[i], &want[i], &want_first[i], &want_second[i]);
    }
    /* two pieces from the back: threads may cut the weights anywhere */
    const ptrdiff_t cut = n > 1 ? test_random_int(1, (int)n - 1) : 0;
    cn_update_weights(&u, w + cut, g + cut, first + cut, second + cut, (size_t)(n - cut));
    cn_update_weights(&u, w, g, first, second, (size_t)cut);
    expect_close("w", w, want, size, n, bound_update);
    for (ptrdiff_t i = 0; i < n; i++) {
      if (u.optimizer != CN_ADAGRAD) {
        expect_number("first", first[i], want_first[i], bound_update * growth * 10);
      }
      if (u.optimizer != CN_SGD) {
        expect_number("second", second[i], want_second[i],
                      bound_update * growth * (4 * want_second[i] + (u.l1 > 0 || u.l2 > 0)) +
                          1e-12);
      }
    }
  }
  if (u.optimizer == CN_SGD) expect_exact("second, which SGD has no use for", second, zeros, n);
  if (u.optimizer == CN_ADAGRAD)
    expect_exact("first, which Adagrad has no use for", first, zeros, n);
  release(mark);
}

/* One update is the same to the last bit however the weights are cut. */
static void check_update_cut(cn_update u) {
  enum { N = 150 };
  const int mark = live_count;
  float *w = random_floats("w", N), *g = random_floats("g", N);
  float *first = random_floats("first", N), *second = random_floats("second", N);
  for (int i = 0; i < N; i++) second[i] = fabsf(second[i]);
  float *w2 = copied_floats("w", w, N), *first2 = copied_floats("first", first, N);
  float *second2 = copied_floats("second", second, N);
  u.step = 3;
  describe("%s, cut", optimizer_names[u.optimizer]);
  cn_update_weights(&u, w, g, first, second, N);
  for (int begin = 0; begin < N;) {
    int n = test_random_int(1, 20);
    if (begin + n > N) n = N - begin;
    cn_update_weights(&u, w2 + begin, g + begin, first2 + begin, second2 + begin, (size_t)n);
    begin += n;
  }
  expect_same_floats("w, cut otherwise", w2, w, N);
  expect_same_floats("first, cut otherwise", first2, first, N);
  expect_same_floats("second, cut otherwise", second2, second, N);
  release(mark);
}

static void test_optimizers(void **state) {
  begin_test(state, 70);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    for (int optimizer = CN_ADAM; optimizer <= CN_ADAGRAD; optimizer++) {
      for (size_t k = 0; k < LENGTH(lengths); k++) {
        check_update(random_update((cn_optimizer)optimizer), lengths[k], 1, 12);
      }
      check_update(random_update((cn_optimizer)optimizer), 37, 1000, 3);
      check_update(random_update((cn_optimizer)optimizer), 37, 10000000000, 3);
      for (int repeat = 0; repeat < 10; repeat++)
        check_update_cut(random_update((cn_optimizer)optimizer));
    }
  }
  end_test();
}

/* ---- random numbers and initialisers --------------------------------------------------------- */

static void test_random_bits(void **state) {
  enum { N = 64000 };
  cn_random a = {5, 0}, b = {5, 0}, other = {6, 0};
  int ones[64] = {0}, equal = 0, both[64] = {0};
  uint64_t previous = 0;
  begin_test(state, 80);
  describe("random bits");
  for (int i = 0; i < N; i++) {
    const uint64_t bits = cn_random_bits(&a);
    EXPECT(bits == cn_random_bits(&b), "the same seed gives another number at %d", i);
    equal += bits == cn_random_bits(&other);
    for (int k = 0; k < 64; k++) {
      ones[k] += (int)(bits >> k & 1);
      both[k] += (int)(bits >> k & previous >> k & 1);
    }
    previous = bits;
  }
  EXPECT(equal == 0, "%d numbers of two seeds are equal", equal);
  for (int k = 0; k < 64; k++) {
    expect_share("a bit that is set", ones[k], N, 0.5);
    expect_share("a bit that is set twice running", both[k], N, 0.25);
  }
  cn_random copy = a; /* the state is all there is */
  EXPECT(cn_random_bits(&copy) == cn_random_bits(&a), "a copy goes another way");
  EXPECT(copy.position == a.position && copy.seed == 5, "the seed changed");
  end_test();
}

static void test_random_values(void **state) {
  enum { N = 100000 };
  cn_random random = {9, 0};
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  int buckets[16] = {0}, below[7] = {0};
  begin_test(state, 81);
  describe("random values");
  for (int i = 0; i < N; i++) {
    const float u = cn_random_uniform(&random);
    EXPECT(u >= 0 && u < 1, "uniform number %.9g", (double)u);
    EXPECT((double)u * 16777216 == floor((double)u * 16777216), "%.12g is no multiple of 2^-24",
           (double)u);
    buckets[u >= 0 && u < 1 ? (int)(u * 16) : 0]++;
  }
  for (int k = 0; k < 16; k++)
    expect_share("uniform numbers in a sixteenth", buckets[k], N, 1.0 / 16);
  for (int i = 0; i < N; i++) {
    const uint32_t n = cn_random_below(&random, 7);
    EXPECT(n < 7, "%u is not below 7", n);
    below[n % 7]++;
    EXPECT(cn_random_below(&random, 1) == 0, "not below 1");
  }
  for (int k = 0; k < 7; k++) expect_share("each number below 7", below[k], N, 1.0 / 7);
  int upper = 0; /* a plain remainder of 32 bits would give the lower half twice as often */
  for (int i = 0; i < N; i++) upper += cn_random_below(&random, 3221225472u) >= 1610612736u;
  expect_share("the upper half of a range that is no power of two", upper, N, 0.5);
  for (int i = 0; i < N; i++) {
    const double x = cn_random_normal(&random);
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    EXPECT(isfinite(x) && fabs(x) < 8, "normal number %g", x);
  }
  expect_number("mean of normal numbers", sum / N, 0, 5.5 / sqrt(N));
  expect_number("their variance", squares / N, 1, 5.5 * sqrt(2.0 / N));
  expect_number("their third moment", cubes / N, 0, 5.5 * sqrt(15.0 / N));
  expect_number("their fourth moment", fourths / N, 3, 5.5 * sqrt(96.0 / N));
  end_test();
}

static void test_random_shuffle(void **state) {
  enum { N = 5, TIMES = 20000 };
  cn_random random = {2, 0};
  int place[N][N] = {{0}};
  begin_test(state, 82);
  describe("shuffle");
  for (int i = 0; i < TIMES; i++) {
    int values[N] = {0, 1, 2, 3, 4}, seen = 0;
    cn_random_shuffle(&random, values, N);
    for (int k = 0; k < N; k++) {
      seen |= 1 << values[k];
      place[k][values[k] >= 0 && values[k] < N ? values[k] : 0]++;
    }
    EXPECT(seen == (1 << N) - 1, "values got lost");
  }
  for (int k = 0; k < N; k++) {
    for (int v = 0; v < N; v++) expect_share("a value at a place", place[k][v], TIMES, 1.0 / N);
  }
  const int mark = live_count;
  int *one = buffer("values", sizeof *one, sizeof *one);
  *one = 7;
  cn_random_shuffle(&random, one, 1);
  cn_random_shuffle(&random, one, 0);
  EXPECT(*one == 7, "a single value changed");
  release(mark);
  end_test();
}

typedef struct moments {
  double mean, deviation, low, high;
} moments;

static moments moments_of(const float *values, ptrdiff_t n) {
  moments m = {0, 0, INFINITY, -INFINITY};
  for (ptrdiff_t i = 0; i < n; i++) {
    m.mean += values[i] / (double)n;
    m.low = fmin(m.low, values[i]);
    m.high = fmax(m.high, values[i]);
  }
  for (ptrdiff_t i = 0; i < n; i++) {
    m.deviation += (values[i] - m.mean) * (values[i] - m.mean) / (double)n;
  }
  m.deviation = sqrt(m.deviation);
  return m;
}

static void test_initialisers(void **state) {
  enum { N = 50000 };
  static const struct {
    cn_init_kind kind;
    float value;
    int fan_in, fan_out;
    double deviation, bound; /* bound 0: normal */
  } rows[] = {
      {CN_INIT_GLOROT, 0, 9, 144, 0.19802950859533489 / 1.7320508075688772, 0.19802950859533489},
      {CN_INIT_GLOROT, 0, 1568, 128, 0.05948040119119017 / 1.7320508075688772, 0.05948040119119017},
      {CN_INIT_HE, 0, 50, 3, 0.2, 0},
      {CN_INIT_HE, 0, 800, 3, 0.05, 0},
      {CN_INIT_GAUSSIAN, 0.01f, 7, 7, 0.01, 0},
  };
  begin_test(state, 83);
  for (size_t i = 0; i < LENGTH(rows); i++) {
    const int mark = live_count;
    cn_random random = {i, 0}, again = {i, 0};
    float *w = floats("w", N), *same = floats("w", N);
    describe("initialiser %d, fans %d and %d", (int)rows[i].kind, rows[i].fan_in, rows[i].fan_out);
    cn_init(rows[i].kind, rows[i].value, rows[i].fan_in, rows[i].fan_out, &random, w, N);
    cn_init(rows[i].kind, rows[i].value, rows[i].fan_in, rows[i].fan_out, &again, same, N);
    expect_same_floats("w with the same seed", same, w, N);
    cn_init(rows[i].kind, rows[i].value, rows[i].fan_in, rows[i].fan_out, &random, same, N);
    EXPECT(memcmp(same, w, N * sizeof *w) != 0, "the next tensor is the same");
    const moments m = moments_of(w, N);
    const double fourth =
        rows[i].bound > 0 ? 0.2 : 0.5; /* variance of a variance: 4/5 or 2 per value */
    expect_number("mean", m.mean, 0, 5.5 * rows[i].deviation / sqrt(N));
    expect_number("deviation", m.deviation, rows[i].deviation,
                  5.5 * rows[i].deviation * sqrt(fourth / N));
    if (rows[i].bound > 0) {
      EXPECT(m.high <= rows[i].bound * 1.000001 && m.low >= -rows[i].bound * 1.000001,
             "values reach from %g to %g, the bound is %g", m.low, m.high, rows[i].bound);
      EXPECT(m.high > 0.999 * rows[i].bound && m.low < -0.999 * rows[i].bound,
             "values only reach from %g to %g, the bound is %g", m.low, m.high, rows[i].bound);
    } else {
      EXPECT(m.high > 3 * rows[i].deviation && m.high < 7 * rows[i].deviation, "largest %g",
             m.high);
    }
    release(mark);
  }
  for (ptrdiff_t n = 0; n < 20; n++) {
    const int mark = live_count;
    cn_random random = {1, 0};
    float *w = floats("w", n), *g = floats("g", n);
    describe("initialisers of %td values", n);
    cn_init(CN_INIT_CONSTANT, 0.75f, 3, 3, &random, w, (size_t)n);
    for (ptrdiff_t i = 0; i < n; i++) EXPECT(w[i] == 0.75f, "constant is %g", (double)w[i]);
    cn_init(CN_INIT_HE, 0, 3, 3, &random, g, (size_t)n);
    for (ptrdiff_t i = 0; i < n; i++) EXPECT(isfinite(g[i]) && g[i] != 0, "value %g", (double)g[i]);
    release(mark);
  }
  end_test();
}

/* ---- schedules and early stopping ------------------------------------------------------------ */

static double rate_at(const cn_training_options *options, int64_t step) {
  return (double)cn_learning_rate(options, step);
}

static void check_warmup(cn_training_options options) {
  options.warmup_steps = 10;
  describe("warm-up of schedule %d", (int)options.schedule);
  const double first = rate_at(&options, 1);
  EXPECT(first > 0 && first <= 0.1 * (double)options.learning_rate * 1.0001, "starts at %g", first);
  for (int64_t step = 2; step < 10; step++) {
    expect_number("step of the rise", rate_at(&options, step) - rate_at(&options, step - 1),
                  (double)options.learning_rate / 10, 0.002 * (double)options.learning_rate);
  }
  expect_number("end of the rise", fmax(rate_at(&options, 10), rate_at(&options, 11)),
                options.learning_rate, 1e-6 * (double)options.learning_rate);
}

static void test_schedules(void **state) {
  cn_training_options options = cn_training_defaults();
  begin_test(state, 90);
  describe("defaults");
  expect_number("learning rate", options.learning_rate, 0.001, 1e-9);
  expect_number("beta1", options.beta1, 0.9, 1e-7);
  expect_number("beta2", options.beta2, 0.999, 1e-7);
  expect_number("epsilon", options.epsilon, 1e-7, 1e-13);
  expect_number("gamma", options.gamma, 0.1, 1e-7);
  EXPECT(options.optimizer == CN_ADAM && options.seed == 1, "optimiser or seed");
  options.learning_rate = 0.5f;
  describe("constant schedule");
  for (int64_t step = 1; step < 100000; step *= 3)
    expect_number("rate", rate_at(&options, step), 0.5, 0);
  check_warmup(options);

  options.schedule = CN_SCHEDULE_STEP;
  options.decay_steps = 100;
  describe("step schedule");
  for (int64_t step = 1; step <= 1000; step++) {
    const double rate = rate_at(&options, step);
    const double here = 0.5 * pow(0.1, (double)((step - 1) / 100));
    expect_number("rate", rate, here, 1e-5 * here);
  }
  check_warmup(options);

  options.schedule = CN_SCHEDULE_COSINE;
  options.decay_steps = 1000;
  describe("cosine schedule");
  expect_number("start", rate_at(&options, 1), 0.5, 1e-4);
  expect_number("a quarter", rate_at(&options, 250), 0.25 * (1 + cos(3.14159265358979 / 4)), 2e-3);
  expect_number("middle", rate_at(&options, 500), 0.25, 2e-3);
  expect_number("end", rate_at(&options, 1001), 0, 1e-6);
  expect_number("beyond", rate_at(&options, 5000), 0, 1e-6);
  for (int64_t step = 2; step <= 1100; step++) {
    const double rate = rate_at(&options, step);
    EXPECT(rate >= 0 && rate <= rate_at(&options, step - 1), "the rate rises at %lld",
           (long long)step);
  }
  check_warmup(options);
  end_test();
}

static void test_early_stopping(void **state) {
  static const double losses[] = {3, 2, 2.5, 2, 1.5, 1.6, 1.7, 1.8};
  static const int answers[] = {1, 1, 0, 0, 1, 0, 0, -1};
  cn_early_stopping stopping = {0};
  begin_test(state, 91);
  describe("early stopping");
  stopping.patience = 3;
  for (int i = 0; i < 8; i++) {
    const int answer = cn_early_stopping_check(&stopping, losses[i]);
    EXPECT(answer == answers[i], "loss %d: %d, expected %d", i + 1, answer, answers[i]);
  }
  EXPECT(stopping.checks == 8 && stopping.best_check == 5, "best is %d of %d", stopping.best_check,
         stopping.checks);
  expect_number("best", stopping.best, 1.5, 0);
  cn_early_stopping lost = {0};
  lost.patience = 2;
  EXPECT(cn_early_stopping_check(&lost, 1) == 1, "the first is the best");
  EXPECT(cn_early_stopping_check(&lost, NAN) == 0, "a NaN is no improvement");
  EXPECT(cn_early_stopping_check(&lost, NAN) == -1, "nor are two");
  EXPECT(lost.best == 1 && lost.best_check == 1, "the best is lost");
  end_test();
}

/* ---- the tests' own test --------------------------------------------------------------------- */

/* The number of complaints about a planted fault, silently. */
static int complaints(void (*plant)(void)) {
  const int before = failures;
  failures = 0;
  quiet = 1;
  plant();
  quiet = 0;
  const int found = failures;
  failures = before;
  return found;
}

static const float planted_good[5] = {1, -2, 0, 3, 4};
static const double planted_want[5] = {1, -2, 0, 3, 4}, planted_size[5] = {1, 2, 1, 3, 4};

static void plant_value(float value, int at) {
  float got[5];
  memcpy(got, planted_good, sizeof got);
  got[at] = value;
  expect_close("planted", got, planted_want, planted_size, 5, 1e-6);
}

static void plant_nothing(void) {
  plant_value(1, 0);
}
static void plant_rounding(void) {
  plant_value(3.000001f, 3);
}
static void plant_small(void) {
  plant_value(3.00001f, 3);
}
static void plant_last(void) {
  plant_value(0, 4);
}
static void plant_nan(void) {
  plant_value(NAN, 2);
}
static void plant_infinity(void) {
  plant_value(INFINITY, 1);
}
static void plant_all_nan(void) {
  const float got[2] = {NAN, NAN};
  expect_values("planted", got, planted_want, planted_size, 2, 1, 1);
}
static void plant_missing_nan(void) {
  const double want[1] = {NAN};
  expect_close("planted", planted_good, want, planted_size, 1, 1e9);
}
static void plant_inexact(void) {
  const float got[2] = {1, -2.0000002f};
  expect_exact("planted", got, planted_want, 2);
}
static void plant_bit(void) {
  const float a[3] = {1, 2, 3}, b[3] = {1, 2, 3.0000002f};
  expect_same_floats("planted", a, b, 3);
}
static void plant_overrun(void) {
  const int mark = live_count;
  float *aligned = aligned_floats("planted", 3);
  volatile unsigned char *end = (unsigned char *)(aligned + 3);
  *end = 0;
  release(mark);
}
static void plant_underrun(void) {
  const int mark = live_count;
  volatile unsigned char *start = bytes("planted", 100);
  start[-1] = 0;
  release(mark);
}

/* A convolution that reads one wrong weight or pixel. */
static void plant_conv(float *spoil_x, float *spoil_w, const conv_case *c, float change) {
  cn_conv2d conv = c->conv;
  float *spoil = spoil_x ? spoil_x : spoil_w;
  const float old = *spoil;
  conv.math = CN_MATH_DIRECT;
  *spoil += change;
  check_conv_forward(c, &conv, NULL);
  *spoil = old;
}

static conv_case planted_conv;
static void plant_no_conv(void) {
  plant_conv(NULL, planted_conv.w + 5, &planted_conv, 0);
}
static void plant_weight(void) {
  plant_conv(NULL, planted_conv.w + 5, &planted_conv, 1e-3f);
}
static void plant_pixel(void) {
  plant_conv(planted_conv.x + 7, NULL, &planted_conv, 1e-3f);
}

static void test_planted_faults(void **state) {
  static const conv_row row = {1, 6, 6, 5, 7, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, Z, 0, 0};
  const int mark = live_count;
  const cn_conv2d conv = conv_of_row(&row);
  begin_test(state, 99);
  assert_int_equal(complaints(plant_nothing), 0);
  assert_int_equal(complaints(plant_rounding), 0);
  assert_int_equal(complaints(plant_small), 1);
  assert_int_equal(complaints(plant_last), 1);
  assert_int_equal(complaints(plant_nan), 1);
  assert_int_equal(complaints(plant_infinity), 1);
  assert_int_equal(complaints(plant_all_nan), 1);
  assert_int_equal(complaints(plant_missing_nan), 1);
  assert_int_equal(complaints(plant_inexact), 1);
  assert_int_equal(complaints(plant_bit), 1);
  if (!EXACT_BLOCKS) {
    assert_int_equal(complaints(plant_overrun), 1);
    assert_int_equal(complaints(plant_underrun), 1);
  }
  make_conv_case(&planted_conv, &conv);
  reference_conv(&planted_conv);
  for (int i = 0; i < isa_count; i++) {
    cn_isa_limit(isas[i]);
    assert_int_equal(complaints(plant_no_conv), 0);
    assert_int_equal(complaints(plant_weight), 1);
    assert_int_equal(complaints(plant_pixel), 1);
  }
  release(mark);
  end_test();
}

static void test_isa_names(void **state) {
  static const char *const names[] = {"scalar", "neon", "wasm128", "avx2", "avx512"};
  begin_test(state, 0);
  EXPECT(isa_count >= 1 && isas[0] == CN_ISA_SCALAR, "no scalar code");
  for (int i = 0; i < isa_count; i++) {
    describe("instruction set %d", i);
    EXPECT(cn_isa_limit(isas[i]) == isas[i], "cannot be chosen again");
    EXPECT(cn_isa_current() == isas[i], "current is %d", (int)cn_isa_current());
    EXPECT(!strcmp(cn_isa_name(), names[isas[i]]), "is called %s", cn_isa_name());
  }
  end_test();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_isa_names),
      cmocka_unit_test(test_reference_conv),
      cmocka_unit_test(test_reference_pool),
      cmocka_unit_test(test_reference_batchnorm),
      cmocka_unit_test(test_reference_losses),
      cmocka_unit_test(test_planted_faults),
      cmocka_unit_test(test_window_positions),
      cmocka_unit_test(test_conv_refusals),
      cmocka_unit_test(test_conv_oddities),
      cmocka_unit_test(test_conv_layers),
      cmocka_unit_test(test_conv_channels),
      cmocka_unit_test(test_conv_groups),
      cmocka_unit_test(test_conv_images),
      cmocka_unit_test(test_conv_tall_images),
      cmocka_unit_test(test_conv_fewer_images),
      cmocka_unit_test(test_conv_grey),
      cmocka_unit_test(test_conv_random),
      cmocka_unit_test(test_conv_ties),
      cmocka_unit_test(test_conv_not_finite),
      cmocka_unit_test(test_conv_nan_fused),
      cmocka_unit_test(test_conv_math),
      cmocka_unit_test(test_dense),
      cmocka_unit_test(test_dense_zeros),
      cmocka_unit_test(test_pool_refusals),
      cmocka_unit_test(test_pool_table),
      cmocka_unit_test(test_pool_adaptive),
      cmocka_unit_test(test_pool_channels),
      cmocka_unit_test(test_pool_random),
      cmocka_unit_test(test_pool_not_finite),
      cmocka_unit_test(test_activations),
      cmocka_unit_test(test_activations_backward),
      cmocka_unit_test(test_add),
      cmocka_unit_test(test_scale),
      cmocka_unit_test(test_copy_channels),
      cmocka_unit_test(test_dropout),
      cmocka_unit_test(test_dropout_nothing),
      cmocka_unit_test(test_dropout_not_finite),
      cmocka_unit_test(test_batchnorm),
      cmocka_unit_test(test_batchnorm_nan),
      cmocka_unit_test(test_softmax),
      cmocka_unit_test(test_softmax_not_finite),
      cmocka_unit_test(test_losses),
      cmocka_unit_test(test_losses_extreme),
      cmocka_unit_test(test_optimizers),
      cmocka_unit_test(test_random_bits),
      cmocka_unit_test(test_random_values),
      cmocka_unit_test(test_random_shuffle),
      cmocka_unit_test(test_initialisers),
      cmocka_unit_test(test_schedules),
      cmocka_unit_test(test_early_stopping),
  };
  find_isas();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
