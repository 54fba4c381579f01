r"""Faithfulness metrics: how the score responds to masking by the map, to hidden parts, and to occlusion.

All take maps [batch, target, *grid] of any grid. They use different parts of a map: its positive part
(``average_drop``, ``increase_in_confidence``), its values up to a common factor (``infidelity``), its values up to a
linear function (``faithfulness_correlation``) or its order (``occlusion_correlation``).

The two metrics of probes do not interpolate the map: a value holds for its whole cell, because only the mean over
hidden cells is needed. The others interpolate linearly between cells.
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
from saywhy.metrics.correlation import pearson_correlation, rank_correlation, scaled
from saywhy.metrics.human_attention import on_grid
from saywhy.metrics.registry import metric
from saywhy.metrics.removal import at_pixels, fitting
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps, MapStack, Scores
from saywhy.validation import finite, real_number, short_repr, whole_number

PERTURBATIONS, CELLS, HIDDEN = 64, 7, 0.1
"""Number of perturbed images, cells along an axis, and the share of the cells that each image hides."""


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
    r"""Average Drop of one image (Chattopadhyay et al., 2018, Grad-CAM++, section 5.1), as a share.

    .. math:: \max(0,\ y(x) - y(x_M)) / y(x), \qquad x_M = M x + (1 - M)\, x_0

    ``M`` is the map's positive part divided by its maximum; it is zero everywhere for a map without positive values.

    Differs from pytorch-grad-cam's ``DropInConfidence``, which does not divide by the score, and from torchcam, which
    rescales maps from their minimum and maximum before upsampling.

    Args:
        maps: of any grid.
        runner: the network, the images and the targets.
        fill: ``x_0``, the image where the map is zero; None is black if the preprocessing is known, as in the paper,
            else zero.

    Returns:
        [batch, target] from 0 (no drop) to 1 (the whole score), if the score is a probability. Lower is better.

    Raises:
        InputError: a map is not finite, the number of maps differs from the number of scores, or a score is not
            positive.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.sum((1, 2)))
    >>> average_drop(torch.tensor([[[5.0, 0.0]]]), runner), average_drop(torch.tensor([[[0.0, -1.0]]]), runner)
    (tensor([[0.2500]], dtype=torch.float64), tensor([[1.]], dtype=torch.float64))
    """
    before, masked = _masked_scores(maps, runner, fill)
    if not (before > 0).all():
        raise InputError(
            f"average_drop is a share of the score, which must be positive, got {float(before.min()):.3g}. "
            "Explain a probability (score='probability')."
        )
    return (1 - masked / before).clamp_min(0)


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
        [batch, target] 1 if the image masked by the map has a higher score, else 0. Higher is better.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, -1.0]]]), lambda x: x.sum((1, 2)))
    >>> increase_in_confidence(torch.tensor([[[5.0, 0.0]]]), runner)
    tensor([[1.]], dtype=torch.float64)
    """
    before, masked = _masked_scores(maps, runner, fill)
    return (before < masked).double()


def _masked_scores(maps: MapStack, runner: ModelRunner, fill: Baseline) -> tuple[Scores, Scores]:
    """Return scores [batch, target] of the images, and of the images masked by the maps, float64."""
    shown = at_pixels(maps, tuple(runner.image.shape[2:])).clamp_min(0)
    largest = shown.flatten(2).amax(2)[(..., *[None] * (shown.ndim - 2))]
    shown = torch.where(largest > 0, shown / torch.where(largest > 0, largest, 1.0), 0.0)
    before = runner.scores(runner.image, torch.arange(runner.size)).double().cpu()
    fitting(maps, *before.shape)
    found = torch.empty_like(before)
    with counted("masking images", before.numel()) as advance:
        for sample in range(runner.size):
            image, empty = runner.image[sample : sample + 1], baseline_of(runner, sample, fill)

            def alter(part: slice, sample: int = sample, x: Tensor = image, x0: Tensor = empty) -> FeatureMaps:
                M = shown[sample, part].unsqueeze(1).to(x)
                return M * x + (1 - M) * x0

            for part, scores in runner.perturbed_scores(sample, before.shape[1], alter):
                found[sample, part] = scores[:, part].diagonal().double().cpu()
                advance(len(scores))
    # In another batch the same image may have another score, by rounding: an image without masking keeps its score.
    return before, torch.where((shown == 1).flatten(2).all(2), before, found)


