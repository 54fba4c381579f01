"""The layer is found by what the network does: the deepest that is a map, provably, and has a gradient."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import saywhy
from placed_networks import Placed, SmallViT, image, search
from saywhy.engine.layers import ALIVE, find_layer, find_layers
from saywhy.engine.layout import Layout
from saywhy.engine.named_layer import named_layer
from saywhy.engine.trace import LayerProbe, LayerSearch
from saywhy.errors import LayerError, LayoutError, SaywhyWarning


def convolutions(*tail: nn.Module, channels: int = 8) -> nn.Sequential:
    """Two convolutions with strides, "0" to "3", and what comes behind them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        *tail,
    )


def pooled_head(channels: int = 8) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


class TestWhichLayer:
    def test_pooling_network_gives_the_last_feature_map(self):
        found = find_layer(search(convolutions(*pooled_head()), image(32, 32)))
        assert (found.name, str(found.proof.layout), found.alive) == ("3", "channels-first 8×8", 1.0)

    def test_final_max_pooling_gives_the_layer_before_it(self):
        model = convolutions(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 5))
        found = find_layer(search(model, image(32, 32)))
        assert (found.name, found.proof.layout.grid) == ("3", (8, 8))

    def test_block_that_ends_in_pooling_gives_the_layer_inside(self):
        model = nn.Sequential(nn.Sequential(*convolutions(nn.MaxPool2d(2))), nn.Flatten(), nn.Linear(8 * 16, 5))
        assert find_layer(search(model, image(32, 32))).name == "0.3"

    def test_one_row_of_two_cells_is_not_preferred_to_a_map(self):
        model = convolutions(nn.Conv2d(8, 8, 8, stride=8), nn.ReLU(), *pooled_head())
        found = find_layer(search(model, image(32, 64)))
        assert (found.name, found.proof.layout.grid) == ("3", (8, 16))

    def test_fully_convolutional_head_gives_the_features_before_it(self):
        model = convolutions(nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        found = find_layer(search(model, image(32, 32)))
        assert found.name == "3"
        roles = {c.name: c.role for c in find_layers(search(model, image(32, 32)))}
        assert roles["4"] == "scores"

    @pytest.mark.slow
    @pytest.mark.parametrize("registers", [0, 1, 4])
    @pytest.mark.parametrize("last", [False, True])
    def test_class_token_head_gives_the_layer_before_the_last_attention(self, registers, last):
        model = SmallViT(registers=registers, last=last)
        found = find_layer(search(model, image(64, 64)))
        assert found.name == "blocks.1.norm1"
        extra = {"suffix": 1 + registers} if last else {"prefix": 1 + registers}
        assert found.proof.layout == Layout("tokens", (8, 8), **extra)
        alive = {c.name: c.alive for c in find_layers(search(model, image(64, 64)))}
        assert alive["blocks"] < ALIVE < alive["blocks.0"]  # "blocks" gives what its last block gives

    def test_mean_token_head_gives_the_last_layer(self):
        model = SmallViT(class_token=False)
        found = find_layer(search(model, image(64, 96)))
        assert (found.name, found.proof.layout) == ("norm", Layout("tokens", (8, 12)))

    def test_same_tensor_gives_the_outermost_name(self):
        model = nn.Sequential(nn.Sequential(convolutions()), *pooled_head())
        assert find_layer(search(model, image(32, 32))).name == "0"

    def test_pooler_inside_a_module_bypasses_its_output(self):
        class WithPooler(nn.Module):
            """Gives its features and their mean, as the models of transformers do."""

            def __init__(self) -> None:
                super().__init__()
                self.encoder = convolutions()

            def forward(self, x: Tensor) -> dict[str, Tensor]:
                features = self.encoder(x)
                return {"last_hidden_state": features, "pooler_output": features.mean((2, 3))}

        class Classifier(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.base, self.head = WithPooler(), nn.Linear(8, 5)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.base(x)["pooler_output"])

        model = Classifier()
        alive = {c.name: c.alive for c in find_layers(search(model, image(32, 32)))}
        assert alive["base"] == 0  # a hook there sees what nobody reads
        assert find_layer(search(model, image(32, 32))).name == "base.encoder"

    def test_pooled_keys_and_values_are_not_preferred_to_tokens(self):
        class Pooled(nn.Module):
            """Attention of a class token to keys and values that are pooled by convolution."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.patch, self.norm = nn.Conv2d(3, 16, 8, 8), nn.LayerNorm(16)
                self.keys, self.values = nn.Conv2d(16, 16, 2, 2), nn.Conv2d(16, 16, 2, 2)
                self.token, self.after, self.head = (
                    nn.Parameter(torch.randn(1, 1, 16)),
                    nn.LayerNorm(16),
                    nn.Linear(16, 5),
                )

            def forward(self, x: Tensor) -> Tensor:
                patches = self.patch(x)
                x = self.norm(torch.cat([self.token.expand(len(x), -1, -1), patches.flatten(2).mT], 1))
                inner = x[:, 1:].mT.unflatten(2, patches.shape[2:])
                keys, values = self.keys(inner).flatten(2).mT, self.values(inner).flatten(2).mT
                return self.head(self.after(x + (x @ keys.mT).softmax(-1) @ values)[:, 0])

        found = find_layer(search(Pooled(), image(64, 64)))
        assert (found.name, found.proof.layout) == ("norm", Layout("tokens", (8, 8), prefix=1))

    def test_zero_initialised_head_still_finds_the_layer(self):
        model = convolutions(*pooled_head())
        nn.init.zeros_(model[-1].weight)
        found = find_layer(search(model, image(32, 32)))
        assert (found.name, found.alive) == ("3", 1.0)
        assert not model[-1].weight.any()

    def test_layer_that_runs_twice_is_named_by_call(self):
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.stem, self.tied = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
                self.head = nn.Linear(8, 5)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.tied(self.tied(self.stem(x)).relu()).relu().mean((2, 3)))

        found = find_layer(search(Tied(), image(32, 32)))
        assert (found.name, found.call, found.calls) == ("relu(tied)", 1, 2)
        assert [c.name for c in find_layers(search(Tied(), image(32, 32)))] == [
            *("stem", "tied#0", "relu(tied#0)", "tied", "relu(tied)"),
        ]
        assert named_layer(search(Tied(), image(32, 32)), "tied#0").call == 0


class TestModelState:
    def test_frozen_model_is_searched_and_stays_frozen(self):
        model = convolutions(*pooled_head()).requires_grad_(False)
        assert find_layer(search(model, image(32, 32))).name == "3"
        assert not any(p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_search_works_with_gradients_disabled(self, mode):
        model = convolutions(*pooled_head())
        with mode():
            assert find_layer(search(model, image(32, 32))).name == "3"

    def test_training_model_is_searched_and_restored(self):
        model = convolutions(nn.BatchNorm2d(8), nn.Dropout(0.9), *pooled_head()).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert find_layer(search(model, image(32, 32))).name == "4"
        assert all(module.training for module in model.modules())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())

    def test_hooks_and_random_state_are_restored(self):
        model = convolutions(nn.Dropout(0.5), *pooled_head())
        state = torch.get_rng_state()
        find_layer(search(model, image(32, 32)))
        assert not any(module._forward_hooks for module in model.modules())
        assert torch.equal(torch.get_rng_state(), state)

    def test_search_result_is_cached_per_input_shape(self):
        model = convolutions(*pooled_head())
        runs: list[int] = []
        model.register_forward_pre_hook(lambda _m, args: runs.append(len(args[0])))
        find_layer(search(model, image(32, 32)))
        assert sum(runs) == 1 + 9
        find_layer(search(model, image(32, 32).repeat(3, 1, 1, 1)))
        assert sum(runs) == 1 + 9
        assert find_layer(search(model, image(64, 32))).proof.layout.grid == (16, 8)


class TestSpaceOfOneAndThreeAxes:
    def test_layer_of_a_signal_network_is_found(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv1d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5)
        )
        found = find_layer(search(model, image(64)))
        assert (found.name, found.proof.layout) == ("1", Layout("channels-first", (16,)))

    def test_layer_of_a_volume_network_is_found(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv3d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)
        )
        found = find_layer(search(model, image(12, 16, 12)))
        assert (found.name, found.proof.layout) == ("1", Layout("channels-first", (6, 8, 6)))


class TestRefusals:
    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
    def test_traced_network_raises(self):
        x = image(32, 32)
        traced = torch.jit.trace(convolutions(*pooled_head()).eval(), x)
        with pytest.raises(LayoutError, match="scripted or traced model hides its layers: give the original"):
            saywhy.explain(traced, x)

    def test_network_without_feature_maps_raises(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 8), nn.ReLU(), nn.Linear(8, 5))
        with pytest.raises(LayoutError, match="no layer gives a map of the image"):
            find_layer(search(model, image(4, 4)))

    @pytest.mark.parametrize("layout", [Layout("tokens", (8, 8)), Layout("tokens", (8, 8), prefix=1)], ids=str)
    def test_shuffled_tokens_raise(self, layout):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
        model = Placed(layout, order=lambda maps: maps.flatten(2)[..., order].unflatten(2, (8, 8)))
        with pytest.raises(LayoutError, match="no layer could be proved") as raised:
            find_layer(search(model, image(32, 32)))
        assert f"laid  1×{64 + layout.prefix}×6" in str(raised.value)
        assert "not proved" in str(raised.value)

    def test_named_layer_with_shuffled_tokens_raises(self):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
        model = Placed(Layout("tokens", (8, 8)), order=lambda maps: maps.flatten(2)[..., order].unflatten(2, (8, 8)))
        with pytest.raises(LayoutError, match="no reading of it as a map follows changes"):
            named_layer(search(model, image(32, 32)), "laid")

    def test_given_layout_is_used_without_proof(self):
        layout = Layout("tokens", (8, 8), prefix=1)
        found = named_layer(search(Placed(layout), image(32, 32)), "laid", layout)
        assert found.proof.layout == layout
        assert not found.proof.holds

    @pytest.mark.parametrize(
        ("layer", "says"),
        [
            ("5", "no layer '5'"),
            ("3#7", "ran 1 times; there is no call 7"),
            ("3#x", "expected the number of the call after '#', counted from 0, got 'x'"),
            ("6", "1×5, which is not a map of an image of 32×32"),
            (7, "a dotted name or a module of the model, got int"),
            (nn.ReLU(), "the given ReLU is not a module of the model"),
        ],
    )
    def test_unsuitable_named_layer_raises(self, layer, says):
        model = convolutions(*pooled_head())
        if layer == "5":
            model = convolutions()
        with pytest.raises(LayerError, match=says):
            named_layer(search(model, image(32, 32)), layer)

    def test_layer_that_does_not_run_raises(self):
        model = convolutions(*pooled_head())
        model[3].unused = nn.Conv2d(3, 3, 1)
        with pytest.raises(LayerError, match="did not run on this input"):
            named_layer(search(model, image(32, 32)), "3.unused")

    def test_dead_network_is_accepted_only_with_an_unambiguous_shape(self):
        model = convolutions(*pooled_head())
        nn.init.constant_(model[0].bias, -1e6)
        found = find_layer(LayerSearch(model, image(32, 32), LayerProbe(lambda out: out[:, :1])))
        assert found.proof is not None
        assert found.proof.holds or found.proof.undecided
        assert found.proof.layout.kind == "channels-first"


class TwoHeads(nn.Module):
    """Each head has its own branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x):
        return {"a": self.a(x).relu().mean((2, 3)), "b": self.b(x).relu().mean((2, 3))}


