#!/usr/bin/env bash
# tests/memory.sh runs each tool with less and less memory (ulimit -v): it ends with what it always
# writes or with an error that says why, never by a signal, and never with half of its output; a picture
# that could not be decoded for want of memory is named, and to tally-dedup an error.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=${BIN:-bin} failed=0
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
c1=$PWD/examples/templates/c1-2019.form
work=$(mktemp -d "${TMPDIR:-/tmp}/tally-memory-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

declare -A arguments
arguments[audit]="sample --counts in/scans/truth.csv --template $c1 --for wrong --seed 1 --out at in/scans"
arguments[synth]="--template $c1 --clean --scale 0.5 --count 3 --seed 3 --out at"
arguments[extract]="--template $c1 --labels in/scans/cells.csv --split 1,1,1 --out at in/scans"
arguments[train]="--data in/cells/labelled.csv --val in/cells/labelled.csv --arch logistic --epochs 2
  --batch 16 --out at/m"
arguments[evaluate]="--model in/model --data in/cells/labelled.csv --out at"
arguments[predict]="--model in/model --out at/labels.csv in/cells/cells"
arguments[dedup]="--small 0 --out at/d.csv in/scans"
arguments[read]="--template $c1 --out at in/scans"

run() { # TOOL ARGUMENT...
  local tool=$1
  shift
  "$bin/tally-$tool" "$@" --threads 2 --quiet >out 2>err
}

make_inputs() {
  mkdir in
  run synth --template "$c1" --clean --scale 0.5 --count 3 --seed 1 --out in/scans &&
    run extract --template "$c1" --labels in/scans/cells.csv --out in/cells in/scans &&
    run train --data in/cells/labelled.csv --arch base --epochs 1 --out in/model
}

# Runs a tool with so many kilobytes of addresses. Returns 0 if it did its work, 1 if it was refused
# memory and said so, 2 with what is wrong.
# shellcheck disable=SC2086  # words are wanted
limited() { # TOOL KILOBYTES
  rm -rf at
  mkdir at
  (ulimit -v $2 && run $1 ${arguments[$1]}) 2>/dev/null
  local code=$?
  case $code in
    0) # the journal has the order in which threads ended
      diff -r -x .work at whole && return 0
      # what was not looked at may be a copy: tally-dedup has no findings then
      [ "$1" != dedup ] && grep -rqi 'out of memory' at || return 2
      ;;
    1)
      grep -qiE "^tally-$1: .*(memory|thread)" err || { echo "no word of memory: $(cat err)"; return 2; }
      [ -z "$(find at -name '*.part' -o -name '*.lock')" ] || { echo "unfinished files stay"; return 2; }
      return 1
      ;;
    *) echo "exit code $code: $(cat err)"; return 2 ;;
  esac
}

# The least memory in which the program itself can be loaded.
least_to_load() { # TOOL
  local kilobytes=2048
  until (ulimit -v $kilobytes && "$bin/tally-$1" --help) >out 2>/dev/null; do
    kilobytes=$((kilobytes + 512))
    [ $kilobytes -lt 65536 ] || break
  done
  echo $kilobytes
}

# From what loads the program to what it needs, in steps of a twentieth.
try_tool() { # TOOL
  local kilobytes refused=0
  rm -rf at whole
  mkdir at
  # shellcheck disable=SC2086
  if ! run $1 ${arguments[$1]}; then
    echo "not ok memory $1: unlimited: $(cat err)"
    failed=1
    return
  fi
  mv at whole
  for ((kilobytes = $(least_to_load $1) + 128; kilobytes < 16000000; kilobytes += kilobytes / 20)); do
    limited $1 $kilobytes >what
    case $? in
      0) break ;;
      1) refused=$((refused + 1)) ;;
      2)
        echo "not ok memory $1: with $kilobytes kB: $(head -n 3 what)"
        failed=1
        return
        ;;
    esac
  done
  echo "ok memory $1: refused $refused times below $kilobytes kB"
}

if ! make_inputs; then
  echo "not ok memory: $(cat err)"
  exit 1
fi
for tool in ${MEMORY_TOOLS:-audit dedup predict evaluate extract read synth train}; do try_tool "$tool"; done
exit $failed
