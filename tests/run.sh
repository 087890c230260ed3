#!/usr/bin/env bash
# tests/run.sh PROGRAM... runs test programs and scripts one after another and adds up what they
# report: cmocka's lines, or one line a test in the form "ok NAME", "not ok NAME", "skip NAME: why".
# The last line is "N passed, N failed, N skipped"; the exit code is 0 if none failed.
#
# With CI set in the environment a skip counts as a failure, unless the test's name says that it needs
# something private (data that may not be published) or optional.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/log

count() { grep -cE "$1" "$out"; }

passed=0 failed=0 skipped=0
for test in "$@"; do
  name=$(basename "$test")
  out=build/log/$name.out err=build/log/$name.err
  started=$SECONDS
  "$test" >"$out" 2>"$err"
  status=$?
  ok=$(count '^(\[       OK \]|ok ) ?.')
  bad=$(count '^(\[  FAILED  \]|not ok ) ?.')
  skips=$(grep -E '^(\[  SKIPPED \]|skip ) ?.' "$out")
  skip=$(grep -c . <<<"$skips")
  if [ -n "${CI:-}" ]; then
    strict=$(grep . <<<"$skips" | grep -cvE 'private|optional')
    bad=$((bad + strict)) skip=$((skip - strict))
  fi
  # A program that died, or that ran nothing, has failed whatever it printed before.
  [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((ok + skip)) -eq 0 ]; } && bad=1
  printf '%-24s %4d passed %3d failed %3d skipped %5d s\n' "$name" "$ok" "$bad" "$skip" \
    $((SECONDS - started))
  [ -n "$skips" ] && sed 's/^/    /' <<<"$skips"
  if [ "$bad" -ne 0 ]; then
    echo "    exit code $status; full output in $out and $err; the end of it:"
    grep -E '^(\[  FAILED  \]|not ok )' "$out" | head -n 20 | sed 's/^/    /'
    tail -n 30 "$err" | sed 's/^/    /'
  fi
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
