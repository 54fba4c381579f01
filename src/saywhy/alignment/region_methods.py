"""HINT for networks that read region features, its baselines and its controls, by name: what each adds to the loss.

The names of runs (C0 to C12) are those of the comparison that the critique of HINT asks for: all of them begin with the
same trained network, see the same items in the same number of steps, and differ in what is added, or in the hints.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.alignment.controls import HintKind
from saywhy.alignment.importance import Importance, region_importance
from saywhy.alignment.ranking import ranking_loss, spread_penalty
from saywhy.alignment.regularizers import Activation, attention_cosine_loss, sensitivity_norm, zero_out_loss
from saywhy.alignment.self_critical import BUCKET, critical_loss, strengthen_loss
from saywhy.errors import InputError, nearest
from saywhy.validation import short_repr


@dataclass
class RegionBatch:
    """A batch of items (questions, or words of captions) after its forward pass.

    Attributes:
        regions: [batch, region, channel]; they require a gradient.
        logits: [batch, answer] of the answers or words.
        scores: [batch, answer] how right each answer is, 0 to 1.
        attention: [batch, region], of several heads the sum; None for networks without attention.
        hints: [batch, region] human importance; NaN where there is none.
        chosen: [batch] the items that the zero-out regularizer is for.
        activation: how the logits become probabilities.
    """

    regions: Float[Tensor, "batch region channel"]
    logits: Float[Tensor, "batch answer"]
    scores: Float[Tensor, "batch answer"]
    attention: Importance | None
    hints: Importance
    chosen: Tensor
    activation: Activation = "sigmoid"

    @property
    def probabilities(self) -> Float[Tensor, "batch answer"]:
        """The probabilities of all answers or words."""
        return self.logits.sigmoid() if self.activation == "sigmoid" else self.logits.softmax(1)

    @cached_property
    def importance(self) -> Importance:
        """Importance of the regions to the right answers: of the sum of the logits of all that are right at all."""
        return region_importance((self.logits * (self.scores > 0)).sum(1), self.regions)

    @property
    def known(self) -> Tensor:
        """[batch, region] which regions have a hint."""
        return self.hints.isfinite()

    def attention_or_refusal(self) -> Importance:
        """The attention.

        Raises:
            InputError: the network has none.
        """
        if self.attention is None:
            raise InputError("this network has no attention over regions to be aligned. Choose 'hint', or a control.")
        return self.attention


RegionTerm = Callable[[RegionBatch], Float[Tensor, ""]]


@dataclass(frozen=True)
class RegionMethod:
    """What a run adds to the loss of the task.

    Attributes:
        name: of the method.
        run: its name in the comparison; "" for those that the comparison does not have.
        title: for people.
        term: the added loss; None adds none.
        hints: the hints that the run is given.
        control: whether the run tells whether it was the hints.
        chosen: the share of items of the zero-out regularizer, and whether they are drawn anew in every epoch.
    """

    name: str
    run: str
    title: str
    term: RegionTerm | None
    hints: HintKind = "human"
    control: bool = True
    chosen: tuple[float, Literal["fixed", "variable"]] = (1.0, "fixed")


def _hint(batch: RegionBatch) -> Float[Tensor, ""]:
    return ranking_loss(batch.importance, batch.hints)


def _literal_hint(batch: RegionBatch) -> Float[Tensor, ""]:
    return ranking_loss(batch.importance, batch.hints, ties="literal")


def _spread(batch: RegionBatch) -> Float[Tensor, ""]:
    return spread_penalty(batch.importance, batch.known)


def _norm(batch: RegionBatch) -> Float[Tensor, ""]:
    return sensitivity_norm(torch.where(batch.known, batch.importance, 0.0))


def _zero_out(batch: RegionBatch) -> Float[Tensor, ""]:
    return zero_out_loss(batch.logits, batch.chosen, batch.activation)


def _attention_rank(batch: RegionBatch) -> Float[Tensor, ""]:
    return ranking_loss(batch.attention_or_refusal(), batch.hints)


def _attention_cosine(batch: RegionBatch) -> Float[Tensor, ""]:
    return attention_cosine_loss(batch.attention_or_refusal(), batch.hints)


def _self_critical(index: Literal["mended", "released"]) -> RegionTerm:
    def term(batch: RegionBatch) -> Float[Tensor, ""]:
        strengthen, rank = strengthen_loss(batch.importance, batch.hints)
        best = batch.logits.topk(min(BUCKET, batch.logits.shape[1]), 1).indices
        right = batch.scores.argmax(1, keepdim=True)
        # The right answer first. As one of the best it is criticised for nothing: it is no likelier than itself.
        criticised = torch.cat([right, best], 1)
        taken, likely = (values.gather(1, criticised) for values in (batch.logits, batch.probabilities))
        each = [region_importance(scores, batch.regions) for scores in taken.unbind(1)]
        first = torch.zeros(len(taken), dtype=torch.long, device=taken.device)
        critical = critical_loss(torch.stack(each, 1), likely, first, batch.hints, rank, index=index)
        return strengthen + critical

    return term


_ALL = (
    RegionMethod("erm", "C1", "training on the same items", None),
    RegionMethod("hint", "C2", "HINT", _hint, control=False),
    RegionMethod("irrelevant", "C3", "HINT with 1 - s", _hint, "irrelevant"),
    RegionMethod("fixed-random", "C4", "HINT with fixed random hints", _hint, "fixed-random"),
    RegionMethod("variable-random", "C5", "HINT with random hints, anew in every step", _hint, "variable-random"),
    RegionMethod("spread", "C6", "penalty on the spread of importances", _spread),
    RegionMethod("norm", "C6", "penalty on the size of importances", _norm),
    RegionMethod("zero-out-1-fixed", "C7", "zero-out, fixed 1 %", _zero_out, chosen=(0.01, "fixed")),
    RegionMethod(
        "zero-out-1-variable", "C7", "zero-out, 1 % anew in every epoch", _zero_out, chosen=(0.01, "variable")
    ),
    RegionMethod("zero-out-100", "C7", "zero-out, all items", _zero_out),
    RegionMethod("permuted-within", "C8", "HINT, hints of the image's other questions", _hint, "permuted-within-image"),
    RegionMethod("permuted-across", "C8", "HINT with hints of other images", _hint, "permuted-across-images"),
    RegionMethod("attention-ranking", "C9", "attention in the order of the hints", _attention_rank, control=False),
    RegionMethod("attention-cosine", "C9", "attention like the hints", _attention_cosine, control=False),
    RegionMethod("centre-prior", "C10", "HINT with a centre prior", _hint, "centre-prior"),
    RegionMethod("oracle", "C11", "HINT with the true evidence", _hint, "oracle", control=False),
    RegionMethod("literal-ties", "C12", "HINT with literal ties", _literal_hint, control=False),
    RegionMethod("self-critical", "", "SCR, index mended", _self_critical("mended"), control=False),
    RegionMethod("self-critical-released", "", "SCR as released", _self_critical("released"), control=False),
)

REGION_METHODS: Mapping[str, RegionMethod] = {method.name: method for method in _ALL}
"""All methods by name."""


def region_method(name: str) -> RegionMethod:
    """The method of a name.

    Raises:
        InputError: there is none.

    >>> region_method("spread").run
    'C6'
    """
    if name not in REGION_METHODS:
        close = nearest(str(name), REGION_METHODS, count=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise InputError(
            f"there is no method {short_repr(name)} for regions. {hint}There are {', '.join(REGION_METHODS)}."
        )
    return REGION_METHODS[name]
