/* What Microsoft's runtime library does before main: tests/compilers.sh links programs for it without
   having it. */
#include <stdlib.h>

extern int main(void);
extern void mainCRTStartup(void);
extern int _fltused;

int _fltused; /* the linker asks for it where there are floats */

void mainCRTStartup(void) {
  exit(main());
}
