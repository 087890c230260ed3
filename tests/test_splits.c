/* test_splits.c - what is checked with was not learnt from: copies and groups stay on one side of a
   split, a resumed run is the run that it goes on with, and batch normalisation never sees one value.

   Build:  make bin/tally-train build/tests/test_splits
   Run:    build/tests/test_splits     in the repository's root; BIN=folder of programs */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_splits"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/csv.h"
#include "../tools/dataset.h"
#include "../tools/output.h"
#include "../tools/implementations/stb.h"
#include "../tools/split.h"
#include "../tools/implementations/stb.h"
#include "support.h"

#include "programs.h"

/* ---- data -------------------------------------------------------------------------------------- */

#define SIDE 8
#define CLASSES 4

static const char network[] = "input 8x8x1\ndense 64\nrelu\ndense 4\nsoftmax\n";

static void random_pixels(uint8_t *to, uint64_t seed) {
  cn_random random = {seed, 0};
  for (int i = 0; i < SIDE * SIDE; i++) to[i] = (uint8_t)cn_random_below(&random, 256);
}

/* A label that nobody can tell from the picture. */
static int random_label(int number) {
  cn_random random = {777, 0};
  int label = 0;
  for (int i = 0; i <= number; i++) label = (int)cn_random_below(&random, CLASSES);
  return label;
}

/* The picture of a number, as a file; `change` alters one pixel by so much. */
static void write_picture(const char *name, int number, int change) {
  uint8_t pixels[SIDE * SIDE];
  char *path = join_path(home, name);
  random_pixels(pixels, (uint64_t)number + 1);
  pixels[0] = (uint8_t)(pixels[0] + change);
  assert_true(strcmp(ending_of(path, (char[16]){0}), "bmp")
                  ? stbi_write_png(path, SIDE, SIDE, 1, pixels, 0)
                  : stbi_write_bmp(path, SIDE, SIDE, 1, pixels));
  free(path);
}

static void make_home_folder(const char *name) {
  char *path = join_path(home, name);
  make_folder(path);
  free(path);
}

static int setup(void **state) {
  (void)state;
  if (!open_home("tally-splits")) return -1;
  write_words("random.net", network);
  make_home_folder("one");
  for (int i = 0; i < 100; i++) {
    char name[64];
    snprintf(name, sizeof name, "one/%03d.png", i);
    write_picture(name, i, 0);
  }
  return 0;
}

/* Learns until it knows every picture by heart. */
#define BY_HEART                                                                                   \
  "--arch random.net --epochs 40 --batch 50 --lr 0.01 --schedule constant --threads 2 "

/* ---- groups and splits ------------------------------------------------------------------------- */

/* A data set of `count` samples without pictures; sample i has the content contents[i]. */
static dataset bare_dataset(int count, const int *labels, int classes, const int *same_content) {
  dataset data = {0};
  data.name = copy_text("bare");
  data.set = classes_numbered(classes);
  data.count = count;
  data.labels = allocate((size_t)count, sizeof(int));
  data.prints = allocate((size_t)count, sizeof *data.prints);
  for (int i = 0; i < count; i++) {
    data.labels[i] = labels[i];
    fingerprint_word(&data.prints[i], (uint64_t)(same_content ? same_content[i] : i));
  }
  return data;
}

static void group_by(dataset *data, const int *values) {
  data->groups = allocate((size_t)data->count, sizeof *data->groups);
  for (int i = 0; i < data->count; i++) fingerprint_word(&data->groups[i], (uint64_t)values[i]);
}

/* Every sample is in one part, in order, and no group in both. Returns the number that was taken. */
static int assert_split(const dataset *data, const sample_groups *groups, const split *parts) {
  char *side = allocate((size_t)data->count, 1);
  assert_int_equal(parts->taken_count + parts->rest_count, data->count);
  for (int i = 0; i < parts->taken_count; i++) {
    assert_true(i == 0 || parts->taken[i] > parts->taken[i - 1]);
    side[parts->taken[i]] = 1;
  }
  for (int i = 0; i < parts->rest_count; i++) {
    assert_true(i == 0 || parts->rest[i] > parts->rest[i - 1]);
    assert_int_equal(side[parts->rest[i]], 0);
  }
  for (int i = 0; i < data->count; i++) assert_int_equal(side[i], side[groups->first[i]]);
  free(side);
  return parts->taken_count;
}

