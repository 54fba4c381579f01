"""The verdict: every case of its rule, and the intervals that it is made from."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from saywhy.errors import InputError
from saywhy.fixing.evaluate import Evaluation, SplitAccuracy, group_accuracies
from saywhy.fixing.grounding import Grounding
from saywhy.fixing.verdict import Difference, FixVerdict, Runs, deciding_split, measure_of, verdict
from saywhy.statistics import student_margin

IMAGES = 200


def grounding_of(rank: float, deletion: float) -> Grounding:
    """Of ten images; they vary in the same way in every network."""
    wobble = np.linspace(-0.1, 0.1, 10)
    each = {"rank": (rank + wobble).tolist(), "deletion": (deletion + wobble).tolist()}
    return Grounding(10, rank=rank, deletion=deletion, each=each)


def evaluated(share: float, mass: float = 0.5, split: str = "shifted", jitter: float = 0.0) -> Evaluation:
    """Right on the first images; so networks of one test are right on nested sets of images."""
    right = [int(i < round((share + jitter) * IMAGES)) for i in range(IMAGES)]
    return Evaluation({split: SplitAccuracy(float(np.mean(right)), {}, right)}, grounding_of(mass, mass / 2))


def judged(
    before: float, hint: float, mass: tuple[float, float] = (0.5, 0.7), seeds: int = 1, **others: float
) -> FixVerdict:
    """The verdict on "hint"; mass is the rank before (and of all others), and of the method, and twice the deletion."""
    spread = [0.0] if seeds == 1 else np.linspace(-0.01, 0.01, seeds).tolist()
    runs = {("hint", seed): evaluated(hint, mass[1], jitter=j) for seed, j in enumerate(spread)}
    for name, share in others.items():
        found = {(name.replace("_", "-"), s): evaluated(share, mass[0], jitter=-j) for s, j in enumerate(spread)}
        runs |= found
    return verdict("hint", evaluated(before, mass[0]), runs)


HELPED, REGULAR, NEITHER, UNDECIDED = "grounding helped", "regularization helped", "neither", "undecided"


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize(
    ("before", "hint", "mass", "others", "word", "says"),
    [
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.7}, HELPED, "difference +0.4"),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.7, "groupdro": 0.8}, HELPED, ""),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.7, "groupdro": 0.99}, HELPED, "Worse than 'groupdro'"),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.9}, REGULAR, "than the control 'random-hints'"),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.99}, REGULAR, "than the control 'random-hints'"),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.6, "random_hints": 0.9, "spread": 0.9}, REGULAR, "controls 'random-hints'"),
        (0.5, 0.9, (0.5, 0.4), {"erm": 0.6, "random_hints": 0.7}, NEITHER, "not better grounded: rank than before"),
        (0.5, 0.9, (0.5, 0.7), {"random_hints": 0.9}, REGULAR, "Not better than the control"),
        (0.5, 0.9, (0.5, 0.7), {"erm": 0.9, "random_hints": 0.7}, NEITHER, "Not better than the control 'erm'"),
        (0.5, 0.5, (0.5, 0.7), {"erm": 0.4, "random_hints": 0.4}, NEITHER, ""),
        (0.9, 0.5, (0.5, 0.7), {"erm": 0.4, "random_hints": 0.4}, NEITHER, "difference -0.4"),
        (0.5, 0.9, (math.nan, math.nan), {"erm": 0.6, "random_hints": 0.7}, UNDECIDED, "No held-out image has a hint"),
        (0.5, 0.9, (math.nan, math.nan), {"erm": 0.6, "random_hints": 0.9}, REGULAR, "Not better than the control"),
        (0.5, 0.9, (0.5, 0.7), {}, UNDECIDED, "No control was run"),
        (0.5, 0.9, (0.5, 0.7), {"groupdro": 0.6, "jtt": 0.99}, UNDECIDED, "Worse than 'jtt'"),
    ],
)  # fmt: skip
def test_word_and_reasons(before, hint, mass, others, word, says, seeds):
    found = judged(before, hint, mass, seeds, **others)
    assert found.word == word
    assert says in " ".join(found.sentences)
    assert str(found).startswith(f"{word}: Accuracy on shifted: {hint:.3f} with 'hint', {before:.3f} before")
    assert [d.than for d in found.differences] == ["before", *(name.replace("_", "-") for name in others)]
    assert "groupdro" not in [d.than for d in found.grounding]  # baselines are not asked for evidence


def test_a_difference_within_chance_is_not_better():
    assert judged(0.5, 0.52, erm=0.4, random_hints=0.4).word == HELPED  # nested: the same images and four more
    runs = {("hint", 0): opposite(104, 0), ("erm", 0): evaluated(0.3)}
    assert verdict("hint", opposite(0, 100), runs).word == NEITHER


def opposite(first: int, last: int) -> Evaluation:
    right = [int(i < first or i >= IMAGES - last) for i in range(IMAGES)]
    return Evaluation(
        {"shifted": SplitAccuracy(float(np.mean(right)), {}, right)},
        grounding_of(0.9 if first else 0.5, 0.2),
    )


class TestGroups:
    NAMES = ("a", "b")

    def of(self, *rights: Sequence[int]) -> Evaluation:
        """Two groups, each with its own right images."""
        right = torch.tensor([one for group in rights for one in group])
        groups = torch.tensor([0] * len(rights[0]) + [1] * len(rights[1]))
        shares = group_accuracies(right.bool(), groups, self.NAMES)
        return Evaluation(
            {"test": SplitAccuracy(float(right.float().mean()), shares, right.tolist())},
            grounding_of(0.5, 0.5),
        )

    def test_the_worst_group_decides_not_the_mean(self):
        before = self.of([1] * 90 + [0] * 10, [1] * 2 + [0] * 18)
        after = self.of([1] * 60 + [0] * 40, [1] * 12 + [0] * 8)
        assert measure_of(after) > measure_of(before)
        assert after.accuracy["test"].overall < before.accuracy["test"].overall
        found = verdict("hint", before, {("hint", 0): after}, [0] * 100 + [1] * 20)
        assert found.measure == "worst-group accuracy on test"
        assert found.differences[0].better
        assert found.differences[0].mean == pytest.approx(0.5)

    def test_the_interval_covers_the_worst_group_of_a_resample(self):
        """Of 20 images the share has a standard error of 0.11, of 100 of 0.05."""
        before, after = (
            self.of([1] * 50 + [0] * 50, [1] * 10 + [0] * 10),
            self.of([1] * 60 + [0] * 40, [0] * 8 + [1] * 12),
        )
        (difference,) = verdict("hint", before, {("hint", 0): after}, [0] * 100 + [1] * 20).differences
        assert difference.low < difference.mean < difference.high
        assert 0.2 < difference.high - difference.low < 0.9


class TestIntervals:
    def test_several_seeds_give_students_interval(self):
        found = judged(0.5, 0.9, seeds=3, erm=0.6).differences
        values = np.array([0.89, 0.9, 0.91])
        of_erm = values - np.array([0.61, 0.6, 0.59])  # the jitter goes the other way
        for difference, expected in zip(found, (values - 0.5, of_erm), strict=True):
            margin = student_margin(expected)
            assert difference.mean == pytest.approx(expected.mean())
            assert (difference.low, difference.high) == pytest.approx(
                (expected.mean() - margin, expected.mean() + margin)
            )

    @pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
    def test_equal_networks_are_not_known_to_be_equal(self, share):
        """Wilson's upper bound of no difference in 200 images."""
        (difference,) = judged(share, share).differences
        assert (difference.low, difference.high) == pytest.approx((-0.0188, 0.0188), abs=1e-3)
        assert not difference.better
        assert not difference.worse

    def test_worst_groups_that_are_equal_by_chance_are_not_known_to_be_equal(self):
        """Both networks are wrong throughout a group, on different images of the other."""
        groups = TestGroups()
        one, other = groups.of([1, 0] * 10, [0] * 10), groups.of([0, 1] * 10, [0] * 10)
        (difference,) = verdict("hint", other, {("hint", 0): one}, [0] * 20 + [1] * 10).differences
        assert difference.mean == 0
        assert difference.high == -difference.low == pytest.approx(0.2775, abs=1e-3)

    def test_the_marks_of_a_difference(self):
        above, below, across = (Difference("erm", 0.1, *ends) for ends in ((0.05, 0.2), (-0.2, -0.05), (-0.1, 0.2)))
        assert [(d.better, d.worse) for d in (above, below, across)] == [(True, False), (False, True), (False, False)]
        assert str(above) == "+0.100 (+0.050 to +0.200)"


