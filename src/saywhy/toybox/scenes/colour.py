"""The palette: ten named colours, and the tones of each."""

from typing import NamedTuple

from saywhy.toybox.scenes.seeded_random import SeededRandom

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (216, 68, 62),
    "orange": (242, 139, 50),
    "yellow": (250, 206, 74),
    "green": (98, 168, 84),
    "blue": (74, 132, 204),
    "purple": (142, 98, 184),
    "pink": (244, 146, 172),
    "brown": (152, 102, 66),
    "white": (247, 242, 232),
    "black": (66, 62, 72),
}
"""The named colours, in red, green and blue from 0 to 255."""

INK: RGB = (58, 44, 52)  # outlines: a warm dark colour, softer than black
CREAM: RGB = (252, 244, 226)
GLASS: RGB = (190, 226, 240)
WOOD: RGB = (156, 108, 70)
STEEL: RGB = (168, 174, 184)
GOLD: RGB = (236, 186, 72)
ROSE: RGB = (244, 160, 160)
LEAF: RGB = (92, 158, 80)


class Tone(NamedTuple):
    """One colour in the four tones in which an object is painted."""

    base: RGB
    light: RGB
    dark: RGB
    line: RGB


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Return ``first`` mixed with a ``share`` (0 to 1) of ``second``.

    >>> mix((0, 0, 0), (200, 100, 0), 0.5)
    (100, 50, 0)
    """
    (r, g, b), (s, h, c) = first, second
    return int(r + (s - r) * share), int(g + (h - g) * share), int(b + (c - b) * share)


def tone(base: RGB) -> Tone:
    """Return the tones of a colour; shadows shift to violet and lights to cream."""
    return Tone(base, mix(base, (255, 248, 226), 0.38), mix(base, (70, 36, 84), 0.27), mix(base, INK, 0.62))


def jitter(base: RGB, rng: SeededRandom, amount: float = 14) -> RGB:
    """Return the colour with random jitter: up to ``amount`` (of 255) in brightness, and up to 5 per channel."""
    r, g, b = base
    shared = rng.uniform(-amount, amount)  # most of the change is in brightness, so that the name stays right
    return (
        clamp(r + shared + rng.uniform(-5, 5)),
        clamp(g + shared + rng.uniform(-5, 5)),
        clamp(b + shared + rng.uniform(-5, 5)),
    )


def clamp(value: float) -> int:
    """Return the nearest whole number from 0 to 255.

    >>> clamp(300.2)
    255
    """
    return 0 if value < 0 else 255 if value > 255 else round(value)
