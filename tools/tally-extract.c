/* tally-extract.c - cuts the cells out of scanned or photographed forms, as 28 x 28 pictures to
   train and test networks on; joins them with labels and splits them by tally.

   Build:  make bin/tally-extract     (tool.h says how by hand)
   Use:    bin/tally-extract --template c1-2019 --out cells scans/

   The order of this file: options, labels, one form, all forms, tables, labelled data and its
   split, the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-extract"
#define TOOL_USAGE "--template T --out DIR [options] IMAGE..."
#include "tool.h"

#include "classes.h"
#include "csv.h"
#include "folder.h"
#include "form_list.h"
#include "forms.h"
#include "templates.h"
#include "output.h"
#include "preprocess.h"
#include "views.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Cuts the cells out of pictures of forms.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T      a template file, or the name of one that comes with the program\n"
    "  --out DIR         where to write (made if need be):\n"
    "                      cells/TALLY/FIELD-POSITION.png   position 0 is the leftmost cell\n"
    "                      cells.csv    tally,field,position,path,state\n"
    "                      forms.csv    tally,status,residual_px,reason\n"
    "  IMAGE...          picture files, folders with everything below them, or CSV files with a\n"
    "                    column path; a tally is named by its picture's file name, a page of a file\n"
    "                    with several as scan.pdf#3\n"
    "  --flat            leaves out what lies in folders of the folders named\n"
    "  --raw             cells as printed, only shrunk and inverted (default: printed rules\n"
    "                    removed, ink centred as MNIST does)\n"
    "  --labels F.csv    what is written in the cells: columns tally,field,position,label; or\n"
    "                    counts, columns tally,field,value (as tally-read's page saves), whose\n"
    "                    digits label the cells from the right; ink to the left of a shorter\n"
    "                    number stays unlabelled. Writes labelled.csv (path,label,tally), which\n"
    "                    tally-train takes as --data. A dash is labelled cross: to a network both\n"
    "                    are marks that are no digits\n"
    "  --split A,B,C     with --labels: deals the tallies out to train.csv, val.csv and test.csv\n"
    "                    in these proportions. All cells of a tally go to the same file, and the\n"
    "                    written files are read again to prove it\n"
    "  --seed N          of the split (default 1)\n"
    "  --check           writes check/TALLY.jpg: the registered table with the cells outlined\n"
    "  --threads N       default: all cores; does not change the result\n"
    "  --quiet           nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "A form that cannot be read or registered has its reason in forms.csv and no cells; a file\n"
    "that is no picture, or a second name of one, is left out and said. The last line on stdout is\n"
    "JSON: forms, registered, cells, left_out (by ending or reason). Exit code: 0, 1 (failed, or no\n"
    "form was registered), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template mexico-2015 --out cells --check scans/\n"
    "  " TOOL_NAME " --template mexico-2015 --out cells --labels synth/cells.csv --split 80,10,10 synth/\n";

typedef struct settings {
  const char *template, *out, *labels, *split;
  int raw, check, flat;
  uint64_t seed;
  float parts[3];
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static void take_split(const tool_option *option, const char *value) {
  settings *set = option->to;
  const float *part = set->parts;
  set->split = value;
  if (!parse_reals(value, set->parts, 3) || part[0] < 0 || part[1] < 0 || part[2] < 0 ||
      !(part[0] + part[1] + part[2] > 0))
    misuse("--split: \"%s\" is not three proportions, as in 80,10,10", value);
}

static settings read_options(int argc, char **argv) {
  settings set = {.seed = 1};
  const tool_option options[] = {
      text_option("template", &set.template),
      text_option("out", &set.out),
      flag_option("raw", &set.raw),
      file_option("labels", &set.labels),
      other_option("split", &set, 0, 0, take_split),
      seed_option(&set.seed),
      flag_option("check", &set.check),
      flag_option("flat", &set.flat),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.template) misuse("--template is missing");
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  if (set.split && !set.labels) misuse("--split needs --labels");
  return set;
}

/* ---- labels ---------------------------------------------------------------------------------- */

#define NO_LABEL (-1)

/* What is written in each cell of each tally, or a whole count. */
typedef struct label_table {
  class_list set;
  int *cells;        /* [tally][cell] index into set, NO_LABEL */
  long long *counts; /* [tally][field] value, NO_LABEL */
  int unknown;       /* rows about tallies that are not here */
} label_table;

