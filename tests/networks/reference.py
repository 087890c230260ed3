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
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(stored(tensor))


def stored(values):
    """As the file will hold them. Every value is rounded when it is chosen: rounded afterwards, they would
    move what follows as far as rounding in a computation does."""
    return values.float().double() if values.is_floating_point() else values


def deviation_of(z):
    """The deviation of most channels, whatever happened to the others."""
    return z.transpose(0, 1).flatten(1).std(1).median()


def shift_from_corner(z):
    """Per channel the shift of at most a fifth of a deviation that keeps ReLU's inputs farthest from 0; none
    where it would not double their distance, so that what has been shifted stays."""
    columns, reach = z.transpose(0, 1).flatten(1).sort(1).values, 0.2 * deviation_of(z)
    columns = torch.cat([columns[:, :1] - 2 * reach, columns, columns[:, -1:] + 2 * reach], 1)
    below, above = columns[:, :-1], columns[:, 1:]
    places = ((below + above) / 2).clamp(-reach, reach)
    best, place = torch.minimum(places - below, above - places).max(1)
    stay = 2 * columns[:, 1:-1].abs().min(1).values >= best
    return torch.where(stay, torch.zeros_like(best), -places.gather(1, place[:, None])[:, 0])


def pool_margins(z, pooled, size, stride, padding, ceil):
    """Per channel the smallest distance between the two largest values of a window, in deviations or as a
    share of the largest, whichever is less, unless they are the same (ReLU's zeros, or one value that reached
    both places)."""
    deviation = deviation_of(z)
    if padding:
        z = F.pad(z, [padding] * 4, value=-1e9)
    if ceil:
        z = F.pad(z, [0, size, 0, size], value=-1e9)
    windows = z.unfold(2, size, stride).unfold(3, size, stride)[:, :, : pooled.shape[2], : pooled.shape[3]]
    first, second = windows.flatten(4).topk(2).values.unbind(-1)
    margins = (first - second) / first.clamp(min=deviation)
    return torch.where(first == second, torch.inf, margins).amin((0, 2, 3))


def heads_of(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES]


def settle_head(head, inputs, output):
    """Logits of about 1: were the softmax sure of itself, all images would have the same gradient or none,
    and batch norm would leave only rounding of it."""
    size, goal = output.square().mean().sqrt(), torch.randn(CLASSES)
    head.weight.copy_(stored(head.weight / size))
    head.bias.copy_(stored(head.bias / size + goal - output.mean(0) / size))
    return F.linear(*inputs, head.weight, head.bias)


def enough(x):
    """Deviations from where a gradient would take another way: some times what rounding may do. Inputs beyond
    139, the largest of the small ones, have more near ties to silence, but most of them in the first pooling,
    where there is less rounding."""
    return 6e-5 * min(1, 139 / x.shape[-1])


class Again(Exception):
    """A bias changed whose effect has gone on already."""


class CornerFinder:
    """Runs a network and moves its biases, so that rounding decides nowhere whether a gradient flows or
    where to: comparing gradients would compare luck. No input of a ReLU stays near its corner: it moves
    a little, with the bias of the layer that ran last. Where two candidates of a maximum pooling behind
    ReLUs are all but equal, the channel is silenced by its bias."""

    def __init__(self, model, heads):
        self.model, self.heads = model, heads
        self.relu, self.pool, self.cat = F.relu, F.max_pool2d, torch.cat
        self.scaled = {m.conv2d: m.scale for m in model.modules() if hasattr(m, "scale") and hasattr(m, "conv2d")}

    def remember(self, tensor, channels):
        """channels: of each channel what silences it; the tensor is kept so that no other gets its id."""
        self.origins[id(tensor)] = (tensor, channels)
        return tensor

    def origin(self, tensor):
        return self.origins.get(id(tensor), (None, [None] * tensor.shape[1]))[1]

    def relu_away_from_corner(self, z, inplace=False):
        layer, factor = self.last, self.scaled.get(self.last, 1)
        bias = stored(layer.bias + shift_from_corner(z) / factor)
        z += (factor * (bias - layer.bias)).reshape([1, -1] + [1] * (z.dim() - 2))
        layer.bias.copy_(bias)
        deviation, largest = deviation_of(z), z.transpose(0, 1).flatten(1).amax(1)
        self.corner = min(self.corner, (z.abs().min() / deviation).item())
        silence = -(largest + deviation).clamp(min=20 * deviation) / factor
        return self.remember(self.relu(z), [(layer, channel, by) for channel, by in enumerate(silence)])

    def checked_pool(self, z, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        pooled, again = self.pool(z, kernel_size, stride, padding, dilation, ceil_mode), False
        margins = pool_margins(z, pooled, kernel_size, stride, padding, ceil_mode)
        for origin, margin in zip(self.origin(z), margins):
            if origin and margin < self.enough:
                layer, channel, silence = origin
                layer.bias[channel] += silence
                again = True
        if again:
            raise Again
        self.tie = min(self.tie, margins.min().item())
        return self.remember(pooled, self.origin(z))

    def joined(self, tensors, dim=0):
        return self.remember(self.cat(tensors, dim), sum((self.origin(tensor) for tensor in tensors), []))

    def ran(self, layer, *_):
        self.last = layer

    def run(self, x):
        """Returns the smallest distance from a corner, and between two candidates of a maximum pooling."""
        layers = [m for m in self.model.modules() if getattr(m, "bias", None) is not None]
        running = {k: v.clone() for k, v in self.model.state_dict().items() if "running" in k}
        hooks = [layer.register_forward_hook(self.ran) for layer in layers]
        hooks += [head.register_forward_hook(settle_head) for head in self.heads]
        F.relu, F.max_pool2d, torch.cat = self.relu_away_from_corner, self.checked_pool, self.joined
        self.enough, done = enough(x), False
        while not done:
            self.origins, self.corner, self.tie = {}, torch.inf, torch.inf
            try:
                with torch.no_grad():
                    self.model(x)
                done = True
            except Again:
                pass
        F.relu, F.max_pool2d, torch.cat = self.relu, self.pool, self.cat
        for hook in hooks:
            hook.remove()
        self.model.load_state_dict(self.model.state_dict() | running)
        return self.corner, self.tie


def choose_inputs(model, size):
    """Of several inputs the one that leaves corners best: no bias parts the candidates of a maximum pooling
    that has no ReLU before it."""
    best_margin, best = 0, None
    heads = heads_of(model)
    weights = [id(head.weight) for head in heads]
    moved = {k for k, v in model.named_parameters() if k.endswith("bias") or id(v) in weights}
    start = {k: v.clone() for k, v in model.state_dict().items() if k in moved}
    for _ in range(ATTEMPTS):
        model.load_state_dict(model.state_dict() | start)
        x = torch.randn(IMAGES, 3, size, size).float().double()
        margins = CornerFinder(model, heads).run(x)
        if min(margins) > best_margin:
            state = {k: v.clone() for k, v in model.state_dict().items() if k in moved}
            best_margin, best = min(margins), (x, margins, state)
        if best_margin >= enough(x):
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
