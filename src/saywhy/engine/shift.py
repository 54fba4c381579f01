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
    """Within the block, a network ``f'(x) = f(x - offset)`` whose layers are those of ``network``.

    It shares every layer and every weight with the network, and has its own forward pre-hook. Of several inputs only
    the image is shifted. The state of the network is preserved during the block, because its layers are in use.

    Args:
        network: the network; it is not changed.
        offset: subtracted from the image, one number.

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
        other = _shallow_copy(network)
        handle = other.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
        try:
            yield other
        finally:
            handle.remove()


def _shallow_copy(network: nn.Module) -> nn.Module:
    """A shallow copy: another module with the same layers and its own forward pre-hooks."""
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            "a scripted or traced network takes no hooks, so its input cannot be shifted for a test. Give the network "
            "before scripting."
        )
    try:
        other = copy.copy(network)
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied, so its input cannot be shifted for a test ({first_line(error)})."
        ) from error
    other._forward_pre_hooks = copy.copy(network._forward_pre_hooks)
    other._forward_pre_hooks_with_kwargs = copy.copy(network._forward_pre_hooks_with_kwargs)
    return other
