"""Progress of long work: a bar on the terminal after two seconds, or the caller's own report."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Protocol

from saywhy.terminal import printable

PATIENCE = 2.0
"""Seconds after which a progress bar appears."""

Report = Callable[[str, int, int], None]
"""A function of the work's name, the number of steps done, and the number of steps."""


class Advance(Protocol):
    """Tells that steps are done."""

    def __call__(self, steps: int, said: str = "") -> None: ...


_report: ContextVar[Report | None] = ContextVar("saywhy_progress", default=None)


@contextlib.contextmanager
def reported_to(report: Report) -> Iterator[None]:
    """Send progress within this block to ``report`` instead of the terminal.

    >>> steps = []
    >>> with reported_to(lambda *step: steps.append(step)), counted("occlusion", 2) as advance:
    ...     advance(1); advance(1)
    >>> steps
    [('occlusion', 1, 2), ('occlusion', 2, 2)]
    """
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


@contextlib.contextmanager
def counted(what: str, total: int) -> Iterator["Advance"]:
    """Count the steps of long work; yield a function to be called with the number of steps just done.

    A text as its second argument stands behind the name of the work, such as the present loss.
    """
    report = _report.get()
    done = 0
    with contextlib.ExitStack() as stack:
        show = report or stack.enter_context(_bar())

        def advance(steps: int, said: str = "") -> None:
            nonlocal done
            done += steps
            show(f"{what}, {said}" if said else what, done, total)

        yield advance


@contextlib.contextmanager
def _bar() -> Iterator[Report]:
    """A bar on a terminal that appears when the work takes longer than :data:`PATIENCE` and is removed at the end."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.errors import LiveError
    from rich.markup import escape
    from rich.progress import Progress

    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=None)
    begin, shown = time.monotonic(), False

    def show(what: str, done: int, total: int) -> None:
        nonlocal shown
        progress.update(task, description=escape(printable(what, one_line=True)), completed=done, total=total)
        if not shown and time.monotonic() - begin > PATIENCE:
            shown = True
            with contextlib.suppress(LiveError):  # the caller already shows a bar
                progress.start()

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
