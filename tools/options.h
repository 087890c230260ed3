/* options.h - the command line. */
#ifndef TALLY_OPTIONS_H
#define TALLY_OPTIONS_H

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"
#include "text.h"

/* Numbers of options; option is the name with its dashes, for messages. */
static inline long long option_integer(const char *option, const char *value, long long low,
                                       long long high) {
  char *end;
  errno = 0;
  long long number = strtoll(value, &end, 10);
  if (end == value || *end) misuse("%s: \"%s\" is not a whole number", option, value);
  if (errno || number < low || number > high)
    misuse("%s: %s is outside %lld to %lld", option, value, low, high);
  return number;
}

static inline float option_real(const char *option, const char *value, double low, double high) {
  char *end;
  double number = strtod(value, &end);
  if (end == value || *end || !isfinite(number))
    misuse("%s: \"%s\" is not a number", option, value);
  if (number < low || number > high) misuse("%s: %s is outside %g to %g", option, value, low, high);
  return (float)number;
}

/* Index of value in choices (NULL-terminated). */
static inline int option_choice(const char *option, const char *value, const char *const *choices) {
  text_buffer list = {0};
  for (int i = 0; choices[i]; i++)
    if (!strcmp(value, choices[i])) return i;
  for (int i = 0; choices[i]; i++) text_add(&list, "%s%s", i ? ", " : "", choices[i]);
  misuse("%s: \"%s\" is not one of %s", option, value, list.data);
}

/* getopt_long with our own words for what it rejects. Returns the option's val, -1 at the end. */
static inline int next_option(int argc, char **argv, const struct option *options) {
  opterr = 0;
  int index = optind;
  int found = getopt_long(argc, argv, ":h", options, NULL);
  if (found == ':') misuse("%s needs a value", argv[index]);
  if (found == '?') misuse("unknown or ambiguous option %s", argv[index]);
  if (found == -1 && optind < argc) misuse("\"%s\" is not an option", argv[optind]);
  return found;
}

/* Options of a program that also takes files: getopt_long moves those behind the options, and they
   are argv[optind] and on when this returns -1. */
static inline int next_option_before_files(int argc, char **argv, const struct option *options) {
  opterr = 0;
  int index = optind;
  int found = getopt_long(argc, argv, ":h", options, NULL);
  if (found == ':') misuse("%s needs a value", argv[optind > index ? optind - 1 : index]);
  if (found == '?') misuse("unknown or ambiguous option %s", argv[optind - 1]);
  return found;
}

#endif
