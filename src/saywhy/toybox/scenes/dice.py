"""Chance that can be repeated: every scene rolls its own dice, seeded by the scene's name."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np

T = TypeVar("T")
BLOCK = 256  # numbers drawn from the generator at a time; one call for a block is far cheaper than one for each


class Dice:
    """Random choices that depend on ``names`` alone.

    The seed is a hash (BLAKE2b, 8 bytes) of the names: Python's own ``hash`` differs from process to process.

    >>> Dice("test", 7).between(0, 10) == Dice("test", 7).between(0, 10)
    True
    >>> round(Dice("test", 7).between(0, 10), 4)
    8.479
    """

    def __init__(self, *names: str | int) -> None:
        digest = blake2b("/".join(str(name) for name in names).encode(), digest_size=8).digest()
        self._generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
        self._block: list[float] = []

    def roll(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(BLOCK).tolist()
        return self._block.pop()

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        if not self._block:  # as in ``roll``; this is called hundreds of times a scene, and a call less is felt
            return low + (high - low) * self.roll()
        return low + (high - low) * self._block.pop()

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.roll() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True, with the given probability."""
        return self.roll() < probability

    def pick(self, objects: Sequence[T]) -> T:
        """One of the things, each as likely as the other."""
        return objects[int(self.roll() * len(objects))]
