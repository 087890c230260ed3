/* samples.h - handwritten digits of a data set, sorted and measured.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_SAMPLES_H
#define TALLY_SYNTH_SAMPLES_H

#include "../dataset.h"
#include "numbers.h"

/* Handwritten samples of the ten digits; without a data set digits are drawn by the pen. */
typedef struct sample_box {
  dataset data;
  int given;
  int *of[10], count[10]; /* which samples show a digit */
  float *pen, *slant;     /* of each sample: breadth of its strokes in pixels, lean of its ink */
} sample_box;

/* Breadth of strokes from area and outline, lean from the ink's second moments. */
static inline void measure_sample(const uint8_t *bitmap, float *pen, float *slant) {
  double area = 1e-9, outline = 1e-9, y0 = 0, x0 = 0, xy = 0, yy = 1e-9;
  for (int pass = 0; pass < 2; pass++)
    for (int y = 0; y + 1 < TALLY_SIDE; y++)
      for (int x = 0; x + 1 < TALLY_SIDE; x++) {
        const uint8_t *at = bitmap + y * TALLY_SIDE + x;
        if (pass == 0) {
          area += at[0];
          outline += hypot(at[1] - at[0], at[TALLY_SIDE] - at[0]);
          x0 += at[0] * x;
          y0 += at[0] * y;
        } else {
          xy += at[0] * (x - x0 / area) * (y - y0 / area);
          yy += at[0] * (y - y0 / area) * (y - y0 / area);
        }
      }
  *pen = (float)(2 * area / outline);
  *slant = (float)limit(-xy / yy, -1, 1);
}

/* For share_work: `context` is a sample_box. */
static inline void measure_one(void *context, int i, int thread) {
  const sample_box *box = context;
  (void)thread;
  measure_sample(box->data.pixels + (size_t)i * TALLY_SIDE * TALLY_SIDE, &box->pen[i],
                 &box->slant[i]);
}

/* Reads a data set (see dataset_open) that has all ten digits, or nothing for "strokes". */
static inline sample_box open_samples(const char *digits) {
  sample_box box;
  memset(&box, 0, sizeof box);
  if (!strcmp(digits, "strokes")) return box;
  preprocess pre = {0};
  pre.height = pre.width = TALLY_SIDE;
  pre.channels = 1;
  box.given = 1;
  box.data = dataset_open(digits, 0, NULL);
  dataset_prepare(&box.data, &pre, 1, 0);
  if (box.data.cached < box.data.count) fail("%s: too many pictures to draw digits from", digits);
  box.pen = allocate((size_t)box.data.count, sizeof(float));
  box.slant = allocate((size_t)box.data.count, sizeof(float));
  share_work(box.data.count, measure_one, &box);
  for (int digit = 0; digit < 10; digit++) {
    const char name[2] = {(char)('0' + digit), 0};
    int label = classes_find(&box.data.set, name);
    box.of[digit] = allocate((size_t)box.data.count, sizeof(int));
    for (int i = 0; i < box.data.count; i++)
      if (box.data.labels[i] == label) box.of[digit][box.count[digit]++] = i;
    if (!box.count[digit]) fail("%s: it has no pictures of the class \"%s\"", digits, name);
  }
  return box;
}

static inline void close_samples(sample_box *box) {
  if (!box->given) return;
  for (int digit = 0; digit < 10; digit++) free(box->of[digit]);
  free(box->pen);
  free(box->slant);
  dataset_free(&box->data);
}

#endif
