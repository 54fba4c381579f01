"""The kinds of objects: drawing function, colours and home background of each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

from saywhy.toybox.scenes import animals, household, outdoors, unseen_kinds, vehicles
from saywhy.toybox.scenes.colour import COLOURS, Tone
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom

ALL = tuple(COLOURS)
FUR = ("orange", "brown", "white", "black", "yellow")
LEAVES = ("green", "orange", "yellow", "red", "pink")
PETALS = ("red", "orange", "yellow", "blue", "purple", "pink", "white")
ROOFS = ("red", "orange", "brown", "blue", "purple", "green", "black")
METALS = ("yellow", "orange", "brown", "black", "white")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    ``extent`` is (left, top, right, bottom) of the drawing in its own units; ``size`` makes small objects (an apple)
    a little smaller than large ones (a house); ``home`` is its background in the biased splits; ``stands`` is False
    for objects in the air or in water.
    """

    name: str
    draw: Callable[[Pen, Tone, SeededRandom], None]
    extent: tuple[float, float, float, float]
    colours: tuple[str, ...]
    home: str
    size: float = 1.0
    stands: bool = True

    @cached_property
    def unit(self) -> float:
        """The length of one unit of the drawing for an object of size 1 (half way between equal area and width)."""
        left, top, right, bottom = self.extent
        return 2 * self.size / (1 + sqrt((right - left) * (bottom - top)) / 2) / 2


UPRIGHT = (-0.8, -1.0, 0.8, 1.0)
SQUARE = (-1.0, -1.0, 1.0, 1.0)

_KNOWN = (
    Kind("cat", animals.cat, (-0.75, -1.05, 1.02, 1.03), FUR, "room"),
    Kind("dog", animals.dog, (-1.0, -0.8, 1.02, 1.02), FUR, "beach"),
    Kind("rabbit", animals.rabbit, (-0.9, -1.1, 0.96, 1.02), ("white", "brown", "black", "orange", "pink"), "meadow"),
    Kind("bird", animals.bird, (-1.0, -1.0, 1.02, 1.0), BRIGHT, "snow", 0.85),
    Kind("fish", animals.fish, (-1.02, -0.9, 1.0, 0.86), BRIGHT, "sea", 0.95, stands=False),
    Kind("car", vehicles.car, (-1.02, -0.7, 1.02, 0.66), ALL, "street", 1.05),
    Kind("bus", vehicles.bus, (-1.0, -0.84, 1.0, 0.74), BRIGHT, "street", 1.1),
    Kind("boat", vehicles.boat, (-1.0, -1.02, 1.02, 0.97), ALL, "sea"),
    Kind("bicycle", vehicles.bicycle, (-1.02, -0.62, 1.02, 0.82), ALL, "street", 1.05),
    Kind("balloon", vehicles.balloon, (-0.76, -1.02, 0.76, 1.02), BRIGHT, "meadow", stands=False),
    Kind("tree", outdoors.tree, (-0.92, -1.12, 0.92, 1.0), LEAVES, "wood", 1.1),
    Kind("flower", outdoors.flower, (-0.64, -1.02, 0.64, 1.02), PETALS, "meadow", 0.95),
    Kind("apple", outdoors.apple, (-0.92, -1.0, 0.92, 1.0), ("red", "green", "yellow"), "wood", 0.8),
    Kind("house", outdoors.house, (-1.0, -0.98, 1.0, 1.0), ROOFS, "night", 1.1),
    Kind("umbrella", outdoors.umbrella, (-1.02, -1.0, 1.02, 1.02), ALL, "beach"),
    Kind("mug", household.mug, (-0.7, -1.02, 1.04, 1.0), ALL, "room", 0.85),
    Kind("key", household.key, (-1.04, -0.46, 1.04, 0.52), METALS, "snow", 0.9),
    Kind("clock", household.clock, (-0.84, -1.0, 0.84, 1.02), ALL, "snow", 0.9),
    Kind("guitar", household.guitar, (-0.54, -1.02, 0.54, 1.02), ALL, "night", 1.05),
    Kind("lamp", household.lamp, (-0.78, -0.98, 0.78, 1.02), BRIGHT, "room", 0.95),
)  # fmt: skip

_UNSEEN = (
    Kind("kite", unseen_kinds.kite, (-0.64, -1.02, 0.64, 1.02), BRIGHT, "meadow", stands=False),
    Kind("mushroom", unseen_kinds.mushroom, (-1.0, -1.0, 1.0, 1.0), BRIGHT, "wood", 0.9),
    Kind("rocket", unseen_kinds.rocket, (-0.64, -1.02, 0.64, 1.02), BRIGHT, "night", stands=False),
    Kind("teapot", unseen_kinds.teapot, (-1.0, -0.94, 1.04, 0.86), ALL, "room", 0.95),
)

CATALOGUE: dict[str, Kind] = {kind.name: kind for kind in (*_KNOWN, *_UNSEEN)}
"""Every kind that can be drawn, by name."""

KINDS: tuple[str, ...] = tuple(kind.name for kind in _KNOWN)
"""The kinds of the training splits, in the order of the labels and of the classifier's outputs."""

UNSEEN_KINDS: tuple[str, ...] = tuple(kind.name for kind in _UNSEEN)
"""The kinds that occur in the split ``unseen`` only; they have no label."""
