"""Kite, mushroom, teapot and rocket: kinds that occur in the split "unseen" only."""

from saywhy.toybox.scenes.colour import CREAM, GLASS, GOLD, INK, STEEL, WOOD, Tone
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom


def kite(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A kite with a tail of bows."""
    sway = rng.uniform(-0.2, 0.2)
    tail = ((0, 0.3), (0.16 + sway, 0.52), (-0.12 + sway, 0.74), (0.1 + sway, 0.98))
    pen.curve(tail, 0.035, WOOD)
    second = CREAM if rng.bernoulli(0.5) else GOLD
    pen.polygon(((0, -1), (0.62, -0.4), (0, 0.34), (-0.62, -0.4)), tone.base)
    pen.polygon(((0, -1), (0.62, -0.4), (0, -0.4)), second)
    pen.polygon(((0, 0.34), (-0.62, -0.4), (0, -0.4)), second)
    pen.line(((0, -0.98), (0, 0.32)), 0.04, WOOD)
    pen.line(((-0.6, -0.4), (0.6, -0.4)), 0.04, WOOD)
    for (x, y), shade in zip(tail[1:], (tone.base, second, tone.base), strict=True):
        pen.polygon(((x, y), (x - 0.16, y - 0.09), (x - 0.16, y + 0.09)), shade)
        pen.polygon(((x, y), (x + 0.16, y - 0.09), (x + 0.16, y + 0.09)), shade)


def mushroom(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A toadstool with spots."""
    fat = rng.uniform(0.22, 0.32)
    pen.blob(
        ((-fat, -0.1), (fat, -0.1), (fat * 0.9, 0.5), (fat * 1.4, 0.95), (-fat * 1.4, 0.95), (-fat * 0.9, 0.5)), CREAM
    )
    pen.oval(fat * 0.6, 0.5, 0.08, 0.4, (222, 204, 184))
    pen.blob(
        ((-0.98, 0.0), (-0.8, -0.6), (0, -0.98), (0.8, -0.6), (0.98, 0.0), (0.5, 0.12), (0, 0.08), (-0.5, 0.12)),
        tone.base,
    )
    pen.blob(((-0.9, 0.04), (0, -0.06), (0.9, 0.04), (0, 0.16)), tone.dark)
    for x, y, r in ((-0.5, -0.3, 0.15), (0.02, -0.62, 0.17), (0.5, -0.34, 0.16), (0, -0.2, 0.11), (-0.3, -0.7, 0.08)):
        pen.oval(x, y, r, r * 0.8, (255, 252, 240))
    pen.blob(((-0.3, 0.3), (0, 0.22), (0.3, 0.3), (0.26, 0.44), (0, 0.38), (-0.26, 0.44)), (236, 222, 200))


def teapot(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A round teapot with a spout."""
    pen.curve(((-0.45, -0.12), (-0.9, -0.22), (-0.95, 0.3), (-0.5, 0.5)), 0.14, tone.dark)
    pen.blob(((0.4, 0.2), (0.66, 0.0), (0.78, -0.36), (1, -0.42), (0.92, -0.1), (0.72, 0.42), (0.4, 0.6)), tone.base)
    pen.blob(
        ((0, -0.4), (0.5, -0.22), (0.66, 0.24), (0.4, 0.74), (-0.4, 0.74), (-0.66, 0.24), (-0.5, -0.22)), tone.base
    )
    pen.oval(0, 0.76, 0.36, 0.08, tone.dark)
    pen.oval(0, -0.36, 0.36, 0.12, tone.dark)
    pen.oval(0, -0.4, 0.33, 0.13, tone.light)
    pen.disc(0, -0.58, 0.1, GOLD)
    pen.oval(-0.34, 0.04, 0.1, 0.2, tone.light, 0.4)
    mark = CREAM if sum(tone.base) < 620 else (216, 96, 96)
    for x, y in ((0.12, 0.1), (0.28, 0.26), (0.12, 0.42), (-0.04, 0.26)):
        pen.disc(x, y, 0.1, mark)
    pen.disc(0.12, 0.26, 0.08, GOLD)
    if rng.bernoulli(0.6):
        pen.curve(((0.96, -0.52), (0.9, -0.66), (1, -0.76), (0.94, -0.9)), 0.05, (255, 255, 255))


def rocket(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A rocket that has just lifted off."""
    flame = rng.uniform(0.82, 1.0)
    pen.blob(((-0.2, 0.5), (0.2, 0.5), (0.16, 0.7), (0, flame), (-0.16, 0.7)), (244, 140, 50))
    pen.blob(((-0.1, 0.5), (0.1, 0.5), (0.07, 0.64), (0, 0.8), (-0.07, 0.64)), (255, 226, 120))
    for side in (-1, 1):
        pen.blob(((side * 0.2, 0.05), (side * 0.58, 0.36), (side * 0.6, 0.64), (side * 0.2, 0.48)), tone.dark)
    pen.blob(((0, -1), (0.26, -0.6), (0.34, -0.1), (0.24, 0.52), (-0.24, 0.52), (-0.34, -0.1), (-0.26, -0.6)), CREAM)
    pen.blob(((0.12, -0.7), (0.26, -0.5), (0.32, -0.1), (0.22, 0.5), (0.1, 0.5), (0.18, -0.1)), (222, 208, 200))
    pen.blob(((0, -1), (0.17, -0.78), (0.25, -0.54), (0, -0.48), (-0.25, -0.54), (-0.17, -0.78)), tone.base)
    pen.box(-0.28, 0.34, 0.28, 0.5, tone.base, 0.05)
    pen.disc(0, -0.16, 0.19, STEEL)
    pen.disc(0, -0.16, 0.13, GLASS)
    pen.disc(-0.04, -0.2, 0.05, (255, 255, 255))
    pen.line(((-0.18, 0.18), (0.18, 0.18)), 0.03, INK)
