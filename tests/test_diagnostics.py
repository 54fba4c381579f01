"""The diagnostic of the sign of a map."""

import pytest

from saywhy.diagnostics import evidence_diagnostic


@pytest.mark.parametrize(
    ("lowest", "highest", "of_score", "state", "says"),
    [
        (-0.75, -0.48, True, "warning", "all negative, -0.75 to -0.48"),
        (-1.0, 0.0, True, "warning", "no evidence for this target"),
        (-0.75, -0.48, False, "good", "of one sign"),
        (0.0, 2.0, True, "good", "of one sign"),
        (-1.0, 2.0, True, "good", "both signs"),
        (3.0, 3.0, True, "warning", "the map is flat"),
    ],
)
def test_evidence_diagnostic_without_gradients(lowest, highest, of_score, state, says):
    fact = evidence_diagnostic(None, lowest, highest, 0, 0, of_score)
    assert fact.state == state
    assert says in fact.text
