"""COCO's masks by their definitions, independent of pycocotools, which draws them in the package.

A mask is a bool array [height, width], a size (width, height).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def run_lengths(text: str) -> list[int]:
    """The counts in the text by which COCO packs them.

    Every character carries six bits, as its code less 48: five of a number, the lowest first, and one (32) that says
    that more of it follow; the highest bit of the last five is its sign. From the fourth on a number is the difference
    to the count before the last one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def packed(counts: list[int]) -> str:
    """The text of counts, by the rule: differences from the fourth on, in two's complement, five bits a character."""
    text = ""
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        digits = 1
        while not -(2 ** (5 * digits - 1)) <= number < 2 ** (5 * digits - 1):
            digits += 1
        bits = format(number % 2 ** (5 * digits), f"0{5 * digits}b")
        fives = [bits[start : start + 5] for start in range(0, len(bits), 5)][::-1]
        text += "".join(chr(48 + int(("0" if last == digits else "1") + five, 2)) for last, five in enumerate(fives, 1))
    return text


def run_length_mask(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Pixels outside, inside, outside, …, down one column after the other."""
    width, height = size
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def polygon_mask(polygon: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon [x, y, x, y, …]; where it crosses itself, in its odd parts.

    pycocotools draws on a grid five times as fine: its masks differ in pixels whose centres nearly lie on the border.
    """
    width, height = size
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    crossed = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in pairwise([*points, points[0]]):
        if y0 == y1:
            continue
        upper, lower = min(y0, y1), max(y0, y1)
        rows = np.arange(*np.clip(np.ceil([upper - 0.5, lower - 0.5]), 0, height).astype(int))
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]
