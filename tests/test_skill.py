"""The commands and the code of the agent skill run, in a folder with the files of the examples."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docs.examples import prepare
from saywhy.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "skills" / "saywhy" / "SKILL.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("skill") / "examples"
    prepare(made)
    return made


def test_head_names_and_describes_the_skill():
    assert re.match(r"---\nname: saywhy\ndescription: .{100,}\n---\n", TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for block in blocks("sh") for line in block.splitlines()])
@pytest.mark.filterwarnings("ignore::saywhy.errors.SaywhyWarning")
def test_command_of_the_skill_runs(command, folder, monkeypatch):
    program, *words = shlex.split(command)
    assert program == "saywhy"
    monkeypatch.chdir(folder)
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output


@pytest.mark.slow
def test_code_of_the_skill_runs(folder):
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dog" in done.stdout
