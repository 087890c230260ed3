/* input.h - the files that this run reads, so that no output destroys one of them. */
#ifndef TALLY_INPUT_H
#define TALLY_INPUT_H

#include "identity.h"
#include "text.h"
#include "file.h"

typedef struct run_inputs {
  identities set;
  char **paths; /* [set.count] as the user knows them */
} run_inputs;

static run_inputs noted_inputs;

/* Notes a file that is read, now or later. One thread at a time; what is no regular file cannot be
   destroyed and is not noted. */
static inline void input_note(const char *path) {
  identity key;
  int number = noted_inputs.set.count;
  if (!is_regular(path) || !identity_of(path, &key)) return;
  if (identities_add(&noted_inputs.set, key, number) != number) return;
  noted_inputs.paths = reallocate(noted_inputs.paths, (size_t)number + 1, sizeof(char *));
  noted_inputs.paths[number] = copy_text(path);
}

/* The input that a path leads to, by whatever spelling or link; NULL if it is none. */
static inline const char *input_behind(const char *path) {
  identity key;
  int number = identity_of(path, &key) ? identities_find(&noted_inputs.set, key) : -1;
  return number < 0 ? NULL : noted_inputs.paths[number];
}

#endif
