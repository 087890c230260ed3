/* The implementation of convnet.h, compiled once for all tools and for tests that need no more than
   the interface. */
#define CONVNET_IMPLEMENTATION
#include "../../convnet.h"
