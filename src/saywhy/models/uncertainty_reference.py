"""What is usual: the uncertainties of a test set, beside which that of one answer can be read, and when to abstain."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from saywhy.errors import WeightsError

STEPS = 101
"""Quantiles from 0 % to 100 %."""


@dataclass(frozen=True)
class RiskCoverageCurve:
    """What abstaining is worth: the risk-coverage curve of a test set, at a hundred equal steps of coverage.

    Attributes:
        wrong: the share of answers that are wrong if the most certain 1 %, 2 %, … 100 % of questions are answered.
        limits: the total uncertainty of the last of these.
        split: of which questions.
    """

    wrong: tuple[float, ...]
    limits: tuple[float, ...]
    split: str

    def __post_init__(self) -> None:
        if len(self.wrong) != 100 or len(self.limits) != 100:
            raise ValueError(f"a curve has a hundred steps, got {len(self.wrong)} and {len(self.limits)}")

    @staticmethod
    def of(risk: Tensor, uncertainty: Tensor, split: str) -> "RiskCoverageCurve":
        """From a curve of :func:`saywhy.metrics.calibration.risk_coverage`."""
        last = [max(1, round(len(risk) * step / 100)) - 1 for step in range(1, 101)]
        return RiskCoverageCurve(tuple(risk[last].tolist()), tuple(uncertainty[last].tolist()), split)

    def at(self, total: float) -> int:
        """Percent of questions that are answered if all are that are as certain as this one; from 1.

        >>> RiskCoverageCurve(tuple(range(100)), tuple(range(100)), "some").at(9.5)
        10
        """
        return max(1, bisect_right(self.limits, total))


@dataclass(frozen=True)
class UncertaintyReference:
    """Measured once, with the weights.

    Attributes:
        quantiles: by the name of an uncertainty (:class:`saywhy.uncertainty.Uncertainty`), its quantiles at equal steps
            from 0 to 1 over the questions of a test set.
        limit: the total uncertainty up to which the model should answer.
        risk: the share of its answers that were wrong up to that limit, at most, where the limit was found.
        split: on which questions that was.
        risks: what abstaining is worth; None where that was not measured.
        questions: of which split the quantiles are.
    """

    quantiles: Mapping[str, tuple[float, ...]]
    limit: float
    risk: float
    split: str
    risks: RiskCoverageCurve | None = None
    questions: str = "a test"

    @staticmethod
    def of(
        values: Mapping[str, Tensor],
        limit: float,
        risk: float,
        split: str,
        risks: RiskCoverageCurve | None = None,
        questions: str = "a test",
    ) -> "UncertaintyReference":
        """From the uncertainties of a test set, by name."""
        steps = torch.linspace(0, 1, STEPS, dtype=torch.float64)
        quantiles = {name: tuple(torch.quantile(of_one.double(), steps).tolist()) for name, of_one in values.items()}
        return UncertaintyReference(quantiles, limit, risk, split, risks, questions)

    def share_below(self, kind: str, value: float) -> float:
        """The share of the test set's questions that are less uncertain, from 0 to 1."""
        return quantile_of(value, self.quantiles[kind])

    def abstains(self, total: float) -> bool:
        """Whether the model had better not answer."""
        return total > self.limit

    def text(self) -> str:
        """As it is kept beside weights."""
        told = asdict(self)
        told["quantiles"] = {kind: _short(values) for kind, values in self.quantiles.items()}
        if self.risks is not None:
            told["risks"] |= {name: _short(getattr(self.risks, name)) for name in ("wrong", "limits")}
        return json.dumps(told)

    @staticmethod
    def read(text: str) -> "UncertaintyReference":
        """What :meth:`text` wrote.

        Raises:
            WeightsError: it is something else.
        """
        try:
            told = json.loads(text)
            quantiles = {str(kind): tuple(map(float, values)) for kind, values in told["quantiles"].items()}
            risks = told.get("risks") and RiskCoverageCurve(
                tuple(map(float, told["risks"]["wrong"])),
                tuple(map(float, told["risks"]["limits"])),
                str(told["risks"]["split"]),
            )
            limit, risk, split = float(told["limit"]), float(told["risk"]), str(told["split"])
            return UncertaintyReference(quantiles, limit, risk, split, risks, str(told.get("questions", "a test")))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"what these weights say of their uncertainty cannot be read ({error}).") from error


def _short(values: Sequence[float]) -> list[float]:
    """To six digits; not to so many behind the point, as the smallest of them are all that tells some answers apart.

    >>> _short([1.23456789, 1.23456789e-9])
    [1.23457, 1.23457e-09]
    """
    return [float(f"{value:.6g}") for value in values]


def quantile_of(value: float, quantiles: Sequence[float]) -> float:
    """How large a share of a distribution lies below a value, from its quantiles at equal steps from 0 to 1.

    >>> quantile_of(0.25, [0.0, 0.5, 1.0])
    0.25
    """
    steps = torch.tensor(list(quantiles), dtype=torch.float64)
    if value <= float(steps[0]):
        return 0.0
    if value >= float(steps[-1]):
        return 1.0
    at = int(torch.searchsorted(steps, torch.tensor(value, dtype=torch.float64), right=True)) - 1
    width = float(steps[at + 1] - steps[at])
    return (at + (value - float(steps[at])) / width) / (len(steps) - 1)
