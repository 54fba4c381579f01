"""RSI-Grad-CAM against Grad-CAM, of the logit and of the probability: where answers are certain, and everywhere else.

    python -m research.claims.saturation
    python -m research.claims.saturation --data imagenet:PATH:val --model torchvision:vgg19 …

The claims are those of the paper's abstracts and of its authors' page (Lucas et al., 2022); none of its figures could
be read, so that there are none beside ours.
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

LAYERS = ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
"""The blocks of the trunk of all classifiers of Toybox."""

TOYBOX, SMALL, LARGE = 24, 4, 14
"""Images of every network of Toybox, of every class of CIFAR-10, and of ImageNet."""

DEEP, FAITHFUL = 3, 2
"""Of so many images one is explained at all layers; one is perturbed."""

STEADY = {"SqueezeNet": (5, 256), "CIFAR ResNet-56": (12, 1024), "located": (8, 1024)}
"""How many images are walked in how many steps."""

ROUNDED = {"SqueezeNet": 5, "CIFAR ResNet-56": 12, "located": 12}
"""How many images are explained from other baselines, in other numbers, and of shifted logits."""


def with_one_class(case: Case) -> Case:
    """The image, asked about one of its classes, drawn."""
    chosen = int(np.random.default_rng([case.network, case.number]).integers(len(case.classes)))
    return case.only([chosen])


def single_class_cases(study: Study, network: Classifier) -> Iterator[Case]:
    """Images of a study, each with one class that the network finds there."""
    return map(with_one_class, cases(study, network))


def real(share: float) -> list[tuple[str, list[Case]]]:
    """The real networks with images that they get right."""
    small = cifar_images(resnet56(), max(1, round(SMALL * share)))
    large = [case for case in photographs(squeezenet()) if is_correct(case)]
    return [("SqueezeNet", large[: scaled(LARGE, share)]), ("CIFAR ResNet-56", small)]


def measure_study(
    study: Study, layers: tuple[str, ...], share: float, progress: Progress
) -> tuple[SaturationResults, SensitivityResults, list[str], list[str]]:
    """Everything; the names of the groups with known places, and of the real ones."""
    saturated, steady, places = SaturationResults(), SensitivityResults(), []
    for network in study.networks:
        group = group_name(network)
        places.append(group)
        single = single_class_cases(study, network)
        for i, case in enumerate(
            at_most(scaled(TOYBOX, share), single, f"certainty, {group} {network.seed}", progress)
        ):
            measure_certainty(saturated, group, case, i, layers)
            if network is study.networks[0]:
                measure_sensitivity(steady, "located", group, case, i, share)
    reals = real(share) if REAL.is_dir() else []
    for group, images in reals:
        for i, case in enumerate(at_most(len(images), images, f"certainty, {group}", progress)):
            measure_certainty(saturated, group, case, i, ())
            measure_sensitivity(steady, group, group, case, i, share)
            if group.startswith("CIFAR"):
                saturated.at_input(group, case)
    return saturated, steady, list(dict.fromkeys(places)), [group for group, _ in reals]


def group_name(network: Classifier) -> str:
    """What a group of networks is called."""
    return f"Toybox, {network.form}" if network.form in ("gap", "mlp") else network.form


def measure_certainty(
    saturated: SaturationResults, group: str, case: Case, number: int, layers: tuple[str, ...]
) -> None:
    """Certainty, layers and faithfulness of one image."""
    maps = class_maps(case, FACTORS)
    saturated.add(group, case, maps)
    if number % FAITHFUL == 0:
        saturated.faithful(group, case, {who: some[0] for who, some in maps.maps.items()})
    if layers and number % DEEP == 0:
        saturated.layers(group, case, layers)


def measure_sensitivity(
    steady: SensitivityResults, kind: str, group: str, case: Case, number: int, share: float
) -> None:
    """Steps, baselines, numbers and shifts of one image, as long as it is among the first."""
    count, most = STEADY[kind]
    if number < scaled(count, share):
        steady.steps(group, case, most if share == 1 else max(128, round(most * share)))
    if number < scaled(ROUNDED[kind], share):
        learnt = kind.startswith("CIFAR")  # the learnt baseline takes 200 passes, and is of one class of many
        steady.baselines(group, case, BASELINES if learnt else BASELINES[:-1])
        steady.precision(group, case)
        if not case.model.multilabel:
            steady.shift(group, case)


@zeros_allowed()
def report(
    progress: Progress,
    share: float = 1.0,
    study: Study | None = None,
    seeds: int = SEEDS,
    layers: tuple[str, ...] = LAYERS,
) -> str:
    """Measure, and tell it as a section in Markdown.

    Args:
        progress: shows how far it is.
        share: of the items, to try it out.
        study: which networks, on what; None are those of Toybox.
        seeds: how many networks of Toybox of each kind.
        layers: at which maps are compared where places are known.
    """
    study = study or toybox_study(progress, seeds=seeds)
    saturated, steady, places, reals = measure_study(study, layers, share, progress)
    groups = [*places, *reals]
    walked = [group for group in groups if group in steady.most]
    rows = [*verdicts(saturated, places, reals, layers), *steady.verdicts(walked)]
    rows.sort(key=lambda row: str(row[0]))
    return f"""## RSI-Grad-CAM, Grad-CAM and certain answers

