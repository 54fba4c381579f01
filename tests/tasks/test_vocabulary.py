"""Vocabulary: encoding and decoding, unknown words, and invalid questions."""

import pytest
import torch

from saywhy.errors import InputError
from saywhy.tasks.vocabulary import MAX_WORDS, SPECIAL, Vocabulary, words_of

TEXTS = ["is there a cat?", "Is there a dog?", "what's left of the mug?"]


@pytest.fixture
def known() -> Vocabulary:
    return Vocabulary.of(TEXTS)


def test_words_are_sorted_by_frequency_then_alphabet(known):
    assert known.words[:4] == SPECIAL
    assert known.words[4:7] == ("a", "is", "there")
    assert known.words[7:] == tuple(sorted(known.words[7:]))


def test_decode_inverts_encode(known):
    for text in TEXTS:
        assert known.decode(known.encode(text).tolist()).split() == words_of(text)


def test_rare_words_are_left_out():
    assert Vocabulary.of(TEXTS, least=2).words == (*SPECIAL, "a", "is", "there")
    assert Vocabulary.of(TEXTS, most=1).words == (*SPECIAL, "a")


def test_unknown_words_are_reported_and_encoded_as_one(known):
    assert known.unknown("is there a zebra, a zebra or a yak?") == ("zebra", "or", "yak")
    assert known.encode("zebra cat").tolist()[0] == 1


def test_non_latin_words_are_encoded():
    known = Vocabulary.of(["где кошка?", "猫 は"])
    assert known.unknown("ГДЕ кошка") == ()
    assert known.encode("猫").tolist() == [known.numbers["猫"]]


@pytest.mark.parametrize("text", ["", "   ", "?!", "\n"])
def test_text_without_words_raises(known, text):
    with pytest.raises(InputError, match="at least one word"):
        known.encode(text)


def test_too_many_words_raise(known):
    assert len(known.encode("cat " * MAX_WORDS)) == MAX_WORDS
    with pytest.raises(InputError, match=f"1000 words are too many: at most {MAX_WORDS}"):
        known.encode("cat " * 1000)


def test_text_without_known_words_raises(known):
    with pytest.raises(InputError, match="none of the words of 'где кошка' is in the vocabulary of this model"):
        known.encode("где кошка")


def test_a_batch_is_filled_with_zeros(known):
    found = known.batch(["cat", "is there a cat"])
    assert found.dtype == torch.long
    assert found.shape == (2, 4)
    assert (found == 0).sum(1).tolist() == [3, 0]
