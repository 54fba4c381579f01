r"""Does the score follow the map? The image seen through the map, parts of it hidden, and occlusion.

All take maps [batch, target, *grid] of any grid. What counts of a map is said with each measure: its positive part
(``average_drop``, ``increase_in_confidence``), its values up to a common factor (``infidelity``), its values up to a
linear function (``faithfulness_correlation``) or its order (``occlusion_correlation``).

The two of probes take a map as it is, every value for the whole of its cell: of what is hidden they need no more than
the mean over it, exactly. The other ones see maps as they are shown, with lines between the cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError
from saywhy.methods.baselines import Baseline, baseline_of
from saywhy.methods.perturbation import Sizes, cells_of, occlusion
from saywhy.metrics.human_attention import on_grid, rank_correlation
from saywhy.metrics.registry import metric
from saywhy.metrics.removal import at_pixels, fitting
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps, MapStack, Scores
from saywhy.validation import real_number, whole_number

PERTURBATIONS, CELLS, HIDDEN = 64, 7, 0.1
"""Images in which something is hidden, cells along an axis, and the share of the cells that each hides."""


@metric(
    "average-drop",
    title="Average Drop",
    paper="Chattopadhyay et al., 2018",
    equation="max(0, y(x) − y(M x)) / y(x)",
    better="lower",
    low=0.0,
    high=1.0,
    needs="network",
    otherwise="0 to inf",
    order=110,
)
def average_drop(maps: MapStack, runner: ModelRunner, *, fill: Baseline = None) -> Scores:
    r"""Average Drop (Chattopadhyay et al., 2018, Grad-CAM++, section 5.1), of one image, as a share.

    .. math:: \max(0,\ y(x) - y(x_M)) / y(x), \qquad x_M = M x + (1 - M)\, x_0

    ``M`` is the map's positive part divided by its maximum; zero everywhere for a map without one.

    Differs from pytorch-grad-cam's ``DropInConfidence``, which does not divide by the score, and from torchcam, whose
    maps are stretched from their lowest to their highest cell before they are upsampled.

    Args:
        maps: of any grid.
        runner: the network, the images and the targets.
        fill: ``x_0``, what is there where the map is zero; None is black where the preprocessing is known, as in the
            paper, else zero.

    Returns:
        [batch, target] from 0 (nothing is lost) to 1 (all of it), where the score is a probability. Lower is better.

    Raises:
        InputError: a map is not finite, there is not one for every score, or a score is not positive: a share of it
            means nothing then.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.sum((1, 2)))
    >>> average_drop(torch.tensor([[[5.0, 0.0]]]), runner), average_drop(torch.tensor([[[0.0, -1.0]]]), runner)
    (tensor([[0.2500]], dtype=torch.float64), tensor([[1.]], dtype=torch.float64))
    """
    before, seen = _through(maps, runner, fill)
    if not (before > 0).all():
        raise InputError(
            f"average_drop is a share of the score, which must be positive, got {float(before.min()):.3g}. "
            "Explain a probability (score='probability')."
        )
    return (1 - seen / before).clamp_min(0)


@metric(
    "increase-in-confidence",
    title="Increase in Confidence",
    paper="Chattopadhyay et al., 2018",
    equation="1[y(x) < y(M x)]",
    better="higher",
    low=0.0,
    high=1.0,
    needs="network",
    order=120,
)
def increase_in_confidence(maps: MapStack, runner: ModelRunner, *, fill: Baseline = None) -> Scores:
    """Increase in Confidence (Chattopadhyay et al., 2018, Grad-CAM++, section 5.1): ``1[y(x) < y(x_M)]``.

    Args, errors: as for :func:`average_drop`; the score may be anything.

    Returns:
        [batch, target] 1 where the image seen through the map has a higher score, else 0. Higher is better.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, -1.0]]]), lambda x: x.sum((1, 2)))
    >>> increase_in_confidence(torch.tensor([[[5.0, 0.0]]]), runner)
    tensor([[1.]], dtype=torch.float64)
    """
    before, seen = _through(maps, runner, fill)
    return (before < seen).double()


def _through(maps: MapStack, runner: ModelRunner, fill: Baseline) -> tuple[Scores, Scores]:
    """Scores [batch, target] of the images, and of the images seen through the maps, float64."""
    shown = at_pixels(maps, tuple(runner.image.shape[2:])).clamp_min(0)
    largest = shown.flatten(2).amax(2)[(..., *[None] * (shown.ndim - 2))]
    shown = torch.where(largest > 0, shown / torch.where(largest > 0, largest, 1.0), 0.0)
    before = runner.scores(runner.image, torch.arange(runner.size)).double().cpu()
    fitting(maps, *before.shape)
    found = torch.empty_like(before)
    with counted("seen through the maps", before.numel()) as advance:
        for sample in range(runner.size):
            image, empty = runner.image[sample : sample + 1], baseline_of(runner, sample, fill)

            def alter(part: slice, sample: int = sample, x: Tensor = image, x0: Tensor = empty) -> FeatureMaps:
                M = shown[sample, part].unsqueeze(1).to(x)
                return M * x + (1 - M) * x0

            for part, scores in runner.altered(sample, before.shape[1], alter):
                found[sample, part] = scores[:, part].diagonal().double().cpu()
                advance(len(scores))
    # In another batch the same image may have another score, by rounding: what is shown whole has not changed.
    return before, torch.where((shown == 1).flatten(2).all(2), before, found)


@dataclass(frozen=True)
class Perturbations:
    """What the scores lose when parts of the images are hidden: with this any number of maps can be judged.

    Attributes:
        hidden: [probe, *grid] which cells of a grid each probe hides, as 0 and 1.
        drops: [batch, target, probe] by how much the score falls, float64.
        space: the pixels of the network's image, of which each cell holds some.
    """

    hidden: Float[Tensor, "probe *grid"]
    drops: Float[Tensor, "batch target probe"]
    space: tuple[int, ...]

    def sums(self, maps: MapStack) -> Float[Tensor, "batch target probe"]:
        """What of each map, of however many, lies in the cells that each probe hides: the sum of its means over them.

        Raises:
            InputError: a map is not finite, or has other axes than the image.
        """
        cells = maps.detach().cpu().double()
        if cells.ndim != 2 + len(self.space):
            raise InputError(
                f"maps have the axes [batch, target] and those of the image {list(self.space)}, got {list(maps.shape)}."
            )
        if not cells.isfinite().all():
            raise InputError("a map must be finite, got NaN or infinity in it.")
        for axis, (side, count) in enumerate(zip(self.space, self.hidden.shape[1:], strict=True), 2):
            shares = _shares(cells.shape[axis], side, count)
            cells = torch.tensordot(cells, shares, dims=([axis], [1])).movedim(-1, axis)
        return torch.einsum("btc,pc->btp", cells.flatten(2), self.hidden.flatten(1))

    def fit(self, maps: MapStack) -> Float[Tensor, "batch target probe"]:
        """The sums of one map for every score.

        Raises:
            InputError: as for :meth:`sums`, or there is not one map for every score.
        """
        fitting(maps, *self.drops.shape[:2])
        return self.sums(maps)


def probe(
    runner: ModelRunner,
    count: int = PERTURBATIONS,
    cells: Sizes = CELLS,
    share: float = HIDDEN,
    fill: Baseline = "mean",
    seed: int = 0,
) -> Perturbations:
    """Hide random cells of the images, so many passes in all.

    Args:
        runner: the network, the images and the targets.
        count: how many probes.
        cells: of the grid along every axis, one number or one an axis.
        share: of the cells that each probe hides: at least one of them, and never all.
        fill: what is there instead; see :func:`saywhy.methods.baselines.baseline_of`.
        seed: of the cells.

    Raises:
        InputError: ``count`` is less than 3, ``share`` is no share, or there is one cell only.
    """
    count, share = whole_number("count", count, 3), real_number("share", share, above=0, below=1)
    space = tuple(runner.image.shape[2:])
    grid = cells_of(cells, space)
    number = math.prod(grid)
    if number < 2:
        raise InputError(f"some cells are hidden and some are not: it takes at least 2 cells, got {cells!r}.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(number, generator=generator) for _ in range(count)])
    hidden = (drawn < min(number - 1, max(1, round(share * number)))).unflatten(1, grid)
    large = _enlarged(hidden, space)
    whole = runner.scores(runner.image, torch.arange(runner.size)).double().cpu()
    drops = torch.empty(*whole.shape, count, dtype=torch.float64)
    with counted("hiding parts", runner.size * count) as advance:
        for sample in range(runner.size):
            image, empty = runner.image[sample : sample + 1], baseline_of(runner, sample, fill)

            def alter(part: slice, x: Tensor = image, x0: Tensor = empty) -> FeatureMaps:
                return torch.where(large[part].unsqueeze(1).to(x.device), x0, x)

            for part, scores in runner.altered(sample, count, alter):
                drops[sample, :, part] = whole[sample, :, None] - scores.double().cpu().mT
                advance(len(scores))
    return Perturbations(hidden.double(), drops, space)


@metric(
    "faithfulness-correlation",
    title="Faithfulness correlation",
    paper="Bhatt et al., 2020",
    equation="corr_S(Σ_S M, y(x) − y(x without S))",
    better="higher",
    low=-1.0,
    high=1.0,
    needs="probes",
    score="logit",
    order=130,
)
def faithfulness_correlation(maps: MapStack, probes: Perturbations) -> Scores:
    r"""Faithfulness correlation (Bhatt, Weller and Moura, 2020).

    .. math:: \mathrm{corr}_S\Big(\sum_{p \in S} M_p,\ y(x) - y(x_{\setminus S})\Big)

    over random sets ``S`` of hidden cells, all of one number.

    Args:
        maps: of any grid; their mean over each cell counts, with its sign. Where the image cannot be shared evenly
            some cells are a pixel wider, and count as the others do.
        probes: see :func:`probe`. The same probes judge any number of maps.

    Returns:
        [batch, target] from -1 to 1; 0 where the map is flat or nothing that was hidden changed the score. Higher is
        better.

    Raises:
        InputError: as :meth:`Perturbations.fit`.

    Differs from the paper, whose sets are of single features: here they are of cells, as pixels by themselves say
    little to a network. With one cell a pixel it is the paper's.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 2.0, 1.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> probes = probe(runner, count=20, cells=4, share=0.5, fill="zero")
    >>> faithfulness_correlation(torch.tensor([[[5.0, 3.0, 2.0, 1.0]]]), probes).round(decimals=9)
    tensor([[1.]], dtype=torch.float64)
    """
    return correlated(probes.fit(maps), probes.drops)


def correlated(sums: Float[Tensor, "*more probe"], drops: Float[Tensor, "*some probe"]) -> Float[Tensor, "*more"]:
    """Pearson's correlation along the last axis, 0 where one side is the same everywhere.

    >>> correlated(torch.tensor([[1.0, 2.0], [3.0, 3.0]]).double(), torch.tensor([0.0, 5.0]).double())
    tensor([1., 0.], dtype=torch.float64)
    """
    a, b = (_from_mean(side) for side in (sums, drops))
    size = ((a * a).sum(-1) * (b * b).sum(-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1.0), 0.0).clamp(-1, 1)


def _from_mean(values: Tensor) -> Tensor:
    """Values less their mean, in some unit; rounding would leave something of what is the same everywhere."""
    values = _in_unit(values)
    apart = values - values.mean(-1, keepdim=True)
    return torch.where(apart.abs() > 1e-12, apart, 0.0)


def _in_unit(values: Tensor) -> Tensor:
    """Values in such a power of two that no product of them is lost: the largest magnitude is from 1 to 2."""
    return values / 2.0 ** (torch.frexp(values.abs().amax(-1, keepdim=True)).exponent.double() - 1)


@metric(
    "infidelity",
    title="Infidelity",
    paper="Yeh et al., 2019",
    equation="min_β E(β IᵀM − Δ)² / E Δ²",
    better="lower",
    low=0.0,
    high=1.0,
    needs="probes",
    score="logit",
    order=140,
)
def infidelity(maps: MapStack, probes: Perturbations) -> Scores:
    r"""Infidelity (Yeh et al., 2019, definition 2.1), with the best factor, as a share of what there is to explain.

    .. math:: \min_{\beta \ge 0} \mathbb{E}_I(\beta\, I^\top M - \Delta_I)^2 / \mathbb{E}_I \Delta_I^2,
        \qquad \Delta_I = y(x) - y(x - I)

    The perturbations ``I`` are what hiding random cells takes away (the paper's square removal); what of a map counts
    is its mean over each cell: a map tells what a place is worth, not by how much the score grows with its colour, so
    that ``I`` is 1 where something is hidden (captum's form for attributions that are multiplied by the input already).
    The factor is the paper's own (its appendix): maps have all kinds of units.

    Differs from the paper, and from captum's ``normalize=True``, whose factor may be negative: there a map that has
    everything upside down is as good as the right one. Where it is positive, captum's value is this one times
    :math:`\mathbb{E}_I \Delta_I^2`.

    Returns:
        [batch, target] from 0 (a linear model of the score) to 1 (says nothing of it: as good as a map of zeros). 1
        where nothing that was hidden changed the score. Lower is better.

    Raises:
        InputError: as :meth:`Perturbations.fit`.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 2.0, 1.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> probes = probe(runner, count=20, cells=4, share=0.5, fill="zero")
    >>> infidelity(torch.tensor([[[8.0, 4.0, 2.0, 0.0]]]), probes).round(decimals=9) + 0.0
    tensor([[0.]], dtype=torch.float64)
    """
    sums, drops = _in_unit(probes.fit(maps)), _in_unit(probes.drops)
    size = (sums * sums).sum(-1) * (drops * drops).sum(-1)
    share = (sums * drops).sum(-1).clamp_min(0).square() / torch.where(size > 0, size, 1.0)
    return (1 - share).clamp(0, 1)


@metric(
    "occlusion-correlation",
    title="Rank correlation with occlusion",
    paper="Selvaraju et al., 2017",
    equation="Spearman(M, occlusion), 14 × 14",
    better="higher",
    low=-1.0,
    high=1.0,
    needs="network",
    score="logit",
    order=150,
)
def occlusion_correlation(
    maps: MapStack,
    runner: ModelRunner,
    *,
    window: Sizes | None = None,
    stride: Sizes | None = None,
    fill: Baseline | float = "mean",
) -> Scores:
    """Rank correlation with occlusion (Grad-CAM, Selvaraju et al., 2017, section 5.3), both on 14 × 14 cells.

    Args:
        maps: of any grid.
        runner: the network, the images and the targets.
        window, stride, fill: of the occlusion, see :func:`saywhy.methods.perturbation.occlusion`. The paper says none
            of them; its figures need no more than the order of the cells.

    Returns:
        [batch, target] from -1 to 1; 0 for a map that is the same everywhere. Higher is better.

    Raises:
        InputError: a map is not finite or not of an image, or there is not one for every score.

    >>> image = torch.arange(196.0).view(1, 1, 14, 14)
    >>> runner = ModelRunner.of(torch.nn.Identity(), image, lambda x: x.sum((1, 2, 3)))
    >>> occlusion_correlation(runner.image, runner, window=1, stride=1, fill=0.0)
    tensor([[1.]], dtype=torch.float64)
    """
    if maps.ndim != 4:
        raise InputError(f"occlusion_correlation is of maps [batch, target, height, width], got {list(maps.shape)}.")
    hidden = occlusion(runner, window=window, stride=stride, fill=fill)
    fitting(maps, *hidden.shape[:2])
    return rank_correlation(on_grid(maps).flatten(2), on_grid(hidden).flatten(2))


def _enlarged(cells: Tensor, space: Sequence[int]) -> Tensor:
    """Cells [probe, *grid] at every pixel; the last cells of an axis are smaller where it cannot be shared evenly."""
    for axis, (side, count) in enumerate(zip(space, cells.shape[1:], strict=True), 1):
        cells = cells.index_select(axis, torch.arange(side) * count // side)
    return cells


def _shares(length: int, side: int, count: int) -> Float[Tensor, "count length"]:
    """Which share of each of ``count`` hidden cells lies in each of the ``length`` cells of a map, along one axis.

    >>> _shares(2, 6, 3)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    # In parts of a pixel so small that cells of both kinds begin at whole numbers.
    hidden = -(-torch.arange(count + 1) * side // count) * length
    own = torch.arange(length + 1) * side
    common = hidden[1:, None].minimum(own[1:]) - hidden[:-1, None].maximum(own[:-1])
    return common.clamp_min(0).double() / hidden.diff()[:, None]
