/* press.h - the form as it is printed: anchors, rules, boxes, names, headings and what surrounds
   the table, with the words people write outside of it.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_PRESS_H
#define TALLY_SYNTH_PRESS_H

#include "form.h"
#include "hand.h"

/* How one copy of the form is printed. */
typedef struct press {
  const tally_template *form;
  cn_random random;
  ink black;
  double unit, rule, severity;     /* a thousandth of the page's width; width of a rule */
  int colour;                      /* the form has anchors in colour */
  double left, top, right, bottom; /* of everything the template names but anchors */
} press;

/* Widens what is known of the table to take in a box. */
static inline void extend(press *p, double left, double top, double right, double bottom) {
  p->left = fmin(p->left, left);
  p->top = fmin(p->top, top);
  p->right = fmax(p->right, right);
  p->bottom = fmax(p->bottom, bottom);
}

/* The more severe, the more the print is worn. */
static inline press set_press(const tally_template *form, cn_random random, double severity) {
  press p = {0};
  p.form = form;
  p.random = random;
  p.severity = severity;
  p.unit = form->width / 1000;
  p.left = p.top = 1e9;
  double worn = fmin(severity, 1);
  p.rule = p.unit * between(&p.random, 2.1 - 0.5 * worn, 2.1 + 0.6 * worn);
  uint8_t shade = to_byte(between(&p.random, 36 - 16 * worn, 36 + 34 * worn));
  p.black = (ink){{shade, shade, to_byte(shade + 3.0)}, 0.97, 0.1 * worn};
  p.colour = form_has_colour(form);
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *rule = &form->rule[r];
    if (rule->down)
      extend(&p, rule->at, rule->from, rule->at, rule->to);
    else
      extend(&p, rule->from, rule->at, rule->to, rule->at);
  }
  for (int f = 0; f < form->fields; f++)
    for (int k = 0; k < form->field[f].digits; k++) {
      const tally_box *b = &form->field[f].cell[k];
      extend(&p, b->x, b->y, b->x + b->width, b->y + b->height);
    }
  return p;
}

/* Hue in degrees, saturation and value 0 to 1. */
static inline void hsv_to_rgb(double h, double s, double v, uint8_t rgb[3]) {
  double chroma = v * s, sector = fmod(h, 360) / 60, x = chroma * (1 - fabs(fmod(sector, 2) - 1));
  double parts[6][3] = {{chroma, x, 0}, {x, chroma, 0}, {0, chroma, x},
                        {0, x, chroma}, {x, 0, chroma}, {chroma, 0, x}};
  for (int c = 0; c < 3; c++) rgb[c] = to_byte((parts[(int)sector][c] + v - chroma) * 255);
}

/* A colour well inside an anchor's range, for a camera will move it. */
static inline ink anchor_ink(press *p, const tally_anchor *anchor) {
  double at[3];
  ink out = {{0, 0, 0}, 1, 0.05 * fmin(1, p->severity)};
  for (int c = 0; c < 3; c++) {
    double low = anchor->hsv_low[c], high = anchor->hsv_high[c];
    if (c == 0 && low > high) high += 360;
    double share = c == 0 ? between(&p->random, 0.4, 0.6) : between(&p->random, 0.65, 0.85);
    at[c] = low + share * (high - low);
  }
  hsv_to_rgb(at[0], at[1] / 100, at[2] / 100, out.colour);
  return out;
}

static inline void print_anchors(press *p, canvas *on) {
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_anchor *anchor = &p->form->anchor[a];
    const tally_box *b = &anchor->box;
    ink with = anchor->kind == TALLY_ANCHOR_SQUARE ? p->black : anchor_ink(p, anchor);
    if (anchor->kind == TALLY_ANCHOR_DISC)
      mask_disc(on, b->x + b->width / 2, b->y + b->height / 2, b->width / 2);
    else
      mask_box(on, b->x, b->y, b->width, b->height);
    canvas_ink(on, &with);
  }
}

