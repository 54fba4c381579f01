"""Intervals and verdicts of claims: networks are a sample too, verdicts of a page are corrected, nothing without width.

All measurements here are made up, so that the true answers are known.
"""

from itertools import product

import numpy as np
import pytest

from research.claims.caption_maps import CaptionResults
from research.claims.faithfulness import REAL, WINDOWS, FaithfulnessResults
from research.claims.maps import MapMeasurements
from research.claims.measure import FEWEST, UNDECIDED, ItemValues, difference, estimate, unpaired_difference, verdict
from research.claims.multiple_testing import holm, resolved
from research.claims.vqa_maps import QuestionResults
from saywhy.statistics import percentile_interval, student_margin, wilson


def of_networks(means: list[float], scenes: int = 40, noise: float = 1.0, seed: int = 0) -> ItemValues:
    """Return made-up measurements of networks with these true means."""
    generator = np.random.default_rng(seed)
    values = [generator.normal(mean, noise, scenes) for mean in means]
    places = [(network, scene) for network in range(len(means)) for scene in range(scenes)]
    return ItemValues(np.concatenate(values), places, [network for network, _ in places])


def shares(hits: list[int], networks: int = 1, share: bool = True) -> ItemValues:
    """Return one hit or miss of each scene, of networks in turn."""
    places = [(number % networks, number) for number in range(len(hits))]
    return ItemValues(np.array(hits, float), places, [network for network, _ in places], share)


