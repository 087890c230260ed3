/* review.h - report.html: the forms in the order in which they need a look. */
#ifndef TALLY_READ_REVIEW_H
#define TALLY_READ_REVIEW_H

#include <stdio.h>
#include <stdlib.h>

#include "../output.h"
#include "../progress.h"
#include "page.h"
#include "tables.h"

/* A form's part of the page. Its picture is decoded again: keeping all of them until it is known
   which ones need a look would take more memory than time is lost. pictured: 0 for none. */
static inline text_buffer show_form(const run *r, const report *from, int tally, int pictured) {
  text_buffer html = {0};
  sight s = sight_make(r->form);
  tally_counts counts;
  tally_image photo = {0};
  journal_read(r->journal, r->form, tally, &s);
  int decoded = decode(r, tally, &s, 1, &counts);
  if (s.readable && pictured && !form_read(r->list->pictures.paths[tally], r->form, &photo) &&
      s.registered && tally_cut(&photo, r->form, &s.where, s.cells) != TALLY_OK)
    fail("out of memory");
  form_view view = {.registered = s.registered};
  view.counts = decoded ? &counts : NULL;
  view.where = s.readable ? &s.where : NULL;
  view.photo = photo.pixels && (s.registered || !decoded) ? &photo : NULL;
  view.cells = s.registered ? s.cells : NULL;
  view.rows = s.rows;
  page_form(&html, from, tally, &view);
  tally_image_free(&photo);
  tally_counts_free(&counts);
  sight_free(&s);
  return html;
}

/* Forms in the order in which they need a look. */
typedef struct queued {
  const report_form *form;
  int index, rank;
} queued;

/* Unread ones, those in doubt, then pictures of one tally, which are shown beside each other, then the
   rest. */
static inline void queue_ranks(queued *queue, const report *from) {
  static const int ranks[] = {
      [FORM_UNREAD] = 0, [FORM_LOOK] = 1, [FORM_COPY] = 2, [FORM_ACCEPTED] = 3};
  for (int i = 0; i < form_count(from->list); i++) queue[i].rank = ranks[from->forms[i].verdict];
  for (int i = 0; i < form_count(from->list); i++) {
    const int others[] = {from->copy_of[i], from->alike[i]};
    for (int k = 0; k < 2; k++)
      if (others[k] >= 0 && queue[others[k]].rank > 2) queue[others[k]].rank = 2;
  }
}

static inline int compare_queued(const void *a, const void *b) {
  const queued *x = a, *y = b;
  const report_form *f = x->form, *g = y->form;
  if (x->rank != y->rank) return x->rank - y->rank;
  if (!f->fails != !g->fails) return g->fails ? 1 : -1;
  if (f->looks != g->looks) return f->looks > g->looks ? -1 : 1;
  if (f->least < g->least || f->least > g->least) return f->least < g->least ? -1 : 1;
  return x->index - y->index;
}

static inline queued *review_queue(const report *from) {
  queued *queue = allocate((size_t)form_count(from->list), sizeof *queue);
  for (int i = 0; i < form_count(from->list); i++) queue[i] = (queued){&from->forms[i], i, 0};
  queue_ranks(queue, from);
  qsort(queue, (size_t)form_count(from->list), sizeof *queue, compare_queued);
  return queue;
}

/* How many of the queue are shown in full: unread forms, which come first, do not use up the limit, but
   no more of them than that get their small pictures. */
static inline int shown_forms(const queued *queue, int count, int pictures) {
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
  int first, shown, pictures, done;
  text_buffer part[CHUNK];
  progress bar;
} showing;

static inline void show_one(void *context, int k, int thread) {
  showing *s = context;
  (void)thread;
  int place = s->first + k, unread = s->queue[place].form->verdict == FORM_UNREAD;
  s->part[k] = show_form(s->r, s->from, s->queue[place].index, !unread || place < s->pictures);
  work_lock();
  progress_draw(&s->bar, "report", (double)++s->done / s->shown, "");
  work_unlock();
}

/* With pictures of the `pictures` forms that need a look most. */
static inline void write_page(const run *r, const char *folder, int pictures, report *from) {
  char *path = join_path(folder, "report.html");
  output out = output_open(path);
  queued *queue = review_queue(from);
  int shown = shown_forms(queue, form_count(r->list), pictures);
  for (int k = 0; k < shown; k++)
    from->pictured[queue[k].index] = queue[k].form->verdict != FORM_UNREAD;
  showing s = {.r = r, .from = from, .queue = queue, .shown = shown, .pictures = pictures};
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

#endif
