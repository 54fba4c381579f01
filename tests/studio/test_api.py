"""The REST API: the tasks, their results as data and files, limits, and hostile requests."""

import asyncio
import io
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import saywhy

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from saywhy.cli.studio import _examples
from saywhy.studio import limits
from saywhy.studio.app import POLICY, create_app
from saywhy.studio.settings import StudioSettings

ADDRESS = "http://127.0.0.1:8642"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def client_of(**settings: object) -> TestClient:
    models = {
        "mine": saywhy.load(network(), labels=["cat", "dog", "<b>", "mug"], input_size=32),
        "toybox:ucam": saywhy.load("toybox:ucam"),
        "toybox:captioner": saywhy.load("toybox:captioner"),
        "toybox:counter": saywhy.load("toybox:counter"),
        "toybox:questioner": saywhy.load("toybox:questioner"),
    }
    drawn = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return TestClient(create_app(models, [("noise", drawn)], StudioSettings(**settings)), base_url=ADDRESS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of(per_minute=100_000) as found:
        yield found


def png(width: int = 40, height: int = 30) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def image(client: TestClient) -> str:
    given = client.post("/api/images", content=png(), headers={"X-Filename": "a%20photo.png"})
    assert given.status_code == 201
    assert (given.json()["name"], given.json()["width"]) == ("a photo.png", 40)
    return str(given.json()["id"])


# --- the tasks ---------------------------------------------------------------------------------------------------


def test_a_class_is_explained(client: TestClient, image: str) -> None:
    given = {"image": image, "model": "mine", "target": ["cat", "dog - mug"], "method": ["gradcam", "occlusion"]}
    answer = client.post("/api/explain?wait=60", json=given)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["state"], found["parts"]) == ("done", 2)  # the methods of one pass, and occlusion
    (shown,) = found["result"]["images"]
    assert [(one["method"], one["target"]) for one in shown["maps"]] == [
        (method, target) for method in ("gradcam", "occlusion") for target in ("cat", "dog - mug")
    ]
    model = saywhy.load(network(), labels=["cat", "dog", "<b>", "mug"], input_size=32)
    expected = saywhy.explain(model, Image.open(io.BytesIO(png())), "cat")
    assert shown["maps"][0]["score"] == pytest.approx(float(expected.scores[0, 0]), rel=1e-4)


@pytest.mark.parametrize(
    ("task", "given", "targets"),
    [
        ("ask", {"question": "what colour is the dog?", "top": 1}, 2),  # the answer, and its certainty
        ("caption", {}, 1),
        ("count", {"of": ["mug"]}, 1),
    ],
)
def test_other_tasks_take_the_first_model_that_can(
    client: TestClient, image: str, task: str, given: dict[str, object], targets: int
) -> None:
    answer = client.post(f"/api/{task}?wait=100", json={"image": image, **given})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["result"]["images"][0]["maps"]) >= targets


