/* split.h - which samples of a data set belong together, and a split that keeps them on one side.

   Figures from pictures that were also learnt from say nothing. So samples of the same pixels (a file
   that is named twice is one case of that) and, if the user names a column, those of one tally, page
   or writer form a group, and a group lies on one side as a whole. */
#ifndef TALLY_SPLIT_H
#define TALLY_SPLIT_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "../convnet.h"
#include "dataset.h"
#include "fingerprint.h"
#include "memory.h"
#include "text.h"
#include "work.h"

#define SPLIT_NAMED 3 /* pictures or classes that a message calls by name */

/* ---- groups ---------------------------------------------------------------------------------- */

/* The groups of a data set's samples. */
typedef struct sample_groups {
  int *first; /* [samples] the first sample of each one's group */
  int count;  /* groups */
} sample_groups;

static inline void groups_free(sample_groups *groups) {
  free(groups->first);
}

typedef struct sample_key {
  fingerprint key;
  int sample;
} sample_key;

/* By key, those of one key in their order. */
static inline int compare_sample_keys(const void *a, const void *b) {
  const sample_key *x = a, *y = b;
  int order = fingerprint_compare(&x->key, &y->key);
  return order ? order : x->sample - y->sample;
}

/* Samples by their keys; for the caller to free. */
static inline sample_key *sorted_keys(const fingerprint *keys, int count) {
  sample_key *sorted = allocate((size_t)count, sizeof *sorted);
  for (int i = 0; i < count; i++) sorted[i] = (sample_key){keys[i], i};
  qsort(sorted, (size_t)count, sizeof *sorted, compare_sample_keys);
  return sorted;
}

/* The first sample of i's group while groups are being joined: `first` leads there in steps. */
static inline int first_of_group(int *first, int i) {
  for (; first[i] != i; i = first[i]) first[i] = first[first[i]];
  return i;
}

/* Joins the groups of samples with the same key. */
static inline void groups_join(sample_groups *groups, const fingerprint *keys, int count) {
  sample_key *sorted = sorted_keys(keys, count);
  for (int i = 1; i < count; i++) {
    if (fingerprint_compare(&sorted[i - 1].key, &sorted[i].key)) continue;
    int a = first_of_group(groups->first, sorted[i - 1].sample);
    int b = first_of_group(groups->first, sorted[i].sample);
    groups->first[a < b ? b : a] = a < b ? a : b;
  }
  groups->count = 0;
  for (int i = 0; i < count; i++) {
    groups->first[i] = first_of_group(groups->first, i);
    groups->count += groups->first[i] == i;
  }
  free(sorted);
}

/* Samples of the same pixels, of a data set that is prepared. */
static inline sample_groups groups_of_copies(const dataset *data) {
  sample_groups groups = {allocate((size_t)data->count, sizeof(int)), data->count};
  for (int i = 0; i < data->count; i++) groups.first[i] = i;
  groups_join(&groups, data->prints, data->count);
  return groups;
}

/* Those, and samples of the same value in the column of groups if the data set was opened with one. */
static inline sample_groups groups_of_samples(const dataset *data) {
  sample_groups groups = groups_of_copies(data);
  if (data->groups) groups_join(&groups, data->groups, data->count);
  return groups;
}

/* Says how many samples are copies of others, and which of them are labelled differently: one of the
   labels is wrong. */
static inline void say_copies(const dataset *data) {
  sample_groups groups = groups_of_copies(data);
  text_buffer names = {0};
  int contradictions = 0;
  if (groups.count < data->count)
    inform("%s: %d of %d pictures are copies of others", data->name, data->count - groups.count,
           data->count);
  for (int i = 0; i < data->count; i++) {
    int first = groups.first[i];
    char number[2][16];
    if (data->labels[i] == data->labels[first] || contradictions++ >= SPLIT_NAMED) continue;
    text_add(&names, "%s%s is labelled \"%s\", %s \"%s\"", contradictions > 1 ? "; " : "",
             dataset_sample(data, first, number[0]), data->set.names[data->labels[first]],
             dataset_sample(data, i, number[1]), data->set.names[data->labels[i]]);
  }
  if (contradictions)
    inform("%s: %d of %d pictures have another label than one of the same pixels: %s%s", data->name,
           contradictions, data->count, names.data, contradictions > SPLIT_NAMED ? "; ..." : "");
  free(names.data);
  groups_free(&groups);
}

