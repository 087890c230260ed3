/* search.h - which pictures duplicate which.

   Each duplicate is linked to the first picture it resembles that is no duplicate itself, so that chains
   of resemblance do not grow into one group. All pictures are searched for at once, and what each thread
   finds does not depend on what others have found. */
#ifndef TALLY_DEDUP_SEARCH_H
#define TALLY_DEDUP_SEARCH_H

#include <stdint.h>
#include <stdlib.h>

#include "../memory.h"
#include "../picture.h"
#include "../progress.h"
#include "../work.h"
#include "crops.h"
#include "findings.h"
#include "glance.h"
#include "likeness.h"
#include "traits.h"

/* ---- exact duplicates ------------------------------------------------------------------------ */

static const traits *sorted_traits; /* what compare_contents looks at */

static inline int compare_contents(const void *a, const void *b) {
  int i = *(const int *)a, j = *(const int *)b;
  int order = fingerprint_compare(&sorted_traits[i].content, &sorted_traits[j].content);
  return order ? order : i - j;
}

static inline void find_exact(const traits *all, int count, finding *found) {
  int *order = allocate((size_t)count, sizeof(int)), readable = 0;
  for (int i = 0; i < count; i++)
    if (!all[i].reason) order[readable++] = i;
  sorted_traits = all;
  qsort(order, (size_t)readable, sizeof(int), compare_contents);
  for (int i = 1, run = 0; i < readable; i++) {
    if (fingerprint_compare(&all[order[i]].content, &all[order[run]].content))
      run = i;
    else
      found[order[i]] = (finding){EXACT, order[run], 0};
  }
  free(order);
}

/* ---- a search by all threads ----------------------------------------------------------------- */

/* How many pairs were looked at, and how closely. */
typedef struct effort {
  long long sketches, files;
} effort;

typedef struct search {
  const listing *list;
  const traits *all;
  finding *found;
  const char *compared;      /* of each picture, whether there is something to compare */
  int mirrored;              /* whether mirror images are copies */
  const point_index *points; /* of a search for crops */
  overlay **overlays;        /* of each thread */
  effort *spent;             /* [list->count] */
  void (*one)(struct search *s, int index, overlay *o);
  const char *what;
  progress bar;
  int done;
} search;

static inline void search_unit(void *context, int i, int thread) {
  search *s = context;
  char figures[64];
  if (!s->overlays[thread]) s->overlays[thread] = allocate(1, sizeof(overlay));
  s->one(s, i, s->overlays[thread]);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++s->done, s->list->count);
  progress_draw(&s->bar, s->what, (double)s->done / s->list->count, figures);
  work_unlock();
}

/* Calls one for each picture. */
static inline void search_all(search *s, void (*one)(search *s, int index, overlay *o),
                              const char *what) {
  s->one = one;
  s->what = what;
  s->bar = progress_start();
  s->done = 0;
  share_work(s->list->count, search_unit, s);
  progress_wipe();
}

static inline picture read_again(const search *s, int index) {
  picture out = {0};
  const char *reason = picture_read(s->list->paths[index], 3, DECODE_MAX_PIXELS, &out);
  if (reason) fail("%s: %s (it could be read before)", s->list->paths[index], reason);
  return out;
}

/* Which pictures are compared: those that can be read, show something, and are not exact copies. */
static inline char *choose_compared(const traits *all, const finding *found, int count) {
  char *out = allocate((size_t)count, 1);
  for (int i = 0; i < count; i++)
    out[i] = !all[i].reason && !all[i].plain && found[i].kind != EXACT;
  return out;
}

/* ---- near duplicates ------------------------------------------------------------------------- */

#define CORRELATION_LEAST                                                                          \
  0.5f /* of glances at copies: with 3 % cut off each side it is mostly above 0.7 */

/* A picture that others are compared with, as it is or mirrored; and its pixels, once they were asked
   for. */
typedef struct question {
  int index, mirrored;
  sketch drawn;
  glance seen;
  picture pixels;
} question;