def test_questions_begin_with_the_prompt_and_are_answered(client: TestClient, image: str) -> None:
    given = {"image": image, "prompt": "how many", "answer": "toybox:ucam"}
    found = client.post("/api/questions?wait=100", json=given).json()
    assert found["state"] == "done", found
    maps = found["result"]["images"][0]["maps"]
    assert maps
    assert all(one["target"].startswith("how many") for one in maps)
    assert all("%" in one["note"] for one in maps)  # the answer, with its probability
    page = client.get(f"/api/results/{found['id']}/file?suffix=html").text
    assert maps[0]["target"] in page
    refused = client.post("/api/questions", json={"image": image, "answer": "mine"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "no model 'mine' of this studio answers questions.")


def test_a_result_is_followed_stopped_and_forgotten(client: TestClient, image: str) -> None:
    asked = client.post("/api/explain", json={"image": image, "model": "mine", "top": 1})
    assert asked.status_code == 202
    place = asked.headers["Location"]
    with client.stream("GET", f"{place}/events") as stream:
        told = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
    assert told[-1]["state"] == "done"
    assert client.get(place).json()["parts"] == 1
    assert client.delete(place).status_code == 204
    gone = client.get(place)
    assert (gone.status_code, gone.headers["content-type"]) == (404, "application/problem+json")


def test_the_same_request_is_not_computed_twice(client: TestClient, image: str) -> None:
    given = {"image": image, "model": "mine", "target": ["mug"], "method": ["hirescam"]}
    first = client.post("/api/explain?wait=60", json=given).json()
    before = client.get("/metrics").text
    second = client.post("/api/explain", json=given)
    assert second.status_code == 200  # it is there at once
    assert second.json()["result"] == first["result"]
    assert second.json()["id"] != first["id"]
    cached = [int(re.search(r"cached_total (\d+)", text)[1]) for text in (before, client.get("/metrics").text)]  # type: ignore[index]
    assert cached[1] == cached[0] + 1


@pytest.mark.parametrize("suffix", ["html", "png", "npz", "pdf"])
def test_results_are_files_too(client: TestClient, image: str, suffix: str) -> None:
    key = client.post("/api/explain?wait=60", json={"image": image, "model": "mine", "top": 1}).json()["id"]
    answer = client.get(f"/api/results/{key}/file?suffix={suffix}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="a_photo-why.{suffix}"; ')
    start = {"html": b"<!doctype html>", "png": b"\x89PNG", "npz": b"PK", "pdf": b"%PDF"}[suffix]
    assert answer.content.startswith(start)


def test_examples_are_images(client: TestClient) -> None:
    assert client.get("/api/examples").json() == [{"name": "noise"}]
    given = client.post("/api/examples/0").json()
    assert (given["width"], given["height"]) == (64, 48)
    shown = client.get(f"/api/images/{given['id']}")
    assert shown.headers["content-type"] == "image/webp"
    assert client.delete(f"/api/images/{given['id']}").status_code == 204
    assert client.get(f"/api/images/{given['id']}").status_code == 404


def test_models_and_methods_are_described(client: TestClient) -> None:
    models = {one["name"]: one for one in client.get("/api/models").json()}
    assert models["mine"]["tasks"] == ["explain"]
    assert models["mine"]["labels"] == ["cat", "dog", "<b>", "mug"]
    assert models["toybox:ucam"]["tasks"] == ["ask"]
    assert "drawn" in models["toybox:ucam"]["knows_only"]
    assert models["toybox:questioner"]["tasks"] == ["questions"]
    assert models["mine"]["layers"] == ["0", "1", "2", "3"]
    methods = {one["name"]: one["passes"] for one in client.get("/api/methods").json()}
    assert (methods["gradcam"], methods["rise"]) == ("one", "several")


def test_large_images_are_reduced() -> None:
    with client_of(longest_side=100) as client:
        given = client.post("/api/images", content=png(300, 200)).json()
    assert (given["width"], given["height"]) == (100, 67)


def test_the_api_is_described(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    tasks = {f"/api/{task}" for task in ("explain", "ask", "caption", "count", "questions")}
    assert {*tasks, "/api/images"} <= described["paths"].keys()
    assert "/static/reference.js" in client.get("/api").text


# --- wrong requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "given", "status", "detail"),
    [
        ("explain", {"target": ["catt"]}, None, "no class 'catt'"),
        ("explain", {"method": ["gradcamm"]}, 422, "Nearest"),
        ("explain", {"model": "yours"}, 404, "there is no model 'yours'; there are mine, toybox:ucam"),
        ("explain", {"model": "toybox:ucam"}, 422, "toybox:ucam cannot explain; it can ask"),
        ("explain", {"image": "x" * 22}, 404, "there is no image of this id"),
        ("explain", {"method": ["gradcam"] * 6}, 422, "method"),
        ("explain", {"target": "cat"}, 422, "target: input should be a valid list"),
        ("explain", {"steps": 10**9}, 422, "steps: extra inputs are not permitted"),
        ("explain", {"top": 50}, 422, "top: input should be less than or equal to 5"),
        ("explain", {"layer": "nowhere"}, None, "nowhere"),
        ("ask", {}, 422, "question"),
        ("ask", {"question": " "}, 422, "ask needs a question"),
        ("count", {"of": ["zebras"]}, None, "no class is named by 'zebras'"),
    ],
)
def test_wrong_requests_are_problems(
    client: TestClient, image: str, path: str, given: dict[str, object], status: int | None, detail: str
) -> None:
    answer = client.post(f"/api/{path}?wait=60", json={"image": image, **given})
    if status is None:  # found when it is computed
        assert answer.json()["state"] == "failed"
        assert detail in answer.json()["problem"]["detail"]
        return
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert set(answer.json()) == {"type", "title", "status", "detail"}


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 black pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (b"", 400, "the body is empty"),
        (b"no image", 415, "is not an image that can be read"),
        (bomb(), 415, "pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", 415, "is not an image"),
        (b"<html><img src=x></html>", 415, "is not an image"),
        (b"%PDF-1.4", 415, "is not an image"),
        (png()[:200], 415, "damaged"),
        (b"GIF89a" + bytes(10), 415, ""),
        (b"\xff\xd8\xff\xe0" + bytes(100), 415, ""),
    ],
    ids=["empty", "text", "bomb", "svg", "html", "pdf", "cut", "gif", "jpeg"],
)
def test_hostile_uploads_are_refused(client: TestClient, data: bytes, status: int, detail: str) -> None:
    answer = client.post("/api/images", content=data)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_too_large_uploads_are_refused_also_without_a_length() -> None:
    with client_of(largest_upload=1000) as client:
        assert client.post("/api/images", content=bytes(1001)).status_code == 413
        assert client.post("/api/images", content=iter([bytes(600), bytes(600)])).status_code == 413


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..%2F..%2Fsecret.png", "secret.png"),
        ("%1b%5d0%3btitle%07.png", None),
        ("<script>alert(1)</script>", "script>"),
        ("x" * 5000, "x" * 100),
        ("", "image"),
    ],
)
def test_names_of_files_are_only_names(client: TestClient, name: str, kept: str | None) -> None:
    given = client.post("/api/images", content=png(), headers={"X-Filename": name}).json()["name"]
    assert "\x1b" not in given
    assert "/" not in given
    if kept is not None:
        assert given == kept


