"""Requests in turns: a bounded queue with fair turns between visitors, progress, and a stop at the next step."""

import math
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from saywhy.errors import SaywhyError, SaywhyWarning
from saywhy.progress import reported_to

State = Literal["waiting", "running", "done", "failed", "stopped"]

ENDED = ("done", "failed", "stopped")

MOST_TOGETHER = 8
"""Jobs that are computed at once."""

MOST_ALONE = 1000
"""Keys that are remembered of jobs that were not possible at once."""


class Busy(Exception):
    """The queue is full; the message says for whom."""


class _Stopped(Exception):
    """Raised between two steps of a job that is to stop."""


class TooLong(SaywhyError):
    """A job took longer than is allowed."""


@dataclass(eq=False)
class Job:
    """A request and what became of it.

    Attributes:
        work: computes; it is called with the job, and calls :meth:`give` with each part of the result.
        visitor: whose turn it is.
        state: where it stands.
        doing, step, steps: the present work, its steps done, and their number.
        parts: of the result, in the order in which they were ready.
        notes: warnings of saywhy, for the visitor.
        error: why it failed.
        title: of the result.
        about: what was asked, in a sentence.
        image: that it is about, and ``about_image`` its digest.
        batch: computes the parts of several jobs from their images at once; None where this is not possible.
        key: jobs of the same key differ in their images only.
    """

    work: Callable[["Job"], None]
    visitor: str
    title: str = ""
    about: str = ""
    image: Any = None
    about_image: str = ""
    batch: Callable[[Sequence[Any]], list[Any]] | None = None
    key: str = ""
    state: State = "waiting"
    doing: str = ""
    step: int = 0
    steps: int = 0
    parts: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: Exception | None = None
    asked_to_stop: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    allowed: float = math.inf

    def give(self, part: Any) -> None:
        """Add a part of the result."""
        self.parts.append(part)

    def report(self, doing: str, step: int, steps: int) -> None:
        """Note the progress; a job that is to stop, or that takes too long, ends here."""
        self.note_progress(doing, step, steps)
        if self.asked_to_stop:
            raise _Stopped
        if time.monotonic() - self.begun > self.allowed:
            raise TooLong(
                f"this took longer than {self.allowed:.0f} seconds, the most that is allowed here. Ask for fewer "
                "targets or faster methods."
            )

    def note_progress(self, doing: str, step: int, steps: int) -> None:
        """Note the progress."""
        self.doing, self.step, self.steps = doing, step, steps

    def end(self, state: State) -> None:
        """Note the end, and the time it took."""
        self.seconds, self.state = time.monotonic() - self.begun, state
        self.ended.set()


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Collect this thread's warnings of saywhy within a block; those of other threads are shown as before."""
    me = threading.get_ident()
    with warnings.catch_warnings():
        warnings.simplefilter("always", SaywhyWarning)
        shown = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
            if threading.get_ident() != me or not issubclass(category, SaywhyWarning):
                shown(message, category, *rest, **options)
            elif str(message) not in notes:
                notes.append(str(message))

        warnings.showwarning = note
        yield


