/* Tests of tally.h: images against naive references, homographies, templates, registration on drawn
   pages seen through known homographies, cells, decoding against brute force, totals, and real
   forms where they are at hand (environment variable TALLY_FORMS: their folder). Run from the
   repository's top folder. */
#include "tally.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stb/stb_image.h>

/* ---- synthetic pages: a form drawn on a flat page, then seen through a known homography ---- */

static uint64_t random_state = 1;

static double uniform(double low, double high) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return low + (high - low) * (double)(random_state >> 11) / 9007199254740992.0;
}

/* Paints a page pixel towards a colour by `cover`, 0..1. */
static void paint(tally_image *page, int x, int y, const double colour[3], double cover) {
  int k;
  if (x < 0 || y < 0 || x >= page->width || y >= page->height || cover <= 0) return;
  for (k = 0; k < 3; k++) {
    uint8_t *p = &page->pixels[((size_t)y * (size_t)page->width + (size_t)x) * 3 + (size_t)k];
    *p = (uint8_t)(*p + (cover > 1 ? 1 : cover) * (colour[k] - *p));
  }
}

static double overlap(double pixel, double from, double to) {
  double a = pixel > from ? pixel : from, b = pixel + 1 < to ? pixel + 1 : to;
  return b > a ? b - a : 0;
}

static void draw_box(tally_image *page, double x, double y, double w, double h, const double c[3]) {
  int i, j;
  for (j = (int)floor(y); j < y + h; j++)
    for (i = (int)floor(x); i < x + w; i++)
      paint(page, i, j, c, overlap(i, x, x + w) * overlap(j, y, y + h));
}

static void draw_stroke(tally_image *page, double x0, double y0, double x1, double y1, double width,
                        const double c[3]) {
  int i, j;
  double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
  for (j = (int)floor(fmin(y0, y1) - width); j <= fmax(y0, y1) + width; j++)
    for (i = (int)floor(fmin(x0, x1) - width); i <= fmax(x0, x1) + width; i++) {
      double px = i + 0.5 - x0, py = j + 0.5 - y0;
      double t = length2 > 0 ? fmax(0, fmin(1, (px * dx + py * dy) / length2)) : 0;
      double d = hypot(px - t * dx, py - t * dy);
      paint(page, i, j, c, width / 2 + 0.5 - d);
    }
}

/* Digits as polylines in a unit box; -1 lifts the pen. 10 is a cross, 11 nothing, 12 a dash. */
static void draw_symbol(tally_image *page, const tally_box *cell, int symbol, double size,
                        double pen, const double c[3]) {
  static const signed char strokes[13][24] = {
      {5, 0, 1, 2, 0, 5, 1, 8, 5, 10, 9, 8, 10, 5, 9, 2, 5, 0, -1},
      {5, 0, 5, 10, -1},
      {0, 2, 3, 0, 8, 1, 9, 4, 0, 10, 10, 10, -1},
      {0, 0, 9, 0, 4, 4, 9, 6, 9, 9, 5, 10, 0, 9, -1},
      {6, 0, 0, 6, 10, 6, -2, 7, 3, 7, 10, -1},
      {9, 0, 1, 0, 1, 4, 7, 4, 10, 7, 7, 10, 0, 9, -1},
      {8, 0, 3, 4, 1, 8, 5, 10, 9, 8, 8, 5, 2, 6, -1},
      {0, 0, 10, 0, 4, 10, -1},
      {5, 5, 1, 2, 5, 0, 9, 2, 5, 5, 0, 8, 5, 10, 10, 8, 5, 5, -1},
      {9, 3, 5, 5, 1, 3, 5, 0, 9, 3, 8, 10, -1},
      {0, 0, 10, 10, -2, 10, 0, 0, 10, -1},
      {-1},
      {1, 5, 9, 5, -1}};
  const signed char *s = strokes[symbol];
  double h = cell->height * size, w = h * 0.6, x0, y0;
  int i = 0, down = 0;
  double px = 0, py = 0;
  if (w > cell->width * size) w = cell->width * size;
  x0 = cell->x + (cell->width - w) / 2 + uniform(-0.05, 0.05) * cell->width;
  y0 = cell->y + (cell->height - h) / 2 + uniform(-0.05, 0.05) * cell->height;
  while (s[i] != -1) {
    double x, y;
    if (s[i] == -2) {
      down = 0;
      i++;
      continue;
    }
    x = x0 + s[i] * w / 10;
    y = y0 + s[i + 1] * h / 10;
    if (down) draw_stroke(page, px, py, x, y, pen, c);
    px = x;
    py = y;
    down = 1;
    i += 2;
  }
}

static const double black[3] = {25, 25, 28}, paper_white[3] = {246, 244, 240};

static void draw_rule(tally_image *page, int down, double at, double from, double to, double width,
                      const double c[3]) {
  if (down)
    draw_box(page, at - width / 2, from, width, to - from, c);
  else
    draw_box(page, from, at - width / 2, to - from, width, c);
}

/* A blank form, one pixel per template pixel. */
static void draw_form(const tally_template *form, double rule, tally_image *page) {
  static const double yellow[3] = {240, 205, 50}, pink[3] = {232, 60, 150}, grey[3] = {90, 90, 95};
  int f, k, i;
  assert_int_equal(tally_image_make((int)form->width, (int)form->height, 3, page), TALLY_OK);
  draw_box(page, 0, 0, form->width, form->height, paper_white);
  for (k = 0; k < form->anchors; k++) {
    const tally_anchor *a = &form->anchor[k];
    const tally_box *b = &a->box;
    const double *colour = a->kind == TALLY_ANCHOR_SQUARE ? black
                           : a->hsv_low[0] < 100          ? yellow
                                                          : pink;
    if (a->kind == TALLY_ANCHOR_DISC)
      draw_stroke(page, b->x + b->width / 2, b->y + b->width / 2, b->x + b->width / 2,
                  b->y + b->width / 2, b->width, colour);
    else
      draw_box(page, b->x, b->y, b->width, b->height, colour);
    for (i = 0; i < 20 && b->width > 300; i++) /* a title on the banner */
      draw_box(page, b->x + 120 + 30 * i, b->y + 20, uniform(5, 18), 28, black);
  }
  for (k = 0; k < form->rules; k++)
    draw_rule(page, form->rule[k].down, form->rule[k].at, form->rule[k].from, form->rule[k].to,
              rule, black);
  for (f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    for (i = 0; i < 14; i++) /* the field's printed name, left of it */
      draw_box(page, 80 + 22 * i, field->cell[0].y + 18, uniform(4, 12), 12, black);
    for (k = 0; k < field->digits; k++) {
      const tally_box *c = &field->cell[k];
      draw_rule(page, 0, c->y, c->x, c->x + c->width, rule, grey);
      draw_rule(page, 0, c->y + c->height, c->x, c->x + c->width, rule, grey);
      draw_rule(page, 1, c->x, c->y, c->y + c->height, rule, grey);
      draw_rule(page, 1, c->x + c->width, c->y, c->y + c->height, rule, grey);
    }
  }
}

/* How a page is seen. */
typedef struct {
  double rotation, scale, perspective; /* degrees; pixels per template pixel; share of the width */
  double blur, noise, shade;           /* pixels; levels; share of light lost at the dark end */
  double cast[3];                      /* gain per channel */
} view;

/* Homography from 4 point pairs by the library's own least squares is what is tested, so the test
   has
   its own: the map of the page's rectangle onto a quadrilateral (Heckbert 1989). */
static void quad_homography(double w, double h, double q[4][2], double out[9]) {
  double dx1 = q[1][0] - q[2][0], dx2 = q[3][0] - q[2][0],
         dx3 = q[0][0] - q[1][0] + q[2][0] - q[3][0];
  double dy1 = q[1][1] - q[2][1], dy2 = q[3][1] - q[2][1],
         dy3 = q[0][1] - q[1][1] + q[2][1] - q[3][1];
  double det = dx1 * dy2 - dx2 * dy1, g = (dx3 * dy2 - dx2 * dy3) / det,
         p = (dx1 * dy3 - dx3 * dy1) / det;
  out[0] = (q[1][0] - q[0][0] + g * q[1][0]) / w;
  out[1] = (q[3][0] - q[0][0] + p * q[3][0]) / h;
  out[2] = q[0][0];
  out[3] = (q[1][1] - q[0][1] + g * q[1][1]) / w;
  out[4] = (q[3][1] - q[0][1] + p * q[3][1]) / h;
  out[5] = q[0][1];
  out[6] = g / w;
  out[7] = p / h;
  out[8] = 1;
}

static void invert(const double m[9], double out[9]) {
  double det = m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
               m[2] * (m[3] * m[7] - m[4] * m[6]);
  out[0] = (m[4] * m[8] - m[5] * m[7]) / det;
  out[1] = (m[2] * m[7] - m[1] * m[8]) / det;
  out[2] = (m[1] * m[5] - m[2] * m[4]) / det;
  out[3] = (m[5] * m[6] - m[3] * m[8]) / det;
  out[4] = (m[0] * m[8] - m[2] * m[6]) / det;
  out[5] = (m[2] * m[3] - m[0] * m[5]) / det;
  out[6] = (m[3] * m[7] - m[4] * m[6]) / det;
  out[7] = (m[1] * m[6] - m[0] * m[7]) / det;
  out[8] = (m[0] * m[4] - m[1] * m[3]) / det;
}

/* Photographs a page: picture, and the true map from template to picture. */
static void look(const tally_image *page, const view *v, tally_image *picture, double truth[9]) {
  double w = page->width, h = page->height, quad[4][2], turn = v->rotation * 3.14159265358979 / 180;
  double left = 1e9, top = 1e9, right = -1e9, bottom = -1e9, back[9];
  static const double corner[4][2] = {{0, 0}, {1, 0}, {1, 1}, {0, 1}};
  tally_image seen = {0};
  int i, x, y, k;
  for (i = 0; i < 4; i++) {
    double px = (corner[i][0] - 0.5) * w + uniform(-1, 1) * v->perspective * w;
    double py = (corner[i][1] - 0.5) * h + uniform(-1, 1) * v->perspective * w;
    quad[i][0] = v->scale * (cos(turn) * px - sin(turn) * py);
    quad[i][1] = v->scale * (sin(turn) * px + cos(turn) * py);
    left = fmin(left, quad[i][0]);
    top = fmin(top, quad[i][1]);
    right = fmax(right, quad[i][0]);
    bottom = fmax(bottom, quad[i][1]);
  }
  for (i = 0; i < 4; i++) {
    quad[i][0] += 10 - left;
    quad[i][1] += 10 - top;
  }
  quad_homography(w, h, quad, truth);
  invert(truth, back);
  assert_int_equal(
      tally_warp(page, back, (int)(right - left) + 20, (int)(bottom - top) + 20, 150, &seen),
      TALLY_OK);
  assert_int_equal(tally_image_make(seen.width, seen.height, 3, picture), TALLY_OK);
  {
    int r = (int)v->blur, ax, ay;
    double light_x = uniform(-1, 1), light_y = uniform(-1, 1), norm = fabs(light_x) + fabs(light_y);
    for (y = 0; y < seen.height; y++)
      for (x = 0; x < seen.width; x++) {
        double t =
            0.5 +
            0.5 * (light_x * (2.0 * x / seen.width - 1) + light_y * (2.0 * y / seen.height - 1)) /
                norm;
        double light = 1 - v->shade * t, grain = v->noise * (uniform(-1, 1) + uniform(-1, 1));
        for (k = 0; k < 3; k++) {
          double sum = 0;
          int n = 0;
          for (ay = y - r; ay <= y + r; ay++)
            for (ax = x - r; ax <= x + r; ax++, n++) {
              int cx = ax < 0 ? 0 : ax >= seen.width ? seen.width - 1 : ax;
              int cy = ay < 0 ? 0 : ay >= seen.height ? seen.height - 1 : ay;
              sum += seen.pixels[((size_t)cy * (size_t)seen.width + (size_t)cx) * 3 + (size_t)k];
            }
          sum = sum / n * light * v->cast[k] + grain;
          picture->pixels[((size_t)y * (size_t)seen.width + (size_t)x) * 3 + (size_t)k] =
              (uint8_t)(sum < 0     ? 0
                        : sum > 255 ? 255
                                    : sum);
        }
      }
  }
  tally_image_free(&seen);
}

/* Largest distance of a cell corner from the truth, template pixels. */
static double corner_error(const tally_template *form, const tally_registration *r,
                           const double truth[9]) {
  double worst = 0;
  int f, k, i;
  for (f = 0; f < form->fields; f++)
    for (k = 0; k < form->field[f].digits; k++)
      for (i = 0; i < 4; i++) {
        const tally_box *b = &form->field[f].cell[k];
        double x = b->x + (i & 1 ? b->width : 0), y = b->y + (i & 2 ? b->height : 0);
        double w = truth[6] * x + truth[7] * y + truth[8], px, py;
        double tx = (truth[0] * x + truth[1] * y + truth[2]) / w;
        double ty = (truth[3] * x + truth[4] * y + truth[5]) / w;
        tally_registration_map(r, f, x, y, &px, &py);
        worst = fmax(worst, hypot(px - tx, py - ty) / (r->scale > 0 ? r->scale : 1));
      }
  return worst;
}

/* ---- images against naive references ------------------------------------------------------- */

static tally_image noise_image(int width, int height, int channels) {
  tally_image image;
  size_t i;
  assert_int_equal(tally_image_make(width, height, channels, &image), TALLY_OK);
  for (i = 0; i < (size_t)width * (size_t)height * (size_t)channels; i++)
    image.pixels[i] = (uint8_t)uniform(0, 255.99);
  return image;
}

static int pixel(const tally_image *image, int x, int y, int k) {
  return image->pixels[((size_t)y * (size_t)image->width + (size_t)x) * (size_t)image->channels +
                       (size_t)k];
}

/* A part of a picture, as its own. */
static tally_image crop(const tally_image *image, int x, int y, int width, int height) {
  tally_image part;
  size_t c = (size_t)image->channels;
  int row;
  assert_int_equal(tally_image_make(width, height, image->channels, &part), TALLY_OK);
  for (row = 0; row < height; row++)
    memcpy(part.pixels + (size_t)row * (size_t)width * c,
           image->pixels + ((size_t)(y + row) * (size_t)image->width + (size_t)x) * c,
           (size_t)width * c);
  return part;
}

static int within(int v, int low, int high) {
  return v < low ? low : v > high ? high : v;
}

static void test_image_arguments(void **state) {
  tally_image image, wrong = {NULL, 4, 4, 1};
  (void)state;
  assert_int_equal(tally_image_make(0, 5, 1, &image), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_image_make(5, -1, 1, &image), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_image_make(5, 5, 2, &image), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_image_make(TALLY_MAX_DIMENSION, TALLY_MAX_DIMENSION, 3, &image),
                   TALLY_ERROR_TOO_LARGE);
  assert_int_equal(tally_image_make(INT_MAX, INT_MAX, 3, &image), TALLY_ERROR_TOO_LARGE);
  assert_null(image.pixels);
  assert_int_equal(tally_grey(&wrong, &image), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_threshold_adaptive(NULL, 5, 0, &image), TALLY_ERROR_ARGUMENT);
  image = noise_image(6, 4, 1);
  assert_int_equal(tally_resize(&image, 0, 4, &wrong), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_resize(&image, INT_MAX, 1, &wrong), TALLY_ERROR_TOO_LARGE);
  assert_int_equal(tally_threshold_adaptive(&image, 0, 0, &wrong), TALLY_ERROR_ARGUMENT);
  tally_image_free(&image);
  tally_image_free(NULL);
}

static void test_grey(void **state) {
  static const uint8_t in[5][3] = {
      {255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 0}, {100, 100, 100}};
  static const uint8_t grey[5] = {76, 149, 28, 226, 100};
  tally_image image, out;
  (void)state;
  assert_int_equal(tally_image_make(5, 1, 3, &image), TALLY_OK);
  memcpy(image.pixels, in, sizeof in);
  assert_int_equal(tally_grey(&image, &out), TALLY_OK);
  assert_memory_equal(out.pixels, grey, sizeof grey);
  tally_image_free(&out);
  tally_image_free(&image);
}

