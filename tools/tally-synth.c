/* tally-synth.c - draws filled-in tallies as a scanner or a phone would see them, with the truth.

   Build:  make bin/tally-synth     (tool.h says how by hand)
   Use:    bin/tally-synth --template mexico-2015.form --digits data:test --count 400 --out district

   Nothing is resampled: print and handwriting are drawn as shapes straight into the picture,
   through the homography from page to picture, so the true corners of every cell are known exactly.

   A tally depends on the seed and its number alone, and each of its parts (votes, hand, print,
   dirt, camera) has a random stream of its own: another --blur leaves what is written as it was.

   Its rooms are in synth/: form.h, votes.h (what a tally says), canvas.h, press.h (the printed
   form), samples.h, strokes.h, hand.h (what is written), corrections.h, dirt.h and camera.h. Here are
   options, files and the run. */
#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "tally-synth"
#define TOOL_USAGE "--template T --count N --out DIR [--digits D] [options]"
#include "tool.h"

#include "../tally.h"
#include "folder.h"
#include "output.h"
#include "picture.h"
#include "synth/camera.h"
#include "synth/corrections.h"
#include "synth/dirt.h"
#include "synth/form.h"
#include "synth/hand.h"
#include "synth/press.h"
#include "synth/votes.h"
#include "templates.h"
#include "implementations/stb.h"

/* ---- options --------------------------------------------------------------------------------- */

static const char help[] =
    "Draws filled-in tallies as a scanner or a phone would see them, with the truth beside them.\n"
    "\n"
    "usage: " TOOL_NAME " " TOOL_USAGE "\n"
    "\n"
    "  --template T       a template file, or the name of one that comes with the program\n"
    "  --count N          how many tallies\n"
    "  --out DIR          where they go; made if missing\n"
    "  --digits D         strokes (default: a built-in pen), or handwritten digits: FOLDER:train or\n"
    "                     FOLDER:test for MNIST's IDX files, a folder with subfolders 0 to 9, or a CSV\n"
    "                     file with columns path,label. Draw test tallies from :test\n"
    "  --numerals N       western (default), or thai or arabic (Arabic-Indic), which the pen draws\n"
    "  --seed N           the same seed gives the same bytes (default 1)\n"
    "\n"
    "  --severity S       strength and rate of everything that goes wrong, 0 to 3 (default 1): odd and\n"
    "                     faint pens, pencil, strays, blanks, crosses, overwriting, stains, paper,\n"
    "                     rotation, perspective, blur, light, noise, colour cast, JPEG\n"
    "  --clean            the same as --severity 0\n"
    "  --mismatch RATE    share of tallies whose paper does not add up (default 0)\n"
    "  --ground RATE      share of tallies printed on a ground: a tint, guilloche, a watermark, pale\n"
    "                     print behind the cells (default 0)\n"
    "  --rows N           fewer rows than the template has; for forms with one sum over all fields\n"
    "Shares of counts (default 0; at most 1 together):\n"
    "  --struck RATE      one digit is struck out, or the whole count with one stroke: nothing is left\n"
    "  --several RATE     beside a wrong digit the right one stands in the same cell\n"
    "  --overwritten RATE over a wrong digit the right one is written\n"
    "  --faint RATE       one digit is in faint ink\n"
    "\n"
    "These take one value, or LOW..HIGH to draw it for each tally; they replace what --severity does:\n"
    "  --rotate DEGREES   of the page, clockwise, -360 to 360\n"
    "  --scale R          picture pixels per template pixel, 0.1 to 4\n"
    "  --perspective P    corners displaced by up to P percent of the page's shorter side, 0 to 20\n"
    "  --blur SIGMA       Gaussian, in picture pixels, 0 to 10\n"
    "  --light L          share of light lost at the dark end of the page, 0 to 0.9\n"
    "  --quality Q        of the JPEG, 1 to 100\n"
    "\n"
    "  --format jpg|png   of the pictures (default jpg)\n"
    "  --threads N        default: all cores; does not change the result\n"
    "  --quiet            nothing on stderr but errors\n"
    "  --help\n"
    "\n"
    "DIR gets the pictures and\n"
    "  truth.csv     tally,field,value,state,adds_up: the number meant; state is number, missing (left\n"
    "                blank, no value), illegible or altered (struck out, no value; several digits in a\n"
    "                cell, overwritten); adds_up is 0 where the paper's sums fail\n"
    "  cells.csv     tally,field,position,label: 0 to 9, cross, dash, empty, illegible,\n"
    "                struck-out, several, overwritten\n"
    "  corners.csv   tally,field,position,x0,y0,...,x3,y3: corners of the cell in the picture, pixels,\n"
    "                clockwise from the cell's own top left\n"
    "  pages.csv     how each page was taken, with its homography from template to picture\n"
    "  template.form the template that reads them\n"
    "Parties keep their strength over a run, as in one district. The last line on stdout is JSON.\n"
    "Exit code: 0, 1 (failed), 2 (usage).\n"
    "\n"
    "examples:\n"
    "  " TOOL_NAME " --template examples/templates/mexico-2015.form --count 20 --out drawn\n"
    "  " TOOL_NAME
    " --template examples/templates/mexico-2015.form --rows 13 --digits data:test \\\n"
    "      --count 400 --seed 15 --mismatch 0.02 --out district\n"
    "  " TOOL_NAME
    " --template examples/templates/c1-2019.form --clean --rotate -5..5 --count 50 \\\n"
    "      --format png --out sweep\n";

