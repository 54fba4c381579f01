"""The pages of raters: what they see gives nothing away, answers are stored as they come, links keep studies apart."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saywhy.studies.analysis import analyse
from saywhy.studies.answers import AnswerStore
from saywhy.studies.study import Study
from study_fixtures import planted

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient

from saywhy.studio.app import create_app
from saywhy.studio.settings import StudioSettings

ADDRESS = "http://127.0.0.1:8642"

__all__ = ["planted"]

Planted = Callable[..., Study]


@pytest.fixture(params=["trust", "discrimination"])
def studied(planted: Planted, request: Any) -> Iterator[tuple[Study, TestClient]]:
    study = planted(request.param, raters=3)
    with TestClient(create_app({}, (), StudioSettings(per_minute=10_000), [study]), base_url=ADDRESS) as client:
        yield study, client


def test_a_rater_answers_everything(studied: tuple[Study, TestClient]) -> None:
    study, client = studied
    place = f"/api/studies/{study.link}/raters"
    assert client.get(f"/study/{study.link}").status_code == 200
    assert client.get(f"/api/studies/{study.link}").json() == {"kind": study.design.kind, "all": 8}
    rater = client.post(place).json()["rater"]
    now = client.get(f"{place}/{rater}").json()
    seen = []
    while now["next"]:
        shown = now["next"]
        assert (now["done"], now["all"]) == (len(seen), 8)
        for side in range(shown["images"]):
            found = client.get(f"{place}/{rater}/images/{shown['item']}/{side}")
            assert (found.status_code, found.content[:4]) == (200, b"\x89PNG")
        assert client.get(f"{place}/{rater}/images/{shown['item']}/{shown['images']}").status_code == 404
        seen.append(shown["item"])
        answer = client.post(f"{place}/{rater}/answers", json={"item": shown["item"], "choice": 0, "milliseconds": 900})
        assert answer.status_code == 200, answer.text
        now = answer.json()
    stored = AnswerStore(study).answers()
    assert {one.item for one in stored} == set(seen)
    assert all(one.kind == "person" and one.milliseconds == 900 for one in stored)


def test_sides_are_swapped_on_the_way_out_and_back(studied: tuple[Study, TestClient]) -> None:
    """A rater who always knows the truth is right for every item, whatever the order in which it is shown."""
    study, client = studied
    for one in study.items:
        for number, file in enumerate(one.files):
            Image.new("L", (8, 8), 10 * number).save(study.folder / file)  # the better model's map is black
    place = f"/api/studies/{study.link}/raters"
    rater = client.post(place).json()["rater"]
    now = client.get(f"{place}/{rater}").json()
    while shown := now["next"]:
        item = study.item(shown["item"])
        if study.design.kind == "trust" and not item.is_check:
            first = client.get(f"{place}/{rater}/images/{shown['item']}/0").content
            choice = 2 if first == (study.folder / item.files[0]).read_bytes() else -2
        elif item.is_check:
            choice = item.right or 0
        else:
            assert item.right is not None
            choice = shown["options"].index(item.options[item.right])
        now = client.post(f"{place}/{rater}/answers", json={"item": shown["item"], "choice": choice}).json()
    result = analyse(study, AnswerStore(study).answers(), 50)
    assert {one.score for one in result.scores} == {2.0 if study.design.kind == "trust" else 1.0}
    assert any(one.swapped for one in result.answers)
    assert not all(one.swapped for one in result.answers)


def test_nothing_gives_the_answer_away(studied: tuple[Study, TestClient]) -> None:
    study, client = studied
    place = f"/api/studies/{study.link}/raters"
    rater = client.post(place).json()["rater"]
    shown = client.get(f"{place}/{rater}").json()["next"]
    assert set(shown) == {"item", "images", "options", "predicted", "instruction"}
    assert not re.search(r"better|worse|model|method|\.png|\.jpg", str(shown["item"]))


def test_a_store_that_cannot_be_written_is_said_without_its_path(planted: Planted) -> None:
    study = planted("trust")
    with TestClient(create_app({}, (), StudioSettings(), [study]), base_url=ADDRESS) as client:
        place = f"/api/studies/{study.link}/raters"
        rater = client.post(place).json()["rater"]
        (study.folder / "answers.sqlite").write_bytes(b"no database" * 100)
        for answer in (
            client.get(f"{place}/{rater}"),
            client.post(place),
            client.post(f"{place}/{rater}/answers", json={"item": "x", "choice": 0}),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert str(study.folder) not in answer.text


def test_only_ones_own_study_and_items_are_seen(studied: tuple[Study, TestClient], planted: Planted) -> None:
    study, client = studied
    place = f"/api/studies/{study.link}/raters"
    rater, other = (client.post(place).json()["rater"] for _ in range(2))
    for path in ("/study/none", "/api/studies/none/raters/x", f"{place}/none", f"{place}/none/images/item-0000/0"):
        assert client.get(path).status_code == 404
    mine, theirs = (
        {one.item.key for one in AnswerStore(study).shown(key)[0]} for key in (rater, other)
    )  # what the other rater sees and this one does not
    hidden = next(iter(theirs - mine))
    assert client.get(f"{place}/{rater}/images/{hidden}/0").status_code == 404
    answer = client.post(f"{place}/{rater}/answers", json={"item": hidden, "choice": 0})
    assert (answer.status_code, "does not see" in answer.json()["detail"]) == (422, True)
    for body in ({"item": hidden}, {"item": hidden, "choice": 99}, {"item": hidden, "choice": "x"}, {"choice": 0}):
        assert client.post(f"{place}/{rater}/answers", json=body).status_code == 422
    assert client.post(f"{place}/none/answers", json={"item": hidden, "choice": 0}).status_code == 404
    assert client.post(place).status_code == 201
    full = client.post(place)
    assert (full.status_code, "all of its 3 raters" in full.json()["detail"]) == (409, True)


def test_raters_of_a_public_studio_need_the_link_only(planted: Planted) -> None:
    study = planted("trust")
    settings = StudioSettings(host="0.0.0.0", public=True, token="t" * 24)
    with TestClient(create_app({}, (), settings, [study]), base_url=ADDRESS) as client:
        assert client.get(f"/study/{study.link}").status_code == 200
        assert client.post(f"/api/studies/{study.link}/raters").status_code == 201
        assert client.get("/static/study.js").status_code == 200
        for path in ("/", "/api/models", "/metrics", "/study", "/study/../api/models", "/static/studio.js"):
            assert client.get(path).status_code == 401, path


def test_files_outside_of_the_folder_are_not_served(planted: Planted, tmp_path: Path) -> None:
    study = planted("trust")
    (tmp_path / "secret.png").write_bytes(b"secret")
    with TestClient(create_app({}, (), StudioSettings(), [study]), base_url=ADDRESS) as client:
        place = f"/api/studies/{study.link}/raters"
        rater = client.post(place).json()["rater"]
        for item in ("..%2Fsecret.png", "%2E%2E", "study.json", "answers.sqlite"):
            assert client.get(f"{place}/{rater}/images/{item}/0").status_code == 404
