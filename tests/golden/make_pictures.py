#!/usr/bin/env python3
"""Makes pictures.safetensors, which tests/test_pictures.c compares with: /usr/bin/python3 make_pictures.py
Needs Pillow and torchvision (Debian: python3-torchvision; made with 9.4.0 and 0.14.1) and numpy.

All tensors are U8 [rows][columns][3]:
  wide, tall              pictures
  <picture>.squash-HxW    Resize((H, W)), antialiased bilinear, by Pillow
  <picture>.crop-HxW      Resize so that it covers H x W, CenterCrop((H, W))
  <picture>.crop:S-HxW    Resize(S), CenterCrop((H, W))
  wide.brightness, .contrast, .saturation, .hue   factor 1.4, 1.4, 0.6; hue turned by 0.2
"""

import json
import pathlib
import struct

import numpy
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms import functional

FOLDER = pathlib.Path(__file__).parent


def picture(height, width, seed):
    """Smooth colours, an edge, fine stripes and noise: what filters differ on."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    values = numpy.stack([120 + 90 * numpy.sin(x / 7 + c) * numpy.cos(y / (5 + c)) for c in range(3)], 2)
    values[:, width // 3 : width // 2] = [250, 20, 90]
    values[height // 2 :, ::2] += 60
    values += random.normal(0, 20, values.shape)
    return Image.fromarray(values.clip(0, 255).astype("uint8"))


def resized(image, size):
    return Resize(size, InterpolationMode.BILINEAR)(image)


def write(path, tensors):
    """safetensors: length of the header, header, values. (Debian does not package the library.)"""
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "U8", "shape": values.shape, "data_offsets": [at, at + values.size]}
        at += values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(numpy.ascontiguousarray(v).tobytes() for v in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


tensors = {}
for name, height, width in (("wide", 37, 53), ("tall", 61, 40)):
    image = picture(height, width, len(name) + height)
    tensors[name] = numpy.array(image)
    for h, w in ((16, 16), (11, 29), (70, 24)):
        tensors[f"{name}.squash-{h}x{w}"] = numpy.array(resized(image, (h, w)))
    for h, w in ((16, 16), (15, 16)):
        factor = max(h / height, w / width)
        tensors[f"{name}.crop-{h}x{w}"] = numpy.array(
            CenterCrop((h, w))(resized(image, (max(h, int(factor * height)), max(w, int(factor * width)))))
        )
    for side, h, w in ((32, 24, 24), (33, 24, 28), (64, 21, 20)):
        tensors[f"{name}.crop:{side}-{h}x{w}"] = numpy.array(CenterCrop((h, w))(resized(image, side)))

wide = torch.from_numpy(tensors["wide"]).permute(2, 0, 1)
for name, changed in {
    "brightness": functional.adjust_brightness(wide, 1.4),
    "contrast": functional.adjust_contrast(wide, 1.4),
    "saturation": functional.adjust_saturation(wide, 0.6),
    "hue": functional.adjust_hue(wide, 0.2),
}.items():
    tensors["wide." + name] = changed.permute(1, 2, 0).contiguous().numpy()
write(FOLDER / "pictures.safetensors", tensors)
