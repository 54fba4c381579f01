"""Region proposals of a scene: boxes around objects, around their parts, and elsewhere, as a detector would propose."""

import numpy as np
from jaxtyping import Int

from saywhy.toybox.scenes.scene import Scene
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.validation import whole_number

FEWEST, MOST = 16, 36
"""The limits on the number of proposals; published features have 36 (Anderson et al., 2018)."""

COUNT = 24
"""The default number of proposals."""

JITTER = 0.1
"""The largest shift of each edge of an object's box, as a share of its width or height."""

PART = (0.4, 0.7)
"""The width and height of a part, as a share of its object's."""

LEAST = 1 / 32
"""The least width and height of a proposal, as a share of the picture's side: a quarter of a cell of the features."""

Edges = tuple[float, float, float, float]


def proposals(scene: Scene, count: int = COUNT) -> Int[np.ndarray, "region 4"]:
    """Return region proposals of a scene: left, top, right and bottom in pixels, right and bottom exclusive.

    For every object there are ``count // 6`` boxes: one half is the object's box with jittered edges (an IoU of about
    0.6 at least), the other half holds a part of it. The rest are distractors at random places, each of the size of an
    object's proposal, so that its size does not tell it apart. The order is random, so that it does not tell which
    boxes are of objects. The same scene gives the same proposals.

    Raises:
        InputError: the count is not from 16 to 36.

    >>> from saywhy.toybox import scene
    >>> proposals(scene("talk-test", 1))[:2].tolist()
    [[108, 16, 128, 68], [44, 77, 55, 105]]
    """
    count = whole_number("count", count, FEWEST, MOST)
    rng = SeededRandom("toybox", "proposals", scene.split, scene.index)
    each, size = count // 6, len(scene.image)
    boxes = []
    for thing in scene.objects:
        left, top, right, bottom = map(float, thing.box)
        boxes += [_jittered((left, top, right, bottom), rng) for _ in range(each - each // 2)]
        boxes += [_part((left, top, right, bottom), rng) for _ in range(each // 2)]
    of_objects = tuple(boxes)
    while len(boxes) < count:
        boxes.append(_elsewhere(rng.choice(of_objects), size, rng))
    order = sorted(range(count), key=[rng.random() for _ in range(count)].__getitem__)
    return np.array([_in_pixels(boxes[place], size) for place in order])


def _jittered(box: Edges, rng: SeededRandom) -> Edges:
    left, top, right, bottom = box
    across, down = JITTER * (right - left), JITTER * (bottom - top)
    return (
        left + rng.uniform(-across, across),
        top + rng.uniform(-down, down),
        right + rng.uniform(-across, across),
        bottom + rng.uniform(-down, down),
    )


def _part(box: Edges, rng: SeededRandom) -> Edges:
    left, top, right, bottom = box
    width, height = rng.uniform(*PART) * (right - left), rng.uniform(*PART) * (bottom - top)
    left, top = rng.uniform(left, right - width), rng.uniform(top, bottom - height)
    return left, top, left + width, top + height


def _elsewhere(box: Edges, size: int, rng: SeededRandom) -> Edges:
    """Return a box of the same size anywhere in the picture."""
    width, height = (min(high - low, size) for low, high in ((box[0], box[2]), (box[1], box[3])))
    left, top = rng.uniform(0, size - width), rng.uniform(0, size - height)
    return left, top, left + width, top + height


def _in_pixels(box: Edges, size: int) -> tuple[int, int, int, int]:
    """Round a box to pixels inside the picture, at least ``LEAST`` wide and high."""
    least = max(1, round(LEAST * size))
    left, top = (min(max(round(edge), 0), size - least) for edge in box[:2])
    right, bottom = (min(max(round(edge), low + least), size) for edge, low in zip(box[2:], (left, top), strict=True))
    return left, top, right, bottom
