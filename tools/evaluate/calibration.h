/* calibration.h - whether a model is right as often as it says: reliability, the expected calibration
   error, and the temperature that mends it.

   A network's probabilities p_k become p_k^(1/T) / sum of p_j^(1/T): its logits divided by the
   temperature T. T is where the mean of -log p of the truth is least (Guo, Pleiss, Sun & Weinberger 2017,
   "On Calibration of Modern Neural Networks", section 4.2). One number for all classes: it changes no
   prediction, only how sure each is.

   The expected calibration error is the mean over the pictures of how far the share of right ones in
   their bin lies from the mean probability there (equation 3 there),

     ECE = sum over bins b of  n_b / n * | right_b / n_b  -  mean p_b |,

   with bins of equal numbers of pictures, by their probability (Nguyen & O'Connor 2015), where that paper
   has bins of equal width: a good model gives nearly all pictures probabilities above .99, which would
   fall into one bin. */
#ifndef TALLY_EVALUATE_CALIBRATION_H
#define TALLY_EVALUATE_CALIBRATION_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../output.h"
#include "results.h"

#define CALIBRATION_BINS 15 /* as in Guo et al. */
#define LEAST_TEMPERATURE 0.05
#define MOST_TEMPERATURE 20

/* The mean probability of a bin's predictions, and the share of them that are right. */
typedef struct reliability_bin {
  int count;
  double probability, right;
} reliability_bin;

/* How sure a model is at one temperature. */
typedef struct reliability {
  double temperature, error, log_loss; /* error: the expected calibration error */
  int bins;
  reliability_bin bin[CALIBRATION_BINS];
} reliability;

/* Logarithm of a probability at a temperature, given a picture's probabilities at 1. */
static inline double tempered_log(const float *p, int classes, int k, double temperature) {
  double most = 0, sum = 0;
  for (int i = 0; i < classes; i++) most = fmax(most, (double)p[i]);
  for (int i = 0; i < classes; i++) sum += pow(fmax((double)p[i], FLT_MIN) / most, 1 / temperature);
  return log(fmax((double)p[k], FLT_MIN) / most) / temperature - log(sum);
}

/* The mean of -log p of the truth. */
static inline double log_loss(const results *r, double temperature) {
  double sum = 0;
  for (int i = 0; i < r->count; i++)
    sum -= tempered_log(r->rows + (size_t)i * (size_t)r->set.count, r->set.count, r->truth[i],
                        temperature);
  return sum / r->count;
}

/* Where the loss is least, by golden sections: it is convex in 1 / T, so falls and then rises. */
static inline double fit_temperature(const results *r) {
  const double golden = (sqrt(5) - 1) / 2;
  double low = log(LEAST_TEMPERATURE), high = log(MOST_TEMPERATURE);
  double a = high - golden * (high - low), b = low + golden * (high - low);
  double at_a = log_loss(r, exp(a)), at_b = log_loss(r, exp(b));
  while (high - low > 1e-4) {
    if (at_a < at_b) {
      high = b;
      b = a;
      at_b = at_a;
      at_a = log_loss(r, exp(a = high - golden * (high - low)));
    } else {
      low = a;
      a = b;
      at_a = at_b;
      at_b = log_loss(r, exp(b = low + golden * (high - low)));
    }
  }
  return exp((low + high) / 2);
}

typedef struct sure {
  double probability;
  int right, sample;
} sure;

/* By probability, those of the same in their order. */
static inline int compare_sure(const void *a, const void *b) {
  const sure *x = a, *y = b;
  if (x->probability < y->probability) return -1;
  return x->probability > y->probability ? 1 : x->sample - y->sample;
}

/* How sure the model is of its predictions at a temperature, and how often it is right. */
static inline reliability measure_reliability(const results *r, double temperature) {
  reliability out = {.temperature = temperature, .log_loss = log_loss(r, temperature)};
  sure *all = allocate((size_t)r->count, sizeof *all);
  for (int i = 0; i < r->count; i++) {
    const float *p = r->rows + (size_t)i * (size_t)r->set.count;
    all[i].probability = exp(tempered_log(p, r->set.count, r->prediction[i], temperature));
    all[i].right = r->prediction[i] == r->truth[i];
    all[i].sample = i;
  }
  qsort(all, (size_t)r->count, sizeof *all, compare_sure);
  out.bins = r->count < CALIBRATION_BINS ? r->count : CALIBRATION_BINS;
  for (int b = 0, i = 0; b < out.bins; b++) {
    reliability_bin *bin = &out.bin[b];
    int end = (int)((long long)r->count * (b + 1) / out.bins);
    for (; i < end; i++, bin->count++) {
      bin->probability += all[i].probability;
      bin->right += all[i].right;
    }
    bin->probability /= bin->count;
    bin->right /= bin->count;
    out.error += fabs(bin->right - bin->probability) * bin->count / r->count;
  }
  free(all);
  return out;
}

