r"""Perturbation of the image: occlusion by a sliding window, and RISE by random masks."""

import itertools
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F

from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError
from saywhy.methods.baselines import Baseline, baseline_of
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import LINEAR, FeatureMaps, at_least_float32
from saywhy.validation import PositiveInt, short_repr, sizes_of_axes

Sizes = int | Sequence[int]
"""One number for every axis of the image, or one an axis."""

Probability = Annotated[float, Interval(gt=0, lt=1)]

SHARE = 7
"""The default window is the image's shorter side divided by this number."""


@method(
    "occlusion",
    title="occlusion",
    paper="Zeiler and Fergus, 2014",
    equation="mean over windows on p of y(x) - y(x without the window)",
    family="perturbation",
    order=330,
    passes="several",
    at="input",
    score="probability",
)
def occlusion(
    runner: ModelRunner, *, window: Sizes | None = None, stride: Sizes | None = None, fill: Baseline | float = "mean"
) -> Tensor:
    r"""Occlusion (Zeiler and Fergus, 2014, section 4.2): the drop of the score when a window hides part of the image.

    .. math:: M_p = \frac{1}{|\{w \ni p\}|} \sum_{w \ni p} \big(y(x) - y(x_{\setminus w})\big)

    with the sum over all positions of the window that cover pixel :math:`p`.

    Args:
        runner: the network and the images.
        window: pixels along every axis, one number or one an axis; None is a seventh of the shorter side, and for the
            depth (or time) of a volume a seventh of that axis.
        stride: pixels from one position to the next, one number or one an axis; None is half the window.
        fill: the content of the window: ``"mean"`` the image's mean colour, ``"black"``, ``"zero"``, ``"blur"`` (see
            :func:`saywhy.methods.baselines.baseline_of`), a preprocessed image, or the value of preprocessed pixels.

    Returns:
        Maps [batch, target, *space], one value a pixel, signed, in units of the score; positive where hiding the pixel
        lowers the score.

    Raises:
        MethodError: ``window`` or ``stride`` is no number of pixels of this image, or windows would leave gaps.

    Differs from the paper: the paper shows the score at every position of a grey square; here the map is the drop of
    the score, averaged over the windows on a pixel. The last window of a row ends at the border of the image, so that
    all windows have the same size; captum's window extends over the border, where it hides less.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0, 0.0]]]), lambda x: x.sum((1, 2)))
    >>> occlusion(runner, window=2, stride=1, fill="zero")  # drops 4 and 1; both windows cover the middle pixel
    tensor([[[4.0000, 2.5000, 1.0000]]])
    """
    runner = runner.at_image()
    space = runner.image.shape[2:]
    default = [1 if i in runner.unordered else side for i, side in enumerate(_default_window(space))]
    sizes = sizes_of("window", default if window is None else window, space)
    strides = sizes_of("stride", [max(1, size // 2) for size in sizes] if stride is None else stride, space)
    if any(s > w < side for s, w, side in zip(strides, sizes, space, strict=True)):
        raise MethodError(f"a stride of {strides} leaves gaps between windows of {sizes}. Take a shorter stride.")
    starts = [_starts(*of_axis) for of_axis in zip(space, sizes, strides, strict=True)]
    windows: list[tuple[slice, ...]] = [
        tuple(slice(a, a + size) for a, size in zip(corner, sizes, strict=True))
        for corner in itertools.product(*starts)
    ]
    maps = []
    with counted("occlusion", runner.size * len(windows)) as advance:
        for sample in range(runner.size):
            image = runner.image[sample : sample + 1]
            filled = filled_image(runner, sample, fill)
            whole = runner.scores(image, torch.tensor([sample]))[0].double()  # (target)

            def hidden(part: slice, image: Tensor = image, filled: Tensor = filled) -> FeatureMaps:
                altered = image.repeat(part.stop - part.start, *[1] * (image.ndim - 1))
                for one, where in zip(altered, windows[part], strict=True):
                    one[(slice(None), *where)] = filled[0][(slice(None), *where)]
                return altered

            total = whole.new_zeros(len(whole), *space)
            covered = whole.new_zeros(*space)
            for part, scores in runner.perturbed_scores(sample, len(windows), hidden):
                for where, drop in zip(windows[part], whole - scores.double(), strict=True):
                    total[(slice(None), *where)] += drop.view(-1, *[1] * len(space))
                    covered[where] += 1
                advance(len(scores))
            maps.append((total / covered).to(at_least_float32(image).dtype))
    return torch.stack(maps)


def filled_image(runner: ModelRunner, sample: int, fill: Baseline | float) -> FeatureMaps:
    """Return the image that replaces hidden parts, [1, channel, *space]."""
    if isinstance(fill, int | float):
        return torch.full_like(runner.image[sample : sample + 1], float(fill))
    return baseline_of(runner, sample, fill)


def _default_window(space: Sequence[int]) -> list[int]:
    """Return a seventh of the image's shorter side, and of the depth (or time) of a volume.

    >>> _default_window([224, 448]), _default_window([16, 112, 112])
    ([32, 32], [2, 16, 16])
    """
    depth, image = space[:-2], space[-2:]
    return [*(max(1, round(side / SHARE)) for side in depth), *[max(1, round(min(image) / SHARE))] * len(image)]


def cells_of(cells: Sizes, space: Sequence[int], unordered: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the number of cells along every axis; one number for all is limited to the pixels of a short axis.

    Along an axis without order (views, tiles) every position is a cell of its own.

    >>> cells_of(7, [4, 112, 112]), cells_of(7, [20, 112, 112], unordered=[0])
    ((4, 7, 7), (20, 7, 7))
    """
    if isinstance(cells, int) and cells <= max(space):
        cells = [side if i in unordered else min(cells, side) for i, side in enumerate(space)]
    return sizes_of("cells", cells, space)


def sizes_of(name: str, given: Sizes, space: Sequence[int]) -> tuple[int, ...]:
    """Return one size for every axis, from 1 to the length of the axis.

    Raises:
        MethodError: ``given`` has another number of axes, or a size is out of range.
    """
    sizes = sizes_of_axes(given, len(space))
    if sizes is None or any(size > side for size, side in zip(sizes, space, strict=True)):
        sides = " × ".join(map(str, space))
        raise MethodError(
            f"{name} must be a whole number, or one for each of the {len(space)} axes of an image of {sides} pixels, "
            f"from 1 to the length of the axis, got {short_repr(given)}."
        )
    return sizes


def _starts(side: int, window: int, stride: int) -> list[int]:
    """Return the starts of the windows along one axis; the last window ends at the border.

    >>> _starts(7, 3, 3)
    [0, 3, 4]
    """
    starts = list(range(0, side - window + 1, stride))
    return starts if starts[-1] + window == side else [*starts, side - window]


@method(
    "rise",
    title="RISE",
    paper="Petsiuk et al., 2018",
    equation="Σᵢ y(x ⊙ Mᵢ) Mᵢ / (N E[M])",
    family="perturbation",
    order=340,
    passes="several",
    at="input",
    score="probability",
)
def rise(runner: ModelRunner, *, masks: PositiveInt = 2000, cells: Sizes = 7, keep: Probability = 0.5) -> Tensor:
    r"""RISE (Petsiuk, Das, Saenko, 2018, equation 6): the mean of random masks, weighted by the masked image's score.

    .. math:: S_p = \frac{1}{\mathbb{E}[M]\, N} \sum_{i=1}^{N} y(x \odot M_i)\, M_i(p)

    A mask is a grid of cells, each kept with probability :math:`\mathbb{E}[M]`, upsampled bilinearly to one cell more
    than the image along every axis and cropped at a random position. A few masks are in memory at a time.

    Args:
        runner: the network and the images.
        masks: the number of masks, ``N``; the noise of the map falls with its square root.
        cells: cells of the grid along every axis, one number or one an axis; a short axis has at most its pixels.
        keep: the probability that a cell is shown, between 0 and 1.

    Returns:
        Maps [batch, target, *space], one value a pixel, in units of the score: non-negative for probabilities.
        The mean score of masked images is an offset of the whole map; only differences within the map matter.

    Raises:
        MethodError: ``masks``, ``cells`` or ``keep`` is out of range.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[4.0, 4.0]]]), lambda x: x.mean((1, 2)))
    >>> rise(runner, masks=400, cells=1, keep=0.5).round()  # the only cell is shown or hidden: 4 × 0.5 / 0.5
    tensor([[[4., 4.]]])
    """
    runner = runner.at_image()
    space = runner.image.shape[2:]
    grid = cells_of(cells, space, runner.unordered)
    steps = [-(-side // count) for side, count in zip(space, grid, strict=True)]  # pixels of a cell, rounded up
    shown, shifts = _draw_masks(runner, masks, keep, grid, steps)
    maps = []
    with counted("rise", runner.size * masks) as advance:
        for sample in range(runner.size):
            image = at_least_float32(runner.image[sample : sample + 1])

            def made(part: slice, image: Tensor = image) -> Tensor:
                return random_masks(shown[part], shifts[part], steps, space).to(image)

            def masked(part: slice, image: Tensor = image) -> FeatureMaps:
                return image * made(part).unsqueeze(1)

            total: Tensor | None = None
            for part, scores in runner.perturbed_scores(sample, masks, masked):
                add = torch.einsum("nt,n...->t...", scores.double(), made(part).double())
                total = add if total is None else total + add
                advance(len(scores))
            assert total is not None
            maps.append((total / (masks * keep)).to(image.dtype))
    return torch.stack(maps)


def _draw_masks(
    runner: ModelRunner, masks: int, keep: float, grid: Sequence[int], steps: Sequence[int]
) -> tuple[Tensor, list[list[int]]]:
    """Draw the cells that every mask shows, [mask, *grid], and its shifts along every axis in pixels."""
    generator = runner.generator()
    shown, shifts = [], []
    for _ in range(masks):
        shown.append(torch.rand(tuple(grid), generator=generator) < keep)
        shifts.append([int(torch.randint(step, (1,), generator=generator)) for step in steps])
    return torch.stack(shown), shifts


def random_masks(shown: Tensor, shifts: Sequence[Sequence[int]], steps: Sequence[int], space: Sequence[int]) -> Tensor:
    """Return masks [mask, *space] from 0 to 1, from cells [mask, *grid] of ``steps`` pixels along every axis.

    >>> random_masks(torch.tensor([[True, False]]), [[1]], [2], [4])
    tensor([[1.0000, 0.6667, 0.3333, 0.0000]], dtype=torch.float64)
    """
    grid = shown.shape[1:]
    size = [(count + 1) * step for count, step in zip(grid, steps, strict=True)]
    large = F.interpolate(shown.double().unsqueeze(1), size, mode=LINEAR[len(grid)], align_corners=False).squeeze(1)
    crops = [
        one[tuple(slice(a, a + side) for a, side in zip(shift, space, strict=True))]
        for one, shift in zip(large, shifts, strict=True)
    ]
    return torch.stack(crops)
