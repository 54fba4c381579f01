"""The four maps of U-CAM by name."""

import dataclasses
import re

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError, TargetError
from saywhy.targets import Certainty, Top
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.certainty_maps import certainty_maps
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


@pytest.fixture(scope="module")
def asked():
    known = saywhy.load("toybox:ucam")
    return known, known.prepare_inputs(scene("talk-test", 2).image, "what colour is the apple?")


class TestCertaintyMaps:
    def test_maps_equal_those_of_their_targets(self, asked):
        e = certainty_maps(*asked)
        assert e.methods == ("attention", "gradcam", "certainty-cam", "ucam")
        assert e.targets == [["yellow"]]
        targets = [Top(1), Certainty(), Certainty(with_classification_loss=True)]
        wanted = saywhy.explain(*asked, target=targets, method="gradcam")
        for number, name in enumerate(e.methods[1:]):
            torch.testing.assert_close(e[name], wanted.maps[:, number : number + 1])
        torch.testing.assert_close(e["attention"], saywhy.explain(*asked, 0, "model-attention").maps)
        torch.testing.assert_close(e.scores, wanted.scores[:, :1])

    def test_given_answer_is_explained(self, asked):
        own, named = certainty_maps(*asked), certainty_maps(*asked, answer="red")
        assert named.targets == [["red"]]
        assert not torch.equal(own["certainty-cam"], named["certainty-cam"])

    def test_classifier_without_attention_has_three_maps(self):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
        certain = saywhy.load(VarianceClassifier(network, 4).eval(), input_size=8)
        image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        e = certainty_maps(certain, image, layer="network.1", relu=False)
        assert e.methods == ("gradcam", "certainty-cam", "ucam")
        assert e.maps.shape == (1, 1, 6, 6)

    def test_maps_are_saved_and_loaded(self, asked, tmp_path):
        e = certainty_maps(*asked)
        for name in ("four.html", "four.png"):
            assert e.save(tmp_path / name).exists()
        back = saywhy.Explanation.load(e.save(tmp_path / "four.npz"))
        assert torch.equal(back["ucam"], e["ucam"])
        with pytest.raises(InputError, match="one by one"):
            _ = e.explainer

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            *(
                ({"answer": v}, f"answer must be a whole number, a word or none, got {re.escape(str(v))}")
                for v in ([0, 1], True)
            ),
            ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
            ({"method": "cam"}, "own method"),
            ({"target": 0}, "own target"),
        ],
    )
    def test_conflicting_arguments_raise(self, asked, wrong, says):
        with pytest.raises(InputError, match=says):
            certainty_maps(*asked, **wrong)

    def test_network_without_variance_head_raises(self, image, model):
        with pytest.raises(TargetError, match="needs a network with a variance head"):
            certainty_maps(model, {"image": image, "question": "left side"})
