#!/usr/bin/env python3
"""What PyTorch computes with a network of the literature: python3 reference.py NETWORK FOLDER SIZE

Needs torch, torchvision and, for xception and inception_resnet_v2, timm (run.sh sets them up). Writes
state dicts as PyTorch has them, FOLDER/inference.safetensors and FOLDER/training.safetensors, and
FOLDER/expected.safetensors:
  labels                      [images]
  inference.inputs            [images][rows][columns][channels]
  inference.logits            batch norm with running figures
  inference.gradient.NAME     of the mean cross-entropy, by every parameter
  training.*                  the same with batch norm by the batch's own figures; auxiliary heads, if
                              NETWORK ends in +aux, count with their customary weights
Dropout is off in both. Weights are float32 and everything is computed from them in double precision, so
that what compare.c finds is the rounding of convnet.h alone.
"""

import pathlib
import sys
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from safetensors_file import write_safetensors  # noqa: E402

IMAGES = 4  # with two, batch norm deep in a ResNet takes nearly all of the gradient out
CLASSES = 10
ATTEMPTS = 10  # inputs to choose from
ENOUGH = 2e-5  # of a deviation between the candidates of a maximum pooling
AUXILIARY_WEIGHT = {"googlenet": 0.3, "inception_v3": 0.4}


def create(name, auxiliary):
    if name in ("xception", "inception_resnet_v2"):
        import timm

        return timm.create_model(name, num_classes=CLASSES)
    import torchvision.models

    options = {"num_classes": CLASSES}
    if name in AUXILIARY_WEIGHT:
        options |= {"aux_logits": auxiliary, "init_weights": False}
    return getattr(torchvision.models, name)(**options)


def prepare(model, x):
    """Trained-looking figures: batch norm's scale and shift scattered, its running figures near those
    of a batch but not equal to them, so that a mistake in any of them shows."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
        for norm in norms:
            deviation = norm.running_var.sqrt()
            norm.running_mean += 0.1 * deviation * torch.randn_like(deviation)
            norm.running_var *= torch.empty_like(deviation).uniform_(0.7, 1.4)
            norm.momentum = 0.1


def shift_from_corner(z):
    """Per channel the shift of at most a fifth of a deviation that keeps ReLU's inputs farthest from 0."""
    columns = z.transpose(0, 1).flatten(1).sort(1).values
    reach = 0.2 * columns.std()
    middles = (columns[:, 1:] + columns[:, :-1]) / 2
    margins = (columns[:, 1:] - columns[:, :-1]) / 2 * (middles.abs() < reach)
    best, place = margins.max(1)
    stay = columns.abs().min(1).values >= best
    return torch.where(stay, torch.zeros_like(best), -middles.gather(1, place[:, None])[:, 0])


def pool_margin(z, pooled, window):
    """Smallest distance between the two largest values of a window whose maximum is not a ReLU's 0."""
    size, stride, padding, _, ceil = window
    if padding:
        z = F.pad(z, [padding] * 4, value=-1e9)
    if ceil:
        z = F.pad(z, [0, size, 0, size], value=-1e9)
    windows = z.unfold(2, size, stride).unfold(3, size, stride)[:, :, : pooled.shape[2], : pooled.shape[3]]
    first, second = windows.flatten(4).topk(2).values.unbind(-1)
    return torch.where(first == 0, torch.inf, first - second).min()


def heads_of(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES]


def settle_head(head, inputs, output):
    """Logits of about 1: were the softmax sure of itself, all images would have the same gradient or none,
    and batch norm would leave only rounding of it."""
    size, goal = output.square().mean().sqrt(), torch.randn(CLASSES)
    mean = output.mean(0) / size
    head.weight /= size
    head.bias.copy_(head.bias / size + goal - mean)
    return output / size + goal - mean


