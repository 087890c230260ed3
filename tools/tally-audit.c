/* tally-audit.c - counts that can be trusted: how many tallies to check by hand for a statement on a result,
   which ones, and whether what was found there shows it.

   Build:  make bin/tally-audit; or by hand as tool.h says, with -Ibuild, after
           mkdir -p build && tools/embed.sh tools/audit/key.css tools/audit/key.js >build/key_files.h
   Use:    bin/tally-audit plan --share 0.01
           bin/tally-audit sample --result result --template c1-2019 --voters voters.csv --for shares \
             --seed 31415926535897932384 --out audit scans/
           bin/tally-audit certify --result result --voters voters.csv --sample audit --out audit \
             keyed-1.csv

   The method is in headers that are usable alone: sha256.h, and in audit/ binomial.h (exact tests), betting.h
   (the risk after each tally), bias.h (do errors favour anyone?). On them stand population.h (what was
   read), statement.h (what can be shown), draw.h (who is drawn), trail.h (risks), settings.h, keyed.h,
   sample.h, key_page.h (the page to key in, with key.css and key.js), bias_table.h, certificate.h. Here are
   options and runs. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-audit"
#define TOOL_USAGE "plan|sample|certify [options]"
#include "tool.h"

#include "audit/certificate.h"
#include "audit/sample.h"
#include "left_out.h"
#include "output.h"
#include "templates.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char *const help[] = {
    "How many tallies to check by hand, which ones, and what that shows.\n"
    "\n"
    "usage: " TOOL_NAME " plan [--wrong R] [--margin M] [--share X] [options]\n"
    "       " TOOL_NAME " sample (--result DIR | --counts F.csv) --for S --seed TEXT --out DIR\n"
    "           [options] [IMAGE...]\n"
    "       " TOOL_NAME
    " certify (--result DIR | --counts F.csv) --sample DIR --out DIR KEYED.csv...\n"
    "\n"
    "Three statements S, each certified with a risk of at most --risk if it is false:\n"
    "  wrong    at most the share R of the tallies has an accepted count that is wrong\n"
    "  winner   the party that leads has the most votes\n"
    "  shares   no party's share of the votes is off by X or more\n"
    "\n"
    "plan: how many tallies have to be checked\n"
    "  --wrong R            of `wrong`, by the exact test, if 0, 1, ... are found to be wrong\n"
    "  --errors K           so many at most (default 2)\n"
    "  --margin M           of `winner`, if the lead is this share of all votes and nothing is wrong\n"
    "  --share X            of `shares`, if nothing is wrong\n"
    "  --turnout T          votes as a share of those that the tallies may hold (default 1: how many\n"
    "                       votes each tally holds is known)\n"
    "  --tallies N          of so many, all alike (default: any number)\n"
    "\n",
    "sample: which tallies; a further round goes on where the last one ended\n"
    "  --result DIR         a result of tally-read (counts.csv, tallies.csv)\n"
    "  --counts F.csv       any other table tally,field,value; all its values are accepted\n"
    "  --for S              wrong: each tally with accepted counts is as likely as any other;\n"
    "                       shares: in proportion to the votes that it may hold; winner: to the\n"
    "                       most that it can be wrong in favour of who leads\n"
    "  --seed TEXT          drawn in public, after the result is: twenty throws of a die\n"
    "  --rounds N,N,...     tallies in each round (default: one, as many as show the statement if\n"
    "                       nothing is wrong); the page is of the last one\n"
    "  --fixed              of `wrong`: one round, judged by the exact test. It needs fewer tallies\n"
    "                       if some are wrong, but none may be added after one has looked\n"
    "  --wrong R, --share X what is to be shown (default 0.01)\n"
    "  --parties A,B,...    fields that votes are cast for; shares are of their sum (default: those\n"
    "                       of the template that are no totals)\n"
    "  --voters F.csv       tally,voters: all tallies there are, also those without a picture, and\n"
    "                       how many votes each may hold\n"
    "  --most N             any tally may hold N votes, and there are no others\n"
    "  --hedge H            part of the stake that is kept for errors (default 0.001); 0.5 needs\n"
    "                       0.7 / X more tallies if nothing is wrong, far fewer if a tally is\n"
    "  --template T         the form, to cut its table out of the pictures\n"
    "  --flat               leaves out what lies in folders of the folders named\n"
    "  --out DIR            where to write (made if need be): settings.csv; weights.csv\n"
    "                       (tally,weight); sample.csv (round,draw,tally,weight,sha256,picture,\n"
    "                       picture_sha256); key.html, a page to key the last round in, which does\n"
    "                       not hold what was read\n"
    "  IMAGE...             pictures of tallies, or folders of them, as given to tally-read\n"
    "\n",
    "certify: what the keyed tallies show\n"
    "  --sample DIR         what sample wrote; all settings are there\n"
    "  --voters F.csv       as before\n"
    "  --out DIR            certificate.txt (verdicts, settings, hashes of all files), risk.csv (the\n"
    "                       risk after each tally), bias.csv (signed errors by field, by digits)\n"
    "  KEYED.csv...         tally,field,value; an empty value: nothing is written; ?: illegible\n"
    "What cannot be read or was not keyed counts as the worst there can be.\n"
    "\n"
    "  --risk A             of plan and sample (default 0.05)\n"
    "  --threads N          default: all cores; does not change the result\n"
    "  --quiet              nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "The last line on stdout is JSON: of plan wrong (a list), winner, shares; of sample tallies,\n"
    "drawn, rounds, pictures; of certify certified (list), wrong_risk, winner_risk, shares_risk,\n"
    "drawn, keyed, unkeyed, wrong, unclear, bias_field, bias_votes, bias_chance; of all left_out. Exit\n"
    "code: 0 (also if nothing can be certified), 1 (failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " plan --wrong 0.01 --margin 0.1 --share 0.01 --tallies 400\n"
    "  " TOOL_NAME " sample --result result --template c1-2019 --most 800 --for winner \\\n"
    "      --parties 01,02,03 --seed 31415926535897932384 --out audit scans/\n"
    "  " TOOL_NAME " certify --result result --sample audit --out audit keyed-1.csv\n",
};

static void print_help(void) {
  for (int i = 0; i < COUNT_OF(help); i++) fputs(help[i], stdout);
}

#define HEDGE 0.001 /* leaves the number of tallies at 299 and 598 where nothing is wrong */
#define RISK 0.05
#define SHARE 0.01

