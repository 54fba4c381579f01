r"""Errors of predicted counts (Chattopadhyay et al., 2017): root mean square errors, a mean over the classes.

With :math:`N` images, :math:`K` classes, counts :math:`c_{ik}` and predictions :math:`\hat c_{ik}` after rounding:

.. math::
    \text{mRMSE} = \frac{1}{K} \sum_k \sqrt{\frac{1}{N} \sum_i (\hat c_{ik} - c_{ik})^2}, \qquad
    \text{m-relRMSE} = \frac{1}{K} \sum_k \sqrt{\frac{1}{N} \sum_i \frac{(\hat c_{ik} - c_{ik})^2}{c_{ik} + 1}}

The "nz" forms take the mean over the images with :math:`c_{ik} > 0` only. Predictions are clamped at 0 and rounded
to the nearest whole number first, of two equally near ones the larger (as the released program does, by C's ``round``).

A class without a positive image has no error over its positive images: it is left out of the "nz" means, and both the
result and a warning name it. Nothing is divided by zero.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.errors import InputError, SaywhyWarning
from saywhy.metrics.registry import dataset_metric
from saywhy.validation import finite, plain_tensor, real_number, short_repr, true_or_false, validate, whole_number

ImageCounts = Float[Tensor, "image class"]
"""The number of objects of each class in each image."""

COUNT_RANGES: tuple[tuple[int, int | None], ...] = ((0, 0), (1, 4), (5, None))
"""None, the subitizing range (1 to 4, which people count at a glance), and more."""


@dataclass(frozen=True)
class CountError:
    """An error of predicted counts.

    Attributes:
        value: the mean over the classes that have an error.
        each: the error of every class; NaN where the class is left out.
        omitted: the indices of the classes that are left out, because no image is positive.
        images: the number of images.
    """

    value: float
    each: tuple[float, ...]
    omitted: tuple[int, ...]
    images: int


@dataclass(frozen=True)
class ResampledError:
    """An error on resamples of the images.

    Attributes:
        mean: over the resamples; the value that the paper prints.
        std: the standard deviation over them (the divisor is their number less one); the paper's error bar.
        trials: the number of resamples.
        omitted: the indices of the classes that are left out of at least one resample.
    """

    mean: float
    std: float
    trials: int
    omitted: tuple[int, ...] = ()


@dataclass(frozen=True)
class RangeError:
    """The error of the entries whose true count lies in a range.

    Attributes:
        low, high: the range; None is no upper end.
        rmse: the root mean square error, pooled over the entries; NaN if there are none.
        entries: the number of pairs of an image and a class in the range.
    """

    low: int
    high: int | None
    rmse: float
    entries: int


def round_counts(predicted: ImageCounts) -> ImageCounts:
    """Return predictions clamped at 0 and rounded, halves upwards: the whole numbers that are compared with counts.

    >>> round_counts(torch.tensor([-0.7, 0.49, 0.5, 1.5, 2.5]))
    tensor([0., 0., 1., 2., 3.])
    """
    clamped = predicted.clamp_min(0)
    below = clamped.floor()
    return below + (clamped - below >= 0.5)


@dataset_metric(
    "root mean square error of predicted counts, mean over classes",
    better="lower",
    range="0 to ∞",
    paper="Chattopadhyay et al., 2017",
    order=210,
)
def mrmse(predicted: ImageCounts, counts: ImageCounts, *, rounded: bool = True) -> CountError:
    r"""Compute mRMSE: the root mean square error of each class over all images, and the mean over the classes.

    Args:
        predicted: [image, class] predictions before clamping and rounding.
        counts: [image, class] the true counts, whole numbers of at least 0.
        rounded: False clamps the predictions at 0 but does not round them, as the published rows of the baselines
            "mean" and "category-mean" need it.

    Raises:
        InputError: shapes differ, there are no images or classes, a number is not finite, or a count is no whole number
            of at least 0.

    >>> mrmse(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])).value
    1.0
    """
    return _count_error(predicted, counts, relative=False, nonzero=False, rounded=rounded)


@dataset_metric(
    "the same over the images where the class occurs",
    better="lower",
    range="0 to ∞",
    paper="Chattopadhyay et al., 2017",
    order=211,
)
def mrmse_nz(predicted: ImageCounts, counts: ImageCounts, *, rounded: bool = True) -> CountError:
    """Compute mRMSE-nz: as :func:`mrmse`, over the images in which the class occurs.

    Classes that occur in no image are left out, with a warning. Args and errors as there; it is also an error if no
    class occurs in any image.

    >>> mrmse_nz(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])).value
    1.0
    """
    return _count_error(predicted, counts, relative=False, nonzero=True, rounded=rounded)


@dataset_metric(
    "root mean square error of predicted counts, relative to the count plus 1, mean over classes",
    better="lower",
    range="0 to ∞",
    paper="Chattopadhyay et al., 2017",
    order=212,
)
def m_relrmse(predicted: ImageCounts, counts: ImageCounts, *, rounded: bool = True) -> CountError:
    """Compute m-relRMSE: as :func:`mrmse`, with every squared error divided by the count plus 1.

    >>> round(m_relrmse(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])).value, 4)
    0.8165
    """
    return _count_error(predicted, counts, relative=True, nonzero=False, rounded=rounded)


@dataset_metric(
    "the same over the images where the class occurs",
    better="lower",
    range="0 to ∞",
    paper="Chattopadhyay et al., 2017",
    order=213,
)
def m_relrmse_nz(predicted: ImageCounts, counts: ImageCounts, *, rounded: bool = True) -> CountError:
    """Compute m-relRMSE-nz: as :func:`m_relrmse`, over the images in which the class occurs; see :func:`mrmse_nz`.

    >>> round(m_relrmse_nz(torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])).value, 4)
    0.5774
    """
    return _count_error(predicted, counts, relative=True, nonzero=True, rounded=rounded)


FORMS: dict[str, tuple[bool, bool]] = {
    "mRMSE": (False, False),
    "mRMSE-nz": (False, True),
    "m-relRMSE": (True, False),
    "m-relRMSE-nz": (True, True),
}
"""The four errors by name: whether an error is relative, and whether only positive images count."""


@dataset_metric(
    "the four errors of counts on resamples of the images: mean and standard deviation",
    better="lower",
    range="0 to ∞",
    paper="Chattopadhyay et al., 2017",
    order=214,
)
def resampled_errors(
    predicted: ImageCounts,
    counts: ImageCounts,
    *,
    rounded: bool = True,
    trials: int = 10,
    share: float = 0.8,
    seed: int = 0,
) -> dict[str, ResampledError]:
    """Compute the four errors as the paper prints them: on ten samples of 80 % of the images, with replacement.

    All four are computed on the same resamples. Images are drawn uniformly; the released program draws them with a
    probability proportional to their index, which is a mistake.

    Args:
        predicted, counts, rounded: as for :func:`mrmse`.
        trials: the number of resamples, at least 2.
        share: the size of a resample as a share of the images.
        seed: of NumPy's default generator, which draws one matrix of indices [trial, image].

    Returns:
        By the paper's names: mRMSE, mRMSE-nz, m-relRMSE, m-relRMSE-nz.

    Raises:
        InputError: as for :func:`mrmse`; or a resample has no positive image of any class, because there are too few.

    >>> found = resampled_errors(torch.zeros(100, 1), torch.ones(100, 1))
    >>> found["mRMSE"].mean, found["mRMSE"].std
    (1.0, 0.0)
    """
    values, truth = _checked(predicted, counts, rounded)
    trials = whole_number("trials", trials, 2)
    size = max(1, round(real_number("share", share, above=0) * len(truth)))
    drawn = torch.from_numpy(np.random.default_rng(seed).integers(len(truth), size=(trials, size)))
    found = {}
    for name, (relative, nonzero) in FORMS.items():
        squares, taken = _squares(values, truth, relative), _taken(truth, nonzero)
        each = torch.stack([_each(squares[indices], taken[indices]) for indices in drawn])
        if bool(each.isnan().all(1).any()):
            raise InputError(
                f"{name} needs a positive image in every resample, but one of {trials} resamples of {size} of "
                f"{len(truth)} images has none of any class. Give more images."
            )
        means = each.nanmean(1)
        omitted = tuple(each.isnan().any(0).nonzero().flatten().tolist())
        found[name] = ResampledError(float(means.mean()), float(means.std()), trials, omitted)
    _say_omitted(found["mRMSE-nz"].omitted, truth.shape[1], "at least one resample has no positive image")
    return found


@dataset_metric(
    "mean absolute error of predicted counts, pooled over images and classes",
    better="lower",
    range="0 to ∞",
    paper="common",
    order=215,
)
def count_mae(
    predicted: ImageCounts,
    counts: ImageCounts,
    *,
    rounded: bool = True,
    nonzero: bool = False,
    relative: bool = False,
) -> float:
    """Compute the mean absolute error over all pairs of an image and a class.

    It is no mean over classes of root mean square errors, and must not be compared with :func:`mrmse`. The published
    "nz" rows of the baselines on VOC 2007 seem to be this number with ``nonzero=True`` (to about 0.02), whereas the
    other rows follow their equations.

    Args:
        predicted, counts, rounded: as for :func:`mrmse`.
        nonzero: only the pairs with a positive count.
        relative: every error is divided by the count plus 1.

    Raises:
        InputError: as for :func:`mrmse`; or ``nonzero`` and no count is positive.

    >>> count_mae(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0]]), nonzero=True)
    3.0
    """
    true_or_false(nonzero=nonzero, relative=relative)
    values, truth = _checked(predicted, counts, rounded)
    errors = (values - truth).abs() / (truth + 1 if relative else 1)
    kept = errors[_taken(truth, nonzero)]
    if not len(kept):
        raise InputError("the error over positive counts needs one, but all counts are 0. Use nonzero=False.")
    return float(kept.mean())


@dataset_metric(
    "root mean square error of predicted counts by the true count: 0, 1 to 4, 5 and more",
    better="lower",
    range="0 to ∞",
    paper="common",
    order=216,
)
def errors_by_count(
    predicted: ImageCounts,
    counts: ImageCounts,
    *,
    rounded: bool = True,
    ranges: Sequence[tuple[int, int | None]] = COUNT_RANGES,
) -> list[RangeError]:
    """Compute the root mean square error of the pairs of an image and a class whose true count lies in each range.

    Pairs are pooled over classes, because most classes have few images with large counts.

    Args:
        predicted, counts, rounded: as for :func:`mrmse`.
        ranges: the lowest and the highest count of each, both inclusive; None is no upper end.

    Raises:
        InputError: as for :func:`mrmse`; or a range is none.

    >>> [one.rmse for one in errors_by_count(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.0, 2.0, 7.0]]))]
    [1.0, 0.0, 3.0]
    """
    values, truth = _checked(predicted, counts, rounded)
    squares, found = (values - truth) ** 2, []
    for one in ranges:
        low, high = _range(one)
        kept = squares[(truth >= low) & (truth <= (math.inf if high is None else high))]
        found.append(RangeError(low, high, float(kept.mean().sqrt()), len(kept)))
    return found


def _range(given: object) -> tuple[int, int | None]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(f"a range of counts must be (lowest, highest), got {short_repr(given)}.")
    low = whole_number("the lowest count of a range", given[0])
    return low, None if given[1] is None else whole_number("the highest count of a range", given[1], low)


def _count_error(
    predicted: ImageCounts, counts: ImageCounts, *, relative: bool, nonzero: bool, rounded: bool
) -> CountError:
    values, truth = _checked(predicted, counts, rounded)
    each = _each(_squares(values, truth, relative), _taken(truth, nonzero))
    omitted = tuple(each.isnan().nonzero().flatten().tolist())
    if len(omitted) == len(each):
        raise InputError(
            f"the error over positive images needs one, but all {len(truth)} images have counts of 0. Give images with "
            "objects, or compute the error over all images."
        )
    _say_omitted(omitted, len(each), "no image is positive")
    return CountError(float(each.nanmean()), tuple(each.tolist()), omitted, len(truth))


def _say_omitted(omitted: Sequence[int], classes: int, why: str) -> None:
    if omitted:
        listed = ", ".join(map(str, omitted[:8])) + (" …" if len(omitted) > 8 else "")
        warnings.warn(
            f"{len(omitted)} of {classes} classes are left out of errors over positive images, because {why}: the "
            f"classes {listed} (from 0).",
            SaywhyWarning,
            stacklevel=4,
        )


def _squares(values: ImageCounts, truth: ImageCounts, relative: bool) -> ImageCounts:
    return (values - truth) ** 2 / (truth + 1 if relative else 1)


def _taken(truth: ImageCounts, nonzero: bool) -> Bool[Tensor, "image class"]:
    return truth > 0 if nonzero else torch.ones_like(truth, dtype=torch.bool)


def _each(squares: ImageCounts, taken: Bool[Tensor, "image class"]) -> Float[Tensor, " class"]:
    """Return the root of each class's mean over the images that are taken; NaN where there are none."""
    number = taken.sum(0)
    means = (squares * taken).sum(0) / number.clamp_min(1)
    return torch.where(number > 0, means.sqrt(), math.nan)


def _checked(predicted: ImageCounts, counts: ImageCounts, rounded: bool) -> tuple[ImageCounts, ImageCounts]:
    """Return predictions after the post-processing and counts, both in float64 on the CPU."""
    true_or_false(rounded=rounded)
    values, truth = (
        finite(name, plain_tensor(name, validate(name, given, Tensor)).detach().cpu().double())
        for name, given in (("predicted", predicted), ("counts", counts))
    )
    if values.ndim != 2 or values.shape != truth.shape or not values.numel():
        raise InputError(
            "expected predicted and true counts [image, class] of the same images and classes, at least one of each; "
            f"got {list(values.shape)} and {list(truth.shape)}. For one class use counts.unsqueeze(1)."
        )
    wrong = truth[(truth < 0) | (truth != truth.round())]
    if len(wrong):
        raise InputError(
            f"true counts must be whole numbers of at least 0, got {float(wrong[0]):g}. Are predictions and counts "
            "exchanged, or are these the fractions of cells? Sum those over the cells of an image."
        )
    return round_counts(values) if rounded else values.clamp_min(0), truth
