"""The claims of HINT for captions: hints, measures by hand, the verdict's rule, and a quick run."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from research.claims import hint_caption_runs, hint_captions
from research.claims.hint_captions import CONTROLS, METHODS, caption_verdict
from saywhy.alignment.controls import hints_of
from saywhy.alignment.region_methods import REGION_METHODS
from saywhy.metrics.correlation import rank_correlation
from saywhy.tasks.generation.networks import CaptionOutput, with_end
from saywhy.toybox.recipes.caption_regions import CaptionRegionData

REGIONS, WORDS = 6, 9


def found(**better):
    """Runs of three seeds in which HINT is better than all others by the given amounts, with a little noise."""
    rows = {}
    for name in ("base", *METHODS):
        for seed in range(3):
            gain = better if name == "hint" else {}
            noise = 0.001 * ((sum(map(ord, name)) + seed) % 3)
            rows[name, seed] = {
                "test": {"object_f1": 0.6 + gain.get("object_f1", 0) + noise},
                "val": {"rank": 0.1 + gain.get("rank", 0) + noise, "deletion": 0.05 + gain.get("deletion", 0) + noise},
            }
    return rows


def test_grounding_helped_only_if_quality_and_grounding_are_better():
    assert caption_verdict(found(object_f1=0.1, rank=0.1, deletion=0.1), 3).startswith("**Grounding helped**")
    assert caption_verdict(found(rank=0.1, deletion=0.1), 3).startswith("**Neither**")
    assert caption_verdict(found(object_f1=0.1, deletion=0.1), 3).startswith("**Regularization helped**")


def test_a_control_that_is_as_good_means_regularization():
    rows = found(object_f1=0.1, rank=0.1, deletion=0.1)
    for seed in range(3):
        rows["permuted-within", seed] = deepcopy(rows["hint", seed])
    assert caption_verdict(rows, 3).startswith("**Regularization helped**")


def test_every_control_of_the_specification_is_compared():
    assert {REGION_METHODS[name].run for name in CONTROLS} == {"C1", "C3", "C4", "C5", "C6", "C7", "C8", "C10"}
    assert {REGION_METHODS[name].run for name in METHODS} == {f"C{n}" for n in range(1, 13) if n != 11}


def data(scenes=200):
    """Scenes with five captions of two nouns, at the places 1 and 3; noun n of a scene lies on region n."""
    generator = torch.Generator().manual_seed(0)
    nouns = torch.cartesian_prod(torch.arange(scenes), torch.arange(5), torch.tensor([1, 3]))
    importance = torch.rand(len(nouns), REGIONS, generator=generator) / 4
    on_object = torch.zeros(len(nouns), REGIONS, dtype=torch.bool)
    on_object[torch.arange(len(nouns)), nouns[:, 2] // 2] = True
    importance[on_object] += 0.7
    words = torch.tensor([4, 5, 6, 7]).expand(scenes, 5, 4).contiguous()
    regions = torch.rand(scenes, REGIONS, 3, generator=generator) + 0.1
    boxes = torch.zeros(scenes, REGIONS, 4, dtype=torch.long)
    return CaptionRegionData(regions, boxes, [[""] * 5] * scenes, words, nouns, importance, on_object)


def test_hints_are_of_one_caption_of_an_image():
    whole = data()
    human = hint_caption_runs.human_hints(whole)
    hinted = human.isfinite().all(1)
    captions = {tuple(row) for row in whole.nouns[hinted, :2].tolist()}
    assert len({scene for scene, _ in captions}) == len(captions)
    assert len(captions) / (5 * len(whole)) == pytest.approx(0.06, abs=0.02)
    permuted = hints_of("permuted-within-image", human, images=whole.nouns[:, 0]).values
    known = permuted.isfinite().all(1)
    assert torch.equal(known, hinted)
    # Within an image, the hints of the other noun: of other objects.
    assert bool((permuted.argmax(1) != human.nan_to_num(0).argmax(1))[known].all())


class Relying(nn.Module):
    """The logit of every word is the sum of one region: of the noun's object, or of the next."""

    def __init__(self, wrong: int):
        super().__init__()
        self.wrong = wrong

    def forward(self, features, caption):
        sums = features.flatten(2).sum(1)
        region = (torch.arange(caption.shape[1] + 1) // 2 + self.wrong).clamp_max(REGIONS - 1)
        logits = torch.zeros(len(caption), caption.shape[1] + 1, WORDS)
        logits = logits.scatter(2, with_end(caption).unsqueeze(2), 3 * sums[:, region].unsqueeze(2))
        attention = torch.full((len(caption), caption.shape[1] + 1, REGIONS, 1), 0.1)
        attention[:, :, 0] = 0.5
        return CaptionOutput(logits, with_end(caption), attention)


def test_grounding_by_hand():
    whole = data(20)
    right, wrong = (hint_caption_runs.grounding(Relying(n), whole) for n in (0, 4))
    assert right["chance"] == pytest.approx(1 / REGIONS)
    assert (right["hit"], wrong["hit"]) == (1.0, 0.0)
    assert right["attention_hit"] == 0.5  # region 0 is that of the first noun
    assert (right["share"], wrong["share"]) == (1.0, 0.0)
    assert right["size"] == pytest.approx(3 * 3 / REGIONS)
    first = whole.nouns[:, 1] == 0
    alpha = 9.0 * whole.on_object[first]
    assert right["rank"] == pytest.approx(float(rank_correlation(alpha, whole.importance[first]).mean()), abs=1e-6)
    assert right["rank"] > 0.5 > wrong["rank"]
    assert right["deletion"] > 0
    assert right["noun"] == 1.0


@pytest.mark.nightly
def test_quick_run_prints_the_section_and_resumes(tmp_path, monkeypatch):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    pytest.importorskip("sacrebleu", reason="BLEU needs the extra metrics")
    monkeypatch.setattr(hint_caption_runs, "FOLDER", tmp_path)
    monkeypatch.setattr(hint_captions, "METHODS", ("erm", "hint", "spread"))
    monkeypatch.setattr(hint_captions, "CONTROLS", ("erm", "spread"))
    monkeypatch.setattr(hint_captions, "run_jobs", lambda work, jobs, *_: [work(*job) for job in jobs])
    app = hint_captions.typer.Typer()
    app.command()(hint_captions.main)
    options = ["--seeds", "2", "--items", "0.01"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    for heading in ("## Captions", "### Quality of captions", "### Grounding of words", "### Verdict", "C6"):
        assert heading in result.output
    assert len(list(tmp_path.glob("caption-hint-*.json"))) == 8
    with monkeypatch.context() as patch:
        patch.setattr(hint_caption_runs, "_align", lambda *_: pytest.fail("a finished run is trained again"))
        assert CliRunner().invoke(app, options).exit_code == 0
    trained: list[str] = []
    monkeypatch.setattr(hint_caption_runs, "_align", lambda network, training, name, *_: trained.append(name))
    monkeypatch.setattr(hint_caption_runs, "SETTINGS", hint_caption_runs.AlignmentSettings(weight=3.0))
    assert CliRunner().invoke(app, options).exit_code == 0
    assert sorted(set(trained)) == ["erm", "hint", "spread"]  # a row of other settings is measured again
