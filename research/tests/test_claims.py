"""The experiments on captions and questions: their measures, and one small run with the shipped network."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from research.claims.language_networks import SeededModel
from research.claims.maps import inside_and_outside, points
from research.claims.measure import Estimate, ItemValues, difference, estimate, verdict
from research.claims.vqa_maps import QuestionItem, QuestionResults, correctly_answered, cover, highest
from saywhy.toybox import scene
from saywhy.toybox.language import SceneQuestion

pytestmark = pytest.mark.nightly


def test_estimate_interval_covers_the_mean_with_correlated_items():
    generator = np.random.default_rng(0)
    held = 0
    for run in range(200):
        scenes = np.repeat(np.arange(60), 4)
        values = np.repeat(generator.normal(3, 2, 60), 4) + generator.normal(0, 0.5, 240)
        found = estimate(ItemValues(values, scenes.tolist()), seed=run)
        assert (found.items, found.scenes) == (240, 60)
        held += found.low <= 3 <= found.high
    assert 178 <= held <= 200  # 95 % of 200, and three standard deviations


def test_difference_is_paired():
    generator, scenes = np.random.default_rng(1), list(range(50))
    values = generator.normal(0, 100, 50)
    more = values + 1 + generator.normal(0, 0.1, 50)
    found = difference(ItemValues(more, scenes), ItemValues(values, scenes))
    assert found.value == pytest.approx(1, abs=0.05)
    assert verdict(found) == "holds"
    assert verdict(difference(ItemValues(values, scenes), ItemValues(more, scenes))) == "does not hold"
    assert verdict(Estimate(0.1, -1, 1, 9, 9)) == "not decidable here"
    with pytest.raises(ValueError, match="expected the same items"):
        difference(ItemValues(values, scenes), ItemValues(values, scenes[::-1]))


def test_invalid_measurements_raise():
    with pytest.raises(ValueError, match="expected finite measurements"):
        estimate(ItemValues(np.array([1.0, np.nan]), ["a", "b"]))
    with pytest.raises(ValueError, match="expected a scene for each measurement"):
        estimate(ItemValues(np.array([1.0, 2.0]), ["a"]))
    with pytest.raises(ValueError, match="expected a finite interval"):
        verdict(Estimate(0.0, float("nan"), 1.0, 2, 2))


def test_inside_and_outside_ratio_of_uniform_map_is_one():
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:3] = True
    assert inside_and_outside(torch.ones(8, 8), mask) == (1, 1)
    assert inside_and_outside(torch.zeros(8, 8), mask) == (1, 1)
    peak = torch.zeros(8, 8)
    peak[3, 2] = 5
    assert inside_and_outside(peak, mask) == (pytest.approx(64 / 6), 0)
    both = ItemValues(np.array([inside_and_outside(peak + 1, mask), (1.0, 1.0)]), ["a", "b"])
    (inside, outside), mean = inside_and_outside(peak + 1, mask), 69 / 64
    assert (inside, outside) == (pytest.approx(11 / 6 / mean), pytest.approx(1 / mean))
    assert estimate(both).value == pytest.approx((inside + 1) / (outside + 1))
    assert points(peak, mask) == 1
    assert points(torch.ones(8, 8), mask) == pytest.approx(6 / 64)


def test_highest_selects_at_most_a_tenth_of_positive_pixels():
    image = np.random.default_rng(2).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    found = torch.rand(10, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    mask = highest(found)
    assert mask.sum() == 20
    assert found[torch.from_numpy(mask)].min() > found[torch.from_numpy(~mask)].max()
    assert ((cover(image, mask) != image).any(2) <= mask).all()
    few = torch.zeros(10, 20)
    few[0, :3] = 1
    assert (highest(few) == (few > 0).numpy()).all()
    assert not highest(-found).any()


class Bright:
    """Replaces an item; its log-odds are the brightness of the image's left half."""

    def __init__(self) -> None:
        drawn = scene("talk-test", 33)
        image = np.zeros_like(drawn.image)
        image[:, :64] = 200
        self.scene, self.network, self.size = replace(drawn, image=image), SimpleNamespace(seed=0), (128, 128)
        self.place = (0, 33)

    def log_odds(self, image: np.ndarray) -> float:
        return float(image[:, :64].mean())


def test_covering_the_evidence_for_an_answer_lowers_it():
    results, item = QuestionResults(), Bright()
    needed = torch.zeros(128, 128)
    needed[40:60, 10:50] = 1
    results._covered(item, "for", needed)  # type: ignore[arg-type]
    results._covered(item, "for", torch.zeros(128, 128))  # type: ignore[arg-type]  # nothing to be covered
    (there,), (elsewhere,) = (results.measurements.values["for", where] for where in ("there", "elsewhere"))
    assert there == pytest.approx(-100 * 800 / (64 * 128))
    assert there <= elsewhere <= 100 * 800 / (64 * 128)


@pytest.fixture(scope="module")
def item() -> QuestionItem:
    import saywhy

    return next(correctly_answered(SeededModel(0, saywhy.load("toybox:vqa"))))


def test_log_odds_are_those_of_the_probability(item):
    odds = item.log_odds(item.scene.image)
    found = item.explain(item.question.answer, "eigencam").probabilities
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(float(found), rel=1e-4)


def test_the_map_of_another_answer_is_measured_on_its_object(item, monkeypatch):
    drawn = scene("talk-test", 33)  # a flower, a bird and a dog
    flower = next(t for t in drawn.objects if t.kind == "flower")
    bird = next(t for t in drawn.objects if t.kind != "flower")
    results = QuestionResults()
    maps = {"other": torch.from_numpy(bird.mask).double(), "own": torch.from_numpy(flower.mask).double()}
    monkeypatch.setattr("research.claims.vqa_maps.positive_map", lambda found, *_: maps[found])
    question = SceneQuestion("colour", "what colour is the flower?", flower.colour, flower.mask)
    of_flower = SimpleNamespace(
        question=question,
        scene=replace(drawn, objects=(flower, bird)),
        found="own",
        explain=lambda *_: "other",
        size=(128, 128),
        place=(0, 33),
    )
    results._another_answer(of_flower)  # type: ignore[arg-type]
    (its,), (own,) = (results.measurements.values["other answer", who] for who in ("its map", "the answer's map"))
    assert (its, own) == (pytest.approx(128 * 128 / bird.mask.sum()), 0)


@pytest.mark.nightly
def test_a_small_run_prints_its_tables(capsys):
    from research.claims.language import main

    main(out=None, seeds=1, items=0.1)
    page = capsys.readouterr().out
    assert page.count("| claim | difference | verdict |") == 2
    assert "and 10% of the items" in page
    assert "17 captions with" in page
    assert "25 questions about" in page
    assert "nan" not in page
