"""How many samples run at once: estimated from one sample, and halved when memory runs out."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from saywhy.engine import traverse, tree
from saywhy.errors import InputError, SaywhyWarning, first_line

BUDGET_BYTES = 512 * 2**20
"""Activations of samples that run at once take about this much memory on the CPU."""


_LARGEST = 50
"""Inputs and results of the largest operation take about this many times the memory of the image (in VGG-16: 43)."""


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
    def halved_for(self, count: int, what: str = "altered images") -> Iterator[None]:
        """Suppress an out-of-memory error for ``count`` items, and allow half as many from then on.

        The first time a warning is given. If not even one item fits, the error is raised.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if count <= 1 or not out_of_memory(error):
                raise
            first, self._most = self._most is None, count // 2
        else:
            return
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if first:
            warnings.warn(
                f"{count} {what} at once do not fit into memory; continuing with {self._most} or fewer. "
                "The result is the same. Set batch_size to choose the number.",
                SaywhyWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def refused_if_out_of_memory() -> Iterator[None]:
    """Turn an out-of-memory error into one that says what to do.

    Raises:
        InputError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"the model with this input does not fit into memory ({first_line(error)}). Give smaller images, "
            "fewer at once (batch_size=1), or the layer (layer=): finding it takes more memory than a prediction."
        ) from error


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


class AllocationCounter(TorchDispatchMode):
    """Within the block, counts the memory of a forward pass; weights are not counted.

    Attributes:
        recorded: bytes of all results that were computed with gradients enabled: those that a graph holds.
        largest: bytes of the inputs and results of the largest operation: those that a pass without a graph holds.

    >>> with AllocationCounter(nn.Identity()) as counter, torch.no_grad():
    ...     _ = torch.ones(100).float() * 2
    >>> counter.recorded, counter.largest
    (0, 800)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.recorded = 0
        self.largest = 0
        self._weights = {id(t) for t in traverse.tensors(model)}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        given = {id(t): t for t in tree.tensors((args, kwargs or {})) if id(t) not in self._weights}
        made = sum(t.numel() * t.element_size() for t in tree.tensors(result) if id(t) not in given)
        self.largest = max(self.largest, made + sum(t.numel() * t.element_size() for t in given.values()))
        if torch.is_grad_enabled():
            self.recorded += made
        return result


def budget(device: torch.device) -> int:
    """The memory in bytes for activations of samples that run at once: a quarter of an accelerator's free memory."""
    return BUDGET_BYTES if device.type != "cuda" else max(BUDGET_BYTES, torch.cuda.mem_get_info(device)[0] // 4)


def images_at_once(image: Tensor, most: int) -> int:
    """How many images of the size of ``image`` [1, channel, *space] may run together without a graph, at most ``most``.

    >>> images_at_once(torch.zeros(1, 3, 224, 224), 5), images_at_once(torch.zeros(1, 3, 2000, 2000), 5)
    (5, 1)
    """
    one = max(1, image.numel() * image.element_size())
    return max(1, min(most, budget(image.device) // (_LARGEST * one)))


def samples_within(budget_bytes: int, model: nn.Module, run_one: Callable[[], Any]) -> int:
    """The number of samples whose forward and backward pass fit into the budget, by the memory of one; at least one.

    Args:
        budget_bytes: memory for activations and gradients.
        model: its weights are not counted.
        run_one: runs the forward pass of one sample, with gradients enabled from the first layer that needs them.
    """
    with AllocationCounter(model) as counter:
        run_one()
    return max(1, budget_bytes // max(1, counter.recorded + 2 * counter.largest))
