/* test_synth.c - tally-synth from outside, as a user runs it: the same bytes for the same seed, tables
   that agree with each other, votes as in the paper's district, pages that tally.h finds where
   corners.csv says they are, and what it says to bad input.

   Build:  make all build/tests/test_synth
   Run:    build/tests/test_synth     in the repository's root; BIN=folder of the programs

   Everything is drawn into a temporary folder. */
#define main synth_main
#include "../tools/tally-synth.c"
#undef main
#include "support.h"

#include "programs.h"

static char here[PATH_MAX];

/* ---- running the program ----------------------------------------------------------------------- */

static char *home_path(const char *name) {
  return join_path(home, name);
}

/* It failed as it should: that code, for a failure one line, with the part in it. */
static void assert_refused(int code, int expected, const char *part) {
  if (code != expected) fail_msg("exit code %d instead of %d: %s", code, expected, err_text);
  size_t lines = 0;
  for (char *c = err_text; *c; c++) lines += *c == '\n';
  if (expected == 1 && lines != 1) fail_msg("%zu lines instead of one: %s", lines, err_text);
  assert_contains(err_text, part);
}

static int same_files(const char *a, const char *b) {
  size_t a_size = 0, b_size = 0;
  char *a_bytes = contents(a, &a_size), *b_bytes = contents(b, &b_size);
  if (!a_bytes || !b_bytes) fail_msg("%s is missing", a_bytes ? b : a);
  int same = a_size == b_size && !memcmp(a_bytes, b_bytes, a_size);
  free(a_bytes);
  free(b_bytes);
  return same;
}

static int setup(void **state) {
  (void)state;
  const char *bin = getenv("BIN");
  char path[PATH_MAX + 64];
  snprintf(home, sizeof home, "/tmp/test_synth.XXXXXX");
  if (!mkdtemp(home) || !getcwd(here, sizeof here)) return -1;
  snprintf(path, sizeof path, "%s%s%s/tally-synth", bin && *bin == '/' ? "" : here,
           bin && *bin == '/' ? "" : "/", bin ? bin : "bin");
  if (access(path, X_OK)) {
    fprintf(stderr, "%s is missing; run make first\n", path);
    return -1;
  }
  setenv("synth", path, 1);
  snprintf(path, sizeof path, "%s/examples/templates/mexico-2015.form", here);
  setenv("mexico", path, 1);
  snprintf(path, sizeof path, "%s/examples/templates/c1-2019.form", here);
  setenv("c1", path, 1);
  return 0;
}

/* ---- reading what was drawn -------------------------------------------------------------------- */

static tally_template form_in(const char *folder) {
  char name[64];
  size_t size;
  tally_template form;
  tally_error error;
  snprintf(name, sizeof name, "%s/template.form", folder);
  char *text = contents(name, &size);
  assert_non_null(text);
  if (tally_template_parse(text, size, &form, &error) != TALLY_OK)
    fail_msg("%s:%d: %s", name, error.line, error.message);
  free(text);
  return form;
}

static csv table_in(const char *folder, const char *name) {
  char both[64];
  snprintf(both, sizeof both, "%s/%s", folder, name);
  char *path = home_path(both);
  csv table = csv_open(path);
  return table;
}

/* What the cells of one field say: a number, or -1 (missing) or -2 (illegible). */
static int number_of_marks(csv *cells, const char *of, const tally_field *field) {
  int value = 0, inked = 0, digit_seen = 0, bad = 0;
  for (int k = 0; k < field->digits; k++) {
    assert_true(csv_row(cells));
    assert_string_equal(cells->fields[0], of);
    assert_string_equal(cells->fields[1], field->name);
    assert_int_equal(atoi(cells->fields[2]), k);
    const char *label = cells->fields[3];
    int digit = label[0] >= '0' && label[0] <= '9' && !label[1];
    inked += strcmp(label, "empty") != 0;
    if (!strcmp(label, "illegible")) bad = 1;
    else if (!digit) {
      assert_false(digit_seen && !bad);
      assert_true(!strcmp(label, "empty") || !strcmp(label, "cross") || !strcmp(label, "dash"));
    }
    digit_seen |= digit;
    value = value * 10 + (digit ? label[0] - '0' : 0);
  }
  return bad ? -2 : inked ? value : -1;
}

typedef struct figures {
  int tallies, missing, illegible, wrong_sums;
} figures;