/* Where no two samples belong together, each class gives its rounded share, the first ones of a
   shuffle that depends on the seed and the class alone. */
static void test_single_samples(void **state) {
  (void)state;
  enum { COUNT = 1000 };
  int labels[COUNT], members[COUNT];
  for (int i = 0; i < COUNT; i++) labels[i] = random_label(i) % 3 * 2; /* class 1 does not occur */
  dataset data = bare_dataset(COUNT, labels, 5, NULL);
  sample_groups groups = groups_of_samples(&data);
  assert_int_equal(groups.count, COUNT);
  for (uint64_t seed = 1; seed < 6; seed++) {
    double share = 0.07 * (double)seed;
    char wanted[COUNT] = {0};
    for (int k = 0; k < 5; k++) {
      int count = 0;
      for (int i = 0; i < COUNT; i++)
        if (labels[i] == k) members[count++] = i;
      cn_random random = {mix_seed(seed, (uint64_t)k), 0};
      cn_random_shuffle(&random, members, count);
      for (int i = 0; i < (int)lround(share * count); i++) wanted[members[i]] = 1;
    }
    split parts = split_groups(&data, &groups, share, seed);
    assert_split(&data, &groups, &parts);
    for (int i = 0; i < parts.taken_count; i++) assert_int_equal(wanted[parts.taken[i]], 1);
    for (int i = 0; i < parts.rest_count; i++) assert_int_equal(wanted[parts.rest[i]], 0);
    split_free(&parts);
  }
  groups_free(&groups);
  dataset_free(&data);
}

/* Copies in groups of one to seven: each class comes as near to its share as a group is large. */
static void test_copies_stay_together(void **state) {
  (void)state;
  enum { COUNT = 2000 };
  int labels[COUNT], same[COUNT], wanted[CLASSES] = {0};
  for (int i = 0; i < COUNT; i++) {
    same[i] = i * 7 % COUNT / (1 + i * 7 % COUNT % 7);
    labels[i] = same[i] % CLASSES;
    wanted[labels[i]]++;
  }
  dataset data = bare_dataset(COUNT, labels, CLASSES, same);
  sample_groups groups = groups_of_samples(&data);
  assert_true(groups.count < COUNT);
  for (int i = 0; i < COUNT; i++) {
    assert_int_equal(same[groups.first[i]], same[i]);
    for (int j = 0; j < groups.first[i]; j++) assert_int_not_equal(same[j], same[i]);
  }
  for (uint64_t seed = 1; seed < 9; seed++) {
    split parts = split_groups(&data, &groups, 0.3, seed), again;
    int taken[CLASSES] = {0};
    assert_split(&data, &groups, &parts);
    for (int i = 0; i < parts.taken_count; i++) taken[labels[parts.taken[i]]]++;
    for (int k = 0; k < CLASSES; k++)
      assert_true(abs(taken[k] - (int)lround(0.3 * wanted[k])) <= 3);
    again = split_groups(&data, &groups, 0.3, seed);
    assert_int_equal(again.taken_count, parts.taken_count);
    assert_memory_equal(again.taken, parts.taken, (size_t)parts.taken_count * sizeof(int));
    split_free(&again);
    again = split_groups(&data, &groups, 0.3, seed + 100);
    assert_true(again.taken_count != parts.taken_count ||
                memcmp(again.taken, parts.taken, (size_t)parts.taken_count * sizeof(int)) != 0);
    split_free(&again);
    split_free(&parts);
  }
  groups_free(&groups);
  dataset_free(&data);
}

