/* progress.h - a bar that shows how far a tool has come. */
#ifndef TALLY_PROGRESS_H
#define TALLY_PROGRESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "messages.h"
#include "text.h"
#include "work.h"

/* A bar on stderr, drawn at most ten times a second and only on a terminal. */
typedef struct progress {
  int on;
  double drawn;
} progress;

static inline progress progress_start(void) {
  progress bar = {0};
  bar.on = !tool_quiet && isatty(STDERR_FILENO);
  return bar;
}

/* H:MM:SS or M:SS. */
static inline const char *clock_text(double seconds, char out[32]) {
  long s = seconds > 0 && seconds < 1e8 ? (long)(seconds + 0.5) : 0;
  if (s >= 3600)
    snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else
    snprintf(out, 32, "%ld:%02ld", s / 60, s % 60);
  return out;
}

/* label [=====>    ] figures, cut to the terminal's width. done is the share, 0 to 1. */
static inline void progress_draw(progress *bar, const char *label, double done,
                                 const char *figures) {
  double now = seconds_now();
  if (!bar->on || (progress_is_up && now - bar->drawn < 0.1)) return;
  struct winsize window = {0};
  int columns =
      ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : 80;
  int room = columns - 1 - (int)strlen(label) - (int)strlen(figures) - 4;
  int width = room < 0 ? 0 : room > 30 ? 30 : room;
  int filled = (int)(done * width + 0.5);
  text_buffer line = {0};
  text_add(&line, "%s ", label);
  if (width) {
    text_add(&line, "[");
    for (int i = 0; i < width; i++)
      text_add(&line, "%c", i < filled ? '=' : i == filled ? '>' : ' ');
    text_add(&line, "] ");
  }
  text_add(&line, "%s", figures);
  fprintf(stderr, "\r%.*s\033[K", columns - 1, line.data);
  fflush(stderr);
  free(line.data);
  bar->drawn = now;
  progress_is_up = 1;
}

#endif
