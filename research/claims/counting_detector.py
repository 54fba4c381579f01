r"""The detectors of the baseline "detect": a small one on frozen feature maps, and one that is trained already.

The small one is a head that finds the centres of objects: two convolutions, then for every cell of the map the
probability that the centre of an object of each class lies there, the place of the centre in the cell, and the size of
the box (Zhou et al., *Objects as Points*, 2019). Unlike there all cells give boxes, not only local maxima: non-maximum
suppression is what the paper on counting tunes.

Boxes are shares of the image's sides, so that images of all sizes are alike; IoU does not depend on the unit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from research.claims.fastestdet import SIDE, detector
from saywhy.shapes import FeatureMaps
from saywhy.tasks.counting.detect import Detections, detections_of
from saywhy.tasks.counting.detection_counts import TrueBoxes
from saywhy.training.loop import Plan, optimize, step_generator

DETECTOR_PLAN = Plan((), batch=16, rate=2e-3, decay=1e-4, warmup=50, clip=5.0)

MOST_BOXES = 100
"""The boxes of largest score that an image keeps, before suppression."""

LEAST_SCORE = 0.05
"""Boxes below this score are never kept."""

WIDTH = 96
"""The channels of both convolutions."""

SPREAD = 6.0
"""The standard deviation of a centre's target is the box's side over this, and at least MINIMUM cells."""

MINIMUM = 0.5

DETECTOR_SETTINGS = (MOST_BOXES, LEAST_SCORE, WIDTH, SPREAD, MINIMUM)
"""All that decides its boxes beside the plan."""


class CentreDetector(nn.Module):
    """The head: from feature maps to logits of centres and to boxes.

    Args:
        channels: of the feature maps.
        classes: the number of classes.

    >>> heat, boxes = CentreDetector(8, 3).eval()(torch.rand(2, 8, 5, 6))
    >>> heat.shape, boxes.shape
    (torch.Size([2, 3, 5, 6]), torch.Size([2, 4, 5, 6]))
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.heat, self.box = nn.Conv2d(WIDTH, classes, 1), nn.Conv2d(WIDTH, 4, 1)
        nn.init.constant_(self.heat.bias, -3.0)  # few cells are centres

    def forward(self, maps: FeatureMaps) -> tuple[Tensor, Tensor]:
        """Return logits [batch, class, row, column], and [batch, 4, row, column]: place in the cell, log of the sides.

        The sides are in cells.
        """
        found = self.convolutions(maps)
        return self.heat(found), self.box(found)


def centre_targets(
    truth: TrueBoxes, classes: int, rows: int, columns: int
) -> tuple[Float[Tensor, "class row column"], Int[Tensor, "object 2"], Float[Tensor, "object 4"]]:
    """Return what the head should say of an image: the heat, the cell of each object (row, column), and its box there.

    The heat is 1 in the cell of a centre and falls off around it as a Gaussian; of several objects the largest counts.

    >>> heat, cells, boxes = centre_targets(TrueBoxes(((0.0, 0.0, 0.5, 1.0),), (1,)), 2, 2, 4)
    >>> heat[1, 1, 1].item(), cells.tolist(), [round(v, 3) for v in boxes[0].tolist()]
    (1.0, [[1, 1]], [0.0, 0.0, 0.693, 0.693])
    """
    heat = torch.zeros(classes, rows, columns)
    cells, boxes = torch.zeros(len(truth.labels), 2, dtype=torch.long), torch.zeros(len(truth.labels), 4)
    down, across = torch.arange(rows).unsqueeze(1), torch.arange(columns).unsqueeze(0)
    for number, (box, label) in enumerate(zip(truth.boxes, truth.labels, strict=True)):
        left, top, right, bottom = box
        x, y = (left + right) / 2 * columns, (top + bottom) / 2 * rows
        column, row = min(int(x), columns - 1), min(int(y), rows - 1)
        wide, high = (right - left) * columns, (bottom - top) * rows
        spread_x, spread_y = max(wide / SPREAD, MINIMUM), max(high / SPREAD, MINIMUM)
        near = torch.exp(-(((across - column) / spread_x) ** 2 + ((down - row) / spread_y) ** 2) / 2)
        heat[label] = torch.maximum(heat[label], near)
        cells[number] = torch.tensor([row, column])
        sides = torch.tensor([max(wide, 1e-3), max(high, 1e-3)])
        boxes[number] = torch.cat([torch.tensor([x - column, y - row]), sides.log()])
    return heat, cells, boxes


