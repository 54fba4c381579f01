"""Localisation: hand-built networks that detect squares, whose boxes are known."""

import pytest
import torch
from rich.progress import Progress

from research.claims import localization
from research.claims.localization import LocalizationResults, maps_of, measure_study, report
from research.claims.multiple_testing import resolved
from research.claims.section import zeros_allowed
from research.tests.synthetic import SquaresDataset, colour_network, study
from saywhy.metrics.boxes import found_boxes

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)


def test_square_detector_has_no_localization_error():
    found = measure_study(study(colour_network(), colour_network("mlp")), 6, 4, QUIET)
    for form in ("gap", "mlp"):
        assert found.measurements.values["top-1", f"gradcam ({form})"] == [0.0] * 6
        assert found.measurements.values["top-5", f"gradcam ({form})"] == [0.0] * 6
        assert found.measurements.values["known", f"gradcam ({form})"] == [0.0] * 8  # four images of two classes
        assert found.measurements.values["class top-1", form] == [0.0] * 6
        for baseline in ("centre prior", "whole image"):
            assert found.measurements.values["top-1", f"{baseline} ({form})"] == [1.0] * 6
            assert found.measurements.values["known", f"{baseline} ({form})"] == [1.0] * 8
    assert ("top-1", "cam (mlp)") not in found.measurements.values
    assert found.measurements.values["top-1", "cam (gap)"] == [0.0] * 6
    assert len(found.cam_differences) == 6
    assert max(found.cam_differences) < 1e-5


def test_a_wrong_class_is_an_error_wherever_the_box_is():
    network = colour_network()
    labels = network.model.labels
    assert labels is not None
    network.model.labels = (*labels[1:], labels[0])  # every square is called by the name of its neighbour
    found = measure_study(study(network), 4, 2, QUIET)
    assert found.measurements.values["top-1", "gradcam (gap)"] == [1.0] * 4
    assert found.measurements.values["class top-1", "gap"] == [1.0] * 4


def test_the_second_prediction_counts_among_the_top_five():
    network = colour_network()
    network.model.module.head[1].bias.data[0] = 90.0  # hue 0 is always the first answer
    images = [item for item in study(network).items(network, alone=True) if item.classes != (0,)][:3]
    found = LocalizationResults()
    with zeros_allowed():
        for item in images:
            found.alone(item, ["gradcam"])
    assert found.measurements.values["top-1", "gradcam (gap)"] == [1.0] * 3
    assert found.measurements.values["top-5", "gradcam (gap)"] == [0.0] * 3
    assert found.measurements.values["class top-5", "gap"] == [0.0] * 3


def test_top_5_uses_all_classes_if_fewer_than_five(monkeypatch):
    monkeypatch.setattr(localization, "_predictions", lambda item: 3)
    found = measure_study(study(colour_network()), 3, 2, QUIET)
    assert found.measurements.values["top-5", "gradcam (gap)"] == [0.0] * 3


def test_saliency_is_averaged_over_the_layers_cells():
    network = colour_network()
    item = next(study(network).items(network, alone=True))
    explained = item.explain(list(item.classes), ["gradcam", "saliency"])
    maps = maps_of(explained)[localization.COARSE]
    cells = explained["saliency"].reshape(8, 4, 8, 4).mean((1, 3))
    assert torch.allclose(maps[0, 0, 2::4, 2::4].double().mean(), cells.double().mean(), atol=0.05 * float(cells.max()))
    assert maps.shape == (1, 1, 32, 32)
    assert found_boxes(maps)[0][0] != found_boxes(torch.zeros_like(maps))[0][0]


def test_report_has_verdicts_and_limits():
    page, _ = resolved(report(QUIET, 0.02, study(colour_network(), colour_network("mlp"))))
    assert page.startswith("## Weakly supervised localisation\n\nsquares: 4 images of one class")
    assert "nan" not in page
    assert "| Grad-CAM is better than saliency (top-1; hidden layers) |" in page
    undecided = "(4 scenes; one network) | not decidable here |"
    assert f"| … than the centre prior (top-1; hidden layers) | 1 {undecided}  |" in page
    assert f"CAM of a network of CAM's form (top-1) | 0 {undecided} recalled 0.007 |" in page
    assert "Toybox cannot show this" in page
    alone = report(QUIET, 0.02, study(colour_network("mlp")))
    assert "CAM cannot be computed" in alone
    assert "CAM of a network of CAM's form" not in alone


def test_squares_dataset_masks_equal_their_boxes():
    for index in range(6):
        located = SquaresDataset()[index]
        assert len(located.objects) == 1 + index % 2
        for obj in located.objects:
            assert obj.mask is not None
            left, top, right, bottom = map(int, obj.box)
            assert obj.mask()[top:bottom, left:right].all()
            assert obj.mask().sum() == 64
