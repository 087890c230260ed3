#!/usr/bin/env bash
# Every number that a tool reads or writes has a point, whatever the locale: each tool runs in the C locale
# and, by a preloaded library that takes de_DE from the environment before main, with a decimal comma.
# All that they write and print must be the same bytes.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bin=$PWD/${BIN:-bin}

skip_all() { # WHY
  echo "skip tools write the same with a decimal comma: $1"
  exit 0
}

cat >"$folder/preload.c" <<'C'
#include <locale.h>
__attribute__((constructor)) static void take_locale(void) { setlocale(LC_ALL, ""); }
C
cat >"$folder/probe.c" <<'C'
#include <stdio.h>
int main(void) { return printf("%.1f\n", 0.5) != 4; }
C
localedef -i de_DE -f UTF-8 "$folder/de_DE.UTF-8" >/dev/null 2>&1
[ -d "$folder/de_DE.UTF-8" ] ||
  skip_all "no locale de_DE: install localedef and its sources (Debian: locales)"
if ! "${CC:-cc}" -shared -fPIC "$folder/preload.c" -o "$folder/preload.so" ||
  ! "${CC:-cc}" "$folder/probe.c" -o "$folder/probe"; then
  echo "not ok the library to preload compiles"
  exit 1
fi

with_comma() { # COMMAND...
  LOCPATH=$folder LC_ALL=de_DE.UTF-8 LD_PRELOAD=$folder/preload.so "$@"
}
[ "$(with_comma "$folder/probe")" = 0,5 ] || skip_all "no library can be preloaded here"

# What each run works on.
printf 'input 12x12x1\nconv 3 3x3\nbatchnorm eps=0.001 momentum=0.25\nrelu\ndropout 0.125\ndense CLASSES\nsoftmax\n' \
  >"$folder/tiny.net"
mkdir "$folder/inputs"
if ! "$bin/tally-synth" --template c1-2019 --count 3 --seed 7 --scale 0.6 --quiet --out "$folder/inputs/forms" \
  >/dev/null; then
  echo "not ok tally-synth draws forms"
  exit 1
fi

# run NAME TOOL ARGUMENT...: what it prints goes to NAME.out and NAME.err, without times.
run() {
  local name=$1 tool=$bin/tally-$2
  shift 2
  $with "$tool" "$@" >"$name.out" 2>"$name.err"
  echo "exit code $?" >>"$name.err"
  sed -i -E 's/"([a-z_]*seconds?)": [0-9.e+-]+/"\1"/g
    s/[0-9.]+ (images|pictures|forms|tallies)\/s/\1/g; s/[0-9.]+ s\b/s/g' "$name.out" "$name.err"
}

run_all() { # in the current folder
  cp -R "$folder/inputs" "$folder/tiny.net" .
  run synth synth --template c1-2019 --count 2 --seed 3 --scale 0.6 --out synth
  run extract extract --template c1-2019 --labels inputs/forms/cells.csv --split 0.5,0.25,0.25 \
    --out cells inputs/forms
  sed -i "s/CLASSES/$(tail -n +2 cells/labelled.csv | cut -d, -f2 | sort -u | wc -l)/" tiny.net
  run train train --data cells/labelled.csv --val 0.2 --arch tiny.net --epochs 2 --batch 16 --lr 0.0125 \
    --rotate 7.5 --zoom 0.1 --elastic 0.5 --hue 0.25 --normalize 0.5/0.25 --warmup 0.5 --clip 1.5 \
    --log train.csv --out trained
  run resume train --data cells/labelled.csv --val 0.2 --arch tiny.net --epochs 2 --batch 16 --lr 0.0125 \
    --rotate 7.5 --zoom 0.1 --elastic 0.5 --hue 0.25 --normalize 0.5/0.25 --warmup 0.5 --clip 1.5 \
    --log train.csv --out trained --resume
  run evaluate evaluate --model trained --data cells/labelled.csv --out evaluated
  run predict predict --model trained --out predicted.csv cells/cells
  run dedup dedup --out duplicates.csv synth inputs/forms
  run read read --template c1-2019 --out read inputs/forms synth
}

mkdir "$folder/point" "$folder/comma"
with='' && (cd "$folder/point" && run_all)
with=with_comma && (cd "$folder/comma" && run_all)

for name in synth extract train resume evaluate predict dedup read; do
  if ! grep -qx 'exit code 0' "$folder/point/$name.err"; then
    echo "not ok tally-$name runs in the C locale"
    cat "$folder/point/$name.err" >&2
    continue
  fi
  if cmp "$folder/point/$name.out" "$folder/comma/$name.out" >&2 &&
    cmp "$folder/point/$name.err" "$folder/comma/$name.err" >&2; then
    echo "ok tally-$name prints the same with a decimal comma"
  else
    echo "not ok tally-$name prints the same with a decimal comma"
    diff "$folder/point/$name.out" "$folder/comma/$name.out" | cut -c 1-300 >&2
    diff "$folder/point/$name.err" "$folder/comma/$name.err" | cut -c 1-300 >&2
  fi
done
if diff -rq -x .work "$folder/point" "$folder/comma" >&2; then
  echo "ok tools write the same with a decimal comma"
else
  echo "not ok tools write the same with a decimal comma"
fi
