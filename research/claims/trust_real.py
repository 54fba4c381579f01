"""The verdict on real photographs: two ImageNet networks, and the same with random weights.

The photographs have no boxes, so that nothing says whether a map is right: the question is whether fixed maps, mixtures
of fixed maps with a gradient, and maps of untrained networks are refused where the maps of the trained network pass.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from rich.progress import Progress

import saywhy
from research.claims.cases import REAL, Case, is_correct, photographs, squeezenet
from research.claims.measure import table
from research.claims.trust_controls import CONTROLS, MIXTURES
from saywhy.checks import CHECKS, Verdict, verdicts
from saywhy.statistics import wilson

PHOTOGRAPHS = 8
METHODS = ("gradcam", "layercam", "saliency", "guided-gradcam", "eigencam")
FIXED = tuple(name for name in (*CONTROLS, *MIXTURES) if "outline" not in name and "10.0%" not in name)
UNTRAINED = ("gradcam", "layercam", "saliency")

Values = dict[str, float | None]
Key = tuple[str, int, str]
"""Network, photograph and method of a map."""


@cache
def networks() -> dict[str, saywhy.Model]:
    """Return the real networks by name, each also with random weights."""
    trained = squeezenet()
    labels = list(trained.labels or ())
    weights = REAL / "imagenet" / "tf_efficientnet_lite0.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "SqueezeNet": trained,
            "EfficientNet-Lite0": saywhy.load("timm:tf_efficientnet_lite0", weights, labels=labels),
            "SqueezeNet, random weights": saywhy.load("torchvision:squeezenet1_0", "random", labels=labels),
            "EfficientNet-Lite0, random weights": saywhy.load("timm:tf_efficientnet_lite0", "random", labels=labels),
        }


def is_trained(name: str) -> bool:
    """Return whether a network has its trained weights."""
    return "random" not in name


def measured(name: str, index: int, method: str) -> Values:
    """Return the values of the checks of one map: photograph ``index`` of those that the trained network classifies."""
    case = correct(name.partition(",")[0])[index]
    explanation = saywhy.explain(networks()[name], case.fed, case.classes[0], method)
    return verdicts(explanation)[0][0].values


@cache
def correct(name: str) -> Sequence[Case]:
    """Return the first photographs that a trained network classifies correctly."""
    found = (case for case in photographs(networks()[name]) if is_correct(case))
    return [case for case, _ in zip(found, range(PHOTOGRAPHS), strict=False)]


def everything() -> Iterator[Key]:
    """Yield network, photograph and method of every map."""
    for name in networks():
        for index in range(PHOTOGRAPHS):
            for method in (*METHODS, *FIXED) if is_trained(name) else UNTRAINED:
                yield name, index, method


def measure_photographs(known: dict[Key, Values], progress: Progress) -> Iterator[Key]:
    """Measure what is not known yet, into ``known``, and yield the key of every new measurement."""
    keys = list(everything())
    bar = progress.add_task("photographs", total=len(keys), loss="")
    for key in keys:
        if key not in known:
            known[key] = measured(*key)
            yield key
        progress.advance(bar)


def section(known: dict[Key, Values]) -> str:
    """Return the section of the page: the share of maps that pass, by network and method."""
    lines: list[list[object]] = []
    for name in networks():
        for method in (*METHODS, *FIXED) if is_trained(name) else UNTRAINED:
            own = [Verdict.of(known[name, index, method]) for index in range(PHOTOGRAPHS)]
            lines.append(
                [name, method, _share([one.passed for one in own]), *(_passes(own, check) for check in CHECKS)]
            )
    return (
        "## Real photographs\n\n"
        f"{PHOTOGRAPHS} photographs of ImageNet that each network classifies correctly, explained for that class. They "
        "have no boxes, so that a map is neither right nor wrong; fixed maps, mixtures and maps of the networks with "
        "random weights should not pass. Wilson intervals for the number of photographs.\n\n"
        + table(["network", "map", "passes all checks", *CHECKS], lines)
    )


def _passes(verdicts: Sequence[Verdict], check: str) -> str:
    """Return the share of maps that pass a check, of those to which it applies."""
    results = [result.passed for one in verdicts for result in one.results if result.name == check]
    return _share([one for one in results if one is not None])


def _share(passed: Sequence[bool]) -> str:
    if not passed:
        return "not applicable"
    share = sum(passed) / len(passed)
    low, high = wilson(share, len(passed))
    return f"{share:.0%} ({low:.0%} to {high:.0%})"