static inline question ask(const search *s, int index, int mirrored) {
  question q = {index, mirrored, s->all[index].drawn, s->all[index].seen, {0}};
  if (!mirrored) return q;
  sketch_mirror(&s->all[index].drawn, &q.drawn);
  q.seen = glance_at(&q.drawn);
  return q;
}

static inline void free_question(question *q) {
  if (q->mirrored) free(q->drawn.cells);
  free(q->pixels.pixels);
}

/* How far the picture asked about differs from another: up to 1 if they are copies. */
static inline double compare(const search *s, question *q, int other, overlay *o) {
  const traits *candidate = &s->all[other];
  if (glance_correlation(&q->seen, &candidate->seen) < CORRELATION_LEAST) return 2;
  s->spent[q->index].sketches++;
  if (!sketches_agree(&candidate->drawn, &q->drawn, o)) return 2;
  s->spent[q->index].files++;
  if (!q->pixels.pixels) {
    q->pixels = read_again(s, q->index);
    if (q->mirrored) picture_mirror(&q->pixels);
  }
  picture read = read_again(s, other);
  double distance = pictures_differ(&read, &q->pixels, align_as_is(), o);
  free(read.pixels);
  return distance;
}

/* The first picture from `from` on, but before `index`, that it is a copy of; with firsts_only of those
   that are no duplicates. */
static inline finding find_first(const search *s, int index, int from, int firsts_only,
                                 overlay *o) {
  finding out = {UNIQUE, 0, 0};
  question asked[2];
  for (int m = 0; m <= s->mirrored; m++) asked[m] = ask(s, index, m);
  for (int i = from; i < index && out.kind == UNIQUE; i++) {
    if (!s->compared[i] || (firsts_only && s->found[i].kind != UNIQUE)) continue;
    for (int m = 0; m <= s->mirrored && out.kind == UNIQUE; m++) {
      double distance = compare(s, &asked[m], i, o);
      if (distance <= 1) out = (finding){m ? MIRRORED : NEAR, i, distance};
    }
  }
  for (int m = 0; m <= s->mirrored; m++) free_question(&asked[m]);
  return out;
}

static inline void find_near_of(search *s, int index, overlay *o) {
  if (s->compared[index]) s->found[index] = find_first(s, index, 0, 0, o);
}

/* All at once at first; where what a picture is linked to turns out to be a duplicate itself, the search
   goes on among those that are none. */
static inline void find_near(search *s) {
  search_all(s, find_near_of, "comparing pictures");
  for (int i = 0; i < s->list->count; i++) {
    finding *f = &s->found[i];
    if (s->compared[i] && f->kind != UNIQUE && s->found[f->first].kind != UNIQUE)
      *f = find_first(s, i, f->first + 1, 1, s->overlays[0]);
  }
}

/* ---- crops ----------------------------------------------------------------------------------- */

#define PLACE_TOLERANCE                                                                            \
  0.03                  /* of the other's longer side, by which points may be off their place */
#define CROP_LEAST 0.28 /* of the other's area: a third, and what is lost in measuring */

/* Whether a picture lies in another and shows so much less that it is no near duplicate. */
static inline int is_part(const alignment *at) {
  const span spans[2] = {at->across, at->down};
  for (int k = 0; k < 2; k++)
    if (spans[k].shift - spans[k].scale < -1 - CUT_MOST ||
        spans[k].shift + spans[k].scale > 1 + CUT_MOST)
      return 0;
  return at->across.scale * at->down.scale >= CROP_LEAST &&
         fmax(span_moved(at->across), span_moved(at->down)) > CUT_MOST;
}

