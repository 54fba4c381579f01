"""Counters on other ways to features, with planted truth: tokens, NHWC, cropped cells, fine-tuning, COCO's layout."""

import json

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.datasets.load import open_dataset
from saywhy.engine.layout import Layout
from saywhy.errors import LayerError, WeightsError
from saywhy.metrics.counting import mrmse
from saywhy.tasks.counting.baselines import category_mean
from saywhy.tasks.counting.count_data import extract_features
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.features import CroppedCells, LayerFeatures, PooledCells
from saywhy.tasks.counting.networks import AssociativeSubitizing, Glance
from saywhy.tasks.counting.stored_counter import CounterDescription
from saywhy.tasks.counting.train import learn_counter, predict_counts
from saywhy.tasks.counting.train_counter import CounterSettings, describe, train_counter
from saywhy.toybox.localized import ToyboxDataset
from saywhy.training.loop import Plan

PLAN = Plan((), batch=16, rate=1e-2, warmup=5, clip=5.0, seed=3)
SIDE = 32


def timm_vit() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.models.VisionTransformer(
        img_size=SIDE, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=5, reg_tokens=2
    )


def timm_swin() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.models.SwinTransformer(
        img_size=SIDE, patch_size=4, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(1, 1), num_classes=5
    )


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(SIDE, 4, 2, 2, 24, 48, num_classes=5)


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [1, 1], [1, 1], [4, 4], num_classes=5)


BACKBONES = {
    "timm vit": (timm_vit, "blocks.1", Layout("tokens", (8, 8), prefix=3)),
    "torchvision vit": (torchvision_vit, "encoder.layers.encoder_layer_1", Layout("tokens", (8, 8), prefix=1)),
    "timm swin": (timm_swin, "layers.0", Layout("channels-last", (8, 8))),
    "torchvision swin": (torchvision_swin, "features.1", Layout("channels-last", (8, 8))),
}


def built(name: str) -> tuple[nn.Module, str, Layout]:
    build, layer, layout = BACKBONES[name]
    torch.manual_seed(0)
    return build().eval(), layer, layout


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_an_object_changes_the_features_of_its_own_cell_most(name):
    network, layer, layout = built(name)
    cells = PooledCells(LayerFeatures(network, layer, layout), 2)
    plain = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        before = cells(plain)
        for column in range(2):
            for row in range(2):
                planted = plain.clone()
                planted[:, :, 16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12] = 1.0
                moved = (cells(planted) - before).norm(dim=2)[0]
                assert int(moved.argmax()) == 2 * column + row  # column-major


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_layout_of_a_backbone_is_proved_where_a_training_begins(name):
    network, layer, layout = built(name)
    settings = CounterSettings("associative", 2, 8, (SIDE, SIDE), layer=layer)
    found = describe(saywhy.load(network), settings, ToyboxDataset("val", count=2))
    assert found.layer == layer
    assert found.layout == (layout.kind, 8, 8, layout.prefix, 0)
    assert CounterDescription.read(found.text()) == found
    assert found.features(saywhy.load(network)).features.layout == layout
    broken = found.text().replace(layout.kind, "upside-down")
    with pytest.raises(WeightsError, match="a layout is a kind and four whole numbers"):
        CounterDescription.read(broken)


VIT = """
import torch
from torchvision.models import VisionTransformer

input_size = 32

def network():
    torch.manual_seed(0)
    return VisionTransformer(32, 4, 2, 2, 24, 48, num_classes=5)
"""


@pytest.mark.slow
def test_a_counter_on_tokens_is_trained_written_read_and_explained(tmp_path):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    (tmp_path / "vit.py").write_text(VIT)
    backbone = saywhy.load(f"{tmp_path / 'vit.py'}:network")
    backbone.name = f"{tmp_path / 'vit.py'}:network"  # the name by which the file finds it again
    settings = CounterSettings("sequential", 2, 8, (SIDE, SIDE), layer="encoder.layers.encoder_layer_1", steps=3)
    train_counter(tmp_path / "c.safetensors", ToyboxDataset("talk-train", count=24), backbone, settings)
    model, passes = saywhy.load(f"counter:{tmp_path / 'c.safetensors'}"), []
    model.module.features.features.network.register_forward_hook(lambda *_: passes.append(1))
    found = saywhy.count(model, ToyboxDataset("val", count=1)[0].open())
    assert passes == [1]
    assert found.explanation.maps.shape[2:] == (8, 8)
    assert found.cells.shape == (20, 2, 2)


