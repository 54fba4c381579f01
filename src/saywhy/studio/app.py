"""The web app: a page, and a REST API under ``/api`` of the same names as the Python functions.

Everything is held in memory, under ids that nobody can guess; nothing is listed, and nothing is written to disk.
"""

import asyncio
import io
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from saywhy.alignment.strokes import PaintedImage
from saywhy.errors import ImageError, SaywhyError
from saywhy.images import read_image
from saywhy.methods import METHODS
from saywhy.models import Model
from saywhy.studies.study import Study
from saywhy.studio.bodies import AskBody, Body, CaptionBody, CountBody, ExampleEntry, ExplainBody
from saywhy.studio.jobs import ENDED, Job
from saywhy.studio.pages import PAGES, asset, is_page, page
from saywhy.studio.painted import agreement_of, mask_png, painted_image
from saywhy.studio.problems import Problem, problem_of, record, response
from saywhy.studio.raters import add_studies
from saywhy.studio.settings import StudioSettings
from saywhy.studio.state import Studio
from saywhy.studio.visitors import COOKIE, TOKEN_COOKIE, check_origin, check_token
from saywhy.studio.work import Ask, Verb, joined, tasks_of
from saywhy.terminal import printable
from saywhy.view.chapters import joined_payloads
from saywhy.view.payload import Payload
from saywhy.view.report import report_html

T = TypeVar("T")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

LARGEST_BODY = 4_000_000
"""Bytes of a body of JSON."""

SLOW = 30.0
"""Seconds in which an upload must arrive."""

POLL = 0.1
"""Seconds between two looks at a running request."""

MOST_CHAPTERS = 64
"""Results on one page."""

LONGEST_WAIT = 120
"""Seconds that a request may wait for its result."""


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
    _add_images(app, studio)
    _add_tasks(app, studio)
    _add_results(app, studio)
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


def _add_images(app: FastAPI, studio: Studio) -> None:
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
        return Response(await _painted(strokes, mask_png), media_type="image/png")

    @app.delete("/api/images/{key}", tags=["images"], status_code=204)
    async def forget(key: str) -> None:
        """Remove an image."""
        studio.images.remove(key)


async def _painted(strokes: dict[str, Any], use: Callable[[PaintedImage], T]) -> T:
    """Return what is made of an image's strokes, in a thread."""
    try:
        return await run_in_threadpool(lambda: use(painted_image(strokes)))
    except SaywhyError as error:
        raise problem_of(error) from error


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


Wait = Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the result.")]


def _add_tasks(app: FastAPI, studio: Studio) -> None:
    async def answer(task: Verb, body: Body, request: Request, wait: int) -> Response:
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body.model_dump(exclude={"image"}).items()
        }
        try:
            key, job = await run_in_threadpool(
                studio.submit, Ask(task=task, **given), body.image, request.state.visitor
            )
        except Exception as error:
            raise problem_of(error) from error
        begin = time.monotonic()
        while job.state not in ENDED and time.monotonic() - begin < wait:
            await asyncio.sleep(POLL)
        status = 200 if job.state in ENDED else 202
        return Response(
            _dump(await run_in_threadpool(_state, key, job)),
            status,
            {"Location": f"/api/results/{key}"},
            "application/json",
        )

    @app.post("/api/explain", tags=["tasks"], status_code=202)
    async def explain(body: ExplainBody, request: Request, wait: Wait = 0) -> Response:
        """Explain classes of an image. 202: the result is computed; 200: it is there."""
        return await answer("explain", body, request, wait)

    @app.post("/api/ask", tags=["tasks"], status_code=202)
    async def ask(body: AskBody, request: Request, wait: Wait = 0) -> Response:
        """Answer a question about an image, and explain the answers."""
        return await answer("ask", body, request, wait)

    @app.post("/api/caption", tags=["tasks"], status_code=202)
    async def caption(body: CaptionBody, request: Request, wait: Wait = 0) -> Response:
        """Generate a caption, and explain each word."""
        return await answer("caption", body, request, wait)

    @app.post("/api/count", tags=["tasks"], status_code=202)
    async def count(body: CountBody, request: Request, wait: Wait = 0) -> Response:
        """Count objects, and explain the counts."""
        return await answer("count", body, request, wait)


def _progress(job: Job) -> dict[str, Any]:
    """Return the state and the progress of a request."""
    return {
        "state": job.state,
        "doing": job.doing,
        "step": job.step,
        "steps": job.steps,
        "parts": len(job.parts),
        "seconds": round(job.seconds, 3),
        "notes": list(job.notes),
    }


