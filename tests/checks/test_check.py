"""The check: which maps pass all checks, and what the results say."""

import math
import pkgutil
import threading
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.checks import CHECKS, CheckLimits, CheckResult, Verdict, verdicts
from saywhy.checks.check import COMPARED_METHODS, check
from saywhy.checks.measures import Measurement
from saywhy.checks.verdict import value_and_limit
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, SaywhyError, SaywhyWarning
from saywhy.methods import METHODS, Method
from saywhy.metrics.class_agnostic import centre_prior_baseline, edge_detector_baseline
from saywhy.toybox import scene

CONTROLS = {"control-edges": edge_detector_baseline, "control-centre": centre_prior_baseline}


@pytest.fixture
def controls(monkeypatch):
    """Register methods that use the image, or nothing, but never the network."""

    def add(name, function):
        method = Method(name, function, name, "none", "", passes="several", at="input", grid="input")
        monkeypatch.setitem(METHODS, name, method)

    for name, make in CONTROLS.items():
        add(name, lambda runner, make=make: make(blank(runner), runner.image).float())
    return add


def blank(runner: ModelRunner) -> Tensor:
    return torch.zeros(runner.size, 1, *runner.image.shape[2:])


@pytest.fixture(scope="module")
def drawn():
    return scene("test", 3)


@pytest.fixture(scope="module")
def found(drawn):
    explanation = saywhy.explain(
        "toybox:classifier", drawn.image, method=["gradcam", "eigencam", "integrated-gradients"]
    )
    return {method: check(explanation, method=method) for method in explanation.methods}


@pytest.mark.slow
def test_a_map_of_the_evidence_passes(found):
    (verdict,) = found["gradcam"].verdicts[0]
    assert verdict.passed
    assert found["gradcam"].passed.tolist() == [[True]]
    assert str(verdict).startswith("passed all checks (5 of 5): diagnostics: ")
    assert {test.name: test.passed for test in verdict.results}[
        "completeness"
    ] is None  # Grad-CAM claims nothing of the kind


def test_a_map_that_is_the_same_for_every_class_fails(found):
    (verdict,) = found["eigencam"].verdicts[0]
    failed = [one.name for one in verdict.results if one.passed is False]
    assert "class sensitivity" in failed
    assert str(verdict).startswith(
        "failed 1 of 5 checks: class sensitivity: rank correlation with the runner-up class 1.00 (limit 0.90)"
    )
    assert "the same map" in str(verdict)


def test_a_path_method_is_tested_for_completeness(found):
    tests = {test.name: test for test in found["integrated-gradients"].verdicts[0][0].results}
    assert tests["completeness"].passed is not None
    assert tests["completeness"].value >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("weights", [None, "random"])
def test_class_agnostic_baselines_fail(controls, drawn, name, weights):
    model = saywhy.load("toybox:classifier", weights)
    explanation = saywhy.explain(model, drawn.image, drawn.objects[0].kind, name)
    assert not verdicts(explanation)[0][0].passed


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, "random"])
def test_the_outline_of_the_object_fails_whatever_the_network(controls, drawn, weights):
    thing = drawn.objects[0]
    controls(
        "control-outline", lambda runner: torch.from_numpy(thing.mask).float().expand(runner.size, 1, -1, -1).clone()
    )
    explanation = saywhy.explain(saywhy.load("toybox:classifier", weights), drawn.image, thing.kind, "control-outline")
    (verdict,) = verdicts(explanation)[0]
    assert not verdict.passed
    assert "parameter randomization" in [one.name for one in verdict.results if one.passed is False]


@pytest.mark.slow
def test_every_sample_and_target_has_its_verdict(drawn):
    images = [drawn.image, scene("test", 4).image]
    explanation = saywhy.explain("toybox:classifier", images, ["cat", "clock", "mug"])
    many = check(explanation)
    assert [len(row) for row in many.verdicts] == [3, 3]
    assert many.passed.shape == (2, 3)
    assert many.similarity.shape == (2, 3, 4)
    assert all(m.shape == explanation.maps.shape for m in many.randomized_maps)
    for measured in many.scores.values():
        assert measured.values.shape == (2, 3)
        assert set(measured.baselines) == {"random", "centre", "edges"}
    # The tests of one map are those of the map by itself, but for the null distribution that is drawn.
    alone = verdicts(saywhy.explain("toybox:classifier", images[1], "clock"))[0][0]
    same = many.verdicts[1][1]
    for one, other in zip(alone.results, same.results, strict=True):
        if one.name in ("diagnostics", "faithfulness", "class sensitivity"):
            assert one.passed == other.passed
            assert one.value == pytest.approx(other.value, abs=0.1, nan_ok=True)


