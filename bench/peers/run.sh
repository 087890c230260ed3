#!/usr/bin/env bash
# Sets up a Python environment with the systems that we are compared with, builds our side, runs the
# comparison. Arguments go to peers.py, for example: bench/peers/run.sh --threads 1 --rounds 31
set -eu
cd "$(dirname "$0")/../.."
venv=build/peers/venv
mkdir -p build/peers
if [ ! -f "$venv/ready" ]; then
  python3 -m venv "$venv"
  # this very release of torch is a CPU build; a newer one would bring gigabytes of CUDA
  "$venv/bin/pip" install --quiet torch==2.13.0 numpy pillow safetensors onnx onnxruntime
  touch "$venv/ready"
fi
make --no-print-directory build/peers/ours
exec "$venv/bin/python" bench/peers/peers.py build/peers/ours "$@"
