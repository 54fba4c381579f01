"""Concepts of a set of images with known factors, and the errors for bad input."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.concepts.factorization import factorize, factors
from saywhy.errors import InputError, MissingExtra
from saywhy.view.concepts import COLOURS, colour_of, concepts_over, concepts_overlay

LAYOUT = saywhy.Layout("channels-first", (6, 6))


class TwoThings(nn.Module):
    """Red pixels make channels 0 and 1 in the ratio 1 to 3, blue ones channels 2 and 3 in the ratio 2 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 1, bias=False)
        self.fc = nn.Linear(4, 3, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[1.0, 0, 0], [3, 0, 0], [0, 0, 2], [0, 0, 1]])[:, :, None, None])
            self.fc.weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [-1, -1, -1, -1]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def scenes() -> Tensor:
    """Two images: red on the left of the first, blue on the right of both, half as strong in the second."""
    x = torch.zeros(2, 3, 6, 6)
    x[0, 0, :, :3] = 2.0
    x[0, 2, :, 3:] = 1.0
    x[1, 2, :, 3:] = 0.5
    return x


def found(**settings: object) -> saywhy.concepts.factorization.Concepts:
    model = saywhy.load(TwoThings(), labels=["fire", "water", "air"])
    return factorize(model, scenes(), **{"concepts": 2, "layer": "features", "layout": LAYOUT, **settings})


class TestFactorize:
    def test_two_concepts_are_separated(self):
        f = found()
        red, blue = f.maps[:, 0], f.maps[:, 1]
        assert f.error < 1e-6
        torch.testing.assert_close(f.concepts, torch.tensor([[2.0, 6, 0, 0], [0, 0, 2, 1]]), rtol=1e-4, atol=1e-4)
        for maps, wanted in ((red, scenes()[:, 0] / 2), (blue, scenes()[:, 2])):
            torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-4)

    def test_maps_of_a_network_that_crops_its_image_lie_on_the_crop(self):
        class Cropped(TwoThings):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x[..., 8:24, 8:24])

        x = torch.zeros(2, 3, 32, 32)
        x[:, 0, 10:14, 18:22] = 2.0
        x[:, 2, 18:22, 10:14] = 1.0
        f = factorize(Cropped(), x, concepts=2, layer="features")
        red = f.heatmap()[0, 0]
        assert red.shape == (32, 32)
        assert red[10:14, 18:22].min() > 0.9
        red[9:15, 17:23] = 0
        assert red.max() < 0.05

    def test_concepts_are_named_by_their_highest_class_scores(self):
        f = found()
        assert f.names == ("fire / water", "water / fire")
        torch.testing.assert_close(f.scores, torch.tensor([[8.0, 0, -8], [0, 3, -3]]), rtol=1e-4, atol=1e-4)
        assert "fire / water, water / fire" in repr(f)

    def test_given_names_are_used(self):
        assert found(names=["red", "blue"]).names == ("red", "blue")

    def test_network_without_class_scores_raises(self):
        class Dense(TwoThings):
            def forward(self, x: Tensor) -> Tensor:
                return self.features(x)

        with pytest.raises(saywhy.errors.TargetError, match="no class scores"):
            factorize(Dense(), scenes(), 2, layer="features", layout=LAYOUT)

    def test_maps_times_concepts_are_the_activations(self):
        network, images = TinyNetwork.build(), torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        f = factorize(network, images, 5, layer="features", layout=LAYOUT)
        A = saywhy.capture(network, images, 0, "features", layout=LAYOUT).activations["features"]
        rebuilt = torch.einsum("bkij,kc->bcij", f.maps, f.concepts)
        assert float((A - rebuilt).norm() / A.norm()) == pytest.approx(f.error, abs=1e-5)
        assert bool((f.maps >= 0).all())
        assert bool((f.concepts >= 0).all())
        torch.testing.assert_close(f.maps.amax((0, 2, 3)), torch.ones(5))

    def test_error_decreases_with_more_concepts(self):
        network, images = TinyNetwork.build(), torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        errors = [factorize(network, images, k, layer="features", layout=LAYOUT).error for k in (1, 2, 3, 4, 5)]
        assert errors == sorted(errors, reverse=True)

    def test_result_is_deterministic_for_any_batch_size(self):
        network, images = TinyNetwork.build(), torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        settings = {"concepts": 3, "layer": "features", "layout": LAYOUT}
        first = factorize(network, images, **settings)
        torch.rand(3)
        assert torch.equal(factorize(network, images, **settings).maps, first.maps)
        torch.testing.assert_close(factorize(network, images, batch_size=2, **settings).maps, first.maps)

    @pytest.mark.parametrize("axes", [1, 3])
    def test_maps_of_signals_and_volumes_have_their_shape(self, axes):
        layout = saywhy.Layout("channels-first", (6,) * axes)
        f = factorize(TinyNetwork.build(axes=axes), torch.randn(2, 3, *[12] * axes), 2, layer="features", layout=layout)
        assert f.maps.shape == (2, 2, *[6] * axes)
        assert f.heatmap().shape == (2, 2, *[12] * axes)

    def test_model_state_is_restored(self):
        network = TinyNetwork.build().train()
        before = {k: v.clone() for k, v in network.state_dict().items()}
        with torch.no_grad():
            factorize(network, torch.randn(2, 3, 12, 12), 2, layer="features", layout=LAYOUT)
        assert network.training
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        assert all(p.grad is None for p in network.parameters())
        assert not network.features._forward_hooks

    def test_shift_includes_negative_activations(self):
        model, below = TwoThings(), scenes() - 1
        kept = factorize(model, below, 2, layer="features", layout=LAYOUT, shift=True)
        assert kept.error < 1e-4
        rebuilt = torch.einsum(
            "bkij,kc->bcij", kept.maps, kept.concepts - model.features(below).amin((0, 2, 3)).detach()
        )
        wanted = model.features(below).detach() - model.features(below).amin((0, 2, 3), keepdim=True).detach()
        torch.testing.assert_close(rebuilt, wanted, rtol=1e-3, atol=1e-3)


