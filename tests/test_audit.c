/* test_audit.c - audits by hand: hashes, exact tails, bets and draws have the right numbers, simulated audits
   keep their risk, and tally-audit does as it says, also with hostile tables.

   Build:  make all build/tests/test_audit
   Run:    build/tests/test_audit     in the repository's root; BIN=folder of programs

   Numbers that are not derived here are from an independent program with SciPy 1.17. */
#define main audit_main
#include "../tools/tally-audit.c"
#undef main
#include "support.h"

#include "programs.h"

static char here[PATH_MAX];

/* ---- SHA-256 --------------------------------------------------------------------------------------- */

static void assert_hash(const char *text, size_t times, const char *want) {
  sha256 hash = sha256_begin();
  char got[SHA256_TEXT];
  for (size_t i = 0; i < times; i++) sha256_add(&hash, text, strlen(text));
  sha256_end(&hash, got);
  assert_string_equal(got, want);
}

/* The examples of FIPS 180-4 and of NIST's page on it; the million of letters also piece by piece. */
static void test_sha256_vectors(void **state) {
  (void)state;
  assert_hash("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  assert_hash("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  assert_hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
              "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
              1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  assert_hash("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  assert_hash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 25000,
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Files of every length around the blocks' ends. */
static void test_sha256_is_sha256sum(void **state) {
  (void)state;
  char bytes[200], name[32], hash[SHA256_TEXT];
  for (int i = 0; i < 200; i++) bytes[i] = (char)(i * 37 + 11);
  for (int size = 0; size < 200; size++) {
    snprintf(name, sizeof name, "hashed-%03d", size);
    write_home(name, bytes, (size_t)size);
  }
  assert_ran(shell("sha256sum hashed-*"));
  char *at = out_text;
  for (int size = 0; size < 200; size++) {
    snprintf(name, sizeof name, "hashed-%03d", size);
    char *path = join_path(home, name);
    hash_file(path, hash);
    free(path);
    assert_memory_equal(at, hash, 64);
    at = strchr(at, '\n') + 1;
  }
  assert_ran(shell("rm hashed-*"));
}

/* ---- exact tails ----------------------------------------------------------------------------------- */

static void test_tails(void **state) {
  (void)state;
  assert_near("binomial", binomial_at_most(630, 0.01, 2), 0.04906342851860339, 1e-12);
  assert_near("binomial", binomial_at_most(1000, 0.02, 7), 0.0007124607324758307, 1e-11);
  assert_near("binomial", binomial_at_most(1000000, 1e-6, 0), 0.3678792572316451, 1e-9);
  assert_near("hypergeometric", hypergeometric_at_most(400, 5, 180, 1), 0.25470974786433825, 1e-11);
  assert_near("hypergeometric", hypergeometric_at_most(400, 5, 180, 0), 0.04929866087696871, 1e-11);
  assert_near("hypergeometric", hypergeometric_at_most(10000, 101, 500, 2), 0.11297137655936001,
              1e-10);
  assert_near("hypergeometric", hypergeometric_at_most(50, 30, 20, 3), 9.997304804524583e-08,
              1e-10);
  assert_near("hypergeometric", hypergeometric_at_most(12, 1, 11, 0), 1.0 / 12, 1e-12);
  assert_near("upper", binomial_upper(12, 11, 0.025), 0.9978924067681397, 1e-10);
  assert_near("lower", binomial_lower(12, 11, 0.025), 0.6152038348490559, 1e-10);
  assert_near("upper", binomial_upper(299, 0, 0.05), 0.009969146792899269, 1e-10);
}

/* Where nothing or all can be found. */
static void test_tails_at_their_ends(void **state) {
  (void)state;
  assert_true(binomial_at_most(10, 0, 0) == 1 && binomial_at_most(10, 1, 9) == 0);
  assert_true(binomial_at_most(10, 0.5, 10) == 1 && binomial_at_most(10, 0.5, -1) == 0);
  assert_true(hypergeometric_at_most(10, 0, 5, 0) == 1);
  assert_true(hypergeometric_at_most(10, 4, 8, 1) == 0); /* two of them are certain */
  assert_near("two are certain", hypergeometric_at_most(10, 4, 8, 2), 6.0 / 45, 1e-12);
  assert_true(hypergeometric_at_most(10, 4, 10, 3) == 0);
  assert_true(hypergeometric_at_most(1, 1, 1, 0) == 0);
  assert_true(binomial_upper(0, 0, 0.05) == 1 && binomial_lower(0, 0, 0.05) == 0);
}

/* How often each number of hits comes out, counted over all samples: any 6 of 12 with 5 hits. */
static void test_hypergeometric_by_counting(void **state) {
  (void)state;
  double found[7] = {0}, all = 0, sum = 0;
  for (int set = 0; set < 1 << 12; set++) {
    int size = 0, hits = 0;
    for (int i = 0; i < 12; i++) {
      size += set >> i & 1;
      hits += i < 5 && (set >> i & 1);
    }
    if (size != 6) continue;
    found[hits]++;
    all++;
  }
  for (int k = 0; k < 6; k++) {
    sum += found[k];
    assert_near("hypergeometric", hypergeometric_at_most(12, 5, 6, k), sum / all, 1e-12);
  }
}

/* The figures of Learn-then-Test with 0, 1 and 2 errors, each the fewest for which the tail is within the
   risk. */
static void test_draws_needed(void **state) {
  (void)state;
  static const long long one[] = {299, 473, 628}, half[] = {598, 947, 1258};
  static const long long enough_for_one[] = {299, 475, 630}, enough_for_half[] = {598, 953, 1263};
  for (int k = 0; k < 3; k++) {
    assert_int_equal(draws_needed(0.01, 0, k, 0.05), one[k]);
    assert_int_equal(draws_needed(0.005, 0, k, 0.05), half[k]);
    assert_true(binomial_at_most(one[k], 0.01, k) <= 0.05);
    assert_true(binomial_at_most(one[k] - 1, 0.01, k) > 0.05);
    assert_true(binomial_at_most(half[k], 0.005, k) <= 0.05);
    assert_true(binomial_at_most(half[k] - 1, 0.005, k) > 0.05);
    assert_true(share_risk(0.01, 0, enough_for_one[k], k) <= 0.05);
    assert_true(share_risk(0.005, 0, enough_for_half[k], k) <= 0.05);
  }
  assert_int_equal(draws_needed(0.01, 400, 0, 0.05), 180);
  assert_int_equal(draws_needed(0.01, 400, 5, 0.05), 400); /* five are too many */
  assert_int_equal(draws_needed(0.01, 1, 0, 0.05), 1);
  assert_int_equal(draws_needed(1e-7, 0, 100, 1e-9), -1);
}

/* ---- bets ---------------------------------------------------------------------------------------- */

static void test_bets_needed(void **state) {
  (void)state;
  const long long most = INT_MAX;
  assert_int_equal(bets_needed(0.01, HEDGE, 0.05, 0, most), 299);
  assert_int_equal(bets_needed(0.005, HEDGE, 0.05, 0, most), 598);
  assert_int_equal(bets_needed(0.01, HEDGE, 0.05, 10000000, most), 299);
  assert_int_equal(bets_needed(0.01, HEDGE, 0.05, 400, most), 211);
  assert_int_equal(bets_needed(0.005, HEDGE, 0.05, 400, most), 311);
  assert_int_equal(bets_needed(1 / (1 + 1 / 0.1), HEDGE, 0.05, 0, most), 32);
  assert_int_equal(bets_needed(1 / (1 + 1 / 0.02), HEDGE, 0.05, 0, most), 152);
  assert_int_equal(bets_needed(0.01, 0.1, 0.05, 0, most), 306);
  assert_int_equal(bets_needed(0.01, 0.5, 0.05, 0, most), 345);
  assert_int_equal(bets_needed(1.0 / 51, 0.5, 0.05, 0, most), 175);
  assert_int_equal(bets_needed(0.01, HEDGE, 0.05, 1, most), 1);
  assert_int_equal(bets_needed(0.01, HEDGE, 0.05, 0, 298), -1);
}

/* The same stream of draws in another program. */
static void test_bets_on_a_stream(void **state) {
  (void)state;
  static const double weights[] = {5, 3, 8, 1, 9, 2, 7, 4, 6, 10};
  static const double errors[] = {0, 0.5, -1, 0, 2, 0, 1, -2, 0, 0};
  static const double hedges[] = {0.001, 0.3};
  static const double want[2][7] = {
      {0.636479359883615, 0.458314534960487, 0.238403415730615, 0.113102378218571,
       0.0669729247835188, 0.0242507891136261, 0.00890742001319334},
      {0.673076923076923, 0.501772131735096, 0.274794027155538, 0.135996782191513,
       0.0824842609399927, 0.0307898507890038, 0.0115528501589133}};
  for (int h = 0; h < 2; h++) {
    betting game = betting_begin(20, 55, hedges[h]);
    for (int t = 0; t < 10; t++) {
      betting_take(&game, weights[t], errors[t]);
      if (t < 7) assert_near("risk", game.risk, want[h][t], 1e-12);
      if (t >= 7) assert_true(game.risk == 0); /* what is left is lighter than what is missing */
    }
  }
}

/* A game under a null hypothesis that is just true: the capital's mean over all orders, each with the
   chance that weighted draws give it, is no more than the stake. */
typedef struct fair_game {
  double weights[5], errors[5], limit, hedge, mean;
} fair_game;

static double capital_of(const betting *game) {
  double parts = 0;
  for (int i = 0; i < BETS; i++) parts += game->part[i] / BETS;
  return (1 - game->hedge) * game->all_in + game->hedge * parts;
}

static void play_all_orders(fair_game *of, betting game, int used, double chance, int rounds) {
  if (!rounds) {
    of->mean += chance * capital_of(&game);
    return;
  }
  double left = 0;
  for (int i = 0; i < 5; i++) left += used >> i & 1 ? 0 : of->weights[i];
  for (int i = 0; i < 5; i++) {
    if (used >> i & 1) continue;
    betting next = game;
    betting_take(&next, of->weights[i], of->errors[i]);
    play_all_orders(of, next, used | 1 << i, chance * of->weights[i] / left, rounds - 1);
  }
}

static void test_bets_are_fair(void **state) {
  (void)state;
  fair_game games[] = {{{1, 1, 1, 1, 1}, {0, 0, 1, 0, 0}, 1, 0.001, 0},
                       {{5, 3, 1, 7, 2}, {1, 0, 1, 0.5, -1}, 1.5, 0.3, 0},
                       {{5, 3, 1, 7, 2}, {5, 0, 0, 0, 0}, 5, 0, 0},
                       {{4, 4, 2, 9, 1}, {-4, 4, 2, -2.5, 1}, 0.5, 1, 0}};
  for (int g = 0; g < 4; g++)
    for (int rounds = 1; rounds <= 4; rounds++) {
      double weight = 0;
      for (int i = 0; i < 5; i++) weight += games[g].weights[i];
      games[g].mean = 0;
      play_all_orders(&games[g], betting_begin(games[g].limit, weight, games[g].hedge), 0, 1,
                      rounds);
      assert_true(games[g].mean <= 1 + 1e-12);
      if (g < 3) assert_near("mean capital", games[g].mean, 1, 0.25);
    }
}

/* ---- populations for the tests of statements ------------------------------------------------------ */

/* Tallies with the same counts of parties A and B, which may hold `most` votes each. */
static population make_population(int tallies, int a, int b, int most) {
  population all = {.tallies = tallies, .fields = 2};
  static const char *const names[] = {"A", "B"};
  all.names = allocate((size_t)tallies, sizeof(char *));
  all.counts = allocate(2 * (size_t)tallies, sizeof(int));
  all.accepted = allocate(2 * (size_t)tallies, 1);
  all.most = allocate((size_t)tallies, sizeof(double));
  all.field = allocate(2, sizeof(char *));
  for (int f = 0; f < 2; f++) all.field[f] = copy_text(names[f]);
  for (int i = 0; i < tallies; i++) {
    text_buffer name = {0};
    text_add(&name, "tally-%04d", i);
    all.names[i] = name.data;
    all.counts[2 * i] = a;
    all.counts[2 * i + 1] = b;
    all.accepted[2 * i] = all.accepted[2 * i + 1] = 1;
    all.most[i] = most;
  }
  population_index(&all);
  add_party(&all, 0);
  add_party(&all, 1);
  return all;
}

/* The result from A and B: their shares, in tallies of 100 votes. */
static int needed_for(statement_kind kind, int tallies, int a, double x) {
  audit_settings set = {.design = (int)kind,
                        .risk = 0.05,
                        .hedge = HEDGE,
                        .wrong = 0.01,
                        .share = x,
                        .seed = copy_text("1")};
  drawn_sample from = draw_sample(make_population(tallies, a, 100 - a, 100), &set);
  int needed = first_round(&from, &set);
  drawn_sample_free(&from);
  settings_free(&set);
  return needed;
}

/* What plan says is what the statements need, drawn from tallies that are all alike. */
static void test_samples_are_as_planned(void **state) {
  (void)state;
  assert_int_equal(needed_for(STATEMENT_SHARES, 400, 100, 0.01), 211);
  assert_int_equal(needed_for(STATEMENT_SHARES, 400, 100, 0.005), 311);
  assert_int_equal(needed_for(STATEMENT_SHARES, 100000, 100, 0.01), 298); /* not put back */
  assert_true(needed_for(STATEMENT_SHARES, 100000, 60, 0.01) <= 299);
  assert_int_equal(needed_for(STATEMENT_WINNER, 100000, 55, 0.01), 32);
  assert_int_equal(needed_for(STATEMENT_WINNER, 100000, 51, 0.01), 152);
  assert_int_equal(needed_for(STATEMENT_WRONG, 100000, 51, 0.01), 298); /* 1,001 are too many */
  assert_int_equal(needed_for(STATEMENT_WINNER, 1, 51, 0.01), 1);
}

/* No tally can make an error larger than its bound, whatever is written on it, and some reach it. */
static void test_errors_have_their_bounds(void **state) {
  (void)state;
  for (int most = 6; most <= 12; most += 3) {
    population all = make_population(3, 5, 3, most);
    all.counts[2] = 0;
    all.counts[4] = 9; /* more than 6: what was read is possible */
    assertions what = assertions_of(&all, 0.3, 0.07);
    assert_int_equal(what.count, 1 + 1 + 4);
    for (int i = 0; i < what.count; i++)
      for (int tally = 0; tally < 3; tally++) {
        double worst = -1e9, bound = error_bound(&all, &what.of[i], tally);
        int written[2];
        for (written[0] = -1; written[0] <= (int)most_votes(&all, tally); written[0]++)
          for (written[1] = -1; all_votes_written(&all, written) <= most_votes(&all, tally);
               written[1]++)
            worst = fmax(worst, error_found(&all, &what.of[i], tally, written));
        assert_true(worst <= bound + 1e-9);
        assert_true(worst >= bound - 1e-9);
        written[1] = WRITTEN_ILLEGIBLE;
        assert_true(error_found(&all, &what.of[i], tally, written) >= bound - 1e-9);
      }
    free(what.of);
    population_free(&all);
  }
}

/* Errors add up to the limit exactly where the statement becomes false. */
static void test_limits_are_where_statements_end(void **state) {
  (void)state;
  population all = make_population(10, 60, 40, 100);
  assertions what = assertions_of(&all, 0.1, 0.05);
  for (int shift = 0; shift <= 15; shift++)
    for (int i = 0; i < what.count; i++) {
      const assertion *of = &what.of[i];
      int written[] = {60 - shift, 40 + shift};
      double sum = 0, share = (60 - shift) / 100.0;
      for (int t = 0; t < 10; t++) sum += error_found(&all, of, t, written);
      int is_false = of->kind == STATEMENT_WINNER ? written[1] >= written[0]
                     : of->kind == STATEMENT_SHARES
                         ? of->other == (of->party ? 1 : -1) && share <= 0.55 + 1e-9
                         : shift > 0;
      assert_int_equal(sum >= of->limit - 1e-9, is_false);
    }
  free(what.of);
  population_free(&all);
}

/* ---- draws ---------------------------------------------------------------------------------------- */

#define DRAWS 20000

/* Assert that so many of DRAWS are what chance p leaves, but for 1e-7 on either side. */
static void assert_chance(const char *what, int count, double p) {
  double low = 1 - binomial_at_most(DRAWS, p, count - 1), high = binomial_at_most(DRAWS, p, count);
  if (low < 1e-7 || high < 1e-7) fail_msg("%s: %d of %d, chance %g", what, count, DRAWS, p);
}

/* The first is drawn in proportion to the weights, the second to those that are left. */
static void test_draws_are_weighted(void **state) {
  (void)state;
  static const double weights[] = {1, 2, 3, 0, 14};
  population all = make_population(5, 1, 1, 2);
  int first[5] = {0}, second[5][5] = {{0}};
  for (int i = 0; i < DRAWS; i++) {
    char seed[16];
    snprintf(seed, sizeof seed, "%d", i);
    draw_queue queue = draw_all(&all, weights, seed);
    assert_int_equal(queue.count, 4);
    first[queue.of[0].tally]++;
    second[queue.of[0].tally][queue.of[1].tally]++;
    free(queue.of);
  }
  for (int i = 0; i < 5; i++) {
    assert_chance("first", first[i], weights[i] / 20);
    for (int k = 0; k < 5; k++)
      if (k != i && weights[i] > 0)
        assert_chance("second", second[i][k], weights[i] / 20 * weights[k] / (20 - weights[i]));
  }
  population_free(&all);
}

/* Equal weights: from the largest hash down. */
static void test_equal_draws_are_hashes_in_order(void **state) {
  (void)state;
  population all = make_population(50, 1, 1, 2);
  double weights[50];
  for (int i = 0; i < 50; i++) weights[i] = 1;
  draw_queue queue = draw_all(&all, weights, "27182818284590452353");
  for (int t = 1; t < 50; t++) assert_true(strcmp(queue.of[t - 1].hash, queue.of[t].hash) > 0);
  free(queue.of);
  population_free(&all);
}

/* ---- simulated audits ------------------------------------------------------------------------------ */

#define AUDITS 10000
#define AUDIT_RISK 0.05

/* What is written on a tally, where the statement is false by the least that there is. */
typedef void (*writing)(int tally, int *written);

/* How many of 10,000 audits certify a statement although it is false, at whatever time one stops. */
static int false_certificates(population all, statement_kind kind, int design, double hedge,
                              writing write) {
  audit_settings set = {.design = design,
                        .risk = AUDIT_RISK,
                        .hedge = hedge,
                        .wrong = 0.01,
                        .share = 0.02,
                        .seed = copy_text("0")};
  drawn_sample from = draw_sample(all, &set);
  int found = 0;
  for (int i = 0; i < AUDITS; i++) {
    char seed[32];
    snprintf(seed, sizeof seed, "audit %d", i);
    draw_queue queue = draw_all(&from.all, from.weights, seed);
    trail risks = trail_begin(&from.all, &from.what, from.weights, hedge);
    for (int t = 0; t < queue.count && trail_risk(&risks, kind) > AUDIT_RISK; t++) {
      int written[2];
      write(queue.of[t].tally, written);
      trail_take(&risks, &from.all, queue.of[t].tally, queue.of[t].weight, written);
    }
    found += trail_risk(&risks, kind) <= AUDIT_RISK;
    free(risks.of);
    free(queue.of);
  }
  drawn_sample_free(&from);
  settings_free(&set);
  return found;
}

/* So many would come out with a chance of one in a million if the risk were kept. least: fewer would show
   that the test is blunt. */
static void assert_risk_is_kept(const char *what, int found, int least) {
  if (1 - binomial_at_most(AUDITS, AUDIT_RISK, found - 1) < 1e-6 || found < least)
    fail_msg("%s: %d of %d false certificates", what, found, AUDITS);
  print_message("%s: %d of %d false certificates\n", what, found, AUDITS);
}

#define SIMULATED 150 /* tallies of 60 to 40 votes; floor(1 %) + 1 = 2 of them wrong is too many */

static void two_are_wrong(int tally, int *written) {
  written[0] = tally == 17 || tally == 93 ? 61 : 60;
  written[1] = 40;
}

/* The lead of 20 votes in each of 150 tallies is gone: in a quarter of them all votes of A were B's. */
static void quarter_is_swapped(int tally, int *written) {
  int most = tally % 6 == 0; /* 25 tallies with a lead of 100 for B, 125 with A's of 20 */
  written[0] = most ? 0 : 60;
  written[1] = most ? 100 : 40;
}

/* Ten votes each, everywhere. */
static void all_are_shifted(int tally, int *written) {
  (void)tally;
  written[0] = written[1] = 50;
}

/* 2 points of the share: 300 of 15,000 votes, in few tallies as far as it goes. */
static void five_are_turned(int tally, int *written) {
  written[0] = tally % 30 == 0 ? 0 : 60;
  written[1] = tally % 30 == 0 ? 100 : 40;
}

static void all_are_a_little_off(int tally, int *written) {
  (void)tally;
  written[0] = 58;
  written[1] = 42;
}

static population simulated(void) {
  return make_population(SIMULATED, 60, 40, 100);
}

static void test_audits_of_wrong_keep_their_risk(void **state) {
  (void)state;
  int found =
      false_certificates(simulated(), STATEMENT_WRONG, STATEMENT_WRONG, HEDGE, two_are_wrong);
  assert_risk_is_kept("wrong", found, 300);
  found = false_certificates(simulated(), STATEMENT_WRONG, STATEMENT_WRONG, 0.5, two_are_wrong);
  assert_risk_is_kept("wrong, half a hedge", found, 100);
}

/* Of 25 tallies that are swapped as a whole the lead is 0: 25 * 100 = 125 * 20. */
static void test_audits_of_winner_keep_their_risk(void **state) {
  (void)state;
  int found = false_certificates(simulated(), STATEMENT_WINNER, STATEMENT_WINNER, HEDGE,
                                 quarter_is_swapped);
  assert_risk_is_kept("winner, swapped", found, 300);
  found =
      false_certificates(simulated(), STATEMENT_WINNER, STATEMENT_WINNER, HEDGE, all_are_shifted);
  assert_risk_is_kept("winner, shifted", found, 0);
}

static void test_audits_of_shares_keep_their_risk(void **state) {
  (void)state;
  int found =
      false_certificates(simulated(), STATEMENT_SHARES, STATEMENT_SHARES, HEDGE, five_are_turned);
  assert_risk_is_kept("shares, turned", found, 200);
  found = false_certificates(simulated(), STATEMENT_SHARES, STATEMENT_SHARES, 0.5,
                             all_are_a_little_off);
  assert_risk_is_kept("shares, a little off", found, 0);
}

/* The exact test, of samples fixed in advance. */
static void test_fixed_audits_keep_their_risk(void **state) {
  (void)state;
  population all = simulated();
  double weights[SIMULATED];
  int found = 0, n = (int)draws_needed(0.01, SIMULATED, 0, AUDIT_RISK);
  for (int i = 0; i < SIMULATED; i++) weights[i] = 1;
  for (int i = 0; i < AUDITS; i++) {
    char seed[32];
    int wrong = 0;
    snprintf(seed, sizeof seed, "fixed %d", i);
    draw_queue queue = draw_all(&all, weights, seed);
    for (int t = 0; t < n; t++) {
      int written[2];
      two_are_wrong(queue.of[t].tally, written);
      wrong += is_wrong(&all, queue.of[t].tally, written);
    }
    found += share_risk(0.01, SIMULATED, n, wrong) <= AUDIT_RISK;
    free(queue.of);
  }
  population_free(&all);
  assert_risk_is_kept("fixed", found, 300);
}

/* ---- bias ------------------------------------------------------------------------------------------- */

/* All signs, one after another. */
static double chance_by_counting(const double *errors, int count) {
  double sum = 0, found = 0;
  for (int i = 0; i < count; i++) sum += errors[i];
  for (int signs = 0; signs < 1 << count; signs++) {
    double with = 0;
    for (int i = 0; i < count; i++) with += (signs >> i & 1 ? 1 : -1) * errors[i];
    found += fabs(with) >= fabs(sum);
  }
  return found / (1 << count);
}

static void test_sign_flips_by_counting(void **state) {
  (void)state;
  cn_random random = {3, 0};
  for (int round = 0; round < 200; round++) {
    double errors[12];
    int count = 1 + (int)cn_random_below(&random, 12);
    for (int i = 0; i < count; i++)
      errors[i] = (double)cn_random_below(&random, 21) - 6 * (double)cn_random_below(&random, 3);
    assert_near("chance", sign_flip_chance(errors, count), chance_by_counting(errors, count),
                1e-12);
  }
  assert_true(sign_flip_chance(NULL, 0) == 1);
}

/* Too many values for the exact distribution: the bound is not below it. */
static void test_sign_flip_bound(void **state) {
  (void)state;
  double small[40], large[40];
  for (int i = 0; i < 40; i++) {
    small[i] = i < 30 ? 1 + i % 3 : -1 - i % 3;
    large[i] = small[i] * 1e6;
  }
  double exact = sign_flip_chance(small, 40), bound = sign_flip_chance(large, 40);
  assert_true(exact < bound && bound < 50 * exact && bound < 0.05);
}

static void test_chances_are_corrected(void **state) {
  (void)state;
  bias of[] = {{.chance = 0.01}, {.chance = 0.04}, {.chance = 0.03}, {.chance = 0.5}};
  bias_correct(of, 4);
  assert_near("first", of[0].corrected, 0.04, 1e-12);
  assert_near("third", of[2].corrected, 0.09, 1e-12);
  assert_near("second", of[1].corrected, 0.09, 1e-12);
  assert_near("fourth", of[3].corrected, 0.5, 1e-12);
}

/* ---- the program ------------------------------------------------------------------------------------ */

static void assert_refused(int code, int expected, const char *part, const char *other) {
  if (code != expected)
    fail_msg("exit code %d instead of %d: %s%s", code, expected, err_text, out_text);
  assert_contains(err_text, part);
  assert_contains(err_text, other);
}

/* A table of tallies with parties A and B, and blank ballots. */
#define TALLIES 40

static int votes_of(int tally, int field) {
  return field == 0 ? 60 + tally % 7 : field == 1 ? 35 + tally % 5 : tally % 3;
}

static const char *const field_names[] = {"A", "B", "blank"};

static void write_counts(const char *name, const char *line_end) {
  text_buffer table = {0};
  text_add(&table, "\xEF\xBB\xBFtally,field,value,status%s", line_end);
  for (int i = 0; i < TALLIES; i++)
    for (int f = 0; f < 3; f++)
      text_add(&table, "t%02d.jpg,%s,%d,ok%s", i, field_names[f], votes_of(i, f), line_end);
  write_words(name, table.data);
  free(table.data);
}

/* What a person keyed of the tallies that were drawn; `change` may write another value, or return -1
   for no row. */
static void write_keyed(const char *name, int (*change)(int draw, int tally, int field)) {
  text_buffer table = {0};
  char *path = join_path(home, "audit/sample.csv");
  csv sample = csv_open(path);
  int column = csv_column(&sample, "tally");
  text_add(&table, "tally,field,value\n");
  for (int draw = 0; csv_row(&sample); draw++) {
    int tally = atoi(sample.fields[column] + 1);
    for (int f = 0; f < 3; f++) {
      int value = change ? change(draw, tally, f) : votes_of(tally, f);
      if (value == NOT_KEYED) continue;
      text_add(&table, "%s,%s,", sample.fields[column], field_names[f]);
      if (value == WRITTEN_ILLEGIBLE)
        text_add(&table, "?");
      else if (value >= 0)
        text_add(&table, "%d", value);
      text_add(&table, "\n");
    }
  }
  csv_close(&sample);
  free(path);
  write_words(name, table.data);
  free(table.data);
}

/* --for S with further options, into the folder audit. */
static int draw(const char *options) {
  return shell("$audit sample --counts counts.csv --seed 16180339887498948482 --quiet --out audit "
               "%s",
               options);
}

static void must_draw(const char *options) {
  assert_ran(shell("rm -rf audit"));
  write_counts("counts.csv", "\n");
  assert_ran(draw(options));
}

static int certify(const char *keyed_tables) {
  return shell("$audit certify --counts counts.csv --sample audit --out audit %s", keyed_tables);
}

static void test_plan(void **state) {
  (void)state;
  assert_ran(shell("$audit plan --wrong 0.01 --margin 0.1 --share 0.01"));
  assert_contains(out_text, "\"wrong\": [299, 473, 628]");
  assert_true(result("winner") == 32 && result("shares") == 299);
  assert_ran(shell("$audit plan --wrong 0.005 --margin 0.02 --share 0.005 --errors 0"));
  assert_contains(out_text, "\"wrong\": [598]");
  assert_true(result("winner") == 152 && result("shares") == 598);
  assert_ran(shell("$audit plan --share 0.01 --tallies 400"));
  assert_true(result("shares") == 211);
  assert_ran(shell("$audit plan --share 0.005 --tallies 400"));
  assert_true(result("shares") == 311);
  assert_ran(shell("$audit plan --share 0.01 --turnout 0.5"));
  assert_true(result("shares") == 598);
  assert_ran(shell("$audit plan --wrong 0.01 --tallies 1 --share 0.5"));
  assert_contains(out_text, "\"wrong\": [1]");
  assert_refused(shell("$audit plan"), 2, "what is to be shown", "usage");
  assert_refused(shell("$audit"), 2, "plan, sample or certify", "usage");
  assert_refused(shell("$audit plan --wrong nan"), 2, "nan", "not a number");
  assert_refused(shell("$audit plan --wrong 0"), 2, "outside", "--wrong");
}

/* README's shell line draws the same tallies from the weights. */
static void test_readme_draws_the_same(void **state) {
  (void)state;
  char *readme = join_path(here, "README.md");
  setenv("README", readme, 1);
  free(readme);
  text_buffer list = {0};
  text_add(&list, "tally,voters\n");
  for (int i = 0; i < TALLIES; i++) text_add(&list, "t%02d,%d\n", i, 100 + i * i);
  write_words("voters.csv", list.data);
  free(list.data);
  must_draw("--for winner --voters voters.csv --parties A,B --rounds 25");
  assert_ran(
      shell("cd audit && awk '/^seed=/ { inside = 1 } /^```/ { inside = 0 } inside' "
            "\"$README\" | sed 's/^seed=.*/seed=16180339887498948482/; s/head -n .*/head -n 25/' "
            ">recipe && grep -q sha256sum recipe && sh ./recipe | cut -d' ' -f2 >drawn && "
            "cut -d, -f3 sample.csv | tail -n +2 | cmp - drawn && wc -l <drawn"));
  assert_int_equal(atoi(out_text), 25);
}

static void test_all_right_is_certified(void **state) {
  (void)state;
  must_draw("--for shares --most 110 --parties A,B --share 0.08");
  write_keyed("keyed.csv", NULL);
  assert_ran(certify("keyed.csv"));
  assert_contains(out_text, "\"shares\"]");
  assert_true(result("shares_risk") <= 0.05 && result("keyed") < TALLIES && result("unkeyed") == 0);
  assert_true(result("bias_chance") == 1 && result("wrong") == 0);
  assert_ran(shell("sha256sum -c --strict --quiet <<END\n$(grep -E '^[0-9a-f]{64}  ' "
                   "audit/certificate.txt)\nEND\n"));
  assert_ran(shell("grep -c . audit/risk.csv; grep -cE '^[0-9a-f]{64}  ' audit/certificate.txt"));
  assert_contains(out_text, "\n4\n");
}

/* The same tables give the same bytes, and a second run into the folder is no other sample. */
static void test_audits_repeat(void **state) {
  (void)state;
  must_draw("--for winner --most 110 --parties A,B --rounds 5");
  write_keyed("keyed.csv", NULL);
  assert_ran(certify("keyed.csv"));
  assert_ran(shell("cp -r audit before"));
  assert_ran(draw("--for winner --most 110 --parties A,B --rounds 5"));
  assert_ran(certify("keyed.csv"));
  assert_ran(shell("diff -r audit before && rm -r before"));
}

static void test_rounds_go_on(void **state) {
  (void)state;
  must_draw("--for wrong --rounds 5");
  assert_ran(shell("cp audit/sample.csv first.csv"));
  assert_ran(draw("--for wrong --rounds 5,7"));
  assert_ran(shell("head -n 6 audit/sample.csv | cmp - first.csv && tail -n 1 audit/sample.csv"));
  assert_contains(out_text, "2,12,");
  assert_ran(shell("grep -o 'data-t=\"[^\"]*\"' audit/key.html | wc -l"));
  assert_int_equal(atoi(out_text), 7);
  assert_refused(draw("--for wrong --rounds 6"), 1, "audit/settings.csv", "of another sample");
  assert_refused(draw("--for wrong --rounds 5,7 --risk 0.1"), 1, "of another sample", "");
  assert_refused(shell("$audit sample --counts counts.csv --for wrong --rounds 5,7 --seed 1 --out "
                       "audit"),
                 1, "of another sample", "");
  write_keyed("keyed.csv", NULL);
  assert_ran(certify("keyed.csv"));
  assert_true(result("drawn") == 12 && result("unkeyed") == 0);
}

static int third_is_wrong(int draw, int tally, int field) {
  return votes_of(tally, field) + (draw == 2 && field == 1);
}
static int third_is_illegible(int draw, int tally, int field) {
  return draw == 2 && field == 1 ? WRITTEN_ILLEGIBLE : votes_of(tally, field);
}
static int third_is_half_keyed(int draw, int tally, int field) {
  return draw == 2 && field == 1 ? NOT_KEYED : votes_of(tally, field);
}
static int third_is_passed_over(int draw, int tally, int field) {
  return draw == 2 ? NOT_KEYED : votes_of(tally, field);
}
static int three_are_keyed(int draw, int tally, int field) {
  return draw > 2 ? NOT_KEYED : votes_of(tally, field);
}
static int nothing_is_written(int draw, int tally, int field) {
  return draw == 2 && field == 2 ? WRITTEN_NOTHING : votes_of(tally, field);
}

/* Whatever is not clear is as bad as what is wrong, and "none can be certified" is an answer. */
static void test_what_is_unclear_counts_as_wrong(void **state) {
  (void)state;
  int (*const cases[])(int, int, int) = {third_is_wrong, third_is_illegible, third_is_half_keyed,
                                         third_is_passed_over, nothing_is_written};
  for (int i = 0; i < 5; i++) {
    must_draw("--for wrong --wrong 0.04 --fixed --rounds 33");
    write_keyed("keyed.csv", cases[i]);
    assert_ran(certify("keyed.csv"));
    assert_contains(out_text, "None can be certified");
    assert_contains(out_text, "\"certified\": []");
    assert_true(result("wrong") == 1);
    assert_near("risk", result("wrong_risk"), hypergeometric_at_most(40, 2, 33, 1), 1e-8);
  }
  must_draw("--for wrong --wrong 0.04 --fixed --rounds 33");
  write_keyed("keyed.csv", NULL);
  assert_ran(certify("keyed.csv"));
  assert_contains(out_text, "\"certified\": [\"wrong\"]");
}

/* The last ones may still be keyed; those passed over are said. */
static void test_what_is_not_keyed_is_said(void **state) {
  (void)state;
  must_draw("--for wrong --wrong 0.04 --fixed --rounds 33");
  write_keyed("keyed.csv", three_are_keyed);
  assert_ran(certify("keyed.csv"));
  assert_contains(err_text, "30 of 33 tallies drawn are not keyed yet");
  assert_true(result("unkeyed") == 30 && result("wrong_risk") == 1);
  write_keyed("keyed.csv", third_is_passed_over);
  assert_ran(certify("keyed.csv"));
  assert_contains(err_text, "1 tallies were passed over");
  write_keyed("keyed.csv", third_is_half_keyed);
  assert_ran(certify("keyed.csv"));
  assert_contains(err_text, "1 tallies have counts that cannot be read or were not keyed");
}

/* Several people's tables are one; where they agree that is no fault. */
static void test_keyed_tables(void **state) {
  (void)state;
  must_draw("--for wrong --rounds 3");
  write_keyed("keyed.csv", NULL);
  assert_ran(shell("tail -n +2 keyed.csv | cut -d, -f1 | head -n 1"));
  char tally[32] = "";
  sscanf(out_text, "%31s", tally);
  setenv("tally", tally, 1);
  assert_ran(
      shell("(sed 's/$/\\r/' keyed.csv | sed '1s/^/\\xEF\\xBB\\xBF/; s/,/ , /g') >other.csv"));
  assert_ran(certify("keyed.csv other.csv"));
  assert_true(result("keyed") == 3 && result("wrong") == 0);

  static const struct {
    const char *row, *part;
  } faults[] = {{"$tally,A,999", "was keyed before with another value"},
                {"$tally,C,1", "no field \"C\""},
                {"$tally,A,NaN", "\"NaN\" is not a number of votes"},
                {"$tally,A,-1", "\"-1\" is not a number of votes"},
                {"$tally,A,1e2", "\"1e2\" is not a number of votes"},
                {"$tally,A,12345678901", "is not a number of votes"},
                {"t99.jpg,A,1", "\"t99.jpg\" is none of the 40 tallies"},
                {"$tally,A", "2 fields where the header has 3"}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    assert_ran(shell("(cat keyed.csv; echo \"%s\") >bad.csv", faults[i].row));
    assert_refused(certify("bad.csv"), 1, "bad.csv: line 11", faults[i].part);
  }
  assert_ran(
      shell("grep -v \"$tally\" counts.csv | tail -n +2 | cut -d, -f1 | sort -u | while read -r t; "
            "do grep -q \"$t\" audit/sample.csv || echo \"$t,A,1\"; done | (cat keyed.csv; head -n "
            "1) >bad.csv"));
  assert_refused(certify("bad.csv"), 1, "bad.csv: line 11", "is not in the sample");
  assert_refused(shell("$audit certify --counts counts.csv --sample audit --out audit"), 2,
                 "no table of what was keyed", "usage");
}

/* What was published is what is certified, and what was drawn is what was keyed. */
static void test_nothing_can_be_exchanged(void **state) {
  (void)state;
  must_draw("--for wrong --rounds 5");
  write_keyed("keyed.csv", NULL);
  assert_ran(shell("cp -r audit safe; sed -i '5s/3[0-9]/77/' counts.csv"));
  write_counts("counts.csv", "\r\n");
  assert_refused(certify("keyed.csv"), 1, "counts.csv", "not what the sample was drawn from");
  write_counts("counts.csv", "\n");
  assert_ran(certify("keyed.csv"));
  assert_ran(shell("sed -i '3d' audit/sample.csv"));
  assert_refused(certify("keyed.csv"), 1, "sample.csv: line 3", "somebody has changed it");
  assert_ran(shell("head -n 4 safe/sample.csv >audit/sample.csv"));
  assert_refused(certify("keyed.csv"), 1, "3 tallies where 5 were drawn", "");
  assert_ran(shell("cp safe/sample.csv audit; sed -i 's/^seed,.*/seed,1/' audit/settings.csv"));
  assert_refused(certify("keyed.csv"), 1, "sample.csv: line 2", "somebody has changed it");
  assert_ran(shell("cp safe/settings.csv audit; echo risk,0.5 >>audit/settings.csv"));
  assert_refused(certify("keyed.csv"), 1, "settings.csv: line 11", "risk stands there twice");
  assert_ran(shell("grep -v ^hedge safe/settings.csv >audit/settings.csv"));
  assert_refused(certify("keyed.csv"), 1, "no row \"hedge\"", "");
  assert_ran(shell("rm -r safe"));
}

static int more_than_it_may_hold(int draw, int tally, int field) {
  return votes_of(tally, field) + 500 * (draw == 1 && field == 0);
}

static void test_bounds_are_needed(void **state) {
  (void)state;
  write_counts("counts.csv", "\n");
  assert_ran(shell("rm -rf audit"));
  assert_refused(draw("--for shares --parties A,B"), 2, "--voters", "--most");
  assert_refused(draw("--for winner --most 200"), 2, "name the parties", "");
  assert_refused(draw("--for winner --most 200 --parties A"), 2, "name the parties", "");
  assert_refused(draw("--for winner --most 200 --parties A,B,A"), 2, "named twice", "");
  assert_refused(draw("--for winner --most 200 --parties A,X"), 1, "no field \"X\"", "");
  assert_refused(draw("--for wrong --rounds 41"), 1, "only 40 can be drawn", "");
  assert_refused(draw("--for wrong --fixed --rounds 3,4"), 2, "one round", "");
  assert_refused(draw("--for shares --fixed --most 9 --parties A,B"), 2, "--fixed is of", "");
  assert_refused(draw("--for wrong --rounds 3,,4"), 2, "is empty", "");
  assert_refused(draw("--for wrong --rounds 0"), 2, "outside", "");
  assert_refused(draw("--rounds 3"), 2, "--for is missing", "");
  must_draw("--for shares --most 200 --parties A,B");
  write_keyed("keyed.csv", more_than_it_may_hold);
  assert_refused(certify("keyed.csv"), 1, "may hold 200 at most", "draw again");
}

/* A list of all tallies: those without a picture may hold anything, and each has to be there. */
static void test_voters(void **state) {
  (void)state;
  text_buffer list = {0};
  text_add(&list, "tally;voters\r\n");
  for (int i = 0; i < TALLIES; i++) text_add(&list, "t%02d;%d\r\n", i, 110);
  write_words("few.csv", list.data);
  text_add(&list, "never scanned;0\r\nlost;800\r\n");
  write_words("voters.csv", list.data);
  free(list.data);
  must_draw("--for shares --share 0.09 --voters few.csv --parties A,B --rounds 40");
  write_keyed("keyed.csv", NULL);
  assert_ran(shell("$audit certify --counts counts.csv --voters few.csv --sample audit --out audit "
                   "keyed.csv"));
  assert_contains(out_text, "\"shares\"]");
  assert_refused(certify("keyed.csv"), 1, "--voters", "not what the sample was drawn from");

  /* the one that is lost may hold a sixth of all votes, and nobody can key it */
  must_draw("--for shares --share 0.09 --voters voters.csv --parties A,B --rounds 41");
  assert_true(result("tallies") == 42 && result("drawn") == 41);
  write_keyed("keyed.csv", NULL);
  assert_ran(shell("grep -v ^lost keyed.csv >known.csv; echo lost,A,? >>known.csv"));
  assert_ran(
      shell("$audit certify --counts counts.csv --voters voters.csv --sample audit --out audit "
            "known.csv"));
  assert_contains(out_text, "\"certified\": [\"wrong\", \"winner\"]");
  assert_true(result("unclear") == 1);

  assert_ran(shell("tail -n +3 few.csv | sed '1i tally;voters' >bad.csv"));
  assert_refused(draw("--for wrong --rounds 5 --voters bad.csv"), 1, "no row for t00.jpg", "");
  assert_ran(shell("(cat few.csv; echo 't03.jpg;5') >bad.csv"));
  assert_refused(draw("--for wrong --rounds 5 --voters bad.csv"), 1, "stands there twice", "");
  assert_ran(shell("sed 's/110/nan/' few.csv >bad.csv"));
  assert_refused(draw("--for wrong --rounds 5 --voters bad.csv"), 1, "not a number of votes", "");
}

static void test_hostile_counts(void **state) {
  (void)state;
  static const struct {
    const char *change, *part;
  } faults[] = {{"sed '$d'", "there is no row for blank of t39.jpg"},
                {"sed '$p'", "blank of t39.jpg stands there twice"},
                {"sed '2s/,6[0-9],/,NaN,/'", "line 2: \"NaN\" is not a number of votes"},
                {"sed '2s/,6[0-9],/,-5,/'", "line 2: \"-5\" is not a number of votes"},
                {"sed '2s/,6[0-9],/,6.0,/'", "line 2: \"6.0\" is not a number of votes"},
                {"sed '2s/ok/OK/'", "line 2: \"OK\" is no status"},
                {"sed '2s/,6[0-9],/,,/'", "line 2: a count without a value is \"ok\""},
                {"sed '2s/^t00.jpg//'", "the name of the tally is empty"},
                {"sed 's/,ok$/,review/'", "no tally has an accepted count"},
                {"head -n 1", "there is no row"}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    write_counts("good.csv", "\n");
    assert_ran(shell("rm -rf audit; %s good.csv >counts.csv", faults[i].change));
    assert_refused(draw("--for wrong --rounds 2"), 1, "tally-audit: ", faults[i].part);
    assert_int_equal(shell("test -e audit"), 1);
  }
}

/* Counts in review are no accepted ones: they may be wrong, but they still are votes of the result. */
static void test_only_accepted_counts_can_be_wrong(void **state) {
  (void)state;
  write_counts("good.csv", "\n");
  assert_ran(shell("rm -rf audit; sed 's/^\\(t0[0-9].*\\),ok/\\1,review/' good.csv >counts.csv"));
  assert_ran(draw("--for wrong --rounds 30"));
  assert_refused(draw("--for wrong --rounds 31"), 1, "only 30 can be drawn", "");
  assert_int_equal(shell("grep -q ',t0' audit/sample.csv"), 1);
  assert_ran(shell("rm -rf audit"));
  assert_ran(draw("--for shares --rounds 40 --most 200 --parties A,B"));
  assert_ran(shell("grep -c ',t0' audit/sample.csv"));
  assert_int_equal(atoi(out_text), 10);

  /* where they are never drawn, nothing is said about votes */
  assert_ran(shell("rm -rf audit"));
  assert_ran(draw("--for wrong --rounds 30 --most 200 --parties A,B --share 0.9"));
  write_keyed("keyed.csv", NULL);
  assert_ran(certify("keyed.csv"));
  assert_contains(out_text, "\"certified\": [\"wrong\"], \"wrong_risk\": 0, \"winner_risk\": null, "
                            "\"shares_risk\": null");
  assert_contains(out_text, "this sample cannot show it");
}

static void test_ties_and_nothing(void **state) {
  (void)state;
  assert_ran(shell("rm -rf audit"));
  write_words("counts.csv", "tally,field,value\nx,A,5\nx,B,5\n");
  assert_refused(draw("--for winner --most 20 --parties A,B"), 1, "two parties lead", "");
  assert_ran(draw("--for shares --most 20 --parties A,B"));
  assert_true(result("drawn") == 1);
  write_words("keyed.csv", "tally,field,value\nx,A,5\nx,B,5\n");
  assert_ran(certify("keyed.csv"));
  assert_contains(out_text, "\"certified\": [\"wrong\", \"shares\"]");
  write_words("counts.csv", "tally,field,value\nx,A,0\nx,B,\n");
  assert_ran(shell("rm -rf audit"));
  assert_refused(draw("--for shares --most 20 --parties A,B"), 1, "no votes were read", "");
}

/* Whoever keys does not see what was read: the page is the same for other counts of the same form. */
static void test_page_is_blind(void **state) {
  (void)state;
  must_draw("--for wrong --rounds 10");
  assert_ran(shell("mv audit one; sed 's/,[0-9]*,ok/,7,ok/' counts.csv >other.csv"));
  assert_ran(
      shell("$audit sample --counts other.csv --for wrong --rounds 10 --quiet --seed "
            "16180339887498948482 --out audit && cmp audit/key.html one/key.html; rm -r one"));
}

/* tally-read's own tables, its pictures, and a form's parties. */
static void test_result_of_tally_read(void **state) {
  (void)state;
  assert_ran(shell(
      "rm -rf audit; $synth --template c1-2019 --clean --count 4 --seed 8 --quiet --out scans && "
      "$read --template c1-2019 --quiet --out result scans"));
  assert_ran(
      shell("$audit sample --result result --template c1-2019 --for shares --most 900 --seed 5 "
            "--quiet --out audit scans"));
  assert_true(result("pictures") == 4 && result("drawn") == 4);
  assert_ran(
      shell("grep -o 'src=\"data:image/jpeg' audit/key.html | wc -l; "
            "tail -n +2 audit/sample.csv | awk -F, '{ print $7 \"  \" $6 }' | sha256sum -c --quiet "
            "--strict; sed -n 's/^party,//p' audit/settings.csv"));
  assert_string_equal(out_text, "4\n01\n02\ninvalid\n");
  assert_ran(
      shell("$audit certify --result result --sample audit --out certified scans/truth.csv"));
  assert_true(result("shares_risk") == 0 && result("wrong") == 0);
  assert_ran(
      shell("cp scans/tally-0001.jpg scans/same.jpg && $read --template c1-2019 --quiet --out "
            "copied scans && $audit sample --result copied --for wrong --rounds 4 --seed 5 "
            "--quiet --out once && ! grep -q same.jpg once/sample.csv; rm scans/same.jpg"));
  assert_refused(shell("$audit sample --result copied --for wrong --rounds 5 --seed 5 --out twice"),
                 1, "only 4 can be drawn", "");
  assert_ran(shell("sed -i '$d' result/tallies.csv"));
  assert_refused(shell("$audit sample --result result --for wrong --seed 5 --out other"), 1,
                 "do not name the same tallies", "tally-0004.jpg");
  assert_refused(shell("$audit sample --result result --for wrong --seed 5 --out other scans"), 2,
                 "pictures need --template", "");
}

static int bs_are_eaten(int draw, int tally, int field) {
  return votes_of(tally, field) + (draw % 2 && field == 1 ? 10 : 0);
}

/* Ten of 20 tallies with 10 votes of B too few: 2 / 2^10. */
static void test_bias_is_found(void **state) {
  (void)state;
  must_draw("--for wrong --rounds 20");
  write_keyed("keyed.csv", bs_are_eaten);
  assert_ran(certify("keyed.csv"));
  assert_contains(out_text, "\"bias_field\": \"B\"");
  assert_true(result("bias_votes") == -100);
  assert_near("chance", result("bias_chance"), 3 * 2 / 1024.0, 1e-6);
  assert_ran(shell("grep '^field,B,20,0,10,-100,' audit/bias.csv && grep '^digits,3 and 4,' "
                   "audit/bias.csv && grep 'do not favour all alike' audit/certificate.txt"));
}

static int start(void **state) {
  (void)state;
  if (!getcwd(here, sizeof here)) return 1;
  return !open_home("tally-audit");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sha256_vectors),
      cmocka_unit_test(test_sha256_is_sha256sum),
      cmocka_unit_test(test_tails),
      cmocka_unit_test(test_tails_at_their_ends),
      cmocka_unit_test(test_hypergeometric_by_counting),
      cmocka_unit_test(test_draws_needed),
      cmocka_unit_test(test_bets_needed),
      cmocka_unit_test(test_bets_on_a_stream),
      cmocka_unit_test(test_bets_are_fair),
      cmocka_unit_test(test_samples_are_as_planned),
      cmocka_unit_test(test_errors_have_their_bounds),
      cmocka_unit_test(test_limits_are_where_statements_end),
      cmocka_unit_test(test_draws_are_weighted),
      cmocka_unit_test(test_equal_draws_are_hashes_in_order),
      cmocka_unit_test(test_audits_of_wrong_keep_their_risk),
      cmocka_unit_test(test_audits_of_winner_keep_their_risk),
      cmocka_unit_test(test_audits_of_shares_keep_their_risk),
      cmocka_unit_test(test_fixed_audits_keep_their_risk),
      cmocka_unit_test(test_sign_flips_by_counting),
      cmocka_unit_test(test_sign_flip_bound),
      cmocka_unit_test(test_chances_are_corrected),
      cmocka_unit_test(test_plan),
      cmocka_unit_test(test_readme_draws_the_same),
      cmocka_unit_test(test_all_right_is_certified),
      cmocka_unit_test(test_audits_repeat),
      cmocka_unit_test(test_rounds_go_on),
      cmocka_unit_test(test_what_is_unclear_counts_as_wrong),
      cmocka_unit_test(test_what_is_not_keyed_is_said),
      cmocka_unit_test(test_keyed_tables),
      cmocka_unit_test(test_nothing_can_be_exchanged),
      cmocka_unit_test(test_bounds_are_needed),
      cmocka_unit_test(test_voters),
      cmocka_unit_test(test_hostile_counts),
      cmocka_unit_test(test_only_accepted_counts_can_be_wrong),
      cmocka_unit_test(test_ties_and_nothing),
      cmocka_unit_test(test_page_is_blind),
      cmocka_unit_test(test_result_of_tally_read),
      cmocka_unit_test(test_bias_is_found),
  };
  return cmocka_run_group_tests(tests, start, remove_home);
}
