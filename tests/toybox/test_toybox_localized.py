"""Toybox as localized images: boxes, masks and labels are those with which a scene was drawn."""

import pickle

import numpy as np
import pytest

from saywhy.datasets.localized import LocalizedImage
from saywhy.errors import InputError
from saywhy.toybox import KINDS, UNSEEN_KINDS, scene
from saywhy.toybox.localized import ToyboxDataset


@pytest.mark.parametrize("split", ["test", "talk-val", "unseen"])
def test_objects_equal_those_of_the_scene(split: str):
    data = ToyboxDataset(split, count=4, size=64)
    for index in range(len(data)):
        drawn, found = scene(split, index, 64), data[index]
        assert found.name == f"{split}/{index}"
        assert np.array_equal(np.asarray(found.open()), drawn.image)
        assert [thing.label for thing in found.objects] == [thing.kind for thing in drawn.objects]
        for thing, wanted in zip(found.objects, drawn.objects, strict=True):
            assert thing.box == wanted.box
            assert all(type(edge) is float for edge in thing.box)
            assert thing.mask is not None
            assert np.array_equal(thing.mask(), wanted.mask)
            assert not thing.difficult


def test_a_box_is_drawn_tightly_round_its_mask():
    for thing in ToyboxDataset("talk-test", count=8)[7].objects:
        assert thing.mask is not None
        rows, columns = np.nonzero(thing.mask())
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_mask_is_a_copy():
    thing = ToyboxDataset("test")[0].objects[0]
    assert thing.mask is not None
    mask = thing.mask()
    mask[:] = False
    assert thing.mask().any()


def test_labels_are_the_kinds_of_the_split():
    data = ToyboxDataset("test")
    assert (data.name, data.labels, len(data)) == ("Toybox test", KINDS, 1000)
    assert ToyboxDataset("unseen").labels == KINDS + UNSEEN_KINDS
    twice: LocalizedImage = next(
        each for each in map(data.__getitem__, range(50)) if len(each.labels) < len(each.objects)
    )
    assert list(twice.labels) == list(dict.fromkeys(thing.label for thing in twice.objects))


def test_indexing_follows_list_semantics():
    data = ToyboxDataset("test", count=3)
    assert data[-1].name == "test/2"
    with pytest.raises(IndexError):
        data[3]
    assert [each.name for each in data] == ["test/0", "test/1", "test/2"]


def test_localized_image_can_be_pickled():
    found = ToyboxDataset("test")[0]
    sent = pickle.loads(pickle.dumps(found))
    assert sent == found
    assert np.array_equal(np.asarray(sent.open()), np.asarray(found.open()))
    assert np.array_equal(sent.objects[0].mask(), found.objects[0].mask())  # type: ignore[misc]


def test_unknown_split_or_count_of_0_raises():
    with pytest.raises(InputError, match=r"Toybox has no split 'tset'\. Did you mean 'test'"):
        ToyboxDataset("tset")
    with pytest.raises(InputError, match="count must be a whole number of at least 1, got 0"):
        ToyboxDataset("test", count=0)
