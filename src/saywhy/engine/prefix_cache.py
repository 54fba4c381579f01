"""The prefix cache: the operations before a layer are computed once, however often the rest of the network is run.

A network is one function that cannot be entered in the middle. So it runs from the start, but every operation before
the layer returns its recorded result without computing anything.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from saywhy.engine import traverse, tree
from saywhy.errors import SaywhyError


class PrefixDiverged(SaywhyError):
    """The operations differ from those recorded; the caller has to compute the prefix again."""


class PrefixCache(TorchDispatchMode):
    """A mode that records operations up to :meth:`reached` the first time, and returns their results later.

    It keeps the results of one sample. They are invalid once an operation after the layer writes into one of them; see
    :meth:`intact`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any]] = []
        self._versions: list[int] = []
        self._recorded = False
        self._next: int | None = 0

    def __enter__(self) -> "PrefixCache":
        self._next = 0
        super().__enter__()
        return self

    def reached(self) -> None:
        """Mark that the layer has run; operations from here on are computed."""
        if self._next is None:
            return
        if self._recorded and self._next != len(self._operations):
            raise PrefixDiverged("the network reached the layer after fewer operations than before")
        self._recorded = True
        self._next = None
        # In-place operations increase the version even where their results are replayed.
        self._versions = self._current_versions()

    def intact(self) -> bool:
        """Whether no recorded result was written to since."""
        return self._recorded and self._versions == self._current_versions()

    def _current_versions(self) -> list[int]:
        return [-1 if t.is_inference() else t._version for _, result in self._operations for t in tree.tensors(result)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._next is None:
            return func(*args, **(kwargs or {}))
        if not self._recorded:
            result = func(*args, **(kwargs or {}))
            self._operations.append((func, result))
            return result
        if self._next == len(self._operations) or self._operations[self._next][0] is not func:
            raise PrefixDiverged("the network called other operations before the layer")
        self._next += 1
        result = self._operations[self._next - 1][1]
        # A view holds its base already, and torch cannot set it twice.
        return tree.map_tensors(result, Tensor.detach) if func.is_view else result


def can_cache_prefix(model: nn.Module, inputs: Any) -> bool:
    """Whether the operations of a model can be recorded; those of scripted and compiled modules cannot."""
    if any(isinstance(m, torch.jit.ScriptModule) or hasattr(m, "_orig_mod") for m in traverse.modules(model)):
        return False
    return all(type(t) is Tensor for t in tree.tensors(inputs))
