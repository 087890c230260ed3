/* classes.h - the names of a network's outputs. */
#ifndef TALLY_CLASSES_H
#define TALLY_CLASSES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../convnet.h"
#include "preprocess.h"
#include "text.h"

/* Names of classes in the order of a network's outputs. */
typedef struct class_list {
  char **names;
  int count;
} class_list;

static inline int classes_find(const class_list *set, const char *name) {
  for (int i = 0; i < set->count; i++)
    if (!strcmp(set->names[i], name)) return i;
  return -1;
}

static inline int classes_equal(const class_list *a, const class_list *b) {
  if (a->count != b->count) return 0;
  for (int i = 0; i < a->count; i++)
    if (strcmp(a->names[i], b->names[i])) return 0;
  return 1;
}

#define MOST_CLASSES 16384 /* a confusion matrix has their square of cells: a gigabyte */

static inline void classes_add(class_list *set, const char *name) {
  if (set->count == MOST_CLASSES) fail("more than %d different classes", MOST_CLASSES);
  set->names = reallocate(set->names, (size_t)set->count + 1, sizeof(char *));
  set->names[set->count++] = copy_text(name);
}

/* 0, 1, 2, ... count - 1: the names of numbered classes, as in IDX files. */
static inline class_list classes_numbered(int count) {
  class_list set = {0};
  char name[16];
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "%d", i);
    classes_add(&set, name);
  }
  return set;
}

static inline void classes_free(class_list *set) {
  for (int i = 0; i < set->count; i++) free(set->names[i]);
  free(set->names);
  set->names = NULL;
  set->count = 0;
}

/* The note "classes": one name a line. */
static inline void classes_save(const class_list *set, cn_network *net) {
  text_buffer note = {0};
  for (int i = 0; i < set->count; i++) text_add(&note, "%s%s", i ? "\n" : "", set->names[i]);
  set_note(net, "classes", note.data);
  free(note.data);
}

/* Number of values that a network puts out. */
static inline int network_outputs(const cn_network *net) {
  cn_shape shape = cn_network_node(net, cn_network_node_count(net) - 1)->shape;
  return shape.height * shape.width * shape.channels;
}

/* Names of a network's outputs; numbers if it has none. */
static inline class_list classes_load(const cn_network *net, const char *name) {
  const char *note = cn_network_note(net, "classes");
  int outputs = network_outputs(net);
  if (!note) return classes_numbered(outputs);
  class_list set = {0};
  char *copy = copy_text(note);
  for (char *line = copy; line;) {
    char *end = strchr(line, '\n');
    if (end) *end = 0;
    classes_add(&set, line);
    line = end ? end + 1 : NULL;
  }
  free(copy);
  if (set.count != outputs)
    fail("%s: note classes has %d names, the network %d outputs", name, set.count, outputs);
  return set;
}

#endif
