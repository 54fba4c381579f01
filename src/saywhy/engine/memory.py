"""Halving the batch size when memory runs out."""

import contextlib
import warnings
from collections.abc import Iterator

import torch

from saywhy.errors import SaywhyWarning


class MemoryBudget:
    """The number of items that fit into memory at once: unlimited until memory runs out, then halved.

    >>> room = MemoryBudget()
    >>> with warnings.catch_warnings(), room.halved_for(16):
    ...     warnings.simplefilter("ignore")
    ...     raise torch.OutOfMemoryError("CUDA out of memory.")
    >>> room.at_most(16)
    8
    """

    def __init__(self) -> None:
        self._most: int | None = None

    def at_most(self, wanted: int) -> int:
        """``wanted``, or fewer if that many did not fit before."""
        return wanted if self._most is None else min(wanted, self._most)

    @contextlib.contextmanager
    def halved_for(self, count: int) -> Iterator[None]:
        """Suppress an out-of-memory error for ``count`` items, and allow half as many from then on.

        The first time a warning is given. If not even one item fits, the error is raised.
        """
        try:
            yield
        except RuntimeError as error:
            if count <= 1 or not out_of_memory(error):
                raise
            first, self._most = self._most is None, count // 2
        else:
            return
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if first:
            warnings.warn(
                f"{count} altered images at once do not fit into memory; continuing with {self._most} or fewer. "
                "The result is the same. Set batch_size to choose the number.",
                SaywhyWarning,
                stacklevel=2,
            )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error or its cause says that memory ran out, on an accelerator or on the CPU.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."))
    True
    """
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
