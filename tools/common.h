/* common.h - every room that most tools use. */
#ifndef TALLY_COMMON_H
#define TALLY_COMMON_H

#include <float.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

#include "csv.h"
#include "dataset.h"
#include "output.h"
#include "picture.h"

#endif
