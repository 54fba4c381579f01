"""Uncertainty of a batch, against slow loops, and of the three kinds of models with several Monte Carlo samples."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.errors import InputError, TargetError
from saywhy.models import Model
from saywhy.models.uncertainty_reference import UncertaintyReference
from saywhy.targets import Uncertain
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.networks import ShowAskAttendAnswer, VQAModel
from saywhy.uncertainty import (
    Ensemble,
    TestTimeAugmentation,
    Uncertainty,
    VarianceClassifier,
    ensemble,
    estimate,
    mc_dropout,
    with_augmentations,
)
from saywhy.uncertainty.ensemble import AUGMENTATIONS
from saywhy.uncertainty.variance_head import VarianceHead

LAYOUT = saywhy.Layout("channels-first", (6, 6))


def network(seed: int = 0, classes: int = 4) -> nn.Module:
    return TinyNetwork.build(classes, seed=seed, dtype=torch.float64)


def some_images(batch: int = 2, side: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, side, side, generator=generator, dtype=torch.float64)


def some_mc_samples(num_samples: int = 4, batch: int = 3, classes: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(num_samples, batch, classes, generator=generator, dtype=torch.float64)


def slow_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def close(found: Tensor, wanted: object) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-12, atol=1e-12)


def assert_same(one: Uncertainty, other: Uncertainty) -> None:
    assert one.num_samples == other.num_samples
    for name in ("probabilities", "total", "aleatoric", "epistemic", "sample_variance", "aleatoric_variance"):
        here, there = getattr(one, name), getattr(other, name)
        assert (here is None) == (there is None)
        if here is not None:
            close(here, there)


class TestUncertaintyOf:
    def test_multiclass_values_equal_slow_loops(self):
        samples = some_mc_samples().softmax(-1)
        found = Uncertainty.of(samples)
        for i in range(3):
            each = samples[:, i].tolist()
            mean = [sum(p[c] for p in each) / 4 for c in range(5)]
            close(found.probabilities[i], mean)
            close(found.total[i], slow_entropy(mean))
            close(found.aleatoric[i], sum(map(slow_entropy, each)) / 4)
            close(found.epistemic[i], slow_entropy(mean) - sum(map(slow_entropy, each)) / 4)
            close(found.sample_variance[i], sum((p[c] - mean[c]) ** 2 for p in each for c in range(5)) / 4)
        assert (found.num_samples, found.aleatoric_variance) == (4, None)

    def test_multilabel_values_are_sums_of_binary_ones(self):
        """Every class is a binary variable, and entropies add up."""
        samples = some_mc_samples().sigmoid()
        found = Uncertainty.of(samples, multilabel=True)
        parts = [Uncertainty.of(torch.stack([yes, 1 - yes], -1)) for yes in samples.unbind(-1)]
        for name in ("total", "aleatoric", "epistemic"):
            close(getattr(found, name), sum(getattr(part, name) for part in parts))
        close(found.sample_variance, samples.var(0, correction=0).sum(-1))
        close(found.probabilities, samples.mean(0))

    def test_values_are_float64_without_graph(self):
        found = Uncertainty.of(
            some_mc_samples().softmax(-1).float().requires_grad_(), torch.ones(3, requires_grad=True)
        )
        for name, value in vars(found).items():
            if name != "num_samples":
                assert value.dtype == torch.float64
                assert not value.requires_grad

    def test_predictive_variance_is_sample_variance_without_noise(self):
        samples = some_mc_samples().softmax(-1)
        close(Uncertainty.of(samples).predictive_variance, Uncertainty.of(samples).sample_variance)
        close(Uncertainty.of(samples, torch.zeros(3)).predictive_variance, Uncertainty.of(samples).sample_variance)

    @pytest.mark.parametrize("multilabel", [False, True])
    def test_predictive_variance_is_that_of_probabilities_under_noise_in_the_logits(self, multilabel):
        """The oracle draws other noise, in loops, and never adds squared logits to squared probabilities."""
        logits, noise = some_mc_samples(), torch.tensor([0.5, 0.0, 2.0])
        found = Uncertainty.of(logits.sigmoid() if multilabel else logits.softmax(-1), noise, multilabel)
        generator = np.random.default_rng(1)
        for b, s in enumerate(noise.tolist()):
            each = []
            for y in logits[:, b].double().numpy():
                for _ in range(400):
                    noisy = y + math.sqrt(s) * generator.standard_normal(len(y))
                    each.append(1 / (1 + np.exp(-noisy)) if multilabel else np.exp(noisy) / np.exp(noisy).sum())
            wanted = sum(np.var([p[c] for p in each]) for c in range(logits.shape[2]))
            assert float(found.predictive_variance[b]) == pytest.approx(wanted, rel=0.08)

    def test_predictive_variance_for_little_noise_is_the_derivative_of_the_softmax_times_the_noise(self):
        p, s = torch.tensor([0.7, 0.2, 0.1]).double(), 1e-4
        first_order = sum(s * p[c] ** 2 * (1 - 2 * p[c] + (p**2).sum()) for c in range(3))
        found = Uncertainty.of(p.view(1, 1, 3), torch.tensor([s])).predictive_variance
        assert float(found[0]) == pytest.approx(float(first_order), rel=0.05)

    def test_predictive_variance_never_exceeds_that_of_probabilities(self):
        found = Uncertainty.of(torch.tensor([[[0.5, 0.5]]]), torch.tensor([30.0]))
        assert float(found.predictive_variance[0]) <= 0.5
        certain = Uncertainty.of(torch.tensor([[[1.0, 0.0]]]), torch.tensor([1.0]))  # the noise changes nothing
        assert float(certain.predictive_variance[0]) < 1e-12

    @pytest.mark.parametrize("multilabel", [False, True])
    @pytest.mark.parametrize("wrong", [-0.2, 1.2, math.nan, math.inf])
    def test_probabilities_outside_unit_interval_raise(self, wrong, multilabel):
        samples = some_mc_samples().softmax(-1)
        samples[1, 2, 3] = wrong
        with pytest.raises(InputError, match=r"probabilities"):
            Uncertainty.of(samples, multilabel=multilabel)

    def test_logits_raise(self):
        with pytest.raises(InputError, match="add up to 1"):
            Uncertainty.of(some_mc_samples().abs())


class TestEstimate:
    def test_plain_model_gives_one_sample(self):
        p = network()(some_images()).softmax(1).detach()
        found = estimate(network(), some_images())
        close(found.probabilities, p)
        close(found.total, [slow_entropy(row) for row in p.tolist()])
        close(found.aleatoric, found.total)
        assert found.epistemic.tolist() == found.sample_variance.tolist() == [0, 0]
        assert (found.num_samples, found.aleatoric_variance) == (1, None)

    @pytest.mark.parametrize("multilabel", [False, True])
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_mc_dropout_estimate_equals_uncertainty_of_its_samples(self, multilabel, temperature):
        model = mc_dropout(saywhy.load(network(), multilabel=multilabel), 6, seed=2)
        samples = model.module(some_images()).sample_logits.detach() / temperature
        wanted = Uncertainty.of(samples.sigmoid() if multilabel else samples.softmax(-1), multilabel=multilabel)
        assert_same(estimate(model, some_images(), temperature=temperature), wanted)

    @pytest.mark.parametrize(
        "make", [lambda m: m, lambda m: mc_dropout(m, 3), with_augmentations, lambda m: ensemble([m, m])]
    )
    def test_single_logit_is_binary(self, make):
        found = estimate(make(saywhy.load(network(classes=1))), some_images())
        yes = found.probabilities[:, 0].tolist()
        close(found.total, [slow_entropy([p, 1 - p]) for p in yes])

    def test_variance_head_gives_aleatoric_variance(self):
        net = VarianceClassifier(network(), 4).double().eval()
        wanted = net(some_images()).variance[:, 0].detach()
        close(estimate(net, some_images()).aleatoric_variance, wanted)
        assert bool((estimate(mc_dropout(saywhy.load(net), 4), some_images()).aleatoric_variance > 0).all())

    def test_huge_temperature_gives_maximal_entropy(self):
        found = estimate(network(), some_images(), temperature=1e6)
        torch.testing.assert_close(found.total, torch.full((2,), math.log(4), dtype=torch.float64))

    @pytest.mark.parametrize("wrong", [0, -1.0, math.nan])
    def test_invalid_temperature_raises(self, wrong):
        with pytest.raises(InputError, match="temperature must be a number above 0"):
            estimate(network(), some_images(), temperature=wrong)

    def test_output_without_class_scores_raises(self):
        with pytest.raises(TargetError, match="no class scores"):
            estimate(nn.Conv2d(3, 2, 1).double(), some_images())

    def test_seed_controls_a_stochastic_network(self):
        class Noisy(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = network()

            def forward(self, x: Tensor) -> Tensor:
                return self.net(x + torch.randn_like(x))

        before = torch.get_rng_state()
        once, again, other = (estimate(Noisy(), some_images(), seed=seed) for seed in (1, 1, 2))
        assert_same(once, again)
        assert not torch.equal(once.total, other.total)
        assert torch.equal(torch.get_rng_state(), before)

    def test_mode_and_weights_are_unchanged(self):
        net = network().train()
        values = {name: value.clone() for name, value in net.state_dict().items()}
        assert_same(estimate(net, some_images()), estimate(network(), some_images()))
        assert net.training
        assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())

    def test_uncertainty_reference_is_kept_by_wrappers(self):
        model = replace(saywhy.load(network()), reference=UncertaintyReference({"total": (0.0, 1.0)}, 0.5, 0.1, "val"))
        for made in (mc_dropout(model, 2), with_augmentations(model), ensemble([model, model])):
            assert made.reference is model.reference


WORDS = Vocabulary.of(["what colour is it", "is it red"])


@pytest.fixture
def asked() -> Model:
    """A model of images and questions."""
    torch.manual_seed(0)
    head = ShowAskAttendAnswer(6, words=len(WORDS), answers=3, embedded=4, hidden=5, attended=8, inner=7)
    head.variance_head = VarianceHead(3)
    net = VQAModel(nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU()), head).double().eval()
    return Model(net, texts={"question": WORDS.batch})


@pytest.mark.parametrize(
    "make",
    [lambda m: m, lambda m: mc_dropout(m, 5), with_augmentations, lambda m: ensemble([m, m])],
    ids=["as it is", "monte carlo", "augmented", "ensemble"],
)
def test_vqa_model_can_be_estimated_with_every_wrapper(asked, make):
    model, words = make(asked), ["what colour is it", "is it red"]
    found = estimate(model, {"image": some_images(), "question": words})
    with torch.no_grad():
        close(found.probabilities, model.module(some_images(), WORDS.batch(words)).logits.softmax(1))
    assert found.probabilities.shape == (2, 3)
    assert found.aleatoric_variance.shape == (2,)
    assert list(model.prepare_inputs("an image", "is it red")) == ["image", "question"]
    alone = estimate(model, {"image": some_images()[1:], "question": words[1:]})
    assert alone.num_samples == found.num_samples
    with pytest.raises(InputError, match="takes words under the name 'question'"):
        estimate(model, some_images())


class TestEnsemble:
    def test_samples_are_those_of_the_members(self):
        members = [network(seed) for seed in range(3)]
        said = Ensemble(members)(some_images())
        for sample, member in zip(said.sample_logits, members, strict=True):
            close(sample.detach(), member(some_images()).detach())
        close(said.logits.softmax(1).detach(), said.sample_logits.softmax(-1).mean(0).detach())
        assert_same(estimate(ensemble(members), some_images()), Uncertainty.of(said.sample_logits.softmax(-1)))

    def test_single_member_equals_the_plain_model(self):
        assert_same(estimate(ensemble([network()]), some_images()), estimate(network(), some_images()))

    def test_equal_members_have_zero_epistemic_uncertainty(self):
        found = estimate(ensemble([network()] * 3), some_images())
        close(found.epistemic, [0.0, 0.0])

    def test_attention_and_variance_are_means_over_members(self):
        looking = [TinyNetwork.build(head="looking", seed=seed, dtype=torch.float64) for seed in range(2)]
        said = Ensemble(looking)(some_images())
        close(said.attention.detach(), sum(net(some_images()).attention.detach() for net in looking) / 2)
        assert Ensemble([looking[0], network()])(some_images()).attention is None
        certain = [VarianceClassifier(network(seed), 4).double() for seed in range(2)]
        noise = sum(net(some_images()).variance.detach() for net in certain) / 2
        close(Ensemble(certain)(some_images()).variance.detach(), noise)

    def test_labels_and_name_are_set_and_differing_labels_raise(self):
        first, second = (saywhy.load(network(seed), labels=list("abcd")) for seed in range(2))
        model = ensemble([first, second])
        assert (model.labels, model.name) == (("a", "b", "c", "d"), "ensemble of 2")
        with pytest.raises(InputError, match=r"labels of .* differ"):
            ensemble([first, saywhy.load(network(), labels=list("abdc"))])
        with pytest.raises(InputError, match=r"labels of .* differ"):
            ensemble([first, network()])

    def test_no_members_or_different_classes_raise(self):
        with pytest.raises(InputError, match="one model at least"):
            ensemble([])
        with pytest.raises(InputError, match=r"same classes, got \[4, 5\]"):
            estimate(ensemble([network(), network(classes=5)]), some_images())

    @pytest.mark.parametrize("kind", ["entropy", "aleatoric", "epistemic"])
    def test_map_at_a_layer_of_a_member_equals_hand_computed_gradcam(self, kind):
        members = [network(seed) for seed in range(3)]
        layer = "members.1.features"
        e = saywhy.explain(ensemble(members), some_images(), Uncertain(kind), layer=layer, layout=LAYOUT, relu=False)
        kept: list[Tensor] = []
        handle = members[1].features.register_forward_hook(lambda _, __, out: kept.append(out))
        p = torch.stack([member(some_images()).softmax(1) for member in members])
        handle.remove()
        total, aleatoric = (-(q * q.log()).sum(-1) for q in (p.mean(0), p))
        score = {"entropy": total, "aleatoric": aleatoric.mean(0), "epistemic": total - aleatoric.mean(0)}[kind]
        (gradient,) = torch.autograd.grad(score.sum(), kept)
        close(e.maps[:, 0], (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach())
        close(e.scores[:, 0], score.detach())


class TestAugmented:
    def test_samples_are_those_of_the_augmentations(self):
        said = TestTimeAugmentation(network(), [lambda x: x, lambda x: x.flip(-1)])(some_images())
        close(said.sample_logits[0].detach(), network()(some_images()).detach())
        close(said.sample_logits[1].detach(), network()(some_images().flip(-1)).detach())
        assert_same(
            estimate(with_augmentations(saywhy.load(network()), [lambda x: x, lambda x: x.flip(-1)]), some_images()),
            Uncertainty.of(said.sample_logits.softmax(-1)),
        )

    def test_identity_augmentation_equals_the_plain_model(self):
        model = with_augmentations(saywhy.load(network()), [lambda x: x])
        assert_same(estimate(model, some_images()), estimate(network(), some_images()))

    def test_default_augmentations_shift_and_change_contrast_and_brightness(self):
        x = some_images(2, 25)
        seen = [augmentation(x) for augmentation in AUGMENTATIONS]
        assert torch.equal(seen[0], x)
        for found, (down, across) in zip(seen[1:5], [(1, 0), (-1, 0), (0, 1), (0, -1)], strict=True):
            for row, column in ((0, 0), (12, 7), (24, 24), (0, 24)):
                before = min(max(row - down, 0), 24), min(max(column - across, 0), 24)
                assert torch.equal(found[..., row, column], x[..., before[0], before[1]])
        for found, factor in zip(seen[5:7], (0.85, 1.15), strict=True):
            close(found.mean((1, 2, 3)), x.mean((1, 2, 3)))
            close(found.std((1, 2, 3)), factor * x.std((1, 2, 3)))
        close(seen[7] - x, 0.05 * x.std((1, 2, 3), keepdim=True).expand_as(x))

    def test_images_are_augmented_independently(self):
        model = with_augmentations(saywhy.load(network()))
        whole = estimate(model, some_images())
        for i in range(2):
            close(estimate(model, some_images()[i : i + 1]).epistemic, whole.epistemic[i : i + 1])

    @pytest.mark.parametrize("augmentation", [lambda x: x[..., 1:], lambda x: x[:1], lambda x: x.mean(1, keepdim=True)])
    def test_augmentation_that_changes_the_shape_raises(self, augmentation):
        with pytest.raises(InputError, match=r"an augmentation keeps the images' shape \[2, 3, 12, 12\]"):
            estimate(with_augmentations(saywhy.load(network()), [augmentation]), some_images())

    def test_empty_augmentations_raise(self):
        with pytest.raises(InputError, match="augmentations is empty"):
            with_augmentations(saywhy.load(network()), [])

    def test_other_inputs_are_not_augmented(self):
        class Weighed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = network()

            def forward(self, weight: Tensor, image: Tensor) -> Tensor:
                return self.net(image) * weight

        weight = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
        said = TestTimeAugmentation(Weighed())(weight, image=some_images())
        close(
            said.sample_logits.detach(), TestTimeAugmentation(network())(some_images()).sample_logits.detach() * weight
        )

    def test_in_place_augmentation_does_not_change_the_image(self):
        images = some_images()
        found = TestTimeAugmentation(network(), [lambda x: x.mul_(0.5), lambda x: x])(images)
        assert torch.equal(images, some_images())
        close(found.sample_logits[1], network()(some_images()))

    def test_single_function_instead_of_a_list_raises(self):
        with pytest.raises(InputError, match="list of functions"):
            TestTimeAugmentation(network(), lambda x: x)


@pytest.mark.parametrize("samples", [[[0.5, 0.5]], torch.full((2, 2), 0.5), torch.zeros(2, 0, 3)])
def test_samples_without_three_axes_raise(samples):
    with pytest.raises(InputError, match=r"\[draw, batch, class\]"):
        Uncertainty.of(samples)


def test_aleatoric_variance_of_wrong_length_raises():
    with pytest.raises(InputError, match="each of 3 samples"):
        Uncertainty.of(some_mc_samples().softmax(-1), torch.zeros(2))


def test_ensemble_uses_the_output_path_of_each_member():
    class Two(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"one": self.first(x), "other": self.second(x)}

    both = [saywhy.load(Two(network(1), network(2)), output=name) for name in ("one", "other")]
    assert_same(estimate(ensemble(both), some_images()), estimate(ensemble([network(1), network(2)]), some_images()))


def test_ensemble_of_mixed_or_invalid_members_raises():
    with pytest.raises(InputError, match="multilabel"):
        ensemble([saywhy.load(network()), saywhy.load(network(1), multilabel=True)])
    with pytest.raises(InputError, match="a list of models, got Sequential"):
        ensemble(nn.Sequential(network()))


@pytest.mark.parametrize("variance", [torch.zeros(2, 5), torch.zeros(2), 3.0])
def test_variance_of_wrong_shape_or_type_raises(variance):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"logits": x.flatten(1)[:, :4], "variance": variance}

    with pytest.raises(InputError, match=r"noise in its logits \[batch, 1\]"):
        estimate(saywhy.load(Odd()), some_images())


@pytest.mark.parametrize(
    "again",
    [
        lambda model: saywhy.uncertainty.mc_dropout(model),
        lambda model: saywhy.uncertainty.with_augmentations(model),
        lambda model: saywhy.uncertainty.ensemble([model, model]),
        lambda model: saywhy.load(VarianceClassifier(model.module, 4)),
    ],
    ids=["dropout", "augmentations", "ensemble", "variance head"],
)
def test_nested_mc_samples_raise(again):
    """The disagreement of the inner samples would be lost."""
    with pytest.raises(InputError, match="returns several Monte Carlo samples already"):
        estimate(again(saywhy.uncertainty.mc_dropout(network(), 5)), some_images())
