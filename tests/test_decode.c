/* Checks that tools/decode.h gives a picture's pixels in every format, upright, and refuses with a
   reason what is damaged, cut off or too large. */
#define _POSIX_C_SOURCE 200809L
#include "../convnet.h"
#include "support.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tools/decode.h"
#include "../tools/implementations/stb.h"

static char home[PATH_MAX]; /* the temporary folder */
static char reason[DECODE_REASON];

static const char *in_home(const char *name) {
  static char path[PATH_MAX + 300];
  snprintf(path, sizeof path, "%s/%s", home, name);
  return path;
}

/* ---- files in memory ------------------------------------------------------------------------- */

typedef struct buffer {
  uint8_t *bytes;
  size_t size, room;
} buffer;

static void put(buffer *to, const void *bytes, size_t count) {
  if (to->size + count > to->room) {
    to->room = (to->size + count) * 2;
    to->bytes = realloc(to->bytes, to->room);
    assert_non_null(to->bytes);
  }
  if (count) memcpy(to->bytes + to->size, bytes, count);
  to->size += count;
}

static void put_byte(buffer *to, unsigned value) {
  const uint8_t byte = (uint8_t)value;
  put(to, &byte, 1);
}

static void put_number(buffer *to, unsigned value, int count, int little_endian) {
  for (int i = 0; i < count; i++)
    put_byte(to, value >> 8 * (little_endian ? i : count - 1 - i) & 255u);
}

static void put_text(buffer *to, const char *text) {
  put(to, text, strlen(text));
}

static void put_by_stb(void *to, void *bytes, int count) {
  put(to, bytes, (size_t)count);
}

static void release(buffer *file) {
  free(file->bytes);
  *file = (buffer){NULL, 0, 0};
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void write_file(const char *name, const uint8_t *bytes, size_t count) {
  FILE *file = fopen(in_home(name), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
}

/* Decodes the first `count` bytes of a file. */
static int decode_cut(const buffer *file, size_t count, decoded *out) {
  write_file("picture", file->bytes, count);
  *out = (decoded){NULL, 0, 0, 0};
  *reason = 0;
  return decode_page(in_home("picture"), 1, 1 << 26, out, reason);
}

static decoded must_decode(const char *what, const buffer *file) {
  decoded out;
  if (decode_cut(file, file->size, &out)) fail_msg("%s: %s", what, reason);
  return out;
}

static void assert_refused(const char *what, const buffer *file, const char *why) {
  decoded out;
  if (!decode_cut(file, file->size, &out)) fail_msg("%s was not refused", what);
  if (!strstr(reason, why)) fail_msg("%s: \"%s\" does not say \"%s\"", what, reason, why);
}

static void assert_same(const char *what, const decoded *a, const decoded *b) {
  const size_t count = (size_t)a->width * (size_t)a->height * (size_t)a->channels;
  if (a->width != b->width || a->height != b->height || a->channels != b->channels ||
      memcmp(a->pixels, b->pixels, count))
    fail_msg("%s: the pictures differ", what);
}

/* ---- a picture in all formats ---------------------------------------------------------------- */

#define WIDTH 37 /* neither a multiple of 4 nor of 8 */
#define HEIGHT 23

/* Smooth colours with a dark block in it, so that every pixel's place shows. */
static void draw(uint8_t *pixels, int channels) {
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++)
      for (int c = 0; c < channels; c++) {
        const int dark = x > 5 && x < 15 && y > 8 && y < 12;
        *pixels++ = (uint8_t)(dark ? 20 : c == 0 ? x * 6 : c == 1 ? y * 10 : 128 + x + 2 * y);
      }
}

static buffer make_png(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(
      stbi_write_png_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels, WIDTH * channels));
  return file;
}

static buffer make_jpeg(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(stbi_write_jpg_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels, 95));
  return file;
}

static buffer make_bmp(int channels) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  assert_true(stbi_write_bmp_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels));
  return file;
}

