"""One section of the claims by itself: measured with bars on the screen, then printed or written."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from saywhy.errors import SaywhyWarning
from saywhy.io.atomic import atomic_write

Found = TypeVar("Found")


def run(report: Callable[[Progress], str], out: Path | None) -> None:
    """Measure a section; it goes to a file, or to the screen."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress:
        text = report(progress)
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def zeros_allowed() -> Iterator[None]:
    """Maps of zeros are measured like others, and not warned of. Also a decorator."""
    with warnings.catch_warnings(action="ignore", category=SaywhyWarning):
        yield


def at_most(count: int, found: Iterable[Found], what: str, progress: Progress) -> Iterator[Found]:
    """The first ``count`` of them, with a bar.

    >>> list(at_most(2, "abc", "letters", Progress(disable=True)))
    ['a', 'b']
    """
    bar = progress.add_task(what, total=count, loss="")
    for one in islice(found, count):
        yield one
        progress.advance(bar)


def scaled(count: int, share: float) -> int:
    """A share of a number of items, two at least: an interval needs as many.

    >>> scaled(150, 0.1), scaled(150, 0.001)
    (15, 2)
    """
    return max(2, round(count * share))
