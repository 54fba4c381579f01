"""A model from a Python file of the user's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import saywhy
from saywhy.errors import ModelError, SaywhyError, WeightsError

NETWORK = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the user's file goes."""
    return tmp_path / "mine.py"


def assert_refused(name: str, *words: str, error: type[Exception] = ModelError, weights: object = None) -> None:
    with pytest.raises(SaywhyError) as caught:
        saywhy.load(name, weights=weights)
    assert type(caught.value) is error, repr(caught.value)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_function_of_a_file_gives_a_model(file: Path) -> None:
    file.write_text(NETWORK)
    model = saywhy.load(f"{file}:network")
    assert model.name == "mine.py:network"
    assert not model.module.training
    assert model.labels is None
    assert saywhy.explain(model, torch.rand(1, 3, 16, 16), target=0, relu=False).maps.any()


def test_the_only_function_needs_no_name(file: Path) -> None:
    file.write_text(NETWORK)
    assert saywhy.load(str(file)).name == "mine.py:network"


def test_small_images_keep_their_size_and_photos_are_cropped(file: Path) -> None:
    file.write_text(NETWORK)
    model = saywhy.load(f"{file}:network")
    assert saywhy.explain(model, np.zeros((32, 48, 3), np.uint8), target=0, relu=False).input_size == (32, 48)
    assert saywhy.explain(model, np.zeros((300, 400, 3), np.uint8), target=0, relu=False).input_size == (224, 224)


def test_labels_and_preprocessing_variables_are_read(file: Path) -> None:
    file.write_text(
        NETWORK
        + "labels = ['no', 'yes']\ninput_size = (20, 30)\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nmultilabel = True\n"
    )
    model = saywhy.load(f"{file}:network")
    assert model.labels == ("no", "yes")
    assert model.multilabel
    e = saywhy.explain(model, np.full((50, 50, 3), 255, np.uint8), target="yes", relu=False)
    assert e.input_size == (20, 30)
    assert e.targets == [["yes"]]
    tensor, _ = model.preprocess(saywhy.images.read_image(np.full((50, 50, 3), 255, np.uint8)))
    assert torch.equal(tensor, torch.ones(3, 20, 30))


def test_preprocess_function_of_the_file_is_used(file: Path) -> None:
    file.write_text(
        NETWORK + "from torchvision.transforms.functional import to_tensor, center_crop\n"
        "def preprocess(image):\n    return to_tensor(center_crop(image, [24, 24]))\n"
    )
    e = saywhy.explain(saywhy.load(f"{file}:network"), np.zeros((40, 60, 3), np.uint8), target=0, relu=False)
    assert e.input_size == (24, 24)
    assert np.allclose(e.images[0].crop_box, (18, 8, 42, 32), atol=0.5)


def test_preprocess_is_not_taken_for_the_network(file: Path) -> None:
    file.write_text(NETWORK + "def preprocess(image):\n    return image\n")
    assert saywhy.load(str(file)).name == "mine.py:network"


def test_function_may_return_a_loaded_model(file: Path) -> None:
    file.write_text(
        NETWORK + "import saywhy\ndef whole():\n    return saywhy.load(network(), labels=['a', 'b'], input_size=20)\n"
    )
    assert saywhy.load(f"{file}:whole").labels == ("a", "b")


def test_module_class_is_instantiated(file: Path) -> None:
    file.write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.c = nn.Conv2d(3, 2, 1)\n    def forward(self, x):\n        return self.c(x).mean((2, 3))\n"
    )
    assert saywhy.load(f"{file}:Net").name == "mine.py:Net"


def test_file_imports_neighbouring_modules(file: Path) -> None:
    (file.parent / "my_neighbour_of_saywhy.py").write_text(NETWORK)
    file.write_text("from my_neighbour_of_saywhy import network\ndef build():\n    return network()\n")
    assert saywhy.load(str(file)).name == "mine.py:build"
    assert saywhy.load(f"{file}:network").name == "mine.py:network"


def test_function_imports_neighbouring_modules(file: Path) -> None:
    (file.parent / "my_late_neighbour_of_saywhy.py").write_text(NETWORK)
    file.write_text("def build():\n    from my_late_neighbour_of_saywhy import network\n    return network()\n")
    assert saywhy.load(str(file)).name == "mine.py:build"


def test_files_of_the_same_name_are_distinct(tmp_path: Path) -> None:
    for folder, classes in (("a", 2), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(NETWORK.replace("4, 2)", f"4, {classes})"))
    models = [saywhy.load(f"{tmp_path / folder / 'mine.py'}:network") for folder in "ab"]
    assert [m.module[-1].out_features for m in models] == [2, 5]


def test_weights_are_loaded_into_the_network(file: Path) -> None:
    file.write_text(NETWORK)
    network = saywhy.load(str(file)).module
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    save_file(state, file.parent / "a.safetensors")
    loaded = saywhy.load(str(file), weights=file.parent / "a.safetensors").module.state_dict()
    torch.testing.assert_close(dict(loaded), state)
    save_file({"x": torch.zeros(1)}, file.parent / "b.safetensors")
    assert_refused(str(file), "do not fit", error=WeightsError, weights=file.parent / "b.safetensors")


@pytest.mark.parametrize(
    ("text", "function", "words"),
    [
        ("x = 1\n", "", ("defines 0 functions", "mine.py:NAME")),
        (NETWORK + "def other():\n    pass\n", "", ("defines 2 functions", "network", "other")),
        (NETWORK, "netwrk", ("no function 'netwrk'", "network")),
        ("x = 1\n", "build", ("no function 'build'", "none")),
        ("def build():\n    return 7\n", "build", ("must return an nn.Module", "int")),
        ("def build(size):\n    return size\n", "build", ("mine.py:build failed", "TypeError", "size", "no arguments")),
        ("def build():\n    return 1 / 0\n", "build", ("mine.py:build failed", "ZeroDivisionError")),
        ("import no_such_library\n", "build", ("fails when it is run", "ModuleNotFoundError", "no_such_library")),
        ("def build(:\n", "build", ("fails when it is run", "SyntaxError")),
        ("import sys\nsys.exit(3)\n", "build", ("fails when it is run", "SystemExit")),
    ],
    ids=["no function", "several", "misspelt", "none", "number", "argument", "fails", "import", "syntax", "exits"],
)
def test_invalid_files_raise(file: Path, text: str, function: str, words: tuple[str, ...]) -> None:
    file.write_text(text)
    assert_refused(f"{file}:{function}" if function else str(file), *words)
