#!/usr/bin/env bash
# The matrix tiles keep their sums in registers: no compiler may move them to the stack inside the hot
# loop. A tile that does runs at a fraction of its speed and every result is still right, so nothing
# else would notice. Prints one line a compiler and target for tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/spills
if ! command -v python3 >/dev/null; then
  echo "skip optional look for spills: python3 is not installed"
  exit 0
fi
printf '#define CONVNET_IMPLEMENTATION\n#include "convnet.h"\n' >build/spills/all.c
failed=0

check() { # name, compiler and flags
  local name=$1
  shift
  if ! command -v "$1" >/dev/null; then
    echo "skip optional spills, $name: $1 is not installed"
    return
  fi
  if "$@" -O2 -I. -S build/spills/all.c -o "build/spills/$name.s" &&
    python3 tests/spills.py "build/spills/$name.s" >&2; then
    echo "ok spills, $name"
  else
    echo "not ok spills, $name"
    failed=1
  fi
}

check gcc gcc
check clang clang
check gcc-aarch64 aarch64-linux-gnu-gcc
check clang-aarch64 clang --target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include
exit $failed
