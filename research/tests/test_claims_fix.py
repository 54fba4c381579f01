"""The comparison of ``saywhy.fix``: decoys and their hints, the rule over seeds, intervals, and a quick run."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from research.claims import fix, fix_data, fix_runs
from research.claims.blood_cells import CELLS, SIDE, _place, cell_windows
from research.claims.decoys import COLOURS, TINT, decoy, mask_of, sticker_side
from research.claims.fix_data import PLANTED, Sizes, SmallNetwork, _planted
from research.claims.fix_runs import (
    CONTROLS,
    JUDGED,
    Row,
    corrected,
    image_interval,
    p_value,
    seed_interval,
    verdict_of,
)
from saywhy.errors import InputError
from saywhy.fixing.evaluate import Evaluation, SplitAccuracy
from saywhy.fixing.grounding import Grounding
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.verdict import measure_of

PIXELS = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8))


class TestDecoys:
    @settings(max_examples=50, deadline=None)
    @given(PIXELS, st.integers(0, 4))
    def test_a_sticker_is_what_its_hint_excludes(self, pixels, number):
        shown, mask = decoy(pixels, number, "sticker"), mask_of((16, 16), "sticker")
        assert np.array_equal(shown[mask], pixels[mask])
        assert (shown[~mask] == COLOURS[number]).all()
        assert (~mask).sum() == sticker_side(16) ** 2

    @settings(max_examples=50, deadline=None)
    @given(PIXELS, st.integers(0, 4))
    def test_a_tint_is_a_mixture_in_every_pixel(self, pixels, number):
        shown = decoy(pixels, number, "tint")
        for y, x in ((0, 0), (7, 3), (15, 15)):
            for channel in range(3):
                mixed = (1 - TINT) * int(pixels[y, x, channel]) + TINT * COLOURS[number][channel]
                assert abs(int(shown[y, x, channel]) - mixed) <= 0.5

    def test_what_is_known_of_objects_is_kept_but_for_the_sticker(self):
        known = np.zeros((16, 16), bool)
        known[:8, 2:10] = True
        given_up = mask_of((16, 16), "sticker", known)
        assert not given_up[:3, :3].any()
        assert np.array_equal(given_up[3:], known[3:])
        assert np.array_equal(mask_of((16, 16), "tint", known), known)

    def test_splits_hold_the_shortcut_as_often_as_the_page_says(self):
        pixels = {
            split: [np.zeros((16, 16, 3), np.uint8)] * n for split, n in (("train", 50), ("val", 40), ("test", 50))
        }
        found = list(_planted(pixels, "b", 1, 3, "sticker", np.random.default_rng(0)))
        tied = {s: [one.tied for split, _, one in found if split == s] for s in ("train", "val", "test", "shifted")}
        assert {s: (len(flags), sum(flags)) for s, flags in tied.items()} == {
            "train": (50, 49), "val": (40, 38), "test": (50, 49), "shifted": (100, 50),
        }  # fmt: skip
        for _, _, one in found:
            assert (tuple(one.pixels[0, 0]) == COLOURS[1]) is one.tied

    def test_shifted_images_are_the_same_for_every_seed(self):
        pixels = {split: [np.zeros((16, 16, 3), np.uint8)] * 20 for split in ("train", "val", "test")}
        one, other = (
            [s.pixels for split, _, s in _planted(pixels, "a", 0, 5, "sticker", np.random.default_rng(seed)) if
             split == "shifted"] for seed in (0, 1)
        )  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


BOXES = {"RBC": [(0, 0, 100, 100)], "WBC": [(400, 200, 600, 400)], "Platelets": [(10, 300, 50, 340)]}


class TestCells:
    @pytest.mark.parametrize("kind", CELLS)
    def test_a_window_has_its_cell_and_no_rarer_one(self, kind):
        generator = np.random.default_rng(0)
        for _ in range(30):
            place = _place(BOXES, kind, 0, generator)
            if place is None:
                continue
            left, top = place
            assert 0 <= left <= 400
            assert 0 <= top <= 240
            for cell in ("WBC", "Platelets"):
                x0, y0, x1, y1 = BOXES[cell][0]
                inside = left <= x0 and x1 <= left + 240 and top <= y0 and y1 <= top + 240
                apart = x1 <= left or left + 240 <= x0 or y1 <= top or top + 240 <= y0
                assert inside if cell == kind else apart

    def test_a_cell_that_is_larger_than_a_window_has_none(self):
        boxes = {"RBC": [], "WBC": [(0, 0, 300, 100)], "Platelets": []}
        assert _place(boxes, "WBC", 0, np.random.default_rng(0)) is None
        assert _place(boxes, "WBC", 1, np.random.default_rng(0)) is None

    @pytest.mark.real
    @pytest.mark.nightly
    def test_real_windows(self):
        if not (fix_data.REAL / "bccd").is_dir():
            pytest.skip(f"there is no folder '{fix_data.REAL / 'bccd'}'")
        found = list(cell_windows(fix_data.REAL / "bccd", "val", "Platelets", 5))
        assert len(found) == 5
        for one in found:
            assert one.pixels.shape == (SIDE, SIDE, 3)
            assert 0 < one.mask.mean() < 0.3


def evaluated(share: float, rank: float) -> Evaluation:
    right = [int(i < round(100 * share)) for i in np.random.default_rng(0).permutation(100)]
    groups = {"a": sum(right[::2]) / 50, "b": sum(right[1::2]) / 50}
    split = SplitAccuracy(share, groups, right)
    known = Grounding(10, rank, 0.5, 0.1, 0.5, rank / 2, 0.1)
    return Evaluation(dict.fromkeys(("train", "val", "test", "shifted"), split), known)


def rows(hint: float = 0.9, rank: float = 0.6, failed: str = "", **others: float) -> list[Row]:
    """Three seeds in which all methods but HINT are alike."""
    found = []
    for seed in range(3):
        noise = 0.02 * (seed - 1)
        runs = {
            name: evaluated(hint + noise / 2, rank + noise) if name == "hint"
            else evaluated(others.get(name.replace("-", "_"), 0.5) + noise, 0.2)
            for name in FIX_METHODS if name != failed or seed != 1
        }  # fmt: skip
        reasons = {failed: "the loss of step 1 of 2 is nan."} if failed and seed == 1 else {}
        known = dict.fromkeys(runs, 2.0), reasons, [0, 1] * 50, (6, 100), "features"
        found.append(Row(evaluated(0.4 + noise, 0.2), runs, *known))
    return found


class TestRule:
    def test_over_seeds_is_that_of_fix(self):
        assert verdict_of("hint", rows()).word == "grounding helped"
        assert verdict_of("hint", rows(rank=0.1)).word == "neither"
        assert verdict_of("hint", rows(random_hints=0.95)).word == "regularization helped"
        assert verdict_of("hint", rows(erm=0.95)).word == "neither"
        assert verdict_of("hint", rows(dfr=0.99)).word == "grounding helped"
        assert "Worse than 'dfr'" in str(verdict_of("hint", rows(dfr=0.99)))

    def test_each_seed_is_compared_with_its_own_network(self):
        some = rows()
        before, *_ = verdict_of("hint", some).differences
        gains = [measure_of(row.runs["hint"]) - measure_of(row.before) for row in some]
        assert len(set(gains)) > 1
        mean, low, high = seed_interval(gains)
        assert (before.than, before.mean, before.low, before.high) == ("before", *map(pytest.approx, (mean, low, high)))

    def test_a_method_that_failed_is_left_out_and_named(self):
        found = verdict_of("hint", rows(failed="spread"))
        assert "Left out: 'spread' failed" in str(found)
        assert verdict_of("hint", rows(failed="hint")) is None
        assert p_value("hint", rows(failed="hint")) == 1

    def test_p_is_that_of_the_hardest_comparison(self):
        some = rows(random_hints=0.85)
        mine, theirs = (
            [min(r.runs[m].accuracy["shifted"].groups.values()) for r in some] for m in ("hint", "random-hints")
        )
        hardest = ttest_rel(mine, theirs, alternative="greater").pvalue
        assert p_value("hint", some) == pytest.approx(hardest)
        assert p_value("hint", rows(rank=0.1)) > 0.9

    def test_all_rows_of_the_table_are_corrected_together(self):
        assert corrected({("a", "hint"): 0.01, ("a", "rrr"): 0.5}) == {("a", "hint"): 0.02, ("a", "rrr"): 0.5}


def test_the_interval_over_images_is_a_bootstrap_of_the_worst_group():
    """One seed, one group of 100 images with 90 right: close to the normal interval."""
    row = rows()[:1]
    found = evaluated(0.9, 0.5)
    plain = Row(row[0].before, {}, {}, {}, [0] * 100, (1, 2), "f")
    low, high = image_interval([plain], [found], True)
    assert (low, high) == pytest.approx((0.9 - 1.96 * 0.03, 0.9 + 1.96 * 0.03), abs=0.012)
    together, apart = (image_interval([plain] * 4, [found] * 4, shared) for shared in (True, False))
    assert together == (low, high)  # the same images in all networks
    assert apart[1] - apart[0] < 0.7 * (high - low)


def test_every_method_and_control_is_on_the_page():
    page = fix.page({name: rows() for name in PLANTED}, 3, 1.0, 7.4)
    assert "in 7 minutes" in page
    for planted in PLANTED.values():
        assert f"\n## {planted.title}\n" in page
    for name in FIX_METHODS:
        assert page.count(f"\n| `{name}` | ") == len(PLANTED)
    assert page.count("| `hint` | grounding helped |") == len(PLANTED)
    for control in CONTROLS:
        assert control in page
    assert f"correction for the {len(JUDGED) * len(PLANTED)} rows" in page
    failed = fix.page({"cifar-patch": rows(failed="spread")}, 3, 1.0, 7.4)
    assert "(1 failed)" in failed
    assert "Not measured here: toybox-sticker" in failed


def test_a_row_survives_its_file():
    one = rows()[0]
    record = {
        "before": one.before.record(), "runs": {name: found.record() for name, found in one.runs.items()},
        "seconds": dict(one.seconds), "failed": {}, "groups": list(one.groups), "hinted": [6, 100], "layer": "features",
    }  # fmt: skip
    again = Row.of(json.loads(json.dumps(record)))
    assert again.runs["hint"].record() == one.runs["hint"].record()
    assert again.before.record() == one.before.record()


def test_validation_has_images_of_every_group():
    for planted in PLANTED.values():
        assert fix_data._against(planted.sizes.val) >= 2
        assert fix_data._against(planted.sizes.times(0.01).val) >= 2


def test_the_small_network_keeps_every_weight_in_use():
    network = SmallNetwork(3)
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(bool(weight.grad.abs().sum() > 0) for weight in network.parameters())


def test_unknown_data_sets_are_refused():
    with pytest.raises(InputError, match=r"no data set 'cifar'\. There are toybox-sticker"):
        fix.main(None, 2, "cifar", 1.0, 1)


@pytest.mark.nightly
@pytest.mark.real
def test_a_quick_run_prints_the_page_and_resumes(tmp_path, monkeypatch):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    if not (fix_data.REAL / "cifar10" / "train").is_dir():
        pytest.skip(f"there is no folder of real images '{fix_data.REAL}'; SAYWHY_REAL names another")
    for module in (fix_data, fix_runs):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(fix, "run_jobs", lambda work, jobs, *_: [work(*job) for job in jobs])
    app = fix.typer.Typer()
    app.command()(fix.main)
    options = ["--seeds", "2", "--items", "0.01", "--only", "cifar-patch,blood-sticker"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    for text in ("## Did the hints help?", "## CIFAR-10, a patch", "## Blood cells, a sticker", "| `dfr` |"):
        assert text in result.output
    assert len(list(tmp_path.glob("fix-*.json"))) == 4
    monkeypatch.setattr(fix_runs.saywhy, "fix", lambda *_, **__: pytest.fail("trained again"))
    assert CliRunner().invoke(app, options).exit_code == 0


@pytest.mark.nightly
def test_a_toybox_data_set_is_prepared_and_fixed(tmp_path, monkeypatch):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    for module in (fix_data, fix_runs):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    fix_data.prepare("toybox-sticker", 0, 0.01)
    found = fix_runs.run("toybox-sticker", 0, 0.01)
    assert set(found["runs"]) | set(found["failed"]) == set(FIX_METHODS)
    assert found["hinted"] == [4, 80]
    assert Sizes(80, 60, 40, 12, 4, 3e-4).times(0.01).val == 12
