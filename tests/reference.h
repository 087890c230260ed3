/* reference.h - what the kernels should compute, in double precision and written from the
   definitions in convnet.h's manual: plain loops, one image and one value at a time, no trick
   that a kernel might share.

   Where rounding matters a function also gives `size`, the sum of |terms| behind each value: an
   error is judged against it, because a float sum of terms that cancel cannot be accurate
   relative to its result. NULL is allowed for any `size`. The backward functions are themselves
   proven by ref_slope, the numeric derivative of the forward ones. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- numeric derivative ---------------------------------------------------------------------- */

typedef double (*ref_function)(void *context);

/* Derivative of f with respect to *value by four points, exact for polynomials up to the fourth
   degree. */
static inline double ref_slope(ref_function f, void *context, double *value, double step) {
  const double middle = *value;
  *value = middle + step;
  const double right = f(context);
  *value = middle - step;
  const double left = f(context);
  *value = middle + 2 * step;
  const double far_right = f(context);
  *value = middle - 2 * step;
  const double far_left = f(context);
  *value = middle;
  return (8 * (right - left) - (far_right - far_left)) / (12 * step);
}

/* ---- windows --------------------------------------------------------------------------------- */

static inline ptrdiff_t ref_or_one(int value) {
  return value ? value : 1;
}

static inline ptrdiff_t ref_span(ptrdiff_t window, ptrdiff_t dilation) {
  return dilation * (window - 1) + 1;
}

/* Counts the positions one by one. Rounded up, the last window may run over the end of the
   padding, but none may start where that padding does or behind. */
static inline ptrdiff_t ref_positions(ptrdiff_t size, ptrdiff_t window, ptrdiff_t stride,
                                      ptrdiff_t dilation, ptrdiff_t before, ptrdiff_t after,
                                      int round_up) {
  const ptrdiff_t span = ref_span(window, dilation), whole = size + before + after;
  ptrdiff_t positions = 0;
  while (positions * stride + span <= whole) positions++;
  const int covered = positions > 0 && (positions - 1) * stride + span >= whole;
  if (round_up && positions > 0 && !covered) positions++;
  while (round_up && positions > 0 && (positions - 1) * stride >= size + before) positions--;
  return positions;
}

/* Where position i of a line of `size` values is read from; -1 stands for a zero. */
static inline ptrdiff_t ref_source(ptrdiff_t i, ptrdiff_t size, cn_padding padding) {
  if (i >= 0 && i < size) return i;
  if (padding == CN_PADDING_REPLICATE) return i < 0 ? 0 : size - 1;
  if (padding == CN_PADDING_WRAP) return ((i % size) + size) % size;
  return -1;
}

/* ---- convolution ----------------------------------------------------------------------------- */

/* A cn_conv2d with its defaults filled in and its sizes worked out. */
typedef struct ref_conv {
  ptrdiff_t count, height, width, channels, filters, groups;
  ptrdiff_t rows, columns; /* of the window */
  ptrdiff_t stride_y, stride_x, dilation_y, dilation_x, top, left;
  cn_padding padding;
  int relu, pool;
  ptrdiff_t z_height, z_width, y_height, y_width; /* before and after pooling */
  ptrdiff_t group_channels, group_filters;
  ptrdiff_t x_count, z_count, y_count, w_count; /* values */
} ref_conv;

