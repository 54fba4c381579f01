"""The analysis: scores and intervals against slow oracles and planted truth, power against simulation, reports."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from saywhy.errors import InputError
from saywhy.statistics import crossed_bootstrap_distribution
from saywhy.studies.analysis import NOTHING, analyse, answers_csv
from saywhy.studies.answers import Answer, AnswerStore, StudyFull
from saywhy.studies.power import DEVIATIONS, raters_needed
from saywhy.studies.report import sentences, study_html, study_record
from saywhy.studies.simulated import BEHAVIOURS, simulate
from saywhy.studies.study import Study

Planted = Callable[..., Study]


def test_bootstrap_weighs_answers_by_raters_and_items():
    """The slow way: draw raters and items, and repeat each answer as often as both were drawn."""
    generator = np.random.default_rng(0)
    raters, items = generator.integers(0, 4, 20), generator.integers(0, 5, 20)
    values = generator.normal(size=20)
    found = crossed_bootstrap_distribution(values, raters, items, 30, seed=3, numbers=(4, 5))
    again = np.random.default_rng(3)
    of_raters, of_items = again.multinomial(4, [0.25] * 4, 30), again.multinomial(5, [0.2] * 5, 30)
    for number, value in enumerate(found):
        repeated = [
            value
            for value, rater, item in zip(values, raters, items, strict=True)
            for _ in range(of_raters[number, rater] * of_items[number, item])
        ]
        assert value == pytest.approx(np.mean(repeated)) if repeated else np.isnan(value)


@pytest.mark.slow
def test_intervals_cover_what_raters_and_items_vary():
    """Raters and items both vary; the interval over both keeps its 95 %, and one over raters alone does not."""
    generator = np.random.default_rng(0)
    both = alone = 0
    for trial in range(150):
        of_raters, of_items = generator.normal(0, 0.5, 12), generator.normal(0, 1.0, 15)
        raters, items = (part.ravel() for part in np.mgrid[:12, :15])
        values = of_raters[raters] + of_items[items] + generator.normal(0, 1, 180)
        low, high = np.quantile(crossed_bootstrap_distribution(values, raters, items, 300, trial), [0.025, 0.975])
        both += low <= 0 <= high
        only = crossed_bootstrap_distribution(values, raters, np.zeros(180, int), 300, trial)
        low, high = np.quantile(only, [0.025, 0.975])
        alone += low <= 0 <= high
    assert both / 150 > 0.88
    assert alone / 150 < 0.8


def answered(study: Study, right: dict[str, float], seed: int = 0, points: bool = False) -> list[Answer]:
    """Answers whose share of right ones, or mean points, depends on the method."""
    generator, found = np.random.default_rng(seed), []
    for rater in range(study.design.raters):
        for one in study.items:
            if points:
                value = int(np.clip(round(generator.normal(right[one.method], 0.8)), -2, 2))
            else:
                assert one.right is not None
                value = one.right if generator.random() < right[one.method] else 1 - one.right
            found.append(Answer(rater, "person", one.key, value, False, 2000))
    return found


def test_a_planted_difference_is_found(planted: Planted):
    study = planted(images=20, methods=("a", "b"), raters=15)
    result = analyse(study, answered(study, {"a": 0.9, "b": 0.5}))
    first, second = result.scores
    values = {m: [one.value == study.item(one.item).right for one in result.answers if study.item(one.item).method == m]
              for m in "ab"}  # fmt: skip
    assert (first.score, second.score) == pytest.approx((np.mean(values["a"]), np.mean(values["b"])))
    assert first.low > 0.5
    assert second.low < 0.5 < second.high
    (pair,) = result.differences
    assert pair.difference == pytest.approx(first.score - second.score)
    assert pair.low > 0
    said = sentences(result)
    assert said[0].startswith("a: 0.9")
    assert "above chance" in said[0]
    assert "b: " in said[1]
    assert "not distinguishable from chance" in said[1]
    assert said[2].startswith("a is higher than b")


def test_trust_has_the_sign_of_the_better_model(planted: Planted):
    study = planted("trust", images=20, raters=10)
    result = analyse(study, answered(study, {"a": 1.2, "b": -1.0}, points=True))
    assert result.scores[0].low > 0
    assert result.scores[1].high < 0
    assert "above no preference" in sentences(result)[0]
    assert "below no preference" in sentences(result)[1]


def test_without_a_difference_few_are_claimed(planted: Planted):
    study = planted(images=12, methods=("a", "b"), raters=8)
    claimed = 0
    for seed in range(20):
        (pair,) = analyse(study, answered(study, {"a": 0.7, "b": 0.7}, seed), 300).differences
        claimed += not pair.low <= 0 <= pair.high
    assert claimed <= 3


def test_careless_raters_are_left_out(planted: Planted):
    study = planted("trust", raters=4, attention_checks=2)
    store = simulate(study, ["perfect", "lazy", "adversarial"])
    result = analyse(study, store.answers())
    assert (result.raters, result.simulated) == (2, 2)
    assert result.left_out == (2,)
    assert "1 rater failed the attention checks and is left out." in sentences(result)[-1]


def test_who_fails_half_of_the_checks_is_left_out(planted: Planted):
    """One of two: who always takes the first answer is right once."""
    study = planted("discrimination", raters=3, attention_checks=2)
    store = simulate(study, ["perfect", "lazy"])
    assert analyse(study, store.answers()).left_out == (2,)


def test_few_raters_or_images_have_no_interval(planted: Planted):
    for images, raters in ((4, 8), (8, 4)):
        study = planted("trust", images=images, raters=raters, items_per_rater=4)
        result = analyse(study, simulate(study, ["perfect"] * raters).answers())
        assert all(one.low is None and one.high is None for one in (*result.scores, *result.differences))
        assert "no interval, and no verdict" in " ".join(sentences(result))
        assert "above" not in " ".join(sentences(result))
        json.dumps(study_record(result), allow_nan=False)
        study_html(result)


def test_simulated_raters_are_checked_before_any_answers(planted: Planted):
    study = planted(raters=2)
    for behaviours, error, words in (
        (["perfect", "odd"], InputError, "behaviour must be"),
        ([], InputError, "name at least one"),
        (["perfect"] * 3, StudyFull, "2 places are free"),
    ):
        with pytest.raises(error, match=words):
            simulate(study, behaviours)  # type: ignore[arg-type]
    assert AnswerStore(study, simulated=True).answers() == []


@pytest.mark.parametrize("kind", ["trust", "discrimination"])
def test_simulated_raters_do_as_they_say(planted: Planted, kind: str):
    best, worst = (2, -2) if kind == "trust" else (1.0, 0.0)
    scores = {}
    for behaviour in BEHAVIOURS:
        study = planted(kind, images=20, methods=("a",), raters=6, items_per_rater=20, attention_checks=0)
        store = simulate(study, [behaviour] * 6)
        scores[behaviour] = analyse(study, store.answers(), 200).scores[0]
    assert scores["perfect"].score == best
    assert scores["adversarial"].score == worst
    nothing = NOTHING[kind]  # type: ignore[index]
    assert nothing < scores["noisy"].score < best
    assert scores["lazy"].score == pytest.approx(nothing, abs=0.35)  # the sides change places
    assert scores["lazy"].low <= nothing <= scores["lazy"].high


def test_simulated_raters_are_marked_everywhere(planted: Planted):
    study = planted()
    store = simulate(study, ["noisy"] * 3)
    result = analyse(study, store.answers())
    assert "All raters are simulated" in sentences(result)[0]
    assert "All raters are simulated" in study_html(result)
    assert study_record(result)["simulated"] == 3
    assert answers_csv(study, store.answers()).count("simulated: noisy") == 3 * 8
    mixed = [replace(one, kind="person") if one.rater == 1 else one for one in store.answers()]
    assert "2 of 3 raters are simulated" in sentences(analyse(study, mixed))[0]


def test_the_table_has_every_answer_and_no_formula(planted: Planted):
    study = planted(attention_checks=1)
    hostile = replace(
        study, items=tuple(replace(one, image="=HYPERLINK(1)", options=("+cat", "dog")) for one in study.items)
    )
    store = simulate(study, ["perfect", "lazy"])
    rows = list(csv.DictReader(io.StringIO(answers_csv(hostile, store.answers()))))
    assert len(rows) == 2 * 7
    assert not any(
        row[name][:1] in tuple("=+-@") for row in rows for name in ("image", "answer", "method") if row[name]
    )
    assert sum(row["method"] == "" for row in rows) == 2
    assert all(row["right"] == "True" for row in rows if row["kind"] == "simulated: perfect")
    unknown = [*store.answers(), Answer(1, "person", "item-gone", 0, False, 5)]
    assert answers_csv(hostile, unknown) == answers_csv(hostile, store.answers())
    json.dumps(study_record(analyse(study, store.answers())))


def test_a_page_has_no_markup_of_names(planted: Planted):
    study = planted(methods=("<b>x",))
    page = study_html(analyse(study, answered(study, {"<b>x": 0.5})))
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_without_answers_it_is_said(planted: Planted):
    with pytest.raises(InputError, match="no answers that count yet"):
        analyse(planted(), [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "difference", "images", "items"),
    [("trust", 0.5, 60, 5), ("discrimination", 0.15, 80, 8), ("trust", 1.2, 400, 4)],  # the last: images not all seen
)
def test_the_power_is_that_of_the_reports_intervals(kind: Any, difference: float, images: int, items: int):
    deviations = DEVIATIONS[kind]
    raters = raters_needed(difference, kind, images=images, items=items)
    generator, found, trials = np.random.default_rng(0), 0, 300
    own = np.repeat(np.arange(raters), items)
    for trial in range(trials):
        draws, means = [], []
        seen = (np.arange(raters)[:, None] * items + generator.permutation(images)[:items]).ravel() % images
        for _ in range(2):
            of_raters = generator.normal(0, deviations[0], raters)
            of_images = generator.normal(0, deviations[1], images)
            answers = of_raters[own] + of_images[seen] + generator.normal(0, deviations[2], raters * items)
            draws.append(crossed_bootstrap_distribution(answers, own, seen, 200, trial, (raters, images)))
            means.append(answers.mean())
        both = draws[0] - draws[1] + difference
        found += np.nanquantile(both, 0.025) > 0
    assert found / trials == pytest.approx(0.8, abs=0.08)


def test_methods_with_other_numbers_of_answers_have_the_same_resamples():
    """1,200 and 1,199 answers: the intervals of differences need pairs."""
    generator = np.random.default_rng(0)
    raters, items = generator.integers(0, 40, 1200), generator.integers(0, 30, 1200)
    values = generator.normal(size=40)[raters] + generator.normal(0, 0.1, 1200)
    first = crossed_bootstrap_distribution(values, raters, items, 2000, numbers=(40, 30))
    second = crossed_bootstrap_distribution(values[:-1], raters[:-1], items[:-1], 2000, numbers=(40, 30))
    assert np.corrcoef(first, second)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"difference": 0}, "above 0"),
        ({"difference": "x"}, "difference"),
        ({"kind": "x"}, "kind must be"),
        ({"images": 0}, "images"),
        ({"power": 1.0}, "between 0 and 1"),
        ({"difference": 0.05}, "Take more than 1005 images"),
        ({"deviations": (-1, 0, 0)}, "deviations"),
    ],
)
def test_impossible_plans_are_said(values: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        raters_needed(**{"difference": 0.3, **values})


def test_enough_images_are_enough():
    with pytest.raises(InputError) as caught:
        raters_needed(0.05)
    enough = int(str(caught.value).split("more than ")[1].split()[0])
    assert raters_needed(0.05, images=enough + 1) > 0
