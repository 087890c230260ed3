/* camera.h - how a page is taken, by a scanner or a phone: framing, paper, blur, light, noise.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_CAMERA_H
#define TALLY_SYNTH_CAMERA_H

#include "canvas.h"
#include "form.h"

/* What is drawn evenly between two bounds for each tally, if it is given. */
typedef struct range {
  int given;
  double low, high;
} range;

/* What a user asks of the camera in the place of what the severity leads to. */
typedef struct camera_wishes {
  range rotate, scale, perspective, blur, light, quality;
} camera_wishes;

/* How a page is taken. Zero is a perfect scan. */
typedef struct capture {
  int phone, grey, watermark, quality;
  double rotate, scale, perspective; /* degrees, pixels per template pixel, percent of a side */
  double margin;                     /* round the page, pixels */
  double blur, light, noise;         /* sigma in pixels; share lost; deviation in levels */
  double smear_x, smear_y;           /* motion, as the sigma it adds */
  double light_turn, shadow, shadow_at, shadow_turn;
  double cast[3];         /* gain of each channel */
  double contrast, pivot; /* of the scanner's curve: 1 leaves it */
  uint8_t paper[3], desk[3];
  int width, height;
  double page[9]; /* homography from template to picture */
} capture;

/* Draws in any case, so that a wish leaves everything else as it was. */
static inline double given_or(const range *wish, cn_random *random, double otherwise) {
  double drawn = between(random, wish->low, wish->high);
  return wish->given ? drawn : otherwise;
}

