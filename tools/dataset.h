/* dataset.h - labelled pictures to learn from and to judge by. */
#ifndef TALLY_DATASET_H
#define TALLY_DATASET_H

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "classes.h"
#include "csv.h"
#include "fingerprint.h"
#include "idx.h"
#include "left_out.h"
#include "gather.h"
#include "preprocess.h"
#include "progress.h"
#include "work.h"
#include "folder.h"

#define DATASET_CACHE_BYTES ((size_t)512 << 20)

/* A list of samples with labels. Bytes, not floats, are kept: four times less memory. Pictures from
   files are decoded once and kept up to cache_bytes; the rest are read again whenever they are
   needed. Neither changes what is delivered. */
typedef struct dataset {
  char *name; /* as the user gave it */
  class_list set;
  int count, capacity;
  int *labels;         /* [count], index into set */
  char **paths;        /* [count] picture files; NULL if the pictures came in one piece (IDX) */
  char *label_file;    /* IDX: where the labels are, for messages */
  fingerprint *prints; /* [count], of what was decoded: after dataset_prepare */
  fingerprint *groups; /* [count], of a CSV file's column of groups; NULL unless it was asked for */
  uint8_t *pixels;     /* [cached][height][width][channels]: of the first samples */
  int cached;
  int height, width, channels;
  left_out left;      /* files that are no samples, or could not be read */
  size_t cache_bytes; /* DATASET_CACHE_BYTES, unless changed before dataset_prepare */
  int keeps_originals; /* set before dataset_prepare: keep pictures as large as their files have them */
  picture *originals; /* [count] then; pixels NULL for one that did not fit into the cache */
} dataset;

static inline void dataset_free(dataset *data) {
  if (data->paths)
    for (int i = 0; i < data->count; i++) free(data->paths[i]);
  if (data->originals)
    for (int i = 0; i < data->count; i++) free(data->originals[i].pixels);
  free(data->originals);
  free(data->paths);
  free(data->labels);
  free(data->prints);
  free(data->groups);
  free(data->pixels);
  free(data->name);
  free(data->label_file);
  classes_free(&data->set);
  left_out_free(&data->left);
}

static inline void dataset_add(dataset *data, char *path, int label) {
  if (data->count == INT_MAX) fail("%s: too many pictures", data->name);
  if (data->count == data->capacity) {
    data->capacity = data->capacity > INT_MAX / 2 ? INT_MAX : data->capacity * 2 + 64;
    data->paths = reallocate(data->paths, (size_t)data->capacity, sizeof(char *));
    data->labels = reallocate(data->labels, (size_t)data->capacity, sizeof(int));
  }
  data->paths[data->count] = path;
  data->labels[data->count++] = label;
}

/* A sample's name in messages and tables: its path, or its number from 0. */
static inline const char *dataset_sample(const dataset *data, int index, char number[16]) {
  if (data->paths) return data->paths[index];
  snprintf(number, 16, "%d", index);
  return number;
}

static inline void dataset_open_idx(dataset *data, const char *folder, const char *part) {
  idx images = idx_read(folder, part, "images", 3), labels = idx_read(folder, part, "labels", 1);
  if (images.sizes[0] != labels.sizes[0])
    fail("%s has %u images, but %s %u labels", images.path, (unsigned)images.sizes[0], labels.path,
         (unsigned)labels.sizes[0]);
  data->count = (int)images.sizes[0];
  data->height = (int)images.sizes[1];
  data->width = (int)images.sizes[2];
  data->channels = 1;
  data->pixels = images.values;
  data->cached = data->count;
  data->labels = allocate((size_t)data->count, sizeof(int));
  int largest = 0;
  for (int i = 0; i < data->count; i++) {
    data->labels[i] = labels.values[i];
    if (data->labels[i] > largest) largest = data->labels[i];
  }
  data->set = classes_numbered(largest + 1);
  data->label_file = labels.path;
  free(labels.values);
  free(images.path);
}

/* Takes a folder of one class; one without a picture is none. */
static inline void dataset_add_class(dataset *data, const char *folder, const char *name,
                                     int flat) {
  listing list = {0};
  if (strchr(name, '\n')) fail("%s: a class name cannot hold a line end", folder);
  list.flat = flat;
  listing_add_folder(&list, folder);
  listing_settle(&list);
  if (list.count)
    classes_add(&data->set, name);
  else
    left_out_add(&data->left, "folder without pictures", folder);
  for (int i = 0; i < list.count; i++) dataset_add(data, list.paths[i], data->set.count - 1);
  left_out_merge(&data->left, &list.left);
  list.count = 0; /* the paths are the data set's now */
  listing_free(&list);
}

