/* tally-synth.c - draws filled-in tallies as a scanner or a phone would see them, with the truth.

   Build:  make bin/tally-synth     (tool.h says how by hand)
   Use:    bin/tally-synth --template mexico-2015.form --digits data:test --count 400 --out district

   Nothing is resampled: print and handwriting are drawn as shapes straight into the picture,
   through the homography from page to picture, so the true corners of every cell are known exactly.

   A tally depends on the seed and its number alone, and each of its parts (votes, hand, print, dirt,
   camera) has a random stream of its own: another --blur leaves what is written as it was.

   The order of this file: options, random numbers, homographies, the canvas, shapes in page
   coordinates, handwriting, votes, what is written into the cells, the printed form, dirt, the
   camera, templates with fewer rows, digits, files, the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-synth"
#define TOOL_USAGE "--template T --count N --out DIR [--digits D] [options]"
/* tally.h names its parameters as common.h names a type, so it goes first. */
#include "../tally.h"

#include "common.h"

/* ---- options ----------------------------------------------------------------------------------- */

static const char help[] =
    "Draws filled-in tallies as a scanner or a phone would see them, with the truth beside them.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T       the form (see examples/templates)\n"
    "  --count N          how many tallies\n"
    "  --out DIR          where they go; made if missing\n"
    "  --digits D         strokes (default: a built-in pen), or handwritten digits: FOLDER:train or\n"
    "                     FOLDER:test for MNIST's IDX files, a folder with subfolders 0 to 9, or a CSV\n"
    "                     file with columns path,label. Draw test tallies from :test\n"
    "  --seed N           the same seed gives the same bytes (default 1)\n"
    "\n"
    "  --severity S       strength and rate of everything that goes wrong, 0 to 3 (default 1): odd and\n"
    "                     faint pens, pencil, strays, blanks, crosses, overwriting, stains, paper,\n"
    "                     rotation, perspective, blur, light, noise, colour cast, JPEG\n"
    "  --clean            the same as --severity 0\n"
    "  --mismatch RATE    share of tallies whose paper does not add up (default 0)\n"
    "  --rows N           fewer rows than the template has; for forms with one sum over all fields\n"
    "\n"
    "These take one value, or LOW..HIGH to draw it for each tally; they replace what --severity does:\n"
    "  --rotate DEGREES   of the page, clockwise, -360 to 360\n"
    "  --scale R          picture pixels per template pixel, 0.1 to 4\n"
    "  --perspective P    corners displaced by up to P percent of the page's shorter side, 0 to 20\n"
    "  --blur SIGMA       Gaussian, in picture pixels, 0 to 10\n"
    "  --light L          share of light lost at the dark end of the page, 0 to 0.9\n"
    "  --quality Q        of the JPEG, 1 to 100\n"
    "\n"
    "  --format jpg|png   of the pictures (default jpg)\n"
    "  --threads N        default: all cores; does not change the result\n"
    "  --quiet            nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "DIR gets the pictures and\n"
    "  truth.csv     tally,field,value,state,adds_up: the number meant; state is number, missing (left\n"
    "                blank, no value) or illegible; adds_up is 0 where the paper's sums fail\n"
    "  cells.csv     tally,field,position,label: 0 to 9, cross, dash, empty, illegible\n"
    "  corners.csv   tally,field,position,x0,y0,...,x3,y3: corners of the cell in the picture, pixels,\n"
    "                clockwise from the cell's own top left\n"
    "  pages.csv     how each page was taken, with its homography from template to picture\n"
    "  template.form the template that reads them\n"
    "Parties keep their strength over a run, as in one district. The last line on stdout is JSON.\n"
    "Exit code: 0, 1 (failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template examples/templates/mexico-2015.form --count 20 --out drawn\n"
    "  " TOOL_NAME " --template examples/templates/mexico-2015.form --rows 13 --digits data:test \\\n"
    "      --count 400 --seed 15 --mismatch 0.02 --out district\n"
    "  " TOOL_NAME " --template examples/templates/c1-2019.form --clean --rotate -5..5 --count 50 \\\n"
    "      --format png --out sweep\n";

typedef struct range {
  int given;
  double low, high;
} range;

typedef struct settings {
  const char *form, *digits, *out;
  int count, rows, png;
  uint64_t seed;
  double severity, mismatch;
  range rotate, scale, perspective, blur, light, quality;
} settings;

/* A value, or LOW..HIGH. */
static void take_range(const tool_option *option, const char *value) {
  range *out = option->to;
  const char *dots = strstr(value, "..");
  char *first = copy_text(value);
  if (dots) first[dots - value] = 0;
  out->given = 1;
  out->low = option_real(option->name, first, option->low, option->high);
  out->high =
      dots ? option_real(option->name, dots + 2, option->low, option->high) : out->low;
  free(first);
  if (out->low > out->high) misuse("--%s: %s runs downwards", option->name, value);
}

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  static const char *const formats[] = {"jpg", "png", NULL};
  settings set = {.digits = "strokes", .seed = 1, .severity = 1};
  int clean = 0;
  const tool_option options[] = {
      text_option("template", &set.form),
      integer_option("count", &set.count, 1, 10000000),
      text_option("out", &set.out),
      text_option("digits", &set.digits),
      seed_option(&set.seed),
      double_option("severity", &set.severity, 0, 3),
      flag_option("clean", &clean),
      double_option("mismatch", &set.mismatch, 0, 1),
      integer_option("rows", &set.rows, 1, TALLY_MAX_FIELDS),
      other_option("rotate", &set.rotate, -360, 360, take_range),
      other_option("scale", &set.scale, 0.1, 4, take_range),
      other_option("perspective", &set.perspective, 0, 20, take_range),
      other_option("blur", &set.blur, 0, 10, take_range),
      other_option("light", &set.light, 0, 0.9, take_range),
      other_option("quality", &set.quality, 1, 100, take_range),
      choice_option("format", &set.png, formats),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  refuse_files(argc, argv);
  if (clean) set.severity = 0;
  if (!set.form) misuse("--template is missing");
  if (!set.count) misuse("--count is missing");
  if (!set.out) misuse("--out is missing");
  return set;
}

/* ---- random numbers ---------------------------------------------------------------------------- */

typedef enum {
  PART_VOTES, PART_MISTAKE, PART_HAND, PART_MARKS, PART_CELLS, PART_PRINT, PART_CLUTTER, PART_DIRT,
  PART_CAMERA, PART_NOISE
} stream;

static cn_random stream_of(uint64_t seed, int index, stream which) {
  cn_random random = {0, 0};
  random.seed = mix_seed(mix_seed(seed, (uint64_t)index), (uint64_t)which);
  return random;
}

static double between(cn_random *random, double low, double high) {
  return low + (high - low) * (double)cn_random_uniform(random);
}

static int chance(cn_random *random, double probability) {
  return (double)cn_random_uniform(random) < probability;
}

static int below(cn_random *random, int count) {
  return (int)cn_random_below(random, (uint32_t)count);
}

static double normal(cn_random *random) {
  return (double)cn_random_normal(random);
}

