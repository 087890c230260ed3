/* journal.h - what was seen, kept from run to run.

   What is expensive happens once per picture; a run that was cut short goes on from here. */
#ifndef TALLY_READ_JOURNAL_H
#define TALLY_READ_JOURNAL_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../form_list.h"
#include "../output.h"
#include "../path.h"
#include "sight.h"
#include "../file.h"
#include "../folder.h"

/* A header, then records in the order in which they were finished:
     length (4 bytes), checksum of what follows (8), picture's size (8) and time (8), name, path, hash,
     sight
   A record that a kill cut short fails its checksum, and all behind it is dropped. The header names
   what the sights depend on; a journal with another one is started anew. */
#define JOURNAL_MAGIC "tally-read journal 3\n"
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

/* Of all that a sight depends on but the picture: template, reference print (NULL: none), model, how
   cells are fed, this program. */
static uint64_t sight_key(const char *template, size_t length, const tally_print *print,
                          const model *m, int raw) {
  uint64_t key = checksum(CHECKSUM_START, template, length);
  if (print) {
    key = checksum(key, print->picture.pixels,
                   (size_t)print->picture.width * (size_t)print->picture.height);
    for (int i = 0; i < print->labels; i++)
      key = checksum(key, &print->label[i], offsetof(tally_label, dots));
  }
  key = checksum_file(key, m->path);
  key = checksum(key, &raw, sizeof raw);
  key = checksum(key, cn_isa_name(), strlen(cn_isa_name()));
  return is_file("/proc/self/exe") ? checksum_file(key, "/proc/self/exe") : key;
}

static inline void put(text_buffer *to, const void *bytes, size_t count) {
  text_append(to, bytes, count);
}

/* Takes bytes off the front of what is left; 0 if there are not enough. */
static inline int take(const char **from, size_t *left, void *to, size_t count) {
  if (*left < count) return 0;
  memcpy(to, *from, count);
  *from += count;
  *left -= count;
  return 1;
}

static inline void sight_put(text_buffer *to, const sight *s, const tally_template *form) {
  uint8_t flags = (uint8_t)(s->readable | s->registered << 1);
  put(to, &flags, 1);
  put(to, s->reason, sizeof s->reason);
  put(to, &s->where, offsetof(tally_registration, local));
  if (!s->registered) return;
  put(to, s->where.local, (size_t)form->fields * sizeof s->where.local[0]);
  for (int i = 0; i < form->cells; i++) {
    uint8_t seen = (uint8_t)((int)s->cells[i].state | s->cells[i].dash << 4);
    const float evidence[] = {(float)s->cells[i].written, (float)s->cells[i].whole};
    put(to, &seen, 1);
    put(to, evidence, sizeof evidence);
  }
  put(to, s->rows, (size_t)form->cells * TALLY_CLASSES * sizeof *s->rows);
  put(to, s->sketches, (size_t)form->cells * sizeof *s->sketches);
}

static inline int sight_take(const char **from, size_t *left, const tally_template *form,
                             sight *s) {
  uint8_t flags, seen;
  if (!take(from, left, &flags, 1) || !take(from, left, s->reason, sizeof s->reason) ||
      !take(from, left, &s->where, offsetof(tally_registration, local)))
    return 0;
  s->readable = flags & 1;
  s->registered = flags >> 1 & 1;
  if (!s->registered) return *left == 0;
  if (!take(from, left, s->where.local, (size_t)form->fields * sizeof s->where.local[0])) return 0;
  for (int i = 0; i < form->cells; i++) {
    float evidence[2];
    if (!take(from, left, &seen, 1) || !take(from, left, evidence, sizeof evidence)) return 0;
    memset(&s->cells[i], 0, sizeof s->cells[i]);
    s->cells[i].state = (tally_cell_state)(seen & 15);
    s->cells[i].dash = seen >> 4;
    s->cells[i].written = (double)evidence[0];
    s->cells[i].whole = (double)evidence[1];
  }
  return take(from, left, s->rows, (size_t)form->cells * TALLY_CLASSES * sizeof *s->rows) &&
         take(from, left, s->sketches, (size_t)form->cells * sizeof *s->sketches) && *left == 0;
}

/* A picture file as it is now; a changed one is seen again, and always what is no regular file (size -1).
   */
typedef struct file_state {
  int64_t size, time;
} file_state;

