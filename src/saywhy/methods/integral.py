r"""Line integrals of gradients along a path from a baseline to the image, with their completeness errors.

The path is processed in batches of steps, of which only the running sum and the last step are kept: memory does not
grow with the number of steps. An integral should sum to the change of the score from one end to the other
(completeness); the difference is the completeness error, which is returned with every map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from saywhy.diagnostics import Diagnostic, bypass_diagnostic, elsewhere_diagnostic
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError
from saywhy.methods.baselines import Baseline, baseline_of
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps
from saywhy.validation import PositiveInt

StepCount = PositiveInt | Literal["auto"]
QuadratureRule = Literal["trapezoid", "left"]
Path = Tensor | Sequence[Tensor] | None

TOLERANCE = 0.01
"""The completeness error at which ``steps="auto"`` has converged, as a share of the change of the score."""

FIRST = 16
"""The number of steps of the first pass of ``steps="auto"``."""

STUCK = 2
"""The number of doublings without improvement after which "auto" checks whether the error can be reduced at all."""


Completeness = tuple[Tensor, int, tuple[Diagnostic, ...]]
"""Completeness error [target], steps and diagnostics of one sample."""


@dataclass
class Integral:
    """A line integral along a path, for one sample.

    Attributes:
        parts: ``I`` [target, channel, *space], the contribution of every unit.
        begin, end: activations [channel, *space] at the ends of the path.
        scores: [2, target] at the ends.
        local: [step, target] the completeness error of every step, in units of the score.
        diagnostics: the diagnostics of the map.
    """

    parts: Tensor
    begin: Tensor
    end: Tensor
    scores: Tensor
    local: Tensor
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def completeness_error(self) -> Tensor:
        """[target] the error as a share of the change of the score; infinite if the score does not change."""
        return self.local.sum(0) / (self.scores[1] - self.scores[0]).abs()

    @property
    def account(self) -> Completeness:
        """Completeness error, steps and diagnostics, which are kept when the integral is not."""
        return self.completeness_error, len(self.local), self.diagnostics


def walks(
    runner: ModelRunner,
    steps: StepCount,
    baseline: Baseline,
    path: Path,
    rule: QuadratureRule,
    max_steps: int,
    positive: bool = False,
) -> Iterator[Integral]:
    """Yield the integral of every sample."""
    for sample, points in paths(runner, baseline, path):
        if steps == "auto" and path is None:
            yield _refine_steps(runner, sample, points, rule, max_steps, positive)
        else:
            count = 1 if steps == "auto" else steps
            integral = _integral(runner, sample, points, step_places(count, path, points), rule, positive)
            elsewhere = isinstance(points, _GivenPath) and not points.ends_at(runner.image[sample])
            yield replace(integral, diagnostics=(elsewhere_diagnostic(),)) if elsewhere else integral


Points = Callable[[Tensor], FeatureMaps]
"""A path: from positions along it, [n] from 0 to 1, to images [n, channel, *space]."""


def paths(runner: ModelRunner, baseline: Baseline, path: Path) -> Iterator[tuple[int, Points]]:
    """Yield the path of every sample."""
    if path is None:
        for sample in range(runner.size):
            yield sample, _line(baseline_of(runner, sample, baseline), runner.image[sample : sample + 1])
        return
    given = list(path) if isinstance(path, list | tuple) else [path]
    if len(given) != runner.size:
        raise InputError(
            f"expected one path for each of {runner.size} samples, got {len(given)}. "
            "Give one sequence of images a sample."
        )
    for sample, images in enumerate(given):
        if not isinstance(images, Tensor):
            raise InputError(f"expected a path as one tensor of images a sample, got {type(images).__name__}.")
        if images.shape[1:] != runner.image.shape[1:] or len(images) < 2:
            raise InputError(
                f"a path must be at least 2 images [step + 1, {', '.join(map(str, runner.image.shape[1:]))}], "
                f"got {list(images.shape)}."
            )
        yield sample, _GivenPath(images.to(runner.image))


def _line(begin: Tensor, end: Tensor) -> Points:
    def points(places: Tensor) -> Tensor:
        # lerp is exact at both ends, and if the image is its own baseline.
        return torch.lerp(begin, end, places.to(end).view(-1, *[1] * (end.ndim - 1)))

    return points


@dataclass(frozen=True)
class _GivenPath:
    """A path given as a sequence of images."""

    images: Tensor

    def ends_at(self, image: Tensor) -> bool:
        """Return whether the last image is this one, up to 1e-3."""
        return torch.allclose(self.images[-1], image, rtol=1e-3, atol=1e-3)

    def __call__(self, places: Tensor) -> Tensor:
        return self.images[(places * (len(self.images) - 1)).round().long()]


def step_places(count: int, path: Path, points: Points) -> Tensor:
    """Return positions along the path, from 0 to 1; a given sequence of images determines its own."""
    ends = len(points.images) if isinstance(points, _GivenPath) else count + 1
    return torch.linspace(0, 1, ends, dtype=torch.float64)


def walk(
    runner: ModelRunner, sample: int, points: Points, places: Tensor, what: str
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield activations [n, channel, *space], gradients [n, target, channel, *space] and scores [n, target] in batches.

    Each batch comes with the index of its first position on the path.
    """
    with counted(what, len(places)) as advance:
        for part in runner.parts(len(places)):
            count = part.stop - part.start
            first = part.start
            for A, G, y in runner.gradients(points(places[part]), torch.full((count,), sample)):
                yield first, A, G, y
                first += len(A)
                advance(len(A))


