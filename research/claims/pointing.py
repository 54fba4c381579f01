"""The pointing game (Grad-CAM, section 4.3): does the peak lie on the object, and are absent classes rejected?

    python -m research.claims.pointing
    python -m research.claims.pointing --data coco:PATH:val2014 --held-out coco:PATH:train2014 …

In protocol P the present classes are given. Protocol R takes the network's top five predictions, present or not; a map
whose maximum is below a threshold rejects its class. The threshold is chosen on held-out images. On mosaics of images
of different classes, evidence of a class can only be in one cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.classifiers import Classifier
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import Item, Study, named_study, on_image, supported_methods, toybox_study
from research.options import Out, Share
from saywhy.metrics.human_attention import centre_prior
from saywhy.metrics.localization import ImageMaps, fraction_of_maximum, positive_part
from saywhy.metrics.pointing import (
    SIDE,
    best_rejection_threshold,
    cell_masks,
    grid_pointing,
    mosaic,
    pointing_accuracy,
    pointing_game,
    pointing_with_rejection,
)
from saywhy.shapes import Scores
from saywhy.targets import Top

CMWP = "contrastive-excitation-backprop"
METHODS = ("gradcam", CMWP)
CLASS_AGNOSTIC_BASELINES = ("uniform", "centre prior")
ALL_ABSENT = "every class rejected"
UNSURE = "gradcam, rejected below a probability of 0.5"
REJECT = (UNSURE, ALL_ABSENT)

IMAGES, CHOSEN, MOSAICS = 200, 100, 30
"""For each network: images, held-out images for the threshold, and mosaics."""

MOST = 5
"""Number of top predictions."""

SURE = 0.5
"""The probability above which the network predicts a class; required of all images in a mosaic."""

PAPER = {"gradcam": "0.706", CMWP: "0.603"}
"""Published: protocol R on COCO, GoogLeNet."""

TORCHRAY = {"gradcam": "0.573", CMWP: "0.585", "centre prior": "0.278"}
"""TorchRay: protocol P on COCO val2014, ResNet-50, mean over classes, tolerance of 15 pixels."""


@dataclass
class PointingResults:
    """Measurements: hits of "P" and "R", those of "R" by whether the class is present, and "grid".

    Attributes:
        measurements: by quantity and map.
        classes: the class of every hit of P.
        thresholds: for each method, the thresholds of the networks.
    """

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    classes: list[int] = field(default_factory=list)
    thresholds: dict[str, list[float]] = field(default_factory=dict)

    def protocol_p(self, item: Item, methods: list[str], tolerance: int) -> None:
        """Measure protocol P: the present classes."""
        explained = item.explain(list(item.classes), methods)
        masks = item.masks()
        for who, maps in maps_of(explained).items():
            for hit in pointing_game(maps, masks, tolerance=tolerance)[0].tolist():
                self.measurements.add("P", who, hit, item.place, share=True)
        self.classes += item.classes

    def protocol_r(self, item: Item, thresholds: dict[str, float], tolerance: int) -> None:
        """Measure protocol R: the top predictions, present or not."""
        explained = item.explain(Top(_predictions(item.network)), list(thresholds))
        masks = item.masks(explained.classes[0].tolist())
        there = masks.flatten(2).any(2)[0].tolist()
        for who, threshold in {**thresholds, ALL_ABSENT: inf, UNSURE: SURE}.items():
            maps = on_image(explained, who if who in thresholds else "gradcam")
            if who == UNSURE and explained.probabilities is not None:
                maps = with_maximum(maps, explained.probabilities)
            found = pointing_with_rejection(maps, masks, threshold=threshold, tolerance=tolerance)[0].tolist()
            for right, present in zip(found, there, strict=True):
                for what in ("R", "present" if present else "absent"):
                    self.measurements.add(what, who, right, item.place, share=True)

    def mosaic(self, network: Classifier, methods: list[str], of: list[Item], number: int) -> None:
        """Measure a mosaic of images of one class each, for each class."""
        preprocess = network.model.preprocess
        assert preprocess is not None
        image = mosaic(torch.stack([preprocess(item.image)[0] for item in of]))[None]
        explained = saywhy.explain(network.model, image, [item.classes[0] for item in of], methods)
        size = (image.shape[2], image.shape[3])
        masks = cell_masks(torch.arange(len(of))[None], size[::-1])
        for who in explained.methods:
            shares = grid_pointing(explained.heatmap(size, "none", method=who), masks)
            for share in shares[0].tolist():
                self.measurements.add("grid", who, share, (network.seed, number))

    def report(self, study: Study) -> str:
        """Return the section."""
        hits = self.measurements.estimates("P", (*METHODS, *CLASS_AGNOSTIC_BASELINES))
        rejected = {what: self.measurements.estimates(what, (*METHODS, *REJECT)) for what in ("R", "present", "absent")}
        grid = self.measurements.estimates("grid", METHODS)
        given_rows = [
            [who, found, f"{self._over_classes(who):.3f}", TORCHRAY.get(who, ""), self.measurements.networks("P", who)]
            for who, found in hits.items()
        ]
        rejection_rows = [
            [
                who,
                found,
                PAPER.get(who, ""),
                rejected["present"].get(who, ""),
                rejected["absent"].get(who, ""),
                ", ".join(f"{one:.3g}" for one in self.thresholds.get(who, [])),
            ]
            for who, found in rejected["R"].items()
        ]
        cells = [[who, found, self.measurements.networks("grid", who)] for who, found in grid.items()]
        within = f"within {study.tolerance} pixels of it" if study.tolerance else "on it"
        first = hits["gradcam"]
        return f"""## Pointing