/* A rule, in pieces, as worn print and coarse scanners drop some of it. */
static inline void print_rule(press *p, canvas *on, int down, double at, double from, double to,
                              double width) {
  double whole = p->severity == 0 ? to - from : 60 * p->unit;
  for (double start = from; start < to - 1e-6;) {
    double end = fmin(to, start + whole * between(&p->random, 0.5, 1.5));
    ink with = p->black;
    if (p->severity == 0)
      end = to;
    else if (chance(&p->random, 0.06 * p->severity))
      with.strength = between(&p->random, 0.25, 0.8);
    double joined = fmin(to, end + 0.4 * p->unit);
    if (down)
      mask_box(on, at - width / 2, start, width, joined - start);
    else
      mask_box(on, start, at - width / 2, joined - start, width);
    canvas_ink(on, &with);
    start = end;
  }
}

/* The boxes of a field; neighbours that touch share a rule. */
static inline void print_boxes(press *p, canvas *on, const tally_field *field) {
  double width = p->rule * between(&p->random, 0.7, 1), half = width / 2;
  for (int k = 0; k < field->digits; k++) {
    const tally_box *b = &field->cell[k];
    double right = b->x + b->width, bottom = b->y + b->height;
    int joined = k + 1 < field->digits && fabs(field->cell[k + 1].x - right) < 0.5;
    print_rule(p, on, 0, b->y, b->x - half, right + half, width);
    print_rule(p, on, 0, bottom, b->x - half, right + half, width);
    print_rule(p, on, 1, b->x, b->y - half, bottom + half, width);
    if (!joined) print_rule(p, on, 1, right, b->y - half, bottom + half, width);
  }
}

/* The column to the left of a field, where its name stands: from the table's left to the last rule
   down before the boxes. A rule across that ends early, at the height of the boxes, has a solid bar
   behind it (0: there is none), and the name ends there. */
static inline void name_column(const press *p, const tally_field *field, double *left,
                               double *right, double *bar) {
  const tally_box *b = &field->cell[0];
  double middle = b->y + b->height / 2;
  *left = fmax(p->left, 0.06 * p->form->width);
  *right = b->x;
  *bar = 0;
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down && rule->from < middle && rule->to > middle && rule->at < b->x - 2)
      *right = *right == b->x || rule->at > *right ? rule->at : *right;
    if (!rule->down && fabs(rule->at - b->y) < 2 && rule->to < b->x - 40 * p->unit) *bar = rule->to;
  }
  if (*right < *left + 100 * p->unit) *right = b->x;
  if (*bar > 0) *right = *bar;
}

/* A party's emblem: a disc or square in a colour of its own, with its initial. */
static inline void print_emblem(press *p, canvas *on, int number, double x, double y, double size) {
  char letter[2] = {p->form->field[number].name[0], 0};
  ink with = {{0, 0, 0}, 0.9, 0};
  hsv_to_rgb(fmod(number * 137.5 + 200, 360), 0.75, 0.75, with.colour);
  if (number % 3 == 0)
    mask_disc(on, x + size / 2, y + size / 2, size / 2);
  else
    mask_box(on, x, y, size, size);
  canvas_ink(on, &with);
  print_words(on, &p->black, x + 0.3 * size, y + 0.3 * size, 0.4 * size, p->unit * 2, letter);
}

/* The first rule across below a point, or the point itself. */
static inline double next_rule(const press *p, double x, double y) {
  double next = 1e9;
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (!rule->down && rule->at > y + 2 && rule->from < x && rule->to > x)
      next = fmin(next, rule->at);
  }
  return next < 1e9 ? next : y;
}