/* The folder that a folder lies in, for the caller to free; NULL for the highest. */
static inline char *folder_above(const char *folder) {
  identity here, there;
  char *above = join_path(folder, "..");
  if (identity_of(folder, &here) && identity_of(above, &there) && !identity_equal(here, there))
    return above;
  free(above);
  return NULL;
}

/* Whether a folder is one of some, or lies in one. */
static inline int lies_in(const identities *some, const char *folder) {
  char *at = copy_text(folder);
  int found = 0;
  for (identity key; at && !found;) {
    char *above = folder_above(at);
    found = identity_of(at, &key) && identities_find(some, key) >= 0;
    free(at);
    at = above;
  }
  free(at);
  return found;
}

/* Notes a folder and all that it lies in. */
static inline void note_folders_above(identities *some, const char *folder) {
  char *at = copy_text(folder);
  for (identity key; at;) {
    char *above = folder_above(at);
    if (identity_of(at, &key)) identities_add(some, key, 0);
    free(at);
    at = above;
  }
}

/* Why what lies in a data set's folder is no class; NULL if it is one. A link to a folder of another
   place is, but not one that leads back or into a class. */
static inline const char *no_class_reason(const char *path, const char *name,
                                          const identities *above, const identities *classes) {
  identity key;
  if (!identity_of(path, &key)) return "broken link";
  if (!is_folder(path))
    return decode_is_picture_name(name) && *name != '.' ? "picture in no class folder" : "";
  if (folder_reason(name)) return folder_reason(name);
  if (identities_find(above, key) >= 0) return "link to a folder";
  return is_symbolic_link(path) && lies_in(classes, path) ? "link to a folder" : NULL;
}

/* A class for each folder. */
static inline void dataset_open_folder(dataset *data, const char *folder, int flat) {
  int count;
  identity key;
  identities above = {0}, classes = {0};
  char **names = list_folder(folder, &count), **paths = allocate((size_t)count, sizeof(char *));
  note_folders_above(&above, folder);
  for (int k = 0; k < count; k++) {
    paths[k] = join_path(folder, names[k]);
    if (!is_symbolic_link(paths[k]) && is_folder(paths[k]) && identity_of(paths[k], &key))
      identities_add(&classes, key, 0);
  }
  for (int k = 0; k < count; k++) {
    const char *reason = no_class_reason(paths[k], names[k], &above, &classes);
    if (!reason) {
      if (identity_of(paths[k], &key)) identities_add(&classes, key, 0);
      dataset_add_class(data, paths[k], names[k], flat);
    } else if (*reason) {
      left_out_add(&data->left, reason, paths[k]);
    } else {
      left_out_add_ending(&data->left, paths[k]);
    }
    free(paths[k]);
    free(names[k]);
  }
  free(paths);
  free(names);
  identities_free(&above);
  identities_free(&classes);
}

/* One row of a list; a file of several pages is as many samples. group: NULL without groups. */
static inline void dataset_add_row(dataset *data, char *path, const char *label, const char *group,
                                   char ***labels) {
  int pages = picture_pages(path);
  listing_note(path);
  for (int page = 1; page <= pages; page++) {
    size_t count = (size_t)data->count + 1;
    text_buffer name = {0};
    *labels = reallocate(*labels, count, sizeof(char *));
    (*labels)[data->count] = copy_text(label);
    if (group) {
      data->groups = reallocate(data->groups, count, sizeof *data->groups);
      data->groups[data->count] = (fingerprint){{0, 0}};
      fingerprint_text(&data->groups[data->count], group);
    }
    if (pages > 1) text_add(&name, "%s#%d", path, page);
    dataset_add(data, pages > 1 ? name.data : copy_text(path), 0);
  }
}

static inline int compare_name_to(const void *key, const void *name) {
  return strcmp(key, *(char *const *)name);
}

