"""Run random cases, and collect what is neither a result nor a SaywhyError."""

import contextlib
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from saywhy.errors import SaywhyError

Case = Callable[[Random], tuple[str, Callable[[], Any]]]
"""From a random generator to a description and a call."""

HANG = 20
"""Seconds after which a call counts as a hang; no case needs one."""

MEMORY = 2 * 2**30
"""Bytes by which the peak of memory may grow in all."""


class Hang(BaseException):
    """A call took too long."""


@dataclass
class Findings:
    """What went wrong: one description for each place in the source."""

    cases: int = 0
    refused: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, error: BaseException) -> None:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/src/saywhy/" in f.filename]
        place = f"{frames[-1].filename.rpartition('/src/')[2]}:{frames[-1].lineno}" if frames else "outside"
        key = f"{type(error).__name__} at {place}"
        text = str(error).splitlines()[0][:150] if str(error) else ""
        self.wrong.setdefault(key, f"{key}: {text} [{what[:200]}]")


@contextlib.contextmanager
def interrupted_after(seconds: int) -> Iterator[None]:
    """Raise :class:`Hang` in this block after some seconds."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Return the peak of this process's memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(cases: dict[str, Case], count: int, seed: int) -> Findings:
    """Run cases in turn, each with random values; the same seed runs the same cases on every machine."""
    random, found = Random(seed), Findings(cases=count)
    names = list(cases)
    for number in range(count):
        name = names[number % len(names)]
        before = peak()
        what, call = cases[name](random)
        try:
            with warnings.catch_warnings(), interrupted_after(HANG):
                warnings.simplefilter("ignore")
                call()
        except SaywhyError as error:
            found.refused += 1
            if not str(error).strip():
                found.add(f"{name}: {what} (no message)", error)
        except (Exception, Hang) as error:
            found.add(f"{name}: {what}", error)
        if peak() - before > MEMORY:
            found.wrong[f"memory in {what}"] = f"{name}: {what} took {(peak() - before) / 2**30:.1f} GiB"
    return found
