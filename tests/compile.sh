#!/usr/bin/env bash
# The compile matrix: {gcc, clang} x {C99, C11, C++11} x configurations, warnings as errors, two
# translation units linked, the header included twice; every program calls functions and runs. Then the
# test programs under sanitizers, under valgrind, with the instruction set capped, for NEON under qemu, and
# the one of threads under ThreadSanitizer and without threads.
#
#   tests/compile.sh           all of it, two jobs at a time
#   tests/compile.sh WORDS...  one job, for instance: tests/compile.sh matrix gcc c99 CONVNET_NO_SIMD
set -u
cd "$(dirname "$0")/.." || exit 1
# Two jobs at a time keep the cores busy, so each has one thread, but where a test asks for more. And a
# tenth of the cases: these runs look for other mistakes than the full ones do.
export CONVNET_THREADS=1 TEST_BUDGET=${TEST_BUDGET:-10}
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
sanitizers=(-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all)
# Programs that exercise the library; each name is tests/NAME.c.
programs=(test_networks test_files test_golden test_kernels test_threads test_embedding test_guards test_sizes
  test_texts test_memory)

# Runs the rest of its arguments; one line on stdout, the output on stderr if it failed.
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'ok %s\n' "$name"
  else
    printf 'not ok %s\n' "$name"
    printf '%s: %s\n%s\n' "$name" "$*" "$(tail -n 40 <<<"$output")" >&2
    return 1
  fi
}

# ---- the matrix --------------------------------------------------------------------------------

write_sources() {
  cat >"$1/work.h" <<'C'
/* Trains one step and predicts; the loss tells whether two translation units do the same. */
#include <stdio.h>
static double work(void) {
  static float images[4][64];
  static int labels[4] = {0, 1, 2, 1};
  float outputs[12];
  cn_error error;
  cn_network *net = cn_network_parse("input 8x8x1\nconv 8 3x3 pad=1\nrelu\nmaxpool 2x2\n"
                                     "dense 3\nsoftmax\n", &error);
  cn_training_options options = cn_training_defaults();
  cn_trainer *trainer = net ? cn_trainer_create(net, 4, &options, &error) : NULL;
  cn_predictor *predictor = net ? cn_predictor_create(net, 4, NULL, &error) : NULL;
  cn_metrics metrics = {0, 0};
  static cn_batch batch; /* zeroes */
  cn_random random = {1, 0};
  int i;
  if (!trainer || !predictor) return -1;
  for (i = 0; i < 4 * 64; i++) images[i / 64][i % 64] = cn_random_uniform(&random);
  batch.count = 4;
  batch.inputs = images[0];
  batch.labels = labels;
  batch.targets = NULL;
  if (cn_train_step(trainer, &batch, &metrics, &error) != CN_OK) puts(error.message);
  cn_predict(predictor, images[0], 4, outputs);
  for (i = 0; i < 3; i++) metrics.loss += (double)outputs[i];
  cn_relu_forward(outputs, outputs, 12);
#ifndef CONVNET_NO_FILES
  if (cn_load("/nowhere", &error)) return -1;
#endif
  cn_predictor_free(predictor);
  cn_trainer_free(trainer);
  cn_network_free(net);
  return metrics.loss;
}
C
  cat >"$1/one.c" <<'C'
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "convnet.h"
#include "work.h"
extern double work_of_two(void);
int main(void) {
  double one = work(), two = work_of_two();
  printf("%s %.9g %.9g\n", cn_isa_name(), one, two);
  return !(one > 0 && one < 100 && one == two);
}
C
  cat >"$1/two.c" <<'C'
#ifdef CONVNET_STATIC /* a private copy in each translation unit */
#define CONVNET_IMPLEMENTATION
#endif
#include "convnet.h"
#include "work.h"
extern double work_of_two(void);
double work_of_two(void) {
  return work();
}
C
  cat >"$1/both.c" <<'C'
#define TALLY_IMPLEMENTATION
#include "tally.h"
#define CONVNET_IMPLEMENTATION
#include "convnet.h"
#include "tally.h"
#include "work.h"
int main(void) {
  return !(work() > 0);
}
C
}

