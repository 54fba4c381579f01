"""Our metrics against those of captum, quantus, pytorch-grad-cam and torchcam on the same network, maps and images.

Where the equations are the same, so are the numbers; where they are not, a test pins that they differ, and says why.
"""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from metric_case import MetricCase, some_maps
from torch import Tensor, nn

from oracles import faithfulness as oracle
from oracles.networks import TinyNetwork
from parity import peers
from saywhy.metrics import imputation
from saywhy.metrics.complexity import complexity, sparseness
from saywhy.metrics.faithfulness import (
    average_drop,
    faithfulness_correlation,
    increase_in_confidence,
    infidelity,
    probe,
)
from saywhy.metrics.imputation import imputed
from saywhy.metrics.removal import deletion, insertion, road

pytestmark = pytest.mark.slow

AGREES = 1e-4
DISAGREES = 1e-2


def needs(name: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not peers.available(name), reason=f"needs the package {package}")


needs_captum = needs("captum", "captum")
needs_quantus = needs("quantus", "quantus")
needs_grad_cam = needs("pytorch_grad_cam", "grad-cam")
needs_torchcam = needs("torchcam", "torchcam")


def metric_case(seed: int = 0, probability: bool = True) -> MetricCase:
    """Float32, as the packages run it; three images, of each the class that the network gives it."""
    images = 2 * torch.randn(3, 3, 12, 8, generator=torch.Generator().manual_seed(seed))
    network = TinyNetwork.build(seed=seed)
    for layer in (network.fc, network.hidden):  # so that images are far from each other
        layer.weight.data *= 3
    with torch.no_grad():
        return MetricCase(network, images, network(images).argmax(1, keepdim=True), probability)


def grey(seed: int = 0, probability: bool = True) -> MetricCase:
    """Of one channel, so that a feature is a pixel."""
    one = metric_case(seed, probability)
    network, images = nn.Sequential(Spread(), one.network).eval(), one.images[:, :1].clone()
    with torch.no_grad():
        return MetricCase(network, images, network(images).argmax(1, keepdim=True), probability)


class Spread(nn.Module):
    """One channel as three."""

    def forward(self, images: Tensor) -> Tensor:
        return images * torch.tensor([1.0, -0.5, 2.0]).view(3, 1, 1)


def softmaxed(one: MetricCase) -> nn.Module:
    return nn.Sequential(one.network, nn.Softmax(1)).eval() if one.probability else one.network


def same(ours: Tensor, theirs: Any) -> None:
    """The same numbers, and such as say something."""
    theirs = torch.as_tensor(np.asarray(theirs)).double().view_as(ours)
    assert bool((ours != 0).any())
    torch.testing.assert_close(ours, theirs, rtol=AGREES, atol=1e-6)


# --- captum ------------------------------------------------------------------------------------------------------


def captum_infidelity(one: MetricCase, maps: Tensor, hidden: Tensor, *, normalize: bool) -> Tensor:
    """With the same cells hidden: what is taken away is 1 there, told in shares of a cell of four pixels."""
    large = hidden.repeat_interleave(2, 1).repeat_interleave(2, 2).float()[:, None]  # (probe, 1, height, width)

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        masks = large.repeat(len(images) // len(large), 1, 1, 1)
        return masks / 4, images * (1 - masks)

    with peers.quiet():
        return peers.module("captum.metrics").infidelity(
            one.network,
            perturb,
            one.images,
            maps.clone(),
            target=one.classes[:, 0],
            n_perturb_samples=len(hidden),
            normalize=normalize,
        )


@needs_captum
class TestCaptum:
    def test_captum_infidelity_is_ours_times_the_mean_squared_drop(self):
        """Captum's with its best factor is the error itself; ours is divided by E Δ², which a map of zeros leaves."""
        one = grey(probability=False)
        probes = probe(one.runner(), count=12, cells=(6, 4), share=0.3, fill="zero")
        maps = one.images.abs() + some_maps(1, 3, 1, 12, 8).abs()
        if bool((infidelity(maps, probes) == 1).any()):
            maps = -maps
        theirs = captum_infidelity(one, maps, probes.hidden, normalize=True)
        whole = captum_infidelity(one, torch.zeros_like(maps), probes.hidden, normalize=False)
        torch.testing.assert_close(whole.double(), probes.drops.square().mean(-1)[:, 0], rtol=AGREES, atol=0)
        signs = (probes.sums(maps) * probes.drops).sum(-1)[:, 0] > 0
        assert bool(signs.any())
        same((infidelity(maps, probes)[:, 0] * whole)[signs], theirs[signs])

    def test_captum_scaling_factor_may_be_negative_and_ours_not(self):
        """A map that has everything upside down has captum's best value and our worst."""
        weights = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(2))
        network = nn.Sequential(nn.Flatten(), nn.Linear(96, 1, bias=False)).eval()
        network[1].weight.data.copy_(weights.reshape(1, -1))
        one = MetricCase(network, grey().images, torch.zeros(3, 1, dtype=torch.long), False)
        probes = probe(one.runner(), count=12, cells=(6, 4), share=0.3, fill="zero")
        upside_down = -weights * one.images
        whole = probes.drops.square().mean(-1)[:, 0].float()
        theirs = captum_infidelity(one, upside_down, probes.hidden, normalize=True) / whole
        assert float(theirs.abs().max()) < AGREES
        assert infidelity(upside_down, probes).tolist() == [[1]] * 3
        assert float(infidelity(-upside_down, probes).max()) < 1e-6


