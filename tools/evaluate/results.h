/* results.h - truth and prediction of every sample, from a model or from a file. */
#ifndef TALLY_EVALUATE_RESULTS_H
#define TALLY_EVALUATE_RESULTS_H

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../convnet.h"
#include "../classes.h"
#include "../csv.h"
#include "../csv_write.h"
#include "../dataset.h"
#include "../left_out.h"
#include "../preprocess.h"
#include "../progress.h"
#include "../work.h"

/* Truth and prediction of each sample, as indices into the classes. */
typedef struct results {
  class_list set;
  int count;
  int *truth, *prediction;
  float *probability, *truth_probability; /* of prediction and truth; NULL without a model */
  float *rows;                            /* [count][classes] all probabilities; NULL without */
  left_out left;                          /* files of the data that were not evaluated */
} results;

static inline void results_free(results *r) {
  classes_free(&r->set);
  free(r->truth);
  free(r->prediction);
  free(r->probability);
  free(r->truth_probability);
  free(r->rows);
  left_out_free(&r->left);
}

static inline int is_number(const char *name) {
  size_t length = strlen(name);
  return length && length < 10 && strspn(name, "0123456789") == length;
}

static inline int compare_numbers(const void *a, const void *b) {
  int x = atoi(*(char *const *)a), y = atoi(*(char *const *)b);
  return x == y ? compare_names(a, b) : x < y ? -1 : 1;
}

/* The different names among `count`, sorted; as numbers if all are. */
static inline class_list distinct_names(char **names, int count) {
  class_list set = {0};
  char **sorted = allocate((size_t)count, sizeof(char *));
  int numbers = 1;
  for (int i = 0; i < count; i++) {
    sorted[i] = names[i];
    numbers = numbers && is_number(names[i]);
  }
  qsort(sorted, (size_t)count, sizeof(char *), numbers ? compare_numbers : compare_names);
  for (int i = 0; i < count; i++)
    if (i == 0 || strcmp(sorted[i], sorted[i - 1])) classes_add(&set, sorted[i]);
  free(sorted);
  return set;
}

/* Truth and prediction from a file. */
static inline results read_predictions(const char *path) {
  results r = {0};
  csv table = csv_open(path);
  int columns[2] = {csv_column(&table, "truth"), csv_column(&table, "prediction")}, capacity = 0;
  char **names = NULL;
  while (csv_row(&table)) {
    if (r.count == INT_MAX / 4) fail("%s: line %d: too many rows", path, table.line);
    if (r.count == capacity) {
      capacity = capacity * 2 + 256;
      names = reallocate(names, (size_t)capacity * 2, sizeof(char *));
    }
    for (int k = 0; k < 2; k++) {
      const char *name = csv_cell(&table, columns[k]);
      if (!*name)
        fail("%s: line %d: the %s is empty", path, table.line, k ? "prediction" : "truth");
      names[2 * r.count + k] = copy_text(name);
    }
    r.count++;
  }
  if (!r.count) fail("%s: there are no rows behind the header", path);
  r.set = distinct_names(names, 2 * r.count);
  r.truth = allocate((size_t)r.count, sizeof(int));
  r.prediction = allocate((size_t)r.count, sizeof(int));
  for (int i = 0; i < r.count; i++) {
    r.truth[i] = classes_find(&r.set, names[2 * i]);
    r.prediction[i] = classes_find(&r.set, names[2 * i + 1]);
    free(names[2 * i]);
    free(names[2 * i + 1]);
  }
  free(names);
  csv_close(&table);
  return r;
}

static inline void write_prediction_header(FILE *file, const dataset *data, const class_list *set) {
  fprintf(file, "%s,truth,prediction,probability", data->paths ? "path" : "index");
  for (int k = 0; k < set->count; k++) {
    text_buffer column = {0};
    text_add(&column, "p_%s", set->names[k]);
    putc(',', file);
    csv_write(file, column.data);
    free(column.data);
  }
  putc('\n', file);
}

static inline void write_prediction(FILE *file, const dataset *data, const results *r, int i,
                                    const float *p) {
  char number[16];
  csv_write(file, dataset_sample(data, i, number));
  putc(',', file);
  csv_write(file, r->set.names[r->truth[i]]);
  putc(',', file);
  csv_write(file, r->set.names[r->prediction[i]]);
  fprintf(file, ",%.6g", (double)r->probability[i]);
  for (int k = 0; k < r->set.count; k++) fprintf(file, ",%.6g", (double)p[k]);
  putc('\n', file);
}

/* Takes one sample's probabilities. */
static inline void note_result(results *r, const dataset *data, int i, const float *p) {
  int best = 0;
  char number[16];
  for (int k = 0; k < r->set.count; k++) {
    if (!isfinite(p[k]))
      fail("%s: sample %s: the network's output is not a finite number", data->name,
           dataset_sample(data, i, number));
    if (p[k] > p[best]) best = k;
  }
  r->truth[i] = data->labels[i];
  r->prediction[i] = best;
  r->probability[i] = p[best];
  r->truth_probability[i] = p[r->truth[i]];
}

/* Runs the model over the data, a batch at a time; writes a row per sample if table is not NULL. */
static inline results predict_all(cn_network *net, const dataset *data, const preprocess *pre,
                                  class_list set, int max_batch, FILE *table) {
  cn_error error;
  cn_predict_options with = {0};
  with.threads = use_threads(0);
  cn_predictor *predictor = cn_predictor_create(net, max_batch, &with, &error);
  if (!predictor) fail("%s", error.message);
  size_t count = (size_t)data->count, batch = (size_t)max_batch;
  results r = {0};
  r.set = set;
  r.count = data->count;
  r.truth = allocate(count, sizeof(int));
  r.prediction = allocate(count, sizeof(int));
  r.probability = allocate(count, sizeof(float));
  r.truth_probability = allocate(count, sizeof(float));
  float *inputs = allocate(batch * preprocess_size(pre), sizeof(float));
  r.rows = allocate(count * (size_t)set.count, sizeof(float));
  double started = seconds_now();
  progress bar = progress_start();
  for (int first = 0; first < r.count; first += max_batch) {
    int now = r.count - first < max_batch ? r.count - first : max_batch;
    dataset_inputs(data, NULL, first, now, pre, inputs);
    float *outputs = r.rows + (size_t)first * (size_t)set.count;
    cn_predict(predictor, inputs, now, outputs);
    for (int i = 0; i < now; i++) {
      const float *p = outputs + (size_t)i * (size_t)set.count;
      note_result(&r, data, first + i, p);
      if (table) write_prediction(table, data, &r, first + i, p);
    }
    char shown[96];
    snprintf(shown, sizeof shown, "%d of %d  %.0f images/s", first + now, r.count,
             (first + now) / fmax(seconds_now() - started, 1e-9));
    progress_draw(&bar, "reading", (double)(first + now) / r.count, shown);
  }
  progress_wipe();
  free(inputs);
  cn_predictor_free(predictor);
  return r;
}

#endif
