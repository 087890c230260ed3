/* classifier.h - the network that says what is written in a cell. */
#ifndef TALLY_READ_CLASSIFIER_H
#define TALLY_READ_CLASSIFIER_H

#include <stdlib.h>
#include <string.h>

#include "../../convnet.h"
#include "../../tally.h"
#include "../classes.h"
#include "../templates.h"
#include "../preprocess.h"

/* Share of a cell with ink that goes to a class that the model lacks: a blank, a mark or a scrawl that it
   was never shown, or an alteration. */
#define UNKNOWN_MARK 0.005
#define UNKNOWN_ALTERATION 0.0001

/* A network and which of tally.h's classes its outputs are. */
typedef struct model {
  char *path;
  cn_network *net;
  preprocess pre;
  int classes, class_of[TALLY_CLASSES];
  int knows[TALLY_CLASSES];
  double temperature;
} model;

/* Names of tally.h's classes as models give them. */
static const char *const class_names[TALLY_CLASSES] = {
    "0", "1",     "2",     "3",         "4",    "5",          "6",       "7",          "8",
    "9", "cross", "empty", "illegible", "dash", "struck-out", "several", "overwritten"};

static inline int class_number(const char *name) {
  for (int k = 0; k < TALLY_CLASSES; k++)
    if (!strcmp(name, class_names[k])) return k;
  return -1;
}

static inline void model_classes(model *m) {
  static const char wanted[] = "the classes must be 0 to 9 and may be cross, empty, "
                               "illegible, dash, struck-out, several and overwritten";
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
  }
  classes_free(&names);
}

static inline double model_temperature(const model *m, double wanted) {
  const char *note = cn_network_note(m->net, "temperature");
  if (wanted > 0) return wanted;
  if (!note) return 1;
  float value;
  if (!parse_reals(note, &value, 1) || value < 0.05f || value > 20)
    fail("%s: note temperature: \"%s\" is not a number from 0.05 to 20", m->path, note);
  return (double)value;
}

/* The model at a path, or that which came with the program if it is NULL; temperature 0: as its notes
   say. */
static inline model model_open(const char *program, const char *path, double temperature) {
  model m = {0};
  cn_error error;
  m.path = path ? copy_text(path) : shared_file(program, "models", "tally.safetensors");
  if (!m.path)
    fail("no model: there is no examples/models/tally.safetensors beside the program (make model "
         "makes it), and --model was not given");
  m.net = cn_load(m.path, &error);
  if (!m.net) fail("%s", error.message);
  if (cn_network_node(m.net, cn_network_node_count(m.net) - 1)->op != CN_OP_SOFTMAX)
    fail("%s: the network does not end in softmax", m.path);
  m.pre = preprocess_load(m.net, m.path);
  model_classes(&m);
  m.temperature = model_temperature(&m, temperature);
  return m;
}

static inline void model_close(model *m) {
  cn_network_free(m->net);
  free(m->path);
}

/* Classifies cells; each thread has one of its own. */
typedef struct classifier {
  const model *model;
  cn_predictor *predictor;
  float *inputs, *outputs;
  int *asked; /* which cell each input is */
  uint8_t *fitted;
} classifier;

static inline classifier classifier_open(const model *m, int cells) {
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

static inline void classifier_close(classifier *c) {
  cn_predictor_free(c->predictor);
  free(c->inputs);
  free(c->outputs);
  free(c->asked);
  free(c->fitted);
}

/* A cell's picture as the network's input. */
static inline void cell_input(const classifier *c, const uint8_t *cell, float *to) {
  const preprocess *pre = &c->model->pre;
  uint8_t pixels[TALLY_SIDE * TALLY_SIDE * 3];
  picture sample = {pixels, TALLY_SIDE, TALLY_SIDE, pre->channels};
  convert_channels(cell, 1, pixels, pre->channels, TALLY_SIDE * TALLY_SIDE);
  picture_resize(&sample, pre, c->fitted);
  preprocess_bytes(pre, c->fitted, to);
}

/* The network's outputs in the order of tally.h's classes. An output that is not a number says
   nothing, so it stands for illegible. */
static inline void class_row(const model *m, const float *from, float *row) {
  float known = 1, sum = 0;
  for (int k = 0; k < TALLY_CLASSES; k++) {
    row[k] = m->knows[k]                  ? 0
             : k <= TALLY_CLASS_ILLEGIBLE ? (float)UNKNOWN_MARK
                                          : (float)UNKNOWN_ALTERATION;
    known -= row[k];
  }
  for (int i = 0; i < m->classes; i++) {
    row[m->class_of[i]] = known * from[i];
    sum += from[i];
  }
  if (sum > 0.5f && sum < 1.5f) return;
  memset(row, 0, TALLY_CLASSES * sizeof *row);
  row[TALLY_CLASS_ILLEGIBLE] = 1;
}

#define UNSEEN_SHARE                                                                               \
  0.1 /* of a cell that looks empty: something that cannot be read, before `written` */

/* Probabilities of every cell. What the cutter takes to be empty by far (`written` below .2) is not shown
   to the network, which knows no faint dirt: it is nothing, or something that cannot be read. */
static inline void classify(classifier *c, const tally_cell *cells, int count, int raw,
                            float *rows) {
  int asked = 0;
  for (int i = 0; i < count; i++) {
    float *row = rows + (size_t)i * TALLY_CLASSES;
    memset(row, 0, TALLY_CLASSES * sizeof *row);
    row[TALLY_CLASS_EMPTY] = 1 - (float)UNSEEN_SHARE;
    row[TALLY_CLASS_ILLEGIBLE] = (float)UNSEEN_SHARE;
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

#endif
