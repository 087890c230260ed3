#!/usr/bin/env python3
"""Digits of other hands as 28 x 28 pictures, for tally-train and tally-evaluate (see sources.sh).

Usage: sources.py KIND FROM TO     writes TO/KIND/*.png and TO/KIND.csv (path,label,tally)

KIND and what FROM is:
  mnist-train, mnist-first, mnist-second   the folder of MNIST's IDX files; first and second are the
              halves of its test set, by employees of the Census Bureau and by pupils: two circles of
              writers, and neither wrote any of mnist-train (LeCun et al. 1998)
  opencv      digits.png of OpenCV's samples: 50 rows of 100 digits of 20 x 20, five rows a digit
  optdigits   optdigits.dat of KEEL: 64 values 0 to 16, an 8 x 8 picture, and the digit (Alpaydin &
              Kaynak 1998, 43 writers, UCI)
  penbased    penbased.dat of KEEL: 8 points of a pen's path, y up, 0 to 100, and the digit (Alpaydin
              & Alimoglu 1998, 44 writers, UCI); here a pen draws along them

Every picture but MNIST's own is brought to MNIST's form: the ink's box fills 20 x 20 by its longer
side, the ink's centre of mass lies in the middle of 28 x 28. Needs nothing but Python itself.
"""
import os
import struct
import sys
import zlib

SIDE, BOX = 28, 20
WIDTH = 0.7  # of digits by their height; the points of penbased are stretched to a square


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, rows):
    """A grey picture; rows are bytes."""
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 1)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", data)
                   + png_chunk(b"IEND", b""))


def read_grey_png(path):
    """The rows of a PNG of 8-bit grey without interlacing."""
    with open(path, "rb") as file:
        data = file.read()
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(
                ">IIBBBBB", data[at + 8:at + 21])
            if (depth, colour, interlace) != (8, 0, 0):
                sys.exit(f"{path}: not a PNG of 8-bit grey")
        elif kind == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    flat, rows, above = zlib.decompress(packed), [], bytearray(width)
    for y in range(height):
        start = y * (width + 1)
        kind, row = flat[start], bytearray(flat[start + 1:start + 1 + width])
        for x in range(width):
            left, up = row[x - 1] if x else 0, above[x]
            corner = above[x - 1] if x else 0
            if kind == 1:
                row[x] = (row[x] + left) & 255
            elif kind == 2:
                row[x] = (row[x] + up) & 255
            elif kind == 3:
                row[x] = (row[x] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up),
                              (abs(guess - corner), 2, corner))
                row[x] = (row[x] + nearest[2]) & 255
        rows.append(bytes(row))
        above = row
    return rows


