"""Visitors: who is who for fair turns and rates, where requests may come from, and the token of a public studio."""

import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from starlette.requests import Request

from saywhy.studio.pages import is_for_raters, is_page
from saywhy.studio.problems import Problem
from saywhy.studio.settings import StudioSettings

COOKIE, TOKEN_COOKIE = "saywhy_visitor", "saywhy_token"

MINUTE = 60.0

COOKIES = 100
"""New visitors of one address in a minute; more share the turns of the address."""

OF_ADDRESS = 5
"""So many times as many requests in a minute are allowed for an address as for a visitor."""

KNOWN = 10_000
"""Visitors whose requests are counted; of more the oldest are forgotten."""


class Rate:
    """The number of requests of each visitor within a minute.

    >>> rate = Rate(per_minute=1, clock=lambda: 0.0)
    >>> rate.allows("a"), rate.allows("a"), rate.allows("b")
    (True, False, True)
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, visitor: str) -> bool:
        """Count a request; return whether it is allowed."""
        with self._lock:
            times = self._times.setdefault(visitor, deque())
            self._times.move_to_end(visitor)
            if len(self._times) > KNOWN:
                self._times.popitem(last=False)
            now = self._clock()
            while times and times[0] <= now - MINUTE:
                times.popleft()
            if len(times) >= self._most:
                return False
            times.append(now)
            return True


class Visitors:
    """Who a request is from: by a signed cookie, which nobody can make up; by address without one.

    >>> visitors = Visitors()
    >>> cookie = visitors.new_cookie()
    >>> visitors.known(cookie) == cookie.partition(".")[0], visitors.known("made.up")
    (True, None)
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def new_cookie(self) -> str:
        """Return a cookie for a new visitor."""
        name = secrets.token_urlsafe(16)
        return f"{name}.{self._signature(name)}"

    def known(self, cookie: str) -> str | None:
        """Return the visitor of a cookie; None if it is not one of ours."""
        name, _, signature = cookie.partition(".")
        return name if hmac.compare_digest(signature.encode(), self._signature(name).encode()) else None

    def _signature(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), "sha256").hexdigest()


def check_origin(request: Request, settings: StudioSettings) -> None:
    """Refuse a request that another page, or another name of this machine, makes.

    A page of another site may send requests to the own machine, and a name that is made to point to it (DNS rebinding)
    would let it read the answers.

    Raises:
        Problem: it does.
    """
    host = (request.url.hostname or "").lower()
    if not settings.public and host not in ("127.0.0.1", "localhost", "::1"):
        raise Problem(403, f"this studio answers to 127.0.0.1 only, not to {host}.")
    origin = request.headers.get("origin")
    if origin not in (None, settings.address, f"{request.url.scheme}://{request.headers.get('host')}"):
        raise Problem(403, "requests of other pages are refused.")
    link = request.method == "GET" and is_page(request.url.path)  # a link on another page may open the studio
    if not link and request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Problem(403, "requests of other pages are refused.")


def check_token(request: Request, settings: StudioSettings) -> bool:
    """Check the token; return whether it came with the address and its cookie has to be set.

    Raises:
        Problem: a token is needed, and this is none.
    """
    if settings.token is None or is_for_raters(request.url.path):
        return False
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    asked = request.query_params.get("token", "")
    for one in (given if scheme.lower() == "bearer" else "", asked, request.cookies.get(TOKEN_COOKIE, "")):
        if one and hmac.compare_digest(one.encode(), settings.token.encode()):
            return one == asked
    raise Problem(
        401, "open the address with ?token=…, or send Authorization: Bearer ….", {"WWW-Authenticate": "Bearer"}
    )
