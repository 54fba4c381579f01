"""The uncertainty reference: quantiles of uncertainties on a test set, and the limit above which to abstain."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from saywhy.errors import WeightsError
from saywhy.io.limits import parse_json

STEPS = 101
"""Quantiles from 0 % to 100 %."""


@dataclass(frozen=True)
class RiskCoverageCurve:
    """The risk-coverage curve of a test set, at a hundred equal steps of coverage.

    Attributes:
        wrong: the risk (share of wrong answers) if the most certain 1 %, 2 %, … 100 % of questions are answered.
        limits: the largest total uncertainty among the answered questions, for each step.
        split: the data split of the questions.
    """

    wrong: tuple[float, ...]
    limits: tuple[float, ...]
    split: str

    def __post_init__(self) -> None:
        if len(self.wrong) != 100 or len(self.limits) != 100:
            raise ValueError(f"a curve must have a hundred steps, got {len(self.wrong)} and {len(self.limits)}")

    @staticmethod
    def of(risk: Tensor, uncertainty: Tensor, split: str) -> "RiskCoverageCurve":
        """Make the curve from a result of :func:`saywhy.metrics.calibration.risk_coverage`."""
        last = [max(1, round(len(risk) * step / 100)) - 1 for step in range(1, 101)]
        return RiskCoverageCurve(tuple(risk[last].tolist()), tuple(uncertainty[last].tolist()), split)

    def at(self, total: float) -> int:
        """The coverage in percent if every question at least as certain as this one is answered; at least 1.

        >>> RiskCoverageCurve(tuple(range(100)), tuple(range(100)), "some").at(9.5)
        10
        """
        return max(1, bisect_right(self.limits, total))


@dataclass(frozen=True)
class UncertaintyReference:
    """Uncertainties of a test set and the abstention limit, measured once and stored with the weights.

    Attributes:
        quantiles: the quantiles at equal steps from 0 to 1 over the questions of a test set, by the name of the
            uncertainty (:class:`saywhy.uncertainty.Uncertainty`).
        limit: the largest total uncertainty at which the model should answer.
        risk: the largest share of wrong answers up to that limit, on the split where the limit was chosen.
        split: the data split on which the limit was chosen.
        risks: the risk-coverage curve; None if it was not measured.
        questions: the data split of the quantiles.
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
        """Compute the quantiles from the uncertainties of a test set, by name."""
        steps = torch.linspace(0, 1, STEPS, dtype=torch.float64)
        quantiles = {name: tuple(torch.quantile(of_one.double(), steps).tolist()) for name, of_one in values.items()}
        return UncertaintyReference(quantiles, limit, risk, split, risks, questions)

    def share_below(self, kind: str, value: float) -> float:
        """The share of the test set's questions that are less uncertain, from 0 to 1."""
        return quantile_of(value, self.quantiles[kind])

    def abstains(self, total: float) -> bool:
        """Whether the model should abstain."""
        return total > self.limit

    def text(self) -> str:
        """The reference as JSON, as it is stored with weights."""
        record = asdict(self)
        record["quantiles"] = {kind: _rounded(values) for kind, values in self.quantiles.items()}
        if self.risks is not None:
            record["risks"] |= {name: _rounded(getattr(self.risks, name)) for name in ("wrong", "limits")}
        return json.dumps(record)

    @staticmethod
    def read(text: str) -> "UncertaintyReference":
        """Read a reference from JSON of :meth:`text`.

        Raises:
            WeightsError: the text is not such JSON.
        """
        try:
            record = parse_json(text)
            quantiles = {str(kind): tuple(map(float, values)) for kind, values in record["quantiles"].items()}
            risks = record.get("risks") and RiskCoverageCurve(
                tuple(map(float, record["risks"]["wrong"])),
                tuple(map(float, record["risks"]["limits"])),
                str(record["risks"]["split"]),
            )
            limit, risk, split = float(record["limit"]), float(record["risk"]), str(record["split"])
            return UncertaintyReference(quantiles, limit, risk, split, risks, str(record.get("questions", "a test")))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise WeightsError(f"the uncertainty reference of these weights cannot be read ({error}).") from error


def _rounded(values: Sequence[float]) -> list[float]:
    """Round to six significant digits, so that small values stay distinct.

    >>> _rounded([1.23456789, 1.23456789e-9])
    [1.23457, 1.23457e-09]
    """
    return [float(f"{value:.6g}") for value in values]


def quantile_of(value: float, quantiles: Sequence[float]) -> float:
    """The share of a distribution below a value, from its quantiles at equal steps from 0 to 1.

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
