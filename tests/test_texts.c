/* Texts that travel: numbers come back bit for bit and whatever the locale is, what could not be read
   back is refused when it is set. */
#define _XOPEN_SOURCE 700
#include "convnet.h"
#include "support.h"
#include "tally.h"

#include <locale.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- numbers ----------------------------------------------------------------------------------- */

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The canonical text has a finite value as %.9g writes it, and parsing gives the same bits. */
static void check_number(uint32_t bits) {
  float value = float_of(bits), again;
  char want[64];
  cn_error error = {CN_OK, 0, 0, ""};
  if ((bits >> 23 & 255) == 255) return;
  snprintf(want, sizeof want, "input 1x1x1\nscale %.9g\n", (double)value);
  cn_network *net = must_parse("input 1x1x1"
                               "\nrelu");
  cn_node node = cn_node_defaults(CN_OP_SCALE);
  node.factor = value, node.input_count = 1, node.inputs[0] = 0;
  if (cn_network_add(net, &node, &error) < 0) fail_msg("%s", error.message);
  const char *line = strstr(cn_network_text(net), "scale");
  if (strncmp(line, strstr(want, "scale"), strlen(strstr(want, "scale")) - 1) != 0)
    fail_msg("%s should be %s", line, want);
  cn_network_free(net);
  net = must_parse(want);
  again = cn_network_node(net, 1)->factor;
  if (memcmp(&again, &value, sizeof value) != 0) fail_msg("%s became %.9g", want, (double)again);
  cn_network_free(net);
}

static void numbers_come_back(void **state) {
  (void)state;
  static const uint32_t fractions[] = {0, 1, 2, 0x3FFFFF, 0x400000, 0x555555, 0x7FFFFE, 0x7FFFFF};
  cn_random random = {11, 0};
  for (uint32_t exponent = 0; exponent < 255; exponent++)
    for (int i = 0; i < LENGTH(fractions) + 8; i++) {
      uint32_t fraction =
          i < LENGTH(fractions) ? fractions[i] : (uint32_t)cn_random_bits(&random) & 0x7FFFFF;
      check_number(exponent << 23 | fraction);
      check_number(UINT32_C(1) << 31 | exponent << 23 | fraction);
    }
  for (int i = 0; i < 20000; i++) check_number((uint32_t)cn_random_bits(&random));
  for (int i = 0; i < 5000; i++) { /* as people write them */
    float value = (float)((double)cn_random_below(&random, 20000) /
                          pow(10.0, (double)cn_random_below(&random, 10)));
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    check_number(bits);
  }
}

/* A message has any number as %g writes it. */
static void numbers_in_messages(void **state) {
  (void)state;
  cn_random random = {12, 0};
  cn_network *net = must_parse("input 1x1x1\nrelu\n");
  for (int i = 0; i < 20000; i++) {
    char want[64];
    cn_error error = {CN_OK, 0, 0, ""};
    cn_node node = cn_node_defaults(CN_OP_DROPOUT);
    node.rate = float_of((uint32_t)cn_random_bits(&random));
    if (i % 2) node.rate = rintf(node.rate * 1e4f) / 1e4f;
    if (node.rate >= 0 && node.rate < 1) continue;
    snprintf(want, sizeof want, "dropout rate %g is outside", (double)node.rate);
    if (isnan(node.rate)) snprintf(want, sizeof want, "nan is outside"); /* its sign is no matter */
    assert_int_equal(cn_network_add(net, &node, &error), -1);
    assert_contains(error.message, want);
  }
  cn_network_free(net);
}

/* What every line of a network's text that holds a number becomes when it is no number of a float's. */
static void numbers_refused(void **state) {
  (void)state;
  static const char *const lines[] = {"conv 1 1x1 init=constant:%s",
                                      "dense 1 init=gaussian:%s",
                                      "mixpool 1x1 mix=%s",
                                      "batchnorm eps=%s",
                                      "batchnorm momentum=%s",
                                      "softmax loss=%s",
                                      "relu output=%s",
                                      "scale %s",
                                      "dropout %s"};
  static const char *const numbers[] = {"1e39", "-1e39",    "3.4028236e38", "9e99", "inf",
                                        "-inf", "nan",      "0,25",         "1e",   "0x1p3",
                                        "+1",   "infinity", "1e999"};
  for (int i = 0; i < LENGTH(lines); i++)
    for (int k = 0; k < LENGTH(numbers); k++) {
      char line[64], text[128];
      snprintf(line, sizeof line, lines[i], numbers[k]);
      snprintf(text, sizeof text, "input 1x1x2\n%s\n", line);
      cn_error error = {CN_OK, 0, 0, ""};
      cn_network *net = cn_network_parse(text, &error);
      if (net) fail_msg("accepted: %s", text);
      assert_int_equal(error.status, CN_ERROR_SYNTAX);
      assert_int_equal(error.line, 2);
    }
  cn_network_free(must_parse("input 1x1x2\nscale 3.40282347e+38\nscale -3.40282347e38"));
}

