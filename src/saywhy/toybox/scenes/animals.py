"""Cat, dog, rabbit, bird and fish.

Each is drawn looking to the right or to us, with its feet at y = 1; the placing of scene and pose is done elsewhere.
"""

from saywhy.toybox.scenes.colour import CREAM, GOLD, INK, ROSE, Tone, mix
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom


def eyes(pen: Pen, x: float, y: float, apart: float, size: float) -> None:
    """Two shining eyes about (x, y)."""
    for side in (-1, 1):
        pen.disc(x + side * apart, y, size, INK)
        pen.disc(x + side * apart + size * 0.35, y - size * 0.35, size * 0.4, (255, 255, 255))


def cat(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A sitting cat that faces the viewer."""
    lift = rng.uniform(-0.5, 0.1)
    tail = ((0.4, 0.85), (0.8, 0.85), (0.98, 0.5), (0.82, 0.3 + lift * 0.4), (0.9, 0.05 + lift))
    pen.curve(tail, 0.2, tone.dark)
    pen.curve(tail, 0.13, tone.base)
    pen.blob(((0, -0.2), (0.42, 0.15), (0.58, 0.75), (0.42, 1), (-0.42, 1), (-0.58, 0.75), (-0.42, 0.15)), tone.base)
    bib = CREAM if rng.bernoulli(0.6) else tone.light
    pen.oval(0, 0.5, 0.26, 0.42, bib)
    if rng.bernoulli(0.6):
        for y in (0.35, 0.55, 0.75):
            for side in (-1, 1):
                pen.line(((side * 0.34, y), (side * 0.52, y - 0.04)), 0.06, tone.dark)
    for side in (-1, 1):
        pen.oval(side * 0.22, 0.93, 0.19, 0.1, bib)
        pen.line(((side * 0.22, 0.9), (side * 0.22, 0.98)), 0.03, tone.dark)
    cat_head(pen, tone, bib, rng)


def cat_head(pen: Pen, tone: Tone, bib: tuple[int, int, int], rng: SeededRandom) -> None:
    """Ears, face and whiskers, about (0, -0.42)."""
    ear = rng.uniform(-1.02, -0.9)
    for side in (-1, 1):
        pen.polygon(((side * 0.52, -0.45), (side * 0.5, ear), (side * 0.12, -0.75)), tone.base)
        pen.polygon(((side * 0.44, -0.6), (side * 0.44, ear + 0.13), (side * 0.22, -0.74)), ROSE)
    pen.oval(0, -0.42, 0.56, 0.43, tone.base)
    pen.oval(0, -0.24, 0.25, 0.17, bib)
    for x in (-0.12, 0, 0.12):
        pen.line(((x, -0.82), (x * 0.8, -0.67)), 0.06, tone.dark)
    pen.oval(-0.36, -0.26, 0.1, 0.06, ROSE)
    pen.oval(0.36, -0.26, 0.1, 0.06, ROSE)
    eyes(pen, 0, -0.45, 0.24, 0.1)
    pen.polygon(((-0.07, -0.32), (0.07, -0.32), (0, -0.24)), (226, 110, 120))
    pen.curve(((-0.14, -0.2), (-0.07, -0.13), (0, -0.2), (0.07, -0.13), (0.14, -0.2)), 0.03, INK)
    for side in (-1, 1):
        for slope in (-0.05, 0.05):
            pen.line(((side * 0.3, -0.24 + slope), (side * 0.72, -0.26 + 2.4 * slope)), 0.02, tone.line)


def dog(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A dog from the side, its tail up."""
    spot = rng.bernoulli(0.55)
    wag = rng.uniform(-0.15, 0.2)
    pen.curve(((-0.72, 0.12), (-0.92, -0.1), (-0.9 + wag, -0.42)), 0.15, tone.base)
    for x in (-0.48, 0.36):
        pen.box(x, 0.4, x + 0.19, 0.98, tone.dark, 0.08)
    pen.blob(
        ((-0.78, 0.18), (-0.4, 0), (0.2, 0.02), (0.5, -0.1), (0.62, 0.25), (0.45, 0.58), (-0.2, 0.52), (-0.7, 0.6)),
        tone.base,
    )
    if spot:
        pen.oval(-0.3, 0.2, 0.22, 0.16, tone.dark, 0.2)
    pen.oval(0.12, 0.5, 0.42, 0.1, tone.light)
    for x in (-0.72, 0.16):
        pen.box(x, 0.4, x + 0.21, 1, tone.base, 0.09)
        pen.oval(x + 0.14, 0.95, 0.15, 0.07, tone.light)
    dog_head(pen, tone, spot, rng)


def dog_head(pen: Pen, tone: Tone, spot: bool, rng: SeededRandom) -> None:
    """Snout, floppy ear and collar, about (0.45, -0.4)."""
    collar = rng.choice(((214, 68, 62), (74, 132, 204), (250, 206, 74)))
    pen.line(((0.24, 0.0), (0.66, 0.02)), 0.14, collar)
    pen.disc(0.52, 0.11, 0.07, GOLD)
    pen.blob(((0.1, -0.5), (0.38, -0.78), (0.68, -0.6), (0.74, -0.3), (0.6, -0.04), (0.25, -0.06)), tone.base)
    pen.blob(((0.6, -0.44), (0.9, -0.36), (0.97, -0.22), (0.85, -0.08), (0.58, -0.06)), tone.light)
    pen.oval(0.93, -0.31, 0.09, 0.075, INK)
    pen.curve(((0.92, -0.16), (0.78, -0.1), (0.68, -0.14)), 0.03, INK)
    if rng.bernoulli(0.5):
        pen.oval(0.78, -0.03, 0.06, 0.1, (236, 110, 120))
    if spot:
        pen.oval(0.54, -0.46, 0.15, 0.17, tone.dark)
    pen.disc(0.55, -0.45, 0.085, INK)
    pen.disc(0.58, -0.48, 0.035, (255, 255, 255))
    pen.blob(((0.1, -0.62), (0.32, -0.66), (0.36, -0.3), (0.24, 0.02), (0.08, 0.0), (0.02, -0.3)), tone.dark)


def rabbit(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A rabbit from the side, its ears up."""
    lean = rng.uniform(-0.14, 0.14)
    for x, shade in ((0.44, tone.dark), (0.2, tone.base)):
        pen.oval(x + lean * 0.6, -0.68, 0.13, 0.42, shade, lean + 0.06)
        pen.oval(x + lean * 0.6 + 0.01, -0.64, 0.06, 0.3, ROSE, lean + 0.06)
    pen.disc(-0.68, 0.62, 0.2, CREAM)
    pen.blob(((-0.6, 0.5), (-0.25, 0.1), (0.25, 0.05), (0.5, 0.4), (0.45, 0.9), (0.1, 0.98), (-0.5, 0.96)), tone.base)
    pen.oval(0.32, 0.62, 0.2, 0.3, tone.light, -0.1)
    pen.oval(-0.22, 0.68, 0.32, 0.28, mix(tone.base, tone.dark, 0.45))
    pen.oval(-0.24, 0.66, 0.27, 0.24, tone.base)
    pen.oval(-0.12, 0.94, 0.3, 0.08, tone.light)
    pen.oval(0.42, 0.93, 0.18, 0.08, tone.light)
    pen.oval(0.36, -0.08, 0.4, 0.34, tone.base)
    pen.oval(0.58, 0.04, 0.18, 0.15, tone.light)
    pen.oval(0.28, 0.06, 0.1, 0.07, ROSE)
    pen.disc(0.42, -0.14, 0.085, INK)
    pen.disc(0.45, -0.17, 0.035, (255, 255, 255))
    pen.oval(0.72, -0.05, 0.06, 0.05, (226, 110, 120))
    pen.box(0.61, 0.1, 0.7, 0.2, (255, 255, 255))
    for slope in (-0.08, 0.02, 0.12):
        pen.line(((0.6, 0.02), (0.94, 0.02 + slope)), 0.02, tone.line)


def bird(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A round little bird on thin legs."""
    belly = CREAM if rng.bernoulli(0.6) else tone.light
    pen.polygon(((-0.35, 0.02), (-0.98, -0.28), (-0.92, 0.02), (-0.4, 0.38)), tone.dark)
    for x in (-0.05, 0.18):
        pen.line(((x, 0.6), (x + 0.02, 0.94), (x + 0.16, 0.96)), 0.055, (214, 126, 56))
        pen.line(((x + 0.02, 0.92), (x - 0.1, 0.97)), 0.055, (214, 126, 56))
    pen.polygon(((0.62, -0.5), (1, -0.36), (0.64, -0.22)), (246, 168, 58))
    pen.polygon(((0.62, -0.37), (1, -0.36), (0.64, -0.22)), (220, 132, 44))
    pen.blob(
        (
            (-0.5, -0.02),
            (0.0, -0.34),
            (0.16, -0.7),
            (0.5, -0.78),
            (0.74, -0.5),
            (0.68, -0.05),
            (0.4, 0.5),
            (-0.1, 0.62),
        ),
        tone.base,
    )
    pen.blob(((0.56, -0.2), (0.62, 0.05), (0.38, 0.48), (0.0, 0.56), (0.08, 0.3), (0.4, 0.1)), belly)
    flap = rng.uniform(-0.55, 0.25)
    pen.blob(((0.22, -0.05), (-0.05, -0.12), (-0.6, 0.1 + flap), (-0.3, 0.36 + flap * 0.3), (0.1, 0.3)), tone.dark)
    pen.blob(((0.16, -0.02), (-0.05, -0.06), (-0.42, 0.1 + flap * 0.8), (-0.2, 0.22 + flap * 0.3)), tone.light)
    pen.oval(0.42, -0.32, 0.1, 0.07, ROSE)
    pen.disc(0.46, -0.5, 0.1, INK)
    pen.disc(0.5, -0.54, 0.04, (255, 255, 255))
    if rng.bernoulli(0.5):
        for lean in (-0.12, 0.02):
            pen.line(((0.36, -0.74), (0.3 + lean, -0.98)), 0.06, tone.dark)


def fish(pen: Pen, tone: Tone, rng: SeededRandom) -> None:
    """A fish that swims to the right."""
    fin = tone.dark if rng.bernoulli(0.5) else GOLD
    deep = rng.uniform(0.44, 0.62)
    pen.blob(((-0.4, 0), (-0.75, -0.5), (-1, -0.48), (-0.84, 0), (-1, 0.48), (-0.75, 0.5)), fin)
    pen.blob(((-0.25, -deep * 0.7), (0.0, -deep - 0.26), (0.4, -deep - 0.12), (0.35, -deep * 0.6)), fin)
    pen.blob(((-0.1, deep * 0.7), (-0.12, deep + 0.22), (0.22, deep * 0.8)), fin)
    pen.blob(
        ((-0.58, 0), (-0.2, -deep * 0.8), (0.3, -deep), (0.8, -0.22), (0.98, 0.04), (0.75, 0.3), (0.25, deep)),
        tone.base,
    )
    pen.blob(((-0.45, 0.1), (0.2, 0.18), (0.92, 0.1), (0.72, 0.28), (0.25, deep - 0.02)), tone.light)
    if rng.bernoulli(0.5):
        for x in (-0.3, 0.0):
            pen.curve(((x, -deep * 0.72), (x + 0.09, 0), (x, deep * 0.66)), 0.1, CREAM)
    else:
        for x in (-0.28, -0.04, 0.2):
            for y in (-0.16, 0.08):
                pen.curve(((x, y - 0.09), (x - 0.08, y), (x, y + 0.09)), 0.035, tone.dark)
    pen.curve(((0.42, -0.26), (0.34, 0.02), (0.42, 0.26)), 0.04, tone.dark)
    pen.blob(((0.22, 0.04), (-0.06, 0.2), (0.1, 0.3)), fin)
    pen.disc(0.64, -0.12, 0.13, (255, 255, 255))
    pen.disc(0.67, -0.12, 0.075, INK)
    pen.curve(((0.92, 0.1), (0.82, 0.16), (0.74, 0.12)), 0.035, INK)
