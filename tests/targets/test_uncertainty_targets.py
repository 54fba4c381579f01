"""Targets of uncertainty, each against slow loops, and the errors of networks that do not have them."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import InputError, TargetError
from saywhy.output import ModelOutput, parse_output
from saywhy.targets import Certainty, Class, TargetList, Top, Uncertain
from saywhy.targets.uncertainty import aleatoric_variance_of
from saywhy.tasks.vqa.networks import VQAOutput
from saywhy.uncertainty import VarianceClassifier
from saywhy.uncertainty.loss import losses
from saywhy.uncertainty.mc_samples import MCSamples, as_mc_samples

KINDS = ["entropy", "aleatoric", "epistemic", "sample_variance"]
LAYOUT = saywhy.Layout("channels-first", (6, 6))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mc_output(multilabel: bool = False, classes: int = 4) -> ModelOutput:
    return parse_output(as_mc_samples(drawn(5, 3, classes), multilabel), 3, multilabel=multilabel)


def noisy(batch: int = 3) -> ModelOutput:
    said = VQAOutput(drawn(batch, 4), None, drawn(batch, 1, seed=1).square() / 4)
    return parse_output(said, batch)


def slow_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def slow(samples: Tensor, kind: str, i: int, multilabel: bool) -> float:
    """Of one sample; of several yes or no the sum."""
    if multilabel:
        yes = samples[:, i].sigmoid()
        pairs = [torch.stack([yes[:, c], 1 - yes[:, c]], 1).tolist() for c in range(yes.shape[1])]
    else:
        pairs = [samples[:, i].softmax(-1).tolist()]
    total = 0.0
    for each in pairs:
        mean = [sum(p[c] for p in each) / len(each) for c in range(len(each[0]))]
        aleatoric = sum(map(slow_entropy, each)) / len(each)
        whole = slow_entropy(mean)
        if multilabel:  # of an answer of yes or no the probability of yes alone
            mean, each = mean[:1], [p[:1] for p in each]
        spread = sum((p[c] - mean[c]) ** 2 for p in each for c in range(len(mean))) / len(each)
        kinds = {"entropy": whole, "aleatoric": aleatoric, "epistemic": whole - aleatoric, "sample_variance": spread}
        total += kinds[kind]
    return total


def close(found: Tensor, wanted: Any) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-9, atol=1e-12)


class TestUncertain:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("multilabel", "classes"), [(False, 4), (True, 4), (False, 1), (True, 1)])
    def test_scores_equal_slow_loops(self, kind, multilabel, classes):
        output = mc_output(multilabel, classes)
        found = Uncertain(kind).evaluate(output)
        yes_or_no = multilabel or classes == 1
        close(found.scores[:, 0], [slow(output.raw.sample_logits, kind, i, yes_or_no) for i in range(3)])
        assert found.names == [[kind]] * 3
        assert found.classes.tolist() == [[-1]] * 3

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_entropy_needs_no_monte_carlo_samples(self, multilabel):
        output = ModelOutput(drawn(3, 4), multilabel=multilabel, raw=drawn(3, 4))
        wanted = [slow(drawn(3, 4)[None], "entropy", i, multilabel) for i in range(3)]
        close(Uncertain().evaluate(output).scores[:, 0], wanted)

    def test_aleatoric_variance_is_that_of_the_variance_head(self):
        assert torch.equal(Uncertain("aleatoric_variance").evaluate(noisy()).scores, noisy().raw.variance)
        assert torch.equal(aleatoric_variance_of(noisy()), noisy().raw.variance)

    def test_half_precision_gives_float32_scores(self):
        found = Uncertain().evaluate(ModelOutput(torch.zeros(2, 4, dtype=torch.bfloat16))).scores
        assert found.dtype == torch.float32

    @pytest.mark.parametrize("kind", KINDS)
    def test_gradients_are_finite_for_certain_predictions(self, kind):
        """A probability is 0 in float32 where logits are 104 apart."""
        samples = torch.tensor([[[0.0, 200.0, 1.0]], [[0.0, 300.0, -5.0]]]).requires_grad_()
        for multilabel in (False, True):
            output = parse_output(as_mc_samples(samples, multilabel), 1, multilabel=multilabel)
            (gradient,) = torch.autograd.grad(Uncertain(kind).evaluate(output).scores.sum(), samples)
            assert bool(gradient.isfinite().all())

    def test_unknown_kind_raises(self):
        with pytest.raises(TargetError, match="got 'doubt'"):
            Uncertain("doubt")

    @pytest.mark.parametrize("kind", ["aleatoric", "epistemic", "sample_variance"])
    def test_output_without_mc_samples_raises(self, kind):
        with pytest.raises(TargetError, match=rf"{kind} uncertainty needs Monte Carlo samples"):
            Uncertain(kind).evaluate(ModelOutput(drawn(3, 4), raw=drawn(3, 4)))

    @pytest.mark.parametrize(
        "output",
        [drawn(3, 4), VQAOutput(drawn(3, 4)), {"logits": drawn(3, 4), "variance": drawn(3, 4)}, {"variance": 3}],
        ids=["a tensor", "none", "one of every class", "no tensor"],
    )
    def test_output_without_variance_head_raises(self, output):
        with pytest.raises(TargetError, match="needs a network with a variance head"):
            Uncertain("aleatoric_variance").evaluate(ModelOutput(drawn(3, 4), raw=output))

    @pytest.mark.parametrize("target", [*map(Uncertain, [*KINDS, "aleatoric_variance"]), Certainty()], ids=str)
    def test_output_without_class_scores_raises(self, target):
        with pytest.raises(TargetError, match="no class scores"):
            target.evaluate(parse_output({"out": drawn(3, 4, 5, 5)}, 3))

    def test_output_keys_name_the_raw_output_that_is_used(self):
        assert list(Uncertain().output_keys()) == []
        keys = [
            tuple(Uncertain(kind).output_keys())
            for kind in ("aleatoric", "epistemic", "aleatoric_variance", "sample_variance")
        ]
        assert len(set(keys)) == 4
        assert all(len(key) == 1 for key in keys)
        assert tuple(Uncertain("aleatoric_variance").output_keys()) == keys[2]
        assert tuple((-Uncertain("aleatoric_variance")).output_keys()) == keys[2]

    def test_uncertain_supports_arithmetic(self):
        output = mc_output()
        close((-Uncertain()).evaluate(output).scores, -Uncertain().evaluate(output).scores)
        both = (Class(1) - 2 * Uncertain("epistemic")).evaluate(output).scores
        close(both[:, 0], output.logits[:, 1] - 2 * Uncertain("epistemic").evaluate(output).scores[:, 0])
        assert TargetList((Top(1), Uncertain())).evaluate(output).scores.shape == (3, 2)

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_samples_and_resolved_return_the_target_itself(self, kind):
        target = Uncertain(kind)
        assert target.of_samples(slice(0, 1)) is target
        assert target.resolved(mc_output()) is target


class TestCertainty:
    @pytest.mark.parametrize(("classes", "multilabel"), [(1, False), (4, True)])
    def test_not_mutually_exclusive_classes_raise(self, classes, multilabel):
        said = VQAOutput(drawn(3, classes), None, drawn(3, 1, seed=1).square())
        with pytest.raises(TargetError, match="needs mutually exclusive classes"):
            Certainty().evaluate(parse_output(said, 3, multilabel=multilabel))

    @pytest.mark.parametrize("udl", ["scaled", "additive"])
    @pytest.mark.parametrize("answered", [False, True])
    @pytest.mark.parametrize("name", [None, 2])
    def test_score_is_the_negative_ucam_loss(self, name, answered, udl):
        output = noisy()
        classes = output.logits.argmax(1) if name is None else torch.full((3,), 2)
        noise = torch.randn(7, 1, 4, generator=torch.Generator().manual_seed(5))
        found = losses(output.logits, output.raw.variance, classes, udl=udl, noise=noise)
        wanted = found.uncertainty + found.answer if answered else found.uncertainty
        columns = Certainty(name, answered, 7, udl, seed=5).evaluate(output)
        close(columns.scores[:, 0], -wanted)
        assert columns.names == [["ucam" if answered else "certainty"]] * 3
        assert columns.classes.tolist() == [[-1]] * 3

    def test_class_may_be_given_by_name_or_index(self):
        output = parse_output(noisy().raw, 3, labels=("a", "b", "c", "d"))
        assert torch.equal(Certainty("c").evaluate(output).scores, Certainty(2).evaluate(output).scores)
        with pytest.raises(TargetError, match="no class 'z'"):
            Certainty("z").evaluate(output)
        with pytest.raises(TargetError, match="no class 9"):
            Certainty(9).evaluate(output)

    def test_score_ignores_ground_truth_labels(self):
        """Other fields of the output change nothing."""

        @dataclass
        class Labelled(VQAOutput):
            targets: Tensor | None = None

        said = noisy().raw
        found = [
            Certainty().evaluate(parse_output(Labelled(said.logits, None, said.variance, targets), 3)).scores
            for targets in (None, torch.tensor([0, 1, 2]), torch.tensor([3, 3, 3]))
        ]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        close(found[0], Certainty(classes=said.logits.argmax(1)).evaluate(noisy()).scores)

    def test_resolved_target_keeps_its_classes(self):
        before = noisy()
        after = parse_output(VQAOutput(-before.logits, None, before.raw.variance), 3)
        fixed = Certainty().resolved(before)
        assert fixed.classes.tolist() == before.logits.argmax(1).tolist()
        close(fixed.evaluate(after).scores, Certainty(classes=before.logits.argmax(1)).evaluate(after).scores)
        assert not torch.allclose(fixed.evaluate(after).scores, Certainty().evaluate(after).scores)
        assert Certainty(2).resolved(before).classes.tolist() == [2, 2, 2]
        close(fixed.resolved(after).evaluate(after).scores, fixed.evaluate(after).scores)

    @pytest.mark.parametrize("some", [slice(1, 3), torch.tensor([2, 0])], ids=["slice", "index"])
    def test_of_samples_selects_scores_and_noise(self, some):
        whole = noisy()
        part = parse_output(VQAOutput(whole.logits[some], None, whole.raw.variance[some]), 2)
        for target in (Certainty(), Certainty(1), Certainty().resolved(whole)):
            close(target.of_samples(some).evaluate(part).scores, target.evaluate(whole).scores[some])

    def test_noise_is_seeded_and_the_global_state_is_unchanged(self):
        before = torch.get_rng_state()
        once, again, other = (Certainty(seed=seed).evaluate(noisy()).scores for seed in (1, 1, 2))
        assert torch.equal(once, again)
        assert not torch.equal(once, other)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("number", [0, -1, 2.5])
    def test_invalid_number_of_noise_samples_raises(self, number):
        with pytest.raises(InputError, match="num_samples must be a whole number of at least 1"):
            Certainty(num_samples=number).evaluate(noisy())

    def test_output_keys_differ_between_settings(self):
        kinds = [Certainty(), Certainty(1), Certainty(with_classification_loss=True), Certainty(udl="additive")]
        assert len({key for one in kinds for key in one.output_keys()}) == len(kinds)
        assert list(Certainty().output_keys()) == list(Certainty().output_keys())

    def test_output_without_variance_head_raises(self):
        with pytest.raises(TargetError, match="needs a network with a variance head"):
            Certainty().evaluate(mc_output())


class TestMaps:
    @pytest.fixture
    def net(self) -> nn.Module:
        torch.manual_seed(0)  # the weights of the variance head
        return VarianceClassifier(TinyNetwork.build(dtype=torch.float64), 4).double().eval()

    @pytest.mark.parametrize(
        "target",
        [Uncertain(), Uncertain("aleatoric_variance"), Certainty(), Certainty(1, with_classification_loss=True)],
        ids=str,
    )
    def test_gradcam_equals_hand_computed_map(self, net, images, target):
        x, kept = images(3, dtype=torch.float64), []
        e = saywhy.explain(net, x, target, layer="network.features", layout=LAYOUT, relu=False)
        handle = net.network.features.register_forward_hook(lambda _, __, out: kept.append(out))
        scores = target.evaluate(parse_output(net(x), 3)).scores
        handle.remove()
        (gradient,) = torch.autograd.grad(scores.sum(), kept)
        close(e.maps[:, 0], (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach())
        close(e.scores, scores.detach())
        parts = saywhy.explain(net, x, target, layer="network.features", layout=LAYOUT, relu=False, batch_size=2)
        close(parts.maps, e.maps)

    def test_ablationcam_keeps_the_predicted_class_fixed(self, net, images):
        x = images(2, dtype=torch.float64)
        own = {"layer": "network.features", "layout": LAYOUT, "relu": False}
        e = saywhy.explain(net, x, Certainty(), "ablationcam", **own)
        fixed = Certainty(classes=net(x).logits.argmax(1).detach())
        close(e.maps, saywhy.explain(net, x, fixed, "ablationcam", **own).maps)

    def test_layer_is_found_automatically(self, net, images):
        for target in (Uncertain(), Uncertain("aleatoric_variance"), Certainty()):
            assert saywhy.explain(net, images(2, dtype=torch.float64), target).layers[0].startswith("network.")


def test_mc_samples_are_distinguished_from_other_outputs():
    assert isinstance(mc_output().raw, MCSamples)
    close(mc_output().logits.softmax(1), drawn(5, 3, 4).softmax(-1).mean(0))
