"""Per-word ablation: the contribution of every word of a question to the map of its answer."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError
from saywhy.targets import Top
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.word_ablation import word_ablation

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


def test_word_ablation_maps_only_contributing_words(model, image):
    found = word_ablation(model, image, "the left of", method="hirescam", layer="features")
    e = found.explanation
    assert (found.question, found.answer, found.words) == ("the left of", "bright", ("the", "left", "of"))
    assert found.word_targets == (0, 1, 2)
    assert e.targets == [["the", "left", "of"]]
    assert e.maps.shape == (1, 3, 8, 8)
    assert not e.maps[0, 0].any()
    assert not e.maps[0, 2].any()
    assert bool((e.maps[0, 1, :, :4] > 0).all())
    assert not e.maps[0, 1, :, 4:].any()
    assert e.scores[0, [0, 2]].tolist() == [0, 0]
    torch.testing.assert_close(e.scores[0, 1], e.maps[0, 1].sum())


def test_word_ablation_of_input_method_is_saved(model, image, tmp_path):
    e = word_ablation(model, image, "left right", "dark", layer="features", method="saliency").explanation
    assert e.layers == ("input",)
    assert e.save(tmp_path / "words.html").stat().st_size > 1000
    assert len(e.diagnostics["saliency", "input"][0]) == 2


@pytest.mark.parametrize(
    ("question", "settings", "words"),
    [
        ("left", {}, "at least two words"),
        (["left of", "right of"], {}, "one question"),
        (None, {}, "one question"),
        ("left right", {"target": ["bright", "dark"]}, "word ablation explains one target, got 2"),
    ],
)
def test_word_ablation_with_invalid_arguments_raises(model, image, question, settings, words):
    with pytest.raises(InputError, match=words):
        word_ablation(model, image, question, layer="features", **settings)


def test_word_ablation_with_classifier_raises(image):
    with pytest.raises(InputError, match="takes no words"):
        word_ablation(saywhy.load(nn.Conv2d(3, 2, 1), input_size=8), image, "left right")


def test_word_ablation_keeps_the_answer_of_the_whole_question(model, image):
    own = word_ablation(model, image, "the left of", method="hirescam", layer="features").explanation
    for target in (Top(1), "bright", 0):
        e = word_ablation(model, image, "the left of", target, method="hirescam", layer="features").explanation
        torch.testing.assert_close(e.maps, own.maps)
        torch.testing.assert_close(e.scores, own.scores)
    with pytest.raises(InputError, match="Name the answers"):  # without "left" both answers are as good
        word_ablation(model, -image, "the left of", Top(1) * 2.0, method="hirescam", layer="features")


def test_a_word_has_no_diagnostic_of_evidence(model, image):
    e = word_ablation(model, image, "the left of", method="hirescam", layer="features").explanation
    assert {one.name for one in e.diagnostics["hirescam", "features"][0][1]} == {"layout", "gradient", "saturation"}
