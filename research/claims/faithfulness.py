"""Faithfulness (Grad-CAM, section 5.3): do maps rank the regions of an image as occlusion does?

    python -m research.claims.faithfulness
    python -m research.claims.faithfulness --data voc:PATH:val --model torchvision:vgg16 --items 2510

The paper does not state the window of the occlusion, its stride and its fill colour, so that several windows are tried.
A network trained on photographs is also measured, on its own top predictions.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.classifiers import Classifier
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import ENDS, Study, named_study, supported_methods, toybox_study
from research.options import Out, Share
from saywhy.metrics.class_agnostic import BASELINE_NAMES, CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.targets import Top

METHODS = ("guided-backprop", "cam", "contrastive-excitation-backprop", "gradcam", "guided-gradcam")
RECTIFIED = ("guided-backprop", "guided-gradcam")
"""Methods with a value for each colour, whose magnitudes are summed."""

PAPER = dict(zip(METHODS, ("0.168", "0.208", "0.220", "0.254", "0.261"), strict=True))
"""PASCAL VOC 2007, VGG-16."""

WINDOWS = {"a tenth": (10, 1), "a seventh": (7, 2), "a quarter": (4, 2)}
"""Windows by name: the divisor of the image's side, and the number of strides in a window."""

USUAL = "a seventh"
"""32 pixels of 224."""

ITEMS, PHOTOS = 24, 40
"""Images for each network of Toybox, and number of photographs."""

REAL = "SqueezeNet"
"""Trained on ImageNet (SqueezeNet 1.0)."""


@dataclass
class FaithfulnessResults:
    """Rank correlations, by form of network and window ("gap, a tenth"), and by map."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    images: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        network: Classifier,
        image: Image.Image,
        target: object,
        methods: Sequence[str],
        place: tuple[int, int],
    ) -> None:
        """Measure the maps of one image and its target classes."""
        colours = {"channels": "abs"} if any(method in RECTIFIED for method in methods) else {}
        explained = saywhy.explain(network.model, image, target, methods, **colours)
        classes = explained.classes[0].tolist()
        maps = {method: explained[method] for method in methods}
        runner = explained.explainer.model_runner("logit")
        seed = 100_000 * place[0] + place[1]
        maps |= {name: make(maps["gradcam"], runner.image, seed) for name, make in CLASS_AGNOSTIC_BASELINES.items()}
        for name, (share, strides) in WINDOWS.items():
            window = round(min(explained.input_size) / share)
            stride = max(1, window // strides)
            hidden = saywhy.explain(
                network.model, image, classes, "occlusion", score="logit", window=window, stride=stride
            ).maps
            for who, found in maps.items():
                for value in agreement(found[0], hidden[0]).tolist():
                    self.measurements.add(f"{network.form}, {name}", who, value, place)

    def report(self) -> str:
        """Return the section."""
        forms = list(self.images)
        parts = [self._table(form) for form in forms]
        absent = "" if REAL in forms else f"\n\n{REAL} was not measured: its weights and photographs are not here."
        return f"""## Faithfulness: agreement with occlusion

Spearman's correlation of a map with occlusion on 14 × 14 cells, for the score before the softmax, averaged over the
classes of images. Occluded regions have the image's mean colour. Gradients are summed over colours as magnitudes. A
window of a seventh of the side is the usual one (32 pixels of 224); the paper states none. The paper's figures are
those of VGG-16 on PASCAL VOC 2007.

{(chr(10) * 2).join(parts)}{absent}

### Verdicts

