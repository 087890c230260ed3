/* counts.c - tally_decode and totals on any probabilities, cells and options, for forms with sums of
   every kind. Each count's posterior sums to 1, and what is reported is what it says; what is refused
   leaves nothing. Runs: 400. */
#include <math.h>

#include "tally.h"

#define HEAD                                                                                       \
  "page 400 x 300\nanchor a square 8,8 12x12\nanchor b square 380,8 12x12\n"                       \
  "anchor c square 8,280 12x12\n"

static const char *const texts[] = {
    HEAD "field x 1 digits cells 50,50 1x20x20\nfield y 2 digits cells 50,80 2x20x20\n"
         "blank empty = leading-zero cross = leading-zero dash = leading-zero\n",
    HEAD "field x 2 digits cells 50,50 2x20x20\nfield y 1 digits cells 50,80 1x20x20\n"
         "field z 2 digits cells 50,110 2x20x20\nsum z = x + y\n",
    HEAD "field x 1 digits cells 50,50 1x20x20\nfield y 1 digits cells 50,80 1x20x20\n"
         "field z 2 digits cells 50,110 2x20x20\nfield w 2 digits cells 50,140 2x20x20\n"
         "field v 2 digits cells 50,170 2x20x20\nsum z = x + y\nsum v = z + w\n"
         "blank empty = illegible cross = leading-zero dash = illegible\n",
    HEAD "field x 3 digits cells 50,50 3x20x20\nfield y 3 digits cells 50,80 3x20x20\nsum x = y\n",
};
#define TEXTS ((int)(sizeof texts / sizeof *texts))
#define MOST_CELLS 16

/* From very small to very large, and what is none. */
static double any_number(fuzz_bytes *from) {
  static const double special[] = {0, 1, 1e-300, 5e-324, 1e300, NAN, INFINITY, -1};
  const unsigned choice = fuzz_byte(from);
  if (choice < 8) return special[choice];
  return choice < 64 ? ldexp(1 + fuzz_byte(from), (int)choice * 16 - 512) : choice / 255.0;
}

static int is_near(double a, double b) {
  return fabs(a - b) < 1e-6;
}

static void check_count(const tally_counts *counts, int f) {
  const tally_count *count = &counts->count[f];
  const int values = counts->values[f];
  double sum = 0;
  for (int v = 0; v < values + 2; v++) {
    FUZZ_CHECK(counts->distribution[f][v] >= 0);
    sum += counts->distribution[f][v];
  }
  FUZZ_CHECK(is_near(sum, 1));
  FUZZ_CHECK(count->status <= TALLY_COUNT_UNREAD);
  FUZZ_CHECK(count->value >= TALLY_NO_VALUE && count->value < values);
  FUZZ_CHECK(count->second >= TALLY_NO_VALUE && count->second < values);
  FUZZ_CHECK(count->status < TALLY_COUNT_MISSING || count->value == TALLY_NO_VALUE);
  FUZZ_CHECK(count->status != TALLY_COUNT_OK || (count->value >= 0 && !*count->reason));
  FUZZ_CHECK(count->status != TALLY_COUNT_REVIEW || *count->reason);
  FUZZ_CHECK(is_near(count->missing, counts->distribution[f][values]));
  FUZZ_CHECK(is_near(count->illegible, counts->distribution[f][values + 1]));
  if (count->value >= 0)
    FUZZ_CHECK(is_near(count->probability, counts->distribution[f][count->value]));
  FUZZ_CHECK(count->quality >= 0 && count->quality <= 1 + 1e-9);
}

static void check_totals(const tally_template *form, const tally_counts *counts, int times) {
  tally_totals totals;
  if (tally_totals_begin(form, 1, &totals) != TALLY_OK) return;
  int good = 1;
  for (int i = 0; i < times; i++)
    good = good && tally_totals_add(&totals, i % 3 == 2 ? NULL : counts) == TALLY_OK;
  if (good && tally_totals_finish(&totals) == TALLY_OK)
    for (int f = 0; f < form->fields; f++)
      for (int group = 0; group < TALLY_GROUPS; group++) {
        tally_total total;
        const tally_result result = tally_totals_get(&totals, group, f, NULL, &total);
        FUZZ_CHECK(result == TALLY_OK && total.votes >= 0);
        FUZZ_CHECK(total.low <= total.high && total.low >= 0 && isfinite(total.high));
        FUZZ_CHECK(total.share >= 0 && (total.share <= 1 + 1e-9 || totals.is_total[f]));
      }
  tally_totals_free(&totals);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static tally_template forms[TEXTS];
  double rows[MOST_CELLS * TALLY_CLASSES];
  static tally_cell cells[MOST_CELLS];
  fuzz_bytes from = {data, size};
  const int choice = fuzz_between(&from, 0, TEXTS - 1), times = fuzz_between(&from, 0, 7);
  const int seen = fuzz_between(&from, 0, 1), plain = fuzz_between(&from, 0, 2);
  tally_template *form = &forms[choice];
  tally_decode_options options = {0, 0, 0};
  tally_counts counts;
  if (!form->fields) {
    const tally_result parsed =
        tally_template_parse(texts[choice], strlen(texts[choice]), form, NULL);
    FUZZ_CHECK(parsed == TALLY_OK && form->cells <= MOST_CELLS);
  }
  if (!plain) {
    options.temperature = any_number(&from);
    options.wrong_sum = any_number(&from);
    options.risk = any_number(&from);
  }
  for (int i = 0; i < form->cells; i++) {
    cells[i].state = (tally_cell_state)fuzz_between(&from, 0, 2);
    cells[i].dash = fuzz_between(&from, 0, 1);
  }
  for (int i = 0; i < form->cells * TALLY_CLASSES; i++) rows[i] = any_number(&from);
  const tally_result result = tally_decode(form, rows, seen ? cells : NULL, &options, &counts);
  FUZZ_CHECK(result == TALLY_OK || result == TALLY_ERROR_ARGUMENT);
  if (result == TALLY_OK) {
    for (int f = 0; f < form->fields; f++) check_count(&counts, f);
    check_totals(form, &counts, times);
  }
  tally_counts_free(&counts);
  return 0;
}
