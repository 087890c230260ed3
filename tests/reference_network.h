/* A slow interpreter of networks in double precision, written apart from the library: the truth
   that test_networks.c holds outputs, losses and, through finite differences, gradients against. */
#ifndef REFERENCE_NETWORK_H
#define REFERENCE_NETWORK_H

#include "support.h"

typedef struct reference {
  const cn_network *net;
  int count;           /* images */
  int training;        /* batch norm takes the batch's own figures, unless frozen */
  double **maps;       /* [nodes]: [count][rows][columns][channels] */
  double **parameters; /* [tensors]: copies that a test may change */
} reference;

static size_t reference_values(const cn_shape *shape) {
  return (size_t)shape->height * (size_t)shape->width * (size_t)shape->channels;
}

static double *reference_alloc(size_t count) {
  double *values = (double *)calloc(count + 1, sizeof *values);
  assert_non_null(values);
  return values;
}

static reference reference_create(const cn_network *net, int count) {
  int nodes = cn_network_node_count(net), tensors = cn_network_parameter_count(net);
  reference r = {net, count, 0, NULL, NULL};
  r.maps = (double **)calloc((size_t)nodes + 1, sizeof(double *));
  r.parameters = (double **)calloc((size_t)tensors + 1, sizeof(double *));
  assert_true(r.maps && r.parameters);
  for (int i = 0; i < nodes; i++)
    r.maps[i] = reference_alloc((size_t)count * reference_values(&cn_network_node(net, i)->shape));
  for (int i = 0; i < tensors; i++) {
    cn_parameter p = cn_network_parameter(net, i);
    r.parameters[i] = reference_alloc(p.count);
    for (size_t k = 0; k < p.count; k++) r.parameters[i][k] = (double)p.values[k];
  }
  return r;
}

static void reference_free(reference *r) {
  for (int i = 0; i < cn_network_node_count(r->net); i++) free(r->maps[i]);
  for (int i = 0; i < cn_network_parameter_count(r->net); i++) free(r->parameters[i]);
  free(r->maps);
  free(r->parameters);
}

/* The node's tensor whose name ends in .suffix, or NULL. */
static const double *reference_parameter(const reference *r, int node, const char *suffix,
                                         int *trained) {
  for (int i = 0; i < cn_network_parameter_count(r->net); i++) {
    cn_parameter p = cn_network_parameter(r->net, i);
    const char *dot = strrchr(p.name, '.');
    if (p.node != node || !dot || strcmp(dot + 1, suffix) != 0) continue;
    if (trained) *trained = p.trained;
    return r->parameters[i];
  }
  return NULL;
}

static int reference_or(int value, int otherwise) {
  return value ? value : otherwise;
}

/* Where tap `tap` of output position `out` looks, or -1 for a zero outside the image. */
static int reference_tap(int out, int tap, int stride, int dilation, int before, int size,
                         cn_padding padding) {
  int at = out * stride - before + tap * dilation;
  if (at >= 0 && at < size) return at;
  if (padding == CN_PADDING_REPLICATE) return at < 0 ? 0 : size - 1;
  if (padding == CN_PADDING_WRAP) return ((at % size) + size) % size;
  return -1;
}

static void reference_conv(const reference *r, int index, const cn_node *node, const cn_shape *in,
                           const double *x, double *y) {
  const double *weights = reference_parameter(r, index, "weight", NULL);
  const double *bias = reference_parameter(r, index, "bias", NULL);
  const cn_window *w = &node->window;
  int groups = reference_or(node->groups, 1), depth = in->channels / groups,
      width = node->filters / groups;
  assert_int_equal(node->bias != 0, bias != NULL);
  for (int oy = 0; oy < node->shape.height; oy++)
    for (int ox = 0; ox < node->shape.width; ox++)
      for (int f = 0; f < node->filters; f++) {
        double sum = bias ? bias[f] : 0;
        for (int ky = 0; ky < w->height; ky++)
          for (int kx = 0; kx < w->width; kx++) {
            int iy =
                reference_tap(oy, ky, reference_or(w->stride_y, 1), reference_or(w->dilation_y, 1),
                              w->pad_top, in->height, w->padding);
            int ix =
                reference_tap(ox, kx, reference_or(w->stride_x, 1), reference_or(w->dilation_x, 1),
                              w->pad_left, in->width, w->padding);
            if (iy < 0 || ix < 0) continue;
            for (int c = 0; c < depth; c++)
              sum += x[(iy * in->width + ix) * in->channels + f / width * depth + c] *
                     weights[((ky * w->width + kx) * depth + c) * node->filters + f];
          }
        y[(oy * node->shape.width + ox) * node->filters + f] = sum;
      }
}

static void reference_dense(const reference *r, int index, const cn_node *node, const cn_shape *in,
                            const double *x, double *y) {
  const double *weights = reference_parameter(r, index, "weight", NULL);
  const double *bias = reference_parameter(r, index, "bias", NULL);
  size_t inputs = reference_values(in);
  for (int f = 0; f < node->filters; f++) {
    y[f] = bias ? bias[f] : 0;
    for (size_t i = 0; i < inputs; i++)
      y[f] += x[i] * weights[i * (size_t)node->filters + (size_t)f];
  }
}

