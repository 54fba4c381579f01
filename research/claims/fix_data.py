"""Folders of images with a planted shortcut, and networks that have learnt it, for the comparison of ``saywhy.fix``.

Every folder has the layout of ``python -m saywhy.toybox.shortcut``: splits, ``groups.csv``, ``hints/``, a network. In
"train" and "val" the shortcut gives the class away in nearly all images, in "test" too; in "shifted" it does not.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from research.claims.blood_cells import CELLS, cell_windows
from research.claims.decoys import AGAINST, ALONE, HINTED, Shortcut, decoy, mask_of
from research.claims.language_networks import FOLDER
from saywhy.datasets.labelled import SPLITS
from saywhy.images import read_image
from saywhy.io.atomic import write_text
from saywhy.models import Model, load
from saywhy.toybox.models.classifier import MEAN as TOYBOX_MEAN
from saywhy.toybox.models.classifier import STD as TOYBOX_STD
from saywhy.toybox.shortcut import KINDS, SIDE, ShortcutImage, fresh, shortcut_images
from saywhy.toybox.shortcut import train as train_toybox
from saywhy.training.checkpoint import save_weights
from saywhy.training.loop import Plan, optimize, step_generator

REAL = Path(os.environ.get("SAYWHY_REAL") or Path(__file__).parents[3] / "shared" / "real")

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
"""The first five. The network was trained on all ten before, on other images."""

OTHER_CLASSES = ("dog", "frog", "horse", "ship", "truck")

HALF = (0.5, 0.5, 0.5)
"""Mean of the small network's inputs; the deviation is a quarter."""

QUARTER = (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Sizes:
    """Images of every class, and epochs.

    Attributes:
        train, val, test: images of a class, at most; "test" and "shifted" are alike.
        biasing: epochs of the training by which the network learns the shortcut.
        epochs: of every fix.
        rate: of every fix.
    """

    train: int
    val: int
    test: int
    biasing: int
    epochs: int
    rate: float

    def times(self, share: float) -> "Sizes":
        """A share of the images, for a quick run.

        >>> Sizes(100, 50, 40, 10, 5, 1e-3).times(0.1)
        Sizes(train=20, val=12, test=6, biasing=1, epochs=1, rate=0.001)
        """
        train, val, test = (
            max(least, round(n * share)) for n, least in ((self.train, 20), (self.val, 12), (self.test, 6))
        )
        biasing, epochs = (max(1, round(n * share)) for n in (self.biasing, self.epochs))
        return Sizes(train, val, test, biasing, epochs, self.rate)


@dataclass(frozen=True)
class PlantedSet:
    """A data set with a shortcut.

    Attributes:
        title: for the page.
        about: what is planted, and what the hints are.
        classes: their names.
        side: of an image in pixels.
        sizes: of a whole run.
        images: yields split, class, pixels, hint mask, and whether the shortcut holds, for a seed and sizes.
        real: whether it needs the folder of real images.
        shared: whether all seeds have the same test images.
    """

    title: str
    about: str
    classes: tuple[str, ...]
    side: int
    sizes: Sizes
    images: Callable[[int, Sizes], Iterator[tuple[str, str, ShortcutImage]]]
    real: bool = True
    shared: bool = True


class SmallNetwork(nn.Module):
    """Three convolutions with batch normalisation, global average pooling, and a linear layer.

    >>> SmallNetwork(5)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for inner, outer, stride in ((3, 32, 2), (32, 64, 2), (64, 64, 1)):
                layers += [nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
            self.features = nn.Sequential(*layers)
            self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The class scores of images [batch, 3, height, width]."""
        scores: Tensor = self.fc(self.features(x).mean((2, 3)))
        return scores


def toybox_images(shortcut: Shortcut, seed: int, sizes: Sizes) -> Iterator[tuple[str, str, ShortcutImage]]:
    """Images of ``saywhy.toybox.shortcut``; of the validation images of each kind ``AGAINST`` are without the shortcut.

    They are drawn as those of "shifted" are, from other scenes.
    """
    against = _against(sizes.val)
    for split, each in (("train", sizes.train), ("test", sizes.test), ("shifted", sizes.test)):
        for one in shortcut_images(shortcut, split, each, seed):  # type: ignore[arg-type]
            yield split, one.kind, one
    left = dict.fromkeys(KINDS, sizes.val - against)
    for one in shortcut_images(shortcut, "val", round(1.3 * sizes.val) + 4, seed):  # type: ignore[arg-type]
        if one.tied and left[one.kind]:
            left[one.kind] -= 1
            yield "val", one.kind, one
    for one in shortcut_images(shortcut, "shifted", against, seed + 100):  # type: ignore[arg-type]
        yield "val", one.kind, one


def cifar_images(shortcut: Shortcut, seed: int, sizes: Sizes) -> Iterator[tuple[str, str, ShortcutImage]]:
    """Images of CIFAR-10 with a patch or a tint; which are validation images depends on the seed.

    In "shifted" every test image is there twice: with its own class's shortcut, and with another's.
    """
    for number, kind in enumerate(CIFAR_CLASSES):
        order, mixed = np.random.default_rng([seed, number]), cifar_files(kind, seed)
        given = {
            "train": mixed[: sizes.train],
            "val": mixed[sizes.train : sizes.train + sizes.val],
            "test": sorted((REAL / "cifar10" / "test" / kind).glob("*.jpg"))[: sizes.test],
        }
        pixels = {split: [np.asarray(read_image(file)) for file in some] for split, some in given.items()}
        yield from _planted(pixels, kind, number, len(CIFAR_CLASSES), shortcut, order)


def cifar_files(kind: str, seed: int) -> list[Path]:
    """The training images of a class, in the order of a seed: for training, for validation, and the others."""
    files = sorted((REAL / "cifar10" / "train" / kind).glob("*.jpg"))
    number = (*CIFAR_CLASSES, *OTHER_CLASSES).index(kind)
    return [files[i] for i in np.random.default_rng([seed, 1_000 + number]).permutation(len(files))]


def cell_images(seed: int, sizes: Sizes) -> Iterator[tuple[str, str, ShortcutImage]]:
    """Windows of blood smears with one kind of cell and a sticker; splits are the published ones.

    In "shifted" every test window is there twice: with its own class's sticker, and with another's.
    """
    order = np.random.default_rng(seed)
    for number, kind in enumerate(CELLS):
        windows = {
            split: list(cell_windows(REAL / "bccd", split, kind, most, seed if split != "test" else 0))
            for split, most in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test))
        }
        pixels = {split: [window.pixels for window in some] for split, some in windows.items()}
        masks = {split: [window.mask for window in some] for split, some in windows.items()}
        yield from _planted(pixels, kind, number, len(CELLS), "sticker", order, masks)