/* The classes are the labels that occur, in order. */
static inline void dataset_name_classes(dataset *data, char **labels) {
  char **sorted = allocate((size_t)data->count, sizeof(char *));
  if (data->count) memcpy(sorted, labels, (size_t)data->count * sizeof(char *));
  qsort(sorted, (size_t)data->count, sizeof(char *), compare_names);
  for (int i = 0; i < data->count; i++)
    if (i == 0 || strcmp(sorted[i], sorted[i - 1])) classes_add(&data->set, sorted[i]);
  free(sorted);
  for (int i = 0; i < data->count; i++) {
    char **found = bsearch(labels[i], data->set.names, (size_t)data->set.count, sizeof(char *),
                           compare_name_to);
    data->labels[i] = (int)(found - data->set.names);
  }
}

/* group: the name of a column, or NULL. */
static inline void dataset_open_csv(dataset *data, const char *path, const char *group) {
  csv table = csv_open(path);
  int path_column = csv_column(&table, "path"), label_column = csv_column(&table, "label");
  int group_column = group ? csv_column(&table, group) : -1;
  char *folder = folder_of(path);
  char **labels = NULL;
  while (csv_row(&table)) {
    const char *label = csv_cell(&table, label_column);
    const char *value = group ? csv_cell(&table, group_column) : NULL;
    if (!*label) fail("%s: line %d: the label is empty", path, table.line);
    if (strchr(label, '\n')) fail("%s: line %d: a label cannot hold a line end", path, table.line);
    if (value && !*value) fail("%s: line %d: the %s is empty", path, table.line, group);
    char *file = csv_path(&table, path_column, folder);
    dataset_add_row(data, file, label, value, &labels);
    free(file);
  }
  dataset_name_classes(data, labels);
  for (int i = 0; i < data->count; i++) free(labels[i]);
  free(labels);
  free(folder);
  csv_close(&table);
}

/* Finds a data set's samples and labels, and says what it leaves out. IDX pictures are read now,
   others by dataset_prepare. group: the column of a CSV file that tells which samples belong
   together, or NULL. */
static inline dataset dataset_open(const char *spec, int flat, const char *group) {
  dataset data = {0};
  data.name = copy_text(spec);
  data.cache_bytes = DATASET_CACHE_BYTES;
  const char *colon = strrchr(spec, ':');
  int train = colon && !strcmp(colon, ":train"), test = colon && !strcmp(colon, ":test");
  if (group && (train || test || is_folder(spec)))
    fail("%s has no column \"%s\": groups are named in a CSV file with columns path, label, %s",
         spec, group, group);
  if (train || test) {
    char *folder = copy_text(spec);
    folder[colon - spec] = 0;
    if (!is_folder(folder)) fail("%s is not a folder", folder);
    dataset_open_idx(&data, folder, train ? "train" : "t10k");
    free(folder);
  } else if (is_folder(spec)) {
    dataset_open_folder(&data, spec, flat);
    if (!data.count)
      fail("%s: no class folders with pictures in it (for IDX files add :train or :test)", spec);
    left_out_say(&data.left);
  } else {
    dataset_open_csv(&data, spec, group);
    if (!data.count) fail("%s: lists no pictures", spec);
  }
  return data;
}

/* Renumbers labels by name, so that a folder which lacks a class does not shift the others. */
static inline void dataset_map(dataset *data, const class_list *set, const char *whose) {
  int *to = allocate((size_t)data->set.count, sizeof(int));
  for (int k = 0; k < data->set.count; k++) to[k] = classes_find(set, data->set.names[k]);
  for (int i = 0; i < data->count; i++) {
    int label = data->labels[i];
    if (to[label] >= 0) {
      data->labels[i] = to[label];
      continue;
    }
    if (data->label_file)
      fail("%s: byte %d: label %d of picture %d is out of range: %s has %d classes (%s to %s)",
           data->label_file, 8 + i, label, i, whose, set->count, set->names[0],
           set->names[set->count - 1]);
    fail("%s: class \"%s\" (%s) is not one of the %d classes of %s (%s to %s)", data->name,
         data->set.names[label], data->paths[i], set->count, whose, set->names[0],
         set->names[set->count - 1]);
  }
  free(to);
  classes_free(&data->set);
  for (int k = 0; k < set->count; k++) classes_add(&data->set, set->names[k]);
}

typedef struct idx_fitting {
  dataset *data;
  const preprocess *pre;
  uint8_t *fitted;
} idx_fitting;

/* An IDX picture with the network's channels, for the caller to free. */
static inline picture dataset_idx_picture(const idx_fitting *f, int i) {
  const dataset *data = f->data;
  size_t from = (size_t)data->height * (size_t)data->width;
  picture sample = {allocate(from, (size_t)f->pre->channels), data->height, data->width,
                    f->pre->channels};
  convert_channels(data->pixels + (size_t)i * from, 1, sample.pixels, sample.channels, from);
  return sample;
}

