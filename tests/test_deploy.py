"""What is needed to deploy the studio: the container names files, settings and paths that exist."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from saywhy.studio.settings import PREFIX, StudioSettings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


def test_the_container_copies_what_is_there_and_all_that_the_build_needs():
    copied = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "src"} <= set(copied)


def test_the_container_has_settings_of_the_studio_a_health_check_and_no_root():
    named = set(re.findall(rf"{PREFIX}(\w+)=", DOCKERFILE.partition("\nFROM")[2]))
    assert named == {"HOST", "PORT", "PUBLIC"}
    assert named <= {one.name.upper() for one in fields(StudioSettings)}
    assert re.search(r"^USER (?!root)", DOCKERFILE, re.MULTILINE)
    assert "/healthz" in DOCKERFILE.partition("HEALTHCHECK")[2]
    environment = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE.partition("\nENV ")[2].partition("\n")[0]))
    settings = StudioSettings.from_environment(environment)
    assert (settings.public, len(settings.token or "") >= 16) == (True, True)


@pytest.mark.slow
def test_the_entry_of_a_gradio_space_makes_an_app():
    pytest.importorskip("gradio")
    done = subprocess.run(
        [sys.executable, "-c", "import app; print(type(app.demo).__name__)"],
        cwd=ROOT / "deploy",
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "Blocks", done.stderr[-2000:]
