"""The shipped VQA and captioning weights: their metadata, and whether they are right."""

import json
import math
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

import saywhy
from saywhy.tasks.generation.generate import generate_texts
from saywhy.toybox import scene
from saywhy.toybox.language import TYPES, questions
from saywhy.toybox.language.mentions import mentions
from saywhy.uncertainty.report import uncertainty_report

pytestmark = pytest.mark.slow

SHIPPED = Path(str(files("saywhy.toybox"))) / "weights"
SCENES = 60


def metadata(name: str) -> dict[str, str]:
    with safe_open(SHIPPED / f"toybox-{name}.safetensors", "pt") as opened:
        return dict(opened.metadata())


def test_the_vqa_accuracy_is_as_high_as_required():
    reached, guessed = (json.loads(metadata("vqa")[key]) for key in ("test_accuracy", "test_accuracy_without_image"))
    assert set(reached) == set(guessed) == {"overall", *TYPES}
    assert reached["overall"] >= 0.9
    assert {name: share for name, share in reached.items() if share < 0.8} == {}
    assert guessed["overall"] < 0.55
    assert int(metadata("vqa")["test_scenes"]) >= 1000


def test_captions_are_as_accurate_as_required():
    truth = json.loads(metadata("captioner")["test_truthfulness"])
    assert set(truth) == {"kind", "colour", "count"}
    assert min(truth.values()) >= 0.85
    assert int(metadata("captioner")["distinct_captions"]) > 100


@pytest.mark.nightly
def test_vqa_accuracy_in_metadata_is_reproduced():
    """On other scenes of the test split, through the public API, within the sampling error."""
    model = saywhy.load("toybox:vqa")
    right = []
    for index in range(50_000, 50_000 + SCENES):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            inputs = model.prepare_inputs(Image.fromarray(drawn.image), question.text)
            right.append(saywhy.explain(model, inputs, method="eigencam").targets[0][0] == question.answer)
    share = json.loads(metadata("vqa")["test_accuracy"])["overall"]
    assert abs(sum(right) / len(right) - share) < 4 * math.sqrt(share * (1 - share) / len(right))


def test_ucam_accuracy_is_within_2_percent_of_vqa():
    certain, plain = (json.loads(metadata(name)["test_accuracy"]) for name in ("ucam", "vqa"))
    assert certain["talk-test"] >= plain["overall"] - 0.02
    assert set(json.loads(metadata("ucam")["test_auroc"])) == {"total", "aleatoric", "epistemic", "aleatoric_variance"}
    model = saywhy.load("toybox:ucam")
    assert set(model.reference.quantiles) == {"total", "aleatoric", "epistemic", "aleatoric_variance"}
    assert 0 < model.reference.limit < math.log(len(model.labels))


def test_a_clear_image_is_answered_and_a_blurred_one_is_not(tmp_path):
    model = saywhy.load("toybox:ucam")
    clear = scene("talk-test", 1)
    inputs = model.prepare_inputs(Image.fromarray(clear.image), "do you see a green apple?")
    report = uncertainty_report(model, inputs, num_samples=20)
    assert (report.answer, report.abstains) == ("yes", False)
    blurred = next(one for one in (scene("ambiguous-test", i) for i in range(100)) if one.clarity < 0.1)
    inputs = model.prepare_inputs(Image.fromarray(blurred.image), "how many things do you see?")
    assert uncertainty_report(model, inputs, num_samples=20).abstains


def test_caption_accuracy_in_metadata_is_reproduced():
    model = saywhy.load("toybox:captioner")
    drawn = [scene("talk-test", index) for index in range(50_000, 50_000 + SCENES)]
    said = generate_texts(model, [Image.fromarray(one.image) for one in drawn])
    found = [
        m.right for one, (text,) in zip(drawn, said, strict=True) for m in mentions(text, one) if m.claim == "kind"
    ]
    share = json.loads(metadata("captioner")["test_truthfulness"])["kind"]
    assert abs(sum(found) / len(found) - share) < 4 * math.sqrt(share * (1 - share) / len(found)) + 0.02
