/* canvas.h - the picture a tally is drawn on: a homography from page to picture, shapes in page
   coordinates, ink, and the letters of printed text.

   Shapes first go into a mask, as the share of each pixel they cover (mask_...), and then onto the
   picture in one go (canvas_ink), so that where a stroke crosses itself it is no darker.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_CANVAS_H
#define TALLY_SYNTH_CANVAS_H

#include "numbers.h"

/* ---- the canvas ------------------------------------------------------------------------------ */

/* A picture that is being drawn. Zero-initialise, canvas_start() for each tally, canvas_free(). */
typedef struct canvas {
  picture image;
  uint8_t *mask;
  size_t capacity; /* pixels there is room for; the buffers are used again for the next tally */
  int left, top, right, bottom;     /* used part of the mask, right and bottom exclusive */
  double to_picture[9], to_page[9]; /* homographies, each the other's inverse */
} canvas;

typedef struct ink {
  uint8_t colour[3];
  double strength; /* 1 covers the paper fully */
  double grain;    /* 0: even; 1: as rough as pencil */
} ink;

/* Notes that nothing is masked. */
static inline void mask_leave(canvas *on) {
  on->left = on->top = INT_MAX;
  on->right = on->bottom = 0;
}

/* An empty mask and a picture of any content, seen through a homography from page to picture. */
static inline void canvas_start(canvas *on, int width, int height, const double to_picture[9]) {
  size_t pixels = (size_t)width * (size_t)height;
  if (pixels > on->capacity) {
    on->image.pixels = reallocate(on->image.pixels, pixels, 3);
    on->mask = reallocate(on->mask, pixels, 1);
    on->capacity = pixels;
  }
  on->image.width = width;
  on->image.height = height;
  on->image.channels = 3;
  memset(on->mask, 0, pixels);
  mask_leave(on);
  memcpy(on->to_picture, to_picture, 9 * sizeof(double));
  if (tally_homography_invert(to_picture, on->to_page) != TALLY_OK)
    fail("a page that is seen from its edge cannot be drawn");
}

static inline void canvas_free(canvas *on) {
  free(on->image.pixels);
  free(on->mask);
}

static inline uint8_t *canvas_row(const canvas *on, int y) {
  return on->image.pixels + (size_t)y * (size_t)on->image.width * 3;
}

/* Where a point of the page lies in the picture. */
static inline tally_point on_picture(const canvas *on, double x, double y) {
  return tally_homography_map(on->to_picture, x, y);
}

/* Picture pixels per template pixel at a point of the page. */
static inline double scale_at(const canvas *on, double x, double y) {
  return tally_homography_scale(on->to_picture, x, y);
}

/* Notes that pixels of a box are masked. */
static inline void mask_use(canvas *on, int left, int top, int right, int bottom) {
  if (left < on->left) on->left = left;
  if (top < on->top) on->top = top;
  if (right > on->right) on->right = right;
  if (bottom > on->bottom) on->bottom = bottom;
}

/* A pixel's row or column within a picture, or its size: the end of a loop. */
static inline int pixel_limit(double value, int size) {
  return (int)limit(value, 0, size);
}

/* Covers a share of a pixel; it keeps the largest of all shapes that touch it. */
static inline void mask_pixel(canvas *on, int x, int y, double cover) {
  uint8_t *to = on->mask + (size_t)y * (size_t)on->image.width + (size_t)x;
  uint8_t value = to_byte(cover * 255);
  if (value > *to) *to = value;
}

/* A straight piece of a pen's path, in picture pixels, with half the pen's width at both ends. A
   line thinner than a pixel covers no pixel wholly. */
