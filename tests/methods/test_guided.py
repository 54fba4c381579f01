"""What altered backward rules must mean: on networks whose answer is known, and on any spelling of the same network."""

import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import saywhy
from saywhy.errors import GradientError, InputError, LayerError, MethodError, MissingExtra
from saywhy.methods import METHODS

LAYOUT = saywhy.Layout("channels-first", (6, 6))

RULED = ("guided-backprop", "deconvnet", "guided-gradcam", "deconv-gradcam")
EXCITED = ("excitation-backprop", "contrastive-excitation-backprop")


class Spelled(nn.Module):
    """The same network, with its rectifiers and layers spelled as modules or as functions."""

    def __init__(self, rectify: Callable[[Tensor], Tensor], norm: bool = True, residual: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.stem = nn.Conv2d(3, 4, 3, padding=1, stride=2)
            self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
            self.features = nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Conv2d(4, 4, 3, padding=1)
            self.fc = nn.Linear(4, 3)
            if norm:
                nn.init.normal_(self.norm.weight)  # of both signs
                nn.init.normal_(self.norm.running_mean)
        self.rectify, self.residual = rectify, residual
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.stem(x))
        x = self.rectify(self.features(x))
        x = self.rectify(self.norm(self.head(x)) + x if self.residual else self.norm(self.head(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


SPELLINGS = {
    "F.relu": F.relu,
    "in place": lambda x: F.relu(x, inplace=True),
    "Tensor.relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0),
}


def maps(network: nn.Module, image: Tensor, method: str, **settings: object) -> Tensor:
    settings = {"target": [0, 2], "layout": LAYOUT, "layer": "features", **settings}
    return saywhy.explain(network, image, method=method, **settings).maps


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RULED, *EXCITED, "fullgrad"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_functional_and_module_forms_of_a_network_give_equal_maps(name, spelling, images):
    wanted = maps(Spelled(nn.ReLU()), images(2), name)
    assert wanted.any()
    torch.testing.assert_close(maps(Spelled(SPELLINGS[spelling]), images(2), name), wanted)


@pytest.mark.parametrize("name", RULED)
def test_network_without_rectifiers_raises(name, images):
    with pytest.raises(MethodError, match="this network calls none that autograd knows"):
        maps(Spelled(torch.tanh), images(1), name)


@pytest.mark.parametrize("name", [*RULED, *EXCITED])
def test_scripted_relus_are_handled_or_raise(name, images):
    network = Spelled(nn.ReLU())
    wanted = maps(network, images(2), name)
    scripted = Spelled(nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted.head = torch.jit.script(nn.Sequential(scripted.head, nn.Identity()))
        scripted.rectify = torch.jit.script(nn.ReLU())
    if name in RULED:
        torch.testing.assert_close(maps(scripted, images(2), name), wanted)
    else:
        with pytest.raises(MethodError, match="cannot see the call of"):
            maps(scripted, images(2), name)


@pytest.mark.parametrize("name", [*RULED, "fullgrad", "gradcam"])
def test_checkpointed_blocks_equal_plain_ones(name, images):
    network = Spelled(nn.ReLU())
    wanted = maps(network, images(2), name)
    network.head = Checkpointed(network.head, use_reentrant=False)
    network.rectify = Checkpointed(network.rectify, use_reentrant=False)
    torch.testing.assert_close(maps(network, images(2), name), wanted)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("name", "reentrant"), [*((n, True) for n in RULED), *((n, False) for n in EXCITED)])
def test_checkpointed_blocks_that_cannot_be_traced_raise(name, reentrant, images):
    network = Spelled(nn.ReLU())
    network.head = Checkpointed(network.head, use_reentrant=reentrant)
    with pytest.raises(GradientError, match="activation checkpointing"):
        maps(network, images(2), name)


class Checkpointed(nn.Module):
    """A block that is run again in the backward pass, to save memory."""

    def __init__(self, inner: nn.Module, use_reentrant: bool) -> None:
        super().__init__()
        self.inner, self.use_reentrant = inner, use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


def test_diagnostics_count_the_rectifiers_under_the_rule(images):
    e = saywhy.explain(Spelled(lambda x: x * (x > 0)), images(1), 0, "saliency", layer="features", layout=LAYOUT)
    assert not [fact for fact in e.diagnostics["saliency", "input"][0][0] if fact.name == "rule"]
    rectifiers = iter([F.relu, F.relu, lambda x: x * (x > 0)] * 9)
    network = Spelled(lambda x: next(rectifiers)(x))
    e = saywhy.explain(network, images(1), 0, "guided-backprop", layer="features", layout=LAYOUT)
    (fact,) = [fact for fact in e.diagnostics["guided-backprop", "input"][0][0] if fact.name == "rule"]
    assert (fact.state, fact.text) == (
        "warning",
        "applies to 2 ReLU, but not to 1 mask, which may rectify too: torch cannot tell",
    )


def test_guided_and_deconvnet_equal_gradient_of_a_positive_network(images):
    network = Spelled(nn.ReLU(), norm=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    image = images(1).abs()
    wanted = maps(network, image, "saliency", channels="sum")
    for name in ("guided-backprop", "deconvnet"):
        torch.testing.assert_close(maps(network, image, name), wanted)


@pytest.mark.slow
def test_many_targets_equal_single_runs(images):
    """More than a few are differentiated as one batch."""
    network = Spelled(nn.ReLU())
    network.fc = nn.Linear(4, 9)
    nn.init.uniform_(network.fc.weight, 0.1, 1)  # nothing but negative weights would leave a map of zeros
    for name in (*RULED, *EXCITED, "fullgrad"):
        unrectified = {"relu": False} if "relu" in METHODS[name].parameters else {}
        together = maps(network, images(2), name, target=list(range(9)), **unrectified)
        alone = [maps(network, images(2), name, target=[t], **unrectified) for t in range(9)]
        torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_guided_gradcam_is_the_product_of_its_factors(images):
    network, image = Spelled(nn.ReLU()), images(2)
    product = maps(network, image, "guided-gradcam")
    guided, coarse = maps(network, image, "guided-backprop"), maps(network, image, "gradcam")
    wanted = guided * F.interpolate(coarse, size=(12, 12), mode="bilinear")
    torch.testing.assert_close(product, wanted)


def test_guided_gradcam_at_a_layer_has_the_grid_of_the_image(images):
    found = saywhy.explain(Spelled(nn.ReLU()), images(1), 0, ["gradcam", "guided-gradcam"], "features", layout=LAYOUT)
    assert found["gradcam"].shape == (1, 1, 6, 6)
    assert found["guided-gradcam"].shape == (1, 1, 12, 12)
    assert found.heatmap(method="guided-gradcam").shape[-2:] == found.heatmap(method="gradcam").shape[-2:]
    assert found.overlay(method="guided-gradcam").size
    peak = found.peak(method="guided-gradcam")
    assert peak is not None
    flat = int(found["guided-gradcam"].flatten().argmax())
    assert (int(peak[1]), int(peak[0])) == divmod(flat, 12)


class TestExcitation:
    def test_map_is_nonnegative_and_sums_to_at_most_one(self, images):
        found = maps(Spelled(nn.ReLU()), images(8), "excitation-backprop")
        assert bool((found >= 0).all())
        assert float(found.sum((2, 3)).max()) <= 1 + 1e-5

    def test_map_of_a_positive_network_sums_to_one(self, images):
        network = Spelled(nn.ReLU(), norm=False)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.abs_()
        found = maps(network, images(3).abs(), "excitation-backprop")
        torch.testing.assert_close(found.sum((2, 3)), torch.ones(3, 2))

    def test_scale_of_the_head_does_not_matter(self, images):
        network = Spelled(nn.ReLU())
        before = [maps(network, images(2), name) for name in EXCITED]
        network.fc.weight.data *= 1e-6
        for name, wanted in zip(EXCITED, before, strict=True):
            torch.testing.assert_close(maps(network, images(2), name), wanted)

    def test_batch_norm_equals_its_folded_form(self, images):
        """Folded into the convolution by torch, it must not change the map."""
        apart, folded = Spelled(nn.ReLU()), Spelled(nn.ReLU())
        folded.head = nn.utils.fusion.fuse_conv_bn_eval(folded.head, folded.norm)
        folded.norm = nn.Identity()
        for name in EXCITED:
            found, wanted = (maps(network, images(2), name) for network in (apart, folded))
            assert wanted.any()
            torch.testing.assert_close(found, wanted)

    def test_contrast_equals_difference_for_opposite_classes(self, images):
        network = Spelled(nn.ReLU())
        with torch.no_grad():
            network.fc.weight[1] = -network.fc.weight[0]
        both = maps(network, images(2), "excitation-backprop", target=[0, 1])
        contrast = maps(network, images(2), "contrastive-excitation-backprop", target=[0, 1], relu=False)
        torch.testing.assert_close(contrast[:, 0], both[:, 0] - both[:, 1])
        torch.testing.assert_close(contrast[:, 1], -contrast[:, 0])

    @pytest.mark.parametrize("name", EXCITED)
    @pytest.mark.parametrize(("rectify", "called"), [(F.gelu, "gelu"), (F.silu, "silu"), (torch.tanh, "tanh")])
    def test_activation_with_negative_values_raises(self, name, rectify, called, images):
        with pytest.raises(MethodError, match=f"no rule for '{called}'.*another method"):
            maps(Spelled(rectify), images(1), name)


class TestFullGrad:
    def test_terms_of_a_relu_network_sum_to_the_score(self, images):
        network = Spelled(nn.ReLU()).double()
        found = saywhy.explain(network, images(4, dtype=torch.float64), [0, 1, 2], "fullgrad")
        assert float(found.completeness_error.abs().max()) < 1e-10

    def test_terms_of_a_gelu_network_do_not_sum_to_the_score(self, images):
        found = saywhy.explain(Spelled(F.gelu), images(1), 0, "fullgrad")
        assert float(found.completeness_error.abs().min()) > 1e-3

    def test_without_biases_equals_input_times_gradient(self, images):
        network = Spelled(nn.ReLU(), norm=False)
        for part in (network.stem, network.features, network.head, network.fc):
            part.bias = None
        found = maps(network, images(2), "fullgrad", rescale="none")
        torch.testing.assert_close(found, maps(network, images(2), "input-times-gradient", channels="abs"))

    def test_invalid_rescale_raises(self, images):
        with pytest.raises(MethodError, match="rescale must be layer, channel or none, got 'all'"):
            maps(Spelled(nn.ReLU()), images(1), "fullgrad", rescale="all")


class TestLRP:
    def test_missing_zennit_error_names_the_pip_extra(self, images, monkeypatch):
        monkeypatch.setitem(sys.modules, "zennit.composites", None)
        with pytest.raises(MissingExtra, match=r"lrp needs zennit .* pip install 'saywhy\[lrp\]'"):
            maps(Spelled(nn.ReLU()), images(1), "lrp")

    def test_without_biases_relevance_sums_to_the_score(self, images):
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3, bias=False),
        ).double()
        found = saywhy.explain(network, images(2, dtype=torch.float64), [0, 1, 2], "lrp", epsilon=0.0)
        assert float(found.completeness_error.abs().max()) < 1e-4  # zennit's stabilizer of convolutions

    def test_batch_norm_running_out_of_definition_order_raises(self, images):
        class Swapped(Spelled):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(self.norm(x.mean(1, keepdim=True).expand(-1, 4, -1, -1))[:, :3])

        with pytest.raises(MethodError, match="the merged network gives other scores"):
            maps(Swapped(nn.ReLU()), images(1), "lrp", layer=None)

    def test_batch_norm_that_does_not_fit_the_layer_before_raises(self, images):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        network.unused = nn.BatchNorm1d(3)
        network.forward = lambda x: nn.Sequential(*list(network)[:5])(x)
        with pytest.raises(MethodError, match="they do not fit"):
            maps(network.eval(), images(1), "lrp", target=0, layer=None)

    def test_layer_with_weights_but_no_rule_raises(self, images):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(MethodError, match=r"lrp has no rule for '1' \(GroupNorm\), which has weights"):
            maps(network, images(1), "lrp", layer=None)


def test_unknown_layer_raises_for_input_methods_too(images):
    network = Spelled(nn.ReLU())
    assert saywhy.explain(network, images(1), 0, "saliency", layer="features").layers == ("input",)
    assert saywhy.explain(network, images(1), 0, "saliency", layer="input").layers == ("input",)
    with pytest.raises(LayerError, match="has no layer 'featurs'"):
        saywhy.explain(network, images(1), 0, "saliency", layer=["features", "featurs"])


def test_fusing_input_methods_raises(images):
    with pytest.raises(InputError, match="saliency is of the image itself"):
        saywhy.explain(Spelled(nn.ReLU()), images(1), 0, ["saliency", "smoothgrad"], fuse="mean")
