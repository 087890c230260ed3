/* corrections.c - what people say in tables on any bytes: counts (tally-read), labels of cells
   (tally-extract), predictions (tally-evaluate), labels of pictures (tally-train). What is taken names
   a tally, a cell and a class that exist. Runs: 20000. */
#include "tools.h"

#include "dataset.h"
#include "evaluate/results.h"
#include "extract/labels.h"
#include "read/count_table.h"

static tally_template form;
static form_list list;

static void make_form(void) {
  static const char text[] =
      "page 200 x 240\nanchor a square 8,8 12x12\nanchor b square 180,8 12x12\n"
      "anchor c square 8,220 12x12\nfield x 3 digits cells 120,50 3x18x22\n"
      "field y 2 digits cells 138,90 2x18x22\nfield long 6 digits cells 20,140 6x18x22\n";
  static char *paths[] = {"1.png",      "scan 1 (2).png", "scan 1.jpg",
                          "scan 1.png", "x/2.png",        "y/2.png"};
  const tally_result parsed = tally_template_parse(text, strlen(text), &form, NULL);
  FUZZ_CHECK(parsed == TALLY_OK);
  list = form_list_open(paths, sizeof paths / sizeof *paths, 0, NULL); /* none is there */
}

/* strict or not, as for corrections and official counts. */
static void read_counts(const char *path, int strict) {
  count_table table = count_table_read(path, &form, &list, NO_CORRECTION, strict);
  int given = 0;
  for (int i = 0; i < form_count(&list) * form.fields; i++) {
    const int value = table.values[i], digits = form.field[i % form.fields].digits;
    FUZZ_CHECK(value >= NO_CORRECTION && value < (digits == 2   ? 100
                                                  : digits == 3 ? 1000
                                                                : 1000000));
    given += value != NO_CORRECTION;
  }
  FUZZ_CHECK(given <= table.rows);
  count_table_say(path, &table);
  free(table.values);
}

static void read_corrections(const uint8_t *data, size_t size) {
  read_counts(fuzz_file(data, size), 1);
}

static void read_official(const uint8_t *data, size_t size) {
  read_counts(fuzz_file(data, size), 0);
}

static void read_labels(const uint8_t *data, size_t size) {
  label_table labels = labels_read(fuzz_file(data, size), &form, &list);
  for (int t = 0; t < form_count(&list); t++)
    for (int f = 0; f < form.fields; f++)
      for (int p = 0; p < form.field[f].digits; p++) {
        const int label = label_of(&labels, &form, t, f, p, TALLY_CELL_EMPTY);
        FUZZ_CHECK(label >= NO_LABEL && label < labels.set.count);
      }
  classes_free(&labels.set);
  free(labels.cells);
  free(labels.counts);
}

static void read_results(const uint8_t *data, size_t size) {
  results r = read_predictions(fuzz_file(data, size));
  for (int i = 0; i < r.count; i++) {
    FUZZ_CHECK(r.truth[i] >= 0 && r.truth[i] < r.set.count);
    FUZZ_CHECK(r.prediction[i] >= 0 && r.prediction[i] < r.set.count);
  }
  results_free(&r);
}

static void open_data(const char *path, const char *group) {
  dataset set = dataset_open(path, 0, group);
  for (int i = 0; i < set.count; i++)
    FUZZ_CHECK(set.labels[i] >= 0 && set.labels[i] < set.set.count && *set.paths[i]);
  dataset_free(&set);
}

static void read_data(const uint8_t *data, size_t size) {
  open_data(fuzz_file(data, size), NULL);
}

static void read_groups(const uint8_t *data, size_t size) {
  open_data(fuzz_file(data, size), "group");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!form.fields) make_form();
  tool_run(read_corrections, data, size);
  tool_run(read_official, data, size);
  tool_run(read_labels, data, size);
  tool_run(read_results, data, size);
  tool_run(read_data, data, size);
  tool_run(read_groups, data, size);
  return 0;
}
