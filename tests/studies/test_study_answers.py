"""Answers are stored as they come, once, and survive kills."""

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from saywhy.errors import InputError
from saywhy.studies.answers import AnswerStore, NoSuchRater, StoreError, StudyFull
from saywhy.studies.study import Study, read_study

Planted = Callable[..., Study]


def test_answers_are_stored_in_the_order_of_the_study(planted: Planted):
    store = AnswerStore(planted("trust"))
    key = store.join()
    left, every = store.shown(key)
    assert (len(left), every) == (8, 8)
    for shown in left:
        assert store.add(key, shown.item.key, 2, 1000)
    assert store.shown(key) == ([], 8)
    values = {one.item: one.value for one in store.answers()}
    for shown in left:
        assert values[shown.item.key] == (-2 if shown.swapped else 2)


def test_the_first_answer_counts(planted: Planted):
    store = AnswerStore(planted())
    key = store.join()
    item = store.shown(key)[0][0].item.key
    assert store.add(key, item, 0, 10)
    before = store.answers()
    assert not store.add(key, item, 1, 10)
    assert store.answers() == before


@pytest.mark.parametrize(("choice", "item"), [(2, None), (-1, None), (0, "item-9999"), (0, "' OR 1=1 --")])
def test_other_answers_and_items_are_refused(planted: Planted, choice: int, item: str | None):
    store = AnswerStore(planted())
    key = store.join()
    with pytest.raises(InputError):
        store.add(key, item or first_item(store, key), choice, 10)
    for call in (lambda: store.add("nobody", "item-0000", 0, 1), lambda: store.shown("nobody")):
        with pytest.raises(NoSuchRater, match="no such rater"):
            call()
    assert store.answers() == []


def first_item(store: AnswerStore, key: str) -> str:
    return store.shown(key)[0][0].item.key


def test_every_rater_has_a_place_until_all_are_taken(planted: Planted):
    store = AnswerStore(planted(raters=3))
    keys = [store.join() for _ in range(3)]
    assert len({tuple(one.item.key for one in store.shown(key)[0]) for key in keys}) == 3
    assert store.places() == 0
    with pytest.raises(StudyFull, match="all of its 3 raters"):
        store.join()


def test_the_place_of_one_who_stays_away_is_given_to_another_too(planted: Planted):
    study = planted(raters=2)
    store = AnswerStore(study)
    away, diligent = store.join(now=1000.0), store.join(now=1000.0)
    for shown in store.shown(diligent)[0]:
        store.add(diligent, shown.item.key, 0, 5)
    seen = [one.item.key for one in store.shown(away)[0]]
    other = store.join()  # decades later
    assert [one.item.key for one in store.shown(other)[0]] == seen
    with pytest.raises(StudyFull):
        store.join()
    # Both go on; they are two raters.
    store.add(other, seen[0], 0, 5)
    store.add(away, seen[0], 0, 5)
    assert [one.rater for one in store.answers() if one.item == seen[0]][-2:] == [1, 3]


def test_simulated_raters_take_no_place_of_people(planted: Planted):
    study = planted(raters=2)
    people, simulated = AnswerStore(study), AnswerStore(study, simulated=True)
    simulated.join("simulated: perfect")
    assert (people.places(), simulated.places()) == (2, 1)


def test_many_raters_at_once_get_different_places(planted: Planted):
    study = planted(raters=24)
    store = AnswerStore(study)

    def rate(_: int) -> tuple[str, ...]:
        key = store.join()
        left, _ = store.shown(key)
        for shown in left:
            store.add(key, shown.item.key, 0, 5)
        return tuple(one.item.key for one in left)

    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(rate, range(24)))
    assert sorted(blocks) == sorted(tuple(key for key, _ in block) for block in study.blocks)
    assert len(store.answers()) == 24 * 8


RATER = """
import sys
from saywhy.studies.answers import AnswerStore
from saywhy.studies.study import read_study

store = AnswerStore(read_study(sys.argv[1]))
key = store.join()
print(key, flush=True)
for shown in store.shown(key)[0]:
    store.add(key, shown.item.key, 0, 5)
    print(shown.item.key, flush=True)
"""


@pytest.mark.slow
def test_ten_kills_lose_no_stored_answer(planted: Planted):
    study = planted(images=40, raters=12, items_per_rater=120)
    draw, confirmed, keys = random.Random(0), 0, []
    for _ in range(10):
        command = [sys.executable, "-c", RATER, study.folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            keys.append(process.stdout.readline().strip())
            for _ in range(draw.randint(1, 60)):
                assert process.stdout.readline()
                confirmed += 1
            process.send_signal(signal.SIGKILL)
            confirmed += len(process.stdout.read().splitlines())  # what was written before the kill
    store = AnswerStore(read_study(study.folder))
    found = store.answers()
    assert confirmed <= len(found) <= confirmed + 10  # one more may be stored than was printed
    left, every = store.shown(keys[0])
    assert every - len(left) == sum(one.rater == 1 for one in found)


def test_a_damaged_file_is_said(planted: Planted):
    study = planted()
    (study.folder / "answers.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="cannot be read or written"):
        AnswerStore(study)


def test_answers_are_durable_settings(planted: Planted, tmp_path: Path):
    study = planted()
    AnswerStore(study)
    with sqlite3.connect(study.folder / "answers.sqlite") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
