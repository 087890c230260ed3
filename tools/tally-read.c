/* tally-read.c - reads scanned or photographed vote tallies: every count with its probability, the
   tallies that need a person's eyes, the totals with intervals, and a page to look at and correct.

   Build:  make bin/tally-read; or by hand as tool.h says, with -Ibuild, after
           mkdir -p build && tools/embed.sh tools/read/page.css tools/read/page.js >build/page_files.h
   Use:    bin/tally-read --template c1-2019 --out result scans/

   What is expensive - decoding, registration, cells, the network - happens once per picture and
   goes into a journal in the output folder. Counts, totals and the page are made from the journal,
   so a run that was cut short goes on, and one with corrections takes seconds.

   Its rooms are in read/: classifier.h (the network), sight.h (what is seen of a picture),
   journal.h, seeing.h (all pictures), count_table.h (official counts and corrections), report.h
   (what a report holds), reading.h (from what is seen to counts), tables.h, review.h (the forms in
   the order in which they need a look), page.h (how the page looks; with page_form.h, strip.h,
   figures.h, html.h, page.css, page.js), summary.h. Here are options and the run. */
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

static const char help[] =
    "Reads pictures of vote tallies.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T        a template file, or the name of one that comes with the program. With a\n"
    "                      reference print (tally-extract --print) beside it, a form is refused\n"
    "                      whose rows bear other labels than those of the template's fields\n"
    "  --model M           a network (safetensors) that knows the classes 0 to 9 and, if it can,\n"
    "                      cross, empty and illegible (default: the one that comes along).\n"
    "                      Of a class it does not know, every cell with ink has probability 0.005\n"
    "  --out DIR           where to write (made if need be):\n"
    "                        counts.csv   tally,field,value,probability,quality,status,\n"
    "                                     second_value,second_probability,reason,corrected\n"
    "                        tallies.csv  tally,status,quality,residual_px,sums,class,reason\n"
    "                        totals.csv   field,votes,low,high,share,...: the sum of the values\n"
    "                                     read; the 90 % interval and the share of what is\n"
    "                                     written, counts in doubt and unread ones included\n"
    "                        report.html  one page with everything, to look at and correct\n"
    "                        .work/       what was seen of each picture; a run that was cut short\n"
    "                                     goes on from there\n"
    "  IMAGE...            picture files, folders with everything below them, or CSV files with a\n"
    "                      column path; a tally is named by its picture's file name, a page of a\n"
    "                      file with several as scan.pdf#3\n"
    "  --flat              leaves out what lies in folders of the folders named\n"
    "  --official F.csv    official counts (tally,field,value) to compare with\n"
    "  --corrections F.csv counts read by a person (tally,field,value; an empty value means that\n"
    "                      nothing is written), as saved by report.html; taken as certain\n"
    "  --risk R            a count is accepted if it is wrong with probability R at most\n"
    "                      (default 0.005)\n"
    "  --temperature T     probabilities are raised to 1/T (default: the model's notes, or 1)\n"
    "  --raw               feeds the network cells as printed, only shrunk and inverted\n"
    "  --pictures N        forms shown with pictures in report.html, the most needy first\n"
    "                      (default 200)\n"
    "  --seed N            of the draws that intervals are made of (default 1)\n"
    "  --again             sees every picture again, whatever .work holds\n"
    "  --threads N         default: all cores; does not change the result\n"
    "  --quiet             nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "Status of a count: ok (accepted), review (a person should look), missing (nothing is written\n"
    "there), unread (the form could not be registered, or the cells do not make a number). A\n"
    "picture that cannot be read is in the output with its reason and stops none; a file that is\n"
    "no picture, or a second name of one, is left out and said. The last line on stdout is JSON:\n"
    "forms, read, flagged, left_out (by ending or reason), seconds. Exit code: 0, 1 (failed, or\n"
    "no tally could be read), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template c1-2019 --out result scans/\n"
    "  " TOOL_NAME " --template c1-2019 --out result --corrections corrections.csv scans/\n"
    "  " TOOL_NAME " --template mexico-2015 --model cells.safetensors --out result \\\n"
    "      --official truth.csv synth/*.jpg\n";

typedef struct settings {
  const char *template, *model, *out, *official, *corrections;
  double risk, temperature;
  int raw, pictures, again, flat;
  uint64_t seed;
} settings;

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  settings set = {.seed = 1, .risk = 0.005, .pictures = 200};
  const tool_option options[] = {
      text_option("template", &set.template),
      file_option("model", &set.model),
      text_option("out", &set.out),
      file_option("official", &set.official),
      file_option("corrections", &set.corrections),
      double_option("risk", &set.risk, 1e-9, 0.5),
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

/* Official counts and corrections, where they are given. */
static void read_tables(const settings *set, run *r) {
  if (set->official) {
    r->official = count_table_read(set->official, r->form, r->list, NO_OFFICIAL, 0);
    count_table_say(set->official, &r->official);
  }
  if (set->corrections) {
    r->corrections = count_table_read(set->corrections, r->form, r->list, NO_CORRECTION, 1);
    count_table_say(set->corrections, &r->corrections);
  }
}

int main(int argc, char **argv) {
  static const char *const outputs[] = {"counts.csv", "tallies.csv", "totals.csv", "report.html",
                                        NULL};
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
  run r = {.form = form, .list = &list, .model = &m, .risk = set.risk, .raw = set.raw};
  read_tables(&set, &r);
  lock_folder(set.out, outputs);
  journal j = journal_open(set.out, &list, sight_key(text, length, print, &m, set.raw), set.again);
  r.journal = &j;
  see_all(form, print, &list, &m, set.raw, &j);
  report all = report_open(&r, set.template, set.seed);
  read_all(&r, set.out, &all);
  write_tallies(&r, set.out, &all);
  write_totals(&r, set.out, &all);
  write_page(&r, set.out, set.pictures, &all);
  say_unread(&all, &list.pictures.left);
  print_summary(&r, set.out, &all);
  print_result(&r, &all, seconds_now() - started);
  int used = form_count(&list) - report_verdicts(&all, FORM_UNREAD);
  report_close(&all);
  journal_close(&j);
  free(r.official.values);
  free(r.corrections.values);
  model_close(&m);
  form_list_free(&list);
  if (print) print_close(print);
  free(form);
  free(text);
  return end_after_pictures(used);
}
