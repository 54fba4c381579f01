"""A layout is proved, not assumed: change one patch of the image, and the claimed cell must move most.

Shapes cannot tell a 14 × 14 grid of tokens from the same tokens shifted by one, nor NHWC from NCHW when the sides are
equal, and a wrong reading still gives a plausible map. So the image is changed in a few places, one at a time, and the
response of every cell to each change is compared with its response to the other changes. Under the right reading

1. the cell that moved most is the one over the change, or a neighbour;
2. the cells that moved lie under their own change and not under the others (a stronger test on a coarse grid);
3. tokens read one position further on do not fit better;
4. the line through the responses along every axis shows that the grid covers the image. Where it covers another part,
   because the network crops, pads, resizes or mirrors its image, more patches are changed, the part is estimated, and
   the layout is proved with this placement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from saywhy.engine.layout import Layout
from saywhy.engine.placement import AxisFit, Placement, bend, fit_axes, shear
from saywhy.engine.probes import PROBE_CENTRES, Probes

MIN_HIT_RATE = 0.6
"""The least share of changes that the claimed cell or a neighbour must follow. By chance, on a 7 × 7 grid: 1 in 60."""

MIN_SELECTIVITY = 0.55
"""The least selectivity. With their cells shuffled, none of 700 layers of 60 families of networks reached it."""

MIN_PLACED_HIT_RATE = 0.8
"""The same for tokens, and where the grid covers another part than the whole image: its borders were fitted.

Tokens that a network merges by fours reach 0.62 as a grid that they are not.
"""

HIGH_SELECTIVITY = 0.8
"""Selectivity from which a third of ``MIN_HIT_RATE`` suffices: large kernels on small images respond a few cells off.

