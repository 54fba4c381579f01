"""Augmentation of training images together with their hints: flips and shifts by whole pixels."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.alignment.importance import HumanMaps
from saywhy.shapes import Images
from saywhy.validation import validate

HintedAugmentation = Literal["none", "flip", "shift", "flip-shift"]
"""What is done to the images of a step: nothing, horizontal flips of half of them, shifts, or both."""

LARGEST_SHIFT = 1 / 8
"""The largest shift, as a share of each side: four pixels of a CIFAR image, as is usual there."""


def augmented(
    images: Images, hints: HumanMaps, kind: HintedAugmentation, generator: torch.Generator
) -> tuple[Images, HumanMaps]:
    r"""Augment images, and their hints by the same pixels.

    A shift by (down, right) is the crop of the image padded by reflection: the pixel (y, x) shows
    :math:`(\rho(y - down), \rho(x - right))`, where :math:`\rho` mirrors at the border without repeating its pixel
    (:math:`\rho(-1) = 1`). Each side is shifted by a whole number of pixels, uniformly up to ``LARGEST_SHIFT``. A flip,
    with probability one half, comes first. So nothing is interpolated, and image and hint move together exactly.

    Args:
        images: preprocessed.
        hints: in pixels of ``images``; NaN without a hint, which stays. A shift that would leave nothing of a hint is
            left out.
        kind: what is done; ``"none"`` returns the arguments.
        generator: of the draws, the same number for every kind.

    Raises:
        InputError: there is no such kind.

    >>> images, hints = torch.zeros(1, 3, 1, 8), torch.tensor([[[1.0, 0, 0, 0, 0, 0, 0, 0]]])
    >>> augmented(images, hints, "flip", torch.Generator().manual_seed(1))[1].tolist()
    [[[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]
    >>> augmented(images, hints, "flip", torch.Generator().manual_seed(0))[1].tolist()
    [[[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]]
    """
    validate("augment", kind, HintedAugmentation)
    if kind == "none":
        return images, hints
    count, height, width = hints.shape
    flips = torch.rand(count, generator=generator) < 0.5
    down, right = (_shifts(count, side, generator) for side in (height, width))
    flips = flips if "flip" in kind else torch.zeros_like(flips)
    if "shift" not in kind:
        down, right = torch.zeros_like(down), torch.zeros_like(right)
    rows, columns = _sources(down, height, None), _sources(right, width, flips)
    moved = _taken(hints.unsqueeze(1), rows, columns).squeeze(1)
    gone = ((moved > 0).sum((1, 2)) == 0) & ((hints > 0).sum((1, 2)) > 0)
    if gone.any():
        stay = gone.cpu()
        rows, columns = (
            _sources(torch.where(stay, 0, down), height, None),
            _sources(torch.where(stay, 0, right), width, flips),
        )
        moved = _taken(hints.unsqueeze(1), rows, columns).squeeze(1)
    return _taken(images, rows, columns), moved


def _shifts(count: int, side: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    most = int(LARGEST_SHIFT * side)
    return torch.randint(-most, most + 1, (count,), generator=generator)


def _sources(shift: Int[Tensor, " batch"], side: int, flips: Tensor | None) -> Int[Tensor, "batch side"]:
    """For every row or column of the result that of the image from which it is taken."""
    places = torch.arange(side) - shift.unsqueeze(1)
    places = places.abs()
    places = torch.where(places >= side, 2 * (side - 1) - places, places)
    return places if flips is None else torch.where(flips.unsqueeze(1), side - 1 - places, places)


def _taken(
    values: Float[Tensor, "batch channel height width"],
    rows: Int[Tensor, "batch height"],
    columns: Int[Tensor, "batch width"],
) -> Float[Tensor, "batch channel height width"]:
    rows, columns = rows.to(values.device), columns.to(values.device)
    batch = torch.arange(len(values), device=values.device)[:, None, None]
    return values.movedim(1, 3)[batch, rows[:, :, None], columns[:, None, :]].movedim(3, 1).contiguous()
