/* preprocess.h - how a picture becomes a network's input. */
#ifndef TALLY_PREPROCESS_H
#define TALLY_PREPROCESS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../convnet.h"
#include "picture.h"
#include "resize.h"
#include "text.h"

/* How a picture of another shape comes to the network's: stretched; or enlarged or shrunk to cover
   it, and the middle cut out; or to fit into it, in the middle of black. */
typedef enum resize_policy { RESIZE_SQUASH, RESIZE_CROP, RESIZE_PAD } resize_policy;

/* How a picture becomes a network's input: brought to its size and channels, divided by 255, then
   (value - mean) / deviation per channel. It is written into the model's notes by training and read
   from there by everything that applies the model, so the two cannot differ. */
typedef struct preprocess {
  int height, width, channels;
  resize_policy resize;
  int shorter_side; /* RESIZE_CROP: length of the picture's shorter side before the middle is cut
                       out; 0: just so that it covers the input */
  float mean[3], deviation[3];
  float values[3][256]; /* of each byte, from the above */
} preprocess;

static inline size_t preprocess_size(const preprocess *pre) {
  return (size_t)pre->height * (size_t)pre->width * (size_t)pre->channels;
}

static inline void preprocess_set(preprocess *pre, const float mean[3], const float deviation[3]) {
  for (int c = 0; c < 3; c++) {
    pre->mean[c] = mean[c];
    pre->deviation[c] = deviation[c];
    for (int b = 0; b < 256; b++) pre->values[c][b] = ((float)b / 255.0f - mean[c]) / deviation[c];
  }
}

/* The input of a network that takes pictures; `name` is for messages. */
static inline preprocess preprocess_for(const cn_network *net, const char *name) {
  preprocess pre = {0};
  cn_shape shape = cn_network_node(net, 0)->shape;
  pre.height = shape.height;
  pre.width = shape.width;
  pre.channels = shape.channels;
  if (pre.channels != 1 && pre.channels != 3)
    fail("%s: its input has %d channels, pictures have 1 or 3", name, pre.channels);
  preprocess_set(&pre, (float[3]){0, 0, 0}, (float[3]){1, 1, 1});
  return pre;
}

/* "squash", "pad", "crop" or "crop:256". Returns 0 unless it is one of these and covers the input. */
static inline int parse_resize(const char *text, preprocess *pre) {
  char *end;
  long side;
  pre->shorter_side = 0;
  pre->resize = !strcmp(text, "squash") ? RESIZE_SQUASH
                : !strcmp(text, "pad")  ? RESIZE_PAD
                                        : RESIZE_CROP;
  if (pre->resize != RESIZE_CROP || !strcmp(text, "crop")) return 1;
  if (strncmp(text, "crop:", 5)) return 0;
  side = strtol(text + 5, &end, 10);
  if (end == text + 5 || *end || side < pre->height || side < pre->width || side > CN_MAX_DIMENSION)
    return 0;
  pre->shorter_side = (int)side;
  return 1;
}

/* The text that parse_resize reads. */
static inline const char *resize_text(const preprocess *pre, char out[32]) {
  static const char *const words[] = {"squash", "crop", "pad"};
  if (pre->shorter_side)
    snprintf(out, 32, "crop:%d", pre->shorter_side);
  else
    snprintf(out, 32, "%s", words[pre->resize]);
  return out;
}

/* "a" or "a,b,c". Returns 0 unless there are exactly `count` finite numbers. */
static inline int parse_reals(const char *from, float *to, int count) {
  for (int i = 0; i < count; i++) {
    char *end;
    to[i] = strtof(from, &end);
    if (end == from || !isfinite(to[i]) || *end != (i + 1 < count ? ',' : 0)) return 0;
    from = end + 1;
  }
  return 1;
}

static inline void set_note(cn_network *net, const char *key, const char *value) {
  cn_error error;
  if (cn_network_set_note(net, key, value, &error) != CN_OK) fail("%s", error.message);
}

static inline void preprocess_save(const preprocess *pre, cn_network *net) {
  text_buffer mean = {0}, deviation = {0};
  char resize[32];
  for (int c = 0; c < pre->channels; c++) {
    text_add(&mean, "%s%.9g", c ? "," : "", (double)pre->mean[c]);
    text_add(&deviation, "%s%.9g", c ? "," : "", (double)pre->deviation[c]);
  }
  set_note(net, "preprocess.resize", resize_text(pre, resize));
  set_note(net, "preprocess.scale", "1/255");
  set_note(net, "preprocess.mean", mean.data);
  set_note(net, "preprocess.deviation", deviation.data);
  free(mean.data);
  free(deviation.data);
}

