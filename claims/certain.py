"""What U-CAM's paper claims of certainty and attention, and whether it holds in Toybox, against controls.

    python -m claims.certain                       # trains eight networks of each of three seeds
    python -m claims.certain --out docs/claims-certain.md

A claim holds only where U-CAM is better than the base network and than every control, each by an interval above zero.
What was measured of a network is kept under out/claims, so that it can be stopped and goes on.
"""

from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import saywhy
from claims.certain_measured import Run, measured, tested
from claims.certain_told import Results
from claims.doubting import FOLDER, RUNS, STEPS, doubter
from saywhy.models.toybox_talk import ToyboxEyes
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.training.talk import followed
from saywhy.training.toybox_ucam import Questions
from saywhy.view.atomic import written_whole

SEEDS = 3
SCENES, TESTS, LOOKED = 3_000, 400, 120
"""Scenes of each split to train on, scenes of each to measure on, and scenes whose people's attention is compared."""

HEAD = """# U-CAM: certainty and attention, in Toybox

Made by `python -m claims.certain` with {seeds} seeds{share}, in {minutes:.0f} minutes ({trained:.0f} of them training)
on {cores} CPU cores. The base network is U-CAM's (Show, Ask, Attend and Answer), small, on the stored features of
Toybox's eyes with the places; all runs of a seed begin with the same weights and see the same questions, {steps:,} of
steps: clear scenes and blurred ones, with the shares of answers that ten simulated people give. U-CAM's training was
never published; this is a reconstruction (`saywhy.uncertainty`), and none of these figures can be compared with
published ones.

Everything is of the test splits. Uncertainties are judged on clear and blurred questions together. Intervals are 95 %,
by the bootstrap over scenes, of the mean over seeds; how far seeds differ is not in them. A claim **holds** only where
all differences below it are above zero: from the base network and from every control (the losses without surgery;
masks with their shares shuffled over places, random, or uniform; a temperature alone). Beside the agreement with people
stand that of the attention for another question, and that of a hill in the middle of the picture.
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="How many seeds.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="This share of scenes and steps, to try it out.")] = 1.0,
) -> None:
    """Train, measure, and print the tables. Networks that were trained once are kept under out/claims."""
    begin, results = perf_counter(), Results()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress:
        base = saywhy.load("toybox:vqa")
        eyes: ToyboxEyes = base.module.trunk  # type: ignore[assignment]
        known: Vocabulary = base.texts["question"].__self__  # type: ignore[attr-defined]
        scenes, count = int(items * SCENES), int(items * TESTS)
        shown = Questions(
            eyes, [followed(split, scenes, progress) for split in ("talk-train", "ambiguous-train")], known
        )
        tests = tested(eyes, known, count, int(items * LOOKED), progress)
        drawing = perf_counter() - begin
        for seed in range(seeds):
            for run in RUNS:
                file = FOLDER / f"certain-{run.lower().replace(' ', '-')}-{seed}-{items:g}.npz"
                if not file.exists():
                    network = doubter(run, seed, known, shown, progress, int(items * STEPS))
                    measured(network, eyes, tests).keep(file)
                results.add(run, seed, Run.kept(file))
    every = [run for of_seeds in results.runs.values() for run in of_seeds.values()]
    trained = sum(run.seconds for run in every)
    share = "" if items == 1 else f" and {items:.0%} of scenes and steps"
    head = HEAD.format(
        seeds=seeds,
        share=share,
        minutes=(drawing + trained + sum(run.measuring for run in every)) / 60,
        trained=trained / 60,
        cores=torch.get_num_threads(),
        steps=int(items * STEPS),
    )
    text = f"{head}\n{results.report()}\n"
    if out is None:
        print(text)
        return
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
