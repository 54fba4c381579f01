"""The weights of the models that speak and ship: what they say of themselves, and whether that is so."""

import json
import math
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

import saywhy
from saywhy.tasks.captioning.generate import generate_captions
from saywhy.toybox import scene
from saywhy.toybox.language import TYPES, questions
from saywhy.toybox.language.truth import mentions
from saywhy.uncertainty.report import uncertainty_report

pytestmark = pytest.mark.slow

SHIPPED = Path(str(files("saywhy.toybox"))) / "weights"
SCENES = 60


def told(name: str) -> dict[str, str]:
    with safe_open(SHIPPED / f"toybox-{name}.safetensors", "pt") as opened:
        return dict(opened.metadata())


def test_questions_are_answered_as_well_as_was_asked_for():
    reached, guessed = (json.loads(told("vqa")[key]) for key in ("test_accuracy", "guessed"))
    assert set(reached) == set(guessed) == {"overall", *TYPES}
    assert reached["overall"] >= 0.9
    assert {name: share for name, share in reached.items() if share < 0.8} == {}
    assert guessed["overall"] < 0.55
    assert int(told("vqa")["test_scenes"]) >= 1000


def test_captions_are_as_true_as_was_asked_for():
    truth = json.loads(told("captioner")["test_truth"])
    assert set(truth) == {"kind", "colour", "count"}
    assert min(truth.values()) >= 0.85
    assert int(told("captioner")["different_captions"]) > 100


def test_what_the_file_says_of_its_answers_is_so():
    """On scenes of the test split that were not measured, through the front door: within what chance allows."""
    model = saywhy.load("toybox:vqa")
    right = []
    for index in range(50_000, 50_000 + SCENES):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            inputs = model.asked(Image.fromarray(drawn.image), question.text)
            right.append(saywhy.explain(model, inputs, method="eigencam").targets[0][0] == question.answer)
    share = json.loads(told("vqa")["test_accuracy"])["overall"]
    assert abs(sum(right) / len(right) - share) < 4 * math.sqrt(share * (1 - share) / len(right))


def test_who_says_how_certain_he_is_answers_hardly_worse():
    certain, plain = (json.loads(told(name)["test_accuracy"]) for name in ("ucam", "vqa"))
    assert certain["talk-test"] >= plain["overall"] - 0.02
    assert set(json.loads(told("ucam")["test_auroc"])) == {"total", "aleatoric", "epistemic", "aleatoric_variance"}
    model = saywhy.load("toybox:ucam")
    assert set(model.reference.quantiles) == {"total", "aleatoric", "epistemic", "aleatoric_variance"}
    assert 0 < model.reference.limit < math.log(len(model.labels))


def test_a_clear_image_is_answered_and_a_blurred_one_is_not(tmp_path):
    model = saywhy.load("toybox:ucam")
    clear = scene("talk-test", 1)
    inputs = model.asked(Image.fromarray(clear.image), "do you see a green apple?")
    told_of_it = uncertainty_report(model, inputs, num_samples=20)
    assert (told_of_it.answer, told_of_it.abstains) == ("yes", False)
    blurred = next(one for one in (scene("ambiguous-test", i) for i in range(100)) if one.clarity < 0.1)
    inputs = model.asked(Image.fromarray(blurred.image), "how many things do you see?")
    assert uncertainty_report(model, inputs, num_samples=20).abstains


def test_what_the_file_says_of_its_captions_is_so():
    model = saywhy.load("toybox:captioner")
    drawn = [scene("talk-test", index) for index in range(50_000, 50_000 + SCENES)]
    said = generate_captions(model, [Image.fromarray(one.image) for one in drawn])
    found = [
        m.right for one, (text,) in zip(drawn, said, strict=True) for m in mentions(text, one) if m.claim == "kind"
    ]
    share = json.loads(told("captioner")["test_truth"])["kind"]
    assert abs(sum(found) / len(found) - share) < 4 * math.sqrt(share * (1 - share) / len(found)) + 0.02
