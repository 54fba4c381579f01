"""A count as a target: of counters, density maps, boxes and queries."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.engine.layout import Layout
from saywhy.errors import TargetError
from saywhy.output import ModelOutput, NoClassScores
from saywhy.targets import Count
from saywhy.targets.expression import parse_target

LABELS = ("cat", "mug")
CELLS = torch.tensor([[[1.0, -0.5], [0.25, 2.0]], [[0.0, 0.0], [3.0, -1.0]]])


def of_raw(raw: Any, samples: int = 2, labels: Any = LABELS) -> ModelOutput:
    return NoClassScores(torch.zeros(samples, 0), raw=raw, labels=labels)


def soft(scores: Tensor, threshold: float, temperature: float) -> float:
    return sum(1 / (1 + math.exp(-(s - threshold) / temperature)) for s in scores.tolist())


def test_counts_of_counters_are_sums_before_clamping():
    output = of_raw(SimpleNamespace(cells=CELLS, counts=CELLS.clamp_min(0).sum(1)))
    assert Count("mug").evaluate(output).scores.tolist() == [[1.5], [-1.0]]
    assert Count(0, cell=1).evaluate(output).scores.tolist() == [[0.25], [3.0]]
    found = Count().evaluate(output)
    assert found.scores.tolist() == [[2.75], [2.0]]
    assert found.names == [["count"]] * 2
    assert Count("mug", cell=1).evaluate(output).names[0] == ["count of mug in cell 1"]
    assert found.classes.tolist() == [[-1], [-1]]


def test_density_maps_are_summed():
    alone = torch.tensor([[[[0.5, 0.25], [0.0, 1.0]]], [[[0.0, 0.0], [-0.5, 0.25]]]])
    assert Count().evaluate(of_raw(alone)).scores.tolist() == [[1.75], [-0.25]]
    named = torch.cat([alone, 2 * alone], 1)
    for raw in ({"density": named}, SimpleNamespace(density=named)):
        assert Count("mug").evaluate(of_raw(raw)).scores.tolist() == [[3.5], [-0.5]]
        assert Count().evaluate(of_raw(raw)).scores.tolist() == [[5.25], [-0.75]]
    assert Count().evaluate(of_raw({"density": alone[:, 0]})).scores.tolist() == [[1.75], [-0.25]]


def boxes() -> list[dict[str, Tensor]]:
    return [
        {
            "boxes": torch.zeros(3, 4),
            "scores": torch.tensor([0.9, 0.55, 0.3], requires_grad=True),
            "labels": torch.tensor([0, 1, 0]),
        },
        {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)},
    ]


def test_boxes_above_a_threshold_are_counted_softly():
    raw = boxes()
    found = Count("cat").evaluate(of_raw(raw)).scores
    assert found[0].item() == pytest.approx(soft(raw[0]["scores"][[0, 2]], 0.5, 0.1))
    assert found[1].item() == 0
    (gradient,) = torch.autograd.grad(found.sum(), raw[0]["scores"])
    assert (gradient > 0).tolist() == [True, False, True]
    everything = Count(threshold=0.4, temperature=1e-3).evaluate(of_raw(raw)).scores
    assert everything.flatten().tolist() == pytest.approx([2.0, 0.0], abs=1e-6)
    unnamed = Count(1).evaluate(of_raw(raw, labels=None))
    assert unnamed.scores[0].item() == pytest.approx(soft(raw[0]["scores"][1:2], 0.5, 0.1))
    assert unnamed.names[0] == ["count of class 1"]
    assert Count(7).evaluate(of_raw(raw, labels=None)).scores.tolist() == [[0.0], [0.0]]


def test_queries_of_dense_detectors_are_counted_softly():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    place = torch.zeros(2, 5, 4)
    probabilities = logits.softmax(2)[..., :2]
    wanted = torch.tensor([[soft(probabilities[b, :, 1], 0.5, 0.1)] for b in range(2)])
    detr = Count("mug", scale="softmax").evaluate(of_raw({"logits": logits, "pred_boxes": place}))
    torch.testing.assert_close(detr.scores, wanted)
    each = Count("mug").evaluate(of_raw(SimpleNamespace(scores=probabilities, boxes=place)))
    torch.testing.assert_close(each.scores, wanted)
    own = Count(2, scale="sigmoid").evaluate(of_raw({"pred_logits": logits, "pred_boxes": place}, labels=None))
    torch.testing.assert_close(
        own.scores, torch.tensor([[soft(logits[b, :, 2].sigmoid(), 0.5, 0.1)] for b in range(2)])
    )


def test_numbers_of_a_regression_are_counts():
    output = ModelOutput(torch.tensor([[3.0], [1.5]]), scale="value")
    assert Count().evaluate(output).scores.tolist() == [[3.0], [1.5]]


@pytest.mark.parametrize(
    ("target", "raw", "message"),
    [
        (Count(), torch.zeros(2, 10), r"nothing in the model's output \(a tensor \[2, 10\]\) is a count"),
        (Count(), torch.zeros(2, 21, 4, 4), "or named density"),
        (Count(), torch.zeros(2, 49, 8), "nothing in the model's output"),
        (Count(), {"out": torch.zeros(2, 21, 4, 4)}, "dict of out"),
        (Count("dog"), SimpleNamespace(cells=CELLS), "no class 'dog'; the classes are 'cat', 'mug'"),
        (Count(2), SimpleNamespace(cells=CELLS), "no class 2: the model has 2 classes"),
        (Count(0, cell=2), SimpleNamespace(cells=CELLS), "no cell 2: the counter has 2 cells"),
        (Count(0, cell=0), {"density": torch.zeros(2, 1, 3, 3)}, "Leave cell out"),
        (Count("dog"), boxes(), "no class 'dog'"),
        (
            Count("mug"),
            {"logits": torch.full((2, 5, 3), 4.0), "pred_boxes": torch.zeros(2, 5, 4)},
            "got 4. If they are",
        ),
    ],
)
def test_other_outputs_are_refused(target, raw, message):
    with pytest.raises(TargetError, match=message):
        target.evaluate(of_raw(raw))


def test_logits_of_a_classifier_are_no_counts():
    with pytest.raises(TargetError, match="scale='value'"):
        Count(0).evaluate(ModelOutput(torch.zeros(2, 3), raw=torch.zeros(2, 3)))


def test_labels_without_names_are_numbers():
    with pytest.raises(TargetError, match="a label of boxes, which has no names here, must be a whole number"):
        Count("cat").evaluate(of_raw(boxes(), labels=None))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Count(cell=-1), "cell must be a whole number of at least 0"),
        (lambda: Count(threshold=2), "threshold must be a number from 0 to 1"),
        (lambda: Count(temperature=0), "temperature must be a number above 0"),
        (lambda: Count(scale="logit"), "scale must be probability, sigmoid or softmax"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(TargetError, match=message):
        call()


def test_the_target_has_a_name_on_the_command_line():
    assert parse_target("count(mug)", None) == Count("mug")
    assert parse_target("count", None) == Count()


class Density(nn.Module):
    """A density map of one channel: the mean colour above a half, of both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean(1, keepdim=True) - 0.5


