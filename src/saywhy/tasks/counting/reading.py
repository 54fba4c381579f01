"""Reading counts from a model's output: every class, every image of a batch, and the cells of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.metrics.counting import round_counts
from saywhy.output import ModelOutput
from saywhy.shapes import at_least_float32
from saywhy.targets import Count
from saywhy.targets.count import dense_scores, density_of, is_list_of_boxes, thresholds_of
from saywhy.tasks.counting.features import pooled
from saywhy.tasks.counting.grid import MOST_CELLS, cell_counts, column_major
from saywhy.uncertainty.mc_samples import output_of
from saywhy.validation import whole_number


@dataclass(frozen=True)
class CountReading:
    """The counts in a model's output.

    Attributes:
        labels: the names of the classes.
        raw: [batch, class] before rounding: as a counter returns them, the sums of a density map, or the soft numbers
            of boxes.
        counts: [batch, class] whole numbers: ``raw`` clamped at 0 and rounded, or the number of boxes with at least the
            threshold's score.
        cells: [batch, cell, class] the counts of a grid's cells, in column-major order; None where there are none.
    """

    labels: tuple[str, ...]
    raw: Float[Tensor, "batch class"]
    counts: Float[Tensor, "batch class"]
    cells: Float[Tensor, "batch cell class"] | None


def read_counts(
    output: ModelOutput, threshold: float = 0.5, grid: int = 3, space: Sequence[int] | None = None
) -> CountReading:
    """Read the counts of every class.

    Args:
        output: the model's output; see :class:`saywhy.targets.Count` for the forms.
        threshold: of the scores of boxes.
        grid: the cells a side, where the network has none of its own.
        space: (height, width) of the network's input in pixels, for the cells of boxes; None leaves those out.

    Raises:
        TargetError: nothing in the output is a count.

    >>> output = ModelOutput(torch.zeros(1, 1), labels=["car"], raw={"density": torch.ones(1, 1, 4, 4)})
    >>> found = read_counts(output, grid=2)
    >>> found.raw, found.cells.flatten()
    (tensor([[16.]]), tensor([4., 4., 4., 4.]))
    """
    grid = whole_number("grid", grid, 1, MOST_CELLS)
    target, samples, raw = Count(threshold=threshold), len(output.logits), output.raw
    values = target.each_class(output).detach().cpu()
    named = ModelOutput(values, labels=output.labels, scale="value")
    boxes = is_list_of_boxes(raw, samples)
    labels = tuple(f"class {n}" if boxes and not output.labels else named.label(n) for n in range(values.shape[1]))
    cells = output_of(raw, "cells")
    if isinstance(cells, Tensor) and cells.ndim == 3 and len(cells) == samples:
        counts = output_of(raw, "counts")
        if isinstance(counts, Tensor) and counts.shape == values.shape:
            values = at_least_float32(counts.detach().cpu())
        return CountReading(labels, values, round_counts(values), at_least_float32(cells.detach().cpu()))
    if boxes or dense_scores(raw, samples) is not None:
        whole = target.each_class(output, soft=False).detach().cpu()
        placed = _cells_of_boxes(raw, threshold, len(labels), grid, space) if boxes and space is not None else None
        return CountReading(labels, values, whole, placed)
    density = density_of(raw, samples)
    sums = None
    if density is not None:
        area = density.shape[2] * density.shape[3] / grid**2
        sums = column_major(pooled(density.detach().cpu(), grid) * area).mT
    return CountReading(labels, values, round_counts(values), sums)


def _cells_of_boxes(
    raw: Any, threshold: float, classes: int, grid: int, space: Sequence[int]
) -> Float[Tensor, "batch cell class"] | None:
    """Return the shares of the boxes with at least the threshold's score; None where an image has no boxes."""
    if not all(isinstance(one.get("boxes"), Tensor) for one in raw):
        return None
    found = []
    for one in raw:
        kept = (one["scores"] >= thresholds_of(one, threshold)).detach().cpu()
        boxes, labels = one["boxes"].detach().cpu()[kept], one["labels"].detach().cpu()[kept]
        frame = (0.0, 0.0, float(space[1]), float(space[0]))
        found.append(cell_counts(boxes, labels, classes, frame, grid, outside="drop", empty="limit").float())
    return torch.stack(found)
