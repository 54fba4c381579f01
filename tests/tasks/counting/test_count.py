"""``saywhy.count``: counts, intervals and maps of counters, density maps and detectors."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.datasets.localized import ObjectAnnotation
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, TargetError
from saywhy.models import Model, Preprocess
from saywhy.targets import Count
from saywhy.tasks.counting.count import CountExplanation, ObjectCount
from saywhy.tasks.counting.counter import Counter, counter_model
from saywhy.tasks.counting.features import LayerFeatures, PooledCells
from saywhy.tasks.counting.found_objects import object_effects
from saywhy.tasks.counting.influence import counter_influence
from saywhy.tasks.counting.intervals import CountErrors, ErrorRange
from saywhy.tasks.counting.networks import AssociativeSubitizing, Glance, SequentialSubitizing
from saywhy.view.count import object_summary

LABELS = ["cat", "dog", "mug"]
BOX = (0.0, 0.0, 4.0, 4.0)
SETTINGS = {"layer": "features.features.network.0", "layout": Layout("channels-first", (12, 12))}


def trunk() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(864, 2))


def counter(errors: CountErrors | None = None, bias: float = 0.5, grid: int = 3) -> Model:
    torch.manual_seed(2)
    head = SequentialSubitizing(6, 3, grid, hidden=4) if grid > 1 else Glance(6, 3, hidden=8)
    with torch.no_grad():
        if grid > 1:
            head.output.bias.copy_(torch.tensor([bias, 0.1, -2.0]))
    network = Counter(PooledCells(LayerFeatures(trunk(), "1"), grid), head, errors=errors).eval()
    return counter_model(network, LABELS, Preprocess((12, 12), None), "mine")


def picture() -> Image.Image:
    pixels = torch.randint(0, 255, (20, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return Image.fromarray(pixels.numpy())


def test_counts_are_those_of_a_plain_pass_and_maps_those_of_explain():
    model, image = counter(), picture()
    found = saywhy.count(model, image, **SETTINGS)
    plain = model.module(model.preprocess(image)[0].unsqueeze(0))
    assert [one.raw for one in found.counts] == plain.counts[0].tolist()
    assert [one.count for one in found.counts] == plain.counts[0].round().tolist()
    assert found.total == sum(one.count for one in found.counts)
    names = [one.name for one in found.explained]
    assert names[0] == "cat"
    assert found.explanation.targets == [names]
    again = saywhy.explain(model, image, [Count(name) for name in names], relu=False, **SETTINGS)
    assert torch.equal(found.explanation.maps, again.maps)
    assert bool((found.explanation.maps < 0).any())
    for one in found.counts:
        number = LABELS.index(one.name)
        torch.testing.assert_close(found.cells_of(one).T.flatten(), plain.cells[0, :, number])


HEADS = {
    "glance": lambda: Glance(6, 3, hidden=8),
    "associative": lambda: AssociativeSubitizing(6, 3, 3, hidden=8),
    "sequential": lambda: SequentialSubitizing(6, 3, 3, hidden=4),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("of", [None, "animals"])
def test_the_first_call_is_one_pass_of_the_network_and_one_backward(kind, of):
    torch.manual_seed(2)
    head = HEADS[kind]()
    network = Counter(PooledCells(LayerFeatures(trunk(), "1"), head.grid), head).eval()
    model, image, passes = counter_model(network, LABELS, Preprocess((12, 12), None), "mine"), picture(), []
    network.features.features.network.register_forward_hook(lambda _m, given, _o: passes.append(len(given[0])))
    found = saywhy.count(model, image, of)
    assert passes == [1]
    assert found.explanation.layers == ("features.features.network.1",)
    activations = network.features.features(model.preprocess(image)[0].unsqueeze(0)).detach().requires_grad_()
    cells = head(network.features.__class__(nn.Identity(), head.grid)(activations))[0].sum(0)
    score = sum(cells[LABELS.index(label)] for label in found.explained[0].labels)
    (gradient,) = torch.autograd.grad(score, activations)
    expected = (gradient.mean((2, 3), keepdim=True) * activations.detach()).sum(1)[0]  # Grad-CAM, eq. 1 and 2, no ReLU
    torch.testing.assert_close(found.explanation.maps[0, 0], expected)


def test_the_counters_own_layer_needs_no_proof_and_says_so():
    model, image = counter(), picture()
    own = saywhy.count(model, image, "cat")
    named = saywhy.count(model, image, "cat", layer="features.features.network.1", layout=SETTINGS["layout"])
    assert torch.equal(own.explanation.maps, named.explanation.maps)
    assert torch.equal(own.explanation.scores, named.explanation.scores)
    ((rows,),) = own.explanation.diagnostics.values()
    (layout,) = [one for one in rows[0] if one.name == "layout"]
    said = "channels-first 12×12: as the counter reads this layer, to pool its cells"
    assert (layout.state, layout.text) == ("good", said)
    assert torch.equal(own.explanation.counterfactual.maps, -own.explanation.maps)


def test_the_shipped_kind_of_counter_is_one_pass_too():
    model, passes = saywhy.load("toybox:counter", weights="random"), []
    model.module.features.features.network.register_forward_hook(lambda *_: passes.append(1))
    saywhy.count(model, picture())
    assert len(passes) == 1


def test_counts_of_altered_images_are_never_taken():
    model, image = counter(), picture()
    plain = model.module(model.preprocess(image)[0].unsqueeze(0)).counts[0].tolist()
    for method in ("occlusion", "rsi-gradcam", "saliency", "ablationcam"):
        settings = SETTINGS if method in ("rsi-gradcam", "ablationcam") else {}
        assert [one.raw for one in saywhy.count(model, image, method=method, **settings).counts] == plain
    fast = saywhy.count(model, image, precision="fast", **SETTINGS)
    assert [one.raw for one in fast.counts] == pytest.approx(plain, rel=0.05)
    assert not model.module._forward_hooks


def test_nouns_choose_what_is_explained():
    model, image = counter(), picture()
    found = saywhy.count(model, image, ["animals", "mugs"], **SETTINGS)
    assert [(one.name, one.labels) for one in found.explained] == [("animals", ("cat", "dog")), ("mugs", ("mug",))]
    cat, dog, mug = found.counts
    animals = found.explained[0]
    assert (animals.raw, animals.count) == (pytest.approx(cat.raw + dog.raw), cat.count + dog.count)
    assert animals.interval is None
    torch.testing.assert_close(found.cells_of(animals), found.cells_of(cat) + found.cells_of(dog))
    assert found["mugs"].count == mug.count == found["mug"].count
    parts = saywhy.explain(model, image, [Count("cat"), Count("dog")], relu=False, **SETTINGS).maps
    torch.testing.assert_close(found.explanation.maps[:, 0], parts.sum(1))
    with pytest.raises(InputError, match="no class is named by 'cars'; nearest: 'cat'"):
        saywhy.count(model, image, "cars", **SETTINGS)
    with pytest.raises(InputError, match="empty list of nouns"):
        saywhy.count(model, image, [], **SETTINGS)
    with pytest.raises(InputError, match="must be a noun"):
        saywhy.count(model, image, [3], **SETTINGS)


def test_intervals_come_from_the_networks_errors():
    errors = CountErrors((ErrorRange(0, 0, 1, 900), ErrorRange(1, -2, 2, 120)))
    found = saywhy.count(counter(errors), picture(), **SETTINGS)
    for one in found.counts:
        low, high = (max(0, one.count - 2), one.count + 2) if one.count else (0, 1)
        assert (one.interval.low, one.interval.high, one.interval.pairs) == (low, high, 120 if one.count else 900)
    assert all(one.interval is None for one in saywhy.count(counter(), picture(), **SETTINGS).counts)


class Density(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"density": self.head(self.features(x).relu()).square()}


def test_a_density_map_is_counted_and_divided_into_cells():
    network, x = Density().eval(), torch.rand(1, 3, 8, 8)
    model = Model(network, "density", labels=("cat", "mug"), layer="features")
    found = saywhy.count(model, x, grid=2)
    density = network(x)["density"][0].detach()
    assert [one.raw for one in found.counts] == pytest.approx(density.sum((1, 2)).tolist())
    expected = density.unflatten(1, (2, 4)).unflatten(3, (2, 4)).sum((2, 4))
    torch.testing.assert_close(found.cells, expected)
    torch.testing.assert_close(found.cells.sum((1, 2)), density.sum((1, 2)))


class Boxes(nn.Module):
    """Two boxes of one class, with scores that depend on the image, and one below the threshold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        made = self.features(x).square().mean((1, 2, 3))
        boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [4, 4, 8, 8]])
        shifts = torch.tensor([0.9, 0.6, 0.2])
        return [
            {"boxes": boxes, "scores": (shifts + 0.01 * one).clamp(0, 1), "labels": torch.tensor([1, 1, 0])}
            for one in made
        ]


