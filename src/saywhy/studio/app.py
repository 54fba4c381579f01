"""The web app: a page, and a REST API under ``/api`` of the same names as the Python functions.

Everything is held in memory, under ids that nobody can guess; nothing is listed, and nothing is written to disk.
"""

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

from saywhy.methods import METHODS
from saywhy.models import Model
from saywhy.studies.study import Study
from saywhy.studio.pages import PAGES, asset, is_page, page
from saywhy.studio.problems import Problem, response
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

LARGEST_BODY = 4_000_000
"""Bytes of a body of JSON."""


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
        yield
        studio.queue.close()

    app = FastAPI(title="saywhy studio", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=life)
    app.state.studio = studio
    app.middleware("http")(_guard(studio))
    app.exception_handler(Problem)(lambda _, error: response(error))
    app.exception_handler(HTTPException)(lambda _, error: response(Problem(error.status_code, str(error.detail))))
    app.exception_handler(RequestValidationError)(lambda _, error: response(Problem(422, _invalid(error))))
    _add_pages(app, studio)
    add_images(app, studio)
    add_tasks(app, studio)
    add_results(app, studio)
    add_studies(app, studies)
    return app


def _guard(studio: Studio) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Check origin, token and rate of every request, and add the headers of every response."""

    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        known = studio.visitors.known(request.cookies.get(COOKIE, ""))
        # Without a cookie a visitor is its address, so that dropping cookies gives no new turns.
        who = request.state.visitor = known or (request.client.host if request.client else "")
        studio.counts["requests"] += 1
        fresh = False
        try:
            check_origin(request, studio.settings)
            if request.url.path != "/healthz":
                fresh = check_token(request, studio.settings)
            _check_length(request)
            if request.method in ("POST", "DELETE") and not studio.rate.allows(who):
                raise Problem(
                    429, f"more than {studio.settings.per_minute} requests in a minute.", {"Retry-After": "30"}
                )
            answered = await proceed(request)
        except Problem as problem:
            studio.counts["refused"] += 1
            answered = response(problem)
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
        if known is None and is_page(request.url.path):
            answered.set_cookie(COOKIE, studio.visitors.new_cookie(), httponly=True, samesite="strict", secure=secure)
        if fresh:
            answered.set_cookie(
                TOKEN_COOKIE, studio.settings.token or "", httponly=True, samesite="strict", secure=secure
            )
        return answered

    return guard


def _check_length(request: Request) -> None:
    """Refuse a body of JSON that is too large, or does not say how large it is; uploads have a limit of their own.

    Raises:
        Problem: it is.
    """
    if request.method != "POST" or request.url.path == "/api/images":
        return
    stated = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    if not stated.isdigit():
        raise Problem(411, "a request must say how long its body is (Content-Length).")
    if int(stated) > LARGEST_BODY:
        raise Problem(413, f"the body has more than {LARGEST_BODY:,} bytes.")


def _invalid(error: RequestValidationError) -> str:
    """Return the first fault of a request in a sentence."""
    first = error.errors()[0]
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
        """The models of this studio, with their tasks and labels, the demo models with what they know."""
        return [
            {
                "name": name,
                "tasks": tasks_of(model),
                "labels": list(model.labels or ()),
                "knows_only": "" if model.domain is None else model.domain.kind,
            }
            for name, model in studio.models.items()
        ]

    @app.get("/api/methods", tags=["models"])
    async def methods() -> list[dict[str, str]]:
        """The methods, with their names for readers, and whether one pass or several compute a map."""
        return [{"name": one.name, "title": one.title, "passes": one.passes} for one in METHODS.values()]
