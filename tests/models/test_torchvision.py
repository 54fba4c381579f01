"""torchvision's classifiers: their own labels and preprocessing, their weights from a file, no network needed."""

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

import saywhy
from saywhy import Preprocess
from saywhy.errors import InputError, WeightsError

SIZES = [(640, 480), (333, 500), (224, 224), (120, 90)]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["squeezenet1_0", "efficientnet_b0", "swin_t"])
def test_preprocessing_equals_the_preset_transforms(name: str, size: tuple[int, int]) -> None:
    from saywhy.models.torchvision import _preprocess

    preset = models.get_model_weights(name).DEFAULT
    tensor, crop_box = _preprocess(preset)(noise(*size))
    torch.testing.assert_close(tensor, preset.transforms()(noise(*size)), rtol=0, atol=1e-5)
    cropped = preset.transforms().crop_size[0] / preset.transforms().resize_size[0]
    assert crop_box[2] - crop_box[0] == pytest.approx(cropped * min(size), abs=1.5)
    assert (crop_box[0] + crop_box[2]) / 2 == pytest.approx(size[0] / 2, abs=1.5)


@pytest.mark.slow
def test_random_weights_are_loaded() -> None:
    model = saywhy.load("torchvision:squeezenet1_0", weights="random")
    assert model.name == "torchvision:squeezenet1_0"
    assert len(model.labels or ()) == 1000
    assert "tiger cat" in (model.labels or ())
    assert not model.module.training
    e = saywhy.explain(model, noise(400, 300), target="tiger cat", method="eigencam", layer="features.3")
    assert e.classes.tolist() == [[282]]
    assert e.images[0].crop_box == pytest.approx((69, 19, 331, 281), abs=1)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_are_loaded_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(3)
    state = models.squeezenet1_0().state_dict()
    path = tmp_path / f"a.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = saywhy.load("torchvision:squeezenet1_0", weights=path).module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.slow
@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_weights_set_transform_input(tmp_path: Path, auxiliary: bool) -> None:
    network = models.GoogLeNet(aux_logits=auxiliary, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    module = saywhy.load("torchvision:googlenet", weights=tmp_path / "a.pth").module
    assert module.transform_input
    network.transform_input = True
    with torch.no_grad():
        image = torch.rand(1, 3, 96, 96)
        torch.testing.assert_close(module(image), network.eval()(image))


def test_weights_of_another_architecture_raise(tmp_path: Path) -> None:
    save_file(dict(torch.nn.Linear(2, 2).state_dict()), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"do not fit SqueezeNet.*missing.*weight.*architecture"):
        saywhy.load("torchvision:squeezenet1_0", weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route to host"), TimeoutError("timed out"), OSError("disk full")]
)
def test_failed_download_raises_and_names_random_weights(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(WeightsError) as caught:
        saywhy.load("torchvision:squeezenet1_0")
    message = str(caught.value)
    assert "torchvision:squeezenet1_0 could not be downloaded" in message
    assert models.SqueezeNet1_0_Weights.DEFAULT.url in message
    assert "weights='random'" in message


@pytest.mark.slow
@pytest.mark.real
def test_squeezenet_locates_cat_below_dog(real: Path) -> None:
    model = saywhy.load("torchvision:squeezenet1_0", weights=real / "imagenet" / "squeezenet1_0.safetensors")
    model.preprocess = Preprocess((224, 224), (224, 224))  # the image whole, as in the paper
    e = saywhy.explain(model, real / "imagenet" / "photos" / "cat_dog.jpg", target=[None, "boxer", "tiger cat"])
    assert e.targets == [["bull mastiff", "boxer", "tiger cat"]]
    assert e.probabilities is not None
    np.testing.assert_allclose(e.probabilities[0].tolist(), [0.71, 0.12, 0.05], atol=0.02)
    dog, cat = e.peak(0, 1), e.peak(0, 2)
    assert dog is not None
    assert cat is not None
    assert cat[1] > dog[1]


# --- fine-tuned networks ---------------------------------------------------------------------------------------------


def two_classes(tmp_path: Path, name: str = "resnet18", **settings: Any) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(1)
    network = models.get_model(name, num_classes=2, **settings).eval()
    torch.save(network.state_dict(), tmp_path / "two.pth")
    return network, tmp_path / "two.pth"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_the_head_is_built_for_the_classes_of_the_checkpoint(tmp_path: Path, name: str) -> None:
    network, file = two_classes(tmp_path, name)
    model = saywhy.load(f"torchvision:{name}", weights=file, labels=["cat", "dog"])
    image = torch.rand(1, 3, 224, 224)
    assert torch.equal(model.module(image), network(image))
    assert model.labels == ("cat", "dog")
    assert saywhy.load(f"torchvision:{name}", weights=file).labels is None  # not ImageNet's


@pytest.mark.slow
def test_a_linear_layer_behind_a_dropout_is_the_head(tmp_path: Path) -> None:
    network = models.resnet18()
    network.fc = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(512, 3))  # type: ignore[assignment]
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "three.pth")
    model = saywhy.load("torchvision:resnet18", weights=tmp_path / "three.pth")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.module(image), network.eval()(image))


