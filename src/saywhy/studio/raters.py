"""The pages of raters: what a rater of a study sees next, and the answers, stored as they come."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from saywhy.studies.answers import AnswerStore
from saywhy.studies.study import Study
from saywhy.studio.bodies import AnswerBody
from saywhy.studio.pages import STUDY, page
from saywhy.studio.problems import Problem


def add_studies(app: FastAPI, studies: Sequence[Study]) -> None:
    """Add the pages and the API of studies to an app; a study is found by its link only."""
    stores = {study.link: AnswerStore(study) for study in studies}

    def store_of(link: str) -> AnswerStore:
        if link not in stores:
            raise Problem(404, "there is no study of this link. Ask for the link again.")
        return stores[link]

    @app.get("/study/{link}", include_in_schema=False)
    async def study_page(link: str) -> HTMLResponse:
        return HTMLResponse(page(STUDY), 200 if link in stores else 404)  # the page itself says what is wrong

    @app.get("/api/studies/{link}", tags=["studies"])
    async def about(link: str) -> dict[str, Any]:
        """What a study asks, and the number of items of a rater."""
        study = store_of(link).study
        return {"kind": study.design.kind, "all": len(study.blocks[0])}

    @app.post("/api/studies/{link}/raters", tags=["studies"], status_code=201)
    async def join(link: str) -> dict[str, Any]:
        """Give a new rater a place in a study."""
        return {"rater": await run_in_threadpool(store_of(link).join)}

    @app.get("/api/studies/{link}/raters/{rater}", tags=["studies"])
    async def following(link: str, rater: str) -> dict[str, Any]:
        """What a rater sees next; `next` is null at the end."""
        return await run_in_threadpool(_following, store_of(link), rater)

    @app.post("/api/studies/{link}/raters/{rater}/answers", tags=["studies"])
    async def answer(link: str, rater: str, body: AnswerBody) -> dict[str, Any]:
        """Store an answer; the first one to an item counts. The reply is what the rater sees next."""
        store = store_of(link)

        def add() -> dict[str, Any]:
            store.add(rater, body.item, body.choice, body.milliseconds)
            return _following(store, rater)

        return await run_in_threadpool(add)

    @app.get("/api/studies/{link}/raters/{rater}/images/{item}/{side}", tags=["studies"])
    async def image(link: str, rater: str, item: str, side: int) -> Response:
        """An image of an item as this rater sees it: of a trust study the sides may have changed places."""
        data = await run_in_threadpool(_image, store_of(link), rater, item, side)
        return Response(data, media_type="image/png")


def _following(store: AnswerStore, rater: str) -> dict[str, Any]:
    """Return what a rater sees next, without anything that gives the answer away."""
    left, every = store.shown(rater)
    found: Mapping[str, Any] = {"kind": store.study.design.kind, "done": every - len(left), "all": every}
    if not left:
        return {**found, "next": None}
    shown = left[0]
    options = shown.item.options[::-1] if shown.swapped else shown.item.options
    return {
        **found,
        "next": {
            "item": shown.item.key, "images": len(shown.item.files), "options": list(options),
            "predicted": shown.item.predicted, "instruction": shown.item.instruction,
        },
    }  # fmt: skip


def _image(store: AnswerStore, rater: str, item: str, side: int) -> bytes:
    left, _ = store.shown(rater)
    shown = next((one for one in left if one.item.key == item), None)
    if shown is None or not 0 <= side < len(shown.item.files):
        raise Problem(404, "this rater has no such image left.")
    files = shown.item.files[::-1] if shown.swapped else shown.item.files
    return (Path(store.study.folder) / files[side]).read_bytes()
