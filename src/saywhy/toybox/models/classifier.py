"""The classifier of Toybox's kinds: a small CNN with residual blocks."""

from jaxtyping import Float
from torch import Tensor, nn

from saywhy.shapes import FeatureMaps, Images

SIZE = 128
"""Side of the input in pixels; other sizes work too."""

MEAN = (0.63, 0.62, 0.58)
STD = (0.26, 0.24, 0.24)
"""Mean and standard deviation of red, green and blue in [0, 1]: the input is (x - mean) / std."""

WIDTHS = (16, 32, 64, 96)
"""Channels of the stem and of the three stages."""


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size (divided by ``stride``), with batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """A residual block: relu(shortcut(x) + two convolutions of x)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.first = convolution(inputs, outputs, stride=stride)
        self.act = nn.ReLU()
        self.second = convolution(outputs, outputs)
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, kernel=1, stride=stride)
        self.out = nn.ReLU()

    def forward(self, x: FeatureMaps) -> FeatureMaps:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        return self.out(self.shortcut(x) + self.second(self.act(self.first(x))))


class ToyboxClassifier(nn.Module):
    """A multi-label classifier of the kinds of objects in an image: one logit per kind.

    The last feature maps have an eighth of the image's size (16 x 16 for 128 x 128). Global average pooling and one
    linear layer follow, so a class activation map is exact at ``blocks``.

    >>> import torch
    >>> from saywhy.toybox import KINDS
    >>> net = ToyboxClassifier(len(KINDS)).eval()
    >>> net.maps(torch.zeros(1, 3, 128, 128)).shape, net(torch.zeros(2, 3, 128, 128)).shape
    (torch.Size([1, 96, 16, 16]), torch.Size([2, 20]))
    >>> sum(parameter.numel() for parameter in net.parameters())
    385892
    """

    def __init__(self, kinds: int = 20) -> None:
        super().__init__()
        stem, low, middle, high = WIDTHS
        self.stem = nn.Sequential(*convolution(3, stem, stride=2), nn.ReLU())
        self.blocks = nn.Sequential(
            Block(stem, low, stride=2),
            Block(low, middle, stride=2),
            Block(middle, high),
            Block(high, high),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(high, kinds)

    def maps(self, images: Images) -> Float[Tensor, "batch channel rows columns"]:
        """Return the last feature maps."""
        return self.blocks(self.stem(images))

    def forward(self, images: Images) -> Float[Tensor, "batch kind"]:
        """Return the logits of images that are normalised by ``MEAN`` and ``STD``."""
        return self.head(self.pool(self.maps(images)).flatten(1))


def normalised(images: Images) -> Images:
    """Return images in [0, 1] normalised by ``MEAN`` and ``STD``.

    >>> import torch
    >>> normalised(torch.full((1, 3, 1, 1), 0.63))[0, 0].item()
    0.0
    """
    mean, std = images.new_tensor(MEAN), images.new_tensor(STD)
    return (images - mean[:, None, None]) / std[:, None, None]
