"""Assertions on maps, for the tests of a model: ``from saywhy.testing import assert_inside, assert_trusted``.

A failed assertion says what was measured, and can leave a page to look at.
"""

import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from saywhy.checks.check import check
from saywhy.errors import InputError
from saywhy.explanation import Explanation
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.localization import energy_pointing
from saywhy.validation import UnitInterval, short_repr, validated

Page = str | os.PathLike[str] | None


def assert_trusted(e: Explanation, *, page: Page = None, **settings: Any) -> None:
    """Assert that every map of an explanation passes all checks of :func:`saywhy.check`.

    Args:
        e: an explanation that still has its model.
        page: an ``.html`` file to write if it fails.
        settings: further arguments of :func:`saywhy.check`.

    Raises:
        AssertionError: a map fails a check; the message says which, with its value and limit.
    """
    found = check(e, **settings)
    if not bool(found.passed.all()):
        raise AssertionError(f"a map fails a check.\n{found}{_written(found, page)}")


@validated()
def assert_inside(
    e: Explanation,
    region: Any,
    *,
    at_least: UnitInterval = 0.5,
    sample: int = 0,
    target: int = 0,
    method: str | None = None,
    layer: str | None = None,
    page: Page = None,
) -> None:
    """Assert that at least this share of a map's positive evidence lies in a region of the original image.

    It is the energy-based pointing game (:func:`saywhy.metrics.localization.energy_pointing`).

    Args:
        e: the explanation.
        region: a mask [height, width] of the original image, or a box (left, top, right, bottom) in its pixels.
        at_least: the share.
        sample, target, method, layer: of the map, as for ``e.on_image``.
        page: a file to write if it fails, in a format of ``e.save``.

    Raises:
        AssertionError: less of the evidence lies inside.
        InputError: the region is neither, or has another size than the image.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten())
    >>> e = saywhy.explain(network, torch.rand(1, 3, 8, 8), target=0, relu=False)
    >>> assert_inside(e, (0, 0, 8, 8), at_least=0.9)
    """
    values = torch.from_numpy(np.asarray(e.on_image(sample, target, method=method, layer=layer)))
    mask = _mask(region, tuple(values.shape))
    share = float(energy_pointing(values[None, None], mask[None, None]))
    if share < at_least:
        raise AssertionError(
            f"{share:.0%} of the evidence for {e.targets[sample][target]} lies in the region, which is "
            f"{mask.double().mean():.0%} of the image; at least {at_least:.0%} was asked.{_written(e, page)}"
        )


@validated()
def assert_same_maps(e: Explanation, other: Explanation, *, at_least: UnitInterval = 0.99, page: Page = None) -> None:
    """Assert that two explanations have maps of the same order of cells: of a network before and after an export, say.

    Args:
        e, other: explanations of the same images, targets, methods and layers' grids.
        at_least: the Spearman rank correlation that each pair of maps must reach.
        page: a file to write if it fails, with the maps of ``other``.

    Raises:
        AssertionError: a pair of maps has a lower correlation.
        InputError: the explanations have other methods or shapes.
    """
    if e.methods != other.methods:
        raise InputError(
            f"one explanation has the methods {', '.join(e.methods)}, the other {', '.join(other.methods)}."
        )
    for method in e.methods:
        one, two = e[method].double(), other[method].double()
        if one.shape != two.shape:
            raise InputError(
                f"maps of {method} are {list(one.shape)} and {list(two.shape)}; they must be of one shape."
            )
        one, two = one.flatten(2), two.flatten(2)
        equal = (one == two).all(-1)  # the correlation of constant maps is 0
        lowest = float(torch.where(equal, 1.0, rank_correlation(one, two)).min())
        if lowest < at_least:
            raise AssertionError(
                f"maps of {method} have a rank correlation of {lowest:.3f}; at least {at_least} was asked."
                f"{_written(other, page)}"
            )


def _mask(region: Any, size: tuple[int, ...]) -> torch.Tensor:
    """Return a mask of the original image."""
    if isinstance(region, Sequence) and len(region) == 4 and all(isinstance(one, numbers.Real) for one in region):
        left, top, right, bottom = (round(float(one)) for one in region)
        mask = torch.zeros(size, dtype=torch.bool)
        mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    else:
        try:
            mask = torch.as_tensor(np.asarray(region, dtype=np.float64)).bool()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"region must be a mask or a box of four numbers, got {short_repr(region)}.") from error
    if tuple(mask.shape) != size:
        raise InputError(f"the region is {list(mask.shape)} and the image {list(size)}; they must be of one size.")
    if not bool(mask.any()):
        raise InputError("the region is empty.")
    return mask


def _written(shown: Any, page: Page) -> str:
    """Write a page, and return the sentence that says where."""
    return "" if page is None else f"\nSee {shown.save(page)}."
