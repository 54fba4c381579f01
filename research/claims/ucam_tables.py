"""Tables and claims from the measurements of networks with uncertainty estimates."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from research.claims.measure import UNDECIDED, interval_verdict, table
from research.claims.ucam_measures import Each, Run
from research.claims.uncertainty_networks import CONTROLS
from saywhy.metrics.calibration import error_correlation
from saywhy.statistics import percentile_interval, resample_counts, student_margin
from saywhy.toybox.language import TYPES

RESAMPLES = 1000
"""Resamples of the bootstrap."""

MAPS = ("attention", "gradcam", "certainty-cam", "ucam", "other question", "centre")
MAP_NAMES = {"centre": "centre prior"}
MARGIN = 0.01
"""Largest loss of accuracy that counts as no worse."""


def weighted_auroc(
    values: Each, wrong: Bool[np.ndarray, " question"], weights: Float[np.ndarray, "draw question"]
) -> Each:
    """Return the AUROC for every resample of the questions, given as weights.

    :func:`saywhy.metrics.calibration.auroc` would sort the values of every resample again; here one sort serves all.

    >>> weighted_auroc(np.array([0.1, 0.2, 0.3]), np.array([False, True, False]), np.ones((1, 3)))
    array([0.5])
    """
    order = np.argsort(values)
    begins = np.unique(values[order], return_index=True)[1]  # of ties
    bad, good = (np.add.reduceat((weights * which)[:, order], begins, axis=1) for which in (wrong, ~wrong))
    below = np.cumsum(good, 1) - good / 2
    return np.asarray((bad * below).sum(1) / (bad.sum(1) * good.sum(1)))


def _weights(scenes: Int[np.ndarray, " question"]) -> Float[np.ndarray, "draw question"]:
    """Return the weights of questions for resampled scenes, the same for every seed; the first row is all ones."""
    return _resampling_counts(scenes.astype(np.int64).tobytes())


@lru_cache(maxsize=4)
def _resampling_counts(scenes: bytes) -> Float[np.ndarray, "draw question"]:
    """Cached, because all networks are measured on the same questions."""
    names, place = np.unique(np.frombuffer(scenes, np.int64), return_inverse=True)
    drawn = resample_counts(len(names), RESAMPLES)
    return np.concatenate([np.ones((1, len(place))), drawn[:, place]])


Curve = Float[np.ndarray, " draw"]
"""A statistic of the original questions (first) and of every resample."""


def _mean(values: Each, weights: Float[np.ndarray, "draw question"]) -> Curve:
    return np.asarray((weights @ values) / weights.sum(1))


@dataclass(frozen=True)
class SeedEstimate:
    """A mean over seeds and its 95 % interval; :class:`research.claims.measure.Estimate` is that of items of scenes."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(curves: list[Curve]) -> "SeedEstimate":
        """Return the mean over seeds; each resample has the same scenes for all seeds.

        A bootstrap over three seeds would underestimate their variation, so that it widens the interval by Student's t.
        """
        each = np.stack(curves)
        mean, number = each.mean(0), len(each)
        low, high = np.array(percentile_interval(mean[1:])) - mean[0]
        wider = student_margin(each[:, 0]) if number > 1 else 0.0
        return SeedEstimate(
            float(mean[0]), float(mean[0] - np.hypot(low, wider)), float(mean[0] + np.hypot(high, wider))
        )

    @property
    def verdict(self) -> str:
        """Whether it is above zero, as a verdict."""
        return interval_verdict(self.low, self.high)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def _median(values: list[Each]) -> str:
    """Return the median of all values as text; empty for none."""
    return f"{np.median(np.concatenate(values)):.2g}" if values else ""


KINDS = {
    "entropy": "entropy",
    "tempered": "entropy, temperature-scaled",
    "predictive": "MC dropout: predictive",
    "aleatoric": "aleatoric",
}
KINDS |= {"epistemic": "epistemic", "aleatoric_variance": "variance head"}