static int label_field(const csv *table, const tally_template *form, const char *name) {
  int field = tally_template_field(form, name);
  if (field < 0)
    fail("%s: line %d: the template has no field \"%s\"", table->path, table->line, name);
  return field;
}

static long long label_number(const csv *table, const char *text, long long most) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (end == text || *end || errno || number < 0 || number > most)
    fail("%s: line %d: \"%s\" is not a number from 0 to %lld", table->path, table->line, text,
         most);
  return number;
}

static int has_column(const csv *table, const char *name) {
  for (int i = 0; i < table->field_count; i++)
    if (!strcmp(table->fields[i], name)) return 1;
  return 0;
}

static void label_cell(label_table *labels, const csv *table, const tally_template *form, int tally,
                       int field, const char *position, const char *label) {
  int p = (int)label_number(table, position, form->field[field].digits - 1);
  if (!*label || strchr(label, '\n'))
    fail("%s: line %d: a label is missing", table->path, table->line);
  if (!strcmp(label, "dash")) label = "cross";
  int index = classes_find(&labels->set, label);
  if (index < 0) {
    classes_add(&labels->set, label);
    index = labels->set.count - 1;
  }
  labels->cells[(size_t)tally * (size_t)form->cells + (size_t)(form->field[field].first_cell + p)] =
      index;
}

static label_table labels_read(const char *path, const tally_template *form,
                               const form_list *list) {
  label_table labels = {0};
  size_t cells = (size_t)form_count(list) * (size_t)form->cells;
  size_t counts = (size_t)form_count(list) * (size_t)form->fields;
  labels.set = classes_numbered(10);
  classes_add(&labels.set, "empty");
  labels.cells = allocate(cells, sizeof(int));
  labels.counts = allocate(counts, sizeof(long long));
  for (size_t i = 0; i < cells; i++) labels.cells[i] = NO_LABEL;
  for (size_t i = 0; i < counts; i++) labels.counts[i] = NO_LABEL;
  csv table = csv_open(path);
  int by_cell = has_column(&table, "label");
  int tally_column = csv_column(&table, "tally"), field_column = csv_column(&table, "field");
  int value_column = csv_column(&table, by_cell ? "label" : "value");
  int position_column = by_cell ? csv_column(&table, "position") : -1;
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    if (tally < 0) {
      labels.unknown++;
      continue;
    }
    int field = label_field(&table, form, table.fields[field_column]);
    const char *value = table.fields[value_column];
    if (by_cell)
      label_cell(&labels, &table, form, tally, field, table.fields[position_column], value);
    else if (*value)
      labels.counts[(size_t)tally * (size_t)form->fields + (size_t)field] =
          label_number(&table, value, (long long)pow(10, form->field[field].digits) - 1);
  }
  csv_close(&table);
  return labels;
}

/* The label of a cell. A count's digits stand at the right; to their left an empty cell is just
   that, but ink may be a zero or a cross, which the count does not tell. */
static int label_of(const label_table *labels, const tally_template *form, int tally, int field,
                    int position, int state) {
  size_t cell =
      (size_t)tally * (size_t)form->cells + (size_t)(form->field[field].first_cell + position);
  if (labels->cells[cell] != NO_LABEL) return labels->cells[cell];
  long long value = labels->counts[(size_t)tally * (size_t)form->fields + (size_t)field];
  if (value == NO_LABEL) return NO_LABEL;
  for (int i = form->field[field].digits - 1; i > position; i--) {
    value /= 10;
    if (value == 0)
      return state == TALLY_CELL_EMPTY ? classes_find(&labels->set, "empty") : NO_LABEL;
  }
  return (int)(value % 10);
}

/* ---- one form -------------------------------------------------------------------------------- */

/* What became of a form. */
typedef struct outcome {
  tally_form_status status;
  int readable; /* 0: there was no picture */
  double residual;
  char reason[160];
  uint8_t *states; /* of its cells; NULL if it was not registered */
} outcome;

static void write_picture(const char *folder, const char *name, const text_buffer *bytes) {
  char *path = join_path(folder, name);
  write_small_file(path, bytes->data, bytes->length);
  free(path);
}