# build_and_run FOLDER COMPILER STANDARD CONFIGURATION SOURCE...
build_and_run() {
  local to=$1 compiler=$2 standard=$3 configuration=$4 command
  shift 4
  command=("$compiler" -std="$standard" "${warnings[@]}" -O1 -I. -I"$to")
  case $standard in
    c++*) command+=(-x c++) ;;
    *) command+=(-Wstrict-prototypes) ;;
  esac
  case $configuration in
    plain) ;;
    O0) command+=(-O0) ;;
    O3) command+=(-O3) ;;
    *) command+=(-D"$configuration") ;;
  esac
  "${command[@]}" "$@" -x none -o "$to/program" -lm && "$to/program"
}

matrix() {
  local compiler=$1 standard=$2 configuration=$3 folder result
  [ "$standard" = c++11 ] && { [ "$compiler" = gcc ] && compiler=g++ || compiler=clang++; }
  folder=$(mktemp -d)
  write_sources "$folder"
  if [ "$configuration" = both ]; then
    set -- "$folder/both.c"
  else
    set -- "$folder/one.c" "$folder/two.c"
  fi
  check "$compiler $standard $configuration" build_and_run "$folder" "$compiler" "$standard" \
    "${configuration/#both/plain}" "$@"
  result=$?
  rm -rf "$folder"
  return $result
}

# ---- the tests again, otherwise -----------------------------------------------------------------

# build_library TO COMMAND...: an archive, of which the linker takes nothing for a program that includes
# the implementation itself.
build_library() {
  local to=$1
  shift
  "$@" -c tools/implementations/convnet.c -o "${to%.a}.o" &&
    "$@" -c tools/implementations/tally.c -o "${to%.a}-tally.o" &&
    rm -f "$to" && ar rcs "$to" "${to%.a}.o" "${to%.a}-tally.o"
}

# run_programs FOLDER WHERE COMMAND...: builds the test programs by that command, and the library once
# for all of them; runs each of them, in the emulator if there is one.
emulator=()
run_programs() {
  local to=build/$1 where=$2 program result=0
  shift 2
  mkdir -p "$to"
  check "the headers build $where" build_library "$to/convnet.a" "$@" || return 1
  for program in "${programs[@]}"; do
    check "$program builds $where" "$@" -I. "tests/$program.c" "$to/convnet.a" -o "$to/$program" \
      -lcmocka -lm && check "$program runs $where" "${emulator[@]}" "$to/$program" || result=1
  done
  return $result
}

sanitized() {
  local compiler=$1 options=("${sanitizers[@]}")
  # clang takes minutes to instrument the AVX-512 kernels; gcc's build has them.
  [ "$compiler" = clang ] && options+=(-DCONVNET_NO_AVX512)
  run_programs "$compiler-sanitizers" "with $compiler's sanitizers" "$compiler" "${options[@]}"
}

# Each instruction set has inner loops of its own. A program that forks must tell the sanitizer.
races() {
  local compiler=$1 to=build/races-$1 isa
  check "test_threads builds with $compiler's ThreadSanitizer" "$compiler" -g -O1 -fsanitize=thread \
    -I. tests/test_threads.c -o "$to" -lcmocka -lm || return
  for isa in scalar avx2 avx512; do
    check "no data races, $compiler, CONVNET_ISA=$isa" env TSAN_OPTIONS=die_after_fork=0 \
      CONVNET_ISA=$isa "$to" || return
  done
}

without_threads() {
  local to=build/without-threads
  check "test_threads builds with CONVNET_NO_THREADS" gcc -O1 -DCONVNET_NO_THREADS -I. \
    tests/test_threads.c -o "$to" -lcmocka -lm && check "test_threads runs with CONVNET_NO_THREADS" "$to"
}

