"""The layer found serves the target and the sample that were asked; what passes beside it is fused or told."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import saywhy
from branched_networks import Branched, TwoSequences, bright_and_dark, sides
from placed_networks import SmallViT, image, search
from saywhy.engine.layers import find_group

METHOD = "hirescam"  # its map lies where the gradient is


def explain(model: nn.Module, x: object, target: object = None, **options: object) -> saywhy.Explanation:
    return saywhy.explain(model, x, target, METHOD, relu=False, **options)


class TestHeadsWithABranchEach:
    """Class 0 reads the left half by branch a, class 1 the right half by branch b."""

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_second_class_gets_its_own_branch(self, order):
        model, x = Branched("heads"), bright_and_dark()[:1]
        expected = {0: (("a",), ["left"]), 1: (("b",), ["right"])}
        for target in order:
            e = explain(model, x, target)
            assert (e.layers, sides(e.maps)) == expected[target]

    def test_samples_of_different_top_classes_get_their_own_branch(self):
        model, x = Branched("heads"), bright_and_dark()
        x[0, ..., :8] += 4  # class 0 is the top class of the first image, class 1 of the second
        x[1, ..., 8:] += 4
        alone = [sides(explain(model, x[i : i + 1]).maps) for i in (0, 1)]
        assert alone == [["left"], ["right"]]
        assert sides(explain(model, x).maps) == ["left", "right"]
        assert sides(explain(model, x.flip(0)).maps) == ["right", "left"]

    def test_list_of_targets_gets_a_branch_each(self):
        e = explain(Branched("heads"), bright_and_dark(), [0, 1])
        assert sides(e.maps) == ["left", "right", "left", "right"]
        assert e.layers in (("a + b",), ("b + a",))

    def test_contrasts_in_both_directions_do_not_cancel(self):
        a, b = saywhy.targets.Class(0), saywhy.targets.Class(1)
        e = explain(Branched("heads"), bright_and_dark()[:1], [a - b, b - a])
        assert torch.allclose(e.maps[0, 0], -e.maps[0, 1])
        assert sides(e.maps) == ["both", "both"]

    def test_targets_of_each_sample_get_their_branch(self):
        x = bright_and_dark()
        assert sides(explain(Branched("heads"), x, torch.tensor([1, 0])).maps) == ["right", "left"]

    def test_functions_get_their_branch(self):
        model, x = Branched("heads"), bright_and_dark()[:1]
        found = [sides(explain(model, x, lambda out, k=k: out[:, k]).maps) for k in (0, 1, 0)]
        assert found == [["left"], ["right"], ["left"]]

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["scorecam", "ablationcam", "eigencam", "conductance"])
    def test_methods_of_several_passes_use_the_own_branch(self, method):
        model, x = Branched("heads"), bright_and_dark()[:1]
        both = saywhy.explain(model, x, [0, 1], method).maps
        for target in (0, 1):
            alone = saywhy.explain(model, x, target, method).maps
            assert torch.allclose(both[:, target], alone[:, 0], atol=1e-6)

    def test_explanation_of_two_branches_runs_again(self):
        e = explain(Branched("heads"), bright_and_dark(), [0, 1])
        again = e.explainer.explain()
        assert again.layers == e.layers
        assert torch.equal(again.maps, e.maps)
        assert sides(e.counterfactual.maps) == ["left", "right", "left", "right"]

    def test_capture_gets_the_branch_of_its_target(self):
        model, x = Branched("heads"), bright_and_dark()[:1]
        for target, name in ((0, "a"), (1, "b"), (0, "a")):
            assert list(saywhy.capture(model, x, target).activations) == [name]


class TestRouting:
    """Bright images pass through branch a, dark ones through branch b."""

    @pytest.mark.parametrize("how", ["if", "where", "rows"])
    @pytest.mark.parametrize("first", [0, 1])
    def test_each_image_alone_gets_its_branch(self, how, first):
        model, x = Branched(how), bright_and_dark()
        for i in (first, 1 - first, first):
            e = explain(model, x[i : i + 1])
            assert (e.layers, sides(e.maps)) == ((("a",), ["left"]), (("b",), ["right"]))[i]

    @pytest.mark.parametrize("how", ["where", "rows"])
    @pytest.mark.parametrize("first", [0, 1])
    def test_images_of_one_batch_get_their_branch(self, how, first):
        model, x = Branched(how), bright_and_dark()
        explain(model, x[first : first + 1])
        assert sides(explain(model, x).maps) == ["left", "right"]

    def test_batch_size_does_not_change_the_maps(self):
        model, x = Branched("where"), bright_and_dark()
        assert torch.allclose(explain(model, x).maps, explain(model, x, batch_size=1).maps)

    def test_named_layer_that_does_not_run_for_a_sample_is_refused(self):
        with pytest.raises(saywhy.SaywhyError, match="layer 'a' did not run"):
            explain(Branched("rows"), bright_and_dark(), layer="a")


class TestEnsemble:
    """The score is the sum of both branches."""

    def test_branches_are_fused_where_nothing_is_common(self):
        e = explain(Branched("sum"), bright_and_dark()[:1])
        assert sides(e.maps) == ["both"]
        assert set(e.layers[0].split(" + ")) == {"a", "b"}

    def test_fused_map_is_the_sum_of_the_branches(self):
        model, x = Branched("sum"), bright_and_dark()
        e = explain(model, x)
        both = explain(model, x, layer=["a", "b"])
        assert torch.allclose(e.maps, both[METHOD, "a"] + both[METHOD, "b"])

    def test_layer_before_the_branches_is_preferred(self):
        e = explain(Branched("sum", stem=True), bright_and_dark()[:1])
        assert (e.layers, sides(e.maps)) == (("stem",), ["both"])

    def test_share_is_on_the_diagnostics(self):
        e = explain(Branched("sum", stem=True), bright_and_dark()[:1])
        found = {d.name: d for d in e.diagnostics[METHOD, "stem"][0][0]}
        assert found["share"].text.startswith("100% of the score's gradient")

    def test_skip_connection_round_a_layer_gives_the_layer_before_it(self):
        class Skip(nn.Module):
            """A convolution beside which the score reads its input too."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
                self.conv, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 2)

            def forward(self, x: Tensor) -> Tensor:
                x = self.stem(x)
                return self.head((x + 0.1 * self.conv(x)).mean((2, 3)))

        assert explain(Skip(), bright_and_dark()[:1]).layers == ("stem",)

    def test_part_of_the_score_that_no_layer_sees_is_warned_of(self):
        class Pixels(nn.Module):
            """Features beside a linear function of the pixels."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
                self.head, self.weight = nn.Linear(6, 2), nn.Parameter(torch.randn(2, 3 * 256))

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.body(x).mean((2, 3))) + x.flatten(1) @ self.weight.T

        with pytest.warns(saywhy.SaywhyWarning, match="only .* passes through layer 'body'"):
            e = explain(Pixels(), bright_and_dark()[:1])
        assert {d.name: d.state for d in e.diagnostics[METHOD, "body"][0][0]}["share"] == "warning"


class TestTwoSequencesOfTokens:
    """A fine and a coarse sequence of tokens, each with a class token; both are read."""

    def test_both_are_fused_or_what_is_missing_is_warned_of(self):
        with pytest.warns(saywhy.SaywhyWarning, match="of the score's gradient at the image passes through layer"):
            e = explain(TwoSequences().eval(), image(64, 64), 0)
        assert {name.split(".")[0] for name in e.layers[0].split(" + ")} == {"crossed_fine", "crossed_coarse"}

    @pytest.mark.parametrize("last", [False, True])
    def test_class_token_of_one_sequence_is_no_branch(self, last):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            e = explain(SmallViT(last=last).eval(), image(64, 64), 0)
        assert e.layers == ("blocks.1.norm1",)

    @pytest.mark.nightly
    def test_cross_attention_of_two_sequences_is_warned_of(self):
        from timm.models.crossvit import CrossVit

        torch.manual_seed(0)
        sizes = {"img_size": 64, "img_scale": (1.0, 1.0), "patch_size": (8, 16), "embed_dim": (16, 32)}
        depths = {"depth": ((1, 1, 0),), "num_heads": (2, 2), "mlp_ratio": (2, 2, 1)}
        with pytest.warns(saywhy.SaywhyWarning, match="of the score's gradient at the image passes through layer"):
            explain(CrossVit(**sizes, **depths, num_classes=5).eval(), image(64, 64), 0)


class Pyramid(nn.Module):
    """One head at two levels; the score of the image is that of its best box, at either level."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.tower = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        bright = (x.mean((1, 2, 3)) > 0).to(x)[:, None, None]
        fine = self.head(self.tower(self.fine(x))).flatten(2) * bright
        coarse = self.head(self.tower(self.coarse(x))).flatten(2) * (1 - bright)
        return {"scores": torch.cat([fine, coarse], 2)}


