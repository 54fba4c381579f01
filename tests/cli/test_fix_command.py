"""``saywhy fix``: the verdict on the terminal, as JSON and as a page; Ctrl-C; and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planted_images import planted
from saywhy.fixing.train import Trainer
from saywhy.training.loop import Tell

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

Run = Callable[..., Any]

NETWORK = """
import torch
from planted_images import Network

input_size, mean, std = 24, [0.5] * 3, [0.25] * 3

def network():
    return Network()
"""

QUICK = ("-m", "bars.py:network", "--epochs", 1, "--rate", 0.005, "--threads", 1)


@pytest.fixture
def bars(here: Path) -> tuple[object, ...]:
    """The planted images, their masks, and a network of them; the first words of the command."""
    (here / "bars.py").write_text(NETWORK)
    planted(here / "bars")
    return ("fix", "bars", "--hints", "bars/masks", *QUICK)


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@pytest.mark.slow
def test_prints_verdict_and_table_and_writes_the_files(run: Run, here: Path, bars: tuple[object, ...]) -> None:
    ran = run(*bars, "--with", "erm, groupdro")
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    assert said.split(":")[0] in ("grounding helped", "regularization helped", "neither")
    assert "Worst-group accuracy on shifted:" in said
    rows = [line.split()[0] for line in ran.out.splitlines() if line.strip()]
    assert all(name in rows for name in ("before", "hint", "erm", "groupdro"))
    out = here / "out" / "fix"
    assert {path.name for path in out.iterdir()} == {"fix.html", "fix.json", "fixed.safetensors", "runs"}
    for name in ("fix.html", "fix.json", "fixed.safetensors"):
        assert name in " ".join(ran.err.split())
    assert "Did the hints help?" in (out / "fix.html").read_text(encoding="utf-8")

    again = run(*bars, "--with", "erm,groupdro", "--json")
    assert again.code == 0, again.err
    record = json.loads(again.out, parse_constant=refuse)
    assert record == json.loads((out / "fix.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [one["method"] for one in record["runs"]] == ["hint", "erm", "groupdro"]
    assert record["verdict"]["text"] in said

    other = run(*bars, "--with", "erm", "--rate", 0.1)
    assert other.code == 1
    assert "belongs to a fix with other images, hints, preprocessing, weights or settings" in " ".join(
        other.err.split()
    )


@pytest.mark.slow
def test_ctrl_c_ends_with_code_130_and_what_there_is(
    run: Run, here: Path, bars: tuple[object, ...], monkeypatch
) -> None:
    plain = Trainer.run

    def stopped(self: Trainer, method: Any, seed: int, checkpoint: Path, report: Tell) -> Any:
        if method.name == "erm":
            raise KeyboardInterrupt
        return plain(self, method, seed, checkpoint, report)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", stopped)
        ran = run(*bars, "--with", "erm", "-o", "mine")
    assert ran.code == 130
    said = " ".join(ran.err.split())
    assert "Stopped by Ctrl-C during 'erm', seed 0: 1 of 2 runs are done. The same command goes on." in said
    assert "undecided" in ran.out
    assert json.loads((here / "mine" / "fix.json").read_text(encoding="utf-8"))["stopped"]
    assert (here / "mine" / "fix.html").is_file()
    ran = run(*bars, "--with", "erm", "-o", "mine")
    assert ran.code == 0
    assert json.loads((here / "mine" / "fix.json").read_text(encoding="utf-8"))["stopped"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "hnit"), "no way of fixing called 'hnit'. Did you mean 'hint'?"),
        (("--with", "emr"), "no way of fixing called 'emr'"),
        (("--layer", "featurs"), "no layer 'featurs'"),
        (("--rate", "-1"), "rate must be"),
        (("--weight", "-1"), "weight must be"),
        (("--accelerator", "abacus"), "devices of the accelerator 'abacus' are not available"),
        (("--hints", "nosuch"), "nosuch"),
    ],
)
def test_errors_are_one_sentence(run: Run, bars: tuple[object, ...], words: tuple[str, ...], says: str) -> None:
    ran = run(*bars, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_data_that_are_no_data_set(run: Run) -> None:
    for data, says in (("nosuch", "there is no file or folder 'nosuch'"), ("photos", "'photos' has one class only")):
        ran = run("fix", data, "--hints", "masks", *QUICK, "-m", "mine.py:network")
        assert ran.code == 1
        assert says in " ".join(ran.err.split())


def test_usage_errors_are_exit_code_2(run: Run) -> None:
    assert run("fix").code == 2
    assert run("fix", "bars").code == 2  # without hints
    assert run("fix", "bars", "--hints", "masks", "--batch-size", 1).code == 2
    assert run("fix", "--help").code == 0
