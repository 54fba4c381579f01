"""Images and hints as a network's inputs: pixels, classes, sizes, memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from planted_images import Network, model
from saywhy.datasets.labelled import LabelledImages
from saywhy.errors import InputError
from saywhy.fixing.inputs import ImageInputs, check_outputs
from saywhy.models import Model, Preprocess


def images_in(folder: Path, *sizes: tuple[int, int], classes: tuple[str, ...] = ("cat", "dog")) -> LabelledImages:
    """Black images of some sizes (width, height); the classes in turn."""
    files = tuple(f"{i}.png" for i in range(len(sizes)))
    for file, size in zip(files, sizes, strict=True):
        Image.new("RGB", size).save(folder / file)
    labels = torch.arange(len(sizes)) % len(classes)
    return LabelledImages(folder, files, labels, classes, ("train",) * len(sizes), "images")


def of(data: LabelledImages, hints: dict[str, Tensor] | None = None, **known: object) -> ImageInputs:
    return ImageInputs(model(**known), data, hints or {})


class TestHints:
    @pytest.mark.parametrize(
        "preprocess",
        [
            pytest.param(Preprocess(resize=(16, 16), crop=None), id="stretched"),
            pytest.param(Preprocess(resize=16, crop=(16, 16)), id="cropped"),
            pytest.param(Preprocess(resize=None, crop=(48, 48)), id="padded"),
            pytest.param(Preprocess(resize=20, crop=(16, 24)), id="padded and cropped"),
        ],
    )
    def test_a_hint_lies_where_the_network_sees_what_was_painted(self, tmp_path, preprocess):
        """What is white on the image is white in the input, and the hint is the same white rectangle."""
        image, hint = np.zeros((24, 40, 3), np.uint8), torch.zeros(24, 40)
        image[6:14, 12:26], hint[6:14, 12:26] = 255, 1
        Image.fromarray(image).save(tmp_path / "a.png")
        data = LabelledImages(tmp_path, ("a.png",), torch.tensor([0]), ("cat", "dog"), ("train",), "one")
        inputs = of(data, {"a.png": hint}, preprocess=preprocess, input_size=None, mean=None, std=None)
        fed, found = inputs.images(torch.tensor([0]))[0], inputs.hints(torch.tensor([0]))[0]
        mean, deviation = torch.tensor(preprocess.mean)[:, None, None], torch.tensor(preprocess.std)[:, None, None]
        white = (fed * deviation + mean).mean(0)
        assert white.shape == found.shape
        # Pillow's filter reaches over the edge of the rectangle by up to two pixels, a mean does not.
        assert float((white - found).abs().mean()) < 0.02
        assert torch.equal(white.round()[found == found.round()], found[found == found.round()])
        assert float(white.sum()) == pytest.approx(float(found.sum()), rel=0.02)

    def test_an_image_without_a_hint_has_nan(self, tmp_path):
        inputs = of(images_in(tmp_path, (8, 8), (8, 8)), {"1.png": torch.ones(8, 8)})
        found = inputs.hints(torch.tensor([0, 1]))
        assert found[0].isnan().all()
        assert (found[1] == 1).all()
        assert inputs.hinted.tolist() == [1]

    def test_a_hint_that_the_crop_leaves_out_is_none(self, tmp_path):
        """The network cannot rely on it: a loss would ask it to rely on nothing."""
        hint = torch.zeros(24, 48)
        hint[:, :4] = 1
        inputs = of(images_in(tmp_path, (48, 24)), {"0.png": hint}, preprocess=Preprocess(resize=None, crop=(24, 24)),
                    input_size=None, mean=None, std=None)  # fmt: skip
        assert inputs.hints(torch.tensor([0])).isnan().all()

    @pytest.mark.parametrize(
        ("hint", "says"),
        [
            (torch.ones(10, 8), r"shape \[10, 8\]"),
            (torch.full((8, 10), 255.0), "values from 255 to 255"),
            (torch.full((8, 10), torch.nan), "from nan to nan"),
            (-torch.ones(8, 10), "from -1 to -1"),
        ],
    )
    def test_a_hint_that_does_not_fit_its_image_is_refused(self, tmp_path, hint, says):
        inputs = of(images_in(tmp_path, (10, 8)), {"0.png": hint})
        with pytest.raises(InputError, match=rf"hint of '0.png' must be a map of 10×8 pixels from 0 to 1.*{says}"):
            inputs.images(torch.tensor([0]))


class TestClasses:
    def test_labels_are_found_by_name_whatever_their_order(self, tmp_path):
        inputs = of(images_in(tmp_path, (8, 8), (8, 8)), network=Network(3), labels=["Dog", "mug", "CAT"])
        assert inputs.labels.tolist() == [2, 0]

    def test_without_labels_the_number_decides(self, tmp_path):
        assert of(images_in(tmp_path, (8, 8), (8, 8)), network=Network(3)).labels.tolist() == [0, 1]

    def test_as_many_other_names_are_taken_in_their_order(self, tmp_path):
        assert of(images_in(tmp_path, (8, 8), (8, 8)), labels=["Katze", "Hund"]).labels.tolist() == [0, 1]

    @pytest.mark.parametrize("labels", [["cat", "mug"], ["mug", "cup", "tea"]])
    def test_a_class_that_the_model_lacks_is_refused(self, tmp_path, labels):
        with pytest.raises(InputError, match=r"the model has no class .*'dog'"):
            of(images_in(tmp_path, (8, 8), (8, 8)), network=Network(len(labels)), labels=labels)

    @pytest.mark.parametrize(("outputs", "classes", "fits"), [(2, 2, True), (5, 2, True), (1, 2, True), (1, 3, False),
                                                              (2, 3, False)])  # fmt: skip
    def test_every_class_needs_an_output_and_two_need_one(self, tmp_path, outputs, classes, fits):
        data = images_in(tmp_path, (8, 8), classes=tuple("abc"[:classes]))
        if fits:
            check_outputs(data, outputs)
            return
        with pytest.raises(InputError, match=f"{classes} classes, and the model {outputs} outputs"):
            check_outputs(data, outputs)


def test_a_model_without_preprocessing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Network does not say how images become its input.*input_size="):
        of(images_in(tmp_path, (8, 8)), input_size=None, mean=None, std=None)


def test_inputs_of_different_sizes_are_refused_in_any_batch(tmp_path):
    inputs = of(images_in(tmp_path, (8, 8), (9, 8)), preprocess=Preprocess(resize=None, crop=None), input_size=None,
                mean=None, std=None)  # fmt: skip
    inputs.images(torch.tensor([0]))
    with pytest.raises(InputError, match=r"'1\.png' becomes an input of 9×8 pixels, others of 8×8"):
        inputs.images(torch.tensor([1]))


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> tuple[Model, LabelledImages, dict[str, Tensor]]:
    """A model, four images, and hints of two."""
    data = images_in(tmp_path_factory.mktemp("four"), *[(10, 10)] * 4)
    return model(), data, {"0.png": torch.linspace(0, 1, 100).reshape(10, 10), "2.png": torch.ones(10, 10)}


@pytest.mark.parametrize("budget", [0, 7_000, 14_000, 17_000, 40_000])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_what_is_kept_changes_nothing_and_stays_within_the_budget(four, budget, order):
    inputs, plain = ImageInputs(*four, budget), ImageInputs(*four, 0)
    indices = torch.tensor(order)
    for _ in range(2):
        assert torch.equal(inputs.images(indices), plain.images(indices))
        torch.testing.assert_close(inputs.hints(indices), plain.hints(indices), equal_nan=True)
    held = sum(t.nbytes for pair in inputs._kept.values() for t in pair if t is not None)
    assert held <= budget
    assert plain._kept == {}
    assert budget < 33_000 or len(inputs._kept) == 4  # 4 images of 6912 bytes, 2 hints of 2304


def test_a_kept_image_is_read_once(tmp_path):
    data = images_in(tmp_path, (8, 8))
    inputs = of(data)
    first = inputs.images(torch.tensor([0]))
    data.path(0).unlink()
    assert torch.equal(inputs.images(torch.tensor([0, 0])), first.repeat(2, 1, 1, 1))