/* The next part of a list a,b,c, for the caller to free; NULL behind the last. */
static char *next_part(const tool_option *option, const char **at) {
  text_buffer part = {0};
  size_t length = *at ? strcspn(*at, ",") : 0;
  if (!*at) return NULL;
  if (!length) misuse("--%s: a part of the list is empty", option->name);
  text_add(&part, "%.*s", (int)length, *at);
  *at = (*at)[length] ? *at + length + 1 : NULL;
  return part.data;
}

static void take_rounds(const tool_option *option, const char *value) {
  for (char *part; (part = next_part(option, &value)) != NULL; free(part))
    if (!add_round(option->to, (int)option_integer(option->name, part, 1, MOST_ROUND)))
      misuse("--rounds: more than %d", MOST_ROUNDS);
}

static void take_parties(const tool_option *option, const char *value) {
  for (char *part; (part = next_part(option, &value)) != NULL; free(part))
    if (!add_party_name(option->to, part)) misuse("--parties: \"%s\" is named twice", part);
}

/* ---- the tables, of sample and certify ---------------------------------------------------------- */

typedef struct tables {
  const char *result, *counts, *voters;
  char *tallies; /* of the result */
} tables;

static void find_tables(tables *from) {
  if (!from->result == !from->counts) misuse("give either --result or --counts");
  if (!from->result) return;
  from->counts = join_path(from->result, "counts.csv");
  from->tallies = join_path(from->result, "tallies.csv");
}

