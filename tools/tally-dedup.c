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
  if (set.mirrored) json_integer(&json, "mirrored", sum.kinds[MIRRORED]);
  if (set.crops) json_integer(&json, "crops", sum.kinds[CROP]);
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