Grids whose cells are far from square on the image need it, and grids with extra tokens: of the 124 architectures whose
proofs were looked at, all with extra tokens reach 0.9, and a grid with other extra tokens may nearly fit.
"""

MIN_RESPONSES = 5
"""The least number of changes that a layer must respond to."""

NEIGHBOURHOOD = 1.25
"""How far, in cells, the cell that moved most may be from the patch: half a cell and most of a neighbouring one."""

NEIGHBOURHOOD_SHARE = 0.18
"""How far it may be at most as a share of the image, so that a neighbour of a large cell is no hit; see _tolerance."""

MAX_DISPLACEMENT = 0.8
"""How far, in cells, the placement may be from the whole image. Strided padded convolutions are half a cell off."""

MAX_DISPLACEMENT_SHARE = 0.04
"""The same as a share of the image, for fine grids."""

MAX_CELL_ASPECT = 2.01
"""The largest ratio of the sides of a cell on the image that needs no stronger proof."""

MOST_EXTRA_TOKENS_OF_AN_IMAGE = 8
"""The largest number of tokens beside the grid that needs no stronger proof; with more, some wrong grid may fit."""

_DOUBTFUL_SHEAR = 0.7
"""The shear of a fine grid by few changes, in units of what is allowed, at which more changes decide."""

MAX_BEND = 0.35
"""How far, in cells and in the mean, the responses may be from one line along an axis, where the grid was placed."""

MAX_BEND_OF_A_FINE_GRID = 0.5
"""The same where no placement explains the responses better than the whole image."""

_FINE = 10
"""Cells along an axis from which a bend can be told from the spread of the responses."""

_FEW_CELLS = {"channels-first": 4, "channels-last": 4, "tokens": 9, "tokens-last": 9}  # these need more patches
_BETTER_FIT = 1.05  # how much better a placement must explain the responses than the whole image
_RANKING_CHANNELS = 64  # channels by which the finalists are chosen


@dataclass(frozen=True)
class Proof:
    """How well one reading of a layer's output followed the changes.

    Attributes:
        layout: the reading.
        followed: share of the changes after which the claimed cell (or a neighbour) moved most, 0 to 1; a change that
            moved nothing counts, unless it is outside the grid.
        distance: mean distance in cells from the cell that moved most to the change; 0 is perfect.
        responses: how many of the changes moved anything in the layer.
        fit: mean cosine, 0 to 1, between how much every cell moved and how much of it the change covers.
        selectivity: how much better every change fits its own place than the others', as a correlation, -1 to 1,
            divided by the largest value that the grid allows.
        displaced: whether tokens would fit better one position further on or back.
        changes: the number of changes.
        displacement: how far, in units of what is allowed, the responses show the grid to be from its placement.
        shear: how far, in units of what is allowed, the responses show the grid to be turned or sheared on the image.
        bent: whether the responses along an axis of a placed grid lie on no line: a perspective.
        aligned: whether the responses move along every axis of the grid as the changes do.
        needs_more: whether so few changes decide nothing: the grid is coarse, or some changes moved nothing.
        elongated: whether the cells of a token grid are far from square on the image.
        coarse: whether only a part of the channels was looked at, and not the placement.
    """

    layout: Layout
    followed: float
    distance: float
    responses: int
    fit: float = 0.0
    selectivity: float = 0.0
    displaced: bool = False
    changes: int = len(PROBE_CENTRES)
    displacement: float = 0.0
    shear: float = 0.0
    bent: bool = False
    aligned: bool = True
    needs_more: bool = False
    elongated: bool = False
    coarse: bool = False

    @property
    def holds(self) -> bool:
        """Whether the reading is proved."""
        # Tokens have several nearly right readings, a placement is found by fitting it, and changes that move nothing
        # may lie outside the grid.
        tokens = self.layout.kind.startswith("tokens")
        strict = tokens or self.layout.placement is not None or self.responses < self.changes
        needed = MIN_HIT_RATE / 3 if self.selectivity >= HIGH_SELECTIVITY and not strict else MIN_HIT_RATE
        needed = MIN_PLACED_HIT_RATE if self.layout.placement is not None or tokens else needed
        if self.many_extra and self.layout.placement is not None:
            return False  # rows of a grid that are read as extra tokens look like a shifted image
        found = self.followed >= needed and self.responses >= MIN_RESPONSES
        unlikely = self.elongated or self.extra > 0
        selective = self.selectivity >= (HIGH_SELECTIVITY if unlikely else MIN_SELECTIVITY)
        found = found and selective
        placed = self.aligned and self.displacement <= 1 and self.shear <= 1 and not (self.displaced or self.bent)
        return found and placed and not self.needs_more

    @property
    def many_extra(self) -> bool:
        """Whether so many tokens, or most of them, are not in the grid that another grid may be the right one."""
        return self.extra > min(MOST_EXTRA_TOKENS_OF_AN_IMAGE, math.prod(self.layout.grid))

    @property
    def extra(self) -> int:
        """How many tokens are not in the grid."""
        return self.layout.prefix + self.layout.suffix

    @property
    def undecided(self) -> bool:
        """Whether the layer responded to too few changes for a verdict (as in a dead network)."""
        return self.responses < MIN_RESPONSES

    def __str__(self) -> str:
        if self.undecided:
            return f"{self.layout}: undecided, the layer responded to {self.responses} of {self.changes} changes"
        verdict = "proved" if self.holds else "not proved"
        reasons = [
            ", fits better one token further" if self.displaced else "",
            "" if self.aligned else ", an axis of the grid does not follow the image",
            ", covers another part of the image" if self.displacement > 1 else "",
            ", turned or sheared on the image" if self.shear > 1 else "",
            ", bent on the image" if self.bent else "",
        ]
        return (
            f"{self.layout}: {verdict}, {self.followed:.0%} of the changed patches found, "
            f"{self.distance:.1f} cells off, selectivity {self.selectivity:.2f}{''.join(reasons)}"
        )


def proof_of(layout: Layout, probes: Probes, coarse: bool = False) -> Proof:
    """Compare, for every change, the cells that moved with the place of the change.

    Args:
        layout: the reading.
        probes: the changes and the layer's outputs.
        coarse: look at a part of the channels, and not at the placement.
    """
    channels = probes.maps(layout).shape[1]
    moved = movement(probes.maps(layout, max(1, channels // _RANKING_CHANNELS) if coarse else 1))  # (change, cell)
    answered = moved.amax(1) > 0
    count, changes = int(answered.sum()), len(moved)
    if count < MIN_RESPONSES:
        return Proof(layout, 0.0, math.inf, count, changes=changes)
    tiny = torch.finfo(moved.dtype).tiny
    ends = _ends_in_cells(layout, probes)  # (change, axis, 2)
    # Relative to the other changes, because some cells respond to every change.
    share = (moved / moved.sum(0, keepdim=True).clamp_min(tiny))[answered]
    evidence = share * (moved / moved.amax(1, keepdim=True).clamp_min(tiny))[answered]
    # new_tensor, because the user sets torch's default device and dtype, and the maps are on the CPU.
    covered = normalize(moved.new_tensor(_coverage(layout.grid, ends))[answered], dim=1)
    # On a coarse grid the changes share cells: not even a perfect layer could separate them.
    possible = _selectivity(covered @ covered.T)
    centres = moved.new_tensor(ends.mean(2))
    off = (_strongest_cells(evidence, layout.grid) - centres[answered]).abs()
    near = off <= moved.new_tensor(_tolerance(layout.grid)) + moved.new_tensor(np.ptp(ends, axis=2)[0]) / 2
    # A change within the grid that moves nothing counts against the reading.
    within = ((centres > 0) & (centres < moved.new_tensor(layout.grid))).all(1)
    # Squared, so that the cells that moved most outweigh the many that moved a little.
    strongest = normalize(evidence.square(), dim=1)
    fit = float((strongest * covered).sum(1).mean())
    fine = min(layout.grid) >= _FINE
    axes = [] if coarse or layout.placement is not None else _axes(moved[answered], evidence, layout, probes, answered)
    selectivity = min(1.0, _selectivity(normalize(share, dim=1) @ covered.T) / possible) if possible > 0 else 0.0
    displacement = (
        _relative([a.displacement(n) for a, n in zip(axes, layout.grid, strict=True)], layout.grid) if axes else 0.0
    )
    seen, patches = moved[answered].numpy().reshape(-1, *layout.grid), probes.shares[answered.numpy()]
    bent = 0.0 if coarse else max(bend(seen, patches))
    elsewhere = displacement > 1 and all(axis.usable for axis in axes)
    if elsewhere:
        placed = replace(layout, placement=Placement(tuple(a.low for a in axes), tuple(a.high for a in axes)))
        there = normalize(moved.new_tensor(_coverage(layout.grid, _ends_in_cells(placed, probes)))[answered], dim=1)
        no_better = float((strongest * there).sum(1).mean()) < _BETTER_FIT * fit
        if no_better and not (fine and bent > MAX_BEND_OF_A_FINE_GRID):
            displacement = 0.0  # as where every position is mixed with every other
    sheared = 0.0 if coarse else _relative(shear(seen, patches), layout.grid)
    # Attention moves every token a little, which can hide where the rest lies.
    hidden = elsewhere and fine and layout.kind.startswith("tokens")
    doubtful = sheared > (_DOUBTFUL_SHEAR if fine else 1.0) or hidden
    coarse_grid = math.prod(layout.grid) <= _FEW_CELLS[layout.kind]
    ambiguous = coarse_grid and (layout.kind != "channels-first" or selectivity < 0.9)
    return Proof(
        layout,
        followed=float(near.all(1).sum()) / int((answered | within).sum()),
        distance=float(off.amax(1).mean()),
        responses=count,
        fit=fit,
        selectivity=selectivity,
        displaced=layout.kind.startswith("tokens")
        and any(float((strongest.roll(step, 1) * covered).sum(1).mean()) > fit for step in (-1, 1)),
        changes=changes,
        displacement=displacement,
        shear=sheared,
        bent=layout.placement is not None and bent > MAX_BEND,
        aligned=all(axis.usable for axis in axes),
        coarse=coarse,
        elongated=layout.kind.startswith("tokens") and _cell_aspect(layout, probes.space) > MAX_CELL_ASPECT,
        needs_more=changes == len(PROBE_CENTRES) and (ambiguous or count < changes or doubtful),
    )


def _relative(off: Sequence[float], grid: Sequence[int]) -> float:
    """The largest of some distances in cells, in units of what is allowed along their axes."""
    return max((a / allowed_displacement(cells) for a, cells in zip(off, grid, strict=True)), default=0.0)


def _axes(moved: Tensor, evidence: Tensor, layout: Layout, probes: Probes, answered: Tensor) -> list[AxisFit]:
    """The fit of every axis: of the centroids of the movements, or, where attention moves all cells a little and the
    centroids lie on no line, of the cells that moved most.
    """
    patches = probes.shares[answered.numpy()]
    fits = fit_axes(moved.numpy().reshape(-1, *layout.grid), patches)
    if all(fit.usable for fit in fits):
        return fits
    strongest = torch.zeros_like(evidence).scatter_(1, evidence.argmax(1, keepdim=True), 1.0)
    sharper = fit_axes(strongest.numpy().reshape(-1, *layout.grid), patches)
    return [fit if fit.usable else other for fit, other in zip(fits, sharper, strict=True)]


def _cell_aspect(layout: Layout, space: Sequence[int]) -> float:
    """The ratio of the longest to the shortest side of a cell on the image, without a volume's first axis (time)."""
    covered = layout.placement or Placement((0.0,) * len(space), (1.0,) * len(space))
    sides = [
        abs(high - low) * pixels / cells
        for low, high, pixels, cells in zip(covered.low, covered.high, space, layout.grid, strict=True)
    ]
    sides = sides[1:] if len(sides) > 2 else sides
    return max(sides) / min(sides)


