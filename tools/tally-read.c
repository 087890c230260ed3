/* tally-read.c - reads scanned or photographed vote tallies: every count with its probability, the
   tallies that need a person's eyes, the totals with intervals, and a page to look at and correct.

   Build:  make bin/tally-read     (tool.h says how by hand)
   Use:    bin/tally-read --template c1-2019 --out result scans/

   What is expensive - decoding, registration, cells, the network - happens once per picture and
   goes into a journal in the output folder. Counts, totals and the page are made from the journal,
   so a run that was cut short goes on, and one with corrections takes seconds.

   The order of this file: options, the model, what is seen of a picture, the journal, seeing,
   official counts and corrections, reading, tables, the page, the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-read"
#define TOOL_USAGE "--template T [--model M] --out DIR [options] IMAGE..."
#include "tool.h"

#include <fcntl.h>

#include "classes.h"
#include "csv.h"
#include "forms.h"
#include "output.h"
#include "preprocess.h"
#include "report.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Reads pictures of vote tallies.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T        a template file, or the name of one that comes with the program\n"
    "  --model M           a network (safetensors) that knows the classes 0 to 9 and, if it can,\n"
    "                      cross, empty and illegible (default: the one that comes along).\n"
    "                      Of a class it does not know, every cell with ink has probability 0.005\n"
    "  --out DIR           where to write (made if need be):\n"
    "                        counts.csv   tally,field,value,probability,quality,status,\n"
    "                                     second_value,second_probability,reason,corrected\n"
    "                        tallies.csv  tally,status,quality,residual_px,sums,class,reason\n"
    "                        totals.csv   field,votes,low,high,share,...: the sum of the values\n"
    "                                     read; the 90 % interval and the share of what is\n"
    "                                     written, counts in doubt and unread ones included\n"
    "                        report.html  one page with everything, to look at and correct\n"
    "                        .work/       what was seen of each picture; a run that was cut short\n"
    "                                     goes on from there\n"
    "  IMAGE...            picture files, folders with everything below them, or CSV files with a\n"
    "                      column path; a tally is named by its picture's file name, a page of a\n"
    "                      file with several as scan.pdf#3\n"
    "  --flat              leaves out what lies in folders of the folders named\n"
    "  --official F.csv    official counts (tally,field,value) to compare with\n"
    "  --corrections F.csv counts read by a person (tally,field,value; an empty value means that\n"
    "                      nothing is written), as saved by report.html; taken as certain\n"
    "  --risk R            a count is accepted if it is wrong with probability R at most\n"
    "                      (default 0.005)\n"
    "  --temperature T     probabilities are raised to 1/T (default: the model's notes, or 1)\n"
    "  --raw               feeds the network cells as printed, only shrunk and inverted\n"
    "  --pictures N        forms shown with pictures in report.html, the most needy first\n"
    "                      (default 200)\n"
    "  --seed N            of the draws that intervals are made of (default 1)\n"
    "  --again             sees every picture again, whatever .work holds\n"
    "  --threads N         default: all cores; does not change the result\n"
    "  --quiet             nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "Status of a count: ok (accepted), review (a person should look), missing (nothing is written\n"
    "there), unread (the form could not be registered, or the cells do not make a number). A\n"
    "picture that cannot be read is in the output with its reason and stops none; a file that is\n"
    "no picture, or a second name of one, is left out and said. The last line on stdout is JSON:\n"
    "forms, read, flagged, left_out (by ending or reason), seconds. Exit code: 0, 1 (failed, or\n"
    "no tally could be read), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template c1-2019 --out result scans/\n"
    "  " TOOL_NAME " --template c1-2019 --out result --corrections corrections.csv scans/\n"
    "  " TOOL_NAME " --template mexico-2015 --model cells.safetensors --out result \\\n"
    "      --official truth.csv synth/*.jpg\n";

typedef struct settings {
  const char *template, *model, *out, *official, *corrections;
  double risk, temperature;
  int raw, pictures, again, flat;
  uint64_t seed;
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.seed = 1, .risk = 0.005, .pictures = 200};
  const tool_option options[] = {
      text_option("template", &set.template),
      file_option("model", &set.model),
      text_option("out", &set.out),
      file_option("official", &set.official),
      file_option("corrections", &set.corrections),
      double_option("risk", &set.risk, 1e-9, 0.5),
      double_option("temperature", &set.temperature, 0.05, 20),
      flag_option("raw", &set.raw),
      integer_option("pictures", &set.pictures, 0, 100000),
      seed_option(&set.seed),
      flag_option("again", &set.again),
      flag_option("flat", &set.flat),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.template) misuse("--template is missing");
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- the model ------------------------------------------------------------------------------- */

#define UNKNOWN_CLASS 0.005 /* share of a cell with ink that goes to each class the model lacks */

/* A network and which of tally.h's classes its outputs are. */
typedef struct model {
  char *path;
  cn_network *net;
  preprocess pre;
  int classes, class_of[TALLY_CLASSES], lacking;
  int knows[TALLY_CLASSES];
  double temperature;
} model;

static int class_number(const char *name) {
  if (name[0] >= '0' && name[0] <= '9' && !name[1]) return name[0] - '0';
  return !strcmp(name, "cross")       ? TALLY_CLASS_CROSS
         : !strcmp(name, "empty")     ? TALLY_CLASS_EMPTY
         : !strcmp(name, "illegible") ? TALLY_CLASS_ILLEGIBLE
                                      : -1;
}

static void model_classes(model *m) {
  static const char wanted[] = "the classes must be 0 to 9 and may be cross, empty and illegible";
  class_list names = classes_load(m->net, m->path);
  m->classes = names.count;
  for (int i = 0; i < names.count; i++) {
    int number = class_number(names.names[i]);
    if (number < 0) fail("%s: class \"%s\" is unknown: %s", m->path, names.names[i], wanted);
    if (m->knows[number]) fail("%s: class \"%s\" occurs twice", m->path, names.names[i]);
    m->knows[number] = 1;
    m->class_of[i] = number;
  }
  for (int k = 0; k < TALLY_CLASSES; k++) {
    if (k < 10 && !m->knows[k]) fail("%s: class \"%d\" is missing: %s", m->path, k, wanted);
    m->lacking += !m->knows[k];
  }
  classes_free(&names);
}

