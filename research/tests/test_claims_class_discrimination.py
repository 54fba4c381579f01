"""Class discrimination: an evaluation network that detects squares recognises them exactly when they are shown."""

import numpy as np
import pytest
from rich.progress import Progress

from research.claims.class_discrimination import MASK, METHODS, ClassDiscrimination, measure_study, report
from research.tests.synthetic import colour_network, study
from saywhy.errors import InputError

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)


EXPLAINED = study(colour_network("mlp"), colour_network("mlp", 1))
EVALUATORS = (colour_network(), colour_network(seed=1))


def test_a_map_on_the_object_is_recognised():
    kept = measure_study(EXPLAINED, EVALUATORS, 3, QUIET).measurements
    assert kept.values["through", MASK] == [1.0] * 12
    assert kept.values["through", "gradcam"] == [1.0] * 12
    assert kept.values["through", "guided-gradcam"] == [1.0] * 12
    assert len(kept.values["itself", "deconvnet"]) == 12


def test_equal_maps_for_both_classes_are_right_half_of_the_time():
    network, evaluator = colour_network("mlp"), colour_network(seed=1)
    item = next(study(network).items(network, alone=False))
    found, image = ClassDiscrimination(), np.asarray(item.image)
    for target in range(2):
        found._ask("through", "same", image, item, target, evaluator.model)
    assert sum(found.measurements.values["through", "same"]) == 1.0


def test_evaluation_network_of_the_same_seed_raises():
    with pytest.raises(InputError, match="expected an evaluation network of another seed"):
        measure_study(EXPLAINED, EVALUATORS[:1], 2, QUIET)


def test_report_states_that_it_is_a_proxy():
    page = report(QUIET, 0.02, EXPLAINED, EVALUATORS)
    assert page.startswith("## Class discrimination, by an evaluation network\n\n**A proxy for people, not people.**")
    assert all(f"| {method} |" in page for method in (*METHODS, MASK))
    assert "+0.168" in page
    assert page.count("(the map itself)") == page.count("(the image through it)") == 5
    assert "nan" not in page
