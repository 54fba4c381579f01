"""``load``: its arguments, what it changes, and its error messages."""

import builtins
import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import saywhy
from saywhy.errors import InputError, MissingExtra, ModelError, SaywhyError, WeightsError

Build = Callable[..., Any]


def assert_refused(name: Any, *words: str, error: type[Exception] = ModelError, **settings: Any) -> None:
    with pytest.raises(SaywhyError) as caught:
        saywhy.load(name, **settings)
    assert type(caught.value) is error, repr(caught.value)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvison:resnet50", ("'torchvision:resnet50'",)),
        ("torchvision:resnet5", ("torchvision has no classifier 'resnet5'", "'torchvision:resnet50'")),
        ("torchvision:fasterrcnn_resnet50_fpn", ("no classifier",)),
        ("torchvision:", ("torchvision:NAME",)),
        ("toybox:clasifier", ("'toybox:classifier'",)),
        ("timm:vit_smal_patch16_224", ("'timm:vit_small_patch16_224'",)),
        ("resnet50", ("'torchvision:resnet50'",)),
        ("weights/resnet50.safetensors", ("weights file", "weights=")),
        ("model.pth", ("weights file", "weights=")),
        ("", ("no model ''", "torchvision:", "timm:", "hf:", "toybox:")),
        ("nothing.py:build", ("no file 'nothing.py'",)),
        ("hf:./no/such/folder", ("no folder './no/such/folder'",)),
        (7, ("got int",)),
        (None, ("got NoneType",)),
    ],
)
def test_unknown_models_raise_with_nearest_name(name: Any, words: tuple[str, ...]) -> None:
    assert_refused(name, *words, weights="random")


@pytest.mark.parametrize(("library", "extra"), [("timm", "timm"), ("transformers", "hf")])
def test_missing_library_raises_missing_extra(library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert_refused(f"{extra}:whatever", library, f"pip install 'saywhy[{extra}]'", error=MissingExtra)


def test_broken_library_raises_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *args: Any) -> Any:
        if name == "timm":
            raise ImportError("libsomething.so.3: cannot open shared object file")
        return real(name, *args)

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    assert_refused("timm:resnet18", "libsomething.so.3", "pip install", error=MissingExtra)


def test_bare_network_is_not_changed(tiny: Build) -> None:
    network = tiny().train()
    model = saywhy.load(network)
    assert model.module is network
    assert network.training
    assert model.name == "TinyNetwork"
    assert model.labels is None
    assert model.preprocess is None


def test_loading_a_model_again_leaves_the_first_unchanged(tiny: Build) -> None:
    first = saywhy.load(tiny(), labels=["a", "b", "c", "d"])
    second = saywhy.load(first, labels=["e", "f", "g", "h"], multilabel=True, output=0)
    assert first.labels == ("a", "b", "c", "d")
    assert not first.multilabel
    assert second.labels == ("e", "f", "g", "h")
    assert second.module is first.module


@pytest.mark.parametrize("size", [16, (16, 16), (16, 24)])
def test_input_size_sets_the_resize(tiny: Build, size: Any) -> None:
    model = saywhy.load(tiny(), input_size=size)
    e = saywhy.explain(model, np.zeros((40, 30, 3), np.uint8), target=0, relu=False)
    assert e.input_size == (16, 24 if size == (16, 24) else 16)


def test_mean_and_std_alone_leave_the_size(tiny: Build) -> None:
    model = saywhy.load(tiny(), mean=(0, 0, 0), std=(1, 1, 1))
    tensor, crop_box = model.preprocess(saywhy.images.read_image(np.full((4, 6, 3), 255, np.uint8)))
    assert torch.equal(tensor, torch.ones(3, 4, 6))
    assert crop_box == (0, 0, 6, 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_size": 0}, ("input_size", "0")),
        ({"input_size": (3, 4, 5)}, ("input_size", "(3, 4, 5)")),
        ({"input_size": "224"}, ("input_size", "'224'")),
        ({"input_size": 22.5}, ("input_size", "22.5")),
        ({"mean": (0.5, 0.5)}, ("mean must be three numbers",)),
        ({"std": 0.5}, ("std must be three numbers", "0.5")),
        ({"input_size": True}, ("input_size must be one side or (height, width) in pixels", "True")),
        ({"input_size": (32, 0)}, ("input_size", "(height, width)", "(32, 0)")),
        ({"mean": (math.nan, 0, 0)}, ("mean must be three numbers", "nan")),
        ({"std": (0.5, 0.0, 0.5)}, ("std must be three numbers above 0", "0.0")),
        ({"std": (-1, 1, 1)}, ("std must be three numbers above 0", "-1")),
        ({"std": (1, math.inf, 1)}, ("std must be three numbers above 0", "inf")),
        ({"multilabel": "yes"}, ("multilabel must be true, false or none", "'yes'")),
        ({"multilabel": 1}, ("multilabel must be true, false or none", "1")),
        ({"mean": "abc"}, ("mean must be three numbers", "'abc'")),
        ({"labels": "cat"}, ("labels must be a list", "'cat'")),
        (
            {"labels": "classes.txt"},
            ("labels must be a list of names, or the Path of a file: labels=Path('classes.txt')",),
        ),
        ({"labels": 7}, ("labels must be a list", "7")),
        ({"preprocess": 7}, ("preprocess must be a function", "int")),
    ],
)
def test_invalid_settings_raise(tiny: Build, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    assert_refused(tiny(), *words, error=InputError, **settings)


@pytest.mark.parametrize("size", [np.int64(8), torch.tensor(8), (8, np.int32(8)), np.array([8, 8])])
def test_input_size_may_be_of_another_library(tiny: Build, size: Any) -> None:
    assert saywhy.load(tiny(), input_size=size).preprocess == saywhy.load(tiny(), input_size=8).preprocess


def test_mean_std_and_multilabel_may_be_of_another_library(tiny: Build) -> None:
    means, deviations = np.array([0.5, 0.25, 0.125], np.float32), torch.tensor([1.0, 2.0, 4.0])
    model = saywhy.load(tiny(), mean=means, std=deviations, multilabel=np.bool_(True))
    assert (model.preprocess.mean, model.preprocess.std) == ((0.5, 0.25, 0.125), (1.0, 2.0, 4.0))
    assert model.multilabel is True


def test_failing_preprocess_function_raises(tiny: Build) -> None:
    def fail(_: Any) -> None:
        raise IndexError("no such channel")

    model = saywhy.load(tiny(), preprocess=fail)
    with pytest.raises(InputError, match=r"preprocessing failed.*IndexError.*no such channel"):
        saywhy.explain(model, np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    "given", [torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), np.zeros((3, 4, 4))]
)
def test_preprocess_function_of_wrong_result_raises(tiny: Build, given: Any) -> None:
    model = saywhy.load(tiny(), preprocess=lambda _: given)
    with pytest.raises(InputError, match=r"float tensor \[channel, height, width\], got"):
        saywhy.explain(model, np.zeros((4, 4, 3), np.uint8))


