#!/usr/bin/env python3
"""Makes the golden values that tests/test_golden.c compares with: python3 make_golden.py
Needs torch 2.13.0, numpy and safetensors. PyTorch computes in double precision from float32 weights.

Each NAME.safetensors holds
  <parameter>             PyTorch's initial state dict, names and shapes as PyTorch has them
  inputs                  [images][rows][columns][channels]
  labels or targets       [images] class numbers, or [images][values]
  logits                  of the node before softmax or sigmoid, in inference mode
  predicted               the network's output in inference mode: softmax or sigmoid applied
  loss                    of all images as one batch, in training mode; mean over images
  gradient.<parameter>    in convnet.h's order: HWIO; dense [rows][columns][channels][outputs]
  after.<running figure>  batch norm's running figures after that one batch
  losses.<optimiser>      of ten steps, which take the first and the second half of the images in turn
and in its metadata the network's text under "network".
"""

import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
IMAGES = 12
STEPS = 10


class Base(nn.Module):
    text = """input 12x12x1
conv 4 3x3 pad=1
relu
maxpool 2x2
conv 8 3x3 pad=1
relu
maxpool 2x2
dense 16
relu
dense 10
softmax
"""
    shape = (12, 12, 1)
    flattened = {"dense1": (3, 3, 8)}
    task, outputs = "classes", 10

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.dense1 = nn.Linear(72, 16)
        self.dense2 = nn.Linear(16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.dense2(F.relu(self.dense1(x.flatten(1))))


class Revised(nn.Module):
    """Enough channels for every fast convolution, and an odd map whose last row the pool drops."""

    text = """input 14x14x1
conv 16 3x3 pad=1
relu
maxpool 2x2
conv 24 3x3 pad=1
relu
maxpool 2x2
conv 16 3x3 pad=1
relu
dense 20
relu
dense 10
softmax
"""
    shape = (14, 14, 1)
    flattened = {"dense1": (3, 3, 16)}
    task, outputs = "classes", 10

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.conv3 = nn.Conv2d(24, 16, 3, padding=1)
        self.dense1 = nn.Linear(144, 20)
        self.dense2 = nn.Linear(20, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x))
        return self.dense2(F.relu(self.dense1(x.flatten(1))))


class Lenet(nn.Module):
    text = """input 19x20x1
conv 6 5x5 pad=2
tanh
meanpool 2x2
conv 8 5x5
sigmoid
maxpool 2x2 ceil=yes
dense 24
tanh
dense 10
softmax
"""
    shape = (19, 20, 1)
    flattened = {"dense1": (3, 3, 8)}
    task, outputs = "classes", 10

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 8, 5)
        self.dense1 = nn.Linear(72, 24)
        self.dense2 = nn.Linear(24, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.max_pool2d(torch.sigmoid(self.conv2(x)), 2, ceil_mode=True)
        return self.dense2(torch.tanh(self.dense1(x.flatten(1))))


class Graph(nn.Module):
    """Residual, concatenation, depthwise, grouped, dilated, batch norm, every padding and pooling."""

    text = """input 11x9x3
stem: conv 8 3x3 stride=2 pad=1 bias=no
norm1: batchnorm
first: relu
depthwise: conv 8 3x3 pad=1 groups=8
pointwise: conv 12 1x1
norm2: batchnorm eps=0.001 momentum=0.2
side: conv 12 3x3 pad=1 padding=replicate from=first
bent: tanh
sum: add from=norm2,bent
second: relu
largest: maxpool 3x3 stride=2 pad=1 from=second
mean: meanpool 3x3 stride=2 pad=1 count=all from=second
smallest: minpool 3x3 stride=2 pad=1 from=sum
mixed: mixpool 3x3 stride=2 pad=1 mix=0.3 from=second
joined: concat from=largest,mean,smallest,mixed
wide: conv 10 3x3 dilation=2 pad=2 groups=2 padding=wrap
relu
globalmean
last: dense 5
softmax
"""
    shape = (11, 9, 3)
    flattened = {}
    task, outputs = "classes", 5

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.norm2 = nn.BatchNorm2d(12, eps=0.001, momentum=0.2)
        self.side = nn.Conv2d(8, 12, 3, padding=1, padding_mode="replicate")
        self.wide = nn.Conv2d(48, 10, 3, dilation=2, padding=2, groups=2, padding_mode="circular")
        self.last = nn.Linear(10, 5)

    def forward(self, x):
        first = F.relu(self.norm1(self.stem(x)))
        total = self.norm2(self.pointwise(self.depthwise(first))) + torch.tanh(self.side(first))
        second = F.relu(total)
        inside = F.avg_pool2d(second, 3, 2, 1, count_include_pad=False)
        joined = [
            F.max_pool2d(second, 3, 2, 1),
            F.avg_pool2d(second, 3, 2, 1, count_include_pad=True),
            -F.max_pool2d(-total, 3, 2, 1),
            0.3 * F.max_pool2d(second, 3, 2, 1) + 0.7 * inside,
        ]
        x = F.relu(self.wide(torch.cat(joined, 1)))
        return self.last(x.mean((2, 3)))


class Labels(nn.Module):
    """Several labels an image: sigmoid and binary cross-entropy."""

    text = """input 1x1x6
dense 8
relu
dense 3
sigmoid
"""
    shape = (1, 1, 6)
    flattened = {}
    task, outputs = "labels", 3

    def __init__(self):
        super().__init__()
        self.dense1 = nn.Linear(6, 8)
        self.dense2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.dense2(F.relu(self.dense1(x.flatten(1))))


class Regression(nn.Module):
    """Squared error, and a window that is not square."""

    text = """input 6x5x2
conv 3 3x2 stride=1x2 pad=1,0,1,1
tanh
dense 2
"""
    shape = (6, 5, 2)
    flattened = {"dense1": (6, 3, 3)}
    task, outputs = "values", 2

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, (3, 2), stride=(1, 2))
        self.dense1 = nn.Linear(54, 2)

    def forward(self, x):
        x = torch.tanh(self.conv1(F.pad(x, (0, 1, 1, 1))))
        return self.dense1(x.flatten(1))


OPTIMISERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.9),
    "nesterov": lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.8, nesterov=True),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.02, eps=1e-7),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.003, eps=1e-7),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.003, eps=1e-7),
}
# convnet.h spares biases and batch norm: l2 of "nesterov", decay of "adamw".
PENALTY = {"nesterov": 0.01, "adamw": 0.1}


def groups_of(model, optimiser):
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    penalty = PENALTY.get(optimiser, 0)
    return [{"params": weights, "weight_decay": penalty}, {"params": others, "weight_decay": 0}]


def loss_of(kind, output, truth):
    count = len(output)
    if kind.task == "classes":
        return F.cross_entropy(output, truth)
    if kind.task == "labels":
        return F.binary_cross_entropy_with_logits(output, truth, reduction="sum") / count
    return ((output - truth) ** 2).sum() / 2 / count


def activation_of(kind, output):
    if kind.task == "classes":
        return output.softmax(1)
    return output.sigmoid() if kind.task == "labels" else output


def in_our_order(kind, name, tensor):
    """PyTorch's OIHW or (out, in) as convnet.h's HWIO or (rows, columns, channels, out)."""
    if tensor.dim() == 4:
        return tensor.permute(2, 3, 1, 0)
    if tensor.dim() == 2:
        rows, columns, channels = kind.flattened.get(name.split(".")[0], (1, 1, tensor.shape[1]))
        return tensor.reshape(-1, channels, rows, columns).permute(2, 3, 1, 0)
    return tensor


def initial_model(kind):
    """float32 values, so that both sides start from the same; then double for exact arithmetic."""
    torch.manual_seed(7)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double()


def example_data(kind):
    generator = torch.Generator().manual_seed(11)
    rows, columns, channels = kind.shape
    inputs = torch.rand(IMAGES, rows, columns, channels, generator=generator)
    if kind.task == "classes":
        truth = torch.randint(kind.outputs, (IMAGES,), generator=generator)
    elif kind.task == "labels":
        truth = torch.randint(2, (IMAGES, kind.outputs), generator=generator).float()
        truth[0, 0] = 0.25
    else:
        truth = torch.randn(IMAGES, kind.outputs, generator=generator)
    return inputs, truth


def trajectory(kind, optimiser, x, truth):
    model = initial_model(kind)
    rule = OPTIMISERS[optimiser](groups_of(model, optimiser))
    half = IMAGES // 2
    losses = []
    for step in range(STEPS):
        part = slice(0, half) if step % 2 == 0 else slice(half, IMAGES)
        loss = loss_of(kind, model(x[part]), truth[part])
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def golden(kind):
    inputs, truth = example_data(kind)
    x = inputs.double().permute(0, 3, 1, 2)
    target = truth if kind.task == "classes" else truth.double()
    model = initial_model(kind)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["inputs"] = inputs
    tensors["labels" if kind.task == "classes" else "targets"] = truth
    tensors["logits"] = model.eval()(x)
    tensors["predicted"] = activation_of(kind, tensors["logits"])
    loss = loss_of(kind, model.train()(x), target)
    loss.backward()
    tensors["loss"] = loss.reshape(1)
    for name, parameter in model.named_parameters():
        tensors["gradient." + name] = in_our_order(kind, name, parameter.grad)
    for name, buffer in model.named_buffers():
        if "running" in name:
            tensors["after." + name] = buffer
    for optimiser in OPTIMISERS:
        tensors["losses." + optimiser] = trajectory(kind, optimiser, x, target)
    # num_batches_tracked stays an integer, as in any state dict; all else is float32.
    return {
        name: value.detach() if name.endswith("tracked") else value.detach().float().contiguous()
        for name, value in tensors.items()
    }


def main():
    torch.set_num_threads(1)
    for kind in (Base, Revised, Lenet, Graph, Labels, Regression):
        path = FOLDER / (kind.__name__.lower() + ".safetensors")
        save_file(golden(kind), path, {"network": kind.text})
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
