"""Heat, legends, sheets, and the PNG file."""

import json
import os

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image

from saywhy.checks import Verdict
from saywhy.errors import InputError
from saywhy.view import overlay, save_image, sheet
from saywhy.view.colour import colour_table, colourise
from saywhy.view.legend import LegendText, font, legend, wrapped
from saywhy.view.overlay import heat_over
from saywhy.view.protocols import Notes
from saywhy.view.scale import Scale
from saywhy.view.sheet import caption

GREY = Image.new("RGB", (90, 60), (128, 128, 128))
RAMP = np.linspace(0, 1, 9)[None].repeat(6, 0)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


def test_colour_table_equals_matplotlib_and_is_read_only():
    table = colour_table("inferno")
    assert table.shape == (256, 3)
    assert table[-1].tolist() == [252, 255, 164]  # inferno ends in #fcffa4
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1


def test_colourise_clips():
    assert colourise(np.array([[-1.0, 0.5, 7.0]]), "gray")[0, :, 0].tolist() == [0, 128, 255]


def test_zero_map_leaves_the_image_unchanged():
    np.testing.assert_array_equal(pixels(heat_over(GREY, np.zeros((3, 3)))), pixels(GREY))


def test_opacity_grows_with_heat():
    change = np.abs(pixels(heat_over(GREY, RAMP)) - 128).sum(-1)[30]
    assert change[0] == 0
    assert change[-1] > change[45] > 0


def test_threshold_hides_what_is_below_it():
    out = pixels(heat_over(GREY, RAMP, threshold=0.5))
    assert (out[:, :40] == 128).all()
    assert (out[:, 60:] != 128).any()


def test_a_signed_map_has_two_colours_and_none_at_zero():
    out = pixels(heat_over(GREY, 2 * RAMP - 1))[30]
    assert out[0, 2] > out[0, 0]  # against: blue
    assert out[-1, 0] > out[-1, 2]  # for: red
    assert np.abs(out[45] - 128).max() <= 4


def test_pixels_outside_the_crop_box_are_hatched():
    out = pixels(heat_over(GREY, np.zeros((3, 3)), (30, 0, 60, 60)))
    assert (out[:, 30:60] == 128).all()
    assert (out[:, :30] != 128).all(-1).mean() > 0.95
    assert len(np.unique(out[:, :30], axis=None)) > 1


@pytest.mark.parametrize("odd", [np.full((2, 2), np.nan), np.ones((2, 2)), np.array([[np.inf, -np.inf]])])
def test_non_finite_and_flat_maps_are_drawn(odd):
    assert heat_over(GREY, odd, mark_peak=True, draw_box=True).size == (90, 60)


def test_peak_and_box_are_drawn():
    plain, marked = (pixels(heat_over(GREY, RAMP, mark_peak=m, draw_box=m)) for m in (False, True))
    assert (plain != marked).any()


def test_overlay_is_the_image_with_a_legend_below():
    out = overlay(
        Image.new("RGB", (400, 300)), RAMP, caption=LegendText("cat", 12.3, 0.5, "gradcam", "layer4", "x.png")
    )
    assert out.width == 400
    assert out.height > 300 + 5 * 13


@pytest.mark.parametrize("text", ["Egyptian cat " * 20, "unbreakable" * 40, "<b>&amp;\n\t</b>", "a", ""])
@pytest.mark.parametrize("width", [60, 320])
def test_wrapped_lines_fit_the_width_and_keep_every_letter(text, width):
    lines = wrapped(text, font(14), width)
    assert all(font(14).getlength(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("width", [320, 1500])
def test_legend_has_an_empty_margin(width):
    words = LegendText("W" * 300, -1.234e-15, 0.99999, "method" * 20, "layer." * 50, "p" * 200)
    edge = pixels(legend(words, Scale(-1.2345e-20, 1.2345e-20), width, unseen=True))
    assert (edge[:, [0, 1, -1, -2]] == 255).all()
    assert (edge[[0, 1, -1, -2]] == 255).all()


def test_sheet_begins_each_row_with_the_image(explanation):
    image = sheet(explanation, panel=320, columns=12)
    assert image.width == 16 + 13 * (320 + 16)
    corner = pixels(image)[16 : 16 + 40, 16 : 16 + 40]
    assert np.abs(corner - (240, 236, 226)).max() <= 1  # the plain image's paper


def test_sheet_wraps_long_rows(explanation):
    assert sheet(explanation, columns=4).width == 16 + 5 * 336
    assert sheet(explanation, columns=4).height > sheet(explanation, columns=12).height


@pytest.mark.slow
def test_saved_png_contains_provenance(explanation, tmp_path):
    path = save_image(explanation, tmp_path / "new" / "why.png")
    with Image.open(path) as image:
        image.load()
        note = json.loads(image.text["saywhy"])
    assert note == {"model": "toybox:classifier", "parameters": {"steps": 50}, "completeness_error": None}


def test_png_of_one_map_is_a_multiple_of_the_image_size(explained, tmp_path):
    single = explained({("gradcam", "layer4"): torch.rand(1, 1, 4, 4)}, ["mug"], ("mug.png",))
    with Image.open(save_image(single, tmp_path / "why.png")) as image:
        assert image.width == 3 * 120  # enlarged by a whole number, so that the words have room


def test_failed_save_keeps_the_old_file(explanation, tmp_path, monkeypatch):
    (tmp_path / "why.png").write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_image(explanation, tmp_path / "why.png")
    assert [path.name for path in tmp_path.iterdir()] == ["why.png"]
    assert (tmp_path / "why.png").read_bytes() == b"before"


def test_overlay_of_a_batch_raises():
    with pytest.raises((InputError, TypeCheckError)):  # the latter where shapes are checked at run time
        overlay(GREY, np.zeros((1, 3, 3)))


def test_scale_of_signed_maps_is_symmetric():
    scale = Scale.of(np.array([[0.0, 4.0]]), np.array([[-1.0, np.nan]]))
    assert (scale.low, scale.high, scale.signed) == (-4.0, 4.0, True)


def test_a_scale_of_extreme_values_does_not_overflow():
    scale = Scale.of(np.array([[-1.7e308, 1.7e308]]))
    assert scale.heat(np.array([[0.0, 1.7e308]])).tolist() == [[0.5, 1.0]]


def test_scale_clips_outliers_of_pixel_maps_only() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.standard_normal((80, 80))
    pixels[3, 4] = 1000.0
    scale = Scale.of(pixels)
    assert 2 < scale.high < 4
    assert scale.low == -scale.high
    cells = pixels[:20, :20]
    assert Scale.of(cells).high == 1000.0
    sparse = np.zeros((80, 80))
    sparse[7, 7] = 2.0
    assert Scale.of(sparse).high == 2.0


def test_a_png_says_whether_the_map_was_tested(explanation):
    found = caption(explanation, 0, 0, "gradcam", "layer3")
    assert found.diagnostics == ("bad: all against", "can it be trusted? not tested yet (saywhy check)")
    passed = Verdict.of({"stability": 0.91})
    notes = Notes(tested={("gradcam", "layer3"): [[passed] * 3] * 2})
    assert caption(explanation, 0, 0, "gradcam", "layer3", notes).diagnostics[-1] == (
        "can it be trusted? passed all checks (1 of 1)"
    )
