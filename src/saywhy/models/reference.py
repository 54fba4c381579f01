"""What is usual: the uncertainties of a test set, beside which that of one answer can be read, and when to abstain."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from saywhy.errors import WeightsError

STEPS = 101
"""Quantiles from 0 % to 100 %."""


@dataclass(frozen=True)
class Reference:
    """Measured once, with the weights.

    Attributes:
        quantiles: by the name of an uncertainty (:class:`saywhy.uncertainty.Uncertainty`), its quantiles at equal steps
            from 0 to 1 over the questions of a test set.
        limit: the total uncertainty up to which the model should answer.
        risk: the share of its answers that are wrong at that limit, at most.
        split: on which questions the limit was found.
    """

    quantiles: Mapping[str, tuple[float, ...]]
    limit: float
    risk: float
    split: str

    @staticmethod
    def of(values: Mapping[str, Tensor], limit: float, risk: float, split: str) -> "Reference":
        """From the uncertainties of a test set, by name."""
        steps = torch.linspace(0, 1, STEPS, dtype=torch.float64)
        quantiles = {name: tuple(torch.quantile(of_one.double(), steps).tolist()) for name, of_one in values.items()}
        return Reference(quantiles, limit, risk, split)

    def share_below(self, kind: str, value: float) -> float:
        """The share of the test set's questions that are less uncertain, from 0 to 1."""
        return quantile_of(value, self.quantiles[kind])

    def abstains(self, total: float) -> bool:
        """Whether the model had better not answer."""
        return total > self.limit

    def text(self) -> str:
        """As it is kept beside weights."""
        told = asdict(self)
        told["quantiles"] = {kind: [round(value, 6) for value in values] for kind, values in self.quantiles.items()}
        return json.dumps(told)

    @staticmethod
    def read(text: str) -> "Reference":
        """What :meth:`text` wrote.

        Raises:
            WeightsError: it is something else.
        """
        try:
            told = json.loads(text)
            quantiles = {str(kind): tuple(map(float, values)) for kind, values in told["quantiles"].items()}
            return Reference(quantiles, float(told["limit"]), float(told["risk"]), str(told["split"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"what these weights say of their uncertainty cannot be read ({error}).") from error


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
