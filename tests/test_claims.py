"""The experiments on captions and questions: their measures, and one small run with the network that ships."""

import numpy as np
import pytest
import torch
from claims.asked import cover
from claims.maps import inside_and_outside, points
from claims.measure import Estimate, difference, estimate, mean, ratio, verdict


def test_an_interval_holds_the_mean_as_often_as_it_says():
    chance = np.random.default_rng(0)
    held = 0
    for run in range(200):
        found = estimate(chance.normal(3, 2, 60), seed=run)
        assert found.low < found.value < found.high
        held += found.low <= 3 <= found.high
    assert 178 <= held <= 200  # 95 % of 200, and three times its spread


def test_pairs_are_compared_pair_by_pair():
    chance = np.random.default_rng(1)
    items = chance.normal(0, 100, 50)
    found = difference(items + 1, items, mean)
    assert found.value == pytest.approx(1)
    assert verdict(found) == "holds"
    assert verdict(difference(items, items + 1, mean)) == "does not hold"
    assert verdict(Estimate(0.1, -1, 1, 9)) == "not decidable here"
    with pytest.raises(ValueError, match="got 50 and 49"):
        difference(items, items[1:])


def test_a_ratio_of_means_is_one_for_a_map_that_knows_nothing():
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:3] = True
    inside, outside = inside_and_outside(torch.ones(8, 8), mask)
    assert (inside, outside) == (1, 1)
    peak = torch.zeros(8, 8)
    peak[3, 2] = 5
    assert inside_and_outside(peak, mask) == (pytest.approx(64 / 6), 0)
    assert float(ratio(np.array([[64 / 6, 0.0], [1.0, 1.0]]))) == pytest.approx(64 / 6 + 1)
    assert points(peak, mask) == 1
    assert points(torch.ones(8, 8), mask) == pytest.approx(6 / 64)
    assert inside_and_outside(torch.zeros(8, 8), mask) == (1, 1)


def test_a_tenth_is_covered_where_a_map_is_highest():
    image = np.random.default_rng(2).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    found = torch.rand(10, 20, generator=torch.Generator().manual_seed(0))
    changed = (cover(image, found) != image).any(2)
    assert changed.sum() == 20
    assert found[torch.from_numpy(changed)].min() > found[torch.from_numpy(~changed)].max()


@pytest.mark.slow
def test_a_small_run_prints_its_tables(capsys):
    from claims.language import main

    main(out=None, seeds=1, items=0.1)
    page = capsys.readouterr().out
    assert page.count("| claim | difference | verdict |") == 2
    assert "10 captions with" in page
    assert "30 questions that the networks answer rightly" in page
    assert "nan" not in page
