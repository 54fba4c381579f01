r"""Does a map look where people look? The rank correlation of VQA-HAT (Das et al., 2016).

Both maps are brought to 14 × 14 cells, their cells are ranked, and Spearman's correlation of the ranks is taken:

.. math:: \rho = \frac{\sum_p (r_p - \bar r)(s_p - \bar s)}{\sqrt{\sum_p (r_p - \bar r)^2 \sum_p (s_p - \bar s)^2}}

Cells with the same value share the mean of their ranks. Where several people looked, the correlation is the mean over
them; the result is the mean over questions, with its standard error over questions.

What the publication leaves open, and what is done here: maps are made smaller as images are, by averaging (bilinear,
antialiased). A map that is the same everywhere has no ranks: it counts as 0, and how often that was is told. People are
compared one by one, with a map and with each other, never with the mean of several.

People look at the middle and at large things, so a map that does the same scores well without having read the question:
``centre_prior`` belongs beside every result, as ``random_maps`` does.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.registry import dataset_metric

GRID = (14, 14)
"""Rows and columns of cells."""


@dataclass(frozen=True)
class Agreement:
    """How far maps agree.

    Attributes:
        mean: the rank correlation, the mean over questions; -1 to 1.
        error: its standard error over questions; NaN where there is one question only.
        questions: how many.
        comparisons: how many pairs of maps were compared.
        constant: in how many of them one map is the same everywhere, so that they count as 0.
        each: the rank correlation of every question, in the order in which they were given.
    """

    mean: float
    error: float
    questions: int
    comparisons: int
    constant: int
    each: Float[Tensor, " question"] = field(repr=False, compare=False)


@dataset_metric(
    "rank correlation of maps with where people looked",
    better="higher",
    range="-1 to 1",
    paper="Das et al., 2016",
    order=120,
)
def agreement_with_people(maps: Iterable[Tensor], people: Iterable[Iterable[Tensor]]) -> Agreement:
    """How far maps agree with those of people.

    Args:
        maps: one map [height, width] a question; any size, any unit.
        people: the maps of one person or several for each of these questions, each [height, width], any size.

    Raises:
        InputError: there is not one map for every question, nobody looked at one, or a map is not finite.

    >>> looked = torch.eye(14)
    >>> agreement_with_people([looked, -looked], [[looked, looked.T], [looked]])
    Agreement(mean=0.0, error=1.0, questions=2, comparisons=3, constant=0)
    """
    shown = [_cells(each) for each in maps]
    seen = [[_cells(each) for each in of_one] for of_one in people]
    if len(shown) != len(seen) or not shown:
        raise InputError(
            f"every question needs one map, and people's: got {len(shown)} maps, and people's of {len(seen)} questions."
        )
    if alone := [question for question, each in enumerate(seen) if not each]:
        raise InputError(f"question {alone[0]} (from 0) has no map of a person. Leave it out.")
    pairs = [(one, other) for one, others in zip(shown, seen, strict=True) for other in others]
    return _agreement(pairs, [len(each) for each in seen])


@dataset_metric(
    "the same of people with one another, to compare it with",
    better="none",
    range="-1 to 1",
    paper="Das et al., 2016",
    order=130,
)
def agreement_among_people(people: Iterable[Iterable[Tensor]]) -> Agreement:
    """How far people agree, the measure for ``agreement_with_people``: of every question the mean over pairs of people.

    Questions at which one person alone looked say nothing of it and are left out.

    Raises:
        InputError: there is no question at which several looked, or a map is not finite.

    >>> looked = torch.eye(14)
    >>> agreement_among_people([[looked, looked, looked], [looked]]).mean
    1.0
    """
    seen = ([_cells(each) for each in of_one] for of_one in people)
    several = [of_one for of_one in seen if len(of_one) > 1]
    if not several:
        raise InputError("agreement among people needs a question with maps of at least two people, got none.")
    pairs = [list(combinations(each, 2)) for each in several]
    return _agreement([pair for of_one in pairs for pair in of_one], [len(of_one) for of_one in pairs])


@dataset_metric(
    "Spearman's rank correlation of two maps",
    better="higher is more alike",
    range="-1 to 1",
    paper="common",
    order=110,
)
def rank_correlation(
    first: Float[Tensor, "*batch value"], second: Float[Tensor, "*batch value"]
) -> Float[Tensor, "*batch"]:
    """Spearman's rank correlation along the last axis, float64; 0 where one side has the same value everywhere.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 9.0, 9.0])).item(), 6)
    0.866025
    """
    if first.shape != second.shape or not first.ndim:
        raise InputError(f"both sides must have one shape, got {list(first.shape)} and {list(second.shape)}.")
    middle = (first.shape[-1] + 1) / 2
    a, b = ranks(first) - middle, ranks(second) - middle  # halves of whole numbers, whose products and sums are exact
    size = ((a * a).sum(-1) * (b * b).sum(-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(-1) / size, 0.0).clamp(-1, 1)


def ranks(values: Float[Tensor, "*batch value"]) -> Float[Tensor, "*batch value"]:
    """Ranks from 1 along the last axis, float64; equal values share the mean of theirs.

    Raises:
        InputError: a value is NaN, which has no rank.

    >>> ranks(torch.tensor([0.5, 0.1, 0.5, 0.9])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    if values.isnan().any():
        raise InputError("ranks need numbers, got NaN among the values.")
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to + 1).double() / 2


