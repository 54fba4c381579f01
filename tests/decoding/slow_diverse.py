"""Diverse beam search with lists, one group after the other at every step, as the paper's algorithm 1 says it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from slow_decoding import END, NOTHING, Chain, Hypothesis, continuations

SlowPenalty = Callable[[tuple[int, ...], list[tuple[int, ...]]], float]
"""The penalty of a hypothesis with its new last word, from the words of other groups up to the same position."""


@dataclass(frozen=True)
class Slow:
    """A hypothesis of a group: what it says, by what it is ranked, what was taken from it, whether it is a ghost."""

    said: Hypothesis = NOTHING
    rank: float = 0.0
    paid: float = 0.0
    ghost: bool = False


def hamming(own: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
    return float(sum(other[-1] == own[-1] for other in others))


def cumulative(temperature: float) -> SlowPenalty:
    def penalty(own: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
        differing = (sum(a != b for a, b in zip(own, other, strict=True)) for other in others)
        return sum(math.exp(-count / temperature) for count in differing)

    return penalty


def ngram(n: int) -> SlowPenalty:
    def penalty(own: tuple[int, ...], others: list[tuple[int, ...]]) -> float:
        if len(own) < n:
            return 0.0
        return float(sum(other[i : i + n] == own[-n:] for other in others for i in range(len(other) - n + 1)))

    return penalty


def embedding(vectors: list[list[float]]) -> SlowPenalty:
    def cosine(a: list[float], b: list[float]) -> float:
        size = math.hypot(*a) * math.hypot(*b)
        return max(0.0, sum(x * y for x, y in zip(a, b, strict=True)) / size) if size else 0.0

    return lambda own, others: sum(cosine(vectors[own[-1]], vectors[other[-1]]) for other in others)


def slow_diverse(
    chain: Chain,
    sample: int,
    max_length: int,
    num_beams: int,
    num_beam_groups: int,
    diversity_penalty: float,
    penalty: SlowPenalty = hamming,
    carry: str = "augmented",
    finished: str = "stop",
    penalize_end: bool = True,
    exponent: float = 0.0,
    refill: bool = False,
) -> list[tuple[int, Slow]]:
    """All hypotheses with their groups, the likeliest first."""
    size = num_beams // num_beam_groups
    alive = [[Slow()] for _ in range(num_beam_groups)]
    done: list[list[Slow]] = [[] for _ in range(num_beam_groups)]
    for length in range(1, max_length + 1):
        previous: list[tuple[int, ...]] = []
        for group in range(num_beam_groups):
            ranked = []
            for place, one in enumerate(alive[group]):
                for new in continuations(chain, sample, one.said):
                    taken = (
                        diversity_penalty * penalty(new.words, previous)
                        if penalize_end or new.words[-1] != END
                        else 0.0
                    )
                    gain = new.gains[-1]
                    total = one.rank + gain - taken
                    key = (-total, place, -(gain - taken), new.words[-1])
                    rank = one.rank + gain if carry == "raw" else total
                    paid = taken if carry == "raw" else one.paid + taken
                    ranked.append((key, Slow(new, rank, paid, one.ghost)))
            candidates = [new for _, new in sorted(ranked, key=lambda pair: pair[0])]
            first = candidates[:size]
            done[group] += [c for c in first if not c.ghost and (c.said.words[-1] == END or length == max_length)]
            if finished == "continue":
                fallen = [
                    c if c.ghost or c.said.words[-1] != END else replace(c, rank=-1000.0, ghost=True) for c in first
                ]
                alive[group] = fallen
                previous += [c.said.words for c in first]
            else:
                going = candidates if refill else first
                alive[group] = [c for c in going if c.said.words[-1] != END][:size]
                ended = [c for c in first if c.said.words[-1] == END]
                previous += [c.said.words for c in (ended + alive[group] if refill else first)]
    found = []
    for group, hypotheses in enumerate(done):
        hypotheses.sort(key=lambda c: -(c.said.total - c.paid) / len(c.said.words) ** exponent)
        found += [(group, c) for c in hypotheses[:size]]
    return sorted(found, key=lambda pair: -pair[1].said.score(exponent))
