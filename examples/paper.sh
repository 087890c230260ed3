#!/usr/bin/env bash
# Replays the experiment of Torres & Cantu, "Learning to See" (Political Analysis 2022), on synthetic
# tallies of Mexico's 2015 form: networks trained on MNIST, their collapse on cells cut from tallies,
# transfer learning with the first convolution frozen, and a district of 400 tallies read with it.
# Ends in a table of the paper's figures beside ours. About five minutes on two cores.
#
# Usage: examples/paper.sh [FOLDER]      (make paper; needs data/, see make data)
#
# The digits of training tallies come from MNIST's training images, those of test tallies and of the
# district from its test images. Splits are by tally: tally-extract reads them back and proves it.
set -eu
cd "$(dirname "$0")/.."
work=${1:-build/paper}
template=mexico-2015
mkdir -p "$work"

say() { echo "== $*" >&2; }
accuracy() { tail -n 1 | sed 's/.*"accuracy": \([0-9.]*\).*/\1/'; }
evaluate() { bin/tally-evaluate --model "$work/$1.safetensors" --data "$2" --quiet | accuracy; }
digits_only() { awk -F, 'NR == 1 || $2 ~ /^[0-9]$/' "$1"; } # the paper's cells all hold a digit

draw() { # name, digits, seed, tallies, options
  local name=$1 digits=$2 seed=$3 count=$4
  shift 4
  say "drawing $count tallies: $name"
  rm -rf "${work:?}/$name"
  bin/tally-synth --template examples/templates/$template.form --digits "$digits" --seed "$seed" \
    --count "$count" --out "$work/$name" "$@" >/dev/null
}

cut_cells() { # name, options: cells into NAME/raw and NAME/clean, the digits into digits-*.csv beside
  local name=$1 kind list
  shift
  say "cutting cells: $name"
  bin/tally-extract --template "$work/$name/template.form" --labels "$work/$name/cells.csv" --raw "$@" \
    --out "$work/$name/raw" "$work/$name" >/dev/null
  bin/tally-extract --template "$work/$name/template.form" --labels "$work/$name/cells.csv" "$@" \
    --out "$work/$name/clean" "$work/$name" >/dev/null
  for kind in raw clean; do
    for list in labelled train val; do
      [ -e "$work/$name/$kind/$list.csv" ] || continue
      digits_only "$work/$name/$kind/$list.csv" >"$work/$name/$kind/digits-$list.csv"
    done
  done
}

transfer() { # from, kind of cells, to: the paper's augmentation, the first convolution kept
  bin/tally-train --data "$work/train/$2/digits-train.csv" --val "$work/train/$2/digits-val.csv" \
    --init "$work/$1.safetensors" --freeze 1 --rotate 15 --zoom 0.2 --epochs 15 --seed 1 \
    --out "$work/$3.safetensors"
}

for network in base:15 revised:20; do
  say "training ${network%:*} on MNIST"
  bin/tally-train --data data:train --arch "${network%:*}" --epochs "${network#*:}" --seed 1 \
    --out "$work/${network%:*}.safetensors"
done
draw train data:train 1 550 # 48 cells each: about the paper's 24,271 digits after the split
draw test data:test 2 60    # about its 2,616
cut_cells train --split 92,8,0
cut_cells test
for network in base revised; do
  for kind in raw clean; do transfer $network $kind $network-$kind; done
done
say "training the reader of the district: cells of every kind, cleaned"
bin/tally-train --data "$work/train/clean/train.csv" --val "$work/train/clean/val.csv" \
  --init "$work/revised.safetensors" --freeze 1 --rotate 15 --zoom 0.2 --epochs 15 --seed 1 \
  --out "$work/reader.safetensors"
draw district data:test 15 400
say "reading the district"
bin/tally-read --template "$work/district/template.form" --model "$work/reader.safetensors" \
  --official "$work/district/truth.csv" --out "$work/read" "$work/district" >"$work/read.txt"

mnist="data:test" raw="$work/test/raw/digits-labelled.csv" clean="$work/test/clean/digits-labelled.csv"
{
  printf '%-52s %8s %8s\n' "accuracy per digit" paper ours
  printf '%-52s %8s %8s\n' "base, MNIST" .992 "$(evaluate base $mnist)"
  printf '%-52s %8s %8s\n' "revised, MNIST" - "$(evaluate revised $mnist)"
  printf '%-52s %8s %8s\n' "base, tallies, cells as printed" .335 "$(evaluate base "$raw")"
  printf '%-52s %8s %8s\n' "revised, tallies, cells as printed" .4004 "$(evaluate revised "$raw")"
  printf '%-52s %8s %8s\n' "base after transfer, cells as printed" - "$(evaluate base-raw "$raw")"
  printf '%-52s %8s %8s\n' "revised after transfer, cells as printed" .961 "$(evaluate revised-raw "$raw")"
  printf '%-52s %8s %8s\n' "base, cleaned cells, no transfer" - "$(evaluate base "$clean")"
  printf '%-52s %8s %8s\n' "revised, cleaned cells, no transfer" - "$(evaluate revised "$clean")"
  printf '%-52s %8s %8s\n' "base after transfer, cleaned cells" - "$(evaluate base-clean "$clean")"
  printf '%-52s %8s %8s\n' "revised after transfer, cleaned cells" - "$(evaluate revised-clean "$clean")"
  echo
  echo "district of 400 tallies:"
  cat "$work/read.txt"
} | tee "$work/table.txt"
