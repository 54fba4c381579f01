"""Boxes on feature maps, cell by cell, in float64. A box is (left, top, right, bottom)."""

from collections.abc import Sequence

import numpy as np

Box = Sequence[float]


def overlap(low: float, high: float, cell: int) -> float:
    """The length of [low, high] in [cell, cell + 1]."""
    return max(0.0, min(high, cell + 1) - max(low, cell))


def box_mean(features: np.ndarray, box: Box) -> np.ndarray:
    """The mean of features [channel, row, column] in a box in cells; a cell counts by the area that is covered."""
    left, top, right, bottom = box
    out = np.zeros(len(features))
    for row in range(features.shape[1]):
        for column in range(features.shape[2]):
            area = overlap(top, bottom, row) * overlap(left, right, column)
            out += area * features[:, row, column].astype(np.float64)
    return out / ((right - left) * (bottom - top))


def iou(one: Box, other: Box) -> float:
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)