def on_grid(
    maps: Float[Tensor, "*batch height width"], grid: tuple[int, int] = GRID
) -> Float[Tensor, "*batch row column"]:
    """Maps on another grid, float64 on the CPU: averaged where it is coarser, interpolated where it is finer.

    What was equal stays equal, so that ranks are not those of rounding: sums are made in float64 and told in float32,
    in which sums of equal numbers are the same again. A map that has this grid already stays as it is.

    Raises:
        InputError: they are no maps, or not finite.

    >>> on_grid(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), (1, 2)).tolist(), on_grid(torch.ones(5, 3), (1, 1)).tolist()
    ([[0.0, 2.0]], [[1.0]])
    """
    if maps.ndim < 2 or not maps.shape[-1] * maps.shape[-2]:
        raise InputError(f"a map has the axes [height, width], got the shape {list(maps.shape)}.")
    wide = maps.detach().cpu().double()
    if not wide.isfinite().all():
        raise InputError("a map must be finite, got NaN or infinity in it.")
    if wide.shape[-2:] == grid:
        return wide
    flat = wide.reshape(-1, 1, *wide.shape[-2:])
    resized = F.interpolate(flat, grid, mode="bilinear", align_corners=False, antialias=True)
    unit = 2.0 ** torch.frexp(resized.abs().amax((-2, -1), keepdim=True)).exponent.double()  # so that none is too small
    return ((resized / unit).float() * unit).reshape(*wide.shape[:-2], *grid)


def random_maps(count: int, grid: tuple[int, int] = GRID, seed: int = 0) -> Float[Tensor, "count row column"]:
    """Maps of chance: what a map scores that knows neither image nor question, 0 within 1 / √195 a question.

    >>> random_maps(2, seed=1).shape
    torch.Size([2, 14, 14])
    """
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centre_prior(grid: tuple[int, int] = GRID) -> Float[Tensor, "row column"]:
    """A round hill in the middle: what a map scores that always looks there.

    It is a Gaussian whose standard deviation is a quarter of the map; any other would have the same ranks.

    >>> hill = centre_prior((3, 3))
    >>> hill.argmax().item(), ranks(hill.flatten()).tolist()
    (4, [2.5, 6.5, 2.5, 6.5, 9.0, 6.5, 2.5, 6.5, 2.5])
    """
    rows, columns = grid
    down, across = (2 * torch.arange(side, dtype=torch.float64) + 1 - side for side in grid)
    apart = (down[:, None] * columns) ** 2 + (across * rows) ** 2  # whole numbers: equal distances are exactly equal
    return torch.exp(-2 * apart / (rows * columns) ** 2)


def _cells(map: Tensor) -> Float[Tensor, "row column"]:
    """One map on the grid."""
    if map.ndim != 2:
        raise InputError(f"each map has the axes [height, width], got the shape {list(map.shape)}.")
    return on_grid(map)


def _agreement(pairs: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int]) -> Agreement:
    """Pairs of maps [row, column], so many of them a question."""
    first, second = (torch.stack(side).flatten(1) for side in zip(*pairs, strict=True))
    constant = (first == first[:, :1]).all(1) | (second == second[:, :1]).all(1)
    each = torch.stack([part.mean() for part in rank_correlation(first, second).split(list(counts))])
    error = (each.std() / math.sqrt(len(each))).item() if len(each) > 1 else math.nan
    return Agreement(each.mean().item(), error, len(each), len(pairs), int(constant.sum()), each)
