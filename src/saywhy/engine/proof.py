"""A layout is proved, not assumed: change one patch of the image, and the claimed cell must move most.

Shapes cannot tell a 14 × 14 grid of tokens from the same tokens shifted by one, nor NHWC from NCHW when the sides are
equal, and a wrong reading still gives a plausible map. So the image is changed in a few places, one at a time, and the
response of every cell to each change is compared with its response to the other changes. Under the right reading

1. the cell that moved most is the one over the change, or a neighbour;
2. the cells that moved lie under their own change and not under the others (a stronger test on a coarse grid);
3. tokens read one position further on do not fit better.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from saywhy.engine import tree
from saywhy.engine.activations import FunctionCall, hooked
from saywhy.engine.hooks import Hook
from saywhy.engine.layout import Layout
from saywhy.engine.memory import out_of_memory

PLACES = (
    (0.21, 0.36, 0.79, 0.64),
    (0.36, 0.79, 0.07, 0.36),
    (0.79, 0.21, 0.36, 0.07),
    (0.64, 0.64, 0.21, 0.93),
    (0.07, 0.07, 0.57, 0.57),
    (0.93, 0.93, 0.93, 0.5),
    (0.5, 0.21, 0.5, 0.79),
    (0.14, 0.57, 0.64, 0.21),
)
"""Centres of the changes, as shares of the image's height and width: both halves of both axes, corners, no symmetry.

The third and fourth number are for inputs of more axes; uncorrelated, so that no axis is taken for another.
"""

NEEDED = 0.6
"""The least share of changes that the claimed cell or a neighbour must follow. By chance, on a 7 × 7 grid: 1 in 60."""

SELECTIVE = 0.55
"""The least selectivity. With their cells shuffled, none of 700 layers of 60 families of networks reached it."""

CERTAIN = 0.8
"""Selectivity from which a third of ``NEEDED`` suffices: large kernels on small images respond a few cells off."""

PATCHES = (1 / 9, 1 / 4)
"""Side of the patches as a share of the image's side; the larger ones where a layer hardly responds to the smaller.

