"""The experiments of diagnosis: attacks with known outcomes, biased images, failures, and the proxy for trust."""

from dataclasses import dataclass, replace
from math import log

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

import saywhy
from research.claims import bias, language_networks
from research.claims.adversarial_attack import attack, odds, random_signs
from research.claims.adversarial_pointing import (
    MOMENTS,
    AttackedCase,
    MapSimilarity,
    Pointing,
    attacked_cases,
    draw_absent_class,
)
from research.claims.bias import KINDS, BiasResults, draw_images, masks_of, network
from research.claims.cases import Case, answer, located_case, pixels
from research.claims.classifiers import Classifier
from research.claims.failure_modes import Failure, FailureResults, failures
from research.claims.measure import ItemValues, difference, unpaired_difference, verdict
from research.claims.model_preference import PreferenceResults, found_by_both
from research.claims.multiple_testing import resolved
from research.claims.section import zeros_allowed
from research.claims.study import items
from saywhy.errors import InputError
from saywhy.models.preprocess import MeasuredPreprocess, Preprocess
from saywhy.output import ModelOutput
from saywhy.toybox.localized import ToyboxDataset
from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.training.loop import Phase, Plan

pytestmark = pytest.mark.nightly

SILENT = Progress(disable=True)


class Levels(nn.Module):
    """Two classes that read the level of light of one pixel each: half of it, less 50, and something more."""

    def __init__(self, more: tuple[float, float]) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.tensor(more))

    def forward(self, x: Tensor) -> Tensor:
        return 255 * x[:, 0, 0, :2] / 2 - 50 + self.more


