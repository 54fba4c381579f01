"""The paper on which a background is painted, and the strokes that several of them share."""

from functools import cache
from math import ceil

import numpy as np
from PIL import Image

from saywhy.toybox.scenes.colour import RGB, mix
from saywhy.toybox.scenes.pen import Pen, spline
from saywhy.toybox.scenes.seeded_random import SeededRandom

WHITE: RGB = (255, 255, 255)


class Easel:
    """A square paper of ``side`` pixels with a pen; both coordinates of the pen run from 0 to 1."""

    def __init__(self, side: int) -> None:
        self.paper = Image.new("RGB", (side, side))
        self.pen = Pen(self.paper, scale=side)

    def wash(self, top: float, bottom: float, first: RGB, last: RGB) -> None:
        """Fill from ``top`` to ``bottom`` (0 to 1), the colour running from ``first`` to ``last``."""
        side = self.paper.width
        rows = max(1, ceil(bottom * side) - int(top * side))
        stripe = np.zeros((rows, 4), np.uint8)
        stripe[:, :3] = np.asarray(first, np.float32) + _ramp(rows) * np.subtract(last, first, dtype=np.float32)
        # Four bytes per pixel, the last unused, as Pillow stores RGB: it copies them without a conversion.
        pixels = np.repeat(stripe.view(np.uint32), side, axis=1)
        self.paper.paste(Image.frombuffer("RGB", (side, rows), pixels, "raw", "RGBX", 0, 1), (0, int(top * side)))

    def ridge(self, rng: SeededRandom, height: float, swing: float, colour: RGB, bumps: int = 5) -> None:
        """Draw hills: a band below a smooth line around ``height``; its lower part is painted over."""
        line = [(i / bumps, height + rng.uniform(-swing, swing)) for i in range(-1, bumps + 2)]
        crest = (spline(len(line), closed=False) @ np.array(line)).tolist()
        foot = height + swing + 0.2
        self.pen.polygon([*crest, (1.4, foot), (-0.4, foot)], colour)

    def clouds(self, rng: SeededRandom, lowest: float, colour: RGB = WHITE) -> None:
        """Draw up to three clouds above ``lowest``."""
        for _ in range(rng.integer(1, 3)):
            x, y, r = rng.uniform(0, 1), rng.uniform(0.05, lowest), rng.uniform(0.025, 0.05)
            shade = mix(colour, (150, 160, 200), 0.18)
            for dx, dy, share in ((-1.7, 0.3, 0.75), (1.7, 0.35, 0.7), (-0.6, -0.3, 1.05), (0.8, -0.1, 0.95)):
                self.pen.disc(x + dx * r, y + dy * r + 0.3 * r, share * r, shade)
            for dx, dy, share in ((-1.7, 0.2, 0.7), (1.7, 0.25, 0.65), (-0.6, -0.4, 1.0), (0.8, -0.2, 0.9)):
                self.pen.disc(x + dx * r, y + dy * r, share * r, colour)

    def sun(self, rng: SeededRandom, colour: RGB, halo: RGB) -> None:
        """Draw a sun or a moon with a halo, in the upper third."""
        x, y = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.22)
        self.pen.disc(x, y, 0.085, halo)
        self.pen.disc(x, y, 0.062, colour)

    def specks(
        self, rng: SeededRandom, count: int, top: float, bottom: float, size: float, colours: tuple[RGB, ...]
    ) -> None:
        """Draw random dots between ``top`` and ``bottom``: blossoms, pebbles, stars, flakes."""
        for _ in range(count):
            self.pen.disc(rng.random(), rng.uniform(top, bottom), size * rng.uniform(0.6, 1.3), rng.choice(colours))


@cache
def _ramp(rows: int) -> np.ndarray:
    """Return 0 to 1 down a column, float32 (rows, 1)."""
    return np.linspace(0, 1, rows, dtype=np.float32)[:, None]
