"""The pages of a check and of a benchmark in a real browser, from a file: no error, at any width, light and dark."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import saywhy
from saywhy.benchmarking import Benchmark, BenchmarkConfig
from saywhy.checks.check import check
from saywhy.metrics import METRICS
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.terminal import printable

pytest.importorskip("selenium")
from viewer_page import Page  # only where selenium is

pytestmark = pytest.mark.browser

HOSTILE = (
    '</style><script>window.hacked=1</script><img src=x onerror="window.hacked=1"> \u202e' + "a_very_long_name_" * 12
)
WIDTHS = (320, 390, 768, 1280)


def network(axes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    conv, pool = (
        (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1],
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[axes - 1],
    )
    return nn.Sequential(conv(3, 4, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The pages of an image, a signal, a volume and a data set, all with hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8))
    image.filename = f"{HOSTILE.replace('/', '|')}.png"
    model = saywhy.load(network(), input_size=32, labels=[HOSTILE, "b", "c"])
    explain = partial(saywhy.explain, layer="1", relu=False)
    found = {"check": check(explain(model, image, [0, "b"])).save(folder / "check.html")}
    for name, axes in (("signal", 1), ("volume", 3)):
        inputs = torch.randn(1, 3, *[12] * axes, generator=torch.Generator().manual_seed(1))
        found[name] = check(explain(network(axes), inputs, 0)).save(folder / f"{name}.html")
    found["benchmark"] = measured().save(folder / "benchmark.html")
    found["all NaN"] = measured(math.nan).save(folder / "nan.html")
    return found


def measured(value: float | None = None) -> Benchmark:
    """A benchmark of every metric, with arbitrary numbers and a skipped image."""
    generator = np.random.default_rng(0)
    settings = BenchmarkConfig(
        HOSTILE, "0" * 64, HOSTILE, 3, 3, ("gradcam", "gradcam-elementwise"), tuple(METRICS), None, 0
    )
    done = Benchmark(settings, skipped={2: HOSTILE})
    for place in range(2):
        done.images[place] = [
            {"map": name, "values": {m: None if value is not None else float(generator.normal()) for m in METRICS}}
            for name in (*settings.methods, *CLASS_AGNOSTIC_BASELINES)
        ]
    return done


@pytest.fixture
def show(browser) -> Iterator[Any]:
    def show(path: Path, width: int = 1280, dark: bool = False) -> Page:
        browser.get_log("browser")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(path.as_uri())
        return Page(browser)

    yield show
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


NAMES = ("check", "signal", "volume", "benchmark", "all NaN")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dark", [False, True])
def test_opens_without_an_error(show, pages, name, dark):
    page = show(pages[name], dark=dark)
    assert page.errors() == []
    assert page.run("return window.hacked ?? null") is None
    assert page.run("return document.querySelectorAll('script').length") == 0
    loaded = page.run("return [...document.images].map((i) => i.complete && i.naturalWidth)")
    assert all(loaded)
    assert len(loaded) == (0 if name in ("benchmark", "all NaN") else 6 * (2 if name == "check" else 1))
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(numbers(paper)[:3]) < 200) is dark
    assert page.violations() == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways(show, pages, name, width):
    page = show(pages[name], width)
    page.run("document.querySelector('details').open = true")
    root = "document.documentElement"
    assert page.run(f"return [innerWidth, {root}.scrollWidth - {root}.clientWidth]") == [width, 0]
    wide = "(e) => e.getBoundingClientRect().right > innerWidth + 1"
    find = f"return [...document.querySelectorAll('main *')].filter({wide})"
    beyond = [e.get_attribute("outerHTML")[:80] for e in page.run(find)]
    assert beyond == []


@pytest.mark.parametrize("name", ["check", "benchmark"])
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(show, pages, name, dark):
    """Contrast of at least 4.5 to 1 (WCAG 2, 1.4.3) with the background."""
    page = show(pages[name], dark=dark)
    page.run("document.querySelector('details').open = true")
    found = page.run(
        """
        const ground = (e) => {
            for (; e; e = e.parentElement) {
                const colour = getComputedStyle(e).backgroundColor;
                if (!/, 0\\)$/.test(colour)) return colour;
            }
        };
        return [...document.querySelectorAll('main *')]
            .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
            .map((e) => [e.tagName + '.' + e.className, getComputedStyle(e).color, ground(e)]);
        """
    )
    assert len(found) > 30
    weak = {(what, ink, paper) for what, ink, paper in found if contrast(numbers(ink), numbers(paper)) < 4.5}
    assert weak == set()


def numbers(colour: str) -> list[float]:
    return [float(part) for part in colour.partition("(")[2].rstrip(")").split(",")]


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast of two colours, by WCAG 2."""

    def light(colour: list[float]) -> float:
        parts = [v / 255 for v in colour[:3]]
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_check_page_shows_every_check(show, pages):
    page = show(pages["check"])
    assert page.text("h1") == "Can this map be trusted?"
    assert len(page.shown("article")) == 2
    assert [row.split()[0] for row in page.texts(".tests tr")][:7] == [
        "diagnostics",
        "faithfulness",
        "effect",
        "parameter",
        "class",
        "stability",
        "completeness",
    ]
    assert set(page.texts(".mark")) <= {"passed", "failed", "not applicable"}
    assert page.text("article:nth-of-type(2) h2").startswith("b")
    assert printable(HOSTILE) in page.text("article h2")


def test_benchmark_marks_lie_within_their_intervals(show, pages):
    page = show(pages["benchmark"])
    bars = page.run(
        """
        return [...document.querySelectorAll('.plot tr:not(.scale)')].map((row) => {
            const [axis, range, tick] = [...row.querySelectorAll('line')].map((l) => l.getBoundingClientRect());
            const part = (x) => (x - axis.left) / axis.width;
            return [part(range.left), part(tick.left + tick.width / 2), part(range.right)];
        });
        """
    )
    known = [bar for bar in bars if bar[0] is not None]
    assert len(known) == len(METRICS) * 5
    for low, at, high in known:
        assert -0.02 <= low <= at + 0.02
        assert at - 0.02 <= high <= 1.02


def test_skipped_images_are_listed_with_reasons(show, pages):
    page = show(pages["benchmark"])
    assert "2 images, 1 left out" in page.text("p.soft")
    assert page.text("main > h2:last-of-type") == "Left out"
    assert printable(HOSTILE) in page.text("main > ul li")


def test_benchmark_page_of_one_image_mentions_no_skipped_images(show, tmp_path):
    done = measured()
    alone = replace(done, images={0: done.images[0]}, skipped={})
    page = show(alone.save(tmp_path / "one.html"), 390)
    assert page.errors() == []
    assert "left out" not in page.text("main")
    assert page.text("p.soft").startswith("1 image. ")
