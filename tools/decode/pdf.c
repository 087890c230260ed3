/* PDF by the programs pdfinfo and pdftoppm of poppler, looked for when they are needed. They run as
   processes of their own, with limits on time, memory and output: what a hostile file does to them
   stays there. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kinds.h"

#define DOTS 300                    /* to the inch, as forms are scanned */
#define SECONDS 60                  /* that a page may take */
#define MEMORY ((rlim_t)2048 << 20) /* of poppler, in bytes */
#define DESCRIPTORS 1024            /* that a child closes */
#define PATH_ROOM 4096

/* Readers take what the mark has before it (Adobe's PDF Reference 1.7, implementation note 13). */
int is_pdf(const uint8_t *bytes, size_t size) {
  for (size_t at = 0; at < 1024 && at + 5 <= size; at++)
    if (!memcmp(bytes + at, "%PDF-", 5)) return 1;
  return 0;
}

/* ---- programs -------------------------------------------------------------------------------- */

/* Where a program is, by PATH; -1 if it is not there. */
static int find_program(const char *name, char path[PATH_ROOM]) {
  const char *places = getenv("PATH");
  if (!places || !*places) places = "/usr/local/bin:/usr/bin:/bin";
  while (*places) {
    const size_t length = strcspn(places, ":");
    if (length &&
        (size_t)snprintf(path, PATH_ROOM, "%.*s/%s", (int)length, places, name) < PATH_ROOM &&
        !access(path, X_OK))
      return 0;
    places += length + (places[length] == ':');
  }
  return -1;
}

/* A program that runs, and what it has written. */
typedef struct child {
  pid_t process;
  int output, messages; /* our ends of its pipes; -1 behind their ends */
  uint8_t *bytes;       /* of its output */
  size_t size, room;
  char said[4096]; /* the beginning of its messages */
  size_t said_size;
} child;

/* Becomes the program, by nothing but what is safe between fork and exec. */
static void become(const char *path, char *const arguments[], int input, int output, int messages) {
  const struct rlimit memory = {MEMORY, MEMORY}, seconds = {SECONDS, SECONDS}, none = {0, 0};
  if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(messages, 2) < 0) _exit(127);
  for (int i = 3; i < DESCRIPTORS; i++) close(i);
  setrlimit(RLIMIT_AS, &memory);
  setrlimit(RLIMIT_CPU, &seconds);
  setrlimit(RLIMIT_CORE, &none);
  execv(path, arguments);
  _exit(127);
}

static void close_pipe(int *descriptor) {
  if (*descriptor >= 0) close(*descriptor);
  *descriptor = -1;
}

static int start(child *of, const char *path, char *const arguments[], int input) {
  int output[2] = {-1, -1}, messages[2] = {-1, -1};
  if (!pipe(output) && !pipe(messages)) of->process = fork();
  if (of->process == 0) become(path, arguments, input, output[1], messages[1]);
  close_pipe(&output[1]);
  close_pipe(&messages[1]);
  of->output = output[0];
  of->messages = messages[0];
  if (of->process > 0) return 0;
  close_pipe(&of->output);
  close_pipe(&of->messages);
  return -1;
}

/* Messages beyond the first ones are read and forgotten, so that the program does not wait. */
static void read_messages(child *of) {
  char more[4096];
  const ssize_t count = read(of->messages, more, sizeof more);
  if (count < 0 && errno == EINTR) return;
  if (count <= 0) close_pipe(&of->messages);
  for (ssize_t i = 0; i < count && of->said_size + 1 < sizeof of->said; i++)
    of->said[of->said_size++] = more[i];
}

