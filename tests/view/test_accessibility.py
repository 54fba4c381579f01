"""axe-core finds nothing on the pages, light and dark, wide and narrow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")
from saywhy.view import save_html
from saywhy.view.chapters import Chapter, save_chapters
from saywhy.view.contact import contact_html
from saywhy.view.gallery import save_gallery
from viewer_page import Page

pytestmark = pytest.mark.browser

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="


def viewer(explained: Callable[..., Any], folder: Path) -> Path:
    return save_html(explained(), folder / "why.html")


def gallery(explained: Callable[..., Any], folder: Path) -> Path:
    several = [explained(names=(name,)) for name in ("a.png", "b.png")]
    return save_gallery(several, folder / "gallery.html", "2 images")


def chapters(explained: Callable[..., Any], folder: Path) -> Path:
    parts = [Chapter(heading, "What it is.", [explained()]) for heading in ("one", "two")]
    return save_chapters("Chapters", "All of them.", parts, folder / "chapters.html")


def contact(explained: Callable[..., Any], folder: Path) -> Path:
    verdict = {"passed": False, "summary": "failed 1 of 6 checks"}
    maps = [{"target": "cat", "probability": 0.4, "diagnostics": [{"state": "bad"}], "verdict": verdict}]
    row = {"image": "a.png", "file": "a.png", "thumbnail": PIXEL, "maps": maps, "disagreement": 0.2}
    (folder / "index.html").write_text(contact_html([row, row], "2 images", ["'b.png' cannot be read"]), "utf-8")
    return folder / "index.html"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [viewer, gallery, chapters, contact])
def test_axe_finds_nothing(browser: Any, explained: Any, tmp_path: Path, page: Any, scheme: str, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page(explained, tmp_path).as_uri())
    found = Page(browser).violations()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found == []


def test_axe_finds_a_planted_fault(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(f"<html><body><img src='{PIXEL}'></body></html>", encoding="utf-8")
    browser.get((tmp_path / "bad.html").as_uri())
    assert {"image-alt", "html-has-lang"} <= {rule for rule, _ in Page(browser).violations()}
