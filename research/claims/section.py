"""Run one section of the claims: measure it with progress bars, then print or write it."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from research.claims.multiple_testing import RULES, resolved
from saywhy.errors import SaywhyWarning
from saywhy.io.atomic import atomic_write

Found = TypeVar("Found")


def run(report: Callable[[Progress], str], out: Path | None) -> None:
    """Measure a section or a page, resolve its verdicts, and write it to a file or print it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress:
        text, verdicts = resolved(report(progress))
    if verdicts:
        text = f"{text.rstrip()}\n\n{RULES}\n\n{verdicts}"
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def zeros_allowed() -> Iterator[None]:
    """Suppress warnings about maps of zeros, which are measured like others. Also a decorator."""
    with warnings.catch_warnings(action="ignore", category=SaywhyWarning):
        yield


def at_most(count: int, found: Iterable[Found], what: str, progress: Progress) -> Iterator[Found]:
    """Yield the first ``count`` items, with a progress bar.

    >>> list(at_most(2, "abc", "letters", Progress(disable=True)))
    ['a', 'b']
    """
    bar = progress.add_task(what, total=count, loss="")
    for one in islice(found, count):
        yield one
        progress.advance(bar)


def scaled(count: int, share: float) -> int:
    """Return a share of a number of items, at least two.

    >>> scaled(150, 0.1), scaled(150, 0.001)
    (15, 2)
    """
    return max(2, round(count * share))
