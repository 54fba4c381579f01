"""Faithfulness: the correlation is the metric's, and a network that sees squares is explained faithfully."""

import pytest
import torch
from rich.progress import Progress

import saywhy
from research.claims import faithfulness
from research.claims.faithfulness import REAL, USUAL, FaithfulnessResults, agreement, measure_study, report
from research.tests.synthetic import colour_network, study
from saywhy.metrics.faithfulness import occlusion_correlation
from saywhy.toybox import scene

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)


def test_agreement_equals_occlusion_correlation():
    model = saywhy.load("toybox:classifier")
    image = scene("val", 3).image
    explained = saywhy.explain(model, image, [8, 3], "gradcam")
    expected = occlusion_correlation(explained.maps, explained.explainer.model_runner("logit"))
    hidden = saywhy.explain(model, image, [8, 3], "occlusion", score="logit").maps
    assert torch.allclose(agreement(explained.maps[0], hidden[0]), expected[0])


def test_usual_window_equals_the_library_default(monkeypatch):
    calls = []
    explain = saywhy.explain
    monkeypatch.setattr(saywhy, "explain", lambda *a, **k: (calls.append(k), explain(*a, **k))[1])
    monkeypatch.setattr(faithfulness, "WINDOWS", {USUAL: faithfulness.WINDOWS[USUAL]})
    network = colour_network()
    item = next(study(network).items(network))
    found = FaithfulnessResults()
    found.add(network, item.image, list(item.classes), ["gradcam"], (0, 0))
    assert {"score": "logit", "window": 5, "stride": 2} in calls  # round(32 / 7), and half of it
    hidden = explain(network.model, item.image, list(item.classes), "occlusion", score="logit").maps
    own = explain(network.model, item.image, list(item.classes), "gradcam").maps
    assert found.measurements.values[f"gap, {USUAL}", "gradcam"] == agreement(own[0], hidden[0]).tolist()


def test_square_detectors_are_explained_faithfully():
    found = measure_study(study(colour_network(), colour_network("mlp")), 3, 0, QUIET)
    assert list(found.images) == ["gap", "mlp"]
    for form in ("gap", "mlp"):
        values = found.measurements.estimates(f"{form}, {USUAL}", ("gradcam", "random"))
        assert values["gradcam"].value > 0.3
        assert abs(values["random"].value) < 0.25
    assert (f"mlp, {USUAL}", "cam") not in found.measurements.values


def test_report_states_what_was_not_measured():
    page = report(QUIET, 0.08, study(colour_network()))
    assert page.startswith("## Faithfulness: agreement with occlusion")
    assert f"{REAL} was not measured" in page
    assert "| Grad-CAM agrees with occlusion at all (pooling and a linear layer) |" in page
    assert "nan" not in page


def test_missing_folder_excludes_photographs(monkeypatch, tmp_path):
    monkeypatch.setenv("SAYWHY_REAL", str(tmp_path))
    assert faithfulness.real_folder() is None
    assert list(measure_study(study(colour_network()), 2, 3, QUIET).images) == ["gap"]


@pytest.mark.real
@pytest.mark.slow
def test_photographs_are_measured_with_squeezenet(real, monkeypatch):
    monkeypatch.setenv("SAYWHY_REAL", str(real))
    monkeypatch.setattr(faithfulness, "WINDOWS", {USUAL: (4, 1)})
    found = measure_study(study(colour_network()), 2, 2, QUIET)
    values = found.measurements.values
    assert len(values[f"{REAL}, {USUAL}", "guided-gradcam"]) == 2
    assert (f"{REAL}, {USUAL}", "cam") not in values
    assert f"**{REAL} 1.0, photographs" in found.report()