@pytest.mark.slow
def test_what_is_checked_stays_as_it_was(drawn):
    model = saywhy.load("toybox:classifier")
    before, digest = torch.get_rng_state(), model.digest()
    explanation = saywhy.explain(model, drawn.image)
    maps = explanation.maps.clone()
    first, second = (check(explanation) for _ in range(2))
    assert model.digest() == digest
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    assert torch.equal(explanation.maps, maps)
    assert str(first) == str(second)  # nothing is random but by the seed


@pytest.mark.slow
def test_questions_are_checked_too():
    drawn = scene("talk-test", 5)
    model = saywhy.load("toybox:vqa")
    explanation = saywhy.explain(
        model, model.prepare_inputs(drawn.image, f"is there a {drawn.objects[0].kind}?"), method="hirescam"
    )
    names = [one.name for one in check(explanation).verdicts[0][0].results]
    assert names == [
        "diagnostics",
        "faithfulness",
        "parameter randomization",
        "class sensitivity",
        "stability",
        "completeness",
    ]


def test_a_target_that_is_no_class_has_no_runner_up(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image, lambda output: output[:, 0] - output[:, 1])
    tests = {test.name: test for test in verdicts(explanation)[0][0].results}
    assert tests["class sensitivity"].passed is None
    assert math.isnan(tests["class sensitivity"].value)


def test_without_a_choice_the_first_map_is_checked_and_compared_with_other_methods(found):
    explanation = found["gradcam"].explanation
    done = check(explanation)
    assert (done.method, done.layer) == explanation.pairs[0]
    assert str(done) == str(found["gradcam"])
    assert set(done.agreement) == set(COMPARED_METHODS) - {"gradcam"}


def test_signals_and_volumes_can_be_checked():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    done = check(saywhy.explain(network, torch.randn(1, 2, 64)))
    assert len(done.verdicts[0][0].results) == 6
    assert done.agreement == {}


def test_an_explanation_without_its_model_cannot_be_checked(tmp_path, drawn):
    file = saywhy.explain("toybox:classifier", drawn.image).save(tmp_path / "why.npz")
    with pytest.raises(SaywhyError, match="no model to run again"):
        check(saywhy.Explanation.load(file))


def test_weights_that_have_changed_are_noticed(drawn):
    model = saywhy.load("toybox:classifier")
    explanation = saywhy.explain(model, drawn.image)
    with torch.no_grad():
        next(model.module.parameters()).mul_(2)
    with pytest.raises(InputError, match="weights have changed"):
        check(explanation)


def test_the_rule_is_that_every_check_passes():
    passed, failed, skipped = (CheckResult("a", state, 0.5, 0.4, f"it is {state}") for state in (True, False, None))
    assert Verdict((passed, skipped)).passed
    assert not Verdict((passed, failed)).passed
    assert (
        str(Verdict((passed, failed, failed))) == "failed 2 of 3 checks: a: it is False, failed; a: it is False, failed"
    )
    assert str(Verdict((passed, skipped))) == "passed all checks (1 of 1): a: it is True, passed"


