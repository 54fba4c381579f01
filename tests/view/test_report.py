"""The payload and its page."""

import json
import os
import re
from base64 import b64decode
from hashlib import sha256
from html import unescape
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from saywhy.errors import InputError
from saywhy.view import box, notebook_html, payload, report_html, save_html
from saywhy.view.report import SCRIPTS

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>"


def data_in(page: str, name: str) -> object:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_payload_is_json_and_holds_the_raw_maps(explanation):
    data = json.loads(json.dumps(payload(explanation), allow_nan=False))
    assert data["format"] == "saywhy-view/2"
    assert len(data["images"]) == 2
    maps = data["images"][1]["maps"]
    assert [(m["method"], m["layer"], m["target"]) for m in maps[:4]] == [
        ("gradcam", "layer3", "mug"),
        ("gradcam", "layer3", "key"),
        ("gradcam", "layer3", "clock"),
        ("gradcam", "layer4", "mug"),
    ]
    values = np.frombuffer(b64decode(maps[3]["values"]), "<f4").reshape(maps[3]["grid"])
    np.testing.assert_array_equal(values, explanation["gradcam", "layer4"][1, 0].numpy())
    assert len(b64decode(data["colours"]["sequential"])) == 256 * 3


def test_empty_targets_are_left_out_of_the_payload(explanation):
    explanation.targets = [["a mug", "a", "mug"], ["key", "key", ""]]
    images = payload(explanation)["images"]
    assert [len(image["maps"]) for image in images] == [12, 8]
    assert {entry["target"] for entry in images[1]["maps"]} == {"key"}


def test_nan_becomes_null_in_the_payload(explanation):
    explanation.scores = torch.full((2, 3), torch.nan)
    explanation.probabilities = torch.full((2, 3), torch.nan)
    data = payload(explanation)
    entry = data["images"][0]["maps"][0]
    assert entry["score"] is None
    assert entry["probability"] is None
    assert data["provenance"]["completeness_error"] is None


def test_a_pair_of_method_and_layer_that_does_not_exist_is_left_out(explanation):
    del explanation.maps["signed", "layer3"]
    maps = payload(explanation)["images"][0]["maps"]
    assert {(m["method"], m["layer"]) for m in maps} == set(explanation.maps)


@pytest.mark.slow
def test_a_large_photograph_is_reduced_but_keeps_its_coordinates(explained):
    e = explained({("gradcam", "x"): torch.rand(1, 1, 7, 7)}, ["mug"], ("big.jpg",))
    crop_box = (500.0, 0.0, 3500.0, 3000.0)
    e.images = (type(e.images[0])("big.jpg", Image.new("RGB", (4000, 3000)), crop_box),)
    image = payload(e)["images"][0]
    assert (image["width"], image["height"]) == (4000, 3000)
    with Image.open(BytesIO(b64decode(image["src"].partition(",")[2]))) as shown:
        assert shown.size == (1600, 1200)
    exact = box(e["gradcam", "x"][0, 0], crop_box, (4000, 3000))
    assert image["maps"][0]["box"] == pytest.approx(exact, abs=2 * 4000 / 1600)


def test_small_images_keep_every_pixel(explanation):
    source = payload(explanation)["images"][0]["src"]
    with Image.open(BytesIO(b64decode(source.partition(",")[2]))) as shown:
        assert shown.tobytes() == explanation.images[0].image.tobytes()


def test_payload_without_images_raises(explanation):
    explanation.images = ()
    with pytest.raises(InputError, match="nothing to show"):
        payload(explanation)


def test_hostile_labels_stay_text(explained):
    e = explained(None, [HOSTILE, "b", "c"], (HOSTILE, "key.png"))
    e.provenance = {HOSTILE: HOSTILE}
    page = report_html(payload(e, title=HOSTILE))
    assert page.count("<script") == 3
    assert page.count("</script>") == 3
    assert "<img src=x" not in page
    assert data_in(page, "saywhy-data")["images"][0]["maps"][0]["target"] == HOSTILE
    assert data_in(page, "saywhy-provenance") == {HOSTILE: HOSTILE}


def test_page_has_no_external_resources(explanation):
    page = report_html(payload(explanation))
    page = page.replace('"http://www.w3.org/2000/svg"', "")  # the name space of SVG, which is not fetched
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"^import ", page, re.MULTILINE)


def test_the_policy_allows_the_pages_own_script_and_style_only(explanation):
    page = report_html(payload(explanation))
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
    for tag, directive in (('script type="module"', "script-src"), ("style", "style-src")):
        body = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", page, re.DOTALL)[1]
        digest = np.frombuffer(sha256(body.encode()).digest(), np.uint8)
        allowed = re.search(rf"{directive} 'sha256-([^']*)'", policy)[1]
        np.testing.assert_array_equal(np.frombuffer(b64decode(allowed), np.uint8), digest)


def test_modules_import_only_from_those_before_them():
    from importlib.resources import files

    for number, name in enumerate(SCRIPTS):
        source = files("saywhy.view").joinpath(name).read_text(encoding="utf-8")
        assert set(re.findall(r'from "\./(.*?)"', source)) <= set(SCRIPTS[:number])
        assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", source)


def test_notebook_html_is_a_sandboxed_iframe(explanation):
    html = notebook_html(explanation, height=500)
    assert html.startswith("<iframe")
    assert 'sandbox="allow-scripts allow-downloads"' in html
    assert html.count("<") == 2  # the page inside is quoted
    inner = unescape(re.search(r"srcdoc='([^']*)'", html)[1])
    assert inner == report_html(payload(explanation, longest=800, lossless=False))


def test_failed_save_leaves_no_file(explanation, tmp_path, monkeypatch):
    assert "saywhy-data" in save_html(explanation, tmp_path / "a" / "why.html").read_text(encoding="utf-8")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_html(explanation, tmp_path / "b.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_title_is_the_given_one_or_the_image_count(explanation):
    assert payload(explanation)["title"] == "2 images"
    assert payload(explanation, title="Why?")["title"] == "Why?"


def test_probability_scores_are_not_repeated(explanation):
    explanation.score = "probability"
    entries = payload(explanation)["images"][0]["maps"]
    assert {entry["score"] for entry in entries} == {None}
    assert {entry["probability"] for entry in entries} != {None}
    explanation.probabilities = None
    assert None not in {entry["score"] for entry in payload(explanation)["images"][0]["maps"]}


def test_a_cell_of_a_notebook_has_small_images_unless_lossless_ones_are_asked(explained):
    e = explained({("gradcam", "x"): torch.rand(16, 3, 7, 7)}, ["a", "b", "c"], tuple(f"{i}.jpg" for i in range(16)))
    e.images = tuple(type(one)(one.name, one.image.resize((900, 600)), one.crop_box) for one in e.images)
    for cell, kind, size in (
        (notebook_html(e), "webp", (320, 213)),
        (notebook_html(e, lossless=True), "jpeg", (900, 600)),
    ):
        found = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", unescape(cell))
        assert len(found) == 16  # the maps of an image share it
        with Image.open(BytesIO(b64decode(found[0]))) as shown:
            assert shown.size == size
