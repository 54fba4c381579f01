"""A refusal for want of a gradient names the true cause, the way out, and methods that work on that network."""

import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn

import gradientless_networks as networks
import saywhy
from placed_networks import SmallViT
from saywhy.engine.no_gradient import depends
from saywhy.errors import GradientError, LayerError, LayoutError, ModelError, SaywhyError
from saywhy.explainer import chunks
from saywhy.methods.registry import all_methods

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd kernel was not registered:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor.*deprecated:UserWarning"),
]

CAUSES = {
    networks.Detached: r"Tensor\.detach\(\) cuts the gradient off \(line \d+ of gradientless_networks\.py, in Detached",
    networks.Data: r"Tensor\.data cuts the gradient off",
    networks.FrozenHead: r"switched off there, as by torch\.no_grad\(\) \(line \d+ of gradientless_networks\.py",
    networks.Inference: r"own torch\.inference_mode\(\) block",
    networks.Numpy: r"leave torch by Tensor\.numpy\(\)|Tensor\.detach\(\) cuts",
    networks.Lists: r"leave torch by Tensor\.tolist\(\)",
    networks.Steps: r"Tensor\.gt\(\) has no derivative",
    networks.Winner: r"Tensor\.argmax\(\) has no derivative",
    networks.Opaque: r"the autograd function Twice returns values without a gradient",
    networks.OwnFunction: r"Tensor\.detach\(\) cuts",
    networks.Checkpointed: r"activation checkpointing.*use_reentrant=False",
    networks.CheckpointedHead: r"activation checkpointing.*use_reentrant=False",
    networks.int8: r"module 'fc' \(Linear\) is quantized",
}

FEW = {"rise": {"masks": 8}, "lime": {"num_samples": 20}, "kernelshap": {"num_samples": 20}}


def image() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def image64() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def refusal(make, method="gradcam", layer=None, error: type[SaywhyError] = GradientError) -> str:
    with pytest.raises(error) as raised:
        saywhy.explain(make().eval(), image(), 1, method, layer=layer)
    return str(raised.value)


def named(message: str) -> list[str]:
    found = re.search(r"work here: (.*)\.$", message)
    assert found, message
    return found[1].split(", ")


@pytest.mark.parametrize("make", CAUSES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("layer", [None, "features"])
def test_refusal_names_the_true_cause(make, layer):
    message = refusal(make, layer=layer)
    assert re.search(CAUSES[make], message)
    assert "does not depend" not in message
    assert "scripted" not in message


@pytest.mark.parametrize("make", [networks.Detached, networks.FrozenBackbone, networks.Frozen, networks.int8])
@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "guided-backprop"])
def test_methods_of_the_image_name_the_cause_too(make, method):
    message = refusal(make, method)
    assert "no gradient with respect to the image, although it depends on it" in message
    assert re.search(r"cuts the gradient|switched off|quantized", message)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("layer", [None, "relu(last)"])
def test_loss_after_a_functional_rectifier_is_named(layer, inplace):
    message = refusal(lambda: networks.Functional(inplace=inplace), layer=layer)
    assert "no gradient with respect to the layer 'relu(last)', although it depends on it" in message
    assert re.search(r"Tensor\.detach\(\) cuts the gradient off \(line \d+ of gradientless_networks\.py", message)
    assert {"eigencam", "scorecam", "ablationcam"} <= set(named(message))


def test_functional_rectifier_beside_the_score_is_called_independent():
    message = refusal(networks.Functional, layer="relu(beside)")
    assert "the target does not depend on layer 'relu(beside)'" in message
    assert named(message) == ["occlusion", "rise", "lime", "kernelshap"]
    assert saywhy.explain(networks.Functional().eval(), image(), 1, "eigencam").layers == ("relu(last)",)


