/* tally-predict.c - labels pictures with a model: one row of a CSV file each, with the probability of
   every class.

   Build:  make bin/tally-predict     (tool.h says how by hand)
   Use:    bin/tally-predict --model protest.safetensors --out labels.csv photos/ */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-predict"
#define TOOL_USAGE "--model M --out F.csv [options] PICTURE|FOLDER|LIST.csv..."
#include "tool.h"

#include "classes.h"
#include "csv.h"
#include "csv_write.h"
#include "left_out.h"
#include "gather.h"
#include "output.h"
#include "preprocess.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Labels pictures with a model.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "Pictures are named as files, as folders (with everything below them) or in CSV files with a column\n"
    "path.\n"
    "  --model M            a model of tally-train (safetensors); it knows how its pictures are prepared\n"
    "  --out F.csv          one row per picture: path, label (the likeliest class), probability (of\n"
    "                       that), p_CLASS for every class, reason. A picture that cannot be read\n"
    "                       has a row too, with the reason and nothing else\n"
    "  --flat               leaves out what lies in folders of the folders named\n"
    "  --batch N            pictures at a time (default 64)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "A file that is no picture, or a second name of one, is left out and said. The last line on stdout\n"
    "is JSON: pictures, predicted, failed, left_out (by ending or reason), seconds. Exit code: 0, also\n"
    "when some pictures could not be read; 1 (failed, or none could be read); 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --model protest.safetensors --out labels.csv photos/\n"
    "  " TOOL_NAME " --model digits.safetensors --out digits.csv cells/0001.png cells/0002.png\n"
    "  " TOOL_NAME " --model protest.safetensors --out labels.csv new.csv && sort -t, -k3 labels.csv\n";

typedef struct settings {
  const char *model, *out;
  int batch, flat;
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.batch = 64};
  const tool_option options[] = {
      file_option("model", &set.model),
      text_option("out", &set.out),
      integer_option("batch", &set.batch, 1, 100000),
      flag_option("flat", &set.flat),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.model) misuse("--model is missing");
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- the model and its rows ------------------------------------------------------------------ */

typedef struct model {
  cn_network *net;
  preprocess pre;
  class_list classes;
  cn_predictor *predictor;
} model;

static model model_open(const settings *set) {
  model m;
  cn_error error;
  cn_predict_options with = {0};
  with.threads = use_threads(0);
  m.net = cn_load(set->model, &error);
  if (!m.net) fail("%s", error.message);
  if (cn_network_node(m.net, cn_network_node_count(m.net) - 1)->op != CN_OP_SOFTMAX)
    fail("%s: the network does not end in softmax", set->model);
  m.pre = preprocess_load(m.net, set->model);
  m.classes = classes_load(m.net, set->model);
  m.predictor = cn_predictor_create(m.net, set->batch, &with, &error);
  if (!m.predictor) fail("%s", error.message);
  return m;
}

static void model_close(model *m) {
  cn_predictor_free(m->predictor);
  cn_network_free(m->net);
  classes_free(&m->classes);
}

static void write_header(FILE *file, const class_list *classes) {
  fputs("path,label,probability", file);
  for (int k = 0; k < classes->count; k++) {
    text_buffer column = {0};
    text_add(&column, "p_%s", classes->names[k]);
    putc(',', file);
    csv_write(file, column.data);
    free(column.data);
  }
  fputs(",reason\n", file);
}

/* One picture's row; p are its probabilities, reason why there are none, or NULL. */
static void write_row(FILE *file, const class_list *classes, const char *path, const float *p,
                      const char *reason) {
  int best = 0;
  csv_write(file, path);
  for (int k = 1; k < classes->count; k++) best = p[k] > p[best] ? k : best;
  putc(',', file);
  if (!reason) csv_write(file, classes->names[best]);
  putc(',', file);
  if (!reason) fprintf(file, "%.6g", (double)p[best]);
  for (int k = 0; k < classes->count; k++) {
    putc(',', file);
    if (!reason) fprintf(file, "%.6g", (double)p[k]);
  }
  putc(',', file);
  if (reason) csv_write(file, reason);
  putc('\n', file);
}

