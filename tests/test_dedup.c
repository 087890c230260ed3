/* test_dedup.c - tally-dedup: copies are found, pages that differ in what is written are not taken for
   copies.

   Build:  make all build/tests/test_dedup
   Run:    build/tests/test_dedup     in the repository's root; BIN=folder of programs

   Everything is drawn in a temporary folder. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_dedup"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/csv.h"
#include "../tools/dataset.h"
#include "../tools/implementations/stb.h"
#include "../tools/resize.h"

#include "support.h"

#include "programs.h"

static int setup(void **state) {
  (void)state;
  return open_home("tally-dedup") ? 0 : -1;
}

static void assert_refused(int code, int expected, const char *part, const char *other) {
  if (code != expected)
    fail_msg("exit code %d instead of %d: %s%s", code, expected, err_text, out_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

/* ---- drawing and asking ---------------------------------------------------------------------- */

enum { PAGE_H = 320, PAGE_W = 240 };

/* A page with a printed table, the same on all, and writing of its own in one of its cells. */
static void draw_page(int number, uint8_t *rgb) {
  cn_random random = {42, 0};
  for (int i = 0; i < PAGE_H * PAGE_W; i++) {
    int y = i / PAGE_W, x = i % PAGE_W, printed = y % 32 < 2 || x % 60 < 2 || y < 40;
    int cell_y = 64 + 32 * (number % 7), cell_x = 60 * (number / 7 % 4);
    int written = y > cell_y + 8 && y < cell_y + 24 && x > cell_x + 20 && x < cell_x + 34 &&
                  (x + y * (number % 3 - 1)) % 9 < 4;
    int paper = 236 + (int)cn_random_below(&random, 8);
    for (int c = 0; c < 3; c++)
      rgb[3 * i + c] = (uint8_t)(written ? 40 : printed ? 70 + 30 * c : paper);
  }
}

static void draw_scene(uint64_t seed, uint8_t *rgb) {
  cn_random random = {seed, 0};
  float grid[6][5][3];
  for (int i = 0; i < 90; i++)
    grid[i / 15][i / 3 % 5][i % 3] = 30 + 190 * cn_random_uniform(&random);
  for (int i = 0; i < PAGE_H * PAGE_W; i++) {
    float y = (float)(i / PAGE_W) / PAGE_H * 5, x = (float)(i % PAGE_W) / PAGE_W * 4;
    int r = (int)y, q = (int)x;
    for (int c = 0; c < 3; c++) {
      float top = grid[r][q][c] + (x - (float)q) * (grid[r][q + 1][c] - grid[r][q][c]);
      float low = grid[r + 1][q][c] + (x - (float)q) * (grid[r + 1][q + 1][c] - grid[r + 1][q][c]);
      rgb[3 * i + c] = (uint8_t)(top + (y - (float)r) * (low - top));
    }
  }
}

static void write_picture(const char *name, const uint8_t *rgb, int height, int width,
                          int quality) {
  char *path = join_path(home, name);
  if (quality)
    assert_true(stbi_write_jpg(path, width, height, 3, rgb, quality));
  else
    assert_true(stbi_write_png(path, width, height, 3, rgb, 0));
  free(path);
}

/* What dedup.csv says of a picture: its kind, and what it duplicates. */
static void assert_found(const char *name, const char *kind, const char *first) {
  char *path = join_path(home, "dedup.csv");
  csv table = csv_open(path);
  int rows = 0;
  while (csv_row(&table)) {
    if (strcmp(table.fields[0], name)) continue;
    rows++;
    if (strcmp(table.fields[2], kind) || strcmp(table.fields[1], first))
      fail_msg("%s is %s of \"%s\"", name, table.fields[2], table.fields[1]);
  }
  if (rows != (*kind ? 1 : 0)) fail_msg("%s: %d rows", name, rows);
  csv_close(&table);
  free(path);
}