class TestTheTable:
    """Checks are data: rows of a table, judged by one rule."""

    def test_every_limit_belongs_to_one_check(self):
        assert [spec.limit for spec in CHECKS.values() if spec.limit] == [one.name for one in fields(CheckLimits)]
        assert all(name == spec.name for name, spec in CHECKS.items())
        assert {spec.limit for spec in CHECKS.values() if spec.limit} == {
            name.replace(" ", "_") for name in CHECKS if name != "diagnostics"
        }

    @pytest.mark.parametrize("name", CHECKS)
    def test_the_limit_itself_passes_and_the_wrong_side_fails(self, name):
        spec = CHECKS[name]
        limit = spec.limit_in(CheckLimits())
        wrong = limit - 0.01 if spec.direction == "at least" else limit + 0.01
        assert Verdict.of({name: limit}).passed
        assert not Verdict.of({name: wrong}).passed
        assert Verdict.of({name: None}).results[0].passed is None
        assert not Verdict.of({name: math.nan}).passed  # measured, and no number

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("diagnostics", 0.0, "number of bad diagnostics 0 (limit 0), passed"),
            (
                "diagnostics",
                1.0,
                "number of bad diagnostics 1 (limit 0), failed (a diagnostic says that the map cannot",
            ),
            ("faithfulness", 0.97, "faithfulness correlation above 97% of its null distribution (limit 95%), passed"),
            ("faithfulness", 0.9482, "94.8% of its null distribution (limit 95.0%), failed (the score does not fall"),
            ("parameter randomization", 0.3, "similarity after randomization 0.30 (limit 0.90), passed"),
            ("parameter randomization", None, "not applicable (no map is left after randomization"),
            ("class sensitivity", 0.78, "rank correlation with the runner-up class 0.78 (limit 0.90), passed"),
            (
                "class sensitivity",
                1.0,
                "runner-up class 1.00 (limit 0.90), failed (the runner-up class has the same map)",
            ),
            ("stability", 0.7, "rank correlation with the maps of noisy copies 0.70 (limit 0.80), failed (a little"),
            ("completeness", 0.02, "completeness error 2% (limit 10%), passed"),
            ("completeness", math.inf, "completeness error inf% (limit 10%), failed (the parts do not add up"),
            ("completeness", None, "not applicable (nothing could be measured)"),
        ],
    )
    def test_what_is_said(self, name, value, text):
        (result,) = Verdict.of({name: value}).results
        assert text in str(result)
        assert str(result).startswith(f"{name}: ")

    def test_the_measurement_says_it_more_exactly(self):
        (bad,) = Verdict.of({"diagnostics": Measurement(1.0, "evidence: the map is zero everywhere")}).results
        assert str(bad).endswith("failed (evidence: the map is zero everywhere)")
        assert bad.text == "number of bad diagnostics 1 (limit 0): evidence: the map is zero everywhere"
        (none,) = Verdict.of({"class sensitivity": Measurement(None, "the network has no other class")}).results
        assert str(none) == "class sensitivity: not applicable (the network has no other class)"
        assert none.text == "the network has no other class"

    @pytest.mark.slow
    def test_stored_values_are_judged_as_they_were(self, found):
        for done in found.values():
            (verdict,) = done.verdicts[0]
            for limits in (CheckLimits(), CheckLimits(1.1, -1.1, -1.1, 1.1, -1)):
                again = Verdict.of(verdict.values, limits)
                (wanted,) = verdicts(done.explanation, method=done.method, limits=limits)[0]
                assert [(r.name, r.passed) for r in again.results] == [(r.name, r.passed) for r in wanted.results]

    def test_without_a_check(self):
        values = {"stability": 0.1, "faithfulness": 0.99}
        assert not Verdict.of(values).passed
        assert Verdict.of(values, without=["stability"]).passed
        assert Verdict.of({}).passed


def test_what_the_page_tells_people_to_import():
    import saywhy.checks

    assert saywhy.check is check
    for name in saywhy.checks.__all__:
        assert getattr(saywhy.checks, name) is not None
    assert pkgutil.resolve_name("saywhy.checks:CheckLimits") is CheckLimits
    assert pkgutil.resolve_name("saywhy.checks.check").check is check  # the module is not hidden by the function


@pytest.mark.slow
def test_limits_can_be_set(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image)
    assert not check(explanation, limits=CheckLimits(parameter_randomization=0.0)).passed.item()


def test_the_page_says_it_all_and_runs_nothing(tmp_path, found):
    page = found["eigencam"].save(tmp_path / "check.html").read_text(encoding="utf-8")
    assert "failed 1 of 5 checks" in page
    assert "default-src &#39;none&#39;" not in page
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert page.count('src="data:image/png;base64,') == 6
    for name in ("Deletion", "Insertion", "edge detector", "Parameter randomization"):
        assert name in page