def levels(more: tuple[float, float], multilabel: bool = True) -> saywhy.Model:
    plain = Preprocess(resize=None, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return saywhy.Model(Levels(more), "levels", plain, ("there", "absent"), multilabel=multilabel)


GREY = torch.full((1, 3, 1, 2), 100 / 255)
THERE = torch.tensor([[True, False]])
ABSENT = torch.tensor([1])


class TestAttack:
    def test_attack_stops_one_step_after_success(self):
        """The absent class has 7 and needs log(9999) = 9.21, five levels; the other has -3 and must be below -4.6."""
        after = attack(levels((-3.0, 7.0)), GREY, ABSENT, THERE)
        assert pixels(levels((0.0, 0.0)), after.fed)[0, 0, 0].round(decimals=3).tolist() == [95.0, 105.0]
        assert after.fed[0, 1:].unique().tolist() == GREY.unique().tolist()  # of what nothing depends on nothing moves
        assert (after.steps.item(), after.reached.item()) == (5, True)
        assert after.probabilities.item() == pytest.approx(1 / (1 + np.exp(-9.5)), rel=1e-6)
        assert after.present.item() == pytest.approx(1 / (1 + np.exp(5.5)), rel=1e-3)

    def test_pixels_stay_within_epsilon(self):
        after = attack(levels((-3.0, 0.0)), GREY, ABSENT, THERE, epsilon=8, steps=20)
        assert pixels(levels((0.0, 0.0)), after.fed)[0, 0, 0].round(decimals=3).tolist() == [94.0, 108.0]
        assert (after.steps.item(), after.reached.item()) == (20, False)

    def test_pixels_stay_within_0_and_255(self):
        bright = torch.full((1, 3, 1, 2), 253 / 255)
        after = attack(levels((-80.0, -80.0)), bright, ABSENT, THERE, epsilon=8, steps=20)
        assert pixels(levels((0.0, 0.0)), after.fed)[0, 0, 0, 1].item() == pytest.approx(255)

    def test_an_image_that_already_fools_the_network_is_not_changed(self):
        after = attack(levels((-6.0, 12.0)), GREY, ABSENT, THERE)
        assert torch.equal(pixels(levels((0.0, 0.0)), after.fed).round(), torch.full((1, 3, 1, 2), 100.0))
        assert after.steps.item() == 0

    def test_softmax_attack_lowers_present_and_raises_absent_class(self):
        model = levels((3.0, 0.0), multilabel=False)
        after = attack(model, GREY, ABSENT, THERE, epsilon=20)
        rise = after.steps.item()
        assert rise == np.ceil(log(9999) + 3)  # a level up and a level down are one unit of log-odds
        assert pixels(model, after.fed)[0, 0, 0].round(decimals=3).tolist() == [100.0 - rise, 100.0 + rise]

    def test_images_of_a_batch_are_independent(self):
        net, generator = saywhy.load("toybox:classifier"), torch.Generator().manual_seed(0)
        fed = torch.randn(3, 3, 32, 32, generator=generator)
        absent, present = torch.tensor([3, 4, 5]), torch.zeros(3, 20, dtype=torch.bool)
        together = attack(net, fed, absent, present, steps=4)
        alone = [attack(net, fed[i : i + 1], absent[i : i + 1], present[i : i + 1], steps=4) for i in range(3)]
        torch.testing.assert_close(together.fed, torch.cat([one.fed for one in alone]))
        assert all(parameter.grad is None for parameter in net.module.parameters())

    def test_invalid_arguments_raise(self):
        with pytest.raises(InputError, match="expected a target class that is absent from the image"):
            attack(levels((0.0, 0.0)), GREY, torch.tensor([0]), THERE)
        other = replace(levels((0.0, 0.0)), preprocess=MeasuredPreprocess(lambda image: torch.zeros(3, 1, 2)))
        with pytest.raises(InputError, match="to normalise by mean and standard deviation, got MeasuredPreprocess"):
            attack(other, GREY, ABSENT, THERE)

    def test_log_odds_are_those_of_the_probability(self):
        logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        classes = torch.arange(6) % 5
        for multilabel in (False, True):
            said = ModelOutput(logits, multilabel=multilabel)
            p = said.values("probability").gather(1, classes[:, None])[:, 0]
            torch.testing.assert_close(odds(said, classes), (p / (1 - p)).log())

    def test_random_signs_keep_the_step_size(self):
        model, changed = levels((0.0, 0.0)), GREY.expand(1, 3, 1, 2).repeat(1, 1, 40, 40) + 3 / 255
        drawn = pixels(model, random_signs(model, changed - 3 / 255, changed))
        assert drawn.round().unique().tolist() == [97.0, 103.0]
        assert abs(float(drawn.mean()) - 100) < 0.3


class Maps(dict[str, Tensor]):
    """Replaces an explanation."""

    input_size = (4, 4)

    def heatmap(self, size, normalize, method):
        return self[method]


@dataclass(frozen=True, eq=False)
class Known(Case):
    """A case whose maps are given: for every class, then for the absent one."""

    given: tuple[Tensor, ...] = ()

    def explain(self, target, methods, **more):
        return Maps({method: torch.stack(self.given)[None] for method in methods})


@pytest.fixture(scope="module")
def known() -> Known:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = True
    model = saywhy.load("toybox:classifier", "random")
    return Known(0, 7, model, torch.zeros(1, 3, 4, 4), (2,), (2,), (4, 4), (0, 0, 4, 4), masks, (((0, 0, 2, 2),),))


def peak(row: int, column: int) -> Tensor:
    one = torch.zeros(4, 4)
    one[row, column] = 1.0
    return one


class TestAttackedCase:
    def test_hits_are_counted_before_and_after_and_for_a_random_position(self, known):
        off = replace(known, given=(peak(3, 3), peak(0, 0)))
        on = replace(known, given=(peak(0, 1), peak(0, 0)))
        pointing = Pointing()
        pointing.add("some", AttackedCase({"before": on, "random signs": on, "after": off}, 5, True))
        pointing.add(
            "some", AttackedCase({"before": off, "random signs": off, "after": on}, 5, False)
        )  # it did not succeed
        hits = pointing.measurements.estimates("some hits gradcam", (*MOMENTS, "random position"))
        assert [found.value for found in hits.values()] == [1, 1, 0, 0.25]
        assert pointing.measurements.of("some absent gradcam", "on the objects").values.tolist() == [1.0]
        assert pointing.measurements.of("some absent gradcam", "of the image").values.tolist() == [0.25]
        assert "The attack succeeds on 50% of 2 images" in pointing.tables("some", "nothing")

    def test_an_empty_map_misses_and_is_counted(self, known):
        empty = replace(known, given=(torch.zeros(4, 4), peak(0, 0)))
        pointing = Pointing()
        pointing.add("some", AttackedCase(dict.fromkeys(MOMENTS, empty), 5, True))
        assert pointing.measurements.of("some hits rsi-gradcam", "after").values.tolist() == [0.0]
        assert pointing.measurements.of("some energy rsi-gradcam", "after").values.tolist() == [0.25]
        assert pointing.empty["some", "gradcam", "after"] == 1

    def test_unchanged_map_is_more_similar_than_that_of_another_image(self, known):
        similarity = MapSimilarity()
        for number in range(6):
            one = replace(known, number=number, given=(peak(number % 4, number % 4),))
            similarity.add("some", AttackedCase(dict.fromkeys(MOMENTS, one), 5, True))
        found = similarity.measurements.estimates("some gradcam", ("random signs", "after", "another image"))
        assert found["after"].value == found["random signs"].value == pytest.approx(1)
        assert found["another image"].value < 0.5
        assert found["after"].items == 5  # the first has no other image before it
        assert resolved(str(similarity.verdicts()[0][2]))[0] == "holds"

    def test_the_absent_class_is_neither_present_nor_among_the_top_five(self, known):
        logits = torch.arange(20.0)
        drawn = {draw_absent_class(replace(known, number=number), logits) for number in range(200)}
        assert drawn == set(range(15)) - {2}

    def test_attack_on_toybox_succeeds_and_keeps_the_case(self):
        network = Classifier(0, saywhy.load("toybox:classifier"))
        case = next(case for item in items(network, ToyboxDataset("test"), range(9)) if (case := located_case(item)))
        (one,) = attacked_cases([case])
        probabilities = {
            moment: answer(case.model, some.fed).values("probability")[0] for moment, some in one.moments.items()
        }
        assert one.reached
        assert one.absent not in case.objects
        assert probabilities["after"][one.absent] > 0.9999
        assert all(
            probabilities["after"][index] < 0.01 < 0.5 < probabilities["before"][index] for index in case.classes
        )
        moved = (pixels(case.model, one.moments["after"].fed) - pixels(case.model, case.fed)).abs()
        assert 0 < moved.max() <= 8.001


class TestBias:
    def test_drawn_images_have_one_kind_and_its_home(self):
        for split, most, least in (("biased-train", 1.0, 0.8), ("train", 0.5, 0.0), ("biased-test", 0.0, 0.0)):
            images = draw_images(split, 6, 0)
            assert images.classes.bincount().tolist() == [6] * 8
            for one, index in zip(images.scenes, images.classes.tolist(), strict=True):
                assert {obj.kind for obj in one.objects} & set(KINDS) == {KINDS[index]}
            assert least <= images.at_home <= most
        assert len({CATALOGUE[kind].home for kind in KINDS}) == len(KINDS)

    def test_seeds_draw_different_images(self):
        first, second = ({one.index for one in draw_images("train", 3, seed).scenes} for seed in (0, 1))
        assert not first & second

    def test_masks_are_of_the_kind_and_of_the_background(self):
        one = draw_images("train", 1, 0).scenes[0]
        kind = next(obj.kind for obj in one.objects if obj.kind in KINDS)
        obj, background = masks_of(one, kind)
        assert int(obj.sum()) == sum(each.area for each in one.objects if each.kind == kind)
        assert int(background.sum()) == 64 * 64 - sum(each.area for each in one.objects)

    def test_an_interval_of_two_groups_holds_their_difference(self):
        generator, held = np.random.default_rng(0), 0
        for run in range(100):
            first, second = (ItemValues(generator.normal(mean, 1, 40), list(range(40))) for mean in (3.0, 1.0))
            found = unpaired_difference(first, second, run)
            held += found.low <= 2 <= found.high
        assert 86 <= held <= 100

    def test_biased_networks_are_stored_and_measured(self, tmp_path, monkeypatch):
        monkeypatch.setattr(language_networks, "FOLDER", tmp_path)
        plan = Plan((Phase(2, 64),), batch=32)
        measured = BiasResults()
        with zeros_allowed():
            measured.add(0, 8, 0.1, SILENT, plan)
        assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".safetensors"] * 2
        monkeypatch.setattr(bias, "_train", lambda *_: pytest.fail("it was trained again"))
        kept = network("biased", 0, 8, SILENT, plan)
        assert kept.labels == KINDS
        assert measured.measurements.of("test accuracy", "biased").values.shape == (40,)
        table = measured.section()
        assert "| biased | " in table
        assert table.count("82 %") == 2
        assert "nan" not in table


