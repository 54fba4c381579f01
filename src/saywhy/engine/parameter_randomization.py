"""Cascading parameter randomization: copies of a network whose last layers' weights are shuffled.

Shuffling keeps the values of every tensor, and so their mean and variance, whatever the layer is. Drawing new weights,
as Adebayo et al. (2018) do, needs a rule for every kind of layer and lets the signal of a deep network fade. Batch
normalisations after the first shuffled layer recompute their statistics on the given images and noisy copies of them:
with the old statistics activations would grow or vanish from layer to layer.

The order of the layers is found by running the network, because it may name its parts in any order.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from saywhy.engine import tree
from saywhy.engine.copies import copied
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import ModelError, first_line
from saywhy.validation import real_number

NOISE = 0.1
"""Standard deviation of the noise on the copies for batch statistics, as a share of the image's standard deviation."""


def randomized(network: nn.Module, inputs: Any, share: float, seed: int = 0) -> nn.Module:
    """A copy in evaluation mode in which the last layers' weights are shuffled.

    A layer is a module with weights of its own; weights that several layers share are shuffled with the last of them.

    Args:
        network: the network; it is not changed.
        inputs: the inputs it is called with.
        share: share of the layers that is randomized, from the output down, at least one layer; 1 is all of them.
        seed: seed of the shuffling. The same seed shuffles the last layers in the same way, whatever the share.

    Raises:
        InputError: ``share`` is not in (0, 1].
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
    """Randomized copies for growing shares of layers; each copy keeps the shuffled weights of the one before.

    Args, errors: as for :func:`randomized`; ``shares`` must not decrease.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> stages = cascading_randomization(net, torch.rand(1, 3, 8), [0.5, 1])
    >>> [bool((n[0].weight == net[0].weight).all()) for n in stages]
    [True, False]
    """
    for share in shares:
        real_number("share of the layers", share, above=0, high=1)
    inputs = tree.escape_inference(inputs)
    other, generator, done = _copy(network), torch.Generator().manual_seed(seed), 0
    layers = _layers_from_output(other, inputs, seed)
    norms = {name for name, part in other.named_modules() if isinstance(part, _BatchNorm) and part.track_running_stats}
    with_weights = [layer for layer in layers if layer.weights]
    for share in shares:
        wanted = max(1, round(share * len(with_weights)))
        if done:
            other = _copy(other)  # the copy before belongs to the caller
        _shuffle(other, [name for layer in with_weights[done:wanted] for name in layer.weights], generator)
        behind = layers[: layers.index(with_weights[wanted - 1]) + 1] if with_weights else []
        _recompute_batch_statistics(
            other, [layer.name for layer in behind if layer.name in norms], inputs, generator, seed
        )
        done = wanted
        yield other


class _Layer(NamedTuple):
    """A part of a network, with the names of the weights that are its own."""

    name: str
    weights: tuple[str, ...]


@torch.inference_mode(False)
@torch.no_grad()
def _shuffle(network: nn.Module, names: Sequence[str], generator: torch.Generator) -> None:
    """Shuffle the values of some weights."""
    weights = dict(network.named_parameters())
    for name in names:
        order = torch.randperm(weights[name].numel(), generator=generator).to(weights[name].device)
        weights[name].data = weights[name].data.flatten()[order].view_as(weights[name])


def _copy(network: nn.Module) -> nn.Module:
    other = copied(network, "its weights cannot be shuffled for parameter randomization").eval()
    for weight in other.parameters():  # one by one: a scripted network takes no requires_grad_ as a whole
        weight.requires_grad_(False)
    return other


def _layers_from_output(network: nn.Module, inputs: Any, seed: int) -> list[_Layer]:
    """All layers in reverse order of their first call.

    A layer that is never called, because the module around it uses its weights, takes that module's position. Weights
    that several layers share are listed once, for the first layer in this list.
    """
    first_call: dict[str, int] = {}

    def record(module: nn.Module, _args: Any) -> None:
        first_call.setdefault(names[module], len(first_call))

    parts = dict(network.named_modules())
    names = {part: name for name, part in parts.items()}
    hookable = [part for part in parts.values() if not isinstance(part, torch.jit.ScriptModule)]
    # exclusive_run, so that random operations of the network do not advance the caller's random state.
    with (
        exclusive_run(network, evaluate=False, seed=seed),
        torch.inference_mode(False),
        torch.no_grad(),
        forward_hooks(hookable, record, before=True),
    ):
        _run(network, tree.select(inputs, torch.tensor([0], device=tree.image_tensor(inputs).device)))

    def position(name: str) -> int:
        while name and name not in first_call:
            name = name.rpartition(".")[0]
        return first_call.get(name, 0)

    unassigned = {id(weight): name for name, weight in network.named_parameters()}
    return [
        _Layer(name, tuple(unassigned.pop(id(w)) for w in parts[name].parameters(recurse=False) if id(w) in unassigned))
        for name in sorted(parts, key=position)[::-1]
    ]


def _recompute_batch_statistics(
    network: nn.Module, names: Sequence[str], inputs: Any, generator: torch.Generator, seed: int
) -> None:
    """Recompute statistics of batch normalisations on the images and on noisy copies of them."""
    if not names:
        return
    for name in names:
        norm: Any = network.get_submodule(name)
        norm.momentum = 1.0
        norm.train()
    image = tree.image_tensor(inputs)
    generator = generator.clone_state()  # so that later shuffles do not depend on the noise

    def with_noisy_copy(tensor: Tensor) -> Tensor:
        if tensor is image:
            noise = torch.randn(image.shape, generator=generator).to(image)
            return torch.cat([image, image + NOISE * image.std() * noise])
        return torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == len(image) else tensor

    with exclusive_run(network, evaluate=False, seed=seed), torch.inference_mode(False), torch.no_grad():
        _run(network, tree.map_tensors(inputs, with_noisy_copy))
    network.eval()


def _run(network: nn.Module, inputs: Any) -> None:
    try:
        tree.call(network, inputs)
    except tree.CallFailed as failed:
        error = failed.__cause__ or failed
        raise ModelError(
            "the network with randomized parameters does not run on a batch of another size "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error
