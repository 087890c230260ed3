/* form.h - the template a tally is drawn from, and the same with fewer rows.

   Internal to tally-synth; include it after tool.h. */
#ifndef TALLY_SYNTH_FORM_H
#define TALLY_SYNTH_FORM_H

/* 1 if there are anchors in colour. */
static inline int form_has_colour(const tally_template *form) {
  for (int a = 0; a < form->anchors; a++)
    if (form->anchor[a].kind != TALLY_ANCHOR_SQUARE) return 1;
  return 0;
}

/* For qsort: fields from top to bottom. */
static inline int row_order(const void *a, const void *b) {
  const tally_field *x = *(const tally_field *const *)a, *y = *(const tally_field *const *)b;
  return x->cell[0].y < y->cell[0].y ? -1 : x->cell[0].y > y->cell[0].y;
}

/* A field's line in a template's text, with its boxes moved to start at `at`. */
static inline void say_field(text_buffer *to, const tally_field *f, const tally_box *at) {
  const tally_box *first = &f->cell[0];
  text_add(to, "field %s %d digits cells %.9g,%.9g %dx%.9gx%.9g", f->name, f->digits, at->x, at->y,
           f->digits, at->width, at->height);
  if (f->digits > 1) text_add(to, " pitch %.9g", f->cell[1].x - first->x);
  text_add(to, "%s\n", f->open ? " open" : "");
}

/* The lines of all anchors. */
static inline void say_anchors(text_buffer *to, const tally_template *form) {
  for (int a = 0; a < form->anchors; a++) {
    const tally_anchor *k = &form->anchor[a];
    const tally_box *b = &k->box;
    const double *low = k->hsv_low, *high = k->hsv_high;
    if (k->kind == TALLY_ANCHOR_SQUARE) {
      text_add(to, "anchor %s square %.9g,%.9g %.9gx%.9g\n", k->name, b->x, b->y, b->width,
               b->height);
      continue;
    }
    text_add(to, "anchor %s colour hsv(%.9g..%.9g, %.9g..%.9g, %.9g..%.9g) ", k->name, low[0],
             high[0], low[1], high[1], low[2], high[2]);
    if (k->kind == TALLY_ANCHOR_DISC)
      text_add(to, "disc %.9g,%.9g r%.9g\n", b->x + b->width / 2, b->y + b->height / 2,
               b->width / 2);
    else
      text_add(to, "box %.9g,%.9g %.9gx%.9g\n", b->x, b->y, b->width, b->height);
  }
}

/* The rules of a table that is cut off below `end`. */
static inline void say_rules(text_buffer *to, const tally_template *form, double end) {
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *k = &form->rule[r];
    if ((k->down ? k->from : k->at) > end + 0.01) continue;
    text_add(to, "rule %s %.9g from %.9g to %.9g\n", k->down ? "down" : "across", k->at, k->from,
             k->down ? fmin(k->to, end) : k->to);
  }
}

static inline const char *mark_name(tally_mark mark) {
  return mark == TALLY_MARK_LEADING_ZERO ? "leading-zero" : "illegible";
}

/* The text of a form with the same places but fewer rows: those above the last two parts of the sum
   go, the others move up, and the table ends below the last one. */
static inline char *shorten_form(const tally_template *form, int rows, const char *path) {
  const tally_field *slots[TALLY_MAX_FIELDS], *kept[TALLY_MAX_FIELDS];
  int parts = form->fields - 1, count = 0;
  if (form->sums != 1 || form->sum[0].parts != parts)
    fail("%s: --rows needs a form with one sum over all its fields", path);
  if (rows > parts) fail("%s: --rows %d: the form has %d", path, rows, parts);
  for (int f = 0; f < form->fields; f++) slots[f] = &form->field[f];
  qsort(slots, (size_t)form->fields, sizeof slots[0], row_order);
  const tally_field *total = &form->field[form->sum[0].total];
  for (int f = 0, seen = 0; f < form->fields; f++) {
    int last = seen >= parts - 2;
    if (slots[f] == total)
      kept[count++] = total;
    else if (last ? seen >= parts - rows : seen < rows - 2)
      kept[count++] = slots[f];
    seen += slots[f] != total;
  }
  double bottom = slots[count - 1]->cell[0].y + slots[count - 1]->cell[0].height, end = bottom,
         gap = 1e9;
  for (int r = 0; r < form->rules; r++)
    if (!form->rule[r].down && form->rule[r].at >= bottom - 0.01 &&
        form->rule[r].at - bottom < gap) {
      gap = form->rule[r].at - bottom;
      end = form->rule[r].at;
    }
  text_buffer text = {0};
  text_add(&text, "form %.*s-%d\npage %.9g x %.9g\n", TALLY_MAX_NAME - 5, form->name, rows,
           form->width, form->height);
  say_anchors(&text, form);
  for (int k = 0; k < count; k++) say_field(&text, kept[k], &slots[k]->cell[0]);
  say_rules(&text, form, end);
  text_add(&text, "sum %s =", total->name);
  for (int k = 0, first = 1; k < count; k++)
    if (kept[k] != total) {
      text_add(&text, "%s %s", first ? "" : " +", kept[k]->name);
      first = 0;
    }
  text_add(&text, "\nblank empty = %s cross = %s dash = %s\n", mark_name(form->empty),
           mark_name(form->cross), mark_name(form->dash));
  return text.data;
}

/* Reads a template's text; two sums with one total could not both hold. */
static inline tally_template parse_form(const char *text, const char *path) {
  tally_template form;
  tally_error error;
  if (tally_template_parse(text, strlen(text), &form, &error) != TALLY_OK)
    fail("%s: line %d, column %d: %s", path, error.line, error.column, error.message);
  for (int a = 0; a < form.sums; a++)
    for (int b = 0; b < a; b++)
      if (form.sum[a].total == form.sum[b].total)
        fail("%s: field %s is the total of two sums; such forms cannot be drawn", path,
             form.field[form.sum[a].total].name);
  return form;
}

#endif
