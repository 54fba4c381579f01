"""Targets of uncertainty: evidence in the image for the certainty or uncertainty of a prediction."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from saywhy.errors import TargetError
from saywhy.output import ModelOutput
from saywhy.shapes import at_least_float32
from saywhy.targets.registry import NamedTarget, register, target
from saywhy.targets.target import Target, TargetScores
from saywhy.uncertainty import information
from saywhy.uncertainty.loss import Distortion, losses
from saywhy.uncertainty.mc_samples import output_of
from saywhy.validation import validate, whole_number

UncertaintyKind = Literal["entropy", "aleatoric", "epistemic", "sample_variance", "aleatoric_variance"]


@dataclass(frozen=True)
class Uncertain(Target):
    """The uncertainty of the network, as in :mod:`saywhy.uncertainty`; negated, it is the certainty.

    Args:
        kind: ``"entropy"``, the predictive entropy in nats, for any network of classes. With Monte Carlo samples
            (:mod:`saywhy.uncertainty`) also its two parts, ``"aleatoric"``, the mean entropy of the samples, and
            ``"epistemic"``, their mutual information; and ``"sample_variance"``, the variance of the samples'
            probabilities, summed over classes. With a variance head, ``"aleatoric_variance"``, the predictive variance
            of the logits.

    >>> Uncertain("entropy").evaluate(ModelOutput(torch.zeros(1, 4))).scores
    tensor([[1.3863]])
    """

    kind: UncertaintyKind = "entropy"

    def __post_init__(self) -> None:
        validate("uncertainty", self.kind, UncertaintyKind, TargetError)

    def output_keys(self) -> Iterator[Hashable]:
        return iter(() if self.kind == "entropy" else ((type(self), self.kind),))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        if self.kind == "aleatoric_variance":
            scores = aleatoric_variance_of(output)[:, 0]
        else:
            each = _sample_probabilities(output, self.kind)
            of = {
                "entropy": lambda: information.entropy(each.mean(0)),
                "aleatoric": lambda: information.expected_entropy(each),
                "epistemic": lambda: information.mutual_information(each),
                "sample_variance": lambda: (
                    information.variance(each) / (2 if _is_binary(output) else 1)
                ),  # yes and no vary alike
            }[self.kind]()
            scores = of.sum(-1) if _is_binary(output) else of
        return _target_scores(scores, self.kind)


_READINGS: dict[UncertaintyKind, str] = {
    "entropy": "the predictive entropy, in nats",
    "aleatoric": "the mean entropy of Monte Carlo samples: uncertainty of the data",
    "epistemic": "the mutual information of Monte Carlo samples: uncertainty of the model",
    "sample_variance": "the variance of the probabilities of Monte Carlo samples",
    "aleatoric_variance": "the predictive variance of a variance head",
}
for _kind, _reading in _READINGS.items():
    _name = _kind.replace("_", "-")
    register(NamedTarget(_name, partial(Uncertain, _kind), _name, _reading))


@target(
    "certainty", form="certainty, certainty(LABEL)", reading="certainty of the prediction", paper="Patro et al., 2019"
)
@dataclass(frozen=True, eq=False)
class Certainty(Target):
    """The negated uncertainty loss of U-CAM: evidence for the certainty of the prediction.

    It is ``-L_u`` of :mod:`saywhy.uncertainty.loss` for the network's own prediction; the ground truth is not used
    unless ``name`` gives it.

    Args:
        name: the class, by index or name; None is the network's own prediction.
        with_classification_loss: add the classification loss, ``-(L_y + L_u)``: the map is then that of U-CAM.
        num_samples, udl: as for :func:`saywhy.uncertainty.loss.losses`.
        seed: the seed of the noise, which is the same for all samples.
    """

    name: int | str | None = None
    with_classification_loss: bool = False
    num_samples: int = 100
    udl: Distortion = "scaled"
    seed: int = 0
    classes: Tensor | None = None

    def output_keys(self) -> Iterator[Hashable]:
        return iter(((type(self), self.name, self.with_classification_loss, self.udl),))

    def of_samples(self, some: slice | Tensor) -> Target:
        if self.classes is None:
            return self
        return replace(self, classes=self.classes[some.to(self.classes.device) if isinstance(some, Tensor) else some])

    def resolved(self, output: ModelOutput) -> Target:
        return replace(self, classes=self._classes(output).cpu())

    def evaluate(self, output: ModelOutput) -> TargetScores:
        variance = aleatoric_variance_of(output)
        if _is_binary(output):
            raise TargetError(
                "the loss of U-CAM needs mutually exclusive classes, got independent (binary) ones. Use "
                "Uncertain('entropy')."
            )
        # Noise of its own for each sample would make a map depend on the sample's place in the batch.
        num_samples, generator = (
            whole_number("num_samples", self.num_samples, 1),
            torch.Generator().manual_seed(self.seed),
        )
        found = losses(
            at_least_float32(output.logits),
            at_least_float32(variance),
            self._classes(output).to(output.logits.device),
            udl=self.udl,
            noise=torch.randn(num_samples, 1, output.logits.shape[1], generator=generator),
        )
        total = found.uncertainty + found.answer if self.with_classification_loss else found.uncertainty
        return _target_scores(-total, "ucam" if self.with_classification_loss else "certainty")

    def _classes(self, output: ModelOutput) -> Tensor:
        if self.classes is not None:
            return self.classes
        if self.name is not None:
            return torch.full((len(output.logits),), output.index(self.name))
        return output.logits.detach().argmax(1)


@target("ucam", form="ucam, ucam(LABEL)", reading="the prediction and its certainty", paper="Patro et al., 2019")
def ucam(name: int | str | None = None) -> Certainty:
    """Return the target of U-CAM's maps: ``-(L_y + L_u)``."""
    return Certainty(name, with_classification_loss=True)


