r"""Linear models of a network, fitted to images of which parts are hidden: LIME and KernelSHAP.

Which parts are hidden, and how much each image counts, is captum's; it has to be installed. The fit is made here, in
float64 and for all targets at once.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError, MissingExtra
from saywhy.methods.baselines import Baseline
from saywhy.methods.perturbation import Sizes, cells_of, filled_image
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import at_least_float32


@method(
    "lime",
    title="LIME",
    paper="Ribeiro et al., 2016",
    equation="coefficients of a linear model of y near x",
    family="perturbation",
    order=350,
    passes="several",
    at="input",
    score="probability",
)
def lime(
    runner: ModelRunner,
    *,
    num_samples: int = 1000,
    cells: Sizes = 7,
    segments: Tensor | None = None,
    fill: Baseline | float = "mean",
    width: float = 0.25,
    penalty: float = 1.0,
) -> Tensor:
    r"""LIME (Ribeiro, Singh, Guestrin, 2016, equations 1 and 2), through captum: a linear model of the network nearby.

    .. math:: \beta = \arg\min_\beta \sum_i \pi(z_i) \big(y(x_{z_i}) - \beta_0 - \beta^\top z_i\big)^2
              + \lambda \lVert\beta\rVert^2, \qquad \pi(z) = e^{-d(z)^2 / 2 \sigma^2}

    where :math:`z \in \{0, 1\}^m` says which parts of the image are shown, each with probability one half, and
    :math:`d` is the cosine distance of :math:`z` from the whole image. The map shows every part with its coefficient.

    Args:
        runner: the network and the images.
        num_samples: how many images the model is fitted to.
        cells: the parts are the cells of a grid, so many along every axis, one number or one an axis.
        segments: the parts instead (superpixels): whole numbers [*space], or [batch, *space]; equal ones are one part.
        fill: what is shown of a hidden part, see :func:`saywhy.methods.perturbation.occlusion`.
        width: ``sigma`` of the neighbourhood.
        penalty: ``lambda``.

    Returns:
        Maps [batch, target, *space], one value a pixel, signed, in units of the score.

    Raises:
        MissingExtra: captum is not installed.
        InputError: ``segments`` does not fit the image, or there is only one.
        MethodError: ``num_samples``, ``cells``, ``width`` or ``penalty`` is out of range.

    Differs from the paper: ridge regression (as the authors' code for images) on all parts, no choice of K of them;
    hidden parts have the mean colour of the image. Captum's own default is a lasso with a fixed penalty of 0.01,
    which hides every part whose effect is smaller than that, and so depends on the units of the score.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.sum((1, 2)))
    >>> lime(runner, cells=2, fill=0.0, penalty=1e-6).round(decimals=3)
    tensor([[[3., 1.]]])
    """
    _positive("width", width)
    if not penalty >= 0:
        raise MethodError(f"penalty must be 0 or more, got {penalty!r}.")

    def near(_original: Tensor, _altered: Tensor, shown: Tensor, **_more: Any) -> Tensor:
        share = shown.double().mean(1)  # the cosine of a vector of zeros and ones, and ones, is the root of this
        return torch.exp(-((1 - share.sqrt()) ** 2) / (2 * width**2))

    def explainer(run: Callable[[Tensor], Tensor], fit: _Fit) -> Any:
        return _captum().Lime(run, interpretable_model=fit, similarity_func=near)

    return _fitted(runner, "lime", explainer, num_samples, cells, segments, fill, penalty)


@method(
    "kernelshap",
    title="KernelSHAP",
    paper="Lundberg and Lee, 2017",
    equation="Shapley values of the parts of x, by weighted least squares",
    family="perturbation",
    order=360,
    passes="several",
    at="input",
)
def kernelshap(
    runner: ModelRunner,
    *,
    num_samples: int = 1000,
    cells: Sizes = 7,
    segments: Tensor | None = None,
    fill: Baseline | float = "mean",
) -> Tensor:
    r"""KernelSHAP (Lundberg and Lee, 2017, theorem 2), through captum: Shapley values of the parts of an image.

    .. math:: \beta = \arg\min_\beta \sum_i \pi(z_i) \big(y(x_{z_i}) - \beta_0 - \beta^\top z_i\big)^2, \qquad
              \pi(z) = \frac{m - 1}{\binom{m}{|z|}\, |z|\, (m - |z|)}

    where :math:`z \in \{0, 1\}^m` says which parts are shown. They are drawn with probabilities in proportion to the
    weights; the whole image and the empty one count a million times.

    Args:
        runner: the network and the images.
        num_samples: how many images the model is fitted to; where they are fewer than the parts, the smallest of all
            the models that fit.
        cells, segments, fill: as for :func:`lime`.

    Returns:
        Maps [batch, target, *space], one value a pixel, signed, in units of the score: every part shows its Shapley
        value, and these add up (to one in a million) to the change of the score from the empty image to the whole.

    Raises:
        MissingExtra: captum is not installed.
        InputError: ``segments`` does not fit the image, or there is only one.
        MethodError: ``num_samples`` or ``cells`` is out of range.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> kernelshap(runner, cells=2, fill=0.0).round(decimals=3)
    tensor([[[9., 1.]]])
    """

    def explainer(run: Callable[[Tensor], Tensor], fit: _Fit) -> Any:
        kernel = _captum().KernelShap(run)
        kernel.interpretable_model = fit
        return kernel

    return _fitted(runner, "kernelshap", explainer, num_samples, cells, segments, fill, 0.0)


def _positive(name: str, number: float) -> None:
    if not number > 0:
        raise MethodError(f"{name} must be more than 0, got {number!r}.")


def _captum() -> Any:
    """``captum.attr``.

    Raises:
        MissingExtra: captum is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("captum.attr")
    except ImportError as error:
        raise MissingExtra(
            f"lime and kernelshap need captum ({error}). Install it: pip install 'saywhy[captum]'"
        ) from error


