/* tally-dedup.c - finds exact and near duplicates among pictures, files that are suspiciously small,
   and files that cannot be read. Deletes nothing.

   Build:  make bin/tally-dedup     (tool.h says how by hand)
   Use:    bin/tally-dedup --out duplicates.csv photos/

   How it compares:
   - Exact: the decoded pixels are the same (128-bit fingerprint of size and pixels), whatever the
     bytes of the file.
   - Near: a perceptual hash finds candidates, a difference hash of 64 bits (is a cell of a 9 x 8
     thumbnail darker than its right neighbour?) that may differ in 16. Then one is laid over the other
     and looked at ever more closely, until a difference shows that copying does not explain
     (likeness.h), at last once more from the files.
   - Each duplicate is linked to the first picture it resembles that is no duplicate itself, so chains
     of resemblance do not grow into one group.
   Every picture is compared with all before it, most of them by their hash alone, which takes little
   beside decoding. Pages of one form have one hash: there each pair is looked at, for some ten to
   hundred microseconds, until their writing differs.
   Found are copies in other formats, qualities and tones, of half to twice the size, and with up to 3 % cut
   off each side. Not found are copies that were turned, however little, cut by more, or made smaller
   than half: what is written no longer shows there. Of pictures below 128 pixels a side, such as cells,
   none that were cut either. Pictures of a single shade have nothing to compare and are only found if
   exact. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-dedup"
#define TOOL_USAGE "--out F.csv [options] PICTURE|FOLDER|LIST.csv..."
#include "tool.h"

#include <limits.h>
#include <sys/stat.h>

#include "csv.h"
#include "csv_write.h"
#include "left_out.h"
#include "gather.h"
#include "output.h"
#include "picture.h"
#include "fingerprint.h"
#include "likeness.h"
#include "resize.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Finds exact and near duplicates among pictures, small files and unreadable ones. Deletes nothing.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "Pictures are named as files, as folders (with everything below them) or in CSV files with a column\n"
    "path.\n"
    "  --out F.csv          one row per finding: path, first (the picture it duplicates), kind,\n"
    "                       distance, details. Kinds: exact (same pixels); near (the same picture\n"
    "                       in another file format, quality or tone, of half to twice the size, with\n"
    "                       up to 3 % cut off each side; pages that differ in a digit are not near);\n"
    "                       mirrored (near, left and right exchanged; with --mirrored); small\n"
    "                       (a small file); unreadable; link (another name of the very same file:\n"
    "                       details say whether a symbolic or a hard link, or named twice).\n"
    "                       The distance is 0 for the same pixels and 1 for the largest difference\n"
    "                       that a copy may have\n"
    "  --mirrored           finds copies with left and right exchanged too\n"
    "  --flat               leaves out what lies in folders of the folders named\n"
    "  --small BYTES        files below this are small (default 5000; 0: none)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "The last line on stdout is JSON: pictures, exact, near, mirrored, small, unreadable, links, left_out\n"
    "(files not compared, by ending or reason), seconds. Exit code: 0, 1 (failed, or no picture could be read),\n"
    "2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --out duplicates.csv photos/\n"
    "  " TOOL_NAME " --out duplicates.csv --small 0 2019.csv 2020.csv\n";

typedef struct settings {
  const char *out;
  int small, flat, mirrored;
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.small = 5000};
  const tool_option options[] = {
      text_option("out", &set.out),
      integer_option("small", &set.small, 0, INT_MAX),
      flag_option("flat", &set.flat),
      flag_option("mirrored", &set.mirrored),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- what is known of a picture -------------------------------------------------------------- */

#define NO_PICTURE (-1)

typedef struct traits {
  char *reason;    /* why it cannot be read; NULL */
  long long bytes; /* of the file */
  fingerprint content;
  uint64_t hash;
  int plain; /* of a single shade: there is nothing to compare */
  sketch drawn;

  int first; /* index of what it duplicates, NO_PICTURE */
  int exact, mirrored;
  double distance;
} traits;

