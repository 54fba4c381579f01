"""A network whose first layer undoes a constant shift of the picture."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from saywhy.engine import tree


@contextlib.contextmanager
def undoing_shift(network: nn.Module, inputs: Any, offset: Tensor) -> Iterator[nn.Module]:
    """For the length of the block, a network ``f'(x) = f(x - offset)`` whose layers are those of ``network``.

    It shares every layer and every weight with the network, and has a hook of its own where it is called.

    >>> import torch
    >>> with undoing_shift(nn.Identity(), torch.zeros(1, 2, 2), torch.tensor(3.0)) as other:
    ...     other(torch.full((1, 2, 2), 5.0)).mean()
    tensor(2.)
    """
    shape = tree.picture_tensor(inputs).shape[1:]

    def undo(tensor: Tensor) -> Tensor:
        return tensor - offset if tensor.is_floating_point() and tensor.shape[1:] == shape else tensor

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        return tree.map_tensors(args, undo), tree.map_tensors(kwargs, undo)

    other = copy.copy(network)
    other._forward_pre_hooks = copy.copy(network._forward_pre_hooks)
    other._forward_pre_hooks_with_kwargs = copy.copy(network._forward_pre_hooks_with_kwargs)
    handle = other.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
    try:
        yield other
    finally:
        handle.remove()
