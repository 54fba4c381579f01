"""Several networks at a time: jobs in processes of their own, on one thread each.

Networks as small as Toybox's gain little from a second thread; two of them side by side take little longer than one.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch
from rich.progress import Progress

Found = TypeVar("Found")

WORKERS = 2


def run_jobs(
    work: Callable[..., Found],
    jobs: Sequence[tuple],
    what: str,
    progress: Progress,
    workers: int = WORKERS,
    given: Callable[..., None] | None = None,
    known: tuple = (),
) -> list[Found]:
    """What ``work`` gives for every job, in their order.

    Args:
        work: a function of a module, of the values of a job.
        jobs: of each its values.
        what: is being done, for the bar.
        progress: where the bar is.
        workers: so many processes.
        given, known: what every process is told once, and by which function.

    Raises:
        Whatever a job raises; those that have not begun are not begun then, nor after Ctrl-C.
    """
    if not jobs:
        return []
    bar = progress.add_task(what, total=len(jobs), loss="")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), _begin, (given, known))
    try:
        made = [pool.submit(work, *job) for job in jobs]
        for one in as_completed(made):
            one.result()
            progress.advance(bar)
        return [one.result() for one in made]
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(given: Callable[..., None] | None, known: tuple) -> None:
    torch.set_num_threads(1)
    if given is not None:
        given(*known)
