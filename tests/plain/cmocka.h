/* As much of cmocka as test_guards.c takes, for targets that have none: the first failure ends the
   program. */
#ifndef PLAIN_CMOCKA_H
#define PLAIN_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
  const char *name;
  void (*test_func)(void **state);
};

#define cmocka_unit_test(function) {#function, function}
#define fail_msg(...)                                                                              \
  (printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), printf("\n"), exit(1))
#define assert_true(condition)                                                                     \
  do {                                                                                             \
    if (!(condition)) fail_msg("%s", #condition);                                                  \
  } while (0)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_memory_equal(a, b, bytes) assert_true(memcmp(a, b, bytes) == 0)

static int run_plainly(const struct CMUnitTest *tests, int count) {
  for (int i = 0; i < count; i++) tests[i].test_func(NULL);
  return 0;
}
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
  run_plainly(tests, (int)(sizeof(tests) / sizeof *(tests)))

#endif
