"""Training with U-CAM: the loss of a batch, with a modified gradient through the attention (or a feature map).

It trains VQA networks (:class:`VQANetwork`; those of :mod:`saywhy.tasks.vqa.networks` are such networks), and
classifiers at any feature map.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saywhy.engine.hooks import forward_hooks
from saywhy.errors import InputError
from saywhy.shapes import FeatureMaps
from saywhy.uncertainty.certainty import Gate
from saywhy.uncertainty.classifier_head import VarianceClassifier
from saywhy.uncertainty.information import entropy
from saywhy.uncertainty.loss import (
    Distortion,
    GaussianCrossEntropy,
    Losses,
    VarianceEqualiser,
    cross_entropy,
    losses,
    validate_terms,
)
from saywhy.validation import real_number, validate, whole_number

UCAMVariant = Literal["aleatoric", "predictive"]
CertaintySource = Literal["loss", "distortion", "entropy"]


@runtime_checkable
class VQANetwork(Protocol):
    """What U-CAM needs of a VQA network: an encoder, a classifier and a variance head.

    Attributes:
        answer: the classifier, from an encoding to logits.
        variance_head: from logits and an encoding to the variance of the noise [batch, 1]; None where there is none.
        training: whether dropout is active.
    """

    answer: nn.Module
    variance_head: nn.Module | None
    training: bool

    def encode(self, features: FeatureMaps, question: Int[Tensor, "batch word"]) -> tuple[Tensor, Tensor | None]:
        """Return the encoding of each image and its question, and the attention."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all modules of the network."""


@runtime_checkable
class AttentionModule(Protocol):
    """A module that computes attention, with two identities for hooks.

    Attributes:
        logits: its input and output are the attention logits.
        weighted: its input and output are the attended features of every place, before their sum.
    """

    logits: nn.Module
    weighted: nn.Module


Targets = Tensor
"""Classes [batch], or soft targets (shares of answers) [batch, class]."""


