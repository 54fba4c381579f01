"""What U-CAM's paper claims of certainty and attention, and whether it holds in Toybox, against controls.

    python -m claims.certain                       # trains eight networks of each of three seeds
    python -m claims.certain --out docs/claims-certain.md

A claim holds only where U-CAM is better than the base network and than every control, each by an interval above zero.
What was measured of a network is kept under out/claims, so that it can be stopped and goes on.
"""

from pathlib import Path
from time import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import saywhy
from claims.certain_measured import Run, Tests, measured, tested
from claims.certain_told import Results
from claims.doubting import FOLDER, RUNS, STEPS, doubter
from claims.side_by_side import WORKERS, side_by_side
from saywhy.models.toybox_talk import ToyboxEyes
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.training.talk import followed
from saywhy.training.toybox_ucam import Questions
from saywhy.view.atomic import written_whole

SEEDS = 3
SCENES, TESTS, LOOKED = 3_000, 400, 120
"""Scenes of each split to train on, scenes of each to measure on, and scenes whose people's attention is compared."""

HEAD = """# U-CAM: certainty and attention, in Toybox

Made by `python -m claims.certain` with {seeds} seeds{share}, in {minutes:.0f} minutes, {workers} networks at a time,
each on one thread ({trained:.0f} minutes of training and {measuring:.0f} of measuring, added up). The base network is
U-CAM's (Show, Ask, Attend and Answer), small, on the stored features of Toybox's eyes with the places; all runs of a
seed begin with the same weights and see the same questions, {steps:,} of steps: clear scenes and blurred ones, with the
shares of answers that ten simulated people give. U-CAM's training was never published; this is a reconstruction
(`saywhy.uncertainty`), and none of these figures can be compared with published ones.

Everything is of the test splits. Uncertainties are judged on clear and blurred questions together. Intervals are 95 %,
by the bootstrap over scenes and over seeds. A claim **holds** only where all differences below it are above zero: from
the base network and from every control (the losses without surgery; masks with their shares shuffled over places,
random, or uniform; a temperature alone). Beside the agreement with people stand that of the attention for another
question, and that of a hill in the middle of the picture.
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="How many seeds.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="This share of scenes and steps, to try it out.")] = 1.0,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="So many networks at a time, on a thread each.")
    ] = WORKERS,
) -> None:
    """Train, measure, and print the tables. Networks that were trained once are kept under out/claims."""
    files = {
        (run, seed): FOLDER / f"certain-{run.lower().replace(' ', '-')}-{seed}-{items:g}.npz"
        for seed in range(seeds)
        for run in RUNS
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        _make({key: file for key, file in files.items() if not file.exists()}, items, workers, progress)
    results = Results()
    for (run, seed), file in files.items():
        results.add(run, seed, Run.kept(file))
    every = [run for of_seeds in results.runs.values() for run in of_seeds.values()]
    head = HEAD.format(
        seeds=seeds,
        share="" if items == 1 else f" and {items:.0%} of scenes and steps",
        minutes=busy([(run.began, run.ended) for run in every]) / 60,
        workers=workers,
        trained=sum(run.seconds for run in every) / 60,
        measuring=sum(run.measuring for run in every) / 60,
        steps=int(items * STEPS),
    )
    text = f"{head}\n{results.report()}\n"
    if out is None:
        print(text)
        return
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def busy(spans: list[tuple[float, float]]) -> float:
    """The seconds in which something was at work.

    >>> busy([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def _make(missing: dict[tuple[str, int], Path], items: float, workers: int, progress: Progress) -> None:
    """Train and measure networks, several at a time; what was finished is kept."""
    if not missing:
        return
    jobs = [(run, seed, file, int(items * STEPS)) for (run, seed), file in missing.items()]
    side_by_side(_one, jobs, "networks", progress, workers, _keep, _drawn(items, progress))


Drawn = tuple[Questions, Tests]
DRAWN: list[Drawn] = []
"""What a process of its own was given when it began."""


def _drawn(items: float, progress: Progress) -> Drawn:
    """The questions to train on, and those of the tests."""
    base = saywhy.load("toybox:vqa")
    eyes, known = _eyes(base)
    scenes = int(items * SCENES)
    shown = Questions(eyes, [followed(split, scenes, progress) for split in ("talk-train", "ambiguous-train")], known)
    return shown, tested(eyes, known, int(items * TESTS), int(items * LOOKED), progress)


def _eyes(base: saywhy.Model) -> tuple[ToyboxEyes, Vocabulary]:
    return base.module.trunk, base.texts["question"].__self__  # type: ignore[return-value, attr-defined]


def _keep(shown: Questions, tests: Tests) -> None:
    DRAWN.append((shown, tests))


def _one(run: str, seed: int, file: Path, steps: int) -> None:
    """Train and measure one network, and keep what was measured."""
    (shown, tests), began = DRAWN[0], time()
    eyes, known = _eyes(saywhy.load("toybox:vqa"))
    network = doubter(run, seed, known, shown, Progress(disable=True), steps)
    measured(network, eyes, tests, began).keep(file)


if __name__ == "__main__":
    typer.run(main)
