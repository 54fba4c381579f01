"""Hostile labels, questions and file names: no control codes on the terminal, no markup, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import saywhy
from saywhy.cli import screen
from saywhy.terminal import printable

LABELS = [
    "[/red]",
    "[bold]loud[/bold] [link=file:///etc/passwd]x[/link]",
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGk=\x07",
    "\x9b2J",
    "two\nlines",
    "\u202egpj.exe",
    "lone \ud800 surrogate",
    "",
    "$\\frac{$",
    "</script><script>alert(1)</script>",
]
UNSAFE = ("\x1b", "\x07", "\x9b", "\u202e", "\ud800")

MODEL = """
from mine import Net
from torch import nn
import torch

labels = LABELS
input_size = 32

def network():
    net = Net()
    net.fc = nn.Linear(6, len(labels))
    return net
"""


@pytest.fixture
def hostile(here: Path) -> str:
    """A model with hostile labels, and an image with a hostile name."""
    (here / "hostile.py").write_text(MODEL.replace("LABELS", ascii(LABELS)))
    Image.new("RGB", (40, 30), "red").save(here / "[bold]a\x1b[31m\u202e.png")
    return "hostile.py:network"


def assert_plain(text: str) -> None:
    for unsafe in UNSAFE:
        assert unsafe not in text


def test_hostile_labels_are_escaped_in_tables(run: Callable[..., Any], hostile: str, here: Path) -> None:
    image = "[bold]a\x1b[31m\u202e.png"
    ran = run("explain", image, "-m", hostile, "--top", len(LABELS), "--with", "relu=false", "-o", "why.html")
    assert ran.code == 0, ran.err
    assert_plain(ran.out + ran.err)
    for label in (
        "[/red]",
        "\\x1b[31mred\\x1b[0m",
        "\\x9b2J",
        "two\\nlines",
        "\\u202egpj.exe",
        "lone \\ud800 surrogate",
    ):
        assert label in ran.out
    assert "[bold]a\\x1b[31m\\u202e.png" in ran.out
    page = (here / "why.html").read_text()
    assert "<script>alert" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize("suffix", ["png", "npz"])
def test_hostile_labels_are_saved(run: Callable[..., Any], hostile: str, suffix: str) -> None:
    ran = run("explain", "photos/a.png", "-m", hostile, "--top", len(LABELS), "-o", f"why.{suffix}")
    assert ran.code == 0, ran.err
    assert_plain(ran.out + ran.err)


def test_json_has_the_labels_and_no_control_codes(run: Callable[..., Any], hostile: str) -> None:
    ran = run("explain", "photos/a.png", "-m", hostile, "--top", len(LABELS), "--json")
    assert_plain(ran.out)
    assert {row["target"] for row in json.loads(ran.out)[0]["maps"]} == set(LABELS)


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "\x1b]0;title\x07.png"),
        ("explain", "photos/a.png", "-m", "hostile.py:network", "-t", "\x1b[31mred\x1b[0m x"),
        ("explain", "photos/a.png", "-m", "\x1b[31m:[/red]"),
        ("explain", "photos/a.png", "-o", "\x1b[31m.pdf"),
        ("ask", "photos/a.png", "[/red] \x1b[31m what is this"),
        ("benchmark", "folder:\x1b[31m[/red]"),
        ("explain", "photos/a.png", "--with", "[/red]=\x1b[31m"),
        ("explain", "a" * 5000 + ".png"),
    ],
)
def test_hostile_arguments_are_escaped_in_messages(
    run: Callable[..., Any], hostile: str, words: tuple[str, ...]
) -> None:
    ran = run(*words)
    assert ran.code in (0, 1, 2)
    assert_plain(ran.out + ran.err)


def test_every_output_of_the_screen_escapes(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in ("results", "notes"):
        monkeypatch.setattr(screen, name, Console(force_terminal=False, width=1000, highlight=False))
    for label in LABELS:
        for out in (screen.say, screen.failure, screen.note, screen.written, screen.say_json):
            out(label)  # type: ignore[operator]
        made = screen.table(label, label, whole=(label,))
        made.add_row(label, label)
        screen.show(made)
        with screen.Steps(1) as steps:
            steps.now(label)
    assert_plain(capsys.readouterr().out)


def test_messages_and_repr_escape_control_codes(images: Callable[..., Any], tiny: Callable[..., Any]) -> None:
    assert "\x1b" not in str(saywhy.errors.InputError("\x1b[31m"))
    model = saywhy.load(tiny(), labels=["\x1b[31mred", "a", "b", "c"])
    assert "\\x1b[31mred" in repr(saywhy.explain(model, images(1), 0, relu=False))
    assert printable("Σ × 中文 😀 é") == "Σ × 中文 😀 é"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "saywhy", "models"], stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ
        )
    assert ran.returncode == 1
    assert ran.stderr.strip() == "saywhy: a file or the output cannot be read or written: No space left on device."
