"""The viewer in a real browser, from a file, without a server."""

import base64
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from saywhy.checks import Verdict
from saywhy.uncertainty.report import RiskCoveragePoint, UncertaintyComponent, UncertaintyReport
from saywhy.view import notebook_html, on_image, save_html
from saywhy.view.flat import Flat, contact_sheet
from saywhy.view.gallery import save_gallery
from saywhy.view.overlay import heat_over
from saywhy.view.scale import Scale

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains  # only where selenium is
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from viewer_page import Page, visit

pytestmark = pytest.mark.browser

HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'


@pytest.fixture
def show(browser, tmp_path) -> Iterator[Callable[..., Page]]:
    def show(explanation: object, **options: str) -> Page:
        return visit(browser, save_html(explanation, tmp_path / "why.html", **options))

    yield show
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_words_of_a_sentence_are_buttons_above_the_image(show, explained):
    with_words = replace(
        explained(targets=["a red mug", "a", "red", "mug"], probabilities=False), word_targets=(1, 2, 3)
    )
    page = show(with_words)
    assert page.errors() == []
    assert page.texts(".targets .target .words span") == ["a red mug"]
    assert page.texts("figure .sentence .word-button") == ["a", "red", "mug"]
    sentence = page.canvas()
    page.click("red")
    assert page.text("figure .title") == "red"
    assert not np.array_equal(page.canvas(), sentence)
    assert page.run("return document.querySelector('.sentence').getBoundingClientRect().bottom") <= page.run(
        "return document.querySelector('figure canvas').getBoundingClientRect().top"
    )
    page.click("a red mug")
    assert np.array_equal(page.canvas(), sentence)


def test_word_targets_alone_hide_the_target_list(show, explained):
    page = show(replace(explained(targets=["is", "there", "mug"]), word_targets=(0, 1, 2)))
    assert page.texts("figure .sentence .word-button") == ["is", "there", "mug"]
    assert page.shown(".targets") == []
    assert page.text("figure .title") == "is"
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    inside = "const box = (e) => e.getBoundingClientRect(); const [a, b] = ['.picker', '.picker .selects'];"
    inside += "return box(document.querySelector(b)).right <= box(document.querySelector(a)).right"
    assert page.run(inside)


def test_opens_from_a_file_without_an_error(show, explanation):
    page = show(explanation)
    assert page.errors() == []
    assert page.text("h1") == "2 images"
    assert page.canvas().shape == (480, 720, 3)  # 120 x 80, enlarged six times
    assert page.canvas().std() > 5


@pytest.mark.parametrize(
    ("change", "diagnostics"),
    [
        (lambda page: page.click("key 21.0"), "gradcam key proved"),
        (lambda page: page.choose("Method", "signed"), "signed mug proved"),
        (lambda page: page.choose("Layer", "layer4"), "gradcam mug proved"),
        (lambda page: page.click("key.png"), "gradcam mug proved"),
    ],
    ids=["target", "method", "layer", "image"],
)
def test_a_choice_changes_the_map_and_the_diagnostics_and_is_announced(show, explanation, change, diagnostics):
    page = show(explanation)
    before = page.canvas()
    assert "gradcam mug proved" in page.text(".diagnostics")
    change(page)
    WebDriverWait(page.browser, 5).until(lambda _: page.text("[role=status]").startswith("Showing "))
    assert (page.canvas() != before).any()
    assert diagnostics in page.text(".diagnostics")
    assert page.errors() == []


def test_technical_checks_are_plain_lines_with_a_sign_only_where_something_is_wrong(show, explanation):
    page = show(explanation)
    assert page.texts(".diagnostics h2") == ["Technical checks"]
    assert page.texts(".diagnostics li") == ["Layout\ngradcam mug proved", "✕\nSign bad\nall against"]
    assert "good" not in page.text(".diagnostics")


def test_the_trust_question_is_open_until_the_map_is_tested(show, explanation):
    explanation.provenance["model"] = "torchvision:resnet18"
    page = show(explanation)
    assert page.texts(".trust") == [
        "Can this map be trusted?\nNot tested yet. Run:\n"
        "saywhy check mug.png --model torchvision:resnet18 --target mug --method gradcam"
    ]
    assert page.shown(".trust .sign, .good") == []


