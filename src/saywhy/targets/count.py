"""A count as a target of any model: of a counter, a density map, or the boxes and queries of a detector."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import TargetError
from saywhy.output import ModelOutput, NoClassScores
from saywhy.shapes import at_least_float32
from saywhy.targets.registry import target
from saywhy.targets.target import Target, TargetScores
from saywhy.uncertainty.mc_samples import output_of
from saywhy.validation import real_number, short_repr, validate, whole_number

DetectionScale = Literal["probability", "sigmoid", "softmax"]
"""What the scores of a dense detector are: probabilities; logits of each class by itself ("sigmoid": deformable DETR,
RetinaNet); or logits of the classes and, last, of no object ("softmax": DETR)."""

THRESHOLD, TEMPERATURE = 0.5, 0.1


@target(
    "count",
    form="count(LABEL), count",
    reading="the number of objects of a class, or of all: of a counter, a density map, or a detector's boxes",
)
@dataclass(frozen=True)
class Count(Target):
    r"""The number of objects that a model finds in an image, before any clamping and rounding.

    What is read is found in the model's output:

    - ``cells`` [batch, cell, class], of a counter of :mod:`saywhy.tasks.counting`: the sum over cells, before cells are
      clamped at 0; or one cell. Targets of all cells sum to that of the image, and so do maps that are linear in the
      gradient (Grad-CAM without ReLU).
    - ``scores`` and ``labels`` of the boxes of every image, in a list, as torchvision's detectors give them; or the
      scores [batch, query, class] of a detector whose output also has boxes (``boxes``, ``pred_boxes``): the soft
      number of boxes above a threshold,

      .. math:: \sum_n \sigma\!\left(\frac{s_n - \tau}{T}\right)

      which tends to the number itself as T becomes small, where its gradient vanishes. Boxes that the detector drops by
      itself (a score threshold, suppression) add nothing and have no gradient: set its thresholds low.
      Boxes with ``thresholds`` [box] of their own have those instead of :math:`\tau`
      (:class:`saywhy.tasks.counting.detect_counter.DetectCounter`).
    - a density map: the sum over places. It is the output [batch, 1, row, column], or the part of it that is called
      ``density``, [batch, class, row, column] or [batch, row, column]: other tensors of four axes may as well be scores
      of a segmentation, and are refused.
    - ``counts`` [batch, class], or one number an image: as they are.

    A count has evidence of both signs (an object that is hidden lowers it, one that is seen twice raises it): use
    ``relu=False`` in methods that keep positive evidence only. No paper has this target; the paper of the counters
    studies occlusion of their counts.

    Args:
        name: the class, by index or label; None is all classes together.
        cell: of a counter, the number of one cell, in column-major order.
        threshold, temperature: of the soft number of boxes, in units of a probability.
        scale: of the scores of a dense detector; probabilities by default, and values beyond 0 to 1 are refused.

    >>> from types import SimpleNamespace
    >>> cells = torch.tensor([[[1.5, 0.0], [-0.25, 2.0]]])
    >>> output = ModelOutput(cells.sum(1), labels=["cat", "mug"], raw=SimpleNamespace(cells=cells))
    >>> Count("cat").evaluate(output).scores, Count("mug", cell=1).evaluate(output).scores
    (tensor([[1.2500]]), tensor([[2.]]))
    """

    name: int | str | None = None
    cell: int | None = None
    threshold: float = THRESHOLD
    temperature: float = TEMPERATURE
    scale: DetectionScale = "probability"

    def __post_init__(self) -> None:
        if self.cell is not None:
            whole_number("cell", self.cell, error=TargetError)
        real_number("threshold", self.threshold, 0, 1, error=TargetError)
        real_number("temperature", self.temperature, above=0, error=TargetError)
        validate("scale", self.scale, DetectionScale, TargetError)

    def output_keys(self) -> Iterator[Hashable]:
        return iter(((type(self), self.name, self.cell, self.threshold, self.temperature, self.scale),))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        """Compute the count.

        Raises:
            TargetError: the output has none of these forms, or no such class or cell.
        """
        samples = len(output.logits)
        scores, label = self._scores(output, samples)
        name = "count" if label is None else f"count of {label}"
        name += "" if self.cell is None else f" in cell {self.cell}"
        return TargetScores(scores.reshape(samples, 1), [[name]] * samples, torch.full((samples, 1), -1))

    def each_class(self, output: ModelOutput, *, soft: bool = True) -> Float[Tensor, "batch class"]:
        """Return the counts of every class, whatever ``name`` is.

        Args:
            output: the model's output.
            soft: the soft number of boxes, which this target explains; False is the number of boxes from the threshold
                on. Other counts are the same with both.

        Raises:
            TargetError: the output has none of the forms above, or no such cell.

        >>> output = ModelOutput(torch.zeros(1, 2), raw={"density": torch.ones(1, 2, 3, 3)})
        >>> Count().each_class(output)
        tensor([[9., 9.]])
        """
        samples = len(output.logits)
        if not is_list_of_boxes(output.raw, samples):
            return self._counts(output, samples, soft)
        highest = max((int(one["labels"].max()) for one in output.raw if len(one["labels"])), default=0)
        classes = len(output.labels or ()) or highest + 1
        names = [replace(self, name=number) for number in range(classes)]
        return torch.stack([one._of_boxes(output, output.raw, soft)[0] for one in names], 1)

    def _scores(self, output: ModelOutput, samples: int) -> tuple[Float[Tensor, " batch"], str | None]:
        if self.cell is None and is_list_of_boxes(output.raw, samples):
            return self._of_boxes(output, output.raw)
        return self._of_classes(output, self._counts(output, samples))

    def _counts(self, output: ModelOutput, samples: int, soft: bool = True) -> Float[Tensor, "batch class"]:
        """Return the counts of all classes in every output but lists of boxes."""
        raw = output.raw
        cells = output_of(raw, "cells")
        if isinstance(cells, Tensor) and cells.ndim == 3 and len(cells) == samples:
            return self._of_cells(at_least_float32(cells))
        if self.cell is not None:
            raise TargetError(
                "a cell is a part of the count of a counter, whose output has cells [batch, cell, class]; this model's "
                f"output is {_form(raw)}. Leave cell out."
            )
        dense = dense_scores(raw, samples)
        if dense is not None:
            return self._above(self._probabilities(at_least_float32(dense)), soft).sum(1)
        density = density_of(raw, samples)
        if density is not None:
            return density.flatten(2).sum(2)
        counts = output_of(raw, "counts")
        if counts is None and output.scale == "value" and not isinstance(output, NoClassScores):
            counts = output.logits
        if isinstance(counts, Tensor) and counts.ndim == 2 and len(counts) == samples:
            return at_least_float32(counts)
        raise TargetError(
            f"nothing in the model's output ({_form(raw)}) is a count: it needs counts or cells of a counter, boxes "
            "with scores and labels, or a density map ([batch, 1, row, column], or named density). If it is a "
            "regression of a number, say so with saywhy.load(network, scale='value'); else give a function of it."
        )

    def _of_cells(self, cells: Float[Tensor, "batch cell class"]) -> Float[Tensor, "batch class"]:
        if self.cell is None:
            return cells.sum(1)
        if self.cell >= cells.shape[1]:
            raise TargetError(f"no cell {self.cell}: the counter has {cells.shape[1]} cells, from 0.")
        return cells[:, self.cell]

    def _of_classes(
        self, output: ModelOutput, counts: Float[Tensor, "batch class"]
    ) -> tuple[Float[Tensor, " batch"], str | None]:
        """Return the count of the class, or of all classes, and the label."""
        if self.name is None:
            return counts.sum(1), None
        named = ModelOutput(counts, labels=output.labels, scale="value")
        index = named.index(self.name)
        return counts[:, index], named.label(index)

    def _of_boxes(self, output: ModelOutput, raw: Any, soft: bool = True) -> tuple[Float[Tensor, " batch"], str | None]:
        """Return the number of boxes of the label in every image."""
        number, label = self._label_of_boxes(output)
        counts = []
        for one in raw:
            scores = at_least_float32(one["scores"])
            _check_probabilities(scores)
            own = torch.ones_like(scores, dtype=torch.bool) if number is None else one["labels"] == number
            levels = thresholds_of(one, self.threshold)[own]
            counts.append(self._above(scores[own], soft, levels).sum())
        return torch.stack(counts), label

    def _label_of_boxes(self, output: ModelOutput) -> tuple[int | None, str | None]:
        """Return the number of the label of boxes, and its name; without names any number from 0 may occur."""
        if self.name is None:
            return None, None
        if output.labels:
            named = ModelOutput(torch.zeros(1, len(output.labels)), labels=output.labels)
            number = named.index(self.name)
            return number, named.label(number)
        number = whole_number("a label of boxes, which has no names here,", self.name, error=TargetError)
        return number, f"class {number}"

    def _probabilities(self, scores: Tensor) -> Tensor:
        if self.scale == "sigmoid":
            return scores.sigmoid()
        if self.scale == "softmax":
            return scores.softmax(-1)[..., :-1]
        _check_probabilities(scores)
        return scores

    def _above(self, scores: Tensor, soft: bool = True, levels: Tensor | None = None) -> Tensor:
        """Return how far each score is above the threshold, from 0 to 1; 0 or 1 if not ``soft``."""
        level = self.threshold if levels is None else levels
        if not soft:
            return (scores >= level).to(scores.dtype)
        return ((scores - level) / self.temperature).sigmoid()


def _check_probabilities(scores: Tensor) -> None:
    values = scores.detach()
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        raise TargetError(
            f"scores of boxes must be probabilities from 0 to 1, got {float(wrong.flatten()[0]):g}. If they are "
            "logits, say which: scale='sigmoid' (each class by itself) or 'softmax' (the last class is no object)."
        )


def thresholds_of(found: Mapping[str, Any], threshold: float) -> Float[Tensor, " box"]:
    """Return the score from which each box of an image counts: its own, where the detector has thresholds of classes.

    Raises:
        TargetError: there are not as many thresholds as boxes.

    >>> thresholds_of({"scores": torch.rand(2)}, 0.5)
    tensor([0.5000, 0.5000])
    """
    scores, own = found["scores"], found.get("thresholds")
    if own is None:
        return torch.full_like(scores, threshold)
    if not isinstance(own, Tensor) or own.shape != scores.shape:
        raise TargetError(f"expected a threshold for each of {len(scores)} boxes, got {short_repr(own)}.")
    return own.to(scores)


def is_list_of_boxes(raw: Any, samples: int) -> bool:
    """Whether an output is a list with a mapping of scores and labels for every image, as torchvision's detectors'."""
    return (
        isinstance(raw, list | tuple)
        and len(raw) == samples
        and all(
            isinstance(one, Mapping) and isinstance(one.get("scores"), Tensor) and isinstance(one.get("labels"), Tensor)
            for one in raw
        )
    )


def dense_scores(raw: Any, samples: int) -> Float[Tensor, "batch query class"] | None:
    """Return the class scores of every query of an output that also has boxes; None if there are none."""
    if not any(isinstance(output_of(raw, name), Tensor) for name in ("boxes", "pred_boxes")):
        return None
    for name in ("scores", "logits", "pred_logits"):
        found = output_of(raw, name)
        if isinstance(found, Tensor) and found.ndim == 3 and len(found) == samples and found.is_floating_point():
            return found
    return None


def density_of(raw: Any, samples: int) -> Float[Tensor, "batch class row column"] | None:
    """Return the density map; None if there is none."""
    if isinstance(raw, Tensor):
        found = raw if raw.ndim == 4 and raw.shape[1] == 1 else None
    else:
        found = output_of(raw, "density")
    if not isinstance(found, Tensor) or found.ndim not in (3, 4) or len(found) != samples:
        return None
    return at_least_float32(found.unsqueeze(1) if found.ndim == 3 else found)


def _form(raw: Any) -> str:
    if isinstance(raw, Tensor):
        return f"a tensor {list(raw.shape)}"
    names = raw if isinstance(raw, Mapping) else getattr(raw, "__dict__", {})
    return f"{type(raw).__name__} of {', '.join(map(str, names))}" if names else type(raw).__name__
