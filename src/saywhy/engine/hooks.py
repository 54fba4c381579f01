"""Forward hooks for a block, which see only the runs of the thread that registered them."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

Hook = Callable[..., Any]


@contextlib.contextmanager
def forward_hooks(modules: Iterable[nn.Module], hook: Hook, *, before: bool = False) -> Iterator[None]:
    """Register a hook on every module within the block; runs of the same modules in other threads do not call it.

    Args:
        modules: each gets the hook once.
        hook: takes the module, its arguments and its output, as for ``register_forward_hook``; without the output if
            ``before``.
        before: call the hook before the module, as ``register_forward_pre_hook`` does.

    >>> import torch
    >>> with forward_hooks([net := nn.Identity()], lambda module, args, output: output + 1):
    ...     net(torch.zeros(1))
    tensor([1.])
    """
    with contextlib.ExitStack() as stack:
        owned = of_this_thread(hook)
        for module in modules:
            register = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.callback(register(owned).remove)
        yield


def of_this_thread(hook: Hook) -> Hook:
    """The hook, which does nothing in other threads than the current one."""
    owner = threading.get_ident()

    def owned(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == owner else None

    return owned
