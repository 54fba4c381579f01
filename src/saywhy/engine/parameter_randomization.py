"""Networks that have lost what they learnt: the weights of their last layers in random order.

Shuffling keeps every tensor's values and so their mean and spread, whatever the layer is; drawing weights anew, as
Adebayo et al. (2018) do, needs a rule for every kind of layer and lets the signal of a deep network fade. Batch
normalisation behind the first layer that is shuffled measures its statistics anew, on the images at hand and noise on
them: with the old ones, of maps that are no longer made, activations would grow or die from layer to layer.

Which layers are the last is found by running: a network may name its parts in any order.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saywhy.engine import tree
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError, ModelError, first_line

NOISE = 0.1
"""Of the image's own deviation, beside the image where statistics are measured."""


def randomized(network: nn.Module, inputs: Any, share: float, seed: int = 0) -> nn.Module:
    """A copy, in evaluation mode, in which the last layers' weights are in random order.

    A layer is what has weights of its own; weights that several layers share are shuffled with the last of these.

    Args:
        network: stays as it is.
        inputs: what it is called with.
        share: of the layers, from the answer down, but at least one: 1 is all of them.
        seed: of the order. The same seed shuffles the last layers in the same way, whatever the share.

    Raises:
        InputError: ``share`` does not lie above 0 and up to 1.
        ModelError: the network cannot be copied, or the copy does not run on several images.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> other = randomized(net, torch.rand(1, 3, 8), 0.5)
    >>> bool((other[0].weight == net[0].weight).all()), bool((other[2].weight == net[2].weight).all())
    (True, False)
    """
    return next(cascading_randomization(network, inputs, [share], seed))


def cascading_randomization(
    network: nn.Module, inputs: Any, shares: Sequence[float], seed: int = 0
) -> Iterator[nn.Module]:
    """The same for growing shares, one copy after the other; what was shuffled before stays in its order.

    Args, errors: as for :func:`randomized`; ``shares`` do not become smaller.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> stages = cascading_randomization(net, torch.rand(1, 3, 8), [0.5, 1])
    >>> [bool((n[0].weight == net[0].weight).all()) for n in stages]
    [True, False]
    """
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(f"share of the layers must lie above 0 and up to 1, got {share!r}.")
    inputs = tree.escape_inference(inputs)
    other, generator, done = _copied(network), torch.Generator().manual_seed(seed), 0
    layers = _from_the_answer(other, inputs, seed)
    norms = {name for name, part in other.named_modules() if isinstance(part, _BatchNorm) and part.track_running_stats}
    with_weights = [layer for layer in layers if layer.weights]
    for share in shares:
        wanted = max(1, round(share * len(with_weights)))
        if done:
            other = _copied(other)  # the one before is the caller's
        _shuffle(other, [name for layer in with_weights[done:wanted] for name in layer.weights], generator)
        behind = layers[: layers.index(with_weights[wanted - 1]) + 1] if with_weights else []
        _measure_again(other, [layer.name for layer in behind if layer.name in norms], inputs, generator, seed)
        done = wanted
        yield other


class _Layer(NamedTuple):
    """A part of a network, with the names of the weights that are its own."""

    name: str
    weights: tuple[str, ...]


@torch.inference_mode(False)
@torch.no_grad()
def _shuffle(network: nn.Module, names: Sequence[str], generator: torch.Generator) -> None:
    """Bring the values of some weights into random order."""
    weights = dict(network.named_parameters())
    for name in names:
        order = torch.randperm(weights[name].numel(), generator=generator).to(weights[name].device)
        weights[name].data = weights[name].data.flatten()[order].view_as(weights[name])


def _copied(network: nn.Module) -> nn.Module:
    try:
        with torch.inference_mode(False), torch.no_grad():
            other = copy.deepcopy(network).eval()
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied, so its weights cannot be shuffled for a test ({first_line(error)})."
        ) from error
    for weight in other.parameters():  # one by one: a scripted network takes no requires_grad_ as a whole
        weight.requires_grad_(False)
    return other


@torch.inference_mode(False)
@torch.no_grad()
def _from_the_answer(network: nn.Module, inputs: Any, seed: int) -> list[_Layer]:
    """All layers, those that first run last being first.

    Where a layer's weights are used by the one round it, which never calls it, it stands where that one does. Weights
    that several layers share are named once, for the first in this list.
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
        with preserve_state(
            network, evaluate=False, seed=seed
        ):  # a network that draws numbers must not draw the caller's
            _run(network, tree.select(inputs, torch.tensor([0], device=tree.image_tensor(inputs).device)))
    finally:
        for handle in handles:
            handle.remove()

    def place(name: str) -> int:
        while name and name not in begun:
            name = name.rpartition(".")[0]
        return begun.get(name, 0)

    left = {id(weight): name for name, weight in network.named_parameters()}
    return [
        _Layer(name, tuple(left.pop(id(w)) for w in parts[name].parameters(recurse=False) if id(w) in left))
        for name in sorted(parts, key=place)[::-1]
    ]


@torch.inference_mode(False)
@torch.no_grad()
def _measure_again(
    network: nn.Module, names: Sequence[str], inputs: Any, generator: torch.Generator, seed: int
) -> None:
    """Statistics of batch normalisations, of the images and of noisy copies of them."""
    if not names:
        return
    for name in names:
        norm: Any = network.get_submodule(name)
        norm.momentum = 1.0
        norm.train()
    image = tree.image_tensor(inputs)
    generator = generator.clone_state()  # what is shuffled next does not hang on the noise

    def doubled(tensor: Tensor) -> Tensor:
        if tensor is image:
            noise = torch.randn(image.shape, generator=generator).to(image)
            return torch.cat([image, image + NOISE * image.std() * noise])
        return torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == len(image) else tensor

    with preserve_state(network, evaluate=False, seed=seed):
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
