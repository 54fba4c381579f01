"""The accuracy of verdicts: verdicts from stored values, complete storage, and intervals with a width."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

import saywhy
from research.claims import trust, trust_real
from research.claims.trust import (
    CONTROLS,
    EVERYBODY,
    MAPS,
    Row,
    SceneResult,
    discrimination,
    interval,
    page,
    share,
    stored,
)
from research.claims.trust_controls import MIXTURES
from saywhy.checks import CheckLimits
from saywhy.checks.check import check
from saywhy.statistics import wilson
from saywhy.toybox import scene

pytestmark = pytest.mark.nightly

GOOD: dict[str, float | None] = {
    "diagnostics": 0.0,
    "faithfulness": 0.97,
    "effect size": 5.0,
    "parameter randomization": 0.3,
    "class sensitivity": 0.2,
    "stability": 0.9,
    "completeness": None,
}


def row(number: int = 0, method: str = "gradcam", network: str = "trained", right: float = 1.0, **tests) -> Row:
    """Return a row that passes all checks except those given, with ``_`` for a blank in their names."""
    return Row(network, method, number, right, GOOD | {name.replace("_", " "): value for name, value in tests.items()})


def whole(number: int, seconds: float = 60.0, **control) -> SceneResult:
    """Return all rows of a scene; controls do not change when the weights are randomized."""
    control = control or {"parameter_randomization": 1.0}
    return SceneResult(
        number, seconds, [row(number, m, n, **(control if m in (*CONTROLS, *MIXTURES) else {})) for n, m in EVERYBODY]
    )


@pytest.mark.parametrize("method", ["gradcam", "rsi-gradcam"])
def test_verdicts_from_stored_values_are_those_of_the_check(method):
    explanation = saywhy.explain("toybox:classifier", scene("val", 1).image, method=method)
    for limits in (CheckLimits(), CheckLimits(1.1, 1e9, -1, -1.1, 1.1, -1)):
        said = check(explanation, limits=limits).verdicts[0][0]
        found = Row("trained", method, 1, 1.0, said.values)
        assert found.verdict(limits).passed == said.passed
        assert {t.name: found.passed(t.name, limits) for t in said.results} == {t.name: t.passed for t in said.results}


def test_every_limit_has_a_table_around_the_present_one():
    assert set(trust.AROUND) == set(vars(CheckLimits()))
    text = page([whole(number) for number in range(6)], "val")
    for name, present in vars(CheckLimits()).items():
        name = name.replace("_", " ")
        assert f"### {name}\n" in text
        assert f"| **{present:g}** |" in text.partition(f"### {name}\n")[2].partition("###")[0]


def test_limits_apply_to_the_stored_values():
    found = row(faithfulness=0.85, parameter_randomization=0.6)
    assert not found.verdict(CheckLimits(faithfulness=0.95)).passed
    assert found.verdict(CheckLimits(faithfulness=0.8)).passed
    assert not found.verdict(CheckLimits(faithfulness=0.8, parameter_randomization=0.5)).passed
    assert found.verdict(CheckLimits(faithfulness=0.99), without="faithfulness").passed
    assert not row(completeness=float("nan")).verdict().passed  # measured, and no number


@pytest.mark.parametrize(
    ("successes", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilsons_interval_is_that_of_newcombe_1998(successes, of, low, high):
    assert wilson(successes / of, of) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_share_interval_has_width_at_0_and_100_percent():
    one = [row(number) for number in range(20)]
    several = [row(number, method) for number in range(20) for method in MAPS]
    for rows in (one, several):  # of as many as there are scenes, however many maps of them
        assert share(rows, lambda r: r.right) == "100% (84% to 100%)"
        assert share(rows, lambda r: 1 - r.right) == "0% (0% to 16%)"
    assert share(one[:1], lambda r: r.right) == "100% (21% to 100%)"
    assert share([], lambda r: r.right) == ""


def test_maps_of_a_scene_are_redrawn_together():
    generator = np.random.default_rng(0)
    rows = [row(n, m, right=hit) for n, hit in enumerate(generator.integers(2, size=40)) for m in MAPS]
    found = interval(rows, lambda r: r.right)
    low, high = wilson(found.value, 40)
    assert (found.items, found.scenes) == (40 * len(MAPS), 40)
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_a_check_that_does_not_apply_is_not_passed():
    rows = [row(number, stability=None if number < 5 else 0.9) for number in range(20)]
    assert trust.passes(rows, "stability") == "100% (80% to 100%) of 15"
    assert trust.passes(rows, "completeness") == "not applicable"
    assert trust.passes(rows, "faithfulness") == "100% (84% to 100%)"
    assert "| stability | 15 of 20 | 100% (80% to 100%) of 15 |" in page(
        [SceneResult(r.scene, 1.0, [r, *control_rows(r.scene)]) for r in rows], "val"
    )


def control_rows(number: int) -> list[Row]:
    return [row(number, "control-edges", parameter_randomization=1.0), row(number, "gradcam", "untrained")]


OF = {"version": 1}


class TestStored:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "trust.jsonl"

    def test_stored_scenes_are_read(self, file):
        assert stored(file, OF) == {}
        for number in (3, 5):
            trust.store(file, OF, whole(number))
        assert stored(file, OF) == {3: whole(3), 5: whole(5)}

    @pytest.mark.parametrize("cut", [1, 2, 40, 400])
    def test_an_incomplete_last_line_is_dropped_and_written_again(self, file, cut):
        for number in (3, 5):
            trust.store(file, OF, whole(number))
        file.write_bytes(file.read_bytes()[:-cut])
        assert list(stored(file, OF)) == [3]
        trust.store(file, OF, whole(5))
        assert stored(file, OF) == {3: whole(3), 5: whole(5)}

    def test_a_scene_with_a_row_missing_is_not_done(self, file):
        trust.store(file, OF, SceneResult(3, 1.0, whole(3).rows[:-1]))
        assert stored(file, OF) == {}

    def test_other_settings_are_not_read(self, file):
        file.write_text(json.dumps({"network": "trained", "method": "gradcam", "scene": 3}) + "\n")  # an old format
        trust.store(file, {"version": 0}, whole(3))
        trust.store(file, OF, whole(5))
        assert stored(file, OF) == {5: whole(5)}
        assert len(file.read_text().splitlines()) == 3

    def test_invalid_line_raises_with_its_number(self, file):
        file.write_text("{}\nwhat\n")
        with pytest.raises(ValueError, match=r"expected JSON in .*trust.jsonl, line 2, .* delete it"):
            stored(file, OF)

    def test_settings_are_part_of_the_key(self, monkeypatch):
        of = trust.settings("val")
        assert of == json.loads(json.dumps(of))
        assert of["split"] == "val"
        monkeypatch.setattr(trust, "NEAR", 9)
        assert trust.settings("val") != of

    def test_code_hash_ignores_limits_comments_and_docstrings(self, tmp_path):
        for folder in ("engine", "checks"):
            (tmp_path / folder).mkdir()
        measures, engine = tmp_path / "checks" / "measures.py", tmp_path / "engine" / "subject.py"
        limits = tmp_path / "checks" / "catalogue.py"
        measures.write_text('"""Measures."""\n\nCOPIES = 4\n')
        limits.write_text("class CheckLimits:\n    stability: float = 0.8\n")
        engine.write_text("def made():\n    return 1\n")
        was = trust.code(tmp_path)
        measures.write_text('"""The measures."""\n\nCOPIES = 4  # of the image\n')
        limits.write_text("class CheckLimits:\n    stability: float = 0.7\n")
        engine.write_text('def made():\n    """It."""\n    return 1\n')
        assert trust.code(tmp_path) == was
        engine.write_text("def made():\n    return 2\n")
        assert trust.code(tmp_path) != was


class Drawn:
    """Replaces the measuring: ten minutes a scene on a fake clock; records the scenes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.scenes: list[int] = []
        self.clock = 0.0
        monkeypatch.setattr(trust, "FOLDER", folder)
        monkeypatch.setattr(trust, "rows", self.rows)
        monkeypatch.setattr(trust, "most_certain_kind", lambda _, drawn: "cat" if drawn.index % 2 else None)
        monkeypatch.setattr(trust, "perf_counter", lambda: self.clock)
        monkeypatch.setattr(trust, "REAL", folder / "nowhere")  # photographs take twenty minutes

    def rows(self, network, model, methods, drawn, kind):
        if network == "trained":
            self.scenes.append(drawn.index)
            self.clock += 600
        return [r for r in whole(drawn.index).rows if r.network == network]


