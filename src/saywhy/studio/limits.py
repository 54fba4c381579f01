"""Limits of what arrives: the size of a body, and the time in which it must be here."""

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 4_000_000
"""Bytes of a body of JSON."""

SLOW = 30.0
"""Seconds in which a body must arrive."""


class BodyLimit:
    """Refuses bodies that are too large or too slow while they arrive, however they say their length.

    Args:
        app: the app behind it.
        largest_upload: bytes of an image; other bodies have LARGEST_BODY.
    """

    def __init__(self, app: ASGIApp, largest_upload: int) -> None:
        self._app, self._largest_upload = app, largest_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._largest_upload if scope["path"] == "/api/images" else LARGEST_BODY
        too_large = HTTPException(413, f"the body has more than {most:,} bytes.")
        stated = dict(scope["headers"]).get(b"content-length", b"")
        size, whole, end = 0, False, time.monotonic() + SLOW

        async def limited() -> Message:
            nonlocal size, whole
            if whole:  # what comes now is the end of the connection
                return await receive()
            if stated.isdigit() and int(stated) > most:
                raise too_large
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"the body did not arrive within {SLOW:.0f} seconds.") from error
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > most:
                raise too_large
            return message

        await self._app(scope, limited, send)
