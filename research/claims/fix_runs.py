"""The runs of the comparison of ``saywhy.fix``: all methods on networks with a shortcut, and statistics."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import saywhy
from research.claims.fix_data import PLANTED, folder_of, model_of
from research.claims.language_networks import FOLDER
from research.claims.multiple_testing import holm
from saywhy.datasets.load_labelled import read_labelled
from saywhy.fixing.evaluate import Evaluation
from saywhy.fixing.fix import Fix
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.verdict import FixVerdict, deciding_split, measure_of, verdict
from saywhy.io.atomic import write_text
from saywhy.statistics import bootstrap_distribution, percentile_interval, student_margin

JUDGED = ("hint", "rrr", "rrr-g", "mask-mse")
"""The methods with hints, each of which is judged against all controls."""

ROUNDING = 1e-9
"""Differences that vary by less are the same."""

CONTROLS = tuple(name for name, method in FIX_METHODS.items() if method.control)


@dataclass(frozen=True)
class Row:
    """What was measured with one seed of a data set.

    Attributes:
        before: the network with the shortcut.
        runs: by method.
        seconds: of training, by method.
        failed: methods whose loss was NaN, and why.
        groups: of every image of the deciding split.
        hinted: training images with a hint, and all.
        layer: of the maps.
    """

    before: Evaluation
    runs: Mapping[str, Evaluation]
    seconds: Mapping[str, float]
    failed: Mapping[str, str]
    groups: Sequence[int]
    hinted: tuple[int, int]
    layer: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Row":
        """From plain data."""
        runs = {name: Evaluation.of(found) for name, found in record["runs"].items()}
        return cls(Evaluation.of(record["before"]), runs, *(record[key] for key in (
            "seconds", "failed", "groups", "hinted", "layer")))  # fmt: skip


def run(name: str, seed: int, share: float) -> dict[str, Any]:
    """Fix one network by every method, and return what was measured, as plain data; stored.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the finished runs are stored and read by the next call.
    """
    file = FOLDER / f"fix-{name}-{share:g}-{seed}.json"
    if file.exists():
        stored: dict[str, Any] = json.loads(file.read_text())
        return stored
    folder = folder_of(name, seed, share)
    sizes = PLANTED[name].sizes.times(share) if share < 1 else PLANTED[name].sizes
    found = saywhy.fix(
        model_of(name, seed, share), folder, folder / "hints", method="hint", out=folder / "fix", epochs=sizes.epochs,
        controls=[other for other in FIX_METHODS if other != "hint"], rate=sizes.rate,
    )  # fmt: skip
    if found.stopped:
        raise KeyboardInterrupt(found.stopped)
    record = record_of(found)
    data = read_labelled(folder)
    split = list(data.indices(deciding_split(found.before)))
    record["groups"] = [] if data.groups is None else data.groups[split].tolist()
    write_text(file, json.dumps(record))
    return record


def record_of(found: Fix) -> dict[str, Any]:
    """The results of a fix with one seed, by method."""
    return {
        "before": found.before.record(),
        "runs": {name: evaluation.record() for (name, _), evaluation in found.runs.items()},
        "seconds": {name: seconds for (name, _), seconds in found.seconds.items()},
        "failed": {name: reason for (name, _), reason in found.failed.items()},
        "hinted": list(found.hinted),
        "layer": found.layer,
    }


def verdict_of(method: str, rows: Sequence[Row]) -> FixVerdict | None:
    """The verdict on a method over the seeds; None where it failed for one. Others that failed are left out."""
    whole = [name for name in FIX_METHODS if all(name in row.runs for row in rows)]
    if method not in whole:
        return None
    # Baselines with groups are no controls; the rule of the verdict compares with all methods.
    runs = {(name, seed): row.runs[name] for name in whole for seed, row in enumerate(rows)}
    reasons = {name: reason for row in rows for name, reason in row.failed.items()}
    return verdict(method, [row.before for row in rows], runs, left_out=reasons)


def p_value(method: str, rows: Sequence[Row]) -> float:
    """The p-value of "grounding helped": the largest one of its comparisons, over seeds (Berger, 1982).

    Every control and the network before must be beaten in the measure that decides, in rank and in deletion, each by a
    one-sided paired t test. 1 where a run is missing, or a difference is the same for all seeds, which gives no test.
    """
    from scipy.stats import ttest_rel  # slow to import

    others = [name for name in CONTROLS if all(name in row.runs for row in rows)]
    if not all(method in row.runs for row in rows) or len(rows) < 2:
        return 1.0
    largest = 0.0
    for what in ("accuracy", "rank", "deletion"):
        mine = [_value(row.runs[method], what) for row in rows]
        for other in ("before", *others):
            theirs = [_value(row.before if other == "before" else row.runs[other], what) for row in rows]
            if np.ptp(np.subtract(mine, theirs)) < ROUNDING:
                return 1.0
            largest = max(largest, float(ttest_rel(mine, theirs, alternative="greater").pvalue))
    return largest


def corrected(found: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """p-values after Holm's correction for their number."""
    return dict(zip(found, holm(list(found.values())), strict=True))


def _value(evaluation: Evaluation, what: str) -> float:
    value: float = measure_of(evaluation) if what == "accuracy" else getattr(evaluation.grounding, what)
    return value


def seed_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and Student's interval over seeds.

    >>> [round(x, 3) for x in seed_interval([0.1, 0.2, 0.3])]
    [0.2, -0.048, 0.448]
    """
    found = np.array(values)
    margin = student_margin(found)
    return float(found.mean()), float(found.mean() - margin), float(found.mean() + margin)


def image_interval(rows: Sequence[Row], evaluations: Sequence[Evaluation], shared: bool) -> tuple[float, float]:
    """The bootstrap interval over images of the mean worst-group accuracy of these networks.

    Images are resampled within their group, and the lowest group's accuracy is taken anew in every resample.

    Args:
        rows: the seeds, with the group of each image.
        evaluations: one for each seed.
        shared: whether the seeds have the same images; they are resampled together then.
    """
    worst = []
    for seed, (row, evaluation) in enumerate(zip(rows, evaluations, strict=True)):
        right = np.array(evaluation.accuracy[deciding_split(evaluation)].right, float)
        groups = np.array(row.groups) if len(row.groups) else np.zeros(len(right), int)
        each = [
            bootstrap_distribution(right[groups == g], seed=int(g) + (0 if shared else 1_000 * seed))
            for g in np.unique(groups)
        ]
        worst.append(np.min(each, axis=0))
    return percentile_interval(np.mean(worst, axis=0))
