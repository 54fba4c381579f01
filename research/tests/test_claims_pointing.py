"""Pointing: networks that detect squares, whose peaks are known, and the rejection of absent classes."""

from itertools import islice

import pytest
from rich.progress import Progress

from research.claims.multiple_testing import resolved
from research.claims.pointing import (
    ALL_ABSENT,
    CMWP,
    UNSURE,
    PointingResults,
    measure_study,
    mosaics,
    report,
    threshold,
)
from research.claims.section import zeros_allowed
from research.tests.synthetic import SquaresDataset, colour_network, study
from saywhy.errors import InputError

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)


def test_square_detector_points_at_squares_and_rejects_absent_classes():
    kept = measure_study(study(colour_network(), count=400), 0.03, 200, QUIET).measurements
    for method in ("gradcam", CMWP):
        assert kept.values["P", method] == [1.0] * 9  # six images, of one square and of two
        assert kept.values["R", method] == [1.0] * 30
        assert min(kept.values["grid", method]) > 0.9  # some squares touch the next cell of the mosaic
    assert kept.values["R", UNSURE] == [1.0] * 30
    assert kept.values["R", ALL_ABSENT].count(1.0) == 30 - 9
    assert kept.values["present", ALL_ABSENT] == [0.0] * 9
    assert max(kept.values["P", "uniform"]) == pytest.approx(64 / 1024)


def test_a_threshold_of_zero_rejects_nothing():
    """With a threshold of zero, every absent class counts as a miss."""
    network = colour_network()
    one = study(network)
    found = PointingResults()
    with zeros_allowed():
        for item in islice(one.items(network), 4):
            found.protocol_r(item, {"gradcam": 0.0}, 0)
    assert found.measurements.values["present", "gradcam"] == [1.0] * 6
    assert found.measurements.values["absent", "gradcam"] == [0.0] * 14


def test_the_threshold_lies_between_absent_and_present_classes():
    network = colour_network()
    with zeros_allowed():
        found = threshold(study(network), network, "gradcam", 6, QUIET)
    assert 0 < found < 1.6


def test_a_mosaic_has_different_classes_with_certain_predictions():
    network = colour_network()
    one = study(network, count=400)
    for nine in islice(mosaics(one.items(network, alone=True), 9), 3):
        assert sorted(item.classes[0] for item in nine) == list(range(9))
    network.model.module.head[1].bias.data[4] = -99.0
    assert next(mosaics(one.items(network, alone=True), 9), None) is None


def test_report_has_the_every_class_rejected_baseline():
    page, _ = resolved(report(QUIET, 0.02, study(colour_network(), count=400), 100))
    assert page.startswith("## Pointing\n\nsquares;")
    assert "| every class rejected |" in page
    few = "0 (2 scenes; one network) | not decidable here | 0.103 |"
    assert f"| Grad-CAM points and rejects better than c-MWP (R) | {few}" in page
    assert "| … and more than a uniform map |" in page
    assert "nan" not in page


def test_missing_held_out_images_disable_rejection():
    network = colour_network()
    alone = study(network)
    page = report(QUIET, 0.02, type(alone)(alone.networks, SquaresDataset(16), None), 50)
    assert "needs held-out images to choose a threshold on" in page
    assert "(R)" not in page
    assert "Too few such images for a mosaic" in page
    with pytest.raises(InputError, match="expected a held-out data set"):
        threshold(type(alone)(alone.networks, SquaresDataset(), None), network, "gradcam", 2, QUIET)


def test_pointing_uses_the_peak_of_the_explanation():
    network = colour_network()
    item = next(study(network).items(network, alone=True))
    found = PointingResults()
    found.protocol_p(item, ["gradcam"], 0)
    left, top, *_ = map(int, item.objects[0][0].box)
    peak = item.explain(list(item.classes)).peak(0, 0)
    assert peak is not None
    assert left <= peak[0] < left + 8
    assert top <= peak[1] < top + 8
    assert found.measurements.values["P", "gradcam"] == [1.0]
