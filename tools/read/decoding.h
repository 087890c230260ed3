/* decoding.h - from the journal to counts, on all threads, and the first pass over all tallies. */
#ifndef TALLY_READ_DECODING_H
#define TALLY_READ_DECODING_H

#include "../work.h"
#include "reading.h"

#define CHUNK 64 /* tallies decoded between two writes */

typedef struct decoding {
  const run *r;
  int samples;
  int first; /* tally */
  sight sights[CHUNK];
  tally_counts *counts; /* [CHUNK] */
  int decoded[CHUNK];
} decoding;

static inline void decode_one(void *context, int k, int thread) {
  decoding *d = context;
  (void)thread;
  journal_read(d->r->journal, d->r->form, d->first + k, &d->sights[k]);
  d->decoded[k] = decode(d->r, d->first + k, &d->sights[k], d->samples, &d->counts[k]);
}

static inline decoding decoding_open(const run *r, int samples) {
  decoding d = {.r = r, .samples = samples};
  d.counts = allocate(CHUNK, sizeof *d.counts);
  for (int k = 0; k < CHUNK; k++) d.sights[k] = sight_make(r->form);
  return d;
}

static inline void decoding_close(decoding *d) {
  for (int k = 0; k < CHUNK; k++) sight_free(&d->sights[k]);
  free(d->counts);
}

/* Decodes the tallies from d->first on, on all threads; returns how many. */
static inline int decode_chunk(decoding *d) {
  int left = form_count(d->r->list) - d->first, now = left < CHUNK ? left : CHUNK;
  share_work(now, decode_one, d);
  return now;
}

/* The first pass over all tallies: how often clerks slip, how large counts are, and which pictures show
   one tally. */
static inline void learn_habits(run *r) {
  decoding d = decoding_open(r, 1);
  if (tally_habits_begin(r->form, &r->learnt) != TALLY_OK) fail("out of memory");
  r->copied = copies_open(form_count(r->list), r->form->fields);
  for (; d.first < form_count(r->list); d.first += CHUNK)
    for (int k = 0, now = decode_chunk(&d); k < now; k++) {
      if (d.decoded[k]) tally_habits_add(&r->learnt, r->form, &d.counts[k]);
      if (d.decoded[k] && d.sights[k].registered)
        copies_note(&r->copied, d.first + k, &d.counts[k]);
      tally_counts_free(&d.counts[k]);
    }
  r->habits = &r->learnt;
  copies_find(&r->copied, r->journal, r->form);
  decoding_close(&d);
}

#endif