/* Compares a picture with another of which it may show a part. */
static inline double compare_part(const search *s, int index, const match *m, int count,
                                  picture *pixels, overlay *o) {
  const sketch *own = &s->all[index].drawn, *other = &s->all[m->picture].drawn;
  placing where;
  alignment at = align_as_is();
  int longer = other->height > other->width ? other->height : other->width;
  if (count < AGREEING_LEAST ||
      find_placing(m, count, PLACE_TOLERANCE * longer, &where) < AGREEING_LEAST)
    return 2;
  at.across = span_of_placing(where.right, where.scale, own->width, other->width);
  at.down = span_of_placing(where.low, where.scale, own->height, other->height);
  if (!is_part(&at)) return 2;
  s->spent[index].files++;
  if (!pixels->pixels) *pixels = read_again(s, index);
  picture read = read_again(s, m->picture);
  double distance = pictures_differ(pixels, &read, at, o);
  free(read.pixels);
  return distance;
}

/* Links a picture to the first that shows more. */
static inline void find_crop_of(search *s, int index, overlay *o) {
  matches all = {0};
  picture pixels = {0};
  finding out = {UNIQUE, 0, 0};
  if (!s->compared[index] || s->found[index].kind != UNIQUE) return;
  find_matches(s->points, index, &s->all[index].marks, &all);
  for (int i = 0, next; i < all.count && out.kind == UNIQUE; i = next) {
    for (next = i; next < all.count && all.at[next].picture == all.at[i].picture;) next++;
    double distance = compare_part(s, index, all.at + i, next - i, &pixels, o);
    if (distance <= 1) out = (finding){CROP, all.at[i].picture, distance};
  }
  s->found[index] = out;
  free(pixels.pixels);
  free(all.at);
}

/* Makes the index of those that may be, or show, parts: all that are no duplicates yet. */
static inline point_index index_points(const search *s) {
  point_index x = {0};
  size_t count = 0;
  for (int i = 0; i < s->list->count; i++) count += (size_t)s->all[i].marks.count;
  x.points = allocate(count, sizeof *x.points);
  x.pictures = allocate(count, sizeof *x.pictures);
  for (int i = 0; i < s->list->count; i++)
    for (int k = 0; s->compared[i] && s->found[i].kind == UNIQUE && k < s->all[i].marks.count;
         k++) {
      x.pictures[x.count] = i;
      x.points[x.count++] = &s->all[i].marks.at[k];
    }
  for (int band = 0; band < BANDS; band++) index_band(&x, band);
  return x;
}

static inline void find_crops(search *s) {
  point_index x = index_points(s);
  s->points = &x;
  search_all(s, find_crop_of, "looking for parts");
  for (int band = 0; band < BANDS; band++) {
    free(x.starts[band]);
    free(x.order[band]);
  }
  free(x.points);
  free(x.pictures);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* What duplicates a duplicate belongs to what that one duplicates. A part of a part shows less each
   time, so this ends. */
static inline void settle(finding *found, int count) {
  for (int i = 0; i < count; i++)
    while (found[i].kind != UNIQUE && found[found[i].first].kind != UNIQUE) {
      const finding *of = &found[found[i].first];
      if (of->kind > found[i].kind) found[i].kind = of->kind;
      found[i].distance = fmax(found[i].distance, of->distance);
      found[i].first = of->first;
    }
}

/* Of all pictures; the findings are the caller's to free. */
static inline finding *find_duplicates(const listing *list, const traits *all, int mirrored,
                                       int crops, effort *spent) {
  size_t threads = (size_t)use_threads(0), count = (size_t)list->count;
  search s = {.list = list, .all = all, .mirrored = mirrored};
  s.found = allocate(count, sizeof *s.found);
  s.overlays = allocate(threads, sizeof *s.overlays);
  s.overlays[0] = allocate(1, sizeof(overlay));
  s.spent = allocate(count, sizeof *s.spent);
  find_exact(all, list->count, s.found);
  char *compared = choose_compared(all, s.found, list->count);
  s.compared = compared;
  find_near(&s);
  if (crops) find_crops(&s);
  settle(s.found, list->count);
  for (size_t i = 0; i < count; i++) {
    spent->sketches += s.spent[i].sketches;
    spent->files += s.spent[i].files;
  }
  for (size_t t = 0; t < threads; t++) free(s.overlays[t]);
  free(s.overlays);
  free(s.spent);
  free(compared);
  return s.found;
}

#endif
