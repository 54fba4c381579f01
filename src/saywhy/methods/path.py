r"""Integrals along a path from a baseline to the image: RSI-Grad-CAM, conductance, integrated gradients."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.methods.baselines import Baseline
from saywhy.methods.integral import (
    Completeness,
    Integral,
    Path,
    QuadratureRule,
    StepCount,
    paths,
    step_places,
    walk,
    walks,
)
from saywhy.methods.method import AttributionResult
from saywhy.methods.registry import method
from saywhy.validation import PositiveInt

RSIVariant = Literal["masked", "plain", "posgrad"]


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
    steps: StepCount = 50,
    variant: RSIVariant = "masked",
    relu: bool = True,
    baseline: Baseline = None,
    path: Path = None,
    rule: QuadratureRule = "trapezoid",
    max_steps: PositiveInt = 1024,
) -> AttributionResult:
    r"""RSI-Grad-CAM (Lucas, Lerma, Furst, Raicu, 2022): Riemann-Stieltjes integrated gradients at any layer.

    .. math:: I_{kp} = \int_0^1 \frac{\partial y}{\partial A^k_p}(\gamma(a))\, dA^k_p(\gamma(a)), \qquad
              w_k = \frac{1}{Z}\sum_p I_{kp}, \qquad L = \mathrm{ReLU}\Big(\sum_k w_k A^k(1)\Big)

    with :math:`\gamma(a) = x_0 + a (x - x_0)`. The integral is a sum over steps: the mean of the gradients at both ends
    of a step times the change of the activation over it. It does not vanish when the score is saturated.

    Args:
        runner: the network, the images, and the layer.
        steps: the number of steps of equal length, or ``"auto"``: steps are added where the score changes, until the
            completeness error is below 1 %, there are ``max_steps``, or more steps do not help because part of the
            score bypasses the layer (the diagnostics then say so).
        variant: ``"masked"`` (the authors' Keras code, 2021 to 2022) counts units that are active in the image, have
            increased along the path and have a positive integral; ``"plain"`` counts all; ``"posgrad"`` (their PyTorch
            code, 2023) takes the positive part of every gradient and the mean over channels.
        relu: False keeps the negative evidence as well.
        baseline: the start of the path; see :func:`saywhy.methods.baselines.baseline_of`.
        path: the images of another path instead, the baseline first and the image last, [step + 1, channel, *space]
            (for several samples a list of such tensors). ``steps`` is then ignored.
        rule: ``"left"`` takes the gradient at the beginning of every step, as layer conductance does.
        max_steps: the bound of ``"auto"``.

    Returns:
        Maps [batch, target, *space], non-negative if ``relu``, in units of score times activation, with the
        completeness error of the full integral (before ``"masked"`` drops units or ``"posgrad"`` negative gradients).

    Raises:
        MethodError: ``variant``, ``rule`` or ``steps`` is invalid.
        InputError: the baseline or the path does not fit the image.

    Differs from the paper: "auto" is new; the published 50 steps of equal length miss 4 % to 100 % of the change for
    saturated scores. No epsilon is added anywhere.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> found = rsi_gradcam(runner, steps=2, variant="plain")  # I = 9 and 1, w = 5
    >>> found.maps, found.completeness_error
    (tensor([[[15.,  5.]]]), tensor([[0.]], dtype=torch.float64))
    """
    maps, accounts = [], []
    for integral in walks(runner, steps, baseline, path, rule, max_steps, positive=variant == "posgrad"):
        weights = _weights(integral, variant)
        combined = torch.einsum("tk,kp->tp", weights, integral.end.double().flatten(1))
        combined = combined / weights.shape[1] if variant == "posgrad" else combined
        combined = combined.relu() if relu else combined
        maps.append(combined.unflatten(1, integral.end.shape[1:]).to(integral.end))
        accounts.append(integral.account)
    return _attribution_result(maps, accounts)


def _attribution_result(maps: Sequence[Tensor], accounts: Sequence[Completeness]) -> AttributionResult:
    """Stack maps [target, *space] of all samples, with the completeness of their integrals."""
    completeness_errors, steps, diagnostics = zip(*accounts, strict=True)
    distinct = tuple(dict.fromkeys(one for of_sample in diagnostics for one in of_sample))
    return AttributionResult(torch.stack(list(maps)), torch.stack(completeness_errors), torch.tensor(steps), distinct)


def _weights(integral: Integral, variant: RSIVariant) -> Tensor:
    """Return ``w_k`` [target, channel], the mean over all positions, where masked units count as zero."""
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
    steps: StepCount = 50,
    baseline: Baseline = None,
    path: Path = None,
    rule: QuadratureRule = "trapezoid",
    max_steps: PositiveInt = 1024,
) -> AttributionResult:
    r"""Layer conductance (Dhamdhere, Sundararajan, Yan, 2018), summed over channels.

    .. math:: L_p = \sum_k \int_0^1 \frac{\partial y}{\partial A^k_p}(\gamma(a))\, dA^k_p(\gamma(a))

    Args:
        runner: the network, the images, and the layer.
        steps, baseline, path, rule, max_steps: as for :func:`rsi_gradcam`.

    Returns:
        Maps [batch, target, *space], signed, in units of the score: the values of a map sum to the change of the score
        from baseline to image (completeness), if the score depends on the image through this layer only.

    Differs from the paper: the trapezoid rule by default; ``rule="left"`` is the paper's and captum's.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> conductance(runner, steps=3).maps
    tensor([[[9., 1.]]])
    """
    integrals = walks(runner, steps, baseline, path, rule, max_steps)
    maps, accounts = zip(*((w.parts.sum(1).to(w.end), w.account) for w in integrals), strict=True)
    return _attribution_result(maps, accounts)


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
    steps: StepCount = 50,
    baseline: Baseline = None,
    path: Path = None,
    rule: QuadratureRule = "trapezoid",
    max_steps: PositiveInt = 1024,
) -> AttributionResult:
    r"""Integrated gradients (Sundararajan, Taly, Yan, 2017, equation 1), summed over the channels of a pixel.

    .. math:: L_p = \sum_c (x - x_0)_{cp} \int_0^1 \frac{\partial y}{\partial x_{cp}}(x_0 + a (x - x_0))\, da

    It is the conductance of the image itself; with ``path``, the line integral along that path of images.

    Args:
        runner: the network, the images, and the layer.
        steps, baseline, path, rule, max_steps: as for :func:`rsi_gradcam`.

    Returns:
        Maps [batch, target, *space], signed, in units of the score: the values of a map sum to the change of the score
        from baseline to image.

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
    steps: PositiveInt = 50,
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
        steps: the number of steps of equal length; the first and the last map count half (trapezoid rule).
        relu: False keeps the negative evidence of every step as well.
        baseline, path: as for :func:`rsi_gradcam`.
        from_baseline: False takes the activation itself for ``Δ``, as the authors' code does.

    Returns:
        Maps [batch, target, *space], non-negative if ``relu``, in units of the score.

    Differs from the authors' code: the image itself is the last step (their code stops one step before it), the
    trapezoid rule is used, and the sum is divided by the number of steps, which no normalised map shows.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> integrated_gradcam(runner, steps=2)  # [3, 1] and half of it, weighted by the mean gradients 4 and 2
    tensor([[[4.5000, 1.5000]]])
    """
    maps = []
    for sample, points in paths(runner, baseline, path):
        total: Tensor | None = None
        begin: Tensor | None = None
        for first, A, G, _ in walk(runner, sample, points, step_places(steps, path, points), "integrated-gradcam"):
            begin = A[:1] if begin is None else begin
            change = A - begin if from_baseline else A
            steps_maps = torch.einsum("ntk,nkp->ntp", G.flatten(3).mean(3), change.flatten(2))
            steps_maps = steps_maps.relu() if relu else steps_maps
            ends = torch.ones(len(A), 1, 1, dtype=A.dtype, device=A.device)
            last = len(step_places(steps, path, points)) - 1
            ends[[i for i in range(len(A)) if first + i in (0, last)]] = 0.5
            part = (ends * steps_maps).sum(0) / last
            total = part if total is None else total + part
        assert total is not None
        maps.append(total.unflatten(1, A.shape[2:]))
    return torch.stack(maps)