static void test_dedup(void **state) {
  (void)state;
  static uint8_t rgb[PAGE_H * PAGE_W * 3], changed[PAGE_H * PAGE_W * 3];
  char name[64], first[64];
  assert_ran(shell("mkdir -p d/copies"));
  for (int i = 0; i < 20; i++) {
    draw_scene(100 + (uint64_t)i, rgb);
    snprintf(first, sizeof first, "d/a%02d.png", i);
    write_picture(first, rgb, PAGE_H, PAGE_W, 0);
    snprintf(name, sizeof name, "d/copies/%02d.jpg", i);
    if (i % 5 == 0) write_picture(name, rgb, PAGE_H, PAGE_W, 70); /* another format and quality */
    if (i % 5 == 1) {                                             /* half the size */
      resize_squash(rgb, PAGE_H, PAGE_W, changed, PAGE_H / 2, PAGE_W / 2, 3);
      write_picture(name, changed, PAGE_H / 2, PAGE_W / 2, 90);
    }
    if (i % 5 == 2) { /* darker, flatter */
      for (size_t b = 0; b < sizeof rgb; b++) changed[b] = (uint8_t)(0.8 * rgb[b] + 8);
      write_picture(name, changed, PAGE_H, PAGE_W, 85);
    }
    if (i % 5 == 3) { /* larger, of poor quality */
      static uint8_t large[PAGE_H * 3 / 2 * PAGE_W * 3 / 2 * 3];
      resize_squash(rgb, PAGE_H, PAGE_W, large, PAGE_H * 3 / 2, PAGE_W * 3 / 2, 3);
      write_picture(name, large, PAGE_H * 3 / 2, PAGE_W * 3 / 2, 40);
    }
    if (i % 5 == 4) { /* the same pixels, compressed otherwise */
      snprintf(name, sizeof name, "d/copies/%02d.png", i);
      stbi_write_png_compression_level = 1;
      write_picture(name, rgb, PAGE_H, PAGE_W, 0);
      stbi_write_png_compression_level = 8;
    }
  }
  assert_ran(shell("cp d/copies/00.jpg d/copies/again.jpg"));
  assert_ran(shell("$dedup --out dedup.csv --small 0 d"));
  assert_int_equal((int)result("pictures"), 41);
  assert_int_equal((int)result("exact"), 4);
  assert_int_equal((int)result("near"), 17);
  for (int i = 0; i < 20; i++) {
    snprintf(first, sizeof first, "d/a%02d.png", i);
    snprintf(name, sizeof name, "d/copies/%02d.%s", i, i % 5 == 4 ? "png" : "jpg");
    assert_found(name, i % 5 == 4 ? "exact" : "near", first);
    assert_found(first, "", "");
  }
  assert_found("d/copies/again.jpg", "near", "d/a00.png");
  assert_ran(
      shell("cp dedup.csv before.csv; $dedup --out dedup.csv --small 0 --threads 1 --quiet d"));
  assert_string_equal(err_text, "");
  assert_same_files("dedup.csv", "before.csv");
}

#define FORM_W 400
#define FORM_H 600

/* Pixels of a line of a pen, which is lighter ink on a form that stays the same. */
static void draw_stroke(uint8_t *rgb, int y, int x, int down, int across, int level) {
  for (int i = 0; i < 16; i++)
    for (int wide = 0; wide < 6; wide++) {
      int at = (y + i * down / 16 + wide / 2) * FORM_W + x + i * across / 16 + wide % 2;
      memset(rgb + 3 * at, level, 3);
    }
}

/* A form of ten rows with three cells, filled in with digits of straight strokes at a level of grey. `seed`
   decides about the digits alone; that of the cell `rewritten` is another. */