static void test_resize(void **state) {
  tally_image image = noise_image(24, 18, 3), out;
  int x, y, k, i, j;
  (void)state;
  assert_int_equal(tally_resize(&image, 8, 9, &out), TALLY_OK);
  for (y = 0; y < 9; y++)
    for (x = 0; x < 8; x++)
      for (k = 0; k < 3; k++) {
        int sum = 0;
        for (j = 0; j < 2; j++)
          for (i = 0; i < 3; i++) sum += pixel(&image, 3 * x + i, 2 * y + j, k);
        assert_int_equal(pixel(&out, x, y, k), (int)(sum / 6.0 + 0.5));
      }
  tally_image_free(&out);
  /* A constant stays constant at odd ratios, and the mean survives shrinking. */
  memset(image.pixels, 77, 24 * 18 * 3);
  assert_int_equal(tally_resize(&image, 7, 5, &out), TALLY_OK);
  for (i = 0; i < 7 * 5 * 3; i++) assert_int_equal(out.pixels[i], 77);
  tally_image_free(&out);
  tally_image_free(&image);
  /* A pixel on the border of two areas is shared between them. */
  image = noise_image(3, 1, 1);
  assert_int_equal(tally_resize(&image, 2, 1, &out), TALLY_OK);
  for (x = 0; x < 2; x++)
    assert_int_equal(
        pixel(&out, x, 0, 0),
        (int)((pixel(&image, 2 * x, 0, 0) + 0.5 * pixel(&image, 1, 0, 0)) / 1.5 + 0.5));
  tally_image_free(&out);
  tally_image_free(&image);
}

/* Whole shifts move pixels, halves lie between two, the edge's outer half is level. */
static void test_warp(void **state) {
  tally_image image = noise_image(13, 9, 3), out;
  double shift[9] = {1, 0, 2, 0, 1, -3, 0, 0, 1}, half[9] = {1, 0, 0.5, 0, 1, 0, 0, 0, 1};
  double twice[9] = {0.5, 0, 0, 0, 1, 0, 0, 0, 1}, broken[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
  int x, y, k;
  (void)state;
  assert_int_equal(tally_warp(&image, shift, 13, 9, 200, &out), TALLY_OK);
  for (y = 0; y < 9; y++)
    for (x = 0; x < 13; x++)
      for (k = 0; k < 3; k++)
        assert_int_equal(pixel(&out, x, y, k),
                         x + 2 < 13 && y - 3 >= 0 ? pixel(&image, x + 2, y - 3, k) : 200);
  tally_image_free(&out);
  assert_int_equal(tally_warp(&image, half, 12, 9, 200, &out), TALLY_OK);
  for (x = 0; x < 12; x++)
    assert_int_equal(pixel(&out, x, 8, 2),
                     (pixel(&image, x, 8, 2) + pixel(&image, x + 1, 8, 2) + 1) / 2);
  tally_image_free(&out);
  assert_int_equal(tally_warp(&image, twice, 26, 9, 200, &out), TALLY_OK);
  for (x = 0; x < 26; x++) {
    int left = within((x - 1) / 2 - (x == 0), 0, 12), right = within(left + (x > 0), 0, 12);
    double t = x & 1 ? 0.25 : 0.75;
    double expect = pixel(&image, left, 0, 0) * (1 - t) + pixel(&image, right, 0, 0) * t;
    assert_int_equal(pixel(&out, x, 0, 0), (int)(expect + 0.5));
  }
  tally_image_free(&out);
  assert_int_equal(tally_warp(&image, broken, 4, 4, 7, &out), TALLY_OK);
  for (k = 0; k < 4 * 4 * 3; k++) assert_int_equal(out.pixels[k], 7);
  tally_image_free(&out);
  tally_image_free(&image);
  image = noise_image(1, 1, 1); /* its one pixel is its own neighbour */
  assert_int_equal(tally_warp(&image, twice, 2, 1, 7, &out), TALLY_OK);
  assert_int_equal(pixel(&out, 1, 0, 0), pixel(&image, 0, 0, 0));
  tally_image_free(&out);
  tally_image_free(&image);
}

/* A quadrilateral of about `size` somewhere in a picture, turned at random: no three corners on a
   line. */
static void any_four(double size, tally_point out[4]) {
  double turn = uniform(0, 6.3), x = uniform(-3, 3) * size, y = uniform(-3, 3) * size;
  int i;
  for (i = 0; i < 4; i++) {
    double at = turn + i * 1.5707963 + uniform(-0.4, 0.4), far = size * uniform(0.7, 1.3);
    out[i].x = x + far * cos(at);
    out[i].y = y + far * sin(at);
  }
}

static void assert_near(tally_point a, tally_point b, double room) {
  if (!(hypot(a.x - b.x, a.y - b.y) <= room))
    fail_msg("%.9f, %.9f is not %.9f, %.9f", a.x, a.y, b.x, b.y);
}

/* Corners go to their partners; between them it is the map that the test works out by itself. */
static void test_homography(void **state) {
  int round, i;
  (void)state;
  for (round = 0; round < 200; round++) {
    tally_point rectangle[4] = {{0, 0}, {1000, 0}, {1000, 700}, {0, 700}}, from[4], to[4];
    double quad[4][2], h[9], expected[9];
    any_four(900, from);
    any_four(600, to);
    assert_int_equal(tally_homography(from, to, h), TALLY_OK);
    for (i = 0; i < 4; i++) assert_near(tally_homography_map(h, from[i].x, from[i].y), to[i], 1e-6);
    for (i = 0; i < 4; i++) {
      quad[i][0] = to[i].x;
      quad[i][1] = to[i].y;
    }
    quad_homography(1000, 700, quad, expected);
    assert_int_equal(tally_homography(rectangle, to, h), TALLY_OK);
    for (i = 0; i < 9; i++) {
      double x = 125 * i, y = 80 * (i * 5 % 9), w = expected[6] * x + expected[7] * y + 1;
      tally_point there = {(expected[0] * x + expected[1] * y + expected[2]) / w,
                           (expected[3] * x + expected[4] * y + expected[5]) / w};
      assert_near(tally_homography_map(h, x, y), there, 1e-6);
    }
  }
}

/* What no homography does, or what would send everything to one line, is refused. */
static void test_homography_refused(void **state) {
  tally_point good[4] = {{0, 0}, {100, 0}, {110, 90}, {0, 80}}, bad[4];
  double h[9] = {7, 0, 0, 0, 0, 0, 0, 0, 0}, flat[9] = {1, 2, 3, 2, 4, 6, 0, 0, 1};
  int i, k;
  (void)state;
  for (i = 0; i < 4; i++)
    for (k = 0; k < 4; k++) {
      memcpy(bad, good, sizeof bad);
      if (k == 0) bad[i].x = NAN;
      if (k == 1) bad[i].y = INFINITY;
      if (k == 2) bad[i] = bad[(i + 1) & 3];
      if (k == 3) { /* halfway between two others, but for what rounding may do */
        bad[i].x = (bad[(i + 1) & 3].x + bad[(i + 2) & 3].x) / 2 + 1e-8;
        bad[i].y = (bad[(i + 1) & 3].y + bad[(i + 2) & 3].y) / 2 + 1e-8;
      }
      assert_int_equal(tally_homography(bad, good, h), TALLY_ERROR_ARGUMENT);
      assert_int_equal(tally_homography(good, bad, h), TALLY_ERROR_ARGUMENT);
    }
  assert_int_equal(tally_homography(good, good, NULL), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_homography_invert(flat, h), TALLY_ERROR_ARGUMENT);
  flat[0] = NAN;
  assert_int_equal(tally_homography_invert(flat, h), TALLY_ERROR_ARGUMENT);
  assert_true(h[0] == 7);
  /* The origin of one plane may be what a camera sees nowhere: on the line that goes to infinity. */
  for (i = 0; i < 4; i++) {
    good[i].x += 100;
    bad[i].x = 1000 * good[i].y / good[i].x;
    bad[i].y = 1000 / good[i].x;
  }
  assert_int_equal(tally_homography(good, bad, h), TALLY_OK);
  for (i = 0; i < 4; i++) assert_near(tally_homography_map(h, good[i].x, good[i].y), bad[i], 1e-6);
}

/* The inverse leads back, a product does one after the other, and areas grow by the scale's square;
   results may be written over the matrices they come from. */
static void test_homography_algebra(void **state) {
  int round, i;
  (void)state;
  for (round = 0; round < 200; round++) {
    tally_point a[4], b[4], c[4], p, q, right, below;
    double ab[9], bc[9], ac[9], back[9], area, tiny = 1e-3;
    any_four(900, a);
    any_four(600, b);
    any_four(700, c);
    assert_int_equal(tally_homography(a, b, ab), TALLY_OK);
    assert_int_equal(tally_homography(b, c, bc), TALLY_OK);
    memcpy(back, ab, sizeof back);
    assert_int_equal(tally_homography_invert(back, back), TALLY_OK);
    tally_homography_multiply(ab, back, ac);
    for (i = 0; i < 9; i++) assert_true(fabs(ac[i] - (i % 4 == 0)) < 1e-6);
    p = tally_homography_map(ab, a[0].x + 40, a[0].y - 30);
    q.x = a[0].x + 40;
    q.y = a[0].y - 30;
    assert_near(tally_homography_map(back, p.x, p.y), q, 1e-5);
    p = tally_homography_map(bc, p.x, p.y);
    tally_homography_multiply(bc, ab, ac);
    assert_near(tally_homography_map(ac, q.x, q.y), p, 1e-5);
    tally_homography_multiply(bc, ab, ab);
    assert_memory_equal(ab, ac, sizeof ab);
    q.x = (a[0].x + a[2].x) / 2;
    q.y = (a[0].y + a[2].y) / 2;
    p = tally_homography_map(ac, q.x, q.y);
    right = tally_homography_map(ac, q.x + tiny, q.y);
    below = tally_homography_map(ac, q.x, q.y + tiny);
    area = fabs((right.x - p.x) * (below.y - p.y) - (right.y - p.y) * (below.x - p.x));
    assert_true(fabs(tally_homography_scale(ac, q.x, q.y) / (sqrt(area) / tiny) - 1) < 1e-3);
  }
}

static void test_threshold_adaptive(void **state) {
  tally_image image = noise_image(40, 31, 1), out;
  int level, x, y, i, j;
  (void)state;
  for (level = 1; level < 60; level += 19) {
    assert_int_equal(tally_threshold_adaptive(&image, level, 10, &out), TALLY_OK);
    for (y = 0; y < 31; y++)
      for (x = 0; x < 40; x++) {
        int sum = 0, n = 0;
        for (j = y - level; j <= y + level; j++)
          for (i = x - level; i <= x + level; i++)
            if (i >= 0 && j >= 0 && i < 40 && j < 31) {
              sum += pixel(&image, i, j, 0);
              n++;
            }
        assert_int_equal(pixel(&out, x, y, 0), (pixel(&image, x, y, 0) + 10) * n < sum ? 255 : 0);
      }
    tally_image_free(&out);
  }
  tally_image_free(&image);
}

static void flood(const tally_image *image, int *seen, int x, int y, int label) {
  static int stack[200000];
  int n = 0;
  stack[n++] = y * image->width + x;
  seen[stack[0]] = label;
  while (n > 0) {
    int at = stack[--n], i, j;
    for (j = at / image->width - 1; j <= at / image->width + 1; j++)
      for (i = at % image->width - 1; i <= at % image->width + 1; i++) {
        if (i < 0 || j < 0 || i >= image->width || j >= image->height) continue;
        if (!pixel(image, i, j, 0) || seen[j * image->width + i]) continue;
        seen[j * image->width + i] = label;
        stack[n++] = j * image->width + i;
      }
  }
}

static void test_components(void **state) {
  int round;
  (void)state;
  for (round = 0; round < 12; round++) {
    int width = 1 + (int)uniform(0, 90), height = 1 + (int)uniform(0, 70), x, y, n = 0, count, i;
    double fill = uniform(0.1, 0.9);
    tally_image image = noise_image(width, height, 1);
    int *labels = (int *)malloc((size_t)(width * height) * sizeof(int));
    int *seen = (int *)calloc((size_t)(width * height), sizeof(int));
    tally_component parts[10];
    for (i = 0; i < width * height; i++) image.pixels[i] = image.pixels[i] < 255 * fill;
    count = tally_components(&image, labels, parts, 10);
    for (y = 0; y < height; y++)
      for (x = 0; x < width; x++)
        if (pixel(&image, x, y, 0) && !seen[y * width + x]) flood(&image, seen, x, y, ++n);
    assert_int_equal(count, n);
    assert_memory_equal(labels, seen, (size_t)(width * height) * sizeof(int));
    for (i = 0; i < count && i < 10; i++) {
      int area = 0;
      double sx = 0, syy = 0, sy = 0;
      for (y = 0; y < height; y++)
        for (x = 0; x < width; x++)
          if (seen[y * width + x] == i + 1) {
            area++;
            sx += x;
            sy += y;
            syy += (double)y * y;
            assert_in_range(x, parts[i].left, parts[i].right);
            assert_in_range(y, parts[i].top, parts[i].bottom);
          }
      assert_int_equal(parts[i].area, area);
      assert_true(fabs(parts[i].x - sx / area) < 1e-9);
      assert_true(fabs(parts[i].yy - (syy / area - sy / area * sy / area)) < 1e-6);
    }
    free(labels);
    free(seen);
    tally_image_free(&image);
  }
}

/* ---- templates ----------------------------------------------------------------------------- */

static tally_template mexico, c1;

static void load_template(const char *name, tally_template *form) {
  char path[200], text[20000];
  tally_error error;
  size_t n;
  FILE *file;
  snprintf(path, sizeof path, "examples/templates/%s.form", name);
  file = fopen(path, "rb");
  if (!file) {
    snprintf(path, sizeof path, "../examples/templates/%s.form", name);
    file = fopen(path, "rb");
  }
  assert_non_null(file);
  n = fread(text, 1, sizeof text, file);
  fclose(file);
  if (tally_template_parse(text, n, form, &error) != TALLY_OK)
    fail_msg("%s:%d:%d: %s", path, error.line, error.column, error.message);
}

static int load_templates(void **state) {
  (void)state;
  load_template("mexico-2015", &mexico);
  load_template("c1-2019", &c1);
  return 0;
}

static void test_template_values(void **state) {
  (void)state;
  assert_string_equal(mexico.name, "mexico-2015-diputados");
  assert_int_equal(mexico.fields, 16);
  assert_int_equal(mexico.cells, 48);
  assert_int_equal(mexico.sums, 1);
  assert_int_equal(mexico.sum[0].parts, 15);
  assert_int_equal(mexico.anchor[2].kind, TALLY_ANCHOR_DISC);
  assert_true(mexico.anchor[2].box.x == 460 && mexico.anchor[2].box.width == 80);
  assert_int_equal(mexico.cross, TALLY_MARK_LEADING_ZERO);
  assert_int_equal(c1.fields, 5);
  assert_int_equal(c1.sums, 2);
  assert_int_equal(c1.sum[1].total, tally_template_field(&c1, "total"));
  assert_int_equal(c1.field[2].first_cell, 6);
  assert_true(c1.field[2].cell[1].x == 834 + 41);
  assert_int_equal(tally_template_field(&c1, "nobody"), -1);
}

#define HEAD                                                                                       \
  "page 1000 x 800\nanchor a square 0,0 20x20\nanchor b square 900,0 20x20\nanchor c square "      \
  "0,700 20x20\n"

static void test_template_errors(void **state) {
  static const struct {
    const char *text;
    int line, column;
    const char *message;
  } cases[] = {
      {"field A 1 digits cells 1,1 1x20x20\n", 1, 1, "page statement must come first"},
      {HEAD "field A 3 digits cells 10,10 2x20x20\n", 5, 30, "3 digits need 3 cells"},
      {HEAD "field A 3 digits cells 950,10 3x20x20\n", 5, 24,
       "cell 3 of field 'A' lies off the page"},
      {HEAD "field A 3 digits cells 50,10 3x20x20\nfield B 1 digits cells 80,25 1x20x20\n", 6, 24,
       "overlaps field 'A'"},
      {HEAD "field A 3 digits cells 50,10 3x20x20 pitch 10\n", 5, 44, "overlap"},
      {HEAD "field A 1 digits cells 50,10 1x20x20\nfield A 1 digits cells 80,10 1x20x20\n", 6, 7,
       "a second field 'A'"},
      {HEAD "field A 7 digits cells 50,10 7x20x20\n", 5, 9, "1 to 6 digits"},
      {HEAD "field A 1 digits cells 50,10 1x20x20\nsum A = B\n", 6, 9, "unknown field 'B'"},
      {HEAD "field A 1 digits cells 50,10 1x20x20\nsum A = A\n", 6, 9, "part of itself"},
      {HEAD "field A 1 digits cells 50,10 1x20x20\nfield B 1 digits cells 80,10 1x20x20\nsum A = B "
            "+ B\n",
       7, 13, "added twice"},
      {HEAD
       "field A 1 digits cells 50,10 1x20x20\nfield B 1 digits cells 80,10 1x20x20\nsum A = B +\n",
       7, 12, "expected a field's name"},
      {HEAD
       "field A 5 digits cells 50,10 5x20x20\nfield B 1 digits cells 250,10 1x20x20\nsum A = B\n",
       7, 5, "too many for a sum"},
      {HEAD "anchor a square 50,50 20x20\n", 5, 8, "a second anchor 'a'"},
      {HEAD "anchor d square 990,50 20x20\n", 5, 17, "off the page"},
      {HEAD "anchor d colour hsv(10..20, 60..50, 0..100) box 5,5 9x9\n", 5, 33, "backwards"},
      {HEAD "anchor d colour hsv(10..400, 6..50, 0..100) box 5,5 9x9\n", 5, 21, "within 0..360"},
      {HEAD "anchor d round 1,1 5x5\n", 5, 10, "expected 'colour' or 'square'"},
      {HEAD "rule across 20 from 60 to 50\n", 5, 27, "ends before it begins"},
      {HEAD "rule down 1200 from 60 to 90\n", 5, 11, "off the page"},
      {HEAD "blank empty = never\n", 5, 15, "leading-zero"},
      {HEAD "blank empty = illegible empty = illegible\n", 5, 25, "twice"},
      {HEAD "frobnicate\n", 5, 1, "unknown statement"},
      {HEAD "page 10 x 10\n", 5, 1, "second page"},
      {"page 10 x 10\n", 1, 6, "100 to 10000"},
      {HEAD "rule across 20 from 10 to 50 more\n", 5, 30, "unexpected text"},
      {HEAD "rule across 20 from \\\n 10 to x\n", 6, 8, "expected a number"},
      {HEAD "rule across 99999999999999999999999999 from 1 to 2\n", 5, 13, "too many digits"},
      {HEAD, 0, 0, "at least one field"},
      {"page 500 x 500\nfield A 1 digits cells 50,10 1x20x20\n", 0, 0, "three anchors"},
      {"", 0, 0, "no page"},
  };
  size_t i;
  (void)state;
  for (i = 0; i < sizeof cases / sizeof *cases; i++) {
    static tally_template form;
    tally_error error;
    if (tally_template_parse(cases[i].text, strlen(cases[i].text), &form, &error) !=
        TALLY_ERROR_TEMPLATE)
      fail_msg("accepted: %s", cases[i].text);
    if (error.line != cases[i].line || error.column != cases[i].column ||
        !strstr(error.message, cases[i].message))
      fail_msg("%s\n got %d:%d %s, expected %d:%d %s", cases[i].text, error.line, error.column,
               error.message, cases[i].line, cases[i].column, cases[i].message);
  }
}

/* Cut, garbled and repeated templates must be refused or read, and never read out of bounds
   (ASan). */
/* What editors leave: a byte order mark, Windows' line ends, blanks behind lines, no end of the last. */
static void test_template_editors(void **state) {
  static const char *const ends[] = {"\n", "\r\n", " \t \n", "  \r\n"};
  static const char *const lines[] = {"# a comment",
                                      "form small",
                                      "page 300 x 400",
                                      "anchor a square 20,20 36x36",
                                      "anchor b square 240,20 36x36",
                                      "anchor c square 20,340 \\",
                                      "  36x36",
                                      "field F 2 digits cells 100,100 2x40x48 # two",
                                      "",
                                      "blank empty = illegible \\",
                                      "cross = leading-zero"};
  static tally_template want, form;
  tally_error error;
  (void)state;
  for (size_t i = 0; i < 4 * 2 * 2; i++) {
    char text[1000] = "";
    if (i & 4) strcat(text, "\xEF\xBB\xBF");
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
      strcat(text, lines[k]);
      if (k + 1 < sizeof lines / sizeof *lines || !(i & 8)) strcat(text, ends[i & 3]);
    }
    if (tally_template_parse(text, strlen(text), i ? &form : &want, &error) != TALLY_OK)
      fail_msg("text %d: %d:%d: %s", (int)i, error.line, error.column, error.message);
    if (i) assert_memory_equal(&form, &want, sizeof form);
  }
  assert_string_equal(want.name, "small");
  assert_int_equal(want.empty, TALLY_MARK_ILLEGIBLE);
  assert_int_equal(want.cross, TALLY_MARK_LEADING_ZERO);
  assert_int_equal(tally_template_parse("\xEF\xBB\xBFpaper", 8, &form, &error),
                   TALLY_ERROR_TEMPLATE);
  assert_int_equal(error.column, 1);
  assert_string_equal(error.message, "unknown statement 'paper'");
  assert_int_equal(tally_template_parse("\xEF\xBB", 2, &form, &error), TALLY_ERROR_TEMPLATE);
  assert_int_equal(
      tally_template_parse("\xEF\xBB\xBF\xEF\xBB\xBFpage 300 x 400", 20, &form, &error),
      TALLY_ERROR_TEMPLATE);
}

