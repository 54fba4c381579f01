"""Arguments that once were tracebacks: layers by number, layouts that do not fit, indices out of range, seeds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.errors import ImageError, InputError, LayerError, LayoutError, MethodError, TargetError

Build = Callable[..., Any]


@pytest.mark.parametrize("layer", [-1, 1.5, {"features"}, ["features", -1], b"features"])
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_a_layer_that_is_no_name_raises(tiny: Build, images: Build, layer: Any, method: str) -> None:
    with pytest.raises(LayerError, match=r"layer must be a dotted name.*saywhy\.layers"):
        saywhy.explain(tiny(), images(1), layer=layer, method=method)


class Windows(nn.Module):
    """Windows of 4 x 4 pixels in the batch, as in Swin; their mean is put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 5, 3, padding=1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        windows = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 4, 4)
        return self.head(self.inner(windows).relu().mean((2, 3)).reshape(batch, -1, 5).mean(1))


@pytest.mark.parametrize(
    "layout",
    [
        saywhy.Layout("channels-first", (4, 4)),
        saywhy.Layout("channels-last", (4, 4)),
        saywhy.Layout("tokens", (2, 2)),
        saywhy.Layout("nosuch", (4, 4)),  # type: ignore[arg-type]
        saywhy.Layout("tokens", (0, 0)),
        saywhy.Layout("tokens", ("a", 2)),  # type: ignore[arg-type]
        saywhy.Layout("tokens", 4),  # type: ignore[arg-type]
        saywhy.Layout("channels-first", (4, 4), batch_axis=7),
        "tokens",
    ],
)
def test_a_layout_that_does_not_fit_the_layer_raises(images: Build, layout: Any) -> None:
    with pytest.raises((LayoutError, InputError), match="layout"):
        saywhy.explain(Windows(), images(2, 8), 0, layer="inner", layout=layout)


@pytest.mark.parametrize("axes", [{"sample": 1}, {"sample": -2}, {"target": 2}, {"sample": 0.5}, {"target": "cat"}])
def test_an_overlay_of_no_map_raises(tiny: Build, images: Build, axes: Any) -> None:
    e = saywhy.explain(tiny(), images(1), [0, 1], relu=False)
    with pytest.raises(InputError, match=r"sample|target"):
        e.overlay(**axes)


@pytest.mark.parametrize(
    ("look", "error"),
    [
        ({"alpha": 2}, InputError), ({"threshold": "x"}, InputError), ({"scale": 3}, InputError),
        ({"opcity": 1}, InputError), ({"mark_peak": 3}, InputError), ({"method": 1}, MethodError),
        ({"layer": ["x"]}, LayerError),
    ],
)  # fmt: skip
def test_an_overlay_with_another_look_raises(tiny: Build, images: Build, look: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        saywhy.explain(tiny(), images(1), 0, relu=False).overlay(**look)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"seed": 2**64}, InputError), ({"seed": 10**400}, InputError), ({"batch_size": 2**64}, InputError),
        ({"create_graph": 2}, InputError), ({"keep_model": "no"}, InputError), ({"score": [1]}, TargetError),
        ({"output": 1.5}, InputError), ({"method": "rise", "masks": 2**31}, MethodError),
        ({"method": "occlusion", "fill": 1e308}, MethodError),
        ({"target": torch.zeros(1, dtype=torch.int64, device="meta")}, TargetError),
        ({"target": np.zeros((1, 1), dtype=object)}, TargetError),
    ],
)  # fmt: skip
def test_a_setting_beyond_all_limits_raises(tiny: Build, images: Build, settings: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        saywhy.explain(tiny(), images(1), **settings)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_an_image_without_pixels_raises(tiny: Build, size: tuple[int, int], mode: str) -> None:
    with pytest.raises(ImageError, match="has no pixels"):
        saywhy.explain(saywhy.load(tiny(), input_size=12), Image.new(mode, size))


@pytest.mark.parametrize(
    "kind",
    [lambda x: x.to("meta"), lambda x: x.to_sparse(), lambda x: x.to(torch.float8_e4m3fn), lambda x: [x.to("meta")]],
)
def test_a_tensor_without_plain_numbers_raises(tiny: Build, images: Build, kind: Build) -> None:
    with pytest.raises(InputError, match="must hold plain numbers"):
        saywhy.explain(tiny(), kind(images(1)))


def test_a_network_of_8_bit_floats_raises(tiny: Build, images: Build) -> None:
    with pytest.raises(InputError, match="must hold plain numbers"):
        saywhy.explain(tiny().to(torch.float8_e4m3fn), images(1))
