"""Training of counters: heads on frozen features of cells, or whole networks on images."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.metrics.counting import ImageCounts, mrmse
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.losses import CountLoss
from saywhy.tasks.counting.networks import CellFeatures, CountHead, image_counts
from saywhy.training.loop import HERE, Devices, Plan, Select, Tell, optimize, step_generator
from saywhy.validation import whole_number

COUNTER_PLAN = Plan((), batch=64, rate=1e-3, decay=1e-4, warmup=50, clip=5.0)
"""The released program's rate, batch (61 on VOC) and gradient clip; its weight decay of 0.95 is a mistake."""

CellTruth = Float[Tensor, "image cell class"]
"""The true, fractional counts of cells; of one cell for networks that glance."""


class CountLearner(nn.Module):
    """A counter, or a head on features, with its loss."""

    def __init__(self, network: Counter | CountHead, loss: CountLoss) -> None:
        super().__init__()
        self.network, self.kind = network, loss

    def forward(self, inputs: Tensor, counts: CellTruth) -> Float[Tensor, ""]:
        """Return the loss of images, or of features of cells."""
        if isinstance(self.network, Counter):
            return self.network.head.loss(self.network.features(inputs), counts, self.kind)
        return self.network.loss(inputs, counts, self.kind)


def learn_counter(
    network: Counter | CountHead,
    inputs: Tensor,
    counts: CellTruth,
    plan: Plan = COUNTER_PLAN,
    steps: int = 1000,
    loss: CountLoss = "huber",
    *,
    validation: tuple[Tensor, CellTruth] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    checkpoint: Path | None = None,
    every: int = 100,
    report: Tell | None = None,
    devices: Devices = HERE,
) -> float:
    """Train a counter in place; it ends in evaluation mode. See :func:`saywhy.training.loop.optimize`.

    Args:
        network: a head on features of cells (frozen, see
            :func:`saywhy.tasks.counting.count_data.extract_features`), or a whole counter on images.
        inputs: features [image, cell, feature] for a head, else images [image, 3, height, width].
        counts: the true counts of cells.
        plan: batch, rate, decay, warmup, seed and clip; its phases are not used.
        steps: the number of steps. Images are shuffled anew in every epoch.
        loss: "huber" is the paper's, "mse" the released program's.
        validation: inputs and counts of other images: the weights of least mRMSE (clamped, not rounded) are kept. None
            keeps the last.
        prepare: applied to the inputs of a batch, such as normalisation or augmentation.
        checkpoint, every, report, devices: of the loop.

    Returns:
        The seconds.

    Raises:
        InputError: numbers of images differ, or there are fewer than a batch has.
        TrainingError: the loss is NaN or infinite.
    """
    steps = whole_number("steps", steps, 1)
    if counts.ndim != 3 or len(inputs) != len(counts):
        raise InputError(
            f"expected counts [image, cell, class] of the {len(inputs)} inputs, got {list(counts.shape)}. For whole "
            "images use counts.unsqueeze(1)."
        )
    if len(inputs) < plan.batch:
        raise InputError(
            f"expected at least {plan.batch} images for one batch, got {len(inputs)}. Use smaller batches."
        )
    learner, made = CountLearner(network, loss), prepare or (lambda batch: batch)

    def step_loss(model: nn.Module, step: int, share: slice) -> Tensor:
        which = _batch(len(inputs), plan, step)[share]
        value: Tensor = model(made(inputs[which]), counts[which])
        return value

    settings = {
        **plan.settings(),
        "counter": type(network.head if isinstance(network, Counter) else network).__name__,
        "images": len(inputs),
        "cells": counts.shape[1],
        "steps": steps,
        "loss": loss,
        "validation": 0 if validation is None else len(validation[0]),
        "weights": sum(parameter.numel() for parameter in network.parameters()),
    }
    select = None if validation is None else _score_on(*validation, plan.batch, prepare)
    seconds = optimize(learner, step_loss, steps, plan, settings, checkpoint, every, report, devices, select=select)
    network.eval()
    return seconds


def predict_counts(
    network: Counter | CountHead,
    inputs: CellFeatures | Tensor,
    batch_size: int = 64,
    prepare: Callable[[Tensor], Tensor] | None = None,
    *,
    clamp: bool = True,
) -> ImageCounts:
    """Return the counts of images, before rounding, from features of cells or from images; in evaluation mode.

    Args:
        network: a head on features, or a counter on images.
        inputs: features [image, cell, feature] for a head, else images.
        batch_size: the images of one pass.
        prepare: applied to the inputs of each pass.
        clamp: of a head, whether cells are clamped before their sum; a counter has its own setting.

    >>> from saywhy.tasks.counting.networks import Glance
    >>> predict_counts(Glance(4, 2), torch.rand(5, 1, 4), 2).shape
    torch.Size([5, 2])
    """
    mode, parts = network.training, []
    device = next((parameter.device for parameter in network.parameters()), inputs.device)
    try:
        network.eval()
        with torch.no_grad():
            for part in inputs.split(whole_number("batch_size", batch_size, 1)):
                output = network((part if prepare is None else prepare(part)).to(device))
                parts.append(
                    (output.counts if isinstance(network, Counter) else image_counts(output, clamp=clamp)).cpu()
                )
    finally:
        network.train(mode)
    return torch.cat(parts)


def _score_on(inputs: Tensor, counts: CellTruth, batch_size: int, prepare: Callable[[Tensor], Tensor] | None) -> Select:
    """Return the score by which weights are selected: the negative mRMSE of counts that are clamped, not rounded."""
    true = counts.sum(1).round()

    def score(learner: nn.Module) -> float:
        return -mrmse(predict_counts(learner.network, inputs, batch_size, prepare), true, rounded=False).value  # type: ignore[arg-type]

    return score


def _batch(count: int, plan: Plan, step: int) -> Tensor:
    """Return the indices of the images of one step: a part of the epoch's order."""
    epoch, place = divmod(step, count // plan.batch)
    order = torch.randperm(count, generator=step_generator(plan.seed, epoch))
    return order[place * plan.batch : (place + 1) * plan.batch]