/* A field's name, and its number in words in somebody's hand where there is room for it. */
static inline void print_name(press *p, canvas *on, const writer *w, int number) {
  const tally_field *field = &p->form->field[number];
  const tally_box *b = &field->cell[0];
  double left, right, bar, height = 15 * p->unit, middle = b->y + b->height / 2;
  char name[TALLY_MAX_NAME];
  snprintf(name, sizeof name, "%s", field->name);
  for (char *c = name; *c; c++)
    if (*c == '_') *c = ' ';
  name_column(p, field, &left, &right, &bar);
  if (bar > 0) {
    middle += 9 * p->unit;
    mask_box(on, bar, b->y, b->x - bar, b->height);
    canvas_ink(on, &p->black);
  }
  double x = left + 14 * p->unit;
  if (p->colour && right - left > 250 * p->unit) {
    double size = fmin(40 * p->unit, 0.8 * b->height);
    print_emblem(p, on, number, left + 10 * p->unit, middle - size / 2, size);
    x += size + 8 * p->unit;
  }
  print_words(on, &p->black, x, middle - height / 2, height, 2.2 * p->unit, name);
  double below_boxes = b->y + b->height, room = next_rule(p, b->x + 1, below_boxes) - below_boxes;
  double size = w->height * 0.55, words = b->x - left;
  if (room > 22 * p->unit) {
    print_words(on, &p->black, b->x + 24 * p->unit, below_boxes + room - 12 * p->unit, 7 * p->unit,
                1.1 * p->unit, "(IN WORDS)");
    scribble(on, w, &p->random, left + words * between(&p->random, 0.3, 0.5),
             below_boxes + room - size - 9 * p->unit, words * between(&p->random, 0.3, 0.52), size);
  } else if (bar == 0 && right - left > 300 * p->unit) {
    double from = x + words_width(name, height) + 30 * p->unit;
    scribble(on, w, &p->random, from, middle - size / 2,
             (right - from) * between(&p->random, 0.5, 0.95), size);
  }
}

/* 1 if some rule goes down past a height. */
static inline int in_table(const press *p, double y) {
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down && rule->from < y && rule->to > y) return 1;
  }
  return 0;
}

/* Headings between two rules that have no boxes between them. */
static inline void print_headings(press *p, canvas *on) {
  const tally_box *cells = &p->form->field[0].cell[0];
  for (int r = 0; r < p->form->rules; r++) {
    const tally_rule *rule = &p->form->rule[r];
    if (rule->down) continue;
    double below_it = next_rule(p, cells->x + 1, rule->at), room = below_it - rule->at;
    int taken = 0;
    for (int f = 0; f < p->form->fields; f++) {
      const tally_box *b = &p->form->field[f].cell[0];
      taken |=
          b->y < below_it - 1 && next_rule(p, cells->x + 1, b->y + b->height - 3) > rule->at + 1;
    }
    if (taken || room < 24 * p->unit) continue;
    double height = 12 * p->unit, y = rule->at + (room - height) / 2;
    if (!in_table(p, rule->at + room / 2)) {
      print_words(on, &p->black, p->left, y, height, 2.5 * p->unit, "SUMMARY OF THE VOTES");
      continue;
    }
    print_words(on, &p->black, cells->x + 12 * p->unit, y, height, 2.1 * p->unit, "VOTES");
    print_words(on, &p->black, p->left + 0.35 * (cells->x - p->left), y, height, 2.1 * p->unit,
                "PARTY OR CANDIDATE");
  }
}

/* A yellow banner or the like carries the title; forms without one have it at the top. */
static inline void print_title(press *p, canvas *on) {
  char title[TALLY_MAX_NAME + 24];
  snprintf(title, sizeof title, "RECORD OF THE COUNT  %s", p->form->name);
  double height = 18 * p->unit, width = words_width(title, height);
  double x = (p->form->width - width) / 2, y = 28 * p->unit;
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_box *b = &p->form->anchor[a].box;
    if (b->width > 4 * b->height && b->width > width) {
      x = b->x + (b->width - width) / 2;
      y = b->y + (b->height - height) / 2;
    }
  }
  if (y + 2 * height < p->top) print_words(on, &p->black, x, y, height, 2.6 * p->unit, title);
}

/* 1 if nothing that the template names lies in a box, with some room round it. */
static inline int is_free(const press *p, double x, double y, double width, double height) {
  double room = 9 * p->unit;
  if (x < room || y < room || x + width > p->form->width - room ||
      y + height > p->form->height - room)
    return 0;
  if (x < p->right + room && x + width > p->left - room && y < p->bottom + room &&
      y + height > p->top - room)
    return 0;
  for (int a = 0; a < p->form->anchors; a++) {
    const tally_box *b = &p->form->anchor[a].box;
    if (x < b->x + b->width + room && x + width > b->x - room && y < b->y + b->height + room &&
        y + height > b->y - room)
      return 0;
  }
  return 1;
}