Published (Lucas et al., 2022, abstracts and the authors' page; no figure could be read): Grad-CAM suffers from
vanishing gradients where the probability is certain; RSI-Grad-CAM does not, at any layer, is better focused, and its
computation is more stable. Grad-CAM's own paper takes the *logit*, whose gradient does not vanish, so that both stand
here. Variants of RSI-Grad-CAM: masked (the authors' Keras code), plain, posgrad (their PyTorch code); Integrated
Grad-CAM takes the logit, as its authors' code does. Certainty is the probability of the class that is explained; to
have more certain answers, all logits of a network are also multiplied by {" and ".join(f"{f:g}" for f in FACTORS[1:])},
so that an image comes {len(FACTORS)} times. Toybox's networks have a sigmoid for every class, the real ones a softmax.

**Certainty and gradients** (E1). Shares of maps; an empty map is zero everywhere in float32.

{saturated.certainty(groups)}

**Certainty and places** (E1), where they are known. A box is wrong if it overlaps with no box of the truth by one half.

{saturated.located(places)}

**Layers** (E2), the networks as they are.

{saturated.focused(places, layers) if layers else "No layers were named."}

**Stability** (E3).

{steady.section(walked)}

**Faithfulness** (E4): the probability as pixels go or come, the networks as they are.

{saturated.faithfulness(groups)}

### Verdicts

{table(["of B1", "claim", "difference", "verdict"], rows)}"""


def verdicts(
    saturated: SaturationResults, places: list[str], reals: list[str], layers: tuple[str, ...]
) -> list[list[object]]:
    """Rows with the number of the claim first."""
    asked_of_all = [(group, claim) for group in [*places, *reals] for claim in EVERYWHERE]
    asked_of_places = [(group, claim) for group in places for claim in WHERE_KNOWN]
    rows = [
        saturated.claim(number, f"{group}: {text}", f"{group} {what}", first, second)
        for group, (number, text, what, first, second) in [*asked_of_all, *asked_of_places]
    ]
    for group in places:
        for layer in layers:
            for number, rival in (("5", LOGIT), ("5", PROBABILITY), ("6", IGCAM)):
                text = f"{group}: at {layer} RSI (masked) lies on the object more than {rival}"
                rows.append(saturated.claim(number, text, f"{group} {layer} energy", MASKED, rival))
    return rows + at_input(saturated, reals)


EMPTY, VANISHED, ENERGY = (f"{CERTAIN} {what}" for what in ("empty", "vanished", "energy"))

EVERYWHERE = (
    ("1", "where certain, the gradient of the probability vanishes, that of the logit not", VANISHED, *SCORED),
    ("1", f"where certain, {PROBABILITY} is empty more often than {LOGIT}", EMPTY, PROBABILITY, LOGIT),
    ("3", f"where certain, RSI (masked) is empty less often than {PROBABILITY}", EMPTY, PROBABILITY, MASKED),
    ("5", f"RSI (masked) has the better insertion than {LOGIT}", "insertion", MASKED, LOGIT),
    ("5", f"RSI (masked) has the better deletion than {LOGIT}", "deletion", LOGIT, MASKED),
    ("6", f"RSI (masked) has the better insertion than {IGCAM}", "insertion", MASKED, IGCAM),
    ("6", f"RSI (masked) has the better deletion than {IGCAM}", "deletion", IGCAM, MASKED),
)
"""Number of the claim, what it says, what is measured, and of whom there should be more than of whom."""

WHERE_KNOWN = (
    ("3", f"where certain, RSI (masked) lies on the object more than {PROBABILITY}", ENERGY, MASKED, PROBABILITY),
    ("3", f"where certain, RSI (masked) lies on the object more than {LOGIT}", ENERGY, MASKED, LOGIT),
    ("3", f"where certain, RSI (plain) lies on the object more than {LOGIT}", ENERGY, PLAIN, LOGIT),
    ("3", f"where certain, RSI (posgrad) lies on the object more than {LOGIT}", ENERGY, POSGRAD, LOGIT),
)
"""The same where places are known."""


def at_input(saturated: SaturationResults, reals: list[str]) -> list[list[object]]:
    """Integrated gradients, which the second claim is about."""
    text = "where the gradient at the image has vanished, integrated gradients have not"
    rows = [
        saturated.claim("2", f"{group}: {text}", f"{group} input vanished", "saliency", "integrated-gradients")
        for group in reals
        if (f"{group} input vanished", "saliency") in saturated.measurements.values
    ]
    told = "by definition; layer conductance is the same integral at a layer"
    return [*rows, ["2", "integrated gradients are of the image only", told, "holds"]]


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Of the images, to try it out.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many networks of Toybox of each kind.")] = SEEDS,
    data: Annotated[str | None, typer.Option(help="Another data set, e.g. voc:PATH:test.")] = None,
    model: Annotated[str, typer.Option(help="The network for it.")] = "torchvision:vgg19",
    weights: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
    layers: Annotated[str, typer.Option(help="Layers of that network, with commas between.")] = "",
) -> None:
    """Measure, and print the section."""
    study = named_study(model, data, weights=weights) if data else None
    named_layers = LAYERS if study is None else tuple(filter(None, layers.split(",")))
    run(lambda progress: report(progress, share, study, seeds, named_layers), out)


if __name__ == "__main__":
    typer.run(main)
