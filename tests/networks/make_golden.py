#!/usr/bin/env python3
"""Makes tests/golden/networks.safetensors, which tests/test_architectures.c holds one network of each family
against without Python: build/networks-python/bin/python tests/networks/make_golden.py (run.sh sets it up).

Weights and inputs are no data but a formula of name and place, the same on both sides (see values_of). PyTorch
computes in double precision. For each NETWORK (+aux: with auxiliary heads) the file holds
  NETWORK/inputs               their shape only: [images, size]
  NETWORK/BIAS.value           the biases, which are moved away from the formula, see CornerFinder
  NETWORK/logits               in inference mode
  NETWORK/loss                 in training mode, dropout off
  NETWORK/PARAMETER            its gradient in training mode: Euclidean norm, and product with values_of(probe)
The dense layers of AlexNet and VGG have 64 outputs here in the place of 4096.
"""

import pathlib
import sys
import warnings

import numpy as np
import torch
import torch.nn as nn

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from reference import CLASSES, CornerFinder, create, loss_of  # noqa: E402
from safetensors_file import write_safetensors  # noqa: E402

IMAGES = 4
LABELS = [3, 8, 0, 5]
# Rows and columns of the input, and how far batch norm lifts the inputs of ReLUs: around 0 rounding grows from
# layer to layer where there is no shortcut, in Inception v3 until it decides which ReLUs pass a gradient.
NETWORKS = {
    "alexnet": (79, 0),
    "vgg11": (32, 0),
    "vgg11_bn": (64, 0),
    "resnet18": (64, 0),
    "resnext50_32x4d": (64, 0),
    "squeezenet1_0": (64, 0),
    "squeezenet1_1": (64, 0),
    "densenet121": (64, 0),
    "googlenet+aux": (64, 0),
    "inception_v3": (139, 1),
    "inception_resnet_v2": (107, 0),
    "xception": (64, 0),
}


def uniform_of(name, count):
    """[0, 1): splitmix64 of the name's FNV-1a hash and the place, as convnet.h's random numbers are."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return torch.from_numpy((z >> np.uint64(40)).astype(np.float64) / 2**24)


def values_of(name, shape):
    """Weights have the variance that keeps a signal's size behind ReLU; scales and variances lie in 0.5 to 1.5."""
    count = int(np.prod(shape))
    signed = 2 * uniform_of(name, count) - 1
    if len(shape) > 1:
        values = signed * (6 / (count // shape[0])) ** 0.5
    elif name.endswith(("weight", "running_var")):
        values = 1 + 0.5 * signed
    else:
        values = 0.2 * signed
    return values.float().double().reshape(shape)


def narrow(name, model):
    """The wide dense layers are most of what AlexNet and VGG have to compute and the least interesting."""
    if name != "alexnet" and not name.startswith("vgg"):
        return
    for place, layer in enumerate(model.classifier):
        if isinstance(layer, nn.Linear):
            inputs = 64 if layer.in_features == 4096 else layer.in_features
            model.classifier[place] = nn.Linear(inputs, 64 if layer.out_features == 4096 else CLASSES)


def golden(network, size, lift):
    name, _, auxiliary = network.partition("+")
    model = create(name, bool(auxiliary))
    narrow(name, model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            value.copy_(values_of(key, value.shape))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data += lift
    inputs = 2 * uniform_of("inputs", IMAGES * size * size * 3) - 1
    x = inputs.float().double().reshape(IMAGES, size, size, 3).permute(0, 3, 1, 2)
    margins = CornerFinder(model.train(), []).run(x)
    print(network, "%.0e deviations from a corner, %.0e in a pooling" % margins)
    results = {"inputs": torch.tensor([IMAGES, size]).double()}
    results |= {f"{key}.value": value.clone() for key, value in model.named_parameters() if key.endswith("bias")}
    with torch.no_grad():
        results["logits"] = model.eval()(x)
    loss = loss_of(name, model.train()(x), torch.tensor(LABELS))
    loss.backward()
    results["loss"] = loss.detach().reshape(1)
    for key, parameter in model.named_parameters():
        gradient = parameter.grad.flatten()
        probe = 2 * uniform_of(key + ".probe", len(gradient)) - 1
        results[key] = torch.stack([gradient.norm(), (gradient * probe).sum()])
    return {f"{network}/{key}": value for key, value in results.items()}


def main():
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    tensors = {}
    for network, (size, lift) in NETWORKS.items():
        tensors |= golden(network, size, lift)
    path = pathlib.Path(__file__).parent.parent / "golden" / "networks.safetensors"
    write_safetensors(path, tensors)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
