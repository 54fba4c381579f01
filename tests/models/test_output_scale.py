"""The scale of a network's output: what it returns is found from its graph, and never squashed twice."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import SaywhyWarning, TargetError
from saywhy.output import ModelOutput, scale_of
from saywhy.targets import Class, Uncertain
from saywhy.uncertainty import ensemble, estimate

explain = partial(saywhy.explain, layout=saywhy.Layout("channels-first", (6, 6)), layer="network.features")


class Ending(nn.Module):
    """A network with another last function."""

    def __init__(self, end: Any, classes: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.end, self.scale = TinyNetwork.build(classes), end, scale

    def forward(self, images: Tensor) -> Any:
        return self.end(self.scale * self.network(images))


class Foreign(torch.autograd.Function):
    """A softmax of the user's own, which the graph does not show."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        p = x.softmax(1)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        return p * (grad - (grad * p).sum(1, keepdim=True))


@torch.no_grad()
def without_graph(x: Tensor) -> Tensor:
    return x.softmax(1)


def by_hand(x: Tensor) -> Tensor:
    e = (x - x.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


NORMALIZED = {
    "softmax": lambda x: x.softmax(1),
    "module in a view": lambda x: nn.Softmax(dim=1)(x).unsqueeze(1).squeeze(1),
    "mean of two": lambda x: (x.softmax(1) + (2 * x).softmax(1)) / 2,
    "mean of a stack": lambda x: torch.stack([x.softmax(1), (2 * x).softmax(1)]).mean(0),
    "exp of log-softmax": lambda x: x.log_softmax(1).exp(),
    "clamped": lambda x: x.softmax(1).clamp(1e-6, 1 - 1e-6),
    "by hand": by_hand,
    "own function": Foreign.apply,
}


class TestDetection:
    @pytest.mark.parametrize("end", NORMALIZED.values(), ids=list(NORMALIZED))
    @pytest.mark.parametrize("method", ["gradcam", "occlusion"])
    def test_network_that_ends_in_a_softmax_is_not_squashed_again(self, images, end, method):
        model, batch = Ending(end, scale=4), images(1)
        with torch.no_grad():
            p = model(batch)
        found = explain(model, batch, 1, method)
        assert found.score == "probability"
        torch.testing.assert_close(found.probabilities, p[:, 1:2])
        torch.testing.assert_close(found.scores, p[:, 1:2])

    @pytest.mark.parametrize("method", ["gradcam", "occlusion"])
    def test_network_that_ends_in_a_sigmoid_is_not_squashed_again(self, images, method):
        batch = images(2)
        for end in (torch.sigmoid, nn.functional.hardsigmoid, lambda x: 1 - x.sigmoid()):
            model = Ending(end, classes=1)
            found = explain(model, batch, None, method)
            torch.testing.assert_close(found.probabilities, model(batch).detach())

    def test_log_softmax_is_a_log_probability(self, images):
        model, batch = Ending(lambda x: x.log_softmax(1)), images(2)
        found = explain(model, batch, 1)
        assert found.score == "log-probability"
        torch.testing.assert_close(found.probabilities, model(batch)[:, 1:2].exp().detach())

    def test_logits_that_happen_to_look_like_probabilities_stay_logits(self, images):
        """The bias of the last layer is planted so that one image's logits lie in 0 to 1 and sum to 1."""
        model, batch = TinyNetwork.build(), images(1)
        with torch.no_grad():
            model.fc.bias += torch.tensor([0.1, 0.2, 0.3, 0.4]) - model(batch)[0]
            torch.testing.assert_close(model(batch).sum(), torch.tensor(1.0))
        found = saywhy.explain(model, batch, 1, "saliency")
        assert found.score == "logit"
        torch.testing.assert_close(found.probabilities, model(batch).softmax(1)[:, 1:2].detach())

    def test_other_images_decide_where_the_graph_does_not_show_the_last_function(self, images):
        """One image's logits lie in 0 to 1 and sum to 1 by chance; those of others do not."""

        class Same(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(ctx: Any, grad: Tensor) -> Tensor:
                return grad

        model, batch = Ending(Same.apply, scale=200), images(1)
        with torch.no_grad():
            model.network.fc.bias += (torch.tensor([0.1, 0.2, 0.3, 0.4]) - model(batch)[0]) / 200
            torch.testing.assert_close(model(batch).sum(), torch.tensor(1.0))
        for method in ("gradcam", "saliency"):
            assert explain(model, batch, 1, method).score == "logit"

    def test_scores_between_0_and_1_without_a_graph_are_told(self, images):
        opaque = Ending(lambda x: without_graph(torch.stack([x, -x], 1))[:, 0].detach())
        with pytest.warns(SaywhyWarning, match=r"lie between 0 and 1 but do not sum to 1.*scale='logit'"):
            saywhy.explain(opaque, images(1), 1, "occlusion")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = saywhy.explain(saywhy.load(opaque, scale="probability"), images(1), 1, "occlusion")
        torch.testing.assert_close(found.probabilities, opaque(images(1))[:, 1:2].detach())

    @pytest.mark.parametrize(
        "end", [lambda x: 1 / (1 + (-x).exp()), lambda x: x.sigmoid() ** 2, lambda x: (x.tanh() + 1) / 2]
    )
    def test_bounded_functions_by_hand_are_told_and_not_squashed_again(self, images, end):
        model, batch = Ending(end), images(1)
        with pytest.warns(SaywhyWarning, match="lie between 0 and 1 but do not sum to 1"):
            found = explain(model, batch, 1)
        torch.testing.assert_close(found.probabilities, model(batch)[:, 1:2].detach())

    def test_a_rating_of_another_image_shows_that_it_is_no_probability(self, images):
        """The factor is computed, so that the graph of the first image does not show it."""
        model, batch = Ending(lambda x: 5 * x.abs().amax().detach().sign() * x.sigmoid(), classes=1), images(1)
        with torch.no_grad():
            model.network.fc.bias += torch.tensor([0.1]).logit() - model(batch).div(5).logit()[0]
        first = explain(model, batch, None)
        assert 0 < float(first.scores) < 1
        with torch.no_grad():
            model.network.fc.bias += 3  # as another image may give
        with pytest.warns(SaywhyWarning, match="beyond 0 to 1"):
            found = explain(model, batch, None)
        assert found.score == "value"
        assert found.probabilities is None
        assert explain(model, batch, None).score == "value"

    def test_replaced_head_is_read_anew(self, images):
        model, batch = Ending(lambda x: x), images(1)
        assert explain(model, batch, 1).score == "logit"
        model.network.fc = nn.Sequential(model.network.fc, nn.Softmax(1))
        assert explain(model, batch, 1).score == "probability"
        assert explain(model, batch, 1, "occlusion").score == "probability"

    @pytest.mark.parametrize(
        ("end", "scale"),
        [
            (lambda x: x, "logit"),
            (lambda x: x.relu(), "logit"),
            (lambda x: x.softmax(1), "probability"),
            (lambda x: x.sigmoid() * x.softmax(1), "probability"),
            (lambda x: 100 * x.softmax(1), "value"),
            (lambda x: (x.softmax(1) + 1e-8).log(), "log-probability"),
            (lambda x: nn.functional.logsigmoid(x), "log-probability"),
            (lambda x: nn.functional.linear(x.softmax(1), torch.eye(4) / 2), None),
            (lambda x: nn.functional.linear(x.softmax(1), torch.eye(4) * 9), "logit"),
            (lambda x: x.sigmoid().unsqueeze(2).expand(-1, -1, 3).amax(2), "probability"),
            (lambda x: x.sigmoid().topk(2, 1).values, "probability"),
            (lambda x: x.sigmoid().unsqueeze(2).expand(-1, -1, 3).median(2).values, "probability"),
            (lambda x: nn.functional.adaptive_max_pool2d(x.sigmoid()[..., None, None], 1).flatten(1), "probability"),
            (lambda x: nn.functional.adaptive_avg_pool2d(x.sigmoid()[..., None, None], 1).flatten(1), "probability"),
            (lambda x: torch.maximum(x.sigmoid(), x.softmax(1)), "probability"),
            (lambda x: 1 / (1 + (-x).exp()), None),
            (lambda x: x.sigmoid() ** 2, None),
            (lambda x: (x.softmax(1) * x.sigmoid()).sqrt(), None),
            (lambda x: (x.tanh() + 1) / 2, None),
            (lambda x: 1 - (1 - x.sigmoid().unsqueeze(2).expand(-1, -1, 3)).prod(2), None),
            (lambda x: x.tanh(), "logit"),
            (lambda x: nn.functional.linear(x, torch.eye(4) / 9) ** 2, "logit"),
            (lambda x: nn.functional.linear(x, torch.eye(4) / 9).unsqueeze(2).norm(dim=2), "logit"),
            (lambda x: 3 * x.tanh(), "logit"),
            (lambda x: 5 * x.softmax(1), "value"),
            (lambda x: 1.5 * (x / 9).softmax(1), "value"),
            (lambda x: by_hand(x), None),
            (lambda x: x.softmax(1).detach(), None),
        ],
    )
    def test_scale_of_last_functions(self, end, scale):
        x = torch.tensor([[0.2, -0.5, 1.0, 0.4]], requires_grad=True)
        assert scale_of(end(x)) == scale


class TestRegression:
    @pytest.mark.parametrize(
        "method",
        [
            "occlusion",
            "reciprocam",
            "rsi-gradcam",
            *(pytest.param(name, marks=pytest.mark.slow) for name in ("rise", "lime", "kernelshap")),
        ],
    )
    def test_large_values_are_explained_as_they_are(self, images, method):
        """An age of about 60 would saturate a sigmoid: every map would be blank or noise."""
        model, batch = Ending(lambda x: 60 + 10 * x, classes=1), images(1)
        found = explain(model, batch, None, method)
        assert found.score == "value"
        assert found.probabilities is None
        assert float(found.scores[0, 0]) == pytest.approx(float(model(batch).detach()[0, 0]), rel=1e-5)
        assert float(found.maps.std()) > 1e-5 * float(found.maps.abs().mean()) > 0

    @pytest.mark.parametrize("method", ["occlusion", "reciprocam"])
    def test_map_of_values_is_that_of_the_logits_of_a_classifier(self, images, method):
        model, batch = Ending(lambda x: 60 + 10 * x, classes=1), images(1)
        declared = explain(saywhy.load(model, scale="logit"), batch, None, method, score="logit")
        torch.testing.assert_close(explain(model, batch, None, method).maps, declared.maps, rtol=0, atol=0)

    def test_stated_probability_of_a_single_value_is_its_sigmoid(self, images):
        model, batch = Ending(lambda x: x, classes=1), images(2)
        found = explain(model, batch, None, score="probability")
        assert found.score == "probability"
        torch.testing.assert_close(found.scores, model(batch).sigmoid().detach())

    def test_probability_of_several_values_raises(self, images):
        model = saywhy.load(Ending(lambda x: x), scale="value")
        with pytest.raises(TargetError, match="holds values that are no class scores, so it has no probability"):
            explain(model, images(1), 1, score="probability")

    def test_entropy_of_values_raises(self, images):
        with pytest.raises(TargetError, match="entropy uncertainty needs probabilities of classes"):
            explain(Ending(lambda x: 60 + x, classes=1), images(1), Uncertain())

    def test_problem_type_of_transformers_is_known(self, images):
        model = Ending(lambda x: x)
        model.config = type("Config", (), {"problem_type": "regression", "num_labels": 4})()
        assert explain(model, images(1), 1).score == "value"


class TestStatedScores:
    def test_stated_logit_of_a_probability_is_recovered(self, images):
        """``log(p / (1 - p))`` of a softmax is the logit of the class against all others."""
        model, plain, batch = Ending(lambda x: x.softmax(1)), Ending(lambda x: x), images(1)
        found = explain(model, batch, 1, score="logit")
        z = plain(batch).detach()
        wanted = z[:, 1] - z[:, [0, 2, 3]].logsumexp(1)
        torch.testing.assert_close(found.scores[:, 0], wanted)
        assert found.score == "logit"
        contrast = explain(model, batch, Class(1, "logit") - Class(0, "logit"))
        other = z[0, 0] - z[0, 1:].logsumexp(0)
        assert float(contrast.scores) == pytest.approx(float(wanted[0] - other), rel=1e-4)

    def test_stated_log_probability_equals_that_of_the_logits(self, images):
        batch = images(2)
        for end in (lambda x: x.softmax(1), lambda x: x.log_softmax(1), lambda x: x):
            found = explain(Ending(end), batch, 1, score="log-probability")
            plain = explain(Ending(lambda x: x), batch, 1, score="log-probability")
            torch.testing.assert_close(found.maps, plain.maps, rtol=1e-4, atol=1e-6)

    def test_scores_of_extreme_probabilities_are_finite(self):
        output = ModelOutput(torch.tensor([[1.0, 0.0]]), scale="probability")
        for kind in ("logit", "log-probability"):
            assert bool(output.values(kind).isfinite().all())
        certain = ModelOutput(torch.tensor([[0.0, -1e4]]), scale="log-probability")
        assert bool(certain.values("logit").isfinite().all())

    def test_diagnostics_say_what_was_explained(self, images):
        def output(**how: Any) -> tuple[str, str]:
            found = explain(Ending(lambda x: x.softmax(1)), images(1), 1, **how)
            (one,) = (d for d in found.diagnostics["gradcam", "network.features"][0][0] if d.name == "output")
            assert found.provenance["output_scale"] == "probability"
            return one.state, one.text

        assert output() == (
            "warning",
            "the network ends in a softmax or sigmoid: its output, the probability, was explained instead of the "
            "logit. score='logit' explains the logit",
        )
        assert output(score="logit")[1].endswith("the logit was computed from the probability")
        assert output(score="probability")[0] == "good"


class TestUncertaintyOfProbabilities:
    def test_estimate_does_not_squash_twice(self, images):
        for end in (lambda x: x.softmax(1), lambda x: x.log_softmax(1)):
            found = estimate(Ending(end), images(1))
            plain = estimate(Ending(lambda x: x), images(1))
            torch.testing.assert_close(found.probabilities, plain.probabilities, rtol=1e-5, atol=1e-6)

    def test_ensemble_of_networks_with_softmax_does_not_squash_twice(self, images):
        end = lambda x: x.softmax(1)  # noqa: E731
        found = estimate(ensemble([Ending(end), Ending(end, scale=2)]), images(2))
        plain = estimate(ensemble([Ending(lambda x: x), Ending(lambda x: x, scale=2)]), images(2))
        torch.testing.assert_close(found.probabilities, plain.probabilities, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.epistemic, plain.epistemic, rtol=1e-4, atol=1e-6)

    def test_entropy_target_of_probabilities_is_their_entropy(self, images):
        model, batch = Ending(lambda x: x.softmax(1)), images(1)
        p = model(batch).detach()
        found = explain(model, batch, Uncertain())
        torch.testing.assert_close(found.scores[:, 0], -(p * p.log()).sum(1))