/* Their hashes go to the settings, which may say how many votes a tally holds. */
static population read_tables(const tables *from, audit_settings *set) {
  population all = population_read(from->counts, from->tallies, from->voters, set->most);
  hash_file(from->counts, set->counts);
  if (from->tallies) hash_file(from->tallies, set->tallies);
  if (from->voters) hash_file(from->voters, set->voters);
  return all;
}

/* ---- plan --------------------------------------------------------------------------------------- */

typedef struct plan_settings {
  double wrong, margin, share, turnout, risk, hedge; /* the first three: 0 if not asked for */
  int errors, tallies;
} plan_settings;

static plan_settings read_plan_options(int argc, char **argv) {
  plan_settings set = {.turnout = 1, .risk = RISK, .hedge = HEDGE, .errors = 2};
  const tool_option options[] = {
      double_option("wrong", &set.wrong, 1e-6, 0.5),
      double_option("margin", &set.margin, 1e-6, 1),
      double_option("share", &set.share, 1e-6, 1),
      double_option("turnout", &set.turnout, 1e-3, 1),
      double_option("risk", &set.risk, 1e-9, 0.5),
      double_option("hedge", &set.hedge, 0, 0.999),
      integer_option("errors", &set.errors, 0, 1000),
      integer_option("tallies", &set.tallies, 1, INT_MAX / 2),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  refuse_files(argc, argv);
  if (set.wrong <= 0 && set.margin <= 0 && set.share <= 0)
    misuse("plan: what is to be shown? --wrong R, --margin M or --share X");
  return set;
}

/* How many of them may be found to be wrong: none, one, ... */
static void plan_wrong(const plan_settings *set, text_buffer *json) {
  long long too_many = set->tallies ? fewest_above(set->wrong, set->tallies) : INT_MAX;
  printf("At most %g %% of the tallies have an accepted count that is wrong:\n", 100 * set->wrong);
  json_key(json, "wrong");
  for (int k = 0; k <= set->errors && k < too_many; k++) {
    long long needed = draws_needed(set->wrong, set->tallies, k, set->risk);
    printf("  check %lld tallies, if %d of them may be wrong\n", needed, k);
    text_add(json, "%s%lld", k ? ", " : "[", needed);
  }
  text_add(json, "]");
}

/* m: the errors that have to be in the tallies if the statement is false, as a share of their weight. */
static void plan_bets(const plan_settings *set, double m, const char *name, text_buffer *json) {
  long long needed = bets_needed(m, set->hedge, set->risk, set->tallies, INT_MAX);
  printf("  check %lld tallies, if nothing is wrong\n", needed);
  json_integer(json, name, needed);
}

static void run_plan(int argc, char **argv) {
  plan_settings set = read_plan_options(argc, argv);
  text_buffer json = {0};
  const left_out none = {0};
  printf("With a risk of %g:\n\n", set.risk);
  if (set.wrong > 0) plan_wrong(&set, &json);
  if (set.margin > 0) {
    printf("The party that leads by %g %% of the votes has the most:\n", 100 * set.margin);
    /* draw.h: the weights add up to 1 + 1 / lead, the limit is 1 */
    plan_bets(&set, 1 / (1 + 1 / (set.margin * set.turnout)), "winner", &json);
  }
  if (set.share > 0) {
    printf("No party's share of the votes is off by %g points or more:\n", 100 * set.share);
    plan_bets(&set, set.share * set.turnout, "shares", &json);
  }
  printf("\n");
  left_out_json(&json, &none);
  json_print(&json);
}

/* ---- sample --------------------------------------------------------------------------------------- */

typedef struct sample_settings {
  tables from;
  audit_settings audit;
  const char *seed, *template, *out;
  int flat;
} sample_settings;

static void check_sample_options(const sample_settings *set, int pictures) {
  const audit_settings *audit = &set->audit;
  if (audit->design < 0) misuse("--for is missing");
  if (!set->seed || !*set->seed) misuse("--seed is missing");
  if (!set->out) misuse("--out is missing");
  if (audit->most && set->from.voters) misuse("give either --voters or --most");
  if (audit->fixed && audit->design != STATEMENT_WRONG) misuse("--fixed is of --for wrong");
  if (audit->fixed && audit->rounds > 1) misuse("--fixed has one round");
  if (pictures && !set->template) misuse("pictures need --template");
}

static sample_settings read_sample_options(int argc, char **argv) {
  sample_settings set = {
      .audit = {.design = -1, .risk = RISK, .hedge = HEDGE, .wrong = SHARE, .share = SHARE}};
  const tool_option options[] = {
      text_option("result", &set.from.result),
      file_option("counts", &set.from.counts),
      file_option("voters", &set.from.voters),
      choice_option("for", &set.audit.design, statement_names),
      text_option("seed", &set.seed),
      other_option("rounds", &set.audit, 0, 0, take_rounds),
      flag_option("fixed", &set.audit.fixed),
      double_option("wrong", &set.audit.wrong, 0, 0.5),
      double_option("share", &set.audit.share, 1e-9, 1),
      other_option("parties", &set.audit, 0, 0, take_parties),
      integer_option("most", &set.audit.most, 1, MOST_VOTES),
      double_option("risk", &set.audit.risk, 1e-9, 0.5),
      double_option("hedge", &set.audit.hedge, 0, 0.999),
      text_option("template", &set.template),
      flag_option("flat", &set.flat),
      text_option("out", &set.out),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  find_tables(&set.from);
  check_sample_options(&set, argc - optind);
  set.audit.seed = copy_text(set.seed);
  return set;
}

/* Votes are cast for what is no total of a template's sum. */
static void parties_of(const tally_template *form, audit_settings *set) {
  for (int f = 0; f < form->fields; f++) {
    int is_total = 0;
    for (int s = 0; s < form->sums; s++) is_total = is_total || form->sum[s].total == f;
    if (!is_total) add_party_name(set, form->field[f].name);
  }
}

/* [tallies] the number of each one's picture in the list, -1: none. */
static int *find_pictures(const population *all, const form_list *list) {
  int *numbers = allocate((size_t)all->tallies, sizeof(int));
  for (int i = 0; i < all->tallies; i++) {
    int found = form_list_find(list, all->names[i]);
    numbers[i] = found < 0 ? -1 : found;
  }
  return numbers;
}

static int pictures_of(const drawn_sample *from, const int *numbers, int drawn) {
  int count = 0;
  for (int t = 0; t < drawn; t++) count += numbers && numbers[from->queue.of[t].tally] >= 0;
  return count;
}

static void print_sample(const drawn_sample *from, const audit_settings *set, int pictures,
                         const left_out *left) {
  text_buffer json = {0};
  int drawn = sample_size(set);
  printf("%d of %d tallies drawn in %d %s, %d with a picture; key.html has the %d of round %d\n\n",
         drawn, from->all.tallies, set->rounds, set->rounds == 1 ? "round" : "rounds", pictures,
         set->round[set->rounds - 1], set->rounds);
  json_integer(&json, "tallies", from->all.tallies);
  json_integer(&json, "drawn", drawn);
  json_integer(&json, "rounds", set->rounds);
  json_integer(&json, "pictures", pictures);
  left_out_json(&json, left);
  json_print(&json);
}

static void write_all(const sample_settings *set, const drawn_sample *from, const key_page *page) {
  char *settings = join_path(set->out, "settings.csv"),
       *weights = join_path(set->out, "weights.csv");
  char *sample = join_path(set->out, "sample.csv"), *key = join_path(set->out, "key.html");
  check_earlier(settings, &set->audit);
  write_weights(weights, from);
  write_sample(sample, from, &set->audit, page->list, page->picture);
  write_key_page(key, page);
  write_settings(settings, &set->audit);
  free(settings);
  free(weights);
  free(sample);
  free(key);
}

static void run_sample(int argc, char **argv) {
  static const char *const outputs[] = {"settings.csv", "weights.csv", "sample.csv", "key.html",
                                        NULL};
  sample_settings set = read_sample_options(argc, argv);
  population all = read_tables(&set.from, &set.audit);
  char *text = NULL;
  size_t length;
  tally_template *form = set.template ? template_open(argv[0], set.template, &text, &length) : NULL;
  if (form && !set.audit.parties) parties_of(form, &set.audit);
  drawn_sample from = draw_sample(all, &set.audit);
  settle_rounds(&from, &set.audit);
  form_list list = {0};
  int *numbers = NULL, drawn = sample_size(&set.audit);
  if (optind < argc) {
    list = form_list_open(argv + optind, argc - optind, set.flat, NULL);
    numbers = find_pictures(&from.all, &list);
  }
  lock_folder(set.out, outputs);
  key_page page = {.all = &from.all,
                   .queue = &from.queue,
                   .first = drawn - set.audit.round[set.audit.rounds - 1],
                   .end = drawn,
                   .round = set.audit.rounds,
                   .form = form,
                   .list = numbers ? &list : NULL,
                   .picture = numbers};
  write_all(&set, &from, &page);
  int pictures = pictures_of(&from, numbers, drawn);
  if (numbers && pictures < drawn)
    say("%d of the tallies drawn have no picture among those named; they are to be keyed from the "
        "paper",
        drawn - pictures);
  print_sample(&from, &set.audit, pictures, &list.pictures.left);
  if (numbers) form_list_free(&list);
  free(numbers);
  free(form);
  free(text);
  drawn_sample_free(&from);
  settings_free(&set.audit);
}

/* ---- certify -------------------------------------------------------------------------------------- */

typedef struct certify_settings {
  tables from;
  const char *sample, *out;
} certify_settings;

static certify_settings read_certify_options(int argc, char **argv) {
  certify_settings set = {0};
  const tool_option options[] = {
      text_option("result", &set.from.result),
      file_option("counts", &set.from.counts),
      file_option("voters", &set.from.voters),
      text_option("sample", &set.sample),
      text_option("out", &set.out),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  find_tables(&set.from);
  if (!set.sample) misuse("--sample is missing");
  if (!set.out) misuse("--out is missing");
  if (optind == argc) misuse("there is no table of what was keyed on the command line");
  return set;
}

static void check_hash(const char *path, const char *now, const char *before) {
  if (strcmp(now, before))
    fail("%s is not what the sample was drawn from; give the same files and draw no second time",
         path);
}

/* What was published before the draw is what is certified. */
static population read_same_tables(const tables *from, audit_settings *set) {
  audit_settings now = {.most = set->most};
  population all = read_tables(from, &now);
  check_hash(from->counts, now.counts, set->counts);
  check_hash(from->tallies ? from->tallies : "--result", now.tallies, set->tallies);
  check_hash(from->voters ? from->voters : "--voters", now.voters, set->voters);
  return all;
}

static void print_certificate(const certificate *c, const population *all, int drawn) {
  static const char *const risks[] = {"wrong_risk", "winner_risk", "shares_risk"};
  const left_out none = {0};
  text_buffer json = {0};
  int field = most_biased(&c->bias), listed = 0;
  json_key(&json, "certified");
  text_add(&json, "[");
  for (int s = 0; s < STATEMENTS; s++)
    if (c->of[s].holds) text_add(&json, "%s\"%s\"", listed++ ? ", " : "", statement_names[s]);
  text_add(&json, "]");
  for (int s = 0; s < STATEMENTS; s++)
    json_real(&json, risks[s], c->of[s].is_about ? c->of[s].risk : NAN);
  json_integer(&json, "drawn", drawn);
  json_integer(&json, "keyed", c->keyed);
  json_integer(&json, "unkeyed", drawn - c->keyed);
  json_integer(&json, "wrong", c->wrong);
  json_integer(&json, "unclear", c->unclear);
  json_key(&json, "bias_field");
  json_text(&json, all->field[field]);
  json_real(&json, "bias_votes", c->bias.field[field].net);
  json_real(&json, "bias_chance", c->bias.field[field].corrected);
  left_out_json(&json, &none);
  json_print(&json);
}

/* The certificate with the names of all files that it is made of, and the tables beside it. */
static void write_certificate(const certify_settings *set, const certificate *c,
                              const drawn_sample *from, const audit_settings *audit,
                              const char *const *inputs) {
  char *path = join_path(set->out, "certificate.txt");
  text_buffer text = certificate_text(c, &from->all, audit, sample_size(audit), inputs);
  write_file(path, text.data, text.length);
  free(text.data);
  free(path);
  path = join_path(set->out, "risk.csv");
  write_risks(path, c, &from->all, &from->queue, audit->fixed);
  free(path);
  path = join_path(set->out, "bias.csv");
  write_bias(path, &from->all, &c->bias);
  free(path);
}

static void print_verdicts(const certificate *c, const population *all,
                           const audit_settings *audit) {
  text_buffer text = {0};
  certificate_verdicts(&text, c, all, audit);
  text_add(&text, "\nDo errors favour anyone?\n");
  certificate_bias(&text, c, all);
  printf("%s\n", text.data);
  free(text.data);
}

/* The paths of all that was read, NULL behind the last. */
static const char **list_inputs(const certify_settings *set, const char *settings,
                                const char *sample, char *const *tables_keyed, int count) {
  const char **inputs = allocate((size_t)count + 6, sizeof(char *));
  int n = 0;
  inputs[n++] = set->from.counts;
  if (set->from.tallies) inputs[n++] = set->from.tallies;
  if (set->from.voters) inputs[n++] = set->from.voters;
  inputs[n++] = settings;
  inputs[n++] = sample;
  for (int i = 0; i < count; i++) inputs[n++] = tables_keyed[i];
  return inputs;
}

static void say_unkeyed(const certificate *c, int drawn) {
  if (c->until < drawn) say("%d of %d tallies drawn are not keyed yet", drawn - c->until, drawn);
  if (c->keyed < c->until)
    say("%d tallies were passed over: they count as the worst there can be", c->until - c->keyed);
  if (c->unclear > c->until - c->keyed)
    say("%d tallies have counts that cannot be read or were not keyed: they count as the worst there "
        "can be",
        c->unclear - (c->until - c->keyed));
}

static void run_certify(int argc, char **argv) {
  static const char *const outputs[] = {"certificate.txt", "risk.csv", "bias.csv", NULL};
  certify_settings set = read_certify_options(argc, argv);
  char *settings_path = join_path(set.sample, "settings.csv");
  char *sample_path = join_path(set.sample, "sample.csv");
  audit_settings audit = read_settings(settings_path);
  drawn_sample from = draw_sample(read_same_tables(&set.from, &audit), &audit);
  settle_rounds(&from, &audit);
  check_sample(sample_path, &from, &audit);
  int drawn = sample_size(&audit);
  keyed written = keyed_begin(&from.all, &from.queue, drawn);
  for (int i = optind; i < argc; i++) keyed_read(&written, &from.all, argv[i]);
  keyed_settle(&written);
  lock_folder(set.out, outputs);
  certificate c =
      certificate_make(&from.all, &from.what, &audit, &from.queue, from.weights, &written);
  const char **inputs = list_inputs(&set, settings_path, sample_path, argv + optind, argc - optind);
  write_certificate(&set, &c, &from, &audit, inputs);
  say_unkeyed(&c, drawn);
  print_verdicts(&c, &from.all, &audit);
  print_certificate(&c, &from.all, drawn);
  free(inputs);
  certificate_free(&c);
  keyed_free(&written);
  drawn_sample_free(&from);
  settings_free(&audit);
  free(settings_path);
  free(sample_path);
}

/* ---- the run ------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(int argc, char **argv);
  } commands[] = {{"plan", run_plan}, {"sample", run_sample}, {"certify", run_certify}};
  tool_start();
  for (int i = 0; argc > 1 && i < COUNT_OF(commands); i++)
    if (!strcmp(argv[1], commands[i].name)) {
      argv[1] = argv[0];
      commands[i].run(argc - 1, argv + 1);
      return tool_end();
    }
  take_options(argc, argv, NULL, 0, print_help);
  misuse("what is to be done? plan, sample or certify");
}
