"""Training a counter on a data set of boxes: frozen features of any backbone, and a network that counts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from saywhy.datasets.hashed_splits import path_hash
from saywhy.datasets.localized import Dataset, LocalizedImage
from saywhy.errors import InputError, LayerError, SaywhyWarning
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.metrics.counting import ImageCounts, m_relrmse, m_relrmse_nz, mrmse, mrmse_nz, round_counts
from saywhy.models import Model
from saywhy.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from saywhy.targets import Top
from saywhy.tasks.counting.baselines import category_mean
from saywhy.tasks.counting.count_data import CountingImages, DifficultObjects, features_of
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.intervals import LEAST_PAIRS, CountErrors
from saywhy.tasks.counting.networks import CellFeatures, CountHead
from saywhy.tasks.counting.stored_counter import ENTRY, CounterDescription, CountHeadKind
from saywhy.tasks.counting.train import COUNTER_PLAN, learn_counter, predict_counts
from saywhy.training.checkpoint import check_name, remove_checkpoint, save_weights
from saywhy.training.loop import HERE, Devices
from saywhy.validation import validate, whole_number

ERRORS = {"mRMSE": mrmse, "mRMSE-nz": mrmse_nz, "m-relRMSE": m_relrmse, "m-relRMSE-nz": m_relrmse_nz}
"""The four errors, by the names in the metadata."""

VALIDATION_SHARE = 0.2
"""The expected share of the training images that validate, where there is no validation set."""

SIZE = 224
"""The side of resized images in pixels, where the backbone does not say its own."""

Told = Callable[[str, int, int, str], object]
"""A function of the work's name, the steps done, the number of steps, and a remark."""


@dataclass(frozen=True)
class CounterSettings:
    """The settings of a training.

    Attributes:
        kind: of the network that counts.
        grid: the cells a side; 1 for "glance".
        hidden: the width of its hidden layers; published 250 and 500.
        size: (height, width) of images in pixels; None is the input size of the backbone.
        layer: of the backbone; None is the layer at which it would be explained.
        difficult: what becomes of objects that are marked as difficult or as a crowd; None refuses them.
        steps: the number of steps.
        rate: the learning rate.
        seed: of weights and order.

    Raises:
        InputError: a setting has another value.
    """

    kind: CountHeadKind = "sequential"
    grid: int = 3
    hidden: int = 250
    size: tuple[int, int] | None = None
    layer: str | None = None
    difficult: DifficultObjects | None = None
    steps: int = 1500
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        validate("kind", self.kind, CountHeadKind)
        for name, least in (("grid", 1), ("hidden", 1), ("steps", 1)):
            whole_number(name, getattr(self, name), least)
        if self.kind == "glance" and self.grid != 1:
            raise InputError(f"glancing takes the whole image, a grid of 1, got a grid of {self.grid}.")


class ImageSubset:
    """Some of a data set's images.

    Args:
        whole: the data set.
        indices: of its images.
        name: of the subset.
    """

    def __init__(self, whole: Dataset, indices: Sequence[int], name: str) -> None:
        self.whole, self.indices, self.name, self.labels = whole, tuple(indices), name, tuple(whole.labels)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> LocalizedImage:
        return self.whole[self.indices[index]]


def with_validation(data: Dataset) -> tuple[Dataset, Dataset]:
    """Divide a data set into training and validation images by a hash of their names: about a fifth validates.

    Raises:
        InputError: a part would be empty.

    >>> from saywhy.toybox.localized import ToyboxDataset
    >>> [len(part) for part in with_validation(ToyboxDataset("test", count=50))]
    [39, 11]
    """
    kept = [path_hash(data[number].name) < VALIDATION_SHARE for number in range(len(data))]
    parts = [[number for number, own in enumerate(kept) if own == chosen] for chosen in (False, True)]
    if not all(parts):
        raise InputError(f"'{data.name}' has {len(data)} images, too few to set some aside: give validation images.")
    train, val = (
        ImageSubset(data, part, f"{data.name} ({name})") for part, name in zip(parts, ("train", "val"), strict=True)
    )
    return train, val


