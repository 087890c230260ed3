/* audit.c - the tables that tally-audit reads, on any bytes: counts with and without lists of tallies and
   voters, settings, what was keyed. What is taken is about tallies and fields that there are. Runs: 20000. */
#include "tools.h"

#include "audit/keyed.h"
#include "audit/settings.h"

static void check_population(const population *all) {
  for (int i = 0; i < all->tallies; i++) {
    FUZZ_CHECK(!i || strcmp(all->names[i - 1], all->names[i]) < 0);
    FUZZ_CHECK(!all->most || (all->most[i] >= 0 && all->most[i] <= MOST_VOTES));
    for (int f = 0; f < all->fields; f++) {
      FUZZ_CHECK(count_at(all, i, f) >= NO_COUNT && count_at(all, i, f) <= MOST_VOTES);
      FUZZ_CHECK(!is_accepted(all, i, f) || count_at(all, i, f) >= 0);
    }
  }
}

/* The table in the place of each of the three. */
static void read_population(const uint8_t *data, size_t size) {
  const char *path = fuzz_file(data, size);
  population all = population_read(path, NULL, NULL, 5);
  check_population(&all);
  population_free(&all);
  all = population_read(path, path, NULL, 0);
  population_free(&all);
  all = population_read(path, NULL, path, 0);
  check_population(&all);
  population_free(&all);
}

static void read_audit(const uint8_t *data, size_t size) {
  audit_settings set = read_settings(fuzz_file(data, size));
  FUZZ_CHECK(set.rounds >= 1 && sample_size(&set) > 0 && set.seed && strlen(set.counts) == 64);
  FUZZ_CHECK(set.risk > 0 && set.risk <= 0.5 && set.share > 0 && set.hedge >= 0);
  settings_free(&set);
}

/* A population of two tallies, one of which was drawn. */
static void read_keyed(const uint8_t *data, size_t size) {
  static char *names[] = {"1.png", "2.png"}, *stems[] = {"1", "2"}, *fields[] = {"a", "b"};
  static form_name by_name[] = {{"1.png", 0}, {"2.png", 1}}, by_stem[] = {{"1", 0}, {"2", 1}};
  const population all = {.tallies = 2,
                          .fields = 2,
                          .names = names,
                          .field = fields,
                          .by_name = by_name,
                          .by_stem = by_stem,
                          .stems = stems};
  drawing one = {.tally = 1};
  const draw_queue queue = {&one, 1, 1};
  keyed to = keyed_begin(&all, &queue, 1);
  keyed_read(&to, &all, fuzz_file(data, size));
  for (int f = 0; f < 2; f++)
    FUZZ_CHECK(keyed_row(&to, 0)[f] >= NOT_KEYED && keyed_row(&to, 0)[f] <= MOST_VOTES);
  keyed_settle(&to);
  keyed_free(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tool_run(read_population, data, size);
  tool_run(read_audit, data, size);
  tool_run(read_keyed, data, size);
  return 0;
}
