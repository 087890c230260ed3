/* tally-read.c - reads scanned or photographed vote tallies: every count with its probability, the
   tallies that need a person's eyes, the totals with intervals, and a page to look at and correct.

   Build:  make bin/tally-read; or by hand as tool.h says, with -Ibuild, after
           mkdir -p build && tools/embed.sh tools/read/page.css tools/read/page.js >build/page_files.h
   Use:    bin/tally-read --template c1-2019 --out result scans/

   What is expensive - decoding, registration, cells, the network - happens once per picture and
   goes into a journal in the output folder. Counts, totals and the page are made from the journal,
   so a run that was cut short goes on, and one with corrections takes seconds.

   Its rooms are in read/: classifier.h (the network), sight.h (what is seen of a picture), journal.h,
   seeing.h (all pictures), copies.h (pictures of one tally), count_table.h (official counts and
   corrections), origins.h (groups and registered voters), report.h (what a report holds), reading.h
   (from what is seen to counts), decoding.h (all tallies), tables.h, review.h (the forms in the order
   in which they need a look), page.h (how the page looks; with page_totals.h, page_findings.h,
   outliers.h, page_form.h, page_origin.h, strip.h, figures.h, html.h, page.css, page.js), summary.h.
   Here are options and the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-read"
#define TOOL_USAGE "--template T [--model M] --out DIR [options] IMAGE..."
#include "tool.h"

#include "form_list.h"
#include "forms.h"
#include "templates.h"
#include "left_out.h"
#include "output.h"
#include "read/review.h"
#include "read/seeing.h"
#include "read/summary.h"
#include "read/tables.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char *const help[] = {
    "Reads pictures of vote tallies.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T        a template file, or the name of one that comes with the program. With a\n"
    "                      reference print (tally-extract --print) beside it, a form is refused\n"
    "                      whose rows bear other labels than those of the template's fields\n"
    "  --model M           a network (safetensors) that knows the classes 0 to 9 and, if it can,\n"
    "                      cross, empty, illegible, dash, and the alterations struck-out, several\n"
    "                      and overwritten (default: the one that comes along).\n"
    "                      Of a class it does not know, every cell with ink has probability 0.005,\n"
    "                      0.0001 of one of the alterations\n"
    "  --out DIR           where to write (made if need be):\n"
    "                        counts.csv   tally,field,value,probability,quality,status,\n"
    "                                     second_value,second_probability,reason,corrected,basis\n"
    "                        sums.csv     tally,sum,state,difference,probability: whether it adds\n"
    "                                     up as read, and the probability that the paper does\n"
    "                        tallies.csv  tally,status,quality,residual_px,sums,class,reason,\n"
    "                                     sha256\n"
    "                        totals.csv   field,votes,estimate,low,high,share,...,covered,least,\n"
    "                                     most,...: the sum of the values read; estimate, 90 %\n"
    "                                     interval and share of what is written, doubtful counts and\n"
    "                                     unread tallies included; the share of the tallies read;\n"
    "                                     bounds without any model\n"
    "                        report.html  one page with everything, to look at and correct; it says\n"
    "                                     the day (of SOURCE_DATE_EPOCH, if that is set)\n"
    "                        .work/       what was seen of each picture; a run that was cut short\n"
    "                                     goes on from there\n"
    "  IMAGE...            picture files, folders with everything below them, or CSV files with a\n"
    "                      column path; a tally is named by its picture's file name, a page of a\n"
    "                      file with several as scan.pdf#3\n"
    "  --flat              leaves out what lies in folders of the folders named\n"
    "  --official F.csv    official counts (tally,field,value) to compare with\n"
    "  --corrections F.csv counts read by a person (tally,field,value and perhaps sha256, of the picture,\n"
    "                      which then decides; an empty value means that nothing is written), as\n"
    "                      saved by report.html; taken as certain\n"
    "  --about F.csv       what is known of the tallies (tally, and any of group, registered, station):\n"
    "                      tallies of a group (a district, a hand) resemble each other, no count\n"
    "                      exceeds the registered voters, two tallies of one station need a look\n"
    "  --risk R            a count that a sum confirms is accepted if it is wrong with probability\n"
    "                      R at most (default 0.005)\n"
    "  --alone R           the same for a count that no sum confirms (default 0.003)\n"
    "  --slips R           how often sums do not add up as they are written (default: learnt from the\n"
    "                      tallies of the run, beginning at 0.04)\n"
    "  --temperature T     probabilities are raised to 1/T (default: the model's notes, or 1)\n"
    "  --raw               feeds the network cells as printed, only shrunk and inverted\n"
    "  --pictures N        forms shown with pictures in report.html, the most needy first\n"
    "                      (default 200)\n"
    "  --seed N            of the draws that intervals are made of (default 1)\n"
    "  --again             sees every picture again, whatever .work holds\n"
    "  --threads N         default: all cores; does not change the result\n"
    "  --quiet             nothing on stderr but errors\n"
    "  --help\n"
    "\n",
    "Status of a count: ok (accepted; basis says on what: sum, cells, or a person), review (a person\n"
    "should look), missing (nothing is written there), unread (the form could not be registered, or\n"
    "the cells do not make a number), inferred (unread, but the sums say what it must be), copy (of\n"
    "a tally that another picture shows too: the same counts in the same hand; counted once). A\n"
    "picture that cannot be read is in the output with its reason and stops none; a file that is\n"
    "no picture, or a second name of one, is left out and said. The last line on stdout is JSON:\n"
    "forms, read, flagged, left_out (by ending or reason), seconds. Exit code: 0, 1 (failed, or\n"
    "no tally could be read), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template c1-2019 --out result scans/\n"
    "  " TOOL_NAME " --template c1-2019 --out result --corrections corrections.csv scans/\n"
    "  " TOOL_NAME " --template mexico-2015 --model cells.safetensors --out result \\\n"
    "      --official truth.csv synth/*.jpg\n"};

typedef struct settings {
  const char *template, *model, *out, *official, *corrections, *about;
  double risk, alone, slips, temperature;
  int raw, pictures, again, flat;
  uint64_t seed;
} settings;

static void print_help(void) {
  for (size_t i = 0; i < COUNT_OF(help); i++) fputs(help[i], stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.seed = 1, .risk = 0.005, .alone = 0.003, .pictures = 200};
  const tool_option options[] = {
      text_option("template", &set.template),
      file_option("model", &set.model),
      text_option("out", &set.out),
      file_option("official", &set.official),
      file_option("corrections", &set.corrections),
      file_option("about", &set.about),
      double_option("risk", &set.risk, 1e-9, 0.5),
      double_option("alone", &set.alone, 1e-9, 0.5),
      double_option("slips", &set.slips, 1e-6, 0.4),
      double_option("temperature", &set.temperature, 0.05, 20),
      flag_option("raw", &set.raw),
      integer_option("pictures", &set.pictures, 0, 100000),
      seed_option(&set.seed),
      flag_option("again", &set.again),
      flag_option("flat", &set.flat),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  if (!set.template) misuse("--template is missing");
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there are no pictures on the command line");
  return set;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Official counts, corrections, and what else is known, where they are given. */
