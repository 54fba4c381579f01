"""Errors of counts, the counts of a grid's cells, and the networks that count, number by number, in float64.

Chattopadhyay et al., 2017. Numbers are Python's; boxes are (left, top, right, bottom).
"""

import math
from collections.abc import Sequence

Box = Sequence[float]


def after_processing(value: float) -> int:
    """round(max(c, 0)), halves upwards."""
    return math.floor(max(value, 0.0) + 0.5)


def error(
    predicted: Sequence[Sequence[float]], counts: Sequence[Sequence[int]], relative: bool, nonzero: bool
) -> float:
    """The mean over classes of the root mean square error, over the positive images only if ``nonzero``."""
    each = []
    for k in range(len(counts[0])):
        total, images = 0.0, 0
        for row, true in zip(predicted, counts, strict=True):
            if nonzero and true[k] == 0:
                continue
            square = float(after_processing(row[k]) - true[k]) ** 2
            total += square / (true[k] + 1) if relative else square
            images += 1
        if images:
            each.append(math.sqrt(total / images))
    return math.fsum(each) / len(each)


def cell_counts(boxes: Sequence[Box], labels: Sequence[int], classes: int, frame: Box, grid: int) -> list[list[float]]:
    """The count of each class in each cell, down the first column first; parts outside are lost."""
    left, top, right, bottom = frame
    wide, high = (right - left) / grid, (bottom - top) / grid
    found = []
    for column in range(grid):
        for row in range(grid):
            cell = [0.0] * classes
            x, y = left + column * wide, top + row * high
            for (a, b, c, d), label in zip(boxes, labels, strict=True):
                common = max(0.0, min(c, x + wide) - max(a, x)) * max(0.0, min(d, y + high) - max(b, y))
                cell[label] += common / ((c - a) * (d - b))
            found.append(cell)
    return found
