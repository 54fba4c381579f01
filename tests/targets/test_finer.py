"""Finer-CAM as a target: why this rather than those most like it (Zhang et al., CVPR 2025)."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import saywhy
from saywhy.errors import TargetError
from saywhy.output import ModelOutput
from saywhy.targets import Class, Top, as_target, finer

LAYOUT = saywhy.Layout("channels-first", (6, 6))
explain = partial(saywhy.explain, layout=LAYOUT)  # given, because random networks do not always prove theirs

LABELS = ("Siamese cat", "tabby, tiger cat", "bull mastiff", "boxer")
LOGITS = torch.tensor([[1.0, 3.0, -2.0, 0.5], [0.0, -1.0, 4.0, 2.0], [9.0, 1.0, 2.0, 3.0]])


def output(**about: Any) -> ModelOutput:
    return ModelOutput(**{"logits": LOGITS, "labels": LABELS, "raw": LOGITS, **about})


def assert_scores(target: Any, wanted: Any, **about: Any) -> None:
    found = as_target(target).evaluate(output(**about))
    torch.testing.assert_close(found.scores, torch.as_tensor(wanted, dtype=torch.float32))
    assert [len(row) for row in found.names] == [found.scores.shape[1]] * len(found.scores)


def test_score_is_class_minus_mean_of_similar_classes():
    # Class 1: 3, nearest 1 and 0.5; -1, nearest 0 and 2; 1, nearest 2 and 3.
    assert_scores(finer(1, 2, 0.5), [[3 - 0.375], [-1 - 0.5], [1 - 1.25]])
    assert finer(1, 2, 0.5).evaluate(output()).names[0] == ["(tabby, tiger cat - 0.5 mean(Siamese cat, boxer))"]


def test_defaults_are_the_published_strength_and_number():
    assert_scores(finer(1), [[3 + 0.6 * 0.5 / 3], [-1 - 0.6 * 2], [1 - 0.6 * 14 / 3]])


def test_number_of_similar_classes_is_capped():
    assert_scores(finer(0, 99), finer(0, 3).evaluate(output()).scores)


def test_each_sample_has_its_own_similar_classes():
    found = finer(None, 1, 1.0).evaluate(output())
    torch.testing.assert_close(found.scores, torch.tensor([[2.0], [2.0], [6.0]]))
    assert [row[0] for row in found.names] == [
        "(tabby, tiger cat - 1 mean(Siamese cat))",
        "(bull mastiff - 1 mean(boxer))",
        "(Siamese cat - 1 mean(boxer))",
    ]


@pytest.mark.parametrize("given", [Top(2), torch.tensor([[1, 0], [2, 3], [0, 3]]), ["tiger cat", 0]])
def test_several_targets_give_several_scores(given):
    found = finer(given, 2).evaluate(output())
    assert found.scores.shape == (3, 2)
    assert bool((found.classes == -1).all())


def test_similar_classes_can_be_given():
    assert_scores(finer("boxer", ["bull mastiff", 0], 1.0), [[0.5 + 0.5], [2 - 2], [3 - 5.5]])
    assert_scores(finer("boxer", "bull mastiff", 1.0), [[2.5], [-2], [1]])


def test_weights_define_similarity_by_cosine():
    """Rows 1 and 3 point the same way, whatever their length and whatever the scores of the image."""
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 9.0]])
    assert_scores(finer(1, 1, 1.0, weights=weights), LOGITS[:, 1:2] - LOGITS[:, 3:])
    with pytest.raises(TargetError, match=r"weights must be those of the last layer, \[4, feature\]"):
        finer(1, weights=weights[:3]).evaluate(output())


def test_weighted_uses_class_probabilities():
    shares = LOGITS.softmax(1)
    wanted = LOGITS[:, 1] - 0.6 * (LOGITS * shares)[:, [0, 2, 3]].sum(1) / shares[:, [0, 2, 3]].sum(1)
    assert_scores(finer(1, weighted=True), wanted.unsqueeze(1))


def test_score_setting_is_used():
    probabilities = LOGITS.softmax(1)
    wanted = probabilities[:, 1:2] - probabilities[:, [0, 3]].mean(1, keepdim=True)
    found = finer(1, 2, 1.0).evaluate(output(score="probability")).scores
    torch.testing.assert_close(found[:1], wanted[:1])
    torch.testing.assert_close(finer(Class(1, "probability"), 2, 1.0).evaluate(output()).scores, found)


def test_negation_and_difference_of_targets():
    turned = (-finer(1, 2, 0.5)).evaluate(output())
    torch.testing.assert_close(turned.scores, torch.tensor([[-2.625], [1.5], [0.25]]))
    assert turned.names[0] == ["-(tabby, tiger cat - 0.5 mean(Siamese cat, boxer))"]
    assert_scores(finer(1, 2, 0.5) - 2.0 * Class(0), [[0.625], [-1.5], [-18.25]])


def test_resolved_target_keeps_its_similar_classes():
    fixed = finer(None, 1, 1.0).resolved(output())
    changed = fixed.evaluate(output(logits=LOGITS.flip(1)))
    torch.testing.assert_close(changed.scores[0], torch.tensor([-2.0 - 0.5]))  # still class 1 less class 0
    one = fixed.of_samples(torch.tensor([2, 2])).evaluate(output(logits=LOGITS[[2, 2]]))
    torch.testing.assert_close(one.scores, torch.tensor([[6.0], [6.0]]))
    part = fixed.of_samples(slice(1, 2)).evaluate(output(logits=LOGITS[1:2]))
    torch.testing.assert_close(part.scores, torch.tensor([[2.0]]))
    part = finer(torch.tensor([1, 2, 0]), 1, 1.0).of_samples(slice(1, 3)).evaluate(output(logits=LOGITS[1:]))
    torch.testing.assert_close(part.scores, torch.tensor([[2.0], [6.0]]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "rsi-gradcam"])
@pytest.mark.parametrize("size", [None, 1, 2])
def test_batch_equals_samples_one_by_one(tiny, images, method, size):
    network, batch = tiny(), images(3)
    settings = {"method": method, "layer": "features", "relu": False, "batch_size": size}
    together = explain(network, batch, finer(None, 2), **settings)
    alone = [explain(network, one[None], finer(None, 2), **settings) for one in batch]
    torch.testing.assert_close(together.maps, torch.cat([e.maps for e in alone]), rtol=1e-4, atol=1e-6)
    assert together.targets == [e.targets[0] for e in alone]


def test_evidence_shared_by_two_classes_is_removed():
    """Two classes look at the first quarter alike, and one of them at the second too."""
    network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(8, 3, bias=False))
    rows = [[1.0, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, -1, -1]]
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor(rows))
    settings = {"method": "hirescam", "layer": "0", "layout": saywhy.Layout("channels-first", (2, 4))}
    image = torch.ones(1, 1, 2, 4)
    plain = saywhy.explain(network, image, 0, **settings).maps
    fine = saywhy.explain(network, image, finer(0, 1, 1.0), **settings).maps
    assert plain.flatten().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert fine.flatten().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    found = saywhy.explain(network, image, finer(0, 1, 1.0), relu=False, **settings)
    torch.testing.assert_close(
        saywhy.explain(network, image, -finer(0, 1, 1.0), relu=False, **settings).maps, -found.maps
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: finer(0, 0), "similar must be a whole number of at least 1, whole numbers or words, got 0"),
        (lambda: finer(0, True), "similar must be a whole number"),
        (lambda: finer(0, [1.5]), r"similar must be .* whole numbers or words, got \[1\.5\]"),
        (lambda: finer(0, []), "at least one class in similar"),
        (lambda: finer(0, alpha=-1), "alpha must be a number of at least 0"),
        (lambda: finer(0, alpha=float("nan")), "alpha must be a number of at least 0, got nan"),
        (lambda: finer(Class(0) - Class(1)), "finer needs classes"),
        (lambda: finer(lambda out: out[:, 0]), "finer needs classes"),
        (lambda: finer(0, [0, 1]).evaluate(output()), "holds the class itself"),
        (lambda: finer(0, ["horse"]).evaluate(output()), "no class 'horse'"),
        (lambda: finer("horse").evaluate(output()), "no class 'horse'"),
        (lambda: finer(0).evaluate(ModelOutput(torch.ones(2, 1))), "1 number a sample"),
    ],
)
def test_invalid_arguments_raise(wrong, message):
    with pytest.raises(TargetError, match=message):
        wrong()
