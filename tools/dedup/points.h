/* points.h - points of a picture by which a part of it is recognised: corners in several sizes, each
   with a hash of what is around it. */
#ifndef TALLY_DEDUP_POINTS_H
#define TALLY_DEDUP_POINTS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "../memory.h"
#include "../picture.h"
#include "../resize.h"
#include "hash.h"

typedef struct point {
  uint64_t hash;
  float x, y;  /* in pixels of the picture */
  float pixel; /* how many of them one pixel is of the size in which it was found */
} point;

/* Zero-initialise; points_free. */
typedef struct points {
  point *at;
  int count;
} points;

#define POINT_SIDE 512 /* pixels of the longer side, of the largest size */
#define POINT_SIZES 7
#define POINT_STEP 1.15   /* from size to size: what lies between them is recognised */
#define POINT_GRID 9      /* the best corner in each of so many cells a side */
#define POINT_CELL 4      /* pixels of a cell of the hash */
#define POINT_REACH 18    /* half of what it covers, and a border */
#define POINT_LEAST 60.0f /* of the response, below which it is noise */

/* Response of Shi and Tomasi 1994: the lesser eigenvalue of the products of slopes, over 5 x 5 pixels. */
static inline float corner_response(const uint8_t *pixels, int width, int y, int x) {
  float across = 0, down = 0, both = 0;
  for (int r = y - 2; r <= y + 2; r++)
    for (int c = x - 2; c <= x + 2; c++) {
      const uint8_t *p = pixels + (size_t)r * (size_t)width + c;
      float right = (float)(p[1] - p[-1]), low = (float)(p[width] - p[-width]);
      across += right * right;
      down += low * low;
      both += right * low;
    }
  float half = (across - down) / 2;
  return (across + down) / 2 - sqrtf(half * half + both * both);
}

static inline uint64_t point_hash(const uint8_t *pixels, int width, int y, int x) {
  uint8_t cells[HASH_HEIGHT * HASH_WIDTH];
  int top = y - HASH_HEIGHT * POINT_CELL / 2, left = x - HASH_WIDTH * POINT_CELL / 2;
  for (int i = 0; i < HASH_HEIGHT * HASH_WIDTH; i++) {
    int sum = 0;
    for (int k = 0; k < POINT_CELL * POINT_CELL; k++) {
      int r = top + i / HASH_WIDTH * POINT_CELL + k / POINT_CELL;
      int c = left + i % HASH_WIDTH * POINT_CELL + k % POINT_CELL;
      sum += pixels[(size_t)r * (size_t)width + (size_t)c];
    }
    cells[i] = (uint8_t)(sum / (POINT_CELL * POINT_CELL));
  }
  return difference_hash(cells);
}

/* Adds the points of one size. */
static inline void points_add(const picture *grey, float pixel, points *to) {
  int high = grey->height - 2 * POINT_REACH, wide = grey->width - 2 * POINT_REACH;
  float best[POINT_GRID * POINT_GRID] = {0};
  int at[POINT_GRID * POINT_GRID] = {0};
  if (high < POINT_GRID || wide < POINT_GRID) return;
  for (int i = 0; i < high * wide; i++) {
    int y = i / wide, x = i % wide,
        cell = y * POINT_GRID / high * POINT_GRID + x * POINT_GRID / wide;
    float response = corner_response(grey->pixels, grey->width, y + POINT_REACH, x + POINT_REACH);
    if (response <= best[cell]) continue;
    best[cell] = response;
    at[cell] = i;
  }
  for (int cell = 0; cell < POINT_GRID * POINT_GRID; cell++) {
    int y = at[cell] / wide + POINT_REACH, x = at[cell] % wide + POINT_REACH;
    if (best[cell] < 25 * POINT_LEAST) continue;
    point *p = &to->at[to->count++];
    p->hash = point_hash(grey->pixels, grey->width, y, x);
    p->x = ((float)x + 0.5f) * pixel;
    p->y = ((float)y + 0.5f) * pixel;
    p->pixel = pixel;
  }
}

/* Of a grey picture. */
static inline void points_find(const picture *grey, points *to) {
  int longer = grey->height > grey->width ? grey->height : grey->width;
  double scale = longer > POINT_SIDE ? (double)POINT_SIDE / longer : 1;
  to->at = allocate(POINT_SIZES * POINT_GRID * POINT_GRID, sizeof(point));
  to->count = 0;
  for (int size = 0; size < POINT_SIZES; size++, scale /= POINT_STEP) {
    picture one = {NULL, (int)(grey->height * scale + 0.5), (int)(grey->width * scale + 0.5), 1};
    if (one.height < 1 || one.width < 1) break;
    one.pixels = allocate((size_t)one.height, (size_t)one.width);
    resize_squash(grey->pixels, grey->height, grey->width, one.pixels, one.height, one.width, 1);
    points_add(&one, (float)(1 / scale), to);
    free(one.pixels);
  }
  to->at = reallocate(to->at, (size_t)to->count, sizeof(point));
}

static inline void points_free(points *p) {
  free(p->at);
}

#endif
