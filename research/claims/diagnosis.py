"""Grad-CAM for the diagnosis of networks (sections 5.2 and 6 of its paper).

    python -m research.claims.diagnosis
    python -m research.claims.diagnosis --data voc:PATH:test --model torchvision:resnet50 --weights FILE

Adversarial images, bias found and removed, failure modes, and trust. Another data set replaces Toybox for the attacks
on images with known object positions.
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
from research.options import Out, Share
from saywhy.training.loop import Phase

ATTACKED = 24
"""Attacked images of every network, with known object positions."""

SMALL = 4
"""Attacked images of every class of CIFAR-10."""

COMPARED = 60
"""Compared images of every pair of networks."""

ABSENT = "The real network and photographs are not on this machine and are left out."


def attacks(progress: Progress, share: float, study: Study) -> str:
    """Return the section on adversarial images."""
    pointing, groups = Pointing(), []
    for network in study.networks:
        groups.append((network.form, ENDS.get(network.form, network.form)))
        what = f"attacking network {network.seed} ({network.form})"
        for one in attacked_cases(at_most(scaled(ATTACKED, share), cases(study, network), what, progress)):
            pointing.add(network.form, one)
    similarity, image = None, ""
    if REAL.is_dir():
        similarity, image = real_attacks(progress, share)
    return section(pointing, list(dict.fromkeys(groups)), similarity, image)


def real_attacks(progress: Progress, share: float) -> tuple[MapSimilarity, str]:
    """Attack the real networks, whose images have no boxes."""
    similarity, large, small = MapSimilarity(), squeezenet(), resnet56()
    taken = [case for case in photographs(large) if is_correct(case)]
    images = cifar_images(small, max(1, round(SMALL * share)))
    for group, some in (("SqueezeNet", taken[: scaled(len(taken), share)]), ("CIFAR ResNet-56", images)):
        for one in attacked_cases(at_most(len(some), some, f"attacking {group}", progress)):
            similarity.add(group, one)
    return similarity, dog_and_cat(large)


def bias_section(progress: Progress, share: float, seeds: int) -> str:
    """Return the section on bias."""
    found, plan = BiasResults(), PLAN
    if share < 1:  # networks with fewer training steps are stored under other names
        plan = type(PLAN)((Phase(max(1, round(EPOCHS * share)), SIDE),), batch=PLAN.batch, warmup=PLAN.warmup)
    for seed in range(seeds):
        found.add(seed, max(8, round(EACH * share)), share, progress, plan)
    return found.section()


def failures_section(progress: Progress, share: float) -> str:
    """Return the section on failure modes of the real network."""
    if not REAL.is_dir():
        return f"## Failure modes\n\n{ABSENT}"
    found = FailureResults()
    wrong, well = failures(photographs(squeezenet()))
    for some, errs in ((wrong, True), (well, False)):
        for failure in at_most(scaled(len(some), share), some, "failure modes", progress):
            found.add(failure, errs)
    return found.section()


def trust_section(progress: Progress, share: float, study: Study, seeds: int) -> str:
    """Return the section on trust, measured by a proxy."""
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
    """Measure, and return the sections as Markdown.

    Args:
        progress: shows the progress.
        share: share of the items, for a quick run.
        study: the networks and data of the attacks; None takes those of Toybox.
        seeds: number of networks of each kind.
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
    out: Out = None,
    share: Share = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of networks of each kind.")] = SEEDS,
    data: Annotated[str | None, typer.Option(help="Another data set to attack, e.g. voc:PATH:test.")] = None,
    model: Annotated[str, typer.Option(help="The network for that data set.")] = "torchvision:vgg16",
    weights: Annotated[Path | None, typer.Option(help="The weights of that network.")] = None,
) -> None:
    """Measure the sections, and print or write them."""
    study = named_study(model, data, weights=weights) if data else None
    run(lambda progress: report(progress, share, study, seeds), out)


if __name__ == "__main__":
    typer.run(main)
