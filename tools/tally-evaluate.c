/* tally-evaluate.c - how well a model reads labelled pictures, or how well given predictions agree
   with the truth: accuracy, precision, recall and F1 per class, confusion matrix, worst mistakes.

   Build:  make bin/tally-evaluate     (tool.h says how by hand)
   Use:    bin/tally-evaluate --model base.safetensors --data data:test --out report

   The order of this file: options, results and where they come from, figures, tables, the picture
   of the worst mistakes, the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-evaluate"
#define TOOL_USAGE "(--model M --data D | --predictions F.csv) [--out DIR] [options]"
#include "common.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Measures how well a model reads labelled pictures, or how well predictions agree with the "
    "truth.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --model M            a model of tally-train (safetensors); it knows how its pictures are "
    "prepared\n"
    "  --data D             FOLDER:train or FOLDER:test for MNIST's IDX files, a folder with one\n"
    "                       subfolder of pictures per class, or a CSV file with columns "
    "path,label\n"
    "  --predictions F.csv  columns truth,prediction (others are ignored) in the place of a model\n"
    "  --out DIR            writes into DIR: confusion.csv and classes.csv (figures per class); "
    "with a\n"
    "                       model also predictions.csv (every picture with all probabilities) and\n"
    "                       mistakes.png (the worst mistakes with truth and prediction)\n"
    "  --positive CLASS     reports precision, recall and F1 of this class on their own too: of "
    "\"protest\"\n"
    "                       against everything else\n"
    "  --worst N            mistakes in that picture (default 48)\n"
    "  --batch N            pictures at a time (default 64)\n"
    "  --flat               leaves out what lies in folders of class folders\n"
    "  --skip-bad           leaves out pictures that cannot be read (default: stops)\n"
    "  --resize squash      takes IDX pictures of another size too, resized as the model says "
    "(others\n"
    "                       always are)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "For each class: precision = right / predicted, recall = right / truly there, F1 their "
    "harmonic\n"
    "mean; 0 where nothing was predicted or is there. Macro figures are their plain means over "
    "the\n"
    "classes that occur as truth or prediction. The last line on stdout is JSON: n, accuracy,\n"
    "macro_precision, macro_recall, macro_f1; with --positive also precision, recall, f1; left_out "
    "(files\n"
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

/* ---- results and where they come from -------------------------------------------------------- */

/* Truth and prediction of each sample, as indices into the classes. */
typedef struct results {
  class_list set;
  int count;
  int *truth, *prediction;
  float *probability, *truth_probability; /* of prediction and truth; NULL without a model */
  left_out left;                          /* files of the data that were not evaluated */
} results;

static void results_free(results *r) {
  classes_free(&r->set);
  free(r->truth);
  free(r->prediction);
  free(r->probability);
  free(r->truth_probability);
  left_out_free(&r->left);
}

static int is_number(const char *name) {
  size_t length = strlen(name);
  return length && length < 10 && strspn(name, "0123456789") == length;
}

static int compare_numbers(const void *a, const void *b) {
  int x = atoi(*(char *const *)a), y = atoi(*(char *const *)b);
  return x == y ? compare_names(a, b) : x < y ? -1 : 1;
}

/* The different names among `count`, sorted; as numbers if all are. */
static class_list distinct_names(char **names, int count) {
  class_list set = {0};
  char **sorted = allocate((size_t)count, sizeof(char *));
  int numbers = 1;
  for (int i = 0; i < count; i++) {
    sorted[i] = names[i];
    numbers = numbers && is_number(names[i]);
  }
  qsort(sorted, (size_t)count, sizeof(char *), numbers ? compare_numbers : compare_names);
  for (int i = 0; i < count; i++)
    if (i == 0 || strcmp(sorted[i], sorted[i - 1])) classes_add(&set, sorted[i]);
  free(sorted);
  return set;
}

/* Truth and prediction from a file. */
static results read_predictions(const char *path) {
  results r = {0};
  csv table = csv_open(path);
  int columns[2] = {csv_column(&table, "truth"), csv_column(&table, "prediction")}, capacity = 0;
  char **names = NULL;
  while (csv_row(&table)) {
    if (r.count == INT_MAX / 4) fail("%s: line %d: too many rows", path, table.line);
    if (r.count == capacity) {
      capacity = capacity * 2 + 256;
      names = reallocate(names, (size_t)capacity * 2, sizeof(char *));
    }
    for (int k = 0; k < 2; k++) {
      const char *name = table.fields[columns[k]];
      if (!*name)
        fail("%s: line %d: the %s is empty", path, table.line, k ? "prediction" : "truth");
      names[2 * r.count + k] = copy_text(name);
    }
    r.count++;
  }
  if (!r.count) fail("%s: there are no rows behind the header", path);
  r.set = distinct_names(names, 2 * r.count);
  r.truth = allocate((size_t)r.count, sizeof(int));
  r.prediction = allocate((size_t)r.count, sizeof(int));
  for (int i = 0; i < r.count; i++) {
    r.truth[i] = classes_find(&r.set, names[2 * i]);
    r.prediction[i] = classes_find(&r.set, names[2 * i + 1]);
    free(names[2 * i]);
    free(names[2 * i + 1]);
  }
  free(names);
  csv_close(&table);
  return r;
}

