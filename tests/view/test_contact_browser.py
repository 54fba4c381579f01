"""The contact sheet of a folder of results in a real browser."""

import time
from pathlib import Path
from typing import Any

import pytest

from saywhy.view.contact import contact_html, disagreement

pytest.importorskip("selenium")
from viewer_page import Page

pytestmark = pytest.mark.browser

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="


def row(name: str, probability: float | None, passed: bool | None = None, state: str = "good") -> dict[str, Any]:
    verdict = None if passed is None else {"passed": passed, "summary": "passed all checks" if passed else "failed 1"}
    one = {"target": "cat", "probability": probability, "diagnostics": [{"state": state}], "verdict": verdict}
    file = f"{name} #1.png"
    return {"image": name, "file": file, "thumbnail": PIXEL, "maps": [one], "disagreement": probability}


ROWS = [row("a", 0.9, True), row("b", 0.2, False), row("c", None), row("d", 0.7, None, "bad"), row("e", 0.4, True)]


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Page:
    (tmp_path / "index.html").write_text(contact_html(ROWS, "5 images"), encoding="utf-8")
    browser.get_log("browser")
    browser.get((tmp_path / "index.html").as_uri())
    return Page(browser)


def names(page: Page) -> list[str]:
    return [text.splitlines()[-1] for text in page.texts(".card")]


def test_cards_are_sorted_and_filtered(page: Page) -> None:
    assert names(page) == ["a", "b", "c", "d", "e"]
    page.choose("Sort by", "rank 1")
    assert names(page)[0] == "b"
    assert set(names(page)[3:]) == {"a", "e"}
    page.choose("Sort by", "probability 1")
    assert names(page) == ["b", "e", "d", "a", "c"]
    page.choose("Sort by", "disagreement -1")
    assert names(page) == ["a", "d", "e", "b", "c"]
    page.click("only suspicious")
    assert names(page) == ["d", "e", "b"]
    assert page.text("[role=status]") == "3 of 5 images"
    page.choose("Sort by", "")
    assert names(page) == ["b", "d", "e"]
    assert page.errors() == []
    assert page.run("return document.querySelector('.card a').getAttribute('href')") == "a%20%231.png"


def test_images_that_failed_are_listed(browser: Any, tmp_path: Path) -> None:
    page = contact_html(ROWS, "6 images", ["'<b>.png' cannot be read"])
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    assert Page(browser).text(".failures").splitlines() == ["1 not explained", "'<b>.png' cannot be read"]
    assert "not explained" not in contact_html(ROWS, "5 images")


def test_five_thousand_images_stay_quick(browser: Any, tmp_path: Path) -> None:
    many = [row(str(i), i / 5000, i % 2 == 0) for i in range(5000)]
    (tmp_path / "index.html").write_text(contact_html(many, "many"), encoding="utf-8")
    start = time.perf_counter()
    browser.get((tmp_path / "index.html").as_uri())
    page = Page(browser)
    page.choose("Sort by", "probability 1")
    page.click("only suspicious")
    assert page.text("[role=status]") == "3750 of 5000 images"
    assert time.perf_counter() - start < 20


def test_disagreement_is_one_minus_the_mean_rank_correlation(explained: Any) -> None:
    import torch

    ramp = torch.arange(196.0).reshape(1, 1, 14, 14)
    pair = {("a", "x"): ramp, ("b", "x"): ramp.flip(-1).flip(-2)}
    assert disagreement(explained(pair, ["mug"], ("m.png",))) == pytest.approx(2.0)
    assert disagreement(explained({("a", "x"): ramp}, ["mug"], ("m.png",))) is None
