"""Statistics and tables from the measurements of networks with uncertainty estimates."""

from collections.abc import Callable

import numpy as np
import torch

from research.claims.measure import table
from research.claims.ucam_measures import Run
from research.claims.ucam_statistics import (
    Curve,
    Each,
    Statistic,
    scene_weights,
    stratified_auroc,
    weighted_auroc,
    weighted_mean,
)
from saywhy.metrics.calibration import error_correlation
from saywhy.toybox.language import TYPES

MAPS = ("attention", "gradcam", "certainty-cam", "ucam", "other question", "centre")
MAP_NAMES = {"centre": "centre prior"}

SINGLE = {"entropy": "entropy", "tempered": "entropy, temperature-scaled"}
"""Uncertainties of a single pass."""

SAMPLED = {
    "predictive": "MC dropout: entropy",
    "aleatoric": "MC dropout: aleatoric",
    "epistemic": "MC dropout: epistemic",
    "aleatoric_variance": "variance head",
}
"""Uncertainties from Monte Carlo samples."""

KINDS = SINGLE | SAMPLED


class Results:
    """The measurements of all networks, with statistics and tables."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}
        self._aurocs: dict[tuple[str, str, bool, int | None], Statistic] = {}

    def add(self, name: str, seed: int, run: Run) -> None:
        """Add the measurements of a network."""
        self.runs.setdefault(name, {})[seed] = run
        self._aurocs.clear()

    def error_auroc(self, name: str, kind: str, pooled: bool = False, of_type: int | None = None) -> Statistic:
        """Return the AUROC of an uncertainty for the wrong answers of the same prediction (a pass, or MC samples).

        Args:
            name, kind: the run, and the uncertainty.
            pooled: compare questions of all types with one another instead of those of each type.
            of_type: only this type.
        """

        def auroc(run: Run) -> Curve:
            values, wrong = run.uncertainty[kind], run.wrong_sampled if kind in SAMPLED else run.wrong
            weights = scene_weights(run.scenes)
            if of_type is not None:
                some = run.types == of_type
                return weighted_auroc(values[some], wrong[some], weights[:, some])
            return (
                weighted_auroc(values, wrong, weights)
                if pooled
                else stratified_auroc(values, wrong, run.types, weights)
            )

        key = (name, kind, pooled, of_type)
        if key not in self._aurocs:
            self._aurocs[key] = self._statistic(name, auroc, lambda run: run.scenes)
        return self._aurocs[key]

    def accuracy(self, name: str, of_type: int | None = None) -> Statistic:
        """Return the accuracy of a single pass, over all questions or those of one type."""

        def accuracy(run: Run) -> Curve:
            some = np.ones(len(run.types), bool) if of_type is None else run.types == of_type
            return weighted_mean(~run.wrong[some], scene_weights(run.scenes)[:, some])

        return self._statistic(name, accuracy, lambda run: run.scenes)

    def agreement(self, name: str, what: str) -> Statistic:
        """Return the agreement of a map with human attention (or the distance of attention from it)."""

        def agreement(run: Run) -> Curve:
            values = run.distance if what == "distance" else run.human_correlation[what]
            return weighted_mean(values, scene_weights(run.attended_scenes))

        return self._statistic(name, agreement, lambda run: run.attended_scenes)

    def cosine(self, name: str) -> Statistic:
        """Return the mean cosine of the certainty gradient and the answer's gradient."""
        return self._statistic(
            name,
            lambda run: weighted_mean(run.cosine, scene_weights(run.attended_scenes)),
            lambda run: run.attended_scenes,
        )

    def shift_auroc(self, name: str, kind: str, split: str) -> Statistic:
        """Return the AUROC of an uncertainty for a split against the clear scenes."""

        def scenes_of(run: Run) -> np.ndarray:
            count = len(run.by_split[kind]["clear"])
            return np.concatenate([run.scenes[:count], run.unseen_scenes if split == "unseen" else run.scenes[count:]])

        def auroc(run: Run) -> Curve:
            clear, other = run.by_split[kind]["clear"], run.by_split[kind][split]
            shifted = np.arange(len(clear) + len(other)) >= len(clear)
            return weighted_auroc(np.concatenate([clear, other]), shifted, scene_weights(scenes_of(run)))

        return self._statistic(name, auroc, scenes_of)

    def tables(self) -> str:
        """Return the tables."""
        parts = ["## Networks", self._networks()]
        for heading, pooled in (("within types", False), ("pooled over types", True)):
            parts += [f"## AUROC of wrong answers, {heading}", self._auroc_table(pooled)]
        parts += ["## AUROC of wrong answers by type of question", self._auroc_table_by_type()]
        parts += ["## Agreement with human attention", self._agreements()]
        parts += ["## Accuracy by type of question", self._accuracies()]
        return "\n\n".join(parts)

    def _statistic(self, name: str, of: Callable[[Run], Curve], scenes: Callable[[Run], np.ndarray]) -> Statistic:
        runs = list(self.runs[name].values())
        return Statistic(np.stack([of(run) for run in runs]), len(np.unique(scenes(runs[0]))))

    def _networks(self) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            runs = list(of_seeds.values())
            has_head = "aleatoric_variance" in runs[0].by_split
            medians = [
                _median([run.by_split["aleatoric_variance"][split] for run in runs]) if has_head else ""
                for split in ("clear", "blurred")
            ]
            calibrations = np.mean([run.calibration for run in runs], 0)
            rows.append(
                [
                    name,
                    self.accuracy(name),
                    " / ".join(f"{value:.3f}" for value in calibrations),
                    *medians,
                    self.cosine(name) if has_head else "",
                    f"{np.mean([_correlated(run) for run in runs]):.3f}",
                    f"{np.mean([run.seconds for run in runs]) / 60:.1f}",
                ]
            )
        heads = ["network", "accuracy", "ECE / temperature-scaled", "variance head, clear (median)", "blurred (median)"]
        heads += ["certainty and answer gradient (cosine)", "predictive entropy and errors (ρ)", "minutes"]
        return table(heads, rows)

    def _auroc_table(self, pooled: bool) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            known = next(iter(of_seeds.values())).uncertainty
            rows.append([name, *(self.error_auroc(name, k, pooled) if k in known else "" for k in KINDS)])
        return table(["network", *KINDS.values()], rows)

    def _auroc_table_by_type(self) -> str:
        names = [name for name in ("base", "U-CAM") if name in self.runs]
        runs = list(self.runs[names[0]].values())
        columns = [(name, kind) for kind in ("entropy", "predictive") for name in names]
        rows = [
            [text, int((runs[0].types == number).sum())]
            + [self.error_auroc(name, kind, of_type=number) for name, kind in columns]
            for number, text in enumerate(TYPES)
        ]
        return table(["type", "questions", *(f"{name}, {KINDS[kind]}" for name, kind in columns)], rows)

    def _agreements(self) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            known = next(iter(of_seeds.values())).human_correlation
            maps = [self.agreement(name, what) if what in known else "" for what in MAPS]
            rows.append([name, *maps, self.agreement(name, "distance")])
        heads = [f"{MAP_NAMES.get(name, name)} (ρ)" for name in MAPS]
        return table(["network", *heads, "attention (EMD)"], rows)

    def _accuracies(self) -> str:
        rows = [[name, *(self.accuracy(name, number) for number in range(len(TYPES)))] for name in self.runs]
        return table(["network", *TYPES], rows)


def _correlated(run: Run) -> float:
    return error_correlation(torch.from_numpy(run.uncertainty["predictive"]), torch.from_numpy(run.errors))


def _median(values: list[Each]) -> str:
    """Return the median of all values as text."""
    return f"{np.median(np.concatenate(values)):.2g}"