/* Tallies of 30 to 49 digits, in which every class occurs: the share is kept, also of each class, and
   no class draws tallies to one side. */
static void test_groups_of_many_classes(void **state) {
  (void)state;
  enum { TALLIES = 100, COUNT = 4000, SEEDS = 40 };
  int labels[COUNT], tally[COUNT], count = 0, all[10] = {0};
  double taken[10] = {0};
  cn_random random = {5, 0};
  for (int t = 0; t < TALLIES; t++)
    for (int digits = 30 + (int)cn_random_below(&random, 20); digits && count < COUNT; digits--) {
      tally[count] = t;
      labels[count] = (int)cn_random_below(&random, 10) * (int)cn_random_below(&random, 2);
      all[labels[count++]]++;
    }
  dataset data = bare_dataset(count, labels, 10, NULL);
  group_by(&data, tally);
  sample_groups groups = groups_of_samples(&data);
  assert_int_equal(groups.count, TALLIES);
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    split parts = split_groups(&data, &groups, 0.2, seed);
    int part = assert_split(&data, &groups, &parts), first_half = 0;
    if (abs(part - count / 5) > 50) fail_msg("%d of %d are taken", part, count);
    for (int i = 0; i < parts.taken_count; i++) {
      taken[labels[parts.taken[i]]]++;
      first_half += parts.taken[i] < count / 2;
    }
    assert_true(first_half > part / 10 && first_half < part - part / 10);
    split_free(&parts);
  }
  for (int k = 0; k < 10; k++) assert_near("share", taken[k] / SEEDS / all[k], 0.2, 0.1);
  groups_free(&groups);
  dataset_free(&data);
}

/* A copy of a picture in another tally joins the two tallies, and further ones through them. */
static void test_groups_join(void **state) {
  (void)state;
  const int labels[11] = {0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 1};
  const int same[11] = {10, 11, 11, 12, 13, 14, 15, 10, 16, 17, 17};
  const int tally[11] = {1, 1, 2, 2, 3, 3, 4, 5, 4, 6, 3};
  const int expected[11] = {0, 0, 0, 0, 4, 4, 6, 0, 6, 4, 4};
  dataset data = bare_dataset(11, labels, 2, same);
  group_by(&data, tally);
  sample_groups groups = groups_of_samples(&data);
  assert_int_equal(groups.count, 3);
  assert_memory_equal(groups.first, expected, sizeof expected);
  groups_free(&groups);
  dataset_free(&data);
}

static void test_common(void **state) {
  (void)state;
  const int labels[6] = {0};
  dataset a = bare_dataset(6, labels, 1, (const int[6]){1, 2, 2, 3, 9, 4});
  dataset b = bare_dataset(5, labels, 1, (const int[5]){2, 5, 9, 2, 0});
  dataset none = bare_dataset(2, labels, 1, (const int[2]){70, 80});
  assert_int_equal(count_common(&a, &b), 3);
  assert_int_equal(count_common(&b, &a), 3);
  assert_int_equal(count_common(&a, &none), 0);
  dataset_free(&a);
  dataset_free(&b);
  dataset_free(&none);
}

/* ---- what a run does with them ----------------------------------------------------------------- */

/* What was learnt is known by heart, and what was put aside is not, by the last row of a log. */
static void check_random(const char *log_name) {
  size_t size;
  char *log = contents(log_name, &size);
  double learnt = 0, aside = 1;
  assert_non_null(log);
  char *last = strstr(log, "\n40,");
  assert_non_null(last);
  assert_int_equal(sscanf(last + 1, "40,%*f,%*f,%lf,%*f,%lf", &learnt, &aside), 2);
  free(log);
  if (learnt < 0.99 || aside > 0.55)
    fail_msg("of random labels %g are learnt, %g known without", learnt, aside);
}

/* Labels say nothing about the pictures, so whoever reads a picture right that it was not shown has
   been shown it. Each is listed five times: spelled otherwise, as a link, and as another file. */
