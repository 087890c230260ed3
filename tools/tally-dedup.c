/* tally-dedup.c - finds exact and near duplicates among pictures, files that are suspiciously small,
   and files that cannot be read. Deletes nothing.

   Build:  make bin/tally-dedup     (tool.h says how by hand)
   Use:    bin/tally-dedup --out duplicates.csv photos/

   How it compares:
   - Exact: the decoded pixels are the same (128-bit fingerprint of size and pixels), whatever the
     bytes of the file.
   - Near: pictures that correlate at a glance, in 8 x 8 cells, are laid over one another and looked at
     ever more closely, until a difference shows that copying does not explain (dedup/likeness.h); at
     last once more from the files.
   - Mirrored: the same with one picture's left and right exchanged.
   - Crops: points by which parts are recognised say which pictures may show a part of which, and where
     it lies (dedup/crops.h); those are then compared from their files.
   - Each duplicate is linked to the first picture it resembles that is no duplicate itself, so chains
     of resemblance do not grow into one group; a part to the first that shows more.
   What it costs: each picture is read once, and glanced at beside all before it. Most pairs of photographs
   end there. Pages of one form are alike at a glance: of them each pair is laid over one another, for some
   ten to hundred microseconds, until their writing differs. Only copies are read once more. Memory is
   1 GB for sketches at most, whatever the number of pictures, with --crops 30 kB for each beside it, and
   what decoding takes in each thread. The result depends on neither threads nor time.
   A digit in faint pencil on a page of half the size and of poor quality can be less than what copying
   leaves: such a page may pass for a copy of one that differs in that digit alone.
   Not found are copies that were turned, however little, made smaller than 0.45 of a side, or cut by
   more than 3 % without --crops: what is written no longer shows in them. Of pictures below 64 pixels a
   side, such as cells, none that were cut either. Pictures of a single shade, such as bare paper, have
   nothing to compare and are only found if exact. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-dedup"
#define TOOL_USAGE "--out F.csv [options] PICTURE|FOLDER|LIST.csv..."
#include "tool.h"

#include <limits.h>
#include <math.h>

#include "dedup/findings.h"
#include "dedup/search.h"
#include "dedup/traits.h"
#include "gather.h"
#include "left_out.h"
#include "output.h"

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
    "                       mirrored and crop, with the options below; small (a small file);\n"
    "                       unreadable; link (another name of the very same file: details say\n"
    "                       whether a symbolic or a hard link, or named twice). The distance is 0\n"
    "                       for the same pixels and 1 for the largest difference a copy may have\n"
    "  --mirrored           copies with left and right exchanged are found too\n"
    "  --crops              copies that show only a part are found too, from a third of the area on;\n"
    "                       first is then what shows more, wherever it is listed\n"
    "  --flat               leaves out what lies in folders of the folders named\n"
    "  --small BYTES        files below this are small (default 5000; 0: none)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "The last line on stdout is JSON: pictures, exact, near, mirrored and crops (null where they were\n"
    "not asked for), small, unreadable, links, left_out (files not compared, by ending or reason),\n"
    "compared (pairs laid over one another), compared_closely (pairs read once more), seconds. Exit\n"
    "code: 0, 1 (failed, out of memory, or no picture could be read), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --out duplicates.csv photos/\n"
    "  " TOOL_NAME " --out duplicates.csv --small 0 2019.csv 2020.csv\n"
    "  " TOOL_NAME " --out duplicates.csv --mirrored --crops protest/\n";

typedef struct settings {
  const char *out;
  int small, flat, mirrored, crops;
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.small = 5000};
  const tool_option options[] = {
      text_option("out", &set.out),     integer_option("small", &set.small, 0, INT_MAX),
      flag_option("flat", &set.flat),   flag_option("mirrored", &set.mirrored),
      flag_option("crops", &set.crops),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- the run --------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  double started = seconds_now();
  listing list = listing_open(argv + optind, argc - optind, set.flat, NULL);
  output_check(set.out);
  traits *all = read_all(&list, set.crops);
  effort spent = {0, 0};
  finding *found = find_duplicates(&list, all, set.mirrored, set.crops, &spent);
  output out = output_open(set.out);
  totals sum = write_findings(out.file, &list, all, found, set.small);
  output_close(&out);
  text_buffer json = {0};
  json_integer(&json, "pictures", list.count);
  json_integer(&json, "exact", sum.kinds[EXACT]);
  json_integer(&json, "near", sum.kinds[NEAR]);
  json_real(&json, "mirrored", set.mirrored ? (double)sum.kinds[MIRRORED] : (double)NAN);
  json_real(&json, "crops", set.crops ? (double)sum.kinds[CROP] : (double)NAN);
  json_integer(&json, "small", sum.small);
  json_integer(&json, "unreadable", sum.unreadable);
  json_integer(&json, "links", list.link_count);
  left_out_json(&json, &list.left);
  json_integer(&json, "compared", spent.sketches);
  json_integer(&json, "compared_closely", spent.files);
  json_real(&json, "seconds", seconds_now() - started);
  json_print(&json);
  int readable = list.count - sum.unreadable;
  free(found);
  free_traits(all, list.count);
  listing_free(&list);
  return end_after_pictures(readable);
}
