"""What was painted: masks, and the agreement of maps with them."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

import saywhy
from saywhy.alignment.strokes import PaintedBox, PaintedImage, Stroke, draw, write_strokes
from saywhy.errors import InputError
from saywhy.metrics.human_attention import agreement_with_people
from saywhy.models import Preprocess

pytest.importorskip("fastapi")
from saywhy.studio.painted import agreement_of, mask_png, painted_image

PAINTED = PaintedImage("a.png", 64, 48, (PaintedBox((0, 0, 32, 48)), Stroke(((40, 20), (50, 30)), 4)))


def record(tmp_path: Any, *images: PaintedImage) -> Any:
    write_strokes(tmp_path / "hints.json", images)
    return json.loads((tmp_path / "hints.json").read_text())


def explained(crop: bool = False, side: int = 64) -> Any:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    preprocess = Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3)  # the whole image
    model = saywhy.load(
        network, labels=["a", "b", "c", "d"], **({"input_size": 32} if crop else {"preprocess": preprocess})
    )
    pixels = np.random.default_rng(0).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
    return saywhy.explain(model, Image.fromarray(pixels), ["a", "b"], ["gradcam", "hirescam"])


def test_a_mask_is_what_is_drawn():
    with Image.open(io.BytesIO(mask_png(PAINTED))) as found:
        assert found.mode == "L"
        assert np.array_equal(np.asarray(found) / 255, draw(PAINTED).numpy())


def test_agreement_is_the_rank_correlation_with_each_map():
    explanation = explained()
    found = agreement_of([explanation], PAINTED)
    assert [(one.method, one.target) for one in found] == [
        (method, target) for method in ("gradcam", "hirescam") for target in ("a", "b")
    ]
    for number, one in enumerate(found):
        shown = explanation.on_image(0, number % 2, method=one.method)
        seen = ~np.isnan(shown)
        assert seen.all(), "this model sees the whole image"
        expected = agreement_with_people([torch.from_numpy(shown)], [[draw(PAINTED)]]).mean
        assert one.rank_correlation == pytest.approx(expected)


def test_a_map_agrees_with_itself_painted_on_an_image_of_another_size():
    explanation = explained(side=256)
    shown = torch.from_numpy(explanation.on_image(0, 0, method="gradcam"))
    top = shown > shown.median()
    rows = [
        PaintedBox((2.0 * x, 2.0 * y, 2.0 * x + 2, 2.0 * y + 2)) for y, x in top.nonzero().tolist()
    ]  # the upper half of its values, pixel by pixel, painted on the image at twice its size
    found = agreement_of([explanation], PaintedImage("a.png", 512, 384, tuple(rows)))
    assert found[0].rank_correlation > 0.7
    inverse = (replace(one, matters=False) for one in rows)
    less = agreement_of([explanation], PaintedImage("a.png", 512, 384, tuple(inverse)))
    assert less[0].rank_correlation == pytest.approx(-found[0].rank_correlation, abs=1e-6)


def test_only_what_the_model_saw_is_compared():
    """The model sees the middle 48 columns of 64; what is painted outside does not count."""
    explanation = explained(crop=True)
    shown = torch.from_numpy(explanation.on_image(0, 0, method="gradcam"))
    columns = shown.isfinite().any(0).nonzero().flatten()
    assert 0 < len(columns) < 64
    left, right = int(columns[0]), int(columns[-1]) + 1
    inside = PaintedBox((left, 0, (left + right) / 2, 48))
    alone = agreement_of([explanation], PaintedImage("a.png", 64, 48, (inside,)))
    more = agreement_of([explanation], PaintedImage("a.png", 64, 48, (inside, PaintedBox((right, 0, 64, 48)))))
    assert [one.rank_correlation for one in alone] == pytest.approx([one.rank_correlation for one in more])
    mask = interpolate(draw(PaintedImage("a.png", 64, 48, (inside,)))[None, None], (48, 64))[0, 0]
    expected = agreement_with_people([shown[:, left:right]], [[mask[:, left:right]]]).mean
    assert alone[0].rank_correlation == pytest.approx(expected)


def test_what_cannot_be_compared_is_said(tmp_path: Any):
    with pytest.raises(InputError, match="neither nothing nor all"):
        agreement_of([explained()], PaintedImage("a.png", 64, 48, ()))
    with pytest.raises(InputError, match="other proportions"):
        agreement_of([explained()], PaintedImage("a.png", 48, 64, PAINTED.strokes[:1]))
    with pytest.raises(InputError, match="of one image, got those of 2"):
        painted_image(record(tmp_path, PAINTED, replace(PAINTED, file="b.png")))
    with pytest.raises(InputError, match="more than 30,000,000"):
        painted_image(record(tmp_path, replace(PAINTED, width=10_000, height=10_000)))
    with pytest.raises(InputError, match="'the body' must be an object with 'format'"):
        painted_image({"format": 1})
