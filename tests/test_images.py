"""Reading images: every kind becomes upright RGB with the right values; the rest is refused."""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import saywhy
from saywhy import images
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.images import image_from_tensor, images_in, read_image

WIDTH, HEIGHT = 12, 8


@pytest.fixture
def photo() -> Image.Image:
    """Red grows to the right, green downwards; no two pixels are alike."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([x * 20, y * 30, x + y], axis=-1).astype(np.uint8))


def assert_refused(source: object, *words: str, error: type[Exception] = ImageError) -> None:
    """An error of this type whose message has these words; no error of Pillow's is raised."""
    with pytest.raises(error) as caught:
        read_image(source)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises an image of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


# --- every kind of image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_formats_keep_pixels(photo: Image.Image, tmp_path: Path, suffix: str) -> None:
    photo.save(tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), np.asarray(photo))


def test_a_path_may_be_a_string(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png")).size == (WIDTH, HEIGHT)


def test_format_is_detected_despite_wrong_suffix(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.jpg")), np.asarray(photo))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32896], [25700, 65278, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert np.asarray(read_image(tmp_path / f"deep.{suffix}"))[..., 1].tolist() == [[0, 1, 128], [100, 254, 255]]


def test_big_endian_16_bit_image_is_scaled_to_8_bits(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535]], dtype=">u2")
    Image.frombytes("I;16B", (3, 1), values.tobytes()).save(tmp_path / "deep.tiff")
    assert np.asarray(read_image(tmp_path / "deep.tiff"))[..., 0].tolist() == [[0, 1, 255]]


def test_a_dark_16_bit_image_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)).save(tmp_path / "dark.png")
    with pytest.warns(SaywhyWarning, match="16 bits and no value above 200 of 65,535"):
        assert np.asarray(read_image(tmp_path / "dark.png")).max() <= 1


@pytest.mark.parametrize("form", ["path", "array"])
def test_12_bits_in_16_warn_with_the_way_out(tmp_path: Path, form: str) -> None:
    values = np.array([[0, 4095]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "microscope.png")
    with pytest.warns(SaywhyWarning, match=r"nearly black.*/ 4095"):
        read_image(tmp_path / "microscope.png" if form == "path" else values)
    way_out = np.asarray(Image.open(tmp_path / "microscope.png")) / 4095
    assert np.asarray(read_image(way_out))[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize(("top", "value"), [(1.0, 0.5), (255.0, 127.5)])
def test_float_tiff_is_scaled_from_its_range(tmp_path: Path, top: float, value: float) -> None:
    Image.fromarray(np.array([[0, value, top]], dtype=np.float32)).save(tmp_path / "float.tiff")
    assert np.asarray(read_image(tmp_path / "float.tiff"))[0, :, 0].tolist() == [0, 128, 255]


def test_float_image_with_nan_raises(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)).save(tmp_path / "nan.tiff")
    assert_refused(tmp_path / "nan.tiff", "nan.tiff", "NaN")


def test_cmyk_is_converted_to_rgb(tmp_path: Path) -> None:
    inks = Image.merge("CMYK", [Image.new("L", (8, 8), v) for v in (0, 255, 255, 0)])  # magenta + yellow = red
    inks.save(tmp_path / "print.jpg", quality=95)
    red, green, blue = np.asarray(read_image(tmp_path / "print.jpg"), dtype=int)[4, 4]
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_put_on_white(tmp_path: Path, mode: str) -> None:
    clear, half, full = ((90,) * (len(mode) - 1) + (alpha,) for alpha in (0, 128, 255))
    image = Image.new(mode, (3, 1))
    for x, colour in enumerate((clear, half, full)):
        image.putpixel((x, 0), colour)
    image.save(tmp_path / "clear.png")
    found = np.asarray(read_image(tmp_path / "clear.png"), dtype=int)[0, :, 0]
    assert found[0] == 255
    assert abs(found[1] - 172) <= 1
    assert found[2] == 90


def test_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0] + [0] * 762)
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=0)
    assert np.asarray(read_image(tmp_path / "palette.png")).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_palette_alpha_is_composited_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=bytes([128, 255]))
    found = np.asarray(read_image(tmp_path / "palette.png"), dtype=int)[0]
    assert abs(found[0] - 127).max() <= 1
    assert found[1].tolist() == [255, 0, 0]


def test_one_bit_image_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
    assert np.asarray(read_image(tmp_path / "bits.png")).tolist() == [[[0] * 3, [255] * 3]]


