/* test_outputs.c - what the tools write destroys nothing: no input, no device, no other run's output,
   and what was there before stays until the new file is whole.

   Build:  make all build/tests/test_outputs
   Run:    build/tests/test_outputs     in the repository's root; BIN=folder of programs

   A row of a table for each tool and way of writing; each test goes through all rows. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_outputs"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/csv.h"
#include "../tools/dataset.h"
#include "../tools/output.h"
#include "../tools/implementations/stb.h"
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
     {"predictions.csv", "mistakes.png", "reliability.csv", "reliability.svg", "classes.csv",
      "confusion.csv"}},
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
    {"audit sample --out",
     "$audit sample --counts official.csv --voters voters.csv --template c1.form --for shares "
     "--share 0.2 --seed 1 --threads 1 --quiet --out \"$out\" scans",
     {"official.csv", "voters.csv", "c1.form", "scans/tally-0001.jpg"},
     {"settings.csv", "weights.csv", "sample.csv", "key.html"}},
    {"audit certify --out",
     "$audit certify --counts official.csv --voters voters.csv --sample drawn --threads 1 --quiet "
     "--out \"$out\" keyed.csv",
     {"official.csv", "voters.csv", "drawn/settings.csv", "drawn/sample.csv", "keyed.csv"},
     {"certificate.txt", "risk.csv", "bias.csv"}},
    {"evaluate --fit-temperature",
     "$evaluate --model model.safetensors --data data.csv --threads 1 --quiet "
     "--fit-temperature \"$out\"",
     {"model.safetensors", "data.csv", "photos/a/0.png"},
     {NULL}},
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
                   "sed -n 1,3p official.csv >corrections.csv && cp official.csv keyed.csv && "
                   "printf 'tally,voters\ntally-0001,900\ntally-0002,900\n' >voters.csv && "
                   "$audit sample --counts official.csv --voters voters.csv --template c1.form --for "
                   "shares --share 0.2 --seed 1 --quiet --out drawn && umask 022 && "
                   "tar cf inputs.tar *.* photos idx scans drawn"));
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
  assert_contains(err_text,
                  strcmp(place, input) ? "which is read in this run" : "is read in this run");
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

/* Files of this machine that hold times or paths differ from run to run; settings of another sample are
   not replaced. */
static int is_repeated(const char *name) {
  return strcmp(name, ".work/journal") && strcmp(name, "report.html") &&
         strcmp(name, "settings.csv");
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

/* It said why it cannot write there, before it wrote anything. */
static void assert_cannot_write(const way *w, const char *prepare, const char *place,
                                const char *reason) {
  start_with(*w->outputs ? "at" : "at/it");
  setenv("it", place, 1);
  assert_ran(shell("%s", prepare));
  int code = shell("find at -ls | awk '{ print $3, $NF }' >before; $as %s", w->command);
  if (code != 1) fail_msg("%s to %s, %s: exit code %d", w->name, place, reason, code);
  assert_contains(err_text, place);
  assert_contains(err_text, reason);
  if (shell("find at -ls | awk '{ print $3, $NF }' | diff before -"))
    fail_msg("%s to %s: %s", w->name, place, out_text);
}

static void test_impossible_places(void **state) {
  (void)state;
  setenv("as", "", 1);
  for (int i = 0; i < WAYS; i++)
    for (int n = 0; n == 0 || (n < MOST_FILES && ways[i].outputs[n]); n++) {
      char place[128] = "at/it";
      if (*ways[i].outputs) snprintf(place, sizeof place, "at/%s", ways[i].outputs[n]);
      if (strchr(place + 3, '/') || strstr(place, "tally-")) continue; /* not known beforehand */
      assert_cannot_write(&ways[i], "mkdir $it", place, "folder");
      assert_cannot_write(&ways[i], "ln -s $PWD/$it $it", place, "circle of links");
    }
}

/* As a user to whom permissions apply. */
static void test_forbidden_places(void **state) {
  (void)state;
  setenv("as", geteuid() ? "" : "setpriv --reuid 65534 --regid 65534 --clear-groups", 1);
  assert_ran(shell("chmod 777 . scans scans/*"));
  if (shell("$as test -x $predict")) skip(); /* such a user cannot even run the programs */
  for (int i = 0; i < WAYS; i++) {
    const char *place = *ways[i].outputs ? "at" : "at/it";
    assert_cannot_write(&ways[i], "chmod 555 at", place, "Permission denied");
    if (!*ways[i].outputs) {
      start_with("nowhere/it");
      assert_int_equal(shell("%s", ways[i].command), 1);
      assert_contains(err_text, "nowhere");
    }
  }
  setenv("as", "", 1);
}

/* The streams of the process, by name, be they files or pipes; the JSON line follows. */
static void test_streams(void **state) {
  (void)state;
  static const char *const redirections[] = {">got", ">>got", "| cat >got"};
  for (int i = 0; i < WAYS; i++)
    for (int k = 0; k < 3 && !*ways[i].outputs; k++) {
      write_plainly(&ways[i]);
      start_with("/dev/stdout");
      assert_ran(shell(": >got; %s %s", ways[i].command, redirections[k]));
      if (shell("head -c $(stat -c %%s plain/it) got | cmp plain/it && tail -n 1 got | grep "
                "-a '{.*}$'"))
        fail_msg("%s, %s: %s", ways[i].name, redirections[k], err_text);
      assert_ran(shell("test -L /dev/stdout && ! ls /dev/stdout.* /dev/*.part 2>/dev/null"));
      assert_nothing_unfinished(ways[i].name);
    }
}

static void test_log_beside_model(void **state) {
  (void)state;
  static const char *const same[] = {"at/m", "./at/m", "at/m.checkpoint", "at/soft"};
  start_with("at/m");
  assert_ran(shell("ln -s m at/soft"));
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    assert_int_equal(shell("$train --data data.csv --arch tiny.net --epochs 1 --quiet --out at/m "
                           "--log %s",
                           same[i]),
                     2);
    assert_contains(err_text, same[i]);
  }
  assert_ran(shell("! ls at | grep -v soft"));
}