static void write_prediction_header(FILE *file, const dataset *data, const class_list *set) {
  fprintf(file, "%s,truth,prediction,probability", data->paths ? "path" : "index");
  for (int k = 0; k < set->count; k++) {
    text_buffer column = {0};
    text_add(&column, "p_%s", set->names[k]);
    putc(',', file);
    csv_write(file, column.data);
    free(column.data);
  }
  putc('\n', file);
}

static void write_prediction(FILE *file, const dataset *data, const results *r, int i,
                             const float *p) {
  char number[16];
  csv_write(file, dataset_sample(data, i, number));
  putc(',', file);
  csv_write(file, r->set.names[r->truth[i]]);
  putc(',', file);
  csv_write(file, r->set.names[r->prediction[i]]);
  fprintf(file, ",%.6g", (double)r->probability[i]);
  for (int k = 0; k < r->set.count; k++) fprintf(file, ",%.6g", (double)p[k]);
  putc('\n', file);
}

/* Takes one sample's probabilities. */
static void note_result(results *r, const dataset *data, int i, const float *p) {
  int best = 0;
  char number[16];
  for (int k = 0; k < r->set.count; k++) {
    if (!isfinite(p[k]))
      fail("%s: sample %s: the network's output is not a finite number", data->name,
           dataset_sample(data, i, number));
    if (p[k] > p[best]) best = k;
  }
  r->truth[i] = data->labels[i];
  r->prediction[i] = best;
  r->probability[i] = p[best];
  r->truth_probability[i] = p[r->truth[i]];
}

/* Runs the model over the data, a batch at a time; writes a row per sample if table is not NULL. */
static results predict_all(cn_network *net, const dataset *data, const preprocess *pre,
                           class_list set, const settings *options, FILE *table) {
  cn_error error;
  cn_predict_options with = {0};
  with.threads = use_threads(0);
  cn_predictor *predictor = cn_predictor_create(net, options->batch, &with, &error);
  if (!predictor) fail("%s", error.message);
  size_t count = (size_t)data->count, batch = (size_t)options->batch;
  results r = {0};
  r.set = set;
  r.count = data->count;
  r.truth = allocate(count, sizeof(int));
  r.prediction = allocate(count, sizeof(int));
  r.probability = allocate(count, sizeof(float));
  r.truth_probability = allocate(count, sizeof(float));
  float *inputs = allocate(batch * preprocess_size(pre), sizeof(float));
  float *outputs = allocate(batch * (size_t)set.count, sizeof(float));
  double started = seconds_now();
  progress bar = progress_start();
  for (int first = 0; first < r.count; first += options->batch) {
    int now = r.count - first < options->batch ? r.count - first : options->batch;
    dataset_inputs(data, NULL, first, now, pre, inputs);
    cn_predict(predictor, inputs, now, outputs);
    for (int i = 0; i < now; i++) {
      const float *p = outputs + (size_t)i * (size_t)set.count;
      note_result(&r, data, first + i, p);
      if (table) write_prediction(table, data, &r, first + i, p);
    }
    char figures[96];
    snprintf(figures, sizeof figures, "%d of %d  %.0f images/s", first + now, r.count,
             (first + now) / fmax(seconds_now() - started, 1e-9));
    progress_draw(&bar, "reading", (double)(first + now) / r.count, figures);
  }
  progress_wipe();
  free(inputs);
  free(outputs);
  cn_predictor_free(predictor);
  return r;
}

/* ---- figures --------------------------------------------------------------------------------- */

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

static double share(int part, int whole) {
  return whole ? (double)part / whole : 0;
}