#define HASH_STEP 1 /* levels that a neighbour must be darker by: flat areas give the same bits always */

/* Difference hash (Krawetz 2013) with a dead zone. */
static uint64_t take_hash(view coarsest) {
  uint8_t cells[8 * 9];
  uint64_t hash = 0;
  resize_squash(coarsest.cells, coarsest.side, coarsest.side, cells, 8, 9, 1);
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++)
      hash = hash << 1 | (cells[y * 9 + x + 1] > cells[y * 9 + x] + HASH_STEP);
  return hash;
}

#define PLAIN_DEVIATION 2.0 /* levels; below it a view shows noise only */

static int is_plain(view coarsest) {
  int count = coarsest.side * coarsest.side;
  double sum = 0, squares = 0;
  for (int i = 0; i < count; i++) {
    sum += coarsest.cells[i];
    squares += (double)coarsest.cells[i] * coarsest.cells[i];
  }
  return squares / count - sum / count * (sum / count) < PLAIN_DEVIATION * PLAIN_DEVIATION;
}

static void take_traits(const picture *from, int levels, traits *to) {
  to->content = fingerprint_picture(from);
  sketch_make_of_colours(from, levels, &to->drawn);
  to->hash = take_hash(sketch_view(&to->drawn, 0));
  to->plain = is_plain(sketch_view(&to->drawn, 0));
}

#define KEPT_MOST 1073741824.0 /* bytes of all sketches */

/* As many views of each picture as fit: 512 x 512 cells up to 3,000 pictures, 256 x 256 up to 12,000,
   128 x 128 up to 49,000. */
static int levels_for(int count) {
  int levels = VIEW_LEVELS;
  while (levels > 2 && (double)sketch_size(levels) * count > KEPT_MOST) levels--;
  return levels;
}

typedef struct reading {
  const listing *list;
  traits *all;
  int levels;
  progress bar;
  int done;
} reading;

static void read_one(void *context, int i, int thread) {
  reading *r = context;
  traits *to = &r->all[i];
  picture read = {0};
  struct stat status;
  char figures[64], path[PATH_MAX];
  const char *reason = picture_read(r->list->paths[i], 3, PICTURE_MAX_PIXELS, &read);
  (void)thread;
  to->first = NO_PICTURE;
  picture_page(r->list->paths[i], path);
  to->bytes = stat(path, &status) ? 0 : (long long)status.st_size;
  if (reason) to->reason = copy_text(reason);
  else take_traits(&read, r->levels, to);
  free(read.pixels);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++r->done, r->list->count);
  progress_draw(&r->bar, "reading pictures", (double)r->done / r->list->count, figures);
  work_unlock();
}

static traits *read_all(const listing *list) {
  reading r = {list, allocate((size_t)list->count, sizeof *r.all), levels_for(list->count),
               progress_start(), 0};
  share_work(list->count, read_one, &r);
  progress_wipe();
  return r.all;
}

/* ---- exact duplicates ------------------------------------------------------------------------ */

static const traits *sorted_traits; /* what compare_contents looks at */

static int compare_contents(const void *a, const void *b) {
  int i = *(const int *)a, j = *(const int *)b;
  int order = fingerprint_compare(&sorted_traits[i].content, &sorted_traits[j].content);
  return order ? order : i - j;
}

static void find_exact(traits *all, int count) {
  int *order = allocate((size_t)count, sizeof(int)), readable = 0;
  for (int i = 0; i < count; i++)
    if (!all[i].reason) order[readable++] = i;
  sorted_traits = all;
  qsort(order, (size_t)readable, sizeof(int), compare_contents);
  for (int i = 1, run = 0; i < readable; i++) {
    traits *one = &all[order[i]];
    if (fingerprint_compare(&one->content, &all[order[run]].content)) {
      run = i;
      continue;
    }
    one->first = order[run];
    one->exact = 1;
  }
  free(order);
}

