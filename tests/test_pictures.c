/* test_pictures.c - pictures on their way to a network and back: resizing, random changes, the loader
   that makes batches ahead, fine-tuning on folders, and tally-predict.

   Build:  make all build/tests/test_pictures
   Run:    build/tests/test_pictures     in the repository's root; BIN=folder of programs

   All data are made here, in a temporary folder, but for tests/golden/pictures.safetensors. */
#define main train_main
#include "../tools/tally-train.c"
#undef main
#include "support.h"

#include "../tools/decode/kinds.h"
#include "../tools/implementations/stb.h"
#include "programs.h"

static preprocess plain_preprocess(int height, int width, int channels) {
  preprocess pre = {0};
  pre.height = height;
  pre.width = width;
  pre.channels = channels;
  preprocess_set(&pre, (float[3]){0, 0, 0}, (float[3]){1, 1, 1});
  return pre;
}

static void assert_refused(int code, int expected, const char *part, const char *other) {
  if (code != expected)
    fail_msg("exit code %d instead of %d: %s%s", code, expected, err_text, out_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

/* ---- resizing -------------------------------------------------------------------------------- */

static picture golden_picture(const cn_safetensors *file, const char *name) {
  const cn_tensor *tensor = cn_safetensors_find(file, name);
  if (!tensor) fail_msg("there is no tensor %s", name);
  assert_int_equal(tensor->bytes, tensor->dims[0] * tensor->dims[1] * 3);
  picture out = {allocate(tensor->bytes, 1), (int)tensor->dims[0], (int)tensor->dims[1], 3};
  memcpy(out.pixels, tensor->data, tensor->bytes);
  return out;
}

static void assert_levels(const char *name, const uint8_t *got, const picture *want, int allowed) {
  for (int i = 0; i < want->height * want->width * 3; i++)
    if (abs(got[i] - want->pixels[i]) > allowed)
      fail_msg("%s: byte %d is %d, should be %d", name, i, got[i], want->pixels[i]);
}

/* Within one level of Pillow, and to the pixel where torchvision's CenterCrop cuts. */
static void test_resize_golden(void **state) {
  (void)state;
  cn_error error;
  int compared = 0;
  cn_safetensors *file = cn_safetensors_read("tests/golden/pictures.safetensors", &error);
  if (!file) fail_msg("%s", error.message);
  for (int i = 0; i < file->tensor_count; i++) {
    char source[16], how[16];
    int height, width;
    const char *name = file->tensors[i].name;
    if (sscanf(name, "%15[a-z].%15[a-z:0-9]-%dx%d", source, how, &height, &width) != 4) continue;
    picture from = golden_picture(file, source), want = golden_picture(file, name);
    preprocess pre = plain_preprocess(height, width, 3);
    assert_true(parse_resize(how, &pre));
    uint8_t *got = allocate(preprocess_size(&pre), 1);
    assert_true(want.height == height && want.width == width);
    picture_resize(&from, &pre, got);
    assert_levels(name, got, &want, 1);
    compared++;
    free(got);
    free(from.pixels);
    free(want.pixels);
  }
  assert_int_equal(compared, 16);
  cn_safetensors_free(file);
}

static void test_pad(void **state) {
  (void)state;
  static uint8_t white[10 * 40], to[16 * 400];
  memset(white, 255, sizeof white);
  preprocess pre = plain_preprocess(16, 16, 1);
  assert_true(parse_resize("pad", &pre));
  picture wide = {white, 10, 40, 1}, tall = {white, 40, 10, 1}, line = {white, 1, 400, 1};
  picture_resize(&wide, &pre, to);
  for (int i = 0; i < 256; i++) assert_int_equal(to[i], i / 16 >= 6 && i / 16 < 10 ? 255 : 0);
  picture_resize(&tall, &pre, to);
  for (int i = 0; i < 256; i++) assert_int_equal(to[i], i % 16 >= 6 && i % 16 < 10 ? 255 : 0);
  picture_resize(&line, &pre, to);
  for (int i = 0; i < 256; i++) assert_int_equal(to[i], i / 16 == 7 ? 255 : 0);
}

/* Shapes at the edge: nothing is read or written outside (sanitizers look), the middle is right. */
static void test_extreme_shapes(void **state) {
  (void)state;
  static uint8_t pixels[4000];
  uint8_t to[9 * 7];
  for (int i = 0; i < 4000; i++) pixels[i] = (uint8_t)(i / 16);
  const char *const policies[] = {"squash", "crop", "crop:9", "crop:65536", "pad"};
  const int shapes[][2] = {{1, 1}, {1, 4000}, {4000, 1}, {2, 2000}, {3, 1}};
  for (int p = 0; p < 5; p++)
    for (int s = 0; s < 5; s++) {
      preprocess pre = plain_preprocess(9, 7, 1);
      assert_true(parse_resize(policies[p], &pre));
      picture from = {pixels, shapes[s][0], shapes[s][1], 1};
      picture_resize(&from, &pre, to);
      if (shapes[s][0] * shapes[s][1] == 4000 && p > 0) assert_in_range(to[4 * 7 + 3], 121, 129);
    }
}

static void test_resize_names(void **state) {
  (void)state;
  char text[32];
  const char *const good[] = {"squash", "pad", "crop", "crop:256"};
  const char *const bad[] = {"",          "Crop",          "crop:",     "crop:223", "crop:x",
                             "crop:256x", "crop:99999999", "crop:-256", "squashed"};
  for (int i = 0; i < 4; i++) {
    preprocess pre = plain_preprocess(224, 200, 3);
    assert_true(parse_resize(good[i], &pre));
    assert_string_equal(resize_text(&pre, text), good[i]);
  }
  for (int i = 0; i < 9; i++) {
    preprocess pre = plain_preprocess(224, 200, 3);
    if (parse_resize(bad[i], &pre)) fail_msg("\"%s\" was accepted", bad[i]);
  }
}

/* ---- random changes -------------------------------------------------------------------------- */

static void test_colours_golden(void **state) {
  (void)state;
  cn_error error;
  cn_safetensors *file = cn_safetensors_read("tests/golden/pictures.safetensors", &error);
  if (!file) fail_msg("%s", error.message);
  const struct {
    const char *name;
    void (*change)(uint8_t *, size_t, int, float);
    float amount;
  } changes[] = {{"wide.brightness", adjust_brightness, 1.4f},
                 {"wide.contrast", adjust_contrast, 1.4f},
                 {"wide.saturation", adjust_saturation, 0.6f},
                 {"wide.hue", adjust_hue, 0.2f}};
  for (int i = 0; i < 4; i++) {
    picture from = golden_picture(file, "wide"), want = golden_picture(file, changes[i].name);
    changes[i].change(from.pixels, (size_t)from.height * (size_t)from.width, 3, changes[i].amount);
    assert_levels(changes[i].name, from.pixels, &want, 1);
    free(from.pixels);
    free(want.pixels);
  }
  cn_safetensors_free(file);
}

static void test_hue_circle(void **state) {
  (void)state;
  const uint8_t wanted[4][3] = {{200, 50, 50}, {50, 200, 50}, {50, 50, 200}, {50, 200, 200}};
  const float turns[4] = {0, 1 / 3.0f, -1 / 3.0f, 0.5f};
  for (int i = 0; i < 4; i++) {
    uint8_t rgb[3] = {200, 50, 50}, grey[3] = {90, 90, 90};
    turn_hue(rgb, turns[i]);
    turn_hue(grey, turns[i]);
    for (int c = 0; c < 3; c++) {
      assert_in_range(rgb[c], wanted[i][c] - 1, wanted[i][c] + 1);
      assert_int_equal(grey[c], 90);
    }
  }
}

/* Factors are uniform in 1 +- the option; what is switched off does nothing. */
static void test_jitter_statistics(void **state) {
  (void)state;
  enum { DRAWS = 4000 };
  augmentation set = {0};
  double sum = 0, squares = 0, least = 1e9, most = 0;
  set.brightness = 0.5f;
  for (uint64_t seed = 0; seed < DRAWS; seed++) {
    uint8_t pixel[3] = {100, 120, 10};
    cn_random random = {seed, 0};
    jitter_colours(&set, 3, 1, &random, pixel);
    double factor = pixel[1] / 120.0;
    assert_true(fabs(pixel[0] - 100 * factor) < 1 && fabs(pixel[2] - 10 * factor) < 1);
    sum += factor;
    squares += factor * factor;
    least = fmin(least, factor);
    most = fmax(most, factor);
  }
  double mean = sum / DRAWS;
  assert_true(fabs(mean - 1) < 0.02 && least < 0.51 && least >= 0.49 && most > 1.49 &&
              most <= 1.51);
  assert_true(fabs(squares / DRAWS - mean * mean - 1 / 12.0) < 0.005);
  /* a grey picture has neither saturation nor hue; a uniform one no contrast */
  set = (augmentation){0};
  set.saturation = set.hue = 0.5f;
  uint8_t grey[4] = {10, 80, 160, 240}, same[4] = {10, 80, 160, 240};
  cn_random random = {7, 0};
  jitter_colours(&set, 1, 4, &random, grey);
  assert_memory_equal(grey, same, 4);
  set = (augmentation){0};
  set.contrast = 0.9f;
  uint8_t uniform[4] = {77, 77, 77, 77};
  jitter_colours(&set, 1, 4, &random, uniform);
  for (int i = 0; i < 4; i++) assert_int_equal(uniform[i], 77);
}

/* Pieces lie inside, have an allowed share and shape, and come from everywhere. */
static void test_crop_statistics(void **state) {
  (void)state;
  enum { DRAWS = 4000, SIDE = 300 };
  augmentation set = {0};
  set.crop = 0.08f;
  preprocess pre = plain_preprocess(32, 32, 3);
  picture from = {NULL, SIDE, SIDE, 3};
  double sum = 0, left = 0, top = 0, wide = 0;
  int low = 0;
  for (uint64_t seed = 0; seed < DRAWS; seed++) {
    cn_random random = {seed, 0};
    crop_box box = draw_crop(&set, &from, &pre, &random);
    double share = (double)box.height * box.width / (SIDE * SIDE);
    double ratio = (double)box.width / box.height;
    assert_true(box.top >= 0 && box.left >= 0 && box.top + box.height <= SIDE &&
                box.left + box.width <= SIDE);
    assert_true(share > 0.078 && share <= 1 && ratio > 0.74 && ratio < 1.35);
    sum += share;
    low += share < 0.31;
    wide += ratio > 1;
    if (box.width < SIDE) left += (double)box.left / (SIDE - box.width) - 0.5;
    if (box.height < SIDE) top += (double)box.top / (SIDE - box.height) - 0.5;
  }
  /* shares near 1 only fit when nearly square, which moves the mean below (0.08 + 1) / 2 */
  assert_true(sum / DRAWS > 0.44 && sum / DRAWS < 0.54);
  assert_true(fabs(low / (double)DRAWS - 0.25) < 0.06);
  assert_true(fabs(wide / DRAWS - 0.5) < 0.03);
  assert_true(fabs(left / DRAWS) < 0.02 && fabs(top / DRAWS) < 0.02);
  /* whatever the shape there is a piece; a long one gives the largest allowed in the middle */
  const int shapes[][2] = {{1, 1}, {1, 500}, {500, 1}, {2, 3}, {10, 4000}};
  set.crop = 1;
  for (int s = 0; s < 5; s++) {
    picture odd = {NULL, shapes[s][0], shapes[s][1], 3};
    cn_random random = {3, 0};
    crop_box box = draw_crop(&set, &odd, &pre, &random);
    assert_true(box.height >= 1 && box.width >= 1 && box.top >= 0 && box.left >= 0);
    assert_true(box.top + box.height <= odd.height && box.left + box.width <= odd.width);
    if (s == 4) assert_true(box.height == 10 && box.width == 13 && box.left == 1993);
  }
}

/* On a ramp the values tell where a piece came from. */
static void test_crop_pixels(void **state) {
  (void)state;
  static uint8_t ramp[100 * 200], to[32 * 64];
  for (int i = 0; i < 100 * 200; i++) ramp[i] = (uint8_t)(i % 200);
  preprocess pre = plain_preprocess(16, 16, 1);
  picture from = {ramp, 100, 200, 1};
  crop_resized(&from, (crop_box){30, 40, 32, 64}, &pre, to);
  for (int x = 1; x < 15; x++) /* middle of the x-th of 16 cells of 4 pixels, from 40 on */
    assert_in_range(to[5 * 16 + x], 40 + 4 * x + 1, 40 + 4 * x + 2);
}

/* A bright dot away from the middle shows angle and stretch of a warp. */
static void test_rotation_and_zoom(void **state) {
  (void)state;
  enum { S = 65, DRAWS = 400 };
  static uint8_t bytes[S * S];
  static float warped[S * S];
  preprocess pre = plain_preprocess(S, S, 1);
  augmentation set = {0};
  set.rotate = 30;
  set.zoom = 0.2f;
  for (int y = -2; y <= 2; y++)
    for (int x = -2; x <= 2; x++) bytes[(32 + y) * S + 52 + x] = 255; /* 20 right of the middle */
  augmenter with = augmenter_create(&set, &pre);
  augment_room room = augment_room_create(&pre);
  double least_angle = 0, most_angle = 0, least_length = 100, most_length = 0, angles = 0;
  for (uint64_t seed = 0; seed < DRAWS; seed++) {
    cn_random random = {seed, 0};
    double mass = 0, down = 0, right = 0;
    warp_picture(&with, bytes, &random, room.padded, warped);
    for (int i = 0; i < S * S; i++) {
      mass += (double)warped[i];
      down += (double)warped[i] * (i / S - 32);
      right += (double)warped[i] * (i % S - 32);
    }
    double angle = atan2(down, right) * 180 / 3.14159265, length = hypot(down, right) / mass;
    least_angle = fmin(least_angle, angle);
    most_angle = fmax(most_angle, angle);
    least_length = fmin(least_length, length);
    most_length = fmax(most_length, length);
    angles += angle;
  }
  /* height and width are stretched each on its own, which bends angles by up to this */
  assert_true(least_angle < -26 && least_angle > -42 && most_angle > 26 && most_angle < 42);
  assert_true(fabs(angles / DRAWS) < 3);
  assert_true(least_length < 16.8 && least_length > 15.4 && most_length > 23.2 &&
              most_length < 24.6);
  augment_room_free(&room);
  augmenter_free(&with);
}

/* ---- what an epoch draws --------------------------------------------------------------------- */

static void test_balanced_draws(void **state) {
  (void)state;
  enum { COUNT = 70, CLASSES = 4 };
  int labels[COUNT], indices[COUNT], order[COUNT];
  for (int i = 0; i < COUNT; i++) {
    labels[i] = i < 50 ? 0 : i < 67 ? 1 : 3; /* 50, 17, none, 3 */
    indices[i] = i;
  }
  settings set = {0};
  set.balanced_sampling = 1;
  set.seed = 5;
  run r = {0};
  r.set = &set;
  r.data.count = COUNT;
  r.data.labels = labels;
  r.classes.count = CLASSES;
  r.train = (view){&r.data, indices, COUNT};
  r.order = order;
  int ever[COUNT] = {0};
  for (int epoch = 1; epoch <= 20; epoch++) {
    int drawn[COUNT] = {0}, of_class[CLASSES] = {0};
    order_epoch(&r, epoch);
    for (int i = 0; i < COUNT; i++) {
      drawn[order[i]]++;
      ever[order[i]]++;
      of_class[labels[order[i]]]++;
    }
    assert_true(of_class[0] == 24 && of_class[1] == 23 && of_class[3] == 23);
    for (int i = 0; i < COUNT; i++) {
      if (labels[i] == 0) assert_in_range(drawn[i], 0, 1);
      if (labels[i] == 1) assert_in_range(drawn[i], 1, 2);
      if (labels[i] == 3) assert_in_range(drawn[i], 7, 8);
    }
  }
  for (int i = 0; i < COUNT; i++)
    assert_true(ever[i] >= 2); /* the part of the frequent class changes */
  int again[COUNT];
  memcpy(again, order, sizeof order);
  order_epoch(&r, 20);
  assert_memory_equal(again, order, sizeof order);
  order_epoch(&r, 19);
  assert_memory_not_equal(again, order, sizeof order);
}

/* ---- made pictures --------------------------------------------------------------------------- */

/* A colour picture of class k of 3: stripes across, stripes down, or a disc, in random colours. */
static void draw_shape(int label, uint64_t seed, int height, int width, uint8_t *rgb) {
  cn_random random = {seed, 0};
  uint8_t colours[2][3];
  for (int i = 0; i < 6; i++)
    colours[i / 3][i % 3] = (uint8_t)((int)cn_random_below(&random, 110) + 140 * (i / 3));
  int shift = (int)cn_random_below(&random, 8);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      int dy = y - height / 2, dx = x - width / 2;
      int inside = label == 0   ? (y + shift) / 4 % 2
                   : label == 1 ? (x + shift) / 4 % 2
                                : dx * dx + dy * dy < height * height / 9;
      for (int c = 0; c < 3; c++) {
        int value = colours[inside][c] + (int)cn_random_below(&random, 9) - 4;
        rgb[(y * width + x) * 3 + c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
      }
    }
}

static const char *const shapes[] = {"across", "disc, round", "down"};
static const int shape_of[] = {0, 2, 1};

static void make_shapes(const char *name, const int *each, uint64_t seed) {
  static uint8_t rgb[48 * 48 * 3];
  char *folder = join_path(home, name);
  mkdir(folder, 0777);
  for (int k = 0; k < 3; k++) {
    char *sub = join_path(folder, shapes[k]);
    mkdir(sub, 0777);
    for (int i = 0; i < each[k]; i++) {
      char path[PATH_MAX + 64];
      int height = 24 + (i * 7 + k) % 20, width = 24 + (i * 5) % 24;
      draw_shape(shape_of[k], mix_seed(seed, (uint64_t)(1000 * k + i)), height, width, rgb);
      snprintf(path, sizeof path, "%s/%03d.%s", sub, i, i % 3 ? "png" : "jpg");
      if (i % 3)
        assert_true(stbi_write_png(path, width, height, 3, rgb, 0));
      else
        assert_true(stbi_write_jpg(path, width, height, 3, rgb, 95));
    }
    free(sub);
  }
  free(folder);
}

static const char network[] =
    "input 16x16x3\nstem: conv 8 3x3 pad=1 bias=no\nstem.norm: batchnorm\nrelu\nmaxpool 2x2\n"
    "body: conv 8 3x3 pad=1 bias=no\nbody.norm: batchnorm\nrelu\nglobalmean\nhead: dense "
    "3\nsoftmax\n";

static int setup(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR"), *bin = getenv("BIN");
  const char *const programs[] = {"train", "evaluate", "predict"};
  char here[PATH_MAX], program[2 * PATH_MAX];
  if (!getcwd(here, sizeof here)) return -1;
  snprintf(home, sizeof home, "%s/tally-pictures-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(home)) return -1;
  for (int i = 0; i < 3; i++) {
    snprintf(program, sizeof program, "%s/%s/tally-%s", here, bin ? bin : "bin", programs[i]);
    setenv(programs[i], bin && *bin == '/' ? program + strlen(here) + 1 : program, 1);
  }
  make_shapes("shapes", (const int[3]){30, 12, 6}, 1);
  make_shapes("test", (const int[3]){8, 8, 8}, 2);
  write_words("small.net", network);
  return 0;
}

#define CHANGES                                                                                    \
  "--random-crop 0.5 --flip --brightness 0.2 --contrast 0.2 --saturation 0.2 --hue 0.05 "          \
  "--smooth 0.1 --rotate 5 --zoom 0.1 --shift 1 --elastic 0.3 "
#define RECIPE "--data shapes --arch small.net --batch 8 --lr 0.01 --schedule constant --quiet "

/* ---- how the camera was held ----------------------------------------------------------------- */

static void append_number(text_buffer *file, int bytes, unsigned value, int little_endian) {
  for (int i = 0; i < bytes; i++) {
    const char byte = (char)(value >> 8 * (little_endian ? i : bytes - 1 - i));
    text_append(file, &byte, 1);
  }
}

static void append_entry(text_buffer *file, unsigned tag, unsigned value, int little_endian) {
  append_number(file, 2, tag, little_endian);
  append_number(file, 2, 3, little_endian); /* 16 bits each */
  append_number(file, 4, 1, little_endian); /* one of them, padded to four bytes */
  append_number(file, 2, value, little_endian);
  append_number(file, 2, 0, little_endian);
}

#define MARKER_END 51 /* in the file */

/* Writes "turned.jpg", 32 x 48 pixels, a grey level in each quarter: 10, 90 / 170, 250. Its camera
   says `orientation`, in either order of bytes. */
static void write_turned(unsigned orientation, int little_endian) {
  uint8_t pixels[48 * 32];
  text_buffer jpeg = {0}, file = {0};
  for (int i = 0; i < 48 * 32; i++)
    pixels[i] = (uint8_t)(10 + 80 * (i % 32 >= 16) + 160 * (i >= 24 * 32));
  assert_true(stbi_write_jpg_to_func(append_bytes, &jpeg, 32, 48, 1, pixels, 95));
  text_append(&file, jpeg.data, 2);
  text_append(&file, "\xFF\xFF\xE1\0\x2E", 5); /* the first byte is allowed to repeat */
  text_append(&file, "Exif\0", 6);
  text_append(&file, little_endian ? "II" : "MM", 2);
  append_number(&file, 2, 42, little_endian);
  append_number(&file, 4, 8, little_endian); /* where the directory begins */
  append_number(&file, 2, 2, little_endian);
  append_entry(&file, 0x100, 32, little_endian); /* the width */
  append_entry(&file, 0x112, orientation, little_endian);
  append_number(&file, 4, 0, little_endian); /* no other directory */
  assert_int_equal(file.length, MARKER_END);
  text_append(&file, jpeg.data + 2, jpeg.length - 2);
  write_home("turned.jpg", file.data, file.length);
  free(jpeg.data);
  free(file.data);
}

/* Where the standard (Exif 2.32, table of orientation) puts the quarters. */
static void test_orientation(void **state) {
  static const char *const quarters[] = {"abcd", "badc", "dcba", "cdab",
                                         "acbd", "cadb", "dbca", "bdac"};
  char *path = join_path(home, "turned.jpg");
  (void)state;
  for (unsigned orientation = 0; orientation <= 9; orientation++)
    for (int little = 0; little < 2; little++) {
      const int valid = orientation >= 1 && orientation <= 8, swap = valid && orientation >= 5;
      picture got;
      write_turned(orientation, little);
      const char *reason = picture_read(path, 1, DECODE_MAX_PIXELS, &got);
      if (reason) fail_msg("orientation %d: %s", orientation, reason);
      assert_int_equal(got.width, swap ? 48 : 32);
      assert_int_equal(got.height, swap ? 32 : 48);
      for (int i = 0; i < 4; i++) {
        const int x = (i % 2 ? 3 : 1) * got.width / 4, y = (i / 2 ? 3 : 1) * got.height / 4;
        const int want = 10 + 80 * (quarters[valid ? orientation - 1 : 0][i] - 'a');
        assert_in_range(got.pixels[y * got.width + x], want - 3, want + 3);
      }
      free(got.pixels);
    }
  free(path);
}

/* In memory of its own, so that sanitizers see where it ends. */
static void assert_some_orientation(const char *file, size_t size, size_t at, int value) {
  uint8_t *copy = allocate(size + 1, 1), *bytes = copy + 1;
  memcpy(bytes, file, size);
  if (at < size) bytes[at] = (uint8_t)value;
  assert_in_range(jpeg_orientation(bytes, size), 1, 8);
  free(copy);
}

/* Cut anywhere or with any of its bytes changed. */
static void test_broken_orientation(void **state) {
  size_t size;
  (void)state;
  write_turned(6, 1);
  char *file = contents("turned.jpg", &size);
  assert_int_equal(jpeg_orientation((uint8_t *)file, size), 6);
  for (size_t cut = 0; cut <= MARKER_END; cut++) assert_some_orientation(file, cut, cut, 0);
  for (size_t at = 0; at < MARKER_END; at++)
    for (int value = 0; value < 256; value++) assert_some_orientation(file, MARKER_END, at, value);
  free(file);
}

/* ---- the loader ------------------------------------------------------------------------------ */

/* All batches of two epochs, one after another. They have seven samples; one is left for the last,
   which stands alone if `least` is 1. */
static float *load_epochs(const char *name, size_t cache, int least, int threads, int crew,
                          size_t *count) {
  augmentation set = {0};
  set.crop = 0.5f;
  set.hue = 0.1f;
  set.rotate = 10;
  preprocess pre = plain_preprocess(16, 16, 3);
  augmenter with = augmenter_create(&set, &pre);
  char *folder = join_path(home, name);
  dataset data = dataset_open(folder, 0, NULL);
  data.cache_bytes = cache;
  data.keeps_originals = 1;
  dataset_prepare(&data, &pre, 0, 0);
  int drawn = data.count / 7 * 7 + 8, *order = allocate((size_t)drawn, sizeof(int));
  size_t size = preprocess_size(&pre), done = 0;
  float *all = allocate(2 * (size_t)drawn * size, sizeof(float));
  loader l;
  loader_start(&l, &data, &with, (smoothing){0}, 7, least, threads, crew);
  for (int epoch = 0; epoch < 2; epoch++) {
    for (int i = 0; i < drawn; i++) order[i] = i < 5 ? 3 : (i * 11 + epoch) % data.count;
    loader_epoch(&l, order, drawn, mix_seed(9, (uint64_t)epoch));
    const float *inputs;
    const int *labels;
    int at = 0;
    for (int got; (got = loader_next(&l, &inputs, &labels)) > 0; at += got) {
      assert_int_equal(got, drawn - at < 7 + least ? drawn - at : 7);
      memcpy(all + done, inputs, (size_t)got * size * sizeof(float));
      for (int i = 0; i < got; i++) assert_int_equal(labels[i], data.labels[order[at + i]]);
      done += (size_t)got * size;
    }
    assert_int_equal(at, drawn);
  }
  /* five draws of one sample are five different pictures */
  for (int i = 1; i < 5; i++)
    assert_memory_not_equal(all, all + (size_t)i * size, size * sizeof(float));
  loader_free(&l);
  dataset_free(&data);
  augmenter_free(&with);
  free(order);
  free(folder);
  *count = done;
  return all;
}

static void test_loader(void **state) {
  (void)state;
  size_t count, other_count;
  float *one = load_epochs("shapes", 1 << 20, 1, 1, 0, &count);
  const int threads[] = {2, 1, 2, 2, 4}, crews[] = {0, 1, 1, 3, 2};
  const size_t caches[] = {1 << 20, 1 << 20, 0, 20000, 0};
  for (int i = 0; i < 5; i++) {
    for (int least = 1; least <= 7; least += 2) {
      float *other = load_epochs("shapes", caches[i], least, threads[i], crews[i], &other_count);
      assert_int_equal(count, other_count);
      assert_memory_equal(one, other, count * sizeof(float));
      free(other);
    }
  }
  free(one);
}

/* Smoothing replaces its share of the labels, by any, and leaves the pictures. */
static void test_smoothing(void **state) {
  (void)state;
  augmentation none = {0};
  preprocess pre = plain_preprocess(16, 16, 3);
  augmenter with = augmenter_create(&none, &pre);
  char *folder = join_path(home, "shapes");
  dataset data = dataset_open(folder, 0, NULL);
  dataset_prepare(&data, &pre, 1, 0);
  int *order = allocate((size_t)data.count, sizeof(int)), got, changed = 0, seen = 0;
  for (int i = 0; i < data.count; i++) order[i] = i;
  loader l;
  loader_start(&l, &data, &with, (smoothing){0.6f, data.set.count}, 20, 1, 1, 0);
  for (uint64_t epoch = 0; epoch < 20; epoch++) {
    const float *inputs;
    const int *labels;
    int done = 0;
    loader_epoch(&l, order, data.count, epoch);
    for (; (got = loader_next(&l, &inputs, &labels)) > 0; done += got)
      for (int i = 0; i < got; i++) {
        assert_in_range(labels[i], 0, data.set.count - 1);
        changed += labels[i] != data.labels[done + i];
        seen++;
      }
    assert_int_equal(done, data.count);
  }
  double share = (double)changed / seen, wanted = 0.6 * (1 - 1.0 / data.set.count);
  if (fabs(share - wanted) > 4 * sqrt(0.25 / seen)) fail_msg("%g instead of %g", share, wanted);
  loader_free(&l);
  dataset_free(&data);
  augmenter_free(&with);
  free(order);
  free(folder);
}

/* ---- training on folders --------------------------------------------------------------------- */

static void test_same_bytes(void **state) {
  (void)state;
  const char *recipe = "$train " RECIPE CHANGES
                       "--val test --epochs 3 --sampling balanced --head-lr 0.02 --resize crop:20 "
                       "--normalize data --seed 3 --threads %d --cache %d --out %s --log %s.csv";
  assert_ran(shell(recipe, 1, 512, "one", "one"));
  assert_ran(shell(recipe, 2, 512, "two", "two"));
  assert_ran(shell(recipe, 2, 0, "bare", "bare"));
  assert_same_files("one", "two");
  assert_same_files("one", "bare");
  assert_same_files("one.checkpoint", "two.checkpoint");
  assert_same_files("one.csv", "bare.csv");
  /* a cache for a part of the pictures, kept at the network's size */
  recipe = "$train --data shapes --val 0.2 --arch small.net --epochs 2 --quiet --cache %d --out %s";
  assert_ran(shell(recipe, 0, "uncached"));
  assert_ran(shell(recipe, 512, "cached"));
  assert_same_files("cached", "uncached");
}

static void test_resume(void **state) {
  (void)state;
  assert_ran(
      shell("$train " RECIPE CHANGES "--epochs 4 --sampling balanced --out four --log four.csv"));
  assert_ran(
      shell("$train " RECIPE CHANGES "--epochs 2 --sampling balanced --out two --log two.csv"));
  assert_ran(shell("$train " RECIPE CHANGES
                   "--epochs 4 --sampling balanced --out two --log two.csv --resume --threads 2"));
  assert_same_files("four", "two");
  assert_same_files("four.csv", "two.csv");
  assert_refused(shell("$train " RECIPE CHANGES "--epochs 5 --out two --resume"), 1, "--sampling",
                 "cannot resume");
}

static cn_network *load_home(const char *name) {
  cn_error error;
  char *path = join_path(home, name);
  cn_network *net = cn_load(path, &error);
  if (!net) fail_msg("%s", error.message);
  free(path);
  return net;
}

/* Tells of each tensor by its first letters whether training changed it. */
static void assert_changed(const char *before_name, const char *after_name,
                           const char *kept_prefix) {
  cn_network *before = load_home(before_name), *after = load_home(after_name);
  assert_int_equal(cn_network_parameter_count(before), cn_network_parameter_count(after));
  for (int i = 0; i < cn_network_parameter_count(before); i++) {
    cn_parameter a = cn_network_parameter(before, i), b = cn_network_parameter(after, i);
    int kept = !strncmp(a.name, kept_prefix, strlen(kept_prefix)) ||
               (!strcmp(kept_prefix, "all but head") && strncmp(a.name, "head", 4));
    int same = a.count == b.count && !memcmp(a.values, b.values, a.count * sizeof(float));
    if (same != kept) fail_msg("%s has %schanged", a.name, same ? "not " : "");
  }
  cn_network_free(before);
  cn_network_free(after);
}

/* Frozen layers keep all of their bytes: weights, and the running figures of batch normalisation. */
static void test_freezing(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 3 --out base"));
  const char *recipe =
      "$train --data test --init base --epochs 2 --lr 0.01 --quiet --freeze %s --out %s";
  assert_ran(shell(recipe, "-1", "head-only"));
  assert_changed("base", "head-only", "all but head");
  assert_ran(shell(recipe, "4", "four"));
  assert_changed("base", "four", "all but head");
  assert_ran(shell(recipe, "stem", "stem"));
  assert_changed("base", "stem", "stem");
  assert_ran(shell(recipe, "2", "two"));
  assert_changed("base", "two", "stem");
  assert_refused(shell(recipe, "-6", "m"), 1, "--freeze", "5 layers");
}

/* One step of plain SGD: with a rate of its own ten times as large the head moves ten times as far, and
   the layers below it as they did. */
static void test_head_rate(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 1 --out base"));
  const char *recipe = "$train --data test --init base --epochs 1 --batch 100 --optimizer sgd "
                       "--momentum 0 --schedule constant --lr 0.001 --quiet --out %s %s";
  assert_ran(shell(recipe, "plain", ""));
  assert_ran(shell(recipe, "same", "--head-lr 0.001"));
  assert_ran(shell(recipe, "fast", "--head-lr 0.01"));
  assert_same_files("plain", "same");
  cn_network *nets[3] = {load_home("base"), load_home("plain"), load_home("fast")};
  for (int i = 0; i < cn_network_parameter_count(nets[0]); i++) {
    cn_parameter p[3];
    for (int k = 0; k < 3; k++) p[k] = cn_network_parameter(nets[k], i);
    double plain = 0, fast = 0;
    for (size_t v = 0; v < p[0].count; v++) {
      plain += fabs((double)p[1].values[v] - (double)p[0].values[v]);
      fast += fabs((double)p[2].values[v] - (double)p[0].values[v]);
    }
    double wanted = !strncmp(p[0].name, "head", 4) ? 10 : 1;
    if (!(plain > 0) || fabs(fast / plain - wanted) > 0.01 * wanted)
      fail_msg("%s moved %g, then %g", p[0].name, plain, fast);
  }
  for (int k = 0; k < 3; k++) cn_network_free(nets[k]);
  assert_refused(shell("$train " RECIPE "--lr 0 --head-lr 0.1 --out m"), 2, "--head-lr",
                 "--freeze -1");
}

/* A head for other classes, as many or not, starts from N(0, 0.01^2), whatever it was before. */
static void test_new_head(void **state) {
  (void)state;
  const char *recipe = "$train --data %s --init base --epochs 1 --lr 0 --freeze -1 --out %s";
  write_words("wide.net", "input 16x16x3\nconv 64 3x3 stride=4\nrelu\nhead: dense 3\nsoftmax\n");
  assert_ran(shell("$train --data shapes --arch wide.net --epochs 1 --quiet --out base"));
  assert_ran(shell(
      "rm -rf other pair; mkdir other pair; cp -r test/across other/a; "
      "cp -r test/down other/b; cp -r 'test/disc, round' other/c; cp -r other/a other/b pair"));
  assert_ran(shell(recipe, "other", "renamed"));
  assert_contains(err_text, "replaced");
  assert_ran(shell(recipe, "pair", "fewer"));
  assert_contains(err_text, "2 classes");
  assert_ran(shell(recipe, "test", "kept"));
  assert_null(strstr(err_text, "replaced"));
  const char *const names[] = {"renamed", "fewer"};
  for (int n = 0; n < 2; n++) {
    cn_network *net = load_home(names[n]);
    for (int i = 0; i < cn_network_parameter_count(net); i++) {
      cn_parameter p = cn_network_parameter(net, i);
      double sum = 0, squares = 0;
      for (size_t v = 0; v < p.count; v++) {
        sum += (double)p.values[v];
        squares += (double)p.values[v] * (double)p.values[v];
      }
      if (!strcmp(p.name, "head.bias")) assert_true(squares == 0);
      if (strcmp(p.name, "head.weight")) continue;
      assert_true(fabs(sqrt(squares / (double)p.count) - 0.01) < 0.0007);
      assert_true(fabs(sum / (double)p.count) < 0.001);
    }
    cn_network_free(net);
  }
  assert_changed("base", "kept", "");
}

static void test_training_learns(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--val test --epochs 25 --sampling balanced --random-crop 0.6 "
                   "--resize crop --out learnt"));
  assert_true(result("val_accuracy") > 0.8);
  assert_ran(shell("$evaluate --model learnt --data test --quiet --out report"));
  assert_true(result("accuracy") > 0.8);
  cn_network *net = load_home("learnt");
  assert_string_equal(cn_network_note(net, "preprocess.resize"), "crop");
  cn_network_free(net);
}

static void test_training_usage(void **state) {
  (void)state;
  assert_refused(shell("$train " RECIPE "--out m --random-crop 0"), 2, "--random-crop", "outside");
  assert_refused(shell("$train " RECIPE "--out m --random-crop 1.5"), 2, "--random-crop",
                 "outside");
  assert_refused(shell("$train " RECIPE "--out m --hue 0.6"), 2, "--hue", "outside");
  assert_refused(shell("$train " RECIPE "--out m --sampling fair"), 2, "--sampling", "balanced");
  assert_refused(shell("$train " RECIPE "--out m --resize crop:8"), 2, "--resize", "at least 16");
  assert_refused(shell("$train " RECIPE "--out m --cache -1"), 2, "--cache", "outside");
  /* a picture that vanishes in the middle of training ends it with its name, from any thread */
  assert_ran(shell("rm -rf gone; cp -r test gone"));
  int code = shell("(sleep 1; rm -rf gone/across) & $train --data gone --arch small.net --cache 0 "
                   "--epochs 1000000 --schedule constant --threads 2 --quiet --out m; code=$?; "
                   "wait; exit $code");
  assert_refused(code, 1, "gone/across", "it could be read before");
}

/* ---- tally-predict --------------------------------------------------------------------------- */

/* Rows of a CSV file of the temporary folder, without its header. */
static int count_rows(const char *name, const char *column, const char *value) {
  char *path = join_path(home, name);
  csv table = csv_open(path);
  int at = csv_column(&table, column), count = 0;
  while (csv_row(&table)) count += !strcmp(table.fields[at], value);
  csv_close(&table);
  free(path);
  return count;
}

static void test_predict(void **state) {
  (void)state;
  size_t size;
  assert_ran(shell("$train " RECIPE "--epochs 6 --resize crop:18 --normalize data --out model"));
  assert_ran(
      shell("rm -rf new; mkdir -p new/deep/deeper && cp test/across/* new && "
            "cp test/down/001.png new/deep/deeper && head -c 100 new/001.png >new/cut.png && "
            "echo words >'new/with, comma.jpg' && : >new/empty.png && echo x >new/readme.txt && "
            "ln -s .. new/deep/loop && ln -s nowhere new/dangling.png"));
  assert_ran(shell("$predict --model model --out labels.csv --threads 1 new"));
  assert_int_equal((int)result("pictures"), 13);
  assert_int_equal((int)result("predicted"), 9);
  assert_int_equal((int)result("failed"), 4);
  assert_true(result("seconds") >= 0);
  char *table = contents("labels.csv", &size);
  assert_contains(table, "path,label,probability,p_across,\"p_disc, round\",p_down,reason\n");
  assert_contains(table, "\"new/with, comma.jpg\",,,,,,");
  assert_contains(table, "new/deep/deeper/001.png,");
  assert_null(strstr(table, "readme"));
  assert_null(strstr(table, "loop"));
  free(table);
  assert_int_equal(count_rows("labels.csv", "label", ""), 4);
  assert_int_equal(count_rows("labels.csv", "reason", ""), 9);
  assert_int_equal(count_rows("labels.csv", "reason", "No such file or directory"), 1);
  /* neither threads nor batches change a byte */
  assert_ran(shell("$predict --model model --out two.csv --threads 2 --batch 3 --quiet new"));
  assert_contains(err_text, "new/dangling.png: No such file or directory");
  assert_null(strstr(err_text, "readme"));
  assert_same_files("labels.csv", "two.csv");
  /* lists; pictures named twice are labelled once */
  write_words("list.csv", "id,path\n1,test/down/000.jpg\n2,new/cut.png\n3,test/down/000.jpg\n");
  assert_ran(shell("$predict --model model --out list-labels.csv list.csv test/down/002.png"));
  assert_int_equal((int)result("pictures"), 3);
  assert_int_equal((int)result("failed"), 1);
}

/* Evaluation, prediction and the model's notes are one preprocessing. */
static void test_predict_as_evaluated(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 2 --resize pad --normalize data --out model"));
  assert_ran(shell("$evaluate --model model --data test --out report --quiet"));
  assert_ran(shell("$predict --model model --out labels.csv --quiet test"));
  char *a = join_path(home, "report/predictions.csv"), *b = join_path(home, "labels.csv");
  csv evaluated = csv_open(a), predicted = csv_open(b);
  int rows = 0;
  while (csv_row(&evaluated)) {
    assert_true(csv_row(&predicted));
    assert_string_equal(evaluated.fields[0], predicted.fields[0]);
    assert_string_equal(evaluated.fields[2], predicted.fields[1]);
    for (int k = 0; k < 4; k++)
      assert_string_equal(evaluated.fields[3 + k], predicted.fields[2 + k]);
    rows++;
  }
  assert_int_equal(rows, 24);
  assert_false(csv_row(&predicted));
  csv_close(&evaluated);
  csv_close(&predicted);
  free(a);
  free(b);
}

static void test_predict_usage(void **state) {
  (void)state;
  assert_ran(shell("$predict --help"));
  assert_contains(out_text, "examples:");
  assert_refused(shell("$predict"), 2, "--model", "usage:");
  assert_refused(shell("$predict --model model --out l.csv"), 2, "no pictures", "usage:");
  assert_refused(shell("$predict --model model test"), 2, "--out", "usage:");
  assert_refused(shell("$predict --model none --out l.csv test"), 1, "none", "No such file");
  assert_refused(shell("$predict --model model --out no/l.csv test"), 1, "no/l.csv",
                 "No such file");
  assert_ran(shell("rm -rf bare && mkdir bare"));
  assert_refused(shell("$predict --model model --out l.csv bare"), 1, "no pictures", "");
  write_words("list.csv", "path\n\"a\nb\n");
  assert_refused(shell("$predict --model model --out l.csv list.csv"), 1, "list.csv: line 2",
                 "quote");
  assert_refused(shell("(ulimit -f 1; $predict --model model --out l.csv test)"), 1, "l.csv", "");
  assert_ran(shell("test ! -e l.csv && test ! -e l.csv.part"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_resize_golden),
      cmocka_unit_test(test_pad),
      cmocka_unit_test(test_extreme_shapes),
      cmocka_unit_test(test_resize_names),
      cmocka_unit_test(test_colours_golden),
      cmocka_unit_test(test_hue_circle),
      cmocka_unit_test(test_jitter_statistics),
      cmocka_unit_test(test_crop_statistics),
      cmocka_unit_test(test_crop_pixels),
      cmocka_unit_test(test_rotation_and_zoom),
      cmocka_unit_test(test_balanced_draws),
      cmocka_unit_test(test_orientation),
      cmocka_unit_test(test_broken_orientation),
      cmocka_unit_test(test_loader),
      cmocka_unit_test(test_smoothing),
      cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_resume),
      cmocka_unit_test(test_freezing),
      cmocka_unit_test(test_head_rate),
      cmocka_unit_test(test_new_head),
      cmocka_unit_test(test_training_learns),
      cmocka_unit_test(test_training_usage),
      cmocka_unit_test(test_predict),
      cmocka_unit_test(test_predict_as_evaluated),
      cmocka_unit_test(test_predict_usage),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
