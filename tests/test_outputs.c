/* test_outputs.c - what the tools write destroys nothing: no input, no device, no other run's output,
   and what was there before stays until the new file is whole.

   Build:  make all build/tests/test_outputs
   Run:    build/tests/test_outputs     in the repository's root; BIN=folder of programs

   A row of a table for each tool and way of writing; each test goes through all rows. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_outputs"
#define TOOL_USAGE ""
#include "../tools/common.h"
#include "support.h"

#include "programs.h"

/* ---- the ways of writing ----------------------------------------------------------------------- */

#define MOST_FILES 10

/* A command that writes to $out, with everything that it reads, by the names that it uses. */
typedef struct way {
  const char *name, *command;
  const char *inputs[MOST_FILES];
  const char *outputs[MOST_FILES]; /* in the folder $out; none: $out is a file */
} way;

static const way ways[] = {
    {"predict --out",
     "$predict --model model.safetensors --threads 1 --quiet --out \"$out\" photos list.csv",
     {"model.safetensors", "list.csv", "photos/a/0.png"},
     {NULL}},
    {"dedup --out",
     "$dedup --small 0 --threads 1 --quiet --out \"$out\" photos list.csv",
     {"list.csv", "photos/a/0.png"},
     {NULL}},
    {"train --out",
     "$train --data data.csv --val val.csv --arch tiny.net --init model.safetensors --epochs 2 "
     "--batch 4 --threads 1 --quiet --out \"$out\"",
     {"data.csv", "val.csv", "tiny.net", "model.safetensors", "photos/a/0.png", "photos/b/5.png"},
     {NULL}},
    {"train --log",
     "$train --data data.csv --val val.csv --arch tiny.net --init model.safetensors --epochs 1 "
     "--batch 4 --threads 1 --quiet --out trained --log \"$out\"",
     {"data.csv", "val.csv", "tiny.net", "model.safetensors", "photos/a/0.png", "photos/b/5.png"},
     {NULL}},
    {"train --out, of IDX files",
     "$train --data idx:train --arch tiny.net --epochs 1 --batch 4 --threads 1 --quiet "
     "--out \"$out\"",
     {"idx/train-images-idx3-ubyte", "idx/train-labels-idx1-ubyte"},
     {NULL}},
    {"evaluate --out",
     "$evaluate --model model.safetensors --data data.csv --threads 1 --quiet --out \"$out\"",
     {"model.safetensors", "data.csv", "photos/a/0.png"},
     {"predictions.csv", "mistakes.png", "classes.csv", "confusion.csv"}},
    {"evaluate --out, of predictions",
     "$evaluate --predictions predictions.csv --quiet --out \"$out\"",
     {"predictions.csv"},
     {"classes.csv", "confusion.csv"}},
    {"extract --out",
     "$extract --template c1.form --labels labels.csv --split 1,1,1 --check --threads 1 --quiet "
     "--out \"$out\" scans",
     {"c1.form", "labels.csv", "scans/tally-0001.jpg"},
     {"forms.csv", "cells.csv", "labelled.csv", "train.csv", "val.csv", "test.csv",
      "cells/tally-0002.jpg/total-1.png", "check/tally-0002.jpg.jpg"}},
    {"read --out",
     "$read --template c1.form --model model.safetensors --official official.csv "
     "--corrections corrections.csv --threads 1 --quiet --out \"$out\" scans",
     {"c1.form", "model.safetensors", "official.csv", "corrections.csv", "scans/tally-0001.jpg"},
     {"counts.csv", "tallies.csv", "totals.csv", "report.html", ".work/journal"}},
    {"synth --out",
     "$synth --template c1.form --digits digits.csv --clean --scale 0.1 --count 1 --threads 1 "
     "--quiet --out \"$out\"",
     {"c1.form", "digits.csv", "photos/a/0.png"},
     {"truth.csv", "cells.csv", "corners.csv", "pages.csv", "template.form", "tally-0001.jpg"}},
};

#define WAYS ((int)(sizeof ways / sizeof *ways))

/* ---- what they read ---------------------------------------------------------------------------- */

#define PHOTOS 10 /* of 28 x 28 pixels, each of another class, in folders a and b */

static void make_photos(void) {
  uint8_t pixels[28 * 28];
  assert_ran(shell("mkdir -p photos/a photos/b"));
  for (int i = 0; i < PHOTOS; i++) {
    char path[2 * PATH_MAX];
    cn_random random = {(uint64_t)i, 0};
    for (int p = 0; p < 28 * 28; p++) pixels[p] = (uint8_t)cn_random_below(&random, 256);
    snprintf(path, sizeof path, "%s/photos/%c/%d.png", home, i < 5 ? 'a' : 'b', i);
    assert_true(stbi_write_png(path, 28, 28, 1, pixels, 0));
  }
}

