"""Captions of regions: which words are items, and the importance of regions for them, against the scenes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.alignment import region_importance
from saywhy.errors import InputError
from saywhy.toybox import scene
from saywhy.toybox.language import captions
from saywhy.toybox.recipes.caption_regions import (
    CaptionRegionData,
    caption_region_data,
    caption_vocabulary,
    noun_importance,
    on_objects,
)
from saywhy.toybox.scenes.proposals import proposals

SPLIT, SCENES = "talk-val", 3


@pytest.fixture(scope="module")
def data() -> CaptionRegionData:
    return caption_region_data(SPLIT, SCENES)


@pytest.mark.slow
def test_items_are_the_nouns_of_the_captions(data):
    known, wanted = caption_vocabulary(), []
    for i in range(SCENES):
        drawn = scene(SPLIT, i)
        assert data.texts[i] == [caption.text for caption in captions(drawn)]
        for which, caption in enumerate(captions(drawn)):
            assert known.decode(data.words[i, which].tolist()) == caption.text
            wanted += [(i, which, place) for place in caption.nouns(drawn)]
    assert [tuple(row) for row in data.nouns.tolist()] == wanted
    words = [known.words[number] for number in data.items.words.tolist()]
    assert words == [captions(scene(SPLIT, i))[which].words[place] for i, which, place in wanted]


@pytest.mark.slow
def test_importance_is_that_of_the_masks_in_loops(data):
    for row in range(0, len(data.nouns), 7):
        i, which, place = data.nouns[row].tolist()
        drawn = scene(SPLIT, i)
        mask = captions(drawn)[which].mask(drawn, place)
        boxes = proposals(drawn).tolist()
        wanted = [region_importance(mask, box) for box in boxes]
        np.testing.assert_allclose(data.importance[row], wanted, rtol=1e-5, atol=1e-7)
        named = [drawn.objects[k].box for k in captions(drawn)[which].objects[place]]
        for (left, top, right, bottom), found in zip(boxes, data.on_object[row].tolist(), strict=True):
            x, y = (left + right) / 2, (top + bottom) / 2
            assert found == any(a <= x < c and b <= y < d for a, b, c, d in named)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 200))
def test_boxes_are_important_where_masks_are(index):
    drawn = scene("biased-train", index, 64)
    placed = proposals(drawn)
    for thing in drawn.objects:
        masks, boxes = (noun_importance(drawn, [thing], placed, kind) for kind in ("mask", "box"))
        assert ((masks >= 0) & (masks <= 1)).all()
        assert (boxes[masks > 0] > 0).all()
        assert (boxes[on_objects([thing], placed)] > 0).all()
        left, top, right, bottom = thing.box
        inside = (placed >= [left, top, left, top]).all(1) & (placed <= [right, bottom, right, bottom]).all(1)
        assert (boxes[inside] > 0.5).all()  # filled boxes are denser inside than the rest of the image


def test_all_objects_of_a_plural_are_meant():
    drawn = next(one for one in (scene("talk-val", i, 64) for i in range(50)) if len(one.objects) > 1)
    placed = np.array([thing.box for thing in drawn.objects])
    both, first = (noun_importance(drawn, drawn.objects[:count], placed[:2]) for count in (2, 1))
    assert both[1] > first[1]
    assert on_objects(drawn.objects[:2], placed[:2]).all()


def test_unknown_annotation_raises():
    with pytest.raises(InputError, match="annotation"):
        caption_region_data(SPLIT, 1, annotation="stroke")


@pytest.mark.nightly
def test_a_pool_of_processes_draws_the_same():
    alone, pooled = (caption_region_data("biased-train", 3, processes=processes) for processes in (0, 2))
    for name, value in vars(alone).items():
        other = getattr(pooled, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
