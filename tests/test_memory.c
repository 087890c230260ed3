/* Memory that is not there: each allocation in turn fails, in everything that both headers do; then
   there is an error that says so, nothing is lost and nothing half done. And numbers that are none,
   which tally.h must refuse however it is compiled.

   Build:  cc -O2 -I. tests/test_memory.c -o build/tests/test_memory -lcmocka -lm */
#define _XOPEN_SOURCE 700
#include <stddef.h>
#include <stdlib.h>

/* Every block that a header takes, and which one is refused. */
static int taken, live, refused_at = -1;

static int is_refused(void) {
  return taken++ == refused_at;
}

static void *take(size_t bytes) {
  void *block = is_refused() ? NULL : malloc(bytes);
  if (block) live++;
  return block;
}

static void *take_more(void *block, size_t bytes) {
  void *larger = is_refused() ? NULL : realloc(block, bytes);
  if (larger && !block) live++;
  return larger;
}

static void give(void *block) {
  if (block) live--;
  free(block);
}

#define CN_MALLOC(n) take(n)
#define CN_FREE(p) give(p)
#define TALLY_MALLOC(n) take(n)
#define TALLY_REALLOC(p, n) take_more(p, n)
#define TALLY_FREE(p) give(p)
#define CONVNET_IMPLEMENTATION
#define TALLY_IMPLEMENTATION
#include "convnet.h"
#include "tally.h"

#include "support.h"

#include <dirent.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

enum { FINE, NO_MEMORY, OTHER_ERROR };

/* Does the work with its first allocation refused, then with its second, and so on until it gets
   through without meeting the one that would be. */
static void refuse_each(const char *name, int (*work)(void)) {
  const int before = live;
  for (refused_at = 0;; refused_at++) {
    taken = 0;
    const int result = work();
    if (live != before) fail_msg("%s, allocation %d: %d are lost", name, refused_at, live - before);
    if (taken <= refused_at && result == FINE) break;
    if (result != NO_MEMORY) fail_msg("%s, allocation %d: result %d", name, refused_at, result);
  }
  if (refused_at == 0) fail_msg("%s took no memory", name);
  refused_at = -1;
}

/* ---- networks ---- */

static const char small_net[] = "input 6x6x1\nconv 8 3x3 pad=1\nbatchnorm\nrelu\nmaxpool 2x2\n"
                                "dropout 0.2\ndense 3\nsoftmax\n";
static char folder[] = "/tmp/test-memory-XXXXXX";
static cn_network *network; /* a step after what stands in model and checkpoint */
static cn_trainer *trainer;
static float images[4 * 36];
static const int labels[4] = {0, 1, 2, 1};

