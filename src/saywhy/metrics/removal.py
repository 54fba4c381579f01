r"""Metrics that remove or insert pixels in the order of a map: deletion, insertion, ERASER's two metrics, and ROAD.

All take maps [batch, target, *grid] of any grid, upsample them linearly to the pixels of the network's image, and rank
the pixels, the highest value first. Only the order counts: at the image's resolution any increasing function of a map
gives the same value; on a coarser grid any positive multiple does, because interpolation is linear. Pixels of equal
value (a rectified map has many zeros) are in random order, drawn once from the seed for all maps, so that a map gains
nothing from ties. A constant map is a random order. A share of the pixels is rounded to a whole number of pixels.
Deletion removes the same pixels that insertion inserts.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError
from saywhy.methods.baselines import Baseline, baseline_of
from saywhy.metrics.imputation import imputed
from saywhy.metrics.registry import metric
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps, MapStack, Scores, at_least_float32
from saywhy.validation import finite, validate, whole_number

STEPS = 16
"""Number of portions in which pixels are removed or inserted."""

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the tokens in ERASER (DeYoung et al., 2020)."""

IMPUTED = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the pixels that ROAD removes."""


@metric(
    "deletion",
    title="Deletion",
    paper="Petsiuk et al., 2018",
    equation="∫ y(x without its highest s) ds",
    better="lower",
    low=0.0,
    high=1.0,
    needs="network",
    otherwise="in units of the score",
    order=60,
)
def deletion(
    maps: MapStack, runner: ModelRunner, *, steps: int = STEPS, fill: Baseline = "zero", seed: int = 0
) -> Scores:
    r"""Deletion (Petsiuk, Das and Saenko, 2018): the area under the score as the highest pixels are removed first.

    .. math:: \int_0^1 y\big(x \text{ without its highest } s\big)\,\mathrm{d}s

    by the trapezoidal rule over ``steps`` equal portions, both ends included.

    Differs from quantus's ``PixelFlipping``, which omits the beginning of this curve and counts every channel of a
    pixel separately, and from torchcam, which removes equal pixels in reading order.

    Args:
        maps: maps of any grid.
        runner: the network, the images and the targets.
        steps: the number of portions, with a forward pass each; the paper removes a row of pixels at a time (224).
        fill: the content of removed pixels: the paper's zero of the preprocessed image, or any baseline of
            :func:`saywhy.methods.baselines.baseline_of`.
        seed: the seed of the order of equal pixels.

    Returns:
        [batch, target] in units of the score; 0 to 1 for probabilities. Lower is better.

    Raises:
        InputError: a map is not finite, the number of maps differs from the number of scores, or ``steps`` is no whole
            number of at least 1.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 0.0, 0.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> deletion(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), runner, steps=4)  # 4, 0, 0, 0, 0
    tensor([[0.5000]], dtype=torch.float64)
    """
    return _area(
        _removal_curves(maps, runner, _portions(steps), seed, lambda sample: baseline_of(runner, sample, fill))
    )


@metric(
    "insertion",
    title="Insertion",
    paper="Petsiuk et al., 2018",
    equation="∫ y(the highest s of x) ds",
    better="higher",
    low=0.0,
    high=1.0,
    needs="network",
    otherwise="in units of the score",
    order=70,
)
def insertion(
    maps: MapStack, runner: ModelRunner, *, steps: int = STEPS, start: Baseline = "blur", seed: int = 0
) -> Scores:
    r"""Insertion (Petsiuk, Das and Saenko, 2018): the area under the score as the highest pixels are inserted first.

    .. math:: \int_0^1 y\big(\tilde x \text{ with the highest } s \text{ of } x\big)\,\mathrm{d}s

    Args, errors: as for :func:`deletion`; ``start`` is the image before insertion, in the paper the blurred image.

    Returns:
        [batch, target] in units of the score; 0 to 1 for probabilities. Higher is better.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 0.0, 0.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> insertion(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), runner, steps=4, start="zero")  # 0, 4, 4, 4, 4
    tensor([[3.5000]], dtype=torch.float64)
    """
    begin = lambda sample: baseline_of(runner, sample, start)  # noqa: E731
    return _area(_removal_curves(maps, runner, _portions(steps), seed, begin, alone=True))


@metric(
    "comprehensiveness",
    title="Comprehensiveness",
    paper="DeYoung et al., 2020",
    equation="mean y(x) − y(x without its highest s)",
    better="higher",
    low=-1.0,
    high=1.0,
    needs="network",
    otherwise="in units of the score",
    order=80,
)
def comprehensiveness(
    maps: MapStack, runner: ModelRunner, *, shares: Sequence[float] = SHARES, fill: Baseline = "zero", seed: int = 0
) -> Scores:
    r"""Comprehensiveness (DeYoung et al., 2020, ERASER, section 4.2), with pixels in place of words.

    .. math:: \frac{1}{|S|} \sum_{s \in S} \Big(y(x) - y\big(x \text{ without its highest } s\big)\Big)

    Args, errors: as for :func:`deletion`; ``shares`` of the removed pixels are above 0 and at most 1.

    Returns:
        [batch, target] in units of the score; -1 to 1 for probabilities. Higher is better.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 1.0, 0.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> comprehensiveness(torch.tensor([[[2.0, 1.0, 0.0, 0.0]]]), runner, shares=[0.25, 0.5])
    tensor([[4.5000]], dtype=torch.float64)
    """
    curves = _removal_curves(
        maps, runner, [0.0, *_shares(shares)], seed, lambda sample: baseline_of(runner, sample, fill)
    )
    return (curves[..., :1] - curves[..., 1:]).mean(-1)


@metric(
    "sufficiency",
    title="Sufficiency",
    paper="DeYoung et al., 2020",
    equation="mean y(x) − y(the highest s of x)",
    better="lower",
    low=-1.0,
    high=1.0,
    needs="network",
    otherwise="in units of the score",
    order=90,
)
def sufficiency(
    maps: MapStack, runner: ModelRunner, *, shares: Sequence[float] = SHARES, fill: Baseline = "zero", seed: int = 0
) -> Scores:
    r"""Sufficiency (DeYoung et al., 2020, ERASER, section 4.2), with pixels in place of words.

    .. math:: \frac{1}{|S|} \sum_{s \in S} \Big(y(x) - y\big(\text{the highest } s \text{ of } x \text{ alone}\big)\Big)

    Args, errors: as for :func:`comprehensiveness`.

    Returns:
        [batch, target] in units of the score; -1 to 1 for probabilities. Lower is better.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 1.0, 0.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> sufficiency(torch.tensor([[[2.0, 1.0, 0.0, 0.0]]]), runner, shares=[0.25, 0.5])
    tensor([[0.5000]], dtype=torch.float64)
    """
    kept, empty = [1.0, *_shares(shares)], lambda sample: baseline_of(runner, sample, fill)
    curves = _removal_curves(maps, runner, kept, seed, empty, alone=True)
    return (curves[..., :1] - curves[..., 1:]).mean(-1)


@metric(
    "road",
    title="ROAD",
    paper="Rong et al., 2022",
    equation="mean y(x without its lowest s) − y(x without its highest s), imputed",
    better="higher",
    low=-1.0,
    high=1.0,
    needs="network",
    otherwise="in units of the score",
    order=100,
)
def road(maps: MapStack, runner: ModelRunner, *, shares: Sequence[float] = IMPUTED, seed: int = 0) -> Scores:
    r"""ROAD (Rong et al., 2022): remove and debias, both orders of removal in one number.

    .. math:: \frac{1}{|S|} \sum_{s \in S} y(x \text{ without its lowest } s) - y(x \text{ without its highest } s)

    Removed pixels are imputed, because the shape of a blackened region reveals class information. Each removed pixel is
    the weighted mean of its eight neighbours (1/6 for edge neighbours, 1/12 for corners), solved for all removed pixels
    at once, plus normal noise; see :func:`saywhy.metrics.imputation.imputed`.

    Args, errors: as for :func:`comprehensiveness`; ``seed`` is also the seed of the noise.

    Returns:
        [batch, target] in units of the score; -1 to 1 for probabilities. Higher is better.

    Differs from the paper, which plots the accuracy over a data set for each order; this is the mean difference of both
    curves, which is twice pytorch-grad-cam's ROADCombined (where all equal pixels are removed at once).

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[[4.0, 0.0, 0.0, 0.0]]]]), lambda x: x[:, 0, 0, 0])
    >>> road(torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]]), runner, shares=[0.25]).round()  # 4 against 0 and some noise
    tensor([[4.]], dtype=torch.float64)
    """
    if runner.image.ndim != 4:
        raise InputError(f"road needs images [height, width], got {runner.image.ndim - 2} axes of space.")
    parts = _shares(shares)
    highest, lowest = (
        _scores_after_removal(
            order, runner, parts, lambda sample, gone: imputed(runner.image[sample], gone, seed), seed
        )
        for order in (maps, -maps)
    )
    return (lowest - highest).mean(-1)


Filled = Callable[[int], FeatureMaps]
"""From a sample to the content of its removed pixels, [1, channel, *space]."""

Altered = Callable[[int, Tensor], FeatureMaps]
"""From a sample and its removed pixels, bool [n, *space], to the altered images, [n, channel, *space]."""


def _removal_curves(
    maps: MapStack, runner: ModelRunner, shares: Sequence[float], seed: int, filled: Filled, *, alone: bool = False
) -> Float[Tensor, "batch target share"]:
    """Return scores without the highest shares of the pixels, or with them ``alone``; ``filled`` replaces the rest."""
    cache: dict[int, FeatureMaps] = {}

    def altered(sample: int, gone: Tensor) -> FeatureMaps:
        if sample not in cache:
            cache.clear()
            cache[sample] = filled(sample)
        return torch.where(gone.unsqueeze(1), cache[sample], runner.image[sample : sample + 1])

    return _scores_after_removal(maps, runner, shares, altered, seed, alone=alone)


def _scores_after_removal(
    maps: MapStack, runner: ModelRunner, shares: Sequence[float], altered: Altered, seed: int, *, alone: bool = False
) -> Float[Tensor, "batch target share"]:
    """Return scores of every target without the highest shares of its map's pixels, or with them ``alone``, float64."""
    ranks = ranked(maps, tuple(runner.image.shape[2:]), seed)
    pixels = ranks[0, 0].numel()
    counts = torch.tensor([round(share * pixels) for share in shares]).view(-1, *[1] * (ranks.ndim - 2))
    found = torch.empty(*ranks.shape[:2], len(shares), dtype=torch.float64)
    with counted("removing pixels", found.numel()) as advance:
        for sample, target in _samples_and_targets(ranks):
            highest = ranks[sample, target] < counts  # (share, *space)
            gone = ~highest if alone else highest

            def alter(part: slice, sample: int = sample, gone: Tensor = gone) -> FeatureMaps:
                return altered(sample, gone[part].to(runner.image.device))

            for part, scores in runner.perturbed_scores(sample, len(shares), alter):
                fitting(maps, runner.size, scores.shape[1])
                found[sample, target, part] = scores[:, target].double().cpu()
                advance(len(scores))
    return found


