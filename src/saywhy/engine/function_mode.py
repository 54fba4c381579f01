"""A torch function mode that an interrupt cannot displace."""

import traceback
from typing import Any

from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)


class FunctionMode(TorchFunctionMode):
    """The base of our modes over torch's functions: its end removes this mode and no other.

    Functions of torch that are written in Python take the mode off the stack while it works, in a generator. After an
    interrupt (Ctrl-C) at its first instruction nothing ends that generator but the deletion of its frame, with the
    traceback: the mode is then off the stack at its own end, where ``TorchFunctionMode`` would remove the mode around
    it or fail, and is put back later, for good. Here the end of an interrupted block deletes those frames first.

    >>> import torch
    >>> class Doubled(FunctionMode):
    ...     def __torch_function__(self, func, types, args=(), kwargs=None):
    ...         return 2 * func(*args, **(kwargs or {}))
    >>> x = torch.tensor([-1.0, 3.0])
    >>> with Doubled():
    ...     y = torch.relu(x)
    >>> y
    tensor([0., 6.])
    """

    def __exit__(self, *error: Any) -> None:
        if _get_current_function_mode() is not self and error[2] is not None:
            traceback.clear_frames(error[2])
        if self in _get_current_function_mode_stack():
            above = []
            while (mode := _pop_mode()) is not self:
                above.append(mode)
            for mode in reversed(above):
                _push_mode(mode)
