"""Networks that have lost what they learnt: the weights of their last layers in random order.

Shuffling keeps every tensor's values and so their mean and spread, whatever the layer is; drawing weights anew, as
Adebayo et al. (2018) do, needs a rule for every kind of layer and lets the signal of a deep network fade. Batch
normalisation measures its statistics anew, on the pictures at hand and noise on them: with the old ones, of maps that
are no longer made, activations would grow or die from layer to layer.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saywhy.engine import tree
from saywhy.errors import ModelError, first_line

NOISE = 0.1
"""Of the picture's own deviation, beside the picture where statistics are measured."""


def shuffled(network: nn.Module, inputs: Any, share: float, seed: int = 0) -> nn.Module:
    """A copy, in evaluation mode, in which the last layers' weights are in random order.

    Args:
        network: stays as it is.
        inputs: what it is called with.
        share: of the layers that have weights, from the answer down: 1 is all of them.
        seed: of the order.

    Raises:
        ModelError: the network cannot be copied.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> other = shuffled(net, torch.rand(1, 8), 0.5)
    >>> bool((other[0].weight == net[0].weight).all()), bool((other[2].weight == net[2].weight).all())
    (True, False)
    """
    try:
        other = copy.deepcopy(network).eval().requires_grad_(False)
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied, so its weights cannot be shuffled for a test ({first_line(error)})."
        ) from error
    layers = [own for own in map(_weights, other.modules()) if own]
    chance = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    for own in reversed(layers[len(layers) - round(share * len(layers)) :]):
        for tensor in own:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                order = torch.randperm(tensor.numel(), generator=chance).to(tensor.device)
                tensor.data = tensor.data.flatten()[order].view_as(tensor)
    _measure_again(other, inputs, chance)
    return other


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """A layer's own weights, without those of its parts."""
    return list(module.parameters(recurse=False))


def _measure_again(network: nn.Module, inputs: Any, chance: torch.Generator) -> None:
    norms = list(_norms(network))
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    inputs = tree.escape_inference(inputs)
    picture = tree.picture_tensor(inputs)

    def doubled(tensor: Tensor) -> Tensor:
        if tensor is picture:
            noise = torch.randn(picture.shape, generator=chance).to(picture)
            return torch.cat([picture, picture + NOISE * picture.std() * noise])
        return torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == len(picture) else tensor

    with torch.inference_mode(False), torch.no_grad():
        tree.call(network, tree.map_tensors(inputs, doubled))
    network.eval()


def _norms(network: nn.Module) -> Iterator[_BatchNorm]:
    return (m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats)