static inline void mask_segment(canvas *on, tally_point a, tally_point b, double half_a,
                                double half_b) {
  double reach = fmax(half_a, half_b) + 1, dx = b.x - a.x, dy = b.y - a.y;
  double length2 = dx * dx + dy * dy;
  int top = pixel_limit(floor(fmin(a.y, b.y) - reach), on->image.height);
  int bottom = pixel_limit(ceil(fmax(a.y, b.y) + reach), on->image.height);
  double low = fmin(a.x, b.x) - reach, high = fmax(a.x, b.x) + reach;
  double strip = fabs(dy) > 1e-9 ? reach * sqrt(length2) / fabs(dy) : 1e9;
  for (int y = top; y < bottom; y++) {
    double middle = fabs(dy) > 1e-9 ? a.x + (y + 0.5 - a.y) * dx / dy : a.x;
    int left = pixel_limit(floor(fmax(low, middle - strip)), on->image.width);
    int right = pixel_limit(ceil(fmin(high, middle + strip)), on->image.width);
    if (left >= right) continue;
    mask_use(on, left, y, right, y + 1);
    for (int x = left; x < right; x++) {
      double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
      double t = length2 > 0 ? limit((px * dx + py * dy) / length2, 0, 1) : 0;
      double half = half_a + t * (half_b - half_a), ex = px - t * dx, ey = py - t * dy;
      double cover = half + 0.5 - sqrt(ex * ex + ey * ey);
      if (cover > 0) mask_pixel(on, x, y, fmin(cover, fmin(1, 2 * half)));
    }
  }
}

/* A convex polygon's edges as signed distances a x + b y + c, positive inside. */
#define MAX_EDGES 48
typedef struct polygon {
  int count;
  double a[MAX_EDGES], b[MAX_EDGES], c[MAX_EDGES], top, bottom;
} polygon;

static inline polygon polygon_of(const tally_point *corners, int count) {
  polygon out = {0};
  double area = 0;
  out.count = count;
  out.top = 1e9;
  out.bottom = -1e9;
  for (int i = 0; i < count; i++) {
    tally_point p = corners[i], q = corners[(i + 1) % count];
    area += p.x * q.y - q.x * p.y;
    out.top = fmin(out.top, p.y);
    out.bottom = fmax(out.bottom, p.y);
  }
  for (int i = 0; i < count; i++) {
    tally_point p = corners[i], q = corners[(i + 1) % count];
    double length = hypot(q.x - p.x, q.y - p.y), sign = area > 0 ? 1 : -1;
    if (length < 1e-9) length = 1e-9;
    out.a[i] = -sign * (q.y - p.y) / length;
    out.b[i] = sign * (q.x - p.x) / length;
    out.c[i] = -(out.a[i] * p.x + out.b[i] * p.y);
  }
  return out;
}

/* The part of a row of pixels that lies at least `inside` within all edges. */
static inline void polygon_span(const polygon *shape, double y, double inside, double *low,
                                double *high) {
  *low = -1e9;
  *high = 1e9;
  for (int i = 0; i < shape->count; i++) {
    double rest = inside - shape->c[i] - shape->b[i] * y, a = shape->a[i];
    if (a > 1e-9)
      *low = fmax(*low, rest / a);
    else if (a < -1e-9)
      *high = fmin(*high, rest / a);
    else if (rest > 0)
      *high = -1e9;
  }
}

/* Share of a pixel that a polygon covers. With few edges, opposite ones can be closer than a pixel
   and what each cuts off adds up; with many, neighbours would count the same loss twice. */
static inline double polygon_cover(const polygon *shape, double x, double y) {
  double sum = 0, most = 0;
  for (int i = 0; i < shape->count; i++) {
    double lost = limit(0.5 - (shape->a[i] * x + shape->b[i] * y + shape->c[i]), 0, 1);
    sum += lost;
    most = fmax(most, lost);
  }
  return 1 - fmin(1, shape->count <= 4 ? sum : most);
}

