"""The painting page in a real browser: brush, box, erase, undo, keyboard, files, and the agreement with maps."""

import base64
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains  # only where selenium is
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from saywhy.alignment.strokes import PaintedBox, PaintedImage, Stroke, draw, read_strokes

pytestmark = pytest.mark.browser

Opened = Callable[..., Any]


@pytest.fixture
def painting(opened: Opened, browser: Any, tmp_path: Path) -> Any:
    """The painting page with an image of 400 x 300 pixels of one's own; downloads go to tmp_path / "saved"."""
    (tmp_path / "saved").mkdir()
    saved = {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", saved)
    page = opened(path="/paint")
    page.run("localStorage.clear()")
    page.browser.refresh()
    Image.new("RGB", (400, 300), "#808080").save(tmp_path / "grey.png")
    page.browser.find_element(By.ID, "files").send_keys(str(tmp_path / "grey.png"))
    choose(page, "grey.png")
    page.run("document.querySelector('#canvas').scrollIntoView({block: 'center'})")
    return page


def listed(page: Any) -> list[str]:
    return list(page.run("return [...document.querySelectorAll('#images option')].map((one) => one.textContent)"))


def choose(page: Any, name: str) -> None:
    """Choose an image of the list when it is there, and wait until it is shown."""
    WebDriverWait(page.browser, 20).until(lambda _: any(one.endswith(name) for one in listed(page)))
    number = next(n for n, one in enumerate(listed(page)) if one.endswith(name))
    page.run(
        "const s = document.querySelector('#images'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
        str(number),
    )
    WebDriverWait(page.browser, 20).until(lambda _: name in page.text("#where"))


def drag(page: Any, *points: tuple[float, float]) -> None:
    """Drag over the canvas, through points in pixels of the image of 400 x 300."""
    canvas = page.browser.find_element(By.ID, "canvas")
    wide, high = canvas.rect["width"], canvas.rect["height"]
    chain = ActionChains(page.browser, duration=20)
    for number, (x, y) in enumerate(points):
        chain.move_to_element_with_offset(canvas, round(x / 400 * wide - wide / 2), round(y / 300 * high - high / 2))
        if not number:
            chain.click_and_hold()
    chain.release().perform()


def downloaded(folder: Path, name: str) -> bytes:
    for _ in range(100):
        if (folder / name).exists() and (folder / name).stat().st_size:
            data = (folder / name).read_bytes()
            (folder / name).unlink()
            return data
        time.sleep(0.1)
    raise AssertionError(f"{name} was not downloaded")


def strokes(page: Any, folder: Path) -> PaintedImage:
    page.browser.find_element(By.ID, "save-strokes").click()
    (folder / "again.json").write_bytes(downloaded(folder / "saved", "hints.json"))
    return next(one for one in read_strokes(folder / "again.json") if one.file == "grey.png")


def canvas(page: Any) -> np.ndarray:
    """The canvas's pixels at the image's size."""
    address = page.run("return document.querySelector('#canvas').toDataURL()")
    with Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB").resize((400, 300), Image.Resampling.BOX), int)


def test_what_is_painted_is_saved_as_strokes_and_as_a_mask(painting: Any, tmp_path: Path) -> None:
    drag(painting, (60, 60), (120, 60), (180, 100))
    painting.keys("r")
    drag(painting, (220, 150), (320, 250))
    painting.keys("be")
    drag(painting, (260, 200), (300, 200))
    found = strokes(painting, tmp_path)
    assert (found.width, found.height) == (400, 300)
    brush, box, erased = found.strokes
    assert isinstance(brush, Stroke)
    assert isinstance(erased, Stroke)
    assert (brush.radius, brush.matters, erased.matters) == (20, True, False)
    assert brush.points[0] == pytest.approx((60, 60), abs=1.5)
    assert brush.points[-1] == pytest.approx((180, 100), abs=3)
    assert isinstance(box, PaintedBox)
    assert box.box == pytest.approx((220, 150, 320, 250), abs=1.5)
    painting.browser.find_element(By.ID, "save-mask").click()
    with Image.open(BytesIO(downloaded(tmp_path / "saved", "grey.png"))) as mask:
        assert np.array_equal(np.asarray(mask) > 0, draw(found).numpy() > 0)
    assert painting.errors() == []


def test_the_preview_is_the_mask(painting: Any, tmp_path: Path) -> None:
    before = canvas(painting)
    drag(painting, (100, 80), (300, 220), (100, 220))
    found = draw(strokes(painting, tmp_path)).numpy() > 0
    painted = np.abs(canvas(painting) - before).sum(2) > 60
    assert (painted & found).sum() / (painted | found).sum() > 0.9  # the brush's outline differs


def test_undo_redo_clear_and_keyboard_only(painting: Any, tmp_path: Path) -> None:
    painting.run("document.querySelector('#canvas').focus()")
    painting.keys(Keys.SPACE, *[Keys.ARROW_RIGHT] * 5, Keys.SPACE)
    painting.keys("r", Keys.SPACE, *[Keys.ARROW_DOWN] * 4, *[Keys.ARROW_LEFT] * 3, Keys.SPACE)
    painting.keys(Keys.SPACE, Keys.ARROW_UP, Keys.ESCAPE)  # dropped
    first, second = strokes(painting, tmp_path).strokes
    assert isinstance(first, Stroke)
    assert first.points[0] == (200, 150)
    assert first.points[-1] == (230, 150)
    assert isinstance(second, PaintedBox)
    assert second.box == (212, 150, 230, 174)
    undo = ActionChains(painting.browser).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL)
    undo.perform()
    assert len(strokes(painting, tmp_path).strokes) == 1
    painting.browser.find_element(By.ID, "redo").click()
    assert strokes(painting, tmp_path).strokes == (first, second)
    painting.browser.find_element(By.ID, "clear").click()
    assert not painting.browser.find_element(By.ID, "save-mask").is_enabled()
    undo.perform()
    undo.perform()  # nothing more to undo
    painting.browser.find_element(By.ID, "redo").click()


