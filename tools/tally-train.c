/* tally-train.c - trains or fine-tunes a convolutional network on labelled pictures, on the CPU.

   Build:  make bin/tally-train     (tool.h says how by hand)
   Use:    bin/tally-train --data data:train --val 0.1 --arch base --out base.safetensors

   The order of this file: options, the network and its classes, data and its split, one epoch, the
   state that survives a crash, the run. augment.h has the augmentation, loader.h the threads that
   make batches.

   Everything random is drawn from (seed, what it is for, epoch, sample), never from a running
   stream that threads share: the same seed gives the same bytes on any number of threads, and a run
   that was killed and resumed gives the bytes of one that was not. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-train"
#define TOOL_USAGE "--data D (--arch NAME|FILE | --init M) --out M.safetensors [options]"
#include "tool.h"

#include <float.h>

#include "dataset.h"
#include "output.h"
#include "preprocess.h"
#include "augment.h"
#include "loader.h"
#include "split.h"

/* ---- options --------------------------------------------------------------------------------- */

/* In parts: C99 promises strings of 4,095 characters. The first has a place for the networks' names. */
static const char help[] =
    "Trains or fine-tunes a convolutional network on labelled pictures, on the CPU.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "Data (D is FOLDER:train or FOLDER:test for MNIST's IDX files, a folder with one subfolder of\n"
    "pictures per class, or a CSV file with columns path,label):\n"
    "  --data D             pictures to learn from\n"
    "  --val D|FRACTION     pictures to check with after each epoch: another data set, or a share of\n"
    "                       --data (0.1), taken from each class by --seed. Pictures of the same pixels\n"
    "                       stay on one side\n"
    "  --group COLUMN       so do those with the same value in this column of the CSV file, such as a\n"
    "                       tally, a page or a writer\n"
    "  --flat               leaves out what lies in folders of class folders\n"
    "  --skip-bad           leaves out pictures that cannot be read (default: stops)\n"
    "  --resize HOW         how pictures of another size come to the network's: squash (default)\n"
    "                       stretches; crop covers it and cuts out the middle; crop:256 makes the\n"
    "                       shorter side 256 first; pad fits them into black. M keeps it for those who\n"
    "                       apply it. IDX pictures of another size are refused without it\n"
    "  --normalize HOW      none: values 0 to 1 (default; with --init: as in M); data: mean 0 and\n"
    "                       deviation 1 over --data; or MEAN/DEVIATION, for instance\n"
    "                       0.485,0.456,0.406/0.229,0.224,0.225\n"
    "  --cache MB           memory for decoded pictures (default 512); what does not fit is read again\n"
    "                       in each epoch, while the batch before trains. Does not change the result\n"
    "Network:\n"
    "  --arch NAME|FILE     a built-in network (%s) or a file with its text\n"
    "  --input RxCxN        rows, columns, channels of a built-in network's input, if not its own\n"
    "  --auxiliary          googlenet and inception_v3: learns with their auxiliary heads\n"
    "  --init M             starts from a model's weights; a last layer for other classes is replaced\n"
    "                       by one of weights of mean 0 and deviation 0.01\n"
    "  --freeze N|-N|PREFIX keeps the first N layers with weights, all but the last N, or those named\n"
    "                       PREFIX..., as they are; batch normalisation there keeps its figures\n"
    "  --out M.safetensors  the model: the best epoch by validation loss, without --val the last.\n"
    "                       M.safetensors.checkpoint beside it holds what --resume needs\n";
static const char help_learning[] =
    "Learning:\n"
    "  --epochs N           passes over the data (default 15)\n"
    "  --batch N            pictures per step (default 200); a last one alone joins the step before if\n"
    "                       batch normalisation would see it as its only value\n"
    "  --optimizer NAME     adam (default), adamw, sgd, adagrad\n"
    "  --lr RATE            learning rate (default 0.002)\n"
    "  --head-lr RATE       of the last layer, when it is to learn faster than those below it\n"
    "  --momentum M         of sgd (default 0.9); --nesterov for Nesterov's\n"
    "  --decay D            weight decay of adamw (default 0.01)\n"
    "  --l1 A, --l2 B       penalties A |w| and B w^2 / 2 on the weights\n"
    "  --clip NORM          scales gradients down to this norm\n"
    "  --schedule NAME      cosine (default): the rate falls to 0 at the last epoch; constant; step:\n"
    "                       times --gamma (default 0.1) every --step epochs (default 7)\n"
    "  --warmup EPOCHS      the rate rises from 0 over these first epochs (1.5 is allowed)\n"
    "  --class-weights balanced   rare classes count more, so that all weigh the same\n"
    "  --sampling balanced  an epoch draws as often from every class: pictures of rare ones repeatedly,\n"
    "                       each time augmented anew, and of frequent ones a part (default: all once)\n"
    "  --smooth SHARE       gives this share of the pictures any label (label smoothing): keeps a network\n"
    "                       from being too sure\n"
    "  --patience N         stops when the validation loss has not improved for N epochs\n";
static const char help_augmentation[] =
    "Augmentation (each picture anew in each epoch; all off by default):\n"
    "  --random-crop SHARE  cuts out a piece of SHARE to 1 of the area, sides 3:4 to 4:3, at a random\n"
    "                       place of the picture as its file has it, and resizes that (ImageNet: 0.08)\n"
    "  --rotate DEGREES     turns by up to this, either way\n"
    "  --zoom FRACTION      stretches height and width, each on its own, by up to 1 +- this\n"
    "  --shift PIXELS       moves by up to this, either way, in pixels of the network's input\n"
    "  --elastic PIXELS     bends like handwriting; root mean square of the displacement\n"
    "  --flip               mirrors half of the pictures left to right (not for digits)\n"
    "  --brightness B, --contrast C, --saturation S   scales each by a factor of 1 +- this\n"
    "  --hue H              turns colours by up to this share of the colour circle (0 to 0.5)\n"
    "Running:\n"
    "  --log F.csv          one row per epoch\n"
    "  --resume             goes on from the checkpoint; with none there, starts from the beginning\n"
    "  --seed N             of everything random (default 1)\n"
    "  --math HOW           of 3x3 convolutions: fast (default; Winograd F(4x4)), exact (F(2x2), which\n"
    "                       rounds no more than direct sums) or direct\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "The last line on stdout is JSON with the figures of the model in --out: epochs, best_epoch,\n"
    "train_loss, train_accuracy, val_loss, val_accuracy, val_copies (pictures of a data set to check\n"
    "with that are learnt from too), images_per_second, left_out, seconds. train_loss and train_accuracy\n"
    "are means over the epoch while the weights were changing, dropout and augmentation\n"
    "included. Exit code: 0, 1 (failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --data data:train --val 0.1 --arch base --out base.safetensors\n"
    "  " TOOL_NAME
    " --data cells.csv --val 0.2 --group tally --init base.safetensors --freeze 1 --rotate 15 \\\n"
    "      --zoom 0.2 --out digits.safetensors --log digits.csv --patience 5\n"
    "  " TOOL_NAME
    " --data photos/train --val photos/val --init resnet.safetensors --freeze -1 \\\n"
    "      --resize crop:256 --random-crop 0.08 --flip --normalize 0.485,0.456,0.406/0.229,0.224,0.225 \\\n"
    "      --optimizer sgd --lr 0.001 --schedule step --step 7 --batch 4 --out protest.safetensors\n"
    "  " TOOL_NAME
    " --data photos/train --val photos/val --init resnet.safetensors --lr 0.0002 \\\n"
    "      --head-lr 0.002 --sampling balanced --out protest.safetensors\n"
    "  " TOOL_NAME " --data data:train --arch base --epochs 30 --out base.safetensors --resume\n";

typedef struct settings {
  const char *data, *val, *group, *arch, *init, *freeze, *out, *log, *normalize, *resize;
  float val_fraction; /* > 0: val is a share of data */
  int epochs, batch, patience, cache_megabytes, flat;
  float warmup, step, head_rate; /* head_rate 0: as the rest */
  uint64_t seed;
  int balanced_weights, balanced_sampling, resume, skip_bad;
  int optimizer, math, schedule; /* indices of optimizers, maths, schedules */
  cn_arch_options built_in;      /* of a built-in network */
  augmentation augment;
  float smooth;
  cn_training_options training;
} settings;

static const char *const optimizers[] = {"adam", "adamw", "sgd", "adagrad", NULL};
static const cn_optimizer optimizer_values[] = {CN_ADAM, CN_ADAMW, CN_SGD, CN_ADAGRAD};
static const char *const maths[] = {"direct", "exact", "fast", NULL};
static const cn_math math_values[] = {CN_MATH_DIRECT, CN_MATH_EXACT, CN_MATH_FAST};
static const char *const schedules[] = {"constant", "step", "cosine", NULL};
static const cn_schedule schedule_values[] = {CN_SCHEDULE_CONSTANT, CN_SCHEDULE_STEP,
                                              CN_SCHEDULE_COSINE};
static const char *const balances[] = {"none", "balanced", NULL};

static void print_help(void) {
  text_buffer names = {0};
  for (int i = 0; cn_arch_name(i); i++) text_add(&names, "%s%s", i ? ", " : "", cn_arch_name(i));
  printf(help, names.data);
  fputs(help_learning, stdout);
  fputs(help_augmentation, stdout);
  free(names.data);
}

/* --val is a share if all of it is a number, else a data set. */
static void take_validation(const tool_option *option, const char *value) {
  settings *to = option->to;
  char *end;
  float share = strtof(value, &end);
  to->val = value;
  to->val_fraction = 0;
  if (end == value || *end) return;
  if (!(share > 0 && share < 1)) misuse("--val: a share must lie between 0 and 1, not %s", value);
  to->val_fraction = share;
}

/* ROWSxCOLUMNSxCHANNELS */
static void take_input(const tool_option *option, const char *value) {
  cn_arch_options *in = option->to;
  char behind;
  if (sscanf(value, "%5dx%5dx%5d%c", &in->height, &in->width, &in->channels, &behind) != 3 ||
      in->height < 1 || in->width < 1 || in->channels < 1)
    misuse("--input: %s is not rows x columns x channels, like 64x64x3", value);
}

static void take_defaults(settings *set) {
  set->epochs = 15;
  set->cache_megabytes = (int)(DATASET_CACHE_BYTES >> 20);
  set->batch = 200;
  set->step = 7;
  set->seed = 1;
  set->math = 2;     /* fast */
  set->schedule = 2; /* cosine */
  set->training = cn_training_defaults();
  set->training.learning_rate =
      0.002f; /* with the rate falling to 0, better than a constant 0.001 */
  set->training.momentum = 0.9f;
  set->training.decay = 0.01f;
}

static void check_options(const settings *set) {
  if (!set->data) misuse("--data is missing");
  if (!set->arch && !set->init) misuse("--arch or --init is missing");
  if (!set->out) misuse("--out is missing");
  if (set->patience && !set->val) misuse("--patience needs --val");
  if (set->group && !(set->val_fraction > 0))
    misuse("--group says what --val FRACTION keeps together; --val is %s",
           set->val ? "a data set" : "missing");
  if (set->head_rate > 0 && !(set->training.learning_rate > 0))
    misuse("--head-lr needs an --lr above 0; --freeze -1 keeps the other layers as they are");
}

static settings read_options(int argc, char **argv) {
  settings set = {0};
  cn_training_options *training = &set.training;
  augmentation *augment = &set.augment;
  const tool_option options[] = {
      text_option("data", &set.data),
      other_option("val", &set, 0, 1, take_validation),
      text_option("group", &set.group),
      flag_option("skip-bad", &set.skip_bad),
      flag_option("flat", &set.flat),
      text_option("resize", &set.resize),
      text_option("normalize", &set.normalize),
      integer_option("cache", &set.cache_megabytes, 0, 1000000),
      file_option("arch", &set.arch),
      other_option("input", &set.built_in, 0, 0, take_input),
      flag_option("auxiliary", &set.built_in.auxiliary),
      file_option("init", &set.init),
      text_option("freeze", &set.freeze),
      text_option("out", &set.out),
      integer_option("epochs", &set.epochs, 1, 1000000),
      integer_option("batch", &set.batch, 1, 1000000),
      choice_option("optimizer", &set.optimizer, optimizers),
      float_option("lr", &training->learning_rate, 0, 1e5),
      float_option("head-lr", &set.head_rate, 1e-12, 1e5),
      float_option("momentum", &training->momentum, 0, 1),
      flag_option("nesterov", &training->nesterov),
      float_option("decay", &training->decay, 0, 1e6),
      float_option("l1", &training->l1, 0, 1e6),
      float_option("l2", &training->l2, 0, 1e6),
      float_option("clip", &training->clip_norm, 0, 1e30),
      choice_option("schedule", &set.schedule, schedules),
      float_option("step", &set.step, 1e-3, 1e6),
      float_option("gamma", &training->gamma, 0, 1),
      float_option("warmup", &set.warmup, 0, 1e6),
      choice_option("class-weights", &set.balanced_weights, balances),
      choice_option("sampling", &set.balanced_sampling, balances),
      integer_option("patience", &set.patience, 1, 1000000),
      float_option("random-crop", &augment->crop, 0.001, 1),
      float_option("rotate", &augment->rotate, 0, 180),
      float_option("zoom", &augment->zoom, 0, 0.9),
      float_option("shift", &augment->shift, 0, 1e4),
      float_option("elastic", &augment->elastic, 0, 1e4),
      flag_option("flip", &augment->flip),
      float_option("brightness", &augment->brightness, 0, 100),
      float_option("contrast", &augment->contrast, 0, 100),
      float_option("saturation", &augment->saturation, 0, 100),
      float_option("hue", &augment->hue, 0, 0.5),
      float_option("smooth", &set.smooth, 0, 0.9),
      text_option("log", &set.log),
      flag_option("resume", &set.resume),
      seed_option(&set.seed),
      choice_option("math", &set.math, maths),
  };
  take_defaults(&set);
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  refuse_files(argc, argv);
  check_options(&set);
  training->optimizer = optimizer_values[set.optimizer];
  training->math = math_values[set.math];
  training->schedule = schedule_values[set.schedule];
  training->seed = set.seed;
  training->threads = use_threads(0);
  return set;
}

/* What each random stream is for; see mix_seed. */
enum { STREAM_WEIGHTS = 1, STREAM_SPLIT, STREAM_SHUFFLE, STREAM_AUGMENT, STREAM_HEAD };

/* ---- the network and its classes ------------------------------------------------------------- */

/* The last layer with weights before a softmax, whose outputs are the classes; -1: there is none. */
static int find_head(const cn_network *net, int softmax) {
  for (int index = softmax; index > 0;) {
    const cn_node *node = cn_network_node(net, index);
    if (node->op == CN_OP_DENSE || node->op == CN_OP_CONV) return index;
    if (node->input_count != 1) break;
    index = node->inputs[0];
  }
  return -1;
}

/* The head of the network's end. */
static int find_last_head(const cn_network *net, const char *name) {
  int last = cn_network_node_count(net) - 1;
  if (cn_network_node(net, last)->op != CN_OP_SOFTMAX)
    fail("%s: the network must end in softmax", name);
  int head = find_head(net, last);
  if (head < 0) fail("%s: no dense or conv line leads to the softmax", name);
  return head;
}

/* Where the number of outputs of a layer stands in the network's canonical text, in which line i is
   node i: the first number behind the word dense or conv. */
static const char *find_outputs(const cn_network *net, const char *all, int layer) {
  const char *line = all;
  const char *word = cn_network_node(net, layer)->op == CN_OP_DENSE ? "dense " : "conv ";
  for (int i = 0; i < layer && line; i++) line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL;
  const char *number = line ? strstr(line, word) : NULL;
  if (!number) fail("the network's text has no line for layer %d", layer);
  return number + strlen(word);
}

/* The network's text with another number of outputs of its head and of its auxiliary heads. */
static char *text_with_outputs(cn_network *net, int outputs) {
  const char *all = cn_network_text(net), *done = all;
  text_buffer changed = {0};
  if (!all) fail("out of memory");
  for (int i = 0; i < cn_network_node_count(net); i++) {
    int head = cn_network_node(net, i)->op == CN_OP_SOFTMAX ? find_head(net, i) : -1;
    if (head < 0) continue;
    const char *number = find_outputs(net, all, head);
    text_append(&changed, done, (size_t)(number - done));
    text_add(&changed, "%d", outputs);
    done = number + strspn(number, "0123456789");
  }
  text_add(&changed, "%s", done);
  return changed.data;
}

/* Parses a network's text; an error names the file (or the network), line and column. */
static cn_network *parse_network(const char *description, const char *name) {
  cn_error error = {CN_OK, 0, 0, ""};
  cn_network *net = cn_network_parse(description, &error);
  if (!net && error.line) fail("%s:%d:%d: %s", name, error.line, error.column, error.message);
  if (!net) fail("%s: %s", name, error.message);
  return net;
}

/* The text of a built-in network. */
static char *built_in_text(const settings *set) {
  cn_error error;
  size_t length = cn_arch_text(set->arch, &set->built_in, NULL, 0, &error);
  if (!length) misuse("--arch: %s", error.message);
  char *all = allocate(length + 1, 1);
  cn_arch_text(set->arch, &set->built_in, all, length + 1, NULL);
  return all;
}

/* The text that --arch names: built in, or a file. *own tells whether it is the user's. */
static char *architecture_text(const settings *set, int *own) {
  const char *arch = set->arch;
  *own = 1;
  for (int i = 0; cn_arch_name(i) && *own; i++) *own = strcmp(cn_arch_name(i), arch) != 0;
  if (!*own) return built_in_text(set);
  if (set->built_in.height || set->built_in.auxiliary)
    misuse("--input and --auxiliary are for built-in networks, not for %s", arch);
  if (!is_file(arch)) fail("--arch: there is no built-in network and no file called %s", arch);
  size_t size;
  char *contents = read_file(arch, &size);
  char *zero = memchr(contents, 0, size);
  if (zero) fail("%s: byte %zu is 0: not a network's text", arch, (size_t)(zero - contents));
  return contents;
}

/* The classes that the network is to tell apart, given its outputs and those it already knows
   (none: known->count 0). A text that the user wrote says how many; elsewhere the data decide, and
   numbered data (IDX) may lack the last numbers. (Labels beyond the user's number are dataset_map's
   to refuse, which knows where they are.) */
static class_list choose_classes(const dataset *data, int outputs, const class_list *known,
                                 int own_text, const char *name) {
  class_list set = {0};
  int numbered = data->label_file != NULL, fits = data->set.count == outputs;
  if (known->count) {
    int inside = 1;
    for (int k = 0; k < data->set.count; k++)
      inside = inside && classes_find(known, data->set.names[k]) >= 0;
    if (inside && (numbered || fits)) {
      for (int k = 0; k < known->count; k++) classes_add(&set, known->names[k]);
      return set;
    }
  } else if (numbered && (own_text || data->set.count <= outputs)) {
    return classes_numbered(outputs);
  }
  if (own_text && !fits)
    fail("%s: the softmax has %d outputs, %s has %d classes (%s to %s)", name, outputs, data->name,
         data->set.count, data->set.names[0], data->set.names[data->set.count - 1]);
  for (int k = 0; k < data->set.count; k++) classes_add(&set, data->set.names[k]);
  return set;
}

/* The names that travel in a file made by this project; none for one made elsewhere. */
static class_list classes_of_file(const cn_safetensors *file, int outputs) {
  class_list set = {0};
  const char *note = cn_safetensors_note(file, "classes");
  if (!note) return set;
  for (const char *line = note; line;) {
    const char *end = strchr(line, '\n');
    text_buffer name = {0};
    text_append(&name, line, end ? (size_t)(end - line) : strlen(line));
    classes_add(&set, name.data);
    free(name.data);
    line = end ? end + 1 : NULL;
  }
  if (set.count != outputs) classes_free(&set);
  return set;
}

typedef struct load_report {
  const char *file, *head;
  int head_changed;
} load_report;

/* Told of each tensor that a file and the network do not share. */
static void report_mismatch(cn_mismatch kind, const char *tensor, const char *details, void *user) {
  load_report *report = user;
  static const char *const words[] = {"is missing and starts from random values", "is not used",
                                      "does not fit and starts from random values"};
  size_t length = strlen(report->head);
  if (!strncmp(tensor, report->head, length) && tensor[length] == '.' && kind == CN_TENSOR_SHAPE) {
    report->head_changed = 1;
    return;
  }
  say("%s: tensor %s %s%s%s", report->file, tensor, words[kind], details && *details ? ": " : "",
      details ? details : "");
}

/* A new last layer on features that are good already begins near 0, so that its first gradients do
   not spoil them: weights of mean 0 and deviation 0.01, biases 0 (Webb Williams, Casas & Wilkerson
   2020). */
static void renew_head(cn_network *net, int head, uint64_t seed) {
  cn_random random = {mix_seed(seed, STREAM_HEAD), 0};
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter parameter = cn_network_parameter(net, i);
    if (parameter.node != head) continue;
    for (size_t k = 0; k < parameter.count; k++)
      parameter.values[k] = parameter.rank > 1 ? 0.01f * cn_random_normal(&random) : 0;
  }
  cn_network_touch(net);
}