/* A convex polygon in picture pixels. */
static inline void mask_polygon(canvas *on, const tally_point *corners, int count) {
  polygon shape = polygon_of(corners, count);
  int top = pixel_limit(floor(shape.top - 0.5), on->image.height);
  int bottom = pixel_limit(ceil(shape.bottom + 0.5), on->image.height);
  for (int y = top; y < bottom; y++) {
    double low, high, full_low, full_high;
    polygon_span(&shape, y + 0.5, -0.5, &low, &high);
    polygon_span(&shape, y + 0.5, 0.5, &full_low, &full_high);
    int left = pixel_limit(floor(low), on->image.width);
    int right = pixel_limit(ceil(high), on->image.width);
    if (left >= right) continue;
    int full_left = pixel_limit(ceil(full_low - 0.5), right);
    int full_right = pixel_limit(floor(full_high - 0.5) + 1, right);
    mask_use(on, left, y, right, y + 1);
    if (full_left >= full_right) full_left = full_right = right;
    for (int x = left; x < full_left; x++)
      mask_pixel(on, x, y, polygon_cover(&shape, x + 0.5, y + 0.5));
    memset(on->mask + (size_t)y * (size_t)on->image.width + (size_t)full_left, 255,
           (size_t)(full_right - full_left));
    for (int x = full_right; x < right; x++)
      mask_pixel(on, x, y, polygon_cover(&shape, x + 0.5, y + 0.5));
  }
}

/* How much of the mask grainy ink leaves on the paper at a pixel, 0..256. */
static inline int grain_at(int x, int y, int grain) {
  int left = 256 - ((grain * (48 + grain_tile[(y % TILE) * TILE + x % TILE])) >> 7);
  return left < 0 ? 0 : left > 256 ? 256 : left;
}

/* Puts the masked shape on the picture as ink on paper, which multiplies, and clears the mask. */
static inline void canvas_ink(canvas *on, const ink *with) {
  int loss[3], grain = (int)(with->grain * 256);
  double strength = limit(with->strength, 0, 1) * 256 / 255;
  for (int c = 0; c < 3; c++) loss[c] = (int)((255 - with->colour[c]) * strength + 0.5);
  for (int y = on->top; y < on->bottom; y++) {
    uint8_t *mask = on->mask + (size_t)y * (size_t)on->image.width, *row = canvas_row(on, y);
    for (int x = on->left; x < on->right; x++) {
      if (!mask[x]) continue;
      int cover = mask[x] + (mask[x] >> 7);
      if (grain) cover = (cover * grain_at(x, y, grain)) >> 8;
      for (int c = 0; c < 3; c++) {
        uint8_t *p = row + 3 * x + c;
        *p = (uint8_t)(*p - ((*p * loss[c] * cover) >> 16));
      }
    }
    memset(mask + on->left, 0, (size_t)(on->right - on->left));
  }
  mask_leave(on);
}

/* ---- shapes in page coordinates -------------------------------------------------------------- */

static inline void mask_box(canvas *on, double x, double y, double width, double height) {
  tally_point corners[4] = {on_picture(on, x, y), on_picture(on, x + width, y),
                            on_picture(on, x + width, y + height), on_picture(on, x, y + height)};
  mask_polygon(on, corners, 4);
}

static inline void mask_disc(canvas *on, double x, double y, double radius) {
  tally_point corners[MAX_EDGES];
  for (int i = 0; i < MAX_EDGES; i++) {
    double angle = 2 * 3.14159265358979 * i / MAX_EDGES;
    corners[i] = on_picture(on, x + radius * cos(angle), y + radius * sin(angle));
  }
  mask_polygon(on, corners, MAX_EDGES);
}

static inline void mask_line(canvas *on, double x0, double y0, double x1, double y1, double pen) {
  double half = pen / 2 * scale_at(on, x0, y0);
  mask_segment(on, on_picture(on, x0, y0), on_picture(on, x1, y1), half, half);
}

/* Letters of the printed text: pen points on a grid of 5 columns and 7 rows, a blank lifts the pen.
   */
