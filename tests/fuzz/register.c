/* register.c - tally_register, and tally_cut where it finds the form, on any picture. An input is the
   making of a picture: a form drawn as a camera might see it, and what was done to it then. Whatever is
   registered keeps to the bounds that tally.h names. Runs: 150. */
#include <math.h>

#include "tally.h"

/* Small forms, so that a picture of them is small. */
static const char *const texts[] = {
    "page 200 x 240\n"
    "anchor a square 8,8 12x12\nanchor b square 180,8 12x12\n"
    "anchor c square 8,220 12x12\nanchor d square 180,220 12x12\n"
    "field x 3 digits cells 120,50 3x18x22\nfield y 2 digits cells 138,90 2x18x22\n"
    "field z 3 digits cells 120,140 3x18x22\n"
    "rule across 40 from 20 to 185\nrule across 120 from 20 to 185\nrule across 180 from 20 to "
    "185\n"
    "rule down 20 from 40 to 180\nrule down 185 from 40 to 180\nsum z = x + y\n",
    "page 200 x 160\n"
    "anchor top colour hsv(40..65, 50..100, 60..100) box 10,6 180x12\n"
    "anchor left colour hsv(310..340, 40..100, 50..100) box 10,136 30x18\n"
    "anchor disc colour hsv(310..340, 40..100, 50..100) disc 120,144 r8\n"
    "field x 2 digits cells 140,40 2x20x24 pitch 24\nfield y 2 digits cells 140,80 2x20x24\n"
    "rule across 30 from 12 to 190\nrule across 120 from 12 to 190\nrule down 12 from 30 to 120\n",
    "page 120 x 100\n"
    "anchor a square 5,5 8x8\nanchor b square 107,5 8x8\nanchor c square 5,87 8x8\n"
    "anchor d square 90,87 8x8\nfield x 4 digits cells 30,40 4x10x14 open\n",
};
#define TEXTS ((int)(sizeof texts / sizeof *texts))

typedef struct drawing {
  tally_image image;
  double corner[4][2];  /* of the page in the picture */
  double width, height; /* of the page in the template */
} drawing;

static void dot(const drawing *d, double x, double y, const uint8_t colour[3]) {
  const double u = x / d->width, v = y / d->height;
  double at[2];
  for (int i = 0; i < 2; i++)
    at[i] = (1 - v) * ((1 - u) * d->corner[0][i] + u * d->corner[1][i]) +
            v * ((1 - u) * d->corner[2][i] + u * d->corner[3][i]);
  if (!(at[0] >= 0 && at[1] >= 0 && at[0] < d->image.width && at[1] < d->image.height)) return;
  const size_t pixel = (size_t)at[1] * (size_t)d->image.width + (size_t)at[0];
  const size_t channels = (size_t)d->image.channels;
  memcpy(d->image.pixels + pixel * channels, colour, channels);
}

/* A line or a filled rectangle in the template's units; `round` is a disc. */
static void fill(const drawing *d, const tally_box *box, int round, const uint8_t colour[3]) {
  for (double y = 0; y < box->height; y += 0.45)
    for (double x = 0; x < box->width; x += 0.45)
      if (!round || hypot(x / box->width - 0.5, y / box->height - 0.5) <= 0.5)
        dot(d, box->x + x, box->y + y, colour);
}

static void draw_form(const drawing *d, const tally_template *form) {
  static const uint8_t black[3] = {20, 20, 20}, yellow[3] = {250, 220, 40},
                       pink[3] = {240, 60, 150};
  for (int i = 0; i < form->anchors; i++) {
    const tally_anchor *anchor = &form->anchor[i];
    fill(d, &anchor->box, anchor->kind == TALLY_ANCHOR_DISC,
         anchor->kind == TALLY_ANCHOR_SQUARE ? black
         : anchor->hsv_low[0] < 100          ? yellow
                                             : pink);
  }
  for (int i = 0; i < form->rules; i++) {
    const tally_rule *rule = &form->rule[i];
    const tally_box across = {rule->from, rule->at - 0.8, rule->to - rule->from, 1.6},
                    down = {rule->at - 0.8, rule->from, 1.6, rule->to - rule->from};
    fill(d, rule->down ? &down : &across, 0, black);
  }
  for (int f = 0; f < form->fields; f++)
    for (int k = 0; k < form->field[f].digits && !form->field[f].open; k++) {
      const tally_box c = form->field[f].cell[k];
      const tally_box edges[4] = {{c.x, c.y, c.width, 1.2},
                                  {c.x, c.y + c.height, c.width, 1.2},
                                  {c.x, c.y, 1.2, c.height},
                                  {c.x + c.width, c.y, 1.2, c.height}};
      for (int e = 0; e < 4; e++) fill(d, &edges[e], 0, black);
    }
}

/* Where the camera stood: any of four orientations, scale, place, and each corner moved a little. */
static void place_page(drawing *d, const tally_template *form, fuzz_bytes *from) {
  const int turn = fuzz_between(from, 0, 3);
  const double scale = fuzz_between(from, 40, 220) / 100.0;
  const double width = scale * (turn & 1 ? form->height : form->width),
               height = scale * (turn & 1 ? form->width : form->height);
  const double left = fuzz_between(from, -20, 60), top = fuzz_between(from, -20, 60);
  static const int order[4][4] = {{0, 1, 2, 3}, {2, 0, 3, 1}, {3, 2, 1, 0}, {1, 3, 0, 2}};
  for (int i = 0; i < 4; i++) {
    double *corner = d->corner[order[turn][i]];
    corner[0] = left + (i & 1 ? width : 0) + width * fuzz_between(from, -8, 8) / 100;
    corner[1] = top + (i & 2 ? height : 0) + width * fuzz_between(from, -8, 8) / 100;
  }
  d->width = form->width;
  d->height = form->height;
}

