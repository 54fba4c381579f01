r"""Linear surrogate models, fitted to images with hidden parts: LIME and KernelSHAP.

captum, which must be installed, makes the images and gives each its weight. The hidden parts are drawn here, with a
generator of their own, as captum draws them; the fit is made here too, in float64 and for all targets at once.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from saywhy.engine.preserve import preserve_state
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError, MissingExtra
from saywhy.methods.baselines import Baseline
from saywhy.methods.perturbation import Sizes, cells_of, filled_image
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.quiet import ignored_warnings
from saywhy.shapes import at_least_float32
from saywhy.validation import NonNegativeFloat, PositiveFloat

AtLeastTwo = Annotated[int, Ge(2)]


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
    num_samples: AtLeastTwo = 1000,
    cells: Sizes = 7,
    segments: Tensor | None = None,
    fill: Baseline | float = "mean",
    width: PositiveFloat = 0.25,
    penalty: NonNegativeFloat = 1.0,
) -> Tensor:
    r"""LIME (Ribeiro, Singh, Guestrin, 2016, equations 1 and 2), through captum: a local linear model of the network.

    .. math:: \beta = \arg\min_\beta \sum_i \pi(z_i) \big(y(x_{z_i}) - \beta_0 - \beta^\top z_i\big)^2
              + \lambda \lVert\beta\rVert^2, \qquad \pi(z) = e^{-d(z)^2 / 2 \sigma^2}

    where :math:`z \in \{0, 1\}^m` marks the shown parts of the image, each with probability one half, and :math:`d` is
    the cosine distance of :math:`z` from the whole image. The value of a part is its coefficient.

    Args:
        runner: the network and the images.
        num_samples: the number of images that the model is fitted to.
        cells: the number of grid cells (parts) along every axis, one number or one an axis.
        segments: superpixels instead of cells: whole numbers [*space], or [batch, *space]; equal numbers are one part.
        fill: the content of a hidden part, see :func:`saywhy.methods.perturbation.occlusion`.
        width: ``sigma``, the width of the kernel.
        penalty: ``lambda`` of the ridge regression.

    Returns:
        Maps [batch, target, *space], one value a pixel, signed, in units of the score.

    Raises:
        MissingExtra: captum is not installed.
        InputError: ``segments`` does not fit the image, or there is only one part.
        MethodError: ``num_samples``, ``cells``, ``width`` or ``penalty`` is out of range.

    Differs from the paper: ridge regression (as in the authors' code for images) on all parts instead of K selected
    parts; hidden parts have the mean colour of the image. Captum's default is a lasso with a fixed penalty of 0.01,
    which sets smaller coefficients to zero, and so depends on the units of the score.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.sum((1, 2)))
    >>> lime(runner, cells=2, fill=0.0, penalty=1e-6).round(decimals=3)
    tensor([[[3., 1.]]])
    """

    def near(_original: Tensor, _altered: Tensor, shown: Tensor, **_more: Any) -> Tensor:
        share = shown.double().mean(1)  # its square root is the cosine of a binary vector and the vector of ones
        return torch.exp(-((1 - share.sqrt()) ** 2) / (2 * width**2))

    def explainer(run: Callable[[Tensor], Tensor], fit: _LeastSquares, generator: torch.Generator) -> Any:
        def draw(image: Tensor, **given: Any) -> Tensor:
            return (
                torch.bernoulli(torch.full((1, given["num_interp_features"]), 0.5), generator=generator)
                .to(image.device)
                .long()
            )

        return _captum().Lime(run, interpretable_model=fit, similarity_func=near, perturb_func=draw)

    return _coefficient_maps(runner, "lime", explainer, num_samples, cells, segments, fill, penalty)


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
    num_samples: AtLeastTwo = 1000,
    cells: Sizes = 7,
    segments: Tensor | None = None,
    fill: Baseline | float = "mean",
) -> Tensor:
    r"""KernelSHAP (Lundberg and Lee, 2017, theorem 2), through captum: Shapley values of the parts of an image.

    .. math:: \beta = \arg\min_\beta \sum_i \pi(z_i) \big(y(x_{z_i}) - \beta_0 - \beta^\top z_i\big)^2, \qquad
              \pi(z) = \frac{m - 1}{\binom{m}{|z|}\, |z|\, (m - |z|)}

    where :math:`z \in \{0, 1\}^m` marks the shown parts. They are drawn with probabilities in proportion to the
    weights; the whole image and the empty one have a weight of a million.

    Args:
        runner: the network and the images.
        num_samples: the number of images that the model is fitted to; with fewer images than parts the fit is the
            solution of least norm.
        cells, segments, fill: as for :func:`lime`.

    Returns:
        Maps [batch, target, *space], one value a pixel, signed, in units of the score: the value of a part is its
        Shapley value. The Shapley values sum (to one in a million) to the score of the whole image less that of the
        empty one.

    Raises:
        MissingExtra: captum is not installed.
        InputError: ``segments`` does not fit the image, or there is only one part.
        MethodError: ``num_samples`` or ``cells`` is out of range.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> kernelshap(runner, cells=2, fill=0.0).round(decimals=3)
    tensor([[[9., 1.]]])
    """

    def explainer(run: Callable[[Tensor], Tensor], fit: _LeastSquares, generator: torch.Generator) -> Any:
        def draw(image: Tensor, **given: Any) -> Iterator[Tensor]:
            count, sizes = given["num_interp_features"], given["num_select_distribution"].probs
            yield torch.ones(1, count, dtype=torch.long, device=image.device)
            yield torch.zeros(1, count, dtype=torch.long, device=image.device)
            while True:
                hidden = count - int(torch.multinomial(sizes, 1, generator=generator))
                values = torch.randn(1, count, generator=generator)
                yield (values > values.kthvalue(hidden).values).to(image.device).long()

        kernel = _captum().KernelShap(run)
        kernel.interpretable_model, kernel.perturb_func = fit, draw
        return kernel

    return _coefficient_maps(runner, "kernelshap", explainer, num_samples, cells, segments, fill, 0.0)


def _captum() -> Any:
    """Import and return ``captum.attr``.

    Raises:
        MissingExtra: captum is not installed.
    """
    try:
        with ignored_warnings():
            return import_module("captum.attr")
    except ImportError as error:
        raise MissingExtra(
            f"lime and kernelshap need captum ({error}). Install it: pip install 'saywhy[captum]'"
        ) from error


class _LeastSquares:
    """The linear model that captum fits: weighted least squares in float64, for the scores of all targets.

    Captum passes the scores of one target; ``scores`` collects those of all targets.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self.scores: list[Tensor] = []
        self.coefficients = torch.empty(0)

    def fit(self, batches: Any, **_more: Any) -> None:
        shown, _, counts = (torch.cat(parts).double().cpu() for parts in zip(*batches, strict=True))
        y = torch.cat(self.scores).double().cpu()  # (draw, target)
        total = counts.sum()
        if not (bool(total.isfinite()) and total > torch.finfo(total.dtype).tiny):
            raise MethodError(
                "no sample has a weight, so that no linear model can be fitted: the width is too small for these "
                "images. Take a larger width."
            )
        share = (counts / total).unsqueeze(1)
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