def _planted(
    pixels: dict[str, list[np.ndarray]],
    kind: str,
    number: int,
    classes: int,
    shortcut: Shortcut,
    order: np.random.Generator,
    masks: dict[str, list[np.ndarray]] | None = None,
) -> Iterator[tuple[str, str, ShortcutImage]]:
    """The images of one class with the shortcut, split by split."""
    for split in ("train", "val", "test", "shifted"):
        source = "test" if split == "shifted" else split
        count = len(pixels[source])
        wrong = {"train": ALONE * count, "val": _against(count), "test": ALONE * count, "shifted": 0}[split]
        for i, plain in enumerate(pixels[source]):
            fixed = np.random.default_rng(1_000 * number + i)  # the same for every seed
            other = int((number + (fixed if split == "shifted" else order).integers(1, classes)) % classes)
            mask = None if masks is None else masks[source][i]
            for tied in (True, False) if split == "shifted" else (i >= round(wrong),):
                shown = decoy(plain, number if tied else other, shortcut)
                yield split, kind, ShortcutImage(shown, kind, mask_of(shown.shape[:2], shortcut, mask), tied)


def _against(count: int) -> int:
    """Validation images of a class without the shortcut: DFR needs a few of every group.

    >>> _against(80), _against(12)
    (4, 2)
    """
    return max(2, round(AGAINST * count))


TOYBOX = "as `saywhy.toybox.shortcut` draws it; hints are masks of the objects"

PATCH = (
    "a patch of 6 x 6 pixels in a corner in the colour of the class. Nobody marked the objects of these photographs: a "
    "hint is the whole image but the patch. The network was trained on other images of all ten classes before"
)

WHOLE_TINT = (
    "a tint of the whole image in the colour of the class. No region is without it, so that hints of regions cannot "
    "exclude it: they are the middle of the image (20 x 20 pixels), where the object usually is. A case in which such "
    "hints should not help. The network was trained on other images of all ten classes before"
)

STICKER = (
    "windows of 240 x 240 pixels of BCCD's blood smears, reduced to 48 x 48. The class is the rarest kind of cell in "
    "the window (RBC: only red ones), and a sticker of 9 x 9 pixels in a corner has the colour of the class. Hints are "
    "the annotated boxes of those cells, without what the sticker hides"
)

PLANTED: dict[str, PlantedSet] = {
    "toybox-sticker": PlantedSet(
        "Toybox, a sticker", f"a coloured sticker in a corner, {TOYBOX}", KINDS, SIDE, Sizes(80, 60, 40, 12, 4, 3e-4),
        lambda seed, sizes: toybox_images("sticker", seed, sizes), real=False, shared=False,
    ),
    "toybox-background": PlantedSet(
        "Toybox, the background", f"the home of the kind (a boat at sea), {TOYBOX}", KINDS, SIDE,
        Sizes(80, 60, 40, 12, 4, 3e-4),
        lambda seed, sizes: toybox_images("background", seed, sizes), real=False, shared=False,
    ),
    "cifar-patch": PlantedSet(
        "CIFAR-10, a patch", PATCH, CIFAR_CLASSES, 32, Sizes(200, 80, 60, 3, 6, 1e-3),
        lambda seed, sizes: cifar_images("sticker", seed, sizes),
    ),
    "cifar-tint": PlantedSet(
        "CIFAR-10, a tint", WHOLE_TINT, CIFAR_CLASSES, 32, Sizes(200, 80, 60, 3, 6, 1e-3),
        lambda seed, sizes: cifar_images("tint", seed, sizes),
    ),
    "blood-sticker": PlantedSet(
        "Blood cells, a sticker", STICKER, CELLS, 48, Sizes(125, 50, 45, 10, 6, 1e-3), cell_images
    ),
}  # fmt: skip
"""All data sets by name."""