static void stroke(const drawing *d, fuzz_bytes *from) {
  const double x0 = d->width * fuzz_byte(from) / 255, y0 = d->height * fuzz_byte(from) / 255;
  const double x1 = x0 + fuzz_between(from, -30, 30), y1 = y0 + fuzz_between(from, -30, 30);
  const double thick = fuzz_between(from, 1, 40) / 8.0;
  const uint8_t grey = (uint8_t)fuzz_byte(from), colour[3] = {grey, grey, grey};
  for (double t = 0; t <= 1; t += 0.02) {
    const tally_box pen = {x0 + t * (x1 - x0) - thick / 2, y0 + t * (y1 - y0) - thick / 2, thick,
                           thick};
    fill(d, &pen, 1, colour);
  }
}

/* A stretch of pixels gets the input's own bytes, one value, other light, or another place. */
static void spoil(const tally_image *image, fuzz_bytes *from) {
  const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
  const int how = fuzz_between(from, 0, 3);
  const size_t at = (size_t)fuzz_between(from, 0, 65535) * bytes / 65536;
  size_t count = (size_t)fuzz_between(from, 0, 65535) * (bytes - at) / 65536;
  const unsigned value = fuzz_byte(from);
  uint8_t *to = image->pixels + at;
  if (how == 0) {
    if (count > from->left) count = from->left;
    memcpy(to, from->at, count);
    from->at += count;
    from->left -= count;
  } else if (how == 1) {
    memset(to, (int)value, count);
  } else if (how == 2) {
    for (size_t i = 0; i < count; i++) to[i] = (uint8_t)(to[i] * (value + 1) / 256);
  } else {
    memmove(image->pixels, to, count);
  }
}

static void noise(const tally_image *image, unsigned depth) {
  const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
  uint32_t state = 1;
  for (size_t i = 0; i < bytes; i++) {
    state = state * 1664525u + 1013904223u;
    const unsigned less = (state >> 24) * depth / 256;
    image->pixels[i] = (uint8_t)(image->pixels[i] > less ? image->pixels[i] - less : 0);
  }
}

static int draw(drawing *d, const tally_template *form, fuzz_bytes *from) {
  const int width = fuzz_between(from, 1, 420), height = fuzz_between(from, 1, 420);
  const unsigned flags = fuzz_byte(from);
  if (tally_image_make(width, height, flags & 1 ? 1 : 3, &d->image) != TALLY_OK) return 0;
  memset(d->image.pixels, 235, (size_t)width * (size_t)height * (flags & 1 ? 1 : 3));
  place_page(d, form, from);
  if (!(flags & 2)) draw_form(d, form);
  while (from->left) {
    const unsigned what = fuzz_byte(from);
    if (what < 160)
      stroke(d, from);
    else if (what < 240)
      spoil(&d->image, from);
    else
      noise(&d->image, fuzz_byte(from));
  }
  return 1;
}

static void check_cell(const tally_cell *cell) {
  int ink = 0;
  FUZZ_CHECK(cell->state <= TALLY_CELL_TOUCHING && (cell->dash == 0 || cell->dash == 1));
  FUZZ_CHECK(cell->ink >= 0 && cell->ink < 4 && cell->dark >= 0 && cell->dark <= 1);
  for (int i = 0; i < TALLY_SIDE * TALLY_SIDE; i++) ink += cell->clean[i] != 0;
  FUZZ_CHECK(cell->written > 0 && cell->written < 1 && cell->whole > 0 && cell->whole <= 1);
  FUZZ_CHECK(ink || cell->state == TALLY_CELL_EMPTY);
}

static void check_registered(const tally_image *image, const tally_template *form,
                             const tally_registration *where) {
  static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
  FUZZ_CHECK(where->residual >= 0 && where->residual <= (form->rules ? 1.25 : 4));
  FUZZ_CHECK(where->scale > 0 && fabs(where->rotation) <= 180 && where->anchors_found >= 2);
  for (int f = -1; f < form->fields; f++) {
    double x, y;
    const tally_box *cell = &form->field[f < 0 ? 0 : f].cell[0];
    tally_registration_map(where, f, cell->x, cell->y, &x, &y);
    FUZZ_CHECK(x > -image->width && x < 2 * image->width);
    FUZZ_CHECK(y > -image->height && y < 2 * image->height);
  }
  const tally_result result = tally_cut(image, form, where, cells);
  FUZZ_CHECK(result == TALLY_OK);
  for (int i = 0; i < form->cells; i++) check_cell(&cells[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static tally_template forms[TEXTS];
  static tally_registration where;
  fuzz_bytes from = {data, size};
  const int choice = fuzz_between(&from, 0, TEXTS - 1);
  tally_template *form = &forms[choice];
  drawing d;
  if (!form->anchors) {
    const tally_result parsed =
        tally_template_parse(texts[choice], strlen(texts[choice]), form, NULL);
    FUZZ_CHECK(parsed == TALLY_OK);
  }
  if (!draw(&d, form, &from)) return 0;
  const tally_result result = tally_register(&d.image, form, &where);
  FUZZ_CHECK(result == TALLY_OK && where.status <= TALLY_FORM_POOR);
  FUZZ_CHECK((where.status == TALLY_FORM_OK) == !*where.reason);
  if (where.status == TALLY_FORM_OK) check_registered(&d.image, form, &where);
  tally_image_free(&d.image);
  return 0;
}