static void reference_pool(const cn_node *node, const cn_shape *in, const double *x, double *y) {
  const cn_window *w = &node->window;
  for (int oy = 0; oy < node->shape.height; oy++)
    for (int ox = 0; ox < node->shape.width; ox++)
      for (int c = 0; c < in->channels; c++) {
        double largest = -INFINITY, smallest = INFINITY, sum = 0;
        int inside = 0, covered = 0;
        for (int ky = 0; ky < w->height; ky++)
          for (int kx = 0; kx < w->width; kx++) {
            int iy = oy * reference_or(w->stride_y, w->height) - w->pad_top + ky;
            int ix = ox * reference_or(w->stride_x, w->width) - w->pad_left + kx;
            covered += iy < in->height + w->pad_bottom && ix < in->width + w->pad_right;
            if (iy < 0 || ix < 0 || iy >= in->height || ix >= in->width) continue;
            double value = x[(iy * in->width + ix) * in->channels + c];
            largest = value > largest ? value : largest;
            smallest = value < smallest ? value : smallest;
            sum += value;
            inside++;
          }
        double mean = sum / (node->count_padding ? covered : inside);
        double result = node->op == CN_OP_MAXPOOL   ? largest
                        : node->op == CN_OP_MINPOOL ? smallest
                        : node->op == CN_OP_MEANPOOL
                            ? mean
                            : (double)node->mix * largest + (1 - (double)node->mix) * mean;
        y[(oy * node->shape.width + ox) * in->channels + c] = result;
      }
}

static void reference_batchnorm(const reference *r, int index, const cn_node *node, const double *x,
                                double *y) {
  int trained = 0, channels = node->shape.channels;
  const double *scale = reference_parameter(r, index, "weight", &trained);
  const double *shift = reference_parameter(r, index, "bias", NULL);
  const double *running_mean = reference_parameter(r, index, "running_mean", NULL);
  const double *running_variance = reference_parameter(r, index, "running_var", NULL);
  size_t rows = (size_t)r->count * reference_values(&node->shape) / (size_t)channels;
  for (int c = 0; c < channels; c++) {
    double mean = 0, variance = 0;
    const double *column = x + c;
    for (size_t i = 0; i < rows; i++) mean += column[i * (size_t)channels] / (double)rows;
    for (size_t i = 0; i < rows; i++)
      variance += (column[i * (size_t)channels] - mean) * (column[i * (size_t)channels] - mean) /
                  (double)rows;
    if (!r->training || !trained) mean = running_mean[c], variance = running_variance[c];
    for (size_t i = 0; i < rows; i++)
      y[i * (size_t)channels + (size_t)c] =
          (column[i * (size_t)channels] - mean) / sqrt(variance + (double)node->eps) * scale[c] +
          shift[c];
  }
}

static void reference_globalmean(const cn_shape *in, const double *x, double *y) {
  size_t pixels = (size_t)in->height * (size_t)in->width, channels = (size_t)in->channels;
  for (size_t c = 0; c < channels; c++) {
    y[c] = 0;
    for (size_t p = 0; p < pixels; p++) y[c] += x[p * channels + c] / (double)pixels;
  }
}

/* PyTorch's rule: output i takes rows floor(i * in / out) .. ceil((i + 1) * in / out) - 1. */
static void reference_adaptivemean(const cn_node *node, const cn_shape *in, const double *x,
                                   double *y) {
  int rows = node->shape.height, columns = node->shape.width;
  for (int oy = 0; oy < rows; oy++)
    for (int ox = 0; ox < columns; ox++)
      for (int c = 0; c < in->channels; c++) {
        int top = (int)floor((double)oy * in->height / rows),
            left = (int)floor((double)ox * in->width / columns);
        int bottom = (int)ceil((oy + 1.0) * in->height / rows),
            right = (int)ceil((ox + 1.0) * in->width / columns);
        double sum = 0;
        for (int iy = top; iy < bottom; iy++)
          for (int ix = left; ix < right; ix++) sum += x[(iy * in->width + ix) * in->channels + c];
        y[(oy * columns + ox) * in->channels + c] = sum / ((bottom - top) * (right - left));
      }
}

static void reference_concat(const reference *r, const cn_node *node, double *y) {
  size_t pixels = (size_t)r->count * (size_t)node->shape.height * (size_t)node->shape.width,
         offset = 0;
  for (int i = 0; i < node->input_count; i++) {
    size_t channels = (size_t)cn_network_node(r->net, node->inputs[i])->shape.channels;
    const double *x = r->maps[node->inputs[i]];
    for (size_t p = 0; p < pixels; p++)
      for (size_t c = 0; c < channels; c++)
        y[p * (size_t)node->shape.channels + offset + c] = x[p * channels + c];
    offset += channels;
  }
}

static void reference_softmax(const double *x, double *y, size_t classes) {
  double sum = 0, largest = x[0];
  for (size_t i = 1; i < classes; i++) largest = x[i] > largest ? x[i] : largest;
  for (size_t i = 0; i < classes; i++) sum += exp(x[i] - largest);
  for (size_t i = 0; i < classes; i++) y[i] = exp(x[i] - largest) / sum;
}