def aleatoric_variance_of(output: ModelOutput) -> Tensor:
    """Return the predictive variance of the logits from a variance head, [batch, 1].

    Raises:
        TargetError: the output has none.
    """
    output.check_classes()
    found = output_of(output.raw, "variance")
    if not isinstance(found, Tensor) or found.shape != (len(output.logits), 1):
        raise TargetError(
            "the target needs a network with a variance head, whose output has a variance [batch, 1]. Use a network "
            "trained with saywhy.uncertainty.ucam, or Uncertain('entropy')."
        )
    return found


def _sample_probabilities(output: ModelOutput, kind: str) -> Tensor:
    """Return the probabilities of Monte Carlo samples, [draw, batch, class], or [draw, batch, class, 2] if binary."""
    output.check_classes()
    if output.scale == "value":
        raise TargetError(
            f"{kind} uncertainty needs probabilities of classes, and the network's output "
            f"[batch, {output.logits.shape[1]}] holds values that are no class scores. If they are logits, say so: "
            "saywhy.load(network, scale='logit')."
        )
    sample_logits = output_of(output.raw, "sample_logits")
    if not isinstance(sample_logits, Tensor):
        if kind != "entropy":
            raise TargetError(
                f"{kind} uncertainty needs Monte Carlo samples, got a single output. Wrap the network: "
                "saywhy.uncertainty.mc_dropout, ensemble or augmented."
            )
        sample_logits = output.log_probabilities().unsqueeze(0)
    if _is_binary(output):
        yes = at_least_float32(sample_logits).sigmoid()
        return torch.stack([yes, 1 - yes], -1)
    return at_least_float32(sample_logits).softmax(-1)


def _is_binary(output: ModelOutput) -> bool:
    return output.multilabel or output.logits.shape[1] == 1


def _target_scores(scores: Tensor, name: str) -> TargetScores:
    samples = len(scores)
    return TargetScores(scores.unsqueeze(1), [[name]] * samples, torch.full((samples, 1), -1))
