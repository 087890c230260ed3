#!/usr/bin/env bash
# Compiles tests/compilers/program.c and tally.c with every compiler and for every target that there is,
# runs them (under an emulator where need be) with every instruction set that the target has, and holds
# the bytes of the trained weights against those of the other programs with the same instruction set.
# Prints one line a compiler and target for tests/run.sh.
#
#   tests/compilers.sh            what continuous integration runs
#   tests/compilers.sh all        older clangs too: downloads 90 MB each
#   tests/compilers.sh table      the last run as the table in README.md
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
work=$root/build/compilers
python=$work/python # a virtual environment with zig, which is a clang with libraries for many targets
newest=0.17.1
older="0.9.1 0.10.1.post1 0.11.0 0.12.1 0.13.0 0.14.1 0.15.2 0.16.0" # clang 13, 15, 16, ..., 21
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
wine_headers=/usr/include/wine/wine
wine_libraries=/usr/lib/x86_64-linux-gnu/wine/x86_64-windows
# A clang that does not say so takes what is written for Microsoft's compiler, if it takes all instructions
# and fuses nothing without being told to.
as_microsoft="-U__clang__ -ffp-contract=off -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mpopcnt -mxsave
  -Wno-unknown-pragmas -D_crt_va_start=__builtin_va_start -D_crt_va_end=__builtin_va_end"
as_microsoft=${as_microsoft//$'\n'/}
export WINEPREFIX=$work/wine WINEDEBUG=-all
export ZIG_GLOBAL_CACHE_DIR=$work/zig-cache ZIG_LOCAL_CACHE_DIR=$work/zig-cache

# ---- the matrix --------------------------------------------------------------------------------
# target | what runs it | bytes, if not those of the instruction set | compiler and flags
# -O1 where nothing asks for more: it is compiled faster. Programs for emulators are linked statically.

matrix() {
  cat <<END
x86_64 Linux|native||gcc -O2
x86_64 Linux, -O0|native||gcc -O0
x86_64 Linux, -O3 -march=native|native||gcc -O3 -march=native
x86_64 Linux|native||clang -O2
x86_64 Linux|native||tcc
i686 Linux with SSE2|native||i686-linux-gnu-gcc -O1 -msse2 -mfpmath=sse -static
aarch64 Linux|qemu-aarch64-static||aarch64-linux-gnu-gcc -O1 -static
armv7 Linux, VFPv4|qemu-arm-static||arm-linux-gnueabihf-gcc -O1 -mfpu=neon-vfpv4 -static
armv7 Linux, VFPv3|qemu-arm-static|scalar|arm-linux-gnueabihf-gcc -O1 -mfpu=neon -static
riscv64 Linux|qemu-riscv64-static||riscv64-linux-gnu-gcc -O1 -static
s390x Linux|qemu-s390x-static||s390x-linux-gnu-gcc -O1 -fexcess-precision=fast -static
ppc64le Linux|qemu-ppc64le-static||powerpc64le-linux-gnu-gcc -O1 -static
x86_64 Windows|wine||x86_64-w64-mingw32-gcc -O1
x86_64 Windows, aligned moves|wine||x86_64-w64-mingw32-gcc -O2
x86_64 Windows, as clang-cl|wine||clang -O1 --target=x86_64-pc-windows-msvc
x86_64 Windows, as if Microsoft's|wine||clang -O1 --target=x86_64-pc-windows-msvc $as_microsoft
x86_64 Windows, as clang-cl|wine||zig-clang $newest -O1 --target=x86_64-pc-windows-msvc
END
  zig_matrix "$newest"
}

zig_matrix() {
  cat <<END
x86_64 Linux, musl|native||zig-cc $1 -O1 -target x86_64-linux-musl
aarch64 Linux, musl|qemu-aarch64-static||zig-cc $1 -O1 -target aarch64-linux-musl
x86_64 Windows|wine||zig-cc $1 -O1 -target x86_64-windows-gnu
x86_64 macOS|nothing||zig-cc $1 -O1 -target x86_64-macos
aarch64 macOS|nothing||zig-cc $1 -O1 -target aarch64-macos
wasm32 WASI|wasmtime||zig-cc $1 -O1 -target wasm32-wasi
wasm32 WASI, -msimd128|wasmtime|scalar|zig-cc $1 -O1 -target wasm32-wasi -msimd128
END
}

older_matrix() {
  local version
  for version in $older; do
    echo "x86_64 Linux, musl|native||zig-cc $version -O1 -target x86_64-linux-musl"
    echo "x86_64 Windows, as clang-cl|wine||zig-clang $version -O1 --target=x86_64-pc-windows-msvc"
  done
}

# ---- one line of it ----------------------------------------------------------------------------

zig_folder() { # of a version
  echo "$work/zig-$1/ziglang"
}

# The Debian package that brings a command, or how else it is had.
package_of() {
  case $1 in
    zig-*) echo "ziglang (pip; needs python3-venv)" ;;
    i686-linux-gnu-gcc) echo "gcc-i686-linux-gnu libc6-dev-i386-cross" ;;
    arm-linux-gnueabihf-gcc) echo "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross" ;;
    powerpc64le-linux-gnu-gcc) echo "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross" ;;
    x86_64-w64-mingw32-gcc) echo "gcc-mingw-w64-x86-64-win32" ;;
    *-gcc) echo "gcc-${1%-gcc} libc6-dev-${1%%-*}-cross" ;;
    qemu-*) echo "qemu-user-static" ;;
    wine) echo "wine64" ;;
    wasmtime) echo "wasmtime (pip)" ;;
    *) echo "$1" ;;
  esac
}