static double limit(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

static uint8_t to_byte(double value) {
  return (uint8_t)(limit(value, 0, 255) + 0.5);
}

/* Two tiles of noise around 0 that every tally shares: drawing noise anew for each pixel would take
   longer than everything else. Paper is cloudy, grain is not. */
#define TILE 256
static int8_t grain_tile[TILE * TILE], paper_tile[TILE * TILE];

/* Adds a periodic noise of `cells` x `cells` knots, bilinear between them. */
static void add_clouds(float *to, cn_random *random, int cells, double strength) {
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

static void make_tiles(void) {
  cn_random random = {0, 0};
  float *clouds = allocate(TILE * TILE, sizeof(float));
  for (int cells = 4; cells <= 128; cells *= 2) add_clouds(clouds, &random, cells, 18);
  for (int i = 0; i < TILE * TILE; i++) {
    paper_tile[i] = (int8_t)limit((double)clouds[i], -127, 127);
    grain_tile[i] = (int8_t)limit(normal(&random) * 40, -127, 127);
  }
  free(clouds);
}

/* ---- homographies ------------------------------------------------------------------------------ */

typedef struct point {
  double x, y;
} point;

static point map_point(const double h[9], double x, double y) {
  double w = h[6] * x + h[7] * y + h[8];
  return (point){(h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w};
}

/* Solves the 8 equations in place by elimination with pivots; the last column is the right side. */
static void solve_8(double m[8][9]) {
  for (int k = 0; k < 8; k++) {
    int pivot = k;
    for (int r = k + 1; r < 8; r++)
      if (fabs(m[r][k]) > fabs(m[pivot][k])) pivot = r;
    for (int c = 0; c < 9; c++) {
      double swap = m[k][c];
      m[k][c] = m[pivot][c];
      m[pivot][c] = swap;
    }
    for (int r = 0; r < 8; r++) {
      if (r == k) continue;
      double factor = m[r][k] / m[k][k];
      for (int c = k; c < 9; c++) m[r][c] -= factor * m[k][c];
    }
  }
  for (int k = 0; k < 8; k++) m[k][8] /= m[k][k];
}

static void homography_between(const point from[4], const point to[4], double h[9]) {
  double m[8][9];
  for (int i = 0; i < 4; i++) {
    double x = from[i].x, y = from[i].y, u = to[i].x, v = to[i].y;
    double rows[2][9] = {{x, y, 1, 0, 0, 0, -u * x, -u * y, u},
                         {0, 0, 0, x, y, 1, -v * x, -v * y, v}};
    memcpy(m[2 * i], rows, sizeof rows);
  }
  solve_8(m);
  for (int k = 0; k < 8; k++) h[k] = m[k][8];
  h[8] = 1;
}

static double homography_invert(const double h[9], double out[9]) {
  out[0] = h[4] * h[8] - h[5] * h[7];
  out[1] = h[2] * h[7] - h[1] * h[8];
  out[2] = h[1] * h[5] - h[2] * h[4];
  out[3] = h[5] * h[6] - h[3] * h[8];
  out[4] = h[0] * h[8] - h[2] * h[6];
  out[5] = h[2] * h[3] - h[0] * h[5];
  out[6] = h[3] * h[7] - h[4] * h[6];
  out[7] = h[1] * h[6] - h[0] * h[7];
  out[8] = h[0] * h[4] - h[1] * h[3];
  return h[0] * out[0] + h[1] * out[3] + h[2] * out[6];
}

/* ---- the canvas -------------------------------------------------------------------------------- */

/* Shapes first go into a mask, as the share of each pixel they cover, and then onto the picture in
   one go, so that where a stroke crosses itself it is no darker. */
typedef struct canvas {
  picture image;
  uint8_t *mask;
  size_t capacity; /* pixels there is room for; the buffers are used again for the next tally */
  int left, top, right, bottom; /* used part of the mask, right and bottom exclusive */
  double to_picture[9], to_page[9], determinant;
} canvas;

typedef struct ink {
  uint8_t colour[3];
  double strength; /* 1 covers the paper fully */
  double grain;    /* 0: even; 1: as rough as pencil */
} ink;

static void canvas_start(canvas *on, int width, int height, const double to_picture[9]) {
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
  on->left = on->top = INT_MAX;
  on->right = on->bottom = 0;
  memcpy(on->to_picture, to_picture, 9 * sizeof(double));
  on->determinant = homography_invert(to_picture, on->to_page);
}

static void canvas_free(canvas *on) {
  free(on->image.pixels);
  free(on->mask);
}

static uint8_t *canvas_row(const canvas *on, int y) {
  return on->image.pixels + (size_t)y * (size_t)on->image.width * 3;
}

static point on_picture(const canvas *on, double x, double y) {
  return map_point(on->to_picture, x, y);
}

/* Picture pixels per template pixel at a point of the page. */
static double scale_at(const canvas *on, double x, double y) {
  double w = on->to_picture[6] * x + on->to_picture[7] * y + on->to_picture[8];
  return sqrt(fabs(on->determinant / (w * w * w)));
}

static void mask_use(canvas *on, int left, int top, int right, int bottom) {
  if (left < on->left) on->left = left;
  if (top < on->top) on->top = top;
  if (right > on->right) on->right = right;
  if (bottom > on->bottom) on->bottom = bottom;
}

static int pixel_limit(double value, int size) {
  return (int)limit(value, 0, size);
}

static void mask_pixel(canvas *on, int x, int y, double cover) {
  uint8_t *to = on->mask + (size_t)y * (size_t)on->image.width + (size_t)x;
  uint8_t value = to_byte(cover * 255);
  if (value > *to) *to = value;
}

/* A straight piece of a pen's path, in picture pixels, with half the pen's width at both ends. A
   line thinner than a pixel covers no pixel wholly. */
static void mask_segment(canvas *on, point a, point b, double half_a, double half_b) {
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

static polygon polygon_of(const point *corners, int count) {
  polygon out = {0};
  double area = 0;
  out.count = count;
  out.top = 1e9;
  out.bottom = -1e9;
  for (int i = 0; i < count; i++) {
    point p = corners[i], q = corners[(i + 1) % count];
    area += p.x * q.y - q.x * p.y;
    out.top = fmin(out.top, p.y);
    out.bottom = fmax(out.bottom, p.y);
  }
  for (int i = 0; i < count; i++) {
    point p = corners[i], q = corners[(i + 1) % count];
    double length = hypot(q.x - p.x, q.y - p.y), sign = area > 0 ? 1 : -1;
    if (length < 1e-9) length = 1e-9;
    out.a[i] = -sign * (q.y - p.y) / length;
    out.b[i] = sign * (q.x - p.x) / length;
    out.c[i] = -(out.a[i] * p.x + out.b[i] * p.y);
  }
  return out;
}

/* The part of a row of pixels that lies at least `inside` within all edges. */
static void polygon_span(const polygon *shape, double y, double inside, double *low, double *high) {
  *low = -1e9;
  *high = 1e9;
  for (int i = 0; i < shape->count; i++) {
    double rest = inside - shape->c[i] - shape->b[i] * y, a = shape->a[i];
    if (a > 1e-9) *low = fmax(*low, rest / a);
    else if (a < -1e-9) *high = fmin(*high, rest / a);
    else if (rest > 0) *high = -1e9;
  }
}

/* Share of a pixel that a polygon covers. With few edges, opposite ones can be closer than a pixel
   and what each cuts off adds up; with many, neighbours would count the same loss twice. */
static double polygon_cover(const polygon *shape, double x, double y) {
  double sum = 0, most = 0;
  for (int i = 0; i < shape->count; i++) {
    double lost = limit(0.5 - (shape->a[i] * x + shape->b[i] * y + shape->c[i]), 0, 1);
    sum += lost;
    most = fmax(most, lost);
  }
  return 1 - fmin(1, shape->count <= 4 ? sum : most);
}

static void mask_polygon(canvas *on, const point *corners, int count) {
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
static int grain_at(int x, int y, int grain) {
  int left = 256 - ((grain * (48 + grain_tile[(y % TILE) * TILE + x % TILE])) >> 7);
  return left < 0 ? 0 : left > 256 ? 256 : left;
}

/* Puts the masked shape on the picture as ink on paper, which multiplies, and clears the mask. */
static void canvas_ink(canvas *on, const ink *with) {
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
  on->left = on->top = INT_MAX;
  on->right = on->bottom = 0;
}

/* ---- shapes in page coordinates ---------------------------------------------------------------- */

static void mask_box(canvas *on, double x, double y, double width, double height) {
  point corners[4] = {on_picture(on, x, y), on_picture(on, x + width, y),
                      on_picture(on, x + width, y + height), on_picture(on, x, y + height)};
  mask_polygon(on, corners, 4);
}

static void mask_disc(canvas *on, double x, double y, double radius) {
  point corners[MAX_EDGES];
  for (int i = 0; i < MAX_EDGES; i++) {
    double angle = 2 * 3.14159265358979 * i / MAX_EDGES;
    corners[i] = on_picture(on, x + radius * cos(angle), y + radius * sin(angle));
  }
  mask_polygon(on, corners, MAX_EDGES);
}

static void mask_line(canvas *on, double x0, double y0, double x1, double y1, double pen) {
  double half = pen / 2 * scale_at(on, x0, y0);
  mask_segment(on, on_picture(on, x0, y0), on_picture(on, x1, y1), half, half);
}

/* Letters of the printed text: pen points on a grid of 5 columns and 7 rows, a blank lifts the pen. */
static const char *letter_strokes(char letter) {
  static const char *const capitals[26] = {
      "062046 1434", "06003041423303 3344453606", "4130100105163645", "06003041453606",
      "40000646 0333", "400006 0333", "41301001051636454323", "0006 4046 0343", "2026", "4045361605",
      "0006 400346", "000646", "0600234046", "06004640", "100105163645413010", "06003041423303",
      "100105163645413010 2446", "06003041423303 2346", "413010010213334445361605", "0040 2026",
      "000516364540", "002640", "0016233640", "0046 4006", "002340 2326", "00400646"};
  static const char *const digits[10] = {
      "100105163645413010", "112026", "01103041420646", "01103041423323 334445361605", "36300444",
      "4000033344453616", "413010010516364544331304", "004016", "13020110304142331304051636454433",
      "051636454130100102133342"};
  if (letter >= 'a' && letter <= 'z') return capitals[letter - 'a'];
  if (letter >= 'A' && letter <= 'Z') return capitals[letter - 'A'];
  if (letter >= '0' && letter <= '9') return digits[letter - '0'];
  switch (letter) {
  case '.': return "2526";
  case ':': return "2223 2526";
  case '-': return "1333";
  case '/': return "0640";
  case '(': return "30122436";
  case ')': return "10323416";
  default: return "";
  }
}

static double words_width(const char *words, double height) {
  return (double)strlen(words) * height * 5.6 / 6;
}

static void mask_words(canvas *on, double x, double y, double height, double pen,
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

static void print_words(canvas *on, const ink *black, double x, double y, double height, double pen,
                        const char *words) {
  mask_words(on, x, y, height, pen, words);
  canvas_ink(on, black);
}

/* ---- handwriting ------------------------------------------------------------------------------- */

/* What can be written into a cell; the first thirteen are the classes of tally.h. */
enum { CROSS = TALLY_CLASS_CROSS, EMPTY, ILLEGIBLE, DASH, SYMBOLS };
static const char *const symbol_names[SYMBOLS] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
                                                  "cross", "empty", "illegible", "dash"};

/* How people write them: points of the pen's path in a box of 100 x 100, y down, that a smooth curve
   is laid through; the same point twice makes a corner, UP lifts the pen, END ends. */
#define UP (-1)
#define END (-2)
#define VARIANTS 3
static const signed char skeletons[SYMBOLS][VARIANTS][48] = {
    {{55, 0, 20, 12, 2, 50, 20, 88, 50, 100, 80, 88, 98, 50, 80, 12, 50, 1, END},
     {64, 5, 25, 8, 3, 45, 14, 86, 48, 100, 85, 85, 98, 48, 82, 12, 52, 1, 38, 8, END},
     {50, 0, 80, 10, 96, 50, 78, 90, 48, 100, 18, 88, 4, 50, 20, 10, 56, 2, END}},
    {{52, 0, 50, 50, 49, 100, END},
     {30, 24, 54, 0, 54, 0, 52, 50, 51, 100, END},
     {28, 22, 52, 0, 52, 0, 51, 50, 51, 99, UP, 24, 100, 80, 99, END}},
    {{8, 22, 25, 4, 55, 0, 85, 14, 86, 36, 60, 66, 5, 100, 5, 100, 50, 98, 98, 97, END},
     {10, 20, 30, 2,  65, 2,  88, 22, 75,  52, 40, 84, 12,
      97, 9,  84, 28, 80, 52, 94, 76, 100, 99, 90, END},
     {6, 10, 40, 0, 84, 8, 78, 36, 40, 74, 8, 98, 8, 98, 55, 90, 96, 98, END}},
    {{10, 14, 35, 0,  75, 4,  88, 24, 70,  43, 40, 48, 40,
      48, 76, 54, 95, 74, 75, 95, 35, 100, 5,  86, END},
     {8, 2, 50, 3, 88, 2, 88, 2, 45, 40, 45, 40, 80, 50, 95, 74, 70, 97, 30, 100, 5, 86, END},
     {12, 8, 50, 0, 86, 16, 60, 44, 30, 50, 60, 50, 92, 72, 70, 97, 20, 98, END}},
    {{28, 0, 16, 30, 8, 56, 8, 56, 50, 58, 96, 56, UP, 72, 18, 68, 60, 66, 100, END},
     {66, 0, 36, 36, 4, 66, 4, 66, 50, 67, 99, 66, UP, 68, 1, 67, 50, 66, 100, END},
     {20, 4, 14, 30, 20, 48, 50, 52, 80, 44, UP, 84, 0, 78, 50, 74, 100, END}},
    {{22, 2,  18, 22, 15, 43, 15, 43, 50, 36, 88, 52, 90,
      78, 60, 99, 8,  92, UP, 22, 3,  55, 2,  94, 0,  END},
     {90, 2,  55, 3,  22, 4,  22, 4,  18,  25, 15, 45, 15,
      45, 55, 38, 90, 58, 84, 86, 45, 100, 5,  90, END},
     {88, 4, 45, 4, 24, 14, 24, 38, 60, 48, 88, 70, 64, 97, 8, 94, END}},
    {{76, 2, 38, 24, 8, 62, 20, 94, 55, 100, 88, 82, 80, 56, 45, 50, 12, 72, END},
     {60, 0, 28, 38, 8, 75, 35, 99, 75, 96, 90, 74, 66, 56, 32, 60, 12, 78, END},
     {84, 8, 50, 4, 18, 34, 6, 70, 28, 98, 70, 98, 92, 76, 70, 54, 30, 60, END}},
    {{5, 6, 50, 5, 92, 3, 92, 3, 60, 46, 40, 100, END},
     {5, 5, 50, 4, 92, 3, 92, 3, 60, 46, 42, 100, UP, 24, 52, 84, 48, END},
     {8, 20, 9, 4, 9, 4, 50, 5, 92, 4, 92, 4, 55, 55, 40, 100, END}},
    {{82,  14, 46, 0,  14, 20, 36, 42, 76, 60, 88, 82, 55,
      100, 14, 86, 20, 64, 62, 42, 86, 18, 70, 4,  END},
     {52, 46, 20, 30, 24, 6,   52, 0,  80, 8,  80, 32, 50, 46,
      14, 62, 10, 88, 48, 100, 88, 88, 86, 62, 54, 47, END},
     {70, 8, 34, 2, 18, 22, 50, 46, 84, 72, 66, 98, 28, 96, 16, 74, 50, 48, 82, 20, 66, 6, END}},
    {{86, 18, 50, 0, 15, 15, 12, 42, 45, 54, 80, 38, 88, 14, 88, 14, 84, 55, 70, 100, END},
     {84, 14, 46, 0, 12, 20, 16, 46, 50, 52, 82, 32, 88, 10, 86, 60, 66, 96, 22, 98, END},
     {82, 20, 48, 2, 14, 22, 24, 50, 60, 48, 84, 18, 86, 4, 86, 4, 84, 50, 82, 100, END}},
    {{5, 6, 50, 48, 95, 95, UP, 92, 4, 50, 50, 6, 96, END},
     {12, 0, 50, 50, 88, 100, UP, 98, 12, 50, 48, 2, 90, END},
     {94, 4, 50, 48, 10, 90, 2, 78, 14, 66, 50, 76, 98, 98, END}},
    {{END}, {END}, {END}},
    {{END}, {END}, {END}},
    {{2, 52, 50, 49, 98, 48, END}, {4, 46, 50, 52, 96, 54, END}, {8, 50, 50, 46, 92, 50, END}}};

/* Handwritten samples of the ten digits; without a data set digits are drawn by the pen. */
typedef struct sample_box {
  dataset data;
  int given;
  int *of[10], count[10]; /* which samples show a digit */
  float *pen, *slant;     /* of each sample: breadth of its strokes in pixels, lean of its ink */
} sample_box;

enum { LEADING_ZEROS, LEADING_BLANKS, LEADING_CROSSES, LEADING_DASHES };

/* One person with one pen. Lengths in template pixels. */
typedef struct writer {
  int variant[SYMBOLS], habit, joins; /* joins letters, or prints them */
  double height, aspect, slant, turn, pen, tremor;
  double sample_pen, sample_slant; /* what this hand's samples look like */
  double shift_x, shift_y, wander; /* in the cell, shares of its size */
  ink with;
} writer;

static void choose_ink(writer *w, cn_random *random, double severity) {
  double kind = (double)cn_random_uniform(random), shade = between(random, -14, 14);
  if (kind < 0.5)
    w->with = (ink){{to_byte(34 + shade), to_byte(34 + shade), to_byte(40 + shade)}, 0.95, 0.1};
  else
    w->with =
        (ink){{to_byte(34 + shade), to_byte(48 + shade), to_byte(142 + 2 * shade)}, 0.93, 0.12};
  if (chance(random, 0.12 * severity)) {
    w->with = (ink){{to_byte(88 + shade), to_byte(88 + shade), to_byte(94 + shade)}, 0, 0};
    w->with.strength = between(random, 0.65, 0.9);
    w->with.grain = between(random, 0.5, 0.9);
  } else if (chance(random, 0.08 * severity)) {
    w->with.strength = between(random, 0.45, 0.65);
  }
}

/* How leading zeros are written by those who do not write zeros, as far as the form allows it; dashes
   are the least common. */
static int other_habit(const tally_template *form, cn_random *random) {
  static const int common[] = {LEADING_BLANKS, LEADING_BLANKS, LEADING_CROSSES, LEADING_CROSSES,
                               LEADING_DASHES};
  const tally_mark meaning[] = {form->empty, form->empty, form->cross, form->cross, form->dash};
  int habits[5], count = 0;
  for (int i = 0; i < 5; i++)
    if (meaning[i] == TALLY_MARK_LEADING_ZERO) habits[count++] = common[i];
  return count ? habits[below(random, count)] : LEADING_ZEROS;
}

static writer choose_writer(const tally_template *form, const sample_box *samples,
                            cn_random *random, double severity) {
  writer w = {0};
  double unit = form->width / 1000, odd = fmin(severity, 2);
  for (int s = 0; s < SYMBOLS; s++) w.variant[s] = below(random, VARIANTS);
  w.joins = chance(random, 0.5);
  w.height = unit * between(random, 30 - 7 * odd, 30 + 10 * odd);
  w.aspect = between(random, 0.6 - 0.1 * odd, 0.6 + 0.12 * odd);
  w.slant = normal(random) * 0.11 * odd + 0.05 * odd;
  w.turn = normal(random) * 0.03 * odd;
  w.pen = unit * between(random, 2.2 - 0.7 * odd, 2.2 + 1.2 * odd);
  w.tremor = between(random, 1, 1 + 2.5 * odd);
  w.shift_x = normal(random) * 0.05 * odd;
  w.shift_y = normal(random) * 0.05 * odd;
  w.wander = 0.02 + between(random, 0.01, 0.05) * odd;
  choose_ink(&w, random, severity);
  if (samples->given) {
    int like = below(random, samples->data.count);
    w.sample_pen = (double)samples->pen[like];
    w.sample_slant = (double)samples->slant[like];
  }
  w.habit = chance(random, 0.3 * severity) ? other_habit(form, random) : LEADING_ZEROS;
  return w;
}

/* Draws a smooth curve (Catmull-Rom) through points of the page, pressing now more, now less. */
static void mask_curve(canvas *on, const point *points, int count, double pen, cn_random *random) {
  enum { PIECES = 5 };
  double phase = between(random, 0, 6.28), scale = scale_at(on, points[0].x, points[0].y);
  point last = on_picture(on, points[0].x, points[0].y);
  double last_half = 0.4 * pen * scale;
  for (int i = 0; i + 1 < count; i++) {
    point p0 = points[i ? i - 1 : 0], p1 = points[i], p2 = points[i + 1];
    point p3 = points[i + 2 < count ? i + 2 : count - 1];
    for (int k = 1; k <= PIECES; k++) {
      double t = (double)k / PIECES, u = t * t, v = u * t;
      double a = -0.5 * v + u - 0.5 * t, b = 1.5 * v - 2.5 * u + 1, c = -1.5 * v + 2 * u + 0.5 * t;
      double d = 0.5 * v - 0.5 * u,
             half = 0.5 * pen * scale * (1 + 0.13 * sin(phase + 0.9 * (i + t)));
      point next = on_picture(on, a * p0.x + b * p1.x + c * p2.x + d * p3.x,
                              a * p0.y + b * p1.y + c * p2.y + d * p3.y);
      mask_segment(on, last, next, last_half, half);
      last = next;
      last_half = half;
    }
  }
}

/* Where and how large a symbol is written. */
typedef struct placement {
  point centre;
  double height, width, slant, turn;
} placement;

static point place(const placement *at, double x, double y) {
  double u = (x / 100 - 0.5) * at->width, v = (y / 100 - 0.5) * at->height;
  u -= at->slant * v;
  return (point){at->centre.x + u * cos(at->turn) - v * sin(at->turn),
                 at->centre.y + u * sin(at->turn) + v * cos(at->turn)};
}

/* Draws a symbol from its skeleton. */
static void mask_skeleton(canvas *on, const writer *w, cn_random *random, int symbol,
                          const placement *at) {
  const signed char *from = skeletons[symbol][w->variant[symbol]];
  point path[24];
  int count = 0;
  for (;; from += 2) {
    if (*from == UP || *from == END) {
      if (count > 1) mask_curve(on, path, count, w->pen, random);
      count = 0;
      if (*from == END) return;
      from++;
    }
    int corner = count && from[0] == from[-2] && from[1] == from[-1];
    if (corner) path[count] = path[count - 1];
    else {
      /* the arms of a hurried cross are bent and of unequal length */
      double reach = symbol == CROSS ? between(random, 0.2, 1.1) : 1;
      double tremor = symbol == CROSS ? w->tremor + 5 : w->tremor;
      path[count] = place(at, 50 + reach * (from[0] - 50) + normal(random) * tremor,
                          50 + reach * (from[1] - 50) + normal(random) * tremor);
    }
    count++;
  }
}

/* Weights of the cubic B-spline at a position between two samples. */
static void spline_weights(double t, double weight[4]) {
  double u = 1 - t;
  weight[0] = u * u * u / 6;
  weight[1] = (3 * t * t * t - 6 * t * t + 4) / 6;
  weight[2] = (3 * u * u * u - 6 * u * u + 4) / 6;
  weight[3] = t * t * t / 6;
}

static double sample_bitmap(const uint8_t *bitmap, double x, double y) {
  double wx[4], wy[4], sum = 0;
  int left = (int)floor(x - 0.5), top = (int)floor(y - 0.5);
  spline_weights(x - 0.5 - left, wx);
  spline_weights(y - 0.5 - top, wy);
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < 4; i++) {
      int px = left - 1 + i, py = top - 1 + j;
      if (px < 0 || py < 0 || px >= TALLY_SIDE || py >= TALLY_SIDE) continue;
      sum += wx[i] * wy[j] * bitmap[py * TALLY_SIDE + px];
    }
  return sum / 255;
}

/* Draws a sample of 28 x 28. Its grey edges are sharpened to about a pixel of the picture; where the
   edge is taken sets how broad the pen is. */
static void mask_sample(canvas *on, const writer *w, const uint8_t *bitmap, const placement *at) {
  double zoom = at->height / 20, edge = limit(0.62 - 0.09 * w->pen / zoom, 0.22, 0.5);
  double sharp = 0.55 * zoom * scale_at(on, at->centre.x, at->centre.y) + 0.6;
  double reach = 1.5 * at->height, ct = cos(at->turn), st = sin(at->turn);
  double low_x = 1e9, low_y = 1e9, high_x = -1e9, high_y = -1e9;
  for (int k = 0; k < 4; k++) {
    point p = on_picture(on, at->centre.x + (k & 1 ? reach : -reach) / 2 * 1.1,
                         at->centre.y + (k & 2 ? reach : -reach) / 2);
    low_x = fmin(low_x, p.x);
    high_x = fmax(high_x, p.x);
    low_y = fmin(low_y, p.y);
    high_y = fmax(high_y, p.y);
  }
  int left = pixel_limit(floor(low_x), on->image.width),
      right = pixel_limit(ceil(high_x), on->image.width);
  int top = pixel_limit(floor(low_y), on->image.height);
  int bottom = pixel_limit(ceil(high_y), on->image.height);
  if (left >= right || top >= bottom) return;
  mask_use(on, left, top, right, bottom);
  for (int y = top; y < bottom; y++)
    for (int x = left; x < right; x++) {
      point p = map_point(on->to_page, x + 0.5, y + 0.5);
      double dx = p.x - at->centre.x, dy = p.y - at->centre.y;
      double u = dx * ct + dy * st, v = dy * ct - dx * st;
      u = (u + at->slant * v) / zoom + TALLY_SIDE / 2.0;
      v = v / zoom + TALLY_SIDE / 2.0;
      if (u < 2 || v < 2 || u > TALLY_SIDE - 2 || v > TALLY_SIDE - 2) continue;
      double cover = (sample_bitmap(bitmap, u, v) - edge) * sharp * 1.6 + 0.5;
      if (cover > 0) mask_pixel(on, x, y, cover);
    }
}

/* A data set mixes many hands. Of some samples drawn at random, the one most like this writer's. */
static int choose_sample(const writer *w, const sample_box *samples, cn_random *random, int digit) {
  int best = 0;
  double least = 1e9;
  for (int i = 0; i < 12; i++) {
    int which = samples->of[digit][below(random, samples->count[digit])];
    double unlike = fabs((double)samples->pen[which] - w->sample_pen) +
                    2 * fabs((double)samples->slant[which] - w->sample_slant);
    if (unlike < least) {
      least = unlike;
      best = which;
    }
  }
  return best;
}

static void mask_symbol(canvas *on, const writer *w, const sample_box *samples, cn_random *random,
                        int symbol, const placement *at) {
  if (symbol > 9 || !samples->given) {
    mask_skeleton(on, w, random, symbol, at);
    return;
  }
  int which = choose_sample(w, samples, random, symbol);
  mask_sample(on, w, samples->data.pixels + (size_t)which * TALLY_SIDE * TALLY_SIDE, at);
}

/* A place in a cell as this writer would choose it; some leave the box. */
static placement choose_place(const writer *w, cn_random *random, const tally_box *cell, int symbol,
                              double severity) {
  placement at;
  int stray = chance(random, 0.03 * severity);
  double wander = stray ? 0.16 : w->wander;
  at.height = fmin(w->height, fmin(0.8 * cell->height, 0.95 * cell->width / w->aspect));
  at.height *= (1 + 0.06 * limit(normal(random), -2, 2)) * (stray ? 1.2 : 1);
  if (symbol == CROSS) at.height *= between(random, 0.7, 1.1);
  at.width = at.height * (symbol == CROSS ? 0.9 : symbol == DASH ? 0.8 : w->aspect);
  at.slant = w->slant + 0.03 * normal(random);
  at.turn = w->turn + 0.04 * normal(random) * fmin(1, severity + 0.2);
  at.centre.x =
      cell->x + cell->width * (0.5 + limit(w->shift_x + wander * normal(random), -0.3, 0.3));
  at.centre.y =
      cell->y + cell->height * (0.5 + limit(w->shift_y + wander * normal(random), -0.25, 0.25));
  return at;
}

/* A zigzag over a place, as one crosses out what is wrong. */
static void mask_zigzag(canvas *on, const writer *w, cn_random *random, const placement *at) {
  point path[12];
  for (int i = 0; i < 12; i++)
    path[i] = place(at, i % 2 ? between(random, 85, 125) : between(random, -25, 15),
                    100.0 * i / 11 + 12 * normal(random));
  mask_curve(on, path, 12, w->pen, random);
}

/* Something that nobody can read: three digits over each other, or one or two scribbled over. Ones
   and sevens would leave the others readable. */
static void mask_illegible(canvas *on, const writer *w, const sample_box *samples,
                           cn_random *random, const placement *at) {
  static const int full[] = {0, 2, 3, 4, 5, 6, 8, 9};
  int first = below(random, 8), count = 1 + below(random, 3);
  placement other = *at;
  for (int i = 0; i < count; i++) {
    mask_symbol(on, w, samples, random, full[(first + 3 * i) % 8], &other);
    other.centre.x = at->centre.x + between(random, -0.12, 0.12) * at->height;
    other.height = at->height * between(random, 0.9, 1.15);
  }
  if (count < 3) mask_zigzag(on, w, random, at);
}

static void write_cell(canvas *on, const writer *w, const sample_box *samples, cn_random *random,
                       const tally_box *cell, int symbol, double severity) {
  if (symbol == EMPTY) return;
  placement at = choose_place(w, random, cell, symbol, severity);
  ink with = w->with;
  with.strength *= between(random, 0.92, 1.0);
  if (chance(random, 0.01 * severity)) with.strength *= 0.65;
  if (symbol == ILLEGIBLE) mask_illegible(on, w, samples, random, &at);
  else mask_symbol(on, w, samples, random, symbol, &at);
  canvas_ink(on, &with);
}

/* A capital letter printed by hand. */
static void mask_letter(canvas *on, const writer *w, cn_random *random, double x, double y,
                        double size) {
  const char *at = letter_strokes((char)('A' + below(random, 26)));
  point path[24];
  int count = 0;
  for (;; at += 2) {
    if (*at == ' ' || !*at) {
      if (count > 1) mask_curve(on, path, count, w->pen * 0.9, random);
      count = 0;
      if (!*at) return;
      at++;
    }
    double v = (at[1] - '0') / 6.0 + 0.06 * normal(random);
    double u = (at[0] - '0') / 6.0 + 0.06 * normal(random) - w->slant * (v - 0.5);
    path[count++] = (point){x + size * u, y + size * v};
  }
}

/* Joined letters: loops along a line. */
static void mask_loops(canvas *on, const writer *w, cn_random *random, double x, double y,
                       double width, double height) {
  point path[40];
  int count = (int)limit(4 * width / height, 5, 39) + 1;
  double turn = between(random, 1.3, 2.2), phase = between(random, 0, 6);
  for (int i = 0; i < count; i++) {
    double tall = chance(random, 0.25) ? 0.9 : 0.42, v = sin(phase + turn * i);
    path[i].y = y + height * (0.8 - tall * 0.5 * (1 + v)) + 0.05 * height * normal(random);
    path[i].x =
        x + width * i / count + 0.25 * height * cos(phase + turn * i) - w->slant * height * v;
  }
  mask_curve(on, path, count, w->pen * 0.9, random);
}

/* Words in somebody's hand that mean nothing. */
static void scribble(canvas *on, const writer *w, cn_random *random, double x, double y,
                     double width, double height) {
  for (double from = x; from + height < x + width;) {
    double length = fmin(x + width - from, height * between(random, 2, 5));
    if (w->joins) mask_loops(on, w, random, from, y, length, height);
    else
      for (double at = 0; at + 0.6 * height < length; at += 0.95 * height)
        mask_letter(on, w, random, from + at, y, height);
    from += length + height * between(random, 0.5, 1);
  }
  canvas_ink(on, &w->with);
}

/* ---- votes ------------------------------------------------------------------------------------- */

/* District 15 of the paper: counts from 0 to 176, half of them 12 or less. */
#define MOST_VOTES 176
#define MIDDLE_VOTES 10.5
#define LEAST_VOTERS 180

/* Mean votes of each field that is not the sum of others; the same for all tallies of a run. */
typedef struct district {
  int is_total[TALLY_MAX_FIELDS];
  double strength[TALLY_MAX_FIELDS];
} district;

/* Quantile of the normal distribution, close enough for strengths (Tukey's lambda). */
static double normal_quantile(double p) {
  return (pow(p, 0.135) - pow(1 - p, 0.135)) / 0.1975;
}

/* Strengths are spread evenly over the quantiles of a skewed distribution and dealt out by the seed,
   so every district has its large parties and its dwarfs. The last row, by custom the spoilt votes,
   gets a small one. Forms with few rows get more votes a row. */
static district make_district(const tally_template *form, uint64_t seed) {
  district out = {{0}, {0}};
  int leaf[TALLY_MAX_FIELDS], order[TALLY_MAX_FIELDS], leaves = 0;
  double sum = 0;
  cn_random random = {0, 0};
  random.seed = mix_seed(seed, 0x5eed);
  for (int s = 0; s < form->sums; s++) out.is_total[form->sum[s].total] = 1;
  for (int f = 0; f < form->fields; f++)
    if (!out.is_total[f]) leaf[leaves++] = f;
  for (int i = 0; i < leaves; i++) order[i] = i;
  cn_random_shuffle(&random, order, leaves);
  for (int i = 0; i < leaves; i++)
    if (order[i] == leaves / 4) {
      order[i] = order[leaves - 1];
      order[leaves - 1] = leaves / 4;
      break;
    }
  for (int i = 0; i < leaves; i++) {
    double strength = MIDDLE_VOTES * exp(1.25 * normal_quantile((order[i] + 0.5) / leaves));
    out.strength[leaf[i]] = strength;
    sum += strength;
  }
  for (int i = 0; i < leaves; i++) out.strength[leaf[i]] *= fmax(1, LEAST_VOTERS / sum);
  return out;
}

static int poisson(cn_random *random, double mean) {
  if (mean > 40) return (int)fmax(0, mean + sqrt(mean) * normal(random) + 0.5);
  double left = exp(-mean), product = 1;
  int count = -1;
  do {
    product *= between(random, 0, 1);
    count++;
  } while (product > left);
  return count;
}

static int most_of(const tally_template *form, int field) {
  int most = 1;
  for (int k = 0; k < form->field[field].digits; k++) most *= 10;
  return most - 1;
}

/* Totals of totals need as many rounds as they are deep. */
static void add_up(const tally_template *form, int *value) {
  for (int round = 0; round < form->sums; round++)
    for (int s = 0; s < form->sums; s++) {
      const tally_sum *sum = &form->sum[s];
      value[sum->total] = 0;
      for (int k = 0; k < sum->parts; k++) value[sum->total] += value[sum->part[k]];
    }
}

static int fits(const tally_template *form, const int *value) {
  for (int f = 0; f < form->fields; f++)
    if (value[f] > most_of(form, f)) return 0;
  return 1;
}

/* One polling station's votes. Where a total does not fit into its boxes, fewer people came. */
static void deal_votes(const tally_template *form, const district *parties, cn_random *random,
                       int *value) {
  double turnout = exp(0.3 * normal(random));
  for (int f = 0; f < form->fields; f++) {
    value[f] = 0;
    if (parties->is_total[f]) continue;
    double mean = parties->strength[f] * turnout * exp(0.35 * normal(random));
    value[f] = poisson(random, fmin(mean, MOST_VOTES));
    value[f] = (int)limit(value[f], 0, fmin(MOST_VOTES, most_of(form, f)));
  }
  for (add_up(form, value); !fits(form, value); add_up(form, value))
    for (int f = 0; f < form->fields; f++) value[f] /= 2;
}

static int adds_up(const tally_template *form, const int *value) {
  for (int s = 0; s < form->sums; s++) {
    int sum = 0;
    for (int k = 0; k < form->sum[s].parts; k++) sum += value[form->sum[s].part[k]];
    if (sum != value[form->sum[s].total]) return 0;
  }
  return 1;
}

/* Somebody's mistake: one number of one sum is off by a little, or in one digit. */
static void miscount(const tally_template *form, cn_random *random, const district *parties,
                     int *value) {
  static const int slips[] = {1, 2, 3, 9, 10, 20, 100};
  const tally_sum *sum = &form->sum[below(random, form->sums)];
  int field = chance(random, 0.6) ? sum->total : sum->part[below(random, sum->parts)];
  int most =
      parties->is_total[field] ? most_of(form, field) : (int)fmin(MOST_VOTES, most_of(form, field));
  int slip = slips[below(random, 7)] * (chance(random, 0.5) ? 1 : -1);
  if (value[field] + slip < 0 || value[field] + slip > most) slip = value[field] > 0 ? -1 : 1;
  value[field] += slip;
}

/* ---- what is written into the cells ------------------------------------------------------------ */

enum { STATE_NUMBER, STATE_MISSING, STATE_ILLEGIBLE };

typedef struct tally {
  int value[TALLY_MAX_FIELDS], state[TALLY_MAX_FIELDS], adds_up;
  int mark[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS]; /* by cell, in the order of tally_cut */
} tally;

/* The marks of one number. Zeros before it are written as the writer's habit has it, now and then in
   another way; nothing at all may stand for a nought. */
static void mark_number(tally *t, const tally_template *form, int field, const writer *w,
                        cn_random *random, double severity) {
  static const int leading[] = {0, EMPTY, CROSS, DASH};
  const tally_field *f = &form->field[field];
  int rest = t->value[field], habit = w->habit, *mark = t->mark + f->first_cell;
  if (chance(random, 0.03 * severity)) habit = other_habit(form, random);
  if (rest == 0 && chance(random, 0.03 * severity)) {
    t->state[field] = STATE_MISSING;
    for (int k = 0; k < f->digits; k++) mark[k] = EMPTY;
    return;
  }
  int whole = rest == 0 && habit >= LEADING_CROSSES && chance(random, 0.8);
  for (int k = f->digits - 1; k >= 0; k--, rest /= 10) {
    int zero = rest == 0 && (k < f->digits - 1 || whole);
    mark[k] = zero ? leading[habit] : rest % 10;
    if (mark[k] != EMPTY && chance(random, 0.003 * severity)) {
      mark[k] = ILLEGIBLE;
      t->state[field] = STATE_ILLEGIBLE;
    }
  }
}

static void fill_in(tally *t, const tally_template *form, const district *parties, const writer *w,
                    const settings *set, int index) {
  cn_random votes = stream_of(set->seed, index, PART_VOTES);
  cn_random mistake = stream_of(set->seed, index, PART_MISTAKE);
  cn_random marks = stream_of(set->seed, index, PART_MARKS);
  memset(t, 0, sizeof *t);
  deal_votes(form, parties, &votes, t->value);
  if (chance(&mistake, set->mismatch)) miscount(form, &mistake, parties, t->value);
  t->adds_up = adds_up(form, t->value);
  for (int f = 0; f < form->fields; f++) mark_number(t, form, f, w, &marks, set->severity);
}

/* ---- the printed form -------------------------------------------------------------------------- */

typedef struct press {
  const tally_template *form;
  cn_random random;
  ink black;
  double unit, rule, severity; /* a thousandth of the page's width; width of a rule */
  int colour;                  /* the form has anchors in colour */
  double left, top, right, bottom; /* of everything the template names but anchors */
} press;

static void extend(press *p, double left, double top, double right, double bottom) {
  p->left = fmin(p->left, left);
  p->top = fmin(p->top, top);
  p->right = fmax(p->right, right);
  p->bottom = fmax(p->bottom, bottom);
}

static press set_press(const tally_template *form, const settings *set, int index) {
  press p = {0};
  p.form = form;
  p.random = stream_of(set->seed, index, PART_PRINT);
  p.severity = set->severity;
  p.unit = form->width / 1000;
  p.left = p.top = 1e9;
  double worn = fmin(set->severity, 1);
  p.rule = p.unit * between(&p.random, 2.1 - 0.5 * worn, 2.1 + 0.6 * worn);
  uint8_t shade = to_byte(between(&p.random, 36 - 16 * worn, 36 + 34 * worn));
  p.black = (ink){{shade, shade, to_byte(shade + 3.0)}, 0.97, 0.1 * worn};
  for (int a = 0; a < form->anchors; a++)
    if (form->anchor[a].kind != TALLY_ANCHOR_SQUARE) p.colour = 1;
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *rule = &form->rule[r];
    if (rule->down) extend(&p, rule->at, rule->from, rule->at, rule->to);
    else extend(&p, rule->from, rule->at, rule->to, rule->at);
  }
  for (int f = 0; f < form->fields; f++)
    for (int k = 0; k < form->field[f].digits; k++) {
      const tally_box *b = &form->field[f].cell[k];
      extend(&p, b->x, b->y, b->x + b->width, b->y + b->height);
    }
  return p;
}

static void hsv_to_rgb(double h, double s, double v, uint8_t rgb[3]) {
  double chroma = v * s, sector = fmod(h, 360) / 60, x = chroma * (1 - fabs(fmod(sector, 2) - 1));
  double parts[6][3] = {{chroma, x, 0}, {x, chroma, 0}, {0, chroma, x},
                        {0, x, chroma}, {x, 0, chroma}, {chroma, 0, x}};
  for (int c = 0; c < 3; c++) rgb[c] = to_byte((parts[(int)sector][c] + v - chroma) * 255);
}

/* A colour well inside an anchor's range, for a camera will move it. */
static ink anchor_ink(press *p, const tally_anchor *anchor) {
  double at[3];
  ink out = {{0, 0, 0}, 1, 0.05 * fmin(1, p->severity)};
  for (int c = 0; c < 3; c++) {
    double low = anchor->hsv_low[c], high = anchor->hsv_high[c];
    if (c == 0 && low > high) high += 360;
    double share = c == 0 ? between(&p->random, 0.4, 0.6) : between(&p->random, 0.65, 0.85);
    at[c] = low + share * (high - low);
  }
  hsv_to_rgb(at[0], at[1] / 100, at[2] / 100, out.colour);
  return out;
}

static void print_anchors(press *p, canvas *on) {
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_anchor *anchor = &p->form->anchor[a];
    const tally_box *b = &anchor->box;
    ink with = anchor->kind == TALLY_ANCHOR_SQUARE ? p->black : anchor_ink(p, anchor);
    if (anchor->kind == TALLY_ANCHOR_DISC)
      mask_disc(on, b->x + b->width / 2, b->y + b->height / 2, b->width / 2);
    else mask_box(on, b->x, b->y, b->width, b->height);
    canvas_ink(on, &with);
  }
}

/* A rule, in pieces, as worn print and coarse scanners drop some of it. */
static void print_rule(press *p, canvas *on, int down, double at, double from, double to,
                       double width) {
  double whole = p->severity == 0 ? to - from : 60 * p->unit;
  for (double start = from; start < to - 1e-6;) {
    double end = fmin(to, start + whole * between(&p->random, 0.5, 1.5));
    ink with = p->black;
    if (p->severity == 0) end = to;
    else if (chance(&p->random, 0.06 * p->severity)) with.strength = between(&p->random, 0.25, 0.8);
    double joined = fmin(to, end + 0.4 * p->unit);
    if (down) mask_box(on, at - width / 2, start, width, joined - start);
    else mask_box(on, start, at - width / 2, joined - start, width);
    canvas_ink(on, &with);
    start = end;
  }
}

static void print_boxes(press *p, canvas *on, const tally_field *field) {
  double width = p->rule * between(&p->random, 0.7, 1), half = width / 2;
  for (int k = 0; k < field->digits; k++) {
    const tally_box *b = &field->cell[k];
    double right = b->x + b->width, bottom = b->y + b->height;
    int joined = k + 1 < field->digits && fabs(field->cell[k + 1].x - right) < 0.5;
    print_rule(p, on, 0, b->y, b->x - half, right + half, width);
    print_rule(p, on, 0, bottom, b->x - half, right + half, width);
    print_rule(p, on, 1, b->x, b->y - half, bottom + half, width);
    if (!joined) print_rule(p, on, 1, right, b->y - half, bottom + half, width);
  }
}

/* The column to the left of a field, where its name stands: from the table's left to the last rule
   down before the boxes. A rule across that ends early, at the height of the boxes, has a solid bar
   behind it (0: there is none), and the name ends there. */
static void name_column(const press *p, const tally_field *field, double *left, double *right,
                        double *bar) {
  const tally_box *b = &field->cell[0];
  double middle = b->y + b->height / 2;
  *left = fmax(p->left, 0.06 * p->form->width);
  *right = b->x;
  *bar = 0;
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down && rule->from < middle && rule->to > middle && rule->at < b->x - 2)
      *right = *right == b->x || rule->at > *right ? rule->at : *right;
    if (!rule->down && fabs(rule->at - b->y) < 2 && rule->to < b->x - 40 * p->unit) *bar = rule->to;
  }
  if (*right < *left + 100 * p->unit) *right = b->x;
  if (*bar > 0) *right = *bar;
}