/* Takes weights and normalisation from another model; what does not fit is named. A last layer made
   for other classes is not taken, even if there are as many of them. */
static void load_init(cn_network *net, int head, const cn_safetensors *file, const class_list *set,
                      const settings *options) {
  cn_error error;
  load_report report = {options->init, cn_network_node(net, head)->name, 0};
  static const char *const notes[] = {"preprocess.resize", "preprocess.scale", "preprocess.mean",
                                      "preprocess.deviation", NULL};
  int loaded = cn_load_weights(net, options->init, report_mismatch, &report, &error);
  if (loaded < 0) fail("%s", error.message);
  if (!loaded) fail("%s: no tensor in it fits the network", options->init);
  for (int i = 0; notes[i]; i++) {
    const char *note = cn_safetensors_note(file, notes[i]);
    if (note) set_note(net, notes[i], note);
  }
  class_list theirs = classes_of_file(file, set->count);
  if (report.head_changed || (theirs.count && !classes_equal(&theirs, set))) {
    renew_head(net, head, options->seed);
    inform("%s was made for other classes: its last layer %s is replaced by one for %d classes",
           options->init, report.head, set->count);
  }
  classes_free(&theirs);
}

/* The network to train, and its classes. */
static cn_network *build_network(const settings *set, const dataset *data, class_list *chosen) {
  cn_error error;
  int own = 0;
  cn_safetensors *file = NULL;
  const char *name = set->arch ? set->arch : set->init;
  if (set->init && !(file = cn_safetensors_read(set->init, &error))) fail("%s", error.message);
  char *description = set->arch ? architecture_text(set, &own) : NULL;
  if (!set->arch) {
    const char *note = cn_safetensors_note(file, "network");
    if (!note)
      fail("%s: there is no network's text in it; name the network with --arch", set->init);
    description = copy_text(note);
  }
  cn_network *net = parse_network(description, name);
  free(description);
  int head = find_last_head(net, name), outputs = network_outputs(net);
  class_list known = {0};
  if (!set->arch) known = classes_of_file(file, outputs);
  *chosen = choose_classes(data, outputs, &known, own, name);
  if (chosen->count < 2) fail("%s: there is only one class (%s)", data->name, chosen->names[0]);
  if (chosen->count != outputs) {
    description = text_with_outputs(net, chosen->count);
    cn_network_free(net);
    net = parse_network(description, name);
    free(description);
    if (network_outputs(net) != chosen->count)
      fail("%s: its last layer cannot be changed to %d classes", name, chosen->count);
  }
  cn_network_init(net, mix_seed(set->seed, STREAM_WEIGHTS));
  if (file) load_init(net, head, file, chosen, set);
  cn_safetensors_free(file);
  classes_free(&known);
  return net;
}