def _tolerance(grid: Sequence[int]) -> list[float]:
    """How far, in cells, the cell that moved most may be from the patch along every axis."""
    return [min(NEIGHBOURHOOD, max(0.65, NEIGHBOURHOOD_SHARE * cells)) for cells in grid]


def allowed_displacement(cells: int) -> float:
    """How far, in cells, the placement may be from the whole image along an axis."""
    return max(MAX_DISPLACEMENT, MAX_DISPLACEMENT_SHARE * cells)


def _ends_in_cells(layout: Layout, probes: Probes) -> np.ndarray:
    """The ends of every patch in cells of the grid, the lower one first, [change, axis, 2]."""
    placement = layout.placement or Placement((0.0,) * len(layout.grid), (1.0,) * len(layout.grid))
    ends = [placement.to_cells(probes.shares[:, :, end], layout.grid) for end in (0, 1)]
    return np.sort(np.stack(ends, axis=2), axis=2)


def movement(maps: Tensor) -> Tensor:
    """How much every cell moved for each change, [change, cell], 0 to 1."""
    moved = torch.nan_to_num((maps[1:] - maps[:1]).abs().flatten(2))  # (change, channel, cell)
    # Every channel has the same weight; otherwise a few large ones would dominate.
    return (moved / moved.amax(dim=(0, 2), keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)).mean(1)