static buffer make_tga(int channels, int packed) {
  uint8_t pixels[HEIGHT * WIDTH * 4];
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  stbi_write_tga_with_rle = packed;
  assert_true(stbi_write_tga_to_func(put_by_stb, &file, WIDTH, HEIGHT, channels, pixels));
  return file;
}

static buffer make_hdr(void) {
  static float pixels[HEIGHT * WIDTH * 3];
  buffer file = {NULL, 0, 0};
  for (int i = 0; i < HEIGHT * WIDTH * 3; i++) pixels[i] = (float)(i % 97) / 97;
  assert_true(stbi_write_hdr_to_func(put_by_stb, &file, WIDTH, HEIGHT, 3, pixels));
  return file;
}

/* Raw (P4, P5, P6) or plain (P1, P2, P3); of PBM, dark pixels are black. */
static buffer make_pnm(int kind, unsigned largest) {
  uint8_t pixels[HEIGHT * WIDTH * 3];
  char number[32];
  const int channels = kind % 3 ? 1 : 3, bits = kind % 3 == 1;
  buffer file = {NULL, 0, 0};
  draw(pixels, channels);
  snprintf(number, sizeof number, "P%d\n# a comment\n%d %d\n", kind, WIDTH, HEIGHT);
  put_text(&file, number);
  snprintf(number, sizeof number, "%u\n", largest);
  if (!bits) put_text(&file, number);
  for (int y = 0; y < HEIGHT; y++) {
    unsigned packed = 0;
    for (int i = 0; i < WIDTH * channels; i++) {
      const unsigned value = pixels[y * WIDTH * channels + i] * largest / 255u;
      packed = packed * 2 + (value < largest / 2 + 1);
      if (kind == 1) put_byte(&file, '0' + (packed & 1));
      if (kind == 4 && i % 8 == 7) put_byte(&file, packed & 255u);
      if (kind == 4 && i == WIDTH - 1) put_byte(&file, packed << (8 - WIDTH % 8) & 255u);
      snprintf(number, sizeof number, "%u ", value);
      if (kind == 2 || kind == 3) put_text(&file, number);
      if (kind == 5 || kind == 6) put_number(&file, value, largest > 255 ? 2 : 1, 0);
    }
    if (kind <= 3) put_text(&file, "\n");
  }
  return file;
}

/* Colours of `channels` are what draw() draws, off by at most `error`; alpha is taken from it too. */
static void assert_drawn(const char *what, const decoded *got, int channels, int error) {
  uint8_t want[HEIGHT * WIDTH * 4];
  if (got->width != WIDTH || got->height != HEIGHT || got->channels != channels)
    fail_msg("%s has %d x %d pixels of %d channels", what, got->width, got->height, got->channels);
  draw(want, channels);
  for (int i = 0; i < HEIGHT * WIDTH * channels; i++)
    if (abs(got->pixels[i] - want[i]) > error)
      fail_msg("%s: sample %d is %d, should be %d", what, i, got->pixels[i], want[i]);
}

static void test_formats(void **state) {
  (void)state;
  for (int channels = 1; channels <= 4; channels++) {
    char what[40];
    buffer files[] = {make_png(channels), make_tga(channels, 0), make_tga(channels, 1)};
    for (int i = 0; i < 3; i++) {
      snprintf(what, sizeof what, "%s of %d channels", i ? "TGA" : "PNG", channels);
      decoded got = must_decode(what, &files[i]);
      assert_drawn(what, &got, channels, 0);
      assert_string_equal(decode_format(files[i].bytes, files[i].size), i ? "TGA" : "PNG");
      free(got.pixels);
      release(&files[i]);
    }
  }
  for (int channels = 3; channels <= 4; channels++) {
    buffer bmp = make_bmp(channels);
    decoded got = must_decode("BMP", &bmp);
    assert_drawn("BMP", &got, channels, 0);
    free(got.pixels);
    release(&bmp);
  }
  for (int channels = 1; channels <= 3; channels += 2) {
    buffer jpeg = make_jpeg(channels);
    decoded got = must_decode("JPEG", &jpeg);
    assert_drawn("JPEG", &got, 3, channels == 3 ? 40 : 255);
    free(got.pixels);
    release(&jpeg);
  }
}