def detector_loss(
    heat: Float[Tensor, "batch class row column"],
    boxes: Float[Tensor, "batch 4 row column"],
    targets: Sequence[tuple[Tensor, Tensor, Tensor]],
) -> Float[Tensor, ""]:
    r"""Compute the loss of the paper's equations 1 and 2: a focal loss of centres, and the distance of boxes.

    .. math::
        L = -\frac{1}{N} \sum \begin{cases} (1 - p)^2 \log p & y = 1 \\ (1 - y)^4 p^2 \log(1 - p) & y < 1 \end{cases}
        + \frac{1}{N} \sum_n |b_n - \hat b_n|

    with N the number of objects in the batch, at least 1.

    >>> target = centre_targets(TrueBoxes(((0.0, 0.0, 1.0, 1.0),), (0,)), 1, 1, 1)
    >>> detector_loss(torch.zeros(1, 1, 1, 1), target[2].reshape(1, 4, 1, 1), [target])  # (1 / 2)² log 2
    tensor(0.1733)
    """
    true = torch.stack([target[0] for target in targets])
    p = heat.sigmoid()
    centre = true == 1
    focal = torch.where(centre, (1 - p) ** 2 * F.logsigmoid(heat), (1 - true) ** 4 * p**2 * F.logsigmoid(-heat))
    objects = max(1, sum(len(cells) for _, cells, _ in targets))
    distance = heat.new_zeros(())
    for found, (_, cells, wanted) in zip(boxes, targets, strict=True):
        if len(cells):
            distance = distance + (found[:, cells[:, 0], cells[:, 1]].T - wanted).abs().sum()
    return (distance - focal.sum()) / objects


def learn_detector(
    maps: FeatureMaps, truth: Sequence[TrueBoxes], classes: int, seed: int, steps: int
) -> CentreDetector:
    """Train a detector on feature maps, which may be of half precision; it returns in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CentreDetector(maps.shape[1], classes)
    targets = [centre_targets(one, classes, *maps.shape[2:]) for one in truth]
    plan = replace(DETECTOR_PLAN, seed=seed, batch=min(DETECTOR_PLAN.batch, len(maps)))

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        epoch, place = divmod(step, len(maps) // plan.batch)
        order = torch.randperm(len(maps), generator=step_generator(seed, epoch))
        which = order[place * plan.batch : (place + 1) * plan.batch][share]
        heat, boxes = model(maps[which].float())
        return detector_loss(heat, boxes, [targets[i] for i in which.tolist()])

    optimize(network, loss, steps, plan, plan.settings())
    return network.eval()


def detect(network: CentreDetector, maps: FeatureMaps, batch: int = 64) -> list[Detections]:
    """Return the boxes of every image, in shares of its sides, before non-maximum suppression."""
    found = []
    with torch.no_grad():
        for part in maps.split(batch):
            heat, boxes = network(part.float())
            found += [_decoded(*one) for one in zip(heat.sigmoid(), boxes, strict=True)]
    return found


def detect_trained(weights: Path, images: Iterable[Image.Image], labels: Sequence[str]) -> list[Detections]:
    """Return the boxes that FastestDet with trained weights finds, as :func:`detect` does.

    Args:
        weights: its file of weights.
        images: of any size; each is resized whole.
        labels: the classes of the boxes returned, by name; boxes of other classes are dropped.
    """
    model = detector(weights)
    place = torch.tensor([labels.index(name) if name in labels else -1 for name in model.labels or ()])
    found = []
    with torch.no_grad():
        for image in images:
            (raw,) = detections_of(model.module(model.preprocess(image)[0].unsqueeze(0)))
            kept = _largest(raw.scores.where(place[raw.labels] >= 0, 0.0))
            found.append(Detections(raw.boxes[kept] / SIDE, raw.scores[kept], place[raw.labels[kept]]))
    return found


def _largest(scores: Float[Tensor, " box"]) -> Int[Tensor, " kept"]:
    """Return the places of the largest scores, at most MOST_BOXES, of those of at least LEAST_SCORE."""
    best, at = scores.topk(min(MOST_BOXES, len(scores)))
    return at[best >= LEAST_SCORE]


def _decoded(scores: Float[Tensor, "class row column"], boxes: Float[Tensor, "4 row column"]) -> Detections:
    rows, columns = scores.shape[1:]
    at = _largest(scores.flatten())
    best = scores.flatten()[at]
    label, cell = at // (rows * columns), at % (rows * columns)
    x, y, wide, high = boxes.flatten(1)[:, cell]
    x, y = (cell % columns + x) / columns, (cell // columns + y) / rows
    half_w, half_h = wide.clamp(max=6).exp() / columns / 2, high.clamp(max=6).exp() / rows / 2
    placed = torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], 1)
    return Detections(placed, best, label)
