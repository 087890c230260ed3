/* tally.h alone, beside program.c: squares are drawn, thresholded and counted, and two counts and their
   sum are decoded from the probabilities of their digits. */
#define TALLY_IMPLEMENTATION
#include "tally.h"

extern int tally_works(void);

static int finds_squares(void) {
  enum { side = 40 };
  static int labels[side * side];
  tally_image picture, ink;
  tally_component parts[4];
  int x, y, found = 0;
  if (tally_image_make(side, side, 1, &picture) != TALLY_OK) return 0;
  for (y = 0; y < side; y++)
    for (x = 0; x < side; x++)
      picture.pixels[y * side + x] = (uint8_t)(x % 20 < 6 && y % 20 < 7 ? 30 : 220);
  if (tally_threshold_adaptive(&picture, 10, 40, &ink) == TALLY_OK) {
    found = tally_components(&ink, labels, parts, 4) == 4 && parts[3].area == 42;
    tally_image_free(&ink);
  }
  tally_image_free(&picture);
  return found;
}

static int decodes(void) {
  static const char text[] = "form    two\n"
                             "page    300 x 400\n"
                             "anchor  corner1 square 20,20 36x36\n"
                             "anchor  corner2 square 240,20 36x36\n"
                             "anchor  corner3 square 20,340 36x36\n"
                             "field   A     1 digits cells 100,100 1x40x48\n"
                             "field   B     1 digits cells 100,160 1x40x48\n"
                             "field   ALL   1 digits cells 100,220 1x40x48\n"
                             "sum     ALL = A + B\n";
  static const int digits[3] = {2, 5, 7};
  static tally_template form;
  double classes[3 * TALLY_CLASSES];
  tally_error error;
  tally_counts counts;
  int cell, c, right;
  if (tally_template_parse(text, sizeof text - 1, &form, &error) != TALLY_OK) {
    printf("%d:%d: %s\n", error.line, error.column, error.message);
    return 0;
  }
  for (cell = 0; cell < 3; cell++)
    for (c = 0; c < TALLY_CLASSES; c++)
      classes[cell * TALLY_CLASSES + c] = c == digits[cell] ? 0.9 : 0.1 / (TALLY_CLASSES - 1);
  if (tally_decode(&form, classes, NULL, NULL, &counts) != TALLY_OK) return 0;
  right = counts.count[0].value == 2 && counts.count[1].value == 5 && counts.count[2].value == 7 &&
          counts.sum[0].state == TALLY_SUM_HOLDS;
  tally_counts_free(&counts);
  return right;
}

int tally_works(void) {
  return finds_squares() && decodes();
}
