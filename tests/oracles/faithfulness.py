"""The metrics of faithfulness and of complexity, from the published equations, in loops over Python numbers.

Each evaluates one map of one image [channel, *space]. ``value`` is the score of one image; random numbers are handed
in. Positions are compared as fractions, so that only equal ones are equal.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from oracles.observed import Array
from oracles.perturbation import occlusion
from oracles.registry import metric_oracle

Value = Callable[[Array], float]
"""The score of an image [channel, *space]."""

Place = tuple[int, ...]
"""A pixel, by its index along every axis."""

WEIGHTS = {"beside": 1 / 6, "corner": 1 / 12}
"""Of the neighbours from which ROAD imputes a pixel (Rong et al., 2022, section 4)."""


def places(space: Sequence[int]) -> list[Place]:
    """All pixels in reading order."""
    return list(itertools.product(*(range(side) for side in space)))


def at_pixels(map: Array, space: Sequence[int]) -> dict[Place, Fraction]:
    """The map between the centres of its cells, linearly along every axis, and constant beyond the outermost ones."""
    if tuple(map.shape) == tuple(space):
        return {p: Fraction(float(map[p])) for p in places(space)}
    found = {}
    for p in places(space):
        ends = []
        for at, side, cells in zip(p, space, map.shape, strict=True):
            position = min(
                max(Fraction(2 * at + 1, 2) * cells / side - Fraction(1, 2), Fraction(0)), Fraction(cells - 1)
            )
            before = math.floor(position)
            after = min(before + 1, cells - 1)
            ends.append([(before, 1 - (position - before)), (after, position - before)])
        found[p] = Fraction(0)
        for corner in itertools.product(*ends):
            share = math.prod((weight for _, weight in corner), start=Fraction(1))
            found[p] += share * Fraction(float(map[tuple(index for index, _ in corner)]))
    return found


def in_order(map: Array, space: Sequence[int], drawn: Sequence[int]) -> list[Place]:
    """Pixels from the highest to the lowest; of equal ones first the one that was drawn first."""
    values, turn = at_pixels(map, space), {at: number for number, at in enumerate(drawn)}
    numbered = {p: turn[number] for number, p in enumerate(places(space))}
    return sorted(values, key=lambda p: (-values[p], numbered[p]))


def without(image: Array, gone: Sequence[Place], filled: Array) -> Array:
    """The image with other pixels in some places, in every channel."""
    altered = image.copy()
    for p in gone:
        for channel in range(len(image)):
            altered[(channel, *p)] = filled[(channel, *p)]
    return altered


def area(heights: Sequence[float]) -> float:
    """Under straight lines from each height to the next, over a width of 1."""
    pairs = list(itertools.pairwise(heights))
    return sum((left + right) / 2 for left, right in pairs) / len(pairs)


@metric_oracle("deletion")
def deletion(value: Value, image: Array, map: Array, *, steps: int, filled: Array, drawn: Sequence[int]) -> float:
    order = in_order(map, image.shape[1:], drawn)
    heights = []
    for step in range(steps + 1):
        gone = order[: round(step / steps * len(order))]
        heights.append(value(without(image, gone, filled)))
    return area(heights)


@metric_oracle("insertion")
def insertion(value: Value, image: Array, map: Array, *, steps: int, filled: Array, drawn: Sequence[int]) -> float:
    order = in_order(map, image.shape[1:], drawn)
    heights = []
    for step in range(steps + 1):
        come = order[: round(step / steps * len(order))]
        heights.append(value(without(filled, come, image)))
    return area(heights)


@metric_oracle("comprehensiveness")
def comprehensiveness(
    value: Value, image: Array, map: Array, *, shares: Sequence[float], filled: Array, drawn: Sequence[int]
) -> float:
    order, total = in_order(map, image.shape[1:], drawn), 0.0
    for share in shares:
        rationale = order[: round(share * len(order))]
        total += value(image) - value(without(image, rationale, filled))
    return total / len(shares)


@metric_oracle("sufficiency")
def sufficiency(
    value: Value, image: Array, map: Array, *, shares: Sequence[float], filled: Array, drawn: Sequence[int]
) -> float:
    order, total = in_order(map, image.shape[1:], drawn), 0.0
    for share in shares:
        rationale = order[: round(share * len(order))]
        total += value(image) - value(without(filled, rationale, image))
    return total / len(shares)


@metric_oracle("road")
def road(
    value: Value, image: Array, map: Array, *, shares: Sequence[float], noise: Array, drawn: Sequence[int]
) -> float:
    """Noise [channel, height, width] is handed in."""
    total = 0.0
    for share in shares:
        heights = []
        for signed in (-map, map):  # the lowest go first, and then the highest
            order = in_order(signed, image.shape[1:], drawn)
            gone = order[: round(share * len(order))]
            heights.append(value(without(image, gone, imputed(image, gone) + noise)))
        total += heights[0] - heights[1]
    return total / len(shares)


def imputed(image: Array, gone: Sequence[Place]) -> Array:
    """Every pixel that is gone as the weighted mean of its neighbours: one equation for each, solved together."""
    if len(gone) == math.prod(image.shape[1:]):
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape).copy()
    height, width = image.shape[1:]
    number = {p: i for i, p in enumerate(gone)}
    system, found = np.zeros((len(gone), len(gone))), image.copy()
    right = np.zeros((len(gone), len(image)))
    for (row, column), i in number.items():
        near = {}
        for r, c in itertools.product(range(row - 1, row + 2), range(column - 1, column + 2)):
            if (r, c) != (row, column) and 0 <= r < height and 0 <= c < width:
                near[r, c] = WEIGHTS["beside" if r == row or c == column else "corner"]
        whole = sum(near.values())
        system[i, i] = 1.0
        for q, weight in near.items():
            if q in number:
                system[i, number[q]] -= weight / whole
            else:
                right[i] += weight / whole * image[(slice(None), *q)]
    solved = np.linalg.solve(system, right) if gone else right
    for p, i in number.items():
        found[(slice(None), *p)] = solved[i]
    return found


def seen_through(image: Array, map: Array, filled: Array) -> Array:
    """The image where the map is at its maximum, the other one where it is zero or negative, in between a mixture."""
    values = {p: max(0.0, float(v)) for p, v in at_pixels(map, image.shape[1:]).items()}
    largest = max(values.values())
    found = filled.copy()
    for p, value in values.items():
        share = value / largest if largest > 0 else 0.0
        for channel in range(len(image)):
            at = (channel, *p)
            found[at] = share * image[at] + (1 - share) * filled[at]
    return found


@metric_oracle("average-drop")
def average_drop(value: Value, image: Array, map: Array, *, filled: Array) -> float:
    before, after = value(image), value(seen_through(image, map, filled))
    return max(0.0, before - after) / before


@metric_oracle("increase-in-confidence")
def increase_in_confidence(value: Value, image: Array, map: Array, *, filled: Array) -> float:
    return 1.0 if value(image) < value(seen_through(image, map, filled)) else 0.0


def hidden_pixels(space: Sequence[int], cells: Array) -> list[list[Place]]:
    """For every cell of the grid that is hidden, the pixels that lie in it."""
    found: dict[Place, list[Place]] = {tuple(int(i) for i in cell): [] for cell in np.argwhere(cells)}
    for p in places(space):
        cell = tuple(at * count // side for at, count, side in zip(p, cells.shape, space, strict=True))
        if cell in found:
            found[cell].append(p)
    return list(found.values())


def value_of_pixel(map: Array, space: Sequence[int], p: Place) -> float:
    """What a map that is constant over each of its cells holds on average in one pixel."""
    shares = []
    for at, side, cells in zip(p, space, map.shape, strict=True):
        low, high = Fraction(at, side), Fraction(at + 1, side)
        of_axis = []
        for cell in range(cells):
            common = min(high, Fraction(cell + 1, cells)) - max(low, Fraction(cell, cells))
            if common > 0:
                of_axis.append((cell, float(common / (high - low))))
        shares.append(of_axis)
    total = 0.0
    for corner in itertools.product(*shares):
        total += math.prod(share for _, share in corner) * float(map[tuple(cell for cell, _ in corner)])
    return total


def sums_and_drops(
    value: Value, image: Array, map: Array, *, sets: Sequence[Array], filled: Array
) -> tuple[list[float], list[float]]:
    """Of every set of hidden cells [*grid], what of the map lies in them, and by how much the score falls."""
    sums, drops = [], []
    for cells in sets:
        hidden = hidden_pixels(image.shape[1:], cells)
        inside = [[value_of_pixel(map, image.shape[1:], p) for p in cell] for cell in hidden]
        sums.append(sum(sum(cell) / len(cell) for cell in inside))
        gone = [p for cell in hidden for p in cell]
        drops.append(value(image) - value(without(image, gone, filled)))
    return sums, drops


@metric_oracle("faithfulness-correlation")
def faithfulness_correlation(value: Value, image: Array, map: Array, *, sets: Sequence[Array], filled: Array) -> float:
    a, b = sums_and_drops(value, image, map, sets=sets, filled=filled)
    a, b = ([each - sum(side) / len(side) for each in side] for side in (a, b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@metric_oracle("infidelity")
def infidelity(value: Value, image: Array, map: Array, *, sets: Sequence[Array], filled: Array) -> float:
    """The mean squared error with the factor at which its derivative is zero, or with 0, if that is negative."""
    sums, drops = sums_and_drops(value, image, map, sets=sets, filled=filled)
    factor = max(0.0, sum(s * d for s, d in zip(sums, drops, strict=True)) / sum(s * s for s in sums))
    error = sum((factor * s - d) ** 2 for s, d in zip(sums, drops, strict=True))
    return error / sum(d * d for d in drops)


@metric_oracle("occlusion-correlation")
def occlusion_correlation(
    observed: object, image: Array, map: Array, *, window: int, stride: int, fill: str | float
) -> float:
    """Spearman's correlation of both on 14 × 14 cells."""
    hidden = occlusion(observed, image, window=window, stride=stride, fill=fill)  # type: ignore[arg-type]
    a, b = (_ranks(_smaller(one, 14)) for one in (map, hidden))
    a, b = ([each - sum(side) / len(side) for each in side] for side in (a, b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def _smaller(map: Array, cells: int) -> list[Fraction]:
    """As images are resized: a triangle round the centre of every cell, as wide as two cells, along each axis."""
    lines = [[Fraction(float(v)) for v in line] for line in map]
    for _axis in (1, 0):
        side = len(lines[0])
        reach = max(Fraction(1), Fraction(side, cells))
        resized = []
        for line in lines:
            row = []
            for cell in range(cells):
                centre = Fraction(2 * cell + 1, 2) * side / cells
                weights = {at: 1 - abs(at + Fraction(1, 2) - centre) / reach for at in range(side)}
                weights = {at: weight for at, weight in weights.items() if weight > 0}
                row.append(sum(weight * line[at] for at, weight in weights.items()) / sum(weights.values()))
            resized.append(row)
        lines = [list(line) for line in zip(*resized, strict=True)]
    return [each for line in lines for each in line]


def _ranks(values: list[Fraction]) -> list[float]:
    """Places from 1; equal ones share the mean of theirs."""
    return [(sum(o < v for o in values) + sum(o <= v for o in values) + 1) / 2 for v in values]


@metric_oracle("sparseness")
def sparseness(map: Array) -> float:
    """Chalasani et al. (2020): over the magnitudes in ascending order, numbered from 1."""
    sizes = sorted(abs(float(v)) for v in map.flatten())
    d, whole = len(sizes), math.fsum(sizes)
    return 1 - 2 * math.fsum(v / whole * (d - k + 0.5) / d for k, v in enumerate(sizes, 1))


@metric_oracle("complexity")
def complexity(map: Array) -> float:
    """Bhatt et al. (2020): what holds nothing adds nothing."""
    sizes = [abs(float(v)) for v in map.flatten()]
    shares = [v / math.fsum(sizes) for v in sizes]
    return -math.fsum(share * math.log(share) for share in shares if share > 0)