static const char *in_folder(const char *name) {
  static char path[64];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static int files_in_folder(void) {
  DIR *directory = opendir(folder);
  int count = 0;
  assert_non_null(directory);
  while (readdir(directory)) count++;
  closedir(directory);
  return count - 2;
}

static size_t read_file(const char *name, unsigned char *bytes, size_t room) {
  FILE *file = fopen(in_folder(name), "rb");
  assert_non_null(file);
  const size_t size = fread(bytes, 1, room, file);
  fclose(file);
  return size;
}

static int result_of(cn_status status, const cn_error *error) {
  if (status != CN_OK && status != CN_ERROR_MEMORY) print_message("%s\n", error->message);
  return status == CN_OK ? FINE : status == CN_ERROR_MEMORY ? NO_MEMORY : OTHER_ERROR;
}

static int make_network(void **state) {
  (void)state;
  const cn_batch batch = {.count = 4, .inputs = images, .labels = labels};
  cn_error error;
  assert_non_null(mkdtemp(folder));
  network = must_parse(small_net);
  assert_int_equal(cn_network_set_note(network, "about", "strokes", &error), CN_OK);
  trainer = must_train(network, 4, NULL);
  fill_random(images, LENGTH(images), 3);
  assert_int_equal(cn_save(network, in_folder("model"), &error), CN_OK);
  assert_int_equal(cn_trainer_save(trainer, in_folder("checkpoint"), &error), CN_OK);
  assert_int_equal(cn_train_step(trainer, &batch, NULL, &error), CN_OK);
  return 0;
}

static int free_network(void **state) {
  (void)state;
  cn_trainer_free(trainer);
  cn_network_free(network);
  unlink(in_folder("model"));
  unlink(in_folder("checkpoint"));
  return rmdir(folder) + live;
}

static int load(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_load(in_folder("model"), &error);
  cn_network_free(net);
  return net ? FINE : result_of(error.status, &error);
}

/* The network's first weight: whether one that was loaded took its place. */
static int load_weights(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  const float *weight = cn_network_parameter(network, 0).values, was = *weight;
  const int loaded = cn_load_weights(network, in_folder("model"), NULL, NULL, &error);
  assert_int_equal(loaded == 8, *weight != was);
  return loaded == 8 ? FINE : result_of(error.status, &error);
}

static int read_safetensors(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_safetensors *file = cn_safetensors_read(in_folder("checkpoint"), &error);
  cn_safetensors_free(file);
  return file ? FINE : result_of(error.status, &error);
}

static int use(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  float outputs[4 * 3];
  const cn_batch batch = {.count = 4, .inputs = images, .labels = labels};
  cn_network *net = cn_network_parse(small_net, &error);
  cn_trainer *own = net ? cn_trainer_create(net, 4, NULL, &error) : NULL;
  cn_predictor *predictor = own ? cn_predictor_create(net, 4, NULL, &error) : NULL;
  if (predictor) {
    assert_int_equal(cn_train_step(own, &batch, NULL, &error), CN_OK);
    cn_predict(predictor, images, 4, outputs);
  }
  cn_predictor_free(predictor);
  cn_trainer_free(own);
  cn_network_free(net);
  return predictor ? FINE : result_of(error.status, &error);
}

static int name_a_network(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_arch_network("base", NULL, &error);
  cn_network_free(net);
  return net ? FINE : result_of(error.status, &error);
}

static int save_memory(void) {
  static unsigned char bytes[1 << 16];
  cn_error error = {CN_OK, 0, 0, ""};
  const size_t size = cn_save_memory(network, bytes, sizeof bytes, &error);
  return size ? FINE : result_of(error.status, &error);
}

/* The old file stays until the new one takes its place, and nothing lies beside it. */
static int check_saved(const char *name, cn_status status, const cn_error *error,
                       const unsigned char *before, size_t before_size) {
  static unsigned char after[1 << 16];
  const size_t after_size = read_file(name, after, sizeof after);
  const int same = after_size == before_size && memcmp(after, before, before_size) == 0;
  assert_int_equal(same, status != CN_OK);
  assert_int_equal(files_in_folder(), 2);
  assert_int_equal(status, error->status);
  return result_of(status, error);
}

static int save(void) {
  static unsigned char before[1 << 16];
  const size_t size = read_file("model", before, sizeof before);
  cn_error error = {CN_OK, 0, 0, ""};
  const cn_status status = cn_save(network, in_folder("model"), &error);
  return check_saved("model", status, &error, before, size);
}

static int save_checkpoint(void) {
  static unsigned char before[1 << 16];
  const size_t size = read_file("checkpoint", before, sizeof before);
  cn_error error = {CN_OK, 0, 0, ""};
  const cn_status status = cn_trainer_save(trainer, in_folder("checkpoint"), &error);
  return check_saved("checkpoint", status, &error, before, size);
}

static int load_checkpoint(void) {
  cn_error error = {CN_OK, 0, 0, ""};
  const float *weight = cn_network_parameter(network, 0).values, was = *weight;
  const cn_status status = cn_trainer_load(trainer, in_folder("checkpoint"), &error);
  assert_int_equal(status == CN_OK, *weight != was);
  assert_int_equal(cn_trainer_steps(trainer), status == CN_OK ? 0 : 1);
  return result_of(status, &error);
}

static void networks_do_without(void **state) {
  (void)state;
  refuse_each("a built-in network", name_a_network);
  refuse_each("train and predict", use);
  refuse_each("cn_load", load);
  refuse_each("cn_safetensors_read", read_safetensors);
  refuse_each("cn_save_memory", save_memory);
  refuse_each("cn_save", save);
  refuse_each("cn_trainer_load", load_checkpoint);
  refuse_each("cn_load_weights", load_weights);
  refuse_each("cn_trainer_save", save_checkpoint);
}

/* ---- forms ---- */

static const char form_text[] = "page 300 x 400\n"
                                "anchor a square 20,20 24x24\n"
                                "anchor b square 256,20 24x24\n"
                                "anchor c square 20,356 24x24\n"
                                "anchor d square 256,356 24x24\n"
                                "field A 2 digits cells 100,100 2x40x48\n"
                                "field B 2 digits cells 100,160 2x40x48\n"
                                "field ALL 2 digits cells 100,220 2x40x48\n"
                                "sum ALL = A + B\n";
static tally_template form;
static tally_image page;
static tally_registration place;
static tally_cell cells[6];

static void fill(int left, int top, int width, int height) {
  for (int y = top; y < top + height; y++)
    memset(page.pixels + y * page.width + left, 20, (size_t)width);
}

/* The form with an upright stroke in every cell, a pixel for each of the template's. */
static int draw_page(void **state) {
  (void)state;
  tally_error error;
  if (tally_template_parse(form_text, sizeof form_text - 1, &form, &error) != TALLY_OK)
    fail_msg("%d:%d: %s", error.line, error.column, error.message);
  assert_int_equal(tally_image_make(300, 400, 1, &page), TALLY_OK);
  memset(page.pixels, 240, 300 * 400);
  for (int i = 0; i < form.anchors; i++) {
    const tally_box *b = &form.anchor[i].box;
    fill((int)b->x, (int)b->y, (int)b->width, (int)b->height);
  }
  for (int f = 0; f < form.fields; f++)
    for (int k = 0; k < 2; k++) {
      const tally_box *b = &form.field[f].cell[k];
      const int x = (int)b->x, y = (int)b->y;
      fill(x - 1, y - 1, 42, 2), fill(x - 1, y + 47, 42, 2);
      fill(x - 1, y - 1, 2, 50), fill(x + 39, y - 1, 2, 50);
      fill(x + 18, y + 10, 4, 28);
    }
  assert_int_equal(tally_register(&page, &form, &place), TALLY_OK);
  assert_string_equal(place.reason, "");
  return 0;
}

static int free_page(void **state) {
  (void)state;
  tally_image_free(&page);
  return live;
}

static int result_in_tally(tally_result result) {
  return result == TALLY_OK ? FINE : result == TALLY_ERROR_MEMORY ? NO_MEMORY : OTHER_ERROR;
}

/* A reference print with a bar beside each row, each at a height of its own. */
static tally_result make_print(tally_print *out) {
  static const char text[] = "form x\nprint 20,100 80x180\n"
                             "label A 24,102 70x44 beside 100,100\n"
                             "label B 24,162 70x44 beside 100,160\n"
                             "label ALL 24,222 70x44 beside 100,220\n";
  static uint8_t pixels[80 * 180];
  const tally_image picture = {pixels, 80, 180, 1};
  memset(pixels, 255, sizeof pixels);
  for (int row = 0; row < 3; row++)
    for (int y = 0; y < 8; y++) memset(pixels + (60 * row + 10 + 9 * row + y) * 80 + 15, 0, 12);
  return tally_print_make(text, sizeof text - 1, &picture, out, NULL);
}

static int register_with_print(void) {
  tally_print print;
  tally_result result = make_print(&print);
  if (result != TALLY_OK) return result_in_tally(result);
  result = tally_register_print(&page, &form, &print, &place);
  tally_print_free(&print);
  return result_in_tally(result);
}

static int register_page(void) {
  return result_in_tally(tally_register(&page, &form, &place));
}

static int cut(void) {
  return result_in_tally(tally_cut(&page, &form, &place, cells));
}

/* Cells 3 0, 2 5 and 5 5; the last digit is in doubt where asked. */
static tally_result decode(double doubt, tally_counts *counts) {
  static const int digits[6] = {3, 0, 2, 5, 5, 5};
  double classes[6 * TALLY_CLASSES] = {0};
  for (int i = 0; i < 6; i++) {
    classes[i * TALLY_CLASSES + digits[i]] = 1 - doubt;
    classes[i * TALLY_CLASSES + 9] = doubt;
  }
  tally_decode_options options = {0};
  options.samples = 20;
  return tally_decode(&form, classes, NULL, &options, counts);
}

static int decode_page(void) {
  static const tally_counts empty;
  tally_counts counts;
  const tally_result result = decode(0, &counts);
  if (result == TALLY_OK)
    assert_int_equal(counts.count[2].value, 55);
  else
    assert_memory_equal(&counts, &empty, sizeof counts);
  tally_counts_free(&counts);
  return result_in_tally(result);
}

static int images_work(void) {
  const double h[9] = {2, 0, 0, 0, 2, 0, 0, 0, 1};
  static int places[150 * 200];
  tally_image grey = {0}, ink = {0}, small = {0}, half = {0};
  tally_result result = tally_grey(&page, &grey);
  if (result == TALLY_OK) result = tally_threshold_adaptive(&grey, 20, 30, &ink);
  if (result == TALLY_OK) result = tally_resize(&ink, 150, 200, &small);
  if (result == TALLY_OK) result = tally_warp(&page, h, 150, 200, 255, &half);
  if (result == TALLY_OK && tally_components(&small, places, NULL, 0) < 0)
    result = TALLY_ERROR_MEMORY;
  tally_image_free(&grey);
  tally_image_free(&ink);
  tally_image_free(&small);
  tally_image_free(&half);
  return result_in_tally(result);
}

/* Adds tallies, each again where it was refused: the totals are the same as if it had not been. */
static tally_result add(tally_totals *totals, const tally_counts *counts) {
  tally_result result = TALLY_OK;
  for (int i = 0; i < 60; i++) {
    tally_result own = tally_totals_add(totals, counts, NULL);
    if (own != TALLY_OK && tally_totals_add(totals, counts, NULL) != TALLY_OK)
      return TALLY_ERROR_ARGUMENT;
    if (own != TALLY_OK) result = own;
  }
  return result;
}

/* With habits, in a form whose sums close a loop. */
static int decode_loop(void) {
  static tally_template loop;
  tally_habits habits;
  tally_counts counts;
  loop = form;
  loop.sums = 2;
  loop.sum[1] = loop.sum[0];
  loop.sum[1].at_most = 1;
  double classes[6 * TALLY_CLASSES];
  for (int k = 0; k < LENGTH(classes); k++) classes[k] = 1.0 / TALLY_CLASSES;
  tally_decode_options options = {0};
  options.habits = &habits;
  tally_result result = tally_habits_begin(&loop, &habits);
  if (result == TALLY_OK) {
    result = tally_decode(&loop, classes, NULL, &options, &counts);
    tally_counts_free(&counts);
  }
  tally_habits_free(&habits);
  return result_in_tally(result);
}

static tally_counts in_doubt;
static tally_total all_in_doubt;

static int total(void) {
  tally_totals totals;
  tally_total all;
  tally_result result = tally_totals_begin(&form, 1, &totals), finished;
  if (result == TALLY_OK) {
    result = add(&totals, &in_doubt);
    finished = tally_totals_finish(&totals);
    if (finished != TALLY_OK)
      assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 2, NULL, &all), TALLY_ERROR_ARGUMENT);
    else
      assert_int_equal(tally_totals_get(&totals, TALLY_ALL, 2, NULL, &all), TALLY_OK);
    if (finished == TALLY_OK && all_in_doubt.read) {
      assert_int_equal(all.read, all_in_doubt.read);
      assert_int_equal(all.votes, all_in_doubt.votes);
      assert_true(all.estimate == all_in_doubt.estimate && all.low == all_in_doubt.low);
    }
    if (result == TALLY_OK && finished == TALLY_OK) all_in_doubt = all;
    if (result == TALLY_OK) result = finished;
  }
  tally_totals_free(&totals);
  return result_in_tally(result);
}