@dataclass(frozen=True)
class UCAM:
    """The settings of the training.

    Attributes:
        variant: ``"aleatoric"`` (A-GCA), or ``"predictive"`` (P-GCA). P-GCA runs the classifier ``mc_dropout_samples``
            times with different dropout, on the same attended features. Its losses are the mean over these samples,
            and are compared with the loss of the mean logits, so that distortion includes the effect of dropout. The
            paper does not describe this comparison.
        weight: ``eta``, the weight of the uncertainty loss.
        num_samples: ``T``, the number of noise samples of the logits.
        udl, gce, ve, prior_variance: the terms of the uncertainty loss, see :mod:`saywhy.uncertainty.loss`.
        mc_dropout_samples: the number of dropout samples of P-GCA.
        certainty: the source of the mask's certainty gradient: ``"loss"``, the uncertainty loss as in the paper;
            ``"distortion"``, that loss without ``L_GCE``, whose gradient is the answer's where the variance is 0; or
            ``"entropy"``, the entropy of the prediction. The loss itself is the same.
        gate: the modification of the gradient.
    """

    variant: UCAMVariant = "aleatoric"
    weight: float = 1.0
    num_samples: int = 25
    udl: Distortion = "scaled"
    gce: GaussianCrossEntropy = "mean"
    ve: VarianceEqualiser = "exp"
    prior_variance: float = 1.0
    mc_dropout_samples: int = 5
    certainty: CertaintySource = "loss"
    gate: Gate = field(default_factory=Gate)

    def __post_init__(self) -> None:
        validate("variant", self.variant, UCAMVariant)
        for name in ("mc_dropout_samples", "num_samples"):
            whole_number(name, getattr(self, name), 1)
        validate("certainty", self.certainty, CertaintySource)
        validate_terms(self.udl, self.gce, self.ve, self.prior_variance)
        real_number("the weight of the uncertainty loss", self.weight, 0)

    def vqa_loss(
        self,
        network: VQANetwork,
        features: FeatureMaps,
        question: Int[Tensor, "batch word"],
        targets: Targets,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of a batch of questions, one number, with a modified backward pass.

        Args:
            network: a network with attention and a variance head (``variance_head``).
            features, question: the inputs of the network.
            targets: answers, or shares of the answers that people gave.
            generator: the random generator of the noise; None is torch's global one.

        Raises:
            InputError: the network has no attention or no variance head, or the inputs do not fit.
        """
        if not isinstance(network, VQANetwork):
            raise InputError(
                f"expected a VQA network with encode, answer and variance_head, such as those of "
                f"saywhy.tasks.vqa.networks, got {type(network).__name__}."
            )
        if network.variance_head is None:
            raise InputError(
                "U-CAM trains a network with a variance head, got none. Set network.variance_head = "
                "VarianceHead(answers)."
            )
        variance_head = network.variance_head
        attention_modules = [part for part in network.modules() if isinstance(part, AttentionModule)]
        if self.gate.at == "map" or not attention_modules:
            raise InputError(
                f"{type(network).__name__} has no attention, or the gate is at a feature map. Use a network with "
                "attention, and at='logits' or 'weighted'."
            )
        if len(features) != len(question):
            raise InputError(f"expected one question for each image, got {len(question)} and {len(features)}.")
        if self.variant == "predictive" and not network.training:
            raise InputError("variant='predictive' needs active dropout. Call network.train() first.")
        # A hook on the weighted features changes the order of their summation, and so the rounding.
        with _recording(
            [getattr(part, self.gate.at) for part in attention_modules] if self.gate.strength else []
        ) as tensors:
            found, _ = network.encode(features, question)
        times = self.mc_dropout_samples if self.variant == "predictive" else 1
        logits = [network.answer(found) for _ in range(times)]
        return self._total(logits, [variance_head(each, found) for each in logits], targets, tensors, generator)

    def classification_loss(
        self,
        network: VarianceClassifier,
        images: Any,
        targets: Targets,
        layer: nn.Module,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of a batch of images, one number, with a modified backward pass at a layer's feature map.

        A plain network has no attention; the feature map takes its place. Gradients are weighted more at places where
        more evidence lowers both losses. This extension to classifiers is not in the paper.

        Args:
            network: a classifier with a variance head.
            images: preprocessed images, the input of the network.
            targets: classes, or soft targets.
            layer: a module of the network whose output is a feature map [batch, channel, *space].
            generator: the random generator of the noise; None is torch's global one.

        Raises:
            InputError: the settings are not for classifiers, or the network or the layer does not fit.
        """
        if self.gate.at != "map" or self.variant == "predictive":
            raise InputError("classifiers need variant='aleatoric' and Gate(at='map').")
        if not isinstance(network, VarianceClassifier) or not isinstance(layer, nn.Module):
            raise InputError(
                "expected a saywhy.uncertainty.VarianceClassifier and one of its modules as layer, got "
                f"{type(network).__name__} and {type(layer).__name__}."
            )
        with _recording([layer]) as tensors:
            output = network(images)
        if any(not isinstance(one, Tensor) or one.ndim < 3 for one in tensors):
            raise InputError(
                f"the layer's output must be a feature map [batch, channel, *space], and that of "
                f"{type(layer).__name__} is not. Choose a layer before the pooling."
            )
        return self._total([output.logits], [output.variance], targets, tensors, generator)

    def certainty_loss(self, logits: Float[Tensor, "batch class"], found: Losses) -> Float[Tensor, " batch"]:
        """Return what the certainty gradient is of, for every sample.

        Args:
            logits: the network's output.
            found: its losses.
        """
        if self.certainty == "entropy":
            return entropy(logits.softmax(1))
        return found.uncertainty - found.gaussian if self.certainty == "distortion" else found.uncertainty

    def _total(
        self,
        logits: Sequence[Float[Tensor, "batch class"]],
        variances: Sequence[Float[Tensor, "batch 1"]],
        targets: Targets,
        tensors: Sequence[Tensor],
        generator: torch.Generator | None,
    ) -> Tensor:
        whole = cross_entropy(torch.stack(list(logits)).mean(0), targets) if len(logits) > 1 else None
        each: list[Losses] = [
            losses(
                y,
                s,
                targets,
                num_samples=self.num_samples,
                udl=self.udl,
                gce=self.gce,
                ve=self.ve,
                prior_variance=self.prior_variance,
                generator=generator,
                undistorted=whole,
            )
            for y, s in zip(logits, variances, strict=True)
        ]
        answer = torch.stack([one.answer for one in each]).mean()
        uncertainty = torch.stack([one.uncertainty for one in each]).mean()
        uncertain = torch.stack([self.certainty_loss(y, one) for y, one in zip(logits, each, strict=True)]).mean()
        self.gate.install(tensors, answer, uncertain, generator)
        return answer + self.weight * uncertainty


@contextmanager
def _recording(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Record the outputs of modules within the block."""
    tensors: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Tensor) -> None:
        tensors.append(output)

    with forward_hooks(modules, keep):
        yield tensors