have() {
  case $1 in
    native | nothing) ;;
    zig-*) [ -x "$(zig_folder "$2")/zig" ] ;;
    wine) [ -x /usr/lib/wine/wine64 ] ;;
    wasmtime) [ -d "$work/wasmtime/wasmtime" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# A compiler with its version, for people.
name_of() { # compiler, version of zig
  local folder
  case $1 in
    zig-*)
      folder=$(zig_folder "$2")
      "$folder/zig" clang --version | sed -n "1s/.*version \([0-9.]*\).*/clang \1 (zig $2)/p"
      ;;
    clang) clang --version | sed -n '1s/.*version \([0-9.]*\).*/clang \1/p' ;;
    tcc) tcc -v | sed 's/tcc version \([^ ]*\).*/tcc \1/' ;;
    *) echo "gcc $("$1" -dumpfullversion)" ;;
  esac
}

# build PROGRAM COMPILER FLAGS...: the two files, compiled and linked for $target.
build() {
  local program=$1 compiler=$2 command
  shift 2
  case $compiler in
    zig-cc) command=("$(zig_folder "$1")/zig" cc) && shift ;;
    zig-clang) command=("$(zig_folder "$1")/zig" clang -nostdinc -isystem "$(zig_folder "$1")/lib/include") &&
      shift ;;
    *) command=("$compiler") ;;
  esac
  # shellcheck disable=SC2206 # one word each
  [ "$compiler" != tcc ] && command+=(-std=c99 $warnings)
  command+=("$@" -I"$root")
  case "$target $*" in
    *-windows-msvc*) build_for_msvc "$program" "${command[@]}" ;;
    *aligned\ moves*) build_with_aligned_moves "$program" "${command[@]}" ;;
    *) "${command[@]}" "$root/tests/compilers/program.c" "$root/tests/compilers/tally.c" \
      -o "$program" -lm ;;
  esac
}

# Debian's gcc for Windows never takes the stack to be aligned for wide vectors; others do, so this one's
# assembly is rewritten as they would have it. The header has to cope.
build_with_aligned_moves() {
  local program=$1
  shift
  "$@" -S "$root/tests/compilers/program.c" -o program.s || return
  sed -i -E '/%[yz]mm/ { /\(%r[sb]p\)/ { s/vmovups/vmovaps/; s/vmovdqu/vmovdqa/ } }' program.s
  grep -q 'vmovaps.*(%rsp)' program.s || return
  "$@" program.s "$root/tests/compilers/tally.c" -o "$program" -lm
}

# With headers and libraries of Wine's, which follow Microsoft's, in the place of theirs.
build_for_msvc() {
  local program=$1 source
  shift
  for source in program tally start; do
    "$@" -isystem $wine_headers/msvcrt -isystem $wine_headers/windows -mno-stack-arg-probe \
      -c "$root/tests/compilers/$source.c" -o "$source.obj" || return
  done
  lld-link-14 /entry:mainCRTStartup /subsystem:console "/out:$program" program.obj tally.obj \
    start.obj $wine_libraries/libucrtbase.a $wine_libraries/libkernel32.a
}

run() { # runner, program
  case $1 in
    native) "./$2" ;;
    wine) /usr/lib/wine/wine64 "$2" | tr -d '\r' ;;
    wasmtime) PYTHONPATH=$work/wasmtime python3 "$root/tests/compilers/wasi.py" "$2" ;;
    *) "$1" "$2" ;;
  esac
}

