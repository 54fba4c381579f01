"""What another package brings is used as ours is: a real package, installed by pip, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parent / "plugin_package"

pytestmark = pytest.mark.slow

USED = """
import json, torch, saywhy
from saywhy.targets.expression import parse_target
from saywhy.datasets.load import open_dataset
from saywhy.methods import METHODS
from saywhy.tasks.registry import find_task

own = list(METHODS)
model = saywhy.load("example:warmth")
data = open_dataset("example:3")
image = data[1].open()
e = saywhy.explain(model, image, parse_target("margin", model.labels), ["brightness", "smooth-brightness"], "features")
found = saywhy.metrics.measure(e, "peak", method="brightness", floor=0.25)["peak"]
print(json.dumps({
    "model": model.name,
    "images": len(data),
    "target": e.targets,
    "score": e.scores.tolist(),
    "methods": e.methods,
    "map": bool((e["brightness", "features"] == 1).all()),
    "peak": found.values.tolist(),
    "paper": METHODS["brightness"].paper,
    "before": "brightness" in own,
    "task": find_task("naming").function(model, image),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package, from this machine alone."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "saywhy_plugin_example.py"):
        (source / name).write_bytes((PACKAGE / name).read_bytes())  # a build leaves nothing in the tree
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True, text=True)
    return folder


@pytest.fixture
def run(installed: Path) -> Callable[..., str]:
    """Runs Python in a fresh process that sees the package."""

    def ran(*words: str) -> str:
        path = os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "300", "TERM": "dumb"}
        return subprocess.run(
            [sys.executable, *words], env=env, check=True, capture_output=True, text=True, cwd=installed
        ).stdout

    return ran


def test_plugin_entry_points_are_usable_from_python(run: Callable[..., str]) -> None:
    found: dict[str, Any] = json.loads(run("-c", USED))
    assert found == {
        "model": "example:warmth",
        "images": 3,
        "target": [["margin"]],
        "score": [[pytest.approx(abs(2 * 64 / 256 - 1))]],
        "methods": ["brightness", "smooth-brightness"],
        "map": True,
        "peak": [[1.0]],
        "paper": "nobody, 2020",
        "before": False,
        "task": "cold",
    }


LISTS = {
    "methods": "  brightness",
    "metrics": "peak",
    "targets": "margin",
    "models": "example:NAME",
    "datasets": "example:COUNT",
    "tasks": "naming",
}
"""Commands, and how the line begins that the package adds."""

JSON_LISTS = {"methods": "brightness", "models": "example", "datasets": "example", "tasks": "naming"}
"""Commands, and the name of what the package adds."""

LISTED = """
import json, sys
from typer.testing import CliRunner
from saywhy.cli import app
print(json.dumps({command: CliRunner().invoke(app, command.split()).output for command in sys.argv[1:]}))
"""


def test_command_line_lists_plugin_entries(run: Callable[..., str]) -> None:
    shown = json.loads(run("-c", LISTED, *LISTS))
    for command, begins in LISTS.items():
        assert any(line.startswith(begins) for line in shown[command].splitlines()), command
    assert any(line.startswith("saywhy_plugin_example.mean_peak") for line in shown["metrics"].splitlines())


def test_json_lists_have_plugin_entries(run: Callable[..., str]) -> None:
    shown = json.loads(run("-c", LISTED, *(f"{command} --json" for command in JSON_LISTS)))
    for command, name in JSON_LISTS.items():
        assert name in {entry["name"] for entry in json.loads(shown[f"{command} --json"])}, command


def test_explain_command_uses_plugin_entries(run: Callable[..., str], tmp_path: Path) -> None:
    code = "from saywhy_plugin_example import Squares; import sys; Squares('1')[0].open().save(sys.argv[1])"
    run("-c", code, str(tmp_path / "a.png"))
    out = tmp_path / "a.npz"
    words = ("--model", "example:warmth", "--target", "margin", "--method", "brightness", "--with", "factor=2")
    run("-m", "saywhy", "explain", str(tmp_path / "a.png"), *words, "--layer", "features", "-o", str(out))
    assert out.is_file()
