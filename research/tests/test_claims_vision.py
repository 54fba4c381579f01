"""The page of all sections: sections are stored, and a stopped run continues."""

import pytest
from rich.progress import Progress

from research.claims import vision

pytestmark = pytest.mark.nightly


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Replace the sections by ones that only record that they were measured."""
    done = []

    class Module:
        def __init__(self, name):
            self.name = name

        def report(self, progress, share):
            if self.name == "research.claims.pointing" and not done.count("stop"):
                done.append("stop")
                raise KeyboardInterrupt
            done.append((self.name, share))
            return f"## {self.name}"

    monkeypatch.setattr(vision, "import_module", Module)
    monkeypatch.setattr(vision, "FOLDER", tmp_path)
    return done


def test_a_stopped_run_continues(measured):
    names = ("localization", "pointing")
    with pytest.raises(KeyboardInterrupt):
        vision.page(names, Progress(disable=True), 1.0, again=False)
    page = vision.page(names, Progress(disable=True), 1.0, again=False)
    assert measured == [("research.claims.localization", 1.0), "stop", ("research.claims.pointing", 1.0)]
    assert page.index("## research.claims.localization") < page.index("## research.claims.pointing")


def test_other_shares_are_stored_separately_and_again_measures_again(measured):
    measured.append("stop")
    for share, again in ((1.0, False), (0.5, False), (0.5, False), (0.5, True)):
        vision.page(("localization",), Progress(disable=True), share, again)
    assert measured[1:] == [
        ("research.claims.localization", 1.0),
        ("research.claims.localization", 0.5),
        ("research.claims.localization", 0.5),
    ]


def test_every_section_is_a_module_with_a_report():
    from importlib import import_module

    for name in vision.SECTIONS:
        assert callable(import_module(f"research.claims.{name}").report)
