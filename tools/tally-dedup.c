/* tally-dedup.c - finds exact and near duplicates among pictures, files that are suspiciously small,
   and files that cannot be read. Deletes nothing.

   Build:  make bin/tally-dedup     (tool.h says how by hand)
   Use:    bin/tally-dedup --out duplicates.csv photos/

   How it compares:
   - Exact: the decoded pixels are the same (128-bit fingerprint of size and pixels), whatever the
     bytes of the file.
   - Near: first a perceptual hash finds candidates, a difference hash of 64 bits (is a cell of a 9 x 8
     thumbnail darker than its right neighbour?) that may differ in 11. Four tables, one for each 16
     bits, are looked up with every way to change one or two of them: of 11 changed bits at most two fall
     into at least one of the four. Then the thumbnails themselves are compared: after the brightness and
     contrast of one have been fitted to the other, no cell may differ by more than a limit. Luminance on
     32 x 32 cells, or 16 x 16 for pictures below 128 pixels, and colours on 8 x 8. Larger pictures are
     then looked at on a fine grid, whether the same is written on them (likeness.h); there it is also
     found which part of one the other shows, where up to 3 % of a side are cut off.
   - Each duplicate is linked to the first picture it resembles that is no duplicate itself, so chains
     of resemblance do not grow into one group.
   The time grows with the number of pictures, nearly all of it for decoding; only pictures that share a
   hash without being duplicates, such as pages of one form, are compared each with each.
   Pictures of a single shade have nothing to compare and are only found if exact. Mirrored and turned
   copies are not found, nor those of which much is cut off or brightness so changed that whites or
   blacks are lost. */
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
    "                       in another file format, quality, size or brightness, or cut by up to\n"
    "                       3 % of a side; pages that differ in a digit are not; distance is the\n"
    "                       largest difference of the compared cells, in levels of 0 to 255); small\n"
    "                       (a small file); unreadable; link (another name of the very same file:\n"
    "                       details say whether a symbolic or a hard link, or named twice)\n"
    "  --flat               leaves out what lies in folders of the folders named\n"
    "  --small BYTES        files below this are small (default 5000; 0: none)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "The last line on stdout is JSON: pictures, exact, near, small, unreadable, links, left_out (files\n"
    "not compared, by ending or reason), seconds. Exit code: 0, 1 (failed, or no picture could be read),\n"
    "2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --out duplicates.csv photos/\n"
    "  " TOOL_NAME " --out duplicates.csv --small 0 2019.csv 2020.csv\n";

typedef struct settings {
  const char *out;
  int small, flat;
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
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- what is known of a picture -------------------------------------------------------------- */

#define FINE 32   /* cells a side of the luminance thumbnail; of the coarse one half as many */
#define COARSE 16
#define COLOUR 8  /* of the colour thumbnail */
#define NO_PICTURE (-1)

typedef struct traits {
  char *reason; /* why it cannot be read; NULL */
  long long bytes; /* of the file */
  int height, width;
  fingerprint content;
  uint64_t hash;
  int plain; /* of a single shade: the hash says nothing */
  uint8_t fine[FINE * FINE], coarse[COARSE * COARSE], colours[COLOUR * COLOUR * 3];
  look look; /* of pictures that are not small; profiles of its columns and rows */
  double across[LOOK_SIDE], down[LOOK_SIDE];

  int first; /* index of what it duplicates, NO_PICTURE */
  int exact;
  double distance;
} traits;

static uint8_t luminance_of(const uint8_t *rgb) {
  return (uint8_t)(0.299f * (float)rgb[0] + 0.587f * (float)rgb[1] + 0.114f * (float)rgb[2] + 0.5f);
}

#define HASH_STEP 1 /* levels that a neighbour must be darker by: flat areas give the same bits always */

/* Difference hash (Krawetz 2013) with a dead zone. */
static uint64_t take_hash(const uint8_t *thumbnail) {
  uint8_t cells[8 * 9 * 3];
  uint64_t hash = 0;
  resize_squash(thumbnail, FINE, FINE, cells, 8, 9, 3);
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++) {
      const uint8_t *cell = cells + (y * 9 + x) * 3;
      hash = hash << 1 | (luminance_of(cell + 3) > luminance_of(cell) + HASH_STEP);
    }
  return hash;
}

#define PLAIN_DEVIATION 2.0 /* levels; below it a thumbnail shows noise only */

static int is_plain(const uint8_t *luminance, int count) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; i++) {
    sum += luminance[i];
    squares += (double)luminance[i] * luminance[i];
  }
  return squares / count - sum / count * (sum / count) < PLAIN_DEVIATION * PLAIN_DEVIATION;
}

#define COARSE_BELOW 128 /* pixels of the shorter side: smaller pictures are not looked at twice */

static int shorter_side(const traits *t) {
  return t->height < t->width ? t->height : t->width;
}

