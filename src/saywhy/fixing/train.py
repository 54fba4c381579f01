"""One run of training: a method, a seed, and the weights that it ends with."""

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.engine.capture import Watched
from saywhy.errors import InputError, WeightsError
from saywhy.fixing.augment import HintedAugmentation, augmented
from saywhy.fixing.evaluate import group_accuracies, predictions
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.last_layer import check_group_sizes, features_of, last_linear, retrained
from saywhy.fixing.methods import FixMethod
from saywhy.fixing.passes import TrainingPass, nan_if_not_finite, predicted, training_pass
from saywhy.fixing.sampling import Sampler, group_weights, need_groups
from saywhy.fixing.scale import scale_of
from saywhy.models import Model
from saywhy.training.loop import HERE, Devices, Plan, Tell, optimize, step_generator

SCALE_STEPS = 4
"""Batches by which the size of the added loss is measured before training."""

JTT_WEIGHT = 20.0
"""How many times a misclassified image counts in JTT's second training (the paper's for CelebA is 50)."""

DEFAULT_AUGMENTATION: HintedAugmentation = "none"
"""What is done to training images unless another augmentation is named."""

GROUP_RATE = 0.01
"""The step of the group weights of group DRO, as published."""


AUGMENT_STREAM = -(2**40)
"""Where the seeds of augmentation begin, apart from those of order and hints."""


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison, the same for all of its methods.

    Attributes:
        epochs: of training.
        batch_size: images in a step.
        rate: learning rate of AdamW, with warmup and cosine decay.
        weight: of the added loss, relative: at the start of training it costs ``weight`` times as much as guessing.
        decay: weight decay.
        augment: what is done to the images of every step, and to their hints with them.
    """

    epochs: int = 5
    batch_size: int = 32
    rate: float = 3e-4
    weight: float = 1.0
    decay: float = 0.01
    augment: HintedAugmentation = DEFAULT_AUGMENTATION


class _Learner(nn.Module):
    """The network, and the group weights of group DRO, which belong to the state of a run."""

    def __init__(self, network: nn.Module, groups: int) -> None:
        super().__init__()
        self.network = network
        self.group_weights: Tensor
        self.register_buffer("group_weights", torch.full((groups,), 1 / max(1, groups)))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self.network(*args, **kwargs)


@dataclass(frozen=True)
class Trainer:
    """Trains copies of a model, one for a method and a seed.

    Attributes:
        model: the model as it was given; it stays unchanged.
        inputs: the images of all splits.
        layer: the layer of maps.
        settings: of the comparison.
        devices: to compute on.
    """

    model: Model
    inputs: ImageInputs
    layer: Watched
    settings: Settings
    devices: Devices = HERE

    def run(
        self, method: FixMethod, seed: int, checkpoint: Path | None = None, report: Tell | None = None
    ) -> dict[str, Tensor]:
        """Train, and return the weights of the epoch that was chosen on "val".

        Args:
            method: how.
            seed: of the order of images, dropout and random hints.
            checkpoint: from which a stopped run resumes, to the same weights.
            report: called after each step.

        Raises:
            InputError: as for :meth:`check`.
            TrainingError: a loss is NaN; the weights of the best epoch so far are kept in the checkpoint.
        """
        network = copy.deepcopy(self.model.module)
        training = torch.tensor(self.inputs.data.indices("train"))
        if method.training == "dfr":
            self._fit(network, method, seed, training, None, checkpoint, report)
            self._retrain_last_layer(network, seed)
        elif method.training == "jtt":
            first = checkpoint.with_name(f"{checkpoint.stem}-first.checkpoint") if checkpoint else None
            scout = copy.deepcopy(network)
            self._fit(scout, method, seed, training, None, first, report, epochs=max(1, self.settings.epochs // 2))
            wrong = predicted(predictions(self.model, scout, self.inputs, training)) != self.inputs.labels[training]
            weights = torch.where(wrong, JTT_WEIGHT, 1.0)
            self._fit(network, method, seed, training, weights, checkpoint, report)
        elif method.training in ("reweight", "groupdro"):
            groups = need_groups(self.inputs.groups, method.name, self.inputs.data.name)
            self._fit(network, method, seed, training, group_weights(groups[training]), checkpoint, report)
        else:
            self._fit(network, method, seed, training, None, checkpoint, report)
        return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def check(self, method: FixMethod) -> None:
        """Check that a method can be run, before anything is trained.

        Raises:
            InputError: it needs hints of training images, groups, two validation images of each, or a last linear layer
                that are not there.
        """
        if method.term is not None and not len(self.inputs.hinted_of("train")):
            raise InputError(f"'{method.name}' needs hints of training images, and none of them has one.")
        if "group" in method.sees:
            groups = need_groups(self.inputs.groups, method.name, self.inputs.data.name)
            if method.training == "dfr":
                validation = groups[torch.tensor(self.inputs.data.indices("val"))]
                check_group_sizes(validation, self.inputs.data.group_names)
                self._last_linear(self.model.module)

    def steps(self, method: FixMethod) -> int:
        """The steps of a run."""
        count = len(self.inputs.data.indices("train"))
        each = self._sampler(method, torch.arange(count), 0, None).steps
        first = max(1, self.settings.epochs // 2) if method.training == "jtt" else 0
        return each * (self.settings.epochs + first)

    def identity(self, method: FixMethod, seed: int) -> str:
        """Identifies a run: method, seed, settings, images and how they are preprocessed, hints, the weights before."""
        parts = [method.name, str(seed), repr(self.settings), self.layer.name, str(self.layer.layout)]
        parts += [repr((self.model.output, self.model.multilabel, self.model.scale))]
        parts += [self.inputs.digest, self.model.digest()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _sampler(self, method: FixMethod, training: Tensor, seed: int, weights: Tensor | None) -> Sampler:
        # Images with hints are drawn more often for methods that see hints, for training without them too, and for
        # nobody else.
        mixed = "hint" in method.sees or method.name == "erm"
        batch = min(self.settings.batch_size, len(training))
        return Sampler(training, self.inputs.hinted_of("train"), mixed, batch, seed, weights)

    def _fit(
        self,
        network: nn.Module,
        method: FixMethod,
        seed: int,
        training: Tensor,
        weights: Tensor | None,
        checkpoint: Path | None,
        report: Tell | None,
        epochs: int | None = None,
    ) -> None:
        """Train a network, in place."""
        settings, inputs, groups = self.settings, self.inputs, self.inputs.groups
        sampler = self._sampler(method, training, seed, weights)
        learner = _Learner(network, len(inputs.data.group_names))
        scale = self._scale(learner, method, sampler)
        steps = sampler.steps * (epochs or settings.epochs)
        plan = Plan((), sampler.batch, settings.rate, settings.decay, min(100, steps // 10), seed, clip=1.0)

        def loss(model: nn.Module, step: int, share: slice) -> Tensor:
            try:
                batch = self._pass(model, method, sampler, step, share)
                if method.training == "groupdro" and groups is not None:
                    of_batch = groups[sampler.of(step)[share]]
                    return worst_group_loss(batch.task_losses, of_batch, learner.group_weights)
                task = batch.task_losses.mean()
                return task if method.term is None else task + scale * method.term(batch)
            except WeightsError as error:
                return nan_if_not_finite(error)

        kept = {
            **plan.settings(), "method": method.name, "steps": steps, "scale": scale,
            "augment": settings.augment, "data": inputs.digest,
        }  # fmt: skip
        validation = torch.tensor(inputs.data.indices("val"))

        def select(_: nn.Module) -> float:
            right = predicted(predictions(self.model, network, inputs, validation)) == inputs.labels[validation]
            if "group" in method.sees and groups is not None:
                return min(group_accuracies(right, groups[validation], inputs.data.group_names).values())
            return float(right.float().mean())

        optimize(learner, loss, steps, plan, kept, checkpoint, sampler.steps, report, self.devices, select=select)

    def _pass(
        self, network: nn.Module, method: FixMethod, sampler: Sampler, step: int, share: slice = slice(None)
    ) -> TrainingPass:
        """The forward pass of a step, or of a device's share of it; all devices draw the same augmentation."""
        inputs, device, indices = self.inputs, next(network.parameters()).device, sampler.of(step)
        generator = step_generator(sampler.seed, AUGMENT_STREAM - step)
        images, hints = augmented(inputs.images(indices), inputs.hints(indices), self.settings.augment, generator)
        return training_pass(
            self.model,
            network,
            images[share].to(device),
            inputs.labels[indices][share].to(device),
            hints[share].to(device),
            self._watched(network) if method.watches == "layer" else None,
            input_gradients=method.watches == "input",
            step=step,
            seed=sampler.seed,
        )

    def _watched(self, network: nn.Module) -> Watched:
        """The layer in the copy that is trained, by its place among the modules."""
        inner = next(part for part in network.modules() if isinstance(part, _Learner)).network
        return layer_in(inner, self.layer, self.model)

    def _scale(self, learner: _Learner, method: FixMethod, sampler: Sampler) -> float:
        """The factor on the added loss, by its size on the first batches: see :func:`saywhy.fixing.scale.scale_of`."""
        if method.term is None:
            return 0.0
        trial, found = copy.deepcopy(learner).train(), []
        for step in range(SCALE_STEPS):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(step)
                batch = self._pass(trial, method, sampler, step)
                opposite = replace(batch, hints=1 - batch.hints)
                found.append([float(method.term(each).detach()) for each in (batch, opposite)])
        size, reverse = torch.tensor(found).double().mean(0).tolist()
        return scale_of(method.name, self.settings.weight, len(self.inputs.data.classes), size, reverse)

    def _last_linear(self, network: nn.Module) -> nn.Linear:
        few = torch.tensor(self.inputs.data.indices("val")[:4])
        return last_linear(network, lambda: predictions(self.model, network, self.inputs, few))

    def _retrain_last_layer(self, network: nn.Module, seed: int) -> None:
        inputs, validation = self.inputs, torch.tensor(self.inputs.data.indices("val"))
        groups = need_groups(inputs.groups, "dfr", inputs.data.name)[validation]

        def run() -> Tensor:
            return predictions(self.model, network, inputs, validation)

        layer = self._last_linear(network)
        W, b, _ = retrained(
            features_of(layer, run), inputs.labels[validation], groups, max(2, layer.out_features), seed,
            inputs.data.group_names,
        )  # fmt: skip
        if layer.out_features == 1:  # the log-odds of class 1
            W, b = W[1:] - W[:1], b[1:] - b[:1]
        with torch.no_grad():
            layer.weight.copy_(W)
            layer.bias.copy_(b)


