"""Training with U-CAM: the loss of a batch, with the gradient that flows back through where the network looks altered.

For networks of questions (:class:`saywhy.tasks.vqa.networks.VQAHead`), and for classifiers at any feature map.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.shapes import FeatureMaps
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.networks import AttentionPooling, VQAHead
from saywhy.uncertainty.certainty import Gate
from saywhy.uncertainty.classifier_head import VarianceClassifier
from saywhy.uncertainty.loss import DISTORTIONS, Distortion, Losses, cross_entropy, losses
from saywhy.validation import real_number, whole_number

Targets = Tensor
"""Classes [batch], or shares of answers [batch, class]."""


@dataclass(frozen=True)
class UCAM:
    """What is decided about the training.

    Attributes:
        variant: ``"aleatoric"`` (A-GCA), or ``"predictive"`` (P-GCA): the classifier is asked ``mc_dropout_samples``
            times with other dropout, what was found in the image staying the same; losses are the mean over these,
            and are compared with the loss of their mean logits, so that what dropout changes is distortion too. How the
            paper does the latter is not known.
        weight: ``eta``, of the uncertainty loss.
        num_samples: ``T``, of the noise in the logits.
        udl: see :mod:`saywhy.uncertainty.loss`.
        mc_dropout_samples: see ``variant``.
        gate: how the gradient is altered.
    """

    variant: Literal["aleatoric", "predictive"] = "aleatoric"
    weight: float = 1.0
    num_samples: int = 25
    udl: Distortion = "scaled"
    mc_dropout_samples: int = 5
    gate: Gate = field(default_factory=Gate)

    def __post_init__(self) -> None:
        if self.variant not in ("aleatoric", "predictive"):
            raise InputError(f"variant is 'aleatoric' or 'predictive', got {self.variant!r}.")
        for name in ("mc_dropout_samples", "num_samples"):
            whole_number(name, getattr(self, name), 1)
        if self.udl not in DISTORTIONS:
            raise InputError(f"udl is one of {', '.join(DISTORTIONS)}; got {self.udl!r}.")
        real_number("the weight of the uncertainty loss", self.weight, 0)

    def asked(
        self,
        network: VQAHead,
        features: FeatureMaps,
        question: Sentences,
        targets: Targets,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of a batch of questions, one number, whose backward pass is altered.

        Args:
            network: with attention and a variance head (``variance_head``).
            features, question: as for the network.
            targets: answers, or shares of the answers that people gave.
            generator: of the noise; None is torch's own.

        Raises:
            InputError: the network has no attention to be altered, or no variance head.
        """
        if not isinstance(network, VQAHead):
            raise InputError(
                f"this trains networks that answer questions (saywhy.tasks.vqa.networks.VQAHead), got "
                f"{type(network).__name__}."
            )
        if network.variance_head is None:
            raise InputError(
                "U-CAM trains a network with a variance head: network.variance_head = VarianceHead(answers)."
            )
        spread = network.variance_head
        looks = [part for part in network.modules() if isinstance(part, AttentionPooling)]
        if self.gate.at == "map" or not looks:
            raise InputError(
                f"{type(network).__name__} has no attention, or the gate is at a feature map: take at='logits' or "
                "'weighted' and a network that looks."
            )
        # Whoever watches the weighted features lets them be added up otherwise, and rounded otherwise.
        if len(features) != len(question):
            raise InputError(f"there is one question for each image, got {len(question)} and {len(features)}.")
        if self.variant == "predictive" and not network.training:
            raise InputError("variant='predictive' asks with other dropout each time; call network.train() first.")
        with _kept([getattr(part, self.gate.at) for part in looks] if self.gate.strength else []) as tensors:
            found, _ = network.find(features, question)
        times = self.mc_dropout_samples if self.variant == "predictive" else 1
        logits = [network.answer(found) for _ in range(times)]
        return self._total(logits, [spread(each, found) for each in logits], targets, tensors, generator)

    def classified(
        self,
        network: VarianceClassifier,
        images: Any,
        targets: Targets,
        layer: nn.Module,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of a batch of images, one number, whose backward pass is altered at a layer's feature map.

        There is no attention in a plain network: the map takes its place, and what is learnt where more evidence helps
        answer and certainty counts more. This is a transfer of ours.

        Args:
            network: whose head says how much noise it expects.
            images: preprocessed, as the network takes them.
            targets: classes, or shares of them.
            layer: a module of the network whose output is a feature map [batch, channel, *space].
            generator: of the noise.
        """
        if self.gate.at != "map" or self.variant == "predictive":
            raise InputError("classifiers are trained with variant='aleatoric' and Gate(at='map').")
        if not isinstance(network, VarianceClassifier) or not isinstance(layer, nn.Module):
            raise InputError(
                "classifiers are trained as saywhy.uncertainty.VarianceClassifier, with a module of theirs as layer; "
                f"got {type(network).__name__} and {type(layer).__name__}."
            )
        with _kept([layer]) as tensors:
            said = network(images)
        if any(not isinstance(one, Tensor) or one.ndim < 3 for one in tensors):
            raise InputError(
                f"the layer's output must be a feature map [batch, channel, *space]; {type(layer).__name__} gives none."
            )
        return self._total([said.logits], [said.variance], targets, tensors, generator)

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
            losses(y, s, targets, num_samples=self.num_samples, udl=self.udl, generator=generator, undistorted=whole)
            for y, s in zip(logits, variances, strict=True)
        ]
        answer = torch.stack([one.answer for one in each]).mean()
        uncertainty = torch.stack([one.uncertainty for one in each]).mean()
        self.gate.install(tensors, answer, uncertainty, generator)
        return answer + self.weight * uncertainty


@contextmanager
def _kept(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What modules give within the block."""
    tensors: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Tensor) -> None:
        tensors.append(output)

    hook: Callable[..., None] = keep
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield tensors