static void read_tables(const settings *set, run *r) {
  if (set->official) {
    r->official = count_table_read(set->official, r->form, r->list, NO_OFFICIAL, 0);
    count_table_say(set->official, &r->official);
  }
  if (set->corrections) {
    r->corrections = count_table_read(set->corrections, r->form, r->list, NO_CORRECTION, 1);
    count_table_say(set->corrections, &r->corrections);
  }
  r->origin = origins_read(set->about, r->list);
}

int main(int argc, char **argv) {
  static const char *const outputs[] = {"counts.csv", "sums.csv",    "tallies.csv",
                                        "totals.csv", "report.html", NULL};
  tool_start();
  keep_freed_memory();
  double started = seconds_now();
  settings set = read_options(argc, argv);
  char *text;
  size_t length;
  tally_template *form = template_open(argv[0], set.template, &text, &length);
  tally_print *print = print_open(argv[0], set.template, form);
  model m = model_open(argv[0], set.model, set.temperature);
  form_list list = form_list_open(argv + optind, argc - optind, set.flat, NULL);
  run r = {.form = form, .list = &list, .model = &m, .seed = set.seed, .raw = set.raw};
  r.risk = set.risk;
  r.alone = set.alone;
  r.slip = set.slips;
  read_tables(&set, &r);
  lock_folder(set.out, outputs);
  journal j = journal_open(set.out, &list, sight_key(text, length, print, &m, set.raw), set.again);
  r.journal = &j;
  see_all(form, print, &list, &m, set.raw, &j);
  r.hashes = journal_hashes(&j, form_count(&list));
  learn_habits(&r);
  report all = report_open(&r, set.template, text, length);
  report_table(&all, TABLE_OFFICIAL, set.official);
  report_table(&all, TABLE_CORRECTIONS, set.corrections);
  report_table(&all, TABLE_ABOUT, set.about);
  read_all(&r, set.out, &all);
  write_tallies(&r, set.out, &all);
  write_totals(&r, set.out, &all);
  write_page(&r, set.out, set.pictures, &all);
  say_unread(&all, &list.pictures.left);
  say_coverage(&r, &all);
  print_summary(&r, set.out, &all);
  print_result(&r, &all, seconds_now() - started);
  int used = form_count(&list) - report_verdicts(&all, FORM_UNREAD);
  report_close(&all);
  journal_close(&j);
  free(r.official.values);
  free(r.corrections.values);
  origins_free(&r.origin, form_count(&list));
  tally_habits_free(&r.learnt);
  copies_free(&r.copied);
  free(r.hashes);
  model_close(&m);
  form_list_free(&list);
  if (print) print_close(print);
  free(form);
  free(text);
  return end_after_pictures(used);
}
