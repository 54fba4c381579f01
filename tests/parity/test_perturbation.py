"""Occlusion, Ablation-CAM, the Score-CAM family and linear models against captum, pytorch-grad-cam and torchcam, raw.

No package of the field that is installed here has RISE or Recipro-CAM; those have their oracles alone.
"""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saywhy
from oracles.networks import TinyNetwork
from parity import peers
from parity.cases import CONVOLUTIONAL, Case, build

needs_grad_cam = pytest.mark.skipif(not peers.available("pytorch_grad_cam"), reason="needs the package grad-cam")
needs_torchcam = pytest.mark.skipif(not peers.available("torchcam"), reason="needs the package torchcam")
needs_captum = pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")


@pytest.fixture(params=CONVOLUTIONAL)
def case(request) -> Case:
    return build(request.param)


def unit(maps: Tensor) -> Tensor:
    """Every map divided by its largest magnitude."""
    return maps.double() / maps.double().abs().flatten(1).amax(1)[:, None, None]


def assert_same(ours: Tensor, theirs: Tensor, rtol: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    largest = float(theirs.abs().max())
    assert largest > 0
    torch.testing.assert_close(ours, theirs.detach().to(ours), rtol=rtol, atol=rtol * largest)


@needs_captum
class TestOcclusion:
    """Captum gives a pixel the mean over the windows that cover it, as we do."""

    def theirs(self, case: Case, window: int, stride: int) -> Tensor:
        attribute = peers.module("captum.attr").Occlusion(case.network).attribute
        found = attribute(
            case.inputs, (3, window, window), (3, stride, stride), baselines=0, target=torch.tensor(case.classes)
        )
        return found[:, 0]

    @pytest.mark.parametrize("overlaps", [False, True])
    def test_where_windows_end_at_the_border(self, case, overlaps):
        side = case.inputs.shape[2]
        window, stride = (side // 3, side // 3) if not overlaps else (2 * (side // 6), side // 6)
        if (side - window) % stride:
            window, stride = 21, 14  # of 63 pixels
        assert (side - window) % stride == 0
        ours = case.maps("occlusion", window=window, stride=stride, fill="zero", score="logit")
        assert_same(ours, self.theirs(case, window, stride))

    def test_where_they_do_not(self, case):
        """Captum lets the last window hang over the border, where it hides less; ours moves back and hides as much."""
        side = case.inputs.shape[2]
        window, stride = 40, 20
        assert (side - window) % stride != 0
        ours = case.maps("occlusion", window=window, stride=stride, fill="zero", score="logit")
        theirs = self.theirs(case, window, stride)
        covered_alike = min(a for a in range(0, side, stride) if a + window > side)
        covered_alike = min(covered_alike, side - window)
        assert_same(ours[:, :covered_alike, :covered_alike], theirs[:, :covered_alike, :covered_alike])
        assert float((ours - theirs)[:, -1].abs().amax()) > 1e-3 * float(theirs.abs().amax())


def grad_cam(kind: str, case: Case, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Weights [batch, channel] and signed maps of pytorch-grad-cam before it rescales them."""
    package, targets = peers.module("pytorch_grad_cam"), peers.module("pytorch_grad_cam.utils.model_targets")
    kept: list[Any] = []

    class Raw(getattr(package, kind)):  # type: ignore[misc]
        def get_cam_weights(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_cam_weights(*args, **kwargs)
            kept.append(torch.as_tensor(found))
            return found

        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            found = super().get_cam_image(*args, **kwargs)
            kept.append(torch.as_tensor(found))
            return found

    mine = copy.deepcopy(case.network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Raw(mine, [mine.get_submodule(case.layer)], reshape_transform=case.reshape) as cam:
            if batch_size is not None:
                cam.batch_size = batch_size
            cam(case.inputs.clone(), [targets.ClassifierOutputTarget(c) for c in case.classes])
    return kept[0], kept[1]


@needs_grad_cam
class TestAblationCam:
    def test_as_pytorch_grad_cam(self, case):
        """Layers that end in a rectifier, which is where it sets a channel to zero as the paper does."""
        _, theirs = grad_cam("AblationCAM", case)
        assert_same(case.maps("ablationcam", relu=False, divisor="score"), theirs)

    def test_its_weights_depend_on_its_batch_size_where_activations_are_negative(self):
        """It sets a channel to the minimum of what it has just overwritten, less ten million: sample i of a batch gets
        i times as much. Ours sets it to zero, whatever the batch.
        """
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=4), nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )
        case = Case("negative", network, "1", torch.randn(1, 3, 32, 32), saywhy.Layout("channels-first", (8, 8)),
                    classes=(1,))  # fmt: skip
        alone, _ = grad_cam("AblationCAM", case, batch_size=1)
        together, _ = grad_cam("AblationCAM", case, batch_size=6)
        assert float((together / alone).max()) > 2
        ours = [case.maps("ablationcam", relu=False, batch_size=size) for size in (1, 6)]
        assert_same(*ours)


def corners(channels: Tensor, space: Any) -> Tensor:
    """Masks as pytorch-grad-cam makes them: corner cells lie on the corner pixels."""
    large = F.interpolate(channels.unsqueeze(1), tuple(space), mode="bilinear", align_corners=True).squeeze(1)
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low + 1e-8)


def stretched_first(channels: Tensor, space: Any) -> Tensor:
    """Masks as torchcam makes them: stretched to the range from 0 to 1 before they are upsampled, not after."""
    low, high = channels.amin((1, 2), keepdim=True), channels.amax((1, 2), keepdim=True)
    small = (channels - low) / (high - low + 1e-8)
    return F.interpolate(small.unsqueeze(1), tuple(space), mode="bilinear", align_corners=False).squeeze(1)


@needs_grad_cam
@pytest.mark.slow
class TestScoreCamOfPytorchGradCam:
    def test_the_same_but_for_where_the_corners_lie(self, case, monkeypatch):
        """``UpsamplingBilinear2d`` aligns corners, the authors' code does not; the rest is the same equation."""
        theirs = unit(grad_cam("ScoreCAM", case)[1])
        ours = unit(case.maps("scorecam", relu=False))
        monkeypatch.setattr("saywhy.methods.masked.masks_of", corners)
        assert_same(unit(case.maps("scorecam", relu=False)), theirs)
        assert float((ours - theirs).abs().max()) > 1e-4  # and that does make a difference


def torchcam(kind: str, case: Case, **settings: Any) -> Tensor:
    mine = copy.deepcopy(case.network)
    with getattr(peers.module("torchcam.methods"), kind)(mine, case.layer, batch_size=8, **settings) as cam:
        scores = mine(case.inputs.clone())
        return cam(list(case.classes), scores, normalized=False)[0].detach()


@needs_torchcam
class TestScoreCamOfTorchcam:
    @pytest.fixture(params=["resnet18", "squeezenet1_0", "mobilenet_v2"])
    def small(self, request) -> Case:
        """Fewer channels: the family asks for one pass for each, and for every step."""
        return build(request.param)

    @pytest.mark.slow
    def test_the_same_but_for_when_masks_are_stretched(self, small, monkeypatch):
        theirs = unit(torchcam("ScoreCAM", small))
        monkeypatch.setattr("saywhy.methods.masked.masks_of", stretched_first)
        assert_same(unit(small.maps("scorecam")), theirs)

    def tiny(self) -> Case:
        """A map of the picture's own size is upsampled by nobody, so that nothing of ours is changed here."""
        network = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 10)
        )
        return Case("tiny", network, "1", torch.randn(2, 3, 12, 12), saywhy.Layout("channels-first", (12, 12)))

    def test_scorecam_where_nothing_is_upsampled(self):
        torch.manual_seed(0)
        case = self.tiny()
        assert_same(case.maps("scorecam"), torchcam("ScoreCAM", case))

    def test_iscam_adds_its_masks_up(self):
        torch.manual_seed(0)
        case = self.tiny()
        theirs = torchcam("ISCAM", case, num_samples=4)
        assert_same(case.maps("iscam", steps=4, scale="cumulative"), theirs)
        assert float((case.maps("iscam", steps=4) - theirs).abs().max()) > 1e-4 * float(theirs.max())

    def test_sscam_with_hardly_any_noise(self):
        torch.manual_seed(0)
        case = self.tiny()
        assert_same(case.maps("sscam", draws=2, noise=1e-7), torchcam("SSCAM", case, num_samples=2, std=1e-7))

    def test_sscam_comes_to_the_same_with_noise(self):
        """Their noise is drawn otherwise, so only the means agree."""
        torch.manual_seed(0)
        case = self.tiny()
        ours, theirs = case.maps("sscam", draws=600, noise=0.5), torchcam("SSCAM", case, num_samples=600, std=0.5)
        assert_same(ours, theirs, rtol=0.02)


@needs_captum
@pytest.mark.parametrize("build_network", [
    lambda: build("resnet18").network, lambda: build("mobilenet_v2").network, lambda: TinyNetwork.build(classes=10),
], ids=["resnet18", "mobilenet_v2", "tiny"])  # fmt: skip
class TestLinearModels:
    """Captum's own fit of the same pictures. It fits in float32, with scikit-learn."""

    DRAWS, CELLS, TARGET = 40, 3, 3

    def both(self, network: nn.Module, name: str, **settings: Any) -> tuple[Tensor, Tensor]:
        pytest.importorskip("sklearn", reason="captum fits with scikit-learn")
        attr = peers.module("captum.attr")
        linear = peers.module("captum._utils.models.linear_model")
        x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))
        place = torch.arange(96) * self.CELLS // 96
        parts = place[:, None] * self.CELLS + place

        def near(_x: Tensor, _altered: Tensor, shown: Tensor, **_: Any) -> Tensor:
            return torch.exp(-((1 - shown.double().mean(1).sqrt()) ** 2) / (2 * 0.25**2))

        if name == "lime":
            explainer = attr.Lime(network, interpretable_model=linear.SkLearnRidge(alpha=1.0), similarity_func=near)
        else:
            explainer = attr.KernelShap(network)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            theirs = explainer.attribute(
                x, baselines=1.0, target=self.TARGET, feature_mask=parts[None, None], n_samples=self.DRAWS
            )[:, 0]
        ours = saywhy.explain(
            network, x, self.TARGET, name, draws=self.DRAWS, cells=self.CELLS, fill=1.0, score="logit", **settings
        )
        return ours.maps[:, 0], theirs

    def test_kernelshap(self, build_network):
        """Theirs gives the whole and the empty picture a million times the weight in float32, which costs digits."""
        assert_same(*self.both(build_network(), "kernelshap"), rtol=2e-3)

    def test_lime(self, build_network):
        assert_same(*self.both(build_network(), "lime"))
