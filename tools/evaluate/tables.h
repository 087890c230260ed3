/* tables.h - metrics as tables: printed, and as CSV files. */
#ifndef TALLY_EVALUATE_TABLES_H
#define TALLY_EVALUATE_TABLES_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv.h"
#include "../csv_write.h"
#include "../json.h"
#include "../left_out.h"
#include "../output.h"
#include "metrics.h"

#define PRINTED_CLASSES 30 /* a wider confusion matrix is for a file, not for a terminal */
#define PRINTED_NAME 20    /* characters of a class name */

/* A name in a column of `width` characters, cut if need be, to the left or the right. */
static inline void print_name(const char *name, int width, int right) {
  int length = text_width(name), shown = length < width ? length : width;
  if (right) printf("%*s", width - shown, "");
  for (int i = 0; *name; name++) {
    i += (*name & 0xC0) != 0x80;
    if (i > shown) break;
    putchar((unsigned char)*name < 32 ? '?' : *name);
  }
  if (!right) printf("%*s", width - shown, "");
}

static inline int name_column(const class_list *set, int least) {
  int width = least;
  for (int k = 0; k < set->count; k++) {
    int length = text_width(set->names[k]);
    width = length > width ? length : width;
  }
  return width < PRINTED_NAME ? width : PRINTED_NAME;
}

static inline void print_classes(const class_list *set, const figures *f) {
  int width = name_column(set, 5);
  print_name("class", width, 0);
  printf("  %8s  %9s  %6s  %6s\n", "pictures", "precision", "recall", "F1");
  for (int k = 0; k < set->count; k++) {
    const class_figures *c = &f->classes[k];
    print_name(set->names[k], width, 0);
    printf("  %8d  %9.4f  %6.4f  %6.4f\n", c->truths, c->precision, c->recall, c->f1);
  }
  print_name("macro", width, 0);
  printf("  %8d  %9.4f  %6.4f  %6.4f\n\n", f->count, f->precision, f->recall, f->f1);
}

static inline void print_confusion(const class_list *set, const figures *f) {
  if (set->count > PRINTED_CLASSES) {
    printf("(the confusion matrix of %d classes is in confusion.csv with --out)\n\n", set->count);
    return;
  }
  int most = 0, digits = 1, rows = name_column(set, 5), columns = name_column(set, 1);
  for (int i = 0; i < set->count * set->count; i++)
    most = f->confusion[i] > most ? f->confusion[i] : most;
  for (int rest = most; rest >= 10; rest /= 10) digits++;
  columns = columns > 8 ? 8 : columns;
  columns = columns > digits ? columns : digits;
  puts("confusion (rows: truth, columns: prediction)");
  printf("%*s ", rows, "");
  for (int k = 0; k < set->count; k++) {
    printf(" ");
    print_name(set->names[k], columns, 1);
  }
  printf("\n");
  for (int t = 0; t < set->count; t++) {
    print_name(set->names[t], rows, 0);
    printf(" ");
    for (int p = 0; p < set->count; p++) {
      int cell = f->confusion[t * set->count + p];
      if (cell)
        printf(" %*d", columns, cell);
      else
        printf(" %*s", columns, ".");
    }
    printf("\n");
  }
  printf("\n");
}

/* The five most frequent confusions. */
static inline void print_frequent(const class_list *set, const figures *f) {
  int shown[5], count = 0, cells = set->count * set->count;
  for (; count < 5; count++) {
    int most = -1;
    for (int i = 0; i < cells; i++) {
      int taken = i / set->count == i % set->count || !f->confusion[i];
      for (int j = 0; j < count; j++) taken = taken || shown[j] == i;
      if (!taken && (most < 0 || f->confusion[i] > f->confusion[most])) most = i;
    }
    if (most < 0) break;
    shown[count] = most;
    const char *truth = set->names[most / set->count], *read = set->names[most % set->count];
    fputs(count ? ", " : "most frequent mistakes: ", stdout);
    print_name(truth, text_width(truth), 0);
    fputs(" read as ", stdout);
    print_name(read, text_width(read), 0);
    printf(" (%d)", f->confusion[most]);
  }
  if (count) printf("\n\n");
}

static inline void print_tables(const results *r, const figures *f) {
  printf("%d of %d right, accuracy %.4f\n\n", f->right, f->count, f->accuracy);
  print_classes(&r->set, f);
  print_confusion(&r->set, f);
  print_frequent(&r->set, f);
}

/* The figures of the class that --positive names; NULL if it names none. */
static const class_figures *positive_figures(const char *positive, const results *r,
                                             const figures *f) {
  if (!positive) return NULL;
  int k = classes_find(&r->set, positive);
  if (k < 0)
    fail("--positive: \"%s\" is not one of the %d classes (%s to %s)", positive, r->set.count,
         r->set.names[0], r->set.names[r->set.count - 1]);
  return &f->classes[k];
}

/* positive may be NULL. */
static inline void json_figures(text_buffer *json, const figures *f,
                                const class_figures *positive) {
  json_integer(json, "n", f->count);
  json_real(json, "accuracy", f->accuracy);
  json_real(json, "macro_precision", f->precision);
  json_real(json, "macro_recall", f->recall);
  json_real(json, "macro_f1", f->f1);
  if (!positive) return;
  json_real(json, "precision", positive->precision);
  json_real(json, "recall", positive->recall);
  json_real(json, "f1", positive->f1);
}

static inline void write_confusion(const char *folder, const results *r, const figures *f) {
  char *path = join_path(folder, "confusion.csv");
  output out = output_open(path);
  fputs("truth", out.file);
  for (int k = 0; k < r->set.count; k++) {
    putc(',', out.file);
    csv_write(out.file, r->set.names[k]);
  }
  putc('\n', out.file);
  for (int t = 0; t < r->set.count; t++) {
    csv_write(out.file, r->set.names[t]);
    for (int p = 0; p < r->set.count; p++)
      fprintf(out.file, ",%d", f->confusion[(size_t)t * (size_t)r->set.count + (size_t)p]);
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

static inline void write_classes(const char *folder, const results *r, const figures *f) {
  char *path = join_path(folder, "classes.csv");
  output out = output_open(path);
  fputs("class,n,predicted,right,precision,recall,f1\n", out.file);
  for (int k = 0; k < r->set.count; k++) {
    const class_figures *c = &f->classes[k];
    csv_write(out.file, r->set.names[k]);
    fprintf(out.file, ",%d,%d,%d,%.6f,%.6f,%.6f\n", c->truths, c->predictions, c->right,
            c->precision, c->recall, c->f1);
  }
  output_close(&out);
  free(path);
}

#endif
