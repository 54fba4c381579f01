"""Ignoring warnings within a block, while other threads may do the same.

``warnings.catch_warnings`` saves and restores the one list of filters of the process: where blocks of two threads
overlap, the last to end restores the filters of the other, and its warnings stay ignored for ever.
"""

import contextlib
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator

from saywhy.interrupts import deferred_interrupts

_blocks: "Counter[tuple[type[Warning], str, str]]" = Counter()
"""How many blocks ignore a category, a message and a module now."""

_lock = threading.Lock()


@contextlib.contextmanager
def ignored_warnings(category: type[Warning] = Warning, message: str = "", module: str = "") -> Iterator[None]:
    """Ignore warnings within the block, in all threads of the process.

    Args:
        category: the class of the warnings.
        message: the beginning of their text, as a regular expression.
        module: the beginning of the name of the module that warns, as a regular expression.

    >>> with ignored_warnings(FutureWarning):
    ...     warnings.warn("nobody reads this", FutureWarning)
    """
    key, pattern = (category, message, module), f"(?:){message}"  # a pattern that no filter of the user has
    entry = ("ignore", re.compile(pattern, re.IGNORECASE), category, re.compile(module) if module else None, 0)
    try:
        with deferred_interrupts(), _lock:
            _blocks[key] += 1
            if _blocks[key] == 1:
                warnings.filterwarnings("ignore", pattern, category, module)
        yield
    finally:
        with deferred_interrupts(), _lock:
            _blocks[key] -= 1
            if not _blocks[key]:
                del _blocks[key]
                with contextlib.suppress(ValueError):  # the caller has replaced the filters
                    warnings.filters.remove(entry)  # type: ignore[attr-defined]
