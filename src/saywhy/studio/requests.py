"""Requests: the tasks, their progress, and their results as data, files and pages."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from saywhy.errors import SaywhyError
from saywhy.studio.bodies import AskBody, Body, CaptionBody, CountBody, ExplainBody, QuestionsBody
from saywhy.studio.jobs import ENDED, Job
from saywhy.studio.painted import agreement_of, use_painted
from saywhy.studio.problems import Problem, problem_of, record
from saywhy.studio.state import Studio
from saywhy.studio.work import Ask, Verb, joined, merged
from saywhy.view.chapters import joined_payloads
from saywhy.view.payload import Payload
from saywhy.view.report import report_html

POLL = 0.1
"""Seconds between two looks at a running request."""

MOST_CHAPTERS = 64
"""Results on one page."""

LONGEST_WAIT = 120
"""Seconds that a request may wait for its result."""

Wait = Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the result.")]


def add_tasks(app: FastAPI, studio: Studio) -> None:
    """Add the tasks, of the same names as the Python functions."""

    async def answer(task: Verb, body: Body, request: Request, wait: int) -> Response:
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body.model_dump(exclude={"image"}).items()
        }
        asked = Ask(task=task, **given)
        key, job = await run_in_threadpool(studio.submit, asked, body.image, request.state.visitor)
        begin = time.monotonic()
        while job.state not in ENDED and time.monotonic() - begin < wait:
            await asyncio.sleep(POLL)
        status = 200 if job.state in ENDED else 202
        return Response(
            await run_in_threadpool(_state, key, job),
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

    @app.post("/api/questions", tags=["tasks"], status_code=202)
    async def questions(body: QuestionsBody, request: Request, wait: Wait = 0) -> Response:
        """Generate diverse questions that can be asked about an image, and explain each of them."""
        return await answer("questions", body, request, wait)


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


def _state(key: str, job: Job) -> bytes:
    """Return a request as JSON: its state, its progress, and the data of the viewer of the parts that are ready."""
    found: dict[str, Any] = {"id": key, **_progress(job)}
    if job.parts:
        found["result"] = joined(list(job.parts), job.title)
    if job.error is not None:
        problem = problem_of(job.error)
        found["problem"] = record(problem.status, problem.detail)
    return _dump(found)


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def add_results(app: FastAPI, studio: Studio) -> None:
    """Add what visitors do with the result of a request."""

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
        return Response(await run_in_threadpool(_state, key, job_of(key)), media_type="application/json")

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
        return [asdict(one) for one in await use_painted(studio.drawing, strokes, partial(agreement_of, parts))]

    @app.delete("/api/results/{key}", tags=["results"], status_code=204)
    async def stop(key: str) -> None:
        """Stop a request, and remove its result."""
        studio.queue.stop(job_of(key))
        studio.results.remove(key)

    @app.post("/api/results/{key}/stop", tags=["results"], status_code=204)
    async def end(key: str) -> None:
        """Stop a request, and keep what is ready of its result."""
        studio.queue.stop(job_of(key))

    @app.get("/api/results/{key}/file", tags=["results"])
    async def file(key: str, suffix: Literal["html", "png", "jpg", "pdf", "svg", "npz"] = "html") -> Response:
        """The result as a file, as `e.save` writes it."""
        job = job_of(key)
        if not job.parts:
            raise Problem(404, "nothing of this result is ready.")
        data = await run_in_threadpool(_file, job, suffix)
        name = "".join(letter if letter.isalnum() else "_" for letter in PurePath(job.title).stem) or "image"
        plain = "".join(letter if letter.isascii() else "_" for letter in name)
        kinds = {"html": "text/html", "png": "image/png", "jpg": "image/jpeg", "pdf": "application/pdf"}
        return Response(
            data,
            media_type=kinds.get(suffix, "application/octet-stream"),
            headers={
                "Content-Disposition": f'attachment; filename="{plain}-why.{suffix}"; '
                f"filename*=UTF-8''{quote(name)}-why.{suffix}"
            },
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
            written = merged(job.parts).save(Path(folder) / f"why.{suffix}")
        except SaywhyError as error:
            raise Problem(422, str(error)) from error
        return Path(written).read_bytes()