def test_what_was_painted_survives_a_reload_and_a_file_is_opened(painting: Any, tmp_path: Path) -> None:
    drag(painting, (60, 60), (120, 60))
    before = strokes(painting, tmp_path)
    painting.browser.refresh()
    painting.browser.find_element(By.ID, "files").send_keys(str(tmp_path / "grey.png"))
    WebDriverWait(painting.browser, 20).until(lambda _: "✓ grey.png" in listed(painting))
    assert strokes(painting, tmp_path) == before
    painting.run("localStorage.clear()")
    painting.browser.refresh()
    painting.browser.find_element(By.ID, "files").send_keys(str(tmp_path / "grey.png"))
    painting.browser.find_element(By.ID, "strokes-file").send_keys(str(tmp_path / "again.json"))
    WebDriverWait(painting.browser, 20).until(lambda _: "Strokes of 1 images read" in painting.text("#where"))
    assert strokes(painting, tmp_path) == before
    Image.new("RGB", (40, 30), "#808080").save(tmp_path / "grey.png")
    painting.browser.refresh()
    painting.browser.find_element(By.ID, "files").send_keys(str(tmp_path / "grey.png"))
    choose(painting, "grey.png")
    assert not any(one.startswith("✓") for one in listed(painting))  # another file of the same name has its own strokes
    painting.browser.find_element(By.ID, "strokes-file").send_keys(str(tmp_path / "again.json"))
    WebDriverWait(painting.browser, 20).until(lambda _: "was painted on 400 × 300" in painting.text("#problem"))
    (tmp_path / "other.json").write_text("[]")
    painting.browser.find_element(By.ID, "strokes-file").send_keys(str(tmp_path / "other.json"))
    WebDriverWait(painting.browser, 20).until(lambda _: "is no file of strokes" in painting.text("#problem"))


def test_blur_shows_what_is_painted(painting: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (300, 400, 1)).repeat(3, 2).astype(np.uint8) * 255
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    painting.browser.find_element(By.ID, "files").send_keys(str(tmp_path / "noise.png"))
    choose(painting, "noise.png")
    painting.browser.find_element(By.ID, "blur").click()
    drag(painting, (60, 60), (180, 60))
    painting.run("document.querySelector('#canvas').dispatchEvent(new PointerEvent('pointermove', "
                 "{isPrimary: true, clientX: 0, clientY: 0}))")  # fmt: skip
    found = canvas(painting)
    assert found[50:70, 60:180].std() > 60
    assert found[200:280, 200:380].std() < 30


def test_agreement_with_a_models_maps_is_shown(painting: Any) -> None:
    choose(painting, "dog and bird")
    drag(painting, (100, 100), (200, 200))
    painting.run("document.querySelector('details').open = true")
    painting.browser.find_element(By.ID, "target").send_keys("dog")
    painting.browser.find_element(By.ID, "compare").click()
    WebDriverWait(painting.browser, 60).until(lambda _: painting.shown("#agreement tbody td"))
    target, method, correlation = painting.texts("#agreement tbody td")
    assert (target, method) == ("dog", "gradcam")
    assert -1 <= float(correlation.replace("−", "-")) <= 1
    assert painting.errors() == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_and_no_width_scrolls_sideways(opened: Opened, width: int, dark: bool) -> None:
    page = opened(width, dark, "/paint")
    WebDriverWait(page.browser, 20).until(lambda _: "dog and bird" in page.text("#where"))
    page.run("document.querySelector('details').open = true")
    assert page.violations() == []
    root = "document.documentElement"
    assert page.run(f"return {root}.scrollWidth - {root}.clientWidth") == 0
