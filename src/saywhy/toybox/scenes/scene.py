"""A scene of Toybox: a picture with the ground truth of its objects, background and pixels."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image, ImageFilter

from saywhy.errors import InputError
from saywhy.toybox.scenes.backgrounds import background, light
from saywhy.toybox.scenes.kinds import KINDS
from saywhy.toybox.scenes.layout import layout
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.splits import check, contents
from saywhy.toybox.scenes.stamp import Pose, stamp
from saywhy.toybox.scenes.texture import window
from saywhy.validation import whole_number

LEAST_VISIBLE = 0.45  # of an object's own area; a scene with a more hidden object is sampled again
LEAST_AREA = 0.006  # of the picture: 98 pixels of 128 x 128
BLUR = 0.09  # of the picture's side: the radius at which nothing is recognisable
SMALLEST = 32  # side in pixels


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object in a scene.

    ``mask`` (height, width) is True where the object is visible, that is, not hidden by a nearer one; ``box`` is (left,
    top, right, bottom) of the mask in pixels, right and bottom exclusive; ``area`` is its number of pixels and
    ``visible`` their share of the whole object, from 0 to 1. ``depth`` is 0 for the nearest object, 1 for the next, and
    so on. ``tilt`` is in radians, clockwise.
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

    @cached_property
    def centre(self) -> tuple[float, float]:
        """The centre (x, y) of the visible pixels, in pixels."""
        rows, columns = np.nonzero(self.mask)
        return float(columns.mean() + 0.5), float(rows.mean() + 0.5)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (height, width, 3; uint8 RGB), the name of its background, and its objects, the nearest first.

    ``clarity`` is 1 for a sharp picture, and falls to 0 with increasing blur (splits "ambiguous-…").
    """

    image: np.ndarray
    background: str
    objects: tuple[SceneObject, ...]
    split: str
    index: int
    clarity: float = 1.0

    @property
    def labels(self) -> np.ndarray:
        """A float32 vector of 0 and 1: which of ``KINDS`` are visible. Unseen kinds have no label."""
        present = {one.kind for one in self.objects}
        return np.array([kind in present for kind in KINDS], np.float32)


def scene(split: str, index: int, size: int = 128) -> Scene:
    """Draw the scene ``index`` of ``split``, as a picture of ``size`` x ``size`` pixels.

    The same arguments give the same scene in any process and on any machine, except that another version of Pillow may
    round a pixel at an edge differently. Another size draws the same scene larger or smaller, except in the rare case
    that an object is just large enough in one size and too small in the other.

    >>> picture = scene("test", 3)
    >>> picture.image.shape, picture.background, [(one.colour, one.kind) for one in picture.objects]
    ((128, 128, 3), ...)
    """
    return _first(split, index, size)[0]


def scene_without(split: str, index: int, number: int, size: int = 128) -> Scene:
    """Draw a scene without one of its objects (and its shadow); everything else is the same, pixel by pixel.

    What the object hid is visible, so that the masks of others may be larger.

    Args:
        split, index, size: as for :func:`scene`.
        number: of the object in ``scene(split, index).objects``, from 0, the nearest first.

    Raises:
        InputError: the scene has no such object.

    >>> whole, rest = scene("talk-test", 1), scene_without("talk-test", 1, 0)
    >>> [one.kind for one in whole.objects][1:] == [one.kind for one in rest.objects]
    True
    """
    drawn, attempt = _first(split, index, size)
    left_out = whole_number("number", number, 0, len(drawn.objects) - 1)
    rng = SeededRandom("toybox", split, int(index), attempt)
    rest = _attempt(split, int(index), size, rng, left_out)
    if rest is None:
        raise InputError(f"scene {index} of '{split}' cannot be drawn without its object {number}.")
    return _blur(rest) if split.startswith("ambiguous-") else rest


def _first(split: str, index: int, size: int) -> tuple[Scene, int]:
    """Return the scene, and the number of the attempt that gave it."""
    check(split, index)
    size = whole_number("size", size, SMALLEST)
    attempt = 0
    while True:
        drawn = _attempt(split, int(index), size, SeededRandom("toybox", split, int(index), attempt))
        if drawn is not None:
            return (_blur(drawn) if split.startswith("ambiguous-") else drawn), attempt
        attempt += 1


def _blur(drawn: Scene) -> Scene:
    """Blur a scene by a random radius; half of the scenes stay sharp."""
    rng = SeededRandom("toybox", "blur", drawn.split, drawn.index)
    clarity = 1.0 if rng.bernoulli(0.5) else rng.random()
    if clarity == 1:
        return drawn
    radius = (1 - clarity) * BLUR * len(drawn.image)
    image = np.asarray(Image.fromarray(drawn.image).filter(ImageFilter.GaussianBlur(radius)))
    return replace(drawn, image=image, clarity=clarity)


def _attempt(split: str, index: int, size: int, rng: SeededRandom, left_out: int | None = None) -> Scene | None:
    """Draw a scene with this random generator, without one object; None if an object in it is hardly visible."""
    place, kinds = contents(split, rng)
    picture, horizon = background(place, rng, size)
    poses = layout(kinds, horizon, rng)
    absent = None if left_out is None else poses[len(poses) - 1 - left_out]
    stamped = []
    for pose in poses:  # one that is left out is drawn elsewhere, so that the generator goes on as it did
        drawn = stamp(picture.copy() if pose is absent else picture, pose, light(place), rng)
        if pose is not absent:
            stamped.append((pose, *drawn))
    objects = _visible_objects(stamped, size)
    if objects is None:
        return None
    picture += 1.6 * window("paper", size, size, rng.random(), rng.random())
    np.clip(picture, 0, 255, out=picture)
    image = np.empty((size, size, 3), np.uint8)
    for channel in range(3):  # three plain copies are four times faster than one transposed copy
        image[:, :, channel] = picture[channel]
    return Scene(image, place, objects, split, index)


def _visible_objects(stamped: list[tuple[Pose, np.ndarray, int]], size: int) -> tuple[SceneObject, ...] | None:
    """Return the objects, nearest first, with masks of their visible pixels; None if one has too few of them."""
    objects = []
    hidden = np.zeros((size, size), bool)
    for depth, (pose, mask, whole) in enumerate(reversed(stamped)):
        visible = mask & ~hidden
        area = int(np.count_nonzero(visible))
        if area < LEAST_AREA * size * size or area < LEAST_VISIBLE * whole:
            return None
        hidden |= mask
        objects.append(
            SceneObject(
                pose.kind.name,
                pose.colour,
                _tight_box(visible),
                visible,
                area,
                area / whole,
                depth,
                pose.tilt,
                pose.wide < 0,
            )
        )
    return tuple(objects)


def _tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the smallest box (left, top, right, bottom) around the True pixels, right and bottom exclusive.

    >>> _tight_box(np.array([[0, 0, 0], [0, 1, 1]], bool))
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