/* "PLACE: ......" with something written on the dots. */
static inline void print_line(press *p, canvas *on, const writer *w, double x, double y,
                              double width, const char *words) {
  double height = 9 * p->unit, size = fmin(w->height * 0.6, 17 * p->unit);
  double from = x + words_width(words, height) + 10 * p->unit;
  if (!is_free(p, x, y - 8 * p->unit, width, height + 8 * p->unit)) return;
  print_words(on, &p->black, x, y, height, 1.4 * p->unit, words);
  for (double at = from; at < x + width; at += 5 * p->unit)
    mask_line(on, at, y + height, at + p->unit, y + height, 1.2 * p->unit);
  canvas_ink(on, &p->black);
  scribble(on, w, &p->random, from, y + height - size,
           (x + width - from) * between(&p->random, 0.4, 0.9), size);
}

/* Bars of random widths. */
static inline void print_barcode(press *p, canvas *on, double x, double y, double width,
                                 double height) {
  if (!is_free(p, x, y, width, height)) return;
  for (double at = x; at < x + width;) {
    double bar = p->unit * (1 + below(&p->random, 4));
    mask_box(on, at, y, bar, height);
    at += bar + p->unit * (1 + below(&p->random, 3));
  }
  canvas_ink(on, &p->black);
}

/* A small box with a heading and a signature; other people sign with other pens. */
static inline void print_signature(press *p, canvas *on, const writer *w, double x, double y,
                                   double width, double height) {
  writer other = *w;
  if (!is_free(p, x, y, width, height)) return;
  print_rule(p, on, 0, y, x, x + width, p->rule);
  print_rule(p, on, 0, y + height, x, x + width, p->rule);
  print_rule(p, on, 1, x, y, y + height, p->rule);
  print_rule(p, on, 1, x + width, y, y + height, p->rule);
  print_words(on, &p->black, x + 8 * p->unit, y + 7 * p->unit, 8 * p->unit, 1.4 * p->unit,
              "OFFICIAL");
  if (chance(&p->random, 0.12)) return;
  choose_ink(&other, &p->random, p->severity);
  other.pen *= between(&p->random, 0.7, 1.3);
  double tall = (height - 20 * p->unit) * between(&p->random, 0.35, 0.7);
  mask_loops(on, &other, &p->random, x + 0.15 * width, y + 18 * p->unit, width * 0.65, tall);
  canvas_ink(on, &other.with);
  other.joins = chance(&p->random, 0.5);
  scribble(on, &other, &p->random, x + 0.05 * width, y + height - 16 * p->unit, width * 0.9,
           12 * p->unit);
}

/* Everything outside of the table: what is filled in above it, signatures below, a form number. */
static inline void print_surroundings(press *p, canvas *on, const writer *w) {
  static const char *const above[] = {
      "STATION:", "DISTRICT:", "PLACE:", "SECTION:", "DATE:", "STATE:"};
  double width = p->form->width, step = 27 * p->unit, y = 68 * p->unit;
  for (int i = 0; y < p->top - step; y += step)
    for (int side = 0; side < 2; side++, i++)
      print_line(p, on, w, width * (side ? 0.5 : 0.14), y, width * (side ? 0.27 : 0.33),
                 above[i % 6]);
  print_barcode(p, on, width * 0.79, p->top - 44 * p->unit, width * 0.15, 19 * p->unit);
  y = p->bottom + 34 * p->unit;
  print_line(p, on, w, width * 0.06, y, width * 0.33, "DONE AT:");
  print_line(p, on, w, width * 0.45, y, width * 0.45, "HOUR:");
  y += 40 * p->unit;
  double end = p->form->height - 36 * p->unit, box = width * 0.126;
  double tall = limit(end - y, 70 * p->unit, 104 * p->unit);
  for (; y + tall < end + p->unit; y += tall + 46 * p->unit)
    for (int i = 0; i < 7; i++) print_signature(p, on, w, width * 0.06 + i * box, y, box, tall);
  if (is_free(p, width * 0.4, p->form->height - 30 * p->unit, width * 0.2, 9 * p->unit))
    print_words(on, &p->black, width * 0.4, p->form->height - 30 * p->unit, 8 * p->unit,
                1.2 * p->unit, "FORM 2 OF 2");
}