def printed(*arguments: str) -> str:
    app = Typer()
    app.command()(trust.main)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_run_continues_and_gives_the_total_time(monkeypatch, tmp_path):
    drawn = Drawn(monkeypatch, tmp_path)
    assert "in 30 minutes" in printed("--split", "val", "--scenes", "3")
    assert drawn.scenes == [1, 3, 5]
    first = printed("--split", "val", "--scenes", "4")
    assert "in 40 minutes" in first
    assert drawn.scenes == [1, 3, 5, 7]
    assert printed("--split", "val", "--scenes", "4", "--out", str(tmp_path / "page.md")) == ""
    assert (tmp_path / "page.md").read_text() == first
    assert drawn.scenes == [1, 3, 5, 7]
    assert "in 20 minutes" in printed("--split", "val", "--scenes", "2")


def test_photographs_are_counted_by_network_and_method(monkeypatch):
    names = ("SqueezeNet", "SqueezeNet, random weights")
    monkeypatch.setattr(trust_real, "networks", lambda: dict.fromkeys(names))
    good = row(0).values
    known = {
        key: good | ({"stability": 0.1} if key[2] == "gradcam" and key[1] < 2 else {})
        for key in trust_real.everything()
    }
    text = trust_real.section(known)
    assert "| SqueezeNet | gradcam | 75% (" in text
    assert "| SqueezeNet | layercam | 100% (" in text
    assert "| SqueezeNet, random weights | gradcam | 75% (" in text
    assert "| SqueezeNet, random weights | eigencam" not in text


