"""Run jobs in parallel processes, each on one thread.

Small networks such as Toybox's gain little from a second thread; two in parallel take little longer than one.
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
    """Return the results of ``work`` for every job, in their order.

    Args:
        work: a module-level function; its arguments are the values of a job.
        jobs: the values of each job.
        what: the label of the progress bar.
        progress: shows the bar.
        workers: number of processes.
        given, known: a function that each process calls once at its start, and its arguments.

    Raises:
        Whatever a job raises; waiting jobs are cancelled then, and after Ctrl-C.
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
