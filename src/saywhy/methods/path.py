r"""What is added up along a path from a baseline to the image: RSI-Grad-CAM, conductance, integrated gradients.

The path is walked in batches of steps, of which only the running sum and the last step are kept: memory does not grow
with the steps. Whatever is integrated should add up to the change of the score from one end to the other
(completeness); by how much it does not is told with every map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from saywhy.diagnostics import Diagnostic, bypass_diagnostic, elsewhere_diagnostic
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError
from saywhy.methods.baselines import Baseline, baseline_of
from saywhy.methods.method import AttributionResult
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps

Steps = int | Literal["auto"]
Variant = Literal["masked", "plain", "posgrad"]
Rule = Literal["trapezoid", "left"]
Path = Tensor | Sequence[Tensor] | None

TOLERANCE = 0.01
"""The completeness gap at which ``steps="auto"`` is content, as a share of the change of the score."""

FIRST = 16
"""Steps of the first walk of ``steps="auto"``."""

STUCK = 2
"""After so many doublings that bring nothing, "auto" looks whether the gap can be closed at all."""


@dataclass
class Integral:
    """A line integral along a path, for one sample.

    Attributes:
        parts: ``I`` [target, channel, *space], what every unit has contributed.
        begin, end: activations [channel, *space] at the ends of the path.
        scores: [2, target] at the ends.
        local: [step, target] by how much each step's parts miss the change of the score over it.
        facts: what the card should say of it.
    """

    parts: Tensor
    begin: Tensor
    end: Tensor
    scores: Tensor
    local: Tensor
    facts: tuple[Diagnostic, ...] = ()

    @property
    def completeness_error(self) -> Tensor:
        """[target] what the parts miss, as a share of the change of the score; infinite where that does not change."""
        return self.local.sum(0) / (self.scores[1] - self.scores[0]).abs()

    @property
    def account(self) -> "_Completeness":
        """What is kept when the integral itself is not."""
        return self.completeness_error, len(self.local), self.facts


@method(
    "rsi-gradcam",
    title="RSI-Grad-CAM",
    paper="Lucas et al., 2022",
    equation="ReLU(Σₖ mean(Iₖ) Aₖ), I = ∫ G dA",
    family="path",
    order=240,
    passes="several",
    score="probability",
)
def rsi_gradcam(
    runner: ModelRunner,
    *,
    steps: Steps = 50,
    variant: Variant = "masked",
    relu: bool = True,
    baseline: Baseline = None,
    path: Path = None,
    rule: Rule = "trapezoid",
    max_steps: int = 1024,
) -> AttributionResult:
    r"""RSI-Grad-CAM (Lucas, Lerma, Furst, Raicu, 2022): Riemann-Stieltjes integrated gradients at any layer.

    .. math:: I_{kp} = \int_0^1 \frac{\partial y}{\partial A^k_p}(\gamma(a))\, dA^k_p(\gamma(a)), \qquad
              w_k = \frac{1}{Z}\sum_p I_{kp}, \qquad L = \mathrm{ReLU}\Big(\sum_k w_k A^k(1)\Big)

    with :math:`\gamma(a) = x_0 + a (x - x_0)`. The integral is the sum over steps of the mean of the gradients at both
    ends of a step times the change of the activation over it, so that nothing vanishes where the answer is saturated.

    Args:
        runner: the network, the images, and the layer.
        steps: of the same length along the path, or ``"auto"``: as many as it takes, where the score moves, until the
            completeness gap is below 1 %, there are ``max_steps``, or more of them bring nothing because part of the
            score goes round the layer (the card says so then).
        variant: ``"masked"`` (the authors' Keras code, 2021 to 2022) counts units that are active in the image, have
            risen along the path and have contributed; ``"plain"`` counts all; ``"posgrad"`` (their PyTorch code, 2023)
            takes the positive part of every gradient and the mean over channels.
        relu: False keeps the negative evidence too.
        baseline: where the path begins; see :func:`saywhy.methods.baselines.baseline_of`.
        path: the images of another path instead, the baseline first and the image last, [step + 1, channel, *space]
            (for several samples a list of such tensors). It is walked as it is, whatever ``steps`` says.
        rule: ``"left"`` takes the gradient at the beginning of every step, as layer conductance does.
        max_steps: the bound of ``"auto"``.

    Returns:
        Maps [batch, target, *space], non-negative if ``relu``, in units of score times activation, with the
        completeness gap of the integral itself, before ``"masked"`` leaves units out and ``"posgrad"`` gradients.

    Raises:
        MethodError: ``variant``, ``rule`` or ``steps`` is none of these.
        InputError: the baseline or the path does not fit the image.

    Differs from the paper: "auto" is ours; the published 50 steps of equal length miss 4 % to 100 % of the change for
    saturated answers. No epsilon is added anywhere.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> found = rsi_gradcam(runner, steps=2, variant="plain")  # I = 9 and 1, w = 5
    >>> found.maps, found.completeness_error
    (tensor([[[15.,  5.]]]), tensor([[0.]], dtype=torch.float64))
    """
    if variant not in ("masked", "plain", "posgrad"):
        raise MethodError(f"variant must be 'masked', 'plain' or 'posgrad', got {variant!r}.")
    maps, accounts = [], []
    for integral in _walks(runner, steps, baseline, path, rule, max_steps, positive=variant == "posgrad"):
        weights = _weights(integral, variant)
        combined = torch.einsum("tk,kp->tp", weights, integral.end.double().flatten(1))
        combined = combined / weights.shape[1] if variant == "posgrad" else combined
        combined = combined.relu() if relu else combined
        maps.append(combined.unflatten(1, integral.end.shape[1:]).to(integral.end))
        accounts.append(integral.account)
    return _attributed(maps, accounts)


_Completeness = tuple[Tensor, int, tuple[Diagnostic, ...]]
"""Gap [target], steps and facts of one sample."""


def _attributed(maps: Sequence[Tensor], accounts: Sequence[_Completeness]) -> AttributionResult:
    """Maps [target, *space] of every sample, with the accounts of their integrals."""
    completeness_errors, steps, facts = zip(*accounts, strict=True)
    told = tuple(dict.fromkeys(fact for of_sample in facts for fact in of_sample))
    return AttributionResult(torch.stack(list(maps)), torch.stack(completeness_errors), torch.tensor(steps), told)


def _weights(integral: Integral, variant: Variant) -> Tensor:
    """``w_k`` [target, channel], the mean over all positions, masked ones counting as zero."""
    parts = integral.parts
    if variant == "masked":
        counts = (integral.end > 0) & (integral.end > integral.begin) & (parts > 0)
        parts = parts.where(counts, 0.0)
    return parts.flatten(2).mean(2)


@method(
    "conductance",
    title="layer conductance",
    paper="Dhamdhere et al., 2018",
    equation="Σₖ Iₖ, I = ∫ G dA",
    family="path",
    order=260,
    passes="several",
)
def conductance(
    runner: ModelRunner,
    *,
    steps: Steps = 50,
    baseline: Baseline = None,
    path: Path = None,
    rule: Rule = "trapezoid",
    max_steps: int = 1024,
) -> AttributionResult:
    r"""Layer conductance (Dhamdhere, Sundararajan, Yan, 2018), summed over channels.

    .. math:: L_p = \sum_k \int_0^1 \frac{\partial y}{\partial A^k_p}(\gamma(a))\, dA^k_p(\gamma(a))

    Args:
        runner: the network, the images, and the layer.
        steps, baseline, path, rule, max_steps: as for :func:`rsi_gradcam`.

    Returns:
        Maps [batch, target, *space], signed, in units of the score: the values of a map add up to the change of the
        score from baseline to image (completeness), as far as the layer is all that the score depends on.

    Differs from the paper: the trapezoid rule by default; ``rule="left"`` is the paper's and captum's.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> conductance(runner, steps=3).maps
    tensor([[[9., 1.]]])
    """
    walks = _walks(runner, steps, baseline, path, rule, max_steps)
    maps, accounts = zip(*((w.parts.sum(1).to(w.end), w.account) for w in walks), strict=True)
    return _attributed(maps, accounts)


@method(
    "integrated-gradients",
    title="integrated gradients",
    paper="Sundararajan et al., 2017",
    equation="Σ ∫ G dx",
    family="path",
    order=270,
    passes="several",
    at="input",
)
def integrated_gradients(
    runner: ModelRunner,
    *,
    steps: Steps = 50,
    baseline: Baseline = None,
    path: Path = None,
    rule: Rule = "trapezoid",
    max_steps: int = 1024,
) -> AttributionResult:
    r"""Integrated gradients (Sundararajan, Taly, Yan, 2017, equation 1), summed over the channels of a pixel.

    .. math:: L_p = \sum_c (x - x_0)_{cp} \int_0^1 \frac{\partial y}{\partial x_{cp}}(x_0 + a (x - x_0))\, da

    It is the conductance of the image itself; on a ``path`` of images the line integral along that path.

    Args:
        runner: the network, the images, and the layer.
        steps, baseline, path, rule, max_steps: as for :func:`rsi_gradcam`.

    Returns:
        Maps [batch, target, *space], signed, in units of the score: the values of a map add up to the change of the
        score from baseline to image.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> integrated_gradients(runner, steps=3).maps
    tensor([[[9., 1.]]])
    """
    return conductance(
        runner.at_image(),
        steps=steps,
        baseline=baseline,
        path=path,
        rule=rule,
        max_steps=max_steps,
    )


@method(
    "integrated-gradcam",
    title="Integrated Grad-CAM",
    paper="Sattarzadeh et al., 2021",
    equation="∫ ReLU(Σₖ mean(Gₖ) (Aₖ - Aₖ⁰)) da",
    family="path",
    order=250,
    passes="several",
)
def integrated_gradcam(
    runner: ModelRunner,
    *,
    steps: int = 50,
    relu: bool = True,
    baseline: Baseline = None,
    path: Path = None,
    from_baseline: bool = True,
) -> Tensor:
    r"""Integrated Grad-CAM (Sattarzadeh et al., 2021): the mean of Grad-CAM maps along the path.

    .. math:: L = \int_0^1 \mathrm{ReLU}\Big(\sum_k \alpha_k(\gamma(a))\, \Delta^k(a)\Big) da, \qquad
              \Delta^k(a) = A^k(\gamma(a)) - A^k(\gamma(0))

    Args:
        runner: the network, the images, and the layer.
        steps: of the same length; the integral is their mean, with the first and the last counting half.
        relu: False keeps the negative evidence of every step too.
        baseline, path: as for :func:`rsi_gradcam`.
        from_baseline: False takes the activation itself for ``Δ``, as the authors' code does.

    Returns:
        Maps [batch, target, *space], non-negative if ``relu``, in units of the score.

    Differs from the authors' code: the image itself is the last step (theirs stops one before it), the trapezoid rule
    is used, and the sum is divided by the steps, which no normalised map shows.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> integrated_gradcam(runner, steps=2)  # of 3, 1 and half of it, weighed by the mean gradients 4 and 2
    tensor([[[4.5000, 1.5000]]])
    """
    count = _number(steps)
    maps = []
    for sample, points in _paths(runner, baseline, path):
        total: Tensor | None = None
        begin: Tensor | None = None
        for first, A, G, _ in _walk(runner, sample, points, _grid(count, path, points), "integrated-gradcam"):
            begin = A[:1] if begin is None else begin
            change = A - begin if from_baseline else A
            steps_maps = torch.einsum("ntk,nkp->ntp", G.flatten(3).mean(3), change.flatten(2))
            steps_maps = steps_maps.relu() if relu else steps_maps
            ends = torch.ones(len(A), 1, 1, dtype=A.dtype, device=A.device)
            last = len(_grid(count, path, points)) - 1
            ends[[i for i in range(len(A)) if first + i in (0, last)]] = 0.5
            part = (ends * steps_maps).sum(0) / last
            total = part if total is None else total + part
        assert total is not None
        maps.append(total.unflatten(1, A.shape[2:]))
    return torch.stack(maps)


def _walks(
    runner: ModelRunner,
    steps: Steps,
    baseline: Baseline,
    path: Path,
    rule: Rule,
    max_steps: int,
    positive: bool = False,
) -> Iterator[Integral]:
    """The integral of every sample."""
    if rule not in ("trapezoid", "left"):
        raise MethodError(f"rule must be 'trapezoid' or 'left', got {rule!r}.")
    if max_steps < 1:
        raise MethodError(f"max_steps must be a whole number of at least 1, got {max_steps!r}.")
    for sample, points in _paths(runner, baseline, path):
        if steps == "auto" and path is None:
            yield _refined(runner, sample, points, rule, max_steps, positive)
        else:
            count = _number(steps) if steps != "auto" else 1
            integral = _integral(runner, sample, points, _grid(count, path, points), rule, positive)
            elsewhere = isinstance(points, _Sequence) and not points.ends_at(runner.image[sample])
            yield replace(integral, facts=(elsewhere_diagnostic(),)) if elsewhere else integral


def _number(steps: Steps) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise MethodError(f"steps must be a whole number of at least 1 or 'auto', got {steps!r}.")
    return steps


Points = Callable[[Tensor], FeatureMaps]
"""From places along the path, [n] from 0 to 1, to images [n, channel, *space]."""


def _paths(runner: ModelRunner, baseline: Baseline, path: Path) -> Iterator[tuple[int, Points]]:
    """The path of every sample."""
    if path is None:
        for sample in range(runner.size):
            yield sample, _line(baseline_of(runner, sample, baseline), runner.image[sample : sample + 1])
        return
    given = list(path) if isinstance(path, list | tuple) else [path]
    if len(given) != runner.size:
        raise InputError(f"path holds {len(given)} sequences of images for {runner.size} samples. Give each its own.")
    for sample, images in enumerate(given):
        if not isinstance(images, Tensor):
            raise InputError(f"a path is one tensor of images for every sample, got {type(images).__name__}.")
        if images.shape[1:] != runner.image.shape[1:] or len(images) < 2:
            raise InputError(
                f"a path must be at least 2 images [step + 1, {', '.join(map(str, runner.image.shape[1:]))}], "
                f"got {list(images.shape)}."
            )
        yield sample, _Sequence(images.to(runner.image))


def _line(begin: Tensor, end: Tensor) -> Points:
    def points(places: Tensor) -> Tensor:
        # Exact at both ends, and where the image is its own baseline.
        return torch.lerp(begin, end, places.to(end).view(-1, *[1] * (end.ndim - 1)))

    return points


@dataclass(frozen=True)
class _Sequence:
    """A path that is given image by image."""

    images: Tensor

    def ends_at(self, image: Tensor) -> bool:
        """Whether the last image is this one."""
        return torch.allclose(self.images[-1], image, rtol=1e-3, atol=1e-3)

    def __call__(self, places: Tensor) -> Tensor:
        return self.images[(places * (len(self.images) - 1)).round().long()]


def _grid(count: int, path: Path, points: Points) -> Tensor:
    """Places along the path, from 0 to 1; those of a given sequence are its own."""
    ends = len(points.images) if isinstance(points, _Sequence) else count + 1
    return torch.linspace(0, 1, ends, dtype=torch.float64)


def _walk(
    runner: ModelRunner, sample: int, points: Points, places: Tensor, what: str
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Activations [n, channel, *space], gradients [n, target, channel, *space] and scores [n, target], in batches.

    With each the number of its first place.
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
    runner: ModelRunner, sample: int, points: Points, places: Tensor, rule: Rule, positive: bool = False
) -> Integral:
    parts: Tensor | None = None
    begin = scores_begin = None
    local = []
    before: tuple[Tensor, Tensor, Tensor] | None = None
    for _, A, G, y in _walk(runner, sample, points, places, "integrating"):
        begin = A[0] if begin is None else begin
        scores_begin = y[0] if scores_begin is None else scores_begin
        # The last step of the batch before is the first of this one.
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


def _slope(first: Tensor, last: Tensor, rule: Rule) -> Tensor:
    """The gradient over a step."""
    return first if rule == "left" else (first + last) / 2


def _refined(runner: ModelRunner, sample: int, points: Points, rule: Rule, max_steps: int, positive: bool) -> Integral:
    """The integral with shorter steps where they miss most, until it is complete or the bound is reached.

    Every walk is made anew, so that memory does not grow; their lengths double, so that all together
    cost at most twice the last.
    """
    places = torch.linspace(0, 1, min(FIRST, max_steps) + 1, dtype=torch.float64)
    content, stuck, before = False, 0, math.inf
    while True:
        integral = _integral(runner, sample, points, places, rule, positive)
        largest = float(integral.completeness_error.abs().nan_to_num(math.inf).max())
        missed = largest >= TOLERANCE
        # Twice, because errors of opposite sign may cancel by accident.
        if len(places) - 1 >= max_steps or (content and not missed):
            return integral
        shares = _shares(integral)
        stuck = stuck + 1 if missed and largest > 0.8 * before else 0
        # Where one step misses most, it hides a jump of the score; where all miss a little, the score goes round.
        if stuck >= STUCK and float(shares.max()) < 0.25 * float(shares.sum()):
            return replace(integral, facts=(bypass_diagnostic(),))
        content, before = not missed, largest
        places = _finer(places, shares, max_steps)


def _shares(integral: Integral) -> Tensor:
    """[step] by how much each step misses, as a share of the change of the score, of the target that misses most."""
    change = (integral.scores[1] - integral.scores[0]).abs()
    return (integral.local.abs() / change.clamp_min(torch.finfo(change.dtype).tiny)).amax(1).nan_to_num(0.0)


def _finer(places: Tensor, missed: Tensor, most: int) -> Tensor:
    """The same places and as many new ones between them, where most is missed."""
    count = len(places) - 1
    # The error of a step falls with the square of its length: halve whichever misses most, again and again.
    pieces = torch.ones(count, dtype=torch.long)
    missed = missed.cpu()
    for _ in range(min(most, 2 * count) - count):
        pieces[(missed / pieces.double() ** 2).argmax()] += 1
    finer = [
        torch.linspace(float(a), float(b), int(n) + 1, dtype=torch.float64)[:-1]
        for a, b, n in zip(places[:-1], places[1:], pieces, strict=True)
    ]
    return torch.cat([*finer, places[-1:]])