static void test_template_garbage(void **state) {
  static tally_template form;
  char text[6000];
  size_t n, i, round;
  FILE *file = fopen("examples/templates/c1-2019.form", "rb");
  (void)state;
  if (!file) file = fopen("../examples/templates/c1-2019.form", "rb");
  assert_non_null(file);
  n = fread(text, 1, sizeof text, file);
  fclose(file);
  for (i = 0; i < n; i += 7) {
    char *copy = (char *)malloc(i + 1); /* exact size, so that ASan sees an overread */
    memcpy(copy, text, i);
    (void)tally_template_parse(copy, i, &form, NULL);
    free(copy);
  }
  for (round = 0; round < 500; round++) {
    char *copy = (char *)malloc(n);
    memcpy(copy, text, n);
    for (i = 0; i < 4; i++) copy[(size_t)uniform(0, (double)n)] = (char)(int)uniform(-128, 127);
    (void)tally_template_parse(copy, n, &form, NULL);
    free(copy);
  }
}

/* ---- registration -------------------------------------------------------------------------- */

static const view plain_view = {0, 1, 0, 0, 2, 0, {1, 1, 1}};

/* Views over the envelope that the manual states. Every cell corner must come out within 2
   pixels. */
static void sweep(const tally_template *form, int trials) {
  static tally_registration r;
  tally_image page, picture;
  double truth[9];
  int i, f, k;
  draw_form(form, 2, &page);
  for (f = 0; f < form->fields; f++)
    for (k = 0; k < form->field[f].digits; k++)
      draw_symbol(&page, &form->field[f].cell[k], (3 * f + 7 * k) % 13, 0.7, 3, black);
  for (i = 0; i < trials; i++) {
    view v = plain_view;
    double turn;
    v.rotation = i % 3 ? uniform(-180, 180) : 90 * (i / 3 % 4) + uniform(-3, 3);
    v.scale = i == 0 ? 0.5 : i == 1 ? 2 : exp(uniform(log(0.5), log(1.3)));
    v.perspective = uniform(0, 0.08);
    v.blur = v.scale > 0.7 ? i % 2 : 0;
    v.noise = uniform(0, 6);
    v.shade = uniform(0, 0.5);
    for (k = 0; k < 3; k++) v.cast[k] = uniform(0.7, 1);
    look(&page, &v, &picture, truth);
    assert_int_equal(tally_register(&picture, form, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK)
      fail_msg("trial %d (turn %.1f, scale %.2f): %s", i, v.rotation, v.scale, r.reason);
    if (corner_error(form, &r, truth) > 2)
      fail_msg("trial %d: corner off by %.2f", i, corner_error(form, &r, truth));
    assert_true(r.residual >= 0 && r.residual < 1);
    assert_true(fabs(r.scale / v.scale - 1) < 0.2);
    turn = fmod(r.rotation - v.rotation + 900, 360) - 180;
    assert_true(fabs(turn) < 12);
    tally_image_free(&picture);
  }
  tally_image_free(&page);
}

static void test_sweep_colour(void **state) {
  (void)state;
  sweep(&mexico, 14);
}

static void test_sweep_squares(void **state) {
  (void)state;
  sweep(&c1, 14);
}

static void expect_refused(const tally_image *picture, const tally_template *form,
                           const char *what) {
  static tally_registration r;
  static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
  assert_int_equal(tally_register(picture, form, &r), TALLY_OK);
  if (r.status == TALLY_FORM_OK) fail_msg("%s was accepted", what);
  assert_true(strlen(r.reason) > 10);
  assert_int_equal(tally_cut(picture, form, &r, cells), TALLY_ERROR_ARGUMENT);
}

/* Not this form, not all of it, not visible: a reason each time, never a position. */
static void test_refusals(void **state) {
  tally_image page, picture, grey, part;
  double truth[9];
  static tally_template other;
  view v = plain_view;
  int i;
  (void)state;
  draw_form(&c1, 2, &page);
  expect_refused(&page, &mexico, "another form");
  draw_box(&page, 0, 10, 500, 40, paper_white); /* one square left */
  draw_box(&page, 0, 1300, 1000, 114, paper_white);
  expect_refused(&page, &c1, "a form with a single square");
  tally_image_free(&page);

  /* The same four squares round another table: 20 rows moved, as a page 1 would have it. */
  other = c1;
  for (i = 0; i < other.rules; i++) {
    tally_rule *rule = &other.rule[i];
    rule->at += rule->down ? -60 : 37 + 13 * (i % 3);
  }
  for (i = 0; i < other.cells; i++) {
    other.field[i / 3].cell[i % 3].y += 47;
    other.field[i / 3].cell[i % 3].x -= 90;
  }
  draw_form(&other, 2, &page);
  expect_refused(&page, &c1, "another page with the same squares");
  tally_image_free(&page);

  other = c1;
  other.rules = other.fields = 0;
  draw_form(&other, 2, &page);
  expect_refused(&page, &c1, "four squares and no table");
  tally_image_free(&page);

  draw_form(&mexico, 2, &page);
  assert_int_equal(tally_grey(&page, &grey), TALLY_OK);
  expect_refused(&grey, &mexico, "a picture without colour");
  part = crop(&page, 0, 0, 1000, 1000);
  expect_refused(&part, &mexico, "the upper part of a page");
  tally_image_free(&part);
  part = crop(&page, 0, 200, 700, 1400);
  expect_refused(&part, &mexico, "a page without its banner");
  tally_image_free(&part);
  v.blur = 12;
  look(&page, &v, &picture, truth);
  expect_refused(&picture, &mexico, "a blurred page");
  tally_image_free(&picture);
  draw_box(&page, 40, 1420, 600, 150, paper_white);
  expect_refused(&page, &mexico, "a page with nothing but its banner");
  tally_image_free(&page);
  tally_image_free(&grey);

  page = noise_image(700, 900, 3);
  expect_refused(&page, &mexico, "noise");
  expect_refused(&page, &c1, "noise");
  memset(page.pixels, 255, 700 * 900 * 3);
  expect_refused(&page, &c1, "a white page");
  memset(page.pixels, 0, 700 * 900 * 3);
  expect_refused(&page, &mexico, "a black page");
  tally_image_free(&page);
  for (i = 1; i < 40; i += 13) {
    page = noise_image(i, 1 + i / 2, 3);
    expect_refused(&page, &c1, "a tiny picture");
    tally_image_free(&page);
  }
  page = noise_image(3000, 20, 1);
  expect_refused(&page, &c1, "a strip");
  tally_image_free(&page);
}

/* Two anchors and the rules are enough, as of a page that the picture's edge cuts. */
static void test_two_anchors(void **state) {
  static tally_registration r;
  tally_image page, picture, part;
  double truth[9];
  int i;
  (void)state;
  draw_form(&c1, 2, &page);
  for (i = 0; i < 4; i++) {
    view v = plain_view;
    v.rotation = 90 * i + (i & 1 ? 2 : -2);
    v.noise = 4;
    look(&page, &v, &picture, truth);
    if (i == 0) {
      part = crop(&picture, 0, 0, picture.width, picture.height - 130);
    } else {
      double x, y;
      int k;
      assert_int_equal(tally_register(&picture, &c1, &r), TALLY_OK);
      for (k = 0; k < 2; k++) {
        const tally_box *b = &c1.anchor[(i + k) % 4].box;
        tally_registration_map(&r, -1, b->x + 10, b->y + 10, &x, &y);
        draw_box(&picture, x - 18, y - 18, 36, 36, paper_white);
      }
      part = crop(&picture, 0, 0, picture.width, picture.height);
    }
    assert_int_equal(tally_register(&part, &c1, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK) fail_msg("turned by %.0f: %s", v.rotation, r.reason);
    assert_int_equal(r.anchors_found, 2);
    assert_true(corner_error(&c1, &r, truth) < 2);
    tally_image_free(&part);
    tally_image_free(&picture);
  }
  tally_image_free(&page);
}

/* A form of which nothing is printed but anchors is found by four that agree, unless the page would
   look the same in another position; one with rules in a single direction is found by these. */
static void test_anchors_alone(void **state) {
  static tally_template bare;
  static tally_registration r;
  tally_image page, picture;
  double truth[9];
  view v = plain_view;
  int f, i, kept = 0;
  (void)state;
  bare = c1;
  for (f = 0; f < bare.fields; f++) bare.field[f].open = 1;
  for (i = 0; i < bare.rules; i++)
    if (!bare.rule[i].down) bare.rule[kept++] = bare.rule[i];
  bare.rules = 0;
  draw_form(&bare, 0, &page);
  expect_refused(&page, &bare, "a page that looks the same upside down");
  tally_image_free(&page);

  bare.anchor[3].box.x -= 120;
  draw_form(&bare, 0, &page);
  for (i = 0; i < 4; i++) {
    v.rotation = 90 * i + 3;
    look(&page, &v, &picture, truth);
    assert_int_equal(tally_register(&picture, &bare, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK) fail_msg("turned by %.0f: %s", v.rotation, r.reason);
    assert_true(corner_error(&bare, &r, truth) < 2);
    tally_image_free(&picture);
  }
  bare.field[1].cell[0].x = 1200;
  expect_refused(&page, &bare, "a field outside the page");
  tally_image_free(&page);

  bare = c1;
  for (f = 0; f < bare.fields; f++) bare.field[f].open = 1;
  bare.rules = kept;
  for (i = kept = 0; i < c1.rules; i++)
    if (!c1.rule[i].down) bare.rule[kept++] = c1.rule[i];
  draw_form(&bare, 2, &page);
  assert_int_equal(tally_register(&page, &bare, &r), TALLY_OK);
  if (r.status != TALLY_FORM_OK) fail_msg("rules across only: %s", r.reason);
  tally_image_free(&page);
}

/* A table of 30 rows of 24, its columns 34 wide, printed (x, y) from where the template has it. */
static void shifted_rows(double x, double y, tally_template *form) {
  char text[8000];
  size_t used = 0;
  int i;
  used += (size_t)snprintf(text, sizeof text,
                           "form rows\npage 1000 x 1414\n"
                           "anchor a square 20,20 21x21\nanchor b square 960,20 21x21\n"
                           "anchor c square 20,1374 21x21\nanchor d square 960,1374 21x21\n"
                           "rule down %g from %g to %g\nrule down %g from %g to %g\n",
                           100 + x, 200 + y, 920 + y, 500 + x, 200 + y, 920 + y);
  for (i = 0; i <= 30; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "rule across %g from %g to %g\n",
                             200 + 24 * i + y, 100 + x, 800 + x);
  for (i = 0; i < 30; i++)
    used +=
        (size_t)snprintf(text + used, sizeof text - used,
                         "field r%d 3 digits cells %g,%g 3x34x24\n", i, 800 + x, 200 + 24 * i + y);
  assert_true(used < sizeof text);
  assert_int_equal(tally_template_parse(text, used, form, NULL), TALLY_OK);
}

/* Rows that look alike: a table that stands off its anchors is found where it is, or refused; never a
   row or a column off. */
static void test_equal_rows(void **state) {
  static const double shifts[][2] = {{0, 0},  {0, 12}, {0, -12}, {10, -8}, {0, 20},  {0, -24},
                                     {0, 24}, {0, 44}, {0, -48}, {34, 0},  {-34, 0}, {-24, 24}};
  static tally_template form, printed;
  static tally_registration r;
  tally_image page, picture;
  double truth[9];
  size_t i;
  int turn;
  (void)state;
  shifted_rows(0, 0, &form);
  for (i = 0; i < sizeof shifts / sizeof *shifts; i++) {
    double x = shifts[i][0], y = shifts[i][1];
    shifted_rows(x, y, &printed);
    draw_form(&printed, 2, &page);
    for (turn = 0; turn < 2; turn++) {
      view v = plain_view;
      v.rotation = turn ? 181 : -1;
      v.noise = 5;
      look(&page, &v, &picture, truth);
      assert_int_equal(tally_register(&picture, &form, &r), TALLY_OK);
      truth[2] += truth[0] * x + truth[1] * y; /* no perspective: w is 1 */
      truth[5] += truth[3] * x + truth[4] * y;
      if (r.status == TALLY_FORM_OK && corner_error(&form, &r, truth) > 2)
        fail_msg("moved by %.0f,%.0f: off by %.1f", x, y, corner_error(&form, &r, truth));
      if (r.status != TALLY_FORM_OK && fabs(x) + fabs(y) < 20)
        fail_msg("moved by %.0f,%.0f: %s", x, y, r.reason);
      tally_image_free(&picture);
    }
    tally_image_free(&page);
  }
  /* Without the table's first rule no end of it is known. */
  shifted_rows(0, 0, &form);
  form.rules--;
  form.rule[2] = form.rule[form.rules];
  form.fields = 29;
  for (i = 0; i < 29; i++) form.field[i] = form.field[i + 1];
  shifted_rows(0, 0, &printed);
  draw_form(&printed, 2, &page);
  expect_refused(&page, &form, "a part of a table");
  tally_image_free(&page);
}

/* ---- printed labels ------------------------------------------------------------------------- */

/* Prints something of its own beside each field. */
static void draw_labels(const tally_template *form, uint64_t seed, tally_image *page) {
  int f, i;
  random_state = seed;
  for (f = 0; f < form->fields; f++)
    for (i = 0; i < 24; i++)
      draw_box(page, 120 + uniform(0, 330), form->field[f].cell[0].y + 10 + uniform(0, 12),
               uniform(3, 9), uniform(3, 9), black);
}

/* A reference print of a form that is registered in a picture. */
static void print_from(const tally_image *picture, const tally_template *form, tally_print *out) {
  static tally_registration r;
  const tally_box all = {100, 100, 400, 1000};
  char text[4000];
  tally_image seen;
  size_t used;
  int f;
  assert_int_equal(tally_register(picture, form, &r), TALLY_OK);
  assert_int_equal(r.status, TALLY_FORM_OK);
  assert_int_equal(tally_print_view(picture, &r, &all, &seen), TALLY_OK);
  used = (size_t)snprintf(text, sizeof text, "form %s\nprint 100,100 400x1000\n", form->name);
  for (f = 0; f < form->fields; f++)
    used +=
        (size_t)snprintf(text + used, sizeof text - used, "label %s 110,%d 380x34 beside %d,%d\n",
                         form->field[f].name, (int)form->field[f].cell[0].y + 2,
                         (int)form->field[f].cell[0].x, (int)form->field[f].cell[0].y);
  assert_int_equal(tally_print_make(text, used, &seen, out, NULL), TALLY_OK);
  assert_int_equal(out->labels, form->fields);
  tally_image_free(&seen);
}

/* A form is refused where the row of a field bears another field's label, and only there; a page with
   other print is not compared. */
static void test_labels(void **state) {
  static tally_template form, other;
  static tally_registration r;
  static tally_print print;
  tally_image page, picture;
  double truth[9];
  int i, f;
  (void)state;
  draw_form(&c1, 2, &page);
  for (f = 0; f < c1.fields; f++)
    draw_box(&page, 60, c1.field[f].cell[0].y + 3, 700, 32, paper_white);
  draw_labels(&c1, 7, &page);
  print_from(&page, &c1, &print);
  for (i = 0; i < 6; i++) {
    view v = plain_view;
    v.rotation = i == 1 ? 180 : uniform(-3, 3);
    v.scale = i == 2 ? 0.5 : i == 3 ? 1.9 : 0.9;
    v.perspective = 0.02;
    v.blur = i == 4;
    v.shade = 0.4;
    v.noise = 6;
    look(&page, &v, &picture, truth);
    assert_int_equal(tally_register_print(&picture, &c1, &print, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK) fail_msg("view %d: %s", i, r.reason);
    assert_int_equal(r.labels_compared, c1.fields);
    form = c1;
    form.field[0] = c1.field[1];
    form.field[1] = c1.field[0];
    strcpy(form.field[0].name, "01");
    strcpy(form.field[1].name, "02");
    assert_int_equal(tally_register_print(&picture, &form, &print, &r), TALLY_OK);
    assert_int_equal(r.status, TALLY_FORM_WRONG);
    assert_non_null(strstr(r.reason, "the row of 01 bears the label of 02"));
    form = c1; /* each field a row off */
    for (f = 0; f < c1.fields; f++) strcpy(form.field[f].name, c1.field[(f + 1) % c1.fields].name);
    assert_int_equal(tally_register_print(&picture, &form, &print, &r), TALLY_OK);
    assert_int_equal(r.status, TALLY_FORM_WRONG);
    strcpy(form.field[1].name, "x"); /* names that the reference print has not */
    form.fields = 2;
    strcpy(form.field[0].name, "y");
    form.field[0].open = form.field[1].open = 1;
    assert_int_equal(tally_register_print(&picture, &form, &print, &r), TALLY_OK);
    assert_int_equal(r.labels_compared, 0);
    tally_image_free(&picture);
  }
  /* Nothing printed but anchors that look the same upside down: the labels tell. */
  form = c1;
  form.rules = 0;
  for (f = 0; f < form.fields; f++) form.field[f].open = 1;
  for (i = 0; i < 4; i++) {
    view v = plain_view;
    v.rotation = 90 * i + 2;
    look(&page, &v, &picture, truth);
    expect_refused(&picture, &form, "a page that looks the same upside down");
    assert_int_equal(tally_register_print(&picture, &form, &print, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK) fail_msg("turn %d: %s", i, r.reason);
    assert_true(corner_error(&form, &r, truth) < 2);
    tally_image_free(&picture);
  }
  draw_form(&c1, 2, &picture);
  for (f = 0; f < c1.fields; f++)
    draw_box(&picture, 60, c1.field[f].cell[0].y + 3, 700, 32, paper_white);
  draw_labels(&c1, 99, &picture);
  for (i = 0; i < 2; i++) {
    other = c1;
    if (i == 1) strcpy(other.field[0].name, "02"), strcpy(other.field[1].name, "01");
    assert_int_equal(tally_register_print(&picture, &other, &print, &r), TALLY_OK);
    if (r.status != TALLY_FORM_OK) fail_msg("another print: %s", r.reason);
    assert_int_equal(r.labels_compared, 0);
  }
  tally_image_free(&picture);
  tally_image_free(&page);
  tally_print_free(&print);
}

static void test_print_errors(void **state) {
  static const struct {
    const char *text, *message;
    int line;
  } cases[] = {
      {"form a\nprint 0,0 40x30\nlabel x 0,0 41x9 beside 50,0\n", "outside the picture", 3},
      {"label x 0,0 10x9 beside 50,0\n", "print statement must come first", 1},
      {"print 0,0 40x30\nlabel x 0,0 9x9 beside 50,0\nlabel x 0,9 9x9 beside 50,9\n",
       "second label", 3},
      {"print 0,0 40x30\nprint 0,0 40x30\n", "second print", 2},
      {"print 0,0 40x31\n", "the picture measures 40 x 30", 0},
      {"print 99999,0 40x30\n", "whole numbers, within 0..10000", 1},
      {"print 0.5,0 40x30\n", "whole numbers", 1},
      {"print 0,0 40x30\nlabel x 0,0.5 9x9 beside 50,0\n", "whole numbers", 2},
      {"print 0,0 40x30\nlabel x 0,0 9x9 beside 99999,0\n", "off the page", 2},
      {"print 0,0 40x30\nlabel x 0,0 9x9\n", "beside", 2},
      {"print 0,0 40x30\nrule across 3 from 0 to 9\n", "unknown statement", 2},
      {"form a\n", "no print statement", 0},
  };
  static tally_print print;
  tally_image picture = noise_image(40, 30, 1);
  size_t i;
  (void)state;
  for (i = 0; i < sizeof cases / sizeof *cases; i++) {
    tally_error error;
    assert_int_equal(
        tally_print_make(cases[i].text, strlen(cases[i].text), &picture, &print, &error),
        TALLY_ERROR_TEMPLATE);
    if (!strstr(error.message, cases[i].message) || error.line != cases[i].line)
      fail_msg("case %d: line %d: %s", (int)i, error.line, error.message);
    assert_null(print.picture.pixels);
  }
  assert_int_equal(tally_print_make(NULL, 0, &picture, &print, NULL), TALLY_ERROR_ARGUMENT);
  tally_image_free(&picture);
}

/* ---- cells --------------------------------------------------------------------------------- */

static double similarity(const uint8_t *a, const uint8_t *b) {
  double ab = 0, aa = 0, bb = 0;
  int x, y, i, j;
  for (y = 0; y < 28; y++)
    for (x = 0; x < 28; x++) {
      /* Compared through a 3 x 3 mean: a pixel's shift is no difference. */
      double u = 0, w = 0;
      for (j = y - 1; j <= y + 1; j++)
        for (i = x - 1; i <= x + 1; i++)
          if (i >= 0 && j >= 0 && i < 28 && j < 28) {
            u += a[28 * j + i];
            w += b[28 * j + i];
          }
      ab += u * w;
      aa += u * u;
      bb += w * w;
    }
  return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa == bb;
}

/* Registers and cuts a page seen in a given way. */
static void cut_page(const tally_image *page, const tally_template *form, const view *v,
                     tally_cell *cells) {
  static tally_registration r;
  tally_image picture;
  double truth[9];
  look(page, v, &picture, truth);
  assert_int_equal(tally_register(&picture, form, &r), TALLY_OK);
  assert_int_equal(r.status, TALLY_FORM_OK);
  assert_int_equal(tally_cut(&picture, form, &r, cells), TALLY_OK);
  tally_image_free(&picture);
}

static int symbol_at(int cell) {
  return (7 * cell + cell / 3) % 12;
}

/* Whatever the view, pen and light, a cell looks like its symbol and like no other, is centred
   and fits
   20 x 20; empty cells are seen as empty. */
static void test_cells_look_right(void **state) {
  static tally_cell ideal[48], cells[48];
  static const double pens[3][3] = {
      {25, 25, 28}, {30, 50, 160}, {150, 150, 152}}; /* black, blue, pencil */
  tally_image page;
  int round, f, k, i, j;
  (void)state;
  for (round = -1; round < 6; round++) {
    view v = plain_view;
    draw_form(&mexico, round % 2 ? 2 : 3, &page);
    for (f = 0; f < 16; f++)
      for (k = 0; k < 3; k++)
        draw_symbol(&page, &mexico.field[f].cell[k], symbol_at(3 * f + k),
                    round < 0 ? 0.7 : uniform(0.5, 0.8), round < 0 ? 4 : 2.5 + 0.6 * round,
                    pens[round < 0 ? 0 : round % 3]);
    if (round >= 0) {
      v.rotation = 57 * round;
      v.scale = 0.7 + 0.15 * round;
      v.perspective = 0.04;
      v.shade = 0.4;
      v.noise = 4;
    }
    cut_page(&page, &mexico, &v, round < 0 ? ideal : cells);
    tally_image_free(&page);
    for (i = 0; i < 48 && round >= 0; i++) {
      double mass = 0, mx = 0, my = 0, own, best = 0;
      int left = 28, right = -1, top = 28, bottom = -1;
      if (symbol_at(i) == 11) {
        assert_int_equal(cells[i].state, TALLY_CELL_EMPTY);
        continue;
      }
      assert_int_not_equal(cells[i].state, TALLY_CELL_EMPTY);
      for (j = 0; j < 784; j++) {
        mass += cells[i].clean[j];
        mx += cells[i].clean[j] * (j % 28 + 0.5);
        my += cells[i].clean[j] * (j / 28 + 0.5);
        if (cells[i].clean[j] < 100) continue;
        left = j % 28 < left ? j % 28 : left;
        right = j % 28 > right ? j % 28 : right;
        top = j / 28 < top ? j / 28 : top;
        bottom = j / 28 > bottom ? j / 28 : bottom;
      }
      assert_true(fabs(mx / mass - 14) < 0.6 && fabs(my / mass - 14) < 0.6);
      assert_in_range(right - left > bottom - top ? right - left + 1 : bottom - top + 1, 17, 23);
      own = similarity(cells[i].clean, ideal[i].clean);
      for (j = 0; j < 48; j++)
        if (symbol_at(j) != symbol_at(i) && symbol_at(j) != 11 &&
            similarity(cells[i].clean, ideal[j].clean) > best)
          best = similarity(cells[i].clean, ideal[j].clean);
      if (own < 0.85 || own < best)
        fail_msg("round %d cell %d symbol %d: likeness %.3f, to another %.3f", round, i,
                 symbol_at(i), own, best);
    }
  }
}

static double ink_rows(const tally_cell *cell, int *top, int *bottom) {
  double mass = 0;
  int j;
  *top = 28;
  *bottom = -1;
  for (j = 0; j < 784; j++) {
    mass += cell->clean[j];
    if (cell->clean[j] > 100) {
      *top = j / 28 < *top ? j / 28 : *top;
      *bottom = j / 28 > *bottom ? j / 28 : *bottom;
    }
  }
  return mass;
}

/* Strokes across rules, ink outside the box, stains, dashes, specks. */
static void test_cells_hard(void **state) {
  static const double stain[3] = {190, 175, 140}, blue[3] = {30, 50, 170};
  static tally_cell cells[48], bare[48];
  tally_image page;
  const tally_box *c;
  int i, top, bottom;
  (void)state;
  draw_form(&mexico, 3, &page);
  cut_page(&page, &mexico, &plain_view, bare);
  for (i = 0; i < 48; i++) {
    assert_int_equal(bare[i].state, TALLY_CELL_EMPTY);
    assert_true(ink_rows(&bare[i], &top, &bottom) == 0);
  }
  /* 0: a long stroke through the lower rule; 1: a 4 whose tail hangs out; the row below stays
     empty. */
  c = &mexico.field[0].cell[0];
  draw_stroke(&page, c->x + 30, c->y + 10, c->x + 33, c->y + 62, 3, black);
  c = &mexico.field[0].cell[1];
  draw_stroke(&page, c->x + 20, c->y + 8, c->x + 12, c->y + 32, 3, black);
  draw_stroke(&page, c->x + 12, c->y + 32, c->x + 48, c->y + 32, 3, black);
  draw_stroke(&page, c->x + 40, c->y + 12, c->x + 40, c->y + 63, 3, black);
  /* 2: a 7 whose bar crosses into the cell before. */
  c = &mexico.field[0].cell[2];
  draw_stroke(&page, c->x - 8, c->y + 12, c->x + 45, c->y + 12, 3, blue);
  draw_stroke(&page, c->x + 45, c->y + 12, c->x + 25, c->y + 42, 3, blue);
  /* 3..5: stain with nothing; stain under a 0; dash. */
  c = &mexico.field[1].cell[0];
  for (i = 0; i < 20; i++) { /* soft at the edge */
    double shade[3];
    int k;
    for (k = 0; k < 3; k++) shade[k] = paper_white[k] + (stain[k] - paper_white[k]) * (i + 1) / 20;
    draw_stroke(&page, c->x + 60, c->y + 25, c->x + 65, c->y + 28, 90 - 2 * i, shade);
  }
  draw_symbol(&page, &mexico.field[1].cell[1], 0, 0.7, 3, black);
  draw_symbol(&page, &mexico.field[1].cell[2], 12, 0.7, 3, black);
  /* 6: specks. 7: an 1 that stands on the lower rule. */
  c = &mexico.field[2].cell[0];
  draw_box(&page, c->x + 20, c->y + 20, 2, 2, black);
  draw_box(&page, c->x + 44, c->y + 31, 2, 2, black);
  c = &mexico.field[2].cell[1];
  draw_stroke(&page, c->x + 30, c->y + 14, c->x + 30, c->y + 50, 3, black);
  cut_page(&page, &mexico, &plain_view, cells);
  tally_image_free(&page);
  assert_int_equal(cells[0].state, TALLY_CELL_TOUCHING);
  ink_rows(&cells[0], &top, &bottom);
  assert_true(bottom - top + 1 >= 18);
  assert_true(cells[0].ink > 0.04); /* the part below the box is kept: 52 x 3 of 60 x 50 */
  assert_int_equal(cells[1].state, TALLY_CELL_TOUCHING);
  assert_true(cells[1].ink > 0.08);
  assert_int_equal(cells[2].state, TALLY_CELL_TOUCHING);
  assert_true(cells[2].ink > 0.07);
  assert_int_equal(cells[3].state, TALLY_CELL_EMPTY);
  assert_int_equal(cells[4].state, TALLY_CELL_INK);
  assert_int_equal(cells[4].dash, 0);
  assert_int_equal(cells[5].dash, 1);
  assert_int_equal(cells[6].state, TALLY_CELL_EMPTY);
  assert_int_not_equal(cells[7].state, TALLY_CELL_EMPTY);
  for (i = 8; i < 48; i++) assert_int_equal(cells[i].state, TALLY_CELL_EMPTY);
}

/* Ink over all that is looked at round a cell: it has room there too. */
static void test_cells_crossed_out(void **state) {
  static tally_cell cells[48];
  tally_template form = mexico;
  const tally_box *c = &form.field[0].cell[0];
  tally_image page;
  double reach = 24 * c->height / 48; /* the margin, and a little more */
  (void)state;
  form.field[0].digits = 1;
  draw_form(&form, 2, &page);
  draw_stroke(&page, c->x - reach, c->y - reach, c->x + c->width + reach, c->y + c->height + reach,
              4, black);
  draw_stroke(&page, c->x + c->width + reach, c->y - reach, c->x - reach, c->y + c->height + reach,
              4, black);
  cut_page(&page, &form, &plain_view, cells);
  tally_image_free(&page);
  assert_int_equal(cells[0].state, TALLY_CELL_TOUCHING);
  assert_true(cells[0].ink > 0.1);
}

/* Digits that run into each other, all in one piece of ink: no cell may look empty, for an empty
   cell is
   a leading zero. */
static void test_cells_joined(void **state) {
  static tally_cell cells[48];
  tally_image page;
  int f, k;
  (void)state;
  draw_form(&mexico, 2, &page);
  for (f = 0; f < 16; f++) {
    const tally_box *c = &mexico.field[f].cell[0];
    for (k = 0; k < 3; k++)
      draw_symbol(&page, &mexico.field[f].cell[k], (f + 3 * k) % 10, 0.7, 3, black);
    draw_stroke(&page, c->x + 22, c->y + 25, c->x + 95, c->y + 20 + f / 2, 3, black);
    if (f % 2) draw_stroke(&page, c->x + 80, c->y + 30, c->x + 150, c->y + 24, 3, black);
  }
  /* A heavy 8 tied to a thin 1, which holds little of the ink they make together. */
  draw_box(&page, 622, 295, 176, 46, paper_white);
  draw_rule(&page, 1, 680, 293, 343, 2, black);
  draw_rule(&page, 1, 740, 293, 343, 2, black);
  draw_symbol(&page, &mexico.field[0].cell[0], 8, 0.7, 5, black);
  draw_stroke(&page, 660, 318, 706, 318, 3, black);
  draw_stroke(&page, 706, 306, 706, 330, 2, black);
  draw_symbol(&page, &mexico.field[0].cell[2], 3, 0.7, 3, black);
  cut_page(&page, &mexico, &plain_view, cells);
  tally_image_free(&page);
  for (k = 0; k < 48; k++) {
    if (cells[k].state == TALLY_CELL_EMPTY) fail_msg("cell %d is seen as empty", k);
    assert_true(cells[k].ink > 0.015);
  }
}

/* A table of rows 24 high that share their rules, three cells each. */
static void dense_form(tally_template *form) {
  char text[2048];
  int n =
      sprintf(text, "page 600 x 800\nanchor a square 20,20 24x24\nanchor b square 556,20 24x24\n"
                    "anchor c square 20,756 24x24\nanchor d square 556,756 24x24\n"
                    "rule down 60 from 200 to 488\n");
  int row;
  for (row = 0; row < 12; row++)
    n += sprintf(text + n,
                 "field r%d 3 digits cells 400,%d 3x34x24\nrule across %d from 60 to 400\n", row,
                 200 + 24 * row, 200 + 24 * row);
  assert_int_equal(tally_template_parse(text, (size_t)n, form, NULL), TALLY_OK);
}

/* What is written in a cell of the dense form, cut while all its neighbours hold nothing (symbol 11)
   or something. */
static void cut_dense(const tally_template *form, int symbol, int above, int below, double size,
                      tally_cell *cell) {
  static tally_cell cells[36];
  const view clear = {0, 2, 0, 0, 0, 0, {1, 1, 1}};
  tally_image page;
  int row;
  draw_form(form, 1.5, &page);
  for (row = 4; row < 7; row++) {
    random_state = 7;
    draw_symbol(&page, &form->field[row].cell[1],
                row == 4   ? above
                : row == 5 ? symbol
                           : below,
                size, 1.7, black);
  }
  cut_page(&page, form, &clear, cells);
  tally_image_free(&page);
  *cell = cells[3 * 5 + 1];
}

/* Where rows lie close, each digit is cut without its neighbours', though they nearly meet at the
   rule between them or hang into the cell; and a long tail is not lost to the row below. */
static void test_cells_dense(void **state) {
  tally_template form;
  tally_cell alone, among;
  uint64_t before = random_state;
  int symbol, other;
  (void)state;
  dense_form(&form);
  for (symbol = 0; symbol < 10; symbol++) {
    cut_dense(&form, symbol, 11, 11, 0.86, &alone);
    for (other = 0; other < 10; other += 3) {
      double alike;
      cut_dense(&form, symbol, other, (other + 5) % 10, 0.86, &among);
      alike = similarity(alone.clean, among.clean);
      if (alike < 0.88)
        fail_msg("%d between %d and %d: likeness %.3f", symbol, other, (other + 5) % 10, alike);
    }
  }
  for (other = 0; other < 4; other++) {
    static const int above[4] = {0, 4, 8, 9}, below[4] = {9, 1, 0, 4};
    cut_dense(&form, 11, above[other], below[other], 1.1, &among);
    if (among.state != TALLY_CELL_EMPTY)
      fail_msg("an empty cell between %d and %d is seen as %s", above[other], below[other],
               tally_cell_state_text(among.state));
  }
  random_state = before;
}

/* Ink of a given share of black. */
static void faint(double share, double out[3]) {
  int k;
  for (k = 0; k < 3; k++) out[k] = paper_white[k] + share * (black[k] - paper_white[k]);
}

/* A faint digit is seen beside dark ones, as the same digit, and as likely written; a faint speck,
   specks alone and an empty cell beside dark ink are not. */
static void test_cells_faint(void **state) {
  static tally_cell cells[48];
  view v = plain_view;
  double grey[3];
  tally_image page;
  const tally_box *c;
  uint64_t before = random_state;
  int i;
  (void)state;
  v.noise = 2;
  draw_form(&mexico, 2, &page);
  for (i = 0; i < 10; i++) { /* the middle cell faint, the last one empty */
    draw_symbol(&page, &mexico.field[i].cell[0], 8, 0.8, 4, black);
    faint(0.12 + 0.02 * i, grey);
    random_state = 3;
    draw_symbol(&page, &mexico.field[i].cell[1], 1 + i % 4, 0.7, 3, grey);
  }
  for (i = 0; i < 4; i++) { /* the same digits dark */
    random_state = 3;
    draw_symbol(&page, &mexico.field[11 + i].cell[1], 1 + i, 0.7, 3, black);
  }
  faint(0.3, grey);
  c = &mexico.field[10].cell[0];
  draw_box(&page, c->x + 30, c->y + 20, 3, 3, grey);
  cut_page(&page, &mexico, &v, cells);
  tally_image_free(&page);
  random_state = before;
  for (i = 0; i < 10; i++) {
    const tally_cell *seen = &cells[3 * i + 1], *dark = &cells[3 * (11 + i % 4) + 1];
    double alike = similarity(seen->clean, dark->clean);
    if (alike < 0.9 || seen->written < (i < 4 ? 0.02 : 0.3))
      fail_msg("digit %d at %.2f: likeness %.3f, written %.3f, %s", 1 + i % 4, 0.12 + 0.02 * i,
               alike, seen->written, tally_cell_state_text(seen->state));
    assert_true(dark->written > 0.99 && dark->whole > 0.98);
    assert_int_equal(cells[3 * i + 2].state, TALLY_CELL_EMPTY);
    assert_true(cells[3 * i + 2].written > 0 && cells[3 * i + 2].written < 0.1);
  }
  assert_int_equal(cells[30].state, TALLY_CELL_EMPTY);
  assert_true(cells[30].written > 0 && cells[30].written < 0.1);
}

/* A 1 on the printed rule beside its cell is not taken for the rule: it is in a cell's ink, and
   its cell says that all is not well. Rules without ink say nothing. */
static void test_cells_on_rule(void **state) {
  static tally_cell cells[48];
  tally_image page;
  const tally_box *c;
  int i;
  (void)state;
  draw_form(&mexico, 2, &page);
  for (i = 0; i < 8; i++) {
    c = &mexico.field[i].cell[0];
    draw_stroke(&page, c->x + 0.5 * (i % 3 - 1), c->y + 9, c->x + 0.5 * (i % 3 - 1), c->y + 42,
                2.5 + 0.3 * i, black);
    draw_symbol(&page, &mexico.field[i].cell[1], 3, 0.7, 3, black);
    draw_symbol(&page, &mexico.field[i].cell[2], 4, 0.7, 3, black);
  }
  cut_page(&page, &mexico, &plain_view, cells);
  tally_image_free(&page);
  for (i = 0; i < 8; i++) {
    int top, bottom;
    ink_rows(&cells[3 * i], &top, &bottom);
    if (cells[3 * i].state == TALLY_CELL_EMPTY || bottom - top < 16)
      fail_msg("row %d: the 1 on the rule is seen as %s", i,
               tally_cell_state_text(cells[3 * i].state));
    assert_true(cells[3 * i].written > 0.3 && cells[3 * i].whole < 0.97);
    assert_true(cells[3 * i + 2].whole > 0.98);
  }
  for (i = 24; i < 48; i++) assert_int_equal(cells[i].state, TALLY_CELL_EMPTY);
}

/* A stroke through three cells, and a cross over all three, leave their ink in each. */
static void test_cells_struck_through(void **state) {
  static tally_cell cells[48];
  tally_image page;
  int f, k;
  (void)state;
  draw_form(&mexico, 2, &page);
  for (f = 0; f < 3; f++) {
    const tally_box *c = &mexico.field[f].cell[0];
    if (f < 2)
      for (k = 0; k < 3; k++)
        draw_symbol(&page, &mexico.field[f].cell[k], f == 0 ? 1 : 4, 0.7, 3, black);
    if (f < 2) {
      draw_stroke(&page, c->x + 8, c->y + 20 + 4 * f, c->x + 172, c->y + 28, 3, black);
    } else {
      draw_stroke(&page, c->x + 5, c->y + 5, c->x + 175, c->y + 45, 3, black);
      draw_stroke(&page, c->x + 175, c->y + 5, c->x + 5, c->y + 45, 3, black);
    }
  }
  cut_page(&page, &mexico, &plain_view, cells);
  tally_image_free(&page);
  for (f = 0; f < 3; f++)
    for (k = 0; k < 3; k++) {
      const tally_cell *cell = &cells[3 * f + k];
      double across = 0;
      int x, y;
      for (x = 4; x < 24; x++) { /* the stroke goes right across: ink in every column */
        int most = 0;
        for (y = 0; y < 28; y++)
          most = cell->clean[28 * y + x] > most ? cell->clean[28 * y + x] : most;
        across += most > 100;
      }
      if (cell->state != TALLY_CELL_TOUCHING || across < 18)
        fail_msg("row %d cell %d: %s, ink in %.0f of 20 columns", f, k,
                 tally_cell_state_text(cell->state), across);
    }
}

/* Cutting a field again: without a shift the same, with one nearly so for what is well written. */
static void test_cells_shifted(void **state) {
  static tally_cell cells[48], again[3];
  static tally_registration r;
  static const double shifts[6][2] = {{1.5, 0}, {-1.5, 0}, {0, 1.5}, {0, -1.5}, {1, -1}, {-2, 2}};
  tally_image page;
  int k, i;
  (void)state;
  draw_form(&mexico, 2, &page);
  for (k = 0; k < 3; k++) draw_symbol(&page, &mexico.field[4].cell[k], 2 + 3 * k, 0.7, 3, black);
  assert_int_equal(tally_register(&page, &mexico, &r), TALLY_OK);
  assert_int_equal(tally_cut(&page, &mexico, &r, cells), TALLY_OK);
  assert_int_equal(tally_cut_shifted(&page, &mexico, &r, 4, 0, 0, again), TALLY_OK);
  assert_memory_equal(again, &cells[12], sizeof again);
  for (i = 0; i < 6; i++) {
    assert_int_equal(tally_cut_shifted(&page, &mexico, &r, 4, shifts[i][0], shifts[i][1], again),
                     TALLY_OK);
    assert_memory_not_equal(again[0].raw, cells[12].raw, sizeof again[0].raw);
    for (k = 0; k < 3; k++) assert_true(similarity(again[k].clean, cells[12 + k].clean) > 0.97);
  }
  assert_int_equal(tally_cut_shifted(&page, &mexico, &r, 4, 2.5, 0, again), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_cut_shifted(&page, &mexico, &r, 4, 0, NAN, again), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_cut_shifted(&page, &mexico, &r, 16, 0, 0, again), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_cut_shifted(&page, &mexico, &r, -1, 0, 0, again), TALLY_ERROR_ARGUMENT);
  tally_image_free(&page);
}

/* The raw cell is the plain crop, shrunk and inverted: its frame is bright, and it has the ink. */
static void test_cells_raw(void **state) {
  static tally_cell cells[48];
  tally_image page;
  double frame = 0, middle = 0;
  int i;
  (void)state;
  draw_form(&mexico, 4, &page);
  draw_symbol(&page, &mexico.field[3].cell[1], 8, 0.8, 4, black);
  cut_page(&page, &mexico, &plain_view, cells);
  tally_image_free(&page);
  for (i = 0; i < 28; i++) {
    frame += (cells[10].raw[i] + cells[10].raw[27 * 28 + i] + cells[10].raw[28 * i] +
              cells[10].raw[28 * i + 27]) /
             112.0;
    middle += cells[0].raw[28 * 14 + i] / 28.0;
  }
  assert_true(frame > 50);
  assert_true(middle < 40);
}

/* ---- counts -------------------------------------------------------------------------------- */

/* A small form for decoding alone: fields of the given digits, no geometry. */
static tally_template small_form(int fields, const int *digits) {
  static tally_template form;
  int f;
  memset(&form, 0, sizeof form);
  for (f = 0; f < fields; f++) {
    form.field[f].digits = digits[f];
    form.field[f].first_cell = form.cells;
    form.cells += digits[f];
    snprintf(form.field[f].name, TALLY_MAX_NAME, "f%d", f);
  }
  form.fields = fields;
  return form;
}

static void add_sum(tally_template *form, int total, int parts, const int *part) {
  tally_sum *sum = &form->sum[form->sums++];
  sum->total = total;
  sum->parts = parts;
  memcpy(sum->part, part, (size_t)parts * sizeof *part);
  while (parts-- > 0) sum->sign[parts] = 1;
}

/* What a row of classes means, by the grammar: a value, -1 missing, -2 no number. */
static int meaning(const tally_template *form, const int *row, int n) {
  int i = 0, value = 0, blanks = 0, k;
  for (k = 0; k < n; k++) blanks += row[k] == TALLY_CLASS_EMPTY;
  if (blanks == n) return -1;
  while (i < n && row[i] >= 10) {
    if (row[i] == TALLY_CLASS_EMPTY && form->empty == TALLY_MARK_ILLEGIBLE) return -2;
    i++;
  }
  if (i == n) return row[n - 1] == TALLY_CLASS_EMPTY ? -2 : 0;
  for (; i < n; i++) {
    if (row[i] >= 10) return -2;
    value = 10 * value + row[i];
  }
  return value;
}

/* A cell's weights with what cannot be read made any digit: what is left are digits, marks and
   blanks. */
static void any_digit(const tally_template *form, const double *p, double *out) {
  double any = p[TALLY_CLASS_ILLEGIBLE] + p[TALLY_CLASS_STRUCK] + p[TALLY_CLASS_SEVERAL] +
               p[TALLY_CLASS_OVERWRITTEN];
  int k;
  for (k = 0; k < TALLY_CLASSES; k++) out[k] = 0;
  out[TALLY_CLASS_EMPTY] = p[TALLY_CLASS_EMPTY];
  if (form->cross == TALLY_MARK_LEADING_ZERO)
    out[TALLY_CLASS_CROSS] = p[TALLY_CLASS_CROSS];
  else
    any += p[TALLY_CLASS_CROSS];
  if (form->dash == TALLY_MARK_LEADING_ZERO)
    out[TALLY_CLASS_DASH] = p[TALLY_CLASS_DASH];
  else
    any += p[TALLY_CLASS_DASH];
  for (k = 0; k < 10; k++) out[k] = p[k] + any / 10;
}

/* Outcome of a field in the brute force: weight, and value or -1 for missing. */
typedef struct {
  double weight;
  int value;
} outcome;

static int enumerate_field(const tally_template *form, int f, const double *p, outcome *out) {
  int digits = form->field[f].digits, values = 1, rows = 1, i, r;
  double cell[TALLY_MAX_DIGITS][TALLY_CLASSES], even = 0;
  for (i = 0; i < digits; i++) {
    values *= 10;
    rows *= TALLY_CLASSES;
    any_digit(form, p + (form->field[f].first_cell + i) * TALLY_CLASSES, cell[i]);
  }
  for (i = 0; i <= values; i++) {
    out[i].weight = 0;
    out[i].value = i < values ? i : -1;
  }
  for (r = 0; r < rows; r++) {
    int row[TALLY_MAX_DIGITS], rest = r, v;
    double weight = 1;
    for (i = 0; i < digits; i++, rest /= TALLY_CLASSES) {
      row[i] = rest % TALLY_CLASSES;
      weight *= cell[i][row[i]];
    }
    v = meaning(form, row, digits);
    if (v == -2)
      even += weight;
    else
      out[v >= 0 ? v : values].weight += weight;
  }
  for (i = 0; i < values; i++) out[i].weight += even / values;
  return values + 1;
}

/* How likely a clerk writes t where s is right, apart from forgotten parts and from anything. */
static double slip_share(int t, int s, int digits) {
  int place = 1, i, differ = 0, last = -1, gap = abs(t - s);
  double share = 0;
  for (i = 0; i < digits; i++, place *= 10)
    if (t / place % 10 != s / place % 10) {
      differ++;
      last = i;
    }
  if (differ == 1) share += 0.4 / (9 * digits);
  for (i = 0, place = 1; i + 1 < digits; i++, place *= 10) {
    int a = s / place % 10, b = s / place / 10 % 10;
    if (differ == 2 && last == i + 1 && t / place % 10 == b && t / place / 10 % 10 == a)
      share += 0.1 / (digits - 1);
    if (gap == 10 * place) share += 0.15 / (2 * (digits - 1));
  }
  return share;
}

/* The factor of one sum; holds receives the part of it in which the paper adds up. */
static double sum_weight(const tally_template *form, int s, const int *value, double slip,
                         double *holds, int *written) {
  const tally_sum *sum = &form->sum[s];
  int digits = form->field[sum->total].digits, values = 1, i, added = 0, total = value[sum->total];
  double weight = 0;
  for (i = 0; i < digits; i++) values *= 10;
  for (i = 0; i < sum->parts; i++)
    if (value[sum->part[i]] > 0) added += sum->sign[i] * value[sum->part[i]];
  *holds = 0;
  *written = total >= 0;
  if (total < 0) return 0.05;
  if (sum->at_most) {
    *holds = added <= total ? 1 - slip : 0;
    return added <= total ? 1 - slip : slip;
  }
  if (added == total) *holds = 1 - slip;
  if (added >= 0 && added < values) weight += slip_share(total, added, digits);
  for (i = 0; i < sum->parts; i++)
    if (value[sum->part[i]] > 0 && added - sum->sign[i] * value[sum->part[i]] == total)
      weight += 0.15 / sum->parts;
  return *holds + slip * (weight + 0.2 / values);
}

static void compare_with_brute_force(const tally_template *form, const double *p, double slip) {
  static outcome list[6][1001];
  static double marginal[6][1001], drawn[6][1001];
  double total = 0, holds[4] = {0}, checked[4] = {0};
  int size[6], at[6] = {0}, f, s, i, k, done = 0;
  tally_decode_options options = {0};
  tally_counts counts;
  options.slip = slip;
  options.samples = 4000;
  memset(marginal, 0, sizeof marginal);
  memset(drawn, 0, sizeof drawn);
  for (f = 0; f < form->fields; f++) size[f] = enumerate_field(form, f, p, list[f]);
  while (!done) {
    double weight = 1, part[4], others[4];
    int value[6], ok[4];
    for (f = 0; f < form->fields; f++) {
      weight *= list[f][at[f]].weight;
      value[f] = list[f][at[f]].value;
    }
    for (s = 0; s < form->sums; s++) {
      double factor = sum_weight(form, s, value, slip, &part[s], &ok[s]);
      others[s] = factor > 0 ? part[s] / factor : 0;
      weight *= factor;
    }
    total += weight;
    for (f = 0; f < form->fields; f++) marginal[f][at[f]] += weight;
    for (s = 0; s < form->sums; s++) {
      holds[s] += weight * others[s];
      if (ok[s]) checked[s] += weight;
    }
    for (f = 0; f < form->fields && ++at[f] == size[f]; f++) at[f] = 0;
    done = f == form->fields;
  }
  assert_int_equal(tally_decode(form, p, NULL, &options, &counts), TALLY_OK);
  assert_true(counts.left_out < 1e-5);
  for (i = 0; i < counts.samples; i++)
    for (f = 0; f < form->fields; f++) {
      k = counts.sample[i * form->fields + f];
      drawn[f][k >= 0 ? k : size[f] - 1] += 1.0 / counts.samples;
    }
  for (f = 0; f < form->fields; f++) {
    double sum = 0;
    assert_int_equal(counts.values[f] + 1, size[f]);
    for (i = 0; i < size[f]; i++) {
      double truth = marginal[f][i] / total;
      sum += counts.distribution[f][i];
      if (!(fabs(counts.distribution[f][i] - truth) < 1e-9 + counts.left_out))
        fail_msg("field %d outcome %d: %.12g, by brute force %.12g", f, i,
                 counts.distribution[f][i], truth);
      /* five standard deviations and a half of 4,000 samples: 4e-8 each */
      if (!(fabs(drawn[f][i] - truth) < 5.5 * sqrt((truth + 1e-4) / counts.samples) + 1e-3))
        fail_msg("field %d outcome %d: %.6g drawn, by brute force %.6g", f, i, drawn[f][i], truth);
    }
    assert_true(fabs(sum - 1) < 1e-12);
    if (counts.count[f].status == TALLY_COUNT_OK)
      assert_true(counts.count[f].probability == counts.distribution[f][counts.count[f].value]);
  }
  for (s = 0; s < form->sums; s++)
    if (!(fabs(counts.sum[s].probability - holds[s] / checked[s]) < 1e-9 + counts.left_out))
      fail_msg("sum %d holds with %.12g, by brute force %.12g", s, counts.sum[s].probability,
               holds[s] / checked[s]);
  tally_counts_free(&counts);
}

/* Random cells: some sure, some torn between two classes, some flat. */
static void random_cells(double *p, int cells) {
  int i, k;
  for (i = 0; i < cells; i++) {
    double sum = 0, sharp = uniform(0, 1) < 0.3 ? 1 : 12;
    for (k = 0; k < TALLY_CLASSES; k++)
      sum += p[i * TALLY_CLASSES + k] = pow(uniform(0.001, 1), sharp);
    if (uniform(0, 1) < 0.2) {
      sum -= p[i * TALLY_CLASSES + 3];
      p[i * TALLY_CLASSES + 3] = 0; /* exact zeros happen */
    }
    for (k = 0; k < TALLY_CLASSES; k++) p[i * TALLY_CLASSES + k] /= sum;
  }
}

static void test_decode_brute_force(void **state) {
  static const int flat[4] = {1, 1, 1, 2}, chain[5] = {1, 1, 1, 1, 2}, tail[3] = {2, 1, 2},
                   wide[3] = {2, 2, 1};
  static const int first[3] = {0, 1, 2}, pair[2] = {0, 1}, step[2] = {2, 3}, star[2] = {0, 3},
                   difference[2] = {2, 1};
  double p[20 * TALLY_CLASSES];
  int round;
  (void)state;
  for (round = 0; round < 12; round++) {
    tally_template form = small_form(4, flat);
    double wrong = round % 3 ? 0.01 : 0.3;
    form.cross = round & 1 ? TALLY_MARK_ILLEGIBLE : TALLY_MARK_LEADING_ZERO;
    form.empty = round & 2 ? TALLY_MARK_ILLEGIBLE : TALLY_MARK_LEADING_ZERO;
    add_sum(&form, 3, 3, first); /* one sum of three */
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);

    form = small_form(5, chain); /* the C1 chain: f2 = f0 + f1, f4 = f2 + f3 */
    add_sum(&form, 2, 2, pair);
    add_sum(&form, 4, 2, step);
    random_cells(p, form.cells);
    if (round < 4) compare_with_brute_force(&form, p, wrong);

    form = small_form(5, chain); /* three sums meet in f0 */
    add_sum(&form, 2, 2, pair);
    add_sum(&form, 4, 2, star);
    random_cells(p, form.cells);
    if (round < 4) compare_with_brute_force(&form, p, wrong);

    form = small_form(3, tail);
    add_sum(&form, 2, 2, pair);
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);

    form = small_form(3, wide); /* a total too short for its parts */
    add_sum(&form, 2, 2, pair);
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);

    form = small_form(3, tail); /* f0 = f2 - f1, then f0 >= f2 - f1 */
    add_sum(&form, 0, 2, difference);
    form.sum[0].sign[1] = -1;
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);
    form.sum[0].at_most = 1;
    compare_with_brute_force(&form, p, wrong);

    form = small_form(4, flat); /* two sums that share three fields: a loop */
    add_sum(&form, 3, 3, first);
    add_sum(&form, 3, 2, pair);
    form.sum[1].at_most = 1;
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);

    form = small_form(3, tail); /* no sums at all */
    random_cells(p, form.cells);
    compare_with_brute_force(&form, p, wrong);
  }
}

