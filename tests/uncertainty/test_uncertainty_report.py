"""How certain one answer is, told in words: beside a test set, and whether it should be given."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import saywhy
from saywhy.models.uncertainty_reference import Reference, Risks
from saywhy.uncertainty import estimate, monte_carlo
from saywhy.uncertainty.report import certainty_of

STEPS = tuple(torch.linspace(0, 1, 101).tolist())


def model(dropout: float = 0.5) -> saywhy.Model:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4, 3)
    )
    return saywhy.load(net.eval(), labels=["cat", "dog", "mug"])


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_network_with_dropout_tells_what_it_does_not_know(picture):
    told = certainty_of(model(), picture, guesses=20)
    found = estimate(monte_carlo(model(), 20), picture)
    assert [bar.kind for bar in told.bars] == ["total", "aleatoric", "epistemic"]
    assert [bar.value for bar in told.bars] == [
        float(one) for one in (found.total[0], found.aleatoric[0], found.epistemic[0])
    ]
    assert told.answer == ["cat", "dog", "mug"][int(found.probabilities[0].argmax())]
    assert told.guesses == 20
    assert told.abstains is None
    assert "has not been measured" in told.text


def test_a_network_without_guesses_once(picture):
    told = certainty_of(model(0.0), picture)
    assert ([bar.kind for bar in told.bars], told.guesses) == (["total"], 1)


@pytest.mark.parametrize(("limit", "abstains", "says"), [(5.0, False, "It may answer"), (0.01, True, "better not")])
def test_beside_a_test_set(picture, limit, abstains, says):
    known = dataclasses.replace(model(), reference=Reference({"total": STEPS}, limit, 0.05, "val"))
    told = certainty_of(known, picture)
    assert told.abstains is abstains
    assert says in told.text
    shares = {bar.kind: bar.share for bar in told.bars}
    total = next(bar.value for bar in told.bars if bar.kind == "total")
    assert shares["total"] == pytest.approx(min(1.0, total), abs=1e-5)
    assert shares["epistemic"] is None  # nobody has measured that
    record = told.record()
    assert record["abstains"] is abstains
    assert record["uncertainty"]["total"]["share_below"] == shares["total"]


def test_what_it_would_mean_to_answer(picture):
    plain = Reference({"total": STEPS}, 5.0, 0.05, "val")
    assert certainty_of(dataclasses.replace(model(), reference=plain), picture).risk is None
    risks = Risks(tuple(i / 200 for i in range(100)), tuple(i / 50 for i in range(100)), "ambiguous-test")
    told = certainty_of(dataclasses.replace(model(), reference=dataclasses.replace(plain, risks=risks)), picture)
    total = next(bar.value for bar in told.bars if bar.kind == "total")
    assert told.risk.percent == int(total * 50) + 1
    assert told.risk.wrong == (told.risk.percent - 1) / 200
    assert f"{told.risk.percent} % of ambiguous-test" in told.risk.text
    assert told.record()["risk"]["wrong"] == told.risk.wrong
    assert json.loads(json.dumps(told.record()))["risk"]["curve"] == list(risks.wrong)


def test_it_stands_beside_the_maps(picture):
    e = saywhy.explain(model(), picture, relu=False)
    told = certainty_of(model(), picture)
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


def test_dropout_that_does_not_run_is_none(picture):
    assert certainty_of(saywhy.load(Sleeping().eval(), labels=["a", "b", "c"]), picture).guesses == 1


def test_what_guesses_several_times_anyway_is_asked_for_that(picture):
    told = certainty_of(monte_carlo(model(), 7), picture)
    assert told.guesses == 7
    assert [bar.kind for bar in told.bars] == ["total", "aleatoric", "epistemic"]
    assert told.bars[2].value == float(estimate(monte_carlo(model(), 7), picture).epistemic[0])
    assert certainty_of(saywhy.uncertainty.ensemble([model(0.0), model(0.0)]), picture).guesses == 2


def test_bars_say_of_which_questions_they_are_a_share(picture):
    known = Reference({"total": STEPS}, 0.5, 0.05, "val", questions="talk-test")
    told = certainty_of(dataclasses.replace(model(), reference=known), picture)
    assert {bar.kind: bar.among for bar in told.bars}["total"] == "talk-test"
