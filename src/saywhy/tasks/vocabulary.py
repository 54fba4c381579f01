"""Vocabulary: words and their numbers (token ids)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.errors import InputError

PAD, UNKNOWN, START, END = "<pad>", "<unknown>", "<start>", "<end>"
SPECIAL = (PAD, UNKNOWN, START, END)
"""The special words, the first of every vocabulary, in this order; the number 0 is padding."""

MAX_WORDS = 60
"""The maximum number of words of a text; longer texts raise an error."""

Sentences = Int[Tensor, "batch word"]
"""Word numbers; shorter sentences are padded with 0."""


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation; for any script whose words are letters.

    >>> words_of("What's left of the mug?"), words_of("Σ is 2")
    (["what's", 'left', 'of', 'the', 'mug'], ['σ', 'is', '2'])
    """
    return re.findall(r"\w+(?:['’]\w+)*", text.casefold())


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a network.

    Attributes:
        words: the words, those of ``SPECIAL`` first; the index of a word is its number.

    >>> known = Vocabulary.of(["is there a cat?", "is there a dog?"])
    >>> known.encode("a dog, is it?"), known.unknown("a dog, is it?")
    (tensor([4, 8, 5, 1]), ('it',))
    """

    words: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str], least: int = 1, most: int | None = None) -> "Vocabulary":
        """Build a vocabulary of the words of texts, sorted by frequency, ties in alphabetical order.

        Args:
            texts: sentences.
            least: the minimum frequency of a word.
            most: the maximum number of words, without the special ones.
        """
        counts = Counter(word for text in texts for word in words_of(text))
        kept = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
        return Vocabulary((*SPECIAL, *kept[:most]))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of every word."""
        return {word: number for number, word in enumerate(self.words)}

    def unknown(self, text: str) -> tuple[str, ...]:
        """Return the words of a text that are not in the vocabulary, each once."""
        return tuple(dict.fromkeys(word for word in words_of(text) if word not in self.numbers))

    def encode(self, text: str) -> Int[Tensor, " word"]:
        """Return the numbers of a text's words; words outside the vocabulary have the number of ``UNKNOWN``.

        Raises:
            InputError: the text has no word, no word of the vocabulary, or more than ``MAX_WORDS`` words.
        """
        words = words_of(text)
        if not words:
            raise InputError(f"expected a text of at least one word, got {text!r}.")
        if len(words) > MAX_WORDS:
            raise InputError(f"{len(words)} words are too many: at most {MAX_WORDS}. Give one question or sentence.")
        if not any(word in self.numbers for word in words):
            some = ", ".join(self.words[len(SPECIAL) : len(SPECIAL) + 8])
            raise InputError(
                f"none of the words of {text!r} is in the vocabulary of this model. Use its words, such as: {some}."
            )
        return torch.tensor([self.numbers.get(word, SPECIAL.index(UNKNOWN)) for word in words])

    def batch(self, texts: Sequence[str]) -> Sentences:
        """Return the numbers of several texts [text, word], padded with 0.

        >>> Vocabulary((*SPECIAL, "a", "b")).batch(["a", "b a"])
        tensor([[4, 0],
                [5, 4]])
        """
        rows = [self.encode(text) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of word numbers, up to ``END``, without the special words.

        >>> Vocabulary((*SPECIAL, "a", "b")).decode([2, 5, 4, 3, 5])
        'b a'
        """
        words = []
        for number in numbers:
            if self.words[number] == END:
                break
            if self.words[number] not in SPECIAL:
                words.append(self.words[number])
        return " ".join(words)
