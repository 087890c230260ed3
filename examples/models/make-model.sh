#!/usr/bin/env bash
# Makes tally.safetensors, the model that tally-read uses unless told otherwise. It learns from MNIST's
# training images and from the cells of synthetic tallies of both templates, half written with the same
# images, half with the built-in pen; from each cell as the reader cleans it and as it is printed. The
# same machine gives the same bytes again.
#
# The temperature that its probabilities want is fitted on tallies by others: hands of the pen that it has
# not seen, and MNIST's test images, whose writers wrote none of the training images.
#
# Usage: examples/models/make-model.sh [TALLIES]     per template and source of digits (default 350)
set -eu
cd "$(dirname "$0")/../.."
tallies=${1:-350}
work=build/model
mkdir -p "$work"

# Draws COUNT tallies of both templates with digits from SOURCES and cuts them; their cells join TABLE.
draw() { # TABLE SEED COUNT SOURCE...
  local table=$1 seed=$2 count=$3 template digits name how
  shift 3
  mkdir -p "$work/$table"
  for template in mexico-2015 c1-2019; do
    for digits in "$@"; do
      name=$table/$template-${digits%%:*}
      seed=$((seed + 1))
      echo "drawing and cutting $count tallies: $template, digits from $digits" >&2
      rm -rf "${work:?}/$name"
      bin/tally-synth --template "$template" --digits "$digits" --seed $seed --count "$count" \
        --scale 0.35..1.15 --ground 0.25 --struck 0.04 --several 0.04 --overwritten 0.04 --faint 0.04 \
        --out "$work/$name" >/dev/null
      for how in clean raw; do
        as_printed=
        [ $how = raw ] && as_printed=--raw
        bin/tally-extract --template "$template" $as_printed --labels "$work/$name/cells.csv" \
          --out "$work/$name/$how" "$work/$name"/*.jpg >/dev/null
        tail -n +2 "$work/$name/$how/labelled.csv" | sed "s,^,$name/$how/," >>"$work/$table.csv"
      done
      rm -f "$work/$name"/*.jpg
    done
  done
}

examples/models/sources.py mnist-train data "$work"
cp "$work/mnist-train.csv" "$work/learn.csv"
draw learn 100 "$tallies" data:train strokes
echo "path,label,tally" >"$work/others.csv"
draw others 200 $((tallies / 7 + 1)) data:test strokes

# Warped beyond what the drawn tallies hold: real handwriting varies more than they do.
bin/tally-train --data "$work/learn.csv" --arch examples/networks/cells.net --epochs 12 --seed 1 \
  --rotate 12 --zoom 0.2 --shift 1 --elastic 1 --out "$work/tally.safetensors"
bin/tally-evaluate --model "$work/tally.safetensors" --data "$work/others.csv" \
  --out "$work/others" --fit-temperature examples/models/tally.safetensors
