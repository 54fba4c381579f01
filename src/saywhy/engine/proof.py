"""A layout is proved, not assumed: change one patch of the picture, and the claimed cell must move most.

Shapes cannot tell a 14 × 14 grid of tokens from the same tokens shifted by one, nor NHWC from NCHW when the sides are
alike, and a wrong reading still gives a plausible map. So the picture is changed in a few places, one at a time, and
every cell is asked how much more it moved for this change than for the others. Under the right reading the cell that
moved most is the one over the change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.layout import Layout

PLACES = (
    (0.21, 0.36),
    (0.36, 0.79),
    (0.79, 0.21),
    (0.64, 0.64),
    (0.07, 0.07),
    (0.93, 0.93),
    (0.5, 0.21),
    (0.14, 0.57),
)
"""Where the picture is changed, as shares of its height and width: both halves of both axes, corners, no symmetry."""

NEEDED = 0.7
"""The share of changes that the claimed cell, or one beside it, must follow. By chance on a 7 × 7 grid: under 1e-3."""

_FEWEST = 4  # changes that a layer must answer at all before anything is said of it


@dataclass(frozen=True)
class Proof:
    """How well one reading of a layer followed the changes.

    Attributes:
        layout: the reading.
        followed: share of the changes after which the claimed cell (or a neighbour, on grids of six cells and more)
            moved most, 0 to 1.
        distance: mean distance in cells from the cell that moved most to the change; 0 is perfect.
        answered: how many of the changes moved anything in the layer.
    """

    layout: Layout
    followed: float
    distance: float
    answered: int

    @property
    def holds(self) -> bool:
        """Whether the reading is proved."""
        return self.answered >= _FEWEST and self.followed >= NEEDED

    @property
    def undecided(self) -> bool:
        """Whether the layer hardly answered, so that nothing can be said (a dead network, for one)."""
        return self.answered < _FEWEST

    def __str__(self) -> str:
        if self.undecided:
            return f"{self.layout}: undecided, the layer answered {self.answered} of {len(PLACES)} changes"
        verdict = "proved" if self.holds else "not proved"
        return (
            f"{self.layout}: {verdict}, {self.followed:.0%} of the changed patches found, {self.distance:.1f} cells off"
        )


@dataclass(frozen=True)
class Reading:
    """A layer's output (of one call) and the readings to be tried on it."""

    module: nn.Module
    call: int
    readings: tuple[Layout, ...]


def prove(model: nn.Module, inputs: object, questions: Sequence[Reading], batch: int = 5) -> list[list[Proof]]:
    """Try every reading of every question on changed copies of one sample.

    Args:
        model: in evaluation mode.
        inputs: of one sample.
        questions: what to try.
        batch: changed pictures run together; where the model takes no batches they run one by one.

    Returns:
        For every question its proofs, best first.
    """
    picture = tree.picture_tensor(inputs)
    changed = torch.cat([picture, *(_change(picture, place) for place in PLACES)])
    try:
        moved = _watch(model, inputs, changed, questions, batch)
    except RuntimeError:
        moved = _watch(model, inputs, changed, questions, 1)
    return [
        sorted(
            (_judge(layout, torch.cat(maps)) for layout, maps in zip(question.readings, per_reading, strict=True)),
            key=lambda proof: (
                proof.undecided,
                -round(proof.followed, 3),
                proof.distance,
                proof.layout.prefix,
            ),
        )
        for question, per_reading in zip(questions, moved, strict=True)
    ]


def _change(picture: Tensor, place: Sequence[float]) -> Tensor:
    """The picture with one patch replaced by strong noise, [1, channel, *space]."""
    changed = picture.clone()
    patch = [slice(None), slice(None)]
    for share, size in zip(_spread(place, picture.ndim - 2), picture.shape[2:], strict=True):
        width = max(1, round(size / 9))
        start = min(max(0, round(share * size - width / 2)), size - width)
        patch.append(slice(start, start + width))
    region = tuple(patch)
    noise = torch.rand(changed[region].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spread = 3 * float(picture.float().std()) if picture.numel() > 1 else 0.0
    changed[region] += (max(spread, 1.0) * noise.sign() * (0.5 + noise.abs())).to(changed)
    return changed


def _spread(place: Sequence[float], axes: int) -> list[float]:
    """A place on as many axes as the picture has."""
    return [place[axis % 2] if axis < 2 else place[(axis + 1) % 2] for axis in range(axes)]


def _watch(
    model: nn.Module, inputs: object, pictures: Tensor, questions: Sequence[Reading], batch: int
) -> list[list[list[Tensor]]]:
    """For every question and reading, maps of every picture with channels kept: chunks of [n, channel, *grid]."""
    found: list[list[list[Tensor]]] = [[[] for _ in q.readings] for q in questions]
    calls: dict[nn.Module, int] = {}

    def hook(module: nn.Module, _args: object, output: object) -> None:
        call = calls.get(module, 0)
        calls[module] = call + 1
        tensor = tree.feature_tensor(output)
        for question, into in zip(questions, found, strict=True):
            if question.module is module and question.call == call and tensor is not None:
                for layout, chunks in zip(question.readings, into, strict=True):
                    chunks.append(layout.to_maps(tensor.detach()).float().cpu())

    handles = [module.register_forward_hook(hook) for module in dict.fromkeys(q.module for q in questions)]
    original = tree.picture_tensor(inputs)
    try:
        with torch.no_grad():
            for some in pictures.split(batch):
                calls.clear()
                size = len(some)

                def batched(t: Tensor, some: Tensor = some, size: int = size) -> Tensor:
                    if t is original:
                        return some
                    return t.expand(size, *t.shape[1:]) if t.ndim and t.shape[0] == 1 else t

                tree.call(model, tree.map_tensors(inputs, batched))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _judge(layout: Layout, maps: Tensor) -> Proof:
    """Compare, for every change, the cell that moved most with the place of the change.

    Args:
        layout: the reading under which the maps were made.
        maps: [1 + changes, channel, *grid], the untouched picture first.
    """
    grid = layout.grid
    moved = (maps[1:] - maps[:1]).abs().flatten(2)  # (change, channel, cell)
    moved = torch.nan_to_num(moved)
    # Every channel counts alike: a few loud ones would otherwise speak for all.
    moved = (moved / moved.amax(dim=(0, 2), keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)).mean(1)
    answered = moved.amax(1) > 0
    if int(answered.sum()) < _FEWEST:
        return Proof(layout, 0.0, math.inf, int(answered.sum()))
    # More than for the other changes: some cells move whatever is changed.
    share = moved / moved.sum(0, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
    evidence = share * moved / moved.amax(1, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
    distances, hits = [], []
    for change in answered.nonzero().flatten().tolist():
        winner = torch.unravel_index(evidence[change].argmax(), grid)
        place = _spread(PLACES[change], len(grid))
        off = [abs(float(w) + 0.5 - p * n) for w, p, n in zip(winner, place, grid, strict=True)]
        distances.append(max(off))
        hits.append(all(o <= _tolerance(n) for o, n in zip(off, grid, strict=True)))
    return Proof(layout, sum(hits) / len(hits), sum(distances) / len(distances), len(hits))


def _tolerance(cells: int) -> float:
    """How far off, in cells, the centre of the winning cell may be: its own half, half the patch, and a neighbour."""
    return 0.5 + cells / 18 + (0.75 if cells >= 6 else 0.15)