/* Samples are scaled by their largest value; in PBM 1 is black. */
static void test_pnm(void **state) {
  static const struct {
    int kind;
    unsigned largest;
    int error;
  } kinds[] = {{2, 255, 0}, {2, 15, 17},   {2, 1000, 1}, {3, 255, 0}, {5, 255, 0},
               {5, 15, 17}, {5, 65535, 0}, {6, 255, 0},  {6, 31, 9},  {6, 4095, 1}};
  (void)state;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char what[40];
    buffer file = make_pnm(kinds[i].kind, kinds[i].largest);
    snprintf(what, sizeof what, "P%d up to %u", kinds[i].kind, kinds[i].largest);
    decoded got = must_decode(what, &file);
    assert_drawn(what, &got, kinds[i].kind % 3 ? 1 : 3, kinds[i].error);
    free(got.pixels);
    release(&file);
  }
  for (int kind = 1; kind <= 4; kind += 3) {
    uint8_t drawn[HEIGHT * WIDTH];
    buffer file = make_pnm(kind, 1);
    decoded got = must_decode("PBM", &file);
    draw(drawn, 1);
    for (int i = 0; i < HEIGHT * WIDTH; i++)
      assert_int_equal(got.pixels[i], drawn[i] == 255 ? 255 : 0);
    free(got.pixels);
    release(&file);
  }
  buffer above = {NULL, 0, 0};
  put_text(&above, "P2 2 1 9 3 10\n");
  assert_refused("a sample above the largest", &above, "damaged");
  release(&above);
}

/* ---- cut files ------------------------------------------------------------------------------- */

/* All but the last `spare` lengths are refused; what stands behind the end does not matter. */
static void assert_whole_only(const char *what, buffer *file, size_t spare) {
  decoded out;
  for (size_t count = 0; count + spare < file->size; count++)
    if (!decode_cut(file, count, &out))
      fail_msg("%s: %zu of %zu bytes were taken for a picture", what, count, file->size);
  decoded got = must_decode(what, file);
  put_text(file, "what somebody appended");
  decoded again = must_decode(what, file);
  assert_same(what, &got, &again);
  free(got.pixels);
  free(again.pixels);
  release(file);
}

static void test_cuts(void **state) {
  (void)state;
  buffer file = make_png(3);
  assert_whole_only("PNG", &file, 0);
  file = make_jpeg(3);
  assert_whole_only("JPEG", &file, 0);
  file = make_bmp(3);
  assert_whole_only("BMP", &file, 0);
  for (int packed = 0; packed <= 1; packed++) {
    file = make_tga(3, packed);
    assert_whole_only("TGA", &file, 0);
  }
  file = make_hdr();
  assert_whole_only("HDR", &file, 0);
  for (int kind = 1; kind <= 6; kind++) {
    file = make_pnm(kind, kind % 3 == 1 ? 1 : 200);
    assert_whole_only("PNM", &file, kind <= 3 ? 1 : 0); /* but the end of the last line */
  }
}

static int setup(void **state) {
  const char *base = getenv("TMPDIR");
  (void)state;
  snprintf(home, sizeof home, "%s/tally-decode-XXXXXX", base ? base : "/tmp");
  return mkdtemp(home) ? 0 : -1;
}

static int teardown(void **state) {
  char command[PATH_MAX + 16];
  (void)state;
  snprintf(command, sizeof command, "rm -rf '%s'", home);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formats),
      cmocka_unit_test(test_pnm),
      cmocka_unit_test(test_cuts),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