Strided 1 × 1 convolutions (the shortcuts of residual networks) do not respond to changes between their pixels.
"""

AT_ONCE = 5
"""How many changed images run together, if memory allows."""

_FEWEST = 5  # the least number of changes that a layer must respond to


Patch = list[tuple[int, int]]
"""First and last pixel (exclusive) of a patch, for every axis of an image."""


@dataclass(frozen=True)
class Proof:
    """How well one reading of a layer's output followed the changes.

    Attributes:
        layout: the reading.
        followed: share of the changes after which the claimed cell (or a neighbour) moved most, 0 to 1.
        distance: mean distance in cells from the cell that moved most to the change; 0 is perfect.
        responses: how many of the changes moved anything in the layer.
        fit: mean cosine, 0 to 1, between how much every cell moved and how much of it the change covers.
        selectivity: how much better every change fits its own place than the others', as a correlation, -1 to 1,
            divided by the largest value that the grid allows.
        displaced: whether tokens would fit better one position further on or back.
    """

    layout: Layout
    followed: float
    distance: float
    responses: int
    fit: float = 0.0
    selectivity: float = 0.0
    displaced: bool = False

    @property
    def holds(self) -> bool:
        """Whether the reading is proved."""
        tokens = self.layout.kind.startswith("tokens")  # tokens have several nearly right readings
        needed = NEEDED / 3 if self.selectivity >= CERTAIN and not tokens else NEEDED
        found = self.followed >= needed and self.selectivity >= SELECTIVE
        return found and self.responses >= _FEWEST and not self.displaced

    @property
    def undecided(self) -> bool:
        """Whether the layer responded to too few changes for a verdict (as in a dead network)."""
        return self.responses < _FEWEST

    def __str__(self) -> str:
        if self.undecided:
            return f"{self.layout}: undecided, the layer responded to {self.responses} of {len(PLACES)} changes"
        verdict = "proved" if self.holds else "not proved"
        displaced = ", fits better one token further" if self.displaced else ""
        return (
            f"{self.layout}: {verdict}, {self.followed:.0%} of the changed patches found, "
            f"{self.distance:.1f} cells off, selectivity {self.selectivity:.2f}{displaced}"
        )


@dataclass(frozen=True)
class Reading:
    """One call of a layer, and the readings of its output to be tried."""

    module: nn.Module
    call: int
    readings: tuple[Layout, ...]
    function: FunctionCall | None = None


def prove(model: nn.Module, inputs: object, layers: Sequence[Reading], batch: int = AT_ONCE) -> list[list[Proof]]:
    """Try every reading of every layer on changed copies of one sample.

    Args:
        model: in evaluation mode.
        inputs: the inputs of one sample.
        layers: the layers, with their readings.
        batch: how many changed images run together; they run one by one if the model takes no batches.

    Returns:
        For every layer its proofs, best first.
    """
    small, large = PATCHES
    found = _prove(model, inputs, layers, batch, small)
    undecided = [i for i, proofs in enumerate(found) if proofs and proofs[0].undecided]
    if undecided:
        again = _prove(model, inputs, [layers[i] for i in undecided], batch, large)
        for i, proofs in zip(undecided, again, strict=True):
            found[i] = proofs
    return found


def _prove(model: nn.Module, inputs: object, layers: Sequence[Reading], batch: int, share: float) -> list[list[Proof]]:
    """The proofs from patches of one size, a share of the image's side."""
    image = tree.image_tensor(inputs)
    space = tuple(image.shape[2:])
    patches = [_patch(place, space, share) for place in PLACES]
    changed = torch.cat([image, *(_change(image, patch) for patch in patches)])
    try:
        moved = _record_maps(model, inputs, changed, layers, batch)
    except RuntimeError as error:
        if batch == 1:
            raise
        # Fewer images where memory runs out; one by one where the model takes no batches.
        return _prove(model, inputs, layers, batch // 2 if out_of_memory(error) else 1, share)
    return [
        sorted(
            (
                _proof_of(layout, torch.cat(maps), patches, space)
                for layout, maps in zip(layer.readings, per_reading, strict=True)
            ),
            key=lambda proof: (proof.undecided, not proof.holds, -proof.fit, proof.layout.prefix),
        )
        for layer, per_reading in zip(layers, moved, strict=True)
    ]


def _change(image: Tensor, patch: Patch) -> Tensor:
    """The image with one patch replaced by strong noise, [1, channel, *space]."""
    changed = image.clone()
    region = (slice(None), slice(None), *(slice(start, stop) for start, stop in patch))
    noise = torch.rand(changed[region].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    amplitude = 3 * float(image.float().std()) if image.numel() > 1 else 0.0
    changed[region] += (max(amplitude, 1.0) * noise.sign() * (0.5 + noise.abs())).to(changed)
    return changed


def _patch(place: Sequence[float], space: Sequence[int], share: float) -> Patch:
    """The patch around a place, its sides a share of the image's."""
    patch = []
    for middle, size in zip(place, space, strict=False):
        width = max(1, round(size * share))
        start = min(max(0, round(middle * size - width / 2)), size - width)
        patch.append((start, start + width))
    return patch


def _record_maps(
    model: nn.Module, inputs: object, images: Tensor, layers: Sequence[Reading], batch: int
) -> list[list[list[Tensor]]]:
    """For every layer and reading, the maps of every image: chunks of [n, channel, *grid]."""
    found: list[list[list[Tensor]]] = [[[] for _ in q.readings] for q in layers]

    def keep(layer: Reading, into: list[list[Tensor]]) -> Hook:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            tensor = tree.feature_tensor(output)
            if tensor is not None:
                for layout, chunks in zip(layer.readings, into, strict=True):
                    chunks.append(layout.to_maps(tensor.detach()).float().cpu())

        return hook

    with torch.no_grad():
        for some in images.split(batch):
            with ExitStack() as hooks:
                for layer, into in zip(layers, found, strict=True):
                    hooks.enter_context(hooked(layer.module, layer.function, layer.call, keep(layer, into)))
                tree.call(model, tree.with_images(inputs, some, torch.zeros(len(some), dtype=torch.long)))
    return found


def _proof_of(layout: Layout, maps: Tensor, patches: Sequence[Patch], space: Sequence[int]) -> Proof:
    """Compare, for every change, the cells that moved with the place of the change.

    Args:
        layout: the reading under which the maps were made.
        maps: [1 + changes, channel, *grid], the untouched image first.
        patches: the changed patches.
        space: size of the image in pixels.
    """
    moved = _movement(maps)  # (change, cell)
    answered = moved.amax(1) > 0
    count = int(answered.sum())
    if count < _FEWEST:
        return Proof(layout, 0.0, math.inf, count)
    tiny = torch.finfo(moved.dtype).tiny
    # Relative to the other changes, because some cells respond to every change.
    share = (moved / moved.sum(0, keepdim=True).clamp_min(tiny))[answered]
    evidence = share * (moved / moved.amax(1, keepdim=True).clamp_min(tiny))[answered]
    # new_tensor, because the user sets torch's default device and dtype, and the maps are on the CPU.
    covered = normalize(moved.new_tensor(_coverage(layout.grid, patches, space))[answered], dim=1)
    # On a coarse grid the changes share cells: not even a perfect layer could separate them.
    possible = _selectivity(covered @ covered.T)
    off = (
        _strongest_cells(evidence, layout.grid) - moved.new_tensor(_centres(layout.grid, patches, space))[answered]
    ).abs()
    # Half a cell, half the patch, and most of a neighbouring cell.
    near = off <= 1.25 + moved.new_tensor(_widths(layout.grid, patches, space)) / 2
    # Squared, so that the cells that moved most outweigh the many that moved a little.
    strongest = normalize(evidence.square(), dim=1)
    fit = float((strongest * covered).sum(1).mean())
    return Proof(
        layout,
        followed=float(near.all(1).float().mean()),
        distance=float(off.amax(1).mean()),
        responses=count,
        fit=fit,
        selectivity=min(1.0, _selectivity(normalize(share, dim=1) @ covered.T) / possible) if possible > 0 else 0.0,
        displaced=layout.kind.startswith("tokens")
        and any(float((strongest.roll(step, 1) * covered).sum(1).mean()) > fit for step in (-1, 1)),
    )


def _movement(maps: Tensor) -> Tensor:
    """How much every cell moved for each change, [change, cell], 0 to 1."""
    moved = torch.nan_to_num((maps[1:] - maps[:1]).abs().flatten(2))  # (change, channel, cell)
    # Every channel has the same weight; otherwise a few large ones would dominate.
    return (moved / moved.amax(dim=(0, 2), keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)).mean(1)


def _strongest_cells(evidence: Tensor, grid: Sequence[int]) -> Tensor:
    """The centre of the cell with most evidence for each change, in cells, [change, axis]."""
    # numpy's unravel_index, because torch's loads its compiler the first time.
    winners = np.unravel_index(evidence.argmax(1).numpy(), tuple(grid))
    return evidence.new_tensor(np.stack(winners, axis=1) + 0.5)


def _centres(grid: Sequence[int], patches: Sequence[Patch], space: Sequence[int]) -> list[list[float]]:
    """The centre of every change, in cells."""
    return [
        [(start + stop) / 2 * cells / size for (start, stop), size, cells in zip(patch, space, grid, strict=True)]
        for patch in patches
    ]


def _widths(grid: Sequence[int], patches: Sequence[Patch], space: Sequence[int]) -> list[float]:
    """The width of the changes in cells, by axis."""
    return [(stop - start) * cells / size for (start, stop), size, cells in zip(patches[0], space, grid, strict=True)]


def _coverage(grid: Sequence[int], patches: Sequence[Patch], space: Sequence[int]) -> np.ndarray:
    """How much of every cell each change covers, [change, cell], with half a cell more on all sides.

    The margin is there because padding and stride shift a cell's receptive field by up to half a cell.
    """
    rows = []
    for patch in patches:
        covered = np.ones(())
        for (start, stop), size, cells in zip(patch, space, grid, strict=True):
            low, high = start * cells / size - 0.5, stop * cells / size + 0.5
            cell = np.arange(cells)
            overlap = np.minimum(cell + 1, high) - np.maximum(cell, low)
            covered = covered[..., None] * np.maximum(overlap, 0)
        rows.append(covered.ravel())
    return np.stack(rows)


def _selectivity(fits: Tensor) -> float:
    """The correlation between how the changes fit the places and the identity: each its own place and no other."""
    centred = fits - fits.mean(0) - fits.mean(1, keepdim=True) + fits.mean()
    scale = float(centred.norm()) * math.sqrt(len(fits) - 1)
    return float(centred.diagonal().sum()) / scale if scale > 0 else 0.0