def test_layer_cache_is_per_probe():
    torch.manual_seed(0)
    model, x = TwoHeads(), torch.randn(1, 3, 16, 16)
    found = [saywhy.explain(model, x, output=o, relu=False).layers for o in ("a", "b", "a")]
    assert found == [("relu(a)",), ("relu(b)",), ("relu(a)",)]

    def on(name):
        return lambda out: out[name][:, 0]

    found = [saywhy.explain(model, x, on(n), relu=False).layers for n in ("a", "b", "a")]
    assert found == [("relu(a)",), ("relu(b)",), ("relu(a)",)]


def test_equal_lambda_in_a_loop_hits_the_layer_cache():
    torch.manual_seed(0)
    model, x = TwoHeads(), torch.randn(1, 3, 16, 16)
    runs = []
    model.a.register_forward_hook(lambda *_: runs.append(1))
    counts = []
    for _ in range(3):
        runs.clear()
        saywhy.explain(model, x, lambda out: out["a"][:, 0], relu=False)
        counts.append(len(runs))
    assert counts[0] > counts[1] == counts[2] == 1


def test_replaced_modules_invalidate_the_layer_cache():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    x = torch.randn(1, 3, 16, 16)
    assert saywhy.explain(model, x, relu=False).layers == ("1",)
    model[1] = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GELU())
    assert saywhy.explain(model, x, relu=False).maps.shape == (1, 1, 16, 16)
    assert saywhy.explain(model, x, layer="1.0", relu=False).layers == ("1.0",)


