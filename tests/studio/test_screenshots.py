"""The screenshots of the docs: made here, and the stored ones look like them.

SAYWHY_SCREENSHOTS=1 stores them anew, under docs/images.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains  # only where selenium is
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"

UNLIKE = 24.0
"""The largest mean difference of grey values from the stored screenshot; fonts differ between machines."""


def compare(page: Any, name: str) -> None:
    """Compare the page with the stored screenshot, or store it."""
    with Image.open(io.BytesIO(page.browser.get_screenshot_as_png())) as taken:
        found = taken.convert("RGB")
    file = IMAGES / f"{name}.webp"
    if os.environ.get("SAYWHY_SCREENSHOTS"):
        found.save(file, "WEBP", quality=82, method=6)
    with Image.open(file) as stored:
        assert stored.size == found.size
        small = [np.asarray(one.convert("L").resize((160, 112)), float) for one in (stored, found)]
    assert small[0].std() > 10
    assert np.abs(small[0] - small[1]).mean() < UNLIKE


def begin(opened: Callable[..., Any], path: str = "") -> Any:
    page = opened(1280, False, path)
    page.run("localStorage.clear()")
    page.browser.refresh()
    return page


def until(page: Any, script: str) -> None:
    WebDriverWait(page.browser, 60).until(lambda _: page.run(f"return {script}"))


def test_a_request_and_its_result(opened: Callable[..., Any]) -> None:
    page = begin(opened)
    until(page, "document.querySelectorAll('#examples button, #model option').length >= 4")
    next(one for one in page.shown("button") if one.text == "dog and bird").click()
    until(page, "!document.querySelector('#go').disabled")
    page.browser.find_element(By.ID, "target").send_keys("dog, dog - bird")
    page.browser.find_element(By.ID, "go").click()
    until(page, "document.querySelector('#result figure canvas[tabindex]')?.width > 300")
    page.run("window.scrollTo(0, 430)")
    compare(page, "studio")


def test_painting(opened: Callable[..., Any]) -> None:
    page = begin(opened, "/paint")
    until(page, "document.querySelector('#where').textContent.includes('dog and bird')")
    canvas = page.browser.find_element(By.ID, "canvas")
    page.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    chain = ActionChains(page.browser, duration=20).move_to_element_with_offset(canvas, -110, -110).click_and_hold()
    for x, y in ((40, 20), (-30, 60), (60, 40), (-90, 10)):
        chain = chain.move_by_offset(x, y)
    chain.release().perform()
    page.keys("r")
    ActionChains(page.browser, duration=20).move_to_element_with_offset(canvas, 10, 70).click_and_hold().move_by_offset(
        180, 180
    ).release().perform()
    page.run("window.scrollTo(0, 100)")
    compare(page, "studio-paint")
