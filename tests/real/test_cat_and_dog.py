"""Guided backpropagation hardly knows the class, and Guided Grad-CAM does: on a cat and a dog, with real weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import saywhy

pytestmark = [pytest.mark.real, pytest.mark.nightly]

METHODS = ("guided-backprop", "guided-gradcam", "gradcam", "saliency")
EXCITED = ("excitation-backprop", "contrastive-excitation-backprop")


DOG, CAT = (222, 30, 472, 252), (130, 255, 572, 480)
"""Where they are in cat_dog.jpg (left, top, right, bottom)."""


@pytest.fixture(scope="module")
def squeezenet(real: Path) -> saywhy.Model:
    return saywhy.load("torchvision:squeezenet1_0", weights=real / "imagenet" / "squeezenet1_0.safetensors")


@pytest.fixture(scope="module")
def image(real: Path) -> Path:
    return real / "imagenet" / "photos" / "cat_dog.jpg"


@pytest.fixture(scope="module")
def cat_and_dog(squeezenet: saywhy.Model, image: Path) -> saywhy.Explanation:
    return saywhy.explain(squeezenet, image, ["bull mastiff", "tiger cat"], [*METHODS, *EXCITED, "fullgrad"])


def correlation(found: saywhy.Explanation, method: str) -> float:
    """Of the magnitudes of the dog's map with the cat's."""
    dog, cat = found[method][0].abs().flatten(1).double()
    return float(torch.corrcoef(torch.stack([dog, cat]))[0, 1])


def test_guided_gradcam_is_class_sensitive_and_guided_backprop_is_not(cat_and_dog):
    found = {method: correlation(cat_and_dog, method) for method in METHODS}
    print("\ncorrelation of the dog's map with the cat's:", {m: round(r, 3) for m, r in found.items()})
    assert found["guided-backprop"] > 0.6
    assert found["guided-gradcam"] < 0.1
    # Its brightest pixel is the dog's, whoever is asked for.
    assert cat_and_dog.peak(0, 0, method="guided-backprop") == cat_and_dog.peak(0, 1, method="guided-backprop")


@pytest.mark.parametrize("method", ["guided-gradcam", "gradcam", "excitation-backprop"])
def test_peaks_lie_in_the_boxes_of_dog_and_cat(cat_and_dog, method):
    for target, (left, top, right, bottom) in enumerate((DOG, CAT)):
        peak = cat_and_dog.peak(0, target, method=method)
        assert peak is not None
        assert left <= peak[0] <= right
        assert top <= peak[1] <= bottom


def test_deconvnet_map_of_the_cat_is_zero_with_warning(squeezenet, image):
    """What came forward has no say but in maxima, and squeezed to 64 channels the cat's evidence is all below zero."""
    with pytest.warns(saywhy.SaywhyWarning, match="'tiger cat': the map is zero everywhere"):
        found = saywhy.explain(squeezenet, image, ["bull mastiff", "tiger cat"], "deconvnet")
    assert found.maps[0].flatten(1).any(1).tolist() == [True, False]


def share_above(maps: Tensor, row: float) -> float:
    """The part of a map's magnitude that lies above a row, as a share of its height."""
    magnitudes = maps.abs()
    return float(magnitudes[: round(row * len(maps))].sum() / magnitudes.sum())


@pytest.mark.parametrize("method", ["guided-gradcam", "contrastive-excitation-backprop"])
def test_map_of_the_dog_lies_above_that_of_the_cat(cat_and_dog, method):
    dog, cat = cat_and_dog[method][0]
    shares = share_above(dog, 0.5), share_above(cat, 0.5)
    print(f"\n{method}: {shares[0]:.0%} of the dog's map and {shares[1]:.0%} of the cat's lie in the upper half")
    assert shares[0] > shares[1] + 0.2


def test_excitation_backprop_sums_to_at_most_one(cat_and_dog):
    sums = cat_and_dog["excitation-backprop"].sum((2, 3))
    print("\nsums of excitation backprop:", sums.tolist())
    assert bool((sums > 0.5).all())
    assert bool((sums <= 1 + 1e-4).all())


def test_fullgrad_terms_sum_to_the_score(cat_and_dog):
    assert float(cat_and_dog.completeness_errors["fullgrad", "input"].abs().max()) < 1e-3


@pytest.fixture(scope="module")
def small_animals(real: Path) -> saywhy.Explanation:
    """Thirty cats and thirty dogs of CIFAR, each asked for both."""
    model = saywhy.load(
        f"{Path(__file__).with_name('resnet56.py')}:resnet56", weights=real / "cifar10" / "resnet56.safetensors"
    )
    files = [file for kind in ("cat", "dog") for file in sorted((real / "cifar10" / "test" / kind).glob("*.jpg"))[:30]]
    return saywhy.explain(model, files, ["dog", "cat"], ["guided-backprop", "guided-gradcam"], relu=False)


def test_guided_gradcam_is_more_class_sensitive_on_cifar(small_animals):
    """The mean over sixty images of the correlation of the dog's map with the cat's."""
    found = {}
    for method in small_animals.methods:
        dog, cat = (small_animals[method][:, t].flatten(1).double() for t in (0, 1))
        each = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(dog, cat, strict=True)]
        found[method] = float(torch.stack(each).nanmean())
    print("\nCIFAR, mean correlation of the dog's map with the cat's:", {m: round(r, 3) for m, r in found.items()})
    assert found["guided-gradcam"] < found["guided-backprop"]