class _Fit:
    """The linear model that captum fits: weighted least squares, of scores in float64 that it is told beside captum."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self.seen: list[Tensor] = []
        self.coefficients = torch.empty(0)

    def fit(self, batches: Any, **_more: Any) -> None:
        shown, _, counts = (torch.cat(parts).double().cpu() for parts in zip(*batches, strict=True))
        y = torch.cat(self.seen).double().cpu()  # (draw, target)
        share = (counts / counts.sum()).unsqueeze(1)
        shown, y = (t - (share * t).sum(0) for t in (shown, y))  # the intercept is not penalised
        root = counts.sqrt().unsqueeze(1)
        if self.penalty:
            shown, y = (
                torch.cat([root * t, extra])
                for t, extra in (
                    (shown, self.penalty**0.5 * torch.eye(shown.shape[1], dtype=torch.float64)),
                    (y, y.new_zeros(shown.shape[1], y.shape[1])),
                )
            )
        else:
            shown, y = root * shown, root * y
        self.coefficients = torch.linalg.lstsq(shown, y, driver="gelsd").solution  # (part, target)

    def representation(self) -> Tensor:
        return self.coefficients[:, 0]


def _fitted(
    runner: ModelRunner,
    what: str,
    explainer: Callable[[Callable[[Tensor], Tensor], _Fit], Any],
    num_samples: int,
    cells: Sizes,
    segments: Tensor | None,
    fill: Baseline | float,
    penalty: float,
) -> Tensor:
    """Maps of coefficients, sample by sample; the random numbers are the same for every sample."""
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 2:
        raise MethodError(f"num_samples must be a whole number of at least 2, got {num_samples!r}.")
    _captum()
    runner = runner.at_image()
    parts = _parts(runner, cells, segments)
    maps = []
    with counted(what, runner.size * num_samples) as advance:
        for sample in range(runner.size):
            image = runner.image[sample : sample + 1]
            fit = _Fit(penalty)

            def run(images: Tensor, sample: int = sample, fit: _Fit = fit) -> Tensor:
                scores = runner.scores(images, torch.full((len(images),), sample))
                fit.seen.append(scores)
                advance(len(images))
                return scores[:, 0]

            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.default_generator.manual_seed(runner.seed)
                explainer(run, fit).attribute(
                    image,
                    baselines=filled_image(runner, sample, fill),
                    feature_mask=parts[sample].to(image.device)[None, None],
                    n_samples=num_samples,
                    perturbations_per_eval=next(runner.parts(num_samples)).stop,
                    return_input_shape=False,
                )
            shown = fit.coefficients[parts[sample].cpu()]  # (*space, target)
            maps.append(shown.movedim(-1, 0).to(at_least_float32(image)))
    return torch.stack(maps)


def _parts(runner: ModelRunner, cells: Sizes, segments: Tensor | None) -> list[Tensor]:
    """Which part every pixel belongs to, int [*space] from 0 on, sample by sample."""
    space = runner.image.shape[2:]
    if segments is None:
        counts = cells_of(cells, space)
        number = torch.zeros(tuple(space), dtype=torch.long)
        for axis, (side, count) in enumerate(zip(space, counts, strict=True)):
            place = torch.arange(side) * count // side
            number = number * count + place.view([side if i == axis else 1 for i in range(len(space))])
        given = number.expand(runner.size, *space)
    else:
        given = segments.expand(runner.size, *space) if segments.shape == space else segments
        if given.shape != (runner.size, *space) or given.is_floating_point():
            raise InputError(
                f"segments must be whole numbers {list(space)} or {[runner.size, *space]}, got {segments.dtype} "
                f"{list(segments.shape)}."
            )
    found = [torch.unique(one, return_inverse=True)[1] for one in given]
    if any(int(one.max()) < 1 for one in found):
        raise InputError("the image is one single part. Give at least 2 cells or segments.")
    return found
