/* test_listing.c - which files the tools take for pictures: one file is one picture, however it is
   spelled; what is left out is counted and said; names of tallies mean one tally each.

   Build:  make all build/tests/test_listing
   Run:    build/tests/test_listing     in the repository's root; BIN=folder of programs

   Everything is made in a temporary folder. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "test_listing"
#define TOOL_USAGE ""
#include "../tools/tool.h"

#include "../tools/csv.h"
#include "../tools/dataset.h"
#include "../tools/output.h"
#include "../tools/implementations/stb.h"

#include "support.h"

#include "programs.h"

/* ---- running the tools ------------------------------------------------------------------------- */

/* The four tools that take pictures, with what each calls them and those that it could use. */
typedef struct taker {
  const char *name, *command, *pictures, *used;
} taker;

static const taker takers[] = {
    {"dedup", "$dedup --small 0 --out out.csv", "pictures", NULL},
    {"predict", "$predict --model model.safetensors --out out.csv", "pictures", "predicted"},
    {"extract", "$extract --template $c1 --out extracted", "forms", "registered"},
    {"read", "$read --template $c1 --out read", "forms", "read"},
};

#define TAKERS ((int)(sizeof takers / sizeof *takers))

/* The count of a kind in left_out of the last line; 0 if it is not there. */
static int left_out_of(const char *kind) {
  char quoted[80];
  const char *left = strstr(out_text, "\"left_out\": {");
  assert_non_null(left);
  snprintf(quoted, sizeof quoted, "\"%s\": ", kind);
  const char *at = strstr(left, quoted), *end = strchr(left, '}');
  return at && at < end ? atoi(at + strlen(quoted)) : 0;
}

static int left_out_in_all(void) {
  int sum = 0;
  const char *left = strstr(out_text, "\"left_out\": {"), *end = strchr(left, '}');
  for (const char *at = left + 12; (at = strstr(at, "\": ")) != NULL && at < end; at += 3)
    sum += atoi(at + 3);
  return sum;
}

static int pictures_used(const taker *t) {
  return (int)(t->used ? result(t->used) : result("pictures") - result("unreadable"));
}

/* A row of a table; its fields are found by columns "column=value". */
static int has_row(const char *name, const char *const *wanted) {
  char *path = join_path(home, name);
  csv table = csv_open(path);
  int columns[4], count = 0, found = 0;
  for (; wanted[2 * count]; count++) columns[count] = csv_column(&table, wanted[2 * count]);
  while (csv_row(&table)) {
    int same = 1;
    for (int i = 0; i < count; i++)
      same = same && !strcmp(table.fields[columns[i]], wanted[2 * i + 1]);
    found += same;
  }
  csv_close(&table);
  free(path);
  return found;
}

