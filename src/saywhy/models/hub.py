"""The Hugging Face hub where there may be no network: ask once, quickly, instead of waiting for its retries."""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlparse

PATIENCE = 3.0
"""Seconds that the hub has to answer; it is asked eleven times over, for up to a minute, by its own library."""


@contextlib.contextmanager
def hub() -> Iterator[bool]:
    """Within this block the hub is asked only if it can be reached; otherwise what was downloaded before is used.

    Yields:
        Whether it can be reached.
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
    """Whether somebody answers at an address; not tried, and believed, where connections go through a proxy.

    >>> reachable("http://127.0.0.1:1")
    False
    """
    place = urlparse(address)
    if place.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(place.hostname or ""):
        return True
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
