/* traits.h - what is known of each picture once it has been read. */
#ifndef TALLY_DEDUP_TRAITS_H
#define TALLY_DEDUP_TRAITS_H

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../fingerprint.h"
#include "../gather.h"
#include "../picture.h"
#include "../progress.h"
#include "../work.h"
#include "glance.h"
#include "plain.h"
#include "points.h"
#include "sketch.h"

typedef struct traits {
  char *reason;    /* why it cannot be read; NULL */
  long long bytes; /* of the file */
  fingerprint content;
  glance seen;
  int plain; /* of a single shade: there is nothing to compare */
  sketch drawn;
  points marks; /* where crops are looked for */
} traits;

#define KEPT_MOST 1073741824.0 /* bytes of all sketches */

/* As many views of each picture as fit: 512 x 512 cells up to 3,000 pictures, 256 x 256 up to 12,000,
   128 x 128 up to 49,000. */
static inline int levels_for(int count) {
  int levels = VIEW_LEVELS;
  while (levels > 2 && (double)sketch_size(levels) * count > KEPT_MOST) levels--;
  return levels;
}

typedef struct reading {
  const listing *list;
  traits *all;
  int levels, with_points;
  progress bar;
  int done;
} reading;

static inline void take_traits(const reading *r, const picture *from, traits *to) {
  picture grey = picture_grey(from);
  to->content = fingerprint_picture(from);
  sketch_make(&grey, r->levels, &to->drawn);
  to->seen = glance_at(&to->drawn);
  to->plain = sketch_is_plain(&to->drawn);
  if (r->with_points && !to->plain) points_find(&grey, &to->marks);
  free(grey.pixels);
}

/* A picture for which there is no memory is not unreadable: what it duplicates would go unsaid. */
static inline void refuse_for_memory(const char *path, const char *reason) {
  if (strstr(reason, "ut of memory")) /* stb_image writes it with a capital */
    fail("%s: %s; nothing was compared: run it with fewer --threads, or where there is more memory",
         path, reason);
}

static inline void read_one(void *context, int i, int thread) {
  reading *r = context;
  traits *to = &r->all[i];
  picture read = {0};
  struct stat status;
  char figures[64], path[PATH_MAX];
  const char *reason = picture_read(r->list->paths[i], 3, DECODE_MAX_PIXELS, &read);
  (void)thread;
  picture_page(r->list->paths[i], path);
  to->bytes = stat(path, &status) ? 0 : (long long)status.st_size;
  if (reason) {
    refuse_for_memory(r->list->paths[i], reason);
    to->reason = copy_text(reason);
  } else {
    take_traits(r, &read, to);
  }
  free(read.pixels);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++r->done, r->list->count);
  progress_draw(&r->bar, "reading pictures", (double)r->done / r->list->count, figures);
  work_unlock();
}

static inline traits *read_all(const listing *list, int with_points) {
  reading r = {list,
               allocate((size_t)list->count, sizeof *r.all),
               levels_for(list->count),
               with_points,
               progress_start(),
               0};
  share_work(list->count, read_one, &r);
  progress_wipe();
  return r.all;
}

static inline void free_traits(traits *all, int count) {
  for (int i = 0; i < count; i++) {
    free(all[i].reason);
    free(all[i].drawn.cells);
    points_free(&all[i].marks);
  }
  free(all);
}

#endif
