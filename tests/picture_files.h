/* picture_files.h - what the tests of tools/decode.h share: files in memory, a picture to be drawn, and
   what becomes of it. Include it first, behind the definition of TOOL_NAME. */
#ifndef PICTURE_FILES_H
#define PICTURE_FILES_H

#define TOOL_USAGE ""
#include "../tools/tool.h"

#include <limits.h>
#include <unistd.h>

#include "../tools/decode/kinds.h"
#include "../tools/file.h"
#include "../tools/path.h"
#include "support.h"

#include "programs.h"

static char reason[DECODE_REASON];

static inline const char *in_home(const char *name) {
  static char path[PATH_MAX + 300];
  snprintf(path, sizeof path, "%s/%s", home, name);
  return path;
}

/* ---- files in memory ------------------------------------------------------------------------- */

typedef struct buffer {
  uint8_t *bytes;
  size_t size, room;
} buffer;

static inline void put(buffer *to, const void *bytes, size_t count) {
  if (to->size + count > to->room) {
    to->room = (to->size + count) * 2;
    to->bytes = realloc(to->bytes, to->room);
    assert_non_null(to->bytes);
  }
  if (count) memcpy(to->bytes + to->size, bytes, count);
  to->size += count;
}

static inline void put_byte(buffer *to, unsigned value) {
  const uint8_t byte = (uint8_t)value;
  put(to, &byte, 1);
}

static inline void put_number(buffer *to, uint64_t value, int count, int little_endian) {
  for (int i = 0; i < count; i++)
    put_byte(to, (unsigned)(value >> 8 * (little_endian ? i : count - 1 - i) & 255u));
}

static inline void put_text(buffer *to, const char *text) {
  put(to, text, strlen(text));
}

static inline void put_by_stb(void *to, void *bytes, int count) {
  put(to, bytes, (size_t)count);
}

static inline void release(buffer *file) {
  free(file->bytes);
  *file = (buffer){NULL, 0, 0};
}

static inline buffer read_home(const char *name) {
  buffer file = {NULL, 0, 0};
  file.bytes = (uint8_t *)contents(name, &file.size);
  assert_non_null(file.bytes);
  file.room = file.size;
  return file;
}

static inline void remove_bytes(buffer *file, size_t at, size_t count) {
  memmove(file->bytes + at, file->bytes + at + count, file->size - at - count);
  file->size -= count;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* Decodes the first `count` bytes of a file, in memory of their own, so that sanitizers see where it
   ends. Programs of their own read PDF, from a file. */
static inline int decode_cut(const buffer *file, size_t count, decoded_picture *out) {
  uint8_t *bytes = malloc(count + 1);
  assert_non_null(bytes);
  if (count) memcpy(bytes + 1, file->bytes, count);
  *out = (decoded_picture){NULL, 0, 0, 0};
  *reason = 0;
  file_view view = {bytes + 1, count, -1, 1, NULL};
  int failed;
  if (is_pdf(bytes + 1, count)) {
    write_home("cut.pdf", bytes + 1, count);
    failed = !decode_page(in_home("cut.pdf"), 1, 1 << 26, out, reason);
  } else {
    failed = !file_decode(&view, 1, 1 << 26, out, reason);
  }
  free(bytes);
  assert_true(failed ? *reason != 0 && !out->pixels : out->pixels != NULL);
  return failed;
}

/* The number of pages of the first `count` bytes of a file. */
static inline int count_pages(const buffer *file, size_t count) {
  write_home("pages", file->bytes, count);
  *reason = 0;
  return decode_pages(in_home("pages"), reason);
}

static inline decoded_picture must_decode(const char *what, const buffer *file) {
  decoded_picture out;
  if (decode_cut(file, file->size, &out)) fail_msg("%s: %s", what, reason);
  return out;
}

static inline void assert_refused(const char *what, const buffer *file, const char *why) {
  decoded_picture out;
  if (!decode_cut(file, file->size, &out)) fail_msg("%s was not refused", what);
  if (!strstr(reason, why)) fail_msg("%s: \"%s\" does not say \"%s\"", what, reason, why);
}

static inline void assert_same(const char *what, const decoded_picture *a,
                               const decoded_picture *b) {
  const size_t count = (size_t)a->width * (size_t)a->height * (size_t)a->channels;
  if (a->width != b->width || a->height != b->height || a->channels != b->channels ||
      memcmp(a->pixels, b->pixels, count))
    fail_msg("%s: the pictures differ", what);
}

/* ---- a picture ------------------------------------------------------------------------------- */

#define WIDTH 37 /* neither a multiple of 4 nor of 8 */
#define HEIGHT 23

/* Smooth colours with a dark block in it, so that every pixel's place shows. */
static inline void draw(uint8_t *pixels, int channels) {
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++)
      for (int c = 0; c < channels; c++) {
        const int dark = x > 5 && x < 15 && y > 8 && y < 12;
        *pixels++ = (uint8_t)(dark ? 20 : c == 0 ? x * 6 : c == 1 ? y * 10 : 128 + x + 2 * y);
      }
}