class TestNetworks:
    def test_the_second_interval_is_student_over_the_networks_own_values(self):
        measured = of_networks([0.2, 0.5, 0.8])
        found = estimate(measured)
        own = measured.values.reshape(3, -1).mean(1)
        assert found.networks == pytest.approx(tuple(own))
        low, high = found.over_networks
        assert (low + high) / 2 == pytest.approx(own.mean())
        assert (high - low) / 2 == pytest.approx(student_margin(own))
        assert str(found).endswith(f"; networks {low:.3g} to {high:.3g})")

    def test_a_claim_that_holds_over_scenes_and_not_over_networks_is_undecided(self):
        found = estimate(of_networks([2.0, 0.1, 4.0]))
        assert found.low > 0
        assert found.over_networks[0] < 0
        assert verdict(found) == UNDECIDED
        assert verdict(estimate(of_networks([2.0, 2.1, 1.9]))) == "holds"
        assert verdict(estimate(of_networks([-2.0, -2.1, -1.9]))) == "does not hold"

    def test_a_claim_that_holds_over_networks_and_not_over_scenes_is_undecided(self):
        values = np.tile([-3.0, 3.2, -3.1, 3.3], 6)
        places = [(number // 8, number) for number in range(24)]
        values += 0.001 * np.array([network for network, _ in places])
        found = estimate(ItemValues(values, places, [network for network, _ in places]))
        assert found.over_networks[0] > 0
        assert found.low < 0 < found.high
        assert verdict(found) == UNDECIDED

    def test_networks_that_disagree_in_sign_with_the_pooled_value_are_undecided(self):
        """Pooled, one network with many scenes decides; over networks the mean is below zero."""
        generator = np.random.default_rng(0)
        sizes, means = (300, 10, 10), (1.0, -9.0, -9.1)
        values = [generator.normal(mean, 0.1, size) for mean, size in zip(means, sizes, strict=True)]
        networks = [network for network, size in enumerate(sizes) for _ in range(size)]
        found = estimate(ItemValues(np.concatenate(values), list(enumerate(networks)), networks))
        assert found.value > 0
        assert np.mean(found.networks) < 0
        assert verdict(found) == UNDECIDED

    @pytest.mark.slow
    def test_few_true_null_hypotheses_are_decided_when_networks_vary(self):
        """Networks differ by chance, and the mean network has no effect: five in a hundred may be decided."""
        generator, decided, over_scenes = np.random.default_rng(3), 0, 0
        for run in range(60):
            found = estimate(of_networks(generator.normal(0, 1, 3).tolist(), 12, 1.0, run), seed=run)
            decided += verdict(found) != UNDECIDED
            over_scenes += not found.low <= 0 <= found.high
        assert over_scenes > 25  # what pooling networks as if they were fixed would decide
        assert decided <= 7

    def test_differences_are_paired_within_each_network(self):
        first = of_networks([1.0, 5.0, 9.0])
        second = ItemValues(first.values - np.repeat([0.5, 0.6, 0.7], 40), first.scenes, first.networks)
        found = difference(first, second)
        assert found.networks == pytest.approx((0.5, 0.6, 0.7))
        assert verdict(found) == "holds"

    def test_unpaired_differences_need_the_same_networks(self):
        first, second = of_networks([2.0, 3.0]), of_networks([1.0, 1.0], seed=1)
        assert len(unpaired_difference(first, second).networks) == 2
        with pytest.raises(ValueError, match="expected the same networks on both sides"):
            unpaired_difference(first, of_networks([1.0]))

    def test_one_network_is_stated_in_a_claim(self):
        kept = MapMeasurements()
        for number in range(12):
            kept.add("energy", "one", 1.0 + 0.1 * number, (0, number))
        _, cell, placeholder = kept.claim_above("it is", "energy", "one")
        assert cell.endswith("; one network)")
        assert resolved(placeholder)[0] == "holds"

    def test_measurements_carry_the_network_of_their_scene(self):
        kept = MapMeasurements()
        for network in range(3):
            for number in range(6):
                kept.add("energy", "one", network + 0.1 * number, (network, number))
        assert estimate(kept.of("energy", "one")).networks == pytest.approx((0.25, 1.25, 2.25))
        assert kept.networks("energy", "one") == "0.25, 1.25, 2.25"

    def test_networks_without_variation_are_not_decided(self):
        """Student's interval over equal values would have no width."""
        measured = of_networks([1.0, 1.0, 1.0], noise=0.3)
        same = ItemValues(np.tile(measured.values[:40], 3), measured.scenes, measured.networks)
        found = estimate(same)
        assert str(found).endswith("; networks equal)")
        assert verdict(found) == UNDECIDED


class TestWidth:
    def test_a_share_of_equal_hits_has_wilsons_interval(self):
        found = estimate(shares([1] * 12))
        assert (found.low, found.high) == pytest.approx(wilson(1.0, 12))
        assert str(found) == "1 (0.758 to 1)"
        assert (estimate(shares([0] * 12)).low, estimate(shares([0] * 12)).high) == pytest.approx(wilson(0.0, 12))

    def test_wilsons_interval_counts_scenes_and_not_items(self):
        twelve = ItemValues(np.ones(36), np.repeat(np.arange(12), 3).tolist(), (), True)
        assert estimate(twelve).low == pytest.approx(wilson(1.0, 12)[0])

    def test_a_share_above_one_half_is_decided_by_wilsons_interval(self):
        found = estimate(shares([1] * 12), over=0.5)
        assert (found.low, found.high) == pytest.approx((wilson(1.0, 12)[0] - 0.5, 0.5))
        assert verdict(found) == "holds"
        assert verdict(estimate(shares([0] * 12), over=0.5)) == "does not hold"
        assert verdict(estimate(shares([1] * 12), over=0.9)) == UNDECIDED

    def test_a_difference_of_shares_that_is_always_one_has_wilsons_interval(self):
        found = difference(shares([1] * 12), shares([0] * 12))
        assert (found.low, found.high) == pytest.approx((2 * wilson(1.0, 12)[0] - 1, 1.0))
        assert verdict(found) == "holds"
        assert verdict(difference(shares([0] * 12), shares([1] * 12))) == "does not hold"

    def test_a_difference_without_width_is_not_decided_and_says_why(self):
        found = difference(shares([1, 0] * 6), shares([1, 0] * 6))
        assert str(found) == "0 (no variation between scenes)"
        assert verdict(found) == UNDECIDED
        shifted = ItemValues(np.arange(12.0) + 3, list(range(12)))
        found = difference(shifted, ItemValues(np.arange(12.0), list(range(12))))
        assert (str(found), verdict(found)) == ("3 (no variation between scenes)", UNDECIDED)

    def test_a_correlation_that_is_always_one_is_no_share(self):
        found = estimate(shares([1] * 12, share=False), over=0.95)
        assert str(found) == "0.05 (no variation between scenes)"
        assert verdict(found) == UNDECIDED

    def test_rounding_is_no_width(self):
        values = 0.1 + np.finfo(float).eps * np.arange(8.0)
        assert str(estimate(ItemValues(values, list(range(8))))) == "0.1 (no variation between scenes)"

    def test_a_narrow_interval_is_printed_with_its_width(self):
        found = estimate(ItemValues(0.05 - 1e-7 * np.arange(1.0, 9.0), list(range(8))))
        low, high = str(found).split("(")[1].rstrip(")").split(" to ")
        assert float(low) < float(high)

    @pytest.mark.parametrize("scenes", range(1, FEWEST))
    def test_fewer_scenes_than_fewest_are_not_bootstrapped(self, scenes):
        found = estimate(ItemValues(1.0 + np.arange(3.0 * scenes), np.repeat(np.arange(scenes), 3).tolist()))
        assert np.isnan([found.low, found.high]).all()
        assert str(found).endswith(f"({scenes} scene{'s' * (scenes > 1)})")
        assert verdict(found) == UNDECIDED

    def test_an_unpaired_difference_counts_the_scenes_of_the_smaller_side(self):
        found = unpaired_difference(
            ItemValues(np.arange(40.0) + 99, list(range(40))), ItemValues(np.arange(4.0), [0] * 4)
        )
        assert (found.scenes, verdict(found)) == (1, UNDECIDED)

    def test_a_statistic_without_a_denominator_in_some_resample_is_not_decided(self):
        rows = np.array([[1.0, 0.0]] * 5 + [[1.0, 1.0]])
        with np.errstate(divide="ignore"):
            found = estimate(ItemValues(rows, list(range(6))))
        assert str(found) == "6 (no finite interval)"
        assert verdict(found) == UNDECIDED


class TestPValues:
    @pytest.mark.slow
    def test_verdict_needs_both_intervals_to_exclude_zero(self):
        generator = np.random.default_rng(5)
        for run in range(40):
            found = estimate(of_networks(generator.normal(0.4, 0.3, 3).tolist(), 10, 1.0, run))
            intervals = ((found.low, found.high), found.over_networks)
            if verdict(found) == "holds":
                assert min(low for low, _ in intervals) > 0
            if verdict(found) == "does not hold":
                assert max(high for _, high in intervals) < 0

    def test_p_value_over_networks_is_that_of_students_test(self):
        from scipy.stats import ttest_1samp

        found = estimate(of_networks([0.8, 1.0, 1.3], noise=0.01))
        assert found.p_value == pytest.approx(ttest_1samp(found.networks, 0).pvalue)

    def test_p_value_over_scenes_is_near_that_of_students_test(self):
        """Resamples of few scenes alone would give a p-value of zero, and pass any correction."""
        from scipy.stats import ttest_1samp

        values = np.array([0.5, 1.0, 1.5, 2.0, 0.8])
        found = estimate(ItemValues(values, list(range(5))))
        assert found.p_value == pytest.approx(ttest_1samp(values, 0).pvalue, rel=0.2)
        assert found.p_value > 0.005

    def test_p_value_over_scenes_is_at_least_the_share_of_resamples(self):
        values = np.array([0.0] * 29 + [1.0])
        found = estimate(ItemValues(values, list(range(30))))
        low, _ = percentile_interval(np.array([found.low]))
        assert low == 0
        assert verdict(found) == UNDECIDED


class TestHolm:
    def test_adjusted_p_values_are_those_of_the_paper(self):
        assert holm([0.01, 0.02, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
        assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
        assert holm([0.9, 0.8]) == [1.0, 1.0]
        assert holm([]) == []

    def test_verdicts_of_a_page_are_corrected_together(self):
        claims = ["[[above zero: p = 0.001]]", "[[below zero: p = 0.004]]", "[[above zero: p = 0.02]]"]
        text, summary = resolved(" | ".join(claims))
        assert text == "holds | does not hold | holds"
        text, summary = resolved(" | ".join([*claims, *["[[above zero: p = 1]]"] * 9]))
        assert text.split(" | ")[:3] == ["holds", "does not hold", UNDECIDED]
        assert "12 verdicts" in summary
        assert "1 claim holds and 1 does not hold" in summary
        assert "without the correction, 2 would hold and 1 would not" in summary

    def test_text_without_claims_is_not_changed(self):
        assert resolved("| holds |") == ("| holds |", "")

    def test_rows_of_claims_are_placeholders_with_their_p_value(self):
        kept = MapMeasurements()
        for number in range(12):
            kept.add("energy", "one", 1.0 + 0.1 * number, (0, number))
            kept.add("energy", "two", 0.5 + 0.2 * (number % 3), (0, number))
        found = difference(kept.of("energy", "one"), kept.of("energy", "two"))
        row = kept.claim("more", "energy", "one", "two")
        assert row == ["more", found.as_claim(), f"[[above zero: p = {found.p_value:.6g}]]"]

    def test_a_claim_without_measurements_is_counted_and_not_decided(self):
        row = MapMeasurements().claim("it is", "energy", "one", "two")
        assert row[:2] == ["it is", "nothing to measure"]
        text, summary = resolved(str(row[2]))
        assert text == UNDECIDED
        assert "1 verdict " in summary


def test_a_section_of_three_networks_prints_both_intervals_and_one_of_one_network_says_so():
    generator, found = np.random.default_rng(7), FaithfulnessResults()
    for form, networks in (("gap", 3), (REAL, 1)):
        found.images[form] = form
        for who, mean in (("gradcam", 0.6), ("guided-backprop", 0.3), ("centre", 0.1), ("edges", 0.1)):
            for window, network, number in product(WINDOWS, range(networks), range(8)):
                value = mean + generator.normal(0, 0.05)
                found.measurements.add(f"{form}, {window}", who, value, (network, number))
    page, verdicts = resolved(found.report())
    rows = [line for line in page.split("### Verdicts")[1].splitlines() if line.startswith("| ")][2:]
    several, one = ([row for row in rows if whose in row] for whose in ("(pooling and a linear layer)", "(SqueezeNet)"))
    assert (len(several), len(one)) == (4, 4)
    assert all("; networks " in row and "one network" not in row for row in several)
    assert all("; one network)" in row for row in one)
    assert sum("| holds |" in row for row in one) == 4
    assert verdicts.startswith("8 verdicts are printed")


class TestEmptySections:
    def test_questions_without_covered_images_or_other_answers_have_a_report(self):
        """As of `research.claims.language --items 0.01`, whose two questions are about numbers."""
        found = QuestionResults()
        for what in ("evidence", "points", "occlusion", "people"):
            for number in range(2):
                found.measurements.add(what, "gradcam", (1.0, 2.0) if what == "evidence" else 1.0, (0, number))
        page, verdicts = resolved(found.report())
        assert "its own map nothing to measure" in page.replace("\n", " ")
        assert "| … and raises it at all | nothing to measure | not decidable here |" in page
        assert "| Grad-CAM agrees with human attention | 1 (2 scenes; one network) | not decidable here |" in page
        assert verdicts.startswith("13 verdicts are printed")

    def test_sections_without_any_measurement_have_a_report(self):
        assert "Nothing to measure" in QuestionResults().report()
        assert "Nothing to measure" in CaptionResults().report()

    def test_captions_without_a_correct_word_have_a_report(self):
        found = CaptionResults(images=1, named=0, objects=3, right=[False])
        page, _ = resolved(found.report())
        assert "0.0%\nof them correctly; 0 of these are explained" in page
        assert page.count("| nothing to measure | not decidable here |") == 9
