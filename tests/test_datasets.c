/* test_datasets.c - data sets as people have them: what is a class folder and what is not, numbers that
   add up, and tables as spreadsheets write them.

   Build:  make all build/tests/test_datasets
   Run:    build/tests/test_datasets     in the repository's root; BIN=folder of programs */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_datasets"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/csv.h"
#include "../tools/csv_write.h"
#include "../tools/dataset.h"
#include "../tools/output.h"
#include "../tools/extract/labels.h"
#include "../tools/implementations/stb.h"
#include "support.h"

#include "programs.h"

/* ---- data -------------------------------------------------------------------------------------- */

static char *home_path(const char *name) {
  return join_path(home, name);
}

/* A picture of its own, by its number. */
static void write_picture(const char *name, int number) {
  uint8_t pixels[4] = {(uint8_t)number, (uint8_t)(number >> 8), 7, 200};
  char *path = home_path(name);
  assert_true(stbi_write_png(path, 2, 2, 1, pixels, 0));
  free(path);
}

/* `count` pictures in a folder, which is made. */
static void write_pictures(const char *folder, int count) {
  static int number;
  assert_ran(shell("mkdir -p '%s'", folder));
  for (int i = 0; i < count; i++) {
    char name[128];
    snprintf(name, sizeof name, "%s/%03d.png", folder, i);
    write_picture(name, number++);
  }
}

static int setup(void **state) {
  (void)state;
  tool_quiet = 1;
  if (!open_home("tally-datasets")) return -1;
  write_words("two.net", "input 2x2x1\ndense 2\nsoftmax\n");
  return 0;
}

/* ---- class folders ----------------------------------------------------------------------------- */

/* How many things were left out for a reason or ending. */
static int left_out_count(const left_out *left, const char *what) {
  for (int k = 0; k < left->count; k++)
    if (!strcmp(left->kinds[k].what, what)) return left->kinds[k].count;
  return 0;
}

/* The pictures of a class; -1: there is none of that name. */
static int class_size(const dataset *data, const char *name) {
  int class_index = classes_find(&data->set, name), size = 0;
  for (int i = 0; i < data->count; i++) size += data->labels[i] == class_index;
  return class_index < 0 ? -1 : size;
}

static dataset open_data(const char *name, int flat) {
  char *path = home_path(name);
  dataset data = dataset_open(path, flat, NULL);
  free(path);
  return data;
}

static void make_classes(void) {
  write_pictures("far/away", 4);
  write_pictures("data/cats", 3);
  write_pictures("data/cats/deep/er", 2);
  write_pictures("data/dogs", 4);
  write_pictures("data/dogs/more", 5);
  write_pictures("data/dogs/__MACOSX", 2);
  write_pictures("data/dogs/.thumbnails", 2);
  write_pictures("data/__MACOSX/cats", 2);
  write_pictures("data/@eaDir", 2);
  write_pictures("data/.git", 2);
  write_picture("data/loose.png", 5000);
  assert_ran(
      shell("mkdir data/empty data/words && echo words >data/words/read.me && "
            "echo x >data/cats/notes.txt && : >data/cats/Thumbs.db && : >data/cats/.DS_Store && "
            "echo x >data/cats/README && echo x >data/table.csv"));
  /* links: one that sorts before what it leads to, into a class, back, higher, nowhere, elsewhere */
  assert_ran(
      shell("cd data && ln -s cats again && ln -s cats/deep below && ln -s . data && "
            "ln -s .. higher && ln -s nowhere lost && ln -s ../far/away elsewhere && "
            "ln -s ../far/away twice && ln -s .. cats/back && ln -s 000.png cats/same.png && "
            "ln dogs/000.png dogs/hard.png"));
}

static void test_classes(void **state) {
  (void)state;
  make_classes();
  dataset data = open_data("data", 0);
  assert_int_equal(data.set.count, 3);
  assert_int_equal(class_size(&data, "cats"), 5);
  assert_int_equal(class_size(&data, "dogs"), 9);
  assert_int_equal(class_size(&data, "elsewhere"), 4);
  const struct {
    const char *what;
    int count;
  } left[] = {{"link to a folder", 6}, /* again, below, data, higher, twice, cats/back */
              {"broken link", 1},
              {"folder __MACOSX", 2},
              {"folder @eaDir", 1},
              {"hidden folder", 2},
              {"folder without pictures", 2},
              {"picture in no class folder", 1},
              {"symbolic link", 1},
              {"hard link", 1},
              {"hidden file", 1},
              {"no ending", 1},
              {"txt", 1},
              {"db", 1},
              {"me", 1},
              {"csv", 1}};
  for (int i = 0; i < COUNT_OF(left); i++)
    if (left_out_count(&data.left, left[i].what) != left[i].count)
      fail_msg("%s: %d left out, not %d", left[i].what, left_out_count(&data.left, left[i].what),
               left[i].count);
  assert_int_equal(data.left.count, COUNT_OF(left));
  dataset_free(&data);
}