# Leaves in `results` a line "INSTRUCTION-SET LOSS WEIGHTS" for each that the program has: a cap that it
# does not know as its own gives another one of its own.
run_all() { # runner, program
  local cap line
  touch results
  for cap in scalar neon wasm128 avx2 avx512; do
    line=$(CONVNET_ISA=$cap run "$1" "$2" | tail -n 1)
    if ! grep -qE '^[a-z0-9]+ [0-9.]+ [0-9a-f]{16}$' <<<"$line"; then
      echo "with CONVNET_ISA=$cap: $line" >&2
      return 1
    fi
    grep -q "^${line%% *} " results || echo "$line" >>results
  done
}

# Does line number N of the plan, in a folder of its own: leaves compiler, outcome, and results there.
one() {
  local target runner bytes command folder=$work/lines/$1 need
  IFS='|' read -r target runner bytes command < <(sed -n "$1p" "$work/plan")
  rm -rf "$folder" && mkdir -p "$folder" && cd "$folder" || exit 1
  read -ra command <<<"$command"
  echo "$target" >target
  echo "$bytes" >bytes
  for need in "${command[0]} ${command[1]:-}" "$runner" \
    $(case "${command[*]}" in *-msvc*) echo lld-link-14 ;; esac); do
    # shellcheck disable=SC2086 # a command and the version of it
    have $need && continue
    echo "skip ${command[*]}, for $target: install $(package_of ${need%% *})" >outcome
    return
  done
  name_of "${command[@]}" >compiler
  if ! build program.exe "${command[@]}" >log 2>&1; then
    echo "does not compile" >outcome
  elif [ "$runner" = nothing ]; then
    echo "compiled" >outcome
  elif run_all "$runner" program.exe >>log 2>&1; then
    case $runner in
      native) echo "runs" ;;
      *) echo "runs under ${runner%-static}" ;;
    esac >outcome
  else
    echo "does not run" >outcome
  fi
}

# ---- all of them -------------------------------------------------------------------------------

install_from_pip() { # folder, package
  [ -d "$work/$1" ] && return
  [ -x "$python/bin/pip" ] || python3 -m venv "$python" >&2 || return
  echo "Fetching $2" >&2
  "$python/bin/pip" install -q --disable-pip-version-check --target "$work/$1.part" "$2" >&2 &&
    mv "$work/$1.part" "$work/$1"
}

declare -A known # bytes of the weights and loss by instruction set, as the first program has them

# One line about a line of the plan.
report() {
  local folder=$work/lines/$1 compiler target bytes outcome isa loss weights key has='' name
  outcome=$(cat "$folder/outcome") target=$(cat "$folder/target") bytes=$(cat "$folder/bytes")
  case $outcome in
    skip*)
      echo "$outcome"
      return
      ;;
  esac
  compiler=$(cat "$folder/compiler")
  name="$compiler, $target"
  case $outcome in
    does*)
      echo "not ok $name: $outcome"
      tail -n 20 "$folder/log" >&2
      return 1
      ;;
    compiled) has=" -" ;;
  esac
  if [ -e "$folder/results" ]; then
    while read -r isa loss weights; do
      has="$has $isa"
      key=${bytes:-$isa}
      : "${known[$key]:=$weights}"
      if [ "${known[$key]}" != "$weights" ]; then
        echo "not ok $name: with $isa the weights are $weights, elsewhere ${known[$key]}; loss $loss"
        return 1
      fi
    done <"$folder/results"
  fi
  echo "ok $name: $outcome,$has"
  echo "| $compiler | $target | $outcome |$has |" >>"$work/table"
}

everything() { # the plan is written
  local i lines failed=0
  lines=$(wc -l <"$work/plan")
  seq "$lines" | xargs -P 2 -n 1 "$0" one
  rm -f "$work/table"
  for ((i = 1; i <= lines; i++)); do report "$i" || failed=1; done
  return $failed
}

mkdir -p "$work"
case ${1:-} in
  one) one "$2" ;;
  table)
    printf '| compiler | target | outcome | kernels |\n|---|---|---|---|\n'
    cat "$work/table"
    ;;
  *)
    matrix >"$work/plan"
    install_from_pip "zig-$newest" "ziglang==$newest"
    install_from_pip wasmtime wasmtime==50.0.1
    if [ "${1:-}" = all ]; then
      older_matrix >>"$work/plan"
      for version in $older; do install_from_pip "zig-$version" "ziglang==$version"; done
    fi
    # Wine makes its folder when it first runs, which two at a time do not do well.
    have wine && /usr/lib/wine/wine64 cmd /c exit >/dev/null 2>&1
    everything
    ;;
esac