def test_the_trust_question_is_answered_by_the_verdict(show, explanation):
    shape = range(len(explanation.images)), range(3)
    passed, failed = (Verdict.of({"stability": value, "completeness": None}) for value in (0.91, 0.31))
    tested = {key: [[passed if t == 0 else failed for t in shape[1]] for _ in shape[0]] for key in explanation.maps}
    page = show(replace(explanation, tested=tested))
    assert page.texts(".trust p") == ["Passed all checks (1 of 1)."]
    assert page.texts(".trust li")[0].startswith("✓\nstability passed")
    assert page.texts(".trust li")[1].startswith("completeness not applicable")
    page.click("key 21.0")
    assert page.texts(".trust p") == ["Failed 1 of 1 checks."]
    assert "a little noise changes the map" in page.text(".trust li.bad")
    assert page.errors() == []


def test_opacity_and_threshold_change_the_heat(show, explanation):
    page = show(explanation)
    page.click("Mark the peak")
    full = page.canvas()
    page.slide("Opacity", 30)
    paler = page.canvas()
    page.slide("Opacity", 0)
    bare = page.canvas()
    assert np.abs(full - bare).sum() > np.abs(paler - bare).sum() > 0
    page.slide("Opacity", 75)
    page.slide("Hide heat below", 60)
    cut = page.canvas()
    assert (cut == bare).all(-1).sum() > (full == bare).all(-1).sum()
    assert (cut != bare).any()


def test_heat_equals_the_python_overlay(show, explanation):
    page = show(explanation)
    page.click("Mark the peak")
    source = explanation.images[0]
    expected = np.asarray(heat_over(source.image, explanation["gradcam", "layer3"][0, 0], source.crop_box), int)
    middle = page.canvas()[3::6, 3::6]  # the middles of the enlarged pixels
    inside = (slice(2, -2), slice(23, 97))
    assert np.abs(middle[inside] - expected[inside]).mean() < 4


@pytest.mark.parametrize("pixel", [(20, 0), (60, 40), (99, 79), (33, 71)])
@pytest.mark.parametrize("method", ["gradcam", "signed"])
def test_the_value_under_the_pointer_equals_the_value_in_python(show, explanation, method, pixel):
    page = show(explanation)
    page.choose("Method", method)
    page.choose("Layer", "layer4")
    page.point(*pixel, (120, 80))
    x, y, value = page.reading()
    assert (x, y) == pixel
    full = on_image(explanation[method, "layer4"][0, 0], (20.0, 0.0, 100.0, 80.0), (120, 80))
    assert value == pytest.approx(float(full[y, x]), abs=1e-4)


def test_pixels_outside_the_crop_box_have_no_value(show, explanation):
    page = show(explanation)
    page.point(5, 40, (120, 80))
    assert page.reading()[2] is None
    assert page.text(".reading") == "x 5, y 40: not seen by the network"
    assert page.text(".hatched") == "not seen by the network"


def test_values_are_read_by_keyboard_and_announced(show, explanation):
    page = show(explanation)
    page.focus()
    page.keys(Keys.ARROW_RIGHT)
    assert page.reading()[:2] == (60, 40)
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page.reading()[:2] == (62, 42)
    ActionChains(page.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT).key_up(Keys.SHIFT).perform()
    x, y, value = page.reading()
    assert (x, y) == (61, 42)
    full = on_image(explanation["gradcam", "layer3"][0, 0], (20.0, 0.0, 100.0, 80.0), (120, 80))
    assert value == pytest.approx(float(full[y, x]), abs=1e-4)
    assert page.text("[role=status]").startswith("x 61, y 42: ")
    page.keys(Keys.HOME)
    assert page.reading()[2] == pytest.approx(float(np.nanmax(full)), rel=0.1)
    page.keys(Keys.ESCAPE)
    assert page.text(".reading") == ""


