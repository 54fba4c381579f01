"""Output on the terminal: results on standard output, messages on standard error."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.style import Style
from rich.table import Table
from rich.text import Text

from saywhy.errors import SaywhyWarning
from saywhy.progress import PATIENCE
from saywhy.terminal import printable, printable_json

SILENCE = 30.0
"""Seconds between the lines of progress of a command without a terminal."""

WIDE = 10_000
"""The width of output that is not a terminal, in columns: nothing is cut off or wrapped."""

results = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
notes = Console(stderr=True, highlight=False)

_NARROWEST = 10
"""The least width of a folded column."""


class PlainTable(Table):
    """A table whose cells are plain texts: square brackets are no markup, and control codes are escaped."""

    def add_row(self, *cells: object, style: Any = None, end_section: bool = False) -> None:
        """Add a row of texts, numbers or None."""
        plain = (Text("" if cell is None else printable(cell, one_line=True)) for cell in cells)
        super().add_row(*plain, style=style, end_section=end_section)


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = (), heading: bool = True) -> PlainTable:
    """Return a plain table; long entries are folded, never cut off.

    Args:
        columns: the headings.
        right: columns that are aligned right.
        whole: columns of names, which can be copied and are never folded.
        heading: whether to show the headings.
    """
    made = PlainTable(box=None, pad_edge=False, header_style="bold", show_header=heading)
    for name in columns:
        made.add_column(
            Text(printable(name, one_line=True)),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in (*right, *whole),
        )
    return made


def show(made: Table) -> None:
    """Print a table; names that do not fit the terminal make the table wider than it, so that nothing is cut off."""
    names = [column for column in made.columns if column.no_wrap]
    longest = [max(map(cell_len, map(str, column.cells)), default=0) for column in names]
    needed = sum(longest) + len(names) + _NARROWEST * (len(made.columns) - len(names))
    console = results if needed <= results.width else Console(highlight=False, width=needed)
    console.print(made)


def say(text: str) -> None:
    """Print a text among the results; every text of a model, a data set or a file goes through here or a table."""
    results.print(Text(printable(text)), soft_wrap=not results.is_terminal)


def entry(name: str, about: str, lines: Sequence[str]) -> None:
    """Print a name, a remark and texts below them, indented and wrapped at the width of the terminal.

    Where the results are no terminal it is one line, its parts separated by tabs.
    """
    texts = [printable(text, one_line=True) for text in (name, about, *lines)]
    if not results.is_terminal:
        print("\t".join(texts))
        return
    results.print(Text.assemble((texts[0], "bold"), "  ", (texts[1], "dim")))
    for text in texts[2:]:
        results.print(Padding(Text(text), (0, 0, 0, 4)))


def say_json(record: Any) -> None:
    """Print a record as JSON among the results."""
    print(printable_json(record))


def failure(message: str) -> None:
    """Print an error message."""
    _note("saywhy: ", message, "bold red")


def unknown_words(model: Any, text: str) -> None:
    """Print a note that names the words of a text that are not in the vocabulary of a model."""
    unknown = model.unknown(text)
    if unknown:
        note(f"not in the vocabulary of {model.name}: {', '.join(map(repr, unknown))}")


def about(model: Any) -> None:
    """Print the name of a model, and what it knows if it is a demo model."""
    knows = "" if model.domain is None else f", a demo model that knows only {model.domain.kind}; give yours as --model"
    note(f"model {model.name}{knows}")


def note(message: str) -> None:
    """Print a message on standard error."""
    _note("", message)


def written(path: Path, replaced: bool = False) -> None:
    """Print the path of a written file, without other text after it, so that it can be clicked and copied."""
    _note("replaced " if replaced else "wrote ", printable(path, one_line=True), "green")


def _note(lead: str, message: str, style: str = "") -> None:
    """Print a message on standard error after a lead in a style."""
    notes.print(Text.assemble((lead, style or Style.null()), printable(message)), soft_wrap=True)


@contextlib.contextmanager
def noted_warnings() -> Iterator[None]:
    """Print warnings of saywhy as notes, once each, at the end of the block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SaywhyWarning)
        yield
    messages = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, SaywhyWarning))
    for message in messages:
        _note("note: ", message, "yellow")
    for other in caught:
        if not issubclass(other.category, SaywhyWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


class Steps:
    """A progress bar with the time left that appears after :data:`PATIENCE` seconds, and disappears at the end.

    Args:
        total: the number of steps.
    """

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=notes,
            transient=True,
            # A thread redraws the bar, so that it moves during a long step.
            auto_refresh=True,
        )
        self._task = self._progress.add_task("", total=total, start=True)
        self._clock = _After(PATIENCE, self._progress.start)
        self._total, self._done = total, 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "Steps":
        if notes.is_terminal:
            self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.stop()
        if self._progress.live.is_started:  # stopping a bar that was never shown prints an empty line
            self._progress.stop()

    def now(self, what: str) -> None:
        """Set the description of the current step."""
        self._progress.update(self._task, description=printable(what, one_line=True))

    def within(self, what: str) -> Callable[[str, int, int], None]:
        """Return a function that shows the progress within a step: its part, the count, and the total."""
        return lambda part, done, total: self.now(f"{what}: {part} {done} of {total}")

    def done(self) -> None:
        """Count one finished step; without a terminal a line says so every :data:`SILENCE` seconds."""
        self._progress.advance(self._task)
        self._done += 1
        now = time.monotonic()
        if notes.is_terminal or now - self._said < SILENCE or self._done >= self._total:
            return
        self._said = now
        left = (now - self._began) / self._done * (self._total - self._done)
        note(f"{self._done} of {self._total} steps, about {left:.0f} s left")


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
            self._timer.join()  # the call may be running


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the duration of the block."""
    start = time.perf_counter()
    yield
    _note("", f"  {what:<44} {time.perf_counter() - start:6.2f} s")
