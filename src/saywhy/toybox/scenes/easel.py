"""The paper on which a background is painted, and the strokes that several of them share."""

from functools import cache
from math import ceil

import numpy as np
from PIL import Image

from saywhy.toybox.scenes.colour import RGB, mix
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.pen import Pen, spline

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
        # Four bytes a pixel, the last unused: so Pillow keeps RGB itself, and copies it without a conversion.
        pixels = np.repeat(stripe.view(np.uint32), side, axis=1)
        self.paper.paste(Image.frombuffer("RGB", (side, rows), pixels, "raw", "RGBX", 0, 1), (0, int(top * side)))

    def ridge(self, dice: Dice, height: float, swing: float, colour: RGB, bumps: int = 5) -> None:
        """Hills: a band below a smooth line that swings about ``height``, deep enough to be painted over lower down."""
        line = [(i / bumps, height + dice.between(-swing, swing)) for i in range(-1, bumps + 2)]
        crest = (spline(len(line), closed=False) @ np.array(line)).tolist()
        foot = height + swing + 0.2
        self.pen.polygon([*crest, (1.4, foot), (-0.4, foot)], colour)

    def clouds(self, dice: Dice, lowest: float, colour: RGB = WHITE) -> None:
        """Up to three clouds above ``lowest``."""
        for _ in range(dice.whole(1, 3)):
            x, y, r = dice.between(0, 1), dice.between(0.05, lowest), dice.between(0.025, 0.05)
            shade = mix(colour, (150, 160, 200), 0.18)
            for dx, dy, share in ((-1.7, 0.3, 0.75), (1.7, 0.35, 0.7), (-0.6, -0.3, 1.05), (0.8, -0.1, 0.95)):
                self.pen.disc(x + dx * r, y + dy * r + 0.3 * r, share * r, shade)
            for dx, dy, share in ((-1.7, 0.2, 0.7), (1.7, 0.25, 0.65), (-0.6, -0.4, 1.0), (0.8, -0.2, 0.9)):
                self.pen.disc(x + dx * r, y + dy * r, share * r, colour)

    def sun(self, dice: Dice, colour: RGB, halo: RGB) -> None:
        """A sun or a moon with a halo, in the upper third."""
        x, y = dice.between(0.1, 0.9), dice.between(0.08, 0.22)
        self.pen.disc(x, y, 0.085, halo)
        self.pen.disc(x, y, 0.062, colour)

    def specks(self, dice: Dice, count: int, top: float, bottom: float, size: float, colours: tuple[RGB, ...]) -> None:
        """Dots at random between ``top`` and ``bottom``: blossoms, pebbles, stars, flakes."""
        for _ in range(count):
            self.pen.disc(dice.roll(), dice.between(top, bottom), size * dice.between(0.6, 1.3), dice.pick(colours))


@cache
def _ramp(rows: int) -> np.ndarray:
    """0 to 1 down a column, float32 (rows, 1)."""
    return np.linspace(0, 1, rows, dtype=np.float32)[:, None]