def test_animation_is_read_as_its_first_frame(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    assert read_image(tmp_path / "moving.gif").getpixel((0, 0)) == (255, 0, 0)


def with_orientation(photo: Image.Image, orientation: int, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_exif_orientation_is_applied(photo: Image.Image, tmp_path: Path, orientation: int, turn: int | None) -> None:
    with_orientation(photo, orientation, tmp_path / "turned.png")
    upright = photo if turn is None else photo.transpose(turn)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.asarray(upright))


def test_peak_is_in_coordinates_of_the_upright_image(tmp_path: Path) -> None:
    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 1, 8, stride=8, bias=False)
            nn.init.constant_(self.features.weight, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.features(x).flatten(1).sum(1, keepdim=True)

    lying = Image.new("RGB", (96, 64))
    lying.paste("white", (80, 8, 88, 16))  # at the right end; upright (turned clockwise) it is at the bottom
    with_orientation(lying, 6, tmp_path / "turned.jpg")
    model = saywhy.load(Brightness(), preprocess=saywhy.Preprocess(None, None, (0, 0, 0), (1, 1, 1)))
    e = saywhy.explain(model, tmp_path / "turned.jpg", target=0, layer="features")
    assert e.images[0].image.size == (64, 96)
    assert e.on_image().shape == (96, 64)
    assert e.peak() == (52.0, 84.0)


def test_image_with_broken_exif_is_read(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f" + bytes(range(40)))
    assert read_image(tmp_path / "a.jpg").size == (WIDTH, HEIGHT)


# --- arrays and PIL images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.full((2, 3, 3), 7, np.uint8), 7),
        (np.full((2, 3), 7, np.int64), 7),
        (np.full((2, 3, 1), 7, np.int32), 7),
        (np.full((2, 3), 257 * 70, np.uint16), 70),
        (np.full((2, 3, 3), 0.5, np.float32), 128),
        (np.full((2, 3, 3), 0.5, np.float16), 128),
        (np.full((2, 3), True), 255),
        (np.full((2, 3, 4), [9, 9, 9, 0], np.uint8), 255),
        (np.full((4, 6, 3), 7, np.uint8)[::2, ::2], 7),
        (np.asfortranarray(np.full((2, 3, 3), 7, np.uint8)), 7),
    ],
    ids=["uint8", "int64", "one channel", "uint16", "float32", "float16", "bool", "alpha", "strided", "fortran"],
)
def test_arrays_become_rgb_images(array: np.ndarray, wanted: int) -> None:
    image = read_image(array)
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert image.getpixel((1, 1)) == (wanted,) * 3


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 8, 9), np.uint8), ("[3, 8, 9]", "Channels come last")),
        (np.zeros((2, 8, 9, 3), np.uint8), ("[2, 8, 9, 3]",)),
        (np.zeros(5, np.uint8), ("[5]",)),
        (np.zeros((0, 4, 3), np.uint8), ("[0, 4, 3]",)),
        (np.full((2, 2), 300), ("0 to 255", "300")),
        (np.full((2, 2), -1), ("0 to 255", "-1")),
        (np.full((2, 2), 7.0), ("0 to 1", "7")),
        (np.full((2, 2), np.nan), ("0 to 1", "nan")),
        (np.full((2, 2), np.inf), ("0 to 1", "inf")),
        (np.full((2, 2), 1j), ("complex128",)),
        (np.full((2, 2), "x"), ("<U1",)),
        (np.full((2, 2), None), ("object",)),
    ],
    ids=[
        "channels first",
        "batch",
        "flat",
        "empty",
        "large",
        "negative",
        "float",
        "nan",
        "inf",
        "complex",
        "text",
        "object",
    ],
)
def test_invalid_arrays_raise(array: np.ndarray, words: tuple[str, ...]) -> None:
    assert_refused(array, *words, error=InputError)


def test_bytes_of_a_file_are_read(tmp_path):
    Image.new("RGBA", (3, 2), (10, 20, 30, 255)).save(tmp_path / "a.png")
    assert read_image((tmp_path / "a.png").read_bytes()).getpixel((2, 1)) == (10, 20, 30)
    for data in (b"no image", b"", png_that_claims(60_000, 60_000)):
        with pytest.raises(ImageError, match=r"^the (file|image)"):
            read_image(data)


@pytest.mark.parametrize("source", [7, None, object()], ids=["int", "none", "object"])
def test_objects_of_other_types_raise(source: object) -> None:
    assert_refused(source, "a path, a PIL image or a numpy array", type(source).__name__, error=InputError)


def test_given_pil_image_is_not_modified(photo: Image.Image) -> None:
    read = read_image(photo)
    read.putpixel((0, 0), (1, 2, 3))
    assert photo.getpixel((0, 0)) == (0, 0, 0)


