/* pdf.c - PDF files by the programs of poppler, as processes of their own: what a hostile file does to
   them stays there, and they are no part of these programs. */
#define _POSIX_C_SOURCE 200809L

#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

#define DOTS_PER_INCH 300.0
#define POINTS_PER_INCH 72.0
#define MOST_SECONDS 120              /* of a process; a page at 300 dpi takes about one */
#define MOST_MEMORY ((rlim_t)2 << 30) /* of a process */
#define MOST_TEXT ((size_t)1 << 16)   /* that pdfinfo may say */

/* What a program wrote. */
typedef struct answer {
  uint8_t *bytes;
  size_t size, capacity;
  char complaint[DECODE_REASON]; /* the first line on stderr */
  int status;                    /* of waitpid; -1: it could not be run */
} answer;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void limit(int what, rlim_t most) {
  struct rlimit limits;
  if (getrlimit(what, &limits)) return;
  if (limits.rlim_max == RLIM_INFINITY || limits.rlim_max > most) limits.rlim_max = most;
  limits.rlim_cur = limits.rlim_max;
  setrlimit(what, &limits);
}

/* The child's part: only what may be called between fork and exec. */
static void become(char *const arguments[], int out, int complaints) {
  const int nothing = open("/dev/null", O_RDONLY);
  limit(RLIMIT_AS, MOST_MEMORY);
  limit(RLIMIT_CPU, MOST_SECONDS);
  if (dup2(nothing, 0) < 0 || dup2(out, 1) < 0 || dup2(complaints, 2) < 0) _exit(126);
  execvp(arguments[0], arguments);
  _exit(127);
}

/* Takes what has come; 0 at the end, or when it is more than `most`. */
static int take(answer *a, int from, size_t most) {
  if (a->size == a->capacity) {
    const size_t larger = a->capacity ? 2 * a->capacity : (size_t)1 << 16;
    uint8_t *bytes = realloc(a->bytes, larger < most ? larger : most + 1);
    if (!bytes) return 0;
    a->bytes = bytes;
    a->capacity = larger < most ? larger : most + 1;
  }
  const ssize_t got = read(from, a->bytes + a->size, a->capacity - a->size);
  if (got < 0 && errno == EINTR) return 1;
  if (got > 0) a->size += (size_t)got;
  return got > 0 && a->size <= most;
}

static void take_complaint(answer *a, int from, int *open) {
  char block[512];
  const size_t have = strlen(a->complaint);
  const ssize_t got = read(from, block, sizeof block);
  if (got <= 0) {
    if (got == 0 || errno != EINTR) *open = 0;
    return;
  }
  const size_t room = sizeof a->complaint - 1 - have;
  memcpy(a->complaint + have, block, (size_t)got < room ? (size_t)got : room);
}

/* Reads both streams until the answer ends. Returns 0 if the process has to be stopped. */
static int listen_to(answer *a, int out, int complaints, size_t most) {
  const double until = seconds() + MOST_SECONDS;
  int open = 1;
  for (;;) {
    struct pollfd streams[2] = {{out, POLLIN, 0}, {open ? complaints : -1, POLLIN, 0}};
    const double left = until - seconds();
    const int ready = left > 0 ? poll(streams, 2, (int)(left * 1000) + 1) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return 0;
    if (streams[1].revents) take_complaint(a, complaints, &open);
    if (streams[0].revents && !take(a, out, most)) return a->size <= most;
  }
}

/* Runs a program, found as shells find it. */
static answer run(char *const arguments[], size_t most) {
  answer a = {NULL, 0, 0, "", -1};
  int out[2], complaints[2];
  if (pipe(out)) return a;
  if (pipe(complaints)) {
    close(out[0]);
    close(out[1]);
    return a;
  }
  for (int i = 0; i < 2; i++) {
    fcntl(out[i], F_SETFD, FD_CLOEXEC);
    fcntl(complaints[i], F_SETFD, FD_CLOEXEC);
  }
  const pid_t child = fork();
  if (child == 0) become(arguments, out[1], complaints[1]);
  close(out[1]);
  close(complaints[1]);
  if (child > 0) {
    if (!listen_to(&a, out[0], complaints[0], most)) kill(child, SIGKILL);
    close(out[0]);
    close(complaints[0]);
    while (waitpid(child, &a.status, 0) < 0 && errno == EINTR) {
    }
    return a;
  }
  close(out[0]);
  close(complaints[0]);
  return a;
}

