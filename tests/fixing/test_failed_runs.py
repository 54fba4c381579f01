"""A run whose loss is NaN: the others go on, and the table, the page and the verdict say that it failed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from planted_images import model, planted
from saywhy.datasets.labelled import LabelledImages
from saywhy.errors import TrainingError
from saywhy.fixing.fix import fix
from saywhy.fixing.report import rows
from saywhy.fixing.train import Trainer
from saywhy.models.weights import read_weights

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

pytestmark = pytest.mark.slow

KNOWN: dict[str, Any] = {"epochs": 1, "rate": 5e-3, "layer": "features"}

REASON = "the loss of step 2 of 4 is nan. Use a lower learning rate."


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[LabelledImages, Path]:
    return planted(tmp_path_factory.mktemp("planted"))


def failing(monkeypatch, *which: tuple[str, int]) -> None:
    plain = Trainer.run

    def run(self: Trainer, method: Any, seed: int, *more: Any) -> Any:
        if (method.name, seed) in which:
            raise TrainingError(REASON)
        return plain(self, method, seed, *more)

    monkeypatch.setattr(Trainer, "run", run)


def test_a_failed_baseline_is_reported_and_left_out(images, tmp_path, monkeypatch):
    failing(monkeypatch, ("groupdro", 0))
    found = fix(model(), *images, controls=["erm", "groupdro", "spread"], out=tmp_path, **KNOWN)
    assert list(found.runs) == [("hint", 0), ("erm", 0), ("spread", 0)]
    assert found.failed == {("groupdro", 0): REASON}
    assert [d.than for d in found.verdict.differences] == ["before", "erm", "spread"]
    assert found.verdict.sentences[-1] == f"Left out: 'groupdro' failed (seed 0: {REASON[:-1]})."
    table = {row["method"]: row for row in rows(found)}
    assert list(table) == ["before", "hint", "erm", "spread", "groupdro"]
    assert table["groupdro"]["shifted"] == "failed"
    assert all(row.keys() == table["hint"].keys() for row in table.values())
    record = json.loads((tmp_path / "fix.json").read_text())
    assert record["failed"] == [{"method": "groupdro", "seed": 0, "reason": REASON}]
    page = found.save(tmp_path / "fix.html").read_text()
    assert page.count(REASON[:-1]) == 2  # the verdict, and below the table


def test_a_method_that_failed_for_a_seed_is_left_out_for_all(images, tmp_path, monkeypatch):
    failing(monkeypatch, ("erm", 1))
    found = fix(model(), *images, controls=["erm", "spread"], seeds=2, out=tmp_path, **KNOWN)
    assert [d.than for d in found.verdict.differences] == ["before", "spread"]
    assert "Left out: 'erm' failed (seed 1: the loss" in found.verdict.sentences[-1]
    table = {row["method"]: row for row in rows(found)}
    assert table["erm"]["shifted"].endswith("(1 of 2 failed)")
    assert "failed" not in table["hint"]["shifted"]


def test_seeds_for_which_the_judged_method_failed_are_named(images, tmp_path, monkeypatch):
    failing(monkeypatch, ("hint", 0))
    found = fix(model(), *images, controls=["erm"], seeds=2, out=tmp_path, **KNOWN)
    assert found.verdict.sentences[-1].startswith("Left out: 'hint' failed (seed 0: the loss")
    assert found.verdict.word in ("neither", "undecided", "regularization helped", "grounding helped")
    fixed, second = read_weights(tmp_path / "fixed.safetensors"), read_weights(tmp_path / "runs" / "hint-1.safetensors")
    assert all(torch.equal(fixed[name], second[name]) for name in fixed)


def test_a_judged_method_that_failed_has_no_verdict(images, tmp_path, monkeypatch):
    failing(monkeypatch, ("hint", 0))
    found = fix(model(), *images, controls=["erm"], out=tmp_path, **KNOWN)
    assert found.verdict is None
    assert list(found.runs) == [("erm", 0)]
    assert REASON in found.save(tmp_path / "fix.html").read_text()


def test_failed_runs_are_tried_again_and_finished_ones_are_not(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        failing(patched, ("erm", 0))
        fix(model(), *images, controls=["erm"], out=tmp_path, **KNOWN)
    trained = []
    plain = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, m, *more: (trained.append(m.name), plain(self, m, *more))[1])
    found = fix(model(), *images, controls=["erm"], out=tmp_path, **KNOWN)
    assert trained == ["erm"]
    assert not found.failed
    assert list(found.runs) == [("hint", 0), ("erm", 0)]
