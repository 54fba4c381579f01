"""Region proposals: reproducible, inside the picture, around every object, and in an order that tells nothing."""

import numpy as np
import pytest

from oracles.regions import iou
from saywhy.errors import InputError
from saywhy.toybox import Scene, scene
from saywhy.toybox.scenes.proposals import COUNT, FEWEST, LEAST, MOST, proposals

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene("priors-val", index) for index in range(60)]


def best(drawn: Scene, boxes: np.ndarray) -> np.ndarray:
    """The highest overlap of every proposal with an object."""
    return np.array([max(iou(box, thing.box) for thing in drawn.objects) for box in boxes.tolist()])


@pytest.mark.parametrize("count", [FEWEST, COUNT, MOST])
def test_boxes_lie_in_the_picture_and_are_reproducible(scenes, count):
    for drawn in scenes[:10]:
        boxes = proposals(drawn, count)
        assert boxes.shape == (count, 4)
        assert boxes.dtype.kind == "i"
        left, top, right, bottom = boxes.T
        assert left.min() >= 0
        assert top.min() >= 0
        assert max(right.max(), bottom.max()) <= 128
        assert min((right - left).min(), (bottom - top).min()) >= LEAST * 128
        assert np.array_equal(boxes, proposals(scene(drawn.split, drawn.index), count))


@pytest.mark.parametrize("count", [FEWEST, COUNT, MOST])
def test_every_object_has_a_proposal(scenes, count):
    for drawn in scenes:
        boxes = proposals(drawn, count).tolist()
        for thing in drawn.objects:
            if min(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]) > 10:  # else the rounding is a tenth
                assert max(iou(box, thing.box) for box in boxes) >= 0.55


def test_there_are_parts_and_distractors(scenes):
    overlaps = np.concatenate([best(drawn, proposals(drawn)) for drawn in scenes])
    assert 0.2 < np.mean(overlaps > 0.55) < 0.5
    assert np.mean(overlaps < 0.2) > 0.15


def test_neither_place_nor_size_tells_which_boxes_are_of_objects(scenes):
    places, sizes = [], []
    for drawn in scenes:
        boxes = proposals(drawn)
        of_objects = best(drawn, boxes) > 0.55
        places += np.flatnonzero(of_objects).tolist()
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        sizes.append((area[of_objects].mean(), area[~of_objects].mean()))
    error = (COUNT**2 / 12 / len(places)) ** 0.5
    assert abs(np.mean(places) - (COUNT - 1) / 2) < 4 * error
    assert len(set(places)) == COUNT


def test_other_scenes_and_splits_have_other_proposals(scenes):
    assert not np.array_equal(proposals(scenes[0]), proposals(scenes[1]))
    assert not np.array_equal(proposals(scenes[0]), proposals(scene("priors-test", 0)))


@pytest.mark.parametrize("count", [FEWEST - 1, MOST + 1, 20.5, "many"])
def test_other_counts_are_refused(scenes, count):
    with pytest.raises(InputError, match="count must be a whole number from 16 to 36, got"):
        proposals(scenes[0], count)
