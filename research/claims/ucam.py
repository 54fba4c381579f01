"""The claims of U-CAM's paper on uncertainty and attention, measured in Toybox against controls.

    python -m research.claims.ucam                       # trains sixteen networks for each of three seeds
    python -m research.claims.ucam --out docs/claims-ucam.md

A claim holds only where the reconstruction is better than the base network and every control. Measurements are stored
for each network under out/claims, so that a stopped run continues.
"""

from pathlib import Path
from time import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import saywhy
from research.claims.attention_network import VisualFeatures
from research.claims.multiple_testing import RULES, resolved
from research.claims.parallel import WORKERS, run_jobs
from research.claims.ucam_claims import report
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
from research.options import Out, Share, Workers
from saywhy.io.atomic import atomic_write
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import VQAModel
from saywhy.toybox.models.vision_language import ToyboxTrunk
from saywhy.toybox.recipes.language_data import draw_language_data
from saywhy.toybox.recipes.ucam import Questions

SEEDS = 3
SCENES, TESTS, ATTENDED = 3_000, 300, 120
"""Training scenes and test scenes of each split, and scenes with human attention maps."""

HEAD = """# U-CAM: uncertainty and attention, in Toybox

Made by `python -m research.claims.ucam` with {seeds} seeds{share}, in {minutes:.0f} minutes, {workers} networks in
parallel, each on one thread ({trained:.0f} minutes of training and {measuring:.0f} of measuring in total). The base
network is a small version of U-CAM's (Show, Ask, Attend and Answer: two attention glimpses are its only access to the
image). It uses the trunk and the question encoder of `toybox:vqa`; attention and classifier are trained. All runs of a
seed start from the same network, trained for {begun:,} steps on answers alone, and continue for {steps:,} steps on the
same questions about clear and blurred scenes, with soft targets from ten simulated people; the *base* continues on
answers alone. Two glimpses cannot count, compare, or verify absence: see the types of questions. U-CAM's training
was never published; this is a reconstruction (`saywhy.uncertainty`), and its results cannot be compared with published
ones. The gradient surgery has strength {strength:g}, in *ten times* {ten:g}.

All results are on test splits. Uncertainties are evaluated on clear and blurred questions together, and like is
compared with like: the entropy of a single pass with that of a single pass, fifty Monte Carlo dropout samples with
fifty. The wrong answers are those of the same prediction. The AUROC *within types* compares questions of one type with
one another, and is the mean over types, weighted by their number of questions; pooled over types, it also rewards an
uncertainty that only separates hard types from easy ones. Verdicts are of the AUROC within types.

The controls are the losses without surgery; masks shuffled over positions, or random; and *answer*, a mask of the
answer's own gradient, independent of uncertainty. (A uniform mask would be none: the mean of a mask is subtracted, so
that it changes nothing.) *Literal*, *additive* and *P-GCA* are other readings of the paper. The losses of this
reconstruction drive the predicted variance to zero (`saywhy.uncertainty.loss` derives why), and there the certainty
gradient equals the answer's: see their cosine. Therefore variants are measured. The masks of two differ: *entropy
mask*, from the gradient of the entropy of the prediction, and *distortion mask*, from that of the uncertainty loss
without its Gaussian cross entropy, the term that comes to equal the answer's loss. In two others the variance need not
collapse: *no equaliser*, the losses without `exp(s) - 1`, and *prior*, the loss of Kendall and Gal (2017) with a prior
N(0, 1) on the noise of the logits, with two controls of its own. The agreement with people is also given for two
baselines: the attention for another question, and the centre prior.
"""

COMBINED = """A claim with several differences holds only if all are above zero (an intersection-union test: the largest
p-value counts), and does not hold if one is below zero (the smallest p-value times their number). The estimates are
means over seeds, whose networks are measured on the same scenes."""
"""The rule of claims with several differences."""


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Number of seeds.")] = SEEDS,
    items: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Train and measure, and print or write the page. Trained networks are stored under out/claims."""
    scenes = int(items * SCENES)
    files = {
        (run, seed): FOLDER / f"ucam-{run_name(run, seed, items, 2 * scenes)}-{Run.version()}.npz"
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
    found, verdicts = resolved(f"## Claims\n\n{report(results)}")
    text = "\n\n".join([f"{head}\n{RULES}\n{COMBINED}", verdicts, found, results.tables()]) + "\n"
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def busy_seconds(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of time spans, in seconds.

    >>> busy_seconds([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def _run_missing(missing: dict[tuple[str, int], Path], items: float, workers: int, progress: Progress) -> None:
    """Train and measure the missing networks in parallel, and store the results."""
    if not missing:
        return
    since = time()
    drawn, seeds = _draw_data(items, progress), sorted({seed for _, seed in missing})
    run_jobs(_pretrain, [(seed, items) for seed in seeds], "pretraining", progress, workers, _store_data, drawn)
    jobs = [(run, seed, file, items, since) for (run, seed), file in missing.items()]
    run_jobs(_run_one, jobs, "networks", progress, workers, _store_data, drawn)


Data = tuple[Questions, Tests]
DATA: list[Data] = []
"""The data of a worker process, set when it starts."""


def _draw_data(items: float, progress: Progress) -> Data:
    """Draw the training questions and the test questions."""
    model = saywhy.load("toybox:vqa")
    trunk: ToyboxTrunk = model.module.trunk  # type: ignore[assignment]
    known: Vocabulary = model.texts["question"].__self__  # type: ignore[attr-defined]
    visual, scenes = VisualFeatures(_base(model)), int(items * SCENES)
    talks = [draw_language_data(split, scenes, progress) for split in ("talk-train", "ambiguous-train")]
    training = visual.replace_features(Questions(trunk, talks, known))
    return training, draw_tests(trunk, visual, known, int(items * TESTS), int(items * ATTENDED), progress)


def _base(model: saywhy.Model) -> VQAModel:
    assert isinstance(model.module, VQAModel)
    return model.module


def _store_data(training: Questions, tests: Tests) -> None:
    DATA.append((training, tests))


def _pretrain(seed: int, items: float) -> None:
    """Pretrain the common network of a seed."""
    pretrained_head(seed, _base(saywhy.load("toybox:vqa")), DATA[0][0], items)


def _run_one(run: str, seed: int, file: Path, items: float, since: float) -> None:
    """Train and measure one network, and store the measurements."""
    training, tests = DATA[0]
    base = _base(saywhy.load("toybox:vqa"))
    measure_network(trained_network(run, seed, base, training, items), VisualFeatures(base), tests, since).keep(file)


if __name__ == "__main__":
    typer.run(main)