static double model_temperature(const model *m, double wanted) {
  const char *note = cn_network_note(m->net, "temperature");
  if (wanted > 0) return wanted;
  if (!note) return 1;
  float value;
  if (!parse_reals(note, &value, 1) || value < 0.05f || value > 20)
    fail("%s: note temperature: \"%s\" is not a number from 0.05 to 20", m->path, note);
  return (double)value;
}

static model model_open(const char *program, const settings *set) {
  model m = {0};
  cn_error error;
  m.path = set->model ? copy_text(set->model) : shared_file(program, "models", "tally.safetensors");
  if (!m.path)
    fail("no model: there is no examples/models/tally.safetensors beside the program (make model "
         "makes it), and --model was not given");
  m.net = cn_load(m.path, &error);
  if (!m.net) fail("%s", error.message);
  if (cn_network_node(m.net, cn_network_node_count(m.net) - 1)->op != CN_OP_SOFTMAX)
    fail("%s: the network does not end in softmax", m.path);
  m.pre = preprocess_load(m.net, m.path);
  model_classes(&m);
  m.temperature = model_temperature(&m, set->temperature);
  return m;
}

/* Classifies cells; each thread has one of its own. */
typedef struct classifier {
  const model *model;
  cn_predictor *predictor;
  float *inputs, *outputs;
  int *asked;    /* which cell each input is */
  uint8_t *fitted;
} classifier;

static classifier classifier_open(const model *m, int cells) {
  classifier c = {0};
  cn_error error;
  cn_predict_options with = {0};
  with.threads = 1;
  c.model = m;
  c.predictor = cn_predictor_create(m->net, cells, &with, &error);
  if (!c.predictor) fail("%s", error.message);
  c.inputs = allocate((size_t)cells * preprocess_size(&m->pre), sizeof(float));
  c.outputs = allocate((size_t)cells * (size_t)m->classes, sizeof(float));
  c.asked = allocate((size_t)cells, sizeof(int));
  c.fitted = allocate(preprocess_size(&m->pre), 1);
  return c;
}

static void classifier_close(classifier *c) {
  cn_predictor_free(c->predictor);
  free(c->inputs);
  free(c->outputs);
  free(c->asked);
  free(c->fitted);
}

/* A cell's picture as the network's input. */
static void cell_input(const classifier *c, const uint8_t *cell, float *to) {
  const preprocess *pre = &c->model->pre;
  uint8_t pixels[TALLY_SIDE * TALLY_SIDE * 3];
  picture sample = {pixels, TALLY_SIDE, TALLY_SIDE, pre->channels};
  convert_channels(cell, 1, pixels, pre->channels, TALLY_SIDE * TALLY_SIDE);
  picture_resize(&sample, pre, c->fitted);
  preprocess_bytes(pre, c->fitted, to);
}

/* The network's outputs in the order of tally.h's classes. An output that is not a number says
   nothing, so it stands for illegible. */
static void class_row(const model *m, const float *from, float *row) {
  float known = 1 - (float)UNKNOWN_CLASS * (float)m->lacking, sum = 0;
  for (int k = 0; k < TALLY_CLASSES; k++) row[k] = m->knows[k] ? 0 : (float)UNKNOWN_CLASS;
  for (int i = 0; i < m->classes; i++) {
    row[m->class_of[i]] = known * from[i];
    sum += from[i];
  }
  if (sum > 0.5f && sum < 1.5f) return;
  memset(row, 0, TALLY_CLASSES * sizeof *row);
  row[TALLY_CLASS_ILLEGIBLE] = 1;
}

/* Probabilities of every cell. What was seen to be empty is not asked about: its cleaned picture is
   blank, and tally_decode goes by what was seen. */
static void classify(classifier *c, const tally_cell *cells, int count, int raw, float *rows) {
  int asked = 0;
  for (int i = 0; i < count; i++) {
    float *row = rows + (size_t)i * TALLY_CLASSES;
    memset(row, 0, TALLY_CLASSES * sizeof *row);
    row[TALLY_CLASS_EMPTY] = 1;
    if (cells[i].state == TALLY_CELL_EMPTY && !raw) continue;
    cell_input(c, raw ? cells[i].raw : cells[i].clean,
               c->inputs + (size_t)asked * preprocess_size(&c->model->pre));
    c->asked[asked++] = i;
  }
  if (asked) cn_predict(c->predictor, c->inputs, asked, c->outputs);
  for (int i = 0; i < asked; i++)
    class_row(c->model, c->outputs + (size_t)i * (size_t)c->model->classes,
              rows + (size_t)c->asked[i] * TALLY_CLASSES);
}

/* ---- what is seen of a picture --------------------------------------------------------------- */

/* Everything that later steps need of a picture. */
typedef struct sight {
  int readable, registered;
  char reason[160]; /* why it is not registered */
  tally_registration where;
  tally_cell *cells; /* [form->cells]; the journal keeps their state and dash only */
  float *rows;       /* [form->cells][TALLY_CLASSES] probabilities */
} sight;

static sight sight_make(const tally_template *form) {
  sight s;
  memset(&s, 0, sizeof s);
  s.cells = allocate((size_t)form->cells, sizeof *s.cells);
  s.rows = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *s.rows);
  return s;
}

static void sight_free(sight *s) {
  free(s->cells);
  free(s->rows);
}

static void see(classifier *c, const char *path, const tally_template *form, int raw, sight *out) {
  tally_image photo;
  const char *reason = form_register(path, form, &photo, &out->where);
  out->readable = photo.pixels != NULL;
  out->registered = !reason;
  snprintf(out->reason, sizeof out->reason, "%s", reason ? reason : "");
  if (!reason) {
    if (tally_cut(&photo, form, &out->where, out->cells) != TALLY_OK) fail("out of memory");
    classify(c, out->cells, form->cells, raw, out->rows);
  }
  tally_image_free(&photo);
}

/* ---- the journal ----------------------------------------------------------------------------- */

