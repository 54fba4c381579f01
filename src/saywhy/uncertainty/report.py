"""Uncertainty report of one answer: its components, compared with a test set, and whether to abstain."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from saywhy.models import Model
from saywhy.models.uncertainty_reference import UncertaintyReference
from saywhy.uncertainty.dropout import MCDropout, NoDropout, has_dropout, mc_dropout
from saywhy.uncertainty.ensemble import Ensemble, TestTimeAugmentation
from saywhy.uncertainty.estimate import Uncertainty, estimate

NUM_SAMPLES = 50

NAMES = {
    "total": "total uncertainty",
    "aleatoric": "aleatoric (of image and question)",
    "epistemic": "epistemic (of the network)",
    "aleatoric_variance": "aleatoric variance (noise in the logits)",
}
"""The displayed names of the components."""

UNITS = {"total": "nats", "aleatoric": "nats", "epistemic": "nats", "aleatoric_variance": "squared logits"}


@dataclass(frozen=True)
class UncertaintyComponent:
    """One component of the uncertainty of an answer.

    Attributes:
        kind: ``"total"``, ``"aleatoric"``, ``"epistemic"`` or ``"aleatoric_variance"``.
        value: the value in ``unit``.
        unit: nats, or squared logits.
        share: the share of questions of a test set with a lower value, from 0 to 1; None where it is unknown.
        among: the name of this test set.
    """

    kind: str
    value: float
    unit: str
    share: float | None
    among: str = "a test"

    @property
    def name(self) -> str:
        """The displayed name."""
        return NAMES[self.kind]


@dataclass(frozen=True)
class RiskCoveragePoint:
    """The point of an answer on the risk-coverage curve of a test set.

    Attributes:
        curve: the share of wrong answers (risk) if the most certain 1 %, 2 %, … 100 % of the questions are answered.
        percent: the percentage of questions that are at least as certain as this answer (coverage); from 1.
        split: the name of the test set.
    """

    curve: tuple[float, ...]
    percent: int
    split: str

    @property
    def wrong(self) -> float:
        """The share of wrong answers among those that are at least as certain as this one (risk)."""
        return self.curve[self.percent - 1]

    @property
    def text(self) -> str:
        """A sentence with risk and coverage.

        >>> RiskCoveragePoint((0.0,) * 50 + (0.125,) * 50, 80, "test").text
        'Of the answers that are at least as certain as this one (80 % of test), 12 % are wrong.'
        """
        share = f"{self.percent} % of {self.split}"
        return f"Of the answers that are at least as certain as this one ({share}), {100 * self.wrong:.0f} % are wrong."


@dataclass(frozen=True)
class UncertaintyReport:
    """The uncertainty of one answer.

    Attributes:
        answer, probability: the answer with the highest mean probability over Monte Carlo samples, and its probability.
        components: the components of the uncertainty.
        abstains: whether the model should abstain; None where no limit was measured.
        text: a sentence with the verdict.
        num_samples: the number of Monte Carlo samples.
        risk: the point on the risk-coverage curve; None where it was not measured.
    """

    answer: str
    probability: float
    components: tuple[UncertaintyComponent, ...]
    abstains: bool | None
    text: str
    num_samples: int
    risk: "RiskCoveragePoint | None" = None

    @staticmethod
    def of(fields: Mapping[str, Any]) -> "UncertaintyReport":
        """Make a report from the fields of ``dataclasses.asdict``, also after a round trip through JSON."""
        risk = fields.get("risk")
        return UncertaintyReport(
            **{
                **fields,
                "components": tuple(UncertaintyComponent(**one) for one in fields["components"]),
                "risk": risk and RiskCoveragePoint(**{**risk, "curve": tuple(risk["curve"])}),
            }
        )

    def record(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "answer": self.answer,
            "probability": self.probability,
            "num_samples": self.num_samples,
            "abstains": self.abstains,
            "text": self.text,
            "uncertainty": {
                component.kind: {
                    "value": component.value,
                    "unit": component.unit,
                    "share_below": component.share,
                    "among": component.among,
                }
                for component in self.components
            },
            "risk": None if self.risk is None else asdict(self.risk) | {"wrong": self.risk.wrong},
        }


def uncertainty_report(model: Model, inputs: Any, num_samples: int = NUM_SAMPLES) -> UncertaintyReport:
    """Report the uncertainty of a model's answer to one image (and question).

    A network with dropout is sampled ``num_samples`` times (Monte Carlo dropout). A model that returns Monte Carlo
    samples itself is run once, with its own number of samples. Any other network gives one sample, without an epistemic
    component.

    Raises:
        InputError: the model has no class scores.
    """
    return report_of(model, sampled_estimate(model, inputs, num_samples))


def report_of(model: Model, found: Uncertainty) -> UncertaintyReport:
    """Report the uncertainty of the first sample of an estimate."""
    best = int(found.probabilities[0].argmax())
    answer = model.labels[best] if model.labels and best < len(model.labels) else f"class {best}"
    known = model.reference
    components = tuple(_component(kind, value, known) for kind, value in _values(found))
    total = float(found.total[0])
    abstains = known.abstains(total) if known is not None else None
    risks = known.risks if known is not None else None
    risk = None if risks is None else RiskCoveragePoint(risks.wrong, risks.at(total), risks.split)
    return UncertaintyReport(
        answer, float(found.probabilities[0, best]), components, abstains, _text(model, total), found.num_samples, risk
    )


def sampled_estimate(model: Model, inputs: Any, num_samples: int = NUM_SAMPLES) -> Uncertainty:
    """Estimate uncertainty by Monte Carlo dropout if any dropout runs and the model does not return samples itself."""
    if has_dropout(model.module) and not isinstance(model.module, MCDropout | Ensemble | TestTimeAugmentation):
        with suppress(NoDropout):
            return estimate(mc_dropout(model, num_samples), inputs)
    return estimate(model, inputs)


def _component(kind: str, value: float, known: UncertaintyReference | None) -> UncertaintyComponent:
    if known is None or kind not in known.quantiles:
        return UncertaintyComponent(kind, value, UNITS[kind], None)
    return UncertaintyComponent(kind, value, UNITS[kind], known.share_below(kind, value), known.questions)


def _values(found: Uncertainty) -> list[tuple[str, float]]:
    kinds = ("total", "aleatoric", "epistemic") if found.num_samples > 1 else ("total",)
    values = [(kind, float(getattr(found, kind)[0])) for kind in kinds]
    return (
        values
        if found.aleatoric_variance is None
        else [*values, ("aleatoric_variance", float(found.aleatoric_variance[0]))]
    )


def _text(model: Model, total: float) -> str:
    known = model.reference
    if known is None:
        return f"The uncertainty of {model.name} on a test set has not been measured, so there is no limit to abstain."
    limit = f"limit {known.limit:.2f}, up to which at most {known.risk:.0%} of its answers were wrong on {known.split}"
    verdict = "should abstain" if known.abstains(total) else "may answer"
    return f"The model {verdict}: total uncertainty {total:.2f} nats ({limit})."
