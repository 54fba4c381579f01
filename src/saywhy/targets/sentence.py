"""Words and sentences that a captioner says, as targets: how likely it finds them."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
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
    """The log-probability of a whole caption, END not counted (Grad-CAM, section 8.1, and its authors' code).

    The output must say how likely every word is: ``log_probabilities()`` [batch, turn] and ``words`` [batch, turn], as
    :class:`saywhy.tasks.captioning.networks.CaptionOutput` does.
    """

    def output_keys(self) -> Iterator[Hashable]:
        return iter(("words",))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        likely, words = _said(output)
        names = [[" ".join(_text(row, output.labels))] for row in words]
        return TargetScores(likely.sum(1, keepdim=True), names, torch.full((len(words), 1), -1))

    def attention(self, output: ModelOutput) -> Tensor:
        seen, words = _looked(output)
        count = (words != 0).sum(1)[(..., *[None] * (seen.ndim - 1))]
        return seen.sum(1, keepdim=True) / count


@dataclass(frozen=True)
class Words(Target):
    """The log-probability of every word of a caption given the words before it: one target a word, from one pass.

    Captions of a batch may be of different lengths; behind the end of a shorter one targets are called "" and are 0.

    Args:
        numbers: of the words that are explained, counted from 0; None are all.
    """

    numbers: tuple[int, ...] | None = None

    def output_keys(self) -> Iterator[Hashable]:
        return iter(("words",))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        likely, words = _said(output)
        numbers = self._numbers(words)
        longest = words.shape[1]
        texts = [_text(row, output.labels) + [""] * longest for row in words]
        names = [[text[n] for n in numbers] for text in texts]
        index = torch.tensor(list(numbers), device=likely.device)
        return TargetScores(likely[:, index], names, torch.full((len(words), len(index)), -1), tuple(range(len(index))))

    def attention(self, output: ModelOutput) -> Tensor:
        seen, words = _looked(output)
        return seen[:, list(self._numbers(words))]

    def _numbers(self, words: Tensor) -> Sequence[int]:
        """Of the words that are explained."""
        longest = int((words != 0).sum(1).max())
        numbers = range(longest) if self.numbers is None else self.numbers
        wrong = [n for n in numbers if not 0 <= n < longest]
        if wrong or not numbers:
            raise TargetError(
                f"the caption has {longest} words, 0 to {longest - 1}; there is no word {wrong or numbers}."
            )
        return numbers


def _said(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """Log-probabilities [batch, word] and the words themselves, without END, filled up with 0."""
    raw: Any = output.raw
    if not hasattr(raw, "log_probabilities") or not hasattr(raw, "words"):
        raise TargetError(
            f"words are targets of a network that says how likely every word of a caption is; {type(raw).__name__} "
            "has no log_probabilities() and words. See saywhy.tasks.captioning.networks.CaptionOutput."
        )
    likely, words = raw.log_probabilities(), raw.words
    last = (words != 0).sum(1, keepdim=True) - 1  # END
    inside = torch.arange(words.shape[1], device=words.device) < last
    return torch.where(inside, likely, 0.0)[:, :-1], torch.where(inside, words, 0)[:, :-1]


def _looked(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """Where was looked for every word [batch, word, *space], zero behind the end, and the words [batch, word]."""
    seen, (_, words) = attention_of(output)[:, :-1], _said(output)
    return seen * (words != 0).to(seen)[(..., *[None] * (seen.ndim - 2))], words


def _text(words: Tensor, labels: Sequence[str] | None) -> list[str]:
    """The words of a caption."""
    return [labels[w] if labels and w < len(labels) else f"word {w}" for w in words.tolist() if w]


@target("words", form="words, words(0, 2)", reading="the log-probability of every word of the caption, or of these")
def words(*numbers: int) -> Words:
    """The words of a caption by their numbers, counted from 0; all of them where none is given."""
    return Words(numbers or None)