def test_rectifier_is_called_independent_where_only_its_module_reaches_the_score():
    class Before(networks.Functional):
        def forward(self, x):
            maps = self.last(self.first(x))
            nn.functional.relu(maps)
            return self.fc(maps.sigmoid().mean((2, 3)))

    assert "the target does not depend on layer 'relu(last)'" in refusal(Before, layer="relu(last)")


@pytest.mark.parametrize("inplace", [False, True])
def test_functional_rectifier_inside_a_no_grad_block_has_its_gradient(inplace):
    e = saywhy.explain(networks.FunctionalBackbone(inplace=inplace).eval(), image(), 1, relu=False)
    assert e.layers == ("relu(last)",)
    live = networks.Functional(cut=lambda x: x).eval()
    expected = saywhy.explain(live, image(), 1, relu=False, layer="relu(last)")
    assert expected.maps.any()
    torch.testing.assert_close(e.maps, expected.maps, rtol=0, atol=0)


@pytest.mark.parametrize("make", [networks.Detached, networks.Inference])
def test_score_without_gradient_is_explained_within_the_memory_budget(make, monkeypatch):
    whole = saywhy.explain(make().eval(), image(), 1, "eigencam").maps
    sizes = []

    def run_part(runner, batch, start, stop):
        sizes.append(stop - start)
        return whole_part(runner, batch, start, stop)

    whole_part = chunks._run_part
    monkeypatch.setattr(chunks, "_run_part", run_part)
    monkeypatch.setattr(chunks, "budget", lambda device: 1000)
    parts = saywhy.explain(make().eval(), image(), 1, "eigencam").maps
    assert sizes == [1, 1]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("kind", [list, tuple, dict, networks.Levels])
def test_other_tensor_of_an_encoder_is_named_with_its_module(kind):
    message = refusal(lambda: networks.OnEncoder(kind), layer="encoder")
    assert "returns several tensors, of which the first is recorded" in message
    assert "Choose layer 'encoder.coarse'" in message
    assert "does not depend" not in message
    e = saywhy.explain(networks.OnEncoder(kind).eval(), image(), 1)
    assert e.layers == ("encoder.coarse",)
    assert "eigencam" not in named(message)  # of the tensor that no score depends on


def test_independent_target_is_still_called_independent():
    class Beside(networks.Plain):
        def __init__(self) -> None:
            super().__init__()
            self.beside = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            self.beside(x)
            return super().forward(x)

    message = refusal(Beside, layer="beside")
    assert "the target does not depend on layer 'beside'" in message
    assert named(message) == ["occlusion", "rise", "lime", "kernelshap"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [networks.Detached, networks.Inference, networks.Checkpointed, networks.CheckpointedHead, networks.int8]
)
def test_named_methods_work_on_the_network(make):
    names = named(refusal(make))
    assert {"occlusion", "rise", "eigencam", "scorecam", "ablationcam", "reciprocam"} <= set(names)
    for name in names:
        e = saywhy.explain(make().eval(), image(), 1, name, **FEW.get(name, {}))
        assert e.maps.any(), name
        assert e.layers[0] in ("input", "features")


def test_attention_methods_are_named_where_the_network_has_attention():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.patch, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5)
            self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)

        def forward(self, x):
            return self.head(self.block(self.patch(x).flatten(2).mT).mean(1).detach())

    names = named(refusal(Tokens, method="generic-attention"))
    assert "attention-rollout" in names
    assert saywhy.explain(Tokens().eval(), image(), 1, "attention-rollout").maps.any()
    assert "attention-rollout" not in named(refusal(networks.Detached))


@pytest.mark.parametrize("make", [networks.FrozenBackbone, networks.Frozen])
def test_layer_inside_a_no_grad_block_is_found_and_has_its_gradient(make):
    model, x = make().eval(), image()
    e = saywhy.explain(model, x, 1, relu=False)
    assert e.layers == ("features",)
    plain = networks.Plain().eval()
    plain.load_state_dict(model.state_dict())
    expected = saywhy.explain(plain, x * 2 - 1 if make is networks.Frozen else x, 1, relu=False, layer="features")
    torch.testing.assert_close(e.maps, expected.maps)