static inline ref_conv ref_conv_of(const cn_conv2d *conv) {
  const cn_window *w = &conv->window;
  ref_conv r;
  r.count = conv->in.count;
  r.height = conv->in.height;
  r.width = conv->in.width;
  r.channels = conv->in.channels;
  r.filters = conv->filters;
  r.groups = ref_or_one(conv->groups);
  r.rows = w->height;
  r.columns = w->width;
  r.stride_y = ref_or_one(w->stride_y);
  r.stride_x = ref_or_one(w->stride_x);
  r.dilation_y = ref_or_one(w->dilation_y);
  r.dilation_x = ref_or_one(w->dilation_x);
  r.top = w->pad_top;
  r.left = w->pad_left;
  r.padding = w->padding;
  r.relu = conv->relu;
  r.pool = conv->pool;
  r.z_height =
      ref_positions(r.height, r.rows, r.stride_y, r.dilation_y, w->pad_top, w->pad_bottom, 0);
  r.z_width =
      ref_positions(r.width, r.columns, r.stride_x, r.dilation_x, w->pad_left, w->pad_right, 0);
  r.y_height = r.pool ? r.z_height / 2 : r.z_height;
  r.y_width = r.pool ? r.z_width / 2 : r.z_width;
  r.group_channels = r.channels / r.groups;
  r.group_filters = r.filters / r.groups;
  r.x_count = r.count * r.height * r.width * r.channels;
  r.z_count = r.count * r.z_height * r.z_width * r.filters;
  r.y_count = r.count * r.y_height * r.y_width * r.filters;
  r.w_count = r.rows * r.columns * r.group_channels * r.filters;
  return r;
}

/* The pixel of image n (counted through the batch) that window tap (ky, kx) of output (oy, ox)
   reads, -1 where it reads a zero. */
static inline ptrdiff_t ref_conv_pixel(const ref_conv *r, ptrdiff_t n, ptrdiff_t oy, ptrdiff_t ox,
                                       ptrdiff_t ky, ptrdiff_t kx) {
  const ptrdiff_t y = oy * r->stride_y + ky * r->dilation_y - r->top;
  const ptrdiff_t x = ox * r->stride_x + kx * r->dilation_x - r->left;
  const ptrdiff_t row = ref_source(y, r->height, r->padding);
  const ptrdiff_t column = ref_source(x, r->width, r->padding);
  if (row < 0 || column < 0) return -1;
  return (n * r->height + row) * r->width + column;
}

/* z = conv(x, w) + bias, before ReLU and pooling. */
static inline void ref_conv_forward(const ref_conv *r, const double *x, const double *w,
                                    const double *bias, double *z, double *size) {
  for (ptrdiff_t i = 0; i < r->z_count; i++) {
    z[i] = bias ? bias[i % r->filters] : 0;
    size[i] = fabs(z[i]);
  }
  for (ptrdiff_t i = 0; i < r->count * r->z_height * r->z_width; i++) {
    const ptrdiff_t ox = i % r->z_width, oy = i / r->z_width % r->z_height;
    const ptrdiff_t n = i / r->z_width / r->z_height;
    for (ptrdiff_t tap = 0; tap < r->rows * r->columns; tap++) {
      const ptrdiff_t pixel = ref_conv_pixel(r, n, oy, ox, tap / r->columns, tap % r->columns);
      if (pixel < 0) continue;
      for (ptrdiff_t c = 0; c < r->channels; c++) {
        const ptrdiff_t group = c / r->group_channels, first = group * r->group_filters;
        const double value = x[pixel * r->channels + c];
        const double *weights = w + (tap * r->group_channels + c % r->group_channels) * r->filters;
        for (ptrdiff_t f = first; f < first + r->group_filters; f++) {
          z[i * r->filters + f] += value * weights[f];
          size[i * r->filters + f] += fabs(value * weights[f]);
        }
      }
    }
  }
}

/* y = pooled ReLU of z, whichever of the two is asked for; argmax only if pooled. A NaN counts
   as smaller than everything in both. y_size is the largest size among the values that y was
   chosen from. */
