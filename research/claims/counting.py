"""Counting everyday objects (Chattopadhyay et al., 2017): all counters and baselines, on drawn and on real images.

python -m research.claims.counting
python -m research.claims.counting --out docs/claims-counting.md

Finished runs are stored under out/claims, so that a stopped run continues.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress

from research.claims.counting_data import REAL, SETS, prepare, read_prepared
from research.claims.counting_measures import CountStatistic
from research.claims.counting_results import SetResults, results_of
from research.claims.counting_runs import COUNTERS, Job, RunResult, jobs_of, read_run, run
from research.claims.counting_tables import Answered, Tallies, claims, goals, questions, section
from research.claims.counting_uses import (
    Asked,
    ask_toybox,
    detection_use,
    f_statistics,
    question_statistics,
)
from research.claims.multiple_testing import counted
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run as run_section
from research.options import Out, Share, Workers
from saywhy.errors import InputError

SEEDS, GRID_SEEDS = 5, 1

INTRODUCTION = """\
The counters are those of *Counting Everyday Objects in Everyday Scenes* (Chattopadhyay et al., 2017): *glance* counts
the whole image, *associative* subitizing every cell of a 3 × 3 grid by itself, *sequential* subitizing the cells in the
context of all others, *ensemble* is their mean, *gt-class* classifies the count, *detect* counts the boxes of a
detector whose score threshold and suppression are tuned on validation images in the paper's two steps. The baselines
do not look at the image; *mean* and *category-mean* are not rounded, as published.

Every counter learns from the same frozen features, pooled in cells (the paper crops cells, and its best features were
fine-tuned), for the same number of steps, with narrower hidden layers than published
({hidden}); nothing is augmented. The detector is a small head of two convolutions on the same
features. Weights are selected by the mRMSE on validation images, on which thresholds are tuned and intervals are made;
test images decide nothing. Seeds decide initial weights and the order of images{folded}: the second interval is over
these, on the same test images. The interval over images of a mean over classes is not that of the plain resamples,
which miss rare classes and are therefore biased: they are shifted until their mean is the value."""
"""What is compared, and how."""


@dataclass(frozen=True)
class Measured:
    """Everything that the page prints.

    Attributes:
        found: by data set.
        tallies: by data set with a detector, of every seed.
        asked, answered: Toybox's questions and the errors of the answers; None without Toybox.
        stored: whether some runs were stored before.
    """

    found: Mapping[str, SetResults]
    tallies: Mapping[str, Tallies]
    asked: Asked | None
    answered: Answered | None
    stored: bool

    @property
    def points(self) -> dict[str, dict[str, CountStatistic]]:
        """By data set, the F of every operating point."""
        return {name: f_statistics(some) for name, some in self.tallies.items()}


def page(measured: Measured, seeds: int, share: float, minutes: float, workers: int = WORKERS) -> str:
    """Return the page, its verdicts not resolved yet."""
    missing = [name for name in SETS if name not in measured.found]
    note = f" Not measured here: {', '.join(missing)}." if missing else ""
    points = measured.points
    sections = "\n\n".join(
        section(results, measured.tallies.get(name, ()), points.get(name)) for name, results in measured.found.items()
    )
    asked = ""
    if measured.asked is not None and measured.answered is not None:
        asked = questions(measured.asked, measured.answered, SETS["toybox"].labels) + "\n\n"
    part = "" if share == 1 else f", {share:.0%} of images and steps (a trial: its figures mean nothing)"
    folded = ", and the folds" if any(SETS[name].folds for name in measured.found) else ""
    return f"""# Counting everyday objects

Made by `python -m research.claims.counting` with {seeds} seeds{part}, in {minutes:.0f} minutes (less if runs were
stored), {counted(workers, "network", "networks")} in parallel, each on one thread.{note}
[How counting works here](counting.md).

{INTRODUCTION.format(hidden=_hidden(measured.found), folded=folded)}

## Claims

{claims(measured.found, points, measured.answered)}

A claim about an order of errors holds if the difference, error of the worse less error of the better, lies above zero.
A claim with several differences needs all of them (an intersection-union test: the largest p-value counts); it does not
hold if one lies below zero.

## Goals

Of quality and time, set before; met by the value, without a test. *The best counter* is the one with the least mRMSE on
validation images.

