"""The claims of HINT: measures by hand, the verdict's rule, and a quick run of everything."""

from copy import deepcopy
from math import log2

import pytest
import torch
from typer.testing import CliRunner

from research.claims import hint, hint_runs
from research.claims.hint import CONTROLS, verdict
from saywhy.alignment.region_methods import REGION_METHODS


def found(**better):
    """Runs of three seeds in which HINT is better than all others by the given amounts, with a little noise."""
    rows = {}
    for name in ("base", *REGION_METHODS):
        for seed in range(3):
            gain = better if name == "hint" else {}
            noise = 0.001 * ((hash_of(name) + seed) % 3)
            rows[name, seed] = {
                "test": {"accuracy": 0.4 + gain.get("accuracy", 0) + noise},
                "val": {"rank": 0.1 + gain.get("rank", 0) + noise, "deletion": 0.05 + gain.get("deletion", 0) + noise},
            }
    return rows


def hash_of(name):
    return sum(map(ord, name))


def test_grounding_helped_only_if_all_three_are_better():
    assert verdict(found(accuracy=0.1, rank=0.1, deletion=0.1), 3).startswith("**Grounding helped**")
    for missing in ("accuracy", "rank", "deletion"):
        some = {what: 0.1 for what in ("accuracy", "rank", "deletion") if what != missing}
        assert not verdict(found(**some), 3).startswith("**Grounding helped**")


def test_one_control_that_is_as_good_means_regularization():
    rows = found(accuracy=0.1, rank=0.1, deletion=0.1)
    for seed in range(3):
        rows["variable-random", seed] = deepcopy(rows["hint", seed])
    assert verdict(rows, 3).startswith("**Regularization helped**")


def test_training_alone_that_is_as_good_means_neither():
    rows = found(accuracy=0.1, rank=0.1, deletion=0.1)
    for seed in range(3):
        rows["erm", seed] = deepcopy(rows["hint", seed])
    assert verdict(rows, 3).startswith("**Neither**")


def test_every_control_of_the_specification_is_compared():
    runs = {REGION_METHODS[name].run for name in CONTROLS}
    assert runs == {"C1", "C3", "C4", "C5", "C6", "C7", "C8", "C10"}


def test_entropy_by_hand():
    assert hint_runs._entropy(torch.tensor([0, 0, 0, 2])) == pytest.approx(0.75 * log2(4 / 3) + 0.25 * 2)


@pytest.mark.nightly
def test_quick_run_prints_the_page_and_resumes(tmp_path, monkeypatch):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    monkeypatch.setattr(hint_runs, "FOLDER", tmp_path)
    monkeypatch.setattr(hint, "REGION_METHODS", {n: REGION_METHODS[n] for n in ("erm", "hint", "spread")})
    monkeypatch.setattr(hint, "CONTROLS", ("erm", "spread"))
    monkeypatch.setattr(hint, "run_jobs", lambda work, jobs, *_: [work(*job) for job in jobs])
    monkeypatch.setattr(hint, "measure_captions", lambda *_: ({}, 1.0))  # these have their own test
    monkeypatch.setattr(hint, "section", lambda *_: "## Captions")
    app = hint.typer.Typer()
    app.command()(hint.main)
    options = ["--seeds", "2", "--items", "0.01"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    for heading in ("## Questions", "### Accuracy", "### By type", "### Grounding", "### Verdict", "C6", "## Captions"):
        assert heading in result.output
    stored = hint_runs.stored(tmp_path)
    assert len(stored) == 8
    monkeypatch.setattr(hint_runs, "_align", lambda *_: pytest.fail("a finished run is trained again"))
    assert CliRunner().invoke(app, options).exit_code == 0