static void print_emblem(press *p, canvas *on, int number, double x, double y, double size) {
  char letter[2] = {p->form->field[number].name[0], 0};
  ink with = {{0, 0, 0}, 0.9, 0};
  hsv_to_rgb(fmod(number * 137.5 + 200, 360), 0.75, 0.75, with.colour);
  if (number % 3 == 0) mask_disc(on, x + size / 2, y + size / 2, size / 2);
  else mask_box(on, x, y, size, size);
  canvas_ink(on, &with);
  print_words(on, &p->black, x + 0.3 * size, y + 0.3 * size, 0.4 * size, p->unit * 2, letter);
}

/* The first rule across below a point, or the point itself. */
static double next_rule(const press *p, double x, double y) {
  double next = 1e9;
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (!rule->down && rule->at > y + 2 && rule->from < x && rule->to > x)
      next = fmin(next, rule->at);
  }
  return next < 1e9 ? next : y;
}

/* A field's name, and its number in words in somebody's hand where there is room for it. */
static void print_name(press *p, canvas *on, const writer *w, int number) {
  const tally_field *field = &p->form->field[number];
  const tally_box *b = &field->cell[0];
  double left, right, bar, height = 15 * p->unit, middle = b->y + b->height / 2;
  char name[TALLY_MAX_NAME];
  snprintf(name, sizeof name, "%s", field->name);
  for (char *c = name; *c; c++)
    if (*c == '_') *c = ' ';
  name_column(p, field, &left, &right, &bar);
  if (bar > 0) {
    middle += 9 * p->unit;
    mask_box(on, bar, b->y, b->x - bar, b->height);
    canvas_ink(on, &p->black);
  }
  double x = left + 14 * p->unit;
  if (p->colour && right - left > 250 * p->unit) {
    double size = fmin(40 * p->unit, 0.8 * b->height);
    print_emblem(p, on, number, left + 10 * p->unit, middle - size / 2, size);
    x += size + 8 * p->unit;
  }
  print_words(on, &p->black, x, middle - height / 2, height, 2.2 * p->unit, name);
  double below_boxes = b->y + b->height, room = next_rule(p, b->x + 1, below_boxes) - below_boxes;
  double size = w->height * 0.55, words = b->x - left;
  if (room > 22 * p->unit) {
    print_words(on, &p->black, b->x + 24 * p->unit, below_boxes + room - 12 * p->unit, 7 * p->unit,
                1.1 * p->unit, "(IN WORDS)");
    scribble(on, w, &p->random, left + words * between(&p->random, 0.3, 0.5),
             below_boxes + room - size - 9 * p->unit, words * between(&p->random, 0.3, 0.52), size);
  } else if (bar == 0 && right - left > 300 * p->unit) {
    double from = x + words_width(name, height) + 30 * p->unit;
    scribble(on, w, &p->random, from, middle - size / 2,
             (right - from) * between(&p->random, 0.5, 0.95), size);
  }
}