/* A flatbed scanner; `hard`: its contrast is so high that grey is lost. */
static inline void choose_scanner(capture *c, cn_random *random, double s, int colour) {
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

/* A photograph with a phone over a desk. */
static inline void choose_phone(capture *c, cn_random *random, double s) {
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
static inline void frame(capture *c, cn_random *random, const tally_template *form) {
  double w = form->width, h = form->height, turn = c->rotate * 3.14159265358979323846 / 180;
  double reach = c->perspective / 100 * fmin(w, h), low_x = 1e9, low_y = 1e9, high_x = -1e9,
         high_y = -1e9;
  double co = cos(turn), si = sin(turn);
  if (fabs(co) < 1e-12) co = 0;
  if (fabs(si) < 1e-12) si = 0;
  tally_point page[4] = {{0, 0}, {w, 0}, {w, h}, {0, h}}, seen[4];
  for (int k = 0; k < 4; k++) {
    double x = page[k].x + between(random, -reach, reach) - w / 2;
    double y = page[k].y + between(random, -reach, reach) - h / 2;
    seen[k] = (tally_point){c->scale * (x * co - y * si), c->scale * (x * si + y * co)};
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
  if (tally_homography(page, seen, c->page) != TALLY_OK)
    fail("a page with its corners moved by %g pixels is no page any more", reach);
}

/* How a page is taken, as severe as `s` and as was wished. */
static inline capture choose_capture(const tally_template *form, const camera_wishes *wish,
                                     cn_random *random, double s) {
  capture c = {0};
  memset(c.paper, 252, 3);
  memset(c.desk, 252, 3);
  c.cast[0] = c.cast[1] = c.cast[2] = c.contrast = 1;
  int phone = chance(random, 0.4);
  if (s > 0 && phone)
    choose_phone(&c, random, s);
  else if (s > 0)
    choose_scanner(&c, random, s, form_has_colour(form));
  c.light_turn = between(random, 0, 6.2831853);
  c.shadow_turn = between(random, 0, 6.2831853);
  c.shadow_at = between(random, -0.3, 0.3);
  c.rotate = given_or(&wish->rotate, random, c.rotate);
  c.scale = given_or(&wish->scale, random, fmax(0.4, 1 + between(random, -0.08, 0.08) * s));
  c.perspective = given_or(&wish->perspective, random, c.perspective);
  c.blur = given_or(&wish->blur, random, c.blur);
  c.light = given_or(&wish->light, random, c.light);
  c.quality = (int)given_or(&wish->quality, random,
                            s > 0 ? between(random, 90 - 25 * fmin(s, 1.5), 90) : 95);
  frame(&c, random, form);
  return c;
}

/* Paper all over the picture. */
static inline void lay_paper(canvas *on, const capture *c, cn_random *random, double severity) {
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

/* The desk round the page, drawn over what went beyond its edge. */
static inline void lay_desk(canvas *on, const capture *c, const tally_template *form) {
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
  mask_leave(on);
}

/* out = (side * before + middle * at + side * after) / 256, for each byte. */
static inline void mix_bytes(const uint8_t *before, const uint8_t *at, const uint8_t *after,
                             uint8_t *out, int count, int side) {
  int middle = 256 - 2 * side;
  for (int i = 0; i < count; i++)
    out[i] = (uint8_t)((side * (before[i] + after[i]) + middle * at[i] + 128) >> 8);
}

/* Gaussian blur, wider one way when the camera moved, by passes of three taps; variances add up. */
static inline void blur_picture(picture *image, double sigma_x, double sigma_y) {
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
static inline double light_at(const capture *c, double x, double y) {
  double ramp = 0.5 + ((x - 0.5) * cos(c->light_turn) + (y - 0.5) * sin(c->light_turn)) / 1.414;
  double edge = (x - 0.5) * cos(c->shadow_turn) + (y - 0.5) * sin(c->shadow_turn) - c->shadow_at;
  double dark = limit(0.5 + edge / 0.08, 0, 1);
  return (1 - c->light * ramp) * (1 - c->shadow * dark * dark * (3 - 2 * dark));
}

/* Gain of each byte of a row, in 1/1024, from points of the light 32 pixels apart. */
static inline void light_row(const capture *c, int y, int *gain) {
  double last = light_at(c, 0, (double)y / c->height);
  for (int x = 0; x < c->width; x += 32) {
    double next = light_at(c, (x + 32.0) / c->width, (double)y / c->height);
    for (int i = 0; i < 32 && x + i < c->width; i++)
      for (int k = 0; k < 3; k++)
        gain[3 * (x + i) + k] = (int)((last + (next - last) * i / 32) * c->cast[k] * 1024 + 0.5);
    last = next;
  }
}

/* Light, grain and the scanner's curve. */
static inline void expose_row(uint8_t *row, int count, const int *gain, const int8_t *noise,
                              int amplitude, int slope, int offset) {
  for (int i = 0; i < count; i++) {
    int value = ((row[i] * gain[i]) >> 10) + ((noise[i] * amplitude) >> 12);
    value = (value * slope + offset) >> 8;
    row[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

/* A row without colour. */
static inline void grey_row(uint8_t *row, int width) {
  for (int x = 0; x < width; x++) memset(row + 3 * x, grey_of(row + 3 * x), 3);
}

/* Archives print a pale emblem over their scans, over ink as well as paper. One period of it. */
#define EMBLEM_WIDTH 182
#define EMBLEM_HEIGHT 228
static uint8_t emblem[EMBLEM_HEIGHT][EMBLEM_WIDTH];

/* Draws the period; once, before anything is exposed. */
static inline void make_emblem(void) {
  for (int y = 0; y < EMBLEM_HEIGHT; y++)
    for (int x = 0; x < EMBLEM_WIDTH; x++) {
      double u = x - EMBLEM_WIDTH / 2.0, v = (y - EMBLEM_HEIGHT / 2.0) * 0.83, r = hypot(u, v);
      double letters = sin(14 * atan2(v, u)) * sin(r * 0.9);
      int ring = r > 62 && r < 86 && !(r > 67 && r < 81 && letters > 0.25);
      int bird = r < 44 && fabs(v - 12 * cos(u / 9)) < 20 - fabs(u) / 3;
      emblem[y][x] = (uint8_t)(ring ? 50 : bird ? 14 : 0);
    }
}

/* The watermark over one row. */
static inline void emblem_row(uint8_t *row, int width, int y) {
  const uint8_t *from = emblem[y % EMBLEM_HEIGHT];
  for (int x = 0, at = 0; x < width; x++, at = at + 1 < EMBLEM_WIDTH ? at + 1 : 0) {
    if (!from[at]) continue;
    for (int k = 0; k < 3; k++)
      row[3 * x + k] = (uint8_t)(row[3 * x + k] + ((120 - row[3 * x + k]) * from[at]) / 256);
  }
}

/* What happens to the drawn page on its way into the file. */
static inline void expose(canvas *on, const capture *c, cn_random *random) {
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

#endif
