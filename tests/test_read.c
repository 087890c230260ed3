/* test_read.c - tally-extract and tally-read from outside, as a user runs them, on forms that
   tally-synth draws and with a small network trained on their cells.

   Build:  make all build/tests/test_read
   Run:    build/tests/test_read     in the repository's root; BIN=folder of programs

   Everything is made in a temporary folder. The test of real forms takes them from the folder
   TALLY_FORMS and is skipped where there is none. */
#define main read_main
#include "../tools/tally-read.c"
#undef main
#include "support.h"

#include "programs.h"

/* ---- running programs ------------------------------------------------------------------------ */

static char here[PATH_MAX];

static void assert_refused(int code, int expected, const char *part, const char *other) {
  if (code != expected)
    fail_msg("exit code %d instead of %d: %s%s", code, expected, err_text, out_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

static void assert_same_outputs(const char *a, const char *b) {
  static const char *const names[] = {"counts.csv", "tallies.csv", "totals.csv", "report.html"};
  for (int i = 0; i < 4; i++) {
    char *x = join_path(a, names[i]), *y = join_path(b, names[i]);
    assert_same_files(x, y);
    free(x);
    free(y);
  }
}

/* ---- looking into tables --------------------------------------------------------------------- */

static int rows_of(const char *name) {
  char *path = join_path(home, name);
  csv table = csv_open(path);
  int rows = 0;
  while (csv_row(&table)) rows++;
  csv_close(&table);
  free(path);
  return rows;
}

/* Rows of a table in which a column begins with a text. */
static int rows_with(const char *name, const char *column, const char *start) {
  char *path = join_path(home, name);
  csv table = csv_open(path);
  int rows = 0, at = csv_column(&table, column);
  while (csv_row(&table)) rows += !strncmp(table.fields[at], start, strlen(start));
  csv_close(&table);
  free(path);
  return rows;
}

/* A value of the first row in which column a has the value x and, unless b is NULL, b has y; a
   copy. */
static char *lookup(const char *name, const char *a, const char *x, const char *b, const char *y,
                    const char *wanted) {
  char *path = join_path(home, name), *found = NULL;
  csv table = csv_open(path);
  int a_column = csv_column(&table, a), b_column = b ? csv_column(&table, b) : -1;
  int column = csv_column(&table, wanted);
  while (!found && csv_row(&table))
    if (!strcmp(table.fields[a_column], x) && (!b || !strcmp(table.fields[b_column], y)))
      found = copy_text(table.fields[column]);
  csv_close(&table);
  free(path);
  if (!found) fail_msg("%s has no row with %s = %s", name, a, x);
  return found;
}

static void assert_value(const char *name, const char *a, const char *x, const char *b,
                         const char *y, const char *wanted, const char *value) {
  char *found = lookup(name, a, x, b, y, wanted);
  if (strcmp(found, value))
    fail_msg("%s: %s of %s %s is %s, not %s", name, wanted, x, b ? y : "", found, value);
  free(found);
}

static void assert_columns(const char *name, const char *header) {
  size_t size;
  char *all = contents(name, &size);
  assert_non_null(all);
  if (strncmp(all, header, strlen(header))) fail_msg("%s does not start with %s", name, header);
  free(all);
}

/* ---- data ------------------------------------------------------------------------------------ */

#define TRAINED 60 /* forms that the network learns from */
#define READ 10    /* forms that it reads */

static const char network[] =
    "input 28x28x1\nconv 8 3x3 pad=1\nrelu\nmaxpool 2x2\nconv 16 3x3 pad=1\n"
    "relu\nmaxpool 2x2\ndense 48\nrelu\ndense %d\nsoftmax\n";

static void set_program(const char *variable, const char *name) {
  const char *bin = getenv("BIN");
  text_buffer path = {0};
  if (bin && *bin == '/')
    text_add(&path, "%s/%s", bin, name);
  else
    text_add(&path, "%s/%s/%s", here, bin ? bin : "bin", name);
  setenv(variable, path.data, 1);
  free(path.data);
}

/* A network that was not trained, with these class names (one a line) or none. */
static void make_model(const char *name, int classes, const char *names, const char *temperature) {
  char text[sizeof network + 16];
  cn_error error;
  snprintf(text, sizeof text, network, classes);
  cn_network *net = must_parse(text);
  if (names) set_note(net, "classes", names);
  if (temperature) set_note(net, "temperature", temperature);
  char *path = join_path(home, name);
  if (cn_save(net, path, &error) != CN_OK) fail_msg("%s", error.message);
  cn_network_free(net);
  free(path);
}

/* A picture of one grey level. */
static void write_picture_file(const char *name, int width, int height, uint8_t grey) {
  uint8_t *pixels = allocate((size_t)width * (size_t)height, 3);
  memset(pixels, grey, (size_t)width * (size_t)height * 3);
  char *path = join_path(home, name);
  assert_true(stbi_write_png(path, width, height, 3, pixels, 0));
  free(path);
  free(pixels);
}

static int setup(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR");
  if (!getcwd(here, sizeof here)) return -1;
  snprintf(home, sizeof home, "%s/tally-read-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(home)) return -1;
  setenv("SOURCE_DATE_EPOCH", "1234567890", 1);
  set_program("synth", "tally-synth");
  set_program("extract", "tally-extract");
  set_program("train", "tally-train");
  set_program("read", "tally-read");
  char *c1 = join_path(here, "examples/templates/c1-2019.form");
  setenv("c1", c1, 1);
  free(c1);
  char text[sizeof network + 16];
  snprintf(text, sizeof text, network, 10);
  write_words("tiny.net", text);
  assert_ran(
      shell("$synth --template $c1 --clean --count %d --seed 1 --out learn --quiet", TRAINED));
  assert_ran(
      shell("$synth --template $c1 --clean --count %d --seed 2 --mismatch 0.3 --out scans --quiet",
            READ));
  assert_ran(
      shell("$extract --template $c1 --out cells --labels learn/cells.csv --split 80,10,10 --check "
            "--quiet learn"));
  assert_ran(
      shell("$train --data cells/labelled.csv --arch tiny.net --epochs 12 --batch 16 --lr 0.003 "
            "--optimizer adam --seed 1 --quiet --out model.safetensors"));
  assert_ran(shell("$read --template $c1 --model model.safetensors --out whole --quiet "
                   "--official scans/truth.csv scans"));
  return 0;
}

/* The command most tests run. */
#define READ_C1 "$read --template $c1 --model model.safetensors --quiet "

/* ---- usage ----------------------------------------------------------------------------------- */

static void test_usage(void **state) {
  (void)state;
  assert_ran(shell("$read --help"));
  assert_contains(out_text, "examples:");
  assert_ran(shell("$extract --help"));
  assert_contains(out_text, "examples:");
  assert_refused(shell("$read --out x scans"), 2, "--template is missing", "usage:");
  assert_refused(shell("$read --template $c1 scans"), 2, "--out is missing", "usage:");
  assert_refused(shell("$read --template $c1 --out x"), 2, "no pictures on the command line",
                 "usage:");
  assert_refused(shell("$read --template $c1 --out x --wrong scans"), 2, "--wrong", "usage:");
  assert_refused(shell("$read --template $c1 --out x --risk 2 scans"), 2, "--risk", "outside");
  assert_refused(shell("$extract --template $c1 scans"), 2, "--out is missing", "usage:");
  assert_refused(shell("$extract --template $c1 --out x --split 1,2,3 scans"), 2,
                 "--split needs --labels", "usage:");
  assert_refused(
      shell("$extract --template $c1 --out x --labels scans/cells.csv --split 1,2 scans"), 2,
      "three proportions", "usage:");
  assert_int_equal(shell(READ_C1 "--out x %s", "nowhere/"), 1);
  assert_contains(err_text, "none of the pictures could be used");
  assert_int_equal((int)result("read"), 0);
  assert_ran(shell("mkdir -p nothing"));
  assert_refused(shell(READ_C1 "--out x nothing"), 1, "no pictures", "");
}

static void test_template_errors(void **state) {
  (void)state;
  write_words("bad.form", "form x\npage 1000 x 1000\nsum a = b + c\n");
  assert_refused(shell("$read --template bad.form --model model.safetensors --out x scans"), 1,
                 "bad.form", "line 3, column");
  assert_refused(shell("$extract --template bad.form --out x scans"), 1, "bad.form",
                 "line 3, column");
  assert_refused(shell("$read --template nosuch --model model.safetensors --out x scans"), 1,
                 "nosuch", "there is no such file");
}

static void test_natural_order(void **state) {
  (void)state;
  assert_true(compare_natural("form2.jpg", "form12.jpg") < 0);
  assert_true(compare_natural("form12.jpg", "form2.jpg") > 0);
  assert_true(compare_natural("a007", "a7") != 0);
  assert_true(compare_natural("a007", "a8") < 0);
  assert_true(compare_natural("a", "a1") < 0);
  assert_true(compare_natural("99999999999999999999999", "100000000000000000000000") < 0);
  assert_int_equal(compare_natural("x10y", "x10y"), 0);
}

/* ---- tally-extract --------------------------------------------------------------------------- */

static void test_extract(void **state) {
  (void)state;
  size_t size;
  char *png = contents("cells/cells/tally-0001.jpg/valid-2.png", &size);
  int width, height, channels;
  assert_non_null(png);
  assert_true(stbi_info_from_memory((uint8_t *)png, (int)size, &width, &height, &channels));
  assert_int_equal(width, TALLY_SIDE);
  assert_int_equal(height, TALLY_SIDE);
  assert_int_equal(channels, 1);
  free(png);
  assert_columns("cells/cells.csv", "tally,field,position,path,state,written,whole\n");
  assert_columns("cells/forms.csv", "tally,status,residual_px,reason\n");
  assert_int_equal(rows_of("cells/cells.csv"), 15 * TRAINED);
  assert_int_equal(rows_of("cells/forms.csv"), TRAINED);
  assert_value("cells/forms.csv", "tally", "tally-0003.jpg", NULL, NULL, "status", "registered");
  assert_ran(shell("test -s cells/check/tally-0001.jpg.jpg"));
  assert_ran(shell("$extract --template $c1 --out raw --raw --quiet scans/tally-0001.jpg"));
  assert_int_equal((int)result("forms"), 1);
  assert_int_equal((int)result("registered"), 1);
  assert_int_equal((int)result("cells"), 15);
}

/* Labels follow their cells: the picture named in labelled.csv is that of the label's cell. */
static void test_extract_labels(void **state) {
  (void)state;
  int rows = rows_of("cells/labelled.csv");
  assert_int_equal(rows, 15 * TRAINED);
  for (int i = 0; i < 3; i++) {
    char position[8], path[64];
    snprintf(position, sizeof position, "%d", i);
    snprintf(path, sizeof path, "cells/tally-0002.jpg/total-%d.png", i);
    char *all = join_path(home, "learn/cells.csv"), *label = NULL;
    csv table = csv_open(all);
    while (csv_row(&table))
      if (!strcmp(table.fields[0], "tally-0002.jpg") && !strcmp(table.fields[1], "total") &&
          !strcmp(table.fields[2], position))
        label = copy_text(table.fields[3]);
    assert_non_null(label);
    assert_value("cells/labelled.csv", "path", path, NULL, NULL, "label", label);
    csv_close(&table);
    free(all);
    free(label);
  }
}

/* Every tally is in one part only, and together the parts are everything. */
static void test_extract_split(void **state) {
  (void)state;
  static const char *const parts[] = {"cells/train.csv", "cells/val.csv", "cells/test.csv"};
  int rows = 0, part_of[TRAINED + 1] = {0};
  for (int k = 0; k < 3; k++) {
    char *path = join_path(home, parts[k]);
    csv table = csv_open(path);
    int column = csv_column(&table, "tally");
    while (csv_row(&table)) {
      int tally = atoi(table.fields[column] + strlen("tally-"));
      assert_in_range(tally, 1, TRAINED);
      assert_true(part_of[tally] == 0 || part_of[tally] == k + 1);
      part_of[tally] = k + 1;
      rows++;
    }
    csv_close(&table);
    free(path);
  }
  assert_int_equal(rows, 15 * TRAINED);
  assert_ran(
      shell("$extract --template $c1 --out again --labels learn/cells.csv --split 80,10,10 learn"));
  assert_contains(out_text,
                  "48 in train.csv, 6 in val.csv, 6 in test.csv; no tally is in two of them");
  assert_same_files("again/train.csv", "cells/train.csv");
}

/* Counts label cells from the right; what stands further left is labelled only if it is empty. */
static void test_extract_counts(void **state) {
  (void)state;
  write_words("typed.csv", "tally,field,value\ntally-0001.jpg,01,345\ntally-0001.jpg,02,7\n"
                           "tally-0001.jpg,total,\n");
  assert_ran(shell("$extract --template $c1 --out typed --labels typed.csv scans"));
  assert_value("typed/labelled.csv", "path", "cells/tally-0001.jpg/01-0.png", NULL, NULL, "label",
               "3");
  assert_value("typed/labelled.csv", "path", "cells/tally-0001.jpg/01-2.png", NULL, NULL, "label",
               "5");
  assert_value("typed/labelled.csv", "path", "cells/tally-0001.jpg/02-2.png", NULL, NULL, "label",
               "7");
  assert_in_range(rows_of("typed/labelled.csv"), 4, 6);
  write_words("typed.csv", "tally,field,value\ntally-0001.jpg,03,1\n");
  assert_refused(shell("$extract --template $c1 --out typed --labels typed.csv scans"), 1,
                 "typed.csv: line 2", "no field \"03\"");
  write_words("typed.csv", "tally,field,value\ntally-0001.jpg,01,1000\n");
  assert_refused(shell("$extract --template $c1 --out typed --labels typed.csv scans"), 1,
                 "typed.csv: line 2", "0 to 999");
}

/* ---- tally-read ------------------------------------------------------------------------------ */

static void test_read_tables(void **state) {
  (void)state;
  assert_columns("whole/counts.csv",
                 "tally,field,value,probability,quality,status,second_value,second_probability");
  assert_columns("whole/tallies.csv", "tally,status,quality,residual_px,sums");
  assert_columns("whole/totals.csv",
                 "field,votes,estimate,low,high,share,share_low,share_high,covered,"
                 "least,most");
  assert_columns("whole/sums.csv", "tally,sum,state,difference,probability");
  assert_int_equal(rows_of("whole/counts.csv"), 5 * READ);
  assert_int_equal(rows_of("whole/tallies.csv"), READ);
  assert_int_equal(rows_of("whole/totals.csv"), 5);
  assert_int_equal(rows_of("whole/sums.csv"), 2 * READ);
  assert_ran(shell(READ_C1 "--out whole --official scans/truth.csv scans"));
  assert_int_equal((int)result("forms"), READ);
  assert_int_equal((int)result("read"), READ);
  assert_true(result("seconds") >= 0);
}

/* Clean print, a known pen: nearly everything is right, and what is accepted is. */
static void test_read_accuracy(void **state) {
  (void)state;
  assert_ran(shell(READ_C1 "--out whole --official scans/truth.csv scans"));
  if (result("accuracy") < 0.95) fail_msg("accuracy %.3f", result("accuracy"));
  if (result("accepted_wrong") > 0)
    fail_msg("%.3f of the accepted counts are wrong", result("accepted_wrong"));
}

/* The votes of a field are the sum of its values, inside their interval. */
static void test_read_totals(void **state) {
  (void)state;
  char *path = join_path(home, "whole/counts.csv");
  csv table = csv_open(path);
  long votes = 0;
  while (csv_row(&table))
    if (!strcmp(table.fields[1], "02") && *table.fields[2]) votes += atol(table.fields[2]);
  csv_close(&table);
  free(path);
  char shown[32];
  snprintf(shown, sizeof shown, "%ld", votes);
  assert_value("whole/totals.csv", "field", "02", NULL, NULL, "votes", shown);
  char *low = lookup("whole/totals.csv", "field", "02", NULL, NULL, "low");
  char *high = lookup("whole/totals.csv", "field", "02", NULL, NULL, "high");
  assert_true(atol(low) <= votes && votes <= atol(high));
  free(low);
  free(high);
}

/* A paper that does not add up is reported as written, and flagged. */
static void test_read_mismatch(void **state) {
  (void)state;
  char *path = join_path(home, "scans/truth.csv");
  csv table = csv_open(path);
  int seen = 0, adds_up = csv_column(&table, "adds_up");
  while (csv_row(&table)) {
    if (strcmp(table.fields[adds_up], "0")) continue;
    assert_value("whole/tallies.csv", "tally", table.fields[0], NULL, NULL, "status", "review");
    seen++;
  }
  assert_true(seen > 0);
  csv_close(&table);
  free(path);
}

static void test_read_threads(void **state) {
  (void)state;
  assert_ran(shell(READ_C1 "--out one --threads 1 --official scans/truth.csv scans"));
  assert_ran(shell(READ_C1 "--out two --threads 2 --official scans/truth.csv scans"));
  assert_same_outputs("one", "two");
  assert_same_outputs("one", "whole");
}

/* ---- bad pictures ---------------------------------------------------------------------------- */

/* A PNG header that promises width x height. */
static void write_png_header(const char *name, uint32_t width, uint32_t height) {
  static const uint8_t start[] = {0x89, 'P', 'N', 'G', 13,  10,  26,  10,
                                  0,    0,   0,   13,  'I', 'H', 'D', 'R'};
  uint8_t bytes[64] = {0};
  memcpy(bytes, start, sizeof start);
  for (int i = 0; i < 4; i++) {
    bytes[16 + i] = (uint8_t)(width >> (24 - 8 * i));
    bytes[20 + i] = (uint8_t)(height >> (24 - 8 * i));
  }
  bytes[24] = 8;
  bytes[25] = 2;
  write_home(name, bytes, sizeof bytes);
}

/* stb_image_write has it and does not declare it. */
extern uint8_t *stbi_zlib_compress(uint8_t *data, int data_len, int *out_len, int quality);

/* A picture of 40 x 40 whose data unpack to far more than it can hold. */
static void write_png_bomb(const char *name) {
  size_t plain = (size_t)200 << 20;
  uint8_t *zeros = allocate(plain, 1);
  int packed_size;
  uint8_t *packed = stbi_zlib_compress(zeros, (int)plain, &packed_size, 5);
  assert_non_null(packed);
  text_buffer png = {0};
  char *header;
  size_t size;
  write_png_header(name, 40, 40);
  header = contents(name, &size);
  text_append(&png, header, 33);
  uint8_t length[4];
  for (int i = 0; i < 4; i++) length[i] = (uint8_t)((unsigned)packed_size >> (24 - 8 * i));
  text_append(&png, (char *)length, 4);
  text_append(&png, "IDAT", 4);
  text_append(&png, (char *)packed, (size_t)packed_size);
  text_append(&png, "\0\0\0\0\0\0\0\0IEND\0\0\0\0", 16);
  write_home(name, png.data, png.length);
  free(header);
  free(png.data);
  free(packed);
  free(zeros);
}

/* A picture of 1 x 1 in a format that stb_image knows and forms do not come in. */
static void write_gif(const char *name) {
  static const uint8_t gif[] = {'G', 'I', 'F', '8', '9', 'a', 1,   0,    1, 0, 0x80, 0,
                                0,   0,   0,   0,   255, 255, 255, ',',  0, 0, 0,    0,
                                1,   0,   1,   0,   0,   2,   2,   0x44, 1, 0, ';'};
  write_home(name, gif, sizeof gif);
}

static void test_bad_pictures(void **state) {
  (void)state;
  static const char *const bad[][2] = {{"bad/cut.jpg", "cut off"},
                                       {"bad/empty.jpg", "empty"},
                                       {"bad/huge.png", "pixels"},
                                       {"bad/text.jpg", ""},
                                       {"bad/blank.png", "anchor"},
                                       {"bad/bomb.png", ""},
                                       {"bad/gone.jpg", "No such file"},
                                       {"bad/one.png", ""},
                                       {"bad/moving.png", ""}};
  size_t size;
  assert_ran(
      shell("rm -rf bad && mkdir -p bad/folder.png && cp scans/tally-0001.jpg bad/good.jpg"));
  char *good = contents("bad/good.jpg", &size);
  write_home("bad/cut.jpg", good, size * 2 / 3);
  write_words("bad/empty.jpg", "");
  write_words("bad/text.jpg", "this is no picture\n");
  write_png_header("bad/huge.png", 20000, 20000);
  write_picture_file("bad/blank.png", 900, 1200, 250);
  write_picture_file("bad/one.png", 1, 1, 0);
  write_png_bomb("bad/bomb.png");
  write_gif("bad/moving.png");
  free(good);
  /* The bomb has to be stopped by the reader, not by luck. */
  assert_ran(shell("ulimit -v 1500000; " READ_C1 "--threads 1 --out bad-out bad bad/gone.jpg"));
  assert_int_equal((int)result("forms"), 10);
  assert_int_equal((int)result("read"), 1);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_value("bad-out/tallies.csv", "tally", bad[i][0] + 4, NULL, NULL, "status", "unread");
    char *reason = lookup("bad-out/tallies.csv", "tally", bad[i][0] + 4, NULL, NULL, "reason");
    assert_true(*reason != 0);
    assert_contains(reason, bad[i][1]);
    free(reason);
    assert_value("bad-out/counts.csv", "tally", bad[i][0] + 4, "field", "01", "status", "unread");
    assert_value("bad-out/counts.csv", "tally", bad[i][0] + 4, "field", "01", "value", "");
  }
  char *alone = lookup("whole/counts.csv", "tally", "tally-0001.jpg", "field", "total", "value");
  assert_value("bad-out/counts.csv", "tally", "good.jpg", "field", "total", "value", alone);
  free(alone);
  assert_ran(shell("$extract --template $c1 --quiet --out bad-cells bad bad/gone.jpg"));
  assert_int_equal((int)result("registered"), 1);
  assert_value("bad-cells/forms.csv", "tally", "huge.png", NULL, NULL, "status", "unreadable");
}

/* Names that would break a CSV file, a page or a shell. */
static void test_hostile_names(void **state) {
  (void)state;
  static const char markup[] = "<img src=x onerror=alert(1)>.jpg", quoted[] = "a,\"b\" & 'c'.jpg";
  static const char script[] = "<script>x.jpg", broken[] = "two\nlines.jpg";
  size_t size;
  assert_ran(shell("rm -rf names && mkdir -p names/deep names/other"));
  char *good = contents("scans/tally-0001.jpg", &size);
  const char *const names[] = {markup, quoted, script, broken, "deep/same.jpg", "other/same.jpg"};
  for (int i = 0; i < 6; i++) {
    char *path = join_path("names", names[i]);
    write_home(path, good, i < 2 ? size : 100);
    free(path);
  }
  free(good);
  assert_ran(shell(READ_C1 "--out named names names/deep names/other"));
  assert_int_equal((int)result("forms"), 6);
  assert_value("named/tallies.csv", "tally", broken, NULL, NULL, "status", "unread");
  assert_value("named/tallies.csv", "tally", "names/deep/same.jpg", NULL, NULL, "status", "unread");
  assert_value("named/counts.csv", "tally", quoted, "field", "01", "corrected", "0");
  char *page = contents("named/report.html", &size);
  assert_null(strstr(page, "<img"));
  assert_null(strstr(page, "<script>x"));
  assert_contains(page, "&lt;img src=x onerror=alert(1)&gt;.jpg");
  assert_contains(page, "two&#10;lines.jpg");
  free(page);
  assert_ran(shell("$extract --template $c1 --quiet --out named-cells names"));
  assert_ran(shell("test -f 'named-cells/cells/%s/01-0.png'", markup));
}

/* ---- going on after a kill ------------------------------------------------------------------- */

static void assert_goes_on(const char *folder) {
  assert_ran(shell(READ_C1 "--out %s --official scans/truth.csv scans", folder));
  assert_same_outputs(folder, "whole");
}

/* A journal cut anywhere, or damaged, only costs the records behind the damage. */
static void test_resume_journal(void **state) {
  (void)state;
  size_t size;
  char *records = contents("whole/.work/journal", &size);
  assert_non_null(records);
  assert_ran(shell("rm -rf cut && mkdir -p cut/.work"));
  size_t cuts[] = {0, 5, 28, 29, 40, 500, size / 2, size - 1};
  for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
    write_home("cut/.work/journal", records, cuts[i]);
    assert_goes_on("cut");
  }
  records[size / 3] ^= 1;
  write_home("cut/.work/journal", records, size);
  assert_goes_on("cut");
  memset(records + 29, 255, 4);
  write_home("cut/.work/journal", records, size);
  assert_goes_on("cut");
  free(records);
  assert_ran(shell("$read --template $c1 --model model.safetensors --out cut scans"));
  assert_contains(err_text, "10 of 10 pictures were seen before");
}

/* A real kill, at whatever moment it comes: no table is half there. */
static void test_resume_kill(void **state) {
  (void)state;
  for (int tenths = 1; tenths < 4; tenths++) {
    assert_ran(shell("rm -rf killed; " READ_C1
                     "--threads 1 --out killed --official scans/truth.csv scans "
                     ">/dev/null & sleep 0.%d; kill -9 $! 2>/dev/null; wait 2>/dev/null; "
                     "for f in counts tallies totals; do test ! -e killed/$f.csv || "
                     "cmp killed/$f.csv whole/$f.csv || exit 1; done",
                     tenths));
    assert_goes_on("killed");
  }
}

/* Another model, template, way of feeding cells, or picture: seen again, not mixed. */
static void test_resume_changed(void **state) {
  (void)state;
  make_model("digits.safetensors", 10, NULL, NULL);
  assert_ran(shell(
      "rm -rf kept && cp -r whole kept && $read --template $c1 --model digits.safetensors --out "
      "kept scans"));
  assert_contains(err_text, "every picture is seen again");
  assert_ran(shell("$read --template $c1 --model digits.safetensors --out fresh --quiet scans"));
  assert_same_outputs("kept", "fresh");
  assert_ran(shell("$read --template $c1 --model digits.safetensors --raw --out kept scans"));
  assert_contains(err_text, "every picture is seen again");
  assert_ran(shell("cp -r scans moved && " READ_C1 "--out moved-out moved && "
                   "cp moved/tally-0002.jpg moved/tally-0001.jpg && "
                   "touch -d '2001-01-01' moved/tally-0001.jpg"));
  assert_ran(shell("$read --template $c1 --model model.safetensors --out moved-out moved"));
  assert_contains(err_text, "9 of 10 pictures were seen before");
  char *twin = lookup("whole/counts.csv", "tally", "tally-0002.jpg", "field", "total", "value");
  assert_value("moved-out/tallies.csv", "tally", "tally-0002.jpg", NULL, NULL, "status", "copy");
  assert_value("moved-out/counts.csv", "tally", "tally-0001.jpg", "field", "total", "value", twin);
  free(twin);
}

/* ---- corrections ----------------------------------------------------------------------------- */

static void test_corrections(void **state) {
  (void)state;
  write_words("corrections.csv",
              "tally,field,value\ntally-0001.jpg,01,345\ntally-0001.jpg,invalid,\n"
              "elsewhere.jpg,01,3\n");
  assert_ran(shell(READ_C1 "--out corrected --corrections corrections.csv scans"));
  assert_value("corrected/counts.csv", "tally", "tally-0001.jpg", "field", "01", "value", "345");
  assert_value("corrected/counts.csv", "tally", "tally-0001.jpg", "field", "01", "probability",
               "1.000000");
  assert_value("corrected/counts.csv", "tally", "tally-0001.jpg", "field", "01", "status", "ok");
  assert_value("corrected/counts.csv", "tally", "tally-0001.jpg", "field", "01", "corrected", "1");
  assert_value("corrected/counts.csv", "tally", "tally-0001.jpg", "field", "invalid", "status",
               "missing");
  assert_value("corrected/counts.csv", "tally", "tally-0002.jpg", "field", "01", "corrected", "0");
  size_t size;
  char *page = contents("corrected/report.html", &size);
  assert_contains(page, "[\"tally-0001.jpg\",\"01\",\"345\"]");
  assert_contains(page, "[\"tally-0001.jpg\",\"invalid\",\"\"]");
  free(page);
}

/* A correction belongs to a picture, whatever it is called: by its hash it finds a renamed one, and
   leaves another one alone that came under the old name. */
static void test_corrections_by_hash(void **state) {
  (void)state;
  char *hash = lookup("whole/tallies.csv", "tally", "tally-0001.jpg", NULL, NULL, "sha256"),
       row[256];
  assert_int_equal(strlen(hash), 64);
  snprintf(row, sizeof row, "tally,field,value,sha256\ntally-0001.jpg,01,345,%s\n", hash);
  write_words("hashed.csv", row);
  assert_ran(shell("rm -rf renamed && mkdir renamed && cp scans/tally-0001.jpg renamed/b.jpg && "
                   "cp scans/tally-0002.jpg renamed/tally-0001.jpg"));
  assert_ran(shell(READ_C1 "--out renamed-out --corrections hashed.csv renamed"));
  assert_value("renamed-out/counts.csv", "tally", "b.jpg", "field", "01", "value", "345");
  assert_value("renamed-out/counts.csv", "tally", "tally-0001.jpg", "field", "01", "corrected",
               "0");
  assert_ran(shell("rm renamed/b.jpg && " READ_C1 "--out renamed-out --corrections hashed.csv "
                   "renamed 2>err"));
  assert_value("renamed-out/counts.csv", "tally", "tally-0001.jpg", "field", "01", "corrected",
               "0");
  free(hash);
}

/* One tally copied, and taken by another camera, is counted once; others with it stay. */
static void test_copies(void **state) {
  (void)state;
  assert_ran(shell(
      "rm -rf cam && mkdir cam && $synth --template $c1 --digits strokes --count 6 --seed 8 --clean "
      "--out cam/a && $synth --template $c1 --digits strokes --count 6 --seed 8 --clean "
      "--rotate 2 --blur 0.8 --scale 1.1 --quality 60 --out cam/b && mkdir cam/all && "
      "for i in 1 2 3 4 5 6; do cp cam/a/tally-000$i.jpg cam/all/a$i.jpg; done; "
      "cp cam/b/tally-0002.jpg cam/all/b2.jpg; cp cam/a/tally-0003.jpg cam/all/c3.jpg"));
  assert_ran(shell(READ_C1 "--out cam-one cam/a"));
  assert_ran(shell(READ_C1 "--out cam-out cam/all"));
  assert_int_equal((int)result("copies"), 2);
  assert_int_equal((int)result("forms"), 8);
  for (int f = 0; f < 2; f++) {
    static const char *const fields[] = {"01", "total"};
    char *once = lookup("cam-one/totals.csv", "field", fields[f], NULL, NULL, "votes");
    assert_value("cam-out/totals.csv", "field", fields[f], NULL, NULL, "votes", once);
    free(once);
  }
  assert_value("cam-out/tallies.csv", "tally", "c3.jpg", NULL, NULL, "status", "copy");
  assert_value("cam-out/counts.csv", "tally", "c3.jpg", "field", "01", "value", "");
  char *reason = lookup("cam-out/tallies.csv", "tally", "c3.jpg", NULL, NULL, "reason");
  assert_contains(reason, "same tally as a3.jpg");
  free(reason);
}

/* Groups and registered voters: bounds narrow, the question of chance can be put. */
static void test_about(void **state) {
  (void)state;
  write_words("about.csv", "tally,group,registered\ntally-0001.jpg,north,300\n");
  assert_ran(shell(READ_C1 "--out about-out --about about.csv scans"));
  write_words("about.csv", "tally,station\ntally-0001.jpg,S 7\ntally-0002.jpg,S 7\n");
  assert_ran(shell(READ_C1 "--out about-out --slips 0.01 --about about.csv scans"));
  assert_value("about-out/tallies.csv", "tally", "tally-0001.jpg", NULL, NULL, "status", "review");
  char *reason = lookup("about-out/tallies.csv", "tally", "tally-0002.jpg", NULL, NULL, "reason");
  assert_contains(reason, "station S 7 has another tally, tally-0001.jpg");
  free(reason);
  write_words("about.csv", "tally,group\ntally-0001.jpg,a\ntally-0001.jpg,b\n");
  assert_refused(shell(READ_C1 "--out about-out --about about.csv scans"), 1, "line 3",
                 "has a row already");
  write_words("about.csv", "tally,votes\ntally-0001.jpg,3\n");
  assert_refused(shell(READ_C1 "--out about-out --about about.csv scans"), 1, "about.csv",
                 "no column group, registered or station");
}

/* A form that nobody could register can be typed in; what was not typed stays unread. */
static void test_corrections_unread(void **state) {
  (void)state;
  write_words("corrections.csv",
              "tally,field,value\nblank.png,01,12\nblank.png,02,30\nblank.png,valid,42\n");
  assert_ran(shell("mkdir -p typed-in"));
  write_picture_file("typed-in/blank.png", 900, 1200, 250);
  assert_ran(shell(READ_C1 "--out typed-out --corrections corrections.csv typed-in"));
  assert_int_equal((int)result("read"), 1);
  assert_value("typed-out/counts.csv", "tally", "blank.png", "field", "valid", "value", "42");
  assert_value("typed-out/counts.csv", "tally", "blank.png", "field", "total", "status", "unread");
  assert_value("typed-out/totals.csv", "field", "valid", NULL, NULL, "votes", "42");
}

static void test_corrections_errors(void **state) {
  (void)state;
  write_words("corrections.csv", "tally,field,value\ntally-0001.jpg,03,1\n");
  assert_refused(shell(READ_C1 "--out x --corrections corrections.csv scans"), 1,
                 "corrections.csv: line 2", "no field \"03\"");
  write_words("corrections.csv", "tally,field,value\ntally-0001.jpg,01,1000\n");
  assert_refused(shell(READ_C1 "--out x --corrections corrections.csv scans"), 1, "line 2",
                 "3 digits");
  write_words("corrections.csv", "tally,field,value\ntally-0001.jpg,01,-4\n");
  assert_refused(shell(READ_C1 "--out x --corrections corrections.csv scans"), 1, "line 2",
                 "not a count");
  write_words("corrections.csv", "tally,field\n");
  assert_refused(shell(READ_C1 "--out x --corrections corrections.csv scans"), 1, "line 1",
                 "\"value\"");
}

/* ---- models ---------------------------------------------------------------------------------- */

static void test_models(void **state) {
  (void)state;
  make_model("five.safetensors", 5, NULL, NULL);
  assert_refused(shell("$read --template $c1 --model five.safetensors --out x scans"), 1,
                 "five.safetensors", "class \"5\" is missing");
  make_model("odd.safetensors", 11, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\ncat", NULL);
  assert_refused(shell("$read --template $c1 --model odd.safetensors --out x scans"), 1,
                 "odd.safetensors", "class \"cat\" is unknown");
  make_model("warm.safetensors", 10, NULL, "warm");
  assert_refused(shell("$read --template $c1 --model warm.safetensors --out x scans"), 1,
                 "warm.safetensors", "temperature");
  assert_refused(shell("$read --template $c1 --model nosuch --out x scans"), 1, "nosuch", "");
  assert_refused(shell("$read --template $c1 --model scans/truth.csv --out x scans"), 1,
                 "truth.csv", "");
  make_model("digits.safetensors", 10, NULL, NULL);
  assert_ran(shell("$read --template $c1 --model digits.safetensors --out ten --quiet scans"));
  assert_int_equal((int)result("read"), READ);
}

/* The note temperature does what --temperature does. */
static void test_temperature(void **state) {
  (void)state;
  make_model("plain.safetensors", 10, NULL, NULL);
  make_model("noted.safetensors", 10, NULL, "2.5");
  assert_ran(shell(
      "$read --template $c1 --model plain.safetensors --temperature 2.5 --out t1 --quiet scans"));
  assert_ran(shell("$read --template $c1 --model noted.safetensors --out t2 --quiet scans"));
  assert_same_files("t1/counts.csv", "t2/counts.csv");
  assert_ran(shell("$read --template $c1 --model plain.safetensors --out t3 --quiet scans"));
  assert_int_equal(shell("cmp -s t1/counts.csv t3/counts.csv"), 1);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void test_report(void **state) {
  (void)state;
  size_t size;
  char *page = contents("whole/report.html", &size);
  assert_non_null(page);
  assert_null(strstr(page, "http:"));
  assert_null(strstr(page, "https:"));
  assert_null(strstr(page, " src="));
  assert_null(strstr(page, "@import"));
  assert_contains(page, "<!DOCTYPE html>");
  assert_contains(page, "data:image/jpeg;base64,");
  assert_contains(page, "Risk against coverage");
  assert_contains(page, "Read against official");
  assert_contains(page, "data-t=\"tally-0007.jpg\"");
  free(page);
  assert_ran(shell(READ_C1 "--out few --pictures 2 scans"));
  page = contents("few/report.html", &size);
  assert_contains(page, "2 forms are shown in full; the other 8");
  assert_contains(page, "<tr class=\"");
  assert_null(strstr(page, "Read against official"));
  free(page);
}

/* How often a text occurs in another. */
static int occurrences(const char *text, const char *part) {
  int count = 0;
  for (; (text = strstr(text, part)) != NULL; text += strlen(part)) count++;
  return count;
}

/* Which sums fail, by how much and on whose side, with links to the forms: as many as sums.csv has. */
static void test_report_arithmetic(void **state) {
  (void)state;
  size_t size;
  int fail_count = 0;
  char *page = contents("whole/report.html", &size), *path = join_path(home, "whole/sums.csv");
  csv table = csv_open(path);
  assert_contains(page, "<h2 id=\"arithmetic\">");
  while (csv_row(&table)) {
    char row[256];
    int difference = atoi(table.fields[3]);
    if (strcmp(table.fields[2], "fails")) continue;
    fail_count++;
    if (difference > 0)
      snprintf(row, sizeof row, "%s has <b>%d more</b> than its parts", table.fields[1],
               difference);
    else
      snprintf(row, sizeof row, "the parts have <b>%d more</b> than %s", -difference,
               table.fields[1]);
    assert_contains(page, row);
    snprintf(row, sizeof row, "\">%s</a></td><td class=\"text\">%s</td>", table.fields[0],
             table.fields[1]);
    assert_contains(page, row);
  }
  csv_close(&table);
  free(path);
  assert_true(fail_count > 0);
  assert_int_equal(occurrences(page, " more</b> than "), fail_count);
  assert_contains(page, "of the sums of this run do not add up on paper");
  free(page);
}

/* Sums with a minus and with "at least" are written as the template has them, and fail with their sign. */
static void test_report_signs(void **state) {
  (void)state;
  size_t size;
  assert_ran(shell("sed 's/^sum  *total .*/sum valid >= total + invalid/; "
                   "s/^sum  *valid = .*/sum 01 = valid - 02/' $c1 >signs.form && "
                   "grep -c '^sum' signs.form | grep -q 2"));
  assert_ran(shell("$read --template signs.form --model model.safetensors --quiet --out signs "
                   "scans"));
  char *page = contents("signs/report.html", &size);
  assert_contains(page, "valid &ge; total + invalid</b> holds on");
  assert_contains(page, "01 = valid &minus; 02</b> holds on");
  assert_contains(page, "than valid</td>");
  assert_contains(page, "[[\"valid\",1],[\"02\",-1]],0]");
  assert_contains(page, "[[\"total\",1],[\"invalid\",1]],1]");
  assert_null(strstr(page, "valid has <b>"));
  free(page);
}

/* Pictures of one tally stand side by side, the one that is counted first; a copy cannot be typed into. */
static void test_report_copies(void **state) {
  (void)state;
  size_t size;
  char *page = contents("cam-out/report.html", &size);
  assert_contains(page, "<p>2 pictures show a tally that another one shows too");
  const char *side = strstr(page, "<div class=\"side\">");
  assert_non_null(side);
  assert_int_equal(occurrences(page, "<div class=\"side\">"), 2);
  assert_int_equal(occurrences(page, "<figure class=\"thumb\">"), 4);
  assert_int_equal(occurrences(page, "</a>, which is counted"), 2);
  const char *copy = strstr(page, "data-t=\"c3.jpg\"");
  assert_non_null(copy);
  const char *input = strstr(copy, "<input "), *end = strstr(copy, "</article>");
  assert_non_null(end);
  assert_true(!input || input > end);
  free(page);
}

/* Two tallies that may be one stand side by side, and both are counted; that one whose like is a copy
   already is not shown again. */
static void test_report_alike(void **state) {
  (void)state;
  static tally_template form;
  char *names[] = {"a.jpg", "b.jpg", "c.jpg", "d.jpg"};
  int copy_of[] = {-1, -1, 0, -1}, alike[] = {-1, 0, -1, 2};
  char pictured[4] = {0};
  report_form forms[4] = {{0}};
  form_list list = {0};
  text_buffer page = {0};
  list.pictures.count = 4;
  list.names = names;
  forms[2].verdict = FORM_COPY;
  report r = {.form = &form, .list = &list, .forms = forms, .pictured = pictured};
  r.copy_of = copy_of;
  r.alike = alike;
  page_copies(&page, &r);
  assert_contains(page.data, "<p>1 picture shows a tally that another one shows too");
  assert_contains(page.data, "<p>1 tally may be the same as another one");
  assert_int_equal(occurrences(page.data, "<div class=\"side\">"), 2);
  assert_int_equal(occurrences(page.data, "b.jpg</a>"), 1);
  assert_int_equal(occurrences(page.data, "d.jpg</a>"), 0);
  assert_null(strstr(page.data, "<svg"));
  free(page.data);
}

/* Of what the page was made, so that it can be told from another one. */
static void test_report_origin(void **state) {
  (void)state;
  size_t size;
  char *page = contents("whole/report.html", &size), hash[SHA256_TEXT], *text;
  assert_contains(page, "<dt>date</dt><dd>2009-02-13</dd>");
  assert_contains(page, "tally.h " TALLY_VERSION ", convnet.h " CONVNET_VERSION);
  assert_contains(page, "--risk 0.005 --alone 0.003 --temperature 1 --seed 1</code>");
  assert_contains(page, "<dt>pictures</dt><dd>10;");
  assert_contains(page, "<dt>official counts</dt><dd>truth.csv");
  text = join_path(home, "model.safetensors");
  hash_file(text, hash);
  free(text);
  assert_contains(page, hash);
  hash_file(getenv("c1"), hash);
  assert_contains(page, hash);
  free(page);
  assert_ran(shell("$read --template $c1 --model model.safetensors --quiet --raw --risk 0.01 "
                   "--seed 7 --out origin scans/tally-0001.jpg"));
  page = contents("origin/report.html", &size);
  assert_contains(page, "--risk 0.01 --alone 0.003 --temperature 1 --seed 7 --raw</code>");
  free(page);
}

/* A refused form is shown too small to be read, with what was looked for; where fewer than half of the
   tallies are read, nothing but bounds is given. */
static void test_report_refused(void **state) {
  (void)state;
  size_t size;
  assert_ran(shell("rm -rf refused && mkdir refused && cp scans/tally-0001.jpg refused && "
                   "head -c 2000 scans/tally-0002.jpg >refused/cut.jpg"));
  write_picture_file("refused/blank.png", 900, 1200, 250);
  assert_ran(shell(READ_C1 "--out refused-out refused"));
  char *page = contents("refused-out/report.html", &size);
  assert_contains(page, "<svg class=\"refused\" viewBox=\"0 0 60 80\"");
  assert_int_equal(occurrences(page, "<svg class=\"refused\""), 1);
  assert_contains(page, "Looked for the form c1-2019: ");
  assert_contains(page, "Estimates and shares of the votes are withheld: fewer than half");
  assert_int_equal(occurrences(page, "colspan=\"5\">withheld"), 5);
  assert_null(strstr(page, "<h2>Shares"));
  free(page);
  assert_value("refused-out/totals.csv", "field", "01", NULL, NULL, "estimate", "withheld");
  assert_value("refused-out/totals.csv", "field", "01", NULL, NULL, "share", "withheld");
  char *most = lookup("refused-out/totals.csv", "field", "01", NULL, NULL, "most");
  assert_true(atof(most) >= 1998);
  free(most);
  assert_ran(shell(READ_C1 "--pictures 0 --out refused-out refused"));
  page = contents("refused-out/report.html", &size);
  assert_null(strstr(page, "<image"));
  free(page);
}

/* Counts with an altered cell are listed with their pieces of picture. What the model that comes with the
   programs knows as crosses is called struck out here. */
static void test_report_alterations(void **state) {
  (void)state;
  size_t size;
  cn_error error;
  char *model_path = join_path(here, "examples/models/tally.safetensors");
  if (!is_file(model_path)) {
    free(model_path);
    skip();
  }
  char *struck_path = join_path(home, "struck.safetensors");
  cn_network *net = cn_load(model_path, &error);
  assert_non_null(net);
  const char *names = cn_network_note(net, "classes"), *cross = strstr(names, "cross");
  const char *between = cross + strlen("cross"), *struck = strstr(between, "struck-out");
  char changed[256]; /* with the two names exchanged */
  assert_true(cross && struck);
  snprintf(changed, sizeof changed, "%.*sstruck-out%.*scross%s", (int)(cross - names), names,
           (int)(struck - between), between, struck + strlen("struck-out"));
  set_note(net, "classes", changed);
  assert_int_equal(cn_save(net, struck_path, &error), CN_OK);
  cn_network_free(net);
  free(model_path);
  free(struck_path);
  assert_ran(shell("$synth --template $c1 --count 8 --seed 5 --severity 1 --quiet --out crossed && "
                   "grep -q ',cross$' crossed/cells.csv"));
  assert_ran(shell("$read --template $c1 --model struck.safetensors --quiet --out struck crossed"));
  char *page = contents("struck/report.html", &size);
  const char *list = strstr(page, "<p>These counts hold something struck out");
  assert_non_null(list);
  int altered = rows_with("struck/counts.csv", "reason", tally_altered_text(TALLY_CLASS_STRUCK));
  assert_true(altered > 0);
  char cell[128];
  snprintf(cell, sizeof cell, "<td class=\"text\">%s</td>", tally_altered_text(TALLY_CLASS_STRUCK));
  assert_int_equal(occurrences(list, cell), altered);
  const char *crop = strstr(list, "<use href=\"#s"), *end = strstr(list, "<h2");
  assert_true(crop && crop < end);
  free(page);
  page = contents("whole/report.html", &size);
  assert_contains(page, "This model was not trained to tell altered cells.");
  free(page);
}

/* Of twelve tallies of 100 votes one has quite other shares, one ten times the votes. The group says what
   is usual: without it all tallies of the smaller half would stand out. Copies and tallies with an unread
   count take no part. */
static void test_report_outliers(void **state) {
  (void)state;
  enum { COUNT = 24 };
  static tally_template form;
  form_list list = {0};
  report_form forms[COUNT] = {{0}};
  report_count counts[COUNT][2] = {{{0}}};
  tally_origin origin[COUNT] = {{0, 0}};
  form.fields = 2;
  list.pictures.count = COUNT;
  report r = {.form = &form, .list = &list, .forms = forms, .counts = counts[0]};
  for (int i = 0; i < COUNT; i++) {
    origin[i].group = i / 12;
    counts[i][0].value = (i < 12 ? 60 : 20) + i % 3;
    counts[i][1].value = (i < 12 ? 40 : 80) - i % 3;
  }
  counts[4][0].value = 20;
  counts[4][1].value = 80;
  counts[7][0].value = 600;
  counts[7][1].value = 400;
  outliers found = outliers_find(&r);
  assert_true(found.count > 10);
  free(found.found);
  r.origin = origin;
  r.group_count = 2;
  found = outliers_find(&r);
  assert_int_equal(found.count, 3);
  for (int k = 0; k < 3; k++)
    assert_int_equal(found.found[k].tally, found.found[k].field < 0 ? 7 : 4);
  assert_true(found.found[1].z * found.found[2].z < 0);
  free(found.found);
  forms[7].verdict = FORM_COPY;
  counts[4][1] = (report_count){.value = TALLY_NO_VALUE, .status = TALLY_COUNT_UNREAD};
  found = outliers_find(&r);
  assert_int_equal(found.count, 0);
}

/* Numbers that differ in a digit, or in two that are swapped. */
static void test_report_slips(void **state) {
  (void)state;
  assert_int_equal(digits_differ(150, 105), 2);
  assert_int_equal(digits_differ(105, 150), 2);
  assert_int_equal(digits_differ(172, 72), 1);
  assert_int_equal(digits_differ(9, 19), 1);
  assert_int_equal(digits_differ(131, 113), 2);
  assert_int_equal(digits_differ(123, 321), 0);
  assert_int_equal(digits_differ(120, 345), 0);
  assert_int_equal(digits_differ(77, 77), 0);
}

/* A full disk: said, and nothing half-written is left. */
static void test_full_disk(void **state) {
  (void)state;
  assert_ran(shell("rm -rf full && cp -r whole full && rm full/*.csv full/*.html"));
  assert_refused(shell("ulimit -f 8; " READ_C1 "--out full scans"), 1, "cannot write",
                 "report.html");
  assert_int_equal(shell("ls full | grep -e part -e html"), 1);
}

/* ---- reference prints ------------------------------------------------------------------------ */

/* A reference print made from some forms lets others of the kind through and refuses a template that
   has two fields exchanged, though its sums hold. */
static void test_print(void **state) {
  (void)state;
  assert_ran(shell("mkdir -p prints && cp \"$c1\" prints/form.form && "
                   "$extract --template prints/form.form --out prints/made --quiet "
                   "--print prints/form.print scans"));
  assert_ran(shell("test -s prints/form.print.png && grep -q '^label  valid ' prints/form.print"));
  assert_ran(shell("$read --template prints/form.form --model model.safetensors --out prints/right "
                   "--quiet scans"));
  assert_int_equal((int)result("read"), READ);
  assert_ran(shell("sed 's/^field   01 /field   xx /; s/^field   02 /field   01 /; "
                   "s/^field   xx /field   02 /' \"$c1\" >prints/other.form && "
                   "cp prints/form.print prints/other.print && "
                   "cp prints/form.print.png prints/other.print.png"));
  assert_refused(shell("$read --template prints/other.form --model model.safetensors "
                       "--out prints/wrong scans"),
                 1, "the row of 01 bears the label of 02", "tally-0001.jpg");
  assert_refused(shell("$extract --template prints/other.form --out prints/wrong2 scans"), 1,
                 "the row of 01 bears the label of 02", "tally-0001.jpg");
  assert_value("prints/wrong2/forms.csv", "tally", "tally-0001.jpg", NULL, NULL, "status",
               "wrong-form");
}

/* A reference print that cannot be used is said, not passed over. */
static void test_print_errors(void **state) {
  (void)state;
  assert_ran(
      shell("mkdir -p faulty && cp \"$c1\" faulty/f.form && cp prints/form.print faulty/f.print"));
  assert_refused(shell("$extract --template faulty/f.form --out faulty/out scans"), 1,
                 "faulty/f.print.png", "reference print");
  assert_ran(shell("cp cells/cells/tally-0001.jpg/valid-2.png faulty/f.print.png"));
  assert_refused(shell("$extract --template faulty/f.form --out faulty/out scans"), 1,
                 "faulty/f.print", "the picture measures 28 x 28");
  assert_ran(shell("cp prints/form.print.png faulty/f.print.png && "
                   "sed 's/^form .*/form other/' prints/form.print >faulty/f.print"));
  assert_refused(shell("$extract --template faulty/f.form --out faulty/out scans"), 1,
                 "faulty/f.print", "of another form, other");
  assert_refused(shell("$extract --template $c1 --out faulty/out --print faulty/new.print "
                       "scans/tally-0001.jpg"),
                 1, "faulty/new.print is not made", "it takes 3");
}

/* ---- real forms ------------------------------------------------------------------------------ */

/* labels.csv: form,field,cells,value. Every form is registered; with the model that comes with the
   programs every count is right, or its form is flagged. */
static void test_private_forms(void **state) {
  (void)state;
  const char *forms = getenv("TALLY_FORMS");
  text_buffer folder = {0}, model_path = {0};
  text_add(&folder, "%s%s%s", forms && *forms == '/' ? "" : here, forms && *forms == '/' ? "" : "/",
           forms ? forms : "../shared/forms/c1-2019");
  text_add(&model_path, "%s/examples/models/tally.safetensors", here);
  if (!is_folder(folder.data)) {
    free(folder.data);
    free(model_path.data);
    skip();
  }
  assert_ran(shell("$extract --template $c1 --out real --quiet '%s'", folder.data));
  assert_int_equal((int)result("registered"), (int)result("forms"));
  assert_int_equal((int)result("forms"), 8);
  if (is_file(model_path.data)) {
    assert_ran(shell(
        "sed 's/,[^,]*,\\([^,]*\\)$/,\\1/; s/^form,field.*/tally,field,value/' '%s/labels.csv' "
        ">real.csv",
        folder.data));
    assert_ran(shell("$read --template $c1 --model '%s' --out real-out --official real.csv '%s'",
                     model_path.data, folder.data));
    assert_int_equal((int)result("read"), 8);
    assert_true(result("accepted_wrong") <= 0);
    assert_value("real-out/tallies.csv", "tally", "form13.jpg", NULL, NULL, "status", "review");
    assert_value("real-out/tallies.csv", "tally", "form13.jpg", NULL, NULL, "sums", "fails");
    assert_value("real-out/counts.csv", "tally", "form13.jpg", "field", "total", "value", "150");
    if (result("accuracy") < 1) fail_msg("accuracy %.3f", result("accuracy"));
  }
  free(folder.data);
  free(model_path.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_usage),
      cmocka_unit_test(test_template_errors),
      cmocka_unit_test(test_natural_order),
      cmocka_unit_test(test_extract),
      cmocka_unit_test(test_extract_labels),
      cmocka_unit_test(test_extract_split),
      cmocka_unit_test(test_extract_counts),
      cmocka_unit_test(test_read_tables),
      cmocka_unit_test(test_read_accuracy),
      cmocka_unit_test(test_read_totals),
      cmocka_unit_test(test_read_mismatch),
      cmocka_unit_test(test_read_threads),
      cmocka_unit_test(test_bad_pictures),
      cmocka_unit_test(test_hostile_names),
      cmocka_unit_test(test_resume_journal),
      cmocka_unit_test(test_resume_kill),
      cmocka_unit_test(test_resume_changed),
      cmocka_unit_test(test_corrections),
      cmocka_unit_test(test_corrections_by_hash),
      cmocka_unit_test(test_copies),
      cmocka_unit_test(test_about),
      cmocka_unit_test(test_corrections_unread),
      cmocka_unit_test(test_corrections_errors),
      cmocka_unit_test(test_models),
      cmocka_unit_test(test_temperature),
      cmocka_unit_test(test_report),
      cmocka_unit_test(test_report_arithmetic),
      cmocka_unit_test(test_report_signs),
      cmocka_unit_test(test_report_copies),
      cmocka_unit_test(test_report_alike),
      cmocka_unit_test(test_report_origin),
      cmocka_unit_test(test_report_refused),
      cmocka_unit_test(test_report_alterations),
      cmocka_unit_test(test_report_outliers),
      cmocka_unit_test(test_report_slips),
      cmocka_unit_test(test_full_disk),
      cmocka_unit_test(test_print),
      cmocka_unit_test(test_print_errors),
      cmocka_unit_test(test_private_forms),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