/* ---- two runs at once -------------------------------------------------------------------------- */

/* Two that write one file at the same time: what stays is what one of them wrote. */
static void test_two_at_once(void **state) {
  (void)state;
  static const way *const quick[] = {&ways[0], &ways[1]};
  assert_ran(shell("mkdir -p many && for i in $(seq 300); do cp photos/a/$((i %% 5)).png "
                   "many/$i.png; done"));
  for (int i = 0; i < 2; i++) {
    text_buffer other = {0};
    const char *end = strstr(quick[i]->command, " photos ");
    text_append(&other, quick[i]->command, (size_t)(end - quick[i]->command));
    start_with("one");
    assert_ran(shell("%s many", other.data));
    start_with("two");
    assert_ran(shell("%s many photos", other.data));
    for (int again = 0; again < 5; again++) {
      start_with("at/it");
      assert_ran(shell("%s many >a & %s many photos >b; code=$?; wait $! && exit $code", other.data,
                       other.data));
      assert_ran(shell("cmp -s at/it one || cmp at/it two"));
      assert_nothing_unfinished(quick[i]->name);
    }
    free(other.data);
  }
}

/* Where a run takes long, a second one is refused while the first, held up here by a pipe that nobody
   reads, goes on and ends well. `sign` is there when the first has begun to write. */
static void refuse_second(const way *w, const char *pipe, const char *sign) {
  write_plainly(w);
  start_with(*w->outputs ? "at" : "at/it");
  setenv("pipe", pipe, 1);
  setenv("sign", sign, 1);
  int code = shell("mkfifo $pipe || exit 71\ntimeout 60 %s >first &\n"
                   "for i in $(seq 600); do test -e $sign && break; sleep 0.05; done\n"
                   "timeout 60 %s; test $? = 1 || exit 72\ntimeout 60 cat $pipe >got\n"
                   "wait $! || exit 73",
                   w->command, w->command);
  if (code) fail_msg("%s: exit code %d: %s", w->name, code, err_text);
  assert_contains(err_text, "another run is writing there");
  assert_nothing_unfinished(w->name);
}

static void test_locks(void **state) {
  (void)state;
  refuse_second(&ways[3], "at/it", "trained.checkpoint");
  refuse_second(&ways[5], "at/confusion.csv", "at/classes.csv");
  refuse_second(&ways[6], "at/confusion.csv", "at/classes.csv");
  refuse_second(&ways[7], "at/test.csv", "at/val.csv");
  refuse_second(&ways[8], "at/report.html", "at/totals.csv");
  refuse_second(&ways[9], "at/pages.csv", "at/template.form");
}

/* What a killed run has left goes with the next, but nothing that others are writing: that has a lock,
   or belongs to another output. */
static void test_leftovers(void **state) {
  (void)state;
  start_with("at/it");
  assert_ran(shell("for n in it it.checkpoint other itself; do echo >at/$n.999-0.part; done; "
                   "touch at/it.lock && %s && "
                   "test \"$(ls at | tr '\\n' ' ')\" = "
                   "'it it.checkpoint itself.999-0.part other.999-0.part '",
                   ways[2].command));
  for (int i = 0; i < WAYS; i++) {
    if (!*ways[i].outputs) continue;
    start_with("at");
    assert_ran(shell("mkdir -p at/cells/tally-0001.jpg at/check && for n in counts.csv "
                     "cells/tally-0001.jpg/01-0.png check/tally-0001.jpg.jpg; do "
                     "echo >at/$n.999-0.part; done; echo >at/now.999-0.part; echo >at/1.part; "
                     "flock at/now.999-0.part %s && test -e at/now.999-0.part && "
                     "test -e at/1.part && test ! -e at/counts.csv.999-0.part",
                     ways[i].command));
    if (i == 7) assert_ran(shell("! find at/cells at/check -name '*.part' | grep ."));
  }
}

/* Threads that go on writing while a signal ends the process leave nothing unfinished either. */
static void test_signals(void **state) {
  (void)state;
  start_with("at");
  assert_ran(shell("mkdir forms && for i in $(seq 40); do cp scans/tally-000$((i %% 2 + 1)).jpg "
                   "forms/$i.jpg; done"));
  int ended = 0;
  for (int i = 0; i < 12; i++) {
    int code = shell("rm -rf at; timeout -s %s 0.%03d $extract --template c1.form --out at "
                     "--threads 4 --quiet forms",
                     i % 2 ? "TERM" : "INT", 60 + 17 * i);
    if (code != 0 && code != 124) fail_msg("exit code %d: %s", code, err_text);
    ended += code == 124;
    assert_nothing_unfinished("extract --out");
  }
  print_message("ended %d times\n", ended);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_inputs_stay),       cmocka_unit_test(test_odd_places),
      cmocka_unit_test(test_impossible_places), cmocka_unit_test(test_forbidden_places),
      cmocka_unit_test(test_streams),           cmocka_unit_test(test_log_beside_model),
      cmocka_unit_test(test_two_at_once),       cmocka_unit_test(test_locks),
      cmocka_unit_test(test_leftovers),         cmocka_unit_test(test_signals),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