static void test_random_labels(void **state) {
  (void)state;
  text_buffer table = {0};
  make_home_folder("other");
  text_add(&table, "path,label\n");
  for (int i = 0; i < 100; i++) {
    char name[64];
    snprintf(name, sizeof name, "other/%03d.bmp", i);
    write_picture(name, i, 0);
    assert_ran(
        shell("ln one/%03d.png other/hard-%03d.png && ln -s ../one/%03d.png other/soft-%03d.png", i,
              i, i, i));
    text_add(&table, "one/%03d.png,%d\n", i, random_label(i));
    text_add(&table, "./other/../one/%03d.png,%d\n", i, random_label(i));
    text_add(&table, "other/hard-%03d.png,%d\n", i, random_label(i));
    text_add(&table, "other/soft-%03d.png,%d\n", i, random_label(i));
    text_add(&table, "other/%03d.bmp,%d\n", i, random_label(i));
  }
  write_words("five.csv", table.data);
  assert_ran(shell("$train --data five.csv --val 0.25 " BY_HEART "--out five --log f.csv"));
  assert_contains(err_text, "400 of 500 pictures are copies of others");
  assert_contains(err_text, "learns from 370 pictures of 8x8x1, checks with 130 pictures");
  assert_null(strstr(err_text, "have another label"));
  assert_null(strstr(err_text, "no picture to"));
  check_random("f.csv");
  free(table.data);
}

/* Pictures that differ in one pixel are no copies; a column tells that they belong together. */
static void test_group_column(void **state) {
  (void)state;
  text_buffer table = {0};
  make_home_folder("alike");
  text_add(&table, "path,label,Writer,blank\n");
  for (int i = 0; i < 300; i++) {
    char name[64];
    snprintf(name, sizeof name, "alike/%03d.png", i);
    write_picture(name, i / 5, i % 5 + 1);
    text_add(&table, "%s,%d, writer %d ,%s\n", name, random_label(i / 5), i / 5,
             i == 7 ? " " : "x");
  }
  write_words("alike.csv", table.data);
  assert_ran(shell("$train --data alike.csv --val 0.2 " BY_HEART "--out a --log a.csv"));
  assert_null(strstr(err_text, "copies"));
  assert_true(result("val_accuracy") > 0.9);
  assert_ran(
      shell("$train --data alike.csv --val 0.2 --group writer " BY_HEART "--out a --log a.csv"));
  assert_contains(err_text, "300 pictures are 60 groups by writer");
  assert_contains(err_text, "learns from 240 pictures of 8x8x1, checks with 60 pictures");
  check_random("a.csv");
  free(table.data);
  /* what cannot be grouped is refused */
  const char *train = "$train --arch random.net --quiet --out refused ";
  assert_int_equal(shell("%s --data alike.csv --val 0.2 --group page", train), 1);
  assert_contains(err_text, "alike.csv: line 1: there is no column \"page\"");
  assert_int_equal(shell("%s --data alike.csv --val 0.2 --group blank", train), 1);
  assert_contains(err_text, "alike.csv: line 9: the blank is empty");
  assert_ran(shell("sed -i 's/,x$/,all/; s/, $/,all/' alike.csv"));
  assert_int_equal(shell("%s --data alike.csv --val 0.2 --group blank", train), 1);
  assert_contains(err_text, "leaves 300 pictures to train on and 0 to check with");
  assert_contains(err_text, "groups: 1");
  assert_int_equal(shell("%s --data one --val 0.2 --group writer", train), 1);
  assert_contains(err_text, "one has no column \"writer\": groups are named in a CSV file");
  assert_int_equal(shell("%s --data one:train --val 0.2 --group writer", train), 1);
  assert_contains(err_text, "one:train has no column \"writer\"");
  assert_int_equal(shell("%s --data alike.csv --group writer", train), 2);
  assert_contains(err_text, "--group says what --val FRACTION keeps together; --val is missing");
  assert_int_equal(shell("%s --data alike.csv --val alike.csv --group writer", train), 2);
  assert_contains(err_text, "--val is a data set");
}

