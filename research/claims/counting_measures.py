r"""Errors of counts with intervals over images and over networks, and paired differences between counters.

The four errors of :mod:`saywhy.metrics.counting` are means over classes of roots of means over images. One bootstrap of
the images serves all: a resample weighs image i by the number of times :math:`w_{ri}` that it was drawn, so that a
class's error in it is :math:`\sqrt{\sum_i w_{ri} m_{ik} e_{ik}^2 / \sum_i w_{ri} m_{ik}}`, with m the images that the
error takes. All counters of a data set share the resamples, so that differences are paired.

A mean over classes is biased in resamples: a class that occurs in one image is missing in a third of them, and its
error is 0 or left out there. So the resamples of such means are shifted until their mean is the value. Their spread
around it is that of data sets of as many images.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from research.claims.measure import RESAMPLES, Estimate, estimate_of_draws
from saywhy.metrics.counting import FORMS, round_counts
from saywhy.statistics import resample_counts

Predicted = Float[np.ndarray, "network image class"]
"""Predictions of several networks for the same images, before rounding."""

Truth = Float[np.ndarray, "image class"]

PARTS: dict[str, tuple[float, float]] = {"0": (0, 0), "1 to 4": (1, 4), "5 and more": (5, np.inf)}
"""Ranges of the true count, both ends inclusive; 1 to 4 is the subitizing range."""

HIGH = "5 and more"


@dataclass(frozen=True)
class CountStatistic:
    """An error of counts: its value, its bootstrap distribution over images, and its value for each network.

    Attributes:
        value: the mean over the networks.
        draws: [resample] the same on resampled images; of means over classes shifted as said above.
        networks: the error of each network.
        images: their number.
        entries: the number of pairs of an image and a class that it is computed from.
        share: whether it is a share of hits.
    """

    value: float
    draws: Float[np.ndarray, " resample"]
    networks: tuple[float, ...]
    images: int
    entries: int
    share: bool = False

    def estimate(self) -> Estimate:
        """Return the estimate with its intervals."""
        ends = (0.0, 1.0) if self.share else None
        return estimate_of_draws(np.array(self.value), self.draws, self.networks, self.images, self.entries, ends)

    def above(self, other: "CountStatistic") -> Estimate:
        """Return the paired estimate of this error less another on the same images.

        A baseline without networks is compared with every network of the other side.
        """
        count = max(len(self.networks), len(other.networks))
        mine, theirs = (one.networks * count if len(one.networks) == 1 else one.networks for one in (self, other))
        networks = [a - b for a, b in zip(mine, theirs, strict=True)]
        value, draws = np.array(self.value - other.value), self.draws - other.draws
        return estimate_of_draws(value, draws, networks, self.images, self.entries)


def whole(predicted: Predicted) -> Predicted:
    """Return predictions clamped at 0 and rounded as the metrics do it."""
    return round_counts(torch.from_numpy(np.asarray(predicted, np.float64))).numpy()


def error_statistics(
    predicted: Predicted, truth: Truth, *, rounded: bool = True, resamples: int = RESAMPLES
) -> dict[str, CountStatistic]:
    """Compute the four errors by name, and the pooled root mean square error of each range of true counts.

    A class without a positive image, in the data or in a resample, is left out of the "nz" means there; a range without
    an entry is left out of the result.

    Args:
        predicted: [network, image, class]; one network for a baseline.
        truth: [image, class] whole numbers.
        rounded: False clamps only, as the baselines "mean" and "category-mean" are published.
        resamples: of the images.

    >>> found = error_statistics(np.array([[[1.0], [1.0]]]), np.array([[0.0], [2.0]]), resamples=50)
    >>> found["mRMSE"].value, sorted(found)
    (1.0, ['0', '1 to 4', 'm-relRMSE', 'm-relRMSE-nz', 'mRMSE', 'mRMSE-nz'])
    """
    values = whole(predicted) if rounded else np.clip(predicted, 0, None).astype(np.float64)
    squares = (values - truth) ** 2
    weights = _weights(len(truth), resamples)
    found = {}
    for name, (relative, nonzero) in FORMS.items():
        taken = truth > 0 if nonzero else np.ones_like(truth, bool)
        if taken.any():
            found[name] = _of_classes(squares / (truth + 1 if relative else 1), taken, weights)
    for name, (low, high) in PARTS.items():
        taken = (truth >= low) & (truth <= high)
        if taken.any():
            found[name] = _pooled(squares, taken, weights)
    return found


def relative_error(
    predicted: Predicted, truth: Truth, *, rounded: bool = True, resamples: int = RESAMPLES
) -> CountStatistic:
    """Compute the mean relative error of one class over the images where it occurs: mean of |error| / count.

    Args:
        predicted: [network, image, 1].
        truth: [image, 1].
        rounded, resamples: as for :func:`error_statistics`.

    >>> relative_error(np.array([[[9.0], [3.0]]]), np.array([[10.0], [0.0]]), resamples=10).value
    0.1
    """
    errors = np.abs((whole(predicted) if rounded else np.clip(predicted, 0, None)) - truth) / np.maximum(truth, 1)
    return _pooled(errors, truth > 0, _weights(len(truth), resamples), root=False)


def inside_statistic(
    low: Int[np.ndarray, "network image class"],
    high: Int[np.ndarray, "network image class"],
    truth: Truth,
    *,
    nonzero: bool,
    resamples: int = RESAMPLES,
) -> CountStatistic | None:
    """Compute the share of true counts inside of intervals; with ``nonzero`` of those above 0, None without any.

    >>> inside_statistic(np.zeros((1, 2, 1)), np.ones((1, 2, 1)), np.array([[0.0], [2.0]]), nonzero=False).value
    0.5
    """
    taken = truth > 0 if nonzero else np.ones_like(truth, bool)
    if not taken.any():
        return None
    hits = ((low <= truth) & (truth <= high)).astype(float)
    return replace(_pooled(hits, taken, _weights(len(truth), resamples), root=False), share=True)


def _weights(images: int, resamples: int) -> Float[np.ndarray, "resample image"]:
    """Return one row of ones, the data themselves, and then the resamples."""
    return np.concatenate([np.ones((1, images)), resample_counts(images, resamples).astype(float)])


def _of_classes(
    squares: Float[np.ndarray, "network image class"],
    taken: Bool[np.ndarray, "image class"],
    weights: Float[np.ndarray, "resample image"],
) -> CountStatistic:
    """Return the mean over classes of the root of the weighted mean over the images that are taken."""
    number = weights @ taken
    networks = []
    for own in squares:
        with np.errstate(invalid="ignore"):
            each = np.sqrt((weights @ (own * taken)) / np.where(number > 0, number, np.nan))
        networks.append(_mean_of_known(each))
    return _centred(_statistic(np.stack(networks), taken))


def _mean_of_known(each: Float[np.ndarray, "resample class"]) -> Float[np.ndarray, " resample"]:
    """Return the means over classes that have a value; NaN for a resample in which none has."""
    known = np.isfinite(each)
    with np.errstate(invalid="ignore"):
        return np.where(known, each, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def _pooled(
    values: Float[np.ndarray, "network image class"],
    taken: Bool[np.ndarray, "image class"],
    weights: Float[np.ndarray, "resample image"],
    root: bool = True,
) -> CountStatistic:
    """Return the (root of the) mean over all pairs that are taken; resamples without any have no value."""
    number = weights @ taken.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack([(weights @ (own * taken).sum(1)) / number for own in values])
    return _statistic(np.sqrt(means) if root else means, taken)


def _statistic(found: Float[np.ndarray, "network resample"], taken: Bool[np.ndarray, "image class"]) -> CountStatistic:
    """Return the statistic; images that have no pair do not count as images of it."""
    means = found.mean(0)
    images = int(taken.any(1).sum())
    return CountStatistic(float(means[0]), means[1:], tuple(map(float, found[:, 0])), images, int(taken.sum()))


def _centred(found: CountStatistic) -> CountStatistic:
    """Return the statistic with resamples whose mean is the value."""
    return replace(found, draws=found.draws - found.draws.mean() + found.value)


def f_statistic(tallies: Float[np.ndarray, "network image class 3"], resamples: int = RESAMPLES) -> CountStatistic:
    r"""Compute the mean over classes of :math:`F = 2 TP / (\text{boxes} + \text{objects})`, pooled over images.

    Classes without an object, in the data or in a resample, are left out there.

    Args:
        tallies: right boxes, boxes and objects of each image and class.
        resamples: of the images.

    >>> f_statistic(np.array([[[[1.0, 2.0, 2.0]]]]), 10).value
    0.5
    """
    weights = _weights(tallies.shape[1], resamples)
    networks = []
    for own in tallies:
        right, boxes, objects = (weights @ own[..., column] for column in range(3))
        with np.errstate(invalid="ignore"):
            networks.append(_mean_of_known(np.where(objects > 0, 2 * right / (boxes + objects), np.nan)))
    return _centred(_statistic(np.stack(networks), tallies[0, ..., 2] > 0))


def precision_recall(tallies: Float[np.ndarray, "network image class 3"]) -> tuple[float, float]:
    """Compute the means of precision and recall over classes with an object and over networks.

    A class without boxes has a precision of 0.

    >>> precision_recall(np.array([[[[1.0, 2.0, 4.0]], [[0.0, 0.0, 0.0]]]]))
    (0.5, 0.25)
    """
    right, boxes, objects = np.moveaxis(tallies.sum(1), -1, 0)
    known = objects > 0
    precision = np.divide(right, boxes, out=np.zeros_like(right), where=boxes > 0)
    return float(precision[known].mean()), float((right[known] / objects[known]).mean())
