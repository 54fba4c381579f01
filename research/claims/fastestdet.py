"""A user's own detector: FastestDet for COCO (0.25 M weights), written after its description in ``shared/real``.

It is a model file too: ``saywhy count photo.jpg -m research/claims/fastestdet.py:network --weights FILE`` counts all
boxes from one score on; ``saywhy.tasks.counting.detect_counter.tuned_detect_counter`` tunes thresholds on photographs.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.models import Model, Preprocess
from saywhy.models.weights import load_weights

SIDE = 352
"""Pixels of the input's sides."""


def conv(inside: int, outside: int, size: int, stride: int = 1, depthwise: bool = False) -> list[nn.Module]:
    """Return a convolution without bias, and its batch norm."""
    groups = inside if depthwise else 1
    made = nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False)
    return [made, nn.BatchNorm2d(outside)]


class Unit(nn.Module):
    """A unit of ShuffleNetV2 (Ma et al., 2018): of stride 2 both branches read all channels, else every second one."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half, read = outside // 2, inside if stride == 2 else inside // 2
        made = outside - inside if stride == 2 else half
        self.branch_main = nn.Sequential(
            *conv(read, half, 1), nn.ReLU(), *conv(half, half, 3, stride, True), *conv(half, made, 1), nn.ReLU()
        )
        if stride == 2:
            self.branch_proj = nn.Sequential(*conv(inside, inside, 3, 2, True), *conv(inside, inside, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], 1)


class Backbone(nn.Module):
    """Three stages of 48, 96 and 192 channels, at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*conv(3, 24, 3, 2), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        inside = 24
        for name, outside, units in (("stage2", 48, 4), ("stage3", 96, 8), ("stage4", 192, 4)):
            stage = [Unit(inside, outside, 2), *(Unit(outside, outside, 1) for _ in range(units - 1))]
            self.add_module(name, nn.Sequential(*stage))
            inside = outside

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.pool(self.first_conv(x)), []
        for name in ("stage2", "stage3", "stage4"):
            x = self.get_submodule(name)(x)
            found.append(x)
        return found


class OneByOne(nn.Module):
    """A 1 x 1 convolution with its norm and ReLU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(*conv(inside, outside, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv1x1(x)
        return found


class Pyramid(nn.Module):
    """Receptive fields of one, two and three depthwise convolutions, side by side."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.Conv1x1 = OneByOne(inside, outside)
        for times in (1, 2, 3):
            parts = [part for _ in range(times) for part in (*conv(outside, outside, 5, 1, True), nn.ReLU())]
            self.add_module(f"S{times}", nn.Sequential(*parts))
        self.output = nn.Sequential(*conv(3 * outside, outside, 1))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv1x1(x)
        sides = torch.cat([self.get_submodule(f"S{times}")(x) for times in (1, 2, 3)], 1)
        found: Tensor = self.relu(x + self.output(sides))
        return found


class Branch(nn.Module):
    """One of the head's three branches."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(*conv(inside, inside, 5, 1, True), nn.ReLU(), *conv(inside, outside, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv5x5(x)
        return found


class Head(nn.Module):
    """Objectness, box and classes of every cell."""

    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.conv1x1 = OneByOne(inside, inside)
        self.obj_layers, self.reg_layers = Branch(inside, 1), Branch(inside, 4)
        self.cls_layers = Branch(inside, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.conv1x1(x)
        return self.obj_layers(x).sigmoid(), self.reg_layers(x), self.cls_layers(x).softmax(1)


class FastestDet(nn.Module):
    """From images [batch, 3, 352, 352], RGB in 0 to 1, to boxes, scores and labels of all 484 cells of each image.

    Nothing is dropped: thresholds and suppression are those of the counter.
    """

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.SPP = Pyramid(336, 96)
        self.detect_head = Head(96, classes)

    def forward(self, image: Tensor) -> list[dict[str, Tensor]]:
        second, third, fourth = self.backbone(image.flip(1))  # the weights are those of BGR
        pooled = F.avg_pool2d(second, 3, 2, 1)
        neck = torch.cat([pooled, third, F.interpolate(fourth, scale_factor=2)], 1)
        objectness, place, classes = self.detect_head(self.SPP(neck))
        best, labels = classes.flatten(2).max(1)
        scores = objectness.flatten(1) ** 0.6 * best**0.4
        boxes = boxes_of(place, image.shape[2], image.shape[3])
        return [{"boxes": b, "scores": s, "labels": n} for b, s, n in zip(boxes, scores, labels, strict=True)]


def boxes_of(place: Tensor, height: int, width: int) -> Tensor:
    """Return the boxes [batch, cell, 4] of every cell, in pixels of the input.

    >>> boxes_of(torch.zeros(1, 4, 1, 1), 10, 20)
    tensor([[[-5.0000, -2.5000,  5.0000,  2.5000]]])
    """
    rows, columns = place.shape[2:]
    x = (place[:, 0].tanh() + torch.arange(columns)) / columns
    y = (place[:, 1].tanh() + torch.arange(rows).unsqueeze(1)) / rows
    w, h = place[:, 2].sigmoid(), place[:, 3].sigmoid()
    edges = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 3).flatten(1, 2)
    return edges * torch.tensor([width, height, width, height]).to(edges)


def labels() -> tuple[str, ...]:
    """Return the 80 classes of COCO in the order of their ids."""
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights

    return tuple(name for name in Weights.COCO_V1.meta["categories"] if name not in ("__background__", "N/A"))


def network() -> Model:
    """Return the detector with random weights, as a model."""
    whole = Preprocess((SIDE, SIDE), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Model(FastestDet().eval(), "fastestdet", whole, labels(), layer="SPP")


def detector(weights: Path) -> Model:
    """Return the trained detector.

    Args:
        weights: ``shared/real/coco/fastestdet.safetensors``.
    """
    model = network()
    load_weights(model.module, weights)
    return model