/* ---- the run --------------------------------------------------------------------------------- */

typedef struct input_reading {
  const listing *list;
  int first;
  const preprocess *pre;
  float *inputs;
  uint8_t *bytes; /* a picture for each thread */
  char **reasons;
} input_reading;

static void read_input(void *context, int i, int thread) {
  const input_reading *r = context;
  size_t size = preprocess_size(r->pre);
  uint8_t *bytes = r->bytes + (size_t)thread * size;
  const char *reason = picture_fit(r->list->paths[r->first + i], r->pre, bytes);
  r->reasons[i] = reason ? copy_text(reason) : NULL;
  if (reason) memset(bytes, 0, size);
  preprocess_bytes(r->pre, bytes, r->inputs + (size_t)i * size);
}

/* Reads pictures [first, first + count) as inputs; the reasons, where there are any, are the
   caller's to free. What cannot be read is predicted as black and not written. */
static void read_inputs(const listing *list, int first, int count, const preprocess *pre,
                        float *inputs, char **reasons) {
  input_reading r = {list, first, pre, inputs, NULL, reasons};
  r.bytes = allocate((size_t)use_threads(0), preprocess_size(pre));
  share_work(count, read_input, &r);
  free(r.bytes);
}

/* Why a row of outputs cannot be used, or NULL. */
static const char *check_outputs(const float *p, int count) {
  for (int k = 0; k < count; k++)
    if (!isfinite(p[k])) return "the network's output is not a finite number";
  return NULL;
}

/* Labels all pictures, a batch at a time. Returns how many failed. */
static int predict_all(const settings *set, const model *m, listing *list, FILE *file) {
  size_t outputs = (size_t)m->classes.count, batch = (size_t)set->batch;
  float *inputs = allocate(batch * preprocess_size(&m->pre), sizeof(float));
  float *p = allocate(batch * outputs, sizeof(float));
  char **reasons = allocate(batch, sizeof(char *));
  progress bar = progress_start();
  double started = seconds_now();
  int failed = 0;
  for (int first = 0; first < list->count; first += set->batch) {
    int count = list->count - first < set->batch ? list->count - first : set->batch;
    read_inputs(list, first, count, &m->pre, inputs, reasons);
    cn_predict(m->predictor, inputs, count, p);
    for (int i = 0; i < count; i++) {
      const float *row = p + (size_t)i * outputs;
      const char *reason = reasons[i] ? reasons[i] : check_outputs(row, m->classes.count);
      write_row(file, &m->classes, list->paths[first + i], row, reason);
      if (reason) left_out_add_unreadable(&list->left, list->paths[first + i], reason);
      failed += reason != NULL;
      free(reasons[i]);
    }
    char figures[96];
    snprintf(figures, sizeof figures, "%d of %d  %.0f images/s", first + count, list->count,
             (first + count) / fmax(seconds_now() - started, 1e-9));
    progress_draw(&bar, "labelling", (double)(first + count) / list->count, figures);
  }
  progress_wipe();
  free(inputs);
  free(p);
  free(reasons);
  return failed;
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  double started = seconds_now();
  model m = model_open(&set);
  listing list = listing_open(argv + optind, argc - optind, set.flat, NULL);
  output out = output_open(set.out);
  write_header(out.file, &m.classes);
  int failed = predict_all(&set, &m, &list, out.file);
  output_close(&out);
  text_buffer json = {0};
  json_integer(&json, "pictures", list.count);
  json_integer(&json, "predicted", list.count - failed);
  json_integer(&json, "failed", failed);
  left_out_json(&json, &list.left);
  json_real(&json, "seconds", seconds_now() - started);
  json_print(&json);
  int predicted = list.count - failed;
  listing_free(&list);
  model_close(&m);
  return end_after_pictures(predicted);
}
