/* The implementation of tally.h, compiled once for all tools and for tests that need no more than
   the interface. */
#define TALLY_IMPLEMENTATION
#include "../../tally.h"