/* Two groups of tallies, one of which was not read. */
static int unevenness(void) {
  tally_totals totals;
  tally_result result = tally_totals_begin(&form, 1, &totals);
  for (int i = 0; i < 4 && result == TALLY_OK; i++) {
    const tally_origin origin = {i % 2, 0};
    result = tally_totals_add(&totals, i == 3 ? NULL : &in_doubt, &origin);
  }
  if (result == TALLY_OK && tally_totals_unevenness(&totals, NULL) < 0) result = TALLY_ERROR_MEMORY;
  tally_totals_free(&totals);
  return result_in_tally(result);
}

static void forms_do_without(void **state) {
  (void)state;
  refuse_each("pictures", images_work);
  refuse_each("tally_register", register_page);
  refuse_each("tally_register_print", register_with_print);
  assert_int_equal(place.status, TALLY_FORM_OK);
  refuse_each("tally_cut", cut);
  assert_int_equal(cells[5].state, TALLY_CELL_INK);
  refuse_each("tally_decode", decode_page);
  refuse_each("tally_decode, a loop", decode_loop);
  assert_int_equal(decode(0.3, &in_doubt), TALLY_OK);
  assert_int_equal(in_doubt.count[2].status, TALLY_COUNT_REVIEW);
  assert_int_equal(total(), FINE);
  assert_int_equal(all_in_doubt.read, 60);
  refuse_each("totals", total);
  refuse_each("tally_totals_unevenness", unevenness);
  tally_counts_free(&in_doubt);
}