static void freeze_layers(cn_network *net, const char *freeze) {
  char *end;
  long layers = strtol(freeze, &end, 10);
  if (end == freeze || *end) {
    if (!cn_network_freeze_named(net, freeze))
      fail("--freeze: no layer's name starts with %s", freeze);
    return;
  }
  int all = cn_network_freeze(net, INT_MAX);
  if (layers > all || -layers > all)
    fail("--freeze: the network has only %d layers with weights", all);
  cn_network_freeze(net, (int)(layers < 0 ? all + layers : layers));
}

static void set_head_rate(cn_network *net, const settings *set) {
  cn_error error;
  int head = find_last_head(net, set->arch ? set->arch : set->init);
  if (cn_network_scale_rate(net, head, set->head_rate / set->training.learning_rate, &error) !=
      CN_OK)
    fail("--head-lr: %s", error.message);
}

/* ---- data, its split, its normalisation ------------------------------------------------------ */

/* A part of a data set. */
typedef struct view {
  const dataset *data;
  int *indices, count;
} view;

static view view_all(const dataset *data) {
  view all = {data, allocate((size_t)data->count, sizeof(int)), data->count};
  for (int i = 0; i < data->count; i++) all.indices[i] = i;
  return all;
}

/* Mean and deviation of each channel over a view, of values 0 to 1. */
static void measure_normalization(const view *of, const preprocess *pre, float mean[3],
                                  float deviation[3]) {
  double sum[3] = {0}, squares[3] = {0};
  size_t size = preprocess_size(pre), channels = (size_t)pre->channels;
  uint8_t *scratch = allocate(size, 1);
  for (int i = 0; i < of->count; i++) {
    const uint8_t *bytes = dataset_bytes(of->data, of->indices[i], pre, scratch);
    for (size_t p = 0; p < size; p++) {
      double value = bytes[p] / 255.0;
      sum[p % channels] += value;
      squares[p % channels] += value * value;
    }
  }
  double n = (double)of->count * (double)(size / channels);
  for (size_t c = 0; c < 3; c++) {
    double m = sum[c] / n, variance = squares[c] / n - m * m;
    mean[c] = (float)m;
    deviation[c] = variance > 1e-10 ? (float)sqrt(variance) : 1;
  }
  free(scratch);
}

