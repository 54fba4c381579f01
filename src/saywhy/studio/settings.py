"""``StudioSettings``: where the studio listens, and what it allows."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from saywhy.errors import InputError
from saywhy.validation import whole_number

PREFIX = "SAYWHY_STUDIO_"
"""Of the environment variables, e.g. ``SAYWHY_STUDIO_PORT``."""

LEAST_TOKEN = 16
"""Characters of a token."""


ADDRESS = re.compile(r"https?://[\w.\-\[\]:]+")


@dataclass(frozen=True)
class StudioSettings:
    """The settings of a studio.

    Attributes:
        host: the address it listens on; another than that of the own machine needs ``public``.
        port: of the address.
        public: allow other machines; it needs a token.
        token: what a visitor must give (``/?token=…`` once, or ``Authorization: Bearer …``); None asks for none.
        address: under which others open it, e.g. "https://maps.example.org" behind a proxy; links are printed with it,
            and its pages may send requests. None is that of ``host`` and ``port``.
        largest_upload: bytes of an image file.
        largest_pixels: pixels of an image.
        longest_side: pixels of the longer side to which larger images are reduced.
        keep_minutes: minutes after which images and results that nobody asked for are removed.
        images: the most images, and ``results`` the most results, that are kept in memory.
        waiting: the most requests that wait.
        per_visitor: the most requests of one visitor that wait.
        per_minute: the most requests of one visitor in a minute; of one address five times as many. Questions for the
            state of a result do not count.
        longest_seconds: seconds after which a request is ended.

    Raises:
        InputError: a setting has another value, or a public studio has no token.

    >>> StudioSettings(host="0.0.0.0")
    Traceback (most recent call last):
    saywhy.errors.InputError: host 0.0.0.0 is open to other machines: allow it with public, and give a token.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    public: bool = False
    token: str | None = None
    address: str | None = None
    largest_upload: int = 20_000_000
    largest_pixels: int = 40_000_000
    longest_side: int = 1600
    keep_minutes: int = 60
    images: int = 128
    results: int = 128
    waiting: int = 32
    per_visitor: int = 8
    per_minute: int = 120
    longest_seconds: int = 600

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535), ("largest_upload", 1, None), ("longest_side", 32, 8192), ("keep_minutes", 1, None),
            ("images", 1, None), ("results", 1, None), ("waiting", 1, None), ("per_visitor", 1, None),
            ("per_minute", 1, None), ("largest_pixels", 1024, None), ("longest_seconds", 1, None),
        ):  # fmt: skip
            whole_number(name, getattr(self, name), low, high)
        own = self.host in ("127.0.0.1", "localhost", "::1")
        if not own and not self.public:
            raise InputError(f"host {self.host} is open to other machines: allow it with public, and give a token.")
        if self.address is not None and not ADDRESS.fullmatch(self.address):
            raise InputError(f"address must be like https://maps.example.org, got {self.address!r}.")
        if self.public and len(self.token or "") < LEAST_TOKEN:
            raise InputError(f"a public studio needs a token of at least {LEAST_TOKEN} characters.")

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ, **given: Any) -> "StudioSettings":
        """The settings in environment variables; ``given`` ones that are not None go first.

        A public studio for which neither has a token gets one.

        Raises:
            InputError: a variable has no value of its kind.

        >>> StudioSettings.from_environment({"SAYWHY_STUDIO_PORT": "9000", "SAYWHY_STUDIO_PUBLIC": "no"}).port
        9000
        """
        hints = get_type_hints(StudioSettings)
        found = {
            one.name: _read(PREFIX + one.name.upper(), environment[PREFIX + one.name.upper()], hints[one.name])
            for one in fields(StudioSettings)
            if PREFIX + one.name.upper() in environment
        }
        found |= {name: value for name, value in given.items() if value is not None}
        if found.get("public") and "token" not in found:
            found["token"] = secrets.token_urlsafe(24)
        return StudioSettings(**found)


def _read(name: str, text: str, kind: Any) -> Any:
    """Return the value of a variable.

    Raises:
        InputError: it is none of the kind.
    """
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        return int(text) if kind is int else text
    except (KeyError, ValueError) as error:
        expected = "yes or no" if kind is bool else "a whole number"
        raise InputError(f"{name} must be {expected}, got {text!r}.") from error
