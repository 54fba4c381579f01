"""The axes of an input: from the order in which a network takes them to [batch, channel, *space], and back."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """The axes of an input, in the order in which the network takes them.

    Attributes:
        names: one name an axis; ``"b"`` is the batch and ``"c"`` the channels, all others are space. Without ``"b"``
            the network takes one sample at a time, without ``"c"`` a sample has one channel.

    >>> import torch
    >>> axes = Axes(("b", "t", "c", "h", "w"))
    >>> axes.to_maps(torch.zeros(2, 8, 3, 16, 16)).shape
    torch.Size([2, 3, 8, 16, 16])
    >>> axes.to_network(torch.zeros(2, 3, 8, 16, 16)).shape
    torch.Size([2, 8, 3, 16, 16])
    """

    names: tuple[str, ...]

    @property
    def space(self) -> tuple[str, ...]:
        """The names of the axes of a map."""
        return tuple(name for name in self.names if name not in ("b", "c"))

    @property
    def unordered(self) -> tuple[int, ...]:
        """The axes of a map whose positions have no neighbours: views, and tiles of a bag."""
        return tuple(i for i, name in enumerate(self.space) if name in ("v", "tile"))

    @property
    def batched(self) -> bool:
        """Whether the network takes several samples at once."""
        return "b" in self.names

    @property
    def ordinary(self) -> bool:
        """Whether the network takes [batch, channel, *space]."""
        return self.names[:2] == ("b", "c")

    def to_maps(self, given: Tensor) -> Tensor:
        """The input [batch, channel, *space] of what the network takes; a view."""
        order = [self.names.index(name) for name in ("b", "c", *self.space) if name in self.names]
        maps = given.permute(order)
        maps = maps if self.batched else maps.unsqueeze(0)
        return maps if "c" in self.names else maps.unsqueeze(1)

    def to_network(self, maps: Tensor) -> Tensor:
        """What the network takes of [batch, channel, *space]; a view.

        Raises:
            ValueError: the network takes one sample at a time, and ``maps`` holds several.
        """
        if not self.batched and len(maps) != 1:
            raise ValueError(f"the network takes one sample at a time, got {len(maps)}")
        given = maps if "c" in self.names else maps.squeeze(1)
        given = given if self.batched else given.squeeze(0)
        held = [name for name in ("b", "c", *self.space) if name in self.names]
        return given.permute([held.index(name) for name in self.names])


def unfold(maps: Tensor, sizes: tuple[int, ...], *, batch_last: bool) -> Tensor:
    """Maps [batch, channel, *sizes, *space] of maps whose leading axis holds the batch and axes of these sizes.

    >>> import torch
    >>> unfold(torch.zeros(6, 5, 4, 4), (3,), batch_last=False).shape
    torch.Size([2, 5, 3, 4, 4])
    """
    axes = len(sizes)
    count = len(maps) // math.prod(sizes)
    apart = maps.unflatten(0, (*sizes, count) if batch_last else (count, *sizes))
    apart = apart.movedim(axes, 0) if batch_last else apart
    return apart.movedim(axes + 1, 1)


def fold(maps: Tensor, axes: int, *, batch_last: bool) -> Tensor:
    """The opposite of :func:`unfold`: the first ``axes`` axes of space become part of the leading axis."""
    apart = maps.movedim(1, axes + 1)
    apart = apart.movedim(0, axes) if batch_last else apart
    return apart.flatten(0, axes)
