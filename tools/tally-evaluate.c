/* tally-evaluate.c - how well a model reads labelled pictures, or how well given predictions agree
   with the truth: accuracy, precision, recall and F1 per class, confusion matrix, worst mistakes.

   Build:  make bin/tally-evaluate     (tool.h says how by hand)
   Use:    bin/tally-evaluate --model base.safetensors --data data:test --out report

   Its rooms are in evaluate/: results.h (truth and prediction), metrics.h, tables.h, mistakes.h (the
   picture of the worst). Here are options and the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-evaluate"
#define TOOL_USAGE "(--model M --data D | --predictions F.csv) [--out DIR] [options]"
#include "tool.h"

#include "dataset.h"
#include "evaluate/metrics.h"
#include "evaluate/mistakes.h"
#include "evaluate/results.h"
#include "evaluate/tables.h"
#include "output.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Measures how well a model reads labelled pictures, or how well predictions agree with the truth.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --model M            a model of tally-train (safetensors); it knows how its pictures are prepared\n"
    "  --data D             FOLDER:train or FOLDER:test for MNIST's IDX files, a folder with one\n"
    "                       subfolder of pictures per class, or a CSV file with columns path,label\n"
    "  --predictions F.csv  columns truth,prediction (others are ignored) in the place of a model\n"
    "  --out DIR            writes into DIR: confusion.csv and classes.csv (figures per class); with a\n"
    "                       model also predictions.csv (every picture with all probabilities) and\n"
    "                       mistakes.png (the worst mistakes with truth and prediction)\n"
    "  --positive CLASS     reports precision, recall and F1 of this class on their own too: of \"protest\"\n"
    "                       against everything else\n"
    "  --worst N            mistakes in that picture (default 48)\n"
    "  --batch N            pictures at a time (default 64)\n"
    "  --flat               leaves out what lies in folders of class folders\n"
    "  --skip-bad           leaves out pictures that cannot be read (default: stops)\n"
    "  --resize squash      takes IDX pictures of another size too, resized as the model says (others\n"
    "                       always are)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "For each class: precision = right / predicted, recall = right / truly there, F1 their harmonic\n"
    "mean; 0 where nothing was predicted or is there. Macro figures are their plain means over the\n"
    "classes that occur as truth or prediction. The last line on stdout is JSON: n, accuracy,\n"
    "macro_precision, macro_recall, macro_f1; with --positive also precision, recall, f1; left_out (files\n"
    "not evaluated, by ending or reason). Exit code: 0, 1 (failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --model base.safetensors --data data:test\n"
    "  " TOOL_NAME " --model digits.safetensors --data cells.csv --out report\n"
    "  " TOOL_NAME " --predictions coders.csv --positive protest\n";

typedef struct settings {
  const char *model, *data, *predictions, *out, *positive;
  int worst, batch, skip_bad, flat, resize; /* resize: index of resizes */
} settings;

static const char *const resizes[] = {"refuse", "squash", NULL};

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.worst = 48, .batch = 64};
  const tool_option options[] = {
      file_option("model", &set.model),
      text_option("data", &set.data),
      file_option("predictions", &set.predictions),
      text_option("out", &set.out),
      text_option("positive", &set.positive),
      integer_option("worst", &set.worst, 1, 400),
      integer_option("batch", &set.batch, 1, 100000),
      flag_option("skip-bad", &set.skip_bad),
      flag_option("flat", &set.flat),
      choice_option("resize", &set.resize, resizes),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  refuse_files(argc, argv);
  if (set.predictions && (set.model || set.data))
    misuse("--predictions takes the place of --model and --data");
  if (!set.predictions && !set.model) misuse("--model or --predictions is missing");
  if (!set.predictions && !set.data) misuse("--data is missing");
  return set;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* To be called when it is known what is read. Predictions are not written when they are given. */
static void prepare_output(const settings *set) {
  static const char *const outputs[] = {"predictions.csv", "mistakes.png", "classes.csv",
                                        "confusion.csv", NULL};
  if (set->out) lock_folder(set->out, set->predictions ? outputs + 2 : outputs);
}

/* A model's results on data, with the files that need its probabilities. */
static results evaluate_model(const settings *set) {
  cn_error error;
  cn_network *net = cn_load(set->model, &error);
  if (!net) fail("%s", error.message);
  if (cn_network_node(net, cn_network_node_count(net) - 1)->op != CN_OP_SOFTMAX)
    fail("%s: the network does not end in softmax", set->model);
  preprocess pre = preprocess_load(net, set->model);
  class_list names = classes_load(net, set->model);
  dataset data = dataset_open(set->data, set->flat, NULL);
  prepare_output(set);
  dataset_map(&data, &names, set->model);
  dataset_prepare(&data, &pre, set->resize, set->skip_bad);
  output table = {0};
  if (set->out) {
    char *path = join_path(set->out, "predictions.csv");
    table = output_open(path);
    write_prediction_header(table.file, &data, &names);
    free(path);
  }
  results r = predict_all(net, &data, &pre, names, set->batch, table.file);
  if (set->out) {
    output_close(&table);
    write_mistakes(set->out, &data, &r, set->worst);
  }
  r.left = data.left;
  data.left = (left_out){0};
  dataset_free(&data);
  cn_network_free(net);
  return r;
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  if (set.predictions) prepare_output(&set);
  results r = set.predictions ? read_predictions(set.predictions) : evaluate_model(&set);
  figures f = measure(&r);
  const class_figures *positive = positive_figures(set.positive, &r, &f);
  if (set.out) {
    write_classes(set.out, &r, &f);
    write_confusion(set.out, &r, &f);
  }
  print_tables(&r, &f);
  if (positive)
    printf("%s against the rest: precision %.4f, recall %.4f, F1 %.4f\n\n", set.positive,
           positive->precision, positive->recall, positive->f1);
  print_result(&r, &f, positive);
  figures_free(&f);
  results_free(&r);
  return tool_end();
}
