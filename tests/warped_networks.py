"""Networks whose positions follow no grid of the image: turned, bent, or tokens left out, merged or sorted."""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from placed_networks import Block


class Warped(nn.Module):
    """Strided convolutions or a transformer after a change of the image."""

    def __init__(self, change, body: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.change, self.body, self.head = change, body, head

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.change(x))
        return x if self.head is None else self.head(x.mean((2, 3)))


def turned(degrees: float):
    """Turns an image about its centre."""
    angle = torch.tensor(degrees).deg2rad()
    theta = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0]])

    def change(x: Tensor) -> Tensor:
        grid = affine_grid(theta.expand(len(x), 2, 3), list(x.shape), False)
        return grid_sample(x, grid, align_corners=False)

    return change


def keystone(share: float):
    """Narrows an image towards its upper border by a share of its width on both sides."""

    def change(x: Tensor) -> Tensor:
        grid = affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), False)
        width = 1 - share * (1 - grid[..., 1]) / 2
        return grid_sample(x, torch.stack([grid[..., 0] / width, grid[..., 1]], -1), align_corners=False)

    return change


class Reduced(nn.Module):
    """A transformer of three blocks that reduces its tokens after the first."""

    def __init__(self, reduce, *, class_token: bool = True, patch: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 16, patch, patch)
        self.token = nn.Parameter(torch.randn(1, int(class_token), 16))
        self.first, self.rest = Block(16), nn.Sequential(Block(16), Block(16))
        self.reduce, self.head = reduce, nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.patch(x).flatten(2).mT], 1)
        tokens = self.first(tokens)
        extra, patches = tokens[:, : self.token.shape[1]], tokens[:, self.token.shape[1] :]
        return self.head(self.rest(torch.cat([extra, self.reduce(patches)], 1)).mean(1))


def every_second(tokens: Tensor) -> Tensor:
    return tokens[:, ::2]


def every_third(tokens: Tensor) -> Tensor:
    return tokens[:, ::3]


def four_merged(tokens: Tensor) -> Tensor:
    """The mean of every four tokens in a row."""
    return tokens.unflatten(1, (-1, 4)).mean(2)


def two_merged(tokens: Tensor) -> Tensor:
    return tokens.unflatten(1, (-1, 2)).mean(2)


def strongest(share: float):
    """Keeps the tokens of the largest norm, in their order or by their norm."""

    def reduce(tokens: Tensor) -> Tensor:
        index = tokens.norm(dim=2).topk(round(share * tokens.shape[1]), dim=1).indices.sort(1).values
        return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))

    return reduce


def by_norm(tokens: Tensor) -> Tensor:
    index = tokens.norm(dim=2).argsort(1)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def merged_by_likeness(tokens: Tensor) -> Tensor:
    """Merges a quarter of the tokens into the most similar of the others, as ToMe does."""
    a, b = tokens[:, ::2], tokens[:, 1::2]
    likeness, partner = (nn.functional.normalize(a, dim=2) @ nn.functional.normalize(b, dim=2).mT).max(2)
    order = likeness.argsort(1, descending=True)
    count = tokens.shape[1] // 4
    wide = (-1, -1, tokens.shape[2])
    merged, kept = order[:, :count], order[:, count:]
    source = a.gather(1, merged[..., None].expand(*wide))
    b = b.scatter_reduce(1, partner.gather(1, merged)[..., None].expand(*wide), source, "mean")
    return torch.cat([a.gather(1, kept[..., None].expand(*wide)), b], 1)
