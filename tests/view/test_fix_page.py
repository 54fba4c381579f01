"""The page of a fix: what it says, with hostile names, and in a real browser at any width."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saywhy
from planted_images import Network
from saywhy.errors import InputError
from saywhy.fixing.evaluate import Evaluation, SplitAccuracy
from saywhy.fixing.examples import FixExample
from saywhy.fixing.fix import Fix
from saywhy.fixing.grounding import Grounding
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.train import Settings
from saywhy.fixing.verdict import verdict
from saywhy.view.fix import fix_html

HOSTILE = (
    '</style><script>window.hacked=1</script><img src=x onerror="window.hacked=1"> \u202e' + "a_very_long_name_" * 12
)
WIDTHS = (320, 390, 768, 1280)


def evaluated(share: float, mass: float) -> Evaluation:
    right = [int(i < round(100 * share)) for i in range(100)]
    groups = {f"{HOSTILE} {k}": share for k in range(2)}
    each = {"rank": [mass / 2] * 40, "deletion": [mass / 10] * 40}
    accuracy = {split: SplitAccuracy(share, groups, right) for split in ("train", "val", "test", "shifted")}
    return Evaluation(accuracy, Grounding(40, mass / 2, mass, 0.1, 0.5, mass / 10, 0.1, each))


def made(stopped: str = "", judged: bool = True) -> Fix:
    """A fix with runs of all methods, or of none, and two examples; the second has an empty map and an empty hint."""
    before = evaluated(0.4, 0.2)
    runs = {
        (name, 0): evaluated(0.9 if name == "hint" else 0.5, 0.6 if name == "hint" else 0.3) for name in FIX_METHODS
    }
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    maps = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(0))
    hint = torch.zeros(24, 24)
    hint[4:10, 4:10] = 1
    answers = (("cat", 0.25), (HOSTILE, 0.75))
    examples = tuple(
        FixExample(HOSTILE, Image.fromarray(pixels), (10.0, -5.0, 80.0, 65.0), HOSTILE, h, m, answers)
        for h, m in ((hint, maps), (torch.full((24, 24), torch.nan), maps * 0))
    )
    runs = runs if judged else {}
    found = verdict("hint", before, runs) if judged else None
    return Fix(
        saywhy.load(Network(), input_size=24),
        "hint",
        before,
        runs,
        found,
        HOSTILE,
        (20, 90),
        Settings(),
        examples,
        stopped,
    )


class TestText:
    def test_names_are_escaped(self):
        page = fix_html(made(stopped=HOSTILE))
        assert "<script" not in page
        assert page.count("<img") == 6  # the maps of two examples
        assert HOSTILE.split(" ")[0] in unescape(page)
        assert "default-src 'none'" in page

    def test_says_verdict_rows_and_differences(self):
        plain = unescape(re.sub(r"<[^>]+>", " ", fix_html(made()).partition("<main>")[2]))
        page = re.sub(r"\s+", " ", plain)
        assert "Grounding helped. Worst-group accuracy on shifted: 0.900 with 'hint', 0.400 before" in page
        assert "20 of 90 training images have a hint" in page
        assert "a uniform map has 0.10" in page
        for name in FIX_METHODS:
            assert f" {name} " in page
        assert " hint and erm better +0.400 (" in page
        assert "before: cat 25 % (wrong)" in page

    def test_a_fix_without_runs_says_why(self):
        page = fix_html(made(stopped="Stopped by Ctrl-C during 'hint', seed 0: 0 of 3 runs are done.", judged=False))
        assert "The same command goes on." in page
        assert "Differences" not in page

    def test_a_fix_without_held_out_hints(self):
        found = made()
        plain = Evaluation(found.before.accuracy, Grounding())
        page = fix_html(Fix(found.model, "hint", plain, {}, None, "features", (20, 90), Settings()))
        assert "Grounding on 0 held-out images" in page
        assert "nan" not in page.partition("<main>")[2]
        assert "Maps before and after" not in page

    def test_other_suffixes_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"expected the suffix .html, got '.png'"):
            made().save(tmp_path / "fix.png")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {"whole": made(), "stopped": made(stopped=HOSTILE, judged=False)}
    return {name: fix.save(folder / f"{name}.html") for name, fix in found.items()}


@pytest.fixture
def show(browser) -> Iterator[Any]:
    from viewer_page import Page

    def show(path: Path, width: int = 1280) -> Page:
        browser.get_log("browser")
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(path.as_uri())
        return Page(browser)

    yield show
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
@pytest.mark.parametrize("name", ["whole", "stopped"])
def test_opens_without_an_error(show, pages, name):
    page = show(pages[name])
    assert page.errors() == []
    assert page.run("return window.hacked ?? null") is None
    assert page.run("return document.querySelectorAll('script').length") == 0
    loaded = page.run("return [...document.images].map((i) => i.complete && i.naturalWidth)")
    assert len(loaded) == 6
    assert all(loaded)
    assert page.text("h1") == "Did the hints help?"
    assert page.violations() == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["whole", "stopped"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways(show, pages, name, width):
    """Only the table of all methods scrolls, within itself."""
    page = show(pages[name], width)
    page.run("document.querySelector('details').open = true")
    root = "document.documentElement"
    assert page.run(f"return [innerWidth, {root}.scrollWidth - {root}.clientWidth]") == [width, 0]
    wide = "(e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.results')"
    beyond = page.run(
        f"return [...document.querySelectorAll('main *')].filter({wide}).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []
