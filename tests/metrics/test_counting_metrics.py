"""Errors of counts: the equations in loops, hand examples, and the published baselines on the released counts."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import counting as oracle
from saywhy.errors import InputError, SaywhyWarning
from saywhy.metrics.counting import (
    FORMS,
    count_mae,
    errors_by_count,
    m_relrmse,
    m_relrmse_nz,
    mrmse,
    mrmse_nz,
    resampled_errors,
    round_counts,
)

FUNCTIONS = {"mRMSE": mrmse, "mRMSE-nz": mrmse_nz, "m-relRMSE": m_relrmse, "m-relRMSE-nz": m_relrmse_nz}

quarters = st.integers(-12, 40).map(lambda n: n / 4)  # halves and ties are frequent
tables = st.integers(1, 4).flatmap(
    lambda classes: st.lists(
        st.lists(st.tuples(quarters, st.integers(0, 9)), min_size=classes, max_size=classes), min_size=1, max_size=8
    )
)


def split(table: list[list[tuple[float, int]]]) -> tuple[Tensor, Tensor]:
    both = torch.tensor(table, dtype=torch.float64)
    return both[..., 0], both[..., 1]


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40, deadline=None)
@given(tables)
def test_errors_equal_the_equations(name, table):
    predicted, counts = split(table)
    relative, nonzero = FORMS[name]
    if nonzero and not bool((counts > 0).any()):
        with pytest.raises(InputError, match="needs one"):
            FUNCTIONS[name](predicted, counts)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)
        found = FUNCTIONS[name](predicted, counts)
    wanted = oracle.error(predicted.tolist(), counts.int().tolist(), relative, nonzero)
    assert found.value == pytest.approx(wanted, rel=1e-12)
    assert found.images == len(table)
    assert len(found.each) == predicted.shape[1]
    missing = {k for k in range(predicted.shape[1]) if nonzero and not bool((counts[:, k] > 0).any())}
    assert set(found.omitted) == missing == {k for k, value in enumerate(found.each) if math.isnan(value)}


def test_hand_example_of_the_specification():
    predicted, counts = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    found = {name: function(predicted, counts).value for name, function in FUNCTIONS.items()}
    assert found == pytest.approx(
        {"mRMSE": 1.0, "mRMSE-nz": 1.0, "m-relRMSE": math.sqrt(2 / 3), "m-relRMSE-nz": math.sqrt(1 / 3)}
    )


def test_halves_are_rounded_upwards_and_negatives_become_zero():
    assert round_counts(torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 2.4999])).tolist() == [0, 0, 1, 2, 3, 2]
    below_half = torch.tensor([0.49999999999999994], dtype=torch.float64)
    assert round_counts(below_half).item() == 0


def test_classes_without_positive_images_are_said_and_left_out():
    predicted, counts = torch.tensor([[1.0, 9.0, 0.0]] * 3), torch.tensor([[2.0, 0.0, 1.0]] * 3)
    with pytest.warns(SaywhyWarning, match="1 of 3 classes are left out .* the classes 1 "):
        found = mrmse_nz(predicted, counts)
    assert found.omitted == (1,)
    assert found.value == 1.0
    assert mrmse(predicted, counts).omitted == ()


def test_resamples_are_uniform_draws_with_replacement():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 4, (300, 2), generator=generator)
    predicted = counts + torch.randn(300, 2, generator=generator)
    found = resampled_errors(predicted, counts, seed=5)
    drawn = np.random.default_rng(5).integers(300, size=(10, 240))
    for name, function in FUNCTIONS.items():
        values = [function(predicted[rows], counts[rows]).value for rows in drawn]
        assert found[name].mean == pytest.approx(np.mean(values))
        assert found[name].std == pytest.approx(np.std(values, ddof=1))
        assert abs(found[name].mean - function(predicted, counts).value) < 4 * found[name].std
    assert resampled_errors(predicted, counts, seed=5) == found
    assert resampled_errors(predicted, counts, seed=6) != found


def test_resamples_without_a_positive_image_are_said_or_refused():
    counts = torch.zeros(20, 2)
    counts[:, 0] = 1
    counts[3, 1] = 1
    with pytest.warns(SaywhyWarning, match="at least one resample"):
        found = resampled_errors(torch.zeros(20, 2), counts)
    assert found["mRMSE-nz"].omitted == (1,)
    assert found["mRMSE"].omitted == ()
    with pytest.raises(InputError, match="needs a positive image in every resample"):
        resampled_errors(torch.zeros(20, 1), counts[:, 1:])


def test_pooled_absolute_error_is_another_thing():
    predicted, counts = torch.zeros(2, 2), torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    assert count_mae(predicted, counts) == 1.25
    assert count_mae(predicted, counts, nonzero=True) == 2.5
    assert count_mae(predicted, counts, relative=True) == pytest.approx((4 / 5 + 1 / 2) / 4)
    with pytest.raises(InputError, match="all counts are 0"):
        count_mae(predicted, torch.zeros(2, 2), nonzero=True)


def test_errors_by_count_split_the_entries():
    predicted, counts = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, 8.0]])
    found = errors_by_count(predicted, counts)
    assert [one.entries for one in found] == [2, 1, 1]
    assert [one.rmse for one in found] == pytest.approx([math.sqrt(0.5), 2, 6])
    assert math.isnan(errors_by_count(predicted, counts, ranges=[(20, None)])[0].rmse)
    with pytest.raises(InputError, match="highest count of a range must be a whole number of at least 3"):
        errors_by_count(predicted, counts, ranges=[(3, 1)])


@pytest.mark.parametrize(
    ("predicted", "counts", "message"),
    [
        (torch.zeros(2), torch.zeros(2), "For one class use"),
        (torch.zeros(2, 3), torch.zeros(3, 2), r"got \[2, 3\] and \[3, 2\]"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "at least one of each"),
        (torch.full((1, 1), math.nan), torch.zeros(1, 1), "predicted must be finite"),
        (torch.zeros(1, 1), torch.full((1, 1), 0.5), "whole numbers of at least 0, got 0.5"),
        (torch.zeros(1, 1), torch.full((1, 1), -1.0), "got -1"),
        ([[1.0]], torch.zeros(1, 1), "predicted must be a tensor"),
    ],
)
def test_bad_input_is_refused(predicted, counts, message):
    with pytest.raises(InputError, match=message):
        mrmse(predicted, counts)
    with pytest.raises(InputError, match=message):
        resampled_errors(predicted, counts)


def test_bad_settings_are_refused():
    one = torch.ones(4, 1)
    with pytest.raises(InputError, match="trials must be a whole number of at least 2"):
        resampled_errors(one, one, trials=1)
    with pytest.raises(InputError, match="share must be a number above 0"):
        resampled_errors(one, one, share=0)
    with pytest.raises(InputError, match="rounded must be true or false"):
        mrmse(one, one, rounded="no")


PUBLISHED = {
    ("pascal", "always-0"): (0.665, 2.586, 0.284, 1.096),
    ("pascal", "always-1"): (1.137, 1.961, 0.985, 0.662),
    ("pascal", "mean"): (0.659, 2.469, 0.309, 1.012),
    ("pascal", "category-mean"): (0.642, 2.476, 0.299, 1.022),
    ("coco", "always-0"): (0.537, 3.038, 0.212, 1.211),
    ("coco", "always-1"): (1.124, 2.406, 1.001, 0.795),
    ("coco", "mean"): (0.538, 2.969, 0.227, 1.164),
    ("coco", "category-mean"): (0.525, 2.976, 0.223, 1.176),
}
"""The errors of the baselines on the released test counts, to three decimals."""


def released(real: Path, name: str) -> Tensor:
    file = real / "counting" / f"{name}_gt.mat"
    if not file.is_file():
        pytest.skip(f"there is no file '{file}' of the released counts")
    from scipy.io import loadmat

    return torch.from_numpy(loadmat(file)["category_count"].astype(np.float64))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "baseline"), PUBLISHED)
def test_baselines_on_the_released_counts(real, dataset, baseline):
    counts, train = released(real, f"{dataset}_test"), released(real, f"{dataset}_train")
    predicted = {
        "always-0": torch.zeros(()),
        "always-1": torch.ones(()),
        "mean": train.mean(),
        "category-mean": train.mean(0),
    }[baseline].expand_as(counts)
    found = [function(predicted, counts, rounded=False).value for function in FUNCTIONS.values()]
    assert found == pytest.approx(PUBLISHED[dataset, baseline], abs=6e-4)


@pytest.mark.real
def test_rounded_category_means_on_the_released_counts(real):
    counts, train = released(real, "pascal_test"), released(real, "pascal_train")
    found = [function(train.mean(0).expand_as(counts), counts).value for function in FUNCTIONS.values()]
    assert found == pytest.approx((0.652, 2.553, 0.289, 1.076), abs=6e-4)


@pytest.mark.real
def test_published_rows_of_voc_are_pooled_absolute_errors(real):
    """Note 1 of the specification: the "nz" columns of the published VOC baselines do not follow their equation."""
    counts, train = released(real, "pascal_test"), released(real, "pascal_train")
    wanted = {0.0: (1.962, 0.588), 1.0: (0.962, 0.175), float(train.mean()): (1.805, 0.523)}
    for value, pooled in wanted.items():
        predicted = torch.full_like(counts, value)
        found = [count_mae(predicted, counts, rounded=False, nonzero=True, relative=r) for r in (False, True)]
        assert found == pytest.approx(pooled, abs=6e-4)
    by_class = train.mean(0).expand_as(counts)
    found = [count_mae(by_class, counts, rounded=False, nonzero=True, relative=r) for r in (False, True)]
    assert found == pytest.approx((1.584, 0.447), abs=6e-4)
