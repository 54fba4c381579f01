"""Counts as a detector's operating point: kept boxes, precision, recall and F against a slow reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.tasks.counting.detect import Detections
from saywhy.tasks.counting.detection_counts import (
    TrueBoxes,
    compare_operating_points,
    detection_score,
    keep_by_count,
    keep_by_score,
    suppressed,
    tune_by_f,
)

BOX = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(2, 6)] * 2).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
TRUE = st.lists(st.tuples(BOX, st.integers(0, 1)), max_size=4)
FOUND = st.lists(st.tuples(BOX, st.integers(0, 1), st.integers(0, 20)), max_size=6)


def detections(rows) -> Detections:
    boxes = torch.tensor([list(box) for box, _, _ in rows]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in rows], dtype=torch.long)
    return Detections(boxes, torch.tensor([score / 20 for _, _, score in rows]), labels)


def objects(rows) -> TrueBoxes:
    return TrueBoxes(tuple(box for box, _ in rows), tuple(label for _, label in rows))


def iou(a, b) -> float:
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - common)


def slow(found, true) -> list[tuple[float, float, float] | None]:
    """Precision, recall and F of both classes, None without objects; box by box."""
    result = []
    for k in (0, 1):
        right = boxes = number = 0
        for rows, truth in zip(found, true, strict=True):
            own = [box for box, label in truth if label == k]
            number += len(own)
            taken = [False] * len(own)
            mine = [row for row in rows if row[1] == k]
            boxes += len(mine)
            for box, _, _ in sorted(mine, key=lambda row: -row[2]):
                shares = [iou(box, other) for other in own]
                if shares and max(shares) >= 0.5 and not taken[shares.index(max(shares))]:
                    taken[shares.index(max(shares))] = True
                    right += 1
        precision, recall = (right / boxes if boxes else 0.0), (right / number if number else math.nan)
        both = precision + recall
        result.append((precision, recall, 2 * precision * recall / both if both else 0.0) if number else None)
    return result


@settings(max_examples=60)
@given(st.lists(st.tuples(FOUND, TRUE), min_size=1, max_size=3))
def test_scores_are_those_of_the_slow_reference(images):
    found, true = [f for f, _ in images], [t for _, t in images]
    expected = slow(found, true)
    known = [row for row in expected if row is not None]
    if not known:
        with pytest.raises(InputError, match="no image has one"):
            detection_score([detections(f) for f in found], [objects(t) for t in true], 2)
        return
    score = detection_score([detections(f) for f in found], [objects(t) for t in true], 2)
    for place, value in enumerate((score.precision, score.recall, score.f)):
        assert value == pytest.approx(sum(row[place] for row in known) / len(known))
    assert score.omitted == tuple(k for k, row in enumerate(expected) if row is None)


@settings(max_examples=60)
@given(FOUND, st.lists(st.floats(-1, 5), min_size=2, max_size=2))
def test_a_count_keeps_the_boxes_of_largest_score(rows, counts):
    kept = keep_by_count(detections(rows), torch.tensor(counts, dtype=torch.float64))
    for k in (0, 1):
        own = sorted((score / 20 for _, label, score in rows if label == k), reverse=True)
        wanted = own[: math.floor(max(counts[k], 0) + 0.5)]
        assert kept.scores[kept.labels == k].tolist() == pytest.approx(wanted)
    assert kept.scores.tolist() == sorted(kept.scores.tolist(), reverse=True)


def test_tuned_thresholds_have_the_best_f_of_all():
    generator = torch.Generator().manual_seed(0)
    true, found = [], []
    for _ in range(6):
        corners = torch.rand(3, 2, generator=generator) * 50
        boxes = torch.cat([corners, corners + 10], 1)
        true.append(TrueBoxes(tuple(map(tuple, boxes.tolist())), (0, 0, 1)))
        noise = torch.rand(4, 2, generator=generator) * 50
        every = torch.cat([boxes, torch.cat([noise, noise + 10], 1)])
        scores = torch.rand(7, generator=generator) * 0.6 + torch.tensor([0.4] * 3 + [0.0] * 4)
        found.append(Detections(every, scores, torch.tensor([0, 0, 1, 0, 1, 0, 1])))
    grid = [step / 20 for step in range(21)]
    best = tune_by_f(found, true, 2, grid=grid)
    scores = {level: detection_score([keep_by_score(f, [level] * 2) for f in found], true, 2).each for level in grid}
    for k in (0, 1):
        assert scores[best[k]][k] == max(row[k] for row in scores.values())
        assert all(scores[level][k] < scores[best[k]][k] for level in grid if level < best[k])
    predicted = torch.stack([t.counts(2) for t in true])
    compared = compare_operating_points(found, true, predicted, (found, true), nms=1.0)
    assert compared["predicted counts"] == compared["true counts"]
    assert set(compared) == {"threshold", "predicted counts", "true counts"}
    assert tune_by_f(found, true, 3, grid=grid)[2] == 1.0  # without an object


def test_suppression_is_within_a_class():
    box = (0.0, 0.0, 10.0, 10.0)
    found = detections([(box, 0, 5), (box, 1, 9), (box, 0, 8)])
    assert [round(score, 2) for score in suppressed(found).scores.tolist()] == [0.45, 0.4]
    assert len(suppressed(detections([])).scores) == 0


def test_unequal_numbers_are_refused():
    none, one = detections([]), TrueBoxes((), ())
    with pytest.raises(InputError, match="the same images, got 1 and 2"):
        detection_score([none], [one, one], 1)
    with pytest.raises(InputError, match="no class 3"):
        detection_score([none], [TrueBoxes(((0, 0, 1, 1),), (3,))], 2)
    with pytest.raises(InputError, match="a class for each of 1 boxes"):
        TrueBoxes(((0, 0, 1, 1),), ())
    with pytest.raises(InputError, match="labels from 1 to 1, but there are 1 classes"):
        keep_by_count(detections([((0.0, 0.0, 1.0, 1.0), 1, 3)]), torch.ones(1))
    with pytest.raises(InputError, match="counts \\[image, class\\] of 1 images"):
        compare_operating_points([none], [one], torch.zeros(2, 1), ([none], [one]))
    with pytest.raises(InputError, match="a threshold to try"):
        tune_by_f([none], [one], 1, grid=[])
