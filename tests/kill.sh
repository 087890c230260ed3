#!/usr/bin/env bash
# tests/kill.sh kills each tool that writes, or lets the disk be full, at 100 points spread over its run:
# what was there before is whole or the new output is, nothing else has changed, and a second run
# completes to the same bytes as one that nothing disturbed.
#
# In turn a point is a SIGKILL after a share of the run's time, a SIGKILL in the middle of the n-th call
# that changes a file, a failure of that call (ENOSPC), and SIGTERM or SIGINT there; fault.c makes the
# last three. make test takes every fifth point, KILL_POINTS=100 all of them; KILL_TOOLS names some of the
# tools.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=${BIN:-bin} points=${KILL_POINTS:-20} failed=0
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
c1=$PWD/examples/templates/c1-2019.form
work=$(mktemp -d "${TMPDIR:-/tmp}/tally-kill-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
if ! ${CC:-cc} -O1 -shared -fPIC tests/fault.c -o "$work/fault.so" 2>"$work/why"; then
  echo "skip kill: fault.c cannot be built here: $(head -n 1 "$work/why")"
  exit 0
fi
cd "$work" || exit 1

# ---- the runs ------------------------------------------------------------------------------------

# What each tool writes into the folder `at` before, and the run that is disturbed and repeated there.
declare -A before after
before[predict]="--model in/1.safetensors --out at/labels.csv in/photos"
after[predict]="--model in/2.safetensors --out at/labels.csv in/photos"
before[dedup]="--small 0 --out at/d.csv in/new"
after[dedup]="--small 9999 --out at/d.csv in/photos in/new"
before[evaluate]="--model in/1.safetensors --data in/cells/labelled.csv --out at"
after[evaluate]="--model in/2.safetensors --data in/cells/labelled.csv --out at"
before[extract]="--template $c1 --labels in/old/cells.csv --split 1,1,1 --check --out at in/old"
after[extract]="--template $c1 --labels in/new/cells.csv --split 1,1,1 --check --raw --out at in/new"
before[read]="--template $c1 --out at in/old"
after[read]="--template $c1 --out at in/new"
before[synth]="--template $c1 --clean --scale 0.1 --count 3 --seed 3 --out at"
after[synth]="--template $c1 --clean --scale 0.1 --count 2 --seed 4 --out at"
train="--data in/cells/labelled.csv --val in/cells/labelled.csv --arch logistic --batch 16 --resume
  --schedule constant --out at/m --log at/log.csv"
before[train]="$train --epochs 2"
after[train]="$train --epochs 5"
steps_of_train="3 4" # epochs at which the run itself replaces what it has written

run() { # TOOL ARGUMENT...: quietly, on one thread
  local tool=$1
  shift
  "$bin/tally-$tool" "$@" --threads 1 --quiet >out 2>err
}

# shellcheck disable=SC2086  # words are wanted, here and below
make_inputs() {
  mkdir in
  run synth --template "$c1" --clean --scale 0.6 --count 4 --seed 1 --out in/old &&
    run synth --template "$c1" --clean --scale 0.6 --count 3 --seed 2 --out in/new &&
    run extract --template "$c1" --labels in/old/cells.csv --out in/cells in/old || return
  for seed in 1 2; do
    run train --data in/cells/labelled.csv --arch logistic --epochs 1 --batch 8 --seed $seed \
      --out in/$seed.safetensors || return
  done
  mkdir in/photos
  for i in 1 2 3 4 5 6 7 8; do
    cp in/old/tally-0001.jpg in/photos/a-photo-with-a-long-name-$i.jpg
    cp in/cells/cells/tally-0002.jpg/01-$((i % 3)).png in/photos/cell-$i.png
  done
}

# The folder before; after; and, as whole-N, what else a file may be like in between.
make_versions() { # TOOL
  rm -rf at before after whole-*
  mkdir at
  echo bystander >at/bystander
  run $1 ${before[$1]} || return
  cp -a at before
  if [ $1 = train ]; then
    for epochs in $steps_of_train; do
      run train $train --epochs $epochs || return
      cp -a at whole-$epochs
    done
    rm -r at
    cp -a before at
  fi
  local start=${EPOCHREALTIME/./}
  run $1 ${after[$1]} || return
  time=$((${EPOCHREALTIME/./} - start))
  mv at after
  cp -a before at
  LD_PRELOAD=$work/fault.so FAULT=count:0 FAULT_COUNT=$work/steps run $1 ${after[$1]} &&
    diff -r at after && steps=$(cat steps)
}

# ---- what must hold ------------------------------------------------------------------------------

# Every file of the folder is whole: as it was or as it is to be. Only the journal of tally-read, which
# grows, and unfinished files of what was killed are something else.
is_whole() { # the folder at
  local file version
  while read -r file; do
    for version in before after whole-*; do
      cmp -s "at/$file" "$version/$file" && continue 2
    done
    echo "$file is neither the old one nor the new one"
    return 1
  done < <(cd at && find . -type f ! -name '*.part' ! -name '*.lock' ! -path './.work/*')
  (cd before && find . -type f) | while read -r file; do
    [ -e "at/$file" ] || { echo "$file is gone"; return 1; }
  done
}

is_tidy() {
  ! find at -name '*.part' -o -name '*.lock' | grep .
}

# Disturbs a run at a point of 100. Returns 1 with what is wrong.
disturb() { # TOOL POINT
  local n=$(($2 * steps / 100 + 1)) kind code
  case $(($2 % 4)) in 0) kind=time ;; 1) kind=kill ;; 2) kind=fail ;; 3) kind=term ;; esac
  [ $(($2 % 8)) = 7 ] && kind=int
  rm -rf at
  cp -a before at
  if [ $kind = time ]; then
    local delay
    delay=$(printf '%d.%06d' $((time * $2 / 100 / 1000000)) $((time * $2 / 100 % 1000000)))
    timeout -s KILL "$delay" "$bin/tally-$1" ${after[$1]} --threads 1 --quiet >out 2>err
  else
    LD_PRELOAD=$work/fault.so FAULT=$kind:$n run $1 ${after[$1]}
  fi 2>/dev/null
  code=$?
  where="$kind at $2 of 100, step $n of $steps, exit code $code"
  is_whole || return
  case $kind:$code in
    time:137 | kill:137) killed=$((killed + 1)) ;;
    fail:1) grep -q "^tally-$1: " err || { echo "no word of why: $(cat err)"; return 1; } ;;
    term:143 | int:130) ;;
    time:0 | fail:0) diff -r at after || return ;;
    *) echo "exit code $code: $(cat err)"; return 1 ;;
  esac
  [ $code = 137 ] || is_tidy || return
  run $1 ${after[$1]} || { echo "second run: $(cat err)"; return 1; }
  diff -r at after
}

try_tool() { # TOOL
  local point where='' killed=0 done=0
  if ! make_versions $1 >what 2>&1; then
    echo "not ok kill $1: undisturbed: $(cat what err)"
    failed=1
    return
  fi
  for ((point = 0; point < 100; point += 100 / points)); do
    if ! disturb $1 $point >what; then
      echo "not ok kill $1: $where: $(head -n 3 what)"
      failed=1
      return
    fi
    done=$((done + 1))
  done
  if ! md5sum --quiet -c inputs; then
    echo "not ok kill $1: an input has changed"
    failed=1
    return
  fi
  echo "ok kill $1: $done points, $killed killed, of a run of $steps steps in $((time / 1000)) ms"
}

if ! make_inputs; then
  echo "not ok kill: $(cat err)"
  exit 1
fi
find in -type f -exec md5sum {} + >inputs
for tool in ${KILL_TOOLS:-dedup predict evaluate extract read synth train}; do try_tool "$tool"; done
exit $failed