@dataclass(frozen=True)
class Perturbations:
    """Drops of the scores when parts of the images are hidden, with which any number of maps can be evaluated.

    Attributes:
        hidden: [probe, *grid] the cells that each probe hides, as 0 and 1.
        drops: [batch, target, probe] the drop of the score, float64.
        space: the size of the network's image in pixels.
    """

    hidden: Float[Tensor, "probe *grid"]
    drops: Float[Tensor, "batch target probe"]
    space: tuple[int, ...]

    def sums(self, maps: MapStack) -> Float[Tensor, "batch target probe"]:
        """Sum each map over the cells that each probe hides, by its mean over every cell; any number of targets.

        Raises:
            InputError: a map is not finite, or has other axes than the image.
        """
        cells = maps.detach().cpu().double()
        if cells.ndim != 2 + len(self.space):
            raise InputError(
                f"maps must have the axes [batch, target] and those of the image {list(self.space)}, got "
                f"{list(maps.shape)}."
            )
        finite("a map", cells)
        for axis, (side, count) in enumerate(zip(self.space, self.hidden.shape[1:], strict=True), 2):
            shares = _shares(cells.shape[axis], side, count)
            cells = torch.tensordot(cells, shares, dims=([axis], [1])).movedim(-1, axis)
        return torch.einsum("btc,pc->btp", cells.flatten(2), self.hidden.flatten(1))

    def fit(self, maps: MapStack) -> Float[Tensor, "batch target probe"]:
        """Return the sums of one map for every score.

        Raises:
            InputError: as for :meth:`sums`, or the number of maps differs from the number of scores.
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
    """Hide random cells of the images and measure the drops of the scores, in ``count`` passes an image.

    Args:
        runner: the network, the images and the targets.
        count: the number of probes.
        cells: cells of the grid along every axis, one number or one an axis.
        share: the share of the cells that each probe hides: at least one of them, and never all.
        fill: the content of hidden cells; see :func:`saywhy.methods.baselines.baseline_of`.
        seed: the seed of the cells.

    Raises:
        InputError: ``count`` is less than 3, ``share`` is not between 0 and 1, or there is only one cell.
    """
    count, share = whole_number("count", count, 3), real_number("share", share, above=0, below=1)
    space = tuple(runner.image.shape[2:])
    grid = cells_of(cells, space)
    number = math.prod(grid)
    if number < 2:
        raise InputError(
            f"a probe hides some cells and keeps others: expected at least 2 cells, got {short_repr(cells)}."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(number, generator=generator) for _ in range(count)])
    hidden = (drawn < min(number - 1, max(1, round(share * number)))).unflatten(1, grid)
    large = _cells_at_pixels(hidden, space)
    whole = runner.scores(runner.image, torch.arange(runner.size)).double().cpu()
    drops = torch.empty(*whole.shape, count, dtype=torch.float64)
    with counted("hiding parts", runner.size * count) as advance:
        for sample in range(runner.size):
            image, empty = runner.image[sample : sample + 1], baseline_of(runner, sample, fill)

            def alter(part: slice, x: Tensor = image, x0: Tensor = empty) -> FeatureMaps:
                return torch.where(large[part].unsqueeze(1).to(x.device), x0, x)

            for part, scores in runner.perturbed_scores(sample, count, alter):
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

    over random sets ``S`` of hidden cells, all of the same number of cells.

    Args:
        maps: maps of any grid; their mean over each cell counts, with its sign. If the cells do not divide the image
            evenly, some are a pixel wider and count equally.
        probes: see :func:`probe`. The same probes evaluate any number of maps.

    Returns:
        [batch, target] from -1 to 1; 0 if the map is constant or hiding cells never changes the score. Higher is
        better.

    Raises:
        InputError: as :meth:`Perturbations.fit`.

    Differs from the paper, whose sets contain single features: here they contain cells, because single pixels hardly
    change the score. With one pixel a cell both are the same.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 2.0, 1.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> probes = probe(runner, count=20, cells=4, share=0.5, fill="zero")
    >>> faithfulness_correlation(torch.tensor([[[5.0, 3.0, 2.0, 1.0]]]), probes).round(decimals=9)
    tensor([[1.]], dtype=torch.float64)
    """
    return pearson_correlation(probes.fit(maps), probes.drops)


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
    r"""Infidelity (Yeh et al., 2019, definition 2.1) with the optimal factor, as a share of the variation of the score.

    .. math:: \min_{\beta \ge 0} \mathbb{E}_I(\beta\, I^\top M - \Delta_I)^2 / \mathbb{E}_I \Delta_I^2,
        \qquad \Delta_I = y(x) - y(x - I)

    The perturbations ``I`` hide random cells (the paper's square removal), and a map counts by its mean over each cell.
    A map gives the contribution of a cell, not the derivative by its colour; so ``I`` is 1 where a cell is hidden
    (captum's form for attributions that include the input as a factor). The factor is the paper's (its appendix),
    because maps have different units.

    Differs from the paper, and from captum's ``normalize=True``, whose factor may be negative: there an inverted map is
    as good as the original. If the factor is positive, captum's value is this one times
    :math:`\mathbb{E}_I \Delta_I^2`.

    Returns:
        [batch, target] from 0 (a linear model of the score) to 1 (no better than a map of zeros). 1 if hiding cells
        never changes the score. Lower is better.

    Raises:
        InputError: as :meth:`Perturbations.fit`.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 2.0, 1.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> probes = probe(runner, count=20, cells=4, share=0.5, fill="zero")
    >>> infidelity(torch.tensor([[[8.0, 4.0, 2.0, 0.0]]]), probes).round(decimals=9) + 0.0
    tensor([[0.]], dtype=torch.float64)
    """
    sums, drops = scaled(probes.fit(maps)), scaled(probes.drops)
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
        maps: maps of any grid.
        runner: the network, the images and the targets.
        window, stride, fill: parameters of :func:`saywhy.methods.perturbation.occlusion`, which the paper does not
            give.

    Returns:
        [batch, target] from -1 to 1; 0 for a constant map. Higher is better.

    Raises:
        InputError: a map is not finite or not of an image, or the number of maps differs from the number of scores.

    >>> image = torch.arange(196.0).view(1, 1, 14, 14)
    >>> runner = ModelRunner.of(torch.nn.Identity(), image, lambda x: x.sum((1, 2, 3)))
    >>> occlusion_correlation(runner.image, runner, window=1, stride=1, fill=0.0)
    tensor([[1.]], dtype=torch.float64)
    """
    if maps.ndim != 4:
        raise InputError(
            f"occlusion_correlation needs maps of shape [batch, target, height, width], got {list(maps.shape)}."
        )
    hidden = occlusion(runner, window=window, stride=stride, fill=fill)
    fitting(maps, *hidden.shape[:2])
    return rank_correlation(on_grid(maps).flatten(2), on_grid(hidden).flatten(2))


def _cells_at_pixels(cells: Tensor, space: Sequence[int]) -> Tensor:
    """Return the cells [probe, *grid] at every pixel; some cells are a pixel larger if they do not divide the axis."""
    for axis, (side, count) in enumerate(zip(space, cells.shape[1:], strict=True), 1):
        cells = cells.index_select(axis, torch.arange(side) * count // side)
    return cells


def _shares(length: int, side: int, count: int) -> Float[Tensor, "count length"]:
    """Return the share of each of ``count`` hidden cells in each of the ``length`` cells of a map, along one axis.

    >>> _shares(2, 6, 3)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    # In fractions of a pixel such that cells of both kinds begin at whole numbers.
    hidden = -(-torch.arange(count + 1) * side // count) * length
    own = torch.arange(length + 1) * side
    common = hidden[1:, None].minimum(own[1:]) - hidden[:-1, None].maximum(own[:-1])
    return common.clamp_min(0).double() / hidden.diff()[:, None]
