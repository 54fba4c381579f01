"""The experiments on U-CAM: statistics of resampled scenes, claims against all controls, and stored results."""

import numpy as np
import pytest
import torch
from rich.progress import Progress

from research.claims import ucam, uncertainty_networks
from research.claims.measure import UNDECIDED
from research.claims.ucam_measures import Run
from research.claims.ucam_tables import Results, SeedEstimate, weighted_auroc
from research.claims.uncertainty_networks import CONTROLS, RUNS
from saywhy.metrics.calibration import auroc
from saywhy.toybox.language import TYPES

pytestmark = pytest.mark.nightly


def run(seed: int, skill: float, human_correlation: float = 0.3) -> Run:
    """Return measurements of a network whose uncertainty is a mixture of the truth and noise."""
    generator = np.random.default_rng(seed)
    count, attended = 600, 120
    wrong = generator.random(count) < 0.3
    doubt = skill * wrong + (1 - skill) * generator.random(count)
    splits = {"clear": generator.random(300), "blurred": 1 + generator.random(300), "unseen": generator.random(100)}
    return Run(
        seconds=60.0,
        measuring=30.0,
        began=1000.0 * seed,
        ended=1000.0 * seed + 90.0,
        uncertainty=dict.fromkeys(
            ("entropy", "tempered", "predictive", "aleatoric", "epistemic", "aleatoric_variance"), doubt
        ),
        wrong=wrong,
        scenes=np.arange(count) // 3,
        unseen_scenes=np.arange(100) // 2 + 10_000,
        types=np.arange(count) % len(TYPES),
        calibration=(0.1, 0.05),
        human_correlation={
            name: generator.normal(human_correlation, 0.1, attended)
            for name in ("attention", "gradcam", "certainty-cam", "ucam", "other question", "centre")
        },
        errors=wrong + 0.1 * generator.random(count),
        distance=generator.random(attended),
        attended_scenes=np.arange(attended) // 2,
        by_split=dict.fromkeys(("aleatoric", "epistemic", "aleatoric_variance"), splits),
    )


def results(skill: float = 0.9, human_correlation: float = 0.6) -> Results:
    found = Results()
    for seed in range(3):
        for name in RUNS:
            ours = name == "U-CAM"
            found.add(name, seed, run(seed, skill if ours else 0.2, human_correlation if ours else 0.3))
    return found


def test_the_auroc_of_weights_is_that_of_repeated_questions():
    generator = np.random.default_rng(0)
    values, wrong = generator.integers(0, 9, 80) / 9, generator.random(80) < 0.4
    weights = generator.integers(0, 4, (5, 80)).astype(float)
    for found, times in zip(weighted_auroc(values, wrong, weights), weights.astype(int), strict=True):
        some = torch.from_numpy(np.repeat(values, times)), torch.from_numpy(np.repeat(wrong, times))
        assert found == pytest.approx(auroc(*some), abs=1e-12)


def test_a_claim_holds_only_if_it_holds_against_every_control():
    found = results()
    ours = found.error_auroc("U-CAM", "predictive")
    rows = found.claim("it is", ours, {name: found.error_auroc(name, "predictive") for name in CONTROLS})
    assert [row[2] for row in rows] == ["**holds**", *["holds"] * len(CONTROLS)]
    rows = found.claim("it is", ours, {"worse": found.error_auroc("base", "predictive"), "the same": ours})
    assert [row[2] for row in rows] == [f"**{UNDECIDED}**", "holds", UNDECIDED]
    rows = found.claim("it is", found.error_auroc("base", "predictive"), {"better": ours, "the same": ours})
    assert [row[2] for row in rows] == ["**does not hold**", "does not hold", "does not hold"]


def test_statistic_interval_contains_its_value():
    curve = np.concatenate([[0.5], np.random.default_rng(1).normal(0.5, 0.1, 1000)])
    found = SeedEstimate.of([curve, curve])
    assert found.low < found.value == 0.5 < found.high
    assert found.verdict == "holds"
    assert SeedEstimate.of([curve - 0.5]).verdict == UNDECIDED
    assert SeedEstimate.of([curve - 2]).verdict == "does not hold"