/* Cells that say `text` (digits, X cross, _ empty, ? illegible) with probability sure. */
static void write_cells(double *p, const char *text, double sure) {
  for (; *text; text++) {
    int k, best = *text == 'X'   ? TALLY_CLASS_CROSS
                  : *text == '_' ? TALLY_CLASS_EMPTY
                  : *text == '?' ? TALLY_CLASS_ILLEGIBLE
                                 : *text - '0';
    if (*text == ' ') continue;
    for (k = 0; k < TALLY_CLASSES; k++) *p++ = k == best ? sure : (1 - sure) / (TALLY_CLASSES - 1);
  }
}

static void expect_count(const tally_counts *counts, const char *field, tally_count_status status,
                         int value) {
  const tally_count *count = &counts->count[tally_template_field(&c1, field)];
  if (count->status != status || count->value != value)
    fail_msg("%s: %s %d, expected %s %d (%s)", field, tally_count_status_text(count->status),
             count->value, tally_count_status_text(status), value, count->reason);
  assert_true((count->reason[0] != 0) ==
              (status != TALLY_COUNT_OK && status != TALLY_COUNT_MISSING));
}

/* The C1 form: what must be accepted, flagged, missing and unread. */
static void test_decode_c1(void **state) {
  double p[15 * TALLY_CLASSES];
  tally_counts counts;
  (void)state;
  write_cells(p, "125 X57 182 XX3 185", 0.97);
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_OK, 125);
  expect_count(&counts, "02", TALLY_COUNT_OK, 57);
  expect_count(&counts, "invalid", TALLY_COUNT_OK, 3);
  expect_count(&counts, "total", TALLY_COUNT_OK, 185);
  assert_int_equal(counts.sum[0].state, TALLY_SUM_HOLDS);
  assert_true(counts.sum[1].probability > 0.99);
  assert_true(fabs(counts.quality - 0.97) < 1e-12 && counts.high_quality);
  tally_counts_free(&counts);

  write_cells(p, "127 XXX 127 XXX 127", 0.97); /* crosses alone are 0 */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "02", TALLY_COUNT_OK, 0);
  expect_count(&counts, "total", TALLY_COUNT_OK, 127);
  tally_counts_free(&counts);

  write_cells(p, "_44 _61 105 ___ 150",
              0.999); /* does not add up on paper: as written, and flagged */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "invalid", TALLY_COUNT_MISSING, TALLY_NO_VALUE);
  expect_count(&counts, "total", TALLY_COUNT_REVIEW, 150);
  expect_count(&counts, "valid", TALLY_COUNT_REVIEW, 105);
  expect_count(&counts, "01", TALLY_COUNT_OK, 44);
  assert_int_equal(counts.sum[0].state, TALLY_SUM_HOLDS);
  assert_int_equal(counts.sum[1].state, TALLY_SUM_FAILS);
  assert_true(counts.sum[1].probability < 0.5);
  assert_non_null(strstr(counts.count[4].reason, "does not add up"));
  tally_counts_free(&counts);

  write_cells(p, "___ ___ ___ ___ ___", 0.9); /* missing, never 0 */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[0].value, TALLY_NO_VALUE);
  assert_int_equal(counts.count[4].value, TALLY_NO_VALUE);
  assert_true(counts.count[0].status == TALLY_COUNT_MISSING ||
              counts.count[0].status == TALLY_COUNT_REVIEW);
  assert_true(counts.count[0].missing > 0.7 && counts.distribution[0][0] < 0.05);
  tally_counts_free(&counts);

  write_cells(p, "125 X5? 182 XX3 185", 0.99); /* the sums know it, but nobody has read it */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "02", TALLY_COUNT_INFERRED, 57);
  assert_int_equal(counts.sum[0].state, TALLY_SUM_UNCHECKED);
  tally_counts_free(&counts);

  write_cells(p, "1_5 X57 182 XX3 185", 0.999); /* a hole in a number */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_INFERRED, 125);
  tally_counts_free(&counts);

  write_cells(p, "??? ??? 182 XX3 185", 0.97); /* no sum knows which is which */
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_UNREAD, TALLY_NO_VALUE);
  tally_counts_free(&counts);

  write_cells(p, "125 X57 182 XX3 185",
              0.99); /* 185 seen as 186 by a hair: repaired, but said so */
  p[14 * TALLY_CLASSES + 6] = 0.55;
  p[14 * TALLY_CLASSES + 5] = 0.44;
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "total", TALLY_COUNT_REVIEW, 185);
  assert_int_equal(counts.count[4].own_value, 186);
  assert_int_equal(counts.count[4].changed, 1);
  assert_int_equal(counts.count[4].second, 186);
  assert_true(counts.count[4].second_probability > 0 && counts.count[4].probability > 0.9);
  tally_counts_free(&counts);
}

