"""Objects missed and counted twice: matched boxes, occlusion, removal from the scene; influence of a counter."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError
from saywhy.models import Model, Preprocess
from saywhy.tasks.counting.detect import Detections
from saywhy.tasks.counting.found_objects import box_iou, drawn_boxes, match_boxes, object_effects
from saywhy.tasks.counting.influence import counter_influence, influence_matrix
from saywhy.tasks.counting.removal import removal_effect
from saywhy.toybox import scene
from saywhy.toybox.scenes.scene import scene_without
from saywhy.view.count import boxes_over, grid_over, matrix_image

BOX = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def iou(a, b) -> float:
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return common / (sum(areas) - common)


@given(st.lists(st.tuples(BOX, st.integers(0, 1)), max_size=6), st.lists(st.tuples(BOX, st.integers(0, 1)), max_size=5))
def test_matches_are_those_of_every_pair(found, objects):
    boxes = torch.tensor([list(map(float, box)) for box, _ in found]).reshape(-1, 4)
    labels = torch.tensor([label for _, label in found], dtype=torch.long)
    result = (
        match_boxes(Detections(boxes, torch.ones(len(found)), labels), *map(list, zip(*objects, strict=True)))
        if (objects)
        else match_boxes(Detections(boxes, torch.ones(len(found)), labels), [], [])
    )
    hits = [0] * len(objects)
    for (box, label), place in zip(found, result.assigned, strict=True):
        shares = [iou(box, other) if label == own else 0.0 for other, own in objects]
        if place < 0:
            assert max(shares, default=0) < 0.5
        else:
            assert shares[place] == max(shares) >= 0.5
            hits[place] += 1
    states = {0: "missed", 1: "counted"}
    assert [one.state for one in result.objects] == [states.get(hit, "twice") for hit in hits]
    assert [one.weight for one in result.objects] == hits
    assert len(result.extra) + sum(hits) == len(found)


def test_iou_of_empty_boxes_is_0():
    assert box_iou(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [[0.0]]
    with pytest.raises(InputError, match="a class for each of 1 boxes"):
        match_boxes(Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)), [(0, 0, 1, 1)], [])


class Bright(nn.Module):
    """Counts white pixels by the weight of the column half in which they are: left 1/16, right 2/16."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()
        weight = torch.cat([torch.full((8, 8), 1 / 16), torch.full((8, 8), 2 / 16)], 1)
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return (self.features(x)[:, 0] * self.weight).sum((1, 2)).unsqueeze(1)


def bright() -> Model:
    plain = Preprocess(None, None, (0, 0, 0), (1, 1, 1))
    return Model(Bright().eval(), "bright", plain, ("spot",), scale="value", layer="features")


def spots() -> Image.Image:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[0:4, 0:4] = pixels[4:8, 12:16] = 255
    return Image.fromarray(pixels)


def test_occlusion_tells_missed_counted_and_double_objects():
    boxes = [(0, 0, 4, 4), (12, 4, 16, 8), (5, 0, 8, 3)]
    found = object_effects(bright(), spots(), boxes, ["spot", 0, 0], batch_size=2)
    mean = 32 / 128
    expected = [1 - mean, 2 * (1 - mean), -mean * 9 / 16]
    assert [one.weight for one in found] == pytest.approx(expected, rel=1e-5)
    assert [one.state for one in found] == ["counted", "twice", "missed"]
    drawn = boxes_over(spots().resize((160, 80)), drawn_boxes(found, ["spot"].__getitem__, [(1, 1, 2, 2)]))
    assert drawn.size == (160, 80)
    assert object_effects(bright(), spots(), [], []) == ()
    with pytest.raises(InputError, match="holds no pixel that the network sees"):
        object_effects(bright(), spots(), [(20, 20, 30, 30)], ["spot"])
    with pytest.raises(InputError, match="has no class 'spit'"):
        object_effects(bright(), spots(), boxes, ["spit"] * 3)
    with pytest.raises(InputError, match="no class 4"):
        object_effects(bright(), spots(), boxes[:1], [4])
    with pytest.raises(InputError, match="states counted, missed, twice, extra"):
        boxes_over(spots(), [((0, 0, 1, 1), "lost", "")])