static inline void ref_conv_finish(const ref_conv *r, const double *z, const double *z_size,
                                   double *y, double *y_size, uint8_t *argmax) {
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ptrdiff_t f = i % r->filters, ox = i / r->filters % r->y_width;
    const ptrdiff_t oy = i / r->filters / r->y_width % r->y_height;
    const ptrdiff_t n = i / r->filters / r->y_width / r->y_height;
    double best = NAN, size = 0;
    int where = 0;
    for (int k = 0; k < (r->pool ? 4 : 1); k++) {
      const ptrdiff_t row = r->pool ? 2 * oy + k / 2 : oy, column = r->pool ? 2 * ox + k % 2 : ox;
      const ptrdiff_t at = ((n * r->z_height + row) * r->z_width + column) * r->filters + f;
      double value = z[at];
      if (r->relu && !(value > 0)) value = 0;
      if (z_size[at] > size) size = z_size[at];
      if (k == 0 || value > best || (isnan(best) && !isnan(value))) {
        best = value;
        where = k;
      }
    }
    y[i] = best;
    y_size[i] = size;
    if (argmax) argmax[i] = (uint8_t)where;
  }
}

/* dz from dy: pooling sends each value back to where its maximum was, everything else gets 0. */
static inline void ref_conv_unpool(const ref_conv *r, const double *dy, const uint8_t *argmax,
                                   double *dz) {
  if (!r->pool) {
    memcpy(dz, dy, (size_t)r->z_count * sizeof *dz);
    return;
  }
  for (ptrdiff_t i = 0; i < r->z_count; i++) dz[i] = 0;
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ptrdiff_t f = i % r->filters, ox = i / r->filters % r->y_width;
    const ptrdiff_t oy = i / r->filters / r->y_width % r->y_height;
    const ptrdiff_t n = i / r->filters / r->y_width / r->y_height;
    const ptrdiff_t row = 2 * oy + argmax[i] / 2, column = 2 * ox + argmax[i] % 2;
    dz[((n * r->z_height + row) * r->z_width + column) * r->filters + f] = dy[i];
  }
}

static inline void ref_conv_backward_input(const ref_conv *r, const double *dz, const double *w,
                                           double *dx, double *size) {
  for (ptrdiff_t i = 0; i < r->x_count; i++) dx[i] = size[i] = 0;
  for (ptrdiff_t i = 0; i < r->count * r->z_height * r->z_width; i++) {
    const ptrdiff_t ox = i % r->z_width, oy = i / r->z_width % r->z_height;
    const ptrdiff_t n = i / r->z_width / r->z_height;
    for (ptrdiff_t tap = 0; tap < r->rows * r->columns; tap++) {
      const ptrdiff_t pixel = ref_conv_pixel(r, n, oy, ox, tap / r->columns, tap % r->columns);
      if (pixel < 0) continue;
      for (ptrdiff_t c = 0; c < r->channels; c++) {
        const ptrdiff_t group = c / r->group_channels, first = group * r->group_filters;
        const double *weights = w + (tap * r->group_channels + c % r->group_channels) * r->filters;
        for (ptrdiff_t f = first; f < first + r->group_filters; f++) {
          dx[pixel * r->channels + c] += dz[i * r->filters + f] * weights[f];
          size[pixel * r->channels + c] += fabs(dz[i * r->filters + f] * weights[f]);
        }
      }
    }
  }
}

static inline void ref_conv_backward_weights(const ref_conv *r, const double *x, const double *dz,
                                             double *dw, double *dw_size, double *db,
                                             double *db_size) {
  for (ptrdiff_t i = 0; i < r->w_count; i++) dw[i] = dw_size[i] = 0;
  for (ptrdiff_t f = 0; f < r->filters; f++) db[f] = db_size[f] = 0;
  for (ptrdiff_t i = 0; i < r->z_count; i++) {
    db[i % r->filters] += dz[i];
    db_size[i % r->filters] += fabs(dz[i]);
  }
  for (ptrdiff_t i = 0; i < r->count * r->z_height * r->z_width; i++) {
    const ptrdiff_t ox = i % r->z_width, oy = i / r->z_width % r->z_height;
    const ptrdiff_t n = i / r->z_width / r->z_height;
    for (ptrdiff_t tap = 0; tap < r->rows * r->columns; tap++) {
      const ptrdiff_t pixel = ref_conv_pixel(r, n, oy, ox, tap / r->columns, tap % r->columns);
      if (pixel < 0) continue;
      for (ptrdiff_t c = 0; c < r->channels; c++) {
        const ptrdiff_t group = c / r->group_channels, first = group * r->group_filters;
        const ptrdiff_t row = (tap * r->group_channels + c % r->group_channels) * r->filters;
        const double value = x[pixel * r->channels + c];
        for (ptrdiff_t f = first; f < first + r->group_filters; f++) {
          dw[row + f] += value * dz[i * r->filters + f];
          dw_size[row + f] += fabs(value * dz[i * r->filters + f]);
        }
      }
    }
  }
}