def multiplicative_updates(A: np.ndarray, count: int, generator: np.random.Generator) -> float:
    """Return ‖A - H W‖ / ‖A‖ after the updates of Lee and Seung (2001), as in deep feature factorization's paper."""
    H, W = generator.random((A.shape[0], count)), generator.random((count, A.shape[1]))
    for _ in range(1000):
        H *= (A @ W.T) / (H @ W @ W.T + 1e-12)
        W *= (H.T @ A) / (H.T @ H @ W + 1e-12)
    return float(np.linalg.norm(A - H @ W) / np.linalg.norm(A))


class TestFactors:
    def test_known_factors_are_recovered(self):
        generator = np.random.default_rng(0)
        H, W = generator.random((40, 3)) * (generator.random((40, 3)) > 0.5), generator.random((3, 10)) * np.eye(3, 10)
        A = torch.from_numpy(H @ W)
        assert factors(A, 3)[2] < 1e-4

    def test_every_round_brings_the_error_down(self):
        A = torch.rand(30, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        errors = [factors(A, 4, rounds=n)[2] for n in range(1, 12)]
        assert errors == sorted(errors, reverse=True)

    def test_rank_deficient_matrix_gives_finite_factors(self):
        H, W, error = factors(torch.ones(4, 3, dtype=torch.float64), 2)
        assert error < 1e-6
        assert bool(torch.isfinite(H).all() and torch.isfinite(W).all())

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_error_is_at_most_that_of_multiplicative_updates(self, seed, count):
        """The paper's own updates, a thousand of them from each of three random starts."""
        generator = np.random.default_rng(seed)
        A = np.maximum(generator.random((36, 6)) @ generator.standard_normal((6, 8)) + 0.2, 0)
        wanted = min(multiplicative_updates(A, count, np.random.default_rng(start)) for start in range(3))
        assert factors(torch.from_numpy(A), count)[2] <= 1.01 * wanted

    def test_result_ignores_the_global_numpy_seed(self):
        A = torch.rand(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        first = factors(A, 4)
        np.random.seed(1)  # noqa: NPY002 - the global state of numpy is what must not count
        for one, other in zip(factors(A, 4)[:2], first[:2], strict=True):
            assert torch.equal(one, other)

    def test_float32_input_is_factored_in_float64(self):
        A = torch.rand(40, 30, generator=torch.Generator().manual_seed(0))
        H, W, error = factors(A, 4)
        assert H.dtype == W.dtype == torch.float32
        assert error == pytest.approx(factors(A.double(), 4)[2], rel=1e-5)

    def test_missing_scikit_learn_raises_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
        with pytest.raises(MissingExtra, match=r"pip install 'saywhy\[concepts\]'"):
            factors(torch.rand(4, 3), 2)

    @pytest.mark.parametrize("exponent", [-20, 20])
    def test_result_is_invariant_to_scale(self, exponent):
        A = torch.rand(30, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        one, other = factors(A, 4), factors(A * 10.0**exponent, 4)
        torch.testing.assert_close(other[0], one[0])
        assert other[2] == pytest.approx(one[2])


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"concepts": 0}, "concepts must be a whole number of at least 1"),
            ({"concepts": True}, "concepts must be a whole number"),
            ({"batch_size": 0}, "batch_size must be"),
            ({"rounds": -1}, "rounds must be"),
            ({"names": ["one"]}, "names must be a list of 2"),
            ({"names": "ab"}, "names must be a list of 2"),
            ({"concepts": 9}, "9 concepts are more than layer 'features' allows: it has 4 channels and 72"),
        ],
    )
    def test_invalid_parameters_raise(self, settings, message):
        with pytest.raises(InputError, match=message):
            found(**settings)

    def test_no_positive_activation_raises(self):
        with pytest.raises(InputError, match="has no positive activation"):
            factorize(TwoThings(), -scenes(), 2, layer="features", layout=LAYOUT)

    def test_too_large_image_index_raises(self):
        with pytest.raises(InputError, match="there is no image 2"):
            found().overlay(2)