def test_bodies_have_a_limit(client: TestClient) -> None:
    answer = client.post("/api/mask", content=b"[" * 5_000_000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (413, "the body has more than 4,000,000 bytes.")
    # Without a length, or with a wrong one, the bytes are counted as they come.
    for headers in ({}, {"Content-Length": "2"}):
        parts = iter([b"[" * 3_000_000] * 2)
        answer = client.post("/api/mask", content=parts, headers={"Content-Type": "application/json", **headers})
        assert answer.status_code == 413
    answer = client.post("/api/mask", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "the body is no JSON.")


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SLOW", 0.2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.15)
        return {"type": "http.request", "body": b"x", "more_body": True}

    scope = {"type": "http", "path": "/api/explain", "headers": []}
    with pytest.raises(HTTPException, match="did not arrive within"):
        asyncio.run(limits.BodyLimit(app, 100)(scope, receive, None))  # type: ignore[arg-type]


def test_an_error_of_the_server_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of() as client:
        monkeypatch.setattr(client.app.state.studio.images, "add", lambda *_: 1 / 0)  # type: ignore[attr-defined]
        answer = client.post("/api/examples/0")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "ZeroDivisionError" in answer.json()["detail"]


def test_images_with_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with client_of(largest_pixels=10_000) as client:
        answer = client.post("/api/images", content=png(200, 200))
        assert (answer.status_code, answer.json()["detail"]) == (
            413,
            "the image has 200 × 200 pixels, more than 10,000.",
        )


def test_a_file_of_an_image_of_any_name(client: TestClient) -> None:
    key = client.post("/api/images", content=png(), headers={"X-Filename": quote("猫 „x“.png")}).json()["id"]
    found = client.post("/api/explain?wait=60", json={"image": key, "model": "mine"}).json()
    for suffix in ("html", "npz"):
        answer = client.get(f"/api/results/{found['id']}/file?suffix={suffix}")
        assert answer.status_code == 200
        assert f"filename*=UTF-8''{quote('猫__x_')}-why.{suffix}" in answer.headers["Content-Disposition"]


def test_files_have_the_maps_of_all_methods(client: TestClient, image: str, tmp_path: Path) -> None:
    asked = {"image": image, "model": "mine", "target": ["cat"], "method": ["gradcam", "occlusion"]}
    key = client.post("/api/explain?wait=60", json=asked).json()["id"]
    (tmp_path / "why.npz").write_bytes(client.get(f"/api/results/{key}/file?suffix=npz").content)
    found = saywhy.Explanation.load(tmp_path / "why.npz")
    assert found.methods == ("gradcam", "occlusion")
    assert set(found.provenance["methods"]) == {"gradcam", "occlusion"}
    assert client.get(f"/api/results/{key}/file?suffix=png").status_code == 200


def test_a_stopped_request_keeps_what_is_ready(client: TestClient, image: str) -> None:
    asked = {"image": image, "model": "mine", "target": ["cat"], "method": ["gradcam", "rise"]}
    key = client.post("/api/explain", json=asked).json()["id"]
    for _ in range(200):
        if client.get(f"/api/results/{key}").json()["parts"]:
            break
        time.sleep(0.02)
    assert client.post(f"/api/results/{key}/stop").status_code == 204
    for _ in range(200):
        found = client.get(f"/api/results/{key}").json()
        if found["state"] not in ("waiting", "running"):
            break
        time.sleep(0.05)
    assert found["parts"] >= 1
    assert client.get(f"/api/results/{key}/file?suffix=html").status_code == 200


def test_a_request_that_takes_too_long_is_ended() -> None:
    with client_of(longest_seconds=1) as client:
        key = client.post("/api/examples/0").json()["id"]
        body = {"image": key, "model": "toybox:ucam", "question": "what is it?", "method": ["occlusion", "rise"]}
        found = client.post("/api/ask?wait=100", json=body).json()
    assert (found["state"], found["problem"]["status"]) == ("failed", 422)
    assert "longer than 1 seconds" in found["problem"]["detail"]


def test_a_removed_image_is_gone_from_the_cache_too() -> None:
    with client_of() as client:
        studio = client.app.state.studio  # type: ignore[attr-defined]
        key = client.post("/api/examples/0").json()["id"]
        client.post("/api/explain?wait=60", json={"image": key, "model": "mine"})
        assert len(studio.cache) == 1
        client.delete(f"/api/images/{key}")
        assert (len(studio.images), len(studio.cache)) == (0, 0)


def test_requests_that_wait_together_get_their_own_results() -> None:
    """Four images of different sizes wait behind a slow request; each result is that of the image alone."""
    with client_of(per_minute=100_000) as client:
        sizes = [(40, 30), (64, 64), (30, 50), (33, 47)]
        ids = [
            client.post("/api/images", content=png(*size), headers={"X-Filename": f"{n}.png"}).json()["id"]
            for n, size in enumerate(sizes)
        ]
        slow = client.post("/api/explain", json={"image": ids[0], "model": "mine", "method": ["rise"]}).json()["id"]
        asked = [client.post("/api/explain", json={"image": key, "model": "mine"}).json()["id"] for key in ids]
        client.delete(f"/api/results/{slow}")
        model = saywhy.load(network(), labels=["cat", "dog", "<b>", "mug"], input_size=32)
        for n, (key, size) in enumerate(zip(asked, sizes, strict=True)):
            for _ in range(600):
                found = client.get(f"/api/results/{key}").json()
                if found["state"] == "done":
                    break
                time.sleep(0.05)
            alone = saywhy.explain(model, Image.open(io.BytesIO(png(*size))), saywhy.targets.Top(3))
            (shown,) = found["result"]["images"]
            assert shown["name"] == f"{n}.png"
            assert [one["target"] for one in shown["maps"]] == alone.targets[0]
            assert [one["score"] for one in shown["maps"]] == pytest.approx(alone.scores[0].tolist(), rel=1e-3)
            assert f"{(n + 1) % 4}.png" not in json.dumps(found)


def test_several_results_are_one_page(client: TestClient, image: str) -> None:
    bodies = [{"image": image, "model": "mine", "target": [name]} for name in ("cat", "<b>")]
    ids = [client.post("/api/explain?wait=60", json=body).json()["id"] for body in bodies]
    answer = client.get("/api/page", params={"result": [*ids, "gone"]})
    assert (answer.status_code, answer.headers["content-disposition"]) == (200, 'attachment; filename="why.html"')
    assert "mine was asked to explain cat." in answer.text
    assert "explain <b>" not in answer.text
    assert client.get("/api/page", params={"result": "gone"}).status_code == 404
    assert client.get("/api/page").status_code == 422
    assert client.get("/api/page", params={"result": ids * 40}).status_code == 422


# --- painting ----------------------------------------------------------------------------------------------------


STROKES = {
    "format": "saywhy-strokes",
    "version": 1,
    "images": [
        {"file": "a.png", "width": 40, "height": 30, "strokes": [{"box": [0, 0, 20, 30], "matters": True}]},
    ],
}


def test_a_mask_is_given_for_strokes(client: TestClient) -> None:
    answer = client.post("/api/mask", json=STROKES)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as found:
        assert np.array_equal(np.asarray(found)[0], [255] * 20 + [0] * 20)
    answer = client.post("/api/mask", json={"format": "other"})
    assert (answer.status_code, "'the body' must be an object" in answer.json()["detail"]) == (422, True)


def test_maps_are_compared_with_strokes(client: TestClient, image: str) -> None:
    asked = client.post("/api/explain?wait=60", json={"image": image, "model": "mine", "target": ["cat", "dog"]}).json()
    found = client.post(f"/api/results/{asked['id']}/agreement", json=STROKES).json()
    assert [(one["target"], one["method"]) for one in found] == [("cat", "gradcam"), ("dog", "gradcam")]
    assert all(-1 <= one["rank_correlation"] <= 1 for one in found)
    assert client.post("/api/results/none/agreement", json=STROKES).status_code == 404
    nothing = {**STROKES, "images": [{**STROKES["images"][0], "strokes": []}]}  # type: ignore[dict-item]
    answer = client.post(f"/api/results/{asked['id']}/agreement", json=nothing)
    assert (answer.status_code, "nothing can be compared" in answer.json()["detail"]) == (422, True)


def test_examples_of_a_folder_are_read_when_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (2000, 1000)).save(tmp_path / "train" / "cat" / "1.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    examples = _examples([tmp_path], demo=False)
    assert [name for name, _ in examples] == ["broken.png", "train/cat/1.png"]
    with TestClient(create_app({}, examples), base_url=ADDRESS) as client:
        assert [one["name"] for one in client.get("/api/examples").json()] == ["broken.png", "train/cat/1.png"]
        taken = client.post("/api/examples/1").json()
        assert taken["name"] == "train/cat/1.png"
        assert (taken["width"], taken["height"], taken["file_width"], taken["file_height"]) == (1600, 800, 2000, 1000)
        assert client.post("/api/examples/0").status_code == 415
        assert client.post("/api/examples/2").status_code == 404


# --- who may ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "testserver"},
    ],
)
def test_other_pages_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/api/images", content=png(), headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (403, 403)