def test_layer_behind_a_frozen_backbone_is_preferred():
    e = saywhy.explain(networks.TrainedNeck().eval(), image(), 1, ["gradcam", "eigencam", "scorecam"])
    assert e.layers == ("neck",)


def test_branches_behind_a_frozen_backbone_are_explained_at_the_layer_before_both():
    e = saywhy.explain(networks.Necks().eval(), image(), 1, relu=False)
    live = networks.Necks().eval()
    live.forward = lambda x: live.both(live.features(x))
    expected = saywhy.explain(live, image(), 1, relu=False)
    assert e.layers == expected.layers == ("features",)
    torch.testing.assert_close(e.maps, expected.maps)


def test_every_layer_within_a_no_grad_block_gets_its_gradient():
    model = networks.TrainedNeck().eval()
    both = saywhy.explain(model, image(), 1, layer=["features", "neck"], relu=False)
    alone = saywhy.explain(model, image(), 1, layer="features", relu=False)
    assert alone.maps.any()
    torch.testing.assert_close(both["gradcam", "features"], alone.maps)


def test_layer_without_influence_is_not_found_where_no_gradient_tells():
    model, x = networks.UnusedBranch().eval(), image()
    assert saywhy.explain(model, x, 1, "eigencam").layers == ("features",)
    assert saywhy.explain(model, x, 1, "ablationcam").maps.any()


@pytest.mark.slow
@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
def test_patches_that_reach_no_class_token_are_not_taken_without_a_gradient(block):
    model = SmallViT()
    expected = saywhy.explain(model, image64(), 1, "eigencam")

    class Blocked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x):
            with block():
                return self.inner(x)

    e = saywhy.explain(Blocked().eval(), image64(), 1, "eigencam")
    assert e.layers == (f"inner.{expected.layers[0]}",) == ("inner.blocks.1.norm1",)


@pytest.mark.parametrize("method", ["eigencam", "scorecam", "reciprocam", "ablationcam"])
def test_methods_without_a_gradient_work_behind_a_backbone_in_inference_mode(method):
    class Frozen(nn.Module):
        def __init__(self, block) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.features, self.head = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), nn.Linear(8, 3)
            self.block = block

        def forward(self, x):
            with self.block():
                maps = self.features(x)
            return self.head(maps.clone().mean((2, 3)))

    plain, frozen = (Frozen(block).eval() for block in (nullcontext, torch.inference_mode))
    torch.testing.assert_close(
        saywhy.explain(frozen, image(), 1, method).maps, saywhy.explain(plain, image(), 1, method).maps
    )


def test_gradient_methods_are_refused_with_others_in_one_request():
    with pytest.raises(GradientError, match="cuts the gradient off"):
        saywhy.explain(networks.Detached().eval(), image(), 1, ["eigencam", "gradcam"])


def test_score_without_gradient_gives_the_same_map_of_activations():
    x = image()
    plain, cut = networks.Plain().eval(), networks.Detached().eval()
    for name in ("eigencam", "scorecam", "reciprocam"):
        torch.testing.assert_close(
            saywhy.explain(cut, x, [0, 1], name).maps, saywhy.explain(plain, x, [0, 1], name, layer="features").maps
        )


def test_detaching_target_is_named_with_its_line():
    with pytest.raises(GradientError, match=r"Tensor\.detach\(\) cuts the gradient off \(line \d+ of test_refusals"):
        saywhy.explain(networks.Plain().eval(), image(), lambda out: out[:, 0].detach())


