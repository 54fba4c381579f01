"""Targets of uncertainty, each against slow loops, and what is said where they cannot be had."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import TargetError
from saywhy.output import Answer, as_answer
from saywhy.targets import Certainty, Class, Several, Top, Uncertain
from saywhy.targets.uncertainty import noise_of
from saywhy.tasks.vqa.networks import Answers
from saywhy.uncertainty import CertainClassifier
from saywhy.uncertainty.loss import losses
from saywhy.uncertainty.mc_samples import Guessed, guessed

KINDS = ["entropy", "aleatoric", "epistemic", "spread"]
LAYOUT = saywhy.Layout("channels-first", (6, 6))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_guesses(multilabel: bool = False, classes: int = 4) -> Answer:
    return as_answer(guessed(drawn(5, 3, classes), multilabel), 3, multilabel=multilabel)


def noisy(batch: int = 3) -> Answer:
    said = Answers(drawn(batch, 4), None, drawn(batch, 1, seed=1).square() / 4)
    return as_answer(said, batch)


def slow_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def slow(guesses: Tensor, kind: str, i: int, multilabel: bool) -> float:
    """Of one sample; of several yes or no the sum."""
    if multilabel:
        yes = guesses[:, i].sigmoid()
        pairs = [torch.stack([yes[:, c], 1 - yes[:, c]], 1).tolist() for c in range(yes.shape[1])]
    else:
        pairs = [guesses[:, i].softmax(-1).tolist()]
    total = 0.0
    for each in pairs:
        mean = [sum(p[c] for p in each) / len(each) for c in range(len(each[0]))]
        aleatoric = sum(map(slow_entropy, each)) / len(each)
        whole = slow_entropy(mean)
        if multilabel:  # of an answer of yes or no the probability of yes alone
            mean, each = mean[:1], [p[:1] for p in each]
        spread = sum((p[c] - mean[c]) ** 2 for p in each for c in range(len(mean))) / len(each)
        kinds = {"entropy": whole, "aleatoric": aleatoric, "epistemic": whole - aleatoric, "spread": spread}
        total += kinds[kind]
    return total


def close(found: Tensor, wanted: Any) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-9, atol=1e-12)


class TestUncertain:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("multilabel", "classes"), [(False, 4), (True, 4), (False, 1), (True, 1)])
    def test_against_loops(self, kind, multilabel, classes):
        answer = of_guesses(multilabel, classes)
        found = Uncertain(kind).columns(answer)
        yes_or_no = multilabel or classes == 1
        close(found.scores[:, 0], [slow(answer.output.guesses, kind, i, yes_or_no) for i in range(3)])
        assert found.names == [[kind]] * 3
        assert found.classes.tolist() == [[-1]] * 3

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_the_entropy_of_any_network(self, multilabel):
        answer = Answer(drawn(3, 4), multilabel=multilabel, output=drawn(3, 4))
        wanted = [slow(drawn(3, 4)[None], "entropy", i, multilabel) for i in range(3)]
        close(Uncertain().columns(answer).scores[:, 0], wanted)

    def test_the_noise_that_it_expects(self):
        assert torch.equal(Uncertain("noise").columns(noisy()).scores, noisy().output.variance)
        assert torch.equal(noise_of(noisy()), noisy().output.variance)

    def test_half_precision_is_made_wide(self):
        found = Uncertain().columns(Answer(torch.zeros(2, 4, dtype=torch.bfloat16))).scores
        assert found.dtype == torch.float32

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_a_network_that_is_sure_gradients_are_finite(self, kind):
        """A probability is 0 in float32 where logits are 104 apart."""
        guesses = torch.tensor([[[0.0, 200.0, 1.0]], [[0.0, 300.0, -5.0]]]).requires_grad_()
        for multilabel in (False, True):
            answer = as_answer(guessed(guesses, multilabel), 1, multilabel=multilabel)
            (gradient,) = torch.autograd.grad(Uncertain(kind).columns(answer).scores.sum(), guesses)
            assert bool(gradient.isfinite().all())

    def test_is_one_of_five_kinds(self):
        with pytest.raises(TargetError, match="got 'doubt'"):
            Uncertain("doubt")

    @pytest.mark.parametrize("kind", ["aleatoric", "epistemic", "spread"])
    def test_one_guess_does_not_disagree(self, kind):
        with pytest.raises(TargetError, match=rf"{kind} uncertainty is of several guesses"):
            Uncertain(kind).columns(Answer(drawn(3, 4), output=drawn(3, 4)))

    @pytest.mark.parametrize(
        "output",
        [drawn(3, 4), Answers(drawn(3, 4)), {"logits": drawn(3, 4), "variance": drawn(3, 4)}, {"variance": 3}],
        ids=["a tensor", "none", "one of every class", "no tensor"],
    )
    def test_not_every_network_expects_noise(self, output):
        with pytest.raises(TargetError, match="does not say how much noise"):
            Uncertain("noise").columns(Answer(drawn(3, 4), output=output))

    @pytest.mark.parametrize("target", [*map(Uncertain, [*KINDS, "noise"]), Certainty()], ids=str)
    def test_of_an_output_without_class_scores(self, target):
        with pytest.raises(TargetError, match="no class scores"):
            target.columns(as_answer({"out": drawn(3, 4, 5, 5)}, 3))

    def test_what_looks_at_the_output_says_so(self):
        assert list(Uncertain().looks()) == []
        keys = [tuple(Uncertain(kind).looks()) for kind in ("aleatoric", "epistemic", "noise", "spread")]
        assert len(set(keys)) == 4
        assert all(len(key) == 1 for key in keys)
        assert tuple(Uncertain("noise").looks()) == keys[2]
        assert tuple((-Uncertain("noise")).looks()) == keys[2]

    def test_certainty_is_a_minus_before_it(self):
        answer = of_guesses()
        close((-Uncertain()).columns(answer).scores, -Uncertain().columns(answer).scores)
        both = (Class(1) - 2 * Uncertain("epistemic")).columns(answer).scores
        close(both[:, 0], answer.logits[:, 1] - 2 * Uncertain("epistemic").columns(answer).scores[:, 0])
        assert Several((Top(1), Uncertain())).columns(answer).scores.shape == (3, 2)

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_the_same_of_any_samples_and_when_the_answer_changes(self, kind):
        target = Uncertain(kind)
        assert target.of_samples(slice(0, 1)) is target
        assert target.fixed(of_guesses()) is target


class TestCertainty:
    @pytest.mark.parametrize(("classes", "multilabel"), [(1, False), (4, True)])
    def test_an_answer_among_several_it_must_be(self, classes, multilabel):
        said = Answers(drawn(3, classes), None, drawn(3, 1, seed=1).square())
        with pytest.raises(TargetError, match="each a yes or no"):
            Certainty().columns(as_answer(said, 3, multilabel=multilabel))

    @pytest.mark.parametrize("udl", ["scaled", "additive"])
    @pytest.mark.parametrize("answered", [False, True])
    @pytest.mark.parametrize("name", [None, 2])
    def test_is_the_loss_with_a_minus(self, name, answered, udl):
        answer = noisy()
        classes = answer.logits.argmax(1) if name is None else torch.full((3,), 2)
        chance = torch.Generator().manual_seed(5)
        found = losses(answer.logits, answer.output.variance, classes, draws=7, udl=udl, chance=chance)
        wanted = found.uncertainty + found.answer if answered else found.uncertainty
        columns = Certainty(name, answered, 7, udl, seed=5).columns(answer)
        close(columns.scores[:, 0], -wanted)
        assert columns.names == [["ucam" if answered else "certainty"]] * 3
        assert columns.classes.tolist() == [[-1]] * 3

    def test_a_class_by_name(self):
        answer = as_answer(noisy().output, 3, labels=("a", "b", "c", "d"))
        assert torch.equal(Certainty("c").columns(answer).scores, Certainty(2).columns(answer).scores)
        with pytest.raises(TargetError, match="no class 'z'"):
            Certainty("z").columns(answer)
        with pytest.raises(TargetError, match="no class 9"):
            Certainty(9).columns(answer)

    def test_never_looks_at_what_is_right(self):
        """All that it is given is the output: other fields of it change nothing."""

        @dataclass
        class Labelled(Answers):
            targets: Tensor | None = None

        said = noisy().output
        found = [
            Certainty().columns(as_answer(Labelled(said.logits, None, said.variance, targets), 3)).scores
            for targets in (None, torch.tensor([0, 1, 2]), torch.tensor([3, 3, 3]))
        ]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        close(found[0], Certainty(classes=said.logits.argmax(1)).columns(noisy()).scores)

    def test_stays_with_the_answer_that_it_was(self):
        before = noisy()
        after = as_answer(Answers(-before.logits, None, before.output.variance), 3)
        fixed = Certainty().fixed(before)
        assert fixed.classes.tolist() == before.logits.argmax(1).tolist()
        close(fixed.columns(after).scores, Certainty(classes=before.logits.argmax(1)).columns(after).scores)
        assert not torch.allclose(fixed.columns(after).scores, Certainty().columns(after).scores)
        assert Certainty(2).fixed(before).classes.tolist() == [2, 2, 2]
        close(fixed.fixed(after).columns(after).scores, fixed.columns(after).scores)

    @pytest.mark.parametrize("some", [slice(1, 3), torch.tensor([2, 0])], ids=["slice", "index"])
    def test_of_some_samples(self, some):
        whole = noisy()
        part = as_answer(Answers(whole.logits[some], None, whole.output.variance[some]), 2)
        for target in (Certainty(), Certainty(1), Certainty().fixed(whole)):
            close(target.of_samples(some).columns(part).scores, target.columns(whole).scores[some])

    def test_noise_is_the_same_each_time_and_torchs_own_is_left(self):
        before = torch.get_rng_state()
        once, again, other = (Certainty(seed=seed).columns(noisy()).scores for seed in (1, 1, 2))
        assert torch.equal(once, again)
        assert not torch.equal(once, other)
        assert torch.equal(torch.get_rng_state(), before)

    def test_looks(self):
        kinds = [Certainty(), Certainty(1), Certainty(answered=True), Certainty(udl="additive")]
        assert len({key for one in kinds for key in one.looks()}) == len(kinds)
        assert list(Certainty().looks()) == list(Certainty().looks())

    def test_not_every_network_expects_noise(self):
        with pytest.raises(TargetError, match="does not say how much noise"):
            Certainty().columns(of_guesses())


class TestMaps:
    @pytest.fixture
    def net(self) -> nn.Module:
        return CertainClassifier(TinyNetwork.build(dtype=torch.float64), 4).double().eval()

    @pytest.mark.parametrize(
        "target", [Uncertain(), Uncertain("noise"), Certainty(), Certainty(1, answered=True)], ids=str
    )
    def test_by_hand(self, net, pictures, target):
        x, kept = pictures(3, dtype=torch.float64), []
        e = saywhy.explain(net, x, target, layer="network.features", layout=LAYOUT, relu=False)
        handle = net.network.features.register_forward_hook(lambda _, __, out: kept.append(out))
        scores = target.columns(as_answer(net(x), 3)).scores
        handle.remove()
        (gradient,) = torch.autograd.grad(scores.sum(), kept)
        close(e.maps[:, 0], (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach())
        close(e.scores, scores.detach())
        parts = saywhy.explain(net, x, target, layer="network.features", layout=LAYOUT, relu=False, batch_size=2)
        close(parts.maps, e.maps)

    def test_by_a_method_that_alters_the_picture_the_answer_stays(self, net, pictures):
        x = pictures(2, dtype=torch.float64)
        own = {"layer": "network.features", "layout": LAYOUT, "relu": False}
        e = saywhy.explain(net, x, Certainty(), "ablationcam", **own)
        fixed = Certainty(classes=net(x).logits.argmax(1).detach())
        close(e.maps, saywhy.explain(net, x, fixed, "ablationcam", **own).maps)

    def test_the_layer_is_found(self, net, pictures):
        for target in (Uncertain(), Uncertain("noise"), Certainty()):
            assert saywhy.explain(net, pictures(2, dtype=torch.float64), target).layers[0].startswith("network.")


def test_guesses_are_told_from_other_outputs():
    assert isinstance(of_guesses().output, Guessed)
    close(of_guesses().logits.softmax(1), drawn(5, 3, 4).softmax(-1).mean(0))