/* path,label for photos [first, last). */
static void make_list(const char *name, int first, int last) {
  text_buffer table = {0};
  text_add(&table, "path,label\n");
  for (int i = first; i < last; i++)
    text_add(&table, "photos/%c/%d.png,%d\n", i < 5 ? 'a' : 'b', i, i);
  write_words(name, table.data);
  free(table.data);
}

static void make_idx(void) {
  static const uint8_t images[16] = {0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 28, 0, 0, 0, 28};
  static const uint8_t labels[8 + 10] = {0, 0, 8, 1, 0, 0, 0, 10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  uint8_t *all = allocate(16 + 10 * 28 * 28, 1);
  memcpy(all, images, sizeof images);
  for (int i = 0; i < 10 * 28 * 28; i++) all[16 + i] = (uint8_t)(i * 7);
  assert_ran(shell("mkdir -p idx"));
  write_home("idx/train-images-idx3-ubyte", all, 16 + 10 * 28 * 28);
  write_home("idx/train-labels-idx1-ubyte", labels, sizeof labels);
  free(all);
}

static const char tiny[] = "input 28x28x1\nmaxpool 4x4\ndense 10\nsoftmax\n";

static int setup(void **state) {
  (void)state;
  cn_error error;
  if (!open_home("tally-outputs")) return -1;
  make_photos();
  make_list("list.csv", 0, 3);
  make_list("data.csv", 0, PHOTOS);
  make_list("val.csv", 0, PHOTOS);
  make_list("digits.csv", 0, PHOTOS);
  make_idx();
  write_words("tiny.net", tiny);
  write_words("predictions.csv", "truth,prediction\na,a\na,b\nb,b\n");
  cn_network *net = must_parse(tiny);
  char *path = join_path(home, "model.safetensors");
  if (cn_save(net, path, &error) != CN_OK) fail_msg("%s", error.message);
  cn_network_free(net);
  free(path);
  assert_ran(shell("cp $c1 c1.form && "
                   "$synth --template c1.form --clean --scale 0.6 --count 2 --out scans --quiet && "
                   "mv scans/truth.csv official.csv && mv scans/cells.csv labels.csv && "
                   "rm scans/*.csv scans/*.form && "
                   "sed -n 1,3p official.csv >corrections.csv && umask 022 && "
                   "tar cf inputs.tar *.* photos idx scans"));
  return 0;
}

/* ---- running them ------------------------------------------------------------------------------ */

/* $out, and the empty folder `at` for it. */
static void start_with(const char *out) {
  setenv("out", out, 1);
  assert_ran(shell("rm -rf at trained* && mkdir at"));
}

/* All that is read is as it was. */
static void assert_inputs_whole(const char *name) {
  if (shell("tar df inputs.tar")) fail_msg("%s: %s", name, out_text);
}

static void assert_nothing_unfinished(const char *name) {
  if (shell("! find . -name '*.part' -o -name '*.lock' | grep ."))
    fail_msg("%s: %s", name, out_text);
}

/* What a way writes when nothing is odd: in the folder `plain`, or the file plain/it. */
static void write_plainly(const way *w) {
  start_with(*w->outputs ? "plain" : "plain/it");
  assert_ran(shell("rm -rf plain && mkdir plain"));
  if (shell("%s", w->command)) fail_msg("%s: %s", w->name, err_text);
}

/* ---- an input as an output --------------------------------------------------------------------- */

static void assert_refused_input(const way *w, const char *input, const char *place) {
  if (shell("%s", w->command) != 1) fail_msg("%s: %s may be written as %s", w->name, input, place);
  assert_contains(err_text, "which is read in this run" + (strcmp(place, input) ? 0 : 6));
  assert_contains(err_text, input);
  assert_contains(err_text, place);
  assert_inputs_whole(w->name);
  assert_nothing_unfinished(w->name);
}

/* A file by any of its names. */
static void refuse_file(const way *w, const char *input) {
  char spelled[2 * PATH_MAX];
  start_with(input);
  assert_refused_input(w, input, input);
  snprintf(spelled, sizeof spelled, "./photos/../%s", input);
  start_with(spelled);
  assert_refused_input(w, input, spelled);
  snprintf(spelled, sizeof spelled, "%s/%s", home, input);
  start_with(spelled);
  assert_refused_input(w, input, spelled);
  start_with("at/soft");
  assert_ran(shell("ln -s ../%s at/soft", input));
  assert_refused_input(w, input, "at/soft");
  start_with("at/hard");
  assert_ran(shell("ln %s at/hard", input));
  assert_refused_input(w, input, "at/hard");
}

/* A file that has another name where one in an output folder goes. All but the pictures of each tally
   are checked before any work, so that none of them is written. */
static void refuse_in_folder(const way *w, const char *input, const char *name) {
  char place[256];
  snprintf(place, sizeof place, "at/%s", name);
  for (int soft = 0; soft < 2; soft++) {
    start_with("at");
    assert_ran(shell("mkdir -p \"$(dirname %s)\" && ln %s \"$PWD/%s\" %s", place, soft ? "-s" : "",
                     input, place));
    assert_refused_input(w, input, place);
    if (!strchr(name, '/') && strncmp(name, "tally-", 6) &&
        shell("! find at -type f ! -samefile %s | grep .", input))
      fail_msg("%s: written before %s was refused: %s", w->name, place, out_text);
  }
}

static void test_inputs_stay(void **state) {
  (void)state;
  for (int i = 0; i < WAYS; i++)
    for (int k = 0; k < MOST_FILES && ways[i].inputs[k]; k++) {
      if (!*ways[i].outputs) refuse_file(&ways[i], ways[i].inputs[k]);
      for (int n = 0; n < MOST_FILES && ways[i].outputs[n]; n++)
        refuse_in_folder(&ways[i], ways[i].inputs[k], ways[i].outputs[n]);
    }
}

/* ---- what lies at the output's place ----------------------------------------------------------- */

/* Runs a command with something odd prepared where one of its files goes, and checks what became of
   it. In both, $it is the odd file, $plain what it should hold. */
typedef struct oddity {
  const char *name, *prepare, *check;
} oddity;

static const oddity oddities[] = {
    {"a pipe", "mkfifo $it && { timeout 20 cat $it >got & }", "test -p $it && cmp $plain got"},
    {"a link to a pipe",
     "mkfifo at/fifo && ln -s $PWD/at/fifo $it && { timeout 20 cat at/fifo >got & }",
     "test -p at/fifo && test -L $it && cmp $plain got"},
    {"a device", "mknod $it c 1 3", "test -c $it"},
    {"a link to a file", "echo old >at/old && ln -s $PWD/at/old $it",
     "test -L $it && cmp $plain at/old"},
    {"a chain of links", "mkdir at/far && ln -s $PWD/at/near $it && ln -s far/old at/near",
     "test -L $it && test -L at/near && test ! -L at/far/old && cmp $plain at/far/old"},
    {"another name of a file", "echo old >at/old && ln at/old $it",
     "test \"$(cat at/old)\" = old && cmp $plain $it"},
    {"a file of mode 640", "umask 022 && echo old >$it && chmod 640 $it",
     "test $(stat -c %a $it) = 640 && cmp $plain $it"},
    {"no file", "umask 027", "test $(stat -c %a $it) = 640 && cmp $plain $it"},
};

/* Files of this machine that hold times or paths differ from run to run. */
static int is_repeated(const char *name) {
  return strcmp(name, ".work/journal") && strcmp(name, "report.html");
}

static void assert_oddity(const way *w, const char *name, const oddity *odd) {
  char it[128], plain[128];
  snprintf(it, sizeof it, *name ? "at/%s" : "at/it", name);
  snprintf(plain, sizeof plain, *name ? "plain/%s" : "plain/it", name);
  start_with(*name ? "at" : it);
  setenv("it", it, 1);
  setenv("plain", plain, 1);
  assert_ran(shell("mkdir -p $(dirname $it)"));
  int code = shell("{ %s\n} || exit 77; timeout 20 %s; code=$?; wait; exit $code", odd->prepare,
                   w->command);
  if (code == 77) print_message("%s cannot be made here\n", odd->name);
  if (code == 77) return;
  if (code) fail_msg("%s, %s: exit code %d: %s", w->name, odd->name, code, err_text);
  if (shell("%s", odd->check)) fail_msg("%s: %s is %s: %s", w->name, it, odd->name, err_text);
  assert_nothing_unfinished(w->name);
}

static void test_odd_places(void **state) {
  (void)state;
  for (int i = 0; i < WAYS; i++) {
    write_plainly(&ways[i]);
    for (size_t k = 0; k < sizeof oddities / sizeof *oddities; k++) {
      if (!*ways[i].outputs) assert_oddity(&ways[i], "", &oddities[k]);
      for (int n = 0; n < MOST_FILES && ways[i].outputs[n]; n++)
        if (is_repeated(ways[i].outputs[n]))
          assert_oddity(&ways[i], ways[i].outputs[n], &oddities[k]);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_inputs_stay),
      cmocka_unit_test(test_odd_places),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
