"""FiftyOne, Gradio and marimo; the real packages where they are installed (extra ``integrations``)."""

import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import saywhy
from saywhy.errors import InputError
from saywhy.integrations.fiftyone import add_maps, heatmap


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture
def maps() -> saywhy.Explanation:
    model = saywhy.load(network(), labels=["a", "b", "c", "d"], input_size=32)
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 256, (300, 600, 3), dtype=np.uint8)) for _ in range(2)]
    return saywhy.explain(model, images, "b", relu=False)


# --- FiftyOne ----------------------------------------------------------------------------------------------------


class Sample(dict):  # type: ignore[type-arg]
    """What FiftyOne's documentation says of a sample: fields by key, and ``save``."""

    saved = 0

    def save(self) -> None:
        self.saved += 1


class Heatmap(dict):  # type: ignore[type-arg]
    """A label: ``map`` (a 2D array), ``range``, and attributes by key."""


@pytest.fixture
def fiftyone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real package, or its documented label where it is not installed."""
    try:
        import fiftyone as fo
    except ImportError:
        fo = ModuleType("fiftyone")
        fo.Heatmap = lambda map, range: Heatmap(map=map, range=range)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fiftyone", fo)
    return fo


def test_a_heatmap_covers_the_image(maps: saywhy.Explanation) -> None:
    values, low, high = heatmap(maps, 0, 0, "gradcam", maps.layers[0])
    assert values.shape == (128, 256)
    assert values.dtype == np.float32
    assert low <= values.min()
    assert values.max() <= high
    assert np.isfinite(values).all()


def test_samples_get_a_heatmap_with_attributes(maps: saywhy.Explanation, fiftyone: Any) -> None:
    samples = [Sample(), Sample()]
    add_maps(samples, maps)
    assert [one.saved for one in samples] == [1, 1]
    assert (samples[1]["why"]["target"], samples[1]["why"]["method"]) == ("b", "gradcam")
    with pytest.raises(InputError, match="there are 1 samples and 2 explained images"):
        add_maps(samples[:1], maps)


# --- Gradio ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of Gradio's own server
def test_gradio_app_explains_an_image(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    client = pytest.importorskip("gradio_client")
    from saywhy.integrations.gradio import app

    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "red.png")
    blocks = app(saywhy.load(network(), labels=["a", "b", "c", "d"], input_size=32))
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        caller = client.Client(url, verbose=False)
        page = caller.predict(client.handle_file(tmp_path / "red.png"), "b", "gradcam", api_name="/explain")
        assert page.startswith("<iframe")
        with pytest.raises(Exception, match="no class 'zebra'"):
            caller.predict(client.handle_file(tmp_path / "red.png"), "zebra", "gradcam", api_name="/explain")
    finally:
        blocks.close()
        gc.collect()  # its event loops are not closed, which warns in whatever test they are collected


# --- marimo ------------------------------------------------------------------------------------------------------


NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    import saywhy, torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    saywhy.explain(net, torch.rand(1, 3, 16, 16), 0, relu=False)
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.mark.slow
def test_marimo_shows_the_viewer(tmp_path: Path) -> None:
    pytest.importorskip("marimo")
    (tmp_path / "why.py").write_text(NOTEBOOK, encoding="utf-8")
    command = [sys.executable, "-m", "marimo", "export", "html", "why.py", "-o", "why.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "saywhy-data" in (tmp_path / "why.html").read_text(encoding="utf-8")


def test_the_html_of_an_explanation_is_one_frame(maps: saywhy.Explanation) -> None:
    assert SimpleNamespace(html=maps._repr_html_()).html.startswith("<iframe")