/* ---- numbers that are none ---- */

/* By their bits, as the library may be compiled for a world without them (-ffast-math). */
static double special(int i) {
  static const uint64_t bits[] = {0x7FF8000000000000u, 0xFFF8000000000000u, 0x7FF0000000000001u,
                                  0x7FF0000000000000u, 0xFFF0000000000000u};
  double value;
  memcpy(&value, &bits[i % LENGTH(bits)], sizeof value);
  return value;
}

static void probabilities_are_numbers(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) {
    double classes[6 * TALLY_CLASSES];
    tally_counts counts;
    for (int k = 0; k < LENGTH(classes); k++) classes[k] = 1.0 / TALLY_CLASSES;
    tally_decode_options options = {0};
    assert_int_equal(tally_decode(&form, classes, NULL, &options, &counts), TALLY_OK);
    tally_counts_free(&counts);
    double *const places[] = {&classes[7],   &classes[77],  &options.temperature,
                              &options.slip, &options.risk, &options.alone};
    for (int k = 0; k < LENGTH(places); k++) {
      const double was = *places[k];
      *places[k] = special(i);
      assert_int_equal(tally_decode(&form, classes, NULL, &options, &counts), TALLY_ERROR_ARGUMENT);
      *places[k] = was;
    }
  }
}

