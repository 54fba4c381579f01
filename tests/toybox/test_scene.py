"""Scenes: deterministic, and their ground truth agrees with their pictures."""

import inspect
import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from saywhy.errors import InputError
from saywhy.toybox import BACKGROUNDS, COLOURS, KINDS, SPLITS, UNSEEN_KINDS, Scene, SceneObject, ToyboxScenes, scene
from saywhy.toybox.scenes.scene import LEAST_AREA, LEAST_VISIBLE


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene(split, index) for split in SPLITS for index in range(30)]


@pytest.fixture(scope="module")
def objects(scenes: list[Scene]) -> list[SceneObject]:
    return [thing for drawn in scenes for thing in drawn.objects]


def digest(drawn: Scene) -> str:
    """Return a digest of a scene's picture and ground truth."""
    whole = sha256(drawn.image.tobytes())
    for thing in drawn.objects:
        whole.update(thing.mask.tobytes())
        whole.update(repr((thing.kind, thing.colour, thing.box, thing.depth, thing.visible)).encode())
    return whole.hexdigest()


def test_a_scene_drawn_twice_is_the_same() -> None:
    assert digest(scene("train", 5)) == digest(scene("train", 5))


@pytest.mark.slow
def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "from hashlib import sha256\nfrom saywhy.toybox import Scene, scene\n"
        + inspect.getsource(digest)
        + "print(digest(scene('val', 3)), digest(scene('val', 1)))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": paths},
    )
    assert result.stdout.split() == [digest(scene("val", 3)), digest(scene("val", 1))]


def test_neither_splits_nor_indices_share_scenes() -> None:
    assert len({digest(scene(split, index)) for split in SPLITS for index in range(4)}) == 4 * len(SPLITS)


def test_the_global_generators_are_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy generator is what is looked at
    scene("train", 0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.slow
def test_images_are_rgb_bytes(scenes: list[Scene]) -> None:
    for drawn in scenes:
        assert drawn.image.shape == (128, 128, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.image.flags.c_contiguous
        assert drawn.image.std() > 10


def test_backgrounds_kinds_and_colours_are_the_listed_ones(scenes: list[Scene], objects: list[SceneObject]) -> None:
    assert {drawn.background for drawn in scenes} == set(BACKGROUNDS)
    assert {thing.kind for thing in objects} == {*KINDS, *UNSEEN_KINDS}
    assert {thing.colour for thing in objects} == set(COLOURS)


def test_scenes_have_one_to_four_objects_nearest_first(scenes: list[Scene]) -> None:
    assert {len(drawn.objects) for drawn in scenes} == {1, 2, 3, 4}
    for drawn in scenes:
        assert [thing.depth for thing in drawn.objects] == list(range(len(drawn.objects)))


def test_visible_masks_do_not_overlap(scenes: list[Scene]) -> None:
    for drawn in scenes:
        assert sum(thing.mask.astype(int) for thing in drawn.objects).max() == 1


def test_boxes_are_tight(objects: list[SceneObject]) -> None:
    for thing in objects:
        left, top, right, bottom = thing.box
        rows, columns = np.nonzero(thing.mask)
        assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_area_centre_and_visibility_agree_with_the_mask(objects: list[SceneObject]) -> None:
    for thing in objects:
        assert thing.area == thing.mask.sum()
        left, top, right, bottom = thing.box
        assert left <= thing.centre[0] <= right
        assert top <= thing.centre[1] <= bottom
        assert LEAST_VISIBLE <= thing.visible <= 1


def test_objects_have_the_least_visible_area(objects: list[SceneObject]) -> None:
    assert min(thing.area for thing in objects) >= LEAST_AREA * 128 * 128
    assert any(thing.visible < 0.9 for thing in objects)  # but objects do hide one another


def test_labels_are_the_visible_kinds(scenes: list[Scene]) -> None:
    for drawn in scenes:
        named = {kind for kind, label in zip(KINDS, drawn.labels, strict=True) if label}
        assert named == {thing.kind for thing in drawn.objects} - set(UNSEEN_KINDS)


@pytest.mark.slow
def test_a_mask_covers_what_is_drawn() -> None:
    """The mean colour under a mask is near the named one for objects of a single colour."""
    for index in range(200):
        for thing in (drawn := scene("train", index)).objects:
            if thing.kind == "apple" and drawn.background not in ("night",):
                inside = np.median(drawn.image[thing.mask], axis=0)
                assert np.abs(inside - COLOURS[thing.colour]).max() < 50


def test_another_size_is_the_same_scene_larger() -> None:
    small, large = scene("test", 3, size=64), scene("test", 3, size=192)
    assert large.image.shape == (192, 192, 3)
    assert [thing.kind for thing in small.objects] == [thing.kind for thing in large.objects]
    for one, other in zip(small.objects, large.objects, strict=True):
        assert np.abs(3 * np.array(one.box) - other.box).max() <= 9


@pytest.mark.parametrize(
    ("split", "index", "size", "message"),
    [
        ("tets", 0, 128, "Did you mean 'test'"),
        ("biased_train", 0, 128, "Did you mean 'biased-train'"),
        ("test", -1, 128, "index must be a whole number of at least 0, got -1"),
        ("test", 1.5, 128, "index must be a whole number of at least 0, got 1.5"),
        ("test", True, 128, "index must be a whole number of at least 0, got True"),
        ("test", 0, 8, "size must be a whole number of at least 32, got 8"),
    ],
)
def test_invalid_arguments_raise(split: str, index: int, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scene(split, index, size)


def test_dataset_gives_images_and_labels() -> None:
    data = ToyboxScenes("val", count=6, size=64)
    image, labels = data[5]
    drawn = scene("val", 5, size=64)
    assert len(data) == len(list(data)) == 6
    np.testing.assert_array_equal((image * 255).round().numpy(), drawn.image.transpose(2, 0, 1))
    np.testing.assert_array_equal(labels.numpy(), drawn.labels)


def test_dataset_with_invalid_arguments_raises() -> None:
    with pytest.raises(InputError, match="count must be a whole number of at least 1, got 0"):
        ToyboxScenes("val", count=0)
    with pytest.raises(InputError, match="no split"):
        ToyboxScenes("vall", count=1)
    with pytest.raises(IndexError):
        ToyboxScenes("val", count=2)[2]
