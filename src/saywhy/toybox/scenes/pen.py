"""A pen that draws smooth shapes in an object's own coordinates.

An object is drawn around the origin, x to the right and y down, roughly from -1 to 1. The pen transforms coordinates to
the paper (position, scale, tilt, mirroring); no picture is ever rotated, so edges stay sharp.
"""

from collections.abc import Sequence
from functools import cache
from math import ceil, cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from saywhy.toybox.scenes.colour import RGB

Point = tuple[float, float]
Outline = Sequence[Point]
FINE = 6  # points per segment of a smooth curve


class Pen:
    """Draws on ``paper``; one unit is ``scale`` pixels, and the origin lies at ``origin`` (x, y) in pixels.

    ``wide`` scales an object horizontally (negative: mirrored as well) before it is tilted; ``tilt`` is in radians,
    clockwise.
    """

    def __init__(
        self, paper: Image.Image, scale: float, origin: Point = (0.0, 0.0), tilt: float = 0.0, wide: float = 1.0
    ) -> None:
        self._draw = ImageDraw.Draw(paper)
        self._scale = scale
        across, along = scale * cos(tilt), scale * sin(tilt)
        self._turn = np.array([[wide * across, wide * along], [-along, across]])
        self._origin = np.array(origin, float)
        (self._xx, self._yx), (self._xy, self._yy) = self._turn.tolist()
        self._ox, self._oy = origin

    def place(self, x: float, y: float) -> Point:
        """Return the position of (x, y) on the paper, in pixels.

        >>> Pen(Image.new("RGB", (9, 9)), scale=2, origin=(4, 4)).place(1, -1)
        (6.0, 2.0)
        """
        return self._ox + self._xx * x + self._xy * y, self._oy + self._yx * x + self._yy * y

    def polygon(self, points: Outline, colour: RGB) -> None:
        """Draw a filled polygon."""
        xx, xy, yx, yy, ox, oy = self._xx, self._xy, self._yx, self._yy, self._ox, self._oy
        self._draw.polygon([(ox + xx * x + xy * y, oy + yx * x + yy * y) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: RGB, round_by: float = 0.0) -> None:
        """Draw a filled box with corners of radius ``round_by``."""
        if round_by <= 0:
            self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), colour)
            return
        r = min(round_by, (right - left) / 2, (bottom - top) / 2)
        centres = ((right - r, bottom - r), (left + r, bottom - r), (left + r, top + r), (right - r, top + r))
        self.polygon([(x + r * dx, y + r * dy) for i, (x, y) in enumerate(centres) for dx, dy in quarter(i)], colour)

    def disc(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """Draw a filled circle; ``wide`` and ``tilt`` do not change it, so Pillow's fast ellipse serves."""
        px, py = self._ox + self._xx * x + self._xy * y, self._oy + self._yx * x + self._yy * y
        r = radius * self._scale
        self._draw.ellipse((px - r, py - r, px + r, py + r), fill=colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: RGB) -> None:
        """Draw a circle of the given outer ``radius``, as a line of the given ``width``."""
        px, py = self.place(x, y)
        r = radius * self._scale
        self._draw.ellipse((px - r, py - r, px + r, py + r), outline=colour, width=max(1, round(width * self._scale)))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB, turn: float = 0.0) -> None:
        """Draw a filled ellipse with the half axes ``rx`` and ``ry``, rotated clockwise by ``turn`` radians."""
        c, s = cos(turn), sin(turn)
        axes = np.array([[c * rx, s * rx], [-s * ry, c * ry]])
        self._fill(circle() @ (axes @ self._turn) + self.place(x, y), colour)

    def blob(self, points: Outline, colour: RGB) -> None:
        """Draw a filled smooth shape through the points (a closed Catmull-Rom spline)."""
        placed = np.array(points, float) @ self._turn + self._origin
        self._fill(spline(len(points), closed=True) @ placed, colour)

    def line(self, points: Outline, width: float, colour: RGB) -> None:
        """Draw a line with round ends and joints."""
        placed = [self.place(x, y) for x, y in points]
        self._stroke(placed, placed, width, colour)

    def curve(self, points: Outline, width: float, colour: RGB) -> None:
        """Draw a smooth line through the points."""
        placed = np.array(points, float) @ self._turn + self._origin
        smooth = [(x, y) for x, y in (spline(len(points), closed=False) @ placed).tolist()]
        self._stroke(smooth, smooth[:: FINE // 2], width, colour)

    def _fill(self, pixels: np.ndarray, colour: RGB) -> None:
        self._draw.polygon(pixels.ravel().tolist(), fill=colour)

    def _stroke(self, pixels: list[Point], joints: list[Point], width: float, colour: RGB) -> None:
        broad = max(1, round(width * self._scale))
        self._draw.line(pixels, fill=colour, width=broad)
        if broad > 3:  # round and square ends of thinner lines look the same
            r = broad / 2 - 0.5
            for x, y in joints:
                self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


@cache
def circle(count: int = 28) -> np.ndarray:
    """Return ``count`` points (count, 2) on the circle of radius 1."""
    angle = 2 * pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@cache
def quarter(which: int) -> list[Point]:
    """Return five points on a quarter of the circle of radius 1."""
    return [(cos(pi / 2 * (which + i / 4)), sin(pi / 2 * (which + i / 4))) for i in range(5)]


@cache
def spline(count: int, closed: bool) -> np.ndarray:
    """Return the matrix (points out, points in) of a Catmull-Rom spline through ``count`` points, six per segment.

    >>> (spline(2, closed=False) @ [[0, 0], [1, 1]])[3].tolist()
    [0.5, 0.5]
    """
    t = np.arange(FINE) / FINE
    weights = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]) / 2
    spans = count if closed else count - 1
    matrix = np.zeros((spans * FINE + (not closed), count))
    for span in range(spans):
        for k in range(4):
            at = (span + k - 1) % count if closed else min(max(span + k - 1, 0), count - 1)
            matrix[span * FINE : (span + 1) * FINE, at] += weights[k]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def paper_for(
    extent: tuple[float, float, float, float], scale: float, tilt: float, wide: float
) -> tuple[int, int, Point]:
    """Return width and height (even, pixels) of a paper that holds the ``extent``, and the origin on it."""
    left, top, right, bottom = extent
    c, s = cos(tilt), sin(tilt)
    xs = [c * x - s * y for x in (wide * left, wide * right) for y in (top, bottom)]
    ys = [s * x + c * y for x in (wide * left, wide * right) for y in (top, bottom)]
    margin = 4
    width = 2 * ceil(((max(xs) - min(xs)) * scale) / 2 + margin)
    height = 2 * ceil(((max(ys) - min(ys)) * scale) / 2 + margin)
    return width, height, (margin - min(xs) * scale, margin - min(ys) * scale)
