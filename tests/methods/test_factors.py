"""KPCA-CAM, FEM, Seg-Eigen-CAM, Shapley-CAM and Refine-CAM on layers and networks whose answer is known."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

import saywhy
from oracles import ORACLES
from oracles.networks import TinyNetwork
from saywhy.engine.runner import ModelRunner
from saywhy.errors import GradientError, MethodError
from saywhy.methods import eigen, find_method, fuse
from saywhy.methods.kernel_pca import fem, kpcacam, segeigencam
from saywhy.methods.shapley import shapleycam

LAYOUT = saywhy.Layout("channels-first", (6, 6))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestKernels:
    def test_linear_kernel_equals_centred_eigencam(self):
        A = drawn(3, 5, 4, 4)
        wanted = find_method("eigencam").function(A, A, center=True, relu=False)
        torch.testing.assert_close(kpcacam(A, A, kernel="linear", relu=False), wanted, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("kernel", ["rbf", "linear"])
    def test_centring_matters_to_the_sigmoid_kernel_only(self, kernel):
        A = drawn(2, 5, 4, 4)
        for name, same in ((kernel, True), ("sigmoid", False)):
            one, other = (kpcacam(A, A, kernel=name, center=center, relu=False) for center in (True, False))
            assert torch.allclose(one.abs(), other.abs(), rtol=1e-9, atol=1e-12) is same

    @pytest.mark.parametrize("kernel", ["sigmoid", "rbf"])
    def test_default_gamma_is_one_over_the_number_of_channels(self, kernel):
        A = drawn(1, 7, 3, 4)
        found = kpcacam(A, A, kernel=kernel)
        torch.testing.assert_close(found, kpcacam(A, A, kernel=kernel, gamma=1 / 7))
        torch.testing.assert_close(found[0], torch.from_numpy(ORACLES["kpcacam"](A[0].numpy(), None, kernel=kernel)))

    def test_rbf_kernel_separates_a_ring_from_its_centre(self):
        """Positions at the centre of a ring of others: no linear component separates them."""
        angles = torch.arange(12) * torch.pi / 6
        ring = 3 * torch.stack([angles.cos(), angles.sin()])
        A = torch.cat([ring, torch.zeros(2, 4)], dim=1).double()[None]
        found = kpcacam(A, A, kernel="rbf", gamma=0.5, relu=False)[0]
        inside, outside = found[12:], found[:12]
        assert abs(float(inside.mean() - outside.mean())) > 5 * float(outside.std())
        linear = kpcacam(A, A, kernel="linear", relu=False)[0]
        assert abs(float(linear[12:].mean() - linear[:12].mean())) < 1e-6

    @pytest.mark.parametrize("converges", [True, False])
    @pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "linear"])
    def test_large_layers_give_the_same_map(self, kernel, converges, monkeypatch):
        A = drawn(2, 5, 9, 8)
        A[1] = 0.1
        every = kpcacam(A, A, kernel=kernel, relu=False)
        monkeypatch.setattr(eigen, "ALL_VECTORS", 10)
        if not converges:

            def fails(*_args, **_options):
                raise scipy.sparse.linalg.ArpackNoConvergence("no convergence", [], [])

            monkeypatch.setattr(scipy.sparse.linalg, "eigsh", fails)
        torch.testing.assert_close(kpcacam(A, A, kernel=kernel, relu=False), every, rtol=1e-8, atol=1e-10)

    def test_layers_whose_kernel_would_fill_the_memory_are_refused(self):
        A = torch.zeros(1, 3, 129, 128)
        with pytest.raises(MethodError, match=r"129 × 128 of them take 2 GB and more\. Choose a later layer"):
            kpcacam(A, A)

    def test_constant_layer_gives_a_zero_map(self):
        A = torch.full((1, 3, 5, 5), 0.1).float()
        for kernel in ("sigmoid", "rbf", "linear"):
            assert not kpcacam(A, A, kernel=kernel).any()

    def test_invalid_parameters_raise(self):
        A = drawn(1, 2, 3)
        with pytest.raises((MethodError, TypeCheckError), match="cosine"):
            kpcacam(A, A, kernel="cosine")  # type: ignore[arg-type]
        with pytest.raises(MethodError, match=r"gamma must be a number above 0 or none, got -1\.0"):
            kpcacam(A, A, gamma=-1.0)


class TestSegEigenCam:
    def test_sign_of_the_gradient_does_not_matter(self):
        A, G = drawn(2, 4, 3, 3), drawn(2, 4, 3, 3, seed=1)
        assert torch.equal(segeigencam(A, G), segeigencam(A, -G))

    def test_end_of_larger_magnitude_is_positive(self):
        found = segeigencam(drawn(20, 4, 3, 3), drawn(20, 4, 3, 3, seed=1), relu=False).flatten(1)
        assert bool((found.amax(1) >= -found.amin(1)).all())

    def test_tied_sign_follows_the_channels(self):
        A = torch.tensor([[[[5.0, 1.0]]]])
        assert segeigencam(A, torch.ones_like(A), relu=False).flatten().tolist() == [2.0, -2.0]


class TestFem:
    def test_masks_are_weighted_by_channel_means(self):
        A = torch.zeros(1, 2, 10)
        A[0, 0, 3], A[0, 1, 3], A[0, 1, 7] = 10.0, 20.0, 20.0  # means 1 and 4
        assert fem(A, A, sigmas=1.0)[0].tolist() == [0, 0, 0, 5, 0, 0, 0, 4, 0, 0]

    def test_higher_sigmas_select_fewer_positions(self):
        A = drawn(2, 6, 8, 8).relu()
        areas = [int((fem(A, A, sigmas=k) > 0).sum()) for k in (0.0, 1.0, 2.0, 3.0)]
        assert areas == sorted(areas, reverse=True)
        assert areas[0] > areas[-1]

    def test_map_scales_with_the_activations(self):
        A = drawn(1, 6, 8, 8).relu()
        torch.testing.assert_close(fem(1e-9 * A, A), 1e-9 * fem(A, A), rtol=1e-9, atol=0)

    def test_too_high_sigmas_for_a_small_map_give_zeros_with_warning(self):
        """With six positions the farthest that one can be from the mean is √5 = 2.24 deviations."""
        A = drawn(1, 6, 6).relu()
        with pytest.warns(saywhy.SaywhyWarning, match="nothing in this layer stands out"):
            found = saywhy.explain(
                TinyNetwork.build(axes=1), drawn(1, 3, 12).float(), 1, "fem", "features",
                layout=saywhy.Layout("channels-first", (6,)), sigmas=2.25,
            )  # fmt: skip
        assert not found.maps.any()
        assert not fem(A, A, sigmas=2.25).any()

    def test_invalid_variant_raises(self):
        A = drawn(1, 2, 3)
        with pytest.raises((MethodError, TypeCheckError), match="mean"):
            fem(A, A, variant="mean")  # type: ignore[arg-type]


class TestShapleyCam:
    def test_equals_gradcam_for_a_linear_score(self):
        network, image = TinyNetwork.build(head="linear"), drawn(2, 3, 12, 12).float()
        both = saywhy.explain(network, image, [0, 1], ["gradcam", "shapleycam"], "features", layout=LAYOUT, relu=False)
        torch.testing.assert_close(both["shapleycam"], both["gradcam"])

    def test_weights_are_shapley_values_for_a_quadratic_score(self):
        """y = Σ (Σ w x)²: what a player adds, on average over all orders, is its first derivative less half of H x."""
        x, w = drawn(1, 3, 1), drawn(3, seed=1)
        runner = ModelRunner.of(nn.Identity(), x, lambda out: (out.flatten(1) @ w).square())
        found = shapleycam(runner, relu=False).item()
        players = [float(v) for v in x.flatten()]

        def value(present: set[int]) -> float:
            return sum(float(w[i]) * players[i] for i in present) ** 2

        from itertools import permutations

        shares = np.zeros(3)
        for order in permutations(range(3)):
            for place, player in enumerate(order):
                shares[player] += value(set(order[: place + 1])) - value(set(order[:place]))
        assert found == pytest.approx(float(shares.sum() / 6))

    def test_residual_softmax_target_is_the_sum_of_its_parts(self):
        from saywhy.targets import Class

        network, image = TinyNetwork.build(dtype=torch.float64), drawn(1, 3, 12, 12)
        found = saywhy.explain(
            network, image, Class(1, "logit") + Class(1, "log-probability"), "shapleycam", "features", layout=LAYOUT,
            relu=False,
        )  # fmt: skip
        parts = [
            saywhy.explain(network, image, 1, "shapleycam", "features", layout=LAYOUT, relu=False, score=score).maps
            for score in ("logit", "log-probability")
        ]
        torch.testing.assert_close(found.maps, parts[0] + parts[1])

    def test_network_without_second_derivative_raises(self):
        """Fused attention has none; where the network calls it by the usual name, plain attention replaces it."""

        def fused(x: Tensor) -> Tensor:
            heads = x.transpose(1, 2)[:, None]
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(heads, heads, heads)[0].sum((1, 2, 3))

        def usual(x: Tensor) -> Tensor:
            heads = x.transpose(1, 2)[:, None]
            return nn.functional.scaled_dot_product_attention(heads, heads, heads).sum((1, 2, 3))

        assert shapleycam(ModelRunner.of(nn.Identity(), drawn(1, 3, 4), usual)).shape == (1, 1, 4)
        runner = ModelRunner.of(nn.Identity(), drawn(1, 3, 4), fused)
        with pytest.raises(GradientError, match="no second derivative"):
            shapleycam(runner)

    def test_score_independent_of_the_layer_raises(self):
        constant = nn.Parameter(torch.ones(1, dtype=torch.float64))
        runner = ModelRunner.of(nn.Identity(), drawn(1, 3, 4), lambda x: constant * 2.0)
        with pytest.raises(GradientError, match="does not depend on layer"):
            shapleycam(runner)


class TestRefineCam:
    def test_equals_the_product_of_min_max_normalised_maps(self):
        one, other = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[[-5.0, 10.0, 5.0]]]])
        assert fuse([one, other], "refine").flatten().tolist() == [0.0, 0.5, 0.5]

    def test_constant_layer_gives_a_zero_map(self):
        assert not fuse([torch.rand(1, 1, 2, 2), torch.ones(1, 1, 4, 4)], "refine").any()

    @pytest.mark.parametrize("exponent", [-30, 30])
    def test_is_scale_invariant(self, exponent):
        one, other = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 2, 2)
        torch.testing.assert_close(fuse([one, other * 10.0**exponent], "refine"), fuse([one, other], "refine"))

    @pytest.mark.parametrize("axes", [1, 2, 3])
    def test_accepts_signals_and_volumes(self, axes):
        maps = [torch.rand(1, 2, *[n] * axes) for n in (2, 4)]
        assert fuse(maps, "refine").shape == (1, 2, *[4] * axes)

    def test_explain_with_fuse_refine_gives_one_map(self):
        found = saywhy.explain(
            TinyNetwork.build(), drawn(1, 3, 12, 12).float(), 1, "gradcam++", ["stem", "features"], layout=LAYOUT,
            fuse="refine",
        )  # fmt: skip
        assert found.layers == ("stem + features (refine)",)
        assert 0 < float(found.maps.max()) <= 1

    @pytest.mark.parametrize(("name", "hint"), [("refinecam", "fuse='refine'"), ("finercam", "targets.finer")])
    def test_refinecam_and_finercam_errors_point_to_their_options(self, name, hint):
        with pytest.raises(MethodError, match=hint):
            find_method(name)
