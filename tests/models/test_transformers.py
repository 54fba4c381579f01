"""Image classifiers of transformers, saved to a folder and loaded from it: labels, geometry, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saywhy
from saywhy.errors import ModelError, WeightsError

transformers = pytest.importorskip("transformers")

LABELS = {0: "cat", 1: "dog", 2: "bird"}
SMALL = {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def vit() -> Any:
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        **SMALL,
    )
    return transformers.ViTForImageClassification(config)


def convnext() -> Any:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], image_size=64, **SMALL)
    return transformers.ConvNextForImageClassification(config)


def resnet() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **SMALL
    )
    return transformers.ResNetForImageClassification(config)


PROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}},
    "convnext": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}, "crop_pct": 0.875},
    "resnet": {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 72},
        "crop_size": {"height": 64, "width": 64}, "do_center_crop": True,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One saved model with its processor for each architecture."""
    found = {}
    for name, build in (("vit", vit), ("convnext", convnext), ("resnet", resnet)):
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp(name)
        build().save_pretrained(found[name])
        about = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": True, **PROCESSORS[name]}
        (found[name] / "preprocessor_config.json").write_text(json.dumps(about))
    return found


def documented_crop_box(name: str, width: int, height: int) -> tuple[float, ...]:
    """The crop boxes that the processors are documented to have, in pixels of the original."""
    if name == "vit":
        return (0, 0, width, height)  # squashed
    share = 0.875 if name == "convnext" else 64 / 72
    side = min(width, height) * share
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


@pytest.mark.parametrize("size", [(200, 120), (90, 150)])
@pytest.mark.parametrize("name", ["vit", "convnext", "resnet"])
def test_folder_gives_labels_geometry_and_scores(folders: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    model = saywhy.load(f"hf:{folders[name]}")
    assert model.labels == ("cat", "dog", "bird")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    e = saywhy.explain(model, image, target="dog", relu=False)
    assert e.classes.tolist() == [[1]]
    assert e.input_size == ((32, 32) if name == "vit" else (64, 64))
    # The processors round the resized side to whole pixels of their own.
    assert np.abs(np.subtract(e.images[0].crop_box, documented_crop_box(name, *size))).max() < 0.02 * max(size)
    processor = transformers.AutoImageProcessor.from_pretrained(folders[name])
    theirs = processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(e.scores, model.module(theirs).logits[:, 1:2])


def test_transformers_network_is_explained_without_loading() -> None:
    network = vit().eval()
    e = saywhy.explain(network, {"pixel_values": torch.rand(2, 3, 32, 32)}, target="bird", relu=False)
    assert e.targets == [["bird"], ["bird"]]


def test_random_weights_are_loaded(folders: dict[str, Path]) -> None:
    model = saywhy.load(f"hf:{folders['resnet']}", weights="random")
    assert model.digest() != saywhy.load(f"hf:{folders['resnet']}").digest()


def test_folder_without_weights_raises(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((folders["vit"] / file).read_bytes())
    with pytest.raises(WeightsError, match="could not be loaded"):
        saywhy.load(f"hf:{tmp_path}")


def test_pickled_weights_are_not_read(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((folders["vit"] / file).read_bytes())
    torch.save(vit().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        saywhy.load(f"hf:{tmp_path}")


def test_a_backbone_without_a_head_is_not_explained(folders: dict[str, Path], tmp_path: Path) -> None:
    transformers.ViTModel(vit().config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes((folders["vit"] / "preprocessor_config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"no trained image classifier.*classifier"):
        saywhy.load(f"hf:{tmp_path}")


def test_folder_without_processor_raises(tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no image processor.*preprocess="):
        saywhy.load(f"hf:{tmp_path}")


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "no-such-thing"}', '{"model_type": "bert"}'])
def test_folders_without_classifier_raise(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"hf:") as caught:
        saywhy.load(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_hub_name_while_offline_raises() -> None:
    with pytest.raises(ModelError, match="hf:nobody/nothing") as caught:
        saywhy.load("hf:nobody/nothing")
    assert "save_pretrained" in str(caught.value)


@pytest.mark.parametrize("weights", [None, "random"])
@pytest.mark.parametrize("part", ["AutoConfig", "AutoModelForImageClassification", "AutoImageProcessor"])
def test_code_in_a_folder_is_not_run_whatever_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, weights: str | None
) -> None:
    vit().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS["vit"]))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    file = tmp_path / ("preprocessor_config.json" if part == "AutoImageProcessor" else "config.json")
    changed = {**json.loads(file.read_text()), "auto_map": {part: "evil.Evil"}, "model_type": "evil"}
    if part == "AutoImageProcessor":
        changed |= {"image_processor_type": "Evil"}
    file.write_text(json.dumps(changed))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises((ModelError, WeightsError)):
        saywhy.load(f"hf:{tmp_path}", weights)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_bare_network_from_a_folder_finds_the_processor_beside_it(folders: dict[str, Path]) -> None:
    network = transformers.ViTForImageClassification.from_pretrained(folders["vit"])
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    ours, theirs = (saywhy.explain(one, image, "dog") for one in (network, f"hf:{folders['vit']}"))
    assert torch.equal(ours.maps, theirs.maps)
    assert ours.images[0].crop_box == theirs.images[0].crop_box
