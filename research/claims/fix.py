"""``saywhy fix`` on networks that have learnt a shortcut: every method, its controls and baselines, on five data sets.

python -m research.claims.fix
python -m research.claims.fix --out docs/claims-fix.md
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress

from research.claims.decoys import AGAINST, ALONE, HINTED
from research.claims.fix_data import PLANTED, REAL, prepare, train_start
from research.claims.fix_runs import CONTROLS, JUDGED, Row, corrected, image_interval, p_value, run, seed_interval
from research.claims.fix_runs import verdict_of as verdict_over_seeds
from research.claims.measure import table
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run as run_section
from research.options import Out, Share, Workers
from saywhy.errors import InputError
from saywhy.fixing.evaluate import Evaluation
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.verdict import FixVerdict, deciding_split, measure_of

SEEDS = 5

Found = Mapping[str, Sequence[Row]]
"""By data set, a row a seed."""


def page(found: Found, seeds: int, share: float, minutes: float) -> str:
    """Return the page."""
    missing = [name for name in PLANTED if name not in found]
    note = f"\n\nNot measured here: {', '.join(missing)}." if missing else ""
    sections = "\n\n".join(section(name, rows, share) for name, rows in found.items())
    return f"""# Fixing classifiers that have learnt a shortcut

Made by `python -m research.claims.fix` with {seeds} seeds, in {minutes:.0f} minutes (less if runs were stored).{note}

