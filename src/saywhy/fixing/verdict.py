"""The verdict: whether the hints helped, or training on anything would have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saywhy.errors import InputError
from saywhy.fixing.evaluate import Evaluation
from saywhy.fixing.methods import FIX_METHODS
from saywhy.statistics import bootstrap_distribution, percentile_interval, student_margin, wilson

Runs = Mapping[tuple[str, int], Evaluation]
"""Evaluations by method and seed."""


@dataclass(frozen=True)
class Difference:
    """How much better one way of training is than another, on the measure that decides.

    Attributes:
        than: the other method, or "before".
        mean: the difference of the measure, over seeds.
        low, high: its interval of 95 %: Student's over seeds; with one seed a paired bootstrap over images.
        measure: of grounding; "" for accuracy.
    """

    than: str
    mean: float
    low: float
    high: float
    measure: str = ""

    @property
    def better(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the interval lies below 0."""
        return self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True)
class FixVerdict:
    """Whether it was the hints.

    Attributes:
        word: ``"grounding helped"``, ``"regularization helped"``, ``"neither"``; ``"undecided"`` without controls, or
            without held-out hints where they would decide.
        method: the method that was judged.
        measure: what decides, in words.
        differences: to the network before, and to all other methods.
        grounding: the differences of rank and deletion on held-out hints, to before and to every control.
        sentences: the reasons; the first says what decides.
    """

    word: str
    method: str
    measure: str
    differences: tuple[Difference, ...]
    grounding: tuple[Difference, ...]
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}: {' '.join(self.sentences)}"


def deciding_split(evaluation: Evaluation) -> str:
    """The split that decides: shifted data where there are any, else the test split, else validation."""
    return next(split for split in ("shifted", "test", "val") if split in evaluation.accuracy)


def measure_of(evaluation: Evaluation) -> float:
    """The measure that decides: the worst-group accuracy where groups are known, else the accuracy."""
    found = evaluation.accuracy[deciding_split(evaluation)]
    return found.overall if found.worst_group is None else found.worst_group