class JobQueue:
    """Jobs that wait for the worker, a thread; visitors take turns, whatever the number of their jobs.

    Args:
        waiting: the most jobs that wait.
        per_visitor: the most jobs of one visitor that wait.
        seconds: the time after which a job is ended, at its next step.
    """

    def __init__(self, waiting: int = 32, per_visitor: int = 8, seconds: float = 600.0) -> None:
        self._most, self._per_visitor, self._seconds = waiting, per_visitor, seconds
        self._running: Sequence[Job] = ()
        self._alone: OrderedDict[str, None] = OrderedDict()  # keys of jobs that were not possible at once
        self._turns: OrderedDict[str, deque[Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, job: Job) -> Job:
        """Add a job.

        Raises:
            Busy: too many jobs wait, of all or of this visitor.
        """
        with self._changed:
            own = self._turns.get(job.visitor, deque())
            if len(own) >= self._per_visitor:
                raise Busy(f"you have {len(own)} requests waiting, the most that are allowed. Wait for one of them.")
            if self.waiting() >= self._most:
                raise Busy(f"{self._most} requests are waiting, the most that are allowed. Try again in a minute.")
            self._turns.setdefault(job.visitor, deque()).append(job)
            self._changed.notify()
        return job

    def waiting(self) -> int:
        """Return the number of jobs that wait."""
        with self._changed:
            return sum(map(len, self._turns.values()))

    def stop(self, job: Job) -> None:
        """Stop a job: at once if it waits, at its next step if it runs."""
        with self._changed:
            job.asked_to_stop = True
            own = self._turns.get(job.visitor, deque())
            if job in own:
                own.remove(job)
                job.end("stopped")

    def close(self) -> None:
        """Stop all jobs, and end the worker."""
        with self._changed:
            self._closed = True
            for job in self._running:
                job.asked_to_stop = True
            for own in self._turns.values():
                for job in own:
                    job.asked_to_stop = True
                    job.end("stopped")
            self._turns.clear()
            self._changed.notify_all()

    def _next(self) -> list[Job]:
        """Wait for a job, and take those that can be computed with it; none when the queue is closed."""
        with self._changed:
            while not self._closed:
                for visitor, own in list(self._turns.items()):
                    if not own:
                        del self._turns[visitor]
                        continue
                    first = own.popleft()
                    self._turns.move_to_end(visitor)  # everybody else has a turn before the next of this visitor
                    jobs = [first, *self._alike(first)]
                    for job in jobs:
                        job.state = "running"
                    return jobs
                self._changed.wait()
        return []

    def _alike(self, first: Job) -> list[Job]:
        """Take the waiting jobs that can be computed with a job out of their turns."""
        if first.batch is None or first.key in self._alone:
            return []
        found = [job for own in self._turns.values() for job in own if job.batch is not None and job.key == first.key]
        found = found[: MOST_TOGETHER - 1]
        for job in found:
            self._turns[job.visitor].remove(job)
        return found

    def _run(self) -> None:
        while jobs := self._next():
            self._running = jobs
            for job in jobs:
                job.allowed = self._seconds
            if len(jobs) > 1 and not _computed_together(jobs):
                self._alone[jobs[0].key] = None
                if len(self._alone) > MOST_ALONE:
                    self._alone.popitem(last=False)
            for job in jobs:
                if not job.ended.is_set():
                    _compute(job)
            self._running = ()


def _compute(job: Job) -> None:
    """Compute a job by itself; the worker goes on, whatever a model does."""
    job.begun = time.monotonic()
    try:
        with reported_to(job.report), noted(job.notes):
            job.report(job.doing, job.step, job.steps)  # it may be stopped already
            job.work(job)
        state: State = "done"
    except _Stopped:
        state = "stopped"
    except Exception as error:
        job.error, state = error, "failed"
    job.end(state)


def _computed_together(jobs: Sequence[Job]) -> bool:
    """Compute jobs at once; return whether this was possible.

    It is not where anything fails or is warned of: whose image it is about is known only of a job by itself.
    """
    notes: list[str] = []
    for job in jobs:
        job.begun = time.monotonic()

    def report(doing: str, step: int, steps: int) -> None:
        for job in jobs:
            job.note_progress(doing, step, steps)
        if all(job.asked_to_stop for job in jobs):
            raise _Stopped

    try:
        with reported_to(report), noted(notes):
            parts = jobs[0].batch([job.image for job in jobs])  # type: ignore[misc]
    except _Stopped:
        parts = []
    except Exception:
        return False
    if notes:
        return False
    for number, job in enumerate(jobs):
        job.parts += parts[number : number + 1]
        job.end("stopped" if job.asked_to_stop else "done")
    return True
