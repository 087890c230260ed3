#!/usr/bin/env python3
"""Does a model that convnet.h trained and saved mean the same to PyTorch? python3 from_here.py NETWORK FOLDER

FOLDER is what reference.py and then `compare NETWORK FOLDER save` left behind.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from reference import create  # noqa: E402
from safetensors_file import read_safetensors  # noqa: E402


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    model = create(name, False)
    model.load_state_dict(read_safetensors(folder / "trained.safetensors"))  # strict: every name and shape
    before = read_safetensors(folder / "training.safetensors")
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    inputs = read_safetensors(folder / "expected.safetensors")["training.inputs"].permute(0, 3, 1, 2)
    theirs = model.eval()(inputs).softmax(1)
    ours = read_safetensors(folder / "probabilities.safetensors")["probabilities"]
    error = (theirs - ours).abs().max().item()
    print(f"{name} trained here, read by PyTorch: probabilities differ by at most {error:.1e}")
    return 0 if error <= 1e-5 and len(changed) == len(list(model.parameters())) else 1


if __name__ == "__main__":
    sys.exit(main())
