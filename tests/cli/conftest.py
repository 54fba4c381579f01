"""A model in a file, images, and the command line run in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from saywhy.cli import app

NETWORK = """
import torch
from torch import nn

labels = ["cat", "dog", "tiger cat", "well-known mug"]
input_size = 32

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.features = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.features(torch.relu(self.stem(x))))
        return self.fc((x ** 2).mean((2, 3)) + x.mean((2, 3)))

def network():
    return Net()
"""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run() -> Callable[..., Ran]:
    """Runs the command line with these words; whatever happens, no traceback and no control codes."""

    def call(*words: object) -> Ran:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        for text in (result.stdout, result.stderr):
            assert "Traceback" not in text
            assert "\x1b" not in text
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a model and three images, one of them deeper."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETWORK)
    generator = np.random.default_rng(0)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name, shape in (("a.png", (40, 60, 3)), ("b.jpg", (50, 50, 3)), ("deep/a.png", (64, 32, 3))):
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image called scene.png, of noise."""
    file = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(file)
    return file