class TestPyramid:
    @pytest.mark.parametrize("first", [0, 1])
    def test_box_of_another_level_gets_the_layer_of_its_level(self, first):
        model, x = Pyramid(), bright_and_dark()
        grids = {0: (16, 16), 1: (8, 8)}
        for i in (first, 1 - first, first):
            e = explain(model, x[i : i + 1], lambda out: out["scores"][:, 1].mean(1))
            assert e.maps.any()
            assert tuple(e.maps.shape[2:]) == grids[i]

    def test_boxes_of_both_levels_in_one_batch_are_explained(self):
        e = explain(Pyramid(), bright_and_dark(), lambda out: out["scores"][:, 1].mean(1))
        assert [bool(m.any()) for m in e.maps.flatten(0, 1)] == [True, True]


class TestWhatIsRemembered:
    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("first", [0, 1])
    def test_branch_without_a_gradient_for_an_earlier_image_is_found_for_a_later_one(self, first, together):
        model, x = Branched("gate"), bright_and_dark()
        if together:
            assert sides(explain(model, x.flip(0)).maps) == ["left", "both"]
        for i in (first, 1 - first, first):
            assert sides(explain(model, x[i : i + 1]).maps) == [["both"], ["left"]][i]

    def test_plain_network_has_no_layer_that_is_watched_beside_the_found_one(self):
        assert find_group(search(SmallViT(), image(64, 64))).without_gradient == ()
        assert find_group(search(Branched("sum"), bright_and_dark()[:1])).without_gradient == ()

    @pytest.mark.filterwarnings("ignore:the score also depends on another image")
    def test_image_among_keyword_arguments_in_another_order(self):
        class TwoImages(nn.Module):
            """Reads the left half of one image and the right half of the other."""

            def __init__(self) -> None:
                super().__init__()
                self.net = Branched("heads")

            def forward(self, a: Tensor, b: Tensor) -> Tensor:
                return self.net.one(a, "a") + self.net.one(b, "b")

        model, (a, b) = TwoImages(), bright_and_dark().split(1)
        assert explain(model, (a, b)).layers == ("net.a",)
        e = explain(model, {"b": b, "a": a})
        assert (e.layers, sides(e.maps)) == (("net.b",), ["right"])
        assert explain(model, {"a": a, "b": b}).layers == ("net.a",)

    def test_loaded_weights_discard_the_layer(self):
        torch.manual_seed(0)
        model = Branched("sum")
        weights = {name: w.clone() for name, w in model.state_dict().items()}
        nn.init.zeros_(model.head_b.weight)
        x = bright_and_dark()[:1]
        assert sides(explain(model, x).maps) == ["left"]
        model.load_state_dict(weights)
        assert sides(explain(model, x).maps) == ["both"]

    def test_target_of_every_class_is_searched_once_in_a_plain_network(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )
        x, runs = torch.randn(1, 3, 16, 16), []
        model.register_forward_pre_hook(lambda _m, args: runs.append(len(args[0])))
        explain(model, x, 0)
        assert sum(runs) == 1 + 1 + 9 + 1  # up to the first layer, the trace, the proof, the map
        runs.clear()
        for target in (1, 2, [0, 3], None):
            explain(model, x, target)
        assert sum(runs) == 4