def _strongest_cells(evidence: Tensor, grid: Sequence[int]) -> Tensor:
    """The centre of the cell with most evidence for each change, in cells, [change, axis]."""
    # numpy's unravel_index, because torch's loads its compiler the first time.
    winners = np.unravel_index(evidence.argmax(1).numpy(), tuple(grid))
    return evidence.new_tensor(np.stack(winners, axis=1) + 0.5)


def _coverage(grid: Sequence[int], ends: np.ndarray) -> np.ndarray:
    """How much of every cell each change covers, [change, cell], with half a cell more on all sides.

    The margin is there because padding and stride shift a cell's receptive field by up to half a cell.
    """
    rows = []
    for patch in ends:
        covered = np.ones(())
        for (low, high), cells in zip(patch, grid, strict=True):
            cell = np.arange(cells)
            overlap = np.minimum(cell + 1, high + 0.5) - np.maximum(cell, low - 0.5)
            covered = covered[..., None] * np.maximum(overlap, 0)
        rows.append(covered.ravel())
    return np.stack(rows)


def _selectivity(fits: Tensor) -> float:
    """The correlation between how the changes fit the places and the identity: each its own place and no other."""
    centred = fits - fits.mean(0) - fits.mean(1, keepdim=True) + fits.mean()
    scale = float(centred.norm()) * math.sqrt(len(fits) - 1)
    return float(centred.diagonal().sum()) / scale if scale > 0 else 0.0
