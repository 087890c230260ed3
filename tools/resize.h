/* resize.h - pictures at other sizes. */
#ifndef TALLY_RESIZE_H
#define TALLY_RESIZE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* One side of a picture of `from` pixels is resized to `full`, of which `to` pixels from `start` on
   are wanted. For each of them: the first of `taps` source positions, and their weights. The filter
   is a triangle as wide as a source pixel when enlarging (linear interpolation), as an output pixel
   when shrinking (so every source pixel counts): what Pillow calls BILINEAR and torchvision's Resize
   does by default. Positions outside are dropped and the rest scaled to sum 1. */
static inline int resize_weights(int from, double full, double start, int to, int **first,
                                 float **weights) {
  double scale = from / full, reach = scale > 1 ? scale : 1;
  int taps = 2 * (int)ceil(reach) + 1;
  *first = allocate((size_t)to, sizeof(int));
  *weights = allocate((size_t)to * (size_t)taps, sizeof(float));
  for (int i = 0; i < to; i++) {
    double centre = (start + i + 0.5) * scale, sum = 0;
    int begin = (int)floor(centre - reach);
    float *weight = *weights + (size_t)i * (size_t)taps;
    (*first)[i] = begin < 0 ? 0 : begin;
    for (int t = 0; t < taps; t++) {
      int position = (*first)[i] + t;
      double w = 1 - fabs(position + 0.5 - centre) / reach;
      if (w <= 0 || position >= from) continue;
      weight[t] = (float)w;
      sum += w;
    }
    for (int t = 0; t < taps; t++) weight[t] = (float)(weight[t] / sum);
  }
  return taps;
}

/* A piece of a resized picture: rows x columns of the full size, and where the piece begins. */
typedef struct resize_piece {
  double full_height, full_width, top, left;
} resize_piece;

/* Resizes a picture and writes the piece that begins at (top, left) and is height x width. What is
   not in the piece is not computed, however large the full size would be. */
static inline void resize_to_piece(const uint8_t *from, int from_height, int from_width,
                                   const resize_piece *piece, uint8_t *to, int height, int width,
                                   int channels) {
  int *first_x, *first_y;
  float *weights_x, *weights_y;
  int taps_x =
      resize_weights(from_width, piece->full_width, piece->left, width, &first_x, &weights_x);
  int taps_y =
      resize_weights(from_height, piece->full_height, piece->top, height, &first_y, &weights_y);
  size_t row = (size_t)width * (size_t)channels;
  int top = first_y[0], bottom = first_y[height - 1] + taps_y;
  if (bottom > from_height) bottom = from_height;
  float *narrow = allocate((size_t)(bottom - top) * row, sizeof(float));
  for (int y = top; y < bottom; y++)
    for (int x = 0; x < width; x++) {
      int taps = from_width - first_x[x] < taps_x ? from_width - first_x[x] : taps_x;
      const float *weight = weights_x + (size_t)x * (size_t)taps_x;
      const uint8_t *source =
          from + ((size_t)y * (size_t)from_width + (size_t)first_x[x]) * (size_t)channels;
      float *target = narrow + (size_t)(y - top) * row + (size_t)x * (size_t)channels;
      for (int t = 0; t < taps; t++)
        for (int c = 0; c < channels; c++) target[c] += weight[t] * (float)*source++;
    }
  float *sum = allocate(row, sizeof(float));
  for (int y = 0; y < height; y++) {
    memset(sum, 0, row * sizeof(float));
    for (int t = 0; t < taps_y && first_y[y] + t < from_height; t++) {
      float weight = weights_y[(size_t)y * (size_t)taps_y + (size_t)t];
      const float *source = narrow + (size_t)(first_y[y] - top + t) * row;
      for (size_t i = 0; i < row; i++) sum[i] += weight * source[i];
    }
    for (size_t i = 0; i < row; i++) to[(size_t)y * row + i] = (uint8_t)(sum[i] + 0.5f);
  }
  free(sum);
  free(narrow);
  free(first_x);
  free(first_y);
  free(weights_x);
  free(weights_y);
}

/* Stretches a picture to height x width, whatever its proportions ("squash"). */
static inline void resize_squash(const uint8_t *from, int from_height, int from_width, uint8_t *to,
                                 int height, int width, int channels) {
  resize_piece whole = {height, width, 0, 0};
  if (from_height == height && from_width == width)
    memcpy(to, from, (size_t)height * (size_t)width * (size_t)channels);
  else
    resize_to_piece(from, from_height, from_width, &whole, to, height, width, channels);
}

#endif
