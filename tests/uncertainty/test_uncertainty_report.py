"""How certain one answer is, told in words: beside a test set, and whether it should be given."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import saywhy
from saywhy.models.uncertainty_reference import RiskCoverageCurve, UncertaintyReference
from saywhy.uncertainty import estimate, mc_dropout
from saywhy.uncertainty.report import uncertainty_report

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


def test_a_network_with_dropout_tells_what_it_does_not_know(image):
    told = uncertainty_report(model(), image, num_samples=20)
    found = estimate(mc_dropout(model(), 20), image)
    assert [bar.kind for bar in told.components] == ["total", "aleatoric", "epistemic"]
    assert [bar.value for bar in told.components] == [
        float(one) for one in (found.total[0], found.aleatoric[0], found.epistemic[0])
    ]
    assert told.answer == ["cat", "dog", "mug"][int(found.probabilities[0].argmax())]
    assert told.num_samples == 20
    assert told.abstains is None
    assert "has not been measured" in told.text


def test_a_network_without_guesses_once(image):
    told = uncertainty_report(model(0.0), image)
    assert ([bar.kind for bar in told.components], told.num_samples) == (["total"], 1)


@pytest.mark.parametrize(("limit", "abstains", "says"), [(5.0, False, "It may answer"), (0.01, True, "better not")])
def test_beside_a_test_set(image, limit, abstains, says):
    known = dataclasses.replace(model(), reference=UncertaintyReference({"total": STEPS}, limit, 0.05, "val"))
    told = uncertainty_report(known, image)
    assert told.abstains is abstains
    assert says in told.text
    shares = {bar.kind: bar.share for bar in told.components}
    total = next(bar.value for bar in told.components if bar.kind == "total")
    assert shares["total"] == pytest.approx(min(1.0, total), abs=1e-5)
    assert shares["epistemic"] is None  # nobody has measured that
    record = told.record()
    assert record["abstains"] is abstains
    assert record["uncertainty"]["total"]["share_below"] == shares["total"]


def test_what_it_would_mean_to_answer(image):
    plain = UncertaintyReference({"total": STEPS}, 5.0, 0.05, "val")
    assert uncertainty_report(dataclasses.replace(model(), reference=plain), image).risk is None
    risks = RiskCoverageCurve(tuple(i / 200 for i in range(100)), tuple(i / 50 for i in range(100)), "ambiguous-test")
    told = uncertainty_report(dataclasses.replace(model(), reference=dataclasses.replace(plain, risks=risks)), image)
    total = next(bar.value for bar in told.components if bar.kind == "total")
    assert told.risk.percent == int(total * 50) + 1
    assert told.risk.wrong == (told.risk.percent - 1) / 200
    assert f"{told.risk.percent} % of ambiguous-test" in told.risk.text
    assert told.record()["risk"]["wrong"] == told.risk.wrong
    assert json.loads(json.dumps(told.record()))["risk"]["curve"] == list(risks.wrong)


def test_it_stands_beside_the_maps(image):
    e = saywhy.explain(model(), image, relu=False)
    told = uncertainty_report(model(), image)
    shown = e.with_certainty([told])
    assert shown.certainty == (told,)
    torch.testing.assert_close(shown.maps, e.maps)
    with pytest.raises(saywhy.errors.InputError, match="each of 1 samples"):
        e.with_certainty([told, told])


class Sleeping(nn.Module):
    """Has dropout that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.dropout = model(0.0).module, nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def test_dropout_that_does_not_run_is_none(image):
    assert uncertainty_report(saywhy.load(Sleeping().eval(), labels=["a", "b", "c"]), image).num_samples == 1


def test_what_guesses_several_times_anyway_is_asked_for_that(image):
    told = uncertainty_report(mc_dropout(model(), 7), image)
    assert told.num_samples == 7
    assert [bar.kind for bar in told.components] == ["total", "aleatoric", "epistemic"]
    assert told.components[2].value == float(estimate(mc_dropout(model(), 7), image).epistemic[0])
    assert uncertainty_report(saywhy.uncertainty.ensemble([model(0.0), model(0.0)]), image).num_samples == 2


def test_bars_say_of_which_questions_they_are_a_share(image):
    known = UncertaintyReference({"total": STEPS}, 0.5, 0.05, "val", questions="talk-test")
    told = uncertainty_report(dataclasses.replace(model(), reference=known), image)
    assert {bar.kind: bar.among for bar in told.components}["total"] == "talk-test"
