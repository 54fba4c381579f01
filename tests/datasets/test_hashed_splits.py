"""Splits by a hash: shares are met on average, and no image's split depends on another image."""

import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhy.datasets.hashed_splits import SHARES, VAL_SHARE, check_classes, hashed_split, path_hash, with_val
from saywhy.errors import InputError, SaywhyWarning

FILES = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(2000)]


@given(st.text(alphabet="ab1/. é"))
def test_hash_is_the_fraction_of_the_digest_below_one(file: str):
    digest = sha256(file.encode("utf-8", "surrogateescape")).digest()
    exact = int.from_bytes(digest, "big") / 2**256
    assert 0 <= path_hash(file) < 1
    assert abs(path_hash(file) - exact) < 2**-51


def test_shares_are_met_within_each_class():
    for label in ("cat", "dog"):
        splits = [hashed_split(file) for file in FILES if file.startswith(label)]
        for split, share in SHARES.items():
            assert abs(splits.count(split) / len(splits) - share) < 0.03


def test_missing_val_is_taken_from_train_alone_and_said():
    splits = ["train"] * 2000 + ["test"] * 2000
    with pytest.warns(SaywhyWarning, match=r"birds has no split 'val': \d+ of the 2000 images of 'train' are taken"):
        found = with_val("birds", FILES, splits)
    assert found[2000:] == ("test",) * 2000
    assert abs(found.count("val") / 2000 - VAL_SHARE) < 0.03
    with pytest.warns(SaywhyWarning):
        fewer = with_val("birds", FILES[100:], splits[100:])
    assert fewer == found[100:]


def test_val_that_is_there_is_kept_without_a_warning():
    assert with_val("birds", FILES[:2], ["train", "val"]) == ("train", "val")


def test_missing_train_and_too_few_images_raise():
    with pytest.raises(InputError, match="birds has no image of the split 'train'; it has test, val"):
        with_val("birds", FILES[:2], ["test", "val"])
    with pytest.raises(InputError, match="too few images to take some"):
        with_val("birds", ["cat/0.jpg"], ["train"])


def test_classes_without_images_raise_in_train_and_warn_elsewhere():
    check_classes("birds", ["a", "b", "a", "b"], ["train", "train", "val", "val"])
    with pytest.warns(SaywhyWarning, match=re.escape("birds: 1 classes have no image in 'val': a.")):
        check_classes("birds", ["a", "b", "b"], ["train", "train", "val"])
    with pytest.raises(InputError, match="birds: 1 classes have no image in 'train': b"):
        check_classes("birds", ["a", "a", "b"], ["train", "val", "val"])
