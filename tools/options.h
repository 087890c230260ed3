/* options.h - the command line as a table: a row for each option says what it is called, what it
   takes, and where that goes.

       const tool_option options[] = {
           file_option("model", &set.model),
           integer_option("batch", &set.batch, 1, 100000),
           flag_option("raw", &set.raw),
       };
       take_options(argc, argv, options, COUNT_OF(options), print_help);

   --threads, --quiet and --help are every tool's own and need no row. An option may be shortened as
   long as it stays clear which one is meant, and be given as --batch 5 or --batch=5. */
#ifndef TALLY_OPTIONS_H
#define TALLY_OPTIONS_H

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "messages.h"
#include "text.h"
#include "work.h"

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))

typedef enum option_kind {
  OPTION_FLAG,    /* int, set to 1 */
  OPTION_TEXT,    /* const char * */
  OPTION_FILE,    /* const char *: a file that is read, so that no output may replace it */
  OPTION_INTEGER, /* int */
  OPTION_SEED,    /* uint64_t */
  OPTION_FLOAT,   /* float */
  OPTION_DOUBLE,  /* double */
  OPTION_CHOICE,  /* int: index of a word */
  OPTION_OTHER    /* whatever `take` makes of it */
} option_kind;

typedef struct tool_option {
  const char *name; /* behind the dashes */
  option_kind kind;
  void *to;
  double low, high;           /* of numbers, both included */
  const char *const *choices; /* NULL behind the last */
  void (*take)(const struct tool_option *option, const char *value);
} tool_option;

static inline tool_option flag_option(const char *name, int *to) {
  return (tool_option){.name = name, .kind = OPTION_FLAG, .to = to};
}
static inline tool_option text_option(const char *name, const char **to) {
  return (tool_option){.name = name, .kind = OPTION_TEXT, .to = to};
}
static inline tool_option file_option(const char *name, const char **to) {
  return (tool_option){.name = name, .kind = OPTION_FILE, .to = to};
}
static inline tool_option integer_option(const char *name, int *to, int low, int high) {
  return (tool_option){.name = name, .kind = OPTION_INTEGER, .to = to, .low = low, .high = high};
}
static inline tool_option seed_option(uint64_t *to) {
  return (tool_option){.name = "seed", .kind = OPTION_SEED, .to = to};
}
static inline tool_option float_option(const char *name, float *to, double low, double high) {
  return (tool_option){.name = name, .kind = OPTION_FLOAT, .to = to, .low = low, .high = high};
}
static inline tool_option double_option(const char *name, double *to, double low, double high) {
  return (tool_option){.name = name, .kind = OPTION_DOUBLE, .to = to, .low = low, .high = high};
}
static inline tool_option choice_option(const char *name, int *to, const char *const *choices) {
  return (tool_option){.name = name, .kind = OPTION_CHOICE, .to = to, .choices = choices};
}
/* The low and high of such an option mean what `take` makes of them. */
static inline tool_option other_option(const char *name, void *to, double low, double high,
                                       void (*take)(const tool_option *option, const char *value)) {
  return (tool_option){
      .name = name, .kind = OPTION_OTHER, .to = to, .low = low, .high = high, .take = take};
}

/* A whole number from low to high. */
static inline long long option_integer(const char *name, const char *value, long long low,
                                       long long high) {
  char *end;
  errno = 0;
  long long number = strtoll(value, &end, 10);
  if (end == value || *end) misuse("--%s: \"%s\" is not a whole number", name, value);
  if (errno || number < low || number > high)
    misuse("--%s: %s is outside %lld to %lld", name, value, low, high);
  return number;
}

static inline double option_real(const char *name, const char *value, double low, double high) {
  char *end;
  double number = strtod(value, &end);
  if (end == value || *end || !isfinite(number))
    misuse("--%s: \"%s\" is not a number", name, value);
  if (number < low || number > high) misuse("--%s: %s is outside %g to %g", name, value, low, high);
  return number;
}

/* Index of value in choices. */
static inline int option_choice(const char *name, const char *value, const char *const *choices) {
  text_buffer list = {0};
  for (int i = 0; choices[i]; i++)
    if (!strcmp(value, choices[i])) return i;
  for (int i = 0; choices[i]; i++) text_add(&list, "%s%s", i ? ", " : "", choices[i]);
  misuse("--%s: \"%s\" is not one of %s", name, value, list.data);
}

static inline void take_option(const tool_option *o, const char *value) {
  switch (o->kind) {
  case OPTION_FLAG:
    *(int *)o->to = 1;
    break;
  case OPTION_TEXT:
    *(const char **)o->to = value;
    break;
  case OPTION_FILE:
    *(const char **)o->to = value;
    input_note(value);
    break;
  case OPTION_INTEGER:
    *(int *)o->to = (int)option_integer(o->name, value, (long long)o->low, (long long)o->high);
    break;
  case OPTION_SEED:
    *(uint64_t *)o->to = (uint64_t)option_integer(o->name, value, 0, INT64_MAX);
    break;
  case OPTION_FLOAT:
    *(float *)o->to = (float)option_real(o->name, value, o->low, o->high);
    break;
  case OPTION_DOUBLE:
    *(double *)o->to = option_real(o->name, value, o->low, o->high);
    break;
  case OPTION_CHOICE:
    *(int *)o->to = option_choice(o->name, value, o->choices);
    break;
  case OPTION_OTHER:
    o->take(o, value);
    break;
  }
}

/* Takes all options; what is no option stays for the caller, as argv[optind] and on. */
static inline void take_options(int argc, char **argv, const tool_option *options, int count,
                                void (*print_help)(void)) {
  int threads = 0, wants_help = 0;
  const tool_option standard[] = {integer_option("threads", &threads, 1, 1024),
                                  flag_option("quiet", &tool_quiet),
                                  flag_option("help", &wants_help)};
  int all = count + COUNT_OF(standard);
  tool_option *rows = allocate((size_t)all, sizeof *rows);
  struct option *known = allocate((size_t)all + 1, sizeof *known);
  if (count) memcpy(rows, options, (size_t)count * sizeof *rows);
  memcpy(rows + count, standard, sizeof standard);
  for (int i = 0; i < all; i++) {
    known[i].name = rows[i].name;
    known[i].has_arg = rows[i].kind == OPTION_FLAG ? no_argument : required_argument;
    known[i].val = 256 + i; /* no letter */
  }
  opterr = 0;
  for (;;) {
    int index = optind, found = getopt_long(argc, argv, ":h", known, NULL);
    if (found == -1) break;
    if (found == ':') misuse("%s needs a value", argv[optind > index ? optind - 1 : index]);
    if (found == '?') misuse("unknown or ambiguous option %s", argv[optind - 1]);
    if (found == 'h')
      wants_help = 1;
    else
      take_option(&rows[found - 256], optarg);
    if (!wants_help) continue;
    print_help();
    exit(tool_end());
  }
  use_threads(threads);
  free(rows);
  free(known);
}

/* For tools that take options only. */
static inline void refuse_files(int argc, char **argv) {
  if (optind < argc) misuse("\"%s\" is not an option", argv[optind]);
}

#endif