# --- quantus -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quantus() -> Any:
    return peers.module("quantus")


def asked(metric: Any, one: MetricCase, maps: Tensor, **settings: Any) -> Any:
    """Its value of the maps as they are, neither rectified nor normalised."""
    with peers.quiet():
        return metric(
            model=one.network,
            x_batch=one.images.numpy(),
            y_batch=one.classes[:, 0].numpy(),
            a_batch=maps.numpy().copy(),
            softmax=one.probability,
            channel_first=True,
            device="cpu",
            **settings,
        )


def made(kind: Any, **settings: Any) -> Any:
    with peers.quiet():
        return kind(disable_warnings=True, normalise=False, return_aggregate=False, **settings)


@needs_quantus
class TestQuantus:
    @pytest.mark.parametrize("rectified", [False, True])
    def test_sparseness_equals_quantus(self, quantus, rectified):
        one, maps = grey(), some_maps(3, 3, 1, 12, 8, rectified=rectified)
        same(sparseness(maps), asked(made(quantus.Sparseness, abs=True), one, maps))

    @pytest.mark.parametrize("rectified", [False, True])
    def test_complexity_equals_quantus(self, quantus, rectified):
        one, maps = grey(), some_maps(3, 3, 1, 12, 8, rectified=rectified)
        same(complexity(maps), asked(made(quantus.Complexity, abs=True), one, maps))

    @pytest.mark.parametrize("ours", [sparseness, complexity])
    def test_zero_map_raises_in_quantus_and_equals_constant_map_here(self, quantus, ours):
        """Rectified maps may be zero throughout, and a batch is not to be lost for one of them."""
        one, maps = grey(), torch.zeros(3, 1, 12, 8)
        with pytest.raises(AssertionError, match="all equal to zero"):
            asked(made(getattr(quantus, ours.__name__.capitalize()), abs=True), one, maps)
        assert torch.equal(ours(maps), ours(torch.ones(3, 1, 12, 8)))

    @pytest.mark.parametrize("seed", range(3))
    def test_faithfulness_correlation_equals_quantus_on_the_same_pixels(self, quantus, seed, monkeypatch):
        """The same sets of single pixels are hidden: quantus is handed ours."""
        one, maps = grey(seed, probability=False), some_maps(seed, 3, 1, 12, 8)
        probes = probe(one.runner(), count=20, cells=(12, 8), share=0.25, fill="zero")
        sets = (np.flatnonzero(hidden) for hidden in probes.hidden.flatten(1).numpy() for _sample in range(3))
        metric = made(quantus.FaithfulnessCorrelation, nr_runs=20, subset_size=24, perturb_baseline=0.0, abs=False)
        monkeypatch.setattr(np.random, "choice", lambda *_args, **_settings: next(sets))
        same(faithfulness_correlation(maps, probes), asked(metric, one, maps))

    @pytest.mark.parametrize("at_once", [1, 6, 24])
    def test_pixel_flipping_is_the_curve_of_deletion_without_its_beginning(self, quantus, at_once):
        """The first value of quantus is that after the first step."""
        one, maps = grey(), some_maps(4, 3, 1, 12, 8)
        curves = asked(made(quantus.PixelFlipping, features_in_step=at_once, perturb_baseline=0.0), one, maps)
        with torch.no_grad():
            begin = softmaxed(one)(one.images).gather(1, one.classes).numpy()
        curves = np.concatenate([begin, np.array(curves)], 1)
        same(deletion(maps, one.runner(), steps=96 // at_once), [oracle.area(curve.tolist()) for curve in curves])

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_road_imputation_equals_quantus(self, quantus, share, monkeypatch):
        monkeypatch.setattr(imputation, "NOISE", 0.0)
        impute = peers.module("quantus.functions.perturb_func").noisy_linear_imputation
        image = metric_case().images[0].double()
        gone = torch.rand(1, 12, 8, generator=torch.Generator().manual_seed(3)) < share
        with peers.quiet():
            theirs = impute(image.numpy(), np.flatnonzero(gone.numpy()), noise=0.0)
        same(imputed(image, gone), theirs)


# --- pytorch-grad-cam --------------------------------------------------------------------------------------------


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package adds any."""
    monkeypatch.setattr(imputation, "NOISE", 0.0)
    road_of_theirs = peers.module("pytorch_grad_cam.metrics.road")
    monkeypatch.setattr(road_of_theirs.NoisyLinearImputer.__init__, "__defaults__", (0.0, None))


def grad_cam(kind: str, where: str, one: MetricCase, maps: Tensor, *settings: Any) -> Tensor:
    """Of maps from 0 to 1, [sample]."""
    choose = peers.module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    metric = getattr(peers.module(f"pytorch_grad_cam.metrics.{where}"), kind)(*settings)
    targets = [choose(target) for target in one.classes[:, 0].tolist()]
    with peers.quiet():
        return torch.from_numpy(metric(one.images, maps[:, 0].numpy(), targets, softmaxed(one))).double()


def unit(maps: Tensor) -> Tensor:
    """From 0 to 1, as that package has them."""
    low, high = (getattr(maps.flatten(1), end)(1).view(-1, 1, 1, 1) for end in ("amin", "amax"))
    return (maps - low) / (high - low)


@needs_grad_cam
class TestGradCam:
    @pytest.mark.parametrize("seed", range(3))
    def test_pytorch_grad_cam_drop_in_confidence_is_average_drop_times_the_score(self, seed):
        """The paper divides by the score of the whole image; pytorch-grad-cam leaves that out."""
        one, maps = metric_case(seed), unit(some_maps(seed, 3, 1, 12, 8))
        with torch.no_grad():
            before = softmaxed(one)(one.images).gather(1, one.classes).double()
        theirs = grad_cam("DropInConfidence", "cam_mult_image", one, maps)
        ours = average_drop(maps, one.runner(), fill="zero")
        same(ours * before, theirs)
        assert float((ours[:, 0] - theirs).abs().max()) > DISAGREES

    @pytest.mark.parametrize("seed", range(4))
    def test_increase_in_confidence_equals_pytorch_grad_cam(self, seed):
        """For every class, so that both outcomes occur."""
        maps, found = unit(some_maps(seed, 3, 1, 12, 8)), []
        for wanted in range(4):
            one = replace(metric_case(seed), classes=torch.full((3, 1), wanted))
            found.append(increase_in_confidence(maps, one.runner(), fill="zero")[:, 0])
            assert found[-1].tolist() == grad_cam("IncreaseInConfidence", "cam_mult_image", one, maps).tolist()
        assert set(torch.cat(found).tolist()) == {0, 1}

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_road_imputation_equals_pytorch_grad_cam(self, share, without_noise):
        """With the weights of the paper, and neighbours beyond the border left out."""
        image = metric_case().images[0]
        gone = torch.rand(1, 12, 8, generator=torch.Generator().manual_seed(3)) < share
        impute = peers.module("pytorch_grad_cam.metrics.road").NoisyLinearImputer()
        with peers.quiet():
            theirs = impute(image, (~gone[0]).float())
        same(imputed(image.double(), gone), theirs)

    @pytest.mark.parametrize("seed", range(3))
    def test_road_equals_twice_road_combined_of_pytorch_grad_cam(self, seed, without_noise):
        """On maps without ties, at shares of whole pixels."""
        one, maps = metric_case(seed), unit(some_maps(seed, 3, 1, 12, 8))
        theirs = grad_cam("ROADCombined", "road", one, maps, [25, 50, 75])
        same(road(maps, one.runner(), shares=[0.25, 0.5, 0.75]), 2 * theirs)

    def test_constant_map_removes_all_pixels_at_once(self, without_noise):
        """No pixel lies below the threshold; ours removes the requested number, at random."""
        imputer = SimpleNamespace(gone=[])

        def impute(image: Tensor, kept: Tensor) -> Tensor:
            imputer.gone.append(int((kept == 0).sum()))
            return image

        remove = peers.module("pytorch_grad_cam.metrics.perturbation_confidence").RemoveMostRelevantFirst(75, impute)
        remove(metric_case().images[0], torch.full((12, 8), 0.5))
        assert imputer.gone == [96]


# --- torchcam ----------------------------------------------------------------------------------------------------


class Given:
    """What torchcam's metrics ask for maps, and what gives ours."""

    def __init__(self, network: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = network, maps

    def __call__(self, *_args: Any, **_settings: Any) -> list[Tensor]:
        return [self.maps[:, 0].clone()]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


def torchcam(kind: str, one: MetricCase, maps: Tensor, **settings: Any) -> dict[str, float]:
    """Its means over samples."""
    package = peers.module("torchcam.metrics")
    metric = getattr(package, kind)(Given(one.network, maps), lambda logits: logits.softmax(1), **settings)
    with peers.quiet():
        metric.update(one.images, one.classes[:, 0].tolist())
    return metric.summary()


@needs_torchcam
class TestTorchcam:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("grid", [(12, 8), (6, 4), (3, 5)])
    def test_average_drop_and_increase_in_confidence_equal_torchcam(self, seed, grid):
        """The maximum lies at a corner, where upsampling keeps it; see below."""
        maps = some_maps(seed, 3, 1, *grid).relu()
        maps[..., 0, 0] = maps.flatten(1).amax(1).view(-1, 1) + 0.1
        maps = maps / maps[..., :1, :1]
        drops, increases = [], []
        for wanted in range(4):
            one = replace(metric_case(seed), classes=torch.full((3, 1), wanted))
            theirs = torchcam("ClassificationMetric", one, maps)
            drops.append((float(average_drop(maps, one.runner(), fill="zero").mean()), theirs["avg_drop"]))
            increases.append(float(increase_in_confidence(maps, one.runner(), fill="zero").mean()))
            assert increases[-1] == pytest.approx(theirs["conf_increase"])
        ours, theirs = zip(*drops, strict=True)
        same(torch.tensor(ours).double(), theirs)
        assert len(set(increases)) > 1

    def test_average_drop_differs_where_upsampling_lowers_the_maximum(self):
        """A cell of 1 between cells of 0 is below 1 at every pixel: torchcam shows no pixel unchanged."""
        one, maps = metric_case(), torch.zeros(3, 1, 3, 3)
        maps[:, :, 1, 1] = 1.0
        theirs = torchcam("ClassificationMetric", one, maps)["avg_drop"]
        ours = float(average_drop(maps, one.runner(), fill="zero").mean())
        shown = torch.nn.functional.interpolate(maps, (12, 8), mode="bilinear", align_corners=False)
        assert float(shown.max()) < 1
        assert abs(ours - theirs) > DISAGREES

    def test_average_drop_differs_by_min_normalization(self):
        """torchcam rescales maps from minimum to maximum, so that a map without zeros hides what ours shows."""
        one, maps = metric_case(), some_maps(1, 3, 1, 12, 8).abs() + 1.0
        stretch = peers.module("torchcam.methods.core")._CAM._normalize
        theirs = torchcam("ClassificationMetric", one, stretch(maps[:, 0].clone())[:, None])["avg_drop"]
        assert abs(float(average_drop(maps, one.runner(), fill="zero").mean()) - theirs) > DISAGREES
        shifted = maps - maps.flatten(1).amin(1).view(-1, 1, 1, 1)
        same(average_drop(shifted, one.runner(), fill="zero").mean().view(1), [theirs])

    @pytest.mark.parametrize("steps", [4, 24, 96])
    @pytest.mark.parametrize("grid", [(12, 8), (5, 3)])
    def test_deletion_and_insertion_equal_torchcam(self, grid, steps):
        """On maps without ties, in steps of whole pixels: torchcam removes ties in reading order."""
        one, maps = metric_case(), some_maps(5, 3, 1, *grid)
        if grid != (12, 8):  # beyond the outermost centres all is equal: a slope tells the order
            maps = torch.nn.functional.interpolate(maps, (12, 8), mode="bilinear", align_corners=False)
            maps = maps + torch.rand(12, 8, generator=torch.Generator().manual_seed(1)) * 1e-3
        theirs = torchcam("DeletionInsertionMetric", one, maps, steps=steps)
        same(deletion(maps, one.runner(), steps=steps).mean().view(1), [theirs["deletion_auc"]])
        ours = insertion(maps, one.runner(), steps=steps, start="zero").mean()
        same(ours.view(1), [theirs["insertion_auc"]])

    def test_ties_are_removed_in_reading_order_there_and_at_random_here(self):
        """With a network that reads the top rows, torchcam rewards a map of zeros."""
        weights = torch.zeros(2, 3, 12, 8)
        weights[1, :, :3] = 1.0
        network = nn.Sequential(nn.Flatten(), nn.Linear(288, 2, bias=False)).eval()
        network[1].weight.data.copy_(weights.flatten(1))
        one = MetricCase(network, torch.ones(3, 3, 12, 8), torch.ones(3, 1, dtype=torch.long))
        maps = torch.zeros(3, 1, 12, 8)
        theirs = torchcam("DeletionInsertionMetric", one, maps, steps=12)["deletion_auc"]
        ours = [float(deletion(maps, one.runner(), steps=12, seed=seed).mean()) for seed in range(10)]
        assert theirs < min(ours) - 0.2
