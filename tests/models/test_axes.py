"""Axes of inputs: frames, views, tiles, time series, waveforms, spectrograms, found or declared, with known truth."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError
from saywhy.targets import Class

METHODS = ("gradcam", "hirescam", "saliency", "occlusion")


class Bright(nn.Module):
    """Two numbers for every image [n, channel, h, w]: how much of it is bright, and zero."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)
        nn.init.constant_(self.conv.weight, 1 / (9 * channels))
        nn.init.constant_(self.conv.bias, -0.3)
        self.conv.weight.data[1], self.conv.bias.data[1] = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3))


class Frames(nn.Module):
    """Frames [batch, time, channel, h, w], each by itself; ``sequence_first`` folds as (time, batch)."""

    def __init__(self, channels: int = 3, sequence_first: bool = False) -> None:
        super().__init__()
        self.image, self.sequence_first = Bright(channels), sequence_first

    def forward(self, x: Tensor) -> Tensor:
        if self.sequence_first:
            x = x.transpose(0, 1)
        found = self.image(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return found.mean(0 if self.sequence_first else 1)


class GreyViews(nn.Module):
    """Views [batch, view, h, w] without an axis of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(x.unsqueeze(2))


class ChannelsLast(nn.Module):
    """Images [batch, h, w, channel]."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Bright()

    def forward(self, x: Tensor) -> Tensor:
        return self.image(x.permute(0, 3, 1, 2))


class Series(nn.Module):
    """Time series [batch, time, variable] through a convolution over time."""

    def __init__(self, variables: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(variables, 2, 3, padding=1)
        nn.init.constant_(self.conv.weight, 1 / (3 * variables))
        nn.init.constant_(self.conv.bias, -0.3)
        self.conv.weight.data[1], self.conv.bias.data[1] = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).relu().mean(2)


class Recurrent(nn.Module):
    """Time series [batch, time, variable] through an LSTM, all steps averaged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


class Attending(nn.Module):
    """Time series [batch, time, variable] through a transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(5, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


class Wave(nn.Module):
    """Waveforms [batch, sample]: how large they are anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 9, stride=4, padding=4)
        nn.init.constant_(self.conv.weight, 1 / 9)
        nn.init.constant_(self.conv.bias, -0.3)
        self.conv.weight.data[1], self.conv.bias.data[1] = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.unsqueeze(1)).relu().mean(2)


class Spectrogram(nn.Module):
    """Spectrograms [batch, time, mel] as images of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Bright(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.image(x.unsqueeze(1))


class Bag(nn.Module):
    """One bag [tile, channel, h, w], one output [1, class]; ``flat`` gives [class]."""

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.image, self.flat = Bright(), flat

    def forward(self, x: Tensor) -> Tensor:
        found = self.image(x).mean(0, keepdim=True)
        return found[0] if self.flat else found


def settings(method: str, *window: int) -> dict[str, Any]:
    """The method, and the window of occlusion, without overlap."""
    return {"method": method, "window": window, "stride": window} if method == "occlusion" else {"method": method}


def frames(count: int = 1, *, time: int = 6, at: tuple[int, int, int] = (4, 3, 12)) -> Tensor:
    """Frames [count, time, 3, 16, 16], dark but for one place (frame, row, column)."""
    x = torch.rand(count, time, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.01
    t, row, column = at
    x[:, t, :, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    return x


def peak(one: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in torch.unravel_index(one.argmax(), one.shape))


def assert_peak_near(one: Tensor, truth: tuple[int, ...], off: int = 1) -> None:
    found = peak(one)
    assert len(found) == len(truth)
    assert all(abs(a - b) <= off for a, b in zip(found, truth, strict=True)), (found, truth)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [None, "b t c h w"])
def test_frames_in_the_batch_get_an_axis_of_their_own(method: str, axes: str | None) -> None:
    e = saywhy.explain(Frames(), frames(), target=0, axes=axes, **settings(method, 1, 4, 4))
    assert e.maps.shape == (1, 1, 6, 16, 16)
    assert peak(e.maps[0, 0])[0] == 4
    assert_peak_near(e.maps[0, 0], (4, 3, 12), off=3)


@pytest.mark.parametrize("method", METHODS)
def test_frames_folded_before_the_batch_stay_with_their_sample(method: str) -> None:
    x = torch.cat([frames(at=(4, 3, 12)), frames(at=(1, 10, 5)), frames(at=(0, 8, 8))])
    e = saywhy.explain(
        Frames(sequence_first=True), x, target=[Class(0), Class(0) - Class(1)], **settings(method, 1, 4, 4)
    )
    assert e.maps.shape == (3, 2, 6, 16, 16)
    for maps, truth in zip(e.maps, [(4, 3, 12), (1, 10, 5), (0, 8, 8)], strict=True):
        assert peak(maps[0])[0] == truth[0]
        assert_peak_near(maps[0], truth, off=3)


@pytest.mark.parametrize(
    "method",
    [
        *METHODS,
        "gradcam++",
        "layercam",
        "scorecam",
        "ablationcam",
        "eigencam",
        pytest.param("reciprocam", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("sequence_first", [False, True])
def test_frames_of_a_batch_equal_those_of_single_samples(method: str, sequence_first: bool) -> None:
    network = Frames(sequence_first=sequence_first)
    x = torch.cat([frames(at=(4, 3, 12)), frames(at=(1, 10, 5))])
    both = saywhy.explain(network, x, target=0, **settings(method, 1, 4, 4))
    parts = saywhy.explain(network, x, target=0, batch_size=1, **settings(method, 1, 4, 4))
    torch.testing.assert_close(both.maps, parts.maps, atol=1e-5, rtol=1e-4)
    for i in range(2):
        one = saywhy.explain(network, x[i : i + 1], target=0, **settings(method, 1, 4, 4))
        torch.testing.assert_close(both.maps[i : i + 1], one.maps, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [None, "b v h w"])
def test_grey_views_are_no_channels(method: str, axes: str | None) -> None:
    e = saywhy.explain(GreyViews(), frames().mean(2), target=0, axes=axes, **settings(method, 1, 4, 4))
    assert e.maps.shape == (1, 1, 6, 16, 16)
    assert peak(e.maps[0, 0])[0] == 4


@pytest.mark.parametrize("method", METHODS)
def test_images_with_channels_last_are_read_as_such(method: str) -> None:
    x = frames()[:, 4]
    e = saywhy.explain(ChannelsLast(), x.permute(0, 2, 3, 1), target=0, method=method)
    other = saywhy.explain(Bright(), x, target=0, method=method)
    torch.testing.assert_close(e.maps, other.maps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [None, "b t c", "batch time variables"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_of_a_time_series_lie_over_time(method: str, axes: str | None, count: int) -> None:
    x = torch.zeros(count, 20, 5) + 0.01
    x[:, 12:15] = 1.0
    e = saywhy.explain(Series(), x, target=0, method=method, axes=axes)
    assert e.maps.shape == (count, 1, 20)
    for maps in e.maps:
        assert_peak_near(maps[0], (13,), off=0 if method == "gradcam" else 2)


@pytest.mark.parametrize("network", [Recurrent(), Attending()], ids=["lstm", "transformer"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_saliency_of_a_sequence_network_is_the_gradient_over_time(network: nn.Module, count: int) -> None:
    x = torch.rand(count, 20, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (expected,) = torch.autograd.grad(network.eval()(x)[:, 0].sum(), x)
    e = saywhy.explain(network, x.detach(), target=0, method="saliency")
    torch.testing.assert_close(e.maps[:, 0], expected.abs().amax(2))


@pytest.mark.parametrize("network", [Recurrent(), Attending()], ids=["lstm", "transformer"])
def test_layer_of_a_sequence_network_is_a_map_over_time(network: nn.Module) -> None:
    x = torch.rand(2, 20, 5, generator=torch.Generator().manual_seed(1))
    e = saywhy.explain(network, x, target=0, method="hirescam", relu=False)
    assert e.maps.shape == (2, 1, 20)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [None, "b l"])
def test_waveform_gets_a_map_over_its_samples(method: str, axes: str | None) -> None:
    x = torch.rand(2, 400, generator=torch.Generator().manual_seed(0)) * 0.01
    x[:, 300:309] = 1.0
    e = saywhy.explain(Wave(), x, target=0, method=method, axes=axes)
    length = e.maps.shape[2]
    assert length in (100, 400)
    assert_peak_near(e.maps[0, 0], (304 * length // 400,), off=8 if length == 100 else 30)
    assert e.heatmap().shape == (2, 1, 400)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [None, "b t f"])
@pytest.mark.parametrize("count", [1, 3])
def test_spectrogram_gets_a_map_over_time_and_frequency(method: str, axes: str | None, count: int) -> None:
    x = torch.rand(count, 24, 16, generator=torch.Generator().manual_seed(0)) * 0.01
    x[:, 19:22, 4:7] = 1.0
    e = saywhy.explain(Spectrogram(), x, target=0, method=method, axes=axes)
    assert e.maps.shape == (count, 1, 24, 16)
    assert_peak_near(e.maps[0, 0], (20, 5), off=2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("flat", [False, True])
def test_declared_bag_of_tiles_is_one_sample(method: str, flat: bool) -> None:
    e = saywhy.explain(Bag(flat), frames()[0], target=0, axes="tile c h w", **settings(method, 1, 4, 4))
    assert e.maps.shape == (1, 1, 6, 16, 16)
    assert peak(e.maps[0, 0])[0] == 4


def test_undeclared_bag_of_tiles_is_refused_with_its_declaration() -> None:
    with pytest.raises(InputError, match=r"one output for 6 rows.*axes='tile c h w'"):
        saywhy.explain(Bag(), frames()[0], target=0)


def test_default_window_hides_one_tile_at_a_time() -> None:
    x = torch.rand(21, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.01
    x[13] = 1.0
    e = saywhy.explain(Bag(), x, target=0, method="occlusion", axes="tile c h w", fill="zero")
    assert e.maps[0, 0].flatten(1).amax(1).nonzero().flatten().tolist() == [13]


def test_bag_gives_the_same_maps_as_its_network_run_by_hand() -> None:
    x = frames()[0].requires_grad_()
    (expected,) = torch.autograd.grad(Bag()(x)[:, 0].sum(), x)
    e = saywhy.explain(Bag(), x.detach(), target=0, method="saliency", axes="tile c h w")
    torch.testing.assert_close(e.maps[0, 0], expected.abs().amax(1))


class EarlyFusion(nn.Module):
    """Frames [batch, time, channel, h, w] stacked as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(18, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.flatten(1, 2)).mean((2, 3))


def test_frames_stacked_as_channels_are_refused_with_their_declaration() -> None:
    with pytest.raises(InputError, match=r"which axis of \[1, 6, 3, 16, 16\] holds the channels.*axes='b t c h w'"):
        saywhy.explain(EarlyFusion(), frames(), target=0)
    e = saywhy.explain(EarlyFusion(), frames(), target=0, method="saliency", axes="b t c h w")
    assert e.maps.shape == (1, 1, 6, 16, 16)


def test_flattened_series_is_refused_with_its_declaration() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(100, 2))
    with pytest.raises(InputError, match=r"axes='b t c'.*axes='b c t'"):
        saywhy.explain(network, torch.rand(2, 20, 5), target=0, method="saliency")
    e = saywhy.explain(network, torch.rand(2, 20, 5), target=0, method="saliency", axes="b t c")
    assert e.maps.shape == (2, 1, 20)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("b t c h", ["names 4 axes", "has 5", "[1, 6, 3, 16, 16]"]),
        ("b t c h q", ["'q' is no axis", "t (frame)"]),
        ("b t t h w", ["once"]),
        ("b hight w c t", ["'hight'", "'height'"]),
        (7, ["'b t c h w'", "int"]),
    ],
)
def test_wrong_declaration_raises(axes: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        saywhy.explain(Frames(), frames(), target=0, axes=axes)
    for word in words:
        assert word in str(caught.value)


def test_layout_with_frames_in_the_batch_may_be_given() -> None:
    layout = saywhy.Layout("channels-first", (6, 16, 16), folded=1)
    given = saywhy.explain(Frames(), frames(), target=0, layer="image.conv", layout=layout)
    torch.testing.assert_close(given.maps, saywhy.explain(Frames(), frames(), target=0).maps)


def test_declaration_may_stand_on_the_model() -> None:
    model = saywhy.load(Frames(), axes="b t c h w")
    assert saywhy.explain(model, frames(), target=0).maps.shape == (1, 1, 6, 16, 16)


def test_axes_of_a_result_have_names() -> None:
    e = saywhy.explain(Frames(), frames(), target=0, axes="b v c h w")
    assert e.images[0].axes == ("view", "height", "width")


def test_pixels_to_255_warn_and_say_what_is_expected() -> None:
    with pytest.warns(saywhy.SaywhyWarning, match=r"from 0 to 255.*Divide by 255"):
        saywhy.explain(Bright(), frames()[:, 4].mul(255).round(), target=0)


def test_pixels_to_255_of_a_model_with_preprocessing_warn() -> None:
    with pytest.warns(saywhy.SaywhyWarning, match=r"preprocessing gives"):
        saywhy.explain(saywhy.load(Bright(), input_size=16), frames()[:, 4] * 254.7, target=0)


class Rescaling(nn.Module):
    """A network that takes pixels from 0 to 255 and rescales them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Bright()

    def forward(self, x: Tensor) -> Tensor:
        return self.image(x / 255)


def test_pixels_to_255_do_not_warn_where_the_network_rescales() -> None:
    saywhy.explain(Rescaling(), frames()[:, 4].mul(255).round(), target=0)


def test_png_and_page_show_a_row_of_frames(tmp_path: Path) -> None:
    e = saywhy.explain(Frames(), frames(), target=0, axes="b v c h w")
    e.save(tmp_path / "views.png")
    e.save(tmp_path / "views.html")
    assert "6 views" in (tmp_path / "views.html").read_text()


def test_png_of_maps_of_four_axes_is_refused_in_a_sentence(tmp_path: Path) -> None:
    x = frames(time=4, at=(2, 3, 12)).unflatten(1, (2, 2))
    network = nn.Sequential(nn.Flatten(1, 2), Frames())
    e = saywhy.explain(network, x, target=0, method="gradcam", axes="b v t c h w")
    assert e.maps.shape == (1, 1, 2, 2, 16, 16)
    with pytest.raises(InputError, match=r"one, two or three axes.*\.npz"):
        e.save(tmp_path / "views.png")


def test_layer_map_over_an_axis_that_is_mixed_as_channels_is_refused() -> None:
    x = torch.rand(2, 24, 5)
    with pytest.raises(InputError, match=r"mixes the axis 'f' as channels"):
        saywhy.explain(Series(), x, target=0, axes="b t f")
    assert saywhy.explain(Series(), x, target=0, method="saliency", axes="b t f").maps.shape == (2, 1, 24, 5)


def test_declaration_that_the_network_contradicts_is_told() -> None:
    with pytest.raises(InputError, match=r"mixes the axis 't' as channels"):
        saywhy.explain(Frames(), frames(), target=0, axes="b c t h w")
    with pytest.warns(saywhy.SaywhyWarning, match=r"mixes the axis 't'.*order of the axes"):
        saywhy.explain(Frames(), frames(), target=0, method="saliency", axes="b c t h w")


class Patches(nn.Module):
    """Time series [batch, time, variable] in patches, each variable by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x.transpose(1, 2).unflatten(2, (-1, 8))).relu().mean((1, 2)))


def test_series_of_independent_variables_gets_a_map_over_both() -> None:
    e = saywhy.explain(Patches(), torch.rand(2, 32, 3), target=0, method="saliency")
    assert e.maps.shape == (2, 1, 32, 3)


class ScaledPatches(Patches):
    """The same after each variable is standardised over time, which makes every patch depend on all of the series."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True))


def test_standardised_series_is_not_read_as_channels_of_time() -> None:
    e = saywhy.explain(ScaledPatches(), torch.rand(2, 32, 3), target=0, method="saliency")
    assert e.maps.shape == (2, 1, 32, 3)


class SequenceFirst(nn.Module):
    """Time series [time, batch, variable]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(5, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(0))


def test_batch_on_the_second_axis_is_refused_or_declared() -> None:
    x = torch.rand(20, 3, 5)
    with pytest.raises(InputError, match=r"not for the 20 of axis 0.*axes="):
        saywhy.explain(SequenceFirst(), x, target=0, method="saliency")
    e = saywhy.explain(SequenceFirst(), x, target=0, method="saliency", axes="t b c")
    assert e.maps.shape == (3, 1, 20)


def test_axes_of_the_input_are_in_the_provenance() -> None:
    def axes(network: nn.Module, x: Tensor, declared: str | None) -> object:
        return saywhy.explain(network, x, target=0, method="saliency", axes=declared).provenance["axes"]

    waveform = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    assert axes(Wave(), waveform, None) == {"names": "b l", "declared": False}
    assert axes(Wave(), waveform, "b l") == {"names": "b l", "declared": True}
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert axes(plain, torch.rand(1, 3, 8, 8), None) is None
