"""COCO instances: small files in the published format are read, masks are rasterized, and errors are reported."""

import json
import pickle
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from oracles.masks import packed, polygon_mask, run_length_mask, run_lengths
from saywhy.datasets.coco import CocoBoxes
from saywhy.datasets.coco_masks import FARTHEST, segmentation_mask
from saywhy.datasets.localized import ObjectAnnotation
from saywhy.errors import ImageError, InputError, MissingExtra, SaywhyWarning

WIDTH, HEIGHT = 7, 5

MASK = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 1, 0, 1, 1, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ],
    bool,
)
COUNTS = [11, 3, 2, 1, 1, 1, 2, 3, 2, 3, 5, 1]
PACKED = ";32NO012003N"
"""MASK as pycocotools packs it."""


def image(number: int, name: str = "000000000042.jpg", **more: Any) -> dict[str, Any]:
    return {"license": 3, "file_name": name, "height": HEIGHT, "width": WIDTH, "id": number, **more}


def thing(
    number: int, image_id: int = 42, box: Any = (1, 2, 3.5, 2), category: int = 17, **more: Any
) -> dict[str, Any]:
    whole = {"area": 3.5, "iscrowd": 0, "image_id": image_id, "bbox": box, "category_id": category, "id": number}
    return {**whole, **more}


