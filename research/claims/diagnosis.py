"""What Grad-CAM is said to be good for in a diagnosis (sections 5.2 and 6), and whether it is.

    python -m research.claims.diagnosis
    python -m research.claims.diagnosis --data voc:PATH:test --model torchvision:resnet50 --weights FILE

Adversarial images, a bias that is found and removed, failure modes, and trust. Another data set takes Toybox's place
where images with known places are attacked.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from research.claims.adversarial_pointing import MapSimilarity, Pointing, attacked_cases, dog_and_cat, section
from research.claims.bias import EACH, EPOCHS, PLAN, SIDE, BiasResults
from research.claims.cases import REAL, cases, cifar_images, is_correct, photographs, resnet56, squeezenet
from research.claims.classifiers import SEEDS
from research.claims.failure_modes import FailureResults, failures
from research.claims.model_preference import TESTS, PreferenceResults, found_by_both, undertrained
from research.claims.section import at_most, run, scaled, zeros_allowed
from research.claims.study import ENDS, Study, named_study, toybox_study
from saywhy.training.loop import Phase

ATTACKED = 24
"""Images of every network that are attacked where places are known."""

SMALL = 4
"""Images of every class of CIFAR-10 that are attacked."""

COMPARED = 60
"""Images of every pair of networks."""

ABSENT = "The real network and photographs are not on this machine, and are left out."


def attacks(progress: Progress, share: float, study: Study) -> str:
    """Adversarial images."""
    pointing, groups = Pointing(), []
    for network in study.networks:
        groups.append((network.form, ENDS.get(network.form, network.form)))
        what = f"attacking network {network.seed} ({network.form})"
        for one in attacked_cases(at_most(scaled(ATTACKED, share), cases(study, network), what, progress)):
            pointing.add(network.form, one)
    likeness, image = None, ""
    if REAL.is_dir():
        likeness, image = real_attacks(progress, share)
    return section(pointing, list(dict.fromkeys(groups)), likeness, image)


def real_attacks(progress: Progress, share: float) -> tuple[MapSimilarity, str]:
    """The same on the real networks, whose images have no boxes."""
    likeness, large, small = MapSimilarity(), squeezenet(), resnet56()
    taken = [case for case in photographs(large) if is_correct(case)]
    images = cifar_images(small, max(1, round(SMALL * share)))
    for group, some in (("SqueezeNet", taken[: scaled(len(taken), share)]), ("CIFAR ResNet-56", images)):
        for one in attacked_cases(at_most(len(some), some, f"attacking {group}", progress)):
            likeness.add(group, one)
    return likeness, dog_and_cat(large)


def bias_section(progress: Progress, share: float, seeds: int) -> str:
    """A bias that is found and removed."""
    found, plan = BiasResults(), PLAN
    if share < 1:  # networks that were trained for less are other networks, and are kept beside
        plan = type(PLAN)((Phase(max(1, round(EPOCHS * share)), SIDE),), batch=PLAN.batch, warmup=PLAN.warmup)
    for seed in range(seeds):
        found.add(seed, max(8, round(EACH * share)), share, progress, plan)
    return found.section()


def failures_section(progress: Progress, share: float) -> str:
    """Failure modes of the real network."""
    if not REAL.is_dir():
        return f"## Failure modes\n\n{ABSENT}"
    found = FailureResults()
    wrong, well = failures(photographs(squeezenet()))
    for some, errs in ((wrong, True), (well, False)):
        for failure in at_most(scaled(len(some), share), some, "failure modes", progress):
            found.add(failure, errs)
    return found.section()


def trust_section(progress: Progress, share: float, study: Study, seeds: int) -> str:
    """Trust, by a proxy."""
    found = PreferenceResults()
    for network in [network for network in study.networks if network.form == "gap"][:seeds]:
        other = undertrained(network.seed, progress)
        found.pair(network.model, other, TESTS)
        shared = (both for case in cases(study, network) if (both := found_by_both(case, other)) is not None)
        for case in at_most(scaled(COMPARED, share), shared, f"comparing pair {network.seed}", progress):
            found.add(case, other)
    return found.section()


@zeros_allowed()
def report(progress: Progress, share: float = 1.0, study: Study | None = None, seeds: int = SEEDS) -> str:
    """Measure, and tell it as sections in Markdown.

    Args:
        progress: shows how far it is.
        share: of the items, to try it out.
        study: which networks are attacked, on what; None are those of Toybox.
        seeds: how many networks of each kind.
    """
    toybox = toybox_study(progress, seeds=seeds)
    parts = [
        attacks(progress, share, study or toybox),
        bias_section(progress, share, seeds),
        failures_section(progress, share),
        trust_section(progress, share, toybox, seeds),
    ]
    return "\n\n".join(parts)


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Of the images, to try it out.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many networks of each kind.")] = SEEDS,
    data: Annotated[str | None, typer.Option(help="Another data set to attack, e.g. voc:PATH:test.")] = None,
    model: Annotated[str, typer.Option(help="The network for it.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
) -> None:
    """Measure, and print the sections."""
    study = named_study(model, data, weights=weights) if data else None
    run(lambda progress: report(progress, share, study, seeds), out)


if __name__ == "__main__":
    typer.run(main)
