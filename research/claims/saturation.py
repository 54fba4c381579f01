"""RSI-Grad-CAM against Grad-CAM, of the logit and of the probability, for certain and for other predictions.

    python -m research.claims.saturation
    python -m research.claims.saturation --data imagenet:PATH:val --model torchvision:vgg19 …

The claims are those of the paper's abstracts and of its authors' page (Lucas et al., 2022). None of its numbers were
accessible, so that ours have no published counterpart.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress

from research.claims.cases import REAL, Case, cases, cifar_images, is_correct, photographs, resnet56, squeezenet
from research.claims.classifiers import SEEDS, Classifier
from research.claims.measure import table
from research.claims.saturation_measures import (
    CERTAIN,
    FACTORS,
    IGCAM,
    LOGIT,
    MASKED,
    PLAIN,
    POSGRAD,
    PROBABILITY,
    SCORED,
    SaturationResults,
    class_maps,
)
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.sensitivity import BASELINES, SensitivityResults
from research.claims.study import Study, named_study, toybox_study
from research.options import Out, Share

LAYERS = ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
"""The blocks of the trunk of all Toybox classifiers."""

TOYBOX, SMALL, LARGE = 24, 4, 14
"""Images for every network of Toybox, for every class of CIFAR-10, and of ImageNet."""

DEEP, FAITHFUL = 3, 2
"""Every third image is explained at all layers, and every second one is perturbed."""

STEP_IMAGES = {"SqueezeNet": (5, 256), "CIFAR ResNet-56": (12, 1024), "located": (8, 1024)}
"""Number of images in the step experiment, and its largest number of steps."""

ROUNDING_IMAGES = {"SqueezeNet": 5, "CIFAR ResNet-56": 12, "located": 12}
"""Number of images explained with other baselines, in 16-bit precision, and with shifted logits."""


def with_one_class(case: Case) -> Case:
    """Return the image with one of its classes, drawn at random."""
    chosen = int(np.random.default_rng([case.network, case.number]).integers(len(case.classes)))
    return case.only([chosen])


def single_class_cases(study: Study, network: Classifier) -> Iterator[Case]:
    """Yield images of a study, each with one class that the network finds."""
    return map(with_one_class, cases(study, network))


def real(share: float) -> list[tuple[str, list[Case]]]:
    """Return the real networks with images that they classify correctly."""
    small = cifar_images(resnet56(), max(1, round(SMALL * share)))
    large = [case for case in photographs(squeezenet()) if is_correct(case)]
    return [("SqueezeNet", large[: scaled(LARGE, share)]), ("CIFAR ResNet-56", small)]


def measure_study(
    study: Study, layers: tuple[str, ...], share: float, progress: Progress
) -> tuple[SaturationResults, SensitivityResults, list[str], list[str]]:
    """Measure all experiments; also return the groups with known object positions, and the real ones."""
    saturated, sensitivity, places = SaturationResults(), SensitivityResults(), []
    for network in study.networks:
        group = group_name(network)
        places.append(group)
        single = single_class_cases(study, network)
        for i, case in enumerate(
            at_most(scaled(TOYBOX, share), single, f"certainty, {group} {network.seed}", progress)
        ):
            measure_certainty(saturated, group, case, i, layers)
            if network is study.networks[0]:
                measure_sensitivity(sensitivity, "located", group, case, i, share)
    reals = real(share) if REAL.is_dir() else []
    for group, images in reals:
        for i, case in enumerate(at_most(len(images), images, f"certainty, {group}", progress)):
            measure_certainty(saturated, group, case, i, ())
            measure_sensitivity(sensitivity, group, group, case, i, share)
            if group.startswith("CIFAR"):
                saturated.at_input(group, case)
    return saturated, sensitivity, list(dict.fromkeys(places)), [group for group, _ in reals]


def group_name(network: Classifier) -> str:
    """Return the name of a network's group."""
    return f"Toybox, {network.form}" if network.form in ("gap", "mlp") else network.form


def measure_certainty(
    saturated: SaturationResults, group: str, case: Case, number: int, layers: tuple[str, ...]
) -> None:
    """Measure certainty, layers and faithfulness of one image."""
    maps = class_maps(case, FACTORS)
    saturated.add(group, case, maps)
    if number % FAITHFUL == 0:
        saturated.faithful(group, case, {who: some[0] for who, some in maps.maps.items()})
    if layers and number % DEEP == 0:
        saturated.layers(group, case, layers)


def measure_sensitivity(
    sensitivity: SensitivityResults, kind: str, group: str, case: Case, number: int, share: float
) -> None:
    """Measure steps, baselines, precision and shifts of one image, if it is among the first."""
    count, most = STEP_IMAGES[kind]
    if number < scaled(count, share):
        sensitivity.steps(group, case, most if share == 1 else max(128, round(most * share)))
    if number < scaled(ROUNDING_IMAGES[kind], share):
        learnt = kind.startswith("CIFAR")  # the learnt baseline takes 200 passes, and needs a softmax
        sensitivity.baselines(group, case, BASELINES if learnt else BASELINES[:-1])
        sensitivity.precision(group, case)
        if not case.model.multilabel:
            sensitivity.shift(group, case)


