"""The check: which maps get a trusted verdict, and what is told of them."""

import math
import sys
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.checks.check import CheckLimits, Verdict, beside, check, verdicts
from saywhy.checks.check import Test as Tried
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, SaywhyError, SaywhyWarning
from saywhy.methods import METHODS, Method
from saywhy.metrics.class_agnostic import centre_prior_baseline, edge_detector_baseline
from saywhy.toybox import scene

CHEATS = {"cheat-edges": edge_detector_baseline, "cheat-centre": centre_prior_baseline}


@pytest.fixture
def cheats(monkeypatch):
    """Methods that look at the image, at nothing, or at the truth, and never at the network."""

    def add(name, function):
        method = Method(name, function, name, "none", "", passes="several", at="input", grid="input")
        monkeypatch.setitem(METHODS, name, method)

    for name, make in CHEATS.items():
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
def test_a_map_of_the_evidence_is_trusted(found):
    (verdict,) = found["gradcam"].verdicts[0]
    assert verdict.trusted
    assert found["gradcam"].trusted.tolist() == [[True]]
    assert str(verdict).startswith("This map can be trusted, because")
    assert {test.name: test.passed for test in verdict.tests}["adds up"] is None  # Grad-CAM claims nothing of the kind


def test_a_map_that_is_the_same_for_every_answer_is_not(found):
    (verdict,) = found["eigencam"].verdicts[0]
    failed = [test.name for test in verdict.tests if test.passed is False]
    assert "of this answer" in failed
    assert str(verdict).startswith("This map cannot be trusted, because")
    assert "the same map" in str(verdict)


def test_a_path_that_adds_up_is_tested_for_it(found):
    tests = {test.name: test for test in found["integrated-gradients"].verdicts[0][0].tests}
    assert tests["adds up"].passed is not None
    assert tests["adds up"].value >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
@pytest.mark.parametrize("weights", [None, "random"])
def test_what_looks_at_the_image_alone_is_not_trusted(cheats, drawn, name, weights):
    model = saywhy.load("toybox:classifier", weights)
    explanation = saywhy.explain(model, drawn.image, drawn.objects[0].kind, name)
    assert not verdicts(explanation)[0][0].trusted


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, "random"])
def test_the_outline_of_the_thing_is_not_trusted_whatever_the_network(cheats, drawn, weights):
    thing = drawn.objects[0]
    cheats("cheat-outline", lambda runner: torch.from_numpy(thing.mask).float().expand(runner.size, 1, -1, -1).clone())
    explanation = saywhy.explain(saywhy.load("toybox:classifier", weights), drawn.image, thing.kind, "cheat-outline")
    (verdict,) = verdicts(explanation)[0]
    assert not verdict.trusted
    assert "of this network" in [test.name for test in verdict.tests if test.passed is False]


@pytest.mark.slow
def test_every_sample_and_target_has_its_verdict(drawn):
    images = [drawn.image, scene("test", 4).image]
    explanation = saywhy.explain("toybox:classifier", images, ["cat", "clock", "mug"])
    many = check(explanation)
    assert [len(row) for row in many.verdicts] == [3, 3]
    assert many.trusted.shape == (2, 3)
    assert many.left.shape == (2, 3, 4)
    assert all(m.shape == explanation.maps.shape for m in many.randomized_maps)
    for measured in many.scores.values():
        assert measured.values.shape == (2, 3)
        assert set(measured.baselines) == {"random", "centre", "edges"}
    # The tests of one map are those of the map by itself, but for the maps of chance that are drawn.
    alone = verdicts(saywhy.explain("toybox:classifier", images[1], "clock"))[0][0]
    same = many.verdicts[1][1]
    for one, other in zip(alone.tests, same.tests, strict=True):
        if one.name in ("sound", "faithful", "of this answer"):
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
        model, model.asked(drawn.image, f"is there a {drawn.objects[0].kind}?"), method="hirescam"
    )
    names = [test.name for test in check(explanation).verdicts[0][0].tests]
    assert names == ["sound", "faithful", "of this network", "of this answer", "stable", "adds up"]


def test_a_target_that_is_no_class_has_no_rival(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image, lambda output: output[:, 0] - output[:, 1])
    tests = {test.name: test for test in verdicts(explanation)[0][0].tests}
    assert tests["of this answer"].passed is None
    assert math.isnan(tests["of this answer"].value)


def test_signals_and_volumes_can_be_checked():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    done = check(saywhy.explain(network, torch.randn(1, 2, 64)))
    assert len(done.verdicts[0][0].tests) == 6
    assert done.agreement == {}


