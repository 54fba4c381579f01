"""Networks that have lost what they learnt: the weights of their last layers in random order.

Shuffling keeps every tensor's values and so their mean and spread, whatever the layer is; drawing weights anew, as
Adebayo et al. (2018) do, needs a rule for every kind of layer and lets the signal of a deep network fade. Batch
normalisation measures its statistics anew, on the pictures at hand and noise on them: with the old ones, of maps that
are no longer made, activations would grow or die from layer to layer.

Which layers are the last is found by running: a network may name its parts in any order.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saywhy.engine import tree
from saywhy.engine.borrow import borrowed
from saywhy.errors import InputError, ModelError, first_line

NOISE = 0.1
"""Of the picture's own deviation, beside the picture where statistics are measured."""


def shuffled(network: nn.Module, inputs: Any, share: float, seed: int = 0) -> nn.Module:
    """A copy, in evaluation mode, in which the last layers' weights are in random order.

    A layer is what has weights of its own; weights that several layers share are shuffled with the last of these.

    Args:
        network: stays as it is.
        inputs: what it is called with.
        share: of the layers, from the answer down, but at least one: 1 is all of them.
        seed: of the order. The same seed shuffles the last layers in the same way, whatever the share.

    Raises:
        InputError: ``share`` does not lie above 0 and up to 1.
        ModelError: the network cannot be copied, or the copy does not run on several pictures.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> other = shuffled(net, torch.rand(1, 3, 8), 0.5)
    >>> bool((other[0].weight == net[0].weight).all()), bool((other[2].weight == net[2].weight).all())
    (True, False)
    """
    if not 0 < share <= 1:
        raise InputError(f"share of the layers must lie above 0 and up to 1, got {share!r}.")
    inputs = tree.escape_inference(inputs)
    with torch.inference_mode(False), torch.no_grad():
        other = _copied(network)
        with borrowed(other, evaluate=False, seed=seed):  # a network that draws numbers must not draw the caller's
            layers = _in_order(other, inputs)
            chance = torch.Generator().manual_seed(seed)
            seen: set[int] = set()
            for layer in reversed(layers[len(layers) - max(1, round(share * len(layers))) :]):
                for tensor in layer.parameters(recurse=False):
                    if id(tensor) not in seen:
                        seen.add(id(tensor))
                        order = torch.randperm(tensor.numel(), generator=chance).to(tensor.device)
                        tensor.data = tensor.data.flatten()[order].view_as(tensor)
            _measure_again(other, inputs, chance)
    return other


def _copied(network: nn.Module) -> nn.Module:
    try:
        other = copy.deepcopy(network).eval()
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied, so its weights cannot be shuffled for a test ({first_line(error)})."
        ) from error
    for weight in other.parameters():  # one by one: a scripted network takes no requires_grad_ as a whole
        weight.requires_grad_(False)
    return other


def _in_order(network: nn.Module, inputs: Any) -> list[nn.Module]:
    """The layers that have weights, in the order in which they first run.

    Where a layer's weights are used by the one round it, which never calls it, it stands where that one does.
    """
    begun: dict[str, int] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            begun.setdefault(name, len(begun))

        return note

    parts = dict(network.named_modules())
    heard = [(name, part) for name, part in parts.items() if not isinstance(part, torch.jit.ScriptModule)]
    handles = [part.register_forward_pre_hook(noting(name)) for name, part in heard]
    try:
        _run(network, tree.select(inputs, torch.tensor([0], device=tree.picture_tensor(inputs).device)))
    finally:
        for handle in handles:
            handle.remove()

    def place(name: str) -> int:
        while name and name not in begun:
            name = name.rpartition(".")[0]
        return begun.get(name, 0)

    own = [name for name, part in parts.items() if any(True for _ in part.parameters(recurse=False))]
    return [parts[name] for name in sorted(own, key=place)]


def _measure_again(network: nn.Module, inputs: Any, chance: torch.Generator) -> None:
    """Statistics of batch normalisation, of the pictures and of noisy copies of them."""
    norms = list(_norms(network))
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    picture = tree.picture_tensor(inputs)

    def doubled(tensor: Tensor) -> Tensor:
        if tensor is picture:
            noise = torch.randn(picture.shape, generator=chance).to(picture)
            return torch.cat([picture, picture + NOISE * picture.std() * noise])
        return torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == len(picture) else tensor

    _run(network, tree.map_tensors(inputs, doubled))
    network.eval()


def _run(network: nn.Module, inputs: Any) -> None:
    try:
        tree.call(network, inputs)
    except tree.CallFailed as failed:
        error = failed.__cause__ or failed
        raise ModelError(
            "the network whose weights are shuffled for a test does not run on a batch of another size "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


def _norms(network: nn.Module) -> Iterator[_BatchNorm]:
    return (m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats)