def test_shifted_data_decide_before_test_and_validation():
    both = Evaluation({s: SplitAccuracy(v) for s, v in (("val", 0.1), ("test", 0.2), ("shifted", 0.3))}, Grounding())
    assert deciding_split(both) == "shifted"
    assert measure_of(both) == 0.3
    assert deciding_split(Evaluation({"train": SplitAccuracy(1), "val": SplitAccuracy(0.1)}, Grounding())) == "val"
    assert deciding_split(Evaluation({"val": SplitAccuracy(1), "test": SplitAccuracy(0.1)}, Grounding())) == "test"


def test_grounding_with_one_seed_needs_a_paired_interval_above_zero():
    mine, theirs = evaluated(0.9, 0.5), evaluated(0.6, 0.5)
    wobble = np.resize([0.2, -0.19], 10)
    each = {"rank": (0.505 + wobble).tolist(), "deletion": [0.9] * 10}
    unsure = Evaluation(mine.accuracy, Grounding(10, rank=0.505, deletion=0.9, each=each))
    found = verdict("hint", evaluated(0.3, 0.5), {("hint", 0): unsure, ("erm", 0): theirs})
    (rank, *_) = found.grounding
    assert rank.mean == pytest.approx(0.005)
    assert rank.low < 0 < rank.high
    assert found.word == NEITHER


