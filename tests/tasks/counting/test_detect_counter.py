"""Any detector as a counter: suppression and thresholds of classes, gradients, and boxes in pixels of the image."""

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation
from saywhy.errors import InputError, TargetError
from saywhy.models import Model, Preprocess
from saywhy.targets import Count
from saywhy.tasks.counting.detect import DetectionThresholds, detection_counts, detections_of
from saywhy.tasks.counting.detect_counter import DetectCounter, counts_by_label, detect, tuned_detect_counter

PLAIN = Preprocess((20, 40), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Columns(nn.Module):
    """A box over each of four columns, its score the mean of the red channel there; two boxes over the first."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()

    def forward(self, image: Tensor) -> list[dict[str, Tensor]]:
        scores = self.features(image)[:, 0].unflatten(2, (4, -1)).mean((1, 3))
        width, height = image.shape[3] / 4, float(image.shape[2])
        boxes = torch.tensor([[n * width, 0, (n + 1) * width, height] for n in (0, 0, 1, 2, 3)])
        labels = torch.tensor([1, 1, 1, 3, 3])
        return [{"boxes": boxes, "scores": torch.cat([one[:1] * 0.99, one]), "labels": labels} for one in scores]


def bars(*shades: float) -> Image.Image:
    made = Image.new("RGB", (80, 20))
    for number, shade in enumerate(shades):
        made.paste((round(255 * shade), 0, 0), (20 * number, 0, 20 * number + 20, 20))
    return made


def detector() -> Model:
    return Model(Columns().eval(), "columns", PLAIN, ("cat", "mug"), layer="features")


class Drawn:
    """Bars with an object under each from 0.45 on: cats in the first two columns, mugs in the others."""

    name, labels = "drawn", ("mug", "cat", "sheep")

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LocalizedImage:
        shades = self.rows[index]
        objects = tuple(
            ObjectAnnotation("cat" if n < 2 else "mug", (20.0 * n, 0.0, 20.0 * n + 20, 20.0))
            for n, shade in enumerate(shades)
            if shade >= 0.45
        )
        return LocalizedImage(f"{index}.png", lambda: bars(*shades), objects, tuple(one.label for one in objects))


def test_boxes_survive_by_the_thresholds_of_their_class():
    network = DetectCounter(Columns(), DetectionThresholds((0.5, 0.8), (0.3, 1.0)), {1: 0, 3: 1})
    image = PLAIN(bars(0.9, 0.4, 0.7, 0.85))[0].unsqueeze(0)
    (found,) = network(image)
    assert found["labels"].tolist() == [0, 1, 1, 0]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.85, 0.7, 0.4], abs=0.02)
    assert found["thresholds"].tolist() == pytest.approx([0.5, 0.8, 0.8, 0.5])
    plain = detections_of(Columns()(image), {1: 0, 3: 1})
    expected = detection_counts(plain, DetectionThresholds((0.5, 0.8), (0.3, 1.0)), 2)
    model = Model(network.eval(), "mine", PLAIN, ("cat", "mug"))
    counted = saywhy.count(model, bars(0.9, 0.4, 0.7, 0.85), method="saliency")
    assert [one.count for one in counted.counts] == expected[0].tolist() == [1, 1]
    soft = sum(torch.sigmoid((found["scores"][n] - 0.5) / 0.1) for n in (0, 3))
    assert counted.counts[0].raw == pytest.approx(float(soft), abs=1e-5)


def test_the_gradient_of_a_count_is_that_of_its_boxes():
    network = DetectCounter(Columns(), DetectionThresholds((0.5, 0.5), (0.3, 0.3)), {1: 0, 3: 1}).eval()
    model = Model(network, "mine", PLAIN, ("cat", "mug"))
    maps = saywhy.explain(model, bars(0.6, 0.4, 0.7, 0.2), Count("mug"), "saliency").maps[0, 0]
    assert bool((maps[:, :20] == 0).all())
    assert bool((maps[:, 20:] > 0).all())


def test_thresholds_are_tuned_on_validation_images():
    drawn = Drawn((0.9, 0.2, 0.5, 0.1), (0.3, 0.4, 0.2, 0.95), (0.5, 0.6, 0.1, 0.3))
    made = tuned_detect_counter(detector(), drawn, {1: 0, 3: 1}, batch_size=2)
    cat, mug = made.module.thresholds.score
    assert 0.4 < cat <= 0.5
    assert 0.3 < mug <= 0.5
    assert made.module.thresholds.error == (0, 0)
    assert made.layer == "detector.features"
    assert counts_by_label(drawn, ["cat", "dog", "mug"], None).tolist() == [[1, 0, 1], [0, 0, 1], [2, 0, 0]]
    assert [one.count for one in saywhy.count(made, bars(0.9, 0.9, 0.1, 0.6)).counts] == [2, 1]


def test_boxes_are_in_pixels_of_the_original_image():
    wide = Image.new("RGB", (160, 60), (255, 0, 0))
    cropped = Model(Columns().eval(), "columns", Preprocess((20, 40), (20, 20), (0, 0, 0), (1, 1, 1)), ("cat", "mug"))
    (whole,) = detect(detector(), [wide], {1: 0, 3: 1})
    assert whole.boxes[3].tolist() == [80, 0, 120, 60]
    (part,) = detect(cropped, [wide], {1: 0, 3: 1})
    assert part.boxes[3].tolist() == [80, 0, 100, 60]
    assert len(list(detect(detector(), [wide] * 3, {1: 0}, batch_size=2))) == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="a threshold of scores and one of IoU for each class, got 0 and 0"):
        DetectCounter(Columns(), DetectionThresholds((), ()))
    with pytest.raises(InputError, match="labels from 1 to 3, but there are 2 classes"):
        DetectCounter(Columns(), DetectionThresholds((0.5, 0.5), (0.3, 0.3)))(torch.zeros(1, 3, 20, 40))
    with pytest.raises(InputError, match="'drawn' has no class of the model"):
        counts_by_label(Drawn((0.5,)), ["zebra"], None)
    with pytest.raises(InputError, match="has no names of classes"):
        tuned_detect_counter(Model(Columns(), "columns", PLAIN), Drawn((0.5,)))

    class Short(nn.Module):
        def forward(self, image: Tensor) -> list[dict[str, Tensor]]:
            return [{**one, "thresholds": torch.zeros(1)} for one in Columns()(image)]

    with pytest.raises(TargetError, match="a threshold for each of 5 boxes"):
        saywhy.count(Model(Short(), "short", PLAIN), bars(0.5), method="saliency")
