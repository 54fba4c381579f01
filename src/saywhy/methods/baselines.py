"""Baselines: images without evidence, at which a path begins."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError
from saywhy.shapes import FeatureMaps
from saywhy.validation import validate

BaselineKind = Literal["black", "zero", "mean", "blur", "noise", "uniform"]
Baseline = BaselineKind | Tensor | None
"""A kind of baseline, or the preprocessed image itself: [channel, *space], or [batch, channel, *space]."""

BLUR = 1 / 12
"""Standard deviation of the blur, as a share of the image's shorter side."""


def baseline_of(runner: ModelRunner, sample: int, kind: Baseline) -> FeatureMaps:
    """Return the baseline of one sample, preprocessed like the image, [1, channel, *space].

    Args:
        runner: the network and the images.
        sample: index of the image.
        kind: ``"black"`` a black image after the model's preprocessing (the authors of RSI-Grad-CAM); ``"zero"``
            zeros, which is the mean of the data for most networks; ``"mean"`` the image's own mean colour; ``"blur"``
            the blurred image; ``"noise"`` normal noise with the image's mean and standard deviation; ``"uniform"`` an
            image near black for which the network gives all classes equal probability (learnt, 200 steps); a tensor;
            None is black if the preprocessing is known, else zero.

    Raises:
        InputError: there is no such kind, black is unknown, or the tensor has another shape.
    """
    image = runner.image[sample : sample + 1]
    kind = validate("baseline", kind, Baseline)
    if isinstance(kind, Tensor):
        return _from_tensor(image, kind, sample)
    if kind is None:
        kind = "zero" if runner.black is None else "black"
    if kind == "black":
        return _black(runner, image)
    if kind == "zero":
        return torch.zeros_like(image)
    mean = image.flatten(2).mean(2).view(1, -1, *[1] * (image.ndim - 2))
    if kind == "mean":
        return mean.expand_as(image).clone()
    if kind == "blur":
        return _blurred(image, runner.unordered)
    if kind == "noise":
        spread = image.flatten(2).std(2).view_as(mean)
        return mean + spread * torch.randn(image.shape, generator=runner.generator()).to(image)
    return _uniform(runner, sample)


def _from_tensor(image: Tensor, given: Tensor, sample: int) -> Tensor:
    if given.is_floating_point() and not bool(given.isfinite().all()):
        raise InputError("the baseline holds NaN or infinity.")
    given = given[sample : sample + 1] if given.ndim == image.ndim and len(given) > 1 else given
    try:
        return given.detach().to(image).expand_as(image).clone()
    except RuntimeError:
        raise InputError(
            f"expected a baseline of shape {list(image.shape[1:])} (the network's image), got {list(given.shape)}. "
            "Give a preprocessed image of that shape."
        ) from None


def _black(runner: ModelRunner, image: Tensor) -> Tensor:
    if runner.black is None:
        raise InputError(
            "baseline='black' needs the preprocessing, which is unknown for a bare network. Give baseline='zero', "
            "'mean', 'blur' or a tensor, or load the network with its preprocessing: "
            "saywhy.load(network, input_size=224)."
        )
    return runner.black.to(image).view(1, -1, *[1] * (image.ndim - 2)).expand_as(image).clone()


def _blurred(image: Tensor, unordered: Sequence[int] = ()) -> Tensor:
    """Return the image after a Gaussian blur along every axis but the unordered ones; its borders are replicated."""
    axes = [axis for axis in range(2, image.ndim) if axis - 2 not in unordered]
    deviation = BLUR * min((image.shape[axis] for axis in axes), default=0)
    reach = max(1, int(3 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / max(deviation, 1e-6)) ** 2)
    weights = (weights / weights.sum()).to(image)
    for axis in axes:
        lines = image.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        image = F.conv1d(padded, weights.view(1, 1, -1)).view_as(lines).movedim(-1, axis)
    return image


UNIT = 58
"""Grey levels (of 255) in one unit of a normalised image (ImageNet's standard deviations are 57 to 58)."""


def _uniform(runner: ModelRunner, sample: int, epochs: int = 200, rate: float = 0.1) -> Tensor:
    """Learn the baseline of RSI-Grad-CAM's authors (their notebook on automatic baselines).

    RMSprop minimises ``0.99 max_c |p_c - 1/C| + 0.01 mean((x - black)²)``, with ``x`` and the learning rate in grey
    levels, as in the notebook. ``x`` begins at black (or zero). It is no valid image: its pixels may leave the range
    of colours, as in the notebook.
    """
    begin = baseline_of(runner, sample, None)
    pixels = begin.clone().requires_grad_()
    optimiser = torch.optim.RMSprop([pixels], lr=rate / UNIT)
    index = torch.tensor([sample])
    for _ in range(epochs):
        probabilities = runner.differentiable_class_scores(pixels, index)
        if probabilities.shape[1] < 2:
            raise InputError("baseline='uniform' needs a network of at least two classes.")
        loss = (
            0.99 * (probabilities - 1 / probabilities.shape[1]).abs().amax()
            + 0.01 * (UNIT * (pixels - begin)).square().mean()
        )
        (pixels.grad,) = torch.autograd.grad(loss, [pixels])
        optimiser.step()
    return pixels.detach()