static void draw_form(uint64_t seed, int level, int rewritten, uint8_t *rgb) {
  /* strokes of a digit: lines between the corners of a box of two squares */
  static const uint8_t segments[10] = {0x77, 0x24, 0x5D, 0x6D, 0x2E, 0x6B, 0x7B, 0x25, 0x7F, 0x6F};
  cn_random random = {seed, 0};
  memset(rgb, 243, FORM_H * FORM_W * 3);
  for (int i = 0; i < FORM_H * FORM_W; i++) {
    int y = i / FORM_W, x = i % FORM_W;
    if (y > 90 && y < 560 && x > 200 && x < 360 && ((y - 100) % 45 < 2 || (x - 210) % 48 < 2))
      memset(rgb + 3 * i, 60, 3);
    if (y < 70 && (y / 9 % 2) && (x * 7 + y / 9 * 31) % 23 < 12) memset(rgb + 3 * i, 40, 3);
  }
  for (int cell = 0; cell < 30; cell++) {
    int y = 106 + 45 * (cell / 3), x = 222 + 48 * (cell % 3);
    uint32_t digit = cn_random_below(&random, 10);
    int lit = segments[cell == rewritten ? (digit + 3) % 10 : digit];
    for (int k = 0; k < 7; k++) {
      static const int at[7][4] = {{0, 0, 0, 16},  {0, 0, 16, 0},   {0, 16, 16, 0}, {16, 0, 0, 16},
                                   {16, 0, 16, 0}, {16, 16, 16, 0}, {32, 0, 0, 16}};
      if (lit >> k & 1) draw_stroke(rgb, y + at[k][0], x + at[k][1], at[k][2], at[k][3], level);
    }
  }
}

/* A picture of many patches on a ground that changes slowly. */
static void draw_picture(uint64_t seed, uint8_t *rgb) {
  cn_random random = {seed, 1};
  int ground[3], tilt[3];
  for (int c = 0; c < 3; c++) {
    ground[c] = 60 + (int)cn_random_below(&random, 120);
    tilt[c] = (int)cn_random_below(&random, 80) - 40;
  }
  for (int p = 0; p < FORM_H * FORM_W; p++)
    for (int c = 0; c < 3; c++)
      rgb[3 * p + c] = (uint8_t)(ground[c] + tilt[c] * (p / FORM_W + p % FORM_W) / FORM_H);
  for (int patch = 0; patch < 120; patch++) {
    int top = (int)cn_random_below(&random, FORM_H), left = (int)cn_random_below(&random, FORM_W);
    int high = 6 + (int)cn_random_below(&random, 70), wide = 6 + (int)cn_random_below(&random, 70);
    int colour[3];
    for (int c = 0; c < 3; c++) colour[c] = 30 + (int)cn_random_below(&random, 200);
    for (int y = top; y < top + high && y < FORM_H; y++)
      for (int x = left; x < left + wide && x < FORM_W; x++)
        for (int c = 0; c < 3; c++) rgb[3 * (y * FORM_W + x) + c] = (uint8_t)colour[c];
  }
}

/* The same form with other digits in grey pen is another page; a page that was compressed, resized or
   cut a little is the same one. */
