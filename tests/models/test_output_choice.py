"""Which tensor of a structured output holds the class scores: by names, by counts, by the graph; else a refusal."""

from collections import namedtuple
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import SaywhyWarning, TargetError
from saywhy.output import parse_output

explain = partial(saywhy.explain, layout=saywhy.Layout("channels-first", (6, 6)), layer="network.features")
LABELS = ["cat", "dog", "fox", "owl"]


class Heads(nn.Module):
    """A network whose pooled features, and heads on them, are returned in any form."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.network, self.form = TinyNetwork.build(4, "linear"), form
        self.other, self.value = nn.Linear(5, 4), nn.Linear(5, 1)

    def forward(self, images: Tensor) -> Any:
        x = self.network.features(self.network.stem(images))
        f = x.flatten(2).mean(-1)
        return self.form(f, self.network.fc(f), self.other(f))


Named = namedtuple("Named", ("embedding", "prediction"))

CHOSEN = {
    "feature first, labels": (lambda f, y, z: (f, y), LABELS),
    "feature first, graph": (lambda f, y, z: (f, y), None),
    "features flattened": (lambda f, y, z: (f.unsqueeze(2).flatten(1), y), None),
    "logits and probabilities": (lambda f, y, z: (y, y.softmax(1)), None),
    "probabilities and logits": (lambda f, y, z: (y.softmax(1), y), None),
    "embedding in a dict": (lambda f, y, z: {"embedding": f, "y": y}, None),
    "value head": (lambda f, y, z: {"value": z[:, :1], "policy_logits": y}, None),
    "nested": (lambda f, y, z: {"head": {"cls_logits": y, "aux": z}, "features": f}, None),
    "named tuple": (lambda f, y, z: Named(f, y), None),
    "image embeddings": (lambda f, y, z: {"image_embeds": f, "logits_per_image": y, "logits_per_text": y.t()}, None),
    "features under the name of scores, labels": (lambda f, y, z: {"out": f, "pred": y}, LABELS),
    "an anomaly under the name of scores, labels": (lambda f, y, z: {"scores": z[:, :1], "cls": y}, LABELS),
    "scores and auxiliary scores, labels": (lambda f, y, z: {"out": y, "aux": z}, LABELS),
    "an energy beside scores": (lambda f, y, z: (y, y.logsumexp(1)), None),
    "a critic without an axis": (lambda f, y, z: (y, z[:, 0]), None),
    "copy": (lambda f, y, z: [y, y.detach()], None),
}


@pytest.mark.parametrize(("form", "labels"), CHOSEN.values(), ids=list(CHOSEN))
@pytest.mark.parametrize("method", ["gradcam", "saliency", "occlusion"])
def test_class_scores_are_chosen(images, form, labels, method):
    model = Heads(form)
    at = {"layout": saywhy.Layout("channels-first", (6, 6))} if method == "gradcam" else {}
    plain = saywhy.explain(model.network, images(2), 1, method, "features", **at)
    found = saywhy.explain(saywhy.load(model, labels=labels), images(2), 1, method, "network.features", **at)
    torch.testing.assert_close(found.scores, plain.scores)
    torch.testing.assert_close(found.maps, plain.maps)


@pytest.mark.parametrize("form", [lambda f, y, z: (f, z[:, 0]), lambda f, y, z: (z[:, 0], f)])
def test_one_logit_a_sample_without_an_axis_is_chosen_before_its_features(images, form):
    model = Heads(lambda f, y, z: form(f, y, torch.nn.functional.linear(f, torch.ones(1, 5))))
    found = explain(model, images(2), None)
    expected = explain(model, images(2), lambda out: next(one for one in out if one.ndim == 1))
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.maps, expected.maps)


REFUSED = {
    "two heads": (lambda f, y, z: (y, z), None, r"2 tensors .*0 \[1, 4\], 1 \[1, 4\]. Choose one with output='0' or"),
    "two heads with labels": (lambda f, y, z: (y, z), LABELS, r"0 \[1, 4\], 1 \[1, 4\] and the model has 4 labels"),
    "actor and critic": (lambda f, y, z: (y, z[:, :1]), None, r"0 \[1, 4\], 1 \[1, 1\]"),
    "other labels": (
        lambda f, y, z: (f, x_of(y)),
        ["a", "b"],
        r"one tensor \[batch, number\], 0 \[1, 5\], and the model has 2",
    ),
    "embedding by name": (
        lambda f, y, z: {"image_embeds": f},
        None,
        r"no class scores by its names: image_embeds \[1, 5\]",
    ),
    "pooled states": (
        lambda f, y, z: {"last_hidden_state": f[:, None], "pooler_output": f},
        None,
        r"pooler_output \[1, 5\]",
    ),
    "value by name": (lambda f, y, z: {"value": z[:, :1]}, None, r"value \[1, 1\]"),
    "one tensor an attribute": (lambda f, y, z: list(y.split(1, 1)), None, r"4 tensors .*0 \[1, 1\], 1 \[1, 1\]"),
    "scores and values of one layer": (lambda f, y, z: y.split([3, 1], 1), None, r"2 tensors .*0 \[1, 3\], 1 \[1, 1\]"),
    "values alone": (lambda f, y, z: {"critic": z[:, :1]}, None, r"critic \[1, 1\]"),
    "boxes": (lambda f, y, z: {"boxes": y, "scores": z[:, 0], "labels": z.argmax(1)}, None, r"boxes \[1, 4\]"),
}


def x_of(y: Tensor) -> Tensor:
    """A map, which is no [batch, class]."""
    return y[:, :, None, None]


@pytest.mark.parametrize(("form", "labels", "message"), REFUSED.values(), ids=list(REFUSED))
def test_ambiguous_output_is_refused_with_a_list(images, form, labels, message):
    model = saywhy.load(Heads(form), labels=labels)
    for target in (None, 0):
        with pytest.raises(TargetError, match=message):
            explain(model, images(1), target)


def test_function_of_an_ambiguous_output_is_explained(images):
    model = Heads(lambda f, y, z: (y, z))
    found = explain(model, images(2), lambda out: out[1][:, 0])
    chosen = explain(model, images(2), 0, output=1)
    torch.testing.assert_close(found.maps, chosen.maps)
    torch.testing.assert_close(found.maps, explain(model, images(2), 0, output=np.int64(1)).maps)


def test_single_detection_is_no_class_score():
    one = [{"boxes": torch.rand(1, 4), "scores": torch.rand(1), "labels": torch.ones(1, dtype=torch.long)}]
    with pytest.raises(TargetError, match=r"boxes \[1, 4\]"):
        parse_output(one, 1).check_classes()


def test_tuple_of_normalised_embeddings_is_refused(images):
    """open_clip returns (image features, text features, scale)."""
    image, text = (torch.nn.functional.normalize(torch.randn(n, 512)) for n in (2, 3))
    for given in ((image, text, torch.tensor(100.0)), image):
        with pytest.raises(TargetError, match=r"\[2, 512\] is an embedding \(every row has norm 1\)"):
            parse_output(given, 2).check_classes()


def test_network_without_a_head_is_refused(images):
    """timm sets ``num_classes`` to 0 where the head was removed; a head that the user put there counts."""
    network = TinyNetwork.build(4, "linear")
    network.num_classes = 0
    network.get_classifier = lambda: network.fc
    assert saywhy.explain(network, images(1), 1, "saliency").classes.tolist() == [[1]]
    network.fc = nn.Identity()
    with pytest.raises(TargetError, match=r"no classes \(num_classes=0\), so its output \[1, 5\] holds features"):
        saywhy.explain(network, images(1), 1, "saliency")


def test_more_labels_than_classes_warn(images):
    model = saywhy.load(TinyNetwork.build(4), labels=list("abcde"))
    with pytest.warns(SaywhyWarning, match="gives 4 classes, but has 5 labels"):
        saywhy.explain(model, images(1), 1, "saliency")


def test_choice_does_not_depend_on_the_graph_of_a_pass(images):
    """Occlusion runs without a graph; the choice was made with one, and is the same for every batch."""
    model = Heads(lambda f, y, z: (f, y))
    for batch in (images(1), images(3)):
        plain = saywhy.explain(model.network, batch, 1, "occlusion")
        torch.testing.assert_close(saywhy.explain(model, batch, 1, "occlusion").maps, plain.maps)


@pytest.mark.parametrize(("classes", "taken"), [(4, True), (7, False)])
def test_hidden_state_is_taken_only_if_the_model_states_as_many_classes(images, classes, taken):
    model = Heads(lambda f, y, z: {"last_hidden_state": y, "hidden_states": None})
    model.num_classes = classes
    if taken:
        plain = saywhy.explain(model.network, images(2), 1, "saliency")
        torch.testing.assert_close(saywhy.explain(model, images(2), 1, "saliency").maps, plain.maps)
    else:
        with pytest.raises(TargetError, match="no class scores by its names: last_hidden_state"):
            saywhy.explain(model, images(2), 1, "saliency")
