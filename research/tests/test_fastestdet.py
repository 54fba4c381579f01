"""The real COCO detector as a counter, on real photographs."""

import pytest
import torch

import saywhy
from research.claims.fastestdet import FastestDet, boxes_of, detector
from saywhy.datasets.load import open_dataset
from saywhy.metrics.counting import mrmse
from saywhy.tasks.counting.baselines import category_mean
from saywhy.tasks.counting.detect import detection_counts
from saywhy.tasks.counting.detect_counter import counts_by_label, detect, tuned_detect_counter
from saywhy.tasks.counting.found_objects import box_iou
from saywhy.tasks.counting.train_counter import ImageSubset

HALF = 64


def test_boxes_of_a_cell_are_those_of_the_description():
    place = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    found = boxes_of(place, 60, 100).unflatten(1, (3, 5))
    for y in range(3):
        for x in range(5):
            r = place[1, :, y, x].double()
            cx, cy = (torch.tanh(r[0]) + x) / 5 * 100, (torch.tanh(r[1]) + y) / 3 * 60
            w, h = torch.sigmoid(r[2]) * 100, torch.sigmoid(r[3]) * 60
            expected = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            torch.testing.assert_close(found[1, y, x].double(), expected, rtol=1e-5, atol=1e-4)


def test_the_detector_has_a_quarter_of_a_million_weights_and_484_cells():
    network = FastestDet().eval()
    assert 0.2e6 < sum(parameter.numel() for parameter in network.parameters()) < 0.3e6
    (found,) = network(torch.rand(1, 3, 352, 352))
    assert found["boxes"].shape == (484, 4)
    assert bool(((found["scores"] >= 0) & (found["scores"] <= 1)).all())


@pytest.fixture(scope="module")
def coco(real):
    if not (real / "coco" / "fastestdet.safetensors").is_file():
        pytest.skip(f"there is no file '{real / 'coco' / 'fastestdet.safetensors'}'")
    data = open_dataset(f"coco:{real / 'coco' / 'instances.json'}:photos")
    return detector(real / "coco" / "fastestdet.safetensors"), data


@pytest.mark.real
@pytest.mark.nightly
def test_boxes_of_photographs_are_as_right_as_was_measured(coco):
    """Of 880 cells above 0.65 on the first 60 photographs 683 have a true box of their class at IoU 0.5."""
    model, data = coco
    assert model.labels == data.labels
    cells = right = 0
    for number, found in enumerate(detect(model, [data[n].open() for n in range(60)])):
        kept, objects = found.scores > 0.65, data[number].objects
        true = torch.tensor([list(one.box) for one in objects], dtype=torch.float64).reshape(-1, 4)
        same = found.labels[kept][:, None] == torch.tensor([model.labels.index(one.label) for one in objects])
        cells += int(kept.sum())
        right += int(((box_iou(found.boxes[kept].double(), true) >= 0.5) & same).any(1).sum())
    assert cells == pytest.approx(880, abs=20)
    assert right == pytest.approx(683, abs=20)


@pytest.mark.real
@pytest.mark.nightly
def test_counts_of_photographs_are_nearer_than_those_of_baselines(coco):
    model, data = coco
    validation, test = (ImageSubset(data, range(start, start + HALF), "part") for start in (0, HALF))
    made = tuned_detect_counter(model, validation, difficult="leave-out")
    true, seen = (counts_by_label(part, model.labels, "leave-out") for part in (test, validation))
    found = list(detect(model, [test[n].open() for n in range(HALF)]))
    counts = detection_counts(found, made.module.thresholds, 80)
    error = mrmse(counts, true).value
    assert error < mrmse(category_mean(seen, HALF), true, rounded=False).value
    assert error < mrmse(torch.zeros_like(true), true).value
    person = model.labels.index("person")
    nobody = (true[:, person] - seen[:, person].mean()).abs().mean()
    assert float((counts - true)[:, person].abs().mean()) < 0.75 * float(nobody)
    one = saywhy.count(made, test[3].open())
    assert [each.count for each in one.counts] == counts[3].tolist()
    assert one.explanation.layers == ("detector.SPP",)
