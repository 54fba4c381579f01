"""Training a network on region features with HINT, a baseline or a control."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saywhy.alignment.controls import RegionHints
from saywhy.alignment.importance import Importance
from saywhy.alignment.region_methods import RegionBatch, RegionMethod
from saywhy.alignment.regularizers import Activation
from saywhy.errors import InputError
from saywhy.training.loop import HERE, Devices, Plan, Select, Tell, optimize, step_generator


@dataclass(frozen=True)
class RegionOutput:
    """What a network gives for a batch of items.

    Attributes:
        logits: [batch, answer].
        task_loss: the loss of the task.
        attention: [batch, region], of several heads the sum; None without attention.
    """

    logits: Float[Tensor, "batch answer"]
    task_loss: Float[Tensor, ""]
    attention: Importance | None = None


@dataclass(frozen=True)
class RegionTask:
    """The items of a training set: questions, or words of captions.

    Words of captions are made by :func:`saywhy.tasks.captioning.word_alignment.word_task`.

    Attributes:
        regions: [image, region, channel].
        images: [item] the image of every item.
        scores: [item, answer] how right each answer is, 0 to 1.
        run: from the network, the regions of a batch and its items to the output; the regions require a gradient.
        activation: how the logits become probabilities: ``"softmax"`` for words of captions.
    """

    regions: Float[Tensor, "image region channel"]
    images: Int[Tensor, " item"]
    scores: Float[Tensor, "item answer"]
    run: Callable[[nn.Module, Tensor, Int[Tensor, " batch"]], RegionOutput]
    activation: Activation = "sigmoid"


@dataclass(frozen=True)
class AlignmentSettings:
    """The settings of a run.

    Attributes:
        weight: of the added loss; 2 in the re-implementation of Shrestha et al. (2020), unknown in the paper.
        task_weight: of the task's loss.
        schedule: ``"constant"``, or ``"linear"``: the weight grows from 0 to ``weight`` over the run.
        hinted_only: train on the items with hints alone (also the task), as that re-implementation does; else on all,
            where items without hints add 0.
    """

    weight: float = 2.0
    task_weight: float = 1.0
    schedule: Literal["constant", "linear"] = "constant"
    hinted_only: bool = True

    def weight_at(self, step: int, steps: int) -> float:
        """The weight in a step.

        >>> AlignmentSettings(2.0, schedule="linear").weight_at(24, 100)
        0.5
        """
        return self.weight * (1.0 if self.schedule == "constant" else (step + 1) / steps)


def align(
    network: nn.Module,
    task: RegionTask,
    method: RegionMethod,
    hints: RegionHints,
    plan: Plan,
    steps: int,
    settings: AlignmentSettings = AlignmentSettings(),  # noqa: B008 (frozen)
    *,
    checkpoint: Path | None = None,
    every: int = 100,
    report: Tell | None = None,
    devices: Devices = HERE,
    select: Select | None = None,
) -> float:
    """Train a network, in place; returns the seconds.

    Args:
        network: trained before.
        task: the items.
        method: what is added to the loss of the task.
        hints: of the kind that the method has, for all items.
        plan: batch (of items), rate, decay, clipping and seed.
        steps: their number.
        settings: weights, schedule, and on which items.
        checkpoint, every, report, devices, select: as for :func:`saywhy.training.loop.optimize`.

    Raises:
        InputError: the hints are of another kind or number, or no item has a hint.
        TrainingError: a loss is NaN.
    """
    if hints.kind != method.hints or len(hints.values) != len(task.images):
        raise InputError(
            f"'{method.name}' needs hints of the kind '{method.hints}' for {len(task.images)} items, got "
            f"'{hints.kind}' for {len(hints.values)}."
        )
    items = hints.items if settings.hinted_only else torch.arange(len(task.images))
    if not len(items):
        raise InputError("no item has hints for two regions, so there is nothing to learn from them.")

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        drawn = torch.randint(len(items), (plan.batch,), generator=step_generator(plan.seed, -1 - step))
        batch = items[drawn][share]
        regions = task.regions[task.images[batch]].requires_grad_(method.term is not None)
        output = task.run(model, regions, batch)
        total = settings.task_weight * output.task_loss
        if method.term is None:
            return total
        scores = task.scores[batch].to(output.logits.device)
        known = RegionBatch(
            regions,
            output.logits,
            scores,
            output.attention,
            hints.of(batch, step).to(output.logits.device),
            _chosen(method, len(task.images), step * plan.batch // len(items), plan.seed)[batch],
            task.activation,
        )
        return total + settings.weight_at(step, steps) * method.term(known)

    kept: dict[str, Any] = {**plan.settings(), **asdict(settings), "method": method.name, "items": len(items)}
    return optimize(network, loss, steps, plan, kept, checkpoint, every, report, devices, select=select)


def _chosen(method: RegionMethod, count: int, epoch: int, seed: int) -> Tensor:
    """The items of the zero-out regularizer, fixed or of an epoch."""
    share, which = method.chosen
    if share == 1:
        return torch.ones(count, dtype=torch.bool)
    generator = step_generator(seed, 1_000_000 + (epoch if which == "variable" else 0))
    return torch.rand(count, generator=generator) < share