/* Two reliabilities side by side; after may be NULL. */
static inline void print_reliability(const reliability *before, const reliability *after) {
  const reliability *both[2] = {before, after};
  int columns = after ? 2 : 1;
  puts(
      "reliability (probability of the prediction and share that is right, in bins of equal size)");
  printf("%8s", "pictures");
  for (int k = 0; k < columns; k++) printf("  %11s  %8s", "probability", "right");
  printf("\n");
  for (int b = 0; b < before->bins; b++) {
    printf("%8d", before->bin[b].count);
    for (int k = 0; k < columns; k++)
      printf("  %11.5f  %8.5f", both[k]->bin[b].probability, both[k]->bin[b].right);
    printf("\n");
  }
  for (int k = 0; k < columns; k++)
    printf("temperature %.4f: expected calibration error %.5f, mean of -log p %.5f\n",
           both[k]->temperature, both[k]->error, both[k]->log_loss);
  printf("\n");
}

static inline void write_reliability_table(const char *folder, const reliability *before,
                                           const reliability *after) {
  char *path = join_path(folder, "reliability.csv");
  output out = output_open(path);
  fputs("temperature,bin,n,probability,right\n", out.file);
  for (int k = 0; k < (after ? 2 : 1); k++) {
    const reliability *of = k ? after : before;
    for (int b = 0; b < of->bins; b++)
      fprintf(out.file, "%.6g,%d,%d,%.6f,%.6f\n", of->temperature, b + 1, of->bin[b].count,
              of->bin[b].probability, of->bin[b].right);
  }
  output_close(&out);
  free(path);
}

/* ---- the diagram ----------------------------------------------------------------------------- */

#define DIAGRAM_SIDE 360 /* of the square in which the points lie */
#define DIAGRAM_EDGE 60  /* around it, for the words */
#define DIAGRAM_LEAST 1e-5

/* Where a share of mistakes lies: on a logarithmic scale, for a good model's are all close to 0. */
static inline double diagram_place(double share) {
  double decades = log10(DIAGRAM_LEAST);
  return DIAGRAM_SIDE * (1 - log10(fmax(share, DIAGRAM_LEAST)) / decades);
}

static inline void draw_bins(FILE *to, const reliability *of, const char *style, double radius) {
  for (int b = 0; b < of->bins; b++)
    fprintf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" %s/>\n",
            DIAGRAM_EDGE + diagram_place(1 - of->bin[b].probability),
            DIAGRAM_EDGE + DIAGRAM_SIDE - diagram_place(1 - of->bin[b].right), radius, style);
}

/* One line below the diagram that says what a kind of point is. */
static inline void draw_legend(FILE *to, const reliability *of, const char *style, int line) {
  double y = DIAGRAM_EDGE + DIAGRAM_SIDE + 52 + 18 * line;
  fprintf(to,
          "<circle cx=\"%d\" cy=\"%.1f\" r=\"4\" %s/>\n<text x=\"%d\" y=\"%.1f\">temperature %.3f: "
          "expected calibration error %.5f</text>\n",
          DIAGRAM_EDGE, y - 4, style, DIAGRAM_EDGE + 12, y, of->temperature, of->error);
}

/* A reliability diagram of mistakes: on the diagonal the model is wrong as often as it says; above it,
   more often. */
static inline void write_reliability_diagram(const char *folder, const reliability *before,
                                             const reliability *after) {
  static const char hollow[] = "fill=\"none\" stroke=\"#a33\"", full[] = "fill=\"#246\"";
  const int side = DIAGRAM_SIDE + 2 * DIAGRAM_EDGE, edge = DIAGRAM_EDGE;
  char *path = join_path(folder, "reliability.svg");
  output out = output_open(path);
  fprintf(
      out.file,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
      "<text x=\"%d\" y=\"30\" font-size=\"14\">Mistakes: how often they are, by how often they should "
      "be</text>\n",
      side, side + 36, edge);
  for (int decade = 0; decade >= -5; decade--) {
    double at = diagram_place(pow(10, decade));
    fprintf(out.file,
            "<path d=\"M%.1f %dv%dM%d %.1fh%d\" stroke=\"#ddd\"/>\n<text x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"middle\">%g</text>\n<text x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%g</text>\n",
            edge + at, edge, DIAGRAM_SIDE, edge, edge + DIAGRAM_SIDE - at, DIAGRAM_SIDE, edge + at,
            edge + DIAGRAM_SIDE + 16, pow(10, decade), edge - 6, edge + DIAGRAM_SIDE - at + 4,
            pow(10, decade));
  }
  fprintf(out.file,
          "<path d=\"M%d %dL%d %d\" stroke=\"#888\"/>\n<text x=\"%d\" y=\"%d\" "
          "text-anchor=\"middle\">1 - probability of the prediction</text>\n",
          edge, edge + DIAGRAM_SIDE, edge + DIAGRAM_SIDE, edge, side / 2, edge + DIAGRAM_SIDE + 34);
  draw_bins(out.file, before, hollow, 4);
  draw_legend(out.file, before, hollow, 0);
  if (after) {
    draw_bins(out.file, after, full, 3);
    draw_legend(out.file, after, full, 1);
  }
  fputs("</svg>\n", out.file);
  output_close(&out);
  free(path);
}

#endif
