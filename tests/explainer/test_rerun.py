"""Running a request again: other images, another network, other methods, one sample, runner-up classes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.checks.check import check
from saywhy.engine import tree
from saywhy.errors import InputError, SaywhyError
from saywhy.metrics import measure
from saywhy.targets import Class, Top, finer


def network(**settings: Any) -> TinyNetwork:
    """A network whose top class differs from image to image."""
    net = TinyNetwork.build(dtype=torch.float64, **settings)
    with torch.no_grad():
        net.fc.bias -= net(some_images(8, seed=2)).mean(0)
    return net


def some_images(batch: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explained(
    net: nn.Module, images: Any, target: Any = 1, method: Any = "gradcam", layer: Any = "features", **own: Any
):
    return saywhy.explain(net, images, target, method, layer, relu=False, **own)


def assert_same(one: saywhy.Explanation, other: saywhy.Explanation) -> None:
    assert one.pairs == other.pairs
    assert one.targets == other.targets
    for pair in one.pairs:
        torch.testing.assert_close(one[pair].detach(), other[pair].detach(), rtol=1e-9, atol=1e-12)


TARGETS = {
    "one class": 1,
    "the top one": None,
    "several": [0, 2],
    "each its own": torch.tensor([[0, 1], [1, 2], [3, 0]]),
    "a contrast": Class(2) - Class(0),
    "the top two": Top(2),
    "finer": finer(None, similar=2),
    "a function": lambda out: out[:, 0] * out[:, 1],
}


class TestUnchanged:
    @pytest.mark.slow
    @pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
    @pytest.mark.parametrize("own", [{}, {"batch_size": 2}, {"score": "probability"}], ids=str)
    def test_rerun_equals_the_first_explanation(self, target, own):
        net, images = network(), some_images()
        e = explained(net, images, target, ["gradcam", "layercam"], ["stem", "features"], **own)
        assert_same(e.explainer.explain(), e)

    @pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
    def test_rerun_of_one_sample_equals_its_maps(self, target):
        net, images = network(), some_images()
        e = explained(net, images, target)
        again = e.explainer
        for i in range(3):
            one = again.sample(i).explain()
            assert one.targets == [e.targets[i]]
            torch.testing.assert_close(one.maps.detach(), e.maps[i : i + 1].detach(), rtol=1e-9, atol=1e-12)

    def test_a_sample_resolves_its_target_once(self):
        net, images = network(), some_images()
        again = explained(net, images, None).explainer
        runs: list[int] = []
        net.register_forward_hook(lambda _module, args, _out: runs.append(len(args[0])))
        for i in range(3):
            again.sample(i).explain()
        assert runs == [3, 1, 1, 1]

    def test_an_explanation_resolves_its_target_once(self):
        net, images = network(), some_images()
        e = explained(net, images, None)
        runs: list[int] = []
        net.register_forward_hook(lambda _module, args, _out: runs.append(len(args[0])))
        for _ in range(3):
            e.explainer.of("layercam").explain()
        assert runs == [3, 3, 3, 3]

    def test_rerun_restores_buffers_and_raises_if_they_changed(self):
        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network()
                self.register_buffer("calls", torch.zeros((), dtype=torch.long))

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                return self.inner(x)

        net, images = Counting().eval(), some_images()
        e = explained(net, images, None, layer="inner.features")
        for _ in range(2):
            assert_same(e.explainer.explain(), e)
        assert net.calls == 0
        net.calls.fill_(3)
        with pytest.raises(InputError, match="weights have changed"):
            _ = e.explainer

    def test_rerun_of_one_method_gives_that_method(self):
        net, images = network(), some_images()
        both = saywhy.explain(net, images, 1, ["saliency", "gradcam"], net.features, relu=False)
        for method in both.methods:
            again = both.explainer.of(method)
            for found in (again.explain(), again.explain(module=network()), again.runner_up()):
                assert found.methods == (method,)

    @pytest.mark.parametrize("how", ["mean", "max"])
    def test_rerun_of_fused_maps_fuses_again(self, how):
        net, images = network(), some_images()
        e = explained(net, images, [0, 1], ["gradcam", "hirescam"], ["stem", "features"]).fuse(how)
        assert_same(e.explainer.explain(), e)
        assert e.explainer.runner_up().pairs == e.pairs
        assert e.explainer.sample(1).explain().pairs == e.pairs

    def test_rerun_of_counterfactual_equals_it(self):
        net, images = network(), some_images()
        turned = explained(net, images, None).counterfactual
        assert_same(turned.explainer.explain(), turned)

    def test_rerun_of_fast_precision_is_close(self):
        """A rerun chooses its own fastest form of the network."""
        net = TinyNetwork.build()
        e = explained(net, some_images().float(), [0, 1], precision="fast")
        names = ["max-sensitivity", "input-shift-variance", "parameter-randomization", "deletion"]
        found = measure(e, names, num_samples=2)
        assert all(one.values.isfinite().all() for one in found.values())
        torch.testing.assert_close(e.explainer.explain().maps, e.maps, rtol=0.05, atol=1e-3)


class TestOtherImages:
    @pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
    def test_targets_stay_those_of_the_original_images(self, target):
        net, images, others = network(), some_images(), some_images(seed=9)
        assert not torch.equal(net(images).argmax(1), net(others).argmax(1))
        e = explained(net, images, target)
        found = e.explainer.explain(others)
        assert found.targets == e.targets
        if bool((e.classes >= 0).all()):
            assert_same(found, explained(net, others, e.classes))

    def test_words_stay_with_their_images(self):
        class ImageAndQuestion(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner, self.words = network(), nn.Embedding(5, 4).double()

            def forward(self, image: Tensor, question: Tensor) -> Tensor:
                return self.inner(image) * self.words(question).mean(1)

        net, questions, others = ImageAndQuestion(), torch.tensor([[1, 2], [3, 4], [0, 0]]), some_images(seed=9)
        e = explained(net, {"image": some_images(), "question": questions}, layer="inner.features")
        assert_same(
            e.explainer.explain(others),
            explained(net, {"image": others, "question": questions}, layer="inner.features"),
        )
        one = e.explainer.sample(2)
        assert torch.equal(one.batch.inputs["question"], questions[2:])
        assert_same(
            one.explain(),
            explained(net, {"image": some_images()[2:], "question": questions[2:]}, layer="inner.features"),
        )

    def test_images_are_cast_to_the_model_precision(self):
        net = TinyNetwork.build(dtype=torch.bfloat16)
        again = explained(net, some_images().bfloat16()).explainer
        found = again.explain(some_images(seed=9))
        assert found.maps.shape == (3, 1, 6, 6)


class TestOtherNetworks:
    def test_layers_are_found_by_name(self):
        net, other, images = network(), network(seed=5), some_images()
        for layer in ("features", net.features, None, [net.stem, "features"]):
            e = saywhy.explain(net, images, 1, ["gradcam", "saliency"], layer, relu=False)
            names = [name for name in e.layers if name != "input"]
            assert_same(
                e.explainer.explain(module=other),
                saywhy.explain(other, images, 1, ["gradcam", "saliency"], names, relu=False),
            )

    def test_network_without_the_layer_raises(self):
        with pytest.raises(InputError, match=r"has no layer 'features'.*Nearest: 'feature'.*same architecture"):
            explained(network(), some_images()).explainer.explain(module=nn.ModuleDict({"feature": nn.ReLU()}))

    def test_model_keeps_its_module(self):
        model = saywhy.load(network())
        before = model.module
        explained(model, some_images()).explainer.explain(module=network(seed=5))
        assert model.module is before


class TestOtherMethods:
    @pytest.mark.parametrize("layer", [None, "input", "features", "module"])
    def test_image_method_can_be_rerun_with_layer_methods(self, layer):
        net = network()
        e = saywhy.explain(net, some_images(), 1, "saliency", net.features if layer == "module" else layer)
        found = e.explainer.explain(methods=["gradcam", "saliency"])
        assert found.methods == ("gradcam", "saliency")
        assert found.targets == e.targets

    def test_check_of_image_method_compares_with_layer_methods(self):
        found = check(saywhy.explain(network(), some_images(1), 1, "saliency", "input"))
        assert set(found.agreement) == {"gradcam", "hirescam", "layercam", "gradcam++"}

    def test_other_methods_use_their_own_defaults(self):
        net, images = network(), some_images()
        found = explained(net, images).explainer.explain(methods=["layercam", "gradcam"])
        assert (found["gradcam"] >= 0).all()
        torch.testing.assert_close(found["layercam"], saywhy.explain(net, images, 1, "layercam", "features").maps)

    def test_unknown_method_raises(self):
        with pytest.raises(SaywhyError, match="no method 'gradcm'"):
            explained(network(), some_images()).explainer.explain(methods=["gradcm"])


class TestRunnerUp:
    def test_runner_up_is_the_best_other_class(self):
        net, images = network(), some_images()
        order = net(images).argsort(1, descending=True)
        for columns, runner_up in (
            ([0], [1]),
            ([1], [0]),
            ([0, 1], [1, 0]),
            ([2, 0, 3], [0, 1, 0]),
            ([0, 1, 2, 3], [1, 0, 0, 0]),
        ):
            found = explained(net, images, order[:, columns]).explainer.runner_up()
            assert torch.equal(found.classes, order[:, runner_up])

    def test_runner_up_of_non_class_targets_is_the_top_class(self):
        net, images = network(), some_images()
        order = net(images).argsort(1, descending=True)
        found = explained(net, images, [Top(1), Class(0) - Class(1)]).explainer.runner_up()
        assert torch.equal(found.classes, order[:, [1, 0]])

    def test_runner_up_keeps_parameters(self):
        found = explained(network(), some_images()).explainer.runner_up()
        assert (found.maps < 0).any()

    def test_runner_up_is_invariant_to_batch_size(self):
        net, images = network(), some_images(5)
        whole, parts = (explained(net, images, None, batch_size=n).explainer.runner_up() for n in (None, 2))
        assert_same(whole, parts)

    def test_random_classes_are_other_classes_drawn_by_the_seed(self):
        net, images = network(classes=4), some_images()
        e = explained(net, images, [Class(1), Class(3)])
        found = e.explainer.random_classes(5, seed=1)
        drawn = found.classes.unflatten(1, (2, 5))
        assert not bool((drawn == torch.tensor([1, 3]).view(1, 2, 1)).any())
        assert len(drawn.unique()) > 2
        assert torch.equal(e.explainer.random_classes(5, seed=1).classes, found.classes)
        assert not torch.equal(e.explainer.random_classes(5, seed=2).classes, found.classes)
        alone = explained(net, images[:1], [Class(int(drawn[0, 1, 4]))])
        torch.testing.assert_close(found.maps[:1, 9], alone.maps[:, 0])

    @pytest.mark.parametrize(("target", "classes"), [(Class(0) - Class(1), 4), (lambda out: out[:, 0], 4), (0, 1)])
    def test_runner_up_without_other_class_raises(self, target, classes):
        with pytest.raises(InputError, match=f"among several; got .* of {classes} classes"):
            explained(network(classes=classes), some_images(), target).explainer.runner_up()


class TestModelRunner:
    @pytest.mark.parametrize("target", [None, [0, 2], Top(2)])
    def test_scores_of_other_images_equal_the_network_outputs(self, target):
        net, images, others = network(), some_images(), some_images(4, seed=8)
        e = explained(net, images, target)
        samples = torch.tensor([2, 0, 0, 1])
        for kind, values in (("logit", net(others)), ("probability", net(others).softmax(1))):
            found = e.explainer.model_runner(kind).scores(others, samples)
            torch.testing.assert_close(found, values.detach().gather(1, e.classes[samples]))

    def test_inference_mode_images_can_be_rerun(self):
        net = network()
        with torch.inference_mode():
            e = explained(net, some_images().clone(), None)
        again = e.explainer
        assert_same(again.explain(tree.image_tensor(again.batch.inputs) + 0), e)
        assert again.model_runner().scores(some_images(), torch.arange(3)).shape == (3, 1)
        assert_same(again.sample(1).explain(), explained(net, some_images()[1:2], e.classes[1:2]))


class TestModelState:
    def test_rerun_restores_model_and_random_state(self):
        net = network().train()
        net.stem.eval()
        modes = [m.training for m in net.modules()]
        drawn = torch.get_rng_state()
        again = explained(net, some_images(), None).explainer
        (
            again.explain(),
            again.runner_up(),
            again.sample(0).explain(),
            again.model_runner().scores(some_images(), torch.arange(3)),
        )
        assert [m.training for m in net.modules()] == modes
        assert torch.equal(torch.get_rng_state(), drawn)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert all(p.grad is None for p in net.parameters())

    def test_changed_weights_raise(self):
        net = network()
        e = explained(net, some_images())
        with torch.no_grad():
            net.fc.bias.add_(1)
        with pytest.raises(InputError, match="weights have changed"):
            _ = e.explainer
        with pytest.raises(InputError, match="weights have changed"):
            _ = e.fuse().explainer
