"""Eight backgrounds: meadow, beach, sea, street, room, night, snow and wood.

A background is painted at twice the size of the scene, in units of the picture: x and y from 0 to 1, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saywhy.toybox.scenes import outside, town
from saywhy.toybox.scenes.easel import Easel
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.texture import window


@dataclass(frozen=True)
class Background:
    """One background.

    ``paint`` returns the height of the horizon (0 is the top edge, 1 the bottom); ``above`` and ``below`` name the
    grain over and under it, with strengths in 1/255; ``light`` holds factors for red, green and blue of objects.
    """

    paint: Callable[[Easel, SeededRandom], float]
    above: tuple[str, int | float]
    below: tuple[str, int | float]
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)


_PLACES = {
    "meadow": Background(outside.meadow, ("cloud", 4), ("grass", 7)),
    "beach": Background(outside.beach, ("cloud", 3), ("sand", 6), (1.02, 1.0, 0.96)),
    "sea": Background(outside.sea, ("cloud", 4), ("water", 7), (0.98, 1.0, 1.02)),
    "street": Background(town.street, ("stone", 3), ("stone", 6), (1.0, 0.99, 0.97)),
    "room": Background(town.room, ("stone", 2.5), ("boards", 6), (1.03, 0.99, 0.94)),
    "night": Background(outside.night, ("cloud", 3), ("grass", 5), (0.8, 0.83, 0.98)),
    "snow": Background(outside.snow, ("cloud", 3), ("cloud", 4), (0.97, 0.99, 1.03)),
    "wood": Background(outside.wood, ("cloud", 5), ("grass", 8), (1.0, 0.97, 0.92)),
}

BACKGROUNDS: tuple[str, ...] = tuple(_PLACES)
"""The names of the backgrounds."""


def background(name: str, rng: SeededRandom, size: int) -> tuple[np.ndarray, float]:
    """Return a background, float32 (3, size, size) from 0 to 255, and its horizon from 0 to 1."""
    place = _PLACES[name]
    easel = Easel(2 * size)
    horizon = place.paint(easel, rng)
    picture = np.asarray(easel.paper.reduce(2)).transpose(2, 0, 1).astype(np.float32, order="C")
    edge = round(horizon * size)
    for (grain, strength), rows in ((place.above, slice(0, edge)), (place.below, slice(edge, size))):
        part = picture[:, rows]
        part += strength * window(grain, part.shape[1], size, rng.random(), rng.random())
    return picture, horizon


def light(name: str) -> tuple[float, float, float]:
    """Return the factors for red, green and blue of objects on a background."""
    return _PLACES[name].light