/* Reads a run's tables and fails where truth, cells and sums disagree. */
static figures check_tables(const char *folder) {
  tally_template form = form_in(folder);
  csv truth = table_in(folder, "truth.csv"), cells = table_in(folder, "cells.csv");
  figures out = {0, 0, 0, 0};
  int value[TALLY_MAX_FIELDS];
  for (int f = 0; csv_row(&truth); f = (f + 1) % form.fields) {
    const char *state = truth.fields[3];
    int marks = number_of_marks(&cells, truth.fields[0], &form.field[f]),
        flag = atoi(truth.fields[4]);
    assert_string_equal(truth.fields[1], form.field[f].name);
    value[f] = *truth.fields[2] ? atoi(truth.fields[2]) : 0;
    if (marks >= 0) {
      assert_string_equal(state, "number");
      assert_int_equal(marks, value[f]);
    } else {
      assert_string_equal(state, marks == -1 ? "missing" : "illegible");
      if (marks == -1) assert_string_equal(truth.fields[2], "");
      out.missing += marks == -1;
      out.illegible += marks == -2;
    }
    if (f + 1 < form.fields) continue;
    assert_int_equal(flag, adds_up(&form, value));
    out.tallies++;
    out.wrong_sums += !flag;
  }
  assert_false(csv_row(&cells));
  csv_close(&truth);
  csv_close(&cells);
  return out;
}

/* The largest distance between where tally.h puts a cell's corner and where it is, template pixels;
   every page must be found. */
static double worst_corner(const char *folder) {
  tally_template form = form_in(folder);
  csv corners = table_in(folder, "corners.csv");
  static tally_registration where;
  char last[64] = "", name[160];
  double worst = 0;
  while (csv_row(&corners)) {
    if (strcmp(last, corners.fields[0])) {
      picture seen = {0};
      snprintf(last, sizeof last, "%s", corners.fields[0]);
      snprintf(name, sizeof name, "%s/%s", folder, last);
      char *path = home_path(name);
      assert_null(picture_read(path, 3, DECODE_MAX_PIXELS, &seen));
      tally_image image = {seen.pixels, seen.width, seen.height, 3};
      assert_int_equal(tally_register(&image, &form, &where), TALLY_OK);
      if (where.status != TALLY_FORM_OK) fail_msg("%s: %s", name, where.reason);
      free(seen.pixels);
      free(path);
    }
    int field = tally_template_field(&form, corners.fields[1]);
    const tally_box *b = &form.field[field].cell[atoi(corners.fields[2])];
    for (int i = 0; i < 4; i++) {
      double x, y;
      tally_registration_map(&where, field, b->x + (i == 1 || i == 2 ? b->width : 0),
                             b->y + (i > 1 ? b->height : 0), &x, &y);
      double off = hypot(x - atof(corners.fields[3 + 2 * i]), y - atof(corners.fields[4 + 2 * i]));
      worst = fmax(worst, off / where.scale);
    }
  }
  csv_close(&corners);
  return worst;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void test_usage(void **state) {
  (void)state;
  assert_ran(shell("$synth --help"));
  assert_contains(out_text, "examples:");
  assert_refused(shell("$synth"), 2, "--template is missing");
  assert_refused(shell("$synth --template $mexico --out a"), 2, "--count is missing");
  assert_refused(shell("$synth --template $mexico --count 1"), 2, "--out is missing");
  assert_refused(shell("$synth --template $mexico --count 0 --out a"), 2, "--count");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --blur 2..1"), 2, "downwards");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --light 1"), 2, "--light");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --rotate x..2"), 2,
                 "not a number");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --format bmp"), 2,
                 "not one of");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --wrong"), 2, "--wrong");
}

