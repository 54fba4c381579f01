"""Chains of words whose probabilities are a table, and decoders of them in plain Python, one hypothesis at a time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

END = 1
"""The word that finishes a sentence of these chains; they begin behind the word 0."""

LETTERS = [
    [0, 0.01, 0.50, 0.30, 0.10, 0.06, 0.03],
    [0, 1, 0, 0, 0, 0, 0],
    [0, 0.05, 0.05, 0.45, 0.30, 0.10, 0.05],
    [0, 0.10, 0.10, 0.05, 0.40, 0.25, 0.10],
    [0, 0.30, 0.10, 0.10, 0.05, 0.30, 0.15],
    [0, 0.50, 0.05, 0.05, 0.10, 0.10, 0.20],
    [0, 0.70, 0.05, 0.05, 0.10, 0.05, 0.05],
]
"""What follows <s>, </s>, a, b, c, d and e: the chain of which the results of other programs are known."""


@dataclass(frozen=True)
class Chain:
    """The next word depends on the sample and on the last two words.

    Attributes:
        table: log-probabilities [sample, word before the last, last word, next word].
    """

    table: Tensor

    @staticmethod
    def random(seed: int, words: int = 4, samples: int = 1, zeros: bool = False, tied: bool = False) -> "Chain":
        """Any probabilities; with zeros among them; or of few values, so that many sentences are equally likely."""
        generator = torch.Generator().manual_seed(seed)
        shape = (samples, words, words, words)
        if tied:
            return Chain(-1.5 - 0.5 * torch.randint(3, shape, generator=generator).double())
        logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        if zeros:
            logits = logits.masked_fill(torch.rand(shape, generator=generator) < 0.3, -torch.inf)
            logits[..., 2] = logits[..., 2].clamp_min(-5)  # one word is always possible
        return Chain(logits.log_softmax(-1))

    @staticmethod
    def bigram(rows: list[list[float]]) -> "Chain":
        """One sample whose next word depends on the last one, from probabilities."""
        table = torch.tensor(rows, dtype=torch.float64).log()
        return Chain(table.expand(1, len(rows), *table.shape))

    @property
    def start(self) -> Tensor:
        """The word before the first of every sample."""
        return torch.zeros(len(self.table), dtype=torch.long)

    @property
    def state(self) -> dict[str, Tensor]:
        """The state of the step besides the last word."""
        return {"sample": torch.arange(len(self.table)), "before": self.start}

    def step(self, words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The step function of decoders."""
        logs = self.table[state["sample"], state["before"], words]
        return logs, {"sample": state["sample"], "before": words}

    def of(self, sample: int) -> "Chain":
        """One of the samples alone."""
        return Chain(self.table[sample : sample + 1])

    def after(self, sample: int, said: tuple[int, ...]) -> list[float]:
        """Log-probabilities of the words that may follow."""
        before, last = (0, 0, *said)[-2:]
        return self.table[sample, before, last].tolist()


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis with its log-probabilities."""

    words: tuple[int, ...]
    gains: tuple[float, ...]
    total: float

    def score(self, exponent: float) -> float:
        return self.total / len(self.words) ** exponent

    @property
    def finished(self) -> bool:
        return bool(self.words) and self.words[-1] == END


NOTHING = Hypothesis((), (), 0.0)


def continuations(
    chain: Chain, sample: int, said: Hypothesis, min_length: int = 1, suppress_tokens: tuple[int, ...] = ()
) -> list[Hypothesis]:
    """By every word that may follow."""
    found = []
    for word, gain in enumerate(chain.after(sample, said.words)):
        too_soon = word == END and len(said.words) + 1 < min_length
        if gain == -math.inf or word in suppress_tokens or too_soon:
            continue
        found.append(Hypothesis((*said.words, word), (*said.gains, gain), said.total + gain))
    return found


def everything(chain: Chain, sample: int, max_length: int, **limits: Any) -> list[Hypothesis]:
    """All sentences: those that end, and those that are cut off."""
    found, open_ = [], [NOTHING]
    for length in range(1, max_length + 1):
        going = []
        for said in open_:
            for new in continuations(chain, sample, said, **limits):
                (found if new.finished or length == max_length else going).append(new)
        open_ = going
    return found


def slow_beams(
    chain: Chain,
    sample: int,
    max_length: int,
    num_beams: int,
    exponent: float = 0.0,
    refill: bool = True,
    early_stopping: bool = False,
    sibling_penalty: float = 0.0,
    **limits: Any,
) -> list[Hypothesis]:
    """Beam search with lists, which always continues to the maximum length."""
    done: list[Hypothesis] = []
    open_ = [NOTHING]
    for length in range(1, max_length + 1):
        ranked = []
        for place, said in enumerate(open_):
            family = sorted(
                continuations(chain, sample, said, **limits), key=lambda new: (-new.gains[-1], new.words[-1])
            )
            for rank, new in enumerate(family, start=1):
                ranked.append(((-(new.total - sibling_penalty * rank), place, -new.gains[-1], new.words[-1]), new))
        ranked.sort(key=lambda pair: pair[0])
        candidates = [new for _, new in ranked]
        done += [new for new in candidates[:num_beams] if new.finished or length == max_length]
        if early_stopping and len(done) >= num_beams:
            break
        going = candidates if refill else candidates[:num_beams]
        open_ = [new for new in going if not new.finished][:num_beams]
    return sorted(done, key=lambda said: -said.score(exponent))[:num_beams]


def slow_greedy(chain: Chain, sample: int, max_length: int, **limits: Any) -> list[Hypothesis]:
    """The likeliest word at every step; nothing where there is none."""
    said = NOTHING
    while len(said.words) < max_length and not said.finished:
        following = continuations(chain, sample, said, **limits)
        if not following:
            return []
        said = min(following, key=lambda new: (-new.gains[-1], new.words[-1]))
    return [said]
