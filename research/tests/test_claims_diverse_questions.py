"""The experiments on diverse questions, on two scenes, with a network that was not trained."""

import dataclasses

import pytest

import saywhy
from research.claims import diverse_questions
from research.claims.decoders import BEAM
from research.claims.diverse_questions import answers_of, choose_strengths, measure_questions
from research.claims.language_networks import SeededModel
from research.claims.maps import MapMeasurements
from research.claims.question_decoders import DIVERSE, EVERYBODY, candidates
from research.claims.question_tables import OPENING, PENALTIES, QuestionResults
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import questions
from saywhy.toybox.recipes.questioner import fresh

pytestmark = pytest.mark.nightly


@pytest.fixture
def untrained(monkeypatch) -> SeededModel:
    """A question generator with random weights, and the trunk of the VQA model."""
    vqa = saywhy.load("toybox:vqa")
    known = Vocabulary.of(one.text for i in range(40) for one in questions(scene("talk-train", i, 32)))
    network = fresh(0, known, vqa.module).eval()
    model = dataclasses.replace(vqa, module=network, labels=known.words, texts={"question": known.batch})
    found = SeededModel(0, model)
    monkeypatch.setattr(diverse_questions, "_questioner", lambda seed: found)
    monkeypatch.setattr("research.claims.question_decoders.DIVERSITY_PENALTIES", (0.5, 2.0))
    return found


def test_report_has_every_table_and_decoder(untrained):
    strengths, kept = choose_strengths(0, 0.01), MapMeasurements()
    assert set(strengths) == set(EVERYBODY) - {BEAM}
    every = candidates(untrained.model.module.head.embedding.weight.detach(), 0)
    assert all(strength in every[who] for who, strength in strengths.items())
    assert sum(penalty in who for penalty in PENALTIES for who in EVERYBODY) == 8
    for objects in (2, 3, 4):
        kept.join(measure_questions(0, objects, strengths, 0.01))
    for who in (*EVERYBODY, OPENING):
        assert len(kept.values["types", who]) == 6
        assert all(1 <= types <= 6 for types in kept.values["types", who])
        assert all(right <= every for right, every in kept.values["truthful", who])
    assert set(kept.values["preferred", BEAM]) == {0.5}
    assert len(kept.values["map distance", DIVERSE]) == 2
    assert all(0 < first <= whole for who in ("questions", "captions") for first, whole in kept.values["opening", who])
    page = QuestionResults(kept).report()
    for heading in ("Diversity", "Quality", "By number", "Why questions", "Verdicts"):
        assert f"## {heading}" in page
    for who in EVERYBODY:
        assert f"| {who} |" in page


def test_answers_are_those_of_the_vqa_model():
    vqa, drawn = saywhy.load("toybox:vqa"), scene("talk-test", 1)
    features = diverse_questions.trunk_features(SeededModel(0, vqa), [drawn, drawn])
    texts = [["what colour is the flower", "how many things are there"], ["is there a cat"]]
    found = answers_of(vqa, features, texts)
    for text, (answer, probability) in zip(texts[0] + texts[1], found[0] + found[1], strict=True):
        asked = saywhy.ask(vqa, drawn.image, text, top=1, relu=False)
        assert answer == asked.answer
        assert probability == pytest.approx(asked.uncertainty.probability, abs=1e-4)
