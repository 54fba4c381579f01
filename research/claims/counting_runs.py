"""The runs of the comparison of counters: one network each, trained, measured and stored, or read if stored before."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from research.claims.counting_data import REAL, SETS, PreparedSet, photographs, read_prepared
from research.claims.counting_detector import DETECTOR_PLAN, DETECTOR_SETTINGS, detect, detect_trained, learn_detector
from research.claims.language_networks import FOLDER
from saywhy.metrics.counting import round_counts
from saywhy.tasks.counting.count_classifier import CountClassifier
from saywhy.tasks.counting.detect import Detections, detection_counts, tune_detection
from saywhy.tasks.counting.intervals import CountErrors
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing
from saywhy.tasks.counting.train import COUNTER_PLAN, learn_counter, predict_counts
from saywhy.training.checkpoint import save_weights

VERSION = 1
"""Of what a run computes beyond its settings; raise it with such a change, so that stored runs are not used."""

COUNTERS = ("glance", "associative", "sequential")
"""The networks that count, in the paper's order: the last should be the best."""

ENSEMBLE = "ensemble"

GRID = 3
"""The published grid of associative and sequential subitizing."""

GRIDS = tuple(range(1, 9))

SWEPT = ("associative", "sequential")
"""The counters that are compared at several grids."""

FEWER = 3
"""Networks of the comparison of grids take a third of the steps: sequential subitizing of 64 cells is slow."""


@dataclass(frozen=True)
class Job:
    """One network, or one for every fold.

    Attributes:
        name: of the data set.
        kind: "glance", "associative", "sequential", "gt-class" or "detect".
        grid: the cells a side; 1 where the whole image is looked at.
        seed: of initial weights, order and folds.
        share: of images and steps.
        sweep: whether it is of the comparison of grids, whose networks take fewer steps.
    """

    name: str
    kind: str
    grid: int
    seed: int
    share: float = 1.0
    sweep: bool = False

    @property
    def steps(self) -> int:
        """The number of steps."""
        own = SETS[self.name].steps[self.kind == "detect"] // (FEWER if self.sweep else 1)
        return own if self.share == 1 else min(own, max(20, round(self.share * own)))

    def file(self, digest: str) -> Path:
        """Return the file of its result; its name has a digest of all that decides it, and of the data set's maps."""
        plan = DETECTOR_PLAN if self.kind == "detect" else COUNTER_PLAN
        chosen = SETS[self.name]
        known = [VERSION, digest, asdict(self), self.steps, plan.settings(), asdict(chosen)]
        known += [DETECTOR_SETTINGS] if self.kind == "detect" else []
        hashed = sha256(json.dumps(known).encode()).hexdigest()[:12]
        return FOLDER / f"counting-{self.name}-{self.kind}-{self.grid}-{self.seed}-{hashed}.safetensors"

    @property
    def cost(self) -> int:
        """The order of the jobs' lengths, for the longest first."""
        return self.steps * (1000 if self.kind == "detect" else self.grid**2 if self.kind == "sequential" else 1)


@dataclass(frozen=True)
class FoldResult:
    """What one network says of the images that it was not trained on.

    Attributes:
        val, test: the images.
        of_val, of_test: [image, class] counts before rounding.
    """

    val: tuple[int, ...]
    test: tuple[int, ...]
    of_val: Float[Tensor, "image class"]
    of_test: Float[Tensor, "image class"]