/* A network without these notes (made elsewhere) gets the plain treatment: squash, / 255. */
static inline preprocess preprocess_load(const cn_network *net, const char *name) {
  preprocess pre = preprocess_for(net, name);
  float means[3] = {0, 0, 0}, deviations[3] = {1, 1, 1};
  const char *resize = cn_network_note(net, "preprocess.resize");
  const char *scale = cn_network_note(net, "preprocess.scale");
  const char *mean = cn_network_note(net, "preprocess.mean");
  const char *deviation = cn_network_note(net, "preprocess.deviation");
  if (resize && !parse_resize(resize, &pre))
    fail("%s: note preprocess.resize: \"%s\" is unknown here or smaller than the input", name,
         resize);
  if (scale && strcmp(scale, "1/255"))
    fail("%s: note preprocess.scale: \"%s\" is unknown here", name, scale);
  if (mean && !parse_reals(mean, means, pre.channels))
    fail("%s: note preprocess.mean: \"%s\" is not %d numbers", name, mean, pre.channels);
  if (deviation && !parse_reals(deviation, deviations, pre.channels))
    fail("%s: note preprocess.deviation: \"%s\" is not %d numbers", name, deviation, pre.channels);
  for (int c = 0; c < pre.channels; c++)
    if (!(deviations[c] > 0)) fail("%s: note preprocess.deviation is not positive", name);
  preprocess_set(&pre, means, deviations);
  return pre;
}

/* A picture's bytes, already of the right size, as the network's input. */
static inline void preprocess_bytes(const preprocess *pre, const uint8_t *bytes, float *to) {
  size_t pixels = (size_t)pre->height * (size_t)pre->width;
  if (pre->channels == 1)
    for (size_t i = 0; i < pixels; i++) to[i] = pre->values[0][bytes[i]];
  else
    for (size_t i = 0; i < pixels * 3; i++) to[i] = pre->values[i % 3][bytes[i]];
}

/* Brings a picture, whose channels are the network's already, to its input size. Sizes and places
   are rounded as torchvision does in Resize and CenterCrop. */
static inline void picture_resize(const picture *from, const preprocess *pre, uint8_t *to) {
  double height = from->height, width = from->width;
  int wide = width * pre->height > height * pre->width; /* wider than the input */
  if (pre->resize == RESIZE_SQUASH) {
    resize_squash(from->pixels, from->height, from->width, to, pre->height, pre->width,
                  from->channels);
  } else if (pre->resize == RESIZE_CROP) {
    double side = pre->shorter_side;
    resize_piece piece;
    if (pre->shorter_side) {
      piece.full_height = height <= width ? side : floor(side * height / width);
      piece.full_width = width <= height ? side : floor(side * width / height);
    } else {
      piece.full_height =
          wide ? pre->height : fmax(pre->height, floor(height * pre->width / width));
      piece.full_width = wide ? fmax(pre->width, floor(width * pre->height / height)) : pre->width;
    }
    piece.top = rint((piece.full_height - pre->height) / 2);
    piece.left = rint((piece.full_width - pre->width) / 2);
    resize_to_piece(from->pixels, from->height, from->width, &piece, to, pre->height, pre->width,
                    from->channels);
  } else {
    int inner_height = wide ? (int)fmax(1, floor(height * pre->width / width)) : pre->height;
    int inner_width = wide ? pre->width : (int)fmax(1, floor(width * pre->height / height));
    size_t row = (size_t)inner_width * (size_t)from->channels;
    size_t top = (size_t)(pre->height - inner_height) / 2;
    size_t left = (size_t)(pre->width - inner_width) / 2;
    uint8_t *inner = allocate((size_t)inner_height, row);
    resize_squash(from->pixels, from->height, from->width, inner, inner_height, inner_width,
                  from->channels);
    memset(to, 0, preprocess_size(pre));
    for (size_t y = 0; y < (size_t)inner_height; y++)
      memcpy(to + ((top + y) * (size_t)pre->width + left) * (size_t)from->channels, inner + y * row,
             row);
    free(inner);
  }
}

/* Reads a picture file at a network's input size. Returns 0, or why it cannot be read. */
static inline const char *picture_fit(const char *path, const preprocess *pre, uint8_t *to) {
  picture read = {0};
  const char *reason = picture_read(path, pre->channels, PICTURE_MAX_PIXELS, &read);
  if (reason) return reason;
  picture_resize(&read, pre, to);
  free(read.pixels);
  return NULL;
}

#endif
