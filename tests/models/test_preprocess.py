"""From an image to what the network is fed and back: the geometry, measured and inverted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms import v2

import saywhy
from saywhy import Preprocess
from saywhy.errors import ImageError
from saywhy.models.preprocess import MeasuredPreprocess

sides = st.integers(8, 900)


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def assert_near(found: Any, wanted: Any, tolerance: float = 0.5) -> None:
    assert np.abs(np.subtract(found, wanted)).max() <= tolerance, f"{found} is not {wanted}"


# --- Preprocess --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (256, 256), (31, 500), (224, 224), (90, 60)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocess_equals_torchvision_transforms(size: tuple[int, int], interpolation: Any) -> None:
    theirs = v2.Compose(
        [v2.Resize(72, v2.InterpolationMode(interpolation)), v2.CenterCrop(64), v2.ToImage(),
         v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))]
    )  # fmt: skip
    ours = Preprocess(72, (64, 64), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation)
    torch.testing.assert_close(ours(noise(*size))[0], theirs(noise(*size)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (21, 64), (65, 40), (100, 10)])
def test_images_smaller_than_the_crop_are_padded_as_in_torchvision(size: tuple[int, int]) -> None:
    ours, crop_box = Preprocess(None, (64, 64), (0, 0, 0), (1, 1, 1))(noise(*size))
    torch.testing.assert_close(ours, v2.functional.center_crop(to_tensor(noise(*size)), [64, 64]))
    assert crop_box[2] - crop_box[0] == crop_box[3] - crop_box[1] == 64
    assert MeasuredPreprocess(lambda i: v2.functional.center_crop(to_tensor(i), [64, 64]))(noise(*size))[1] == (
        pytest.approx(crop_box, abs=0.5)
    )


def test_images_up_to_largest_are_not_resized() -> None:
    small = Preprocess(224, (224, 224), largest=256)
    assert small(noise(32, 48))[0].shape == (3, 48, 32)
    assert small(noise(257, 300))[0].shape == (3, 224, 224)


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_extremely_narrow_image_raises(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="before it is cropped"):
        Preprocess(256)(Image.new("RGB", size))


def test_one_pixel_image_is_preprocessed() -> None:
    tensor, crop_box = Preprocess()(Image.new("RGB", (1, 1), "white"))
    assert tensor.shape == (3, 224, 224)
    assert_near(crop_box, (0.0625, 0.0625, 0.9375, 0.9375), 1e-6)


# --- MeasuredPreprocess recovers what is known -------------------------------------------------------------------


@pytest.mark.slow
@given(width=sides, height=sides)
@settings(max_examples=25, deadline=None)
def test_resize_and_crop_are_measured(width: int, height: int) -> None:
    known = Preprocess(72, (64, 56))
    _, wanted = known(noise(width, height))
    _, found = MeasuredPreprocess(lambda image: known(image)[0])(noise(width, height))
    assert_near(found, wanted)


@pytest.mark.slow
@given(width=sides, height=sides)
@settings(max_examples=25, deadline=None)
def test_squashing_is_measured(width: int, height: int) -> None:
    _, found = MeasuredPreprocess(lambda image: to_tensor(image.resize((64, 48))) * 3 - 1)(noise(width, height))
    assert_near(found, (0, 0, width, height))


@given(width=sides, height=sides)
@settings(max_examples=25, deadline=None)
def test_padding_to_a_square_is_measured(width: int, height: int) -> None:
    # A thread leaves too few columns to measure by.
    assume(min(width, height) >= 16 and max(width, height) <= 4 * min(width, height))

    def letterbox(image: Image.Image) -> Tensor:
        side = max(image.size)
        square = Image.new("RGB", (side, side), (120, 110, 100))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return (to_tensor(square.resize((64, 64), Image.Resampling.BILINEAR)) - 0.4) / 0.2

    _, found = MeasuredPreprocess(letterbox)(noise(width, height))
    side = max(width, height)
    left, top = -((side - width) // 2), -((side - height) // 2)
    # Half a pixel of the original, or of the input where that is the coarser one.
    assert_near(found, (left, top, left + side, top + side), max(0.5, 0.5 * side / 64))


@given(left=st.integers(0, 60), top=st.integers(0, 60), width=st.integers(20, 200), height=st.integers(20, 200))
@settings(max_examples=25, deadline=None)
def test_a_crop_off_the_centre_is_measured(left: int, top: int, width: int, height: int) -> None:
    crop = (left, top, left + width, top + height)
    _, found = MeasuredPreprocess(lambda image: to_tensor(image.crop(crop)))(noise(300, 280))
    assert_near(found, crop)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: 1 - t,
        lambda t: t.flip(0) * 255,
        lambda t: t.mean(0, keepdim=True),
        lambda t: torch.cat([torch.zeros_like(t[:1]), t[1:]]),
        lambda t: t.half(),
        lambda t: t.double(),
    ],
    ids=["negative", "bgr", "grey", "a dead channel", "half", "double"],
)
def test_crop_box_is_measured_despite_changed_colours(change: Callable[[Tensor], Tensor]) -> None:
    measured = MeasuredPreprocess(lambda image: change(to_tensor(ImageOps.fit(image, (50, 50)))))
    assert_near(measured(noise(200, 100))[1], (50, 0, 150, 100))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_crop_box_of_one_pixel_wide_image_is_the_image(size: tuple[int, int]) -> None:
    measured = MeasuredPreprocess(lambda image: to_tensor(image.resize((16, 16))))
    assert_near(measured(Image.new("RGB", size, "teal"))[1], (0, 0, *size))


def test_crop_box_of_constant_preprocessing_is_the_image() -> None:
    assert MeasuredPreprocess(lambda _: torch.zeros(3, 8, 8))(noise(30, 20))[1] == (0, 0, 30, 20)


def test_each_size_is_measured_once() -> None:
    calls = []

    def counted(image: Image.Image) -> Tensor:
        calls.append(image.size)
        return to_tensor(image)

    measured = MeasuredPreprocess(counted)
    for _ in range(5):
        measured(noise(30, 20))
    assert len(calls) == 5 + 4


# --- and back: what the map shows lies where it is in the original -----------------------------------------------


class Brightness(nn.Module):
    """One cell for every 8 × 8 pixels, as bright as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 8, stride=8, bias=False)
        nn.init.constant_(self.features.weight, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).flatten(1).sum(1, keepdim=True)