static void test_flat_classes(void **state) {
  (void)state;
  dataset deep = open_data("data", 0), data = open_data("data", 1);
  assert_int_equal(data.set.count, 3);
  assert_int_equal(class_size(&data, "cats"), 3);
  assert_int_equal(class_size(&data, "dogs"), 4);
  assert_int_equal(left_out_count(&data.left, "picture in a subfolder"), 7);
  assert_int_equal(left_out_count(&data.left, "hidden folder"), 2);
  assert_int_equal(data.count + 7, deep.count);
  assert_int_equal(data.left.count, deep.left.count + 1);
  dataset_free(&data);
  dataset_free(&deep);
}

/* Sum of what the JSON line's left_out counts. */
static int left_out_sum(void) {
  char *at = strstr(out_text, "\"left_out\": {"), *end = at ? strchr(at, '}') : NULL;
  int sum = 0;
  assert_non_null(end);
  for (at = strchr(at, '{'); (at = strchr(at, ':')) != NULL && at < end; at++) sum += atoi(at + 1);
  return sum;
}

/* Files found are files taken and files left out. */
static void test_numbers_add_up(void **state) {
  (void)state;
  write_pictures("sum/a", 6);
  write_pictures("sum/a/sub/sub", 5);
  write_pictures("sum/b", 7);
  assert_ran(shell("echo words >sum/b/bad.jpg && echo x >sum/a/notes.txt && : >sum/b/sums.ods && "
                   "ln sum/a/000.png sum/a/again.png && cp sum/a/001.png sum/loose.png && "
                   "echo x >sum/a/sub/x.txt && find sum -type f | wc -l"));
  int files = atoi(out_text);
  assert_int_equal(files, 24);
  for (int flat = 0; flat < 2; flat++) {
    const char *with = flat ? "--flat" : "";
    assert_ran(
        shell("$train --data sum --arch two.net --epochs 1 --skip-bad --out sum.m %s", with));
    assert_contains(err_text, "left out: 1 picture in no class folder (sum/loose.png)");
    assert_contains(err_text, "sum/b/bad.jpg: ");
    assert_contains(err_text, flat ? "learns from 13 pictures" : "learns from 18 pictures");
    assert_int_equal(left_out_sum(), files - (flat ? 13 : 18));
    assert_contains(out_text, flat ? "\"picture in a subfolder\": 5" : "\"unreadable jpg\": 1");
    assert_ran(shell("$evaluate --data sum --model sum.m --skip-bad %s", with));
    assert_contains(err_text, "left out: 1 picture in no class folder (sum/loose.png)");
    assert_int_equal((int)result("n") + left_out_sum(), files);
  }
}

/* ---- tables ------------------------------------------------------------------------------------ */

/* The same four rows, however they are written. */
static void assert_table(const char *words) {
  write_words("table.csv", words);
  dataset data = open_data("table.csv", 0);
  if (data.count != 4) fail_msg("%s: %d rows", words, data.count);
  assert_int_equal(data.set.count, 2);
  assert_string_equal(data.set.names[0], "no");
  assert_string_equal(data.set.names[1], "so, so");
  for (int i = 0; i < 4; i++) {
    assert_int_equal(data.labels[i], i % 2);
    if (!is_file(data.paths[i])) fail_msg("%s: \"%s\" is no file", words, data.paths[i]);
    assert_int_equal(data.paths[i][strlen(data.paths[i]) - 5], '0' + i);
  }
  dataset_free(&data);
}

