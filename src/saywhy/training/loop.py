"""The training loop: it follows a plan of steps, and can resume after any step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.errors import InputError, TrainingError
from saywhy.io.lock import locked
from saywhy.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from saywhy.training.extra import training_library
from saywhy.training.log import Log

Tell = Callable[[int, float], object]

Loss = Callable[[nn.Module, int, slice], Tensor]
"""A function from the network, the number of a step, and the slice of the batch computed here, to the loss."""

Select = Callable[[nn.Module], float]
"""A function from the network, in evaluation mode, to a score on validation data: higher is better."""

Optimizers = Callable[[nn.Module, "Plan"], Sequence[torch.optim.Optimizer]]
"""A function from a network and a plan to optimizers, each with its maximum learning rate."""


@dataclass(frozen=True)
class Devices:
    """The devices of a run: one core, or several devices that split every batch (data parallel).

    Attributes:
        accelerator: the name in Lightning Fabric: ``"cpu"``, ``"cuda"``, ``"auto"``.
        count: the number of devices; on the CPU the number of processes.
    """

    accelerator: str = "cpu"
    count: int = 1

    def fabric(self) -> Any:
        """Return a Lightning Fabric for these devices.

        Raises:
            InputError: there is no such accelerator, or there are not enough devices.
        """
        strategy = "auto" if self.count == 1 else "ddp_find_unused_parameters_true"  # a step may use only some
        make = training_library("lightning_fabric").Fabric
        try:
            return make(accelerator=self.accelerator, devices=self.count, strategy=strategy)
        except Exception as error:  # Lightning raises many types of errors
            raise InputError(
                f"{self.count} devices of the accelerator {self.accelerator!r} are not available: {error} "
                "Use cpu, cuda or auto."
            ) from error


HERE = Devices()
"""One CPU, in this process."""


@dataclass(frozen=True)
class Phase:
    """``epochs`` epochs with images resized to ``size`` pixels a side; small sizes come first, since they are fast."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Plan:
    """All training settings; with the images, they determine the weights."""

    phases: tuple[Phase, ...]
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.02
    warmup: int = 200
    seed: int = 0
    clip: float | None = None

    def settings(self) -> dict[str, Any]:
        """Return the plan as plain numbers, for a checkpoint."""
        plain = asdict(self)
        plain["phases"] = [[phase["epochs"], phase["size"]] for phase in plain["phases"]]
        return plain

    def steps(self, count: int) -> Iterator[tuple[Tensor, int]]:
        """Yield, for each step, the indices of images (batch,) out of ``count``, and their size."""
        self.length(count)
        epoch = 0
        for phase in self.phases:
            for _ in range(phase.epochs):
                order = torch.randperm(count, generator=step_generator(self.seed, epoch))
                for at in range(0, count - self.batch + 1, self.batch):
                    yield order[at : at + self.batch], phase.size
                epoch += 1

    def length(self, count: int) -> int:
        """Return the number of steps with ``count`` images.

        >>> Plan((Phase(2, 64), Phase(1, 128)), batch=32).length(100)
        9
        """
        if count < self.batch:
            raise InputError(f"expected at least {self.batch} images for one batch, got {count}. Use more images.")
        return count // self.batch * sum(phase.epochs for phase in self.phases)