static void take_traits(const picture *from, traits *to) {
  uint8_t thumbnail[FINE * FINE * 3], half[COARSE * COARSE * 3];
  to->height = from->height;
  to->width = from->width;
  to->content = fingerprint_picture(from);
  resize_squash(from->pixels, from->height, from->width, thumbnail, FINE, FINE, 3);
  resize_squash(from->pixels, from->height, from->width, half, COARSE, COARSE, 3);
  resize_squash(from->pixels, from->height, from->width, to->colours, COLOUR, COLOUR, 3);
  for (int i = 0; i < FINE * FINE; i++) to->fine[i] = luminance_of(thumbnail + 3 * i);
  for (int i = 0; i < COARSE * COARSE; i++) to->coarse[i] = luminance_of(half + 3 * i);
  if (shorter_side(to) >= COARSE_BELOW) {
    to->look = look_take(from->pixels, from->height, from->width);
    look_profile(&to->look, 0, to->across);
    look_profile(&to->look, 1, to->down);
  }
  to->hash = take_hash(thumbnail);
  to->plain = is_plain(to->fine, FINE * FINE);
}

typedef struct reading {
  const listing *list;
  traits *all;
  progress bar;
  int done;
} reading;

static void read_one(void *context, int i, int thread) {
  reading *r = context;
  traits *to = &r->all[i];
  picture read = {0};
  struct stat status;
  char figures[64], path[PATH_MAX];
  const char *reason = picture_read(r->list->paths[i], 3, DECODE_MAX_PIXELS, &read);
  (void)thread;
  to->first = NO_PICTURE;
  picture_page(r->list->paths[i], path);
  to->bytes = stat(path, &status) ? 0 : (long long)status.st_size;
  if (reason) to->reason = copy_text(reason);
  else take_traits(&read, to);
  free(read.pixels);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++r->done, r->list->count);
  progress_draw(&r->bar, "reading pictures", (double)r->done / r->list->count, figures);
  work_unlock();
}