static void test_tables(void **state) {
  (void)state;
  write_pictures("rows", 4);
  assert_table("path,label\nrows/000.png,no\nrows/001.png,\"so, so\"\nrows/002.png,no\n"
               "rows/003.png,\"so, so\"\n");
  /* a byte order mark, CRLF, names in any case, blanks around everything, empty lines */
  assert_table("\xEF\xBB\xBF"
               " Label , PATH\r\nno,rows/000.png \r\n\"so, so \",rows/001.png\r\n\r\n"
               "\tno , ./rows/002.png\r\n\" so, so\",rows/003.png\t\r\n");
  /* semicolons and tabs, with commas inside */
  assert_table("path;share;label\nrows/000.png;0,5;no\nrows/001.png;1,25;so, so\n"
               "rows/002.png;0,5;\"no\"\n\"rows/003.png\";;so, so\n");
  assert_table("\xEF\xBB\xBF"
               "\"a,b\";label;path\r\n;no;rows/000.png\r\n;so, so;rows/001.png\r\n"
               "\"x;\"\"\";no;rows/002.png\r\n\"\n\";so, so;rows/003.png\r\n");
  assert_table("label\tpath\tnote; or, not\nno\trows/000.png\t\nso, so\trows/001.png\t;\n"
               "no\trows/002.png\t,\nso, so\trows/003.png\t\n");
  /* commas, with others inside */
  assert_table("path,label,\"a;b;c;d\"\nrows/000.png,no,;\nrows/001.png,\"so, so\",\t\n"
               "rows/002.png,no,;;\nrows/003.png,\"so, so\",\n");
}

/* Names with semicolons or tabs do not make these the separator, where they are written here. */
static void test_written_tables(void **state) {
  (void)state;
  static const char *const names[] = {"a\"", "so;so;so;so;so;so", "x\t\t\tx", "a, b", "\"c\""};
  char *path = home_path("written.csv");
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  for (int row = 0; row < 2; row++)
    for (int i = 0; i < 5; i++) {
      csv_write(file, names[i]);
      putc(i < 4 ? ',' : '\n', file);
    }
  assert_int_equal(fclose(file), 0);
  csv table = csv_open(path);
  assert_true(csv_row(&table));
  assert_int_equal(table.field_count, 5);
  for (int i = 0; i < 5; i++) assert_string_equal(table.fields[i], names[i]);
  csv_close(&table);
  free(path);
}

static void refuse_table(const char *words, const char *what) {
  write_words("table.csv", words);
  assert_int_equal(shell("$train --data table.csv --arch two.net --out refused --quiet"), 1);
  assert_contains(err_text, what);
}

static void test_bad_tables(void **state) {
  (void)state;
  refuse_table("path,label,label\n",
               "table.csv: line 1: columns 2 and 3 are both called \"label\"");
  refuse_table("Path,label, PATH\n", "table.csv: line 1: columns 1 and 3 are both called \"path\"");
  refuse_table("\n\npath;labels\n", "table.csv: line 3: there is no column \"label\"");
  refuse_table("path;label\nrows/000.png,no\n",
               "table.csv: line 2: 1 fields where the header has 2");
  refuse_table("path,label\n  ,no\n", "table.csv: line 2: the path is empty");
  refuse_table("path,label\nrows/000.png, \t\n", "table.csv: line 2: the label is empty");
  refuse_table("path,label\n\nrows/000.png ,no\nrows/000.png,\"no\nso\"\n",
               "line 4: a label cannot");
}

/* An exact name goes before one in another case, and a file with blanks in its name before one
   without. */
static void test_exact_names(void **state) {
  (void)state;
  write_picture("rows/000.png ", 4000);
  write_words("exact.csv", "LABEL,label,path\na,x,rows/000.png \na,y,rows/001.png \n");
  dataset data = open_data("exact.csv", 0);
  assert_string_equal(data.set.names[0], "x");
  assert_contains(data.paths[0], "rows/000.png ");
  assert_string_equal(file_name_of(data.paths[1]), "001.png");
  dataset_free(&data);
}

/* Wherever a list is taken, in any case of its ending. */
static void test_lists(void **state) {
  (void)state;
  write_words("LIST.CSV", "Path;n\nrows/000.png ;1\n rows/001.png;2\n");
  assert_ran(shell("$train --data rows.csv --arch two.net --epochs 1 --out m 2>/dev/null || "
                   "printf 'path,label\\nrows/001.png,a\\nrows/002.png,b\\n' >rows.csv; "
                   "$train --data rows.csv --arch two.net --epochs 1 --out m --quiet"));
  assert_ran(shell("rm 'rows/000.png '; $predict --model m --out predicted.csv LIST.CSV"));
  assert_ran(shell("grep -c 'rows/00[01].png' predicted.csv"));
  assert_int_equal(atoi(out_text), 2);
  assert_ran(shell("$dedup --small 0 --out duplicates.csv LIST.CSV"));
  assert_int_equal((int)result("pictures"), 2);
  write_words("Guess.Csv", "Truth; PREDICTION\n a;a \nb; a\n");
  assert_ran(shell("$evaluate --predictions Guess.Csv"));
  assert_int_equal((int)result("n"), 2);
  assert_true(result("accuracy") == 0.5);
}

