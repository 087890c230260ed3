#!/usr/bin/env bash
# Files that we write load in Python: test_golden saves them, golden/check_python.py reads them.
set -u
cd "$(dirname "$0")/.." || exit 1
if ! command -v python3 >/dev/null; then
  echo "skip optional check of our files with python3: not installed"
  exit 0
fi
rm -rf build/golden
build/tests/test_golden >/dev/null 2>&1
exec python3 tests/golden/check_python.py build/golden
