"""The studio in a real browser: an image, a request, the result in the viewer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

pytestmark = pytest.mark.browser

Opened = Callable[..., Any]


def wait(page: Any, condition: Callable[[Any], Any], seconds: int = 60) -> Any:
    return WebDriverWait(page.browser, seconds).until(lambda _: condition(page))


def ready(page: Any) -> None:
    wait(page, lambda p: p.run("return document.querySelectorAll('#examples button, #model option').length") >= 4)


def drawn(page: Any) -> bool:
    return bool(
        page.run("const c = document.querySelector('#result figure canvas[tabindex]'); return c && c.width > 100")
    )


def holds(page: Any, selector: str, words: str) -> bool:
    return bool(
        page.run("return document.querySelector(arguments[0])?.textContent.includes(arguments[1])", selector, words)
    )


def choose(page: Any, name: str) -> None:
    Select(page.browser.find_element(By.ID, "model")).select_by_value(name)


def last_key(page: Any) -> str:
    """Return the id of the last request of the page."""
    loaded = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    return str([name for name in loaded if "/api/results/" in name][-1].split("/")[5])


def press(page: Any, text: str) -> None:
    next(one for one in page.shown("button") if one.text == text).click()


def with_the_example(page: Any) -> Any:
    """Choose the example on the page, and return it when a request can be made."""
    ready(page)
    press(page, "dog and bird")
    wait(page, lambda p: p.browser.find_element(By.ID, "go").is_enabled())
    return page


def test_an_example_is_explained_and_saved(opened: Opened) -> None:
    page = opened()
    ready(page)
    assert not page.browser.find_element(By.ID, "go").is_enabled()
    press(page, "dog and bird")
    wait(page, lambda p: p.browser.find_element(By.ID, "go").is_enabled())
    press(page, "Explain")
    wait(page, drawn)
    assert page.texts("#result .target .words")[0].startswith("bird")
    assert page.canvas().std() > 5
    links = [one.get_attribute("href") for one in page.shown("[aria-label^=Files] a")]
    assert [link.rpartition("=")[2] for link in links] == ["html", "png", "npz"]
    assert page.errors() == []


def test_results_stream_in_method_by_method_and_stay_in_the_history(opened: Opened) -> None:
    page = with_the_example(opened())
    page.browser.find_element(By.ID, "target").send_keys("dog - bird, dog")
    page.run("document.querySelector('details').open = true")
    for name in ("gradcam", "occlusion"):
        page.browser.find_element(By.CSS_SELECTOR, f"#methods input[value='{name}']").click()
    press(page, "Explain")
    wait(page, lambda p: holds(p, "#result .picker", "occlusion"))
    assert [text.splitlines()[0] for text in page.texts("#result .target .words")] == ["dog - bird", "dog"]
    choose(page, "toybox:ucam")
    page.browser.find_element(By.ID, "question").send_keys("what colour is the dog?", Keys.ENTER)
    wait(page, lambda p: holds(p, "#result", "How uncertain is it?"))
    assert page.texts("#history button") == ["Explain dog and bird", "Ask dog and bird"]
    press(page, "Explain dog and bird")
    wait(page, lambda p: not holds(p, "#result", "How uncertain is it?"))
    assert page.errors() == []


def test_two_models_are_shown_side_by_side_and_all_results_saved_as_one_page(opened: Opened, address: str) -> None:
    page = with_the_example(opened())
    Select(page.browser.find_element(By.ID, "beside")).select_by_value("mine")
    press(page, "Explain")
    canvases = "document.querySelectorAll('#result figure:first-child canvas[tabindex]')"
    wait(page, lambda p: p.run(f"return [...{canvases}].filter((c) => c.width > 300).length") == 2)
    assert page.texts("#result > section > h2") == ["toybox:classifier", "mine"]
    first, second = page.shown("#result > section")
    assert first.rect["y"] == second.rect["y"]
    assert page.violations() == []
    choose(page, "toybox:ucam")
    assert not page.shown("#for-beside")
    page.browser.find_element(By.ID, "question").send_keys("what colour is the dog?", Keys.ENTER)
    wait(page, lambda p: holds(p, "#result", "How uncertain is it?"))
    assert page.texts("#history button")[0] == "Explain dog and bird: toybox:classifier and mine"
    (link,) = page.shown("#history a")
    saved = page.browser.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then((a) => a.text()).then(done)", link.get_attribute("href")
    )
    assert [saved.count(words) > 0 for words in ("mine was asked to explain", "toybox:ucam was asked: what colour")]
    assert page.errors() == []


def test_a_map_is_tested_by_a_button(opened: Opened) -> None:
    page = with_the_example(opened())
    press(page, "Explain")
    wait(page, drawn)
    press(page, "Test this map")
    wait(page, lambda p: holds(p, "#result .trust", "checks"), 120)
    assert page.text("#result .trust p").startswith(("Passed all checks", "Failed"))
    assert page.texts("#history button")[1] == "Test bird, gradcam"
    assert page.errors() == []


def test_a_file_of_ones_own_and_hostile_labels(opened: Opened, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "<b>x.png")
    page = opened()
    ready(page)
    page.browser.find_element(By.ID, "file").send_keys(str(tmp_path / "<b>x.png"))
    wait(page, lambda p: "80 × 60 pixels" in p.text("#file-text"))
    choose(page, "mine")
    press(page, "Explain")
    wait(page, drawn)
    assert page.run("return window.hacked ?? null") is None
    assert "<b>x.png" in page.text("#result h1")
    assert page.errors() == []


def test_problems_are_said(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    page = opened()
    ready(page)
    page.browser.find_element(By.ID, "file").send_keys(str(tmp_path / "x.png"))
    wait(page, lambda p: "is not an image that can be read" in p.text("#problem"))
    press(page, "dog and bird")
    wait(page, lambda p: p.browser.find_element(By.ID, "go").is_enabled())
    page.browser.find_element(By.ID, "target").send_keys("zebra")
    press(page, "Explain")
    wait(page, lambda p: "no class 'zebra'" in p.text("#problem"))


def test_a_long_request_can_be_stopped(opened: Opened) -> None:
    page = with_the_example(opened())
    page.run("document.querySelector('details').open = true")
    page.browser.find_element(By.CSS_SELECTOR, "#methods input[value='rise']").click()
    press(page, "Explain")
    wait(page, lambda p: "rise" in p.text("#progress"))
    press(page, "Stop")
    wait(page, lambda p: p.browser.find_element(By.ID, "go").is_enabled())
    assert not drawn(page)


def test_a_layer_is_chosen(opened: Opened, address: str) -> None:
    httpx = pytest.importorskip("httpx")
    page = with_the_example(opened())
    choose(page, "mine")
    assert page.run("return [...document.querySelectorAll('#layers option')].map((one) => one.value)") == [*"0123"]
    page.run("document.querySelector('details').open = true")
    page.browser.find_element(By.ID, "layer").send_keys("1", Keys.ENTER)
    wait(page, drawn)
    found = httpx.get(f"{address}/api/results/{last_key(page)}").json()
    assert {one["layer"] for one in found["result"]["images"][0]["maps"]} == {"1"}
    assert page.errors() == []


def test_questions_are_generated_and_answered(opened: Opened) -> None:
    page = with_the_example(opened())
    choose(page, "toybox:questioner")
    page.browser.find_element(By.ID, "prompt").send_keys("how many")
    Select(page.browser.find_element(By.ID, "answer")).select_by_value("toybox:ucam")
    press(page, "Generate questions")
    wait(page, drawn)
    assert all(text.startswith("how many") for text in page.texts("#result .target .words"))
    assert page.violations() == []
    assert page.errors() == []


def test_a_photograph_is_taken(opened: Opened) -> None:
    page = opened()
    ready(page)
    press(page, "Take a photograph")
    wait(page, lambda p: p.run("return document.querySelector('#video').videoWidth") > 0)
    assert page.violations() == []
    press(page, "Take it")
    wait(page, lambda p: p.text("#file-text").startswith("photograph.png"))
    assert page.run("return document.querySelector('#video').srcObject") is None  # the camera is off
    press(page, "Explain")
    wait(page, drawn)
    assert page.errors() == []


def test_a_page_that_is_closed_stops_what_it_asked_for(opened: Opened) -> None:
    page = with_the_example(opened())
    page.run("document.querySelector('details').open = true")
    page.browser.find_element(By.CSS_SELECTOR, "#methods input[value='rise']").click()
    press(page, "Explain")
    wait(page, lambda p: "rise" in p.text("#progress"))
    page.run("window.dispatchEvent(new Event('pagehide'))")
    wait(page, lambda p: p.browser.find_element(By.ID, "go").is_enabled())
    assert not drawn(page)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_of_the_api_names_every_request(opened: Opened, width: int, dark: bool) -> None:
    page = opened(width, dark, "/api")
    wait(page, lambda p: p.texts("#requests h3"))
    requests = page.texts("#requests h3")
    assert {"POST /api/explain", "POST /api/questions", "GET /api/results/{key}/file", "DELETE /api/images/{key}"} <= {
        *requests
    }
    assert holds(page, "#requests", "Classes, contrasts ('cat - dog') and others.")
    assert page.violations() == []
    root = "document.documentElement"
    assert page.run(f"return {root}.scrollWidth - {root}.clientWidth") == 0
    assert page.errors() == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_and_no_width_scrolls_sideways(opened: Opened, width: int, dark: bool) -> None:
    page = with_the_example(opened(width, dark))
    press(page, "Explain")
    wait(page, drawn)
    assert page.violations() == []
    root = "document.documentElement"
    assert page.run(f"return {root}.scrollWidth - {root}.clientWidth") == 0


def test_nothing_is_loaded_from_elsewhere(opened: Opened, address: str) -> None:
    page = opened()
    ready(page)
    loaded = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(loaded) >= 5
    assert all(one.startswith(address) for one in loaded)