def published(**lists: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [{"supercategory": "animal", "id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}]
    images = [image(42), image(73, "b.jpg")]
    whole = {"info": {"year": 2017}, "licenses": [{"id": 3}], "images": images, "categories": categories}
    return {**whole, "annotations": [thing(1), thing(2, category=90), thing(3)], **lists}


def written(folder: Path, data: Any, split: str = "val2017") -> Path:
    """A folder of COCO with one split."""
    for name in ("annotations", split):
        (folder / name).mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    for name in ("000000000042.jpg", "b.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT), "red").save(folder / split / name)
    return folder


def mask_of(folder: Path, segmentation: Any) -> np.ndarray:
    found = CocoBoxes(written(folder, published(annotations=[thing(1, segmentation=segmentation)])))[0].objects[0]
    assert found.mask is not None
    return found.mask()


def test_boxes_are_converted_from_width_and_height(tmp_path: Path):
    data = CocoBoxes(written(tmp_path, published()))
    assert (data.name, len(data), data.labels) == ("COCO val2017", 2, ("cat", "toothbrush"))
    found = data[0]
    assert found.name == "000000000042.jpg"
    assert found.objects == tuple(ObjectAnnotation(label, (1, 2, 4.5, 4)) for label in ("cat", "toothbrush", "cat"))
    assert found.labels == ("cat", "toothbrush")
    assert found.objects[0].mask is None
    assert found.open().size == (WIDTH, HEIGHT)


def test_an_image_may_have_no_objects(tmp_path: Path):
    found = CocoBoxes(written(tmp_path, published()))[1]
    assert (found.name, found.objects, found.labels) == ("b.jpg", (), ())


def test_crowds_are_difficult(tmp_path: Path):
    crowd = thing(1, iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": COUNTS})
    plain = {key: value for key, value in thing(2).items() if key != "iscrowd"}
    first, second = CocoBoxes(written(tmp_path, published(annotations=[crowd, plain])))[0].objects
    assert (first.difficult, second.difficult) == (True, False)
    assert first.mask is not None
    assert np.array_equal(first.mask(), MASK)


def test_splits_are_found_and_unknown_splits_raise(tmp_path: Path):
    written(tmp_path, published(), "train2014")
    assert CocoBoxes(tmp_path).split == "train2014"
    written(tmp_path, published(), "val2017")
    assert CocoBoxes(tmp_path).split == "val2017"
    assert CocoBoxes(tmp_path, "train2014").file.name == "instances_train2014.json"
    with pytest.raises(
        InputError, match=r"no split 'val2071'; it has instances of train2014, val2017\. Nearest: 'val2017'"
    ):
        CocoBoxes(tmp_path, "val2071")


@pytest.mark.parametrize("folder", ["", "images", "images/val2017", "val2017", "train2014"])
def test_images_are_found_in_usual_folders(tmp_path: Path, folder: str):
    written(tmp_path, published())
    for path in (tmp_path / "val2017").iterdir():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / folder / path.name)
    assert CocoBoxes(tmp_path)[0].open().size == (WIDTH, HEIGHT)


def test_missing_image_raises(tmp_path: Path):
    written(tmp_path, published())
    (tmp_path / "val2017" / "b.jpg").unlink()
    with pytest.raises(ImageError, match=r"no image 'b\.jpg'"):
        CocoBoxes(tmp_path)[1]


def test_annotation_file_beside_images_is_opened(tmp_path: Path):
    for name in ("000000000042.jpg", "b.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name)
    path = tmp_path / "_annotations.coco.json"
    path.write_text(json.dumps(published(images=[image(42, width=None)])))
    for place in (path, tmp_path):
        data = CocoBoxes(place)
        assert data[0].objects[0].box == (1, 2, 4.5, 4)
        assert data[0].open().size == (WIDTH, HEIGHT)


def test_annotation_file_is_read_lazily(tmp_path: Path):
    (written(tmp_path, {}) / "annotations" / "instances_val2017.json").write_text("no JSON")
    data = CocoBoxes(tmp_path)
    with pytest.raises(InputError, match=r"instances_val2017\.json' is no JSON"):
        len(data)


def test_localized_image_can_be_pickled(tmp_path: Path):
    segmentation = {"size": [HEIGHT, WIDTH], "counts": PACKED}
    found = CocoBoxes(written(tmp_path, published(annotations=[thing(1, segmentation=segmentation)])))[0]
    sent = pickle.loads(pickle.dumps(found))
    assert sent == found
    assert np.array_equal(sent.objects[0].mask(), MASK)


# --- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (published(images=[image(42), image(42)]), ("images[1]: id 42", "images[0]")),
        (published(annotations=[thing(1), thing(1)]), ("annotations[1]: id 1",)),
        (published(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), ("categories[1]: id 1",)),
        (published(annotations=[thing(1, 7)]), ("annotations[0]", "image_id 7 is not among the 2", "42, 73")),
        (
            published(annotations=[thing(1, category=7)]),
            ("annotations[0]", "category_id 7 is not among the 2", "17, 90"),
        ),
        (
            published(annotations=[{"id": 1, "image_id": 42, "caption": "x"}]),
            ("'category_id', 'bbox'", "read_captions"),
        ),
        (published(images=[{"id": 42}]), ("images[0]", "'file_name' is not among id")),
        (
            {"images": [image(42)], "annotations": []},
            ("'categories'", "got an object with 'images'", "Give an instances file"),
        ),
        ([thing(1)], ("'images', 'annotations' and 'categories'",)),
        (published(annotations=[]), ("no annotations", "empty")),
    ],
)
def test_invalid_instances_files_raise(tmp_path: Path, data: Any, words: tuple[str, ...]):
    with pytest.raises(InputError) as caught:
        len(CocoBoxes(written(tmp_path, data)))
    for word in ("instances_val2017.json", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([1, 2, 3], "a bbox must be [x, y, width, height] in pixels, got [1, 2, 3]"),
        ([1, 2, 3, "4"], "a bbox must be [x, y, width, height]"),
        ([1, 2, 3, float("nan")], "a bbox must be [x, y, width, height]"),
        ([1, 2, 0, 4], "a box must have left < right"),
        ([1, 2, 3, -1], "a box must have left < right"),
        ([8, 2, 3, 3], "lies outside of the image of 7 × 5"),
    ],
)
def test_invalid_boxes_raise(tmp_path: Path, box: Any, words: str):
    data = CocoBoxes(written(tmp_path, published(annotations=[thing(1), thing(9, box=box)])))
    with pytest.raises(InputError) as caught:
        data[0]
    for word in ("instances_val2017.json', annotations[1] (id 9, 'cat'): ", words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_boxes_beyond_the_image_are_cut_off(tmp_path: Path):
    data = CocoBoxes(written(tmp_path, published(annotations=[thing(9, box=[1, 2, 6.03, 3.004])])))
    assert data[0].objects[0].box == (1, 2, 7, 5)  # a rounding
    data = CocoBoxes(written(tmp_path, published(annotations=[thing(9, box=[1, 2, 60, 3])])))
    with pytest.warns(SaywhyWarning, match=r"annotations\[0\] \(id 9, 'cat'\): .* goes beyond"):
        assert data[0].objects[0].box == (1, 2, 7, 5)


# --- run-length encodings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [COUNTS, PACKED], ids=["list", "text"])
def test_run_length_encodings_give_the_mask(tmp_path: Path, counts: Any):
    mask = mask_of(tmp_path, {"size": [HEIGHT, WIDTH], "counts": counts})
    assert mask.dtype == bool
    assert np.array_equal(mask, MASK)


def test_run_lengths_decodes_compressed_counts():
    assert run_lengths(PACKED) == COUNTS
    assert run_lengths("") == []


@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_run_lengths_inverts_packed(counts: list[int]):
    assert run_lengths(packed(counts)) == counts


@given(st.data())
def test_run_lengths_are_column_major(data: st.DataObject):
    width, height = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    cuts = sorted(data.draw(st.lists(st.integers(0, width * height), max_size=9)))
    counts = [stop - start for start, stop in zip([0, *cuts], [*cuts, width * height], strict=True)]
    values = [number % 2 == 1 for number, count in enumerate(counts) for _ in range(count)]
    size = (width, height)
    drawn = [segmentation_mask({"size": [height, width], "counts": form}, size) for form in (counts, packed(counts))]
    for mask in (run_length_mask(counts, size), *drawn):
        assert mask.shape == (height, width)
        for x in range(width):
            for y in range(height):
                assert mask[y, x] == values[x * height + y]


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [WIDTH, HEIGHT], "counts": COUNTS}, ("the 'size' [height, width] of its image, [5, 7]", "[7, 5]")),
        ({"size": [HEIGHT, WIDTH]}, ("'counts', a list or a text", "an object with 'size'")),
        ({"size": [HEIGHT, WIDTH], "counts": [11, 3]}, ("sum up to 35, got 2 counts that sum up to 14",)),
        ({"size": [HEIGHT, WIDTH], "counts": [38, -3]}, ("counts from 0 on",)),
        ({"size": [HEIGHT, WIDTH], "counts": [35.0]}, ("counts from 0 on",)),
        ({"size": [HEIGHT, WIDTH], "counts": ";32NO 12003N"}, ("characters from '0' to 'o', got ' ' at 5",)),
        ({"size": [HEIGHT, WIDTH], "counts": ";32NO012003n"}, ("ends in the middle of a number",)),
        ({"size": [HEIGHT, WIDTH], "counts": packed([11, 3])}, ("sum up to 35; those of the text ';3' do not",)),
        ({"size": [HEIGHT, WIDTH], "counts": packed([34])}, ("sum up to 35; those",)),
        ({"size": [HEIGHT, WIDTH], "counts": packed([36])}, ("sum up to 35; those",)),
        ({"size": [HEIGHT, WIDTH], "counts": packed([38, -3])}, ("sum up to 35; those",)),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, ("sum up to 35; those",)),
        ({"size": [HEIGHT, WIDTH], "counts": []}, ("sum up to 35, got 0 counts",)),
        ([[0, 0, 2, 0, 1, float("nan")]], ("polygons",)),
        ([[0, 0, 2, 0, 1, 2 * FARTHEST]], ("polygons",)),
        ([[0, 0, 2, 0]], ("polygons [x, y, x, y, …] of three points or more", "got [[0, 0, 2, 0]]")),
        ([[0, 0, 2, 0, 1]], ("polygons",)),
        ([[0, 0, 2, 0, 1, None]], ("polygons",)),
        ([0, 0, 2, 0, 1, 1], ("polygons",)),
        ("mask.png", ("polygons", "got mask.png")),
    ],
)
def test_invalid_segmentations_raise(tmp_path: Path, segmentation: Any, words: tuple[str, ...]):
    with pytest.raises(InputError) as caught:
        mask_of(tmp_path, segmentation)
    for word in ("instances_val2017.json', annotations[0] (id 1, 'cat'): ", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


# --- polygons ------------------------------------------------------------------------------------------------------


def test_polygons_of_an_object_are_united(tmp_path: Path):
    mask = mask_of(tmp_path, [[0, 0, 2, 0, 2, 1, 0, 1], [1, 0, 3, 0, 3, 2, 1, 2]])
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]


