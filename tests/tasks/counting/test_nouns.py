"""Nouns and the classes that they name."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.tasks.counting.nouns import noun_classes, singulars
from saywhy.toybox import KINDS
from saywhy.toybox.language.question import plural

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "bird",
    "cat", "dog", "horse", "sheep", "cow", "cell phone", "knife", "wine glass", "skis", "couch", "tv", "hot dog",
)  # fmt: skip
VOC = ("aeroplane", "bicycle", "bird", "boat", "bus", "car", "cat", "cow", "diningtable", "dog", "person", "sofa")


@pytest.mark.parametrize(
    ("noun", "labels", "classes", "kind"),
    [
        ("people", COCO, ("person",), "class"),
        ("men", COCO, ("person",), "alias"),
        ("Women", COCO, ("person",), "alias"),
        ("kids", COCO, ("person",), "alias"),
        ("children", COCO, ("person",), "alias"),
        ("buses", COCO, ("bus",), "class"),
        ("knives", COCO, ("knife",), "class"),
        ("traffic lights", COCO, ("traffic light",), "class"),
        ("cell-phones", COCO, ("cell phone",), "class"),
        ("sheep", COCO, ("sheep",), "class"),
        ("planes", VOC, ("aeroplane",), "alias"),
        ("couches", VOC, ("sofa",), "alias"),
        ("dining tables", VOC, ("diningtable",), "class"),
        ("animals", VOC, ("bird", "cat", "cow", "dog"), "super-category"),
        ("cats and dogs", VOC, ("cat", "dog"), "several"),
        ("dogs, cows, and birds", VOC, ("bird", "cow", "dog"), "several"),
        ("bikes & animals", VOC, ("bicycle", "bird", "cat", "cow", "dog"), "several"),
        ("vehicles", VOC, ("aeroplane", "bicycle", "boat", "bus", "car"), "super-category"),
        ("things", VOC, VOC, "all"),
        ("hot dogs", COCO, ("hot dog",), "class"),
        ("glasses", COCO, ("wine glass",), "alias"),
    ],
)
def test_nouns_name_classes(noun, labels, classes, kind):
    found = noun_classes(noun, labels)
    assert (found.labels, found.kind) == (classes, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_plurals_of_toybox_name_their_kinds(kind):
    assert noun_classes(plural(kind), KINDS).labels == (kind,)


def test_a_noun_that_no_class_matches_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no class is named by 'bicycels'; nearest: 'bicycle'"):
        noun_classes("bicycels", COCO)
    for noun in ("", "?!", 3, None):
        with pytest.raises(InputError, match="no class is named by"):
            noun_classes(noun, COCO)
    with pytest.raises(InputError, match=r"classes: 'person', 'bicycle', .* …"):
        noun_classes("xyzzy", COCO)


@given(st.text(max_size=30))
def test_any_text_is_one_thing_or_refused(text):
    assert all(one == one.lower() for one in singulars(text))
    with contextlib.suppress(InputError):
        assert set(noun_classes(text, COCO).labels) <= set(COCO)
