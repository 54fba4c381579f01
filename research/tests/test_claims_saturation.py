"""The experiments on certain predictions: gradients in closed form, localisation of known maps, logit shifts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

import saywhy
from research.claims.cases import Case, located_case
from research.claims.classifiers import Classifier
from research.claims.multiple_testing import resolved
from research.claims.saturation import report, verdicts, with_one_class
from research.claims.saturation_measures import (
    BINS,
    CERTAIN,
    FACTORS,
    IGCAM,
    LOGIT,
    MASKED,
    PLAIN,
    POSGRAD,
    PROBABILITY,
    SaturationResults,
    Tempered,
    bin_name,
    class_maps,
    places,
    runner_of,
)
from research.claims.section import zeros_allowed
from research.claims.sensitivity import RSI, SHIFTED, UNCHANGED, SensitivityResults, ShiftedLogits, shift_weights
from research.claims.study import Study, items
from saywhy.metrics.removal import deletion
from saywhy.models.preprocess import Preprocess
from saywhy.output import ModelOutput
from saywhy.toybox.localized import ToyboxDataset

pytestmark = pytest.mark.nightly

SILENT = Progress(disable=True)


@pytest.fixture(scope="module")
def case() -> Case:
    """An object that the shipped classifier finds, with its position."""
    network = Classifier(0, saywhy.load("toybox:classifier"))
    return with_one_class(
        next(c for item in items(network, ToyboxDataset("test"), range(9)) if (c := located_case(item)))
    )


@pytest.fixture(scope="module")
def maps(case):
    return class_maps(case)


class Small(nn.Module):
    """Three classes, one of many; a layer, global average pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = Small().eval()
    plain = Preprocess(resize=None, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    model = saywhy.Model(module, "small", plain, ("a", "b", "c"), layer="features")
    fed = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return Case(0, 0, model, fed, (1,), (1,), (12, 12), (0, 0, 12, 12))


class TestCertainty:
    def test_bins_are_those_of_the_specification(self):
        assert BINS == ("p < 0.9", "0.9 to 0.99", "0.99 to 0.9999", "p > 0.9999")
        assert [bin_name(p) for p in (0.0, 0.95, 0.99, 0.99995)] == list(BINS)

    def test_temperature_multiplies_logits(self):
        logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for multilabel in (False, True):
            got = Tempered(2, 3.0).evaluate(ModelOutput(logits, multilabel=multilabel)).scores[:, 0]
            want = (3 * logits).sigmoid()[:, 2] if multilabel else (3 * logits).softmax(1)[:, 2]
            torch.testing.assert_close(got, want)

    def test_gradients_are_those_of_a_linear_head(self, case, maps):
        """Of one logit w / Z; of its probability p (1 - p) times as large, and times the factor."""
        largest = float(case.model.module.head.weight.detach()[case.classes[0]].abs().max()) / 256
        logit = float(case.explain(case.classes[0], "gradcam", score="logit").scores)
        p = [1 / (1 + np.exp(-factor * logit)) for factor in FACTORS]
        assert maps.probabilities == pytest.approx(p, rel=1e-5)
        assert maps.gradients[0] == pytest.approx(largest, rel=1e-4)
        want = [largest * f * chance * (1 - chance) for f, chance in zip(FACTORS, p, strict=True)]
        assert maps.gradients[1:] == pytest.approx(want, rel=5e-3, abs=1e-9)

    def test_maps_are_those_of_explain(self, case, maps):
        index = case.classes[0]
        for who, method, score, more in (
            (LOGIT, "gradcam", "logit", {}),
            (PROBABILITY, "gradcam", "probability", {}),
            (MASKED, "rsi-gradcam", "probability", {"variant": "masked"}),
            (PLAIN, "rsi-gradcam", "probability", {"variant": "plain"}),
            (POSGRAD, "rsi-gradcam", "probability", {"variant": "posgrad"}),
            (IGCAM, "integrated-gradcam", "logit", {}),
        ):
            alone = case.explain(index, method, score=score, **more).maps[0, 0]
            torch.testing.assert_close(maps.maps[who][0], alone, rtol=1e-3, atol=1e-3 * float(alone.max()))
        assert torch.equal(maps.maps[LOGIT][0], maps.maps[LOGIT][2])

    def test_only_the_probability_map_is_empty_when_saturated(self, case):
        with zeros_allowed():
            sure = class_maps(case, (200.0,), variants=False)
        saturated = SaturationResults()
        saturated.add("some", case, sure)
        assert sure.probabilities == (1.0,)
        value = {
            who: saturated.measurements.values[f"some {CERTAIN} empty", who][0] for who in (LOGIT, PROBABILITY, MASKED)
        }
        assert value == {LOGIT: 0.0, PROBABILITY: 1.0, MASKED: 0.0}
        vanished = {
            who: saturated.measurements.values[f"some {CERTAIN} vanished", who][0] for who in ("logit", "probability")
        }
        assert vanished == {"logit": 0.0, "probability": 1.0}
        for number in range(1, 5):
            saturated.add("some", replace(case, number=-number), sure)
        number, _, difference, p_value = saturated.claim("1", "", f"some {CERTAIN} vanished", "probability", "logit")
        assert (number, difference) == ("1", "1 (0.131 to 1; one network)")  # five of five
        assert resolved(str(p_value))[0] == "holds"

    def test_empty_bins_are_not_decided(self):
        rows = verdicts(SaturationResults(), ["some"], [], ("a layer",))
        assert rows
        assert {resolved(str(row[3]))[0] for row in rows[:-1]} == {"not decidable here"}


class TestPlaces:
    def test_places_is_one_on_the_object_and_zero_elsewhere(self, case):
        left, top, right, bottom = (int(edge) for edge in case.boxes[0][0])
        there, elsewhere = torch.zeros(128, 128), torch.ones(128, 128)
        there[top:bottom, left:right] = 1.0
        there = there * case.masks[0]
        elsewhere[case.masks[0]] = 0.0
        assert places(case, there)[:2] == (pytest.approx(1), 1)
        assert places(case, elsewhere)[:2] == (0, 0)
        assert len(case.boxes[0]) > 1 or places(case, there)[2] == 0

    def test_runner_perturbs_the_probability(self, case):
        runner = runner_of(case)
        p = float(case.explain(case.classes[0], "gradcam", score="probability").scores)
        assert float(runner.scores(case.fed, torch.zeros(1, dtype=torch.long))) == pytest.approx(p, rel=1e-5)
        assert torch.equal(runner.black, case.black)
        kept = float(deletion(torch.rand(1, 1, 16, 16), runner, steps=2))
        assert 0 <= kept <= 1

    def test_with_one_class_keeps_the_mask_and_boxes_of_the_class(self, case):
        two = replace(
            case, classes=(3, 5), masks=torch.stack([case.masks[0], ~case.masks[0]]), boxes=((), case.boxes[0])
        )
        drawn = {one.classes[0]: one for one in (with_one_class(replace(two, number=n)) for n in range(20))}
        assert set(drawn) == {3, 5}
        assert torch.equal(drawn[5].masks[0], ~case.masks[0])
        assert drawn[5].boxes == (case.boxes[0],)


class TestSensitivity:
    def test_logit_shift_changes_only_the_logit_map(self, small):
        sensitivity = SensitivityResults()
        sensitivity.shift("some", small)
        changed = {who: sensitivity.measurements.values["some changed", who][0] for who in SHIFTED}
        assert changed[RSI] < 1e-5
        assert changed[PROBABILITY] < 1e-4
        assert changed[LOGIT] > 0.1
        assert changed[RSI] < UNCHANGED

    def test_shifted_logits_adds_the_given_shift(self, small):
        features = small.model.module.features(small.fed).mean((2, 3))[0]
        other = ShiftedLogits(small.model.module, "features", shift_weights(features, 7.0)).eval()
        raised = other(small.fed) - small.model.module(small.fed)
        torch.testing.assert_close(raised, torch.full((1, 3), 7.0))
        assert isinstance(small.model.module.features, nn.Sequential)
        assert len(small.model.module.features) == 2  # the network itself is as it was

    def test_more_steps_increase_similarity_and_completeness(self, small):
        sensitivity = SensitivityResults()
        sensitivity.steps("some", small, 300, (2, 50))
        few, many = (sensitivity.measurements.values[f"some steps {count}", "rsi-gradcam"][0] for count in (2, 50))
        assert few <= many
        assert many == pytest.approx(1, abs=1e-2)
        few, many = (sensitivity.measurements.values["some completeness error", count][0] for count in ("2", "many"))
        assert many < 1e-5 < few
        assert sensitivity.most == {"some": 300}

    def test_half_precision_run_restores_the_network(self, small):
        sensitivity = SensitivityResults()
        sensitivity.precision("some", small)
        assert {p.dtype for p in small.model.module.parameters()} == {torch.float32}
        found = {name: sensitivity.measurements.values[f"some {name}", RSI][0] for name in ("bfloat16", "float16")}
        assert 0.9 < found["bfloat16"] <= found["float16"] + 0.01

    def test_black_baseline_has_similarity_one(self, small):
        sensitivity = SensitivityResults()
        sensitivity.baselines("some", small, ("black", "zero"))
        assert sensitivity.measurements.values["some baseline", "black"] == [pytest.approx(1)]
        assert sensitivity.measurements.values["some baseline", "zero"] == [pytest.approx(1)]  # zero is black here


@pytest.mark.nightly
def test_a_small_run_prints_its_tables(monkeypatch):
    monkeypatch.setattr("research.claims.saturation.REAL", Path("nowhere"))
    network = Classifier(0, saywhy.load("toybox:classifier"))
    page, _ = resolved(
        report(SILENT, 0.05, Study((network,), ToyboxDataset("test", 20_000), None), layers=("blocks.3",))
    )
    assert page.startswith("## RSI-Grad-CAM")
    tables, rows = page.split("### Verdicts")
    assert "nan" not in page
    assert tables.count("| Toybox, gap | rsi posgrad |") == 3  # places by certainty, twice, and faithfulness
    assert {line.split(" | ")[-1].strip(" |") for line in rows.splitlines()[4:]} <= {
        "holds",
        "does not hold",
        "not decidable here",
    }
    numbers = [line.split(" | ")[0].strip("| ") for line in rows.splitlines()[4:]]
    assert numbers == sorted(numbers)
