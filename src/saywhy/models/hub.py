"""The Hugging Face hub without a network connection: one quick check instead of its own retries."""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlparse

PATIENCE = 3.0
"""Seconds to wait for a connection; the hub's own library retries eleven times, for up to a minute."""


@contextlib.contextmanager
def hub() -> Iterator[bool]:
    """Use the hub within this block only if it can be reached; otherwise use its local cache.

    Yields:
        Whether the hub can be reached.
    """
    from huggingface_hub import constants

    reached = reachable(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reached
    try:
        yield reached and not before
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Whether an address accepts connections; True without a test if connections go through a proxy.

    >>> reachable("http://127.0.0.1:1")
    False
    """
    url = urlparse(address)
    if url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(url.hostname or ""):
        return True
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