def _state(key: str, job: Job) -> dict[str, Any]:
    """Return a request as data: its state, its progress, and the data of the viewer of the parts that are ready."""
    found: dict[str, Any] = {"id": key, **_progress(job)}
    if job.parts:
        found["result"] = joined(list(job.parts), job.title)
    if job.error is not None:
        problem = problem_of(job.error)
        found["problem"] = record(problem.status, problem.detail)
    return found


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _add_results(app: FastAPI, studio: Studio) -> None:
    def job_of(key: str) -> Job:
        job = studio.results.get(key)
        if job is None:
            raise Problem(
                404, f"there is no result of this id; results are kept for {studio.settings.keep_minutes} minutes."
            )
        return job

    @app.get("/api/results/{key}", tags=["results"])
    async def result(key: str) -> Response:
        """The state of a request, and what is ready of its result."""
        return Response(_dump(await run_in_threadpool(_state, key, job_of(key))), media_type="application/json")

    @app.get("/api/results/{key}/events", tags=["results"])
    async def events(key: str) -> StreamingResponse:
        """The progress of a request, as server-sent events: the state without the result, at each change."""
        job = job_of(key)

        async def stream() -> AsyncIterator[bytes]:
            last = None
            while True:
                now = {name: value for name, value in _progress(job).items() if name not in ("seconds", "notes")}
                if now != last:
                    last = now
                    yield b"data: " + _dump(now) + b"\n\n"
                if now["state"] in ENDED:
                    return
                await asyncio.sleep(POLL)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.post("/api/results/{key}/agreement", tags=["results"])
    async def agreement(key: str, strokes: dict[str, Any]) -> list[dict[str, Any]]:
        """The rank correlation of each map with what was painted (the contents of a file of strokes with one image)."""
        parts = list(job_of(key).parts)
        return [asdict(one) for one in await _painted(strokes, partial(agreement_of, parts))]

    @app.delete("/api/results/{key}", tags=["results"], status_code=204)
    async def stop(key: str) -> None:
        """Stop a request, and remove its result."""
        studio.queue.stop(job_of(key))
        studio.results.remove(key)

    @app.get("/api/results/{key}/file", tags=["results"])
    async def file(key: str, suffix: Literal["html", "png", "jpg", "pdf", "svg", "npz"] = "html") -> Response:
        """The result as a file, as `e.save` writes it; of several methods' results the page holds all."""
        job = job_of(key)
        if not job.parts:
            raise Problem(404, "nothing of this result is ready.")
        data = await run_in_threadpool(_file, job, suffix)
        name = "".join(letter if letter.isalnum() else "_" for letter in PurePath(job.title).stem) or "image"
        kinds = {"html": "text/html", "png": "image/png", "jpg": "image/jpeg", "pdf": "application/pdf"}
        return Response(
            data,
            media_type=kinds.get(suffix, "application/octet-stream"),
            headers={"Content-Disposition": f'attachment; filename="{name}-why.{suffix}"'},
        )

    @app.get("/api/page", tags=["results"])
    async def whole_page(result: Annotated[list[str], Query(max_length=MOST_CHAPTERS)]) -> HTMLResponse:
        """Several results as one page, in the order of their ids; those that are no longer there are left out."""
        found = [job for key in result if (job := studio.results.get(key)) is not None and job.parts]
        if not found:
            raise Problem(404, "none of these results is there.")
        text = await run_in_threadpool(lambda: report_html(_chapters(found)))
        return HTMLResponse(text, headers={"Content-Disposition": 'attachment; filename="why.html"'})


def _chapters(jobs: Sequence[Job]) -> Payload:
    """Return the data of the viewer for several results, each a chapter."""
    parts = [
        (f"{number}. {job.title}", job.about, joined(list(job.parts), job.title)) for number, job in enumerate(jobs, 1)
    ]
    return joined_payloads("Why?", f"{len(jobs)} results of saywhy studio.", parts)


def _file(job: Job, suffix: str) -> bytes:
    """Return a result as the bytes of a file."""
    if suffix == "html":
        return report_html(joined(list(job.parts), job.title)).encode()
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = job.parts[0].save(Path(folder) / f"why.{suffix}")
        except SaywhyError as error:
            raise Problem(422, str(error)) from error
        return Path(written).read_bytes()
