"""Words and their numbers."""

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
"""The first words of every vocabulary, in this order: the number 0 is no word at all."""

LONGEST = 60
"""Words of a question; longer ones are refused."""

Sentences = Int[Tensor, "batch word"]
"""Numbers of words, filled up with 0 behind the end of a shorter sentence."""


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without signs; of any script whose words are letters.

    >>> words_of("What's left of the mug?"), words_of("Σ is 2")
    (["what's", 'left', 'of', 'the', 'mug'], ['σ', 'is', '2'])
    """
    return re.findall(r"\w+(?:['’]\w+)*", text.casefold())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows.

    Attributes:
        words: those of ``SPECIAL`` first; the place of a word is its number.

    >>> known = Vocabulary.of(["is there a cat?", "is there a dog?"])
    >>> known.encode("a dog, is it?"), known.unknown("a dog, is it?")
    (tensor([4, 8, 5, 1]), ('it',))
    """

    words: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str], least: int = 1, most: int | None = None) -> "Vocabulary":
        """The words of texts that come at least so often, the frequent ones first, equals in alphabetical order.

        Args:
            texts: sentences.
            least: how often a word must come.
            most: how many words are kept, without the special ones.
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
        """The words of a text that are not in the vocabulary, each once."""
        return tuple(dict.fromkeys(word for word in words_of(text) if word not in self.numbers))

    def encode(self, text: str) -> Int[Tensor, " word"]:
        """The numbers of a text's words; those that are not known have the number of ``UNKNOWN``.

        Raises:
            InputError: there is no word in the text, none that is known, or more than ``LONGEST``.
        """
        words = words_of(text)
        if not words:
            raise InputError(f"a question or a sentence has at least one word, got {text!r}.")
        if len(words) > LONGEST:
            raise InputError(f"{len(words)} words are too many: at most {LONGEST}. Ask one question at a time.")
        if not any(word in self.numbers for word in words):
            some = ", ".join(self.words[len(SPECIAL) : len(SPECIAL) + 8])
            raise InputError(f"none of the words of {text!r} is known to this model. It knows words such as: {some}.")
        return torch.tensor([self.numbers.get(word, SPECIAL.index(UNKNOWN)) for word in words])

    def batch(self, texts: Sequence[str]) -> Sentences:
        """Several texts [text, word], filled up with 0.

        >>> Vocabulary((*SPECIAL, "a", "b")).batch(["a", "b a"])
        tensor([[4, 0],
                [5, 4]])
        """
        rows = [self.encode(text) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers, up to ``END``, without the special words.

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
