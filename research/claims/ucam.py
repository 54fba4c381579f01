"""What U-CAM's paper claims of certainty and attention, and whether it holds in Toybox, against controls.

    python -m research.claims.ucam                       # trains eleven networks of each of three seeds
    python -m research.claims.ucam --out docs/claims-ucam.md

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
from research.claims.attention_network import VisualFeatures
from research.claims.parallel import WORKERS, run_jobs
from research.claims.ucam_measures import Run, Tests, draw_tests, measure_network
from research.claims.ucam_tables import Results
from research.claims.uncertainty_networks import (
    FOLDER,
    PRETRAINING,
    RUNS,
    STEPS,
    STRENGTH,
    pretrained_head,
    run_name,
    trained_network,
)
from saywhy.io.atomic import atomic_write
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox.models.vision_language import ToyboxTrunk
from saywhy.toybox.recipes.language_data import draw_language_data
from saywhy.toybox.recipes.ucam import Questions

SEEDS = 3
SCENES, TESTS, LOOKED = 3_000, 300, 120
"""Scenes of each split to train on, scenes of each to measure on, and scenes whose people's attention is compared."""

HEAD = """# U-CAM: certainty and attention, in Toybox

Made by `python -m research.claims.ucam` with {seeds} seeds{share}, in {minutes:.0f} minutes, {workers} networks at a
time, each on one thread ({trained:.0f} minutes of training and {measuring:.0f} of measuring, added up). The base
network is like U-CAM's (Show, Ask, Attend and Answer: all that it knows of an image it has seen with two glimpses),
small, on what `toybox:vqa` has learnt to see and to read; it learns where to look and what to answer. All runs of a
seed go on from the same network, which has taken {begun:,} steps of answers alone, for {steps:,} steps on the same
questions: clear scenes and blurred ones, with the shares of answers that ten simulated people give; the *base* goes on
with answers alone. Two glimpses cannot count, compare, or tell that there is none: see the types of questions. U-CAM's
training was never published; this is a reconstruction (`saywhy.uncertainty`), and none of these figures can be compared
with published ones. The surgery has strength {strength:g}, in *ten times* {ten:g}.

Everything is of the test splits. Uncertainties are judged on clear and blurred questions together. Intervals are 95 %,
of the mean over seeds: by the bootstrap over scenes, widened by how far seeds differ (Student's t). A claim **holds**
only where all differences below it are above zero: from the base network and from every control (the losses without
surgery; masks with their shares shuffled over places, random, or uniform; a mask of the answer's own gradient,
*answer*, that knows nothing of certainty; a temperature alone). *Literal*, *additive* and *P-GCA* are other readings.
Beside the agreement with people stand that of the attention for another question, and that of the centre prior.
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
    scenes = int(items * SCENES)
    files = {
        (run, seed): FOLDER / f"ucam-{run_name(run, seed, items, 2 * scenes)}.npz"
        for seed in range(seeds)
        for run in RUNS
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        _run_missing({key: file for key, file in files.items() if not file.exists()}, items, workers, progress)
    results = Results()
    for (run, seed), file in files.items():
        results.add(run, seed, Run.kept(file))
    every = [run for of_seeds in results.runs.values() for run in of_seeds.values()]
    head = HEAD.format(
        seeds=seeds,
        share="" if items == 1 else f" and {items:.0%} of scenes and steps",
        minutes=busy_seconds([(run.began, run.ended) for run in every]) / 60,
        workers=workers,
        trained=sum(run.seconds for run in every) / 60,
        measuring=sum(run.measuring for run in every) / 60,
        begun=int(items * PRETRAINING),
        steps=int(items * STEPS),
        strength=STRENGTH,
        ten=10 * STRENGTH,
    )
    text = f"{head}\n{results.report()}\n"
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def busy_seconds(spans: list[tuple[float, float]]) -> float:
    """The seconds in which something was at work.

    >>> busy_seconds([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def _run_missing(missing: dict[tuple[str, int], Path], items: float, workers: int, progress: Progress) -> None:
    """Train and measure networks, several at a time; what was finished is kept."""
    if not missing:
        return
    since = time()
    drawn, seeds = _draw_data(items, progress), sorted({seed for _, seed in missing})
    run_jobs(_pretrain, [(seed, items) for seed in seeds], "what is common", progress, workers, _store_data, drawn)
    jobs = [(run, seed, file, items, since) for (run, seed), file in missing.items()]
    run_jobs(_run_one, jobs, "networks", progress, workers, _store_data, drawn)


Data = tuple[Questions, Tests]
DATA: list[Data] = []
"""What a process of its own was given when it began."""


def _draw_data(items: float, progress: Progress) -> Data:
    """The questions to train on, and those of the tests."""
    model = saywhy.load("toybox:vqa")
    eyes: ToyboxTrunk = model.module.trunk  # type: ignore[assignment]
    known: Vocabulary = model.texts["question"].__self__  # type: ignore[attr-defined]
    visual, scenes = VisualFeatures(_base(model)), int(items * SCENES)
    talks = [draw_language_data(split, scenes, progress) for split in ("talk-train", "ambiguous-train")]
    shown = visual.replace_features(Questions(eyes, talks, known))
    return shown, draw_tests(eyes, visual, known, int(items * TESTS), int(items * LOOKED), progress)


def _base(model: saywhy.Model) -> VQAModel:
    assert isinstance(model.module, VQAModel)
    return model.module


def _store_data(shown: Questions, tests: Tests) -> None:
    DATA.append((shown, tests))


def _pretrain(seed: int, items: float) -> None:
    """Train what all networks of a seed have in common."""
    pretrained_head(seed, _base(saywhy.load("toybox:vqa")), DATA[0][0], items)


def _run_one(run: str, seed: int, file: Path, items: float, since: float) -> None:
    """Train and measure one network, and keep what was measured."""
    shown, tests = DATA[0]
    base = _base(saywhy.load("toybox:vqa"))
    measure_network(trained_network(run, seed, base, shown, items), VisualFeatures(base), tests, since).keep(file)


if __name__ == "__main__":
    typer.run(main)