# The library as it is in a program that was told that all numbers are finite; what looks at it is not.
fast_math() {
  local compiler=$1 to=build/fast-math-$1 flag isa
  for flag in -ffast-math -ffinite-math-only; do
    check "the headers build with $compiler $flag" build_library "$to.a" "$compiler" -O2 \
      -DCONVNET_NO_AVX512 "$flag" &&
      check "test_guards builds beside it" "$compiler" -O1 -DFAST_MATH -I. tests/test_guards.c "$to.a" \
        -o "$to" -lcmocka -lm || return
    for isa in scalar avx2; do
      check "test_guards with $compiler $flag, CONVNET_ISA=$isa" env CONVNET_ISA=$isa "$to" || return
    done
    check "test_memory, with tally.h in it, builds with $compiler $flag" "$compiler" -O2 \
      -DCONVNET_NO_AVX512 "$flag" -I. tests/test_memory.c -o "$to-memory" -lcmocka -lm &&
      check "test_memory with $compiler $flag" "$to-memory" || return
  done
}

# Products of sizes pass SIZE_MAX early where addresses have 32 bits; there is no cmocka for them.
small_addresses() {
  local to=build/i686 program
  local command=(i686-linux-gnu-gcc -O1 -static -DCONVNET_NO_AVX512 -Itests/plain)
  check "the headers build for i686" build_library "$to.a" "${command[@]}" || return
  for program in test_sizes test_guards; do
    check "$program builds for i686" "${command[@]}" -I. "tests/$program.c" "$to.a" -o "$to-$program" -lm &&
      check "$program runs on i686" "$to-$program" || return
  done
}

capped() {
  check "$2 with CONVNET_ISA=$1" env CONVNET_ISA="$1" "build/tests/$2"
}

# The scalar paths, or at most AVX2: valgrind does not know AVX-512.
under_valgrind() {
  check "$2 under valgrind, CONVNET_ISA=$1" env CONVNET_ISA="$1" valgrind \
    --quiet --error-exitcode=9 --leak-check=full "build/tests/$2"
}

neon() {
  emulator=(qemu-aarch64-static)
  run_programs neon "for NEON, under qemu" aarch64-linux-gnu-gcc -O2
}

# ---- which jobs --------------------------------------------------------------------------------

has() { command -v "$1" >/dev/null; }

jobs() {
  local compiler standard configuration program isa
  # The longest go first, so that at the end no core waits for them.
  if has aarch64-linux-gnu-gcc && has qemu-aarch64-static && [ -e /usr/lib/aarch64-linux-gnu/libcmocka.so ]; then
    echo neon
  else
    echo "skip tests on NEON: no aarch64-linux-gnu-gcc, qemu-aarch64-static or libcmocka-dev:arm64" >&3
  fi
  for compiler in gcc clang; do
    if ! has "$compiler"; then
      echo "skip everything with $compiler: not installed" >&3
      continue
    fi
    echo "sanitized $compiler"
    echo "races $compiler"
    echo "fast_math $compiler"
    for standard in c99 c11 c++11; do
      for configuration in plain O0 O3 CONVNET_NO_THREADS CONVNET_STATIC CONVNET_NO_SIMD CONVNET_NO_AVX512 \
        CONVNET_NO_FILES both; do
        [ "$configuration" = O3 ] && [ "$standard" != c11 ] && continue # slow, and much the same
        echo "matrix $compiler $standard $configuration"
      done
    done
  done
  echo without_threads
  if has i686-linux-gnu-gcc; then
    echo small_addresses
  else
    echo "skip sizes with addresses of 32 bits: no i686-linux-gnu-gcc" >&3
  fi
  for isa in scalar avx2; do
    # test_kernels runs every instruction set by itself.
    for program in test_networks test_files test_golden; do echo "capped $isa $program"; done
  done
  if has valgrind; then
    echo "under_valgrind avx2 test_golden"
  else
    echo "skip test_golden under valgrind: not installed" >&3
  fi
}

case ${1:-} in
  matrix | sanitized | races | fast_math | without_threads | capped | under_valgrind | neon | small_addresses)
    "$@"
    exit
    ;;
esac
mkdir -p build
exec 3>&1
# xargs exits 123 if any job failed.
jobs | xargs -P 2 -L 1 "$0"
