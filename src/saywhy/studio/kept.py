"""``Kept``: a bounded number of values for a while, each under an id that nobody can guess."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by id. The one unused for longest is dropped when there are too many, and each after a time without use.

    There is no way to list the ids. It can be used by several threads.

    Args:
        most: the largest number of values.
        seconds: the time without use.
        clock: of the time.

    >>> kept = Kept(most=1, seconds=60)
    >>> first, second = kept.add("a"), kept.add("b")
    >>> len(first), kept.get(first), kept.get(second)
    (22, None, 'b')
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, value: T) -> str:
        """Keep a value; return its id of 128 random bits."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._values[key] = (self._clock(), value)
            self._drop()
        return key

    def get(self, key: str) -> T | None:
        """Return a value; None if there is none of this id, or no longer."""
        with self._lock:
            self._drop()
            if key not in self._values:
                return None
            _, value = self._values.pop(key)
            self._values[key] = (self._clock(), value)
            return value

    def remove(self, key: str) -> None:
        """Remove a value, if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def __len__(self) -> int:
        with self._lock:
            self._drop()
            return len(self._values)

    def _drop(self) -> None:
        """Drop what is too old, and the oldest of too many; values lie in the order of their last use."""
        oldest = self._clock() - self._seconds
        while self._values and (len(self._values) > self._most or next(iter(self._values.values()))[0] < oldest):
            self._values.popitem(last=False)
