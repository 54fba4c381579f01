"""The page of all sections: sections are stored, and a stopped run continues."""

import pytest
from rich.progress import Progress

from research.claims import vision

pytestmark = pytest.mark.nightly


CLAIMS = {
    "localization": "| one | [[above zero: p = 0.02]] |\n| two | [[below zero: p = 0.001]] |",
    "pointing": "| three | [[above zero: p = 0.03]] |\n| four | [[above zero: p = 1]] |",
}


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
            return f"## {self.name}\n\n{CLAIMS[self.name.split('.')[-1]]}"

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


def test_verdicts_are_corrected_over_all_sections_of_the_page(measured):
    measured.append("stop")
    alone = vision.page(("localization",), Progress(disable=True), 1.0, again=False)
    assert "| one | holds |\n| two | does not hold |" in alone
    assert "2 verdicts are printed" in alone
    page = vision.page(("localization", "pointing"), Progress(disable=True), 1.0, again=False)
    assert "| one | not decidable here |\n| two | does not hold |" in page
    assert "| three | not decidable here |\n| four | not decidable here |" in page
    assert "4 verdicts are printed, corrected together by Holm's method: 0 claims hold and 1 does not hold" in page
    assert "without the correction, 2 would hold and 1 would not." in page
    assert "[[" not in page
    assert measured.count(("research.claims.localization", 1.0)) == 1  # the stored section has p-values, not verdicts


def test_a_stored_section_of_the_old_form_is_measured_again(measured, tmp_path):
    measured.append("stop")
    (tmp_path / "vision-localization.md").write_text("11.00\n## Old\n\n| one | holds |\n", encoding="utf-8")
    page = vision.page(("localization",), Progress(disable=True), 1.0, again=False)
    assert measured == ["stop", ("research.claims.localization", 1.0)]
    assert "Old" not in page
    assert "| one | holds |\n| two | does not hold |" in page


def test_every_section_is_a_module_with_a_report():
    from importlib import import_module

    for name in vision.SECTIONS:
        assert callable(import_module(f"research.claims.{name}").report)