class TestScripted:
    """Scripted modules take no hooks: they are skipped, and the rest of the network can be explained."""

    @staticmethod
    def part() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            network = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()).eval()
            return torch.jit.script(network)

    def test_layer_before_a_scripted_part_is_found(self):
        torch.manual_seed(0)
        stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        network = nn.Sequential(stem, self.part(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
        e = saywhy.explain(network, torch.rand(1, 3, 16, 16), 0, ["gradcam", "guided-backprop"], relu=False)
        assert e.layers[0] == "0"
        assert e["gradcam"].any()
        with pytest.raises(LayerError, match="layer '1' is scripted"):
            saywhy.explain(network, torch.rand(1, 3, 16, 16), 0, layer="1")

    def test_fully_scripted_network_supports_input_methods_only(self):
        network = nn.Sequential(nn.Conv2d(3, 6, 3), self.part(), nn.Flatten(), nn.Linear(6 * 14 * 14, 3)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            whole = torch.jit.script(network)
        with pytest.raises(LayoutError, match="A scripted or traced model hides its layers: give the original"):
            saywhy.explain(whole, torch.rand(1, 3, 16, 16), 0)
        assert saywhy.explain(whole, torch.rand(1, 3, 16, 16), 0, "saliency").maps.any()


def test_layer_that_does_not_depend_on_the_image_is_no_unambiguous_layer():
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.positions = nn.Parameter(torch.randn(1, 4, 8, 8)), nn.Identity()
            self.encode, self.patch = nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 8, 8)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            positions = self.encode(self.table)
            return self.head((positions * (self.patch(x).relu() - 1e9).relu()).mean((2, 3)) + positions.mean((2, 3)))

    with pytest.raises(LayoutError):
        named_layer(search(Positions().eval(), image(64, 64)), "encode")


def coarse(seed: int, shuffled: bool = False) -> nn.Module:
    """A network whose last map has 4 x 4 cells that see most of the image; the cells may be out of place."""
    torch.manual_seed(seed)
    last = [nn.Unflatten(2, (4, 4))] if shuffled else []
    order = [Shuffled()] if shuffled else []
    stages = [nn.Conv2d(3 if i == 0 else 12, 12, 7, 2, 3) for i in range(4)]
    return nn.Sequential(
        nn.Sequential(*(part for conv in stages for part in (conv, nn.ReLU())), *order, *last), *pooled_head(12)
    ).eval()


class Shuffled(nn.Module):
    """Cells in another order, [batch, channel, cell]."""

    def forward(self, x: Tensor) -> Tensor:
        order = torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(0))
        return x.flatten(2)[..., order]


def test_named_coarse_map_is_taken_with_a_warning_where_it_is_not_proved():
    network, x = coarse(4), image(64, 64)
    for _ in range(2):  # also from memory
        with pytest.warns(SaywhyWarning, match="layer '0' is read as channels-first 4×4: not proved"):
            assert named_layer(search(network, x), "0").proof.layout == Layout("channels-first", (4, 4))
    with pytest.warns(SaywhyWarning, match="not proved"):
        found = saywhy.explain(network, x, 0, layer="0", relu=False)
    assert "selectivity" in str(found.diagnostics)


def test_named_coarse_map_with_its_cells_out_of_place_is_refused():
    with pytest.raises(LayoutError, match="no reading of it"):
        named_layer(search(coarse(1, shuffled=True), image(64, 64)), "0")


class Saturated(nn.Module):
    """Its only layer responds to no change of the image: the rectifier is closed everywhere."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.act, self.head = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(nn.functional.conv2d(x, self.weight, stride=2) - 1e4).mean((2, 3)))


@pytest.mark.parametrize("layer", [None, "act"])
def test_layer_that_responded_to_too_few_changes_is_warned_of(layer):
    network = Saturated().eval()
    for _ in range(2):  # remembered layers too
        with (
            pytest.warns(SaywhyWarning, match="zero everywhere"),
            pytest.warns(SaywhyWarning, match="layer 'act' is read as .* without a proof: it responded to 0 of 8"),
        ):
            e = saywhy.explain(network, image(32, 32), 0, layer=layer)
    assert e.diagnostics["gradcam", "act"][0][0][0].state == "warning"
