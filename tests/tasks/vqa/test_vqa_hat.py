"""Maps of VQA-HAT: small folders of the published form are read, and errors in others are reported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.tasks.vqa.vqa_hat import find_maps, read_map

GREY = np.array([[0, 51, 255], [102, 0, 153]], dtype=np.uint8)


@pytest.fixture
def val(tmp_path: Path) -> Path:
    """Two questions with three people each."""
    folder = tmp_path / "vqahat_val"
    folder.mkdir()
    for number in (4870250, 90):
        for person in (3, 1, 2):
            Image.fromarray(GREY // person).save(folder / f"{number}_{person}.png")
    return folder


def test_find_maps_sorts_questions_and_people(val: Path):
    found = find_maps(val)
    assert list(found) == [90, 4870250]
    assert [each.person for each in found[90]] == [1, 2, 3]
    assert {each.image_id for each in found[4870250]} == {487025}
    assert not hasattr(found[90][0], "__dict__")


def test_map_values_are_scaled_to_unit_range(val: Path):
    seen = find_maps(val)[90][0].read()
    assert seen.dtype == torch.float32
    assert torch.equal(seen, torch.tensor([[0, 0.2, 1], [0.4, 0, 0.6]]))


def test_map_is_resized_to_the_size_of_the_image(val: Path):
    """Each pixel of the map becomes four; between them bilinear weights apply, with pixel centres at .5."""
    seen = find_maps(val)[90][0].read((6, 4))
    assert (seen.shape, seen.dtype) == ((4, 6), torch.float32)
    along = torch.tensor([0, 0.05, 0.15, 0.4, 0.8, 1])
    torch.testing.assert_close(seen[0], along)
    assert torch.equal(find_maps(val)[90][0].read((3, 2)), find_maps(val)[90][0].read())


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "I;16"])
def test_read_map_is_equal_for_every_image_mode(tmp_path: Path, mode: str):
    grey = Image.fromarray(GREY)
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "1_1.png")
    assert torch.equal(read_map(tmp_path / "1_1.png"), torch.from_numpy(GREY.astype(np.float32) / 255))


def test_colour_map_raises(tmp_path: Path):
    Image.new("RGB", (3, 2), (0, 0, 255)).save(tmp_path / "1_1.png")
    with pytest.raises(ImageError, match="in colour"):
        read_map(tmp_path / "1_1.png")


def test_damaged_or_missing_map_raises_when_read(val: Path):
    (val / "90_2.png").write_bytes(b"no image")
    found = find_maps(val)
    found[90][0].read()
    with pytest.raises(ImageError, match=r"90_2\.png"):
        found[90][1].read()
    (val / "90_3.png").unlink()
    with pytest.raises(ImageError, match=r"no file .*90_3\.png"):
        found[90][2].read()


def test_other_files_are_skipped(val: Path):
    (val / "readme.txt").touch()
    (val / ".DS_Store").touch()
    assert len(find_maps(val)) == 2
    (val / "mean.png").touch()
    with pytest.warns(SaywhyWarning, match=r"1 are skipped: mean\.png"):
        assert len(find_maps(val)) == 2


def test_folders_without_maps_raise(val: Path, tmp_path: Path):
    with pytest.raises(InputError, match="there is no folder"):
        find_maps(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no file named like a map.*Give one of its folders: vqahat_val"):
        find_maps(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(InputError, match="Give the unpacked vqahat_train or vqahat_val"):
        find_maps(other)
    (other / "cat.png").touch()
    with pytest.raises(InputError, match=r"\(but cat\.png\)"):
        find_maps(other)


def test_duplicate_map_of_a_person_raises(val: Path):
    (val / "090_1.png").touch()
    with pytest.raises(InputError, match="both of person 1 and question 90"):
        find_maps(val)


def test_maps_of_unknown_questions_raise(val: Path):
    assert len(find_maps(val, questions={90: "why?", 4870250: "where?", 91: "who?"})) == 2
    with pytest.raises(
        InputError, match=r"maps of 1 questions that are not among the given ones: 4870250\. VQA-HAT has the ids"
    ):
        find_maps(val, questions=[90])