static void write_cells(const char *folder, const tally_template *form, const tally_cell *cells,
                        int raw) {
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

static void draw_line(tally_image *on, double x1, double y1, double x2, double y2,
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
static void draw_cell(tally_image *on, const tally_registration *where, int field, tally_box cell,
                      tally_box table, tally_cell_state state) {
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

static void write_check(const char *folder, const char *tally, const tally_template *form,
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

/* Where the outputs of a run go. */
typedef struct folders {
  char *cells, *check; /* check: NULL if not wanted */
} folders;

static outcome extract(const settings *set, const tally_template *form, const folders *to,
                       const char *path, const char *tally, tally_cell *cells) {
  outcome out = {0};
  tally_registration *where = allocate(1, sizeof *where);
  tally_image photo;
  const char *reason = form_register(path, form, &photo, where);
  out.readable = photo.pixels != NULL;
  out.status = where->status;
  out.residual = where->residual;
  if (reason)
    snprintf(out.reason, sizeof out.reason, "%s", reason);
  else if (tally_cut(&photo, form, where, cells) != TALLY_OK)
    fail("out of memory");
  else {
    char *name = cell_folder_name(tally), *folder = join_path(to->cells, name);
    write_cells(folder, form, cells, set->raw);
    if (to->check) write_check(to->check, name, form, &photo, where, cells);
    out.states = allocate((size_t)form->cells, 1);
    for (int i = 0; i < form->cells; i++) out.states[i] = (uint8_t)cells[i].state;
    free(folder);
    free(name);
  }
  tally_image_free(&photo);
  free(where);
  return out;
}

/* ---- all forms ------------------------------------------------------------------------------- */

typedef struct extraction {
  const settings *set;
  const tally_template *form;
  const form_list *list;
  folders to;
  outcome *outcomes;
  tally_cell *cells; /* a form's for each thread */
  progress bar;
  double started;
  int done;
} extraction;

static void extract_one(void *context, int i, int thread) {
  extraction *e = context;
  char figures[96];
  e->outcomes[i] = extract(e->set, e->form, &e->to, e->list->pictures.paths[i], e->list->names[i],
                           e->cells + (size_t)thread * (size_t)e->form->cells);
  work_lock();
  e->done++;
  snprintf(figures, sizeof figures, "%d of %d  %.1f tallies/s", e->done, form_count(e->list),
           e->done / fmax(seconds_now() - e->started, 1e-9));
  progress_draw(&e->bar, "cutting", (double)e->done / form_count(e->list), figures);
  work_unlock();
}

static outcome *extract_all(const settings *set, const tally_template *form,
                            const form_list *list) {
  extraction e = {.set = set, .form = form, .list = list};
  e.to.cells = join_path(set->out, "cells");
  if (set->check) e.to.check = join_path(set->out, "check");
  e.outcomes = allocate((size_t)form_count(list), sizeof *e.outcomes);
  e.cells = allocate((size_t)use_threads(0) * (size_t)form->cells, sizeof *e.cells);
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

/* ---- tables ---------------------------------------------------------------------------------- */

static void write_forms(const char *folder, const form_list *list, const outcome *outcomes) {
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
static char *cell_path(const char *tally, const tally_template *form, int field, int position) {
  char *folder = cell_folder_name(tally);
  text_buffer path = {0};
  text_add(&path, "cells/%s/%s-%d.png", folder, form->field[field].name, position);
  free(folder);
  return path.data;
}

static long long write_cell_table(const char *folder, const tally_template *form,
                                  const form_list *list, const outcome *outcomes) {
  char *path = join_path(folder, "cells.csv");
  long long cells = 0;
  output out = output_open(path);
  fputs("tally,field,position,path,state\n", out.file);
  for (int i = 0; i < form_count(list); i++)
    for (int f = 0; f < form->fields && outcomes[i].states; f++)
      for (int p = 0; p < form->field[f].digits; p++, cells++) {
        char *cell = cell_path(list->names[i], form, f, p);
        int state = outcomes[i].states[form->field[f].first_cell + p];
        csv_write(out.file, list->names[i]);
        fprintf(out.file, ",%s,%d,", form->field[f].name, p);
        csv_write(out.file, cell);
        fprintf(out.file, ",%s\n", tally_cell_state_text((tally_cell_state)state));
        free(cell);
      }
  output_close(&out);
  free(path);
  return cells;
}

/* ---- labelled data and its split ------------------------------------------------------------- */

/* Writes the labelled cells of the tallies that belong to `part`; parts NULL: of all. */
static int write_labelled(const char *path, const tally_template *form, const form_list *list,
                          const outcome *outcomes, const label_table *labels, const int *parts,
                          int part) {
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
static int *deal_tallies(const settings *set, const form_list *list, const outcome *outcomes) {
  int *order = allocate((size_t)form_count(list), sizeof(int));
  int *parts = allocate((size_t)form_count(list), sizeof(int)), count = 0;
  cn_random random = {set->seed, 0};
  double all = (double)set->parts[0] + (double)set->parts[1] + (double)set->parts[2];
  for (int i = 0; i < form_count(list); i++)
    if (outcomes[i].states) order[count++] = i;
  for (int i = count - 1; i > 0; i--) {
    int k = (int)cn_random_below(&random, (uint32_t)i + 1), kept = order[i];
    order[i] = order[k];
    order[k] = kept;
  }
  double first = set->parts[0] / all, second = first + set->parts[1] / all;
  for (int i = 0; i < count; i++) {
    double place = (i + 0.5) / count;
    parts[order[i]] = place < first ? 0 : place < second ? 1 : 2;
  }
  free(order);
  return parts;
}

static const char *const part_names[3] = {"train.csv", "val.csv", "test.csv"};

/* Reads the three files again, as training will, and looks for a tally in two of them. */
static void prove_split(const char *folder, const form_list *list) {
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

static void write_labels(const settings *set, const tally_template *form, const form_list *list,
                         const outcome *outcomes, const label_table *labels) {
  char *path = join_path(set->out, "labelled.csv");
  int rows = write_labelled(path, form, list, outcomes, labels, NULL, 0);
  printf("%d cells have a label\n", rows);
  if (labels->unknown)
    inform("%s: %d rows are about tallies that are not among the pictures", set->labels,
           labels->unknown);
  free(path);
  if (!set->split) return;
  int *parts = deal_tallies(set, list, outcomes);
  for (int part = 0; part < 3; part++) {
    path = join_path(set->out, part_names[part]);
    write_labelled(path, form, list, outcomes, labels, parts, part);
    free(path);
  }
  free(parts);
  prove_split(set->out, list);
}

/* ---- the run --------------------------------------------------------------------------------- */

static int report_outcomes(form_list *list, const outcome *outcomes) {
  int registered = 0;
  for (int i = 0; i < form_count(list); i++) {
    left_out *left = &list->pictures.left;
    registered += outcomes[i].states != NULL;
    if (!outcomes[i].readable)
      left_out_add_unreadable(left, list->names[i], outcomes[i].reason);
    else if (!outcomes[i].states)
      left_out_add_unregistered(left, list->names[i], outcomes[i].reason);
  }
  return registered;
}

int main(int argc, char **argv) {
  static const char *const outputs[] = {
      "forms.csv", "cells.csv", "labelled.csv", "train.csv", "val.csv", "test.csv", NULL};
  tool_start();
  keep_freed_memory();
  settings set = read_options(argc, argv);
  char *text;
  size_t length;
  tally_template *form = template_open(argv[0], set.template, &text, &length);
  form_list list = form_list_open(argv + optind, argc - optind, set.flat, set.out);
  label_table labels = {0};
  if (set.labels) labels = labels_read(set.labels, form, &list);
  lock_folder(set.out, outputs);
  outcome *outcomes = extract_all(&set, form, &list);
  write_forms(set.out, &list, outcomes);
  long long cells = write_cell_table(set.out, form, &list, outcomes);
  int registered = report_outcomes(&list, outcomes);
  if (set.labels) write_labels(&set, form, &list, outcomes, &labels);
  text_buffer json = {0};
  json_integer(&json, "forms", form_count(&list));
  json_integer(&json, "registered", registered);
  json_integer(&json, "cells", cells);
  left_out_json(&json, &list.pictures.left);
  json_print(&json);
  for (int i = 0; i < form_count(&list); i++) free(outcomes[i].states);
  free(outcomes);
  free(labels.cells);
  free(labels.counts);
  classes_free(&labels.set);
  form_list_free(&list);
  free(form);
  free(text);
  return end_after_pictures(registered);
}
