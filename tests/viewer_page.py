"""The page object of the viewer for browser tests."""

import base64
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402  # only where selenium is
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1 --window-size=1280,900 "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)


def browsing(folder: Path) -> Iterator["webdriver.Chrome"]:
    """Yield a browser that writes to a folder only; skips without chromium and chromedriver."""
    program, helper = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and helper):
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS.split(), f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(helper))
    yield driver
    driver.quit()


class Page:
    """The open viewer: its controls, texts and canvases."""

    def __init__(self, browser: "webdriver.Chrome") -> None:
        self.browser = browser

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def canvas(self, number: int = 0) -> np.ndarray:
        """Pixels [H, W, 3] of a figure's canvas."""
        address = self.run(
            "return document.querySelectorAll('figure canvas[tabindex]')[arguments[0]].toDataURL()", number
        )
        with Image.open(BytesIO(base64.b64decode(str(address).partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"), int)

    def element(self, label: str) -> Any:
        """Return the control whose accessible name begins with a text."""
        controls = self.shown("input, select, button, canvas[tabindex], summary")
        return next(control for control in controls if control.accessible_name.startswith(label))

    def shown(self, selector: str) -> list[Any]:
        """Return elements that take room on the page, transparent radio buttons included."""
        find = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.getClientRects().length)"
        return list(self.run(find, selector))

    def click(self, label: str) -> None:
        self.run("arguments[0].click()", self.element(label))

    def choose(self, label: str, value: str) -> None:
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))",
            self.element(label),
            value,
        )

    def slide(self, label: str, value: int) -> None:
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.element(label),
            value,
        )

    def violations(self) -> list[tuple[str, list[str]]]:
        """What axe-core finds: the rule, and the elements that break it; skips without axe-core."""
        package = pytest.importorskip("axe_core_python.selenium")
        # The driver evaluates the script: the page's own policy forbids inserted ones.
        self.run((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = self.browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the visible elements."""
        return [element.text for element in self.shown(selector)]

    def reading(self, number: int = 0) -> tuple[int, int, float | None]:
        """Return the original pixel and the raw value that are shown under a figure."""
        found = self.run("return {...document.querySelectorAll('.reading')[arguments[0]].dataset}", number)
        assert isinstance(found, dict)
        value = found["value"]
        return int(found["x"]), int(found["y"]), float(value.replace("Infinity", "inf")) if value else None

    def point(self, x: int, y: int, size: tuple[int, int], number: int = 0) -> None:
        """Move the pointer to the middle of an original pixel."""
        canvas = self.browser.find_elements("css selector", "figure canvas[tabindex]")[number]
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        wide, high = canvas.rect["width"], canvas.rect["height"]
        across, down = (x + 0.5) / size[0] * wide - wide / 2, (y + 0.5) / size[1] * high - high / 2
        ActionChains(self.browser).move_to_element_with_offset(canvas, round(across), round(down)).perform()

    def keys(self, *keys: str) -> None:
        chain = ActionChains(self.browser)
        for key in keys:
            chain = chain.send_keys(key)
        chain.perform()

    def focus(self) -> None:
        self.run("document.querySelector('figure canvas[tabindex]').focus()")

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


def visit(browser: "webdriver.Chrome", path: Path) -> Page:
    browser.get_log("browser")  # drop the messages of earlier pages
    browser.get(path.as_uri())
    WebDriverWait(browser, 10).until(
        lambda b: b.execute_script(
            "const c = document.querySelector('figure canvas[tabindex]'); return c && c.width > 300"
        )
    )
    return Page(browser)
