"""Interrupts (Ctrl-C, SIGINT) between the changes to a model and their restoration.

Python raises ``KeyboardInterrupt`` between any two instructions, also inside the ``__enter__`` and ``__exit__`` of a
context manager, whose restoration is then lost. Within :class:`deferred_interrupts` the signal is noted instead, and
raised while a network runs (:func:`interruptible`) or at the end of the outermost block. Signals reach only
the main thread; in other threads nothing is deferred.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

PATIENCE = 1.0
"""Seconds after which a second interrupt is raised at once, wherever the first is still deferred."""


class _State(threading.local):
    """The state of one thread. Storing an attribute calls nothing, so no signal can arrive in the middle of it."""

    blocks = 0
    raises = True
    """Whether an interrupt is raised at once."""
    pending = 0.0
    """The time of a deferred interrupt; 0 without one."""
    previous: Callable[[int, Any], Any] | None = None
    """The handler outside of the outermost block; None where it stays in place."""


state = _State()


def raise_pending() -> None:
    """Pass a deferred interrupt on to the handler of the caller, which usually raises ``KeyboardInterrupt``."""
    if state.pending and state.previous is not None:
        state.pending = 0.0
        state.previous(signal.SIGINT, sys._getframe())


def _handler(_number: int, _frame: Any) -> None:
    now = time.monotonic()
    if state.raises or (state.pending and now - state.pending > PATIENCE):
        state.pending = now
        raise_pending()
    else:
        state.pending = state.pending or now


def interruptible(run: Callable[[], Result]) -> Result:
    """Call a function that changes nothing to be restored; interrupts are raised while it runs.

    >>> with deferred_interrupts():
    ...     interruptible(lambda: state.raises)
    True
    """
    raised = state.raises
    try:
        state.raises = True
        raise_pending()
        return run()
    finally:
        state.raises = raised


class deferred_interrupts:
    """A block in which interrupts are deferred, except while a network runs in it; blocks may be nested.

    A second interrupt after :data:`PATIENCE` is raised at once. A handler that is no Python function (the signal is
    ignored, or ends the process) stays in place.

    >>> with deferred_interrupts():
    ...     state.raises
    False
    """

    def __enter__(self) -> None:
        self._raised, self._previous = state.raises, None
        try:
            state.raises = False
            state.blocks += 1
            if state.blocks == 1 and threading.current_thread() is threading.main_thread():
                previous = signal.getsignal(signal.SIGINT)
                if callable(previous):
                    with contextlib.suppress(ValueError):  # Python is embedded, and this is no main thread of it
                        state.previous = previous
                        signal.signal(signal.SIGINT, _handler)
                        self._previous = previous
        except BaseException:  # an interrupt, before the handler was replaced
            state.blocks -= 1
            state.raises = self._raised
            raise

    def __exit__(self, *_: object) -> None:
        try:
            if self._previous is not None and signal.getsignal(signal.SIGINT) is _handler:
                signal.signal(signal.SIGINT, self._previous)
        finally:
            state.blocks -= 1
            state.raises = self._raised
        if state.raises:
            raise_pending()
