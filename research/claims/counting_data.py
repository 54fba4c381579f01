"""The data sets of the comparison of counters: frozen feature maps, boxes, and which images train, validate and test.

The maps of a data set are computed once and stored; all counters and the detector read them. Boxes are shares of the
image's sides, because images are resized whole.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import safe_open
from torch import Tensor

import saywhy
from research.claims.language_networks import FOLDER
from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import Dataset
from saywhy.models import Model, Preprocess
from saywhy.tasks.counting.count_data import object_boxes
from saywhy.tasks.counting.detection_counts import TrueBoxes
from saywhy.tasks.counting.features import LayerFeatures, pooled
from saywhy.tasks.counting.grid import cell_counts, column_major
from saywhy.tasks.counting.networks import CellFeatures
from saywhy.toybox import KINDS, scene
from saywhy.toybox.models.classifier import MEAN, SIZE, STD
from saywhy.training.checkpoint import save_weights

REAL = Path(os.environ.get("SAYWHY_REAL") or Path(__file__).parents[3] / "shared" / "real")

HALF = (0.5, 0.5, 0.5)

LITE0 = "imagenet/tf_efficientnet_lite0.safetensors"

PARTS = ("train", "val", "test")

FOLDS = 5
"""Of the cross-validation: one tests, one validates, the others train."""


@dataclass(frozen=True)
class CountingSet:
    """A data set, and how the features of its images are computed.

    Attributes:
        title: for the page.
        about: its images, its classes and its splits.
        backbone: the name of the model for :func:`saywhy.load`.
        weights: their file under REAL; "" for those that ship.
        layer: of the backbone, whose maps are the features.
        size: (height, width) to which whole images are resized.
        mean, std: of the input.
        labels: the classes; () are those of the data set.
        images: the most images of train, val and test; None for all. One number with folds.
        hidden: the width of the hidden layers of perceptrons, and of sequential subitizing.
        steps: of a counter; of the detector that is trained on the same maps, 0 for none.
        detector: the file under REAL of a detector's weights, for a detector that is trained already; "" for none.
        batch: of the counters.
        rate: of the counters.
        folds: the number of folds; 0 for published splits.
        relative: whether the relative error of the first class is asked for.
    """

    title: str
    about: str
    backbone: str
    weights: str
    layer: str
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: tuple[str, ...]
    images: tuple[int, ...]
    hidden: tuple[int, int]
    steps: tuple[int, int]
    batch: int
    rate: float
    folds: int = 0
    relative: bool = False
    detector: str = ""

    @property
    def detects(self) -> bool:
        """Whether a detector counts too."""
        return bool(self.steps[1] or self.detector)

    @property
    def real(self) -> bool:
        """Whether it needs the folder of real images."""
        return bool(self.weights)


SETS: dict[str, CountingSet] = {
    "toybox": CountingSet(
        "Toybox",
        "drawn scenes of two to four objects of 20 kinds, often several of a kind (the splits `talk-…`)",
        backbone="toybox:classifier", weights="", layer="blocks", size=(SIZE, SIZE), mean=MEAN, std=STD,
        labels=tuple(KINDS), images=(4000, 500, 1000), hidden=(128, 32), steps=(1000, 800), batch=64, rate=2e-3,
    ),
    "bccd": CountingSet(
        "Blood cells (BCCD)",
        "microscope photographs of blood smears with a box round every cell, published splits",
        backbone="timm:tf_efficientnet_lite0", weights=LITE0, layer="blocks.4", size=(336, 448), mean=HALF, std=HALF,
        labels=("RBC", "WBC", "Platelets"), images=(205, 87, 72), hidden=(128, 32), steps=(900, 250), batch=32,
        rate=1e-3, relative=True,
    ),
    "coco": CountingSet(
        "COCO photographs",
        "the first 128 photographs of COCO train2017, 80 classes, without crowd regions",
        backbone="timm:tf_efficientnet_lite0", weights=LITE0, layer="bn2", size=(320, 320), mean=HALF, std=HALF,
        labels=(), images=(128,), hidden=(128, 32), steps=(450, 0), batch=32, rate=1e-3, folds=FOLDS,
        detector="coco/fastestdet.safetensors",
    ),
}  # fmt: skip
"""All data sets by name."""


@dataclass(frozen=True)
class PreparedSet:
    """A data set with its feature maps.

    Attributes:
        name: of the data set.
        labels: the classes.
        maps: half precision [image, channel, row, column].
        boxes: float64 [box, 4] left, top, right, bottom as shares of the image's sides.
        classes, owners: of each box the class, and the image.
        part: of each image, an index of PARTS; all 0 where the data set has folds.
        seconds: in which the maps were computed.
        digest: of everything that decides the contents.
    """

    name: str
    labels: tuple[str, ...]
    maps: Float[Tensor, "image channel row column"]
    boxes: Float[Tensor, "box 4"]
    classes: Int[Tensor, " box"]
    owners: Int[Tensor, " box"]
    part: Int[Tensor, " image"]
    seconds: float
    digest: str

    @cached_property
    def truth(self) -> list[TrueBoxes]:
        """The boxes of every image."""
        rows: list[tuple[list, list]] = [([], []) for _ in range(len(self.maps))]
        for owner, box, label in zip(self.owners.tolist(), self.boxes.tolist(), self.classes.tolist(), strict=True):
            rows[owner][0].append(tuple(box))
            rows[owner][1].append(label)
        return [TrueBoxes(tuple(boxes), tuple(labels)) for boxes, labels in rows]

    @cached_property
    def counts(self) -> Float[np.ndarray, "image class"]:
        """The true counts."""
        return np.stack([one.counts(len(self.labels)).numpy() for one in self.truth]).astype(np.float64)

    def cells(self, grid: int) -> Float[Tensor, "image cell class"]:
        """Return the fractional counts of the cells of a grid."""
        frame = (0.0, 0.0, 1.0, 1.0)
        rows = [cell_counts(one.boxes, one.labels, len(self.labels), frame, grid) for one in self.truth]
        return torch.stack(rows).float()

    def features(self, grid: int, batch: int = 256) -> CellFeatures:
        """Return the features of the cells of a grid, pooled from the maps."""
        return torch.cat([column_major(pooled(part.float(), grid)).mT for part in self.maps.split(batch)])

    def divisions(self, seed: int) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """Yield the images of train, val and test; with folds one division for each, which depend on the seed.

        Every image tests once.
        """
        folds = SETS[self.name].folds
        if not folds:
            yield tuple((self.part == number).nonzero().flatten().tolist() for number in range(3))  # type: ignore[misc]
            return
        parts = np.array_split(np.random.default_rng(seed).permutation(len(self.maps)), folds)
        for fold in range(folds):
            other = (fold + 1) % folds
            train = np.concatenate([one for number, one in enumerate(parts) if number not in (fold, other)])
            yield tuple(sorted(map(int, one)) for one in (train, parts[other], parts[fold]))  # type: ignore[misc]


def sizes_of(name: str, share: float) -> tuple[int, ...]:
    """Return the numbers of images of a run: a share of them, but enough for every part.

    >>> sizes_of("bccd", 1.0), sizes_of("bccd", 0.02), sizes_of("coco", 0.02)
    ((205, 87, 72), (40, 20, 20), (40,))
    """
    least = (40, 20, 20)
    return tuple(min(n, max(low, round(share * n))) for n, low in zip(SETS[name].images, least, strict=False))


def prepare(name: str, share: float) -> Path:
    """Compute and store the maps of a data set, unless that is done; return the file."""
    chosen, begin = SETS[name], perf_counter()
    model = saywhy.load(chosen.backbone, REAL / chosen.weights if chosen.weights else None)
    parts, labels = _images(name, share)
    digest = _digest(asdict(chosen), share, model.digest(), [part.names for part in parts], labels)
    file = FOLDER / f"counting-{name}-{digest}.safetensors"
    if file.exists():
        return file
    maps, boxes, classes, owners, numbers = [], [], [], [], []
    part: _ToyboxPart | _DatasetPart
    take = _maps_of(model, chosen)
    for number, part in enumerate(parts):
        for pixels, own, which in part:
            owners += [len(numbers)] * len(which)
            numbers.append(number)
            maps.append(take(pixels))
            boxes += own
            classes += which
    tensors = {
        "maps": torch.stack(maps), "boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        "classes": torch.tensor(classes, dtype=torch.long), "owners": torch.tensor(owners, dtype=torch.long),
        "part": torch.tensor(numbers),
    }  # fmt: skip
    save_weights(file, tensors, {"labels": json.dumps(labels), "seconds": f"{perf_counter() - begin:.1f}"})
    return file


def photographs(name: str, share: float) -> Iterator[Image.Image]:
    """Yield the images of a data set of boxes as they are on the disk, in the order of its maps."""
    for part in _images(name, share)[0]:
        yield from part.opened()  # type: ignore[union-attr]


def read_prepared(name: str, file: Path) -> PreparedSet:
    """Return a data set from its file."""
    with safe_open(file, "pt") as opened:
        known = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in ("maps", "boxes", "classes", "owners", "part")}
    labels = tuple(json.loads(known["labels"]))
    return PreparedSet(name, labels, **tensors, seconds=float(known["seconds"]), digest=file.stem.rsplit("-", 1)[1])


class _ToyboxPart:
    """The first scenes of a split."""

    def __init__(self, split: str, count: int) -> None:
        self.split, self.count = split, count
        self.names = [split, count]

    def __iter__(self) -> Iterator[tuple[Tensor, list[list[float]], list[int]]]:
        input_of = Preprocess((SIZE, SIZE), None, MEAN, STD)
        for index in range(self.count):
            drawn = scene(self.split, index, SIZE)  # type: ignore[arg-type]
            known = [one for one in drawn.objects if one.kind in KINDS]
            boxes = [[side / SIZE for side in one.box] for one in known]
            yield input_of(Image.fromarray(drawn.image))[0], boxes, [KINDS.index(one.kind) for one in known]


class _DatasetPart:
    """The first images of a data set of boxes."""

    def __init__(self, chosen: CountingSet, data: Dataset, count: int, labels: Sequence[str]) -> None:
        self.chosen, self.data, self.count, self.labels = chosen, data, min(count, len(data)), labels
        self.names = [data[index].name for index in range(self.count)]

    def opened(self) -> Iterator[Image.Image]:
        """Yield the images as they are on the disk."""
        return (self.data[index].open() for index in range(self.count))

    def __iter__(self) -> Iterator[tuple[Tensor, list[list[float]], list[int]]]:
        input_of = Preprocess(self.chosen.size, None, self.chosen.mean, self.chosen.std)
        for index in range(self.count):
            located = self.data[index]
            opened = located.open()
            boxes, classes = object_boxes(located, self.labels, "leave-out" if self.chosen.folds else "count")
            sides = (*opened.size, *opened.size)
            shares = [[min(1.0, max(0.0, a / b)) for a, b in zip(box, sides, strict=True)] for box in boxes]
            yield input_of(opened)[0], shares, classes


def _images(name: str, share: float) -> tuple[list[_ToyboxPart] | list[_DatasetPart], tuple[str, ...]]:
    """Return the parts of a data set, and its classes."""
    chosen, sizes = SETS[name], sizes_of(name, share)
    if name == "toybox":
        return [_ToyboxPart(f"talk-{part}", count) for part, count in zip(PARTS, sizes, strict=True)], chosen.labels
    if chosen.folds:
        data = open_dataset(f"coco:{REAL / 'coco' / 'instances.json'}:photos")
        return [_DatasetPart(chosen, data, sizes[0], data.labels)], tuple(data.labels)
    return [
        _DatasetPart(chosen, open_dataset(f"voc:{REAL / name}:{part}"), count, chosen.labels)
        for part, count in zip(PARTS, sizes, strict=True)
    ], chosen.labels


def _maps_of(model: Model, chosen: CountingSet):
    """Return a function from an input to its maps in half precision."""
    layer = LayerFeatures(model, chosen.layer)

    def take(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return layer(pixels.unsqueeze(0))[0].half()

    return take


def _digest(*values: object) -> str:
    """Return 12 characters that depend on all values."""
    return sha256(json.dumps(values, default=str).encode()).hexdigest()[:12]