static int in_table(const press *p, double y) {
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down && rule->from < y && rule->to > y) return 1;
  }
  return 0;
}

/* Headings between two rules that have no boxes between them. */
static void print_headings(press *p, canvas *on) {
  const tally_box *cells = &p->form->field[0].cell[0];
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down) continue;
    double below_it = next_rule(p, cells->x + 1, rule->at), room = below_it - rule->at;
    int taken = 0;
    for (int f = 0; f < p->form->fields; f++) {
      const tally_box *b = &p->form->field[f].cell[0];
      taken |=
          b->y < below_it - 1 && next_rule(p, cells->x + 1, b->y + b->height - 3) > rule->at + 1;
    }
    if (taken || room < 24 * p->unit) continue;
    double height = 12 * p->unit, y = rule->at + (room - height) / 2;
    if (!in_table(p, rule->at + room / 2)) {
      print_words(on, &p->black, p->left, y, height, 2.5 * p->unit, "SUMMARY OF THE VOTES");
      continue;
    }
    print_words(on, &p->black, cells->x + 12 * p->unit, y, height, 2.1 * p->unit, "VOTES");
    print_words(on, &p->black, p->left + 0.35 * (cells->x - p->left), y, height, 2.1 * p->unit,
                "PARTY OR CANDIDATE");
  }
}