static void test_bad_input(void **state) {
  (void)state;
  static const char two[] = "form f\npage 1000 x 1000\nanchor a square 20,20 30x30\n"
                            "anchor b square 900,20 30x30\nanchor c square 20,900 30x30\n"
                            "field A 2 digits cells 500,200 2x40x50\n";
  assert_refused(shell("$synth --template none.form --count 1 --out a"), 1, "none.form");
  assert_refused(shell("$synth --template . --count 1 --out a"), 1, ".");
  write_home("bad.form", "form f\npage 10 x\n", 17);
  assert_refused(shell("$synth --template bad.form --count 1 --out a"), 1, "bad.form: line 2, column ");
  write_home("zero.form", "form f\n\0", 8);
  assert_refused(shell("$synth --template zero.form --count 1 --out a"), 1, "not a text file");
  write_home("plain.form", two, sizeof two - 1);
  assert_refused(shell("$synth --template plain.form --count 1 --out a --mismatch 1"), 1,
                 "no sums");
  assert_refused(shell("$synth --template plain.form --count 1 --out a --rows 2"), 1, "one sum");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --rows 16"), 1, "has 15");
  assert_refused(shell("$synth --template $c1 --count 1 --out a --rows 2"), 1, "one sum");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --digits none"), 1, "none");
  assert_refused(shell("$synth --template $mexico --count 1 --out a --digits .:test"), 1, "t10k");
  assert_refused(shell("$synth --template $mexico --count 1 --out plain.form"), 1, "not a folder");
  assert_refused(shell("$synth --template $mexico --count 1 --out no/where"), 1, "no/where");
  assert_refused(shell("sed 's/page.*/page 9999 x 9999/' $mexico >huge.form; "
                       "$synth --template huge.form --count 1 --scale 4 --out a"), 1, "too large");
  assert_ran(shell("mkdir -p taken/tally-0001.jpg"));
  assert_refused(shell("$synth --template $mexico --count 1 --out taken"), 1, "tally-0001.jpg");
  assert_ran(shell("test $(ls taken | wc -l) = 2")); /* the folder and template.form: no leavings */
  assert_ran(shell("$synth --template plain.form --count 3 --out plain"));
}

static void test_same_bytes(void **state) {
  (void)state;
  static const char *const tables_of[] = {"truth.csv", "cells.csv", "corners.csv", "pages.csv"};
  char a[64], b[64];
  assert_ran(
      shell("for t in 1 2; do $synth --template $mexico --count 6 --threads $t --out s$t; done"));
  assert_ran(shell("$synth --template $mexico --count 4 --threads 2 --out part"));
  assert_ran(shell("$synth --template $mexico --count 4 --seed 2 --out other"));
  for (int i = 1; i <= 6; i++) {
    snprintf(a, sizeof a, "s1/tally-%04d.jpg", i);
    snprintf(b, sizeof b, "s2/tally-%04d.jpg", i);
    assert_true(same_files(a, b));
  }
  for (int k = 0; k < 4; k++) {
    snprintf(a, sizeof a, "s1/%s", tables_of[k]);
    snprintf(b, sizeof b, "s2/%s", tables_of[k]);
    assert_true(same_files(a, b));
  }
  assert_true(same_files("s1/tally-0004.jpg", "part/tally-0004.jpg"));
  assert_false(same_files("s1/tally-0004.jpg", "other/tally-0004.jpg"));
  assert_false(same_files("part/truth.csv", "other/truth.csv"));
}

/* Another camera leaves what is written as it was. */
static void test_camera_apart(void **state) {
  (void)state;
  assert_ran(shell("$synth --template $c1 --count 3 --out still"));
  assert_ran(
      shell("$synth --template $c1 --count 3 --blur 1.5 --rotate 90 --scale 0.5 --out moved"));
  assert_true(same_files("still/cells.csv", "moved/cells.csv"));
  assert_true(same_files("still/truth.csv", "moved/truth.csv"));
  assert_false(same_files("still/corners.csv", "moved/corners.csv"));
}

static void test_tables(void **state) {
  (void)state;
  assert_ran(shell("$synth --template $mexico --count 60 --severity 2 --scale 0.12 --out small"));
  figures f = check_tables("small");
  assert_int_equal(f.tallies, 60);
  assert_int_equal(f.wrong_sums, 0);
  assert_true(f.missing > 0 && f.illegible > 0);
  assert_ran(shell("$synth --template $c1 --count 40 --scale 0.12 --mismatch 1 --out wrong"));
  assert_int_equal(check_tables("wrong").wrong_sums, 40);
  assert_ran(shell("$synth --template $c1 --count 200 --scale 0.1 --mismatch 0.2 --out some"));
  int wrong = check_tables("some").wrong_sums;
  assert_in_range(wrong, 20, 62);
  assert_ran(shell("$synth --template $mexico --count 20 --scale 0.12 --clean --out clean"));
  f = check_tables("clean");
  assert_int_equal(f.missing + f.illegible + f.wrong_sums, 0);
  assert_ran(shell("! grep -qE 'cross|dash|empty' clean/cells.csv"));
}

