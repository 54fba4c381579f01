"""Car, bus, boat, bicycle and hot-air balloon, seen from the side; they drive to the right."""

from math import cos, pi, sin

from saywhy.toybox.scenes.colour import CREAM, GLASS, GOLD, INK, STEEL, WOOD, Tone, mix
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom

RUBBER = (62, 56, 64)
SHINE = (236, 248, 252)


def wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    """A tyre with a bright hub cap."""
    pen.disc(x, y, radius, RUBBER)
    pen.disc(x, y, radius * 0.56, (214, 216, 222))
    pen.disc(x, y, radius * 0.24, (128, 130, 142))


def car(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A small round car."""
    roof = rng.uniform(-0.62, -0.5)
    back = rng.uniform(-0.72, -0.5)
    pen.blob(
        ((back - 0.14, -0.02), (back + 0.1, roof + 0.04), (-0.1, roof - 0.06), (0.22, roof), (0.56, 0.0)), tone.base
    )
    pen.box(-0.96, -0.12, 0.96, 0.4, tone.base, 0.2)
    pen.box(-0.94, 0.2, 0.94, 0.4, tone.dark, 0.1)
    pen.polygon(((back + 0.08, -0.08), (back + 0.2, roof + 0.14), (-0.1, roof + 0.08), (-0.1, -0.08)), GLASS)
    pen.polygon(((-0.02, -0.08), (-0.02, roof + 0.08), (0.16, roof + 0.14), (0.38, -0.08)), GLASS)
    pen.polygon(((0.04, -0.08), (0.1, roof + 0.12), (0.17, roof + 0.14), (0.16, -0.08)), SHINE)
    pen.line(((-0.06, -0.06), (-0.06, 0.3)), 0.03, tone.dark)
    pen.line(((-0.24, 0.02), (-0.14, 0.02)), 0.05, tone.line)
    pen.box(-0.8, -0.02, 0.86, 0.04, tone.light)
    pen.oval(0.9, 0.05, 0.07, 0.1, (255, 240, 178))
    pen.box(-0.97, -0.02, -0.88, 0.12, (206, 58, 54), 0.03)
    pen.box(-1, 0.28, -0.8, 0.38, STEEL, 0.05)
    pen.box(0.8, 0.28, 1, 0.38, STEEL, 0.05)
    for x in (-0.54, 0.54):
        pen.disc(x, 0.36, 0.27, tone.line)
        wheel(pen, x, 0.38, 0.23)


def bus(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A bus with a row of windows; some have two decks."""
    decks = 2 if rng.bernoulli(0.4) else 1
    top = -0.82 if decks == 2 else -0.46
    pen.box(-0.98, top, 0.98, 0.5, tone.base, 0.14)
    pen.box(-0.9, top, 0.9, top + 0.08, tone.light, 0.04)
    pen.box(-0.98, 0.16, 0.98, 0.26, CREAM)
    pen.box(-0.96, 0.36, 0.96, 0.5, tone.dark, 0.08)
    windows = rng.integer(4, 5)
    step = 1.42 / windows
    for deck in range(decks):
        y = -0.32 - 0.42 * deck
        for i in range(windows):
            x = -0.88 + i * step
            pen.box(x, y, x + step - 0.07, y + 0.3, GLASS, 0.05)
            pen.polygon(((x + 0.04, y + 0.28), (x + 0.12, y + 0.02), (x + 0.18, y + 0.02), (x + 0.1, y + 0.28)), SHINE)
    pen.box(0.6, -0.32, 0.92, 0.34, GLASS, 0.05)
    pen.line(((0.76, -0.3), (0.76, 0.34)), 0.04, tone.dark)
    if decks == 2:
        pen.box(0.6, -0.74, 0.94, -0.44, GLASS, 0.05)
    pen.oval(0.93, 0.36, 0.06, 0.07, (255, 240, 178))
    for x in (-0.58, 0.42):
        pen.disc(x, 0.5, 0.22, tone.line)
        wheel(pen, x, 0.52, 0.19)


def boat(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A sailing boat; its hull has the colour."""
    sail = CREAM if rng.bernoulli(0.7) else tone.light
    tall = rng.uniform(-1.0, -0.85)
    pen.line(((0, tall), (0, 0.45)), 0.07, WOOD)
    pen.blob(((0.08, tall + 0.1), (0.46, -0.3), (0.72, 0.28), (0.36, 0.3), (0.08, 0.3), (0.1, -0.3)), sail)
    pen.polygon(((0.09, -0.05), (0.56, -0.05), (0.65, 0.1), (0.09, 0.1)), tone.base)
    pen.polygon(((-0.08, tall + 0.24), (-0.62, 0.28), (-0.08, 0.28)), mix(sail, (214, 190, 160), 0.4))
    pen.polygon(((0, tall), (0, tall + 0.17), (-0.3, tall + 0.1)), (216, 68, 62))
    pen.blob(
        ((-0.98, 0.4), (-0.3, 0.46), (0.4, 0.46), (1, 0.36), (0.78, 0.82), (0.56, 0.95), (-0.55, 0.95), (-0.8, 0.8)),
        tone.base,
    )
    pen.line(((-0.88, 0.5), (0.88, 0.48)), 0.08, CREAM)
    pen.box(-0.72, 0.78, 0.72, 0.93, tone.dark, 0.07)
    for x in (-0.4, 0.0, 0.4):
        pen.disc(x, 0.66, 0.085, tone.line)
        pen.disc(x, 0.66, 0.055, GLASS)


def bicycle(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A bicycle; its frame has the colour."""
    for x in (-0.58, 0.58):
        for spoke in range(6):
            dx, dy = 0.36 * cos(pi * spoke / 6), 0.36 * sin(pi * spoke / 6)
            pen.line(((x - dx, 0.38 - dy), (x + dx, 0.38 + dy)), 0.018, STEEL)
        pen.ring(x, 0.38, 0.42, 0.085, RUBBER)
        pen.ring(x, 0.38, 0.345, 0.035, (222, 222, 226))
        pen.disc(x, 0.38, 0.06, RUBBER)
    saddle, crank, head = (-0.26, -0.3), (-0.06, 0.38), (0.4, -0.28)
    for frame in ((crank, (-0.58, 0.38), saddle, crank, head, saddle), (head, (0.58, 0.38))):
        pen.line(frame, 0.085, tone.base)
    pen.line((saddle, (-0.3, -0.44)), 0.06, STEEL)
    pen.blob(((-0.5, -0.54), (-0.2, -0.52), (-0.1, -0.45), (-0.3, -0.42), (-0.48, -0.42)), WOOD)
    pen.line((head, (0.35, -0.52)), 0.06, STEEL)
    pen.curve(((0.2, -0.58), (0.38, -0.56), (0.56, -0.54), (0.5, -0.4)), 0.06, INK)
    pen.disc(crank[0], crank[1], 0.11, STEEL)
    pen.line(((-0.16, 0.52), (0.04, 0.24)), 0.05, INK)
    if rng.bernoulli(0.45):
        pen.box(0.5, -0.36, 0.86, -0.06, (206, 158, 100), 0.06)
        pen.line(((0.52, -0.24), (0.84, -0.24)), 0.03, WOOD)
        pen.disc(0.6, -0.4, 0.08, (244, 146, 172))
        pen.disc(0.75, -0.4, 0.08, (250, 206, 74))


def balloon(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A hot-air balloon with a basket."""
    second = CREAM if rng.bernoulli(0.6) else GOLD
    for x in (-0.2, 0.2):
        pen.line(((x * 1.7, 0.3), (x, 0.72)), 0.03, WOOD)
    pen.blob(
        (
            (0, -1),
            (0.56, -0.82),
            (0.74, -0.34),
            (0.5, 0.14),
            (0.22, 0.44),
            (-0.22, 0.44),
            (-0.5, 0.14),
            (-0.74, -0.34),
            (-0.56, -0.82),
        ),
        tone.base,
    )
    for side in (-1, 1):
        pen.blob(
            (
                (0, -0.99),
                (side * 0.4, -0.7),
                (side * 0.46, -0.3),
                (side * 0.15, 0.4),
                (side * 0.06, 0.4),
                (side * 0.18, -0.3),
            ),
            second,
        )
    pen.blob(((0, -0.99), (0.16, -0.6), (0.16, -0.2), (0, 0.42), (-0.16, -0.2), (-0.16, -0.6)), tone.base)
    if rng.bernoulli(0.5):
        pen.blob(((-0.73, -0.38), (0, -0.24), (0.73, -0.38), (0.66, -0.12), (0, 0.02), (-0.66, -0.12)), tone.dark)
    pen.box(-0.2, 0.4, 0.2, 0.47, tone.dark, 0.03)
    pen.box(-0.24, 0.7, 0.24, 1, (190, 140, 86), 0.07)
    pen.line(((-0.22, 0.74), (0.22, 0.74)), 0.07, WOOD)
    pen.line(((-0.2, 0.87), (0.2, 0.87)), 0.03, WOOD)
