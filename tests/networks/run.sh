#!/usr/bin/env bash
# tests/networks/run.sh COMPARE [NETWORK...]: every network of the literature against PyTorch.
#
# Sets up what it needs in build/networks-python: torch and torchvision from Debian (python3-torchvision),
# timm from PyPI. The table it prints stays in build/networks/table.md. One line a check, in the form
# "ok NAME", "not ok NAME" or "skip NAME: why".
set -u
cd "$(dirname "$0")/../.." || exit 1
compare=$1
shift
folder=build/networks python=build/networks-python/bin/python

# Network and size of its input: small ones, so that it is quick, but large enough for batch norm to
# have values to take means of; and the network's own for some.
networks="
resnet18 64      resnet34 64    resnet50 64     resnet101 64    resnet152 64    resnext50_32x4d 64
squeezenet1_0 64 squeezenet1_1 64 densenet121 64 densenet161 64 densenet169 64  densenet201 64
googlenet 64     googlenet+aux 64 inception_v3 139 inception_resnet_v2 139      xception 64
alexnet 96       vgg11 64       vgg11_bn 64     vgg13 64        vgg13_bn 64     vgg16 64
vgg16_bn 64      vgg19 64       vgg19_bn 64
resnet18 224     squeezenet1_1 224 googlenet+aux 224 inception_v3+aux 299"

set_up() {
  [ -x "$python" ] || /usr/bin/python3 -m venv --system-site-packages build/networks-python || return
  "$python" -c 'import timm' 2>/dev/null || "$python" -m pip install -q --no-deps timm==0.6.13
}
PACKAGES="python3-torchvision python3-venv" .ci/deps
set_up >&2
has() { "$python" -c "import $1" 2>/dev/null; }

# check NAME COMMAND...: one line; what the command prints goes to the table or, if it fails, to stderr.
failed=0
check() {
  local name=$1
  shift
  if "$@"; then
    echo "ok $name"
  else
    echo "not ok $name"
    failed=1
  fi
}

compare_network() { # NAME SIZE
  nice "$python" tests/networks/reference.py "$1" "$folder/$1" "$2" || return 1
  nice "$compare" "$1" "$folder/$1" ${3:+"$3"} >>"$folder/table.md"
}

both_ways() {
  compare_network resnet18 64 save && "$python" tests/networks/from_here.py resnet18 "$folder/resnet18"
}

mkdir -p "$folder"
printf '%s\n' "| network | input | mode | gradients | logits | direct | exact | gradient | direct | exact |" \
  "|---|---|---|---|---|---|---|---|---|---|" >"$folder/table.md"
read -ra pairs <<<"${*:-${networks//$'\n'/ }}"
for ((i = 0; i < ${#pairs[@]}; i += 2)); do
  name=${pairs[i]} size=${pairs[i + 1]}
  needs=torchvision
  case $name in xception | inception_resnet_v2) needs=timm ;; esac
  if has "$needs"; then
    check "$name at ${size}x$size equals PyTorch" compare_network "$name" "$size"
  else
    echo "skip $name at ${size}x$size equals PyTorch: needs the optional Python package $needs"
  fi
  rm -rf "${folder:?}/$name"
done
if [ $# -eq 0 ] && has torchvision; then
  cp "$folder/table.md" "$folder/kept.md"
  check "resnet18 goes to Python and back" both_ways
  mv "$folder/kept.md" "$folder/table.md"
  rm -rf "$folder/resnet18"
fi
cat "$folder/table.md"
exit $failed