/* What the cutter saw counts: an empty cell is empty and a dash a dash, whatever a network says. */
static void test_decode_states(void **state) {
  static tally_cell cells[15];
  double p[15 * TALLY_CLASSES];
  tally_counts counts;
  int i;
  (void)state;
  write_cells(p, "125 157 182 113 185", 0.97);
  for (i = 0; i < 15; i++) cells[i].written = cells[i].whole = 1;
  cells[3].written = 1e-6;
  cells[9].dash = cells[10].dash = 1;
  assert_int_equal(tally_decode(&c1, p, cells, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[1].value, 57);
  assert_int_equal(counts.count[3].value, 3);
  tally_counts_free(&counts);
  for (i = 0; i < 15; i++) cells[i].written = 0;
  assert_int_equal(tally_decode(&c1, p, cells, NULL, &counts), TALLY_OK);
  for (i = 0; i < 5; i++) assert_int_equal(counts.count[i].value, TALLY_NO_VALUE);
  tally_counts_free(&counts);
}

static void test_decode_options(void **state) {
  double p[15 * TALLY_CLASSES], plain;
  tally_decode_options options = {0};
  tally_counts counts;
  (void)state;
  write_cells(p, "125 X57 182 XX3 185", 0.8);
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  plain = counts.count[0].probability;
  tally_counts_free(&counts);
  options.temperature = 2;
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_OK);
  assert_true(counts.count[0].probability < plain); /* a higher temperature is less sure */
  tally_counts_free(&counts);
  options.temperature = 1;
  options.risk = 0.5;
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_OK, 125);
  tally_counts_free(&counts);
  options.risk = 1.5;
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_ERROR_ARGUMENT);
  p[5] = NAN;
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_ERROR_ARGUMENT);
  p[5] = -1;
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_ERROR_ARGUMENT);
  memset(p, 0, sizeof p);
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_ERROR_ARGUMENT);
  assert_null(counts.distribution[0]);
}

