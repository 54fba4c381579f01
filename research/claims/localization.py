"""Weakly supervised localisation (Grad-CAM, section 4.1): does the box of a map match the box of the object?

    python -m research.claims.localization
    python -m research.claims.localization --data imagenet:PATH:val --model torchvision:vgg16 --items 50000

On images of one class, the class is the network's own prediction, as in ILSVRC. On images of several classes, each
class is given, and its map must be class-discriminative.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

import saywhy
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import (
    ENDS,
    Item,
    Study,
    coarse_on_image,
    named_study,
    on_image,
    supported_methods,
    toybox_study,
)
from research.options import Out, Share
from saywhy.metrics.boxes import box_iou, found_boxes, localization_errors
from saywhy.metrics.human_attention import centre_prior, on_grid
from saywhy.metrics.localization import ImageMaps
from saywhy.shapes import MapStack
from saywhy.targets import Top

CMWP = "contrastive-excitation-backprop"
METHODS = ("gradcam", "saliency", CMWP, "cam")
COARSE = "saliency, on the layer's cells"
CLASS_AGNOSTIC_BASELINES = ("centre prior", "whole image")
WHO = (*METHODS[:2], COARSE, *METHODS[2:], *CLASS_AGNOSTIC_BASELINES)

ALONE, SEVERAL = 200, 80
"""Images for each network: of one class, and of several."""

MOST = 5
"""Number of top predictions."""

PAPER = {
    ("gradcam", "mlp"): ("0.565", "0.464"),
    ("saliency", "mlp"): ("recalled 0.611", "recalled 0.515"),
    (CMWP, "mlp"): ("recalled 0.709", "recalled 0.630"),
    ("cam", "gap"): ("recalled 0.572", "0.451"),
    ("gradcam", "gap"): ("0.601", "0.493"),
}
"""Top-1 and top-5 error, ILSVRC-15: VGG-16, GoogLeNet, and for CAM VGG-16 trained again in its form."""


@dataclass
class LocalizationResults:
    """Measurements by quantity, and by map and form of network, e.g. "gradcam (mlp)"."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    cam_differences: list[float] = field(default_factory=list)

    def alone(self, item: Item, methods: list[str]) -> None:
        """Measure an image of one class: the boxes of the top predictions."""
        form, place, (label,) = item.network.form, item.place, item.classes
        explained = item.explain(Top(_predictions(item)), methods)
        predicted, truth = explained.classes, [list(item.boxes[0][0])]
        for who, maps in maps_of(explained).items():
            found = found_boxes(maps)
            errors = localization_errors(predicted, found, torch.tensor([label]), truth)
            self.measurements.add("top-1", f"{who} ({form})", errors.top1, place, share=True)
            singly = (
                localization_errors(predicted[:, [j]], [[one]], torch.tensor([label]), truth).top1
                for j, one in enumerate(found[0])
            )
            top = errors.top5 if predicted.shape[1] >= MOST else min(singly)
            self.measurements.add("top-5", f"{who} ({form})", top, place, share=True)
        self.measurements.add("class top-1", form, float(predicted[0, 0] != label), place, share=True)
        self.measurements.add("class top-5", form, float(label not in predicted[0]), place, share=True)
        if "cam" in explained.methods:
            self.cam_differences.append(cam_difference(explained["cam"][:, :1], explained["gradcam"][:, :1]))

    def several(self, item: Item, methods: list[str]) -> None:
        """Measure an image of several classes: the box of each given class."""
        explained = item.explain(list(item.classes), methods)
        for who, maps in maps_of(explained).items():
            for iou in box_iou(maps, item.boxes)[0].tolist():
                wrong = float(iou < 0.5)
                self.measurements.add("known", f"{who} ({item.network.form})", wrong, item.place, share=True)

    def report(self, study: Study) -> str:
        """Return the section."""
        kept = self.measurements
        rows: list[list[object]] = []
        for form in study.forms:
            for who in (who for who in WHO if ("top-1", f"{who} ({form})") in kept.values):
                name = [f"{who} ({form})"]
                cells = [kept.estimates(what, name)[name[0]] for what in ("top-1", "top-5", "known")]
                paper = PAPER.get((who, form), ("", ""))
                networks = kept.networks("top-1", name[0])
                ends = ENDS.get(form, form)
                rows.append([who, ends, cells[0], networks, paper[0], cells[1], paper[1], cells[2]])
        headings = ["map", "network ends in", "top-1 error", "networks", "paper", f"top-{MOST} error", "paper"]
        classes = [
            [ENDS.get(form, form), *(kept.estimates(what, [form])[form] for what in ("class top-1", "class top-5"))]
            for form in study.forms
        ]
        first = kept.estimates("top-1", [f"gradcam ({study.forms[0]})"])[f"gradcam ({study.forms[0]})"]
        known = kept.estimates("known", [f"gradcam ({study.forms[0]})"])[f"gradcam ({study.forms[0]})"]
        return f"""## Weakly supervised localisation

{study.data.name}: {first.items} images of one class, and {known.scenes} images of several classes, each explained
({known.items} maps), for networks of each form; every network of a form has its own images. The box of a map encloses
its largest connected component above 15 % of the maximum, and is correct if its IoU with a box of the class is at least
0.5. Errors are shares; lower is better. Images of one class are scored as in ILSVRC: a box counts only if the network
predicts the class. *Known class*: the box of a given class, on images of several classes. The paper segmented saliency
by GrabCut [recalled]; here its threshold is that of the other maps, and a second row averages it over the cells of
Grad-CAM's layer. The paper's figures are of ILSVRC-15: VGG-16, GoogLeNet (pooling and a linear layer), and CAM of a
retrained VGG-16.

{table([*headings, "known class, several present"], rows)}

Classification error:

{table(["network ends in", "top-1 error", f"top-{MOST} error"], classes)}

{self._equal()}

### Verdicts

{table(["claim", "difference of errors", "verdict", "paper"], self._verdicts(study))}"""

    def _equal(self) -> str:
        if not self.cam_differences:
            return "No network here has CAM's form, so that CAM cannot be computed."
        return (
            "**CAM is a special case.** For networks of CAM's form, the positive part of CAM and Grad-CAM times the "
            f"number of cells differ by {max(self.cam_differences):.1g} of CAM's maximum at most, on "
            f"{len(self.cam_differences)} images (the paper's section 3.1: not at all). Their boxes may still differ, "
            "because Grad-CAM's ReLU precedes upsampling. **The cost of CAM.** The paper loses 2.98 points of top-1 "
            "accuracy when VGG-16 is converted to CAM's form and retrained. Toybox cannot show this: its trunk was "
            "trained in CAM's form, and hidden layers were added afterwards, so that the errors above measure the cost "
            "of these layers for this trunk."
        )

    def _verdicts(self, study: Study) -> list[list[object]]:
        found: list[list[object]] = []
        for form in study.forms:
            for what in ("top-1", "top-5", "known"):
                for who, claim, papers in RUNNERS_UP:
                    theirs = f"{who} ({form})"
                    if (what, theirs) in self.measurements.values and (what != "top-5" or papers):
                        text = f"{claim} ({what}; {ENDS.get(form, form)})"
                        paper = papers.get(what, "") if form == "mlp" else ""
                        found.append([*self.measurements.claim(text, what, theirs, f"gradcam ({form})"), paper])
        if {"gap", "mlp"} <= set(study.forms):
            for what, paper in (("top-1", "recalled 0.007"), ("top-5", "recalled -0.013")):
                text = f"Grad-CAM with hidden layers is better than CAM of a network of CAM's form ({what})"
                found.append([*self.measurements.claim(text, what, "cam (gap)", "gradcam (mlp)"), paper])
        return found


