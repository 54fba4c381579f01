"""Small networks whose positions are known by construction, in every layout that the engine has a name for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from saywhy.engine.layout import Layout
from saywhy.engine.trace import LayerProbe, LayerSearch

Order = Callable[[Tensor], Tensor]
"""From maps [batch, channel, *grid] to the same in another, wrong, order."""


class Laid(nn.Module):
    """Gives maps [batch, channel, *grid] in a layout: what :meth:`Layout.to_maps` undoes."""

    def __init__(self, layout: Layout, channels: int) -> None:
        super().__init__()
        self.layout = layout
        self.extra = nn.Parameter(torch.randn(layout.prefix + layout.suffix, channels))

    def forward(self, maps: Tensor) -> Tensor:
        if self.layout.kind == "channels-first":
            out = maps * 1.0
        elif self.layout.kind == "channels-last":
            out = maps.movedim(1, -1).contiguous()
        else:
            extra = self.extra.expand(len(maps), -1, -1)
            parts = [extra[:, : self.layout.prefix], maps.flatten(2).mT, extra[:, self.layout.prefix :]]
            out = torch.cat(parts, 1)
            out = out.mT.contiguous() if self.layout.kind == "tokens-last" else out
        return out.movedim(0, self.layout.batch_axis).contiguous()


class Patches(nn.Module):
    """Patches of an image, projected, with no module of its own that gives them in their places."""

    def __init__(self, grid: tuple[int, ...], patch: int, channels: int) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch
        self.weight = nn.Parameter(torch.randn(channels, 3 * patch ** len(grid)) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        rank = len(self.grid)
        for axis in range(rank):
            x = x.unfold(2 + axis, self.patch, self.patch)
        x = x.movedim(1, 1 + rank).flatten(1 + rank)  # (batch, *grid, channel * patch)
        return (x @ self.weight.T).movedim(-1, 1)


class Placed(nn.Module):
    """Patches in one layout at the layer "laid", pooled, with a linear head."""

    def __init__(self, layout: Layout, patch: int = 4, order: Order | None = None, channels: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        # In a list, so that it is no module of the network and therefore no candidate.
        self._patches, self._order = [Patches(layout.grid, patch, channels)], order
        self.laid = Laid(layout, channels)
        self.head = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self._patches[0](x)
        laid = self.laid(self._order(maps) if self._order else maps)
        laid = laid.movedim(self.laid.layout.batch_axis, 0)
        channel = 1 if self.laid.layout.kind in ("channels-first", "tokens-last") else -1
        return self.head(laid.movedim(channel, -1).flatten(1, -2).square().mean(1))


class Block(nn.Module):
    """Attention and a feed-forward part, both with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """A vision transformer of two blocks, whose head reads the class token or the mean."""

    def __init__(self, *, class_token: bool = True, registers: int = 0, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        channels = 16
        self.class_token, self.last = class_token, last
        self.patch = nn.Conv2d(3, channels, 8, 8)
        self.extra = nn.Parameter(torch.randn(1, int(class_token) + registers, channels))
        self.blocks = nn.Sequential(Block(channels), Block(channels))
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches, extra = self.patch(x).flatten(2).mT, self.extra.expand(len(x), -1, -1)
        x = torch.cat([patches, extra] if self.last else [extra, patches], 1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, -1 if self.last else 0] if self.class_token else x.mean(1))


def image(*space: int) -> Tensor:
    """A seeded image of noise [1, 3, *space]."""
    return torch.randn(1, 3, *space, generator=torch.Generator().manual_seed(1))


def search(model: nn.Module, inputs: object) -> LayerSearch:
    """A layer search for the model's top class."""
    return LayerSearch(model, inputs, LayerProbe(lambda out: out.max(1).values[:, None]))