static void test_dedup_written(void **state) {
  (void)state;
  static uint8_t rgb[FORM_H * FORM_W * 3], half[FORM_H / 2 * (FORM_W / 2) * 3],
      cut[FORM_H * FORM_W * 3];
  char name[64], first[64];
  const int top = 6, left = 3, height = FORM_H - 9, width = FORM_W - 7;
  assert_ran(shell("mkdir -p forms copies"));
  for (int i = 0; i < 30; i++) {
    draw_form(50 + (uint64_t)i, 150, -1, rgb);
    snprintf(name, sizeof name, "forms/%02d.%s", i, i % 2 ? "jpg" : "png");
    write_picture(name, rgb, FORM_H, FORM_W, i % 2 ? 80 : 0);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 forms"));
  assert_int_equal((int)result("near"), 0);
  for (int i = 0; i < 6; i++) {
    draw_form(50 + (uint64_t)i, 150, -1, rgb);
    resize_squash(rgb, FORM_H, FORM_W, half, FORM_H / 2, FORM_W / 2, 3);
    for (int y = 0; y < height; y++)
      memcpy(cut + y * width * 3, rgb + ((y + top) * FORM_W + left) * 3, (size_t)width * 3);
    snprintf(name, sizeof name, "copies/%02d-poor.jpg", i);
    write_picture(name, rgb, FORM_H, FORM_W, 30);
    snprintf(name, sizeof name, "copies/%02d-half.png", i);
    write_picture(name, half, FORM_H / 2, FORM_W / 2, 0);
    snprintf(name, sizeof name, "copies/%02d-cut.jpg", i);
    write_picture(name, cut, height, width, 90);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 forms copies"));
  for (int i = 0; i < 6; i++) {
    static const char *const kinds[] = {"poor.jpg", "half.png", "cut.jpg"};
    snprintf(first, sizeof first, "forms/%02d.%s", i, i % 2 ? "jpg" : "png");
    for (int k = 0; k < 3; k++) {
      snprintf(name, sizeof name, "copies/%02d-%s", i, kinds[k]);
      assert_found(name, "near", first);
    }
  }
}

/* ---- what is written ------------------------------------------------------------------------- */

#define SHEET_W (2 * FORM_W)
#define SHEET_H (2 * FORM_H)

/* A sheet with four forms, all filled in alike, but for one cell of the first. */
static void draw_sheet(int rewritten, uint8_t *rgb) {
  static uint8_t form[FORM_H * FORM_W * 3];
  for (int quarter = 3; quarter >= 0; quarter--) {
    draw_form(77 + (uint64_t)quarter, 190, quarter ? -1 : rewritten, form);
    for (int y = 0; y < FORM_H; y++)
      memcpy(rgb + 3 * ((quarter / 2 * FORM_H + y) * SHEET_W + quarter % 2 * FORM_W),
             form + 3 * y * FORM_W, 3 * FORM_W);
  }
}

/* One digit that is written anew in grey pencil makes another page, also among pages of other size and
   quality. */
static void test_rewritten_digit(void **state) {
  (void)state;
  static uint8_t rgb[SHEET_H * SHEET_W * 3], half[FORM_H * FORM_W * 3];
  char name[64];
  assert_ran(shell("mkdir -p rewritten"));
  for (int i = 0; i < 24; i++) {
    draw_sheet(i, rgb);
    resize_squash(rgb, SHEET_H, SHEET_W, half, FORM_H, FORM_W, 3);
    snprintf(name, sizeof name, "rewritten/%02d.%s", i, i % 3 ? "jpg" : "png");
    if (i % 4 == 3)
      write_picture(name, half, FORM_H, FORM_W, i % 3 ? 85 : 0);
    else
      write_picture(name, rgb, SHEET_H, SHEET_W, i % 3 ? 70 : 0);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 rewritten"));
  assert_int_equal((int)result("near"), 0);
  assert_ran(shell("$dedup --out dedup.csv --small 0 --crops --mirrored rewritten"));
  assert_int_equal((int)result("near"), 0);
  assert_int_equal((int)result("crops"), 0);
  assert_int_equal((int)result("mirrored"), 0);
}

#define LETTER_W 620
#define LETTER_H 877 /* 75 dots an inch */

/* A letter of many words, which are strokes in small boxes; one of them is a number. */
static void draw_letter(unsigned number, uint8_t *rgb) {
  cn_random random = {5, 0};
  memset(rgb, 250, LETTER_H * LETTER_W * 3);
  for (int y = 100; y < 780; y += 18)
    for (int x = 60; x < 550; x += 8) {
      uint32_t strokes = cn_random_below(&random, 512);
      if (y == 460 && x >= 300 && x < 324) /* three digits amid the text */
        strokes = 0x55 + 37 * (number >> (x - 300) / 8 * 3 & 7);
      if (cn_random_below(&random, 6) == 0) continue; /* between words */
      for (int i = 0; i < 9; i++) {
        int top = y + i / 3 * 3, left = x + i % 3 * 2;
        for (int k = 0; k < 6 && strokes >> i & 1; k++)
          memset(rgb + 3 * ((top + k / 2) * LETTER_W + left + k % 2), 50, 3);
      }
    }
}

/* Letters with another number in small print are other letters. */
static void test_small_print(void **state) {
  (void)state;
  static uint8_t rgb[LETTER_H * LETTER_W * 3];
  char name[64];
  assert_ran(shell("mkdir -p letters"));
  for (unsigned i = 0; i < 20; i++) {
    draw_letter(i * 23, rgb);
    snprintf(name, sizeof name, "letters/%02u.%s", i, i % 3 ? "jpg" : "png");
    write_picture(name, rgb, LETTER_H, LETTER_W, i % 3 ? 75 : 0);
    snprintf(name, sizeof name, "letters/copy%02u.jpg", i);
    if (i < 3) write_picture(name, rgb, LETTER_H, LETTER_W, 40);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 letters"));
  assert_int_equal((int)result("near"), 3);
  assert_found("letters/copy00.jpg", "near", "letters/00.png");
  assert_found("letters/copy01.jpg", "near", "letters/01.jpg");
  assert_found("letters/copy02.jpg", "near", "letters/02.jpg");
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* What a copy shows of a level. */
static uint8_t toned(int level, int how) {
  switch (how) {
  case 0:
    return (uint8_t)(255 * pow(level / 255.0, 0.7) + 0.5); /* gamma */
  case 1:
    return (uint8_t)(255 * pow(level / 255.0, 1.4) + 0.5);
  case 2:
    return (uint8_t)fmin(255, 1.18 * level + 4); /* lost whites */
  default:
    return (uint8_t)fmax(0, fmin(255, (level - 20) * 255.0 / 210)); /* scan levels */
  }
}

/* Copies in another tone, with a little cut off each side, or grey are found, of forms whose table repeats
   itself as of pictures. */
static void test_tones_and_cuts(void **state) {
  (void)state;
  static uint8_t rgb[FORM_H * FORM_W * 3], copy[FORM_H * FORM_W * 3];
  char name[64], first[64];
  const int left = FORM_W / 34, top = FORM_H / 34, width = FORM_W - 2 * left,
            height = FORM_H - 2 * top;
  assert_ran(shell("mkdir -p firsts seconds"));
  for (int i = 0; i < 8; i++) {
    if (i < 4)
      draw_form(200 + (uint64_t)i, 150, -1, rgb);
    else
      draw_picture(300 + (uint64_t)i, rgb);
    snprintf(name, sizeof name, "firsts/%d.png", i);
    write_picture(name, rgb, FORM_H, FORM_W, 0);
    for (int how = 0; how < 4; how++) {
      for (size_t b = 0; b < sizeof rgb; b++) copy[b] = toned(rgb[b], how);
      snprintf(name, sizeof name, "seconds/%d-%d.jpg", i, how);
      write_picture(name, copy, FORM_H, FORM_W, 85);
    }
    for (int y = 0; y < height; y++)
      memcpy(copy + y * width * 3, rgb + ((y + top) * FORM_W + left) * 3, (size_t)width * 3);
    snprintf(name, sizeof name, "seconds/%d-4.jpg", i);
    write_picture(name, copy, height, width, 80);
    for (int p = 0; p < FORM_H * FORM_W; p++) memset(copy + 3 * p, grey_of(rgb + 3 * p), 3);
    snprintf(name, sizeof name, "seconds/%d-5.jpg", i);
    write_picture(name, copy, FORM_H, FORM_W, 60);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 firsts seconds"));
  for (int i = 0; i < 8; i++)
    for (int how = 0; how < 6; how++) {
      snprintf(first, sizeof first, "firsts/%d.png", i);
      snprintf(name, sizeof name, "seconds/%d-%d.jpg", i, how);
      assert_found(name, "near", first);
    }
}

/* Mirror images are copies where they are asked for. */
static void test_mirrored(void **state) {
  (void)state;
  static uint8_t rgb[FORM_H * FORM_W * 3], copy[FORM_H * FORM_W * 3];
  char name[64], first[64];
  assert_ran(shell("mkdir -p turned"));
  for (int i = 0; i < 6; i++) {
    if (i < 3)
      draw_form(400 + (uint64_t)i, 150, -1, rgb);
    else
      draw_picture(400 + (uint64_t)i, rgb);
    for (int p = 0; p < FORM_H * FORM_W; p++)
      memcpy(copy + 3 * p, rgb + 3 * (p / FORM_W * FORM_W + FORM_W - 1 - p % FORM_W), 3);
    snprintf(name, sizeof name, "turned/%d.png", i);
    write_picture(name, rgb, FORM_H, FORM_W, 0);
    snprintf(name, sizeof name, "turned/%d_turned.jpg", i);
    write_picture(name, copy, FORM_H, FORM_W, 75);
    snprintf(name, sizeof name, "turned/%d_twice.jpg", i);
    write_picture(name, rgb, FORM_H, FORM_W, 60);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 turned"));
  assert_int_equal((int)result("near"), 6);
  assert_contains(out_text, "\"mirrored\": null, \"crops\": null");
  assert_ran(shell("$dedup --out dedup.csv --small 0 --mirrored turned"));
  assert_int_equal((int)result("mirrored"), 6);
  assert_int_equal((int)result("near"), 6);
  for (int i = 0; i < 6; i++) {
    snprintf(first, sizeof first, "turned/%d.png", i);
    snprintf(name, sizeof name, "turned/%d_turned.jpg", i);
    assert_found(name, "mirrored", first);
    snprintf(name, sizeof name, "turned/%d_twice.jpg", i);
    assert_found(name, "near", first);
  }
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* Writes a part of a picture, resized. */
static void write_part(const char *name, const uint8_t *rgb, resize_piece part, int height,
                       int width, int quality) {
  static uint8_t out[FORM_H * FORM_W * 3];
  assert_true(height <= FORM_H && width <= FORM_W);
  resize_to_piece(rgb, FORM_H, FORM_W, &part, out, height, width, 3);
  write_picture(name, out, height, width, quality);
}

/* Copies that show a part only are found where they are asked for, as copies of what shows the most,
   wherever it stands in the list. */
static void test_crops(void **state) {
  (void)state;
  static uint8_t rgb[FORM_H * FORM_W * 3];
  char name[64], first[64];
  assert_ran(shell("mkdir -p parts"));
  for (int i = 0; i < 8; i++) {
    /* a third of the area, at its own size; half of it, larger; most of it, smaller */
    const resize_piece third = {FORM_H, FORM_W, 90 + 15 * i, 20 + 15 * i};
    const resize_piece half = {1.3 * FORM_H, 1.3 * FORM_W, 100, 80};
    const resize_piece most = {0.7 * FORM_H, 0.7 * FORM_W, 20, 20};
    if (i < 4)
      draw_form(500 + (uint64_t)i, 150, -1, rgb);
    else
      draw_picture(500 + (uint64_t)i, rgb);
    snprintf(name, sizeof name, "parts/%d.png", i);
    write_picture(name, rgb, FORM_H, FORM_W, 0);
    snprintf(name, sizeof name, "parts/%d-third.jpg", i);
    write_part(name, rgb, third, (int)(0.58 * FORM_H), (int)(0.58 * FORM_W), 85);
    snprintf(name, sizeof name, "parts/%d-half.jpg", i);
    write_part(name, rgb, half, (int)(0.7 * 1.3 * FORM_H), (int)(0.7 * 1.3 * FORM_W), 85);
    snprintf(name, sizeof name, "parts/%d-most.jpg", i);
    write_part(name, rgb, most, (int)(0.86 * 0.7 * FORM_H), (int)(0.86 * 0.7 * FORM_W), 85);
    snprintf(name, sizeof name, "parts/%d-poor.jpg", i);
    write_part(name, rgb, third, (int)(0.58 * FORM_H), (int)(0.58 * FORM_W), 50);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 parts"));
  assert_int_equal((int)result("near"), 8); /* the poor thirds */
  assert_true(isnan(result("crops")));
  assert_ran(shell("$dedup --out dedup.csv --small 0 --crops parts"));
  assert_int_equal((int)result("crops"), 32);
  for (int i = 0; i < 8; i++) {
    static const char *const kinds[] = {"third", "half", "most", "poor"};
    snprintf(first, sizeof first, "parts/%d.png", i);
    assert_found(first, "", "");
    for (int k = 0; k < 4; k++) {
      snprintf(name, sizeof name, "parts/%d-%s.jpg", i, kinds[k]);
      assert_found(name, "crop", first);
    }
  }
  assert_ran(
      shell("cp dedup.csv before.csv; $dedup --out dedup.csv --small 0 --crops --threads 1 parts"));
  assert_same_files("dedup.csv", "before.csv");
}

/* Pages of one form look alike and have one hash; blank paper has no features at all. Neither makes
   a group, only true copies are found among them. */
static void test_dedup_lookalikes(void **state) {
  (void)state;
  static uint8_t rgb[PAGE_H * PAGE_W * 3];
  char name[64];
  cn_random random = {8, 0};
  assert_ran(shell("mkdir -p pages"));
  for (int i = 0; i < 28; i++) {
    draw_page(i, rgb);
    snprintf(name, sizeof name, "pages/p%02d.png", i);
    write_picture(name, rgb, PAGE_H, PAGE_W, 0);
    if (i == 5) write_picture("pages/z5.jpg", rgb, PAGE_H, PAGE_W, 60);
  }
  for (int i = 0; i < 10; i++) { /* blank sheets of slightly different noise */
    for (size_t b = 0; b < sizeof rgb; b++) rgb[b] = (uint8_t)(245 + cn_random_below(&random, 8));
    snprintf(name, sizeof name, "pages/blank%d.png", i);
    write_picture(name, rgb, PAGE_H, PAGE_W, 0);
  }
  write_picture("pages/blank9copy.png", rgb, PAGE_H, PAGE_W, 0);
  /* the same shapes in other colours are other pictures */
  for (int i = 0; i < 2; i++) {
    for (size_t b = 0; b < sizeof rgb; b++) {
      size_t y = b / 3 / PAGE_W, x = b / 3 % PAGE_W;
      int inside = (y - 160) * (y - 160) + (x - 120) * (x - 120) < 8000;
      rgb[b] = (uint8_t)(!inside ? 250
                         : i     ? (b % 3 == 2   ? 200
                                    : b % 3 == 1 ? 122
                                                 : 0)
                                 : (b % 3 ? 47 : 222));
    }
    snprintf(name, sizeof name, "pages/disc%d.png", i);
    write_picture(name, rgb, PAGE_H, PAGE_W, 0);
  }
  assert_ran(shell("$dedup --out dedup.csv --small 0 pages"));
  assert_int_equal((int)result("exact"), 1);
  assert_int_equal((int)result("near"), 1);
  assert_found("pages/z5.jpg", "near", "pages/p05.png");
  assert_found("pages/blank9copy.png", "exact", "pages/blank9.png");
}

/* Sheets of bare paper, each with a shade of its own: what they share is that nothing is on them. */
static void test_bare_paper(void **state) {
  (void)state;
  static uint8_t rgb[FORM_H * FORM_W * 3];
  char name[64];
  cn_random random = {3, 0};
  assert_ran(shell("mkdir -p bare"));
  for (int i = 0; i < 16; i++) {
    int middle_y = (int)cn_random_below(&random, FORM_H),
        middle_x = (int)cn_random_below(&random, FORM_W);
    for (int p = 0; p < FORM_H * FORM_W; p++) {
      int y = p / FORM_W - middle_y, x = p % FORM_W - middle_x;
      int level = 246 - (y * y + x * x) / 12000 + (int)cn_random_below(&random, 7);
      memset(rgb + 3 * p, level, 3);
    }
    snprintf(name, sizeof name, "bare/%02d.%s", i, i % 2 ? "jpg" : "png");
    write_picture(name, rgb, FORM_H, FORM_W, i % 2 ? 80 : 0);
  }
  assert_ran(shell(
      "cp bare/02.png bare/same.png; $dedup --out dedup.csv --small 0 --crops --mirrored bare"));
  assert_int_equal((int)result("near") + (int)result("crops") + (int)result("mirrored"), 0);
  assert_int_equal((int)result("exact"), 1);
  assert_found("bare/same.png", "exact", "bare/02.png");
}

/* A picture for which there is no memory might be a copy: that is an error, no finding. */
static void test_no_memory(void **state) {
  (void)state;
  enum { SIDE = 6000 };
  uint8_t *rgb = allocate((size_t)SIDE * SIDE, 3);
  assert_ran(shell("mkdir -p large"));
  write_picture("large/one.png", rgb, SIDE, SIDE, 0);
  free(rgb);
  assert_refused(shell("(ulimit -v 100000; $dedup --out none.csv --threads 1 large)"), 1,
                 "large/one.png: out of memory", "nothing was compared");
  assert_ran(shell("test ! -e none.csv"));
}

static void test_dedup_small_and_broken(void **state) {
  (void)state;
  static uint8_t rgb[PAGE_H * PAGE_W * 3];
  size_t size;
  draw_page(3, rgb);
  write_picture("small.png", rgb, 28, 28, 0);
  assert_ran(
      shell("rm -rf odd; mkdir odd && cp small.png odd/small.png && "
            "head -c 60 odd/small.png >odd/cut.png && : >odd/empty.jpg && mkdir odd/folder.png && "
            "cp d/a01.png odd/big.png && echo x >odd/notes.txt"));
  write_words("odd/list.csv", "path,label\nbig.png,a\nsmall.png,b\nmissing.png,c\n");
  assert_ran(shell("$dedup --out dedup.csv odd"));
  assert_int_equal((int)result("pictures"), 4);
  assert_int_equal((int)result("small"), 1);
  assert_int_equal((int)result("unreadable"), 2);
  assert_found("odd/small.png", "small", "");
  assert_found("odd/big.png", "", "");
  assert_found("odd/cut.png", "unreadable", "");
  assert_ran(shell("$dedup --out dedup.csv odd/list.csv"));
  assert_int_equal((int)result("unreadable"), 1);
  char *table = contents("dedup.csv", &size);
  assert_contains(table, "path,first,kind,distance,details\n");
  assert_contains(table, "odd/missing.png,,unreadable,,No such file or directory\n");
  free(table);
  assert_ran(shell("$dedup --help"));
  assert_contains(out_text, "examples:");
  assert_refused(shell("$dedup --out d.csv"), 2, "no pictures", "usage:");
  assert_refused(shell("$dedup odd"), 2, "--out", "usage:");
  assert_refused(shell("$dedup --out odd odd"), 1, "odd", "folder");
  assert_refused(shell("(ulimit -f 1; $dedup --small 100000 --out dd.csv d)"), 1, "dd.csv", "");
  assert_ran(shell("test ! -e dd.csv && test ! -e dd.csv.part"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dedup),
      cmocka_unit_test(test_dedup_written),
      cmocka_unit_test(test_rewritten_digit),
      cmocka_unit_test(test_small_print),
      cmocka_unit_test(test_tones_and_cuts),
      cmocka_unit_test(test_mirrored),
      cmocka_unit_test(test_crops),
      cmocka_unit_test(test_dedup_lookalikes),
      cmocka_unit_test(test_bare_paper),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_dedup_small_and_broken),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