def test_boxes_lie_where_the_preprocessing_has_put_them():
    model = bright()
    model.preprocess = Preprocess((8, 16), None, (0, 0, 0), (1, 1, 1))
    large = spots().resize((160, 80), Image.Resampling.NEAREST)
    small = object_effects(bright(), spots(), [(0, 0, 4, 4)], [0])[0]
    assert object_effects(model, large, [(0, 0, 40, 40)], [0])[0].weight == pytest.approx(
        small.weight,
        rel=0.1,  # the resize blurs edges
    )


def test_the_effect_of_removing_an_object():
    image, without = spots(), np.asarray(spots()).copy()
    without[0:4, 0:4] = 0
    mask = np.zeros((8, 16), bool)
    mask[0:4, 0:4] = True
    found = removal_effect(bright(), image, Image.fromarray(without), "spot", mask, "gradcam", layer="features")
    assert (found.before, found.after) == (pytest.approx(3), pytest.approx(2))
    assert (found.decrease, found.state) == (pytest.approx(1), "counted")
    assert found.area == 1 / 8
    assert found.share_after == pytest.approx(0, abs=1e-6)
    assert found.share_before > 0.3
    with pytest.raises(InputError, match="expected a mask"):
        removal_effect(bright(), image, image, "spot", np.zeros((8, 16), bool), layer="features")


@pytest.mark.parametrize("index", [1, 4])
def test_a_scene_without_an_object_is_the_same_elsewhere(index):
    whole = scene("talk-test", index)
    for number, gone in enumerate(whole.objects):
        rest = scene_without("talk-test", index, number)
        kept = [one.kind for one in whole.objects]
        assert [one.kind for one in rest.objects] == kept[:number] + kept[number + 1 :]
        changed = (whole.image != rest.image).any(2)
        assert changed[gone.mask].mean() > 0.5
        left, top, right, bottom = gone.box
        far = np.ones_like(changed)
        far[max(0, top - 40) : bottom + 40, max(0, left - 40) : right + 40] = False  # its shadow lies near
        assert not changed[far].any()
    with pytest.raises(InputError, match="number must be"):
        scene_without("talk-test", index, 9)


def test_the_influence_matrix_of_a_counter_is_that_of_its_features():
    model, x = saywhy.load("toybox:counter", weights="random"), torch.rand(1, 3, 128, 128)
    found = counter_influence(model, x, "cat")
    features = model.module.features(x).detach()
    torch.testing.assert_close(found, influence_matrix(model.module.head, features, 0)[0])
    assert found.shape == (9, 9)
    assert matrix_image(found, "cat").width >= 320
    with pytest.raises(InputError, match="is that of a counter"):
        counter_influence(bright(), x, 0)
    with pytest.raises(InputError, match="expected one image, got 2"):
        counter_influence(model, torch.rand(2, 3, 128, 128), 0)
    with pytest.raises(InputError, match="influence matrix"):
        matrix_image(np.zeros((2, 3)))


def test_counts_are_written_into_large_cells_only():
    image = Image.new("RGB", (90, 90), (200, 100, 50))
    plain, written = (np.asarray(grid_over(image, np.ones((3, 3)), numbers=flag)) for flag in (False, True))
    assert (plain != written).any()
    tiny = [np.asarray(grid_over(image, np.ones((9, 9)), numbers=flag)) for flag in (False, True)]
    assert (tiny[0] == tiny[1]).all()
    assert np.asarray(grid_over(image, np.zeros((1, 1)), (10, 10, 80, 80))).shape == (90, 90, 3)
    for wrong in (np.ones(3), np.full((2, 2), math.nan), np.ones((0, 2))):
        with pytest.raises(InputError, match="expected finite counts"):
            grid_over(image, wrong)
