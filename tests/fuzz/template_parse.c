/* template_parse.c - tally_template_parse and tally_print_make on any text. What parses keeps to the
   limits and the grammar in tally.h; what does not has a place and a reason. Runs: 30000. */
#include <math.h>

#include "tally.h"

static void check_name(const char *name) {
  FUZZ_CHECK(*name && memchr(name, 0, TALLY_MAX_NAME));
  for (; *name; name++)
    FUZZ_CHECK((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
               (*name >= '0' && *name <= '9') || strchr("_-.", *name));
}

static void check_box(const tally_box *box) {
  FUZZ_CHECK(isfinite(box->x) && isfinite(box->y) && box->width > 0 && box->height > 0);
  FUZZ_CHECK(isfinite(box->width) && isfinite(box->height));
}

static void check_field(const tally_template *form, int f) {
  const tally_field *field = &form->field[f];
  check_name(field->name);
  FUZZ_CHECK(tally_template_field(form, field->name) == f);
  FUZZ_CHECK(field->digits >= 1 && field->digits <= TALLY_MAX_DIGITS);
  FUZZ_CHECK(field->first_cell + field->digits ==
             (f + 1 < form->fields ? form->field[f + 1].first_cell : form->cells));
  for (int i = 0; i < field->digits; i++) {
    const tally_box *cell = &field->cell[i];
    check_box(cell);
    FUZZ_CHECK(cell->width >= 8 && cell->height >= 8);
    FUZZ_CHECK(i == 0 || cell->x >= field->cell[i - 1].x + cell->width - 1e-6);
  }
}

static void check_sum(const tally_template *form, const tally_sum *sum) {
  FUZZ_CHECK(sum->parts >= 1 && sum->parts < TALLY_MAX_FIELDS);
  for (int i = 0; i <= sum->parts; i++) {
    const int field = i < sum->parts ? sum->part[i] : sum->total;
    FUZZ_CHECK(field >= 0 && field < form->fields);
    FUZZ_CHECK(form->field[field].digits <= TALLY_MAX_SUM_DIGITS);
    for (int j = 0; j < i; j++) FUZZ_CHECK(sum->part[j] != field);
  }
}

static void check_template(const tally_template *form) {
  FUZZ_CHECK(form->width >= 100 && form->width <= 10000);
  FUZZ_CHECK(form->height >= 100 && form->height <= 10000);
  FUZZ_CHECK(form->anchors >= 3 && form->anchors <= TALLY_MAX_ANCHORS);
  FUZZ_CHECK(form->fields >= 1 && form->fields <= TALLY_MAX_FIELDS);
  FUZZ_CHECK(form->rules >= 0 && form->rules <= TALLY_MAX_RULES);
  FUZZ_CHECK(form->sums >= 0 && form->sums <= TALLY_MAX_SUMS);
  FUZZ_CHECK(form->field[0].first_cell == 0);
  for (int i = 0; i < form->anchors; i++) {
    check_name(form->anchor[i].name);
    check_box(&form->anchor[i].box);
  }
  for (int i = 0; i < form->fields; i++) check_field(form, i);
  for (int i = 0; i < form->rules; i++)
    FUZZ_CHECK(isfinite(form->rule[i].at) && form->rule[i].from < form->rule[i].to);
  for (int i = 0; i < form->sums; i++) check_sum(form, &form->sum[i]);
}

/* The same text as that of a reference print, whose picture is half ink. */
static void try_print(const char *text, size_t size) {
  static uint8_t pixels[40 * 30];
  const tally_image picture = {pixels, 40, 30, 1};
  tally_print print;
  tally_error error = {0, 0, ""};
  memset(pixels, 255, sizeof pixels / 2);
  const tally_result result = tally_print_make(text, size, &picture, &print, &error);
  if (result != TALLY_OK) {
    FUZZ_CHECK(result == TALLY_ERROR_TEMPLATE && *error.message && !print.picture.pixels);
    return;
  }
  for (int i = 0; i < print.labels; i++) {
    const tally_label *label = &print.label[i];
    for (int k = 0; k < label->dots; k++)
      FUZZ_CHECK(label->dot[k].x >= label->left && label->dot[k].x <= label->right &&
                 label->dot[k].y >= label->top && label->dot[k].y <= label->bottom);
  }
  tally_print_free(&print);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static tally_template form;
  tally_error error = {0, 0, ""};
  uint8_t *text = malloc(size + !size); /* just as long, so that reading behind it is seen */
  FUZZ_CHECK(text);
  memcpy(text, data, size);
  const tally_result result = tally_template_parse((const char *)text, size, &form, &error);
  try_print((const char *)text, size);
  free(text);
  if (result == TALLY_OK) {
    check_template(&form);
  } else {
    FUZZ_CHECK(result == TALLY_ERROR_TEMPLATE && *error.message);
    FUZZ_CHECK(error.line >= 0 && error.column >= 0);
  }
  return 0;
}