/* The same through calls: no node gets into a network whose text could not be read. */
static void nodes_refused(void **state) {
  (void)state;
  static const float wrong[] = {INFINITY, -INFINITY, NAN};
  static const struct {
    cn_op op;
    size_t member;
    const char *part;
  } places[] = {{CN_OP_CONV, offsetof(cn_node, init_value), "init"},
                {CN_OP_DENSE, offsetof(cn_node, init_value), "init"},
                {CN_OP_MIXPOOL, offsetof(cn_node, mix), "mix"},
                {CN_OP_BATCHNORM, offsetof(cn_node, eps), "eps"},
                {CN_OP_BATCHNORM, offsetof(cn_node, momentum), "momentum"},
                {CN_OP_DROPOUT, offsetof(cn_node, rate), "rate"},
                {CN_OP_SCALE, offsetof(cn_node, factor), "factor"},
                {CN_OP_SOFTMAX, offsetof(cn_node, loss_weight), "loss"},
                {CN_OP_RELU, offsetof(cn_node, output_weight), "output"}};
  cn_network *net = must_parse("input 2x2x1\nrelu");
  for (int i = 0; i < LENGTH(places); i++)
    for (int k = 0; k < LENGTH(wrong); k++) {
      cn_error error = {CN_OK, 0, 0, ""};
      cn_node node = cn_node_defaults(places[i].op);
      node.filters = 1, node.window.height = node.window.width = 1, node.init = CN_INIT_CONSTANT;
      memcpy((char *)&node + places[i].member, &wrong[k], sizeof(float));
      if (cn_network_add(net, &node, &error) >= 0) fail_msg("accepted: %s", places[i].part);
      assert_int_equal(error.status, CN_ERROR_ARGUMENT);
      assert_contains(error.message, places[i].part);
      assert_int_equal(cn_network_node_count(net), 2);
    }
  cn_node node = cn_node_defaults(CN_OP_DENSE);
  cn_error error = {CN_OK, 0, 0, ""};
  node.filters = 1, node.init = (cn_init_kind)4;
  assert_int_equal(cn_network_add(net, &node, &error), -1);
  assert_contains(error.message, "init");
  cn_network_free(net);
}

/* ---- a locale that writes 0,25 ----------------------------------------------------------------- */

static const char numbers[] = "input 4x4x1\n"
                              "conv 2 3x3 pad=1 init=gaussian:0.015625\n"
                              "batchnorm eps=0.0009765625 momentum=0.25\n"
                              "mixpool 2x2 mix=0.25\n"
                              "scale 0.375\n"
                              "dropout 0.125\n"
                              "relu output=1.5\n"
                              "dense 2 init=constant:9.53674316e-07\n"
                              "softmax loss=0.75\n";

static char locale_folder[] = "/tmp/convnet-locale-XXXXXX";

/* Makes de_DE in a folder of its own, where localedef and its sources are installed. */
static int make_locale(void **state) {
  (void)state;
  char command[256];
  if (!mkdtemp(locale_folder)) return -1;
  snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' >/dev/null 2>&1",
           locale_folder);
  if (system(command) != 0) print_message("no locale de_DE could be made\n");
  return setenv("LOCPATH", locale_folder, 1);
}

static int remove_locale(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -rf '%s'", locale_folder);
  return system(command);
}

static int leave_comma_locale(void **state) {
  (void)state;
  return setlocale(LC_ALL, "C") ? 0 : -1;
}

static void enter_comma_locale(void) {
  if (setlocale(LC_ALL, "de_DE.UTF-8") && strcmp(localeconv()->decimal_point, ",") == 0) return;
  print_message("no locale de_DE: install localedef and its sources (Debian: locales)\n");
  skip();
}

static void locale_does_not_matter(void **state) {
  (void)state;
  enter_comma_locale();
  char path[64];
  snprintf(path, sizeof path, "%s/model", locale_folder);
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = must_parse(numbers);
  assert_string_equal(cn_network_text(net), numbers);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(net, 1, &options);
  if (cn_trainer_save(trainer, path, &error) || cn_trainer_load(trainer, path, &error))
    fail_msg("%s", error.message);
  cn_trainer_free(trainer);
  if (cn_save(net, path, &error)) fail_msg("%s", error.message);
  cn_network *loaded = cn_load(path, &error);
  if (!loaded) fail_msg("%s", error.message);
  assert_string_equal(cn_network_text(loaded), numbers);
  assert_same_parameters(net, loaded);
  cn_network_free(net);
  cn_network_free(loaded);
}