/* Fifteen parts of three digits: the sum finds the torn cell, and every distribution is
   normalised. */
static void test_decode_mexico(void **state) {
  double p[48 * TALLY_CLASSES];
  tally_counts counts;
  int f, i;
  (void)state;
  write_cells(p, "001 012 003 100 005 036 007 008 009 010 011 002 003 004 005 216", 0.96);
  p[7 * TALLY_CLASSES + 9] = p[7 * TALLY_CLASSES + 0]; /* PRD's tens: 0 or 9? */
  assert_int_equal(tally_decode(&mexico, p, NULL, NULL, &counts), TALLY_OK);
  for (f = 0; f < 16; f++) {
    double sum = 0;
    for (i = 0; i <= counts.values[f]; i++) sum += counts.distribution[f][i];
    assert_true(fabs(sum - 1) < 1e-12);
  }
  assert_int_equal(counts.count[2].value, 3);
  assert_int_equal(counts.count[15].value, 216);
  assert_int_equal(counts.sum[0].state, TALLY_SUM_HOLDS);
  assert_true(counts.count[2].probability > 0.95);
  tally_counts_free(&counts);
}

/* The example of the manual, with a network that takes every cell for an 8. */
static void classify(const tally_cell *cells, int n, double *classes) {
  int i;
  (void)cells;
  for (i = 0; i < n * TALLY_CLASSES; i++) classes[i] = i % TALLY_CLASSES == 8 ? 0.88 : 0.01;
}

