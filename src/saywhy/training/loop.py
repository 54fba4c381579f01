"""The training loop: a plan of steps, one step after the other, resumable at any of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.errors import InputError
from saywhy.training.checkpoint import load_checkpoint, save_checkpoint
from saywhy.training.extra import training_library
from saywhy.training.log import Log

Tell = Callable[[int, float], object]

Loss = Callable[[nn.Module, int, slice], Tensor]
"""From the network, the number of a step, and the share of the step's batch that is computed here, to the loss."""


Optimizers = Callable[[nn.Module, "Plan"], Sequence[torch.optim.Optimizer]]
"""Of a network those that train it, each at the highest rate that it shall have."""


@dataclass(frozen=True)
class Devices:
    """On what a run computes: one core, or several devices, each of which takes its share of every batch.

    Attributes:
        accelerator: as Lightning Fabric calls it: ``"cpu"``, ``"cuda"``, ``"auto"``.
        count: how many devices; on the CPU how many processes.
    """

    accelerator: str = "cpu"
    count: int = 1

    def fabric(self) -> Any:
        """Lightning's Fabric on them.

        Raises:
            InputError: there is no such accelerator, or there are not so many devices.
        """
        strategy = "auto" if self.count == 1 else "ddp_find_unused_parameters_true"  # what is not asked is not used
        make = training_library("lightning_fabric").Fabric
        try:
            return make(accelerator=self.accelerator, devices=self.count, strategy=strategy)
        except Exception as error:  # Lightning has errors of many kinds for it
            raise InputError(
                f"{self.count} devices of the accelerator {self.accelerator!r} cannot be had here: {error} "
                "Take cpu, cuda or auto."
            ) from error


HERE = Devices()
"""In this process."""


@dataclass(frozen=True)
class Phase:
    """``epochs`` times through the images, reduced to ``size`` pixels a side; small ones first, for they are fast."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Plan:
    """Everything that decides what the weights will be, given the images."""

    phases: tuple[Phase, ...]
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.02
    warmup: int = 200
    seed: int = 0
    clip: float | None = None

    def settings(self) -> dict[str, Any]:
        """The plan as plain numbers, to be kept in a checkpoint."""
        plain = asdict(self)
        plain["phases"] = [[phase["epochs"], phase["size"]] for phase in plain["phases"]]
        return plain

    def steps(self, count: int) -> Iterator[tuple[Tensor, int]]:
        """For each step the images to take (batch,), of ``count``, and the size to which they are reduced."""
        self.length(count)
        epoch = 0
        for phase in self.phases:
            for _ in range(phase.epochs):
                order = torch.randperm(count, generator=dice(self.seed, epoch))
                for at in range(0, count - self.batch + 1, self.batch):
                    yield order[at : at + self.batch], phase.size
                epoch += 1

    def length(self, count: int) -> int:
        """How many steps there are with ``count`` images.

        >>> Plan((Phase(2, 64), Phase(1, 128)), batch=32).length(100)
        9
        """
        if count < self.batch:
            raise InputError(f"a batch of {self.batch} needs as many images, but {count} came. Draw more images.")
        return count // self.batch * sum(phase.epochs for phase in self.phases)


def rate_at(step: int, steps: int, plan: Plan) -> float:
    """The learning rate: up a line for ``plan.warmup`` steps, then down a cosine to 0.

    >>> [round(rate_at(step, 100, Plan((), rate=1.0, warmup=10)), 3) for step in (0, 9, 55, 100)]
    [0.1, 1.0, 0.5, 0.0]
    """
    warmup = min(plan.warmup, max(1, steps // 5))
    if step < warmup:
        return plan.rate * (step + 1) / warmup
    return plan.rate * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2


def adamw(network: nn.Module, plan: Plan) -> Sequence[torch.optim.Optimizer]:
    """AdamW of all that is trained, at the plan's rate."""
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
    tell: Tell | None = None,
    devices: Devices = HERE,
) -> int:
    """Train ``network``, in place, on images (count, 3, height, width) uint8 and labels (count, kind) of 0 and 1.

    ``prepare`` normalises images from 0 to 1. For the rest see :func:`descend`. Returns the number of steps.
    """
    settings, steps = {**plan.settings(), "images": len(images)}, plan.length(len(images))
    taken = enumerate(plan.steps(len(images)))

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        which, size = next(of_step for number, of_step in taken if number == step)
        batch = prepare(view(images[which], size, dice(plan.seed, -1 - step)))
        logits: Tensor = model(batch[share])
        return F.binary_cross_entropy_with_logits(logits, labels[which][share].to(logits.device))

    network.to(memory_format=torch.channels_last)
    descend(network, loss, steps, plan, settings, checkpoint, every, tell, devices)
    return steps


