"""Translation end to end: a small BART learns a made-up language pair, and its decoders are compared."""

from itertools import product

import pytest

from research.claims.decoders import beams, diverse
from research.claims.maps import MapMeasurements
from research.claims.question_decoders import EVERYBODY
from research.claims.toy_languages import (
    FORM,
    SOURCE,
    SYNONYMS,
    TARGET_ORDER,
    Translator,
    covered,
    sentences,
    train_translator,
    translations,
)
from research.claims.translation import (
    TRANSFORMERS,
    TranslationResults,
    generate_with_transformers,
    measure_translations,
    translate,
)

pytest.importorskip("transformers", reason="the translator is a model of transformers")

pytestmark = pytest.mark.slow

COUNT = 20


@pytest.fixture(scope="module")
def translator() -> Translator:
    return train_translator(0, 300)


def test_the_languages_have_the_translations_that_they_should():
    for sentence in sentences()[::100]:
        by_hand = set()
        for choice in product(*(range(SYNONYMS[FORM[place]]) for place in TARGET_ORDER)):
            words = [f"{sentence[place]}{'abc'[at]}" for place, at in zip(TARGET_ORDER, choice, strict=True)]
            by_hand.add(" ".join(words))
        assert translations(sentence) == by_hand
        assert covered(sentence, list(by_hand)) == 1.0
        assert covered(sentence, ["nonsense"]) == 0.0
        # every word has at most three translations, so three of them can show all
        three = [" ".join(f"{sentence[p]}{'abc'[n % SYNONYMS[FORM[p]]]}" for p in TARGET_ORDER) for n in range(3)]
        assert covered(sentence, three) == 1.0
    assert len(sentences()) == len(SOURCE["adjective"]) ** 2 * len(SOURCE["noun"]) ** 2 * len(SOURCE["verb"])


def test_beam_search_is_that_of_transformers(translator):
    some = translator.held_out[:COUNT]
    assert translate(translator, some, beams()) == generate_with_transformers(translator, some)


def test_translations_are_right_and_diverse_ones_show_more_synonyms(translator):
    some = translator.held_out[:COUNT]
    plain = translate(translator, some, beams())
    found = {1: plain, 3: translate(translator, some, diverse(3, 0.5)), 6: translate(translator, some, diverse(6, 0.5))}
    shown = {}
    for groups, texts in found.items():
        right = [
            text in translations(sentence) for sentence, of_one in zip(some, texts, strict=True) for text in of_one
        ]
        assert sum(right) / len(right) > 0.9, groups
        shown[groups] = sum(covered(sentence, of_one) for sentence, of_one in zip(some, texts, strict=True)) / COUNT
    # The best possible six show every synonym; a beam search varies the words that it is least sure of.
    assert shown[1] < shown[3] <= 1.0
    assert shown[1] < shown[6] <= 1.0


def test_one_group_and_no_penalty_are_beam_search(translator):
    some = translator.held_out[:5]
    plain = translate(translator, some, beams())
    assert translate(translator, some, diverse(1, 0.7)) == plain
    alike = translate(translator, some, diverse(6, 0.0))
    assert all(len(set(texts)) == 1 and texts[0] == of_one[0] for texts, of_one in zip(alike, plain, strict=True))


@pytest.mark.nightly
def test_report_has_every_decoder():
    kept, strengths, loss = measure_translations(0, 0.1)
    assert loss > 0
    assert set(strengths) == set(EVERYBODY[1:])
    page = TranslationResults(kept).report()
    for who in (*EVERYBODY, TRANSFORMERS):
        assert f"| {who} |" in page
    assert isinstance(kept, MapMeasurements)
    assert all(0 <= value <= 1 for values in kept.values.values() for value in values if isinstance(value, float))