class TestAnswerItself:
    @pytest.mark.parametrize("classes", [1, 2, 5])
    @pytest.mark.parametrize("last", ["none", "sigmoid", "softmax", "resized", "resized softmax", "shuffled"])
    def test_class_map_is_not_chosen(self, classes, last):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        model = nn.Sequential(body, nn.Conv2d(8, classes * (4 if last == "shuffled" else 1), 1))
        ends = {
            "none": [],
            "sigmoid": [nn.Sigmoid()],
            "softmax": [nn.Softmax(1)] if classes > 1 else [],
            "resized": [nn.Upsample(scale_factor=2, mode="bilinear")],
            "resized softmax": [nn.Upsample(scale_factor=2, mode="bilinear"), *([nn.Softmax(1)] * (classes > 1))],
            "shuffled": [nn.PixelShuffle(2)],
        }
        for module in ends[last]:
            model.append(module)
        e = explain(model, torch.randn(1, 3, 16, 16), lambda out: out[:, 0].mean((1, 2)))
        assert e.layers == ("0",)

    @pytest.mark.parametrize("target", [None, [0, 1], [3, 1, 0]])
    def test_pooled_class_map_is_not_chosen_for_several_targets(self, target):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        assert explain(model, torch.randn(1, 3, 16, 16), target).layers == ("1",)

    def test_objectness_beside_scores_is_not_chosen(self):
        class Detector(nn.Module):
            """Scores of boxes and their objectness, one of each a cell."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
                self.classes, self.objectness = nn.Conv2d(8, 3, 1), nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid())

            def forward(self, x: Tensor) -> dict[str, Tensor]:
                x = self.body(x)
                scores = self.classes(x).flatten(2).mT  # (batch, box, class)
                return {"scores": scores, "objectness": self.objectness(x).flatten(2).mT}

        model, x = Detector(), torch.randn(1, 3, 16, 16)
        for target in (lambda out: out["objectness"].mean((1, 2)), lambda out: out["scores"][..., 1].mean(1)):
            assert explain(model, x, target).layers == ("body",)

    def test_features_that_are_returned_too_are_no_answer(self):
        class Both(nn.Module):
            """Returns its features beside the class scores."""

            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
                self.head = nn.Linear(8, 3)

            def forward(self, x: Tensor) -> dict[str, Tensor]:
                features = self.body(x)
                return {"features": features, "logits": self.head(features.mean((2, 3)))}

        assert explain(Both(), torch.randn(1, 3, 16, 16)).layers == ("body",)


def test_layers_of_a_segmenter_are_listed_for_a_target():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    found = saywhy.layers(model, torch.rand(1, 3, 8, 8), target=lambda out: out[:, 1].mean((1, 2)))
    assert [(c.name, c.role) for c in found] == [("0", "features"), ("1", "features"), ("2", "scores")]


def test_no_warning_for_a_plain_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saywhy.explain(nn.Sequential(model, nn.Linear(8, 2)), torch.rand(1, 3, 8, 8), relu=False)


class SkippedTokens(nn.Module):
    """Patches and a class token, and a block that adds hardly anything; the mean of all tokens is read.

    The sum is no module's output, so that the last layer that is a map of the image is the block beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.block, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.extra = nn.Parameter(torch.zeros(1, 1, 4))
        self.act = nn.ReLU()
        with torch.no_grad():
            self.patches.weight.fill_(1 / 48)
            self.patches.bias.fill_(0.1)
            self.block.weight.mul_(0.01)
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.patches(x)).flatten(2).mT
        x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        return self.head((x + self.block(x).tanh()).mean(1))


class InsideTheBlock(SkippedTokens):
    """The same with a block of two layers, the second of which is the last that gives a map of the image.

    All that is read of that layer's input passes through it, so that only the layer before the block tells.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.patches(x)).flatten(2).mT
        x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1)
        return self.head((x + self.inner(self.block(x)).flip(1)).mean(1))


@pytest.mark.parametrize("network", [SkippedTokens, InsideTheBlock])
def test_block_beside_a_skip_connection_of_all_tokens_is_not_taken(network: type[nn.Module]) -> None:
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.1
    x[:, :, 4:8, 16:20] = 1
    e = saywhy.explain(network(), x, target=0)
    assert e.layers == ("act",)
    assert e.peak() == (18.0, 6.0)