/* One picture with two labels, and classes that are on one side only, are called by name. */
static void test_what_is_said(void **state) {
  (void)state;
  text_buffer table = {0};
  text_add(&table, "path,label\n");
  for (int i = 0; i < 40; i++) text_add(&table, "one/%03d.png,%s\n", i, i % 2 ? "odd" : "even");
  for (int i = 0; i < 3; i++) text_add(&table, "one/050.png,rare\n");
  text_add(&table, "one/051.png,single\n./one/004.png,odd\n");
  write_words("said.csv", table.data);
  const char *train = "$train --data said.csv --arch said.net --epochs 1 --out said ";
  write_words("said.net", network);
  assert_ran(shell("%s --val 0.25", train));
  assert_contains(err_text, "said.csv: 3 of 45 pictures are copies of others");
  assert_contains(
      err_text,
      "1 of 45 pictures have another label than one of the same pixels: ./one/004.png is labelled "
      "\"even\", ././one/004.png \"odd\"");
  assert_contains(err_text, "no picture to check with of 2 of 4 classes");
  assert_contains(err_text, "\"rare\" (pictures 3, groups 1), \"single\" (pictures 1, groups 1)");
  assert_null(strstr(err_text, "learn from of"));
  assert_ran(shell("%s --val 0.75", train));
  assert_contains(err_text, "no picture to learn from of 2 of 4 classes");
  assert_ran(shell("%s --val 0.25 --quiet", train));
  assert_string_equal(err_text, "");
  free(table.data);
}

/* Pictures that cannot be read take nobody's content or group with them. */
static void test_skipped_pictures(void **state) {
  (void)state;
  write_words("skipped.csv", "path,label,page\nnone.png,a,1\none/001.png,a,2\none/002.png,b,2\n"
                             "one/003.png,a,3\none/004.png,b,4\none/001.png,a,4\n");
  write_words("two.net", "input 8x8x1\ndense 2\nsoftmax\n");
  assert_ran(shell("$train --data skipped.csv --val 0.5 --group page --arch two.net --epochs 1 "
                   "--skip-bad --out s"));
  assert_contains(err_text, "1 of 6 pictures cannot be read");
  assert_contains(err_text, "1 of 5 pictures are copies of others");
  assert_contains(err_text, "5 pictures are 2 groups by page");
}

/* Another data set to check with: what it shares with the first is counted, not removed. */
static void test_shared_validation(void **state) {
  (void)state;
  text_buffer here = {0}, there = {0};
  text_add(&here, "path,label\n");
  text_add(&there, "path,label\n");
  for (int i = 0; i < 60; i++) text_add(&here, "one/%03d.png,%d\n", i, i % CLASSES);
  for (int i = 53; i < 100; i++) text_add(&there, "%s/one/%03d.png,%d\n", home, i, i % CLASSES);
  write_words("here.csv", here.data);
  write_words("there.csv", there.data);
  assert_ran(shell("$train --data here.csv --val there.csv --arch random.net --epochs 1 --out s"));
  assert_contains(err_text, "there.csv: 7 of 47 pictures are in here.csv too");
  assert_contains(err_text, "too good");
  assert_int_equal((int)result("val_copies"), 7);
  assert_contains(err_text, "checks with 47 pictures");
  assert_ran(shell("sed -i '/05[0-9].png/d' there.csv"));
  assert_ran(shell("$train --data here.csv --val there.csv --arch random.net --epochs 1 --out s"));
  assert_null(strstr(err_text, "too good"));
  assert_int_equal((int)result("val_copies"), 0);
  free(here.data);
  free(there.data);
}

