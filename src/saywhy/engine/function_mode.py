"""A torch function mode that an interrupt cannot displace."""

from typing import Any

from torch.overrides import TorchFunctionMode, _get_current_function_mode


class FunctionMode(TorchFunctionMode):
    """The base of our modes over torch's functions: its end removes this mode and no other.

    Functions of torch that are written in Python take the mode off the stack while it works. An interrupt (Ctrl-C) in
    the instruction before it is put back leaves it off; the end of ``TorchFunctionMode`` would then remove the mode
    around it, or fail where there is none.

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
        if _get_current_function_mode() is self:
            super().__exit__(*error)
