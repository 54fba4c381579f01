"""Targets of captioning models: log-probabilities of words and of whole captions."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saywhy.errors import TargetError
from saywhy.output import ModelOutput
from saywhy.targets.registry import target
from saywhy.targets.target import Target, TargetScores, attention_of


@target(
    "sentence",
    form="sentence",
    reading="the log-probability of the whole caption",
    paper="Selvaraju et al., 2017",
)
@dataclass(frozen=True)
class Sentence(Target):
    """The log-probability of a whole caption without END (Grad-CAM, section 8.1, and its authors' code).

    The output must have ``log_probabilities()`` [batch, turn] and ``words`` [batch, turn], as
    :class:`saywhy.tasks.generation.networks.CaptionOutput` has.
    """

    def output_keys(self) -> Iterator[Hashable]:
        return iter(("words",))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        log_probabilities, words = _caption(output)
        names = [[" ".join(_caption_words(row, output.labels))] for row in words]
        return TargetScores(log_probabilities.sum(1, keepdim=True), names, torch.full((len(words), 1), -1))

    def attention(self, output: ModelOutput) -> Tensor:
        attended, words = _word_attention(output)
        count = (words != 0).sum(1)[(..., *[None] * (attended.ndim - 1))]
        return attended.sum(1, keepdim=True) / count


@dataclass(frozen=True)
class Words(Target):
    """The log-probability of every word of a caption given the words before it: one target a word, from one pass.

    Captions of a batch may differ in length; behind the end of a shorter caption the target has the name "" and the
    score 0.

    Args:
        numbers: the indices of the explained words, from 0; None is all.
        length: the number of words of the longest caption, for captions that are seen without it; None is that of the
            longest of these captions.
    """

    numbers: tuple[int, ...] | None = None
    length: int | None = None

    @property
    def spans_samples(self) -> bool:
        return self.length is None

    def resolved(self, output: ModelOutput) -> Target:
        _, words = _caption(output)
        return replace(self, length=self._length(words))

    def output_keys(self) -> Iterator[Hashable]:
        return iter(("words",))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        log_probabilities, words = _caption(output)
        numbers = self._numbers(words)
        length = self._length(words)
        log_probabilities = _padded(log_probabilities, length)
        texts = [_caption_words(row, output.labels) + [""] * length for row in words]
        names = [[text[n] for n in numbers] for text in texts]
        index = torch.tensor(list(numbers), device=log_probabilities.device)
        return TargetScores(
            log_probabilities[:, index], names, torch.full((len(words), len(index)), -1), tuple(range(len(index)))
        )

    def attention(self, output: ModelOutput) -> Tensor:
        attended, words = _word_attention(output)
        return _padded(attended, self._length(words))[:, list(self._numbers(words))]

    def _length(self, words: Tensor) -> int:
        return max(self.length or 0, int((words != 0).sum(1).max()))

    def _numbers(self, words: Tensor) -> Sequence[int]:
        """Return the indices of the explained words."""
        length = self._length(words)
        numbers = range(length) if self.numbers is None else self.numbers
        wrong = [n for n in numbers if not 0 <= n < length]
        if wrong or not numbers:
            raise TargetError(
                f"expected words from 0 to {length - 1} (the caption has {length} words), got {wrong or numbers}."
            )
        return numbers


def _caption(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """Return log-probabilities [batch, word] and words [batch, word] without END, padded with 0."""
    raw: Any = output.raw
    if not hasattr(raw, "log_probabilities") or not hasattr(raw, "words"):
        raise TargetError(
            "targets of words need a captioning model whose output has log_probabilities() and words, got "
            f"{type(raw).__name__}. See saywhy.tasks.generation.networks.CaptionOutput."
        )
    log_probabilities, words = raw.log_probabilities(), raw.words
    last = (words != 0).sum(1, keepdim=True) - 1  # END
    inside = torch.arange(words.shape[1], device=words.device) < last
    return torch.where(inside, log_probabilities, 0.0)[:, :-1], torch.where(inside, words, 0)[:, :-1]


def _word_attention(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """Return the attention of every word [batch, word, *space], zero behind the end, and the words [batch, word]."""
    attended, (_, words) = attention_of(output)[:, :-1], _caption(output)
    return attended * (words != 0).to(attended)[(..., *[None] * (attended.ndim - 2))], words


def _padded(values: Tensor, length: int) -> Tensor:
    """Return the values of words [batch, word, ...] with zeros behind, for at least so many words."""
    missing = values.new_zeros(len(values), max(0, length - values.shape[1]), *values.shape[2:])
    return torch.cat([values, missing], 1)


def _caption_words(words: Tensor, labels: Sequence[str] | None) -> list[str]:
    """Return the words of a caption as texts."""
    return [labels[w] if labels and w < len(labels) else f"word {w}" for w in words.tolist() if w]


@target("words", form="words, words(0, 2)", reading="the log-probability of every word of the caption, or of these")
def words(*numbers: int) -> Words:
    """Return the words of a caption by their indices from 0; all words if none is given."""
    return Words(numbers or None)