def coco_mask(polygon: list[float], size: tuple[int, int]) -> np.ndarray:
    return segmentation_mask([polygon], size)


@pytest.mark.parametrize("draw", [polygon_mask, coco_mask], ids=["oracle", "pycocotools"])
class TestPolygons:
    @pytest.mark.parametrize("polygon", [[0, 0, 0, 1, 2, 1, 2, 0], [2, 1, 0, 1, 0, 0, 2, 0], [2, 0, 0, 0, 0, 1, 2, 1]])
    def test_mask_is_invariant_to_start_and_direction(self, draw, polygon: list[float]):
        assert np.argwhere(draw(polygon, (3, 2))).tolist() == [[0, 0], [0, 1]]

    def test_polygons_beyond_the_image_or_below_a_pixel_are_drawn(self, draw):
        assert draw([-9, -9, 99, -9, 99, 99, -9, 99], (3, 2)).all()
        assert not draw([5, 0, 9, 0, 9, 9], (3, 2)).any()
        assert not draw([0, 0, 0.4, 0, 0.4, 0.4], (3, 2)).any()

    def test_polygons_at_the_coordinate_limit_are_drawn(self, draw):
        far = FARTHEST
        assert draw([-far, -far, far, -far, far, far, -far, far], (3, 2)).all()