static traits *read_all(const listing *list) {
  reading r = {list, allocate((size_t)list->count, sizeof *r.all), progress_start(), 0};
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

#define HASH_BITS 11          /* that hashes of near duplicates may differ in */
#define FINE_LIMIT 6.0        /* levels; copies reach about 3, other pages of a form begin about 9 */
#define COARSE_LIMIT 12.0     /* small pictures: their cells average fewer pixels */
#define COLOUR_LIMIT 16.0     /* JPEG stores colours coarsely */
#define LEAST_GAIN 0.5        /* contrast of a copy, either way */
#define ASPECT_TOLERANCE 0.05
#define CUT_COLOUR_LIMIT 40.0 /* cells of the thumbnail show other parts of the picture then */
#define CUT_ASPECT_TOLERANCE 0.02
#define MISFIT_LIMIT 0.2      /* mean square of profiles of deviation 1 */

/* The largest difference between a and gain * b + offset, with gain and offset fitted by least
   squares. Stops early, with something above the limit, when it is above the limit. */
static double largest_difference(const uint8_t *a, const uint8_t *b, int count, double limit) {
  int sum_a = 0, sum_b = 0, products = 0, squares = 0;
  for (int i = 0; i < count; i++) {
    sum_a += a[i];
    sum_b += b[i];
    products += a[i] * b[i];
    squares += b[i] * b[i];
  }
  double n = count, mean_a = sum_a / n, mean_b = sum_b / n, most = 0;
  double variance = squares / n - mean_b * mean_b;
  double gain = variance > 0 ? (products / n - mean_a * mean_b) / variance : 1;
  gain = gain < LEAST_GAIN ? LEAST_GAIN : gain > 1 / LEAST_GAIN ? 1 / LEAST_GAIN : gain;
  for (int i = 0; i < count && most <= limit; i++)
    most = fmax(most, fabs(a[i] - mean_a - gain * (b[i] - mean_b)));
  return most;
}

static int has_aspect(const traits *a, const traits *b, double tolerance, part down, part across) {
  double height = a->height * (down.high - down.low), width = a->width * (across.high - across.low);
  double one = width * b->height, other = height * b->width;
  return fabs(one - other) <= tolerance * fmax(one, other);
}

static int has_colours(const traits *a, const traits *b, double limit) {
  return largest_difference(a->colours, b->colours, COLOUR * COLOUR * 3, limit) <= limit;
}

/* Whether one is a copy of the other of which a little is cut off. */
static int is_cut_copy(const traits *a, const traits *b) {
  double misfit_down, misfit_across;
  if (!has_colours(a, b, CUT_COLOUR_LIMIT)) return 0;
  part down = find_part(a->down, b->down, &misfit_down);
  part across = find_part(a->across, b->across, &misfit_across);
  return (is_cut(down) || is_cut(across)) && misfit_down < MISFIT_LIMIT &&
         misfit_across < MISFIT_LIMIT && has_aspect(a, b, CUT_ASPECT_TOLERANCE, down, across) &&
         looks_same(&a->look, &b->look, down, across);
}

/* Whether two pictures are the same one; *distance is their largest difference in luminance. */
static int is_near(const traits *a, const traits *b, double *distance) {
  const part all = {0, 1};
  if (!a->look.cells || !b->look.cells) {
    *distance = largest_difference(a->coarse, b->coarse, COARSE * COARSE, COARSE_LIMIT);
    return *distance <= COARSE_LIMIT && has_aspect(a, b, ASPECT_TOLERANCE, all, all) &&
           has_colours(a, b, COLOUR_LIMIT);
  }
  *distance = largest_difference(a->fine, b->fine, FINE * FINE, FINE_LIMIT);
  if (*distance <= FINE_LIMIT && has_aspect(a, b, ASPECT_TOLERANCE, all, all) &&
      has_colours(a, b, COLOUR_LIMIT) && looks_same(&a->look, &b->look, all, all))
    return 1;
  return is_cut_copy(a, b);
}

static int bits_set(uint64_t value) {
  int count = 0;
  for (; value; value &= value - 1) count++;
  return count;
}

#define BANDS 4
#define BAND_VALUES 65536

/* Pictures that are no duplicates, by each quarter of their hash: heads of lists, and what follows. */
typedef struct hash_table {
  int *heads[BANDS], *next[BANDS];
  int *asked; /* the picture that last looked at each */
} hash_table;

static hash_table table_create(int count) {
  hash_table table;
  for (int band = 0; band < BANDS; band++) {
    table.heads[band] = allocate(BAND_VALUES, sizeof(int));
    table.next[band] = allocate((size_t)count, sizeof(int));
    for (int i = 0; i < BAND_VALUES; i++) table.heads[band][i] = NO_PICTURE;
  }
  table.asked = allocate((size_t)count, sizeof(int));
  for (int i = 0; i < count; i++) table.asked[i] = NO_PICTURE;
  return table;
}

static void table_free(hash_table *table) {
  for (int band = 0; band < BANDS; band++) {
    free(table->heads[band]);
    free(table->next[band]);
  }
  free(table->asked);
}

static unsigned band_of(uint64_t hash, int band) {
  return (unsigned)(hash >> (16 * band)) & (BAND_VALUES - 1);
}

static void table_add(hash_table *table, const traits *all, int index) {
  for (int band = 0; band < BANDS; band++) {
    int *head = &table->heads[band][band_of(all[index].hash, band)];
    table->next[band][index] = *head;
    *head = index;
  }
}

/* The first picture in one list that is the same as this one, if it comes before `first`. */
static void search_list(const hash_table *table, int band, unsigned value, traits *all, int index) {
  traits *one = &all[index];
  for (int i = table->heads[band][value]; i != NO_PICTURE; i = table->next[band][i]) {
    double distance;
    if (table->asked[i] == index || (one->first != NO_PICTURE && i > one->first)) continue;
    table->asked[i] = index;
    if (bits_set(all[i].hash ^ one->hash) > HASH_BITS || !is_near(&all[i], one, &distance)) continue;
    one->first = i;
    one->distance = distance;
  }
}

static void find_near(traits *all, int count) {
  hash_table table = table_create(count);
  for (int i = 0; i < count; i++) {
    if (all[i].reason || all[i].plain || all[i].exact) continue;
    for (int band = 0; band < BANDS; band++) {
      unsigned value = band_of(all[i].hash, band);
      search_list(&table, band, value, all, i);
      for (int bit = 0; bit < 16; bit++) {
        search_list(&table, band, value ^ 1u << bit, all, i);
        for (int other = 0; other < bit; other++)
          search_list(&table, band, value ^ 1u << bit ^ 1u << other, all, i);
      }
    }
    if (all[i].first == NO_PICTURE) table_add(&table, all, i);
  }
  /* exact copies of a near duplicate belong to what that one duplicates */
  for (int i = 0; i < count; i++)
    if (all[i].exact && all[all[i].first].first != NO_PICTURE) {
      all[i].exact = 0;
      all[i].distance = all[all[i].first].distance;
      all[i].first = all[all[i].first].first;
    }
  table_free(&table);
}

/* ---- the run --------------------------------------------------------------------------------- */

typedef struct findings {
  int exact, near, small, unreadable;
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
    snprintf(number, sizeof number, "%.1f", one->distance);
    write_finding(file, list->paths[i], list->paths[one->first], one->exact ? "exact" : "near",
                  one->exact ? "0" : number, "");
    if (one->exact) found.exact++;
    else found.near++;
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
  find_near(all, list.count);
  output out = output_open(set.out);
  findings found = write_findings(out.file, &list, all, set.small);
  output_close(&out);
  text_buffer json = {0};
  json_integer(&json, "pictures", list.count);
  json_integer(&json, "exact", found.exact);
  json_integer(&json, "near", found.near);
  json_integer(&json, "small", found.small);
  json_integer(&json, "unreadable", found.unreadable);
  json_integer(&json, "links", list.link_count);
  left_out_json(&json, &list.left);
  json_real(&json, "seconds", seconds_now() - started);
  json_print(&json);
  for (int i = 0; i < list.count; i++) {
    free(all[i].reason);
    free(all[i].look.cells);
  }
  free(all);
  int readable = list.count - found.unreadable;
  listing_free(&list);
  return end_after_pictures(readable);
}
