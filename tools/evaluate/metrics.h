/* metrics.h - accuracy, precision, recall, F1 and the confusion matrix. */
#ifndef TALLY_EVALUATE_METRICS_H
#define TALLY_EVALUATE_METRICS_H

#include <stdlib.h>

#include "results.h"

typedef struct class_figures {
  int truths, predictions, right;
  double precision, recall, f1;
} class_figures;

typedef struct figures {
  int *confusion; /* [truth][prediction] */
  class_figures *classes;
  int count, right;
  double accuracy, precision, recall, f1; /* the last three: macro averages */
} figures;

static inline double share(int part, int whole) {
  return whole ? (double)part / whole : 0;
}

static inline figures measure(const results *r) {
  figures f = {0};
  size_t k_count = (size_t)r->set.count;
  int present = 0;
  f.confusion = allocate(k_count * k_count, sizeof(int));
  f.classes = allocate(k_count, sizeof *f.classes);
  f.count = r->count;
  for (int i = 0; i < r->count; i++) {
    int truth = r->truth[i], prediction = r->prediction[i];
    f.confusion[(size_t)truth * k_count + (size_t)prediction]++;
    f.classes[truth].truths++;
    f.classes[prediction].predictions++;
    f.classes[truth].right += truth == prediction;
    f.right += truth == prediction;
  }
  for (size_t k = 0; k < k_count; k++) {
    class_figures *c = &f.classes[k];
    c->precision = share(c->right, c->predictions);
    c->recall = share(c->right, c->truths);
    c->f1 = share(2 * c->right, c->truths + c->predictions);
    if (!c->truths && !c->predictions) continue;
    present++;
    f.precision += c->precision;
    f.recall += c->recall;
    f.f1 += c->f1;
  }
  f.accuracy = share(f.right, f.count);
  f.precision /= present;
  f.recall /= present;
  f.f1 /= present;
  return f;
}

static inline void figures_free(figures *f) {
  free(f->confusion);
  free(f->classes);
}

#endif
