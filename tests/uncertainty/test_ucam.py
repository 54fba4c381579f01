"""Training with U-CAM: the loss of a batch, whose backward pass is altered at the attention and nowhere else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.tasks.vqa.fusion import FUSIONS
from saywhy.tasks.vqa.networks import AttentionPooling, QuestionOnly, ShowAskAttendAnswer, StackedAttention, VQAHead
from saywhy.uncertainty import UCAM, Gate, VarianceClassifier, certainty_mask
from saywhy.uncertainty.loss import cross_entropy, losses
from saywhy.uncertainty.variance_head import VarianceHead

SMALL = {"words": 11, "answers": 4, "embedded": 5, "hidden": 7, "attended": 8}
QUESTIONS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0], [4, 4, 0, 0]])
ANSWERS = torch.tensor([0, 3, 1, 2])
NETWORKS = {
    "san": lambda **own: StackedAttention(6, **SMALL, **own),
    **{
        f"saaa, {fusion}": lambda fusion=fusion, **own: ShowAskAttendAnswer(6, **SMALL, inner=9, fusion=fusion, **own)
        for fusion in FUSIONS
    },
}


def network(kind: str = "saaa, sum", dropout: float = 0.0, reads: str = "logits", seed: int = 0) -> VQAHead:
    """In training mode, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NETWORKS[kind](dropout=dropout)
        width = 4 if reads == "logits" else {"san": 7}.get(kind, 2 * 6 + 7)
        net.variance_head = VarianceHead(width, reads)
    return net.double().train()


