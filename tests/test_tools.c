/* test_tools.c - tally-train and tally-evaluate from outside, as a user runs them, and the parts
   inside them that pictures pass through.

   Build:  make all build/tests/test_tools
   Run:    build/tests/test_tools     in the repository's root; BIN=folder of programs

   All data are made here, in a temporary folder; the last test needs MNIST in data/. */
#define main train_main
#include "../tools/tally-train.c"
#undef main
#include "../tools/evaluate/calibration.h"
#include "../tools/implementations/stb.h"
#include "support.h"

#include "programs.h"

/* ---- running programs ------------------------------------------------------------------------ */

/* It failed as it should: that code, one line on stderr with both parts in it. */
static void assert_refused(int code, int expected, const char *part, const char *other) {
  if (code != expected)
    fail_msg("exit code %d instead of %d: %s%s", code, expected, err_text, out_text);
  size_t lines = 0;
  for (char *c = err_text; *c; c++) lines += *c == '\n';
  if (expected == 1 && lines != 1) fail_msg("%zu lines instead of one: %s", lines, err_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

static void assert_absent(const char *name) {
  size_t size;
  char *all = contents(name, &size);
  if (all) fail_msg("%s should not exist", name);
}

static void assert_different_files(const char *a, const char *b) {
  size_t a_size = 0, b_size = 0;
  char *a_bytes = contents(a, &a_size), *b_bytes = contents(b, &b_size);
  if (!a_bytes || !b_bytes) fail_msg("%s is missing", a_bytes ? b : a);
  if (a_size == b_size && !memcmp(a_bytes, b_bytes, a_size))
    fail_msg("%s and %s are the same", a, b);
  free(a_bytes);
  free(b_bytes);
}

/* ---- data ------------------------------------------------------------------------------------ */

#define SIDE 12

/* A picture of class k of 4: a bright bar along one of four directions, with noise. */
static void draw_sample(int label, cn_random *random, uint8_t *to, int side) {
  int shift = (int)cn_random_below(random, 3) - 1;
  for (int y = 0; y < side; y++)
    for (int x = 0; x < side; x++) {
      int middle = side / 2 + shift;
      int distance = label == 0   ? y - middle
                     : label == 1 ? x - middle
                     : label == 2 ? x - y + shift
                                  : x + y - side + 1 + shift;
      int value = (distance >= -1 && distance <= 1 ? 180 : 20) + (int)cn_random_below(random, 60);
      to[y * side + x] = (uint8_t)value;
    }
}

static void big_endian_to(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* The two IDX files of one part, in the folder `name`. */
static void make_idx(const char *name, const char *part, int count, uint64_t seed) {
  cn_random random = {seed, 0};
  size_t size = SIDE * SIDE;
  uint8_t *images = allocate(16 + (size_t)count * size, 1),
          *labels = allocate(8 + (size_t)count, 1);
  uint32_t sizes[4] = {0x803, (uint32_t)count, SIDE, SIDE};
  for (int i = 0; i < 4; i++) big_endian_to(images + 4 * i, sizes[i]);
  big_endian_to(labels, 0x801);
  big_endian_to(labels + 4, (uint32_t)count);
  for (int i = 0; i < count; i++) {
    labels[8 + i] = (uint8_t)cn_random_below(&random, 4);
    draw_sample(labels[8 + i], &random, images + 16 + (size_t)i * size, SIDE);
  }
  char *folder = join_path(home, name), path[256];
  mkdir(folder, 0777);
  snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte", name, part);
  write_home(path, images, 16 + (size_t)count * size);
  snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", name, part);
  write_home(path, labels, 8 + (size_t)count);
  free(folder);
  free(images);
  free(labels);
}

/* A folder with one subfolder per class, `each` pictures in it; channels 1 or 3, every other
   picture larger than the network's input. */
static void make_pictures(const char *name, const char *const *class_names, int each,
                          int channels) {
  cn_random random = {99, 0};
  uint8_t grey[24 * 24], rgb[24 * 24 * 3];
  char *folder = join_path(home, name);
  mkdir(folder, 0777);
  for (int k = 0; class_names[k]; k++) {
    char *sub = join_path(folder, class_names[k]);
    mkdir(sub, 0777);
    for (int i = 0; i < each; i++) {
      int side = i % 2 ? 24 : SIDE;
      char path[PATH_MAX + 64];
      draw_sample(k, &random, grey, side);
      for (int p = 0; p < side * side * 3; p++) rgb[p] = p % 3 == k % 3 ? grey[p / 3] : 128;
      snprintf(path, sizeof path, "%s/%03d.png", sub, i);
      assert_true(stbi_write_png(path, side, side, channels, channels == 1 ? grey : rgb, 0));
    }
    free(sub);
  }
  free(folder);
}

static const char tiny[] = "input 12x12x1\nconv 4 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 16\nrelu\n"
                           "dropout 0.25\ndense 4\nsoftmax\n";
static const char *const shapes[] = {"across", "down", "falling", "rising", NULL};

static int setup(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR"), *bin = getenv("BIN");
  char here[PATH_MAX], program[2 * PATH_MAX];
  if (!getcwd(here, sizeof here)) return -1;
  snprintf(home, sizeof home, "%s/tally-tools-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(home)) return -1;
  snprintf(program, sizeof program, "%s/%s/tally-train", here, bin ? bin : "bin");
  setenv("train", bin && *bin == '/' ? program + strlen(here) + 1 : program, 1);
  snprintf(program, sizeof program, "%s/%s/tally-evaluate", here, bin ? bin : "bin");
  setenv("evaluate", bin && *bin == '/' ? program + strlen(here) + 1 : program, 1);
  make_idx("small", "train", 600, 1);
  make_idx("small", "t10k", 203, 2);
  make_pictures("pictures", shapes, 30, 1);
  write_words("tiny.net", tiny);
  write_words("colour.net",
              "input 12x12x3\nconv 4 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 4\nsoftmax\n");
  return 0;
}

/* The recipe most tests train with; short, and with everything random switched on. */
#define RECIPE \
  "--data small:train --val small:test --arch tiny.net --batch 32 --lr 0.01 --schedule constant "
#define WARPS "--rotate 10 --zoom 0.1 --shift 1 --elastic 0.5 "

/* ---- usage ----------------------------------------------------------------------------------- */

static void test_usage(void **state) {
  (void)state;
  assert_ran(shell("$train --help"));
  assert_contains(out_text, "examples:");
  assert_ran(shell("$evaluate --help"));
  assert_contains(out_text, "examples:");
  assert_refused(shell("$train --nonsense"), 2, "tally-train: ", "usage: tally-train");
  assert_contains(err_text, "--nonsense");
  assert_refused(shell("$evaluate --nonsense=1"), 2, "tally-evaluate: ", "usage: tally-evaluate");
  assert_refused(shell("$train"), 2, "--data", "usage:");
  assert_refused(shell("$train --data small:train --arch base"), 2, "--out", "usage:");
  assert_refused(shell("$train --data small:train --out m"), 2, "--arch or --init", "usage:");
  assert_refused(shell("$train " RECIPE "--out m --epochs"), 2, "--epochs needs a value", "usage:");
  assert_refused(shell("$train " RECIPE "--out m --epochs 3x"), 2, "--epochs", "3x");
  assert_refused(shell("$train " RECIPE "--out m --epochs 0"), 2, "--epochs", "outside");
  assert_refused(shell("$train " RECIPE "--out m --lr nan"), 2, "--lr", "nan");
  assert_refused(shell("$train " RECIPE "--out m --optimizer magic"), 2, "magic", "adamw");
  assert_refused(shell("$train " RECIPE "--out m --val 1.5"), 2, "--val", "1.5");
  assert_refused(shell("$train " RECIPE "--out m stray"), 2, "stray", "usage:");
  assert_refused(shell("$train --data small:train --arch tiny.net --patience 3 --out m"), 2,
                 "--patience", "--val");
  assert_refused(shell("$evaluate --model m"), 2, "--data", "usage:");
  assert_refused(shell("$evaluate --model m --predictions p.csv"), 2, "--predictions", "usage:");
  assert_absent("m");
}

/* ---- training -------------------------------------------------------------------------------- */

static void test_training_learns(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 8 --out learn.safetensors --log learn.csv"));
  assert_int_equal((int)result("epochs"), 8);
  assert_true(result("val_accuracy") > 0.9);
  assert_true(result("train_loss") > 0 && result("train_accuracy") > 0.5);
  assert_true(result("images_per_second") > 0 && result("seconds") > 0);
  double accuracy = result("val_accuracy");
  size_t size;
  char *log = contents("learn.csv", &size);
  int rows = 0;
  for (char *c = log; *c; c++) rows += *c == '\n';
  assert_int_equal(rows, 9);
  assert_contains(log,
                  "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy\n1,0.01,");
  free(log);
  /* off a terminal: a line to begin with and one for each epoch, no control characters */
  int lines = 0;
  for (char *c = err_text; *c; c++) {
    lines += *c == '\n';
    assert_true(*c == '\n' || (unsigned char)*c >= 32);
  }
  assert_int_equal(lines, 9);
  /* the model that is kept is the one whose figures were printed */
  assert_ran(shell("$evaluate --model learn.safetensors --data small:test --batch 7 --quiet"));
  assert_true(fabs(result("accuracy") - accuracy) < 1e-9);
  assert_int_equal((int)result("n"), 203);
  assert_string_equal(err_text, "");
}

/* Outputs of a network whose logits are `sharpness` times too large, on pictures whose classes are drawn
   with the probabilities that belong to the logits. For the caller to free. */
static results draw_results(int count, int classes, double sharpness, uint64_t seed) {
  results r = {.set = classes_numbered(classes), .count = count};
  cn_random random = {seed, 0};
  r.truth = allocate((size_t)count, sizeof(int));
  r.prediction = allocate((size_t)count, sizeof(int));
  r.rows = allocate((size_t)(count * classes), sizeof(float));
  for (int i = 0; i < count; i++) {
    float *row = r.rows + i * classes;
    double honest = 0, sharp = 0, u = (double)cn_random_uniform(&random);
    for (int k = 0; k < classes; k++) {
      row[k] = 2 * cn_random_normal(&random);
      honest += exp((double)row[k]);
      sharp += exp(sharpness * (double)row[k]);
      if (row[k] > row[r.prediction[i]]) r.prediction[i] = k;
    }
    for (int k = 0; k < classes; k++) {
      double p = exp((double)row[k]) / honest;
      if (u >= 0 && u < p) r.truth[i] = k;
      u -= p;
    }
    for (int k = 0; k < classes; k++) row[k] = (float)(exp(sharpness * (double)row[k]) / sharp);
  }
  return r;
}

/* The temperature that a network's logits are too large by is found, and mends its probabilities. */
static void test_temperature(void **state) {
  (void)state;
  static const double wanted[] = {0.5, 1, 1.5, 4};
  for (int i = 0; i < 4; i++) {
    results r = draw_results(20000, 5, wanted[i], 7);
    double found = fit_temperature(&r);
    if (fabs(found / wanted[i] - 1) > 0.04) fail_msg("%g instead of %g", found, wanted[i]);
    reliability before = measure_reliability(&r, 1), after = measure_reliability(&r, found);
    assert_true(after.error < 0.012 && after.log_loss <= before.log_loss + 1e-12);
    if (wanted[i] > 2) assert_true(before.error > 0.1);
    results_free(&r);
  }
}

/* The calibration error of four pictures that are as many bins: |1 - .9|, |0 - .8|, |1 - .7|, |1 - .6|. */
static void test_calibration_error(void **state) {
  (void)state;
  static const float p[4] = {0.9f, 0.8f, 0.7f, 0.6f};
  results r = {.set = classes_numbered(2), .count = 4};
  r.truth = allocate(4, sizeof(int));
  r.prediction = allocate(4, sizeof(int));
  r.rows = allocate(8, sizeof(float));
  for (int i = 0; i < 4; i++) {
    r.rows[2 * i] = p[i];
    r.rows[2 * i + 1] = 1 - p[i];
    r.truth[i] = i == 1;
  }
  reliability found = measure_reliability(&r, 1);
  assert_int_equal(found.bins, 4);
  assert_true(fabs(found.error - (0.1 + 0.8 + 0.3 + 0.4) / 4) < 1e-6);
  assert_true(fabs(found.log_loss + (log(0.9) + log(0.2) + log(0.7) + log(0.6)) / 4) < 1e-6);
  assert_true(fabs(found.bin[0].probability - 0.6) < 1e-6 && fabs(found.bin[0].right - 1) < 1e-6);
  /* at temperature 2 odds of 9 are odds of 3 */
  assert_true(fabs(measure_reliability(&r, 2).bin[3].probability - 0.75) < 1e-6);
  results_free(&r);
}

/* tally-evaluate writes a model that differs in its note alone, which it shows from then on. */
static void test_fit_temperature(void **state) {
  (void)state;
  size_t size;
  assert_ran(shell("$train " RECIPE "--epochs 3 --out plain.safetensors --quiet"));
  assert_ran(shell("$evaluate --model plain.safetensors --data small:test --quiet"));
  assert_true(strstr(out_text, "calibration_error") && !strstr(out_text, "tempered_error"));
  double before = result("calibration_error");
  assert_ran(shell("$evaluate --model plain.safetensors --data small:test --quiet --out fit-report "
                   "--fit-temperature fitted.safetensors"));
  double fitted = result("temperature"), after = result("tempered_error");
  assert_true(fabs(result("calibration_error") - before) < 1e-9);
  assert_true(fitted >= LEAST_TEMPERATURE && fitted <= MOST_TEMPERATURE);
  assert_ran(shell("$evaluate --model fitted.safetensors --data small:test --quiet"));
  assert_true(fabs(result("temperature") - fitted) < 1e-4);
  assert_true(fabs(result("tempered_error") - after) < 1e-4);
  char *table = contents("fit-report/reliability.csv", &size);
  char *diagram = contents("fit-report/reliability.svg", &size);
  assert_contains(table, "temperature,bin,n,probability,right\n1,1,");
  assert_contains(diagram, "</svg>");
  free(table);
  free(diagram);
  cn_error error;
  char *path = join_path(home, "fitted.safetensors");
  cn_network *net = cn_load(path, &error);
  assert_non_null(net);
  assert_true(fabs(atof(cn_network_note(net, "temperature")) - fitted) < 1e-4);
  assert_int_equal(cn_network_set_note(net, "temperature", NULL, &error), CN_OK);
  assert_int_equal(cn_save(net, path, &error), CN_OK);
  cn_network_free(net);
  free(path);
  assert_same_files("plain.safetensors", "fitted.safetensors");
  assert_refused(shell("$evaluate --model plain.safetensors --data small:test --quiet "
                       "--fit-temperature plain.safetensors"),
                 1, "plain.safetensors", "");
  assert_refused(shell("$evaluate --predictions p.csv --fit-temperature m"), 2, "a model",
                 "usage:");
}

static void test_quiet(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 1 --out quiet.safetensors --quiet"));
  assert_string_equal(err_text, "");
}

static void test_without_validation(void **state) {
  (void)state;
  assert_ran(shell("$train --data small:train --arch tiny.net --epochs 2 --out last.safetensors "
                   "--log last.csv"));
  assert_true(isnan(result("val_loss")) && isnan(result("val_accuracy")));
  assert_int_equal((int)result("best_epoch"), 2);
  size_t size;
  char *log = contents("last.csv", &size);
  assert_true(size > 2 && !strcmp(log + size - 2, ",\n"));
  free(log);
}

/* The last, smaller batch counts as well: every picture is seen once an epoch. */
static void test_last_batch(void **state) {
  (void)state;
  assert_ran(shell(
      "$train --data small:train --arch tiny.net --epochs 1 --batch 599 --out b.safetensors"));
  cn_error error;
  char *path = join_path(home, "b.safetensors.checkpoint");
  cn_network *net = must_parse(tiny);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = must_train(net, 8, &options);
  if (cn_trainer_load(trainer, path, &error) != CN_OK) fail_msg("%s", error.message);
  assert_int_equal(cn_trainer_steps(trainer), 2);
  cn_trainer_free(trainer);
  cn_network_free(net);
  free(path);
}

static void test_split(void **state) {
  (void)state;
  assert_ran(
      shell("$train --data small:train --val 0.25 --arch tiny.net --epochs 1 --out s.safetensors"));
  assert_contains(err_text, "checks with 15");
  assert_refused(
      shell("$train --data small:train --val 0.0001 --arch tiny.net --out t.safetensors"), 1,
      "--val", "0 to check with");
  assert_absent("t.safetensors");
}

static void test_same_bytes(void **state) {
  (void)state;
  const char *recipe =
      "$train " RECIPE WARPS "--epochs 3 --class-weights balanced --normalize data "
      "--schedule cosine --warmup 0.5 --seed %d --threads %d --out %s --log %s.csv";
  assert_ran(shell(recipe, 5, 1, "one", "one"));
  assert_ran(shell(recipe, 5, 1, "again", "again"));
  assert_ran(shell(recipe, 5, 2, "two", "two"));
  assert_ran(shell(recipe, 6, 1, "other", "other"));
  assert_same_files("one", "again");
  assert_same_files("one", "two");
  assert_same_files("one.checkpoint", "two.checkpoint");
  assert_same_files("one.csv", "two.csv");
  assert_different_files("one", "other");
}

/* Kills a run again and again, at any moment, until it gets through. */
static void test_kill_and_resume(void **state) {
  (void)state;
  const char *recipe =
      RECIPE WARPS "--epochs 40 --optimizer sgd --schedule step --step 15 --gamma 0.5 "
                   "--normalize data --patience 30 --threads 2";
  assert_ran(shell("$train %s --out whole.safetensors --log whole.csv", recipe));
  int kills = 0, resumed = 0, code = 137;
  for (int attempt = 0; attempt < 60 && code == 137; attempt++) {
    code =
        shell("timeout -s KILL 0.%03d $train %s --out parts.safetensors --log parts.csv --resume",
              60 + 37 * (attempt % 7) + attempt * 5, recipe);
    kills += code == 137;
    resumed += strstr(err_text, "resumes after epoch") != NULL;
  }
  if (code == 137)
    code = shell("$train %s --out parts.safetensors --log parts.csv --resume", recipe);
  assert_ran(code);
  print_message("killed %d times, resumed %d times\n", kills, resumed);
  assert_true(kills > 0 && resumed > 0);
  assert_same_files("whole.safetensors", "parts.safetensors");
  assert_same_files("whole.safetensors.checkpoint", "parts.safetensors.checkpoint");
  assert_same_files("whole.csv", "parts.csv");
}

static void test_resume(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 6 --out six --log six.csv"));
  assert_ran(shell("$train " RECIPE "--epochs 3 --out three --log three.csv"));
  /* what was finished is reported again, and can be carried on */
  assert_ran(shell("$train " RECIPE "--epochs 3 --out three --log three.csv --resume"));
  assert_int_equal((int)result("epochs"), 3);
  assert_ran(shell("$train " RECIPE "--epochs 6 --out three --log three.csv --resume"));
  assert_same_files("six", "three");
  assert_same_files("six.csv", "three.csv");
  assert_refused(shell("$train " RECIPE "--epochs 9 --out three --lr 0.02 --resume --quiet"), 1,
                 "--lr", "three.checkpoint");
  assert_refused(shell("$train " RECIPE "--epochs 9 --out three --rotate 3 --resume --quiet"), 1,
                 "--rotate", "cannot resume");
  assert_ran(shell("head -c 3000 six.checkpoint >cut.checkpoint"));
  assert_refused(shell("$train " RECIPE "--epochs 9 --out cut --resume --quiet"), 1,
                 "cut.checkpoint", "");
  assert_ran(shell("$train " RECIPE "--epochs 6 --out fresh --resume"));
  assert_contains(err_text, "starts from the beginning");
  assert_same_files("six", "fresh");
}

static void test_early_stopping(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--lr 0 --epochs 50 --patience 3 --out patient.safetensors"));
  assert_int_equal((int)result("epochs"), 4);
  assert_int_equal((int)result("best_epoch"), 1);
}

/* A penalty that multiplies the weights by -4 in every step lets them overflow in the fourth epoch.
   */
static void test_not_finite(void **state) {
  (void)state;
  write_words("line.net", "input 12x12x1\ndense 4\nsoftmax\n");
  const char *recipe =
      "$train --data small:train --arch line.net --optimizer sgd --momentum 0 --batch 32 "
      "--quiet --epochs 9 --schedule constant --out nan.safetensors --lr %s";
  assert_refused(shell(recipe, "100 --l2 0.05"), 1, "step", "learning rate 100");
  assert_contains(err_text, "nan.safetensors.checkpoint (epoch 3)");
  assert_ran(shell("$evaluate --model nan.safetensors --data small:test --quiet"));
  assert_ran(shell("rm nan.safetensors*"));
  assert_refused(shell(recipe, "100000 --l2 0.05"), 1, "step", "no checkpoint yet");
  assert_absent("nan.safetensors");
}

/* ---- pictures -------------------------------------------------------------------------------- */

static void test_folder_and_csv(void **state) {
  (void)state;
  text_buffer table = {0};
  char *folder = join_path(home, "table");
  mkdir(folder, 0777);
  text_add(&table, "\xEF\xBB\xBF" "note,path,label\r\n");
  for (int k = 0; shapes[k]; k++)
    for (int i = 0; i < 30; i++)
      text_add(&table, "\"a, \"\"b\"\"\nc\",\"../pictures/%s/%03d.png\",%s\r\n", shapes[k], i,
               shapes[k]);
  write_home("table/labels.csv", table.data, table.length);
  assert_ran(shell("$train --data pictures --arch tiny.net --epochs 3 --out folder.safetensors"));
  assert_ran(
      shell("$train --data table/labels.csv --arch tiny.net --epochs 3 --out table.safetensors"));
  assert_same_files("folder.safetensors", "table.safetensors");
  assert_ran(
      shell("$train --data pictures --arch colour.net --normalize data --epochs 12 --batch 10 "
            "--lr 0.01 --val pictures --out colour.safetensors"));
  double accuracy = result("val_accuracy");
  assert_true(accuracy > 0.9);
  /* the normalisation is in the model */
  assert_ran(shell("$evaluate --model colour.safetensors --data table/labels.csv --quiet"));
  assert_true(fabs(result("accuracy") - accuracy) < 1e-9);
  free(table.data);
  free(folder);
}

/* Classes are matched by name: a folder that lacks one does not shift the others. */
static void test_missing_class(void **state) {
  (void)state;
  assert_ran(shell(
      "$train --data pictures --val pictures --arch tiny.net --epochs 15 --batch 16 --lr 0.01 "
      "--out names.safetensors"));
  assert_true(result("val_accuracy") > 0.9);
  assert_ran(shell("mkdir few && cp -r pictures/rising pictures/down few/ && mkdir few/unknown"));
  assert_ran(shell("$evaluate --model names.safetensors --data few --quiet"));
  assert_true(result("accuracy") > 0.9);
  assert_int_equal((int)result("n"), 60);
  assert_ran(shell("cp pictures/down/000.png few/unknown/"));
  assert_refused(shell("$evaluate --model names.safetensors --data few --quiet"), 1, "\"unknown\"",
                 "names.safetensors");
}

static void test_bad_pictures(void **state) {
  (void)state;
  assert_ran(
      shell("cp -r pictures broken && head -c 90 pictures/down/001.png >broken/down/001.png && "
            "echo words >broken/rising/004.jpg && : >broken/rising/005.png && "
            "echo notes >broken/rising/notes.txt"));
  assert_refused(
      shell("$train --data broken --arch tiny.net --out broken.safetensors --quiet 2>&1 | "
            "grep -v ignores >&2; exit 1"),
      1, "broken/down/001.png", "3 of 121");
  assert_contains(err_text, "--skip-bad");
  assert_absent("broken.safetensors");
  assert_ran(
      shell("$train --data broken --arch tiny.net --epochs 1 --skip-bad --out broken.safetensors"));
  assert_contains(err_text, "broken/down/001.png");
  assert_contains(err_text, "broken/rising/005.png");
  assert_contains(err_text, "3 of 121 pictures");
  assert_contains(err_text, "learns from 118");
  assert_ran(
      shell("$evaluate --model broken.safetensors --data broken --skip-bad --out bad-report"));
  assert_int_equal((int)result("n"), 118);
  write_words("lost.csv", "path,label\npictures/down/000.png,down\nnowhere.png,down\n");
  assert_refused(shell("$evaluate --model broken.safetensors --data lost.csv --out lost --quiet"),
                 1, "nowhere.png", "1 of 2");
  assert_absent("lost/predictions.csv");
}

static void test_bad_csv(void **state) {
  (void)state;
  write_words("a.csv", "path,name\nx.png,1\n");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv: line 1", "label");
  write_words("a.csv", "path,label\nx.png,1\ny.png\n");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv: line 3",
                 "fields");
  write_words("a.csv", "path,label\nx.png,1\ny.png,\n");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv: line 3", "label");
  write_words("a.csv", "path,label\nx.png,\"1\n");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv: line 2", "quote");
  write_words("a.csv", "");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv", "empty");
  write_words("a.csv", "path,label\n");
  assert_refused(shell("$train --data a.csv --arch tiny.net --out m"), 1, "a.csv", "no pictures");
  assert_refused(shell("$train --data none.csv --arch tiny.net --out m"), 1, "none.csv",
                 "No such file");
  assert_refused(shell("mkdir -p hollow && $train --data hollow --arch tiny.net --out m"), 1,
                 "hollow", "no class folders");
  assert_absent("m");
}

/* ---- IDX files ------------------------------------------------------------------------------- */

/* Copies small to bad, applies a shell edit to it, and expects training and evaluation to refuse
   it. */
static void refuse_idx(const char *edit, const char *part, const char *other) {
  assert_ran(shell("rm -rf bad && cp -r small bad && cd bad && %s", edit));
  assert_refused(shell("$train --data bad:train --arch tiny.net --out bad.safetensors --quiet"), 1,
                 part, other);
  assert_absent("bad.safetensors");
}

static void test_bad_idx(void **state) {
  (void)state;
  const char *poke = "printf '%s' | dd of=%s bs=1 seek=%d conv=notrunc 2>/dev/null";
  char edit[512];
  refuse_idx("mv train-images-idx3-ubyte x && head -c 5000 x >train-images-idx3-ubyte",
             "bad/train-images-idx3-ubyte", "cut");
  refuse_idx("mv train-images-idx3-ubyte x && head -c 9 x >train-images-idx3-ubyte", "byte 9",
             "header");
  refuse_idx(": >train-labels-idx1-ubyte", "bad/train-labels-idx1-ubyte", "header");
  refuse_idx("mv train-labels-idx1-ubyte x && cp train-images-idx3-ubyte train-labels-idx1-ubyte",
             "bad/train-labels-idx1-ubyte", "magic");
  refuse_idx("cp train-labels-idx1-ubyte train-images-idx3-ubyte", "bad/train-images-idx3-ubyte",
             "0x00000801");
  refuse_idx("cp t10k-labels-idx1-ubyte train-labels-idx1-ubyte", "600 images", "203 labels");
  refuse_idx("echo more >>train-images-idx3-ubyte", "bad/train-images-idx3-ubyte", "5 bytes");
  refuse_idx("mv train-images-idx3-ubyte x && gzip -c x >train-images-idx3-ubyte", "compressed",
             "bad/train-images-idx3-ubyte");
  refuse_idx("rm train-labels-idx1-ubyte", "bad", "train-labels-idx1-ubyte");
  snprintf(edit, sizeof edit, poke, "\\377\\377\\377\\377", "train-images-idx3-ubyte", 4);
  refuse_idx(edit, "bad/train-images-idx3-ubyte: byte 4", "out of range");
  snprintf(edit, sizeof edit, poke, "\\177\\377\\377\\377", "train-images-idx3-ubyte", 4);
  refuse_idx(edit, "bad/train-images-idx3-ubyte", "cut");
  snprintf(edit, sizeof edit, poke, "\\0\\1\\0\\0\\0\\1\\0\\0", "train-images-idx3-ubyte", 8);
  refuse_idx(edit, "bad/train-images-idx3-ubyte", "cut");
  snprintf(edit, sizeof edit, poke, "\\0\\0\\0\\0", "train-images-idx3-ubyte", 12);
  refuse_idx(edit, "bad/train-images-idx3-ubyte: byte 12", "out of range");
  snprintf(edit, sizeof edit, poke, "\\4", "train-labels-idx1-ubyte", 8 + 17);
  refuse_idx(edit, "bad/train-labels-idx1-ubyte: byte 25", "label 4 of picture 17");
  assert_ran(
      shell("$train --data small:train --arch tiny.net --epochs 1 --out ok.safetensors --quiet"));
  assert_refused(shell("$evaluate --model ok.safetensors --data bad:train --quiet"), 1,
                 "bad/train-labels-idx1-ubyte: byte 25", "label 4 of picture 17");
  assert_refused(shell("$train --data nowhere:train --arch tiny.net --out m"), 1, "nowhere",
                 "not a folder");
  assert_refused(shell("$train --data small --arch tiny.net --out m"), 1, "small", ":train");
  assert_ran(shell("rm -rf bad && cp -r small bad && cd bad && mv train-images-idx3-ubyte "
                   "train-images.idx3-ubyte && mv train-labels-idx1-ubyte train-labels.idx1-ubyte"));
  assert_ran(
      shell("$train --data bad:train --arch tiny.net --epochs 1 --out dots.safetensors --quiet"));
  assert_same_files("ok.safetensors", "dots.safetensors");
}

/* ---- networks and models --------------------------------------------------------------------- */

static void refuse_network(const char *words, const char *part, const char *other) {
  write_words("bad.net", words);
  assert_refused(shell("$train --data small:train --arch bad.net --out m --quiet"), 1, part, other);
  assert_absent("m");
}

static void test_bad_networks(void **state) {
  (void)state;
  refuse_network("input 12x12x1\nconf 4 3x3\n", "bad.net:2:1", "conf");
  refuse_network("input 12x12x1\nconv 4 30x30\ndense 4\nsoftmax\n", "bad.net:2", "");
  refuse_network("input 12x12x1\ndense 3\nsoftmax\n", "bad.net has 3 classes",
                 "small/train-labels-idx1-ubyte: byte");
  refuse_network("input 12x12x1\ndense 5\nrelu\n", "bad.net", "softmax");
  refuse_network("input 12x12x2\ndense 4\nsoftmax\n", "bad.net", "2 channels");
  refuse_network("input 28x28x1\ndense 4\nsoftmax\n", "12x12x1", "28x28x1");
  refuse_network("", "bad.net", "");
  write_home("bad.net", "input\0x", 7);
  assert_refused(shell("$train --data small:train --arch bad.net --out m --quiet"), 1,
                 "bad.net: byte 5", "");
  assert_refused(shell("$train --data small:train --arch nothing --out m --quiet"), 1, "nothing",
                 "");
  assert_refused(shell("$train --data pictures --arch bad.net --out no/m --quiet"), 1, "no/m",
                 "No such file");
  /* stretching on request; a built-in network takes the number of classes of folders */
  assert_ran(
      shell("$train --data small:train --arch lenet --resize squash --epochs 1 --out big --quiet"));
  assert_ran(shell("$evaluate --model big --data small:test --resize squash --quiet"));
  assert_refused(shell("$evaluate --model big --data small:test --quiet"), 1, "12x12x1",
                 "--resize");
  assert_ran(shell("$train --data pictures --arch logistic --epochs 1 --out four"));
  assert_contains(err_text, "4 classes");
}

static void test_fine_tuning(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 6 --normalize data --out first.safetensors"));
  assert_ran(
      shell("$train --data small:test --init first.safetensors --freeze 1 --epochs 2 --lr 0.01 "
            "--out tuned.safetensors"));
  assert_null(strstr(err_text, "replaced"));
  cn_error error;
  char *paths[2] = {join_path(home, "first.safetensors"), join_path(home, "tuned.safetensors")};
  cn_network *before = cn_load(paths[0], &error), *after = cn_load(paths[1], &error);
  assert_non_null(before);
  assert_non_null(after);
  assert_string_equal(cn_network_note(before, "preprocess.mean"),
                      cn_network_note(after, "preprocess.mean"));
  for (int i = 0; i < cn_network_parameter_count(before); i++) {
    cn_parameter a = cn_network_parameter(before, i), b = cn_network_parameter(after, i);
    int same = !memcmp(a.values, b.values, a.count * sizeof(float));
    assert_int_equal(same, !strncmp(a.name, "conv1.", 6));
  }
  cn_network_free(before);
  cn_network_free(after);
  free(paths[0]);
  free(paths[1]);
  assert_refused(
      shell("$train --data small:test --init first.safetensors --freeze 9 --out m --quiet"), 1,
      "--freeze", "3 layers");
  assert_refused(
      shell("$train --data small:test --init first.safetensors --freeze stem --out m --quiet"), 1,
      "--freeze", "stem");
  /* another number of classes: a new last layer, and a word about it */
  assert_ran(shell("mkdir pair && cp -r pictures/down pictures/rising pair/"));
  assert_ran(shell(
      "$train --data pair --val pair --init first.safetensors --epochs 8 --batch 10 --lr 0.01 "
      "--out pair.safetensors"));
  assert_contains(err_text, "replaced");
  assert_contains(err_text, "2 classes");
  assert_true(result("val_accuracy") > 0.9);
  assert_ran(shell("$evaluate --model pair.safetensors --data pair --quiet"));
  assert_true(result("accuracy") > 0.9);
  assert_absent("m");
}

/* A state dict of another framework: tensors, no network, counters that mean nothing here. */
static void write_state_dict(const char *file, const char *network, const cn_arch_options *options) {
  cn_error error;
  cn_network *net = cn_arch_network(network, options, &error);
  assert_non_null(net);
  int count = cn_network_parameter_count(net);
  cn_tensor *tensors = (cn_tensor *)calloc((size_t)count, sizeof *tensors);
  assert_non_null(tensors);
  for (int i = 0; i < count; i++) {
    cn_parameter p = cn_network_parameter(net, i);
    tensors[i].name = p.name, tensors[i].dtype = CN_F32, tensors[i].rank = p.rank;
    for (int d = 0; d < p.rank; d++) tensors[i].dims[d] = p.dims[d];
    tensors[i].data = p.values, tensors[i].bytes = p.count * sizeof(float);
  }
  char *path = join_path(home, file);
  if (cn_safetensors_write(path, tensors, count, NULL, 0, &error)) fail_msg("%s", error.message);
  free(path);
  free(tensors);
  cn_network_free(net);
}

static void test_networks_by_name(void **state) {
  (void)state;
  cn_error error;
  cn_arch_options options = {32, 32, 1, 7, 0};
  write_state_dict("dict.safetensors", "squeezenet1_1", &options);
  assert_ran(shell("$train --data pictures --arch squeezenet1_1 --input 32x32x1 --batch 60 "
                   "--init dict.safetensors --freeze features. --epochs 1 --out squeezed"));
  assert_contains(err_text, "classifier.1");
  assert_contains(err_text, "replaced by one for 4 classes");
  assert_refused(shell("$train --data pictures --init dict.safetensors --out m --quiet"), 1,
                 "dict.safetensors", "--arch");
  /* frozen layers are the state dict's, and the auxiliary heads get the number of classes too */
  char *paths[2] = {join_path(home, "dict.safetensors"), join_path(home, "squeezed")};
  cn_safetensors *before = cn_safetensors_read(paths[0], &error),
                 *after = cn_safetensors_read(paths[1], &error);
  assert_non_null(before);
  assert_non_null(after);
  const char *same = "features.3.squeeze.weight", *other = "classifier.1.weight";
  assert_memory_equal(cn_safetensors_find(before, same)->data, cn_safetensors_find(after, same)->data,
                      cn_safetensors_find(before, same)->bytes);
  assert_int_equal(cn_safetensors_find(before, other)->dims[0], 7);
  assert_int_equal(cn_safetensors_find(after, other)->dims[0], 4);
  cn_safetensors_free(before);
  cn_safetensors_free(after);
  free(paths[0]);
  free(paths[1]);
  assert_ran(shell("$train --data pictures --arch googlenet --auxiliary --input 32x32x1 --batch 60 "
                   "--epochs 1 --out helped --quiet"));
  char *path = join_path(home, "helped");
  cn_network *net = cn_load(path, &error);
  assert_non_null(net);
  assert_contains(cn_network_text(net), "aux1: softmax loss=0.3");
  assert_int_equal(cn_network_node(net, cn_network_find(net, "aux1.fc2"))->filters, 4);
  assert_int_equal(cn_network_node(net, cn_network_find(net, "aux2.fc2"))->filters, 4);
  cn_network_free(net);
  free(path);
  assert_refused(shell("$train --data pictures --arch vgg11 --input 9x9x1 --out m"), 2, "32x32", "");
  assert_refused(shell("$train --data pictures --arch vgg11 --input 9x9 --out m"), 2, "9x9", "");
  assert_refused(shell("$train --data pictures --arch lenet --auxiliary --out m"), 2, "auxiliary",
                 "");
  assert_refused(shell("$train --data pictures --arch tiny.net --input 9x9x1 --out m"), 2,
                 "tiny.net", "built-in");
}

static void test_bad_models(void **state) {
  (void)state;
  assert_ran(
      shell("$train --data small:train --arch tiny.net --epochs 1 --out good.safetensors --quiet"));
  assert_ran(shell("head -c 900 good.safetensors >cut.safetensors"));
  assert_refused(shell("$train --data small:train --init cut.safetensors --out m --quiet"), 1,
                 "cut.safetensors", "");
  assert_refused(shell("$evaluate --model cut.safetensors --data small:test --quiet --out rep"), 1,
                 "cut.safetensors", "");
  write_words("words.safetensors", "these are words, not a model");
  assert_refused(shell("$train --data small:train --init words.safetensors --out m --quiet"), 1,
                 "words.safetensors", "");
  assert_refused(shell("$evaluate --model words.safetensors --data small:test --quiet"), 1,
                 "words.safetensors", "");
  assert_refused(shell("$evaluate --model none.safetensors --data small:test --quiet"), 1,
                 "none.safetensors", "");
  assert_absent("m");
  assert_absent("rep/predictions.csv");
}

/* A disk that fills up, played by a limit on the size of files: the old files stay, nothing is
   left. */
static void test_full_disk(void **state) {
  (void)state;
  assert_ran(
      shell("mkdir full && cd full && $train --data ../small:train --arch ../tiny.net --epochs 1 "
            "--out m --quiet && cp m ../m.before"));
  const char *again =
      "cd full && (ulimit -f 4; $train --data ../small:train --arch ../tiny.net --epochs 1 "
      "--out m --seed 9 --quiet)";
  assert_refused(shell("%s", again), 1, "tally-train: ", "m");
  assert_same_files("full/m", "m.before");
  assert_ran(
      shell("test \"$(ls full | tr '\\n' ' ')\" = 'm m.checkpoint ' || { ls full >&2; exit 1; }"));
  assert_refused(
      shell("(ulimit -f 4; $evaluate --model m.before --data small:test --out full-report "
            "--quiet)"),
      1, "full-report/predictions.csv", "");
  assert_ran(shell("test -z \"$(ls full-report)\""));
  assert_refused(shell("$evaluate --model m.before --data small:test --quiet >/dev/full"), 1,
                 "standard output", "");
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static void write_table(const char *name, const int cells[4]) {
  text_buffer table = {0};
  text_add(&table, "id,truth,prediction\n");
  for (int i = 0; i < 4; i++)
    for (int n = 0; n < cells[i]; n++)
      text_add(&table, "%d,%s,%s\n", n, i / 2 ? "yes" : "no", i % 2 ? "yes" : "no");
  write_home(name, table.data, table.length);
  free(table.data);
}

/* Webb Williams, Casas & Wilkerson (2020), the two tables of an autotagger against hand coding. */
static void test_book_tables(void **state) {
  (void)state;
  size_t size;
  write_table("crowd.csv", (const int[4]){321, 72, 48, 374});
  assert_ran(shell("$evaluate --predictions crowd.csv --positive yes --out crowd"));
  assert_int_equal((int)result("n"), 815);
  assert_true(fabs(result("accuracy") - 0.853) < 0.0005);
  assert_true(fabs(result("precision") - 0.839) < 0.0005);
  assert_true(fabs(result("recall") - 0.886) < 0.0005);
  assert_true(fabs(result("f1") - 2 * 374.0 / (446 + 422)) < 1e-8);
  assert_contains(out_text, "yes against the rest: precision 0.8386, recall 0.8863");
  assert_refused(shell("$evaluate --predictions crowd.csv --positive maybe"), 1, "maybe",
                 "2 classes (no to yes)");
  char *table = contents("crowd/classes.csv", &size);
  assert_contains(table, "class,n,predicted,right,precision,recall,f1\n");
  assert_contains(table, "yes,422,446,374,0.838565,0.886256,");
  free(table);
  table = contents("crowd/confusion.csv", &size);
  assert_string_equal(table, "truth,no,yes\nno,321,72\nyes,48,374\n");
  free(table);
  write_table("celebrity.csv", (const int[4]){779, 0, 5, 31});
  assert_ran(shell("$evaluate --predictions celebrity.csv --positive yes"));
  assert_true(result("precision") == 1 && fabs(result("recall") - 0.861) < 0.0005);
  assert_true(fabs(result("accuracy") - 0.994) < 0.0005);
  assert_contains(out_text, "1.0000  0.8611");
}

static void test_macro_figures(void **state) {
  (void)state;
  write_words("p.csv", "truth,prediction\na,a\na,b\nb,b\nc,a\n");
  assert_ran(shell("$evaluate --predictions p.csv"));
  assert_true(fabs(result("accuracy") - 0.5) < 1e-8);
  assert_true(fabs(result("macro_precision") - (0.5 + 0.5 + 0) / 3) < 1e-8);
  assert_true(fabs(result("macro_recall") - (0.5 + 1 + 0) / 3) < 1e-8);
  assert_true(fabs(result("macro_f1") - (0.5 + 2.0 / 3 + 0) / 3) < 1e-8);
  /* numbers sort as numbers */
  write_words("p.csv", "truth,prediction\n10,9\n2,2\n");
  assert_ran(shell("$evaluate --predictions p.csv --out numbers"));
  size_t size;
  char *table = contents("numbers/confusion.csv", &size);
  assert_contains(table, "truth,2,9,10\n");
  free(table);
  write_words("p.csv", "truth,prediction\na,\n");
  assert_refused(shell("$evaluate --predictions p.csv"), 1, "p.csv: line 2", "prediction");
  write_words("p.csv", "truth,prediction\n");
  assert_refused(shell("$evaluate --predictions p.csv"), 1, "p.csv", "no rows");
  assert_refused(shell("$evaluate --predictions none.csv"), 1, "none.csv", "No such file");
}

static void test_report(void **state) {
  (void)state;
  assert_ran(shell("$train " RECIPE "--epochs 2 --out report.safetensors --quiet"));
  assert_ran(
      shell("$evaluate --model report.safetensors --data small:test --threads 1 --out one-report"));
  double accuracy = result("accuracy"), f1 = result("macro_f1");
  assert_contains(out_text, "confusion (rows: truth, columns: prediction)");
  assert_ran(shell("$evaluate --model report.safetensors --data small:test --threads 2 --batch 50 "
                   "--out two-report"));
  assert_same_files("one-report/predictions.csv", "two-report/predictions.csv");
  assert_same_files("one-report/mistakes.png", "two-report/mistakes.png");
  /* the table of predictions says the same when it is read back */
  assert_ran(shell("$evaluate --predictions one-report/predictions.csv --out back-report"));
  assert_int_equal((int)result("n"), 203);
  assert_true(result("accuracy") == accuracy && fabs(result("macro_f1") - f1) < 1e-9);
  assert_same_files("one-report/confusion.csv", "back-report/confusion.csv");
  assert_same_files("one-report/classes.csv", "back-report/classes.csv");
  char *path = join_path(home, "one-report/predictions.csv");
  csv table = csv_open(path);
  assert_string_equal(table.fields[0], "index");
  assert_string_equal(table.fields[7], "p_3");
  while (csv_row(&table)) {
    double sum = 0;
    for (int k = 0; k < 4; k++) sum += atof(table.fields[4 + k]);
    assert_true(fabs(sum - 1) < 1e-4);
    assert_string_equal(table.fields[3], table.fields[4 + atoi(table.fields[2])]);
  }
  csv_close(&table);
  free(path);
  int width, height, channels;
  path = join_path(home, "one-report/mistakes.png");
  uint8_t *pixels = stbi_load(path, &width, &height, &channels, 0);
  assert_non_null(pixels);
  stbi_image_free(pixels);
  free(path);
}

/* ---- inside: what pictures pass through ------------------------------------------------------ */

static void test_resize(void **state) {
  (void)state;
  uint8_t from[6 * 8 * 3], to[200 * 3];
  for (int i = 0; i < 6 * 8 * 3; i++) from[i] = (uint8_t)(i % 3 * 100 + 7);
  resize_squash(from, 6, 8, to, 10, 20, 3);
  for (int i = 0; i < 200 * 3; i++) assert_int_equal(to[i], i % 3 * 100 + 7);
  /* shrinking weighs every pixel: a single bright one is not lost */
  memset(from, 0, sizeof from);
  from[3 * 8 + 3] = 255;
  resize_squash(from, 6, 8, to, 1, 1, 1);
  assert_in_range(to[0], 4, 9);
  /* enlarging is linear between centres: 0 at 1/4, 100 at 3/4 of the width */
  static const uint8_t ramp[2] = {0, 100};
  const uint8_t wanted[8] = {0, 0, 13, 38, 63, 88, 100, 100};
  resize_squash(ramp, 1, 2, to, 1, 8, 1);
  for (int i = 0; i < 8; i++) assert_int_equal(to[i], wanted[i]);
}

static void test_channels(void **state) {
  (void)state;
  const uint8_t rgba[8] = {10, 20, 30, 255, 10, 20, 30, 0}, grey_alpha[2] = {0, 128};
  uint8_t to[6];
  convert_channels(rgba, 4, to, 3, 2);
  const uint8_t wanted[6] = {10, 20, 30, 255, 255, 255};
  assert_memory_equal(to, wanted, 6);
  convert_channels(rgba, 4, to, 1, 2);
  assert_int_equal(to[0], 18);
  assert_int_equal(to[1], 255);
  convert_channels(grey_alpha, 2, to, 3, 1);
  assert_int_equal(to[0], 127);
  assert_int_equal(to[2], 127);
}

static preprocess plain_preprocess(int height, int width, int channels) {
  preprocess pre = {0};
  pre.height = height;
  pre.width = width;
  pre.channels = channels;
  preprocess_set(&pre, (float[3]){0.1f, 0.2f, 0.3f}, (float[3]){0.5f, 1, 2});
  return pre;
}

static void augment_once(const augmentation *set, const preprocess *pre, const uint8_t *bytes,
                         uint64_t seed, float *to) {
  augmenter with = augmenter_create(set, pre);
  augment_room room = augment_room_create(pre);
  cn_random random = {seed, 0};
  warp_picture(&with, bytes, &random, room.padded, to);
  augment_room_free(&room);
  augmenter_free(&with);
}

static void test_augmentation(void **state) {
  (void)state;
  enum { H = 9, W = 14, N = H * W * 3 };
  preprocess pre = plain_preprocess(H, W, 3);
  uint8_t bytes[N];
  float plain[N], warped[N];
  augmentation set = {0};
  cn_random random = {3, 0};
  for (int i = 0; i < N; i++) bytes[i] = (uint8_t)cn_random_below(&random, 256);
  preprocess_bytes(&pre, bytes, plain);
  for (int i = 0; i < N; i++)
    assert_true(fabsf(plain[i] - ((float)bytes[i] / 255 - pre.mean[i % 3]) / pre.deviation[i % 3]) <
                1e-6f);
  augment_once(&set, &pre, bytes, 1, warped);
  for (int i = 0; i < N; i++) assert_true(fabsf(plain[i] - warped[i]) < 1e-5f);
  /* mirrored or not, both happen, nothing else */
  int mirrored = 0;
  set.flip = 1;
  for (uint64_t seed = 0; seed < 40; seed++) {
    augment_once(&set, &pre, bytes, seed, warped);
    int same = fabsf(warped[0] - plain[0]) < 1e-4f && fabsf(warped[3] - plain[3]) < 1e-4f;
    mirrored += !same;
    for (int y = 0; y < H; y++)
      for (int x = 0; x < W; x++)
        for (int c = 0; c < 3; c++) {
          float wanted = plain[(y * W + (same ? x : W - 1 - x)) * 3 + c];
          assert_true(fabsf(warped[(y * W + x) * 3 + c] - wanted) < 1e-4f);
        }
  }
  assert_in_range(mirrored, 8, 32);
  /* far away from everything there is only black */
  memset(&set, 0, sizeof set);
  set.shift = 10000;
  augment_once(&set, &pre, bytes, 5, warped);
  for (int i = 0; i < N; i++)
    assert_true(fabsf(warped[i] + pre.mean[i % 3] / pre.deviation[i % 3]) < 1e-5f);
}

/* The displacement of --elastic has the root mean square that it promises: on a ramp the value read
   at a pixel tells where it came from. */
static void test_elastic_strength(void **state) {
  (void)state;
  enum { S = 200 };
  preprocess pre = plain_preprocess(S, S, 1);
  preprocess_set(&pre, (float[3]){0, 0, 0}, (float[3]){1, 1, 1});
  uint8_t *bytes = allocate(S * S, 1);
  float *warped = allocate(S * S, sizeof(float));
  augmentation set = {0};
  set.elastic = 1.5f;
  for (int i = 0; i < S * S; i++) bytes[i] = (uint8_t)(i % S);
  double squares = 0;
  int count = 0;
  for (uint64_t seed = 0; seed < 60; seed++) {
    augment_once(&set, &pre, bytes, seed, warped);
    for (int y = 20; y < S - 20; y++)
      for (int x = 20; x < S - 20; x++, count++) {
        double moved = (double)warped[y * S + x] * 255 - x;
        squares += moved * moved;
      }
  }
  assert_true(fabs(sqrt(squares / count) - 1.5) < 0.15);
  free(bytes);
  free(warped);
}

/* ---- MNIST ----------------------------------------------------------------------------------- */

static void test_mnist(void **state) {
  (void)state;
  if (!is_file("data/train-images-idx3-ubyte")) {
    print_message("data/ does not hold MNIST (make data)\n");
    skip();
  }
  char here[PATH_MAX];
  assert_non_null(getcwd(here, sizeof here));
  assert_ran(
      shell("$train --data %s/data:train --val %s/data:test --arch base --epochs 1 --out mnist",
            here, here));
  assert_true(result("val_accuracy") > 0.96);
  double accuracy = result("val_accuracy");
  assert_ran(shell("$evaluate --model mnist --data %s/data:test --quiet", here));
  assert_true(fabs(result("accuracy") - accuracy) < 1e-9);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_usage),
      cmocka_unit_test(test_training_learns),
      cmocka_unit_test(test_temperature),
      cmocka_unit_test(test_calibration_error),
      cmocka_unit_test(test_fit_temperature),
      cmocka_unit_test(test_quiet),
      cmocka_unit_test(test_without_validation),
      cmocka_unit_test(test_last_batch),
      cmocka_unit_test(test_split),
      cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_kill_and_resume),
      cmocka_unit_test(test_resume),
      cmocka_unit_test(test_early_stopping),
      cmocka_unit_test(test_not_finite),
      cmocka_unit_test(test_folder_and_csv),
      cmocka_unit_test(test_missing_class),
      cmocka_unit_test(test_bad_pictures),
      cmocka_unit_test(test_bad_csv),
      cmocka_unit_test(test_bad_idx),
      cmocka_unit_test(test_bad_networks),
      cmocka_unit_test(test_fine_tuning),
      cmocka_unit_test(test_networks_by_name),
      cmocka_unit_test(test_bad_models),
      cmocka_unit_test(test_full_disk),
      cmocka_unit_test(test_book_tables),
      cmocka_unit_test(test_macro_figures),
      cmocka_unit_test(test_report),
      cmocka_unit_test(test_resize),
      cmocka_unit_test(test_channels),
      cmocka_unit_test(test_augmentation),
      cmocka_unit_test(test_elastic_strength),
      cmocka_unit_test(test_mnist),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
