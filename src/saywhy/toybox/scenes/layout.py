"""Positions of objects: on the ground or in the air, with limited overlap."""

from math import pi

from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.stamp import Pose

Box = tuple[float, float, float, float]
TRIES = 14
OVERLAP = 0.3  # of the smaller of two boxes, at most
SIZES = (0.52, 0.44, 0.38, 0.34)  # the mean size of objects, by their number


def layout(kinds: list[str], horizon: float, rng: SeededRandom) -> list[Pose]:
    """Return a pose for each object, the farthest first; an object without room is omitted (never the first)."""
    poses: list[Pose] = []
    boxes: list[Box] = []
    for name in kinds:
        for _ in range(TRIES):
            pose = _pose(name, len(kinds), horizon, rng)
            box = pose.box
            if all(_shared(box, other) <= OVERLAP for other in boxes):
                poses.append(pose)
                boxes.append(box)
                break
    return sorted(poses, key=lambda pose: pose.box[3])  # objects lower in the picture are nearer


def _pose(name: str, count: int, horizon: float, rng: SeededRandom) -> Pose:
    """Return one random pose."""
    kind = CATALOGUE[name]
    unit = kind.unit * SIZES[count - 1] * rng.uniform(0.82, 1.28)
    wide = rng.uniform(0.9, 1.12) * rng.choice((-1, 1))
    tilt = rng.uniform(-1, 1) * pi / 180 * (7 if kind.stands else 16)
    left, top, right, bottom = Pose(kind, "", 0, 0, unit, tilt, wide).box
    x = rng.uniform(-0.06 - left, 1.06 - right)
    if kind.stands:  # it must also fit under the top edge, however near the horizon
        y = max(rng.uniform(max(horizon + 0.08, 0.5), 0.99) - bottom, 0.02 - top)
    else:
        y = rng.uniform(0.0 - top, 0.94 - bottom)
    return Pose(kind, rng.choice(kind.colours), x, y, unit, tilt, wide)


def _shared(first: Box, second: Box) -> float:
    """Return the share of the smaller box that lies in the other, from 0 to 1.

    >>> _shared((0, 0, 2, 2), (1, 1, 2, 5))
    0.25
    """
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return max(wide, 0.0) * max(high, 0.0) / smaller
