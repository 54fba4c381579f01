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
def test_gradcam_of_trained_network_passes_all_checks(found):
    (verdict,) = found["gradcam"].verdicts[0]
    assert verdict.passed
    assert found["gradcam"].passed.tolist() == [[True]]
    assert str(verdict).startswith("passed all checks (6 of 6): diagnostics: ")
    assert {test.name: test.passed for test in verdict.results}[
        "completeness"
    ] is None  # Grad-CAM claims nothing of the kind


def test_class_agnostic_map_fails_class_sensitivity(found):
    (verdict,) = found["eigencam"].verdicts[0]
    failed = [one.name for one in verdict.results if one.passed is False]
    assert "class sensitivity" in failed
    assert str(verdict).startswith(
        "failed 1 of 6 checks: class sensitivity: correlation with other classes 1.00 (limit 0.90)"
    )
    assert "the same map" in str(verdict)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("fixed", ["outline", "edges", "centre"])
def test_fixed_map_with_a_share_of_gradient_fails_class_sensitivity(controls, drawn, fixed, share):
    """Where the fixed map is zero, the ranks are those of the gradient: a rank correlation sees another map."""
    kind = drawn.objects[0].kind
    mask = torch.from_numpy(np.logical_or.reduce([obj.mask for obj in drawn.objects if obj.kind == kind]))

    def cheat(runner: ModelRunner) -> Tensor:
        image = runner.image.clone().requires_grad_()
        with torch.enable_grad():
            score = runner.score(runner.model(image), torch.arange(runner.size))[:, 0].sum()
            (gradient,) = torch.autograd.grad(score, image)
        evidence = (image * gradient).sum(1, keepdim=True).abs()
        base = mask[None, None].float() if fixed == "outline" else CONTROLS[f"control-{fixed}"](blank(runner), image)
        return (base / base.max() + share * evidence / evidence.max()).detach().float()

    controls("control-cheat", cheat)
    explanation = saywhy.explain("toybox:classifier", drawn.image, kind, "control-cheat")
    results = {one.name: one for one in verdicts(explanation)[0][0].results}
    assert results["class sensitivity"].passed is False
    assert results["parameter randomization"].passed is False


def test_map_of_untrained_network_fails_effect_size(drawn):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = saywhy.load("toybox:classifier", "random")
    (verdict,) = verdicts(saywhy.explain(model, drawn.image))[0]
    results = {one.name: one for one in verdict.results}
    assert results["effect size"].passed is False
    assert abs(results["effect size"].value) < 0.02
    assert not verdict.passed


