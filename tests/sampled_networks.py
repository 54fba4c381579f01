"""Networks whose layer lies elsewhere on the image for other data: its content, another argument, the network's state.

Every network is strided convolutions after the change, and its score grows with red. So the map of an image with one
red square has its peak on the square, wherever the network's own crop or flip puts it.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

SIDE = 128
CROP = 64


class Reddest(nn.Module):
    """Three strided convolutions that keep the first channel's excess, and the mean of what they give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2, 1), nn.Softplus(), nn.Conv2d(8, 8, 4, 2, 1), nn.Softplus(), nn.Conv2d(8, 8, 4, 2, 1)
        )
        with torch.no_grad():
            for layer in self.features:
                if isinstance(layer, nn.Conv2d):
                    layer.weight.mul_(0.3).add_(0.05)
            self.features[0].weight[:, 0].add_(0.5)
            self.features[0].weight[:, 1:].sub_(0.25)
        self.head = nn.Linear(8, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([torch.ones(8), -torch.ones(8)]))

    def score(self, x: Tensor) -> Tensor:
        """The scores of what was cut out."""
        return self.head(self.features(x).square().mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x)


class Roi(Reddest):
    """Crops every sample at its own place, which is another argument [batch, 2]: first row and column."""

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        return self.score(
            torch.stack([one[:, r : r + CROP, c : c + CROP] for one, (r, c) in zip(x, at.tolist(), strict=True)])
        )


class Glimpse(Reddest):
    """Samples half of the image around a centre, which is another argument [batch, 2]: x and y from -0.5 to 0.5."""

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        theta = torch.zeros(len(x), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 0.5
        theta[:, :, 2] = at
        return self.score(grid_sample(x, affine_grid(theta, [len(x), 3, CROP, CROP], False), align_corners=False))


class FlagFlip(Reddest):
    """Mirrors the image where another argument says so."""

    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        return self.score(torch.stack([one.flip(2) if bool(f) else one for one, f in zip(x, flag, strict=True)]))


class Canonical(Reddest):
    """Mirrors every image whose right half is brighter."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        right = x[..., half:].mean((1, 2, 3)) > x[..., :half].mean((1, 2, 3))
        return self.score(torch.where(right[:, None, None, None], x.flip(3), x))


class CanonicalLoop(Reddest):
    """The same with an ``if`` for every sample."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        return self.score(
            torch.stack([one.flip(2) if one[..., half:].mean() > one[..., :half].mean() else one for one in x])
        )


class Brightest(Reddest):
    """Crops every image around its brightest quarter."""

    def forward(self, x: Tensor) -> Tensor:
        tiles = nn.functional.avg_pool2d(x.mean(1, keepdim=True), SIDE // 4).flatten(1).argmax(1)
        rows, columns = tiles // 4 * (SIDE // 4), tiles % 4 * (SIDE // 4)
        cut = []
        for one, r, c in zip(x, rows.tolist(), columns.tolist(), strict=True):
            r, c = min(max(r - 16, 0), SIDE - CROP), min(max(c - 16, 0), SIDE - CROP)
            cut.append(one[:, r : r + CROP, c : c + CROP])
        return self.score(torch.stack(cut))


class Window(Reddest):
    """Crops at a plain attribute of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x[..., self.first : self.first + CROP, self.first : self.first + CROP])


class Theta(Reddest):
    """Samples half of the image at a place that is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", torch.tensor([[0.5, 0, -0.5], [0, 0.5, -0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta.expand(len(x), 2, 3)
        return self.score(grid_sample(x, affine_grid(theta, [len(x), 3, CROP, CROP], False), align_corners=False))


class Lengths(Reddest):
    """Reads the lengths of a text before it looks at the image, whose positions do not depend on them."""

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        longest = max(int((row != 0).sum()) for row in words)
        return self.score(x) + 0.01 * words[:, :longest].float().mean(1, keepdim=True)


def red_square(row: int, column: int, side: int = SIDE) -> Tensor:
    """A grey image [1, 3, side, side] with some noise and one red square of 16 pixels at this centre."""
    image = 0.4 + 0.02 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))
    image[:, 0, row - 8 : row + 8, column - 8 : column + 8] = 2.5
    image[:, 1:, row - 8 : row + 8, column - 8 : column + 8] = 0.4
    return image
