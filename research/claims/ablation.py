"""Ablations (Grad-CAM, section 3 and appendix B): which steps of Grad-CAM matter, and how deep the layer should be.

    python -m research.claims.ablation
    python -m research.claims.ablation --data imagenet:PATH:val --model torchvision:vgg16 …

Networks end in hidden layers. In a network that ends in pooling and a linear layer, gradients are the same at every
position, so that their maximum is their mean, and no ReLU follows the layer whose backward rule could be changed.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import Item, Study, coarse_on_image, named_study, on_image, toybox_study
from research.options import Out, Share
from saywhy.engine.rules import BackwardRule, apply_rule
from saywhy.methods import gradcam
from saywhy.metrics.boxes import box_masks, found_boxes, localization_errors
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.localization import ImageMaps, energy_pointing
from saywhy.shapes import MapStack
from saywhy.targets import Top

WHOLE = "Grad-CAM"
SETTINGS = {
    "no ReLU": {"relu": False},
    "absolute gradients": {"pooling": "abs"},
    "maximum of the gradients": {"pooling": "max"},
}
RULES: dict[str, BackwardRule] = {
    "deconvnet in the backward pass": "deconvnet",
    "guided ReLU in the backward pass": "guided",
}
VARIANTS = (WHOLE, *SETTINGS, *RULES)

PAPER = dict(zip(VARIANTS, (0.5965, 0.7498, 0.5819, 0.5996, 0.8395, 0.5914), strict=True))
"""Top-1 error of VGG-16 on ILSVRC-15, recalled from memory: an ordering for comparison, no targets."""

LAYERS = ("blocks.3", "blocks.2", "blocks.1", "blocks.0", "stem")
"""Layers of Toybox's trunk, from deep to shallow: three of 16 × 16 cells, then 32 × 32, then 64 × 64."""

ALONE, SEVERAL = 200, 80
"""Images for each network."""


@dataclass
class AblationResults:
    """Measurements: "error" of the top prediction's box, and "energy" inside the boxes of the classes in the image."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    layers: tuple[str, ...] = ()

    def add(self, item: Item, layers: tuple[str, ...], alone: bool) -> None:
        """Measure one image; errors only if it has a single class."""
        model = item.network.model
        first = saywhy.explain(model, item.image, Top(1), "eigencam").classes[0].tolist() if alone else []
        explained_classes = list(dict.fromkeys([*first, *item.classes]))
        there = [explained_classes.index(one) for one in item.classes]
        found = variants(item, explained_classes, layers)
        self.layers = tuple(who for who in found if who not in VARIANTS)
        masks = box_masks(item.boxes, item.image.size)
        for who, maps in found.items():
            for energy in energy_pointing(maps[:, there], masks)[0].tolist():
                self.measurements.add("energy", who, energy, item.place)
            if alone:
                label, truth = torch.tensor(item.classes), [list(item.boxes[0][0])]
                errors = localization_errors(torch.tensor([first]), found_boxes(maps[:, :1]), label, truth)
                self.measurements.add("error", who, errors.top1, item.place, share=True)

    def report(self, study: Study) -> str:
        """Return the section."""
        error = self.measurements.estimates("error", (*VARIANTS, *self.layers))
        energy = self.measurements.estimates("energy", (*VARIANTS, *self.layers))
        rows = [
            [who, error[who], self.measurements.networks("error", who), f"recalled {PAPER[who]:.3f}", energy[who]]
            for who in VARIANTS
        ]
        whole = ["at the deepest layer", error[WHOLE], self.measurements.networks("error", WHOLE), energy[WHOLE]]
        deep = [[f"at {who}", error[who], self.measurements.networks("error", who), energy[who]] for who in self.layers]
        here = sorted(VARIANTS, key=lambda who: error[who].value)
        paper = sorted(VARIANTS, key=PAPER.__getitem__)
        values = torch.tensor([[error[who].value, PAPER[who]] for who in VARIANTS]).T
        return f"""## Ablations of Grad-CAM

{study.data.name}: the top-1 localisation error on {error[WHOLE].items} images of one class, and the share of a map's
energy inside the boxes of the explained class, on these images and on images of several classes
({energy[WHOLE].items} maps). Networks end in hidden layers, as VGG does. Without the ReLU, the map's minimum is
subtracted before the threshold of 15 % and before the energy is computed; thresholded at 15 % of its own maximum, it
would have nearly the same boxes as with the ReLU. The paper's errors are those of VGG-16 on ILSVRC-15, recalled from
memory, and serve as an ordering only.

{table(["map", "top-1 error", "networks", "paper", "energy in the box"], rows)}

Order from best to worst here: {", ".join(here)}. In the paper: {", ".join(paper)}. Rank correlation of the two
orders: {float(rank_correlation(values[0], values[1])):.2f}.