def test_targets_are_chosen_by_keyboard_and_keep_the_focus(show, explanation):
    page = show(explanation)
    page.run("document.querySelector('.target input').focus()")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "gradcam clock proved" in page.text(".diagnostics")
    assert page.run("return document.activeElement.checked") is True


def test_comparison_shows_two_maps_and_their_difference(show, explanation):
    page = show(explanation)
    page.click("Compare two maps")
    page.click("Show the difference")
    assert (page.canvas(0) != page.canvas(1)).any()
    page.point(70, 30, (120, 80), number=1)
    values = [page.reading(number)[2] for number in range(3)]
    maps = explanation["gradcam", "layer3"][0]
    fields = [on_image(maps[t], (20.0, 0.0, 100.0, 80.0), (120, 80)) for t in (0, 1)]
    assert values[:2] == pytest.approx([float(full[30, 70]) for full in fields], abs=1e-4)
    levels = [float(Scale.of(maps[t]).heat(full)[30, 70]) for t, full in enumerate(fields)]
    assert values[2] == pytest.approx(levels[1] - levels[0], abs=1e-4)
    assert page.texts(".trust h2") == ["Can A be trusted?", "Can B be trusted?"]
    assert page.texts(".diagnostics h2") == ["Technical checks of A", "Technical checks of B"]
    page.click("Compare two maps")
    assert len(page.shown("figure")) == 1


def test_shared_scale_applies_to_all_targets(show, explained):
    maps = torch.ones(1, 2, 4, 4)
    maps[0, 0, 1, 1], maps[0, 1, 1, 1] = 2.0, 9.0
    page = show(explained({("gradcam", "x"): maps}, ["mug", "key"], ("mug.png",)))
    assert page.text(".legend") == "low 12 high"
    page.click("shared by all targets")
    assert page.text(".legend") == "low 19 high"


def test_the_peak_and_the_box_are_drawn(show, explanation):
    page = show(explanation)
    with_peak = page.canvas()
    page.click("Mark the peak")
    without = page.canvas()
    page.click("Draw the box")
    assert (with_peak != without).any()
    assert (page.canvas() != without).any()


def test_grey_option_removes_the_image_colours(show, explanation):
    page = show(explanation)
    page.slide("Opacity", 0)
    page.click("Mark the peak")
    page.click("Image in grey")
    crop_box = page.canvas()[:, 130:590]
    assert np.ptp(crop_box, axis=-1).max() <= 1


def test_hostile_labels_are_not_executed(show, explained):
    e = explained(None, [HOSTILE, "b", "c"], (HOSTILE, "key.png"))
    e.provenance = {HOSTILE: HOSTILE}
    page = show(e, title=HOSTILE)
    page.click("Compare two maps")
    page.click("b 21.0")
    assert page.text("h1") == HOSTILE
    assert HOSTILE in page.text(".target")
    assert page.run("return window.hacked ?? null") is None
    assert page.run("return document.querySelectorAll('img').length") == 2  # the thumbnails
    assert page.errors() == []


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("compare", [False, True])
def test_no_width_scrolls_sideways(show, explained, width, compare):
    long = explained(None, ["a_label_" * 30, "b", "c"], ("a_name_" * 30, "key.png"))
    page = show(long, title="title" * 60)
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    if compare:
        page.click("Compare two maps")
        page.click("Show the difference")
    root = "document.documentElement"
    assert page.run(f"return [innerWidth, {root}.scrollWidth - {root}.clientWidth]") == [width, 0]
    find = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.scrollWidth > e.clientWidth + 1)"
    cut = [e for e in page.run(find, ".target, h1, .title, .diagnostics li, .trust pre") if e.is_displayed()]
    assert [element.text for element in cut] == []


