"""The training loop: a plan of steps, one step after the other, resumable at any of them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.errors import InputError
from saywhy.training.checkpoint import load_checkpoint, save_checkpoint
from saywhy.training.extra import training_library


@dataclass(frozen=True)
class Phase:
    """``epochs`` times through the pictures, reduced to ``size`` pixels a side; small ones first, for they are fast."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Plan:
    """Everything that decides what the weights will be, given the pictures."""

    phases: tuple[Phase, ...]
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.02
    warmup: int = 200
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """The plan as plain numbers, to be kept in a checkpoint."""
        plain = asdict(self)
        plain["phases"] = [[phase["epochs"], phase["size"]] for phase in plain["phases"]]
        return plain

    def steps(self, count: int) -> Iterator[tuple[Tensor, int]]:
        """For each step the pictures to take (batch,), of ``count``, and the size to which they are reduced."""
        if count < self.batch:
            raise InputError(f"a batch of {self.batch} needs as many pictures, but {count} came. Draw more pictures.")
        epoch = 0
        for phase in self.phases:
            for _ in range(phase.epochs):
                order = torch.randperm(count, generator=_dice(self.seed, epoch))
                for at in range(0, count - self.batch + 1, self.batch):
                    yield order[at : at + self.batch], phase.size
                epoch += 1

    def length(self, count: int) -> int:
        """How many steps there are with ``count`` pictures.

        >>> Plan((Phase(2, 64), Phase(1, 128)), batch=32).length(100)
        9
        """
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


def fit(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    plan: Plan,
    prepare: Callable[[Tensor], Tensor],
    checkpoint: Path | None = None,
    every: int = 100,
    tell: Callable[[int, float], object] | None = None,
) -> int:
    """Train ``network``, in place, on pictures (count, 3, height, width) uint8 and labels (count, kind) of 0 and 1.

    ``prepare`` normalises pictures from 0 to 1. A ``checkpoint`` is written after every ``every`` steps; if the file is
    there, the run goes on from it, to exactly the weights that it would have reached at once. An interrupt costs the
    steps since the last checkpoint, never the checkpoint. ``tell`` is called after each step with its number and loss.
    Returns the number of steps.
    """
    fabric = training_library("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    network.to(memory_format=torch.channels_last).train()
    model, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters(), weight_decay=plan.decay))
    settings = {**plan.settings(), "pictures": len(images)}
    done = _resume(checkpoint, settings, network, optimizer)
    steps = plan.length(len(images))

    for step, (which, size) in enumerate(plan.steps(len(images))):
        if step < done:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, plan)
        batch = prepare(view(images[which], size, _dice(plan.seed, -1 - step)))
        loss = F.binary_cross_entropy_with_logits(model(batch), labels[which])
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        if tell is not None:
            tell(step + 1, loss.item())
        if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == steps):
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoint, {"settings": settings, "step": step + 1, **state})
    network.eval()
    return steps


def view(images: Tensor, size: int, dice: torch.Generator) -> Tensor:
    """Pictures (batch, 3, height, width) uint8 as training sees them: float from 0 to 1, ``size`` pixels a side.

    Half of them are mirrored, and each is a little brighter or darker; what is in them does not change.

    >>> view(torch.zeros(4, 3, 128, 128, dtype=torch.uint8), 64, torch.Generator()).shape
    torch.Size([4, 3, 64, 64])
    """
    seen = images.float() / 255
    if size != seen.shape[-1]:
        seen = F.interpolate(seen, (size, size), mode="bilinear", antialias=True, align_corners=False)
    mirrored = torch.rand(len(seen), generator=dice) < 0.5
    seen = torch.where(mirrored[:, None, None, None], seen.flip(-1), seen)
    bright = 0.9 + 0.2 * torch.rand(len(seen), generator=dice)
    return (seen * bright[:, None, None, None]).clamp(0, 1).to(memory_format=torch.channels_last)


def _resume(checkpoint: Path | None, settings: dict[str, Any], network: nn.Module, optimizer: Any) -> int:
    """Take up the run in the file, if there is one; returns how many of its steps are done."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    state = load_checkpoint(checkpoint, settings)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _dice(seed: int, number: int) -> torch.Generator:
    """Chance for one epoch (0, 1, ...) or one step (-1, -2, ...): the same whether or not the run was interrupted."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
