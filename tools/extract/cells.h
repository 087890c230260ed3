/* cells.h - the cells of forms, cut out and written as pictures. */
#ifndef TALLY_EXTRACT_CELLS_H
#define TALLY_EXTRACT_CELLS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tally.h"
#include "../folder.h"
#include "../form_list.h"
#include "../forms.h"
#include "../output.h"
#include "../progress.h"
#include "../views.h"
#include "../work.h"
#include "../implementations/stb.h"
#include "print.h"

/* What became of a form. */
typedef struct outcome {
  tally_form_status status;
  int readable; /* 0: there was no picture */
  double residual;
  char reason[160];
  uint8_t *states; /* of its cells; NULL if it was not registered */
  uint8_t *labels; /* as printed, if a reference print is made; NULL otherwise */
  float *written, *whole;
} outcome;

static inline void write_picture(const char *folder, const char *name, const text_buffer *bytes) {
  char *path = join_path(folder, name);
  write_small_file(path, bytes->data, bytes->length);
  free(path);
}

static inline void write_cells(const char *folder, const tally_template *form,
                               const tally_cell *cells, int raw) {
  char name[TALLY_MAX_NAME + 32];
  make_folder(folder);
  remove_leftovers(folder, NULL);
  for (int f = 0; f < form->fields; f++)
    for (int p = 0; p < form->field[f].digits; p++) {
      const tally_cell *cell = &cells[form->field[f].first_cell + p];
      text_buffer png = {0};
      if (!stbi_write_png_to_func(append_bytes, &png, TALLY_SIDE, TALLY_SIDE, 1,
                                  raw ? cell->raw : cell->clean, 0))
        fail("cannot encode a picture");
      snprintf(name, sizeof name, "%s-%d.png", form->field[f].name, p);
      write_picture(folder, name, &png);
      free(png.data);
    }
}

static inline void draw_line(tally_image *on, double x1, double y1, double x2, double y2,
                             const uint8_t rgb[3]) {
  int steps = (int)(fmax(fabs(x2 - x1), fabs(y2 - y1)) + 1);
  for (int i = 0; i <= steps; i++) {
    int x = (int)floor(x1 + (x2 - x1) * i / steps), y = (int)floor(y1 + (y2 - y1) * i / steps);
    if (x < 0 || y < 0 || x >= on->width || y >= on->height) continue;
    memcpy(on->pixels + ((size_t)y * (size_t)on->width + (size_t)x) * 3, rgb, 3);
  }
}

/* Outlines a cell where its field's own boxes put it: green for ink, orange for ink that touches
   the border, blue for none. */
static inline void draw_cell(tally_image *on, const tally_registration *where, int field,
                             tally_box cell, tally_box table, tally_cell_state state) {
  static const uint8_t colours[3][3] = {{40, 90, 220}, {0, 150, 60}, {230, 110, 0}};
  const double *l = where->local[field];
  double x[4], y[4];
  for (int k = 0; k < 4; k++) {
    double tx = cell.x + (k == 1 || k == 2 ? cell.width : 0),
           ty = cell.y + (k >= 2 ? cell.height : 0);
    x[k] = l[0] + l[1] * tx + l[2] * ty - table.x;
    y[k] = l[3] + l[4] * tx + l[5] * ty - table.y;
  }
  for (int k = 0; k < 4; k++)
    draw_line(on, x[k], y[k], x[(k + 1) % 4], y[(k + 1) % 4], colours[state]);
}

static inline void write_check(const char *folder, const char *tally, const tally_template *form,
                               const tally_image *photo, const tally_registration *where,
                               const tally_cell *cells) {
  tally_box table = table_of(form);
  tally_image view = view_cut(photo, where, -1, table, 1);
  for (int f = 0; f < form->fields; f++)
    for (int p = 0; p < form->field[f].digits; p++)
      draw_cell(&view, where, f, form->field[f].cell[p], table,
                cells[form->field[f].first_cell + p].state);
  text_buffer jpeg = image_jpeg(&view, 80), name = {0};
  text_add(&name, "%s.jpg", tally);
  write_picture(folder, name.data, &jpeg);
  free(jpeg.data);
  free(name.data);
  tally_image_free(&view);
}