def worst_group_loss(
    losses: Float[Tensor, " batch"], groups: Int[Tensor, " batch"], weights: Float[Tensor, " group"]
) -> Float[Tensor, ""]:
    r"""Group DRO (Sagawa et al., 2020, algorithm 1): a group's weight grows exponentially with its loss.

    :math:`q_g \leftarrow q_g \exp(\eta\, \ell_g)`, normalised; the loss is :math:`\sum_g q_g \ell_g`.

    Args:
        losses: of the images.
        groups: of the images.
        weights: q, whose sum is 1; changed in place.

    >>> weights = torch.tensor([0.5, 0.5])
    >>> round(worst_group_loss(torch.tensor([1.0, 3.0]), torch.tensor([0, 1]), weights).item(), 4)
    2.01
    >>> weights
    tensor([0.4950, 0.5050])

    Differs from the paper: a step sees a batch of several groups, each with its mean loss, as in the release; groups
    without an image in it have the loss 0.
    """
    present = F.one_hot(groups.to(losses.device), len(weights)).to(losses)
    of_group = (present * losses.unsqueeze(1)).sum(0) / present.sum(0).clamp_min(1)
    with torch.no_grad():
        grown = weights * torch.exp(GROUP_RATE * of_group)
        weights.copy_(grown / grown.sum())
    return (weights.clone() * of_group).sum()


def layer_in(network: nn.Module, layer: Watched, model: Model) -> Watched:
    """A layer of the model, in a copy of its network."""
    names = {id(module): name for name, module in model.module.named_modules()}
    return replace(layer, module=network.get_submodule(names[id(layer.module)]))
