"""Counting by detection: suppression in loops, and thresholds tuned in two steps."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.errors import InputError
from saywhy.tasks.counting.detect import (
    Detections,
    DetectionThresholds,
    detection_counts,
    detections_of,
    tune_detection,
)

LEVELS = [0.0, 0.25, 0.5, 0.75, 1.0]


def iou(one: list[float], other: list[float]) -> float:
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return wide * high / (sum(areas) - wide * high)


def slow_count(found: Detections, label: int, score: float, most: float) -> int:
    """Greedy suppression, box by box."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    own = sorted(((s, box) for box, s, k in rows if k == label and s >= score), key=lambda pair: -pair[0])
    kept: list[list[float]] = []
    for _, box in own:
        if all(iou(box, other) <= most for other in kept):
            kept.append(box)
    return len(kept)


def detections(seed: int, boxes: int = 8) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 8, (boxes, 2), generator=generator).float()
    sides = torch.randint(1, 7, (boxes, 2), generator=generator).float()
    scores = (torch.randperm(100, generator=generator)[:boxes] + 0.5) / 101  # no two equal, none at a level
    labels = torch.randint(0, 2, (boxes,), generator=generator)
    return Detections(torch.cat([corners, corners + sides], 1), scores, labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from(LEVELS), st.sampled_from([0.1, 0.3, 0.55, 1.0]))
def test_counts_equal_greedy_suppression(seed, score, most):
    found = detections(seed)
    counts = detection_counts([found], (score, most), 2)
    assert counts.tolist() == [[slow_count(found, k, score, most) for k in range(2)]]


def slow_tuned(found: list[Detections], true: Tensor, k: int) -> tuple[float, float, float]:
    def error(score: float, most: float) -> float:
        return (
            sum((slow_count(one, k, score, most) - float(t)) ** 2 for one, t in zip(found, true, strict=True))
            / len(found)
        ) ** 0.5

    errors = {level: error(level, 0.3) for level in LEVELS}
    equal = [level for level in LEVELS if errors[level] == min(errors.values())]
    score = equal[(len(equal) - 1) // 2]
    best = min(LEVELS, key=lambda level: (error(score, level), abs(level - 0.3), level))
    return score, best, error(score, best)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_thresholds_are_tuned_in_two_steps(seed):
    found = [detections(seed + n) for n in range(4)]
    counts = torch.randint(0, 4, (4, 2), generator=torch.Generator().manual_seed(seed)).float()
    tuned = tune_detection(found, counts, grid=LEVELS)
    for k in range(2):
        score, most, error = slow_tuned(found, counts[:, k], k)
        assert (tuned.score[k], tuned.iou[k]) == (score, most)
        assert tuned.error[k] == pytest.approx(error)
    again = ((detection_counts(found, tuned, 2) - counts) ** 2).mean(0).sqrt()
    torch.testing.assert_close(again.double(), torch.tensor(tuned.error, dtype=torch.float64))


def test_a_box_counts_from_its_threshold_on():
    one = Detections(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0.9]), torch.tensor([0]))
    assert detection_counts([one], (0.9, 0.3), 1).item() == 1
    tuned = tune_detection([one], torch.zeros(1, 1), grid=[0.0, 0.9, 0.95])
    assert tuned.score == (0.95,)


def test_images_and_classes_without_boxes_count_zero():
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert detection_counts([empty], (0.5, 0.3), 2).tolist() == [[0, 0]]
    tuned = tune_detection([empty], torch.tensor([[0.0, 2.0]]), grid=LEVELS)
    assert tuned == DetectionThresholds((LEVELS[(len(LEVELS) - 1) // 2],) * 2, (0.25, 0.25), (0.0, 2.0))


def test_outputs_of_detectors_are_read():
    of_image = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([44, 1]),
        "masks": torch.zeros(2, 1, 9, 9),
    }
    for form in (of_image, SimpleNamespace(**of_image)):
        (found,) = detections_of([form], {1: 0, 3: 1})
        assert found.labels.tolist() == [0]
        assert found.boxes.tolist() == [[1, 1, 5, 5]]
    assert detections_of([of_image])[0].labels.tolist() == [44, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": torch.tensor([0.9, 3.0])}, "a score must be from 0 to 1, got 3. Apply a sigmoid"),
        ({"scores": torch.tensor([0.9])}, r"boxes \[box, 4\]"),
        ({"labels": torch.tensor([0.0, 1.0])}, "integer labels"),
        ({"labels": None}, "labels: NoneType"),
        ({"boxes": torch.full((2, 4), torch.nan)}, "a box must be finite"),
    ],
)
def test_other_outputs_are_refused(changed, message):
    of_image = {"boxes": torch.zeros(2, 4), "scores": torch.zeros(2), "labels": torch.zeros(2).long()}
    with pytest.raises(InputError, match=message):
        detections_of([of_image | changed])


def test_what_is_no_list_is_refused():
    with pytest.raises(InputError, match="as torchvision's detectors return it"):
        detections_of(torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda found: detection_counts([found], (0.5, 0.3), 1), "labels from 0 to 1, but there are 1 classes"),
        (lambda found: detection_counts([found], (1.5, 0.3), 2), "a score threshold must be a number from 0 to 1"),
        (lambda found: detection_counts([found], 0.5, 2), r"DetectionThresholds or \(score, IoU\)"),
        (lambda found: detection_counts([found], DetectionThresholds((0.5,), (0.3,)), 2), "of 2 classes"),
        (lambda found: tune_detection([found], torch.zeros(2, 2)), "of the same 1 images"),
        (lambda found: tune_detection([found], torch.zeros(1, 1)), "there are 1 classes"),
        (lambda found: tune_detection([found], torch.zeros(1, 2), grid=[2.0]), "each of the thresholds of grid"),
        (lambda found: tune_detection([found], torch.zeros(1, 2), grid=[]), "0 thresholds"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(detections(1))
