"""Structural similarity, the earth mover's distance and agreement among methods: loops, other packages, known cases."""

import builtins
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from metric_case import few
from torch import Tensor

import saywhy
from oracles import robustness as oracle
from oracles.networks import TinyNetwork
from saywhy.errors import InputError, SaywhyError
from saywhy.metrics.agreement import agreement_among_methods, earth_movers_distance, ssim
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid

seeds = st.integers(0, 2**31 - 1)


def maps(seed: int, *shape: int, signed: bool = True) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made if signed else made.relu()


def smooth(seed: int, *shape: int) -> Tensor:
    """Maps as methods give them, coarse and enlarged."""
    return torch.nn.functional.interpolate(maps(seed, *shape[:2], 5, 4), shape[2:], mode="bilinear")


class TestStructuralSimilarity:
    @pytest.mark.parametrize("shape", [(13, 12), (11, 11), (7, 9), (4, 12), (2, 2), (1, 1)])
    @pytest.mark.parametrize("signed", [False, True])
    def test_against_the_oracle(self, signed, shape):
        first, second = maps(0, 2, 2, *shape, signed=signed), maps(1, 2, 2, *shape, signed=signed)
        second[0] = first[0] + 0.1 * second[0]
        wanted = [[oracle.ssim(first[b, t].numpy(), second[b, t].numpy()) for t in range(2)] for b in range(2)]
        torch.testing.assert_close(
            ssim(first, second), torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12
        )

    @pytest.mark.parametrize("signed", [False, True])
    def test_against_skimage(self, signed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is the peer that is compared with")
        for seed in range(5):
            pair = [smooth(seed + 10 * k, 1, 1, 20, 17) for k in (0, 1)]
            first, second = pair if signed else [one.relu() for one in pair]
            x, y = ((one / one.abs().max())[0, 0].numpy() for one in (first, second))
            _, full = metrics.structural_similarity(
                x,
                y,
                data_range=2.0 if signed else 1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                full=True,
            )
            np.testing.assert_allclose(ssim(first, second).item(), full[5:-5, 5:-5].mean(), rtol=1e-4)

    @pytest.mark.parametrize("signed", [False, True])
    def test_against_torchmetrics_where_the_window_fits(self, signed):
        metrics = pytest.importorskip(
            "torchmetrics.functional.image", reason="torchmetrics is the peer that is compared with"
        )
        for seed in range(5):
            pair = [maps(seed + 10 * k, 2, 1, 11 + seed, 17, signed=signed) for k in (0, 1)]
            x, y = (one / one.abs().amax((2, 3), keepdim=True) for one in pair)
            _, full = metrics.structural_similarity_index_measure(
                x, y, data_range=2.0 if signed else 1.0, reduction="none", return_full_image=True
            )
            wanted = full[..., 5:-5, 5:-5].mean((2, 3))
            torch.testing.assert_close(ssim(*pair), wanted, rtol=0, atol=1e-12)

    @few
    @given(seeds, st.integers(1, 16), st.integers(1, 16), st.floats(0.01, 1e6))
    def test_range_symmetry_and_units(self, seed, height, width, factor):
        first, second = maps(seed, 1, 2, height, width), maps(seed + 1, 1, 2, height, width)
        found = ssim(first, second)
        assert (found.abs() <= 1 + 1e-12).all()
        torch.testing.assert_close(ssim(second, first), found)
        torch.testing.assert_close(ssim(first * factor, second), found)
        torch.testing.assert_close(ssim(first, first), torch.ones_like(found))

    def test_decreases_with_noise_and_inversion(self):
        own = smooth(0, 1, 1, 20, 20).relu()
        near, far = own + 0.05 * maps(1, 1, 1, 20, 20).relu(), own + maps(1, 1, 1, 20, 20).relu()
        assert ssim(own, near) > ssim(own, far) > ssim(own, own.max() - own)

    def test_map_and_its_negative_give_a_positive_value(self):
        """Both factors of the product are negative."""
        own = 1 + 0.5 * smooth(0, 1, 1, 20, 20).clamp(-1, 1)
        assert ssim(own, -own).item() > 0.5

    def test_two_zero_maps_give_one(self):
        zeros = torch.zeros(1, 1, 12, 12)
        assert ssim(zeros, zeros).item() == 1
        # No mean and no spread on one side: C1 / (1 + C1), and C2 / C2.
        assert ssim(zeros, torch.ones(1, 1, 12, 12)).item() == pytest.approx(1e-4 / (1 + 1e-4))

    def test_is_scale_invariant_for_tiny_values(self):
        own, other = maps(0, 1, 1, 12, 12), maps(1, 1, 1, 12, 12)
        torch.testing.assert_close(ssim(own * 1e-300, other * 1e-300), ssim(own, other))

    @pytest.mark.parametrize(
        ("first", "second"), [((1, 1, 4, 4), (1, 1, 4, 5)), ((1, 2, 4, 4), (1, 1, 4, 4)), ((4, 4), (4, 4))]
    )
    def test_different_shapes_raise(self, first, second):
        with pytest.raises((InputError, TypeCheckError), match=r"of one shape|target \*space"):
            ssim(torch.rand(first), torch.rand(second))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nonfinite_values_raise(self, bad):
        broken = torch.ones(1, 1, 4, 4)
        broken[0, 0, 1, 2] = bad
        for pair in ((broken, torch.ones(1, 1, 4, 4)), (torch.ones(1, 1, 4, 4), broken)):
            with pytest.raises(InputError, match="must be finite"):
                ssim(*pair)


class TestEarthMover:
    @few
    @given(seeds, st.booleans())
    def test_against_a_linear_programme(self, seed, signed):
        first, second = maps(seed, 2, 4, 4, signed=signed), maps(seed + 1, 2, 4, 4, signed=signed)
        wanted = [oracle.earth_movers_distance(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True)]
        found = earth_movers_distance(first, second, (4, 4))
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-8)

    @few
    @given(seeds, st.floats(1e-9, 1e9))
    def test_is_symmetric_scale_invariant_and_obeys_triangle_inequality(self, seed, factor):
        a, b, c = maps(seed, 3, 5, 6, signed=False) + 1e-6
        apart = earth_movers_distance(a, b, (5, 6))
        assert 0 <= apart < math.sqrt(2)
        torch.testing.assert_close(earth_movers_distance(b, a, (5, 6)), apart)
        torch.testing.assert_close(earth_movers_distance(a * factor, b, (5, 6)), apart, rtol=1e-6, atol=1e-9)
        detour = earth_movers_distance(a, c, (5, 6)) + earth_movers_distance(c, b, (5, 6))
        assert apart <= detour + 1e-9

    @pytest.mark.parametrize("grid", [(2, 2), (5, 6), (14, 14), (20, 3)])
    def test_distance_to_itself_is_exactly_zero(self, grid):
        own = maps(3, 2, *grid)
        assert earth_movers_distance(own, own, grid).tolist() == [0, 0]

    def test_equals_hand_computed_values(self):
        corner, other = torch.zeros(10, 10), torch.zeros(10, 10)
        corner[0, 0], other[9, 9] = 2.0, 7.0
        assert earth_movers_distance(corner, other, (10, 10)).item() == pytest.approx(0.9 * math.sqrt(2))
        # Half of it stays, half goes one cell down: 0.5 · 0.1.
        half = corner.clone()
        half[1, 0] = 2.0
        assert earth_movers_distance(corner, half, (10, 10)).item() == pytest.approx(0.05)

    def test_negative_values_count_as_zero_and_empty_maps_as_uniform(self):
        own = maps(0, 6, 6)
        assert earth_movers_distance(own, own.relu(), (6, 6)) == 0
        for empty in (torch.zeros(6, 6), -torch.ones(6, 6)):
            assert earth_movers_distance(empty, torch.ones(6, 6), (6, 6)) == 0

    def test_maps_of_different_sizes_are_resized_to_the_grid(self):
        first, second = maps(0, 2, 3, 7, 7, signed=False), maps(1, 2, 3, 20, 28, signed=False)
        found = earth_movers_distance(first, second)
        assert found.shape == (2, 3)
        one = earth_movers_distance(on_grid(first[1, 2]), on_grid(second[1, 2]))
        torch.testing.assert_close(one, found[1, 2])

    def test_different_batch_sizes_raise(self):
        with pytest.raises(
            (InputError, TypeCheckError), match=r"as many maps on both sides, got \[2\] and \[3\]|batch"
        ):
            earth_movers_distance(maps(0, 2, 4, 4), maps(1, 3, 4, 4))

    def test_nan_raises(self):
        with pytest.raises(InputError, match="must be finite"):
            earth_movers_distance(torch.full((4, 4), math.nan), torch.ones(4, 4))

    def test_missing_package_error_names_the_pip_extra(self, monkeypatch):
        own = builtins.__import__

        def missing(name: str, *args: object, **kwargs: object) -> object:
            if name == "ot":
                raise ImportError(name)
            return own(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", missing)
        with pytest.raises(SaywhyError, match=r"pip install 'saywhy\[metrics\]'"):
            earth_movers_distance(torch.ones(2, 2), torch.ones(2, 2))


class TestAgreementAmongMethods:
    def test_every_pair_of_methods_appears_once(self):
        net = TinyNetwork.build(dtype=torch.float64)
        methods = ["gradcam", "saliency", "hirescam"]
        e = saywhy.explain(net, maps(0, 2, 3, 30, 30), [0, 1], methods, "features", relu=False)
        found = agreement_among_methods(e)
        assert list(found) == [("gradcam", "saliency"), ("gradcam", "hirescam"), ("saliency", "hirescam")]
        wanted = [
            [oracle.spearman(*(on_grid(e[m][b, t]).numpy() for m in ("gradcam", "saliency"))) for t in range(2)]
            for b in range(2)
        ]
        torch.testing.assert_close(found["gradcam", "saliency"], torch.tensor(wanted, dtype=torch.float64))

    @pytest.mark.parametrize("axes", [1, 3])
    def test_signals_and_volumes_on_their_own_grid(self, axes):
        net = TinyNetwork.build(dtype=torch.float64, axes=axes)
        e = saywhy.explain(net, maps(0, 2, 3, *[12] * axes), [0, 1, 2], ["gradcam", "hirescam"], "features", relu=False)
        (found,) = agreement_among_methods(e).values()
        flat = [e[m].detach().flatten(2) for m in e.methods]
        assert found.shape == (2, 3)
        torch.testing.assert_close(found, rank_correlation(*flat))

    def test_single_method_gives_no_pairs(self):
        e = saywhy.explain(TinyNetwork.build(), torch.rand(1, 3, 12, 12), 0, "saliency")
        assert agreement_among_methods(e) == {}