/* IDX files have copies too. `each` times the same pictures, in one folder. */
static void write_idx(const char *folder, int pictures, int each) {
  text_buffer images = {0}, labels = {0};
  uint8_t pixels[SIDE * SIDE];
  char name[128];
  int count = pictures * each;
  const uint8_t head[16] = {0, 0,    8, 3, 0, 0,   (uint8_t)(count >> 8), (uint8_t)count, 0, 0,
                            0, SIDE, 0, 0, 0, SIDE};
  make_home_folder(folder);
  text_append(&images, (const char *)head, 16);
  text_append(&labels, (const char *)(const uint8_t[4]){0, 0, 8, 1}, 4);
  text_append(&labels, (const char *)head + 4, 4);
  for (int i = 0; i < count; i++) {
    char label = (char)random_label(i % pictures);
    random_pixels(pixels, (uint64_t)(i % pictures) + 1);
    text_append(&images, (const char *)pixels, sizeof pixels);
    text_append(&labels, &label, 1);
  }
  snprintf(name, sizeof name, "%s/train-images-idx3-ubyte", folder);
  write_home(name, images.data, images.length);
  snprintf(name, sizeof name, "%s/train-labels-idx1-ubyte", folder);
  write_home(name, labels.data, labels.length);
  free(images.data);
  free(labels.data);
}

static void test_idx_copies(void **state) {
  (void)state;
  write_idx("idx", 80, 3);
  assert_ran(shell("$train --data idx:train --val 0.25 " BY_HEART "--out i --log i.csv"));
  assert_contains(err_text, "idx:train: 160 of 240 pictures are copies of others");
  check_random("i.csv");
  /* the same pixels in files, for a network of another size and of colours */
  write_words("colour.net", "input 5x5x3\ndense 4\nsoftmax\n");
  assert_ran(shell("printf 'path,label\\none/003.png,1\\none/090.png,0\\n' >files.csv"));
  assert_ran(shell("$train --data idx:train --val files.csv --resize squash --arch colour.net "
                   "--epochs 1 --out i"));
  assert_int_equal((int)result("val_copies"), 1);
}

/* ---- resuming ---------------------------------------------------------------------------------- */

/* Trains for an epoch in a fresh folder `run`, changes something by a shell command, and expects the
   resumed run to be refused for what is named. options: of both runs; more: of the resumed one. */
static void refuse_resume(const char *options, const char *change, const char *more,
                          const char *what) {
  assert_ran(shell("rm -rf run && mkdir run && cp -r resume/* run"));
  assert_ran(shell("$train %s --epochs 1 --schedule constant --out run/m", options));
  assert_ran(
      shell("cp run/m run/before && cp run/m.checkpoint run/before.checkpoint && %s", change));
  int code = shell("$train %s --epochs 3 --schedule constant --out run/m --resume --quiet %s",
                   options, more);
  if (code != 1) fail_msg("%s; %s: exit code %d: %s", change, more, code, err_text);
  assert_contains(err_text, "cannot resume from run/m.checkpoint: it was made ");
  assert_contains(err_text, what);
  assert_contains(err_text, "without --resume, training starts from the beginning");
  assert_same_files("run/m", "run/before");
  assert_same_files("run/m.checkpoint", "run/before.checkpoint");
}

static void make_resume_data(void) {
  text_buffer table = {0}, check = {0};
  text_add(&table, "path,label,page\n");
  text_add(&check, "path,label\n");
  assert_ran(shell("mkdir -p resume/folder/first resume/folder/second resume/pictures"));
  for (int i = 0; i < 40; i++) {
    char name[64];
    snprintf(name, sizeof name, "resume/folder/%s/%03d.png", i % 2 ? "first" : "second", i);
    write_picture(name, i, 0);
    snprintf(name, sizeof name, "resume/pictures/%03d.png", i);
    write_picture(name, i, 0);
    if (i < 24)
      text_add(&table, "pictures/%03d.png,%s,%d\n", i, i % 3 ? "x" : "y", i / 2);
    else
      text_add(&check, "pictures/%03d.png,%s\n", i, i % 3 ? "x" : "y");
  }
  write_words("resume/table.csv", table.data);
  write_words("resume/check.csv", check.data);
  write_words("resume/two.net", "input 8x8x1\ndense 8\nrelu\ndense 2\nsoftmax\n");
  assert_ran(
      shell("$train --data resume/table.csv --arch resume/two.net --epochs 1 --out resume/i"));
  assert_ran(shell("$train --data resume/table.csv --arch resume/two.net --epochs 1 --seed 2 "
                   "--out resume/j"));
  free(table.data);
  free(check.data);
}

