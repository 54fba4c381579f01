"""The part of an image that a layer depends on, found by changing strips of the image."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.probes import LayoutCandidates, Order, Patch, responses

_STRIPS = 16
"""The number of strips along an axis; the strips at the ends of the part are divided into as many again."""

_NOISE = 1e-5
"""Changes of a layer below this share of the largest are rounding errors: batches of other sizes round otherwise."""


def visible_parts(
    model: nn.Module, inputs: object, layers: Sequence[LayoutCandidates], batch: int
) -> list[Patch | None]:
    """For every layer the smallest box outside of which no change of the image moves it; None if it is the whole image.

    Its ends are those of strips of 1/256 of the image's side, at least a pixel.

    Args:
        model: in evaluation mode.
        inputs: the inputs of one sample.
        layers: the layers.
        batch: how many changed images run together.
    """
    if not layers:
        return []
    space = tuple(tree.image_tensor(inputs).shape[2:])
    borders = [strip for axis, size in enumerate(space) for strip in _borders(axis, size)]
    if all(len(own) == len(borders) for own in _moved(model, inputs, layers, batch, borders, space)):
        return [None] * len(layers)
    tiles = [_cuts(0, size) for size in space]
    strips = [(axis, a, b) for axis, cuts in enumerate(tiles) for a, b in pairwise(cuts)]
    moved = _moved(model, inputs, layers, batch, strips, space)
    coarse = [_outer(strips, own, space) for own in moved]
    finer = sorted({strip for own in coarse if own for strip in _divided(own, tiles)})
    moved = _moved(model, inputs, layers, batch, finer, space) if finer else [set() for _ in layers]
    found = []
    for box, own in zip(coarse, moved, strict=True):
        inner = None if box is None else [_inner(axis, ends, tiles[axis], own) for axis, ends in enumerate(box)]
        found.append(None if inner is None or inner == [(0, size) for size in space] else inner)
    return found


_Strip = tuple[int, int, int]
"""The axis of a strip, its first and its last pixel (exclusive); it is as long as the image along all other axes."""


def _borders(axis: int, size: int) -> list[_Strip]:
    """The thin strips along both borders of an axis."""
    width = max(1, size // (2 * _STRIPS))
    return [(axis, 0, width), (axis, size - width, size)]


def _cuts(start: int, stop: int) -> list[int]:
    """The ends of the strips between two pixels."""
    count = min(_STRIPS, stop - start)
    return [start + round((stop - start) * i / count) for i in range(count + 1)]


def _moved(
    model: nn.Module,
    inputs: object,
    layers: Sequence[LayoutCandidates],
    batch: int,
    strips: Sequence[_Strip],
    space: Sequence[int],
) -> list[set[_Strip]]:
    """The strips whose change moves each layer."""
    patches = [
        [(start, stop) if axis == along else (0, size) for axis, size in enumerate(space)]
        for along, start, stop in strips
    ]
    found = []
    for layer, outputs in zip(layers, responses(model, inputs, layers, batch, patches), strict=True):
        size = _change(layer, outputs, len(strips)) if outputs else torch.zeros(len(strips))
        found.append({strip for strip, s in zip(strips, (size > _NOISE * size.max()).tolist(), strict=True) if s})
    return found


def _change(layer: LayoutCandidates, outputs: dict[Order, Tensor], changes: int) -> Tensor:
    """How much the layer moved for every change, [change]: the largest difference, over all frames in the batch."""
    rows = next(iter(outputs.values())).movedim(layer.layouts[0].batch_axis, 0).reshape(1 + changes, -1)
    return torch.nan_to_num((rows[1:] - rows[:1]).abs()).amax(1)


def _outer(strips: Sequence[_Strip], moved: set[_Strip], space: Sequence[int]) -> Patch | None:
    """The box from the first to the last strip that moved the layer, along every axis; None if none did."""
    box = []
    for axis in range(len(space)):
        own = [strip for strip in strips if strip[0] == axis and strip in moved]
        if not own:
            return None
        box.append((own[0][1], own[-1][2]))
    return box


def _divided(box: Patch, tiles: Sequence[Sequence[int]]) -> set[_Strip]:
    """The beginnings of the first strip of a box, and the ends of the last one, along every axis."""
    found: set[_Strip] = set()
    for axis, (start, stop) in enumerate(box):
        first, last = _ends_of(start, stop, tiles[axis])
        found |= {(axis, start, cut) for cut in _cuts(*first)[1:-1]} | {(axis, cut, stop) for cut in _cuts(*last)[1:-1]}
    return found


def _ends_of(start: int, stop: int, cuts: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The first and the last strip of a box along an axis."""
    return (start, cuts[cuts.index(start) + 1]), (cuts[cuts.index(stop) - 1], stop)


def _inner(axis: int, box: tuple[int, int], cuts: Sequence[int], moved: set[_Strip]) -> tuple[int, int]:
    """The box along an axis, its ends moved inwards to the last cut outside of which nothing moved the layer."""
    start, stop = box
    first, last = _ends_of(start, stop, cuts)
    low = max((cut for cut in _cuts(*first)[:-1] if (axis, start, cut) not in moved), default=start)
    high = min((cut for cut in _cuts(*last)[1:] if (axis, cut, stop) not in moved), default=stop)
    return low, high