typedef struct settings {
  const char *form, *digits, *out;
  int count, rows, png, numerals;
  uint64_t seed;
  double severity, mismatch, ground;
  double corrections[CORRECTIONS]; /* their rates */
  camera_wishes camera;
} settings;

/* A value, or LOW..HIGH. */
static void take_range(const tool_option *option, const char *value) {
  range *out = option->to;
  const char *dots = strstr(value, "..");
  char *first = copy_text(value);
  if (dots) first[dots - value] = 0;
  out->given = 1;
  out->low = option_real(option->name, first, option->low, option->high);
  out->high = dots ? option_real(option->name, dots + 2, option->low, option->high) : out->low;
  free(first);
  if (out->low > out->high) misuse("--%s: %s runs downwards", option->name, value);
}

static void print_help(void) {
  fputs(help, stdout);
}

static settings read_options(int argc, char **argv) {
  static const char *const formats[] = {"jpg", "png", NULL};
  static const char *const systems[] = {"western", "thai", "arabic", NULL};
  settings set = {.digits = "strokes", .seed = 1, .severity = 1};
  int clean = 0;
  const tool_option options[] = {
      text_option("template", &set.form),
      integer_option("count", &set.count, 1, 10000000),
      text_option("out", &set.out),
      text_option("digits", &set.digits),
      seed_option(&set.seed),
      double_option("severity", &set.severity, 0, 3),
      flag_option("clean", &clean),
      double_option("mismatch", &set.mismatch, 0, 1),
      choice_option("numerals", &set.numerals, systems),
      double_option("ground", &set.ground, 0, 1),
      double_option("struck", &set.corrections[CORRECT_STRUCK], 0, 1),
      double_option("several", &set.corrections[CORRECT_SEVERAL], 0, 1),
      double_option("overwritten", &set.corrections[CORRECT_OVERWRITTEN], 0, 1),
      double_option("faint", &set.corrections[CORRECT_FAINT], 0, 1),
      integer_option("rows", &set.rows, 1, TALLY_MAX_FIELDS),
      other_option("rotate", &set.camera.rotate, -360, 360, take_range),
      other_option("scale", &set.camera.scale, 0.1, 4, take_range),
      other_option("perspective", &set.camera.perspective, 0, 20, take_range),
      other_option("blur", &set.camera.blur, 0, 10, take_range),
      other_option("light", &set.camera.light, 0, 0.9, take_range),
      other_option("quality", &set.camera.quality, 1, 100, take_range),
      choice_option("format", &set.png, formats),
  };
  take_options(argc, argv, options, COUNT_OF(options), print_help);
  refuse_files(argc, argv);
  if (clean) set.severity = 0;
  if (!set.form) misuse("--template is missing");
  if (!set.count) misuse("--count is missing");
  if (!set.out) misuse("--out is missing");
  if (set.numerals != NUMERALS_WESTERN && strcmp(set.digits, "strokes"))
    misuse("--numerals %s: the pen draws them, --digits gives others", systems[set.numerals]);
  double sum = 0;
  for (int k = 0; k < CORRECTIONS; k++) sum += set.corrections[k];
  if (sum > 1)
    misuse(
        "--struck, --several, --overwritten and --faint are shares of the counts: together %g is "
        "more than 1",
        sum);
  return set;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Reads the form; *text becomes that of the form drawn. */
static tally_template read_form(const char *program, const settings *set, char **text) {
  char *path;
  size_t size;
  *text = template_text(program, set->form, &path, &size);
  if (strlen(*text) != size) fail("%s: not a text file", path);
  tally_template form = parse_form(*text, path);
  if (set->rows && set->rows != form.fields - 1) {
    char *shorter = shorten_form(&form, set->rows, path);
    free(*text);
    *text = shorter;
    form = parse_form(shorter, "template.form");
  }
  if (set->mismatch > 0 && !form.sums) fail("%s: --mismatch: the form has no sums", set->form);
  double scale = set->camera.scale.given ? set->camera.scale.high : 1.3,
         side = hypot(form.width, form.height) * scale;
  if (side * side * 1.4 > DECODE_MAX_PIXELS)
    fail("%s: pictures of %.0f x %.0f pixels are too large", set->form, form.width * scale,
         form.height * scale);
  free(path);
  return form;
}

enum { TRUTH, CELLS, CORNERS, PAGES, TABLES };
static const char *const outputs[] = {"truth.csv", "cells.csv",     "corners.csv",
                                      "pages.csv", "template.form", NULL};

/* Four tables grow side by side. */
static output tables[TABLES];

static void open_tables(const char *folder) {
  static const char *const headers[TABLES] = {
      "tally,field,value,state,adds_up", "tally,field,position,label",
      "tally,field,position,x0,y0,x1,y1,x2,y2,x3,y3",
      ("tally,width,height,camera,rotation,scale,perspective,blur,light,quality,"
       "h0,h1,h2,h3,h4,h5,h6,h7,h8")};
  for (int k = 0; k < TABLES; k++) {
    char *path = join_path(folder, outputs[k]);
    tables[k] = output_open(path);
    fprintf(tables[k].file, "%s\n", headers[k]);
    free(path);
  }
}

static void close_tables(void) {
  for (int k = 0; k < TABLES; k++) output_close(&tables[k]);
}

/* The rows of one tally, kept until those before it are written. */
typedef struct rows {
  text_buffer of[TABLES];
} rows;

/* 1 if something stands in a field's cells that was not struck out. */
static int leaves_value(const tally *t, const tally_template *form, int f) {
  const tally_field *field = &form->field[f];
  for (int k = 0; k < field->digits; k++)
    if (t->mark[field->first_cell + k] == STRUCK_OUT) return 0;
  return t->state[f] != STATE_MISSING;
}

static void add_rows(rows *to, const char *name, const tally_template *form, const tally *t,
                     const capture *c) {
  static const char *const states[] = {"number", "missing", "illegible", "altered"};
  for (int f = 0; f < form->fields; f++) {
    const tally_field *field = &form->field[f];
    char value[16] = "";
    if (leaves_value(t, form, f)) snprintf(value, sizeof value, "%d", t->value[f]);
    text_add(&to->of[TRUTH], "%s,%s,%s,%s,%d\n", name, field->name, value, states[t->state[f]],
             t->adds_up);
    for (int k = 0; k < field->digits; k++) {
      const tally_box *b = &field->cell[k];
      text_add(&to->of[CELLS], "%s,%s,%d,%s\n", name, field->name, k,
               symbol_names[t->mark[field->first_cell + k]]);
      text_add(&to->of[CORNERS], "%s,%s,%d", name, field->name, k);
      for (int i = 0; i < 4; i++) {
        tally_point p = tally_homography_map(c->page, b->x + (i == 1 || i == 2 ? b->width : 0),
                                             b->y + (i > 1 ? b->height : 0));
        text_add(&to->of[CORNERS], ",%.3f,%.3f", p.x, p.y);
      }
      text_add(&to->of[CORNERS], "\n");
    }
  }
  text_add(&to->of[PAGES], "%s,%d,%d,%s,%.4f,%.4f,%.4f,%.4f,%.4f,%d", name, c->width, c->height,
           c->phone ? "phone" : "scanner", c->rotate, c->scale, c->perspective, c->blur, c->light,
           c->quality);
  for (int i = 0; i < 9; i++) text_add(&to->of[PAGES], ",%.12g", c->page[i]);
  text_add(&to->of[PAGES], "\n");
}

static void write_rows(rows *from) {
  for (int k = 0; k < TABLES; k++) {
    fwrite(from->of[k].data, 1, from->of[k].length, tables[k].file);
    from->of[k].length = 0;
  }
}

static void write_picture(const char *folder, const char *name, const picture *image,
                          const settings *set, int quality, text_buffer *bytes) {
  char *path = join_path(folder, name);
  bytes->length = 0;
  int good = set->png ? stbi_write_png_to_func(append_bytes, bytes, image->width, image->height, 3,
                                               image->pixels, 0)
                      : stbi_write_jpg_to_func(append_bytes, bytes, image->width, image->height, 3,
                                               image->pixels, quality);
  if (!good) fail("cannot encode %s", path);
  write_small_file(path, bytes->data, bytes->length);
  free(path);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* The parts of a tally that are drawn apart. Their numbers are part of what a seed means. */
typedef enum {
  PART_VOTES = 0,
  PART_MISTAKE = 1,
  PART_HAND = 2,
  PART_MARKS = 3,
  PART_CELLS = 4,
  PART_PRINT = 5,
  PART_DIRT = 7,
  PART_CAMERA = 8,
  PART_NOISE = 9,
  PART_CORRECTIONS = 10,
  PART_CORRECTING = 11,
  PART_GROUND = 12
} stream;

/* The random stream of one part of one tally. */
static cn_random stream_of(uint64_t seed, int index, stream which) {
  cn_random random = {0, 0};
  random.seed = mix_seed(mix_seed(seed, (uint64_t)index), (uint64_t)which);
  return random;
}

/* Decides what a tally says, before anything is drawn. */
static void fill_in(tally *t, const tally_template *form, const district *parties, const writer *w,
                    const settings *set, int index) {
  cn_random votes = stream_of(set->seed, index, PART_VOTES);
  cn_random mistake = stream_of(set->seed, index, PART_MISTAKE);
  cn_random marks = stream_of(set->seed, index, PART_MARKS);
  cn_random corrections = stream_of(set->seed, index, PART_CORRECTIONS);
  memset(t, 0, sizeof *t);
  deal_votes(form, parties, &votes, t->value);
  if (chance(&mistake, set->mismatch)) miscount(form, &mistake, parties, t->value);
  t->adds_up = adds_up(form, t->value);
  for (int f = 0; f < form->fields; f++) {
    mark_number(t, form, f, w, &marks, set->severity);
    correct_number(t, form, f, &corrections, set->corrections);
  }
}

/* What the tallies of a run have in common. */
typedef struct job {
  const settings *set;
  const tally_template *form;
  const sample_box *samples;
  district parties;
} job;

static void tally_name(const settings *set, int index, char name[32]) {
  snprintf(name, 32, "tally-%04d.%s", index + 1, set->png ? "png" : "jpg");
}

/* Pictures of an earlier run that this one does not draw anew: whoever reads the folder meets them. */
static void say_strangers(const settings *set) {
  int files, strangers = 0, number;
  char **names = list_folder(set->out, &files), own[32];
  for (int i = 0; i < files; i++) {
    if (decode_is_picture_name(names[i]) && sscanf(names[i], "tally-%d.", &number) == 1 &&
        number > 0) {
      tally_name(set, number - 1, own);
      strangers += number > set->count || strcmp(names[i], own);
    }
    free(names[i]);
  }
  free(names);
  if (strangers)
    inform("%s holds %d tallies of an earlier run, which stay but are not in truth.csv", set->out,
           strangers);
}

/* Draws one tally in the order in which things happen to paper: print, pen, dirt, camera. */
static void draw_tally(const job *j, int index, canvas *on, const tally *t, const writer *w,
                       const capture *c) {
  const tally_template *form = j->form;
  const settings *set = j->set;
  cn_random noise = stream_of(set->seed, index, PART_NOISE),
            hand = stream_of(set->seed, index, PART_CELLS);
  cn_random dirt = stream_of(set->seed, index, PART_DIRT);
  cn_random correcting = stream_of(set->seed, index, PART_CORRECTING);
  cn_random ground = stream_of(set->seed, index, PART_GROUND);
  press p = set_press(form, stream_of(set->seed, index, PART_PRINT), set->severity);
  canvas_start(on, c->width, c->height, c->page);
  lay_paper(on, c, &noise, set->severity);
  if (chance(&ground, set->ground)) print_ground(&p, on, &ground);
  print_form(&p, on, w);
  for (int f = 0; f < form->fields; f++)
    write_number(on, w, j->samples, &hand, &correcting, &form->field[f], t, f, set->severity);
  soil(on, &dirt, &p);
  lay_desk(on, c, form);
  expose(on, c, &noise);
}

/* Decides on everything about a tally, draws it and writes its picture; its rows go to `to`. */
static void make_tally(const job *j, int index, canvas *on, text_buffer *bytes, rows *to) {
  const settings *set = j->set;
  cn_random hand = stream_of(set->seed, index, PART_HAND);
  cn_random camera = stream_of(set->seed, index, PART_CAMERA);
  writer w =
      choose_writer(j->form, (numeral_system)set->numerals, j->samples, &hand, set->severity);
  capture c = choose_capture(j->form, &set->camera, &camera, set->severity);
  tally t;
  char name[32];
  fill_in(&t, j->form, &j->parties, &w, set, index);
  draw_tally(j, index, on, &t, &w, &c);
  tally_name(set, index, name);
  write_picture(set->out, name, &on->image, set, c.quality, bytes);
  add_rows(to, name, j->form, &t, &c);
}

/* Tallies are made in lots: within one in any order, then their rows are written in order. */
#define LOT 128

typedef struct drawing {
  const job *j;
  canvas *on;         /* for each thread */
  text_buffer *bytes; /* for each thread */
  rows lot[LOT];
  int first, done;
  progress bar;
} drawing;

static void draw_one(void *context, int i, int thread) {
  drawing *d = context;
  int count = d->j->set->count;
  char figures[64];
  make_tally(d->j, d->first + i, &d->on[thread], &d->bytes[thread], &d->lot[i]);
  work_lock();
  snprintf(figures, sizeof figures, "%d of %d", ++d->done, count);
  progress_draw(&d->bar, "drawing tallies", (double)d->done / count, figures);
  work_unlock();
}

static void make_all(const job *j) {
  const int count = j->set->count, threads = use_threads(0);
  drawing d = {.j = j};
  d.on = allocate((size_t)threads, sizeof *d.on);
  d.bytes = allocate((size_t)threads, sizeof *d.bytes);
  d.bar = progress_start();
  for (; d.first < count; d.first += LOT) {
    int now = count - d.first < LOT ? count - d.first : LOT;
    share_work(now, draw_one, &d);
    for (int i = 0; i < now; i++) write_rows(&d.lot[i]);
  }
  progress_wipe();
  for (int i = 0; i < threads; i++) {
    canvas_free(&d.on[i]);
    free(d.bytes[i].data);
  }
  for (int i = 0; i < LOT; i++)
    for (int k = 0; k < TABLES; k++) free(d.lot[i].of[k].data);
  free(d.on);
  free(d.bytes);
}

int main(int argc, char **argv) {
  tool_start();
  settings set = read_options(argc, argv);
  char *text;
  tally_template form = read_form(argv[0], &set, &text);
  sample_box samples = open_samples(set.digits);
  job j = {&set, &form, &samples, make_district(&form, set.seed)};
  double start = seconds_now();
  lock_folder(set.out, outputs);
  say_strangers(&set);
  char *path = join_path(set.out, "template.form");
  write_file(path, text, strlen(text));
  make_tiles();
  make_emblem();
  open_tables(set.out);
  make_all(&j);
  close_tables();
  double seconds = seconds_now() - start;
  text_buffer json = {0};
  json_integer(&json, "tallies", set.count);
  json_integer(&json, "fields", (long long)set.count * form.fields);
  json_integer(&json, "cells", (long long)set.count * form.cells);
  json_real(&json, "seconds", seconds);
  json_real(&json, "tallies_per_second", set.count / seconds);
  json_print(&json);
  free(path);
  free(text);
  close_samples(&samples);
  return tool_end();
}
