"""Networks on which packages are compared: random weights, small images, no head that is zero."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import saywhy
from oracles import ORACLES
from parity.peers import module
from saywhy import Layout


@dataclass(frozen=True)
class Case:
    """A network, a layer, images and the classes asked for.

    Attributes:
        name: of the architecture.
        network: in evaluation mode.
        layer: dotted name.
        inputs: [2, 3, height, width].
        layout: given, not proved: the weights are random and the grids small.
        reshape: from the layer's output to maps, for packages that have to be told; None for feature maps.
    """

    name: str
    network: nn.Module
    layer: str
    inputs: Tensor
    layout: Layout
    reshape: Callable[[Tensor], Tensor] | None = None
    classes: tuple[int, ...] = (3, 7)

    def sample(self, index: int) -> "Case":
        """One of the images by itself."""
        return replace(self, inputs=self.inputs[index : index + 1], classes=(self.classes[index],))

    def double(self) -> "Case":
        """The same in float64."""
        return replace(self, network=copy.deepcopy(self.network).double(), inputs=self.inputs.double())

    def maps(self, method: str, **parameters: Any) -> Tensor:
        """Our maps [2, height, width] of this network, each image for its own class."""
        wanted = torch.tensor(self.classes)
        found = saywhy.explain(self.network, self.inputs, wanted, method, self.layer, layout=self.layout, **parameters)
        return found.maps[:, 0]

    def captured(self) -> tuple[Tensor, Tensor]:
        """Activations and gradients [2, channel, height, width] of this network at this layer."""
        wanted = torch.tensor(self.classes)
        found = saywhy.capture(self.network, self.inputs, wanted, self.layer, layout=self.layout)
        return found.activations[self.layer], found.gradients()[self.layer][:, 0]


def _grid(tokens: Tensor) -> Tensor:
    """Tokens [batch, 1 + side * side, channel] as maps, without the class token."""
    side = int((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


def _torchvision(name: str, layer: str, grid: tuple[int, int], side: int) -> Callable[[], Case]:
    def build() -> Case:
        from torchvision import models

        network = models.get_model(name, weights=None, num_classes=10)
        return Case(name, network, layer, torch.randn(2, 3, side, side), Layout("channels-first", grid))

    return build


def _vit() -> Case:
    from torchvision.models import VisionTransformer

    network = VisionTransformer(64, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)
    layer, layout = "encoder.layers.encoder_layer_1.ln_1", Layout("tokens", (4, 4), prefix=1)
    return Case("torchvision's ViT, small", network, layer, torch.randn(2, 3, 64, 64), layout, _grid)


def _timm_vit() -> Case:
    network = module("timm").create_model(
        "vit_tiny_patch16_224", img_size=64, depth=3, embed_dim=48, num_heads=3, num_classes=10
    )
    layout = Layout("tokens", (4, 4), prefix=1)
    return Case("timm's ViT, small", network, "blocks.2.norm1", torch.randn(2, 3, 64, 64), layout, _grid)


def _unpooled() -> Case:
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 10)
    )
    return Case("unpooled", network, "1", torch.randn(2, 3, 12, 12), Layout("channels-first", (12, 12)))


_BUILDERS: dict[str, Callable[[], Case]] = {
    "resnet18": _torchvision("resnet18", "layer4", (3, 3), 96),
    "squeezenet1_0": _torchvision("squeezenet1_0", "features", (3, 3), 63),
    "mobilenet_v2": _torchvision("mobilenet_v2", "features", (3, 3), 96),
    "mnasnet0_5": _torchvision("mnasnet0_5", "layers", (3, 3), 96),
    "shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5", "conv5", (3, 3), 96),
    "vit (torchvision)": _vit,
    "vit (timm)": _timm_vit,
    "unpooled": _unpooled,  # its maps are of the image's own size, so that nobody has to upsample them
}

CONVOLUTIONAL = ("resnet18", "squeezenet1_0", "mobilenet_v2")
TRANSFORMERS = ("vit (torchvision)", "vit (timm)")
CASES = (*CONVOLUTIONAL, *TRANSFORMERS)


@functools.cache
def build(name: str) -> Case:
    """One of ``CASES``, seeded, with the head filled if it starts at zero, asked for the answers that it gives."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        case = _BUILDERS[name]()
        for parameter in case.network.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(0, 0.05)
        # Untrained batch norm lets activations fade to 1e-6 from layer to layer; measured statistics keep them at 1.
        for part in case.network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        case.network.train()(torch.randn(4, *case.inputs.shape[1:]))
        case.network.eval()
        return replace(case, classes=tuple(case.network(case.inputs).argmax(1).tolist()))


def scaled(case: Case, head: float) -> Case:
    """The same case with the weights of its head in other units."""
    network = copy.deepcopy(case.network)
    with torch.no_grad():
        [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1].weight.mul_(head)
    return replace(case, network=network)


def unit(maps: Tensor) -> Tensor:
    """Every map [height, width] divided by its largest magnitude; zero stays zero."""
    largest = maps.double().abs().flatten(1).amax(1)[:, None, None]
    return maps.double() / torch.where(largest > 0, largest, 1.0)


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of two maps, each divided by its own maximum."""
    assert one.shape == other.shape
    return float((unit(one) - unit(other)).abs().max())


def equation(case: Case, method: str) -> Tensor:
    """The published equation in float64 loops, of a network's activations and gradients."""
    A, G = (t.double().numpy() for t in case.captured())
    return torch.from_numpy(np.stack([ORACLES[method](a, g) for a, g in zip(A, G, strict=True)]))


def assert_same(ours: Tensor, theirs: Tensor, rtol: float = 1e-4) -> None:
    """The same raw values, and a map that shows something."""
    theirs = theirs.detach()
    assert ours.shape == theirs.shape
    largest = float(theirs.abs().max())
    assert largest > 0
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * largest)