static int read_form(const tally_image *picture, const char *text, size_t length) {
  static tally_template form;
  static tally_registration where;
  static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
  static double classes[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS * TALLY_CLASSES];
  tally_counts counts;
  tally_error error;
  int f, eights = 0;
  if (tally_template_parse(text, length, &form, &error) != TALLY_OK) {
    printf("%d:%d: %s\n", error.line, error.column, error.message);
    return -1;
  }
  if (tally_register(picture, &form, &where) != TALLY_OK) return -1;
  if (where.status != TALLY_FORM_OK) {
    printf("not registered: %s\n", where.reason);
    return -1;
  }
  if (tally_cut(picture, &form, &where, cells) != TALLY_OK) return -1;
  classify(cells, form.cells, classes);
  if (tally_decode(&form, classes, cells, NULL, &counts) != TALLY_OK) return -1;
  for (f = 0; f < counts.fields; f++) eights += counts.count[f].value == 88;
  tally_counts_free(&counts);
  return eights;
}

static void test_manual_example(void **state) {
  static const char text[] =
      "page 600 x 800\nanchor a square 20,20 24x24\nanchor b square 556,20 24x24\n"
      "anchor c square 20,756 24x24\nanchor d square 556,756 24x24\n"
      "field left 2 digits cells 100,200 2x50x50\nfield right 2 digits cells 400,500 2x50x50\n"
      "rule across 150 from 50 to 550\nrule down 50 from 150 to 700\n";
  tally_template form;
  tally_image page;
  int f, k;
  (void)state;
  assert_int_equal(tally_template_parse(text, strlen(text), &form, NULL), TALLY_OK);
  draw_form(&form, 2, &page);
  for (f = 0; f < 2; f++)
    for (k = 0; k < 2; k++) draw_symbol(&page, &form.field[f].cell[k], 8, 0.7, 3, black);
  assert_int_equal(read_form(&page, text, strlen(text)), 2);
  tally_image_free(&page);
}

/* ---- totals -------------------------------------------------------------------------------- */

/* The counts of a C1 form whose cells say `text`. */
static tally_counts read_cells(const char *text, double sure, const tally_habits *habits,
                               uint64_t seed) {
  double p[15 * TALLY_CLASSES];
  tally_decode_options options = {0};
  tally_counts counts;
  options.samples = 100;
  options.habits = habits;
  options.seed = seed;
  write_cells(p, text, sure);
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_OK);
  return counts;
}

static void test_totals(void **state) {
  static const int two[5] = {1, 1, 0, 0, 0};
  tally_totals totals, again;
  tally_total total, same;
  int i, f;
  (void)state;
  assert_int_equal(tally_totals_begin(&c1, 7, &totals), TALLY_OK);
  assert_int_equal(tally_totals_begin(&c1, 7, &again), TALLY_OK);
  for (i = 0; i < 20; i++) {
    tally_counts counts = read_cells(i < 15 ? "125 X57 182 XX3 185" : "125 X57 182 ___ 182",
                                     i % 4 ? 0.999 : 0.6, NULL, (uint64_t)i);
    assert_int_equal(tally_totals_add(&totals, &counts, NULL), TALLY_OK);
    assert_int_equal(tally_totals_add(&again, &counts, NULL), TALLY_OK);
    tally_counts_free(&counts);
  }
  assert_int_equal(tally_totals_add(&totals, NULL, NULL), TALLY_OK);
  assert_int_equal(tally_totals_add(&again, NULL, NULL), TALLY_OK);
  assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_totals_finish(&totals), TALLY_OK);
  assert_int_equal(tally_totals_finish(&again), TALLY_OK);
  assert_int_equal(totals.tallies[TALLY_ALL], 21);
  assert_int_equal(totals.tallies[TALLY_HIGH_QUALITY], 15);
  assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total), TALLY_OK);
  assert_int_equal(total.votes, 20 * 125);
  assert_int_equal(total.read, 20);
  assert_int_equal(total.unread, 1);
  assert_true(fabs(total.covered - 20.0 / 21) < 1e-12);
  /* The unread tally is like the others, so 125 more; without a model, anything up to 999, and so
     are the five whose cells are in doubt. */
  assert_true(total.estimate > 2550 && total.estimate < 2700);
  assert_true(total.low >= total.least && total.high <= total.most);
  assert_true(total.least == 15 * 125 && total.most == 15 * 125 + 6 * 999);
  assert_true(total.high > total.low); /* five doubtful tallies: the interval has a width */
  assert_true(total.share_low < total.share_high && total.share > 0.6 && total.share < 0.72);
  assert_true(total.share_least < total.share_low && total.share_most > total.share_high);
  assert_int_equal(tally_totals_get(&again, TALLY_ALL, 0, NULL, &same), TALLY_OK);
  assert_true(same.low == total.low && same.high == total.high &&
              same.share_low == total.share_low);
  assert_int_equal(tally_totals_get(&totals, TALLY_HIGH_QUALITY, 0, NULL, &total), TALLY_OK);
  assert_int_equal(total.votes, 15 * 125);
  assert_int_equal(total.read, 15);
  assert_int_equal(total.unread, 0);
  assert_true(total.low == 15 * 125 && total.high == 15 * 125);
  assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 3, NULL, &total), TALLY_OK);
  assert_int_equal(total.missing, 5);
  assert_int_equal(tally_totals_get(&totals, TALLY_HIGH_QUALITY, 0, two, &total), TALLY_OK);
  assert_true(fabs(total.share - 125.0 / 182) < 1e-12);
  assert_int_equal(tally_totals_get(&totals, 2, 0, NULL, &total), TALLY_ERROR_ARGUMENT);
  assert_int_equal(tally_totals_get(&totals, 0, 5, NULL, &total), TALLY_ERROR_ARGUMENT);
  /* Drawn parts add up to drawn totals where the papers do: 01 + 02 = valid in the sure ones. */
  for (i = 0, f = TALLY_DRAWS; i < TALLY_DRAWS; i++)
    assert_true(totals.drawn[(5 + 0) * f + i] + totals.drawn[(5 + 1) * f + i] ==
                totals.drawn[(5 + 2) * f + i]);
  tally_totals_free(&totals);
  tally_totals_free(&again);
}

/* With calibrated cells the 90 % interval of votes covers the truth at least 90 % of the time: it is
   wider than errors that are independent need, since readings of a group may err together. */
static void test_totals_cover(void **state) {
  static const int digits[1] = {2};
  tally_template form = small_form(1, digits);
  int covered = 0, runs = 200, run, i, k;
  double width = 0, plain = 0;
  (void)state;
  for (run = 0; run < runs; run++) {
    tally_totals totals;
    tally_total total;
    double truth = 0, variance = 0;
    assert_int_equal(tally_totals_begin(&form, (uint64_t)run, &totals), TALLY_OK);
    for (i = 0; i < 30; i++) {
      double p[2 * TALLY_CLASSES] = {0};
      tally_decode_options options = {0};
      tally_counts counts;
      int value = 0;
      for (k = 0; k < 2; k++) {
        int a = (int)uniform(0, 9.99), b = (int)uniform(0, 9.99);
        double sure = uniform(0.5, 1), place = k ? 1 : 10;
        p[k * TALLY_CLASSES + a] += sure;
        p[k * TALLY_CLASSES + b] += 1 - sure;
        value = 10 * value + (uniform(0, 1) < sure ? a : b);
        variance += place * place * (a - b) * (a - b) * sure * (1 - sure);
      }
      truth += value;
      options.samples = 100;
      options.seed = (uint64_t)(run * 30 + i);
      assert_int_equal(tally_decode(&form, p, NULL, &options, &counts), TALLY_OK);
      assert_int_equal(tally_totals_add(&totals, &counts, NULL), TALLY_OK);
      tally_counts_free(&counts);
    }
    assert_int_equal(tally_totals_finish(&totals), TALLY_OK);
    assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total), TALLY_OK);
    covered += truth >= total.low && truth <= total.high;
    width += total.high - total.low;
    plain += 2 * 1.645 * sqrt(variance);
    tally_totals_free(&totals);
  }
  assert_in_range(covered, 170, 199); /* 180, less 2.4 standard deviations, and above */
  if (!(width > 0.97 * plain && width < 1.5 * plain))
    fail_msg("%.0f, independent %.0f", width, plain);
}

/* Where all doubt points one way, readings that may err together make the interval wider than
   independent ones would: 100 counts that are 7 with .9 and 1 with .1. */
static void test_totals_err_together(void **state) {
  static const int digits[1] = {1};
  tally_template form = small_form(1, digits);
  tally_totals totals;
  tally_total total;
  double independent = 2 * 1.645 * 6 * sqrt(100 * 0.1 * 0.9);
  int i;
  (void)state;
  assert_int_equal(tally_totals_begin(&form, 3, &totals), TALLY_OK);
  for (i = 0; i < 100; i++) {
    double p[TALLY_CLASSES] = {0};
    tally_decode_options options = {0};
    tally_counts counts;
    p[7] = 0.9;
    p[1] = 0.1;
    options.samples = 100;
    options.seed = (uint64_t)i;
    assert_int_equal(tally_decode(&form, p, NULL, &options, &counts), TALLY_OK);
    assert_int_equal(tally_totals_add(&totals, &counts, NULL), TALLY_OK);
    tally_counts_free(&counts);
  }
  assert_int_equal(tally_totals_finish(&totals), TALLY_OK);
  assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total), TALLY_OK);
  assert_true(total.low < 640 && total.high > 640);
  assert_true(total.high - total.low > 1.5 * independent);
  tally_totals_free(&totals);
}

/* Tallies that were not read are like the others: intervals of the whole cover it, where they are
   missing at random; where one party's are, the bounds still do, and the permutation test says so. */
static void test_totals_unread(void **state) {
  static const int digits[2] = {3, 3};
  tally_template form = small_form(2, digits);
  int uneven, warned[2] = {0, 0}, runs = 100, run, i, f;
  (void)state;
  for (uneven = 0; uneven < 2; uneven++) {
    int covered = 0;
    for (run = 0; run < runs; run++) {
      tally_totals totals;
      tally_total total;
      double truth = 0;
      assert_int_equal(tally_totals_begin(&form, (uint64_t)run, &totals), TALLY_OK);
      for (i = 0; i < 200; i++) {
        tally_origin origin = {i % 10, 600};
        double strength = 0.25 + 0.05 * origin.group, size = uniform(100, 500);
        int votes[2], hidden = uniform(0, 1) < (uneven ? 0.04 * origin.group : 0.2), k;
        double p[6 * TALLY_CLASSES] = {0};
        tally_counts counts;
        votes[0] = (int)(size * fmin(1, fmax(0, strength + uniform(-0.2, 0.2))));
        votes[1] = (int)size - votes[0];
        truth += votes[0];
        for (f = 0; f < 2; f++)
          for (k = 0; k < 3; k++)
            p[(3 * f + k) * TALLY_CLASSES + votes[f] / (k == 0 ? 100 : k == 1 ? 10 : 1) % 10] = 1;
        assert_int_equal(tally_decode(&form, p, NULL, NULL, &counts), TALLY_OK);
        assert_int_equal(tally_totals_add(&totals, hidden ? NULL : &counts, &origin), TALLY_OK);
        tally_counts_free(&counts);
      }
      assert_int_equal(tally_totals_finish(&totals), TALLY_OK);
      assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total), TALLY_OK);
      covered += truth >= total.low && truth <= total.high;
      assert_true(truth >= total.least && truth <= total.most);
      warned[uneven] += tally_totals_unevenness(&totals, NULL) < 0.01;
      tally_totals_free(&totals);
    }
    assert_in_range(covered, uneven ? 60 : 81, 98); /* 90, give or take 3 standard deviations */
  }
  assert_in_range(warned[0], 0, 5);
  assert_true(warned[1] > 90);
}

/* 200 tallies with counts of 10 to 19 teach how large counts are; then one that cannot be read is
   like them, one whose tens digit cannot be read may be any of those that fit, one with nothing
   written adds nothing. */