/* A yellow banner or the like carries the title; forms without one have it at the top. */
static void print_title(press *p, canvas *on) {
  char title[TALLY_MAX_NAME + 24];
  snprintf(title, sizeof title, "RECORD OF THE COUNT  %s", p->form->name);
  double height = 18 * p->unit, width = words_width(title, height);
  double x = (p->form->width - width) / 2, y = 28 * p->unit;
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_box *b = &p->form->anchor[a].box;
    if (b->width > 4 * b->height && b->width > width) {
      x = b->x + (b->width - width) / 2;
      y = b->y + (b->height - height) / 2;
    }
  }
  if (y + 2 * height < p->top) print_words(on, &p->black, x, y, height, 2.6 * p->unit, title);
}

/* 1 if nothing that the template names lies in a box, with some room round it. */
static int is_free(const press *p, double x, double y, double width, double height) {
  double room = 9 * p->unit;
  if (x < room || y < room || x + width > p->form->width - room ||
      y + height > p->form->height - room)
    return 0;
  if (x < p->right + room && x + width > p->left - room && y < p->bottom + room &&
      y + height > p->top - room)
    return 0;
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_box *b = &p->form->anchor[a].box;
    if (x < b->x + b->width + room && x + width > b->x - room && y < b->y + b->height + room &&
        y + height > b->y - room)
      return 0;
  }
  return 1;
}

/* "PLACE: ......" with something written on the dots. */
static void print_line(press *p, canvas *on, const writer *w, double x, double y, double width,
                       const char *words) {
  double height = 9 * p->unit, size = fmin(w->height * 0.6, 17 * p->unit);
  double from = x + words_width(words, height) + 10 * p->unit;
  if (!is_free(p, x, y - 8 * p->unit, width, height + 8 * p->unit)) return;
  print_words(on, &p->black, x, y, height, 1.4 * p->unit, words);
  for (double at = from; at < x + width; at += 5 * p->unit)
    mask_line(on, at, y + height, at + p->unit, y + height, 1.2 * p->unit);
  canvas_ink(on, &p->black);
  scribble(on, w, &p->random, from, y + height - size,
           (x + width - from) * between(&p->random, 0.4, 0.9), size);
}

static void print_barcode(press *p, canvas *on, double x, double y, double width, double height) {
  if (!is_free(p, x, y, width, height)) return;
  for (double at = x; at < x + width;) {
    double bar = p->unit * (1 + below(&p->random, 4));
    mask_box(on, at, y, bar, height);
    at += bar + p->unit * (1 + below(&p->random, 3));
  }
  canvas_ink(on, &p->black);
}

/* A small box with a heading and a signature; other people sign with other pens. */
static void print_signature(press *p, canvas *on, const writer *w, double x, double y, double width,
                            double height) {
  writer other = *w;
  if (!is_free(p, x, y, width, height)) return;
  print_rule(p, on, 0, y, x, x + width, p->rule);
  print_rule(p, on, 0, y + height, x, x + width, p->rule);
  print_rule(p, on, 1, x, y, y + height, p->rule);
  print_rule(p, on, 1, x + width, y, y + height, p->rule);
  print_words(on, &p->black, x + 8 * p->unit, y + 7 * p->unit, 8 * p->unit, 1.4 * p->unit,
              "OFFICIAL");
  if (chance(&p->random, 0.12)) return;
  choose_ink(&other, &p->random, p->severity);
  other.pen *= between(&p->random, 0.7, 1.3);
  double tall = (height - 20 * p->unit) * between(&p->random, 0.35, 0.7);
  mask_loops(on, &other, &p->random, x + 0.15 * width, y + 18 * p->unit, width * 0.65, tall);
  canvas_ink(on, &other.with);
  other.joins = chance(&p->random, 0.5);
  scribble(on, &other, &p->random, x + 0.05 * width, y + height - 16 * p->unit, width * 0.9,
           12 * p->unit);
}

