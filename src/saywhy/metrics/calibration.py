r"""Calibration and error detection: a model's uncertainty compared with its errors.

Any measure of uncertainty can be evaluated: entropies, variances, one less the probability. :func:`auroc` and
:func:`risk_coverage` depend on its order only; :func:`calibration_error` compares probabilities with accuracy.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.correlation import rank_correlation, ranks
from saywhy.metrics.registry import dataset_metric
from saywhy.validation import finite, real_number, whole_number

PerSample = Float[Tensor, " sample"]
Which = Bool[Tensor, " sample"]


@dataset_metric(
    "AUROC of uncertainty as a detector of wrong predictions; chance is 0.5",
    better="higher",
    range="0 to 1",
    paper="common",
    order=180,
)
def auroc(uncertainty: PerSample, wrong: Which) -> float:
    r"""Area under the ROC curve of uncertainty as a detector of wrong predictions.

    .. math:: P(u_{wrong} > u_{right}) + \tfrac12 P(u_{wrong} = u_{right})

    which is the probability that a wrong prediction is more uncertain than a correct one; 0.5 is chance, 1 the best.

    Raises:
        InputError: shapes differ, a value is not finite, or there are no wrong or no correct predictions.

    >>> auroc(torch.tensor([0.9, 0.2, 0.6, 0.1]), torch.tensor([True, False, True, False]))
    1.0
    """
    values, errors = _checked(uncertainty, wrong)
    count = int(errors.sum())
    if not 0 < count < len(errors):
        raise InputError(f"AUROC needs wrong and correct predictions, got {count} wrong of {len(errors)}.")
    above = ranks(values)[errors].sum() - count * (count + 1) / 2
    return float(above / (count * (len(errors) - count)))


@dataset_metric(
    "rank correlation of uncertainty with the error of a prediction",
    better="higher",
    range="-1 to 1",
    paper="Patro et al., 2019",
    order=200,
)
def error_correlation(uncertainty: PerSample, error: PerSample) -> float:
    r"""Rank correlation of uncertainty with the error of a prediction, from -1 to 1; higher is better.

    The error is a number: U-CAM (Patro et al., 2019) takes :math:`-\log \bar p(\text{true answer})`. It is Spearman's
    correlation, in which equal values share the mean rank. (The paper's statistic is not specified; the released
    program draws a scatter plot.)

    Raises:
        InputError: shapes differ, a value is not finite, or all uncertainties or all errors are equal.

    >>> error_correlation(torch.tensor([0.1, 0.4, 0.2]), torch.tensor([0.0, 9.0, 1.0]))
    1.0
    """
    values, errors = _numbers(uncertainty, error)
    if any(bool((one == one[0]).all()) for one in (values, errors)):
        raise InputError("a correlation needs values that differ; all uncertainties or all errors are equal.")
    return float(rank_correlation(values.unsqueeze(0), errors.unsqueeze(0)))


@dataclass(frozen=True)
class RiskCoverage:
    """A risk-coverage curve: the error rate of the most certain predictions, as more of them are accepted.

    Attributes:
        coverage: [sample] the share of accepted predictions, from 1 / sample to 1.
        risk: [sample] the share of wrong ones among them; for ties in uncertainty the expectation over random order.
        uncertainty: [sample] the largest uncertainty among the accepted predictions.
    """

    coverage: PerSample
    risk: PerSample
    uncertainty: PerSample

    @property
    def area(self) -> float:
        """AURC (Geifman and El-Yaniv, 2017): the mean risk over all coverages; lower is better."""
        return float(self.risk.mean())

    def limit(self, risk: float) -> float:
        """Return the largest uncertainty up to which at most this share of predictions is wrong; -inf if there is none.

        >>> found = risk_coverage(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([False, False, True, True]))
        >>> round(found.limit(0.4), 3)
        0.3
        """
        risk = real_number("risk", risk, 0, 1)
        accepted = (self.risk <= risk) & self._last_of_its_value()
        return float(self.uncertainty[accepted].max()) if bool(accepted.any()) else -float("inf")

    def _last_of_its_value(self) -> Which:
        """Return which predictions are the last of equal uncertainty; ties are accepted together or not at all."""
        return torch.cat([self.uncertainty[1:] > self.uncertainty[:-1], torch.ones(1, dtype=torch.bool)])


@dataset_metric(
    "share of wrong predictions among the most certain ones; `.area` is AURC",
    better="lower",
    range="0 to 1",
    paper="Geifman and El-Yaniv, 2017",
    order=190,
)
def risk_coverage(uncertainty: PerSample, wrong: Which) -> RiskCoverage:
    """Compute the risk-coverage curve, from the most certain prediction to the least certain.

    Raises:
        InputError: shapes differ, a value is not finite, or there are no predictions.

    >>> found = risk_coverage(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([False, False, True, True]))
    >>> found.risk.tolist(), round(found.area, 4)
    ([0.0, 0.0, 0.3333333333333333, 0.5], 0.2083)
    """
    values, errors = _checked(uncertainty, wrong)
    order = values.argsort(stable=True)
    values, sorted_errors = values[order], errors[order].double()
    _, group, sizes = values.unique_consecutive(return_inverse=True, return_counts=True)
    errors_of = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, group, sorted_errors)
    before = errors_of.cumsum(0) - errors_of
    answered = torch.arange(1, len(values) + 1, dtype=torch.float64)
    of_group = answered - (sizes.cumsum(0) - sizes)[group]
    # Multiplied first: at the last of its group the result is a whole number, and comparisons with a risk are exact.
    expected = before[group] + of_group * errors_of[group] / sizes[group]
    return RiskCoverage(answered / len(values), expected / answered, values)


@dataclass(frozen=True)
class Bin:
    """Predictions of similar confidence.

    Attributes:
        confidence: the mean of their probabilities.
        accuracy: the share of correct ones.
        count: the number of predictions.
    """

    confidence: float
    accuracy: float
    count: int


@dataset_metric(
    "the reliability diagram: confidence and accuracy of every bin",
    better="none",
    range="0 to 1",
    paper="Nguyen and O'Connor, 2015",
    order=170,
)
def reliability(confidence: PerSample, right: Which, bins: int = 15) -> list[Bin]:
    """Compute the reliability diagram over bins of equal mass, from the least confident to the most confident.

    Predictions of equal confidence all count with their mean accuracy, so that their order does not matter. Bins have
    equal mass, because most predictions of a good network have a confidence near 1 and would share one bin of equal
    width.

    Raises:
        InputError: shapes differ, a confidence is outside 0 to 1, or bins is no whole number of at least 1.

    >>> reliability(torch.tensor([0.5, 0.6, 0.9, 1.0]), torch.tensor([True, False, True, True]), bins=2)[1].accuracy
    1.0
    """
    values, correct = _checked(confidence, right)
    if bool((values < 0).any()) or bool((values > 1 + 1e-6).any()):
        raise InputError("a confidence must be a probability from 0 to 1, got a value out of range.")
    bins = whole_number("bins", bins, 1)
    order = values.argsort(stable=True)
    values, shares = values[order], correct[order].double()
    _, group, sizes = values.unique_consecutive(return_inverse=True, return_counts=True)
    shares = (torch.zeros(len(sizes), dtype=shares.dtype).index_add(0, group, shares) / sizes)[group]
    parts = zip(values.tensor_split(bins), shares.tensor_split(bins), strict=True)
    return [Bin(float(p.mean()), float(r.mean()), len(p)) for p, r in parts if len(p)]


@dataset_metric(
    "distance between confidence and accuracy, over bins of equal mass",
    better="lower",
    range="0 to 1",
    paper="Nguyen and O'Connor, 2015",
    order=160,
)
def calibration_error(confidence: PerSample, right: Which, bins: int = 15) -> float:
    r"""Expected calibration error over bins of equal mass (Nguyen and O'Connor, 2015).

    .. math:: \sum_b \frac{n_b}{n} \left| \mathrm{accuracy}_b - \mathrm{confidence}_b \right|

    from 0, the best, to 1. Differs from the usual one (Guo et al., 2017) by its bins; see :func:`reliability`.

    Args, errors: as for :func:`reliability`.

    >>> calibration_error(torch.tensor([0.75, 0.75, 0.75, 0.75]), torch.tensor([True, True, True, False]), bins=1)
    0.0
    """
    # torchmetrics is not used: its bins have equal width, and the errors differ by up to 0.14 (20 to 1000 mostly
    # confident predictions). If bins of equal width hold equal numbers, both agree to 1e-16.
    found = reliability(confidence, right, bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in found) / sum(one.count for one in found)


def _tensors(*values: Any) -> None:
    if not all(isinstance(value, Tensor) for value in values):
        raise InputError(f"expected tensors of torch, got {' and '.join(type(value).__name__ for value in values)}.")


def _numbers(values: PerSample, others: PerSample) -> tuple[PerSample, PerSample]:
    _tensors(values, others)
    if values.ndim != 1 or values.shape != others.shape or not len(values):
        raise InputError(
            f"expected one error for each of at least one prediction, got {list(values.shape)} and "
            f"{list(others.shape)}."
        )
    return (
        finite("an uncertainty", values.detach().cpu().double()),
        finite("an error", others.detach().cpu().double()),
    )


def _checked(values: PerSample, which: Which) -> tuple[PerSample, Which]:
    _tensors(values, which)
    if values.ndim != 1 or values.shape != which.shape or which.dtype != torch.bool or not len(values):
        raise InputError(
            f"expected one value for each of at least one prediction, and whether it is wrong (bool); got "
            f"{list(values.shape)} and {which.dtype} {list(which.shape)}."
        )
    return finite("an uncertainty", values.detach().cpu().double()), which.cpu()
