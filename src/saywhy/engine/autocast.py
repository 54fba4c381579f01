"""Autocast for the network, full precision for the maps.

A caller may stand in ``torch.autocast``. The network then runs under it, as it would without saywhy. Under it the
products in a method's equation would round to 16 bits too, so everything but the network runs outside.
"""

import contextlib
import threading
from collections.abc import Iterator

import torch

_DEVICES = ("cpu", "cuda", "xpu", "mps")


class _Callers(threading.local):
    """The autocast settings of the caller: (device type, dtype, whether casts of weights are kept)."""

    settings: tuple[tuple[str, torch.dtype, bool], ...] = ()


_callers = _Callers()


@contextlib.contextmanager
def outside_autocast() -> Iterator[None]:
    """Within the block autocast is off, except inside :func:`callers_autocast`.

    >>> a = torch.ones(2, 2)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), outside_autocast():
    ...     with callers_autocast():
    ...         inside = (a @ a).dtype
    ...     (a @ a).dtype, inside
    (torch.float32, torch.bfloat16)
    """
    kept = torch.is_autocast_cache_enabled()
    found = tuple((d, torch.get_autocast_dtype(d), kept) for d in _DEVICES if torch.is_autocast_enabled(d))
    if not found:
        yield
        return
    before, _callers.settings = _callers.settings, found
    try:
        with contextlib.ExitStack() as stack:
            for device, dtype, _ in found:
                stack.enter_context(torch.autocast(device, dtype, enabled=False))
            yield
    finally:
        _callers.settings = before


@contextlib.contextmanager
def callers_autocast() -> Iterator[None]:
    """Within the block autocast is as the caller set it before :func:`outside_autocast`."""
    with contextlib.ExitStack() as stack:
        for device, dtype, kept in _callers.settings:
            stack.enter_context(torch.autocast(device, dtype, cache_enabled=kept))
        yield
