"""Images: uploads, examples, and masks of what was painted."""

import io
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from saywhy.errors import ImageError
from saywhy.images import read_image
from saywhy.quiet import ignored_warnings
from saywhy.studio.bodies import ExampleEntry
from saywhy.studio.painted import mask_png, use_painted
from saywhy.studio.problems import Problem
from saywhy.studio.state import Studio
from saywhy.terminal import printable


def add_images(app: FastAPI, studio: Studio) -> None:
    """Add what visitors do with images."""

    @app.get("/api/examples", tags=["images"])
    async def examples() -> list[ExampleEntry]:
        """The images to begin with, by name; of a folder given on the command line the path in it."""
        return [ExampleEntry(name=name) for name, _ in studio.examples]

    @app.post("/api/examples/{number}", tags=["images"], status_code=201)
    async def take(number: int, request: Request) -> dict[str, Any]:
        """Take an example as an image."""
        if not 0 <= number < len(studio.examples):
            raise Problem(404, f"there is no example {number}.")
        name, source = studio.examples[number]
        return await _added(studio, source, name, request.state.visitor)

    @app.post(
        "/api/images",
        tags=["images"],
        status_code=201,
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": {}}}},
    )
    async def upload(request: Request) -> dict[str, Any]:
        """Give an image: the bytes of a file as the body, and its name in the header X-Filename."""
        data = await request.body()
        if not data:
            raise Problem(400, "the body is empty: send the bytes of an image file.")
        name = printable(PurePath(unquote(request.headers.get("x-filename", ""))).name)[:100] or "image"
        return await _added(studio, data, name, request.state.visitor)

    @app.get("/api/images/{key}", tags=["images"])
    async def shown(key: str) -> Response:
        """An image, as WebP."""
        found = studio.images.get(key)
        if found is None:
            raise Problem(404, "there is no image of this id.")
        return Response(await run_in_threadpool(_webp, found[1]), media_type="image/webp")

    @app.post("/api/mask", tags=["images"])
    async def mask(strokes: dict[str, Any]) -> Response:
        """The mask of an image's strokes (the contents of a file of strokes with one image), as PNG."""
        return Response(await use_painted(studio.drawing, strokes, mask_png), media_type="image/png")

    @app.delete("/api/images/{key}", tags=["images"], status_code=204)
    async def forget(key: str) -> None:
        """Remove an image, and what was computed of it and is not asked for."""
        studio.remove_image(key)


async def _added(studio: Studio, source: bytes | Path | Image.Image, name: str, visitor: str) -> dict[str, Any]:
    """Read an image, in a thread, and keep it.

    Raises:
        Problem: it cannot be read, or is too large.
    """

    def add() -> dict[str, Any]:
        image = source
        if not isinstance(source, Image.Image):
            _check_pixels(source, studio.settings.largest_pixels)
            image = read_image(source)
        return studio.add_image(image, name, visitor)  # type: ignore[arg-type]

    try:
        async with studio.decoding:
            return await run_in_threadpool(add)
    except ImageError as error:
        raise Problem(415, str(error)) from error


def _check_pixels(source: bytes | Path, most: int) -> None:
    """Refuse an image with too many pixels before it is decoded; what is no image is left to the reader.

    Raises:
        Problem: it has.
    """
    try:
        with ignored_warnings(), Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            width, height = opened.size
    except Exception:
        return
    if width * height > most:
        raise Problem(413, f"the image has {width:,} × {height:,} pixels, more than {most:,}.")


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()
