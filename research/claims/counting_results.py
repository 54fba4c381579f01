"""What the runs of one data set say: errors of all counters and baselines, by grid, with intervals; no text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from research.claims.counting_data import SETS, PreparedSet
from research.claims.counting_measures import (
    CountStatistic,
    error_statistics,
    inside_statistic,
    relative_error,
)
from research.claims.counting_runs import COUNTERS, ENSEMBLE, RunResult, ensemble, fold_baselines

COVERAGES = (0.9, 0.95)

ORDER = ("gt-class", "detect", *COUNTERS)
"""The kinds in the order of the tables; the ensemble is the last."""

Runs = Mapping[str, Sequence[RunResult]]
"""By kind, the results of every seed."""

Sweeps = Mapping[tuple[str, int], Sequence[RunResult]]
"""By kind and grid, the results of every seed of the comparison of grids."""


@dataclass(frozen=True)
class Coverage:
    """How intervals of one counter do on test images.

    Attributes:
        stated: the share of true counts that they should hold.
        every, present: the share of all pairs, and of those with an object, whose true count lies inside.
        width: the mean width over pairs with an object: 0 is an interval of one number.
    """

    stated: float
    every: CountStatistic
    present: CountStatistic | None
    width: float


@dataclass(frozen=True)
class SetResults:
    """The results of one data set.

    Attributes:
        data: with its maps.
        runs: of all kinds, with the ensembles.
        images: the test images.
        errors: by row of the tables (baselines first), then by error or range.
        relative: by counter, the mean relative error of the data set's first class, where it is asked for.
        grids: by kind and grid.
        coverage: by counter, for each of COVERAGES.
        on_validation: by counter, the mRMSE on validation images, by which one is called the best.
        longest: the minutes of the longest training of one network, and which it was.
    """

    data: PreparedSet
    runs: Runs
    images: list[int]
    errors: dict[str, dict[str, CountStatistic]]
    relative: dict[str, CountStatistic] = field(default_factory=dict)
    grids: dict[tuple[str, int], dict[str, CountStatistic]] = field(default_factory=dict)
    coverage: dict[str, list[Coverage]] = field(default_factory=dict)
    on_validation: dict[str, float] = field(default_factory=dict)
    longest: tuple[float, str] = (0.0, "")

    @property
    def best(self) -> str:
        """The counter with the least mRMSE on validation images."""
        return min(self.on_validation, key=self.on_validation.__getitem__)

    @property
    def has_detector(self) -> bool:
        """Whether a detector counts here."""
        return "detect" in self.errors


def results_of(data: PreparedSet, runs: Runs, sweeps: Sweeps, resamples: int | None = None) -> SetResults:
    """Compute all tables of a data set from its runs.

    Args:
        data: the data set.
        runs: of all jobs of the main tables; ensembles are made here.
        sweeps: of those of the comparison of grids.
        resamples: of the images; None for the usual number.
    """
    options = {} if resamples is None else {"resamples": resamples}
    members = [runs[kind] for kind in COUNTERS]
    runs = {kind: runs[kind] for kind in ORDER if kind in runs}
    runs[ENSEMBLE] = [ensemble(of_seed) for of_seed in zip(*members, strict=True)]
    first = runs["glance"][0]
    truth = data.counts[first.images]
    found = SetResults(data, runs, first.images, {}, longest=_longest(data.name, runs, sweeps))
    predicted = {name: (rows[None], rounded) for name, rows, rounded in fold_baselines(data, first)}
    predicted |= {kind: (np.stack([one.counts for one in rows]), True) for kind, rows in runs.items()}
    for name, (rows, rounded) in predicted.items():
        found.errors[name] = error_statistics(rows, truth, rounded=rounded, **options)
        if SETS[data.name].relative:
            found.relative[name] = relative_error(rows[..., :1], truth[:, :1], rounded=rounded, **options)
    for kind, rows in runs.items():
        if kind in (*COUNTERS, ENSEMBLE):
            found.coverage[kind] = [_coverage(rows, data, truth, stated, options) for stated in COVERAGES]
            found.on_validation[kind] = float(np.mean([_validation_error(one, data) for one in rows]))
    for key, rows in sweeps.items():
        found.grids[key] = error_statistics(np.stack([one.counts for one in rows]), truth, **options)
    return found


def _coverage(
    rows: Sequence[RunResult], data: PreparedSet, truth: Float[np.ndarray, "image class"], stated: float, options: dict
) -> Coverage:
    ends = [one.intervals(data.counts, stated) for one in rows]
    low, high = (np.stack([pair[side] for pair in ends]) for side in (0, 1))
    every = inside_statistic(low, high, truth, nonzero=False, **options)
    present = inside_statistic(low, high, truth, nonzero=True, **options)
    width = (high - low)[:, truth > 0]
    return Coverage(stated, every, present, float(width.mean()) if width.size else float("nan"))


def _validation_error(run: RunResult, data: PreparedSet) -> float:
    """Return the mRMSE on the validation images of all folds, each fold by itself."""
    found = [
        error_statistics(fold.of_val.double().numpy()[None], data.counts[list(fold.val)], resamples=1)["mRMSE"].value
        for fold in run.folds
    ]
    return float(np.mean(found))


def _longest(name: str, runs: Runs, sweeps: Sweeps) -> tuple[float, str]:
    """Return the minutes of the longest training, and its name; the networks of all folds count as one training."""
    every = [(one.seconds / 60, kind) for kind, rows in runs.items() if kind != ENSEMBLE for one in rows]
    every += [
        (one.seconds / 60, f"{kind}, {grid} × {grid} cells") for (kind, grid), rows in sweeps.items() for one in rows
    ]
    minutes, which = max(every)
    return minutes, f"{SETS[name].title}, {which}"
