"""Running a batch in parts, so that a call stays within a memory budget."""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import nn

from saywhy.engine import tree
from saywhy.engine.memory import MemoryBudget, budget
from saywhy.errors import TargetError
from saywhy.models.inputs import Batch

if TYPE_CHECKING:
    from saywhy.explainer.batch_result import BatchResult
    from saywhy.explainer.runner import Runner

_SMALL = 1 / 1000
"""Inputs of at most this share of the budget run at once without an estimate: activations are some 100 times larger."""

_sizes: "WeakKeyDictionary[nn.Module, dict[Any, int]]" = WeakKeyDictionary()


def run_in_parts(runner: "Runner", batch: Batch, size: int | None) -> list["BatchResult"]:
    """Run a batch in parts of at most ``size`` samples, or of as many as fit into the memory budget.

    A part that does not fit into memory is halved.
    """
    most = min(size or chunk_size(runner, batch), batch.size)
    if most < batch.size and runner.config.target.spans_samples:
        runner = runner.with_resolved_target(batch)
    room, results, start = MemoryBudget(), [], 0
    while start < batch.size:
        stop = min(start + room.at_most(most), batch.size)
        halved = room.halved_for(stop - start, "samples") if size or divisible(runner, batch) else nullcontext()
        with halved:
            results.append(_run_part(runner, batch, start, stop))
            start = stop
    return results


def _run_part(runner: "Runner", batch: Batch, start: int, stop: int) -> "BatchResult":
    if stop - start == batch.size:
        return runner.run(batch)
    # The last slice has no end, so that a target for more samples than there are is refused.
    some = slice(start, stop if stop < batch.size else None)
    try:
        return replace(runner, config=runner.config.of_samples(some)).run(batch.of_samples(some))
    except TargetError as error:
        raise TargetError(f"{error} (Samples {start} to {stop - 1} of a batch of {batch.size}.)") from error


def divisible(runner: "Runner", batch: Batch) -> bool:
    """Whether parts of the batch give the same result as the whole.

    Not assumed of networks with several inputs, and of training steps, whose batch norms see the whole batch.
    """
    return not runner.config.create_graph and len(list(tree.tensors(batch.inputs))) == 1


def chunk_size(runner: "Runner", batch: Batch) -> int:
    """The number of samples of a batch that run at once.

    The memory of one sample is measured once for a model, a shape of inputs, and the layers and methods asked for.
    """
    image = tree.image_tensor(batch.inputs)
    available = budget(image.device)
    if batch.size == 1 or image.numel() * image.element_size() <= available * _SMALL or not divisible(runner, batch):
        return batch.size
    config, model = runner.config, runner.model.module
    key = (tuple(image.shape[1:]), image.dtype, str(config.layer), tuple(m.name for m in config.methods), available)
    sizes = _sizes.setdefault(model, {})
    if key not in sizes:
        alone = replace(runner, config=config.of_samples(slice(0, 1)))
        try:
            sizes[key] = alone.samples_within(available, batch.of_samples(slice(0, 1)))
        except Exception:  # what is wrong with the request is said by its run, of all samples
            return batch.size
    return sizes[key]