static double reference_activation(cn_op op, double x) {
  if (op == CN_OP_RELU) return x > 0 ? x : 0;
  if (op == CN_OP_SIGMOID) return 1 / (1 + exp(-x));
  if (op == CN_OP_TANH) return tanh(x);
  return x; /* dropout, outside training */
}

/* Nodes that treat every image alike, one image at a time. */
static void reference_image(const reference *r, int index, const cn_node *node, const cn_shape *in,
                            const double *x, double *y) {
  switch (node->op) {
  case CN_OP_CONV:
    reference_conv(r, index, node, in, x, y);
    break;
  case CN_OP_DENSE:
    reference_dense(r, index, node, in, x, y);
    break;
  case CN_OP_MAXPOOL:
  case CN_OP_MINPOOL:
  case CN_OP_MEANPOOL:
  case CN_OP_MIXPOOL:
    reference_pool(node, in, x, y);
    break;
  case CN_OP_GLOBALMEAN:
    reference_globalmean(in, x, y);
    break;
  case CN_OP_ADAPTIVEMEAN:
    reference_adaptivemean(node, in, x, y);
    break;
  case CN_OP_SCALE:
    for (size_t i = 0; i < reference_values(in); i++) y[i] = (double)node->factor * x[i];
    break;
  case CN_OP_SOFTMAX:
    reference_softmax(x, y, reference_values(in));
    break;
  default:
    for (size_t i = 0; i < reference_values(in); i++) y[i] = reference_activation(node->op, x[i]);
  }
}

/* Fills maps for the inputs [count][rows][columns][channels]. */
static void reference_run(reference *r, const float *inputs) {
  for (int i = 0; i < cn_network_node_count(r->net); i++) {
    const cn_node *node = cn_network_node(r->net, i);
    double *y = r->maps[i];
    size_t values = reference_values(&node->shape);
    if (node->op == CN_OP_INPUT) {
      for (size_t k = 0; k < (size_t)r->count * values; k++) y[k] = (double)inputs[k];
      continue;
    }
    const cn_shape *in = &cn_network_node(r->net, node->inputs[0])->shape;
    const double *x = r->maps[node->inputs[0]];
    if (node->op == CN_OP_BATCHNORM) {
      reference_batchnorm(r, i, node, x, y);
    } else if (node->op == CN_OP_CONCAT) {
      reference_concat(r, node, y);
    } else if (node->op == CN_OP_ADD) {
      for (size_t k = 0; k < (size_t)r->count * values; k++) {
        y[k] = 0;
        for (int a = 0; a < node->input_count; a++) y[k] += r->maps[node->inputs[a]][k];
      }
    } else {
      for (size_t image = 0; image < (size_t)r->count; image++)
        reference_image(r, i, node, in, x + image * reference_values(in), y + image * values);
    }
  }
}

/* Loss at one node, mean over images. */
static double reference_head_loss(const reference *r, int head, const cn_batch *batch,
                                  const float *class_weights) {
  const cn_node *node = cn_network_node(r->net, head);
  size_t values = reference_values(&node->shape);
  double sum = 0;
  for (size_t image = 0; image < (size_t)r->count; image++) {
    const double *y = r->maps[head] + image * values;
    if (node->op == CN_OP_SOFTMAX) {
      int label = batch->labels[image];
      sum -= log(y[label]) * (class_weights ? (double)class_weights[label] : 1);
      continue;
    }
    const float *t = batch->targets + image * values;
    for (size_t k = 0; k < values; k++)
      sum += node->op == CN_OP_SIGMOID
                 ? -(double)t[k] * log(y[k]) - (1 - (double)t[k]) * log(1 - y[k])
                 : (y[k] - (double)t[k]) * (y[k] - (double)t[k]) / 2;
  }
  return sum / r->count;
}

/* Loss of the batch: the last node's and those of every softmax, by their weights; class weights
   [classes] may be NULL. Runs the network. */
static double reference_loss(reference *r, const cn_batch *batch, const float *class_weights) {
  int last = cn_network_node_count(r->net) - 1;
  double loss = 0;
  reference_run(r, batch->inputs);
  for (int i = 0; i <= last; i++) {
    const cn_node *node = cn_network_node(r->net, i);
    if (i == last || node->op == CN_OP_SOFTMAX)
      loss += (double)node->loss_weight * reference_head_loss(r, i, batch, class_weights);
  }
  return loss;
}

/* d loss / d parameters[tensor][at] by four-point finite differences. */
static double reference_derivative(reference *r, int tensor, size_t at, const cn_batch *batch,
                                   const float *class_weights) {
  const double step = 2e-7; /* small, so that no ReLU or maximum switches within it */
  double *value = &r->parameters[tensor][at], kept = *value, losses[4];
  static const int offsets[4] = {-2, -1, 1, 2};
  for (int i = 0; i < 4; i++) {
    *value = kept + offsets[i] * step;
    losses[i] = reference_loss(r, batch, class_weights);
  }
  *value = kept;
  return (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * step);
}

#endif