@pytest.mark.slow
def test_heads_that_cannot_be_built_are_refused_in_one_sentence(tmp_path: Path) -> None:
    network = models.resnet18()
    network.fc = torch.nn.Sequential(torch.nn.Linear(512, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))  # type: ignore[assignment]
    torch.save(network.state_dict(), tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"a head of 2 layers \(fc.0, fc.2\) in place of 'fc'.*file.py:function"):
        saywhy.load("torchvision:resnet18", weights=tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match="do not fit ResNet"):
        saywhy.load("torchvision:resnet34", weights=two_classes(tmp_path)[1])
    with pytest.raises(InputError, match="has 2 classes, and 3 labels were given"):
        saywhy.load("torchvision:resnet18", weights=two_classes(tmp_path)[1], labels=["a", "b", "c"])


@pytest.mark.slow
def test_a_bare_network_takes_the_preprocessing_that_it_carries(tmp_path: Path) -> None:
    network, _ = two_classes(tmp_path)
    preset = models.ResNet18_Weights.DEFAULT
    with pytest.raises(InputError, match=r"torchvision's resnet18.*saywhy.load\(network, preprocess=.*'resnet18'\)"):
        saywhy.explain(network, noise(300, 200))
    given = saywhy.load(network, preprocess=preset)
    network.weights = preset
    e = saywhy.explain(network, noise(300, 200))
    assert e.images[0].crop_box == pytest.approx(saywhy.explain(given, noise(300, 200)).images[0].crop_box)
    assert given.preprocess is not None
    torch.testing.assert_close(given.preprocess(noise(300, 200))[0], preset.transforms()(noise(300, 200)))


@pytest.mark.parametrize("name", ["transforms", "preprocess"])
def test_function_on_a_network_is_not_its_preprocessing(name: str) -> None:
    """``forward`` may call it, as in torchvision's own documentation: the image would be preprocessed twice."""

    class Predictor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = models.squeezenet1_1(num_classes=2)
            setattr(self, name, models.SqueezeNet1_1_Weights.DEFAULT.transforms())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(getattr(self, name)(x))

    with pytest.raises(InputError, match="Add one line"):
        saywhy.explain(Predictor().eval(), noise(300, 200))


@pytest.mark.slow
def test_an_enum_of_weights_on_a_network_gives_labels_where_the_head_fits() -> None:
    own, other = models.squeezenet1_1(), models.squeezenet1_1(num_classes=5)
    for network in (own, other):
        network.weights = models.SqueezeNet1_1_Weights.DEFAULT
    assert (saywhy.load(own).labels or ())[282] == "tiger cat"
    assert saywhy.load(other).labels is None