{study.data.name}; networks that end in pooling and a linear layer, as the paper's GoogLeNet does; c-MWP at the layer of
Grad-CAM. **Protocol P**: {first.items} present classes in {first.scenes} images are given, and
a peak must lie {within}. The table also has the mean over classes, and TorchRay's results for ResNet-50 on COCO val2014
within 15 pixels.

{table(["map", "hits", "mean over classes", "TorchRay, COCO", "networks"], given_rows)}

{self._rejection(study, rejection_rows)}

**Mosaics** of {SIDE} × {SIDE} images of different classes that the network predicts with a probability above one half:
the share of a map's evidence in the cell of its class. A uniform map has {1 / SIDE**2:.3f}.

{table(["map", "share in its cell", "networks"], cells) if cells else "Too few such images for a mosaic."}

### Verdicts

{table(["claim", "difference", "verdict", "paper"], self._verdicts())}"""

    def _rejection(self, study: Study, rows: list[list[object]]) -> str:
        if not rows:
            return "**Protocol R** needs held-out images to choose a threshold on, which were not given."
        assert study.held_out is not None
        heads = ["map", "accuracy", "paper, COCO", "on present classes", "on absent classes", "thresholds"]
        return f"""**Protocol R**: the top {MOST} predictions; a map whose maximum is below the threshold rejects its
class. The threshold is chosen for each network and method on {study.held_out.name}, for the highest accuracy. Two
baselines: rejecting every class is right whenever a predicted class is absent, and the network's own probability can
also reject.

{table(heads, rows)}"""

    def _over_classes(self, who: str) -> float:
        hits = torch.tensor(self.measurements.values["P", who], dtype=torch.float64)
        return pointing_accuracy(hits, torch.tensor(self.classes)).over_classes

    def _verdicts(self) -> list[list[object]]:
        claims = [
            ("Grad-CAM points at classes better than c-MWP (P)", "P", CMWP, "-0.012 (TorchRay)"),
            ("… than a random position", "P", "uniform", ""),
            ("… than the centre prior", "P", "centre prior", "0.295 (TorchRay)"),
            ("Grad-CAM points and rejects better than c-MWP (R)", "R", CMWP, "0.103"),
            ("… than rejecting every class", "R", ALL_ABSENT, ""),
            ("… than rejecting by the network's own probability", "R", UNSURE, ""),
            ("Grad-CAM rejects absent classes more often than c-MWP", "absent", CMWP, "stated without a number"),
            ("Grad-CAM stays in its cell of a mosaic more than c-MWP", "grid", CMWP, ""),
        ]
        found = [
            [*self.measurements.claim(text, what, "gradcam", other), paper]
            for text, what, other, paper in claims
            if (what, other) in self.measurements.values and (what, "gradcam") in self.measurements.values
        ]
        if ("grid", "gradcam") in self.measurements.values:
            text = "… and more than a uniform map"
            found.append([*self.measurements.claim_above(text, "grid", "gradcam", 1 / SIDE**2), ""])
        return found


def maps_of(explained: saywhy.Explanation) -> dict[str, ImageMaps]:
    """Return all maps on the image's pixels by name, and two class-agnostic baselines."""
    found = {method: on_image(explained, method) for method in explained.methods}
    like = found["gradcam"]
    prior = centre_prior((like.shape[2], like.shape[3])).expand(like.shape)
    return found | {"uniform": torch.ones_like(like), "centre prior": prior}