@pytest.mark.parametrize("outputs", [1, 3])
def test_effect_size_of_a_regression_is_not_applicable(outputs):
    """Its values have a unit of their own, of which 0.1 may be much or nothing."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )
    explanation = saywhy.explain(saywhy.load(network, scale="value"), torch.rand(1, 3, 14, 14), 0)
    results = {one.name: one for one in verdicts(explanation)[0][0].results}
    assert results["effect size"].passed is None
    assert "value" in results["effect size"].note


def test_effect_size_is_the_change_of_the_log_odds_by_hand():
    class Sum(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.stack([image.sum((1, 2, 3)), -image.sum((1, 2, 3)), torch.zeros(len(image))], 1)

    image = torch.zeros(1, 1, 7, 7)
    image.view(-1)[14:24] = 0.5  # ten of 49 pixels, a fifth, hold all evidence; the mean colour is 5 / 49
    explanation = saywhy.explain(Sum(), image, 0, "input-times-gradient")
    (verdict,) = verdicts(explanation)[0]
    before, after = 5.0, 50 / 49  # the sum of the pixels, and with the mean in place of the ten
    wanted = [z - math.log(math.exp(-z) + 1) for z in (before, after)]
    found = {one.name: one.value for one in verdict.results}["effect size"]
    assert found == pytest.approx(wanted[0] - wanted[1], abs=1e-5)


@pytest.mark.parametrize("wrong", ["0.9", math.nan, None, True])
def test_limits_that_are_no_numbers_raise(wrong):
    with pytest.raises(InputError, match=r"stability must be a number, got"):
        CheckLimits(stability=wrong)


def test_path_method_is_checked_for_completeness(found):
    tests = {test.name: test for test in found["integrated-gradients"].verdicts[0][0].results}
    assert tests["completeness"].passed is not None
    assert tests["completeness"].value >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("weights", [None, "random"])
def test_class_agnostic_baselines_fail_the_check(controls, drawn, name, weights):
    model = saywhy.load("toybox:classifier", weights)
    explanation = saywhy.explain(model, drawn.image, drawn.objects[0].kind, name)
    assert not verdicts(explanation)[0][0].passed


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, "random"])
def test_object_mask_as_map_fails_parameter_randomization(controls, drawn, weights):
    thing = drawn.objects[0]
    controls(
        "control-outline", lambda runner: torch.from_numpy(thing.mask).float().expand(runner.size, 1, -1, -1).clone()
    )
    explanation = saywhy.explain(saywhy.load("toybox:classifier", weights), drawn.image, thing.kind, "control-outline")
    (verdict,) = verdicts(explanation)[0]
    assert not verdict.passed
    assert "parameter randomization" in [one.name for one in verdict.results if one.passed is False]


@pytest.mark.slow
def test_check_gives_a_verdict_for_every_sample_and_target(drawn):
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
def test_check_leaves_model_maps_and_random_state_unchanged(drawn):
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
def test_vqa_explanation_can_be_checked():
    drawn = scene("talk-test", 5)
    model = saywhy.load("toybox:vqa")
    explanation = saywhy.explain(
        model, model.prepare_inputs(drawn.image, f"is there a {drawn.objects[0].kind}?"), method="hirescam"
    )
    names = [one.name for one in check(explanation).verdicts[0][0].results]
    assert names == [
        "diagnostics",
        "faithfulness",
        "effect size",
        "parameter randomization",
        "class sensitivity",
        "stability",
        "completeness",
    ]


def test_class_sensitivity_of_non_class_target_is_not_applicable(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image, lambda output: output[:, 0] - output[:, 1])
    tests = {test.name: test for test in verdicts(explanation)[0][0].results}
    assert tests["class sensitivity"].passed is None
    assert math.isnan(tests["class sensitivity"].value)


def test_check_defaults_to_the_first_map_and_compares_other_methods(found):
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
    assert len(done.verdicts[0][0].results) == len(CHECKS)
    assert done.agreement == {}


def test_loaded_explanation_without_model_raises(tmp_path, drawn):
    file = saywhy.explain("toybox:classifier", drawn.image).save(tmp_path / "why.npz")
    with pytest.raises(SaywhyError, match="no model to run again"):
        check(saywhy.Explanation.load(file))


def test_changed_weights_raise(drawn):
    model = saywhy.load("toybox:classifier")
    explanation = saywhy.explain(model, drawn.image)
    with torch.no_grad():
        next(model.module.parameters()).mul_(2)
    with pytest.raises(InputError, match="weights have changed"):
        check(explanation)


def test_verdict_passes_only_if_every_check_passes():
    passed, failed, skipped = (CheckResult("a", state, 0.5, 0.4, f"it is {state}") for state in (True, False, None))
    assert Verdict((passed, skipped)).passed
    assert not Verdict((passed, failed)).passed
    assert (
        str(Verdict((passed, failed, failed))) == "failed 2 of 3 checks: a: it is False, failed; a: it is False, failed"
    )
    assert str(Verdict((passed, skipped))) == "passed all checks (1 of 1): a: it is True, passed"


class TestCheckTable:
    """Checks are data: rows of a table, judged by one rule."""

    def test_every_limit_belongs_to_one_check(self):
        assert [spec.limit for spec in CHECKS.values() if spec.limit] == [one.name for one in fields(CheckLimits)]
        assert all(name == spec.name for name, spec in CHECKS.items())
        assert {spec.limit for spec in CHECKS.values() if spec.limit} == {
            name.replace(" ", "_") for name in CHECKS if name != "diagnostics"
        }

    @pytest.mark.parametrize("name", CHECKS)
    def test_value_at_the_limit_passes_and_beyond_it_fails(self, name):
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
            ("effect size", 7.4, "change of the log-odds without the marked fifth 7.40 nats (limit 0.10), passed"),
            ("effect size", 0.002, "nats (limit 0.10), failed (hiding what the map marks hardly changes"),
            ("parameter randomization", 0.3, "similarity after randomization 0.30 (limit 0.90), passed"),
            ("parameter randomization", None, "not applicable (no map is left after randomization"),
            ("class sensitivity", 0.78, "correlation with other classes 0.78 (limit 0.90), passed"),
            (
                "class sensitivity",
                1.0,
                "with other classes 1.00 (limit 0.90), failed (other classes have the same map)",
            ),
            ("stability", 0.7, "rank correlation with the maps of noisy copies 0.70 (limit 0.80), failed (a little"),
            ("completeness", 0.02, "completeness error 2% (limit 10%), passed"),
            ("completeness", math.inf, "completeness error inf% (limit 10%), failed (the parts do not add up"),
            ("completeness", None, "not applicable (nothing could be measured)"),
        ],
    )
    def test_result_text_names_value_limit_and_outcome(self, name, value, text):
        (result,) = Verdict.of({name: value}).results
        assert text in str(result)
        assert str(result).startswith(f"{name}: ")

    def test_measurement_text_is_shown_in_the_result(self):
        (bad,) = Verdict.of({"diagnostics": Measurement(1.0, "evidence: the map is zero everywhere")}).results
        assert str(bad).endswith("failed (evidence: the map is zero everywhere)")
        assert bad.text == "number of bad diagnostics 1 (limit 0): evidence: the map is zero everywhere"
        (none,) = Verdict.of({"class sensitivity": Measurement(None, "the network has no other class")}).results
        assert str(none) == "class sensitivity: not applicable (the network has no other class)"
        assert none.text == "the network has no other class"

    @pytest.mark.slow
    @pytest.mark.parametrize("limits", [CheckLimits(), CheckLimits(1.1, 1e9, -1.1, -1.1, 1.1, -1)])
    def test_verdict_of_stored_values_equals_the_original(self, found, limits):
        done = found["gradcam"]
        again = Verdict.of(done.verdicts[0][0].values, limits)
        (wanted,) = verdicts(done.explanation, method="gradcam", limits=limits)[0]
        assert [(r.name, r.passed) for r in again.results] == [(r.name, r.passed) for r in wanted.results]

    def test_checks_can_be_left_out(self):
        values = {"stability": 0.1, "faithfulness": 0.99}
        assert not Verdict.of(values).passed
        assert Verdict.of(values, without=["stability"]).passed
        assert Verdict.of({}).passed


def test_public_names_of_checks_can_be_imported():
    import saywhy.checks

    assert saywhy.check is check
    for name in saywhy.checks.__all__:
        assert getattr(saywhy.checks, name) is not None
    assert pkgutil.resolve_name("saywhy.checks:CheckLimits") is CheckLimits
    assert pkgutil.resolve_name("saywhy.checks.check").check is check  # the module is not hidden by the function


@pytest.mark.slow
def test_stricter_limits_fail_the_check(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image)
    assert not check(explanation, limits=CheckLimits(parameter_randomization=0.0)).passed.item()


def test_html_page_is_complete_and_has_no_script(tmp_path, found):
    page = found["eigencam"].save(tmp_path / "check.html").read_text(encoding="utf-8")
    assert "failed 1 of 6 checks" in page
    assert "default-src &#39;none&#39;" not in page
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert page.count('src="data:image/webp;base64,') == 6
    for name in ("Deletion", "Insertion", "edge detector", "Parameter randomization"):
        assert name in page


def test_label_is_escaped_in_the_html_page(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model = saywhy.load(network, labels=["<script>alert(1)</script>", "b"], input_size=32)
    image = (np.random.default_rng(0).random((32, 32, 3)) * 255).astype(np.uint8)
    page = check(saywhy.explain(model, image, 0, relu=False)).save(tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


class TestNotApplicable:
    def test_zero_map_fails_the_diagnostics_only(self):
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

    def test_uncopyable_network_skips_parameter_randomization_only(self):
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

    def test_zero_randomized_maps_make_the_check_not_applicable(self, monkeypatch, drawn):
        explanation = saywhy.explain("toybox:classifier", drawn.image)
        nothing = [torch.zeros_like(explanation.maps)] * 4
        monkeypatch.setattr("saywhy.checks.measures.randomized_maps", lambda *args, **settings: nothing)
        test = next(test for test in verdicts(explanation)[0][0].results if test.name == "parameter randomization")
        assert test.passed is None
        assert "nothing to compare" in test.text

    def test_network_of_single_images_needs_batch_size_one(self):
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
    def test_unknown_method_or_layer_or_invalid_seed_raises(self, drawn, wrong):
        explanation = saywhy.explain("toybox:classifier", drawn.image)
        with pytest.raises(InputError):
            check(explanation, **wrong)

    def test_image_instead_of_explanation_raises(self, drawn):
        with pytest.raises(InputError, match="takes an explanation"):
            check(drawn.image)


def test_value_near_its_limit_is_printed_with_more_digits():
    assert value_and_limit(0.948, 0.95, "percent") == ("94.8%", "95.0%")
    assert value_and_limit(0.9004, 0.9) == ("0.9004", "0.9000")
    assert value_and_limit(0.95, 0.95, "percent") == ("95%", "95%")
    assert value_and_limit(0.12, 0.1, "percent") == ("12%", "10%")


def test_unshifted_copies_are_not_in_the_null_distribution():
    """On a grid of 3 x 3 one of nine copies is the map itself, which would keep every map from beating 95 of 100."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    found = check(saywhy.explain(net, torch.rand(1, 3, 12, 12), layer="1", relu=False))
    assert found.explanation.maps.shape[2:] == (3, 3)
    assert 0 <= float(found.percentiles["shifted"]) <= 1


