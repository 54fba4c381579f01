"""A rater in a real browser: keyboard only, on a phone, closing the page and going on."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from study_fixtures import planted

pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys  # only where selenium is
from selenium.webdriver.support.ui import WebDriverWait

from saywhy.studies.analysis import analyse
from saywhy.studies.answers import AnswerStore
from saywhy.studies.study import Study
from viewer_page import Page

pytestmark = pytest.mark.browser

__all__ = ["planted"]

Planted = Callable[..., Study]


@pytest.fixture(params=["trust", "discrimination"])
def rated(planted: Planted, browser: Any, request: Any) -> Iterator[tuple[Study, Page]]:
    """A study of two raters, and its page on a phone."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    from saywhy.studio.app import create_app
    from saywhy.studio.settings import StudioSettings

    study = planted(request.param, raters=2, items_per_rater=4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app({}, (), StudioSettings(port=port, per_minute=10_000), [study])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{port}/study/{study.link}")
    yield study, Page(browser)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    server.should_exit = True
    thread.join(10)


def shown(page: Page) -> bool:
    return bool(page.run("return !document.querySelector('#item').hidden"))


def wide(page: Page) -> int:
    root = "document.documentElement"
    return int(page.run(f"return {root}.scrollWidth - {root}.clientWidth"))


def test_a_rater_answers_by_keyboard_and_goes_on_after_closing_the_page(rated: tuple[Study, Page]) -> None:
    study, page = rated
    browser, trust = page.browser, study.design.kind == "trust"
    WebDriverWait(browser, 20).until(lambda _: page.shown("#begin"))
    assert "There are 6 of them" in page.text("#about")
    assert page.violations() == []
    page.keys(Keys.TAB, Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda _: shown(page))
    number = 0
    while shown(page):
        assert page.text("#place") == f"{number + 1} of 6"
        assert wide(page) == 0
        if number == 0:
            assert page.violations() == []
            assert len(page.shown("#answers button")) == (5 if trust else 2)
            images = page.shown("#maps img")
            assert len(images) == (2 if trust else 1)
            WebDriverWait(browser, 20).until(
                lambda _: all(page.run("return arguments[0].naturalWidth", one) == 8 for one in page.shown("#maps img"))
            )
        instruction = page.text("#text")
        key = "1"
        if "To show that you read this" in instruction:
            wanted = instruction.split("“")[-1].split("”")[0] if trust else ""
            texts = [one.text.partition(" ")[2] for one in page.shown("#answers button")]
            key = str(texts.index(wanted) + 1) if trust else "1" if "the first" in instruction else "2"
        page.keys(key)
        number += 1
        WebDriverWait(browser, 20).until(lambda _, n=number: page.text("#place") == f"{n + 1} of 6" or not shown(page))
        if number == 3:
            browser.refresh()
            WebDriverWait(browser, 20).until(lambda _: shown(page))
    assert page.text("#question") == "Thank you"
    assert page.violations() == []
    stored = AnswerStore(study).answers()
    assert len(stored) == 6
    result = analyse(study, stored, 20)
    assert result.left_out == ()
    assert page.errors() == []


def test_a_full_study_and_a_wrong_link_say_so(rated: tuple[Study, Page]) -> None:
    study, page = rated
    WebDriverWait(page.browser, 20).until(lambda _: page.shown("#begin"))
    store = AnswerStore(study)
    for _ in range(2):
        store.join()
    page.shown("#begin")[0].click()
    WebDriverWait(page.browser, 20).until(lambda _: "all of its 2 raters" in page.text("#problem"))
    page.browser.get(page.browser.current_url.rpartition("/")[0] + "/wrong")
    WebDriverWait(page.browser, 20).until(lambda _: "no study of this link" in page.text("#problem"))
