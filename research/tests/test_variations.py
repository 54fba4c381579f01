"""Random variations of networks with planted truth: no wrong map comes without a warning or a refusal."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from research.benchmarks import variations
from research.benchmarks.planted_networks import Classifier
from research.benchmarks.planted_scenes import Ask, Truth, Variation
from research.benchmarks.variation_kinds import KINDS
from research.benchmarks.variations import FAULTS, drawn_variations, outcome

FEW, MANY = 3, 32


def faults(kind: str, count: int, seed: int) -> list[str]:
    """The variations of a kind that are silently wrong, or end in an error of another kind."""
    found = map(outcome, drawn_variations(kind, count, seed))
    return [f"{one.text}: {one.state}, {one.reason}" for one in found if one.state in FAULTS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_few_variations_have_no_silent_wrong_map(kind):
    assert faults(kind, FEW, seed=1) == []


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_three_hundred_variations_have_no_silent_wrong_map(kind):
    assert faults(kind, MANY, seed=2) == []


@pytest.mark.parametrize("kind", KINDS)
def test_variations_are_different_and_the_same_for_a_seed(kind):
    drawn = [one.text for one in drawn_variations(kind, 3, seed=5)]
    assert len(set(drawn)) == 3
    assert drawn == [one.text for one in drawn_variations(kind, 3, seed=5)]


def planted() -> Variation:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 64) * 0.05
    image[:, :, 16:32, 40:52] = torch.tensor([1.0, 0, 0])[:, None, None]
    truth = {(0, 0): Truth((((16, 32), (40, 52)),), (8.0, 8.0))}
    ask = Ask(image, {"target": 0}, truth)
    return Variation("planted", "", Classifier((8, 8)), [ask])


def test_map_at_the_object_is_right():
    assert outcome(planted()).state == "right"


@pytest.mark.parametrize("box", [((16, 32), (20, 30)), ((48, 60), (40, 52))])
def test_map_elsewhere_is_silently_wrong(box):
    (ask,) = (given := planted()).asks
    moved = replace(ask, truth={(0, 0): Truth((box,), (8.0, 8.0))})
    found = outcome(replace(given, asks=[moved]))
    assert found.state == "silently wrong"
    assert "has its maximum at" in found.reason


def test_map_that_misses_one_of_two_objects_is_silently_wrong():
    (ask,) = (given := planted()).asks
    boxes = (*ask.truth[0, 0].boxes, ((48, 60), (4, 12)))
    found = outcome(replace(given, asks=[replace(ask, truth={(0, 0): Truth(boxes, (8.0, 8.0))})]))
    assert (found.state, "misses the object" in found.reason) == ("silently wrong", True)


def test_wrong_probability_is_silently_wrong():
    (ask,) = (given := planted()).asks
    truth = {key: replace(one, probability=0.5) for key, one in ask.truth.items()}
    assert "0.5000 was expected" in outcome(replace(given, asks=[replace(ask, truth=truth)])).reason


class Dead(nn.Module):
    """Features that are zero everywhere, so that maps are blank."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        nn.init.constant_(self.conv.bias, -100.0)

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


def test_blank_map_with_a_warning_is_told_and_a_refusal_is_refused():
    (ask,) = (given := planted()).asks

    def state(network, **options):
        one = replace(ask, options=ask.options | options)
        return outcome(replace(given, network=network, asks=[one])).state

    assert state(Dead(), layer="act") == "told"
    assert state(given.network, layer="nowhere") == "refused"


def test_page_counts_every_state():
    text = variations.section([variations.Outcome("tokens", "x", "right"), variations.Outcome("tokens", "y", "error")])
    assert "| tokens | 2 | 1 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "- error: tokens, y" in text
