"""Which images a step of training sees; the same for the same step, so that a run can resume."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.training.loop import step_generator

HINTED_SHARE = 0.25
"""The share of a batch that is drawn from the images with hints: few of all images have one."""


@dataclass(frozen=True)
class Sampler:
    """Batches of training images.

    Attributes:
        images: the indices of the training images.
        hinted: those with a hint, of which a quarter of every batch is drawn; empty for methods without hints.
        weights: for each image how often it is drawn; None draws each once in an epoch.
        batch: images in a step.
        seed: of the order.
    """

    images: Int[Tensor, " image"]
    hinted: Int[Tensor, " hinted"]
    batch: int
    seed: int
    weights: Float[Tensor, " image"] | None = None

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, len(self.images) // self._plain)

    @property
    def _plain(self) -> int:
        return self.batch - self._of_hinted

    @property
    def _of_hinted(self) -> int:
        return round(HINTED_SHARE * self.batch) if len(self.hinted) else 0

    def of(self, step: int) -> Int[Tensor, " batch"]:
        """The indices of a step's images.

        >>> sampler = Sampler(torch.arange(8), torch.tensor([3]), batch=4, seed=0)
        >>> sampler.steps, len(sampler.of(0)), int(sampler.of(0)[-1])
        (2, 4, 3)
        """
        epoch, at = divmod(step, self.steps)
        generator = step_generator(self.seed, epoch)
        if self.weights is None:
            order = torch.randperm(len(self.images), generator=generator)
        else:
            order = torch.multinomial(self.weights, len(self.images), replacement=True, generator=generator)
        taken = self.images[order[at * self._plain : (at + 1) * self._plain]]
        if not self._of_hinted:
            return taken
        drawn = torch.randint(len(self.hinted), (self._of_hinted,), generator=step_generator(self.seed, -1 - step))
        return torch.cat([taken, self.hinted[drawn]])


def group_weights(groups: Int[Tensor, " image"]) -> Float[Tensor, " image"]:
    """Weights that draw every group equally often.

    >>> group_weights(torch.tensor([0, 0, 0, 1]))
    tensor([0.1667, 0.1667, 0.1667, 0.5000])
    """
    found, index, counts = groups.unique(return_inverse=True, return_counts=True)
    return 1 / (counts[index].float() * len(found))


def need_groups(groups: Tensor | None, method: str, name: str) -> Tensor:
    """The groups, or a refusal.

    Raises:
        InputError: there are none.
    """
    if groups is None:
        raise InputError(
            f"'{method}' needs to know the group of every image (class and spurious attribute), and {name} has none. "
            "Add a column or a file of groups, or leave this method out."
        )
    return groups