/* How many samples of b show the same pixels as one of a. Both are prepared alike. */
static inline int count_common(const dataset *a, const dataset *b) {
  sample_key *in_a = sorted_keys(a->prints, a->count), *in_b = sorted_keys(b->prints, b->count);
  int common = 0;
  for (int i = 0, k = 0; i < b->count; i++) {
    int order = 1;
    while (k < a->count && (order = fingerprint_compare(&in_a[k].key, &in_b[i].key)) < 0) k++;
    common += order == 0;
  }
  free(in_a);
  free(in_b);
  return common;
}

/* ---- the split ------------------------------------------------------------------------------- */

/* Two parts of a data set, each in the order of its samples. */
typedef struct split {
  int *taken, taken_count; /* the share */
  int *rest, rest_count;
} split;

static inline void split_free(split *parts) {
  free(parts->taken);
  free(parts->rest);
}

/* What is known while groups are being taken. */
typedef struct splitting {
  const dataset *data;
  const sample_groups *groups;
  int *members, *begin,
      *size;             /* samples, those of a group together; where they begin, how many they
                                  are, by the group's first sample */
  char *is_mixed;        /* by the group's first sample: several classes are in it */
  char *is_taken;        /* by the group's first sample */
  double *have, *wanted; /* [classes] samples taken and to be taken */
} splitting;

