"""``saywhy.ask``: answers, explanations and uncertainty, with the image read once."""

from pathlib import Path

import pytest
from PIL import Image

import saywhy
from saywhy.errors import InputError
from saywhy.targets import Certainty, Top
from saywhy.tasks.protocols import AnswersQuestions
from saywhy.tasks.vqa.ask import VQAExplanation
from saywhy.tasks.vqa.word_ablation import word_ablation
from saywhy.toybox import scene
from saywhy.uncertainty.report import uncertainty_report

QUESTION = "what colour is the apple?"


@pytest.fixture(scope="module")
def model() -> saywhy.Model:
    return saywhy.load("toybox:ucam")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(scene("talk-test", 2).image)


def test_ask_equals_its_parts(model, image):
    found = saywhy.ask(model, image, QUESTION, words=True)
    inputs = model.prepare_inputs(image, QUESTION)
    assert found.explanation == saywhy.explain(model, inputs, [*found.answers, Certainty()], "rsi-gradcam")
    assert "70 %" in found.method_note
    assert found.uncertainty == uncertainty_report(model, inputs)
    assert found.word_ablation == word_ablation(model, image, QUESTION)
    assert found.answer == found.answers[0] == found.word_ablation.answer == "yellow"
    assert found.unknown_words == ()


@pytest.mark.filterwarnings("ignore:.*the map is zero everywhere")  # of an answer that nothing speaks for
def test_ask_explains_the_answer_of_the_sample_mean(model):
    """One pass says orange, and the mean over Monte Carlo samples black."""
    unsure = scene("talk-test", 43).image
    found = saywhy.ask(model, unsure, "what colour is the cat?", words=True)
    once = saywhy.explain(model, model.prepare_inputs(unsure, "what colour is the cat?"), Top(3))
    assert found.answer not in once.targets[0]
    assert found.answer == found.answers[0] == found.word_ablation.answer == found.explanation.targets[0][0]
    assert len(set(found.answers)) == 3


def test_ask_with_too_large_top_raises(model, image):
    with pytest.raises(saywhy.errors.TargetError, match="1000"):
        saywhy.ask(model, image, QUESTION, top=1000)


def test_the_image_is_read_and_preprocessed_once(model, image, monkeypatch):
    calls: list[str] = []
    read, prepared = saywhy.models.inputs.read_image, type(model.preprocess).__call__
    monkeypatch.setattr("saywhy.models.inputs.read_image", lambda source: (calls.append("read"), read(source))[1])
    monkeypatch.setattr(
        type(model.preprocess), "__call__", lambda self, image: (calls.append("prepared"), prepared(self, image))[1]
    )
    found = saywhy.ask(model, image, QUESTION, method="gradcam", words=True)
    assert found.method_note == ""
    assert calls == ["read", "prepared"]


@pytest.mark.filterwarnings("ignore:.*the map is zero everywhere")  # of an answer that nothing speaks for
def test_ask_explains_given_answers(model, image):
    found = saywhy.ask(model, image, QUESTION, ["red", "blue"])
    assert found.answers[:2] == ("red", "blue")
    assert found.answer == "yellow"


def test_ask_words_with_two_answers_raises(model, image):
    with pytest.raises(InputError, match="one answer at a time; 2"):
        saywhy.ask(model, image, QUESTION, ["red", "blue"], words=True)


def test_ask_reports_unknown_words(model, image):
    assert saywhy.ask(model, image, "what colour is the xylophone?", relu=False).unknown_words == ("xylophone",)


def test_ask_with_classifier_raises(image):
    with pytest.raises(InputError, match="takes no words"):
        saywhy.ask("toybox:classifier", image, QUESTION)


def test_toybox_model_satisfies_answers_questions_protocol(model):
    assert isinstance(model, AnswersQuestions)


def test_saved_vqa_explanation_loads_equal(model, image, tmp_path: Path):
    found = saywhy.ask(model, image, QUESTION)
    assert found.uncertainty.risk is not None
    back = VQAExplanation.load(found.save(tmp_path / "why.npz"))
    assert back == found
    for name in ("why.html", "why.png"):
        assert found.save(tmp_path / name).stat().st_size > 1000
    assert saywhy.Explanation.load(tmp_path / "why.npz") == found.explanation


def test_loading_an_explanation_as_vqa_explanation_raises(model, image, tmp_path: Path):
    file = saywhy.explain("toybox:classifier", image).save(tmp_path / "why.npz")
    with pytest.raises(InputError, match="no answer to a question"):
        VQAExplanation.load(file)
