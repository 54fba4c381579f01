"""The recipe of ``toybox:questioner``: its data, its networks with and without attention, and what it stores."""

import json

import pytest
import torch
from rich.progress import Progress
from safetensors import safe_open

import saywhy
from saywhy.errors import WeightsError
from saywhy.tasks.generation.networks import ShowAndTell
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import asked
from saywhy.toybox.models.vision_language import ToyboxCaptionHead
from saywhy.toybox.recipes import questioner as recipe
from saywhy.toybox.recipes.question_data import question_data

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")


def test_data_are_what_people_ask_about_the_scenes():
    data = question_data("talk-train", 3, people=4)
    assert data.images.shape == (3, 3, 128, 128)
    for index, texts in enumerate(data.texts):
        drawn = scene("talk-train", index)
        assert texts == [one.text for one in asked(drawn, 4)]
        assert torch.equal(data.images[index], torch.from_numpy(drawn.image).permute(2, 0, 1))
    known = Vocabulary.of(text for of_scene in data.texts for text in of_scene)
    words = data.words(known)
    assert words.shape[:2] == (3, 4)
    assert known.decode(words[1, 2].tolist()) == data.texts[1][2].rstrip("?")


def test_quality_of_questions_is_counted():
    drawn = [scene("talk-test", 1)] * 2  # a flower, which is orange, and no cat
    texts = [["is there a cat?", "what colour is the cat?"], ["what colour is the flower?", "the the"]]
    answers = [[("no", 0.9), ("red", 0.4)], [("red", 0.9), ("red", 0.5)]]
    found = recipe.question_quality(texts, drawn, answers)
    assert found == {"understood": 0.75, "truthful": 0.5, "answerable": 0.5, "answered rightly": 0.25}


@pytest.mark.nightly
@pytest.mark.parametrize(("attention", "head"), [(True, ToyboxCaptionHead), (False, ShowAndTell)])
def test_a_trained_generator_is_stored_and_asks(attention, head, tmp_path, monkeypatch):
    monkeypatch.setattr("saywhy.toybox.recipes.question_data.cores", lambda: 0)
    file = tmp_path / "questioner.safetensors"
    found = recipe.train(file, 0, 80, 10, 12, Progress(disable=True), attention=attention)
    quality = json.loads(found["test_questions"])
    assert quality["answered rightly"] <= quality["answerable"] <= quality["understood"] <= 1
    assert 1 <= float(found["question_types_of_six"]) <= 6
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["attention"] == str(attention).lower()
    model = saywhy.load("toybox:questioner", file)
    assert isinstance(model.module.head, head)
    vqa = saywhy.load("toybox:vqa").module
    for name, tensor in model.module.trunk.state_dict().items():
        torch.testing.assert_close(tensor, vqa.trunk.state_dict()[name], rtol=1e-3, atol=1e-3)
    asks = saywhy.questions(model, scene("talk-test", 1).image, 2, 1, relu=False)
    assert set(" ".join(one.text.rstrip("?") for one in asks.questions).split()) <= set(model.labels)


def test_weights_of_another_model_are_refused(tmp_path):
    from importlib.resources import as_file, files

    with (
        as_file(files("saywhy.toybox") / "weights" / "toybox-classifier.safetensors") as other,
        pytest.raises(WeightsError, match="has no vocabulary"),
    ):
        saywhy.load("toybox:questioner", other)
