"""A network for oracles: one image in, numbers out; torch only runs and differentiates it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray


@dataclass(frozen=True)
class Observed:
    """A network in float64, a layer of it and a score.

    Attributes:
        network: in evaluation mode.
        layer: the module whose output is the map.
        score: from the network's output for one sample [1, class] to one number.
    """

    network: nn.Module
    layer: nn.Module
    score: Callable[[Tensor], Tensor]

    def output(self, image: Array) -> Array:
        """The network's output for one image, [class]."""
        with torch.no_grad():
            return self.network(torch.from_numpy(image)[None])[0].numpy()

    def value(self, image: Array) -> float:
        """The score of one image."""
        with torch.no_grad():
            return float(self.score(self.network(torch.from_numpy(image)[None])))

    def at_layer(self, image: Array) -> tuple[Array, Array, float]:
        """Activations and gradients of the layer, [channel, *space], and the score."""
        kept: list[Tensor] = []
        handle = self.layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            y = self.score(self.network(torch.from_numpy(image)[None].requires_grad_()))
        finally:
            handle.remove()
        (gradient,) = torch.autograd.grad(y.sum(), kept[0])
        return kept[0].detach()[0].numpy(), gradient[0].numpy(), float(y.detach())

    def at_image(self, image: Array) -> tuple[Array, Array, float]:
        """The image itself, the gradient of the score with respect to it, and the score."""
        x = torch.from_numpy(image)[None].requires_grad_()
        y = self.score(self.network(x))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        return image, gradient[0].numpy(), float(y.detach())

    def with_layer(self, image: Array, activations: Array) -> float:
        """The score when the layer gives something else, [channel, *space]."""
        handle = self.layer.register_forward_hook(lambda _m, _i, _o: torch.from_numpy(activations)[None])
        try:
            return self.value(image)
        finally:
            handle.remove()

    def curvature(self, image: Array) -> tuple[Array, Array, Array]:
        """Activations and gradients of the layer, and all second derivatives [channel, *space, channel, *space]."""
        kept: list[Tensor] = []
        handle = self.layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
        try:
            y = self.score(self.network(torch.from_numpy(image)[None].requires_grad_()))
        finally:
            handle.remove()
        (gradient,) = torch.autograd.grad(y.sum(), kept[0], create_graph=True)
        rows = [torch.autograd.grad(g, kept[0], retain_graph=True)[0][0].numpy() for g in gradient.flatten()]
        shape = tuple(gradient.shape[1:])
        return kept[0].detach()[0].numpy(), gradient.detach()[0].numpy(), np.stack(rows).reshape(*shape, *shape)
