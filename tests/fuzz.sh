#!/usr/bin/env bash
# Readers of files, and what works on what they read, stand inputs that libFuzzer makes up (tests/fuzz).
# Without arguments each target is tried on its corpus, on what once failed, and on a fixed number of
# inputs made of these; that prints one line a target for tests/run.sh.
#
# tests/fuzz.sh SECONDS [TARGET...] goes on for that long with each, from where it stopped the last time:
# what is worth keeping is in build/fuzz/corpus, what fails in build/fuzz/found.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL
limits=(-timeout=10 -rss_limit_mb=1024 -close_fd_mask=3)

targets() { # names of all
  local source
  for source in tests/fuzz/*.c; do
    basename "$source" .c
  done | grep -vx fuzz
}

# explore TARGET FOLDER FLAG...: makes inputs of the target's corpus and the folder's, which gets those that
# reach something new. One that fails ends it and is kept in build/fuzz/found.
explore() {
  local target=$1 folder=$2 dictionary=tests/fuzz/$1.dict
  shift 2
  mkdir -p "$folder" "build/fuzz/found/$target"
  [ -e "$dictionary" ] && set -- "$@" "-dict=$dictionary"
  "build/fuzz/$target" "${limits[@]}" "-artifact_prefix=build/fuzz/found/$target/" "$@" \
    "$folder" "tests/fuzz/corpus/$target"
}

# What went wrong according to a log, and where the input lies.
findings() {
  grep -E 'ERROR: |SUMMARY: |runtime error: |does not hold: |Test unit written to |^Running: ' "$1" |
    tail -n 5
}

# ---- for a while ---------------------------------------------------------------------------------

# Prints runs, how many edges of the control flow they passed, and how many of those were new.
explore_for() { # SECONDS TARGET
  local log=build/fuzz/$2.log failed=0
  explore "$2" "build/fuzz/corpus/$2" "-max_total_time=$1" -print_final_stats=1 >"$log" 2>&1 ||
    failed=1
  awk -v target="$2" -v failed=$failed '
    / cov: / { last = $0; sub(/.* cov: /, "", last); if (first == "") first = last }
    /^stat::number_of_executed_units/ { runs = $2 }
    END {
      printf "%s: %d runs, %d edges, %d of them new, %s\n", target, runs, last, last - first,
        failed ? "a finding" : "no findings"
    }' "$log"
  [ $failed -eq 0 ] || findings "$log" | sed 's/^/    /'
  return $failed
}

# ---- as a test -----------------------------------------------------------------------------------

# shellcheck disable=SC2046  # words are wanted
try_files() { # TARGET: what is kept, one after another
  "build/fuzz/$1" "${limits[@]}" \
    $(find "tests/fuzz/corpus/$1" "tests/fuzz/found/$1" -type f 2>/dev/null | sort)
}

runs_of() { # TARGET: as its source says
  sed -n 's/.*Runs: \([0-9]*\)\. \*\/$/\1/p' "tests/fuzz/$1.c"
}

check() { # TARGET
  local log=build/log/fuzz-$1 folder=build/fuzz/check/$1
  rm -rf "$folder"
  if try_files "$1" >"$log" 2>&1 &&
    explore "$1" "$folder" -seed=1 "-runs=$(runs_of "$1")" >"$log" 2>&1; then
    echo "ok fuzz $1"
  else
    echo "not ok fuzz $1"
    findings "$log" >&2
    return 1
  fi
}

# ---- start ---------------------------------------------------------------------------------------

has_fuzzer() {
  echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
    clang -fsanitize=fuzzer,address,undefined -x c - -o build/log/fuzz-try 2>build/log/fuzz-try.log
}

mkdir -p build/log
if ! has_fuzzer; then
  echo "skip optional fuzz: no clang with libFuzzer (Debian: clang, libclang-rt-14-dev)"
  exit 0
fi
make -s fuzzers >&2 || { echo "not ok fuzz: the targets do not compile"; exit 1; }
failed=0
if [ $# -gt 0 ]; then
  seconds=$1
  shift
  [ $# -gt 0 ] || mapfile -t all < <(targets)
  for target in "${@-${all[@]}}"; do
    explore_for "$seconds" "$target" || failed=1
  done
else
  for target in $(targets); do
    check "$target" || failed=1
  done
fi
exit $failed