def test_a_detectors_boxes_are_counted_from_the_threshold_on():
    model = Model(Boxes().eval(), "boxes", labels=("cat", "mug"), layer="features")
    x = torch.rand(1, 3, 8, 8)
    found = saywhy.count(model, x, grid=2)
    assert [one.count for one in found.counts] == [0, 2]
    assert found.counts[1].raw == pytest.approx(float(found.explanation.scores[0, 0]))
    assert found.cells[1].tolist() == [[1.25, 0.25], [0.25, 0.25]]
    assert found.cells[0].sum() == 0
    strict = saywhy.count(model, x, "mug", threshold=0.8)
    assert strict.explained[0].count == 1


def test_objects_of_a_detector_are_matched_in_pixels_of_the_image():
    model = Model(Boxes().eval(), "boxes", Preprocess((8, 8), None), labels=("cat", "mug"), layer="features")
    whole = Image.new("RGB", (32, 16), (90, 60, 30))
    drawn = [ObjectAnnotation("mug", (0, 0, 16, 8)), ObjectAnnotation("cat", (0, 0, 16, 8)), ObjectAnnotation("x", BOX)]
    found = saywhy.count(model, whole, objects=drawn)
    assert [(one.label, one.state, one.weight, one.by) for one in found.objects] == [
        (1, "counted", 1, "boxes"),
        (0, "missed", 0, "boxes"),
    ]
    assert found.extra == ((8.0, 4.0, 24.0, 12.0),)
    assert object_summary(found) == "2 objects: 1 counted, 1 missed, 0 twice; 1 boxes on no object."
    assert saywhy.count(model, whole).objects is None


