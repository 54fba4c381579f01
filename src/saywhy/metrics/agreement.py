"""Similarity of two attribution maps: structural similarity, earth mover's distance, agreement among methods.

A third measure, rank correlation, is :func:`saywhy.metrics.correlation.rank_correlation`.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.errors import InputError, SaywhyError
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import GRID, on_grid
from saywhy.metrics.registry import dataset_metric
from saywhy.shapes import MapStack, Scores, rows_of
from saywhy.validation import finite

if TYPE_CHECKING:
    from saywhy.explanation import Explanation

WINDOW, SIGMA = 11, 1.5
"""Side of the Gaussian window in pixels, and its standard deviation (Wang et al., 2004, section III-B)."""

STABLE = (0.01, 0.03)
"""The constants K1 and K2 of the paper."""


@dataset_metric(
    "structural similarity of two maps",
    better="higher is more alike",
    range="-1 to 1",
    paper="Wang et al., 2004",
    order=80,
)
def ssim(first: MapStack, second: MapStack) -> Scores:
    r"""Structural similarity (Wang et al., 2004, equation 13), the mean over all windows that fit.

    .. math:: \frac{2 \mu_x \mu_y + C_1}{\mu_x^2 + \mu_y^2 + C_1} \cdot
        \frac{2 \sigma_{xy} + C_2}{\sigma_x^2 + \sigma_y^2 + C_2}

    with a Gaussian window of 11 × 11 pixels. Each map is first divided by its largest magnitude, because units differ;
    its range is then 1 for maps of one sign and 2 for maps with both. On a smaller map, the side of the window is the
    largest odd number of cells that fits.

    The equation is made for brightness, which has no sign. If both the means and the deviations of two maps are
    opposite, the two factors are negative, so that a map and its negative may have a high similarity.

    Args:
        first, second: maps [batch, target, height, width] of the same shape; a map of zeros is not rescaled.

    Returns:
        [batch, target] float64 from -1 to 1; identical maps have 1.

    Raises:
        InputError: the shapes differ, or a map is not finite.

    >>> ssim(torch.eye(12)[None, None], torch.eye(12)[None, None])
    tensor([[1.]], dtype=torch.float64)
    """
    if first.shape != second.shape or first.ndim != 4:
        raise InputError(
            f"expected two sets of maps [batch, target, height, width] of one shape, got {list(first.shape)} and "
            f"{list(second.shape)}."
        )
    # torchmetrics is not used: it pads the borders by reflection, which changes scores by up to 0.5 (200 random pairs;
    # over the windows that fit both agree to 1e-15), and it cannot make the window smaller for a map of 5 × 5.
    x, y = _normalized(first), _normalized(second)
    data_range = 1.0 + ((x.amin((2, 3)) < 0) | (y.amin((2, 3)) < 0)).double()[..., None, None]
    side = min(WINDOW, *(n - (n + 1) % 2 for n in x.shape[2:]))
    window = _window(side)
    shape = x.shape[:2]
    mx, my, xx, yy, xy = (_means(t, window).unflatten(0, shape) for t in (x, y, x * x, y * y, x * y))
    c1, c2 = ((k * data_range).square() for k in STABLE)
    numerator = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    denominator = (mx * mx + my * my + c1) * ((xx - mx * mx) + (yy - my * my) + c2)
    return (numerator / denominator).mean((2, 3))


@dataset_metric(
    "earth mover's distance between the evidence of two maps",
    better="lower is more alike",
    range="0 to √2 sides of the image",
    paper="Rubner et al., 2000",
    order=90,
)
def earth_movers_distance(
    first: Float[Tensor, "*batch height width"],
    second: Float[Tensor, "*batch other_height other_width"],
    grid: tuple[int, int] = GRID,
) -> Float[Tensor, "*batch"]:
    """Earth mover's distance (Rubner, Tomasi and Guibas, 2000) between two maps, as in U-CAM.

    Both maps are resized to ``grid`` and divided by their sums. Negative values count as zero; a map without positive
    values becomes uniform. The distance between cells is Euclidean, in units of the image's sides. The solution is
    exact (package POT).

    Returns:
        float64 from 0 (identical) to below √2 (all evidence in opposite corners).

    Raises:
        InputError: a map is not finite.
        SaywhyError: the package POT is not installed.

    >>> left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> earth_movers_distance(left, right, (1, 2)).item()  # half a side to the right
    0.5
    """
    try:
        import ot
    except ImportError as error:
        raise SaywhyError("the earth mover's distance needs the package POT: pip install 'saywhy[metrics]'") from error
    a, b = (_distributions(one, grid) for one in (first, second))
    if a.shape != b.shape:
        raise InputError(
            f"expected as many maps on both sides, got {list(first.shape[:-2])} and {list(second.shape[:-2])}."
        )
    cells = torch.cartesian_prod(*((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in grid))
    costs = torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist").numpy()  # 0 from a cell to itself
    pairs = zip(*(side.reshape(-1, len(cells)).numpy() for side in (a, b)), strict=True)
    found = [float(ot.emd2(one, other, costs)) for one, other in pairs]
    return torch.tensor(found, dtype=torch.float64).view(a.shape[:-1])


@dataset_metric(
    "rank correlation of the maps of every pair of methods",
    better="higher is more alike",
    range="-1 to 1",
    paper="ours",
    order=100,
)
def agreement_among_methods(explanation: "Explanation") -> dict[tuple[str, str], Scores]:
    """Rank correlation [batch, target] of the maps of every pair of methods of an explanation, on 14 × 14 cells.

    Each method is compared at its first layer. Methods that agree need not be right: they may make the same mistake.
    Maps of signals and volumes are compared on their own grid.

    Raises:
        InputError: maps of signals or volumes have different grids, or a map is not finite.

    >>> import saywhy
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> e = saywhy.explain(network, torch.rand(1, 3, 9, 9), 0, ["gradcam", "hirescam"], relu=False)
    >>> agreement_among_methods(e)[("gradcam", "hirescam")].round(decimals=4)
    tensor([[1.]], dtype=torch.float64)
    """
    names = explanation.methods
    maps = {method: _comparable(explanation[method]) for method in names}
    return {(a, b): rank_correlation(maps[a], maps[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _comparable(maps: MapStack) -> Float[Tensor, "batch target cell"]:
    return rows_of(on_grid(maps) if maps.ndim == 4 else maps)


def _normalized(maps: MapStack) -> Float[Tensor, "batch target height width"]:
    """Divide maps by their largest magnitudes, float64."""
    maps = finite("a map", maps.detach().cpu().double())
    largest = maps.abs().amax((2, 3), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1.0)


def _window(side: int) -> Float[Tensor, "side side"]:
    along = torch.exp(-((torch.arange(side, dtype=torch.float64) - side // 2) ** 2) / (2 * SIGMA**2))
    window = along[:, None] * along
    return window / window.sum()


def _means(maps: Tensor, window: Tensor) -> Tensor:
    """Return weighted means over all windows that fit, [batch * target, height, width]."""
    return F.conv2d(maps.flatten(0, 1).unsqueeze(1), window[None, None]).squeeze(1)


def _distributions(maps: Tensor, grid: tuple[int, int]) -> Float[Tensor, "*batch cell"]:
    """Return positive parts on the grid that sum to 1; uniform for a map without positive values."""
    cells = on_grid(maps, grid).clamp_min(0).flatten(-2)
    largest = cells.amax(-1, keepdim=True)
    cells = torch.where(largest > 0, cells / torch.where(largest > 0, largest, math.inf), 1.0)
    return cells / cells.sum(-1, keepdim=True)
