/* tables.h - forms.csv, cells.csv, labelled.csv and its split by tally. */
#ifndef TALLY_EXTRACT_TABLES_H
#define TALLY_EXTRACT_TABLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../convnet.h"
#include "../../tally.h"
#include "../csv.h"
#include "../csv_write.h"
#include "../file.h"
#include "../form_list.h"
#include "../output.h"
#include "cells.h"
#include "labels.h"

static inline void write_forms(const char *folder, const form_list *list, const outcome *outcomes) {
  char *path = join_path(folder, "forms.csv");
  output out = output_open(path);
  fputs("tally,status,residual_px,reason\n", out.file);
  for (int i = 0; i < form_count(list); i++) {
    const outcome *o = &outcomes[i];
    csv_write(out.file, list->names[i]);
    fprintf(out.file, ",%s,", o->readable ? tally_form_status_text(o->status) : "unreadable");
    if (o->residual >= 0) fprintf(out.file, "%.3f", o->residual);
    putc(',', out.file);
    csv_write(out.file, o->reason);
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

/* A cell's picture, from the output folder. */
static inline char *cell_path(const char *tally, const tally_template *form, int field,
                              int position) {
  char *folder = cell_folder_name(tally);
  text_buffer path = {0};
  text_add(&path, "cells/%s/%s-%d.png", folder, form->field[field].name, position);
  free(folder);
  return path.data;
}

static inline long long write_cell_table(const char *folder, const tally_template *form,
                                         const form_list *list, const outcome *outcomes) {
  char *path = join_path(folder, "cells.csv");
  long long cells = 0;
  output out = output_open(path);
  fputs("tally,field,position,path,state,written,whole\n", out.file);
  for (int i = 0; i < form_count(list); i++)
    for (int f = 0; f < form->fields && outcomes[i].states; f++)
      for (int p = 0; p < form->field[f].digits; p++, cells++) {
        char *cell = cell_path(list->names[i], form, f, p);
        int number = form->field[f].first_cell + p, state = outcomes[i].states[number];
        csv_write(out.file, list->names[i]);
        fprintf(out.file, ",%s,%d,", form->field[f].name, p);
        csv_write(out.file, cell);
        fprintf(out.file, ",%s,%.4f,%.4f\n", tally_cell_state_text((tally_cell_state)state),
                (double)outcomes[i].written[number], (double)outcomes[i].whole[number]);
        free(cell);
      }
  output_close(&out);
  free(path);
  return cells;
}

/* Writes the labelled cells of the tallies that belong to `part`; parts NULL: of all. */
static inline int write_labelled(const char *path, const tally_template *form,
                                 const form_list *list, const outcome *outcomes,
                                 const label_table *labels, const int *parts, int part) {
  int rows = 0;
  output out = output_open(path);
  fputs("path,label,tally\n", out.file);
  for (int i = 0; i < form_count(list); i++) {
    if (!outcomes[i].states || (parts && parts[i] != part)) continue;
    for (int f = 0; f < form->fields; f++)
      for (int p = 0; p < form->field[f].digits; p++) {
        int label =
            label_of(labels, form, i, f, p, outcomes[i].states[form->field[f].first_cell + p]);
        if (label == NO_LABEL) continue;
        char *cell = cell_path(list->names[i], form, f, p);
        csv_write(out.file, cell);
        putc(',', out.file);
        csv_write(out.file, labels->set.names[label]);
        putc(',', out.file);
        csv_write(out.file, list->names[i]);
        putc('\n', out.file);
        free(cell);
        rows++;
      }
  }
  output_close(&out);
  return rows;
}

/* Deals the registered tallies out in a random order. */
static inline int *deal_tallies(const float shares[3], uint64_t seed, const form_list *list,
                                const outcome *outcomes) {
  int *order = allocate((size_t)form_count(list), sizeof(int));
  int *parts = allocate((size_t)form_count(list), sizeof(int)), count = 0;
  cn_random random = {seed, 0};
  double all = (double)shares[0] + (double)shares[1] + (double)shares[2];
  for (int i = 0; i < form_count(list); i++)
    if (outcomes[i].states) order[count++] = i;
  for (int i = count - 1; i > 0; i--) {
    int k = (int)cn_random_below(&random, (uint32_t)i + 1), kept = order[i];
    order[i] = order[k];
    order[k] = kept;
  }
  double first = shares[0] / all, second = first + shares[1] / all;
  for (int i = 0; i < count; i++) {
    double place = (i + 0.5) / count;
    parts[order[i]] = place < first ? 0 : place < second ? 1 : 2;
  }
  free(order);
  return parts;
}

static const char *const part_names[3] = {"train.csv", "val.csv", "test.csv"};

/* Reads the three files again, as training will, and looks for a tally in two of them. */
static inline void prove_split(const char *folder, const form_list *list) {
  int *seen = allocate((size_t)form_count(list), sizeof(int)), tallies[3] = {0}, twice = 0;
  for (int part = 0; part < 3; part++) {
    char *path = join_path(folder, part_names[part]);
    if (!is_regular(path)) {
      inform("%s cannot be read again: the split is not proved", path);
      free(path);
      free(seen);
      return;
    }
    csv table = csv_open(path);
    int column = csv_column(&table, "tally");
    while (csv_row(&table)) {
      int tally = form_list_find(list, table.fields[column]);
      if (tally < 0) fail("%s: line %d: unknown tally", path, table.line);
      if (!seen[tally]) tallies[part]++;
      if (seen[tally] && seen[tally] != part + 1) twice++;
      seen[tally] = part + 1;
    }
    csv_close(&table);
    free(path);
  }
  if (twice) fail("%d cells belong to a tally of another part", twice);
  printf("split by tally: %d in train.csv, %d in val.csv, %d in test.csv; "
         "no tally is in two of them\n",
         tallies[0], tallies[1], tallies[2]);
  free(seen);
}

/* labelled.csv; and, unless shares is NULL, the three files of the split. */
static inline void write_labels(const char *folder, const tally_template *form,
                                const form_list *list, const outcome *outcomes,
                                const label_table *labels, const float shares[3], uint64_t seed) {
  char *path = join_path(folder, "labelled.csv");
  int rows = write_labelled(path, form, list, outcomes, labels, NULL, 0);
  printf("%d cells have a label\n", rows);
  if (labels->unknown)
    inform("%d labels are about tallies that are not among the pictures", labels->unknown);
  free(path);
  if (!shares) return;
  int *parts = deal_tallies(shares, seed, list, outcomes);
  for (int part = 0; part < 3; part++) {
    path = join_path(folder, part_names[part]);
    write_labelled(path, form, list, outcomes, labels, parts, part);
    free(path);
  }
  free(parts);
  prove_split(folder, list);
}

#endif
