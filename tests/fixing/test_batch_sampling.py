"""Which images the steps of training see."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.fixing.sampling import HINTED_SHARE, Sampler, group_weights, need_groups

IMAGES, HINTED = torch.arange(100, 140), torch.tensor([103, 117, 139])


def sampler(mixed: bool = True, batch: int = 8, seed: int = 0, **known: object) -> Sampler:
    return Sampler(IMAGES, **{"hinted": HINTED, "mixed": mixed, "batch": batch, "seed": seed, **known})


@given(st.integers(1, 40), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 5))
def test_every_step_has_a_whole_batch_of_training_images(batch, mixed, hints, weighted, epoch):
    known = {"hinted": HINTED if hints else HINTED[:0], "weights": torch.ones(40) if weighted else None}
    found = sampler(mixed, batch, **known)
    for step in (epoch * found.steps, (epoch + 1) * found.steps - 1):
        indices = found.of(step)
        assert indices.shape == (batch,)
        assert bool(torch.isin(indices, IMAGES).all())


@pytest.mark.parametrize("weights", [None, torch.ones(40)])
def test_all_methods_take_as_many_steps(weights):
    """A comparison of methods is one of equal numbers of updates."""
    assert sampler(True).steps == sampler(False, weights=weights).steps == 40 // 6


def test_without_hints_an_epoch_sees_every_image_once():
    plain = sampler(False, hinted=HINTED[:0])
    seen = torch.cat([plain.of(step) for step in range(plain.steps)])
    assert plain.steps == 5
    assert sorted(seen.tolist()) == IMAGES.tolist()


def test_a_quarter_of_every_batch_has_a_hint():
    mixed = sampler()
    for step in range(20):
        assert bool(torch.isin(mixed.of(step)[-round(HINTED_SHARE * 8) :], HINTED).all())
    assert len({tuple(mixed.of(step)[-2:].tolist()) for step in range(20)}) > 3
    order = torch.cat([mixed.of(step)[:6] for step in range(mixed.steps)])
    assert len(order.unique()) == len(order)  # the others come once in an epoch


def test_the_same_step_sees_the_same_images_and_another_one_others():
    assert torch.equal(sampler().of(7), sampler().of(7))
    for other in (sampler().of(8), sampler(seed=1).of(7), sampler().of(7 + sampler().steps)):
        assert not torch.equal(sampler().of(7), other)


def test_weights_are_how_often_an_image_is_drawn():
    weights = torch.ones(40)
    weights[:2], weights[2:4] = 10, 0
    drawn = torch.cat([sampler(False, weights=weights).of(step) for step in range(600)])
    counts = (drawn - 100).bincount(minlength=40)
    assert counts[2:4].tolist() == [0, 0]
    assert float(counts[:2].sum() / counts.sum()) == pytest.approx(20 / 56, abs=0.02)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_every_group_has_the_same_total_weight(groups):
    groups = torch.tensor(groups)
    weights = group_weights(groups)
    totals = [float(weights[groups == g].sum()) for g in groups.unique()]
    assert totals == pytest.approx([1 / len(totals)] * len(totals), rel=1e-5)


def test_missing_groups_are_refused():
    assert need_groups(torch.tensor([0]), "dfr", "birds").tolist() == [0]
    with pytest.raises(InputError, match=r"'dfr' needs to know the group of every image .* and birds has none"):
        need_groups(None, "dfr", "birds")