def test_missing_labels_are_replaced_by_class_numbers(tiny: Build) -> None:
    model = saywhy.load(tiny(), labels=["only"])
    e = saywhy.explain(model, torch.rand(1, 3, 16, 16), target=[0, 3], relu=False)
    assert e.targets == [["only", "class 3"]]


# --- the digest --------------------------------------------------------------------------------------------------


def test_digest_depends_on_weights_only(tiny: Build) -> None:
    assert saywhy.load(tiny()).digest() == saywhy.load(tiny()).digest()
    assert saywhy.load(tiny()).digest() != saywhy.load(tiny(seed=1)).digest()
    assert saywhy.load(tiny()).digest() != saywhy.load(tiny(dtype=torch.float64)).digest()
    assert len(bytes.fromhex(saywhy.load(tiny()).digest())) == hashlib.sha256().digest_size


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.fc.weight.data.add_(1e-6),
        lambda n: n.fc.weight.data.copy_(n.fc.weight.data.flip(0).clone()),
        lambda n: setattr(n.fc, "weight", nn.Parameter(n.fc.weight.detach() * 2)),
        lambda n: n.stem[1].running_mean.add_(1),
        lambda n: n.fc.weight.detach().numpy().fill(3),
        lambda n: n.load_state_dict(type(n).build(seed=4).state_dict()),
    ],
    ids=["data", "rows of data", "new parameter", "buffer", "numpy", "state dict"],
)
def test_the_digest_changes_with_a_weight(tiny: Build, change: Callable[[Any], Any]) -> None:
    model = saywhy.load(tiny())
    before = model.digest()
    assert model.digest() == before
    change(model.module)
    assert model.digest() != before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_digest_accepts_every_precision(tiny: Build, dtype: torch.dtype) -> None:
    assert len(saywhy.load(tiny(dtype=dtype)).digest()) == 64


def test_digest_accepts_extra_state() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    assert len(saywhy.load(Counting(2, 2)).digest()) == 64


def test_model_path_may_be_a_path_object(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 2, 1)\n")
    assert isinstance(saywhy.load(tmp_path / "mine.py").module, nn.Conv2d)


@pytest.mark.parametrize("name", ["vqa", "captioner"])
def test_toybox_language_networks_load_shipped_and_random_weights(name):
    shipped, random = saywhy.load(f"toybox:{name}"), saywhy.load(f"toybox:{name}", weights="random")
    assert shipped.labels == random.labels
    assert shipped.digest() != random.digest()
    assert shipped.layer == "trunk.features"
    assert not shipped.module.training


def test_texts_functions_encode_questions(tmp_path):
    class ImageAndQuestion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3, padding=1)
            self.words = nn.Embedding(9, 4)

        def forward(self, image: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
            return self.features(image).mean((2, 3)) * self.words(question).mean(1)

    def read(questions):
        return torch.tensor([[len(word) for word in question.split()] for question in questions])

    model = saywhy.load(ImageAndQuestion(), input_size=32, labels=["a", "b", "c", "d"], texts={"question": read})
    Image.new("RGB", (40, 30), "red").save(tmp_path / "x.png")
    e = saywhy.explain(model, {"image": tmp_path / "x.png", "question": "is it red"}, ["a", "b"], relu=False)
    assert e.targets == [["a", "b"]]
    assert e.images[0].image.size == (40, 30)
    for wrong in (["question"], {"question": "read"}):
        with pytest.raises(saywhy.errors.InputError, match="functions by the names of arguments"):
            saywhy.load(ImageAndQuestion(), texts=wrong)


def test_language_weights_without_vocabulary_raise(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"has no vocabulary \('words'\) in its metadata"):
        saywhy.load("toybox:vqa", weights=tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        saywhy.load("toybox:vqa", weights=tmp_path / "none.safetensors")
