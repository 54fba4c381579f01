"""Tree, flower, apple, house and umbrella."""

from math import cos, pi, sin

from saywhy.toybox.scenes.colour import CREAM, GLASS, GOLD, INK, LEAF, WOOD, Tone, mix
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom

BARK = (134, 92, 62)
LIT = (255, 226, 140)


def tree(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A tree with a cloud of leaves; the leaves have the colour."""
    wide = rng.uniform(0.13, 0.19)
    pen.polygon(((-wide, 1), (-wide * 0.6, 0.0), (wide * 0.6, 0.0), (wide, 1)), BARK)
    pen.line(((0, 0.35), (0.3, 0.02)), 0.09, BARK)
    pen.line(((wide * 0.5, 0.9), (wide * 0.35, 0.3)), 0.05, mix(BARK, INK, 0.35))
    crown = [(-0.44, -0.1), (0.42, -0.14), (-0.36, -0.52), (0.36, -0.54), (0, -0.7), (0, -0.26)]
    crown = [(x + rng.uniform(-0.07, 0.07), y + rng.uniform(-0.05, 0.05)) for x, y in crown]
    for x, y in crown[:5]:
        pen.disc(x, y + 0.06, 0.38, tone.dark)
    for x, y in crown:
        pen.disc(x, y - 0.02, 0.33, tone.base)
    for x, y in crown[2:]:
        pen.disc(x - 0.06, y - 0.1, 0.17, tone.light)
    for x, y in crown[1:]:
        pen.curve(((x - 0.1, y + 0.14), (x, y + 0.19), (x + 0.1, y + 0.14)), 0.035, tone.dark)
    if rng.bernoulli(0.45):
        fruit = rng.choice(((216, 68, 62), GOLD, (250, 222, 230)))
        for x, y in crown:
            pen.disc(x + rng.uniform(-0.2, 0.2), y + rng.uniform(-0.1, 0.22), 0.07, fruit)


def flower(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A flower on a stem; its petals have the colour."""
    bend = rng.uniform(-0.16, 0.16)
    pen.curve(((bend, 1), (bend * 0.2, 0.4), (0, -0.3)), 0.1, LEAF)
    for side, y in ((-1, 0.62), (1, 0.42)):
        pen.blob(((bend * 0.3, y + 0.14), (side * 0.26, y - 0.16), (side * 0.58, y - 0.2), (side * 0.4, y + 0.1)), LEAF)
        pen.line(((bend * 0.3, y + 0.1), (side * 0.42, y - 0.1)), 0.03, (64, 124, 66))
    petals = rng.integer(5, 8)
    turn = rng.uniform(0, pi)
    reach = 0.34
    for ring, colour, half in ((0.0, tone.base, 1.0), (0.0, tone.light, 0.55)):
        for i in range(petals):
            angle = turn + ring + 2 * pi * i / petals
            x, y = reach * cos(angle), -0.42 + reach * sin(angle)
            pen.oval(x, y, 0.25 * half, 0.95 / petals * half + 0.02, colour, angle)
    heart = (250, 196, 60) if tone.base[0] < 235 or tone.base[1] < 190 else (150, 92, 56)
    pen.disc(0, -0.42, 0.2, heart)
    pen.disc(-0.04, -0.46, 0.11, mix(heart, (255, 250, 220), 0.45))
    if rng.bernoulli(0.4):  # a ladybird has sat down
        pen.disc(0.3, 0.24, 0.07, (216, 68, 62))
        pen.disc(0.35, 0.24, 0.035, INK)


def apple(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """An apple with a leaf."""
    waist = rng.uniform(0.74, 0.86)
    pen.blob(
        (
            (0, -0.5),
            (0.36, -0.66),
            (waist, -0.36),
            (waist, 0.2),
            (0.46, 0.84),
            (0.16, 0.98),
            (0, 0.92),
            (-0.16, 0.98),
            (-0.46, 0.84),
            (-waist, 0.2),
            (-waist, -0.36),
            (-0.36, -0.66),
        ),
        tone.base,
    )
    pen.blob(((0.5, -0.5), (waist - 0.04, -0.2), (waist - 0.06, 0.3), (0.4, 0.82), (0.5, 0.2)), tone.dark)
    pen.oval(0, -0.5, 0.24, 0.09, tone.dark)
    pen.oval(-0.46, -0.2, 0.13, 0.24, tone.light, 0.4)
    pen.disc(-0.5, -0.3, 0.06, (255, 255, 255))
    pen.curve(((0, -0.48), (0.03, -0.75), (0.14, -0.96)), 0.1, WOOD)
    pen.blob(((0.1, -0.72), (0.34, -0.98), (0.68, -0.92), (0.44, -0.68)), LEAF)
    pen.line(((0.14, -0.72), (0.52, -0.88)), 0.03, (64, 124, 66))
    if rng.bernoulli(0.3):
        pen.disc(0.18, 0.3, 0.1, tone.line)
        pen.curve(((0.18, 0.3), (0.3, 0.2), (0.36, 0.34)), 0.1, (160, 200, 90))


def house(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A little house; its roof has the colour."""
    wall = rng.choice((CREAM, (248, 226, 196), (232, 214, 200), (250, 236, 190)))
    side = rng.choice((-0.5, 0.36))
    pen.box(side, -0.92, side + 0.2, -0.4, (176, 98, 80))
    pen.box(side - 0.04, -0.96, side + 0.24, -0.86, (140, 76, 66))
    pen.box(-0.74, -0.22, 0.74, 1, wall)
    pen.box(-0.74, -0.22, 0.74, -0.08, mix(wall, (120, 80, 90), 0.35))
    pen.box(-0.74, 0.88, 0.74, 1, mix(wall, (110, 84, 84), 0.5))
    pen.polygon(((-0.98, -0.16), (-0.5, -0.8), (0.5, -0.8), (0.98, -0.16)), tone.base)
    for y in (-0.62, -0.44, -0.27):
        reach = 0.5 + (y + 0.8) * 0.72
        pen.line(((-reach, y), (reach, y)), 0.035, tone.dark)
    pen.line(((-0.94, -0.17), (0.94, -0.17)), 0.07, tone.dark)
    pen.line(((-0.48, -0.79), (0.48, -0.79)), 0.06, tone.light)
    door = rng.choice((-0.5, -0.14, 0.2))
    pane = LIT if rng.bernoulli(0.4) else GLASS
    for x in (-0.5, -0.14, 0.2):
        if x != door:
            pen.box(x - 0.05, 0.12, x + 0.35, 0.56, (255, 252, 244), 0.03)
            pen.box(x, 0.16, x + 0.3, 0.52, pane)
            pen.line(((x + 0.15, 0.16), (x + 0.15, 0.52)), 0.035, (255, 252, 244))
            pen.line(((x, 0.34), (x + 0.3, 0.34)), 0.035, (255, 252, 244))
            pen.box(x - 0.06, 0.54, x + 0.36, 0.62, (206, 104, 92), 0.03)
    pen.box(door - 0.02, 0.24, door + 0.32, 1, tone.dark, 0.1)
    pen.box(door + 0.02, 0.29, door + 0.28, 1, WOOD, 0.08)
    pen.disc(door + 0.24, 0.66, 0.035, GOLD)


def umbrella(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """An open umbrella with a hooked handle."""
    second = CREAM if rng.bernoulli(0.5) else tone.light
    pen.line(((0, -0.85), (0, 0.8)), 0.075, WOOD)
    hook = rng.choice((-1, 1))
    pen.curve(((0, 0.7), (0.01 * hook, 0.9), (0.14 * hook, 0.98), (0.27 * hook, 0.9), (0.28 * hook, 0.76)), 0.085, WOOD)
    pen.line(((0, -0.98), (0, -0.8)), 0.06, INK)
    rim = [-1.0, -0.6, -0.2, 0.2, 0.6, 1.0]
    shades = (tone.base, second, tone.base, second, tone.base)
    for i, shade in enumerate(shades):
        a, b = rim[i], rim[i + 1]
        arc = [
            (a, 0.04),
            (a * 0.93, -0.34),
            (a * 0.62, -0.7),
            (0, -0.88),
            (b * 0.62, -0.7),
            (b * 0.93, -0.34),
            (b, 0.04),
        ]
        scallop = [((a + b) / 2 + (b - a) * 0.25, -0.07), ((a + b) / 2, -0.1), ((a + b) / 2 - (b - a) * 0.25, -0.07)]
        pen.polygon([*arc, *scallop], shade)
    for x in rim[1:-1]:
        pen.curve(((0, -0.88), (x * 0.66, -0.66), (x * 0.95, -0.32), (x, 0.02)), 0.025, tone.dark)
    pen.curve(((-0.9, -0.28), (-0.6, -0.66), (-0.2, -0.82)), 0.04, tone.light)