Every network is first trained until it uses the shortcut, which gives the class away in {1 - ALONE:.0%} of the training
images (Toybox's background: 95 %). All methods of `saywhy.fix` then begin with these weights and take as many steps
(`jtt` half as many more); {HINTED:.0%} of the training images have a hint. Epochs are chosen on the validation split by
labels that the method may see; nothing is chosen on "test" or "shifted". In the validation split {_fewest(found)} or
more images of each class ({AGAINST:.0%}) are without the shortcut: with so few, a choice by the worst group is noisy,
and DFR has little to learn from. Sizes, epochs and rates are the same for all methods; they were set in trials with
seed 0.

## Did the hints help?

{summary(found)}

By the rule of `saywhy fix`: *grounding helped* if the method is better than the network before and than each of
{len(CONTROLS)} controls ({", ".join(CONTROLS)}) in worst-group accuracy on shifted images,
in the rank correlation of maps with held-out hints, and in deletion; *regularization helped* if it is better than
before and than training without hints (`erm`), but not than every control; *neither* otherwise. Better: Student's 95 %
interval of the paired difference over seeds lies above zero. p is the largest p-value of all comparisons that
"grounding helped" needs (an intersection-union test), after Holm's correction for the {len(JUDGED) * len(found)} rows
of this table.

{sections}
"""


def summary(found: Found) -> str:
    """The verdict on every method with hints, on every data set."""
    ps = corrected({(name, method): p_value(method, rows) for name, rows in found.items() for method in JUDGED})
    lines = []
    for name, rows in found.items():
        for method in JUDGED:
            verdict = verdict_over_seeds(method, rows)
            row = [PLANTED[name].title, f"`{method}`", _word(verdict), _gain(verdict, "before"), _gain(verdict, "erm")]
            lines.append([*row, _gain(verdict, "random-hints"), _best(rows, method), f"{ps[name, method]:.2g}"])
    heads = ["data", "method", "verdict", "less before", "less erm", "less random hints", "best of all", "p"]
    return table(heads, lines)


def section(name: str, rows: Sequence[Row], share: float) -> str:
    """One data set: what it is, the table of all methods, and the reasons of the verdicts."""
    planted = PLANTED[name]
    sizes = planted.sizes.times(share) if share < 1 else planted.sizes
    before = [row.before for row in rows]
    split = deciding_split(before[0])
    images = len(before[0].accuracy[split].right)
    lines = [_line("before", "", rows, before, planted.shared)]
    for method in FIX_METHODS.values():
        done = [(row, row.runs[method.name]) for row in rows if method.name in row.runs]
        failed = len(rows) - len(done)
        if not done:
            lines.append([f"`{method.name}`", ", ".join(method.sees[1:]), "failed", *["–"] * 8])
            continue
        there, evaluations = [row for row, _ in done], [evaluation for _, evaluation in done]
        line = _line(method.name, ", ".join(method.sees[1:]), there, evaluations, planted.shared)
        lines.append([*line[:2], f"{line[2]}{f' ({failed} failed)' if failed else ''}", *line[3:]])
    heads = [
        "run", "sees", "worst group, shifted", "interval over images", "shifted", "test", "rank", "mass", "pointing",
        "deletion", "seconds",
    ]  # fmt: skip
    reasons = "\n".join(f"- `{method}`: {_reason(verdict_over_seeds(method, rows))}" for method in JUDGED)
    grounding = before[0].grounding
    return f"""## {planted.title}

{planted.about[0].upper()}{planted.about[1:]}. {len(planted.classes)} classes ({", ".join(planted.classes)}).
{rows[0].hinted[0]} of {rows[0].hinted[1]} training images have a hint; {images} shifted images.
The shortcut was learnt in {sizes.biasing} epochs; a fix takes {sizes.epochs} at the rate {sizes.rate:g}.
Maps are of the layer `{rows[0].layer}`; grounding is measured on {grounding.images} held-out images, where a uniform
map has the mass {np.mean([e.grounding.area for e in before]):.2f}.

{table(heads, lines)}

{reasons}"""


def _line(name: str, sees: str, rows: Sequence[Row], evaluations: Sequence[Evaluation], shared: bool) -> list[str]:
    """One row of a data set's table."""
    split = deciding_split(evaluations[0])
    mean, low, high = seed_interval([measure_of(e) for e in evaluations])
    over = image_interval(rows, evaluations, shared)
    seconds = [row.seconds[name] for row in rows if name in row.seconds]
    shown = name if name == "before" else f"`{name}`"
    numbers = [np.mean([e.accuracy[part].overall for e in evaluations]) for part in (split, "test")]
    grounding = [
        np.mean([getattr(e.grounding, what) for e in evaluations]) for what in ("rank", "mass", "pointing", "deletion")
    ]
    return [
        shown, sees, f"{mean:.3f} ({low:.3f} to {high:.3f})", f"{over[0]:.3f} to {over[1]:.3f}",
        *(f"{value:.3f}" for value in (*numbers, *grounding)), f"{np.mean(seconds):.0f}" if seconds else "–",
    ]  # fmt: skip


def _word(verdict: FixVerdict | None) -> str:
    return "failed" if verdict is None else verdict.word


def _reason(verdict: FixVerdict | None) -> str:
    return "failed for a seed." if verdict is None else f"**{verdict.word}**. {' '.join(verdict.sentences)}"


def _gain(verdict: FixVerdict | None, than: str) -> str:
    for one in () if verdict is None else verdict.differences:
        if one.than == than:
            return str(one)
    return "–"


def _best(rows: Sequence[Row], method: str) -> str:
    """The run with the highest mean of the measure that decides."""
    whole = [name for name in FIX_METHODS if all(name in row.runs for row in rows)]
    means = {name: float(np.mean([measure_of(row.runs[name]) for row in rows])) for name in whole}
    best = max(means, key=means.__getitem__) if means else ""
    return "this one" if best == method else f"`{best}` ({means[best]:.3f})" if best else "–"


def _fewest(found: Found) -> int:
    """The fewest validation images of a class against the shortcut, by the sizes of the data sets."""
    return min(max(2, round(AGAINST * PLANTED[name].sizes.val)) for name in found)


def measure_all(names: Sequence[str], seeds: int, share: float, workers: int, progress: Progress) -> Found:
    """Prepare and fix all networks of all seeds, in parallel; finished ones are read."""
    if any(name.startswith("cifar") for name in names):
        run_jobs(train_start, [(seed, share) for seed in range(seeds)], "first networks", progress, workers)
    jobs = [(name, seed, share) for seed in range(seeds) for name in names]
    run_jobs(prepare, jobs, "networks with a shortcut", progress, workers)
    records = run_jobs(run, jobs, "fixes", progress, workers)
    found: dict[str, list[Row]] = {name: [] for name in names}
    for (name, _, _), record in zip(jobs, records, strict=True):
        found[name].append(Row.of(record))
    return found


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=2, max=20, help="Number of seeds.")] = SEEDS,
    only: Annotated[str, typer.Option(help=f"Data sets, separated by commas, of {', '.join(PLANTED)}.")] = "",
    items: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Train, fix and measure, and print or write the page. Finished runs are stored under out/claims."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(PLANTED)
    if unknown := [name for name in wanted if name not in PLANTED]:
        raise InputError(f"there is no data set {', '.join(map(repr, unknown))}. There are {', '.join(PLANTED)}.")
    there = {True: (REAL / "cifar10" / "train").is_dir() and (REAL / "bccd").is_dir(), False: True}
    names = [name for name in wanted if there[PLANTED[name].real]]
    if not names:
        raise InputError(f"there is no folder of real images '{REAL}'; SAYWHY_REAL names another.")

    def report(progress: Progress) -> str:
        begin = perf_counter()
        found = measure_all(names, seeds, items, workers, progress)
        return page(found, seeds, items, (perf_counter() - begin) / 60)

    run_section(report, out)


if __name__ == "__main__":
    typer.run(main)
