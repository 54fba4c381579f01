"""A scene of Toybox: a picture whose every thing, place and pixel is known."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from saywhy.errors import InputError
from saywhy.toybox.scenes.backgrounds import background, light
from saywhy.toybox.scenes.dice import Dice
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.layout import layout
from saywhy.toybox.scenes.splits import check, contents
from saywhy.toybox.scenes.stamp import Pose, stamp
from saywhy.toybox.scenes.texture import window

LEAST_VISIBLE = 0.45  # of a thing's own area; a scene in which less is seen of anything is thrown again
LEAST_AREA = 0.006  # of the picture: 98 pixels of 128 x 128
BLUR = 0.09  # of the picture's side: the radius at which nothing is left to be told
SMALLEST = 32  # pixels a side


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing in a scene.

    ``mask`` (height, width) is True where the thing is seen, that is not hidden by a nearer one; ``box`` is (left, top,
    right, bottom) of the mask in pixels, right and bottom excluded; ``area`` counts its pixels and ``visible`` is their
    share of the whole thing, from 0 to 1. ``depth`` is 0 for the nearest thing, 1 for the next, and so on.
    ``tilt`` is in radians, clockwise.
    """

    kind: str
    colour: str
    box: tuple[int, int, int, int]
    mask: np.ndarray
    area: int
    visible: float
    depth: int
    tilt: float
    flipped: bool

    @property
    def centre(self) -> tuple[float, float]:
        """The middle (x, y) of the visible pixels, in pixels."""
        rows, columns = np.nonzero(self.mask)
        return float(columns.mean() + 0.5), float(rows.mean() + 0.5)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (height, width, 3; uint8 RGB), the name of its background, and its things, the nearest first.

    ``clarity`` is 1 for a picture as it was drawn, and falls to 0 the more it was blurred (splits "ambiguous-…").
    """

    image: np.ndarray
    background: str
    objects: tuple[SceneObject, ...]
    split: str
    index: int
    clarity: float = 1.0

    @property
    def labels(self) -> np.ndarray:
        """Which of ``KINDS`` are seen: a float32 vector of 0 and 1. Unseen kinds have no label."""
        present = {thing.kind for thing in self.objects}
        return np.array([kind in present for kind in KINDS], np.float32)


def scene(split: str, index: int, size: int = 128) -> Scene:
    """The scene ``index`` of ``split``, as a picture of ``size`` x ``size`` pixels.

    The same arguments give the same scene in any process and on any machine (the numbers do; another version of Pillow
    may round a pixel at an edge differently). Another size draws the same scene larger or smaller, except in the rare
    case that a thing just large enough in one size is just too small in the other.

    >>> picture = scene("test", 3)
    >>> picture.image.shape, picture.background, [(thing.colour, thing.kind) for thing in picture.objects]
    ((128, 128, 3), ...)
    """
    check(split, index)
    if size < SMALLEST:
        raise InputError(f"a scene is at least {SMALLEST} pixels a side, but size={size} came. 128 is the usual size.")
    attempt = 0
    while True:
        drawn = _attempt(split, int(index), size, Dice("toybox", split, int(index), attempt))
        if drawn is not None:
            return _blurred(drawn) if split.startswith("ambiguous-") else drawn
        attempt += 1


def _blurred(drawn: Scene) -> Scene:
    """A scene of which less is to be seen: half of them not at all, the others more or less."""
    dice = Dice("toybox", "blur", drawn.split, drawn.index)
    clarity = 1.0 if dice.chance(0.5) else dice.roll()
    if clarity == 1:
        return drawn
    radius = (1 - clarity) * BLUR * len(drawn.image)
    image = np.asarray(Image.fromarray(drawn.image).filter(ImageFilter.GaussianBlur(radius)))
    return replace(drawn, image=image, clarity=clarity)


def _attempt(split: str, index: int, size: int, dice: Dice) -> Scene | None:
    """Draw the scene with these dice; None if something in it can hardly be seen."""
    place, kinds = contents(split, dice)
    picture, horizon = background(place, dice, size)
    poses = layout(kinds, horizon, dice)
    stamped = [(pose, *stamp(picture, pose, light(place), dice)) for pose in poses]
    objects = _things(stamped, size)
    if objects is None:
        return None
    picture += 1.6 * window("paper", size, size, dice.roll(), dice.roll())
    np.clip(picture, 0, 255, out=picture)
    image = np.empty((size, size, 3), np.uint8)
    for channel in range(3):  # three plain copies are four times faster than one transposed copy
        image[:, :, channel] = picture[channel]
    return Scene(image, place, objects, split, index)


def _things(stamped: list[tuple[Pose, np.ndarray, int]], size: int) -> tuple[SceneObject, ...] | None:
    """The things, the nearest first, each mask without what nearer ones hide; None if too little of one is left."""
    objects = []
    hidden = np.zeros((size, size), bool)
    for depth, (pose, mask, whole) in enumerate(reversed(stamped)):
        seen = mask & ~hidden
        area = int(np.count_nonzero(seen))
        if area < LEAST_AREA * size * size or area < LEAST_VISIBLE * whole:
            return None
        hidden |= mask
        objects.append(
            SceneObject(
                pose.kind.name, pose.colour, _tight(seen), seen, area, area / whole, depth, pose.tilt, pose.wide < 0
            )
        )
    return tuple(objects)


def _tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (left, top, right, bottom) around the True pixels, right and bottom excluded.

    >>> _tight(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (1, 1, 3, 2)
    """
    rows, columns = np.asarray(mask.any(1)), np.asarray(mask.any(0))
    height, width = mask.shape
    return (
        int(columns.argmax()),
        int(rows.argmax()),
        width - int(columns[::-1].argmax()),
        height - int(rows[::-1].argmax()),
    )