def test_pages_of_the_own_address_behind_a_proxy_may_send_requests() -> None:
    with client_of(address="https://maps.example.org", public=True, token="t" * 24) as client:
        headers = {"Authorization": f"Bearer {'t' * 24}", "Host": "maps.example.org"}
        asked = {"content": png(), "headers": {**headers, "Origin": "https://maps.example.org"}}
        assert client.post("/api/images", **asked).status_code == 201
        asked["headers"] = {**headers, "Origin": "https://evil.example"}
        assert client.post("/api/images", **asked).status_code == 403


def test_new_cookies_are_limited_for_an_address_and_raters_get_none() -> None:
    with client_of(per_minute=1000) as client:
        given = 0
        for _ in range(110):
            client.cookies.clear()
            given += "saywhy_visitor" in client.get("/").cookies
        assert given == 100
        assert client.get("/study/none").cookies == {}
        client.cookies.clear()


def test_an_address_has_five_times_as_many_requests_as_a_visitor() -> None:
    with client_of(per_minute=4) as client:
        states = []
        for _ in range(12):  # twelve visitors of one address, who open the page and take an example
            client.cookies.clear()
            client.get("/")
            states.append(client.post("/api/examples/0").status_code)
        assert states == [201] * 10 + [429] * 2
        client.cookies.clear()
        assert client.get("/").status_code == 429