@dataclass(frozen=True)
class RunResult:
    """The result of a job.

    Attributes:
        folds: one, or one for every fold.
        seconds: of training, of all folds together.
        found: the detector's boxes of the images of val and test, by image; empty for counters.
    """

    folds: tuple[FoldResult, ...]
    seconds: float
    found: dict[int, Detections]

    @property
    def images(self) -> list[int]:
        """The test images of all folds, in ascending order."""
        return sorted(image for fold in self.folds for image in fold.test)

    @property
    def counts(self) -> Float[np.ndarray, "image class"]:
        """The counts of the test images in the order of ``images``, before rounding."""
        rows = {image: row for fold in self.folds for image, row in zip(fold.test, fold.of_test, strict=True)}
        return torch.stack([rows[image] for image in self.images]).double().numpy()

    def intervals(
        self, counts: Float[np.ndarray, "image class"], coverage: float
    ) -> tuple[Int[np.ndarray, "image class"], Int[np.ndarray, "image class"]]:
        """Return the ends of the intervals of all test images, made of the errors on each fold's validation images.

        Args:
            counts: [image, class] true counts of the whole data set.
            coverage: that the intervals state.
        """
        ends = {}
        for fold in self.folds:
            errors = CountErrors.of(fold.of_val, torch.from_numpy(counts[list(fold.val)]), coverage)
            rounded = round_counts(fold.of_test.double())
            known = {int(count): errors.interval(int(count)) for count in rounded.unique()}
            for image, row in zip(fold.test, rounded.tolist(), strict=True):
                ends[image] = [(known[int(count)].low, known[int(count)].high) for count in row]
        found = np.array([ends[image] for image in self.images])
        return found[..., 0], found[..., 1]


def jobs_of(names: Sequence[str], seeds: int, grid_seeds: int, share: float) -> list[Job]:
    """Return all jobs: every counter with every seed, and all grids with the first seeds; longest first.

    >>> len(jobs_of(["bccd"], 3, 1, 1.0))  # five kinds of three seeds, eight grids of two kinds
    31
    """
    found = []
    for name in names:
        kinds = [("glance", 1), ("associative", GRID), ("sequential", GRID), ("gt-class", 1)]
        kinds += [("detect", 1)] if SETS[name].detects else []
        found += [Job(name, kind, grid, seed, share) for seed in range(seeds) for kind, grid in kinds]
        found += [
            Job(name, kind, grid, seed, share, True)
            for seed in range(grid_seeds) for kind in SWEPT for grid in GRIDS
        ]  # fmt: skip
    return sorted(found, key=lambda job: -job.cost)


def run(job: Job, data: Path) -> Path:
    """Train and measure a job's networks, and store the result, unless that is done; return the file."""
    prepared = read_prepared(job.name, data)
    file = job.file(prepared.digest)
    if not file.exists():
        _store(file, _detected(job, prepared) if job.kind == "detect" else _counted(job, prepared))
    return file


def read_run(file: Path) -> RunResult:
    """Return the result of a job from its file."""
    with safe_open(file, "pt") as opened:
        known = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
    folds = tuple(
        FoldResult(
            *(tuple(tensors[f"{part}_{number}"].tolist()) for part in ("val", "test")),
            *(tensors[f"of_{part}_{number}"] for part in ("val", "test")),
        )
        for number in range(int(known["folds"]))
    )
    found = {}
    for image in tensors["images"].tolist() if "images" in tensors else ():
        own = tensors["owners"] == image
        found[image] = Detections(tensors["boxes"][own], tensors["scores"][own], tensors["labels"][own])
    return RunResult(folds, float(known["seconds"]), found)


def ensemble(members: Sequence[RunResult]) -> RunResult:
    """Return the mean of counters of the same seed before rounding, as the paper's "ens"."""
    folds = []
    for of_fold in zip(*(one.folds for one in members), strict=True):
        first = of_fold[0]
        if any((one.val, one.test) != (first.val, first.test) for one in of_fold):
            raise ValueError("expected the same images in all members of an ensemble; are they of one seed?")
        means = (torch.stack([getattr(one, part) for one in of_fold]).mean(0) for part in ("of_val", "of_test"))
        folds.append(FoldResult(first.val, first.test, *means))
    return RunResult(tuple(folds), sum(one.seconds for one in members), {})


def fresh_head(job: Job, features: int, classes: int, most: int) -> CountHead:
    """Return the network of a job with random weights that depend on its seed only."""
    perceptron, lstm = SETS[job.name].hidden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        if job.kind == "glance":
            return Glance(features, classes, perceptron)
        if job.kind == "gt-class":
            return CountClassifier(features, classes, most, perceptron)
        if job.kind == "associative":
            return AssociativeSubitizing(features, classes, job.grid, perceptron)
        return SequentialSubitizing(features, classes, job.grid, lstm)


