"""What follows from what was measured of networks that say how certain they are: tables, and claims with controls."""

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
"""Of the bootstrap."""

LOOKS = ("attention", "gradcam", "certainty-cam", "ucam", "other question", "centre")
MARGIN = 0.01
"""By so much an accuracy may be lower and is called no worse."""


def weighted_auroc(
    values: Each, wrong: Bool[np.ndarray, " question"], weights: Float[np.ndarray, "draw question"]
) -> Each:
    """The AUROC of every redrawing of the questions, each of which comes so many times.

    >>> weighted_auroc(np.array([0.1, 0.2, 0.3]), np.array([False, True, False]), np.ones((1, 3)))
    array([0.5])
    """
    order = np.argsort(values)
    begins = np.unique(values[order], return_index=True)[1]  # of questions that are equally uncertain
    bad, good = (np.add.reduceat((weights * which)[:, order], begins, axis=1) for which in (wrong, ~wrong))
    below = np.cumsum(good, 1) - good / 2
    return np.asarray((bad * below).sum(1) / (bad.sum(1) * good.sum(1)))


def _weights(scenes: Int[np.ndarray, " question"]) -> Float[np.ndarray, "draw question"]:
    """How often every question comes when scenes are drawn again, the same ones for every seed; first, once each."""
    return _resampling_counts(scenes.astype(np.int64).tobytes())


@lru_cache(maxsize=4)
def _resampling_counts(scenes: bytes) -> Float[np.ndarray, "draw question"]:
    """Networks are measured on the same questions: what is redrawn for one serves for all."""
    names, place = np.unique(np.frombuffer(scenes, np.int64), return_inverse=True)
    drawn = resample_counts(len(names), RESAMPLES)
    return np.concatenate([np.ones((1, len(place))), drawn[:, place]])


Curve = Float[np.ndarray, " draw"]
"""A statistic of the questions as they are (first), and of every redrawing."""


def _mean(values: Each, weights: Float[np.ndarray, "draw question"]) -> Curve:
    return np.asarray((weights @ values) / weights.sum(1))


@dataclass(frozen=True)
class Statistic:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(curves: list[Curve]) -> "Statistic":
        """The mean over seeds, each redrawing being of the same scenes for all of them.

        Of three seeds drawn again a bootstrap would make far too little; how far they differ widens the interval as
        Student's t has it.
        """
        each = np.stack(curves)
        mean, number = each.mean(0), len(each)
        low, high = np.array(percentile_interval(mean[1:])) - mean[0]
        wider = student_margin(each[:, 0]) if number > 1 else 0.0
        return Statistic(float(mean[0]), float(mean[0] - np.hypot(low, wider)), float(mean[0] + np.hypot(high, wider)))

    @property
    def verdict(self) -> str:
        """Whether it is above zero."""
        return interval_verdict(self.low, self.high)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def _median(values: list[Each]) -> str:
    """Of all together; nothing of nothing."""
    return f"{np.median(np.concatenate(values)):.2g}" if values else ""


KINDS = {
    "entropy": "entropy",
    "tempered": "entropy, temperature-scaled",
    "predictive": "MC dropout: predictive",
    "aleatoric": "aleatoric",
}
KINDS |= {"epistemic": "epistemic", "aleatoric_variance": "variance head"}


