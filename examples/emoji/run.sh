#!/usr/bin/env bash
# Fine-tuning with few pictures, on emoji: a network learns Unicode's sub-groups (face-smiling, animal-bird,
# ...) from three vendors' drawings, and is then fine-tuned to eight classes (faces, animals, food, ...) in
# a fourth vendor's drawings, with 20, 50 and 100 pictures of each. Pretraining is done twice: with and
# without the three vendors' drawings of the signs that the test asks for. Beside it the same network learns
# from the few pictures alone. Ends in a table and curves.svg.
#
# Usage: examples/emoji/run.sh [FOLDER]      (default build/emoji; run it again to go on where it stopped)
#
# Needs npm, which brings the pictures (four packages, 300 MB), and node.
set -eu
cd "$(dirname "$0")/../.."
work=${1:-build/emoji}
mkdir -p "$work/pictures" "$work/lists" "$work/models"
make --no-print-directory bin/tally-train bin/tally-dedup >&2

say() { echo "== $*" >&2; }

for vendor in apple google twitter facebook; do
  [ -d "$work/pictures/$vendor/package" ] && continue
  say "fetching $vendor's pictures"
  (cd "$work/pictures" && npm pack --silent "emoji-datasource-$vendor@16.0.0" >/dev/null)
  mkdir -p "$work/pictures/$vendor.part"
  tar -xf "$work/pictures/emoji-datasource-$vendor-16.0.0.tgz" -C "$work/pictures/$vendor.part"
  mv "$work/pictures/$vendor.part" "$work/pictures/$vendor"
done

say "splitting by sign"
node examples/emoji/split.js signs "$work/pictures" "$work/lists"
bin/tally-dedup --small 0 --out "$work/lists/duplicates.csv" --quiet "$work/lists/signs.csv" >/dev/null
node examples/emoji/split.js lists "$work/pictures" "$work/lists" >&2

net() { sed "s/dense 10/dense $1/" examples/networks/small-resnet.net; }

# The same changes to every training picture, in every run.
changes="--random-crop 0.5 --flip --brightness 0.3 --contrast 0.3 --saturation 0.3 --hue 0.05"

for signs in new known; do
  say "pretraining, the test's signs are $signs"
  net "$(cat "$work/lists/$signs.groups")" >"$work/models/$signs.net"
  bin/tally-train --data "$work/lists/$signs.csv" --arch "$work/models/$signs.net" $changes \
    --normalize data --optimizer adamw --batch 64 --lr 0.003 --warmup 1 --epochs 60 --resume --quiet \
    --out "$work/models/$signs.safetensors" --log "$work/models/$signs.csv" >/dev/null
done

# The test pictures are looked at after each epoch for the curves only: the table has the last epoch's
# figures, whatever those before were. Each run takes 400 steps of 32 pictures.
learn() { # name, pictures of each class, seed, options
  local name=$1 size=$2 seed=$3
  shift 3
  say "$name, $size pictures of each class, seed $seed"
  bin/tally-train --data "$work/lists/$size-$seed.csv" --val "$work/lists/test.csv" $changes \
    --optimizer adamw --batch 32 --epochs $((1600 / size)) --seed "$seed" --resume --quiet \
    --out "$work/models/$name-$size-$seed.safetensors" --log "$work/models/$name-$size-$seed.csv" "$@" \
    >/dev/null
}
net 8 >"$work/models/classes.net"
for size in 20 50 100; do
  for seed in 1 2 3; do
    learn scratch $size $seed --arch "$work/models/classes.net" --normalize data --lr 0.003 --warmup 1
    for signs in new known; do
      learn frozen-$signs $size $seed --init "$work/models/$signs.safetensors" --freeze -1 --lr 0.01
      learn tuned-$signs $size $seed --init "$work/models/$signs.safetensors" --lr 0.0005 --head-lr 0.005
    done
  done
done
node examples/emoji/figure.js "$work/models" "$work/curves.svg"
say "the curves are in $work/curves.svg"