def train_counter(
    out: Path,
    data: Dataset,
    backbone: Model,
    settings: CounterSettings | None = None,
    *,
    validation: Dataset | None = None,
    test: Dataset | None = None,
    told: Told = lambda *_: None,
    devices: Devices = HERE,
) -> dict[str, str]:
    """Train a counter on frozen features of a backbone, and write it as one file; return the file's metadata.

    Images are resized whole, without a crop. The features of every image are computed once. The weights with the least
    mRMSE on the validation images are kept, and the errors there make the intervals of :func:`saywhy.count` (a little
    too narrow, as these images have selected the weights).

    Args:
        out: the safetensors file; a run that was stopped goes on from its checkpoint beside it.
        data: the training images with their boxes.
        backbone: the model whose layer gives the features; not changed. It is found again by its name.
        settings: see :class:`CounterSettings`.
        validation: other images; None sets about a fifth of the training images aside.
        test: images on which the errors are measured; None measures none.
        told: called with the progress.
        devices: to train on.

    Raises:
        InputError: too few images, an unknown class, or marked objects without a choice.
        LayerError: the layer gives no feature maps.
    """
    check_name(out)
    chosen, begin = settings or CounterSettings(), perf_counter()
    train, held_out = with_validation(data) if validation is None else (data, validation)
    described = describe(backbone, chosen, train)
    cells = described.features(backbone)
    parts = {"training": train, "validation": held_out} | ({} if test is None else {"test": test})
    drawn = {name: _features(name, part, described, cells, chosen.difficult, told) for name, part in parts.items()}
    features, truth = drawn["training"]
    head = _fresh(described, features.shape[2], chosen.seed)
    plan = replace(COUNTER_PLAN, rate=chosen.rate, seed=chosen.seed, batch=min(COUNTER_PLAN.batch, len(features)))
    learn_counter(
        head,
        features,
        truth,
        plan,
        whole_number("steps", chosen.steps, 1),
        validation=drawn["validation"],
        checkpoint=out.with_suffix(".checkpoint"),
        report=lambda step, loss: told("training", step, chosen.steps, f"loss {loss:.4f}"),
        devices=devices,
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in Counter(cells, head).state_dict().items()}
    metadata = {
        ENTRY: described.text(),
        "data": data.name,
        "images": str(len(train)),
        "validation_images": str(len(held_out)),
        "seed": str(chosen.seed),
        "steps": str(chosen.steps),
        **_errors("validation", head, *drawn["validation"], truth),
        **({} if test is None else _errors("test", head, *drawn["test"], truth, described.labels)),
        "minutes": f"{(perf_counter() - begin) / 60:.1f}",
    }
    found = _counts(drawn["validation"][1])
    if found.numel() >= LEAST_PAIRS:
        metadata["count_errors"] = CountErrors.of(predict_counts(head, drawn["validation"][0]), found).text()
    save_weights(out, weights, metadata)
    remove_checkpoint(out.with_suffix(".checkpoint"))
    return metadata


def describe(backbone: Model, settings: CounterSettings, data: Dataset) -> CounterDescription:
    """Return the description of the counter: the layer is found on the first image, size and mean are the backbone's.

    Raises:
        LayerError: the layer that is found cannot be named as one module, or is no map of the whole image.
        InputError: the data set is empty, or has no classes.
    """
    if not len(data):
        raise InputError(f"the data set '{data.name}' has no images to train on.")
    own = backbone.preprocess if isinstance(backbone.preprocess, Preprocess) else None
    size = settings.size
    if size is None:
        resize = own.resize if own is not None and isinstance(own.resize, tuple) else None
        size = (own.crop if own is not None else None) or resize or (SIZE, SIZE)
    mean, std = (own.mean, own.std) if own is not None else (IMAGENET_MEAN, IMAGENET_STD)
    fed = Preprocess(size, None, mean, std)(data[0].open())[0].unsqueeze(0)
    layer, layout = _layer_of(backbone, settings.layer, fed.to(backbone.device))
    labels = tuple(data.labels)
    return CounterDescription(
        backbone.name, layer, settings.kind, settings.grid, settings.hidden, labels, size, mean, std, layout
    )


def _layer_of(backbone: Model, layer: str | None, image: Tensor) -> tuple[str, tuple[str, int, int, int, int] | None]:
    """Return the layer whose output is pooled, proved to be a map of the whole image, and how it is read.

    Raises:
        LayerError: the layer is no module, or is no map [row, column] of the whole image.
    """
    runner, batch = prepare(backbone, image, ExplainConfig(Top(1), layer=layer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)  # what the backbone says of the image does not matter here
        found = runner.capture(batch)[2][0]
    if found.name not in dict(backbone.module.named_modules()):
        raise LayerError(
            f"the features of {backbone.name} are found at '{found.name}', which is no module: name a layer."
        )
    assert found.proof is not None
    read = found.proof.layout
    if len(read.grid) != 2 or read.placement or read.folded or read.batch_axis or read.transposed:
        raise LayerError(
            f"layer '{found.name}' of {backbone.name} is read as {read}, which is no map of the whole image with the "
            "samples first: cells of the image are no parts of it. Name another layer."
        )
    if read.kind == "channels-first":
        return found.name, None
    return found.name, (read.kind, *read.grid, read.prefix, read.suffix)


def _features(
    name: str,
    data: Dataset,
    described: CounterDescription,
    cells: Any,
    difficult: DifficultObjects | None,
    told: Told,
) -> tuple[CellFeatures, Tensor]:
    images = CountingImages(data, described.preprocess, described.grid, described.labels, difficult)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        told(f"features of {name} images", done, len(images), "")

    return features_of(images, cells, 16, report)


def _fresh(described: CounterDescription, features: int, seed: int) -> CountHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return described.head(features)


def _counts(cells: Tensor) -> ImageCounts:
    return cells.double().sum(1).round()


def _errors(
    name: str, head: CountHead, features: CellFeatures, cells: Tensor, train: Tensor, labels: Sequence[str] = ()
) -> dict[str, str]:
    """Return the four errors, those of category-mean, and of each class the mean relative error where it occurs."""
    true, found = _counts(cells), predict_counts(head, features)
    constant = category_mean(_counts(train), len(true))
    entries = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)  # classes without a positive image are left out
        for form, error_of in ERRORS.items():
            if "nz" in form and not bool(true.any()):
                continue
            entries[f"{name}_{form}"] = f"{error_of(found, true).value:.4f}"
            entries[f"{name}_{form}_of_category_mean"] = f"{error_of(constant, true, rounded=False).value:.4f}"
    whole = round_counts(found.double())
    for number, label in enumerate(labels):
        positive = true[:, number] > 0
        if bool(positive.any()):
            relative = ((whole - true).abs() / true.clamp_min(1))[positive, number].mean()
            entries[f"{name}_relative_error_of_{label}"] = f"{float(relative):.4f}"
    return entries
