"""Images: uploads, examples, and masks of what was painted."""

import asyncio
import io
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from saywhy.errors import ImageError
from saywhy.images import read_image
from saywhy.studio.bodies import ExampleEntry
from saywhy.studio.painted import mask_png, use_painted
from saywhy.studio.problems import Problem
from saywhy.studio.state import Studio
from saywhy.terminal import printable

SLOW = 30.0
"""Seconds in which an upload must arrive."""


def add_images(app: FastAPI, studio: Studio) -> None:
    """Add what visitors do with images."""

    @app.get("/api/examples", tags=["images"])
    async def examples() -> list[ExampleEntry]:
        """The images to begin with, by name; of a folder given on the command line the path in it."""
        return [ExampleEntry(name=name) for name, _ in studio.examples]

    @app.post("/api/examples/{number}", tags=["images"], status_code=201)
    async def take(number: int) -> dict[str, Any]:
        """Take an example as an image."""
        if not 0 <= number < len(studio.examples):
            raise Problem(404, f"there is no example {number}.")
        name, source = studio.examples[number]
        try:
            image = await run_in_threadpool(read_image, source) if isinstance(source, Path) else source
        except ImageError as error:
            raise Problem(415, str(error)) from error
        return studio.add_image(image, name)

    @app.post(
        "/api/images",
        tags=["images"],
        status_code=201,
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": {}}}},
    )
    async def upload(request: Request) -> dict[str, Any]:
        """Give an image: the bytes of a file as the body, and its name in the header X-Filename."""
        data = await _received(request, studio.settings.largest_upload)
        name = printable(PurePath(unquote(request.headers.get("x-filename", ""))).name)[:100] or "image"
        try:
            image = await run_in_threadpool(read_image, data)
        except ImageError as error:
            raise Problem(415, str(error)) from error
        return studio.add_image(image, name)

    @app.get("/api/images/{key}", tags=["images"])
    async def shown(key: str) -> Response:
        """An image, as WebP."""
        found = studio.images.get(key)
        if found is None:
            raise Problem(404, "there is no image of this id.")
        buffer = io.BytesIO()
        found[1].save(buffer, "WEBP", quality=90)
        return Response(buffer.getvalue(), media_type="image/webp")

    @app.post("/api/mask", tags=["images"])
    async def mask(strokes: dict[str, Any]) -> Response:
        """The mask of an image's strokes (the contents of a file of strokes with one image), as PNG."""
        return Response(await use_painted(strokes, mask_png), media_type="image/png")

    @app.delete("/api/images/{key}", tags=["images"], status_code=204)
    async def forget(key: str) -> None:
        """Remove an image."""
        studio.images.remove(key)


async def _received(request: Request, largest: int) -> bytes:
    """Return the body of a request.

    Raises:
        Problem: it is too large, or too slow.
    """
    too_large = Problem(413, f"the file has more than {largest:,} bytes.")
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > largest:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOW):
            async for part in request.stream():
                size += len(part)
                if size > largest:
                    raise too_large
                parts.append(part)
    except TimeoutError as error:
        raise Problem(408, f"the file did not arrive within {SLOW:.0f} seconds.") from error
    if not size:
        raise Problem(400, "the body is empty: send the bytes of an image file.")
    return b"".join(parts)
