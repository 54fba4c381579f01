"""The uncertainty report of one answer: its components, a comparison with a test set, and whether to abstain."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import saywhy
from saywhy.models.uncertainty_reference import RiskCoverageCurve, UncertaintyReference
from saywhy.tasks.vqa.ask import VQAExplanation
from saywhy.uncertainty import estimate, mc_dropout
from saywhy.uncertainty.report import uncertainty_report
from saywhy.view.payload import payload

STEPS = tuple(torch.linspace(0, 1, 101).tolist())


def model(dropout: float = 0.5) -> saywhy.Model:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4, 3)
    )
    return saywhy.load(net.eval(), labels=["cat", "dog", "mug"])


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_network_with_dropout_has_an_epistemic_component(image):
    report = uncertainty_report(model(), image, num_samples=20)
    found = estimate(mc_dropout(model(), 20), image)
    assert [component.kind for component in report.components] == ["total", "aleatoric", "epistemic"]
    assert [component.value for component in report.components] == [
        float(one) for one in (found.total[0], found.aleatoric[0], found.epistemic[0])
    ]
    assert report.answer == ["cat", "dog", "mug"][int(found.probabilities[0].argmax())]
    assert report.num_samples == 20
    assert report.abstains is None
    assert "has not been measured" in report.text


def test_network_without_dropout_gives_one_sample(image):
    report = uncertainty_report(model(0.0), image)
    assert ([component.kind for component in report.components], report.num_samples) == (["total"], 1)


@pytest.mark.parametrize(
    ("limit", "abstains", "says"), [(5.0, False, "may answer: total"), (0.01, True, "should abstain: total")]
)
def test_reference_gives_share_and_abstention(image, limit, abstains, says):
    known = dataclasses.replace(model(), reference=UncertaintyReference({"total": STEPS}, limit, 0.05, "val"))
    report = uncertainty_report(known, image)
    assert report.abstains is abstains
    assert says in report.text
    shares = {component.kind: component.share for component in report.components}
    total = next(component.value for component in report.components if component.kind == "total")
    assert shares["total"] == pytest.approx(min(1.0, total), abs=1e-5)
    assert shares["epistemic"] is None  # nobody has measured that
    record = report.record()
    assert record["abstains"] is abstains
    assert record["uncertainty"]["total"]["share_below"] == shares["total"]


def test_reference_with_risk_curve_gives_the_risk(image):
    plain = UncertaintyReference({"total": STEPS}, 5.0, 0.05, "val")
    assert uncertainty_report(dataclasses.replace(model(), reference=plain), image).risk is None
    risks = RiskCoverageCurve(tuple(i / 200 for i in range(100)), tuple(i / 50 for i in range(100)), "ambiguous-test")
    report = uncertainty_report(dataclasses.replace(model(), reference=dataclasses.replace(plain, risks=risks)), image)
    total = next(component.value for component in report.components if component.kind == "total")
    assert report.risk.percent == int(total * 50) + 1
    assert report.risk.wrong == (report.risk.percent - 1) / 200
    assert f"{report.risk.percent} % of ambiguous-test" in report.risk.text
    assert report.record()["risk"]["wrong"] == report.risk.wrong
    assert json.loads(json.dumps(report.record()))["risk"]["curve"] == list(risks.wrong)


def test_payload_holds_the_report_beside_the_maps(image):
    e = saywhy.explain(model(), image, relu=False)
    report = uncertainty_report(model(), image)
    shown = payload(VQAExplanation("why?", ("a",), e, report))["images"][0]
    assert shown["certainty"]["answer"] == report.answer
    assert [one["value"] for one in shown["certainty"]["components"]] == [one.value for one in report.components]
    plain = payload(e)["images"][0]
    assert plain["certainty"] is None
    assert shown["maps"] == plain["maps"]


class Sleeping(nn.Module):
    """Has dropout that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.dropout = model(0.0).module, nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def test_dropout_that_does_not_run_gives_one_sample(image):
    assert uncertainty_report(saywhy.load(Sleeping().eval(), labels=["a", "b", "c"]), image).num_samples == 1


def test_model_with_its_own_mc_samples_is_used_as_it_is(image):
    report = uncertainty_report(mc_dropout(model(), 7), image)
    assert report.num_samples == 7
    assert [component.kind for component in report.components] == ["total", "aleatoric", "epistemic"]
    assert report.components[2].value == float(estimate(mc_dropout(model(), 7), image).epistemic[0])
    assert uncertainty_report(saywhy.uncertainty.ensemble([model(0.0), model(0.0)]), image).num_samples == 2


def test_components_name_the_questions_of_their_share(image):
    known = UncertaintyReference({"total": STEPS}, 0.5, 0.05, "val", questions="talk-test")
    report = uncertainty_report(dataclasses.replace(model(), reference=known), image)
    assert {component.kind: component.among for component in report.components}["total"] == "talk-test"
