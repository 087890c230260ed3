#!/usr/bin/env bash
# Files that we write load in Python: test_golden saves them, golden/check_python.py reads them.
# Where Python lacks the packages safetensors and numpy, pip gets them into build/python.
set -u
cd "$(dirname "$0")/.." || exit 1
if ! command -v python3 >/dev/null; then
  echo "skip optional check of our files with python3: not installed"
  exit 0
fi

can_read() { "$1" -c 'import numpy, safetensors' 2>/dev/null; }

python=python3
if ! can_read "$python"; then
  python=build/python/bin/python
  if ! can_read "$python"; then
    # A folder that an interrupted run left half made is made again.
    python3 -m venv --clear build/python >&2 &&
      "$python" -m pip install --quiet --retries 1 --timeout 20 safetensors numpy >&2
  fi
  [ -x "$python" ] || python=python3
fi

rm -rf build/golden
build/tests/test_golden >/dev/null 2>&1
exec "$python" tests/golden/check_python.py build/golden