class Detector(nn.Module):
    """A detector with one box for every cell of a 4 x 4 grid, as torchvision gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 3, stride=3)
        nn.init.constant_(self.maps.bias, 0.0)

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for scores in self.maps(images).sigmoid():
            flat = scores.flatten()
            found.append({"boxes": torch.zeros(32, 4), "scores": flat, "labels": torch.arange(2).repeat_interleave(16)})
        return found


def test_the_map_of_a_density_is_the_density(images):
    x = images(2, 12).abs()
    layout = Layout("channels-first", (12, 12))
    found = saywhy.explain(Density(), x, Count(), "hirescam", layer="maps", layout=layout, relu=False)
    torch.testing.assert_close(found.maps[:, 0], x.mean(1))
    occluded = saywhy.explain(Density(), x, Count(), "occlusion", window=1, stride=1, fill="zero").maps[:, 0]
    torch.testing.assert_close(occluded, x.mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "rsi-gradcam", "occlusion"])
def test_a_detectors_count_is_explained_with_both_signs(method, images):
    torch.manual_seed(0)
    network = Detector()
    settings = (
        {} if method == "occlusion" else {"layer": "maps", "layout": Layout("channels-first", (4, 4)), "relu": False}
    )
    found = saywhy.explain(network, images(2), Count(1), method, **settings)
    assert bool((found.maps != 0).any())
    single = saywhy.explain(network, images(2)[1:], Count(1), method, **settings)
    torch.testing.assert_close(found.maps[1:], single.maps, rtol=1e-4, atol=1e-6)
    wanted = [sum(((s - 0.5) / 0.1).sigmoid() for s in one["scores"][16:]) for one in network(images(2))]
    torch.testing.assert_close(found.scores[:, 0], torch.stack(wanted).detach())


@pytest.mark.nightly
def test_the_count_of_a_torchvision_detector_has_a_gradient():
    """Suppression and thresholds select boxes; the scores of those that are left keep their graph."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    network = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, box_score_thresh=0.0, min_size=96, max_size=96
    ).eval()
    x = torch.rand(1, 3, 96, 96)
    (found,) = network(x)
    label = int(found["labels"][0])
    settings = {"layer": "backbone.body.16", "relu": False, "layout": Layout("channels-first", (3, 3))}
    e = saywhy.explain(network, x, Count(label, threshold=0.25), "gradcam", **settings)
    wanted = ((found["scores"][found["labels"] == label] - 0.25) / 0.1).sigmoid().sum()
    torch.testing.assert_close(e.scores[0, 0], wanted.detach())
    assert e.maps.abs().sum() > 0