def test_objects_of_a_counter_are_those_of_occlusion(tmp_path):
    model, image = counter(), picture()
    drawn = [ObjectAnnotation("dog", (3, 2, 14, 9)), ObjectAnnotation("cat", (0, 10, 9, 20))]
    found = saywhy.count(model, image, "dog", objects=drawn, influence=True, **SETTINGS)
    expected = object_effects(model, image, [one.box for one in drawn], ["dog", "cat"])
    assert found.objects == expected
    fall = sum(one.weight for one in expected)
    total = found["cat"].raw + found["dog"].raw
    assert f"fall by {fall:.1f} in all, of {total:.1f} counted." in object_summary(found)
    assert ("say little" in object_summary(found)) == (fall < total / 2)
    again = CountExplanation.load(found.save(tmp_path / "a.npz"))
    assert (again.objects, again.extra) == (found.objects, ())
    torch.testing.assert_close(again.influence, found.influence)


def test_influence_of_several_classes_is_the_sum_of_theirs():
    model, image = counter(), picture()
    found = saywhy.count(model, image, ["animals", "mug"], influence=True, **SETTINGS)
    parts = [counter_influence(model, image, name) for name in LABELS]
    torch.testing.assert_close(found.influence, torch.stack([parts[0] + parts[1], parts[2]]))
    with pytest.raises(InputError, match="an influence matrix is that of a counter"):
        saywhy.count(Model(Density().eval(), "density", layer="features"), torch.rand(1, 3, 8, 8), influence=True)


