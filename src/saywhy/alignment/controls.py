"""Hints of controls: hints without what makes them hints, to find out what it is that helps.

Shrestha et al. (2020) found that HINT with irrelevant or random hints is as accurate as with human ones. So every claim
about hints is compared with these, from the same network, on the same items, with the same number of steps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.alignment.importance import Importance
from saywhy.errors import InputError
from saywhy.validation import validate

HintKind = Literal[
    "human",
    "irrelevant",
    "fixed-random",
    "variable-random",
    "permuted-within-image",
    "permuted-across-images",
    "centre-prior",
    "oracle",
]
"""The hints of a run; see :func:`hints_of`."""

CENTRE_SPREAD = 0.25
"""Standard deviation of the centre prior, as a share of the image's side."""


@dataclass(frozen=True)
class RegionHints:
    """The hints of all items of a training set.

    Attributes:
        kind: which hints.
        values: [item, region]; a row of NaN is an item without hints. Of ``"variable-random"`` only its NaN count.
        seed: seeds random hints.
    """

    kind: HintKind
    values: Importance
    seed: int = 0

    @property
    def items(self) -> Int[Tensor, " hinted"]:
        """The items that have hints for at least two regions."""
        return (self.values.isfinite().sum(1) >= 2).nonzero().squeeze(1)

    def of(self, items: Int[Tensor, " batch"], step: int) -> Importance:
        """The hints of a batch in a step; the same for the same step, so that a run can resume.

        >>> random = RegionHints("variable-random", torch.zeros(4, 3))
        >>> bool((random.of(torch.tensor([0]), 1) == random.of(torch.tensor([0]), 2)).all())
        False
        """
        found = self.values[items]
        if self.kind != "variable-random":
            return found
        fresh = torch.rand(found.shape, generator=_generator(self.seed, step), dtype=found.dtype)
        return torch.where(found.isfinite(), fresh, torch.nan)


def hints_of(
    kind: HintKind,
    human: Importance,
    *,
    images: Int[Tensor, " item"] | None = None,
    centres: Float[Tensor, "item region 2"] | None = None,
    oracle: Importance | None = None,
    seed: int = 0,
) -> RegionHints:
    """The hints of a run or of a control, for the items that people gave hints for.

    Args:
        kind: ``"human"``; ``"irrelevant"``, 1 - s; ``"fixed-random"``, uniform from 0 to 1, once;
            ``"variable-random"``, uniform anew in every step; ``"permuted-within-image"``, those of another question
            about the same image (items without another question have no hints); ``"permuted-across-images"``, those of
            an item of another image: the same values, ties and preference for the centre; ``"centre-prior"``, a
            Gaussian around the image's centre; ``"oracle"``, the true importance.
        human: [item, region], NaN where there are none.
        images: the image of every item, for permutations.
        centres: x and y of the centre of every region, as shares of the image's width and height.
        oracle: the true importance.
        seed: of what is random.

    Raises:
        InputError: what this kind needs is missing, or no two images have hints.

    >>> hints_of("irrelevant", torch.tensor([[0.25, 1.0], [torch.nan, torch.nan]])).values
    tensor([[0.7500, 0.0000],
            [   nan,    nan]])
    """
    validate("hints", kind, HintKind)
    values = human
    if kind == "irrelevant":
        values = 1 - human
    elif kind == "fixed-random":
        values = torch.rand(human.shape, generator=_generator(seed, -1), dtype=human.dtype)
    elif kind == "permuted-within-image":
        values = _permuted(human, _given(kind, images, "images"), seed, within=True)
    elif kind == "permuted-across-images":
        values = _permuted(human, _given(kind, images, "images"), seed, within=False)
    elif kind == "centre-prior":
        away = (_given(kind, centres, "centres") - 0.5).square().sum(-1)
        values = torch.exp(-away / (2 * CENTRE_SPREAD**2)).to(human.dtype)
    elif kind == "oracle":
        values = _given(kind, oracle, "oracle")
    return RegionHints(kind, torch.where(human.isfinite(), values, torch.nan), seed)


def _permuted(human: Importance, images: Int[Tensor, " item"], seed: int, *, within: bool) -> Importance:
    """The hints of other items, of the same image or of other images; each item's hints are given to one other."""
    hinted = human.isfinite().any(1).nonzero().squeeze(1)
    order = hinted[torch.randperm(len(hinted), generator=_generator(seed, -2))]
    order = order[images[order].argsort(stable=True)]  # by image; the order within an image is random
    counts = images[order].unique_consecutive(return_counts=True)[1].tolist()
    found = torch.full_like(human, torch.nan)
    if within:
        for some in order.split(counts):
            if len(some) > 1:
                found[some] = human[some.roll(1)]
        return found
    largest = max(counts, default=0)
    if not counts or 2 * largest > len(order):
        raise InputError(
            f"hints of {len(counts)} images cannot be permuted across images: one image has {largest} of "
            f"{len(order)} hinted items. Use more images."
        )
    # Sorted by image, an item that comes as much later as the largest image is long is of another image.
    found[order] = human[order.roll(largest)]
    return found


def _given(kind: str, value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise InputError(f"hints of the kind '{kind}' need {name}=.")
    return value


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