def _coefficient_maps(
    runner: ModelRunner,
    what: str,
    explainer: Callable[[Callable[[Tensor], Tensor], _LeastSquares, torch.Generator], Any],
    num_samples: int,
    cells: Sizes,
    segments: Tensor | None,
    fill: Baseline | float,
    penalty: float,
) -> Tensor:
    """Return maps of coefficients, sample by sample; the random numbers are the same for every sample."""
    _captum()
    runner = runner.at_image()
    parts = _parts(runner, cells, segments)
    maps = []
    with counted(what, runner.size * num_samples) as advance:
        for sample in range(runner.size):
            image = runner.image[sample : sample + 1]
            fit = _LeastSquares(penalty)

            def run(images: Tensor, sample: int = sample, fit: _LeastSquares = fit) -> Tensor:
                scores = runner.scores(images, torch.full((len(images),), sample))
                fit.scores.append(scores)
                advance(len(images))
                return scores[:, 0]

            # Captum loads its samples by a DataLoader, which draws a seed from torch's global random state.
            with preserve_state(runner.model, evaluate=False), torch.no_grad():
                explainer(run, fit, runner.generator()).attribute(
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
    """Return the part of every pixel, int [*space] from 0, sample by sample."""
    space = runner.image.shape[2:]
    if segments is None:
        counts = cells_of(cells, space, runner.unordered)
        number = torch.zeros(tuple(space), dtype=torch.long)
        for axis, (side, count) in enumerate(zip(space, counts, strict=True)):
            place = torch.arange(side) * count // side
            number = number * count + place.view([side if i == axis else 1 for i in range(len(space))])
        given = number.expand(runner.size, *space)
    else:
        given = segments.expand(runner.size, *space) if segments.shape == space else segments
        if given.shape != (runner.size, *space) or given.is_floating_point():
            raise InputError(
                f"segments must be whole numbers of shape {list(space)} or {[runner.size, *space]}, got "
                f"{segments.dtype} of shape {list(segments.shape)}."
            )
    found = [torch.unique(one, return_inverse=True)[1] for one in given]
    if any(int(one.max()) < 1 for one in found):
        raise InputError("expected at least 2 parts of the image, got 1. Give at least 2 cells or segments.")
    return found