#define assert_row(name, ...)                                                                      \
  do {                                                                                             \
    const char *const wanted_[] = {__VA_ARGS__, NULL};                                             \
    if (has_row(name, wanted_) != 1) fail_msg("%s: not one row with %s", name, #__VA_ARGS__);      \
  } while (0)

static void assert_refused(int code, const char *part, const char *other) {
  if (code != 1) fail_msg("exit code %d: %s%s", code, err_text, out_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

/* ---- pictures ---------------------------------------------------------------------------------- */

/* Noise of 140 x 140 pixels, so that no two are near. */
static void make_photo(const char *name, uint64_t seed) {
  static uint8_t pixels[140 * 140];
  cn_random random = {seed, 0};
  for (int y = 0; y < 140; y++)
    for (int x = 0; x < 140; x++) {
      if (x % 20 == 0 && y % 20 == 0)
        pixels[y * 140 + x] = (uint8_t)cn_random_below(&random, 256);
      else
        pixels[y * 140 + x] = pixels[(y - y % 20) * 140 + x - x % 20];
    }
  char *path = join_path(home, name);
  assert_true(stbi_write_png(path, 140, 140, 1, pixels, 0));
  free(path);
}

/* A TIFF file of grey pages without compression. */
static void make_tiff(const char *name, int pages) {
  enum { SIDE = 64, ENTRIES = 8, DIRECTORY = 2 + 12 * ENTRIES + 4 };
  text_buffer all = {0};
  cn_random random = {(uint64_t)pages, 0};
  uint32_t at = 8;
  text_append(&all, "II*\0\10\0\0\0", 8);
  for (int page = 0; page < pages; page++, at += DIRECTORY + SIDE * SIDE) {
    const uint32_t entries[ENTRIES][2] = {{256, SIDE}, {257, SIDE},       {258, 8},
                                          {259, 1},    {262, 1},          {273, at + DIRECTORY},
                                          {278, SIDE}, {279, SIDE * SIDE}};
    uint8_t directory[DIRECTORY] = {ENTRIES};
    for (int i = 0; i < ENTRIES; i++) {
      uint8_t *entry = directory + 2 + 12 * i;
      entry[0] = (uint8_t)entries[i][0], entry[1] = (uint8_t)(entries[i][0] >> 8);
      entry[2] = 4, entry[4] = 1;
      for (int b = 0; b < 4; b++) entry[8 + b] = (uint8_t)(entries[i][1] >> 8 * b);
    }
    uint32_t next = page + 1 < pages ? at + DIRECTORY + SIDE * SIDE : 0;
    for (int b = 0; b < 4; b++) directory[DIRECTORY - 4 + b] = (uint8_t)(next >> 8 * b);
    text_append(&all, (char *)directory, DIRECTORY);
    for (int i = 0; i < SIDE * SIDE; i++) {
      char pixel = (char)cn_random_below(&random, 256);
      text_append(&all, &pixel, 1);
    }
  }
  write_home(name, all.data, all.length);
  free(all.data);
}

/* For photos and forms alike: three pictures in `photos`, called 0, 5 and 9. */
static int setup(void **state) {
  (void)state;
  cn_error error;
  if (!open_home("tally-listing")) return -1;
  cn_network *net = must_parse("input 8x8x1\ndense 3\nsoftmax\n");
  char *path = join_path(home, "model.safetensors");
  if (cn_save(net, path, &error) != CN_OK) fail_msg("%s", error.message);
  cn_network_free(net);
  free(path);
  assert_ran(shell("$synth --template $c1 --clean --scale 0.6 --count 3 --out scans --quiet && "
                   "mkdir photos && cp scans/tally-0001.jpg photos/0.jpg && "
                   "cp scans/tally-0002.jpg photos/5.jpg && "
                   "cp scans/tally-0003.jpg photos/9.jpg"));
  write_words("list.csv", "path\nphotos/5.jpg\n./photos/0.jpg\n");
  return 0;
}

/* ---- one file, one picture --------------------------------------------------------------------- */

/* Arguments that name the three pictures again and again, each as often as it says; `links` are made in
   `photos` before. */
typedef struct spelling {
  const char *links, *arguments;
  int twice, soft, hard;
} spelling;

static const spelling spellings[] = {
    {"", "photos list.csv", 2, 0, 0},
    {"", "list.csv photos", 2, 0, 0},
    {"", "photos ./photos", 3, 0, 0},
    {"", "\"$PWD/photos\" photos photos/../photos/5.jpg", 4, 0, 0},
    {"ln -s 5.jpg photos/1.jpg", "photos", 0, 1, 0},
    {"ln -s 5.jpg photos/1.jpg; ln -s 1.jpg photos/2.jpg", "photos/1.jpg photos", 0, 3, 0},
    {"ln photos/5.jpg photos/7.jpg; ln photos/5.jpg photos/6.jpg", "photos", 0, 0, 2},
    {"ln -s $PWD/photos through", "photos through/0.jpg", 1, 0, 0},
    {"cp list.csv LIST.CSV", "photos LIST.CSV", 2, 0, 0},
    {"printf '\\357\\273\\277\"path\",label\\r\\nphotos/0.jpg,a\\r\\n' >l.Csv", "l.Csv photos", 1,
     0, 0},
};

static void test_one_file_one_picture(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
    const spelling *s = &spellings[i];
    assert_ran(
        shell("rm -f photos/1.jpg photos/2.jpg photos/6.jpg photos/7.jpg through; %s", s->links));
    for (int k = 0; k < TAKERS; k++) {
      const taker *t = &takers[k];
      int code = shell("rm -rf read; %s %s", t->command, s->arguments);
      if (code) fail_msg("%s %s: exit code %d: %s", t->name, s->arguments, code, err_text);
      if (pictures_used(t) != 3 || (int)result(t->pictures) != 3)
        fail_msg("%s %s: %s", t->name, s->arguments, out_text);
      if (left_out_of("named twice") != s->twice || left_out_of("symbolic link") != s->soft ||
          left_out_of("hard link") != s->hard)
        fail_msg("%s %s: %s", t->name, s->arguments, out_text);
      assert_int_equal(left_out_in_all(), s->twice + s->soft + s->hard);
    }
  }
}

/* tally-dedup names another name of a file as such, and never to drop; the file itself is the first
   even where a link to it comes before. */
static void test_links_are_no_duplicates(void **state) {
  (void)state;
  assert_ran(
      shell("mkdir linked && cp photos/5.jpg linked/5.jpg && cp photos/0.jpg linked/8.jpg && "
            "cp photos/0.jpg linked/9.jpg && ln -s 5.jpg linked/1.jpg && "
            "ln linked/5.jpg linked/6.jpg && ln -s nowhere linked/7.jpg && "
            "ln -s 9.jpg linked/2.jpg"));
  assert_ran(shell("$dedup --small 0 --out d.csv linked ./linked/5.jpg"));
  assert_int_equal((int)result("pictures"), 4);
  assert_int_equal((int)result("exact"), 1);
  assert_int_equal((int)result("links"), 4);
  assert_row("d.csv", "path", "linked/1.jpg", "first", "linked/5.jpg", "kind", "link", "details",
             "symbolic link");
  assert_row("d.csv", "path", "linked/2.jpg", "first", "linked/9.jpg", "kind", "link", "details",
             "symbolic link");
  assert_row("d.csv", "path", "linked/6.jpg", "first", "linked/5.jpg", "kind", "link", "details",
             "hard link");
  assert_row("d.csv", "path", "./linked/5.jpg", "first", "linked/5.jpg", "kind", "link", "details",
             "named twice");
  assert_row("d.csv", "path", "linked/9.jpg", "first", "linked/8.jpg", "kind", "exact");
  assert_row("d.csv", "path", "linked/7.jpg", "kind", "unreadable");
  /* the help's own line, piped to rm, loses nothing */
  assert_ran(shell("awk -F, '$3 == \"exact\" { print $1 }' d.csv | xargs rm && "
                   "cmp linked/5.jpg photos/5.jpg && cmp linked/8.jpg photos/0.jpg"));
}

/* The pages of a file are pictures of their own; those of a link to it are not. */
static void test_pages(void **state) {
  (void)state;
  make_tiff("two.tif", 2);
  make_tiff("one.tif", 1);
  assert_ran(shell("mkdir paged && mv two.tif one.tif paged && ln -s two.tif paged/also.tif"));
  int code = shell("$predict --model model.safetensors --out p.csv paged");
  if (code) { /* built without libtiff: each file has its reason */
    assert_int_equal(left_out_of("unreadable tif"), 2);
    print_message("TIFF cannot be read here\n");
    skip();
  }
  assert_int_equal((int)result("predicted"), 3);
  assert_int_equal(left_out_of("symbolic link"), 2);
  assert_row("p.csv", "path", "paged/two.tif#1");
  assert_row("p.csv", "path", "paged/two.tif#2");
  assert_row("p.csv", "path", "paged/one.tif");
  assert_ran(shell("$dedup --out d.csv paged 'paged/two.tif#2' 'paged/one.tif#1'"));
  assert_int_equal((int)result("pictures"), 3);
  assert_int_equal((int)result("exact") + (int)result("near"), 0);
  assert_int_equal((int)result("small"), 1); /* one.tif; two.tif has over 8,000 bytes */
  assert_row("d.csv", "path", "paged/two.tif#2", "kind", "link", "details", "named twice");
  assert_row("d.csv", "path", "paged/one.tif#1", "kind", "link", "details", "named twice");
  /* an output does not replace the file behind a page */
  assert_refused(shell("$predict --model model.safetensors --out paged/two.tif 'paged/two.tif#2'"),
                 "paged/two.tif", "read in this run");
  assert_ran(shell("head -c 900 paged/two.tif >paged/cut.tif; "
                   "$predict --model model.safetensors --out p.csv paged"));
  assert_int_equal(left_out_of("unreadable tif"), 1);
}

/* ---- what is left out -------------------------------------------------------------------------- */

static void make_folder_of_people(void) {
  assert_ran(shell("rm -rf have && mkdir -p have/sub have/.hidden have/__MACOSX have/@eaDir"));
  for (int i = 0; i < 6; i++) {
    char name[32];
    snprintf(name, sizeof name, i == 3 ? "have/%d.PNG" : "have/%d.png", i);
    make_photo(name, (uint64_t)i);
    if (i >= 3) continue;
    snprintf(name, sizeof name, "have/sub/%d.png", i);
    make_photo(name, 10 + (uint64_t)i);
  }
  /* endings of pictures that say more than their files do */
  assert_ran(shell("cd have && for n in a.tif b.tif c.webp d.pdf; do echo no picture >$n; done; "
                   "for n in .DS_Store Thumbs.db notes.txt README .hidden/1.png __MACOSX/1.png "
                   "@eaDir/1.png; do echo >$n; done; "
                   "ln -s nowhere.png lost.png && ln -s nowhere lost && ln -s sub link && "
                   "mkfifo pipe.png && mkdir empty"));
}

static const struct {
  const char *what;
  int count;
} people_leave[] = {{"hidden file", 1},
                    {"db", 1},
                    {"txt", 1},
                    {"no ending", 1},
                    {"broken link", 1},
                    {"link to a folder", 1},
                    {"hidden folder", 1},
                    {"folder __MACOSX", 1},
                    {"folder @eaDir", 1},
                    {"no regular file", 1},
                    {"unreadable tif", 2},
                    {"unreadable webp", 1},
                    {"unreadable pdf", 1},
                    {"unreadable png", 1}};

static void test_left_out_adds_up(void **state) {
  (void)state;
  make_folder_of_people();
  for (int k = 0; k < 2; k++) {
    assert_ran(shell("%s have", takers[k].command));
    assert_int_equal(pictures_used(&takers[k]), 9);
    int sum = 0;
    for (size_t i = 0; i < sizeof people_leave / sizeof *people_leave; i++) {
      if (left_out_of(people_leave[i].what) != people_leave[i].count)
        fail_msg("%s: %s: %s", takers[k].name, people_leave[i].what, out_text);
      sum += people_leave[i].count;
    }
    assert_int_equal(left_out_in_all(), sum);
    static const char *const said[] = {
        "have/Thumbs.db", "have/notes.txt", "have/README",   "have/lost",       "have/link",
        "have/.hidden",   "have/.DS_Store", "have/__MACOSX", "have/@eaDir",     "have/a.tif: ",
        "have/b.tif: ",   "have/c.webp: ",  "have/d.pdf: ",  "have/lost.png: ", "have/pipe.png"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) assert_contains(err_text, said[i]);
    /* what cannot be read is an error, and said under --quiet too */
    assert_ran(shell("%s --quiet have", takers[k].command));
    assert_contains(err_text, "have/d.pdf: ");
    assert_null(strstr(err_text, "Thumbs.db"));
    assert_ran(shell("%s --flat have", takers[k].command));
    assert_int_equal(pictures_used(&takers[k]), 6);
    assert_int_equal(left_out_of("picture in a subfolder"), 3);
    assert_int_equal(left_out_in_all(), sum + 3);
  }
}

/* Of forms too: what is no form has its reason and is counted. */
static void test_left_out_of_forms(void **state) {
  (void)state;
  make_folder_of_people();
  for (int k = 2; k < TAKERS; k++) {
    assert_ran(shell("rm -rf read; %s photos have", takers[k].command));
    int photos = (int)result(takers[k].pictures);
    assert_int_equal(pictures_used(&takers[k]) + left_out_of("not registered") +
                         left_out_of("unreadable tif") + left_out_of("unreadable webp") +
                         left_out_of("unreadable pdf") + left_out_of("unreadable png"),
                     photos);
    assert_int_equal(left_out_of("not registered"), 9);
    assert_int_equal(left_out_of("unreadable tif"), 2);
    for (int i = 0; i < 10; i++) assert_int_equal(left_out_of(people_leave[i].what), 1);
  }
}

/* A batch of which nothing could be read has failed, and its totals are not 0. */
static void test_all_unread(void **state) {
  (void)state;
  assert_ran(shell("rm -rf bad && mkdir bad && echo no picture | tee bad/a.jpg >bad/b.tif"));
  for (int k = 0; k < TAKERS; k++) {
    assert_refused(shell("rm -rf read; %s bad", takers[k].command), "none of the pictures",
                   "a.jpg: ");
    assert_int_equal(pictures_used(&takers[k]), 0);
    assert_int_equal(left_out_of("unreadable jpg"), 1);
    assert_int_equal(left_out_of("unreadable tif"), 1);
    assert_refused(shell("%s bad/none.csv", takers[k].command), "bad/none.csv", "No such file");
  }
  static const char *const unknown[] = {"votes", "low", "high", "share"};
  for (int i = 0; i < 4; i++)
    assert_row("read/totals.csv", "field", "valid", unknown[i], "unknown");
  /* one that can be read makes the sum known */
  assert_ran(shell("%s bad photos/0.jpg", takers[3].command));
  const char *const row[] = {"field", "valid", "votes", "unknown", NULL};
  assert_int_equal(has_row("read/totals.csv", row), 0);
}

/* ---- names that mean one tally ----------------------------------------------------------------- */

/* No two tallies share a folder of cells, and labels stand beside their own. */
static void test_folders_of_cells(void **state) {
  (void)state;
  assert_ran(shell("rm -rf keys && mkdir -p keys/x keys/y && cp photos/0.jpg keys/x/1.jpg && "
                   "cp photos/5.jpg keys/y/1.jpg && cp photos/9.jpg keys/x_1.jpg && "
                   "cp photos/9.jpg keys/x%%2F1.jpg && cp photos/5.jpg keys/keys_x_1.jpg"));
  write_words("labels.csv", "tally,field,value\nkeys/x/1.jpg,01,111\nkeys/y/1.jpg,01,222\n"
                            "x_1.jpg,01,333\nx%2F1.jpg,01,444\nkeys_x_1.jpg,01,555\n");
  assert_ran(shell("rm -rf extracted; $extract --template $c1 --out extracted --labels labels.csv "
                   "--quiet keys"));
  assert_int_equal((int)result("registered"), 5);
  assert_ran(shell("test $(ls extracted/cells | wc -l) = 5 && "
                   "test $(sed 1d extracted/cells.csv | cut -d, -f4 | sort -u | wc -l) = 75"));
  assert_row("extracted/labelled.csv", "path", "cells/keys%2Fx%2F1.jpg/01-2.png", "label", "1");
  assert_row("extracted/labelled.csv", "path", "cells/keys%2Fy%2F1.jpg/01-2.png", "label", "2");
  assert_row("extracted/labelled.csv", "path", "cells/x_1.jpg/01-2.png", "label", "3");
  assert_row("extracted/labelled.csv", "path", "cells/x%252F1.jpg/01-2.png", "label", "4");
  assert_ran(shell("$extract --template $c1 --out alone --quiet photos/0.jpg photos/9.jpg && "
                   "cmp alone/cells/0.jpg/01-2.png extracted/cells/keys%%2Fx%%2F1.jpg/01-2.png && "
                   "cmp alone/cells/9.jpg/01-2.png extracted/cells/x_1.jpg/01-2.png"));
}

/* A table of a person's means one tally a row, or says why it does not. */
static void test_names_in_tables(void **state) {
  (void)state;
  const char *by_hand =
      "rm -rf read; $read --template $c1 --out read --corrections c.csv --quiet named";
  assert_ran(shell("rm -rf named && mkdir named && cp photos/0.jpg 'named/scan 1.jpg' && "
                   "cp photos/5.jpg 'named/scan 1 (2).jpg'"));
  write_words("c.csv", "tally,field,value\nscan 1,01,345\nscan 1,01,345\n");
  assert_ran(shell("%s", by_hand));
  assert_row("read/counts.csv", "tally", "scan 1.jpg", "field", "01", "value", "345", "corrected",
             "1");
  assert_row("read/counts.csv", "tally", "scan 1 (2).jpg", "field", "01", "corrected", "0");
  write_words("c.csv", "tally,field,value\nscan 1,01,345\nscan 1.jpg,02,1\nscan 1.jpg,01,346\n");
  assert_refused(shell("%s", by_hand), "c.csv: line 4", "01 of scan 1.jpg");
  write_words("c.csv", "tally,field,value\nscan 1,01,345\nscan 1,01,\n");
  assert_refused(shell("%s", by_hand), "c.csv: line 3", "01 of scan 1.jpg");
  assert_ran(shell("cp photos/9.jpg 'named/scan 1.jpeg'"));
  write_words("c.csv", "tally,field,value\nscan 1.jpg,01,345\nscan 1,02,3\n");
  assert_refused(shell("%s", by_hand), "c.csv: line 3", "several pictures");
  assert_int_equal(shell("test -e read"), 1); /* found before any work */
}

/* Labels likewise. */
static void test_names_in_labels(void **state) {
  (void)state;
  const char *labelled = "$extract --template $c1 --out labelled --labels l.csv --quiet photos";
  write_words("l.csv", "tally,field,value\n0.jpg,01,345\n0,01,345\n");
  assert_ran(shell("%s", labelled));
  write_words("l.csv", "tally,field,value\n0.jpg,01,345\n5,01,1\n0,01,45\n");
  assert_refused(shell("%s", labelled), "l.csv: line 4", "01 of 0.jpg");
  write_words("l.csv", "tally,field,position,label\n0,01,1,3\n0,01,2,3\n0.jpg,01,1,4\n");
  assert_refused(shell("%s", labelled), "l.csv: line 4", "01 of 0.jpg");
}

/* What comes through a pipe is never what was seen before. */
static void test_journal_of_pipes(void **state) {
  (void)state;
  assert_ran(shell("rm -rf read; $read --template $c1 --out read --quiet - <photos/0.jpg && "
                   "cp read/counts.csv first.csv && "
                   "$read --template $c1 --out read --quiet - <photos/5.jpg && "
                   "! cmp -s read/counts.csv first.csv"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_file_one_picture),
      cmocka_unit_test(test_links_are_no_duplicates),
      cmocka_unit_test(test_pages),
      cmocka_unit_test(test_left_out_adds_up),
      cmocka_unit_test(test_left_out_of_forms),
      cmocka_unit_test(test_all_unread),
      cmocka_unit_test(test_folders_of_cells),
      cmocka_unit_test(test_names_in_tables),
      cmocka_unit_test(test_names_in_labels),
      cmocka_unit_test(test_journal_of_pipes),
  };
  return cmocka_run_group_tests(tests, setup, remove_home);
}
