"""The splits: measured over the contents of many scenes, which are sampled without drawing them."""

from collections import Counter

import pytest

from saywhy.toybox import BACKGROUNDS, KINDS, SPLITS, UNSEEN_KINDS, scene
from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.splits import TIE, contents

MANY = 4000


def sampled(split: str, count: int = MANY) -> list[tuple[str, list[str]]]:
    """Background and kinds of many scenes."""
    return [contents(split, SeededRandom("toybox", split, index, 0)) for index in range(count)]


def share_at_home(split: str) -> float:
    """Return the share of a split's objects that are at their home."""
    at_home = [CATALOGUE[kind].home == place for place, kinds in sampled(split) for kind in kinds]
    return sum(at_home) / len(at_home)


def test_there_are_20_kinds_and_4_unseen_kinds() -> None:
    assert len(KINDS) == len(set(KINDS)) == 20
    assert len(UNSEEN_KINDS) == 4
    assert not set(KINDS) & set(UNSEEN_KINDS)


def test_every_home_is_a_background_and_every_background_a_home() -> None:
    assert {CATALOGUE[kind].home for kind in KINDS} == set(BACKGROUNDS)


@pytest.mark.parametrize("split", ["train", "biased-train", "biased-test"])
def test_all_kinds_are_about_equally_frequent(split: str) -> None:
    seen = Counter(kind for _, kinds in sampled(split) for kind in kinds)
    mean = sum(seen.values()) / len(KINDS)
    assert set(seen) == set(KINDS)
    assert max(abs(count / mean - 1) for count in seen.values()) < 0.2


@pytest.mark.slow
def test_drawn_scenes_keep_every_kind_frequent() -> None:
    """Objects without room, and scenes that are sampled again, must not make some kinds rare."""
    seen = Counter(thing.kind for index in range(500) for thing in scene("train", index, size=48).objects)
    mean = sum(seen.values()) / len(KINDS)
    assert min(seen[kind] for kind in KINDS) > 0.6 * mean


@pytest.mark.slow
@pytest.mark.parametrize("split", sorted(SPLITS))
def test_unseen_kinds_are_in_their_split_only(split: str) -> None:
    unseen = [any(kind in UNSEEN_KINDS for kind in kinds) for _, kinds in sampled(split, 1000)]
    assert all(unseen) if split == "unseen" else not any(unseen)


@pytest.mark.parametrize("split", ["biased-train", "biased-val"])
def test_biased_splits_tie_kinds_to_their_home(split: str) -> None:
    assert share_at_home(split) == pytest.approx(TIE, abs=0.02)


def test_biased_test_breaks_the_tie() -> None:
    assert share_at_home("biased-test") == 0


@pytest.mark.slow
def test_plain_splits_ignore_homes() -> None:
    by_chance = 1 / len(BACKGROUNDS)
    for split in ("train", "val", "test"):
        assert share_at_home(split) == pytest.approx(by_chance, abs=0.02)


def test_backgrounds_are_about_equally_frequent() -> None:
    seen = Counter(place for place, _ in sampled("train"))
    assert max(abs(count * len(BACKGROUNDS) / MANY - 1) for count in seen.values()) < 0.2