def descend(
    network: nn.Module,
    loss: Loss,
    steps: int,
    plan: Plan,
    settings: dict[str, Any],
    checkpoint: Path | None = None,
    every: int = 100,
    tell: Tell | None = None,
    devices: Devices = HERE,
    optimizers: Optimizers = adamw,
) -> float:
    """Take so many steps down the loss, by AdamW at the plan's rates; the network is in evaluation mode afterwards.

    Args:
        network: trained in place.
        loss: of a step, from the network as Fabric has set it up; it must be the same whether or not the run was
            interrupted before. What it gives the network may lie on the CPU.
        steps: how many.
        plan: rate, decay, warmup.
        settings: what decides the result, to be kept in the checkpoint; a run with others does not go on from it.
        checkpoint: written after every ``every`` steps; if the file is there, the run goes on from it, to exactly the
            weights that it would have reached at once. An interrupt costs the steps since, never the checkpoint. Beside
            it grows a log that can be plotted, with the suffix ``.csv``: step, rate, and the mean loss since the line
            before.
        every: see above.
        tell: called after each step with its number (from 1) and loss.
        devices: with several of them the command is run once more for each, and all but the first end here, when the
            last step is taken. Their gradients are averaged; norms are those of the first one's share.
        optimizers: others than AdamW, which go up and down with the plan as it does.

    Returns:
        How many seconds that took, those before an interrupt included as far as a checkpoint knows of them.
    """
    fabric = devices.fabric()
    fabric.launch()
    share = slice(fabric.global_rank, None, fabric.world_size)
    moved = network.register_forward_pre_hook(lambda _, inputs: fabric.to_device(inputs))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.train()
    model, *taken = fabric.setup(network, *optimizers(network, plan))
    plans = [[replace(plan, rate=group["lr"]) for group in optimizer.param_groups] for optimizer in taken]
    done, seconds = _resume(checkpoint, settings, network, taken)
    begin = perf_counter() - seconds
    if not fabric.is_global_zero:
        checkpoint = tell = None
    log, losses = Log(checkpoint.with_suffix(".csv"), done) if checkpoint is not None else None, []
    for step in range(done, steps):
        for optimizer, of_groups in zip(taken, plans, strict=True):
            for group, own in zip(optimizer.param_groups, of_groups, strict=True):
                group["lr"] = rate_at(step, steps, own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(dice(plan.seed, -1 - step).initial_seed() + fabric.global_rank)  # for dropout
            value = loss(model, step, share)
        for optimizer in taken:
            optimizer.zero_grad()
        fabric.backward(value)
        if plan.clip is not None:
            nn.utils.clip_grad_norm_(trained, plan.clip)
        for optimizer in taken:
            optimizer.step()
        losses.append(value.item())
        if tell is not None:
            tell(step + 1, losses[-1])
        if checkpoint is not None and log is not None and ((step + 1) % every == 0 or step + 1 == steps):
            log.add(step + 1, rate_at(step, steps, plan), losses)
            losses = []
            state = {"network": network.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in taken]}
            told = {"settings": settings, "step": step + 1, "seconds": perf_counter() - begin}
            save_checkpoint(checkpoint, told | state)
    moved.remove()
    network.cpu().eval()
    if not fabric.is_global_zero:
        raise SystemExit(0)
    return perf_counter() - begin


def view(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Images (batch, 3, height, width) uint8 as training sees them: float from 0 to 1, ``size`` pixels a side.

    Half of them are mirrored, and each is a little brighter or darker; what is in them does not change.

    >>> view(torch.zeros(4, 3, 128, 128, dtype=torch.uint8), 64, torch.Generator()).shape
    torch.Size([4, 3, 64, 64])
    """
    seen = images.float() / 255
    if size != seen.shape[-1]:
        seen = F.interpolate(seen, (size, size), mode="bilinear", antialias=True, align_corners=False)
    mirrored = torch.rand(len(seen), generator=generator) < 0.5
    seen = torch.where(mirrored[:, None, None, None], seen.flip(-1), seen)
    bright = 0.9 + 0.2 * torch.rand(len(seen), generator=generator)
    return (seen * bright[:, None, None, None]).clamp(0, 1).to(memory_format=torch.channels_last)


def _resume(
    checkpoint: Path | None, settings: dict[str, Any], network: nn.Module, optimizers: Sequence[Any]
) -> tuple[int, float]:
    """Take up the run in the file, if there is one; returns how many of its steps are done, and in how many seconds."""
    if checkpoint is None or not checkpoint.exists():
        return 0, 0.0
    state = load_checkpoint(checkpoint, settings)
    network.load_state_dict(state["network"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"]), float(state["seconds"])


def dice(seed: int, number: int) -> torch.Generator:
    """Chance for one epoch (0, 1, ...) or one step (-1, -2, ...): the same whether or not the run was interrupted."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