static void test_totals_in_doubt(void **state) {
  static const int digits[1] = {3};
  static const char *const cells[3] = {"???", "0?4", "___"};
  tally_template form = small_form(1, digits);
  tally_habits habits;
  tally_total total[3];
  double prior[1001], sum = 0;
  int i, k;
  (void)state;
  assert_int_equal(tally_habits_begin(&form, &habits), TALLY_OK);
  for (i = 0; i < 200; i++) {
    double p[3 * TALLY_CLASSES] = {0};
    tally_counts counts;
    p[0] = p[TALLY_CLASSES + 1] = p[2 * TALLY_CLASSES + i % 10] = 1;
    assert_int_equal(tally_decode(&form, p, NULL, NULL, &counts), TALLY_OK);
    assert_int_equal(tally_habits_add(&habits, &form, &counts), TALLY_OK);
    tally_counts_free(&counts);
  }
  tally_habits_prior(&habits, 0, prior);
  for (i = 0; i < 1001; i++) sum += prior[i];
  assert_true(fabs(sum - 1) < 1e-9);
  assert_true(prior[15] > 0.03 && prior[500] < 1e-4 && prior[500] > 1e-6);
  for (k = 0; k < 3; k++) {
    tally_totals totals;
    double p[3 * TALLY_CLASSES];
    tally_decode_options options = {0};
    tally_counts counts;
    options.habits = &habits;
    options.samples = 500;
    write_cells(p, cells[k], 1);
    assert_int_equal(tally_decode(&form, p, NULL, &options, &counts), TALLY_OK);
    assert_int_equal(counts.count[0].value, TALLY_NO_VALUE);
    assert_int_equal(tally_totals_begin(&form, 5, &totals), TALLY_OK);
    assert_int_equal(tally_totals_add(&totals, &counts, NULL), TALLY_OK);
    assert_int_equal(tally_totals_finish(&totals), TALLY_OK);
    assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 0, NULL, &total[k]), TALLY_OK);
    tally_counts_free(&counts);
    tally_totals_free(&totals);
  }
  tally_habits_free(&habits);
  /* One of the 200, smoothed by an octave, or anything with 5 / 205: so about 15 + 12. */
  assert_int_equal(total[0].unread, 1);
  assert_true(total[0].estimate > 15 && total[0].estimate < 45 && total[0].low >= 4 &&
              total[0].low < 12);
  assert_true(total[1].estimate > 12 && total[1].estimate < 24 && total[1].low <= 14 &&
              total[1].high >= 14);
  assert_int_equal(total[2].missing, 1);
  assert_true(total[2].low == 0 && total[2].high == 0 && total[2].votes == 0);
}

/* With cells that say nothing, a paper adds up as often as papers do, whatever the number of digits:
   what is missing from .96 are the parts that make more than the total can hold. */
static void test_decode_prior(void **state) {
  static const int pair[2] = {0, 1};
  int digits;
  (void)state;
  for (digits = 1; digits <= 4; digits++) {
    int each[3], k;
    double p[12 * TALLY_CLASSES] = {0};
    tally_template form;
    tally_counts counts;
    each[0] = each[1] = each[2] = digits;
    form = small_form(3, each);
    add_sum(&form, 2, 2, pair);
    for (k = 0; k < 3 * digits * TALLY_CLASSES; k++) p[k] = k % TALLY_CLASSES < 10 ? 0.1 : 0;
    assert_int_equal(tally_decode(&form, p, NULL, NULL, &counts), TALLY_OK);
    assert_true(counts.sum[0].probability > 0.90 && counts.sum[0].probability < 0.96);
    tally_counts_free(&counts);
  }
}

/* Known values decide about the rest of a sum, and are final. */
static void test_decode_known(void **state) {
  static const int known[5] = {125, TALLY_NOT_KNOWN, 182, TALLY_NO_VALUE, TALLY_NOT_KNOWN};
  static const int wrong[5] = {1000, -2, -2, -2, -2};
  double p[15 * TALLY_CLASSES];
  tally_decode_options options = {0};
  tally_counts counts;
  int i;
  (void)state;
  write_cells(p, "725 X5? 18? XX3 185", 0.97);
  options.known = known;
  options.samples = 50;
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_OK, 125);
  expect_count(&counts, "02", TALLY_COUNT_INFERRED, 57);
  expect_count(&counts, "invalid", TALLY_COUNT_MISSING, TALLY_NO_VALUE);
  assert_int_equal(counts.count[0].basis, TALLY_BASIS_PERSON);
  for (i = 0; i < 50; i++) {
    assert_int_equal(counts.sample[5 * i], 125);
    assert_int_equal(counts.sample[5 * i + 3], TALLY_NO_VALUE);
  }
  tally_counts_free(&counts);
  options.known = wrong;
  assert_int_equal(tally_decode(&c1, p, NULL, &options, &counts), TALLY_ERROR_ARGUMENT);
}

/* What is not confirmed must be surer, and what was altered is never accepted. */
static void test_decode_basis(void **state) {
  static const int digits[1] = {2};
  tally_template form = small_form(1, digits);
  double p[15 * TALLY_CLASSES];
  tally_counts counts;
  (void)state;
  write_cells(p, "27", 0.9999);
  assert_int_equal(tally_decode(&form, p, NULL, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[0].status, TALLY_COUNT_OK);
  assert_int_equal(counts.count[0].basis, TALLY_BASIS_CELLS);
  tally_counts_free(&counts);
  write_cells(p, "27", 0.998); /* two of them: .996 */
  assert_int_equal(tally_decode(&form, p, NULL, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[0].status, TALLY_COUNT_REVIEW);
  assert_non_null(strstr(counts.count[0].reason, "no sum confirms it"));
  tally_counts_free(&counts);
  write_cells(p, "125 X57 182 XX3 185", 0.99);
  p[1 * TALLY_CLASSES + 2] = 0.8;
  p[1 * TALLY_CLASSES + TALLY_CLASS_OVERWRITTEN] = 0.19;
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "01", TALLY_COUNT_REVIEW, 125);
  assert_int_equal(counts.count[0].altered, TALLY_CLASS_OVERWRITTEN);
  expect_count(&counts, "02", TALLY_COUNT_OK, 57);
  assert_int_equal(counts.count[1].basis, TALLY_BASIS_SUM);
  tally_counts_free(&counts);
  write_cells(p, "125 X57 182 XX3 185", 0.99);
  for (int k = 0; k < TALLY_CLASSES; k++) p[3 * TALLY_CLASSES + k] = k == TALLY_CLASS_STRUCK;
  assert_int_equal(tally_decode(&c1, p, NULL, NULL, &counts), TALLY_OK);
  expect_count(&counts, "02", TALLY_COUNT_INFERRED, 57);
  assert_non_null(strstr(counts.count[1].reason, "struck out"));
  tally_counts_free(&counts);
}

/* A faint 1 that the cutter hardly sees is not taken for a blank when the network sees it. */
static void test_decode_faint(void **state) {
  static tally_cell cells[15];
  double p[15 * TALLY_CLASSES];
  tally_counts counts;
  int i;
  (void)state;
  for (i = 0; i < 15; i++) cells[i].written = cells[i].whole = 1;
  cells[0].written = 0.3;
  write_cells(p, "172 ___ ___ ___ ___", 0.999);
  for (i = 3; i < 15; i++) cells[i].written = 0.001;
  assert_int_equal(tally_decode(&c1, p, cells, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[0].value, 172);
  assert_int_equal(counts.count[0].status, TALLY_COUNT_OK);
  tally_counts_free(&counts);
  cells[0].written = 0.001; /* the network says 1, the cutter nothing: neither is believed */
  assert_int_equal(tally_decode(&c1, p, cells, NULL, &counts), TALLY_OK);
  assert_int_equal(counts.count[0].status, TALLY_COUNT_REVIEW);
  tally_counts_free(&counts);
}

/* ---- real forms ---------------------------------------------------------------------------- */

static const char *const scan_names[8] = {"form1",  "form2",  "form4",  "form9",
                                          "form12", "form13", "form15", "form22"};

static const char *scans_folder(void) {
  const char *folder = getenv("TALLY_FORMS");
  return folder ? folder : "../shared/forms/c1-2019";
}

/* One of the public scans in colour; 0 where they are not at hand. */
static int load_scan(const char *name, tally_image *scan) {
  char path[500];
  int channels;
  snprintf(path, sizeof path, "%s/%s.jpg", scans_folder(), name);
  scan->channels = 3;
  scan->pixels = stbi_load(path, &scan->width, &scan->height, &channels, 3);
  return scan->pixels != NULL;
}

/* Eight public scans, where they are at hand: all must register closely, also turned, and their
   cells be
   empty exactly where nothing is written. */
static void test_private_forms(void **state) {
  static const char *const written[8] = {"012115127XXX127", "125X57182XX3185", "128X28156XX5161",
                                         "139XX7146XXX146", "190X15205XX4209", "_44_61105___150",
                                         "119X19138XXX138", "_66_74140__3143"};
  static const double turns[4][9] = {{1, 0, 0, 0, 1, 0, 0, 0, 1},
                                     {0, 1, 0, -1, 0, 0, 0, 0, 1},
                                     {-1, 0, 0, 0, -1, 0, 0, 0, 1},
                                     {0, -1, 0, 1, 0, 0, 0, 0, 1}};
  static tally_registration r;
  static tally_cell cells[15];
  int f, i, turn, absent = 0;
  (void)state;
  for (f = 0; f < 8; f++) {
    tally_image scan, turned;
    if (!load_scan(scan_names[f], &scan)) {
      absent++;
      continue;
    }
    for (turn = 0; turn < 4; turn++) {
      double h[9];
      memcpy(h, turns[turn], sizeof h);
      if (turn == 1) h[5] = scan.height;
      if (turn == 2) h[2] = scan.width, h[5] = scan.height;
      if (turn == 3) h[2] = scan.width;
      assert_int_equal(tally_warp(&scan, h, turn & 1 ? scan.height : scan.width,
                                  turn & 1 ? scan.width : scan.height, 255, &turned),
                       TALLY_OK);
      assert_int_equal(tally_register(&turned, &c1, &r), TALLY_OK);
      if (r.status != TALLY_FORM_OK) fail_msg("%s turn %d: %s", scan_names[f], turn, r.reason);
      assert_true(r.residual < 0.8);
      assert_int_equal(tally_cut(&turned, &c1, &r, cells), TALLY_OK);
      for (i = 0; i < 15; i++)
        if ((written[f][i] == '_') != (cells[i].state == TALLY_CELL_EMPTY))
          fail_msg("%s cell %d holds %c and is seen as %s", scan_names[f], i, written[f][i],
                   tally_cell_state_text(cells[i].state));
      tally_image_free(&turned);
    }
    for (i = 0; i < 4; i++) { /* one square hidden: three and the rules are enough */
      double x, y;
      turned = crop(&scan, 0, 0, scan.width, scan.height);
      assert_int_equal(tally_register(&turned, &c1, &r), TALLY_OK);
      tally_registration_map(&r, -1, c1.anchor[i].box.x + 10, c1.anchor[i].box.y + 10, &x, &y);
      draw_box(&turned, x - 18, y - 18, 36, 36, paper_white);
      assert_int_equal(tally_register(&turned, &c1, &r), TALLY_OK);
      if (r.status != TALLY_FORM_OK)
        fail_msg("%s without %s: %s", scan_names[f], c1.anchor[i].name, r.reason);
      tally_image_free(&turned);
    }
    stbi_image_free(scan.pixels);
  }
  if (absent) {
    print_message("skipped %d of 8 real forms: not in %s\n", absent, scans_folder());
    if (absent == 8) skip();
  }
}

/* The same scans and the reference print that comes with the programs: the labels agree; a template
   with two fields exchanged is refused; one that names nothing but anchors, or rules across only, is
   registered the right way up. */
static void test_private_labels(void **state) {
  static const double about[9] = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
  static tally_registration whole, r;
  static tally_template swapped, part[2];
  static tally_print print;
  tally_image from;
  FILE *file = fopen("examples/templates/c1-2019.print", "rb");
  char text[2000];
  size_t length;
  int f, i, k, t, absent = 0;
  (void)state;
  from.channels = 1;
  from.pixels = stbi_load("examples/templates/c1-2019.print.png", &from.width, &from.height, &i, 1);
  assert_non_null(from.pixels);
  assert_non_null(file);
  length = fread(text, 1, sizeof text, file);
  fclose(file);
  assert_int_equal(tally_print_make(text, length, &from, &print, NULL), TALLY_OK);
  swapped = part[0] = part[1] = c1;
  strcpy(swapped.field[0].name, c1.field[1].name);
  strcpy(swapped.field[1].name, c1.field[0].name);
  for (t = 0; t < 2; t++) {
    for (f = 0; f < c1.fields; f++) part[t].field[f].open = 1;
    part[t].rules = 0;
    for (i = 0; i < c1.rules && t; i++)
      if (!c1.rule[i].down) part[t].rule[part[t].rules++] = c1.rule[i];
  }
  for (f = 0; f < 8; f++) {
    tally_image scan, turned;
    if (!load_scan(scan_names[f], &scan)) {
      absent++;
      continue;
    }
    for (k = 0; k < 2; k++) {
      double h[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
      if (k) memcpy(h, about, sizeof h), h[2] = scan.width, h[5] = scan.height;
      assert_int_equal(tally_warp(&scan, h, scan.width, scan.height, 255, &turned), TALLY_OK);
      assert_int_equal(tally_register_print(&turned, &c1, &print, &whole), TALLY_OK);
      if (whole.status != TALLY_FORM_OK) fail_msg("%s: %s", scan_names[f], whole.reason);
      assert_int_equal(whole.labels_compared, c1.fields);
      assert_int_equal(tally_register_print(&turned, &swapped, &print, &r), TALLY_OK);
      assert_int_equal(r.status, TALLY_FORM_WRONG);
      assert_non_null(strstr(r.reason, "bears the label of"));
      for (t = 0; t < 2; t++) {
        assert_int_equal(tally_register_print(&turned, &part[t], &print, &r), TALLY_OK);
        if (r.status != TALLY_FORM_OK) fail_msg("%s, part %d: %s", scan_names[f], t, r.reason);
        /* Paper is not flat: anchors alone are less exact. */
        if (corner_error(&c1, &r, whole.page) > (t ? 2.5 : 4))
          fail_msg("%s, part %d: off by %.1f", scan_names[f], t, corner_error(&c1, &r, whole.page));
      }
      tally_image_free(&turned);
    }
    stbi_image_free(scan.pixels);
  }
  tally_print_free(&print);
  stbi_image_free(from.pixels);
  if (absent) {
    print_message("skipped %d of 8 real forms: not in %s\n", absent, scans_folder());
    if (absent == 8) skip();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_image_arguments),
      cmocka_unit_test(test_grey),
      cmocka_unit_test(test_resize),
      cmocka_unit_test(test_warp),
      cmocka_unit_test(test_threshold_adaptive),
      cmocka_unit_test(test_components),
      cmocka_unit_test(test_template_values),
      cmocka_unit_test(test_template_errors),
      cmocka_unit_test(test_template_editors),
      cmocka_unit_test(test_template_garbage),
      cmocka_unit_test(test_sweep_colour),
      cmocka_unit_test(test_sweep_squares),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_cells_look_right),
      cmocka_unit_test(test_cells_hard),
      cmocka_unit_test(test_cells_raw),
      cmocka_unit_test(test_cells_joined),
      cmocka_unit_test(test_cells_dense),
      cmocka_unit_test(test_cells_faint),
      cmocka_unit_test(test_cells_on_rule),
      cmocka_unit_test(test_cells_struck_through),
      cmocka_unit_test(test_cells_shifted),
      cmocka_unit_test(test_cells_crossed_out),
      cmocka_unit_test(test_manual_example),
      cmocka_unit_test(test_decode_brute_force),
      cmocka_unit_test(test_decode_c1),
      cmocka_unit_test(test_decode_states),
      cmocka_unit_test(test_decode_options),
      cmocka_unit_test(test_decode_prior),
      cmocka_unit_test(test_decode_known),
      cmocka_unit_test(test_decode_basis),
      cmocka_unit_test(test_decode_faint),
      cmocka_unit_test(test_decode_mexico),
      cmocka_unit_test(test_totals),
      cmocka_unit_test(test_totals_cover),
      cmocka_unit_test(test_totals_err_together),
      cmocka_unit_test(test_totals_unread),
      cmocka_unit_test(test_totals_in_doubt),
      cmocka_unit_test(test_anchors_alone),
      cmocka_unit_test(test_two_anchors),
      cmocka_unit_test(test_equal_rows),
      cmocka_unit_test(test_labels),
      cmocka_unit_test(test_print_errors),
      cmocka_unit_test(test_private_labels),
      cmocka_unit_test(test_private_forms),
      cmocka_unit_test(test_homography),
      cmocka_unit_test(test_homography_refused),
      cmocka_unit_test(test_homography_algebra),
  };
  return cmocka_run_group_tests(tests, load_templates, NULL);
}