/* ---- pooling --------------------------------------------------------------------------------- */

typedef struct ref_pool {
  ptrdiff_t count, height, width, channels, y_height, y_width;
  ptrdiff_t rows, columns, stride_y, stride_x, dilation_y, dilation_x, top, left, bottom, right;
  cn_pool_kind kind;
  double mix;
  int count_padding, adaptive;
  ptrdiff_t x_count, y_count;
} ref_pool;

static inline ref_pool ref_pool_of(const cn_pool2d *pool) {
  const cn_window *w = &pool->window;
  ref_pool r;
  r.count = pool->in.count;
  r.height = pool->in.height;
  r.width = pool->in.width;
  r.channels = pool->in.channels;
  r.rows = w->height;
  r.columns = w->width;
  r.stride_y = ref_or_one(w->stride_y);
  r.stride_x = ref_or_one(w->stride_x);
  r.dilation_y = ref_or_one(w->dilation_y);
  r.dilation_x = ref_or_one(w->dilation_x);
  r.top = w->pad_top;
  r.left = w->pad_left;
  r.bottom = w->pad_bottom;
  r.right = w->pad_right;
  r.kind = pool->kind;
  r.mix = pool->mix;
  r.count_padding = pool->count_padding;
  r.y_height =
      ref_positions(r.height, r.rows, r.stride_y, r.dilation_y, r.top, r.bottom, w->ceil != 0);
  r.y_width =
      ref_positions(r.width, r.columns, r.stride_x, r.dilation_x, r.left, r.right, w->ceil != 0);
  r.adaptive = pool->kind == CN_POOL_ADAPTIVE_MEAN;
  if (r.adaptive) { /* a mean that looks at the whole image and takes what ref_pool_covers */
    r.kind = CN_POOL_MEAN;
    r.y_height = w->height, r.y_width = w->width;
    r.rows = r.height, r.columns = r.width;
    r.stride_y = r.stride_x = r.top = r.left = r.bottom = r.right = r.count_padding = 0;
    r.dilation_y = r.dilation_x = 1;
  }
  r.x_count = r.count * r.height * r.width * r.channels;
  r.y_count = r.count * r.y_height * r.y_width * r.channels;
  return r;
}

/* An adaptive window takes the pixels that overlap its share of the side: [at, at + 1) against
   [i * size / n, (i + 1) * size / n). */
static inline int ref_pool_covers(ptrdiff_t i, ptrdiff_t n, ptrdiff_t at, ptrdiff_t size) {
  return at * n < (i + 1) * size && (at + 1) * n > i * size;
}

/* One window: which values it holds, and what the mean divides by. */
typedef struct ref_pool_window {
  ptrdiff_t largest,
      smallest; /* indices into x, the first of equals; -1 if the window holds nothing */
  ptrdiff_t inside, divisor;
  double sum, size;
} ref_pool_window;

/* The tap's place in x, or -1 outside the image; *counted says whether the mean's divisor counts
   it. */
