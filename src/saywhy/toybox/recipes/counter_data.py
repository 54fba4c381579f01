"""Scenes as data for counters: frozen features of cells, and the counts of cells from the objects' boxes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.metrics.counting import ImageCounts
from saywhy.tasks.counting.count_data import extract_features
from saywhy.tasks.counting.grid import cell_counts
from saywhy.tasks.counting.networks import CellFeatures
from saywhy.toybox import KINDS, scene
from saywhy.toybox.models.classifier import SIZE, normalised
from saywhy.toybox.recipes.draw import CHUNK, mapper


@dataclass(frozen=True)
class CounterData:
    """Scenes as features of cells.

    Attributes:
        features: [scene, cell, feature] of the frozen network.
        cells: [scene, cell, kind] the true, fractional counts; they sum to the number of objects of each of ``KINDS``.
            The box of an object is that of its visible pixels.
    """

    features: CellFeatures
    cells: Float[Tensor, "scene cell kind"]

    @property
    def counts(self) -> ImageCounts:
        """The number of objects of each kind, [scene, kind]."""
        return self.cells.sum(1).round()

    def __len__(self) -> int:
        return len(self.features)


def counter_data(
    split: str,
    count: int,
    features: nn.Module,
    grid: int,
    processes: int = 0,
    report: Callable[[int], object] | None = None,
) -> CounterData:
    """Draw the first ``count`` scenes of a split, and compute the features and the counts of their cells.

    Args:
        split: of Toybox; "talk-…" has more objects, and more often several of a kind.
        count: the number of scenes.
        features: from normalised images to features of the cells of this grid; not changed.
        grid: the cells a side.
        processes: 0 draws in this process; the result is the same.
        report: called with the number of scenes in every finished chunk.

    >>> from saywhy.tasks.counting.features import PooledCells
    >>> data = counter_data("talk-val", 2, PooledCells(nn.Identity(), 3), 3)
    >>> data.features.shape, data.cells.shape, data.counts.sum(1)
    (torch.Size([2, 9, 3]), torch.Size([2, 9, 20]), tensor([4., 3.]))
    """
    found, cells = [], []
    with mapper(processes) as mapped:
        for images, counts in mapped(partial(_chunk, split, count, grid), range(0, count, CHUNK)):
            found.append(extract_features(features, normalised(torch.from_numpy(images).float() / 255), 100))
            cells.append(torch.from_numpy(counts))
            if report is not None:
                report(len(images))
    return CounterData(torch.cat(found), torch.cat(cells))


def _chunk(split: str, count: int, grid: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [n, 3, size, size] and counts float32 [n, cell, kind] of at most ``CHUNK`` scenes."""
    scenes = [scene(split, index, SIZE) for index in range(start, min(start + CHUNK, count))]
    images = np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2)
    counts = []
    for drawn in scenes:
        known = [one for one in drawn.objects if one.kind in KINDS]
        labels = [KINDS.index(one.kind) for one in known]
        counts.append(cell_counts([one.box for one in known], labels, len(KINDS), (0, 0, SIZE, SIZE), grid))
    return np.ascontiguousarray(images), torch.stack(counts).float().numpy()