def test_what_counts_nothing_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(TargetError, match=r"nothing in the model's output .* is a count"):
        saywhy.count(Model(network.eval()), torch.rand(1, 3, 8, 8))
    with pytest.raises(InputError, match="expected one image, got 2"):
        saywhy.count(counter(), torch.rand(2, 3, 12, 12), **SETTINGS)
    unnamed = Model(counter().module, "unnamed", scale="value", output="counts")
    with pytest.raises(InputError, match="has no names of classes"):
        saywhy.count(unnamed, torch.rand(1, 3, 12, 12), "mug", **SETTINGS)


def test_a_result_is_written_and_read(tmp_path):
    errors = CountErrors((ErrorRange(0, -1, 1, 900),))
    found = saywhy.count(counter(errors), picture(), ["animals", "mug"], **SETTINGS)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["total"] == found.total
    assert [one["name"] for one in record["counts"]] == LABELS
    assert len(record["explained"][0]["cells"]) == 3
    again = CountExplanation.load(found.save(tmp_path / "a.npz"))
    assert (again.counts, again.explained) == (found.counts, found.explained)
    torch.testing.assert_close(again.cells, found.cells)
    assert torch.equal(again.explanation.maps, found.explanation.maps)
    page = found.save(tmp_path / "a.html").read_text()
    assert "animals" in page
    assert "0 to " in page
    with Image.open(found.save(tmp_path / "a.png")) as drawn:
        assert json.loads(drawn.text["saywhy"])["counts"]["explained"][1]["name"] == "mug"
    with pytest.raises(InputError, match=r"expected the suffix \.html, \.png, \.jpg or \.npz"):
        found.save(tmp_path / "a.txt")
    saywhy.explain(counter(), picture(), Count(), **SETTINGS).save(tmp_path / "b.npz")
    with pytest.raises(InputError, match="holds no counts"):
        CountExplanation.load(tmp_path / "b.npz")


def test_a_page_says_that_nothing_was_counted(tmp_path):
    model = counter(bias=-5.0)
    with torch.no_grad():
        model.module.head.output.bias.fill_(-5.0)
    found = saywhy.count(model, picture(), ["cat"], **SETTINGS)
    assert found.total == 0
    assert "Nothing was counted: the count of every class is 0." in found.save(tmp_path / "a.html").read_text()
    counted = saywhy.count(counter(), picture(), ["cat"], **SETTINGS)
    assert "Nothing was counted" not in counted.save(tmp_path / "b.html").read_text()


def test_glances_have_one_cell_and_regressions_none():
    assert saywhy.count(counter(grid=1), picture(), method="saliency").cells.shape == (3, 1, 1)

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(counts=self.features(x).square().mean((2, 3))[:, :2])

    model = Model(Regression().eval(), labels=("cat", "mug"), output="counts", scale="value", layer="features")
    found = saywhy.count(model, torch.rand(1, 3, 8, 8))
    assert found.cells is None
    assert found.cells_of(ObjectCount("cat", ("cat",), 0, 0)) is None


def test_a_faster_copy_has_the_counters_own_layer_too():
    model, image = counter(), picture()
    found = saywhy.count(model, image, "cat", precision="fast")
    exact = saywhy.count(model, image, "cat")
    assert found.explanation.layers == exact.explanation.layers
    torch.testing.assert_close(found.explanation.maps, exact.explanation.maps, rtol=0.2, atol=1e-3)