def test_a_hostile_label_is_only_a_label(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model = saywhy.load(network, labels=["<script>alert(1)</script>", "b"], input_size=32)
    image = (np.random.default_rng(0).random((32, 32, 3)) * 255).astype(np.uint8)
    page = check(saywhy.explain(model, image, 0, relu=False)).save(tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


class TestWhatCannotBeMade:
    def test_an_empty_map_fails_for_its_diagnostics_alone(self):
        """The other checks do not apply to a map that is zero: it is neither stable nor unstable."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        with torch.no_grad():
            net[4].weight.copy_(-net[4].weight.abs())
        with pytest.warns(SaywhyWarning, match="zero everywhere"):
            explanation = saywhy.explain(net.eval(), torch.rand(1, 3, 12, 12), 0, layer="1")
        tests = {test.name: test for test in verdicts(explanation)[0][0].results}
        assert tests.pop("diagnostics").passed is False
        assert {test.passed for test in tests.values()} == {None}
        assert tests["stability"].text == "the map is the same everywhere"

    def test_a_network_that_cannot_be_copied_is_tested_for_the_rest(self):
        class Locked(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                self.fc, self.lock = nn.Linear(4, 3), threading.Lock()

            def forward(self, x: Tensor) -> Tensor:
                return self.fc(self.inner(x))

        torch.manual_seed(0)
        found = check(saywhy.explain(Locked().eval(), torch.rand(1, 3, 12, 12), layer="inner.1", relu=False))
        tests = {test.name: test for test in found.verdicts[0][0].results}
        assert tests["parameter randomization"].passed is None
        assert "cannot be copied" in tests["parameter randomization"].text
        assert tests["stability"].passed is not None

    def test_a_randomized_network_without_a_map_is_no_proof(self, monkeypatch, drawn):
        explanation = saywhy.explain("toybox:classifier", drawn.image)
        nothing = [torch.zeros_like(explanation.maps)] * 4
        monkeypatch.setattr("saywhy.checks.measures.randomized_maps", lambda *args, **settings: nothing)
        test = next(test for test in verdicts(explanation)[0][0].results if test.name == "parameter randomization")
        assert test.passed is None
        assert "nothing to compare" in test.text

    def test_a_network_of_one_image_at_a_time(self):
        class Single(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
                self.fc = nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.fc(self.inner(x).view(1, 4))

        torch.manual_seed(0)
        net, image = Single().eval(), torch.rand(1, 3, 12, 12)
        with pytest.raises(InputError, match="batch_size=1"):
            check(saywhy.explain(net, image, layer="inner.1", relu=False))
        assert check(saywhy.explain(net, image, layer="inner.1", relu=False, batch_size=1)).verdicts


class TestBadInput:
    @pytest.mark.parametrize("wrong", [{"method": "layercam"}, {"layer": "zz"}, {"seed": 1.5}, {"seed": -1}])
    def test_what_is_not_there(self, drawn, wrong):
        explanation = saywhy.explain("toybox:classifier", drawn.image)
        with pytest.raises(InputError):
            check(explanation, **wrong)

    def test_an_image_is_no_explanation(self, drawn):
        with pytest.raises(InputError, match="takes an explanation"):
            check(drawn.image)


def test_a_value_beside_its_limit_does_not_look_like_it():
    assert value_and_limit(0.948, 0.95, "percent") == ("94.8%", "95.0%")
    assert value_and_limit(0.9004, 0.9) == ("0.9004", "0.9000")
    assert value_and_limit(0.95, 0.95, "percent") == ("95%", "95%")
    assert value_and_limit(0.12, 0.1, "percent") == ("12%", "10%")


def test_copies_that_were_shifted_nowhere_are_not_in_the_null_distribution():
    """On a grid of 3 x 3 one of nine copies is the map itself, which would keep every map from beating 95 of 100."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    found = check(saywhy.explain(net, torch.rand(1, 3, 12, 12), layer="1", relu=False))
    assert found.explanation.maps.shape[2:] == (3, 3)
    assert 0 <= float(found.percentiles["shifted"]) <= 1


def test_a_path_may_end_where_the_gradient_has_vanished(drawn):
    """RSI-Grad-CAM is made for saturated scores: a vanished gradient at the end of its path is no bad diagnostic."""
    explanation = saywhy.explain("toybox:classifier", drawn.image, method="rsi-gradcam")
    assert "gradient" not in {one.name for one in explanation.diagnostics["rsi-gradcam", explanation.layers[0]][0][0]}


def test_the_limits_are_those_of_the_page():
    """docs/check.md states them; another number is another rule."""
    limits = {field.name: getattr(CheckLimits(), field.name) for field in fields(CheckLimits)}
    assert limits == {
        "faithfulness": 0.95,
        "parameter_randomization": 0.9,
        "class_sensitivity": 0.9,
        "stability": 0.8,
        "completeness": 0.1,
    }


def test_every_result_has_its_limit(found):
    (verdict,) = found["integrated-gradients"].verdicts[0]
    wanted = {"diagnostics": 0.0, **{name: spec.limit_in(CheckLimits()) for name, spec in CHECKS.items() if spec.limit}}
    assert {one.name: one.limit for one in verdict.results if one.passed is not None}.items() <= wanted.items()
    assert verdict.results[0].name == "diagnostics"
    assert verdict.results[0].limit == 0.0


def test_the_null_distribution_is_of_other_maps_than_the_map_itself(found):
    """A map that is compared with itself alone has no percentile, and the check would silently drop out."""
    for one in found.values():
        for kind, percentiles in one.percentiles.items():
            assert bool(percentiles.isfinite().all()), kind
            assert bool(((percentiles >= 0) & (percentiles <= 1)).all()), kind
        (verdict,) = one.verdicts[0]
        assert {result.name: result.passed for result in verdict.results}["faithfulness"] is not None
    assert float(found["gradcam"].percentiles["random"]) > 0.99


def test_a_class_beside_a_function_keeps_its_class_sensitivity(drawn):
    """Where one target is no class, the others are still compared with their runner-up."""
    targets = [0, lambda output: output[:, 1] - output[:, 2]]
    explanation = saywhy.explain("toybox:classifier", drawn.image, targets, relu=False)
    of_class, of_function = verdicts(explanation)[0]
    by_name = [{one.name: one.passed for one in verdict.results} for verdict in (of_class, of_function)]
    assert by_name[0]["class sensitivity"] is not None


def test_limits_of_another_type_are_refused_before_anything_is_measured(found):
    with pytest.raises(InputError, match=r"limits must be a saywhy.checks.CheckLimits"):
        saywhy.check(found["gradcam"].explanation, limits={"stability": 0.9})