def _samples_and_targets(ranks: Tensor) -> Iterator[tuple[int, int]]:
    return ((sample, target) for sample in range(len(ranks)) for target in range(ranks.shape[1]))


def ranked(maps: MapStack, space: tuple[int, ...], seed: int = 0) -> Int[Tensor, "batch target *pixels"]:
    """Return the rank of every pixel in the order of a map, 0 for the highest; equal ones in random order.

    Raises:
        InputError: a map is not finite, or has another number of axes than the image.

    >>> ranked(torch.tensor([[[0.0, 3.0, 1.0]]]), (3,)).tolist()
    [[[2, 0, 1]]]
    """
    flat = at_pixels(maps, space).flatten(2)
    count = flat.shape[2]
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[..., shuffled].argsort(dim=-1, descending=True, stable=True)]
    places = torch.arange(count).expand_as(order)
    return torch.empty_like(order).scatter_(2, order, places).unflatten(2, space)


def at_pixels(maps: MapStack, space: tuple[int, ...]) -> Float[Tensor, "batch target *pixels"]:
    """Return maps on the CPU, linearly upsampled to the pixels of the network's image.

    Equal values stay equal, so that the order does not depend on rounding errors: the interpolation between two equal
    cells is exact, and other values that should be equal (in a symmetric map) are equal after float64 sums are rounded
    to float32. A map at the image's resolution is not changed.

    Raises:
        InputError: a map is not finite, or has another number of axes than the image.
    """
    maps = at_least_float32(maps.detach().cpu())
    if maps.ndim != 2 + len(space):
        raise InputError(
            f"maps must have the axes [batch, target] and those of the image {list(space)}, got {list(maps.shape)}."
        )
    finite("a map", maps)
    if tuple(maps.shape[2:]) == space:
        return maps
    large = maps.double()
    for axis, side in enumerate(space, 2):
        cells = large.shape[axis]
        position = ((torch.arange(side, dtype=torch.float64) + 0.5) * cells / side - 0.5).clamp(0, cells - 1)
        before = position.long()
        low, high = (large.index_select(axis, at) for at in (before, (before + 1).clamp_max(cells - 1)))
        large = low + (position - before).view(-1, *[1] * (large.ndim - axis - 1)) * (high - low)
    largest = large.flatten(2).abs().amax(2)[(..., *[None] * len(space))]
    unit = 2.0 ** (torch.frexp(largest).exponent.double() - 1)  # avoids overflow and underflow in float32
    return (large / unit).float() * unit


def fitting(maps: MapStack, batch: int, targets: int) -> None:
    """Check that there is one map for every score.

    Raises:
        InputError: the number of maps differs from the number of scores.
    """
    if tuple(maps.shape[:2]) != (batch, targets):
        raise InputError(
            f"expected one map for every score, {batch} samples and {targets} targets of the network, "
            f"got {list(maps.shape)}. Evaluate maps with the images and targets that they explain."
        )


def _portions(steps: int) -> list[float]:
    steps = whole_number("steps", steps, 1)
    return [step / steps for step in range(steps + 1)]


def _shares(shares: Sequence[float]) -> list[float]:
    found: list[float] = validate("shares", shares, Sequence[Annotated[float, Interval(gt=0, le=1)]])
    if not found:
        raise InputError("shares is an empty list. Give at least one share of the pixels, such as 0.5.")
    return found


def _area(curves: Float[Tensor, "batch target share"]) -> Scores:
    """Return the area under the curve by the trapezoidal rule, for a width of 1."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[-1] - 1))