static inline void dataset_print_idx(void *context, int i, int thread) {
  const idx_fitting *f = context;
  picture sample = dataset_idx_picture(f, i);
  (void)thread;
  f->data->prints[i] = fingerprint_picture(&sample);
  free(sample.pixels);
}

static inline void dataset_fit_picture(void *context, int i, int thread) {
  const idx_fitting *f = context;
  picture sample = dataset_idx_picture(f, i);
  (void)thread;
  picture_resize(&sample, f->pre, f->fitted + (size_t)i * preprocess_size(f->pre));
  free(sample.pixels);
}

/* IDX pictures of another size than the network's are refused unless resizing was asked for: there
   it is more often a wrong network than a wish. */
static inline void dataset_fit_idx(dataset *data, const preprocess *pre, int resize) {
  if (data->height == pre->height && data->width == pre->width && data->channels == pre->channels)
    return;
  if (!resize)
    fail("%s: pictures are %dx%dx%d, the network's input is %dx%dx%d (--resize squash stretches)",
         data->name, data->height, data->width, data->channels, pre->height, pre->width,
         pre->channels);
  idx_fitting f = {data, pre, allocate((size_t)data->count, preprocess_size(pre))};
  share_work(data->count, dataset_fit_picture, &f);
  free(data->pixels);
  data->pixels = f.fitted;
}

/* Removes unreadable pictures if allowed, else stops; either way names and counts them. */
static inline void dataset_drop_bad(dataset *data, char **reasons, int bad, int skip_bad,
                                    size_t size) {
  int kept = 0, cached = 0;
  for (int i = 0; i < data->count; i++) {
    if (reasons[i]) {
      if (!skip_bad)
        fail("%s: %s%s (%d of %d pictures cannot be read; --skip-bad uses the rest)",
             data->paths[i], reasons[i], bad > 1 ? ", and others" : "", bad, data->count);
      left_out_add_unreadable(&data->left, data->paths[i], reasons[i]);
      free(data->paths[i]);
      continue;
    }
    data->paths[kept] = data->paths[i];
    data->labels[kept] = data->labels[i];
    data->prints[kept] = data->prints[i];
    if (data->groups) data->groups[kept] = data->groups[i];
    if (data->originals) data->originals[kept] = data->originals[i];
    if (i < data->cached) {
      if (kept < i)
        memcpy(data->pixels + (size_t)kept * size, data->pixels + (size_t)i * size, size);
      cached++;
    }
    kept++;
  }
  data->cached = cached;
  say("%s: %d of %d pictures cannot be read and are left out", data->name, bad, data->count);
  data->count = kept;
  if (!kept) fail("%s: no picture is left", data->name);
}

/* Keeps a picture as its file has it if it fits into what is left of the cache. */
static inline void dataset_keep_original(dataset *data, int i, picture original, size_t *used) {
  size_t bytes = (size_t)original.height * (size_t)original.width * (size_t)original.channels;
  work_lock();
  int fits = bytes <= data->cache_bytes - *used;
  if (fits) *used += bytes;
  work_unlock();
  if (fits)
    data->originals[i] = original;
  else
    free(original.pixels);
}

/* Reads sample i, takes its fingerprint, and keeps it, at the network's input size or as its file has
   it, if the cache has a place for it. Returns 0, or why it cannot be read. */
static inline const char *dataset_read_sample(dataset *data, int i, const preprocess *pre,
                                              size_t *used) {
  picture read = {0};
  const char *reason = picture_read(data->paths[i], pre->channels, PICTURE_MAX_PIXELS, &read);
  if (reason) return reason;
  data->prints[i] = fingerprint_picture(&read);
  if (data->keeps_originals) {
    dataset_keep_original(data, i, read, used);
    return NULL;
  }
  if (i < data->cached) picture_resize(&read, pre, data->pixels + (size_t)i * preprocess_size(pre));
  free(read.pixels);
  return NULL;
}

typedef struct picture_reading {
  dataset *data;
  const preprocess *pre;
  size_t used; /* of the cache */
  char **reasons;
  int bad, done;
  progress bar;
} picture_reading;