/* Messages are texts too: programs pass them on, and people type in what they read. */
static void messages_have_points(void **state) {
  (void)state;
  enter_comma_locale();
  static const struct {
    const char *text, *message;
  } lines[] = {{"mixpool 1x1 mix=1.5", "mix 1.5 is outside [0, 1]"},
               {"batchnorm eps=1.25", "eps 1.25 is outside [1.18e-38, 1)"},
               {"batchnorm eps=1e-38", "eps 1e-38 is outside [1.18e-38, 1)"},
               {"batchnorm momentum=1.1", "momentum 1.1 is outside [0, 1]"},
               {"dropout 1234567.8", "dropout rate 1.23457e+06 is outside [0, 1)"},
               {"softmax loss=1000.5", "loss weight 1000.5 is outside (0, 1000]"},
               {"relu output=2000.25", "relu1: output 2000.25 is outside [0, 1000]"}};
  cn_error error = {CN_OK, 0, 0, ""};
  for (int i = 0; i < LENGTH(lines); i++) {
    char text[128];
    snprintf(text, sizeof text, "input 1x1x2\n%s\n", lines[i].text);
    assert_null(cn_network_parse(text, &error));
    assert_contains(error.message, lines[i].message);
  }
  cn_training_options options = cn_training_defaults();
  cn_network *net = must_parse("input 1x1x2\ndense 2 init=constant:3e38\nsoftmax\n");
  options.learning_rate = -0.5f;
  assert_null(cn_trainer_create(net, 1, &options, &error));
  assert_string_equal(error.message, "learning rate -0.5 is outside [0, 1e6)");
  options.learning_rate = NAN;
  assert_null(cn_trainer_create(net, 1, &options, &error));
  assert_contains(error.message, "nan is outside [0, 1e6)");
  options.learning_rate = 0.5f;
  cn_trainer *trainer = must_train(net, 1, &options);
  const float images[2] = {3e38f, 3e38f};
  const int label = 0;
  const cn_batch batch = {.count = 1, .inputs = images, .labels = &label};
  assert_int_equal(cn_train_step(trainer, &batch, NULL, &error), CN_ERROR_NUMERIC);
  assert_contains(error.message, "learning rate 0.5");
  cn_trainer_free(trainer);
  cn_network_free(net);
}

/* Templates are read, and reasons written, as anywhere. */
static void tallies_have_points(void **state) {
  (void)state;
  enter_comma_locale();
  static const char text[] = "page 300.5 x 400\n"
                             "anchor a square 20,20 36x36\n"
                             "anchor b square 240.25,20 36x36\n"
                             "anchor c square 20,340 36x36\n"
                             "field F 1 digits cells 100.75,100 1x40x48\n";
  static tally_template form;
  tally_error error;
  assert_int_equal(tally_template_parse(text, sizeof text - 1, &form, &error), TALLY_OK);
  assert_true(form.width == 300.5 && form.anchor[1].box.x == 240.25);
  assert_true(form.field[0].cell[0].x == 100.75);
  double classes[TALLY_CLASSES] = {0.75, 0.25};
  tally_counts counts;
  assert_int_equal(tally_decode(&form, classes, NULL, NULL, &counts), TALLY_OK);
  assert_string_equal(counts.count[0].reason, "probability 0.7500");
  tally_counts_free(&counts);
  static const char *const wrong[] = {"page 300,5 x 400\n",
                                      "page 300 x 400\nanchor a colour hsv(400.5..20, 0..1, 0..1)",
                                      "page 300 x 400\nfield F 2 digits cells 100,100 2.5x40x48\n"};
  for (int i = 0; i < LENGTH(wrong); i++) {
    assert_int_equal(tally_template_parse(wrong[i], strlen(wrong[i]), &form, &error),
                     TALLY_ERROR_TEMPLATE);
    for (const char *c = error.message; *c; c++) /* no number has a comma in it */
      assert_false(c[0] >= '0' && c[0] <= '9' && c[1] == ',' && c[2] >= '0' && c[2] <= '9');
  }
}

/* ---- what an editor leaves --------------------------------------------------------------------- */