static inline ptrdiff_t ref_pool_tap(const ref_pool *r, ptrdiff_t i, ptrdiff_t tap, int *counted) {
  const ptrdiff_t c = i % r->channels, ox = i / r->channels % r->y_width;
  const ptrdiff_t oy = i / r->channels / r->y_width % r->y_height;
  const ptrdiff_t n = i / r->channels / r->y_width / r->y_height;
  const ptrdiff_t y = oy * r->stride_y + tap / r->columns * r->dilation_y - r->top;
  const ptrdiff_t x = ox * r->stride_x + tap % r->columns * r->dilation_x - r->left;
  const int inside = y >= 0 && y < r->height && x >= 0 && x < r->width &&
                     (!r->adaptive || (ref_pool_covers(oy, r->y_height, y, r->height) &&
                                       ref_pool_covers(ox, r->y_width, x, r->width)));
  *counted = inside || (r->count_padding && y < r->height + r->bottom && x < r->width + r->right);
  return inside ? ((n * r->height + y) * r->width + x) * r->channels + c : -1;
}

static inline ref_pool_window ref_pool_look(const ref_pool *r, const double *x, ptrdiff_t i) {
  ref_pool_window w = {-1, -1, 0, 0, 0, 0};
  for (ptrdiff_t tap = 0; tap < r->rows * r->columns; tap++) {
    int counted;
    const ptrdiff_t at = ref_pool_tap(r, i, tap, &counted);
    w.divisor += counted;
    if (at < 0) continue;
    w.inside++;
    w.sum += x[at];
    w.size += fabs(x[at]);
    if (w.largest < 0 || x[at] > x[w.largest] || (isnan(x[w.largest]) && !isnan(x[at]))) {
      w.largest = at;
    }
    if (w.smallest < 0 || x[at] < x[w.smallest]) w.smallest = at;
  }
  return w;
}

static inline void ref_pool_forward(const ref_pool *r, const double *x, double *y, double *size) {
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ref_pool_window w = ref_pool_look(r, x, i);
    const double mean = w.sum / (double)w.divisor, mean_size = w.size / (double)w.divisor;
    const double largest = x[w.largest];
    if (r->kind == CN_POOL_MAX) y[i] = largest;
    if (r->kind == CN_POOL_MIN) y[i] = x[w.smallest];
    if (r->kind == CN_POOL_MEAN) y[i] = mean;
    if (r->kind == CN_POOL_MIX) y[i] = r->mix * largest + (1 - r->mix) * mean;
    if (!size) continue;
    size[i] = mean_size;
    if (r->kind == CN_POOL_MIX) size[i] = r->mix * fabs(largest) + (1 - r->mix) * mean_size;
  }
}

static inline void ref_pool_add(double *dx, double *size, ptrdiff_t at, double value) {
  dx[at] += value;
  if (size) size[at] += fabs(value);
}

static inline void ref_pool_backward(const ref_pool *r, const double *x, const double *dy,
                                     double *dx, double *size) {
  for (ptrdiff_t i = 0; i < r->x_count; i++) {
    dx[i] = 0;
    if (size) size[i] = 0;
  }
  for (ptrdiff_t i = 0; i < r->y_count; i++) {
    const ref_pool_window w = ref_pool_look(r, x, i);
    double to_largest = 0, to_each = 0;
    if (r->kind == CN_POOL_MAX) to_largest = dy[i];
    if (r->kind == CN_POOL_MIN) ref_pool_add(dx, size, w.smallest, dy[i]);
    if (r->kind == CN_POOL_MEAN) to_each = dy[i] / (double)w.divisor;
    if (r->kind == CN_POOL_MIX) {
      to_largest = r->mix * dy[i];
      to_each = (1 - r->mix) * dy[i] / (double)w.divisor;
    }
    if (r->kind == CN_POOL_MAX || r->kind == CN_POOL_MIX) {
      ref_pool_add(dx, size, w.largest, to_largest);
    }
    if (r->kind == CN_POOL_MAX || r->kind == CN_POOL_MIN) continue;
    for (ptrdiff_t tap = 0; tap < r->rows * r->columns; tap++) {
      int counted;
      const ptrdiff_t at = ref_pool_tap(r, i, tap, &counted);
      if (at >= 0) ref_pool_add(dx, size, at, to_each);
    }
  }
}

/* ---- activations ----------------------------------------------------------------------------- */

