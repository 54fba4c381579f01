"""``Kept``: a bounded number of values for a while, each under an id that nobody can guess."""

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by id, each of an owner.

    When there are too many, the owner with the most values loses the one unused for longest; after a time without use
    each is dropped. There is no way to list the ids. It can be used by several threads.

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
        self._values: OrderedDict[str, tuple[float, str, T]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, value: T, owner: str = "") -> str:
        """Keep a value; return its id of 128 random bits."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._values[key] = (self._clock(), owner, value)
            self._drop()
        return key

    def get(self, key: str) -> T | None:
        """Return a value; None if there is none of this id, or no longer."""
        with self._lock:
            self._drop()
            if key not in self._values:
                return None
            _, owner, value = self._values.pop(key)
            self._values[key] = (self._clock(), owner, value)
            return value

    def remove(self, key: str) -> None:
        """Remove a value, if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def remove_where(self, condition: Callable[[T], bool]) -> None:
        """Remove all values for which a condition holds."""
        with self._lock:
            for key in [key for key, (*_, value) in self._values.items() if condition(value)]:
                del self._values[key]

    def __len__(self) -> int:
        """Return the number of values, after dropping those that are too old."""
        with self._lock:
            self._drop()
            return len(self._values)

    def _drop(self) -> None:
        """Drop what is too old, and what is too much; values lie in the order of their last use."""
        oldest = self._clock() - self._seconds
        while self._values and next(iter(self._values.values()))[0] < oldest:
            self._values.popitem(last=False)
        while len(self._values) > self._most:
            (most, _), *_ = Counter(owner for _, owner, _ in self._values.values()).most_common(1)
            del self._values[next(key for key, (_, owner, _) in self._values.items() if owner == most)]