def letterboxed(image: Image.Image) -> Tensor:
    return to_tensor(ImageOps.pad(image, (128, 128), Image.Resampling.BILINEAR))


WAYS: dict[str, Any] = {
    "resize and crop": Preprocess(144, (128, 128), (0, 0, 0), (1, 1, 1)),
    "squash": Preprocess((128, 128), (128, 128), (0, 0, 0), (1, 1, 1)),
    "crop alone": Preprocess(None, (128, 128), (0, 0, 0), (1, 1, 1)),
    "pad": Preprocess(None, (640, 640), (0, 0, 0), (1, 1, 1)),
    "measured, cropped": lambda image: to_tensor(ImageOps.fit(image, (128, 128))),
    "measured, padded": letterboxed,
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [(400, 260), (260, 400), (300, 300)])
@pytest.mark.parametrize("way", WAYS)
def test_peak_and_box_locate_a_bright_square(way: str, size: tuple[int, int]) -> None:
    width, height = size
    x, y = width // 2 + 21, height // 2 - 30
    image = Image.new("RGB", size)
    image.paste("white", (x - 12, y - 12, x + 12, y + 12))
    model = saywhy.load(Brightness(), preprocess=WAYS[way])
    e = saywhy.explain(model, image, target=0, layer="features")
    left, top, right, bottom = e.images[0].crop_box
    cell = max((right - left) / e.maps.shape[-1], (bottom - top) / e.maps.shape[-2])
    assert_near(e.peak(), (x, y), 12 + cell / 2)
    found = e.box(threshold=0.5)
    assert found is not None
    assert_near(found, (x - 12, y - 12, x + 12, y + 12), 1.1 * cell + 1)
    on_image = e.on_image()
    assert on_image.shape == (height, width)
    inside = np.zeros((height, width), bool)
    inside[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = True
    disagree = np.isnan(on_image) == inside
    assert disagree.mean() < 0.02
    row, column = np.unravel_index(np.nanargmax(on_image), on_image.shape)
    assert_near((column + 0.5, row + 0.5), (x, y), 12 + cell / 2)