/* ---- near duplicates ------------------------------------------------------------------------- */

#define HASH_BITS 16 /* that hashes of copies may differ in: with 3 % cut off they reach 12, and those of
                        other photographs differ in about 32 */

typedef struct comparing {
  const listing *list;
  traits *all;
  int mirrored; /* whether to find mirrored copies too */
  sight **sights; /* of each thread */
  progress bar;
  int done;
} comparing;

/* A picture that others are compared with, as it is and mirrored; and its pixels, once they were asked
   for. */
typedef struct question {
  int index;
  sketch mirrored;
  uint64_t mirrored_hash;
  picture pixels;
} question;

static int bits_set(uint64_t value) {
  value -= value >> 1 & 0x5555555555555555u;
  value = (value & 0x3333333333333333u) + (value >> 2 & 0x3333333333333333u);
  value = (value + (value >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return (int)(value * 0x0101010101010101u >> 56);
}

static picture read_again(const comparing *c, int index) {
  picture out = {0};
  const char *reason = picture_read(c->list->paths[index], 3, PICTURE_MAX_PIXELS, &out);
  if (reason) fail("%s: %s (it could be read before)", c->list->paths[index], reason);
  return out;
}

/* Whether a picture is the one asked about, or its mirror image, by all that their files show. */
static int is_same(const comparing *c, int other, question *q, int mirrored, sight *s) {
  traits *one = &c->all[q->index];
  const sketch *drawn = mirrored ? &q->mirrored : &one->drawn;
  uint64_t hash = mirrored ? q->mirrored_hash : one->hash;
  if (bits_set(hash ^ c->all[other].hash) > HASH_BITS) return 0;
  if (!sketches_agree(&c->all[other].drawn, drawn, s)) return 0;
  if (!q->pixels.pixels) q->pixels = read_again(c, q->index);
  picture read = read_again(c, other);
  if (mirrored) picture_mirror(&read);
  double distance = pictures_differ(&read, &q->pixels, s);
  free(read.pixels);
  if (distance > 1) return 0;
  one->first = other;
  one->mirrored = mirrored;
  one->distance = distance;
  return 1;
}

static int is_compared(const traits *t) {
  return !t->reason && !t->plain && !t->exact;
}

/* Links a picture to the first before it, but not before `from`, that is the same; with firsts_only to
   one that is no duplicate. */
static void search(const comparing *c, int index, int from, int firsts_only, sight *s) {
  question q = {0};
  q.index = index;
  c->all[index].first = NO_PICTURE;
  if (c->mirrored) {
    sketch_mirror(&c->all[index].drawn, &q.mirrored);
    q.mirrored_hash = take_hash(sketch_view(&q.mirrored, 0));
  }
  for (int i = from; i < index; i++) {
    if (!is_compared(&c->all[i]) || (firsts_only && c->all[i].first != NO_PICTURE)) continue;
    if (is_same(c, i, &q, 0, s) || (c->mirrored && is_same(c, i, &q, 1, s))) break;
  }
  free(q.mirrored.cells);
  free(q.pixels.pixels);
}

static void search_one(void *context, int i, int thread) {
  comparing *c = context;
  char figures[64];
  if (!c->sights[thread]) c->sights[thread] = sight_create();
  if (is_compared(&c->all[i])) search(c, i, 0, 0, c->sights[thread]);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++c->done, c->list->count);
  progress_draw(&c->bar, "comparing pictures", (double)c->done / c->list->count, figures);
  work_unlock();
}

/* All at once at first, each linked to the first of all that it resembles; where that turns out to be
   a duplicate itself, the search goes on among those that are none. */
static void find_near(const listing *list, traits *all, int mirrored) {
  int threads = use_threads(0);
  comparing c = {list, all, mirrored, allocate((size_t)threads, sizeof(sight *)), progress_start(), 0};
  share_work(list->count, search_one, &c);
  progress_wipe();
  if (!c.sights[0]) c.sights[0] = sight_create();
  for (int i = 0; i < list->count; i++)
    if (is_compared(&all[i]) && all[i].first != NO_PICTURE && all[all[i].first].first != NO_PICTURE)
      search(&c, i, all[i].first + 1, 1, c.sights[0]);
  /* exact copies of a near duplicate belong to what that one duplicates */
  for (int i = 0; i < list->count; i++) {
    const traits *of = all[i].exact ? &all[all[i].first] : NULL;
    if (!of || of->first == NO_PICTURE) continue;
    all[i].exact = 0;
    all[i].distance = of->distance;
    all[i].mirrored = of->mirrored;
    all[i].first = of->first;
  }
  for (int t = 0; t < threads; t++) free(c.sights[t]);
  free(c.sights);
}

/* ---- the run --------------------------------------------------------------------------------- */

typedef struct findings {
  int exact, near, mirrored, small, unreadable;
} findings;

static void write_finding(FILE *file, const char *path, const char *first, const char *kind,
                          const char *distance, const char *details) {
  const char *fields[] = {path, first, kind, distance, details};
  for (int i = 0; i < 5; i++) {
    if (i) putc(',', file);
    csv_write(file, fields[i]);
  }
  putc('\n', file);
}

/* Another name of a picture is no copy of it: dropping it, or what it leads to, loses the picture. */
static void write_links(FILE *file, const listing *list) {
  for (int i = 0; i < list->link_count; i++)
    write_finding(file, list->links[i].path, list->paths[list->links[i].first], "link", "",
                  list->links[i].kind);
}

static findings write_findings(FILE *file, listing *list, const traits *all, int small) {
  findings found = {0};
  fputs("path,first,kind,distance,details\n", file);
  for (int i = 0; i < list->count; i++) {
    const traits *one = &all[i];
    char number[64];
    if (one->reason) {
      write_finding(file, list->paths[i], "", "unreadable", "", one->reason);
      left_out_add_unreadable(&list->left, list->paths[i], one->reason);
      found.unreadable++;
      continue;
    }
    if (one->bytes < small) {
      snprintf(number, sizeof number, "%lld bytes", one->bytes);
      write_finding(file, list->paths[i], "", "small", "", number);
      found.small++;
    }
    if (one->first == NO_PICTURE) continue;
    snprintf(number, sizeof number, "%.2f", one->distance);
    write_finding(file, list->paths[i], list->paths[one->first],
                  one->exact      ? "exact"
                  : one->mirrored ? "mirrored"
                                  : "near",
                  one->exact ? "0" : number, "");
    found.exact += one->exact;
    found.mirrored += one->mirrored;
    found.near += !one->exact && !one->mirrored;
  }
  write_links(file, list);
  return found;
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  double started = seconds_now();
  listing list = listing_open(argv + optind, argc - optind, set.flat, NULL);
  output_check(set.out);
  traits *all = read_all(&list);
  find_exact(all, list.count);
  find_near(&list, all, set.mirrored);
  output out = output_open(set.out);
  findings found = write_findings(out.file, &list, all, set.small);
  output_close(&out);
  text_buffer json = {0};
  json_integer(&json, "pictures", list.count);
  json_integer(&json, "exact", found.exact);
  json_integer(&json, "near", found.near);
  json_integer(&json, "mirrored", found.mirrored);
  json_integer(&json, "small", found.small);
  json_integer(&json, "unreadable", found.unreadable);
  json_integer(&json, "links", list.link_count);
  left_out_json(&json, &list.left);
  json_real(&json, "seconds", seconds_now() - started);
  json_print(&json);
  for (int i = 0; i < list.count; i++) {
    free(all[i].reason);
    free(all[i].drawn.cells);
  }
  free(all);
  int readable = list.count - found.unreadable;
  listing_free(&list);
  return end_after_pictures(readable);
}