def test_every_response_has_the_policy(client: TestClient) -> None:
    for path in (
        "/",
        "/paint",
        "/static/canvas.js",
        "/static/viewer.js",
        "/static/studio.css",
        "/api/models",
        "/nowhere",
        "/static/..%2fapp.py",
    ):
        answer = client.get(path)
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/nowhere").headers["content-type"] == "application/problem+json"


def test_a_public_studio_asks_for_its_token() -> None:
    token = "t" * 24
    with client_of(public=True, host="0.0.0.0", token=token) as client:
        assert client.get("/healthz").status_code == 200
        refused = client.get("/api/models")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert client.get("/api/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/api/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get(f"/?token={token}").status_code == 200
        assert client.get("/api/models").status_code == 200  # by the cookie


def test_too_many_requests_of_one_visitor() -> None:
    with client_of(per_minute=3) as client:
        client.get("/")
        states = [client.post("/api/examples/0").status_code for _ in range(4)]
        assert states == [201, 201, 201, 429]
        for made_up in (None, "a.b", "x" * 22):  # without a cookie of ours the address counts
            client.cookies.clear()
            client.cookies.update({} if made_up is None else {"saywhy_visitor": made_up})
            states = [client.post("/api/examples/0").status_code for _ in range(4)]
            assert states[-1] == 429


def test_the_styles_of_the_studio_leave_the_viewer_alone() -> None:
    """No rule of the studio has a class of the viewer's, unless it excludes what is inside of it."""
    from importlib.resources import files

    viewer = set(re.findall(r"\.([a-z][a-z-]*)", files("saywhy.view").joinpath("viewer.css").read_text()))
    own = files("saywhy.studio").joinpath("static", "studio.css").read_text()
    rules = [rule.partition("{")[0] for rule in own.split("}")]
    shared = {
        (name, rule.strip())
        for rule in rules
        for name in set(re.findall(r"\.([a-z][a-z-]*)", rule)) & viewer - {"saywhy"}
        if ":not(.saywhy *)" not in rule and ".fields" not in rule
    }
    assert shared == set()
