/* programs.h - what the tests of the tools share: a temporary folder, running programs in it as a user
   does, and looking at what they wrote. Include it after the tool's own source and support.h. */
#ifndef TEST_PROGRAMS_H
#define TEST_PROGRAMS_H

#include <sys/wait.h>

static char home[PATH_MAX];       /* the temporary folder */
static char *out_text, *err_text; /* of the last command */

/* A file of the temporary folder, with a 0 behind it; NULL and size 0 if there is none. */
static inline char *contents(const char *name, size_t *size) {
  char *path = join_path(home, name);
  *size = 0;
  char *all = is_file(path) ? read_file(path, size) : NULL;
  free(path);
  return all;
}

static inline void write_home(const char *name, const void *bytes, size_t count) {
  char *path = join_path(home, name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
  free(path);
}

static inline void write_words(const char *name, const char *words) {
  write_home(name, words, strlen(words));
}

/* Runs a shell command in the temporary folder; the caller sets what $names mean. Returns its
   exit code; out_text and err_text are what it printed. */
TOOL_PRINTF(1, 2) static inline int shell(const char *format, ...) {
  char command[4096];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(command, sizeof command, format, arguments);
  va_end(arguments);
  write_words("command", command);
  text_buffer line = {0};
  text_add(&line, "cd '%s' && sh ./command >out 2>err", home);
  int status = system(line.data);
  size_t size;
  free(line.data);
  free(out_text);
  free(err_text);
  out_text = contents("out", &size);
  err_text = contents("err", &size);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static inline void assert_ran(int code) {
  if (code != 0) fail_msg("exit code %d: %s%s", code, err_text, out_text);
}

static inline void assert_same_files(const char *a, const char *b) {
  size_t a_size = 0, b_size = 0;
  char *a_bytes = contents(a, &a_size), *b_bytes = contents(b, &b_size);
  if (!a_bytes || !b_bytes) fail_msg("%s is missing", a_bytes ? b : a);
  if (a_size != b_size || memcmp(a_bytes, b_bytes, a_size)) fail_msg("%s and %s differ", a, b);
  free(a_bytes);
  free(b_bytes);
}

/* A figure of the JSON object on the last line of stdout; NaN for null. */
static inline double result(const char *key) {
  char quoted[64];
  char *last = out_text, *end;
  for (char *c = out_text; *c; c++)
    if (*c == '\n' && c[1]) last = c + 1;
  snprintf(quoted, sizeof quoted, "\"%s\": ", key);
  char *at = strstr(last, quoted);
  if (*last != '{' || !at) fail_msg("there is no %s in \"%s\"", key, last);
  at += strlen(quoted);
  if (!strncmp(at, "null", 4)) return NAN;
  double value = strtod(at, &end);
  assert_true(end != at);
  return value;
}

/* Makes the temporary folder, and $predict, $read, ... the programs in the folder BIN of the environment
   (default: bin). Returns 0 if there are none. */
static inline int open_home(const char *name) {
  static const char *const tools[] = {"dedup", "evaluate", "extract", "predict",
                                      "read",  "synth",    "train"};
  const char *base = getenv("TMPDIR"), *bin = getenv("BIN");
  char here[PATH_MAX];
  snprintf(home, sizeof home, "%s/%s-XXXXXX", base ? base : "/tmp", name);
  if (!getcwd(here, sizeof here) || !mkdtemp(home)) return 0;
  for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
    text_buffer path = {0};
    if (!bin || *bin != '/') text_add(&path, "%s/", here);
    text_add(&path, "%s/tally-%s", bin ? bin : "bin", tools[i]);
    setenv(tools[i], path.data, 1);
    if (access(path.data, X_OK)) return fprintf(stderr, "%s is missing\n", path.data), 0;
    free(path.data);
  }
  char *c1 = join_path(here, "examples/templates/c1-2019.form");
  setenv("c1", c1, 1);
  free(c1);
  return 1;
}

/* Teardown of a group of tests. */
static inline int remove_home(void **state) {
  (void)state;
  text_buffer line = {0};
  text_add(&line, "rm -rf '%s'", home);
  int status = system(line.data);
  free(line.data);
  free(out_text);
  free(err_text);
  return status;
}

#endif