def test_seeds_that_differ_widen_the_interval():
    curve = np.concatenate([[0.5], np.random.default_rng(1).normal(0.5, 0.01, 1000)])
    alike, apart = SeedEstimate.of([curve] * 3), SeedEstimate.of([curve - 0.4, curve, curve + 0.4])
    assert apart.value == pytest.approx(alike.value)
    assert alike.high - alike.low < 0.05
    assert apart.high - apart.value == pytest.approx(4.303 * 0.4 / 3**0.5, rel=0.01)
    assert SeedEstimate.of([curve - 0.6, curve + 0.4, curve + 0.4]).verdict == UNDECIDED  # one seed differs


def test_scenes_are_resampled_whole_and_alike_for_all_seeds():
    """Ten copies of a question in its scene carry no more information than one."""
    generator = np.random.default_rng(2)
    once, results = generator.normal(0.5, 0.1, 60), Results()
    for name, times in (("once", 1), ("often", 10)):
        for seed in range(2):
            one = run(seed, 0.5)
            one.human_correlation["attention"], one.attended_scenes = (
                np.repeat(once, times),
                np.repeat(np.arange(60), times),
            )
            results.add(name, seed, one)
    few, many = (results.agreement(name, "attention") for name in ("once", "often"))
    assert np.allclose(few[0], many[0])
    assert np.array_equal(few[0], few[1])


def test_measurements_are_stored_and_read_again(tmp_path):
    before = run(0, 0.5)
    before.keep(tmp_path / "run.npz")
    after = Run.kept(tmp_path / "run.npz")
    assert (after.seconds, after.measuring, after.calibration) == (60.0, 30.0, (0.1, 0.05))
    assert (after.began, after.ended) == (0.0, 90.0)
    for name in ("wrong", "scenes", "unseen_scenes", "types", "errors", "distance", "attended_scenes"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert after.uncertainty.keys() == before.uncertainty.keys()
    assert after.human_correlation.keys() == before.human_correlation.keys()
    assert np.array_equal(after.human_correlation["other question"], before.human_correlation["other question"])
    assert np.array_equal(
        after.by_split["aleatoric_variance"]["unseen"], before.by_split["aleatoric_variance"]["unseen"]
    )


def test_report_has_verdicts_and_every_question_type():
    page = results().report()
    assert page.count("**holds**") >= 4
    assert "| U-CAM |" in page
    for kind in TYPES:
        assert f"| {kind} |" in page
    assert "(d) aleatoric uncertainty is higher for blurred images" in page


@pytest.mark.slow
def test_stored_network_is_measured_without_retraining(tmp_path, monkeypatch):
    """On thirty scenes, in few steps: all measurements are there, also for a control."""
    monkeypatch.setattr(uncertainty_networks, "FOLDER", tmp_path)
    monkeypatch.setattr(ucam, "DATA", [ucam._draw_data(0.01, Progress(disable=True))])
    for name in ("base", "answer"):
        ucam._run_one(name, 0, tmp_path / f"{name}.npz", 0.01, 5.0)
    base, answer = (Run.kept(tmp_path / f"{name}.npz") for name in ("base", "answer"))
    assert len(base.wrong) == len(base.scenes) == len(answer.uncertainty["aleatoric_variance"])
    assert (
        "aleatoric_variance" in base.uncertainty,
        "ucam" in base.human_correlation,
        "ucam" in answer.human_correlation,
    ) == (
        False,
        False,
        True,
    )
    assert base.unseen_scenes.min() >= 2 * 10**6
    assert 5.0 == base.began < base.ended
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.safetensors")}
    assert len(before) == 3  # the pretrained one, and each of them
    ucam._run_one("base", 0, tmp_path / "again.npz", 0.01, 5.0)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.safetensors")} == before
    assert np.array_equal(Run.kept(tmp_path / "again.npz").uncertainty["entropy"], base.uncertainty["entropy"])


def test_run_names_differ_by_settings():
    names = {
        uncertainty_networks.run_name(name, seed, items, 30)
        for name in ("base", "U-CAM")
        for seed in (0, 1)
        for items in (0.1, 1)
    }
    assert len(names) == 8
    assert uncertainty_networks.run_name("base", 0, 1, 30) != uncertainty_networks.run_name("base", 0, 1, 40)