@zeros_allowed()
def report(
    progress: Progress,
    share: float = 1.0,
    study: Study | None = None,
    seeds: int = SEEDS,
    layers: tuple[str, ...] = LAYERS,
) -> str:
    """Measure, and return the section as Markdown.

    Args:
        progress: shows the progress.
        share: share of the items, for a quick run.
        study: the networks and data; None takes those of Toybox.
        seeds: number of networks of Toybox of each form.
        layers: layers at which maps are compared, where object positions are known.
    """
    study = study or toybox_study(progress, seeds=seeds)
    saturated, sensitivity, places, reals = measure_study(study, layers, share, progress)
    groups = [*places, *reals]
    walked = [group for group in groups if group in sensitivity.most]
    rows = [*verdicts(saturated, places, reals, layers), *sensitivity.verdicts(walked)]
    rows.sort(key=lambda row: str(row[0]))
    return f"""## RSI-Grad-CAM, Grad-CAM and certain predictions

Published (Lucas et al., 2022, abstracts and the authors' page; no numbers were accessible): Grad-CAM suffers from
vanishing gradients where the probability is near 1; RSI-Grad-CAM does not, at any layer, is better focused, and is
computed more stably. Grad-CAM's own paper explains the *logit*, whose gradient does not vanish, so that both scores are
measured here. Variants of RSI-Grad-CAM: masked (the authors' Keras code), plain, posgrad (their PyTorch code).
Integrated Grad-CAM explains the logit, as its authors' code does. Certainty is the probability of the explained class.
To obtain more certain predictions, all logits are also multiplied by {" and ".join(f"{f:g}" for f in FACTORS[1:])},
so that an image counts {len(FACTORS)} times. Toybox's networks have a sigmoid for every class, the real ones a softmax.
Of Toybox's networks, *gap* ends in global average pooling and a linear layer, *mlp* in hidden layers.

**Certainty and gradients** (E1). Shares of maps. An empty map is zero everywhere in float32.

{saturated.certainty(groups)}

**Certainty and localisation** (E1), where object positions are known. A box is wrong if its IoU with every true box is
below 0.5.

{saturated.located(places)}

**Layers** (E2), with unscaled logits.

{saturated.focused(places, layers) if layers else "No layers were given."}

**Stability** (E3).

{sensitivity.section(walked)}

**Faithfulness** (E4): the probability as pixels are removed or inserted, with unscaled logits.

{saturated.faithfulness(groups)}

### Verdicts

{table(["number", "claim", "difference", "verdict"], rows)}"""


def verdicts(
    saturated: SaturationResults, places: list[str], reals: list[str], layers: tuple[str, ...]
) -> list[list[object]]:
    """Return verdict rows, each with the number of its claim first."""
    everywhere = [(group, claim) for group in [*places, *reals] for claim in EVERYWHERE]
    where_known = [(group, claim) for group in places for claim in WHERE_KNOWN]
    rows = [
        saturated.claim(number, f"{group}: {text}", f"{group} {what}", first, second)
        for group, (number, text, what, first, second) in [*everywhere, *where_known]
    ]
    for group in places:
        for layer in layers:
            for number, other in (("5", LOGIT), ("5", PROBABILITY), ("6", IGCAM)):
                text = f"{group}: at {layer} RSI (masked) lies on the object more than {other}"
                rows.append(saturated.claim(number, text, f"{group} {layer} energy", MASKED, other))
    return rows + at_input(saturated, reals)


EMPTY, VANISHED, ENERGY = (f"{CERTAIN} {what}" for what in ("empty", "vanished", "energy"))

EVERYWHERE = (
    (
        "1",
        "where certain, the gradient of the probability vanishes more often than that of the logit",
        VANISHED,
        *SCORED,
    ),
    ("1", f"where certain, {PROBABILITY} is empty more often than {LOGIT}", EMPTY, PROBABILITY, LOGIT),
    ("3", f"where certain, RSI (masked) is empty less often than {PROBABILITY}", EMPTY, PROBABILITY, MASKED),
    ("5", f"RSI (masked) has a better insertion than {LOGIT}", "insertion", MASKED, LOGIT),
    ("5", f"RSI (masked) has a better deletion than {LOGIT}", "deletion", LOGIT, MASKED),
    ("6", f"RSI (masked) has a better insertion than {IGCAM}", "insertion", MASKED, IGCAM),
    ("6", f"RSI (masked) has a better deletion than {IGCAM}", "deletion", IGCAM, MASKED),
)
"""Number of the claim, its text, the quantity, and the map with the larger and with the smaller expected value."""

WHERE_KNOWN = (
    ("3", f"where certain, RSI (masked) lies on the object more than {PROBABILITY}", ENERGY, MASKED, PROBABILITY),
    ("3", f"where certain, RSI (masked) lies on the object more than {LOGIT}", ENERGY, MASKED, LOGIT),
    ("3", f"where certain, RSI (plain) lies on the object more than {LOGIT}", ENERGY, PLAIN, LOGIT),
    ("3", f"where certain, RSI (posgrad) lies on the object more than {LOGIT}", ENERGY, POSGRAD, LOGIT),
)
"""The same, where object positions are known."""


def at_input(saturated: SaturationResults, reals: list[str]) -> list[list[object]]:
    """Return the verdict rows of the second claim, on integrated gradients."""
    text = "integrated gradients vanish less often than the gradient at the image"
    rows = [
        saturated.claim("2", f"{group}: {text}", f"{group} input vanished", "saliency", "integrated-gradients")
        for group in reals
        if (f"{group} input vanished", "saliency") in saturated.measurements.values
    ]
    reason = "by definition; layer conductance is the same integral at a layer"
    return [*rows, ["2", "integrated gradients are defined at the image only", reason, "holds"]]


def main(
    out: Out = None,
    share: Share = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of networks of Toybox of each kind.")] = SEEDS,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. voc:PATH:test.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg19",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
    layers: Annotated[str, typer.Option(help="Layers of that network, separated by commas.")] = "",
) -> None:
    """Measure the section, and print or write it."""
    study = named_study(model, data, weights=weights) if data else None
    named_layers = LAYERS if study is None else tuple(filter(None, layers.split(",")))
    run(lambda progress: report(progress, share, study, seeds, named_layers), out)


if __name__ == "__main__":
    typer.run(main)
