"""What comes before a layer is computed once, however often the network is run from the layer on.

A network is one function; nobody can enter it in the middle. So it runs from the start, but every operation before the
layer gives what it gave the first time, without computing anything.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from saywhy.engine import traverse, tree
from saywhy.errors import SaywhyError


class PrefixDiverged(SaywhyError):
    """The network did not do the same as the first time; whoever runs it goes back to computing the stem."""


class PrefixCache(TorchDispatchMode):
    """Within its block, operations up to :meth:`reached` are recorded the first time and given again later.

    It keeps the results of one sample. Where something behind the layer writes into one of them they are of no use
    any more; see :meth:`intact`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: list[tuple[Any, Any]] = []
        self._versions: list[int] = []
        self._recorded = False
        self._next: int | None = 0

    def __enter__(self) -> "PrefixCache":
        self._next = 0
        super().__enter__()
        return self

    def reached(self) -> None:
        """The layer has run; from here on everything is computed."""
        if self._next is None:
            return
        if self._recorded and self._next != len(self._known):
            raise PrefixDiverged("the network came to the layer sooner than before")
        self._recorded = True
        self._next = None
        # Operations in place count up the version also where they compute nothing.
        self._versions = self._now()

    def intact(self) -> bool:
        """Whether what was recorded is still what it was."""
        return self._recorded and self._versions == self._now()

    def _now(self) -> list[int]:
        return [-1 if t.is_inference() else t._version for _, result in self._known for t in tree.tensors(result)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._next is None:
            return func(*args, **(kwargs or {}))
        if not self._recorded:
            result = func(*args, **(kwargs or {}))
            self._known.append((func, result))
            return result
        if self._next == len(self._known) or self._known[self._next][0] is not func:
            raise PrefixDiverged("the network took another way to the layer")
        self._next += 1
        result = self._known[self._next - 1][1]
        # A view knows of what it is one, and cannot be told so twice.
        return tree.map_tensors(result, Tensor.detach) if func.is_view else result


def can_cache_prefix(model: nn.Module, inputs: Any) -> bool:
    """Whether the operations of a model can be told one from another: not those of scripts and compiled modules."""
    if any(isinstance(m, torch.jit.ScriptModule) or hasattr(m, "_orig_mod") for m in traverse.modules(model)):
        return False
    return all(type(t) is Tensor for t in tree.tensors(inputs))