static inline file_state file_state_of(const char *name) {
  char path[PATH_MAX];
  struct stat status;
  picture_page(name, path);
  if (stat(path, &status) || !S_ISREG(status.st_mode)) return (file_state){-1, -1};
  return (file_state){(int64_t)status.st_size,
                      (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec};
}

static inline void write_all(const journal *j, const char *bytes, size_t count, off_t at) {
  while (count) {
    ssize_t wrote = pwrite(j->file, bytes, count, at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail("cannot write %s: %s", j->path, strerror(errno));
    bytes += wrote;
    count -= (size_t)wrote;
    at += wrote;
  }
}

static inline text_buffer record_make(const char *name, const char *path, file_state state,
                                      const sight *s, const tally_template *form) {
  text_buffer body = {0}, record = {0};
  put(&body, &state, sizeof state);
  put(&body, name, strlen(name) + 1);
  put(&body, path, strlen(path) + 1);
  put(&body, s->hash, strlen(s->hash) + 1);
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
static inline void journal_append(journal *j, int tally, const text_buffer *record) {
  write_all(j, record->data, record->length, j->end);
  j->at[tally] = j->end;
  j->end += (off_t)record->length;
}

/* The body of the record at a place; NULL if it is cut or damaged. */
static inline char *record_read(const journal *j, off_t at, size_t *length) {
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

/* The texts in front of a record's sight. */
typedef struct record_head {
  file_state state;
  const char *name, *path, *hash;
  const char *sight;
} record_head;

static inline record_head record_head_of(const char *body) {
  record_head head;
  memcpy(&head.state, body, sizeof head.state);
  head.name = body + sizeof head.state;
  head.path = head.name + strlen(head.name) + 1;
  head.hash = head.path + strlen(head.path) + 1;
  head.sight = head.hash + strlen(head.hash) + 1;
  return head;
}

/* Whether a record is about a picture as it is now: its file has not changed, and where it lies
   elsewhere now, holds the same. */
static inline int record_is_of(const record_head *head, const char *path) {
  char hash[PICTURE_HASH];
  file_state now = file_state_of(path);
  if (now.size < 0 || now.size != head->state.size || now.time != head->state.time) return 0;
  if (!strcmp(path, head->path)) return 1;
  picture_hash(path, hash);
  return *hash && !strcmp(hash, head->hash);
}

/* Finds the records of the pictures that are wanted and have not changed. */
static inline void journal_index(journal *j, const form_list *list) {
  off_t at = (off_t)strlen(JOURNAL_MAGIC) + (off_t)sizeof(uint64_t);
  size_t length;
  for (char *body; (body = record_read(j, at, &length)) != NULL; free(body)) {
    record_head head = record_head_of(body);
    int tally = form_list_find(list, head.name);
    if (tally >= 0 && !strcmp(list->names[tally], head.name))
      j->at[tally] = record_is_of(&head, list->pictures.paths[tally]) ? at : 0;
    at += RECORD_HEADER + (off_t)length;
  }
  j->end = at;
}

/* The journal in an output folder, with what it holds of these pictures. again: nothing. */
static inline journal journal_open(const char *folder, const form_list *list, uint64_t key,
                                   int again) {
  journal j = {0};
  char *work = join_path(folder, ".work");
  char header[sizeof JOURNAL_MAGIC - 1 + sizeof key], found[sizeof header];
  memcpy(header, JOURNAL_MAGIC, sizeof JOURNAL_MAGIC - 1);
  memcpy(header + sizeof JOURNAL_MAGIC - 1, &key, sizeof key);
  make_folder(work);
  j.path = join_path(work, "journal");
  output_check(j.path);
  j.at = allocate((size_t)form_count(list), sizeof *j.at);
  j.file = open(j.path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (j.file < 0) fail("cannot write %s: %s", j.path, strerror(errno));
  ssize_t got = pread(j.file, found, sizeof found, 0);
  int same = got == (ssize_t)sizeof found && !memcmp(found, header, sizeof header);
  if (got > 0 && !same)
    inform("%s was made with another template, model or program: every picture is seen again",
           j.path);
  j.end = lseek(j.file, 0, SEEK_END);
  if (same && !again)
    journal_index(&j, list);
  else
    j.end = (off_t)sizeof header;
  if (ftruncate(j.file, j.end)) fail("cannot write %s: %s", j.path, strerror(errno));
  write_all(&j, header, sizeof header, 0);
  free(work);
  return j;
}

static inline void journal_close(journal *j) {
  if (close(j->file)) fail("cannot write %s: %s", j->path, strerror(errno));
  free(j->path);
  free(j->at);
}

/* The hash of each picture, for free with the list. */
static inline char (*journal_hashes(const journal *j, int count))[PICTURE_HASH] {
  char(*hashes)[PICTURE_HASH] = allocate((size_t)count, sizeof *hashes);
  size_t length;
  for (int i = 0; i < count; i++) {
    char *body = j->at[i] ? record_read(j, j->at[i], &length) : NULL;
    if (body) snprintf(hashes[i], PICTURE_HASH, "%s", record_head_of(body).hash);
    free(body);
  }
  return hashes;
}

static inline void journal_read(const journal *j, const tally_template *form, int tally,
                                sight *out) {
  size_t length = 0;
  char *body = j->at[tally] ? record_read(j, j->at[tally], &length) : NULL;
  if (!body) fail("%s: it was changed while it was in use", j->path);
  record_head head = record_head_of(body);
  const char *from = head.sight;
  snprintf(out->hash, sizeof out->hash, "%s", head.hash);
  size_t left = length - (size_t)(from - body);
  if (!sight_take(&from, &left, form, out)) fail("%s: a record is damaged; --again helps", j->path);
  free(body);
}

#endif