RUNNERS_UP = (
    ("saliency", "Grad-CAM is better than saliency", {"top-1": "recalled 0.046", "top-5": "recalled 0.051"}),
    (CMWP, "… than c-MWP", {"top-1": "recalled 0.144", "top-5": "recalled 0.166"}),
    (COARSE, "… than saliency averaged over cells", {}),
    ("centre prior", "… than the centre prior", {}),
)
"""Maps that Grad-CAM is claimed to surpass, and the published differences."""


def maps_of(explained: saywhy.Explanation) -> dict[str, ImageMaps]:
    """Return all maps on the image's pixels by name, and two class-agnostic baselines."""
    found = {method: on_image(explained, method) for method in explained.methods}
    if "saliency" in found:
        rows, columns = explained["gradcam"].shape[2:]
        found[COARSE] = coarse_on_image(on_grid(explained["saliency"], (rows, columns)), explained)
    like = found["gradcam"]
    prior = centre_prior((like.shape[2], like.shape[3])).expand(like.shape)
    return found | {"centre prior": prior, "whole image": torch.zeros_like(like).nan_to_num()}


def cam_difference(cam: MapStack, gradcam: MapStack) -> float:
    """Return the largest difference of CAM's positive part and Grad-CAM times its cells, relative to CAM's maximum.

    >>> cam_difference(torch.tensor([[[[4.0, -2.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    0.5
    """
    expected = cam.clamp_min(0)
    cells = cam.shape[2] * cam.shape[3]
    return float((expected - cells * gradcam).abs().max() / expected.max().clamp_min(torch.finfo(cam.dtype).tiny))


def _predictions(item: Item) -> int:
    labels = item.network.model.labels
    return min(MOST, len(labels) if labels is not None else MOST)


@zeros_allowed()
def measure_study(study: Study, alone: int, several: int, progress: Progress) -> LocalizationResults:
    """Measure every network on images of one class and on images of several classes."""
    found = LocalizationResults()
    for network in study.networks:
        methods: list[str] = []
        what = f"localisation, network {network.seed} ({network.form})"
        for item in at_most(alone, study.items(network, alone=True), what, progress):
            methods = methods or supported_methods(network, item.image, METHODS)
            found.alone(item, methods)
        for item in at_most(several, study.items(network, alone=False), f"{what}, several classes", progress):
            found.several(item, methods)
    return found


def report(progress: Progress, share: float = 1.0, study: Study | None = None, items: int = ALONE) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the images, for a quick run.
        study: the networks and data; None takes those of Toybox.
        items: images of one class for every network.
    """
    study = study or toybox_study(progress)
    several = scaled(SEVERAL * items // ALONE, share)
    return measure_study(study, scaled(items, share), several, progress).report(study)


def main(
    out: Out = None,
    share: Share = 1.0,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. imagenet:PATH:val.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Images for every network.")] = ALONE,
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, weights=weights) if data else None
    run(lambda progress: report(progress, share, study, items), out)


if __name__ == "__main__":
    typer.run(main)