/* Everything outside of the table: what is filled in above it, signatures below, a form number. */
static void print_surroundings(press *p, canvas *on, const writer *w) {
  static const char *const above[] = {
      "STATION:", "DISTRICT:", "PLACE:", "SECTION:", "DATE:", "STATE:"};
  double width = p->form->width, step = 27 * p->unit, y = 68 * p->unit;
  for (int i = 0; y < p->top - step; y += step)
    for (int side = 0; side < 2; side++, i++)
      print_line(p, on, w, width * (side ? 0.5 : 0.14), y, width * (side ? 0.27 : 0.33),
                 above[i % 6]);
  print_barcode(p, on, width * 0.79, p->top - 44 * p->unit, width * 0.15, 19 * p->unit);
  y = p->bottom + 34 * p->unit;
  print_line(p, on, w, width * 0.06, y, width * 0.33, "DONE AT:");
  print_line(p, on, w, width * 0.45, y, width * 0.45, "HOUR:");
  y += 40 * p->unit;
  double end = p->form->height - 36 * p->unit, box = width * 0.126;
  double tall = limit(end - y, 70 * p->unit, 104 * p->unit);
  for (; y + tall < end + p->unit; y += tall + 46 * p->unit)
    for (int i = 0; i < 7; i++) print_signature(p, on, w, width * 0.06 + i * box, y, box, tall);
  if (is_free(p, width * 0.4, p->form->height - 30 * p->unit, width * 0.2, 9 * p->unit))
    print_words(on, &p->black, width * 0.4, p->form->height - 30 * p->unit, 8 * p->unit,
                1.2 * p->unit, "FORM 2 OF 2");
}

static void print_form(press *p, canvas *on, const writer *w) {
  const tally_template *form = p->form;
  print_anchors(p, on);
  for (int r = 0; r < form->rules; r++)
    print_rule(p, on, form->rule[r].down, form->rule[r].at, form->rule[r].from - p->rule / 2,
               form->rule[r].to + p->rule / 2, p->rule);
  for (int f = 0; f < form->fields; f++)
    if (!form->field[f].open) print_boxes(p, on, &form->field[f]);
  print_title(p, on);
  print_headings(p, on);
  for (int f = 0; f < form->fields; f++) print_name(p, on, w, f);
  print_surroundings(p, on, w);
}

/* ---- dirt -------------------------------------------------------------------------------------- */

/* A blot or the ring of a cup: a few translucent discs about a place. */
static void stain(canvas *on, cn_random *random, double x, double y, double unit) {
  double size = unit * between(random, 8, 45), tone = between(random, 0, 30);
  ink with = {{to_byte(150 + tone), to_byte(120 + tone), to_byte(80 + 2 * tone)}, 0, 0.5};
  with.strength = between(random, 0.12, 0.45);
  if (chance(random, 0.3)) {
    point ring[25];
    for (int i = 0; i < 25; i++) {
      double r = size * (1.5 + 0.02 * normal(random)), angle = 6.2831853 * i / 24;
      ring[i] = (point){x + r * cos(angle), y + r * sin(angle)};
    }
    mask_curve(on, ring, 25, unit * between(random, 3, 8), random);
  } else {
    for (int i = 0; i < 5; i++)
      mask_disc(on, x + 0.5 * size * normal(random), y + 0.5 * size * normal(random),
                size * between(random, 0.3, 0.8));
  }
  canvas_ink(on, &with);
}

/* A stray line or tick of a pencil. */
static void pencil_mark(canvas *on, cn_random *random, double x, double y, double unit) {
  ink with = {{95, 95, 100}, 0, 0.8};
  point path[4];
  double turn = between(random, 0, 6.28), length = unit * between(random, 12, 70);
  with.strength = between(random, 0.25, 0.6);
  for (int i = 0; i < 4; i++)
    path[i] = (point){x + length * (i / 3.0 * cos(turn) + 0.08 * normal(random)),
                      y + length * (i / 3.0 * sin(turn) + 0.08 * normal(random))};
  mask_curve(on, path, 4, unit * between(random, 1, 2.2), random);
  canvas_ink(on, &with);
}

/* A fold across the page, a little darker than the paper. */
static void fold(canvas *on, cn_random *random, const tally_template *form) {
  double y = form->height * between(random, 0.2, 0.8), slope = 0.01 * normal(random) * form->width;
  ink with = {{150, 150, 150}, between(random, 0.1, 0.4), 0.2};
  double pen = form->width / 1000 * between(random, 1, 3);
  mask_line(on, 0, y, form->width, y + slope, pen);
  canvas_ink(on, &with);
}

/* A round rubber stamp beside the table. */
static void stamp(canvas *on, cn_random *random, const press *p) {
  ink with = {{90, 60, 150}, between(random, 0.3, 0.7), 0.8};
  double radius = p->unit * between(random, 35, 50),
         x = p->form->width * between(random, 0.25, 0.75);
  double y = p->bottom + radius + 60 * p->unit;
  point ring[33];
  if (!is_free(p, x - radius, y - radius, 2 * radius, 2 * radius)) return;
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < 33; i++) {
      double angle = 6.2831853 * i / 32, r = radius * (k ? 0.65 : 1);
      ring[i] = (point){x + r * cos(angle), y + r * sin(angle)};
    }
    mask_curve(on, ring, 33, 2 * p->unit, random);
  }
  mask_words(on, x - 0.5 * radius, y - 6 * p->unit, 12 * p->unit, 2 * p->unit, "SEAL");
  canvas_ink(on, &with);
}

static void soil(canvas *on, cn_random *random, const press *p) {
  const tally_template *form = p->form;
  double s = p->severity;
  if (s == 0) return;
  int specks = (int)(between(random, 0, 30) * s);
  for (int i = 0; i < specks; i++)
    mask_disc(on, between(random, 0, form->width), between(random, 0, form->height),
              p->unit * between(random, 0.4, 1.2));
  canvas_ink(on, &p->black);
  for (int i = 0; i < 2; i++) {
    if (chance(random, 0.15 * s))
      stain(on, random, between(random, 0, form->width), between(random, 0, form->height), p->unit);
    if (chance(random, 0.12 * s))
      pencil_mark(on, random, between(random, p->left, p->right),
                  between(random, p->top, p->bottom), p->unit);
  }
  if (chance(random, 0.12 * s)) fold(on, random, form);
  if (chance(random, 0.25 * s)) stamp(on, random, p);
}

/* ---- the camera -------------------------------------------------------------------------------- */

/* How a page is taken. Zero is a perfect scan. */
typedef struct capture {
  int phone, grey, watermark, quality;
  double rotate, scale, perspective; /* degrees, pixels per template pixel, percent of a side */
  double margin;                     /* round the page, pixels */
  double blur, light, noise;         /* sigma in pixels; share lost; deviation in levels */
  double smear_x, smear_y;           /* motion, as the sigma it adds */
  double light_turn, shadow, shadow_at, shadow_turn;
  double cast[3];                    /* gain of each channel */
  double contrast, pivot;            /* of the scanner's curve: 1 leaves it */
  uint8_t paper[3], desk[3];
  int width, height;
  double page[9]; /* homography from template to picture */
} capture;

static double given_or(const range *option, cn_random *random, double otherwise) {
  double drawn = between(random, option->low, option->high);
  return option->given ? drawn : otherwise;
}

static void choose_scanner(capture *c, cn_random *random, double s, int colour) {
  double white = between(random, 255 - 20 * fmin(s, 1), 255);
  c->rotate = limit(0.7 * normal(random), -2, 2) * s;
  c->perspective = between(random, 0, 0.2) * s;
  c->margin = between(random, 0, 6) * s;
  c->blur = between(random, 0.1, 0.5) * s;
  c->light = between(random, 0, 0.06) * s;
  c->noise = between(random, 0, 2) * s;
  for (int k = 0; k < 3; k++) {
    c->cast[k] = 1 + limit(0.012 * normal(random), -0.03, 0.03) * s;
    c->paper[k] = to_byte(white - between(random, 0, 6) * s);
    c->desk[k] = c->paper[k];
  }
  if (chance(random, 0.12 * s)) memset(c->desk, 30, 3);
  int hard = !colour && chance(random, 0.55 * s);
  c->contrast = 1 + (hard ? between(random, 1.5, 6) : between(random, 0, 0.3) * s);
  c->pivot = hard ? between(random, 165, 195) : 200;
  c->grey = hard || (!colour && chance(random, 0.8 * s));
  c->watermark = !colour && chance(random, 0.7 * s);
}

static void choose_phone(capture *c, cn_random *random, double s) {
  double white = between(random, 215, 250);
  c->phone = 1;
  c->rotate = limit(1.5 * normal(random), -5, 5) * s;
  c->perspective = between(random, 0, 2.5) * s;
  c->margin = between(random, 4, 50) * fmin(s, 1);
  c->blur = between(random, 0.2, 0.8) * s;
  c->light = fmin(between(random, 0.03, 0.28) * s, 0.7);
  c->noise = between(random, 1, 5) * s;
  if (chance(random, 0.12 * s))
    *(chance(random, 0.5) ? &c->smear_x : &c->smear_y) = between(random, 0.4, 1.2);
  if (chance(random, 0.3 * s)) c->shadow = fmin(between(random, 0.05, 0.22) * s, 0.6);
  double warm = limit(0.028 * normal(random), -0.07, 0.07) * s, desk = between(random, 40, 160);
  for (int k = 0; k < 3; k++) {
    c->cast[k] = 1 + (1 - k) * warm + limit(0.01 * normal(random), -0.03, 0.03) * s;
    c->paper[k] = to_byte(white - between(random, 0, 8));
    c->desk[k] = to_byte(desk + between(random, -14, 14) - 9 * k);
  }
  c->contrast = 1 + between(random, 0, 0.2) * s;
  c->pivot = 128;
}

/* Turns and tilts the page, and cuts the picture to it. */
static void frame(capture *c, cn_random *random, const tally_template *form) {
  double w = form->width, h = form->height, turn = c->rotate * 3.14159265358979323846 / 180;
  double reach = c->perspective / 100 * fmin(w, h), low_x = 1e9, low_y = 1e9, high_x = -1e9,
         high_y = -1e9;
  double co = cos(turn), si = sin(turn);
  if (fabs(co) < 1e-12) co = 0;
  if (fabs(si) < 1e-12) si = 0;
  point page[4] = {{0, 0}, {w, 0}, {w, h}, {0, h}}, seen[4];
  for (int k = 0; k < 4; k++) {
    double x = page[k].x + between(random, -reach, reach) - w / 2;
    double y = page[k].y + between(random, -reach, reach) - h / 2;
    seen[k] = (point){c->scale * (x * co - y * si), c->scale * (x * si + y * co)};
    low_x = fmin(low_x, seen[k].x);
    high_x = fmax(high_x, seen[k].x);
    low_y = fmin(low_y, seen[k].y);
    high_y = fmax(high_y, seen[k].y);
  }
  for (int k = 0; k < 4; k++) {
    seen[k].x += c->margin - low_x;
    seen[k].y += c->margin - low_y;
  }
  c->width = (int)ceil(high_x - low_x + 2 * c->margin - 1e-6);
  c->height = (int)ceil(high_y - low_y + 2 * c->margin - 1e-6);
  homography_between(page, seen, c->page);
}

static capture choose_capture(const tally_template *form, const settings *set, cn_random *random,
                              int colour) {
  capture c = {0};
  double s = set->severity;
  memset(c.paper, 252, 3);
  memset(c.desk, 252, 3);
  c.cast[0] = c.cast[1] = c.cast[2] = c.contrast = 1;
  int phone = chance(random, 0.4);
  if (s > 0 && phone) choose_phone(&c, random, s);
  else if (s > 0) choose_scanner(&c, random, s, colour);
  c.light_turn = between(random, 0, 6.2831853);
  c.shadow_turn = between(random, 0, 6.2831853);
  c.shadow_at = between(random, -0.3, 0.3);
  c.rotate = given_or(&set->rotate, random, c.rotate);
  c.scale = given_or(&set->scale, random, fmax(0.4, 1 + between(random, -0.08, 0.08) * s));
  c.perspective = given_or(&set->perspective, random, c.perspective);
  c.blur = given_or(&set->blur, random, c.blur);
  c.light = given_or(&set->light, random, c.light);
  c.quality = (int)given_or(&set->quality, random,
                            s > 0 ? between(random, 90 - 25 * fmin(s, 1.5), 90) : 95);
  frame(&c, random, form);
  return c;
}

