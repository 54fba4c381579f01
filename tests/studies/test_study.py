"""Studies: designs, folders, assignment."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.studies.assignment import Shown, assign, new_study, shown_to
from saywhy.studies.study import Study, StudyDesign, StudyItem, read_study

Planted = Callable[..., Study]


def blocks_of(study: Study) -> list[tuple[Shown, ...]]:
    return [shown_to(study, place) for place in range(len(study.blocks))]


def test_a_study_is_read_back(planted: Planted):
    for kind in ("trust", "discrimination"):
        study = planted(kind)
        assert read_study(study.folder) == study
        assert len(study.link) >= 20


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "other"}, "kind must be"),
        ({"models": ("a",)}, "needs two models"),
        ({"kind": "discrimination"}, "needs one model, got 2"),
        ({"methods": ()}, "one or several methods"),
        ({"methods": ("a", "a")}, "each once"),
        ({"raters": 0}, "raters"),
        ({"items_per_rater": 0}, "items_per_rater"),
        ({"attention_checks": -1}, "attention_checks"),
        ({"seed": -1}, "seed"),
    ],
)
def test_designs_are_checked(values: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        StudyDesign(**{"kind": "trust", "models": ("a", "b"), "methods": ("m",), **values})


def test_too_few_items_or_checks_raise(planted: Planted):
    study = planted()
    with pytest.raises(InputError, match="the study has 3"):
        new_study(study.design, study.items[:3], study.checks, study.folder, {})
    with pytest.raises(InputError, match="2 attention checks; there are 1"):
        new_study(study.design, study.items, study.checks[:1], study.folder, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("link"), "is no file of a study"),
        (lambda r: r.update(version=2), "must have the format"),
        (lambda r: r["design"].update(kind="x"), "kind must be"),
        (lambda r: r["design"].update(more=1), "expected an object with"),
        (lambda r: r["items"][0].update(files=["../../etc/passwd"]), "not in the folder"),
        (lambda r: r["items"][0].update(files=["none.png"]), "not in the folder"),
        (lambda r: r["items"][0].update(files=[]), "must have 1 files, got 0"),
        (lambda r: r["items"][0].update(key="item-0001"), "must differ"),
        (lambda r: r["items"][0].update(right=7), "none of its answers"),
        (lambda r: r.update(items=5), "is no file of a study"),
        (lambda r: r.update(blocks=[]), "its blocks must have keys of its items"),
        (lambda r: r["blocks"][0].append(["item-9999", False]), "its blocks must have keys of its items"),
        (lambda r: r.update(blocks=[[1]]), "is no file of a study"),
    ],
)
def test_malformed_studies_raise(planted: Planted, change: Callable[[Any], Any], words: str):
    study = planted()
    record = json.loads((study.folder / "study.json").read_text())
    change(record)
    (study.folder / "study.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=words):
        read_study(study.folder)


def test_a_folder_without_a_study_raises(tmp_path: Any):
    with pytest.raises(InputError, match="there is no study in"):
        read_study(tmp_path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=st.integers(2, 7), methods=st.integers(1, 3), raters=st.integers(1, 12), share=st.floats(0.1, 1),
       checks=st.integers(0, 3), seed=st.integers(0, 99))  # fmt: skip
def test_assignment_is_balanced(
    planted: Planted, images: int, methods: int, raters: int, share: float, checks: int, seed: int
):
    names = tuple("abc"[:methods])
    every = images * methods
    size = max(1, round(share * every))
    study = planted("trust", images, names, raters=raters, items_per_rater=size, attention_checks=checks, seed=seed)
    blocks = blocks_of(study)
    assert assign(study.design, study.items, study.checks) == study.blocks
    seen: Counter[str] = Counter()
    swaps: dict[str, list[bool]] = {}
    for block in blocks:
        own = [one for one in block if not one.item.is_check]
        assert len(own) == size
        assert len({one.item.key for one in own}) == size
        assert len(block) - size == checks
        if checks and size > 1:
            assert not block[0].item.is_check
        for one in own:
            seen[one.item.key] += 1
            swaps.setdefault(one.item.key, []).append(one.swapped)
    counts = [seen[one.key] for one in study.items]
    assert max(counts) - min(counts) <= 1
    for each in swaps.values():
        assert abs(each.count(True) - each.count(False)) <= 1


def test_a_rater_sees_an_image_and_a_method_as_seldom_as_possible(planted: Planted):
    study = planted("trust", images=8, methods=("a", "b"), raters=6, items_per_rater=8)
    for block in blocks_of(study):
        own = [one.item for one in block if not one.item.is_check]
        assert max(Counter(one.image for one in own).values()) <= 2
        assert abs(sum(one.method == "a" for one in own) - 4) <= 1


def test_orders_differ_between_raters_and_seeds(planted: Planted):
    study = planted("trust", images=8, raters=4, items_per_rater=16)
    orders = [tuple(one.item.key for one in block) for block in blocks_of(study)]
    assert len(set(orders)) == 4
    other = assign(replace(study.design, seed=1), study.items, study.checks)
    assert [tuple(key for key, _ in block) for block in other] != orders


@given(st.booleans(), st.integers(-2, 2))
def test_swapping_twice_changes_nothing(swapped: bool, choice: int):
    item = StudyItem("a", "a.jpg", "m", ("1.png", "2.png"))
    shown = Shown(item, swapped)
    assert shown.answer(shown.answer(choice)) == choice
