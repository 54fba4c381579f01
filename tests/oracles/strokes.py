"""The map of painted strokes, pixel by pixel."""

from itertools import pairwise

import numpy as np

Strokes = list[tuple[list[tuple[float, float]], float, bool]]
"""Points, radius, and whether it matters."""


def distance(x: float, y: float, a: tuple[float, float], b: tuple[float, float]) -> float:
    """The distance of a point from a segment: from its line where the foot lies between the ends, else from an end."""
    ux, uy = b[0] - a[0], b[1] - a[1]
    length = (ux * ux + uy * uy) ** 0.5
    if length > 0:
        foot = ((x - a[0]) * ux + (y - a[1]) * uy) / length
        if 0 <= foot <= length:
            return abs((x - a[0]) * uy - (y - a[1]) * ux) / length
    return min(((x - p[0]) ** 2 + (y - p[1]) ** 2) ** 0.5 for p in (a, b))


def stroke_map(width: int, height: int, strokes: Strokes) -> tuple[np.ndarray, np.ndarray]:
    """The map, and the pixels whose centres lie on the border of a stroke, up to rounding."""
    only_erased = len(strokes) > 0 and all(not matters for _, _, matters in strokes)
    drawn = np.full((height, width), 1.0 if only_erased else 0.0)
    border = np.zeros((height, width), dtype=bool)
    for points, radius, matters in strokes:
        segments = list(pairwise(points)) or [(points[0], points[0])]
        for row in range(height):
            for column in range(width):
                far = min(distance(column + 0.5, row + 0.5, a, b) for a, b in segments)
                if far <= radius:
                    drawn[row, column] = 1.0 if matters else 0.0
                border[row, column] |= abs(far - radius) < 1e-9
    return drawn, border