def test_the_untrained_network_is_the_same_in_every_run():
    one, other = (trust.untrained().module.state_dict().values() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_page_reports_maps_of_an_untrained_network():
    done = [whole(number) for number in range(20)]
    said = "Of 80 maps of an untrained network, {} pass all checks{}."
    assert said.format("80", "; of these 100% (84% to 100%) are right") in flat(page(done, "val"))
    for one in done:
        one.rows[:] = [row(one.scene, r.method, r.network, stability=0.1) for r in one.rows]
    assert said.format("none", "") in flat(page(done, "val"))


def test_within_methods_a_method_that_is_always_wrong_does_not_count():
    half = [row(n, m, right=float(n % 2), stability=0.9 if n % 2 else 0.1) for n in range(20) for m in ("a", "b")]
    wrong = [row(n, "deconvnet", right=0.0, stability=0.1) for n in range(20)]
    of_all = trust.RowGroups([*half, *wrong], [], [], [])
    assert "the mean over the 2 that have" in of_all.within_methods()
    assert "by +100% (+100% to +100%)" in of_all.within_methods()
    random = [row(n, "a", right=float(n % 2), stability=0.9 if n % 4 < 2 else 0.1) for n in range(40)]
    assert "by +0% (" in trust.RowGroups(random, [], [], []).within_methods()
    assert "no method has both" in trust.RowGroups(wrong, [], [], []).within_methods()


def test_discrimination_reports_what_a_check_separates():
    right = [row(number) for number in range(20)]
    wrong = [row(number, right=0.0) for number in range(20, 40)]
    stays = [row(number, right=0.0, parameter_randomization=1.0) for number in range(20, 40)]
    controls = [row(number, "control-edges", parameter_randomization=1.0) for number in range(40)]
    goes = [row(number, "control-edges") for number in range(40)]
    name = "parameter randomization"
    text = discrimination(name, [*right, *wrong], controls)
    full, none = "100% (84% to 100%)", "0% (0% to 9%)"
    assert text == (
        f"The check *{name}* is passed by {full} of right maps, {full} of wrong maps, {none} of controls. "
        "It separates maps from controls. It does not separate right maps from wrong maps."
    )
    text = discrimination(name, [*right, *stays], goes)
    assert text.endswith("It does not separate maps from controls. It separates right maps from wrong maps.")
    assert discrimination(name, right, controls).endswith("It separates maps from controls.")  # none is wrong
    assert discrimination(name, [*right, *wrong[:4]], controls).endswith(
        "It separates maps from controls."
    )  # of four scenes
    assert (
        discrimination("completeness", right, controls) == "The check *completeness* does not apply to any of the maps."
    )
    assert "parameter randomization* is passed" in flat(page([whole(number) for number in range(6)], "test"))


def flat(text: str) -> str:
    return " ".join(text.split())
