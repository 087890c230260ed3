/* numbers.h - random numbers, bounds and noise that the rooms of tally-synth share.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_NUMBERS_H
#define TALLY_SYNTH_NUMBERS_H

/* A number drawn evenly between two bounds. */
static inline double between(cn_random *random, double low, double high) {
  return low + (high - low) * (double)cn_random_uniform(random);
}

/* 1 with a probability, else 0. */
static inline int chance(cn_random *random, double probability) {
  return (double)cn_random_uniform(random) < probability;
}

/* One of 0 .. count - 1. */
static inline int below(cn_random *random, int count) {
  return (int)cn_random_below(random, (uint32_t)count);
}

/* From the standard normal distribution. */
static inline double normal(cn_random *random) {
  return (double)cn_random_normal(random);
}

/* A value, or the bound that it lies beyond. */
static inline double limit(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

/* Rounded to the nearest level of a pixel. */
static inline uint8_t to_byte(double value) {
  return (uint8_t)(limit(value, 0, 255) + 0.5);
}

/* Two tiles of noise around 0 that every tally shares: drawing noise anew for each pixel would take
   longer than everything else. Paper is cloudy, grain is not. */
#define TILE 256
static int8_t grain_tile[TILE * TILE], paper_tile[TILE * TILE];

/* Adds a periodic noise of `cells` x `cells` knots, bilinear between them. */
static inline void add_clouds(float *to, cn_random *random, int cells, double strength) {
  float *knots = allocate((size_t)(cells * cells), sizeof(float));
  for (int i = 0; i < cells * cells; i++) knots[i] = (float)(normal(random) * strength);
  for (int y = 0; y < TILE; y++)
    for (int x = 0; x < TILE; x++) {
      float fx = (float)(x * cells) / TILE, fy = (float)(y * cells) / TILE;
      int i = (int)fx, j = (int)fy, right = (i + 1) % cells, down = (j + 1) % cells;
      fx -= (float)i;
      fy -= (float)j;
      float top = knots[j * cells + i] * (1 - fx) + knots[j * cells + right] * fx;
      float bottom = knots[down * cells + i] * (1 - fx) + knots[down * cells + right] * fx;
      to[y * TILE + x] += top * (1 - fy) + bottom * fy;
    }
  free(knots);
}

/* Fills both tiles; once, before anything is drawn. The seed has no part in them. */
static inline void make_tiles(void) {
  cn_random random = {0, 0};
  float *clouds = allocate(TILE * TILE, sizeof(float));
  for (int cells = 4; cells <= 128; cells *= 2) add_clouds(clouds, &random, cells, 18);
  for (int i = 0; i < TILE * TILE; i++) {
    paper_tile[i] = (int8_t)limit((double)clouds[i], -127, 127);
    grain_tile[i] = (int8_t)limit(normal(&random) * 40, -127, 127);
  }
  free(clouds);
}

#endif
