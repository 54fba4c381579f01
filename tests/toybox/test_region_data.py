"""Region data: means in boxes, importances, and the data of every scene."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import saywhy
from oracles import regions as oracle
from oracles.alignment import region_importance
from saywhy.toybox import scene
from saywhy.toybox.language import ANSWERS, TYPES, annotations, human_attention, questions
from saywhy.toybox.models.classifier import normalised
from saywhy.toybox.recipes.region_data import REGION_CHANNELS, RegionData, box_means, region_data
from saywhy.toybox.scenes.proposals import proposals

SCENES, PEOPLE = 5, 2


@st.composite
def boxes(draw, width: int, height: int) -> list[float]:
    """A box inside of width by height, with edges anywhere."""
    left, top = draw(st.floats(0, width - 0.1)), draw(st.floats(0, height - 0.1))
    return [left, top, draw(st.floats(left + 0.05, width)), draw(st.floats(top + 0.05, height))]


@settings(max_examples=30)
@given(st.lists(boxes(6, 4), min_size=1, max_size=3), st.integers(0, 2**32))
def test_means_in_boxes_are_the_sums_over_cells(placed, seed):
    features = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = torch.tensor([placed], dtype=torch.float64) / torch.tensor([6.0, 4.0, 6.0, 4.0])
    found = box_means(features, shares)[0].numpy()
    for box, mean in zip(placed, found, strict=True):
        np.testing.assert_allclose(mean, oracle.box_mean(features[0].numpy(), box), rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def data() -> RegionData:
    return region_data("priors-val", SCENES, people=PEOPLE)


@pytest.mark.slow
def test_data_are_those_of_the_scenes(data):
    model = saywhy.load("toybox:vqa")
    known = model.texts["question"].__self__
    assert len(data) == SCENES
    assert data.regions.shape == (SCENES, 24, REGION_CHANNELS)
    for i in range(SCENES):
        drawn = scene("priors-val", i)
        placed = proposals(drawn)
        assert np.array_equal(data.boxes[i], placed)
        with torch.inference_mode():
            image = torch.from_numpy(drawn.image).permute(2, 0, 1).unsqueeze(0).float() / 255
            features = model.module.trunk(normalised(image))[0].numpy()
        for r, box in enumerate(placed.tolist()):
            wanted = [*oracle.box_mean(features, [edge / 8 for edge in box]), *(edge / 128 for edge in box)]
            np.testing.assert_allclose(data.regions[i, r], wanted, atol=2e-2)  # the depths are float16
        asked = questions(drawn)
        assert int((data.answers[i] >= 0).sum()) == len(asked)
        for question in asked:
            place = i, list(TYPES).index(question.type)
            assert ANSWERS[data.answers[place]] == question.answer
            assert data.words[place][data.words[place] != 0].tolist() == list(known.encode(question.text))
            people = annotations(drawn, question)
            for number, answer in enumerate(ANSWERS):
                assert float(data.scores[place][number]) == pytest.approx(min(1, 0.3 * people.count(answer)), abs=1e-6)
            seen = human_attention(drawn, question, PEOPLE).mean(0)
            for maps, found in ((seen, data.human_importance), (question.evidence, data.evidence_importance)):
                wanted = [region_importance(maps, box) for box in placed[:3].tolist()]
                np.testing.assert_allclose(found[place][:3], wanted, rtol=1e-4)
    none = data.answers < 0
    assert bool(data.human_importance[none].isnan().all())
    assert bool(data.evidence_importance[none].isnan().all())
    assert not data.human_importance[~none].isnan().any()


@pytest.mark.slow
def test_people_look_at_the_evidence(data):
    asked = data.answers >= 0
    human, evidence = data.human_importance[asked], data.evidence_importance[asked]
    ranks = [part.argsort(1).argsort(1).double() for part in (human, evidence)]
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)])
    assert float(correlation.mean()) > 0.6


@pytest.mark.slow
def test_features_are_frozen_and_no_region_is_padding(data):
    assert not data.regions.requires_grad
    assert not data.regions.is_inference()
    assert bool(data.regions.any(2).all())


@pytest.mark.nightly
def test_a_pool_of_processes_draws_the_same():
    alone, pooled = (region_data("priors-train", 3, processes=processes) for processes in (0, 2))
    for name, value in vars(alone).items():
        torch.testing.assert_close(getattr(pooled, name), value, rtol=0, atol=0, equal_nan=True, msg=name)
