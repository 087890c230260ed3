/* settings.h - what an audit is made of, settled before anybody looks: settings.csv, written with the
   sample and read when it is certified. */
#ifndef TALLY_AUDIT_SETTINGS_H
#define TALLY_AUDIT_SETTINGS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../csv.h"
#include "../csv_write.h"
#include "../hash_file.h"
#include "../options.h"
#include "../output.h"
#include "statement.h"

#define MOST_ROUNDS 100
#define MOST_ROUND 20000000 /* tallies in one */

typedef struct audit_settings {
  int design;   /* the statement for which the tallies are drawn, index of statement_names */
  int fixed;    /* of `wrong`: one round, judged by the exact test */
  double risk;  /* that a statement is certified although it is false */
  double wrong; /* r: at most this share of the tallies is wrong */
  double share; /* x: no share is off by this or more */
  double hedge; /* betting.h */
  int most;     /* votes that any tally may hold; 0: as the table of voters says, or not known */
  int rounds, round[MOST_ROUNDS]; /* tallies in each */
  char *seed;
  char **party; /* names of fields */
  int parties;
  char counts[SHA256_TEXT], tallies[SHA256_TEXT], voters[SHA256_TEXT]; /* hashes; empty: no file */
} audit_settings;

static inline int sample_size(const audit_settings *set) {
  int sum = 0;
  for (int i = 0; i < set->rounds; i++) sum += set->round[i];
  return sum;
}

/* ---- the table -------------------------------------------------------------------------------------- */

static inline void print_setting(FILE *file, const char *name, const char *value) {
  fprintf(file, "%s,", name);
  csv_write(file, value);
  putc('\n', file);
}

static inline void print_settings(FILE *file, const audit_settings *set) {
  fputs("setting,value\n", file);
  print_setting(file, "for", statement_names[set->design]);
  fprintf(file, "fixed,%d\nrisk,%.15g\nwrong,%.15g\nshare,%.15g\nhedge,%.15g\n", set->fixed,
          set->risk, set->wrong, set->share, set->hedge);
  print_setting(file, "seed", set->seed);
  for (int i = 0; i < set->rounds; i++) fprintf(file, "round,%d\n", set->round[i]);
  for (int p = 0; p < set->parties; p++) print_setting(file, "party", set->party[p]);
  if (set->most) fprintf(file, "most,%d\n", set->most);
  print_setting(file, "counts_sha256", set->counts);
  if (*set->tallies) print_setting(file, "tallies_sha256", set->tallies);
  if (*set->voters) print_setting(file, "voters_sha256", set->voters);
}

/* 0 if that party is there already. */
static inline int add_party_name(audit_settings *set, const char *name) {
  for (int p = 0; p < set->parties; p++)
    if (!strcmp(set->party[p], name)) return 0;
  set->party = reallocate(set->party, (size_t)set->parties + 1, sizeof(char *));
  set->party[set->parties++] = copy_text(name);
  return 1;
}

/* 0 if there are too many. */
static inline int add_round(audit_settings *set, int tallies) {
  if (set->rounds == MOST_ROUNDS) return 0;
  set->round[set->rounds++] = tallies;
  return 1;
}

/* ---- reading it ------------------------------------------------------------------------------------- */

TOOL_NORETURN static inline void bad_setting(const csv *table, const char *value) {
  fail("%s: line %d: \"%s\" is no value of that setting; sample writes the file, and nobody should "
       "change it",
       table->path, table->line, value);
}

static inline double setting_real(const csv *table, const char *value, double low, double high) {
  char *end;
  double number = strtod(value, &end);
  if (end == value || *end || !(number >= low && number <= high)) bad_setting(table, value);
  return number;
}

static inline int setting_integer(const csv *table, const char *value, int low, int high) {
  if (strlen(value) > 9 || strspn(value, "0123456789") != strlen(value)) bad_setting(table, value);
  return (int)setting_real(table, value, low, high);
}

static inline int setting_choice(const csv *table, const char *value, const char *const *choices) {
  for (int i = 0; choices[i]; i++)
    if (!strcmp(value, choices[i])) return i;
  bad_setting(table, value);
}