def test_path_method_has_no_vanished_gradient_diagnostic(drawn):
    """RSI-Grad-CAM is made for saturated scores: a vanished gradient at the end of its path is no bad diagnostic."""
    explanation = saywhy.explain("toybox:classifier", drawn.image, method="rsi-gradcam")
    assert "gradient" not in {one.name for one in explanation.diagnostics["rsi-gradcam", explanation.layers[0]][0][0]}


def test_default_limits_equal_the_documented_ones():
    """docs/check.md states them; another number is another rule."""
    limits = {field.name: getattr(CheckLimits(), field.name) for field in fields(CheckLimits)}
    assert limits == {
        "faithfulness": 0.95,
        "effect_size": 0.1,
        "parameter_randomization": 0.9,
        "class_sensitivity": 0.9,
        "stability": 0.8,
        "completeness": 0.1,
    }


def test_results_report_their_limits(found):
    (verdict,) = found["integrated-gradients"].verdicts[0]
    wanted = {"diagnostics": 0.0, **{name: spec.limit_in(CheckLimits()) for name, spec in CHECKS.items() if spec.limit}}
    assert {one.name: one.limit for one in verdict.results if one.passed is not None}.items() <= wanted.items()
    assert verdict.results[0].name == "diagnostics"
    assert verdict.results[0].limit == 0.0


def test_null_distribution_gives_finite_percentiles(found):
    """A map that is compared with itself alone has no percentile, and the check would silently drop out."""
    for one in found.values():
        for kind, percentiles in one.percentiles.items():
            assert bool(percentiles.isfinite().all()), kind
            assert bool(((percentiles >= 0) & (percentiles <= 1)).all()), kind
        (verdict,) = one.verdicts[0]
        assert {result.name: result.passed for result in verdict.results}["faithfulness"] is not None
    assert float(found["gradcam"].percentiles["random"]) > 0.99


def test_class_target_beside_a_function_keeps_class_sensitivity(drawn):
    """Where one target is no class, the others are still compared with other classes."""
    targets = [0, lambda output: output[:, 1] - output[:, 2]]
    explanation = saywhy.explain("toybox:classifier", drawn.image, targets, relu=False)
    of_class, of_function = verdicts(explanation)[0]
    by_name = [{one.name: one.passed for one in verdict.results} for verdict in (of_class, of_function)]
    assert by_name[0]["class sensitivity"] is not None


def test_limits_of_wrong_type_raise(found):
    with pytest.raises(InputError, match=r"limits must be a saywhy.checks.CheckLimits"):
        saywhy.check(found["gradcam"].explanation, limits={"stability": 0.9})


@pytest.mark.slow
def test_a_check_has_one_line_and_a_view_in_a_notebook(found):
    one = found["gradcam"]
    assert repr(one) == "Check of gradcam at blocks: 1 of 1 maps passed all checks"
    page = one._repr_html_()
    assert page.startswith(
        '<iframe title="Check of gradcam at blocks: 1 of 1 maps passed all checks · saywhy" sandbox=""'
    )
    assert "Can this map be trusted?" in page
