"""Hints of controls: what each keeps of the human hints, and what it does not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saywhy.alignment.controls import hints_of
from saywhy.errors import InputError

NAN = torch.nan


def human(images, seed=0):
    values = torch.rand(len(images), 5, generator=torch.Generator().manual_seed(seed))
    values[::4] = NAN
    return values


KINDS = ["human", "irrelevant", "fixed-random", "variable-random", "permuted-across-images", "centre-prior", "oracle"]


@pytest.mark.parametrize("kind", KINDS)
def test_items_without_human_hints_have_none(kind):
    images = torch.arange(12)
    found = hints_of(kind, human(images), images=images, centres=torch.rand(12, 5, 2), oracle=torch.rand(12, 5))
    assert found.items.tolist() == [i for i in range(12) if i % 4]
    batch = found.of(torch.arange(12), 3)
    assert batch.isfinite().all(1).tolist() == [i % 4 != 0 for i in range(12)]
    torch.testing.assert_close(batch, found.of(torch.arange(12), 3), equal_nan=True)


@given(st.lists(st.integers(0, 5), min_size=8, max_size=30), st.integers(0, 99))
def test_hints_permuted_across_images_are_those_of_other_images(images, seed):
    images = torch.tensor(images)
    values = human(images, seed)
    hinted = [i for i in range(len(images)) if i % 4]
    largest = max(int((images[hinted] == image).sum()) for image in images[hinted])
    if 2 * largest > len(hinted):
        with pytest.raises(InputError, match="cannot be permuted across images"):
            hints_of("permuted-across-images", values, images=images, seed=seed)
        return
    found = hints_of("permuted-across-images", values, images=images, seed=seed).values
    givers = [next(j for j in hinted if torch.equal(found[i], values[j])) for i in hinted]
    assert sorted(givers) == hinted
    assert all(images[i] != images[j] for i, j in zip(hinted, givers, strict=True))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=20), st.integers(0, 99))
def test_hints_permuted_within_an_image_are_those_of_other_questions(images, seed):
    images = torch.tensor(images)
    values = human(images, seed)
    hinted = [i for i in range(len(images)) if i % 4]
    found = hints_of("permuted-within-image", values, images=images, seed=seed).values
    for i in hinted:
        others = [j for j in hinted if images[j] == images[i] and j != i]
        assert any(torch.equal(found[i], values[j]) for j in others) or (not others and found[i].isnan().all())


def test_random_hints_are_fixed_or_vary_by_step():
    values = torch.rand(6, 4)
    items = torch.arange(6)
    fixed, variable = hints_of("fixed-random", values, seed=1), hints_of("variable-random", values, seed=1)
    assert torch.equal(fixed.of(items, 0), fixed.of(items, 1))
    assert not torch.equal(variable.of(items, 0), variable.of(items, 1))
    assert not torch.equal(fixed.of(items, 0), hints_of("fixed-random", values, seed=2).of(items, 0))
    assert not torch.equal(variable.of(items, 0), values)


def test_centre_prior_is_highest_at_the_centre():
    centres = torch.tensor([[[0.5, 0.5], [0.5, 0.75], [0.0, 0.0]]])
    found = hints_of("centre-prior", torch.ones(1, 3), centres=centres).values[0]
    torch.testing.assert_close(found, torch.tensor([0.0, -0.5, -4.0]).exp())


@pytest.mark.parametrize("kind", ["permuted-within-image", "permuted-across-images", "centre-prior", "oracle"])
def test_missing_argument_raises(kind):
    with pytest.raises(InputError, match=f"hints of the kind '{kind}' need"):
        hints_of(kind, torch.rand(3, 4))


def test_unknown_kind_raises():
    with pytest.raises(InputError, match="hints"):
        hints_of("random", torch.rand(3, 4))