static inline void setting_hash(const csv *table, const char *value, char out[SHA256_TEXT]) {
  if (strlen(value) != SHA256_TEXT - 1) bad_setting(table, value);
  memcpy(out, value, SHA256_TEXT);
}

/* A row of settings.csv. */
static inline void take_setting(audit_settings *set, const csv *table, const char *name,
                                const char *value) {
  if (!strcmp(name, "for"))
    set->design = setting_choice(table, value, statement_names);
  else if (!strcmp(name, "fixed"))
    set->fixed = setting_integer(table, value, 0, 1);
  else if (!strcmp(name, "risk"))
    set->risk = setting_real(table, value, 1e-9, 0.5);
  else if (!strcmp(name, "wrong"))
    set->wrong = setting_real(table, value, 0, 0.5);
  else if (!strcmp(name, "share"))
    set->share = setting_real(table, value, 1e-9, 1);
  else if (!strcmp(name, "hedge"))
    set->hedge = setting_real(table, value, 0, 1);
  else if (!strcmp(name, "most"))
    set->most = setting_integer(table, value, 1, MOST_VOTES);
  else if (!strcmp(name, "seed"))
    set->seed = copy_text(value);
  else if (!strcmp(name, "counts_sha256"))
    setting_hash(table, value, set->counts);
  else if (!strcmp(name, "tallies_sha256"))
    setting_hash(table, value, set->tallies);
  else if (!strcmp(name, "voters_sha256"))
    setting_hash(table, value, set->voters);
  else if (!strcmp(name, "round") ? !add_round(set, setting_integer(table, value, 1, MOST_ROUND))
                                  : strcmp(name, "party") || !add_party_name(set, value))
    fail("%s: line %d: there is no such setting \"%s\", or one too many", table->path, table->line,
         name);
}

/* Names of settings that were read, each between line ends. */
static inline int was_set(const text_buffer *seen, const char *setting) {
  text_buffer line = {0};
  text_add(&line, "\n%s\n", setting);
  int found = seen->data && strstr(seen->data, line.data) != NULL;
  free(line.data);
  return found;
}

static inline audit_settings read_settings(const char *path) {
  static const char *const needed[] = {"for",   "fixed", "risk",  "wrong",        "share",
                                       "hedge", "seed",  "round", "counts_sha256"};
  audit_settings set = {0};
  text_buffer seen = {0};
  csv table = csv_open(path);
  int name = csv_column(&table, "setting"), value = csv_column(&table, "value");
  text_add(&seen, "\n");
  while (csv_row(&table)) {
    const char *setting = csv_cell(&table, name);
    int is_list = !strcmp(setting, "round") || !strcmp(setting, "party");
    if (!is_list && was_set(&seen, setting))
      fail("%s: line %d: %s stands there twice", path, table.line, setting);
    take_setting(&set, &table, setting, table.fields[value]);
    text_add(&seen, "%s\n", setting);
  }
  csv_close(&table);
  for (int i = 0; i < COUNT_OF(needed); i++)
    if (!was_set(&seen, needed[i])) fail("%s: there is no row \"%s\"", path, needed[i]);
  free(seen.data);
  return set;
}

/* Whether a file holds these settings with the first rounds of them: so many or fewer. */
static inline int is_earlier_round(const char *path, const audit_settings *now) {
  size_t size, length;
  char *before = read_file(path, &size), *text;
  audit_settings set = *now;
  int found = 0;
  for (set.rounds = 1; set.rounds <= now->rounds && !found; set.rounds++) {
    FILE *stream = open_memstream(&text, &length);
    if (!stream) fail("out of memory");
    print_settings(stream, &set);
    if (fclose(stream)) fail("out of memory");
    found = length == size && !memcmp(text, before, size);
    free(text);
  }
  free(before);
  return found;
}

static inline void settings_free(audit_settings *set) {
  for (int p = 0; p < set->parties; p++) free(set->party[p]);
  free(set->party);
  free(set->seed);
}

#endif
