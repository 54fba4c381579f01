"""Small networks with several branches, whose evidence lies in a known half of the image for each branch."""

import torch
from torch import Tensor, nn

from placed_networks import Block


class Half(nn.Module):
    """Features of one half of the image: "left" or "right"; the other half is zero. [batch, 4, height, width]."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        nn.init.constant_(self.conv.weight, 0.05)
        nn.init.constant_(self.conv.bias, 0.1)
        self.act = nn.Softplus()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))

    def pooled(self, features: Tensor) -> Tensor:
        """The mean of the features over this half."""
        half = features.shape[-1] // 2
        return (features[..., :half] if self.side == "left" else features[..., half:]).mean((2, 3))


class Branched(nn.Module):
    """Two branches, "a" of the left half and "b" of the right half, each with its own score.

    Args:
        how: ``"heads"`` scores of both branches side by side; ``"sum"`` their sum as the one score (an ensemble);
            ``"if"`` branch a for a batch of bright images, else b; ``"where"`` the same sample by sample, of both
            branches; ``"rows"`` the same, each branch run on its own rows of the batch; ``"gate"`` branch a, and of a
            bright image branch b too.
        stem: a shared layer before the branches.
    """

    def __init__(self, how: str, stem: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Softplus()) if stem else None
        if self.stem is not None:
            nn.init.dirac_(self.stem[0].weight)
        self.a, self.b = Half("left"), Half("right")
        self.head_a, self.head_b = nn.Linear(4, 1), nn.Linear(4, 1)
        for head in (self.head_a, self.head_b):
            nn.init.constant_(head.weight, 1.0)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean((1, 2, 3)) > 0
        x = self.stem(x) if self.stem is not None else x
        if self.how == "if":
            return self.one(x, "a") if bool(bright[0]) else self.one(x, "b")
        if self.how == "rows":
            out = x.new_zeros(len(x), 1)
            for name, rows in (("a", bright), ("b", ~bright)):
                if bool(rows.any()):
                    out[rows] = self.one(x[rows], name)
            return out
        a, b = self.one(x, "a"), self.one(x, "b")
        if self.how == "heads":
            return torch.cat([a, b], 1)
        if self.how == "gate":
            return a + b * bright[:, None]
        return torch.where(bright[:, None], a, b) if self.how == "where" else a + b

    def one(self, x: Tensor, name: str) -> Tensor:
        """The score of one branch, [batch, 1]."""
        branch: Half = getattr(self, name)
        return getattr(self, f"head_{name}")(branch.pooled(branch(x)))  # type: ignore[no-any-return]


class TwoSequences(nn.Module):
    """Two sequences of tokens, fine and coarse, that exchange their class tokens (as CrossViT); [batch, 4].

    Args:
        coarse: the weight of the score of the coarse sequence's class token, that of the fine one being 1.
    """

    def __init__(self, coarse: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.coarse = coarse
        self.fine_patch, self.coarse_patch = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(3, 16, 16, 16)
        self.fine_class, self.coarse_class = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 1, 16))
        self.fine, self.crossed_fine = Block(16), Block(16)
        self.coarse_block, self.crossed_coarse = Block(16), Block(16)
        self.head_fine, self.head_coarse = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        fine = torch.cat([self.fine_class.expand(batch, -1, -1), self.fine_patch(x).flatten(2).mT], 1)
        coarse = torch.cat([self.coarse_class.expand(batch, -1, -1), self.coarse_patch(x).flatten(2).mT], 1)
        fine, coarse = self.fine(fine), self.coarse_block(coarse)
        crossed_fine = self.crossed_fine(torch.cat([coarse[:, :1], fine[:, 1:]], 1))
        crossed_coarse = self.crossed_coarse(torch.cat([fine[:, :1], coarse[:, 1:]], 1))
        return self.head_fine(crossed_fine[:, 0]) + self.coarse * self.head_coarse(crossed_coarse[:, 0])


def bright_and_dark() -> Tensor:
    """A bright image, whose left half is brighter, and a dark one: [2, 3, 16, 16]."""
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5
    return x + torch.tensor([1.0, -1.0])[:, None, None, None]


def sides(maps: Tensor) -> list[str]:
    """Where the magnitude of each map [batch, target, height, width] lies: "left", "right", "both" or "blank"."""
    found = []
    half = maps.shape[-1] // 2
    for one in maps.flatten(0, 1).abs():
        left, right = float(one[:, :half].sum()), float(one[:, half:].sum())
        total = left + right
        found.append(
            "blank" if total == 0 else "left" if left > 0.9 * total else "right" if right > 0.9 * total else "both"
        )
    return found