static inline void dataset_read_picture(void *context, int i, int thread) {
  picture_reading *r = context;
  const char *reason = dataset_read_sample(r->data, i, r->pre, &r->used);
  char figures[64];
  (void)thread;
  work_lock();
  if (reason) {
    r->reasons[i] = copy_text(reason);
    r->bad++;
  }
  snprintf(figures, sizeof figures, "%d of %d", ++r->done, r->data->count);
  progress_draw(&r->bar, "reading pictures", (double)r->done / r->data->count, figures);
  work_unlock();
}

/* Reads every picture once: finds the unreadable ones before training starts, takes fingerprints, and
   fills the cache. */
static inline void dataset_read_pictures(dataset *data, const preprocess *pre, int skip_bad) {
  size_t size = preprocess_size(pre), fitting = data->cache_bytes / size;
  if (data->keeps_originals) {
    data->originals = allocate((size_t)data->count, sizeof *data->originals);
  } else {
    data->cached = (size_t)data->count <= fitting ? data->count : (int)fitting;
    data->pixels = allocate((size_t)data->cached, size);
  }
  picture_reading r = {data, pre, 0, NULL, 0, 0, progress_start()};
  r.reasons = allocate((size_t)data->count, sizeof(char *));
  share_work(data->count, dataset_read_picture, &r);
  progress_wipe();
  if (r.bad) dataset_drop_bad(data, r.reasons, r.bad, skip_bad, size);
  for (int i = 0; i < data->count + r.bad; i++) free(r.reasons[i]);
  free(r.reasons);
}

/* Makes a data set ready for dataset_bytes. */
static inline void dataset_prepare(dataset *data, const preprocess *pre, int resize, int skip_bad) {
  data->prints = allocate((size_t)data->count, sizeof *data->prints);
  if (data->paths) {
    dataset_read_pictures(data, pre, skip_bad);
  } else {
    idx_fitting f = {data, pre, NULL};
    share_work(data->count, dataset_print_idx, &f);
    dataset_fit_idx(data, pre, resize);
  }
  data->height = pre->height;
  data->width = pre->width;
  data->channels = pre->channels;
}

/* A sample as large as its file has it if the data set keeps originals, else at the network's input
   size. *own tells that the pixels are the caller's to free. */
static inline picture dataset_original(const dataset *data, int index, const preprocess *pre,
                                       int *own) {
  picture out = {NULL, pre->height, pre->width, pre->channels};
  *own = 0;
  if (index < data->cached) {
    out.pixels = data->pixels + (size_t)index * preprocess_size(pre);
    return out;
  }
  if (data->originals && data->originals[index].pixels) return data->originals[index];
  const char *reason = picture_read(data->paths[index], pre->channels, PICTURE_MAX_PIXELS, &out);
  if (reason) fail("%s: %s (it could be read before)", data->paths[index], reason);
  *own = 1;
  return out;
}

/* The bytes of a sample at the network's input size; scratch has room for them. */
static inline const uint8_t *dataset_bytes(const dataset *data, int index, const preprocess *pre,
                                           uint8_t *scratch) {
  int own;
  if (index < data->cached) return data->pixels + (size_t)index * preprocess_size(pre);
  picture original = dataset_original(data, index, pre, &own);
  picture_resize(&original, pre, scratch);
  if (own) free(original.pixels);
  return scratch;
}

typedef struct input_making {
  const dataset *data;
  const int *indices; /* of the samples, or NULL */
  int first;
  const preprocess *pre;
  float *inputs;
  uint8_t *scratch; /* a picture for each thread, or NULL: all are cached */
} input_making;

static inline void dataset_make_input(void *context, int i, int thread) {
  const input_making *m = context;
  size_t size = preprocess_size(m->pre);
  int index = m->indices ? m->indices[m->first + i] : m->first + i;
  uint8_t *scratch = m->scratch ? m->scratch + (size_t)thread * size : NULL;
  preprocess_bytes(m->pre, dataset_bytes(m->data, index, m->pre, scratch),
                   m->inputs + (size_t)i * size);
}

/* Inputs for `count` samples without augmentation; indices NULL means first, first + 1, ... */
static inline void dataset_inputs(const dataset *data, const int *indices, int first, int count,
                                  const preprocess *pre, float *inputs) {
  input_making m = {data, indices, first, pre, inputs, NULL};
  if (data->cached < data->count)
    m.scratch = allocate((size_t)use_threads(0), preprocess_size(pre));
  share_work(count, dataset_make_input, &m);
  free(m.scratch);
}

#endif