def _integral(
    runner: ModelRunner, sample: int, points: Points, places: Tensor, rule: QuadratureRule, positive: bool = False
) -> Integral:
    parts: Tensor | None = None
    begin = scores_begin = None
    local = []
    before: tuple[Tensor, Tensor, Tensor] | None = None
    for _, A, G, y in walk(runner, sample, points, places, "integrating"):
        begin = A[0] if begin is None else begin
        scores_begin = y[0] if scores_begin is None else scores_begin
        # The last step of the previous batch is the first of this one.
        if before is not None:
            A, G, y = (torch.cat([old, new]) for old, new in zip(before, (A, G, y), strict=True))
        for i in range(len(A) - 1):
            change = A[i + 1] - A[i]
            contributed = _slope(G[i], G[i + 1], rule) * change  # (target, channel, *space)
            local.append(contributed.flatten(1).double().sum(1) - (y[i + 1] - y[i]).double())
            if positive:
                contributed = _slope(G[i].relu(), G[i + 1].relu(), rule) * change
            parts = contributed.double() if parts is None else parts.add_(contributed)
        before = A[-1:].clone(), G[-1:].clone(), y[-1:].clone()
    assert before is not None
    assert parts is not None
    assert begin is not None
    assert scores_begin is not None
    return Integral(parts, begin, before[0][0], torch.stack([scores_begin, before[2][0]]).double(), torch.stack(local))


def _slope(first: Tensor, last: Tensor, rule: QuadratureRule) -> Tensor:
    """Return the gradient over a step by the rule."""
    return first if rule == "left" else (first + last) / 2


def _refine_steps(
    runner: ModelRunner, sample: int, points: Points, rule: QuadratureRule, max_steps: int, positive: bool
) -> Integral:
    """Compute the integral with shorter steps where the error is largest, until it converges or reaches the bound.

    Every pass starts anew, so that memory does not grow. The number of steps doubles, so that all passes together cost
    at most twice the last.
    """
    places = torch.linspace(0, 1, min(FIRST, max_steps) + 1, dtype=torch.float64)
    converged, stuck, before = False, 0, math.inf
    while True:
        integral = _integral(runner, sample, points, places, rule, positive)
        largest = float(integral.completeness_error.abs().nan_to_num(math.inf).max())
        missed = largest >= TOLERANCE
        # Twice, because errors of opposite sign may cancel by accident.
        if len(places) - 1 >= max_steps or (converged and not missed):
            return integral
        shares = _missed_shares(integral)
        stuck = stuck + 1 if missed and largest > 0.8 * before else 0
        # An error mostly in one step is a jump of the score; an error in all steps is a score that bypasses the layer.
        if stuck >= STUCK and float(shares.max()) < 0.25 * float(shares.sum()):
            return replace(integral, diagnostics=(bypass_diagnostic(),))
        converged, before = not missed, largest
        places = _subdivide(places, shares, max_steps)


def _missed_shares(integral: Integral) -> Tensor:
    """Return the largest error over targets of each step, as a share of the change of the score, [step]."""
    change = (integral.scores[1] - integral.scores[0]).abs()
    return (integral.local.abs() / change.clamp_min(torch.finfo(change.dtype).tiny)).amax(1).nan_to_num(0.0)


def _subdivide(places: Tensor, missed: Tensor, most: int) -> Tensor:
    """Return the same positions and as many new ones between them, placed where the error is largest."""
    count = len(places) - 1
    # The error of a step falls with the square of its length: divide the step of largest error, again and again.
    pieces = torch.ones(count, dtype=torch.long)
    missed = missed.cpu()
    for _ in range(min(most, 2 * count) - count):
        pieces[(missed / pieces.double() ** 2).argmax()] += 1
    finer = [
        torch.linspace(float(a), float(b), int(n) + 1, dtype=torch.float64)[:-1]
        for a, b, n in zip(places[:-1], places[1:], pieces, strict=True)
    ]
    return torch.cat([*finer, places[-1:]])