/* Paper all over, and the desk round the page where it differs. */
static void lay_paper(canvas *on, const capture *c, cn_random *random, double severity) {
  int shift_x = below(random, TILE), shift_y = below(random, TILE);
  int rough = (int)(between(random, 4, 16) * fmin(severity, 1.5));
  for (int y = 0; y < on->image.height; y++) {
    uint8_t *row = canvas_row(on, y);
    const int8_t *tile = paper_tile + ((y + shift_y) % TILE) * TILE;
    for (int x = 0; x < on->image.width; x++) {
      int shade = (tile[(x + shift_x) % TILE] * rough) >> 7;
      for (int k = 0; k < 3; k++) {
        int value = c->paper[k] + shade;
        row[3 * x + k] = (uint8_t)(value > 255 ? 255 : value);
      }
    }
  }
}

static void lay_desk(canvas *on, const capture *c, const tally_template *form) {
  if (!memcmp(c->desk, c->paper, 3)) return;
  mask_box(on, 0, 0, form->width, form->height);
  for (int y = 0; y < on->image.height; y++) {
    uint8_t *row = canvas_row(on, y), *mask = on->mask + (size_t)y * (size_t)on->image.width;
    for (int x = 0; x < on->image.width; x++) {
      if (mask[x] == 255) continue;
      int shade = paper_tile[(y % TILE) * TILE + x * 3 % TILE] >> 3;
      for (int k = 0; k < 3; k++) {
        int desk = c->desk[k] + shade;
        row[3 * x + k] = to_byte(desk + (row[3 * x + k] - desk) * mask[x] / 255.0);
      }
    }
    memset(mask, 0, (size_t)on->image.width);
  }
  on->left = on->top = INT_MAX;
  on->right = on->bottom = 0;
}

/* out = (side * before + middle * at + side * after) / 256, for each byte. */
static void mix_bytes(const uint8_t *before, const uint8_t *at, const uint8_t *after, uint8_t *out,
                      int count, int side) {
  int middle = 256 - 2 * side;
  for (int i = 0; i < count; i++)
    out[i] = (uint8_t)((side * (before[i] + after[i]) + middle * at[i] + 128) >> 8);
}

/* Gaussian blur, wider one way when the camera moved, by passes of three taps; variances add up. */
static void blur_picture(picture *image, double sigma_x, double sigma_y) {
  double most = fmax(sigma_x, sigma_y);
  int passes = (int)ceil(most * most / 0.62), width = image->width * 3;
  if (most < 0.1) return;
  int side_x = (int)(sigma_x * sigma_x / passes / 2 * 256 + 0.5);
  int side_y = (int)(sigma_y * sigma_y / passes / 2 * 256 + 0.5);
  size_t bytes = (size_t)width;
  uint8_t *above = allocate(bytes, 1), *row = allocate(bytes, 1), *padded = allocate(bytes + 6, 1);
  for (int pass = 0; pass < passes; pass++) {
    memcpy(above, image->pixels, bytes);
    for (int y = 0; y < image->height; y++) {
      uint8_t *at = image->pixels + (size_t)y * bytes,
              *next = y + 1 < image->height ? at + bytes : at;
      memcpy(row, at, bytes);
      mix_bytes(above, row, next, padded + 3, width, side_y);
      memcpy(padded, padded + 3, 3);
      memcpy(padded + 3 + bytes, padded + bytes, 3);
      mix_bytes(padded, padded + 3, padded + 6, at, width, side_x);
      memcpy(above, row, bytes);
    }
  }
  free(padded);
  free(row);
  free(above);
}

/* Light that falls on a place, 0..1 across the picture each way. */
static double light_at(const capture *c, double x, double y) {
  double ramp = 0.5 + ((x - 0.5) * cos(c->light_turn) + (y - 0.5) * sin(c->light_turn)) / 1.414;
  double edge = (x - 0.5) * cos(c->shadow_turn) + (y - 0.5) * sin(c->shadow_turn) - c->shadow_at;
  double dark = limit(0.5 + edge / 0.08, 0, 1);
  return (1 - c->light * ramp) * (1 - c->shadow * dark * dark * (3 - 2 * dark));
}

/* Gain of each byte of a row, in 1/1024, from points of the light 32 pixels apart. */
static void light_row(const capture *c, int y, int *gain) {
  double last = light_at(c, 0, (double)y / c->height);
  for (int x = 0; x < c->width; x += 32) {
    double next = light_at(c, (x + 32.0) / c->width, (double)y / c->height);
    for (int i = 0; i < 32 && x + i < c->width; i++)
      for (int k = 0; k < 3; k++)
        gain[3 * (x + i) + k] = (int)((last + (next - last) * i / 32) * c->cast[k] * 1024 + 0.5);
    last = next;
  }
}

