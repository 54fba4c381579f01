"""What a refusal says is true of the network that is refused."""

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError, LayoutError, WeightsError


class Frames(nn.Module):
    """A network of one frame, run on every frame of a video [batch, channel, time, h, w] or [time, batch, ...]."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.head = how, nn.Linear(8, 3)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "vmap":
            return self.head(torch.func.vmap(self.net, in_dims=2, out_dims=1)(x).mean((1, 3, 4)))
        frames = x.unbind(2) if self.how == "slices" else x.unbind(0)
        return self.head(torch.stack([self.net(frame).mean((2, 3)) for frame in frames]).mean(0))


@pytest.mark.parametrize("how", ["slices", "vmap"])
def test_a_network_of_frames_has_maps_of_a_frame(how):
    with pytest.raises(LayoutError, match=r"layer 'net(\.1)?' gives 1×8×16×16, which lacks an axis of the image"):
        saywhy.explain(Frames(how).eval(), torch.randn(1, 3, 4, 32, 32), 0)


def test_time_first_is_named_with_as_many_axes_as_there_are():
    with pytest.raises(InputError, match="axes='t b c h w'"):
        saywhy.explain(Frames("time first").eval(), torch.randn(4, 2, 3, 32, 32), 0)


class Masked(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.features, self.head = value, nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).relu().mean((2, 3))).index_fill(1, torch.tensor([3]), self.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-torch.inf, r"-infinity for 1 of 5 classes \(the first is class 3\)"),
        (torch.nan, "infinite for 1 of 5 classes"),
    ],
)
def test_scores_that_are_not_finite_are_named(value, said):
    with pytest.raises(WeightsError, match=said):
        saywhy.explain(Masked(value).eval(), torch.randn(2, 3, 32, 32), 0)
    assert saywhy.explain(Masked(-1e4).eval(), torch.randn(2, 3, 32, 32), 0).maps.any()