static int compare_numbers(const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

/* How many rows of two tables differ in a column, and how many of those hold the text in the second. */
static int count_changes(const char *before, const char *after, const char *name, int column,
                         const char *text, int *with_text) {
  csv a = table_in(before, name), b = table_in(after, name);
  int changes = 0;
  *with_text = 0;
  while (csv_row(&a)) {
    assert_true(csv_row(&b));
    *with_text += !strcmp(b.fields[column], text);
    changes += strcmp(a.fields[column], b.fields[column]) != 0;
  }
  assert_false(csv_row(&b));
  csv_close(&a);
  csv_close(&b);
  return changes;
}

/* What is struck out, written beside or written over is labelled so, at its rate, and what is meant
   stays unless nothing is left. */
static void test_corrections(void **state) {
  (void)state;
  static const char *const labels[] = {"struck-out", "several", "overwritten"};
  static const char *const options[] = {"struck", "several", "overwritten"};
  char command[256], folder[32];
  int with;
  assert_ran(shell("$synth --template $mexico --count 25 --scale 0.12 --out as"));
  for (int k = 0; k < 3; k++) {
    snprintf(folder, sizeof folder, "as-%s", options[k]);
    snprintf(command, sizeof command,
             "$synth --template $mexico --count 25 --scale 0.12 --%s 0.3 "
             "--out %s",
             options[k], folder);
    assert_ran(shell(command));
    int cells = count_changes("as", folder, "cells.csv", 3, labels[k], &with);
    assert_int_equal(cells, with);
    int counts = count_changes("as", folder, "truth.csv", 3, "altered", &with);
    assert_int_equal(counts, with);
    assert_in_range(counts, 80, 155); /* 0.3 of 400 */
    if (k)
      assert_int_equal(cells, counts);
    else
      assert_true(cells > counts * 5 / 4); /* some as a whole */
    int values = count_changes("as", folder, "truth.csv", 2, "", &with);
    assert_int_equal(values, k ? 0 : counts);
    assert_int_equal(count_changes("as", folder, "corners.csv", 3, "", &with), 0);
  }
  assert_refused(shell("$synth --template $mexico --count 1 --struck 0.6 --faint 0.6 --out a"), 2,
                 "more than 1");
}

/* Mean darkness of a page's cells. */
static double cell_darkness(const char *folder) {
  tally_template form = form_in(folder);
  static tally_registration where;
  static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
  char name[96];
  picture seen = {0};
  double sum = 0;
  snprintf(name, sizeof name, "%s/tally-0001.jpg", folder);
  char *path = home_path(name);
  assert_null(picture_read(path, 3, DECODE_MAX_PIXELS, &seen));
  tally_image image = {seen.pixels, seen.width, seen.height, 3};
  assert_int_equal(tally_register(&image, &form, &where), TALLY_OK);
  if (where.status != TALLY_FORM_OK) fail_msg("%s: %s", name, where.reason);
  assert_int_equal(tally_cut(&image, &form, &where, cells), TALLY_OK);
  for (int k = 0; k < form.cells; k++)
    for (int i = 0; i < TALLY_SIDE * TALLY_SIDE; i++) sum += cells[k].raw[i];
  free(seen.pixels);
  free(path);
  return sum / form.cells / (TALLY_SIDE * TALLY_SIDE);
}

/* Faint digits have less ink, a ground has more, and neither changes what is meant. */
static void test_faint_and_ground(void **state) {
  (void)state;
  int with;
  assert_ran(shell("for s in '' '--faint 1' '--ground 1'; do "
                   "$synth --template $c1 --clean --count 1 --scale 1 $s --out \"ink$s\"; done"));
  assert_int_equal(count_changes("ink", "ink--faint 1", "cells.csv", 3, "", &with), 0);
  assert_int_equal(count_changes("ink", "ink--ground 1", "truth.csv", 2, "", &with), 0);
  double plain = cell_darkness("ink");
  assert_true(cell_darkness("ink--faint 1") < 0.97 * plain);
  assert_true(cell_darkness("ink--ground 1") > 1.02 * plain);
}

/* Every form of every symbol is a path that the pen can follow inside its box. */
static void test_forms(void **state) {
  (void)state;
  for (int of = 0; of < NUMERALS; of++)
    for (int symbol = 0; symbol < SYMBOLS; symbol++) {
      const char *const *forms = forms_of((numeral_system)of, symbol);
      int count = count_forms(forms);
      assert_true((count > 0) == (symbol < 10 || symbol == CROSS || symbol == DASH));
      for (int i = 0; i < count; i++) {
        int points = 0, length = 0;
        for (const char *from = forms[i]; *from; from += length) {
          int x, y;
          if (sscanf(from, "%d %d%n", &x, &y, &length) != 2) {
            length = (int)strspn(from, " /");
            if (!length || points < 2) fail_msg("%d, %d: %s", of, symbol, forms[i]);
            points = 0;
            continue;
          }
          assert_true(x >= 0 && x <= 100 && y >= 0 && y <= 100);
          if (++points > MOST_POINTS) fail_msg("%d, %d: %s", of, symbol, forms[i]);
        }
        if (points < 2) fail_msg("%d, %d: %s", of, symbol, forms[i]);
      }
    }
}

/* Numerals of other scripts are drawn for the same votes, by the pen only. */
static void test_numerals(void **state) {
  (void)state;
  int with;
  assert_ran(shell("for n in western thai arabic; do "
                   "$synth --template $c1 --count 2 --numerals $n --out in-$n; done"));
  assert_int_equal(count_changes("in-western", "in-thai", "truth.csv", 2, "", &with), 0);
  assert_false(same_files("in-western/tally-0001.jpg", "in-thai/tally-0001.jpg"));
  assert_false(same_files("in-thai/tally-0001.jpg", "in-arabic/tally-0001.jpg"));
  assert_refused(shell("$synth --template $c1 --count 1 --numerals thai --digits x --out a"), 2,
                 "the pen draws them");
}

/* From 0 to 176, skewed, half of them 12 or less; parties keep their strength. */
static void test_votes(void **state) {
  (void)state;
  enum { TALLIES = 200, ROWS = 15 };
  static int all[TALLIES * ROWS];
  size_t size;
  char path[PATH_MAX + 64];
  snprintf(path, sizeof path, "%s/examples/templates/mexico-2015.form", here);
  char *text = read_file(path, &size);
  tally_template form = parse_form(text, path);
  for (int seed = 1; seed <= 20; seed++) {
    district parties = make_district(&form, (uint64_t)seed);
    int value[TALLY_MAX_FIELDS], count = 0, half[2][TALLY_MAX_FIELDS];
    memset(half, 0, sizeof half);
    for (int i = 0; i < TALLIES; i++) {
      cn_random random = stream_of((uint64_t)seed, i, PART_VOTES);
      deal_votes(&form, &parties, &random, value);
      assert_true(adds_up(&form, value));
      for (int f = 0; f < form.fields; f++) {
        half[i % 2][f] += value[f];
        if (!parties.is_total[f]) all[count++] = value[f];
      }
    }
    qsort(all, (size_t)count, sizeof(int), compare_numbers);
    assert_true(all[0] == 0 && all[count - 1] <= MOST_VOTES && all[count - 1] > 100);
    assert_in_range(all[count / 2], 6, 12);
    for (int f = 0; f < form.fields; f++)
      assert_true(fabs(log((half[0][f] + 10.0) / (half[1][f] + 10.0))) < 0.3);
  }
  free(text);
}

static void test_registers(void **state) {
  (void)state;
  double worst;
  assert_ran(shell("$synth --template $mexico --clean --count 3 --format png --out up"));
  worst = worst_corner("up");
  if (worst > 0.35) fail_msg("corners are off by %.2f", worst);
  assert_ran(shell("$synth --template $c1 --clean --count 4 --rotate -20..20 --out turned"));
  worst = worst_corner("turned");
  if (worst > 0.6) fail_msg("corners are off by %.2f", worst);
  assert_ran(shell("$synth --template $c1 --count 3 --rotate 270 --perspective 3 --out hard"));
  assert_true(worst_corner("hard") < 2);
  assert_ran(shell("$synth --template $mexico --count 4 --rows 13 --out rows"));
  assert_true(worst_corner("rows") < 2);
  tally_template form = form_in("rows");
  assert_int_equal(form.fields, 14);
  assert_int_equal(form.sum[0].parts, 13);
  assert_int_equal(tally_template_field(&form, "IND"), -1);
  assert_true(tally_template_field(&form, "NULOS") >= 0);
}

/* What tally.h cuts out agrees with cells.csv about where there is ink. */
static void test_ink(void **state) {
  (void)state;
  assert_ran(shell("$synth --template $mexico --count 6 --seed 5 --out ink"));
  tally_template form = form_in("ink");
  csv table = table_in("ink", "cells.csv");
  static tally_registration where;
  static tally_cell cells[TALLY_MAX_FIELDS * TALLY_MAX_DIGITS];
  int wrong = 0, empty = 0;
  for (int i = 1; i <= 6; i++) {
    char name[64];
    picture seen = {0};
    snprintf(name, sizeof name, "ink/tally-%04d.jpg", i);
    char *path = home_path(name);
    assert_null(picture_read(path, 3, DECODE_MAX_PIXELS, &seen));
    tally_image image = {seen.pixels, seen.width, seen.height, 3};
    assert_int_equal(tally_register(&image, &form, &where), TALLY_OK);
    assert_int_equal(tally_cut(&image, &form, &where, cells), TALLY_OK);
    for (int k = 0; k < form.cells; k++) {
      assert_true(csv_row(&table));
      int is_empty = !strcmp(table.fields[3], "empty");
      empty += is_empty;
      wrong += is_empty != (cells[k].state == TALLY_CELL_EMPTY);
    }
    free(seen.pixels);
    free(path);
  }
  csv_close(&table);
  assert_true(empty > 0);
  if (wrong > 6) fail_msg("%d of %d cells disagree", wrong, 6 * form.cells);
}

static void big_endian_to(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Files as of MNIST with `count` samples: a ring, or a bar, by turns. */
static void write_samples(const char *part, int classes, int bar) {
  enum { COUNT = 40 };
  static uint8_t images[16 + COUNT * 784], labels[8 + COUNT];
  char name[64];
  memset(images, 0, sizeof images);
  big_endian_to(images, 0x803);
  big_endian_to(images + 4, COUNT);
  big_endian_to(images + 8, 28);
  big_endian_to(images + 12, 28);
  big_endian_to(labels, 0x801);
  big_endian_to(labels + 4, COUNT);
  for (int i = 0; i < COUNT; i++) {
    labels[8 + i] = (uint8_t)(i % classes);
    for (int y = 4; y < 24; y++)
      for (int x = 4; x < 24; x++) {
        double r = hypot(x - 13.5, y - 13.5);
        images[16 + i * 784 + y * 28 + x] = (bar ? abs(x - 13) < 2 : r > 6 && r < 9) ? 255 : 0;
      }
  }
  snprintf(name, sizeof name, "idx/%s-images-idx3-ubyte", part);
  write_home(name, images, sizeof images);
  snprintf(name, sizeof name, "idx/%s-labels-idx1-ubyte", part);
  write_home(name, labels, sizeof labels);
}

/* Digits come from the part that was asked for, and only from there. */
static void test_samples(void **state) {
  (void)state;
  assert_ran(shell("mkdir -p idx"));
  write_samples("train", 10, 0);
  assert_refused(shell("$synth --template $c1 --count 1 --digits idx:test --out a"), 1, "t10k");
  write_samples("t10k", 10, 1);
  assert_ran(shell("for p in train test; do "
                   "$synth --template $c1 --clean --count 2 --digits idx:$p --out $p; done"));
  assert_true(same_files("train/cells.csv", "test/cells.csv"));
  assert_false(same_files("train/tally-0001.jpg", "test/tally-0001.jpg"));
  write_samples("train", 10, 1);
  assert_ran(shell("$synth --template $c1 --clean --count 2 --digits idx:train --out again"));
  assert_true(same_files("again/tally-0001.jpg", "test/tally-0001.jpg"));
  write_samples("t10k", 9, 1);
  assert_refused(shell("$synth --template $c1 --count 1 --digits idx:test --out a"), 1,
                 "class \"9\"");
}

/* Tables appear when the run is complete, or not at all. */
static void test_killed(void **state) {
  (void)state;
  assert_ran(shell("$synth --template $mexico --count 100000 --out killed & "
                   "for i in $(seq 200); do test -e killed/tally-0001.jpg && break; sleep 0.1; done; "
                   "kill -9 $!; wait $!; test -e killed/tally-0001.jpg && "
                   "ls killed | grep -q 'truth.csv.*part' && ! ls killed | grep -qE 'csv$'"));
  assert_ran(
      shell("$synth --template $mexico --count 2 --out killed && ! ls killed | grep -q part"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_usage),       cmocka_unit_test(test_bad_input),
      cmocka_unit_test(test_same_bytes),  cmocka_unit_test(test_camera_apart),
      cmocka_unit_test(test_tables),      cmocka_unit_test(test_votes),
      cmocka_unit_test(test_registers),   cmocka_unit_test(test_ink),
      cmocka_unit_test(test_samples),     cmocka_unit_test(test_killed),
      cmocka_unit_test(test_corrections), cmocka_unit_test(test_faint_and_ground),
      cmocka_unit_test(test_forms),       cmocka_unit_test(test_numerals),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
