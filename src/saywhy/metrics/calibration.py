r"""Does a model know when it is wrong? Its uncertainty against its errors.

Whatever says how uncertain an answer is can be judged: entropies, variances, one less the probability. Only the order
counts for :func:`auroc` and :func:`risk_coverage`; :func:`calibration_error` asks whether a probability of 0.8 is right
four times out of five.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.human_attention import rank_correlation, ranks
from saywhy.metrics.registry import dataset_metric
from saywhy.validation import whole_number

Each = Float[Tensor, " sample"]
Which = Bool[Tensor, " sample"]


@dataset_metric(
    "how likely a wrong answer is more uncertain than a right one; chance is 0.5",
    better="higher",
    range="0 to 1",
    paper="common",
    order=180,
)
def auroc(uncertainty: Each, wrong: Which) -> float:
    r"""How likely a wrong answer is more uncertain than a right one, ties counting half.

    .. math:: P(u_{wrong} > u_{right}) + \tfrac12 P(u_{wrong} = u_{right})

    which is the area under the ROC curve of uncertainty as a detector of errors; 0.5 is chance, 1 the best.

    Raises:
        InputError: shapes differ, a value is not finite, or there are no wrong or no right answers.

    >>> auroc(torch.tensor([0.9, 0.2, 0.6, 0.1]), torch.tensor([True, False, True, False]))
    1.0
    """
    values, errors = _checked(uncertainty, wrong)
    count = int(errors.sum())
    if not 0 < count < len(errors):
        raise InputError(f"it takes wrong and right answers to tell them apart, got {count} wrong of {len(errors)}.")
    above = ranks(values)[errors].sum() - count * (count + 1) / 2
    return float(above / (count * (len(errors) - count)))


@dataset_metric(
    "rank correlation of uncertainty with how wrong an answer is",
    better="higher",
    range="-1 to 1",
    paper="Patro et al., 2019",
    order=200,
)
def error_correlation(uncertainty: Each, error: Each) -> float:
    r"""The rank correlation of uncertainty with how wrong an answer is, from -1 to 1; higher is better.

    The error is a number: U-CAM (Patro et al., 2019) takes :math:`-\log \bar p(\text{true answer})`. Spearman's
    correlation, equal values sharing the mean rank; the released program draws a scatter plot, and the paper's
    statistic could not be found.

    Raises:
        InputError: shapes differ, a value is not finite, or all uncertainties or all errors are equal.

    >>> error_correlation(torch.tensor([0.1, 0.4, 0.2]), torch.tensor([0.0, 9.0, 1.0]))
    1.0
    """
    values, errors = _numbers(uncertainty, error)
    if any(bool((one == one[0]).all()) for one in (values, errors)):
        raise InputError("a correlation is of values that differ; all uncertainties or all errors are equal.")
    return float(rank_correlation(values.unsqueeze(0), errors.unsqueeze(0)))


@dataclass(frozen=True)
class RiskCoverage:
    """How often the answers are wrong that are left when the most uncertain are not given.

    Attributes:
        coverage: [sample] the share of questions that are answered, from 1 / sample to 1.
        risk: [sample] the share of those answers that are wrong; of equally uncertain answers in random order what is
            to be expected.
        uncertainty: [sample] the largest among those that are answered.
    """

    coverage: Each
    risk: Each
    uncertainty: Each

    @property
    def area(self) -> float:
        """AURC (Geifman and El-Yaniv, 2017): the mean risk over all coverages; lower is better."""
        return float(self.risk.mean())

    def limit(self, risk: float) -> float:
        """The largest uncertainty up to which no more than this share of answers is wrong; -inf where there is none.

        >>> found = risk_coverage(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([False, False, True, True]))
        >>> round(found.limit(0.4), 3)
        0.3
        """
        if not 0 <= risk <= 1:
            raise InputError(f"a risk is a share of answers from 0 to 1, got {risk!r}.")
        fine = (self.risk <= risk) & self._last_of_its_value()
        return float(self.uncertainty[fine].max()) if bool(fine.any()) else -float("inf")

    def _last_of_its_value(self) -> Which:
        """Answers of the same uncertainty are given together or not at all."""
        return torch.cat([self.uncertainty[1:] > self.uncertainty[:-1], torch.ones(1, dtype=torch.bool)])


@dataset_metric(
    "share of wrong answers among the most certain ones; `.area` is AURC",
    better="lower",
    range="0 to 1",
    paper="Geifman and El-Yaniv, 2017",
    order=190,
)
def risk_coverage(uncertainty: Each, wrong: Which) -> RiskCoverage:
    """Answers from the most certain to the least, and how many of those so far are wrong.

    Raises:
        InputError: shapes differ, a value is not finite, or there are no answers.

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
    # Multiplied first: at the last of its group this is a whole number, and a risk that is met is met exactly.
    expected = before[group] + of_group * errors_of[group] / sizes[group]
    return RiskCoverage(answered / len(values), expected / answered, values)


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence.

    Attributes:
        confidence: the mean of their probabilities.
        accuracy: the share of them that is right.
        count: how many they are.
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
def reliability(confidence: Each, right: Which, bins: int = 15) -> list[Bin]:
    """The reliability diagram: bins of as many answers each as can be, from the least confident on.

    Answers of the same confidence count as right as these are on average, so that their order does not matter. Bins
    have equal mass, because most answers of a good network have a confidence near 1, where bins of equal width are
    one.

    Raises:
        InputError: shapes differ, a confidence does not lie from 0 to 1, or bins is no number from 1.

    >>> reliability(torch.tensor([0.5, 0.6, 0.9, 1.0]), torch.tensor([True, False, True, True]), bins=2)[1].accuracy
    1.0
    """
    values, correct = _checked(confidence, right)
    if bool((values < 0).any()) or bool((values > 1 + 1e-6).any()):
        raise InputError("a confidence is a probability from 0 to 1.")
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
def calibration_error(confidence: Each, right: Which, bins: int = 15) -> float:
    r"""The expected calibration error over bins of equal mass (Nguyen and O'Connor, 2015).

    .. math:: \sum_b \frac{n_b}{n} \left| \mathrm{accuracy}_b - \mathrm{confidence}_b \right|

    from 0, the best, to 1. Differs from the usual one (Guo et al., 2017) by its bins; see :func:`reliability`.

    Args, errors: as for :func:`reliability`.

    >>> calibration_error(torch.tensor([0.75, 0.75, 0.75, 0.75]), torch.tensor([True, True, True, False]), bins=1)
    0.0
    """
    # torchmetrics is not used: its bins have equal width, and the errors differ by up to 0.14 (20 to 1000 answers that
    # are mostly confident). Where bins of equal width hold as many answers each, both agree to 1e-16.
    found = reliability(confidence, right, bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in found) / sum(one.count for one in found)