/* Why an answer is none. */
static int refuse_answer(const answer *a, char reason[DECODE_REASON]) {
  char complaint[DECODE_REASON];
  snprintf(complaint, sizeof complaint, "%s", a->complaint);
  complaint[strcspn(complaint, "\r\n")] = 0;
  if (a->status == -1) return refuse(reason, "a PDF: no process could be started to read it");
  if (WIFEXITED(a->status) && WEXITSTATUS(a->status) == 127)
    return refuse(reason, "a PDF: to read it, install poppler's programs (Debian: poppler-utils)");
  if (WIFSIGNALED(a->status))
    return refuse(reason, "damaged: reading its page took more than %d seconds or too much memory",
                  MOST_SECONDS);
  return refuse(reason, "damaged PDF: %.200s", *complaint ? complaint : "it has no such page");
}

/* A path that no program takes for an option. */
static void plain_path(const char *path, char *to, size_t size) {
  snprintf(to, size, "%s%s", *path == '-' ? "./" : "", path);
}

/* What pdfinfo says of a page, or of all of them. NULL with a reason; to be freed. */
static char *ask(const char *path, int page, char reason[DECODE_REASON]) {
  char file[PATH_MAX + 8], number[16];
  snprintf(number, sizeof number, "%d", page);
  plain_path(path, file, sizeof file);
  char *all[] = {"pdfinfo", file, NULL};
  char *one[] = {"pdfinfo", "-f", number, "-l", number, file, NULL};
  answer a = run(page ? one : all, MOST_TEXT);
  uint8_t *text = NULL;
  if (a.status || !a.size)
    refuse_answer(&a, reason);
  else if (!(text = realloc(a.bytes, a.size + 1)))
    refuse(reason, "out of memory");
  if (!text) {
    free(a.bytes);
    return NULL;
  }
  text[a.size] = 0;
  return (char *)text;
}

int pdf_pages(const char *path, char reason[DECODE_REASON]) {
  char *text = ask(path, 0, reason);
  int pages = 0;
  if (!text) return 0;
  const char *line = strstr(text, "\nPages:");
  if (!line || sscanf(line, "\nPages: %d", &pages) != 1 || pages < 1) {
    pages = 0;
    refuse(reason, "damaged PDF: it has no pages");
  }
  free(text);
  return pages;
}

/* Dots an inch, so that a page has the pixels it may have. */
static double resolution(const char *path, int page, int64_t most_pixels,
                         char reason[DECODE_REASON]) {
  char *text = ask(path, page, reason);
  double width = 0, height = 0;
  if (!text) return 0;
  const char *size = strstr(text, " size:");
  const int good =
      size && sscanf(size, " size: %lf x %lf", &width, &height) == 2 && width > 0 && height > 0;
  free(text);
  if (!good) return refuse(reason, "damaged PDF: it has no page %d", page);
  double fine = DOTS_PER_INCH / POINTS_PER_INCH;
  while (ceil(width * fine) * ceil(height * fine) > (double)most_pixels && fine > 1e-3)
    fine *= 0.99;
  return fine * POINTS_PER_INCH;
}

int pdf_page(const char *path, int page, int64_t most_pixels, decoded_picture *out,
             char reason[DECODE_REASON]) {
  char file[PATH_MAX + 8], number[16], dots[32];
  const double fine = resolution(path, page, most_pixels, reason);
  if (!(fine > 0)) return 0;
  snprintf(number, sizeof number, "%d", page);
  snprintf(dots, sizeof dots, "%d.%04d", (int)fine, (int)(fine * 10000) % 10000);
  plain_path(path, file, sizeof file);
  char *arguments[] = {"pdftoppm", "-r", dots, "-f", number, "-l", number, file, NULL};
  answer a = run(arguments, (size_t)most_pixels * 3 + 64);
  const file_bytes drawn = {a.bytes, a.size};
  const int good = !a.status && a.size > 2 && a.bytes[0] == 'P'
                       ? stb_picture(KIND_PNM, drawn, most_pixels, out, reason)
                       : refuse_answer(&a, reason);
  free(a.bytes);
  return good;
}
