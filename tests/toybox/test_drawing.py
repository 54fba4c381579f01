"""The drawings: every kind in every colour stays inside its extent and leaves a mask."""

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from saywhy.toybox import BACKGROUNDS, sheet
from saywhy.toybox.__main__ import main
from saywhy.toybox.scenes.backgrounds import background
from saywhy.toybox.scenes.colour import tone
from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.toybox.scenes.pen import Pen
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.stamp import Pose, stamp


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_drawing_stays_inside_its_extent(name: str) -> None:
    kind, scale = CATALOGUE[name], 50
    left, top, right, bottom = (round(edge * scale) + 100 for edge in kind.extent)
    for turn in range(6):
        paper = Image.new("RGBa", (200, 200))
        kind.draw(Pen(paper, scale, (100, 100)), tone((200, 100, 50)), SeededRandom(name, turn))
        box = paper.getchannel(3).getbbox()
        assert box is not None
        assert box[0] >= left - 4
        assert box[1] >= top - 4
        assert box[2] <= right + 4
        assert box[3] <= bottom + 4


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_stamp_changes_the_image_where_the_mask_is(name: str) -> None:
    kind = CATALOGUE[name]
    for colour in kind.colours:
        empty = np.full((3, 128, 128), 128, np.float32)
        image = empty.copy()
        mask, area = stamp(
            image, Pose(kind, colour, 0.5, 0.5, kind.unit * 0.4, 0.1, -1.0), (1, 1, 1), SeededRandom(colour)
        )
        changed = np.abs(image - empty).max(0) > 3
        assert mask.sum() == area > 400
        assert changed[mask].mean() > 0.9


def test_an_object_outside_the_image_leaves_no_mask() -> None:
    image = np.full((3, 64, 64), 128, np.float32)
    mask, area = stamp(image, Pose(CATALOGUE["cat"], "black", 3.0, 3.0, 0.2, 0, 1.0), (1, 1, 1), SeededRandom("far"))
    assert not mask.any()
    assert area > 0


def test_negative_width_mirrors_the_object() -> None:
    masks = []
    for wide in (1.0, -1.0):
        image = np.full((3, 128, 128), 128, np.float32)
        masks.append(
            stamp(image, Pose(CATALOGUE["dog"], "brown", 0.5, 0.5, 0.25, 0, wide), (1, 1, 1), SeededRandom("d"))[0]
        )
    shared = np.logical_and(masks[0], masks[1][:, ::-1]).sum() / masks[0].sum()
    plain = np.logical_and(masks[0], masks[1]).sum() / masks[0].sum()
    assert shared > 0.9 > plain


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_fills_the_image(name: str) -> None:
    for turn in range(5):
        image, horizon = background(name, SeededRandom(name, turn), 96)
        assert image.shape == (3, 96, 96)
        assert 0.3 < horizon < 0.65
        assert (image.max(0) > 12).mean() > 0.999  # no paper left unpainted, that is black


def test_contact_sheet_command_writes_an_image(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, [str(out), "--rows", "1", "--columns", "2", "--size", "64"])
    assert result.exit_code == 0, result.output
    with Image.open(out) as page:
        assert page.size == sheet("test", range(2), columns=2, size=64).size
    assert CliRunner().invoke(app, [str(out), "--split", "tst"]).exit_code == 2
