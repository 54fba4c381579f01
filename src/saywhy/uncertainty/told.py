"""How certain one answer is, in words and bars: beside what is usual, and whether it should be given at all."""

from dataclasses import dataclass
from typing import Any

from saywhy.models import Model
from saywhy.uncertainty.dropout import has_dropout, monte_carlo
from saywhy.uncertainty.estimate import Uncertainty, estimate

GUESSES = 50

NAMES = {
    "total": "all in all",
    "aleatoric": "of picture and question",
    "epistemic": "of the network itself",
    "noise": "noise that it expects",
}
"""What the kinds of uncertainty are called where everybody reads them."""

UNITS = {"total": "nats", "aleatoric": "nats", "epistemic": "nats", "noise": "squared logits"}


@dataclass(frozen=True)
class Bar:
    """One kind of uncertainty of one answer.

    Attributes:
        kind: ``"total"``, ``"aleatoric"``, ``"epistemic"`` or ``"noise"``.
        value: in ``unit``.
        unit: nats, or squared logits.
        share: of the questions of a test set that are less uncertain, from 0 to 1; None where that is not known.
    """

    kind: str
    value: float
    unit: str
    share: float | None

    @property
    def name(self) -> str:
        """In words."""
        return NAMES[self.kind]


@dataclass(frozen=True)
class Told:
    """How certain one answer is.

    Attributes:
        answer, probability: the answer that most guesses together give, and how probable they hold it.
        bars: its uncertainty, kind by kind.
        abstains: whether it should not be given; None where nobody has measured when that is.
        text: a sentence about it.
        guesses: of how many guesses.
    """

    answer: str
    probability: float
    bars: tuple[Bar, ...]
    abstains: bool | None
    text: str
    guesses: int

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "answer": self.answer,
            "probability": self.probability,
            "guesses": self.guesses,
            "abstains": self.abstains,
            "text": self.text,
            "uncertainty": {
                bar.kind: {"value": bar.value, "unit": bar.unit, "share_below": bar.share} for bar in self.bars
            },
        }


def certainty_of(model: Model, inputs: Any, guesses: int = GUESSES) -> Told:
    """How certain a model is of its answer to one picture (and question).

    A network with dropout guesses ``guesses`` times; any other once, and then nothing is known of what it does not know
    itself.

    Raises:
        InputError: the model has no class scores.
    """
    several = has_dropout(model.module)
    found = estimate(monte_carlo(model, guesses) if several else model, inputs)
    best = int(found.probabilities[0].argmax())
    answer = model.labels[best] if model.labels and best < len(model.labels) else f"class {best}"
    known = model.reference
    bars = tuple(
        Bar(kind, value, UNITS[kind], known.share_below(kind, value) if known and kind in known.quantiles else None)
        for kind, value in _values(found, several)
    )
    total = float(found.total[0])
    abstains = known.abstains(total) if known is not None else None
    return Told(answer, float(found.probabilities[0, best]), bars, abstains, _text(model, total), found.guesses)


def _values(found: Uncertainty, several: bool) -> list[tuple[str, float]]:
    kinds = ("total", "aleatoric", "epistemic") if several else ("total",)
    values = [(kind, float(getattr(found, kind)[0])) for kind in kinds]
    return values if found.noise is None else [*values, ("noise", float(found.noise[0]))]


def _text(model: Model, total: float) -> str:
    known = model.reference
    if known is None:
        return f"How uncertain {model.name} usually is has not been measured, so it cannot be said when to abstain."
    limit = f"{known.limit:.2f} nats, up to which at most {known.risk:.0%} of its answers are wrong ({known.split})"
    if known.abstains(total):
        return f"It had better not answer: {total:.2f} nats are more than {limit}."
    return f"It may answer: {total:.2f} nats are no more than {limit}."
