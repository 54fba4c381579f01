"""The web app: a page, and a REST API under ``/api`` of the same names as the Python functions.

Everything is held in memory, under ids that nobody can guess; nothing is listed, and nothing is written to disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from PIL import Image
from starlette.exceptions import HTTPException

from saywhy.errors import SaywhyError
from saywhy.methods import METHODS
from saywhy.models import Model
from saywhy.studies.study import Study
from saywhy.studio.limits import BodyLimit
from saywhy.studio.pages import PAGES, asset, page
from saywhy.studio.problems import Problem, problem_of, response
from saywhy.studio.raters import add_studies
from saywhy.studio.requests import add_results, add_tasks
from saywhy.studio.settings import StudioSettings
from saywhy.studio.state import Studio
from saywhy.studio.uploads import add_images
from saywhy.studio.visitors import COOKIE, TOKEN_COOKIE, check_origin, check_token
from saywhy.studio.work import tasks_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

FORGET = 30.0
"""Seconds between two looks for what is too old."""


def create_app(
    models: Mapping[str, Model],
    examples: Sequence[tuple[str, Image.Image | Path]] = (),
    settings: StudioSettings = StudioSettings(),  # noqa: B008 (frozen)
    studies: Sequence[Study] = (),
) -> FastAPI:
    """Return the web app.

    Args:
        models: by the name that visitors see.
        examples: images to begin with, by name.
        settings: what it allows.
        studies: with people; their raters need their link only.
    """
    studio = Studio(models, examples, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget(studio))
        yield
        forgetting.cancel()
        studio.queue.close()

    app = FastAPI(title="saywhy studio", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=life)
    app.state.studio = studio
    app.add_middleware(BodyLimit, largest_upload=settings.largest_upload)
    app.middleware("http")(_guard(studio))  # around the other
    for kind in (Problem, SaywhyError):
        app.exception_handler(kind)(lambda _, error: response(problem_of(error)))
    app.exception_handler(HTTPException)(lambda _, error: response(Problem(error.status_code, str(error.detail))))
    app.exception_handler(RequestValidationError)(lambda _, error: response(Problem(422, _invalid(error))))
    _add_pages(app, studio)
    add_images(app, studio)
    add_tasks(app, studio)
    add_results(app, studio)
    add_studies(app, studies)
    return app


async def _forget(studio: Studio) -> None:
    """Drop what is too old, also while nobody asks."""
    while True:
        await asyncio.sleep(FORGET)
        studio.forget()


def _guard(studio: Studio) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Check origin, token and rate of every request, and add the headers of every response."""

    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        known = studio.visitors.known(request.cookies.get(COOKIE, ""))
        address = request.client.host if request.client else ""
        # Without a cookie a visitor is its address, so that dropping cookies gives no new turns.
        request.state.visitor = known or address
        studio.counts["requests"] += 1
        fresh = False
        try:
            check_origin(request, studio.settings)
            if request.url.path != "/healthz":
                fresh = check_token(request, studio.settings)
            if not _allowed(studio, request, address):
                raise Problem(
                    429, f"more than {studio.settings.per_minute} requests in a minute.", {"Retry-After": "30"}
                )
            answered = await proceed(request)
        except Exception as error:  # a visitor sees a problem, whatever it is
            studio.counts["refused"] += 1
            answered = response(problem_of(error))
        answered.headers.update(
            {
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cross-Origin-Opener-Policy": "same-origin",
            }
        )
        answered.headers.setdefault("Cache-Control", "no-store")
        secure = request.url.scheme == "https"
        new = known is None and request.url.path in PAGES and answered.status_code == 200
        if new and studio.new_visitors.allows(address):
            answered.set_cookie(COOKIE, studio.visitors.new_cookie(), httponly=True, samesite="strict", secure=secure)
        if fresh:
            answered.set_cookie(
                TOKEN_COOKIE, studio.settings.token or "", httponly=True, samesite="strict", secure=secure
            )
        return answered

    return guard


def _allowed(studio: Studio, request: Request, address: str) -> bool:
    """Count a request, and return whether the rates of its visitor and of its address allow it.

    Those count that compute something; pages, which make new visitors, count for the address only.
    """
    path = request.url.path
    page = path in PAGES and request.method == "GET"
    if request.method in ("GET", "HEAD") and not (page or path == "/api/page" or path.endswith("/file")):
        return True
    return studio.rate_of_address.allows(address) and (page or studio.rate.allows(request.state.visitor))


def _invalid(error: RequestValidationError) -> str:
    """Return the first fault of a request in a sentence."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "the body is no JSON."
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the body'}: {first['msg'][0].lower()}{first['msg'][1:]}."


async def _page(path: str) -> HTMLResponse:
    return HTMLResponse(page(path))


def _add_pages(app: FastAPI, studio: Studio) -> None:
    for path in PAGES:
        app.get(path, include_in_schema=False)(partial(_page, path))

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise Problem(404, "there is no such file.")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        lines = [f"saywhy_studio_{name}_total {count}" for name, count in studio.counts.items()]
        lines += [
            f"saywhy_studio_waiting {studio.queue.waiting()}",
            f"saywhy_studio_images {len(studio.images)}",
            f"saywhy_studio_results {len(studio.results)}",
            f"saywhy_studio_seconds {time.monotonic() - studio.begun:.0f}",
        ]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    @app.get("/api/models", tags=["models"])
    async def models() -> list[dict[str, Any]]:
        """The models of this studio, with their tasks, labels and layers, the demo models with what they know."""
        return [
            {
                "name": name,
                "tasks": tasks_of(model),
                "labels": list(model.labels or ()),
                "layers": [layer for layer, _ in model.module.named_modules() if layer],
                "knows_only": "" if model.domain is None else model.domain.kind,
            }
            for name, model in studio.models.items()
        ]

    @app.get("/api/methods", tags=["models"])
    async def methods() -> list[dict[str, str]]:
        """The methods, with their names for readers, and whether one pass or several compute a map."""
        return [{"name": one.name, "title": one.title, "passes": one.passes} for one in METHODS.values()]