static figures measure(const results *r) {
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

static void figures_free(figures *f) {
  free(f->confusion);
  free(f->classes);
}

/* ---- tables ---------------------------------------------------------------------------------- */

#define PRINTED_CLASSES 30 /* a wider confusion matrix is for a file, not for a terminal */
#define PRINTED_NAME 20    /* characters of a class name */

/* Characters of a UTF-8 text. */
static int text_width(const char *name) {
  int width = 0;
  for (; *name; name++) width += (*name & 0xC0) != 0x80;
  return width;
}

/* A name in a column of `width` characters, cut if need be, to the left or the right. */
static void print_name(const char *name, int width, int right) {
  int length = text_width(name), shown = length < width ? length : width;
  if (right) printf("%*s", width - shown, "");
  for (int i = 0; *name; name++) {
    i += (*name & 0xC0) != 0x80;
    if (i > shown) break;
    putchar((unsigned char)*name < 32 ? '?' : *name);
  }
  if (!right) printf("%*s", width - shown, "");
}

static int name_column(const class_list *set, int least) {
  int width = least;
  for (int k = 0; k < set->count; k++) {
    int length = text_width(set->names[k]);
    width = length > width ? length : width;
  }
  return width < PRINTED_NAME ? width : PRINTED_NAME;
}

static void print_classes(const class_list *set, const figures *f) {
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

static void print_confusion(const class_list *set, const figures *f) {
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
static void print_frequent(const class_list *set, const figures *f) {
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

static void print_tables(const results *r, const figures *f) {
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
static void print_result(const results *r, const figures *f, const class_figures *positive) {
  text_buffer json = {0};
  json_integer(&json, "n", f->count);
  json_real(&json, "accuracy", f->accuracy);
  json_real(&json, "macro_precision", f->precision);
  json_real(&json, "macro_recall", f->recall);
  json_real(&json, "macro_f1", f->f1);
  if (positive) {
    json_real(&json, "precision", positive->precision);
    json_real(&json, "recall", positive->recall);
    json_real(&json, "f1", positive->f1);
  }
  left_out_json(&json, &r->left);
  json_print(&json);
}

static void write_confusion(const char *folder, const results *r, const figures *f) {
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

static void write_classes(const char *folder, const results *r, const figures *f) {
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

/* ---- the picture of the worst mistakes ------------------------------------------------------- */

/* Letters of 5 x 8 dots for codes 32 to 126: 40 bits a letter, row after row from the top, leftmost
   dot first; the last row is below the line. */
static const uint64_t letters[95] = {
    0x0000000000, 0x2108420080, 0x5280000000, 0x52beafa940, 0x23e8e2f880, 0xc644444c60,
    0x64a88ac9a0, 0x2100000000, 0x1110841040, 0x4104211100, 0x012aea9000, 0x0109f21000,
    0x0000001888, 0x0001f00000, 0x0000003180, 0x0844444200, 0x746318c5c0, 0x23084211c0,
    0x74422223e0, 0xf88820c5c0, 0x11952f8840, 0xfc3c10c5c0, 0x3221e8c5c0, 0xf844421080,
    0x7462e8c5c0, 0x7462f08980, 0x0318063000, 0x0318061100, 0x1111041040, 0x003e0f8000,
    0x4104111100, 0x7442220080, 0x746f5bc1c0, 0x7463f8c620, 0xf463e8c7c0, 0x74610845c0,
    0xf46318c7c0, 0xfc21e843e0, 0xfc21e84200, 0x746178c5e0, 0x8c63f8c620, 0x71084211c0,
    0x3884214980, 0x8ca98a4a20, 0x84210843e0, 0x8eeb58c620, 0x8e7359ce20, 0x746318c5c0,
    0xf463e84200, 0x74631ac9a0, 0xf463ea4a20, 0x7c20e087c0, 0xf908421080, 0x8c6318c5c0,
    0x8c63152880, 0x8c635aee20, 0x8c54454620, 0x8c54421080, 0xf8444443e0, 0x72108421c0,
    0x8410410420, 0x70842109c0, 0x22a2000000, 0x000000001f, 0x4100000000, 0x001c17c5e0,
    0x843d18c7c0, 0x001d0845c0, 0x085f18c5e0, 0x001d1fc1c0, 0x323c842100, 0x001f18bc2e,
    0x843d18c620, 0x20184211c0, 0x100c21084c, 0x84254e4a20, 0x61084211c0, 0x00355ad6a0,
    0x003d18c620, 0x001d18c5c0, 0x003d18fa10, 0x001f18bc21, 0x002d884200, 0x001f0707c0,
    0x423c8420c0, 0x002318cda0, 0x002318a880, 0x00235ad540, 0x0022a22a20, 0x002318bc2e,
    0x003e2223e0, 0x1908821060, 0x2108421080, 0xc108221300, 0x0011510000,
};

typedef struct colour {
  uint8_t red, green, blue;
} colour;
static const colour ink = {40, 40, 40}, faint = {125, 125, 125}, frame = {205, 205, 205};
static const colour truth_colour = {16, 112, 48}, mistake_colour = {196, 32, 32};

/* A white sheet. */
static picture sheet_create(int height, int width) {
  picture sheet = {NULL, height, width, 3};
  size_t size = (size_t)height * (size_t)width * 3;
  sheet.pixels = allocate(size, 1);
  memset(sheet.pixels, 255, size);
  return sheet;
}

/* What lies outside is not drawn. */
static void draw_box(picture *on, int top, int left, int height, int width, colour c) {
  for (int y = top < 0 ? 0 : top; y < top + height && y < on->height; y++)
    for (int x = left < 0 ? 0 : left; x < left + width && x < on->width; x++)
      memcpy(on->pixels + ((size_t)y * (size_t)on->width + (size_t)x) * 3, &c, 3);
}

#define LETTER_PITCH 6 /* dots from one letter to the next */

static void draw_text(picture *on, int top, int left, int scale, const char *words, colour c) {
  for (; *words; words++, left += LETTER_PITCH * scale) {
    uint64_t dots = letters[*words >= 32 && *words < 127 ? *words - 32 : '?' - 32];
    for (int i = 0; i < 40; i++)
      if (dots >> (39 - i) & 1)
        draw_box(on, top + i / 5 * scale, left + i % 5 * scale, scale, scale, c);
  }
}

/* A text as at most `room` letters that can be drawn. A longer one loses its end or, if that is
   what matters (a path), its beginning. Each character beyond ASCII becomes a question mark. */
static void shorten(const char *words, int room, int keep_end, char *to) {
  int length = text_width(words), skip = keep_end && length > room ? length - room : 0;
  int at = 0, place = 0;
  for (; *words; words++) {
    if ((*words & 0xC0) == 0x80 || place++ < skip) continue;
    if (at < room) to[at++] = *words >= 32 && *words < 127 ? *words : '?';
  }
  to[at] = 0;
  if (length > room) memcpy(skip ? to : to + room - 2, "..", 2);
}

/* The sheet: a title, then tiles of one picture with three lines below it. */
#define TILE_PICTURE 140
#define TILE_TEXT 54
#define TILE_WIDTH 156
#define TILE_GAP 18
#define TILE_COLUMNS 8
#define TITLE_HEIGHT 36

/* Draws a picture as large as fits a square: whole multiples for small ones, so that their pixels
   can be seen, smooth shrinking for large ones. */
static void draw_picture(picture *on, int top, int left, const picture *from) {
  int larger = from->height > from->width ? from->height : from->width;
  int height = from->height, width = from->width, factor = TILE_PICTURE / larger;
  if (factor < 1) {
    height = height * TILE_PICTURE / larger > 0 ? height * TILE_PICTURE / larger : 1;
    width = width * TILE_PICTURE / larger > 0 ? width * TILE_PICTURE / larger : 1;
    factor = 1;
  }
  uint8_t *fitted = allocate((size_t)height * (size_t)width, 3);
  resize_squash(from->pixels, from->height, from->width, fitted, height, width, 3);
  top += (TILE_PICTURE - height * factor) / 2;
  left += (TILE_PICTURE - width * factor) / 2;
  draw_box(on, top - 1, left - 1, height * factor + 2, width * factor + 2, frame);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const uint8_t *rgb = fitted + ((size_t)y * (size_t)width + (size_t)x) * 3;
      draw_box(on, top + y * factor, left + x * factor, factor, factor,
               (colour){rgb[0], rgb[1], rgb[2]});
    }
  free(fitted);
}

/* The picture as its owner knows it: the file in full, or the bytes of an IDX file. */
static picture original_picture(const dataset *data, int index) {
  picture out = {NULL, data->height, data->width, 3};
  if (data->paths) {
    const char *reason = picture_read(data->paths[index], 3, &out);
    if (reason) fail("%s: %s (it could be read before)", data->paths[index], reason);
    return out;
  }
  size_t pixels = (size_t)data->height * (size_t)data->width;
  out.pixels = allocate(pixels, 3);
  convert_channels(data->pixels + (size_t)index * pixels * (size_t)data->channels, data->channels,
                   out.pixels, 3, pixels);
  return out;
}

/* "true NAME", in small letters if the name is long, and its probability at the right. */
static void draw_reading(picture *on, int top, int left, const char *word, const char *name,
                         float probability, colour c) {
  char shown[TILE_WIDTH], line[TILE_WIDTH + 32];
  int width = TILE_WIDTH - 6 * LETTER_PITCH, letters_before = (int)strlen(word) + 1;
  int scale = text_width(name) + letters_before <= width / (2 * LETTER_PITCH) ? 2 : 1;
  shorten(name, width / (scale * LETTER_PITCH) - letters_before, 0, shown);
  snprintf(line, sizeof line, "%s %s", word, shown);
  draw_text(on, top + (scale == 1 ? 5 : 0), left, scale, line, c);
  snprintf(line, sizeof line, "%.3f", (double)probability);
  draw_text(on, top + 5, left + TILE_WIDTH - 5 * LETTER_PITCH, 1, line, c);
}

static void draw_tile(picture *on, int top, int left, const dataset *data, const results *r,
                      int index) {
  char name[TILE_WIDTH], number[32];
  picture original = original_picture(data, index);
  draw_picture(on, top, left, &original);
  free(original.pixels);
  top += TILE_PICTURE + 8;
  draw_reading(on, top, left, "true", r->set.names[r->truth[index]], r->truth_probability[index],
               truth_colour);
  draw_reading(on, top + 19, left, "read", r->set.names[r->prediction[index]],
               r->probability[index], mistake_colour);
  snprintf(number, sizeof number, "number %d", index);
  shorten(data->paths ? data->paths[index] : number, TILE_WIDTH / LETTER_PITCH, 1, name);
  draw_text(on, top + 40, left, 1, name, faint);
}

typedef struct mistake {
  int index;
  float truth_probability; /* the loss is its negative logarithm */
} mistake;

static int compare_mistakes(const void *a, const void *b) {
  const mistake *x = a, *y = b;
  if (x->truth_probability != y->truth_probability)
    return x->truth_probability < y->truth_probability ? -1 : 1;
  return x->index < y->index ? -1 : 1;
}

static void write_png(const char *path, const picture *sheet) {
  text_buffer png = {0};
  if (!stbi_write_png_to_func(append_bytes, &png, sheet->width, sheet->height, 3, sheet->pixels, 0))
    fail("out of memory for %s", path);
  write_file(path, png.data, png.length);
  free(png.data);
}

/* The mistakes with the largest loss, the worst first. */
static void write_mistakes(const char *folder, const dataset *data, const results *r, int worst) {
  mistake *all = allocate((size_t)r->count, sizeof *all);
  int count = 0;
  for (int i = 0; i < r->count; i++)
    if (r->truth[i] != r->prediction[i]) all[count++] = (mistake){i, r->truth_probability[i]};
  qsort(all, (size_t)count, sizeof *all, compare_mistakes);
  int shown = count < worst ? count : worst;
  int rows = (shown + TILE_COLUMNS - 1) / TILE_COLUMNS;
  int columns = shown < TILE_COLUMNS ? (shown > 4 ? shown : 4) : TILE_COLUMNS;
  picture sheet =
      sheet_create(TITLE_HEIGHT + rows * (TILE_PICTURE + TILE_TEXT + TILE_GAP) + TILE_GAP,
                   columns * (TILE_WIDTH + TILE_GAP) + TILE_GAP);
  text_buffer title = {0};
  text_add(&title, "%d of %d read wrongly", count, r->count);
  if (shown < count) text_add(&title, "; the worst %d", shown);
  draw_text(&sheet, TILE_GAP, TILE_GAP, 2, title.data, ink);
  for (int i = 0; i < shown; i++)
    draw_tile(&sheet, TITLE_HEIGHT + i / columns * (TILE_PICTURE + TILE_TEXT + TILE_GAP) + TILE_GAP,
              TILE_GAP + i % columns * (TILE_WIDTH + TILE_GAP), data, r, all[i].index);
  char *path = join_path(folder, "mistakes.png");
  write_png(path, &sheet);
  free(path);
  free(title.data);
  free(sheet.pixels);
  free(all);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* A model's results on data, with the files that need its probabilities. */
static results evaluate_model(const settings *set) {
  cn_error error;
  cn_network *net = cn_load(set->model, &error);
  if (!net) fail("%s", error.message);
  if (cn_network_node(net, cn_network_node_count(net) - 1)->op != CN_OP_SOFTMAX)
    fail("%s: the network does not end in softmax", set->model);
  preprocess pre = preprocess_load(net, set->model);
  class_list names = classes_load(net, set->model);
  dataset data = dataset_open(set->data, set->flat);
  dataset_map(&data, &names, set->model);
  dataset_prepare(&data, &pre, set->resize, set->skip_bad);
  output table = {0};
  if (set->out) {
    char *path = join_path(set->out, "predictions.csv");
    table = output_open(path);
    write_prediction_header(table.file, &data, &names);
    free(path);
  }
  results r = predict_all(net, &data, &pre, names, set, table.file);
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
  if (set.out) lock_folder(set.out);
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