static inline double ref_sigmoid(double x) {
  return 1 / (1 + exp(-x));
}
static inline double ref_tanh(double x) {
  return tanh(x);
}

/* log(1 + exp(x)) without overflow. */
static inline double ref_softplus(double x) {
  return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* ---- batch normalisation --------------------------------------------------------------------- */

/* Mean and biased variance per channel; square_mean is the mean of x^2. */
static inline void ref_batchnorm_statistics(const double *x, ptrdiff_t rows, ptrdiff_t channels,
                                            double *mean, double *variance, double *square_mean) {
  for (ptrdiff_t c = 0; c < channels; c++) {
    double sum = 0, squares = 0, deviations = 0;
    for (ptrdiff_t i = 0; i < rows; i++) sum += x[i * channels + c];
    mean[c] = sum / (double)rows;
    for (ptrdiff_t i = 0; i < rows; i++) {
      const double value = x[i * channels + c], deviation = value - mean[c];
      squares += value * value;
      deviations += deviation * deviation;
    }
    variance[c] = deviations / (double)rows;
    if (square_mean) square_mean[c] = squares / (double)rows;
  }
}

static inline void ref_batchnorm_forward(const double *x, ptrdiff_t rows, ptrdiff_t channels,
                                         const double *mean, const double *inverse_deviation,
                                         const double *scale, const double *shift, int relu,
                                         double *y, double *size) {
  for (ptrdiff_t i = 0; i < rows * channels; i++) {
    const ptrdiff_t c = i % channels;
    const double factor = inverse_deviation[c] * scale[c];
    y[i] = (x[i] - mean[c]) * factor + shift[c];
    if (relu && !(y[i] > 0)) y[i] = 0;
    if (size) size[i] = (fabs(x[i]) + fabs(mean[c])) * fabs(factor) + fabs(shift[c]);
  }
}

/* dshift = sum of dy, dscale = sum of dy * normalised x. */
static inline void ref_batchnorm_backward_sums(const double *x, const double *dy, ptrdiff_t rows,
                                               ptrdiff_t channels, const double *mean,
                                               const double *inverse_deviation, double *dscale,
                                               double *dscale_size, double *dshift,
                                               double *dshift_size) {
  for (ptrdiff_t c = 0; c < channels; c++) {
    dscale[c] = dshift[c] = dscale_size[c] = dshift_size[c] = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
      const double g = dy[i * channels + c], value = x[i * channels + c];
      dscale[c] += g * (value - mean[c]) * inverse_deviation[c];
      dscale_size[c] += fabs(g) * (fabs(value) + fabs(mean[c])) * inverse_deviation[c];
      dshift[c] += g;
      dshift_size[c] += fabs(g);
    }
  }
}

/* The mean and the deviation depend on every row, which is where the two subtracted means come
   from. */
static inline void ref_batchnorm_backward(const double *x, const double *dy, ptrdiff_t rows,
                                          ptrdiff_t channels, const double *mean,
                                          const double *inverse_deviation, const double *scale,
                                          const double *dscale, const double *dshift, int frozen,
                                          double *dx, double *size) {
  for (ptrdiff_t i = 0; i < rows * channels; i++) {
    const ptrdiff_t c = i % channels;
    const double factor = scale[c] * inverse_deviation[c];
    const double normalised = (x[i] - mean[c]) * inverse_deviation[c];
    const double normalised_size = (fabs(x[i]) + fabs(mean[c])) * inverse_deviation[c];
    const double sums = frozen ? 0 : (dshift[c] + normalised * dscale[c]) / (double)rows;
    const double sums_size =
        frozen ? 0 : (fabs(dshift[c]) + normalised_size * fabs(dscale[c])) / (double)rows;
    dx[i] = factor * (dy[i] - sums);
    if (size) size[i] = fabs(factor) * (fabs(dy[i]) + sums_size);
  }
}

/* ---- softmax and losses ---------------------------------------------------------------------- */

