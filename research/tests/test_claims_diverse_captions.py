"""The experiments on diverse beam search, on two scenes; and parallel jobs."""

import operator

import pytest
from rich.progress import Progress

from research.claims.decoders import BEAM, DIVERSE
from research.claims.diverse_captions import SWEPT, DecoderResults, choose_penalties, measure_decoders, sweep_penalties
from research.claims.maps import MapMeasurements
from research.claims.parallel import run_jobs

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)


@pytest.mark.slow
def test_run_jobs_equals_sequential_results():
    assert run_jobs(operator.sub, [(5, 2), (2, 5), (7, 7)], "differences", QUIET) == [3, -3, 0]
    assert run_jobs(operator.sub, [], "nothing", QUIET) == []
    with pytest.raises(ZeroDivisionError):
        run_jobs(operator.truediv, [(1, 1), (1, 0)], "quotients", QUIET)


def test_measurements_are_joined_in_order():
    first, second = MapMeasurements(), MapMeasurements()
    first.add("named", "one", 1.0, (0, 1))
    second.add("named", "one", 2.0, (1, 1))
    second.add("named", "two", 3.0, (1, 1))
    first.join(second)
    assert first.values == {("named", "one"): [1.0, 2.0], ("named", "two"): [3.0]}
    assert first.scenes["named", "one"] == [(0, 1), (1, 1)]


@pytest.mark.slow
def test_report_has_every_table():
    diversity_penalties, kept = choose_penalties(0, 0.01), MapMeasurements()
    for objects in (2, 3, 4):
        kept.join(measure_decoders(0, objects, diversity_penalties, 0.01))
    kept.join(sweep_penalties(0, 0.01))
    assert len(kept.values["distinct-4", BEAM]) == 6
    assert len(kept.values["map distance", DIVERSE]) == 2
    page = DecoderResults(kept).report()
    for heading in ("Diversity", "Quality", "By number", "By diversity penalty", "Verdicts"):
        assert f"## {heading}" in page
    for diversity_penalty in SWEPT:
        assert f"| diversity penalty {diversity_penalty:g} |" in page