/* A table of ours with names that are full of semicolons is one with commas. */
static void test_own_tables(void **state) {
  (void)state;
  write_words("names.csv", "path,label\nrows/001.png,a;b;c;d;e;f;g;h\nrows/002.png,b;;;;;;;\t;\n");
  assert_ran(shell("$train --data names.csv --arch two.net --epochs 1 --out named --quiet"));
  assert_ran(shell("$evaluate --model named --data names.csv --out named-report --quiet"));
  double accuracy = result("accuracy");
  assert_ran(shell("$evaluate --predictions named-report/predictions.csv --quiet"));
  assert_int_equal((int)result("n"), 2);
  assert_true(result("accuracy") == accuracy);
}

/* A digit with a blank before it is no class of its own. */
static void test_cell_labels(void **state) {
  (void)state;
  tally_template form;
  tally_error error;
  const char words[] = "form one\npage 100 x 100\nanchor a square 5,5 10x10\n"
                       "anchor b square 85,5 10x10\nanchor c square 5,85 10x10\n"
                       "field votes 2 digits cells 30,30 2x10x12\n";
  if (tally_template_parse(words, strlen(words), &form, &error) != TALLY_OK)
    fail_msg("%d: %s", error.line, error.message);
  write_picture("scan.png", 1);
  write_words("labels.csv",
              "Tally;FIELD;Position;Label\nscan; votes;0; 3\nscan.png;votes ; 1 ;4 \n");
  char *scan = home_path("scan.png"), *path = home_path("labels.csv");
  form_list list = form_list_open(&scan, 1, 0, NULL);
  label_table labels = labels_read(path, &form, &list);
  assert_int_equal(labels.unknown, 0);
  assert_int_equal(labels.set.count, 11); /* digits and empty */
  assert_int_equal(labels.cells[0], 3);
  assert_int_equal(labels.cells[1], 4);
  classes_free(&labels.set);
  free(labels.cells);
  free(labels.counts);
  form_list_free(&list);
  free(scan);
  free(path);
}

/* ---- many classes ------------------------------------------------------------------------------ */

/* What training makes, evaluation and prediction take. */
static void test_many_classes(void **state) {
  (void)state;
  enum { MANY = 12000 };
  text_buffer table = {0};
  text_add(&table, "path,label\n");
  for (int i = 0; i < MANY; i++) text_add(&table, "rows/%03d.png,class %05d\n", i % 4, i);
  write_words("many.csv", table.data);
  write_words("many.net", "input 1x1x1\ndense 12000\nsoftmax\n");
  assert_ran(shell("$train --data many.csv --arch many.net --epochs 1 --batch 2000 --out many"));
  assert_contains(err_text, "12000 classes");
  assert_contains(err_text, "11996 of 12000 pictures are copies of others");
  assert_ran(
      shell("head -n 21 many.csv >few.csv && $evaluate --data few.csv --model many --quiet"));
  assert_int_equal((int)result("n"), 20);
  assert_ran(shell("$predict --model many --out labels.csv rows"));
  write_words("over.net", "input 1x1x1\ndense 16385\nsoftmax\n");
  table.length = 0;
  text_add(&table, "path,label\n");
  for (int i = 0; i < MOST_CLASSES + 1; i++) text_add(&table, "rows/000.png,class %05d\n", i);
  write_words("over.csv", table.data);
  assert_int_equal(shell("$train --data over.csv --arch over.net --out over --quiet"), 1);
  assert_contains(err_text, "more than 16384 different classes");
  free(table.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_classes),        cmocka_unit_test(test_flat_classes),
      cmocka_unit_test(test_numbers_add_up), cmocka_unit_test(test_tables),
      cmocka_unit_test(test_written_tables), cmocka_unit_test(test_bad_tables),
      cmocka_unit_test(test_exact_names),    cmocka_unit_test(test_lists),
      cmocka_unit_test(test_own_tables),
      cmocka_unit_test(test_cell_labels),    cmocka_unit_test(test_many_classes),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
