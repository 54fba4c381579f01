"""timm's models: preprocessing and labels as timm's own."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saywhy
from saywhy.errors import ModelError, WeightsError
from saywhy.models.preprocess import MeasuredPreprocess, Preprocess

timm = pytest.importorskip("timm")
from timm.data import create_transform, resolve_model_data_config  # noqa: E402  after it is known to be there

from saywhy.models.timm import preprocess_of_timm  # noqa: E402


class Configured(torch.nn.Module):
    """A model with the attributes from which timm resolves its preprocessing."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.pretrained_cfg = {
            "input_size": (3, 96, 96), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center",
            "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), **config,
        }  # fmt: skip


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(320, 240), (200, 301), (96, 96), (60, 150)])
@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, Preprocess),
        ({"interpolation": "bilinear", "crop_pct": 0.875}, Preprocess),
        ({"crop_pct": 1.0}, Preprocess),
        ({"crop_mode": "squash"}, Preprocess),
        ({"crop_mode": "squash", "input_size": (3, 96, 64)}, Preprocess),
        ({"input_size": (3, 96, 64)}, MeasuredPreprocess),
        ({"input_size": (3, 64, 96), "crop_pct": 1.0}, MeasuredPreprocess),
        ({"crop_mode": "border"}, MeasuredPreprocess),
        ({"interpolation": "lanczos"}, MeasuredPreprocess),
    ],
)
def test_preprocessing_equals_timm_transforms(config: Any, kind: type, size: tuple[int, int]) -> None:
    module = Configured(**config)
    theirs = create_transform(**resolve_model_data_config(module), is_training=False)
    ours = preprocess_of_timm(module)
    assert isinstance(ours, kind)
    tensor, crop_box = ours(noise(*size))
    torch.testing.assert_close(tensor, theirs(noise(*size)), rtol=0, atol=1e-5)
    _, measured = MeasuredPreprocess(theirs)(noise(*size))
    assert np.abs(np.subtract(crop_box, measured)).max() < 1


def test_random_weights_are_loaded() -> None:
    model = saywhy.load("timm:resnet10t", weights="random")
    assert model.name == "timm:resnet10t"
    assert len(model.labels or ()) == 1000
    assert "tiger cat" in (model.labels or ())
    assert not model.module.training
    e = saywhy.explain(model, np.zeros((300, 300, 3), np.uint8), target="tiger cat", layer="layer2", relu=False)
    assert e.classes.tolist() == [[282]]


def test_greyscale_networks_use_measured_preprocessing() -> None:
    assert isinstance(
        preprocess_of_timm(Configured(input_size=(1, 28, 28), mean=(0.5,), std=(0.5,))), MeasuredPreprocess
    )


@pytest.mark.parametrize("error", [RuntimeError("no network\nand more"), OSError("no network"), ValueError("")])
def test_failed_download_raises_and_names_random_weights(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match=r"timm:resnet10t could not be downloaded.*weights='random'") as caught:
        saywhy.load("timm:resnet10t")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="timm cannot build 'resnet10t'"):
        saywhy.load("timm:resnet10t", weights="random")


@pytest.mark.slow
def test_a_bare_timm_network_brings_its_preprocessing_and_a_checkpoint_its_head(tmp_path):
    network = timm.create_model("resnet10t", pretrained=False, num_classes=2)
    torch.save(network.state_dict(), tmp_path / "two.pth")
    model = saywhy.load(network)
    expected = create_transform(**resolve_model_data_config(network), is_training=False)(noise(320, 240))
    torch.testing.assert_close(model.preprocess(noise(320, 240))[0], expected, rtol=0, atol=1e-5)
    assert model.labels is None
    built = saywhy.load("timm:resnet10t", weights=tmp_path / "two.pth", labels=["cat", "dog"])
    image = torch.rand(1, 3, 96, 96)
    assert torch.equal(built.module(image), network.eval()(image))
