"""How certain one answer is, in words and bars: beside what is usual, and whether it should be given at all."""

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
    "total": "all in all",
    "aleatoric": "of image and question",
    "epistemic": "of the network itself",
    "aleatoric_variance": "noise that it expects",
}
"""What the kinds of uncertainty are called where everybody reads them."""

UNITS = {"total": "nats", "aleatoric": "nats", "epistemic": "nats", "aleatoric_variance": "squared logits"}


@dataclass(frozen=True)
class UncertaintyComponent:
    """One kind of uncertainty of one answer.

    Attributes:
        kind: ``"total"``, ``"aleatoric"``, ``"epistemic"`` or ``"aleatoric_variance"``.
        value: in ``unit``.
        unit: nats, or squared logits.
        share: of the questions of a test set that are less uncertain, from 0 to 1; None where that is not known.
        among: which questions these are.
    """

    kind: str
    value: float
    unit: str
    share: float | None
    among: str = "a test"

    @property
    def name(self) -> str:
        """In words."""
        return NAMES[self.kind]


@dataclass(frozen=True)
class RiskCoveragePoint:
    """Where an answer lies on the risk-coverage curve of a test set.

    Attributes:
        curve: the share of wrong answers if the most certain 1 %, 2 %, … 100 % of its questions are answered.
        percent: of its questions are as certain as this answer, or more; from 1.
        split: of which questions.
    """

    curve: tuple[float, ...]
    percent: int
    split: str

    @property
    def wrong(self) -> float:
        """The share of answers that are wrong if all are given that are as certain as this one."""
        return self.curve[self.percent - 1]

    @property
    def text(self) -> str:
        """In a sentence.

        >>> RiskCoveragePoint((0.0,) * 50 + (0.125,) * 50, 80, "test").text
        'Of answers as certain as this one or more (80 % of test) 12 % are wrong.'
        """
        wrong = f"{100 * self.wrong:.0f} %"
        return f"Of answers as certain as this one or more ({self.percent} % of {self.split}) {wrong} are wrong."


@dataclass(frozen=True)
class UncertaintyReport:
    """How certain one answer is.

    Attributes:
        answer, probability: the answer that most guesses together give, and how probable they hold it.
        components: its uncertainty, kind by kind.
        abstains: whether it should not be given; None where nobody has measured when that is.
        text: a sentence about it.
        num_samples: of how many guesses.
        risk: what it would mean to answer everything that is as certain; None where that was not measured.
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
        """The report of ``dataclasses.asdict``, also after JSON has made lists of tuples."""
        risk = fields.get("risk")
        return UncertaintyReport(
            **{
                **fields,
                "components": tuple(UncertaintyComponent(**one) for one in fields["components"]),
                "risk": risk and RiskCoveragePoint(**{**risk, "curve": tuple(risk["curve"])}),
            }
        )

    def record(self) -> dict[str, Any]:
        """For programs."""
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
    """How certain a model is of its answer to one image (and question).

    A network with dropout guesses ``num_samples`` times, one that guesses several times anyway as often as it does; any
    other once, and then nothing is known of what it does not know itself.

    Raises:
        InputError: the model has no class scores.
    """
    found = _estimated(model, inputs, num_samples)
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


def _estimated(model: Model, inputs: Any, num_samples: int) -> Uncertainty:
    """By dropout, where it has any that runs and is not asked several times already."""
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
        return f"How uncertain {model.name} usually is has not been measured, so it cannot be said when to abstain."
    limit = f"{known.limit:.2f} nats, up to which at most {known.risk:.0%} of its answers were wrong ({known.split})"
    if known.abstains(total):
        return f"It had better not answer: {total:.2f} nats are more than {limit}."
    return f"It may answer: {total:.2f} nats are no more than {limit}."