/* What is done with the forms of a run. */
typedef struct work_order {
  const tally_template *form;
  const tally_print *print; /* reference print, NULL if there is none */
  int raw, check;
  int labels; /* of how many forms the printed labels are kept, to make a reference print */
} work_order;

/* Where the outputs of a run go. */
typedef struct folders {
  char *cells, *check; /* check: NULL if not wanted */
} folders;

/* keep: the labels, to make a reference print. */
static inline outcome extract(const work_order *order, const folders *to, const char *path,
                              const char *tally, int keep, tally_cell *cells) {
  const tally_template *form = order->form;
  outcome out = {0};
  tally_registration *where = allocate(1, sizeof *where);
  tally_image photo;
  const char *reason = form_register(path, form, order->print, &photo, where);
  out.readable = photo.pixels != NULL;
  out.status = where->status;
  out.residual = where->residual;
  if (reason)
    snprintf(out.reason, sizeof out.reason, "%s", reason);
  else if (tally_cut(&photo, form, where, cells) != TALLY_OK)
    fail("out of memory");
  else {
    char *name = cell_folder_name(tally), *folder = join_path(to->cells, name);
    write_cells(folder, form, cells, order->raw);
    if (to->check) write_check(to->check, name, form, &photo, where, cells);
    if (keep) out.labels = cut_labels(form, &photo, where);
    out.states = allocate((size_t)form->cells, 1);
    out.written = allocate((size_t)form->cells, sizeof *out.written);
    out.whole = allocate((size_t)form->cells, sizeof *out.whole);
    for (int i = 0; i < form->cells; i++) {
      out.states[i] = (uint8_t)cells[i].state;
      out.written[i] = (float)cells[i].written;
      out.whole[i] = (float)cells[i].whole;
    }
    free(folder);
    free(name);
  }
  tally_image_free(&photo);
  free(where);
  return out;
}

typedef struct extraction {
  const work_order *order;
  const form_list *list;
  folders to;
  outcome *outcomes;
  tally_cell *cells; /* a form's for each thread */
  progress bar;
  double started;
  int done;
} extraction;

static inline void extract_one(void *context, int i, int thread) {
  extraction *e = context;
  char figures[96];
  e->outcomes[i] =
      extract(e->order, &e->to, e->list->pictures.paths[i], e->list->names[i], i < e->order->labels,
              e->cells + (size_t)thread * (size_t)e->order->form->cells);
  work_lock();
  e->done++;
  snprintf(figures, sizeof figures, "%d of %d  %.1f tallies/s", e->done, form_count(e->list),
           e->done / fmax(seconds_now() - e->started, 1e-9));
  progress_draw(&e->bar, "cutting", (double)e->done / form_count(e->list), figures);
  work_unlock();
}

/* Cuts all forms on all threads, into folder/cells; draws them into folder/check if asked to. */
static inline outcome *extract_all(const work_order *order, const form_list *list,
                                   const char *folder) {
  extraction e = {.order = order, .list = list};
  e.to.cells = join_path(folder, "cells");
  if (order->check) e.to.check = join_path(folder, "check");
  e.outcomes = allocate((size_t)form_count(list), sizeof *e.outcomes);
  e.cells = allocate((size_t)use_threads(0) * (size_t)order->form->cells, sizeof *e.cells);
  e.bar = progress_start();
  e.started = seconds_now();
  make_folder(e.to.cells);
  if (e.to.check) {
    make_folder(e.to.check);
    remove_leftovers(e.to.check, NULL);
  }
  share_work(form_count(list), extract_one, &e);
  progress_wipe();
  free(e.cells);
  free(e.to.cells);
  free(e.to.check);
  return e.outcomes;
}

#endif