static void byte_order_mark(void **state) {
  (void)state;
  cn_network *net = must_parse("\xEF\xBB\xBFinput 1x1x2\nrelu\n");
  assert_string_equal(cn_network_text(net), "input 1x1x2\nrelu\n");
  cn_network_free(net);
  cn_error error = {CN_OK, 0, 0, ""};
  assert_null(cn_network_parse("\xEF\xBB\xBF\xEF\xBB\xBFinput 1x1x2\nrelu\n", &error));
  assert_int_equal(error.line, 1);
  assert_null(cn_network_parse("\xEF\xBBinput 1x1x2\nrelu\n", &error));
  assert_null(cn_network_parse("\xEF\xBB\xBFinput 1x1x2 relu\n", &error));
  assert_int_equal(error.column, 13);
}

static void line_ends(void **state) {
  (void)state;
  static const char *const ends[] = {"\n", "\r\n", " \t \n", "  \r\n"};
  for (int i = 0; i < LENGTH(ends); i++)
    for (int last = 0; last < 2; last++) {
      char text[256];
      snprintf(text, sizeof text, "# a network%sinput 8x8x2%s%sconv 4 3x3 pad=1%srelu # %s",
               ends[i], ends[i], ends[i], ends[i], last ? ends[i] : "");
      cn_network *net = must_parse(text);
      assert_string_equal(cn_network_text(net), "input 8x8x2\nconv 4 3x3 pad=1\nrelu\n");
      cn_network_free(net);
    }
}

/* ---- notes ------------------------------------------------------------------------------------- */

static void notes_refused(void **state) {
  (void)state;
  static const char *const keys[] = {
      "network", "__metadata__", "optimizer.step", "optimizer.kind", "optimizer.",
      "",        "a b",          "\xc3\xa9"};
  static const char *const values[] = {
      "\xff",  "caf\xe9",          "\xc0\x80",         "\xed\xa0\x80", "\xe2\x82",
      "a\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3",         "ok \xe2\x28"};
  cn_network *net = must_parse("input 1x1x2\nrelu");
  cn_error error = {CN_OK, 0, 0, ""};
  assert_int_equal(cn_network_set_note(net, "kept", "old", &error), CN_OK);
  for (int i = 0; i < LENGTH(keys); i++) {
    if (cn_network_set_note(net, keys[i], "x", &error) != CN_ERROR_ARGUMENT)
      fail_msg("accepted: %s", keys[i]);
    assert_null(cn_network_note(net, keys[i]));
  }
  for (int i = 0; i < LENGTH(values); i++) {
    if (cn_network_set_note(net, "kept", values[i], &error) != CN_ERROR_ARGUMENT)
      fail_msg("accepted: value %d", i);
    assert_contains(error.message, "kept is not UTF-8");
    assert_string_equal(cn_network_note(net, "kept"), "old");
  }
  cn_network_free(net);
}

/* Any bytes: a note is refused, or comes back from what is saved. */
static void accepted_notes_come_back(void **state) {
  (void)state;
  static const char *const pieces[] = {
      "a",    "\"",   "\\",       "\n",           "\x01",
      "\x7f", "\x80", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa6",
      "\xff", "\xc3", "/"};
  cn_random random = {3, 0};
  int taken = 0;
  for (int run = 0; run < 1000; run++) {
    cn_network *net = must_parse("input 1x1x2\nrelu");
    cn_error error = {CN_OK, 0, 0, ""};
    char value[64] = "";
    for (uint32_t n = cn_random_below(&random, 8); n > 0; n--)
      strcat(value, pieces[cn_random_below(&random, LENGTH(pieces))]);
    if (cn_network_set_note(net, "note", value, &error) == CN_OK) {
      unsigned char bytes[1024];
      size_t size = cn_save_memory(net, bytes, sizeof bytes, &error);
      assert_in_range(size, 1, sizeof bytes);
      cn_network *loaded = cn_load_memory(bytes, size, &error);
      if (!loaded) fail_msg("%s", error.message);
      assert_string_equal(cn_network_note(loaded, "note"), value);
      cn_network_free(loaded);
      taken++;
    }
    cn_network_free(net);
  }
  assert_in_range(taken, 100, 900);
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_come_back),
      cmocka_unit_test(numbers_in_messages),
      cmocka_unit_test(numbers_refused),
      cmocka_unit_test(nodes_refused),
      cmocka_unit_test_teardown(locale_does_not_matter, leave_comma_locale),
      cmocka_unit_test_teardown(messages_have_points, leave_comma_locale),
      cmocka_unit_test_teardown(tallies_have_points, leave_comma_locale),
      cmocka_unit_test(byte_order_mark),
      cmocka_unit_test(line_ends),
      cmocka_unit_test(notes_refused),
      cmocka_unit_test(accepted_notes_come_back),
  };
  return cmocka_run_group_tests(tests, make_locale, remove_locale);
}
