"""Activation checkpointing: blocks that a network runs again in the backward pass, to save memory.

Most of saywhy works with checkpointed blocks. Code that must see every call exactly once refuses them here.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch.autograd.graph import disable_saved_tensors_hooks
from torch.utils.checkpoint import CheckpointError

from saywhy.errors import GradientError

REFUSAL = (
    "the network runs blocks again in the backward pass (activation checkpointing), in a way that hides them from this "
    "method. Turn that off for explanations: model.gradient_checkpointing_disable(), "
    "model.set_grad_checkpointing(False)"
)
"""The beginning of the message of every refusal of checkpointed blocks."""


@contextlib.contextmanager
def require_single_run(mode: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a mode that must see every call, and refuse blocks that would run again without it.

    Raises:
        GradientError: the network checkpoints.
    """
    try:
        with disable_saved_tensors_hooks(REFUSAL), mode:
            yield
    except RuntimeError as error:
        if REFUSAL not in str(error):
            raise
        raise GradientError(f"{REFUSAL}.") from error


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn torch's errors about checkpoints in a backward pass into one that says what to do.

    Raises:
        GradientError: the network checkpoints in the old, reentrant way.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_refused(error):
            raise
        raise GradientError(f"{REFUSAL}, or use_reentrant=False.") from error


def is_refused(error: RuntimeError) -> bool:
    """Whether an error of a backward pass says that a block is checkpointed in the old, reentrant way."""
    return isinstance(error, CheckpointError) or "use_reentrant" in str(error)
