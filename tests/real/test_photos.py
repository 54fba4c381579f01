"""Real weights and real photographs: what holds on toys holds here, without any configuration."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import saywhy
from saywhy.errors import MethodError
from saywhy.methods import METHODS

pytestmark = [pytest.mark.real, pytest.mark.nightly]

# SqueezeNet's head rectifies its scores, so that it is not of CAM's form.
METHODS_HERE = [
    "gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "gradcam-elementwise", "eigencam", "eigengradcam",
]  # fmt: skip
RESNET56 = Path(__file__).with_name("resnet56.py")

DOG = (222, 30, 472, 252)
"""Head, chest and back of the dog in cat_dog.jpg (left, top, right, bottom), above the cat's ears."""
CAT = (130, 255, 572, 480)
"""The cat, from its tail at the left to its paw at the right, from its ears down."""


@pytest.fixture(scope="module")
def squeezenet(real: Path) -> saywhy.Model:
    return saywhy.load("torchvision:squeezenet1_0", weights=real / "imagenet" / "squeezenet1_0.safetensors")


@pytest.fixture(scope="module")
def cat_and_dog(squeezenet: saywhy.Model, real: Path) -> saywhy.Explanation:
    image = real / "imagenet" / "photos" / "cat_dog.jpg"
    return saywhy.explain(squeezenet, image, ["bull mastiff", "boxer", "tiger cat"], METHODS_HERE)


@pytest.fixture(scope="module")
def resnet56(real: Path) -> saywhy.Model:
    return saywhy.load(f"{RESNET56}:resnet56", weights=real / "cifar10" / "resnet56.safetensors")


def assert_peak_in(found: saywhy.Explanation, target: int, method: str, box: tuple[int, ...]) -> None:
    peak = found.peak(0, target, method=method)
    assert peak is not None
    assert box[0] <= peak[0] <= box[2], (method, peak)
    assert box[1] <= peak[1] <= box[3], (method, peak)


def test_squeezenet_predicts_the_known_classes(cat_and_dog):
    assert cat_and_dog.targets == [["bull mastiff", "boxer", "tiger cat"]]
    assert cat_and_dog.classes.tolist() == [[243, 242, 282]]
    assert cat_and_dog.layers == ("features",)
    assert cat_and_dog.probabilities[0, 0] > 0.5


@pytest.mark.parametrize("method", METHODS_HERE)
def test_peak_of_dog_classes_lies_in_the_dog_box(cat_and_dog, method):
    assert_peak_in(cat_and_dog, 0, method, DOG)
    assert_peak_in(cat_and_dog, 1, method, DOG)


@pytest.mark.parametrize("method", [m for m in METHODS_HERE if METHODS[m].uses_gradients])
def test_peak_of_the_cat_lies_in_the_cat_box(cat_and_dog, method):
    assert_peak_in(cat_and_dog, 2, method, CAT)


@pytest.mark.parametrize("method", [m for m in METHODS_HERE if not METHODS[m].uses_gradients])
def test_class_agnostic_methods_show_the_dog_for_the_cat(cat_and_dog, method):
    """Eigen-CAM uses the activations alone, so that its map is the same for every class."""
    assert torch.equal(cat_and_dog[method][:, 0], cat_and_dog[method][:, 2])
    assert_peak_in(cat_and_dog, 2, method, DOG)


def test_contrast_of_dog_and_cat_peaks_in_the_right_boxes(squeezenet, real):
    image = real / "imagenet" / "photos" / "cat_dog.jpg"
    dog, cat = saywhy.targets.Class("bull mastiff"), saywhy.targets.Class("tiger cat")
    found = saywhy.explain(squeezenet, image, [dog - cat, cat - dog], relu=False)
    assert_peak_in(found, 0, "gradcam", DOG)
    assert_peak_in(found, 1, "gradcam", CAT)
    torch.testing.assert_close(found.maps[:, 0], -found.maps[:, 1], rtol=1e-4, atol=1e-6)


def test_cam_of_squeezenet_raises_with_the_reason(squeezenet, real):
    with pytest.raises(MethodError, match="cam needs a network that ends in global average pooling"):
        saywhy.explain(squeezenet, real / "imagenet" / "photos" / "cat_dog.jpg", "tiger cat", "cam")


def test_every_photograph_is_explained_with_good_diagnostics(squeezenet, real):
    photographs = sorted((real / "imagenet" / "photos").glob("*.JPEG"))
    assert len(photographs) == 40
    right = 0
    for photograph in photographs:
        found = saywhy.explain(squeezenet, photograph, method=METHODS_HERE)
        right += found.targets[0][0] == photograph.stem.split("_", 1)[1].replace("_", " ")
        for method in METHODS_HERE:
            maps = found[method]
            assert maps.shape == (1, 1, 13, 13)
            assert bool(torch.isfinite(maps).all())
            assert float(maps.max() - maps.min()) > 1e-6 * float(maps.abs().max()) > 0, (photograph.name, method)
        facts = {fact.name: fact for fact in found.diagnostics["gradcam", found.layers[0]][0][0]}
        assert facts["layout"].state == "good", (photograph.name, facts["layout"])
        assert facts["gradient"].state == "good", (photograph.name, facts["gradient"])
    # The folder was made of 28 that the network gets right, and 12 on which it errs with confidence.
    assert 26 <= right <= 30


class TestCustomArchitecture:
    def test_explained_classes_equal_the_network_predictions(self, resnet56, real):
        """Published with 93.6 %. These test images are JPEG files of quality 75, which costs ten points."""
        mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        right = 0
        for index, name in enumerate(resnet56.labels):
            files = sorted((real / "cifar10" / "test" / name).glob("*.jpg"))
            assert len(files) == 60
            found = saywhy.explain(resnet56, files, relu=False)
            pixels = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files]
            with torch.no_grad():
                alone = resnet56.module((torch.stack(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
            assert found.classes[:, 0].tolist() == alone.argmax(1).tolist()
            torch.testing.assert_close(found.scores[:, 0], alone.amax(1), rtol=1e-4, atol=1e-4)
            right += int((alone.argmax(1) == index).sum())
            assert found.layers == ("layer3",)
            assert found.maps.shape == (60, 1, 8, 8)
            assert bool(torch.isfinite(found.maps).all())
            assert bool((found.maps.flatten(2).std(-1) > 0).all())
            facts = {fact.name: fact for fact in found.diagnostics["gradcam", "layer3"][0][0]}
            assert facts["layout"].state == "good"
        assert right == pytest.approx(502, abs=6)  # decoders differ in the last bit

    def test_cam_is_gradcam_up_to_scale_and_sums_to_the_score(self, resnet56, real):
        files = sorted((real / "cifar10" / "test" / "horse").glob("*.jpg"))[:8]
        found = saywhy.explain(resnet56, files, ["horse", "ship"], ["gradcam", "cam"], relu=False)
        torch.testing.assert_close(64 * found["gradcam"], found["cam"], rtol=1e-4, atol=1e-4)
        # CAM's mean is the score less the bias: the map accounts for all of the answer.
        bias = resnet56.module.linear.bias.detach()[[7, 8]]
        torch.testing.assert_close(found["cam"].mean((2, 3)), found.scores - bias, rtol=1e-4, atol=1e-4)

    def test_images_are_not_resized_or_cropped(self, resnet56, real):
        found = saywhy.explain(resnet56, next((real / "cifar10" / "test" / "ship").glob("*.jpg")), relu=False)
        assert found.input_size == (32, 32)
        assert found.images[0].crop_box == (0, 0, 32, 32)
