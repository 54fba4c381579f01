"""What every word of a question does, and what makes the answer certain."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError, TargetError
from saywhy.targets import Certainty, Top
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.ask import certainty_maps, word_ablation
from saywhy.toybox import scene
from saywhy.uncertainty import VarianceClassifier

KNOWN = Vocabulary.of(["left right of the"])


class Sides(nn.Module):
    """Answers by the brightness of the side that is named."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 1)
        nn.init.ones_(self.features.weight)
        nn.init.zeros_(self.features.bias)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        maps = self.features(image)
        half = maps.shape[3] // 2
        left, right = maps[..., :half].mean((1, 2, 3)), maps[..., half:].mean((1, 2, 3))
        says_left = (question == KNOWN.numbers["left"]).any(1)
        says_right = (question == KNOWN.numbers["right"]).any(1)
        bright = torch.where(says_left, left, 0.0) + torch.where(says_right, right, 0.0)
        return torch.stack([bright, -bright], 1)


@pytest.fixture
def model() -> saywhy.Model:
    return dataclasses.replace(
        saywhy.load(Sides(), input_size=8, labels=["bright", "dark"]), texts={"question": KNOWN.batch}
    )


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5


def test_a_word_brings_in_what_it_names(model, image):
    e = word_ablation(model, {"image": image, "question": "the left of"}, method="hirescam", layer="features")
    assert e.targets == [["the", "left", "of"]]
    assert e.maps.shape == (1, 3, 8, 8)
    assert not e.maps[0, 0].any()
    assert not e.maps[0, 2].any()
    assert bool((e.maps[0, 1, :, :4] > 0).all())
    assert not e.maps[0, 1, :, 4:].any()
    assert e.scores[0, [0, 2]].tolist() == [0, 0]
    torch.testing.assert_close(e.scores[0, 1], e.maps[0, 1].sum())


def test_it_can_be_shown(model, image, tmp_path):
    e = word_ablation(model, {"image": image, "question": "left right"}, "dark", layer="features", method="saliency")
    assert e.layers == ("input",)
    assert e.save(tmp_path / "words.html").stat().st_size > 1000
    assert len(e.cards["saliency", "input"][0]) == 2


@pytest.mark.parametrize(
    ("inputs", "settings", "words"),
    [
        ({"question": "left"}, {}, "fewer than two words"),
        ({"question": ["left of", "right of"]}, {}, "one image and one question"),
        ({}, {}, "one image and one question"),
        ({"question": "left right"}, {"target": ["bright", "dark"]}, "one target at a time: 2"),
    ],
)
def test_what_cannot_be_asked(model, image, inputs, settings, words):
    with pytest.raises(InputError, match=words):
        word_ablation(model, {"image": image, **inputs}, layer="features", **settings)


def test_the_answer_stays_the_answer_of_the_whole_question(model, image):
    inputs = {"image": image, "question": "the left of"}
    own = word_ablation(model, inputs, method="hirescam", layer="features")
    for target in (Top(1), "bright", 0):
        e = word_ablation(model, inputs, target, method="hirescam", layer="features")
        torch.testing.assert_close(e.maps, own.maps)
        torch.testing.assert_close(e.scores, own.scores)
    dark = {"image": -image, "question": "the left of"}  # without "left" both answers are as good
    with pytest.raises(InputError, match="Name the answers"):
        word_ablation(model, dark, Top(1) * 2.0, method="hirescam", layer="features")


def test_a_word_has_no_evidence_of_its_own_on_the_card(model, image):
    e = word_ablation(model, {"image": image, "question": "the left of"}, method="hirescam", layer="features")
    assert {fact.name for fact in e.cards["hirescam", "features"][0][1]} == {"layout", "gradient", "saturation"}


@pytest.fixture(scope="module")
def asked():
    known = saywhy.load("toybox:ucam")
    return known, known.asked(scene("talk-test", 2).image, "what colour is the apple?")


class TestCertain:
    """What makes an answer certain, as four maps with names."""

    def test_each_is_the_map_of_its_target(self, asked):
        e = certainty_maps(*asked)
        assert e.methods == ("attention", "gradcam", "certainty-cam", "ucam")
        assert e.targets == [["yellow"]]
        targets = [Top(1), Certainty(), Certainty(answered=True)]
        wanted = saywhy.explain(*asked, target=targets, method="gradcam")
        for number, name in enumerate(e.methods[1:]):
            torch.testing.assert_close(e[name], wanted.maps[:, number : number + 1])
        torch.testing.assert_close(e["attention"], saywhy.explain(*asked, 0, "model-attention").maps)
        torch.testing.assert_close(e.scores, wanted.scores[:, :1])

    def test_another_answer_when_it_is_named(self, asked):
        own, named = certainty_maps(*asked), certainty_maps(*asked, answer="red")
        assert named.targets == [["red"]]
        assert not torch.equal(own["certainty-cam"], named["certainty-cam"])

    def test_a_classifier_that_looks_nowhere_in_particular_has_three(self):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
        certain = saywhy.load(VarianceClassifier(network, 4).eval(), input_size=8)
        image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        e = certainty_maps(certain, image, layer="network.1", relu=False)
        assert e.methods == ("gradcam", "certainty-cam", "ucam")
        assert e.maps.shape == (1, 1, 6, 6)

    @pytest.mark.slow
    def test_they_can_be_shown_and_kept(self, asked, tmp_path):
        e = certainty_maps(*asked)
        for name in ("four.html", "four.png"):
            assert e.save(tmp_path / name).exists()
        back = saywhy.Explanation.load(e.save(tmp_path / "four.npz"))
        assert torch.equal(back["ucam"], e["ucam"])
        with pytest.raises(InputError, match="one by one"):
            e._again()

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [({"answer": [0, 1]}, "one answer"), ({"method": "cam"}, "own method"), ({"target": 0}, "own target")],
    )
    def test_what_is_theirs_is_not_given(self, asked, wrong, says):
        with pytest.raises(InputError, match=says):
            certainty_maps(*asked, **wrong)

    def test_a_network_that_expects_no_noise(self, image, model):
        with pytest.raises(TargetError, match="how much noise"):
            certainty_maps(model, {"image": image, "question": "left side"})
