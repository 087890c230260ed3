#!/usr/bin/env python3
"""python3 check_python.py FOLDER: do the files that test_golden saved there load in Python?

They hold what the golden files of the same names hold under the same names, shapes and bits. Read twice:
with a reader of a few lines that follows the format's description, and with the package safetensors.
"""

import json
import pathlib
import struct
import sys

GOLDEN = pathlib.Path(__file__).parent


def read_plainly(path):
    """{name: (shape, bytes)} and the metadata, every offset checked."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = raw[8 + length :]
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        assert begin == end, f"{path.name}: hole or overlap before {name}"
        tensors[name] = (tuple(entry["shape"]), data[begin:stop])
        end = stop
    assert end == len(data), f"{path.name}: {len(data) - end} bytes too many"
    return tensors, metadata


def read_with_package(path):
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        return {name: (a.shape, a.tobytes()) for name, a in arrays.items()}, file.metadata()


def check(reader, saved_path):
    saved, metadata = reader(saved_path)
    golden, golden_metadata = reader(GOLDEN / saved_path.name)
    assert saved, "no tensors"
    for tensor, content in saved.items():
        assert golden[tensor] == content, f"{tensor} differs"
    missing = {t for t in golden if t.endswith((".weight", ".bias")) and not t.startswith("gradient.")}
    assert missing <= set(saved), f"missing: {missing - set(saved)}"
    assert metadata["network"].split("\n")[0] == golden_metadata["network"].split("\n")[0]


def main():
    readers = {"plainly": read_plainly}
    try:
        import numpy  # noqa: F401  safetensors hands out its arrays
        import safetensors  # noqa: F401

        readers["with the package safetensors"] = read_with_package
    except ImportError:
        print("skip python reads our files with the package safetensors: not installed, and pip could "
              "not get it; by hand: build/python/bin/pip install safetensors numpy")
    failed = 0
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors"))
    for how, reader in readers.items():
        for path in paths:
            try:
                check(reader, path)
                print(f"ok python reads {path.name} {how}")
            except Exception as problem:  # a crash of one file must not hide the others
                failed += 1
                print(f"not ok python reads {path.name} {how}")
                print(f"{path.name}: {problem!r}", file=sys.stderr)
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