static void test_resume_names_what_differs(void **state) {
  (void)state;
  make_resume_data();
  const char *folder = "--data run/folder --arch run/two.net";
  const char *list = "--data run/table.csv --val run/check.csv --arch run/two.net";
  const char *part = "--data run/table.csv --arch run/two.net";
  refuse_resume(folder, "mv run/folder/first run/folder/other", "", "other class names (2, ");
  refuse_resume(folder, "cp one/090.png run/folder/first/001.png", "",
                "other pictures to learn from (40, fingerprint ");
  refuse_resume(folder, "mv run/folder/first/001.png run/folder/second", "",
                "pictures to learn from");
  refuse_resume(list, "sed -i '2s/,y,/,x,/; 3s/,x,/,y,/' run/table.csv", "",
                "other labels to learn from (24, ");
  refuse_resume(list, "sed -i 5d run/table.csv", "", "pictures to learn from (24, ");
  refuse_resume(list, "cp one/090.png run/pictures/030.png", "", "pictures to check with (16, ");
  refuse_resume(list, "sed -i '2s/,y/,x/; 3s/,x/,y/' run/check.csv", "", "labels to check with");
  refuse_resume(list, "sed -i s/relu/tanh/ run/two.net", "", "other layers of the network (5, ");
  refuse_resume("--data run/table.csv --init run/i", "cp run/j run/i", "", "other --init (1, ");
  refuse_resume(part, ":", "--init run/i", "other --init (0, ");
  refuse_resume(part, ":", "--val 0.25", "other --val (none, now 0.25)");
  refuse_resume("--data run/table.csv --arch run/two.net --val 0.25", ":", "--group page",
                "other --group (none, now page)");
  refuse_resume("--data run/table.csv --arch logistic --input 8x8x1", ":", "--input 9x9x1",
                "other --input (8x8x1, now 9x9x1)");
  refuse_resume(part, ":", "--optimizer sgd", "other --optimizer (adam, now sgd)");
  /* as an earlier program described its run */
  refuse_resume(part, "sed -i 's/class names/--data: 600/' run/m.checkpoint run/before.checkpoint",
                "", "made by another version of tally-train");
}

/* Where the data lie and how they are spelled does not matter. */
static void test_resume_elsewhere(void **state) {
  (void)state;
  assert_ran(shell("rm -rf run && mkdir run && cp -r resume/* run"));
  const char *train =
      "$train --val 0.25 --schedule constant --data %s --arch %s --out %s --epochs %d";
  assert_ran(shell(train, "run/folder", "run/two.net", "run/whole", 3));
  assert_ran(shell(train, "run/folder", "run/two.net", "run/m", 1));
  assert_ran(
      shell("mkdir moved && mv run/folder moved/f && mv run/m* moved && cp run/two.net w.net"));
  text_buffer again = {0};
  text_add(&again, train, "./moved/../moved/f/", "w.net", "moved/m", 3);
  assert_ran(shell("%s --resume", again.data));
  assert_contains(err_text, "resumes after epoch 1");
  assert_same_files("run/whole", "moved/m");
  assert_same_files("run/whole.checkpoint", "moved/m.checkpoint");
  free(again.data);
}

/* ---- batches for batch normalisation ------------------------------------------------------------ */

#define LONE_NORM "input 8x8x1\nconv 4 3x3\nrelu\nglobalmean\nbatchnorm\ndense 2\nsoftmax\n"

