r"""Statistics over noisy copies of the image: SmoothGrad, VarGrad, Smooth Grad-CAM++, and ``smooth-`` of any method.

Noise is drawn for every sample separately, in a fixed order, so that neither the batch nor its size changes it.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError
from saywhy.methods.channel import combine
from saywhy.methods.method import Method
from saywhy.methods.pixels import Channels, pooled
from saywhy.methods.registry import PREFIXES, method
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps, at_least_float32
from saywhy.validation import NonNegativeFloat, PositiveInt, validated


@method(
    "smoothgrad",
    title="SmoothGrad",
    paper="Smilkov et al., 2017",
    equation="max |mean over noise of G|",
    family="noise",
    order=210,
    passes="several",
    at="input",
    shows="sensitivity",
)
def smoothgrad(
    runner: ModelRunner, *, num_samples: PositiveInt = 25, noise: NonNegativeFloat = 0.15, channels: Channels = "max"
) -> Tensor:
    r"""SmoothGrad (Smilkov et al., 2017, section 2.2): the mean gradient of noisy copies of the image.

    .. math:: M_p = \max_c \Big| \frac{1}{n} \sum_{i=1}^{n} \frac{\partial y}{\partial x_{cp}}(x + \epsilon_i) \Big|,
              \qquad \epsilon_i \sim \mathcal{N}(0, \sigma^2)

    Args:
        runner: the network and the images.
        num_samples: noisy copies ``n``.
        noise: ``sigma`` as a share of the image's range (maximum less minimum).
        channels: how the channels of a pixel become one value: ``"max"``, ``"abs"`` or ``"sum"`` (signed).

    Returns:
        Maps [batch, target, *space] in units of score per unit of the preprocessed image.

    Raises:
        MethodError: ``num_samples`` or ``noise`` is out of range.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> smoothgrad(runner, noise=0.0)
    tensor([[[6., 2.]]])
    """
    maps = []
    for _, drawn in _samples(runner.at_image(), num_samples, noise, "smoothgrad"):
        total: Tensor | None = None
        for _, G in drawn:
            total = G.sum(0) if total is None else total + G.sum(0)
        assert total is not None
        maps.append(pooled(total / num_samples, channels))
    return torch.stack(maps)


@method(
    "vargrad",
    title="VarGrad",
    paper="Adebayo et al., 2018",
    equation="Σ variance over noise of G",
    family="noise",
    order=220,
    passes="several",
    at="input",
    shows="sensitivity",
)
def vargrad(
    runner: ModelRunner, *, num_samples: PositiveInt = 25, noise: NonNegativeFloat = 0.15, channels: Channels = "abs"
) -> Tensor:
    r"""VarGrad (Adebayo et al., 2018): the variance of the gradient over noisy copies of the image.

    .. math:: M_p = \sum_c \mathrm{Var}_i \frac{\partial y}{\partial x_{cp}}(x + \epsilon_i)

    Args:
        runner: the network and the images.
        num_samples: noisy copies; the variance is divided by their number, without Bessel's correction.
        noise: standard deviation as a share of the image's range.
        channels: how the channels of a pixel become one value: ``"abs"`` or ``"sum"`` (their sum), or ``"max"``.

    Returns:
        Maps [batch, target, *space], non-negative, in squared units of score per unit of the image.

    Raises:
        MethodError: ``num_samples`` or ``noise`` is out of range.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> vargrad(runner, noise=0.0)
    tensor([[[0., 0.]]])
    """
    maps = []
    for _, drawn in _samples(runner.at_image(), num_samples, noise, "vargrad"):
        mean: Tensor | None = None
        squares = torch.zeros(())
        count = 0
        for _, G in drawn:
            for g in G.double():  # Welford's algorithm: nothing cancels
                count += 1
                mean = torch.zeros_like(g) if mean is None else mean
                deviation = g - mean
                mean = mean + deviation / count
                squares = squares + deviation * (g - mean)
            kind = G.dtype
        maps.append(pooled((squares / num_samples).to(kind), channels))
    return torch.stack(maps)


@method(
    "smooth-gradcam++",
    title="Smooth Grad-CAM++",
    paper="Omeiza et al., 2019",
    equation="ReLU(Σₖ wₖ Aₖ), wₖ = Σ D₂ ReLU(D₁) / (2 D₂ + D₃ ΣAₖ), Dₙ = mean over noise of Gⁿ",
    family="noise",
    order=230,
    scale_free=False,
    passes="several",
)
def smooth_gradcam_pp(
    runner: ModelRunner, *, num_samples: PositiveInt = 10, noise: NonNegativeFloat = 0.15, relu: bool = True
) -> Tensor:
    r"""Smooth Grad-CAM++ (Omeiza et al., 2019, equations 7 to 9): Grad-CAM++ averaged over noisy copies of the image.

    .. math:: D_n = \frac{1}{N} \sum_i \Big(\frac{\partial y}{\partial A}(x + \epsilon_i)\Big)^n, \qquad
              \alpha^k_p = \frac{D_2}{2 D_2 + \big(\sum_q A^k_q\big) D_3}, \qquad
              w_k = \sum_p \alpha^k_p\, \mathrm{ReLU}(D_1), \qquad L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big)

    Args:
        runner: the network, the images and the layer.
        num_samples: noisy copies ``N``.
        noise: standard deviation as a share of the image's range.
        relu: False keeps negative values.

    Returns:
        Maps [batch, target, *space]; non-negative if ``relu``. ``A`` is the activation of the image without noise.

    Raises:
        MethodError: ``num_samples`` or ``noise`` is out of range.

    Differs from the paper: a denominator of exactly zero gives the weight zero.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[1.0, 1.0]]]), lambda x: x.sum((1, 2)))
    >>> smooth_gradcam_pp(runner, noise=0.0, num_samples=2)  # g is 1, the sum of A is 2: alpha = 1 / 4, w = 1 / 2
    tensor([[[0.5000, 0.5000]]])
    """
    maps = []
    for sample, drawn in _samples(runner, num_samples, noise, "smooth-gradcam++"):
        moments: list[Tensor] = []
        for _, G in drawn:
            powers = [G.double().pow(n).sum(0) / num_samples for n in (1, 2, 3)]
            moments = [a + b for a, b in zip(moments, powers, strict=True)] if moments else powers
            kind = G.dtype
        first, second, third = (m.flatten(2) for m in moments)  # (target, channel, position)
        A = at_least_float32(runner.activations(sample))
        denominator = 2 * second + A.double().flatten(2).sum(2).unsqueeze(2) * third
        counts = (first > 0) & (denominator != 0)
        weights = torch.where(counts, second / torch.where(counts, denominator, 1.0) * first, 0.0).sum(2)
        maps.append(combine(weights.to(kind), A.expand(len(weights), *A.shape[1:]), relu=relu))
    return torch.stack(maps)


def smoothed(method: Method) -> Method:
    """Return a method of one pass averaged over noisy copies of the image: ``smooth-gradcam``, ``smooth-layercam``, …

    Raises:
        MethodError: the method runs several passes itself.
    """
    if method.passes != "one":
        raise MethodError(f"'{method.name}' runs several passes itself; only methods of one pass can be smoothed.")

    def function(
        runner: ModelRunner, *, num_samples: PositiveInt = 25, noise: NonNegativeFloat = 0.15, **parameters: Any
    ) -> Tensor:
        maps = []
        for _, drawn in _samples(runner, num_samples, noise, f"smooth-{method.name}"):
            total: Tensor | None = None
            for A, G in drawn:
                for t in range(G.shape[1]):
                    part = method.function(A, G[:, t], **parameters).sum(0, keepdim=True)
                    total = torch.zeros(G.shape[1], *part.shape[1:]).to(part) if total is None else total
                    total[t] += part[0]
            assert total is not None
            maps.append(total / num_samples)
        return torch.stack(maps)

    function.__doc__ = f"{method.title} averaged over noisy copies of the image (Smilkov et al., 2017)."
    runner, num_samples, noise, _ = inspect.signature(function).parameters.values()
    own = [p for p in inspect.signature(method.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    function.__signature__ = inspect.Signature([runner, num_samples, noise, *own])  # type: ignore[attr-defined]
    return Method(
        f"smooth-{method.name}",
        validated(MethodError)(function),
        f"smoothed {method.title}",
        f"{method.paper.rpartition(',')[0]}; Smilkov et al., 2017",
        f"mean over noise of {method.equation}",
        scale_free=method.scale_free,
        uses_gradients=method.uses_gradients,
        passes="several",
        at=method.at,
        shows=method.shows,
        family="noise",
    )


PREFIXES["smooth-"] = smoothed


def _samples(
    runner: ModelRunner, num_samples: int, noise: float, what: str
) -> Iterator[tuple[int, Iterator[tuple[FeatureMaps, Tensor]]]]:
    """Yield every sample with activations [n, channel, *space] and gradients [n, target, channel, *space] of copies."""
    with counted(what, runner.size * num_samples) as advance:
        for sample in range(runner.size):
            yield sample, _noisy_gradients(runner, sample, num_samples, noise, advance)


def _noisy_gradients(
    runner: ModelRunner, sample: int, num_samples: int, noise: float, advance: Callable[[int], None]
) -> Iterator[tuple[FeatureMaps, Tensor]]:
    image = runner.image[sample : sample + 1]
    sigma = noise * (image.amax() - image.amin())
    # Anew for every sample, whatever its index in the batch.
    generator = runner.generator()
    for part in runner.parts(num_samples):
        count = part.stop - part.start
        drawn = [torch.randn(image.shape, generator=generator) for _ in range(count)]
        noisy = image + sigma * torch.cat(drawn).to(image)
        for A, G, _ in runner.gradients(noisy, torch.full((count,), sample)):
            yield A, G
            advance(len(A))
