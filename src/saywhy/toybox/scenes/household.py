"""Mug, key, clock, guitar and lamp."""

from math import cos, pi, sin

from saywhy.toybox.scenes.colour import CREAM, GOLD, INK, STEEL, WOOD, Tone, mix
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom

COFFEE = (112, 70, 52)


def mug(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A mug with a handle, often steaming."""
    pen.curve(((0.4, -0.28), (0.85, -0.32), (0.98, 0.12), (0.8, 0.52), (0.4, 0.56)), 0.2, tone.dark)
    pen.curve(((0.4, -0.3), (0.83, -0.34), (0.95, 0.1), (0.78, 0.5), (0.4, 0.54)), 0.13, tone.base)
    pen.box(-0.66, -0.5, 0.54, 0.98, tone.base, 0.22)
    pen.box(0.3, -0.3, 0.5, 0.9, tone.dark, 0.1)
    pen.box(-0.56, -0.3, -0.42, 0.8, tone.light, 0.07)
    pen.oval(-0.06, -0.48, 0.6, 0.16, tone.light)
    pen.oval(-0.06, -0.46, 0.51, 0.11, COFFEE)
    pen.oval(-0.14, -0.44, 0.2, 0.04, (176, 124, 90))
    mark = CREAM if sum(tone.base) < 620 else (216, 96, 96)
    pattern = rng.integer(0, 2)
    if pattern == 0:
        pen.blob(((-0.06, 0.56), (-0.34, 0.24), (-0.24, 0.04), (-0.06, 0.14), (0.12, 0.04), (0.22, 0.24)), mark)
    elif pattern == 1:
        for y in (0.16, 0.4):
            pen.line(((-0.6, y), (0.48, y)), 0.1, mark)
    else:
        for x, y in ((-0.4, 0.1), (-0.06, 0.26), (0.26, 0.1), (-0.4, 0.56), (0.26, 0.56), (-0.06, 0.72)):
            pen.disc(x, y, 0.09, mark)
    if rng.bernoulli(0.7):
        for x in (-0.26, 0.12):
            pen.curve(((x, -0.62), (x + 0.09, -0.72), (x - 0.05, -0.84), (x + 0.05, -0.98)), 0.055, (255, 255, 255))


def key(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """An old key with a ring and teeth."""
    long = rng.uniform(0.86, 0.96)
    for shade, dy, width in ((tone.dark, 0.03, 0.15), (tone.base, 0.0, 0.13)):
        pen.line(((-0.25, dy), (long, dy)), width, shade)
        for x, drop in ((long - 0.06, 0.32), (long - 0.26, 0.24), (long - 0.44, 0.3)):
            pen.line(((x, dy), (x, dy + drop)), 0.11, shade)
    pen.line(((-0.2, -0.03), (long, -0.03)), 0.04, tone.light)
    pen.box(-0.28, -0.13, -0.16, 0.13, tone.dark, 0.04)
    if rng.bernoulli(0.5):
        pen.ring(-0.6, 0, 0.37, 0.15, tone.base)
        pen.ring(-0.6, 0, 0.37, 0.035, tone.dark)
    else:
        for angle in (pi / 2, pi, -pi / 2):
            pen.ring(-0.55 + 0.2 * cos(angle), 0.2 * sin(angle), 0.23, 0.11, tone.base)
    pen.disc(-0.78, -0.2, 0.05, tone.light)
    if rng.bernoulli(0.6):
        ribbon = rng.choice(((216, 68, 62), (74, 132, 204), (98, 168, 84)))
        pen.curve(((-0.92, 0.04), (-0.98, 0.2), (-0.84, 0.34), (-0.92, 0.48)), 0.07, ribbon)


def clock(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """An alarm clock with two bells."""
    for side in (-1, 1):
        pen.line(((side * 0.4, 0.66), (side * 0.56, 0.96)), 0.13, tone.dark)
        pen.oval(side * 0.5, -0.68, 0.3, 0.2, tone.light, side * 0.65)
        pen.oval(side * 0.45, -0.6, 0.26, 0.13, tone.dark, side * 0.65)
    pen.line(((0, -0.9), (0, -0.6)), 0.07, STEEL)
    pen.disc(0, -0.9, 0.09, STEEL)
    pen.disc(0, 0.12, 0.76, tone.base)
    pen.disc(0.02, 0.15, 0.63, tone.dark)
    pen.disc(0, 0.12, 0.6, CREAM)
    for hour in range(12):
        angle = pi * hour / 6
        inner = 0.43 if hour % 3 == 0 else 0.48
        c, s = cos(angle), sin(angle)
        pen.line(((inner * c, 0.12 + inner * s), (0.53 * c, 0.12 + 0.53 * s)), 0.06 if hour % 3 == 0 else 0.03, INK)
    minutes = rng.uniform(0, 720)
    for angle, reach, width in ((pi * minutes / 360, 0.27, 0.09), (pi * minutes / 30, 0.42, 0.06)):
        pen.line(((0, 0.12), (reach * sin(angle), 0.12 - reach * cos(angle))), width, INK)
    pen.disc(0, 0.12, 0.07, (216, 68, 62))
    pen.curve(((-0.62, -0.14), (-0.5, -0.36), (-0.28, -0.52)), 0.06, tone.light)


def guitar(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A guitar that stands upright; its body has the colour."""
    waist = rng.uniform(0.27, 0.34)
    pen.box(-0.075, -0.78, 0.075, 0.2, (112, 74, 54))
    for y in (-0.66, -0.52, -0.4, -0.28, -0.17):
        pen.line(((-0.07, y), (0.07, y)), 0.02, STEEL)
    pen.polygon(((-0.09, -0.76), (-0.13, -1), (0.13, -1), (0.09, -0.76)), WOOD)
    for side in (-1, 1):
        for y in (-0.95, -0.86):
            pen.disc(side * 0.16, y, 0.04, CREAM)
    body = [(0, -0.14), (0.3, -0.1), (0.38, 0.12), (waist, 0.32), (0.5, 0.6), (0.4, 0.92), (0, 1)]
    outline = [*body, *[(-x, y) for x, y in body[-2:0:-1]]]
    pen.blob(outline, tone.dark)
    pen.blob([(x * 0.9, 0.43 + (y - 0.43) * 0.92) for x, y in outline], tone.base)
    pen.blob(((-0.34, 0.6), (-0.2, 0.42), (-0.16, 0.6), (-0.26, 0.82)), tone.light)
    pen.disc(0, 0.3, 0.17, mix(tone.dark, INK, 0.5))
    pen.ring(0, 0.3, 0.2, 0.035, CREAM)
    pen.box(-0.18, 0.7, 0.18, 0.78, (96, 62, 50), 0.03)
    pen.box(-0.065, -0.14, 0.065, 0.18, (112, 74, 54))
    for x in (-0.04, 0, 0.04):
        pen.line(((x, -0.92), (x, 0.74)), 0.014, (250, 240, 214))


def lamp(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A table lamp; its shade has the colour."""
    foot = rng.choice((GOLD, WOOD, STEEL, (120, 150, 160)))
    flare = rng.uniform(0.62, 0.76)
    pen.oval(0, 0.92, 0.4, 0.09, mix(foot, INK, 0.35))
    pen.oval(0, 0.88, 0.38, 0.08, foot)
    if rng.bernoulli(0.5):
        pen.blob(((0, 0.05), (0.12, 0.2), (0.26, 0.52), (0.14, 0.86), (-0.14, 0.86), (-0.26, 0.52), (-0.12, 0.2)), foot)
        pen.oval(-0.1, 0.5, 0.05, 0.16, mix(foot, CREAM, 0.6))
    else:
        pen.line(((0, 0.0), (0, 0.88)), 0.12, foot)
        pen.disc(0, 0.48, 0.13, foot)
    pen.line(((0.3, 0.04), (0.3, 0.3)), 0.025, INK)
    pen.disc(0.3, 0.33, 0.045, GOLD)
    pen.polygon(((-0.32, -0.94), (0.32, -0.94), (flare, 0.06), (-flare, 0.06)), tone.base)
    pen.polygon(((-0.18, -0.94), (0.06, -0.94), (0.14, 0.06), (-0.36, 0.06)), mix(tone.light, (255, 244, 190), 0.4))
    pen.oval(0, 0.06, flare, 0.09, (255, 240, 176))
    pen.line(((-0.32, -0.92), (0.32, -0.92)), 0.07, tone.dark)
    if rng.bernoulli(0.5):
        pen.line(((-flare * 0.93, -0.06), (flare * 0.93, -0.06)), 0.06, tone.dark)