def folder_of(name: str, seed: int, share: float) -> Path:
    """The folder of a data set's seed."""
    return FOLDER / f"fix-{name}-{share:g}-{seed}"


def prepare(name: str, seed: int, share: float) -> None:
    """Write the images of a seed, and train the network that learns the shortcut, unless that is done."""
    planted, folder = PLANTED[name], folder_of(name, seed, share)
    if (folder / "biased.safetensors").exists():
        return
    sizes = planted.sizes.times(share) if share < 1 else planted.sizes
    rows, numbers, fed, labels = ["file,group"], dict.fromkeys(SPLITS, 0), [], []
    each = dict.fromkeys(planted.classes, 0)
    for split, kind, one in planted.images(seed, sizes):
        file = f"{split}/{kind}/{numbers[split]:05}.png"
        numbers[split] += 1
        rows.append(f"{file},{kind} {'with' if one.tied else 'against'} the shortcut")
        _write(folder / file, one.pixels)
        hinted = split != "train"
        if split == "train":
            fed.append(one.pixels)
            labels.append(planted.classes.index(kind))
            hinted = each[kind] < max(1, round(HINTED * sizes.train))
            each[kind] += hinted
        if hinted and one.mask.any():
            _write(folder / "hints" / file, one.mask.astype(np.uint8) * 255)
    write_text(folder / "groups.csv", "\n".join(rows) + "\n")
    pixels = torch.from_numpy(np.stack(fed)).permute(0, 3, 1, 2).contiguous()
    network: nn.Module
    if not planted.real:
        network = train_toybox(pixels, torch.tensor(labels), seed, sizes.biasing, Progress(disable=True))
    else:
        network = SmallNetwork(len(planted.classes), seed)
        if name.startswith("cifar"):
            network.features.load_state_dict(load_file(start_file(seed, share)))  # type: ignore[union-attr]
        learn(network, pixels, torch.tensor(labels), seed, sizes.biasing)
    save_weights(folder / "biased.safetensors", network.state_dict(), {"trained_on": "train", "seed": str(seed)})


def start_file(seed: int, share: float) -> Path:
    """The weights that the networks for CIFAR-10 begin with."""
    return FOLDER / f"fix-cifar-start-{share:g}-{seed}.safetensors"


def train_start(seed: int, share: float) -> None:
    """Train the small network on all ten classes of CIFAR-10, without a shortcut, unless that is done.

    The images are those that are neither for training nor for validation in the data sets with a shortcut.
    """
    file = start_file(seed, share)
    if file.exists():
        return
    sizes = max((planted.sizes for name, planted in PLANTED.items() if "cifar" in name), key=lambda s: s.train + s.val)
    pixels, labels, classes = [], [], (*CIFAR_CLASSES, *OTHER_CLASSES)
    for number, kind in enumerate(classes):
        left = cifar_files(kind, seed)[sizes.train + sizes.val :]
        for path in left[: max(20, round(share * len(left)))]:
            pixels.append(np.asarray(read_image(path)))
            labels.append(number)
    network = SmallNetwork(len(classes), seed)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    learn(network, images, torch.tensor(labels), seed, max(1, round(12 * share)))
    save_weights(file, network.features.state_dict(), {"trained_on": "other images", "seed": str(seed)})


def learn(network: nn.Module, images: Tensor, labels: Tensor, seed: int, epochs: int) -> None:
    """Train a network on images [count, 3, height, width] uint8 by cross-entropy, in place, with random flips."""
    plan = Plan((), 32, 3e-3, warmup=20, seed=seed)
    order = [torch.randperm(len(images), generator=step_generator(seed, epoch)) for epoch in range(epochs)]
    batches = torch.cat(order).split(plan.batch)
    mean, std = (torch.tensor(part)[:, None, None] for part in (HALF, QUARTER))

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken = batches[step][share]
        x = (images[taken].float() / 255 - mean) / std
        return F.cross_entropy(model(x), labels[taken])

    optimize(network, loss, len(batches), plan, plan.settings())


def model_of(name: str, seed: int, share: float) -> Model:
    """The network that has learnt the shortcut, with its preprocessing."""
    planted, folder = PLANTED[name], folder_of(name, seed, share)
    mean, std = (HALF, QUARTER) if planted.real else (TOYBOX_MEAN, TOYBOX_STD)
    network: nn.Module = SmallNetwork(len(planted.classes)) if planted.real else fresh()
    network.load_state_dict(load_file(folder / "biased.safetensors"))
    return load(network.eval(), labels=planted.classes, input_size=planted.side, mean=mean, std=std)


def _write(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
