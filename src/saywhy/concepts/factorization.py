"""Deep feature factorization: a few concepts in a layer's activations of a set of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from saywhy.engine import tree
from saywhy.engine.layout import Layout
from saywhy.engine.replay import Replay
from saywhy.engine.trace import Candidate
from saywhy.errors import InputError, MissingExtra
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.explainer.runner import Runner
from saywhy.images import SourceImage
from saywhy.models import Model
from saywhy.models.inputs import Batch
from saywhy.output import ModelOutput
from saywhy.progress import counted
from saywhy.quiet import ignored_warnings
from saywhy.shapes import LINEAR, at_least_float32
from saywhy.targets import as_target
from saywhy.validation import NonNegativeInt, PositiveInt, short_repr, validated, whole_number

TOLERANCE = 1e-6
"""Updates of the factors stop when one changes them by less than this share of the first update's change."""


@dataclass(frozen=True, eq=False)
class Concepts:
    """Concepts that several images share, and a map of each concept in each image.

    Attributes:
        maps: [image, concept, *grid], non-negative; each concept's largest value over all images is 1. Where the
            layer's grid covers a part of the image only (the network crops it), they are 0 beyond it.
        concepts: [concept, channel] the activations of a concept where its map is 1.
        names: of the concepts.
        scores: [concept, class] the class scores where the layer's activations are this concept alone; None where the
            model has no class scores.
        error: the relative reconstruction error ‖A - maps × concepts‖ / ‖A‖, in [0, 1].
        layer: its name.
        input_size: (height, width) of the network's input in pixels.
        images: the original images, each with its crop box.
    """

    maps: Tensor
    concepts: Tensor
    names: tuple[str, ...]
    scores: Tensor | None
    error: float
    layer: str
    input_size: tuple[int, ...]
    images: tuple[SourceImage, ...]

    def heatmap(self, size: tuple[int, ...] | None = None) -> Tensor:
        """Return the maps upsampled (linearly along every axis) to ``size`` or the network's input, in [0, 1]."""
        mode = LINEAR[self.maps.ndim - 2]
        return interpolate(self.maps, size or self.input_size, mode=mode, align_corners=False)

    def overlay(self, image: int = 0, **look: Any) -> Any:
        """Return all concepts over one image, each in its colour, with a legend: a ``PIL.Image``.

        Args:
            image: its index.
            look: ``alpha`` and ``threshold`` as for :func:`saywhy.view.concepts.concepts_overlay`.

        Raises:
            InputError: there is no such image.
        """
        concepts_overlay = resolve_name("saywhy.view.concepts:concepts_overlay")  # the view imports this package

        if not -len(self.images) <= whole_number("image", image, low=None) < len(self.images):
            raise InputError(
                f"there is no image {short_repr(image)}; give an index below {len(self.images)}, counted from 0."
            )
        shown = self.images[image]
        return concepts_overlay(shown.image, self.maps[image], self.names, shown.crop_box, shown.name, **look)

    def __repr__(self) -> str:
        return (
            f"Concepts of {len(self.maps)} image{'s' * (len(self.maps) != 1)} at {self.layer}: "
            f"{', '.join(self.names)}; {self.error:.0%} unexplained"
        )


@validated()
def factorize(
    model: "str | nn.Module | Model",
    images: Any,
    concepts: PositiveInt = 5,
    layer: str | nn.Module | None = None,
    *,
    names: Sequence[str] | None = None,
    shift: bool = False,
    layout: Layout | None = None,
    output: str | int | None = None,
    batch_size: PositiveInt = 16,
    rounds: PositiveInt = 500,
    seed: NonNegativeInt = 0,
) -> Concepts:
    r"""Compute concepts that images share, by deep feature factorization (Collins, Achanta, Süsstrunk, 2018).

    .. math:: A \approx H W, \quad H, W \ge 0, \qquad
              A \text{ the activations of all images as [image and position, channel]}

    Args:
        model: as for :func:`saywhy.explain`.
        images: as for :func:`saywhy.explain`; similar images give clearer concepts.
        concepts: their number.
        layer: a name or a module; None chooses it automatically.
        names: of the concepts, the strongest first; None names each by the two classes of highest score where the
            layer's activations are this concept alone (the rest of the network is run on it).
        shift: subtract each channel's minimum first, as the pytorch-grad-cam package does, so that negative values
            count; else negative values are set to zero, as by the ReLU in the paper.
        layout: the layer's layout, where it cannot be detected.
        output: the position of the class scores in the model's output.
        batch_size: images per forward pass.
        rounds: the maximum number of updates of the factors.
        seed: of random numbers inside the model; the factors are deterministic.

    Returns:
        :class:`Concepts`, the strongest first, by their share of ``A``.

    Raises:
        InputError: a parameter is out of range, or the layer has no positive activation.
        MissingExtra: scikit-learn is not installed.

    Differs from the paper: the factors come from coordinate descent (scikit-learn; Cichocki and Phan, 2009), which
    needs tens of rounds where multiplicative updates need thousands; both decrease ‖A - H W‖ monotonically.

    >>> _ = torch.manual_seed(0)
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    >>> network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> found = factorize(network, torch.rand(3, 3, 8, 8), concepts=2, layer="0", names=["bright", "dark"])
    >>> found.maps.shape, found.concepts.shape, found.names
    (torch.Size([3, 2, 8, 8]), torch.Size([2, 4]), ('bright', 'dark'))
    """
    if names is not None and (isinstance(names, str) or len(names) != concepts):
        raise InputError(f"names must be a list of {concepts}, one for each concept, got {short_repr(names)}.")
    config = ExplainConfig(as_target(None), layer=layer, layout=layout, output=output, seed=seed)
    runner, batch = prepare(model, images, config)
    A, candidate = activations(runner, batch, batch_size)
    rows = A.movedim(1, -1).flatten(0, -2).double()  # (image and position, channel)
    lowest = rows.amin(0) if shift else torch.zeros(rows.shape[1], dtype=rows.dtype, device=rows.device)
    rows = (rows - lowest).clamp_min(0)
    if not bool(rows.any()):
        raise InputError(f"layer '{candidate.name}' has no positive activation for these images. Choose another layer.")
    if concepts > min(rows.shape):
        raise InputError(
            f"{concepts} concepts are more than layer '{candidate.name}' allows: it has {rows.shape[1]} channels and "
            f"{rows.shape[0]} positions. Give fewer concepts."
        )
    H, W, error = factors(rows, concepts, rounds=rounds)
    maps = H.unflatten(0, (len(A), *A.shape[2:])).movedim(-1, 1).to(A)
    embeddings = (W + lowest).to(A)
    scores = _class_scores(runner, batch, candidate, embeddings)
    return Concepts(
        maps=candidate.watched().layout.on_image(maps, batch.space),
        concepts=embeddings,
        names=tuple(map(str, names)) if names is not None else _default_names(runner, scores, concepts),
        scores=scores,
        error=error,
        layer=candidate.name,
        input_size=batch.space,
        images=batch.images(),
    )