static inline splitting splitting_start(const dataset *data, const sample_groups *groups) {
  size_t count = (size_t)data->count, classes = (size_t)data->set.count;
  splitting s = {data, groups, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
  s.members = allocate(count, sizeof(int));
  s.begin = allocate(count, sizeof(int));
  s.size = allocate(count, sizeof(int));
  s.is_mixed = allocate(count, 1);
  s.is_taken = allocate(count, 1);
  s.have = allocate(classes, sizeof(double));
  s.wanted = allocate(classes, sizeof(double));
  for (int i = 0; i < data->count; i++) s.size[groups->first[i]]++;
  for (int i = 0, at = 0; i < data->count; at += s.size[i++]) s.begin[i] = at;
  for (int i = 0; i < data->count; i++) s.size[i] = 0;
  for (int i = 0; i < data->count; i++) {
    int first = groups->first[i];
    s.members[s.begin[first] + s.size[first]++] = i;
    if (data->labels[i] != data->labels[first]) s.is_mixed[first] = 1;
  }
  return s;
}

static inline void splitting_free(splitting *s) {
  free(s->members);
  free(s->begin);
  free(s->size);
  free(s->is_mixed);
  free(s->is_taken);
  free(s->have);
  free(s->wanted);
}

/* Adds a group's samples to those that are taken, or takes them away again (step -1). Returns by how
   much that brings the classes further from what is wanted of them. */
static inline double count_group(splitting *s, int first, int step) {
  double further = 0;
  for (int m = 0; m < s->size[first]; m++) {
    int k = s->data->labels[s->members[s->begin[first] + m]];
    double before = fabs(s->have[k] - s->wanted[k]);
    s->have[k] += step;
    further += fabs(s->have[k] - s->wanted[k]) - before;
  }
  return further;
}

#define SPLIT_EXACTNESS 1e-6 /* of a sample: what rounds otherwise elsewhere changes no split */

/* Takes those of some groups, in a random order, that bring the classes nearer to what is wanted. */
static inline void take_groups(splitting *s, int *firsts, int count, uint64_t seed) {
  cn_random random = {seed, 0};
  cn_random_shuffle(&random, firsts, count);
  for (int i = 0; i < count; i++) {
    if (count_group(s, firsts[i], 1) < -SPLIT_EXACTNESS)
      s->is_taken[firsts[i]] = 1;
    else
      count_group(s, firsts[i], -1);
  }
}

/* Takes a share of the groups in which several classes are: of each class as near to it as they
   allow. */
static inline void take_mixed_groups(splitting *s, double share, uint64_t seed) {
  const dataset *data = s->data;
  int *firsts = allocate((size_t)data->count, sizeof(int)), count = 0;
  for (int i = 0; i < data->count; i++) {
    int first = s->groups->first[i];
    if (!s->is_mixed[first]) continue;
    s->wanted[data->labels[i]] += share;
    if (first == i) firsts[count++] = i;
  }
  take_groups(s, firsts, count, mix_seed(seed, (uint64_t)data->set.count));
  free(firsts);
}

/* Takes what a class lacks of its share. */
static inline void take_class(splitting *s, int class_index, double share, uint64_t seed) {
  const dataset *data = s->data;
  int *firsts = allocate((size_t)data->count, sizeof(int)), count = 0, samples = 0;
  for (int i = 0; i < data->count; i++) {
    if (data->labels[i] != class_index) continue;
    samples++;
    if (s->groups->first[i] == i && !s->is_mixed[i]) firsts[count++] = i;
  }
  s->wanted[class_index] = (double)lround(share * samples);
  take_groups(s, firsts, count, mix_seed(seed, (uint64_t)class_index));
  free(firsts);
}

/* Takes a share of the samples at random by seed: whole groups, and of each class as near to the share
   as its groups allow. */
static inline split split_groups(const dataset *data, const sample_groups *groups, double share,
                                 uint64_t seed) {
  splitting s = splitting_start(data, groups);
  split parts = {allocate((size_t)data->count, sizeof(int)), 0,
                 allocate((size_t)data->count, sizeof(int)), 0};
  take_mixed_groups(&s, share, seed);
  for (int k = 0; k < data->set.count; k++) take_class(&s, k, share, seed);
  for (int i = 0; i < data->count; i++) {
    if (s.is_taken[groups->first[i]])
      parts.taken[parts.taken_count++] = i;
    else
      parts.rest[parts.rest_count++] = i;
  }
  splitting_free(&s);
  return parts;
}

/* Number of groups with samples of a class. */
static inline int count_class_groups(const dataset *data, const sample_groups *groups,
                                     int class_index) {
  char *seen = allocate((size_t)data->count, 1);
  int count = 0;
  for (int i = 0; i < data->count; i++) {
    if (data->labels[i] != class_index || seen[groups->first[i]]) continue;
    seen[groups->first[i]] = 1;
    count++;
  }
  free(seen);
  return count;
}

/* Names the classes that have no sample in a part, as their groups are too few or too large. `purpose`
   is what the part is for. */
static inline void say_missing_classes(const dataset *data, const sample_groups *groups,
                                       const int *part, int count, const char *purpose) {
  int *inside = allocate((size_t)data->set.count, sizeof(int)), missing = 0;
  int *samples = allocate((size_t)data->set.count, sizeof(int));
  text_buffer names = {0};
  for (int i = 0; i < data->count; i++) samples[data->labels[i]]++;
  for (int i = 0; i < count; i++) inside[data->labels[part[i]]]++;
  for (int k = 0; k < data->set.count; k++) {
    if (!samples[k] || inside[k] || missing++ >= SPLIT_NAMED) continue;
    text_add(&names, "%s\"%s\" (pictures %d, groups %d)", missing > 1 ? ", " : "",
             data->set.names[k], samples[k], count_class_groups(data, groups, k));
  }
  if (missing)
    inform("%s: no picture to %s of %d of %d classes, whose groups are too few or too large: %s%s",
           data->name, purpose, missing, data->set.count, names.data,
           missing > SPLIT_NAMED ? ", ..." : "");
  free(names.data);
  free(inside);
  free(samples);
}

#endif