{table(["claim", "difference", "verdict", "paper"], [row for form in forms for row in self._verdicts(form)])}"""

    def _table(self, form: str) -> str:
        found = {
            name: self.measurements.estimates(f"{form}, {name}", (*METHODS, *CLASS_AGNOSTIC_BASELINES))
            for name in WINDOWS
        }
        rows = [
            [
                BASELINE_NAMES.get(who, who),
                *(found[name][who] for name in WINDOWS),
                PAPER.get(who, ""),
                self._networks(form, who),
            ]
            for who in found[USUAL]
        ]
        heads = ["map", *(f"window: {name} of the side" for name in WINDOWS), "paper", f"networks, {USUAL}"]
        first = found[USUAL]["gradcam"]
        title = f"**{self.images[form]}**: {first.items} maps of {first.scenes} images."
        return f"{title}\n\n{table(heads, rows)}"

    def _networks(self, form: str, who: str) -> str:
        return self.measurements.networks(f"{form}, {USUAL}", who)

    def _verdicts(self, form: str) -> list[list[object]]:
        what, whose = f"{form}, {USUAL}", ENDS.get(form, form)
        claims = [
            ("Grad-CAM agrees with occlusion more than guided backprop", "gradcam", "guided-backprop", "0.086"),
            ("… than CAM", "gradcam", "cam", "0.046"),
            ("… than c-MWP", "gradcam", "contrastive-excitation-backprop", "0.034"),
            ("… than the centre prior", "gradcam", "centre", ""),
            ("… than an edge detector", "gradcam", "edges", ""),
            ("Guided Grad-CAM agrees more than Grad-CAM", "guided-gradcam", "gradcam", "0.007"),
        ]
        found = [
            [*self.measurements.claim(f"{text} ({whose})", what, one, other), paper]
            for text, one, other, paper in claims
            if (what, one) in self.measurements.values and (what, other) in self.measurements.values
        ]
        text = f"Grad-CAM agrees with occlusion at all ({whose})"
        return [[*self.measurements.claim_above(text, what, "gradcam"), PAPER["gradcam"]], *found]


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's correlation of maps [target, height, width] on cells, for each target.

    >>> from saywhy.metrics.human_attention import centre_prior
    >>> prior = centre_prior((14, 14))[None]
    >>> agreement(prior, prior).tolist(), agreement(prior, -prior).tolist()
    ([1.0], [-1.0])
    """
    return rank_correlation(on_grid(one).flatten(1), on_grid(other).flatten(1))


def real_folder() -> Path | None:
    """Return the folder of real weights and photographs, or None."""
    folder = Path(os.environ.get("SAYWHY_REAL") or Path(__file__).parents[3] / "shared" / "real") / "imagenet"
    return folder if (folder / "squeezenet1_0.safetensors").is_file() else None


def photographs(folder: Path, count: int, found: FaithfulnessResults, progress: Progress) -> None:
    """Measure SqueezeNet's top predictions on ``count`` photographs."""
    model = saywhy.load("torchvision:squeezenet1_0", folder / "squeezenet1_0.safetensors")
    network = Classifier(0, model, REAL)
    images = sorted((folder / "photos").glob("*.JPEG"))
    methods: list[str] = []
    for number, file in enumerate(at_most(min(count, len(images)), images, f"occlusion, {REAL}", progress)):
        image = Image.open(file).convert("RGB")
        methods = methods or supported_methods(network, image, METHODS)
        found.add(network, image, Top(1), methods, (0, number))
    found.images[REAL] = f"{REAL} 1.0, photographs of ImageNet's classes, its own top predictions"


@zeros_allowed()
def measure_study(study: Study, count: int, photos: int, progress: Progress) -> FaithfulnessResults:
    """Measure ``count`` images for every network, and the photographs."""
    found = FaithfulnessResults()
    for network in study.networks:
        methods: list[str] = []
        what = f"occlusion, network {network.seed} ({network.form})"
        for item in at_most(count, study.items(network), what, progress):
            methods = methods or supported_methods(network, item.image, METHODS)
            found.add(network, item.image, list(item.classes), methods, item.place)
        ends = f"networks that end in {ENDS[network.form]}" if network.form in ENDS else network.form
        found.images[network.form] = f"{study.data.name}, {ends}, the present classes"
    folder = real_folder()
    if photos and folder is not None:
        photographs(folder, photos, found, progress)
    return found


def report(progress: Progress, share: float = 1.0, study: Study | None = None, items: int = ITEMS) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the images, for a quick run.
        study: the networks and data; None takes those of Toybox, and SqueezeNet.
        items: images for every network.
    """
    photos = 0 if study else scaled(PHOTOS, share)
    return measure_study(study or toybox_study(progress), scaled(items, share), photos, progress).report()


def main(
    out: Out = None,
    share: Share = 1.0,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. voc:PATH:val.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Images for every network.")] = ITEMS,
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, weights=weights) if data else None
    run(lambda progress: report(progress, share, study, items), out)


if __name__ == "__main__":
    typer.run(main)