def _counted(job: Job, data: PreparedSet) -> RunResult:
    """Train a counter for every fold."""
    features, cells, seconds, folds = data.features(job.grid), data.cells(job.grid), 0.0, []
    for train, val, test in data.divisions(job.seed):
        head = fresh_head(job, features.shape[2], len(data.labels), max(1, int(data.counts[train].max())))
        plan = _plan(job, len(train))
        begin = perf_counter()
        learn_counter(
            head, features[train], cells[train], plan, job.steps, validation=(features[val], cells[val]), every=50
        )
        seconds += perf_counter() - begin
        found = (predict_counts(head, features[part]) for part in (val, test))
        folds.append(FoldResult(tuple(val), tuple(test), *found))
    return RunResult(tuple(folds), seconds, {})


def _plan(job: Job, images: int):
    chosen = SETS[job.name]
    return replace(COUNTER_PLAN, rate=chosen.rate, seed=job.seed, batch=min(chosen.batch, images))


def _detected(job: Job, data: PreparedSet) -> RunResult:
    """Tune a detector's thresholds on the validation images in the paper's two steps, and count its boxes.

    It is trained first, unless the data set has one that is trained already.
    """
    folds, found, seconds, classes = [], {}, 0.0, len(data.labels)
    trained = SETS[job.name].detector
    if trained:
        known = detect_trained(REAL / trained, photographs(job.name, job.share), data.labels)
    for train, val, test in data.divisions(job.seed):
        if trained:
            own = {image: known[image] for image in (*val, *test)}
        else:
            begin = perf_counter()
            truth = [data.truth[image] for image in train]
            network = learn_detector(data.maps[train], truth, classes, job.seed, job.steps)
            seconds += perf_counter() - begin
            own = dict(zip((*val, *test), detect(network, data.maps[[*val, *test]]), strict=True))
        of_val, of_test = ([own[image] for image in part] for part in (val, test))
        tuned = tune_detection(of_val, torch.from_numpy(data.counts[val]))
        counts = (detection_counts(part, tuned, classes) for part in (of_val, of_test))
        folds.append(FoldResult(tuple(val), tuple(test), *counts))
        found |= own
    return RunResult(tuple(folds), seconds, found)


def _store(file: Path, result: RunResult) -> None:
    tensors: dict[str, Tensor] = {}
    for number, fold in enumerate(result.folds):
        tensors |= {f"{part}_{number}": torch.tensor(getattr(fold, part)) for part in ("val", "test")}
        tensors |= {f"of_{part}_{number}": getattr(fold, f"of_{part}").contiguous() for part in ("val", "test")}
    if result.found:
        tensors["images"] = torch.tensor(list(result.found))
        rows = list(result.found.items())
        tensors["owners"] = torch.cat([torch.full((len(one.scores),), image) for image, one in rows])
        for name in ("boxes", "scores", "labels"):
            tensors[name] = torch.cat([getattr(one, name) for _, one in rows])
    known: dict[str, Any] = {"folds": len(result.folds), "seconds": f"{result.seconds:.3f}"}
    save_weights(file, tensors, {name: str(value) for name, value in known.items()})


def fold_baselines(
    data: PreparedSet, result: RunResult
) -> Iterator[tuple[str, Float[np.ndarray, "image class"], bool]]:
    """Yield the baselines that do not look: name, predictions of the test images, and whether they are rounded.

    Means are those of the training images of each fold, not rounded, as the paper prints them.
    """
    from saywhy.tasks.counting.baselines import BASELINES

    for name, baseline in BASELINES.items():
        rows = {}
        for fold in result.folds:
            held = {*fold.val, *fold.test}
            train = [image for image in range(len(data.maps)) if image not in held]
            found = baseline(torch.from_numpy(data.counts[train]), len(fold.test)).numpy()
            rows |= dict(zip(fold.test, found, strict=True))
        yield name, np.stack([rows[image] for image in result.images]), not name.endswith("mean")
