/* seeing.h - every picture seen, on all threads. */
#ifndef TALLY_READ_SEEING_H
#define TALLY_READ_SEEING_H

#include <stdio.h>
#include <stdlib.h>

#include "../progress.h"
#include "../work.h"
#include "journal.h"

/* What a thread needs to see with; opened when it first does. */
typedef struct seer {
  classifier c;
  sight s;
} seer;

typedef struct seeing {
  int raw;
  const tally_template *form;
  const tally_print *print;
  const form_list *list;
  const model *model;
  journal *journal;
  seer *seers; /* for each thread */
  int *todo, count, done;
  progress bar;
  double started;
} seeing;

static inline void see_one(void *context, int k, int thread) {
  seeing *all = context;
  seer *by = &all->seers[thread];
  int i = all->todo[k];
  char figures[96];
  if (!by->c.model) {
    by->c = classifier_open(all->model, all->form->cells);
    by->s = sight_make(all->form);
  }
  file_state state = file_state_of(all->list->pictures.paths[i]);
  see(&by->c, all->list->pictures.paths[i], all->form, all->print, all->raw, &by->s);
  text_buffer record =
      record_make(all->list->names[i], all->list->pictures.paths[i], state, &by->s, all->form);
  work_lock();
  journal_append(all->journal, i, &record);
  all->done++;
  snprintf(figures, sizeof figures, "%d of %d  %.1f tallies/s", all->done, all->count,
           all->done / fmax(seconds_now() - all->started, 1e-9));
  progress_draw(&all->bar, "reading", (double)all->done / all->count, figures);
  work_unlock();
  free(record.data);
}

/* Sees every picture that the journal does not know. */
static inline void see_all(const tally_template *form, const tally_print *print,
                           const form_list *list, const model *m, int raw, journal *j) {
  int threads = use_threads(0);
  seeing all = {.raw = raw, .form = form, .print = print, .list = list, .model = m, .journal = j};
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

#endif