class Sides(nn.Module):
    """The logits of "left", "right" and "nothing" are the light in the halves of the image, and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        self.features.weight.data.fill_(1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        light = self.features(x).relu()
        left, right = light[:, 0, :, :8].mean((1, 2)), light[:, 1, :, 8:].mean((1, 2))
        return torch.stack([left, right, torch.zeros_like(left)], 1)


@pytest.fixture
def side() -> Case:
    plain = Preprocess(resize=None, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    model = saywhy.Model(Sides(), "sides", plain, ("left", "right", "nothing"), layer="features")
    fed = torch.zeros(1, 3, 16, 16)
    fed[..., :2, :8], fed[..., :4, 8:] = 1.0, 1.0  # the right half has more light
    return Case(0, 0, model, fed, (0,), (0,), (16, 16), (0, 0, 16, 16))


class TestFailures:
    def test_failures_separates_wrong_and_right_predictions(self, side):
        wrong, well = failures([side, replace(side, number=1, classes=(1,))])
        assert [(f.name, f.label(f.other)) for f in wrong] == [("left", "right")]
        assert [(f.name, f.label(f.other)) for f in well] == [("right", "left")]

    def test_covering_evidence_for_the_wrong_class_helps_the_true_one(self, side):
        (failure,), _ = failures([side])
        failed = FailureResults()
        evidence = torch.zeros(16, 16)
        evidence[:4, 8:] = 1.0
        there, elsewhere = failed._covered(failure, evidence)
        mean = 48 / 256
        # A tenth is 25 of the 32 bright pixels; each falls from 1 to the mean.
        assert there == pytest.approx(25 * (1 - mean) / 128, rel=1e-4)
        assert elsewhere < there

    def test_a_table_has_a_row_for_every_failure(self, side):
        failed = FailureResults()
        failed.add(Failure(side, 1), wrong=True)
        failed.add(Failure(replace(side, number=1, classes=(1,)), 0), wrong=False)
        (row,) = failed.rows
        assert row[:1] + row[2:4] == ["left", 2, "right"]
        assert failed.section().count("not decidable here") >= 1


class TestPreference:
    def test_only_classes_that_both_find_are_compared(self, side):
        case = replace(side, classes=(0, 1), masks=torch.ones(2, 16, 16, dtype=torch.bool), boxes=((), ()))
        blind = replace(side.model, module=Sides(), multilabel=True)
        blind.module.features.weight.data[0] = -9.0  # never sees the left
        both = found_by_both(case, blind)
        assert both is not None
        assert (both.classes, len(both.masks)) == ((1,), 1)

    def test_a_network_is_not_preferred_to_itself(self):
        model = saywhy.load("toybox:classifier")
        case = next(
            c for item in items(Classifier(0, model), ToyboxDataset("test"), range(9)) if (c := located_case(item))
        )
        preferred = PreferenceResults()
        preferred.add(case, model)
        assert set(preferred.measurements.of("preferred", "gradcam").values.tolist()) == {0.5}
        same = difference(
            preferred.measurements.of("energy gradcam", "better"), preferred.measurements.of("energy gradcam", "worse")
        )
        assert verdict(same) == "not decidable here"


@pytest.mark.nightly
def test_attacks_and_failures_run_from_end_to_end():
    from research.claims.diagnosis import attacks, failures_section
    from research.claims.study import Study

    network = Classifier(0, saywhy.load("toybox:classifier"))
    study = Study((network,), ToyboxDataset("test", 20_000), None)
    with zeros_allowed():
        page = attacks(SILENT, 0.05, study) + failures_section(SILENT, 0.1)
    assert "## Adversarial images" in page
    assert "## Failure modes" in page
    assert "nan" not in page
