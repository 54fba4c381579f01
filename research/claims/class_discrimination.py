"""Class discrimination (Grad-CAM, section 5.1), with networks in place of people: which of two objects is shown?

    python -m research.claims.class_discrimination
    python -m research.claims.class_discrimination --data voc:PATH:val --model torchvision:vgg16 …

An image has two kinds of objects. A network's map of one of them is shown to another network, which predicts which of
the two it is. The paper asked people, so that this is a proxy: a network may read from a map what no person sees, and
may fail where no person does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Bool, UInt8
from PIL import Image
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.classifiers import Classifier, classifier
from research.claims.maps import MapMeasurements, Mask
from research.claims.measure import table
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import ENDS, Item, Study, named_study, toybox_study
from research.options import Out, Share
from saywhy.errors import InputError

METHODS = ("deconvnet", "guided-backprop", "deconv-gradcam", "guided-gradcam", "gradcam")
MASK = "the object's own outline"

PAPER = dict(zip(METHODS[:4], (0.5333, 0.4444, 0.6037, 0.6123), strict=True))
"""Accuracy of people, VGG-16 and AlexNet on PASCAL VOC 2007."""

WAYS = {"itself": "the map itself", "through": "the image through it"}
"""The two ways in which a map is shown."""

SHARE = 0.1
"""Share of the image that is shown through a map."""

IMAGES = 100
"""Images for every network."""

Pixels = UInt8[np.ndarray, "height width 3"]
Shown = Bool[Tensor, "height width"]
"""An image, and the mask of its shown pixels."""


@dataclass
class ClassDiscrimination:
    """Correct predictions of the evaluation network, by the way in which a map is shown and by map."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)

    def add(self, item: Item, evaluator: saywhy.Model) -> None:
        """Measure one image with two kinds of objects, each shown in both ways."""
        signed, size = (item.explain(list(item.classes), METHODS, channels=how) for how in ("sum", "abs"))
        image = np.asarray(item.image)
        for target in range(2):
            for method in METHODS:
                shown, there = (
                    one.heatmap(image.shape[:2], "none", method=method)[0, target] for one in (signed, size)
                )
                self._ask("itself", method, grey(shown), item, target, evaluator)
                self._ask("through", method, through(image, highest(there)), item, target, evaluator)
            outline = item.masks()[0, target].numpy()
            self._ask("through", MASK, through(image, outline), item, target, evaluator)

    def _ask(self, way: str, who: str, image: Pixels, item: Item, target: int, evaluator: saywhy.Model) -> None:
        labels = item.network.model.labels
        kinds = [labels[one] for one in item.classes] if labels is not None else list(item.classes)
        scores = saywhy.explain(evaluator, Image.fromarray(image), kinds, "eigencam").scores[0]
        self.measurements.add(way, who, right(scores, target), item.place, share=True)

    def report(self, study: Study) -> str:
        """Return the section."""
        found = {way: self.measurements.estimates(way, (*METHODS, MASK)) for way in WAYS}
        rows = [
            [
                who,
                *(found[way].get(who, "") for way in WAYS),
                f"{PAPER[who]:.3f}" if who in PAPER else "",
                self.measurements.networks("through", who),
            ]
            for who in (*METHODS, MASK)
        ]
        heads = [
            "map",
            *(f"accuracy of the evaluation network: {way}" for way in WAYS.values()),
            "people, paper",
            "networks, through it",
        ]
        first = found["through"]["gradcam"]
        ends = " or ".join(ENDS.get(form, form) for form in study.forms)
        return f"""## Class discrimination, by an evaluation network

**A proxy for people, not people.** {study.data.name}: {first.scenes} images with two kinds of objects, {first.items}
maps. The map of one kind, of a network that ends in {ends}, is shown to an evaluation network of another seed,
which predicts which of the two kinds it is. *The map itself* is a grey image in which zero is mid-grey. *The image
through it* is the tenth of the image's pixels with the largest magnitude of the map, all others replaced by the image's
mean colour. Gradients are summed over colour channels, with signs for the map itself and as magnitudes otherwise. A map
that does not depend on the kind is right exactly half of the time. The paper showed all three colours to people.

{table(heads, rows)}

### Verdicts

{table(["claim", "difference", "verdict", "people, paper"], list(self._verdicts()))}"""

    def _verdicts(self) -> Iterator[list[object]]:
        for way, shown_as in WAYS.items():
            for text, one, other in CLAIMS:
                paper = f"{PAPER[one] - PAPER[other]:+.3f}"
                yield [*self.measurements.claim(f"{text} ({shown_as})", way, one, other), paper]
            text = f"Guided Grad-CAM distinguishes the kinds at all ({shown_as})"
            above = self.measurements.claim_above(text, way, "guided-gradcam", 0.5)
            yield [*above, f"{PAPER['guided-gradcam'] - 0.5:+.3f}"]