/* A header, then records in the order in which they were finished:
     length (4 bytes), checksum of what follows (8), picture's size (8) and time (8), name, sight
   A record that a kill cut short fails its checksum, and all behind it is dropped. The header names
   what the sights depend on; a journal with another one is started anew. */
#define JOURNAL_MAGIC "tally-read journal 1\n"
#define RECORD_HEADER 12

typedef struct journal {
  int file;
  char *path;
  off_t end;
  off_t *at; /* [form_count(list)] where a tally's record lies; 0: nowhere */
} journal;

/* FNV-1a, continued. */
static uint64_t checksum(uint64_t sum, const void *bytes, size_t count) {
  const uint8_t *at = bytes;
  for (size_t i = 0; i < count; i++) sum = (sum ^ at[i]) * 0x100000001B3u;
  return sum;
}
#define CHECKSUM_START 0xCBF29CE484222325u

static uint64_t checksum_file(uint64_t sum, const char *path) {
  size_t size;
  char *bytes = read_file(path, &size);
  sum = checksum(sum, bytes, size);
  free(bytes);
  return sum;
}

/* Of all that a sight depends on but the picture: template, model, how cells are fed, this program.
   */
static uint64_t sight_key(const char *template, size_t length, const model *m, int raw) {
  uint64_t key = checksum(CHECKSUM_START, template, length);
  key = checksum_file(key, m->path);
  key = checksum(key, &raw, sizeof raw);
  key = checksum(key, cn_isa_name(), strlen(cn_isa_name()));
  return is_file("/proc/self/exe") ? checksum_file(key, "/proc/self/exe") : key;
}

static void put(text_buffer *to, const void *bytes, size_t count) {
  text_append(to, bytes, count);
}

/* Takes bytes off the front of what is left; 0 if there are not enough. */
static int take(const char **from, size_t *left, void *to, size_t count) {
  if (*left < count) return 0;
  memcpy(to, *from, count);
  *from += count;
  *left -= count;
  return 1;
}

static void sight_put(text_buffer *to, const sight *s, const tally_template *form) {
  uint8_t flags = (uint8_t)(s->readable | s->registered << 1);
  put(to, &flags, 1);
  put(to, s->reason, sizeof s->reason);
  put(to, &s->where, offsetof(tally_registration, local));
  if (!s->registered) return;
  put(to, s->where.local, (size_t)form->fields * sizeof s->where.local[0]);
  for (int i = 0; i < form->cells; i++) {
    uint8_t seen = (uint8_t)((int)s->cells[i].state | s->cells[i].dash << 4);
    put(to, &seen, 1);
  }
  put(to, s->rows, (size_t)form->cells * TALLY_CLASSES * sizeof *s->rows);
}

static int sight_take(const char **from, size_t *left, const tally_template *form, sight *s) {
  uint8_t flags, seen;
  if (!take(from, left, &flags, 1) || !take(from, left, s->reason, sizeof s->reason) ||
      !take(from, left, &s->where, offsetof(tally_registration, local)))
    return 0;
  s->readable = flags & 1;
  s->registered = flags >> 1 & 1;
  if (!s->registered) return *left == 0;
  if (!take(from, left, s->where.local, (size_t)form->fields * sizeof s->where.local[0])) return 0;
  for (int i = 0; i < form->cells; i++) {
    if (!take(from, left, &seen, 1)) return 0;
    memset(&s->cells[i], 0, sizeof s->cells[i]);
    s->cells[i].state = (tally_cell_state)(seen & 15);
    s->cells[i].dash = seen >> 4;
  }
  return take(from, left, s->rows, (size_t)form->cells * TALLY_CLASSES * sizeof *s->rows) &&
         *left == 0;
}

/* A picture file as it is now; a changed one is seen again. */
typedef struct file_state {
  int64_t size, time;
} file_state;