/* Waves of thin lines in bands, as banks print them. */
static inline void mask_guilloche(press *p, canvas *on, cn_random *random) {
  double step = p->unit * between(random, 7, 14), tall = p->unit * between(random, 5, 16);
  double wave = p->unit * between(random, 40, 160), pen = p->unit * between(random, 0.6, 1.2);
  for (double y = p->top; y < p->bottom; y += step) {
    double phase = between(random, 0, 6.28), last_x = p->left, last_y = y;
    for (double x = p->left; x < p->right; x += wave / 10) {
      double next = y + tall * sin(phase + 6.2831853 * x / wave);
      mask_line(on, last_x, last_y, x, next, pen);
      last_x = x;
      last_y = next;
    }
  }
}

/* Large words across the table, again and again. */
static inline void mask_watermark(press *p, canvas *on, cn_random *random) {
  double height = p->unit * between(random, 30, 70), pen = height * between(random, 0.08, 0.2);
  const char *words = chance(random, 0.5) ? "ELECTORAL COMMISSION" : "ORIGINAL";
  for (double y = p->top; y + height < p->bottom; y += height * 1.8)
    for (double x = p->left - height * between(random, 0, 3); x < p->right;
         x += words_width(words, height) + height)
      mask_words(on, x, y, height, pen, words);
}

/* In each cell a sign that shows where to write: a digit, a hatching, or a grid. */
static inline void mask_ghosts(press *p, canvas *on, cn_random *random) {
  const char sign[2] = {"0808"[below(random, 4)], 0};
  int kind = below(random, 3);
  double pen = p->unit * between(random, 0.8, 2.2);
  for (int f = 0; f < p->form->fields; f++)
    for (int k = 0; k < p->form->field[f].digits; k++) {
      const tally_box *b = &p->form->field[f].cell[k];
      double tall = 0.6 * fmin(b->height, 1.4 * b->width);
      if (kind == 0)
        mask_words(on, b->x + b->width / 2 - tall / 3, b->y + (b->height - tall) / 2, tall, pen,
                   sign);
      for (int i = 1; kind && i < 6; i++) {
        double x = b->x + b->width * i / 6, y = b->y + b->height * i / 6;
        mask_line(on, x, b->y, kind == 1 ? x - b->width / 6 : x, b->y + b->height, 0.5 * pen);
        if (kind == 2) mask_line(on, b->x, y, b->x + b->width, y, 0.5 * pen);
      }
    }
}

/* What careful printers put below a table: a tint over all of it, and one of three patterns, in the
   same pale colour. */
static inline void print_ground(press *p, canvas *on, cn_random *random) {
  ink with = {{0, 0, 0}, between(random, 0.02, 0.12), 0};
  hsv_to_rgb(between(random, 0, 360), between(random, 0.1, 0.7), between(random, 0.4, 0.8),
             with.colour);
  mask_box(on, p->left, p->top, p->right - p->left, p->bottom - p->top);
  canvas_ink(on, &with);
  with.strength = between(random, 0.08, 0.32);
  int kind = below(random, 3);
  if (kind == 0)
    mask_guilloche(p, on, random);
  else if (kind == 1)
    mask_watermark(p, on, random);
  else
    mask_ghosts(p, on, random);
  canvas_ink(on, &with);
}

/* The whole form, with what `w` writes outside of the cells. */
static inline void print_form(press *p, canvas *on, const writer *w) {
  const tally_template *form = p->form;
  print_anchors(p, on);
  for (int r = 0; r < form->rules; r++)
    print_rule(p, on, form->rule[r].down, form->rule[r].at, form->rule[r].from - p->rule / 2,
               form->rule[r].to + p->rule / 2, p->rule);
  for (int f = 0; f < form->fields; f++)
    if (!form->field[f].open) print_boxes(p, on, &form->field[f]);
  print_title(p, on);
  print_headings(p, on);
  for (int f = 0; f < form->fields; f++) print_name(p, on, w, f);
  print_surroundings(p, on, w);
}

#endif