class TestOverlay:
    def test_every_concept_has_its_colour_where_it_is_strongest(self):
        image = Image.new("RGB", (8, 4))
        shown = concepts_over(image, np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), alpha=1.0)
        assert shown.getpixel((0, 0)) == colour_of(0)
        assert shown.getpixel((7, 3)) == colour_of(1)

    def test_weak_and_cropped_pixels_are_not_coloured(self):
        image = Image.new("RGB", (8, 4), (9, 9, 9))
        weak = concepts_over(image, np.full((2, 1, 1), 0.05))
        assert weak.getpixel((4, 2)) == (9, 9, 9)
        cropped = concepts_over(image, np.ones((1, 1, 1)), (2, 0, 6, 4), alpha=1.0)
        assert cropped.getpixel((4, 2)) == colour_of(0)
        assert cropped.getpixel((0, 0)) not in (colour_of(0), (9, 9, 9))  # hatched

    def test_the_legend_has_a_swatch_for_each(self):
        shown = concepts_overlay(Image.new("RGB", (320, 100)), np.ones((3, 1, 1)), ["a", "b", "a name " * 20])
        seen = {shown.getpixel((6, y)) for y in range(100, shown.height)}
        assert {colour_of(0), colour_of(1), colour_of(2)} <= seen
        assert shown.height > 100 + 3 * 15

    def test_colours_stay_distinct_beyond_the_palette(self):
        assert len({colour_of(k) for k in range(2 * len(COLOURS))}) == 2 * len(COLOURS)

    def test_overlay_of_result_is_drawn_and_of_no_concept_raises(self):
        shown = found(names=["red", "blue"]).overlay(1)
        assert shown.width >= 320
        with pytest.raises(InputError, match="expected at least one concept, got none"):
            concepts_over(Image.new("RGB", (8, 4)), np.ones((0, 1, 1)))