static void expose_row(uint8_t *row, int count, const int *gain, const int8_t *noise, int amplitude,
                       int slope, int offset) {
  for (int i = 0; i < count; i++) {
    int value = ((row[i] * gain[i]) >> 10) + ((noise[i] * amplitude) >> 12);
    value = (value * slope + offset) >> 8;
    row[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

static void grey_row(uint8_t *row, int width) {
  for (int x = 0; x < width; x++) memset(row + 3 * x, grey_of(row + 3 * x), 3);
}

/* Archives print a pale emblem over their scans, over ink as well as paper. One period of it. */
#define EMBLEM_WIDTH 182
#define EMBLEM_HEIGHT 228
static uint8_t emblem[EMBLEM_HEIGHT][EMBLEM_WIDTH];

static void make_emblem(void) {
  for (int y = 0; y < EMBLEM_HEIGHT; y++)
    for (int x = 0; x < EMBLEM_WIDTH; x++) {
      double u = x - EMBLEM_WIDTH / 2.0, v = (y - EMBLEM_HEIGHT / 2.0) * 0.83, r = hypot(u, v);
      double letters = sin(14 * atan2(v, u)) * sin(r * 0.9);
      int ring = r > 62 && r < 86 && !(r > 67 && r < 81 && letters > 0.25);
      int bird = r < 44 && fabs(v - 12 * cos(u / 9)) < 20 - fabs(u) / 3;
      emblem[y][x] = (uint8_t)(ring ? 50 : bird ? 14 : 0);
    }
}

static void emblem_row(uint8_t *row, int width, int y) {
  const uint8_t *from = emblem[y % EMBLEM_HEIGHT];
  for (int x = 0, at = 0; x < width; x++, at = at + 1 < EMBLEM_WIDTH ? at + 1 : 0) {
    if (!from[at]) continue;
    for (int k = 0; k < 3; k++)
      row[3 * x + k] = (uint8_t)(row[3 * x + k] + ((120 - row[3 * x + k]) * from[at]) / 256);
  }
}

/* What happens to the drawn page on its way into the file. */
static void expose(canvas *on, const capture *c, cn_random *random) {
  int bytes = on->image.width * 3;
  int slope = (int)(c->contrast * 256), offset = (int)((1 - c->contrast) * c->pivot * 256);
  int amplitude = (int)(c->noise / 40 * 4096);
  blur_picture(&on->image, hypot(c->blur, c->smear_x), hypot(c->blur, c->smear_y));
  int *gain = allocate((size_t)bytes, sizeof(int));
  int8_t *noise = allocate((size_t)bytes + TILE * TILE, 1);
  for (int at = 0; at < bytes + TILE * TILE; at++) noise[at] = grain_tile[at % (TILE * TILE)];
  for (int y = 0; y < on->image.height; y++) {
    uint8_t *row = canvas_row(on, y);
    if (y % 4 == 0) light_row(c, y, gain);
    if (c->grey) grey_row(row, on->image.width);
    expose_row(row, bytes, gain, noise + below(random, TILE * TILE), amplitude, slope,
               offset + 128);
    if (c->watermark) emblem_row(row, on->image.width, y);
  }
  free(noise);
  free(gain);
}

/* ---- templates with fewer rows ----------------------------------------------------------------- */

static int row_order(const void *a, const void *b) {
  const tally_field *x = *(const tally_field *const *)a, *y = *(const tally_field *const *)b;
  return x->cell[0].y < y->cell[0].y ? -1 : x->cell[0].y > y->cell[0].y;
}

static void say_field(text_buffer *to, const tally_field *f, const tally_box *at) {
  const tally_box *first = &f->cell[0];
  text_add(to, "field %s %d digits cells %.9g,%.9g %dx%.9gx%.9g", f->name, f->digits, at->x, at->y,
           f->digits, at->width, at->height);
  if (f->digits > 1) text_add(to, " pitch %.9g", f->cell[1].x - first->x);
  text_add(to, "%s\n", f->open ? " open" : "");
}

static void say_anchors(text_buffer *to, const tally_template *form) {
  for (int a = 0; a < form->anchors; a++) {
    const tally_anchor *k = &form->anchor[a];
    const tally_box *b = &k->box;
    const double *low = k->hsv_low, *high = k->hsv_high;
    if (k->kind == TALLY_ANCHOR_SQUARE) {
      text_add(to, "anchor %s square %.9g,%.9g %.9gx%.9g\n", k->name, b->x, b->y, b->width,
               b->height);
      continue;
    }
    text_add(to, "anchor %s colour hsv(%.9g..%.9g, %.9g..%.9g, %.9g..%.9g) ", k->name, low[0],
             high[0], low[1], high[1], low[2], high[2]);
    if (k->kind == TALLY_ANCHOR_DISC)
      text_add(to, "disc %.9g,%.9g r%.9g\n", b->x + b->width / 2, b->y + b->height / 2,
               b->width / 2);
    else text_add(to, "box %.9g,%.9g %.9gx%.9g\n", b->x, b->y, b->width, b->height);
  }
}

/* The rules of a table that is cut off below `end`. */
static void say_rules(text_buffer *to, const tally_template *form, double end) {
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *k = &form->rule[r];
    if ((k->down ? k->from : k->at) > end + 0.01) continue;
    text_add(to, "rule %s %.9g from %.9g to %.9g\n", k->down ? "down" : "across", k->at, k->from,
             k->down ? fmin(k->to, end) : k->to);
  }
}

static const char *mark_name(tally_mark mark) {
  return mark == TALLY_MARK_LEADING_ZERO ? "leading-zero" : "illegible";
}

/* The text of a form with the same places but fewer rows: those above the last two parts of the sum
   go, the others move up, and the table ends below the last one. */
static char *shorten_form(const tally_template *form, int rows, const char *path) {
  const tally_field *slots[TALLY_MAX_FIELDS], *kept[TALLY_MAX_FIELDS];
  int parts = form->fields - 1, count = 0;
  if (form->sums != 1 || form->sum[0].parts != parts)
    fail("%s: --rows needs a form with one sum over all its fields", path);
  if (rows > parts) fail("%s: --rows %d: the form has %d", path, rows, parts);
  for (int f = 0; f < form->fields; f++) slots[f] = &form->field[f];
  qsort(slots, (size_t)form->fields, sizeof slots[0], row_order);
  const tally_field *total = &form->field[form->sum[0].total];
  for (int f = 0, seen = 0; f < form->fields; f++) {
    int last = seen >= parts - 2;
    if (slots[f] == total) kept[count++] = total;
    else if (last ? seen >= parts - rows : seen < rows - 2) kept[count++] = slots[f];
    seen += slots[f] != total;
  }
  double bottom = slots[count - 1]->cell[0].y + slots[count - 1]->cell[0].height, end = bottom,
         gap = 1e9;
  for (int r = 0; r < form->rules; r++)
    if (!form->rule[r].down && form->rule[r].at >= bottom - 0.01 &&
        form->rule[r].at - bottom < gap) {
      gap = form->rule[r].at - bottom;
      end = form->rule[r].at;
    }
  text_buffer text = {0};
  text_add(&text, "form %.*s-%d\npage %.9g x %.9g\n", TALLY_MAX_NAME - 5, form->name, rows,
           form->width, form->height);
  say_anchors(&text, form);
  for (int k = 0; k < count; k++) say_field(&text, kept[k], &slots[k]->cell[0]);
  say_rules(&text, form, end);
  text_add(&text, "sum %s =", total->name);
  for (int k = 0, first = 1; k < count; k++)
    if (kept[k] != total) {
      text_add(&text, "%s %s", first ? "" : " +", kept[k]->name);
      first = 0;
    }
  text_add(&text, "\nblank empty = %s cross = %s dash = %s\n", mark_name(form->empty),
           mark_name(form->cross), mark_name(form->dash));
  return text.data;
}

static tally_template parse_form(const char *text, const char *path) {
  tally_template form;
  tally_error error;
  if (tally_template_parse(text, strlen(text), &form, &error) != TALLY_OK)
    fail("%s:%d:%d: %s", path, error.line, error.column, error.message);
  for (int a = 0; a < form.sums; a++)
    for (int b = 0; b < a; b++)
      if (form.sum[a].total == form.sum[b].total)
        fail("%s: field %s is the total of two sums; such forms cannot be drawn", path,
             form.field[form.sum[a].total].name);
  return form;
}

/* Reads the form; *text becomes that of the form drawn. */
static tally_template read_form(const settings *set, char **text) {
  size_t size;
  *text = read_file(set->form, &size);
  if (strlen(*text) != size) fail("%s: not a text file", set->form);
  tally_template form = parse_form(*text, set->form);
  if (set->rows && set->rows != form.fields - 1) {
    char *shorter = shorten_form(&form, set->rows, set->form);
    free(*text);
    *text = shorter;
    form = parse_form(shorter, "template.form");
  }
  if (set->mismatch > 0 && !form.sums)
    fail("%s: --mismatch: the form has no sums", set->form);
  double scale = set->scale.given ? set->scale.high : 1.3,
         side = hypot(form.width, form.height) * scale;
  if (side * side * 1.4 > PICTURE_MAX_PIXELS)
    fail("%s: pictures of %.0f x %.0f pixels are too large", set->form, form.width * scale,
         form.height * scale);
  return form;
}

/* ---- digits ------------------------------------------------------------------------------------ */

/* Breadth of strokes from area and outline, lean from the ink's second moments. */
static void measure_sample(const uint8_t *bitmap, float *pen, float *slant) {
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

static void measure_one(void *context, int i, int thread) {
  const sample_box *box = context;
  (void)thread;
  measure_sample(box->data.pixels + (size_t)i * TALLY_SIDE * TALLY_SIDE, &box->pen[i],
                 &box->slant[i]);
}

static sample_box open_samples(const settings *set) {
  sample_box box;
  memset(&box, 0, sizeof box);
  if (!strcmp(set->digits, "strokes")) return box;
  preprocess pre = {0};
  pre.height = pre.width = TALLY_SIDE;
  pre.channels = 1;
  box.given = 1;
  box.data = dataset_open(set->digits, 0);
  dataset_prepare(&box.data, &pre, 1, 0);
  if (box.data.cached < box.data.count)
    fail("%s: too many pictures to draw digits from", set->digits);
  box.pen = allocate((size_t)box.data.count, sizeof(float));
  box.slant = allocate((size_t)box.data.count, sizeof(float));
  share_work(box.data.count, measure_one, &box);
  for (int digit = 0; digit < 10; digit++) {
    int label = classes_find(&box.data.set, symbol_names[digit]);
    box.of[digit] = allocate((size_t)box.data.count, sizeof(int));
    for (int i = 0; i < box.data.count; i++)
      if (box.data.labels[i] == label) box.of[digit][box.count[digit]++] = i;
    if (!box.count[digit]) fail("%s: it has no pictures of the class \"%d\"", set->digits, digit);
  }
  return box;
}

static void close_samples(sample_box *box) {
  if (!box->given) return;
  for (int digit = 0; digit < 10; digit++) free(box->of[digit]);
  free(box->pen);
  free(box->slant);
  dataset_free(&box->data);
}

/* ---- files ------------------------------------------------------------------------------------- */

enum { TRUTH, CELLS, CORNERS, PAGES, TABLES };
static const char *const table_names[TABLES] = {"truth.csv", "cells.csv", "corners.csv",
                                                "pages.csv"};

/* Four tables grow side by side; what is unfinished goes when the program ends early. */
static output tables[TABLES];

static void remove_unfinished(void) {
  for (int k = 0; k < TABLES; k++)
    if (tables[k].part) unlink(tables[k].part);
}

static void open_tables(const char *folder) {
  static const char *const headers[TABLES] = {
      "tally,field,value,state,adds_up", "tally,field,position,label",
      "tally,field,position,x0,y0,x1,y1,x2,y2,x3,y3",
      ("tally,width,height,camera,rotation,scale,perspective,blur,light,quality,"
       "h0,h1,h2,h3,h4,h5,h6,h7,h8")};
  atexit(remove_unfinished);
  for (int k = 0; k < TABLES; k++) {
    char *path = join_path(folder, table_names[k]);
    tables[k] = output_open(path);
    fprintf(tables[k].file, "%s\n", headers[k]);
    free(path);
  }
}

static void close_tables(void) {
  for (int k = 0; k < TABLES; k++) {
    output_close(&tables[k]);
    tables[k].part = NULL;
  }
}

/* The rows of one tally, kept until those before it are written. */
typedef struct rows {
  text_buffer of[TABLES];
} rows;

static void add_rows(rows *to, const char *name, const tally_template *form, const tally *t,
                     const capture *c) {
  static const char *const states[] = {"number", "missing", "illegible"};
  for (int f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    char value[16] = "";
    if (t->state[f] != STATE_MISSING) snprintf(value, sizeof value, "%d", t->value[f]);
    text_add(&to->of[TRUTH], "%s,%s,%s,%s,%d\n", name, field->name, value, states[t->state[f]],
             t->adds_up);
    for (int k = 0; k < field->digits; k++) {
      const tally_box *b = &field->cell[k];
      text_add(&to->of[CELLS], "%s,%s,%d,%s\n", name, field->name, k,
               symbol_names[t->mark[field->first_cell + k]]);
      text_add(&to->of[CORNERS], "%s,%s,%d", name, field->name, k);
      for (int i = 0; i < 4; i++) {
        point p = map_point(c->page, b->x + (i == 1 || i == 2 ? b->width : 0),
                            b->y + (i > 1 ? b->height : 0));
        text_add(&to->of[CORNERS], ",%.3f,%.3f", p.x, p.y);
      }
      text_add(&to->of[CORNERS], "\n");
    }
  }
  text_add(&to->of[PAGES], "%s,%d,%d,%s,%.4f,%.4f,%.4f,%.4f,%.4f,%d", name, c->width, c->height,
           c->phone ? "phone" : "scanner", c->rotate, c->scale, c->perspective, c->blur, c->light,
           c->quality);
  for (int i = 0; i < 9; i++) text_add(&to->of[PAGES], ",%.12g", c->page[i]);
  text_add(&to->of[PAGES], "\n");
}

static void write_rows(rows *from) {
  for (int k = 0; k < TABLES; k++) {
    fwrite(from->of[k].data, 1, from->of[k].length, tables[k].file);
    from->of[k].length = 0;
  }
}

/* Several threads write pictures at a time, so this does not use output_open. They appear whole. */
static void write_picture(const char *folder, const char *name, const picture *image,
                          const settings *set, int quality, text_buffer *bytes) {
  char *path = join_path(folder, name);
  text_buffer part = {0};
  bytes->length = 0;
  int good = set->png ? stbi_write_png_to_func(append_bytes, bytes, image->width, image->height, 3,
                                               image->pixels, 0)
                      : stbi_write_jpg_to_func(append_bytes, bytes, image->width, image->height, 3,
                                               image->pixels, quality);
  if (!good) fail("cannot encode %s", path);
  text_add(&part, "%s.part", path);
  FILE *file = fopen(part.data, "wb");
  if (!file) fail("cannot write %s: %s", path, strerror(errno));
  size_t written = fwrite(bytes->data, 1, bytes->length, file);
  int bad = fclose(file) || written != bytes->length || rename(part.data, path);
  if (bad) {
    int reason = errno;
    unlink(part.data);
    fail("cannot write %s: %s", path, strerror(reason));
  }
  free(part.data);
  free(path);
}

/* ---- the run ----------------------------------------------------------------------------------- */

typedef struct job {
  const settings *set;
  const tally_template *form;
  const sample_box *samples;
  district parties;
} job;

static void tally_name(const settings *set, int index, char name[32]) {
  snprintf(name, 32, "tally-%04d.%s", index + 1, set->png ? "png" : "jpg");
}

static void draw_tally(const job *j, int index, canvas *on, const tally *t, const writer *w,
                       const capture *c) {
  const tally_template *form = j->form;
  const settings *set = j->set;
  cn_random noise = stream_of(set->seed, index, PART_NOISE),
            hand = stream_of(set->seed, index, PART_CELLS);
  cn_random dirt = stream_of(set->seed, index, PART_DIRT);
  press p = set_press(form, set, index);
  canvas_start(on, c->width, c->height, c->page);
  lay_paper(on, c, &noise, set->severity);
  print_form(&p, on, w);
  for (int f = 0; f < form->fields; f++)
    for (int k = 0; k < form->field[f].digits; k++)
      write_cell(on, w, j->samples, &hand, &form->field[f].cell[k],
                 t->mark[form->field[f].first_cell + k], set->severity);
  soil(on, &dirt, &p);
  lay_desk(on, c, form);
  expose(on, c, &noise);
}

static void make_tally(const job *j, int index, canvas *on, text_buffer *bytes, rows *to) {
  const settings *set = j->set;
  cn_random hand = stream_of(set->seed, index, PART_HAND);
  cn_random camera = stream_of(set->seed, index, PART_CAMERA);
  writer w = choose_writer(j->form, j->samples, &hand, set->severity);
  int colour = 0;
  for (int a = 0; a < j->form->anchors; a++)
    colour |= j->form->anchor[a].kind != TALLY_ANCHOR_SQUARE;
  capture c = choose_capture(j->form, set, &camera, colour);
  tally t;
  char name[32];
  fill_in(&t, j->form, &j->parties, &w, set, index);
  draw_tally(j, index, on, &t, &w, &c);
  tally_name(set, index, name);
  write_picture(set->out, name, &on->image, set, c.quality, bytes);
  add_rows(to, name, j->form, &t, &c);
}

/* Tallies are made in lots: within one in any order, then their rows are written in order. */
#define LOT 128

typedef struct drawing {
  const job *j;
  canvas *on;         /* for each thread */
  text_buffer *bytes; /* for each thread */
  rows lot[LOT];
  int first, done;
  progress bar;
} drawing;

static void draw_one(void *context, int i, int thread) {
  drawing *d = context;
  int count = d->j->set->count;
  char figures[64];
  make_tally(d->j, d->first + i, &d->on[thread], &d->bytes[thread], &d->lot[i]);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++d->done, count);
  progress_draw(&d->bar, "drawing tallies", (double)d->done / count, figures);
  work_unlock();
}

static void make_all(const job *j) {
  const int count = j->set->count, threads = use_threads(0);
  drawing d = {.j = j};
  d.on = allocate((size_t)threads, sizeof *d.on);
  d.bytes = allocate((size_t)threads, sizeof *d.bytes);
  d.bar = progress_start();
  for (; d.first < count; d.first += LOT) {
    int now = count - d.first < LOT ? count - d.first : LOT;
    share_work(now, draw_one, &d);
    for (int i = 0; i < now; i++) write_rows(&d.lot[i]);
  }
  progress_wipe();
  for (int i = 0; i < threads; i++) {
    canvas_free(&d.on[i]);
    free(d.bytes[i].data);
  }
  for (int i = 0; i < LOT; i++)
    for (int k = 0; k < TABLES; k++) free(d.lot[i].of[k].data);
  free(d.on);
  free(d.bytes);
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  char *text;
  tally_template form = read_form(&set, &text);
  sample_box samples = open_samples(&set);
  job j = {&set, &form, &samples, make_district(&form, set.seed)};
  double start = seconds_now();
  make_folder(set.out);
  char *path = join_path(set.out, "template.form");
  write_file(path, text, strlen(text));
  make_tiles();
  make_emblem();
  open_tables(set.out);
  make_all(&j);
  close_tables();
  double seconds = seconds_now() - start;
  text_buffer json = {0};
  json_integer(&json, "tallies", set.count);
  json_integer(&json, "fields", (long long)set.count * form.fields);
  json_integer(&json, "cells", (long long)set.count * form.cells);
  json_real(&json, "seconds", seconds);
  json_real(&json, "tallies_per_second", set.count / seconds);
  json_print(&json);
  free(path);
  free(text);
  close_samples(&samples);
  return tool_end();
}
