"""Errors as ``application/problem+json`` (RFC 9457): what was expected, what came, and what to do."""

from typing import Any

from starlette.responses import JSONResponse

from saywhy.errors import SaywhyError
from saywhy.studies.answers import NoSuchRater, StoreError, StudyFull
from saywhy.studio.jobs import Busy
from saywhy.terminal import printable


class Problem(Exception):
    """An error that a visitor sees.

    Args:
        status: of HTTP.
        detail: the message.
        headers: of the response.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


TITLES = {
    400: "The request cannot be understood", 401: "A token is needed", 403: "The request comes from another page",
    404: "There is no such thing, or no longer", 408: "The image took too long", 409: "The study is complete",
    411: "The length is missing", 413: "The request is too large", 415: "This is no image",
    422: "The request cannot be carried out", 429: "Too many requests", 500: "The model failed",
    503: "The studio is busy",
}  # fmt: skip


def record(status: int, detail: str) -> dict[str, Any]:
    """Return a problem as data.

    >>> record(404, "There is no image of this id.")["title"]
    'There is no such thing, or no longer'
    """
    title = TITLES.get(status, "The request failed")
    return {"type": "about:blank", "title": title, "status": status, "detail": printable(detail)}


def response(problem: Problem) -> JSONResponse:
    """Return the response to a problem."""
    return JSONResponse(
        record(problem.status, problem.detail), problem.status, problem.headers, "application/problem+json"
    )


def problem_of(error: Exception) -> Problem:
    """Return the problem of an error; what is no message of ours is named by its kind only."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Busy):
        return Problem(503, str(error), {"Retry-After": "10"})
    if isinstance(error, StoreError):
        return Problem(503, "the answer could not be stored just now. Try again.", {"Retry-After": "5"})
    if isinstance(error, SaywhyError):
        status = 404 if isinstance(error, NoSuchRater) else 409 if isinstance(error, StudyFull) else 422
        return Problem(status, str(error))
    return Problem(500, f"the model failed with {type(error).__name__}.")
