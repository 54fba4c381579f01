r"""Agreement of maps with human attention: the rank correlation of VQA-HAT (Das et al., 2016).

Both maps are resized to 14 × 14 cells, and Spearman's rank correlation of their cells is taken:

.. math:: \rho = \frac{\sum_p (r_p - \bar r)(s_p - \bar s)}{\sqrt{\sum_p (r_p - \bar r)^2 \sum_p (s_p - \bar s)^2}}

Cells of equal value share the mean of their ranks. The correlation of a question is the mean over people; the result is
the mean over questions, with its standard error over questions.

Choices that the publication leaves open: maps are downsampled by averaging (bilinear, antialiased). A constant map has
no ranks: it counts as 0, and the number of such pairs is reported. People are compared one by one, with a map and with
each other, never with the mean of several people.

People look at the middle and at large objects, so a map that ignores the question can score well. Report the
class-agnostic baselines ``centre_prior`` and ``random_maps`` with every result.
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
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.registry import dataset_metric
from saywhy.validation import finite

GRID = (14, 14)
"""Rows and columns of cells."""


@dataclass(frozen=True)
class Agreement:
    """The mean rank correlation of maps over questions.

    Attributes:
        mean: the rank correlation, the mean over questions; -1 to 1.
        error: its standard error over questions; NaN for a single question.
        questions: the number of questions.
        comparisons: the number of compared pairs of maps.
        constant: the number of pairs with a constant map, which count as 0.
        each: the rank correlation of every question, in the given order.
    """

    mean: float
    error: float
    questions: int
    comparisons: int
    constant: int
    each: Float[Tensor, " question"] = field(repr=False, compare=False)


@dataset_metric(
    "rank correlation of maps with human attention maps",
    better="higher",
    range="-1 to 1",
    paper="Das et al., 2016",
    order=120,
)
def agreement_with_people(maps: Iterable[Tensor], people: Iterable[Iterable[Tensor]]) -> Agreement:
    """Compute the rank correlation of maps with human attention maps.

    Args:
        maps: one map [height, width] a question; any size, any unit.
        people: the maps of one or several people for each of these questions, each [height, width], any size.

    Raises:
        InputError: a question has no map or no map of a person, or a map is not finite.

    >>> human = torch.eye(14)
    >>> agreement_with_people([human, -human], [[human, human.T], [human]])
    Agreement(mean=0.0, error=1.0, questions=2, comparisons=3, constant=0)
    """
    model_maps = [_cells(each) for each in maps]
    human_maps = [[_cells(each) for each in of_one] for of_one in people]
    if len(model_maps) != len(human_maps) or not model_maps:
        raise InputError(
            f"every question needs one map, and people's: got {len(model_maps)} maps, and people's of "
            f"{len(human_maps)} questions."
        )
    if missing := [question for question, each in enumerate(human_maps) if not each]:
        raise InputError(f"question {missing[0]} (from 0) has no map of a person. Leave it out.")
    pairs = [(one, other) for one, others in zip(model_maps, human_maps, strict=True) for other in others]
    return _agreement(pairs, [len(each) for each in human_maps])


@dataset_metric(
    "rank correlation of human attention maps with one another, as a reference",
    better="none",
    range="-1 to 1",
    paper="Das et al., 2016",
    order=130,
)
def agreement_among_people(people: Iterable[Iterable[Tensor]]) -> Agreement:
    """Compute the rank correlation among people, the reference for ``agreement_with_people``: the mean over pairs.

    Questions with the map of one person only are left out.

    Raises:
        InputError: no question has maps of at least two people, or a map is not finite.

    >>> human = torch.eye(14)
    >>> agreement_among_people([[human, human, human], [human]]).mean
    1.0
    """
    human_maps = ([_cells(each) for each in of_one] for of_one in people)
    several = [of_one for of_one in human_maps if len(of_one) > 1]
    if not several:
        raise InputError("agreement among people needs a question with maps of at least two people, got none.")
    pairs = [list(combinations(each, 2)) for each in several]
    return _agreement([pair for of_one in pairs for pair in of_one], [len(of_one) for of_one in pairs])


def on_grid(
    maps: Float[Tensor, "*batch height width"], grid: tuple[int, int] = GRID
) -> Float[Tensor, "*batch row column"]:
    """Resize maps to another grid, float64 on the CPU: averaged if it is coarser, interpolated if it is finer.

    Equal values stay equal, so that ranks do not depend on rounding errors: sums are computed in float64 and rounded to
    float32, in which sums of equal numbers are equal again. A map on this grid already is not changed.

    Raises:
        InputError: the maps have no axes of height and width, or are not finite.

    >>> on_grid(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), (1, 2)).tolist(), on_grid(torch.ones(5, 3), (1, 1)).tolist()
    ([[0.0, 2.0]], [[1.0]])
    """
    if maps.ndim < 2 or not maps.shape[-1] * maps.shape[-2]:
        raise InputError(f"a map must have the axes [height, width], got the shape {list(maps.shape)}.")
    values = finite("a map", maps.detach().cpu().double())
    if values.shape[-2:] == grid:
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    resized = F.interpolate(flat, grid, mode="bilinear", align_corners=False, antialias=True)
    unit = 2.0 ** torch.frexp(resized.abs().amax((-2, -1), keepdim=True)).exponent.double()  # avoids underflow
    return ((resized / unit).float() * unit).reshape(*values.shape[:-2], *grid)


def random_maps(count: int, grid: tuple[int, int] = GRID, seed: int = 0) -> Float[Tensor, "count row column"]:
    """Return random maps, a class-agnostic baseline: their rank correlation is 0 within 1 / √195 a question.

    >>> random_maps(2, seed=1).shape
    torch.Size([2, 14, 14])
    """
    return torch.rand(count, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centre_prior(grid: tuple[int, int] = GRID) -> Float[Tensor, "row column"]:
    """Return the centre prior, a class-agnostic baseline: a Gaussian in the middle of the map.

    Its standard deviation is a quarter of the map; any other would give the same ranks.

    >>> prior = centre_prior((3, 3))
    >>> from saywhy.metrics.correlation import ranks
    >>> prior.argmax().item(), ranks(prior.flatten()).tolist()
    (4, [2.5, 6.5, 2.5, 6.5, 9.0, 6.5, 2.5, 6.5, 2.5])
    """
    rows, columns = grid
    down, across = (2 * torch.arange(side, dtype=torch.float64) + 1 - side for side in grid)
    squares = (down[:, None] * columns) ** 2 + (across * rows) ** 2  # whole numbers: equal distances are exactly equal
    return torch.exp(-2 * squares / (rows * columns) ** 2)


def _cells(map: Tensor) -> Float[Tensor, "row column"]:
    """Return one map on the grid."""
    if map.ndim != 2:
        raise InputError(f"each map must have the axes [height, width], got the shape {list(map.shape)}.")
    return on_grid(map)


def _agreement(pairs: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int]) -> Agreement:
    """Return the agreement of pairs of maps [row, column], given the number of pairs of every question."""
    first, second = (torch.stack(side).flatten(1) for side in zip(*pairs, strict=True))
    constant = (first == first[:, :1]).all(1) | (second == second[:, :1]).all(1)
    each = torch.stack([part.mean() for part in rank_correlation(first, second).split(list(counts))])
    error = (each.std() / math.sqrt(len(each))).item() if len(each) > 1 else math.nan
    return Agreement(each.mean().item(), error, len(each), len(pairs), int(constant.sum()), each)