def winding_is_odd(points: list[tuple[Fraction, Fraction]], x: Fraction, y: Fraction) -> bool | None:
    """Whether a ray to the right crosses the polygon an odd number of times; None where the point lies on it."""
    odd = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        if side == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return None
        if (y0 > y) != (y1 > y):
            crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            odd ^= crossing > x
    return odd


@given(st.lists(st.tuples(st.integers(-8, 36), st.integers(-8, 36)), min_size=3, max_size=8))
def test_polygon_mask_tests_pixel_centres(quarters: list[tuple[int, int]]):
    points = [(Fraction(x, 4), Fraction(y, 4)) for x, y in quarters]
    mask = polygon_mask([float(edge) for point in points for edge in point], (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            wanted = winding_is_odd(points, x + Fraction(1, 2), y + Fraction(1, 2))
            if wanted is not None:
                assert mask[y, x] == wanted, (x, y)


# --- the same with COCO's own program ------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_run_length_masks_equal_those_of_pycocotools(seed: int, share: float):
    theirs = pytest.importorskip("pycocotools.mask", reason="pycocotools is the peer that is compared with")
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 60, 2)) < share
    height, width = mask.shape
    text = theirs.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert packed(run_lengths(text)) == text
    assert np.array_equal(run_length_mask(run_lengths(text), (width, height)), mask)
    for counts in (text, run_lengths(text)):  # of an object, of a crowd
        found = segmentation_mask({"size": [height, width], "counts": counts}, (width, height))
        assert found.dtype == bool
        assert found.flags.c_contiguous
        assert np.array_equal(found, mask)


def theirs_of(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """As COCO's own `COCO.annToMask` draws polygons."""
    theirs = pytest.importorskip("pycocotools.mask", reason="pycocotools is the peer that is compared with")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return theirs.decode(theirs.merge(theirs.frPyObjects(polygons, size[1], size[0]))).astype(bool)


@given(st.lists(st.lists(st.floats(-5, 65), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), min_size=1))
def test_polygons_are_those_of_pycocotools(polygons: list[list[float]]):
    assert np.array_equal(segmentation_mask(polygons, (60, 50)), theirs_of(polygons, (60, 50)))


@given(st.lists(st.floats(2, 58), min_size=6, max_size=6))
def test_triangle_masks_are_near_the_oracle(polygon: list[float]):
    corners = np.reshape(polygon, (3, 2))
    along = np.roll(corners, -1, 0) - corners
    assume(abs(np.linalg.det(along[:2])) > 400)
    rows, columns = np.nonzero(coco_mask(polygon, (60, 60)) ^ polygon_mask(polygon, (60, 60)))
    centres = np.stack([columns, rows], 1)[:, None] + 0.5
    share = np.clip(((centres - corners) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    apart = np.linalg.norm(centres - corners - share[..., None] * along, axis=-1).min(1, initial=9)
    assert (apart < 0.5).all()


@pytest.mark.real
def test_published_coco_masks_equal_those_of_pycocotools(real: Path):
    """Every mask equals that of pycocotools; the oracle, which tests pixel centres, is close to it."""
    data = CocoBoxes(real / "coco" / "instances.json")
    sizes = {number: size for number, _, size in data.instances.images}
    rows = [(number, row) for number, listed in data.instances.annotations.items() for _, row in listed]
    overlaps = []
    for number, polygons in [(number, row["segmentation"]) for number, row in rows if "segmentation" in row]:
        size = sizes[number]
        assert size is not None
        mask = segmentation_mask(polygons, size)
        assert np.array_equal(mask, theirs_of(polygons, size))
        other = np.logical_or.reduce([polygon_mask(polygon, size) for polygon in polygons])
        overlaps.append((mask & other).sum() / (mask | other).sum())
    assert len(overlaps) == 701
    assert np.mean(overlaps) > 0.97


def test_masks_without_pycocotools_raise_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    segmentations = ({"size": [HEIGHT, WIDTH], "counts": PACKED}, [[0, 0, 2, 0, 2, 1]])
    data = CocoBoxes(
        written(tmp_path, published(annotations=[thing(n, segmentation=s) for n, s in enumerate(segmentations)]))
    )
    for found in data[0].objects:
        assert found.box == (1, 2, 4.5, 4)
        assert found.mask is not None
        with pytest.raises(MissingExtra, match=r"pip install 'saywhy\[datasets\]'"):
            found.mask()
