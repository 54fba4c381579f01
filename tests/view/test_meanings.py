"""The meaning of the colours of a map, by what its method shows."""

import re
from importlib.resources import files

import pytest
import torch

import saywhy
from saywhy import Explanation
from saywhy.methods import METHODS, find_method
from saywhy.view import payload
from saywhy.view.legend import MEANINGS, LegendText
from saywhy.view.overlay import noted
from saywhy.view.scale import Scale

SIGNED, UNSIGNED, FLAT = Scale(-1.0, 1.0), Scale(0.0, 1.0), Scale(1.0, 1.0)

SENSITIVITY = {
    "saliency", "smoothgrad", "vargrad", "guided-backprop", "deconvnet", "guided-gradcam", "deconv-gradcam",
    "segeigencam",
}  # fmt: skip


def test_gradients_show_sensitivity_and_class_agnostic_methods_activity() -> None:
    assert {name for name, method in METHODS.items() if method.shows == "sensitivity"} == SENSITIVITY
    for name, method in METHODS.items():
        assert (method.shows == "activity") == (not method.uses_gradients), name


@pytest.mark.parametrize("name", ["saliency", "gradcam", "eigencam"])
def test_smoothed_method_has_the_meaning_of_its_method(name: str) -> None:
    assert find_method(f"smooth-{name}").shows == find_method(name).shows


def test_legend_mentions_evidence_only_for_evidence_maps() -> None:
    assert noted(LegendText(), SIGNED).notes == ("red: evidence for, blue: against",)
    assert noted(LegendText(), UNSIGNED).notes == ()
    for shows in ("sensitivity", "activity"):
        for scale in (SIGNED, UNSIGNED):
            (note,) = noted(LegendText(shows=shows), scale).notes
            assert "evidence" not in note
            assert note.startswith("red: " if scale.signed else "bright: ")
        assert noted(LegendText(shows=shows), FLAT).notes == ("the same value everywhere: 1",)


def test_viewer_meanings_equal_those_of_python() -> None:
    table = files("saywhy.view").joinpath("words.js").read_text(encoding="utf-8")
    table = re.search(r"const MEANINGS = {(.*?)};", table, re.DOTALL)[1]
    theirs = {key: re.findall(r'"(.*?)"', texts) for key, texts in re.findall(r"(\w+): \[(.*?)\],\n", table, re.DOTALL)}

    def letters(text: str) -> str:
        return re.sub(r"\W+", " ", text.lower().replace("blue: evidence against", "blue: against")).strip()

    assert {key: [letters(t) for t in texts] for key, texts in theirs.items()} == {
        key: [letters(t) for t in texts] for key, texts in MEANINGS.items()
    }


def test_meaning_is_saved_and_in_the_payload(tiny, tmp_path) -> None:
    e = saywhy.explain(tiny(), torch.rand(1, 3, 16, 16), target=0, method=["gradcam", "saliency", "fem"], relu=False)
    wanted = {"gradcam": "evidence", "saliency": "sensitivity", "fem": "activity"}
    for shown in (e, Explanation.load(e.save(tmp_path / "why.npz"))):
        assert shown.shows == wanted
        assert {m["method"]: m["shows"] for m in payload(shown)["images"][0]["maps"]} == wanted


def test_an_unknown_method_counts_as_evidence(tiny) -> None:
    e = saywhy.explain(tiny(), torch.rand(1, 3, 16, 16), target=0, relu=False)
    other = e.with_maps({("elsewhere", "features"): e.maps})
    assert other.shows == {"elsewhere": "evidence"}
