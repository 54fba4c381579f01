"""Where occlusion, Ablation-CAM and the Score-CAM family of other packages part from ours, and by what."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saywhy
from parity import peers
from parity.cases import CONVOLUTIONAL, Case, assert_same, build, unit
from parity.packages import grad_cam, torchcam

pytestmark = pytest.mark.nightly

needs_grad_cam = pytest.mark.skipif(not peers.available("pytorch_grad_cam"), reason="needs the package grad-cam")
needs_torchcam = pytest.mark.skipif(not peers.available("torchcam"), reason="needs the package torchcam")
needs_captum = pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")


@pytest.fixture(params=CONVOLUTIONAL)
def case(request) -> Case:
    return build(request.param)


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
    def test_equals_captum_where_windows_end_at_the_border(self, case, overlaps):
        side = case.inputs.shape[2]
        window, stride = (side // 3, side // 3) if not overlaps else (2 * (side // 6), side // 6)
        if (side - window) % stride:
            window, stride = 21, 14  # of 63 pixels
        assert (side - window) % stride == 0
        ours = case.maps("occlusion", window=window, stride=stride, fill="zero", score="logit")
        assert_same(ours, self.theirs(case, window, stride))

    def test_differs_from_captum_where_windows_cross_the_border(self, case):
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


@needs_grad_cam
class TestAblationCam:
    def test_weights_of_pytorch_grad_cam_depend_on_its_batch_size(self):
        """It sets a channel to the minimum of what it has just overwritten, less ten million: sample i of a batch gets
        i times as much. Ours sets it to zero, whatever the batch.
        """
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=4), nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )
        case = Case("negative", network, "1", torch.randn(1, 3, 32, 32), saywhy.Layout("channels-first", (8, 8)),
                    classes=(1,))  # fmt: skip
        kept: list[Tensor] = []
        for size in (1, 6):
            grad_cam("ablationcam", weights=kept, batch_size=size)(case)
        assert float((kept[1] / kept[0]).max()) > 2
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
    def test_equals_ours_with_aligned_corners(self, monkeypatch):
        """``UpsamplingBilinear2d`` aligns corners, the authors' code does not; the rest is the same equation."""
        case = build("squeezenet1_0")
        theirs = unit(grad_cam("scorecam")(case))
        ours = unit(case.maps("scorecam", relu=False))
        monkeypatch.setattr("saywhy.methods.scorecam.channel_masks", corners)
        assert_same(unit(case.maps("scorecam", relu=False)), theirs)
        assert float((ours - theirs).abs().max()) > 1e-4  # and that does make a difference


@needs_torchcam
class TestScoreCamOfTorchcam:
    @pytest.mark.slow
    def test_equals_ours_with_masks_normalised_before_upsampling(self, monkeypatch):
        case = build("squeezenet1_0")
        theirs = unit(torchcam("scorecam", batch_size=8)(case))
        monkeypatch.setattr("saywhy.methods.scorecam.channel_masks", stretched_first)
        assert_same(unit(case.maps("scorecam")), theirs)

    def test_sscam_equals_torchcam_on_average(self):
        """Their noise is drawn otherwise, so only the means agree."""
        torch.manual_seed(0)
        case = build("unpooled")
        theirs = torchcam("sscam", batch_size=8, num_samples=600, std=0.5)(case)
        assert_same(case.maps("sscam", num_samples=600, noise=0.5), theirs, rtol=0.02)
