/* tally-extract.c - cuts the cells out of scanned or photographed forms, as 28 x 28 pictures to
   train and test networks on; joins them with labels and splits them by tally.

   Build:  make bin/tally-extract     (tool.h says how by hand)
   Use:    bin/tally-extract --template c1-2019 --out cells scans/

   Its rooms are in extract/: labels.h (what people say is written), cells.h (cutting), tables.h (the
   tables and the split). Here are options and the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-extract"
#define TOOL_USAGE "--template T --out DIR [options] IMAGE..."
#include "tool.h"

#include "extract/cells.h"
#include "extract/labels.h"
#include "extract/tables.h"
#include "form_list.h"
#include "forms.h"
#include "left_out.h"
#include "output.h"
#include "preprocess.h"
#include "templates.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Cuts the cells out of pictures of forms.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T      a template file, or the name of one that comes with the program\n"
    "  --out DIR         where to write (made if need be):\n"
    "                      cells/TALLY/FIELD-POSITION.png   position 0 is the leftmost cell\n"
    "                      cells.csv    tally,field,position,path,state,written,whole: the last two\n"
    "                                   are probabilities: that a pen has written there, and that\n"
    "                                   the picture holds all of it and nothing else\n"
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
    "                    tally-train takes as --data\n"
    "  --split A,B,C     with --labels: deals the tallies out to train.csv, val.csv and test.csv\n"
    "                    in these proportions. All cells of a tally go to the same file, and the\n"
    "                    written files are read again to prove it\n"
    "  --seed N          of the split (default 1)\n"
    "  --print F.print   also makes a reference print of the form: F.print and F.print.png, the printed\n"
    "                    labels of its fields as most of the pictures show them, without what people\n"
    "                    wrote; needs 3 pictures or more. Beside the template, as NAME.print beside\n"
    "                    NAME.form, it makes tally-read and tally-extract refuse forms whose labels\n"
    "                    are not those of the template's fields: exchanged, or a row off. Look at it\n"
    "                    before you hand it on\n"
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
    "  " TOOL_NAME
    " --template mexico-2015 --out cells --labels synth/cells.csv --split 80,10,10 synth/\n";

typedef struct settings {
  const char *template, *out, *labels, *split, *print;
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
      text_option("print", &set.print),
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

/* ---- the run --------------------------------------------------------------------------------- */

/* Makes a reference print from the forms that were registered. */
static void make_print(const char *path, const tally_template *form, const form_list *list,
                       const outcome *outcomes) {
  uint8_t *forms[PRINT_FORMS];
  int count = 0;
  for (int i = 0; i < form_count(list) && count < PRINT_FORMS; i++)
    if (outcomes[i].labels) forms[count++] = outcomes[i].labels;
  if (count < PRINT_LEAST)
    fail("%s is not made: %d forms were registered, it takes %d", path, count, PRINT_LEAST);
  write_print(path, form, forms, count);
}

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
  tally_print *print = NULL;
  form_list list = form_list_open(argv + optind, argc - optind, set.flat, set.out);
  label_table labels = {0};
  if (set.labels) labels = labels_read(set.labels, form, &list);
  lock_folder(set.out, outputs);
  work_order order = {form, NULL, set.raw, set.check, set.print ? PRINT_FORMS : 0};
  if (!set.print) order.print = print = print_open(argv[0], set.template, form);
  outcome *outcomes = extract_all(&order, &list, set.out);
  write_forms(set.out, &list, outcomes);
  long long cells = write_cell_table(set.out, form, &list, outcomes);
  int registered = report_outcomes(&list, outcomes);
  if (set.print) make_print(set.print, form, &list, outcomes);
  if (set.labels)
    write_labels(set.out, form, &list, outcomes, &labels, set.split ? set.parts : NULL, set.seed);
  text_buffer json = {0};
  json_integer(&json, "forms", form_count(&list));
  json_integer(&json, "registered", registered);
  json_integer(&json, "cells", cells);
  left_out_json(&json, &list.pictures.left);
  json_print(&json);
  for (int i = 0; i < form_count(&list); i++) {
    free(outcomes[i].states);
    free(outcomes[i].labels);
    free(outcomes[i].written);
    free(outcomes[i].whole);
  }
  free(outcomes);
  free(labels.cells);
  free(labels.counts);
  classes_free(&labels.set);
  form_list_free(&list);
  if (print) print_close(print);
  free(form);
  free(text);
  return end_after_pictures(registered);
}