def rate_at(step: int, steps: int, plan: Plan) -> float:
    """Return the learning rate: linear warmup for ``plan.warmup`` steps, then cosine decay to 0.

    >>> [round(rate_at(step, 100, Plan((), rate=1.0, warmup=10)), 3) for step in (0, 9, 55, 100)]
    [0.1, 1.0, 0.5, 0.0]
    """
    warmup = min(plan.warmup, max(1, steps // 5))
    if step < warmup:
        return plan.rate * (step + 1) / warmup
    return plan.rate * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2


def adamw(network: nn.Module, plan: Plan) -> Sequence[torch.optim.Optimizer]:
    """Return AdamW for all trained parameters, at the plan's rate."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [torch.optim.AdamW(trained, lr=plan.rate, weight_decay=plan.decay)]


def fit(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    plan: Plan,
    prepare: Callable[[Tensor], Tensor],
    checkpoint: Path | None = None,
    every: int = 100,
    report: Tell | None = None,
    devices: Devices = HERE,
) -> int:
    """Train ``network``, in place, on images (count, 3, height, width) uint8 and labels (count, kind) of 0 and 1.

    ``prepare`` normalises images in [0, 1]. For the other arguments see :func:`optimize`. Returns the number of steps.
    """
    settings, steps = {**plan.settings(), "images": len(images)}, plan.length(len(images))
    taken = enumerate(plan.steps(len(images)))

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        which, size = next(of_step for number, of_step in taken if number == step)
        batch = prepare(augment(images[which], size, step_generator(plan.seed, -1 - step)))
        logits: Tensor = model(batch[share])
        return F.binary_cross_entropy_with_logits(logits, labels[which][share].to(logits.device))

    network.to(memory_format=torch.channels_last)
    optimize(network, loss, steps, plan, settings, checkpoint, every, report, devices)
    return steps


def optimize(
    network: nn.Module,
    loss: Loss,
    steps: int,
    plan: Plan,
    settings: dict[str, Any],
    checkpoint: Path | None = None,
    every: int = 100,
    report: Tell | None = None,
    devices: Devices = HERE,
    optimizers: Optimizers = adamw,
    select: Select | None = None,
) -> float:
    """Minimise the loss for a number of steps, by AdamW at the plan's rates; the network ends in evaluation mode.

    Args:
        network: the network, trained in place.
        loss: the loss of a step, from the network as set up by Fabric; it must be the same after an interruption. The
            inputs that it passes to the network may be on the CPU.
        steps: the number of steps.
        plan: rate, decay, warmup, seed and gradient clipping.
        settings: the settings that determine the result, kept in the checkpoint; a run with other settings raises an
            error instead of resuming.
        checkpoint: the checkpoint file, written after every ``every`` steps. If it exists, the run resumes from it, and
            reaches exactly the weights of an uninterrupted run. A log with the suffix ``.csv`` is written next to it:
            step, rate, and the mean loss since the previous line.
        every: the number of steps between checkpoints.
        report: called after each step with its number (from 1) and loss.
        devices: with several devices, the command runs once more for each; all processes but the first exit here after
            the last step. Gradients are averaged; batch statistics are those of the first process's share.
        optimizers: replaces AdamW; the rates of these optimizers follow the plan's schedule.
        select: scores the network after every ``every`` steps; the network ends with the weights of the highest score,
            of equal ones the first. None keeps those of the last step.

    Returns:
        The duration in seconds, including the time before an interruption up to its last checkpoint.

    Raises:
        WeightsError: the checkpoint is damaged and no older one is sound, or it belongs to another run.
        WriteError: another process writes the same checkpoint, or it cannot be written.
        TrainingError: the loss of a step is NaN or infinite. The network has the last selected weights, or those before
            the step; the checkpoint is the one before it.
    """
    fabric = devices.fabric()
    fabric.launch()
    share = slice(fabric.global_rank, None, fabric.world_size)
    moved = network.register_forward_pre_hook(lambda _, inputs: fabric.to_device(inputs))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.train()
    model, *taken = fabric.setup(network, *optimizers(network, plan))
    plans = [[replace(plan, rate=group["lr"]) for group in optimizer.param_groups] for optimizer in taken]
    with moved, locked(checkpoint) if checkpoint is not None and fabric.is_global_zero else nullcontext():
        done, seconds, best = _resume(checkpoint, settings, network, taken)
        begin = perf_counter() - seconds
        if not fabric.is_global_zero:
            checkpoint = report = None
        log, losses = Log(checkpoint.with_suffix(".csv"), done) if checkpoint is not None else None, []
        for step in range(done, steps):
            for optimizer, of_groups in zip(taken, plans, strict=True):
                for group, own in zip(optimizer.param_groups, of_groups, strict=True):
                    group["lr"] = rate_at(step, steps, own)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(
                    step_generator(plan.seed, -1 - step).initial_seed() + fabric.global_rank
                )  # for dropout
                value = loss(model, step, share)
            if not bool(torch.isfinite(value)):
                _use_best(network, best)
                kept = checkpoint is not None and has_checkpoint(checkpoint)
                raise TrainingError(
                    f"the loss of step {step + 1} of {steps} is {float(value.detach())}. Use a lower learning rate, or "
                    "a smaller weight of the term that was added to the loss."
                    + (f" The last checkpoint is '{checkpoint}'." if kept else "")
                )
            for optimizer in taken:
                optimizer.zero_grad()
            fabric.backward(value)
            if plan.clip is not None:
                nn.utils.clip_grad_norm_(trained, plan.clip)
            for optimizer in taken:
                optimizer.step()
            losses.append(value.item())
            if report is not None:
                report(step + 1, losses[-1])
            pause = (step + 1) % every == 0 or step + 1 == steps
            if select is not None and pause:
                best = _better(network, select, step + 1, best)
            if checkpoint is not None and log is not None and pause:
                log.add(step + 1, rate_at(step, steps, plan), losses)
                losses = []
                state = {"network": network.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in taken]}
                state |= {"best": best} if best else {}
                progress = {"settings": settings, "step": step + 1, "seconds": perf_counter() - begin}
                save_checkpoint(checkpoint, progress | state)
    _use_best(network, best)
    network.cpu().eval()
    if not fabric.is_global_zero:
        raise SystemExit(0)
    return perf_counter() - begin


def augment(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Augment images (batch, 3, height, width) uint8 for training: float in [0, 1], ``size`` pixels a side.

    The augmentations are horizontal flips of half of the images, and changes of brightness by up to 10 %.

    >>> augment(torch.zeros(4, 3, 128, 128, dtype=torch.uint8), 64, torch.Generator()).shape
    torch.Size([4, 3, 64, 64])
    """
    x = images.float() / 255
    if size != x.shape[-1]:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    flipped = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flipped[:, None, None, None], x.flip(-1), x)
    brightness = 0.9 + 0.2 * torch.rand(len(x), generator=generator)
    return (x * brightness[:, None, None, None]).clamp(0, 1).to(memory_format=torch.channels_last)


def _resume(
    checkpoint: Path | None, settings: dict[str, Any], network: nn.Module, optimizers: Sequence[Any]
) -> tuple[int, float, dict[str, Any]]:
    """Resume the run in the file, if there is one; return the finished steps, their seconds, and the best weights."""
    if checkpoint is None or not has_checkpoint(checkpoint):
        return 0, 0.0, {}
    state = load_checkpoint(checkpoint, settings)
    network.load_state_dict(state["network"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"]), float(state["seconds"]), dict(state.get("best", {}))


def _better(network: nn.Module, select: Select, step: int, best: dict[str, Any]) -> dict[str, Any]:
    """The weights with the higher score: the present ones or the best so far."""
    network.eval()
    with torch.random.fork_rng(devices=[]):
        score = float(select(network))
    network.train()
    if best and score <= best["score"]:
        return best
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return {"score": score, "step": step, "network": weights}


def _use_best(network: nn.Module, best: dict[str, Any]) -> None:
    if best:
        network.load_state_dict(best["network"])


def step_generator(seed: int, number: int) -> torch.Generator:
    """Return the random generator of one epoch (0, 1, …) or one step (-1, -2, …), independent of interruptions."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