def test_scripted_models_are_named_only_where_there_are_some():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.w, self.v = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8, 5))

        def forward(self, x):
            return nn.functional.conv2d(x, self.w).relu().mean((2, 3)) @ self.v

    message = refusal(Functional, error=LayoutError)
    assert "scripted" not in message
    assert {"saliency", "occlusion"} <= set(named(message))
    traced = torch.jit.trace(networks.Plain().eval(), image())
    with pytest.raises(LayoutError, match="scripted or traced model hides its layers") as raised:
        saywhy.explain(traced, image(), 1)
    for name in named(str(raised.value)):
        assert saywhy.explain(traced, image(), 1, name, **FEW.get(name, {})).maps.any()
    with pytest.raises(SaywhyError) as refused:
        saywhy.explain(networks.Plain().eval(), image(), 1, "attention-rollout")
    assert "scripted" not in str(refused.value)


def test_exported_models_are_named_and_what_works_on_one_sample():
    x = image()[:1]
    exported = torch.export.export(networks.Plain().eval(), (x,)).module()
    with pytest.raises(LayoutError, match="exported model has functions in place of its layers") as raised:
        saywhy.explain(exported, x, 1)
    found = named(str(raised.value))
    assert "saliency" in found
    for name in found:  # this program takes one sample, so that no method that alters copies of it is among them
        assert saywhy.explain(exported, x, 1, name).maps.any()


def test_refusal_leaves_the_network_and_the_random_state_as_they_were():
    model = networks.Detached()
    model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(GradientError):
        saywhy.explain(model, image(), 1)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_depends_follows_changes_not_gradients():
    from saywhy.engine.capture import Watched
    from saywhy.engine.layout import Layout

    model = networks.UnusedBranch().eval()

    def of(name: str) -> bool | None:
        layer = Watched(name, model.get_submodule(name), Layout("channels-first", (8, 8)))
        return depends(model, image(), [layer], lambda out: out[:, :1])

    assert of("features") is True
    assert of("beside") is False


class Uncopied(nn.Parameter):
    """A parameter that cannot be copied."""

    def __deepcopy__(self, memo):
        raise NotImplementedError("no clone")


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_parameter_that_cannot_be_copied_gives_no_raw_traceback(precision):
    model = networks.Plain().eval()
    model.fc.weight = Uncopied(model.fc.weight.detach())
    assert saywhy.explain(model, image(), 1, precision=precision).maps.any()
    pytest.importorskip("zennit")
    with pytest.raises(ModelError, match=r"cannot be copied, so lrp .*\(no clone\)"):
        saywhy.explain(model, image(), 1, "lrp", precision=precision)


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
@pytest.mark.parametrize(
    "layer", [-1, 2.5, True, b"features", [1], [["features"]], {"a": 1}, object(), "", nn.Conv2d, torch.zeros(1),
              range(2), "features#x", "features#--1", "features#²", nn.Linear(1, 1)]
)  # fmt: skip
def test_layer_of_a_wrong_kind_is_a_layer_error(layer, method):
    with pytest.raises(LayerError, match=r"layer|module|call"):
        saywhy.explain(networks.Plain().eval(), image(), 1, method, layer=layer)


def test_needs_gradients_is_false_for_perturbation_and_activations_only():
    free = {m.name for m in all_methods() if not m.needs_gradients}
    assert free >= {"occlusion", "rise", "eigencam", "scorecam", "ablationcam", "reciprocam", "attention-rollout"}
    assert not free & {"gradcam", "saliency", "integrated-gradients", "conductance", "shapleycam", "lrp", "fullgrad"}


class Crops(nn.Module):
    """Four crops of an image as a batch, whose scores are averaged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, x):
        half = x.shape[-1] // 2
        crops = torch.stack([x[..., a : a + half, b : b + half] for a in (0, half) for b in (0, half)], 1)
        return self.head(self.features(crops.flatten(0, 1)).mean((2, 3))).unflatten(0, (len(x), 4)).mean(1)


def test_network_of_several_crops_is_refused_with_their_number():
    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(LayoutError, match=r"'features' gives 4×4×8×8 for one image: the network runs 4 crops"):
        saywhy.explain(Crops(), x, 0)
    assert saywhy.explain(Crops(), x, 0, "integrated-gradients").maps.shape == (2, 1, 16, 16)