/* A map to nowhere shows what lies outside; a registration that is none cuts empty cells. */
static void places_are_numbers(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++)
    for (int k = 0; k < 9; k++) {
      double h[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
      tally_image out = {0};
      h[k] = special(i);
      assert_int_equal(tally_warp(&page, h, 8, 8, 77, &out), TALLY_OK);
      for (int p = 0; p < 64 && k != 8 && (i < 3 || k < 6); p++)
        assert_int_equal(out.pixels[p], 77);
      tally_image_free(&out);
      tally_registration wrong = place;
      wrong.page[k] = special(i);
      assert_int_equal(tally_cut(&page, &form, &wrong, cells), TALLY_OK);
      wrong = place;
      wrong.local[1][k % 6] = special(i);
      assert_int_equal(tally_cut(&page, &form, &wrong, cells), TALLY_OK);
      assert_int_equal(cells[0].state, TALLY_CELL_INK);
      if (i < 3) assert_int_equal(cells[2].state, TALLY_CELL_EMPTY);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(networks_do_without, make_network, free_network),
      cmocka_unit_test_setup_teardown(forms_do_without, draw_page, free_page),
      cmocka_unit_test_setup_teardown(probabilities_are_numbers, draw_page, free_page),
      cmocka_unit_test_setup_teardown(places_are_numbers, draw_page, free_page),
  };
  return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
