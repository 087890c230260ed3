#!/usr/bin/env bash
# Instructions that the main kernels take, counted by valgrind on the AVX2 and scalar paths and compared
# with tests/instructions/expected.csv: more than 3 % more is a regression. Counts do not depend on the
# clock or the load, but on the compiler: with another than the recorded one this is skipped.
# tests/instructions.sh --update writes the file anew.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/instructions
expected=tests/instructions/expected.csv
compiler="gcc $(gcc -dumpfullversion 2>/dev/null)"
if ! command -v valgrind >/dev/null; then
  echo "skip optional instruction counts: valgrind is not installed"
  exit 0
fi
gcc -O2 -I. tests/instructions/count.c -o build/instructions/count -lm || exit 1

count() { # isa, case
  CONVNET_ISA=$1 valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=run_case \
    build/instructions/count "$2" 2>&1 | sed -n 's/^.*Collected : //p'
}

if [ "${1:-}" = --update ]; then
  { echo "# compiler: $compiler"
    echo "isa,case,instructions"
    for isa in avx2 scalar; do
      for case in $(build/instructions/count); do echo "$isa,$case,$(count $isa "$case")"; done
    done; } >"$expected"
  exit
fi

if [ "# compiler: $compiler" != "$(head -n 1 "$expected")" ]; then
  echo "skip optional instruction counts: recorded with $(head -n 1 "$expected"), here is $compiler"
  exit 0
fi
failed=0
while IFS=, read -r isa case before; do
  now=$(count "$isa" "$case")
  if [ -n "$now" ] && [ $((now * 100)) -le $((before * 103)) ]; then
    echo "ok $isa $case: $now instructions, recorded $before"
  else
    echo "not ok $isa $case: ${now:-none} instructions, recorded $before"
    failed=1
  fi
done < <(tail -n +3 "$expected")
exit $failed