{goals(measured.found, minutes, measured.stored)}

{asked}{sections}
"""


def _hidden(found: Mapping[str, SetResults]) -> str:
    widths = sorted({SETS[name].hidden for name in found})
    shown = [f"{perceptron} of perceptrons, {lstm} of LSTMs" for perceptron, lstm in widths]
    return "; ".join(shown)


def measure_all(
    names: Sequence[str], seeds: int, grid_seeds: int, share: float, workers: int, progress: Progress
) -> Measured:
    """Prepare, train and measure everything in parallel; what is stored is read."""
    stored = False
    files = dict(zip(names, run_jobs(prepare, [(n, share) for n in names], "features", progress, workers), strict=True))
    jobs = jobs_of(names, seeds, grid_seeds, share)
    digests = {name: read_prepared(name, file).digest for name, file in files.items()}
    stored = any(job.file(digests[job.name]).exists() for job in jobs)
    made = run_jobs(run, [(job, files[job.name]) for job in jobs], "networks", progress, workers)
    by_job = dict(zip(jobs, made, strict=True))
    tallies = _tallies(by_job, files, seeds, workers, progress)
    found, bar = {}, progress.add_task("intervals", total=len(names), loss="")
    for name in names:
        found[name] = results_of(read_prepared(name, files[name]), *_read(name, by_job))
        progress.advance(bar)
    asked = ask_toybox(len(found["toybox"].images)) if "toybox" in found else None
    answered = None
    if asked is not None and asked.compared(SETS["toybox"].labels):
        counts = {kind: np.stack([one.counts for one in rows]) for kind, rows in found["toybox"].runs.items()}
        answered = question_statistics(asked, counts, SETS["toybox"].labels)
    return Measured(found, tallies, asked, answered, stored)


def _read(
    name: str, by_job: Mapping[Job, Path]
) -> tuple[dict[str, list[RunResult]], dict[tuple[str, int], list[RunResult]]]:
    """Return the runs of a data set by kind, and those of the comparison of grids by kind and grid, by seed."""
    runs: dict[str, list[RunResult]] = {}
    sweeps: dict[tuple[str, int], list[RunResult]] = {}
    for job in sorted((job for job in by_job if job.name == name), key=lambda job: job.seed):
        found = read_run(by_job[job])
        if job.sweep:
            sweeps.setdefault((job.kind, job.grid), []).append(found)
        else:
            runs.setdefault(job.kind, []).append(found)
    return runs, sweeps


def _tallies(
    by_job: Mapping[Job, Path], files: Mapping[str, Path], seeds: int, workers: int, progress: Progress
) -> dict[str, Tallies]:
    """Measure detection with counts for every data set with a detector, and every seed."""
    names = [name for name in files if SETS[name].detects]
    own = {(job.name, job.kind, job.seed): file for job, file in by_job.items() if not job.sweep}
    work = [
        (name, files[name], own[name, "detect", seed], {kind: own[name, kind, seed] for kind in COUNTERS})
        for name in names
        for seed in range(seeds)
    ]
    done = run_jobs(detection_use, work, "detection with counts", progress, workers)
    return {name: done[place * seeds : (place + 1) * seeds] for place, name in enumerate(names)}


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=2, max=20, help="Number of seeds.")] = SEEDS,
    grid_seeds: Annotated[int, typer.Option(min=1, max=20, help="Number of seeds of the other grids.")] = GRID_SEEDS,
    only: Annotated[str, typer.Option(help=f"Data sets, separated by commas, of {', '.join(SETS)}.")] = "",
    share: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Train and measure all counters, and print or write the page. Finished runs are stored under out/claims."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(SETS)
    if unknown := [name for name in wanted if name not in SETS]:
        raise InputError(f"there is no data set {', '.join(map(repr, unknown))}. There are {', '.join(SETS)}.")
    names = [name for name in wanted if not SETS[name].real or (REAL / "bccd").is_dir()]
    if not names:
        raise InputError(f"there is no folder of real images '{REAL}'; SAYWHY_REAL names another.")

    def report(progress: Progress) -> str:
        begin = perf_counter()
        measured = measure_all(names, seeds, grid_seeds, share, workers, progress)
        return page(measured, seeds, share, (perf_counter() - begin) / 60, workers)

    run_section(report, out)


if __name__ == "__main__":
    typer.run(main)