def _tensors(*values: Any) -> None:
    if not all(isinstance(value, Tensor) for value in values):
        raise InputError(f"these are tensors of torch, got {' and '.join(type(value).__name__ for value in values)}.")


def _numbers(values: Each, others: Each) -> tuple[Each, Each]:
    _tensors(values, others)
    if values.ndim != 1 or values.shape != others.shape or not len(values):
        raise InputError(
            f"there is one error for each of at least one answer, got {list(values.shape)} and {list(others.shape)}."
        )
    fine = values.detach().cpu().double(), others.detach().cpu().double()
    if not all(bool(torch.isfinite(one).all()) for one in fine):
        raise InputError("an uncertainty and an error must be finite, got NaN or infinity.")
    return fine


def _checked(values: Each, which: Which) -> tuple[Each, Which]:
    _tensors(values, which)
    if values.ndim != 1 or values.shape != which.shape or which.dtype != torch.bool or not len(values):
        raise InputError(
            f"there is one value for each of at least one answer, and whether it is wrong (bool); got "
            f"{list(values.shape)} and {which.dtype} {list(which.shape)}."
        )
    fine = values.detach().cpu().double()
    if not bool(torch.isfinite(fine).all()):
        raise InputError("an uncertainty must be finite, got NaN or infinity.")
    return fine, which.cpu()
