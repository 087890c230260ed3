/* left_out.h - what a run does not take, counted by ending or reason: said on stderr, and part of the
   JSON line as "left_out". */
#ifndef TALLY_LEFT_OUT_H
#define TALLY_LEFT_OUT_H

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "path.h"
#include "text.h"

#define LEFT_OUT_NAMED 3 /* files of a kind that are called by name on stderr */

typedef struct left_out_kind {
  char *what;
  int count;
  text_buffer names;
} left_out_kind;

/* Zero-initialise; left_out_free. */
typedef struct left_out {
  left_out_kind *kinds; /* in the order in which they were met */
  int count, reasons;
} left_out;

/* Counts a file. `what` is why it is not taken, or its ending if it has the wrong one. */
static inline void left_out_add(left_out *all, const char *what, const char *path) {
  int k = 0;
  while (k < all->count && strcmp(all->kinds[k].what, what)) k++;
  if (k == all->count) {
    all->kinds = reallocate(all->kinds, (size_t)k + 1, sizeof *all->kinds);
    all->kinds[all->count++] = (left_out_kind){copy_text(what), 0, {0}};
  }
  left_out_kind *kind = &all->kinds[k];
  if (kind->count++ < LEFT_OUT_NAMED)
    text_add(&kind->names, "%s%s", kind->names.length ? ", " : "", path);
}

/* Counts a file that no picture can be in, by its ending. */
static inline void left_out_add_ending(left_out *all, const char *path) {
  char ending[16];
  if (*file_name_of(path) == '.')
    left_out_add(all, "hidden file", path);
  else
    left_out_add(all, *ending_of(path, ending) ? ending : "no ending", path);
}

#define REASONS_SAID 20 /* of pictures that cannot be used */

static inline void left_out_add_reason(left_out *all, const char *what, const char *path,
                                       const char *reason) {
  if (all->reasons++ < REASONS_SAID)
    say("%s: %s", path, reason);
  else if (all->reasons == REASONS_SAID + 1)
    say("... and others; the output has every reason");
  left_out_add(all, what, path);
}

/* Counts a picture that cannot be decoded, by its ending, and says why: also under --quiet, as it is
   an error. */
static inline void left_out_add_unreadable(left_out *all, const char *path, const char *reason) {
  char ending[16];
  text_buffer what = {0};
  ending_of(path, ending);
  ending[strcspn(ending, "#")] = 0; /* of a page */
  text_add(&what, "unreadable %s", *ending ? ending : "file");
  left_out_add_reason(all, what.data, path, reason);
  free(what.data);
}

/* The same for a picture in which the form was not found. */
static inline void left_out_add_unregistered(left_out *all, const char *path, const char *reason) {
  left_out_add_reason(all, "not registered", path, reason);
}

/* How a run over pictures ends: of which none could be used, as a failure. */
static inline int end_after_pictures(int used) {
  if (!used) say("none of the pictures could be used");
  return tool_end() || !used;
}

static inline void left_out_merge(left_out *to, const left_out *from) {
  for (int k = 0; k < from->count; k++) {
    left_out_add(to, from->kinds[k].what, from->kinds[k].names.data);
    for (int i = 0; i < to->count; i++)
      if (!strcmp(to->kinds[i].what, from->kinds[k].what))
        to->kinds[i].count += from->kinds[k].count - 1;
  }
}

static inline void left_out_say(const left_out *all) {
  for (int k = 0; k < all->count; k++) {
    const left_out_kind *kind = &all->kinds[k];
    inform("left out: %d %s (%s%s)", kind->count, kind->what, kind->names.data,
           kind->count > LEFT_OUT_NAMED ? ", ..." : "");
  }
}

static inline void left_out_json(text_buffer *json, const left_out *all) {
  json_key(json, "left_out");
  text_add(json, "{");
  for (int k = 0; k < all->count; k++) {
    text_add(json, "%s", k ? ", " : "");
    json_text(json, all->kinds[k].what);
    text_add(json, ": %d", all->kinds[k].count);
  }
  text_add(json, "}");
}

static inline void left_out_free(left_out *all) {
  for (int k = 0; k < all->count; k++) {
    free(all->kinds[k].what);
    free(all->kinds[k].names.data);
  }
  free(all->kinds);
}

#endif
