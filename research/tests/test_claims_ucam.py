"""The experiments on U-CAM: statistics of resampled scenes, claims against all controls, and stored results."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.progress import Progress

from research.claims import ucam, uncertainty_networks
from research.claims.measure import UNDECIDED
from research.claims.multiple_testing import resolved
from research.claims.ucam_claims import Claim, claims, report
from research.claims.ucam_measures import Run
from research.claims.ucam_statistics import Statistic, stratified_auroc, weighted_auroc
from research.claims.ucam_tables import SAMPLED, Results
from research.claims.uncertainty_networks import CONTROLS, PRIOR_CONTROLS, RUNS
from saywhy.metrics.calibration import auroc
from saywhy.toybox.language import TYPES
from saywhy.uncertainty import UCAM, Gate

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
        wrong_sampled=wrong,
        cosine=generator.uniform(0.5, 1, attended),
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


def small_results(skill: float = 0.9, human_correlation: float = 0.6) -> Results:
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


def test_auroc_within_types_equals_the_weighted_mean_of_slow_loops():
    generator = np.random.default_rng(0)
    values, wrong, types = generator.random(90), generator.random(90) < 0.4, generator.integers(0, 3, 90)
    wrong[types == 2] = True  # a type without a right answer is left out
    parts = [types == one for one in (0, 1)]
    each = [auroc(torch.from_numpy(values[part]), torch.from_numpy(wrong[part])) for part in parts]
    found = stratified_auroc(values, wrong, types, np.ones((1, 90)))
    assert found[0] == pytest.approx(np.average(each, weights=[part.sum() for part in parts]), abs=1e-12)
    weights = generator.integers(0, 4, (5, 90)).astype(float)
    for one, times in zip(stratified_auroc(values, wrong, types, weights), weights.astype(int), strict=True):
        repeated = [np.repeat(each, times) for each in (values, wrong, types)]
        assert one == pytest.approx(stratified_auroc(*repeated, np.ones((1, times.sum())))[0], abs=1e-12)


def test_uncertainty_that_only_knows_the_type_is_chance_within_types():
    """Planted: one type is always harder, and the uncertainty is that of its type."""
    generator = np.random.default_rng(1)
    types = np.arange(2000) % 2
    wrong = generator.random(2000) < np.where(types == 1, 0.8, 0.2)
    doubt = types + 1e-6 * generator.random(2000)
    weights = np.ones((1, 2000))
    assert weighted_auroc(doubt, wrong, weights)[0] > 0.75
    assert stratified_auroc(doubt, wrong, types, weights)[0] == pytest.approx(0.5, abs=0.05)


def test_like_is_compared_with_like():
    """Uncertainties of Monte Carlo samples detect the errors of their own mean, and those of a pass its own."""
    results = Results()
    one = run(0, 0.5)
    one.wrong_sampled = ~one.wrong
    results.add("base", 0, one)
    single, sampled = (results.error_auroc("base", kind).curves[0, 0] for kind in ("entropy", "predictive"))
    assert single == pytest.approx(1 - sampled)
    kinds = [("single" in claim.text, "MC dropout samples" in claim.text) for claim in claims(small_results())]
    assert kinds[:2] == [(True, False), (False, True)]
    assert set(SAMPLED) == {"predictive", "aleatoric", "epistemic", "aleatoric_variance"}


def verdicts(*claimed: Claim) -> list[str]:
    return resolved("\n".join(claim.rows()[0][3] for claim in claimed))[0].split("\n")


def test_a_claim_holds_only_if_it_holds_against_every_control():
    found = small_results()
    ours, base = (found.error_auroc(name, "predictive") for name in ("U-CAM", "base"))
    others = {name: ours - found.error_auroc(name, "predictive") for name in CONTROLS}
    assert verdicts(Claim("it is", others)) == ["**holds**"]
    assert verdicts(Claim("it is", {"worse": ours - base, "the same": ours - ours})) == [f"**{UNDECIDED}**"]
    assert verdicts(Claim("it is", {"better": base - ours, "the same": ours - ours})) == ["**does not hold**"]
    rows = Claim("it is", others, others).rows()
    assert [row[0] for row in rows] == ["it is", "", "", "", ""]
    assert all(row[1].startswith("less ") and "networks" in row[1] and row[2] and not row[3] for row in rows[1:])


def test_verdicts_are_corrected_together():
    found = small_results()
    weak = Statistic(np.stack([curve(0.5, 0.02), curve(0.53, 0.02), curve(0.47, 0.02)]) - 0.4, 200)
    nothing = Claim("nothing", {"it": Statistic(np.stack([curve(s, 0.1) for s in (-0.2, 0, 0.2)]), 200)})
    assert verdicts(Claim("weak", {"chance": weak})) == ["**holds**"]
    assert verdicts(Claim("weak", {"chance": weak}), *[nothing] * 19)[0] == f"**{UNDECIDED}**"
    text, sentence = resolved(report(found))
    assert "[[" not in text
    assert sentence.startswith(f"{len(claims(found))} verdicts are printed, corrected together by Holm")


def curve(value: float, spread: float) -> np.ndarray:
    """A value, and its bootstrap distribution."""
    return np.concatenate([[value], np.random.default_rng(1).normal(value, spread, 1000)])


def test_statistic_interval_contains_its_value():
    found = Statistic(np.stack([curve(0.5, 0.1)] * 2), 200).estimate
    assert found.low < found.value == 0.5 < found.high


def test_seeds_that_differ_widen_the_interval_over_networks():
    apart = Statistic(np.stack([curve(0.5 + d, 0.01) for d in (-0.4, 0.0, 0.4)]), 200).estimate
    assert apart.high - apart.low < 0.05
    low, high = apart.over_networks
    assert high - apart.value == pytest.approx(4.303 * 0.4 / 3**0.5, rel=0.01)
    assert low < 0 < high
    one_differs = Statistic(np.stack([curve(0.5 + d, 0.01) for d in (-0.6, 0.4, 0.4)]), 200)
    assert verdicts(Claim("it is", {"chance": one_differs})) == [f"**{UNDECIDED}**"]


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
    few, many = (results.agreement(name, "attention").curves for name in ("once", "often"))
    assert np.allclose(few[0], many[0])
    assert np.array_equal(few[0], few[1])


def test_measurements_are_stored_and_read_again(tmp_path):
    before = run(0, 0.5)
    before.keep(tmp_path / "run.npz")
    after = Run.kept(tmp_path / "run.npz")
    assert (after.seconds, after.measuring, after.calibration) == (60.0, 30.0, (0.1, 0.05))
    assert (after.began, after.ended) == (0.0, 90.0)
    for name in (
        "wrong",
        "wrong_sampled",
        "cosine",
        "scenes",
        "unseen_scenes",
        "types",
        "errors",
        "distance",
        "attended_scenes",
    ):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert after.uncertainty.keys() == before.uncertainty.keys()
    assert after.human_correlation.keys() == before.human_correlation.keys()
    assert np.array_equal(after.human_correlation["other question"], before.human_correlation["other question"])
    assert np.array_equal(
        after.by_split["aleatoric_variance"]["unseen"], before.by_split["aleatoric_variance"]["unseen"]
    )


def test_report_has_verdicts_and_every_question_type():
    found = small_results()
    page, _ = resolved(report(found) + found.tables())
    assert page.count("not decidable here") + page.count("hold**") + page.count("holds**") == len(claims(found))
    for name in RUNS:
        assert page.count(f"| {name} |") >= 5
    for kind in TYPES:
        assert f"| {kind} |" in page
    assert "(d) aleatoric uncertainty of this reconstruction is higher for blurred images" in page
    assert all("this reconstruction" in c.text or c.text.startswith(("(d) …", "(e) …")) for c in claims(found))
    assert "uniform" not in page


def test_controls_have_the_losses_of_what_they_control():
    """They differ in the gate alone."""
    for name, controls in (("U-CAM", CONTROLS), ("prior", PRIOR_CONTROLS)):
        for control in controls:
            ours, theirs = RUNS[name], RUNS[control]
            assert ours is not None
            assert theirs is not None
            assert replace(theirs, gate=ours.gate) == ours != theirs
    for name in ("entropy mask", "distortion mask"):
        assert replace(RUNS[name], certainty="loss") == RUNS["U-CAM"] == UCAM(gate=Gate(0.1))


@pytest.mark.nightly
def test_stored_network_is_measured_without_retraining(tmp_path, monkeypatch):
    """On thirty scenes, in few steps: all measurements are there, also for a control."""
    monkeypatch.setattr(uncertainty_networks, "FOLDER", tmp_path)
    monkeypatch.setattr(ucam, "DATA", [ucam._draw_data(0.01, Progress(disable=True))])
    for name in ("base", "answer", "entropy mask"):
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
    assert len(base.cosine) == 0
    assert len(answer.cosine) == len(answer.attended_scenes)
    assert np.abs(answer.cosine).max() <= 1 + 1e-6
    assert not np.allclose(Run.kept(tmp_path / "entropy mask.npz").cosine, answer.cosine, atol=0.1)
    assert base.unseen_scenes.min() >= 2 * 10**6
    assert 5.0 == base.began < base.ended
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.safetensors")}
    assert len(before) == 4  # the pretrained one, and each of them
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


def test_stored_weights_of_another_head_are_not_loaded(tmp_path, monkeypatch):
    """A head whose parameters were renamed since is trained again, under another name."""
    monkeypatch.setattr(uncertainty_networks, "optimize", lambda *_, **__: 1.0)
    heads, file = (torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.Linear(2, 3))), tmp_path / "run.safetensors"
    for head in (*heads, heads[0]):
        uncertainty_networks._train(head, None, uncertainty_networks.PLAN, 1, range(3), file)
    assert len(list(tmp_path.glob("run-*.safetensors"))) == 2