static file_state file_state_of(const char *path) {
  struct stat status;
  if (stat(path, &status)) return (file_state){-1, -1};
  return (file_state){(int64_t)status.st_size,
                      (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec};
}

static void write_all(const journal *j, const char *bytes, size_t count, off_t at) {
  while (count) {
    ssize_t wrote = pwrite(j->file, bytes, count, at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail("cannot write %s: %s", j->path, strerror(errno));
    bytes += wrote;
    count -= (size_t)wrote;
    at += wrote;
  }
}

static text_buffer record_make(const char *name, file_state state, const sight *s,
                               const tally_template *form) {
  text_buffer body = {0}, record = {0};
  put(&body, &state, sizeof state);
  put(&body, name, strlen(name) + 1);
  sight_put(&body, s, form);
  uint32_t length = (uint32_t)body.length;
  uint64_t sum = checksum(CHECKSUM_START, body.data, body.length);
  put(&record, &length, sizeof length);
  put(&record, &sum, sizeof sum);
  put(&record, body.data, body.length);
  free(body.data);
  return record;
}

/* One thread at a time. */
static void journal_append(journal *j, int tally, const text_buffer *record) {
  write_all(j, record->data, record->length, j->end);
  j->at[tally] = j->end;
  j->end += (off_t)record->length;
}

/* The body of the record at a place; NULL if it is cut or damaged. */
static char *record_read(const journal *j, off_t at, size_t *length) {
  char header[RECORD_HEADER];
  uint32_t size;
  uint64_t sum;
  if (pread(j->file, header, sizeof header, at) != RECORD_HEADER) return NULL;
  memcpy(&size, header, sizeof size);
  memcpy(&sum, header + sizeof size, sizeof sum);
  if ((off_t)size > j->end - at - RECORD_HEADER) return NULL;
  char *body = allocate((size_t)size + 1, 1);
  *length = size;
  if (pread(j->file, body, size, at + RECORD_HEADER) == (ssize_t)size &&
      checksum(CHECKSUM_START, body, size) == sum && size > sizeof(file_state))
    return body;
  free(body);
  return NULL;
}

/* Finds the records of the pictures that are wanted and have not changed. */
static void journal_index(journal *j, const form_list *list) {
  off_t at = (off_t)strlen(JOURNAL_MAGIC) + (off_t)sizeof(uint64_t);
  size_t length;
  for (char *body; (body = record_read(j, at, &length)) != NULL; free(body)) {
    file_state then, now;
    memcpy(&then, body, sizeof then);
    int tally = form_list_find(list, body + sizeof then);
    if (tally >= 0 && !strcmp(list->names[tally], body + sizeof then)) {
      now = file_state_of(list->pictures.paths[tally]);
      j->at[tally] = now.size == then.size && now.time == then.time ? at : 0;
    }
    at += RECORD_HEADER + (off_t)length;
  }
  j->end = at;
}

static journal journal_open(const char *folder, const form_list *list, uint64_t key,
                            const settings *set) {
  journal j = {0};
  char *work = join_path(folder, ".work");
  char header[sizeof JOURNAL_MAGIC - 1 + sizeof key], found[sizeof header];
  memcpy(header, JOURNAL_MAGIC, sizeof JOURNAL_MAGIC - 1);
  memcpy(header + sizeof JOURNAL_MAGIC - 1, &key, sizeof key);
  make_folder(work);
  j.path = join_path(work, "journal");
  j.at = allocate((size_t)form_count(list), sizeof *j.at);
  j.file = open(j.path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (j.file < 0) fail("cannot write %s: %s", j.path, strerror(errno));
  ssize_t got = pread(j.file, found, sizeof found, 0);
  int same = got == (ssize_t)sizeof found && !memcmp(found, header, sizeof header);
  if (got > 0 && !same)
    inform("%s was made with another template, model or program: every picture is seen again", j.path);
  j.end = lseek(j.file, 0, SEEK_END);
  if (same && !set->again) journal_index(&j, list);
  else j.end = (off_t)sizeof header;
  if (ftruncate(j.file, j.end)) fail("cannot write %s: %s", j.path, strerror(errno));
  write_all(&j, header, sizeof header, 0);
  free(work);
  return j;
}

static void journal_close(journal *j) {
  if (close(j->file)) fail("cannot write %s: %s", j->path, strerror(errno));
  free(j->path);
  free(j->at);
}

static void journal_read(const journal *j, const tally_template *form, int tally, sight *out) {
  size_t length = 0;
  char *body = j->at[tally] ? record_read(j, j->at[tally], &length) : NULL;
  if (!body) fail("%s: it was changed while it was in use", j->path);
  const char *from = body + sizeof(file_state);
  from += strlen(from) + 1;
  size_t left = length - (size_t)(from - body);
  if (!sight_take(&from, &left, form, out)) fail("%s: a record is damaged; --again helps", j->path);
  free(body);
}

/* ---- seeing ---------------------------------------------------------------------------------- */

/* What a thread needs to see with; opened when it first does. */
typedef struct seer {
  classifier c;
  sight s;
} seer;

typedef struct seeing {
  const settings *set;
  const tally_template *form;
  const form_list *list;
  const model *model;
  journal *journal;
  seer *seers; /* for each thread */
  int *todo, count, done;
  progress bar;
  double started;
} seeing;

static void see_one(void *context, int k, int thread) {
  seeing *all = context;
  seer *by = &all->seers[thread];
  int i = all->todo[k];
  char figures[96];
  if (!by->c.model) {
    by->c = classifier_open(all->model, all->form->cells);
    by->s = sight_make(all->form);
  }
  file_state state = file_state_of(all->list->pictures.paths[i]);
  see(&by->c, all->list->pictures.paths[i], all->form, all->set->raw, &by->s);
  text_buffer record = record_make(all->list->names[i], state, &by->s, all->form);
  work_lock();
  journal_append(all->journal, i, &record);
  all->done++;
  snprintf(figures, sizeof figures, "%d of %d  %.1f tallies/s", all->done, all->count,
           all->done / fmax(seconds_now() - all->started, 1e-9));
  progress_draw(&all->bar, "reading", (double)all->done / all->count, figures);
  work_unlock();
  free(record.data);
}

static void see_all(const settings *set, const tally_template *form, const form_list *list,
                    const model *m, journal *j) {
  int threads = use_threads(0);
  seeing all = {.set = set, .form = form, .list = list, .model = m, .journal = j};
  all.todo = allocate((size_t)form_count(list), sizeof(int));
  for (int i = 0; i < form_count(list); i++)
    if (!j->at[i]) all.todo[all.count++] = i;
  if (all.count < form_count(list))
    inform("%d of %d pictures were seen before", form_count(list) - all.count, form_count(list));
  all.seers = allocate((size_t)threads, sizeof *all.seers);
  all.bar = progress_start();
  all.started = seconds_now();
  share_work(all.count, see_one, &all);
  progress_wipe();
  for (int i = 0; i < threads; i++) {
    if (!all.seers[i].c.model) continue;
    sight_free(&all.seers[i].s);
    classifier_close(&all.seers[i].c);
  }
  free(all.seers);
  free(all.todo);
}

/* ---- official counts and corrections --------------------------------------------------------- */

#define NO_CORRECTION (-2)    /* TALLY_NO_VALUE: corrected to nothing written */

/* One number per count of the run, from a table tally,field,value. */
typedef struct count_table {
  int *values; /* [form_count(list)][form->fields] */
  int rows, unknown_tallies, unknown_fields;
} count_table;

static int table_value(const csv *table, const char *text, const tally_field *field) {
  char *end;
  long value = strtol(text, &end, 10), most = (long)(pow(10, field->digits) + 0.5) - 1;
  if (end == text || *end || value < 0 || value > INT_MAX - 1)
    fail("%s: line %d: \"%s\" is not a count", table->path, table->line, text);
  if (value > most)
    fail("%s: line %d: %ld has more than the %d digits of %s", table->path, table->line, value,
         field->digits, field->name);
  return (int)value;
}

/* absent fills what the table does not name; of what an empty value means, see --help. */
static count_table count_table_read(const char *path, const tally_template *form,
                                    const form_list *list, int absent, int strict) {
  count_table out = {0};
  size_t count = (size_t)form_count(list) * (size_t)form->fields;
  out.values = allocate(count, sizeof(int));
  for (size_t i = 0; i < count; i++) out.values[i] = absent;
  csv table = csv_open(path);
  int tally_column = csv_column(&table, "tally"), field_column = csv_column(&table, "field");
  int value_column = csv_column(&table, "value");
  while (csv_row(&table)) {
    int tally = form_list_find_row(list, &table, table.fields[tally_column]);
    int field = tally_template_field(form, table.fields[field_column]);
    const char *text = table.fields[value_column];
    if (strict && field < 0)
      fail("%s: line %d: the template has no field \"%s\"", path, table.line,
           table.fields[field_column]);
    out.unknown_tallies += tally < 0;
    out.unknown_fields += field < 0;
    if (tally < 0 || field < 0) continue;
    int *place = &out.values[(size_t)tally * (size_t)form->fields + (size_t)field];
    int value = *text ? table_value(&table, text, &form->field[field]) : TALLY_NO_VALUE;
    if (*place != absent && *place != value)
      fail("%s: line %d: %s of %s was given another value before", path, table.line,
           form->field[field].name, list->names[tally]);
    *place = value;
    out.rows++;
  }
  csv_close(&table);
  return out;
}

/* Says what of a table was of no use. */
static void count_table_say(const char *path, const count_table *table) {
  if (!table->rows) say("%s: no row is about these tallies", path);
  if (table->unknown_tallies)
    say("%s: %d rows are about other tallies", path, table->unknown_tallies);
  if (table->unknown_fields)
    say("%s: %d rows are about fields that the template does not have", path,
        table->unknown_fields);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* All that the second half of a run works on. */
typedef struct run {
  const settings *set;
  const tally_template *form;
  const form_list *list;
  const model *model;
  const journal *journal;
  count_table official, corrections;
} run;

static int correction_of(const run *r, int tally, int field) {
  if (!r->corrections.values) return NO_CORRECTION;
  return r->corrections.values[(size_t)tally * (size_t)r->form->fields + (size_t)field];
}

static int corrected_fields(const run *r, int tally) {
  int count = 0;
  for (int f = 0; f < r->form->fields; f++) count += correction_of(r, tally, f) != NO_CORRECTION;
  return count;
}

/* Writes a person's value into the cells, so that it also decides about the rest of the sum. */
static void write_value(const tally_field *field, int value, tally_cell *cells, double *classes) {
  for (int p = field->digits - 1; p >= 0; p--) {
    int cell = field->first_cell + p, blank = value == TALLY_NO_VALUE;
    double *row = classes + (size_t)cell * TALLY_CLASSES;
    memset(row, 0, TALLY_CLASSES * sizeof *row);
    row[blank ? TALLY_CLASS_EMPTY : value % 10] = 1;
    memset(&cells[cell], 0, sizeof cells[cell]);
    cells[cell].state = blank ? TALLY_CELL_EMPTY : TALLY_CELL_INK;
    if (!blank) value /= 10;
  }
}

static void write_unread(const tally_template *form, tally_cell *cells, double *classes) {
  for (int i = 0; i < form->cells; i++) {
    memset(&cells[i], 0, sizeof cells[i]);
    cells[i].state = TALLY_CELL_INK;
    memset(classes + (size_t)i * TALLY_CLASSES, 0, TALLY_CLASSES * sizeof *classes);
    classes[(size_t)i * TALLY_CLASSES + TALLY_CLASS_ILLEGIBLE] = 1;
  }
}

/* A person's word is final, even where it does not add up. */
static void settle_corrections(const run *r, int tally, tally_counts *counts) {
  for (int f = 0; f < r->form->fields; f++) {
    int value = correction_of(r, tally, f);
    tally_count *count = &counts->count[f];
    if (value == NO_CORRECTION) continue;
    count->status = value == TALLY_NO_VALUE ? TALLY_COUNT_MISSING : TALLY_COUNT_OK;
    count->value = value;
    count->probability = 1;
    count->second = TALLY_NO_VALUE;
    count->second_probability = 0;
    snprintf(count->reason, sizeof count->reason, "corrected by a person");
  }
}

/* The counts of a tally; 0 if it was not registered and nobody typed it in. The cells of s are left
   as they were seen. */
static int decode(const run *r, int tally, const sight *s, tally_counts *counts) {
  const tally_template *form = r->form;
  memset(counts, 0, sizeof *counts);
  if (!s->registered && !corrected_fields(r, tally)) return 0;
  tally_cell *cells = allocate((size_t)form->cells, sizeof *cells);
  double *classes = allocate((size_t)form->cells * TALLY_CLASSES, sizeof *classes);
  tally_decode_options options = {0};
  options.temperature = r->model->temperature;
  options.risk = r->set->risk;
  if (s->registered) {
    memcpy(cells, s->cells, (size_t)form->cells * sizeof *cells);
    for (int i = 0; i < form->cells * TALLY_CLASSES; i++) classes[i] = (double)s->rows[i];
  } else {
    write_unread(form, cells, classes);
  }
  for (int f = 0; f < form->fields; f++)
    if (correction_of(r, tally, f) != NO_CORRECTION)
      write_value(&form->field[f], correction_of(r, tally, f), cells, classes);
  tally_result result = tally_decode(form, classes, cells, &options, counts);
  if (result != TALLY_OK) fail("%s: %s", r->list->names[tally], tally_result_text(result));
  settle_corrections(r, tally, counts);
  free(cells);
  free(classes);
  return 1;
}

/* A sum that fails has been looked at when a person has confirmed all its counts. */
static int sum_needs_look(const tally_template *form, int s, const tally_counts *counts) {
  const tally_sum *sum = &form->sum[s];
  for (int i = 0; i <= sum->parts; i++)
    if (counts->count[i < sum->parts ? sum->part[i] : sum->total].status == TALLY_COUNT_REVIEW)
      return 1;
  return 0;
}

/* Why a read tally needs a look, in one sentence; NULL if it does not. */
static char *tally_reason(const tally_template *form, const tally_counts *counts,
                          report_form *out) {
  text_buffer reason = {0};
  int missing = 0, named = 0;
  for (int s = 0; s < form->sums; s++) {
    out->fails += counts->sum[s].state == TALLY_SUM_FAILS;
    out->unchecked += counts->sum[s].state == TALLY_SUM_UNCHECKED;
    if (counts->sum[s].state == TALLY_SUM_FAILS && sum_needs_look(form, s, counts))
      text_add(&reason, "%s%s does not add up", reason.length ? "; " : "",
               form->field[form->sum[s].total].name);
  }
  for (int f = 0; f < form->fields; f++) {
    tally_count_status status = counts->count[f].status;
    missing += status == TALLY_COUNT_MISSING;
    out->looks += status == TALLY_COUNT_REVIEW || status == TALLY_COUNT_UNREAD;
    out->least = fminf(out->least, (float)counts->count[f].probability);
  }
  for (int f = 0; f < form->fields; f++) {
    tally_count_status status = counts->count[f].status;
    if (status != TALLY_COUNT_REVIEW && status != TALLY_COUNT_UNREAD) continue;
    if (failing_sum_of(form, counts, f) >= 0) continue;
    if (named++ < 4)
      text_add(&reason, "%s%s: %s", reason.length ? "; " : "", form->field[f].name,
               counts->count[f].reason);
  }
  if (named > 4) text_add(&reason, "; and %d more", named - 4);
  if (missing == form->fields) text_add(&reason, "nothing is written in any cell");
  return reason.data;
}

/* A tally's place in the report and its counts. */
static void note_tally(const run *r, int tally, const sight *s, const tally_counts *counts,
                       int decoded, report *to) {
  report_form *form = &to->forms[tally];
  report_count *row = &to->counts[(size_t)tally * (size_t)r->form->fields];
  form->least = 1;
  form->residual = s->where.residual;
  form->quality = -1;
  form->readable = s->readable;
  for (int f = 0; f < r->form->fields; f++) {
    int official = r->official.values
                       ? r->official.values[(size_t)tally * (size_t)r->form->fields + (size_t)f]
                       : NO_OFFICIAL;
    row[f] = (report_count){TALLY_NO_VALUE, official, 0, TALLY_COUNT_UNREAD, 0};
    if (!decoded) continue;
    row[f].value = counts->count[f].value;
    row[f].probability = (float)counts->count[f].probability;
    row[f].status = (uint8_t)counts->count[f].status;
    row[f].corrected = correction_of(r, tally, f) != NO_CORRECTION;
  }
  if (!decoded) {
    form->verdict = FORM_UNREAD;
    form->reason = copy_text(s->reason);
    return;
  }
  form->quality = s->registered ? counts->quality : -1;
  form->high = counts->high_quality;
  form->reason = tally_reason(r->form, counts, form);
  form->verdict = form->reason ? FORM_LOOK : FORM_ACCEPTED;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void write_count_rows(FILE *file, const run *r, int tally, const tally_counts *counts,
                             int decoded, const char *reason) {
  for (int f = 0; f < r->form->fields; f++) {
    const tally_count *count = &counts->count[f];
    csv_write(file, r->list->names[tally]);
    fprintf(file, ",%s,", r->form->field[f].name);
    if (!decoded) {
      fputs(",,,unread,,,", file);
      csv_write(file, reason);
      fputs(",0\n", file);
      continue;
    }
    if (count->value >= 0) fprintf(file, "%d", count->value);
    fprintf(file, ",%.6f,%.6f,%s,", count->probability, count->quality,
            tally_count_status_text(count->status));
    if (count->second >= 0) fprintf(file, "%d,%.6f", count->second, count->second_probability);
    else putc(',', file);
    putc(',', file);
    csv_write(file, count->reason);
    fprintf(file, ",%d\n", correction_of(r, tally, f) != NO_CORRECTION);
  }
}

#define CHUNK 64 /* tallies decoded between two writes */

typedef struct decoding {
  const run *r;
  int first; /* tally */
  sight sights[CHUNK];
  tally_counts *counts; /* [CHUNK] */
  int decoded[CHUNK];
} decoding;

static void decode_one(void *context, int k, int thread) {
  decoding *d = context;
  (void)thread;
  journal_read(d->r->journal, d->r->form, d->first + k, &d->sights[k]);
  d->decoded[k] = decode(d->r, d->first + k, &d->sights[k], &d->counts[k]);
}

/* Decodes every tally in order, from the journal: writes counts.csv, adds up the totals, fills in
   the report. */
static void read_all(const run *r, report *to) {
  char *path = join_path(r->set->out, "counts.csv");
  output out = output_open(path);
  progress bar = progress_start();
  decoding d = {.r = r};
  d.counts = allocate(CHUNK, sizeof *d.counts);
  for (int k = 0; k < CHUNK; k++) d.sights[k] = sight_make(r->form);
  fputs("tally,field,value,probability,quality,status,second_value,second_probability,reason,"
        "corrected\n", out.file);
  for (; d.first < form_count(r->list); d.first += CHUNK) {
    int now = form_count(r->list) - d.first < CHUNK ? form_count(r->list) - d.first : CHUNK;
    share_work(now, decode_one, &d);
    for (int k = 0; k < now; k++) {
      int i = d.first + k;
      note_tally(r, i, &d.sights[k], &d.counts[k], d.decoded[k], to);
      write_count_rows(out.file, r, i, &d.counts[k], d.decoded[k], to->forms[i].reason);
      if (tally_totals_add(&to->totals, d.decoded[k] ? &d.counts[k] : NULL) != TALLY_OK)
        fail("out of memory");
      tally_counts_free(&d.counts[k]);
    }
    progress_draw(&bar, "adding up", (double)(d.first + now) / form_count(r->list), "");
  }
  if (tally_totals_finish(&to->totals) != TALLY_OK) fail("out of memory");
  progress_wipe();
  for (int k = 0; k < CHUNK; k++) sight_free(&d.sights[k]);
  free(d.counts);
  output_close(&out);
  free(path);
}

static const char *const verdict_names[] = {"ok", "review", "unread"};

static const char *sums_text(const tally_template *form, const report_form *f) {
  if (f->verdict == FORM_UNREAD) return "";
  return !form->sums ? "none" : f->fails ? "fails" : f->unchecked ? "unchecked" : "holds";
}

static void write_tallies(const run *r, const report *from) {
  char *path = join_path(r->set->out, "tallies.csv");
  output out = output_open(path);
  fputs("tally,status,quality,residual_px,sums,class,reason\n", out.file);
  for (int i = 0; i < form_count(r->list); i++) {
    const report_form *f = &from->forms[i];
    csv_write(out.file, r->list->names[i]);
    fprintf(out.file, ",%s,", verdict_names[f->verdict]);
    if (f->quality >= 0) fprintf(out.file, "%.6f", f->quality);
    putc(',', out.file);
    if (f->residual >= 0) fprintf(out.file, "%.3f", f->residual);
    fprintf(out.file, ",%s,%s,", sums_text(r->form, f),
            f->quality < 0 ? ""
            : f->high      ? "high"
                           : "moderate");
    csv_write(out.file, f->reason ? f->reason : "");
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

/* Of a field that could be read on no tally nothing is known: that is no total of 0. */
static void write_total(FILE *file, const tally_total *t) {
  if (t->read + t->missing)
    fprintf(file, "%lld,%.0f,%.0f,%.6f,%.6f,%.6f,%.1f", (long long)t->votes, t->low, t->high,
            t->share, t->share_low, t->share_high, t->estimate);
  else fputs("unknown,unknown,unknown,unknown,unknown,unknown,unknown", file);
}

static void write_totals(const run *r, const report *from) {
  char *path = join_path(r->set->out, "totals.csv");
  output out = output_open(path);
  fputs("field,votes,low,high,share,share_low,share_high,estimate,read,missing,unread,quality_votes,"
        "quality_low,quality_high,quality_share,quality_share_low,quality_share_high,"
        "quality_estimate\n",
        out.file);
  for (int f = 0; f < r->form->fields; f++) {
    tally_total all, high;
    if (tally_totals_get(&from->totals, TALLY_ALL, f, NULL, &all) != TALLY_OK ||
        tally_totals_get(&from->totals, TALLY_HIGH_QUALITY, f, NULL, &high) != TALLY_OK)
      fail("out of memory");
    fprintf(out.file, "%s,", r->form->field[f].name);
    write_total(out.file, &all);
    fprintf(out.file, ",%d,%d,%d,", all.read, all.missing, all.unread);
    write_total(out.file, &high);
    putc('\n', out.file);
  }
  output_close(&out);
  free(path);
}

/* ---- the page -------------------------------------------------------------------------------- */

/* A form's part of the page. Its picture is decoded again: keeping all of them until it is known
   which ones need a look would take more memory than time is lost. */
static text_buffer show_form(const run *r, const report *from, int tally) {
  text_buffer html = {0};
  sight s = sight_make(r->form);
  tally_counts counts;
  tally_image photo = {0};
  journal_read(r->journal, r->form, tally, &s);
  int decoded = decode(r, tally, &s, &counts);
  if (s.registered && !form_read(r->list->pictures.paths[tally], r->form, &photo) &&
      tally_cut(&photo, r->form, &s.where, s.cells) != TALLY_OK)
    fail("out of memory");
  page_form(&html, from, tally, decoded ? &counts : NULL, s.registered ? &s.where : NULL,
            photo.pixels ? &photo : NULL, s.registered ? s.cells : NULL);
  tally_image_free(&photo);
  tally_counts_free(&counts);
  sight_free(&s);
  return html;
}

/* Forms in the order in which they need a look. */
typedef struct queued {
  const report_form *form;
  int index;
} queued;

static int compare_queued(const void *a, const void *b) {
  const queued *x = a, *y = b;
  const report_form *f = x->form, *g = y->form;
  if (f->verdict != g->verdict) return (int)g->verdict - (int)f->verdict;
  if (!f->fails != !g->fails) return g->fails ? 1 : -1;
  if (f->looks != g->looks) return f->looks > g->looks ? -1 : 1;
  if (f->least < g->least || f->least > g->least) return f->least < g->least ? -1 : 1;
  return x->index - y->index;
}

static queued *review_queue(const report *from) {
  queued *queue = allocate((size_t)form_count(from->list), sizeof *queue);
  for (int i = 0; i < form_count(from->list); i++) queue[i] = (queued){&from->forms[i], i};
  qsort(queue, (size_t)form_count(from->list), sizeof *queue, compare_queued);
  return queue;
}

/* How many of the queue get pictures: unread forms have none to show and do not use up the limit.
   */
static int shown_forms(const queued *queue, int count, int pictures) {
  int shown = 0;
  for (int used = 0; shown < count; shown++) {
    used += queue[shown].form->verdict != FORM_UNREAD;
    if (used > pictures) break;
  }
  return shown;
}

typedef struct showing {
  const run *r;
  const report *from;
  const queued *queue;
  int first, shown, done;
  text_buffer part[CHUNK];
  progress bar;
} showing;

static void show_one(void *context, int k, int thread) {
  showing *s = context;
  (void)thread;
  s->part[k] = show_form(s->r, s->from, s->queue[s->first + k].index);
  work_lock();
  progress_draw(&s->bar, "report", (double)++s->done / s->shown, "");
  work_unlock();
}

static void write_page(const run *r, const report *from) {
  char *path = join_path(r->set->out, "report.html");
  output out = output_open(path);
  queued *queue = review_queue(from);
  int shown = shown_forms(queue, form_count(r->list), r->set->pictures);
  showing s = {.r = r, .from = from, .queue = queue, .shown = shown};
  s.bar = progress_start();
  text_buffer head = {0}, tail = {0};
  page_begin(&head, from, shown);
  fwrite(head.data, 1, head.length, out.file);
  for (; s.first < shown; s.first += CHUNK) {
    int now = shown - s.first < CHUNK ? shown - s.first : CHUNK;
    share_work(now, show_one, &s);
    for (int k = 0; k < now; k++) {
      fwrite(s.part[k].data, 1, s.part[k].length, out.file);
      free(s.part[k].data);
    }
  }
  progress_wipe();
  page_rest_begin(&tail, form_count(r->list) - shown);
  for (int k = shown; k < form_count(r->list); k++) page_rest(&tail, from, queue[k].index);
  page_end(&tail, from, form_count(r->list) - shown);
  fwrite(tail.data, 1, tail.length, out.file);
  output_close(&out);
  free(head.data);
  free(tail.data);
  free(queue);
  free(path);
}

/* ---- the run --------------------------------------------------------------------------------- */

static report report_open(const run *r) {
  report to;
  memset(&to, 0, sizeof to);
  to.form = r->form;
  to.list = r->list;
  to.forms = allocate((size_t)form_count(r->list), sizeof *to.forms);
  to.counts = allocate((size_t)form_count(r->list) * (size_t)r->form->fields, sizeof *to.counts);
  to.official = r->official.values != NULL;
  to.template_path = r->set->template;
  to.model_path = r->model->path;
  to.risk = r->set->risk;
  to.temperature = r->model->temperature;
  to.raw = r->set->raw;
  for (int s = 0; s < r->form->sums; s++) to.is_total[r->form->sum[s].total] = 1;
  if (tally_totals_begin(r->form, r->set->seed, &to.totals) != TALLY_OK) fail("out of memory");
  return to;
}

static void report_close(report *to) {
  for (int i = 0; i < form_count(to->list); i++) free(to->forms[i].reason);
  free(to->forms);
  free(to->counts);
  tally_totals_free(&to->totals);
}

static void print_summary(const run *r, const report *from) {
  char number[4][32];
  report_figures f = report_measure(from);
  printf("%s tallies: %s accepted, %s to look at, %s not read\n",
         thousands(form_count(r->list), number[0]),
         thousands(report_verdicts(from, FORM_ACCEPTED), number[1]),
         thousands(report_verdicts(from, FORM_LOOK), number[2]),
         thousands(report_verdicts(from, FORM_UNREAD), number[3]));
  printf("%lld counts: %lld accepted, %lld to look at, %lld with nothing written, %lld not read\n",
         f.counts, f.status[TALLY_COUNT_OK], f.status[TALLY_COUNT_REVIEW],
         f.status[TALLY_COUNT_MISSING], f.status[TALLY_COUNT_UNREAD]);
  if (f.compared)
    printf(
        "of %lld counts with an official value %.2f %% are right; of the %lld accepted, %lld are "
        "wrong (%.2f %%)\n",
        f.compared, 100.0 * (double)f.right / (double)f.compared, f.accepted, f.accepted_wrong,
        f.accepted ? 100.0 * (double)f.accepted_wrong / (double)f.accepted : 0);
  for (int k = 0; k < r->form->fields; k++) {
    tally_total all;
    tally_totals_get(&from->totals, TALLY_ALL, k, NULL, &all);
    if (!(all.read + all.missing)) {
      printf("  %-12s    unknown: it could be read on no tally\n", r->form->field[k].name);
      continue;
    }
    printf("  %-12s %10s read, %s to %s written", r->form->field[k].name,
           thousands(all.votes, number[0]), thousands((long long)all.low, number[1]),
           thousands((long long)all.high, number[2]));
    if (!from->is_total[k]) printf("  %6.2f %%", 100 * all.share);
    putchar('\n');
  }
  printf("report: %s/report.html\n", r->set->out);
}

static void print_result(const run *r, const report *from, double seconds) {
  text_buffer json = {0};
  report_figures f = report_measure(from);
  int unread = report_verdicts(from, FORM_UNREAD);
  json_integer(&json, "forms", form_count(r->list));
  json_integer(&json, "read", form_count(r->list) - unread);
  json_integer(&json, "flagged", report_verdicts(from, FORM_LOOK));
  json_integer(&json, "unread", unread);
  json_integer(&json, "counts", f.counts);
  json_integer(&json, "accepted", f.status[TALLY_COUNT_OK]);
  if (f.compared) {
    json_real(&json, "accuracy", (double)f.right / (double)f.compared);
    json_real(&json, "accepted_wrong",
              f.accepted ? (double)f.accepted_wrong / (double)f.accepted : 0);
  }
  left_out_json(&json, &r->list->pictures.left);
  json_real(&json, "seconds", seconds);
  json_print(&json);
}

static void say_unread(const report *from, left_out *left) {
  for (int i = 0; i < form_count(from->list); i++) {
    const report_form *f = &from->forms[i];
    if (!f->readable) left_out_add_unreadable(left, from->list->names[i], f->reason);
    else if (f->verdict == FORM_UNREAD) left_out_add_unregistered(left, from->list->names[i], f->reason);
  }
}

int main(int argc, char **argv) {
  tool_start();
  keep_freed_memory();
  double started = seconds_now();
  settings set = read_options(argc, argv);
  char *text;
  size_t length;
  tally_template *form = template_open(argv[0], set.template, &text, &length);
  model m = model_open(argv[0], &set);
  form_list list = form_list_open(argv + optind, argc - optind, set.flat);
  run r = {&set, form, &list, &m, NULL, {0}, {0}};
  if (set.official) {
    r.official = count_table_read(set.official, form, &list, NO_OFFICIAL, 0);
    count_table_say(set.official, &r.official);
  }
  if (set.corrections) {
    r.corrections = count_table_read(set.corrections, form, &list, NO_CORRECTION, 1);
    count_table_say(set.corrections, &r.corrections);
  }
  lock_folder(set.out);
  journal j = journal_open(set.out, &list, sight_key(text, length, &m, set.raw), &set);
  r.journal = &j;
  see_all(&set, form, &list, &m, &j);
  report all = report_open(&r);
  read_all(&r, &all);
  write_tallies(&r, &all);
  write_totals(&r, &all);
  write_page(&r, &all);
  say_unread(&all, &list.pictures.left);
  print_summary(&r, &all);
  print_result(&r, &all, seconds_now() - started);
  int used = form_count(&list) - report_verdicts(&all, FORM_UNREAD);
  report_close(&all);
  journal_close(&j);
  free(r.official.values);
  free(r.corrections.values);
  cn_network_free(m.net);
  free(m.path);
  form_list_free(&list);
  free(form);
  free(text);
  return end_after_pictures(used);
}
