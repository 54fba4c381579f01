"""A lock on a model: threads that explain with one model take turns.

A network that runs for an explanation is in evaluation mode, has hooks, and may use the random state, so that another
thread's run of the same layers would be a different one. The lock is held on all modules of the model: models that
share a backbone take turns too, and models that share nothing run at the same time.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

from torch import nn

from saywhy import interrupts
from saywhy.engine import traverse
from saywhy.interrupts import deferred_interrupts

_POLL = 0.1
"""Seconds after which a waiting thread looks for an interrupt."""


class _Turns:
    """Which thread holds which modules."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held: dict[int, list[nn.Module]] = {}
        """By thread, the model of every block."""
        self.waiting: dict[int, set[int]] = {}
        """By waiting thread, the threads for which it waits."""


_turns = _Turns()


def _forget_threads() -> None:
    """In a forked process the other threads do not exist, and never finish."""
    global _turns
    _turns = _Turns()


os.register_at_fork(after_in_child=_forget_threads)


@contextlib.contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """Within the block no other thread holds a module of ``model``; blocks of one thread may be nested.

    Interrupts are deferred in the block, see :mod:`saywhy.interrupts`. Two threads that hold one model each and
    want the other's do not wait: hooks ignore other threads, so that only the random state is shared.

    >>> net = nn.Sequential(nn.ReLU())
    >>> with exclusive(net), exclusive(net[0]):
    ...     pass
    """
    me, turns = threading.get_ident(), _turns
    if any(model is held for held in turns.held.get(me, ())):
        yield
        return
    with deferred_interrupts():
        _acquire(turns, me, model)
        try:
            yield
        finally:
            with turns.changed:
                turns.held[me].remove(model)
                if not turns.held[me]:
                    del turns.held[me]
                turns.changed.notify_all()


def _acquire(turns: _Turns, me: int, model: nn.Module) -> None:
    with turns.changed:
        try:
            while holders := {
                thread
                for thread, models in turns.held.items()
                if thread != me and any(_share(model, held) for held in models)
            }:
                turns.waiting[me] = holders
                if me in _awaited(turns, holders):
                    break
                turns.changed.wait(_POLL)
                interrupts.raise_pending()
        finally:
            turns.waiting.pop(me, None)
        turns.held.setdefault(me, []).append(model)


def _share(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have a module in common."""
    modules = {id(module) for module in traverse.modules(one)}
    return any(id(module) in modules for module in traverse.modules(other))


def _awaited(turns: _Turns, threads: set[int]) -> set[int]:
    """The threads for which some threads wait, directly or through others."""
    found: set[int] = set()
    following = [*threads]
    while following:
        more = turns.waiting.get(following.pop(), set()) - found
        found |= more
        following += more
    return found