static inline double ref_log_sum(const double *x, ptrdiff_t classes, double *largest) {
  double sum = 0;
  *largest = x[0];
  for (ptrdiff_t c = 1; c < classes; c++) *largest = x[c] > *largest ? x[c] : *largest;
  for (ptrdiff_t c = 0; c < classes; c++) sum += exp(x[c] - *largest);
  return log(sum);
}

static inline void ref_softmax(const double *x, ptrdiff_t classes, double *p) {
  double largest;
  const double log_sum = ref_log_sum(x, classes, &largest);
  for (ptrdiff_t c = 0; c < classes; c++) p[c] = exp(x[c] - largest - log_sum);
}

/* Loss of one row; the gradient is (p - one at the label) * weight. */
static inline double ref_softmax_loss(const double *x, ptrdiff_t label, double weight,
                                      ptrdiff_t classes, double *gradient) {
  double largest;
  const double log_sum = ref_log_sum(x, classes, &largest);
  for (ptrdiff_t c = 0; gradient && c < classes; c++) {
    gradient[c] = (exp(x[c] - largest - log_sum) - (c == label)) * weight;
  }
  return (log_sum + largest - x[label]) * weight;
}

/* -t log s - (1 - t) log(1 - s), which is log(1 + e^x) - t x. */
static inline double ref_sigmoid_loss(const double *x, const double *targets, ptrdiff_t classes,
                                      double *gradient) {
  double loss = 0;
  for (ptrdiff_t c = 0; c < classes; c++) {
    loss += targets[c] * ref_softplus(-x[c]) + (1 - targets[c]) * ref_softplus(x[c]);
    if (gradient) gradient[c] = ref_sigmoid(x[c]) - targets[c];
  }
  return loss;
}

static inline double ref_squared_loss(const double *y, const double *targets, ptrdiff_t classes,
                                      double *gradient) {
  double loss = 0;
  for (ptrdiff_t c = 0; c < classes; c++) {
    const double difference = y[c] - targets[c];
    loss += difference * difference / 2;
    if (gradient) gradient[c] = difference;
  }
  return loss;
}

/* ---- optimisers ------------------------------------------------------------------------------ */

/* One step of one weight. Returns the sum of |terms| of the change, the scale of its rounding. */
static inline double ref_update(const cn_update *u, double gradient, double *w, double *first,
                                double *second) {
  const double rate = u->learning_rate, decay = u->decay;
  const double sign = *w > 0 ? 1 : *w < 0 ? -1 : 0;
  const double g = gradient + (double)u->l1 * sign + (double)u->l2 * *w;
  const double g_size = fabs(gradient) + fabs((double)u->l1 * sign) + fabs((double)u->l2 * *w);
  if (u->optimizer == CN_SGD) {
    const double momentum = u->momentum, before = fabs(*first);
    *first = momentum * *first + g;
    *w -= rate * (u->nesterov ? g + momentum * *first : *first);
    return rate * (momentum * before + g_size) * 2;
  }
  if (u->optimizer == CN_ADAGRAD) {
    *second += g * g;
    *w -= rate * g / (sqrt(*second) + (double)u->epsilon);
    return rate * g_size / (sqrt(*second) + (double)u->epsilon);
  }
  const double beta1 = u->beta1, beta2 = u->beta2, steps = (double)u->step;
  const double shrink = u->optimizer == CN_ADAMW ? rate * decay * *w : 0;
  const double first_size = beta1 * fabs(*first) + (1 - beta1) * g_size;
  *w -= shrink;
  *first = beta1 * *first + (1 - beta1) * g;
  *second = beta2 * *second + (1 - beta2) * g * g;
  const double corrected = *first / (1 - pow(beta1, steps));
  const double root = sqrt(*second / (1 - pow(beta2, steps))) + (double)u->epsilon;
  *w -= rate * corrected / root;
  return fabs(shrink) + rate * first_size / (1 - pow(beta1, steps)) / root;
}

#endif