def with_maximum(maps: ImageMaps, maxima: Scores) -> ImageMaps:
    """Scale maps to given maxima; maps without a positive value are not changed.

    >>> with_maximum(torch.tensor([[[[2.0, 8.0]], [[0.0, -1.0]]]]), torch.tensor([[0.5, 0.9]])).tolist()
    [[[[0.125, 0.5]], [[0.0, 0.0]]]]
    """
    return fraction_of_maximum(positive_part(maps)[0]) * maxima.cpu()[..., None, None]


def threshold(study: Study, network: Classifier, method: str, count: int, progress: Progress) -> float:
    """Return the threshold with the highest accuracy on the held-out images."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        what = f"threshold of {method}, network {network.seed}"
        for item in at_most(count, study.items(network, held_out=True), what, progress):
            explained = item.explain(Top(_predictions(network)), method)
            yield on_image(explained), item.masks(explained.classes[0].tolist())

    return best_rejection_threshold(batches(), tolerance=study.tolerance).threshold


def mosaics(items: Iterator[Item], images: int) -> Iterator[list[Item]]:
    """Yield groups of ``images`` items of different classes, each predicted with a probability above one half."""
    waiting: dict[int, list[Item]] = {}
    for item in items:
        explained = item.explain(item.classes[0], "eigencam")
        if explained.probabilities is not None and float(explained.probabilities) > SURE:
            waiting.setdefault(item.classes[0], []).append(item)
        if len(waiting) == images:
            yield [own.pop(0) for own in waiting.values()]
            waiting = {label: own for label, own in waiting.items() if own}


def _predictions(network: Classifier) -> int:
    return min(MOST, len(network.model.labels or range(MOST)))


@zeros_allowed()
def measure_study(study: Study, share: float, items: int, progress: Progress) -> PointingResults:
    """Measure both protocols and the mosaics, for every network."""
    found = PointingResults()
    for network in study.networks:
        methods: list[str] = []
        of = f", network {network.seed}"
        for item in at_most(scaled(items, share), study.items(network), f"pointing{of}", progress):
            methods = methods or supported_methods(network, item.image, METHODS)
            found.protocol_p(item, methods, study.tolerance)
        if study.held_out is not None:
            chosen = scaled(CHOSEN * items // IMAGES, share)
            limits = {method: threshold(study, network, method, chosen, progress) for method in methods}
            for method, limit in limits.items():
                found.thresholds.setdefault(method, []).append(limit)
            for item in at_most(scaled(items, share), study.items(network), f"rejecting{of}", progress):
                found.protocol_r(item, limits, study.tolerance)
        drawn = mosaics(study.items(network, alone=True), SIDE**2)
        for number, nine in enumerate(at_most(scaled(MOSAICS, share), drawn, f"mosaics{of}", progress)):
            found.mosaic(network, methods, nine, number)
    return found


def report(progress: Progress, share: float = 1.0, study: Study | None = None, items: int = IMAGES) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the images, for a quick run.
        study: the networks and data; None takes those of Toybox that end in pooling.
        items: images for every network.
    """
    study = study or toybox_study(progress, ("gap",))
    return measure_study(study, share, items, progress).report(study)


def main(
    out: Out = None,
    share: Share = 1.0,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. voc:PATH:test.")] = None,
    held_out: Annotated[str | None, typer.Option(help="The held-out images to choose a threshold on.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:googlenet",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Images for every network.")] = IMAGES,
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, held_out, weights) if data else None
    run(lambda progress: report(progress, share, study, items), out)


if __name__ == "__main__":
    typer.run(main)