/* Steps of an epoch over a part of the pictures, by the checkpoint. */
static int train_steps(const char *net_text, int pictures, const char *options) {
  cn_error error;
  cn_training_options training = cn_training_defaults();
  write_words("norm.net", net_text);
  assert_ran(shell("head -n %d both.csv >norm.csv && rm -f n n.checkpoint && $train --data "
                   "norm.csv --arch norm.net --epochs 1 --schedule constant --out n %s",
                   pictures + 1, options));
  char *path = join_path(home, "n.checkpoint");
  cn_network *net = must_parse(net_text);
  cn_trainer *trainer = must_train(net, 8, &training);
  if (cn_trainer_load(trainer, path, &error) != CN_OK) fail_msg("%s", error.message);
  int steps = (int)cn_trainer_steps(trainer);
  cn_trainer_free(trainer);
  cn_network_free(net);
  free(path);
  return steps;
}

/* Variance 0 of a single value would be taken for the data's own. */
static void test_lone_value(void **state) {
  (void)state;
  const char *on_maps = "input 8x8x1\nbatchnorm\nconv 4 3x3\nrelu\nglobalmean\ndense 2\nsoftmax\n";
  text_buffer table = {0};
  text_add(&table, "path,label\n");
  for (int i = 0; i < 40; i++) text_add(&table, "one/%03d.png,%s\n", i, i % 2 ? "x" : "y");
  write_words("both.csv", table.data);
  free(table.data);
  /* nine pictures are a batch of nine, ten are eight and two, and three are not one each */
  assert_int_equal(train_steps(LONE_NORM, 9, "--batch 8"), 1);
  assert_int_equal(train_steps(LONE_NORM, 10, "--batch 8"), 2);
  assert_int_equal(train_steps(LONE_NORM, 17, "--batch 8"), 2);
  assert_int_equal(train_steps(LONE_NORM, 7, "--batch 2"), 3);
  assert_int_equal(train_steps(LONE_NORM, 7, "--batch 8"), 1);
  assert_ran(
      shell("head -n 10 both.csv >norm.csv && "
            "$train --data norm.csv --arch norm.net --epochs 1 --schedule constant --out nine "
            "--batch 9"));
  assert_int_equal(train_steps(LONE_NORM, 9, "--batch 8"), 1);
  assert_same_files("n", "nine");
  /* where many values are normalised, or none while learning, batches are as they were */
  assert_int_equal(train_steps(on_maps, 9, "--batch 8"), 2);
  assert_int_equal(train_steps(on_maps, 9, "--batch 1"), 9);
  assert_int_equal(train_steps(LONE_NORM, 9, "--batch 8 --freeze -1"), 2);
  assert_int_equal(train_steps(LONE_NORM, 9, "--batch 1 --freeze -1"), 9);
  /* what cannot be helped is refused */
  write_words("norm.net", LONE_NORM);
  const char *train = "$train --data norm.csv --arch norm.net --epochs 1 --out refused --quiet ";
  assert_int_equal(shell("%s --batch 1", train), 1);
  assert_contains(err_text,
                  "norm.net: the batch normalisation batchnorm1 has one value per picture "
                  "and channel here: it needs batches of two pictures at least");
  assert_contains(err_text, "there are 9 to learn from, --batch is 1)");
  assert_int_equal(shell("%s --val 0.9", train), 1);
  assert_contains(err_text, "there are 1 to learn from");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_single_samples),
      cmocka_unit_test(test_copies_stay_together),
      cmocka_unit_test(test_groups_of_many_classes),
      cmocka_unit_test(test_groups_join),
      cmocka_unit_test(test_common),
      cmocka_unit_test(test_random_labels),
      cmocka_unit_test(test_group_column),
      cmocka_unit_test(test_what_is_said),
      cmocka_unit_test(test_skipped_pictures),
      cmocka_unit_test(test_shared_validation),
      cmocka_unit_test(test_idx_copies),
      cmocka_unit_test(test_resume_names_what_differs),
      cmocka_unit_test(test_resume_elsewhere),
      cmocka_unit_test(test_lone_value),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
