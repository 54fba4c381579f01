"""The commands and the code of the README run, on drawn scenes.

Networks with pretrained weights are replaced by smaller ones with random weights, because nothing can be downloaded.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from docs.examples import prepare
from saywhy.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^saywhy (.+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)

SMALLER = {"resnet50": "resnet18", "vit_small_patch16_224": "test_vit"}

ELSEWHERE = {
    "check": "the code of the README checks a map",
    "benchmark": "tests/cli/test_benchmark_command.py runs it on a folder in VOC's layout",
    "fix": "tests/cli/test_fix_command.py runs it with hints",
    "studio": "tests/studio serves it to a browser",
    "count": "tests/cli/test_count_command.py runs it with a counter trained there",
}
"""Commands whose files the README only names."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::saywhy.errors.SaywhyWarning")]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A folder with the files that the README names."""
    made = tmp_path_factory.mktemp("readme") / "examples"
    prepare(made)
    Image.open(made / "photo.png").convert("RGB").save(made / "photo.jpg", quality=95)
    (made / "images").rename(made / "photos")
    shutil.copy(made / "two.safetensors", made / "two.pth")
    (made / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    return made


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.split()[0] not in ELSEWHERE])
def test_command_of_the_readme_runs(line, examples, monkeypatch):
    monkeypatch.chdir(examples)
    for name, smaller in SMALLER.items():
        line = line.replace(name, smaller)
    words = shlex.split(line)
    if "--weights" not in words and re.search(r"(torchvision|timm):", line):
        words += ["--weights", "random"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output


def test_code_of_the_readme_runs(examples, monkeypatch):
    monkeypatch.chdir(examples)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["e"].maps.shape == (1, 2, 7, 7)
    assert (examples / "why.html").is_file()
    assert (examples / "check.html").is_file()