CLAIMS = (
    ("Guided Grad-CAM distinguishes the kinds better than guided backprop", "guided-gradcam", "guided-backprop"),
    ("Deconvolution Grad-CAM distinguishes them better than deconvolution", "deconv-gradcam", "deconvnet"),
    ("Deconvolution distinguishes them better than guided backprop", "deconvnet", "guided-backprop"),
    ("Guided Grad-CAM distinguishes them better than deconvolution Grad-CAM", "guided-gradcam", "deconv-gradcam"),
)


def right(scores: Tensor, target: int) -> float:
    """Return 1 if the shown kind has the higher score, one half if both are equal, else 0.

    >>> right(torch.tensor([2.0, 1.0]), 0), right(torch.tensor([2.0, 1.0]), 1), right(torch.tensor([2.0, 2.0]), 1)
    (1.0, 0.0, 0.5)
    """
    mine, other = float(scores[target]), float(scores[1 - target])
    return 0.5 if mine == other else float(mine > other)


def grey(shown: Tensor) -> Pixels:
    """Return a signed map as a grey image: zero is mid-grey, and the largest magnitude black or white.

    >>> grey(torch.tensor([[-2.0, 0.0, 1.0]]))[0, :, 0].tolist()
    [0, 128, 191]
    """
    values = shown.double()
    largest = values.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    bright = (127.5 + 127.5 * values / largest).round().to(torch.uint8)
    return np.repeat(bright.numpy()[:, :, None], 3, 2)


def highest(shown: Tensor) -> Mask:
    """Return the mask of the tenth of pixels with the largest magnitude, or of all non-zero ones if fewer.

    >>> int(highest(torch.arange(-10.0, 10.0).view(4, 5)).sum()), int(highest(torch.eye(20)[:1]).sum())
    (2, 1)
    """
    size = shown.abs().flatten()
    count = min(int(SHARE * len(size)), int((size > 0).sum()))
    mask = torch.zeros(len(size), dtype=torch.bool)
    mask[size.topk(count).indices] = True
    return mask.view(shown.shape).numpy()


def through(image: Pixels, seen: Mask) -> Pixels:
    """Return the image inside the mask, and its mean colour elsewhere.

    >>> through(np.array([[[9, 0, 0], [1, 0, 0]]], np.uint8), np.array([[True, False]]))[0].tolist()
    [[9, 0, 0], [5, 0, 0]]
    """
    mean = image.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return np.where(seen[:, :, None], image, mean)


def evaluation_pairs(
    explained: Sequence[Classifier], others: Sequence[Classifier]
) -> Iterator[tuple[Classifier, Classifier]]:
    """Yield every network with an evaluation network of the next seed.

    Raises:
        InputError: there are not networks of two seeds.

    >>> networks = tuple(Classifier(seed, None) for seed in range(3))
    >>> [(one.seed, evaluator.seed) for one, evaluator in evaluation_pairs(networks, networks)]
    [(0, 1), (1, 2), (2, 0)]
    """
    for number, network in enumerate(explained):
        evaluator = others[(number + 1) % len(others)]
        if evaluator.seed == network.seed:
            raise InputError(
                f"expected an evaluation network of another seed, got seed {evaluator.seed} for both. "
                "Give networks of two seeds."
            )
        yield network, evaluator


def pairs(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items with two kinds of objects."""
    return (item for item in items if len(item.classes) == 2)


@zeros_allowed()
def measure_study(
    study: Study, evaluators: Sequence[Classifier], count: int, progress: Progress
) -> ClassDiscrimination:
    """Measure ``count`` images for every network, with another one as the evaluation network."""
    found = ClassDiscrimination()
    for network, evaluator in evaluation_pairs(study.networks, evaluators):
        what = f"class discrimination, network {network.seed}, evaluation network {evaluator.seed}"
        for item in at_most(count, pairs(study.items(network, alone=False)), what, progress):
            found.add(item, evaluator.model)
    return found


def report(
    progress: Progress,
    share: float = 1.0,
    study: Study | None = None,
    evaluators: Sequence[Classifier] = (),
    items: int = IMAGES,
) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the images, for a quick run.
        study: the explained networks and data; None takes those of Toybox that end in hidden layers.
        evaluators: the evaluation networks, of other seeds; in Toybox those that end in pooling.
        items: images for every network.
    """
    if study is None:
        study = toybox_study(progress, ("mlp",))
        evaluators = [classifier(network.seed, progress) for network in study.networks]
    return measure_study(study, evaluators, scaled(items, share), progress).report(study)


def main(
    out: Out = None,
    share: Share = 1.0,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. voc:PATH:val.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    evaluator: Annotated[str, typer.Option(help="The evaluation network.")] = "torchvision:resnet50",
    evaluator_weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Images for every network.")] = IMAGES,
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, weights=weights) if data else None
    evaluators = [Classifier(1, saywhy.load(evaluator, evaluator_weights), evaluator)] if data else []
    run(lambda progress: report(progress, share, study, evaluators, items), out)


if __name__ == "__main__":
    typer.run(main)