/* MEAN/DEVIATION, each one number or one per channel. */
static void parse_normalization(const char *value, int channels, float mean[3],
                                float deviation[3]) {
  char *copy = copy_text(value), *slash = strchr(copy, '/');
  if (slash) *slash = 0;
  if (!slash || !parse_reals(copy, mean, channels) || !parse_reals(slash + 1, deviation, channels))
    misuse("--normalize: \"%s\" is not none, data or MEAN/DEVIATION with %d numbers each", value,
           channels);
  for (int c = 0; c < channels; c++)
    if (!(deviation[c] > 0)) misuse("--normalize: a deviation must be positive");
  free(copy);
}

static void choose_normalization(const settings *set, const view *train, preprocess *pre) {
  float mean[3] = {0, 0, 0}, deviation[3] = {1, 1, 1};
  if (!set->normalize) return;
  if (!strcmp(set->normalize, "data"))
    measure_normalization(train, pre, mean, deviation);
  else if (strcmp(set->normalize, "none"))
    parse_normalization(set->normalize, pre->channels, mean, deviation);
  preprocess_set(pre, mean, deviation);
}

/* Weights that make every class count as if all were equally frequent. */
static float *balanced_weights(const view *train, int class_count) {
  float *weights = allocate((size_t)class_count, sizeof(float));
  int *counts = allocate((size_t)class_count, sizeof(int)), present = 0;
  for (int i = 0; i < train->count; i++) counts[train->data->labels[train->indices[i]]]++;
  for (int k = 0; k < class_count; k++) present += counts[k] > 0;
  for (int k = 0; k < class_count; k++)
    weights[k] = counts[k] ? (float)((double)train->count / present / counts[k]) : 1;
  free(counts);
  return weights;
}

/* ---- one epoch ------------------------------------------------------------------------------- */

/* What is known of an epoch when it is over. */
typedef struct figures {
  int epoch;
  double train_loss, train_accuracy, val_loss, val_accuracy; /* val_*: NaN without --val */
} figures;

