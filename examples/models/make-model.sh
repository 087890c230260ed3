#!/usr/bin/env bash
# Makes tally.safetensors, the model that tally-read uses unless told otherwise. Learns digits from
# MNIST's training images, then cells from synthetic tallies of both templates, half written with the
# same training images, half with the built-in pen. The same machine gives the same bytes again.
#
# Usage: examples/models/make-model.sh [TALLIES]     per template and source of digits (default 700)
set -eu
cd "$(dirname "$0")/../.."
tallies=${1:-700}
work=build/model
mkdir -p "$work"

echo "path,label,tally" >"$work/cells.csv"
seed=100
for template in mexico-2015 c1-2019; do
  for digits in data:train strokes; do
    name=$template-${digits%%:*}
    seed=$((seed + 1))
    echo "drawing and cutting $tallies tallies: $template, digits from $digits" >&2
    rm -rf "${work:?}/$name"
    bin/tally-synth --template "examples/templates/$template.form" --digits "$digits" --seed $seed \
      --count "$tallies" --out "$work/$name" >/dev/null
    bin/tally-extract --template "$template" --labels "$work/$name/cells.csv" \
      --out "$work/$name/cut" "$work/$name" >/dev/null
    tail -n +2 "$work/$name/cut/labelled.csv" | sed "s,^,$name/cut/,; s,[^,]*\$,$name-&," >>"$work/cells.csv"
    rm -f "$work/$name"/*.jpg
  done
done

# Warped beyond what the drawn tallies hold: real handwriting varies more than they do.
bin/tally-train --data data:train --arch examples/networks/cells.net --epochs 8 --seed 1 \
  --rotate 15 --zoom 0.2 --shift 1.5 --elastic 1 --out "$work/digits.safetensors"
bin/tally-train --data "$work/cells.csv" --val 0.05 --init "$work/digits.safetensors" --epochs 14 \
  --lr 0.001 --seed 1 --rotate 12 --zoom 0.15 --shift 1 --elastic 1 --out "$work/tally.safetensors"
mv "$work/tally.safetensors" examples/models/tally.safetensors