def test_opened_damaged_image_raises(photo: Image.Image) -> None:
    file = io.BytesIO()
    photo.resize((200, 200)).save(file, "JPEG")
    opened = Image.open(io.BytesIO(file.getvalue()[:800]))
    assert_refused(opened, "damaged")


def test_closed_image_raises(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.png")
    opened = Image.open(tmp_path / "a.png")
    opened.close()
    assert_refused(opened, "a.png")


# --- damaged, missing, hostile -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_raise(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * share)])
    assert_refused(tmp_path / f"a.{suffix}", f"a.{suffix}")


def test_a_truncated_file_is_called_damaged(photo: Image.Image, tmp_path: Path) -> None:
    photo.resize((300, 300)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert_refused(tmp_path / "a.jpg", "a.jpg", "damaged", "Is the file complete?")


def test_empty_file_raises(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert_refused(tmp_path / "a.png", "a.png", "empty (0 bytes)")


def test_text_file_raises_and_quotes_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<!DOCTYPE html>\n<html>404: not found</html>\n" * 9)
    assert_refused(tmp_path / "a.jpg", "a.jpg", "is not an image", "it holds text", "<!DOCTYPE html>")


def test_binary_file_without_image_raises(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)))
    assert_refused(tmp_path / "a.jpg", "a.jpg", "is not an image")


def test_missing_file_raises_with_nearest_name(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "kitten.png")
    assert_refused(tmp_path / "kiten.png", "no file", "kiten.png", "Nearest", "'kitten.png'")


def test_missing_folder_raises(tmp_path: Path) -> None:
    assert_refused(tmp_path / "no" / "a.png", "no file", "Nor is there a folder")


def test_impossible_file_names_raise() -> None:
    assert_refused("x" * 5000, "no file")
    assert_refused("a\0b", "no file")


def test_a_web_address_is_not_fetched() -> None:
    assert_refused("https://example.org/a.jpg", "https://example.org/a.jpg", "Download it")


def test_folder_raises(tmp_path: Path) -> None:
    assert_refused(tmp_path, "is a folder", "images_in")


def test_file_without_read_permission_raises(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.save(tmp_path / "a.png")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images.Image, "open", forbidden)
    with pytest.raises(ImageError, match="cannot be read: Permission denied") as caught:
        read_image(tmp_path / "a.png")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bomb_raises_before_decoding(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("the bomb was decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    (tmp_path / "bomb.png").write_bytes(png_that_claims(*size))
    assert_refused(tmp_path / "bomb.png", "bomb.png", "refused", "decompression bomb")


def test_opened_decompression_bomb_raises(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_that_claims(12_000, 12_000))
    with pytest.warns(Image.DecompressionBombWarning), Image.open(tmp_path / "bomb.png") as opened:
        assert_refused(opened, "bomb.png", "refused", "decompression bomb")


def _encoded(suffix: str) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, suffix, exif=Image.Exif())
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_corrupted_files_raise_only_image_error(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(_encoded(suffix))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.bin").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(ImageError):
        assert read_image(tmp_path / "a.bin").mode == "RGB"


# --- folders -----------------------------------------------------------------------------------------------------


def test_images_in_lists_folders_recursively_in_name_order(photo: Image.Image, tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "deep/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    single = tmp_path / "elsewhere.anything"
    found = list(images_in([tmp_path, single]))
    assert [p.name for p in found] == ["a.jpg", "b.PNG", "c.webp", "elsewhere.anything"]


def test_images_in_folder_without_images_raises(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match=re.escape(str(tmp_path)) + r".*holds no image.*\.png"):
        list(images_in([tmp_path]))


def test_images_in_is_public() -> None:
    assert callable(saywhy.images.images_in)


# --- tensors as images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: torch.rand(3, 4, 5), (5, 4)),
        (lambda: torch.rand(1, 4, 5), (5, 4)),
        (lambda: torch.rand(7, 4, 5, dtype=torch.float64), (5, 4)),
        (lambda: torch.rand(2, 9), (9, 1)),
        (lambda: torch.rand(1, 3, 4, 5), (5, 4)),
        (lambda: torch.rand(3, 4, 5).bfloat16().requires_grad_(), (5, 4)),
        (lambda: torch.zeros(3, 4, 5), (5, 4)),
    ],
    ids=["colour", "grey", "many channels", "signal", "volume", "bf16 with a graph", "flat"],
)
def test_image_from_tensor_returns_rgb(make: Callable[[], torch.Tensor], size: tuple[int, int]) -> None:
    source = image_from_tensor(make(), "x")
    assert source.image.mode == "RGB"
    if size[1] > 1:
        assert source.image.size == size
    assert source.crop_box == (0, 0, *map(float, source.image.size))
