"""A network whose first layer undoes a constant shift of the image."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.preserve import preserve_state
from saywhy.errors import ModelError, first_line


@contextlib.contextmanager
def undoing_shift(network: nn.Module, offset: Tensor) -> Iterator[nn.Module]:
    """For the length of the block, a network ``f'(x) = f(x - offset)`` whose layers are those of ``network``.

    It shares every layer and every weight with the network, and has a hook of its own where it is called. Of several
    inputs only the image is moved. While the block lasts the network is borrowed too, because its layers are in use.

    Args:
        network: stays as it is.
        offset: what is taken off the image, one number.

    Raises:
        ModelError: the network cannot be copied, or is scripted.

    >>> with undoing_shift(nn.Identity(), torch.tensor(3.0)) as other:
    ...     other(torch.full((1, 2, 2), 5.0)).mean()
    tensor(2.)
    """

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        image = tree.image_tensor((args, kwargs))
        return tree.replace_tensor((args, kwargs), image, image - offset)

    with preserve_state(network):
        other = _twin(network)
        handle = other.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
        try:
            yield other
        finally:
            handle.remove()


def _twin(network: nn.Module) -> nn.Module:
    """Another module with the same layers, and hooks of its own where it is called."""
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            "a scripted or traced network takes no hooks, so it cannot be given another zero for a test. Give the "
            "network that it was made of."
        )
    try:
        other = copy.copy(network)
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied, so it cannot be given another zero for a test ({first_line(error)})."
        ) from error
    other._forward_pre_hooks = copy.copy(network._forward_pre_hooks)
    other._forward_pre_hooks_with_kwargs = copy.copy(network._forward_pre_hooks_with_kwargs)
    return other
