/* sample.h - draws the tallies to check, and writes what is needed to key them and to draw them again. */
#ifndef TALLY_AUDIT_SAMPLE_H
#define TALLY_AUDIT_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>

#include "../csv_write.h"
#include "../form_list.h"
#include "../left_out.h"
#include "../output.h"
#include "../picture.h"
#include "key_page.h"
#include "settings.h"
#include "trail.h"

/* All that is drawn from: made of the tables alike when a sample is drawn and when it is certified. */
typedef struct drawn_sample {
  population all;
  assertions what;
  double *weights; /* [tallies] */
  draw_queue queue;
} drawn_sample;

/* ---- the population, as the settings say ----------------------------------------------------------- */

static inline void find_parties(population *all, const audit_settings *set) {
  for (int p = 0; p < set->parties; p++) {
    int field = find_field(all, set->party[p]);
    if (field < 0) fail("the counts have no field \"%s\" (a party)", set->party[p]);
    add_party(all, field);
  }
}

/* What a design needs. A tally that may hold votes although none were read has to be drawn sometimes, so
   what was read is no measure of how much it can be wrong. */
static inline void check_design(const population *all, const assertions *what,
                                statement_kind design) {
  if (design == STATEMENT_WRONG) {
    if (!tallies_with_accepted(all)) fail("no tally has an accepted count: there is none to check");
    return;
  }
  if (!all->most)
    misuse("--for %s: say how many votes a tally may hold, by --voters F.csv or --most N",
           statement_names[design]);
  if (all->parties < 2)
    misuse("--for %s: name the parties, by --parties A,B or --template T", statement_names[design]);
  for (int i = 0; i < what->count; i++)
    if (what->of[i].kind == design && what->of[i].limit <= 0)
      fail(design == STATEMENT_WINNER ? "two parties lead with as many votes: nobody has won"
                                      : "no votes were read");
}

static inline drawn_sample draw_sample(population all, const audit_settings *set) {
  drawn_sample from = {.all = all};
  find_parties(&from.all, set);
  from.what = assertions_of(&from.all, set->wrong, set->share);
  check_design(&from.all, &from.what, (statement_kind)set->design);
  from.weights = allocate((size_t)from.all.tallies, sizeof(double));
  for (int i = 0; i < from.all.tallies; i++)
    from.weights[i] = draw_weight(&from.all, &from.what, (statement_kind)set->design, i);
  from.queue = draw_all(&from.all, from.weights, set->seed);
  return from;
}

static inline void drawn_sample_free(drawn_sample *from) {
  population_free(&from->all);
  free(from->what.of);
  free(from->weights);
  free(from->queue.of);
}

/* ---- rounds ------------------------------------------------------------------------------------------ */

/* How many tallies show the statement if none of them is wrong; all if that is not enough. */
static inline int first_round(const drawn_sample *from, const audit_settings *set) {
  int needed = tallies_needed(&from->all, &from->what, (statement_kind)set->design, &from->queue,
                              from->weights, set->hedge, set->risk);
  if (set->fixed)
    needed = (int)draws_needed(set->wrong, tallies_with_accepted(&from->all), 0, set->risk);
  return needed < 1 ? from->queue.count : needed;
}

static inline void settle_rounds(const drawn_sample *from, audit_settings *set) {
  if (!set->rounds) add_round(set, first_round(from, set));
  if (sample_size(set) > from->queue.count)
    fail("--rounds: %d tallies are wanted, but only %d can be drawn; draw those", sample_size(set),
         from->queue.count);
}

/* ---- files ------------------------------------------------------------------------------------------- */

/* A sample that people may have begun to key is not replaced by another one. */
static inline void check_earlier(const char *path, const audit_settings *set) {
  if (is_regular(path) && !is_earlier_round(path, set))
    fail("%s is of another sample; go on with its settings and its rounds, or name another folder",
         path);
}

static inline void write_settings(const char *path, const audit_settings *set) {
  output out = output_open(path);
  print_settings(out.file, set);
  output_close(&out);
}

static inline void write_weights(const char *path, const drawn_sample *from) {
  output out = output_open(path);
  fputs("tally,weight\n", out.file);
  for (int i = 0; i < from->all.tallies; i++) {
    csv_write(out.file, from->all.names[i]);
    fprintf(out.file, ",%.17g\n", from->weights[i]);
  }
  output_close(&out);
}

/* The picture of a tally and the hash of its file, if there is one. */
static inline void write_picture(FILE *file, const form_list *list, int number) {
  char path[PATH_MAX], hash[SHA256_TEXT];
  putc(',', file);
  if (number >= 0) csv_write(file, list->pictures.paths[number]);
  putc(',', file);
  if (number < 0) return;
  picture_page(list->pictures.paths[number], path);
  if (!is_regular(path)) return;
  hash_file(path, hash);
  fputs(hash, file);
}

/* list: NULL if there are no pictures; else `numbers` has each tally's in it. */
static inline void write_sample(const char *path, const drawn_sample *from,
                                const audit_settings *set, const form_list *list,
                                const int *numbers) {
  output out = output_open(path);
  fputs("round,draw,tally,weight,sha256,picture,picture_sha256\n", out.file);
  for (int round = 0, draw = 0; round < set->rounds; round++)
    for (int k = 0; k < set->round[round]; k++, draw++) {
      const drawing *d = &from->queue.of[draw];
      fprintf(out.file, "%d,%d,", round + 1, draw + 1);
      csv_write(out.file, from->all.names[d->tally]);
      fprintf(out.file, ",%.17g,%s", d->weight, d->hash);
      write_picture(out.file, list, numbers ? numbers[d->tally] : -1);
      putc('\n', out.file);
    }
  output_close(&out);
}

/* The sample as it was written is the one that the seed and the tables give. */
static inline void check_sample(const char *path, const drawn_sample *from,
                                const audit_settings *set) {
  int draw = 0;
  csv table = csv_open(path);
  int number = csv_column(&table, "draw"), tally = csv_column(&table, "tally");
  int hash = csv_column(&table, "sha256");
  for (; csv_row(&table); draw++) {
    const drawing *d = draw < sample_size(set) ? &from->queue.of[draw] : NULL;
    char wanted[16];
    snprintf(wanted, sizeof wanted, "%d", draw + 1);
    if (!d || strcmp(csv_cell(&table, number), wanted) ||
        strcmp(table.fields[tally], from->all.names[d->tally]) ||
        strcmp(csv_cell(&table, hash), d->hash))
      fail("%s: line %d: not what the seed and the counts draw; somebody has changed it", path,
           table.line);
  }
  csv_close(&table);
  if (draw < sample_size(set))
    fail("%s: %d tallies where %d were drawn; somebody has changed it", path, draw,
         sample_size(set));
}

#endif