static inline const char *letter_strokes(char letter) {
  static const char *const capitals[26] = {"062046 1434",
                                           "06003041423303 3344453606",
                                           "4130100105163645",
                                           "06003041453606",
                                           "40000646 0333",
                                           "400006 0333",
                                           "41301001051636454323",
                                           "0006 4046 0343",
                                           "2026",
                                           "4045361605",
                                           "0006 400346",
                                           "000646",
                                           "0600234046",
                                           "06004640",
                                           "100105163645413010",
                                           "06003041423303",
                                           "100105163645413010 2446",
                                           "06003041423303 2346",
                                           "413010010213334445361605",
                                           "0040 2026",
                                           "000516364540",
                                           "002640",
                                           "0016233640",
                                           "0046 4006",
                                           "002340 2326",
                                           "00400646"};
  static const char *const digits[10] = {
      "100105163645413010",          "112026",   "01103041420646",
      "01103041423323 334445361605", "36300444", "4000033344453616",
      "413010010516364544331304",    "004016",   "13020110304142331304051636454433",
      "051636454130100102133342"};
  if (letter >= 'a' && letter <= 'z') return capitals[letter - 'a'];
  if (letter >= 'A' && letter <= 'Z') return capitals[letter - 'A'];
  if (letter >= '0' && letter <= '9') return digits[letter - '0'];
  switch (letter) {
  case '.':
    return "2526";
  case ':':
    return "2223 2526";
  case '-':
    return "1333";
  case '/':
    return "0640";
  case '(':
    return "30122436";
  case ')':
    return "10323416";
  default:
    return "";
  }
}

/* Width of a line of printed text. */
static inline double words_width(const char *words, double height) {
  return (double)strlen(words) * height * 5.6 / 6;
}

/* A line of printed text; x, y is its top left. */
static inline void mask_words(canvas *on, double x, double y, double height, double pen,
                              const char *words) {
  double unit = height / 6;
  for (; *words; words++, x += 5.6 * unit) {
    const char *at = letter_strokes(*words);
    for (; at[0] && at[1]; at += at[0] == ' ' ? 1 : 2) {
      if (at[0] == ' ' || at[2] == ' ' || !at[2]) continue;
      mask_line(on, x + unit * (at[0] - '0'), y + unit * (at[1] - '0'), x + unit * (at[2] - '0'),
                y + unit * (at[3] - '0'), pen);
    }
  }
}

static inline void print_words(canvas *on, const ink *black, double x, double y, double height,
                               double pen, const char *words) {
  mask_words(on, x, y, height, pen, words);
  canvas_ink(on, black);
}

/* Draws a smooth curve (Catmull-Rom) through points of the page, pressing now more, now less. */
static inline void mask_curve(canvas *on, const tally_point *points, int count, double pen,
                              cn_random *random) {
  enum { PIECES = 5 };
  double phase = between(random, 0, 6.28), scale = scale_at(on, points[0].x, points[0].y);
  tally_point last = on_picture(on, points[0].x, points[0].y);
  double last_half = 0.4 * pen * scale;
  for (int i = 0; i + 1 < count; i++) {
    tally_point p0 = points[i ? i - 1 : 0], p1 = points[i], p2 = points[i + 1];
    tally_point p3 = points[i + 2 < count ? i + 2 : count - 1];
    for (int k = 1; k <= PIECES; k++) {
      double t = (double)k / PIECES, u = t * t, v = u * t;
      double a = -0.5 * v + u - 0.5 * t, b = 1.5 * v - 2.5 * u + 1, c = -1.5 * v + 2 * u + 0.5 * t;
      double d = 0.5 * v - 0.5 * u,
             half = 0.5 * pen * scale * (1 + 0.13 * sin(phase + 0.9 * (i + t)));
      tally_point next = on_picture(on, a * p0.x + b * p1.x + c * p2.x + d * p3.x,
                                    a * p0.y + b * p1.y + c * p2.y + d * p3.y);
      mask_segment(on, last, next, last_half, half);
      last = next;
      last_half = half;
    }
  }
}

#endif