def test_every_control_has_a_name_and_can_be_reached(show, explanation):
    page = show(explanation)
    page.click("Compare two maps")
    shown = page.shown("input, select, button, canvas[tabindex], summary, fieldset")
    assert len(shown) > 20
    nameless = [control.get_attribute("outerHTML") for control in shown if not control.accessible_name.strip()]
    assert nameless == []
    assert page.run("return document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_colours_meet_the_wcag_contrast(show, explanation, scheme):
    page = show(explanation)
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    names = ("ink", "soft", "accent", "good", "warning", "bad", "paper", "sheet", "accent-tint")
    style = "const style = getComputedStyle(document.querySelector('.saywhy'));"
    read = f"{style} return arguments[0].map((name) => style.getPropertyValue('--' + name).trim())"
    colours = dict(zip(names, page.run(read, list(names)), strict=True))
    grounds = {"ink": ("paper", "sheet", "accent-tint"), "accent": ("sheet", "accent-tint")}
    for name in names[:6]:
        for ground in grounds.get(name, ("paper", "sheet")):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two hex colours (WCAG 2, 1.4.3)."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (0.0, "same value everywhere: 0"),
        (3.5, "same value everywhere: 3.5"),
        (-2.0, "No evidence for this target"),
    ],
    ids=["nan", "infinite", "zero", "constant", "against"],
)
def test_non_finite_and_flat_maps_are_shown_and_labelled(show, explained, values, words):
    page = show(explained({("gradcam", "x"): torch.full((1, 2, 3, 3), values)}, ["mug", "key"], ("mug.png",)))
    assert words in page.text("figcaption")
    page.focus()
    page.keys(Keys.ARROW_RIGHT, Keys.HOME)
    page.click("Compare two maps")
    page.click("Show the difference")
    assert page.errors() == []
    assert page.canvas().std() > 5


def test_pixel_map_values_are_read_without_interpolation(show, explained):
    values = torch.randn(1, 1, 80, 120)
    e = explained({("guided-backprop", "input"): values}, ["mug"], ("mug.png",), probabilities=False)
    e.images = (type(e.images[0])("mug.png", e.images[0].image, (0.0, 0.0, 120.0, 80.0)),)
    page = show(e)
    page.point(17, 50, (120, 80))
    assert page.reading()[2] == pytest.approx(float(values[0, 0, 50, 17]), abs=1e-4)
    assert "probability" not in page.text("figcaption")


def test_provenance_can_be_opened(show, explanation):
    page = show(explanation)
    page.click("How these maps were made")
    assert "toybox:classifier" in page.text(".provenance table")
    assert json.loads(page.text("#saywhy-provenance"))["parameters"] == {"steps": 50}


def test_the_view_is_saved_with_its_provenance(show, explanation):
    page = show(explanation)
    page.click("Compare two maps")
    page.run(
        """window.saved = null;
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
          const reader = new FileReader();
          reader.onload = () => { window.saved = reader.result; };
          reader.readAsDataURL(blob);
          return make.call(URL, blob);
        };"""
    )
    page.click("Download as PNG")
    address = WebDriverWait(page.browser, 10).until(lambda b: b.execute_script("return window.saved"))
    with Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        image.load()
        assert image.width > 2 * 720
        assert json.loads(image.text["saywhy"])["model"] == "toybox:classifier"