{table(["Grad-CAM", "top-1 error", "networks", "energy in the box"], [whole, *deep])}

### Verdicts

{table(["claim", "error difference", "verdict", "paper", "energy difference", "verdict"], self._verdicts())}"""

    def _verdicts(self) -> list[list[object]]:
        claims = [
            ("Grad-CAM is better than without the ReLU", "no ReLU", WHOLE),
            ("… than with the deconvnet rule after the layer", "deconvnet in the backward pass", WHOLE),
            ("… than with the maximum of the gradients", "maximum of the gradients", WHOLE),
            ("… than with absolute gradients (not so in the paper)", "absolute gradients", WHOLE),
            (
                "… than with guided ReLU after the layer (not so in the paper)",
                "guided ReLU in the backward pass",
                WHOLE,
            ),
        ]
        deep = [WHOLE, *self.layers]
        steps = [
            (f"… at {'the deepest layer' if deeper == WHOLE else deeper} than at {who}", who, deeper)
            for deeper, who in pairwise(deep)
        ]
        return [self._verdict(*claim) for claim in (*claims, *steps)]

    def _verdict(self, text: str, worse: str, better: str) -> list[object]:
        paper = f"recalled {PAPER[worse] - PAPER[better]:+.3f}" if worse in PAPER else ""
        _, *energy = self.measurements.claim(text, "energy", better, worse)
        return [*self.measurements.claim(text, "error", worse, better), paper, *energy]


def variants(item: Item, classes: list[int], layers: tuple[str, ...]) -> dict[str, ImageMaps]:
    """Return Grad-CAM of the classes, its ablated variants, and Grad-CAM at the layers after the first one."""
    deepest = layers[0] if layers else None
    explained = item.explain(classes, "gradcam", list(layers) or None)
    found = {WHOLE: on_image(explained)}
    for who, setting in SETTINGS.items():
        found[who] = on_image(item.explain(classes, "gradcam", deepest, **setting))
    found["no ReLU"] = from_minimum(found["no ReLU"])
    for who, rule in RULES.items():
        found[who] = coarse_on_image(
            with_backward_rule(item.network.model, item.image, classes, deepest, rule), explained
        )
    return found | {layer: on_image(explained, layer=layer) for layer in layers[1:]}


def with_backward_rule(
    model: saywhy.Model, image: object, classes: list[int], layer: str | None, rule: BackwardRule
) -> MapStack:
    """Compute Grad-CAM with another backward rule for the ReLUs after the layer: raw, [1, target, row, column]."""
    captured = saywhy.capture(model, image, classes, layer)
    apply_rule(captured.graph(), rule)
    (A,), (G,) = captured.activations.values(), captured.gradients().values()
    return torch.stack([gradcam(A, g) for g in G.unbind(1)], 1)


def from_minimum(maps: Tensor) -> ImageMaps:
    """Subtract the minimum of each signed map; pixels outside the crop box stay NaN.

    >>> from_minimum(torch.tensor([[[[-2.0, 1.0, float("nan")]]]]))
    tensor([[[[0., 3., nan]]]])
    """
    return maps - maps.nan_to_num(nan=torch.inf).amin((2, 3), keepdim=True)


@zeros_allowed()
def measure_study(
    study: Study, layers: tuple[str, ...], alone: int, several: int, progress: Progress
) -> AblationResults:
    """Measure every network on images of one class and on images of several classes."""
    found = AblationResults()
    for network in study.networks:
        for count, one in ((alone, True), (several, False)):
            what = f"ablations, network {network.seed}{'' if one else ', several classes'}"
            for item in at_most(count, study.items(network, alone=one), what, progress):
                found.add(item, layers, one)
    return found


def report(
    progress: Progress,
    share: float = 1.0,
    study: Study | None = None,
    items: int = ALONE,
    layers: tuple[str, ...] = LAYERS,
) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the images, for a quick run.
        study: the networks and data; None takes those of Toybox that end in hidden layers.
        items: images of one class for every network.
        layers: layers from deep to shallow; empty takes the default layer.
    """
    study = study or toybox_study(progress, ("mlp",))
    several = scaled(SEVERAL * items // ALONE, share)
    return measure_study(study, layers, scaled(items, share), several, progress).report(study)


def main(
    out: Out = None,
    share: Share = 1.0,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. imagenet:PATH:val.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Images for every network.")] = ALONE,
    layers: Annotated[str, typer.Option(help="Its layers, from deep to shallow, with commas.")] = "",
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, weights=weights) if data else None
    taken = tuple(filter(None, layers.split(","))) if data else LAYERS
    run(lambda progress: report(progress, share, study, items, taken), out)


if __name__ == "__main__":
    typer.run(main)