def test_an_explanation_without_its_model_cannot_be_checked(tmp_path, drawn):
    file = saywhy.explain("toybox:classifier", drawn.image).save(tmp_path / "why.npz")
    with pytest.raises(SaywhyError, match="no model to ask again"):
        check(saywhy.Explanation.load(file))


def test_weights_that_have_changed_are_noticed(drawn):
    model = saywhy.load("toybox:classifier")
    explanation = saywhy.explain(model, drawn.image)
    with torch.no_grad():
        next(model.module.parameters()).mul_(2)
    with pytest.raises(InputError, match="weights have changed"):
        check(explanation)


def test_the_rule_is_that_every_test_passes():
    passed, failed, skipped = (Tried("a", state, 0.5, 0.4, f"it is {state}") for state in (True, False, None))
    assert Verdict((passed, skipped)).trusted
    assert not Verdict((passed, failed)).trusted
    assert str(Verdict((passed, failed, failed))) == "This map cannot be trusted, because it is False; and it is False."
    assert str(Verdict((passed, skipped))) == "This map can be trusted, because it is True."


@pytest.mark.slow
def test_limits_can_be_set(drawn):
    explanation = saywhy.explain("toybox:classifier", drawn.image)
    assert not check(explanation, limits=CheckLimits(forgets=0.0)).trusted.item()


def test_the_page_says_it_all_and_runs_nothing(tmp_path, found):
    page = found["eigencam"].save(tmp_path / "check.html").read_text(encoding="utf-8")
    assert "cannot be trusted" in page
    assert "default-src &#39;none&#39;" not in page
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert page.count('src="data:image/png;base64,') == 6
    for name in ("Deletion", "Insertion", "an edge detector", "While the network forgets"):
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
    def test_an_empty_map_fails_for_its_card_alone(self):
        """Nothing false is said of a map that is zero: neither that it is stable nor that it is not."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        with torch.no_grad():
            net[4].weight.copy_(-net[4].weight.abs())
        with pytest.warns(SaywhyWarning, match="zero everywhere"):
            explanation = saywhy.explain(net.eval(), torch.rand(1, 3, 12, 12), 0, layer="1")
        tests = {test.name: test for test in verdicts(explanation)[0][0].tests}
        assert tests.pop("sound").passed is False
        assert {test.passed for test in tests.values()} == {None}
        assert tests["stable"].text == "the map is the same everywhere"

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
        tests = {test.name: test for test in found.verdicts[0][0].tests}
        assert tests["of this network"].passed is None
        assert "cannot be copied" in tests["of this network"].text
        assert tests["stable"].passed is not None

    def test_a_network_that_says_nothing_any_more_is_no_proof(self, monkeypatch, drawn):
        explanation = saywhy.explain("toybox:classifier", drawn.image)
        nothing = [torch.zeros_like(explanation.maps)] * 4
        monkeypatch.setattr(sys.modules["saywhy.checks.check"], "forgotten", lambda *args, **settings: nothing)
        test = next(test for test in verdicts(explanation)[0][0].tests if test.name == "of this network")
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

    def test_a_image_is_no_explanation(self, drawn):
        with pytest.raises(InputError, match="takes an explanation"):
            check(drawn.image)


def test_a_value_beside_its_limit_does_not_look_like_it():
    assert beside(0.948, 0.95, share=True) == ("94.8%", "95.0%")
    assert beside(0.9004, 0.9) == ("0.9004", "0.9000")
    assert beside(0.95, 0.95, share=True) == ("95%", "95%")
    assert beside(0.12, 0.1, share=True) == ("12%", "10%")


def test_copies_that_were_moved_nowhere_are_no_maps_of_chance():
    """On a grid of 3 x 3 one of nine copies is the map itself, which would keep every map from beating 95 of 100."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    found = check(saywhy.explain(net, torch.rand(1, 3, 12, 12), layer="1", relu=False))
    assert found.explanation.maps.shape[2:] == (3, 3)
    assert 0 <= float(found.percentiles["moved"]) <= 1


def test_a_path_may_end_where_the_gradient_has_vanished(drawn):
    """RSI-Grad-CAM is made for saturated answers: that no gradient is left at the end of its path is not against it."""
    explanation = saywhy.explain("toybox:classifier", drawn.image, method="rsi-gradcam")
    assert "gradient" not in {fact.name for fact in explanation.cards["rsi-gradcam", explanation.layers[0]][0][0]}