def test_viewer_works_in_a_notebook_iframe(browser, explanation, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>n</title>{notebook_html(explanation)}", encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    page = Page(browser)
    WebDriverWait(browser, 10).until(lambda _: page.run("return document.querySelector('figure canvas')?.width > 300"))
    assert "gradcam mug proved" in page.text(".diagnostics")
    assert page.errors() == []
    browser.switch_to.default_content()


def test_a_map_of_pixels_has_the_scale_that_the_png_has(show, explained):
    pixels = torch.randn(1, 1, 80, 80, generator=torch.Generator().manual_seed(0))
    pixels[0, 0, 3, 4] = 1000.0
    page = show(explained(targets=["mug"], names=("a.png",), maps={("saliency", "input"): pixels}))
    low, high = page.run("return [...document.querySelectorAll('.legend span')].map((s) => s.textContent)")[:2]
    assert float(high.split()[0]) == pytest.approx(Scale.of(pixels[0, 0]).high, rel=1e-2)
    assert low.split()[1].replace("−", "-").startswith("-")


@pytest.mark.parametrize(
    ("low", "shows", "words"),
    [
        (-1.0, "evidence", "Red: evidence for. Blue: evidence against."),
        (-1.0, "sensitivity", "Red: a higher value here raises the score."),
        (0.0, "sensitivity", "Bright: the score reacts strongly to a change here."),
        (-1.0, "activity", "independent of the target"),
    ],
)
def test_caption_states_the_meaning_of_the_colours(show, explained, low, shows, words):
    e = explained({("some", "x"): torch.linspace(low, 1, 9).reshape(1, 1, 3, 3)}, ["mug"], ("mug.png",))
    e.shows = {"some": shows}
    assert words in show(e).text("figcaption")


def test_a_volume_is_read_in_voxels_on_every_slice(show):
    values = torch.arange(4.0 * 3 * 2).reshape(1, 1, 4, 3, 2)
    drawing = contact_sheet(np.random.default_rng(0).random((1, 4, 30, 20)))
    classes, scores, maps = torch.zeros(1, 1).int(), torch.ones(1, 1), {("m", "x"): values}
    e = Flat(["m"], ["x"], [["mug"]], classes, scores, "logit", None, (drawing,), {}, {}, {}, maps)
    page = show(e)
    size, full = drawing.image.size, on_image(values[0, 0], drawing.crop_box, drawing.image.size)
    assert page.errors() == []
    for z, (left, top, right, bottom) in enumerate(drawing.crop_box):
        page.point(left + (right - left) // 4, top + (bottom - top) // 2, size)
        x, y, value = page.reading()
        assert value == pytest.approx(float(full[y, x]), abs=1e-3)
        voxel = int((x + 0.5 - left) / (right - left) * 20), int((y + 0.5 - top) / (bottom - top) * 30)
        assert page.text(".reading").startswith(f"x {voxel[0]}, y {voxel[1]}, z {z}: ")
    page.point(2, 2, size)
    assert page.reading()[2] is None
    assert "outside of the input" in page.text(".reading")
    assert "not seen" not in page.text(".reading")
    page.click("Mark the peak")
    page.slide("Opacity", 100)
    inside = np.isfinite(np.asarray(full))
    expected = np.asarray(heat_over(drawing.image, values[0, 0], drawing.crop_box, alpha=1.0), int)
    canvas = page.canvas()[::2, ::2]  # enlarged twice
    assert np.abs(canvas - expected)[inside].mean() < 8
    assert np.abs(canvas - expected)[~inside].mean() < 4


def test_the_uncertainty_report_is_shown_beside_the_maps(browser, explained, tmp_path):
    bars = UncertaintyComponent("total", 1.25, "nats", 0.98), UncertaintyComponent("epistemic", 0.02, "nats", None)
    risk = RiskCoveragePoint(tuple(i / 200 for i in range(100)), 80, "a test")
    report = UncertaintyReport("mug", 0.36, bars, True, "It should abstain.", 50, risk)
    of = [("mug.png", report), ("key.png", replace(report, abstains=None, text="?", risk=None))]
    results = [replace(explained(names=(name,)), uncertainty=one) for name, one in of]
    page = visit(browser, save_gallery(results, tmp_path / "two.html", "two images"))
    assert page.text(".certainty h2") == "How uncertain is it?"
    assert "mug, 36 %, 50 Monte Carlo samples" in page.text(".certainty")
    assert "higher than in 98 % of a test" in page.text(".certainty")
    assert len(page.texts(".certainty meter")) == 1  # only for measured shares
    assert page.texts(".certainty .bad") == ["✕\nIt should abstain."]
    assert "80 % of a test" in page.run("return document.querySelector('.curve').getAttribute('aria-label')")
    assert page.run("return document.querySelector('.curve polyline').points.numberOfItems") == 100
    at, edge = (
        page.run("return document.querySelector(arguments[0]).getBoundingClientRect().x", f".curve {part}")
        for part in ("circle", ".axis")
    )
    assert at > edge
    page.click("key.png")
    assert page.texts(".certainty .bad") == []
    assert page.shown(".curve") == []
    assert page.errors() == []


def test_without_an_uncertainty_report_the_panel_is_hidden(show, explanation):
    assert show(explanation).shown(".certainty") == []


@pytest.fixture
def captions(explained):
    """Three captions of every image; the distances of their maps are 0.25 and 1.5."""
    found = explained(targets=["a red mug", "a mug and a key", "a key"], probabilities=False)
    return replace(found, side_by_side=True, map_distances={("gradcam", "layer3"): torch.tensor([[0.25], [1.5]])})


def test_captions_are_shown_side_by_side_and_are_buttons(show, captions):
    page = show(captions)
    assert page.texts(".small-map") == ["a red mug", "a mug and a key", "a key"]
    pixels = "return [...document.querySelectorAll('.small-map canvas')].map((c) => c.toDataURL())"
    small = page.run(pixels)
    assert len(set(small)) == 3
    before = page.canvas()
    page.run("document.querySelectorAll('.small-map input')[2].click()")
    assert page.text("figure .title") == "a key"
    assert not np.array_equal(page.canvas(), before)
    assert page.run(pixels) == small
    page.click("Mark the peak")
    assert not set(page.run(pixels)) & set(small)
    assert page.errors() == []


def test_the_sheet_follows_image_method_and_layer(show, captions):
    page = show(captions)
    assert "distance between these maps: 0.25 " in page.text(".sheet")
    pixels = "return document.querySelector('.small-map canvas').toDataURL()"
    first = page.run(pixels)
    page.click("key.png")
    WebDriverWait(page.browser, 5).until(lambda _: "distance between these maps: 1.5 " in page.text(".sheet"))
    second = page.run(pixels)
    assert second != first
    page.choose("Method", "signed")
    assert page.run(pixels) not in (first, second)
    assert "distance between" not in page.text(".sheet")  # it was not measured there


def test_targets_are_put_side_by_side_when_asked(show, explained):
    page = show(explained())
    assert page.shown(".sheet") == []
    page.click("All targets, side by side")
    assert page.texts(".small-map") == ["mug", "key", "clock"]
    page.click("All targets, side by side")
    assert page.shown(".sheet") == []
    alone = show(explained(targets=["mug"]))
    assert "All targets, side by side" not in [box.accessible_name for box in alone.shown(".toolbar input")]


def test_the_sheet_fits_a_narrow_screen_and_is_operated_by_keys(show, captions):
    page = show(captions)
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert len({box["x"] for box in (cell.rect for cell in page.shown(".small-map"))}) == 2  # two in a row
    page.run("document.querySelector('.small-map input:checked').focus()")
    ActionChains(page.browser).send_keys(Keys.ARROW_RIGHT).perform()
    assert page.text("figure .title") == "a mug and a key"
    assert page.run("return document.activeElement.getAttribute('aria-label')").startswith("a mug and a key")


# --- above the map, and how it was made -----------------------------------------------------------------------------


def test_what_is_switched_on_scrolls_into_view(show, explanation):
    page = show(explanation)
    size = {"width": 420, "height": 500, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.click("Compare two maps")
    inside = "const box = document.querySelectorAll('figure')[1].getBoundingClientRect(); return [box.top, innerHeight]"
    WebDriverWait(page.browser, 5).until(lambda _: page.run(inside)[0] < page.run(inside)[1])


def test_one_map_has_nothing_to_switch_on(show, explained):
    single = show(explained({("gradcam", "layer4"): torch.rand(1, 1, 4, 4)}, ["mug"], ("mug.png",)))
    assert single.shown(".toolbar") == []


def test_provenance_of_several_explanations_says_once_what_they_share(show, explained, tmp_path, browser):
    several = [explained(names=(name,)) for name in ("a.png", "b.png")]
    for seed, one in enumerate(several):
        one.provenance = {
            "model": "mine",
            "images": [one.images[0].name],
            "seed": seed,
            "methods": {"cam": {"relu": True}},
        }
    page = visit(browser, save_gallery(several, tmp_path / "many.html", "2 images"))
    page.click("How these maps were made")
    rows = page.texts(".provenance tr")
    assert rows == ["model mine", "methods: cam relu yes", "a.png seed: 0", "b.png seed: 1"]
