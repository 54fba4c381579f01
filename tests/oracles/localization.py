"""Localisation and pointing by their definitions: one map at a time, pixel by pixel, in fractions.

A map is a numpy array [height, width], NaN outside the crop box; a mask is a bool one; a box has whole edges and stands
for the set of its pixels. Thresholds are decimal numbers: 0.15 is 3/20.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

from oracles.registry import metric_oracle

Array = np.ndarray
Pixel = tuple[int, int]
Box = tuple[int, int, int, int]


def evidence(values: Array) -> dict[Pixel, Fraction]:
    """Of every pixel that was seen."""
    return {
        p: max(Fraction(0), Fraction(float(values[p]))) for p in np.ndindex(*values.shape) if values[p] == values[p]
    }


def inside(mask: Array) -> set[Pixel]:
    return {p for p in np.ndindex(*mask.shape) if mask[p]}


def decimal(number: float) -> Fraction:
    return Fraction(str(number))


@metric_oracle("energy-pointing")
def energy(values: Array, mask: Array) -> Fraction:
    there, object_pixels = evidence(values), inside(mask)
    if not any(there.values()):
        there = dict.fromkeys(there, Fraction(1))
    total = sum(there.values())
    return sum((v for p, v in there.items() if p in object_pixels), Fraction(0)) / total if total else Fraction(0)


@metric_oracle("relevance-rank")
def rank(values: Array, mask: Array) -> Fraction:
    """The mean over every way to choose the K highest pixels."""
    there, object_pixels = evidence(values), inside(mask)
    ordered = sorted(there.values(), reverse=True)[: len(object_pixels)]
    if not ordered:
        return Fraction(0)
    surely = [p for p in there if there[p] > ordered[-1]]
    perhaps = [p for p in there if there[p] == ordered[-1]]
    counts = [
        sum(p in object_pixels for p in (*surely, *chosen))
        for chosen in itertools.combinations(perhaps, len(ordered) - len(surely))
    ]
    return Fraction(sum(counts), len(counts) * len(object_pixels))


def claimed(values: Array, threshold: float) -> set[Pixel]:
    there = evidence(values)
    top = max(there.values(), default=Fraction(0))
    return {p for p, v in there.items() if top and v / top >= decimal(threshold)}


def overlap(one: set[Pixel], other: set[Pixel]) -> Fraction:
    return Fraction(len(one & other), len(one | other))


@metric_oracle("mask-iou")
def mask_iou(values: Array, mask: Array, threshold: float) -> Fraction:
    return overlap(claimed(values, threshold), inside(mask))


def parts(pixels: set[Pixel]) -> list[set[Pixel]]:
    """Connected by sides or corners, in reading order of their first pixels."""
    left, found = sorted(pixels), []
    while left:
        part, border = set(), [left[0]]
        while border:
            y, x = border.pop()
            if (y, x) in left:
                left.remove((y, x))
                part.add((y, x))
                border += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        found.append(part)
    return found


def largest(found: list[set[Pixel]]) -> set[Pixel]:
    return next(part for part in found if len(part) == max(map(len, found)))


def box_round(part: set[Pixel]) -> Box:
    rows, columns = [y for y, _ in part], [x for _, x in part]
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def pixels_of(box: Box) -> set[Pixel]:
    left, top, right, bottom = box
    return {(y, x) for y in range(top, bottom) for x in range(left, right)}


def found_box(values: Array, threshold: float) -> Box:
    pixels = claimed(values, threshold)
    height, width = values.shape
    return box_round(largest(parts(pixels))) if pixels else (0, 0, width, height)


def best_iou(boxes: list[Box], truth: list[Box]) -> Fraction:
    return max(overlap(pixels_of(one), pixels_of(true)) for one in boxes for true in truth)


@metric_oracle("box-iou")
def best_box_iou(values: Array, truth: list[Box], threshold: float, which: str, normalize: str) -> Fraction:
    height, width = values.shape
    if not any(evidence(values).values()):
        return best_iou([(0, 0, width, height)], truth)
    raw = {p: Fraction(float(values[p])) for p in evidence(values)}
    if normalize == "max":
        raw = {p: max(v, Fraction(0)) for p, v in raw.items()}
    low, high = (min(raw.values()) if normalize == "minmax" else Fraction(0)), max(raw.values())
    pixels = {p for p, v in raw.items() if v == high or (v - low) / (high - low) >= decimal(threshold)}
    found = parts(pixels)
    return best_iou([box_round(part) for part in ([largest(found)] if which == "largest" else found)], truth)


def max_box_acc(ious: list[list[float]], overlaps: list[float]) -> list[float]:
    """For every overlap the largest share of maps, over thresholds."""
    return [max(sum(row[k] >= o for row in ious) / len(ious) for k in range(len(ious[0]))) for o in overlaps]


def localization_error(
    predicted: list[list[int]], found: list[list[Box]], labels: list[int], boxes: list[list[Box]], first: int
) -> float:
    errors = []
    for classes, its, label, truth in zip(predicted, found, labels, boxes, strict=True):
        right = False
        for one, box in list(zip(classes, its, strict=True))[:first]:
            for true in truth:
                right = right or (one == label and best_iou([box], [true]) >= Fraction(1, 2))
        errors.append(0 if right else 1)
    return sum(errors) / len(errors)


def seeds(values: list[Array], threshold: float, saliency: Array | None, background: float, conflicts: str) -> Array:
    claims = [claimed(one, threshold) for one in values]
    labels = np.full(values[0].shape, -1)
    for p in np.ndindex(*labels.shape):
        if saliency is not None:
            there = evidence(saliency)
            top = max(there.values(), default=Fraction(0))
            if top and p in there and there[p] / top < decimal(background):
                labels[p] = 0
        wanting = [t for t, claim in enumerate(claims) if p in claim]
        if wanting and conflicts == "smaller":
            labels[p] = min(wanting, key=lambda t: len(claims[t])) + 1
        elif wanting:
            labels[p] = max(wanting, key=lambda t: values[t][p] / np.nanmax(values[t])) + 1
    return labels


@metric_oracle("pointing-game")
def pointing(values: Array, mask: Array, tolerance: float) -> Fraction:
    there, object_pixels = evidence(values), inside(mask)
    top = max(there.values(), default=Fraction(0))
    peaks = [p for p, v in there.items() if v == top and top]
    hits = [any(math.dist(p, q) <= tolerance for q in object_pixels) for p in peaks]
    return Fraction(sum(hits), len(hits)) if hits else Fraction(0)


def rejection(values: Array, mask: Array, threshold: float, tolerance: float) -> Fraction:
    """The four rows of the table."""
    accepted = max(evidence(values).values(), default=Fraction(0)) >= threshold
    if mask.any() and accepted:
        return pointing(values, mask, tolerance)
    if mask.any() and not accepted:
        return Fraction(0)
    if not accepted:
        return Fraction(1)
    return Fraction(0)


def grid_pointing(values: Array, cell: int, side: int) -> Fraction:
    there = evidence(values)
    if not any(there.values()):
        there = dict.fromkeys(there, Fraction(1))
    sums = [Fraction(0)] * side**2
    for (y, x), v in there.items():
        sums[(y * side // values.shape[0]) * side + x * side // values.shape[1]] += v
    return sums[cell] / sum(sums) if sum(sums) else Fraction(0)


def mosaic(images: Array) -> Array:
    side = math.isqrt(len(images))
    _, channels, height, width = images.shape
    out = np.zeros((channels, side * height, side * width))
    for n, c, y, x in np.ndindex(*images.shape):
        out[c, n // side * height + y, n % side * width + x] = images[n, c, y, x]
    return out