class Results:
    """What was measured of all networks, and what follows."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}

    def add(self, name: str, seed: int, run: Run) -> None:
        """Keep what was measured of a network."""
        self.runs.setdefault(name, {})[seed] = run

    def error_auroc(self, name: str, kind: str) -> list[Curve]:
        """The AUROC of an uncertainty for errors, seed by seed."""
        of = self.runs[name].values()
        return [weighted_auroc(run.uncertain[kind], run.wrong, _weights(run.scenes)) for run in of]

    def accuracy(self, name: str) -> list[Curve]:
        """Accuracy, seed by seed."""
        return [_mean(~run.wrong, _weights(run.scenes)) for run in self.runs[name].values()]

    def agreement(self, name: str, what: str) -> list[Curve]:
        """Agreement of a map with people, seed by seed; what has no such map has its attention."""
        of = self.runs[name].values()
        return [_mean(r.distance if what == "distance" else r.looks[what], _weights(r.seen)) for r in of]

    def shift_auroc(self, name: str, kind: str, split: str) -> list[Curve]:
        """How likely a question of a split is more uncertain than one of the clear scenes."""
        found = []
        for run in self.runs[name].values():
            clear, other = run.doubts[kind]["clear"], run.doubts[kind][split]
            scenes = [run.scenes[: len(clear)], run.strange if split == "unseen" else run.scenes[len(clear) :]]
            strange = np.arange(len(clear) + len(other)) >= len(clear)
            found.append(weighted_auroc(np.concatenate([clear, other]), strange, _weights(np.concatenate(scenes))))
        return found

    def claim(self, text: str, ours: list[Curve], theirs: dict[str, list[Curve]]) -> list[list[object]]:
        """Rows of a claim: ours less each of the others, and whether all of these are above zero."""
        differences = {name: Statistic.of([a - b for a, b in zip(ours, c, strict=True)]) for name, c in theirs.items()}
        verdicts = [one.verdict for one in differences.values()]
        whole = "holds" if set(verdicts) == {"holds"} else "does not hold" if "does not hold" in verdicts else UNDECIDED
        rows: list[list[object]] = [[text, "", f"**{whole}**"]]
        return rows + [["", f"less {name}: {one}", one.verdict] for name, one in differences.items()]

    def report(self) -> str:
        """Tables."""
        parts = [
            "## Measured",
            self._measurements(),
            "## By type of question",
            self._by_type(),
            "## Claims",
            self._claims(),
        ]
        return "\n\n".join(parts)

    @staticmethod
    def _correlated(run: Run) -> float:
        return error_correlation(torch.from_numpy(run.uncertain["predictive"]), torch.from_numpy(run.errors))

    def _by_type(self) -> str:
        """Accuracy."""

        def right(name: str, number: int) -> Statistic:
            curves = []
            for run in self.runs[name].values():
                of_type = run.types == number
                curves.append(_mean(~run.wrong[of_type], _weights(run.scenes[of_type])))
            return Statistic.of(curves)

        rows = [[kind, *(right(name, number) for name in self.runs)] for number, kind in enumerate(TYPES)]
        return table(["accuracy", *self.runs], rows)

    def _measurements(self) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            kinds = [k for k in KINDS if k in next(iter(of_seeds.values())).uncertain]
            told = {kind: Statistic.of(self.error_auroc(name, kind)) for kind in kinds}
            looks = next(iter(of_seeds.values())).looks
            calibrations = np.mean([r.calibration for r in of_seeds.values()], 0)
            rows.append(
                [
                    name,
                    Statistic.of(self.accuracy(name)),
                    *(told.get(kind, "") for kind in KINDS),
                    " / ".join(f"{value:.3f}" for value in calibrations),
                    *(Statistic.of(self.agreement(name, w)) if w in looks else "" for w in LOOKS),
                    Statistic.of(self.agreement(name, "distance")),
                    f"{np.mean([self._correlated(r) for r in of_seeds.values()]):.3f}",
                    _median(
                        [
                            r.doubts["aleatoric_variance"]["clear"]
                            for r in of_seeds.values()
                            if "aleatoric_variance" in r.doubts
                        ]
                    ),
                    f"{np.mean([r.seconds for r in of_seeds.values()]) / 60:.1f}",
                ]
            )
        heads = ["network", "accuracy", *(f"AUROC, {text}" for text in KINDS.values()), "ECE / temperature-scaled"]
        heads += [f"{name} and people (ρ)" for name in LOOKS] + [
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
            "tempered": self.error_auroc("base", "tempered"),
        }
        base["the base's MC dropout"] = self.error_auroc("base", "predictive")
        rows = self.claim(
            "(a) its uncertainty tells wrong from right answers better",
            self.error_auroc(ours, "predictive"),
            base | {name: self.error_auroc(name, "predictive") for name in others},
        )
        rows += self.claim(
            "(a) its variance head does",
            self.error_auroc(ours, "aleatoric_variance"),
            base | {name: self.error_auroc(name, "aleatoric_variance") for name in others},
        )
        everybody = ["base", *others]
        rows += self.claim(
            "(b) its attention agrees more with people's",
            self.agreement(ours, "attention"),
            {name: self.agreement(name, "attention") for name in everybody},
        )
        rows += self.claim(
            "(b) its attention is nearer to people's (earth mover's distance)",
            [-c for c in self.agreement(ours, "distance")],
            {name: [-c for c in self.agreement(name, "distance")] for name in everybody},
        )
        for what in ("certainty-cam", "ucam"):
            theirs = {"the base's Grad-CAM": self.agreement("base", "gradcam")}
            theirs |= {name: self.agreement(name, what) for name in others}
            rows += self.claim(f"(b) its {what} agrees more with people's", self.agreement(ours, what), theirs)
        spare = [c + MARGIN for c in self.accuracy(ours)]
        rows += self.claim(f"(c) it answers no worse (by {MARGIN:.0%})", spare, {"base": self.accuracy("base")})
        for kind, other, home in (("aleatoric", "epistemic", "blurred"), ("epistemic", "aleatoric", "unseen")):
            rows += self.claim(
                f"(d) {kind} uncertainty is higher for {home} images",
                self.shift_auroc(ours, kind, home),
                {"chance": [np.full_like(c, 0.5) for c in self.shift_auroc(ours, kind, home)]},
            )
            rows += self.claim(
                f"(d) and more so than {other} uncertainty is",
                self.shift_auroc(ours, kind, home),
                {f"{other}, {home}": self.shift_auroc(ours, other, home)},
            )
        return table(["claim", "difference", "verdict"], rows)
