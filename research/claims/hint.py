"""The claims of HINT, with the controls that its critique asks for, on questions about regions of Toybox.

python -m research.claims.hint
python -m research.claims.hint --out docs/claims-hint.md
"""

from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress

from research.claims.hint_runs import BASE_STEPS, HINTED, SCENES, STEPS, TESTS, run, train_base
from research.claims.measure import table
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run as run_section
from saywhy.alignment.region_methods import REGION_METHODS
from saywhy.statistics import student_margin

SEEDS = 5

CONTROLS = tuple(name for name, method in REGION_METHODS.items() if method.control)
"""What HINT must beat: C1, C3 to C8 and C10."""

Found = dict[tuple[str, int], dict[str, Any]]

PAPER = "VQA-CP v2: 39.49 before, 46.73 with HINT (Selvaraju et al., 2019); with random hints as good (Shrestha et al.)"


def page(found: Found, seeds: int, minutes: float) -> str:
    """Return the page."""
    names = list(dict.fromkeys(name for name, _ in found))
    return f"""# HINT and its controls, on questions about regions of Toybox

Made by `python -m research.claims.hint` with {seeds} seeds, in {minutes:.0f} minutes. Not comparable to published
numbers ({PAPER}): these are drawn scenes, 24 region proposals each, and a small UpDn network.

Every run of a seed begins with the same network, trained for {BASE_STEPS:,} steps on {SCENES:,} scenes of
`priors-train`, and continues for {STEPS} steps on the {HINTED:.0%} of questions with hints (attention maps of simulated
people), with the task's loss and what the run adds, weight 2. No epoch and no setting was chosen on any test set.
Changed priors: {TESTS} scenes of `priors-test`, whose frequent answers are the rare ones of training; same priors:
`priors-val`. Mean and standard deviation over seeds.

## Accuracy

{
        table(
            ["run", "", "training", "same priors", "changed priors", "yes, changed priors", "answer entropy (bits)"],
            [_accuracy_row(found, name) for name in names],
        )
    }

## By type of question, changed priors

{table(["run", *_types(found)], [_type_row(found, name) for name in names])}

## Grounding, on held-out questions with the same priors

Rank: Spearman's correlation of importances with people's. Pointing: the most important region is one that people find
important. Deletion: how much more the right answer's probability falls without the four most important regions than
without four random ones. Size: mean absolute importance, which a ranking loss can lower.

{table(["run", "rank", "pointing", "deletion", "size"], [_grounding_row(found, name) for name in names])}

## Verdict

{verdict(found, seeds)}
"""


def verdict(found: Found, seeds: int) -> str:
    """The critique's rule: grounding helped if HINT beats every control on accuracy, rank and deletion."""
    rows, beaten = [], {}
    for what, split in (("accuracy", "test"), ("rank", "val"), ("deletion", "val")):
        for other in ("base", *CONTROLS):
            low, high, mean = _paired(found, "hint", other, split, what, seeds)
            beaten[what, other] = low > 0
            rows.append([what, other, f"{mean:+.3f} ({low:+.3f} to {high:+.3f})", _word(low, high)])
    every = all(beaten[what, other] for what in ("accuracy", "rank", "deletion") for other in CONTROLS)
    if every and beaten["accuracy", "base"]:
        word = "grounding helped"
    elif beaten["accuracy", "base"] and beaten["accuracy", "erm"]:
        word = "regularization helped"
    else:
        word = "neither"
    lines = table(["measure", "HINT less", "difference, Student's interval over seeds", ""], rows)
    return f"""**{word.capitalize()}**, by the rule: grounding helped if HINT is better than every control in
accuracy on changed priors, in rank and in deletion; regularization helped if it is better than before and than training
without hints; else neither. All controls must be beaten, so that their number makes nothing likelier.

{lines}"""


def _paired(found: Found, one: str, other: str, split: str, what: str, seeds: int) -> tuple[float, float, float]:
    values = np.array([found[one, s][split][what] - found[other, s][split][what] for s in range(seeds)])
    margin = student_margin(values)
    return float(values.mean() - margin), float(values.mean() + margin), float(values.mean())


def _word(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "not decidable here"


def _mean(found: Found, name: str, split: str, what: str, kind: str | None = None) -> str:
    rows = [row[split][what] for (run_name, _), row in found.items() if run_name == name]
    values = np.array([row if kind is None else row[kind] for row in rows], float)
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _title(name: str) -> list[object]:
    return [name, "C0" if name == "base" else REGION_METHODS[name].run]


def _accuracy_row(found: Found, name: str) -> list[object]:
    splits = [_mean(found, name, split, "accuracy") for split in ("train", "val", "test")]
    return [*_title(name), *splits, _mean(found, name, "test", "yes"), _mean(found, name, "test", "entropy")]


def _types(found: Found) -> list[str]:
    return list(next(iter(found.values()))["test"]["types"])


def _type_row(found: Found, name: str) -> list[object]:
    return [name, *(_mean(found, name, "test", "types", kind) for kind in _types(found))]


def _grounding_row(found: Found, name: str) -> list[object]:
    return [name, *(_mean(found, name, "val", what) for what in ("rank", "pointing", "deletion", "size"))]


def measure_all(seeds: int, share: float, workers: int, progress: Progress) -> Found:
    """Measure all runs of all seeds, in parallel; finished ones are read."""
    scenes, steps = max(2, round(SCENES * share)), max(2, round(BASE_STEPS * share))
    run_jobs(train_base, [(seed, scenes, steps) for seed in range(seeds)], "base networks", progress, workers)
    jobs = [(name, seed, share) for seed in range(seeds) for name in ("base", *REGION_METHODS)]
    rows = run_jobs(run, jobs, "runs", progress, workers)
    return {(name, seed): row for (name, seed, _), row in zip(jobs, rows, strict=True)}


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; printed by default.")] = None,
    seeds: Annotated[int, typer.Option(min=2, max=20, help="Number of seeds.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="Share of scenes and steps, for a quick run.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Runs in parallel, on a thread each.")] = WORKERS,
) -> None:
    """Train and measure, and print or write the page. Finished runs are stored under out/claims."""

    def report(progress: Progress) -> str:
        begin = perf_counter()
        found = measure_all(seeds, items, workers, progress)
        return page(found, seeds, (perf_counter() - begin) / 60)

    run_section(report, out)


if __name__ == "__main__":
    typer.run(main)