def verdict(
    method: str,
    before: Evaluation | Sequence[Evaluation],
    runs: Runs,
    groups: Sequence[int] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> FixVerdict:
    """Judge a method against the network before and all other methods.

    "Grounding helped" if the method is better than before and than every control on the measure that decides, and also
    in the rank correlation of maps with held-out hints and in their deletion; "regularization helped" if it is better
    than before and than training without hints ("erm"), but not than every control with hints that say nothing; else
    "neither", also if it is more accurate than all and not better grounded. So the critique of HINT asks (Shrestha et
    al., 2020). Better means that the interval of the difference lies above 0; since every one of the controls must be
    beaten, the number of comparisons makes nothing likelier.

    Args:
        method: the method to judge.
        before: the network as it was given; or that of every seed, in the order of the seeds.
        runs: of all methods and seeds.
        groups: the group of every image of the deciding split, for the bootstrap; None where unknown.
        left_out: methods that are not among the runs, or not with all seeds, and why; a sentence says so.

    Raises:
        InputError: there is neither one network before nor one for each seed, or a method lacks seeds.
    """
    starts = [before] if isinstance(before, Evaluation) else list(before)
    seeds = {name: {seed for other, seed in runs if other == name} for name, _ in runs}
    listed = ", ".join(f"{name} with {sorted(found)}" for name, found in seeds.items())
    if any(found != seeds[method] for found in seeds.values()) or len(starts) not in (1, len(seeds[method])):
        raise InputError(
            f"a verdict needs every method with the seeds of '{method}', {sorted(seeds[method])}, and one network "
            f"before or one a seed; got {listed} and {len(starts)} before."
        )
    others = [m for m in dict.fromkeys(name for name, _ in runs) if m != method]
    controls = [m for m in others if FIX_METHODS[m].control]
    differences = [
        _difference(than, _of(runs, method), starts if than == "before" else _of(runs, than), groups)
        for than in ("before", *others)
    ]
    found = {d.than: d for d in differences}
    grounded = [
        _of_grounding(what, than, _of(runs, method), starts if than == "before" else _of(runs, than))
        for what in ("rank", "deletion")
        for than in ("before", *controls)
    ]
    split = deciding_split(starts[0])
    what = "worst-group accuracy" if starts[0].accuracy[split].worst_group is not None else "accuracy"
    better = found["before"].better
    beats = [m for m in controls if found[m].better]
    failed = [m for m in controls if m not in beats]
    unknown = better and not failed and math.isnan(grounded[0].mean)
    less = [d for d in grounded if not d.better]
    helped = better and not failed and not less
    trained = "erm" not in found or found["erm"].better
    word = "regularization helped" if better and trained and failed else "neither"
    word = "grounding helped" if helped else word
    word = "undecided" if unknown or not controls else word
    sentences = [
        f"{what.capitalize()} on {split}: {np.mean([measure_of(e) for e in _of(runs, method)]):.3f} with '{method}', "
        f"{np.mean([measure_of(e) for e in starts]):.3f} before, difference {found['before']}."
    ]
    if not controls:
        sentences.append("No control was run, so nothing is known of what helped.")
    if better and failed:
        sentences.append(f"Not better than the control{'s' * (len(failed) > 1)} {_listed(failed, found)}.")
    lost = [m for m in others if not FIX_METHODS[m].control and found[m].worse]
    if lost:
        sentences.append(f"Worse than {_listed(lost, found)}.")
    if controls and unknown:
        sentences.append("No held-out image has a hint, so nothing is known of what the network relies on.")
    elif controls and better and not failed and not helped:
        listed = ", ".join(f"{d.measure} than {d.than} {d}" for d in less)
        sentences.append(f"More accurate than every control, but not better grounded: {listed}.")
    if left_out:
        listed = ", ".join(f"'{name}' failed ({reason})" for name, reason in left_out.items())
        sentences.append(f"Left out: {listed}.")
    return FixVerdict(word, method, f"{what} on {split}", tuple(differences), tuple(grounded), tuple(sentences))


def _listed(methods: Sequence[str], found: Mapping[str, Difference]) -> str:
    return ", ".join(f"'{m}' ({found[m]})" for m in methods)


def _of(runs: Runs, method: str) -> list[Evaluation]:
    return [found for (name, _), found in sorted(runs.items()) if name == method]


def _difference(
    than: str, mine: Sequence[Evaluation], theirs: Sequence[Evaluation], groups: Sequence[int] | None
) -> Difference:
    """The difference of the deciding measure; over seeds where there are several, else over images."""
    values = np.array([measure_of(e) for e in mine]) - np.array([measure_of(e) for e in theirs])
    if len(values) > 1:
        margin = student_margin(values)
        return Difference(than, float(values.mean()), float(values.mean() - margin), float(values.mean() + margin))
    split = deciding_split(mine[0])
    low, high = _image_interval(mine[0].accuracy[split].right, theirs[0].accuracy[split].right, groups)
    return Difference(than, float(values[0]), low, high)


def _image_interval(mine: Sequence[int], theirs: Sequence[int], groups: Sequence[int] | None) -> tuple[float, float]:
    """A paired bootstrap interval over the images; of the lowest group's accuracy where groups are known."""
    both = np.stack([np.asarray(mine, float), np.asarray(theirs, float)], axis=1)
    rows = np.zeros(len(both), int) if groups is None else np.asarray(groups)
    # One seed for both networks resamples the same images.
    worst = [
        np.min([bootstrap_distribution(both[rows == g, k], seed=int(g)) for g in np.unique(rows)], axis=0)
        for k in (0, 1)
    ]
    low, high = percentile_interval(worst[0] - worst[1])
    if low == high:  # no width, which does not prove that the difference is the same on other images
        most = wilson(0.0, int(min(np.unique(rows, return_counts=True)[1])))[1]
        low, high = max(-1.0, low - most), min(1.0, high + most)
    return low, high


def _of_grounding(what: str, than: str, mine: Sequence[Evaluation], theirs: Sequence[Evaluation]) -> Difference:
    one, other = (np.array([getattr(e.grounding, what) for e in some]) for some in (mine, theirs))
    mean = float((one - other).mean())
    if len(one) > 1:
        margin = student_margin(one - other)
        return Difference(than, mean, mean - margin, mean + margin, what)
    pairs = zip(mine[0].grounding.each.get(what, ()), theirs[0].grounding.each.get(what, ()), strict=True)
    values = np.array([a - b for a, b in pairs])
    low, high = percentile_interval(bootstrap_distribution(values)) if len(values) else (math.nan, math.nan)
    return Difference(than, mean, low, high, what)