/* Colours of `channels` are what draw() draws, off by at most `error`; alpha is taken from it too. */
static inline void assert_drawn(const char *what, const decoded_picture *got, int channels,
                                int error) {
  uint8_t want[HEIGHT * WIDTH * 4];
  if (got->width != WIDTH || got->height != HEIGHT || got->channels != channels)
    fail_msg("%s has %d x %d pixels of %d channels", what, got->width, got->height, got->channels);
  draw(want, channels);
  for (int i = 0; i < HEIGHT * WIDTH * channels; i++)
    if (abs(got->pixels[i] - want[i]) > error)
      fail_msg("%s: sample %d is %d, should be %d", what, i, got->pixels[i], want[i]);
}

/* All but the last `spare` lengths are refused; what stands behind the end does not matter. */
static inline void assert_whole_only(const char *what, buffer *file, size_t spare) {
  decoded_picture out;
  for (size_t count = 0; count + spare < file->size; count++)
    if (!decode_cut(file, count, &out))
      fail_msg("%s: %zu of %zu bytes were taken for a picture", what, count, file->size);
  decoded_picture got = must_decode(what, file);
  put_text(file, "what somebody appended");
  decoded_picture again = must_decode(what, file);
  assert_same(what, &got, &again);
  free(got.pixels);
  free(again.pixels);
  release(file);
}

/* ---- Exif ------------------------------------------------------------------------------------ */

/* A block with the orientation behind another entry, as 16 or 32 bits. */
static inline void put_exif(buffer *to, unsigned orientation, int little_endian, int is_long) {
  put(to, little_endian ? "II" : "MM", 2);
  put_number(to, 42, 2, little_endian);
  put_number(to, 8, 4, little_endian); /* where the directory begins */
  put_number(to, 2, 2, little_endian);
  for (int i = 0; i < 2; i++) {
    put_number(to, i ? 0x112 : 0x100, 2, little_endian);
    put_number(to, is_long ? 4 : 3, 2, little_endian);
    put_number(to, 1, 4, little_endian);
    put_number(to, i ? orientation : WIDTH, is_long ? 4 : 2, little_endian);
    if (!is_long) put_number(to, 0, 2, little_endian);
  }
  put_number(to, 0, 4, little_endian); /* no other directory */
}

/* Where the standard (Exif 2.32, table of orientation) puts a pixel of a picture of WIDTH x HEIGHT. */
static inline void turned_place(unsigned orientation, int x, int y, int *to_x, int *to_y) {
  const int right = WIDTH - 1 - x, bottom = HEIGHT - 1 - y;
  const int places[8][2] = {{x, y}, {right, y},  {right, bottom}, {x, bottom},
                            {y, x}, {bottom, x}, {bottom, right}, {y, right}};
  *to_x = places[orientation - 1][0];
  *to_y = places[orientation - 1][1];
}

/* What draw() drew has been turned as a camera says that was held so. */
static inline void assert_turned(const char *what, const decoded_picture *got, unsigned orientation,
                                 int error) {
  uint8_t want[HEIGHT * WIDTH * 4];
  const int channels = got->channels, swap = orientation >= 5;
  if (got->width != (swap ? HEIGHT : WIDTH) || got->height != (swap ? WIDTH : HEIGHT))
    fail_msg("%s, orientation %u: %d x %d pixels", what, orientation, got->width, got->height);
  draw(want, channels);
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++) {
      int to_x, to_y;
      turned_place(orientation, x, y, &to_x, &to_y);
      for (int c = 0; c < channels; c++) {
        const int a = got->pixels[(to_y * got->width + to_x) * channels + c];
        if (abs(a - want[(y * WIDTH + x) * channels + c]) > error)
          fail_msg("%s, orientation %u: %d at %d, %d; should be %d", what, orientation, a, to_x,
                   to_y, want[(y * WIDTH + x) * channels + c]);
      }
    }
}

/* ---- the folder ------------------------------------------------------------------------------ */

static inline int make_home(void **state) {
  const char *base = getenv("TMPDIR");
  (void)state;
  snprintf(home, sizeof home, "%s/" TOOL_NAME "-XXXXXX", base ? base : "/tmp");
  return mkdtemp(home) ? 0 : -1;
}

#endif