def features() -> Tensor:
    return torch.rand(4, 6, 5, 4, generator=generator(1), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def gradients(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def asked(how: UCAM, net: VQAHead, targets: Tensor = ANSWERS, seed: int = 0) -> Tensor:
    return how.vqa_loss(net, features(), QUESTIONS, targets, generator(seed))


def by_hand(how: UCAM, net: VQAHead) -> tuple[Tensor, Tensor]:
    """Both losses, from what the network says."""
    said = net(features(), QUESTIONS)
    found = losses(said.logits, said.variance, ANSWERS, num_samples=how.num_samples, udl=how.udl, generator=generator())
    return found.answer.mean(), found.uncertainty.mean()


@pytest.mark.parametrize("kind", NETWORKS)
class TestEveryNetwork:
    @pytest.mark.parametrize("reads", ["logits", "features"])
    def test_loss_equals_that_of_the_network_output(self, kind, reads):
        net, how = network(kind, reads=reads), UCAM(weight=0.7, num_samples=5)
        answer, uncertainty = by_hand(how, net)
        close(asked(how, net).detach(), (answer + 0.7 * uncertainty).detach())

    @pytest.mark.parametrize("at", ["logits", "weighted"])
    def test_strength_zero_leaves_gradients_bitwise_equal(self, kind, at):
        net, how = network(kind), UCAM(num_samples=5, gate=Gate(0.0, at=at))
        answer, uncertainty = by_hand(how, net)
        wanted, found = gradients(net, answer + uncertainty), gradients(net, asked(how, net))
        assert wanted.keys() == found.keys()
        for name, gradient in wanted.items():
            assert torch.equal(found[name], gradient), name

    @pytest.mark.parametrize("at", ["logits", "weighted"])
    def test_gate_changes_gradients_before_the_attention_only(self, kind, at):
        net = network(kind)
        for part in net.modules():
            if isinstance(part, AttentionPooling):  # features that are watched are added up in another order
                part.weighted.register_forward_hook(lambda *_: None)
        plain, gated = (gradients(net, asked(UCAM(num_samples=5, gate=Gate(s, at=at)), net)) for s in (0.0, 2.0))
        last = "attention_logits.1" if kind == "san" else "attention_logit"
        for name, gradient in plain.items():
            assert bool(gated[name].isfinite().all())
            if name.startswith(("answer", "variance_head")):
                assert torch.equal(gated[name], gradient), name
        assert not torch.equal(gated[f"{last}.weight"], plain[f"{last}.weight"])

    def test_variance_head_receives_gradients(self, kind):
        found = gradients(network(kind), asked(UCAM(num_samples=5), network(kind)))
        assert not found
        net = network(kind)
        found = gradients(net, asked(UCAM(num_samples=5), net))
        assert bool(found["variance_head.scale.weight"].any())
        assert {name for name, _ in net.named_parameters()} == set(found)

    @pytest.mark.slow
    def test_training_steps_lower_the_loss(self, kind):
        net = network(kind, dropout=0.1)
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        told = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for step in range(30):
                loss = asked(UCAM(num_samples=5, gate=Gate(0.5)), net, seed=step)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                told.append(loss.item())
        assert sum(told[-5:]) < 0.8 * sum(told[:5])


def test_gate_alters_the_gradient_at_the_attention_logits():
    """What flows into the layer before is g less the mask, by as much as all of g, and does not raise all alike."""
    net, how = network(), UCAM(num_samples=5, gate=Gate(0.7))
    logits: list[Tensor] = []
    met: list[Tensor] = []
    handles = [
        net.attention_pooling.logits.register_forward_hook(lambda _, __, out: logits.append(out)),
        net.attention_logit.register_forward_pre_hook(lambda _, given: met.append(given[0])),
    ]
    answer, uncertainty = by_hand(how, net)
    for handle in handles:
        handle.remove()
    of_answer, of_uncertainty = (
        torch.autograd.grad(one, logits[0], retain_graph=True)[0] for one in (answer, uncertainty)
    )
    g, mask = of_answer + of_uncertainty, certainty_mask(-of_answer, -of_uncertainty)
    wanted = g - 0.7 * g.abs().sum(-1, keepdim=True) * (mask - 1 / mask.shape[-1])
    found = gradients(net, asked(how, net))
    close(found["attention_logit.weight"], torch.einsum("bgp,bph->gh", wanted, met[0].detach()))
    assert float(found["attention_logit.bias"].abs().max()) < 1e-12


@pytest.mark.parametrize("certainty", ["entropy", "distortion"])
def test_source_of_the_certainty_changes_the_mask_and_not_the_loss(certainty):
    net, masks = network(), []

    class RecordingGate(Gate):
        def install(self, tensors: Any, *rest: Any) -> Any:
            masks.extend(super().install(tensors, *rest))
            return masks

    how = UCAM(num_samples=5, certainty=certainty, gate=RecordingGate())
    close(asked(how, net).detach(), asked(UCAM(num_samples=5), net).detach())
    logits: list[Tensor] = []
    handle = net.attention_pooling.logits.register_forward_hook(lambda _, __, out: logits.append(out))
    said = net(features(), QUESTIONS)
    handle.remove()
    if certainty == "entropy":
        p = said.logits.softmax(1)
        uncertain = -(p * p.log()).sum(1).mean()
    else:
        found = losses(said.logits, said.variance, ANSWERS, num_samples=5, generator=generator())
        uncertain = (found.distortion + found.equaliser).mean()
    losses_of = cross_entropy(said.logits, ANSWERS).mean(), uncertain
    of_answer, of_certainty = (torch.autograd.grad(one, logits[0], retain_graph=True)[0] for one in losses_of)
    close(masks[0], certainty_mask(-of_answer, -of_certainty))
    assert bool(masks[0].any())


@pytest.mark.parametrize("variant", ["aleatoric", "predictive"])
def test_terms_of_the_loss_are_those_that_were_asked_for(variant):
    terms: dict[str, Any] = {"udl": "none", "gce": "log_mean_exp", "ve": "kl", "prior_variance": 2.0}
    net, noise = network(), generator()
    said = net(features(), QUESTIONS)
    each = [losses(said.logits, said.variance, ANSWERS, num_samples=5, generator=noise, **terms) for _ in range(2)]
    wanted = torch.stack([one.answer + one.uncertainty for one in each][: 2 if variant == "predictive" else 1]).mean()
    close(asked(UCAM(variant, num_samples=5, mc_dropout_samples=2, **terms), net).detach(), wanted.detach())


def test_every_attention_hop_has_its_gate():
    net, installed = network("san"), []

    class RecordingGate(Gate):
        def install(self, tensors: Any, *rest: Any) -> Any:
            installed.extend(tensors)
            return super().install(tensors, *rest)

    asked(UCAM(num_samples=3, gate=RecordingGate()), net)
    assert [tuple(t.shape) for t in installed] == [(4, 1, 20)] * 2


def test_vqa_loss_leaves_no_hooks():
    net = network()
    with pytest.raises(InputError, match="one class for each of 4"):
        asked(UCAM(num_samples=3), net, ANSWERS[:2])
    asked(UCAM(num_samples=3, gate=Gate(at="weighted")), net)
    assert not any(part._forward_hooks for part in net.modules())


def test_one_hot_answer_shares_equal_classes():
    shares = torch.nn.functional.one_hot(ANSWERS, 4).double()
    close(asked(UCAM(num_samples=5), network(), shares).detach(), asked(UCAM(num_samples=5), network()).detach())
    assert bool(asked(UCAM(num_samples=5), network(), 0.5 * shares) < asked(UCAM(num_samples=5), network()))


def test_noise_uses_the_global_generator_by_default():
    how = UCAM(num_samples=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        one = how.vqa_loss(network(), features(), QUESTIONS, ANSWERS)
        torch.manual_seed(3)
        assert torch.equal(how.vqa_loss(network(), features(), QUESTIONS, ANSWERS), one)


class TestPredictive:
    def test_without_dropout_loss_is_the_mean_of_aleatoric_losses(self):
        """Each of them draws its own noise."""
        net, noise = network(), generator()
        plain = [UCAM(num_samples=5).vqa_loss(net, features(), QUESTIONS, ANSWERS, noise) for _ in range(3)]
        found = asked(UCAM("predictive", num_samples=5, mc_dropout_samples=3), net)
        close(found.detach(), torch.stack(plain).mean().detach())
        close(asked(UCAM("predictive", num_samples=5, mc_dropout_samples=1), net).detach(), plain[0].detach())

    def test_with_dropout_loss_equals_hand_computed_value(self):
        """The encoding is fixed; the classifier runs several times and is compared with its mean."""
        net, how = network(dropout=0.5), UCAM("predictive", num_samples=5, mc_dropout_samples=3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            found = asked(how, net)
            torch.manual_seed(1)
            z, _ = net.encode(features(), QUESTIONS)
            each = [net.answer(z) for _ in range(3)]
        whole, noise = cross_entropy(sum(each) / 3, ANSWERS), generator()
        parts = [
            losses(y, net.variance_head(y, z), ANSWERS, num_samples=5, generator=noise, undistorted=whole) for y in each
        ]
        wanted = sum(part.answer + part.uncertainty for part in parts).mean() / 3
        close(found.detach(), wanted.detach())
        assert not torch.equal(each[0], each[1])

    def test_gradients_reach_every_parameter(self):
        net = network(dropout=0.5)
        found = gradients(net, asked(UCAM("predictive", num_samples=3), net))
        assert set(found) == {name for name, _ in net.named_parameters()}
        assert all(bool(g.isfinite().all()) for g in found.values())


class TestErrors:
    def test_missing_variance_head_raises(self):
        net = network()
        net.variance_head = None
        with pytest.raises(InputError, match="network with a variance head"):
            asked(UCAM(), net)

    def test_network_without_attention_raises(self):
        net = QuestionOnly(words=11, answers=4, embedded=5, hidden=7).double()
        net.variance_head = VarianceHead(4).double()
        with pytest.raises(InputError, match="QuestionOnly has no attention"):
            asked(UCAM(), net)

    def test_gate_at_a_map_raises_for_vqa(self):
        with pytest.raises(InputError, match="the gate is at a feature map"):
            asked(UCAM(gate=Gate(at="map")), network())

    def test_unknown_variant_raises(self):
        with pytest.raises(InputError, match="variant must be aleatoric or predictive, got 'both'"):
            UCAM("both")

    @pytest.mark.parametrize("how", [UCAM(), UCAM("predictive", gate=Gate(at="map")), UCAM(gate=Gate(at="weighted"))])
    def test_unsupported_settings_raise_for_classifiers(self, how):
        net = classifier()
        with pytest.raises(InputError, match=r"variant='aleatoric' and Gate\(at='map'\)"):
            how.classification_loss(net, images(), ANSWERS, net.network[0])

    def test_layer_that_does_not_run_raises(self):
        net = classifier()
        with pytest.raises(InputError, match="did not run"):
            UCAM(gate=Gate(at="map")).classification_loss(net, images(), ANSWERS, nn.Conv2d(3, 3, 1))

    def test_frozen_layer_raises(self):
        net = classifier()
        net.network[0].requires_grad_(False)
        with pytest.raises(InputError, match="does not depend on the layer of the gate"):
            UCAM(gate=Gate(at="map")).classification_loss(net, images(), ANSWERS, net.network[0])


def classifier() -> VarianceClassifier:
    """Two convolutions; the layer is the first block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True))
        net = nn.Sequential(block, nn.Conv2d(5, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4))
        return VarianceClassifier(net, 4).double()


def images() -> Tensor:
    return torch.randn(4, 3, 6, 6, generator=generator(1), dtype=torch.float64)


class TestClassificationLoss:
    how = UCAM(num_samples=5, weight=0.7, gate=Gate(2.0, at="map"))

    def test_loss_equals_that_of_the_network_output(self):
        net = classifier()
        said = net(images())
        found = losses(said.logits, said.variance, ANSWERS, num_samples=5, generator=generator())
        wanted = found.answer.mean() + 0.7 * found.uncertainty.mean()
        close(
            self.how.classification_loss(net, images(), ANSWERS, net.network[0], generator()).detach(), wanted.detach()
        )

    def test_gate_changes_gradients_before_the_layer_only(self):
        net = classifier()
        plain, gated = (
            gradients(
                net,
                UCAM(num_samples=5, gate=Gate(s, at="map")).classification_loss(
                    net, images(), ANSWERS, net.network[0], generator()
                ),
            )
            for s in (0.0, 2.0)
        )
        for name, gradient in plain.items():
            assert torch.equal(gated[name], gradient) != name.startswith("network.0."), name
        assert bool(gated["variance_head.scale.weight"].any())

    def test_gradients_at_the_map_are_amplified_by_the_mask(self):
        net, kept = classifier(), []
        handle = net.network[0].register_forward_hook(lambda _, __, out: kept.append(out))
        said = net(images())
        handle.remove()
        found = losses(said.logits, said.variance, ANSWERS, num_samples=5, generator=generator())
        a = kept[0]
        of_answer, of_uncertainty = (
            torch.autograd.grad(one.mean(), a, retain_graph=True)[0] for one in (found.answer, found.uncertainty)
        )
        mask = certainty_mask(*(-(a * g).sum(1, keepdim=True).flatten(2) for g in (of_answer, of_uncertainty)))
        flows = (of_answer + 0.7 * of_uncertainty) * (1 + 2.0 * 36 * mask.unflatten(2, (6, 6)))
        wanted = torch.autograd.grad(a, net.network[0][0].bias, flows)[0]
        got = gradients(net, self.how.classification_loss(net, images(), ANSWERS, net.network[0], generator()))
        close(got["network.0.0.bias"], wanted)

    def test_training_steps_lower_the_loss(self):
        net, told = classifier(), []
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for step in range(25):
            loss = self.how.classification_loss(net, images(), ANSWERS, net.network[0], generator(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told.append(loss.item())
        assert sum(told[-5:]) < 0.7 * sum(told[:5])

    def test_classification_loss_leaves_no_hooks(self):
        net = classifier()
        self.how.classification_loss(net, images(), ANSWERS, net.network[0])
        assert not any(part._forward_hooks for part in net.modules())


class TestAttentionPooling:
    def test_hook_on_weighted_features_does_not_change_the_output(self):
        logits = torch.randn(2, 3, 5, generator=generator(), dtype=torch.float64)
        v = torch.randn(2, 5, 4, generator=generator(1), dtype=torch.float64)
        attention_pooling, kept = AttentionPooling(), []
        seen, found = attention_pooling(logits, v)
        attention_pooling.weighted.register_forward_hook(lambda _, __, out: kept.append(out))
        again, watched = attention_pooling(logits, v)
        close(watched, found)
        assert torch.equal(again, seen)
        close(kept[0].sum(2), found)
        close(seen.sum(-1), torch.ones(2, 3, dtype=torch.float64))
        for b in range(2):
            for glimpse in range(3):
                close(found[b, glimpse], sum(seen[b, glimpse, p] * v[b, p] for p in range(5)))


class TestVarianceHead:
    @pytest.mark.parametrize("reads", ["logits", "features"])
    def test_equals_softplus_of_a_linear_layer(self, reads):
        head = VarianceHead(4, reads).double()
        logits, found = (torch.randn(3, 4, generator=generator(seed), dtype=torch.float64) for seed in (0, 1))
        read = logits if reads == "logits" else found
        close(head(logits, found), (head.scale(read).exp() + 1).log())
        assert bool((head(logits, found) > 0).all())

    def test_unknown_or_missing_input_raises(self):
        with pytest.raises(InputError, match="reads must be logits or features, got 'other'"):
            VarianceHead(4, "other")
        with pytest.raises(InputError, match="gives logits alone"):
            VarianceHead(4, "features")(torch.zeros(1, 4))


class TestVarianceClassifier:
    def test_logits_equal_those_of_the_network(self):
        net = classifier()
        said = net(images())
        close(said.logits, net.network(images()))
        close(said.variance, net.variance_head(said.logits))

    def test_output_path_selects_the_scores(self):
        class Two(nn.Module):
            def forward(self, x: Tensor) -> dict[str, Tensor]:
                return {"aux": x.mean((2, 3)), "main": -x.mean((2, 3))}

        close(VarianceClassifier(Two(), 3, "main").double()(images()).logits, -images().mean((2, 3)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_samples": 0}, "num_samples must be"),
        ({"udl": "other"}, "udl must be scaled, additive or none, got 'other'"),
        ({"certainty": "other"}, "certainty must be loss, distortion or entropy, got 'other'"),
        ({"gce": "other"}, "gce must be mean or log_mean_exp, got 'other'"),
        ({"ve": "other"}, "ve must be exp, kl or none, got 'other'"),
        ({"prior_variance": 0.0}, "prior_variance must be above 0"),
        ({"weight": -1.0}, "weight of the uncertainty loss"),
        ({"mc_dropout_samples": True}, "mc_dropout_samples must be"),
    ],
)
def test_invalid_settings_raise_at_construction(wrong, says):
    with pytest.raises(InputError, match=says):
        UCAM(**wrong)


def test_vqa_loss_with_mismatched_inputs_raises():
    net = network()
    with pytest.raises(InputError, match="one question for each image, got 2 and 4"):
        UCAM().vqa_loss(net, features(), QUESTIONS[:2], ANSWERS)
    with pytest.raises(InputError, match=r"network.train\(\)"):
        UCAM("predictive").vqa_loss(net.eval(), features(), QUESTIONS, ANSWERS)
    net.variance_head = VarianceHead(9).double()
    with pytest.raises(InputError, match=r"this head reads 9 numbers \(logits\)"):
        net(features(), QUESTIONS)


def test_wrong_network_or_layer_type_raises():
    with pytest.raises(InputError, match="expected a VQA network with encode, answer and variance_head"):
        UCAM().vqa_loss(torch.nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1))
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    how, certain = UCAM(gate=Gate(at="map")), VarianceClassifier(plain, 3)
    images, classes = torch.zeros(1, 3, 2, 2), torch.tensor([0])
    with pytest.raises(InputError, match="classes must be a whole number of at least 2, got 1"):
        VarianceClassifier(plain, 1)
    with pytest.raises(InputError, match="VarianceClassifier"):
        how.classification_loss(plain, images, classes, plain[0])
    with pytest.raises(InputError, match="and str"):
        how.classification_loss(certain, images, classes, "network.0")
    with pytest.raises(InputError, match="must be a feature map"):
        how.classification_loss(certain, images, classes, plain[0])