class TestNetworksOfTheirOwn:
    """Every seed with a network before of its own."""

    RUNS: Runs = {  # noqa: RUF012
        (name, seed): evaluated(share + step) for name, share in (("hint", 0.8), ("erm", 0.5)) for seed, step in
        enumerate((-0.1, 0.0, 0.1))
    }  # fmt: skip

    def test_are_compared_seed_by_seed(self):
        found = verdict("hint", [evaluated(0.4 + step) for step in (-0.1, 0.0, 0.105)], self.RUNS)
        gains = np.array([0.4, 0.4, 0.395])
        first = found.differences[0]
        assert (first.than, first.mean) == ("before", pytest.approx(gains.mean()))
        assert first.high - first.mean == pytest.approx(student_margin(gains))
        assert "0.402 before" in found.sentences[0]

    def test_one_network_for_all_seeds_is_the_same_as_copies_of_it(self):
        one = evaluated(0.4)
        assert verdict("hint", one, self.RUNS) == verdict("hint", [one] * 3, self.RUNS)

    @pytest.mark.parametrize("count", [0, 2, 4])
    def test_another_number_of_networks_is_refused(self, count):
        with pytest.raises(InputError, match=f"one network before or one a seed; .* and {count} before"):
            verdict("hint", [evaluated(0.4)] * count, self.RUNS)

    def test_a_method_that_lacks_a_seed_is_refused(self):
        runs = {pair: found for pair, found in self.RUNS.items() if pair != ("erm", 2)}
        with pytest.raises(InputError, match=r"erm with \[0, 1\]"):
            verdict("hint", evaluated(0.4), runs)

    def test_what_was_left_out_is_said_last(self):
        found = verdict("hint", evaluated(0.4), self.RUNS, left_out={"jtt": "seed 1: the loss is nan"})
        assert found.sentences[-1] == "Left out: 'jtt' failed (seed 1: the loss is nan)."
        assert found.word == verdict("hint", evaluated(0.4), self.RUNS).word
