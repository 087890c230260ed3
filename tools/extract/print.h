/* print.h - a reference print, made from registered forms: what all of them show of the fields'
   labels, without what people wrote. */
#ifndef TALLY_EXTRACT_PRINT_H
#define TALLY_EXTRACT_PRINT_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tally.h"
#include "../csv_write.h"
#include "../form_list.h"
#include "../output.h"
#include "../views.h"
#include "../implementations/stb.h"

#define PRINT_FORMS 99 /* so many are enough */
#define PRINT_LEAST 3  /* of fewer, what one person wrote would stay */

/* Where the label of a field is looked for: to the left of its cells as far as the table or another
   field's cells, down to the next rule if that is near. */
static inline tally_box label_box(const tally_template *form, int field) {
  const tally_box *cell = &form->field[field].cell[0];
  double left = table_of(form).x, right = cell->x, top = cell->y, end = top + cell->height,
         bottom = end;
  for (int f = 0; f < form->fields; f++) {
    const tally_box *last = &form->field[f].cell[form->field[f].digits - 1];
    if (last->x + last->width <= cell->x && last->y < end && last->y + last->height > top)
      left = fmax(left, last->x + last->width);
  }
  double next = end + 1.2 * cell->height;
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *rule = &form->rule[r];
    if (!rule->down && rule->at > end - 3 && rule->from < right && rule->to > left)
      next = fmin(next, rule->at);
  }
  if (next < end + 1.2 * cell->height) bottom = next;
  left = ceil(left + 4);
  top = ceil(top + 3);
  return (tally_box){left, top, fmax(floor(right - 4) - left, 1), fmax(floor(bottom - 3) - top, 1)};
}

/* The labels of a registered form, one after another. */
static inline uint8_t *cut_labels(const tally_template *form, const tally_image *photo,
                                  const tally_registration *where) {
  text_buffer all = {0};
  for (int f = 0; f < form->fields; f++) {
    tally_box box = label_box(form, f);
    tally_image view;
    if (tally_print_view(photo, where, &box, &view) != TALLY_OK) fail("out of memory");
    text_append(&all, (const char *)view.pixels, (size_t)view.width * (size_t)view.height);
    tally_image_free(&view);
  }
  return (uint8_t *)all.data;
}

static inline int compare_bytes(const void *a, const void *b) {
  return *(const uint8_t *)a - *(const uint8_t *)b;
}

/* What three quarters of the forms show of a pixel: print, but not what people wrote. Faint traces
   are paper. */
static inline uint8_t common_light(uint8_t *const *forms, int count, size_t pixel) {
  uint8_t values[PRINT_FORMS];
  for (int i = 0; i < count; i++) values[i] = forms[i][pixel];
  qsort(values, (size_t)count, 1, compare_bytes);
  uint8_t light = values[count * 3 / 4];
  return light > 216 ? 255 : light & 0xF0;
}

/* Whether the template has a rule there: all rows have such, they are no part of a label. */
static inline int is_rule(const tally_template *form, double x, double y) {
  for (int r = 0; r < form->rules; r++) {
    const tally_rule *rule = &form->rule[r];
    double beside = rule->down ? x : y, along = rule->down ? y : x;
    if (fabs(beside - rule->at) < 5 && along > rule->from - 5 && along < rule->to + 5) return 1;
  }
  return 0;
}

/* The least box round all labels. */
static inline tally_box print_place(const tally_template *form) {
  double left = form->width, top = form->height, right = 0, bottom = 0;
  for (int f = 0; f < form->fields; f++) {
    tally_box box = label_box(form, f);
    left = fmin(left, box.x);
    top = fmin(top, box.y);
    right = fmax(right, box.x + box.width);
    bottom = fmax(bottom, box.y + box.height);
  }
  return (tally_box){left, top, right - left, bottom - top};
}

/* Writes path and path.png from the labels of `count` forms, each as cut_labels gives them. */
static inline void write_print(const char *path, const tally_template *form, uint8_t *const *forms,
                               int count) {
  tally_box place = print_place(form);
  int width = (int)place.width, height = (int)place.height;
  uint8_t *pixels = allocate((size_t)width, (size_t)height);
  text_buffer png = {0}, text = {0}, png_path = {0};
  size_t at = 0;
  memset(pixels, 255, (size_t)width * (size_t)height);
  text_add(&text,
           "# The printed labels of this form's fields, made by tally-extract --print from %d\n"
           "# pictures. The picture beside this file is what all of them show.\n"
           "form   %s\nprint  %.0f,%.0f %dx%d\n",
           count, form->name, place.x, place.y, width, height);
  for (int f = 0; f < form->fields; f++) {
    tally_box box = label_box(form, f);
    int x0 = (int)(box.x - place.x), y0 = (int)(box.y - place.y);
    for (int y = 0; y < (int)box.height; y++)
      for (int x = 0; x < (int)box.width; x++, at++)
        if (!is_rule(form, box.x + x, box.y + y))
          pixels[(size_t)(y0 + y) * (size_t)width + (size_t)(x0 + x)] =
              common_light(forms, count, at);
    text_add(&text, "label  %s %.0f,%.0f %.0fx%.0f beside %.0f,%.0f\n", form->field[f].name, box.x,
             box.y, box.width, box.height, form->field[f].cell[0].x, form->field[f].cell[0].y);
  }
  if (!stbi_write_png_to_func(append_bytes, &png, width, height, 1, pixels, 0))
    fail("cannot encode a picture");
  text_add(&png_path, "%s.png", path);
  write_file(png_path.data, png.data, png.length);
  write_file(path, text.data, text.length);
  free(png_path.data);
  free(text.data);
  free(png.data);
  free(pixels);
}

#endif
