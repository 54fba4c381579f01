"""What is shown on the terminal: results on standard output, everything else on standard error."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from saywhy.errors import SaywhyWarning
from saywhy.progress import PATIENCE

WIDE = 10_000
"""Columns where the output is no terminal: nothing is cut off or wrapped there."""

results = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
notes = Console(stderr=True, highlight=False)

_NARROWEST = 10
"""Columns of an entry that is folded, at the least."""


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = (), heading: bool = True) -> Table:
    """A plain table; long entries are folded, never cut off.

    Args:
        columns: their headings.
        right: those whose entries stand at the right.
        whole: those whose entries are names to be copied, and so are never folded.
        heading: whether the headings are shown.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=heading)
    for name in columns:
        made.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in (*right, *whole)
        )
    return made


def show(made: Table) -> None:
    """Print a table; one whose names do not fit the terminal is wider than it, so that nothing is cut off."""
    names = [column for column in made.columns if column.no_wrap]
    longest = [max(map(cell_len, map(str, column.cells)), default=0) for column in names]
    needed = sum(longest) + len(names) + _NARROWEST * (len(made.columns) - len(names))
    console = results if needed <= results.width else Console(highlight=False, width=needed)
    console.print(made)


def say(text: str) -> None:
    """Print words among the results."""
    results.print(escape(text), soft_wrap=not results.is_terminal)


def failure(message: str) -> None:
    """Say what went wrong."""
    notes.print(f"[bold red]saywhy:[/] {escape(message)}", soft_wrap=True)


def unknown_words(model: Any, text: str) -> None:
    """Say which words of a text a model does not know."""
    unknown = model.unknown(text)
    if unknown:
        note(f"{model.name} does not know {', '.join(map(repr, unknown))}")


def note(message: str) -> None:
    """Say something beside the results."""
    notes.print(escape(message), soft_wrap=True)


def written(path: Path) -> None:
    """Say which file was written; the path alone on its line, so that it can be clicked and copied."""
    notes.print(f"[green]wrote[/] {escape(str(path))}", soft_wrap=True)


@contextlib.contextmanager
def noted_warnings() -> Iterator[None]:
    """Show warnings of saywhy as notes, once each, when the block is over."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SaywhyWarning)
        yield
    seen = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, SaywhyWarning))
    for message in seen:
        notes.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)
    for other in caught:
        if not issubclass(other.category, SaywhyWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


class Steps:
    """A progress bar that appears when the work takes longer than :data:`PATIENCE` and leaves no trace.

    Args:
        total: how many steps there are.
    """

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=notes,
            transient=True,
            # The bar is drawn by a clock of its own, so that it moves while one long step runs.
            auto_refresh=True,
        )
        self._task = self._progress.add_task("", total=total, start=True)
        self._clock = _After(PATIENCE, self._progress.start)

    def __enter__(self) -> "Steps":
        if notes.is_terminal:
            self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.stop()
        if self._progress.live.is_started:  # stopping one that was never shown writes an empty line
            self._progress.stop()

    def now(self, what: str) -> None:
        """Say what is being done."""
        self._progress.update(self._task, description=escape(what))

    def within(self, what: str) -> Callable[[str, int, int], None]:
        """Say how far a step is: what of it is being done, how much, and of how much."""
        return lambda part, done, total: self.now(f"{what}: {part} {done} of {total}")

    def done(self) -> None:
        """One step is done."""
        self._progress.advance(self._task)


class _After:
    """Call a function after some seconds, unless stopped before."""

    def __init__(self, seconds: float, call: object) -> None:
        import threading

        self._timer = threading.Timer(seconds, call)  # type: ignore[arg-type]
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()
        if self._timer.is_alive():
            self._timer.join()  # it may be calling just now


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a part took."""
    start = time.perf_counter()
    yield
    notes.print(f"  {what:<44} {time.perf_counter() - start:6.2f} s")
