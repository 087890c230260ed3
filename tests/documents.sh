#!/usr/bin/env bash
# The programs that documents show compile without a warning and run: README's, the header manual's, the
# examples.
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

# check NAME COMMAND...: one test; its output goes to stderr, where the log keeps it.
check() {
  local name=$1
  shift
  if "$@" >"$folder/output" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    failed=1
    { echo "$name:"; cat "$folder/output"; } >&2
  fi
}

readme_example() {
  awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >"$folder/readme.c"
  "$CC" -std=c99 -O2 "${warnings[@]}" -I. "$folder/readme.c" -o "$folder/readme" -lm || return 1
  (cd "$folder" && ./readme | tee readme.out && [ -s strokes.safetensors ]) || return 1
  [ "$(sed 's/ of.*//' "$folder/readme.out")" -ge 48 ] # of 50
}

# The manual's program is the body of main; it leaves images, labels and steps to its reader.
manual_example() {
  {
    cat <<'C'
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include <stdio.h>
enum { steps = 3 };
static float images[steps * 200 * 784];
static int labels[steps * 200];
int main(void) {
C
    awk '/A SMALL COMPLETE PROGRAM/ { inside = 1; next } /LIMITS, FIRST/ { exit } inside' convnet.h
    echo 'return 0; }'
  } >"$folder/manual.c"
  "$CC" -std=c99 -O2 "${warnings[@]}" -I. "$folder/manual.c" -o "$folder/manual" -lm || return 1
  (cd "$folder" && ./manual | tee manual.out && [ ! -s manual.out ] && [ -s base.safetensors ])
}

# Each example says how to build itself, in its first comment.
example_builds() {
  local line
  line=$(grep -m 1 -oE '(cc|c\+\+) .*-o [a-z]+ -lm' "$1") || return 1
  # shellcheck disable=SC2086  # the line is a command with its arguments
  ${line/ -o *-lm/ ${warnings[*]} -o $folder/$(basename "$1").out -lm}
}

user_example() { "$folder/user.cpp.out"; }

digit_examples() {
  "$folder/train.c.out" data "$folder/digits" 1 && grep -q 'epoch 1' "$folder/output" &&
    "$folder/predict.c.out" "$folder/digits" data/t10k-images-idx3-ubyte 0 >"$folder/seven" &&
    cat "$folder/seven" && [ "$(sort -k 2 -n "$folder/seven" | tail -n 1 | cut -c 1)" = 7 ]
}

examples_refuse() {
  ! "$folder/train.c.out" 2>&1 && ! "$folder/train.c.out" /nowhere "$folder/x" 1 2>&1 &&
    ! "$folder/predict.c.out" "$folder/nothing" /dev/null 0 && [ ! -e "$folder/x" ]
}

check "README's program" readme_example
check "the header manual's program" manual_example
for example in examples/*.c examples/*.cpp; do
  check "$example builds by its own line" example_builds "$example"
done
check "examples/user.cpp learns" user_example
for example in multilabel saliency maps allocator embedded; do
  check "examples/$example.c runs" "$folder/$example.c.out"
done
check "examples refuse bad arguments" examples_refuse
if [ -e data/t10k-images-idx3-ubyte ]; then
  check "examples/train.c and predict.c read a digit" digit_examples
else
  echo "skip examples/train.c and predict.c read a digit: no MNIST in data/, see make data"
fi
exit $failed
