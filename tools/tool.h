/* tool.h - what every tool begins with: messages, memory, texts, options, threads, progress, and the
   line it ends with.

   Internal to tools/, not part of the two public headers. A tool is one file that opens with

       #define _POSIX_C_SOURCE 200809L
       #define TOOL_NAME "tally-train"
       #define TOOL_USAGE "--data D --arch NAME --out M.safetensors [options]"
       #include "tool.h"

   and goes on with the rooms that it needs. It is built by make bin/NAME, which compiles the
   implementations once for all tools; or by hand (stb is Debian's libstb-dev; -DHAVE_LIBTIFF with
   -ltiff, -DHAVE_LIBWEBP with -lwebp and -DHAVE_LIBHEIF with -lheif read more kinds of pictures):

       cc -O2 tools/NAME.c tools/implementations/convnet.c tools/implementations/tally.c \
         tools/implementations/stb.c tools/decode/[a-z]*.c -o bin/NAME -lm
*/
#ifndef TALLY_TOOL_H
#define TALLY_TOOL_H

#include <locale.h>
#include <signal.h>

#include "json.h"
#include "memory.h"
#include "messages.h"
#include "options.h"
#include "progress.h"
#include "text.h"
#include "work.h"

/* A file-size limit then fails a write, as a full disk does, instead of killing the process; and numbers
   have a point, and reasons are in one language, even if a library took the user's locale. */
static inline void tool_start(void) {
  setlocale(LC_ALL, "C");
#ifdef SIGXFSZ
  signal(SIGXFSZ, SIG_IGN);
#endif
}

#endif
