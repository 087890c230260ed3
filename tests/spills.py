"""Counts vector registers that a compiler keeps on the stack inside the hot loops of the matrix tiles.

Usage: spills.py ASSEMBLY [ASSEMBLY ...]      compilers' -S output of a file with the implementation
For every function cn_product_tile_* and cn_outer_tile_* it finds the innermost loop with the most
multiply-adds and counts the vector loads and stores there that go to the stack. Prints one line a
function that has any, and exits with 1 if there was one."""
import re
import sys

FUSED = re.compile(r"\b(vfmadd\w*ps|vfnmadd\w*ps|fmla)\b")
STACK = re.compile(r"%[xyz]mm\d+.*\(%rsp\)|\(%rsp\).*%[xyz]mm\d+|\b[qv]\d+.*\[sp")
FRAME = re.compile(r"%[xyz]mm\d+.*\(%rbp\)|\(%rbp\).*%[xyz]mm\d+|\b[qv]\d+.*\[x29")
FRAME_SETUP = re.compile(r"mov\w*\s+(%rsp, ?%rbp|x29, ?sp)")
JUMP = re.compile(r"^\s+(?:j\w+|b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.L\w+)")


def functions(path):
    name, lines = None, []
    for line in open(path):
        start = re.match(r"^(cn_(?:product|outer)_tile_\w+):", line)
        if start:
            name, lines = start.group(1), []
        elif name and re.match(r"^\s+\.size\s|^\.Lfunc_end", line):
            yield name, lines
            name = None
        elif name:
            lines.append(line)


def loops(lines):
    """Blocks from a label to a jump back to it."""
    labels = {}
    for number, line in enumerate(lines):
        label = re.match(r"^(\.L\w+):", line)
        if label:
            labels[label.group(1)] = number
        jump = JUMP.match(line)
        if jump and jump.group(1) in labels:
            yield lines[labels[jump.group(1)]:number + 1]


def spills(lines):
    hot = max(loops(lines), default=[],
              key=lambda body: (sum(bool(FUSED.search(line)) for line in body), -len(body)))
    framed = any(FRAME_SETUP.search(line) for line in lines)  # else %rbp is a register like any other
    return sum(bool(STACK.search(line) or (framed and FRAME.search(line))) for line in hot)


def main():
    found = checked = 0
    for path in sys.argv[1:]:
        for name, lines in functions(path):
            if "scalar" in name:
                continue
            checked += 1
            count = spills(lines)
            if count:
                print("%s: %s has %d vector spills in its hot loop" % (path, name, count))
                found += 1
    print("%d hot loops looked at, %d with spills" % (checked, found))
    return 1 if found or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