class Results:
    """The measurements of all networks, with tables and claims."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}

    def add(self, name: str, seed: int, run: Run) -> None:
        """Add the measurements of a network."""
        self.runs.setdefault(name, {})[seed] = run

    def error_auroc(self, name: str, kind: str) -> list[Curve]:
        """Return the AUROC of an uncertainty for wrong answers, by seed."""
        of = self.runs[name].values()
        return [weighted_auroc(run.uncertainty[kind], run.wrong, _weights(run.scenes)) for run in of]

    def accuracy(self, name: str) -> list[Curve]:
        """Return the accuracy, by seed."""
        return [_mean(~run.wrong, _weights(run.scenes)) for run in self.runs[name].values()]

    def agreement(self, name: str, what: str) -> list[Curve]:
        """Return the agreement of a map with human attention (or the distance of attention from it), by seed."""
        of = self.runs[name].values()
        return [
            _mean(r.distance if what == "distance" else r.human_correlation[what], _weights(r.attended_scenes))
            for r in of
        ]

    def shift_auroc(self, name: str, kind: str, split: str) -> list[Curve]:
        """Return the AUROC of an uncertainty for a split against the clear scenes, by seed."""
        found = []
        for run in self.runs[name].values():
            clear, other = run.by_split[kind]["clear"], run.by_split[kind][split]
            scenes = [run.scenes[: len(clear)], run.unseen_scenes if split == "unseen" else run.scenes[len(clear) :]]
            unseen_scenes = np.arange(len(clear) + len(other)) >= len(clear)
            found.append(
                weighted_auroc(np.concatenate([clear, other]), unseen_scenes, _weights(np.concatenate(scenes)))
            )
        return found

    def claim(self, text: str, ours: list[Curve], theirs: dict[str, list[Curve]]) -> list[list[object]]:
        """Return the rows of a claim: the difference to each control, and whether all are above zero."""
        differences = {
            name: SeedEstimate.of([a - b for a, b in zip(ours, c, strict=True)]) for name, c in theirs.items()
        }
        verdicts = [one.verdict for one in differences.values()]
        whole = "holds" if set(verdicts) == {"holds"} else "does not hold" if "does not hold" in verdicts else UNDECIDED
        rows: list[list[object]] = [[text, "", f"**{whole}**"]]
        return rows + [["", f"less {name}: {one}", one.verdict] for name, one in differences.items()]

    def report(self) -> str:
        """Return the tables."""
        parts = [
            "## Measurements",
            self._measurements(),
            "## By type of question",
            self._by_type(),
            "## Claims",
            self._claims(),
        ]
        return "\n\n".join(parts)

    @staticmethod
    def _correlated(run: Run) -> float:
        return error_correlation(torch.from_numpy(run.uncertainty["predictive"]), torch.from_numpy(run.errors))

    def _by_type(self) -> str:
        """Return the table of accuracy by type of question."""

        def right(name: str, number: int) -> SeedEstimate:
            curves = []
            for run in self.runs[name].values():
                of_type = run.types == number
                curves.append(_mean(~run.wrong[of_type], _weights(run.scenes[of_type])))
            return SeedEstimate.of(curves)

        rows = [[kind, *(right(name, number) for name in self.runs)] for number, kind in enumerate(TYPES)]
        return table(["accuracy", *self.runs], rows)

    def _measurements(self) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            kinds = [k for k in KINDS if k in next(iter(of_seeds.values())).uncertainty]
            aurocs = {kind: SeedEstimate.of(self.error_auroc(name, kind)) for kind in kinds}
            human_correlation = next(iter(of_seeds.values())).human_correlation
            calibrations = np.mean([r.calibration for r in of_seeds.values()], 0)
            rows.append(
                [
                    name,
                    SeedEstimate.of(self.accuracy(name)),
                    *(aurocs.get(kind, "") for kind in KINDS),
                    " / ".join(f"{value:.3f}" for value in calibrations),
                    *(SeedEstimate.of(self.agreement(name, w)) if w in human_correlation else "" for w in MAPS),
                    SeedEstimate.of(self.agreement(name, "distance")),
                    f"{np.mean([self._correlated(r) for r in of_seeds.values()]):.3f}",
                    _median(
                        [
                            r.by_split["aleatoric_variance"]["clear"]
                            for r in of_seeds.values()
                            if "aleatoric_variance" in r.by_split
                        ]
                    ),
                    f"{np.mean([r.seconds for r in of_seeds.values()]) / 60:.1f}",
                ]
            )
        heads = ["network", "accuracy", *(f"AUROC, {text}" for text in KINDS.values()), "ECE / temperature-scaled"]
        heads += [f"{MAP_NAMES.get(name, name)} and people (ρ)" for name in MAPS] + [
            "attention to people (EMD)",
            "predictive entropy and errors (ρ)",
            "variance head, clear (median)",
            "minutes",
        ]
        return table(heads, rows)

    def _claims(self) -> str:
        ours, others = "U-CAM", [name for name in CONTROLS if name in self.runs]
        base = {
            "the base's entropy": self.error_auroc("base", "entropy"),
            "the base's entropy, temperature-scaled": self.error_auroc("base", "tempered"),
        }
        base["the base's MC dropout"] = self.error_auroc("base", "predictive")
        rows = self.claim(
            "(a) its uncertainty detects wrong answers better",
            self.error_auroc(ours, "predictive"),
            base | {name: self.error_auroc(name, "predictive") for name in others},
        )
        rows += self.claim(
            "(a) its variance head detects wrong answers better",
            self.error_auroc(ours, "aleatoric_variance"),
            base | {name: self.error_auroc(name, "aleatoric_variance") for name in others},
        )
        baselines = ["base", *others]
        rows += self.claim(
            "(b) its attention agrees more with human attention",
            self.agreement(ours, "attention"),
            {name: self.agreement(name, "attention") for name in baselines},
        )
        rows += self.claim(
            "(b) its attention is nearer to human attention (earth mover's distance)",
            [-c for c in self.agreement(ours, "distance")],
            {name: [-c for c in self.agreement(name, "distance")] for name in baselines},
        )
        for what in ("certainty-cam", "ucam"):
            theirs = {"the base's Grad-CAM": self.agreement("base", "gradcam")}
            theirs |= {name: self.agreement(name, what) for name in others}
            rows += self.claim(f"(b) its {what} agrees more with human attention", self.agreement(ours, what), theirs)
        spare = [c + MARGIN for c in self.accuracy(ours)]
        rows += self.claim(
            f"(c) its accuracy is no worse (difference plus {MARGIN:.0%})", spare, {"base": self.accuracy("base")}
        )
        for kind, other, home in (("aleatoric", "epistemic", "blurred"), ("epistemic", "aleatoric", "unseen")):
            rows += self.claim(
                f"(d) {kind} uncertainty is higher for {home} images",
                self.shift_auroc(ours, kind, home),
                {"chance": [np.full_like(c, 0.5) for c in self.shift_auroc(ours, kind, home)]},
            )
            rows += self.claim(
                f"(d) … more than {other} uncertainty",
                self.shift_auroc(ours, kind, home),
                {f"{other}, {home}": self.shift_auroc(ours, other, home)},
            )
        return table(["claim", "difference", "verdict"], rows)