def test_a_backbone_that_crops_has_no_cells_of_the_image():
    class Cropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.features = nn.Conv2d(3, 8, 4, stride=4)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x[:, :, 16:, 16:]).relu().mean((2, 3)))

    settings = CounterSettings("associative", 2, 8, (64, 64), layer="features")
    with pytest.raises(LayerError, match="no map of the whole image"):
        describe(saywhy.load(Cropping().eval()), settings, ToyboxDataset("val", count=2))


def squares(count: int, seed: int, grid: int = 2) -> tuple[Tensor, Tensor]:
    """Images with a red and a green square in some cells of a grid, and the counts of the cells."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, grid, grid, generator=generator) < 0.4  # (image, class, row, column)
    images, side = torch.zeros(count, 3, SIDE, SIDE), SIDE // grid
    for image, label, row, column in places.nonzero().tolist():
        top, left = row * side + 3, column * side + 3 + 5 * label
        images[image, label, top : top + 9, left : left + 5] = 1.0
    return images, places.float().flatten(2).mT.unflatten(1, (grid, grid)).transpose(1, 2).flatten(1, 2)


def trunk() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).eval()


@pytest.mark.slow
def test_cropped_cells_learn_to_count_and_match_their_cell():
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    images, truth = squares(96, 0)
    other, expected = squares(48, 1)
    features = CroppedCells(LayerFeatures(trunk(), "3"), 2, 16)
    torch.manual_seed(0)
    head = AssociativeSubitizing(8, 2, 2, 16)
    learn_counter(head, extract_features(features, images), truth, PLAN, 150)
    with torch.no_grad():
        found = Counter(features, head).eval()(other)
    error = mrmse(found.counts, expected.sum(1)).value
    assert error < 0.5 * mrmse(category_mean(truth.sum(1), 48), expected.sum(1), rounded=False).value
    assert float(((found.cells - expected).abs() < 0.5).float().mean()) > 0.9  # each count in its own cell


@pytest.mark.slow
@pytest.mark.parametrize("trainable", [False, True])
def test_fine_tuning_changes_the_backbone_and_freezing_does_not(trainable):
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    images, truth = squares(96, 0)
    backbone = trunk()
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    torch.manual_seed(0)
    net = Counter(PooledCells(LayerFeatures(backbone, "3", trainable=trainable), 1), Glance(8, 2, hidden=16, layers=1))
    learn_counter(net, images, truth.sum(1, keepdim=True), PLAN, 80)
    same = [torch.equal(old, new) for old, new in zip(before, backbone.parameters(), strict=True)]
    assert all(same) is not trainable
    assert any(same) is not trainable
    other, expected = squares(48, 1)
    error = mrmse(predict_counts(net, other), expected.sum(1)).value
    assert error < mrmse(category_mean(truth.sum(1), 48), expected.sum(1), rounded=False).value


@pytest.mark.slow
@pytest.mark.real
def test_coco_boxes_and_frozen_real_features_train_a_counter(real, tmp_path):
    """Red and green discs on grey, in COCO's layout; the features are those of a real SqueezeNet, frozen."""
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    weights = real / "imagenet" / "squeezenet1_0.safetensors"
    if not weights.is_file():
        pytest.skip(f"there is no file '{weights}'")
    images, cells = squares(120, 0)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    rows, boxes = [], []
    for number, (image, truth) in enumerate(zip(images, cells, strict=True)):
        drawn = Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).resize(
            (96, 96), Image.Resampling.NEAREST
        )
        drawn.save(tmp_path / "val2017" / f"{number:012d}.png")
        rows.append({"id": number, "file_name": f"{number:012d}.png", "width": 96, "height": 96})
        for cell, label in truth.nonzero().tolist():
            column, row = divmod(cell, 2)
            box = [3 * (16 * column + 3 + 5 * label), 3 * (16 * row + 3), 15, 27]
            boxes.append({"id": len(boxes), "image_id": number, "category_id": label + 1, "bbox": box, "iscrowd": 0})
    record = {
        "images": rows,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(record))
    backbone = saywhy.load("torchvision:squeezenet1_0", weights=weights)
    before = backbone.digest()
    settings = CounterSettings("associative", 2, 32, (96, 96), steps=250, rate=1e-2)
    out, data = tmp_path / "c.safetensors", open_dataset(f"coco:{tmp_path}:val2017")
    metadata = train_counter(out, data, backbone, settings)
    assert backbone.digest() == before
    assert float(metadata["validation_mRMSE"]) < 0.5 * float(metadata["validation_mRMSE_of_category_mean"])
    found = saywhy.count(f"counter:{out}", tmp_path / "val2017" / "000000000003.png")
    assert [one.name for one in found.counts] == ["red", "green"]
