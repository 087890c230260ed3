"""Times an epoch of fine-tuning ResNet-18 at 224 x 224 on 160 pictures, batch 4: tally-train and PyTorch.

Both start from the same weights, read the same JPEG files, cut a random resized crop, flip, normalise, and
take SGD steps with momentum on all layers. PyTorch is timed twice: with its pictures read and cut in each
epoch, as tally-train does, and with all of them ready in memory (nothing but training). Epochs alternate
in one run; the first of PyTorch's is not counted.

Usage: finetune.py TALLY_TRAIN [--threads 2] [--epochs 3]"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file

from peers import resnet18

SIDE, PICTURES, BATCH = 224, 160, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw_pictures(folder):
    """Coloured noise at several scales, so that JPEG files are of a photo's size; two classes by tint."""
    generator, paths = numpy.random.default_rng(1), []
    for number in range(PICTURES):
        name = ("warm", "cold")[number % 2]
        coarse = [Image.fromarray(generator.integers(0, 256, (n, n, 3), dtype=numpy.uint8)).resize((400, 300))
                  for n in (4, 16, 80)]
        mixed = numpy.mean([numpy.asarray(image, dtype=float) for image in coarse], 0)
        mixed[..., 0 if name == "warm" else 2] += 20
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        path = os.path.join(folder, name, "%d.jpg" % number)
        Image.fromarray(mixed.clip(0, 255).astype(numpy.uint8)).save(path, quality=85)
        paths.append((path, number % 2))
    return paths


def crop(path):
    """torchvision's random resized crop, flip and normalisation."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = numpy.exp(random.uniform(numpy.log(3 / 4), numpy.log(4 / 3)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(width, height)
    x, y = random.randint(0, width - w), random.randint(0, height - h)
    image = image.resize((SIDE, SIDE), Image.BILINEAR, (x, y, x + w, y + h))
    if random.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    values = (numpy.asarray(image, dtype=numpy.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(values.transpose(2, 0, 1).astype(numpy.float32))


class PyTorch:
    def __init__(self, weights, paths, ready):
        self.network = resnet18()
        self.network.load_state_dict(weights)
        self.network.fc = torch.nn.Linear(512, 2)
        self.network.to(memory_format=torch.channels_last).train()  # the faster layout here
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.001, 0.9)
        self.paths = list(paths)
        self.ready = {path: crop(path) for path, _ in paths} if ready else None

    def epoch(self):
        random.shuffle(self.paths)
        start = time.perf_counter()
        for first in range(0, PICTURES, BATCH):
            batch = self.paths[first:first + BATCH]
            images = torch.stack([self.ready[path] if self.ready else crop(path) for path, _ in batch])
            labels = torch.tensor([label for _, label in batch])
            self.optimizer.zero_grad()
            outputs = self.network(images.contiguous(memory_format=torch.channels_last))
            torch.nn.functional.cross_entropy(outputs, labels).backward()
            self.optimizer.step()
        return time.perf_counter() - start


def our_epoch(program, folder, threads):
    """Seconds of an epoch, the mean of two in one run."""
    done = subprocess.run(
        [program, "--data", os.path.join(folder, "pictures"), "--arch", "resnet18", "--init",
         os.path.join(folder, "pretrained.safetensors"), "--optimizer", "sgd", "--lr", "0.001", "--batch", str(BATCH),
         "--epochs", "2", "--random-crop", "0.08", "--flip", "--normalize",
         "%s/%s" % (",".join(map(str, MEAN)), ",".join(map(str, DEVIATION))), "--threads", str(threads),
         "--out", os.path.join(folder, "out.safetensors"), "--quiet"], check=True, stdout=subprocess.PIPE, text=True)
    return PICTURES / json.loads(done.stdout.splitlines()[-1])["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(1)
    random.seed(1)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        paths = draw_pictures(os.path.join(folder, "pictures"))
        weights = resnet18().state_dict()
        save_file(weights, os.path.join(folder, "pretrained.safetensors"))
        reading, ready = PyTorch(weights, paths, False), PyTorch(weights, paths, True)
        reading.epoch(), ready.epoch()
        times = {"ours": [], "PyTorch": [], "PyTorch, pictures ready": []}
        for _ in range(options.epochs):
            times["ours"].append(our_epoch(options.program, folder, options.threads))
            times["PyTorch"].append(reading.epoch())
            times["PyTorch, pictures ready"].append(ready.epoch())
    for name, seconds in times.items():
        print("%-24s %.2f s an epoch (%.2f to %.2f)" % (name, statistics.median(seconds), min(seconds), max(seconds)))
    ratios = {name: round(statistics.median(t / o for t, o in zip(seconds, times["ours"])), 2)
              for name, seconds in times.items() if name != "ours"}
    print(json.dumps({"threads": options.threads, "times as fast as": ratios}))


if __name__ == "__main__":
    main()
