"""Figures for papers: PDF and SVG with text as text, and how maps are drawn: colour map, opacity, legend."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

import saywhy
from saywhy.errors import InputError
from saywhy.view.colour import cmap_for
from saywhy.view.figure import figure, save_figure
from saywhy.view.overlay import heat_over
from saywhy.view.payload import payload
from saywhy.view.scale import Scale
from saywhy.view.sheet import overlay_of, save_image, sheet

GREY = Image.new("RGB", (60, 40), (128, 128, 128))


@pytest.fixture
def single(explained: Any) -> Any:
    """One map of one image."""
    return explained({("gradcam", "layer4"): torch.rand(1, 1, 4, 4)}, ["mug"], ("mug.png",))


def titles(drawn: Any) -> list[str]:
    return [axes.get_title() for axes in drawn.axes if axes.get_title()]


# --- the figure --------------------------------------------------------------------------------------------------


def test_figure_has_a_panel_for_each_image_and_map(explanation: Any) -> None:
    found = titles(figure(explanation, columns=12))
    assert len(found) == 2 * (1 + 12)
    assert found[:2] == ["mug.png", "mug, 62.0 %\ngradcam at layer3"]


def test_a_bar_shows_the_ends_of_each_map(explanation: Any) -> None:
    drawn = figure(explanation, columns=12)
    bars = [axes for place in drawn.axes for axes in place.child_axes]
    assert len(bars) == 2 * 12
    first = Scale.of(explanation["gradcam", "layer3"][0, 0])
    assert [label.get_text() for label in bars[0].get_xticklabels()] == [f"{first.low:.3g}", f"{first.high:.3g}"]


def test_long_rows_are_continued(explanation: Any) -> None:
    short, long = figure(explanation, columns=4), figure(explanation, columns=12)
    assert short.get_size_inches()[0] < long.get_size_inches()[0]
    assert sorted(titles(short)) == sorted(titles(long))


def test_labels_are_not_read_as_mathematics(explained: Any, tmp_path: Path) -> None:
    shown = explained(targets=["$x", "a_b^c$", "\\frac{"], names=("x$y$.png",))
    text = save_figure(shown, tmp_path / "why.svg").read_text(encoding="utf-8")
    for word in ("$x", "a_b^c$", "\\frac{", "x$y$.png"):
        assert word in text


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_files_are_the_same_twice_and_hold_the_provenance(single: Any, tmp_path: Path, suffix: str) -> None:
    one, other = (save_figure(single, tmp_path / f"{name}{suffix}") for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert b"toybox:classifier" in one.read_bytes()


def test_text_of_a_pdf_is_in_truetype_fonts(single: Any, tmp_path: Path) -> None:
    written = save_figure(single, tmp_path / "why.pdf").read_bytes()
    assert b"/Type3" not in written
    assert b"/FontFile2" in written


# --- colour map, opacity, legend ---------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", ["viridis", "turbo_r", "gray"])
def test_full_heat_has_the_last_colour_of_the_colour_map(name: str, signed: bool) -> None:
    drawn = heat_over(GREY, np.array([[-1.0 if signed else 0.0, 1.0]]), cmap=name, alpha=1.0)
    expected = np.rint(255 * np.array(colormaps[name](1.0)[:3])).astype(int)
    assert tuple(expected) == drawn.getpixel((59, 20))


def test_zero_alpha_draws_nothing() -> None:
    assert heat_over(GREY, np.array([[0.0, 1.0]]), alpha=0.0).getcolors() == [(2400, (128, 128, 128))]


def test_sheet_and_figure_use_the_colour_map(single: Any) -> None:
    assert np.asarray(sheet(single)).tolist() != np.asarray(sheet(single, cmap="gray")).tolist()
    bar = figure(single, cmap="gray").axes[1].child_axes[0]
    assert bar.images[0].get_cmap().name == "gray"


def test_without_legend_the_image_keeps_its_size(single: Any, tmp_path: Path) -> None:
    assert overlay_of(single, legend=False).size == (120, 80)
    path = save_image(single, tmp_path / "why.jpg", legend=False)
    with Image.open(path) as image:
        assert (image.size, image.format) == ((120, 80), "JPEG")


def test_a_jpeg_holds_the_provenance_where_it_fits(explanation: Any, tmp_path: Path) -> None:
    with Image.open(save_image(explanation, tmp_path / "why.jpeg")) as image:
        assert json.loads(image.info["comment"])["model"] == "toybox:classifier"
    explanation.provenance["long"] = "x" * 70_000
    with Image.open(save_image(explanation, tmp_path / "long.jpg")) as image:
        assert "comment" not in image.info


def test_several_maps_need_legends(explanation: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"legend=False is for one map, and this explanation has 24\. .*overlay"):
        save_image(explanation, tmp_path / "why.png", legend=False)


def test_a_figure_has_its_titles(single: Any, tmp_path: Path) -> None:
    assert len(figure(single, legend=True).axes) == 2  # type: ignore[call-arg]
    for write in (lambda: figure(single, legend=False), lambda: save_figure(single, tmp_path / "a.pdf", legend=False)):  # type: ignore[call-arg]
        with pytest.raises(InputError, match=r"a figure always has its titles\. .*legend=False"):
            write()
    assert not list(tmp_path.iterdir())


def test_a_page_starts_with_the_settings(explanation: Any) -> None:
    plain = payload(explanation)
    given = payload(explanation, cmap="gray", alpha=0.5, threshold=0.1, mark_peak=False, draw_box=True)
    assert plain["look"] == {"named": False}
    assert given["look"] == {"named": True, "opacity": 0.5, "threshold": 0.1, "peak": False, "box": True}
    assert given["colours"]["sequential"] == given["colours"]["diverging"] != plain["colours"]["sequential"]


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"cmap": "turb"}, r"matplotlib colour map, e\.g\. 'viridis', got 'turb'\. Nearest: 'turbo'"),
        ({"cmap": 3}, "got 3"),
        ({"alpha": 2}, "alpha"),
        ({"opacity": 0.5}, "no parameter 'opacity'"),
        ({"treshold": 0.5}, "Nearest: 'threshold'"),
    ],
)
def test_wrong_settings_are_named(explanation: Any, tmp_path: Path, look: dict[str, Any], message: str) -> None:
    for write in (
        lambda: overlay_of(explanation, **look),
        lambda: save_image(explanation, tmp_path / "a.png", **look),
        lambda: save_figure(explanation, tmp_path / "a.pdf", **look),
        lambda: payload(explanation, **look),
    ):
        with pytest.raises(InputError, match=message):
            write()
    assert not list(tmp_path.iterdir())


def test_the_default_depends_on_the_sign() -> None:
    assert (cmap_for(False), cmap_for(True)) == ("inferno", "coolwarm")


# --- a real explanation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".html", ".png", ".jpg", ".jpeg", ".pdf", ".svg", ".npz", ".PNG"])
def test_every_format_of_the_message_is_written(tmp_path: Path, suffix: str) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    )
    found = saywhy.explain(network, torch.rand(1, 3, 8, 8), relu=False)
    assert found.save(tmp_path / f"why{suffix}").stat().st_size > 500
    with pytest.raises(InputError, match=re.escape(".html, .png, .jpg, .jpeg, .pdf, .svg, .npz")):
        found.save(tmp_path / "why.gif")
    with pytest.raises(InputError, match="raw values, which are not drawn: leave cmap out"):
        found.save(tmp_path / "why.npz", cmap="gray")
    assert len(found.figure(cmap="gray").axes) == 2