/* A training run. */
typedef struct run {
  const settings *set;
  dataset data, val_data;
  view train, val; /* val.count is 0 without --val */
  int val_copies;  /* pictures of val_data that are in data too */
  class_list classes;
  preprocess pre;
  augmenter augmenter;
  loader loader;
  cn_network *net;
  cn_trainer *trainer;
  cn_predictor *predictor;
  cn_training_options training;
  int least_batch; /* pictures that a batch must have */
  int val_batch;
  float *inputs, *outputs; /* [val_batch][height][width][channels]; [val_batch][classes] */
  int *order;              /* of this epoch's samples */
  progress bar;
  char *
      checkpoint; /* its path; NULL if --out is no regular file, which is written once, at the end */
  char *model;    /* the best one then */
  size_t model_size;

  char *description; /* what the result depends on */

  /* what a checkpoint holds beside the trainer's own state */
  figures last, kept; /* the last epoch; the one in --out */
  cn_early_stopping stopping;
  text_buffer log;

  double started, trained_seconds; /* of this process only */
  int64_t trained_pictures;
} run;

static int64_t steps_per_epoch(const run *r) {
  return loader_batches(r->train.count, r->set->batch, r->least_batch);
}

/* As many draws from each class that occurs as from every other (one more or less), so many in all as
   there are pictures. Within an epoch no picture of a class comes again before all have come. */
static void draw_balanced(run *r, cn_random *random) {
  const dataset *data = &r->data;
  int *members = allocate((size_t)r->train.count, sizeof(int)), drawn = 0, present = 0, place = 0;
  int *counts = allocate((size_t)r->classes.count, sizeof(int));
  for (int i = 0; i < r->train.count; i++) counts[data->labels[r->train.indices[i]]]++;
  for (int k = 0; k < r->classes.count; k++) present += counts[k] > 0;
  for (int k = 0; k < r->classes.count; k++) {
    if (!counts[k]) continue;
    int quota = r->train.count / present + (place++ < r->train.count % present), count = 0;
    for (int i = 0; i < r->train.count; i++)
      if (data->labels[r->train.indices[i]] == k) members[count++] = r->train.indices[i];
    for (int i = 0; i < quota; i++) {
      if (i % count == 0) cn_random_shuffle(random, members, count);
      r->order[drawn++] = members[i % count];
    }
  }
  free(members);
  free(counts);
}

static void order_epoch(run *r, int epoch) {
  uint64_t stream = mix_seed(r->set->seed, STREAM_SHUFFLE);
  cn_random random = {mix_seed(stream, (uint64_t)epoch), 0};
  if (r->set->balanced_sampling)
    draw_balanced(r, &random);
  else
    memcpy(r->order, r->train.indices, (size_t)r->train.count * sizeof(int));
  cn_random_shuffle(&random, r->order, r->train.count);
}

/* Stops, and says where to go on from. */
TOOL_NORETURN static void stop_not_finite(const run *r, const char *what) {
  if (r->last.epoch && r->checkpoint)
    fail("%s; the last good checkpoint is %s (epoch %d)", what, r->checkpoint, r->last.epoch);
  fail("%s; there is no checkpoint%s", what, r->checkpoint ? " yet" : "");
}

static void draw_training(run *r, int epoch, int done, double loss, double correct,
                          double started) {
  char label[32], shown[128], left[32];
  double seconds = seconds_now() - started;
  double rate = seconds > 0 ? done / seconds : 0;
  double todo = (double)r->train.count * (r->set->epochs - epoch + 1) - done;
  snprintf(label, sizeof label, "epoch %d/%d", epoch, r->set->epochs);
  snprintf(shown, sizeof shown, "loss %.4f  accuracy %.4f  %.0f images/s  %s left", loss / done,
           correct / done, rate, clock_text(rate > 0 ? todo / rate : 0, left));
  progress_draw(&r->bar, label, (double)done / r->train.count, shown);
}

/* Trains on as many pictures as there are, in an order of its own; the last batch may have another size. */
static void train_epoch(run *r, int epoch, figures *out) {
  double started = seconds_now(), loss = 0, correct = 0;
  cn_batch batch = {0};
  int done = 0;
  order_epoch(r, epoch);
  loader_epoch(&r->loader, r->order, r->train.count,
               mix_seed(mix_seed(r->set->seed, STREAM_AUGMENT), (uint64_t)epoch));
  while ((batch.count = loader_next(&r->loader, &batch.inputs, &batch.labels)) > 0) {
    cn_metrics metrics;
    cn_error error = {CN_OK, 0, 0, ""};
    cn_status status = cn_train_step(r->trainer, &batch, &metrics, &error);
    if (status == CN_ERROR_NUMERIC) stop_not_finite(r, error.message);
    if (status != CN_OK) fail("%s", error.message);
    loss += metrics.loss * batch.count;
    correct += metrics.correct;
    done += batch.count;
    draw_training(r, epoch, done, loss, correct, started);
  }
  out->epoch = epoch;
  out->train_loss = loss / r->train.count;
  out->train_accuracy = correct / r->train.count;
  out->val_loss = out->val_accuracy = NAN;
  r->trained_seconds += seconds_now() - started;
  r->trained_pictures += r->train.count;
}

/* Loss and accuracy on the validation pictures, with the weights as they are. */
static void validate(run *r, figures *out) {
  int class_count = r->classes.count, correct = 0;
  double loss = 0;
  for (int first = 0; first < r->val.count; first += r->val_batch) {
    int count = r->val.count - first < r->val_batch ? r->val.count - first : r->val_batch;
    dataset_inputs(r->val.data, r->val.indices, first, count, &r->pre, r->inputs);
    cn_predict(r->predictor, r->inputs, count, r->outputs);
    for (int i = 0; i < count; i++) {
      const float *p = r->outputs + (size_t)i * (size_t)class_count;
      int label = r->val.data->labels[r->val.indices[first + i]], best = 0;
      for (int k = 1; k < class_count; k++) best = p[k] > p[best] ? k : best;
      correct += best == label;
      loss -= log(p[label] < FLT_MIN ? (double)FLT_MIN : (double)p[label]);
    }
  }
  out->val_loss = loss / r->val.count;
  out->val_accuracy = (double)correct / r->val.count;
  if (!isfinite(out->val_loss)) stop_not_finite(r, "the validation loss is not a finite number");
}

/* ---- the state that survives a crash --------------------------------------------------------- */

/* A line "name: count fingerprint". */
static void describe_fingerprint(text_buffer *to, const char *name, int count,
                                 const fingerprint *of) {
  text_add(to, "%s: %d, fingerprint %016llx%016llx\n", name, count,
           (unsigned long long)of->words[0], (unsigned long long)of->words[1]);
}

/* What the samples of a view show, and what they are labelled. */
static void describe_view(text_buffer *to, const view *of, const char *pictures,
                          const char *labels) {
  fingerprint shown = {{0, 0}}, labelled = {{0, 0}};
  for (int i = 0; i < of->count; i++) {
    int index = of->indices[i];
    for (int w = 0; w < 2; w++) fingerprint_word(&shown, of->data->prints[index].words[w]);
    fingerprint_word(&labelled, (uint64_t)of->data->labels[index]);
  }
  describe_fingerprint(to, pictures, of->count, &shown);
  describe_fingerprint(to, labels, of->count, &labelled);
}