def leave_corners(model, x):
    """Moves biases a little, so that no input of a ReLU is so near its corner that rounding decides
    whether a gradient flows: comparing gradients would compare luck. Each ReLU's input moves with the
    bias of the layer that ran last. Returns the smallest distance from a corner, and the smallest between
    two candidates of a maximum pooling, in deviations of the input."""
    last, margins, pool_margins, relu, pool = [None], [], [], F.relu, F.max_pool2d
    scaled = {m.conv2d: m.scale for m in model.modules() if hasattr(m, "scale") and hasattr(m, "conv2d")}

    def relu_away_from_corner(z, inplace=False):
        shift = shift_from_corner(z)
        last[0].bias += shift / scaled.get(last[0], 1)
        z += shift.reshape([1, -1] + [1] * (z.dim() - 2))
        margins.append((z.abs().min() / z.std()).item())
        return relu(z)

    def measured_pool(z, size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        pooled = pool(z, size, stride, padding, dilation, ceil_mode)
        pool_margins.append((pool_margin(z, pooled, (size, stride, padding, dilation, ceil_mode)) / z.std()).item())
        return pooled

    hooks = [
        m.register_forward_hook(lambda module, *_: last.__setitem__(0, module))
        for m in model.modules()
        if getattr(m, "bias", None) is not None
    ] + [head.register_forward_hook(settle_head) for head in heads_of(model)]
    saved = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    F.relu, F.max_pool2d = relu_away_from_corner, measured_pool
    with torch.no_grad():
        model(x)
    F.relu, F.max_pool2d = relu, pool
    for hook in hooks:
        hook.remove()
    # The values that the file holds are the ones to compute with.
    state = model.state_dict() | saved
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return min(margins), min(pool_margins)


def choose_inputs(model, size):
    """No bias parts the candidates of a maximum pooling: of several inputs the one that parts them best."""
    best_margin, best = 0, None
    heads = [id(head.weight) for head in heads_of(model)]
    moved = {k for k, v in model.named_parameters() if k.endswith("bias") or id(v) in heads}
    start = {k: v.clone() for k, v in model.state_dict().items() if k in moved}
    for _ in range(ATTEMPTS):
        model.load_state_dict(model.state_dict() | start)
        x = torch.randn(IMAGES, 3, size, size).float().double()
        margins = leave_corners(model, x)
        if margins[1] > best_margin:
            state = {k: v.clone() for k, v in model.state_dict().items() if k in moved}
            best_margin, best = margins[1], (x, margins, state)
        if best_margin > ENOUGH:
            break
    x, margins, state = best
    model.load_state_dict(model.state_dict() | state)
    return x, margins


def loss_of(name, output, labels):
    """The mean cross-entropy; a tuple has the output first and auxiliary logits behind it."""
    if isinstance(output, torch.Tensor):
        return F.cross_entropy(output, labels)
    main, *heads = [logits for logits in output if logits is not None]
    return F.cross_entropy(main, labels) + AUXILIARY_WEIGHT[name] * sum(F.cross_entropy(h, labels) for h in heads)


def compute(name, model, x, labels, mode):
    model.zero_grad()
    output = model(x)
    loss_of(name, output, labels).backward()
    logits = output if isinstance(output, torch.Tensor) else output[0]
    results = {f"{mode}.logits": logits.detach()}
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            results[f"{mode}.gradient.{parameter_name}"] = parameter.grad.clone()
    return results


def main():
    network, folder, size = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    name, _, auxiliary = network.partition("+")
    warnings.simplefilter("ignore")
    torch.manual_seed(7)
    torch.set_default_dtype(torch.float64)
    labels = torch.tensor([3, 8, 0, 5])
    model = create(name, bool(auxiliary))
    prepare(model, torch.randn(IMAGES, 3, size, size))
    folder.mkdir(parents=True, exist_ok=True)
    expected = {"labels": labels}
    for mode in ("inference", "training"):
        model.train(mode == "training")
        x, margins = choose_inputs(model, size)
        print("%s, %s: %.0e deviations from a corner, %.0e in a pooling" % (network, mode, *margins), file=sys.stderr)
        write_safetensors(folder / f"{mode}.safetensors", model.state_dict())
        expected[f"{mode}.inputs"] = x.permute(0, 2, 3, 1)
        expected |= compute(name, model, x, labels, mode)
    write_safetensors(folder / "expected.safetensors", expected)


if __name__ == "__main__":
    main()
