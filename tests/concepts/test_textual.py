"""Textual explanations of a network with known channels, and the errors for bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.concepts.textual import names_of, textual
from saywhy.errors import ImageError, InputError, SaywhyWarning

LAYOUT = saywhy.Layout("channels-first", (8, 8))
WEIGHTS = torch.tensor([[4.0, -3.0, 2.0, 1.0], [-4.0, 3.0, 0.0, 1.0]])


class Colours(nn.Module):
    """Channels: red, green, blue, and brightness; the head's weights are the importance, times 1 / 64."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4, bias=False), nn.ReLU())
        self.fc = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            mixed = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]])
            self.features[0].weight.copy_(mixed[:, :, None, None].expand(-1, -1, 4, 4) / 16)
            self.fc.weight.copy_(WEIGHTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


@pytest.fixture
def model() -> saywhy.Model:
    return saywhy.load(Colours(), labels=["poppy", "meadow"], input_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def patch(colour: tuple[int, int, int], corner: tuple[int, int], side: int = 8, of: int = 32) -> Image.Image:
    pixels = np.zeros((of, of, 3), np.uint8)
    pixels[corner[1] : corner[1] + side, corner[0] : corner[0] + side] = colour
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red, green and blue patches, one dimmer, in known corners."""
    for name, colour, corner in (
        ("red.png", (255, 0, 0), (0, 0)),
        ("dim.png", (90, 0, 0), (24, 24)),
        ("green.png", (0, 255, 0), (24, 0)),
        ("blue.png", (0, 0, 255), (0, 24)),
    ):
        (tmp_path / "patches").mkdir(exist_ok=True)
        patch(colour, corner).save(tmp_path / "patches" / name)
    return tmp_path / "patches"


def say(model: saywhy.Model, **settings: Any) -> saywhy.concepts.textual.TextualExplanation:
    asked = {"target": "poppy", "layer": "features", "layout": LAYOUT, "count": 2, **settings}
    return textual(model, patch((200, 50, 0), (4, 4)), **asked)


class TestChannels:
    def test_present_and_absent_channels_have_extreme_importance(self, model):
        (one,) = say(model).words[0]
        assert [c.index for c in one.present] == [0, 2]
        assert [c.index for c in one.absent] == [1, 3]
        assert [c.weight for c in one.present] == pytest.approx([4 / 64, 2 / 64])
        assert [c.weight for c in one.absent] == pytest.approx([-3 / 64, 1 / 64])
        assert (one.target, one.layer, one.image) == ("poppy", "features", "image")

    def test_importance_is_the_mean_gradient_of_gradcam(self, images):
        network, batch = TinyNetwork.build(), images(3)
        layout = saywhy.Layout("channels-first", (6, 6))
        found = textual(network, batch, [0, 2], "features", layout=layout)
        G = saywhy.capture(network, batch, [0, 2], "features", layout=layout).gradients()["features"]
        torch.testing.assert_close(found.weights, G.mean((3, 4)))
        for b, row in enumerate(found.words):
            for t, one in enumerate(row):
                order = G[b, t].mean((1, 2)).argsort(descending=True).tolist()
                assert [c.index for c in one.present] == order[:5]

    def test_images_and_targets_are_combined(self, model):
        found = textual(model, [patch((200, 50, 0), (4, 4))] * 2, ["poppy", "meadow"], "features", layout=LAYOUT)
        assert [[one.target for one in row] for row in found.words] == [["poppy", "meadow"]] * 2
        assert found.weights.shape == (2, 2, 4)
        assert str(found).count("\n\n") == 3

    def test_no_channel_is_both_present_and_absent(self, model):
        (one,) = say(model, count=3).words[0]
        assert [c.index for c in (*one.present, *one.absent)] == [0, 2, 3, 1]

    def test_model_state_is_restored(self, model):
        model.module.train()
        say(model)
        assert model.module.training
        assert not model.module.features._forward_hooks
        assert all(p.grad is None for p in model.module.parameters())


class TestNames:
    def test_given_channel_names_are_used(self, model):
        found = say(model, concepts={0: "red", 1: {"name": "green", "iou": 0.3}, 2: {"name": "sky", "iou": 0.049}})
        assert str(found) == (
            "image: poppy (0.2083), evidence in layer features\n"
            "  evidence by presence of: red (+0.0625), channel 2 (+0.0312)\n"
            "  evidence by absence of: green (-0.0469), channel 3 (+0.0156)"
        )

    def test_channel_names_are_read_from_a_file(self, model, tmp_path):
        file = tmp_path / "names.json"
        file.write_text(json.dumps({"0": "red", "1": {"name": "grün", "iou": 0.05}}), encoding="utf-8")
        (one,) = say(model, concepts=file).words[0]
        assert (one.present[0].name, one.absent[0].name) == ("red", "grün")

    def test_names_below_least_iou_are_dropped(self):
        entries = {0: {"name": "a", "iou": 0.05}, 1: {"name": "b", "iou": 0.04999}, 2: {"name": "c"}}
        assert names_of(entries) == {0: "a", 2: "c"}
        assert names_of(entries, 0.0) == {0: "a", 1: "b", 2: "c"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is no JSON"),
            ("{", "is no JSON"),
            ("[1]", "must be a JSON object of channels.*got a list"),
            ('{"x": "fur"}', "the key of a concept must be a channel"),
            ('{"-1": "fur"}', "the key of a concept must be a channel"),
            ('{"1": 5}', "channel 1 needs a name"),
            ('{"1": {"iou": 0.5}}', "channel 1 needs a name"),
            ('{"1": "  "}', "channel 1 needs a name"),
            ('{"1": {"name": "fur", "iou": "much"}}', "the iou of channel 1 must be a number"),
            ('{"1": {"name": "fur", "iou": 7}}', "the iou of channel 1 must be a number"),
            ('{"1": {"name": "fur", "iou": NaN}}', "the iou of channel 1 must be a number"),
            ('{"4": "fur"}', "there is a name for channel 4, but layer 'features' has 4 channels"),
        ],
    )
    def test_invalid_name_files_raise(self, model, tmp_path, text, message):
        file = tmp_path / "names.json"
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            say(model, concepts=file)

    def test_missing_or_binary_name_file_raises(self, model, tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            say(model, concepts=tmp_path / "none.json")
        (tmp_path / "raw.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="is no JSON"):
            say(model, concepts=tmp_path / "raw.json")


class TestExamples:
    def test_examples_are_the_most_activating_images(self, model, folder):
        (one,) = say(model, folder=folder).words[0]
        known = {c.index: [e.path.name for e in c.examples] for c in (*one.present, *one.absent)}
        assert known[0] == ["red.png", "dim.png"]
        assert known[1] == ["green.png"]
        assert known[2] == ["blue.png"]
        assert known[3][-1] != "dim.png"
        assert len(known[3]) == 3
        assert "channel 0 (+0.0625) like red.png, dim.png" in str(one)

    def test_example_box_is_around_the_peak(self, model, folder):
        (one,) = say(model, folder=folder, examples=1).words[0]
        (red,), (green,) = one.present[0].examples, one.absent[0].examples
        assert red.box == (0, 0, 6, 6)
        assert green.crop().getpixel((3, 1)) == (0, 255, 0)
        assert green.value == pytest.approx(1.0)

    def test_example_box_of_a_network_that_crops_its_image_lies_on_the_crop(self, tmp_path):
        class Cropped(Colours):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x[..., 16:48, 16:48])

        patch((255, 0, 0), (36, 24), of=64).save(tmp_path / "red.png")
        model = saywhy.load(Cropped(), input_size=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        (one,) = textual(model, x, 0, "features", count=1, folder=tmp_path).words[0]
        left, top, right, bottom = one.present[0].examples[0].box
        assert 36 <= (left + right) / 2 <= 44
        assert 24 <= (top + bottom) / 2 <= 32

    def test_damaged_example_image_is_skipped_with_a_warning(self, model, folder):
        (folder / "broken.png").write_bytes(b"no image")
        with pytest.warns(SaywhyWarning, match="broken.png"):
            (one,) = say(model, folder=folder).words[0]
        assert one.present[0].examples[0].path.name == "red.png"

    def test_folder_without_readable_images_raises(self, model, tmp_path):
        with pytest.raises(InputError, match="is none"):
            say(model, folder=tmp_path / "nowhere")
        with pytest.raises(ImageError, match="holds no image"):
            say(model, folder=tmp_path)
        (tmp_path / "broken.png").write_bytes(b"no image")
        with pytest.raises(ImageError, match="no image of the folder can be read"):
            say(model, folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be a whole number"),
        ({"count": True}, "count must be a whole number"),
        ({"examples": 0}, "examples must be a whole number"),
        ({"least_iou": 2}, "least_iou must be a number from 0 to 1"),
    ],
)
def test_invalid_parameters_raise(model, settings, message):
    with pytest.raises(InputError, match=message):
        say(model, **settings)