def activations(runner: Runner, batch: Batch, size: int) -> tuple[Tensor, Candidate]:
    """Return the layer's activations [sample, channel, *space], computed ``size`` samples at a time."""
    found: list[Tensor] = []
    candidate: Candidate | None = None
    with counted("running the model", batch.size) as advance:
        for start in range(0, batch.size, size):
            part = batch.of_samples(slice(start, start + size))
            captured, _, (here,) = runner.capture(part)
            # The layer that is chosen for the first batch serves all.
            if candidate is None:
                candidate, runner = here, runner.with_config(layer=here.name)
            (A,) = captured.activations.values()
            found.append(at_least_float32(A))
            advance(part.size)
    assert candidate is not None
    return torch.cat(found), candidate


def factors(rows: Tensor, count: int, *, rounds: int = 500) -> tuple[Tensor, Tensor, float]:
    r"""Factorize a non-negative matrix with scikit-learn: coordinate descent (Cichocki and Phan, 2009) in float64.

    Args:
        rows: ``A`` [row, column], non-negative.
        count: number of factors, at most the number of rows and of columns.
        rounds: the maximum number of updates of all factors.

    The result is deterministic: the factors are initialised with the singular vectors of ``A`` (NNDSVDa; Boutsidis and
    Gallopoulos, 2008), computed with a fixed seed. With random initial values some factors may become zero and stay so.

    Returns:
        ``H`` [row, factor], each of whose columns has 1 as its largest value, ``W`` [factor, column], and
        ‖A - H W‖ / ‖A‖; the factor with the largest share of ``A`` first.

    Raises:
        MissingExtra: scikit-learn is not installed.

    >>> H, W, error = factors(torch.tensor([[2.0, 0.0], [0.0, 1.0], [4.0, 0.0]]), 2)
    >>> H.round(decimals=3), W.round(decimals=3), round(error, 6)
    (tensor([[0.5000, 0.0000],
            [0.0000, 1.0000],
            [1.0000, 0.0000]]), tensor([[4., 0.],
            [0., 1.]]), 0.0)
    """
    unit = rows.amax()
    scaled = rows / torch.where(unit > 0, unit, 1.0)
    found = _nmf(scaled.detach().cpu().double().numpy(), count, rounds)
    H, W = (torch.from_numpy(factor).to(rows) for factor in found)
    error = float((scaled - H @ W).norm() / scaled.norm())
    largest = H.amax(0)
    H, W = H / torch.where(largest > 0, largest, 1.0), W * largest.unsqueeze(1)
    order = (H.norm(dim=0) * W.norm(dim=1)).argsort(descending=True, stable=True)
    return H[:, order].contiguous(), unit * W[order], error


def _nmf(rows: np.ndarray, count: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise MissingExtra(
            f"concepts need scikit-learn ({error}). Install it: pip install 'saywhy[concepts]'"
        ) from error
    model = NMF(count, init="nndsvda", solver="cd", tol=TOLERANCE, max_iter=rounds, random_state=0)
    with ignored_warnings(ConvergenceWarning):  # `rounds` is a limit, and the error is reported
        H = model.fit_transform(rows)
    return H, model.components_


def _class_scores(runner: Runner, batch: Batch, candidate: Candidate, embeddings: Tensor) -> Tensor | None:
    """Return class scores [concept, class] for activations of one concept at every position; None without classes."""

    def logits(output: Any) -> Tensor:
        samples = next(t.shape[0] for t in tree.tensors(output) if t.ndim)
        return runner.model_output(samples, output).logits

    replay = Replay(runner.model.module, batch.of_samples(slice(0, 1)).inputs, candidate.watched(), logits)
    shape = replay.activations.shape
    everywhere = embeddings.view(*embeddings.shape, *[1] * (len(shape) - 2)).expand(len(embeddings), *shape[1:])
    scores = at_least_float32(replay.scores(everywhere.to(replay.activations)))
    return scores if scores.shape[1] else None


def _default_names(runner: Runner, scores: Tensor | None, count: int) -> tuple[str, ...]:
    """Name each concept by the two classes of highest score, or by its number."""
    if scores is None:
        return tuple(f"concept {k}" for k in range(count))
    label = ModelOutput(scores, runner.model.labels).label
    return tuple(" / ".join(map(label, row.topk(min(2, len(row))).indices.tolist())) for row in scores)
