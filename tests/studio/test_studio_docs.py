"""The client example of the docs runs against a studio; the variables that it names are those of the settings."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saywhy.studio.settings import PREFIX, StudioSettings

TEXT = (Path(__file__).parents[2] / "docs" / "studio.md").read_text(encoding="utf-8")


def test_the_client_example_runs(address, tmp_path, monkeypatch, capsys):
    pytest.importorskip("httpx")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save("photo.png")
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(code.replace("http://127.0.0.1:8642", address).replace('"rise"', '"hirescam"'), names)
    assert capsys.readouterr().out == "done ['dog - bird', 'dog - bird']\n"
    assert names["page"].startswith(b"<!doctype html>")


def test_every_variable_and_its_default_is_documented():
    for one in fields(StudioSettings):
        assert PREFIX + one.name.upper() in TEXT
        if type(one.default) is int:
            assert f"{one.default:,}" in TEXT or str(one.default) in TEXT
