/* tools.h - what the targets share that try out a room of tools/. A room ends the process when a file
   is wrong, so it is called by tool_run(). */
#ifndef FUZZ_TOOLS_H
#define FUZZ_TOOLS_H

#define _POSIX_C_SOURCE 200809L
#define TOOL_NAME "fuzz"
#define TOOL_USAGE ""
#include "tool.h"

#include "input.h"

/* Calls `what` as fuzz_run() does, and leaves the tool's own state as it was. */
static inline void tool_run(void (*what)(const uint8_t *data, size_t size), const uint8_t *data,
                            size_t size) {
  static int noted = 0;
  if (!noted++) input_note(fuzz_file(data, size)); /* so that no run allocates room for it */
  if (fuzz_run(what, data, size)) pthread_mutex_unlock(&first_failure);
}

#endif
