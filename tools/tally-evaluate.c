/* tally-evaluate.c - how well a model reads labelled pictures, or how well given predictions agree
   with the truth: accuracy, precision, recall and F1 per class, confusion matrix, worst mistakes; and
   whether a model is right as often as it says.

   Build:  make bin/tally-evaluate     (tool.h says how by hand)
   Use:    bin/tally-evaluate --model base.safetensors --data data:test --out report

   Its rooms are in evaluate/: results.h (truth and prediction), metrics.h, tables.h, calibration.h,
   mistakes.h (the picture of the worst). Here are options and the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-evaluate"
#define TOOL_USAGE "(--model M --data D | --predictions F.csv) [--out DIR] [options]"
#include "tool.h"

#include "dataset.h"
#include "evaluate/calibration.h"
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
    "                       mistakes.png (the worst mistakes with truth and prediction), reliability.csv\n"
    "                       and reliability.svg\n"
    "  --fit-temperature M2 fits the temperature that the model's probabilities want (see below) and\n"
    "                       writes the model with it as its note to M2; D must hold pictures that it has\n"
    "                       not learnt from: of other writers or tallies\n"
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
    "classes that occur as truth or prediction. Reliability says whether a model is right as often as\n"
    "its probabilities say; where M has a temperature T, with them as the network gives them and as\n"
    "tally-read takes them, to the power of 1 / T. The expected calibration error is the mean\n"
    "difference, over 15 bins of equally many pictures (Guo et al. 2017).\n"
    "The last line on stdout is JSON: n, accuracy, macro_precision, macro_recall, macro_f1; with a model\n"
    "also calibration_error, and where there is a temperature, that and tempered_error; with --positive\n"
    "precision, recall, f1; left_out (files not evaluated, by ending or reason). Exit code: 0, 1\n"
    "(failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --model base.safetensors --data data:test\n"
    "  " TOOL_NAME " --model digits.safetensors --data cells.csv --out report\n"
    "  " TOOL_NAME
    " --model digits.safetensors --data others.csv --fit-temperature fitted.safetensors\n"
    "  " TOOL_NAME " --predictions coders.csv --positive protest\n";

typedef struct settings {
  const char *model, *data, *predictions, *out, *positive, *fitted;
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
      text_option("fit-temperature", &set.fitted),
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
  if (set.predictions && set.fitted) misuse("--fit-temperature needs a model");
  if (!set.predictions && !set.model) misuse("--model or --predictions is missing");
  if (!set.predictions && !set.data) misuse("--data is missing");
  return set;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* To be called when it is known what is read. Predictions are not written when they are given. */
static void prepare_output(const settings *set) {
  static const char *const outputs[] = {"predictions.csv",
                                        "mistakes.png",
                                        "reliability.csv",
                                        "reliability.svg",
                                        "classes.csv",
                                        "confusion.csv",
                                        NULL};
  if (set->out) lock_folder(set->out, set->predictions ? outputs + 4 : outputs);
  if (set->fitted) output_check(set->fitted);
}

/* The temperature in a model's notes, 0 if there is none. */
static double noted_temperature(const cn_network *net, const char *name) {
  const char *note = cn_network_note(net, "temperature");
  float value = 0;
  if (note && (!parse_reals(note, &value, 1) || !(value > 0)))
    fail("%s: note temperature: \"%s\" is not a number above 0", name, note);
  return (double)value;
}

/* Writes the model with a temperature. */
static void save_fitted(const char *path, cn_network *net, double temperature) {
  cn_error error;
  char note[32];
  snprintf(note, sizeof note, "%.4f", temperature);
  set_note(net, "temperature", note);
  size_t size = cn_save_memory(net, NULL, 0, &error);
  char *bytes = allocate(size, 1);
  if (!cn_save_memory(net, bytes, size, &error)) fail("%s", error.message);
  write_file(path, bytes, size);
  free(bytes);
}

/* How reliable a model is without and with its temperature. */
typedef struct calibration {
  int known; /* 0: predictions were given; 1: no temperature; 2: both */
  reliability before, after;
} calibration;

static calibration calibrate(const settings *set, cn_network *net, const results *r) {
  calibration out = {.known = 1, .before = measure_reliability(r, 1)};
  double temperature = noted_temperature(net, set->model);
  if (set->fitted) save_fitted(set->fitted, net, temperature = fit_temperature(r));
  if (temperature > 0) {
    out.known = 2;
    out.after = measure_reliability(r, temperature);
  }
  const reliability *after = out.known == 2 ? &out.after : NULL;
  if (set->out) {
    write_reliability_table(set->out, &out.before, after);
    write_reliability_diagram(set->out, &out.before, after);
  }
  return out;
}

/* A model's results on data, with the files that need its probabilities. */
static results evaluate_model(const settings *set, calibration *sureness) {
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
  *sureness = calibrate(set, net, &r);
  r.left = data.left;
  data.left = (left_out){0};
  dataset_free(&data);
  cn_network_free(net);
  return r;
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  calibration sureness = {0};
  if (set.predictions) prepare_output(&set);
  results r = set.predictions ? read_predictions(set.predictions) : evaluate_model(&set, &sureness);
  figures f = measure(&r);
  const class_figures *positive = positive_figures(set.positive, &r, &f);
  if (set.out) {
    write_classes(set.out, &r, &f);
    write_confusion(set.out, &r, &f);
  }
  print_tables(&r, &f);
  if (sureness.known)
    print_reliability(&sureness.before, sureness.known == 2 ? &sureness.after : NULL);
  if (positive)
    printf("%s against the rest: precision %.4f, recall %.4f, F1 %.4f\n\n", set.positive,
           positive->precision, positive->recall, positive->f1);
  text_buffer json = {0};
  json_figures(&json, &f, positive);
  if (sureness.known) json_real(&json, "calibration_error", sureness.before.error);
  if (sureness.known == 2) {
    json_real(&json, "temperature", sureness.after.temperature);
    json_real(&json, "tempered_error", sureness.after.error);
  }
  left_out_json(&json, &r.left);
  json_print(&json);
  figures_free(&f);
  results_free(&r);
  return tool_end();
}