static void describe_data(text_buffer *to, const run *r) {
  const settings *set = r->set;
  fingerprint names = {{0, 0}};
  for (int k = 0; k < r->classes.count; k++) fingerprint_text(&names, r->classes.names[k]);
  describe_fingerprint(to, "class names", r->classes.count, &names);
  if (set->val_fraction > 0)
    text_add(to, "--val: %.9g\n", (double)set->val_fraction);
  else
    text_add(to, "--val: %s\n", set->val ? "a data set" : "none");
  text_add(to, "--group: %s\n", set->group ? set->group : "none");
  describe_view(to, &r->train, "pictures to learn from", "labels to learn from");
  describe_view(to, &r->val, "pictures to check with", "labels to check with");
}

static void describe_network(text_buffer *to, const run *r) {
  const settings *set = r->set;
  const cn_arch_options *built_in = &set->built_in;
  const char *all = cn_network_text(r->net);
  fingerprint of = {{0, 0}};
  if (!all) fail("out of memory");
  fingerprint_text(&of, all);
  if (built_in->height)
    text_add(to, "--input: %dx%dx%d\n", built_in->height, built_in->width, built_in->channels);
  else
    text_add(to, "--input: its own\n");
  text_add(to, "--auxiliary: %d\n", built_in->auxiliary);
  describe_fingerprint(to, "layers of the network", cn_network_node_count(r->net), &of);
  of = (fingerprint){{0, 0}};
  if (set->init) of = fingerprint_file(set->init);
  describe_fingerprint(to, "--init", set->init != NULL, &of);
  text_add(to, "--freeze: %s\n--head-lr: %.9g\n", set->freeze ? set->freeze : "none",
           (double)set->head_rate);
}

static void describe_pictures(text_buffer *to, const run *r) {
  const augmentation *a = &r->set->augment;
  char resize[32];
  text_add(to, "--resize: %s\n", resize_text(&r->pre, resize));
  for (int c = 0; c < r->pre.channels; c++)
    text_add(to, "--normalize: %.9g/%.9g\n", (double)r->pre.mean[c], (double)r->pre.deviation[c]);
  text_add(to, "--rotate: %.9g\n--zoom: %.9g\n--shift: %.9g\n--elastic: %.9g\n--flip: %d\n",
           (double)a->rotate, (double)a->zoom, (double)a->shift, (double)a->elastic, a->flip);
  text_add(to, "--random-crop: %.9g\n--brightness: %.9g\n--contrast: %.9g\n", (double)a->crop,
           (double)a->brightness, (double)a->contrast);
  text_add(to, "--saturation: %.9g\n--hue: %.9g\n", (double)a->saturation, (double)a->hue);
  text_add(to, "--smooth: %.9g\n", (double)r->set->smooth);
}

static void describe_learning(text_buffer *to, const run *r) {
  const settings *set = r->set;
  const cn_training_options *t = &r->training;
  text_add(to, "--batch: %d\n--optimizer: %s\n--lr: %.9g\n--momentum: %.9g\n--nesterov: %d\n",
           set->batch, optimizers[set->optimizer], (double)t->learning_rate, (double)t->momentum,
           t->nesterov);
  text_add(to, "--decay: %.9g\n--l1: %.9g\n--l2: %.9g\n--clip: %.9g\n", (double)t->decay,
           (double)t->l1, (double)t->l2, (double)t->clip_norm);
  text_add(to, "--math: %s\n--schedule: %s\n--step: %.9g\n--gamma: %.9g\n--warmup: %.9g\n",
           maths[set->math], schedules[set->schedule], (double)set->step, (double)t->gamma,
           (double)set->warmup);
  if (t->schedule == CN_SCHEDULE_COSINE) text_add(to, "--epochs: %d\n", set->epochs);
  text_add(to, "--class-weights: %s\n--sampling: %s\n--patience: %d\n--seed: %llu\n",
           balances[set->balanced_weights], balances[set->balanced_sampling], set->patience,
           (unsigned long long)set->seed);
}

/* One line for each thing that the result depends on. A resumed run must have the same ones, or it
   would be neither the old run nor a new one. */
static char *describe_run(const run *r) {
  text_buffer all = {0};
  describe_data(&all, r);
  describe_network(&all, r);
  describe_pictures(&all, r);
  describe_learning(&all, r);
  return all.data;
}

/* Stops at the first line in which two descriptions differ. */
static void compare_runs(const run *r, const char *then, const char *now) {
  static const char anew[] = "without --resume, training starts from the beginning";
  while (*then && *now) {
    size_t then_length = strcspn(then, "\n"), now_length = strcspn(now, "\n");
    size_t name = strcspn(now, ":");
    if (strncmp(then, now, name + 1)) break;
    if (then_length != now_length || memcmp(then, now, now_length))
      fail("cannot resume from %s: it was made with other %.*s (%.*s, now %.*s); %s", r->checkpoint,
           (int)name, now, (int)(then_length - name - 2), then + name + 2,
           (int)(now_length - name - 2), now + name + 2, anew);
    then += then_length + (then[then_length] == '\n');
    now += now_length + (now[now_length] == '\n');
  }
  if (*then || *now)
    fail("cannot resume from %s: it was made by another version of " TOOL_NAME "; %s",
         r->checkpoint, anew);
}

/* Hexadecimal floats bring every bit back. */
static void add_figures(text_buffer *to, const figures *f) {
  text_add(to, "%d %a %a %a %a\n", f->epoch, f->train_loss, f->train_accuracy, f->val_loss,
           f->val_accuracy);
}

static int scan_figures(const char *from, figures *f) {
  return sscanf(from, "%d %la %la %la %la", &f->epoch, &f->train_loss, &f->train_accuracy,
                &f->val_loss, &f->val_accuracy) == 5;
}

static const char *const checkpoint_notes[] = {"checkpoint.run", "checkpoint.state",
                                               "checkpoint.log", NULL};

/* The checkpoint holds the log too: files that must agree are written from one. */
static void save_checkpoint(run *r) {
  cn_error error;
  text_buffer state = {0};
  add_figures(&state, &r->last);
  add_figures(&state, &r->kept);
  text_add(&state, "%d %d %a\n", r->stopping.checks, r->stopping.best_check, r->stopping.best);
  set_note(r->net, checkpoint_notes[0], r->description);
  set_note(r->net, checkpoint_notes[1], state.data);
  set_note(r->net, checkpoint_notes[2], r->log.data);
  if (cn_trainer_save(r->trainer, r->checkpoint, &error) != CN_OK) fail("%s", error.message);
  for (int i = 0; checkpoint_notes[i]; i++) set_note(r->net, checkpoint_notes[i], NULL);
  free(state.data);
}

static void parse_state(run *r, const char *state) {
  const char *second = strchr(state, '\n'), *third = second ? strchr(second + 1, '\n') : NULL;
  if (!third || !scan_figures(state, &r->last) || !scan_figures(second + 1, &r->kept) ||
      sscanf(third + 1, "%d %d %la", &r->stopping.checks, &r->stopping.best_check,
             &r->stopping.best) != 3)
    fail("%s: note checkpoint.state cannot be read", r->checkpoint);
}

