"""The claims of HINT, with the controls that its critique asks for, on questions and captions of regions of Toybox.

python -m research.claims.hint
python -m research.claims.hint --out docs/claims-hint.md
"""

from time import perf_counter
from typing import Annotated

import typer
from rich.progress import Progress

from research.claims.hint_captions import measure_captions, section
from research.claims.hint_runs import BASE_STEPS, HINTED, SCENES, STEPS, TESTS, run, train_base
from research.claims.hint_tables import Found, Measure, mean_cell, title_cells
from research.claims.hint_tables import verdict as verdict_of
from research.claims.measure import table
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run as run_section
from research.options import Out, Share, Workers
from saywhy.alignment.region_methods import REGION_METHODS

SEEDS = 5

CONTROLS = tuple(name for name, method in REGION_METHODS.items() if method.control)
"""What HINT must beat: C1, C3 to C8 and C10."""

MEASURES = (
    Measure("accuracy", "test", "accuracy"),
    Measure("rank", "val", "rank"),
    Measure("deletion", "val", "deletion"),
)

RULE = (
    "grounding helped if HINT is better than every control in accuracy on changed priors, in rank and in deletion; "
    "regularization helped if it is better than before and than training without hints; else neither."
)

PAPER = "VQA-CP v2: 39.49 before, 46.73 with HINT (Selvaraju et al., 2019); with random hints as good (Shrestha et al.)"


def page(found: Found, captions: str, seeds: int, minutes: float) -> str:
    """Return the page; ``captions`` is its second section."""
    names = list(dict.fromkeys(name for name, _ in found))
    return f"""# HINT and its controls, on regions of Toybox

Made by `python -m research.claims.hint`. Finished runs are read and not timed again.

## Questions

Made with {seeds} seeds, in {minutes:.0f} minutes. Not comparable to published numbers ({PAPER}): these are drawn
scenes, 24 region proposals each, and a small UpDn network.

Every run of a seed begins with the same network, trained for {BASE_STEPS:,} steps on {SCENES:,} scenes of
`priors-train`, and continues for {STEPS} steps on the {HINTED:.0%} of questions with hints (attention maps of simulated
people), with the task's loss and what the run adds, weight 2. No epoch and no setting was chosen on any test set.
Changed priors: {TESTS} scenes of `priors-test`, whose frequent answers are the rare ones of training; same priors:
`priors-val`. Mean and standard deviation over seeds.

### Accuracy

{
        table(
            ["run", "", "training", "same priors", "changed priors", "yes, changed priors", "answer entropy (bits)"],
            [_accuracy_row(found, name) for name in names],
        )
    }

### By type of question, changed priors

{table(["run", *_types(found)], [_type_row(found, name) for name in names])}

### Grounding, on held-out questions with the same priors

Rank: Spearman's correlation of importances with people's. Pointing: the most important region is one that people find
important. Deletion: how much more the right answer's probability falls without the four most important regions than
without four random ones. Size: mean absolute importance, which a ranking loss can lower.

{table(["run", "rank", "pointing", "deletion", "size"], [_grounding_row(found, name) for name in names])}

### Verdict

{verdict(found, seeds)}

{captions}"""


def verdict(found: Found, seeds: int) -> str:
    """The critique's rule: grounding helped if HINT beats every control on accuracy, rank and deletion."""
    return verdict_of(found, seeds, CONTROLS, MEASURES, RULE)


def _accuracy_row(found: Found, name: str) -> list[object]:
    splits = [mean_cell(found, name, split, "accuracy") for split in ("train", "val", "test")]
    return [
        *title_cells(name),
        *splits,
        mean_cell(found, name, "test", "yes"),
        mean_cell(found, name, "test", "entropy"),
    ]


def _types(found: Found) -> list[str]:
    return list(next(iter(found.values()))["test"]["types"])


def _type_row(found: Found, name: str) -> list[object]:
    return [name, *(mean_cell(found, name, "test", "types", kind) for kind in _types(found))]


def _grounding_row(found: Found, name: str) -> list[object]:
    return [name, *(mean_cell(found, name, "val", what) for what in ("rank", "pointing", "deletion", "size"))]


def measure_all(seeds: int, share: float, workers: int, progress: Progress) -> Found:
    """Measure all runs of all seeds, in parallel; finished ones are read."""
    scenes, steps = max(2, round(SCENES * share)), max(2, round(BASE_STEPS * share))
    run_jobs(train_base, [(seed, scenes, steps) for seed in range(seeds)], "base networks", progress, workers)
    jobs = [(name, seed, share) for seed in range(seeds) for name in ("base", *REGION_METHODS)]
    rows = run_jobs(run, jobs, "runs", progress, workers)
    return {(name, seed): row for (name, seed, _), row in zip(jobs, rows, strict=True)}


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=2, max=20, help="Number of seeds.")] = SEEDS,
    items: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Train and measure, and print or write the page. Finished runs are stored under out/claims."""

    def report(progress: Progress) -> str:
        begin = perf_counter()
        found = measure_all(seeds, items, workers, progress)
        minutes = (perf_counter() - begin) / 60
        said, took = measure_captions(seeds, items, workers, progress)
        return page(found, section(said, seeds, took), seeds, minutes)

    run_section(report, out)


if __name__ == "__main__":
    typer.run(main)
