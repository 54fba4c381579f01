"""Every section by its command, with a shipped network."""

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from research.claims import ablation, class_discrimination, faithfulness, localization, pointing
from research.tests.synthetic import colour_network, study

pytestmark = pytest.mark.nightly


def printed(module: object, *arguments: str) -> str:
    """Return the output of a module's command."""
    app = Typer()
    app.command()(module.main)  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


ANOTHER = ("--data", "toybox:val", "--model", "toybox:classifier")


def test_localization_command_accepts_another_data_set(tmp_path: Path):
    page = printed(localization, *ANOTHER, "--items", "4")
    assert page.startswith("## Weakly supervised localisation\n\nToybox val: 4 images of one class")
    assert "| gradcam | toybox:classifier |" in page
    assert printed(localization, *ANOTHER, "--items", "4", "--out", str(tmp_path / "page.md")) == ""
    assert (tmp_path / "page.md").read_text() == page


def test_ablation_command_accepts_another_data_set():
    page = printed(ablation, *ANOTHER, "--items", "3", "--layers", "blocks.2,blocks.0")
    assert "| … at the deepest layer than at blocks.0 |" in page


def test_pointing_command_accepts_another_data_set():
    page = printed(pointing, *ANOTHER, "--items", "4", "--share", "0.1", "--held-out", "toybox:test")
    assert "a peak must lie within 15 pixels of it" in page
    assert "for the highest accuracy" in page


@pytest.mark.slow
def test_faithfulness_command_accepts_another_data_set():
    page = printed(faithfulness, *ANOTHER, "--items", "2")
    assert "**Toybox val, toybox:classifier, the present classes**" in page


def test_class_discrimination_command_accepts_another_data_set():
    page = printed(class_discrimination, *ANOTHER, "--evaluator", "toybox:classifier", "--items", "2")
    assert page.startswith(
        "## Class discrimination, by an evaluation network\n\n**A proxy for people, not people.** Toybox val"
    )
    assert "network that ends in toybox:classifier" in page


def test_class_discrimination_command_uses_evaluation_networks_of_other_seeds(monkeypatch):
    monkeypatch.setattr(
        class_discrimination, "toybox_study", lambda *_: study(colour_network("mlp"), colour_network("mlp", 1))
    )
    monkeypatch.setattr(class_discrimination, "classifier", lambda seed, _: colour_network(seed=seed))
    assert "network that ends in hidden layers" in printed(class_discrimination, "--share", "0.02")