static int milliseconds_until(const struct timespec *end) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t left =
      (int64_t)(end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
  return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Reads both pipes to their ends. */
static int read_pipes(child *of, const struct timespec *end, char reason[DECODE_REASON]) {
  while (of->output >= 0 || of->messages >= 0) {
    struct pollfd pipes[2] = {{of->output, POLLIN, 0}, {of->messages, POLLIN, 0}};
    const int left = milliseconds_until(end), ready = poll(pipes, 2, left);
    if (ready < 0 && errno != EINTR) return refuse(reason, "%s", strerror(errno));
    if (!left) return refuse(reason, "poppler took more than %d seconds for it", SECONDS);
    if (ready <= 0) continue;
    if (pipes[0].revents) {
      const ssize_t count = read_more(of->output, &of->bytes, &of->size, &of->room, reason);
      if (count < 0) return -1;
      if (!count) close_pipe(&of->output);
    }
    if (pipes[1].revents) read_messages(of);
  }
  return 0;
}

/* Waits for the end of a program that has closed its pipes, or puts an end to it. Returns what it
   exited with, or -1. */
static int finish(child *of, int kill_it, const struct timespec *end) {
  int status = 0;
  pid_t done = 0;
  close_pipe(&of->output);
  close_pipe(&of->messages);
  while (!kill_it && (done = waitpid(of->process, &status, WNOHANG)) == 0) {
    const struct timespec nap = {0, 2000000};
    kill_it = !milliseconds_until(end);
    nanosleep(&nap, NULL);
  }
  if (kill_it) {
    kill(of->process, SIGKILL);
    while (waitpid(of->process, &status, 0) < 0 && errno == EINTR) continue;
  }
  return done > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- what poppler says ----------------------------------------------------------------------- */

/* Warnings are about how a file is written. Errors mean that something is not shown as it should be,
   even when poppler goes on; libjpeg's messages come through it. NULL if there is none. */
static const char *find_error(const char *said) {
  static const char *const marks[] = {"Command Line Error", "Syntax Error", "Internal Error",
                                      "I/O Error",          "Corrupt JPEG", "Premature end",
                                      "Out of memory",      "out of memory"};
  const char *first = NULL;
  for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
    const char *found = strstr(said, marks[i]);
    if (found && (!first || found < first)) first = found;
  }
  return first;
}

static int refuse_by(const char *error, char reason[DECODE_REASON]) {
  if (strstr(error, "Incorrect password"))
    return refuse(reason, "it is encrypted and needs a password; save it without one: "
                          "qpdf --decrypt --password=SECRET OLD.pdf NEW.pdf");
  if (strstr(error, "page range")) return refuse(reason, "there is no such page in it");
  return refuse(reason,
                "the file is damaged: poppler says \"%.*s\"; if it looks right, print it to a "
                "new PDF",
                (int)strcspn(error, "\r\n") < 120 ? (int)strcspn(error, "\r\n") : 120, error);
}

/* Reads what a program writes until it ends, well and in time. */
static int watch(child *of, const char *name, char reason[DECODE_REASON]) {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += SECONDS;
  const int failed = read_pipes(of, &end, reason), code = finish(of, failed, &end);
  const char *error = find_error(of->said);
  if (failed) return -1;
  if (error) return refuse_by(error, reason);
  return code ? refuse(reason, "%s could not read it: %.150s", name, of->said) : 0;
}

/* Runs one of poppler's programs on a file. What it writes, with a 0 behind it, becomes the caller's. */
static int run(const file_view *file, char *const arguments[], child *of,
               char reason[DECODE_REASON]) {
  char path[PATH_ROOM];
  *of = (child){.process = -1, .output = -1, .messages = -1};
  if (find_program(arguments[0], path))
    return refuse(reason, "it is a PDF, which %s reads: install poppler-utils (Debian) or poppler",
                  arguments[0]);
  int failed = start(of, path, arguments, file->descriptor);
  if (failed)
    refuse(reason, "%s: %s", path, strerror(errno));
  else
    failed = watch(of, arguments[0], reason);
  uint8_t *ended = failed ? NULL : realloc(of->bytes, of->size + 1);
  if (ended) {
    ended[of->size] = 0;
    of->bytes = ended;
    return 0;
  }
  if (!failed) refuse(reason, "out of memory");
  free(of->bytes);
  return -1;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* The last line that begins with these words, behind them: what comes before may be a title that looks
   like one. NULL if there is none. */
static const char *find_line(const child *info, const char *words) {
  const char *text = (const char *)info->bytes, *found = NULL;
  while (text) {
    if (!strncmp(text, words, strlen(words))) found = text + strlen(words);
    text = strchr(text, '\n');
    text = text ? text + 1 : NULL;
  }
  return found;
}

/* A number with a point, in any locale. Goes behind it. */
static double read_number(const char **at) {
  double value = 0, place = 1;
  int in_fraction = 0;
  while (**at == ' ') ++*at;
  for (; (**at >= '0' && **at <= '9') || (**at == '.' && !in_fraction); ++*at) {
    if (**at == '.')
      in_fraction = 1;
    else if (in_fraction)
      value += (**at - '0') * (place /= 10);
    else
      value = value * 10 + (**at - '0');
  }
  return value;
}

/* What pdfinfo says about the file and one of its pages. */
static int read_info(const file_view *file, int page, child *info, char reason[DECODE_REASON]) {
  char number[16], program[] = "pdfinfo", first[] = "-f", last[] = "-l", from[] = "/dev/fd/0";
  char *arguments[] = {program, first, number, last, number, from, NULL};
  snprintf(number, sizeof number, "%d", page);
  return run(file, arguments, info, reason);
}

int pdf_pages(const file_view *file, char reason[DECODE_REASON]) {
  child info;
  if (read_info(file, 1, &info, reason)) return 0;
  const char *line = find_line(&info, "Pages:");
  const double pages = line ? read_number(&line) : 0;
  free(info.bytes);
  if (pages >= 1 && pages <= 1000000) return (int)pages;
  refuse(reason, "the file is damaged: poppler finds no pages in it");
  return 0;
}

/* Dots to the inch at which a page has no more than `most` pixels; 0 if there are none. */
static int choose_dots(const file_view *file, double most, char reason[DECODE_REASON]) {
  char words[32];
  child info;
  if (read_info(file, file->page, &info, reason)) return 0;
  snprintf(words, sizeof words, "Page %4d size:", file->page);
  const char *line = find_line(&info, words);
  const double width = line ? read_number(&line) : 0;
  line = line ? strchr(line, 'x') : NULL;
  if (line) line++;
  const double height = line ? read_number(&line) : 0;
  free(info.bytes);
  if (!(width > 0 && height > 0)) return refuse(reason, "poppler finds no page %d", file->page) + 1;
  const double pages = most / ((width + 1) * (height + 1)); /* sides are rounded up */
  const double dots = floor(72 * sqrt(pages));
  if (dots >= 1) return dots < DOTS ? (int)dots : DOTS;
  return refuse(reason, "its page %d is too large", file->page) + 1;
}

int decode_pdf(const file_view *file, int64_t most_pixels, decoded_picture *out,
               char reason[DECODE_REASON]) {
  char number[16], resolution[16], program[] = "pdftoppm", first[] = "-f", last[] = "-l",
                                   r[] = "-r", crop[] = "-cropbox", from[] = "/dev/fd/0";
  char *arguments[] = {program, crop, r, resolution, first, number, last, number, from, NULL};
  const int64_t fitting = (int64_t)(DECODE_MAX_BYTES / 3 - 100);
  const int64_t most = most_pixels < fitting ? most_pixels : fitting;
  const int dots = choose_dots(file, (double)most, reason);
  if (!dots) return -1;
  snprintf(number, sizeof number, "%d", file->page);
  snprintf(resolution, sizeof resolution, "%d", dots);
  child page;
  if (run(file, arguments, &page, reason)) return -1;
  const file_view picture = {.bytes = page.bytes, .size = page.size, .descriptor = -1};
  const int failed =
      is_pnm(page.bytes, page.size)
          ? decode_pnm(&picture, most_pixels, out, reason)
          : refuse(reason, "the file is damaged: poppler shows no page %d", file->page);
  free(page.bytes);
  return failed;
}