def sample(rows, x, y):
    """Bilinear, 0 outside; pixel centres lie at halves."""
    x, y = x - 0.5, y - 0.5
    left, top = int(x // 1), int(y // 1)
    fx, fy, total = x - left, y - top, 0.0
    for j, wy in ((top, 1 - fy), (top + 1, fy)):
        if wy and 0 <= j < len(rows):
            for i, wx in ((left, 1 - fx), (left + 1, fx)):
                if wx and 0 <= i < len(rows[0]):
                    total += wx * wy * rows[j][i]
    return total


def as_mnist(rows, most=255):
    """Ink of 0 to most, its box scaled to BOX, its centre of mass moved to the middle."""
    inked_y = [y for y, row in enumerate(rows) if any(v * 4 > most for v in row)]
    inked_x = [x for x in range(len(rows[0])) if any(row[x] * 4 > most for row in rows)]
    if not inked_y:
        return [bytes(SIDE)] * SIDE
    left, right, top, bottom = inked_x[0], inked_x[-1] + 1, inked_y[0], inked_y[-1] + 1
    scale = max(right - left, bottom - top) / BOX
    total = sum(map(sum, rows))
    middle_x = sum(row[x] * (x + 0.5) for row in rows for x in range(len(row))) / total
    middle_y = sum(sum(row) * (y + 0.5) for y, row in enumerate(rows)) / total
    steps = max(1, round(scale))
    out = []
    for y in range(SIDE):
        line = []
        for x in range(SIDE):
            value = 0.0
            for j in range(steps):
                for i in range(steps):
                    value += sample(rows,
                                    middle_x + (x + (i + 0.5) / steps - SIDE / 2) * scale,
                                    middle_y + (y + (j + 0.5) / steps - SIDE / 2) * scale)
            line.append(min(255, int(value * 255 / (most * steps * steps) + 0.5)))
        out.append(bytes(line))
    return out


def smooth(points, pieces=4):
    """Points of a curve through points (Catmull-Rom)."""
    out = [points[0]]
    for i in range(len(points) - 1):
        around = [points[min(max(k, 0), len(points) - 1)] for k in (i - 1, i, i + 1, i + 2)]
        for k in range(1, pieces + 1):
            t = k / pieces
            weights = (-t ** 3 / 2 + t * t - t / 2, 1.5 * t ** 3 - 2.5 * t * t + 1,
                       -1.5 * t ** 3 + 2 * t * t + t / 2, t ** 3 / 2 - t * t / 2)
            out.append(tuple(sum(w * p[axis] for w, p in zip(weights, around)) for axis in (0, 1)))
    return out


def draw_path(points, pen=2.4):
    """A pen's smooth path through points, the box of which is brought to BOX less the pen."""
    left, top = min(p[0] for p in points), min(p[1] for p in points)
    size = max(max(p[0] for p in points) - left, max(p[1] for p in points) - top, 1)
    scale = (BOX - pen) / size
    path = smooth([(4 + pen / 2 + (x - left) * scale, 4 + pen / 2 + (y - top) * scale)
                   for x, y in points])
    rows = [bytearray(SIDE) for _ in range(SIDE)]
    for (ax, ay), (bx, by) in zip(path, path[1:]):
        dx, dy = bx - ax, by - ay
        length2 = dx * dx + dy * dy
        for y in range(max(0, int(min(ay, by) - 2)), min(SIDE, int(max(ay, by) + 3))):
            for x in range(max(0, int(min(ax, bx) - 2)), min(SIDE, int(max(ax, bx) + 3))):
                px, py = x + 0.5 - ax, y + 0.5 - ay
                t = max(0, min(1, (px * dx + py * dy) / length2)) if length2 else 0
                away = ((px - t * dx) ** 2 + (py - t * dy) ** 2) ** 0.5
                cover = max(0, min(1, pen / 2 + 0.5 - away))
                rows[y][x] = max(rows[y][x], int(255 * cover))
    return as_mnist(rows)


def read_idx(folder, part):
    with open(os.path.join(folder, part + "-images-idx3-ubyte"), "rb") as file:
        pixels = file.read()[16:]
    with open(os.path.join(folder, part + "-labels-idx1-ubyte"), "rb") as file:
        labels = file.read()[8:]
    for i, label in enumerate(labels):
        at = i * SIDE * SIDE
        yield label, [pixels[at + y * SIDE:at + (y + 1) * SIDE] for y in range(SIDE)]


def read_table(path):
    with open(path, encoding="ascii") as file:
        for line in file:
            yield [int(word) for word in line.split(",")]


def pictures(kind, path):
    """Label and rows of each picture."""
    if kind == "mnist-train":
        yield from read_idx(path, "train")
    elif kind in ("mnist-first", "mnist-second"):
        for i, one in enumerate(read_idx(path, "t10k")):
            if (i < 5000) == (kind == "mnist-first"):
                yield one
    elif kind == "opencv":
        sheet = read_grey_png(path)
        for i in range(5000):
            top, left = i // 100 * 20, i % 100 * 20
            yield i // 500, as_mnist([row[left:left + 20] for row in sheet[top:top + 20]])
    elif kind == "optdigits":
        for values in read_table(path):
            yield values[64], as_mnist([values[8 * y:8 * y + 8] for y in range(8)], 16)
    elif kind == "penbased":
        for values in read_table(path):
            points = [(WIDTH * values[2 * i], 100 - values[2 * i + 1]) for i in range(8)]
            yield values[16], draw_path(points)
    else:
        sys.exit(__doc__)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    kind, path, to = sys.argv[1:]
    os.makedirs(os.path.join(to, kind), exist_ok=True)
    with open(os.path.join(to, kind + ".csv"), "w", encoding="ascii") as table:
        table.write("path,label,tally\n")
        for i, (label, rows) in enumerate(pictures(kind, path)):
            name = f"{kind}/{i:05d}.png"
            write_png(os.path.join(to, name), rows)
            table.write(f"{name},{label},{kind}-{i // 100}\n")


main()
