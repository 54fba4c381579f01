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
        hinted: those with a hint.
        mixed: whether a quarter of every batch is drawn from those with a hint.
        batch: images in a step.
        seed: of the order.
        weights: for each image how often it is drawn; None draws each as often.
    """

    images: Int[Tensor, " image"]
    hinted: Int[Tensor, " hinted"]
    mixed: bool
    batch: int
    seed: int
    weights: Float[Tensor, " image"] | None = None

    @property
    def steps(self) -> int:
        """Steps of an epoch, as many whether hinted images are mixed in or not."""
        return max(1, len(self.images) // (self.batch - self._of_hinted))

    @property
    def _of_hinted(self) -> int:
        return round(HINTED_SHARE * self.batch) if len(self.hinted) else 0

    def of(self, step: int) -> Int[Tensor, " batch"]:
        """The indices of a step's images.

        >>> sampler = Sampler(torch.arange(8), torch.tensor([3]), True, batch=4, seed=0)
        >>> sampler.steps, len(sampler.of(0)), int(sampler.of(0)[-1])
        (2, 4, 3)
        """
        epoch, at = divmod(step, self.steps)
        extra = self._of_hinted if self.mixed else 0
        plain = self.batch - extra
        taken = self.images[self._order(epoch, self.steps * plain)[at * plain : (at + 1) * plain]]
        drawn = torch.randint(max(1, len(self.hinted)), (extra,), generator=step_generator(self.seed, -1 - step))
        return torch.cat([taken, self.hinted[drawn]])

    def _order(self, epoch: int, count: int) -> Int[Tensor, " drawn"]:
        """The numbers of at least ``count`` images."""
        generator = step_generator(self.seed, epoch)
        if self.weights is not None:
            return torch.multinomial(self.weights, count, replacement=True, generator=generator)
        images = len(self.images)
        return torch.cat([torch.randperm(images, generator=generator) for _ in range(-(-count // images))])


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