/* Goes back to where the checkpoint was written. */
static void load_checkpoint(run *r) {
  cn_error error;
  cn_safetensors *file = cn_safetensors_read(r->checkpoint, &error);
  if (!file) fail("%s", error.message);
  const char *notes[3];
  for (int i = 0; checkpoint_notes[i]; i++)
    if (!(notes[i] = cn_safetensors_note(file, checkpoint_notes[i])))
      fail("%s: not a checkpoint: there is no note %s in it", r->checkpoint, checkpoint_notes[i]);
  compare_runs(r, notes[0], r->description);
  parse_state(r, notes[1]);
  r->log.length = 0;
  text_add(&r->log, "%s", notes[2]);
  if (cn_trainer_load(r->trainer, r->checkpoint, &error) != CN_OK) fail("%s", error.message);
  for (int i = 0; checkpoint_notes[i]; i++) set_note(r->net, checkpoint_notes[i], NULL);
  cn_safetensors_free(file);
  inform("resumes after epoch %d of %s", r->last.epoch, r->checkpoint);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Takes a share of --data to check with. */
static void split_data(run *r) {
  const settings *set = r->set;
  sample_groups groups = groups_of_samples(&r->data);
  split parts =
      split_groups(&r->data, &groups, (double)set->val_fraction, mix_seed(set->seed, STREAM_SPLIT));
  if (set->group)
    inform("%s: %d pictures are %d groups by %s", set->data, r->data.count, groups.count,
           set->group);
  if (!parts.taken_count || !parts.rest_count)
    fail("--val %g leaves %d pictures to train on and %d to check with (of %d; groups: %d)",
         (double)set->val_fraction, parts.rest_count, parts.taken_count, r->data.count,
         groups.count);
  say_missing_classes(&r->data, &groups, parts.taken, parts.taken_count, "check with");
  say_missing_classes(&r->data, &groups, parts.rest, parts.rest_count, "learn from");
  r->train = (view){&r->data, parts.rest, parts.rest_count};
  r->val = (view){&r->data, parts.taken, parts.taken_count};
  groups_free(&groups);
}

/* Opens another data set to check with. */
static void open_validation(run *r) {
  const settings *set = r->set;
  r->val_data = dataset_open(set->val, set->flat, NULL);
  dataset_map(&r->val_data, &r->classes, set->data);
  r->val_data.cache_bytes = r->data.cache_bytes;
  dataset_prepare(&r->val_data, &r->pre, set->resize != NULL, set->skip_bad);
  r->val = view_all(&r->val_data);
  r->val_copies = count_common(&r->data, &r->val_data);
  if (r->val_copies)
    inform("%s: %d of %d pictures are in %s too: the figures of this check are too good", set->val,
           r->val_copies, r->val_data.count, set->data);
}

static void open_data(run *r) {
  const settings *set = r->set;
  r->data = dataset_open(set->data, set->flat, set->group);
  r->net = build_network(set, &r->data, &r->classes);
  const char *name = set->arch ? set->arch : set->init;
  r->pre = preprocess_load(r->net, name);
  if (set->resize && !parse_resize(set->resize, &r->pre))
    misuse("--resize: \"%s\" is not squash, pad, crop or crop:N with N at least %d", set->resize,
           r->pre.height > r->pre.width ? r->pre.height : r->pre.width);
  dataset_map(&r->data, &r->classes, name);
  r->data.cache_bytes = (size_t)set->cache_megabytes << 20;
  r->data.keeps_originals = set->augment.crop > 0;
  dataset_prepare(&r->data, &r->pre, set->resize != NULL, set->skip_bad);
  say_copies(&r->data);
  if (set->val_fraction > 0)
    split_data(r);
  else
    r->train = view_all(&r->data);
  if (set->val && !(set->val_fraction > 0)) open_validation(r);
  choose_normalization(set, &r->train, &r->pre);
  preprocess_save(&r->pre, r->net);
  classes_save(&r->classes, r->net);
}

/* A layer that learns while it normalises a single value per picture and channel, so that it takes
   several pictures to have a deviation; -1: there is none. */
static int find_lone_norm(const cn_network *net) {
  for (int i = 0; i < cn_network_parameter_count(net); i++) {
    cn_parameter parameter = cn_network_parameter(net, i);
    const cn_node *node = cn_network_node(net, parameter.node);
    if (node->op == CN_OP_BATCHNORM && parameter.trained && node->shape.height == 1 &&
        node->shape.width == 1)
      return parameter.node;
  }
  return -1;
}

/* Plans batches that every layer can learn from. */
static void plan_batches(run *r) {
  int norm = find_lone_norm(r->net);
  r->least_batch = norm < 0 ? 1 : 2;
  if (norm >= 0 && (r->set->batch == 1 || r->train.count == 1))
    fail(
        "%s: the batch normalisation %s has one value per picture and channel here: it needs batches "
        "of two pictures at least (there are %d to learn from, --batch is %d)",
        r->set->arch ? r->set->arch : r->set->init, cn_network_node(r->net, norm)->name,
        r->train.count, r->set->batch);
}

/* Schedules are given in epochs and run in steps. */
static void plan_training(run *r) {
  cn_error error;
  const settings *set = r->set;
  if (set->freeze) freeze_layers(r->net, set->freeze);
  plan_batches(r);
  double steps = (double)steps_per_epoch(r);
  float *weights = set->balanced_weights ? balanced_weights(&r->train, r->classes.count) : NULL;
  r->training = set->training;
  if (r->training.optimizer != CN_SGD) r->training.momentum = 0;
  if (r->training.optimizer != CN_ADAMW) r->training.decay = 0;
  r->training.class_weights = weights;
  r->training.warmup_steps = (int64_t)llround((double)set->warmup * steps);
  if (r->training.schedule == CN_SCHEDULE_STEP)
    r->training.decay_steps = (int64_t)fmax(1, round((double)set->step * steps));
  if (r->training.schedule == CN_SCHEDULE_COSINE)
    r->training.decay_steps = (int64_t)set->epochs * steps_per_epoch(r);
  if (set->head_rate > 0) set_head_rate(r->net, set);
  int64_t last = r->train.count - (steps_per_epoch(r) - 1) * set->batch;
  int largest = steps_per_epoch(r) > 1 && last < set->batch ? set->batch : (int)last;
  r->trainer = cn_trainer_create(r->net, largest, &r->training, &error);
  if (!r->trainer) fail("%s", error.message);
  free(weights);
  r->training.class_weights = NULL;
}

/* Validation in batches of at most 64: enough to keep every core busy, and little memory. */
static void plan_validation(run *r) {
  cn_error error;
  cn_predict_options options = {0};
  options.threads = use_threads(0);
  r->val_batch = r->set->batch < 64 ? r->set->batch : 64;
  if (!r->val.count) return;
  r->predictor = cn_predictor_create(r->net, r->val_batch, &options, &error);
  if (!r->predictor) fail("%s", error.message);
}

/* Two outputs of one run are two files. */
static void check_apart(const char *log, const char *other) {
  char *a = output_target(log), *b = output_target(other);
  if (same_entry(a, b)) misuse("--log %s: %s goes there", log, other);
  free(a);
  free(b);
}

static void check_outputs(const run *r) {
  const char *log = r->set->log;
  output_check(r->set->out);
  if (r->checkpoint) output_check(r->checkpoint);
  if (!log) return;
  output_check(log);
  if (!r->checkpoint) return;
  check_apart(log, r->set->out);
  check_apart(log, r->checkpoint);
}

static void plan_checkpoint(run *r) {
  const char *out = r->set->out;
  text_buffer checkpoint = {0};
  if (!is_written_directly(out)) {
    text_add(&checkpoint, "%s.checkpoint", out);
    r->checkpoint = checkpoint.data;
    return;
  }
  if (r->set->resume) fail("%s is no regular file: it has no checkpoint to resume from", out);
  inform("%s is no regular file: the model is written at the end, without checkpoints", out);
}

static void start_run(run *r, const settings *set) {
  r->set = set;
  r->started = seconds_now();
  plan_checkpoint(r);
  check_outputs(r); /* before the data are read, which may take long, ... */
  open_data(r);
  check_outputs(r); /* ... and when it is known what they are */
  lock_output(set->out);
  note_saved(set->out);
  if (r->checkpoint) note_saved(r->checkpoint);
  plan_training(r);
  plan_validation(r);
  r->description = describe_run(r);
  r->inputs = allocate((size_t)r->val_batch * preprocess_size(&r->pre), sizeof(float));
  r->outputs = allocate((size_t)r->val_batch * (size_t)r->classes.count, sizeof(float));
  r->order = allocate((size_t)r->train.count, sizeof(int));
  r->augmenter = augmenter_create(&set->augment, &r->pre);
  /* one thread at least is busy training at any time, so at most the others lie idle */
  smoothing smooth = {set->smooth, r->classes.count};
  loader_start(&r->loader, &r->data, &r->augmenter, smooth, set->batch, r->least_batch,
               use_threads(0), r->data.paths ? use_threads(0) - 1 : 0);
  r->stopping.patience = set->patience ? set->patience : INT_MAX;
  text_add(&r->log, "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy\n");
  r->bar = progress_start();
}

static void end_run(run *r) {
  cn_predictor_free(r->predictor);
  cn_trainer_free(r->trainer);
  cn_network_free(r->net);
  loader_free(&r->loader);
  augmenter_free(&r->augmenter);
  dataset_free(&r->data);
  dataset_free(&r->val_data);
  classes_free(&r->classes);
  free(r->train.indices);
  free(r->val.indices);
  free(r->inputs);
  free(r->outputs);
  free(r->order);
  free(r->log.data);
  free(r->checkpoint);
  free(r->description);
  free(r->model);
}

static void introduce(const run *r) {
  char name[32] = "no pictures";
  if (r->val.count) snprintf(name, sizeof name, "%d pictures", r->val.count);
  inform("%s: %zu weights, %d classes; learns from %d pictures of %dx%dx%d, checks with %s; "
         "%s, %d threads",
         r->set->arch ? r->set->arch : r->set->init, cn_network_weight_count(r->net),
         r->classes.count, r->train.count, r->pre.height, r->pre.width, r->pre.channels, name,
         cn_isa_name(), use_threads(0));
}

static void say_epoch(const run *r, const figures *f, int best, double seconds) {
  char validation[96] = "";
  if (r->val.count)
    snprintf(validation, sizeof validation, "; validation loss %.4f accuracy %.4f%s", f->val_loss,
             f->val_accuracy, best ? " (best)" : "");
  inform("epoch %d/%d: loss %.4f accuracy %.4f%s; %.0f images/s, %.1f s", f->epoch, r->set->epochs,
         f->train_loss, f->train_accuracy, validation, r->train.count / seconds, seconds);
}

/* One row: everything but clock readings, so that a run can be repeated to the byte. */
static void log_epoch(run *r, const figures *f) {
  float rate = cn_learning_rate(&r->training, cn_trainer_steps(r->trainer));
  text_add(&r->log, "%d,%.6g,%.6f,%.6f,", f->epoch, (double)rate, f->train_loss, f->train_accuracy);
  if (r->val.count)
    text_add(&r->log, "%.6f,%.6f\n", f->val_loss, f->val_accuracy);
  else
    text_add(&r->log, ",\n");
}

/* The model as it is now goes to --out, or waits for the end. */
static void keep_model(run *r) {
  cn_error error = {CN_OK, 0, 0, ""};
  if (r->checkpoint) {
    if (cn_save(r->net, r->set->out, &error) != CN_OK) fail("%s", error.message);
    return;
  }
  r->model_size = cn_save_memory(r->net, NULL, 0, &error);
  r->model = reallocate(r->model, r->model_size, 1);
  if (!cn_save_memory(r->net, r->model, r->model_size, &error)) fail("%s", error.message);
}

/* A file has all rows after each epoch; what is no regular file gets them once, at the end. */
static void write_log(const run *r, int is_end) {
  const char *log = r->set->log;
  if (log && is_written_directly(log) == is_end) write_file(log, r->log.data, r->log.length);
}

/* Early stopping has had its say. */
static int is_over(const run *r) {
  return r->last.epoch >= r->set->epochs ||
         r->stopping.checks - r->stopping.best_check >= r->stopping.patience;
}

/* The order of writing makes any moment a safe one to be killed: model, then checkpoint, then log.
   A resumed run repeats what the checkpoint does not know of, with the same result. */
static void run_epoch(run *r) {
  figures now = {0};
  double trained = r->trained_seconds;
  train_epoch(r, r->last.epoch + 1, &now);
  int best = 1;
  if (r->val.count) {
    validate(r, &now);
    best = cn_early_stopping_check(&r->stopping, now.val_loss) == 1;
  }
  r->last = now;
  if (best) r->kept = now;
  log_epoch(r, &now);
  if (best) keep_model(r);
  if (r->checkpoint) save_checkpoint(r);
  write_log(r, 0);
  say_epoch(r, &now, best, r->trained_seconds - trained);
}

static void print_result(const run *r) {
  text_buffer json = {0};
  left_out left = {0};
  left_out_merge(&left, &r->data.left);
  left_out_merge(&left, &r->val_data.left);
  json_integer(&json, "epochs", r->last.epoch);
  json_integer(&json, "best_epoch", r->kept.epoch);
  json_real(&json, "train_loss", r->kept.train_loss);
  json_real(&json, "train_accuracy", r->kept.train_accuracy);
  json_real(&json, "val_loss", r->kept.val_loss);
  json_real(&json, "val_accuracy", r->kept.val_accuracy);
  json_integer(&json, "val_copies", r->val_copies);
  json_real(&json, "images_per_second",
            r->trained_seconds > 0 ? (double)r->trained_pictures / r->trained_seconds : 0);
  left_out_json(&json, &left);
  json_real(&json, "seconds", seconds_now() - r->started);
  json_print(&json);
  left_out_free(&left);
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  run r = {0};
  start_run(&r, &set);
  introduce(&r);
  if (set.resume && is_file(r.checkpoint))
    load_checkpoint(&r);
  else if (set.resume)
    inform("there is no %s yet: starts from the beginning", r.checkpoint);
  if (set.resume) write_log(&r, 0);
  while (!is_over(&r)) run_epoch(&r);
  if (r.model) write_file(set.out, r.model, r.model_size);
  write_log(&r, 1);
  print_result(&r);
  end_run(&r);
  return tool_end();
}
